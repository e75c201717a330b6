//! Connections of TCP: what decides on their route is read and kept, and then they are passed on as they are. Not here: what a ClientHello
//! looks like (`tls`), and the bytes of a tunnel (`h1`).

use super::end::Outcome;
use super::secure::is_due;
use super::{Current, Direction, Downstreams, Phase, Response, Step, Tunnel};
use crate::buffer::{Queue, QueueLimit};
use crate::event_log::{Level, log};
use crate::exchange::{Decision, Engine, Failure, Passthrough, ends};
use crate::forward::{Body, Framing, join};
use crate::id::StreamId;
use crate::limits;
use crate::snapshot::SnapshotRef;
use crate::telemetry::TcpRefusal;
use crate::tls::client_hello::{self, ClientHello, HelloError, Parsed};
use crate::uring::Driver;

/// A fatal alert (RFC 8446 section 6) in a record of its own, before its description.
const FATAL_ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
/// The ClientHello breaks the protocol.
const DECODE_ERROR: u8 = 50;
/// The trouble is not the client's.
const INTERNAL_ERROR: u8 = 80;
/// Nobody has the name that was asked for (RFC 6066 section 3).
const UNRECOGNIZED_NAME: u8 = 112;

/// What the first bytes of a connection have led to.
enum Read {
    /// There have to be so many.
    Partial(usize),
    /// The route; None: there is none.
    Decided(Option<Decision>),
    Invalid(HelloError),
}

