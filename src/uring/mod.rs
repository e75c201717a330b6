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
pub use net::{BindError, Waker, bind, bind_private, claim, local_port, share};
pub use proof::Workarounds;
use socket::{Phase, Recv, Socket};
pub use start::{StartError, descriptors_left, raise_descriptor_limit};

/// A socket of one ring. A stale id (its socket was closed) is ignored wherever it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId {
    slot: u32,
    generation: u32,
}

/// What happened. Never about a socket that was closed before the event is taken.
#[derive(Debug)]
pub enum Event {
    /// A client connected. The descriptor is to be given to [`Ring::add`] or dropped.
    Accepted(ListenerId, OwnedFd),
    /// Accepting failed (EMFILE, ENFILE, ENOBUFS, ENOMEM), or clients have all the descriptors that they may have (EMFILE); it is
    /// paused and resumed by itself.
    AcceptPaused(ListenerId, Errno),
    /// A connection to an endpoint stands.
    Connected(Owner),
    /// Bytes arrived, in order.
    Received(Owner, Queue),
    /// The peer sent its FIN.
    Ended(Owner),
    /// Part of what was queued went out; whether all of it has, and the part itself after [`Ring::return_sent`].
    Sent(Owner, bool, Queue),
    /// Nothing more is sent, or, unless the fault is [`Fault::Send`], received.
    Failed(Owner, Fault),
    /// A time-out has passed that was neither moved nor cleared since.
    Expired(Timer),
    /// Another thread called [`Waker::wake`].
    Woken,
}

/// What broke.
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
    /// Whether the machine does not speak the protocol of the address.
    #[must_use]
    pub fn is_of_family(self) -> bool {
        self.0 == libc::EAFNOSUPPORT
    }

    /// What an operator can do when a descriptor could not be made.
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
    /// The machine may keep a FIN to itself that came with data (`proof`).
    peeks: bool,
    /// What bytes are held in.
    pub buffers: Buffers,
    /// By [`Group`]: what endpoints send has buffers that clients cannot take.
    groups: [ProvidedGroup; 2],
    sockets: Vec<Socket>,
    free: Vec<u32>,
    /// Freed in this turn; reused from the next one on, so that no event of this turn meets a new owner.
    freed: Vec<u32>,
    listeners: Vec<Accepting>,
    resume_accepting: Option<Tick>,
    /// A listener that is open does not accept.
    accepting_paused: bool,
    /// Client sockets that there may be before accepting is paused.
    client_limit: usize,
    /// A listener whose accepting is paused because there are so many, to be told once.
    full: Option<ListenerId>,
    wheel: Wheel,
    due: Vec<u32>,
    clock: Clock,
    /// Sockets with something to send.
    dirty: Vec<u32>,
    /// Completions on connections to endpoints. Taken first: what an idle one received or how it ended has to be known before
    /// a request is sent on it.
    upstream: VecDeque<Completion>,
    /// All others.
    completions: VecDeque<Completion>,
}

/// Whose sockets share a group of provided buffers.
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
    /// Sockets whose slots are not free.
    sockets: usize,
    /// Sockets whose receive ended for want of buffers, the one that waits longest first.
    starved: VecDeque<u32>,
    /// Free buffers that this group leaves to others.
    leaves: usize,
}

#[derive(Debug)]
struct Accepting {
    id: ListenerId,
    /// None once closed.
    socket: Option<OwnedFd>,
    armed: Accept,
}

/// What the kernel was asked to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    Off,
    /// One connection, because few more may come.
    One,
    /// Whatever comes.
    Many,
}

