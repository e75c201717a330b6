//! The keys of `[trace]` and `[otlp]`. Not here: what they mean (`trace`).

use super::cluster_tables::SYSTEM;
use super::schema::{Kind, Preset, Table};
use super::tables::{key, seconds};

pub(super) static TRACE: Table = Table {
    title: "[trace]",
    doc: "Traceparent and Tracestate (W3C Trace Context), by which the traces of several processes are joined.",
    keys: &[
        key(
            "accept",
            Kind::Word(&["any", "trusted", "none"]),
            Preset::Word("any"),
            "any | trusted | none: whose are believed; trusted: those of trusted_proxies of the listener. What is not believed is replaced",
        ),
        key(
            "make",
            Kind::Flag,
            Preset::Flag(true),
            "requests without a valid Traceparent get one, not sampled; false: what is behind begins their traces",
        ),
        key("b3", Kind::Flag, Preset::Flag(false), "read b3 and X-B3-* (Zipkin) where there is no valid Traceparent"),
    ],
    choices: &[],
};

pub(super) static OTLP: Table = Table {
    title: "[otlp]",
    doc: "Where spans go, over HTTP in protobuf (OTLP): one for each exchange and for each attempt. Without this table none are recorded.",
    keys: &[
        key(
            "endpoint",
            Kind::Text,
            Preset::Required("\"http://127.0.0.1:4318\""),
            "URL of the collector, http or https; /v1/traces is appended",
        ),
        key(
            "sample",
            Kind::Ratio,
            Preset::Ratio(1.0),
            "share of the traces that begin here that is recorded; those that a request brings are as it says",
        ),
        key("headers", Kind::Fields, Preset::Optional("{ x-api-key = \"${env:OTLP_KEY}\" }"), "sent besides"),
        key("service", Kind::Text, Preset::Word("cairn"), "the name of this process there, service.name"),
        key(
            "ca",
            Kind::Path,
            Preset::Word(SYSTEM),
            "file with the authorities that are trusted, in PEM; \"system\": those of this machine, else Mozilla's as of the build",
        ),
        key("interval", Kind::Time, seconds(1), "how long spans wait for others"),
        key("timeout", Kind::Time, seconds(10), "how long the collector may take to answer"),
    ],
    choices: &[],
};
