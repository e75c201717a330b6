//! Rates that change over time, and when the request with a given number is due. Not here: random times, or sending.

use std::time::Duration;

/// A part of an open loop with a linearly changing rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) duration: Duration,
    /// Requests a second at its beginning and at its end.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// Consecutive steps.
#[derive(Clone, Debug)]
pub(super) struct Ramp(Vec<Segment>);

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Beginning and length, in seconds.
    start: f64,
    seconds: f64,
    from: f64,
    to: f64,
    /// Number of requests that are due before it.
    before: f64,
}

impl Ramp {
    pub(super) fn new(steps: &[Step]) -> Self {
        let (mut start, mut before) = (0.0, 0.0);
        let piece = |step: &Step| {
            let seconds = step.duration.as_secs_f64();
            let piece = Segment { start, seconds, from: step.from, to: step.to, before };
            start += seconds;
            before += piece.requests();
            piece
        };
        Self(steps.iter().map(piece).collect())
    }

    /// When the request with this number, from 0 and possibly fractional, is due; None: never.
    pub(super) fn time_of(&self, number: f64) -> Option<Duration> {
        let piece = self.0.iter().find(|piece| number < piece.before + piece.requests())?;
        Some(Duration::try_from_secs_f64(piece.start + piece.reach(number - piece.before)).unwrap_or(Duration::MAX))
    }
}

impl Segment {
    fn requests(&self) -> f64 {
        f64::midpoint(self.from, self.to) * self.seconds
    }

    /// Seconds until `count` requests are due: the root of `from * t + slope / 2 * t² = count` that does not cancel.
    fn reach(&self, count: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        let slope = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        2.0 * count / (self.from + root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_where_the_area_under_the_rate_says() {
        let step = |seconds, from, to| Step { duration: Duration::from_secs(seconds), from, to };
        // 100 at an even rate, 150 rising, none, 50 falling to nothing.
        let ramp = Ramp::new(&[step(10, 10.0, 10.0), step(10, 10.0, 20.0), step(5, 0.0, 0.0), step(5, 20.0, 0.0)]);
        for (number, seconds) in [(0.0, 0.0), (50.0, 5.0), (100.0, 10.0), (162.5, 15.0), (250.0, 25.0), (287.5, 27.5)] {
            let due = ramp.time_of(number).map(|due| due.as_secs_f64());
            assert!(due.is_some_and(|due| (due - seconds).abs() < 1e-9), "{number}: {due:?}");
        }
        assert_eq!(ramp.time_of(300.0), None);
    }

    #[test]
    fn an_endless_rate_does_not_end() {
        let ramp = Ramp::new(&[Step { duration: Duration::MAX, from: 1e6, to: 1e6 }]);
        assert_eq!(ramp.time_of(3e12), Some(Duration::from_secs(3_000_000)));
    }
}
