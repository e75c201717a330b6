//! The limits of handshakes. Of those under way at a listener: each holds keys and part of a flight for a client that has proved nothing
//! yet. And of a turn's time: a step of one may take ten times as long as an exchange, so only a few are made in a turn, after
//! everything else, and the others wait. Not here: the messages of a handshake (`tls`).

use std::collections::VecDeque;
use std::time::Duration;

use super::{Downstreams, Phase};
use crate::buffer::Queue;
use crate::exchange::Engine;
use crate::id::ListenerId;
use crate::limits;
use crate::uring::Driver;

/// The handshakes of one listener.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// In the order in which they began. Handshakes that are over stay until they come to the front, or the queue is about to grow.
    order: VecDeque<Begun>,
    /// Number of handshakes under way.
    count: u32,
}

/// Handshakes whose client has sent something that was not looked at yet, the one that has waited longest first. Those that have ended
/// meanwhile stay until it is their turn.
#[derive(Debug, Default)]
pub(super) struct WaitingHandshakes(VecDeque<Begun>);

/// A handshake that has begun.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// Slot of the connection.
    connection: u32,
    /// Distinguishes the connection from earlier ones in the same slot.
    serial: u64,
    /// When it began, by the clock of the ring.
    at: Duration,
}

impl Downstreams {
    /// Whether one more handshake may begin under `limits.handshakes` (`most`, over all workers). At the limit, the oldest handshake
    /// is ended if it has taken `limits::HANDSHAKE_GRACE`, so that clients that stall cannot keep others out. False: all handshakes
    /// are younger; more clients connect than the machine can serve.
    pub(super) fn admits_handshake<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        listener: ListenerId,
        most: u32,
    ) -> bool {
        let most = most.div_ceil(self.workers);
        let full = |all: &Self| all.handshakes.get(listener.index()).is_some_and(|it| most > 0 && it.count >= most);
        if !full(self) {
            return true;
        }
        engine.counters.tls_refused.add(1);
        let Some(oldest) = self.oldest_handshake(listener) else { return false };
        if engine.ring.clock().now().saturating_sub(oldest.at) < limits::HANDSHAKE_GRACE {
            return false;
        }
        self.remove(engine, oldest.connection, true);
        true
    }

    /// Counts a handshake that has begun.
    pub(super) fn begin_handshake<D: Driver>(&mut self, engine: &Engine<D>, id: u32) {
        let listener = self.table[id as usize].listener;
        if self.handshakes.len() <= listener.index() {
            self.handshakes.resize_with(listener.index() + 1, Default::default);
        }
        // Handshakes that are over stay behind an older one that stalls. They are dropped before the queue grows.
        if self.handshakes[listener.index()].order.len() >= 2 * self.handshakes[listener.index()].count as usize + 64 {
            let mut order = std::mem::take(&mut self.handshakes[listener.index()].order);
            order.retain(|begun| self.is_under_way(*begun));
            self.handshakes[listener.index()].order = order;
        }
        self.table[id as usize].log.begun_at = engine.ring.clock().now();
        let begun = Begun { connection: id, serial: self.table[id as usize].serial, at: engine.ring.clock().now() };
        let handshakes = &mut self.handshakes[listener.index()];
        handshakes.order.push_back(begun);
        handshakes.count += 1;
    }

    /// Handshakes under way.
    pub fn handshakes_under_way(&self) -> u64 {
        self.handshakes.iter().map(|it| u64::from(it.count)).sum()
    }

    /// Counts a handshake that is over, whether it succeeded or not.
    pub(super) fn end_handshake(&mut self, listener: ListenerId) {
        self.handshakes[listener.index()].count -= 1;
    }

    /// The oldest handshake under way.
    fn oldest_handshake(&mut self, listener: ListenerId) -> Option<Begun> {
        loop {
            let begun = *self.handshakes[listener.index()].order.front()?;
            if self.is_under_way(begun) {
                return Some(begun);
            }
            self.handshakes[listener.index()].order.pop_front();
        }
    }

    /// Keeps what the client of a handshake has sent until there is time for it.
    pub(super) fn postpone_handshake<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, received: Queue) {
        let connection = &mut self.table[id as usize];
        let waits = connection.transport.is_postponed();
        connection.transport.postpone(&mut engine.ring, received);
        if !waits && connection.transport.is_postponed() {
            let begun = Begun { connection: id, serial: connection.serial, at: engine.ring.clock().now() };
            self.waiting_handshakes.0.push_back(begun);
        }
    }

    /// Whether handshakes wait for their turn, so that nothing else needs to happen for the worker to go on.
    #[must_use]
    pub fn has_waiting_handshakes(&self) -> bool {
        !self.waiting_handshakes.0.is_empty()
    }

    /// Goes on with handshakes that wait, until so many steps have been made.
    pub fn advance_handshakes<D: Driver>(&mut self, engine: &mut Engine<D>, mut steps: u32) {
        while steps > 0 {
            let Some(begun) = self.waiting_handshakes.0.pop_front() else { return };
            if self.is_under_way(begun) {
                steps -= u32::from(self.advance_handshake(engine, begun));
            }
        }
    }

    /// Looks at what the client of a handshake has sent. Returns whether that took long: a flight was signed, or keys were made of the
    /// client's answer. Parts of messages, and what is refused, take no longer than other events, and must not use up the steps of others.
    fn advance_handshake<D: Driver>(&mut self, engine: &mut Engine<D>, begun: Begun) -> bool {
        let connection = &mut self.table[begun.connection as usize];
        connection.transport.set_paused(&mut engine.ring, false);
        let sent = |all: &Self, engine: &Engine<D>| {
            let transport = &all.table[begun.connection as usize].transport;
            transport.taken(&engine.ring) + transport.unsent(&engine.ring) as u64
        };
        let before = sent(self, engine);
        self.receive_content(engine, begun.connection, Queue::default());
        let connection = self.table.get(begun.connection as usize).filter(|it| it.serial == begun.serial);
        match connection.map(|it| it.phase) {
            Some(Phase::Handshake) => sent(self, engine) > before,
            Some(Phase::Flush | Phase::Linger) | None => false,
            Some(_) => true,
        }
    }

    fn is_under_way(&self, begun: Begun) -> bool {
        let connection = self.table.get(begun.connection as usize);
        connection.is_some_and(|it| it.serial == begun.serial && it.phase == Phase::Handshake)
    }
}
