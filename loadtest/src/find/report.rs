//! What was found as text, as JSON, and as a page. Not here: measuring.

use std::time::Duration;

use serde_json::{Value, json};

use super::search::Figures;
use super::{Break, Found, Level, Step};
use crate::args::FindArguments;
use crate::page;
use crate::report::{Plot, SENT_LATE, round_step, time};

/// Share of its time in which a generator works that may be the limit itself.
const BUSY: f64 = 0.9;
/// Approximate number of labels on the axis of rates.
const LABELS: f64 = 8.0;
/// Latencies: name in the text, name in JSON, class in plots, value.
const LATENCIES: [(&str, &str, char, Latency); 3] = [
    ("p50", "p50_us", 'b', |figures| figures.p50),
    ("p99", "p99_us", 'a', |figures| figures.p99),
    ("p99.9", "p99_9_us", 'c', |figures| figures.p999),
];

type Latency = fn(&Figures) -> Duration;

/// Median, least and most of several values.
struct Spread<T> {
    median: T,
    least: T,
    most: T,
}

impl<T: Copy + PartialOrd> Spread<T> {
    /// None: there are no values.
    fn of(mut values: Vec<T>) -> Option<Self> {
        values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        let median = *values.get(values.len().checked_sub(1)? / 2)?;
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}

impl Level {
    fn spread(&self, of: Latency) -> Option<Spread<Duration>> {
        Spread::of(self.runs.iter().map(of).collect())
    }

