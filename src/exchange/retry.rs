//! Taking a connection, and taking another one where that is free of risk. Not here: retries that a route asks for.

use std::time::Duration;

use super::{Engine, Exchange, Failure};
use crate::buffer::Queue;
use crate::limits;
use crate::runtime::Stall;
use crate::upstream::{End, Wish};
use crate::uring::{Driver, Errno, Fault, SocketId};

/// Endpoints that one exchange tries to connect to.
const CONNECT_ATTEMPTS: u8 = 3;

/// Where an exchange goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At any endpoint.
    Anywhere,
    /// At the same one, under its next address.
    NextAddress,
    /// At an endpoint that was not tried.
    Elsewhere,
}

impl<D: Driver> Engine<D> {
    /// Picks an endpoint and takes a connection to it: the one that belongs to the client's connection, if it leads to this
    /// cluster.
    pub(super) fn connect(&mut self, id: u32, fresh: bool) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let (snapshot, cluster) = (&exchange.snapshot, exchange.cluster);
        // While buffers are scarce none is pinned for a replay that hardly ever comes.
        let replay = exchange.method.is_idempotent() && !self.ring.buffers.is_scarce();
        let leads = |endpoint| snapshot.endpoint(endpoint).is_some_and(|(of, _)| of.id == cluster);
        let bound = if fresh {
            None
        } else {
            self.upstreams.acquire_bound(&mut self.ring, exchange.downstream, id, replay, leads)
        };
        if let Some((index, endpoint)) = bound {
            exchange.endpoint = endpoint;
            self.use_connection(id, index, replay);
            return Ok(());
        }
        exchange.endpoint = snapshot.pick(cluster, &exchange.tried, &mut self.balancer).ok_or(Failure::NoEndpoint)?;
        (exchange.first, exchange.addresses) = (self.upstreams.preferred(exchange.endpoint), 0);
        self.connect_to(id, Wish { fresh, replay })
    }

    /// Takes a connection to the endpoint of the exchange: to the first of its addresses that has not failed this exchange,
    /// beginning with the one that worked last.
    fn connect_to(&mut self, id: u32, wish: Wish) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let endpoint = exchange.snapshot.endpoint(exchange.endpoint).ok_or(Failure::NoEndpoint)?.1;
        let mut closed = false;
        let index = loop {
            let place = usize::from(exchange.first) + usize::from(exchange.addresses);
            let address = (endpoint.address_at(place), place % endpoint.addresses());
            match self.upstreams.acquire(&mut self.ring, endpoint.id, address, id, wish) {
                Ok(index) => break index,
                // A machine without IPv6 is as good as a network without.
                Err(error) if error.is_of_family() && usize::from(exchange.addresses) + 1 < endpoint.addresses() => {
                    exchange.addresses += 1;
                }
                // An idle connection to somewhere holds a descriptor that is needed here.
                Err(error) if !closed && !error.is_of_family() && self.upstreams.close_idle(&mut self.ring) => {
                    self.ring.submit_closes();
                    closed = true;
                }
                Err(Errno(_)) => return Err(Failure::Descriptors),
            }
        };
        // A fresh one is not taken for stale: nothing is kept for a replay.
        let reused = self.upstreams.get(index).is_some_and(|connection| connection.reused);
        self.use_connection(id, index, wish.replay && reused);
        Ok(())
    }

    fn use_connection(&mut self, id: u32, index: u32, replay: bool) {
        let exchange = &mut self.exchanges[id as usize];
        exchange.upstream = Some(index);
        exchange.replay.begin(&mut self.ring.buffers, replay);
        exchange.since = self.ring.clock().tick();
        (exchange.sending, exchange.answering) = (Stall::default(), Stall::default());
        self.balancer.begin(exchange.endpoint);
        // Nothing is owed on one that stands before something is sent on it.
        if self.upstreams.get(index).is_some_and(|connection| !connection.is_connected()) {
            self.arm(id);
        }
    }

    /// How long connecting to one address may take: all those of a name share the time of one.
    pub(super) fn attempt_timeout(&self, exchange: &Exchange) -> Duration {
        let Some((cluster, endpoint)) = exchange.snapshot.endpoint(exchange.endpoint) else { return Duration::ZERO };
        let share = cluster.connect_timeout / endpoint.addresses() as u32;
        share.max(limits::ATTEMPT_MIN).min(cluster.connect_timeout)
    }

    /// The connection ended before a response: goes on with another one if nothing can have happened twice, else says why
    /// there will be no response.
    ///
    /// Free are: another address, and then another endpoint, when connecting failed, for nothing was sent; and one fresh connection
    /// when a reused one ended without a byte of response, for an endpoint may close an idle connection at any time (RFC 9112
    /// section 9.3.1), if the method is idempotent and the whole request is still held.
    pub(super) fn recover(&mut self, id: u32, end: End) -> Result<(), Failure> {
        let failure = cause(end);
        let exchange = &mut self.exchanges[id as usize];
        let Some(connection) = exchange.upstream.and_then(|index| self.upstreams.get(index)) else {
            return Err(failure);
        };
        let unconnected = matches!(end, End::Broken(Fault::Connect(_)) | End::ConnectTimeout);
        let stale = connection.reused && !connection.answered && end != End::ResponseTimeout;
        exchange.addresses += u8::from(unconnected);
        let known = exchange.snapshot.endpoint(exchange.endpoint).map_or(0, |(_, endpoint)| endpoint.addresses());
        let elsewhere = unconnected && usize::from(exchange.addresses) >= known;
        let free = if unconnected && !elsewhere {
            true
        } else if unconnected {
            self.counters.connect_failures.add(1);
            exchange.tried.insert(exchange.endpoint);
            exchange.attempts += 1;
            exchange.attempts < CONNECT_ATTEMPTS
        } else {
            stale && !exchange.retried && exchange.method.is_idempotent()
        };
        let expired = exchange.deadline.is_some_and(|deadline| self.ring.clock().tick() >= deadline);
        let socket = connection.transport.socket();
        let held = match free && !expired {
            // Nothing was sent.
            true if unconnected => Some(Queue::default()),
            true => exchange.replay.take(),
            false => None,
        };
        let Some(sent) = held.and_then(|held| self.take_back(socket, held)) else {
            self.exchanges[id as usize].failure = Some(failure);
            return Err(failure);
        };
        self.exchanges[id as usize].retried |= stale;
        let place = if elsewhere {
            Place::Elsewhere
        } else if unconnected {
            Place::NextAddress
        } else {
            Place::Anywhere
        };
        self.replace(id, sent, place).map_err(|again| {
            let failure = if unconnected && again == Failure::NoEndpoint { failure } else { again };
            self.exchanges[id as usize].failure = Some(failure);
            failure
        })
    }

    /// `held`, and behind it what was not sent. None when the kernel is still reading that.
    fn take_back(&mut self, socket: SocketId, mut held: Queue) -> Option<Queue> {
        let Some(mut unsent) = self.ring.take_unsent(socket) else {
            held.clear(self.ring.buffers.pieces());
            return None;
        };
        held.append(self.ring.buffers.pieces(), &mut unsent);
        Some(held)
    }

    /// Sends what was sent once more, on another connection.
    fn replace(&mut self, id: u32, mut sent: Queue, place: Place) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        if let Some(index) = exchange.upstream.take() {
            self.balancer.end(exchange.endpoint);
            self.upstreams.discard(&mut self.ring, index);
        }
        let untried = || {
            let cluster = &exchange.snapshot.clusters[exchange.cluster.index()];
            cluster.endpoints.iter().any(|endpoint| endpoint.weight > 0 && !exchange.tried.contains(endpoint.id))
        };
        if place == Place::Elsewhere && !untried() {
            sent.clear(self.ring.buffers.pieces());
            return Err(Failure::NoEndpoint);
        }
        // A fresh connection is not taken for stale: nothing is kept for a replay.
        let wish = Wish { fresh: true, replay: false };
        let connected = if place == Place::NextAddress { self.connect_to(id, wish) } else { self.connect(id, true) };
        if let Err(failure) = connected {
            sent.clear(self.ring.buffers.pieces());
            return Err(failure);
        }
        self.send(id, &mut sent);
        self.arm(id);
        Ok(())
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
