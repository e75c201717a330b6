//! The counters of one worker, which alone writes them, with plain stores; the control thread reads them at any time.
//! Not here: how they are shown (`control`).

mod endpoint;
mod histogram;
mod kinds;
mod http2;
mod reasons;
mod route;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::ListenerId;
use crate::limits::LISTENER_IDS;
pub use endpoint::EndpointCells;
pub use histogram::{Distribution, Histograms, Span};
pub use http2::Http2Errors;
pub use kinds::{
    HandshakeFailure, HedgeOutcome, ProxyRefusal, RetryReason, RetryRefusal, Shed, TcpRefusal, TlsFailure,
};
pub use reasons::Reasons;
pub use route::{NO_CLUSTER, NO_METHOD, RouteCells, RouteStats, Series};

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; for the writing thread only.
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Sets; for the writing thread only.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now, or a moment ago.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that one worker counts.
#[derive(Debug)]
pub struct Counters {
    /// Responses sent, by class of status: 1xx to 5xx.
    responses: [Counter; 5],
    /// Connections to endpoints that could not be made.
    pub connect_failures: Counter,
    /// Exchanges with an origin under way.
    pub exchanges: Counter,
    /// Handshakes of clients, by version (1.2, 1.3) and by whether a ticket was resumed.
    tls_handshakes: [[Counter; 2]; 2],
    /// Handshakes of clients that came to nothing, by [`HandshakeFailure`].
    tls_failures: [Counter; HandshakeFailure::ALL.len()],
    /// Clients that were hung up on because of `limits.handshakes`.
    pub tls_refused: Counter,
    /// Handshakes with endpoints, by version and resumption, as those of clients.
    endpoint_tls_handshakes: [[Counter; 2]; 2],
    /// Connections to endpoints on which TLS has failed, by [`TlsFailure`].
    endpoint_tls_failures: [Counter; TlsFailure::ALL.len()],
    /// Requests that were sent again, by [`RetryReason`].
    retries: [Counter; RetryReason::ALL.len()],
    /// Requests that were not sent again although their routes ask for it, by [`RetryRefusal`].
    refused_retries: [Counter; RetryRefusal::ALL.len()],
    /// Second attempts beside slow ones, by [`HedgeOutcome`].
    hedges: [Counter; HedgeOutcome::ALL.len()],
    /// Requests refused because the worker was overloaded, by priority: critical ones never are.
    overloaded: [Counter; 3],
    /// How long the turn was on average into which arrivals fell in the last tenth of a second with a turn, microseconds.
    pub turn_delay: Counter,
    /// Nanoseconds of turns: what the worker has done between waits.
    pub busy: Counter,
    /// Turns so far.
    pub turns: Counter,
    /// Turns in which the ring had more completions than it has room for; the kernel kept them.
    pub ring_overflows: Counter,
    /// TLS handshakes of clients under way.
    pub handshakes_under_way: Counter,
    /// The worker's thread, as the kernel numbers it; 0: it has not begun.
    pub thread: Counter,
    /// Answers made here, by reason code.
    pub local_responses: Reasons,
    /// Responses that were not sent to their end, or not at all, by reason code.
    pub cuts: Reasons,
    /// Entries of the access log that were queued for the thread that writes it.
    pub log_queued: Counter,
    /// Entries of the access log for which there was no room.
    pub log_dropped: Counter,
    /// Recorded exchanges for whose spans there was no room.
    pub spans_dropped: Counter,
    /// Version of the snapshot in use.
    pub version: Counter,
    /// Buffers that nobody holds and the kernel was not offered.
    pub free_buffers: Counter,
    /// Sockets whose receive waits for buffers.
    pub starved_receives: Counter,
    /// Connections closed because of their PROXY header, by [`ProxyRefusal`].
    proxied_refused: [Counter; ProxyRefusal::ALL.len()],
    /// Connections shed for want of buffers, by [`Shed`].
    shed: [Counter; Shed::ALL.len()],
    /// Open connections, by `ListenerId`.
    connections: Box<[Counter]>,
    /// Connections so far of clients that speak in the clear to a permissive listener, by `ListenerId`.
    plain_text: Box<[Counter]>,
    /// Connections of TCP so far that were passed on to an endpoint, by `ListenerId`.
    passed_on: Box<[Counter]>,
    /// Those of them that are open.
    pub passing: Counter,
    /// Connections of TCP that were not passed on, by [`TcpRefusal`].
    tcp_refused: [Counter; TcpRefusal::ALL.len()],
    /// Errors of clients over HTTP/2.
    pub http2_errors: Http2Errors,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            responses: Default::default(),
            connect_failures: Counter::default(),
            exchanges: Counter::default(),
            tls_handshakes: Default::default(),
            tls_failures: Default::default(),
            tls_refused: Counter::default(),
            endpoint_tls_handshakes: Default::default(),
            endpoint_tls_failures: Default::default(),
            retries: Default::default(),
            refused_retries: Default::default(),
            hedges: Default::default(),
            overloaded: Default::default(),
            turn_delay: Counter::default(),
            busy: Counter::default(),
            turns: Counter::default(),
            ring_overflows: Counter::default(),
            handshakes_under_way: Counter::default(),
            thread: Counter::default(),
            local_responses: Reasons::default(),
            cuts: Reasons::default(),
            log_queued: Counter::default(),
            log_dropped: Counter::default(),
            spans_dropped: Counter::default(),
            version: Counter::default(),
            free_buffers: Counter::default(),
            starved_receives: Counter::default(),
            proxied_refused: Default::default(),
            shed: Default::default(),
            connections: std::iter::repeat_with(Counter::default).take(LISTENER_IDS).collect(),
            plain_text: std::iter::repeat_with(Counter::default).take(LISTENER_IDS).collect(),
            passed_on: std::iter::repeat_with(Counter::default).take(LISTENER_IDS).collect(),
            passing: Counter::default(),
            tcp_refused: Default::default(),
            http2_errors: Default::default(),
        }
    }
}

