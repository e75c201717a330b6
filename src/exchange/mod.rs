//! One request and its response: routed, sent to an endpoint, retried if that is free, read back, given up. It knows no HTTP
//! version of the downstream: `downstream` asks it for the response and hands it the request.
//!
//! The life of one: [`Engine::decide`] → [`Engine::open`] → request out with [`Engine::send`] while
//! [`Engine::response_head`] and [`Engine::response_body`] bring the response → [`Engine::close`].

mod attempt;
mod decide;
mod failure;
mod local;
mod progress;
mod record;
mod replay;
mod request;
mod tenancy;

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::buffer::{Lease, Queue};
use crate::cluster::Balancer;
use crate::forward::{BodyEnd, Chunking, prepend_head};
use crate::http::path::Forms;
use crate::http::{self, FieldName, Fields, Method, RequestHead, ResponseHead};
use crate::id::{ClusterId, ListenerId, RouteId, RouteNumber, StreamId, TenantId};
use crate::limits;
use crate::respond::DateLine;
use crate::route::Route;
use crate::runtime::Tick;
use crate::snapshot::{LedgerNumber, Snapshot, SnapshotRef};
use crate::telemetry::Counters;
use crate::upstream::{End, HeadError, Upstreams};
use crate::uring::{Driver, Event, Fault, Kernel, Ring};

use attempt::{Attempt, Stage, Tries};
pub use decide::{Refusal, RouteRequest, Routed, decide};
pub use failure::{Failure, Side};
pub use local::{LocalResponse, write_location};
pub use record::{Forwarding, Record};
use replay::Replay;
pub use request::{Forwarded, Peer};
use tenancy::Tenancy;

/// The exchanges of a worker and the tools that all of them share.
pub struct Engine<D = Kernel> {
    /// Sockets, buffers, timers.
    pub ring: Ring<D>,
    /// Where heads are written before they are put in front of their body.
    pub scratch: Vec<u8>,
    /// The response head read last.
    pub response: ResponseHead,
    /// The trailer section read last.
    pub trailers: Fields,
    /// Connections to endpoints.
    pub upstreams: Upstreams,
    /// What the worker counts.
    pub counters: Arc<Counters>,
    snapshot: SnapshotRef,
    /// A snapshot without content, for tunnels, which hold no other.
    empty_snapshot: SnapshotRef,
    balancer: Balancer,
    /// The quota leases of each tenant, by `TenantId`.
    tenancies: Vec<Option<Tenancy>>,
    exchanges: Slab<Exchange>,
    /// The forms of the path of the request that was routed last.
    paths: Forms,
    /// The methods that the answer to [`Failure::Method`] names.
    allow: Vec<u8>,
    /// The Date line for responses that have none; see [`Engine::update_date`].
    pub date: DateLine,
    /// Until when `date` is current, by the clock of the ring.
    dated_until: Duration,
    /// Workers that share the process-wide limits.
    workers: u32,
    /// Records, in the order in which exchanges ended.
    #[cfg(test)]
    pub finished: Vec<Record>,
}

/// One exchange.
struct Exchange {
    /// Where the response goes.
    stream: StreamId,
    /// The snapshot that the exchange began under. A tunnel, which may last for days, holds the empty one.
    snapshot: SnapshotRef,
    /// Keeps the number of a tunnel's endpoint from being given to another endpoint.
    number: Option<Arc<LedgerNumber>>,
    route: RouteId,
    /// The tenant whose quota of requests in flight it counts against.
    tenant: Option<TenantId>,
    cluster: ClusterId,
    method: Method,
    offer: Offer,
    state: State,
    tries: Tries,
    /// What its record will say of the origin's side.
    forwarding: Forwarding,
    /// What was sent of the request and may be sent again.
    replay: Replay,
    /// The whole request was queued for the origin.
    request_done: bool,
    /// The request or its response authenticates the connection itself (NTLM, Negotiate).
    binds: bool,
    interims: u16,
    /// The route's `timeout`, from the end of the request.
    timeout: Option<Duration>,
    /// When `timeout` ends; set when the request has ended.
    deadline: Option<Tick>,
}

/// The state of an exchange.
#[derive(Debug)]
enum State {
    /// No attempt is under way; the next one is about to begin.
    Between,
    /// An attempt at an endpoint is under way.
    Attempt(Attempt),
    /// There will be no response.
    Failed(Failure),
}

