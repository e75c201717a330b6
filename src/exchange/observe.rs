//! What attempts say of endpoints: how they have ended, and how long answers took. Not here: what follows for the exchange (`recover`), and
//! for the endpoint (`control`).

use super::Engine;
use super::recover::is_stale;
use crate::cluster::{Balance, Outcome};
use crate::forward::BodyEnd;
use crate::http::{FieldName, Fields, is_grpc, parse_decimal};
use crate::id::EndpointId;
use crate::upstream::End;
use crate::uring::Driver;

/// The field in which gRPC says how a call has ended.
const GRPC_STATUS: &[u8] = b"grpc-status";
/// Its value where the origin cannot serve now.
const UNAVAILABLE: &[u8] = b"14";
/// Longest time for which an endpoint is left alone at its own request, seconds.
const RETRY_AFTER_MAX: u64 = 300;

impl<D: Driver> Engine<D> {
    /// Counts what the end of an attempt before its response says of the endpoint. That an idle connection was closed says nothing.
    pub(super) fn observe_end(&mut self, id: u32, end: End) {
        if let Ok(index) = self.exchanges[id as usize].connection() {
            self.observe_end_of(id, index, end);
        }
    }

    /// Counts what that says of the endpoint of one of the exchange's connections.
    pub(super) fn observe_end_of(&mut self, id: u32, index: u32, end: End) {
        let Some(connection) = self.upstreams.get(index) else { return };
        let (endpoint, connected) = (connection.endpoint, connection.is_connected());
        // Where no connection could be made, `count_unconnected` counts it, for all addresses of the endpoint.
        if connected && !is_stale(connection, end) && !end.is_blameless() {
            self.observe(id, endpoint, Outcome::Failed);
        }
    }

    /// Counts what a final response says of the endpoint.
    pub(super) fn observe_status(&mut self, id: u32, head: &[u8]) {
        let Some(attempt) = self.exchanges[id as usize].attempt() else { return };
        let endpoint = attempt.endpoint;
        let failed = matches!(self.response.status, 502..=504) || says_unavailable(&self.response.fields, head);
        if failed {
            let after = self.response.fields.named(head, b"retry-after").next();
            let seconds = after.and_then(|field| parse_decimal(field.value.of(head)));
            if let (Some(seconds), Some(state)) = (seconds, self.balancer.state(endpoint)) {
                state.note_retry_after(seconds.min(RETRY_AFTER_MAX) as u32);
            }
        }
        let exchange = &self.exchanges[id as usize];
        let cluster = exchange.own_cluster();
        if let Some(cluster) = cluster.filter(|_| !failed && exchange.request_done) {
            let took = self.ring.clock().now().saturating_sub(exchange.asked);
            if cluster.balance == Balance::PeakEwma {
                self.balancer.measure(endpoint, took);
            }
            if cluster.outlier.latency_factor > 0 {
                self.balancer.count_time(endpoint, took);
            }
            if cluster.limits.adaptive {
                cluster.state.places().measure(self.worker, took);
            }
        }
        let content_type = self.response.fields.get(FieldName::ContentType);
        if !failed && content_type.is_some_and(|field| is_grpc(field.value.of(head))) {
            // What has become of it is said in the trailers.
            self.exchanges[id as usize].judged_by_trailers = true;
            return;
        }
        self.observe(id, endpoint, if failed { Outcome::Failed } else { Outcome::Answered });
    }

    /// Counts what the end of a response of gRPC says of the endpoint.
    pub(super) fn observe_trailers(&mut self, id: u32, end: &BodyEnd) {
        let Some(endpoint) = self.exchanges[id as usize].attempt().map(|attempt| attempt.endpoint) else { return };
        self.exchanges[id as usize].judged_by_trailers = false;
        let failed = match end {
            BodyEnd::Trailers(section) => section
                .passed(&self.trailers)
                .any(|(name, value)| name.eq_ignore_ascii_case(GRPC_STATUS) && value == UNAVAILABLE),
            BodyEnd::Plain => false,
        };
        self.observe(id, endpoint, if failed { Outcome::Failed } else { Outcome::Answered });
    }

    /// Counts how an attempt has turned out, and has the control thread look where that may lead to an ejection.
    pub(super) fn observe(&mut self, id: u32, endpoint: EndpointId, outcome: Outcome) {
        let streak = self.balancer.observe(endpoint, outcome);
        if self.exchanges[id as usize].tries.probe.is_some_and(|probe| probe.endpoint == endpoint) {
            self.end_probe(id, Some(outcome));
        }
        if streak == 0 {
            return;
        }
        let exchange = &self.exchanges[id as usize];
        let Some(cluster) = exchange.own_cluster() else { return };
        let most = cluster.outlier.consecutive_failures;
        if most > 0 && streak.is_multiple_of(most) {
            cluster.state.ring();
        }
    }

    /// Ends what an exchange was to show of an ejected endpoint. None: it has not been shown, and another request may.
    pub(super) fn end_probe(&mut self, id: u32, outcome: Option<Outcome>) {
        if let Some(probe) = self.exchanges[id as usize].tries.probe.take() {
            self.balancer.end_probe(probe, outcome);
        }
    }
}

/// Whether fields say with gRPC's status 14 that an origin is unavailable.
pub(super) fn says_unavailable(fields: &Fields, text: &[u8]) -> bool {
    fields.named(text, GRPC_STATUS).next().is_some_and(|field| field.value.of(text) == UNAVAILABLE)
}
