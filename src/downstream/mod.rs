//! Client connections: reading and parsing requests, handing them to the engine, sending responses. HTTP/1.1 is in `h1`.
//! Not here: routing, endpoints (`exchange`).

mod deadline;
mod end;
mod h1;
mod h2;
mod h2_end;
mod handshakes;
mod leave;
mod log;
mod passthrough;
mod proxied;
mod rate;
pub mod response;
mod restore;
mod secure;
mod shed;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use slab::Slab;

use crate::exchange::{Arrival, Engine, Peer, Record, RequestId};
use crate::forward::{Body, Framing};
use crate::http::{Method, RequestHead, Version};
use crate::http2::head::NeverIndexed;
use crate::id::{ListenerId, Owner};
use crate::limits;
use crate::respond::Format;
use crate::route::Protocol;
use crate::runtime::{QuotaLease, Stall, Tick};
use crate::snapshot::{ListenerSpec, ProxyProtocol, SnapshotRef};
use crate::telemetry::ProxyRefusal;
use crate::tls;
use crate::transport::Transport;
use crate::uring::{Driver, Event};
use h2::Http2;
use handshakes::{Handshakes, WaitingHandshakes};
use log::LogState;
use rate::RateMeter;
use shed::Candidate;

/// Every client connection of a worker.
pub struct Downstreams {
    table: Slab<Downstream>,
    /// By listener: the number of admitted connections, and the worker's lease of the quota.
    counts: Vec<(u32, QuotaLease)>,
    /// Removed listeners that may still have connections, each with the last snapshot that had it.
    retired: Vec<(ListenerId, SnapshotRef)>,
    /// Number of connections above the limit of their listener, which are answered 503.
    refused: u32,
    /// Handshakes under way, by listener.
    handshakes: Vec<Handshakes>,
    /// Handshakes whose client has sent something that was not looked at yet.
    waiting_handshakes: WaitingHandshakes,
    /// By listener: the time of the ring's clock until which no further client that is not believed is logged.
    distrust_logged: Vec<Duration>,
    /// The same of clients that speak in the clear to a permissive listener.
    plain_text_logged: Vec<Duration>,
    /// The same of connections of TCP that are not passed on.
    refused_logged: Vec<Duration>,
    /// The same of connections of HTTP/2 that end with an error.
    http2_logged: Vec<Duration>,
    /// Memory for a ClientHello that came in several records.
    hello: Box<[u8]>,
    /// Number of connections that were accepted so far.
    accepted: u64,
    /// Workers that share the process-wide limits.
    workers: u32,
    /// The request head read last.
    request: RequestHead,
    /// The process is about to end: no connection takes another request after its current one.
    draining: bool,
    /// When connections may next be shed.
    next_shed: Duration,
    /// The connections that may be shed; kept so that choosing them allocates nothing.
    candidates: Vec<Candidate>,
    /// Streams of HTTP/2 on which something may have to be sent.
    touched: Vec<u32>,
    /// Connections of HTTP/2 that may have to be written.
    dirty: Vec<u32>,
}

/// One client connection, or a stream of one of HTTP/2.
struct Downstream {
    transport: Transport,
    /// Its number among all connections that this worker has accepted, from 1.
    serial: u64,
    listener: ListenerId,
    /// Set when its listener was removed: the last snapshot that had it, under which its last request is served.
    last_snapshot: Option<SnapshotRef>,
    /// Version of the snapshot that `peer` was made under.
    version: u64,
    peer: Peer,
    /// What is known of how it came, where somebody may ask for that.
    arrival: Option<Box<Arrival>>,
    admission: Admission,
    phase: Phase,
    /// Its first byte decides whether it speaks TLS.
    undecided: bool,
    /// It is passed on as it is, and was connected to an endpoint.
    passed_on: bool,
    /// When the phase began.
    since: Tick,
    /// Bytes of a partial head that are known not to hold its end; of a ClientHello, bytes that it has at least.
    scanned: usize,
    /// When the first byte arrived of a head that is not complete, or of a TLS record that may hold one.
    begun: Option<Tick>,
    /// What the access log will be told.
    log: LogState,
    /// When the connection is closed unless a request has begun, or is no longer read on.
    closes_at: Option<Tick>,
    /// Since when the client has taken no byte although some wait to be sent to it.
    reading: Stall,
    /// Number of requests begun.
    requests: u32,
    /// How fast the client takes what is sent to it.
    download_rate: RateMeter,
    /// The identifier of the request of the current exchange; empty: none is under way.
    id: RequestId,
    /// The current exchange.
    current: Current,
    /// Of a connection of HTTP/2: its streams.
    http2: Option<Box<Http2>>,
    /// Of a stream.
    stream: StreamState,
}

