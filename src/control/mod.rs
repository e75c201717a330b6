//! Control plane: everything that may block, allocate or lock, on one tokio thread. The data plane never waits for it.
//! Not here: serving (`worker`).
//!
//! [`Control`] owns what can change while the process runs. Signals, the watcher of files and the admin interface send it an
//! [`ControlRequest`] each; it answers one after the other, at once: what takes longer, a reload first of all, runs beside it.

mod access_log;
pub mod admin;
mod checks;
mod clusters;
pub mod demo;
mod certificates;
mod dashboard;
mod drain;
mod envoy;
mod events;
mod exposition;
mod guard;
mod health;
mod http2_checks;
mod metrics;
mod names;
mod observer;
mod plan;
mod prepare;
mod process;
mod reload;
mod routes;
mod secured;
mod series;
mod serving;
mod slowness;
mod status;
mod tap;
mod top;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch as watch_channel};

use crate::access_log::{AccessLog, TapFilter};
use crate::config::{Config, Loader};
use crate::event_log::{Level, log};
use crate::listener::{self, BoundAddresses};
use crate::observer::{Observer, Story};
use crate::runtime::Bell;
use crate::snapshot::Snapshot;
use crate::worker::WorkerHandle;
pub use access_log::AccessLogStatus;
pub use certificates::CertificateStatus;
use checks::{Checks, Judgement};
pub use clusters::{ClusterStatus, EndpointStatus, EndpointsUsed, LimitStatus};
use drain::Drain;
pub use drain::{DrainEnd, DrainStatus};
pub use exposition::MetricsFormat;
pub use guard::{GUARD_MAX, Guard, GuardEnd, GuardError};
use guard::{GuardedReload, History};
pub use health::EndpointOrder;
use health::Health;
pub use names::{NamedRoute, SeriesNames};
pub use observer::TraceStatus;
pub use plan::{Change, Plan};
pub use prepare::{Compiler, insecure_clusters, tenant_complaints};
pub use process::{BusyStatus, ProcessStatus};
use reload::{ReloadRequest, Running};
pub use reload::{Reloaded, Verdict};
pub use routes::RouteLine;
use status::ReloadCounts;
pub use status::{
    BufferStatus, ConnectionsStatus, EndpointConnections, LastPlan, LastReload, ListenerStatus, Status, TenantStatus,
    TurnStatus,
};
use tap::TapPlaces;
pub use tap::Watching;
pub use top::{ClusterTop, EndpointTop, Quantiles, ReasonTop, RouteTop, Top, WorkerTop};
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
    /// The state of the process, and what series are called.
    Counters(Reply<(Box<Status>, SeriesNames)>),
    /// The routes that are served.
    Routes(Reply<Vec<RouteLine>>),
    /// All metrics, in a format.
    Metrics(MetricsFormat, Reply<String>),
    /// The configuration that is served, with the origin of every value.
    Config(Reply<Result<String, String>>),
    /// What an operator has an endpoint do: names of the cluster and of the endpoint. The reply says what was done, or why not.
    Endpoint(String, String, EndpointOrder, Reply<Result<String, String>>),
    /// Open the file of the access log again. The reply says what was done, or why not.
    ReopenLog(Reply<Result<String, String>>),
    /// What became of the request with this identifier. The reply says what is known instead, if it is not.
    Why(String, Reply<Result<Story, String>>),
    /// The last requests that have failed or were slow, so many at most, the newest first.
    Recent(usize, Reply<Vec<Story>>),
    /// Have exchanges watched that a filter lets through. The reply is None if too many watch already.
    Tap(TapFilter, Reply<Option<Watching>>),
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
    /// What the last plan has said. Plans are made beside everything else.
    last_plan: watch_channel::Sender<Option<LastPlan>>,
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
    health: Health,
    /// Whether all endpoints were checked for which the start waits.
    checked: Arc<AtomicBool>,
    checks: Checks,
    /// Whether endpoints have to be looked at again without being asked.
    watches_endpoints: bool,
    /// When endpoints were looked at last.
    reviewed: Instant,
    /// Rung by workers when an endpoint has failed too often.
    bell: Bell,
    started: Instant,
    /// What series are called.
    names: SeriesNames,
    /// How busy workers are.
    threads: process::Threads,
    /// The thread that writes the access log; None: nobody is served.
    access_log: Option<AccessLog>,
    /// The thread that observes exchanges.
    observer: Option<Observer>,
    /// Those who watch exchanges.
    tap_places: TapPlaces,
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
            bell: compiler.bell(),
            compiler: Some(compiler),
            config: Arc::new(config),
            snapshots: vec![snapshot],
            workers,
            bound,
            reload_counts: ReloadCounts::default(),
            last_plan: watch_channel::Sender::default(),
            history: History::default(),
            guarded: None,
            running: None,
            wanted: None,
            rolled_back_config: None,
            deferred: false,
            watcher: None,
            drain: None,
            health: Health::default(),
            checked: Arc::default(),
            checks: Checks::default(),
            watches_endpoints: true,
            reviewed: Instant::now(),
            started: Instant::now(),
            names: SeriesNames::default(),
            threads: process::Threads::default(),
            access_log: None,
            observer: None,
            tap_places: TapPlaces::default(),
        };
        if let Some(first) = control.snapshots.first() {
            control.names.follow(first, control.config.metrics.routes);
        }
        control.watch();
        control
    }

    /// How long everything is served on before a drain that begins now.
    #[must_use]
    pub fn drain_grace(&self) -> Duration {
        self.config.drain_grace
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
        let (bell, mut pulse) = (self.bell.clone(), health::pulse());
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
                () = health::rung(&bell, self.reviewed) => self.review_endpoints(),
                judgement = self.checks.next() => self.judge_endpoint(&judgement),
                _ = pulse.tick(), if self.watches_endpoints => self.review_endpoints(),
                _ = hangup.recv() => self.request_reload(ReloadRequest::hangup()),
                () = watch::changed(&mut self.watcher) => self.request_reload(ReloadRequest::changed()),
                step = reload::next_step(&mut self.running) => self.step(step),
                _ = tick.tick() => {
                    self.look_at_threads();
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
            ControlRequest::Counters(reply) => {
                // The requester may have hung up.
                let _ = reply.send((Box::new(self.status()), self.names.clone()));
            }
            ControlRequest::Routes(reply) => beside(reply, move || routes::lines(&config)),
            ControlRequest::Metrics(format, reply) => {
                let (status, names, spec) = (self.status(), self.names.clone(), self.config.metrics);
                let observer = self.observer.as_ref().filter(|_| format == MetricsFormat::OpenMetrics);
                let exemplars = observer.map(Observer::exemplars);
                beside(reply, move || {
                    let exemplars = exemplars.and_then(|told| told.blocking_recv().ok()).unwrap_or_default();
                    metrics::text(&status, &names, spec, format, &exemplars)
                });
            }
            ControlRequest::Config(reply) => beside(reply, move || config.show().map_err(|report| report.to_string())),
            ControlRequest::Endpoint(cluster, endpoint, order, reply) => {
                // The requester may have hung up.
                let _ = reply.send(self.order_endpoint(&cluster, &endpoint, order));
            }
            ControlRequest::ReopenLog(reply) => self.reopen_log(reply),
            ControlRequest::Why(request_id, reply) => self.why(request_id, reply),
            ControlRequest::Recent(count, reply) => self.recent(count, reply),
            ControlRequest::Tap(filter, reply) => {
                // If the requester has hung up, dropping ends it.
                drop(reply.send(Watching::begin(&self.tap_places, &self.workers, &filter)));
            }
            ControlRequest::Drain(_) => {}
        }
    }

    /// Judges the endpoints of the configuration that is served.
    pub(super) fn review_endpoints(&mut self) {
        if let Some(snapshot) = self.snapshots.last() {
            self.checks.follow(snapshot);
            self.reviewed = Instant::now();
            self.watches_endpoints = self.health.review(snapshot, Instant::now());
        }
        self.note_checked();
    }

    /// What `/ready` waits for at the start: set once every endpoint was checked whose cluster asks for that, and never again taken back.
    #[must_use]
    pub fn checked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.checked)
    }

    fn note_checked(&self) {
        if !self.checked.load(Ordering::Relaxed) {
            self.checked.store(!self.checks.awaits_first(), Ordering::Relaxed);
        }
    }

    /// Takes in what the checks of an endpoint say.
    fn judge_endpoint(&mut self, judgement: &Judgement) {
        if let Some(snapshot) = self.snapshots.last() {
            self.health.judge(snapshot, judgement, Instant::now());
            self.watches_endpoints = true;
        }
        self.note_checked();
    }

    fn order_endpoint(&mut self, cluster: &str, endpoint: &str, order: EndpointOrder) -> Result<String, String> {
        let Some(snapshot) = self.snapshots.last() else { return Err("nothing is served".to_owned()) };
        let done = self.health.order(snapshot, (cluster, endpoint), order, Instant::now())?;
        log(Level::Info, &done);
        self.watches_endpoints = true;
        Ok(done)
    }

    /// Looks how busy the threads of workers are.
    fn look_at_threads(&mut self) {
        self.threads.look(self.workers.iter().map(|worker| worker.counters.thread.get()));
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
