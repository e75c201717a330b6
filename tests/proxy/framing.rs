//! How messages are framed towards either side: versions, framings, interim responses, pipelines, bounds. Not here: fields
//! that are added or removed (`forwarding`), large bodies (`bodies`).

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use crate::harness::{End, Origin, Proxy, Setup, next};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers one request per connection and closes.
fn closing(response: &'static str) -> Origin {
    Origin::start(move |mut wire, _| {
        if wire.head().is_some() {
            wire.send(response);
        }
    })
}

#[test]
fn a_body_that_ends_with_the_connection_becomes_chunks() {
    let origin = closing("HTTP/1.1 200 OK\r\n\r\nto the end");
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(GET);
        let answer = client.message().unwrap();
        assert_eq!(answer.field("transfer-encoding").as_deref(), Some("chunked"));
        assert_eq!((answer.text(), answer.field("connection")), ("to the end", None));
    }
    assert_eq!(origin.connections(), 3);
}

/// (request, response, what the client gets of framing fields, and of the body until the end of the connection)
#[test]
fn http_1_0_clients_get_no_chunks() {
    const OLD: &str = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    const KEPT: &str = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n\
                           3\r\nto \r\n7;ext=1\r\nthe end\r\n0\r\nx: y\r\n\r\n";
    for (request, response) in [(OLD, "HTTP/1.1 200 OK\r\n\r\nto the end"), (OLD, CHUNKED), (KEPT, CHUNKED)] {
        let origin = closing(response);
        let proxy = Setup::to(&[&origin.address]).start();
        let mut client = proxy.client();
        client.send(request);
        let head = client.head().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
        assert_eq!(client.end(), End::Clean(b"to the end".into()), "{request}{response}");
    }
}

#[test]
fn an_http_1_0_connection_is_kept_where_it_asks_and_the_length_is_known() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.message().unwrap();
        assert_eq!((answer.field("connection").as_deref(), answer.text()), (Some("keep-alive"), "ok"));
    }
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.message().unwrap().field("connection").as_deref(), Some("close"));
    assert_eq!(client.end(), End::Clean(Vec::new()));
}

/// (method, response, Content-Length that the client sees); none has a body, and the connection goes on.
#[test]
fn responses_without_a_body() {
    for (method, response, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Some("5")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HEAD", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", Some("9")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n", Some("7")),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        let origin = Origin::answering(response);
        let proxy = Setup::to(&[&origin.address]).start();
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = client.head().unwrap();
            assert_eq!(head.lines().next(), response.lines().next(), "{method} {response}");
            let found = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            assert_eq!(found, length, "{method} {response}");
        }
        assert_eq!(origin.connections(), 1, "{method} {response}");
    }
}

#[test]
fn trailers_go_both_ways_without_those_of_the_connection() {
    let (origin, requests) = Origin::recording(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Down: 1\r\nContent-Length: 9\r\n\r\n",
    );
    let proxy = Setup::to(&[&origin.address]).start();
    let answer = proxy.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Up: 1\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n",
    );
    assert_eq!((answer.text(), &*answer.trailers), ("ok", "X-Down: 1\r\n"));
    let request = next(&requests);
    assert_eq!(request.body, b"hi");
    // The fields of `Connection` may be nominated in trailers too, so that none go on when it nominates one but TE.
    assert_eq!(request.trailers, "X-Up: 1\r\n");
}

#[test]
fn trailers_cannot_claim_what_the_head_cannot() {
    let trailers = "X-Forwarded-For: 1.2.3.4\r\nx_forwarded_for: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nx_real_ip: 1.2.3.4\r\n\
         Forwarded: for=1.2.3.4\r\nTrue-Client-IP: 1.2.3.4\r\nX-Forwarded-User: root\r\nX_Forwarded_User: root\r\n\
         content_length: 3\r\nHost: b\r\nX-Sum: 1\r\n";
    for (role, passed) in [("edge", "X-Sum: 1\r\n"), ("sidecar", "X-Sum: 1\r\nmy_sum: 2\r\n")] {
        let (origin, requests) = Origin::recording("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let config = format!("role = \"{role}\"\n{}", Setup::to(&[&origin.address]).text());
        let proxy = Proxy::start(&config, &[]);
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
        assert_eq!(proxy.ask(&format!("{head}{trailers}my_sum: 2\r\n\r\n")).text(), "ok");
        assert_eq!(next(&requests).trailers, passed, "{role}");
    }
}

