//! What one worker counts of one endpoint and its connections. Not here: what balancing knows of it (`cluster`).

use std::time::Duration;

use super::Counter;

/// What a worker counts of an endpoint. It alone writes.
#[derive(Debug, Default)]
pub struct EndpointCells {
    /// Connections that were begun.
    pub connections: Counter,
    /// Connections that are open, or being made.
    pub open: Counter,
    /// Of these, the ones that wait in the pool.
    pub idle: Counter,
    /// Responses whose head has come.
    pub responses: Counter,
    /// Nanoseconds from their requests, sent whole, to their heads.
    pub first_byte: Counter,
}

impl EndpointCells {
    /// A connection is begun.
    pub fn connect(&self) {
        self.connections.add(1);
        self.open.add(1);
    }

    /// A connection has ended.
    pub fn close(&self) {
        self.open.add(u64::MAX);
    }

    /// A connection has come into the pool.
    #[inline]
    pub fn enter_pool(&self) {
        self.idle.add(1);
    }

    /// A connection has left the pool.
    #[inline]
    pub fn leave_pool(&self) {
        self.idle.add(u64::MAX);
    }

    /// The head of a response has come, so long after its request.
    #[inline]
    pub fn respond(&self, time: Duration) {
        self.responses.add(1);
        self.first_byte.add(time.as_nanos() as u64);
    }
}
