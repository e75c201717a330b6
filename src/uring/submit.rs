//! Submissions, one function for each operation. Not here: what their completions mean (`complete`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::SockAddr;

use super::driver::{Driver, Operation};
use super::socket::{Recv, Socket};
use super::{Accept, Group, Ring, net};

/// The kind of an operation; the low byte of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Accept,
    Connect,
    Receive,
    Send,
    Wake,
    /// An operation whose result is ignored.
    Ignore,
}

impl Op {
    const ALL: [Self; 6] = [Self::Accept, Self::Connect, Self::Receive, Self::Send, Self::Wake, Self::Ignore];

    /// Tag: operation (8 bits), generation (24), slot (32).
    pub(super) fn tag(self, slot: u32, generation: u32) -> u64 {
        u64::from(slot) << 32 | u64::from(generation & GENERATION_MASK) << 8 | self as u64
    }

    pub(super) fn of(tag: u64) -> (Self, u32, u32) {
        let op = Self::ALL.get((tag & 0xff) as usize).copied().unwrap_or(Self::Ignore);
        (op, (tag >> 32) as u32, (tag >> 8) as u32 & GENERATION_MASK)
    }
}

/// The tag of operations whose result is ignored.
pub(super) const IGNORE: u64 = Op::Ignore as u64;
/// Bits of the generation that a tag holds.
pub(super) const GENERATION_MASK: u32 = 0xff_ffff;

impl<D: Driver> Ring<D> {
    /// Number of client sockets that may still be added.
    pub(super) fn client_room(&self) -> usize {
        self.client_limit.saturating_sub(self.groups[Group::Downstream as usize].sockets)
    }

    /// Begins to accept from a listener, unless it accepts already or is closed.
    pub(super) fn accept(&mut self, index: usize) {
        self.accept_within(index, self.client_room());
    }

    /// The same with room for `room` more clients. Connections are accepted one at a time where the backlogs of all listeners could
    /// hold more than that.
    pub(super) fn accept_within(&mut self, index: usize, room: usize) {
        if self.resume_accepting.is_some() {
            // All listeners accept again when it is over.
            self.accepting_paused = true;
            return;
        }
        let storm = room < net::BACKLOG as usize * self.listeners.len();
        let listener = &mut self.listeners[index];
        let Some(socket) = &listener.socket else { return };
        let tag = Op::Accept.tag(index as u32, 0);
        match listener.armed {
            // Accepting is armed again, for one connection, when this one has completed with ECANCELED.
            Accept::Many if storm => self.driver.submit(IGNORE, Operation::Cancel(tag)),
            Accept::Many | Accept::One => {}
            Accept::Off if room == 0 => {
                self.accepting_paused = true;
                self.full = Some(listener.id);
            }
            Accept::Off if storm => {
                listener.armed = Accept::One;
                self.driver.submit(tag, Operation::Accept(socket.as_fd()));
            }
            Accept::Off => {
                listener.armed = Accept::Many;
                self.driver.submit(tag, Operation::AcceptMany(socket.as_fd()));
            }
        }
    }

    pub(super) fn submit_connect(&mut self, slot: u32, address: SockAddr) {
        let socket = &mut self.sockets[slot as usize];
        let Some((tag, descriptor)) = socket.begin(slot, Op::Connect) else { return };
        self.driver.submit(tag, Operation::Connect(descriptor, &address));
    }

    pub(super) fn submit_receive(&mut self, slot: u32) {
        let socket = &mut self.sockets[slot as usize];
        socket.recv = Recv::Armed;
        let group = Group::of(socket.owner) as u16;
        let Some((tag, socket)) = socket.begin(slot, Op::Receive) else { return };
        self.driver.submit(tag, Operation::Receive { socket, group });
    }

    pub(super) fn submit_cancel_receive(&mut self, slot: u32) {
        let generation = self.sockets[slot as usize].generation;
        self.driver.submit(IGNORE, Operation::Cancel(Op::Receive.tag(slot, generation)));
    }

    pub(super) fn submit_cancel_send(&mut self, slot: u32) {
        let generation = self.sockets[slot as usize].generation;
        self.driver.submit(IGNORE, Operation::Cancel(Op::Send.tag(slot, generation)));
    }

    pub(super) fn close_descriptor(&mut self, descriptor: OwnedFd, in_flight: bool) {
        if in_flight {
            // The result is ignored: each cancelled operation has a completion of its own.
            self.driver.submit(IGNORE, Operation::CancelAll(descriptor.as_fd()));
        }
        self.driver.submit(IGNORE, Operation::Close(descriptor));
    }

    pub(super) fn arm_waker(&mut self) {
        self.driver.submit(Op::Wake.tag(0, 0), Operation::Wake);
    }

    /// Submits one send for each socket with queued bytes that has none in flight. Sends FIN where the queue is empty and FIN is
    /// wanted.
    pub(super) fn flush(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let socket = &mut self.sockets[slot as usize];
            socket.dirty = false;
            if socket.phase != super::Phase::Open || socket.sending || socket.mute {
                continue;
            }
            if !socket.out.is_empty() {
                self.submit_send(slot);
            } else if std::mem::take(&mut socket.finish)
                && let Some(descriptor) = &socket.descriptor
            {
                self.driver.shut_down(descriptor.as_fd());
            }
        }
    }

    fn submit_send(&mut self, slot: u32) {
        let socket = &mut self.sockets[slot as usize];
        socket.sending = true;
        socket.in_flight += 1;
        let tag = Op::Send.tag(slot, socket.generation);
        let (Some(descriptor), buffers) = (&socket.descriptor, &self.buffers) else { return };
        self.driver.submit(tag, Operation::Send { socket: descriptor.as_fd(), out: &socket.out, buffers });
    }
}

impl Socket {
    /// Counts an operation that is about to be submitted; returns its tag and the descriptor.
    fn begin(&mut self, slot: u32, op: Op) -> Option<(u64, BorrowedFd<'_>)> {
        let descriptor = self.descriptor.as_ref()?;
        self.in_flight += 1;
        Some((op.tag(slot, self.generation), descriptor.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_parts() {
        for op in Op::ALL {
            assert_eq!(Op::of(op.tag(0xdead_beef, 0x12_3456)), (op, 0xdead_beef, 0x12_3456));
        }
    }
}
