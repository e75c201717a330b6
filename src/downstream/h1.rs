//! HTTP/1.1 on the client's side: request heads, response heads, bodies in both directions, tunnels. Not here: closing (`end`) and
//! time-outs (`deadline`).

use super::end::Outcome;
use super::h2::Http2;
use super::rate::RateMeter;
use super::{Current, Direction, Downstream, Downstreams, Phase, Response, Step, Tunnel, response};
use crate::buffer::{Lease, Queue, QueueLimit};
use crate::exchange::{Engine, Failure, Head, HeadKind, RouteRequest};
use crate::forward::{Body, BodyError, Chunking, Framing, Progress, Trailers, join};
use crate::http::{self, FieldName, RequestHead, Version};
use crate::id::StreamId;
use crate::limits;
use crate::respond::{Format, ResponseStyle};
use crate::snapshot::ListenerSpec;
use crate::tls::Session;
use crate::uring::Driver;

impl Downstreams {
    /// Reads a request head and begins its exchange.
    pub(super) fn read_head<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        let unread = connection.transport.unsent(&engine.ring);
        if unread >= limits::PIPELINE_BYTES || connection.transport.is_full(&engine.ring) {
            // The client sends pipelined requests and does not read the answers.
            self.set_paused(engine, id, true);
            return Step::Wait;
        }
        loop {
            let Some(lease) = connection.transport.input.pop(engine.ring.buffers.pieces()) else {
                if connection.transport.has_ended() {
                    connection.enter(Phase::Flush, engine.ring.clock().tick());
                    return Step::Again;
                }
                self.set_paused(engine, id, false);
                return Step::Wait;
            };
            let spec = connection.spec(engine);
            let head_limits = spec.head_limits();
            match http::parse_request(lease.bytes(), &head_limits, &mut connection.scanned, &mut self.request) {
                Ok(Some(length)) => {
                    connection.scanned = 0;
                    if connection.begun.take().is_none() {
                        connection.log.begun_at = engine.ring.clock().now();
                    }
                    connection.closes_at = None;
                    return self.begin(engine, id, lease, length);
                }
                Ok(None) => connection.transport.input.push_front(engine.ring.buffers.pieces(), lease),
                Err(_) if connection.may_begin_http2() && Http2::may_be_begun_by(lease.bytes()) => {
                    // No request line of HTTP/1.1 begins so: whether it is HTTP/2 is not known yet.
                    connection.scanned = 0;
                    connection.transport.input.push_front(engine.ring.buffers.pieces(), lease);
                }
                Err(error) => {
                    let speaks_http2 = connection.may_begin_http2() && Http2::is_begun_by(lease.bytes());
                    connection.current = Current::default();
                    connection.transport.input.push_front(engine.ring.buffers.pieces(), lease);
                    if speaks_http2 && self.begin_http2(engine, id) {
                        return Step::Again;
                    }
                    return self.refuse(engine, id, Failure::Request(error));
                }
            }
            connection.notice_beginning(engine.ring.clock());
            match join(&mut engine.ring.buffers, &mut connection.transport.input) {
                Ok(true) => {}
                Ok(false) if connection.transport.has_ended() => {
                    self.remove(engine, id, false);
                    return Step::Gone;
                }
                Ok(false) => {
                    self.set_paused(engine, id, false);
                    return Step::Wait;
                }
                Err(_) => {
                    // The values of the exchange before must not determine how this one is refused.
                    connection.current = Current::default();
                    return self.refuse(engine, id, Failure::Buffers);
                }
            }
        }
    }

    /// Begins the exchange of a request whose head is complete: routes it and forwards it, or answers it.
    pub(super) fn begin<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        id: u32,
        mut lease: Lease,
        length: usize,
    ) -> Step {
        let carrier = self.table[id as usize].transport.stream_link().map(|link| link.connection as usize);
        let snapshot = self.table[carrier.unwrap_or(id as usize)].note_arrival(engine);
        let pair = carrier.and_then(|carrier| self.table.get2_mut(id as usize, carrier));
        let (connection, carrier) = match pair {
            Some((stream, carrier)) => (stream, Some(&*carrier)),
            None => (&mut self.table[id as usize], None),
        };
        let request = &self.request;
        let head = &lease.bytes()[..length];
        let spec = snapshot.listener(connection.listener);
        if connection.version != snapshot.version {
            connection.version = snapshot.version;
            connection.peer = connection.peer.with_trust(|address| spec.trusts(address), !spec.strict_paths);
        }
        connection.begin_current(request, head, spec, !self.draining && carrier.is_none());
        connection.record(engine).method = Some(request.method);
        let (listener, peer) = (connection.listener, &connection.peer);
        let session = carrier.map_or(connection.transport.session(), |carrier| carrier.transport.session());
        let tls = session.and_then(Session::client_handshake);
        engine.identify(request, head, peer, &mut connection.id);
        let arrival = carrier.map_or(connection.arrival.as_deref(), |carrier| carrier.arrival.as_deref());
        let asked = RouteRequest { request, head, listener, peer, tls, arrival, id: &connection.id };
        let mut entry = engine.begin_entry(&asked, &snapshot);
        let opened = engine.decide(&snapshot, &asked).and_then(|decision| {
            entry.iter_mut().for_each(|entry| decision.name(entry));
            let opened = engine.open(&decision, &asked, StreamId { connection: id, stream: 0 });
            match opened {
                Ok(exchange) => Ok((decision, exchange)),
                Err(failure) => Err((failure, Some(decision.into_route()))),
            }
        });
        match opened {
            Ok((decision, Some(exchange))) => {
                connection.record(engine).route = Some(decision.route_number());
                connection.enter(Phase::Exchange(exchange), engine.ring.clock().tick());
                lease.advance(length);
                let sent = send_request_head(connection, engine, exchange, lease);
                connection.record(engine).overhead = engine.ring.elapsed();
                entry.iter_mut().for_each(|entry| engine.note_target(entry));
                connection.log.entry = entry;
                match sent {
                    Ok(()) => Step::Again,
                    Err(failure) => self.refuse(engine, id, failure),
                }
            }
            Ok((decision, None)) if connection.stream.is_tunnel => {
                // A route that answers by itself makes no tunnels.
                connection.log.entry = entry;
                self.refuse_routed(engine, id, Failure::Method, Some(decision.into_route()), None)
            }
            Ok((decision, None)) => {
                let route = decision.route_number();
                let local = decision.into_local();
                let style = connection.style(engine.ring.wall_seconds());
                let status = engine.write_local(&local, &asked, &style);
                connection.log.entry = entry;
                connection.record(engine).route = Some(route);
                lease.advance(length);
                connection.transport.input.push_front(engine.ring.buffers.pieces(), lease);
                self.send_local_response(engine, id, status, style.keep_alive)
            }
            Err((failure, route)) => {
                engine.begin_failed_entry(&mut entry, &asked, &snapshot);
                entry.iter_mut().zip(&route).for_each(|(entry, route)| route.name(entry));
                let kept = engine.keep_refused(route.as_ref(), &asked);
                connection.log.entry = entry;
                lease.advance(length);
                connection.transport.input.push_front(engine.ring.buffers.pieces(), lease);
                self.refuse_routed(engine, id, failure, route, kept)
            }
        }
    }

    /// Forwards the received part of the request body.
    pub(super) fn forward_request<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, exchange: u32) -> Step {
        let connection = &mut self.table[id as usize];
        if connection.current.body.is_done() {
            // What follows are pipelined requests, which wait until this exchange is over.
            const LIMIT: QueueLimit = QueueLimit { bytes: limits::PIPELINE_BYTES, pieces: limits::PIPELINE_PIECES };
            let full = LIMIT.is_reached(&connection.transport.input);
            if connection.transport.has_ended() && engine.aborts_on_close(exchange) {
                // The answers to earlier requests may not have been sent yet.
                connection.record(engine).failure = Some(Failure::ClientGone);
                connection.end_exchange(engine, Outcome::Cut);
                connection.enter(Phase::Flush, engine.ring.clock().tick());
                return Step::Again;
            }
            self.set_paused(engine, id, full);
            return Step::Wait;
        }
        if engine.is_full(exchange) {
            // The origin is slow, so the time that the client has to wait does not count for its rate.
            connection.current.upload_rate.pause(engine.ring.clock().tick());
            self.set_paused(engine, id, true);
            return Step::Wait;
        }
        let mut out = Queue::default();
        let read = read_body(connection, engine, exchange, &mut out);
        engine.send(exchange, &mut out);
        if let Err(failure) = read {
            return self.refuse(engine, id, failure);
        }
        engine.request_sent(exchange, connection.current.body.is_done());
        if connection.current.body.is_done() {
            // Trailers may have come.
            self.pass_never_indexed(engine, id, exchange);
        }
        let connection = &mut self.table[id as usize];
        if connection.transport.has_ended() && !connection.current.body.is_done() {
            // The client has sent FIN before the end of its request.
            self.remove(engine, id, false);
            return Step::Gone;
        }
        self.set_paused(engine, id, false);
        Step::Wait
    }

    /// Forwards the received part of the response.
    pub(super) fn forward_response<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, exchange: u32) -> Step {
        loop {
            let connection = &mut self.table[id as usize];
            let full = connection.transport.is_full(&engine.ring);
            engine.pause_response(exchange, full);
            if full {
                return Step::Wait;
            }
            let Response::Begun(framing) = connection.current.response else {
                match engine.response_head(exchange) {
                    Ok(None) => return Step::Wait,
                    Ok(Some(head)) => {
                        return self
                            .forward_response_head(engine, id, exchange, head)
                            .unwrap_or_else(|f| self.refuse(engine, id, f));
                    }
                    Err(failure) => return self.refuse(engine, id, failure),
                }
            };
            let mut out = Queue::default();
            match read_response(engine, exchange, &mut out, framing) {
                Ok(done) => {
                    let moved = !out.is_empty();
                    connection.send(engine, &mut out);
                    if done {
                        connection.note_never_indexed(engine, exchange);
                        return self.complete(engine, id);
                    }
                    if !moved {
                        return Step::Wait;
                    }
                }
                Err(failure) => {
                    connection.send(engine, &mut out);
                    return self.refuse(engine, id, failure);
                }
            }
        }
    }

    /// Forwards a response head with the received part of its body.
    fn forward_response_head<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        id: u32,
        exchange: u32,
        head: Head,
    ) -> Result<Step, Failure> {
        let Head { mut lease, length, kind } = head;
        let connection = &mut self.table[id as usize];
        if connection.stream.is_tunnel && kind == HeadKind::Final && engine.response.status < 300 {
            // The origin has answered the request, instead of switching to another protocol: the client would take that for a tunnel.
            return Err(Failure::Switch);
        }
        let current = &mut connection.current;
        let mut framing = Framing::Length;
        if kind == HeadKind::Final {
            // A client that gets the response before it has sent its whole request is told that the connection closes (RFC 9112
            // section 9.6).
            current.keep_alive &= current.body.is_done();
            (framing, current.keep_alive) = response::framing(engine.response.body, current);
        }
        engine.scratch.clear();
        engine.update_date();
        let route = engine.route(exchange);
        let kept = engine.take_kept(exchange);
        let date = engine.date.line();
        let (keep_alive, version) = (current.keep_alive, current.version);
        let hsts = if connection.peer.secure { route.listener(connection.listener).hsts_line() } else { b"" };
        let cookie = engine.affinity_cookie(exchange).map(|cookie| (&route, cookie));
        let kept_of = kept.as_deref();
        let style = response::HeadStyle { kind, route: &route, kept: kept_of, keep_alive, version, date, hsts, cookie };
        response::write(&style, &engine.response, &lease.bytes()[..length], &mut engine.scratch);
        connection.note_never_indexed(engine, exchange);
        // The head that follows an interim one, and a refusal, need it, too.
        engine.put_kept(exchange, kept);
        lease.advance(length);
        if kind == HeadKind::Interim {
            engine.put_back(exchange, lease);
            if version != Version::Http10 {
                let mut out = Queue::default();
                engine.queue_head(&mut out, None)?;
                connection.send(engine, &mut out);
            }
            return Ok(Step::Again);
        }
        engine.watch_response(&mut connection.log.entry);
        let mut out = Queue::default();
        let mut body = Queue::default();
        // The buffer in which the head was received, to write the new head to if no body follows it.
        let spare = if lease.is_empty() {
            Some(lease)
        } else {
            engine.put_back(exchange, lease);
            None
        };
        let done = match read_response(engine, exchange, &mut body, framing) {
            Ok(done) => done,
            Err(failure) => {
                body.clear(engine.ring.buffers.pieces());
                return Err(failure);
            }
        };
        let first = body.pop(engine.ring.buffers.pieces()).or(spare);
        if let Err(failure) = engine.queue_head(&mut out, first) {
            body.clear(engine.ring.buffers.pieces());
            return Err(failure);
        }
        out.append(engine.ring.buffers.pieces(), &mut body);
        connection.current.response = Response::Begun(framing);
        let now = engine.ring.clock().now();
        connection.record(engine).answer(engine.response.status, now);
        connection.send(engine, &mut out);
        if kind == HeadKind::Tunnel {
            if let Some(entry) = &mut connection.log.entry {
                engine.name_attempts(exchange, entry);
            }
            engine.detach(exchange);
            let tunnel = Tunnel { exchange, up: Direction::Open, down: Direction::Open };
            connection.enter(Phase::Tunnel(tunnel), engine.ring.clock().tick());
            return Ok(Step::Again);
        }
        if done { Ok(self.complete(engine, id)) } else { Ok(Step::Again) }
    }

    /// Ends the exchange, whose response is complete and queued.
    fn complete<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        let whole = connection.current.body.is_done();
        connection.end_exchange(engine, if whole { Outcome::Whole } else { Outcome::Cut });
        let next = if connection.current.keep_alive && whole { Phase::Head } else { Phase::Flush };
        connection.enter(next, engine.ring.clock().tick());
        Step::Again
    }

    /// Passes bytes in both directions without parsing them, until both have ended.
    pub(super) fn tunnel<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, mut tunnel: Tunnel) -> Step {
        let exchange = tunnel.exchange;
        let up_full = engine.is_full(exchange);
        self.set_paused(engine, id, up_full);
        let connection = &mut self.table[id as usize];
        if !up_full {
            connection.current.received += connection.transport.input.bytes() as u64;
            engine.send(exchange, &mut connection.transport.input);
            if connection.transport.has_ended() && tunnel.up == Direction::Open {
                tunnel.up = Direction::Ended;
                engine.end_upward(exchange);
            }
        }
        let down_full = connection.transport.is_full(&engine.ring);
        engine.pause_response(exchange, down_full);
        if !down_full {
            let mut out = Queue::default();
            let ended = engine.response_body(exchange, &mut out, Chunking::Kept);
            connection.send(engine, &mut out);
            match ended {
                Ok(Some(_)) if tunnel.down == Direction::Open => {
                    tunnel.down = Direction::Ended;
                    connection.transport.finish(&mut engine.ring);
                }
                Ok(_) => {}
                Err(failure) => return self.refuse(engine, id, failure),
            }
        }
        connection.phase = Phase::Tunnel(tunnel);
        // What is left for an origin that takes nothing any more is lost.
        let (deaf, drained) = (engine.is_deaf(exchange), engine.unsent(exchange) == 0);
        if tunnel.down == Direction::Ended && (deaf || tunnel.up == Direction::Ended && drained) {
            connection.end_exchange(engine, if drained { Outcome::Whole } else { Outcome::Cut });
            connection.enter(Phase::Flush, engine.ring.clock().tick());
            return Step::Again;
        }
        Step::Wait
    }
}

