//! The search for the highest rate that holds, and what holding means. Not here: sending.

use std::time::Duration;

use crate::run::Outcome;

/// Lowest rate that is tried.
const LEAST: f64 = 1.0;
/// p99 of the first rate that holds, times this, is the bound unless there is one.
const GROWTH: u32 = 10;
/// Least such bound.
const BOUND_MIN: Duration = Duration::from_millis(10);

/// Doubles the rate until one breaks, or halves it until one holds; then bisects between both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    first: f64,
    most: f64,
    /// Distance between both ends at which the search is over, as a part of the rate.
    precision: f64,
    /// The highest rate that held.
    pub(super) held: Option<f64>,
    /// The lowest rate that broke.
    broken: Option<f64>,
}

impl Search {
    pub(super) fn new(first: f64, most: f64, precision: f64) -> Self {
        Self { first: first.min(most), most, precision, held: None, broken: None }
    }

    /// The next rate; None: the search is over.
    pub(super) fn next(&self) -> Option<f64> {
        match (self.held, self.broken) {
            (None, None) => Some(self.first),
            (Some(held), None) => Some((held * 2.0).min(self.most)).filter(|next| *next > held),
            (None, Some(broken)) => Some(broken / 2.0).filter(|next| *next >= LEAST),
            (Some(held), Some(broken)) => {
                (broken - held > self.precision * broken).then(|| f64::midpoint(held, broken))
            }
        }
    }

    /// Notes whether the rate of [`Search::next`] held.
    pub(super) fn note(&mut self, rate: f64, held: bool) {
        *(if held { &mut self.held } else { &mut self.broken }) = Some(rate);
    }
}

/// What one load at one rate has shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Requests a second that were due, were sent, and were answered as expected.
    pub(super) due: f64,
    pub(super) sent: f64,
    pub(super) answered: f64,
    pub(super) errors: u64,
    pub(super) unsent: u64,
    /// Share of the requests due that failed, or were not sent for want of a free connection.
    failed: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) p999: Duration,
    /// p99 of the times from when a request was due until it was sent.
    pub(super) late: Duration,
    /// Share of the time in which the generator's CPUs worked for it.
    pub(super) busy: f64,
}

impl Figures {
    /// Those of a load at `rate`.
    pub(super) fn of(outcome: &Outcome, rate: f64) -> Self {
        let Outcome { plan, counts, .. } = outcome;
        let (_, sent) = outcome.rates();
        let seconds = counts.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        if counts.latency.count() == 0 {
            return Self { errors: counts.all_errors(), unsent: counts.unsent, sent, ..Self::nothing(rate) };
        }
        let failed = (counts.all_errors() + counts.unsent) as f64 / (counts.sent + counts.unsent).max(1) as f64;
        Self {
            due: rate,
            sent,
            answered: counts.latency.count() as f64 / seconds,
            errors: counts.all_errors(),
            unsent: counts.unsent,
            failed,
            p50: counts.latency.quantile(0.5),
            p99: counts.latency.quantile(0.99),
            p999: counts.latency.quantile(0.999),
            late: counts.late.quantile(0.99),
            busy: counts.cpu.as_secs_f64() / seconds / plan.threads as f64,
        }
    }

    /// A load at `rate` of which nothing was answered as expected.
    pub(super) fn nothing(rate: f64) -> Self {
        Self { due: rate, failed: 1.0, ..Self::default() }
    }
}

/// Why a rate does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Too many answers were wrong or did not come.
    Errors,
    /// Too many requests found no free connection when they were due.
    Unsent,
    /// p99 was above the bound.
    Latency,
}

impl Break {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Unsent => "unsent",
            Self::Latency => "p99",
        }
    }
}

/// When a rate holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of p99; None: not known before the first rate that holds.
    pub(super) p99: Option<Duration>,
    /// Of the share of failed requests.
    pub(super) failed: f64,
}

impl Bounds {
    /// Why a rate with these figures does not hold; None: it does.
    pub(super) fn judge(&self, figures: &Figures) -> Option<Break> {
        if figures.failed > self.failed {
            return Some(if figures.errors >= figures.unsent { Break::Errors } else { Break::Unsent });
        }
        self.p99.is_some_and(|bound| figures.p99 > bound).then_some(Break::Latency)
    }

    /// Takes the bound of p99 from the first rate that holds, unless there is one.
    pub(super) fn learn(&mut self, figures: &Figures) {
        self.p99.get_or_insert((figures.p99 * GROWTH).max(BOUND_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates that are tried when those up to `limit` hold, and the result.
    fn tried(mut search: Search, limit: f64) -> (Vec<f64>, Option<f64>) {
        let mut rates = Vec::new();
        while let Some(rate) = search.next() {
            rates.push(rate);
            search.note(rate, rate <= limit);
        }
        (rates, search.held)
    }

    #[test]
    fn rates_double_then_are_bisected() {
        let search = |most| Search::new(1000.0, most, 0.1);
        assert_eq!(tried(search(1e9), 5500.0), (vec![1e3, 2e3, 4e3, 8e3, 6e3, 5e3, 5.5e3], Some(5500.0)));
        assert_eq!(tried(search(3000.0), 1e9), (vec![1e3, 2e3, 3e3], Some(3000.0)));
        assert_eq!(tried(search(500.0), 1e9), (vec![500.0], Some(500.0)));
        assert_eq!(tried(search(1e9), 300.0), (vec![1e3, 500.0, 250.0, 375.0, 312.5, 281.25], Some(281.25)));
        let (rates, held) = tried(search(1e9), 0.0);
        assert_eq!((rates.len(), held), (10, None));
    }

    #[test]
    fn a_rate_holds_within_its_bounds() {
        let ms = Duration::from_millis;
        let figures = |p99, errors, unsent| Figures { p99: ms(p99), errors, unsent, ..Figures::default() };
        let mut bounds = Bounds { p99: None, failed: 0.01 };
        assert_eq!(bounds.judge(&figures(9000, 0, 0)), None);
        bounds.learn(&figures(3, 0, 0));
        assert_eq!(bounds.p99, Some(ms(30)));
        assert_eq!([30, 31].map(|p99| bounds.judge(&figures(p99, 0, 0))), [None, Some(Break::Latency)]);
        bounds.learn(&figures(1, 0, 0));
        assert_eq!(bounds.p99, Some(ms(30)));
        for (failed, errors, unsent, why) in
            [(0.01, 5, 0, None), (0.02, 5, 1, Some(Break::Errors)), (0.02, 1, 5, Some(Break::Unsent))]
        {
            assert_eq!(bounds.judge(&Figures { failed, ..figures(1, errors, unsent) }), why);
        }
        let mut quick = Bounds { p99: None, failed: 0.0 };
        quick.learn(&Figures::default());
        assert_eq!(quick.p99, Some(BOUND_MIN));
        assert_eq!(quick.judge(&Figures::nothing(5.0)), Some(Break::Errors));
    }
}
