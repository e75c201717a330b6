//! One request and its response: it is routed and sent to an endpoint, attempted again where that is without risk, and its response
//! is read. Not here: the HTTP version of the client; `downstream` hands over the request and asks for the response.
//!
//! The life of one: [`Engine::decide`] → [`Engine::open`], which begins an attempt → request out with [`Engine::send`] while
//! [`Engine::response_head`] and [`Engine::response_body`] bring the response → [`Engine::close`] → [`Engine::finish`].

mod attempt;
mod budget;
mod client;
mod connection;
mod deadline;
mod decide;
mod failure;
mod hedge;
mod latency;
mod local;
mod log;
mod measure;
mod observe;
mod overload;
mod passthrough;
mod preference;
mod progress;
mod record;
mod recover;
mod replay;
mod request;
mod request_id;
mod response;
mod state;
mod tenancy;
mod upgrade;
mod values;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::access_log::Recorder;
use crate::buffer::{Lease, Queue};
use crate::cluster::{Balancer, Cluster};
use crate::forward::prepend_head;
use crate::http::path::Forms;
use crate::http::{self, FieldName, Fields, Method, RequestHead, ResponseHead, UpgradeOffer};
use crate::id::{ClusterId, ListenerId, RouteId, RouteNumber, StreamId, WorkerId};
use crate::limits;
use crate::respond::DateLine;
use crate::route::{Captures, Route, RouteLimits};
use crate::snapshot::{ListenerSpec, Snapshot, SnapshotRef};
use crate::telemetry::{Counters, HedgeOutcome, NO_CLUSTER};
use crate::trace::TraceContext;
use crate::upstream::{Upstream, Upstreams};
use crate::uring::{Driver, Kernel, Ring};

use attempt::{Attempt, Stage};
use budget::RetryBudget;
pub use client::{Arrival, client_ip, ends};
pub use decide::{Refusal, RouteRequest, Routed, decide, write_secure_url};
pub use failure::{Failure, Side};
use hedge::RouteHedge;
pub use local::{LocalResponse, Refused};
use measure::Measures;
use overload::Overload;
pub use passthrough::Passthrough;
use preference::Wanted;
pub use preference::{AffinityCookie, key, named_endpoint, source_key};
pub use record::{Forwarding, Record};
pub use request::{Forwarded, Peer};
use request::{check_made, takes_trailers, target};
pub use request_id::RequestId;
pub use response::{Head, HeadKind};
use state::{Exchange, State};
use tenancy::Tenancy;
use values::write_host;
pub use values::{Kept, RequestValues, appended_lines, find_captures, write_location};
use waiting::WaitingRequests;