#[test]
fn the_client_is_told_to_continue_by_the_origin() {
    let origin = Origin::start(|mut wire, _| {
        let head = wire.head().unwrap();
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue\r\n"), "{head}");
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let mut body = Vec::new();
        wire.body(&head, &mut |part| body.extend_from_slice(part));
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        wire.send(&body);
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().as_deref(), Some("HTTP/1.1 100 Continue\r\n\r\n"));
    client.send("hello");
    assert_eq!(client.message().unwrap().text(), "hello");
}

#[test]
fn an_origin_that_refuses_is_heard_before_the_body_is_sent() {
    let origin = Origin::start(|mut wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let answer = {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let answer = client.message().unwrap();
        // Whether the body follows cannot be known: the connection cannot be kept.
        assert_eq!(client.end(), End::Clean(Vec::new()));
        answer
    };
    assert_eq!(answer.status(), 417);
}

#[test]
fn interim_responses_go_to_clients_that_know_them() {
    const RESPONSE: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let origin = Origin::answering(RESPONSE);
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.head().as_deref(), Some("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"));
        assert_eq!(client.head().as_deref(), Some("HTTP/1.1 102 Processing\r\n\r\n"));
        assert_eq!(client.message().unwrap().text(), "ok");
    }
    let answer = proxy.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_flood_of_interim_responses_is_refused() {
    let origin = Origin::start(|mut wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(129));
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    client.send(GET);
    for _ in 0..128 {
        assert_eq!(client.head().as_deref(), Some("HTTP/1.1 102 Processing\r\n\r\n"));
    }
    let answer = client.message().unwrap();
    assert_eq!((answer.status(), &*answer.reason()), (502, "interim_flood"));
}

/// Sends back path and body.
fn mirror() -> Origin {
    Origin::start(|mut wire, _| {
        while let Some(request) = wire.message() {
            let text = format!("{} {}", request.line().split(' ').nth(1).unwrap(), request.text());
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        }
    })
}

fn pipeline() -> String {
    let request = |number: usize| match number % 3 {
        0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        _ => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    };
    (0..20).map(request).collect()
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = mirror();
    let proxy = Setup::to(&[&origin.address]).start();
    let requests = pipeline();
    for size in [requests.len(), 1, 7] {
        let mut client = proxy.client();
        for part in requests.as_bytes().chunks(size) {
            client.send(part);
        }
        client.finish();
        for number in 0..20 {
            let body = if number % 3 == 0 { "" } else { "hello" };
            assert_eq!(client.message().unwrap().text(), format!("/{number} {body}"), "{size} bytes at a time");
        }
        assert_eq!(client.end(), End::Clean(Vec::new()));
    }
}

#[test]
fn a_response_that_does_not_wait_for_the_request_is_delivered() {
    const LENGTH: usize = 16 << 20;
    let origin = Origin::start(|mut wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 6\r\n\r\nenough");
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).start();
    for (framing, line) in [("Content-Length: 16777216", ""), ("Transfer-Encoding: chunked", "1000000\r\n")] {
        // The first client stalls after a while, the second never does.
        for length in [LENGTH / 16, LENGTH] {
            let mut client = proxy.client();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{line}"));
            let mut stream = client.stream.try_clone().unwrap();
            // It may fail when the proxy has had enough; the answer comes all the same.
            let sending = thread::spawn(move || stream.write_all(&vec![b'x'; length]));
            let answer = client.message().unwrap();
            assert_eq!((answer.status(), answer.text()), (413, "enough"), "{framing}");
            drop(client);
            let _ = sending.join().unwrap();
        }
    }
}

#[test]
fn a_client_that_has_sent_its_fin_gets_its_answer() {
    let (sender, finished) = mpsc::sync_channel(0);
    let origin = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            sender.send(()).unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    for request in [GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"] {
        let mut client = proxy.client();
        client.send(request);
        client.finish();
        next(&finished);
        assert_eq!(client.message().unwrap().text(), "ok");
        assert_eq!(client.end(), End::Clean(Vec::new()));
    }
}

/// Heads of about 12 KiB each way, sent in pieces.
#[test]
fn heads_that_come_in_pieces_are_joined() {
    let fields: String = (0..60).map(|number| format!("x-{number}: {}\r\n", "v".repeat(190))).collect();
    let origin = Origin::start(move |mut wire, _| {
        while let Some(request) = wire.message() {
            let fields: String = request
                .head
                .lines()
                .filter(|line| line.starts_with("x-") && line.len() > 190)
                .map(|line| format!("{line}\r\n"))
                .collect();
            for part in format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok").as_bytes().chunks(1000) {
                wire.send(part);
            }
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = proxy.client();
    for size in [1, 500, 1460, 20_000] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        for part in request.as_bytes().chunks(size) {
            client.send(part);
        }
        let answer = client.message().unwrap();
        assert!(answer.head.contains(&fields), "{size} bytes at a time: {}", answer.head);
        assert_eq!(answer.text(), "ok");
    }
}

/// (bytes of body, whether the connection goes on)
#[test]
fn the_body_of_a_refused_request_is_dropped_within_a_bound() {
    let origin = mirror();
    let proxy = Setup::to(&[&origin.address]).route("path = \"/here\"").start();
    for (length, kept) in [(0, true), (5, true), (65_536, true), (65_537, false)] {
        let mut client = proxy.client();
        client.send(format!("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let answer = client.message().unwrap();
        assert_eq!((answer.status(), answer.field("connection").is_none()), (404, kept), "{length}");
        client.send("GET /evil HTTP/1.1\r\n".repeat(4000).split_at(length).0);
        if kept {
            client.send("GET /here HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.message().unwrap().text(), "/here ");
        } else {
            assert_eq!(client.end(), End::Clean(Vec::new()));
        }
    }
}

/// (request, status, reason code)
#[test]
fn refusals_say_why() {
    let origin = mirror();
    let keys = "limits.header_bytes = \"10KiB\"\nlimits.header_count = 20\nlimits.body_bytes = \"1KiB\"";
    let proxy = Setup::to(&[&origin.address]).listener(keys).start();
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let large = format!("{}\r\n{}\r\n0\r\n\r\n", "7d0", "x".repeat(2000));
    for (request, status, reason) in [
        (get(&format!("x: {}\r\n", "v".repeat(11_000))), 431, "head_too_large"),
        (get(&"x: y\r\n".repeat(21)), 431, "too_many_fields"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(9000)), 414, "request_line_too_long"),
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n{}", "x".repeat(1025)),
            413,
            "body_too_large",
        ),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{large}"), 413, "body_too_large"),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "missing_host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400, "duplicate_host"),
        (get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, "conflicting_framing"),
        (get("Content-Length: +1\r\n"), 400, "bad_content_length"),
        (get("Transfer-Encoding: chunked, gzip\r\n"), 400, "bad_transfer_encoding"),
        (get("Transfer-Encoding: gzip, chunked\r\n"), 501, "unknown_transfer_coding"),
        ("GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400, "ambiguous_path"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505, "unsupported_version"),
        ("GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n".into(), 400, "bad_field_name"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(), 400, "malformed_body"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405, "method_not_allowed"),
        (get("Expect: 200-maybe\r\n"), 417, "unknown_expectation"),
    ] {
        let answer = proxy.ask(&request);
        let shown: String = request.chars().take(80).collect();
        assert_eq!((answer.status(), &*answer.reason()), (status, reason), "{shown:?}");
        assert!(answer.field("proxy-status").unwrap().starts_with("cairn; error="), "{}", answer.head);
        assert!(answer.text().contains(reason), "{}", answer.text());
    }
    let json = proxy.ask("TRACE / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    assert_eq!(json.field("content-type").as_deref(), Some("application/json"));
    let expected = "{\"status\":405,\"title\":\"Method Not Allowed\",\"reason\":\"method_not_allowed\"}\n";
    assert_eq!(json.text(), expected);
}
