//! One immutable compiled configuration: listeners, routes, clusters. Built once, never edited.
//! Not here: reading configuration (`config`), publishing it (`control`).

mod ledger;
mod series;
mod tunnels;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ledger::Spoken;
pub use ledger::{Ledger, LedgerNumber, Listened, listened};
pub use series::CommonStats;
pub use tunnels::Tunnels;

use crate::access_log::AccessLogSpec;
use crate::cluster::{Balancer, Cluster, ClusterSpec, ClusterViews, Endpoint, Preference, Tried};
use crate::http::path::{self, EncodedSlash};
use crate::id::{Address, ClusterId, EndpointId, ListenerId, Network, RouteId, RouteNumber, TenantId};
use crate::observer::ExportSpec;
use crate::route::{BuildError, ErrorPageSpec, ErrorPages, Protocol, RouteSpec, Router, Scheme};
use crate::runtime::Quota;
use crate::telemetry::RouteStats;
use crate::tls;
use crate::trace::TraceSpec;
use crate::uring::BindOptions;

/// Everything that a worker needs to serve, numbered.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first one of a process, then counting up.
    pub version: u64,
    /// Host, path and the rest to route.
    pub router: Router,
    /// By `ClusterId`.
    pub clusters: Vec<Cluster>,
    /// Whether some endpoints are told of clients, in a PROXY header.
    pub tells_of_clients: bool,
    /// Bodies of answers that are made here.
    pub error_pages: ErrorPages,
    /// Turns of workers that are longer than this, for a second, have requests refused.
    pub overload_delay: Duration,
    /// How long a worker waits for more than one completion.
    pub batch_wait: Duration,
    /// The access log; None: there is none.
    pub access_log: Option<AccessLogSpec>,
    /// From which time on an exchange is slow; None: after `limits::SLOW_EXCHANGE`.
    pub slow: Option<Duration>,
    /// What becomes of trace contexts.
    pub trace: TraceSpec,
    /// Where spans are exported to; None: nowhere.
    pub export: Option<Arc<ExportSpec>>,
    /// By `ListenerId`; with gaps, where other snapshots have listeners that this one lacks.
    listeners: Box<[Option<Listener>]>,
    /// By `EndpointId`, with gaps.
    endpoints: Box<[Option<Seat>]>,
    /// By `TenantId`, with gaps.
    tenants: Box<[Option<Tenant>]>,
    routes: RouteNumbers,
    /// What is counted of exchanges that no route of its own has.
    common: CommonStats,
}

/// The numbers of its routes.
#[derive(Debug, Default)]
struct RouteNumbers {
    /// By `RouteId`, apart from the holds, so that requests find them close together.
    numbers: Box<[RouteNumber]>,
    /// What keeps them from being given to others, and what all workers share of limits on them.
    holds: Box<[Arc<LedgerNumber>]>,
    /// What is counted of them.
    stats: Box<[Arc<RouteStats>]>,
}

/// A listener.
#[derive(Debug)]
struct Listener {
    spec: ListenerSpec,
    number: Arc<LedgerNumber>,
    /// Number of its name in metrics.
    series: u16,
    tls: Option<tls::Server>,
    tunnels: Tunnels,
}

/// What a tenant may use.
#[derive(Debug)]
pub struct Tenant {
    /// Its limits.
    pub spec: TenantSpec,
    /// With what all workers share of them.
    pub number: Arc<LedgerNumber>,
}

/// Where an endpoint is found.
#[derive(Debug)]
struct Seat {
    cluster: ClusterId,
    position: u32,
    number: Arc<LedgerNumber>,
}

/// A worker's hold on a snapshot, cloned for each exchange without an atomic operation.
#[derive(Clone, Debug)]
pub struct SnapshotRef(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The one reference of a worker that other threads see.
    snapshot: Arc<Snapshot>,
    /// What this worker sees of the clusters.
    views: ClusterViews,
}