/// The exchanges of a worker and what all of them share.
pub struct Engine<D = Kernel> {
    /// Sockets, buffers, timers.
    pub ring: Ring<D>,
    /// Scratch buffer to which heads, and answers made here, are written before they are queued.
    pub scratch: Vec<u8>,
    /// The response head read last.
    pub response: ResponseHead,
    /// The trailer section read last.
    pub trailers: Fields,
    /// Connections to endpoints.
    pub upstreams: Upstreams,
    /// The counters of the worker.
    pub counters: Arc<Counters>,
    /// The access log.
    pub access_log: Recorder,
    /// The snapshot that new exchanges begin under.
    snapshot: SnapshotRef,
    /// An empty snapshot, which a tunnel holds instead of the one that it began under.
    empty_snapshot: SnapshotRef,
    balancer: Balancer,
    /// The quota leases of each tenant, by `TenantId`.
    tenancies: Vec<Option<Tenancy>>,
    /// By `RouteNumber`.
    budgets: Vec<RetryBudget>,
    /// By `RouteNumber`. None: the route asks for no second attempts.
    #[allow(clippy::vec_box, reason = "few routes have one")]
    hedges: Vec<Option<Box<RouteHedge>>>,
    exchanges: Slab<Exchange>,
    /// Position of the worker among all of them.
    worker: usize,
    overload: Overload,
    measures: Measures,
    /// By number of the cluster: its requests that wait for a place. None: it has no limits.
    waiting: Vec<Option<WaitingRequests>>,
    /// Clusters whose waiting requests are to be looked at in this turn.
    noted: Vec<u32>,
    /// Streams whose requests have waited, and have got a place or were refused.
    served: Vec<StreamId>,
    /// The forms of the path of the request that was routed last.
    paths: Forms,
    /// The forms of the path that was made for an origin last, if it was made of variables.
    made: Forms,
    /// The trace context of the request that was identified last.
    trace: TraceContext,
    /// What the groups of an expression have matched of it, for routes that ask for that.
    captures: Captures,
    /// Memory for what responses need of their requests.
    #[allow(clippy::vec_box, reason = "a box is given to an exchange and comes back")]
    spare: Vec<Box<Kept>>,
    /// The value of the field that an answer to a failure has: Allow for [`Failure::Method`], Location for [`Failure::NotSecure`].
    answer_field: Vec<u8>,
    /// The body of an answer, if it is a page of the operator's.
    page: Vec<u8>,
    /// The Date line for responses that have none; see [`Engine::update_date`].
    pub date: DateLine,
    /// The time of the ring's clock until which `date` is current.
    dated_until: Duration,
    /// By `EndpointId`: the time of the ring's clock until which no further failure of TLS is logged.
    tls_logged: Vec<Duration>,
    /// Workers that share the process-wide limits.
    workers: u32,
    /// Records, in the order in which exchanges ended.
    #[cfg(test)]
    pub finished: Vec<Record>,
}

/// The route of a request, and the cluster that was chosen for it.
#[derive(Clone, Debug)]
pub struct Decision {
    snapshot: SnapshotRef,
    route: RouteId,
    /// None: the route has no cluster; the answer is made here.
    cluster: Option<ClusterId>,
}

impl<D: Driver> Engine<D> {
    /// The engine of one of `workers` workers, with its first snapshot.
    #[must_use]
    pub fn new(ring: Ring<D>, snapshot: Arc<Snapshot>, worker: WorkerId, workers: usize, seed: u64) -> Self {
        let mut balancer = Balancer::new(usize::from(worker.0), seed);
        let empty_snapshot = SnapshotRef::new(Arc::new(Snapshot::empty()), &mut balancer);
        let mut engine = Self {
            date: DateLine::at(ring.wall_seconds()),
            ring,
            scratch: Vec::with_capacity(limits::HEAD_BUFFER_BYTES),
            response: ResponseHead::new(),
            trailers: Fields::new(),
            upstreams: Upstreams::default(),
            counters: Arc::default(),
            access_log: Recorder::default(),
            snapshot: empty_snapshot.clone(),
            empty_snapshot,
            balancer,
            tenancies: Vec::new(),
            budgets: Vec::new(),
            hedges: Vec::new(),
            exchanges: Slab::with_capacity(1024),
            worker: usize::from(worker.0),
            overload: Overload::default(),
            measures: Measures::default(),
            waiting: Vec::new(),
            noted: Vec::new(),
            served: Vec::new(),
            paths: Forms::with_capacity(limits::REQUEST_LINE_BYTES),
            made: Forms::with_capacity(0),
            trace: TraceContext::default(),
            captures: Captures::new(),
            spare: Vec::new(),
            answer_field: Vec::with_capacity(1024),
            page: Vec::new(),
            dated_until: Duration::ZERO,
            tls_logged: Vec::new(),
            workers: workers as u32,
            #[cfg(test)]
            finished: Vec::new(),
        };
        engine.apply(snapshot);
        engine
    }

