//! A comparison as one self-contained page with bar charts. Not here: its figures.

use super::measure::Measure;
use super::outcome::{Comparison, Outcome, Role, Row, Spread};
use super::table;
use crate::page::{self, escape};
use crate::report::Plot;

/// Geometry of a chart, in SVG units.
const WIDTH: f64 = 460.0;
const LABEL: f64 = 76.0;
const VALUE: f64 = 84.0;
const BAR: f64 = 20.0;
const STEP: f64 = 30.0;

/// A figure of a measurement.
type Value = fn(&Measure) -> f64;

/// One chart.
struct Chart {
    title: &'static str,
    /// Parts of a bar, stacked in this order.
    parts: &'static [(&'static str, Value)],
    /// Length of the whole bar.
    whole: Value,
}

const CHARTS: [Chart; 4] = [
    Chart {
        title: "CPU µs per exchange, user (faint) and system (less is better)",
        parts: &[("user", |measure| measure.user_us), ("system", |measure| measure.system_us)],
        whole: Measure::cpu_us,
    },
    Chart {
        title: "requests per second (more is better)",
        parts: &[("rate", |measure| measure.rate)],
        whole: |measure| measure.rate,
    },
    Chart {
        title: "p99.9 latency, ms (less is better)",
        parts: &[("tail", |measure| measure.p999_us / 1e3)],
        whole: |measure| measure.p999_us / 1e3,
    },
    Chart {
        title: "peak resident memory, MiB (less is better)",
        parts: &[("memory", |measure| measure.peak_kib as f64 / 1024.0)],
        whole: |measure| measure.peak_kib as f64 / 1024.0,
    },
];

/// The whole page.
pub(super) fn page(all: &Comparison) -> String {
    let mut body = format!(
        "<h1>cairn and its peers</h1>\n<p>{}</p>\n<p>{}</p>\n<p>{}</p>\n",
        escape(&table::machine(all)),
        escape(&table::method(all)),
        escape(table::REFERENCES)
    );
    for missing in &all.missing {
        body += &format!("<p class=\"left-out\">{} was not installed and is left out.</p>\n", missing.name);
    }
    for outcome in &all.outcomes {
        body += &section(outcome);
    }
    body += &curves(all);
    if all.interrupted {
        body += "<p class=\"left-out\">Interrupted: this is what there was.</p>\n";
    }
    page::page("cairn and its peers", &body)
}

/// The CPU time of an exchange over the rate; nothing where there were no open loops at several rates.
fn curves(all: &Comparison) -> String {
    let curves = all.curves();
    let rates = || curves.iter().flat_map(|curve| curve.points.iter().map(|(rate, _)| *rate));
    let Some(width) = rates().reduce(f64::max) else { return String::new() };
    let mut ticks: Vec<f64> = rates().collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let plot = Plot {
        title: "CPU µs per exchange over requests per second (less is better)",
        ticks: ticks.into_iter().map(|rate| (rate, format!("{rate:.0}/s"))).collect(),
        width,
        lines: curves.into_iter().zip('a'..='f').map(|(curve, class)| (curve.proxy, class, curve.points)).collect(),
        spreads: Vec::new(),
    };
    format!("<section>\n<h2>load</h2>\n{}</section>\n", plot.draw())
}

fn section(outcome: &Outcome) -> String {
    let mut text =
        format!("<section>\n<h2>{}</h2>\n<p>{}</p>\n", escape(outcome.scenario.name), escape(&table::heading(outcome)));
    let cairn = outcome.rows.iter().find(|row| row.role == Role::Cairn);
    if let Some(ratio) = cairn.and_then(|row| outcome.cpu_ratio(row)) {
        text += &format!("<p class=\"ratio\">cairn takes <b>{ratio:.2}</b> of the best peer's CPU</p>\n");
    }
    if !outcome.rows.is_empty() {
        let charts: String = CHARTS.iter().map(|chart| chart.draw(&outcome.rows)).collect();
        text += &format!("<div class=\"charts\">\n{charts}</div>\n");
    }
    for row in outcome.rows.iter().filter(|row| row.errors() + row.unsent() > 0) {
        text += &format!(
            "<p class=\"left-out\">{}: {} errors, {} requests unsent for want of a connection</p>\n",
            row.proxy,
            row.errors(),
            row.unsent()
        );
    }
    for line in table::handshakes(outcome) {
        text += &format!("<p>{}</p>\n", escape(&line));
    }
    for (proxy, why) in &outcome.failed {
        text += &format!("<p class=\"left-out\">{proxy} was left out: {}</p>\n", escape(why));
    }
    text + "</section>\n"
}

impl Chart {
    fn draw(&self, rows: &[Row]) -> String {
        let most = rows.iter().map(|row| row.spread(self.whole).max).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - LABEL - VALUE) / most;
        let bars: String = rows.iter().enumerate().map(|(at, row)| self.bar(row, at as f64 * STEP, scale)).collect();
        format!(
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">{bars}</svg></figure>\n",
            self.title,
            rows.len() as f64 * STEP,
            self.title,
        )
    }

    /// One proxy: its parts one behind the other, the spread over them, the value at the end.
    fn bar(&self, row: &Row, top: f64, scale: f64) -> String {
        let whole = row.spread(self.whole);
        let (middle, mut left) = (top + BAR / 2.0, LABEL);
        let mut text = format!("<text x=\"{}\" y=\"{middle}\" class=\"name\">{}</text>", LABEL - 8.0, row.proxy);
        // Medians of parts do not add up to the median of the whole, so the bar is divided in proportion to them.
        let sum: f64 = self.parts.iter().map(|(_, part)| row.spread(part).median).sum();
        for (class, part) in self.parts {
            let width = row.spread(part).median / sum.max(f64::MIN_POSITIVE) * whole.median * scale;
            let owner = if row.role == Role::Cairn { "cairn" } else { "peer" };
            text += &format!(
                "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" class=\"{class} {owner}\"/>"
            );
            left += width;
        }
        text + &whisker(whole, middle, scale)
            + &format!(
                "<text x=\"{:.1}\" y=\"{middle}\" class=\"value\">{}</text>",
                LABEL + whole.max * scale + 6.0,
                table::short(whole.median)
            )
    }
}

fn whisker(spread: Spread, middle: f64, scale: f64) -> String {
    let (from, to) = (LABEL + spread.min * scale, LABEL + spread.max * scale);
    format!("<path d=\"M{from:.1} {middle}H{to:.1}M{from:.1} {0}v6M{to:.1} {0}v6\" class=\"spread\"/>", middle - 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_to_scale() {
        let row = |proxy, role, rate| {
            let measure = |rate| Measure { rate, ..Measure::default() };
            let measures = vec![measure(rate), measure(rate * 0.5), measure(rate * 0.75)];
            Row { proxy, role, agreement: None, measures }
        };
        let svg = CHARTS[1].draw(&[row("cairn", Role::Cairn, 400.0), row("nginx", Role::Peer, 200.0)]);
        let room = WIDTH - LABEL - VALUE;
        for (width, class) in [(room * 0.75, "rate cairn"), (room * 0.375, "rate peer")] {
            assert!(svg.contains(&format!("width=\"{width:.1}\" height=\"20\" class=\"{class}\"")), "{svg}");
        }
        assert!(svg.contains(&format!("M76.0 10H{:.1}", LABEL + room)) || svg.contains("class=\"spread\""));
        assert!(svg.contains(">300<") && svg.contains(">150<"), "{svg}");
    }
}
