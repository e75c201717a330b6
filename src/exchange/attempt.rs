//! One try of an exchange at one endpoint: taking a connection, and trying again where that is free of risk. Not here: retries that
//! a route asks for.

use std::time::Duration;

use super::{Engine, Exchange, Failure, State};
use crate::buffer::Queue;
use crate::cluster::Tried;
use crate::id::EndpointId;
use crate::limits;
use crate::runtime::{Stall, Tick};
use crate::upstream::{AcquireOptions, End};
use crate::uring::{Driver, Errno, Fault, SocketId};

/// Endpoints that one exchange tries to connect to.
const CONNECT_ATTEMPTS: u8 = 3;

/// One try at one endpoint.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: EndpointId,
    /// Slot of the connection to it.
    pub(super) connection: u32,
    round: Round,
    pub(super) stage: Stage,
    /// When connecting began.
    pub(super) since: Tick,
    /// Since when the origin has taken nothing of what waits to be sent to it.
    pub(super) sending: Stall,
    /// Since when it has sent nothing of a response that it owes.
    pub(super) answering: Stall,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No final response head yet.
    Waiting,
    /// The response body is being read.
    Body,
    /// Bytes go both ways unread.
    Tunnel,
}

/// A round through the addresses of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Round {
    /// Where it began.
    first: u8,
    /// How many could not be connected to.
    failed: u8,
}

impl Round {
    /// The address that is next, of so many.
    fn position(self, addresses: usize) -> usize {
        (usize::from(self.first) + usize::from(self.failed)) % addresses
    }
}

/// What an exchange has tried before the attempt that it makes now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    /// Endpoints that could not be connected to, and how often that was.
    unconnected: Tried,
    count: u8,
    /// The free replay on a fresh connection was used.
    replayed: bool,
}

