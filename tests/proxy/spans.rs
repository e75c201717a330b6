//! Spans as a collector gets them, over OTLP, and whose parents they are. Not here: what an origin is told where nothing is recorded
//! (`trace`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use rustix::process::Signal;

use crate::harness::{Message, Origin, Proxy, Setup, closed, next, poll};
use crate::metrics::metrics;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TAKEN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A span as it was received, with the name of its service.
struct Span {
    service: String,
    inner: opentelemetry_proto::tonic::trace::v1::Span,
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|it| it.key == key).and_then(|it| it.value.clone());
    match found {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

fn digits(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Span {
    fn all(message: &Message) -> Vec<Self> {
        assert!(message.line().starts_with("POST /v1/traces HTTP/1.1"), "{}", message.head);
        assert_eq!(message.field("content-type").as_deref(), Some("application/x-protobuf"));
        let request = ExportTraceServiceRequest::decode(&message.body[..]).unwrap();
        let resources = request.resource_spans.into_iter();
        let spans = resources.flat_map(|it| {
            let service = text(&it.resource.unwrap().attributes, "service.name");
            let spans = it.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.map(move |inner| Self { service: service.clone(), inner })
        });
        spans.collect()
    }

    fn get(&self, key: &str) -> String {
        text(&self.inner.attributes, key)
    }

    fn id(&self) -> String {
        digits(&self.inner.span_id)
    }

    fn parent(&self) -> String {
        digits(&self.inner.parent_span_id)
    }

    fn is_error(&self) -> bool {
        self.inner.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
    }
}

/// A collector that answers each message so, in turn, and the last way from then on.
fn collector(answers: &[&str]) -> (Origin, Receiver<Message>) {
    let (sender, messages) = channel();
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |mut wire, _| {
        while let Some(message) = wire.message() {
            // The test may be over.
            let _ = sender.send(message);
            let number = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            wire.send(&answers[number]);
        }
    });
    (origin, messages)
}

/// The next spans, so many, sorted by service, then as they were received.
fn spans(messages: &Receiver<Message>, count: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    while spans.len() < count {
        spans.extend(Span::all(&next(messages)));
    }
    assert_eq!(spans.len(), count);
    spans.sort_by(|a, b| a.service.cmp(&b.service));
    spans
}

fn otlp(collector: &str, more: &str) -> String {
    format!("[otlp]\nendpoint = \"http://{collector}\"\ninterval = \"10ms\"\n{more}")
}

fn get(fields: &str) -> String {
    format!("GET /a/b?c=d HTTP/1.1\r\nHost: api.test:81\r\nUser-Agent: x/1\r\n{fields}\r\n")
}

/// The parent that an origin was told.
fn told(message: &Message) -> String {
    message.field("traceparent").unwrap().split('-').nth(2).unwrap().to_owned()
}

#[test]
fn parent_and_child_are_right_across_two_proxies() {
    let (collector, messages) = collector(&[TAKEN]);
    let (origin, requests) = Origin::recording(OK);
    let inner = Setup::to(&[&origin.address]).route("name = \"in\"").more(&otlp(&collector.address, "service = \"b\""));
    let inner = inner.start();
    let outer = Setup::to(&[inner.address("public")]).more(&otlp(&collector.address, "service = \"a\"")).start();
    let fields = format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\nTracestate: vendor=1\r\n");
    assert_eq!(outer.ask(&get(&fields)).status(), 200);
    let got = next(&requests);
    assert_eq!(got.field("tracestate").as_deref(), Some("vendor=1"), "{}", got.head);
    let spans = spans(&messages, 4);
    let [a, a_attempt, b, b_attempt] = &spans[..] else { panic!("four spans") };
    assert_eq!([&a.service, &a_attempt.service, &b.service, &b_attempt.service], ["a", "a", "b", "b"]);
    let parents = [a.parent(), a_attempt.parent(), b.parent(), b_attempt.parent(), told(&got)];
    assert_eq!(parents, [PARENT.to_owned(), a.id(), a_attempt.id(), b.id(), b_attempt.id()]);
    for (span, kind) in spans.iter().zip([SpanKind::Server, SpanKind::Client, SpanKind::Server, SpanKind::Client]) {
        let inner = &span.inner;
        assert_eq!((digits(&inner.trace_id), inner.kind(), &*inner.name), (TRACE.to_owned(), kind, "GET"));
        assert_eq!((&*inner.trace_state, span.is_error()), ("vendor=1", false));
        assert!(inner.start_time_unix_nano <= inner.end_time_unix_nano);
        assert_eq!(
            (span.get("http.request.method"), span.get("http.response.status_code")),
            ("GET".into(), "200".into())
        );
    }
    assert!(a.inner.start_time_unix_nano <= b.inner.start_time_unix_nano, "by the wall clock");
    for (key, value) in [
        ("url.scheme", "http"),
        ("url.path", "/a/b"),
        ("url.query", "c=d"),
        ("server.address", "api.test"),
        ("server.port", "81"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "x/1"),
        ("network.protocol.version", "1.1"),
        ("cairn.route", "in"),
        ("cairn.cluster", "app"),
        ("cairn.listener", "public"),
        ("error.type", ""),
    ] {
        assert_eq!(b.get(key), value, "{key}");
    }
    let url = format!("http://{}/a/b?c=d", origin.address);
    assert_eq!((b_attempt.get("url.full"), b_attempt.get("http.request.resend_count")), (url, String::new()));
    let (host, port) = origin.address.split_once(':').unwrap();
    assert_eq!((b_attempt.get("server.address"), b_attempt.get("server.port")), (host.into(), port.into()));
}

/// Exemplars of histograms are requests that the collector has: none that was not recorded, each in its bucket, and none in the format
/// that knows none.
#[test]
fn histograms_name_traces_that_were_exported() {
    let (collector, messages) = collector(&[TAKEN]);
    let origin = Origin::answering(OK);
    let proxy =
        Setup::to(&[&origin.address]).route("name = \"in\"").more(&otlp(&collector.address, "")).managed().start();
    let unsampled = format!("Traceparent: 00-{}-{PARENT}-00\r\n", "1".repeat(32));
    assert_eq!(proxy.ask(&get(&unsampled)).status(), 200);
    let open_metrics = || metrics(&proxy, "application/openmetrics-text");
    assert!(!open_metrics().contains("trace_id"));
    assert_eq!(proxy.ask(&get(&format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\n"))).status(), 200);
    spans(&messages, 2);
    let text = open_metrics();
    for name in ["cairn_request_duration_seconds", "cairn_proxy_overhead_seconds", "cairn_upstream_connect_seconds"] {
        let mut above = 0.0;
        let mut found = 0;
        for line in text.lines().filter_map(|line| line.strip_prefix(&format!("{name}_bucket{{route=\"in\",le=\""))) {
            let (bound, rest) = line.split_once('"').unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            if let Some((_, exemplar)) = rest.split_once(&format!(" # {{trace_id=\"{TRACE}\"}} ")) {
                let (value, at) = exemplar.split_once(' ').unwrap();
                let (value, at): (f64, f64) = (value.parse().unwrap(), at.parse().unwrap());
                assert!(value > above && value <= bound && at > 1.6e9, "{name}: {line}");
                found += 1;
            }
            above = bound;
        }
        // The first request has connected.
        assert_eq!(found, usize::from(!name.ends_with("connect_seconds")), "{name}: {text}");
    }
    assert!(!metrics(&proxy, "text/plain").contains("trace_id"));
}

#[test]
fn what_is_recorded_is_what_the_parent_says_or_the_share() {
    let (collector, messages) = collector(&[TAKEN]);
    let (origin, requests) = Origin::recording(OK);
    let some = Setup::to(&[&origin.address]).more(&otlp(&collector.address, "service = \"some\"")).start();
    let none =
        Setup::to(&[&origin.address]).more(&otlp(&collector.address, "service = \"none\"\nsample = 0.0")).start();
    let ask = |proxy: &Proxy, fields: &str| {
        assert_eq!(proxy.ask(&get(fields)).status(), 200);
        next(&requests).field("traceparent").unwrap()
    };
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(ask(&some, &format!("Traceparent: {unsampled}\r\n")), unsampled);
    assert!(ask(&none, "").ends_with("-00"));
    // The first of them that are recorded.
    assert!(ask(&none, &format!("Traceparent: 00-{TRACE}-{PARENT}-01\r\n")).ends_with("-01"));
    let [server, client] = &spans(&messages, 2)[..] else { panic!("two spans") };
    assert_eq!((server.parent(), &*client.service), (PARENT.to_owned(), "none"));
    let made = ask(&some, "");
    assert!(made.ends_with("-01"), "{made}");
    let [server, client] = &spans(&messages, 2)[..] else { panic!("two spans") };
    assert_eq!((server.parent(), &*server.service), (String::new(), "some"));
    assert_eq!(made, format!("00-{}-{}-01", digits(&server.inner.trace_id), client.id()));
}

#[test]
fn each_attempt_has_a_span_and_is_a_parent() {
    let (collector, messages) = collector(&[TAKEN]);
    let (_held, refusing) = closed();
    let busy = Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let (origin, requests) = Origin::recording(OK);
    let endpoints = [&*refusing, &busy.address, &origin.address];
    let setup = Setup::to(&endpoints).route("retry = { attempts = 3, on = [\"connect\", \"503\"], budget = 1.0 }");
    let proxy = setup.cluster("balance = \"round_robin\"").more(&otlp(&collector.address, "")).start();
    let mut seen = 0;
    for _ in 0..6 {
        assert_eq!(proxy.ask(&get("")).status(), 200);
        let parent = told(&next(&requests));
        let mut all = Vec::new();
        while all.last().is_none_or(|span: &Span| span.get("http.response.status_code") != "200" || all.len() < 2) {
            all.extend(Span::all(&next(&messages)));
        }
        let (server, attempts) = all.split_first().unwrap();
        assert!(!server.is_error());
        assert_eq!(attempts.last().unwrap().id(), parent, "the last attempt is the parent");
        for (number, span) in attempts.iter().enumerate() {
            let resent = if number == 0 { String::new() } else { number.to_string() };
            assert_eq!((span.parent(), span.get("http.request.resend_count")), (server.id(), resent));
            let port = span.get("server.port");
            let expected = match endpoints.iter().position(|endpoint| endpoint.ends_with(&format!(":{port}"))) {
                Some(0) => ("", "connect_failed", true),
                Some(1) => ("503", "503", true),
                _ => ("200", "", false),
            };
            let found = (span.get("http.response.status_code"), span.get("error.type"), span.is_error());
            assert_eq!((&*found.0, &*found.1, found.2), expected);
        }
        seen = seen.max(attempts.len());
    }
    assert!(seen > 1, "some request was sent again");
}

#[test]
fn failures_are_errors_with_their_reason() {
    let (collector, messages) = collector(&[TAKEN]);
    let (_held, refusing) = closed();
    let proxy = Setup::to(&[&refusing]).route("hosts = [\"api.test\"]").more(&otlp(&collector.address, "")).start();
    assert_eq!(proxy.ask(&get("")).status(), 502);
    let [server, client] = &spans(&messages, 2)[..] else { panic!("two spans") };
    assert!(server.is_error() && client.is_error());
    assert_eq!([server, client].map(|span| span.get("error.type")), ["connect_failed", "connect_failed"]);
    // A client's mistake is no error of the server; nothing was tried.
    assert_eq!(proxy.ask("BREW / HTTP/1.1\r\nHost: other\r\n\r\n").status(), 404);
    let [server] = &spans(&messages, 1)[..] else { panic!("one span") };
    assert_eq!((server.is_error(), server.get("http.response.status_code")), (false, "404".into()));
    assert_eq!(server.get("http.request.method"), "_OTHER");
    assert_eq!(server.get("http.request.method_original"), "BREW");
}

/// Whether a number of `cairn status` becomes this one.
fn counted(proxy: &Proxy, what: &str, count: u64) {
    poll(|| (proxy.status()["traces"][what] == count).then_some(()));
}

#[test]
fn what_the_collector_does_not_take_is_sent_again_or_counted() {
    let origin = Origin::answering(OK);
    let later = "HTTP/1.1 503 Later\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    let never = "HTTP/1.1 400 Never\r\nContent-Length: 0\r\n\r\n";
    let (collector, messages) = collector(&[later, later, TAKEN, never, TAKEN]);
    let proxy = Setup::to(&[&origin.address]).managed().more(&otlp(&collector.address, "headers = { x-key = \"k\" }"));
    let proxy = proxy.start();
    assert_eq!(proxy.ask(&get("")).status(), 200);
    let [first, second, third] = [(); 3].map(|()| next(&messages));
    assert!(first.body == second.body && second.body == third.body, "the same message");
    assert_eq!(third.field("x-key").as_deref(), Some("k"));
    counted(&proxy, "exported", 2);
    assert_eq!(proxy.ask(&get("")).status(), 200);
    next(&messages);
    counted(&proxy, "lost", 2);
    assert_eq!(proxy.ask(&get("")).status(), 200);
    next(&messages);
    counted(&proxy, "exported", 4);
    let said = proxy.said("cairn: traces: http://");
    assert!(said.contains("the collector answers 503; 0 spans are lost so far"), "{said}");
}

#[test]
fn a_reload_turns_export_on_and_off_and_the_end_of_the_process_sends_the_rest() {
    let origin = Origin::answering(OK);
    let (collector, messages) = collector(&[TAKEN]);
    let plain = Setup::to(&[&origin.address]).managed();
    let mut proxy = plain.start();
    assert_eq!(proxy.ask(&get("")).status(), 200);
    // Nothing but the end makes it send these.
    let slow = otlp(&collector.address, "").replace("10ms", "1h");
    proxy.reload(&plain.clone().more(&slow).text());
    assert_eq!(proxy.ask(&get("")).status(), 200);
    proxy.reload(&plain.text());
    assert_eq!(spans(&messages, 2)[0].get("url.path"), "/a/b");
    assert_eq!(proxy.ask(&get("")).status(), 200);
    proxy.reload(&plain.clone().more(&slow).text());
    assert_eq!(proxy.ask(&get("").replace("/a/b", "/last")).status(), 200);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert_eq!(spans(&messages, 2)[0].get("url.path"), "/last");
}

/// A collector that is not there costs spans, in the end, and nothing else.
#[test]
fn nobody_waits_for_a_collector() {
    let origin = Origin::answering(OK);
    let silent = Origin::start(|mut wire, _| drop(wire.message().map(|_| wire.end())));
    let proxy = Setup::to(&[&origin.address]).managed().more(&otlp(&silent.address, "timeout = \"50ms\"")).start();
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("")).status(), 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let said = proxy.said("cairn: traces: http://");
    assert!(said.contains("no answer within 50ms"), "{said}");
    assert_eq!(proxy.status()["traces"]["exported"], 0);
    let _still_there = Arc::new(silent);
}
