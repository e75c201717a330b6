//! Time-outs and limits towards clients, and what waiting clients cost. Not here: time-outs towards origins (`failures`).

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{End, Origin, Proxy, Setup, Wire, poll};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn answered(client: &mut Wire) {
    client.send(GET);
    assert_eq!(client.message().unwrap().text(), "ok");
}

/// (listener keys, request, status and reason code; none: closed without a word)
#[test]
fn clients_that_stall_are_told_and_closed() {
    const BODY: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    const CHUNKS: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    let origin = Origin::answering(OK);
    for (keys, request, expected) in [
        ("timeouts.header = \"100ms\"", "GET / HTTP/1.1\r\nHost: a\r\n", Some((408, "head_timeout"))),
        ("timeouts.header = \"100ms\"", "G", Some((408, "head_timeout"))),
        ("timeouts.body = \"100ms\"", BODY, Some((408, "body_timeout"))),
        ("timeouts.body = \"100ms\"", CHUNKS, Some((408, "body_timeout"))),
        ("timeouts.idle = \"500ms\"", "", None),
    ] {
        let proxy = Setup::to(&[&origin.address]).listener(keys).start();
        for warm in [false, true] {
            let mut client = proxy.client();
            if warm {
                answered(&mut client);
            }
            client.send(request);
            if let Some(expected) = expected {
                let answer = client.message().unwrap_or_else(|| panic!("{keys} {request:?} warm: {warm}"));
                assert_eq!((answer.status(), &*answer.reason()), expected, "{keys} {request:?}");
                assert_eq!(answer.field("connection").as_deref(), Some("close"));
            }
            assert_eq!(client.end(), End::Clean(Vec::new()), "{keys} {request:?}");
        }
    }
}

/// A client that sends does not put off the moment at which it should have read.
#[test]
fn who_sends_and_never_reads_is_cut() {
    const LENGTH: usize = 64 << 20;
    let origin = Origin::start(|mut wire, _| {
        wire.message();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        // The proxy gives up in the middle.
        let _ = wire.stream.write_all(&vec![b'x'; LENGTH]);
    });
    let proxy = Setup::to(&[&origin.address]).listener("timeouts.body = \"1s\"").start();
    let mut client = proxy.client();
    client.send(GET);
    // More requests, a byte at a time, more often than the time-out.
    let sent = GET.bytes().cycle().take(100).take_while(|byte| {
        thread::park_timeout(Duration::from_millis(100));
        client.stream.write_all(&[*byte]).is_ok()
    });
    assert!(sent.count() < 100, "it is cut after a second, not after its last byte");
}

/// Both ways of an exchange may be open for long, as a channel is: while the response goes on, the client may be silent.
#[test]
fn who_reads_may_leave_the_upload_open() {
    let origin = Origin::start(|mut wire, _| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            thread::park_timeout(Duration::from_millis(100));
            wire.send("x");
        }
        // Nothing of the response is left: now it is the client that is waited for.
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).listener("timeouts.body = \"500ms\"").start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert_eq!(client.message().unwrap().text(), "xxxxxxxxxx");
    client.end();
}

#[test]
fn bodies_that_drip_are_refused() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let origin = Origin::answering(OK);
    let keys = "timeouts.body = \"1s\"\ntimeouts.body_rate = \"100KiB\"";
    let proxy = Setup::to(&[&origin.address]).listener(keys).start();
    let mut client = proxy.client();
    client.send(HEAD);
    let mut twin = client.twin();
    let drip = thread::spawn(move || {
        while twin.stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(5));
        }
    });
    let answer = client.message().unwrap();
    assert_eq!((answer.status(), &*answer.reason()), (408, "body_too_slow"));
    assert_eq!(client.end(), End::Clean(Vec::new()));
    drop(client);
    drip.join().unwrap();
    let mut quick = proxy.client();
    quick.send(HEAD);
    quick.send(vec![b'x'; 1_000_000]);
    assert_eq!(quick.message().unwrap().text(), "ok");
}

