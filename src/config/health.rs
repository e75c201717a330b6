//! `[cluster.health]` to [`HealthSpec`]. Not here: checking (`control`).

use std::ops::RangeInclusive;

use super::bounds::Bounds;
use super::report::Problems;
use super::section::{Section, Text};
use super::status;
use crate::cluster::{CheckKind, HealthSpec, HttpCheck, Initial};

/// Reads the health checks of a cluster; None: it has none.
pub(super) fn health(cluster: Section<'_>, bounds: &Bounds, problems: &mut Problems) -> Option<HealthSpec> {
    if !cluster.flag("health") && cluster.table("health").is_none() {
        return None;
    }
    let section = cluster.one("health");
    let kind = match section.word("kind") {
        "tcp" => {
            only_http(section, problems);
            CheckKind::Tcp
        }
        "grpc" => CheckKind::Grpc(grpc(cluster, section, problems)),
        _ => {
            if section.alone().has("service") {
                problems
                    .add(section.span("service"), "`service` does nothing in a check of HTTP")
                    .help("leave it out, or write `kind = \"grpc\"`");
            }
            CheckKind::Http(http(section, problems))
        }
    };
    let interval = bounds.timeout(section, "interval", problems).unwrap_or_else(|| section.time("interval"));
    let timeout = bounds.timeout(section, "timeout", problems).unwrap_or_else(|| section.time("timeout"));
    let count = |key: &str| u32::try_from(section.number(key)).unwrap_or(u32::MAX);
    let initial = match section.word("initial") {
        "down" => Initial::Down,
        "wait" => Initial::Wait,
        _ => Initial::Up,
    };
    Some(HealthSpec { kind, interval, timeout, rise: count("rise"), fall: count("fall"), initial })
}

/// Reports keys of a check that asks for nothing.
fn only_http(section: Section<'_>, problems: &mut Problems) {
    for key in ["path", "host", "method", "headers", "expect", "body", "service"] {
        if section.alone().has(key) {
            let kind = if key == "service" { "grpc" } else { "http" };
            problems
                .add(section.span(key), format!("`{key}` does nothing where only a connection is made"))
                .help(format!("leave it out, or write `kind = \"{kind}\"`"));
        }
    }
}

/// The service that a check of gRPC asks for; empty: the server as a whole.
fn grpc(cluster: Section<'_>, section: Section<'_>, problems: &mut Problems) -> String {
    if cluster.word("protocol") == "http1" {
        problems
            .add(section.span("kind"), "gRPC is spoken over HTTP/2, and the cluster speaks HTTP/1.1")
            .help("set the cluster's `protocol = \"http2\"`, or \"auto\" with TLS");
    }
    for key in ["path", "method", "headers", "expect", "body"] {
        if section.alone().has(key) {
            problems
                .add(section.span(key), format!("`{key}` does nothing in a check of gRPC"))
                .help("leave it out: `service` says what is asked for, or write `kind = \"http\"`");
        }
    }
    section.text("service").map(|text| text.value.to_owned()).unwrap_or_default()
}

fn http(section: Section<'_>, problems: &mut Problems) -> HttpCheck {
    let path = section.word("path");
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !plain(path) || path.contains('#') {
        let help = match path.split_once('#') {
            Some((before, _)) if before.starts_with('/') && plain(path) => {
                format!("what is behind # is never sent: write \"{before}\"")
            }
            _ => "it begins with / and has no spaces: \"/healthz\"".to_owned(),
        };
        problems.add(section.span("path"), format!("\"{}\" is not a path", path.escape_debug())).help(help);
    }
    let named = section.text("host");
    if let Some(text) = named.filter(|text| text.value.is_empty() || !plain(text.value)) {
        problems
            .add(text.at, format!("\"{}\" is not a host", text.shown.escape_debug()))
            .help("write a name, with a port if it needs one");
    }
    let expect: Vec<_> = section.texts("expect").into_iter().filter_map(|text| statuses(text, problems)).collect();
    if section.length("expect") == Some(0) {
        problems.add(section.span("expect"), "no answer would be good").help("write at least one status: [\"2xx\"]");
    }
    let body = section.text("body");
    if let Some(text) = body.filter(|text| !text.value.is_empty()) {
        bodiless(section, text, &expect, problems);
    }
    HttpCheck {
        path: path.to_owned(),
        host: named.map(|text| text.value.to_owned()),
        method: section.word("method").to_owned(),
        headers: super::field::fields(&section.fields("headers"), problems),
        expect,
        body: body.map(|text| text.value.to_owned()),
    }
}

/// Reports a body that no good answer can have.
fn bodiless(section: Section<'_>, text: Text<'_>, expect: &[RangeInclusive<u16>], problems: &mut Problems) {
    let empty = |range: &RangeInclusive<u16>| range.clone().all(|status| matches!(status, 204 | 304));
    if section.word("method") == "HEAD" {
        problems
            .add(text.at, "no answer to HEAD has a body, so no check would be good")
            .note(section.span("method"), "the method is here")
            .help("leave `body` out, or use the method \"GET\"");
    } else if !expect.is_empty() && expect.iter().all(empty) {
        problems
            .add(text.at, "no answer with 204 or 304 has a body, so no check would be good")
            .note(section.span("expect"), "the statuses are here")
            .help("leave `body` out, or expect another status");
    }
}

/// `200` or `2xx`.
fn statuses(text: Text<'_>, problems: &mut Problems) -> Option<RangeInclusive<u16>> {
    let range = status::range(text.value).filter(|range| *range.start() >= 200);
    if range.is_none() {
        problems
            .add(text.at, format!("\"{}\" is no status of an answer", text.shown.escape_debug()))
            .help("write \"200\", or \"2xx\" to \"5xx\"");
    }
    range
}
