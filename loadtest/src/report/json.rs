//! A run's report for programs; times in microseconds. Not here: measuring.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{QUANTILES, cpu_us, rate_of};
use crate::histogram::Histogram;
use crate::machine::{Machine, time_of_day};
use crate::run::{Failure, Outcome, Second};

/// The report for programs; times in microseconds.
pub(crate) fn json(outcome: &Outcome) -> String {
    let Outcome { plan, counts, series } = outcome;
    let (due, sent) = outcome.rates();
    let seconds = counts.elapsed.as_secs_f64();
    let rate = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    let mut by_class = Map::new();
    for failure in Failure::ALL {
        by_class.insert(failure.name().into(), counts.errors(failure).into());
    }
    let report = json!({
        "target": plan.name,
        "loop": if plan.is_open() { "open" } else { "closed" },
        "rate": rate_of(plan),
        "steps": plan.steps.iter().map(|step| json!([step.from, step.to])).collect::<Vec<_>>(),
        "due_per_second": plan.is_open().then_some(due),
        "sent_per_second": sent,
        "date": time_of_day(),
        "machine": Machine::here(None).json(),
        "poisson": plan.poisson,
        "connections": plan.connections,
        "pipeline": plan.pipeline,
        "http2": plan.http2,
        "stream_resets": counts.stream_resets,
        "goaways": counts.goaways,
        "close": plan.close,
        "threads": plan.threads,
        "interrupted": counts.interrupted,
        "elapsed_seconds": seconds,
        "sent": counts.sent,
        "answered": counts.latency.count(),
        "unanswered": counts.unanswered,
        "unsent": counts.unsent,
        "errors": by_class,
        "requests_per_second": rate(counts.latency.count() as f64),
        "handshakes": counts.handshakes,
        "resumed": counts.resumed,
        "retried": counts.retried,
        "agreed": plan.agreements(),
        "received_bytes": counts.received_bytes,
        "received_bytes_per_second": rate(counts.received_bytes as f64),
        "latency_us": latencies(&counts.latency),
        "late_us": plan.is_open().then(|| latencies(&counts.late)),
        "seconds": series.seconds().iter().map(second).collect::<Vec<_>>(),
        "generator": { "cpu_seconds": counts.cpu.as_secs_f64(), "cpu_us_per_request": cpu_us(counts) },
    });
    format!("{report}\n")
}

fn latencies(histogram: &Histogram) -> Value {
    let mut map = Map::new();
    for (_, name, part) in QUANTILES {
        map.insert(name.into(), us(histogram.quantile(part)).into());
    }
    map.insert("max".into(), us(histogram.max()).into());
    map.insert("mean".into(), us(histogram.mean()).into());
    // Pairs: the longest latency of a bucket, and its requests.
    map.insert("buckets".into(), histogram.buckets().map(|(longest, count)| json!([us(longest), count])).collect());
    Value::Object(map)
}

fn second(second: &Second) -> Value {
    let &Second { at, answered, errors, p50, p99, max } = second;
    json!({ "at": at, "answered": answered, "errors": errors, "p50_us": us(p50), "p99_us": us(p99), "max_us": us(max) })
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}
