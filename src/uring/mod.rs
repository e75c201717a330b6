//! **Unsafe is allowed here**: the io_uring driver of one worker; the only importer of `io_uring`. It moves bytes between
//! sockets and leases and knows nothing of HTTP.
//!
//! Driver contract, cited by each SAFETY comment as *the contract*:
//! * memory that an operation reads or writes belongs to a lease held in the socket's slot, to a buffer of the provided ring,
//!   or to a field of [`Ring`] that is neither moved nor freed while the ring lives;
//! * a slot is freed only when the kernel has completed every operation on it (`in_flight` is 0), and only the completion of
//!   a send drops the leases that it was reading;
//! * what the kernel copies when it consumes a submission (`iovec`, `msghdr`, `sockaddr`) lives in [`Arena`], which is emptied
//!   only after the submission queue is empty (IORING_FEAT_SUBMIT_STABLE).
#![allow(unsafe_code, reason = "one of the two modules that may: it hands memory to the kernel")]

mod complete;
mod driver;
mod kernel;
mod net;
mod proof;
mod socket;
mod start;
mod submit;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::buffer::{Buffers, Lease, ProvidedRing, Queue};
use crate::id::{Address, ListenerId, Owner, Timer};
use crate::runtime::{Clock, Tick, Wheel};

pub use driver::{Completion, Driver, Operation};
pub use kernel::Kernel;
pub use net::{
    BindError, BindOptions, FileAccess, Waker, bind, bind_private, bind_with, claim, local_port, permit, share,
};
pub use proof::Workarounds;
use socket::{Phase, Recv, Socket};
pub use start::{StartError, descriptors_left, raise_descriptor_limit};

/// A socket of one ring. A stale id (its socket was closed) is ignored wherever it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    slot: u32,
    generation: u32,
}

impl SocketId {
    /// No socket: ignored wherever it is used.
    pub const NONE: Self = Self { slot: u32::MAX, generation: 0 };
}

/// An event of a ring. No event is returned about a socket that was closed before [`Ring::next_event`] is called.
#[derive(Debug)]
pub enum Event {
    /// A client connected. The descriptor is to be given to [`Ring::add`] or dropped.
    Accepted(ListenerId, OwnedFd),
    /// Accepting failed (EMFILE, ENFILE, ENOBUFS, ENOMEM), or clients have all the descriptors that they may have (EMFILE). The ring
    /// pauses accepting and resumes it without being told to.
    AcceptPaused(ListenerId, Errno),
    /// A connection to an endpoint is established.
    Connected(Owner),
    /// Bytes were received, in order.
    Received(Owner, Queue),
    /// The peer sent its FIN.
    Ended(Owner),
    /// The kernel has taken queued bytes. The flag says whether nothing is queued any more. The queue holds the pieces that were
    /// sent, if [`Ring::return_sent`] asked for them; else it is empty.
    Sent(Owner, bool, Queue),
    /// An operation on the socket has failed. Nothing more is sent; nothing more is received either, unless it is a
    /// [`Fault::Send`].
    Failed(Owner, Fault),
    /// A timer has fired that was neither moved nor cleared meanwhile.
    Expired(Timer),
    /// Another thread called [`Waker::wake`].
    Woken,
}

/// The system call that failed on a socket, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// connect(2) failed.
    Connect(Errno),
    /// recv(2) failed.
    Receive(Errno),
    /// send(2) failed.
    Send(Errno),
}