impl Exchange {
    /// The attempt that is under way.
    fn attempt(&self) -> Option<&Attempt> {
        if let State::Attempt(attempt) = &self.state { Some(attempt) } else { None }
    }

    /// How far the response has come.
    fn stage(&self) -> Stage {
        self.attempt().map_or(Stage::Waiting, |attempt| attempt.stage)
    }

    /// Slot of the connection to the endpoint, or why there will be no response.
    fn connection(&self) -> Result<u32, Failure> {
        match &self.state {
            State::Attempt(attempt) => Ok(attempt.connection),
            State::Failed(failure) => Err(*failure),
            State::Between => Err(Failure::Closed),
        }
    }
}

/// The protocols offered in Upgrade, to compare the origin's choice with.
#[derive(Clone, Copy, Debug, Default)]
struct Offer {
    text: [u8; limits::UPGRADE_BYTES],
    length: u8,
}

/// The route of a request, and the cluster that the route has chosen for it.
#[derive(Clone, Debug)]
pub struct Decision {
    snapshot: SnapshotRef,
    route: RouteId,
    /// None: the route answers by itself.
    cluster: Option<ClusterId>,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct RequestSource<'a> {
    /// The stream that it came on.
    pub stream: StreamId,
    /// The listener that accepted its connection.
    pub listener: ListenerId,
    /// The client, as far as it is known.
    pub peer: &'a Peer,
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// Bytes that begin with the head; bytes of the body may follow.
    pub lease: Lease,
    /// Length of the head, bytes.
    pub length: usize,
    /// What the head begins.
    pub kind: HeadKind,
}

/// What a response head begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// An interim response (RFC 9110 section 15.2); another head follows.
    Interim,
    /// A final response.
    Final,
    /// A tunnel: 101, or 2xx to CONNECT.
    Tunnel,
}

impl<D: Driver> Engine<D> {
    /// The engine of one worker of `workers`, under a first snapshot.
    #[must_use]
    pub fn new(ring: Ring<D>, snapshot: Arc<Snapshot>, workers: usize, seed: u64) -> Self {
        let mut balancer = Balancer::new(seed);
        let empty_snapshot = SnapshotRef::new(Arc::new(Snapshot::empty()), &mut balancer);
        let mut engine = Self {
            date: DateLine::at(ring.wall_seconds()),
            ring,
            scratch: Vec::with_capacity(limits::HEAD_BUFFER_BYTES),
            response: ResponseHead::new(),
            trailers: Fields::new(),
            upstreams: Upstreams::default(),
            counters: Arc::default(),
            snapshot: empty_snapshot.clone(),
            empty_snapshot,
            balancer,
            tenancies: Vec::new(),
            exchanges: Slab::with_capacity(1024),
            paths: Forms::with_capacity(limits::REQUEST_LINE_BYTES),
            allow: Vec::with_capacity(1024),
            dated_until: Duration::ZERO,
            workers: workers as u32,
            #[cfg(test)]
            finished: Vec::new(),
        };
        engine.apply(snapshot);
        engine
    }

