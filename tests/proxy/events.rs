//! What the process says on stderr, and what happens when nobody reads it. Not here: what is said about configurations
//! (`tests/cli.rs`).

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, Wire, next, stamp};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let mut client = Wire::connect(proxy.admin());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.message().unwrap();
    let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {name} in {}", answer.text()))
}

/// Reloads refused ones until what is said about them is dropped: the pipe and the queue are full.
fn fill(proxy: &Proxy, broken: &str) {
    proxy.go_deaf();
    proxy.configure(broken);
    let mut reloads = 0;
    let before = metric(proxy, "cairn_events_dropped_total");
    while metric(proxy, "cairn_events_dropped_total") == before {
        assert_eq!(post(proxy, "/reload"), 422);
        reloads += 1;
        assert!(reloads < 1_000, "nothing is dropped");
    }
}

/// With long lines, and more errors than are shown.
fn broken() -> String {
    format!("{} = 7\n", "x".repeat(1_000)).repeat(100)
}

/// Asks the admin socket; returns the status.
fn post(proxy: &Proxy, path: &str) -> u16 {
    let mut client = Wire::over(UnixStream::connect(proxy.folder().join("admin.sock")).unwrap());
    // A load may be long on a busy machine; what it may cost is said elsewhere.
    client.stream.set_read_timeout(Some(12 * PATIENCE)).unwrap();
    client.send(format!("POST {path} HTTP/1.1\r\nHost: cairn\r\n\r\n"));
    client.message().unwrap().status()
}

#[test]
fn a_reader_that_is_stuck_stops_neither_control_nor_workers() {
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]).managed();
    let at_rest = setup.start().descriptors();
    let mut proxy = Proxy::start_within(at_rest + 12, &setup.text());
    fill(&proxy, &broken());
    // The worker complains that it has no descriptors left, and goes on.
    assert_eq!(proxy.ask(GET).status(), 200);
    let clients: Vec<_> = (0..40).map(|_| TcpStream::connect(proxy.address("public")).unwrap()).collect();
    let mut clients: Vec<_> = clients.into_iter().map(Wire::new).collect();
    clients.drain(..).for_each(|mut client| {
        client.send(GET);
        assert!(client.message().is_some());
    });
    proxy.reload(&setup.route("timeout = \"9s\"").text());
    assert_eq!(proxy.ask(GET).status(), 200);
    // What found room is still there when somebody reads again.
    proxy.hear();
    proxy.said("cairn: worker 0: accepting paused: ");
    fill(&proxy, &broken());
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn the_end_of_a_process_whose_reader_is_stuck() {
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]).managed();
    for (signals, code) in [(&[Signal::INT][..], 0), (&[Signal::TERM, Signal::TERM], 0)] {
        let mut proxy = setup.start();
        fill(&proxy, &broken());
        signals.iter().for_each(|signal| proxy.signal(*signal));
        assert_eq!(proxy.ended().code(), Some(code));
    }
    let mut proxy = setup.start();
    fill(&proxy, &broken());
    assert_eq!(post(&proxy, "/drain"), 200);
    assert_eq!(proxy.ended().code(), Some(0));
}

/// With time and level in front of each line, and what is not as it should be can be told by the level.
#[test]
fn every_line_says_when_and_how_bad() {
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]).managed();
    let proxy = setup.start();
    let level = |line: &str| stamp(line).unwrap_or_else(|| panic!("{line:?}")).1.to_owned();
    proxy.configure(&setup.clone().route("timeout = \"9s\"").text());
    assert_eq!(post(&proxy, "/reload"), 200);
    assert_eq!(level(&proxy.logged("cairn: reloaded, version 2: ")), "info");
    proxy.configure("role = 7\n");
    assert_eq!(post(&proxy, "/reload"), 422);
    assert_eq!(level(&proxy.logged("cairn: the reload is refused, ")), "error");
    // The report that follows is of several lines.
    let report: Vec<_> = (0..3).map(|_| proxy.line().unwrap()).collect();
    assert!(report.iter().all(|line| level(line) == "error"), "{report:?}");
    assert!(report[0].contains("cairn.toml:1:1: error: "), "{report:?}");
    // So is that on a configuration that does not start.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cairn.toml"), "role = 7\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cairn"));
    let output = command.args(["run", "-c"]).arg(folder.path().join("cairn.toml")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() > 3 && said.lines().all(|line| level(line) == "error"), "{said}");
}

/// Of what is under way, and as the last reload has it.
#[test]
fn the_end_waits_for_no_longer_than_it_is_told() {
    let (asked, silent) = channel();
    let origin = Origin::start(move |mut wire, _| {
        wire.message();
        asked.send(()).unwrap();
        // The origin never answers, and sees the end.
        assert!(wire.message().is_none());
    });
    let setup = Setup::to(&[&origin.address]).managed();
    let mut proxy = setup.start();
    proxy.reload(&setup.clone().more("[drain]\ntimeout = \"200ms\"").text());
    let mut client = proxy.client();
    client.send(GET);
    next(&silent);
    let begun = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < PATIENCE, "{took:?}");
}

/// One after the other, at the end too.
#[test]
fn what_was_said_last_is_seen() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for _ in 0..10 {
        let output =
            crate::harness::refused(&Setup::to(&["127.0.0.1:1"]).listener(&format!("bind = {address:?}")).text());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("cairn: cannot listen on ") && text.ends_with('\n'), "{text:?}");
    }
}

/// What a load, and 20 scrapes, of these may cost: each of them took minutes, with a scrape as long as the load.
const WORK: Duration = Duration::from_secs(30);

