//! Reports of a run: as text here, as JSON in `json`, as a page in `page`. Not here: measuring.

mod json;
mod page;
mod plot;

use std::time::Duration;

use crate::histogram::Histogram;
use crate::run::{Failure, Outcome, Plan, RunCounts};
pub(crate) use json::json;
pub(crate) use page::page;
pub(crate) use plot::{Plot, round_step};

/// Quantiles of a report: name in the text, name in JSON, value.
const QUANTILES: [(&str, &str, f64); 4] =
    [("p50", "p50", 0.5), ("p90", "p90", 0.9), ("p99", "p99", 0.99), ("p99.9", "p99_9", 0.999)];

/// What the times of requests that were sent late are.
pub(crate) const SENT_LATE: &str = "from when a request was due until it was sent: the generator was busy, or no connection was free; latencies \
     include it";

/// The report as text.
pub(crate) fn text(outcome: &Outcome) -> String {
    let Outcome { plan, counts, .. } = outcome;
    let seconds = counts.elapsed.as_secs_f64();
    let answered = counts.latency.count();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut text = format!(
        "{}: {}, {} connection{}{}, {} thread{}, {}{}\n",
        plan.name,
        loop_name(plan),
        plan.connections,
        plural(plan.connections),
        match &**plan {
            Plan { close: true, .. } => " (one request each)".into(),
            Plan { http2: true, pipeline, .. } => format!(" of HTTP/2, {pipeline} stream{} each", plural(*pipeline)),
            _ => String::new(),
        },
        plan.threads,
        plural(plan.threads),
        time(counts.elapsed),
        if counts.interrupted { ", interrupted" } else { "" },
    );
    let rate = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    text += &format!("answered    {answered} of {}, {:.1}/s\n", counts.sent, rate(answered as f64));
    if plan.is_open() {
        let (due, sent) = outcome.rates();
        text += &format!("rate        {due:.1}/s due, {sent:.1}/s sent\n");
    }
    let received = counts.received_bytes as f64;
    text += &format!("received    {}, {}/s\n", size(received), size(rate(received)));
    text += &format!("latency     {}\n", quantiles(&counts.latency));
    if plan.is_open() {
        text += &format!("sent late   {}\n            ({SENT_LATE})\n", quantiles(&counts.late));
    }
    if counts.handshakes > 0 {
        let retried = if counts.retried > 0 { format!(", {} asked twice", counts.retried) } else { String::new() };
        text += &format!("handshakes  {}, {} of them resumed{retried}\n", counts.handshakes, counts.resumed);
    }
    for agreement in plan.agreements() {
        text += &format!("agreed on   {agreement}\n");
    }
    text += &format!("errors      {}\n", errors(counts));
    if plan.http2 {
        text += &format!("streams     {} reset by the server, {} GOAWAY\n", counts.stream_resets, counts.goaways);
    }
    if counts.unanswered > 0 {
        text += &format!("unanswered  {} when interrupted\n", counts.unanswered);
    }
    if counts.unsent > 0 {
        text += &format!(
            "unsent      {} were due but found no free connection: the true latencies are longer\n",
            counts.unsent
        );
    }
    text += &format!(
        "generator   {:.2} µs CPU a request, {:.0} % of {} CPU{}\n",
        cpu_us(counts),
        100.0 * rate(counts.cpu.as_secs_f64()) / plan.threads as f64,
        plan.threads,
        plural(plan.threads),
    );
    text
}

/// The errors by class.
pub(crate) fn errors(counts: &RunCounts) -> String {
    let classes = Failure::ALL.into_iter().filter(|failure| counts.errors(*failure) > 0);
    let parts: Vec<String> = classes.map(|failure| format!("{} {}", failure.name(), counts.errors(failure))).collect();
    match counts.all_errors() {
        0 => "0".into(),
        all => format!("{all} ({})", parts.join(", ")),
    }
}

fn loop_name(plan: &Plan) -> String {
    let poisson = if plan.poisson { " Poisson" } else { "" };
    match (plan.is_open(), rate_of(plan)) {
        (false, _) => "closed loop".into(),
        (true, Some(rate)) => format!("open loop, {rate}/s{poisson}"),
        (true, None) => format!("open loop, {} steps{poisson}", plan.steps.len()),
    }
}

/// The rate, if it is constant.
fn rate_of(plan: &Plan) -> Option<f64> {
    let rate = plan.steps.first()?.from;
    plan.steps.iter().all(|step| (step.from, step.to) == (rate, rate)).then_some(rate)
}

fn quantiles(histogram: &Histogram) -> String {
    if histogram.count() == 0 {
        return "-".into();
    }
    let parts: Vec<String> =
        QUANTILES.iter().map(|(name, _, part)| format!("{name} {}", time(histogram.quantile(*part)))).collect();
    format!("{}  max {}  mean {}", parts.join("  "), time(histogram.max()), time(histogram.mean()))
}

fn cpu_us(counts: &RunCounts) -> f64 {
    counts.cpu.as_secs_f64() * 1e6 / counts.sent.max(1) as f64
}

/// Three or four significant digits.
pub(crate) fn time(time: Duration) -> String {
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
