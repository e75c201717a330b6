//! Attempts of an exchange, each at one endpoint: taking a connection, and another attempt where it is without risk. Not here: retries
//! that a route asks for.

use std::time::Duration;

use super::{Engine, Exchange, Failure, State};
use crate::buffer::Queue;
use crate::cluster::Tried;
use crate::http::Method;
use crate::id::EndpointId;
use crate::limits;
use crate::runtime::{Stall, Tick};
use crate::tls;
use crate::upstream::{AcquireOptions, Destination, End, Upstream};
use crate::uring::{Driver, Fault, Ring, SocketId};

/// Number of endpoints that one exchange tries to connect to.
const CONNECT_ATTEMPTS: u8 = 3;

/// One attempt at one endpoint.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: EndpointId,
    /// Slot of the connection to it.
    pub(super) connection: u32,
    /// The addresses of the endpoint that were tried.
    round: Round,
    pub(super) stage: Stage,
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
struct Round {
    /// Position of the address that was tried first.
    first: u8,
    /// Number of addresses that could not be connected to.
    failed: u8,
}

impl Round {
    /// Position of the next address of an endpoint that has so many.
    fn position(self, addresses: usize) -> usize {
        (usize::from(self.first) + usize::from(self.failed)) % addresses
    }
}

/// The attempts of an exchange before the one under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    /// Endpoints that could not be connected to.
    unconnected: Tried,
    /// Number of attempts that ended because an endpoint could not be connected to.
    count: u8,
    /// The request was sent again on a fresh connection, which happens once at most.
    replayed: bool,
}

impl Tries {
    /// Whether a request may be sent once more because its connection, which an earlier exchange used, ended without a byte of
    /// response.
    fn may_replay<D: Driver>(&self, ring: &Ring<D>, connection: &Upstream, end: End, method: Method) -> bool {
        let stale = connection.reused && !connection.answered && end != End::ResponseTimeout;
        stale && !self.replayed && (method.is_idempotent() || connection.is_untouched(ring))
    }
}

/// Where the next attempt of an exchange is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At any endpoint.
    Anywhere,
    /// At the same endpoint, under its next address.
    NextAddress(EndpointId, Round),
    /// At an endpoint that was not tried.
    Elsewhere,
}

