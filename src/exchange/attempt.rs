//! Attempts of an exchange, each at one endpoint: choosing it, and taking a connection. Not here: another attempt after one that has
//! failed (`recover`).

use std::time::Duration;

use super::{Engine, Exchange, Failure, State};
use crate::cluster::{Cluster, Endpoint};
use crate::id::EndpointId;
use crate::limits;
use crate::runtime::{Stall, Tick};
use crate::tls::Client;
use crate::upstream::{AcquireOptions, Destination, Sharing};
use crate::uring::Driver;

/// One attempt at one endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: EndpointId,
    /// Slot of the connection to it.
    pub(super) connection: u32,
    /// The addresses of the endpoint that were tried.
    pub(super) round: Round,
    pub(super) stage: Stage,
    /// Whether the endpoint owes the answer: it has the whole request, and has not begun the response.
    pub(super) owes: bool,
    /// Whether what it sends is a copy of what the exchange holds of the request.
    pub(super) sends_copy: bool,
    /// 1 for the first one of its exchange.
    pub(super) number: u8,
    /// When it began.
    pub(super) began: Duration,
    /// When connecting began.
    pub(super) since: Tick,
    /// Since when the origin has taken no byte although some wait to be sent to it.
    pub(super) sending: Stall,
    /// Since when the origin has sent no byte of a response that it owes.
    pub(super) answering: Stall,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No final response head yet.
    Waiting,
    /// The response body is being read.
    Body,
    /// Bytes are passed in both directions without being parsed.
    Tunnel,
}

/// A round through the addresses of an endpoint, in cyclic order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Position of the address that was tried first.
    first: u8,
    /// Number of addresses that could not be connected to.
    pub(super) failed: u8,
}

impl Round {
    /// Position of the next address of an endpoint that has so many.
    fn position(self, addresses: usize) -> usize {
        (usize::from(self.first) + usize::from(self.failed)) % addresses
    }
}

impl<D: Driver> Engine<D> {
    /// Begins an attempt: over the upstream connection that belongs to the client's connection, if there is one to an endpoint of this
    /// cluster, else at an endpoint that the cluster picks. `fresh`: over a new connection in any case.
    ///
    /// Where the cluster limits what is under way, and there is no place, the exchange waits for one.
    pub(super) fn attempt(&mut self, id: u32, fresh: bool) -> Result<(), Failure> {
        if self.has_to_wait(id) || !self.try_attempt(id, fresh)? {
            return self.wait_for_place(id, fresh);
        }
        Ok(())
    }

    /// Begins an attempt. False: there is no place for one, and nothing has changed.
    pub(super) fn try_attempt(&mut self, id: u32, fresh: bool) -> Result<bool, Failure> {
        if !self.take_cluster_place(id) {
            return Ok(false);
        }
        let replay = self.keeps_request(id, fresh);
        let exchange = &mut self.exchanges[id as usize];
        let snapshot = &exchange.snapshot;
        let (cluster, method) = (exchange.cluster, exchange.method);
        let upgrades = !exchange.offer.is_empty();
        let bound = self.upstreams.bound_to(exchange.stream.connection).filter(|_| !fresh);
        // A login is worth more than the state of its endpoint; a PROXY header can be written anew.
        let serves = |of: &Cluster, endpoint: &Endpoint| of.proxy_protocol.is_none() || endpoint.takes_traffic();
        let leads = |(_, endpoint): &(u32, EndpointId)| {
            snapshot.endpoint(*endpoint).is_some_and(|(of, endpoint)| of.id == cluster && serves(of, endpoint))
        };
        let host = exchange.tls_host();
        let named = |(index, _): &(u32, EndpointId)| self.upstreams.get(*index).is_some_and(|it| it.is_named(host));
        if let Some((connection, endpoint)) = bound.filter(leads).filter(named)
            && self.take_endpoint_place(id, endpoint)
        {
            self.upstreams.reuse(&mut self.ring, connection, id, replay);
            self.begin_attempt(id, connection, endpoint, Round::default(), replay);
            return Ok(true);
        }
        let Some((endpoint, round)) = self.pick(id, fresh)? else { return Ok(false) };
        self.attempt_from(id, endpoint, round, AcquireOptions { fresh, replay, method, upgrades })
    }

