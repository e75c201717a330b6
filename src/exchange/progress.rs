//! The progress of an exchange with its origin: bytes sent, buffers held, and deadlines. Not here: what happens to an exchange whose
//! origin is late (`attempt`).

use super::{Attempt, Engine, Exchange, Stage};
use crate::id::{StreamId, Timer};
use crate::runtime::Tick;
use crate::upstream::Upstream;
use crate::uring::Driver;

impl<D: Driver> Engine<D> {
    /// Bytes of the request, or of the tunnel towards the origin, that are queued for the origin.
    #[must_use]
    pub fn unsent(&self, id: u32) -> usize {
        self.connection(id).map_or(0, |connection| connection.transport.unsent(&self.ring))
    }

    /// Whether nothing more can be sent to the origin, because that has failed.
    #[must_use]
    pub fn is_deaf(&self, id: u32) -> bool {
        self.connection(id).is_some_and(|connection| connection.deaf)
    }

    /// Whether the queue for the origin is full, or there is none between two attempts, so that nothing should be added.
    #[must_use]
    pub fn is_full(&self, id: u32) -> bool {
        let waits = self.exchanges.get(id as usize).is_some_and(|exchange| exchange.wait().is_some());
        waits || self.connection(id).is_some_and(|connection| connection.transport.is_full(&self.ring))
    }

    /// Bytes of the connection to the origin that the kernel has taken.
    #[must_use]
    pub fn taken(&self, id: u32) -> u64 {
        self.connection(id).map_or(0, |connection| connection.transport.taken(&self.ring))
    }

    /// Number of pieces that the exchange and its connection to the origin hold: an upper bound of the buffers that they pin.
    #[must_use]
    pub fn pinned(&self, id: u32) -> usize {
        let exchange = &self.exchanges[id as usize];
        let kept = exchange.replay.pieces() + exchange.wait().map_or(0, |wait| wait.request.pieces());
        let other = exchange.second.as_ref().and_then(|second| self.upstreams.get(second.attempt.connection));
        let connections = self.connection(id).into_iter().chain(other);
        kept + connections.map(|it| it.transport.pinned(&self.ring) + it.transport.input.pieces()).sum::<usize>()
    }

    /// Gives up everything that is kept to be sent again, because buffers are short.
    pub fn drop_replays(&mut self) {
        for (_, exchange) in &mut self.exchanges {
            exchange.replay.begin(&mut self.ring.buffers, false);
        }
    }

    /// Since when the origin has taken no byte of those queued for it; None: none is queued.
    #[must_use]
    pub fn stalled(&self, id: u32) -> Option<Tick> {
        self.exchanges[id as usize].attempt()?.sending.since()
    }