impl Downstreams {
    /// Reads what decides on the route of a connection, and begins its exchange. Where its listener asks for nothing, that is at once: the
    /// origin may be the one that speaks first.
    pub(super) fn read_hello<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &self.table[id as usize];
        let snapshot = connection.snapshot(engine).clone();
        if !snapshot.router.reads_hello(connection.listener) {
            let decision = self.decide(engine, id, &snapshot, ClientHello::default());
            return self.open(engine, id, decision);
        }
        loop {
            let connection = &mut self.table[id as usize];
            let input = &mut connection.transport.input;
            if input.bytes() < connection.scanned.max(1) {
                let (none, ended) = (input.is_empty(), connection.transport.has_ended());
                return match ended {
                    false => {
                        self.set_paused(engine, id, false);
                        Step::Wait
                    }
                    true if none => {
                        // Who sends nothing only looks whether somebody listens.
                        self.remove(engine, id, false);
                        Step::Gone
                    }
                    true => self.refuse_connection(engine, id, Failure::Hello(HelloError::Cut)),
                };
            }
            let buffers = &mut engine.ring.buffers;
            let Some(lease) = input.pop(buffers.pieces()) else { return Step::Wait };
            if lease.len() < connection.scanned {
                input.push_front(buffers.pieces(), lease);
                match join(buffers, input) {
                    Ok(_) => continue,
                    Err(_) => return self.refuse_connection(engine, id, Failure::Buffers),
                }
            }
            let mut memory = std::mem::take(&mut self.hello);
            let read = match client_hello::parse(lease.bytes(), &mut memory) {
                Ok(Parsed::Partial(needed)) => Read::Partial(needed),
                Ok(Parsed::Absent) => Read::Decided(self.decide(engine, id, &snapshot, ClientHello::default())),
                Ok(Parsed::Hello(hello)) => Read::Decided(self.decide(engine, id, &snapshot, hello)),
                Err(error) => Read::Invalid(error),
            };
            self.hello = memory;
            let connection = &mut self.table[id as usize];
            connection.transport.input.push_front(engine.ring.buffers.pieces(), lease);
            match read {
                Read::Partial(needed) => connection.scanned = needed,
                Read::Decided(decision) => return self.open(engine, id, decision),
                Read::Invalid(error) => return self.refuse_connection(engine, id, Failure::Hello(error)),
            }
        }
    }

    /// The route of a connection whose client asks for this.
    fn decide<D: Driver>(
        &self,
        engine: &mut Engine<D>,
        id: u32,
        snapshot: &SnapshotRef,
        hello: ClientHello<'_>,
    ) -> Option<Decision> {
        let connection = &self.table[id as usize];
        let port = snapshot.listener(connection.listener).port();
        let asked = Passthrough { hello, client: connection.peer.address(), port };
        engine.decide_connection(snapshot, connection.listener, &asked)
    }

    /// Begins the exchange of a connection. None: no route is for it.
    fn open<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, decision: Option<Decision>) -> Step {
        let Some(decision) = decision else { return self.refuse_connection(engine, id, Failure::NoRoute) };
        let connection = &mut self.table[id as usize];
        connection.closes_at = None;
        connection.note_arrival(engine);
        connection.record(engine).route = Some(decision.route_number());
        let ends = ends(&connection.peer, connection.arrival(), connection.spec(engine));
        match engine.open_tunnel(&decision, StreamId { connection: id, stream: 0 }, ends) {
            Ok(exchange) => {
                connection.enter(Phase::Connect(exchange), engine.ring.clock().tick());
                Step::Again
            }
            Err(failure) => self.refuse_connection(engine, id, failure),
        }
    }

    /// Waits until an endpoint is connected; then the connection is a tunnel.
    pub(super) fn await_endpoint<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, exchange: u32) -> Step {
        const LIMIT: QueueLimit = QueueLimit { bytes: limits::PIPELINE_BYTES, pieces: limits::PIPELINE_PIECES };
        match engine.connect(exchange) {
            Ok(true) => {
                let connection = &mut self.table[id as usize];
                let now = engine.ring.clock().now();
                connection.record(engine).answer(0, now);
                // What is cut from now on is cut with RST: nothing else shows that.
                connection.current.response = Response::Begun(Framing::Close);
                connection.passed_on = true;
                engine.counters.pass_on(connection.listener);
                let tunnel = Tunnel { exchange, up: Direction::Open, down: Direction::Open };
                connection.enter(Phase::Tunnel(tunnel), engine.ring.clock().tick());
                Step::Again
            }
            Ok(false) => {
                let full = LIMIT.is_reached(&self.table[id as usize].transport.input);
                self.set_paused(engine, id, full);
                Step::Wait
            }
            Err(failure) => self.refuse_connection(engine, id, failure),
        }
    }

    /// Ends a connection that is not passed on: with an alert, if its client has begun to speak TLS, else with RST.
    #[cold]
    pub(super) fn refuse_connection<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, failure: Failure) -> Step {
        engine.counters.refuse_tcp(refusal(failure));
        self.log_refusal(engine, id, failure);
        let connection = &mut self.table[id as usize];
        connection.record(engine).failure = Some(failure);
        connection.end_exchange(engine, Outcome::Cut);
        let first = connection.transport.input.front(engine.ring.buffers.pieces());
        let mut out = Queue::default();
        engine.scratch.clear();
        engine.scratch.extend_from_slice(&FATAL_ALERT);
        engine.scratch.push(alert(failure));
        let told = first.is_some_and(client_hello::is_tls) && engine.queue_head(&mut out, None).is_ok();
        if !told {
            self.remove(engine, id, true);
            return Step::Gone;
        }
        connection.transport.send(&mut engine.ring, &mut out);
        // The hello counts as unread, so that closing waits until the client has had time to read the alert.
        connection.current = Current { body: Body::Close, ..Current::default() };
        connection.enter(Phase::Flush, engine.ring.clock().tick());
        Step::Again
    }

    /// Logs a connection that is not passed on, at most once a second for each listener.
    fn log_refusal<D: Driver>(&mut self, engine: &Engine<D>, id: u32, failure: Failure) {
        let connection = &self.table[id as usize];
        if !is_due(&mut self.refused_logged, connection.listener, engine.ring.clock().now()) {
            return;
        }
        let listener = &connection.spec(engine).name;
        let client = std::str::from_utf8(connection.peer.text()).unwrap_or_default();
        let reason = match failure {
            Failure::Hello(error) => error.text(),
            failure => refusal(failure).name(),
        };
        log(Level::Warn, format_args!("listener {listener}: client {client} is not passed on: {reason}"));
    }
}

/// What a failure to pass a connection on is counted as.
fn refusal(failure: Failure) -> TcpRefusal {
    match failure {
        Failure::Hello(_) => TcpRefusal::Hello,
        Failure::HelloTimeout => TcpRefusal::HelloTimeout,
        Failure::NoRoute => TcpRefusal::NoRoute,
        Failure::NoEndpoint => TcpRefusal::NoEndpoint,
        Failure::QueueFull => TcpRefusal::QueueFull,
        Failure::QueueTimeout => TcpRefusal::QueueTimeout,
        Failure::Overloaded => TcpRefusal::Overloaded,
        Failure::ConnectTimeout => TcpRefusal::ConnectTimeout,
        Failure::TlsCertificate | Failure::TlsProtocol | Failure::TlsAlert => TcpRefusal::Tls,
        Failure::Descriptors | Failure::Buffers | Failure::Shed => TcpRefusal::Resources,
        Failure::Connections => TcpRefusal::Connections,
        // All others are of requests.
        _ => TcpRefusal::Connect,
    }
}

/// The description of the alert that tells of a failure.
fn alert(failure: Failure) -> u8 {
    match failure {
        Failure::NoRoute => UNRECOGNIZED_NAME,
        Failure::Hello(_) | Failure::HelloTimeout => DECODE_ERROR,
        _ => INTERNAL_ERROR,
    }
}