    /// Whether what is sent of the request is kept, because it may be sent again: if a reused connection turns out to be stale, or by the
    /// route's retries. While buffers are scarce, none is pinned for that, which is rarely needed.
    pub(super) fn keeps_request(&self, id: u32, fresh: bool) -> bool {
        let exchange = &self.exchanges[id as usize];
        // Over TLS, what was not sent cannot be taken back, but has to be kept.
        let sealed = exchange.own_cluster().is_some_and(|it| it.tls.is_some());
        let stale = !fresh && (exchange.method.is_idempotent() || sealed);
        // Over HTTP/2, an endpoint may say of any request that it has not processed it.
        let refusable = exchange.own_cluster().is_some_and(|it| it.http2.is_some());
        let wanted = stale || refusable || exchange.may_retry() || exchange.hedging.is_some();
        wanted && !self.ring.buffers.is_scarce()
    }

    /// The endpoint that the cluster picks, and a round through its addresses that begins with the preferred one. None: no endpoint has
    /// a place.
    fn pick(&mut self, id: u32, fresh: bool) -> Result<Option<(EndpointId, Round)>, Failure> {
        let exchange = &self.exchanges[id as usize];
        let (tried, probe) = (&exchange.tries.failed, exchange.may_retry());
        let preference = exchange.wanted.preference;
        let picked = exchange.snapshot.pick(exchange.cluster, tried, preference, probe, &mut self.balancer);
        let endpoint = picked.ok_or(Failure::NoEndpoint)?;
        if let Some(probe) = self.balancer.probe() {
            self.end_probe(id, None);
            self.exchanges[id as usize].tries.probe = Some(probe);
        }
        let found = if self.take_places_at(id, endpoint, fresh) { Some(endpoint) } else { self.pick_free(id, fresh) };
        if found.is_none() {
            self.end_probe(id, None);
        }
        Ok(found.map(|endpoint| (endpoint, Round { first: self.upstreams.preferred(endpoint), failed: 0 })))
    }

    /// An endpoint with a place, where the one that was picked has none. Where some were not tried, it is one of those.
    #[cold]
    fn pick_free(&mut self, id: u32, fresh: bool) -> Option<EndpointId> {
        let anywhere = !self.has_untried(id);
        let (snapshot, cluster, tried) = {
            let exchange = &self.exchanges[id as usize];
            (exchange.snapshot.clone(), exchange.cluster, exchange.tries.failed)
        };
        let count = snapshot.clusters.get(cluster.index())?.endpoints.len();
        let from = self.balancer.random() as usize % count.max(1);
        (0..count).map(|step| (from + step) % count).find_map(|position| {
            let endpoint = snapshot.used_endpoint(cluster, position, &mut self.balancer)?;
            let may = anywhere || !tried.contains(endpoint);
            (may && self.take_places_at(id, endpoint, fresh)).then_some(endpoint)
        })
    }

    /// Begins an attempt at an endpoint, or at another one if the machine lacks the family of every address that is left of `round`. The
    /// exchange has a place of the endpoint. False: no other endpoint has one.
    pub(super) fn attempt_from(
        &mut self,
        id: u32,
        mut endpoint: EndpointId,
        mut round: Round,
        options: AcquireOptions,
    ) -> Result<bool, Failure> {
        loop {
            let begun = self.attempt_at(id, endpoint, round, options);
            if begun != Err(Failure::Connect) || !self.count_unconnected(id, endpoint) || !self.has_untried(id) {
                return begun.map(|()| true);
            }
            self.give_endpoint_place(id);
            let Some(next) = self.pick(id, options.fresh)? else { return Ok(false) };
            (endpoint, round) = next;
        }
    }

    /// Begins an attempt at an endpoint, over a connection to the next address of `round`. [`Failure::Connect`]: the machine lacks the
    /// family of every address that is left.
    fn attempt_at(
        &mut self,
        id: u32,
        endpoint: EndpointId,
        mut round: Round,
        options: AcquireOptions,
    ) -> Result<(), Failure> {
        let exchange = &self.exchanges[id as usize];
        let (cluster, spec) = exchange.snapshot.endpoint(endpoint).ok_or(Failure::NoEndpoint)?;
        let (tls, sharing) = self.spoken(id, endpoint, cluster);
        let tls = tls.zip(spec.tls_name.as_ref());
        let downstream = exchange.stream.connection;
        let header = cluster.proxy_protocol.map(|version| self.upstreams.header(version, downstream));
        let mut closed = false;
        let connection = loop {
            let position = round.position(spec.addresses());
            let (address, host, header) = (spec.address_at(position), exchange.tls_host(), header.as_ref());
            let destination = Destination { address, position, tls, host, header, sharing };
            match self.upstreams.acquire(&mut self.ring, endpoint, destination, id, options) {
                Ok(connection) => break connection,
                // A machine that lacks IPv6 is treated like a network that lacks it: the next address is tried.
                Err(error) if error.is_of_family() => {
                    round.failed += 1;
                    if usize::from(round.failed) >= spec.addresses() {
                        return Err(Failure::Connect);
                    }
                }
                Err(error) if error.is_of_buffers() => return Err(Failure::Buffers),
                // No descriptor is left: an idle connection to some endpoint is closed, and what this turn has closed, once.
                Err(_) if !closed => {
                    self.upstreams.close_idle(&mut self.ring);
                    self.ring.submit_closes();
                    closed = true;
                }
                Err(_) => return Err(Failure::Descriptors),
            }
        };
        if header.is_some() {
            // It tells of this client.
            self.upstreams.bind(&mut self.ring, connection, downstream);
        }
        // A fresh connection cannot be stale. A stream can be refused, whatever its connection.
        let reused = self.upstreams.get(connection).is_some_and(|it| it.reused || it.is_stream());
        let exchange = &self.exchanges[id as usize];
        let keeps = options.replay && (reused || exchange.may_retry() || exchange.hedging.is_some());
        self.begin_attempt(id, connection, endpoint, round, keeps);
        Ok(())
    }

