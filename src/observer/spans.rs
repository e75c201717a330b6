//! Spans of an exchange: one of kind server, and one of kind client for each attempt, with the attributes of OpenTelemetry's semantic
//! conventions for HTTP (stable since 1.23). Not here: sending them (`exporter`).

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use crate::access_log::{AttemptEntry, Entry, Protocol, Text};
use crate::trace::attempt_span;

/// Methods that have a name of their own in a span.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
/// Flags of a span: its trace is sampled; and whether its parent is of another process is known, and so (OTLP, SpanFlags).
const SAMPLED: u32 = 1;
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// Appends the spans of an exchange. `wall`: the time since 1970 when the clock of workers shows zero.
pub(super) fn write(entry: &Entry<'_>, wall: Duration, out: &mut impl Extend<Span>) {
    let value = entry.text(Text::Traceparent).bytes;
    let Some(trace) = value.get(3..35).and_then(trace_id) else { return };
    let exchange = Exchange { entry, wall, trace };
    out.extend([exchange.server()]);
    let last = entry.attempts().last().map(|attempt| attempt.number);
    out.extend(entry.attempts().map(|attempt| exchange.client(&attempt, last == Some(attempt.number))));
}

fn trace_id(digits: &[u8]) -> Option<Vec<u8>> {
    let number = u128::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    Some(number.to_be_bytes().to_vec())
}

struct Exchange<'a> {
    entry: &'a Entry<'a>,
    wall: Duration,
    trace: Vec<u8>,
}

