//! How far an exchange has come with its origin, what it holds meanwhile, and until when the origin is waited for. Not here: what
//! becomes of an exchange whose origin is late (`attempt`).

use std::time::Duration;

use super::{Attempt, Engine, Stage, State};
use crate::id::{StreamId, Timer};
use crate::limits;
use crate::runtime::Tick;
use crate::upstream::{End, Upstream};
use crate::uring::Driver;

impl<D: Driver> Engine<D> {
    /// Bytes of the request, or of the tunnel's way up, that wait for the origin.
    #[must_use]
    pub fn unsent(&self, id: u32) -> usize {
        self.connection(id).map_or(0, |connection| connection.transport.unsent(&self.ring))
    }

    /// Whether so much of the request, or of the tunnel's way up, waits for the origin that no more should be sent.
    #[must_use]
    pub fn is_full(&self, id: u32) -> bool {
        self.connection(id).is_some_and(|connection| connection.transport.is_full(&self.ring))
    }

    /// Bytes of the request, or of the tunnel's way up, that the origin has taken.
    #[must_use]
    pub fn taken(&self, id: u32) -> u64 {
        self.connection(id).map_or(0, |connection| connection.transport.taken(&self.ring))
    }

    /// Pieces that it and its connection to the origin hold: at most so many buffers are pinned.
    #[must_use]
    pub fn pinned(&self, id: u32) -> usize {
        let kept = self.exchanges[id as usize].replay.pieces();
        kept + self.connection(id).map_or(0, |connection| {
            self.ring.pinned(connection.transport.socket()) + connection.transport.input.pieces()
        })
    }

    /// Since when the origin has taken nothing of what waits to be sent to it; None: nothing waits.
    #[must_use]
    pub fn stalled(&self, id: u32) -> Option<Tick> {
        self.exchanges[id as usize].attempt()?.sending.since()
    }

    /// Sets the timer of the attempt for the next thing that the origin has to do, and that of the exchange.
    pub(super) fn arm(&mut self, id: u32) {
        let at = self.attempt_deadline(id);
        self.ring.set_timer(Timer::Attempt(id), at);
        if self.exchanges[id as usize].timeout.is_some() {
            let at = self.exchange_deadline(id);
            self.ring.set_timer(Timer::Exchange(id), at);
        }
    }

    /// Sets both timers of the exchange that uses a connection, if one still does.
    pub fn arm_connection(&mut self, index: u32) {
        if let Some(id) = self.upstreams.get(index).and_then(|connection| connection.exchange) {
            self.arm(id);
        }
    }

    /// Clears both timers; that of the exchange was set only if it has a time-out.
    pub(super) fn disarm(&mut self, id: u32, timeout: Option<Duration>) {
        self.ring.set_timer(Timer::Attempt(id), None);
        if timeout.is_some() {
            self.ring.set_timer(Timer::Exchange(id), None);
        }
    }

    /// A timer has fired: ends the attempt if its origin is late. Returns the stream whose exchange it concerns.
    pub fn expire(&mut self, timer: Timer) -> Option<StreamId> {
        let (Timer::Attempt(id) | Timer::Exchange(id)) = timer else { return None };
        let (now, exchange) = (self.ring.clock().tick(), self.exchanges.get(id as usize)?);
        let (index, stream) = (exchange.connection().ok()?, exchange.stream);
        // Progress may have moved the deadline since the timer was set.
        let at = if let Timer::Attempt(_) = timer { self.attempt_deadline(id) } else { self.exchange_deadline(id) };
        if at.is_some_and(|at| at <= now) {
            let connected = self.upstreams.get(index).is_some_and(Upstream::is_connected);
            let end = if connected { End::ResponseTimeout } else { End::ConnectTimeout };
            self.upstreams.ended(&mut self.ring, index, end);
        }
        self.arm(id);
        Some(stream)
    }

    /// Whether the route's time for the response is over.
    pub(super) fn is_expired(&self, id: u32) -> bool {
        self.exchanges[id as usize].deadline.is_some_and(|deadline| self.ring.clock().tick() >= deadline)
    }

    /// When the route's time for the response is over. While it is the client that has to read, the origin owes nothing.
    fn exchange_deadline(&self, id: u32) -> Option<Tick> {
        let connection = self.connection(id)?;
        let exchange = &self.exchanges[id as usize];
        let waits =
            !connection.is_connected() || (exchange.stage() == Stage::Waiting && !connection.transport.is_paused());
        exchange.deadline.filter(|_| waits)
    }

    /// Until when the origin is waited for: that it takes the request, then that it answers, then that it goes on. While it is the
    /// client that has to send or to read, it owes nothing. Where the route gives a time for the whole response, that counts until
    /// it begins.
    fn attempt_deadline(&mut self, id: u32) -> Option<Tick> {
        let (ring, clock) = (&self.ring, self.ring.clock());
        let exchange = &mut self.exchanges[id as usize];
        let State::Attempt(Attempt { endpoint, connection, since, .. }) = exchange.state else { return None };
        let connection = self.upstreams.get(connection)?;
        let now = clock.tick();
        if !connection.is_connected() {
            return Some(clock.deadline_from(since, Self::connect_timeout(exchange, endpoint)));
        }
        let State::Attempt(attempt) = &mut exchange.state else { return None };
        let (taken, unsent) = (connection.transport.taken(ring), connection.transport.unsent(ring) > 0);
        let sending = attempt.sending.observe(now, unsent, taken);
        let paused = connection.transport.is_paused();
        if attempt.stage == Stage::Tunnel {
            let moved = taken.wrapping_add(connection.received);
            let since = attempt.answering.observe(now, !paused, moved);
            return since.map(|since| clock.deadline_from(since, limits::TUNNEL_IDLE));
        }
        let owes = exchange.request_done && !unsent && !paused;
        let answering = attempt.answering.observe(now, owes, connection.received);
        let whole = exchange.deadline.is_some() && attempt.stage == Stage::Waiting;
        let response = exchange.snapshot.clusters[exchange.cluster.index()].response_timeout;
        let since = sending.into_iter().chain(answering.filter(|_| !whole)).min();
        since.map(|since| clock.deadline_from(since, response))
    }

    /// Its connection to the origin, while it has one.
    pub(super) fn connection(&self, id: u32) -> Option<&Upstream> {
        self.upstreams.get(self.exchanges[id as usize].connection().ok()?)
    }
}
