//! Reloads: the requests, the steps and the results. One reload runs at a time; requests that come meanwhile are merged into one
//! that follows. Nothing here blocks the control thread, and a drain ends a reload at any step.
//! Not here: reading and compiling (`prepare`), and what triggers a reload (`watch`, `admin`, signals).

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

use super::guard::{Guard, GuardedReload, Rates};
use super::prepare::{NewConfig, Outcome, Prepared, Request, insecure_clusters, tenant_changes};
use super::watch::WatcherUpdate;
use super::{Control, Reply};
use crate::config::Config;
use crate::event_log::{self, Level, announce, log};
use crate::id::Address;
use crate::listener::BoundAddresses;
use crate::worker::{ConfigUpdate, WorkerHandle};

/// How long workers get to apply a snapshot before a warning is logged. They apply it between two turns.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of checks whether all workers have applied it.
const APPLY_POLL: Duration = Duration::from_millis(1);

/// Why a reload under guard of what is served already is refused.
const ALREADY_SERVED: &str = "there is nothing to guard: the files say what is served already. Saved files are reloaded by themselves, \
                              without a guard; with `watch = false` they wait for `cairn reload --guard`";

/// Said when the files are again what is served, after a reload that was refused or rolled back.
const MENDED: &str = "the files say what is served again";

/// Nothing can be loaded any more: the compiler was lost in a panic.
const LOST: &str = "what the last reload left behind is lost; restart this process";
/// Nothing can be loaded now. Requests wait for the reload under way, so only a bug leads here.
const BUSY: &str = "another reload is under way; ask again when it has ended";

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The new configuration is served.
    Applied,
    /// The new configuration equals the one that is served.
    Unchanged,
    /// The new configuration has errors, or its listeners cannot be opened. The old one stays.
    Refused,
    /// The new configuration was served, then its guard or an operator went back to the old one.
    RolledBack,
    /// A rollback failed; the new configuration stays.
    Stuck,
}

/// The answer to a reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The result.
    pub verdict: Verdict,
    /// Version of the configuration that is served now.
    pub version: u64,
    /// The changes, or why there are none.
    pub message: String,
    /// Tenants whose state has changed, each with the problems of its file.
    pub tenants: Vec<String>,
}

impl Reloaded {
    /// Whether the files are what is served now.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Applied | Verdict::Unchanged)
    }

    /// How much it concerns the operator. News of tenants may be bad.
    pub(super) fn level(&self) -> Level {
        match self.verdict {
            Verdict::Refused | Verdict::Stuck => Level::Error,
            Verdict::RolledBack => Level::Warn,
            Verdict::Applied | Verdict::Unchanged if self.tenants.is_empty() => Level::Info,
            Verdict::Applied | Verdict::Unchanged => Level::Warn,
        }
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, version, message, tenants } = self;
        match verdict {
            Verdict::Applied => write!(f, "reloaded, version {version}: {message}"),
            Verdict::Unchanged if message.is_empty() => write!(f, "nothing has changed, version {version}"),
            Verdict::Unchanged => write!(f, "nothing has changed, version {version}: {message}"),
            Verdict::Refused => write!(f, "the reload is refused, version {version} is served on:\n{message}"),
            Verdict::Stuck => write!(f, "the reload cannot be rolled back, version {version} is served on: {message}"),
            Verdict::RolledBack => {
                write!(f, "the reload is rolled back, version {version} serves as before: {message}")
            }
        }?;
        tenants.iter().try_for_each(|tenant| write!(f, "\n{}", tenant.trim_end()))
    }
}

/// A request for a reload, or several merged ones that came while another reload was under way.
#[derive(Debug, Default)]
pub(super) struct ReloadRequest {
    /// The guard that was requested last.
    guard: Option<Guard>,
    replies: Vec<Reply<Reloaded>>,
    /// SIGHUP was received.
    hangup: bool,
}

impl ReloadRequest {
    /// Files have changed.
    pub(super) fn changed() -> Self {
        Self::default()
    }

    /// SIGHUP was received.
    pub(super) fn hangup() -> Self {
        Self { hangup: true, ..Self::default() }
    }

    /// An operator asked for a reload, perhaps under guard.
    pub(super) fn asked(guard: Option<Guard>, reply: Reply<Reloaded>) -> Self {
        Self { guard, replies: vec![reply], hangup: false }
    }

    /// Whether no operator asked for it: only files have changed.
    fn is_by_itself(&self) -> bool {
        self.replies.is_empty() && !self.hangup
    }

