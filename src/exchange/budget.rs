//! How many retries a route may have: a share of its requests, and a few each second besides, so that retries overload nothing when
//! all fails. Not here: whether a request may be sent again at all (`recover`).

use std::time::Duration;

use crate::route::Retry;
use crate::runtime::{Quota, QuotaLease};

/// Length of the window in which requests and retries are compared.
const WINDOW: Duration = Duration::from_secs(1);

/// One worker's part of the budget of one route. The share is of the worker's own requests, so that the shares of all workers add up to
/// that of the process; what there is besides is leased from the process's.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    /// Number of the current window.
    window: u64,
    requests: Counts,
    retries: Counts,
    lease: QuotaLease,
}

/// What was counted in the window before and in the current one.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    before: u32,
    current: u32,
}

impl Counts {
    /// About as many as there were in the last [`WINDOW`], of which `part` lies in the current one.
    fn recent(self, part: f64) -> f64 {
        f64::from(self.before) * (1.0 - part) + f64::from(self.current)
    }

    /// Goes on to a window that is so many later.
    fn advance(&mut self, windows: u64) {
        *self = Self { before: if windows == 1 { self.current } else { 0 }, current: 0 };
    }
}

impl RetryBudget {
    /// Counts a request.
    #[inline]
    pub(super) fn count(&mut self, now: Duration) {
        self.advance(now);
        self.requests.current = self.requests.current.saturating_add(1);
    }

    /// Takes the place of one retry; `quota` is what all workers share. False: there is none left.
    pub(super) fn take(&mut self, retry: &Retry, quota: &Quota, now: Duration) -> bool {
        self.advance(now);
        let part = now.as_secs_f64().fract();
        let allowed = self.requests.recent(part) * retry.ratio;
        if self.retries.recent(part) + 1.0 <= allowed {
            self.retries.current = self.retries.current.saturating_add(1);
            return true;
        }
        retry.min_per_second > 0 && self.lease.spend(quota, retry.min_per_second, now)
    }

    #[inline]
    fn advance(&mut self, now: Duration) {
        let window = now.as_secs() / WINDOW.as_secs();
        if window != self.window {
            let windows = window.saturating_sub(self.window);
            self.requests.advance(windows);
            self.retries.advance(windows);
            self.window = window;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(ratio: f64, min_per_second: u32) -> Retry {
        Retry { attempts: 1, ratio, min_per_second, ..Retry::NEVER }
    }

    /// Retries allowed in each of four seconds, of `rate` requests a second that all fail.
    fn allowed(rate: u32, policy: &Retry) -> [u32; 4] {
        let (mut budget, quota) = (RetryBudget::default(), Quota::default());
        let start = Duration::from_secs(1000);
        [0, 1, 2, 3].map(|second| {
            let moments = (0..rate).map(|at| start + Duration::from_secs(second) + Duration::from_secs(1) * at / rate);
            moments
                .filter(|now| {
                    budget.count(*now);
                    budget.take(policy, &quota, *now)
                })
                .count() as u32
        })
    }

    #[test]
    fn retries_are_a_share_of_the_requests_in_each_second() {
        for rate in [100, 1000, 20_000] {
            for count in allowed(rate, &retry(0.2, 0)) {
                assert!(count <= rate / 5 + 1 && count >= rate / 5 * 9 / 10, "{count} of {rate}");
            }
            assert_eq!(allowed(rate, &retry(0.0, 0)), [0; 4]);
        }
    }

    #[test]
    fn a_few_are_allowed_whatever_the_rate() {
        for count in allowed(5, &retry(0.0, 3)) {
            assert!((3..=5).contains(&count), "{count}");
        }
        let sum: u32 = allowed(1000, &retry(0.1, 10)).iter().sum();
        assert!((400..=460).contains(&sum), "{sum}");
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let (mut budget, quota) = (RetryBudget::default(), Quota::default());
        (0..100).for_each(|_| budget.count(Duration::from_secs(5)));
        let policy = retry(0.5, 0);
        assert!(!budget.take(&policy, &quota, Duration::from_secs(8)));
        (0..100).for_each(|_| budget.count(Duration::from_secs(8)));
        assert_eq!((0..100).filter(|_| budget.take(&policy, &quota, Duration::from_secs(8))).count(), 50);
    }
}