/// Queues the request head from the scratch buffer for the origin, with the received part of the body.
fn send_request_head<D: Driver>(
    connection: &mut Downstream,
    engine: &mut Engine<D>,
    exchange: u32,
    lease: Lease,
) -> Result<(), Failure> {
    let mut out = Queue::default();
    let mut body = Queue::default();
    // The buffer in which the head was received, to write the new head to if no body follows it.
    let spare = if lease.is_empty() {
        Some(lease)
    } else {
        connection.transport.input.push_front(engine.ring.buffers.pieces(), lease);
        read_body(connection, engine, exchange, &mut body)?;
        None
    };
    let first = body.pop(engine.ring.buffers.pieces()).or(spare);
    if let Err(failure) = engine.queue_head(&mut out, first) {
        body.clear(engine.ring.buffers.pieces());
        return Err(failure);
    }
    out.append(engine.ring.buffers.pieces(), &mut body);
    engine.send(exchange, &mut out);
    engine.request_sent(exchange, connection.current.body.is_done());
    Ok(())
}

/// Moves the received part of the response body to `out`, framed for the client. True: the end is included.
fn read_response<D: Driver>(
    engine: &mut Engine<D>,
    exchange: u32,
    out: &mut Queue,
    framing: Framing,
) -> Result<bool, Failure> {
    let read = engine.response_body(exchange, out, framing.chunking());
    // What was received of a response that breaks off is forwarded: the data is framed even if the read has failed.
    framing.frame_data(&mut engine.ring.buffers, out).map_err(|_| Failure::ResponseBody)?;
    let Some(end) = read? else { return Ok(false) };
    framing.frame_end(&mut engine.ring.buffers, out, &end, &engine.trailers).map_err(|_| Failure::Buffers)?;
    Ok(true)
}

