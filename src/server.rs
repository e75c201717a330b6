//! Boot, signals, drain, join. Not here: serving.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::access_log::{AccessLog, AccessLogSpec, LogError, Sink};
use crate::config::{Config, Watch};
use crate::control::admin::{AdminError, AdminListeners, AdminState};
use crate::control::{Compiler, Control, DrainEnd, insecure_clusters, tenant_complaints};
use crate::event_log::{self, Level, announce, log};
use crate::id::WorkerId;
use crate::listener::{self, BoundAddresses, Sockets};
use crate::observer::Observer;
use crate::runtime::{self, ExecutorError};
use crate::snapshot::Snapshot;
use crate::uring::{BindError, StartError, Workarounds, descriptors_left, raise_descriptor_limit};
use crate::worker::{Order, Worker, WorkerHandle};

/// How long the admin interface may take for its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be compiled.
    #[error("{0}")]
    Config(String),
    /// The kernel or the limits of the process do not suffice.
    #[error(transparent)]
    Start(#[from] StartError),
    /// RLIMIT_NOFILE is below what the configuration needs.
    #[error(
        "this configuration needs {needed} file descriptors and this process may open {limit}: raise `ulimit -n` (LimitNOFILE=) to {needed} at least, and by 2 for each client that is to be served at once, or have fewer workers ({workers}) or listeners ({listeners})"
    )]
    Descriptors {
        /// Descriptors to start, and to serve one client on each worker.
        needed: usize,
        /// The hard limit.
        limit: u64,
        /// Workers that would be started.
        workers: usize,
        /// Listeners, each with a socket for each worker.
        listeners: usize,
    },
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin interface cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] LogError),
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

/// The result of starting a worker.
type Started = (WorkerId, Result<WorkerHandle, StartError>);

/// The handle of a worker's thread, with its result.
type Executor = runtime::ExecutorHandle<(WorkerId, io::Result<()>)>;

