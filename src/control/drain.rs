//! The end of the process as its operator sees it: what is logged and answered while exchanges under way end.
//! Not here: the orders to workers, and how long they are waited for (`server`).

use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{Control, ControlRequest, health};
use crate::event_log::{Level, log};

/// How often what is left is logged.
const REPORT: Duration = Duration::from_secs(5);

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    why: &'static str,
    since: Instant,
    /// How long it may take.
    limit: Duration,
}

/// A drain under way, for `cairn status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// What it was asked by: a signal, or `cairn drain`.
    pub why: String,
    /// How long it has lasted.
    pub seconds: u64,
    /// After how long what is left then will be cut.
    pub seconds_left: u64,
    /// Open connections of clients.
    pub connections: u64,
}

/// How a drain has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing was left.
    Done,
    /// Its time was over.
    Late,
    /// A second signal came, of this name.
    Signal(&'static str),
}

/// What is under way.
struct Left {
    connections: u64,
    exchanges: u64,
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.connections == 0 && self.exchanges == 0
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |count: u64| if count == 1 { "" } else { "s" };
        let Self { connections, exchanges } = *self;
        write!(f, "{connections} connection{} and {exchanges} exchange{}", s(connections), s(exchanges))
    }
}

impl Control {
    /// Gives up what could still change the configuration, and logs that the process ends because of `why`, after `limit` at the
    /// latest. Whoever waits for a reload is told so.
    pub fn begin_drain(&mut self, why: &'static str, limit: Duration) {
        self.running = None;
        self.wanted = None;
        self.guarded = None;
        self.watcher = None;
        self.drain = Some(Drain { why, since: Instant::now(), limit });
        let left = self.left();
        let text = format_args!(
            "draining because of {why}: {left} are left, for {limit:?} at most; a second signal ends at once"
        );
        log(Level::Info, text);
    }

    /// Answers requests, and logs from time to time what is left, for ever. Cancel-safe.
    pub async fn drain(&mut self, asks: &mut mpsc::Receiver<ControlRequest>, hangup: &mut Signal) -> Infallible {
        let mut report = interval_at(tokio::time::Instant::now() + REPORT, REPORT);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (bell, mut pulse) = (self.bell.clone(), health::pulse());
        loop {
            tokio::select! {
                () = health::rung(&bell, self.reviewed) => self.review_endpoints(),
                judgement = self.checks.next() => self.judge_endpoint(&judgement),
                _ = pulse.tick(), if self.watches_endpoints => self.review_endpoints(),
                Some(ask) = asks.recv() => match ask {
                    // Dropping the reply says that the process ends.
                    ControlRequest::Reload(..) | ControlRequest::EndGuard(..) => {
                        log(Level::Warn, "nothing is reloaded, because the process drains");
                    }
                    // It does. The requester may have hung up.
                    ControlRequest::Drain(reply) => drop(reply.send(())),
                    _ => self.answer(ask),
                },
                _ = hangup.recv() => log(Level::Warn, "SIGHUP: nothing is reloaded, because the process drains"),
                _ = report.tick() => {
                    if let Some(DrainStatus { seconds, seconds_left, .. }) = self.drain_status() {
                        let left = self.left();
                        log(
                            Level::Info,
                            format_args!("draining for {seconds} s: {left} are left, for {seconds_left} s at most"),
                        );
                    }
                }
            }
        }
    }

    /// Logs how the drain has ended, and what is cut by that. Comes before the workers are stopped.
    pub fn end_drain(&self, end: DrainEnd) {
        let Some(Drain { since, limit, .. }) = self.drain else { return };
        let lasted = since.elapsed().as_secs_f64();
        let cause = match end {
            DrainEnd::Done => String::new(),
            DrainEnd::Late => format!(", because {limit:?} are over"),
            DrainEnd::Signal(name) => format!(", because of a second signal, {name}"),
        };
        let left = self.left();
        if left.is_nothing() {
            log(Level::Info, format_args!("ends after {lasted:.1} s of draining{cause}; nothing is cut"));
        } else {
            log(Level::Warn, format_args!("ends after {lasted:.1} s of draining{cause}; {left} are cut"));
        }
    }

    pub(super) fn drain_status(&self) -> Option<DrainStatus> {
        let Drain { why, since, limit } = self.drain?;
        let lasted = since.elapsed();
        Some(DrainStatus {
            why: why.to_owned(),
            seconds: lasted.as_secs(),
            seconds_left: limit.saturating_sub(lasted).as_secs_f64().ceil() as u64,
            connections: self.left().connections,
        })
    }

    fn left(&self) -> Left {
        let counters = self.workers.iter().map(|worker| &worker.counters);
        let (connections, exchanges) = counters.fold((0, 0), |(connections, exchanges), counters| {
            (connections + counters.all_connections(), exchanges + counters.exchanges.get())
        });
        Left { connections, exchanges }
    }
}
