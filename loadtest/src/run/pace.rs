//! When requests are due. Not here: whether a connection is free to send them.

use std::time::Duration;

/// When one thread's requests are due, from the moment it starts.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    kind: Kind,
    /// Requests before this time do not count.
    warmup: Duration,
    /// No request is due from this time on.
    end: Duration,
    /// Requests that count and are still to come.
    left: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Whenever a connection is free.
    Closed,
    /// At equal distances: the request with this number, at `(number + offset) * distance`.
    Constant { number: u64, offset: f64, distance: f64 },
    /// At random distances: the next one, in seconds.
    Poisson { next: f64, mean: f64, random: Random },
}

/// The load of one thread among several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Requests a second of all threads; None: closed loop.
    pub(super) rate: Option<f64>,
    pub(super) poisson: bool,
    pub(super) warmup: Duration,
    /// After the warm-up.
    pub(super) duration: Option<Duration>,
    /// This thread's part.
    pub(super) requests: Option<u64>,
    pub(super) thread: usize,
    pub(super) threads: usize,
}

impl Pace {
    pub(super) fn new(load: &Load) -> Self {
        let threads = load.threads as f64;
        let kind = match load.rate {
            None => Kind::Closed,
            Some(rate) if load.poisson => {
                let (mean, mut random) = (threads / rate, Random(load.thread as u64));
                Kind::Poisson { next: random.exponential() * mean, mean, random }
            }
            // The threads' requests fall between each other's.
            Some(rate) => Kind::Constant { number: 0, offset: load.thread as f64 / threads, distance: threads / rate },
        };
        let end = load.duration.map_or(Duration::MAX, |duration| load.warmup.saturating_add(duration));
        Self { kind, warmup: load.warmup, end, left: load.requests.unwrap_or(u64::MAX) }
    }

    /// When the next request is due; None: there is no other.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let due = match &self.kind {
            Kind::Closed => now,
            Kind::Constant { number, offset, distance } => seconds((*number as f64 + offset) * distance),
            Kind::Poisson { next, .. } => seconds(*next),
        };
        (self.left > 0 && due < self.end).then_some(due)
    }

    /// Whether a request that was due then counts.
    pub(super) fn counts(&self, due: Duration) -> bool {
        due >= self.warmup
    }

    /// Goes on to the request after the one that was due at `due`.
    pub(super) fn advance(&mut self, due: Duration) {
        if self.counts(due) {
            self.left -= 1;
        }
        match &mut self.kind {
            Kind::Closed => {}
            Kind::Constant { number, .. } => *number += 1,
            Kind::Poisson { next, mean, random } => *next += random.exponential() * *mean,
        }
    }

    /// When nothing is sent any more, even if it is due.
    pub(super) fn end(&self) -> Duration {
        self.end
    }

    /// Requests that count and are due by `now`, taken off. For an open loop; a closed one has none.
    pub(super) fn abandon(&mut self, now: Duration) -> u64 {
        let mut count = 0;
        while let Some(due) = self.next(now).filter(|due| *due <= now && !matches!(self.kind, Kind::Closed)) {
            count += u64::from(self.counts(due));
            self.advance(due);
        }
        count
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// splitmix64. The same numbers in every run, so that runs can be compared.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Exponentially distributed with mean 1.
    fn exponential(&mut self) -> f64 {
        // From 2^-53 to 1, so that the logarithm is finite.
        let uniform = ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -uniform.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        rate: Some(1000.0),
        poisson: false,
        warmup: Duration::ZERO,
        duration: Some(Duration::from_secs(1)),
        requests: None,
        thread: 0,
        threads: 1,
    };

    fn all(load: &Load) -> Vec<Duration> {
        let mut pace = Pace::new(load);
        let mut times = Vec::new();
        while let Some(due) = pace.next(Duration::ZERO) {
            times.push(due);
            pace.advance(due);
        }
        times
    }

    #[test]
    fn constant_times_do_not_drift_and_interleave() {
        let mut times: Vec<Duration> = (0..4).flat_map(|thread| all(&Load { thread, threads: 4, ..LOAD })).collect();
        times.sort();
        let expected: Vec<u64> = (0..1000).collect();
        assert_eq!(times.iter().map(|time| (time.as_nanos() as u64 + 500) / 1_000_000).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn poisson_times_have_the_rate_and_spread() {
        let load = Load { poisson: true, duration: Some(Duration::from_secs(100)), ..LOAD };
        let times = all(&load);
        assert!((98_000..102_000).contains(&times.len()), "{}", times.len());
        // Of exponential distances, 1 - 1/e are shorter than the mean.
        let short = times.windows(2).filter(|pair| pair[1] - pair[0] < Duration::from_millis(1)).count();
        assert!((0.62..0.645).contains(&(short as f64 / times.len() as f64)), "{short}");
        assert_eq!(times, all(&load));
    }

    #[test]
    fn warm_up_does_not_count() {
        let load = Load { warmup: Duration::from_millis(100), requests: Some(50), duration: None, ..LOAD };
        assert_eq!(all(&load).len(), 150);
        let mut pace = Pace::new(&load);
        assert_eq!(pace.abandon(Duration::from_micros(109_500)), 10);
    }
}
