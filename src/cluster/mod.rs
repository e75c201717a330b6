//! Picks an endpoint of a cluster. Not here: connections to it (`upstream`, `pool`).

mod adaptive;
mod affinity;
mod balancer;
mod hash;
mod hashing;
mod maglev;
mod places;
mod power_of_two;
mod random;
mod ring_hash;
mod round_robin;
mod seats;
mod selection;
mod shares;
#[cfg(test)]
mod simulation;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod times;
mod view;
mod zone;

use std::sync::Arc;
use std::time::Duration;

pub use adaptive::AdaptiveLimit;
pub use affinity::Affinity;
pub use balancer::{Balancer, Preference, Probe, Tried};
use hashing::Hashing;
pub use hashing::key_of;
pub use places::{Places, Priority, Queued, Sharer};
use seats::Seats;
pub use selection::{Level, Selection};
use shares::Shares;
pub use spec::{
    AffinitySpec, Balance, CheckKind, ClusterSpec, EndpointSpec, HashOn, HealthSpec, Http2Spec, HttpCheck, Initial,
    LimitsSpec, OutlierSpec,
};
pub use state::{ClusterState, EndpointState, Hold, Outcome, ProbeProgress, ProbeStage, RAMP};
pub use times::{TIME_CLASSES, TimeCounts, p95, time_class};
pub use view::ClusterViews;

use crate::id::{Address, ClusterId, EndpointId};
use crate::proxy_protocol::Version;
use crate::tls::{Client, ClientSpec, ServerName};

/// A compiled cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its position in the snapshot.
    pub id: ClusterId,
    /// Unique name.
    pub name: Box<str>,
    /// Endpoints in file order.
    pub endpoints: Box<[Endpoint]>,
    /// Host of requests that have none.
    pub host: Box<str>,
    /// What connections to its endpoints share of TLS, without tickets; None: in the clear.
    pub tls: Option<Client>,
    /// The same for connections that are to speak HTTP/1.1; None: `tls` is for these, or there is none.
    pub tls_http1: Option<Client>,
    /// The version of the PROXY header that each connection begins with; None: there is none. With one, a connection belongs to one
    /// client connection.
    pub proxy_protocol: Option<Version>,
    /// Connections that requests share; None: HTTP/1.1 alone is spoken.
    pub http2: Option<Http2Spec>,
    /// Policy by which an endpoint is chosen.
    pub balance: Balance,
    /// Idle connections kept per endpoint, over all workers.
    pub max_idle: u32,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Time from the end of the request head to the first response byte, and between reads of the response.
    pub response_timeout: Duration,
    /// Whether a client that sends FIN before the response begins is taken to have gone.
    pub abort_on_close: bool,
    /// When endpoints are ejected because of what comes of requests.
    pub outlier: OutlierSpec,
    /// How endpoints are checked; None: not at all.
    pub health: Option<Arc<HealthSpec>>,
    /// Share of the endpoints that have to be usable; where fewer are, all are used.
    pub panic_threshold: f64,
    /// Time in which an endpoint that has come back gets its full weight; 0: at once.
    pub slow_start: Duration,
    /// How many requests may be under way, and may wait.
    pub limits: LimitsSpec,
    /// The part of a request by which its endpoint is chosen; None: the policy heeds none.
    pub hash_on: Option<HashOn>,
    /// The cookie that keeps clients at their endpoints; None: none does.
    pub affinity: Option<Affinity>,
    /// The zone whose endpoints are preferred; None: none are.
    pub zone: Option<Box<str>>,
    /// What is known of it, the same in every snapshot that has a cluster of its name.
    pub state: ClusterState,
    /// The shares of all endpoints that are no backups.
    shares: Shares,
    /// How keys are dealt to endpoints; None: the policy heeds none.
    hashing: Option<Hashing>,
}

