//! Control plane: everything that may block, allocate or lock, on one tokio thread. The data plane never waits for it.
//! Not here: serving (`worker`).
//!
//! [`Control`] owns what can change while the process runs. Signals, the watcher of files and the admin interface send it an
//! [`ControlRequest`] each; it answers one after the other, at once: what takes longer, a reload first of all, runs beside it.

pub mod admin;
pub mod demo;
mod drain;
mod guard;
mod metrics;
mod plan;
mod prepare;
mod reload;
mod routes;
mod serving;
mod status;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Loader};
use crate::listener::{self, BoundAddresses};
use crate::snapshot::Snapshot;
use crate::worker::WorkerHandle;
use drain::Drain;
pub use drain::{DrainEnd, DrainStatus};
pub use guard::{GUARD_MAX, Guard, GuardEnd, GuardError};
use guard::{GuardedReload, History};
pub use plan::{Change, Plan};
pub use prepare::{Compiler, insecure_clusters, tenant_complaints};
use reload::{ReloadRequest, Running};
pub use reload::{Reloaded, Verdict};
pub use routes::RouteLine;
use status::ReloadCounts;
pub use status::{BufferStatus, ListenerStatus, Status, TenantStatus};
use watch::Watcher;

/// How often counters are sampled for a guard and unused snapshots are dropped.
const TICK: Duration = Duration::from_millis(500);

/// Channel of one answer.
type Reply<T> = oneshot::Sender<T>;

/// A request to the control thread.
#[derive(Debug)]
pub enum ControlRequest {
    /// Read the configuration again and serve it, under guard if one is given.
    Reload(Option<Guard>, Reply<Reloaded>),
    /// End the guard of the last reload. The reply is None if there is none.
    EndGuard(GuardEnd, Reply<Option<Reloaded>>),
    /// What a reload of this path would change; None: of the path that the process was started with.
    Plan(Option<PathBuf>, Reply<Result<Plan, String>>),
    /// The state of the process.
    Status(Reply<Status>),
    /// The routes that are served.
    Routes(Reply<Vec<RouteLine>>),
    /// [`ControlRequest::Status`] in the format of metrics.
    Metrics(Reply<String>),
    /// The configuration that is served, with the origin of every value.
    Config(Reply<Result<String, String>>),
    /// Drain, then end.
    Drain(Reply<()>),
}

/// State of the control thread: all that can change while the process runs.
pub struct Control {
    /// None while a reload uses it.
    compiler: Option<Compiler>,
    /// Copy of the compiler's loader as of the last load, for plans.
    plan_loader: Option<Loader>,
    config: Arc<Config>,
    /// Every snapshot that a worker may still use, the newest last.
    snapshots: Vec<Arc<Snapshot>>,
    workers: Vec<WorkerHandle>,
    bound: BoundAddresses,
    reload_counts: ReloadCounts,
    history: History,
    guarded: Option<GuardedReload>,
    /// The reload under way.
    running: Option<Running>,
    /// The reload that follows the one under way.
    wanted: Option<ReloadRequest>,
    /// The configuration that was rolled back last. A changed file alone does not bring it back; an operator's reload does.
    rolled_back_config: Option<Arc<Config>>,
    /// Files have changed under guard; they are reloaded when it ends.
    deferred: bool,
    watcher: Option<Watcher>,
    /// The drain under way.
    drain: Option<Drain>,
    started: Instant,
}

impl Control {
    /// Control of `workers` that serve `snapshot`, compiled from `config` by `compiler`, on the addresses `bound`. Needs a runtime
    /// of tokio.
    #[must_use]
    pub fn new(
        compiler: Compiler,
        config: Config,
        snapshot: Arc<Snapshot>,
        bound: BoundAddresses,
        workers: Vec<WorkerHandle>,
    ) -> Self {
        let mut control = Self {
            plan_loader: compiler.plan_loader(),
            compiler: Some(compiler),
            config: Arc::new(config),
            snapshots: vec![snapshot],
            workers,
            bound,
            reload_counts: ReloadCounts::default(),
            history: History::default(),
            guarded: None,
            running: None,
            wanted: None,
            rolled_back_config: None,
            deferred: false,
            watcher: None,
            drain: None,
            started: Instant::now(),
        };
        control.watch();
        control
    }

    /// How long a drain that begins now may take.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.config.drain_timeout
    }

    /// Serves requests until one of them is to drain. `hangup` is SIGHUP. Cancel-safe.
    pub async fn run(&mut self, asks: &mut mpsc::Receiver<ControlRequest>, hangup: &mut Signal) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ask) = asks.recv() => {
                    if let ControlRequest::Drain(reply) = ask {
                        // The requester may have hung up.
                        let _ = reply.send(());
                        return;
                    }
                    self.answer(ask);
                }
                _ = hangup.recv() => self.request_reload(ReloadRequest::hangup()),
                () = watch::changed(&mut self.watcher) => self.request_reload(ReloadRequest::changed()),
                step = reload::next_step(&mut self.running) => self.step(step),
                _ = tick.tick() => {
                    self.tick();
                    if self.deferred && self.guarded.is_none() {
                        self.request_reload(ReloadRequest::changed());
                    }
                }
            }
        }
    }

    /// Answers one request. A reply that cannot be sent is dropped: the requester has hung up.
    fn answer(&mut self, ask: ControlRequest) {
        let config = Arc::clone(&self.config);
        match ask {
            ControlRequest::Reload(guard, reply) => self.request_reload(ReloadRequest::asked(guard, reply)),
            ControlRequest::EndGuard(end, reply) => self.end_guard(end, reply),
            ControlRequest::Plan(path, reply) => self.plan(path, reply),
            ControlRequest::Status(reply) => drop(reply.send(self.status())),
            ControlRequest::Routes(reply) => beside(reply, move || routes::lines(&config)),
            ControlRequest::Metrics(reply) => drop(reply.send(metrics::text(&self.status()))),
            ControlRequest::Config(reply) => beside(reply, move || config.show().map_err(|report| report.to_string())),
            ControlRequest::Drain(_) => {}
        }
    }

    /// Drops snapshots that no worker uses any more, so that workers spend no time on it.
    fn collect(&mut self) {
        let newest = self.snapshots.len().saturating_sub(1);
        let mut at = 0;
        self.snapshots.retain(|snapshot| {
            at += 1;
            at > newest || Arc::strong_count(snapshot) > 1
        });
    }

    fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshots.last()
    }
}

/// With the end of control nothing is accepted any more.
impl Drop for Control {
    fn drop(&mut self) {
        listener::remove_files(&self.bound);
    }
}

/// Computes an answer on a blocking thread: it reads files, or takes long for large configurations.
fn beside<T: Send + 'static>(reply: Reply<T>, answer: impl FnOnce() -> T + Send + 'static) {
    // The requester may have hung up meanwhile.
    tokio::task::spawn_blocking(move || drop(reply.send(answer())));
}
