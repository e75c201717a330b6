//! Numbers for what outlives a snapshot: a listener or an endpoint has the same id in every snapshot that knows it, so that
//! workers keep its sockets, idle connections and counts by that id under the next one; and what all workers share of
//! its limits goes on counting, and the tickets that its clients hold are good. A route has a number beside its id, for what is
//! counted and logged of it.
//! Not here: the tables that the ids index.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hash::Hash;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use super::series::{CommonStats, SeriesLedger};
use crate::cluster::{ClusterState, EndpointState};
use crate::id::{Address, EndpointId, ListenerId, RouteNumber, TenantId};
use crate::limits::ROUTE_NUMBERS;
use crate::proxy_protocol::Version;
use crate::runtime::{Bell, Quota};
use crate::telemetry::RouteStats;
use crate::tls::{Admission, ClientSpec, ServerName, Tickets};

/// The numbers of one process. Lives on the control thread.
#[derive(Debug, Default)]
pub struct Ledger {
    listeners: Numbers<Listened>,
    tickets: HashMap<(Listened, Option<Admission>), Weak<Tickets>>,
    endpoints: Numbers<EndpointKey>,
    tenants: Numbers<String>,
    routes: Numbers<String>,
    /// By cluster and addresses: what is known of endpoints. TLS is no part of the key: a new certificate makes none well.
    states: HashMap<(String, Vec<Address>), Weak<EndpointState>>,
    /// By name.
    clusters: HashMap<String, ClusterState>,
    /// Numbers of clusters that are used no more.
    free_clusters: BTreeSet<u32>,
    /// What is counted of routes.
    series: SeriesLedger,
    /// Workers that have to do with endpoints; 0: one.
    workers: usize,
    /// Rung by workers when an endpoint has failed too often.
    bell: Bell,
}

/// The routes of all snapshots that are in use have taken all numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "at most {} routes can be in use, those of earlier configurations included that requests and tunnels still hold",
    ROUTE_NUMBERS
)]
pub(super) struct TooManyRoutes;

/// What a listener is known by: see [`listened`].
pub type Listened = (Address, bool, String);

/// How an endpoint is spoken to over TLS: settings and name.
type Secured = (ClientSpec, ServerName<'static>);

/// A number in use. The last one to drop it, which is a snapshot's end as a rule, makes it free.
#[derive(Debug)]
pub struct LedgerNumber {
    value: u32,
    /// What all workers share of a limit on what is numbered.
    pub quota: Quota,
    free: Sender<u32>,
}

/// What an endpoint is known by: see [`Ledger::endpoint`].
type EndpointKey = (String, Vec<Address>, Spoken);

/// How an endpoint is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Spoken {
    /// Over TLS.
    pub(super) tls: Option<Secured>,
    /// Behind a PROXY header.
    pub(super) proxy_protocol: Option<Version>,
    /// Over connections that requests may share.
    pub(super) is_http2: bool,
}

#[derive(Debug)]
struct Numbers<K> {
    known: HashMap<K, Weak<LedgerNumber>>,
    /// The smallest one is given first: a bound is met only when all numbers below it are in use, and tables by number stay short.
    free: BinaryHeap<Reverse<u32>>,
    given_back: Receiver<u32>,
    give_back: Sender<u32>,
    /// Never given so far, nor any above it.
    next: u32,
}

impl Ledger {
    /// The ledger of a process with so many workers, which ring `bell` when an endpoint has failed too often.
    #[must_use]
    pub fn new(workers: usize, bell: Bell) -> Self {
        Self { workers, bell, ..Self::default() }
    }

    /// A listener is known by what [`listened`] says.
    pub(super) fn listener(&mut self, bind: &Address, dual_stack: bool, name: &str) -> (ListenerId, Arc<LedgerNumber>) {
        let number = self.listeners.number(listened(bind, dual_stack, name));
        // `config` allows far fewer than a u16 holds, in each of the few snapshots that live at once.
        (ListenerId(number.value as u16), number)
    }

    /// Those of a listener and of whom it lets in: its clients come back with them after a reload, and nowhere else.
    ///
    /// A changed certificate leaves them good, as users of other proxies know it: a renewal would else cost a full handshake of
    /// every client at once, and a ticket proves that this process has shaken hands with the client under that name before, which
    /// stays true. Other authorities mean other clients, and further entries in revocation lists fewer, whose certificates are not asked
    /// for again when they resume.
    pub(super) fn tickets(&mut self, bind: &Address, name: &str, clients: Option<Admission>) -> Arc<Tickets> {
        let key = (listened(bind, false, name), clients);
        if let Some(known) = self.tickets.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let tickets = Arc::new(Tickets::new());
        self.tickets.insert(key, Arc::downgrade(&tickets));
        tickets
    }