impl SnapshotRef {
    /// Takes hold of a snapshot; `balancer` chooses where its rounds begin.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, balancer: &mut Balancer) -> Self {
        let views = ClusterViews::new(&snapshot.clusters, balancer);
        Self(Rc::new(Shared { snapshot, views }))
    }

    /// An endpoint of `cluster` for the next request, as [`Balancer::pick`] says.
    pub fn pick(
        &self,
        cluster: ClusterId,
        tried: &Tried,
        preference: Preference,
        probe: bool,
        balancer: &mut Balancer,
    ) -> Option<EndpointId> {
        balancer.pick(self.clusters.get(cluster.index())?, &self.0.views, tried, preference, probe)
    }

    /// The endpoint of `cluster` that is at a position among those in use; None: there are fewer.
    pub fn used_endpoint(&self, cluster: ClusterId, position: usize, balancer: &mut Balancer) -> Option<EndpointId> {
        balancer.used(self.clusters.get(cluster.index())?, &self.0.views, position)
    }

    /// Whether an endpoint of `cluster` is in use that was not tried.
    pub fn has_untried(&self, cluster: ClusterId, tried: &Tried, balancer: &mut Balancer) -> bool {
        let cluster = self.clusters.get(cluster.index());
        cluster.is_some_and(|cluster| balancer.has_untried(cluster, &self.0.views, tried))
    }
}

impl std::ops::Deref for SnapshotRef {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0.snapshot
    }
}

/// What [`Snapshot::build`] takes: checked, plain, in file order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotSpec {
    /// `[[listener]]`
    pub listeners: Vec<ListenerSpec>,
    /// `[[route]]`
    pub routes: Vec<RouteSpec>,
    /// `[[cluster]]`
    pub clusters: Vec<ClusterSpec>,
    /// `[[tenant]]`
    pub tenants: Vec<TenantSpec>,
    /// `[[error_pages]]`
    pub error_pages: Vec<ErrorPageSpec>,
    /// `workers.overload_delay`
    pub overload_delay: Duration,
    /// `workers.batch_wait`
    pub batch_wait: Duration,
    /// `[log]`; None: nothing is logged of exchanges.
    pub access_log: Option<AccessLogSpec>,
    /// `log.slow`, whether there is an access log or not
    pub slow: Option<Duration>,
    /// `[trace]`
    pub trace: TraceSpec,
    /// `metrics.routes`: routes with series of their own.
    pub metrics_routes: usize,
    /// `[otlp]`; None: nothing is exported.
    pub export: Option<Arc<ExportSpec>>,
}

impl SnapshotSpec {
    /// What the listeners speak, by position.
    #[must_use]
    pub fn protocols(&self) -> Vec<Protocol> {
        self.listeners.iter().map(|listener| listener.protocol).collect()
    }
}

/// What a snapshot keeps of one `[[tenant]]`; its routes and clusters stand among all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSpec {
    /// Unique name.
    pub name: String,
    /// `limits.requests` in flight, process-wide; 0: no limit.
    pub requests: u32,
    /// `limits.requests_per_second`, process-wide; 0: no limit.
    pub requests_per_second: u32,
}

/// Whether connections of trusted proxies begin with a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// They may.
    Optional,
    /// They do, and no others are let in.
    Require,
}

impl ProxyProtocol {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Require => "require",
        }
    }
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Unique name.
    pub name: String,
    /// Where it listens.
    pub bind: Address,
    /// What its clients speak.
    pub protocol: Protocol,
    /// `ipv6only`, `mode` and `owner`
    pub options: BindOptions,
    /// `limits.header_bytes`, at most `limits::HEAD_BYTES_MAX`.
    pub header_bytes: usize,
    /// `limits.header_count`, at most `limits::HEADER_COUNT_MAX`.
    pub header_count: usize,
    /// `limits.body_bytes`; 0: no limit.
    pub body_bytes: u64,
    /// `limits.connections`, process-wide; 0: no limit.
    pub connections: u32,
    /// `limits.handshakes`, process-wide; 0: no limit.
    pub handshakes: u32,
    /// `limits.requests` of one connection; 0: no limit.
    pub requests: u32,
    /// `timeouts.header`
    pub header_timeout: Duration,
    /// `timeouts.body`
    pub body_timeout: Duration,
    /// `timeouts.body_rate`, bytes per second; 0: any.
    pub body_rate: u64,
    /// `timeouts.idle`
    pub idle_timeout: Duration,
    /// Peers whose forwarding fields are believed, and appended to.
    pub trusted_proxies: Vec<Network>,
    /// Refuse paths that readers understand differently (encoded NUL, backslash, dot segments behind encoded slashes): the edge
    /// role.
    pub strict_paths: bool,
    /// Forward the normal form of paths.
    pub normalize_path: bool,
    /// `proxy_protocol`
    pub proxy_protocol: ProxyProtocol,
    /// What `%2f` in paths is.
    pub encoded_slash: EncodedSlash,
    /// Requests in the clear are answered 308, to https.
    pub redirect_to_https: bool,
    /// `hsts` as a field line; None: none is sent.
    pub hsts: Option<Box<str>>,
    /// `tls`; None: in the clear.
    pub tls: Option<tls::ServerSpec>,
    /// `http2`; None: it does not speak HTTP/2.
    pub http2: Option<Http2Spec>,
}

