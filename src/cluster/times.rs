//! Times in classes, so that quantiles of many can be told from a few counts. Not here: what follows from them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Classes for each doubling of a time, so that one is an eighth of it wide at most.
const PARTS: u32 = 8;
/// Classes; the last one holds all that takes longer than an hour.
pub const TIME_CLASSES: usize = 32 * PARTS as usize;

/// How many times are in each class.
pub type TimeCounts = [u32; TIME_CLASSES];

/// The class of a time.
#[must_use]
pub fn time_class(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(u64::from(PARTS));
    // PARTS is 2^3: the three bits behind the first one tell the part of its doubling.
    let doubling = micros.ilog2();
    let part = (micros >> (doubling - 3)) as usize % PARTS as usize;
    ((doubling - 3) as usize * PARTS as usize + part).min(TIME_CLASSES - 1)
}

/// What all but one in twenty of so many times take at most; zero where there is none. `counts`: by class.
#[must_use]
pub fn p95(counts: impl IntoIterator<Item = u32>, total: u32) -> Duration {
    let rank = total - total / 20;
    let mut below = 0u32;
    let found = counts.into_iter().position(|count| {
        below = below.saturating_add(count);
        below >= rank
    });
    if total == 0 { Duration::ZERO } else { end(found.unwrap_or(TIME_CLASSES - 1)) }
}

/// Above all times of a class.
fn end(class: usize) -> Duration {
    let (doubling, part) = (class as u32 / PARTS, class as u64 % u64::from(PARTS));
    Duration::from_micros((u64::from(PARTS) + part + 1) << doubling)
}

/// What one worker has counted; it alone writes. Counts wrap around.
#[derive(Debug)]
pub(super) struct Times([AtomicU32; TIME_CLASSES]);

impl Default for Times {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Times {
    /// Counts one.
    #[inline]
    pub(super) fn count(&self, time: Duration) {
        if let Some(cell) = self.0.get(time_class(time)) {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Adds what was counted so far.
    pub(super) fn add_to(&self, counts: &mut TimeCounts) {
        for (count, cell) in counts.iter_mut().zip(&self.0) {
            *count = count.wrapping_add(cell.load(Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_an_eighth_wide_at_most() {
        for micros in [0, 1, 8, 9, 999, 1000, 1001, 30_000, 1_000_000, 59_999_999] {
            let time = Duration::from_micros(micros);
            let end = end(time_class(time));
            assert!(
                end > time && end <= (time + time / 8).max(Duration::from_micros(9)) + Duration::from_micros(1),
                "{time:?}: {end:?}"
            );
        }
        assert_eq!(time_class(Duration::from_secs(1_000_000)), TIME_CLASSES - 1);
    }

    #[test]
    fn one_in_twenty_takes_longer() {
        let times = Times::default();
        (0..95).for_each(|_| times.count(Duration::from_millis(10)));
        (0..5).for_each(|_| times.count(Duration::from_secs(1)));
        let counted = || {
            let mut counts = [0; TIME_CLASSES];
            times.add_to(&mut counts);
            (p95(counts, counts.iter().sum()), counts.iter().sum::<u32>())
        };
        let (p95_of_100, total) = counted();
        assert_eq!(total, 100);
        assert!(p95_of_100 > Duration::from_millis(10) && p95_of_100 < Duration::from_millis(12), "{p95_of_100:?}");
        (0..5).for_each(|_| times.count(Duration::from_secs(1)));
        assert!(counted().0 >= Duration::from_secs(1));
        assert_eq!(p95([], 0), Duration::ZERO);
    }
}
