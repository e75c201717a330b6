//! What a ring asks of the machine, and what it is told: the seam below which a test puts a machine of its own. Not here: io_uring,
//! which is the machine in production ([`super::Kernel`]).

use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::SockAddr;

use super::{StartError, Waker};
use crate::buffer::{Buffers, ProvidedRing, Queue};
use crate::id::Address;

/// A machine: operations go in, completions come out, time passes.
///
/// It may complete what was submitted in any order and as late as it likes, but it completes every operation: once, or, where the
/// operation says so, many times, the last time with [`Completion::more`] unset.
pub trait Driver {
    /// Whether one receive may fill several buffers.
    fn has_bundles(&self) -> bool;

    /// Whether a FIN may go untold that came right behind data; see [`Driver::has_ended`].
    fn misses_ends(&self) -> bool;

    /// Makes known the buffers that receives of a group fill.
    ///
    /// # Errors
    /// When the machine cannot.
    fn register(&mut self, group: u16, offered: &ProvidedRing) -> Result<(), StartError>;

    /// Queues an operation, whose completions carry `tag`. What it points to stays where it is until its last completion.
    fn submit(&mut self, tag: u64, operation: Operation<'_>);

    /// Has the machine take what is queued, in the middle of a turn.
    fn submit_now(&mut self);

    /// Has the machine take what is queued, waits for a completion, but for `wait` at most, and hands over all there are. `offered`
    /// are the buffers of each group, for a machine that fills them here.
    ///
    /// # Errors
    /// When the machine is broken.
    fn reap(&mut self, wait: Duration, offered: [&mut ProvidedRing; 2], each: impl FnMut(Completion))
    -> io::Result<()>;

    /// Hands over the completions that the machine had to take in the middle of a turn.
    fn reap_early(&mut self, each: impl FnMut(Completion));

    /// Whether there are completions that were not handed over for want of room.
    fn has_overflowed(&mut self) -> bool;

    /// Monotonic time since some moment before the first ring.
    fn now(&self) -> Duration;

    /// Seconds of the wall clock since 1970; may go back.
    fn wall_seconds(&self) -> u64;

    /// Ends [`Driver::reap`]'s wait, from any thread, once [`Operation::Wake`] was submitted.
    fn waker(&self) -> Waker;

    /// A fresh socket for a connection to an endpoint, with the address in the kernel's form.
    ///
    /// # Errors
    /// When none can be made (EMFILE, ENFILE, ENOMEM, EAFNOSUPPORT).
    fn socket(&mut self, address: &Address) -> io::Result<(OwnedFd, SockAddr)>;

    /// IP address and port of a connection's other end; None for a Unix-domain socket.
    fn peer(&self, socket: BorrowedFd<'_>) -> Option<(IpAddr, u16)>;

    /// The connections that a listening socket holds, which its closing would reset.
    fn accept_waiting(&mut self, listener: BorrowedFd<'_>) -> Vec<OwnedFd>;

    /// Sends FIN (shutdown(2)).
    fn shut_down(&mut self, socket: BorrowedFd<'_>);

    /// Makes the next close send RST (socket(7), SO_LINGER).
    fn reset_on_close(&mut self, socket: BorrowedFd<'_>);

    /// Whether the peer's FIN has arrived and everything before it was received.
    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> bool;
}

/// What a machine can be asked to do.
#[derive(Debug)]
pub enum Operation<'a> {
    /// Accepts one connection: the result is its descriptor.
    Accept(BorrowedFd<'a>),
    /// Accepts whatever comes: many completions.
    AcceptMany(BorrowedFd<'a>),
    /// Connects.
    Connect(BorrowedFd<'a>, &'a SockAddr),
    /// Receives into the buffers of a group whatever comes: many completions, the last of them with 0 at the peer's FIN or with
    /// ENOBUFS when no buffer is on offer.
    Receive {
        /// From where.
        socket: BorrowedFd<'a>,
        /// Whose buffers are filled.
        group: u16,
    },
    /// Sends the first pieces of a queue: as many bytes as the result says.
    Send {
        /// To where.
        socket: BorrowedFd<'a>,
        /// What.
        out: &'a Queue,
        /// Where it lies.
        buffers: &'a Buffers,
    },
    /// Cancels the operation with this tag, whose own completion says so.
    Cancel(u64),
    /// Cancels every operation on a descriptor.
    CancelAll(BorrowedFd<'a>),
    /// Closes.
    Close(OwnedFd),
    /// Waits for [`Waker::wake`].
    Wake,
}

/// What has become of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which one.
    pub tag: u64,
    /// What the system call would have returned: a count, a descriptor, or an `errno` value below zero.
    pub result: i32,
    /// The first of the buffers that were filled.
    pub buffer: Option<u16>,
    /// Another completion of the same operation follows.
    pub more: bool,
}
