//! What becomes of receives, sends and accepts. Not here: when (`net`).

use std::os::fd::IntoRawFd;

use cairn::buffer::ProvidedRing;
use cairn::limits;

use crate::net::{Brought, Link, LinkId, Net, Spoiled, tell};

/// Bytes that a receive puts in one buffer.
const PAYLOAD: usize = limits::BUFFER_BYTES - limits::BUFFER_HEADROOM - limits::BUFFER_TAILROOM;
/// What a receive gives on a connection that was reset.
const FAILED: i32 = -libc::ECONNRESET;

impl Brought {
    /// The same with another receive of so many bytes.
    fn and(self, bytes: usize) -> Self {
        Self { bytes: self.bytes + bytes, buffers: self.buffers + bytes.div_ceil(PAYLOAD) }
    }
}

impl Link {
    /// The completion with this tag says that no further request can go over it.
    fn spoil(&mut self, tag: u64) {
        if self.spoiled == Spoiled::No {
            self.spoiled = Spoiled::Told(tag);
        }
    }
}

impl Net {
    /// Completes a receive as far as it has come.
    pub(crate) fn receive(&mut self, link: LinkId, offered: &mut [&mut ProvidedRing; 2]) {
        let Some((pending, group)) = self.links[link].receive.as_mut() else { return };
        pending.due = false;
        let (tag, cancelled, group) = (pending.tag, pending.cancelled, usize::from(*group));
        // A cancellation may come too late.
        let late = cancelled && !self.links[link].to_worker.bytes.is_empty() && self.random.chance(50);
        if cancelled && !late {
            return self.end_receive(link, tag, -libc::ECANCELED);
        }
        let transient = self.plan.transient;
        if self.fault(transient) {
            let errno = self.random.pick(&[libc::EAGAIN, libc::EINTR]);
            return self.end_receive(link, tag, -errno);
        }
        let pipe = &self.links[link].to_worker;
        if pipe.bytes.is_empty() {
            match (pipe.reset, pipe.fin) {
                (true, _) => self.end_receive(link, tag, -libc::ECONNRESET),
                (_, true) => {
                    tell!(self, "{}: worker receives FIN", self.name(link));
                    self.end_receive(link, tag, 0);
                }
                _ => {}
            }
            return;
        }
        let (available, percent) = (pipe.bytes.len(), self.plan.short_receives);
        let length = self.part(available.min(48 * 1024), percent);
        let bundles = self.plan.bundles;
        let bytes: Vec<u8> = self.links[link].to_worker.bytes.iter().take(length).copied().collect();
        let Some((buffer, filled)) = offered[group].fill(&bytes, bundles) else {
            tell!(self, "{}: no buffer for a receive", self.name(link));
            return self.end_receive(link, tag, -libc::ENOBUFS);
        };
        self.links[link].to_worker.bytes.drain(..filled);
        let it = &mut self.links[link];
        it.delivered += filled as u64;
        it.brought = it.brought.and(filled);
        it.late = if cancelled { it.late.and(filled) } else { Brought::default() };
        self.late_most.bytes = self.late_most.bytes.max(it.late.bytes);
        self.late_most.buffers = self.late_most.buffers.max(it.late.buffers);
        self.most.bytes = self.most.bytes.max(it.brought.bytes);
        self.most.buffers = self.most.buffers.max(it.brought.buffers);
        if it.talk.is_some_and(|talk| talk < it.delivered) {
            it.spoil(tag);
        }
        tell!(self, "{}: worker receives {filled} bytes", self.name(link));
        let ends = self.plan.ends_multishot;
        let more = !self.fault(ends) || cancelled;
        self.complete(tag, filled as i32, Some(buffer), more);
        // There is room again.
        self.wake_peer(link);
        let misses = self.plan.misses_ends && self.random.chance(50);
        let it = &mut self.links[link];
        if !more {
            it.receive = None;
            return self.close_if_idle(link);
        }
        it.fin_missed = misses && it.to_worker.fin && it.to_worker.bytes.is_empty();
        self.complete_receive(link);
    }

    fn end_receive(&mut self, link: LinkId, tag: u64, result: i32) {
        if result < 0 {
            tell!(self, "{}: receive ends: {}", self.name(link), std::io::Error::from_raw_os_error(-result));
        }
        let it = &mut self.links[link];
        it.receive = None;
        if matches!(result, 0 | FAILED) {
            it.spoil(tag);
        }
        self.complete(tag, result, None, false);
        self.close_if_idle(link);
    }

    /// Completes a send.
    pub(crate) fn send(&mut self, link: LinkId) {
        let window = self.plan.window;
        let Some((pending, bytes)) = self.links[link].send.as_mut() else { return };
        pending.due = false;
        let (tag, cancelled, length) = (pending.tag, pending.cancelled, bytes.len());
        let it = &self.links[link];
        let room = window.saturating_sub(it.to_peer.bytes.len());
        let result = if it.to_worker.reset {
            -libc::ECONNRESET
        } else if cancelled && (room == 0 || self.random.chance(50)) {
            -libc::ECANCELED
        } else if it.closed_by_peer {
            // The peer answers what it gets with a reset.
            self.links[link].to_worker.reset = true;
            length as i32
        } else if room == 0 {
            return;
        } else {
            let percent = self.plan.short_sends;
            let taken = self.part(length.min(room), percent);
            let Some((_, bytes)) = self.links[link].send.take() else { return };
            self.links[link].to_peer.bytes.extend(&bytes[..taken]);
            tell!(self, "{}: worker sends {taken} of {length} bytes", self.name(link));
            self.wake_peer(link);
            taken as i32
        };
        self.links[link].send = None;
        self.complete(tag, result, None, false);
        self.complete_receive(link);
        self.close_if_idle(link);
    }

    /// Accepts a connection.
    pub(crate) fn accept(&mut self, index: usize) {
        let Some((pending, many)) = self.listeners[index].accept.as_mut() else { return };
        pending.due = false;
        let (tag, cancelled, many) = (pending.tag, pending.cancelled, *many);
        if cancelled && (self.listeners[index].arrived.is_empty() || self.random.chance(50)) {
            self.listeners[index].accept = None;
            return self.complete(tag, -libc::ECANCELED, None, false);
        }
        let (transient, ends) = (self.plan.transient, self.plan.ends_multishot);
        let failure = if self.is_out_of_descriptors() {
            Some(libc::EMFILE)
        } else if self.fault(transient) {
            Some(self.random.pick(&[libc::ECONNABORTED, libc::EINTR]))
        } else {
            None
        };
        if let Some(errno) = failure {
            self.listeners[index].accept = None;
            return self.complete(tag, -errno, None, false);
        }
        let Some((link, descriptor)) = self.listeners[index].arrived.pop_front() else { return };
        let descriptor = self.hand_over(link, descriptor).into_raw_fd();
        let more = many && (cancelled || !self.fault(ends));
        if !more {
            self.listeners[index].accept = None;
        }
        self.complete(tag, descriptor, None, more);
        self.complete_accept(index);
    }
}
