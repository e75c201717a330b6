//! What a run has shown, for people and as JSON. Not here: measuring.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::histogram::Histogram;
use crate::run::{Failure, Plan, Tally};

/// Quantiles of a report: name in the text, name in JSON, value.
const QUANTILES: [(&str, &str, f64); 4] =
    [("p50", "p50", 0.5), ("p90", "p90", 0.9), ("p99", "p99", 0.99), ("p99.9", "p99_9", 0.999)];

/// The report for people.
pub(crate) fn text(plan: &Plan, tally: &Tally) -> String {
    let seconds = tally.elapsed.as_secs_f64();
    let answered = tally.latency.count();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut text = format!(
        "{}: {}, {} connection{}{}, {} thread{}, {}{}\n",
        plan.name,
        loop_name(plan),
        plan.connections,
        plural(plan.connections),
        if plan.close { " (one request each)" } else { "" },
        plan.threads,
        plural(plan.threads),
        time(tally.elapsed),
        if tally.interrupted { ", interrupted" } else { "" },
    );
    let rate = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    text += &format!("answered    {answered} of {}, {:.1}/s\n", tally.sent, rate(answered as f64));
    let received = tally.received_bytes as f64;
    text += &format!("received    {}, {}/s\n", size(received), size(rate(received)));
    text += &format!("latency     {}\n", quantiles(&tally.latency));
    if plan.rate.is_some() {
        text += &format!("sent late   {}\n", quantiles(&tally.late));
    }
    text += &format!("errors      {}\n", errors(tally));
    if tally.unanswered > 0 {
        text += &format!("unanswered  {} when interrupted\n", tally.unanswered);
    }
    if tally.unsent > 0 {
        text += &format!(
            "unsent      {} were due but found no free connection: the true latencies are longer\n",
            tally.unsent
        );
    }
    text += &format!(
        "generator   {:.2} µs CPU a request, {:.0} % of {} CPU{}\n",
        cpu_us(tally),
        100.0 * rate(tally.cpu.as_secs_f64()) / plan.threads as f64,
        plan.threads,
        plural(plan.threads),
    );
    text
}

/// The report for programs; times in microseconds.
pub(crate) fn json(plan: &Plan, tally: &Tally) -> String {
    let seconds = tally.elapsed.as_secs_f64();
    let rate = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    let mut by_class = Map::new();
    for failure in Failure::ALL {
        by_class.insert(failure.name().into(), tally.errors(failure).into());
    }
    let report = json!({
        "target": plan.name,
        "loop": if plan.rate.is_some() { "open" } else { "closed" },
        "rate": plan.rate,
        "poisson": plan.poisson,
        "connections": plan.connections,
        "pipeline": plan.pipeline,
        "close": plan.close,
        "threads": plan.threads,
        "interrupted": tally.interrupted,
        "elapsed_seconds": seconds,
        "sent": tally.sent,
        "answered": tally.latency.count(),
        "unanswered": tally.unanswered,
        "unsent": tally.unsent,
        "errors": by_class,
        "requests_per_second": rate(tally.latency.count() as f64),
        "received_bytes": tally.received_bytes,
        "received_bytes_per_second": rate(tally.received_bytes as f64),
        "latency_us": latencies(&tally.latency),
        "late_us": plan.rate.map(|_| latencies(&tally.late)),
        "generator": { "cpu_seconds": tally.cpu.as_secs_f64(), "cpu_us_per_request": cpu_us(tally) },
    });
    format!("{report}\n")
}

/// The errors by class.
pub(crate) fn errors(tally: &Tally) -> String {
    let classes = Failure::ALL.into_iter().filter(|failure| tally.errors(*failure) > 0);
    let parts: Vec<String> = classes.map(|failure| format!("{} {}", failure.name(), tally.errors(failure))).collect();
    match tally.all_errors() {
        0 => "0".into(),
        all => format!("{all} ({})", parts.join(", ")),
    }
}

fn loop_name(plan: &Plan) -> String {
    match plan.rate {
        None => "closed loop".into(),
        Some(rate) => format!("open loop, {rate}/s{}", if plan.poisson { " Poisson" } else { "" }),
    }
}

fn quantiles(histogram: &Histogram) -> String {
    if histogram.count() == 0 {
        return "-".into();
    }
    let parts: Vec<String> =
        QUANTILES.iter().map(|(name, _, part)| format!("{name} {}", time(histogram.quantile(*part)))).collect();
    format!("{}  max {}  mean {}", parts.join("  "), time(histogram.max()), time(histogram.mean()))
}

fn latencies(histogram: &Histogram) -> Value {
    let us = |time: Duration| time.as_nanos() as f64 / 1000.0;
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

fn cpu_us(tally: &Tally) -> f64 {
    tally.cpu.as_secs_f64() * 1e6 / tally.sent.max(1) as f64
}

/// Three or four significant digits.
fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1e-3 => format!("{:.1} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let steps = (bytes.max(1.0).log2() / 10.0).floor().min(3.0);
    format!("{:.1} {}", bytes / 1024f64.powf(steps), units[steps as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        let times = [1500, 999_000, 1_000_000, 1_500_000_000].map(|ns| time(Duration::from_nanos(ns)));
        assert_eq!(times, ["1.5 µs", "999.0 µs", "1.00 ms", "1.50 s"]);
        assert_eq!([0.0, 1023.0, 2048.0, 5e12].map(size), ["0.0 B", "1023.0 B", "2.0 KiB", "4656.6 GiB"]);
    }
}
