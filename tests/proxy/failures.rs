//! Origins that fail in every phase, and clients that go away. Not here: time-outs of clients (`bounds`).

use std::io::Write;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use crate::harness::{End, Origin, Setup, Wire, closed, full, next, poll};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How an origin ends a connection.
#[derive(Clone, Copy, Debug)]
enum Way {
    Fin,
    Reset,
}

impl Way {
    fn end(self, wire: Wire) {
        match self {
            Self::Fin => drop(wire),
            Self::Reset => wire.abort(),
        }
    }
}

#[test]
fn a_response_that_is_cut_short_shows_it() {
    for (head, body, chunked) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "fifty", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nfifty\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nfif", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nfifty\r\n0\r\n", true),
    ] {
        for way in [Way::Fin, Way::Reset] {
            let (sender, delivered) = mpsc::sync_channel(0);
            let origin = Origin::start(move |mut wire, _| {
                wire.head().unwrap();
                wire.send(format!("{head}{body}"));
                sender.send(()).unwrap();
                way.end(wire);
            });
            let proxy = Setup::to(&[&origin.address]).start();
            for version in ["1.1", "1.0"] {
                let mut client = proxy.client();
                client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
                assert!(client.head().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
                next(&delivered);
                match client.end() {
                    // Without framing only RST tells.
                    End::Reset(_) if chunked && version == "1.0" => {}
                    // All that came, but no last chunk.
                    End::Clean(bytes) if !chunked || version == "1.1" => {
                        let sent = body.strip_suffix("0\r\n").unwrap_or(body);
                        assert_eq!(String::from_utf8_lossy(&bytes), sent, "{head} {way:?}");
                    }
                    end => panic!("{head}{body} {way:?} {version} {end:?}"),
                }
            }
        }
    }
}

/// The end may arrive together with the first bytes: then the failure can still be told.
#[test]
fn a_response_that_is_cut_at_once_is_an_error_or_a_cut() {
    let origin = Origin::start(|mut wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfifty");
    });
    let proxy = Setup::to(&[&origin.address]).start();
    for _ in 0..50 {
        let mut client = proxy.client();
        client.send(GET);
        match client.head() {
            Some(head) if head.starts_with("HTTP/1.1 502") => {}
            Some(head) => {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                assert_eq!(client.end(), End::Clean(b"fifty".to_vec()));
            }
            None => {}
        }
    }
}

/// (what the origin sends before it ends, how it ends, reason code)
#[test]
fn an_origin_that_does_not_answer_is_a_bad_gateway() {
    for (sent, way, reason) in [
        ("", Way::Fin, "upstream_closed"),
        ("", Way::Reset, "upstream_reset"),
        ("HTTP/1.1 200 O", Way::Fin, "upstream_closed"),
        ("SSH-2.0-x\r\n", Way::Fin, "bad_status_line"),
        ("HTTP/1.1 099 Low\r\n\r\n", Way::Fin, "bad_status"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx", Way::Fin, "bad_content_length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Way::Fin, "conflicting_framing"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Way::Fin, "bad_transfer_encoding"),
        ("HTTP/1.1 200 OK\r\nbad field\r\n\r\n", Way::Fin, "bad_field_name"),
    ] {
        let origin = Origin::start(move |mut wire, _| {
            wire.message();
            wire.send(sent);
            way.end(wire);
        });
        let proxy = Setup::to(&[&origin.address]).start();
        let mut client = proxy.client();
        for (round, request) in [GET, POST, GET].into_iter().enumerate() {
            client.send(request);
            let answer = client.message().unwrap();
            assert_eq!((answer.status(), &*answer.reason()), (502, reason), "{sent:?}");
            assert_eq!(origin.connections(), round + 1, "{sent:?}: not retried on a fresh connection");
        }
    }
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let (_socket, nobody) = closed();
    let proxy = Setup::to(&[&nobody]).start();
    let answer = proxy.ask(POST);
    assert_eq!((answer.status(), &*answer.reason()), (502, "connect_failed"));

    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&nobody, &origin.address]).cluster("balance = \"round_robin\"").start();
    for request in [GET, POST, GET, POST, GET, POST] {
        assert_eq!(proxy.ask(request).status(), 200);
    }
}