    /// How an endpoint of a cluster is spoken to for an exchange: the settings of TLS, and how connections of HTTP/2 are shared.
    pub(super) fn spoken<'a>(
        &self,
        id: u32,
        endpoint: EndpointId,
        cluster: &'a Cluster,
    ) -> (Option<&'a Client>, Option<Sharing>) {
        let exchange = &self.exchanges[id as usize];
        // A login of the connection, and a protocol that is switched to, are for a connection that nobody shares.
        let alone = exchange.binds || !exchange.offer.is_empty();
        let tls = cluster.tls_http1.as_ref().filter(|_| alone).or(cluster.tls.as_ref());
        let http2 = cluster.http2.filter(|http2| !(alone && http2.is_negotiated));
        let sharing = http2.map(|http2| Sharing {
            is_negotiated: http2.is_negotiated,
            streams: http2.streams,
            connections: http2.connections.div_ceil(self.workers),
            is_counted: cluster.limits.counts_connections(),
            connect_timeout: Self::connect_timeout(exchange, endpoint),
            idle: cluster.idle,
        });
        (tls, sharing)
    }

    fn begin_attempt(&mut self, id: u32, connection: u32, endpoint: EndpointId, round: Round, replay: bool) {
        let exchange = &mut self.exchanges[id as usize];
        exchange.replay.begin(&mut self.ring.buffers, replay);
        if !exchange.never_indexed.is_empty() {
            self.upstreams.send_never_indexed(connection, exchange.never_indexed);
        }
        if exchange.request_done {
            exchange.asked = self.ring.clock().now();
            if let Some(hedging) = &mut exchange.hedging {
                hedging.ask(self.ring.clock(), exchange.forwarding.attempts == 0);
            }
        }
        exchange.forwarding.endpoint = Some(endpoint);
        exchange.forwarding.attempts = exchange.forwarding.attempts.saturating_add(1);
        exchange.state = State::Attempt(Attempt {
            endpoint,
            connection,
            round,
            stage: Stage::Waiting,
            owes: false,
            sends_copy: false,
            number: exchange.forwarding.attempts,
            began: self.ring.clock().now(),
            since: self.ring.clock().tick(),
            sending: Stall::default(),
            answering: Stall::default(),
        });
        if self.exchanges[id as usize].tries.probe.is_some_and(|probe| probe.endpoint != endpoint) {
            self.end_probe(id, None);
        }
        self.balancer.begin(endpoint);
        self.owe(id);
        // On an established connection the origin owes nothing before something was sent.
        if self.upstreams.get(connection).is_some_and(|connection| !connection.is_connected()) {
            self.exchanges[id as usize].connecting = Some(self.ring.clock().now());
            self.arm(id);
        }
    }

    /// Has the endpoint owe the answer, if it has the whole request.
    #[inline]
    pub(super) fn owe(&mut self, id: u32) {
        let exchange = &mut self.exchanges[id as usize];
        if let (true, State::Attempt(attempt)) = (exchange.request_done, &mut exchange.state)
            && !attempt.owes
            && attempt.stage == Stage::Waiting
        {
            attempt.owes = true;
            self.balancer.owe(attempt.endpoint);
        }
    }

    /// How long connecting to one address may take. All addresses of a name share the time-out of the cluster.
    pub(super) fn connect_timeout(exchange: &Exchange, endpoint: EndpointId) -> Duration {
        let Some((cluster, endpoint)) = exchange.snapshot.endpoint(endpoint) else { return Duration::ZERO };
        let share = cluster.connect_timeout / endpoint.addresses() as u32;
        share.max(limits::ATTEMPT_MIN).min(cluster.connect_timeout)
    }
}