    /// Makes `snapshot` the one that new exchanges begin under; returns the one before. What is under way ends under its own.
    /// Allocates: tables grow here and never on the path of a request.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> SnapshotRef {
        let bound = snapshot.endpoint_bound();
        self.counters.version.set(snapshot.version);
        self.balancer.reserve(bound);
        self.apply_tenants(&snapshot);
        self.upstreams.apply(&mut self.ring, bound, |endpoint| snapshot.endpoint(endpoint).is_some());
        std::mem::replace(&mut self.snapshot, SnapshotRef::new(snapshot, &mut self.balancer))
    }

    /// The configuration that new exchanges begin under.
    #[must_use]
    pub fn snapshot(&self) -> &SnapshotRef {
        &self.snapshot
    }

    /// Begins an exchange that was decided to be forwarded: picks an endpoint, takes a connection, and writes the request
    /// head to the scratch. None: the route answers by itself.
    ///
    /// # Errors
    /// When no endpoint or no socket can be had.
    pub fn open(
        &mut self,
        decision: &Decision,
        request: &RequestHead,
        head: &[u8],
        source: RequestSource<'_>,
    ) -> Result<Option<u32>, Failure> {
        let Some(cluster) = decision.cluster else { return Ok(None) };
        let route = &decision.snapshot.router.routes()[decision.route.index()];
        let tenant = self.take_place(&decision.snapshot, route.tenant)?;
        let offer = Offer::of(request, head);
        // HTTP/1.0 can do without Host, and HTTP/1.1, as which the request goes on, cannot.
        let named = !request.authority.is_empty();
        let fallback = if named { &b""[..] } else { decision.snapshot.clusters[cluster.index()].host.as_bytes() };
        self.write_request(request, head, source.peer, (route, fallback), offer.is_some());
        let entry = Exchange {
            stream: source.stream,
            route: decision.route,
            tenant,
            cluster,
            method: request.method,
            state: State::Between,
            tries: Tries::default(),
            forwarding: Forwarding { cluster, endpoint: None, attempts: 0 },
            request_done: false,
            binds: http::binds_connection(head, &request.fields, FieldName::Authorization),
            timeout: route.timeout,
            deadline: None,
            interims: 0,
            offer: offer.unwrap_or_default(),
            replay: Replay::default(),
            snapshot: decision.snapshot.clone(),
            number: None,
        };
        let id = self.exchanges.insert(entry) as u32;
        if let Err(failure) = self.attempt(id, false) {
            let mut exchange = self.exchanges.remove(id as usize);
            exchange.replay.begin(&mut self.ring.buffers, false);
            self.release_place(exchange.tenant);
            return Err(failure);
        }
        self.counters.exchanges.set(self.exchanges.len() as u64);
        Ok(Some(id))
    }

    fn write_request(
        &mut self,
        request: &RequestHead,
        head: &[u8],
        peer: &Peer,
        (route, fallback): (&Route, &[u8]),
        offered: bool,
    ) {
        let id = self.request_id();
        self.scratch.clear();
        let received = request.path(head);
        let path = match &route.rewrite {
            Some(rewrite) if rewrite.changes_path() => self.paths.rewritable(received),
            _ => self.paths.forwarded(received),
        };
        let upgrade = request.upgrade.filter(|_| offered).map(|protocols| protocols.of(head));
        Forwarded { request, head, peer, route, path, upgrade, id, fallback }.write(&mut self.scratch);
    }

    /// Queues bytes of the request.
    pub fn send(&mut self, id: u32, out: &mut Queue) {
        match self.connection(id).map(|connection| connection.transport.socket()) {
            Some(socket) => self.ring.send_all(socket, out),
            None => out.clear(self.ring.buffers.pieces()),
        }
    }

    /// Notes that a part of the request was queued, or all of it if `whole`: from then on the origin owes a response.
    pub fn request_sent(&mut self, id: u32, whole: bool) {
        if whole {
            let exchange = &mut self.exchanges[id as usize];
            exchange.request_done = true;
            exchange.deadline = exchange.timeout.map(|timeout| self.ring.clock().deadline(timeout));
        }
        self.arm(id);
    }

    /// Whether the exchange is to end when its client has sent its FIN and no response has begun.
    #[must_use]
    pub fn aborts_on_close(&self, id: u32) -> bool {
        let exchange = &self.exchanges[id as usize];
        exchange.stage() == Stage::Waiting && exchange.snapshot.clusters[exchange.cluster.index()].abort_on_close
    }

    /// A client connection has ended: nobody else may use the one that it has logged in on.
    pub fn unbind(&mut self, downstream: u32) {
        self.upstreams.unbind(&mut self.ring, downstream);
    }

    /// Sends FIN to the origin after what is queued: the tunnel's way up has ended.
    pub fn end_upward(&mut self, id: u32) {
        if let Some(socket) = self.connection(id).map(|connection| connection.transport.socket()) {
            self.ring.finish(socket);
        }
    }

    /// The next response head; None: not yet. [`Engine::response`] holds its fields.
    ///
    /// # Errors
    /// When there will be none. The exchange is then to be closed.
    pub fn response_head(&mut self, id: u32) -> Result<Option<Head>, Failure> {
        let exchange = &self.exchanges[id as usize];
        let index = exchange.connection()?;
        match self.upstreams.read_head(&mut self.ring, index, exchange.method, &mut self.response) {
            Err(HeadError::Invalid(error)) => Err(Failure::Response(error)),
            Err(HeadError::Exhausted) => Err(Failure::Buffers),
            Ok(None) => match self.upstreams.get(index).and_then(|connection| connection.end) {
                Some(end) => self.recover(id, end).map(|()| None),
                None => Ok(None),
            },
            Ok(Some((lease, length))) => {
                let kind = self.classify_head(id, &lease.bytes()[..length])?;
                Ok(Some(Head { lease, length, kind }))
            }
        }
    }

    /// Says what a response head begins, or why that is not allowed.
    fn classify_head(&mut self, id: u32, head: &[u8]) -> Result<HeadKind, Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let status = self.response.status;
        let tunnel = match status {
            101 => {
                let chosen = self.response.upgrade.map(|protocol| protocol.of(head));
                if !chosen.is_some_and(|protocol| exchange.offer.contains(protocol)) || !exchange.request_done {
                    return Err(Failure::Switch);
                }
                true
            }
            100..=199 => {
                exchange.interims += 1;
                let flood = exchange.interims > limits::INTERIM_RESPONSES;
                return if flood { Err(Failure::InterimFlood) } else { Ok(HeadKind::Interim) };
            }
            _ => exchange.method == Method::Connect && (200..300).contains(&status),
        };
        exchange.binds |=
            status == 401 && http::binds_connection(head, &self.response.fields, FieldName::WwwAuthenticate);
        if let State::Attempt(attempt) = &mut exchange.state {
            attempt.stage = if tunnel { Stage::Tunnel } else { Stage::Body };
        }
        Ok(if tunnel { HeadKind::Tunnel } else { HeadKind::Final })
    }

    /// Gives back what followed a head, to be read as body.
    pub fn put_back(&mut self, id: u32, lease: Lease) {
        if let Ok(index) = self.exchanges[id as usize].connection() {
            self.upstreams.put_back(&mut self.ring, index, lease);
        }
    }

    /// Moves what has arrived of the response body to `out`. Some: it is complete; the fields of a trailer section are in
    /// [`Engine::trailers`] until another body is read.
    ///
    /// # Errors
    /// When it cannot be completed: the response is cut short.
    pub fn response_body(&mut self, id: u32, out: &mut Queue, chunking: Chunking) -> Result<Option<BodyEnd>, Failure> {
        let exchange = &self.exchanges[id as usize];
        let index = exchange.connection()?;
        if exchange.stage() == Stage::Tunnel {
            return match self.upstreams.read_raw(&mut self.ring, index, out) {
                None => Ok(None),
                Some(End::Closed) => Ok(Some(BodyEnd::Plain)),
                Some(_) => Err(Failure::Reset),
            };
        }
        let read = self.upstreams.read_body(&mut self.ring, index, out, chunking, &mut self.trailers);
        let end = read.map_err(|_| Failure::ResponseBody)?;
        if end.is_none() && self.upstreams.get(index).is_none_or(|connection| connection.end.is_some()) {
            return Err(Failure::ResponseBody);
        }
        Ok(end)
    }

    /// Stops or resumes receiving the response, because the downstream is slower than the origin.
    pub fn pause_response(&mut self, id: u32, paused: bool) {
        let Ok(index) = self.exchanges[id as usize].connection() else { return };
        let was = self.upstreams.get(index).is_some_and(|connection| connection.transport.is_paused());
        if was != paused {
            self.upstreams.set_paused(&mut self.ring, index, paused);
            self.arm(id);
        }
    }

    /// Ends the exchange and says how it was forwarded. `complete`: request and response ended where they should, so that the
    /// connection may be kept.
    pub fn close(&mut self, id: u32, complete: bool) -> Option<Forwarding> {
        let mut exchange = self.exchanges.try_remove(id as usize)?;
        exchange.replay.begin(&mut self.ring.buffers, false);
        self.disarm(id, exchange.timeout);
        self.counters.exchanges.set(self.exchanges.len() as u64);
        self.release_place(exchange.tenant);
        if let State::Attempt(attempt) = &exchange.state {
            self.release(&exchange, attempt, complete);
        }
        Some(exchange.forwarding)
    }

    /// Gives up the connection of the last attempt, or gives it back.
    fn release(&mut self, exchange: &Exchange, attempt: &Attempt, complete: bool) {
        let Attempt { endpoint, connection: index, stage, .. } = *attempt;
        self.balancer.end(endpoint);
        if !complete && stage == Stage::Tunnel {
            // A broken tunnel is reset, so that the origin does not take what it has received for everything.
            return self.upstreams.abort(&mut self.ring, index);
        }
        if !complete || !exchange.request_done || stage == Stage::Tunnel {
            return self.upstreams.discard(&mut self.ring, index);
        }
        let Some((cluster, _)) = self.snapshot.endpoint(endpoint) else {
            // The endpoint is gone from the current snapshot.
            return self.upstreams.discard(&mut self.ring, index);
        };
        let share = cluster.max_idle.div_ceil(self.workers);
        if exchange.binds {
            self.upstreams.bind(&mut self.ring, index, exchange.stream.connection);
        }
        self.upstreams.release(&mut self.ring, index, share, cluster.idle);
    }

    /// Releases the snapshot of a tunnel whose response head was sent: the tunnel needs nothing of it any more.
    pub fn detach(&mut self, id: u32) {
        let exchange = &mut self.exchanges[id as usize];
        exchange.number = exchange.attempt().and_then(|attempt| exchange.snapshot.number(attempt.endpoint));
        exchange.snapshot = self.empty_snapshot.clone();
    }

    /// The route of an exchange, for its response edits.
    #[must_use]
    pub fn route(&self, id: u32) -> RouteOf {
        let exchange = &self.exchanges[id as usize];
        RouteOf { snapshot: exchange.snapshot.clone(), route: exchange.route }
    }

    /// Takes in what happened on an upstream connection. Returns the stream whose exchange is concerned: the caller pumps it and then
    /// calls [`Engine::arm_connection`].
    pub fn on_event(&mut self, index: u32, event: Event) -> Option<StreamId> {
        let exchange = self.upstreams.get(index)?.exchange;
        let ring = &mut self.ring;
        match event {
            Event::Received(_, queue) => {
                if let Some(exchange) = exchange.and_then(|id| self.exchanges.get_mut(id as usize)) {
                    exchange.replay.begin(&mut ring.buffers, false);
                }
                self.upstreams.received(ring, index, queue);
            }
            Event::Sent(_, _, mut sent) if !sent.is_empty() => {
                let exchange = exchange.and_then(|id| self.exchanges.get_mut(id as usize));
                let more = exchange.is_some_and(|exchange| exchange.replay.keep(&mut ring.buffers, &mut sent));
                if !more {
                    sent.clear(ring.buffers.pieces());
                    self.upstreams.return_sent(ring, index, false);
                }
            }
            Event::Connected(_) => self.upstreams.connected(index),
            Event::Ended(_) => self.upstreams.ended(ring, index, End::Closed),
            // The response may have been sent before the endpoint stopped reading: what is received decides.
            Event::Failed(_, Fault::Send(_)) => {}
            Event::Failed(_, fault) => self.upstreams.ended(ring, index, End::Broken(fault)),
            // The connection has been idle for too long.
            Event::Expired(_) if exchange.is_none() => self.upstreams.discard(ring, index),
            _ => {}
        }
        Some(self.exchanges.get(exchange? as usize)?.stream)
    }

    /// 32 even random bits; not for secrets.
    pub fn random(&mut self) -> u32 {
        self.balancer.random()
    }

    /// A random identifier in hexadecimal.
    fn request_id(&mut self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0; 32];
        for part in id.chunks_exact_mut(8) {
            let mut bits = self.balancer.random();
            for digit in part {
                *digit = DIGITS[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        id
    }

    /// Puts the scratch in front of `body` and queues both.
    ///
    /// # Errors
    /// When no buffer is free.
    pub fn queue_head(&mut self, out: &mut Queue, body: Option<Lease>) -> Result<(), Failure> {
        prepend_head(&mut self.ring.buffers, out, &self.scratch, body).map_err(|_| Failure::Buffers)
    }

    /// Exchanges under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }
}

/// A route held together with its snapshot.
pub struct RouteOf {
    snapshot: SnapshotRef,
    route: RouteId,
}

impl RouteOf {
    /// Its number, which is the same under later snapshots.
    #[must_use]
    pub fn number(&self) -> RouteNumber {
        self.snapshot.route_number(self.route)
    }
}

impl std::ops::Deref for RouteOf {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.snapshot.router.routes()[self.route.index()]
    }
}

impl Offer {
    /// The protocols that go on; None: there are none, or more than are kept.
    fn of(request: &RequestHead, head: &[u8]) -> Option<Self> {
        let protocols = request.upgrade?.of(head);
        let mut offer = Self { length: protocols.len().try_into().ok()?, ..Self::default() };
        offer.text.get_mut(..protocols.len())?.copy_from_slice(protocols);
        Some(offer)
    }

    fn contains(&self, protocol: &[u8]) -> bool {
        let mut offered = self.text[..usize::from(self.length)].split(|&byte| byte == b',');
        !protocol.is_empty() && offered.any(|one| one.trim_ascii().eq_ignore_ascii_case(protocol))
    }
}
