//! Taking a connection, and taking another one where that is free of risk. Not here: retries that a route asks for.

use super::{Exchanges, Failure};
use crate::buffer::Queue;
use crate::runtime::Stall;
use crate::upstream::{End, Wish};
use crate::uring::{Errno, Fault};

/// Endpoints that one exchange tries to connect to.
const CONNECT_ATTEMPTS: u8 = 3;

impl Exchanges {
    /// Picks an endpoint and takes a connection to it: the one that belongs to the client's connection, if it leads to this
    /// cluster.
    pub(super) fn connect(&mut self, id: u32, fresh: bool) -> Result<(), Failure> {
        let exchange = &mut self.table[id as usize];
        let (snapshot, cluster) = (&exchange.snapshot, exchange.cluster);
        // While buffers are scarce none is pinned for a replay that hardly ever comes.
        let replay = exchange.method.is_idempotent() && !self.ring.is_scarce();
        let leads = |endpoint| snapshot.endpoint(endpoint).is_some_and(|(of, _)| of.id == cluster);
        let bound = if fresh {
            None
        } else {
            self.upstreams.acquire_bound(&mut self.ring, exchange.downstream, id, replay, leads)
        };
        let index = match bound {
            Some(index) => index,
            None => {
                let endpoint =
                    snapshot.pick(cluster, &exchange.tried, &mut self.balancer).ok_or(Failure::NoEndpoint)?;
                let address = &snapshot.endpoint(endpoint).ok_or(Failure::NoEndpoint)?.1.address;
                let wish = Wish { fresh, replay };
                let acquired = self.upstreams.acquire(&mut self.ring, endpoint, address, id, wish);
                match acquired {
                    // An idle connection to somewhere holds a descriptor that is needed here.
                    Err(_) if self.upstreams.close_idle(&mut self.ring) => {
                        self.ring.submit_closes();
                        self.upstreams.acquire(&mut self.ring, endpoint, address, id, wish)
                    }
                    acquired => acquired,
                }
                .map_err(|Errno(_)| Failure::Descriptors)?
            }
        };
        exchange.endpoint = self.upstreams.get(index).map_or(exchange.endpoint, |connection| connection.endpoint);
        exchange.upstream = Some(index);
        exchange.since = self.ring.clock().tick();
        (exchange.sending, exchange.answering) = (Stall::default(), Stall::default());
        self.balancer.begin(exchange.endpoint);
        self.arm(id);
        Ok(())
    }

    /// The connection ended before a response: goes on with another one if nothing can have happened twice, else says why
    /// there will be no response.
    ///
    /// Free are: another endpoint when connecting failed, for nothing was sent; and one fresh connection when a reused one
    /// ended without a byte of response, for an endpoint may close an idle connection at any time (RFC 9112 section 9.3.1),
    /// if the method is idempotent and the whole request is still held.
    pub(super) fn recover(&mut self, id: u32, end: End) -> Result<(), Failure> {
        let failure = cause(end);
        let exchange = &mut self.table[id as usize];
        let Some(connection) = exchange.upstream.and_then(|index| self.upstreams.get(index)) else {
            return Err(failure);
        };
        let unconnected = matches!(end, End::Broken(Fault::Connect(_)) | End::ConnectTimeout);
        let stale = connection.reused && !connection.answered && end != End::ResponseTimeout;
        let free = if unconnected {
            self.counters.connect_failures.add(1);
            exchange.tried.insert(exchange.endpoint);
            exchange.attempts += 1;
            exchange.attempts < CONNECT_ATTEMPTS
        } else {
            stale && !exchange.retried && exchange.method.is_idempotent()
        };
        let expired = exchange.deadline.is_some_and(|deadline| self.ring.clock().tick() >= deadline);
        let sent = if free && !expired { self.ring.reclaim(connection.socket) } else { None };
        let Some(sent) = sent else {
            exchange.failure = Some(failure);
            return Err(failure);
        };
        exchange.retried |= stale;
        self.replace(id, sent, unconnected).map_err(|again| {
            let failure = if unconnected && again == Failure::NoEndpoint { failure } else { again };
            self.table[id as usize].failure = Some(failure);
            failure
        })
    }

    /// Sends what was sent once more, on another connection.
    fn replace(&mut self, id: u32, mut sent: Queue, elsewhere: bool) -> Result<(), Failure> {
        let exchange = &mut self.table[id as usize];
        if let Some(index) = exchange.upstream.take() {
            self.balancer.end(exchange.endpoint);
            self.upstreams.discard(&mut self.ring, index);
        }
        let untried = || {
            let cluster = &exchange.snapshot.clusters[exchange.cluster.index()];
            cluster.endpoints.iter().any(|endpoint| endpoint.weight > 0 && !exchange.tried.contains(endpoint.id))
        };
        if elsewhere && !untried() {
            sent.clear(self.ring.pieces());
            return Err(Failure::NoEndpoint);
        }
        if let Err(failure) = self.connect(id, true) {
            sent.clear(self.ring.pieces());
            return Err(failure);
        }
        self.send(id, &mut sent);
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
