//! One socket's slot: its operations in flight, and what waits to be sent. Not here: submitting operations.

use std::os::fd::OwnedFd;

use crate::buffer::Queue;
use crate::id::Owner;

/// The state of one descriptor. About a hundred bytes, so that idle connections are cheap.
#[derive(Debug)]
pub(super) struct Socket {
    /// None once the socket was closed.
    pub(super) descriptor: Option<OwnedFd>,
    /// Counts the sockets that have used the slot; part of every tag.
    pub(super) generation: u32,
    pub(super) owner: Owner,
    pub(super) phase: Phase,
    pub(super) recv: Recv,
    /// Number of operations whose last completion has not come.
    pub(super) in_flight: u8,
    /// A send is in flight: the front of `out` belongs to the kernel.
    pub(super) sending: bool,
    /// The slot is in the ring's list of sockets to flush.
    pub(super) dirty: bool,
    /// FIN is to be sent when `out` is empty.
    pub(super) finish: bool,
    /// A send failed: nothing more is sent, though what the peer sent before may still arrive.
    pub(super) mute: bool,
    /// Pieces are handed back to the owner when they have been sent.
    pub(super) returns: bool,
    /// Bytes that the kernel has taken.
    pub(super) taken: u64,
    pub(super) out: Queue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Connecting,
    Open,
    /// Connecting or receiving has failed; the owner was told and has not closed the socket yet.
    Broken,
    /// Closed; operations of the socket are still in flight.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recv {
    Off,
    Armed,
    /// The receive ended for want of buffers; it is armed again when there are some.
    Starved,
    /// The receive is being cancelled. With `resume` it is armed again when the cancellation has completed. If the socket is
    /// connecting, no receive exists: with `resume` it is armed when the connection is established.
    Cancelling {
        resume: bool,
    },
    /// The peer's FIN was received.
    Ended,
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            descriptor: None,
            generation: 0,
            owner: Owner::Downstream(u32::MAX),
            phase: Phase::Free,
            recv: Recv::Off,
            in_flight: 0,
            sending: false,
            dirty: false,
            finish: false,
            mute: false,
            returns: false,
            taken: 0,
            out: Queue::default(),
        }
    }
}

impl Socket {
    pub(super) fn open(&mut self, descriptor: OwnedFd, owner: Owner, phase: Phase) {
        debug_assert!(self.phase == Phase::Free && self.in_flight == 0);
        *self = Self {
            descriptor: Some(descriptor),
            generation: self.generation,
            owner,
            phase,
            dirty: self.dirty,
            ..Self::default()
        };
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open | Phase::Broken)
    }
}
