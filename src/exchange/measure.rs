//! What is counted of exchanges in the series of their routes. Not here: the cells (`telemetry`), and how they are shown (`control`).

use std::sync::Arc;

use super::{Engine, Record};
use crate::http::Method;
use crate::route::Protocol;
use crate::snapshot::Snapshot;
use crate::telemetry::{NO_METHOD, RouteCells, Series, Span};
use crate::uring::Driver;

/// The cells of a worker, and the numbers of names in metrics.
#[derive(Debug, Default)]
pub(super) struct Measures {
    /// By `RouteNumber`. A route that is gone keeps its own until another one has its number: exchanges may be under way.
    routes: Vec<Arc<RouteCells>>,
    /// Of exchanges without a route.
    unrouted: Arc<RouteCells>,
    /// By `ListenerId`; None: no exchange of it is a request.
    listeners: Vec<Option<u16>>,
}

impl Measures {
    /// Takes in the routes and listeners of a snapshot.
    fn apply(&mut self, snapshot: &Snapshot, worker: usize) {
        let common = snapshot.common_stats();
        self.unrouted = Arc::clone(common.unrouted.of(worker));
        for (route, stats) in snapshot.router.routes().iter().zip(snapshot.route_stats()) {
            let number = snapshot.route_number(route.id).index();
            while self.routes.len() <= number {
                self.routes.push(Arc::clone(&self.unrouted));
            }
            self.routes[number] = Arc::clone(stats.of(worker));
        }
        for (id, spec) in snapshot.listeners() {
            self.listeners.resize(self.listeners.len().max(id.index() + 1), None);
            let series = snapshot.listener_series(id);
            self.listeners[id.index()] = (spec.protocol == Protocol::Http).then_some(series);
        }
    }
}

impl<D: Driver> Engine<D> {
    /// Takes in what is counted under a snapshot. Allocates, as `Engine::apply`.
    pub(super) fn apply_measures(&mut self, snapshot: &Snapshot) {
        self.measures.apply(snapshot, self.worker);
        for endpoint in snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            self.upstreams.pool().count_in(endpoint.id, endpoint.state.counted(self.worker));
        }
    }

    /// Counts an exchange that is over in the series of its route.
    #[inline]
    pub(super) fn measure(&self, record: &Record) {
        let Measures { routes, unrouted, listeners } = &self.measures;
        let Some(Some(listener)) = listeners.get(record.listener.index()).copied() else { return };
        let cells = record.route.and_then(|route| routes.get(route.index())).unwrap_or(unrouted);
        let cluster = record.forwarded.map_or(record.cluster, |forwarded| forwarded.series);
        let method = record.method.map_or(NO_METHOD, |method| method as u8);
        cells.count(Series { listener, cluster, method, status: record.status });
        let is_tunnel = record.status == 101 || record.method == Some(Method::Connect);
        let end = if is_tunnel { record.answered.unwrap_or(record.ended) } else { record.ended };
        cells.times.record(Span::Total, end.saturating_sub(record.began));
        cells.times.record(Span::Overhead, record.overhead);
        if let Some(forwarded) = record.forwarded {
            let spans = [
                (Span::Queue, forwarded.queue),
                (Span::Connect, forwarded.connect),
                (Span::FirstByte, forwarded.first_byte),
            ];
            for (span, time) in spans {
                if let Some(time) = time {
                    cells.times.record(span, time);
                }
            }
        }
        if let Some(failure) = record.failure {
            let reason = failure.answer().reason;
            if record.is_cut() { self.counters.cuts.count(reason) } else { self.counters.local_responses.count(reason) }
        }
    }
}
