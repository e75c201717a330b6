//! The interface between a ring and the machine below it: operations, completions, and a few calls on sockets. A test can put a
//! machine of its own in place of the kernel. Not here: io_uring, which is the machine in production ([`super::Kernel`]).

use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::SockAddr;

use super::{StartError, Waker};
use crate::buffer::{Buffers, ProvidedRing, Queue};
use crate::id::Address;

/// A machine: it takes operations, returns completions, and tells the time.
///
/// It may complete operations in any order and at any time, but it completes each one: once, or, where the operation says so, many
/// times, the last time with [`Completion::more`] unset.
pub trait Driver {
    /// Whether one receive may fill several buffers.
    fn has_bundles(&self) -> bool;

    /// Whether a FIN that came right behind data may not be reported; see [`Driver::has_ended`].
    fn misses_ends(&self) -> bool;

    /// Registers the buffers that the receives of a group fill.
    ///
    /// # Errors
    /// When the machine refuses the registration.
    fn register(&mut self, group: u16, offered: &ProvidedRing) -> Result<(), StartError>;

    /// Queues an operation, whose completions carry `tag`. Memory that it points to must be neither moved nor freed before its last
    /// completion.
    fn submit(&mut self, tag: u64, operation: Operation<'_>);

    /// Submits what is queued, in the middle of a turn.
    fn submit_now(&mut self);

    /// From now on, a wait of [`Driver::reap`] ends only with `limits::BATCH` completions, or with any after this time. With zero, or on a
    /// machine that cannot, it ends with the first.
    fn set_batch_wait(&mut self, _: Duration) {}

    /// Submits what is queued, waits at most `wait` for a completion, and passes all completions to `each`. `offered` are the buffers
    /// of each group, for a machine that fills them here.
    ///
    /// # Errors
    /// When the machine is broken.
    fn reap(&mut self, wait: Duration, offered: [&mut ProvidedRing; 2], each: impl FnMut(Completion))
    -> io::Result<()>;

    /// Passes the completions to `each` that were taken from the completion queue in the middle of a turn, to make room.
    fn reap_early(&mut self, each: impl FnMut(Completion));

    /// Whether the completion queue has overflowed, so that some completions come only with a later [`Driver::reap`].
    fn has_overflowed(&mut self) -> bool;

    /// Monotonic time since a fixed moment before the first ring.
    fn now(&self) -> Duration;

    /// Seconds of the wall clock since 1970. The wall clock may be set back.
    fn wall_seconds(&self) -> u64;

    /// A number that differs between machines and their starts. Not for secrets.
    fn random(&mut self) -> u64;

    /// How many more descriptors there may be.
    fn descriptors_left(&self) -> usize;

    /// A handle that ends the wait of [`Driver::reap`] from any thread, once [`Operation::Wake`] was submitted.
    fn waker(&self) -> Waker;

    /// A fresh socket for a connection to an endpoint, with the address in the kernel's form.
    ///
    /// # Errors
    /// When no socket can be made (EMFILE, ENFILE, ENOMEM, EAFNOSUPPORT).
    fn socket(&mut self, address: &Address) -> io::Result<(OwnedFd, SockAddr)>;

    /// IP address and port of a connection's other end; None for a Unix-domain socket.
    ///
    /// # Errors
    /// When the connection is gone (ENOTCONN).
    fn peer(&self, socket: BorrowedFd<'_>) -> io::Result<Option<(IpAddr, u16)>>;

    /// IP address and port of a connection's own end; None for a Unix-domain socket, or where the machine has none.
    fn local(&self, _: BorrowedFd<'_>) -> Option<(IpAddr, u16)> {
        None
    }

    /// Accepts the connections in the backlog of a listening socket, which closing it would reset.
    fn accept_waiting(&mut self, listener: BorrowedFd<'_>) -> Vec<OwnedFd>;

    /// Sends FIN (shutdown(2)).
    fn shut_down(&mut self, socket: BorrowedFd<'_>);

    /// Makes the next close send RST (socket(7), SO_LINGER).
    fn reset_on_close(&mut self, socket: BorrowedFd<'_>);

    /// Whether the peer's FIN has arrived and everything before it was received.
    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> bool;
}

/// An operation that a machine performs.
#[derive(Debug)]
pub enum Operation<'a> {
    /// Accepts one connection; the result is its descriptor.
    Accept(BorrowedFd<'a>),
    /// Accepts connections until it is cancelled or fails; each has its completion.
    AcceptMany(BorrowedFd<'a>),
    /// Connects a socket to an address.
    Connect(BorrowedFd<'a>, &'a SockAddr),
    /// Receives into the buffers of a group until it is cancelled or fails: many completions, the last of them with 0 at the peer's
    /// FIN, or with ENOBUFS when no buffer is on offer.
    Receive {
        /// The socket to receive from.
        socket: BorrowedFd<'a>,
        /// The group whose buffers are filled.
        group: u16,
    },
    /// Sends bytes of the first pieces of a queue; the result is how many.
    Send {
        /// The socket to send on.
        socket: BorrowedFd<'a>,
        /// The queue.
        out: &'a Queue,
        /// The buffers that hold the pieces.
        buffers: &'a Buffers,
    },
    /// Cancels the operation with this tag. If that succeeds, the operation completes with ECANCELED.
    Cancel(u64),
    /// Cancels every operation on a descriptor.
    CancelAll(BorrowedFd<'a>),
    /// Closes a descriptor.
    Close(OwnedFd),
    /// Waits for [`Waker::wake`].
    Wake,
}

/// One result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The tag of the operation.
    pub tag: u64,
    /// What the system call would have returned: a count, a descriptor, or an `errno` value below zero.
    pub result: i32,
    /// The first buffer that a receive has filled.
    pub buffer: Option<u16>,
    /// Another completion of the same operation follows.
    pub more: bool,
}
