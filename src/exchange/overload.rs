//! Whether a worker has more to do than it can, and which requests it refuses then. How long its turns take is how long whatever arrives
//! has to wait before it is looked at. Not here: limits of clusters (`waiting`), and what is done when buffers are short.

use std::time::Duration;

use super::{Engine, Failure};
use crate::cluster::Priority;
use crate::uring::Driver;

/// The time over which turns are judged together.
const WINDOW: Duration = Duration::from_millis(100);
/// How long turns have to be too long before anything is refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// Turns that are so many times too long have normal requests refused, too.
const NORMAL: u32 = 5;
/// Turns that are so many times too long have the worker accept no connections, besides. Who is refused is told so; who is not accepted waits.
const ACCEPTING: u32 = 20;
/// Part of the requests by which the part that is refused grows in each window, and by which it falls.
const STEPS: (f32, f32) = (0.1, 0.02);

/// How overloaded a worker is.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// When the window began.
    began: Duration,
    /// The sum of the squares of the turns in the window, square seconds: over the length of the window, that is how long the turn is on
    /// average into which an arrival falls, at whatever time it comes.
    squares: f64,
    bulk: Shedding,
    normal: Shedding,
    accepting: Shedding,
}

/// The part of the requests of one priority that is refused.
#[derive(Clone, Copy, Debug, Default)]
struct Shedding {
    /// For how long turns have been too long.
    long: Duration,
    /// 0 to 1.
    part: f32,
}

impl Shedding {
    /// Takes in how long arrivals wait in a window of that length.
    fn observe(&mut self, delay: Duration, window: Duration, bound: Duration) {
        if delay > bound {
            self.long = self.long.saturating_add(window);
        } else {
            self.long = Duration::ZERO;
        }
        if self.long >= PATIENCE {
            self.part = (self.part + STEPS.0).min(1.0);
        } else if self.long.is_zero() {
            self.part = (self.part - STEPS.1).max(0.0);
        }
    }
}

impl Overload {
    /// Takes in that a turn which began at `now` has taken `turn`; `bound`: how long one may take. Returns how long arrivals waited in a
    /// window that has ended.
    #[inline]
    fn observe(&mut self, now: Duration, turn: Duration, bound: Duration) -> Option<Duration> {
        self.squares += turn.as_secs_f64() * turn.as_secs_f64();
        let end = now + turn;
        if end < self.began + WINDOW { None } else { Some(self.end_window(end, bound)) }
    }

    #[cold]
    fn end_window(&mut self, now: Duration, bound: Duration) -> Duration {
        let window = now.saturating_sub(self.began);
        let delay = Duration::from_secs_f64(self.squares / window.as_secs_f64().max(1e-9));
        (self.began, self.squares) = (now, 0.0);
        self.bulk.observe(delay, window, bound);
        self.normal.observe(delay, window, bound.saturating_mul(NORMAL));
        self.accepting.observe(delay, window, bound.saturating_mul(ACCEPTING));
        delay
    }

    /// Whether no connection is accepted: that comes last, when all is refused that may be.
    fn rests(&self) -> bool {
        self.accepting.part > 0.0 && self.normal.part >= 1.0
    }

    /// Whether a request is refused; `random`: 32 even bits.
    fn refuses(&self, priority: Priority, random: u32) -> bool {
        let part = match priority {
            Priority::Critical => 0.0,
            Priority::Normal => self.normal.part,
            Priority::Bulk => self.bulk.part,
        };
        part > 0.0 && (random as f32) < part * (u32::MAX as f32)
    }
}

impl<D: Driver> Engine<D> {
    /// Takes in that all events of a turn are dealt with. Returns whether accepting rests from now on, because turns take far too long.
    pub fn end_turn(&mut self) -> bool {
        let now = self.ring.clock().now();
        let turn = self.ring.elapsed();
        self.counters.busy.add(turn.as_nanos() as u64);
        self.counters.turns.add(1);
        if let Some(delay) = self.overload.observe(now, turn, self.snapshot.overload_delay) {
            self.counters.turn_delay.set(delay.as_micros() as u64);
        }
        let rests = self.overload.rests() && !self.ring.is_accepting_at_rest();
        if rests {
            self.ring.rest_accepting();
        }
        rests
    }

    /// Whether requests are refused because the worker has more to do than it can.
    #[must_use]
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.overload.bulk.part > 0.0
    }

    /// Refuses a request if the worker is overloaded, and it is one of those that are given up first.
    #[inline]
    pub(super) fn admit(&mut self, priority: Priority) -> Result<(), Failure> {
        if !self.is_overloaded() {
            return Ok(());
        }
        let random = self.balancer.random();
        if self.overload.refuses(priority, random) {
            self.counters.count_overload(priority as usize);
            return Err(Failure::Overloaded);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(50);

    /// Turns of that length for so long. Returns the parts of bulk and normal requests that are refused then.
    fn run(overload: &mut Overload, now: &mut Duration, turn: u64, seconds: u64) -> (f32, f32) {
        let (turn, end) = (Duration::from_millis(turn), *now + Duration::from_secs(seconds));
        while *now < end {
            overload.observe(*now, turn, BOUND);
            *now += turn.max(Duration::from_millis(1));
        }
        (overload.bulk.part, overload.normal.part)
    }

    #[test]
    fn what_is_refused_follows_the_length_of_turns() {
        let (mut overload, mut now) = (Overload::default(), Duration::ZERO);
        assert_eq!(run(&mut overload, &mut now, 0, 10), (0.0, 0.0));
        assert_eq!(run(&mut overload, &mut now, 49, 10), (0.0, 0.0), "long, but not too long");
        assert_eq!(run(&mut overload, &mut now, 60, 10), (1.0, 0.0));
        assert_eq!(run(&mut overload, &mut now, 300, 30), (1.0, 1.0));
        assert!(!overload.rests(), "accepting stops last");
        run(&mut overload, &mut now, 1100, 5);
        assert!(overload.rests());
        assert!(!overload.refuses(Priority::Critical, 0));
        assert!(overload.refuses(Priority::Normal, u32::MAX / 2) && overload.refuses(Priority::Bulk, u32::MAX / 2));
        let (bulk, normal) = run(&mut overload, &mut now, 1, 3);
        assert!((0.3..0.6).contains(&bulk) && (0.3..0.6).contains(&normal), "it is let in again bit by bit");
        assert!(!overload.rests(), "and begins first");
        assert_eq!(run(&mut overload, &mut now, 1, 5), (0.0, 0.0));
    }

    #[test]
    fn a_long_turn_now_and_then_is_no_overload() {
        let (mut overload, mut now) = (Overload::default(), Duration::ZERO);
        for _ in 0..100 {
            overload.observe(now, Duration::from_millis(900), BOUND);
            now += Duration::from_millis(900);
            run(&mut overload, &mut now, 1, 1);
            assert_eq!(overload.bulk.part, 0.0);
        }
    }
}
