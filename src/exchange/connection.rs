//! The connection of an exchange to its origin: what is sent over it, what comes of it, how TLS fails on it. Not here: the protocol (`tls`),
//! and another attempt (`attempt`).

use std::time::Duration;

use super::{Engine, Exchange, Stage, State};
use crate::buffer::Queue;
use crate::event_log::{Level, log};
use crate::http2::head::NeverIndexed;
use crate::id::{EndpointId, Owner, StreamId};
use crate::telemetry::TlsFailure;
use crate::tls::{self, Agreement, Session};
use crate::upstream::{End, ResponseMemory};
use crate::uring::{Driver, Event, Fault};

/// How long no further failure of an endpoint's TLS is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

impl<D: Driver> Engine<D> {
    /// Queues bytes of the request.
    pub fn send(&mut self, id: u32, out: &mut Queue) {
        let exchange = &mut self.exchanges[id as usize];
        if let State::Waiting(wait) = &mut exchange.state {
            return wait.request.append(self.ring.buffers.pieces(), out);
        }
        let index = exchange.connection().ok();
        let Some((index, connection)) = index.and_then(|index| Some((index, self.upstreams.get(index)?))) else {
            return out.clear(self.ring.buffers.pieces());
        };
        if connection.answered {
            // What is sent now is not kept, so that what was kept is not the whole request any more.
            exchange.replay.begin(&mut self.ring.buffers, false);
        }
        if connection.needs_copies() {
            exchange.replay.copy(&mut self.ring.buffers, out);
        }
        self.upstreams.send(&mut self.ring, index, out);
    }

    /// Has fields of the request with these names sent as they came: never indexed (RFC 7541 section 6.2.3).
    pub fn send_never_indexed(&mut self, id: u32, names: NeverIndexed) {
        let exchange = &mut self.exchanges[id as usize];
        exchange.never_indexed.extend(names);
        if let Ok(index) = exchange.connection() {
            self.upstreams.send_never_indexed(index, names);
        }
    }

    /// Names of fields of the response that came never indexed.
    #[must_use]
    pub fn came_never_indexed(&self, id: u32) -> NeverIndexed {
        let index = self.exchanges[id as usize].connection();
        index.map_or_else(|_| NeverIndexed::default(), |index| self.upstreams.came_never_indexed(index))
    }

    /// Sends FIN to the origin after what is queued, because the client has ended its side of the tunnel.
    pub fn end_upward(&mut self, id: u32) {
        if let Ok(index) = self.exchanges[id as usize].connection() {
            self.upstreams.finish(&mut self.ring, index);
        }
    }

    /// Takes in an event of an upstream connection. Returns the stream of the exchange that uses it: the caller pumps that connection
    /// and then calls [`Engine::arm_connection`]. None: there is none, or what came has to wait for its turn.
    pub fn on_event(&mut self, index: u32, event: Event) -> Option<StreamId> {
        let event = match event {
            Event::Received(owner, queue) => {
                Event::Received(owner, self.upstreams.postpone(&mut self.ring, index, queue)?)
            }
            // What came before the end was sent before it, an alert perhaps.
            Event::Ended(owner) | Event::Failed(owner, Fault::Receive(_)) if self.upstreams.is_postponed(index) => {
                self.take_in(index, Event::Received(owner, Queue::default()));
                event
            }
            event => event,
        };
        self.take_in(index, event)
    }

    /// Goes on with the handshake that has waited longest. Returns its connection, with what [`Engine::on_event`] returns, and whether that
    /// took long: certificates were verified, and keys were made.
    pub fn advance_handshake(&mut self) -> Option<(u32, Option<StreamId>, bool)> {
        let index = self.upstreams.next_handshake(&mut self.ring)?;
        let stream = self.take_in(index, Event::Received(Owner::Upstream(index), Queue::default()));
        let is_partial = self.upstreams.get(index).is_some_and(|connection| connection.transport.is_handshaking());
        Some((index, stream, !is_partial))
    }