/// What a stream has besides what a connection has.
#[derive(Clone, Copy, Debug, Default)]
struct StreamState {
    /// It is in the list of those on which something may have to be sent.
    is_touched: bool,
    /// Its client asks for a tunnel with an extended CONNECT (RFC 8441), for which a response of 2xx stands.
    is_tunnel: bool,
    /// Names of fields that are sent never indexed.
    never_indexed: NeverIndexed,
}

/// How a connection counts against `limits.connections` of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// The listener has no limit.
    Unlimited,
    /// It holds a unit of the listener's quota.
    Placed,
    /// It is above the limit and is answered 503.
    Refused,
    /// It is a stream, whose connection is counted.
    Stream,
}

/// The current exchange, on the client's side.
struct Current {
    /// The record; None before a head was read, and when the exchange is over.
    record: Option<Record>,
    version: Version,
    method: Method,
    /// The format of answers that are made here.
    format: Format,
    body: Body,
    /// Bytes of the body that were read, without framing.
    received: u64,
    /// How fast the client sends the body.
    upload_rate: RateMeter,
    /// Since when no byte of the body, or of the tunnel, was received.
    arriving: Stall,
    /// The client waits for 100 before it sends the body.
    expects: bool,
    /// The connection can take another request afterwards.
    keep_alive: bool,
    /// The client believes so until it has read the response, and may have sent another request.
    persists: bool,
    response: Response,
}

/// Whether the final response has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    /// No byte of it was sent.
    Awaited,
    /// Its head was queued; its body is framed this way.
    Begun(Framing),
}

/// The state of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A PROXY header is awaited, or is being received.
    ProxyHeader,
    /// The TLS handshake is under way.
    Handshake,
    /// Of a connection of TCP: what decides on its route is being received.
    Hello,
    /// Of a connection of TCP: an endpoint is being connected to, in this slot of the engine.
    Connect(u32),
    /// The connection is idle, or a head is being received.
    Head,
    /// An exchange with an origin is under way, in this slot of the engine.
    Exchange(u32),
    /// Bytes are passed in both directions without being parsed.
    Tunnel(Tunnel),
    /// Streams of HTTP/2 come and go, each with an entry of its own.
    Http2,
    /// The request was answered; the rest of its body is dropped.
    Drain,
    /// The last answer was queued; the connection is closed when all is sent.
    Flush,
    /// FIN was sent; what the client still sends is dropped until its FIN.
    Linger,
}

/// A tunnel: bytes are passed in both directions until both have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tunnel {
    exchange: u32,
    /// The direction to the origin.
    up: Direction,
    /// The direction to the client.
    down: Direction,
}

/// The state of one direction of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Open,
    /// FIN was received from the sender, and passed on.
    Ended,
}

impl Phase {
    /// That in which the first bytes of a connection in the clear are awaited.
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http => Self::Head,
            Protocol::Tcp => Self::Hello,
        }
    }

    /// The exchange that is under way.
    fn exchange(self) -> Option<u32> {
        match self {
            Self::Exchange(exchange) | Self::Tunnel(Tunnel { exchange, .. }) | Self::Connect(exchange) => {
                Some(exchange)
            }
            Self::ProxyHeader | Self::Handshake | Self::Hello | Self::Head | Self::Http2 => None,
            Self::Drain | Self::Flush | Self::Linger => None,
        }
    }
}

/// What [`Downstreams::pump`] does next with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It goes on: the phase may have changed.
    Again,
    /// It waits for an event.
    Wait,
    /// It stops: the connection was removed.
    Gone,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            record: None,
            version: Version::Http11,
            method: Method::Get,
            format: Format::Text,
            body: Body::Done,
            received: 0,
            upload_rate: RateMeter::default(),
            arriving: Stall::default(),
            expects: false,
            keep_alive: false,
            persists: false,
            response: Response::Awaited,
        }
    }
}

