//! How far an exchange has come with its origin, what it holds meanwhile, and until when the origin is waited for. Not here: what
//! becomes of an exchange whose origin is late (`retry`).

use super::{Engine, Stage};
use crate::limits;
use crate::runtime::Tick;
use crate::upstream::Upstream;
use crate::uring::Driver;

impl<D: Driver> Engine<D> {
    /// Bytes of the request, or of the tunnel's way up, that wait for the origin.
    #[must_use]
    pub fn unsent(&self, id: u32) -> usize {
        self.connection(id).map_or(0, |connection| self.ring.unsent(connection.transport.socket()))
    }

    /// Whether so much of the request, or of the tunnel's way up, waits for the origin that no more should be sent.
    #[must_use]
    pub fn is_full(&self, id: u32) -> bool {
        self.connection(id).is_some_and(|connection| self.ring.is_full(connection.transport.socket()))
    }

    /// Bytes of the request, or of the tunnel's way up, that the origin has taken.
    #[must_use]
    pub fn taken(&self, id: u32) -> u64 {
        self.connection(id).map_or(0, |connection| self.ring.taken(connection.transport.socket()))
    }

    /// Pieces that its connection to the origin holds: at most so many buffers are pinned.
    #[must_use]
    pub fn pinned(&self, id: u32) -> usize {
        self.connection(id).map_or(0, |connection| {
            self.ring.pinned(connection.transport.socket()) + connection.transport.input.pieces()
        })
    }

    /// Since when the origin has taken nothing of what waits to be sent to it; None: nothing waits.
    #[must_use]
    pub fn stalled(&self, id: u32) -> Option<Tick> {
        self.exchanges[id as usize].sending.since()
    }

    /// Sets the timer of the connection for the next thing that the origin has to do.
    pub(super) fn arm(&mut self, id: u32) {
        let at = self.wait(id);
        if let Some(socket) = self.connection(id).map(|connection| connection.transport.socket()) {
            self.ring.set_deadline_at(socket, at);
        }
    }

    /// The timer has fired: whether the origin is late. Since it was set, progress may have moved what it stands for.
    pub(super) fn is_late(&mut self, id: u32) -> bool {
        self.wait(id).is_some_and(|at| at <= self.ring.clock().tick())
    }

    /// Until when the origin is waited for: that it takes the request, then that it answers, then that it goes on. While it is the
    /// client that has to send or to read, it owes nothing.
    fn wait(&mut self, id: u32) -> Option<Tick> {
        let (ring, clock) = (&self.ring, self.ring.clock());
        let exchange = &self.exchanges[id as usize];
        let connection = self.upstreams.get(exchange.upstream?)?;
        let now = clock.tick();
        if !connection.is_connected() {
            let connect = self.attempt_timeout(exchange);
            let at = clock.deadline_from(exchange.since, connect);
            return Some(exchange.deadline.map_or(at, |deadline| deadline.min(at)));
        }
        let exchange = &mut self.exchanges[id as usize];
        let (taken, unsent) =
            (ring.taken(connection.transport.socket()), ring.unsent(connection.transport.socket()) > 0);
        let sending = exchange.sending.observe(now, unsent, taken);
        if exchange.stage == Stage::Tunnel {
            let moved = taken.wrapping_add(connection.received);
            let since = exchange.answering.observe(now, !connection.transport.is_paused(), moved);
            return since.map(|since| clock.deadline_from(since, limits::TUNNEL_IDLE));
        }
        let owes = exchange.request_done && !unsent && !connection.transport.is_paused();
        let answering = exchange.answering.observe(now, owes, connection.received);
        let deadline =
            exchange.deadline.filter(|_| exchange.stage == Stage::Waiting && !connection.transport.is_paused());
        let response = exchange.snapshot.clusters[exchange.cluster.index()].response_timeout;
        let answering = answering.filter(|_| deadline.is_none());
        let guarded = sending.into_iter().chain(answering).min().map(|since| clock.deadline_from(since, response));
        guarded.into_iter().chain(deadline).min()
    }

    /// Its connection to the origin, while it has one.
    pub(super) fn connection(&self, id: u32) -> Option<&Upstream> {
        self.upstreams.get(self.exchanges[id as usize].upstream?)
    }
}