impl<D: Driver> Ring<D> {
    /// Adds a listening socket and starts to accept from it.
    pub fn listen(&mut self, id: ListenerId, socket: OwnedFd) {
        let accepting = Accepting { id, socket: Some(socket), armed: Accept::Off };
        // One that is closed and no longer armed gets no completion any more.
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

    /// Stops accepting from the listeners that `which` names and closes their sockets. Returns the connections that waited
    /// there, which the kernel would reset.
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

    /// Whether a connection of this listener may still come.
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

    /// Begins to connect to an endpoint. [`Event::Connected`] or [`Event::Failed`] follows; what is queued meanwhile is sent
    /// after the former.
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

    /// Receives again after [`Ring::pause`]. Received bytes come as [`Event::Received`] until then.
    pub fn receive(&mut self, id: SocketId) {
        let Some(socket) = self.live(id) else { return };
        match socket.recv {
            Recv::Off if socket.phase == Phase::Open => self.submit_receive(id.slot),
            Recv::Cancelling { .. } => socket.recv = Recv::Cancelling { resume: true },
            _ => {}
        }
    }

    /// Stops receiving, so that the peer is slowed by its window. What the kernel has already taken still comes.
    pub fn pause(&mut self, id: SocketId) {
        let Some(socket) = self.live(id) else { return };
        match socket.recv {
            Recv::Armed => {
                socket.recv = Recv::Cancelling { resume: false };
                self.submit_cancel_receive(id.slot);
            }
            Recv::Cancelling { .. } => socket.recv = Recv::Cancelling { resume: false },
            Recv::Starved => socket.recv = Recv::Off,
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

    /// Whether so much is queued that no more should be.
    #[must_use]
    pub fn is_full(&self, id: SocketId) -> bool {
        self.peek(id).is_some_and(|socket| self.buffers.queue_limit().is_reached(&socket.out))
    }

    /// Pieces queued: at most so many buffers are pinned.
    #[must_use]
    pub fn pinned(&self, id: SocketId) -> usize {
        self.peek(id).map_or(0, |socket| socket.out.pieces())
    }

    /// Bytes of the socket that the kernel has taken.
    #[must_use]
    pub fn taken(&self, id: SocketId) -> u64 {
        self.peek(id).map_or(0, |socket| socket.taken)
    }

    /// Sends FIN once everything queued has gone.
    pub fn finish(&mut self, id: SocketId) {
        if let Some(socket) = self.live(id) {
            socket.finish = true;
            self.mark_dirty(id.slot);
        }
    }

    /// Hands pieces that were sent back to the owner from now on, with [`Event::Sent`], or no longer.
    pub fn return_sent(&mut self, id: SocketId, returns: bool) {
        if let Some(socket) = self.live(id) {
            socket.returns = returns;
        }
    }

    /// Takes back what is queued and was not sent. None when the kernel is still reading it.
    pub fn take_unsent(&mut self, id: SocketId) -> Option<Queue> {
        self.live(id).filter(|socket| !socket.sending).map(|socket| std::mem::take(&mut socket.out))
    }

    /// Closes the socket and drops what is queued. No event about it follows.
    pub fn close(&mut self, id: SocketId) {
        if self.live(id).is_none() {
            return;
        }
        let socket = &mut self.sockets[id.slot as usize];
        self.wheel.clear(Timer::Connection(socket.owner).number());
        socket.phase = Phase::Closing;
        let (descriptor, in_flight) = (socket.descriptor.take(), socket.in_flight > 0);
        if let Some(descriptor) = descriptor {
            self.close_descriptor(descriptor, in_flight);
        }
        self.release_if_idle(id.slot);
    }

    /// Has the kernel close now what was closed in this turn, so that the descriptors can be used again.
    pub fn submit_closes(&mut self) {
        self.driver.submit_now();
    }

    /// Closes with RST, so that the peer cannot take what it has for a whole message (socket(7), SO_LINGER).
    pub fn abort(&mut self, id: SocketId) {
        let socket = self.sockets.get(id.slot as usize).filter(|socket| socket.generation == id.generation);
        if let Some(descriptor) = socket.and_then(|socket| socket.descriptor.as_ref()) {
            self.driver.reset_on_close(descriptor.as_fd());
            self.close(id);
        }
    }

    /// Sets the timer of a socket's owner; None: never. Closing the socket clears it.
    pub fn set_deadline(&mut self, id: SocketId, after: Option<Duration>) {
        if let Some(owner) = self.live(id).map(|socket| socket.owner) {
            self.set_timer(Timer::Connection(owner), after.map(|after| self.clock.deadline(after)));
        }
    }

    /// Makes a timer fire at a tick of [`Ring::clock`], and not when it was to fire before; None: never.
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

    /// Pauses accepting while there are `limit` client sockets or more.
    pub fn limit_clients(&mut self, limit: usize) {
        self.client_limit = limit;
    }

    /// The clock of this turn.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// IP address and port of the other end of an accepted connection; None for a Unix-domain socket.
    #[must_use]
    pub fn peer(&self, descriptor: &OwnedFd) -> Option<(IpAddr, u16)> {
        self.driver.peer(descriptor.as_fd())
    }

    /// Seconds of the wall clock since 1970.
    #[must_use]
    pub fn wall_seconds(&self) -> u64 {
        self.driver.wall_seconds()
    }

    /// Lets other threads end this ring's wait.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.driver.waker()
    }

    /// Sockets that are open or whose operations the kernel has not given back.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.sockets.len() - self.free.len() - self.freed.len()
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
        (socket.generation == id.generation && socket.is_live()).then_some(socket)
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
            self.freed.push(slot);
        }
    }
}