/// Where an exchange goes on.
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
    /// Picks an endpoint and begins an attempt at it: over the connection that belongs to the client's, if that leads to this
    /// cluster.
    pub(super) fn attempt(&mut self, id: u32, fresh: bool) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let (snapshot, cluster) = (&exchange.snapshot, exchange.cluster);
        // While buffers are scarce none is pinned for a replay that hardly ever comes.
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
        let picked = snapshot.pick(cluster, &exchange.tries.unconnected, &mut self.balancer);
        let endpoint = picked.ok_or(Failure::NoEndpoint)?;
        let round = Round { first: self.upstreams.preferred(endpoint), failed: 0 };
        self.attempt_at(id, endpoint, round, AcquireOptions { fresh, replay })
    }

    /// Begins an attempt at an endpoint, over a connection to the first of its addresses that has not failed this exchange, beginning
    /// with the one that worked last.
    fn attempt_at(
        &mut self,
        id: u32,
        endpoint: EndpointId,
        mut round: Round,
        options: AcquireOptions,
    ) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let spec = exchange.snapshot.endpoint(endpoint).ok_or(Failure::NoEndpoint)?.1;
        let mut closed = false;
        let connection = loop {
            let position = round.position(spec.addresses());
            let address = (spec.address_at(position), position);
            match self.upstreams.acquire(&mut self.ring, endpoint, address, id, options) {
                Ok(connection) => break connection,
                // A machine that lacks IPv6 is treated like a network that lacks it: the next address is tried.
                Err(error) if error.is_of_family() && usize::from(round.failed) + 1 < spec.addresses() => {
                    round.failed += 1;
                }
                // No descriptor is left: an idle connection to any endpoint gives way.
                Err(error) if !closed && !error.is_of_family() && self.upstreams.close_idle(&mut self.ring) => {
                    self.ring.submit_closes();
                    closed = true;
                }
                Err(Errno(_)) => return Err(Failure::Descriptors),
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

    /// How long connecting to one address may take: all those of a name share the time of one.
    pub(super) fn connect_timeout(exchange: &Exchange, endpoint: EndpointId) -> Duration {
        let Some((cluster, endpoint)) = exchange.snapshot.endpoint(endpoint) else { return Duration::ZERO };
        let share = cluster.connect_timeout / endpoint.addresses() as u32;
        share.max(limits::ATTEMPT_MIN).min(cluster.connect_timeout)
    }

    /// The attempt ended before a response: makes another one if nothing can have happened twice, else says why there will be no
    /// response.
    pub(super) fn recover(&mut self, id: u32, end: End) -> Result<(), Failure> {
        let failure = cause(end);
        let expired = self.is_expired(id);
        let Some(place) = self.free_place(id, end) else { return Err(self.fail(id, failure)) };
        let held = if expired { None } else { self.take_request(id, place) };
        let Some(request) = held else { return Err(self.fail(id, failure)) };
        self.repeat(id, request, place).map_err(|again| {
            // Why the last attempt has failed says more than that no endpoint is left.
            let exhausted = place != Place::Anywhere && again == Failure::NoEndpoint;
            self.fail(id, if exhausted { failure } else { again })
        })
    }

    /// Where another attempt can be made without the risk that the request is carried out twice.
    ///
    /// Free are: another address, and then another endpoint, when connecting failed, for nothing was sent; and one fresh connection
    /// when a reused one ended without a byte of response, for an endpoint may close an idle connection at any time (RFC 9112
    /// section 9.3.1), if the method is idempotent and the whole request is still held.
    fn free_place(&mut self, id: u32, end: End) -> Option<Place> {
        let exchange = &mut self.exchanges[id as usize];
        let State::Attempt(attempt) = &mut exchange.state else { return None };
        let connection = self.upstreams.get(attempt.connection)?;
        let endpoint = attempt.endpoint;
        let unconnected = matches!(end, End::Broken(Fault::Connect(_)) | End::ConnectTimeout);
        if !unconnected || connection.is_connected() {
            let stale = connection.reused && !connection.answered && end != End::ResponseTimeout;
            let free = stale && !exchange.tries.replayed && exchange.method.is_idempotent();
            exchange.tries.replayed |= free;
            return free.then_some(Place::Anywhere);
        }
        attempt.round.failed += 1;
        let addresses = exchange.snapshot.endpoint(endpoint).map_or(0, |(_, endpoint)| endpoint.addresses());
        if usize::from(attempt.round.failed) < addresses {
            return Some(Place::NextAddress(endpoint, attempt.round));
        }
        self.counters.connect_failures.add(1);
        exchange.tries.unconnected.insert(endpoint);
        exchange.tries.count += 1;
        (exchange.tries.count < CONNECT_ATTEMPTS).then_some(Place::Elsewhere)
    }

    /// The whole request so far, sent or not. None when a part of it is gone or the kernel is still reading it.
    fn take_request(&mut self, id: u32, place: Place) -> Option<Queue> {
        let transport = &self.connection(id)?.transport;
        let (socket, taken) = (transport.socket(), transport.taken(&self.ring));
        let held = match place {
            Place::Anywhere => self.exchanges[id as usize].replay.take()?,
            Place::NextAddress(..) | Place::Elsewhere if taken == 0 => Queue::default(),
            // A part of the request has gone where it cannot be called back from.
            Place::NextAddress(..) | Place::Elsewhere => return None,
        };
        self.join_unsent(socket, held)
    }

    /// Appends what was not sent to `held`.
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
            Place::NextAddress(endpoint, round) => self.attempt_at(id, endpoint, round, options),
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

    /// Gives up the attempt and its connection.
    fn end_attempt(&mut self, id: u32) {
        let before = std::mem::replace(&mut self.exchanges[id as usize].state, State::Between);
        if let State::Attempt(attempt) = before {
            self.balancer.end(attempt.endpoint);
            self.upstreams.discard(&mut self.ring, attempt.connection);
        }
    }

    /// Ends the attempt for good. There will be no response.
    fn fail(&mut self, id: u32, failure: Failure) -> Failure {
        self.end_attempt(id);
        self.exchanges[id as usize].state = State::Failed(failure);
        failure
    }
}

impl Exchange {
    /// Whether its cluster has an endpoint that takes traffic and could not be found unreachable.
    fn has_untried(&self) -> bool {
        let cluster = &self.snapshot.clusters[self.cluster.index()];
        cluster.endpoints.iter().any(|endpoint| endpoint.weight > 0 && !self.tries.unconnected.contains(endpoint.id))
    }
}

fn cause(end: End) -> Failure {
    match end {
        End::Closed => Failure::Closed,
        End::Broken(Fault::Connect(_)) => Failure::Connect,
        End::Broken(Fault::Receive(_) | Fault::Send(_)) => Failure::Reset,
        End::ConnectTimeout => Failure::ConnectTimeout,
        End::ResponseTimeout => Failure::ResponseTimeout,
    }
}
