//! What is known of an exchange when it is over: the one source of counts, and of what logs will say. Not here: writing it down.

use std::time::Duration;

use super::{Engine, Failure};
use crate::id::{ClusterId, EndpointId, ListenerId, RouteNumber};
use crate::uring::Driver;

/// One exchange, from the first byte of its head to the last one queued of its response.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The listener that accepted its connection.
    pub listener: ListenerId,
    /// Its route; None: no route matched, or the request failed before it was routed.
    pub route: Option<RouteNumber>,
    /// How it was forwarded; None: it was answered here.
    pub forwarded: Option<Forwarding>,
    /// The status of the final response; 0: none was begun.
    pub status: u16,
    /// Why it did not end as it should.
    pub failure: Option<Failure>,
    /// Bytes of the request's body, as they were read.
    pub received: u64,
    /// Bytes queued for the client, heads among them.
    pub sent: u64,
    /// When its head was read.
    pub began: Duration,
    /// When the head of the final response was queued.
    pub answered: Option<Duration>,
    /// When it was over.
    pub ended: Duration,
}

/// How an exchange was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The cluster.
    pub cluster: ClusterId,
    /// The endpoint that was asked last.
    pub endpoint: Option<EndpointId>,
    /// How many times one was asked.
    pub attempts: u8,
}

impl Record {
    /// Of an exchange that begins now.
    #[must_use]
    pub fn new(listener: ListenerId, began: Duration) -> Self {
        Self {
            listener,
            route: None,
            forwarded: None,
            status: 0,
            failure: None,
            received: 0,
            sent: 0,
            began,
            answered: None,
            ended: began,
        }
    }

    /// Notes that the head of the final response was queued.
    pub fn answer(&mut self, status: u16, now: Duration) {
        (self.status, self.answered) = (status, Some(now));
    }
}

impl<D: Driver> Engine<D> {
    /// Takes in that an exchange is over. Every exchange comes here once, however it ended.
    pub fn finish(&mut self, mut record: Record) {
        record.ended = self.ring.clock().now();
        self.counters.respond(record.status);
        #[cfg(test)]
        self.finished.push(record);
    }
}
