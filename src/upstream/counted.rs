//! Connections that count against limits, and idle ones that give way where there are too many. Not here: the limits (`cluster`).

use super::Upstreams;
use crate::id::EndpointId;
use crate::pool::CountedConnection;
use crate::uring::{Driver, Ring};

impl Upstreams {
    /// Has the next new connection count against limits.
    pub fn reserve(&mut self, counted: CountedConnection) {
        self.release_reserved();
        self.reserved = Some(counted);
    }

    /// Takes back what was reserved for a connection that was not made.
    pub fn release_reserved(&mut self) {
        if let Some(counted) = self.reserved.take() {
            self.freed.push(counted.cluster);
        }
    }

    /// Takes out the number of a cluster that counts one connection less than before.
    pub fn next_freed(&mut self) -> Option<u32> {
        self.freed.pop()
    }

    /// Whether an idle connection to an endpoint is in the pool, made for the name `host`.
    #[must_use]
    pub fn has_idle(&self, endpoint: EndpointId, host: Option<&str>) -> bool {
        self.pool.find(endpoint, |index| self.get(index).is_some_and(|it| it.is_named(host))).is_some()
    }

    /// Closes an idle connection to an endpoint that can be made anew: one in the pool, or one that is only told of its client. False: there
    /// is none.
    pub fn close_idle_of<D: Driver>(&mut self, ring: &mut Ring<D>, endpoint: EndpointId) -> bool {
        let told = |index: &u32| {
            self.get(*index).is_some_and(|it| it.endpoint == endpoint && it.exchange.is_none() && it.header_bytes > 0)
        };
        let idle = self.pool.top(endpoint).or_else(|| self.bound.iter().flatten().copied().find(told));
        match idle {
            Some(index) => self.discard(ring, index),
            None => return self.close_idle_shared(ring, |other| other == endpoint),
        }
        true
    }

    /// Closes idle connections to an endpoint from before there was a limit.
    pub fn close_uncounted<D: Driver>(&mut self, ring: &mut Ring<D>, endpoint: EndpointId) {
        while let Some(index) = self.pool.top(endpoint).filter(|index| !self.is_counted(*index)) {
            self.discard(ring, index);
        }
    }

    /// Whether a connection counts against limits.
    #[must_use]
    pub fn is_counted(&self, index: u32) -> bool {
        self.get(index).is_some_and(|connection| connection.counted.is_some())
    }
}