/// The process before it serves. Its signal handlers are installed, so that no signal kills it half-way.
#[derive(Debug)]
pub struct Server {
    control: tokio::runtime::Runtime,
    signals: Signals,
    hangup: Signal,
    /// SIGUSR1.
    reopen: Signal,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Server {
    /// Sets up the log, the signals and the control thread's runtime. Has to come before anything that takes time.
    ///
    /// # Errors
    /// [`ServerError::Setup`], or too few descriptors.
    pub fn new() -> Result<Self, ServerError> {
        event_log::start();
        // Tokio panics without these descriptors.
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
        let reopen = on(SignalKind::user_defined1())?;
        Ok(Self { control, signals, hangup, reopen })
    }

    /// Runs `work`, which may block, for instance on looking up names. None: SIGTERM or SIGINT came first.
    pub fn prepare<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let Self { control, signals, .. } = self;
        control.block_on(async {
            tokio::select! {
                signal = signals.end() => {
                    log_early_end(signal);
                    None
                }
                // A panic of `work` continues on this thread.
                done = tokio::task::spawn_blocking(work) => {
                    Some(done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
                }
            }
        })
    }

    /// Serves until SIGTERM, SIGINT or `cairn drain`, then drains. `compiler` reloads `config`. A SIGHUP since [`Server::new`]
    /// reloads it at once.
    ///
    /// # Errors
    /// See [`ServerError`]. Blocking threads may be left; they end with the process.
    pub fn run(mut self, config: Config, mut compiler: Compiler) -> Result<(), ServerError> {
        event_log::configure(config.events.level, config.events.format);
        let limit = raise_descriptor_limit()?;
        let cpus = runtime::allowed_cpus().map_err(|error| ServerError::Setup("CPU affinity", error))?;
        let workers = if config.workers == 0 { cpus.len() } else { config.workers.min(cpus.len()) };
        require_descriptors(&config, workers, limit)?;
        // Compiling takes time, and so does binding to an address that a process leaves only now.
        let prepared = self.prepare(move || {
            compiler.serve_with(workers);
            let snapshot = Arc::new(compiler.compile(&config, 1).map_err(ServerError::Config)?);
            let log_sink = snapshot.access_log.as_ref().map(AccessLogSpec::open).transpose()?;
            let (sockets, bound) = listener::open(snapshot.listeners(), workers, &Vec::new())?;
            Ok(Startup { config, compiler, snapshot, cpus, sockets, bound, log_sink })
        });
        let Self { control, signals, hangup, reopen } = self;
        let served = match prepared {
            Some(Ok(startup)) => control.block_on(serve(startup, signals, hangup, reopen)),
            Some(Err(error)) => Err(error),
            // SIGTERM or SIGINT came before.
            None => Ok(()),
        };
        // Does not wait for the blocking thread of a reload under way.
        control.shutdown_background();
        served
    }

    /// Ends without having served. Does not wait for the work that [`Server::prepare`] has begun.
    pub fn end(self) {
        self.control.shutdown_background();
    }
}

impl Signals {
    /// Waits for SIGTERM or SIGINT; the name of the one that came.
    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Nobody was served when `signal` came.
fn log_early_end(signal: &str) {
    log(Level::Info, format_args!("ends because of {signal}, before it has served"));
}

/// Descriptors of the control thread's event loop and its signal pipe.
const SIGNAL_DESCRIPTORS: usize = 7;
/// Further descriptors of the control thread, to read files and look up names. Those of its event loop are open by now.
const CONTROL_DESCRIPTORS: usize = 4;
/// Descriptors of the watcher of files.
const WATCH_DESCRIPTORS: usize = 3;
/// Descriptors of a worker: its executor's rings, its own ring, and the event descriptors that wake them.
const WORKER_DESCRIPTORS: usize = 6;
/// Descriptors of the thread that exports spans: its event loop, and its connection to the collector.
const OBSERVER_DESCRIPTORS: usize = 4;
/// Descriptors of one exchange: the client's connection and the origin's.
const EXCHANGE_DESCRIPTORS: usize = 2;
/// Descriptors of one request to the admin interface: its connection, and a file that is read for it.
const ADMIN_DESCRIPTORS: usize = 2;

/// Fails if descriptors do not suffice, before anything is opened that would fail, hang or panic half-way without them.
fn require_descriptors(config: &Config, workers: usize, limit: u64) -> Result<(), ServerError> {
    // Without /proc, assume standard input, output and error. One of those counted is the directory that is read.
    let open = std::fs::read_dir("/proc/self/fd").map_or(3, |entries| entries.count().saturating_sub(1));
    let admin = usize::from(config.admin.listen.is_some()) + usize::from(config.admin.socket.is_some());
    let watch = if config.watch == Watch::Notified { WATCH_DESCRIPTORS } else { 0 };
    let worker = WORKER_DESCRIPTORS + config.snapshot.listeners.len() + EXCHANGE_DESCRIPTORS;
    let log = usize::from(config.snapshot.access_log.is_some());
    let control = CONTROL_DESCRIPTORS + OBSERVER_DESCRIPTORS;
    let needed = open + control + admin + ADMIN_DESCRIPTORS + watch + log + workers * worker;
    if needed as u64 <= limit {
        return Ok(());
    }
    Err(ServerError::Descriptors { needed, limit, workers, listeners: config.snapshot.listeners.len() })
}

/// All that has to be ready before the first worker starts.
struct Startup {
    config: Config,
    compiler: Compiler,
    snapshot: Arc<Snapshot>,
    cpus: Vec<usize>,
    sockets: Vec<Sockets>,
    bound: BoundAddresses,
    /// Where the access log is written.
    log_sink: Option<Sink>,
}

async fn serve(start: Startup, mut signals: Signals, mut hangup: Signal, reopen: Signal) -> Result<(), ServerError> {
    let Startup { config, compiler, snapshot, cpus, sockets, bound, log_sink } = start;
    let (workers, served) = (sockets.len(), compiler.path());
    let (ended, mut ends) = mpsc::unbounded_channel();
    let begun = async {
        let admin = AdminListeners::open(&config.admin, served.is_none()).await?;
        let started = start_workers(&snapshot, &cpus, sockets, &ended, &mut ends).await?;
        Ok::<_, ServerError>((admin, started))
    };
    let (admin, (executors, handles)) = tokio::select! {
        begun = begun => begun.inspect_err(|_| listener::remove_files(&bound))?,
        // No client is served yet, so there is nothing to drain.
        signal = signals.end() => {
            log_early_end(signal);
            listener::remove_files(&bound);
            return Ok(());
        }
    };
    let (asks, mut asked) = mpsc::channel(64);
    let ready = Arc::new(AtomicBool::new(true));
    let (end, ending) = watch::channel(false);
    let log = start_log(&snapshot, log_sink, &handles, reopen)?;
    let observer = start_observer(&snapshot, &handles)?;
    log_start(&config, served.as_deref(), &snapshot, &bound, workers);
    let mut control = Control::new(compiler, config, snapshot, bound, handles.clone());
    let state = AdminState { asks, ready: Arc::clone(&ready), checked: control.checked(), served };
    let admin = tokio::spawn(admin.serve(state, ending));
    control.serve_log(log.clone());
    control.serve_observer(observer.clone());
    let why = tokio::select! {
        () = control.run(&mut asked, &mut hangup) => "cairn drain",
        signal = signals.end() => signal,
        // A worker that ends without an order has panicked, or its ring broke.
        _ = ends.recv() => return join(executors, &handles, &log, &observer),
    };
    ready.store(false, Ordering::Relaxed);
    let (drain_timeout, grace) = (control.drain_timeout(), control.drain_grace());
    control.begin_drain(why, drain_timeout + grace);
    let hurried = tokio::select! {
        () = tokio::time::sleep(grace) => None,
        signal = signals.end() => Some(signal),
        never = control.drain(&mut asked, &mut hangup) => match never {},
    };
    handles.iter().for_each(|worker| worker.order(Order::Drain));
    let all_ended = async {
        for _ in 0..workers {
            ends.recv().await;
        }
    };
    let drained = tokio::select! {
        biased;
        Some(signal) = std::future::ready(hurried) => DrainEnd::Signal(signal),
        () = all_ended => DrainEnd::Done,
        signal = signals.end() => DrainEnd::Signal(signal),
        () = tokio::time::sleep(drain_timeout) => DrainEnd::Late,
        never = control.drain(&mut asked, &mut hangup) => match never {},
    };
    control.end_drain(drained);
    // From here on requests are answered that the process ends.
    drop(asked);
    // Lets the admin interface send its last answers, that to `drain` among them.
    let _ = end.send(true);
    let _ = tokio::time::timeout(LAST_ANSWERS, admin).await;
    join(executors, &handles, &log, &observer)
}

/// Starts the thread that writes the access log. `reopen` is SIGUSR1.
fn start_log(
    snapshot: &Snapshot,
    sink: Option<Sink>,
    workers: &[WorkerHandle],
    mut reopen: Signal,
) -> Result<AccessLog, ServerError> {
    let rings = workers.iter().filter_map(|worker| worker.access_log.take()).collect();
    let log = AccessLog::start(rings).map_err(|error| ServerError::Setup("the access log", error))?;
    log.switch(snapshot.access_log.clone().zip(sink));
    let reopened = log.clone();
    tokio::spawn(async move {
        while reopen.recv().await.is_some() {
            // What comes of it is logged.
            drop(reopened.reopen());
        }
    });
    Ok(log)
}

/// Starts the thread that makes spans of exchanges.
fn start_observer(snapshot: &Snapshot, workers: &[WorkerHandle]) -> Result<Observer, ServerError> {
    let rings = workers.iter().filter_map(|worker| worker.observed.take()).collect();
    let export = snapshot.export.clone();
    Observer::start(rings, export).map_err(|error| ServerError::Setup("the observer of exchanges", error))
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
        let started = started.clone();
        let ended = EndNotice(id, ended.clone());
        let snapshot = Arc::clone(snapshot);
        executors.push(runtime::spawn(&format!("worker-{index}"), cpus[index % cpus.len()], move |background| {
            work(id, workers, snapshot, sockets, started, ended, background)
        })?);
    }
    let mut handles = Vec::new();
    while handles.len() < workers {
        tokio::select! {
            biased;
            Some((id, started)) = starts.recv() => handles.push((id, started?)),
            // Its executor did not start, or it panicked before it reported its start. The other workers may not have begun:
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

/// Tells the control thread that a worker has ended, when dropped: also after a panic.
struct EndNotice(WorkerId, mpsc::UnboundedSender<WorkerId>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        // The receiver is dropped only when the server ends.
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

/// Ends all workers, then writes what is left of the access log, and exports what is left of spans.
fn join(
    executors: Vec<Executor>,
    handles: &[WorkerHandle],
    log: &AccessLog,
    observer: &Observer,
) -> Result<(), ServerError> {
    handles.iter().for_each(|worker| worker.order(Order::Stop));
    let ended = executors.into_iter().try_for_each(|executor| match executor.join()? {
        (_, Ok(())) => Ok(()),
        (WorkerId(id), Err(error)) => Err(ServerError::Ring(id, error)),
    });
    log.flush();
    observer.flush();
    ended
}

/// Logs what is wrong with tenants' files, whose certificates are not checked, and the addresses of all listeners. Scripts and tests wait for these lines.
fn log_start(config: &Config, served: Option<&Path>, snapshot: &Snapshot, bound: &BoundAddresses, workers: usize) {
    // An error cannot occur here: each worker has checked the variable.
    if let Some(workarounds) = Workarounds::needed().ok().filter(|workarounds| !workarounds.is_empty()) {
        log(Level::Info, format_args!("workarounds: {workarounds}"));
    }
    let complaints = [tenant_complaints(config), insecure_clusters(None, config)];
    complaints.iter().flatten().for_each(|complaint| log(Level::Warn, complaint));
    for (id, address) in bound {
        announce(format_args!("listener {} on {address}", snapshot.listener(*id).name));
    }
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let served = served.map_or_else(|| "the demo".to_owned(), |path| path.display().to_string());
    log(Level::Info, format_args!("version {version} serves {served}, process {pid}"));
    announce(format_args!("ready, {workers} worker{}", if workers == 1 { "" } else { "s" }));
}
