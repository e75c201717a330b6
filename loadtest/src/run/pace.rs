//! When requests are due. Not here: whether a connection is free to send them.

use std::time::Duration;

use super::ramp::{Ramp, Step};
use crate::random::Random;

/// When one thread's requests are due, from the moment it starts.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    kind: Kind,
    /// Requests before this time do not count.
    warmup: Duration,
    /// No request is due from this time on.
    end: Duration,
    /// Number of further requests that count.
    left: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Whenever a connection is free.
    Closed,
    /// By the ramp, for the request with this number among those of all threads; `due` is None after the last one.
    Open { ramp: Ramp, number: f64, due: Option<Duration>, distance: Distance },
}

/// Distance between two requests of one thread, in requests of all threads.
#[derive(Clone, Debug)]
enum Distance {
    /// Constant, so that requests of the threads alternate.
    Equal(f64),
    /// Exponentially distributed around the mean.
    Poisson(f64, Random),
}

/// The load of one thread among several.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Rates of all threads, warm-up included; none: closed loop.
    pub(super) steps: Vec<Step>,
    pub(super) poisson: bool,
    pub(super) warmup: Duration,
    /// Duration after the warm-up; None: no limit.
    pub(super) duration: Option<Duration>,
    /// Number of requests of this thread; None: no limit.
    pub(super) requests: Option<u64>,
    pub(super) thread: usize,
    pub(super) threads: usize,
}

impl Pace {
    pub(super) fn new(load: &Load) -> Self {
        let kind = if load.steps.is_empty() { Kind::Closed } else { Kind::open(load) };
        let end = load.duration.map_or(Duration::MAX, |duration| load.warmup.saturating_add(duration));
        Self { kind, warmup: load.warmup, end, left: load.requests.unwrap_or(u64::MAX) }
    }

    /// When the next request is due; None: there is no other.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let due = match &self.kind {
            Kind::Closed => now,
            Kind::Open { due, .. } => (*due)?,
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
        if let Kind::Open { ramp, number, due, distance } = &mut self.kind {
            *number += distance.next();
            *due = ramp.time_of(*number);
        }
    }

    /// Time from which nothing is sent any more.
    pub(super) fn end(&self) -> Duration {
        self.end
    }

    /// Skips the requests that are due by `now`, and returns how many of them count. A closed loop has none.
    pub(super) fn abandon(&mut self, now: Duration) -> u64 {
        let mut count = 0;
        while let Some(due) = self.next(now).filter(|due| *due <= now && !matches!(self.kind, Kind::Closed)) {
            count += u64::from(self.counts(due));
            self.advance(due);
        }
        count
    }
}

impl Kind {
    fn open(load: &Load) -> Self {
        let (ramp, threads) = (Ramp::new(&load.steps), load.threads as f64);
        let mut distance = match load.poisson {
            true => Distance::Poisson(threads, Random::new(load.thread as u64)),
            false => Distance::Equal(threads),
        };
        let number = if load.poisson { distance.next() } else { load.thread as f64 };
        Self::Open { due: ramp.time_of(number), ramp, number, distance }
    }
}

impl Distance {
    fn next(&mut self) -> f64 {
        match self {
            Self::Equal(distance) => *distance,
            Self::Poisson(mean, random) => *mean * random.exponential(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand a second.
    fn load() -> Load {
        Load {
            steps: vec![Step { duration: Duration::MAX, from: 1000.0, to: 1000.0 }],
            poisson: false,
            warmup: Duration::ZERO,
            duration: Some(Duration::from_secs(1)),
            requests: None,
            thread: 0,
            threads: 1,
        }
    }

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
        let mut times: Vec<Duration> = (0..4).flat_map(|thread| all(&Load { thread, threads: 4, ..load() })).collect();
        times.sort();
        let expected: Vec<u64> = (0..1000).collect();
        assert_eq!(times.iter().map(|time| (time.as_nanos() as u64 + 500) / 1_000_000).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn poisson_times_have_the_rate_and_spread() {
        let load = Load { poisson: true, duration: Some(Duration::from_secs(100)), ..load() };
        let times = all(&load);
        assert!((98_000..102_000).contains(&times.len()), "{}", times.len());
        // Of exponential distances, 1 - 1/e are shorter than the mean.
        let short = times.windows(2).filter(|pair| pair[1] - pair[0] < Duration::from_millis(1)).count();
        assert!((0.62..0.645).contains(&(short as f64 / times.len() as f64)), "{short}");
        assert_eq!(times, all(&load));
    }

    #[test]
    fn warm_up_does_not_count() {
        let load = Load { warmup: Duration::from_millis(100), requests: Some(50), duration: None, ..load() };
        assert_eq!(all(&load).len(), 150);
        let mut pace = Pace::new(&load);
        assert_eq!(pace.abandon(Duration::from_micros(109_500)), 10);
    }
}
