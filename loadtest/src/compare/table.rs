//! A comparison as text. Not here: its figures.

use super::measure::Measure;
use super::outcome::{Comparison, Outcome, Row, Spread};

/// What the rows are that are no proxy.
pub(super) const REFERENCES: &str = "floor: bytes passed on as they are, on the ring that cairn uses; direct: no proxy, CPU time and memory are the origin's";

/// The whole report.
pub(super) fn text(all: &Comparison) -> String {
    let mut text = format!("{}\n{}\n{REFERENCES}\n", machine(all), method(all));
    for missing in &all.missing {
        text += &format!("{} is not installed and left out: {}\n", missing.name, missing.install);
    }
    for outcome in &all.outcomes {
        text += &table(outcome);
    }
    text += &curves(all);
    if all.interrupted {
        text += "\ninterrupted: this is what there was\n";
    }
    text
}

/// The machine, in one line.
pub(super) fn machine(all: &Comparison) -> String {
    let machine = &all.machine;
    format!(
        "{}: {machine}; {}{}",
        machine.name,
        all.date,
        all.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}")),
    )
}

/// How it was measured, in one line.
pub(super) fn method(all: &Comparison) -> String {
    let proxies: Vec<String> = all.proxies.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    format!(
        "{}; {} interleaved repetitions of {} s; proxy on CPU {}, load on {}, origin on {}; medians (least–most)",
        proxies.join(", "),
        all.repeat,
        all.seconds,
        list(&all.proxy_cpus),
        list(&all.load_cpus),
        list(&all.origin_cpus),
    )
}

/// One scenario's name and load, in one line.
pub(super) fn heading(outcome: &Outcome) -> String {
    let rate = outcome.rate.map_or(String::new(), |rate| format!(" ({rate:.0}/s)"));
    format!("{}{rate}", outcome.scenario.describe())
}

/// One scenario.
fn table(outcome: &Outcome) -> String {
    const HEAD: [&str; 13] = [
        "",
        "CPU µs/exchange",
        "user",
        "system",
        "ratio",
        "requests/s",
        "ratio",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "busy",
        "switches",
        "peak MiB",
    ];
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(outcome.rows.iter().map(|row| cells(outcome, row)));
    let mut text = format!("\n{}: {}\n", outcome.scenario.name, heading(outcome));
    text += &align(&rows);
    for row in &outcome.rows {
        if row.errors() > 0 {
            text += &format!("  {}: {} errors, which are not counted\n", row.proxy, row.errors());
        }
        if row.unsent() > 0 {
            text +=
                &format!("  {}: {} requests found no free connection when they were due\n", row.proxy, row.unsent());
        }
    }
    if let Some(ratio) = outcome.floor_ratio() {
        text += &format!("  cairn takes {ratio:.2} of the floor's CPU\n");
    }
    for line in handshakes(outcome) {
        text += &format!("  {line}\n");
    }
    for (proxy, why) in &outcome.failed {
        text += &format!("  {proxy} was left out: {why}\n");
    }
    text
}

/// The CPU time of an exchange over the rate; nothing where there were no open loops at several rates.
fn curves(all: &Comparison) -> String {
    let curves = all.curves();
    let mut rates: Vec<f64> = curves.iter().flat_map(|curve| curve.points.iter().map(|(rate, _)| *rate)).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    if rates.is_empty() {
        return String::new();
    }
    let row = |name: &str, cells: Vec<String>| [vec![name.to_owned()], cells].concat();
    let mut rows = vec![row("", rates.iter().map(|rate| format!("{rate:.0}/s")).collect())];
    for curve in curves {
        let at =
            |rate: &f64| curve.points.iter().find(|(found, _)| found == rate).map_or("-".into(), |(_, us)| short(*us));
        rows.push(row(curve.proxy, rates.iter().map(at).collect()));
    }
    format!("\nload: CPU µs/exchange by requests/s\n{}", align(&rows))
}

/// What proxies agreed on and how their handshakes went, a line for each agreement; none where there is no TLS.
pub(super) fn handshakes(outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for row in &outcome.rows {
        let Some(agreement) = row.agreement.as_deref() else { continue };
        let (all, resumed) = row.handshakes();
        let counts = format!("{} {all} handshakes, {resumed} resumed", row.proxy);
        match lines.iter_mut().find(|(known, _)| *known == agreement) {
            Some((_, line)) => *line += &format!("; {counts}"),
            None => lines.push((agreement, format!("{agreement}: {counts}"))),
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

fn cells(outcome: &Outcome, row: &Row) -> Vec<String> {
    let ratio = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
    let us = |value: fn(&Measure) -> f64| short(row.spread(value).median);
    vec![
        row.proxy.into(),
        spread(row.spread(Measure::cpu_us)),
        us(|measure| measure.user_us),
        us(|measure| measure.system_us),
        ratio(outcome.cpu_ratio(row)),
        spread(row.spread(|measure| measure.rate)),
        ratio(outcome.rate_ratio(row)),
        us(|measure| measure.p50_us),
        us(|measure| measure.p99_us),
        us(|measure| measure.p999_us),
        format!("{:.0} %", 100.0 * row.spread(|measure| measure.busy).median),
        us(|measure| measure.switches),
        format!("{:.1}", row.spread(|measure| measure.peak_kib as f64 / 1024.0).max),
    ]
}

/// The first column to the left, the others to the right.
fn align(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("  {cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn spread(spread: Spread) -> String {
    format!("{} ({}–{})", short(spread.median), short(spread.min), short(spread.max))
}

/// Three significant digits, or all before the point.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::outcome::Role;
    use crate::compare::scenario;

    #[test]
    fn proxies_that_agreed_on_the_same_share_a_line() {
        let row = |proxy, agreement: Option<&str>, handshakes| {
            let measure = Measure { handshakes, resumed: handshakes - 1, ..Measure::default() };
            Row { proxy, role: Role::Peer, agreement: agreement.map(str::to_owned), measures: vec![measure; 2] }
        };
        let rows =
            vec![row("a", Some("one"), 5), row("b", Some("two"), 6), row("c", Some("one"), 7), row("d", None, 8)];
        let outcome = Outcome { scenario: scenario::peak(), rate: None, rows, failed: Vec::new() };
        let one = "one: a 10 handshakes, 8 resumed; c 14 handshakes, 12 resumed";
        assert_eq!(handshakes(&outcome), [one, "two: b 12 handshakes, 10 resumed"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["", "µs"], ["nginx", "12345"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(align(&rows), "            µs\n  nginx  12345\n");
        assert_eq!([1.234, 12.34, 1234.5].map(short), ["1.23", "12.3", "1234"]);
    }
}