/// An `errno` value (errno(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No buffer is free (ENOBUFS).
    pub const NO_BUFFERS: Self = Self(libc::ENOBUFS);
    /// The peer has not answered in time (ETIMEDOUT).
    pub const TIMED_OUT: Self = Self(libc::ETIMEDOUT);

    /// Whether no buffer is free.
    #[must_use]
    pub fn is_of_buffers(self) -> bool {
        self == Self::NO_BUFFERS
    }

    /// Whether the machine lacks the address family, as one without IPv6 does (EAFNOSUPPORT).
    #[must_use]
    pub fn is_of_family(self) -> bool {
        self.0 == libc::EAFNOSUPPORT
    }

    /// What an operator can do when no descriptor could be made.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self.0 {
            libc::EMFILE => "raise `ulimit -n`",
            libc::ENFILE => "raise the system's fs.file-max",
            _ => "the system lacks memory for sockets",
        }
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// One worker's ring, sockets, buffers and timers, on a machine of its own.
pub struct Ring<D = Kernel> {
    driver: D,
    /// Each receive is followed by a look for a FIN, because the kernel may not report one that came with data (`proof`).
    peeks: bool,
    /// The buffers for everything that is received and sent.
    pub buffers: Buffers,
    /// Indexed by [`Group`]. Two groups, so that clients cannot take the buffers for what endpoints send.
    groups: [ProvidedGroup; 2],
    /// Socket slots; indexed by [`SocketId`].
    sockets: Vec<Socket>,
    /// Slots that can be used.
    free: Vec<u32>,
    listeners: Vec<Accepting>,
    /// When accepting is resumed after a failure.
    resume_accepting: Option<Tick>,
    /// At least one open listener does not accept.
    accepting_paused: bool,
    /// Accepting is paused while there are so many client sockets.
    client_limit: usize,
    /// A listener that was paused because of `client_limit`; cleared when [`Event::AcceptPaused`] has reported it.
    full: Option<ListenerId>,
    wheel: Wheel,
    /// Numbers of the timers that are due in this turn.
    due: Vec<u32>,
    clock: Clock,
    /// Slots of sockets with something to send.
    dirty: Vec<u32>,
    /// Completions on connections to endpoints. They are handled first: what an idle connection received, or that it ended, has to
    /// be known before a request is sent on it.
    upstream: VecDeque<Completion>,
    /// All other completions.
    completions: VecDeque<Completion>,
    /// The last completion of each socket whose end has yet to be asked for again, because completions had overflowed.
    untold_ends: VecDeque<Completion>,
}

/// The side whose sockets share a group of provided buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Group {
    Downstream,
    Upstream,
}

impl Group {
    fn of(owner: Owner) -> Self {
        match owner {
            Owner::Downstream(_) => Self::Downstream,
            Owner::Upstream(_) => Self::Upstream,
        }
    }
}

/// The receive buffers of one group.
struct ProvidedGroup {
    ring: ProvidedRing,
    /// Number of this group's sockets, those that are closing included.
    sockets: usize,
    /// Slots of the sockets whose receive ended for want of buffers, the one that has waited longest first.
    starved: VecDeque<u32>,
    /// Number of free buffers that this group must not offer to the kernel: they are reserved for other uses.
    leaves: usize,
}

#[derive(Debug)]
struct Accepting {
    id: ListenerId,
    /// None once closed.
    socket: Option<OwnedFd>,
    armed: Accept,
}

/// The accept operation that the kernel holds for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    /// None.
    Off,
    /// One that ends with the first connection, because few more are admitted.
    One,
    /// A multishot accept: it accepts until it is cancelled or fails.
    Many,
}

impl<D: Driver> Ring<D> {
    /// Adds a listening socket and starts to accept from it.
    pub fn listen(&mut self, id: ListenerId, socket: OwnedFd) {
        let accepting = Accepting { id, socket: Some(socket), armed: Accept::Off };
        // The entry of a listener that is closed and not armed gets no further completion, so it can be reused.
        let index = match self.listeners.iter().position(|old| old.socket.is_none() && old.armed == Accept::Off) {
            Some(index) => {
                self.listeners[index] = accepting;
                index
            }
            None => {
                self.listeners.push(accepting);
                self.listeners.len() - 1
            }
        };
        self.accept(index);
    }