#[test]
fn a_tenants_file_of_bad_lines_costs_little() {
    let origin = Origin::answering(OK);
    // Its budgets end none of these files early.
    let tenant = "[[tenant]]\nname = \"red\"\nfile = \"FOLDER/red.toml\"\nclaims = [{ host = \"a\", path_prefix = \"/red\" }]\n\
                  limits = { routes = 1000000, names = 1000000, compile_time = \"1h\" }";
    let mut proxy = Setup::to(&[&origin.address]).managed().more(tenant).start();
    let lines =
        |line: &str, count: usize| (0..count).map(|number| line.replace('#', &number.to_string())).collect::<String>();
    for text in [
        lines("= bad ]\n", 200_000),
        lines("bogus# = 1\n", 20_000),
        lines("[[route]]\nname = \"r#\"\ncluster = \"none#\"\n[[cluster]]\nname = \"some#\"\n", 5_000),
        lines("[[route]]\nname = \"r#\"\nhosts = [\"a\"]\npath = \"/red\"\nrespond = {}\n", 5_000),
        format!("[[cluster]]\nname = \"c\"\nendpoints = [{}]\n", lines("\"#\",", 100_000)),
    ] {
        fs::write(proxy.folder().join("red.toml"), &text).unwrap();
        let begun = proxy.worked();
        assert_eq!(post(&proxy, "/reload"), 200);
        let load = proxy.worked() - begun;
        assert!(load < WORK, "the load took {load:?}");
        let status = proxy.status();
        let problems = status["tenants"][0]["problems"].as_str().unwrap();
        assert!(problems.len() < 64 * 1024 && problems.contains(" more\n"), "{}", problems.len());
        let begun = proxy.worked();
        for _ in 0..20 {
            assert_eq!(metric(&proxy, "cairn_tenant_live{tenant=\"red\"}"), 0);
        }
        let scrapes = proxy.worked() - begun;
        assert!(scrapes < WORK, "20 scrapes took {scrapes:?}, the load {load:?}");
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().code(), Some(0));
}

/// An exchange that lasts until the returned wire is used, and its client.
fn under_way(proxy: &Proxy, begun: &Receiver<Wire>) -> (Wire, Wire) {
    let mut client = proxy.client();
    client.send(GET);
    (client, next(begun))
}

/// An origin that answers nothing by itself: its connections, each with a request, go to the receiver.
fn holding() -> (Origin, Receiver<Wire>) {
    let (sender, begun) = channel();
    let origin = Origin::start(move |mut wire, _| {
        wire.message().unwrap();
        sender.send(wire).unwrap();
    });
    (origin, begun)
}

fn get(proxy: &Proxy, path: &str) -> u16 {
    let mut client = Wire::connect(proxy.admin());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    client.message().unwrap().status()
}

/// It ended without a word, and answered nobody until then.
#[test]
fn a_drain_tells_what_is_left() {
    let (origin, begun) = holding();
    for way in ["SIGTERM", "SIGINT", "cairn drain"] {
        let mut proxy = Setup::to(&[&origin.address]).managed().start();
        let (mut client, mut held) = under_way(&proxy, &begun);
        match way {
            "SIGTERM" => proxy.signal(Signal::TERM),
            "SIGINT" => proxy.signal(Signal::INT),
            _ => assert_eq!(proxy.verb(&["drain"]).status.code(), Some(0)),
        }
        let line = proxy.logged("cairn: draining because of ");
        let expected = format!(
            " info cairn: draining because of {way}: 1 connection and 1 exchange are left, for 30s at most; a second signal ends at once"
        );
        assert!(line.ends_with(&expected), "{line}");
        let answers = ["/status", "/metrics", "/routes", "/config", "/live", "/ready"].map(|path| get(&proxy, path));
        assert_eq!(answers, [200, 200, 200, 200, 200, 503]);
        let status = proxy.status();
        let draining = &status["draining"];
        assert_eq!((&draining["why"], &draining["connections"]), (&way.into(), &1.into()), "{status}");
        let text = String::from_utf8(proxy.verb(&["status"]).stdout).unwrap();
        assert!(text.contains(&format!("\ndraining      because of {way}, for ")), "{text}");
        assert_eq!(proxy.verb(&["routes"]).status.code(), Some(0));
        assert_eq!(proxy.verb(&["drain"]).status.code(), Some(0));
        // What would change something is refused.
        let reload = proxy.verb(&["reload"]);
        assert_eq!(
            (reload.status.code(), String::from_utf8_lossy(&reload.stderr)),
            (Some(1), "cairn is ending\n".into())
        );
        proxy.signal(Signal::HUP);
        proxy.said("cairn: SIGHUP: nothing is reloaded, because the process drains");
        if way == "SIGTERM" {
            let line = proxy.logged("cairn: draining for ");
            assert!(
                line.contains(" info cairn: draining for 5 s: 1 connection and 1 exchange are left, for 25 s "),
                "{line}"
            );
        }
        held.send(OK);
        assert_eq!(client.message().unwrap().status(), 200);
        drop(held);
        let line = proxy.logged("cairn: ends after ");
        assert!(line.contains(" info ") && line.ends_with(" s of draining; nothing is cut"), "{line}");
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn an_end_tells_what_is_cut() {
    let (origin, begun) = holding();
    let mut proxy = Setup::to(&[&origin.address]).managed().start();
    let _exchanges = [under_way(&proxy, &begun), under_way(&proxy, &begun)];
    proxy.signal(Signal::TERM);
    proxy.said("cairn: draining because of SIGTERM: 2 connections and 2 exchanges are left");
    proxy.signal(Signal::INT);
    let line = proxy.logged("cairn: ends after ");
    let end = " s of draining, because of a second signal, SIGINT; 2 connections and 2 exchanges are cut";
    assert!(line.contains(" warn ") && line.ends_with(end), "{line}");
    assert_eq!(proxy.wait().code(), Some(0));
}
