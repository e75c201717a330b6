//! Latencies of any number of requests in constant memory, to three significant digits. Not here: measuring.

use std::time::Duration;

/// Nanoseconds, from 1 to one hour; longer times count as an hour.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(hdrhistogram::Histogram<u64>);

const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

impl Histogram {
    pub(crate) fn new() -> Self {
        match hdrhistogram::Histogram::new_with_max(LONGEST_NS, DIGITS) {
            Ok(histogram) => Self(histogram),
            // The arguments are constants that are valid, as the test shows.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// Counts one request. Allocates nothing.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS));
    }

    /// Adds the counts of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Adding fails only for different bounds.
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok());
    }

    /// The inner histogram, for encoding.
    pub(crate) fn raw(&self) -> &hdrhistogram::Histogram<u64> {
        &self.0
    }

    /// Removes all counts. Allocates nothing.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.mean() as u64)
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The latency that the share `part` of all requests did not exceed: `0.999` is p99.9.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(part))
    }

    /// The longest latency of each bucket that is not empty, and its number of requests.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.0.iter_recorded().map(|bucket| {
            let longest = self.0.highest_equivalent(bucket.value_iterated_to());
            (Duration::from_nanos(longest), bucket.count_at_value())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_quantiles_keep_three_digits() {
        let (mut odd, mut even) = (Histogram::new(), Histogram::new());
        for ms in 1..=1000 {
            if ms % 2 == 0 { &mut even } else { &mut odd }.record(Duration::from_millis(ms));
        }
        odd.merge(&even);
        assert_eq!((odd.count(), odd.buckets().map(|(_, count)| count).sum::<u64>()), (1000, 1000));
        for (part, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let got = odd.quantile(part).as_secs_f64() * 1000.0;
            assert!((ms..ms * 1.001).contains(&got), "p{part}: {got}");
        }
        odd.record(Duration::MAX);
        assert!(odd.max() >= Duration::from_secs(3600));
    }
}