/// `[listener.http2]`, enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Spec {
    /// `streams` of a connection at once.
    pub streams: u16,
    /// `window` of a stream, bytes.
    pub window: u32,
    /// `connection_window`, bytes.
    pub connection_window: u32,
    /// `max_connection_age`; None: connections may be as old as they get.
    pub max_age: Option<Duration>,
}

impl ListenerSpec {
    /// The port that it binds; None: a Unix-domain socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match &self.bind {
            Address::Inet(bind) => Some(bind.port()),
            Address::Unix(_) => None,
        }
    }

    /// How its clients speak, or are meant to.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// The line of Strict-Transport-Security for responses over TLS; empty: none.
    #[must_use]
    pub fn hsts_line(&self) -> &[u8] {
        self.hsts.as_deref().unwrap_or_default().as_bytes()
    }

    /// Whether it takes clients in the clear although it speaks TLS.
    #[must_use]
    pub fn is_permissive(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.permissive)
    }

    /// Whether its clients may speak so.
    #[must_use]
    pub fn speaks(&self, scheme: Scheme) -> bool {
        self.scheme() == scheme || self.is_permissive()
    }

    /// How it reads paths.
    #[must_use]
    pub fn path_rules(&self) -> path::Rules {
        path::Rules { strict: self.strict_paths, encoded_slash: self.encoded_slash, normalize: self.normalize_path }
    }
}

impl Snapshot {
    /// Compiles a checked configuration. `ledger` is the process's: what an earlier snapshot knew has the same id in this one.
    ///
    /// # Errors
    /// All problems that only compiling finds (a bad regular expression, two routes with the same match).
    pub fn build(version: u64, mut spec: SnapshotSpec, ledger: &mut Ledger) -> Result<Self, Vec<BuildError>> {
        ledger.prune();
        let (mut listeners, mut ids) = (Vec::new(), Vec::new());
        for spec in spec.listeners {
            let (id, number) = ledger.listener(&spec.bind, spec.options.dual_stack, &spec.name);
            ids.push(id);
            let series = ledger.listener_series(&spec.bind, spec.options.dual_stack, &spec.name);
            let tls = spec.tls.as_ref().map(|tls| {
                let clients = tls.clients.as_ref().map(tls::ClientAuth::admission);
                tls::Server::new(tls, ledger.tickets(&spec.bind, &spec.name, clients))
            });
            set(&mut listeners, id.index(), Listener { spec, number, series, tls, tunnels: Tunnels::default() });
        }
        for listener in spec.routes.iter_mut().flat_map(|route| &mut route.listeners) {
            *listener = ids[listener.index()];
        }
        let (mut tenants, mut tenant_ids) = (Vec::new(), Vec::new());
        for spec in spec.tenants {
            let (id, number) = ledger.tenant(&spec.name);
            tenant_ids.push(id);
            set(&mut tenants, id.index(), Tenant { spec, number });
        }
        for tenant in spec.routes.iter_mut().filter_map(|route| route.tenant.as_mut()) {
            *tenant = tenant_ids[tenant.index()];
        }
        let numbered = listeners.iter_mut().zip(0..).filter_map(|(listener, id)| Some((listener.as_mut()?, id)));
        numbered.for_each(|(it, id)| it.tunnels = Tunnels::of(&spec.routes, &spec.clusters, ListenerId(id)));
        let protocol = |it: &Option<Listener>| it.as_ref().map_or(Protocol::Http, |it| it.spec.protocol);
        let protocols: Vec<_> = listeners.iter().map(protocol).collect();
        let router = Router::build(&spec.routes, &protocols)?;
        let routes = RouteNumbers::of(&spec.routes, spec.metrics_routes, ledger).map_err(|error| vec![error])?;
        let (mut clusters, mut endpoints) = (Vec::with_capacity(spec.clusters.len()), Vec::new());
        for (index, cluster) in spec.clusters.iter().enumerate() {
            let id = ClusterId(index as u32);
            let mut known = Vec::with_capacity(cluster.endpoints.len());
            for (endpoint, position) in cluster.endpoints.iter().zip(0..) {
                let spoken = Spoken {
                    tls: cluster.tls.clone().zip(endpoint.tls_name.clone()),
                    proxy_protocol: cluster.proxy_protocol,
                    is_http2: cluster.http2.is_some(),
                };
                let (endpoint, number, state) = ledger.endpoint(&cluster.name, endpoint.addresses(), spoken);
                set(&mut endpoints, endpoint.index(), Seat { cluster: id, position, number });
                known.push((endpoint, state));
            }
            clusters.push(Cluster::build(id, cluster, ledger.cluster(&cluster.name), &known));
        }
        let tells_of_clients = spec.clusters.iter().any(|cluster| cluster.proxy_protocol.is_some());
        let error_pages = ErrorPages::compile(&spec.error_pages);
        let (listeners, endpoints, tenants) = (listeners.into(), endpoints.into(), tenants.into());
        let (access_log, slow, trace, export) = (spec.access_log, spec.slow, spec.trace, spec.export);
        Ok(Self {
            version,
            router,
            clusters,
            tells_of_clients,
            error_pages,
            overload_delay: spec.overload_delay,
            batch_wait: spec.batch_wait,
            access_log,
            slow,
            trace,
            export,
            listeners,
            endpoints,
            tenants,
            routes,
            common: ledger.common_stats(),
        })
    }

