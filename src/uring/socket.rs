//! One socket's slot: what the kernel holds of it, and what waits to be sent. Not here: submitting.

use std::os::fd::OwnedFd;

use crate::buffer::Queue;
use crate::id::Owner;

/// The state of one descriptor. About a hundred bytes, so that idle connections are cheap.
#[derive(Debug)]
pub(super) struct Socket {
    /// None when closed.
    pub(super) descriptor: Option<OwnedFd>,
    /// Counts the slot's owners; part of every tag.
    pub(super) generation: u32,
    pub(super) owner: Owner,
    pub(super) phase: Phase,
    pub(super) recv: Recv,
    /// Operations that the kernel has not completed for good.
    pub(super) in_flight: u8,
    /// A send is in flight: the front of `out` belongs to the kernel.
    pub(super) sending: bool,
    /// In the ring's list of sockets to flush.
    pub(super) dirty: bool,
    /// Send FIN when `out` is empty.
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
    /// Failed to connect or to receive; the owner was told and has yet to close it.
    Broken,
    /// Closed; waits for the kernel to give back its operations.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recv {
    Off,
    Armed,
    /// Ended for want of buffers; armed again when there are some.
    Starved,
    /// A cancellation is on its way; `resume`: arm again when it has arrived.
    Cancelling {
        resume: bool,
    },
    /// FIN received.
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
        let (generation, dirty) = (self.generation, self.dirty);
        *self = Self { descriptor: Some(descriptor), generation, owner, phase, dirty, ..Self::default() };
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open | Phase::Broken)
    }
}
