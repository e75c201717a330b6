//! How long requests of a route have taken lately. Not here: what follows from it (`hedge`).

use std::time::Duration;

/// Classes for each doubling of a time, so that one is an eighth of it wide at most.
const PARTS: u32 = 8;
/// Classes; the last one holds all that takes longer than an hour.
const CLASSES: usize = 32 * PARTS as usize;
/// Requests below which too little is known.
const FEW: u32 = 100;
/// Requests at which all counts are halved, so that what is long past fades.
const MANY: u32 = 2000;
/// Requests after which the 95th percentile is looked for again.
const STEP: u32 = 20;

/// Times from the end of a request to the first byte of its response, counted by classes.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [u16; CLASSES],
    total: u32,
    p95: Option<Duration>,
}

impl Default for Latencies {
    /// None yet.
    fn default() -> Self {
        Self { counts: [0; CLASSES], total: 0, p95: None }
    }
}

impl Latencies {
    /// Counts one.
    pub(super) fn add(&mut self, time: Duration) {
        self.counts[class(time)] += 1;
        self.total += 1;
        if self.total >= MANY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        if self.total >= FEW && self.total.is_multiple_of(STEP) {
            self.p95 = Some(self.find(self.total - self.total / 20));
        }
    }

    /// What all but one in twenty have taken at most. None: too few are known.
    pub(super) fn p95(&self) -> Option<Duration> {
        self.p95
    }

    /// What so many of them have taken at most.
    fn find(&self, rank: u32) -> Duration {
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += u32::from(*count);
            below >= rank
        });
        end(found.unwrap_or(CLASSES - 1))
    }
}

/// The class of a time.
fn class(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(u64::from(PARTS));
    // PARTS is 2^3: the three bits behind the first one tell the part of its doubling.
    let doubling = micros.ilog2();
    let part = (micros >> (doubling - 3)) as usize % PARTS as usize;
    ((doubling - 3) as usize * PARTS as usize + part).min(CLASSES - 1)
}

/// Above all times of a class.
fn end(class: usize) -> Duration {
    let (doubling, part) = (class as u32 / PARTS, class as u64 % u64::from(PARTS));
    Duration::from_micros((u64::from(PARTS) + part + 1) << doubling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_an_eighth_wide_at_most() {
        for micros in [0, 1, 8, 9, 999, 1000, 1001, 30_000, 1_000_000, 59_999_999] {
            let time = Duration::from_micros(micros);
            let end = end(class(time));
            assert!(
                end > time && end <= (time + time / 8).max(Duration::from_micros(9)) + Duration::from_micros(1),
                "{time:?}: {end:?}"
            );
        }
        assert_eq!(class(Duration::from_secs(1_000_000)), CLASSES - 1);
    }

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
