//! The minimum rate at which a client has to send its body and to take its response. Not here: clients that make no progress at all
//! (`deadline`).

use std::time::Duration;

use crate::limits::TICK_MS;
use crate::runtime::Tick;

/// The lowest rate that a listener accepts of its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct MinimumRate {
    /// Bytes per second; 0: any rate is accepted.
    pub(super) rate: u64,
    /// How long something has to have waited for the client before its rate is checked.
    pub(super) grace: Duration,
}

/// Measures the average rate of one direction of one exchange. Only time in which something waits for the client counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateMeter {
    /// Bytes moved before the first measurement.
    before: Option<u64>,
    /// Since when something waits for the client; None: nothing does.
    since: Option<Tick>,
    /// Ticks in which something waited, before `since`.
    waited: Tick,
}

impl MinimumRate {
    /// Any rate will do.
    pub(super) const ANY: Self = Self { rate: 0, grace: Duration::ZERO };
}

impl RateMeter {
    /// Takes in that from now on nothing waits for the client.
    pub(super) fn pause(&mut self, now: Tick) {
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(now.saturating_sub(since));
        }
    }

    /// Takes in that something waits for the client, which has moved `moved` bytes so far. Returns whether its average rate is below
    /// `minimum`.
    pub(super) fn is_below(&mut self, minimum: MinimumRate, now: Tick, moved: u64) -> bool {
        if minimum.rate == 0 {
            return false;
        }
        let before = *self.before.get_or_insert(moved);
        let since = *self.since.get_or_insert(now);
        let waited = self.waited.saturating_add(now.saturating_sub(since)).saturating_mul(TICK_MS);
        u128::from(waited) > minimum.grace.as_millis()
            && moved.saturating_sub(before).saturating_mul(1000) < minimum.rate.saturating_mul(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Tick = 1000 / TICK_MS;
    const MINIMUM: MinimumRate = MinimumRate { rate: 1000, grace: Duration::from_secs(1) };

    #[test]
    fn the_average_counts_after_the_grace() {
        let mut meter = RateMeter::default();
        for (tick, moved, behind) in [
            (0, 500, false),
            (SECOND, 500, false),
            (SECOND + 10, 500, true),
            (SECOND + 10, 1_800, false),
            (10 * SECOND, 2_000, true),
            (10 * SECOND, 11_000, false),
        ] {
            assert_eq!(meter.is_below(MINIMUM, 7 + tick, moved), behind, "{tick} {moved}");
        }
        let mut free = RateMeter::default();
        for tick in [0, 100 * SECOND] {
            assert!(!free.is_below(MinimumRate { rate: 0, ..MINIMUM }, tick, 0));
        }
    }

    #[test]
    fn time_in_which_nothing_waits_does_not_count() {
        let mut meter = RateMeter::default();
        for round in 0..9 {
            assert!(!meter.is_below(MINIMUM, 100 * round * SECOND, 0));
            meter.pause(100 * round * SECOND + SECOND / 10);
            meter.pause(100 * round * SECOND + SECOND);
        }
        assert!(!meter.is_below(MINIMUM, 900 * SECOND, 0));
        assert!(meter.is_below(MINIMUM, 901 * SECOND, 0));
    }
}
