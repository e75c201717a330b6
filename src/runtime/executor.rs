//! One glommio executor a worker, pinned to one CPU, with two task queues: exchanges, and background work with a low share.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};

/// Shares of the executor's time when both queues have work.
const EXCHANGE_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 10;
/// How long runnable exchanges may wait for background work.
const EXCHANGE_LATENCY: Duration = Duration::from_millis(1);

/// Handle of a running executor.
#[derive(Debug)]
pub struct ExecutorHandle<T: Send + 'static>(ExecutorJoinHandle<T>);

/// Why an executor did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// glommio could not set up its thread or rings.
    #[error(
        "cannot start an executor on CPU {cpu}: {problem}; check `ulimit -n`, `ulimit -l` (512 KiB a worker) and that the CPU is online"
    )]
    Start {
        /// The CPU it was to be pinned to.
        cpu: usize,
        /// Message of glommio.
        problem: String,
    },
    /// The worker's thread panicked.
    #[error("a worker is lost: {0}; the process ends, because a dead worker would keep its share of the connections")]
    Lost(String),
}

/// The low-share task queue of one executor.
#[derive(Clone, Debug)]
pub struct Background {
    queue: TaskQueueHandle,
    /// Tasks spawned and not finished.
    running: Rc<Cell<usize>>,
}

/// Starts an executor pinned to `cpu` and runs `main` in its latency-sensitive queue.
///
/// # Errors
/// When the thread or the executor's own rings cannot be created.
pub fn spawn<T, F, R>(name: &str, cpu: usize, main: F) -> Result<ExecutorHandle<T>, ExecutorError>
where
    T: Send + 'static,
    F: FnOnce(Background) -> R + Send + 'static,
    R: Future<Output = T> + 'static,
{
    let failed = |error: glommio::GlommioError<()>| ExecutorError::Start { cpu, problem: error.to_string() };
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .spawn(move || async move {
            let executor = glommio::executor();
            let shares = |shares| Shares::Static(shares);
            let exchanges =
                executor.create_task_queue(shares(EXCHANGE_SHARES), Latency::Matters(EXCHANGE_LATENCY), "exchanges");
            let queue = executor.create_task_queue(shares(BACKGROUND_SHARES), Latency::NotImportant, "background");
            let background = Background { queue, running: Rc::default() };
            let main = glommio::spawn_local_into(main(background), exchanges);
            match main {
                Ok(main) => main.await,
                // The queue was created just above, so this cannot depend on input.
                Err(error) => panic!("the exchange queue vanished: {error}"),
            }
        })
        .map(ExecutorHandle)
        .map_err(failed)
}

impl<T: Send + 'static> ExecutorHandle<T> {
    /// Waits until the executor ends.
    ///
    /// # Errors
    /// Its thread has panicked.
    pub fn join(self) -> Result<T, ExecutorError> {
        self.0.join().map_err(|error| ExecutorError::Lost(error.to_string()))
    }
}

impl Background {
    /// Runs `task` when exchanges leave time for it. Allocates: not for the request path.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let running = Rc::clone(&self.running);
        running.set(running.get() + 1);
        let counted = async move {
            task.await;
            running.set(running.get() - 1);
        };
        if let Ok(task) = glommio::spawn_local_into(counted, self.queue) {
            task.detach();
        }
    }

    /// Whether a task is not finished. The ring must not block then.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.running.get() > 0
    }

    /// Lets other task queues run.
    pub async fn yield_now(&self) {
        glommio::executor().yield_task_queue_now().await;
    }
}

/// The CPUs that this process may use: its affinity mask, cut to its cgroup's quota (sched_setaffinity(2), cgroups(7)).
///
/// # Errors
/// When the mask cannot be read.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mask = rustix::thread::sched_getaffinity(None)?;
    let mut cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect();
    if let Some(quota) = cgroup_quota() {
        cpus.truncate(quota.max(1));
    }
    Ok(cpus)
}

/// Whole CPUs that the cgroup's `cpu.max` grants, rounded up; None without a quota.
fn cgroup_quota() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let text = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/cpu.max")).ok()?;
    parse_quota(&text)
}

fn parse_quota(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up() {
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota("150000 100000\n"), Some(2));
        assert_eq!(parse_quota("100000 100000\n"), Some(1));
        assert_eq!(parse_quota("nonsense"), None);
    }

    #[test]
    fn an_executor_runs_background_work_beside_its_main() {
        let cpu = allowed_cpus().expect("an affinity mask")[0];
        let worker = spawn("test", cpu, |background| async move {
            let done = Rc::new(Cell::new(false));
            let flag = Rc::clone(&done);
            background.spawn(async move { flag.set(true) });
            while background.is_busy() {
                background.yield_now().await;
            }
            done.get()
        });
        assert!(worker.expect("an executor").join().expect("its result"));
    }

    /// The server relies on both: what the worker owned is dropped, which ends its wait, and joining is an error.
    #[test]
    fn a_worker_that_panics_is_lost() {
        struct Ending(std::sync::mpsc::Sender<()>);
        impl Drop for Ending {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let cpu = allowed_cpus().expect("an affinity mask")[0];
        let (sender, ended) = std::sync::mpsc::channel();
        let worker = spawn("test", cpu, move |background| {
            let ending = Ending(sender);
            async move {
                let _ending = ending;
                background.yield_now().await;
                if allowed_cpus().is_ok() {
                    panic!("on purpose");
                }
            }
        });
        ended.recv_timeout(Duration::from_secs(10)).expect("the end of the worker");
        assert!(matches!(worker.expect("an executor").join(), Err(ExecutorError::Lost(_))));
    }
}