    /// Stops accepting from the listeners for which `which` holds and closes their sockets. Returns the connections in their
    /// backlogs, which the kernel would reset.
    pub fn stop_listening(&mut self, which: impl Fn(ListenerId) -> bool) -> Vec<(ListenerId, OwnedFd)> {
        let mut waiting = Vec::new();
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            let id = listener.id;
            if let Some(socket) = listener.socket.take_if(|_| which(id)) {
                waiting
                    .extend(self.driver.accept_waiting(socket.as_fd()).into_iter().map(|descriptor| (id, descriptor)));
                self.close_descriptor(socket, true);
            }
        }
        waiting
    }

    /// Whether a connection of this listener may still be accepted.
    #[must_use]
    pub fn is_accepting(&self, id: ListenerId) -> bool {
        self.listeners
            .iter()
            .any(|listener| listener.id == id && (listener.armed != Accept::Off || listener.socket.is_some()))
    }

    /// Takes over an accepted connection and starts to receive from it.
    pub fn add(&mut self, descriptor: OwnedFd, owner: Owner) -> SocketId {
        let id = self.insert(descriptor, owner, Phase::Open);
        self.receive(id);
        id
    }

    /// Begins to connect to an endpoint. [`Event::Connected`] or [`Event::Failed`] follows. What is queued before is sent once the
    /// connection is established.
    ///
    /// # Errors
    /// When no socket can be made (EMFILE, ENFILE, ENOMEM).
    pub fn connect(&mut self, address: &Address, owner: Owner) -> Result<SocketId, Errno> {
        let made = self.driver.socket(address);
        let (descriptor, address) = made.map_err(|error| Errno(error.raw_os_error().unwrap_or(0)))?;
        let id = self.insert(descriptor, owner, Phase::Connecting);
        self.submit_connect(id.slot, address);
        Ok(id)
    }

    /// Resumes receiving after [`Ring::pause`]. Received bytes come as [`Event::Received`].
    pub fn receive(&mut self, id: SocketId) {
        let Some(socket) = self.live(id) else { return };
        match socket.recv {
            Recv::Off if socket.phase == Phase::Open => self.submit_receive(id.slot),
            Recv::Cancelling { .. } => socket.recv = Recv::Cancelling { resume: true },
            _ => {}
        }
    }

    /// Stops receiving, so that TCP flow control slows the peer. Bytes that the kernel has already received still come as
    /// [`Event::Received`]. If the socket is connecting, receiving does not begin with the connection.
    pub fn pause(&mut self, id: SocketId) {
        let Some(socket) = self.live(id) else { return };
        match socket.recv {
            Recv::Armed => {
                socket.recv = Recv::Cancelling { resume: false };
                self.submit_cancel_receive(id.slot);
            }
            Recv::Cancelling { .. } => socket.recv = Recv::Cancelling { resume: false },
            Recv::Starved => socket.recv = Recv::Off,
            Recv::Off if socket.phase == Phase::Connecting => socket.recv = Recv::Cancelling { resume: false },
            Recv::Off | Recv::Ended => {}
        }
    }

    /// Queues bytes. Everything queued for a socket in one turn leaves in one send.
    pub fn send(&mut self, id: SocketId, lease: Lease) {
        if self.live(id).is_some() {
            self.sockets[id.slot as usize].out.push(self.buffers.pieces(), lease);
            self.mark_dirty(id.slot);
        }
    }

    /// Queues several pieces at once.
    pub fn send_all(&mut self, id: SocketId, queue: &mut Queue) {
        if self.live(id).is_some() {
            self.sockets[id.slot as usize].out.append(self.buffers.pieces(), queue);
            self.mark_dirty(id.slot);
        } else {
            queue.clear(self.buffers.pieces());
        }
    }

    /// Bytes queued and not yet taken by the kernel.
    #[must_use]
    pub fn unsent(&self, id: SocketId) -> usize {
        self.peek(id).map_or(0, |socket| socket.out.bytes())
    }

    /// Whether the queue of a socket has reached [`Buffers::queue_limit`], so that nothing should be added.
    #[must_use]
    pub fn is_full(&self, id: SocketId) -> bool {
        self.peek(id).is_some_and(|socket| self.buffers.queue_limit().is_reached(&socket.out))
    }

    /// Number of pieces queued: an upper bound of the buffers that the queue pins.
    #[must_use]
    pub fn pinned(&self, id: SocketId) -> usize {
        self.peek(id).map_or(0, |socket| socket.out.pieces())
    }

    /// Bytes that the kernel has taken from the socket's queue since the socket was opened.
    #[must_use]
    pub fn taken(&self, id: SocketId) -> u64 {
        self.peek(id).map_or(0, |socket| socket.taken)
    }

    /// Sends FIN once everything queued was sent.
    pub fn finish(&mut self, id: SocketId) {
        if let Some(socket) = self.live(id) {
            socket.finish = true;
            self.mark_dirty(id.slot);
        }
    }

    /// Sets whether pieces that were sent are handed back to the owner with [`Event::Sent`] instead of being dropped.
    pub fn return_sent(&mut self, id: SocketId, returns: bool) {
        if let Some(socket) = self.live(id) {
            socket.returns = returns;
        }
    }

    /// Takes back what is queued and was not sent. None while a send is in flight, because the kernel reads the queue.
    pub fn take_unsent(&mut self, id: SocketId) -> Option<Queue> {
        let socket = self.live(id)?;
        if socket.sending {
            return None;
        }
        Some(std::mem::take(&mut socket.out))
    }

    /// Whether the kernel reads a part of what is queued.
    #[must_use]
    pub fn is_sending(&self, id: SocketId) -> bool {
        self.peek(id).is_some_and(|socket| socket.sending)
    }

    /// Has the kernel let go of what it reads: [`Event::Sent`] or [`Event::Failed`] says so. Nothing more may be sent.
    pub fn cancel_send(&mut self, id: SocketId) {
        if self.live(id).is_some_and(|socket| socket.sending) {
            self.submit_cancel_send(id.slot);
        }
    }

    /// Closes the socket and drops what is queued. No event about the socket follows.
    pub fn close(&mut self, id: SocketId) {
        if self.live(id).is_none() {
            return;
        }
        let socket = &mut self.sockets[id.slot as usize];
        self.wheel.clear(Timer::Connection(socket.owner).number());
        socket.phase = Phase::Closing;
        let in_flight = socket.in_flight > 0;
        if let Some(descriptor) = socket.descriptor.take() {
            self.close_descriptor(descriptor, in_flight);
        }
        self.release_if_idle(id.slot);
    }

    /// Submits the closes of this turn at once, so that their descriptors can be used again.
    pub fn submit_closes(&mut self) {
        self.driver.submit_now();
    }

    /// Closes with RST, so that the peer cannot take what it has received for a whole message (socket(7), SO_LINGER).
    pub fn abort(&mut self, id: SocketId) {
        let socket = self.sockets.get(id.slot as usize).filter(|socket| socket.generation == id.generation);
        if let Some(descriptor) = socket.and_then(|socket| socket.descriptor.as_ref()) {
            self.driver.reset_on_close(descriptor.as_fd());
            self.close(id);
        }
    }

    /// Sets the timer of a socket's owner; None clears it. Closing the socket clears it too.
    pub fn set_deadline(&mut self, id: SocketId, after: Option<Duration>) {
        if let Some(owner) = self.live(id).map(|socket| socket.owner) {
            self.set_timer(Timer::Connection(owner), after.map(|after| self.clock.deadline(after)));
        }
    }

    /// Makes a timer fire at a tick of [`Ring::clock`] instead of when it was to fire before; None clears it.
    pub fn set_timer(&mut self, timer: Timer, tick: Option<Tick>) {
        match tick {
            Some(tick) => self.wheel.set(timer.number(), tick),
            None => self.wheel.clear(timer.number()),
        }
    }

    /// Sockets whose receive waits for buffers.
    #[must_use]
    pub fn starved(&self) -> usize {
        self.groups.iter().map(|group| group.starved.len()).sum()
    }

    /// Whether receives wait for buffers that cannot be offered: too few are free. Others that wait have used up what was on offer in one
    /// turn, and go on in the next one.
    #[must_use]
    pub fn is_short_of_buffers(&self) -> bool {
        let free = self.buffers.pools()[0].available();
        self.groups.iter().any(|group| !group.starved.is_empty() && free <= group.leaves)
    }

    /// Pauses accepting while there are `limit` client sockets or more.
    pub fn limit_clients(&mut self, limit: usize) {
        self.client_limit = limit;
    }

    /// For how long a turn with nothing to do waits for several completions; zero: it begins with the first.
    pub fn set_batch_wait(&mut self, wait: Duration) {
        self.driver.set_batch_wait(wait);
    }

    /// Whether there are more completions than the ring has room for: the kernel keeps the others until the next turn.
    pub fn has_overflowed(&mut self) -> bool {
        self.driver.has_overflowed()
    }

    /// Time since this turn began: its clock stands still meanwhile.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.driver.now().saturating_sub(self.clock.now())
    }

    /// The clock of this turn.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// IP address and port of the other end of an accepted connection; None for a Unix-domain socket.
    ///
    /// # Errors
    /// When the connection is gone, so that nobody knows any more whose it was.
    pub fn peer(&self, descriptor: &OwnedFd) -> io::Result<Option<(IpAddr, u16)>> {
        self.driver.peer(descriptor.as_fd())
    }

    /// IP address and port of our end of an accepted connection; None for a Unix-domain socket.
    pub fn local(&self, descriptor: &OwnedFd) -> Option<(IpAddr, u16)> {
        self.driver.local(descriptor.as_fd())
    }

    /// The same of a socket that is open; None for others.
    #[must_use]
    pub fn local_of(&self, id: SocketId) -> Option<(IpAddr, u16)> {
        let socket = self.sockets.get(id.slot as usize).filter(|socket| socket.generation == id.generation)?;
        self.local(socket.descriptor.as_ref()?)
    }

    /// Seconds of the wall clock since 1970.
    #[must_use]
    pub fn wall_seconds(&self) -> u64 {
        self.driver.wall_seconds()
    }

    /// A number that differs between workers and their starts. Not for secrets.
    pub fn random(&mut self) -> u64 {
        self.driver.random()
    }

    /// How many more descriptors the process may open.
    #[must_use]
    pub fn descriptors_left(&self) -> usize {
        self.driver.descriptors_left()
    }

    /// A handle with which other threads can end this ring's wait.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.driver.waker()
    }

    /// Number of sockets that are open, or closed with operations that the kernel has not completed.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    /// Timers that are set. Walks all of them: for tests.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.wheel.armed()
    }

    fn insert(&mut self, descriptor: OwnedFd, owner: Owner, phase: Phase) -> SocketId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(Socket::default());
            (self.sockets.len() - 1) as u32
        });
        self.groups[Group::of(owner) as usize].sockets += 1;
        let socket = &mut self.sockets[slot as usize];
        socket.open(descriptor, owner, phase);
        SocketId { slot, generation: socket.generation }
    }

    /// The socket, even if it was closed and the kernel still has operations on it.
    fn peek(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id.slot as usize).filter(|socket| socket.generation == id.generation)
    }

    /// The socket, unless it was closed.
    fn live(&mut self, id: SocketId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.slot as usize)?;
        if socket.generation == id.generation && socket.is_live() { Some(socket) } else { None }
    }

    fn mark_dirty(&mut self, slot: u32) {
        let socket = &mut self.sockets[slot as usize];
        if !socket.dirty {
            socket.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn release_if_idle(&mut self, slot: u32) {
        let socket = &mut self.sockets[slot as usize];
        if socket.phase == Phase::Closing && socket.in_flight == 0 {
            socket.out.clear(self.buffers.pieces());
            socket.phase = Phase::Free;
            socket.generation = socket.generation.wrapping_add(1);
            self.groups[Group::of(socket.owner) as usize].sockets -= 1;
            // No completion of this turn meets a new owner: they carry the generation, and none is left.
            self.free.push(slot);
        }
    }
}