#[test]
fn responses_that_are_sipped_are_cut() {
    const LENGTH: usize = 64 << 20;
    let origin = Origin::start(|mut wire, _| {
        wire.message();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        // The proxy gives up in the middle.
        let _ = wire.stream.write_all(&vec![b'x'; LENGTH]);
    });
    let keys = "timeouts.body = \"500ms\"\ntimeouts.body_rate = \"1GiB\"";
    let proxy = Setup::to(&[&origin.address]).listener(keys).start();
    let mut client = proxy.client();
    client.send(GET);
    client.head().unwrap();
    let mut sip = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match client.stream.read(&mut sip) {
            Ok(count @ 1..) => total += count,
            Ok(_) => panic!("ended cleanly after {total} bytes"),
            Err(_) => break,
        }
        assert!(total < LENGTH / 2, "not cut");
        thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_connection_takes_so_many_requests() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener("limits.requests = 3").start();
    let mut client = proxy.client();
    client.send(GET.repeat(5));
    for close in [None, None, Some("close")] {
        let answer = client.message().unwrap();
        assert_eq!((answer.text(), answer.field("connection").as_deref()), ("ok", close));
    }
    assert_eq!(client.end(), End::Clean(Vec::new()));
}

#[test]
fn heads_that_drip_disturb_nobody() {
    const SLOW: usize = 1_000;
    if !may_open(2 * SLOW as u64) {
        eprintln!("skipped: the hard limit of file descriptors is too low");
        return;
    }
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener("timeouts.header = \"1s\"").start();
    let mut slow: Vec<_> = (0..SLOW).map(|_| proxy.client()).collect();
    let mut quick = proxy.client();
    for part in ["G", "ET ", "/ HTTP/1.1\r", "\nHost:", " a"] {
        for client in &mut slow {
            client.send(part);
        }
        answered(&mut quick);
    }
    for client in &mut slow {
        assert_eq!(client.message().unwrap().reason(), "head_timeout");
        assert_eq!(client.end(), End::Clean(Vec::new()));
    }
    answered(&mut quick);
}

#[test]
fn connections_above_the_limit_are_refused() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener("limits.connections = 2").start();
    let mut first = proxy.client();
    let mut second = proxy.client();
    answered(&mut first);
    answered(&mut second);
    for _ in 0..20 {
        // The request is not read, and still the client must get its answer.
        let mut third = proxy.client();
        third.send(GET);
        let answer = third.message().unwrap();
        assert_eq!((answer.status(), &*answer.reason()), (503, "too_many_connections"));
        assert_eq!(third.end(), End::Clean(Vec::new()));
    }
    drop(first);
    poll(|| (proxy.ask(GET).status() == 200).then_some(()));
    answered(&mut second);
}

/// However the kernel spreads the clients over the workers.
#[test]
fn the_limit_of_connections_is_that_of_all_workers() {
    let origin = Origin::answering(OK);
    let text = Setup::to(&[&origin.address]).listener("limits.connections = 5").text();
    let proxy = Proxy::start(&text.replace("count = 1", "count = 2"), &[]);
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(answered);
    for _ in 0..5 {
        assert_eq!(proxy.ask(GET).reason(), "too_many_connections");
    }
    clients.iter_mut().for_each(answered);
}

#[test]
fn clients_wait_while_there_are_no_descriptors() {
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]);
    let at_rest = setup.start().descriptors();
    let proxy = Proxy::start_within(at_rest + 8, &setup.text());
    // Leaves one connection to the origin behind, which is enough for clients that ask one by one.
    answered(&mut proxy.client());
    let mut clients: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    clients.drain(..).for_each(|mut client| answered(&mut client));
    let line = proxy.said("cairn: worker 0: accepting paused: ");
    assert!(line.contains("Too many open files") && line.ends_with("raise `ulimit -n`"), "{line}");
    (0..40).for_each(|_| assert_eq!(proxy.ask(GET).status(), 200));
}

/// Raises the limit of file descriptors; false: not far enough.
fn may_open(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    limit.maximum.is_none_or(|maximum| maximum >= count)
}

fn hold(proxy: &Proxy, clients: &mut Vec<Wire>, count: usize) {
    while clients.len() < count {
        let mut client = proxy.client();
        answered(&mut client);
        clients.push(client);
    }
}

#[test]
fn an_idle_connection_costs_less_than_a_kilobyte() {
    const FEW: usize = 2_000;
    const MANY: usize = 8_000;
    if !may_open(MANY as u64 + 1_000) {
        eprintln!("skipped: the hard limit of file descriptors is too low");
        return;
    }
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).start();
    let mut clients = Vec::new();
    hold(&proxy, &mut clients, FEW);
    let before = proxy.memory();
    hold(&proxy, &mut clients, MANY);
    let grown = (proxy.memory() - before) * 1024 / (MANY - FEW) as u64;
    assert!(grown <= 1024, "{grown} bytes a connection");
    // All of them still work.
    clients.iter_mut().for_each(answered);
}
