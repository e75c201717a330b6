//! A reload under guard: rolled back automatically when the share of failures rises. Not here: the reload itself.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::reload::{Reloaded, Verdict, send_replies};
use super::{Control, Reply};
use crate::config::Config;
use crate::event_log::{Level, log};

/// Fewest answers since the reload on which a guard decides.
const ANSWERS_MIN: u64 = 20;
/// Time before the reload whose failure rates are the guard's baseline.
const HISTORY: Duration = Duration::from_secs(60);

/// Longest guard. Other reloads are refused while it lasts.
pub const GUARD_MAX: Duration = Duration::from_secs(24 * 3600);

/// When a reload is rolled back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// How long the guard lasts.
    window: Duration,
    /// By how much 5xx answers, or connect failures, per answer may rise: 0.05 is five in a hundred.
    threshold: f64,
}

/// Why a [`Guard`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// Its length is zero or above [`GUARD_MAX`].
    #[error("a guard lasts from 1 ms to 24 h")]
    Window,
    /// The threshold is no share.
    #[error("the threshold of a guard is a share from 0 to 1: 0.05 is five in a hundred")]
    Threshold,
}

impl Guard {
    /// A guard that lasts for `window` and rolls back when a rate rises by more than `threshold`.
    ///
    /// # Errors
    /// Either is out of range.
    pub fn new(window: Duration, threshold: f64) -> Result<Self, GuardError> {
        if window.is_zero() || window > GUARD_MAX {
            Err(GuardError::Window)
        } else if !(0.0..=1.0).contains(&threshold) {
            Err(GuardError::Threshold)
        } else {
            Ok(Self { window, threshold })
        }
    }
}

/// How an operator ends a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardEnd {
    /// Keep the reload.
    Accept,
    /// Serve the previous configuration again.
    RollBack,
}

/// Counters summed over all workers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) answers: u64,
    pub(super) errors: u64,
    pub(super) connect_failures: u64,
}

/// Failures per answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    errors: f64,
    connect_failures: f64,
}

/// Samples of the last [`HISTORY`].
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Instant, Sample)>);

/// An applied reload whose guard still lasts.
#[derive(Debug)]
pub(super) struct GuardedReload {
    guard: Guard,
    until: Instant,
    /// The configuration to roll back to.
    before: Arc<Config>,
    base: Rates,
    start: Sample,
    outcome: Reloaded,
    replies: Vec<Reply<Reloaded>>,
}

/// A rate that has risen above the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Regression {
    what: &'static str,
    before: f64,
    now: f64,
}

impl Sample {
    fn rates_since(&self, earlier: &Self) -> Option<Rates> {
        let answers = self.answers.saturating_sub(earlier.answers);
        let per_answer = |now: u64, then: u64| now.saturating_sub(then) as f64 / answers as f64;
        (answers > 0).then(|| Rates {
            errors: per_answer(self.errors, earlier.errors),
            connect_failures: per_answer(self.connect_failures, earlier.connect_failures),
        })
    }
}

impl History {
    pub(super) fn push(&mut self, now: Instant, sample: Sample) {
        while self.0.front().is_some_and(|(then, _)| now.duration_since(*then) > HISTORY) {
            self.0.pop_front();
        }
        self.0.push_back((now, sample));
    }

    /// Rates between the oldest and the newest sample.
    pub(super) fn rates(&self) -> Rates {
        let ends = self.0.front().zip(self.0.back());
        ends.and_then(|((_, first), (_, last))| last.rates_since(first)).unwrap_or_default()
    }
}

impl GuardedReload {
    pub(super) fn new(
        guard: Guard,
        before: Arc<Config>,
        base: Rates,
        start: Sample,
        outcome: Reloaded,
        replies: Vec<Reply<Reloaded>>,
    ) -> Self {
        let until = Instant::now() + guard.window;
        Self { guard, until, before, base, start, outcome, replies }
    }

    /// How long the guard lasts in all.
    pub(super) fn window(&self) -> Duration {
        self.guard.window
    }

    /// Time until the guard ends.
    pub(super) fn left(&self) -> Duration {
        Duration::from_secs(self.until.saturating_duration_since(Instant::now()).as_secs())
    }

    fn compare(&self, now: &Sample) -> Option<Regression> {
        if now.answers.saturating_sub(self.start.answers) < ANSWERS_MIN {
            return None;
        }
        let rates = now.rates_since(&self.start)?;
        let kinds = [
            Regression { what: "5xx answers", before: self.base.errors, now: rates.errors },
            Regression { what: "connect failures", before: self.base.connect_failures, now: rates.connect_failures },
        ];
        kinds.into_iter().find(|rate| rate.now > rate.before + self.guard.threshold)
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let Self { what, before, now } = *self;
        write!(f, "{what} rose from {:.1} % to {:.1} % of answers", percent(before), percent(now))
    }
}

