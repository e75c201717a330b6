//! Limits of the whole process, leased to workers in batches: a request takes from its worker's lease, so that cores share a cache
//! line once a batch and not once a request. Not here: what is limited, or how much.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Batches per worker's fair share of a limit. The more there are, the less an idle worker withholds from the others.
const LEASES_PER_SHARE: u32 = 16;
/// Lifetime of leased tokens.
const TOKEN_LIFE: Duration = Duration::from_millis(100);
/// Largest burst, as the time in which the rate yields as many tokens.
const BURST: Duration = Duration::from_secs(1);

/// The state of one limit that all workers share.
#[derive(Debug, Default)]
pub struct Quota {
    /// Places leased to workers.
    leased: AtomicU32,
    /// Nanoseconds on the process's clock up to which tokens have been leased (the theoretical arrival time of ATM's
    /// generic cell rate algorithm).
    spent: AtomicU64,
}

/// One worker's lease of one limit.
#[derive(Debug, Default)]
pub struct QuotaLease {
    leased: u32,
    used: u32,
    tokens: u32,
    /// Tokens leased last time.
    batch: u32,
    /// When `tokens` expire.
    expiry: Duration,
}

impl QuotaLease {
    /// Takes one of `limit` places, for one worker of `workers`. False: all are leased.
    pub fn take(&mut self, quota: &Quota, limit: u32, workers: u32) -> bool {
        if self.used == self.leased {
            let lease_size = lease_size(limit, workers);
            let lease =
                |leased: u32| Some(leased + lease_size.min(limit.saturating_sub(leased))).filter(|sum| *sum > leased);
            let Ok(before) = quota.leased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lease) else {
                return false;
            };
            self.leased += lease_size.min(limit - before);
        }
        self.used += 1;
        true
    }

    /// Gives back a place that was taken.
    pub fn give(&mut self, quota: &Quota, limit: u32, workers: u32) {
        self.used = self.used.saturating_sub(1);
        let (lease_size, spare) = (lease_size(limit, workers), self.leased - self.used);
        let back = if lease_size == 1 || self.used == 0 {
            spare
        } else if spare >= 2 * lease_size {
            lease_size
        } else {
            0
        };
        if back > 0 {
            self.leased -= back;
            quota.leased.fetch_sub(back, Ordering::Relaxed);
        }
    }

    /// Places taken.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Spends one token of a rate of `per_second`, which is not 0, with bursts of one second. `now` is the process's clock. False:
    /// the rate is used up.
    pub fn spend(&mut self, quota: &Quota, per_second: u32, now: Duration) -> bool {
        if self.tokens > 0 && now < self.expiry {
            self.tokens -= 1;
            return true;
        }
        // A worker that spends its tokens in time leases more at a time, up to a hundredth of the rate per second.
        let most = (per_second / 100).max(1);
        self.batch = if self.tokens > 0 { self.batch / 2 } else { self.batch * 2 }.clamp(1, most);
        let cost = |tokens: u32| u64::from(tokens) * 1_000_000_000 / u64::from(per_second);
        let now_nanos = now.as_nanos() as u64;
        let lease = |spent: u64, tokens: u32| {
            Some(spent.max(now_nanos) + cost(tokens)).filter(|sum| *sum <= now_nanos + BURST.as_nanos() as u64)
        };
        for tokens in [self.batch, 1] {
            let order = Ordering::Relaxed;
            if quota.spent.fetch_update(order, order, |spent| lease(spent, tokens)).is_ok() {
                (self.tokens, self.expiry) = (tokens - 1, now + TOKEN_LIFE);
                return true;
            }
        }
        self.tokens = 0;
        false
    }
}

fn lease_size(limit: u32, workers: u32) -> u32 {
    (limit / (LEASES_PER_SHARE * workers)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_never_more_than_the_limit_and_all_are_to_be_had() {
        for (limit, workers) in [(1, 1), (1, 4), (7, 2), (100, 2), (10_000, 3)] {
            let (shared, mut lots) = (Quota::default(), Vec::new());
            lots.resize_with(workers, QuotaLease::default);
            let mut taken = vec![0; workers];
            // A walk that fills up and empties again, now on this worker and now on that.
            let mut state = 1u64;
            for _ in 0..50_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % workers;
                if (state >> 40) % 5 < 3 {
                    taken[at] += u32::from(lots[at].take(&shared, limit, workers as u32));
                } else if taken[at] > 0 {
                    taken[at] -= 1;
                    lots[at].give(&shared, limit, workers as u32);
                }
                assert!(taken.iter().sum::<u32>() <= limit);
            }
            for at in 0..workers {
                (0..taken[at]).for_each(|_| lots[at].give(&shared, limit, workers as u32));
            }
            assert_eq!(shared.leased.load(Ordering::Relaxed), 0, "{limit} {workers}");
            assert_eq!((0..limit * 2).filter(|_| lots[0].take(&shared, limit, workers as u32)).count() as u32, limit);
        }
    }

    #[test]
    fn a_rate_is_kept_over_all_workers_with_a_second_of_burst() {
        for (rate, workers) in [(1, 1), (10, 2), (1000, 2), (50_000, 4)] {
            let (shared, mut lots) = (Quota::default(), Vec::new());
            lots.resize_with(workers, QuotaLease::default);
            let (start, mut passed) = (Duration::from_secs(100), 0);
            // Twice the rate for ten seconds.
            let asked = 20 * rate;
            for number in 0..asked {
                let now = start + Duration::from_secs(10) * number / asked;
                passed += u32::from(lots[number as usize % workers].spend(&shared, rate, now));
            }
            let (least, most) = (10 * rate, 11 * rate);
            assert!((least..=most).contains(&passed), "{passed} of {least} to {most}");
        }
    }
}
