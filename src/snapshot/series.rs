//! What is counted of routes under which name, over the life of the process. Not here: the counting (`telemetry`), and how it is shown
//! (`control`).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::ledger::Listened;
use crate::limits::{CLUSTER_NAMES, LISTENER_IDS};
use crate::telemetry::RouteStats;

/// What is counted of exchanges that no series of a route has.
#[derive(Clone, Debug, Default)]
pub struct CommonStats {
    /// Of those without a route.
    pub unrouted: Arc<RouteStats>,
    /// Of routes that are more than `metrics.routes`.
    pub overflow: Arc<RouteStats>,
}

/// Numbers of names in metrics, which are never given to others, and what is counted of each route.
#[derive(Debug, Default)]
pub(super) struct SeriesLedger {
    listeners: HashMap<Listened, u16>,
    clusters: HashMap<String, u32>,
    routes: HashMap<String, Weak<RouteStats>>,
    common: Option<CommonStats>,
}

impl SeriesLedger {
    /// The number of a listener. All beyond the last one have the last one.
    pub(super) fn listener(&mut self, listened: Listened) -> u16 {
        let next = self.listeners.len().min(LISTENER_IDS - 1);
        if next == LISTENER_IDS - 1 {
            return self.listeners.get(&listened).copied().unwrap_or(next as u16);
        }
        *self.listeners.entry(listened).or_insert(next as u16)
    }

    /// The number of a cluster, from 1. All beyond the last one have the last one.
    pub(super) fn cluster(&mut self, name: &str) -> u32 {
        if let Some(known) = self.clusters.get(name) {
            return *known;
        }
        let number = (self.clusters.len() as u32 + 1).min(CLUSTER_NAMES);
        if number < CLUSTER_NAMES {
            self.clusters.insert(name.to_owned(), number);
        }
        number
    }

    /// What is counted of a route; `full`: those that are new share it.
    pub(super) fn route(&mut self, name: &str, full: bool, workers: usize) -> Arc<RouteStats> {
        if let Some(known) = self.routes.get(name).and_then(Weak::upgrade) {
            return known;
        }
        if full {
            return self.common(workers).overflow;
        }
        let stats = Arc::new(RouteStats::new(workers));
        self.routes.insert(name.to_owned(), Arc::downgrade(&stats));
        stats
    }

    pub(super) fn common(&mut self, workers: usize) -> CommonStats {
        let new = || Arc::new(RouteStats::new(workers));
        self.common.get_or_insert_with(|| CommonStats { unrouted: new(), overflow: new() }).clone()
    }

    /// Forgets what nobody counts any more.
    pub(super) fn prune(&mut self) {
        self.routes.retain(|_, stats| stats.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers() {
        let mut ledger = SeriesLedger::default();
        assert_eq!(["a", "b", "a", "c"].map(|name| ledger.cluster(name)), [1, 2, 1, 3]);
        let listened = |port: u16| (crate::id::Address::Inet(([127, 0, 0, 1], port).into()), false, String::new());
        assert_eq!([80, 81, 80].map(|port| ledger.listener(listened(port))), [0, 1, 0]);
        for port in 1000..1000 + LISTENER_IDS as u16 + 5 {
            ledger.listener(listened(port));
        }
        assert_eq!([80, 81, 9999].map(|port| ledger.listener(listened(port))), [0, 1, 4095]);
    }

    #[test]
    fn routes_beyond_the_cap_share_what_is_counted() {
        let mut ledger = SeriesLedger::default();
        let one = ledger.route("one", false, 1);
        let overflow = ledger.common(1).overflow;
        assert!(Arc::ptr_eq(&ledger.route("two", true, 1), &overflow));
        assert!(Arc::ptr_eq(&ledger.route("one", true, 1), &one), "known ones keep theirs");
        assert!(!Arc::ptr_eq(&ledger.route("two", false, 1), &overflow));
        ledger.prune();
        assert_eq!(ledger.routes.len(), 1);
    }
}
