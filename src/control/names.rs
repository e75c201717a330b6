//! What the series of workers are called, over the life of the process: routes that are gone stay for a while, so that counters neither
//! vanish nor go back. Not here: how series are shown (`series`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::{CLUSTER_NAMES, LISTENER_IDS};
use crate::snapshot::{CommonStats, Snapshot};
use crate::telemetry::RouteStats;

/// What stands for a name where there are too many.
pub(super) const OVERFLOW: &str = "overflow";

/// A route of which something was counted.
#[derive(Clone, Debug)]
pub struct NamedRoute {
    /// Its tenant.
    pub(super) tenant: Option<Arc<str>>,
    pub(super) stats: Arc<RouteStats>,
    /// The version of the last configuration that had it.
    pub(super) version: u64,
}

/// Names of series. Cheap to clone where nobody changes the clone.
#[derive(Clone, Debug, Default)]
pub struct SeriesNames {
    /// By name of the route.
    pub(super) routes: Arc<BTreeMap<Arc<str>, NamedRoute>>,
    /// By number, which are those of listeners.
    listeners: Arc<Vec<String>>,
    /// By number, which are those of clusters, from 1.
    clusters: Arc<Vec<String>>,
    pub(super) common: CommonStats,
    /// Routes that are gone, whose series are not shown any more.
    pub(super) forgotten: u64,
    /// Routes of the configuration that have no series of their own.
    pub(super) overflowing: usize,
}

impl SeriesNames {
    /// Takes in the names of a configuration that is served from now on. Of routes that are gone, so many are kept as `most` says.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, most: usize) {
        self.common = snapshot.common_stats().clone();
        self.overflowing = 0;
        let listeners = Arc::make_mut(&mut self.listeners);
        for (id, spec) in snapshot.listeners() {
            set(listeners, usize::from(snapshot.listener_series(id)), &spec.name);
        }
        let clusters = Arc::make_mut(&mut self.clusters);
        for cluster in &snapshot.clusters {
            set(clusters, cluster.state.series() as usize, &cluster.name);
        }
        let routes = Arc::make_mut(&mut self.routes);
        for (route, stats) in snapshot.router.routes().iter().zip(snapshot.route_stats()) {
            if Arc::ptr_eq(stats, &self.common.overflow) {
                self.overflowing += 1;
                continue;
            }
            let tenant = route.tenant.and_then(|tenant| snapshot.tenant(tenant));
            let tenant = tenant.map(|tenant| tenant.spec.name.as_str().into());
            let named = NamedRoute { tenant, stats: Arc::clone(stats), version: snapshot.version };
            routes.insert(Arc::from(&*route.name), named);
        }
        let gone = |(name, route): (&Arc<str>, &NamedRoute)| {
            (route.version < snapshot.version).then(|| (route.version, Arc::clone(name)))
        };
        let mut gone: Vec<_> = routes.iter().filter_map(gone).collect();
        gone.sort_unstable();
        for (_, name) in gone.iter().take(gone.len().saturating_sub(most)) {
            routes.remove(name);
            self.forgotten += 1;
        }
    }

    /// The name of a listener.
    pub(super) fn listener(&self, number: u16) -> &str {
        let number = usize::from(number);
        if number + 1 >= LISTENER_IDS { OVERFLOW } else { self.listeners.get(number).map_or("", String::as_str) }
    }

    /// The name of a cluster; empty: none was chosen.
    pub(super) fn cluster(&self, number: u32) -> &str {
        if number >= CLUSTER_NAMES { OVERFLOW } else { self.clusters.get(number as usize).map_or("", String::as_str) }
    }
}

/// Sets the name with a number.
fn set(names: &mut Vec<String>, number: usize, name: &str) {
    if names.len() <= number {
        names.resize(number + 1, String::new());
    }
    if names[number] != name {
        name.clone_into(&mut names[number]);
    }
}