    /// One with nothing in it, of version 0.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            version: 0,
            router: Router::default(),
            clusters: Vec::new(),
            tells_of_clients: false,
            error_pages: ErrorPages::default(),
            overload_delay: Duration::MAX,
            batch_wait: Duration::ZERO,
            access_log: None,
            slow: None,
            trace: TraceSpec::default(),
            export: None,
            listeners: Box::default(),
            endpoints: Box::default(),
            tenants: Box::default(),
            routes: RouteNumbers::default(),
            common: CommonStats::default(),
        }
    }

    /// A listener.
    ///
    /// # Panics
    /// When only another snapshot has it.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> &ListenerSpec {
        &self.known(id).spec
    }

    /// What all workers share of a listener's limits.
    ///
    /// # Panics
    /// When only another snapshot has it.
    #[must_use]
    pub fn quota(&self, id: ListenerId) -> &Quota {
        &self.known(id).number.quota
    }

    /// What the connections of a listener share of TLS; None: it speaks in the clear.
    ///
    /// # Panics
    /// When only another snapshot has it.
    #[must_use]
    pub fn tls(&self, id: ListenerId) -> Option<&tls::Server> {
        self.known(id).tls.as_ref()
    }

    /// Whether routes of a listener take an extended CONNECT.
    ///
    /// # Panics
    /// When only another snapshot has it.
    #[must_use]
    pub fn tunnels(&self, id: ListenerId) -> &Tunnels {
        &self.known(id).tunnels
    }

    fn known(&self, id: ListenerId) -> &Listener {
        match self.listeners.get(id.index()) {
            Some(Some(listener)) => listener,
            _ => panic!("snapshot {} has no listener {}", self.version, id.0),
        }
    }

    /// Whether it has the listener.
    #[must_use]
    pub fn has_listener(&self, id: ListenerId) -> bool {
        self.listeners.get(id.index()).is_some_and(Option::is_some)
    }

    /// All listeners, by id.
    pub fn listeners(&self) -> impl Iterator<Item = (ListenerId, &ListenerSpec)> {
        let numbered = self.listeners.iter().enumerate();
        numbered.filter_map(|(id, listener)| Some((ListenerId(id as u16), &listener.as_ref()?.spec)))
    }

    /// The number under which all snapshots know a route of this one's router.
    ///
    /// # Panics
    /// When the id is another snapshot's and above all of this one.
    #[must_use]
    #[inline]
    pub fn route_number(&self, id: RouteId) -> RouteNumber {
        self.routes.numbers[id.index()]
    }

    /// What is counted of each route of this one's router, by `RouteId`.
    #[must_use]
    pub fn route_stats(&self) -> &[Arc<RouteStats>] {
        &self.routes.stats
    }

    /// What is counted of exchanges that no route of its own has.
    #[must_use]
    pub fn common_stats(&self) -> &CommonStats {
        &self.common
    }

    /// The number of a listener's name in metrics.
    ///
    /// # Panics
    /// When only another snapshot has it.
    #[must_use]
    pub fn listener_series(&self, id: ListenerId) -> u16 {
        self.known(id).series
    }

    /// What all workers share of the retries of a route of this one's router.
    ///
    /// # Panics
    /// When the id is another snapshot's and above all of this one.
    #[must_use]
    pub fn route_quota(&self, id: RouteId) -> &Quota {
        &self.routes.holds[id.index()].quota
    }

    /// A hold on the number of a route for who lets go of the snapshot.
    #[must_use]
    pub fn route_hold(&self, id: RouteId) -> Option<Arc<LedgerNumber>> {
        self.routes.holds.get(id.index()).map(Arc::clone)
    }

    /// Above the number of every route of this snapshot.
    #[must_use]
    pub fn route_bound(&self) -> usize {
        self.routes.numbers.iter().map(|number| number.0 as usize + 1).max().unwrap_or(0)
    }

    /// A tenant, unless only another snapshot has it.
    #[must_use]
    pub fn tenant(&self, id: TenantId) -> Option<&Tenant> {
        self.tenants.get(id.index())?.as_ref()
    }

    /// All tenants, by id.
    pub fn tenants(&self) -> impl Iterator<Item = (TenantId, &Tenant)> {
        let numbered = self.tenants.iter().enumerate();
        numbered.filter_map(|(id, tenant)| Some((TenantId(id as u16), tenant.as_ref()?)))
    }

    /// An endpoint and the cluster that it belongs to, unless only another snapshot has it.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<(&Cluster, &Endpoint)> {
        let seat = self.endpoints.get(id.index())?.as_ref()?;
        let cluster = self.clusters.get(seat.cluster.index())?;
        Some((cluster, cluster.endpoints.get(seat.position as usize)?))
    }

    /// A hold on an endpoint's number for who lets go of the snapshot.
    #[must_use]
    pub fn number(&self, id: EndpointId) -> Option<Arc<LedgerNumber>> {
        self.endpoints.get(id.index())?.as_ref().map(|seat| Arc::clone(&seat.number))
    }

    /// Above every `EndpointId` of this snapshot.
    #[must_use]
    pub fn endpoint_bound(&self) -> usize {
        self.endpoints.len()
    }
}