impl Downstreams {
    /// The empty table of one of `workers` workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            table: Slab::with_capacity(1024),
            counts: Vec::new(),
            retired: Vec::new(),
            refused: 0,
            handshakes: Vec::new(),
            waiting_handshakes: WaitingHandshakes::default(),
            distrust_logged: Vec::new(),
            plain_text_logged: Vec::new(),
            refused_logged: Vec::new(),
            http2_logged: Vec::new(),
            hello: vec![0; limits::CLIENT_HELLO_BYTES].into(),
            accepted: 0,
            workers: workers as u32,
            request: RequestHead::new(),
            draining: false,
            next_shed: Duration::ZERO,
            candidates: Vec::with_capacity(1024),
            touched: Vec::with_capacity(1024),
            dirty: Vec::with_capacity(64),
        }
    }

    /// Takes over an accepted connection.
    pub fn accept<D: Driver>(&mut self, engine: &mut Engine<D>, listener: ListenerId, descriptor: OwnedFd) {
        // One that was reset before it was accepted is nobody's: it must not be taken for one of this machine, which is trusted.
        let Ok(address) = engine.ring.peer(&descriptor) else { return };
        let gone = |(id, _): &&(ListenerId, SnapshotRef)| *id == listener && !engine.snapshot().has_listener(listener);
        let last_snapshot = self.retired.iter().find(gone).map(|(_, held)| held.clone());
        let snapshot = last_snapshot.as_ref().unwrap_or(engine.snapshot());
        debug_assert!(snapshot.has_listener(listener), "it is kept while connections may be accepted");
        let spec = snapshot.listener(listener);
        let (handshakes, trusted) = (spec.handshakes, spec.trusts(address.map(|(address, _)| address)));
        let proxied = spec.proxy_protocol != ProxyProtocol::Off && trusted;
        if spec.proxy_protocol == ProxyProtocol::Require && !trusted {
            return engine.counters.refuse_proxied(ProxyRefusal::Untrusted);
        }
        // Behind a PROXY header, nothing has begun; on a permissive listener, the first byte decides.
        let encrypted = snapshot.tls(listener).is_some();
        let strict = snapshot.tls(listener).is_some_and(|server| !server.is_permissive()) && !proxied;
        if strict && !self.admits_handshake(engine, listener, handshakes) {
            return;
        }
        let snapshot = last_snapshot.as_ref().unwrap_or(engine.snapshot());
        let spec = snapshot.listener(listener);
        let version = snapshot.version;
        let session = snapshot.tls(listener).filter(|_| strict).map(|server| Box::new(tls::Session::server(server)));
        let undecided = encrypted && !strict && !proxied;
        let peer = spec.peer(address);
        let at = || Arrival::at(engine.ring.local(&descriptor));
        let (arrival, protocol) = (snapshot.tells_of_clients.then(at), spec.protocol);
        let admission = self.admit(engine, snapshot, listener);
        let admitted = admission != Admission::Refused;
        // The request of a refused client counts as unread, so that closing waits until the client has had time to read the answer.
        let lingers = !admitted && self.refused <= limits::REFUSED_CONNECTIONS;
        let closes_at = self.first_request_by(engine);
        let entry = self.table.vacant_entry();
        let id = entry.key() as u32;
        let socket = engine.ring.add(descriptor, Owner::Downstream(id));
        let phase = match session {
            _ if proxied => Phase::ProxyHeader,
            Some(_) => Phase::Handshake,
            None => Phase::of(protocol),
        };
        self.accepted += 1;
        entry.insert(Downstream {
            transport: Transport::new(socket, session),
            serial: self.accepted,
            listener,
            last_snapshot,
            version,
            peer,
            arrival,
            admission,
            phase,
            undecided,
            passed_on: false,
            since: engine.ring.clock().tick(),
            scanned: 0,
            begun: None,
            log: LogState::at(engine.ring.clock().now()),
            closes_at,
            reading: Stall::default(),
            requests: 0,
            download_rate: RateMeter::default(),
            id: RequestId::default(),
            current: Current { body: if lingers { Body::Close } else { Body::Done }, ..Current::default() },
            http2: None,
            stream: StreamState::default(),
        });
        if phase == Phase::Handshake {
            self.begin_handshake(engine, id);
        }
        match phase {
            _ if !admitted => self.turn_away(engine, id),
            // It may need nothing of its client to be passed on.
            Phase::Hello => self.pump(engine, id),
            _ => self.arm(engine, id),
        }
    }

    /// Counts a new connection of a listener.
    fn admit<D: Driver>(&mut self, engine: &Engine<D>, snapshot: &SnapshotRef, listener: ListenerId) -> Admission {
        if self.counts.len() <= listener.index() {
            self.counts.resize_with(listener.index() + 1, Default::default);
        }
        let (count, quota) = &mut self.counts[listener.index()];
        let admission = match snapshot.listener(listener).connections {
            0 => Admission::Unlimited,
            cap if quota.take(snapshot.quota(listener), cap, self.workers) => Admission::Placed,
            _ => Admission::Refused,
        };
        let tally = if admission == Admission::Refused { &mut self.refused } else { count };
        *tally += 1;
        engine.counters.set_connections(listener, self.counts[listener.index()].0);
        admission
    }

    /// Takes in an event of a client connection.
    pub fn on_event<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, event: Event) {
        let Some(connection) = self.table.get_mut(id as usize) else { return };
        match event {
            Event::Received(_, queue) => self.receive(engine, id, queue),
            Event::Ended(_) => {
                connection.transport.end();
                self.pump(engine, id);
            }
            Event::Sent(_, drained, _) => {
                if drained {
                    connection.download_rate.pause(engine.ring.clock().tick());
                    connection.http2.iter_mut().for_each(|http2| http2.connection.drained());
                }
                // Between requests nothing waits for room in the queue, unless receiving was paused because too many answers are
                // unsent.
                if connection.phase != Phase::Head || connection.transport.is_paused() {
                    self.pump(engine, id);
                }
            }
            Event::Failed(..) => self.remove(engine, id, true),
            Event::Expired(_) => self.expire(engine, id),
            _ => {}
        }
    }

    /// Does all that can be done on a connection now. Called after every event that concerns it or its exchange, so that no
    /// order of events can leave it waiting for an event that has already come.
    pub fn pump<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        loop {
            let Some(connection) = self.table.get_mut(id as usize) else { return };
            let step = match connection.phase {
                Phase::ProxyHeader => self.await_proxy_header(engine, id),
                Phase::Handshake => self.shake_hands(engine, id),
                Phase::Hello => self.read_hello(engine, id),
                Phase::Connect(exchange) => self.await_endpoint(engine, id, exchange),
                Phase::Head => self.read_head(engine, id),
                Phase::Exchange(exchange) => match self.forward_request(engine, id, exchange) {
                    Step::Wait => self.forward_response(engine, id, exchange),
                    step => step,
                },
                Phase::Tunnel(tunnel) => self.tunnel(engine, id, tunnel),
                Phase::Http2 => self.read_http2(engine, id),
                Phase::Drain => self.drain(engine, id),
                Phase::Flush => self.flush(engine, id),
                Phase::Linger => self.linger(engine, id),
            };
            match step {
                Step::Again => {}
                Step::Wait => {
                    self.touch(id);
                    return self.arm(engine, id);
                }
                Step::Gone => return,
            }
        }
    }

    /// Pumps a connection that may be waiting for its origin to take what was sent: receiving is paused, or it is a tunnel.
    pub fn pump_waiting<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let waits =
            |connection: &Downstream| connection.transport.is_paused() || matches!(connection.phase, Phase::Tunnel(_));
        if self.table.get(id as usize).is_some_and(waits) {
            self.pump(engine, id);
        }
    }

    /// Number of entries: open connections, and their streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many of them are streams.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.table.iter().filter(|(_, entry)| entry.is_stream()).count()
    }

    /// Whether no connection is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Stops or resumes receiving from a client.
    fn set_paused<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, paused: bool) {
        self.table[id as usize].transport.set_paused(&mut engine.ring, paused);
    }
}