#[test]
fn an_endpoint_that_does_not_accept_times_out() {
    let full = full();
    let proxy = Setup::to(&[full.address()]).cluster("timeouts.connect = \"100ms\"").start();
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), &*answer.reason()), (504, "connect_timeout"));
}

#[test]
fn an_origin_that_is_silent_times_out() {
    let origin = Origin::start(|mut wire, _| {
        wire.message();
        wire.end();
    });
    for (route, cluster) in [("", "timeouts.response = \"100ms\""), ("timeout = \"100ms\"", "")] {
        let proxy = Setup::to(&[&origin.address]).route(route).cluster(cluster).start();
        for request in [GET, POST] {
            let answer = proxy.ask(request);
            assert_eq!((answer.status(), &*answer.reason()), (504, "response_timeout"));
        }
    }
    let origin = Origin::start(|mut wire, _| {
        wire.message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfifty");
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).cluster("timeouts.response = \"100ms\"").start();
    let mut client = proxy.client();
    client.send(GET);
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.end(), End::Clean(b"fifty".to_vec()));
}

/// Until the request has ended the origin owes nothing: it is the client that takes its time.
#[test]
fn a_slow_upload_is_not_a_slow_origin() {
    for (route, cluster) in [("", "timeouts.response = \"300ms\""), ("timeout = \"300ms\"", "")] {
        let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let proxy = Setup::to(&[&origin.address]).route(route).cluster(cluster).start();
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            std::thread::park_timeout(Duration::from_millis(100));
            client.send("x");
        }
        assert_eq!(client.message().unwrap().text(), "ok", "{route}{cluster}");
    }
    // An origin that does not take the request is late all the same.
    let origin = Origin::start(|mut wire, _| {
        wire.head();
        std::thread::park();
    });
    let proxy = Setup::to(&[&origin.address]).cluster("timeouts.response = \"300ms\"").start();
    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1u64 << 40));
    let mut twin = client.twin();
    let upload = std::thread::spawn(move || while twin.stream.write_all(&[b'x'; 1 << 16]).is_ok() {});
    let answer = client.message().unwrap();
    assert_eq!((answer.status(), &*answer.reason()), (504, "response_timeout"));
    drop(client);
    upload.join().unwrap();
}

/// A client that has sent its FIN may only have finished sending, or be gone: the operator knows.
#[test]
fn a_client_that_closes_its_side_may_end_the_exchange() {
    for (keys, answered) in [("", true), ("abort_on_close = true", false)] {
        let (ended, ends) = mpsc::channel();
        let (asked, asks) = mpsc::channel();
        let origin = Origin::start(move |mut wire, _| {
            wire.message();
            asked.send(wire.twin()).unwrap();
            ended.send(wire.end()).unwrap();
        });
        let proxy = Setup::to(&[&origin.address]).cluster(keys).start();
        let mut client = proxy.client();
        client.send(GET);
        client.finish();
        let mut answers = next(&asks);
        if answered {
            answers.send(OK);
            assert_eq!(client.message().unwrap().text(), "ok");
        }
        assert_eq!(client.end(), End::Clean(Vec::new()));
        drop(proxy);
        next(&ends);
    }
}

/// The first connection answers one request and ends when the next one arrives; later ones answer all.
#[test]
fn a_connection_that_went_stale_costs_idempotent_requests_nothing() {
    for way in [Way::Fin, Way::Reset] {
        for (request, status, seen) in [(GET, 200, 3), (PUT, 200, 3), (POST, 502, 2)] {
            let (sender, requests) = mpsc::channel();
            let origin = Origin::start(move |mut wire, number| {
                let mut answered = 0;
                while let Some(request) = wire.message() {
                    sender.send((request.line().to_owned(), request.body)).unwrap();
                    if number == 0 && answered == 1 {
                        return way.end(wire);
                    }
                    wire.send(OK);
                    answered += 1;
                }
            });
            let proxy = Setup::to(&[&origin.address]).start();
            assert_eq!(proxy.ask(GET).status(), 200);
            assert_eq!(proxy.ask(request).status(), status, "{request} {way:?}");
            let seen_requests: Vec<_> = requests.try_iter().collect();
            assert_eq!(seen_requests.len(), seen, "{seen_requests:?}");
            assert_eq!(seen_requests[1], seen_requests[seen - 1]);
            assert_eq!(origin.connections(), seen - 1);
        }
    }
}

