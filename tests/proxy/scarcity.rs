//! What slow clients may hold of what is scarce: buffers and descriptors. Not here: their time-outs (`bounds`).

use std::io::{ErrorKind, Write};
use std::sync::mpsc;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, Wire, poll};
use crate::tls::{Site, tcp};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Buffers of a worker, but for those that are offered to the kernel.
const FREE: u64 = 16 * 1024 - 2 * 1024;
/// Buffers that one direction of an exchange may hold, and one receive may add.
const SHARE: u64 = 32 + 64;

/// Free buffers of the one worker.
fn free(proxy: &Proxy) -> u64 {
    let mut admin = Wire::connect(proxy.admin());
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = admin.message().unwrap();
    let line = metrics.text().lines().find_map(|line| line.strip_prefix("cairn_worker_free_buffers{worker=\"0\"} "));
    line.unwrap().parse().unwrap()
}

/// Answers `/` and leaves everything else alone, but reads it.
fn silent() -> Origin {
    Origin::start(|mut wire, _| {
        while let Some(head) = wire.head() {
            if head.starts_with("GET / ") {
                wire.send(OK);
            } else {
                wire.end();
                return;
            }
        }
    })
}

fn answered(proxy: &Proxy) {
    assert_eq!(proxy.ask(GET).text(), "ok");
}

#[test]
fn an_upload_byte_by_byte_holds_one_share() {
    let origin = silent();
    let proxy = Setup::to(&[&origin.address]).managed().start();
    // A reused connection to the origin, on which some requests may be repeated.
    answered(&proxy);
    let mut clients: Vec<_> = ["POST", "PUT"].map(|method| (method, proxy.client())).into();
    for (method, client) in &mut clients {
        client.send(format!("{method} /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n"));
        for _ in 0..17_000 {
            client.send("x");
        }
    }
    answered(&proxy);
    assert!(free(&proxy) > FREE - 2 * SHARE, "{}", free(&proxy));
}

#[test]
fn requests_behind_a_slow_one_hold_one_share() {
    let origin = silent();
    let proxy = Setup::to(&[&origin.address]).managed().start();
    let mut client = proxy.client();
    client.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.set_nonblocking(true).unwrap();
    let more = GET.repeat(1000);
    let mut sent = 0;
    // The client is paused, and in the end its own kernel takes no more.
    while sent < 1 << 30 {
        match client.stream.write(more.as_bytes()) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock && sent > 0 => break,
            Err(error) => panic!("{error}"),
        }
    }
    answered(&proxy);
    assert!(free(&proxy) > FREE - SHARE, "{}", free(&proxy));
}

#[test]
fn answers_that_nobody_reads_hold_one_share() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).managed().start();
    let mut client = proxy.client();
    client.stream.set_nonblocking(true).unwrap();
    let many = GET.repeat(1000);
    for _ in 0..50 {
        if client.stream.write(many.as_bytes()).is_err() {
            break;
        }
    }
    answered(&proxy);
    assert!(free(&proxy) > FREE - 2 * SHARE, "{}", free(&proxy));
}

#[test]
fn events_that_nobody_reads_hold_one_share() {
    let (stuck, stops) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        let head = wire.head().unwrap();
        if head.starts_with("GET / ") {
            return wire.send(OK);
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        wire.stream.set_nonblocking(true).unwrap();
        let mut blocked = 0;
        // Until the proxy has stopped reading for a while.
        while blocked < 100 {
            if wire.stream.write_all(b"data: x\n\n").is_ok() {
                blocked = 0;
            } else {
                blocked += 1;
                std::thread::park_timeout(std::time::Duration::from_millis(2));
            }
        }
        stuck.send(()).unwrap();
        wire.stream.set_nonblocking(false).unwrap();
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).managed().start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for _ in &clients {
        stops.recv_timeout(6 * PATIENCE).expect("the origin is stopped");
    }
    answered(&proxy);
    assert!(free(&proxy) > FREE - 4 * 2 * SHARE, "{}", free(&proxy));
}

/// More clients than descriptors: those that are let in are served, the others wait for their turn.
#[test]
fn clients_leave_descriptors_for_origins() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let proxy = Proxy::start_within(80, &Setup::to(&[&origin.address]).text());
    let mut clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    for client in &mut clients {
        let answer = client.message().expect("an answer");
        assert_eq!((answer.status(), answer.reason()), (200, String::new()));
    }
    poll(|| (proxy.descriptors() < 60).then_some(()));
}

/// Clients of TLS that stop in the middle of their first message hold no buffer, however many there are, and others are served.
#[test]
fn half_sent_hellos_hold_no_buffers() {
    const HALVES: usize = 2000;
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).managed().start();
    let mut hello = Vec::new();
    site.client().connection("a.test").write_tls(&mut hello).unwrap();
    let halves = (0..HALVES).map(|at| {
        let mut client = tcp(proxy.address("public"));
        client.write_all(&hello[..1 + at % (hello.len() - 1)]).unwrap();
        client
    });
    let halves: Vec<_> = halves.collect();
    // Who comes last is accepted last, and looked at last.
    assert_eq!(site.client().ask(&proxy, "public").0.text(), "ok");
    assert_eq!(proxy.status()["turns"][0]["handshakes"], HALVES);
    assert!(free(&proxy) > FREE - SHARE, "{}", free(&proxy));
    drop(halves);
}
