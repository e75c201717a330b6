//! Submissions: one function an operation. Not here: what their completions mean.

use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use socket2::SockAddr;

use super::socket::Recv;
use super::{Accept, Ring, Side, net};
use crate::limits::SEND_PIECES;

/// What an operation is; the low byte of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Accept,
    Connect,
    Receive,
    Send,
    Wake,
    /// Its result does not matter.
    Forget,
}

impl Op {
    const ALL: [Self; 6] = [Self::Accept, Self::Connect, Self::Receive, Self::Send, Self::Wake, Self::Forget];

    /// Tag: operation (8 bits), generation (24), slot (32).
    pub(super) fn tag(self, slot: u32, generation: u32) -> u64 {
        u64::from(slot) << 32 | u64::from(generation & GENERATION_MASK) << 8 | self as u64
    }

    pub(super) fn of(tag: u64) -> (Self, u32, u32) {
        let op = Self::ALL.get((tag & 0xff) as usize).copied().unwrap_or(Self::Forget);
        (op, (tag >> 32) as u32, (tag >> 8) as u32 & GENERATION_MASK)
    }
}

/// Bits of the generation that a tag holds.
pub(super) const GENERATION_MASK: u32 = 0xff_ffff;

/// What the kernel copies when it consumes a submission. Vectors that never grow, so that their elements never move.
pub(super) struct Arena {
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::msghdr>,
    addresses: Vec<SockAddr>,
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
    pub(super) fn clear(&mut self) {
        self.iovecs.clear();
        self.headers.clear();
        self.addresses.clear();
    }

    fn has_room(&self) -> bool {
        self.iovecs.len() + SEND_PIECES <= self.iovecs.capacity()
            && self.headers.len() < self.headers.capacity()
            && self.addresses.len() < self.addresses.capacity()
    }
}

impl Ring {
    /// Client sockets that may still be added.
    pub(super) fn client_room(&self) -> usize {
        self.client_limit.saturating_sub(self.sides[Side::Downstream as usize].sockets)
    }

    /// Accepts from a listener, unless it does or is closed.
    pub(super) fn accept(&mut self, index: usize) {
        self.accept_within(index, self.client_room());
    }

    /// The same when `room` more clients may come: one at a time where a whole backlog could be more than that.
    pub(super) fn accept_within(&mut self, index: usize, room: usize) {
        let storm = room < net::BACKLOG as usize * self.listeners.len();
        let listener = &mut self.listeners[index];
        let Some(socket) = &listener.socket else { return };
        let (descriptor, tag) = (Fd(socket.as_raw_fd()), Op::Accept.tag(index as u32, 0));
        // Not non-blocking: io_uring would then report EAGAIN instead of waiting.
        let entry = match listener.armed {
            Accept::Many if storm => {
                // Armed again when the cancellation has arrived.
                let cancel = opcode::AsyncCancel::new(tag).build();
                return self.push(cancel.user_data(Op::Forget.tag(0, 0)));
            }
            Accept::Many | Accept::One => return,
            Accept::Off if room == 0 => {
                self.accepting_paused = true;
                self.full = Some(listener.id);
                return;
            }
            Accept::Off if storm => {
                listener.armed = Accept::One;
                let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
                opcode::Accept::new(descriptor, address, length).flags(libc::SOCK_CLOEXEC).build()
            }
            Accept::Off => {
                listener.armed = Accept::Many;
                opcode::AcceptMulti::new(descriptor).flags(libc::SOCK_CLOEXEC).build()
            }
        };
        self.push(entry.user_data(tag));
    }

    pub(super) fn submit_connect(&mut self, slot: u32, address: SockAddr) {
        self.make_room();
        self.arena.addresses.push(address);
        let Some(address) = self.arena.addresses.last() else { return };
        let (pointer, length) = (address.as_ptr(), address.len());
        let socket = &self.sockets[slot as usize];
        let entry = opcode::Connect::new(Fd(socket.descriptor), pointer.cast(), length).build();
        self.push_for(slot, Op::Connect, entry);
    }

