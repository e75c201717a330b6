//! `cairn-load compare` as a process, with cairn and whatever peers are installed. Not here: who is faster.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const GENERATOR: &str = env!("CARGO_BIN_EXE_cairn-load");

/// cairn's binary, which a test of the whole workspace has built beside ours.
fn cairn() -> PathBuf {
    let binary = Path::new(GENERATOR).with_file_name("cairn");
    if !binary.exists() {
        let profile = if binary.parent().is_some_and(|folder| folder.ends_with("release")) { "release" } else { "dev" };
        let mut build = Command::new(env!("CARGO"));
        assert!(
            build.args(["build", "-p", "cairn", "--bin", "cairn", "--profile", profile]).status().unwrap().success()
        );
    }
    binary
}

/// A short comparison of cairn with itself beside whatever `arguments` name.
fn compare(arguments: &[&str]) -> Command {
    let mut command = Command::new(GENERATOR);
    command.arg("compare").arg("--cairn").arg(cairn()).args(["--seconds", "0.2"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its table and its results.
fn results(command: &mut Command, folder: &Path) -> (String, Value) {
    let file = folder.join("compare.json");
    let output = command.arg("--json").arg(&file).output().unwrap();
    (succeed(&output), serde_json::from_slice(&fs::read(file).unwrap()).unwrap())
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

/// A program that prints a version, and runs `script` when it is asked for anything else.
fn fake(folder: &Path, name: &str, script: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n[ $# = 1 ] && {{ echo fake 1.0; exit; }}\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// One of each kind.
const SCENARIOS: [&str; 12] = [
    "small",
    "upload-64k",
    "close",
    "tls-small",
    "tls-handshake",
    "tls-resumed",
    "tls-beside",
    "tls-both-small",
    "h2-small",
    "h1-to-h2",
    "grpc-unary",
    "load-30",
];

#[test]
fn whatever_is_installed_is_measured_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let mut command = compare(&["--scenario", SCENARIOS.join(",").as_str(), "--repeat", "2", "--machine", "Test 1"]);
    let (table, found) = results(command.arg("--record").arg(&record), folder.path());
    let mut all = [names(&found["proxies"]), names(&found["missing"])].concat();
    all.sort_unstable();
    assert_eq!(all, ["cairn", "envoy", "haproxy", "nginx"]);
    assert_eq!(names(&found["scenarios"]), SCENARIOS);
    for scenario in found["scenarios"].as_array().unwrap() {
        assert_eq!(names(&scenario["proxies"])[0], "cairn", "{scenario:#}");
        assert_eq!(scenario["rate"].is_number(), scenario["name"] == "load-30");
        for proxy in scenario["proxies"].as_array().unwrap() {
            let figure = |name: &str| proxy[name]["median"].as_f64().unwrap();
            assert_eq!(proxy["cpu_us"]["all"].as_array().unwrap().len(), 2, "{proxy:#}");
            assert!(figure("cpu_us") > 0.0 && figure("requests_per_second") > 0.0, "{proxy:#}");
            assert!(figure("p50_us") <= figure("p99_9_us") && figure("peak_rss_kib") > 1000.0, "{proxy:#}");
        }
        // Bytes of TLS and of HTTP/2 cannot be passed on as they are, and a connection for each request is no floor.
        let has_floor = ["small", "upload-64k", "load-30"].contains(&scenario["name"].as_str().unwrap());
        let references = if has_floor { vec!["floor", "direct"] } else { vec!["direct"] };
        assert_eq!(names(&scenario["references"]), references, "{scenario:#}");
        assert_eq!(scenario["cpu_to_floor"].as_f64().is_some_and(|ratio| ratio > 0.0), has_floor, "{scenario:#}");
        let switches = scenario["proxies"][0]["switches_per_exchange"]["median"].as_f64().unwrap();
        assert!(switches > 0.0, "{scenario:#}");
    }
    let date = found["date"].as_str().unwrap();
    let kept = record.join("test-1").join(date);
    assert_eq!(fs::read_to_string(kept.join("table.txt")).unwrap(), table);
    assert!(fs::read_to_string(kept.join("compare.json")).unwrap().contains("\"test-1\""));
    let page = fs::read_to_string(kept.join("compare.html")).unwrap();
    assert_eq!(page.matches("<svg ").count(), 4 * SCENARIOS.len());
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs nothing else");
}

#[test]
fn a_matrix_is_run_with_two_workers() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = compare(&["--matrix", "api-gateway", "--repeat", "1"]);
    let (table, found) = results(command.env("PATH", ""), folder.path());
    assert_eq!(names(&found["scenarios"]).len(), 12, "{table}");
    for scenario in found["scenarios"].as_array().unwrap() {
        let is_limited = scenario["name"].as_str().unwrap().ends_with("-1000");
        assert_eq!(scenario["rate"].as_f64(), is_limited.then_some(1000.0), "{scenario:#}");
        assert_eq!(
            (names(&scenario["proxies"]), names(&scenario["references"])),
            (vec!["cairn"], vec!["floor", "direct"])
        );
    }
}

#[test]
fn without_peers_cairn_is_measured_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = compare(&["--scenario", "small", "--repeat", "1"]);
    let (table, found) = results(command.env("PATH", ""), folder.path());
    assert_eq!(
        (names(&found["proxies"]), names(&found["missing"])),
        (vec!["cairn"], vec!["nginx", "haproxy", "envoy"])
    );
    assert!(found["scenarios"][0]["proxies"][0]["cpu_to_best_peer"].is_null());
    for line in ["nginx is not installed and left out: apt install nginx", "envoy is not installed"] {
        assert!(table.contains(line), "{table}");
    }
}

#[test]
fn a_peer_that_fails_or_answers_wrong_is_left_out_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let dead = fake(folder.path(), "haproxy", "echo no such luck >&2; exit 1");
    // Serves bodies of five bytes instead of what the origin has.
    let listen = r#"for file; do :; done; address=$(/bin/sed -n 's/.*listen \([0-9.:]*\).*/\1/p' "$file")"#;
    let wrong = fake(folder.path(), "nginx", &format!("{listen}\nexec {GENERATOR} origin --listen $address --size 5"));
    let mut command = compare(&["--scenario", "small", "--repeat", "1"]);
    let (table, found) =
        results(command.env("PATH", "").arg("--haproxy").arg(dead).arg("--nginx").arg(wrong), folder.path());
    assert_eq!(names(&found["scenarios"][0]["proxies"]), ["cairn"]);
    assert!(table.contains("haproxy was left out: it ended at its start (exit status: 1): no such luck"), "{table}");
    assert!(table.contains("nginx was left out: it answers wrong: 128 (body 128)"), "{table}");
}

#[test]
fn a_peer_that_cannot_do_a_scenario_is_left_out_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = fake(folder.path(), "nginx", "exit 1");
    let mut command = compare(&["--scenario", "h1-to-h2", "--repeat", "1"]);
    let (table, found) = results(command.env("PATH", "").arg("--nginx").arg(nginx), folder.path());
    assert_eq!(names(&found["scenarios"][0]["proxies"]), ["cairn"]);
    assert!(table.contains("nginx was left out: its proxy_pass speaks no HTTP/2 to origins"), "{table}");
}

#[test]
fn if_cairn_fails_so_does_the_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let dead = fake(folder.path(), "cairn", "echo broken; exit 1");
    let mut command = Command::new(GENERATOR);
    command.args(["compare", "--scenario", "small", "--cairn"]).arg(dead).env("PATH", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaint.ends_with("cairn-load: cairn failed: small: it ended at its start (exit status: 1): broken\n"),
        "{complaint}"
    );
}