/// Moves the received part of the request body to `out`, framed for the origin. On failure `out` is emptied, so that no origin takes
/// a refused body for complete.
fn read_body<D: Driver>(
    connection: &mut Downstream,
    engine: &mut Engine<D>,
    exchange: u32,
    out: &mut Queue,
) -> Result<(), Failure> {
    // The origin speaks HTTP/1.1 too, so the framing of the client is kept.
    const FRAMING: Framing = Framing::Verbatim;
    let limit = engine.limits(exchange).body_bytes(connection.spec(engine).body_bytes);
    let minimum = connection.minimum_rate(engine);
    let current = &mut connection.current;
    let arrived = !connection.transport.input.is_empty();
    let buffers = &mut engine.ring.buffers;
    let input = &mut connection.transport.input;
    let read = current.body.read(buffers, input, out, FRAMING.chunking(), &mut engine.trailers);
    let framed = read.and_then(|Progress { data, end }| {
        if let Some(end) = end {
            FRAMING.frame_end(buffers, out, &end, &engine.trailers)?;
        }
        Ok(data)
    });
    let outcome = match framed {
        Err(BodyError::Exhausted) => Err(Failure::Buffers),
        Err(BodyError::Trailer(error)) => Err(Failure::RequestTrailers(error)),
        Err(BodyError::Chunk(_)) => Err(Failure::RequestBody),
        Ok(count) => {
            current.received += count;
            let waits = arrived && !current.body.is_done();
            if limit > 0 && current.received > limit {
                Err(Failure::RequestBodySize)
            } else if waits && current.upload_rate.is_below(minimum, engine.ring.clock().tick(), current.received) {
                Err(Failure::RequestBodySlow)
            } else {
                Ok(())
            }
        }
    };
    if outcome.is_err() {
        out.clear(engine.ring.buffers.pieces());
    }
    outcome
}