    /// The rate that was due.
    fn rate(&self) -> f64 {
        Spread::of(self.runs.iter().map(|run| run.due).collect()).map_or(0.0, |spread| spread.median)
    }
}

/// The report as text.
pub(super) fn text(found: &Found, arguments: &FindArguments) -> String {
    let bound = found.bounds.p99.map_or_else(|| "-".into(), time);
    let mut text = format!(
        "{}: the highest rate that holds\n{}; {}\n\n\
         search, {} for each step; a rate does not hold if twice p99 is above {bound}, or errors and unsent are above {} %\n\
         {:>12} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>9} {:>6}\n",
        found.name,
        found.date,
        found.machine,
        time(arguments.step),
        found.bounds.failed * 100.0,
        "due/s",
        "sent/s",
        "answered/s",
        "p50",
        "p99",
        "p99.9",
        "late p99",
        "CPU",
        "",
    );
    for Step { figures, broken } in &found.steps {
        text +=
            &format!("{} {}\n", row(figures), broken.map_or("holds".into(), |why| format!("breaks: {}", why.name())));
    }
    text += &format!("maximum      {:.1}/s\n", found.most);
    if let Some(busy) = busiest(found).filter(|busy| *busy > BUSY) {
        text += &format!(
            "the generator's own CPUs were {:.0} % busy at it: they may be the limit; give it more --cpus\n",
            busy * 100.0
        );
    }
    text += &format!(
        "\nlatency at parts of it, {} each: median of {} (least–most)\n",
        time(arguments.measure),
        arguments.repeat
    );
    for level in &found.levels {
        text += &format!("{:>4.0} % {:>10.1}/s", level.part * 100.0, level.rate());
        for (name, _, _, of) in LATENCIES {
            let spread = level.spread(of).map(|spread| [spread.median, spread.least, spread.most].map(time));
            let [median, least, most] = spread.unwrap_or_default();
            text += &format!("  {name} {median} ({least}–{most})");
        }
        text += "\n";
    }
    text + &format!("\nlate: {SENT_LATE}\n")
}

fn row(figures: &Figures) -> String {
    format!(
        "{:>12.1} {:>12.1} {:>12.1} {:>10} {:>10} {:>10} {:>10} {:>7.0} % ",
        figures.due,
        figures.sent,
        figures.answered,
        time(figures.p50),
        time(figures.p99),
        time(figures.p999),
        time(figures.late),
        figures.busy * 100.0,
    )
}

/// How busy the generator was at the highest rate that held.
fn busiest(found: &Found) -> Option<f64> {
    let held = found.steps.iter().filter(|step| step.broken.is_none());
    held.map(|step| step.figures).max_by(|a, b| a.due.total_cmp(&b.due)).map(|figures| figures.busy)
}

/// The report for programs; times in microseconds, rates in requests a second.
pub(super) fn json(found: &Found, arguments: &FindArguments) -> String {
    let report = json!({
        "target": found.name,
        "date": found.date,
        "machine": found.machine.json(),
        "bounds": { "p99_us": found.bounds.p99.map(us), "failed": found.bounds.failed },
        "step_seconds": arguments.step.as_secs_f64(),
        "measure_seconds": arguments.measure.as_secs_f64(),
        "repeat": arguments.repeat,
        "maximum": found.most,
        "steps": found.steps.iter().map(step).collect::<Vec<_>>(),
        "levels": found.levels.iter().map(level).collect::<Vec<_>>(),
    });
    format!("{report}\n")
}

fn step(step: &Step) -> Value {
    let mut value = figures(&step.figures);
    value["broken"] = step.broken.map(Break::name).into();
    value
}

fn level(level: &Level) -> Value {
    let mut value = json!({
        "part": level.part,
        "rate": level.rate(),
        "runs": level.runs.iter().map(figures).collect::<Vec<_>>(),
    });
    for (_, name, _, of) in LATENCIES {
        let spread = level.spread(of);
        value[name] = spread
            .map(|spread| json!({ "median": us(spread.median), "least": us(spread.least), "most": us(spread.most) }))
            .into();
    }
    value
}

fn figures(figures: &Figures) -> Value {
    let mut value = json!({
        "due_per_second": figures.due,
        "sent_per_second": figures.sent,
        "answered_per_second": figures.answered,
        "errors": figures.errors,
        "unsent": figures.unsent,
        "late_p99_us": us(figures.late),
        "generator_busy": figures.busy,
    });
    for (_, name, _, of) in LATENCIES {
        value[name] = us(of(figures)).into();
    }
    value
}

fn us(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

/// The page.
pub(super) fn page(found: &Found, arguments: &FindArguments) -> String {
    let mut body = format!(
        "<h1>cairn-load find</h1>\n<p>{}; {}</p>\n<pre>{}</pre>\n",
        page::escape(&found.date),
        page::escape(&found.machine.to_string()),
        page::escape(&text(found, arguments))
    );
    body += &latency_plot(found, "latency over rate, ms: medians, least and most of the repetitions").draw();
    let held: Vec<Figures> = found.steps.iter().filter(|step| step.broken.is_none()).map(|step| step.figures).collect();
    body += &steps_plot(held, found.most).draw();
    page::page(&format!("cairn-load find {}", found.name), &body)
}

fn latency_plot(found: &Found, title: &'static str) -> Plot {
    let (mut lines, mut spreads) = (Vec::new(), Vec::new());
    for (name, _, class, of) in LATENCIES {
        let points = found.levels.iter().filter_map(|level| Some((level.rate(), level.spread(of)?)));
        let points: Vec<_> = points.collect();
        lines.push((name, class, points.iter().map(|(rate, spread)| (*rate, ms(spread.median))).collect()));
        spreads.extend(points.iter().map(|(rate, spread)| (*rate, ms(spread.least), ms(spread.most))));
    }
    Plot { title, ticks: rates(found.most), width: found.most, lines, spreads }
}

fn steps_plot(mut held: Vec<Figures>, most: f64) -> Plot {
    held.sort_by(|a, b| a.due.total_cmp(&b.due));
    let line = |of: Latency| held.iter().map(|figures| (figures.due, ms(of(figures)))).collect();
    let lines = LATENCIES.iter().map(|(name, _, class, of)| (*name, *class, line(*of))).collect();
    let title = "latency over rate, ms: steps of the search that held, once each";
    Plot { title, ticks: rates(most), width: most, lines, spreads: Vec::new() }
}

fn rates(most: f64) -> Vec<(f64, String)> {
    let step = round_step(most / LABELS);
    (0..=(most / step) as u32).map(|number| f64::from(number) * step).map(|rate| (rate, format!("{rate}/s"))).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_values_themselves() {
        let spread = |values: &[u32]| Spread::of(values.to_vec()).map(|s| (s.least, s.median, s.most));
        assert_eq!(
            [&[][..], &[4], &[3, 1, 2], &[4, 1]].map(spread),
            [None, Some((4, 4, 4)), Some((1, 2, 3)), Some((1, 1, 4))]
        );
    }
}