impl Control {
    /// Takes a sample. Ends the guard if its time is over, and rolls back if a rate has risen too far.
    pub(super) fn tick(&mut self) {
        self.collect();
        let sample = self.sample();
        self.history.push(Instant::now(), sample);
        let Some(guarded) = self.guarded.take() else { return };
        if let Some(worse) = guarded.compare(&sample) {
            return self.restore(guarded.before, worse.to_string(), guarded.replies);
        }
        if Instant::now() < guarded.until {
            self.guarded = Some(guarded);
            return;
        }
        let version = self.version();
        let window = guarded.guard.window;
        if sample.answers.saturating_sub(guarded.start.answers) < ANSWERS_MIN {
            log(
                Level::Warn,
                format_args!("version {version} is kept, unjudged: fewer than {ANSWERS_MIN} answers in {window:?}"),
            );
        } else {
            log(Level::Info, format_args!("version {version} is kept: its guard has found nothing in {window:?}"));
        }
        send_replies(guarded.replies, &guarded.outcome);
    }

    /// Ends the guard on an operator's request. The reply is None if no reload is under guard.
    pub(super) fn end_guard(&mut self, end: GuardEnd, reply: Reply<Option<Reloaded>>) {
        // The requester may have hung up.
        let Some(mut guarded) = self.guarded.take() else { return drop(reply.send(None)) };
        match end {
            GuardEnd::Accept => {
                log(Level::Info, format_args!("version {} is kept: an operator has accepted it", self.version()));
                drop(reply.send(Some(guarded.outcome.clone())));
                send_replies(guarded.replies, &guarded.outcome);
            }
            GuardEnd::RollBack => {
                let (outcome, told) = oneshot::channel();
                tokio::spawn(async move { told.await.map(|outcome| reply.send(Some(outcome))) });
                guarded.replies.push(outcome);
                self.restore(guarded.before, "an operator asked for it".to_owned(), guarded.replies);
            }
        }
    }

    /// Reports the result of a rollback; `why` is its cause.
    pub(super) fn rolled_back(&mut self, why: String, replies: Vec<Reply<Reloaded>>, result: Result<(), String>) {
        let (verdict, message) = match result {
            Ok(()) => (Verdict::RolledBack, why),
            Err(problem) => (Verdict::Stuck, format!("{why}, and {problem}")),
        };
        self.reload_counts.note(verdict, self.version(), &message);
        self.reload_counts.problem = Some(message.as_str().into());
        let outcome = Reloaded { verdict, version: self.version(), message, tenants: Vec::new() };
        log(outcome.level(), &outcome);
        send_replies(replies, &outcome);
    }

    pub(super) fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        for worker in &self.workers {
            let [successes, redirects, refusals, errors] = worker.counters.responses();
            sample.answers += successes + redirects + refusals + errors;
            sample.errors += errors;
            sample.connect_failures += worker.counters.connect_failures.get();
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(answers: u64, errors: u64, connect_failures: u64) -> Sample {
        Sample { answers, errors, connect_failures }
    }

    #[test]
    fn only_a_rise_beyond_the_threshold_counts() {
        let outcome = Reloaded { verdict: Verdict::Applied, version: 2, message: String::new(), tenants: Vec::new() };
        let config = crate::config::parse("a.toml", "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n").unwrap();
        let guard = Guard::new(Duration::from_secs(30), 0.05).unwrap();
        let base = Rates { errors: 0.10, connect_failures: 0.0 };
        let guarded = GuardedReload::new(guard, Arc::new(config), base, sample(1000, 7, 7), outcome, Vec::new());
        let cases = [
            (sample(1010, 17, 7), None),
            (sample(1100, 21, 7), None),
            (sample(1100, 27, 7), Some("5xx answers rose from 10.0 % to 20.0 % of answers")),
            (sample(1100, 17, 17), Some("connect failures rose from 0.0 % to 10.0 % of answers")),
            (sample(1020, 27, 7), Some("5xx answers rose from 10.0 % to 100.0 % of answers")),
        ];
        for (now, expected) in cases {
            assert_eq!(guarded.compare(&now).map(|worse| worse.to_string()).as_deref(), expected, "{now:?}");
        }
    }

    #[test]
    fn guards_have_bounds() {
        let ms = Duration::from_millis;
        for (window, threshold, expected) in [
            (ms(1), 0.0, None),
            (GUARD_MAX, 1.0, None),
            (ms(0), 0.05, Some(GuardError::Window)),
            (GUARD_MAX + ms(1), 0.05, Some(GuardError::Window)),
            (Duration::MAX, 0.05, Some(GuardError::Window)),
            (ms(1), -0.1, Some(GuardError::Threshold)),
            (ms(1), 1.1, Some(GuardError::Threshold)),
            (ms(1), f64::NAN, Some(GuardError::Threshold)),
        ] {
            assert_eq!(Guard::new(window, threshold).err(), expected, "{window:?} {threshold}");
        }
    }

    #[test]
    fn history_is_of_the_last_minute() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!(history.rates(), Rates::default());
        for second in 0..100 {
            // Errors until the 30th second.
            history.push(start + Duration::from_secs(second), sample(10 * second, 10 * second.min(30), 0));
        }
        assert_eq!(history.rates(), Rates::default());
        history.push(start + Duration::from_secs(100), sample(1000, 400, 0));
        assert!(history.rates().errors > 0.16 && history.rates().errors < 0.17, "{:?}", history.rates());
    }
}
