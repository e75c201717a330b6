//! cairn-load as a process against its own origin, and against origins that misbehave by script.
//! Not here: how fast it is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod files;
mod find;
mod floor;
mod harness;
mod http2;
mod mixes;
mod origin;
mod tls;

use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use harness::{OK, Origin, Wire, at_least, command, pass, read_report, report, scripted};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const STALL: Duration = Duration::from_millis(500);

#[test]
fn counts_of_both_sides_agree() {
    for (arguments, requests, connections) in [
        ("-n 5000 -c 9 --pipeline 3 --threads 2", 5000, 9),
        ("-n 301 -c 7 --close --threads 2", 301, 301),
        ("-n 100 -c 200 --threads 1", 100, 100),
        ("-d 1s --rate 500 -c 3 --threads 2 --poisson", 0, 3),
        ("-d 200ms -c 3 --threads 1", 0, 3),
    ] {
        let origin = Origin::start(&[]);
        let report = report(&origin.url, arguments);
        let answered = report["answered"].as_u64().unwrap();
        // The probe is a connection of its own.
        assert_eq!(origin.end(), (answered, connections + 1), "{arguments}");
        assert_eq!(report["sent"], answered);
        assert!(answered == requests || (requests == 0 && answered > 0), "{arguments}: {answered}");
    }
}

#[test]
fn a_closed_loop_measures_all_the_time_there_is() {
    // One connection sends a request at the moment of the answer before, so the latencies add up to the run.
    let origin = Origin::start(&[]);
    let report = report(&origin.url, "-n 1000 -c 1 --threads 1");
    let number = |value: &Value| value.as_f64().unwrap();
    let sum = number(&report["latency_us"]["mean"]) * 1000.0 / 1e6;
    // The histogram's precision is 0.1 %.
    assert!((0.998..1.002).contains(&(sum / number(&report["elapsed_seconds"]))), "{report}");
}

#[test]
fn every_request_of_an_open_loop_is_accounted_for() {
    let origin = Origin::start(&[]);
    let report = report(&origin.url, "-d 1s --rate 1000 --warmup 100ms -c 4 --threads 2");
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("sent") + count("unsent"), 1000, "{report}");
}

#[test]
fn bodies_of_any_framing_are_read_to_their_end() {
    for (arguments, length) in
        [(&["--size", "100000"][..], 100_000), (&["--size", "100000", "--chunked"], 100_000), (&["--delay", "1ms"], 2)]
    {
        let origin = Origin::start(arguments);
        let load = format!("-n 200 -c 5 --pipeline 2 --expect-status 200 --expect-length {length}");
        assert_eq!(report(&origin.url, &load)["answered"], 200, "{arguments:?}");
    }
}

#[test]
fn long_request_bodies_arrive() {
    let origin = Origin::start(&[]);
    let path = std::env::temp_dir().join(format!("cairn-load-body-{}", std::process::id()));
    std::fs::write(&path, vec![b'b'; 1_000_001]).unwrap();
    let load = format!("-n 50 -c 5 --body-file {}", path.display());
    let report = report(&origin.url, &load);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((report["answered"].as_u64(), origin.end().0), (Some(50), 50));
}

#[test]
fn weights_statuses_and_lengths_are_judged() {
    let origin = Origin::start(&[]);
    let urls = [format!("{}/size/5@3", origin.url), format!("{}/status/404", origin.url)];
    let run = |expect: &[&str]| {
        let load = ["run", &urls[0], &urls[1], "--json", "-n", "400", "--threads", "1", "--fail-below", "0"];
        read_report(&command(&[&load[..], expect].concat()).output().unwrap())
    };
    assert_eq!(run(&[])["errors"]["status"], 100);
    assert_eq!(run(&["--expect-status", "404"])["errors"]["status"], 300);
    let both = run(&["--expect-length", "6"]);
    assert_eq!((&both["errors"]["status"], &both["errors"]["body"]), (&100.into(), &300.into()));
}

#[test]
fn wrong_answers_fail_the_run_but_not_its_report() {
    let origin = Origin::start(&[]);
    let mixed = [format!("{}/status/500@1", origin.url), format!("{}/@99", origin.url)];
    let run = |urls: &[String], more: &[&str]| {
        let mut load = command(&["run", "--json", "-n", "400", "--threads", "1"]);
        let output = load.args(urls).args(more).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["sent"], 400);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&mixed, &[]), (Some(0), String::new()));
    let complaint = "cairn-load: only 396 of 400 requests were answered as expected, less than --fail-below 1; wrong: 4 (status 4)\n";
    assert_eq!(run(&mixed, &["--fail-below", "1"]), (Some(1), complaint.to_owned()));
    assert_eq!(run(&mixed[..1], &[]).0, Some(1));
    assert_eq!(run(&mixed[..1], &["--fail-below", "0"]), (Some(0), String::new()));
    assert_eq!(run(&mixed[1..], &["--expect-length", "3"]).0, Some(1));
}

