//! The turn of a ring, and the event that each completion becomes. Not here: what the owners do about events.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::driver::{Completion, Driver, Operation};
use super::socket::{Phase, Recv, Socket};
use super::submit::{GENERATION_MASK, IGNORE, Op};
use super::{Accept, Errno, Event, Fault, Group, Ring};
use crate::buffer::Queue;
use crate::id::{Owner, Timer};
use crate::limits;

/// How long accepting is paused when descriptors or memory ran out.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl<D: Driver> Ring<D> {
    /// One turn: sends what is queued, waits (if `block`) for a completion or the next deadline, and collects completions and due
    /// timers. [`Ring::next_event`] then returns the events.
    ///
    /// # Errors
    /// When the ring itself is broken; the worker cannot go on.
    pub fn turn(&mut self, block: bool) -> io::Result<()> {
        self.turn_within(if block { Duration::MAX } else { Duration::ZERO })
    }

    /// The same, but waits at most `most`: for callers that need a finer time than a tick of the wheel.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn turn_within(&mut self, most: Duration) -> io::Result<()> {
        debug_assert!(!self.has_completions() && self.due.is_empty());
        self.flush();
        self.offer_buffers(Group::Upstream);
        self.offer_buffers(Group::Downstream);
        self.accept_again();
        self.reap(most)?;
        self.tell_untold_ends();
        self.clock.turn(self.driver.now());
        let now = self.clock.tick();
        self.wheel.expire(now, &mut self.due);
        Ok(())
    }

    /// Accepts no connection for `ACCEPT_REST`, because there is too much to do: clients wait in the backlog, or go to another worker's.
    pub fn rest_accepting(&mut self) {
        self.resume_accepting = Some(self.clock.deadline(ACCEPT_REST));
        self.accepting_paused = true;
        for index in 0..self.listeners.len() {
            if self.listeners[index].armed != Accept::Off {
                self.driver.submit(IGNORE, Operation::Cancel(Op::Accept.tag(index as u32, 0)));
            }
        }
    }

    /// Whether no connection is accepted for a while.
    #[must_use]
    pub fn is_accepting_at_rest(&self) -> bool {
        self.resume_accepting.is_some()
    }

    /// Resumes accepting where it was paused, once `ACCEPT_REST` is over and there is room for clients.
    fn accept_again(&mut self) {
        if self.resume_accepting.is_some_and(|tick| tick <= self.clock.tick()) {
            self.resume_accepting = None;
        }
        if self.accepting_paused && self.resume_accepting.is_none() && self.client_room() > 0 {
            self.accepting_paused = false;
            for index in 0..self.listeners.len() {
                self.accept(index);
            }
        }
    }

    /// The next event of this turn: those of completions before those of timers.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(completion) = self.upstream.pop_front().or_else(|| self.completions.pop_front()) {
            if let Some(event) = self.complete(completion) {
                return Some(event);
            }
        }
        while let Some(timer) = self.due.pop() {
            // An earlier event of this turn may have moved or cleared the timer.
            if self.wheel.take_due(timer) {
                return Some(Event::Expired(Timer::of(timer)));
            }
        }
        Some(Event::AcceptPaused(self.full.take()?, Errno(libc::EMFILE)))
    }

    fn has_completions(&self) -> bool {
        !self.upstream.is_empty() || !self.completions.is_empty()
    }

    /// Offers buffers to the kernel again and re-arms the receives that ended for want of them.
    fn offer_buffers(&mut self, group: Group) {
        let scarce = self.buffers.is_scarce();
        let offered = &mut self.groups[group as usize];
        let target = offered.sockets.clamp(limits::BUFFERS_OFFERED_MIN, limits::BUFFERS_OFFERED_MAX);
        // One receive may take all that are offered.
        let target = if scarce { limits::BUFFERS_OFFERED_MIN } else { target };
        if !offered.ring.refill(target, offered.leaves) {
            return;
        }
        // One socket for each buffer on offer: the others would fail again, so they wait for the next turn.
        let mut left = offered.ring.offered();
        while left > 0 {
            let Some(slot) = self.groups[group as usize].starved.pop_front() else { break };
            let socket = &self.sockets[slot as usize];
            if socket.phase == Phase::Open && socket.recv == Recv::Starved && Group::of(socket.owner) == group {
                left -= 1;
                self.submit_receive(slot);
            }
        }
    }

    /// Waits for completions, but no longer than `most`, and sorts them into `upstream` and `completions`.
    fn reap(&mut self, most: Duration) -> io::Result<()> {
        let wait = self.wait().min(most);
        let Self { driver, groups: [downstream, upstream], sockets, upstream: first, completions, .. } = self;
        driver.reap(wait, [&mut downstream.ring, &mut upstream.ring], |completion| {
            if concerns_upstream(sockets, &completion) { &mut *first } else { &mut *completions }.push_back(completion);
        })
    }

    /// How long the ring may wait: until the next timer, for a minute at most.
    fn wait(&self) -> Duration {
        let tick = [self.wheel.next(), self.resume_accepting].into_iter().flatten().min();
        let idle = Duration::from_secs(60);
        match tick {
            // A receive that waits for buffers needs no timer: completions of sends free them, and end the wait.
            Some(tick) => self.clock.until(tick).clamp(Duration::from_millis(1), idle),
            None => idle,
        }
    }

    fn complete(&mut self, completion: Completion) -> Option<Event> {
        let (op, slot, generation) = Op::of(completion.tag);
        match op {
            Op::Accept => return self.accepted(slot as usize, completion),
            Op::Wake => {
                self.arm_waker();
                return Some(Event::Woken);
            }
            Op::Ignore => return None,
            Op::Connect | Op::Receive | Op::Send => {}
        }
        let socket = self.sockets.get_mut(slot as usize)?;
        if self.peeks && socket.generation & GENERATION_MASK != generation {
            // The completion that `tell_end` has added, after the kernel had reported the same FIN and the socket was closed.
            return None;
        }
        debug_assert_eq!(socket.generation & GENERATION_MASK, generation, "a slot was freed with operations in flight");
        if !completion.more {
            socket.in_flight -= 1;
        }
        let event = match op {
            Op::Connect => self.connected(slot, completion),
            Op::Receive => self.received(slot, completion),
            Op::Send => self.sent(slot, completion),
            _ => None,
        };
        self.release_if_idle(slot);
        event
    }

    fn accepted(&mut self, index: usize, completion: Completion) -> Option<Event> {
        let listener = self.listeners.get_mut(index)?;
        if !completion.more {
            listener.armed = Accept::Off;
        }
        let id = listener.id;
        let open = listener.socket.is_some();
        let armed = listener.armed != Accept::Off;
        if completion.result >= 0 {
            // The new socket is not counted yet.
            self.accept_within(index, self.client_room().saturating_sub(1));
            // SAFETY: a fresh descriptor that the kernel has just installed for this operation; nothing else owns it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(completion.result) };
            return Some(Event::Accepted(id, descriptor));
        }
        let error = Errno(-completion.result);
        match error.0 {
            _ if armed || !open => None,
            // The client was gone before it was accepted (accept(2)), or a multishot accept was cancelled because few more clients
            // are admitted.
            libc::ECONNABORTED | libc::EINTR | libc::EPROTO | libc::ECANCELED => {
                self.accept(index);
                None
            }
            _ => {
                self.resume_accepting = Some(self.clock.deadline(ACCEPT_REST));
                self.accepting_paused = true;
                Some(Event::AcceptPaused(id, error))
            }
        }
    }

    fn connected(&mut self, slot: u32, completion: Completion) -> Option<Event> {
        let socket = &mut self.sockets[slot as usize];
        if socket.phase != Phase::Connecting {
            return None;
        }
        let owner = socket.owner;
        if completion.result < 0 {
            socket.phase = Phase::Broken;
            return Some(Event::Failed(owner, Fault::Connect(Errno(-completion.result))));
        }
        socket.phase = Phase::Open;
        if socket.recv == (Recv::Cancelling { resume: false }) {
            socket.recv = Recv::Off;
        } else {
            self.submit_receive(slot);
        }
        self.mark_dirty(slot);
        Some(Event::Connected(owner))
    }

    fn received(&mut self, slot: u32, mut completion: Completion) -> Option<Event> {
        let mut queue = Queue::default();
        if let (Some(buffer), 1..) = (completion.buffer, completion.result) {
            let group = Group::of(self.sockets[slot as usize].owner);
            let ring = &mut self.groups[group as usize].ring;
            let pieces = self.buffers.pieces();
            let claimed = ring.claim(buffer, completion.result as usize, |lease| queue.push(pieces, lease));
            if claimed.is_err() {
                // The bytes may be those of another connection: the owner gets none of them, and the connection fails.
                completion.result = -libc::EIO;
                queue.clear(self.buffers.pieces());
            }
        }
        let socket = &mut self.sockets[slot as usize];
        let told = socket.recv == Recv::Ended;
        let resume = socket.recv == Recv::Cancelling { resume: true };
        let paused = socket.recv == Recv::Cancelling { resume: false };
        if !completion.more {
            socket.recv = Recv::Off;
        }
        let ended = socket.recv == Recv::Off;
        let owner = socket.owner;
        if socket.phase != Phase::Open {
            queue.clear(self.buffers.pieces());
            return None;
        }
        match completion.result {
            1.. => {
                if ended && !paused {
                    self.submit_receive(slot);
                } else if self.peeks && self.has_ended(slot) {
                    self.tell_end(owner, completion);
                }
                Some(Event::Received(owner, queue))
            }
            0 => {
                socket.recv = Recv::Ended;
                if told { None } else { Some(Event::Ended(owner)) }
            }
            error => match -error {
                libc::ENOBUFS => {
                    if !paused {
                        socket.recv = Recv::Starved;
                        self.groups[Group::of(owner) as usize].starved.push_back(slot);
                    }
                    None
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                    if ended && (resume || !paused) {
                        self.submit_receive(slot);
                    }
                    None
                }
                error => {
                    socket.phase = Phase::Broken;
                    Some(Event::Failed(owner, Fault::Receive(Errno(error))))
                }
            },
        }
    }

    /// Whether the peer of a socket that still receives has sent its FIN.
    fn has_ended(&mut self, slot: u32) -> bool {
        let socket = &self.sockets[slot as usize];
        let armed = socket.descriptor.as_ref().filter(|_| socket.recv == Recv::Armed);
        armed.is_some_and(|descriptor| self.driver.has_ended(descriptor.as_fd()))
    }

    /// Adds a completion that reports the peer's FIN, as if the kernel had reported it, behind those of received data.
    fn tell_end(&mut self, owner: Owner, last: Completion) {
        // Data that did not fit the completion queue comes in the next turn, when the socket is asked again.
        if self.driver.has_overflowed() {
            return self.untold_ends.push_back(last);
        }
        // Completions of data that were taken early have to come before the FIN.
        let Self { driver, sockets, upstream: first, completions, .. } = self;
        driver.reap_early(|completion| {
            if concerns_upstream(sockets, &completion) { &mut *first } else { &mut *completions }.push_back(completion);
        });
        let queue = match owner {
            Owner::Upstream(_) => &mut self.upstream,
            Owner::Downstream(_) => &mut self.completions,
        };
        // The receive is still armed: its last completion is yet to come.
        queue.push_back(Completion { result: 0, buffer: None, more: true, ..last });
    }

    /// Asks again for the ends that could not be told in the turn before.
    fn tell_untold_ends(&mut self) {
        // What cannot be told now either is put behind.
        for _ in 0..self.untold_ends.len() {
            let Some(last) = self.untold_ends.pop_front() else { return };
            let (_, slot, generation) = Op::of(last.tag);
            let Some(socket) = self.sockets.get(slot as usize) else { continue };
            let (owner, is_same) = (socket.owner, socket.generation & GENERATION_MASK == generation);
            if is_same && self.has_ended(slot) {
                self.tell_end(owner, last);
            }
        }
    }

    fn sent(&mut self, slot: u32, completion: Completion) -> Option<Event> {
        let socket = &mut self.sockets[slot as usize];
        socket.sending = false;
        if !matches!(socket.phase, Phase::Open | Phase::Broken) {
            return None;
        }
        let owner = socket.owner;
        if completion.result < 0 {
            socket.mute = true;
            return Some(Event::Failed(owner, Fault::Send(Errno(-completion.result))));
        }
        let sent = self.take_sent(slot, completion.result as usize);
        let socket = &self.sockets[slot as usize];
        let drained = socket.out.is_empty();
        if !drained || socket.finish {
            self.mark_dirty(slot);
        }
        Some(Event::Sent(owner, drained, sent))
    }

    /// Takes the first `count` bytes out of a socket's queue. Returns them if the owner has asked for it; else drops them.
    fn take_sent(&mut self, slot: u32, mut count: usize) -> Queue {
        let socket = &mut self.sockets[slot as usize];
        socket.taken += count as u64;
        let mut sent = Queue::default();
        while count > 0 {
            let Some(mut lease) = socket.out.pop(self.buffers.pieces()) else { break };
            let part = if count < lease.len() {
                let part = lease.split_to(count);
                socket.out.push_front(self.buffers.pieces(), lease);
                part
            } else {
                lease
            };
            count -= part.len();
            if socket.returns {
                sent.push(self.buffers.pieces(), part);
            }
        }
        sent
    }
}

