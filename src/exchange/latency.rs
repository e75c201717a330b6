//! How long requests of a route have taken lately. Not here: what follows from it (`hedge`).

use std::time::Duration;

use crate::cluster::{TIME_CLASSES, p95, time_class};

/// Requests below which too little is known.
const FEW: u32 = 100;
/// Requests at which all counts are halved, so that what is long past fades.
const MANY: u32 = 2000;
/// Requests after which the 95th percentile is looked for again.
const STEP: u32 = 20;

/// Times from the end of a request to the first byte of its response, counted by classes.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [u16; TIME_CLASSES],
    total: u32,
    p95: Option<Duration>,
}

impl Default for Latencies {
    /// None yet.
    fn default() -> Self {
        Self { counts: [0; TIME_CLASSES], total: 0, p95: None }
    }
}

impl Latencies {
    /// Counts one.
    pub(super) fn add(&mut self, time: Duration) {
        self.counts[time_class(time)] += 1;
        self.total += 1;
        if self.total >= MANY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        if self.total >= FEW && self.total.is_multiple_of(STEP) {
            self.p95 = Some(p95(self.counts.iter().map(|count| u32::from(*count)), self.total));
        }
    }

    /// What all but one in twenty have taken at most. None: too few are known.
    pub(super) fn p95(&self) -> Option<Duration> {
        self.p95
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_takes_longer() {
        let mut latencies = Latencies::default();
        for number in 0..99 {
            assert_eq!(latencies.p95(), None, "{number}");
            latencies.add(Duration::from_millis(5));
        }
        for number in 0..20_000 {
            latencies.add(Duration::from_millis(if number % 25 == 0 { 500 } else { 1 + number % 10 }));
        }
        let p95 = latencies.p95().unwrap();
        assert!(p95 >= Duration::from_millis(10) && p95 < Duration::from_millis(12), "{p95:?}");
        // What is long past is forgotten.
        (0..6000).for_each(|_| latencies.add(Duration::from_millis(100)));
        assert!(latencies.p95().unwrap() > Duration::from_millis(100));
    }
}