impl RouteNumbers {
    /// Fails at the first route that gets none: the others would say the same.
    fn of(routes: &[RouteSpec], most: usize, ledger: &mut Ledger) -> Result<Self, BuildError> {
        let (mut numbers, mut holds) = (Vec::with_capacity(routes.len()), Vec::with_capacity(routes.len()));
        let mut stats = Vec::with_capacity(routes.len());
        for route in routes {
            let (number, hold) = ledger.route(&route.name).map_err(|error| BuildError {
                route: route.name.clone(),
                key: "name",
                problem: error.to_string(),
                rival: None,
            })?;
            numbers.push(number);
            holds.push(hold);
            stats.push(ledger.stats(&route.name, stats.len() >= most));
        }
        Ok(Self { numbers: numbers.into(), holds: holds.into(), stats: stats.into() })
    }
}

/// Stores a value at `index`, behind gaps where it lies beyond the end.
fn set<T>(table: &mut Vec<Option<T>>, index: usize, value: T) {
    if table.len() <= index {
        table.resize_with(index + 1, || None);
    }
    table[index] = Some(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Balance, EndpointSpec, LimitsSpec, OutlierSpec};
    use crate::route::{ActionSpec, HostPattern};

    #[test]
    fn an_endpoint_has_its_cluster_and_keeps_its_id() {
        let mut ledger = Ledger::default();
        let cluster = |name: &str, ports: &[u16]| ClusterSpec {
            host: "localhost".into(),
            name: name.into(),
            tls: None,
            endpoints: ports
                .iter()
                .map(|&port| EndpointSpec {
                    name: format!("127.0.0.1:{port}"),
                    host: format!("127.0.0.1:{port}"),
                    address: Address::Inet(([127, 0, 0, 1], port).into()),
                    others: Vec::new(),
                    tls_name: None,
                    weight: 1,
                    backup: false,
                    zone: None,
                })
                .collect(),
            proxy_protocol: None,
            http2: None,
            balance: Balance::default(),
            max_idle: 128,
            idle: Duration::from_secs(55),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(30),
            abort_on_close: false,
            outlier: OutlierSpec::OFF,
            health: None,
            panic_threshold: 0.5,
            slow_start: Duration::ZERO,
            limits: LimitsSpec::NONE,
            hash_on: None,
            affinity: None,
            zone: None,
        };
        let mut build = |version, clusters: &[ClusterSpec]| {
            let spec = SnapshotSpec { clusters: clusters.to_vec(), ..SnapshotSpec::default() };
            Snapshot::build(version, spec, &mut ledger).unwrap()
        };
        let found = |snapshot: &Snapshot| -> Vec<_> {
            let ids = (0..snapshot.endpoint_bound() as u32).map(EndpointId);
            let found = ids.map(|id| snapshot.endpoint(id).map(|(cluster, endpoint)| (cluster, endpoint, id)));
            let text = |(cluster, endpoint, id): (&Cluster, &Endpoint, EndpointId)| {
                assert_eq!(endpoint.id, id);
                format!("{} {}", cluster.name, endpoint.name)
            };
            found.map(|found| found.map(text).unwrap_or_default()).collect()
        };
        let first = build(1, &[cluster("a", &[10, 11]), cluster("b", &[20])]);
        assert_eq!(found(&first), ["a 127.0.0.1:10", "a 127.0.0.1:11", "b 127.0.0.1:20"]);
        let second = build(2, &[cluster("b", &[21, 20]), cluster("a", &[11])]);
        assert_eq!(found(&second), ["", "a 127.0.0.1:11", "b 127.0.0.1:20", "b 127.0.0.1:21"]);
        drop(first);
        let third = build(3, &[cluster("a", &[12, 11])]);
        assert_eq!(found(&third), ["a 127.0.0.1:12", "a 127.0.0.1:11"]);
    }

    #[test]
    fn a_route_has_a_number_while_some_snapshot_has_its_name() {
        let action = ActionSpec::Respond { status: 200, body: String::new(), headers: Vec::new() };
        let route = |name: &str| RouteSpec {
            hosts: vec![HostPattern::Exact(name.replace('/', "."))],
            ..RouteSpec::new(name, action.clone())
        };
        let mut ledger = Ledger::default();
        let mut build = |version, names: &[&str]| {
            let routes = names.iter().map(|name| route(name)).collect();
            Snapshot::build(version, SnapshotSpec { routes, ..SnapshotSpec::default() }, &mut ledger).unwrap()
        };
        let numbers = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.router.routes().iter().map(|route| snapshot.route_number(route.id).0).collect()
        };
        let first = build(1, &["one", "team/one", "two", "route-4"]);
        assert_eq!(numbers(&first), [0, 1, 2, 3]);
        let second = build(2, &["route-4", "new", "one", "team/one"]);
        assert_eq!(numbers(&second), [3, 4, 0, 1], "reordered, one gone, one new");
        let third = build(3, &["team/renamed", "one"]);
        assert_eq!(numbers(&third), [5, 0]);
        drop(first);
        let fourth = build(4, &["team/one", "two", "one"]);
        assert_eq!(numbers(&fourth), [1, 2, 0], "the second has team/one; the number of two is free");
        drop((second, third));
        let fifth = build(5, &["a", "b", "c", "d", "two"]);
        assert_eq!(numbers(&fifth), [3, 4, 5, 6, 2], "one and team/one are still of the fourth");
        drop(fourth);
        assert_eq!(numbers(&build(6, &["one", "e"])), [0, 1]);
    }
}
