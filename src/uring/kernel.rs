//! io_uring as the machine below a ring: the only place where memory is handed to the kernel. Not here: what operations are used for.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockAddr;

use super::driver::{Completion, Driver, Operation};
use super::net::{self, Waker};
use super::proof::Workarounds;
use super::start::{StartError, classify, descriptors_left, require_features, setup};
use crate::buffer::{Buffers, ProvidedRing, Queue};
use crate::id::Address;
use crate::limits::{self, SEND_PIECES};
use crate::runtime::Clock;

/// An io_uring of the calling thread, which must be the only one to use it (IORING_SETUP_SINGLE_ISSUER).
pub struct Kernel {
    uring: IoUring,
    /// One receive can fill several buffers (Linux 6.10, IORING_FEAT_RECVSEND_BUNDLE).
    bundles: bool,
    /// The kernel may not report a FIN that came with data (`proof`).
    misses_ends: bool,
    arena: Arena,
    /// The kernel can wait for several completions, for a time (Linux 6.12, IORING_FEAT_MIN_TIMEOUT).
    batches: bool,
    /// How long it does.
    batch_wait: Duration,
    /// Completions that were taken from the completion queue to make room in it.
    taken: VecDeque<Completion>,
    waker: Waker,
    /// Where the kernel writes the waker's counter.
    wake_count: Box<u64>,
}

/// Arguments that the kernel copies when it consumes a submission. The vectors never grow, so that their elements never move.
struct Arena {
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::msghdr>,
    addresses: Vec<SockAddr>,
}

impl Kernel {
    /// Sets up an io_uring.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(workarounds: Workarounds) -> Result<Self, StartError> {
        let uring =
            setup(limits::COMPLETIONS, limits::SUBMISSIONS).map_err(|error| classify("io_uring_setup", error))?;
        require_features(&uring)?;
        // Saves a descriptor look-up in the kernel each turn. The ring works without it, so errors are ignored.
        let _ = uring.submitter().register_ring_fd();
        let bundles = uring.params().is_feature_recvsend_bundle() && workarounds.no_bundles.is_none();
        let batches = uring.params().is_feature_min_timeout();
        let waker = Waker::new().map_err(|error| classify("eventfd", error))?;
        Ok(Self {
            uring,
            bundles,
            misses_ends: workarounds.peek_fin.is_some(),
            batches,
            batch_wait: Duration::ZERO,
            arena: Arena::default(),
            taken: VecDeque::with_capacity(limits::COMPLETIONS as usize),
            waker,
            wake_count: Box::new(0),
        })
    }

    fn entry(&mut self, operation: Operation<'_>) -> squeue::Entry {
        let at = |socket: BorrowedFd<'_>| Fd(socket.as_raw_fd());
        match operation {
            // Without SOCK_NONBLOCK: io_uring would report EAGAIN on the accepted socket instead of waiting.
            Operation::Accept(listener) => {
                let no_address = std::ptr::null_mut();
                let no_length = std::ptr::null_mut();
                opcode::Accept::new(at(listener), no_address, no_length).flags(libc::SOCK_CLOEXEC).build()
            }
            Operation::AcceptMany(listener) => opcode::AcceptMulti::new(at(listener)).flags(libc::SOCK_CLOEXEC).build(),
            Operation::Connect(socket, address) => {
                let address = self.arena.keep_address(address.clone());
                opcode::Connect::new(at(socket), address.as_ptr().cast(), address.len()).build()
            }
            Operation::Receive { socket, group } if self.bundles => {
                opcode::RecvMultiBundle::new(at(socket), group).build()
            }
            Operation::Receive { socket, group } => opcode::RecvMulti::new(at(socket), group).build(),
            Operation::Send { socket, out, buffers } => self.arena.send(at(socket), out, buffers),
            Operation::Cancel(tag) => opcode::AsyncCancel::new(tag).build(),
            Operation::CancelAll(descriptor) => {
                opcode::AsyncCancel2::new(CancelBuilder::fd(at(descriptor)).all()).build()
            }
            Operation::Close(descriptor) => opcode::Close::new(Fd(descriptor.into_raw_fd())).build(),
            Operation::Wake => {
                let count = (&raw mut *self.wake_count).cast();
                opcode::Read::new(at(self.waker.as_fd()), count, size_of::<u64>() as u32).build()
            }
        }
    }

    fn enter(&mut self, wait: Duration) -> io::Result<()> {
        let time = Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos());
        let args = SubmitArgs::new().timespec(&time);
        let result = if wait.is_zero() {
            self.poll()
        } else if self.batch_wait.is_zero() || wait <= self.batch_wait {
            self.uring.submitter().submit_with_args(1, &args)
        } else {
            let args = args.min_wait_usec(self.batch_wait.subsec_micros());
            self.uring.submitter().submit_with_args(limits::BATCH, &args)
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR), _)) => Ok(()),
            // The completion queue is full or memory is short: the caller makes room and tries again.
            Err((Some(libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Submits and runs the kernel's deferred work without waiting.
    fn poll(&mut self) -> io::Result<usize> {
        let queued = self.uring.submission().len() as u32;
        // The crate's own `submit` leaves this flag out, without which deferred work does not run (io_uring_enter(2)).
        const GETEVENTS: u32 = 1;
        // SAFETY: what is queued keeps to the contract, and no argument is handed over.
        unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, 0, GETEVENTS, None) }
    }

    /// Moves all completions to `taken`, to make room in the completion queue.
    fn make_room(&mut self) {
        self.taken.extend(self.uring.completion().map(completion));
    }
}