impl Current {
    fn of(request: &RequestHead, head: &[u8], trailers: Trailers, keep_alive: bool) -> Self {
        let accept = request.fields.get(FieldName::Accept);
        let content_type = request.fields.get(FieldName::ContentType);
        let is_grpc = content_type.is_some_and(|field| http::is_grpc(field.value.of(head)));
        Self {
            body: Body::new(request.body, trailers),
            keep_alive: keep_alive && request.keep_alive,
            persists: request.keep_alive,
            version: request.version,
            method: request.method,
            format: match accept {
                _ if is_grpc => Format::Grpc,
                Some(field) => Format::of(field.value.of(head)),
                None => Format::Text,
            },
            expects: request.expect_continue,
            ..Self::default()
        }
    }
}

impl Downstream {
    /// Begins to keep what is needed of a request. `stays`: nothing but the request, its listener or the connection itself is against
    /// another one; there is none on a stream.
    fn begin_current(&mut self, request: &RequestHead, head: &[u8], spec: &ListenerSpec, stays: bool) {
        self.requests = self.requests.saturating_add(1);
        self.download_rate = RateMeter::default();
        let last = spec.requests > 0 && self.requests >= spec.requests;
        let trailers = match http::nominates_fields(head, &request.fields) {
            true => Trailers::Dropped,
            false if self.peer.underscores => Trailers::Passed,
            false => Trailers::Plain,
        };
        let keep_alive = stays && !last && self.last_snapshot.is_none() && !self.is_worn();
        self.current = Current::of(request, head, trailers, keep_alive);
        self.log.note_start(head);
    }

    /// The style of an answer made here. It keeps the connection only if the rest of the request can be dropped within a bound.
    pub(super) fn style(&self, now: u64) -> ResponseStyle {
        let current = &self.current;
        let short = match current.body {
            Body::Done => true,
            Body::Length(left) => left <= limits::DRAIN_BYTES && !current.expects,
            _ => false,
        };
        ResponseStyle {
            format: current.format,
            method: current.method,
            keep_alive: current.keep_alive && short,
            version: current.version,
            now,
        }
    }
}
