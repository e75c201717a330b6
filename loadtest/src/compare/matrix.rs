//! Matrices: scenarios that vary a few things in all combinations, as public benchmarks do, so that ratios can be set beside theirs. Not
//! here: running them.

use super::scenario::{PLAIN, Scenario};

/// {no body, 16 KiB} × {1, 16, 512 connections} × {as fast as answers come, 1,000 requests a second}, two workers: what a public
/// benchmark of gateways asks of each.
pub(super) const API_GATEWAY: [Scenario; 12] = [
    cell("0b-1", "GET of 0 bytes, 1 connection", ONE, None, EMPTY),
    cell("0b-16", "GET of 0 bytes, 16 connections", SOME, None, EMPTY),
    cell("0b-512", "GET of 0 bytes, 512 connections", MANY, None, EMPTY),
    cell("0b-1-1000", "GET of 0 bytes, 1 connection", ONE, LIMITED, EMPTY),
    cell("0b-16-1000", "GET of 0 bytes, 16 connections", SOME, LIMITED, EMPTY),
    cell("0b-512-1000", "GET of 0 bytes, 512 connections", MANY, LIMITED, EMPTY),
    cell("16k-1", "GET of 16 KiB, 1 connection", ONE, None, BODY),
    cell("16k-16", "GET of 16 KiB, 16 connections", SOME, None, BODY),
    cell("16k-512", "GET of 16 KiB, 512 connections", MANY, None, BODY),
    cell("16k-1-1000", "GET of 16 KiB, 1 connection", ONE, LIMITED, BODY),
    cell("16k-16-1000", "GET of 16 KiB, 16 connections", SOME, LIMITED, BODY),
    cell("16k-512-1000", "GET of 16 KiB, 512 connections", MANY, LIMITED, BODY),
];

/// Workers of each proxy in a matrix.
pub(super) const WORKERS: usize = 2;

const LIMITED: Option<f64> = Some(1000.0);
const EMPTY: Scenario = Scenario { path: "/size/0", length: 0, ..PLAIN };
const BODY: Scenario = Scenario { path: "/size/16384", length: 16 << 10, ..PLAIN };
const ONE: &[&str] = &["-c", "1"];
const SOME: &[&str] = &["-c", "16"];
const MANY: &[&str] = &["-c", "512"];

/// One scenario: what varies, and what it varies.
const fn cell(
    name: &'static str,
    title: &'static str,
    load: &'static [&'static str],
    rate: Option<f64>,
    base: Scenario,
) -> Scenario {
    Scenario { name, title, load, rate, ..base }
}
