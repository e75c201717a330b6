//! Setting up a ring, and the error messages that name what the machine lacks. Not here: the operations of a ring.

use std::collections::VecDeque;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::driver::Driver;
use super::kernel::Kernel;
use super::proof::Workarounds;
use super::{Group, ProvidedGroup, Ring};
use crate::buffer::{Buffers, Pool, PoolError, ProvidedRing};
use crate::limits;
use crate::runtime::{Clock, Wheel};

/// Why a worker cannot have its ring. Each message names the cure.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring or a feature of it is missing.
    #[error("the kernel's io_uring lacks {missing}; cairn needs Linux 6.1 or newer (this is {release})")]
    Kernel {
        /// The feature or operation.
        missing: &'static str,
        /// uname(2)'s release.
        release: String,
    },
    /// The sysctl kernel.io_uring_disabled forbids io_uring.
    #[error(
        "io_uring is disabled by sysctl; run `sysctl kernel.io_uring_disabled=0`, or set kernel.io_uring_group to cairn's group"
    )]
    Sysctl,
    /// A seccomp filter or security module forbids io_uring.
    #[error(
        "io_uring_setup is forbidden, most likely by a seccomp filter: allow io_uring_setup, io_uring_enter and io_uring_register in the container's or unit's profile"
    )]
    Seccomp,
    /// RLIMIT_MEMLOCK is too small.
    #[error("io_uring cannot lock its memory; raise `ulimit -l` (LimitMEMLOCK=) to 8 MiB or more")]
    MemoryLock,
    /// RLIMIT_NOFILE is used up.
    #[error("no file descriptor is left; raise `ulimit -n` (LimitNOFILE=)")]
    Descriptors,
    /// The buffers could not be reserved.
    #[error(transparent)]
    Buffers(#[from] PoolError),
    /// CAIRN_WORKAROUNDS names an unknown workaround.
    #[error("CAIRN_WORKAROUNDS names `{0}`; there are no-bundles and peek-fin, with a comma between them")]
    Switch(String),
    /// Anything else.
    #[error("cannot set up io_uring ({step}): {source}")]
    Other {
        /// The call that failed.
        step: &'static str,
        /// Its reason.
        source: io::Error,
    },
}

/// Raises the soft limit of file descriptors to the hard one and returns it.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn raise_descriptor_limit() -> Result<u64, StartError> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .map_err(|error| StartError::Other { step: "setrlimit(RLIMIT_NOFILE)", source: error.into() })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// How many more file descriptors the process may open.
#[must_use]
pub fn descriptors_left() -> usize {
    let limit =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let used = std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
    limit.saturating_sub(used)
}

impl Ring {
    /// A ring for the calling thread, which must be the only one to use it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new() -> Result<Self, StartError> {
        Self::on(Kernel::new(Workarounds::needed()?)?, Buffers::new()?)
    }
}

impl<D: Driver> Ring<D> {
    /// A ring on a given machine, with these buffers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn on(mut driver: D, buffers: Buffers) -> Result<Self, StartError> {
        let [pool, _] = buffers.pools();
        let reserved = pool.capacity() / limits::RESERVED_SHARE;
        let downstream = ProvidedGroup::new(&mut driver, pool, Group::Downstream, reserved)?;
        let upstream = ProvidedGroup::new(&mut driver, pool, Group::Upstream, 0)?;
        let mut ring = Self {
            peeks: driver.misses_ends(),
            buffers,
            groups: [downstream, upstream],
            sockets: Vec::with_capacity(1024),
            free: Vec::with_capacity(1024),
            listeners: Vec::new(),
            resume_accepting: None,
            accepting_paused: false,
            client_limit: usize::MAX,
            full: None,
            wheel: Wheel::default(),
            due: Vec::with_capacity(1024),
            clock: Clock::new(driver.now()),
            dirty: Vec::with_capacity(1024),
            upstream: VecDeque::with_capacity(limits::COMPLETIONS as usize),
            completions: VecDeque::with_capacity(limits::COMPLETIONS as usize),
            untold_ends: VecDeque::new(),
            driver,
        };
        ring.arm_waker();
        Ok(ring)
    }
}

