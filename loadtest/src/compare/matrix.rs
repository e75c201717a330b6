//! Matrices: scenarios that vary a few things in all combinations, as public benchmarks do, so that ratios can be set beside theirs. Not
//! here: running them.

use super::scenario::{PLAIN, Scenario};

/// {no body, 16 KiB} × {1, 16, 512 connections} × {as fast as answers come, 1,000 requests a second}, two workers: what a public
/// benchmark of gateways asks of each.
pub(super) const API_GATEWAY: [Scenario; 12] = [
    Scenario { name: "0b-1", title: "GET of 0 bytes, 1 connection", load: &["-c", "1"], ..EMPTY },
    Scenario { name: "0b-16", title: "GET of 0 bytes, 16 connections", load: &["-c", "16"], ..EMPTY },
    Scenario { name: "0b-512", title: "GET of 0 bytes, 512 connections", load: &["-c", "512"], ..EMPTY },
    Scenario { name: "0b-1-1000", title: "GET of 0 bytes, 1 connection", load: &["-c", "1"], rate: LIMITED, ..EMPTY },
    Scenario {
        name: "0b-16-1000",
        title: "GET of 0 bytes, 16 connections",
        load: &["-c", "16"],
        rate: LIMITED,
        ..EMPTY
    },
    Scenario {
        name: "0b-512-1000",
        title: "GET of 0 bytes, 512 connections",
        load: &["-c", "512"],
        rate: LIMITED,
        ..EMPTY
    },
    Scenario { name: "16k-1", title: "GET of 16 KiB, 1 connection", load: &["-c", "1"], ..BODY },
    Scenario { name: "16k-16", title: "GET of 16 KiB, 16 connections", load: &["-c", "16"], ..BODY },
    Scenario { name: "16k-512", title: "GET of 16 KiB, 512 connections", load: &["-c", "512"], ..BODY },
    Scenario { name: "16k-1-1000", title: "GET of 16 KiB, 1 connection", load: &["-c", "1"], rate: LIMITED, ..BODY },
    Scenario {
        name: "16k-16-1000",
        title: "GET of 16 KiB, 16 connections",
        load: &["-c", "16"],
        rate: LIMITED,
        ..BODY
    },
    Scenario {
        name: "16k-512-1000",
        title: "GET of 16 KiB, 512 connections",
        load: &["-c", "512"],
        rate: LIMITED,
        ..BODY
    },
];

/// Workers of each proxy in a matrix.
pub(super) const WORKERS: usize = 2;

const LIMITED: Option<f64> = Some(1000.0);
const EMPTY: Scenario = Scenario { path: "/size/0", length: 0, ..PLAIN };
const BODY: Scenario = Scenario { path: "/size/16384", length: 16 << 10, ..PLAIN };
