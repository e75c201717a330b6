//! Boot, signals, drain, join. Not here: serving.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::{Config, Watch};
use crate::control::admin::{AdminError, AdminListeners, AdminState};
use crate::control::{Compiler, Control};
use crate::event_log::{self, say};
use crate::id::WorkerId;
use crate::listener::{self, BoundAddresses, Sockets};
use crate::runtime::{self, ExecutorError};
use crate::snapshot::Snapshot;
use crate::uring::{BindError, StartError, Workarounds, descriptors_left, raise_descriptor_limit};
use crate::worker::{Order, Worker, WorkerHandle};

/// How long exchanges under way may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// How long the admin interface may take for its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be compiled.
    #[error("{0}")]
    Config(String),
    /// The machine lacks something.
    #[error(transparent)]
    Start(#[from] StartError),
    /// RLIMIT_NOFILE is below what the configuration needs.
    #[error(
        "this configuration needs {needed} file descriptors and this process may open {limit}: raise `ulimit -n` (LimitNOFILE=) to {needed} at least, and by 2 for each client that is to be served at once, or have fewer workers ({workers}) or listeners ({listeners})"
    )]
    Descriptors {
        /// To start, and to serve one client on each worker.
        needed: usize,
        /// The hard limit.
        limit: u64,
        /// That would be started.
        workers: usize,
        /// Each has a socket for each worker.
        listeners: usize,
    },
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin interface cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// An executor cannot be started, or a worker panicked.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A worker's ring broke.
    #[error(
        "worker {0} lost its ring: {1}; the process ends, because a dead worker would keep its share of the connections"
    )]
    Ring(u16, io::Error),
    /// Signals, CPUs or the control thread cannot be set up.
    #[error("cannot set up {0}: {1}")]
    Setup(&'static str, io::Error),
}

/// A worker that was started, or was not.
type Started = (WorkerId, Result<WorkerHandle, StartError>);

/// The thread of a worker, and how its executor ends.
type Executor = runtime::ExecutorHandle<(WorkerId, io::Result<()>)>;