    /// An endpoint is known by its cluster's name and its addresses, which name servers give in another order each time, and by all that
    /// TLS believes of it and tells it: with other authorities, another certificate or another name it is another one, so that
    /// connections and tickets from before the change are not used. The same goes for whether it is told of clients, and for the version
    /// of HTTP.
    pub(super) fn endpoint<'a>(
        &mut self,
        cluster: &str,
        addresses: impl IntoIterator<Item = &'a Address>,
        spoken: Spoken,
    ) -> (EndpointId, Arc<LedgerNumber>, Arc<EndpointState>) {
        let mut addresses: Vec<_> = addresses.into_iter().cloned().collect();
        addresses.sort_unstable();
        let key = (cluster.to_owned(), addresses);
        let state = self.states.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let state = Arc::new(EndpointState::new(self.workers));
            self.states.insert(key.clone(), Arc::downgrade(&state));
            state
        });
        let number = self.endpoints.number((key.0, key.1, spoken));
        (EndpointId(number.value), number, state)
    }

    /// What is known of a cluster as a whole. It is known by its name.
    pub(super) fn cluster(&mut self, name: &str) -> ClusterState {
        if let Some(known) = self.clusters.get(name) {
            return known.clone();
        }
        // Without a free number below, all numbers below the count are in use.
        let number = self.free_clusters.pop_first().unwrap_or(self.clusters.len() as u32);
        let series = self.series.cluster(name);
        let state = ClusterState::new(number, series, self.workers, self.bell.clone());
        self.clusters.insert(name.to_owned(), state.clone());
        state
    }

    /// A tenant is known by its name.
    pub(super) fn tenant(&mut self, name: &str) -> (TenantId, Arc<LedgerNumber>) {
        let number = self.tenants.number(name.to_owned());
        (TenantId(number.value as u16), number)
    }

    /// A route is known by its name, in which its tenant's name stands first: a change of what it does leaves it what it is.
    pub(super) fn route(&mut self, name: &str) -> Result<(RouteNumber, Arc<LedgerNumber>), TooManyRoutes> {
        let number = self.routes.number(name.to_owned());
        if number.value < ROUTE_NUMBERS { Ok((RouteNumber(number.value), number)) } else { Err(TooManyRoutes) }
    }

    /// What is counted of a route; `full`: it gets nothing of its own any more. It is known by its name.
    pub(super) fn stats(&mut self, name: &str, full: bool) -> Arc<RouteStats> {
        self.series.route(name, full, self.workers)
    }

    /// What is counted of exchanges without a route, and of routes that are too many.
    pub(super) fn common_stats(&mut self) -> CommonStats {
        self.series.common(self.workers)
    }

    /// The number of a listener's name in metrics: that of what it binds, so that a new name is the same listener.
    pub(super) fn listener_series(&mut self, bind: &Address, dual_stack: bool, name: &str) -> u16 {
        self.series.listener(listened(bind, dual_stack, name))
    }

    /// Forgets what no snapshot knows any more.
    pub(super) fn prune(&mut self) {
        self.listeners.prune();
        self.tickets.retain(|_, tickets| tickets.strong_count() > 0);
        self.endpoints.prune();
        self.tenants.prune();
        self.routes.prune();
        self.series.prune();
        self.states.retain(|_, state| state.strong_count() > 0);
        let free = &mut self.free_clusters;
        self.clusters.retain(|_, state| !state.is_forgotten() || !free.insert(state.number()));
    }
}

/// A listener is known by what it binds, so that a new name or limit keeps its sockets; where the kernel chooses the port,
/// by its name.
#[must_use]
pub fn listened(bind: &Address, dual_stack: bool, name: &str) -> Listened {
    let chosen = matches!(bind, Address::Inet(inet) if inet.port() == 0);
    (bind.clone(), dual_stack, if chosen { name.to_owned() } else { String::new() })
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        let (give_back, given_back) = channel();
        Self { known: HashMap::new(), free: BinaryHeap::new(), given_back, give_back, next: 0 }
    }
}

impl<K: Hash + Eq> Numbers<K> {
    fn number(&mut self, key: K) -> Arc<LedgerNumber> {
        if let Some(known) = self.known.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        self.free.extend(self.given_back.try_iter().map(Reverse));
        let value = self.free.pop().map_or(self.next, |Reverse(value)| value);
        self.next = self.next.max(value + 1);
        let number = Arc::new(LedgerNumber { value, quota: Quota::default(), free: self.give_back.clone() });
        self.known.insert(key, Arc::downgrade(&number));
        number
    }

