//! Spans that wait to be exported, as one message of OTLP. Not here: who sends it (`exporter`).

use std::collections::VecDeque;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::spans::Attributes;

/// Most spans of a message.
const SPANS: usize = 1024;
/// The version of the conventions that attributes follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.30.0";

/// A message that was not sent yet, or not taken.
pub(super) struct Batch {
    pub(super) bytes: hyper::body::Bytes,
    pub(super) spans: u64,
}

/// Whether the spans suffice for a message of full length.
pub(super) fn is_full(waiting: &VecDeque<Span>) -> bool {
    waiting.len() >= SPANS
}

/// Takes the first spans. None: there are none.
pub(super) fn take(waiting: &mut VecDeque<Span>, service: &str) -> Option<Batch> {
    let spans: Vec<Span> = waiting.drain(..waiting.len().min(SPANS)).collect();
    if spans.is_empty() {
        return None;
    }
    let count = spans.len() as u64;
    let scope = InstrumentationScope {
        name: "cairn".to_owned(),
        version: VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(service)),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA.to_owned() }],
            schema_url: SCHEMA.to_owned(),
        }],
    };
    Some(Batch { bytes: request.encode_to_vec().into(), spans: count })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn resource(service: &str) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", service);
    attributes.text("service.version", VERSION);
    attributes.text("host.name", rustix::system::uname().nodename().to_string_lossy());
    attributes.number("process.pid", std::process::id().into());
    attributes.text("telemetry.sdk.name", "cairn");
    attributes.text("telemetry.sdk.language", "rust");
    attributes.text("telemetry.sdk.version", VERSION);
    Resource { attributes: attributes.0, ..Resource::default() }
}

/// How many spans of a message the collector has refused that took the others, and why; an answer that cannot be read refuses none.
pub(super) fn rejected(answer: &[u8]) -> (u64, String) {
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    let partial = partial.unwrap_or_default();
    (u64::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message)
}