    /// Sets the timer of the attempt for the next thing that the origin has to do, and that of the exchange.
    pub(super) fn arm(&mut self, id: u32) {
        let at = self.attempt_deadline(id);
        self.ring.set_timer(Timer::Attempt(id), at);
        if self.exchanges[id as usize].is_timed() {
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

    /// Clears both timers; that of an exchange is set only if it is `timed`.
    pub(super) fn disarm(&mut self, id: u32, timed: bool) {
        self.ring.set_timer(Timer::Attempt(id), None);
        if timed {
            self.ring.set_timer(Timer::Exchange(id), None);
        }
    }

    /// A timer has fired: ends the attempt if its origin is late. Returns the stream of the exchange.
    pub fn expire(&mut self, timer: Timer) -> Option<StreamId> {
        let (Timer::Attempt(id) | Timer::Exchange(id)) = timer else { return None };
        let exchange = self.exchanges.get(id as usize)?;
        let stream = exchange.stream;
        if let Some(wait) = exchange.wait() {
            let (over, expired) = (self.has_passed(Some(wait.until)), self.has_passed(exchange.deadline));
            if over || expired {
                self.resume(id, expired);
            } else {
                self.arm(id);
            }
            return Some(stream);
        }
        let index = exchange.connection().ok()?;
        // Progress may have moved the deadline since the timer was set.
        let deadline = if let Timer::Attempt(_) = timer { self.first_deadline(id) } else { self.exchange_deadline(id) };
        if self.has_passed(deadline) {
            if let Timer::Exchange(_) = timer {
                self.end_race(id);
            }
            self.end_late(id, index);
        }
        if self.exchanges[id as usize].hedging.is_some() {
            self.expire_second(id);
        }
        self.arm(id);
        Some(stream)
    }

    /// Ends a connection whose origin is late.
    pub(super) fn end_late(&mut self, id: u32, index: u32) {
        let end = self.upstreams.late(index);
        self.on_end(index, Some(id), end);
    }

    /// Whether there is a deadline and it is over.
    pub(super) fn has_passed(&self, deadline: Option<Tick>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.ring.clock().tick())
    }

    /// When the route's `timeout` for the response is over, or the time that the client allows. None once the response has begun, and while receiving it is paused
    /// because the client has to read first.
    pub(super) fn exchange_deadline(&self, id: u32) -> Option<Tick> {
        let exchange = &self.exchanges[id as usize];
        if exchange.wait().is_some() {
            return exchange.deadline;
        }
        let connection = self.connection(id)?;
        let waits =
            !connection.is_connected() || (exchange.stage() == Stage::Waiting && !connection.transport.is_paused());
        exchange.deadline.filter(|_| waits)
    }

    /// When something is to be done about the attempts of an exchange unless an origin makes progress.
    #[inline]
    fn attempt_deadline(&mut self, id: u32) -> Option<Tick> {
        let first = self.first_deadline(id);
        if self.exchanges[id as usize].hedging.is_none() {
            return first;
        }
        [first, self.second_deadline(id), self.hedge_deadline(id)].into_iter().flatten().min()
    }

    /// When the second attempt ends unless its origin makes progress.
    pub(super) fn second_deadline(&mut self, id: u32) -> Option<Tick> {
        self.progress_deadline(id, Exchange::second_mut)
    }

    fn first_deadline(&mut self, id: u32) -> Option<Tick> {
        match self.exchanges[id as usize].wait() {
            Some(wait) => Some(wait.until),
            None => self.progress_deadline(id, Exchange::attempt_mut),
        }
    }

    /// When the attempt ends unless the origin makes progress. The origin has to connect, then to take the request, then to begin its
    /// response, then to continue it. While the client has to send or to read first, the origin owes nothing. If the route has
    /// `retry.per_try_timeout`, that bounds the time until the response begins instead of the cluster's `response_timeout`; if it has
    /// `timeouts.idle`, that bounds each silence afterwards. A call of gRPC may be silent for longer, if nobody says otherwise.
    #[inline]
    fn progress_deadline(&mut self, id: u32, of: impl Fn(&mut Exchange) -> Option<&mut Attempt>) -> Option<Tick> {
        let ring = &self.ring;
        let clock = ring.clock();
        let exchange = &mut self.exchanges[id as usize];
        let Attempt { endpoint, connection, since, .. } = *of(exchange)?;
        let connection = self.upstreams.get(connection)?;
        let now = clock.tick();
        if !connection.is_connected() {
            return Some(clock.deadline_from(since, Self::connect_timeout(exchange, endpoint)));
        }
        let response_idle = exchange.limits().response_idle;
        let is_call = exchange.is_call;
        let (per_try, interims) = (exchange.retry().per_try_timeout, u64::from(exchange.interims));
        let request_done = exchange.request_done;
        let attempt = of(exchange)?;
        let taken = connection.transport.taken(ring);
        let unsent = connection.transport.unsent(ring) > 0;
        let sending = attempt.sending.observe(now, unsent, taken);
        if attempt.stage == Stage::Tunnel {
            // How long it may be silent in both directions is the client's side to say.
            return None;
        }
        let paused = connection.transport.is_paused();
        let owes = request_done && !unsent && !paused;
        // Before the response begins, bytes are no progress, but interim responses are: half a head, or TLS that brings nothing, must not
        // put it off for ever.
        let brought = if attempt.stage == Stage::Waiting { interims } else { connection.received };
        let may_be_silent = is_call && response_idle.is_none() && attempt.stage == Stage::Body;
        let answering = attempt.answering.observe(now, owes && !may_be_silent, brought);
        let own = if attempt.stage == Stage::Body { response_idle } else { per_try };
        let response = exchange.snapshot.clusters[exchange.cluster.index()].response_timeout;
        let idle = own.unwrap_or(response);
        let sending = sending.map(|since| clock.deadline_from(since, response));
        match (sending, answering.map(|since| clock.deadline_from(since, idle))) {
            (Some(sending), Some(answering)) => Some(sending.min(answering)),
            (sending, answering) => sending.or(answering),
        }
    }

    /// The connection of an exchange to its origin, while it has one.
    pub(super) fn connection(&self, id: u32) -> Option<&Upstream> {
        self.upstreams.get(self.exchanges[id as usize].connection().ok()?)
    }
}
