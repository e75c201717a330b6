//! Pinned threads with a ring each: started together, stopped by a signal, joined. Not here: their work.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cairn::runtime;
use cairn::uring::{Ring, StartError, Waker, raise_descriptor_limit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc as notices;

/// Upper bound of the descriptors of a thread besides its connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// How often the watcher is called.
const WATCH: Duration = Duration::from_millis(250);

/// Why the threads failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrewError {
    /// The kernel or the limits of the process do not suffice.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A thread cannot be pinned.
    #[error("cannot use CPU {0}: {1}")]
    Pin(usize, io::Error),
    /// Threads, signals or the CPU mask cannot be set up.
    #[error("cannot set up {0}: {1}")]
    Setup(&'static str, io::Error),
    /// Too few descriptors.
    #[error("{wanted} connections need more descriptors than the {limit} allowed; raise `ulimit -n`")]
    Descriptors {
        /// Connections asked for.
        wanted: usize,
        /// RLIMIT_NOFILE.
        limit: u64,
    },
    /// A ring broke during the run.
    #[error("a thread lost its ring: {0}")]
    Ring(io::Error),
    /// A thread panicked.
    #[error("a thread ended without its result")]
    Lost,
}

/// Whether the threads have been told to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The CPUs to use: those asked for, or those that the process may use.
pub(crate) fn cpus(asked: &[usize]) -> Result<Vec<usize>, CrewError> {
    if asked.is_empty() {
        return runtime::allowed_cpus().map_err(|error| CrewError::Setup("CPU affinity", error));
    }
    Ok(asked.to_vec())
}

/// A flag that SIGINT and SIGTERM raise from now on, instead of ending the process.
pub(crate) fn watch_signals() -> Result<Stop, CrewError> {
    let (stop, setup) = (Stop::default(), |error| CrewError::Setup("signal handling", error));
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(setup)?;
    let (mut interrupt, mut terminate) = {
        let _inside = control.enter();
        (signal(SignalKind::interrupt()).map_err(setup)?, signal(SignalKind::terminate()).map_err(setup)?)
    };
    let raised = stop.clone();
    let watch = move || {
        control.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        raised.0.store(true, Ordering::Relaxed);
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map_err(setup)?;
    Ok(stop)
}

/// Raises the limit of descriptors and checks that it is enough.
pub(crate) fn provide_descriptors(connections: usize) -> Result<(), CrewError> {
    let limit = raise_descriptor_limit()?;
    if connections as u64 + SPARE_DESCRIPTORS > limit {
        return Err(CrewError::Descriptors { wanted: connections, limit });
    }
    Ok(())
}

/// Runs `job` for each of `parts` on a thread of its own, pinned to the CPUs in turn, until all have returned. SIGINT and
/// SIGTERM ask them to. `ready` is called when every thread has its ring, and before any begins; `watch` now and then while they
/// work, and once when they have ended.
pub(crate) fn work<P, T, J>(
    parts: Vec<P>,
    cpus: &[usize],
    job: J,
    ready: impl FnOnce(),
    mut watch: impl FnMut(),
) -> Result<Vec<T>, CrewError>
where
    P: Send + 'static,
    T: Send + 'static,
    J: Fn(P, Ring, &Stop) -> io::Result<T> + Clone + Send + 'static,
{
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let control = control.map_err(|error| CrewError::Setup("the control thread", error))?;
    control.block_on(async {
        let setup = |error| CrewError::Setup("signal handling", error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(setup)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(setup)?;
        let (stop, (ended, mut ends)) = (Stop::default(), notices::unbounded_channel::<()>());
        let mut members = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            members.push(Thread::start(part, cpus[index % cpus.len()], job.clone(), stop.clone(), ended.clone())?);
        }
        drop(ended);
        let wakers = members.iter().map(Thread::ready).collect::<Result<Vec<Waker>, _>>()?;
        ready();
        members.iter().for_each(Thread::begin);
        let mut often = tokio::time::interval(WATCH);
        loop {
            tokio::select! {
                // The channel ends when the last thread does.
                _ = ends.recv() => break,
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = often.tick() => watch(),
            }
        }
        stop.0.store(true, Ordering::Relaxed);
        wakers.iter().for_each(Waker::wake);
        let results = members.into_iter().map(Thread::join).collect();
        watch();
        results
    })
}

/// One thread.
struct Thread<T> {
    thread: JoinHandle<Option<io::Result<T>>>,
    started: mpsc::Receiver<Result<Waker, CrewError>>,
    go: mpsc::Sender<()>,
}

impl<T: Send + 'static> Thread<T> {
    fn start<P, J>(
        part: P,
        cpu: usize,
        job: J,
        stop: Stop,
        ended: notices::UnboundedSender<()>,
    ) -> Result<Self, CrewError>
    where
        P: Send + 'static,
        J: Fn(P, Ring, &Stop) -> io::Result<T> + Send + 'static,
    {
        let (starting, started) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let body = move || {
            let _ended = ended;
            let ring = pin(cpu).and_then(|()| Ok(Ring::new()?));
            let (told, ring) = match ring {
                Ok(ring) => (Ok(ring.waker()), Some(ring)),
                Err(error) => (Err(error), None),
            };
            // A channel is closed only if starting is given up.
            let _ = starting.send(told);
            gone.recv().ok()?;
            Some(job(part, ring?, &stop))
        };
        let thread = thread::Builder::new().name(format!("load-{cpu}")).spawn(body);
        let thread = thread.map_err(|error| CrewError::Setup("a thread", error))?;
        Ok(Self { thread, started, go })
    }

    fn ready(&self) -> Result<Waker, CrewError> {
        self.started.recv().map_err(|_| CrewError::Lost)?
    }

    fn begin(&self) {
        // If the thread has ended, joining it tells why.
        let _ = self.go.send(());
    }

    fn join(self) -> Result<T, CrewError> {
        let result = self.thread.join().map_err(|_| CrewError::Lost)?;
        result.ok_or(CrewError::Lost)?.map_err(CrewError::Ring)
    }
}

/// Pins the calling thread and has its timers fire on time instead of up to 50 µs later (PR_SET_TIMERSLACK).
fn pin(cpu: usize) -> Result<(), CrewError> {
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(CrewError::Pin(cpu, io::ErrorKind::InvalidInput.into()));
    }
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| CrewError::Pin(cpu, error.into()))?;
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))
        .map_err(|error| CrewError::Setup("the timer slack", error.into()))
}