/// Whether a completion is one of a connection to an endpoint.
fn concerns_upstream(sockets: &[Socket], completion: &Completion) -> bool {
    let (op, slot, _) = Op::of(completion.tag);
    let of_socket = matches!(op, Op::Connect | Op::Receive | Op::Send);
    let owner = sockets.get(slot as usize).filter(|_| of_socket).map(|socket| socket.owner);
    matches!(owner, Some(Owner::Upstream(_)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::buffer::Buffers;
    use crate::uring::Kernel;
    use crate::uring::proof::Cause;

    /// At each turn far more data has arrived than there are buffers for: every socket still gets its share.
    #[test]
    fn buffers_go_round() {
        let mut ring = Ring::new().unwrap();
        let mut peers = Vec::new();
        for number in 0..100 {
            let (peer, ours) = UnixStream::pair().unwrap();
            peer.set_nonblocking(true).unwrap();
            ring.add(ours.into(), Owner::Downstream(number));
            peers.push(peer);
        }
        let mut received = vec![0; peers.len()];
        let fill = [0; 64 * 1024];
        for _ in 0..100 {
            for peer in &mut peers {
                while peer.write(&fill).is_ok() {}
            }
            ring.turn(true).unwrap();
            while let Some(event) = ring.next_event() {
                if let Event::Received(Owner::Downstream(number), mut queue) = event {
                    received[number as usize] += queue.bytes();
                    queue.clear(ring.buffers.pieces());
                }
            }
        }
        let (least, most) = (received.iter().min().unwrap(), received.iter().max().unwrap());
        assert!(*least > 0 && most / least < 4, "{received:?}");
    }

    /// What one submission points to is not overwritten by the next one, even when the queue was full in between.
    #[test]
    fn a_full_submission_queue_mixes_no_sends() {
        let mut ring = Ring::new().unwrap();
        let (mut peers, mut sockets) = (Vec::new(), Vec::new());
        for number in 0..limits::SUBMISSIONS + 2 {
            let (peer, ours) = UnixStream::pair().unwrap();
            sockets.push(ring.add(ours.into(), Owner::Downstream(number)));
            peers.push(peer);
        }
        ring.turn(false).unwrap();
        while ring.next_event().is_some() {}
        // The last ones are submitted first: one piece each fills the queue, and then come two sends of two pieces.
        for (socket, number) in sockets.into_iter().zip(0..) {
            let (byte, pieces) = [(b'a', 2), (b'b', 2)].get(number).copied().unwrap_or((b'c', 1));
            for _ in 0..pieces {
                let mut lease = ring.buffers.take().unwrap();
                assert_eq!(lease.append(&[byte; 3000]), 3000);
                ring.send(socket, lease);
            }
        }
        ring.turn(false).unwrap();
        for (peer, byte) in peers.iter_mut().zip([b'a', b'b']) {
            let mut received = vec![0; 6000];
            peer.read_exact(&mut received).unwrap();
            assert!(received.iter().all(|received| *received == byte), "{}", char::from(byte));
        }
    }

    /// A wait for several completions ends with fewer once its time is over, and at once when there are enough.
    #[test]
    fn a_wait_for_a_batch_ends_without_one() {
        let mut ring = Ring::new().unwrap();
        ring.set_batch_wait(Duration::from_micros(200));
        let (mut peers, mut heard) = (Vec::new(), 0);
        for number in 0..2 * limits::BATCH as u32 {
            let (peer, ours) = UnixStream::pair().unwrap();
            ring.add(ours.into(), Owner::Downstream(number));
            peers.push(peer);
        }
        let all = peers.len();
        for some in [1, all] {
            for peer in &mut peers[..some] {
                peer.write_all(b"x").unwrap();
            }
            while heard < some {
                // Only what was written can end this wait.
                ring.turn_within(Duration::from_secs(3600)).unwrap();
                while let Some(event) = ring.next_event() {
                    if let Event::Received(_, mut queue) = event {
                        heard += 1;
                        queue.clear(ring.buffers.pieces());
                    }
                }
            }
            heard = 0;
        }
    }

    /// A FIN that both the peek and the kernel report becomes one event, after the data.
    #[test]
    fn an_end_is_told_once() {
        let workarounds = crate::uring::Workarounds { peek_fin: Some(Cause::Forced), ..Default::default() };
        let mut ring = Ring::on(Kernel::new(workarounds).unwrap(), Buffers::new().unwrap()).unwrap();
        for owner in [Owner::Downstream(1), Owner::Upstream(2)] {
            let (mut peer, ours) = UnixStream::pair().unwrap();
            let socket = ring.add(ours.into(), owner);
            ring.turn(false).unwrap();
            while ring.next_event().is_some() {}
            peer.write_all(&[b'x'; 100_000]).unwrap();
            drop(peer);
            let (mut received, mut ends) = (0, 0);
            for _ in 0..20 {
                ring.turn(false).unwrap();
                while let Some(event) = ring.next_event() {
                    match event {
                        Event::Received(_, mut queue) => {
                            received += queue.bytes();
                            queue.clear(ring.buffers.pieces());
                            assert_eq!(ends, 0);
                        }
                        Event::Ended(of) => ends += usize::from(of == owner),
                        _ => {}
                    }
                }
            }
            assert_eq!((received, ends), (100_000, 1));
            ring.close(socket);
        }
    }
}
