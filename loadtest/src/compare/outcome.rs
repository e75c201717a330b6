//! Statistics of measurements: medians, spreads and ratios. Not here: output.

use super::measure::Measure;
use super::rival::Missing;
use super::scenario::Scenario;

/// Results of a comparison.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) machine: crate::machine::Machine,
    /// Commit of the working directory, if git knows one.
    pub(super) commit: Option<String>,
    pub(super) date: String,
    pub(super) repeat: u32,
    pub(super) seconds: f64,
    pub(super) proxy_cpus: Vec<usize>,
    pub(super) load_cpus: Vec<usize>,
    pub(super) origin_cpus: Vec<usize>,
    /// Names and versions.
    pub(super) proxies: Vec<(&'static str, String)>,
    pub(super) missing: Vec<Missing>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) interrupted: bool,
}

/// Results of one scenario.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) scenario: &'static Scenario,
    /// Rate of an open loop.
    pub(super) rate: Option<f64>,
    pub(super) rows: Vec<Row>,
    /// Proxies that could not be measured, with the reason.
    pub(super) failed: Vec<(&'static str, String)>,
}

/// What a row is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Cairn,
    /// Another proxy, which ratios are to.
    Peer,
    /// `cairn-load floor`: what passing the bytes on costs.
    Floor,
    /// No proxy: the CPU time is the origin's.
    Direct,
}

/// Results of one proxy, or of what stands in its place.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) proxy: &'static str,
    pub(super) role: Role,
    /// Version, cipher suite and group of TLS.
    pub(super) agreement: Option<String>,
    pub(super) measures: Vec<Measure>,
}

/// Median, minimum and maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Comparison {
    /// Failure of cairn itself.
    pub(super) fn failure_of_cairn(&self) -> Option<String> {
        let failed = |outcome: &Outcome| {
            let why = outcome.failed.iter().find(|(proxy, _)| *proxy == "cairn").map(|(_, why)| why);
            why.map(|why| format!("{}: {why}", outcome.scenario.name))
        };
        let all: Vec<String> = self.outcomes.iter().filter_map(failed).collect();
        (!all.is_empty()).then(|| format!("cairn failed: {}", all.join("; ")))
    }
}

/// The CPU time of an exchange over the rate at which requests are due.
#[derive(Debug, PartialEq)]
pub(super) struct Curve {
    pub(super) proxy: &'static str,
    /// Rate and microseconds.
    pub(super) points: Vec<(f64, f64)>,
}

impl Comparison {
    /// A curve for each proxy, if there were open loops at several rates.
    pub(super) fn curves(&self) -> Vec<Curve> {
        let loads = || self.outcomes.iter().filter_map(|outcome| Some((outcome.rate?, outcome)));
        let mut curves: Vec<Curve> = Vec::new();
        if loads().nth(1).is_none() {
            return curves;
        }
        for (rate, row) in loads().flat_map(|(rate, outcome)| outcome.rows.iter().map(move |row| (rate, row))) {
            let point = (rate, row.spread(Measure::cpu_us).median);
            match curves.iter_mut().find(|curve| curve.proxy == row.proxy) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { proxy: row.proxy, points: vec![point] }),
            }
        }
        curves
    }
}

impl Outcome {
    /// CPU time of the proxy relative to the best peer.
    pub(super) fn cpu_ratio(&self, row: &Row) -> Option<f64> {
        let peers = self.rows.iter().filter(|row| row.role == Role::Peer).map(|row| row.spread(Measure::cpu_us).median);
        peers.reduce(f64::min).map(|best| row.spread(Measure::cpu_us).median / best)
    }

    /// CPU time of cairn relative to the floor.
    pub(super) fn floor_ratio(&self) -> Option<f64> {
        let cpu = |role| self.rows.iter().find(|row| row.role == role).map(|row| row.spread(Measure::cpu_us).median);
        Some(cpu(Role::Cairn)? / cpu(Role::Floor)?)
    }