    pub(super) fn submit_receive(&mut self, slot: u32) {
        let socket = &mut self.sockets[slot as usize];
        socket.recv = Recv::Armed;
        let (descriptor, group) = (Fd(socket.descriptor), Side::of(socket.owner) as u16);
        let entry = if self.bundles {
            opcode::RecvMultiBundle::new(descriptor, group).build()
        } else {
            opcode::RecvMulti::new(descriptor, group).build()
        };
        self.push_for(slot, Op::Receive, entry);
    }

    pub(super) fn submit_cancel_receive(&mut self, slot: u32) {
        let generation = self.sockets[slot as usize].generation;
        let entry = opcode::AsyncCancel::new(Op::Receive.tag(slot, generation)).build();
        self.push(entry.user_data(Op::Forget.tag(0, 0)));
    }

    /// Cancels every operation on a descriptor; their own completions say so.
    pub(super) fn cancel_all(&mut self, descriptor: i32) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(descriptor)).all()).build();
        self.push(entry.user_data(Op::Forget.tag(0, 0)));
    }

    pub(super) fn close_descriptor(&mut self, descriptor: i32) {
        let entry = opcode::Close::new(Fd(descriptor)).build();
        self.push(entry.user_data(Op::Forget.tag(0, 0)));
    }

    pub(super) fn arm_waker(&mut self) {
        let pointer = (&raw mut *self.wake_count).cast();
        let entry = opcode::Read::new(Fd(self.waker.as_fd().as_raw_fd()), pointer, size_of::<u64>() as u32).build();
        self.push(entry.user_data(Op::Wake.tag(0, 0)));
    }

    /// Turns everything queued in this turn into sends, one a socket.
    pub(super) fn flush(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let socket = &mut self.sockets[slot as usize];
            socket.dirty = false;
            if socket.phase != super::Phase::Open || socket.sending || socket.mute {
                continue;
            }
            if !socket.out.is_empty() {
                self.submit_send(slot);
            } else if std::mem::take(&mut socket.finish) {
                net::finish(socket.descriptor);
            }
        }
    }

    fn submit_send(&mut self, slot: u32) {
        self.make_room();
        let socket = &mut self.sockets[slot as usize];
        socket.sending = true;
        let descriptor = Fd(socket.descriptor);
        let first = self.arena.iovecs.len();
        for lease in self.buffers.iter(&socket.out).take(SEND_PIECES) {
            self.arena.iovecs.push(libc::iovec { iov_base: lease.as_ptr().cast_mut().cast(), iov_len: lease.len() });
        }
        let iovecs = &self.arena.iovecs[first..];
        let entry = if let [one] = iovecs {
            let entry = opcode::Send::new(descriptor, one.iov_base.cast(), one.iov_len as u32);
            self.arena.iovecs.truncate(first);
            entry.flags(libc::MSG_NOSIGNAL).build()
        } else {
            let header = message(iovecs);
            self.arena.headers.push(header);
            let header = &raw const self.arena.headers[self.arena.headers.len() - 1];
            opcode::SendMsg::new(descriptor, header).flags(libc::MSG_NOSIGNAL as u32).build()
        };
        self.push_for(slot, Op::Send, entry);
    }

    fn push_for(&mut self, slot: u32, op: Op, entry: squeue::Entry) {
        let socket = &mut self.sockets[slot as usize];
        socket.in_flight += 1;
        let tag = op.tag(slot, socket.generation);
        self.push(entry.user_data(tag));
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: the contract: what the entry points to outlives the operation.
            let pushed = unsafe { self.uring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            self.submit();
        }
    }

    /// Before an entry is made that points into the arena: pushing it must not empty the arena.
    fn make_room(&mut self) {
        while !self.arena.has_room() || self.uring.submission().is_full() {
            self.submit();
        }
    }
}

fn message(iovecs: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = iovecs.as_ptr().cast_mut();
    header.msg_iovlen = iovecs.len();
    header
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
