//! Workers, kinds of addresses, and the life of the process: start, drain, end. Not here: configurations that are refused by
//! their content (`tests/cli.rs`).

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;

use crate::harness::{End, Origin, PATIENCE, Proxy, Setup, Wire, next, poll, refused, refused_within, signalled_at};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Each worker keeps its own connection to the origin, so that these count the workers that serve.
#[test]
fn every_worker_serves() {
    if thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: one CPU, so one worker");
        return;
    }
    let origin = Origin::answering(OK);
    let text = Setup::to(&[&origin.address]).text();
    for (config, arguments, workers) in
        [(text.replace("count = 1", "count = 2"), &[][..], 2), (text.clone(), &["--workers", "2"], 2), (text, &[], 1)]
    {
        let before = origin.connections();
        let proxy = Proxy::start(&config, arguments);
        let mut clients: Vec<_> = (0..64).map(|_| proxy.client()).collect();
        for client in &mut clients {
            client.send(GET);
            assert_eq!(client.message().unwrap().text(), "ok");
        }
        assert_eq!(origin.connections() - before, workers);
    }
}

#[test]
fn unix_domain_sockets_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let listener = UnixListener::bind(path("origin")).unwrap();
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut wire = Wire::over(stream.unwrap());
            while let Some(request) = wire.message() {
                sender.send(request).unwrap();
                wire.send(OK);
            }
        }
    });
    let endpoint = format!("unix:{}", path("origin"));
    let bind = format!("bind = \"unix:{}\"", path("listener"));
    let mut proxy = Setup::to(&[&endpoint]).listener(&bind).start();
    assert_eq!(proxy.address("public"), format!("unix:{}", path("listener")));
    let stream = UnixStream::connect(path("listener")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Wire::over(stream);
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.message().unwrap().text(), "ok");
        let request = next(&requests);
        assert_eq!(request.field("forwarded").as_deref(), Some("for=unknown;host=\"a\";proto=http"));
        assert_eq!(request.field("x-forwarded-for"), None);
    }
    // A new process takes the place of one that was killed.
    proxy.signal(Signal::KILL);
    proxy.wait();
    let proxy = Setup::to(&[&endpoint]).listener(&bind).start();
    assert!(UnixStream::connect(path("listener")).is_ok());
    // One that lives keeps its place.
    let output = refused(&Setup::to(&[&endpoint]).listener(&bind).text());
    assert_eq!(output.status.code(), Some(1));
    drop(proxy);
}

#[test]
fn ipv6_on_both_sides() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let (sender, requests) = mpsc::channel();
    let origin = Origin::on("[::1]:0", move |mut wire, _| {
        while let Some(request) = wire.message() {
            sender.send(request).unwrap();
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).listener("bind = \"[::1]:0\"").start();
    assert_eq!(proxy.ask(GET).text(), "ok");
    let request = next(&requests);
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("::1"));
    assert_eq!(request.field("forwarded").as_deref(), Some("for=\"[::1]\";host=\"a\";proto=http"));
}

/// An origin whose answer waits until the test lets it go.
fn gated() -> (Origin, mpsc::Receiver<()>) {
    let (sender, gate) = mpsc::sync_channel(0);
    let origin = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            // Once for the arrival, once for leave to answer.
            if sender.send(()).and_then(|()| sender.send(())).is_err() {
                return;
            }
            wire.send(OK);
        }
    });
    (origin, gate)
}

/// Load balancers see that it is no longer ready while it serves on.
#[test]
fn a_drain_begins_with_its_grace() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut proxy = Setup::to(&[&origin.address]).managed().more("[drain]\ngrace = \"1s\"").start();
    let mut idle = proxy.client();
    idle.send(GET);
    assert_eq!(idle.message().unwrap().status(), 200);
    proxy.signal(Signal::TERM);
    proxy.said("cairn: draining because of SIGTERM");
    let mut admin = Wire::connect(proxy.admin());
    admin.send("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(admin.message().unwrap().status(), 503);
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), answer.field("connection")), (200, None));
    idle.send(GET);
    assert_eq!(idle.message().unwrap().status(), 200);
    assert!(proxy.wait().success());
}

