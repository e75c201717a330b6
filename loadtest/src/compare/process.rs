//! Child processes on given CPUs: started, awaited, and killed with their descendants. Not here: their command lines.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a child may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// Interval of attempts to connect to it.
const BETWEEN: Duration = Duration::from_millis(20);

/// Why a child does not listen.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("cannot start it: {0}")]
    Start(io::Error),
    #[error("it ended at its start ({0}): {1}")]
    Ended(ExitStatus, String),
    #[error("it does not listen: {0}")]
    Deaf(String),
}

/// A child with its descendants: a process group that is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a child on the given CPUs, with its output in the file `log`.
    pub(super) fn start(mut command: Command, cpus: &[usize], log: PathBuf) -> Result<Self, ProcessError> {
        let out = File::create(&log).and_then(|file| Ok((file.try_clone()?, file))).map_err(ProcessError::Start)?;
        command.stdin(Stdio::null()).stdout(out.0).stderr(out.1).process_group(0);
        let child = on_cpus(cpus, || command.spawn()).map_err(ProcessError::Start)?;
        Ok(Self { child, log })
    }

    /// Waits until it takes connections.
    pub(super) fn wait_for(&mut self, address: SocketAddr) -> Result<(), ProcessError> {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ProcessError::Ended(status, last_line(&self.log)));
            }
            if begun.elapsed() > PATIENCE {
                return Err(ProcessError::Deaf(last_line(&self.log)));
            }
            thread::park_timeout(BETWEEN);
        }
        Ok(())
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the child has ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Runs `work` with the calling thread pinned to these CPUs, which children inherit.
fn on_cpus<T>(cpus: &[usize], work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set)?;
    let done = work();
    sched_setaffinity(None, &before)?;
    done
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_fails_is_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo the reason >&2; exit 3"]);
        let cpus = cairn::runtime::allowed_cpus().expect("an affinity mask");
        let mut process = Process::start(command, &cpus, folder.path().join("log")).expect("sh");
        let failed = process.wait_for(free_address().expect("a port")).expect_err("nobody listens");
        assert_eq!(failed.to_string(), "it ended at its start (exit status: 3): the reason");
    }

    #[test]
    fn children_stay_on_their_cpus_and_their_children_end_with_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "grep Cpus_allowed_list /proc/self/status; sleep 1000 & echo $!; wait"]);
        let cpu = cairn::runtime::allowed_cpus().expect("an affinity mask")[0];
        let process = Process::start(command, &[cpu], log.clone()).expect("sh");
        let lines = loop {
            let text = std::fs::read_to_string(&log).expect("the log");
            if text.matches('\n').count() == 2 {
                break text;
            }
            thread::yield_now();
        };
        let (allowed, sleeper) = lines.trim().split_once('\n').expect("two lines");
        assert_eq!(allowed.split_whitespace().last(), Some(&*cpu.to_string()));
        drop(process);
        let stat = PathBuf::from(format!("/proc/{sleeper}/stat"));
        // Its new parent may not have buried it yet.
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z")) {
            thread::yield_now();
        }
    }
}