impl ProvidedGroup {
    /// Registers a group that offers buffers of `pool` while more than `leaves` of them are free.
    fn new(driver: &mut impl Driver, pool: &'static Pool, group: Group, leaves: usize) -> Result<Self, StartError> {
        let ring = ProvidedRing::new(pool, limits::BUFFERS_OFFERED_MAX).map_err(other("buffer ring"))?;
        driver.register(group as u16, &ring)?;
        Ok(Self { ring, sockets: 0, starved: VecDeque::with_capacity(1024), leaves })
    }
}

/// Gives back the pages of the buffers, for a process that goes on without the ring, as load generators do. Their address space
/// stays reserved, because the kernel may write to a buffer until the thread has ended: only then does it end the operations in
/// flight. Sockets are closed with their slots.
impl<D> Drop for Ring<D> {
    fn drop(&mut self) {
        self.buffers.pools().iter().for_each(|pool| pool.release_pages());
    }
}

/// An io_uring with the flags that all rings of this process have.
pub(super) fn setup(completions: u32, submissions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .build(submissions)
}

pub(super) fn require_features(uring: &IoUring) -> Result<(), StartError> {
    let params = uring.params();
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(other("probe"))?;
    let has = |code| probe.is_supported(code);
    let needs = [
        (params.is_feature_nodrop(), "IORING_FEAT_NODROP"),
        (params.is_feature_submit_stable(), "IORING_FEAT_SUBMIT_STABLE"),
        (params.is_feature_ext_arg(), "IORING_FEAT_EXT_ARG"),
        (has(opcode::AcceptMulti::CODE), "accept"),
        (has(opcode::RecvMulti::CODE), "recv"),
        (has(opcode::SendMsg::CODE), "sendmsg"),
        (has(opcode::Connect::CODE), "connect"),
        // Introduced by the release that also brought multishot receive.
        (has(opcode::SendZc::CODE), "multishot receive"),
    ];
    match needs.iter().find(|(present, _)| !present) {
        Some((_, missing)) => Err(StartError::Kernel { missing, release: release() }),
        None => Ok(()),
    }
}

pub(super) fn classify(step: &'static str, error: io::Error) -> StartError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) if disabled_by_sysctl() => StartError::Sysctl,
        Some(libc::ENOSYS) => {
            StartError::Kernel { missing: "the whole interface (or seccomp hides it)", release: release() }
        }
        Some(libc::EINVAL) => StartError::Kernel { missing: "DEFER_TASKRUN or buffer rings", release: release() },
        Some(libc::EPERM | libc::EACCES) if disabled_by_sysctl() => StartError::Sysctl,
        Some(libc::EPERM | libc::EACCES) => StartError::Seccomp,
        Some(libc::ENOMEM) => StartError::MemoryLock,
        Some(libc::EMFILE | libc::ENFILE) => StartError::Descriptors,
        _ => StartError::Other { step, source: error },
    }
}

fn disabled_by_sysctl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0")
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn other(step: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Other { step, source }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::id::Owner;

    #[test]
    fn a_ring_that_is_dropped_closes_its_sockets() {
        let (mut peers, ours): (Vec<_>, Vec<_>) = (0..3).map(|_| UnixStream::pair().unwrap()).unzip();
        let worker = std::thread::spawn(|| {
            let mut ring = Ring::new().unwrap();
            for (socket, number) in ours.into_iter().zip(0..) {
                let socket = ring.add(socket.into(), Owner::Downstream(number));
                match number {
                    0 => ring.close(socket),
                    1 => ring.turn(false).unwrap(),
                    _ => {}
                }
            }
        });
        worker.join().unwrap();
        for peer in &mut peers {
            peer.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        }
    }
}