    /// Whether handshakes with endpoints wait for their turn.
    #[must_use]
    pub fn has_waiting_handshakes(&self) -> bool {
        self.upstreams.has_handshakes()
    }

    fn take_in(&mut self, index: u32, event: Event) -> Option<StreamId> {
        let exchange = self.upstreams.get(index)?.exchange;
        if self.upstreams.is_shared(index) {
            self.on_shared_event(index, event);
            return None;
        }
        let ring = &mut self.ring;
        match event {
            Event::Received(_, queue) => {
                let outcome = self.upstreams.received(ring, index, queue);
                self.on_received(index, exchange, outcome);
            }
            Event::Sent(_, _, mut sent) if !sent.is_empty() => {
                let exchange = exchange.and_then(|id| self.exchanges.get_mut(id as usize));
                let more = exchange.is_some_and(|exchange| exchange.replay.keep(&mut ring.buffers, &mut sent));
                if !more {
                    sent.clear(ring.buffers.pieces());
                    self.upstreams.return_sent(ring, index, false);
                }
            }
            Event::Connected(_) => {
                self.upstreams.connected(index);
                self.note_connected(index, exchange);
            }
            Event::Ended(_) => self.on_end(index, exchange, End::Closed),
            // The endpoint may have sent a response before it stopped reading: the exchange ends with what is received.
            Event::Failed(_, Fault::Send(_)) => self.upstreams.send_failed(index),
            Event::Failed(_, fault) => self.on_end(index, exchange, End::Broken(fault)),
            // The connection has been idle for too long.
            Event::Expired(_) if exchange.is_none() => self.upstreams.discard(ring, index),
            _ => {}
        }
        Some(self.exchanges.get(exchange? as usize)?.stream)
    }

    /// Takes in an event of a connection that requests share. Their exchanges are looked at later: see [`Engine::next_ready`].
    fn on_shared_event(&mut self, index: u32, event: Event) {
        let ring = &mut self.ring;
        match event {
            Event::Received(_, queue) => {
                let memory = ResponseMemory { head: &mut self.response, trailers: &mut self.trailers };
                let exchange = self.upstreams.exchange_on(index);
                match self.upstreams.shared_received(ring, index, queue, memory) {
                    Ok(None) => {}
                    Ok(Some(agreement)) => self.counters.endpoint_handshake(agreement.tls13, agreement.resumed),
                    Err(error) => self.count_shared_failure(exchange, error),
                }
            }
            Event::Sent(_, all, mut sent) => {
                sent.clear(ring.buffers.pieces());
                self.upstreams.shared_sent(index, all);
            }
            Event::Connected(_) => self.upstreams.shared_connected(ring, index),
            Event::Ended(_) => self.on_shared_end(index, End::Closed),
            Event::Failed(_, Fault::Send(_)) => self.upstreams.shared_deaf(ring, index),
            Event::Failed(_, fault) => self.on_shared_end(index, End::Broken(fault)),
            Event::Expired(_) => self.upstreams.expire_shared(ring, index),
            Event::Accepted(..) | Event::AcceptPaused(..) | Event::Woken => {}
        }
    }

    fn on_shared_end(&mut self, index: u32, end: End) {
        let exchange = self.upstreams.exchange_on(index);
        if let Some(error) = self.upstreams.ended(&mut self.ring, index, end) {
            self.count_shared_failure(exchange, error);
        }
    }

    /// Counts that TLS has failed on a connection that requests share. `exchange`: one of theirs.
    fn count_shared_failure(&mut self, exchange: Option<u32>, error: tls::Error) {
        match exchange.and_then(|id| Some((id, self.exchanges.get(id as usize)?.connection().ok()?))) {
            Some((id, stream)) => self.count_tls_failure(stream, id, error),
            None => self.counters.fail_tls(failure_of(error)),
        }
    }