    /// Makes `snapshot` the one that new exchanges begin under; returns the one before. Exchanges under way keep the snapshot that they
    /// began under. Allocates: tables grow here and never on the path of a request.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> SnapshotRef {
        let bound = snapshot.endpoint_bound();
        self.counters.version.set(snapshot.version);
        self.ring.set_batch_wait(snapshot.batch_wait);
        self.access_log.apply(snapshot.access_log.as_ref().map(|log| &log.rules), snapshot.slow);
        self.balancer.apply(&snapshot.clusters);
        self.budgets.resize_with(snapshot.route_bound().max(self.budgets.len()), RetryBudget::default);
        self.apply_hedges(&snapshot);
        self.tls_logged.resize(bound.max(self.tls_logged.len()), Duration::ZERO);
        self.apply_tenants(&snapshot);
        self.upstreams.apply(&mut self.ring, bound, |endpoint| snapshot.endpoint(endpoint).is_some());
        self.apply_measures(&snapshot);
        self.apply_limits(&snapshot);
        std::mem::replace(&mut self.snapshot, SnapshotRef::new(snapshot, &mut self.balancer))
    }

    /// Takes in that a turn has begun: for all that happens in it, it is the same time.
    pub fn begin_turn(&mut self) {
        self.balancer.turn(self.ring.clock().now());
    }

    /// The configuration that new exchanges begin under.
    #[must_use]
    pub fn snapshot(&self) -> &SnapshotRef {
        &self.snapshot
    }

    /// Begins the exchange of a request that came on `stream`: picks an endpoint, takes a connection, and writes the request head to the
    /// scratch buffer. None: the route has no cluster; the answer is made here.
    ///
    /// # Errors
    /// When the tenant is over its limit, no endpoint takes traffic, or no connection can be made.
    pub fn open(
        &mut self,
        decision: &Decision,
        asked: &RouteRequest<'_>,
        stream: StreamId,
    ) -> Result<Option<u32>, Failure> {
        let Some(cluster) = decision.cluster else { return Ok(None) };
        let RouteRequest { request, head, .. } = *asked;
        let route = &decision.snapshot.router.routes()[decision.route.index()];
        let priority = route.priority.of(&request.fields, head, asked.peer.trusted);
        self.admit(priority)?;
        let allowed = time_allowed(route, asked)?;
        let binds = http::binds_connection(head, &request.fields, FieldName::Authorization);
        let must_share = must_share(&decision.snapshot.clusters[cluster.index()], binds)?;
        let offer = self.offer(request, head, must_share)?;
        let tenant = self.take_place(&decision.snapshot, route.tenant)?;
        let due = allowed.map(|allowed| self.ring.clock().deadline(allowed));
        // The request is forwarded as HTTP/1.1, which requires Host. An HTTP/1.0 request may lack it.
        let named = !request.authority.is_empty();
        let fallback = if named { &b""[..] } else { decision.snapshot.clusters[cluster.index()].host.as_bytes() };
        let by_host = decision.snapshot.clusters[cluster.index()].asks_by_host();
        let written = self.write_request(decision, route, asked, offer.as_ref(), fallback, allowed);
        let kept = match written.and_then(|()| self.keep(&decision.snapshot, route, asked, by_host)) {
            Ok(kept) => kept,
            Err(failure) => {
                self.release_place(tenant);
                return Err(failure);
            }
        };
        let mut entry = Exchange {
            tenant,
            method: request.method,
            wanted: Wanted::of(
                &decision.snapshot.clusters[cluster.index()],
                asked,
                decision.snapshot.listener(asked.listener),
            ),
            binds,
            limited: route.limits != RouteLimits::NONE,
            timeout: route.timeout,
            due,
            deadline: due,
            offer: offer.unwrap_or_default(),
            is_call: is_call(&decision.snapshot.clusters[cluster.index()], request, head),
            priority,
            kept,
            span: self.trace.spans().0,
            ..Exchange::new(stream, &decision.snapshot, route, cluster, self.ring.clock().now())
        };
        if let Some(hedge) = route.hedge {
            entry.hedging = self.hedging(hedge, &entry);
        }
        if route.retry.attempts > 0
            && let Some(budget) = self.budgets.get_mut(decision.snapshot.route_number(decision.route).0 as usize)
        {
            budget.count(self.ring.clock().now());
        }
        let id = self.exchanges.insert(entry) as u32;
        if decision.snapshot.clusters[cluster.index()].proxy_protocol.is_some() {
            let ends = ends(asked.peer, asked.arrival, decision.snapshot.listener(asked.listener));
            self.upstreams.introduce(stream.connection, ends);
        }
        if let Err(failure) = self.attempt(id, false) {
            self.close(id, false);
            return Err(failure);
        }
        self.counters.exchanges.set(self.exchanges.len() as u64);
        Ok(Some(id))
    }

    fn write_request(
        &mut self,
        decision: &Decision,
        route: &Route,
        asked: &RouteRequest<'_>,
        offer: Option<&UpgradeOffer>,
        fallback: &[u8],
        allowed: Option<Duration>,
    ) -> Result<(), Failure> {
        let RouteRequest { request, head, .. } = *asked;
        let received = request.path(head);
        find_captures(&mut self.captures, route, self.paths.normal(received));
        let Self { paths, captures, scratch, trace, .. } = self;
        scratch.clear();
        let upgrade = request.upgrade.filter(|_| offer.is_some()).map(|protocols| protocols.of(head));
        let values = RequestValues { asked: *asked, snapshot: &decision.snapshot, route, paths, captures };
        let left = if route.deadline { allowed.into_iter().chain(route.timeout).min() } else { None };
        let over_http2 = decision.cluster.is_some_and(|id| decision.snapshot.clusters[id.index()].http2.is_some());
        let takes_trailers = over_http2 && takes_trailers(request, head);
        let key = offer.and_then(|offer| offer.key);
        Forwarded { values, upgrade, key, fallback, left, trace, takes_trailers }.write(scratch);
        let too_large = asked.tls.is_some_and(|tls| tls.cert_too_large);
        if scratch.len() > limits::FORWARDED_HEAD_BYTES || too_large {
            return Err(Failure::Request(http::RequestError::Fields(http::FieldError::TooLarge)));
        }
        let rewrite = route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        match rewrite.filter(|rewrite| rewrite.has_variables() && request.method != Method::Connect) {
            Some(_) => {
                let rules = decision.snapshot.listener(asked.listener).path_rules();
                check_made(target(&self.scratch), rules, &mut self.made).map_err(Failure::Path)
            }
            None => Ok(()),
        }
    }

    /// Takes in that a part of the request was queued, or its end if `whole`: from then on the origin owes a response.
    pub fn request_sent(&mut self, id: u32, whole: bool) {
        if whole {
            let exchange = &mut self.exchanges[id as usize];
            exchange.request_done = true;
            exchange.asked = self.ring.clock().now();
            if let Some(hedging) = &mut exchange.hedging {
                hedging.ask(self.ring.clock(), true);
            }
            let whole_time = exchange.timeout.map(|timeout| self.ring.clock().deadline(timeout));
            exchange.deadline = whole_time.into_iter().chain(exchange.due).min();
            self.owe(id);
        }
        self.arm(id);
    }

    /// Whether the exchange is to be given up because its client has sent FIN: the cluster asks for it, and no response has begun.
    #[must_use]
    pub fn aborts_on_close(&self, id: u32) -> bool {
        let exchange = &self.exchanges[id as usize];
        exchange.stage() == Stage::Waiting && exchange.snapshot.clusters[exchange.cluster.index()].abort_on_close
    }

    /// Takes in that a client connection has ended: no other client may use the upstream connection on which it has logged in.
    pub fn unbind(&mut self, downstream: u32) {
        self.upstreams.unbind(&mut self.ring, downstream);
    }

    /// Ends the exchange and returns how it was forwarded. `complete`: request and response ended where they should, so that the
    /// connection may be kept.
    pub fn close(&mut self, id: u32, complete: bool) -> Option<Forwarding> {
        self.end_second(id, HedgeOutcome::Lost);
        let mut exchange = self.exchanges.try_remove(id as usize)?;
        exchange.replay.begin(&mut self.ring.buffers, false);
        self.disarm(id, exchange.is_timed());
        self.counters.exchanges.set(self.exchanges.len() as u64);
        self.release_place(exchange.tenant);
        match &mut exchange.state {
            State::Attempt(_) => self.release(&exchange, complete),
            State::Waiting(wait) => {
                wait.request.clear(self.ring.buffers.pieces());
                let number = exchange.place.as_ref().map(|place| place.cluster.number());
                if let Some(link) = wait.link {
                    exchange.forwarding.end_queue(link.waited(self.ring.clock().now()));
                    self.remove_waiting(number, exchange.priority, link, false);
                }
            }
            State::Between | State::Failed(_) => {}
        }
        if let Some(probe) = exchange.tries.probe {
            match exchange.state {
                State::Attempt(_) => self.balancer.abandon_probe(probe),
                State::Waiting(_) | State::Between | State::Failed(_) => self.balancer.end_probe(probe, None),
            }
        }
        self.give_places(exchange.place.take());
        self.spare(exchange.kept.take());
        self.access_log.put_back_attempts(exchange.attempts.take());
        Some(exchange.forwarding)
    }

    /// Gives the connection of the last attempt back, or closes it.
    fn release(&mut self, exchange: &Exchange, complete: bool) {
        let Some(Attempt { endpoint, connection: index, stage, owes, .. }) = exchange.attempt().copied() else {
            return;
        };
        if owes {
            self.balancer.settle(endpoint);
        }
        self.balancer.end(endpoint);
        if !complete && stage == Stage::Tunnel {
            // A tunnel that breaks off is reset, so that the origin does not take what it has received for all that was sent.
            return self.upstreams.abort(&mut self.ring, index);
        }
        if !complete || !exchange.request_done || stage == Stage::Tunnel {
            return self.upstreams.discard(&mut self.ring, index);
        }
        let Some((cluster, _)) = self.snapshot.endpoint(endpoint) else {
            // The current snapshot does not have the endpoint.
            return self.upstreams.discard(&mut self.ring, index);
        };
        if cluster.limits.counts_connections() && !self.upstreams.is_counted(index) {
            // It is from before there was a limit.
            return self.upstreams.discard(&mut self.ring, index);
        }
        let share = cluster.max_idle.div_ceil(self.workers);
        if exchange.binds && !self.upstreams.get(index).is_some_and(Upstream::is_stream) {
            self.upstreams.bind(&mut self.ring, index, exchange.stream.connection);
        }
        self.upstreams.release(&mut self.ring, index, share, cluster.idle);
    }

    /// Releases the snapshot of a tunnel whose response head was sent: the tunnel needs nothing else of it.
    pub fn detach(&mut self, id: u32) {
        let exchange = &mut self.exchanges[id as usize];
        let endpoint = exchange.attempt().and_then(|attempt| exchange.snapshot.number(attempt.endpoint));
        exchange.numbers = [endpoint, exchange.snapshot.route_hold(exchange.route)];
        exchange.snapshot = self.empty_snapshot.clone();
        exchange.limited = false;
    }

    /// The limits that the route of an exchange has of its own.
    #[must_use]
    #[inline]
    pub fn limits(&self, id: u32) -> &RouteLimits {
        self.exchanges.get(id as usize).map_or(&RouteLimits::NONE, Exchange::limits)
    }

    /// Whether the client may be silent for as long as it likes: it is a call of gRPC, and its route says nothing else.
    #[must_use]
    pub fn may_be_silent(&self, id: u32) -> bool {
        self.exchanges[id as usize].is_call && self.limits(id).body_timeout.is_none()
    }

    /// How long a tunnel may be silent in both directions.
    #[must_use]
    pub fn tunnel_idle(&self, id: u32) -> Duration {
        Duration::from_millis(self.exchanges[id as usize].tunnel_idle.into())
    }

    /// The route of an exchange.
    #[must_use]
    pub fn route(&self, id: u32) -> RouteOf {
        let exchange = &self.exchanges[id as usize];
        RouteOf { snapshot: exchange.snapshot.clone(), route: exchange.route, cluster: Some(exchange.cluster) }
    }

    /// Takes out what the response of an exchange needs of its request.
    #[must_use]
    pub fn take_kept(&mut self, id: u32) -> Option<Box<Kept>> {
        self.exchanges[id as usize].kept.take()
    }

    /// Gives it back.
    pub fn put_kept(&mut self, id: u32, kept: Option<Box<Kept>>) {
        if kept.is_some() {
            self.exchanges[id as usize].kept = kept;
        }
    }

    /// 32 uniformly distributed random bits; not for secrets.
    pub fn random(&mut self) -> u32 {
        self.balancer.random()
    }

    /// Puts the content of the scratch buffer in front of `body` and queues both.
    ///
    /// # Errors
    /// When no buffer is free.
    pub fn queue_head(&mut self, out: &mut Queue, body: Option<Lease>) -> Result<(), Failure> {
        prepend_head(&mut self.ring.buffers, out, &self.scratch, body).map_err(|_| Failure::Buffers)
    }

    /// Number of exchanges under way.
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

