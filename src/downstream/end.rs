//! The ends of exchanges and connections: complete, refused, or cut off. Every exchange ends in [`Downstream::end_exchange`]. Not
//! here: when a client has been too slow (`deadline`).

use super::{Admission, Downstream, Downstreams, Phase, Response, Step};
use crate::buffer::Queue;
use crate::exchange::{Engine, Failure, Kept, Record, Refused, RouteOf};
use crate::forward::{Body, Chunking, Framing};
use crate::http2::ErrorCode;
use crate::limits;
use crate::route::Protocol;
use crate::telemetry::TcpRefusal;
use crate::uring::Driver;

/// How an exchange has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Request and response ended where they should.
    Whole,
    /// The request or the response was cut off.
    Cut,
}

impl Downstreams {
    /// Answers a failure. All refusals go through this function or [`Downstreams::refuse_routed`], so that the rest of a refused
    /// request is always dropped within a bound, or the connection closed.
    pub(super) fn refuse<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, failure: Failure) -> Step {
        let (route, kept) = match self.table[id as usize].phase {
            Phase::Exchange(exchange) => (Some(engine.route(exchange)), engine.take_kept(exchange)),
            _ => (None, None),
        };
        self.refuse_routed(engine, id, failure, route, kept)
    }

    /// The same for a request whose route is known, so that the answer has the fields that the route sets; `kept` is what they need of
    /// the request.
    pub(super) fn refuse_routed<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        id: u32,
        failure: Failure,
        route: Option<RouteOf>,
        kept: Option<Box<Kept>>,
    ) -> Step {
        let connection = &mut self.table[id as usize];
        let record = connection.record(engine);
        record.failure = Some(failure);
        if let Some(route) = &route {
            (record.route, record.cluster) = (Some(route.number()), route.cluster_series());
        }
        if let Response::Begun(framing) = connection.current.response {
            // Only a cut can tell the client that the response is incomplete (RFC 9112 section 8). If the response has a length or is
            // chunked, the client notices that FIN came too early, after all that was received was sent to it. If the response ends
            // with the connection, only RST tells.
            let framed = framing != Framing::Close && !matches!(connection.phase, Phase::Tunnel(_));
            connection.end_exchange(engine, Outcome::Cut);
            connection.enter(Phase::Flush, engine.ring.clock().tick());
            if framed {
                return Step::Again;
            }
            self.remove(engine, id, true);
            return Step::Gone;
        }
        if let Some(exchange) = connection.phase.exchange() {
            connection.close_exchange(engine, exchange, Outcome::Cut);
        }
        connection.current.keep_alive &= !failure.is_fatal();
        let style = connection.style(engine.ring.wall_seconds());
        if connection.id.text().is_empty() {
            engine.make_request_id(&mut connection.id);
        }
        let request_id = connection.id;
        let snapshot = connection.snapshot(engine).clone();
        let hsts = if connection.peer.secure { snapshot.listener(connection.listener).hsts_line() } else { b"" };
        let refused = Refused { failure, route: route.as_ref(), snapshot: &snapshot, kept, id: request_id, hsts };
        let status = engine.write_failure(refused, &style);
        self.send_local_response(engine, id, status, style.keep_alive)
    }

    /// Turns a connection away that is above the limit of its listener: with an answer, if its client expects one in the clear.
    #[cold]
    pub(super) fn turn_away<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let connection = &self.table[id as usize];
        let (listener, tcp) = (connection.listener, connection.spec(engine).protocol == Protocol::Tcp);
        if tcp {
            engine.counters.refuse_tcp(TcpRefusal::Connections);
        }
        if tcp || connection.snapshot(engine).tls(listener).is_some() {
            self.remove(engine, id, false);
        } else if self.refuse(engine, id, Failure::Connections) == Step::Again {
            self.pump(engine, id);
        }
    }

    /// Sends an answer made here from the scratch buffer, ends its exchange, and enters the next phase. Both the answers of routes and
    /// refusals are sent by it.
    pub(super) fn send_local_response<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        id: u32,
        status: u16,
        keep_alive: bool,
    ) -> Step {
        engine.watch_response(&mut self.table[id as usize].log.entry);
        let mut out = Queue::default();
        if engine.queue_head(&mut out, None).is_err() {
            self.remove(engine, id, true);
            return Step::Gone;
        }
        let connection = &mut self.table[id as usize];
        let now = engine.ring.clock().now();
        connection.record(engine).answer(status, now);
        connection.send(engine, &mut out);
        connection.end_exchange(engine, Outcome::Whole);
        let next = match connection.current.body {
            _ if !keep_alive => Phase::Flush,
            Body::Done => Phase::Head,
            _ => Phase::Drain,
        };
        connection.enter(next, engine.ring.clock().tick());
        Step::Again
    }

    /// Drops the rest of the body of a request that was answered.
    pub(super) fn drain<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        let mut dropped = Queue::default();
        let body = &mut connection.current.body;
        let read = body.read(
            &mut engine.ring.buffers,
            &mut connection.transport.input,
            &mut dropped,
            Chunking::Removed,
            &mut engine.trailers,
        );
        dropped.clear(engine.ring.buffers.pieces());
        let next = match &connection.current.body {
            // There may be another request before the client's FIN.
            Body::Done if read.is_ok() && !self.draining => Phase::Head,
            Body::Done => {
                connection.closes_at = Some(engine.ring.clock().deadline(limits::FIRST_REQUEST));
                Phase::Flush
            }
            _ if read.is_err() || connection.transport.has_ended() => Phase::Flush,
            _ => {
                // Receiving may have been paused for an origin that was slow.
                self.set_paused(engine, id, false);
                return Step::Wait;
            }
        };
        connection.enter(next, engine.ring.clock().tick());
        Step::Again
    }

    /// Waits until everything is sent, then closes the connection. If a request was not read to its end, or the client may have sent
    /// another one, it first gets time to read the answer, in [`Phase::Linger`] (RFC 9112 section 9.6).
    pub(super) fn flush<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        connection.transport.close_notify(&mut engine.ring);
        if !connection.transport.input.is_empty() || connection.transport.is_paused() {
            // There is something, or may be, that the client sent and nobody reads.
            connection.transport.input.clear(engine.ring.buffers.pieces());
            connection.current.body = Body::Close;
        }
        if connection.transport.unsent(&engine.ring) > 0 {
            return Step::Wait;
        }
        if connection.is_stream() {
            // Its connection tells the client what was not complete.
            self.remove(engine, id, false);
            return Step::Gone;
        }
        let current = &connection.current;
        // A TLS client may have sent close_notify behind its request: unread, it would make the kernel reset what was answered.
        let silent = connection.transport.session().is_none();
        let clean = current.body.is_done() && connection.begun.is_none() && !current.persists && silent;
        if clean || connection.transport.has_ended() {
            self.remove(engine, id, false);
            return Step::Gone;
        }
        connection.transport.finish(&mut engine.ring);
        connection.transport.set_paused(&mut engine.ring, false);
        connection.enter(Phase::Linger, engine.ring.clock().tick());
        Step::Again
    }

    /// Drops what the client sends until its FIN, then closes the connection.
    pub(super) fn linger<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        connection.transport.input.clear(engine.ring.buffers.pieces());
        if connection.transport.has_ended() {
            self.remove(engine, id, false);
            return Step::Gone;
        }
        Step::Wait
    }

    /// Closes a connection, with RST if `abort`, and ends its exchange.
    pub(super) fn remove<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, abort: bool) {
        let Some(mut connection) = self.table.try_remove(id as usize) else { return };
        if connection.is_stream() {
            return self.remove_stream(engine, id, connection, ErrorCode::InternalError);
        }
        if let Some(mut http2) = connection.http2.take() {
            self.remove_streams(engine, &mut http2);
            http2.connection.clear(&mut engine.ring.buffers);
        }
        connection.count_handshake(engine);
        if connection.phase == Phase::Handshake {
            self.end_handshake(connection.listener);
        }
        if connection.passed_on {
            engine.counters.end_passing();
        }
        let (count, quota) = &mut self.counts[connection.listener.index()];
        let tally = if connection.admission == Admission::Refused { &mut self.refused } else { count };
        *tally -= 1;
        if connection.admission == Admission::Placed {
            let snapshot = connection.snapshot(engine);
            let cap = snapshot.listener(connection.listener).connections;
            quota.give(snapshot.quota(connection.listener), cap, self.workers);
        }
        engine.counters.set_connections(connection.listener, self.counts[connection.listener.index()].0);
        if let Some(record) = &mut connection.current.record {
            record.failure.get_or_insert(Failure::ClientGone);
        }
        connection.end_exchange(engine, Outcome::Cut);
        engine.unbind(id);
        connection.transport.close(&mut engine.ring, abort);
    }
}