/// The process before it serves. From now on its signals reach it: none of them kills it half-way.
#[derive(Debug)]
pub struct Server {
    control: tokio::runtime::Runtime,
    signals: Signals,
    hangup: Signal,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Server {
    /// Sets up the log, the signals and the control thread. Called before anything that takes time.
    ///
    /// # Errors
    /// [`ServerError::Setup`], or that there are too few descriptors for it.
    pub fn new() -> Result<Self, ServerError> {
        event_log::start();
        // Tokio panics without.
        if descriptors_left() < SIGNAL_DESCRIPTORS {
            return Err(StartError::Descriptors.into());
        }
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let control = control.map_err(|error| ServerError::Setup("the control thread", error))?;
        let on = |kind| {
            let _context = control.enter();
            signal(kind).map_err(|error| ServerError::Setup("signal handling", error))
        };
        let signals = Signals { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? };
        let hangup = on(SignalKind::hangup())?;
        Ok(Self { control, signals, hangup })
    }

    /// Does `work` that may take long, as looking up names does. `None`: SIGTERM or SIGINT came before its end.
    pub fn prepare<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let Self { control, signals, .. } = self;
        control.block_on(async {
            tokio::select! {
                () = signals.end() => None,
                // A panic ends the process as it would have here.
                done = tokio::task::spawn_blocking(work) => {
                    Some(done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
                }
            }
        })
    }

    /// Serves until SIGTERM, SIGINT or `cairn drain`, then drains. `compiler` knows where `config` came from. A SIGHUP that came
    /// since [`Server::new`] is a reload.
    ///
    /// # Errors
    /// See [`ServerError`]. Nothing is left half-started, but threads that the end of the process ends.
    pub fn run(self, config: Config, mut compiler: Compiler) -> Result<(), ServerError> {
        let Self { control, signals, hangup } = self;
        let limit = raise_descriptor_limit()?;
        let cpus = runtime::allowed_cpus().map_err(|error| ServerError::Setup("CPU affinity", error))?;
        let workers = if config.workers == 0 { cpus.len() } else { config.workers.min(cpus.len()) };
        require_descriptors(&config, workers, limit)?;
        let snapshot = Arc::new(compiler.compile(&config, 1).map_err(ServerError::Config)?);
        let (sockets, bound) = listener::open(snapshot.listeners(), workers, &Vec::new())?;
        let served =
            control.block_on(serve(Startup { config, compiler, snapshot, cpus, sockets, bound }, signals, hangup));
        // What a reload that was under way still waits for does not matter any more.
        control.shutdown_background();
        served
    }

    /// Ends without having served. What [`Server::prepare`] has begun is not waited for.
    pub fn end(self) {
        self.control.shutdown_background();
    }
}

impl Signals {
    /// Waits for SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What the control thread waits with, and how signals reach it.
const SIGNAL_DESCRIPTORS: usize = 7;
/// The control thread's own, besides what it waits with, which is open by now: what reading files and looking up names takes.
const CONTROL_DESCRIPTORS: usize = 4;
/// What watches the files of the configuration.
const WATCH_DESCRIPTORS: usize = 3;
/// A worker's own: the rings of its executor and its own, and what wakes them.
const WORKER_DESCRIPTORS: usize = 6;
/// The least that a worker serves with: a client and a connection to an origin.
const EXCHANGE_DESCRIPTORS: usize = 2;
/// A verb that asks, and a file that is read for it.
const ADMIN_DESCRIPTORS: usize = 2;

/// Says what is needed before anything is opened that would fail, hang or panic half-way for want of it.
fn require_descriptors(config: &Config, workers: usize, limit: u64) -> Result<(), ServerError> {
    // Without /proc, the three that every process has. One is what this is read with.
    let open = std::fs::read_dir("/proc/self/fd").map_or(3, |entries| entries.count().saturating_sub(1));
    let admin = usize::from(config.admin.listen.is_some()) + usize::from(config.admin.socket.is_some());
    let watch = if config.watch == Watch::Notified { WATCH_DESCRIPTORS } else { 0 };
    let worker = WORKER_DESCRIPTORS + config.snapshot.listeners.len() + EXCHANGE_DESCRIPTORS;
    let needed = open + CONTROL_DESCRIPTORS + admin + ADMIN_DESCRIPTORS + watch + workers * worker;
    if needed as u64 <= limit {
        return Ok(());
    }
    Err(ServerError::Descriptors { needed, limit, workers, listeners: config.snapshot.listeners.len() })
}

/// All that is ready before the first worker starts.
struct Startup {
    config: Config,
    compiler: Compiler,
    snapshot: Arc<Snapshot>,
    cpus: Vec<usize>,
    sockets: Vec<Sockets>,
    bound: BoundAddresses,
}

async fn serve(start: Startup, mut signals: Signals, hangup: Signal) -> Result<(), ServerError> {
    let Startup { config, compiler, snapshot, cpus, sockets, bound } = start;
    let workers = sockets.len();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let begun = async {
        let admin = AdminListeners::open(&config.admin).await?;
        let started = start_workers(&snapshot, &cpus, sockets, &ended, &mut ends).await?;
        Ok::<_, ServerError>((admin, started))
    };
    let (admin, (executors, handles)) = tokio::select! {
        begun = begun => begun?,
        // Nobody is served yet.
        () = signals.end() => return Ok(()),
    };
    announce(&snapshot, &bound, workers);
    let (asks, asked) = mpsc::channel(64);
    let ready = Arc::new(AtomicBool::new(true));
    let (end, ending) = watch::channel(false);
    let admin = tokio::spawn(admin.serve(AdminState { asks, ready: Arc::clone(&ready) }, ending));
    let control = Control::new(compiler, config, snapshot, bound, handles.clone());
    tokio::select! {
        () = control.run(asked, hangup) => {}
        () = signals.end() => {}
        // A worker never ends by itself: it panicked, or its ring broke.
        _ = ends.recv() => return join(executors, &handles),
    }
    ready.store(false, Ordering::Relaxed);
    handles.iter().for_each(|worker| worker.order(Order::Drain));
    let all_ended = async {
        for _ in 0..workers {
            ends.recv().await;
        }
    };
    tokio::select! {
        () = all_ended => {}
        () = signals.end() => {}
        () = tokio::time::sleep(DRAIN) => {}
    }
    // Whoever has asked for the drain gets its answer.
    let _ = end.send(true);
    let _ = tokio::time::timeout(LAST_ANSWERS, admin).await;
    join(executors, &handles)
}

/// Starts a worker for each set of sockets, and waits until all of them serve or one of them cannot.
async fn start_workers(
    snapshot: &Arc<Snapshot>,
    cpus: &[usize],
    sockets: Vec<Sockets>,
    ended: &mpsc::UnboundedSender<WorkerId>,
    ends: &mut mpsc::UnboundedReceiver<WorkerId>,
) -> Result<(Vec<Executor>, Vec<WorkerHandle>), ServerError> {
    let workers = sockets.len();
    let (started, mut starts) = mpsc::unbounded_channel();
    let mut executors = Vec::new();
    for (index, sockets) in sockets.into_iter().enumerate() {
        let id = WorkerId(index as u16);
        let (started, ended, snapshot) = (started.clone(), EndNotice(id, ended.clone()), Arc::clone(snapshot));
        executors.push(runtime::spawn(&format!("worker-{index}"), cpus[index % cpus.len()], move |background| {
            work(id, workers, snapshot, sockets, started, ended, background)
        })?);
    }
    let mut handles = Vec::new();
    while handles.len() < workers {
        tokio::select! {
            biased;
            Some((id, started)) = starts.recv() => handles.push((id, started?)),
            // Its executor cannot be had, or it panicked before it could say whether it started. Others may not have begun:
            // they are not waited for.
            Some(WorkerId(index)) = ends.recv() => {
                let failed = executors.swap_remove(usize::from(index)).join();
                let cpu = cpus[usize::from(index) % cpus.len()];
                let problem = failed.err().map(|error| error.to_string()).unwrap_or_default();
                return Err(ExecutorError::Start { cpu, problem }.into());
            }
        }
    }
    handles.sort_by_key(|(id, _)| *id);
    Ok((executors, handles.into_iter().map(|(_, handles)| handles).collect()))
}

/// Tells the control thread that a worker has ended, however it did.
struct EndNotice(WorkerId, mpsc::UnboundedSender<WorkerId>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        // The receiver is gone only when the server ends anyway.
        let _ = self.1.send(self.0);
    }
}

async fn work(
    id: WorkerId,
    workers: usize,
    snapshot: Arc<Snapshot>,
    sockets: Sockets,
    started: mpsc::UnboundedSender<Started>,
    _ended: EndNotice,
    background: runtime::Background,
) -> (WorkerId, io::Result<()>) {
    let worker = match Worker::new(id, workers, snapshot, sockets) {
        Ok((worker, handles)) => {
            let _ = started.send((id, Ok(handles)));
            worker
        }
        Err(error) => {
            let _ = started.send((id, Err(error)));
            return (id, Ok(()));
        }
    };
    (id, worker.run(background).await)
}

fn join(executors: Vec<Executor>, handles: &[WorkerHandle]) -> Result<(), ServerError> {
    handles.iter().for_each(|worker| worker.order(Order::Stop));
    executors.into_iter().try_for_each(|executor| match executor.join()? {
        (_, Ok(())) => Ok(()),
        (WorkerId(id), Err(error)) => Err(ServerError::Ring(id, error)),
    })
}

/// Says on stderr where it listens; scripts and tests wait for these lines.
fn announce(snapshot: &Snapshot, bound: &BoundAddresses, workers: usize) {
    // What it names was checked by each worker.
    if let Some(workarounds) = Workarounds::needed().ok().filter(|workarounds| !workarounds.is_empty()) {
        say(format_args!("workarounds: {workarounds}"));
    }
    for (id, address) in bound {
        say(format_args!("listener {} on {address}", snapshot.listener(*id).name));
    }
    say(format_args!("ready, {workers} worker{}", if workers == 1 { "" } else { "s" }));
}
