//! Endpoints whose answers take far longer than those of the others of their cluster. Not here: what is done about them (`health`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cluster::{OutlierSpec, TIME_CLASSES, TimeCounts, p95};

/// The time over which answers are judged together.
const WINDOW: Duration = Duration::from_secs(10);
/// How often counts are taken.
const STEP: Duration = Duration::from_secs(1);
/// By how much an endpoint has to be slower than the others besides: below that, it is the machine's weather.
const FLOOR: Duration = Duration::from_millis(10);

/// How long answers of one endpoint have taken lately.
#[derive(Debug, Default)]
pub(super) struct RecentTimes {
    /// Counts so far, at moments of the last [`WINDOW`]. One that is older stays: what has come since is counted from it.
    samples: VecDeque<(Instant, Box<TimeCounts>)>,
    latest: Option<Box<TimeCounts>>,
}

impl RecentTimes {
    /// Takes in counts so far.
    pub(super) fn observe(&mut self, counts: Box<TimeCounts>, now: Instant) {
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
            self.samples.push_back((now, counts.clone()));
        }
        self.latest = Some(counts);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.samples.clear();
        self.latest = None;
    }

    /// What was counted in the window.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        if let (Some((_, first)), Some(latest)) = (self.samples.front(), &self.latest) {
            for ((count, first), latest) in counts.0.iter_mut().zip(first.iter()).zip(latest.iter()) {
                *count = latest.wrapping_sub(*first);
            }
        }
        counts
    }
}

/// How many answers of a window were in each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts(Box<TimeCounts>);

impl Default for Counts {
    fn default() -> Self {
        Self(Box::new([0; TIME_CLASSES]))
    }
}

impl Counts {
    /// Adds those of another endpoint.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(count, other)| *count = count.saturating_add(*other));
    }

    /// Takes away those of an endpoint that were added.
    fn without(&self, own: &Self) -> Self {
        let mut rest = self.clone();
        rest.0.iter_mut().zip(own.0.iter()).for_each(|(count, own)| *count = count.saturating_sub(*own));
        rest
    }

    fn total(&self) -> u32 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Why an endpoint is too slow, of whose answers these are the times; None: it is not. `all`: the times of all endpoints in use, its own
/// among them. The others have to have answered as often as it has to, so that there is something to be compared with.
pub(super) fn fault(outlier: &OutlierSpec, own: &Counts, all: &Counts) -> Option<String> {
    let others = all.without(own);
    let (count, beside) = (own.total(), others.total());
    if count.min(beside) < outlier.min_volume {
        return None;
    }
    let [own, others] = [(own, count), (&others, beside)].map(|(it, total)| p95(it.0.iter().copied(), total));
    let slow = own >= others.saturating_mul(outlier.latency_factor) && own >= others + FLOOR;
    slow.then(|| {
        format!(
            "95 in 100 of its {count} answers in {} s took up to {own:?}, those of the others up to {others:?}",
            WINDOW.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::EndpointState;

    fn counts(of: &[(u32, u64)]) -> Counts {
        let state = EndpointState::new(1);
        let _ = state.times();
        for (count, millis) in of {
            (0..*count).for_each(|_| state.count_time(0, Duration::from_millis(*millis)));
        }
        Counts(state.times())
    }

    #[test]
    fn only_who_is_far_slower_than_the_others_is_at_fault() {
        let outlier = OutlierSpec { latency_factor: 5, min_volume: 100, ..OutlierSpec::OFF };
        for (own, others, expected) in [
            (&[(100, 100)][..], &[(100, 10)][..], true),
            (&[(99, 100)], &[(100, 10)], false),
            (&[(100, 100)], &[(99, 10)], false),
            // Four times as slow.
            (&[(100, 40)], &[(100, 10)], false),
            // As many times as slow as it has to be, but by little.
            (&[(100, 5)], &[(100, 0)], false),
            // Fast as a rule.
            (&[(960, 10), (40, 1000)], &[(1000, 10)], false),
            (&[(900, 10), (100, 1000)], &[(1000, 10)], true),
            // The others are as slow now and then.
            (&[(100, 100)], &[(900, 10), (100, 100)], false),
        ] {
            let (own, others) = (counts(own), counts(others));
            let mut all = others.clone();
            all.add(&own);
            assert_eq!(fault(&outlier, &own, &all).is_some(), expected, "{own:?} {others:?}");
        }
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let (state, mut recent, now) = (EndpointState::new(1), RecentTimes::default(), Instant::now());
        let mut look = |state: &EndpointState, at: u32| {
            recent.observe(state.times(), now + at * STEP);
            recent.counts().total()
        };
        assert_eq!(look(&state, 0), 0);
        (0..50).for_each(|_| state.count_time(0, Duration::from_millis(1)));
        assert_eq!(look(&state, 1), 50);
        (0..7).for_each(|_| state.count_time(0, Duration::from_millis(1)));
        for (at, count) in [(2, 57), (5, 57), (10, 57), (11, 7), (12, 0), (40, 0)] {
            assert_eq!(look(&state, at), count, "{at}");
        }
    }
}