impl<D: Driver> Engine<D> {
    /// Begins an attempt: over the upstream connection that belongs to the client's connection, if there is one to an endpoint of this
    /// cluster, else at an endpoint that the cluster picks. `fresh`: over a new connection in any case.
    pub(super) fn attempt(&mut self, id: u32, fresh: bool) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let snapshot = &exchange.snapshot;
        let cluster = exchange.cluster;
        // While buffers are scarce, none is pinned for a replay, which is rarely needed.
        let replay = exchange.method.is_idempotent() && !self.ring.buffers.is_scarce();
        let leads = |endpoint| snapshot.endpoint(endpoint).is_some_and(|(of, _)| of.id == cluster);
        let bound = if fresh {
            None
        } else {
            self.upstreams.acquire_bound(&mut self.ring, exchange.stream.connection, id, replay, leads)
        };
        if let Some((connection, endpoint)) = bound {
            self.begin_attempt(id, connection, endpoint, Round::default(), replay);
            return Ok(());
        }
        let (endpoint, round) = self.pick(id)?;
        self.attempt_from(id, endpoint, round, AcquireOptions { fresh, replay })
    }

    /// The endpoint that the cluster picks, and a round through its addresses that begins with the preferred one.
    fn pick(&mut self, id: u32) -> Result<(EndpointId, Round), Failure> {
        let exchange = &self.exchanges[id as usize];
        let picked = exchange.snapshot.pick(exchange.cluster, &exchange.tries.unconnected, &mut self.balancer);
        let endpoint = picked.ok_or(Failure::NoEndpoint)?;
        Ok((endpoint, Round { first: self.upstreams.preferred(endpoint), failed: 0 }))
    }

    /// Begins an attempt at an endpoint, or at another one if the machine lacks the family of every address that is left of `round`.
    fn attempt_from(
        &mut self,
        id: u32,
        mut endpoint: EndpointId,
        mut round: Round,
        options: AcquireOptions,
    ) -> Result<(), Failure> {
        loop {
            let begun = self.attempt_at(id, endpoint, round, options);
            if begun != Err(Failure::Connect)
                || !self.count_unconnected(id, endpoint)
                || !self.exchanges[id as usize].has_untried()
            {
                return begun;
            }
            (endpoint, round) = self.pick(id)?;
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
        let exchange = &mut self.exchanges[id as usize];
        let (cluster, spec) = exchange.snapshot.endpoint(endpoint).ok_or(Failure::NoEndpoint)?;
        let tls = cluster.tls.as_ref().zip(spec.tls_name.as_ref());
        let mut closed = false;
        let connection = loop {
            let position = round.position(spec.addresses());
            let destination = Destination { address: spec.address_at(position), position, tls };
            match self.upstreams.acquire(&mut self.ring, endpoint, destination, id, options) {
                Ok(connection) => break connection,
                // A machine that lacks IPv6 is treated like a network that lacks it: the next address is tried.
                Err(error) if error.is_of_family() => {
                    round.failed += 1;
                    if usize::from(round.failed) >= spec.addresses() {
                        return Err(Failure::Connect);
                    }
                }
                // No descriptor is left: an idle connection to some endpoint is closed, and what this turn has closed, once.
                Err(_) if !closed => {
                    self.upstreams.close_idle(&mut self.ring);
                    self.ring.submit_closes();
                    closed = true;
                }
                Err(_) => return Err(Failure::Descriptors),
            }
        };
        // A fresh connection cannot be stale, so that nothing is kept for a replay.
        let reused = self.upstreams.get(connection).is_some_and(|connection| connection.reused);
        self.begin_attempt(id, connection, endpoint, round, options.replay && reused);
        Ok(())
    }

    fn begin_attempt(&mut self, id: u32, connection: u32, endpoint: EndpointId, round: Round, replay: bool) {
        let exchange = &mut self.exchanges[id as usize];
        exchange.replay.begin(&mut self.ring.buffers, replay);
        exchange.forwarding.endpoint = Some(endpoint);
        exchange.forwarding.attempts = exchange.forwarding.attempts.saturating_add(1);
        exchange.state = State::Attempt(Attempt {
            endpoint,
            connection,
            round,
            stage: Stage::Waiting,
            since: self.ring.clock().tick(),
            sending: Stall::default(),
            answering: Stall::default(),
        });
        self.balancer.begin(endpoint);
        // On an established connection the origin owes nothing before something was sent.
        if self.upstreams.get(connection).is_some_and(|connection| !connection.is_connected()) {
            self.arm(id);
        }
    }

    /// How long connecting to one address may take. All addresses of a name share the time-out of the cluster.
    pub(super) fn connect_timeout(exchange: &Exchange, endpoint: EndpointId) -> Duration {
        let Some((cluster, endpoint)) = exchange.snapshot.endpoint(endpoint) else { return Duration::ZERO };
        let share = cluster.connect_timeout / endpoint.addresses() as u32;
        share.max(limits::ATTEMPT_MIN).min(cluster.connect_timeout)
    }

    /// The attempt ended before a response: begins another one if the request cannot be carried out twice by that. Else returns why
    /// there will be no response.
    pub(super) fn recover(&mut self, id: u32, end: End) -> Result<(), Failure> {
        if self.reclaims(id, end) {
            return Ok(());
        }
        let failure = cause(end);
        let expired = self.has_passed(self.exchange_deadline(id));
        let Some(place) = self.free_place(id, end) else { return Err(self.fail(id, failure)) };
        let held = if expired { None } else { self.take_request(id, place) };
        let Some(request) = held else { return Err(self.fail(id, failure)) };
        self.repeat(id, request, place).map_err(|again| {
            // The cause of the last attempt's failure tells the operator more than that no endpoint is left.
            let exhausted = place != Place::Anywhere && again == Failure::NoEndpoint;
            self.fail(id, if exhausted { failure } else { again })
        })
    }

    /// Whether the kernel still reads a part of a request that is to be sent again. It is asked to stop, and the completion of the send
    /// leads to [`Engine::recover`] once more: only then is it known what was sent.
    fn reclaims(&mut self, id: u32, end: End) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let exchange = &self.exchanges[id as usize];
        let socket = connection.transport.socket();
        let waits = exchange.tries.may_replay(&self.ring, connection, end, exchange.method)
            && connection.transport.session().is_none()
            && self.ring.is_sending(socket);
        if waits {
            self.ring.cancel_send(socket);
        }
        waits
    }

    /// Where another attempt can be made without the risk that the request is carried out twice.
    ///
    /// - After connecting failed, TLS included: the next address of the endpoint, then another endpoint, because nothing was sent. A
    ///   certificate that is not believed stands for the whole endpoint.
    /// - After a reused connection ended without a byte of response: one fresh connection, because an endpoint may close an idle
    ///   connection at any time (RFC 9112 section 9.3.1). The method has to be idempotent, and the whole request still held, or nothing
    ///   of it was sent.
    fn free_place(&mut self, id: u32, end: End) -> Option<Place> {
        let exchange = &mut self.exchanges[id as usize];
        let State::Attempt(attempt) = &mut exchange.state else { return None };
        let connection = self.upstreams.get(attempt.connection)?;
        let endpoint = attempt.endpoint;
        if connection.is_connected() {
            let free = exchange.tries.may_replay(&self.ring, connection, end, exchange.method);
            exchange.tries.replayed |= free;
            return if free { Some(Place::Anywhere) } else { None };
        }
        if end == End::Tls(tls::Error::Buffers) {
            return None;
        }
        attempt.round.failed += 1;
        let addresses = exchange.snapshot.endpoint(endpoint).map_or(0, |(_, endpoint)| endpoint.addresses());
        if usize::from(attempt.round.failed) < addresses && end != End::Tls(tls::Error::Certificate) {
            return Some(Place::NextAddress(endpoint, attempt.round));
        }
        self.count_unconnected(id, endpoint).then_some(Place::Elsewhere)
    }

    /// Counts that no address of an endpoint could be connected to. Returns whether another endpoint may be tried.
    fn count_unconnected(&mut self, id: u32, endpoint: EndpointId) -> bool {
        self.counters.connect_failures.add(1);
        let tries = &mut self.exchanges[id as usize].tries;
        tries.unconnected.insert(endpoint);
        tries.count += 1;
        tries.count < CONNECT_ATTEMPTS
    }

    /// The whole request so far, sent or not. None when a part of it is no longer held, or the kernel is still reading it.
    fn take_request(&mut self, id: u32, place: Place) -> Option<Queue> {
        let index = self.exchanges[id as usize].connection().ok()?;
        let connection = self.upstreams.get(index)?;
        if connection.transport.session().is_some() {
            // What the ring still holds is sealed.
            return match place {
                Place::Anywhere => self.exchanges[id as usize].replay.take(),
                Place::NextAddress(..) | Place::Elsewhere => self.upstreams.take_waiting(index),
            };
        }
        let socket = connection.transport.socket();
        let taken = connection.transport.taken(&self.ring);
        let held = match place {
            Place::Anywhere if connection.is_untouched(&self.ring) => Queue::default(),
            Place::Anywhere => self.exchanges[id as usize].replay.take()?,
            Place::NextAddress(..) | Place::Elsewhere if taken == 0 => Queue::default(),
            // The kernel has taken a part of the request, which was not kept.
            Place::NextAddress(..) | Place::Elsewhere => return None,
        };
        self.join_unsent(socket, held)
    }

    /// Appends the bytes that were queued and not sent to `held`.
    fn join_unsent(&mut self, socket: SocketId, mut held: Queue) -> Option<Queue> {
        let Some(mut unsent) = self.ring.take_unsent(socket) else {
            held.clear(self.ring.buffers.pieces());
            return None;
        };
        held.append(self.ring.buffers.pieces(), &mut unsent);
        Some(held)
    }

    /// Ends the attempt and makes another one with the same request.
    fn repeat(&mut self, id: u32, mut request: Queue, place: Place) -> Result<(), Failure> {
        self.end_attempt(id);
        // A fresh connection cannot be stale, so that nothing is kept for a replay.
        let options = AcquireOptions { fresh: true, replay: false };
        let begun = match place {
            Place::NextAddress(endpoint, round) => self.attempt_from(id, endpoint, round, options),
            Place::Elsewhere if !self.exchanges[id as usize].has_untried() => Err(Failure::NoEndpoint),
            Place::Elsewhere | Place::Anywhere => self.attempt(id, true),
        };
        if let Err(failure) = begun {
            request.clear(self.ring.buffers.pieces());
            return Err(failure);
        }
        self.send(id, &mut request);
        self.arm(id);
        Ok(())
    }

    /// Ends the attempt and closes its connection.
    fn end_attempt(&mut self, id: u32) {
        let before = std::mem::replace(&mut self.exchanges[id as usize].state, State::Between);
        if let State::Attempt(attempt) = before {
            self.balancer.end(attempt.endpoint);
            self.upstreams.discard(&mut self.ring, attempt.connection);
        }
    }

    /// Ends the attempt, and with it the exchange's chance of a response.
    fn fail(&mut self, id: u32, failure: Failure) -> Failure {
        self.end_attempt(id);
        self.exchanges[id as usize].state = State::Failed(failure);
        failure
    }
}

impl Exchange {
    /// Whether its cluster has an endpoint that takes traffic and that this exchange has not failed to connect to.
    fn has_untried(&self) -> bool {
        let cluster = &self.snapshot.clusters[self.cluster.index()];
        cluster.endpoints.iter().any(|endpoint| endpoint.weight > 0 && !self.tries.unconnected.contains(endpoint.id))
    }
}

/// The failure of an exchange whose connection has ended like this.
fn cause(end: End) -> Failure {
    match end {
        End::Closed | End::Truncated => Failure::Closed,
        End::Tls(tls::Error::Certificate) => Failure::TlsCertificate,
        End::Tls(tls::Error::Refused) => Failure::TlsAlert,
        End::Tls(tls::Error::Buffers) => Failure::Buffers,
        End::Tls(_) => Failure::TlsProtocol,
        End::Broken(Fault::Connect(_)) => Failure::Connect,
        End::Broken(Fault::Receive(_) | Fault::Send(_)) => Failure::Reset,
        End::ConnectTimeout => Failure::ConnectTimeout,
        End::ResponseTimeout => Failure::ResponseTimeout,
    }
}
