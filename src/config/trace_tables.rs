//! The keys of `[trace]`. Not here: what they mean (`trace`).

use super::schema::{Kind, Preset, Table};
use super::tables::key;

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