    /// The next stream of a shared connection whose exchange is to be pumped, with its entry: [`Engine::arm_connection`] is to be
    /// called then.
    pub fn next_ready(&mut self) -> Option<(u32, StreamId)> {
        loop {
            let index = self.upstreams.next_ready()?;
            let exchange = self.upstreams.get(index).and_then(|stream| stream.exchange);
            let stream = exchange.and_then(|id| Some(self.exchanges.get(id as usize)?.stream));
            if let Some(stream) = stream {
                self.note_connected(index, exchange);
                return Some((index, stream));
            }
        }
    }

    /// Writes all that is to be sent on shared connections. Returns whether exchanges are to be pumped.
    pub fn flush_shared(&mut self) -> bool {
        self.upstreams.flush(&mut self.ring);
        while let Some(index) = self.upstreams.next_moved() {
            self.arm_connection(index);
        }
        self.upstreams.has_ready()
    }

    /// Whether a connection to an endpoint has ended.
    #[must_use]
    pub fn has_ended(&self, index: u32) -> bool {
        self.upstreams.get(index).is_some_and(|connection| connection.end.is_some())
    }

    /// Takes in what received bytes of a connection have brought, which the exchange `id` uses. `outcome`: that of a TLS handshake.
    fn on_received(&mut self, index: u32, id: Option<u32>, outcome: Result<Option<Agreement>, tls::Error>) {
        let Some(id) = id else { return };
        if let Some(connection) = self.upstreams.get(index).filter(|connection| connection.answered)
            && let Some(exchange) = self.exchanges.get_mut(id as usize)
        {
            // A request is never sent again once a response has begun to go to the client. Its status is judged before that; what the
            // kernel has not taken by now is not kept, though.
            let sent = connection.transport.unsent(&self.ring) == 0;
            let judged = sent && exchange.stage() == Stage::Waiting && exchange.may_retry();
            if !judged || !exchange.retry().on.has_statuses() {
                exchange.replay.begin(&mut self.ring.buffers, false);
            }
        }
        match outcome {
            Ok(None) => {}
            Ok(Some(agreement)) => {
                self.counters.endpoint_handshake(agreement.tls13, agreement.resumed);
                self.note_connected(index, Some(id));
            }
            Err(error) => self.count_tls_failure(index, id, error),
        }
    }

    /// Takes in how a connection has ended, which the exchange `id` uses.
    pub(super) fn on_end(&mut self, index: u32, id: Option<u32>, end: End) {
        let failed = self.upstreams.ended(&mut self.ring, index, end);
        if let (Some(error), Some(id)) = (failed, id) {
            self.count_tls_failure(index, id, error);
        }
    }

    /// Counts that TLS towards an endpoint has failed, and logs why, at most once a second for each endpoint.
    fn count_tls_failure(&mut self, index: u32, id: u32, error: tls::Error) {
        self.counters.fail_tls(failure_of(error));
        let (Some(exchange), Some(connection)) = (self.exchanges.get(id as usize), self.upstreams.get(index)) else {
            return;
        };
        let now = self.ring.clock().now();
        let Some(until) = self.tls_logged.get_mut(connection.endpoint.index()) else { return };
        if now < *until {
            return;
        }
        *until = now + LOG_INTERVAL;
        log_tls_failure(exchange, connection.endpoint, connection.transport.session(), error);
    }
}

/// What a failure of TLS is counted as.
fn failure_of(error: tls::Error) -> TlsFailure {
    match error {
        tls::Error::Certificate => TlsFailure::Certificate,
        tls::Error::Refused => TlsFailure::Alert,
        tls::Error::Buffers => TlsFailure::Buffers,
        _ => TlsFailure::Protocol,
    }
}

fn log_tls_failure(exchange: &Exchange, endpoint: EndpointId, session: Option<&Session>, error: tls::Error) {
    let (Some((cluster, endpoint)), Some(session)) = (exchange.snapshot.endpoint(endpoint), session) else { return };
    let (cluster, endpoint, reason) = (&cluster.name, &endpoint.name, session.reason(error));
    log(Level::Warn, format_args!("cluster {cluster}, endpoint {endpoint}: TLS failed: {reason}"));
}