impl Counters {
    /// Counts a response.
    pub fn respond(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.add(1);
        }
    }

    /// Final responses sent, by class: 2xx to 5xx.
    #[must_use]
    pub fn responses(&self) -> [u64; 4] {
        let [_, classes @ ..] = &self.responses;
        classes.each_ref().map(Counter::get)
    }

    /// Counts a connection that was closed because of its PROXY header.
    pub fn refuse_proxied(&self, reason: ProxyRefusal) {
        self.proxied_refused[reason as usize].add(1);
    }

    /// Such connections so far, in the order of [`ProxyRefusal`].
    #[must_use]
    pub fn proxied_refused(&self) -> [u64; ProxyRefusal::ALL.len()] {
        self.proxied_refused.each_ref().map(Counter::get)
    }

    /// Counts a connection that was shed.
    pub fn shed(&self, reason: Shed) {
        self.shed[reason as usize].add(1);
    }

    /// Connections shed so far, in the order of [`Shed::ALL`].
    #[must_use]
    pub fn sheds(&self) -> [u64; Shed::ALL.len()] {
        self.shed.each_ref().map(Counter::get)
    }

    /// Counts a handshake with an endpoint.
    pub fn endpoint_handshake(&self, tls13: bool, resumed: bool) {
        self.endpoint_tls_handshakes[usize::from(tls13)][usize::from(resumed)].add(1);
    }

    /// Handshakes with endpoints, in the order of [`Counters::handshakes`].
    #[must_use]
    pub fn endpoint_handshakes(&self) -> [[u64; 2]; 2] {
        self.endpoint_tls_handshakes.each_ref().map(|version| version.each_ref().map(Counter::get))
    }

    /// Counts a connection to an endpoint on which TLS has failed.
    pub fn fail_tls(&self, failure: TlsFailure) {
        self.endpoint_tls_failures[failure as usize].add(1);
    }

    /// Connections to endpoints on which TLS has failed, in the order of [`TlsFailure::ALL`].
    #[must_use]
    pub fn endpoint_tls_failures(&self) -> [u64; TlsFailure::ALL.len()] {
        self.endpoint_tls_failures.each_ref().map(Counter::get)
    }

    /// Counts a request that is sent again.
    pub fn count_retry(&self, reason: RetryReason) {
        self.retries[reason as usize].add(1);
    }

    /// Requests that were sent again, in the order of [`RetryReason::ALL`].
    #[must_use]
    pub fn retries(&self) -> [u64; RetryReason::ALL.len()] {
        self.retries.each_ref().map(Counter::get)
    }

    /// Counts what has become of a second attempt.
    pub fn count_hedge(&self, outcome: HedgeOutcome) {
        self.hedges[outcome as usize].add(1);
    }

    /// Second attempts, in the order of [`HedgeOutcome::ALL`].
    #[must_use]
    pub fn hedges(&self) -> [u64; HedgeOutcome::ALL.len()] {
        self.hedges.each_ref().map(Counter::get)
    }

    /// Counts a request that is not sent again although its route asks for it.
    pub fn refuse_retry(&self, why: RetryRefusal) {
        self.refused_retries[why as usize].add(1);
    }

    /// Requests that were not sent again, in the order of [`RetryRefusal::ALL`].
    #[must_use]
    pub fn refused_retries(&self) -> [u64; RetryRefusal::ALL.len()] {
        self.refused_retries.each_ref().map(Counter::get)
    }

    /// Counts a request that is refused because the worker is overloaded.
    pub fn count_overload(&self, priority: usize) {
        self.overloaded[priority].add(1);
    }

    /// Requests refused because the worker was overloaded, by priority.
    #[must_use]
    pub fn overloaded(&self) -> [u64; 3] {
        self.overloaded.each_ref().map(Counter::get)
    }

    /// Counts a handshake of a client.
    pub fn handshake(&self, tls13: bool, resumed: bool) {
        self.tls_handshakes[usize::from(tls13)][usize::from(resumed)].add(1);
    }

    /// Handshakes of clients: of TLS 1.2 and 1.3, full and resumed.
    #[must_use]
    pub fn handshakes(&self) -> [[u64; 2]; 2] {
        self.tls_handshakes.each_ref().map(|version| version.each_ref().map(Counter::get))
    }

    /// Counts a handshake of a client that came to nothing.
    pub fn fail_handshake(&self, failure: HandshakeFailure) {
        self.tls_failures[failure as usize].add(1);
    }

    /// Handshakes of clients that came to nothing, in the order of [`HandshakeFailure::ALL`].
    #[must_use]
    pub fn failed_handshakes(&self) -> [u64; HandshakeFailure::ALL.len()] {
        self.tls_failures.each_ref().map(Counter::get)
    }

    /// Sets the number of open connections of a listener.
    pub fn set_connections(&self, listener: ListenerId, count: u32) {
        if let Some(counter) = self.connections.get(listener.index()) {
            counter.set(u64::from(count));
        }
    }

    /// Counts a client that speaks in the clear to a permissive listener.
    pub fn count_plain_text(&self, listener: ListenerId) {
        if let Some(counter) = self.plain_text.get(listener.index()) {
            counter.add(1);
        }
    }

    /// Clients so far that have spoken in the clear to a permissive listener.
    #[must_use]
    pub fn plain_text(&self, listener: ListenerId) -> u64 {
        self.plain_text.get(listener.index()).map_or(0, Counter::get)
    }

    /// Counts a connection of TCP that is passed on to an endpoint from now on.
    pub fn pass_on(&self, listener: ListenerId) {
        self.passing.add(1);
        if let Some(counter) = self.passed_on.get(listener.index()) {
            counter.add(1);
        }
    }

    /// Counts the end of such a connection.
    pub fn end_passing(&self) {
        self.passing.set(self.passing.get().saturating_sub(1));
    }

    /// Connections of TCP so far that were passed on to an endpoint.
    #[must_use]
    pub fn passed_on(&self, listener: ListenerId) -> u64 {
        self.passed_on.get(listener.index()).map_or(0, Counter::get)
    }

    /// Counts a connection of TCP that is not passed on.
    pub fn refuse_tcp(&self, reason: TcpRefusal) {
        self.tcp_refused[reason as usize].add(1);
    }

    /// Connections of TCP that were not passed on, in the order of [`TcpRefusal::ALL`].
    #[must_use]
    pub fn tcp_refused(&self) -> [u64; TcpRefusal::ALL.len()] {
        self.tcp_refused.each_ref().map(Counter::get)
    }

    /// Open connections of all listeners.
    #[must_use]
    pub fn all_connections(&self) -> u64 {
        self.connections.iter().map(Counter::get).sum()
    }

    /// Open connections of a listener.
    #[must_use]
    pub fn connections(&self, listener: ListenerId) -> u64 {
        self.connections.get(listener.index()).map_or(0, Counter::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_count_by_class() {
        let counters = Counters::default();
        for status in [200, 204, 304, 404, 503, 599, 101, 0, 99, 600, u16::MAX] {
            counters.respond(status);
        }
        assert_eq!(counters.responses(), [2, 1, 1, 2]);
    }
}
