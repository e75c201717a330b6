//! The highest rate that an origin holds, and latencies at parts of it. Not here: the search itself (`find::search`).

use std::fs;

use serde_json::Value;

use crate::harness::{Origin, command};

const QUICK: &str = "--step 600ms --measure 400ms --repeat 2 --warmup 50ms --precision 0.2 --threads 1 --json";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_rate_is_found_that_the_connections_can_carry() {
    // Each of four connections is free again after 20 ms at the earliest: 200 requests a second, and four at once at the end.
    let origin = Origin::start(&["--delay", "20ms"]);
    let page = tempfile::tempdir().unwrap();
    let page = page.path().join("find.html");
    let mut find = command(&["find", &origin.url, "-c", "4", "--from", "20", "--html", page.to_str().unwrap()]);
    let output = find.args(QUICK.split(' ')).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(0), true), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (most, steps) = (number(&report["maximum"]), report["steps"].as_array().unwrap());
    assert!(most < 210.0, "{report}");
    let held = steps.iter().filter(|step| step["broken"].is_null()).map(|step| number(&step["due_per_second"]));
    assert!(held.fold(0.0, f64::max) == most, "{report}");
    assert!(steps.iter().any(|step| step["broken"].is_string()), "{report}");
    let levels = report["levels"].as_array().unwrap();
    let parts = levels.iter().map(|level| number(&level["part"]));
    assert!(parts.eq([0.3, 0.5, 0.7, 0.9]), "{report}");
    for level in levels {
        assert_eq!(
            (number(&level["rate"]), level["runs"].as_array().unwrap().len()),
            (most * number(&level["part"]), 2)
        );
        for name in ["p50_us", "p99_us", "p99_9_us"] {
            let [least, median, most] = ["least", "median", "most"].map(|end| number(&level[name][end]));
            assert!(20_000.0 <= least && least <= median && median <= most, "{level}");
        }
    }
    let page = fs::read_to_string(page).unwrap();
    assert_eq!((page.matches("<svg ").count(), page.matches("class=\"spread\"").count()), (2, 12));
    assert!(page.contains("latency over rate") && page.contains("from when a request was due until it was sent"));
}

#[test]
fn an_origin_that_holds_no_rate_is_named_so() {
    let origin = Origin::start(&["--status", "503"]);
    let mut find = command(&["find", &origin.url, "--from", "1000", "--step", "20ms", "--warmup", "1ms"]);
    let output = find.args(["--threads", "1"]).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint.starts_with("cairn-load: no rate holds, down to ") && complaint.contains(": errors;"),
        "{complaint}"
    );
    assert_eq!(complaint.lines().count(), 1);
}
