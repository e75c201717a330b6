//! Boot, signals, drain, join. Not here: serving.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{Config, Report};
use crate::id::WorkerId;
use crate::listener::{self, Bound, Sockets};
use crate::runtime::{self, ExecutorError, Mailbox};
use crate::snapshot::{Ledger, Snapshot};
use crate::uring::{BindError, StartError, raise_descriptor_limit};
use crate::worker::{Order, Reins, Worker};

/// How long exchanges under way may take to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be compiled.
    #[error("{0}")]
    Config(Report),
    /// The machine lacks something.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
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
type Started = (WorkerId, Result<Reins, StartError>);

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// See [`ServerError`]. Nothing is left half-started.
pub fn run(config: Config) -> Result<(), ServerError> {
    raise_descriptor_limit()?;
    let cpus = runtime::allowed_cpus().map_err(|error| ServerError::Setup("CPU affinity", error))?;
    let workers = if config.workers == 0 { cpus.len() } else { config.workers.min(cpus.len()) };
    let snapshot = Arc::new(config.compile(1, &mut Ledger::default()).map_err(ServerError::Config)?);
    let (sockets, bound) = listener::open(snapshot.listeners(), workers, &Vec::new())?;
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let control = control.map_err(|error| ServerError::Setup("the control thread", error))?;
    control.block_on(serve(&snapshot, &cpus, sockets, &bound))
}

async fn serve(
    snapshot: &Arc<Snapshot>,
    cpus: &[usize],
    sockets: Vec<Sockets>,
    bound: &Bound,
) -> Result<(), ServerError> {
    let workers = sockets.len();
    let setup = |error| ServerError::Setup("signal handling", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(setup)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(setup)?;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut executors = Vec::new();
    for (index, sockets) in sockets.into_iter().enumerate() {
        let id = WorkerId(index as u16);
        let (started, ended) = (started.clone(), Ending(ended.clone()));
        let mailbox = Mailbox::default();
        mailbox.put(Arc::clone(snapshot));
        executors.push(runtime::spawn(&format!("worker-{index}"), cpus[index % cpus.len()], move |background| {
            work(id, workers, mailbox, sockets, started, ended, background)
        })?);
    }
    let mut reins = Vec::new();
    while reins.len() < workers {
        tokio::select! {
            biased;
            Some((_, started)) = starts.recv() => reins.push(started?),
            // It panicked before it could say whether it started.
            _ = ends.recv() => return join(executors, &reins),
        }
    }
    announce(snapshot, bound, workers);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // A worker never ends by itself: it panicked, or its ring broke.
        _ = ends.recv() => return join(executors, &reins),
    }
    reins.iter().for_each(|worker| worker.order(Order::Drain));
    let all_ended = async {
        for _ in 0..workers {
            ends.recv().await;
        }
    };
    tokio::select! {
        () = all_ended => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(DRAIN) => {}
    }
    join(executors, &reins)
}

/// Tells the control thread that a worker has ended, however it did.
struct Ending(mpsc::UnboundedSender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The receiver is gone only when the server ends anyway.
        let _ = self.0.send(());
    }
}

async fn work(
    id: WorkerId,
    workers: usize,
    mailbox: Mailbox<Arc<Snapshot>>,
    sockets: Sockets,
    started: mpsc::UnboundedSender<Started>,
    _ended: Ending,
    background: runtime::Background,
) -> (WorkerId, io::Result<()>) {
    // The letter was put before the executor was spawned.
    let Some(snapshot) = mailbox.take() else { return (id, Ok(())) };
    let worker = match Worker::new(id, workers, snapshot, sockets) {
        Ok((worker, reins)) => {
            let _ = started.send((id, Ok(reins)));
            worker
        }
        Err(error) => {
            let _ = started.send((id, Err(error)));
            return (id, Ok(()));
        }
    };
    (id, worker.run(background).await)
}

fn join(executors: Vec<runtime::Worker<(WorkerId, io::Result<()>)>>, reins: &[Reins]) -> Result<(), ServerError> {
    reins.iter().for_each(|worker| worker.order(Order::Stop));
    executors.into_iter().try_for_each(|executor| match executor.join()? {
        (_, Ok(())) => Ok(()),
        (WorkerId(id), Err(error)) => Err(ServerError::Ring(id, error)),
    })
}

/// Says on stderr where it listens; scripts and tests wait for these lines.
fn announce(snapshot: &Snapshot, bound: &Bound, workers: usize) {
    let mut out = io::stderr().lock();
    for ((_, listener), (_, address)) in snapshot.listeners().zip(bound) {
        // Nobody to tell when stderr is closed.
        let _ = writeln!(out, "cairn: listener {} on {address}", listener.name);
    }
    let _ = writeln!(out, "cairn: ready, {workers} worker{}", if workers == 1 { "" } else { "s" });
}