/// Whether a request is a call of gRPC: it says so, and goes over HTTP/2, without which there is none.
fn is_call(cluster: &Cluster, request: &RequestHead, head: &[u8]) -> bool {
    let content_type = request.fields.get(FieldName::ContentType);
    cluster.http2.is_some() && content_type.is_some_and(|field| http::is_grpc(field.value.of(head)))
}

/// Whether requests to a cluster can only be sent on streams of connections that others use, too: they have no other protocol to switch to,
/// and a login that holds for the connection (`binds`) is refused.
fn must_share(cluster: &Cluster, binds: bool) -> Result<bool, Failure> {
    let must_share = cluster.http2.is_some_and(|http2| !http2.is_negotiated);
    if must_share && binds { Err(Failure::Login) } else { Ok(must_share) }
}

/// How much time the client of a request allows, if its route keeps to that and the peer is trusted.
fn time_allowed(route: &Route, asked: &RouteRequest<'_>) -> Result<Option<Duration>, Failure> {
    if !route.deadline || !asked.peer.trusted {
        return Ok(None);
    }
    let allowed = deadline::allowed(asked.request, asked.head);
    if allowed.is_some_and(|allowed| allowed.is_zero()) { Err(Failure::ResponseTimeout) } else { Ok(allowed) }
}

/// A route held together with its snapshot.
#[derive(Debug)]
pub struct RouteOf {
    snapshot: SnapshotRef,
    route: RouteId,
    /// The cluster that was chosen.
    cluster: Option<ClusterId>,
}

impl RouteOf {
    /// The listener under the route's snapshot, which has it.
    #[must_use]
    pub fn listener(&self, listener: ListenerId) -> &ListenerSpec {
        self.snapshot.listener(listener)
    }

    /// Its number, which is the same under later snapshots.
    #[must_use]
    pub fn number(&self) -> RouteNumber {
        self.snapshot.route_number(self.route)
    }

    /// Number in metrics of the cluster that was chosen; `telemetry::NO_CLUSTER`: none was.
    #[must_use]
    pub fn cluster_series(&self) -> u32 {
        let cluster = self.cluster.and_then(|cluster| self.snapshot.clusters.get(cluster.index()));
        cluster.map_or(NO_CLUSTER, |cluster| cluster.state.series())
    }
}

impl std::ops::Deref for RouteOf {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.snapshot.router.routes()[self.route.index()]
    }
}