    fn prune(&mut self) {
        self.known.retain(|_, number| number.strong_count() > 0);
    }
}

impl Drop for LedgerNumber {
    fn drop(&mut self) {
        // The process is ending when the ledger is gone.
        let _ = self.free.send(self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_while_used_and_then_given_again() {
        let mut ledger = Ledger::default();
        let address = |port: u16| Address::Inet(([127, 0, 0, 1], port).into());
        let (a, kept, _) = ledger.endpoint("a", [&address(1)], Spoken::default());
        let (b, other, _) = ledger.endpoint("b", [&address(1)], Spoken::default());
        assert_eq!((a, b), (EndpointId(0), EndpointId(1)));
        drop(other);
        let (again, _kept, _) = ledger.endpoint("a", [&address(1)], Spoken::default());
        let (c, _c, _) = ledger.endpoint("c", [&address(1)], Spoken::default());
        assert_eq!((again, c), (EndpointId(0), EndpointId(1)), "the number of b is free, that of a is not");
        drop((kept, _kept));
        let (d, _d, _) = ledger.endpoint("d", [&address(1)], Spoken::default());
        assert_eq!(d, EndpointId(0));
        ledger.prune();
        assert_eq!(ledger.endpoints.known.len(), 2);
    }

    #[test]
    fn the_smallest_free_number_is_given() {
        let mut ledger = Ledger::default();
        let mut kept: Vec<_> = (0..6).map(|index| ledger.route(&format!("route-{index}")).unwrap()).collect();
        // Neither the order in which they are dropped counts, nor the one in which they were given.
        for index in [4, 1, 2] {
            drop(kept.remove(index));
        }
        let new = ["a", "b", "c", "d"].map(|name| ledger.route(name).unwrap());
        assert_eq!(new.each_ref().map(|(number, _)| number.0), [1, 3, 4, 6]);
    }

    #[test]
    fn routes_beyond_the_last_number_are_refused_until_one_is_free() {
        let mut ledger = Ledger::default();
        let (first, kept) = ledger.route("first").unwrap();
        ledger.routes.next = ROUTE_NUMBERS - 1;
        let (last, _last) = ledger.route("a/last").unwrap();
        assert_eq!((first.0, last.0), (0, ROUTE_NUMBERS - 1));
        for name in ["b/last", "more"] {
            assert_eq!(ledger.route(name).map(|(number, _)| number), Err(TooManyRoutes));
        }
        assert_eq!(ledger.route("a/last").map(|(number, _)| number), Ok(last), "known ones are not");
        drop(kept);
        assert_eq!(ledger.route("more").map(|(number, _)| number), Ok(first));
    }

    #[test]
    fn a_listener_is_what_it_binds() {
        let mut ledger = Ledger::default();
        let at = |text: &str| text.parse::<Address>().unwrap();
        let mut kept = Vec::new();
        let mut id = |bind: &str, name: &str| {
            let (id, number) = ledger.listener(&at(bind), false, name);
            kept.push(number);
            id.0
        };
        assert_eq!([id("[::1]:80", "a"), id("[::1]:80", "renamed"), id("[::1]:81", "a")], [0, 0, 1]);
        assert_eq!([id("[::1]:0", "a"), id("[::1]:0", "b"), id("[::1]:0", "a")], [2, 3, 2]);
    }

    #[test]
    fn tickets_belong_to_a_listener_and_its_client_ca() {
        use crate::tls::{Authorities, ClientAuth};
        use rcgen::{CertificateParams, KeyPair};
        let authority = || {
            let certificate = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
            ClientAuth::new(Authorities::from_pem(&certificate.pem()).unwrap(), true, Vec::new()).admission()
        };
        let (one, other) = (authority(), authority());
        let mut ledger = Ledger::default();
        let at = |text: &str| text.parse::<Address>().unwrap();
        let kept = ledger.tickets(&at("[::1]:80"), "a", Some(one.clone()));
        let same = ledger.tickets(&at("[::1]:80"), "renamed", Some(one.clone()));
        assert!(Arc::ptr_eq(&kept, &same));
        for (bind, clients) in [("[::1]:81", Some(one.clone())), ("[::1]:80", Some(other)), ("[::1]:80", None)] {
            let others = ledger.tickets(&at(bind), "a", clients);
            assert!(!Arc::ptr_eq(&kept, &others), "{bind}");
        }
        ledger.prune();
        assert_eq!(ledger.tickets.len(), 1, "what no snapshot and no connection has is forgotten");
        assert!(Arc::ptr_eq(&kept, &ledger.tickets(&at("[::1]:80"), "a", Some(one.clone()))));
    }
}