#[test]
fn over_tls_a_proxy_without_tls_is_no_figure() {
    let folder = tempfile::tempdir().unwrap();
    // Gets a certificate and serves without.
    let script = r#"for file; do :; done; cd "${file%/*}" || exit 8
        [ -s cert.pem ] && [ -s key.pem ] && [ -s both.pem ] || exit 9
        while read -r key _ value; do [ "$key" = bind ] && address=$value; done <"$file"
        address=${address#\"}"#;
    let plain = fake(
        folder.path(),
        "cairn",
        &format!("{script}\nexec {GENERATOR} origin --listen ${{address%\\\"}} --size 64"),
    );
    let mut command = Command::new(GENERATOR);
    command.args(["compare", "--scenario", "tls-small", "--cairn"]).arg(plain).env("PATH", "");
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    let last = complaint.lines().last().unwrap();
    assert!(last.starts_with("cairn-load: cairn failed: tls-small: no TLS with https://127.0.0.1 "), "{complaint}");
}

#[test]
fn an_interrupt_prints_what_there_is() {
    let mut child = compare(&["--scenario", "small,64k", "--repeat", "1000"]).env("PATH", "").spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("small 2/1000 cairn: ") {
        line.clear();
        assert!(progress.read_line(&mut line).unwrap() > 0, "it ended");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // So that it never waits for its reader.
    progress.read_to_string(&mut line).unwrap();
    let table = succeed(&child.wait_with_output().unwrap());
    assert!(table.contains("\nsmall: ") && !table.contains("\n64k: "), "{table}");
    assert!(table.ends_with("interrupted: this is what there was\n"), "{table}");
}