impl Downstream {
    /// The record of the exchange that is under way, or a new one if there is none.
    pub(super) fn record<D: Driver>(&mut self, engine: &Engine<D>) -> &mut Record {
        let listener = self.listener;
        let now = engine.ring.clock().now();
        self.current.record.get_or_insert_with(|| Record::new(listener, now))
    }

    /// Queues bytes of a response.
    pub(super) fn send<D: Driver>(&mut self, engine: &mut Engine<D>, out: &mut Queue) {
        if let Some(record) = &mut self.current.record {
            record.sent += out.bytes() as u64;
        }
        self.transport.send(&mut engine.ring, out);
    }

    /// Ends the exchange, if one is under way, and hands its record to the engine.
    pub(super) fn end_exchange<D: Driver>(&mut self, engine: &mut Engine<D>, outcome: Outcome) {
        if let Some(exchange) = self.phase.exchange() {
            self.close_exchange(engine, exchange, outcome);
        }
        let Some(record) = &mut self.current.record else { return self.id.clear() };
        record.received = self.current.received;
        engine.finish(record);
        if self.log.entry.is_some() || engine.access_log.is_on() || engine.is_remarkable(record) {
            let record = *record;
            self.log_exchange(engine, &record);
        }
        self.current.record = None;
        self.id.clear();
        self.log.forget_start();
    }

    /// Ends the exchange with the origin; an answer to the client may follow.
    pub(super) fn close_exchange<D: Driver>(&mut self, engine: &mut Engine<D>, exchange: u32, outcome: Outcome) {
        if self.log.entry.is_none() && self.current.record.as_ref().is_some_and(|it| engine.is_remarkable(it)) {
            let mut entry = self.begin_late_entry(engine);
            engine.name_exchange(exchange, &mut entry);
            self.log.entry = Some(entry);
        }
        if let Some(entry) = &mut self.log.entry {
            engine.name_attempts(exchange, entry);
        }
        if let Some(forwarding) = engine.close(exchange, outcome == Outcome::Whole) {
            self.record(engine).forwarded = Some(forwarding);
        }
    }
}