    fn join(&mut self, later: Self) {
        self.guard = later.guard.or(self.guard);
        self.replies.extend(later.replies);
        self.hangup |= later.hangup;
    }

    /// Logs the result and sends it to the requesters. Files that changed without effect are not logged.
    fn answer(self, outcome: &Reloaded) {
        if !self.replies.is_empty() {
            log(outcome.level(), outcome);
        } else if self.hangup {
            log(outcome.level(), format_args!("SIGHUP: {outcome}"));
        } else if outcome.verdict != Verdict::Unchanged || !outcome.message.is_empty() || !outcome.tenants.is_empty() {
            log(outcome.level(), format_args!("files have changed: {outcome}"));
        }
        send_replies(self.replies, outcome);
    }
}

/// Sends the result to all requesters; those that have hung up are skipped.
pub(super) fn send_replies(replies: Vec<Reply<Reloaded>>, outcome: &Reloaded) {
    replies.into_iter().for_each(|reply| drop(reply.send(outcome.clone())));
}

/// What an operation is for.
#[derive(Debug)]
enum Purpose {
    /// To watch the files of the first configuration. No other is served.
    Watch,
    Reload(ReloadRequest),
    /// To go back to the configuration before a reload.
    RollBack {
        why: String,
        replies: Vec<Reply<Reloaded>>,
    },
}

/// An operation under way: first prepared, then applied by the workers.
#[derive(Debug)]
pub(super) struct Running {
    purpose: Purpose,
    /// The configuration that was served when it began, and its failure rates.
    before: Arc<Config>,
    base: Rates,
    step: JoinHandle<Step>,
    /// Set once the snapshot is sent to the workers: the result if all apply it.
    outcome: Option<Reloaded>,
    /// Listeners that the new snapshot does not have.
    removed_listeners: BoundAddresses,
}

impl Running {
    /// Whether it may change what is served.
    pub(super) fn is_reload(&self) -> bool {
        !matches!(self.purpose, Purpose::Watch)
    }
}

/// A finished step of an operation.
#[derive(Debug)]
pub(super) enum Step {
    Prepared(Box<Prepared>),
    /// Every worker has applied the snapshot, or [`APPLY_TIMEOUT`] has passed.
    Applied,
}

/// Waits for the next step, for ever if nothing is under way. Cancel-safe.
pub(super) async fn next_step(running: &mut Option<Running>) -> Result<Step, String> {
    match running {
        Some(running) => (&mut running.step).await.map_err(|error| error.to_string()),
        None => std::future::pending().await,
    }
}

impl Control {
    /// Begins to watch the files that were read at the start.
    pub(super) fn watch(&mut self) {
        self.begin(Purpose::Watch, Request::Watch);
    }

    /// Begins a reload, or queues it behind the one under way, or refuses it under guard.
    pub(super) fn request_reload(&mut self, wanted: ReloadRequest) {
        if let Some(guarded) = &self.guarded {
            let message = format!(
                "a reload under guard ends in {:?} at the latest, or by `cairn reload --accept` or `--rollback`; ask again then",
                guarded.left()
            );
            if wanted.is_by_itself() {
                self.deferred = true;
                return;
            }
            // That says nothing of the files, so it is counted and is no problem of theirs.
            let (verdict, version) = (Verdict::Refused, self.version());
            self.reload_counts.note(verdict, version, &message);
            return wanted.answer(&Reloaded { verdict, version, message, tenants: Vec::new() });
        }
        if self.running.is_some() {
            self.wanted.get_or_insert_default().join(wanted);
            return;
        }
        self.deferred = false;
        let rolled_back_config = self.rolled_back_config.clone().filter(|_| wanted.is_by_itself());
        self.begin(Purpose::Reload(wanted), Request::Load { rolled_back_config });
    }

    /// Begins to roll back to `config`.
    pub(super) fn restore(&mut self, config: Arc<Config>, why: String, replies: Vec<Reply<Reloaded>>) {
        self.rolled_back_config = Some(Arc::clone(&self.config));
        self.begin(Purpose::RollBack { why, replies }, Request::Restore(config));
    }

    /// Begins an operation. If it cannot begin, answers so at once.
    fn begin(&mut self, purpose: Purpose, request: Request) {
        let ready = self.serving_state().and_then(|serving| Some((serving, self.compiler.take()?)));
        let Some((serving, compiler)) = ready else {
            let problem = if self.running.is_some() { BUSY } else { LOST };
            return self.conclude(purpose, Arc::clone(&self.config), Rates::default(), Err(problem.to_owned()));
        };
        self.running = Some(Running {
            purpose,
            before: Arc::clone(&self.config),
            base: self.history.rates(),
            step: spawn_blocking(move || Step::Prepared(Box::new(compiler.prepare(request, &serving)))),
            outcome: None,
            removed_listeners: BoundAddresses::new(),
        });
    }