impl Exchange<'_> {
    fn text(&self, text: Text) -> String {
        String::from_utf8_lossy(self.entry.text(text).bytes).into_owned()
    }

    fn nanoseconds(&self, time: Duration) -> u64 {
        (self.wall + time).as_nanos() as u64
    }

    /// The method as conventions have it, and the name of a span.
    fn method(&self) -> (&'static str, &'static str) {
        let sent = self.entry.text(Text::Method).bytes;
        match METHODS.iter().find(|known| known.as_bytes() == sent) {
            Some(known) => (known, known),
            None => ("_OTHER", "HTTP"),
        }
    }

    /// The span of the exchange.
    fn server(&self) -> Span {
        let numbers = &self.entry.numbers;
        let mut attributes = Attributes::default();
        let (method, name) = self.method();
        attributes.text("http.request.method", method);
        if method == "_OTHER" {
            attributes.text("http.request.method_original", self.text(Text::Method));
        }
        attributes
            .text("url.scheme", if self.entry.text(Text::TlsVersion).bytes.is_empty() { "http" } else { "https" });
        attributes.text("url.path", self.text(Text::Path));
        attributes.text("url.query", self.text(Text::Query));
        attributes.address("server", &self.text(Text::Authority));
        attributes.text("client.address", self.text(Text::Client));
        attributes.number("client.port", numbers.port.into());
        attributes.text("user_agent.original", self.text(Text::UserAgent));
        attributes.text(
            "network.protocol.version",
            match numbers.protocol {
                Protocol::Unknown => "",
                Protocol::Http10 => "1.0",
                Protocol::Http11 => "1.1",
                Protocol::Http2 => "2",
            },
        );
        attributes.number("http.response.status_code", numbers.status.into());
        let own = [
            ("cairn.listener", Text::Listener),
            ("cairn.tenant", Text::Tenant),
            ("cairn.route", Text::Route),
            ("cairn.cluster", Text::Cluster),
            ("cairn.request_id", Text::RequestId),
        ];
        own.into_iter().for_each(|(key, text)| attributes.text(key, self.text(text)));
        let failed = numbers.status >= 500 || numbers.cut || numbers.status == 0;
        let reason = self.text(Text::Reason);
        let cause = if reason.is_empty() { numbers.status.to_string() } else { reason };
        if failed {
            attributes.text("error.type", cause.clone());
        }
        let parent = if numbers.parent == 0 { Vec::new() } else { numbers.parent.to_be_bytes().to_vec() };
        Span {
            flags: SAMPLED | PARENT_IS_KNOWN | if parent.is_empty() { 0 } else { PARENT_IS_REMOTE },
            parent_span_id: parent,
            kind: SpanKind::Server.into(),
            status: failed.then(|| error(if numbers.cut { cause } else { String::new() })),
            ..self.span(numbers.span, name, numbers.began, numbers.began + numbers.total, attributes)
        }
    }

    /// The span of an attempt.
    fn client(&self, attempt: &AttemptEntry<'_>, last: bool) -> Span {
        let numbers = &self.entry.numbers;
        let (method, name) = self.method();
        let endpoint = String::from_utf8_lossy(attempt.endpoint);
        let ends_here = last && attempt.ended.is_none();
        let reason = if ends_here { self.entry.text(Text::Reason).bytes } else { attempt.reason };
        // What a client does to an exchange is no error of the origin.
        let is_of_client = ends_here && self.entry.text(Text::Side).bytes == b"client";
        let reason = if is_of_client { "".into() } else { String::from_utf8_lossy(reason) };
        // What the client is answered with is the origin's status, where nothing has failed or only the rest of it is missing.
        let answered = ends_here && (reason.is_empty() || numbers.cut);
        let status = if answered { numbers.status } else { attempt.status };
        let mut attributes = Attributes::default();
        attributes.text("http.request.method", method);
        attributes.address("server", &endpoint);
        attributes.text("url.full", self.url(&endpoint));
        attributes.number("http.response.status_code", status.into());
        attributes.number("http.request.resend_count", i64::from(attempt.number) - 1);
        attributes.text("network.protocol.version", "1.1");
        let failed = !reason.is_empty() || status >= 400;
        if failed {
            attributes.text("error.type", if reason.is_empty() { status.to_string() } else { reason.to_string() });
        }
        let ended = attempt.ended.unwrap_or(numbers.began + numbers.total);
        let id = attempt_span(numbers.span, attempt.number);
        Span {
            flags: SAMPLED | PARENT_IS_KNOWN,
            parent_span_id: numbers.span.to_be_bytes().to_vec(),
            kind: SpanKind::Client.into(),
            status: failed.then(|| error(reason.into_owned())),
            ..self.span(id, name, attempt.began, ended, attributes)
        }
    }

    /// What the origin is asked for; empty where nothing was sent.
    fn url(&self, endpoint: &str) -> String {
        let target = self.text(Text::Target);
        let scheme = if self.entry.numbers.upstream_tls { "https" } else { "http" };
        if target.starts_with('/') && !endpoint.starts_with("unix:") {
            format!("{scheme}://{endpoint}{target}")
        } else {
            String::new()
        }
    }

    fn span(&self, id: u64, name: &str, began: Duration, ended: Duration, attributes: Attributes) -> Span {
        Span {
            trace_id: self.trace.clone(),
            span_id: id.to_be_bytes().to_vec(),
            trace_state: self.text(Text::Tracestate),
            name: name.to_owned(),
            start_time_unix_nano: self.nanoseconds(began),
            end_time_unix_nano: self.nanoseconds(ended.max(began)),
            attributes: attributes.0,
            ..Span::default()
        }
    }
}

fn error(message: String) -> Status {
    Status { message, code: StatusCode::Error.into() }
}

/// Attributes; what is not known is left out.
#[derive(Default)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.add(key, Value::StringValue(value));
        }
    }

    pub(super) fn number(&mut self, key: &str, value: i64) {
        if value != 0 {
            self.add(key, Value::IntValue(value));
        }
    }

    /// Host and port, of which an address of a socket file has but one.
    fn address(&mut self, side: &str, address: &str) {
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (address, ""),
        };
        self.text(&format!("{side}.address"), host.trim_start_matches('[').trim_end_matches(']'));
        self.number(&format!("{side}.port"), port.parse().unwrap_or(0));
    }

    fn add(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}