impl Downstream {
    /// Whether nothing of a request, or of what is to be passed on, was received.
    fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head | Phase::Hello) && self.transport.input.is_empty()
    }

    /// The snapshot that its next request is served under.
    fn snapshot<'a, D: Driver>(&'a self, engine: &'a Engine<D>) -> &'a SnapshotRef {
        self.last_snapshot.as_ref().unwrap_or(engine.snapshot())
    }

    /// The specification of its listener.
    fn spec<'a, D: Driver>(&'a self, engine: &'a Engine<D>) -> &'a ListenerSpec {
        self.snapshot(engine).listener(self.listener)
    }
}

impl ListenerSpec {
    /// Whether forwarding fields of this peer are believed. A peer on a Unix-domain socket (None) is trusted: it is on this machine.
    #[must_use]
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|peer| self.trusted_proxies.iter().any(|network| network.contains(peer)))
    }

    /// The peer that has connected from this address.
    #[must_use]
    pub fn peer(&self, address: Option<(IpAddr, u16)>) -> Peer {
        // On a permissive listener, the first byte decides.
        let secure = self.tls.is_some() && !self.is_permissive();
        Peer::new(address, self.trusts(address.map(|(address, _)| address)), !self.strict_paths, secure)
    }

    /// Bounds of a request head.
    fn head_limits(&self) -> crate::http::HeadLimits {
        crate::http::HeadLimits {
            head_bytes: self.header_bytes,
            field_count: self.header_count,
            request_line: limits::REQUEST_LINE_BYTES,
        }
    }
}