    /// Continues after a step, and begins the queued reload when the operation has ended.
    pub(super) fn step(&mut self, step: Result<Step, String>) {
        let Some(running) = self.running.take() else { return };
        match step {
            Ok(Step::Prepared(prepared)) => self.on_prepared(running, *prepared),
            Ok(Step::Applied) => self.on_applied(running),
            Err(problem) => self.done(running, Err(problem)),
        }
        if self.running.is_none()
            && let Some(wanted) = self.wanted.take()
        {
            self.request_reload(wanted);
        }
    }

    fn on_prepared(&mut self, running: Running, prepared: Prepared) {
        self.plan_loader = prepared.compiler.plan_loader();
        self.compiler = Some(prepared.compiler);
        if let WatcherUpdate::Replaced { watcher, changed } = prepared.watch {
            self.watcher = watcher;
            if changed {
                self.wanted.get_or_insert_default().join(ReloadRequest::changed());
            }
        }
        match prepared.result {
            Ok(Outcome::New(new)) => self.publish(running, *new),
            Ok(Outcome::Same(config)) => {
                // The states of tenants may differ all the same.
                self.config = config;
                let mut unchanged = self.unchanged();
                if self.reload_counts.problem.take().is_some() {
                    unchanged.message = MENDED.to_owned();
                }
                self.done(running, Ok(unchanged));
            }
            Ok(Outcome::Nothing) => {
                let unchanged = self.unchanged();
                self.done(running, Ok(unchanged));
            }
            Err(problem) => self.done(running, Err(problem)),
        }
    }

    /// Sends a snapshot to every worker, with the sockets of its new listeners.
    fn publish(&mut self, mut running: Running, new: NewConfig) {
        let NewConfig { config, snapshot, sockets, bound, log_sink, summary } = new;
        let snapshot = Arc::new(snapshot);
        for (id, address) in &bound {
            announce(format_args!("listener {} on {address}", snapshot.listener(*id).name));
        }
        self.begin_log(&snapshot, log_sink);
        self.names.follow(&snapshot, config.metrics.routes);
        self.begin_export(&snapshot);
        event_log::configure(config.events.level, config.events.format);
        for (worker, sockets) in self.workers.iter().zip(sockets) {
            worker.send(ConfigUpdate { snapshot: Arc::clone(&snapshot), sockets });
        }
        let had = std::mem::take(&mut self.bound).into_iter();
        (self.bound, running.removed_listeners) = had.partition(|(id, _)| snapshot.has_listener(*id));
        self.bound.extend(bound);
        let version = snapshot.version;
        self.snapshots.push(snapshot);
        self.config = Arc::new(config);
        self.review_endpoints();
        let message = summary;
        running.outcome = Some(Reloaded { verdict: Verdict::Applied, version, message, tenants: Vec::new() });
        let workers = self.workers.clone();
        running.step = tokio::spawn(async move {
            wait_until_applied(&workers, version).await;
            Step::Applied
        });
        self.running = Some(running);
    }

    fn on_applied(&mut self, mut running: Running) {
        for (_, address) in std::mem::take(&mut running.removed_listeners) {
            log(Level::Info, format_args!("no listener on {address} any more"));
            if let Address::Unix(path) = address {
                // If it cannot be removed, connecting to it fails.
                let _ = fs::remove_file(path);
            }
        }
        self.collect();
        self.end_log();
        self.end_export();
        if let Some(outcome) = running.outcome.take() {
            self.done(running, Ok(outcome));
        }
    }

    fn done(&mut self, running: Running, result: Result<Reloaded, String>) {
        let Running { purpose, before, base, .. } = running;
        self.conclude(purpose, before, base, result);
    }