/// A request that crosses with the beginning of a drain is answered.
#[test]
fn an_idle_connection_is_not_closed_at_once_by_a_drain() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut proxy = Setup::to(&[&origin.address]).managed().start();
    let mut idle = proxy.client();
    idle.send(GET);
    assert_eq!(idle.message().unwrap().status(), 200);
    proxy.signal(Signal::TERM);
    proxy.said("cairn: draining because of SIGTERM");
    // The line comes before the worker knows.
    poll(|| {
        idle.send(GET);
        let answer = idle.message().unwrap();
        assert_eq!(answer.status(), 200);
        answer.field("connection")
    });
    drop(idle);
    assert!(proxy.wait().success());
}

#[test]
fn a_drain_ends_what_is_idle_and_lets_the_rest_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let (origin, gate) = gated();
        let mut proxy = Setup::to(&[&origin.address]).start();
        let (mut idle, mut busy) = (proxy.client(), proxy.client());
        busy.send(GET);
        next(&gate);
        proxy.signal(signal);
        assert_eq!(idle.end(), End::Clean(Vec::new()));
        poll(|| TcpStream::connect(proxy.address("public")).err());
        next(&gate);
        let answer = busy.message().unwrap();
        assert_eq!((answer.text(), answer.field("connection").as_deref()), ("ok", Some("close")));
        assert_eq!(busy.end(), End::Clean(Vec::new()));
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let (origin, gate) = gated();
    let mut proxy = Setup::to(&[&origin.address]).start();
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    busy.send(GET);
    next(&gate);
    proxy.signal(Signal::TERM);
    assert_eq!(idle.end(), End::Clean(Vec::new()));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    let (End::Clean(bytes) | End::Reset(bytes)) = busy.end();
    assert_eq!(bytes, b"");
}

#[test]
fn a_start_that_fails_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (setup, expected) in [
        (Setup::to(&["127.0.0.1:1"]).listener(&format!("bind = {address:?}")), &*address),
        (Setup::to(&["127.0.0.1:1"]).listener("bind = \"192.0.2.1:80\""), "192.0.2.1:80"),
        (Setup::to(&["127.0.0.1:1"]).listener("bindd = 1"), "did you mean"),
        (Setup::to(&["127.0.0.1:1"]).route("path_regex = \"(\""), "path_regex"),
    ] {
        let output = refused(&setup.text());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected) && !text.contains("cairn: ready"), "{text}");
    }
}

/// Too few hung, panicked, or started something that could serve nobody.
#[test]
fn too_few_descriptors_are_an_error_that_says_how_many_are_needed() {
    let origin = Origin::answering(OK);
    let workers = thread::available_parallelism().unwrap().get().min(2);
    let second = "[[listener]]\nname = \"second\"\nbind = \"127.0.0.1:0\"";
    for (setup, extra) in
        [(Setup::to(&[&origin.address]), 0), (Setup::to(&[&origin.address]).managed().more(second), 2)]
    {
        let text = setup.text().replace("count = 1", &format!("count = {workers}"));
        let mut needed = Vec::new();
        for descriptors in [14, 16, 18, 20, 20 + extra] {
            let (code, said) = refused_within(descriptors, &text);
            assert_eq!(code, Some(1), "{descriptors}: {said}");
            let count = said.strip_prefix("cairn: this configuration needs ").and_then(|rest| rest.split(' ').next());
            assert!(said.contains("raise `ulimit -n`") && said.lines().count() == 1, "{descriptors}: {said}");
            needed.push(count.unwrap().parse::<usize>().unwrap());
        }
        needed.dedup();
        let [needed] = needed[..] else { panic!("{needed:?}") };
        assert_eq!(refused_within(needed - 1, &text).0, Some(1));
        // With just so many it serves.
        let mut proxy = Proxy::start_within(needed, &text);
        assert_eq!(proxy.ask(GET).text(), "ok");
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

/// The path of the admin socket is somebody's who takes a second to say so.
#[test]
fn signals_end_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _silent = UnixListener::bind(&path).unwrap();
    let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = {path:?}");
    let text = Setup::to(&["127.0.0.1:1"]).more(&admin).text();
    for signal in [Signal::TERM, Signal::INT] {
        assert_eq!(signalled_at("cairn: admin on 127.0.0.1:", signal, &text), Some(0));
    }
}

/// The event loop of its origins panicked.
#[test]
fn the_demo_says_that_descriptors_are_too_few() {
    for descriptors in ["6", "8", "12"] {
        let mut demo = Command::new("sh");
        demo.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", descriptors, env!("CARGO_BIN_EXE_cairn"), "run"]);
        let output = demo.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("ulimit -n") && !text.contains("panicked"), "{text}");
    }
}
