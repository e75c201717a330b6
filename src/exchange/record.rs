//! The record of an exchange, complete when it is over: the one source of counters, and of logs. Not here: writing logs.

use std::time::Duration;

use super::{Engine, Failure};
use crate::http::Method;
use crate::id::{ClusterId, EndpointId, ListenerId, RouteNumber};
use crate::telemetry::NO_CLUSTER;
use crate::uring::Driver;

/// One exchange, from when its request head was read to the last byte queued of its response.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The listener that accepted its connection.
    pub listener: ListenerId,
    /// Its route; None: no route matched, or the request failed before it was routed.
    pub route: Option<RouteNumber>,
    /// How it was forwarded; None: it was answered here.
    pub forwarded: Option<Forwarding>,
    /// Number of the cluster in metrics that was chosen for it, where it was not forwarded; `telemetry::NO_CLUSTER`: none was.
    pub cluster: u32,
    /// The method of the request; None: its head could not be read, or it is a connection of TCP.
    pub method: Option<Method>,
    /// The status of the final response; 0: none was begun.
    pub status: u16,
    /// Why it failed; None: it did not.
    pub failure: Option<Failure>,
    /// Bytes read of the request's body, without framing.
    pub received: u64,
    /// Bytes queued for the client, response heads included.
    pub sent: u64,
    /// When its head was read, by the clock of the ring.
    pub began: Duration,
    /// When the head of the final response was queued.
    pub answered: Option<Duration>,
    /// When the exchange was over.
    pub ended: Duration,
    /// How long cairn itself has taken: from the beginnings of the turns in which the request's head and the end of the response came to
    /// when what followed from them was queued.
    pub overhead: Duration,
}

/// How an exchange was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The cluster.
    pub cluster: ClusterId,
    /// The endpoint of the last attempt.
    pub endpoint: Option<EndpointId>,
    /// Number of attempts.
    pub attempts: u8,
    /// How long it has waited for a place at its cluster; None: it has not.
    pub queue: Option<Duration>,
    /// How long connecting has taken, over all attempts; None: only connections from the pool were used.
    pub connect: Option<Duration>,
    /// How long the endpoint has taken from the request, queued whole, to the head of its response; None: there was none.
    pub first_byte: Option<Duration>,
    /// Number of the cluster in metrics.
    pub series: u32,
}

impl Forwarding {
    /// That of an exchange that begins.
    pub(super) fn to(cluster: ClusterId, series: u32) -> Self {
        Self { cluster, endpoint: None, attempts: 0, queue: None, connect: None, first_byte: None, series }
    }

    /// Records that a wait for a place is over.
    pub(super) fn end_queue(&mut self, waited: Duration) {
        self.queue = Some(self.queue.unwrap_or_default() + waited);
    }
}

impl Record {
    /// The record of an exchange that begins now.
    #[must_use]
    pub fn new(listener: ListenerId, began: Duration) -> Self {
        Self {
            listener,
            route: None,
            forwarded: None,
            cluster: NO_CLUSTER,
            method: None,
            status: 0,
            failure: None,
            received: 0,
            sent: 0,
            began,
            answered: None,
            ended: began,
            overhead: Duration::ZERO,
        }
    }

    /// Whether the response was not sent to its end, or not at all.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.failure.is_some_and(|failure| failure.answer().status != self.status)
    }

    /// Records that the head of the final response was queued.
    pub fn answer(&mut self, status: u16, now: Duration) {
        self.status = status;
        self.answered = Some(now);
    }
}

impl<D: Driver> Engine<D> {
    /// Completes the record of an exchange that is over, and counts it. Called once for every exchange, however it ended.
    pub fn finish(&mut self, record: &mut Record) {
        let elapsed = self.ring.elapsed();
        record.ended = self.ring.clock().now() + elapsed;
        record.overhead += elapsed;
        self.counters.respond(record.status);
        self.measure(record);
        #[cfg(test)]
        self.finished.push(*record);
    }
}