impl Driver for Kernel {
    fn has_bundles(&self) -> bool {
        self.bundles
    }

    fn misses_ends(&self) -> bool {
        self.misses_ends
    }

    fn set_batch_wait(&mut self, wait: Duration) {
        self.batch_wait = if self.batches { wait } else { Duration::ZERO };
    }

    fn register(&mut self, group: u16, offered: &ProvidedRing) -> Result<(), StartError> {
        let (address, entries) = offered.registration();
        // SAFETY: the mapping is page-aligned, holds `entries` entries and is never unmapped.
        let registered = unsafe { self.uring.submitter().register_buf_ring_with_flags(address, entries, group, 0) };
        registered.map_err(|error| classify("buffer ring", error))
    }

    fn submit(&mut self, tag: u64, operation: Operation<'_>) {
        // Room is made before the entry, because the entry points into the arena, which `submit_now` empties.
        while !self.arena.has_room() || self.uring.submission().is_full() {
            self.submit_now();
        }
        let entry = self.entry(operation).user_data(tag);
        // SAFETY: the contract: what the entry points to outlives the operation.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "there is room");
    }

    fn submit_now(&mut self) {
        // Errors are temporary here (EBUSY, EAGAIN, EINTR); `enter` reports a broken ring.
        if self.uring.submit().is_err() {
            self.make_room();
        }
        if self.uring.submission().is_empty() {
            self.arena.clear();
        }
    }

    fn reap(&mut self, wait: Duration, _: [&mut ProvidedRing; 2], mut each: impl FnMut(Completion)) -> io::Result<()> {
        loop {
            // With completions in `taken`, the ring must not wait for more.
            self.enter(if self.taken.is_empty() { wait } else { Duration::ZERO })?;
            if self.uring.submission().is_empty() {
                break;
            }
            self.make_room();
        }
        self.arena.clear();
        self.reap_early(&mut each);
        self.uring.completion().map(completion).for_each(each);
        Ok(())
    }

    fn reap_early(&mut self, each: impl FnMut(Completion)) {
        self.taken.drain(..).for_each(each);
    }

    fn has_overflowed(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    fn now(&self) -> Duration {
        Clock::monotonic()
    }

    fn wall_seconds(&self) -> u64 {
        Clock::wall_seconds()
    }

    fn random(&mut self) -> u64 {
        RandomState::new().hash_one(0)
    }

    fn descriptors_left(&self) -> usize {
        descriptors_left()
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn socket(&mut self, address: &Address) -> io::Result<(OwnedFd, SockAddr)> {
        net::endpoint_socket(address)
    }

    fn peer(&self, socket: BorrowedFd<'_>) -> io::Result<Option<(IpAddr, u16)>> {
        net::peer(socket)
    }

    fn local(&self, socket: BorrowedFd<'_>) -> Option<(IpAddr, u16)> {
        net::local(socket)
    }

    fn accept_waiting(&mut self, listener: BorrowedFd<'_>) -> Vec<OwnedFd> {
        net::accept_waiting(listener)
    }

    fn shut_down(&mut self, socket: BorrowedFd<'_>) {
        net::shut_down(socket);
    }

    fn reset_on_close(&mut self, socket: BorrowedFd<'_>) {
        net::reset_on_close(socket);
    }

    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> bool {
        net::has_ended(socket)
    }
}

/// Submits the closes of the last turn, which are only queued. The waker's counter is leaked, because the kernel may write to it
/// until the thread has ended.
impl Drop for Kernel {
    fn drop(&mut self) {
        self.submit_now();
        std::mem::forget(std::mem::take(&mut self.wake_count));
    }
}

fn completion(entry: cqueue::Entry) -> Completion {
    let flags = entry.flags();
    Completion {
        tag: entry.user_data(),
        result: entry.result(),
        buffer: cqueue::buffer_select(flags),
        more: cqueue::more(flags),
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            iovecs: Vec::with_capacity(16 * SEND_PIECES),
            headers: Vec::with_capacity(256),
            addresses: Vec::with_capacity(64),
        }
    }
}

impl Arena {
    fn clear(&mut self) {
        self.iovecs.clear();
        self.headers.clear();
        self.addresses.clear();
    }

    fn has_room(&self) -> bool {
        self.iovecs.len() + SEND_PIECES <= self.iovecs.capacity()
            && self.headers.len() < self.headers.capacity()
            && self.addresses.len() < self.addresses.capacity()
    }

    fn keep_address(&mut self, address: SockAddr) -> &SockAddr {
        self.addresses.push(address);
        &self.addresses[self.addresses.len() - 1]
    }

    /// A send of the first pieces of `out`.
    fn send(&mut self, descriptor: Fd, out: &Queue, buffers: &Buffers) -> squeue::Entry {
        let first = self.iovecs.len();
        for lease in buffers.iter(out).take(SEND_PIECES) {
            self.iovecs.push(libc::iovec { iov_base: lease.as_ptr().cast_mut().cast(), iov_len: lease.len() });
        }
        let iovecs = &self.iovecs[first..];
        if let [one] = iovecs {
            let entry = opcode::Send::new(descriptor, one.iov_base.cast(), one.iov_len as u32);
            self.iovecs.truncate(first);
            return entry.flags(libc::MSG_NOSIGNAL).build();
        }
        let header = message(iovecs);
        self.headers.push(header);
        let header = &raw const self.headers[self.headers.len() - 1];
        opcode::SendMsg::new(descriptor, header).flags(libc::MSG_NOSIGNAL as u32).build()
    }
}

fn message(iovecs: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = iovecs.as_ptr().cast_mut();
    header.msg_iovlen = iovecs.len();
    header
}