    /// Ends an operation: counts, logs and answers its result.
    fn conclude(&mut self, purpose: Purpose, before: Arc<Config>, base: Rates, result: Result<Reloaded, String>) {
        match purpose {
            Purpose::Watch => {}
            Purpose::RollBack { why, replies } => self.rolled_back(why, replies, result.map(drop)),
            Purpose::Reload(wanted) => {
                let known = |problem: &String| Some(problem.as_str()) == self.reload_counts.problem.as_deref();
                if wanted.is_by_itself() && result.as_ref().is_err_and(known) {
                    // The same problem as at the last reload was reported then.
                    return;
                }
                let mut outcome = result.unwrap_or_else(|problem| self.refused(problem));
                if outcome.verdict == Verdict::Unchanged && wanted.guard.is_some() {
                    // No guard begins, and the operator has to know that. Nothing is wrong with the files.
                    outcome.verdict = Verdict::Refused;
                    outcome.message = ALREADY_SERVED.to_owned();
                }
                self.reload_counts.note(outcome.verdict, outcome.version, &outcome.message);
                if outcome.verdict == Verdict::Applied {
                    self.reload_counts.problem = None;
                    self.rolled_back_config = None;
                    let insecure = insecure_clusters(Some(&before), &self.config);
                    insecure.iter().for_each(|warning| log(Level::Warn, warning));
                }
                let news = tenant_changes(&before, &self.config).into_iter();
                outcome.tenants = news.map(|(name, news)| format!("tenant {name} {news}")).collect();
                match wanted.guard.filter(|_| outcome.verdict == Verdict::Applied) {
                    Some(guard) => {
                        log(outcome.level(), &outcome);
                        let guarded = GuardedReload::new(guard, before, base, self.sample(), outcome, wanted.replies);
                        let (version, window) = (self.version(), guarded.window());
                        log(Level::Info, format_args!("version {version} is under guard for {window:?}"));
                        self.guarded = Some(guarded);
                    }
                    None => wanted.answer(&outcome),
                }
            }
        }
    }

    fn unchanged(&self) -> Reloaded {
        let (verdict, version) = (Verdict::Unchanged, self.version());
        Reloaded { verdict, version, message: String::new(), tenants: Vec::new() }
    }

    fn refused(&mut self, problem: String) -> Reloaded {
        self.reload_counts.problem = Some(problem.as_str().into());
        Reloaded { verdict: Verdict::Refused, version: self.version(), message: problem, tenants: Vec::new() }
    }

    /// Version of the configuration that is served.
    pub(super) fn version(&self) -> u64 {
        self.snapshot().map_or(0, |snapshot| snapshot.version)
    }
}

/// Waits until every worker has applied `version`, or [`APPLY_TIMEOUT`] has passed.
async fn wait_until_applied(workers: &[WorkerHandle], version: u64) {
    let begun = Instant::now();
    while workers.iter().any(|worker| worker.counters.version.get() < version) {
        if begun.elapsed() > APPLY_TIMEOUT {
            return log(
                Level::Warn,
                format_args!(
                    "a worker has not taken version {version} for {APPLY_TIMEOUT:?}; it will when its turn ends"
                ),
            );
        }
        tokio::time::sleep(APPLY_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::*;
    use crate::config::parse;
    use crate::control::Compiler;

    fn control() -> Control {
        let config = parse("a.toml", "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n").unwrap();
        let mut compiler = Compiler::new(None);
        let snapshot = Arc::new(compiler.compile(&config, 1).unwrap());
        Control::new(compiler, config, snapshot, BoundAddresses::new(), Vec::new())
    }

    /// Whatever state it is in, whoever asked is told.
    #[tokio::test]
    async fn what_cannot_begin_is_answered() {
        let mut control = control();
        // The files of the start are about to be watched.
        assert!(control.running.is_some() && control.compiler.is_none());
        let restore = |control: &mut Control| {
            let (reply, mut told) = oneshot::channel();
            control.restore(Arc::clone(&control.config), "it is worse".to_owned(), vec![reply]);
            told.try_recv().map(|outcome| (outcome.verdict, outcome.message))
        };
        assert_eq!(restore(&mut control), Ok((Verdict::Stuck, format!("it is worse, and {BUSY}"))));
        assert!(control.running.is_some());
        // A reload waits for that.
        let (reply, mut waits) = oneshot::channel();
        control.request_reload(ReloadRequest::asked(None, reply));
        assert!(matches!(waits.try_recv(), Err(TryRecvError::Empty)));
        // A step that died has kept the compiler.
        control.step(Err("it died".to_owned()));
        assert!(control.running.is_none() && control.compiler.is_none());
        let outcome = waits.try_recv().unwrap();
        assert_eq!((outcome.verdict, outcome.message.as_str()), (Verdict::Refused, LOST));
        assert_eq!(restore(&mut control), Ok((Verdict::Stuck, format!("it is worse, and {LOST}"))));
        let (reply, mut told) = oneshot::channel();
        control.request_reload(ReloadRequest::asked(None, reply));
        assert!(told.try_recv().is_ok_and(|outcome| outcome.verdict == Verdict::Refused));
        assert_eq!(control.reload_counts.refused, 2);
    }
}
