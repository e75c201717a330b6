//! Control plane: everything that may block, allocate or lock, on one tokio thread. The data plane never waits for it.
//! Not here: serving (`worker`).
//!
//! [`Control`] owns what can change while the process runs. Signals, the watcher of files and the admin interface send it an
//! [`Ask`] each; it answers one after the other, at once: what takes longer, a reload first of all, runs beside it.

pub mod admin;
pub mod demo;
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
use crate::listener::Bound;
use crate::snapshot::Snapshot;
use crate::worker::WorkerHandle;
pub use guard::{BadGuard, GUARD_MAX, Guard, GuardEnd};
use guard::{Guarded, History};
pub use plan::{Change, Plan};
pub use prepare::Compiler;
pub use reload::{Reloaded, Verdict};
use reload::{Running, Wanted};
pub use routes::RouteLine;
use status::Tally;
pub use status::{BufferStatus, ListenerStatus, Status, TenantStatus};
use watch::Watcher;

/// How often counters are sampled for a guard and retired snapshots are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Where an answer goes.
type Reply<T> = oneshot::Sender<T>;

/// What may be asked of the control thread.
#[derive(Debug)]
pub enum Ask {
    /// Read the configuration again and serve it, under guard if one is given.
    Reload(Option<Guard>, Reply<Reloaded>),
    /// End the guard of the last reload. None: there is none.
    EndGuard(GuardEnd, Reply<Option<Reloaded>>),
    /// What a reload of this path would change; None: of the path that the process was started with.
    Plan(Option<PathBuf>, Reply<Result<Plan, String>>),
    /// How it goes.
    Status(Reply<Status>),
    /// The routes that are served.
    Routes(Reply<Vec<RouteLine>>),
    /// The same as [`Ask::Status`] for a scraper of metrics.
    Metrics(Reply<String>),
    /// The configuration that is served, with the origin of every value.
    Config(Reply<Result<String, String>>),
    /// End what is under way, then end.
    Drain(Reply<()>),
}

/// What can change while the process runs.
pub struct Control {
    /// Away while a configuration is read.
    compiler: Option<Compiler>,
    /// Knows what `compiler` knew after the last load.
    scout: Option<Loader>,
    config: Arc<Config>,
    /// Every snapshot that a worker may still use, the newest last.
    snapshots: Vec<Arc<Snapshot>>,
    workers: Vec<WorkerHandle>,
    bound: Bound,
    tally: Tally,
    history: History,
    guarded: Option<Guarded>,
    /// What replaces the configuration now.
    running: Option<Running>,
    /// What follows that.
    wanted: Option<Wanted>,
    /// What a guard or an operator took back last, and is served again only if somebody asks for it.
    taken_back: Option<Arc<Config>>,
    /// Files have changed under guard, and are read when it ends.
    put_off: bool,
    watcher: Option<Watcher>,
    started: Instant,
}

impl Control {
    /// For workers that serve `snapshot`, which `compiler` made of `config`, on `bound`. Within a runtime of tokio.
    #[must_use]
    pub fn new(
        compiler: Compiler,
        config: Config,
        snapshot: Arc<Snapshot>,
        bound: Bound,
        workers: Vec<WorkerHandle>,
    ) -> Self {
        let mut control = Self {
            scout: compiler.scout(),
            compiler: Some(compiler),
            config: Arc::new(config),
            snapshots: vec![snapshot],
            workers,
            bound,
            tally: Tally::default(),
            history: History::default(),
            guarded: None,
            running: None,
            wanted: None,
            taken_back: None,
            put_off: false,
            watcher: None,
            started: Instant::now(),
        };
        control.watch();
        control
    }

    /// Answers until it is asked to drain. `hangup` is SIGHUP.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>, mut hangup: Signal) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ask) = asks.recv() => {
                    if let Ask::Drain(reply) = ask {
                        // Who asked may be gone.
                        let _ = reply.send(());
                        return;
                    }
                    self.answer(ask);
                }
                _ = hangup.recv() => self.want(Wanted::hangup()),
                () = watch::changed(&mut self.watcher) => self.want(Wanted::changed()),
                step = reload::next_step(&mut self.running) => self.step(step),
                _ = tick.tick() => {
                    self.tick();
                    if self.put_off && self.guarded.is_none() {
                        self.want(Wanted::changed());
                    }
                }
            }
        }
    }

    /// Who asked may be gone when the answer is there: nobody to tell then.
    fn answer(&mut self, ask: Ask) {
        let config = Arc::clone(&self.config);
        match ask {
            Ask::Reload(guard, reply) => self.want(Wanted::asked(guard, reply)),
            Ask::EndGuard(end, reply) => self.end_guard(end, reply),
            Ask::Plan(path, reply) => self.plan(path, reply),
            Ask::Status(reply) => drop(reply.send(self.status())),
            Ask::Routes(reply) => beside(reply, move || routes::lines(&config)),
            Ask::Metrics(reply) => drop(reply.send(metrics::text(&self.status()))),
            Ask::Config(reply) => beside(reply, move || config.show().map_err(|report| report.to_string())),
            Ask::Drain(_) => {}
        }
    }

    /// Drops what no worker uses any more, here and not on a worker's time.
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

/// Answers beside the control thread: it takes long where much is configured, or reads files.
fn beside<T: Send + 'static>(reply: Reply<T>, answer: impl FnOnce() -> T + Send + 'static) {
    // Who asked may be gone when the answer is there.
    tokio::task::spawn_blocking(move || drop(reply.send(answer())));
}
