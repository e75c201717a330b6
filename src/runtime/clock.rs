//! The turn clock: read once a turn, so that everything in a turn happens at the same time and costs no call.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Tick;
use crate::limits::TICK_MS;

/// Zero of the monotonic time of all workers.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Monotonic time as one worker sees it (CLOCK_MONOTONIC: steps of the wall clock neither fire nor stop a time-out).
#[derive(Debug)]
pub struct Clock {
    now: Duration,
}

impl Clock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { now }
    }

    /// Time since the process first asked; the same for all workers.
    #[must_use]
    pub fn monotonic() -> Duration {
        START.elapsed()
    }

    /// Begins a turn at `now`, which does not go back.
    pub fn turn(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Time of this turn since the process started; the same for all workers.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Time of this turn in ticks.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.now.as_millis() as u64 / TICK_MS
    }

    /// The first tick at which `after` has certainly passed from now.
    #[must_use]
    pub fn deadline(&self, after: Duration) -> Tick {
        self.deadline_from(self.tick(), after)
    }

    /// The first tick at which `after` has certainly passed from any time in `tick`.
    #[must_use]
    pub fn deadline_from(&self, tick: Tick, after: Duration) -> Tick {
        tick.saturating_add(self.ticks(after)).saturating_add(1)
    }

    /// How many ticks a time takes, rounded up.
    #[must_use]
    pub fn ticks(&self, time: Duration) -> Tick {
        (time.as_millis() as u64).div_ceil(TICK_MS)
    }

    /// How long until `tick` begins; zero if it has.
    #[must_use]
    pub fn until(&self, tick: Tick) -> Duration {
        Duration::from_millis(tick.saturating_mul(TICK_MS)).saturating_sub(self.now)
    }

    /// Seconds of the wall clock since 1970.
    #[must_use]
    pub fn wall_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }
}
