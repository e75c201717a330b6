//! `[trace]`: whose trace context is believed, and who gets one; `[otlp]`: where spans go. Not here: reading and writing contexts
//! (`crate::trace`), and exporting (`observer`).

use std::sync::Arc;

use super::external::External;
use super::report::Problems;
use super::section::{Section, Text};
use super::{field, tls};
use crate::observer::{Collector, ExportSpec};
use crate::tls::ServerName;
use crate::trace::{Accept, Sampling, TraceSpec};

/// Port of OTLP over HTTP.
const PORT: &str = "4318";
/// Where collectors take traces.
const TRACES: &str = "/v1/traces";

/// The rules for trace contexts, by the tables.
pub(super) fn trace(section: Section<'_>, otlp: Option<Section<'_>>) -> TraceSpec {
    let accept = match section.word("accept") {
        "trusted" => Accept::Trusted,
        "none" => Accept::None,
        _ => Accept::Any,
    };
    let sampling = otlp.map(|otlp| Sampling::of(otlp.ratio("sample").unwrap_or(1.0)));
    TraceSpec { accept, make: section.flag("make"), b3: section.flag("b3"), sampling }
}

/// Where spans go, by the table, which is there. None: it has problems.
pub(super) fn export(
    section: Section<'_>,
    external: &mut External,
    problems: &mut Problems,
) -> Option<Arc<ExportSpec>> {
    let headers = field::fields(&section.fields("headers"), problems);
    let text = section.text("endpoint")?;
    let collector = collector(text, section, external, problems)?;
    Some(Arc::new(ExportSpec {
        collector,
        headers,
        service: section.word("service").to_owned(),
        interval: section.time("interval"),
        timeout: section.time("timeout"),
    }))
}

fn collector(
    text: Text<'_>,
    section: Section<'_>,
    external: &mut External,
    problems: &mut Problems,
) -> Option<Collector> {
    let (scheme, rest) = text.value.split_once("://").unwrap_or(("", text.value));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let secure = scheme == "https";
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, PORT),
    };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@".contains(&byte));
    let cure = if !secure && scheme != "http" {
        Some(match scheme {
            "" => format!("write \"http://{}\"", text.shown.escape_debug()),
            _ => "cairn speaks OTLP over HTTP: write \"http://127.0.0.1:4318\"".to_owned(),
        })
    } else if path.ends_with(TRACES) {
        Some(format!("leave {TRACES} out: it is appended"))
    } else if host.is_empty() || port.parse::<u16>().ok().is_none_or(|port| port == 0) || !plain(rest) {
        Some("write scheme, host, port and perhaps a path: \"http://127.0.0.1:4318\"".to_owned())
    } else {
        None
    };
    if let Some(cure) = cure {
        let why = format!("\"{}\" is no URL of a collector", text.shown.escape_debug());
        problems.add(text.at, why).help(cure);
        return None;
    }
    if section.has("ca") && !secure {
        problems
            .add(section.span("ca"), "`ca` says nothing where nothing is encrypted")
            .note(text.at, "the scheme is http")
            .help("leave it out, or write https");
    }
    let tls = if secure {
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).ok();
        if name.is_none() {
            problems
                .add(text.at, format!("\"{}\" has no name that a certificate could have", text.shown.escape_debug()))
                .help("write the name that stands in the certificate of the collector");
        }
        Some((tls::collector(section, external, problems)?, name?))
    } else {
        None
    };
    Some(Collector {
        authority: format!("{host}:{port}"),
        path: format!("{}{TRACES}", path.trim_end_matches('/')),
        tls,
    })
}