/// Only so much of a request is kept that it can be sent once more.
#[test]
fn a_large_request_is_not_sent_twice() {
    let (sender, requests) = mpsc::channel();
    let origin = Origin::start(move |mut wire, number| {
        while let Some(request) = wire.message() {
            sender.send(request.body.len()).unwrap();
            if number == 0 && !request.body.is_empty() {
                return;
            }
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    assert_eq!(proxy.ask(GET).status(), 200);
    let large = "x".repeat(1 << 20);
    let answer = proxy.ask(&format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{large}", large.len()));
    assert_eq!((answer.status(), &*answer.reason()), (502, "upstream_closed"));
    assert_eq!(requests.try_iter().collect::<Vec<_>>(), [0, 1 << 20]);
}

#[test]
fn a_stale_connection_is_replaced_only_once() {
    let origin = Origin::start(|mut wire, number| {
        wire.message();
        if number == 0 {
            wire.send(OK);
            wire.message();
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    assert_eq!(proxy.ask(GET).status(), 200);
    assert_eq!(proxy.ask(GET).status(), 502);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn bytes_behind_a_response_are_never_taken_for_the_next_one() {
    let origin = Origin::start(|mut wire, _| {
        while wire.message().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    for round in 1..=5 {
        client.send(GET);
        assert_eq!(client.message().unwrap().text(), "ok");
        assert_eq!(origin.connections(), round);
    }
}

#[test]
fn bytes_on_an_idle_connection_end_it() {
    let (idle, speak) = mpsc::sync_channel(0);
    let (sender, ended) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        wire.message();
        wire.send(OK);
        idle.send(()).unwrap();
        wire.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil");
        sender.send(wire.end()).unwrap();
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    for round in 1..=3 {
        client.send(GET);
        assert_eq!(client.message().unwrap().text(), "ok");
        assert_eq!(origin.connections(), round);
        next(&speak);
        next(&ended);
    }
}

#[test]
fn an_idle_connection_is_closed_in_time_and_not_before() {
    let (sender, ended) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            wire.send(OK);
        }
        sender.send(()).unwrap();
    });
    let proxy = Setup::to(&[&origin.address]).cluster("pool.idle = \"100ms\"").start();
    proxy.ask(GET);
    next(&ended);
    proxy.ask(GET);
    assert_eq!(origin.connections(), 2);
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).cluster("pool.max_idle = 0").start();
    (0..3).for_each(|_| drop(proxy.ask(GET)));
    assert_eq!(origin.connections(), 3);
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let origin = Origin::start(|mut wire, _| {
        use std::io::Write;
        while wire.message().is_some() {
            let body = vec![b'x'; 300_000];
            // The proxy gives up when its client does.
            let head = wire.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
            if head.and_then(|()| wire.stream.write_all(&body)).is_err() {
                return;
            }
        }
    });
    let proxy = Setup::to(&[&origin.address]).cluster("pool.max_idle = 1").start();
    assert_eq!(proxy.ask(GET).status(), 200);
    let before = proxy.descriptors();
    for round in 0..1000 {
        let mut client = proxy.client();
        match round % 5 {
            0 => client.send("GET / HT"),
            1 => client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nsome"),
            2 => client.send(GET),
            3 => {
                client.send(GET);
                client.head().unwrap();
            }
            _ => {}
        }
        if round % 2 == 0 { client.abort() } else { drop(client) }
    }
    poll(|| (proxy.descriptors() <= before).then_some(()));
    assert_eq!(proxy.ask(GET).status(), 200);
}

/// `timeout` is about the head: a body may come long after it. Another request that runs into it says that it has passed.
#[test]
fn a_body_has_its_own_time() {
    let go = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&go);
    let origin = Origin::start(move |mut wire, _| {
        let late = wire.message().unwrap().line().contains("/late");
        if !late {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            gate.wait();
            wire.send("ok");
        }
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).route("timeout = \"300ms\"").start();
    let mut client = proxy.client();
    client.send(GET);
    let head = client.head().unwrap();
    assert_eq!(proxy.ask(&GET.replace("GET /", "GET /late")).status(), 504);
    assert_eq!(proxy.ask(&GET.replace("GET /", "GET /late")).status(), 504);
    go.wait();
    let mut body = Vec::new();
    client.body(&head, &mut |part| body.extend_from_slice(part));
    assert_eq!(body, b"ok");
}