#[test]
fn a_delay_bounds_every_latency_from_below() {
    let origin = Origin::start(&[]);
    let report = report(&format!("{}/delay/50", origin.url), "-n 20 -c 10 --threads 1");
    assert_eq!(at_least(&report, 50.0), 20, "{report}");
}

#[test]
fn a_stall_shows_in_full_in_an_open_loop() {
    // One connection, one request a millisecond; the 101st is answered 500 ms late, and each later one has to wait: the one
    // due j ms after it waits at least 500 - j ms. So at least 500 - x requests take x ms or longer.
    let url = scripted(|mut wire, _| {
        for number in 0.. {
            if !wire.request() {
                break;
            }
            if number == 100 {
                pass(STALL);
            }
            wire.send(OK);
        }
        true
    });
    let report = report(&url, "-n 2000 --rate 1000 -c 1 --threads 1");
    assert_eq!(report["answered"], 2000);
    for ms in [1, 100, 250, 400, 490, 500] {
        assert!(at_least(&report, f64::from(ms)) >= 500 - ms as u64 + u64::from(ms == 500), "{ms} ms: {report}");
    }
    // Of 2000 requests, 200 are above p90 and two above p99.9.
    let quantile = |name: &str| report["latency_us"][name].as_f64().unwrap() / 1000.0;
    assert!(quantile("p90") >= 299.0, "{report}");
    assert!(quantile("p99_9") >= 497.0, "{report}");
    assert!(quantile("max") >= 500.0, "{report}");
}

#[test]
fn failures_are_classed() {
    let url = scripted(|mut wire, number| {
        assert!(wire.request());
        match number {
            1 => {
                wire.send(OK);
                // Leaves the second request of this connection unanswered.
                wire.request();
            }
            2 => wire.send(b"garbage\r\n\r\n"),
            3 => assert!(!wire.request(), "gave up"),
            4 => wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"),
            5 => wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"),
            // An interim response first, and a body that ends with the connection.
            6 => wire.send(b"HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end"),
            _ => return false,
        }
        true
    });
    let report = report(&url, "-n 7 -c 1 --threads 1 --timeout 100ms");
    let expected =
        serde_json::json!({ "connect": 0, "reset": 2, "timeout": 1, "status": 0, "body": 1, "tls": 0, "protocol": 1 });
    assert_eq!((&report["errors"], &report["answered"]), (&expected, &2.into()));
}

#[test]
fn refused_connections_are_counted_and_tried_again() {
    // The listener is closed with the script, before the first answer.
    let (sender, wires) = mpsc::channel();
    let url = scripted(move |wire, _| sender.send(wire).is_err());
    let answer = thread::spawn(move || {
        let mut wire: Wire = wires.recv().unwrap();
        // The channel ends after the listener does.
        assert!(wires.recv().is_err() && wire.request());
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let report = report(&url, "-n 4 -c 1 --threads 1");
    answer.join().unwrap();
    assert_eq!((&report["answered"], &report["errors"]["connect"]), (&1.into(), &3.into()));
}

#[test]
fn an_interrupt_prints_the_report_so_far() {
    let (sender, requests) = mpsc::channel();
    let url = scripted(move |mut wire, _| {
        assert!(wire.request());
        wire.send(OK);
        assert!(wire.request());
        sender.send(()).unwrap();
        // Holds the connection until the generator ends.
        !wire.request()
    });
    let child = command(&["run", &url, "--json", "-c", "1", "-d", "1h"]).spawn().unwrap();
    wait(&requests);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let report = read_report(&child.wait_with_output().unwrap());
    assert_eq!(
        (&report["interrupted"], &report["answered"], &report["unanswered"]),
        (&true.into(), &1.into(), &1.into())
    );
}

fn wait(requests: &Receiver<()>) {
    requests.recv_timeout(Duration::from_secs(10)).expect("a request in time");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = scripted(|mut wire, _| {
        while wire.request() {}
        true
    });
    for (arguments, code, says) in [
        (format!("run http://{closed}/"), 1, "cannot connect"),
        ("run localhost:80".into(), 1, "is no URL"),
        (format!("run http://{closed}/ http://{closed}1/"), 1, "is no URL"),
        (format!("run {silent} -n 3 -c 1 --timeout 50ms"), 1, "no request was answered: 3 (timeout 3)"),
        (format!("run {silent} -H nonsense"), 1, "is no field"),
        (format!("run {silent} --body-file /nonexistent"), 1, "cannot read the body"),
        (format!("run {silent} --cpus 1023"), 1, "cannot use CPU 1023"),
        ("origin --listen 192.0.2.1:0".into(), 1, "cannot listen on 192.0.2.1:0"),
        ("run".into(), 2, "required"),
        (format!("run {silent} --poisson"), 2, "--rate"),
        (format!("run {silent} -c 0"), 2, "connections"),
    ] {
        let output = command(&arguments.split(' ').collect::<Vec<_>>()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {complaint}");
        assert!(complaint.contains(says), "{arguments}: {complaint}");
        assert!(code == 2 || complaint.lines().count() == 1, "{arguments}: {complaint}");
    }
}