/// One endpoint of a compiled cluster.
#[derive(Debug)]
pub struct Endpoint {
    /// Id, the same in every snapshot that has the endpoint.
    pub id: EndpointId,
    /// Its address.
    pub address: Address,
    /// Further addresses.
    pub others: Box<[Address]>,
    /// The name that TLS asks for; None: in the clear.
    pub tls_name: Option<ServerName<'static>>,
    /// Share of the traffic; 0: none.
    pub weight: u16,
    /// Whether it is used only where too few others are usable.
    pub backup: bool,
    /// The zone in which it runs; None: in none that is known.
    pub zone: Option<Box<str>>,
    /// The address as text, or the name with its port as it is written.
    pub name: Box<str>,
    /// The Host of checks that name none.
    pub host: Box<str>,
    /// What is known of it, the same in every snapshot that has the endpoint.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// Its weight, by the operator's word or the configuration's.
    #[must_use]
    pub fn current_weight(&self) -> u16 {
        self.state.weight().unwrap_or(self.weight)
    }

    /// Whether new requests may go to it: nothing is held against it, and its weight is not 0.
    #[must_use]
    pub fn takes_traffic(&self) -> bool {
        self.state.is_usable() && self.current_weight() > 0
    }

    /// Tells what is known of it from what is known of all other endpoints, for as long as someone holds its state. It is the same in
    /// every snapshot that has the endpoint, whatever TLS believes of it.
    #[must_use]
    pub fn state_key(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// How many addresses it has.
    #[must_use]
    pub fn addresses(&self) -> usize {
        1 + self.others.len()
    }

    /// The address at position `place` of an endless round through all addresses.
    #[must_use]
    pub fn address_at(&self, place: usize) -> &Address {
        match place % self.addresses() {
            0 => &self.address,
            other => &self.others[other - 1],
        }
    }
}

impl Cluster {
    /// Whether TLS asks endpoints for the name in a request's Host.
    #[must_use]
    pub fn asks_by_host(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.spec().by_host)
    }

    /// The endpoint for a key while all are in use and none is too busy; None: the policy heeds no key.
    #[must_use]
    pub fn owner(&self, key: u64) -> Option<&Endpoint> {
        let seats = Seats::new(&self.endpoints, &self.shares);
        self.endpoints.get(self.hashing.as_ref()?.pick(key, &seats, |_| 0, |_| true)?)
    }

    /// Compiles a cluster whose endpoints have these ids and states, one each.
    #[must_use]
    pub fn build(
        id: ClusterId,
        spec: &ClusterSpec,
        state: ClusterState,
        known: &[(EndpointId, Arc<EndpointState>)],
    ) -> Self {
        let endpoints = spec.endpoints.iter().zip(known).map(|(endpoint, (id, state))| {
            let (name, host) = (endpoint.name.as_str().into(), endpoint.host.as_str().into());
            let (address, others) = (endpoint.address.clone(), endpoint.others.clone().into());
            let (tls_name, state) = (endpoint.tls_name.clone(), Arc::clone(state));
            let (weight, backup) = (endpoint.weight, endpoint.backup);
            let zone = endpoint.zone.as_deref().map(Into::into);
            Endpoint { id: *id, address, others, tls_name, weight, backup, zone, name, host, state }
        });
        let endpoints: Box<[Endpoint]> = endpoints.collect();
        let primaries = endpoints.iter().filter(|endpoint| !endpoint.backup);
        let shares = Shares::new(primaries.map(|endpoint| (endpoint.id, u32::from(endpoint.weight))));
        Self {
            id,
            name: spec.name.as_str().into(),
            hash_on: spec.hash_on.clone(),
            affinity: spec.affinity.as_ref().map(|affinity| Affinity::new(&spec.name, affinity, &endpoints)),
            zone: spec.zone.as_deref().map(Into::into),
            hashing: Hashing::new(spec.balance, &endpoints),
            endpoints,
            host: spec.host.as_str().into(),
            tls: spec.tls.as_ref().map(Client::new),
            tls_http1: spec
                .tls
                .as_ref()
                .filter(|_| spec.http2.is_some_and(|http2| http2.is_negotiated))
                .map(|tls| Client::new(&ClientSpec { protocols: &[b"http/1.1"], ..tls.clone() })),
            proxy_protocol: spec.proxy_protocol,
            http2: spec.http2,
            balance: spec.balance,
            max_idle: spec.max_idle,
            idle: spec.idle,
            connect_timeout: spec.connect_timeout,
            response_timeout: spec.response_timeout,
            abort_on_close: spec.abort_on_close,
            outlier: spec.outlier,
            health: spec.health.clone().map(Arc::new),
            panic_threshold: spec.panic_threshold,
            slow_start: spec.slow_start,
            limits: spec.limits,
            state,
            shares,
        }
    }
}