    /// Rate of the proxy relative to the best peer.
    pub(super) fn rate_ratio(&self, row: &Row) -> Option<f64> {
        self.peak().map(|best| row.spread(|measure| measure.rate).median / best)
    }

    /// The rate of the fastest peer.
    pub(super) fn peak(&self) -> Option<f64> {
        let peers =
            self.rows.iter().filter(|row| row.role == Role::Peer).map(|row| row.spread(|measure| measure.rate).median);
        peers.reduce(f64::max)
    }
}

impl Row {
    pub(super) fn spread(&self, value: impl Fn(&Measure) -> f64) -> Spread {
        Spread::of(self.measures.iter().map(value).collect())
    }

    /// Errors of all repetitions.
    pub(super) fn errors(&self) -> u64 {
        self.measures.iter().map(|measure| measure.errors).sum()
    }

    /// TLS handshakes of all repetitions, and how many of them resumed a session.
    pub(super) fn handshakes(&self) -> (u64, u64) {
        let sum = |count: fn(&Measure) -> u64| self.measures.iter().map(count).sum();
        (sum(|measure| measure.handshakes), sum(|measure| measure.resumed))
    }

    /// Requests of all repetitions that found no connection when they were due.
    pub(super) fn unsent(&self) -> u64 {
        self.measures.iter().map(|measure| measure.unsent).sum()
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_take_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn ratios_are_to_the_best_peer_alone() {
        let row = |proxy, user_us, rate| {
            let measures = vec![Measure { user_us, rate, ..Measure::default() }];
            let role = match proxy {
                "cairn" => Role::Cairn,
                "floor" => Role::Floor,
                _ => Role::Peer,
            };
            Row { proxy, role, agreement: None, measures }
        };
        let rows = vec![
            row("cairn", 10.0, 300.0),
            row("nginx", 20.0, 100.0),
            row("haproxy", 40.0, 200.0),
            row("floor", 8.0, 900.0),
        ];
        let mut outcome = Outcome { scenario: super::super::scenario::peak(), rate: None, rows, failed: Vec::new() };
        let ratios = |outcome: &Outcome| (outcome.cpu_ratio(&outcome.rows[0]), outcome.rate_ratio(&outcome.rows[0]));
        assert_eq!(ratios(&outcome), (Some(0.5), Some(1.5)));
        assert_eq!((outcome.cpu_ratio(&outcome.rows[2]), outcome.floor_ratio()), (Some(2.0), Some(1.25)));
        outcome.rows.truncate(1);
        assert_eq!((ratios(&outcome), outcome.floor_ratio()), ((None, None), None));
    }

    #[test]
    fn a_curve_needs_two_rates() {
        let row = |proxy, user_us| Row {
            proxy,
            role: Role::Peer,
            agreement: None,
            measures: vec![Measure { user_us, ..Measure::default() }],
        };
        let outcome = |rate, rows| Outcome { scenario: super::super::scenario::peak(), rate, rows, failed: Vec::new() };
        let mut all = Comparison {
            machine: crate::machine::Machine::here(None),
            commit: None,
            date: String::new(),
            repeat: 1,
            seconds: 1.0,
            proxy_cpus: Vec::new(),
            load_cpus: Vec::new(),
            origin_cpus: Vec::new(),
            proxies: Vec::new(),
            missing: Vec::new(),
            outcomes: vec![outcome(None, vec![row("a", 9.0)]), outcome(Some(10.0), vec![row("a", 3.0), row("b", 5.0)])],
            interrupted: false,
        };
        assert_eq!(all.curves(), []);
        all.outcomes.push(outcome(Some(20.0), vec![row("a", 2.0)]));
        let curve = |proxy, points: &[(f64, f64)]| Curve { proxy, points: points.to_vec() };
        assert_eq!(all.curves(), [curve("a", &[(10.0, 3.0), (20.0, 2.0)]), curve("b", &[(10.0, 5.0)])]);
    }
}
