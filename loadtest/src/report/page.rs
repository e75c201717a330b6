//! A run as a page: the report, latency by percentile, and rate and latency over time. Not here: drawing (`plot`).

use std::time::Duration;

use super::plot::{Plot, round_step};
use crate::histogram::Histogram;
use crate::machine::{Machine, time_of_day};
use crate::page;
use crate::run::{Outcome, Second, Step};

/// Approximate number of labels on the axis of time.
const TIMES: f64 = 12.0;

/// The page.
pub(crate) fn page(outcome: &Outcome) -> String {
    let mut body = format!(
        "<h1>cairn-load</h1>\n<p>{}; {}</p>\n<pre>{}</pre>\n",
        time_of_day(),
        page::escape(&Machine::here(None).to_string()),
        page::escape(&super::text(outcome))
    );
    if outcome.counts.latency.count() > 0 {
        body += &by_percentile(&outcome.counts.latency).draw();
    }
    let seconds = whole(outcome.series.seconds(), outcome.counts.elapsed);
    if seconds.len() > 1 {
        over_time(seconds, &outcome.plan.steps).iter().for_each(|plot| body += &plot.draw());
    }
    page::page(&format!("cairn-load {}", outcome.plan.name), &body)
}

/// Along the axis each step is a tenth of the requests of the one before: 90 %, 99 %, 99.9 %, to the last request.
fn by_percentile(latency: &Histogram) -> Plot {
    let count = latency.count() as f64;
    let mut below = 0.0;
    let points: Vec<(f64, f64)> = latency
        .buckets()
        .map(|(longest, requests)| {
            below += requests as f64;
            // Behind the last request there is none; half a request stands for it on the logarithmic axis.
            let place = (count / (count - below).max(0.5)).log10();
            (place, milliseconds(longest))
        })
        .collect();
    let width = points.last().map_or(1.0, |(place, _)| place.max(1.0));
    let nines = (1..=width as usize).map(|nines| {
        let name = if nines == 1 {
            "90 %".into()
        } else {
            format!("99{}{} %", if nines > 2 { "." } else { "" }, "9".repeat(nines - 2))
        };
        (nines as f64, name)
    });
    let ticks = [(0.0, "0 %".to_owned()), (2f64.log10(), "50 %".to_owned())].into_iter().chain(nines).collect();
    let start = points.first().map_or(0.0, |(_, value)| *value);
    let points = [(0.0, start)].into_iter().chain(points).collect();
    Plot {
        title: "latency by percentile, ms",
        ticks,
        width,
        lines: vec![("all answers", 'a', points)],
        spreads: Vec::new(),
    }
}

/// The seconds without the last, if that is incomplete: its few answers would look like a drop.
fn whole(seconds: &[Second], elapsed: Duration) -> &[Second] {
    &seconds[..seconds.partition_point(|second| second.at < elapsed.as_secs())]
}

fn over_time(seconds: &[Second], steps: &[Step]) -> [Plot; 2] {
    let width = seconds.len() as f64;
    let step = round_step(width / TIMES).max(1.0);
    let ticks: Vec<(f64, String)> = (0..=(width / step) as u32)
        .map(|number| (f64::from(number) * step, format!("{} s", f64::from(number) * step)))
        .collect();
    let line = |value: fn(&Second) -> f64| {
        seconds.iter().map(|second| (second.at as f64 + 0.5, value(second))).collect::<Vec<_>>()
    };
    let mut rates = vec![
        ("answered", 'a', line(|second| second.answered as f64)),
        ("errors", 'b', line(|second| second.errors as f64)),
    ];
    if !steps.is_empty() {
        let due = seconds.iter().map(|second| second.at as f64 + 0.5);
        rates.push(("due", 'c', due.map(|at| (at, due_at(steps, at))).collect()));
    }
    let latencies = vec![
        ("longest", 'c', line(|second| milliseconds(second.max))),
        ("p99", 'a', line(|second| milliseconds(second.p99))),
        ("p50", 'b', line(|second| milliseconds(second.p50))),
    ];
    [
        Plot {
            title: "answers in each second, and requests due",
            ticks: ticks.clone(),
            width,
            lines: rates,
            spreads: Vec::new(),
        },
        Plot { title: "latency in each second, ms", ticks, width, lines: latencies, spreads: Vec::new() },
    ]
}

/// Requests a second that are due after so many seconds; 0 behind the last step.
fn due_at(steps: &[Step], mut at: f64) -> f64 {
    for step in steps {
        let seconds = step.duration.as_secs_f64();
        if at < seconds {
            return step.from + (step.to - step.from) * at / seconds;
        }
        at -= seconds;
    }
    0.0
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_that_are_due_follow_the_steps() {
        let step = |seconds, from, to| Step { duration: Duration::from_secs(seconds), from, to };
        let steps = [step(2, 10.0, 10.0), step(4, 10.0, 30.0)];
        assert_eq!([0.5, 2.0, 4.0, 7.0].map(|at| due_at(&steps, at)), [10.0, 10.0, 20.0, 0.0]);
        assert_eq!(due_at(&[Step { duration: Duration::MAX, from: 7.0, to: 7.0 }], 5.0), 7.0);
    }

    #[test]
    fn a_second_that_was_cut_off_is_not_drawn() {
        let (none, at) = (Duration::ZERO, [0, 1, 2]);
        let seconds = at.map(|at| Second { at, answered: 9, errors: 0, p50: none, p99: none, max: none });
        let drawn = |ms| whole(&seconds, Duration::from_millis(ms)).len();
        assert_eq!([900, 2003, 2999, 3000].map(drawn), [0, 2, 2, 3]);
    }
}
