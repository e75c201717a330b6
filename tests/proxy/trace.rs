//! Trace contexts: what an origin is told of the trace that a request is part of. Not here: what is valid (`src/trace`).

use std::fs;

use crate::harness::{Message, Origin, Setup, next, poll};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What the origin gets of one request, under these tables.
fn forwarded(listener: &str, route: &str, tables: &str, fields: &str) -> Message {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).listener(listener).route(route).more(tables).start();
    assert_eq!(proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).status(), 200);
    next(&requests)
}

/// Trace, parent and flags of a Traceparent that was made.
fn parts(message: &Message) -> [String; 3] {
    let value = message.field("traceparent").unwrap_or_else(|| panic!("no traceparent: {}", message.head));
    let parts: Vec<_> = value.split('-').collect();
    assert!(parts.len() == 4 && parts[0] == "00", "{value}");
    let hexadecimal = |digits: &str| digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    assert!(parts[1].len() == 32 && parts[2].len() == 16 && parts[1..].iter().all(|it| hexadecimal(it)), "{value}");
    [1, 2, 3].map(|at| parts[at].to_owned())
}

#[test]
fn a_valid_context_goes_on_unchanged() {
    for value in
        [format!("00-{TRACE}-{PARENT}-01"), format!("00-{TRACE}-{PARENT}-00"), format!("cc-{TRACE}-{PARENT}-03-more")]
    {
        let fields = format!("Traceparent: {value}\r\nTracestate: a=1\r\ntracestate: b=2\r\n");
        let got = forwarded("", "", "", &fields);
        assert_eq!(got.field("traceparent"), Some(value), "{}", got.head);
        assert_eq!(got.field("tracestate").as_deref(), Some("a=1, b=2"), "{}", got.head);
    }
}

#[test]
fn who_has_none_that_is_valid_gets_one() {
    let dropped = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\nTracestate: a=1\r\nConnection: traceparent\r\n");
    let twice = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\nTraceparent: 00-{TRACE}-{PARENT}-01\r\n");
    for fields in ["", "Traceparent: 00-1-2-3\r\nTracestate: a=1\r\n", "Tracestate: a=1\r\n", &dropped, &twice] {
        let got = forwarded("", "", "", fields);
        let [trace, parent, flags] = parts(&got);
        assert_eq!((got.field("x-request-id"), &*flags), (Some(trace.clone()), "00"), "{}", got.head);
        assert!(trace != TRACE && parent != PARENT, "{}", got.head);
        assert_eq!(got.field("tracestate"), None, "{}", got.head);
    }
    // A peer's identifier of the request is no trace.
    let got = forwarded(TRUSTING, "", "", "X-Request-Id: mine\r\n");
    assert_eq!(got.field("x-request-id").as_deref(), Some("mine"));
    parts(&got);
    let off = "[trace]\nmake = false";
    for fields in ["", "Traceparent: 00-1-2-3\r\nTracestate: a=1\r\n"] {
        let got = forwarded("", "", off, fields);
        assert_eq!((got.field("traceparent"), got.field("tracestate")), (None, None), "{}", got.head);
    }
}

#[test]
fn whose_context_is_believed_is_configured() {
    let sent = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\nTracestate: a=1\r\n");
    for (listener, accept, believed) in
        [("", "any", true), (TRUSTING, "trusted", true), ("", "trusted", false), (TRUSTING, "none", false)]
    {
        let got = forwarded(listener, "", &format!("[trace]\naccept = \"{accept}\""), &sent);
        assert_eq!(parts(&got)[0] == TRACE, believed, "{accept} {}", got.head);
        assert_eq!(got.field("tracestate").is_some(), believed, "{accept} {}", got.head);
    }
}

#[test]
fn b3_is_read_where_it_is_asked_for() {
    let sent = format!("b3: {TRACE}-{PARENT}-1\r\n");
    let got = forwarded("", "", "[trace]\nb3 = true", &sent);
    assert_eq!(got.field("traceparent"), Some(format!("00-{TRACE}-{PARENT}-01")), "{}", got.head);
    assert_eq!(got.field("b3"), Some(format!("{TRACE}-{PARENT}-1")), "{}", got.head);
    assert_ne!(parts(&forwarded("", "", "", &sent))[0], TRACE);
}

#[test]
fn a_route_may_say_otherwise() {
    let sent = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let got = forwarded("", "request_headers = { remove = [\"traceparent\"] }", "", &sent);
    assert_eq!(got.field("traceparent"), None, "{}", got.head);
    let got = forwarded("", "request_headers = { set = { traceparent = \"mine\" } }", "", "");
    assert_eq!(got.field("traceparent").as_deref(), Some("mine"), "{}", got.head);
}

/// The log names the trace that the origin is told of, whoever has begun it.
#[test]
fn the_access_log_names_the_trace() {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).more("[log]\naccess = \"FOLDER/access.log\"").start();
    let asked = |fields: &str| {
        proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        parts(&next(&requests))[0].clone()
    };
    let made = asked("");
    assert_eq!(asked(&format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\n")), TRACE);
    let log = poll(|| {
        let text = fs::read_to_string(proxy.folder().join("access.log")).unwrap_or_default();
        Some(text).filter(|text| text.lines().count() == 2)
    });
    for trace in [made.as_str(), TRACE] {
        assert!(log.contains(&format!("\"trace_id\":\"{trace}\"")), "{log}");
    }
}
