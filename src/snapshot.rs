//! One immutable compiled configuration: listeners, routes, clusters. Built once, never edited.
//! Not here: reading configuration (`config`), publishing it (`control`).

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, ClusterSpec, Endpoint};
use crate::id::{Address, ClusterId, EndpointId};
use crate::route::{BuildError, RouteSpec, Router};

/// Everything that a worker needs to serve, numbered.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first one of a process, then counting up.
    pub version: u64,
    /// By `ListenerId`.
    pub listeners: Vec<ListenerSpec>,
    /// Host, path and the rest to route.
    pub router: Router,
    /// By `ClusterId`.
    pub clusters: Vec<Cluster>,
    /// By `EndpointId`.
    owners: Box<[ClusterId]>,
}

/// A worker's hold on a snapshot, cloned for each exchange without an atomic operation.
#[derive(Clone, Debug)]
pub struct Held(Rc<Shared>);

/// The one reference of a worker that other threads see.
#[derive(Debug)]
struct Shared(Arc<Snapshot>);

impl From<Arc<Snapshot>> for Held {
    fn from(snapshot: Arc<Snapshot>) -> Self {
        Self(Rc::new(Shared(snapshot)))
    }
}

impl std::ops::Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0.0
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
}

/// One `[[listener]]`. Nothing in it needs compiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Unique name.
    pub name: String,
    /// Where it listens.
    pub bind: Address,
    /// `limits.header_bytes`, at most `limits::HEAD_BYTES_MAX`.
    pub header_bytes: usize,
    /// `limits.header_count`, at most `limits::HEADER_COUNT_MAX`.
    pub header_count: usize,
    /// `limits.body_bytes`; 0: no limit.
    pub body_bytes: u64,
    /// `limits.connections`, process-wide; 0: no limit.
    pub connections: u32,
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
    /// Refuse ambiguous path encodings (encoded NUL, backslash, dot segments behind encoded slashes): the edge role.
    pub strict_paths: bool,
}

/// An address range, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address; bits beyond the prefix are zero.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix: u8,
}

impl Network {
    /// Whether `peer` lies in the range. An IPv4-mapped IPv6 peer counts as its IPv4 address.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let shift = |bits: u32| bits.checked_sub(u32::from(self.prefix));
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(peer)) => {
                let shift = shift(32).unwrap_or(0);
                u64::from(net.to_bits()) >> shift == u64::from(peer.to_bits()) >> shift
            }
            (IpAddr::V6(net), IpAddr::V6(peer)) => {
                let shift = shift(128).unwrap_or(0);
                shift == 128 || net.to_bits() >> shift == peer.to_bits() >> shift
            }
            _ => false,
        }
    }
}

impl Snapshot {
    /// Compiles a checked configuration.
    ///
    /// # Errors
    /// All problems that only compiling finds (a bad regular expression, two routes with the same match).
    pub fn build(version: u64, spec: SnapshotSpec) -> Result<Self, Vec<BuildError>> {
        let router = Router::build(&spec.routes, spec.listeners.len())?;
        let clusters = Cluster::build_all(&spec.clusters);
        let owners = clusters.iter().flat_map(|cluster| cluster.endpoints.iter().map(|_| cluster.id)).collect();
        Ok(Self { version, listeners: spec.listeners, router, clusters, owners })
    }

    /// An endpoint and the cluster that it belongs to.
    ///
    /// # Panics
    /// When the id comes from another snapshot.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> (&Cluster, &Endpoint) {
        let cluster = &self.clusters[self.owners[id.index()].index()];
        (cluster, &cluster.endpoints[id.index() - cluster.first_endpoint.index()])
    }

    /// Endpoints of all clusters; their ids count from 0.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Balance, EndpointSpec};

    #[test]
    fn each_endpoint_has_its_cluster() {
        let cluster = |name: &str, weights: &[u16]| ClusterSpec {
            name: name.into(),
            endpoints: weights
                .iter()
                .map(|&weight| EndpointSpec { address: Address::Unix("/run/app.sock".into()), weight })
                .collect(),
            balance: Balance::default(),
            max_idle: 128,
            idle: Duration::from_secs(55),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(30),
        };
        let clusters = vec![cluster("a", &[10, 11]), cluster("b", &[20]), cluster("c", &[30, 31, 32])];
        let snapshot = Snapshot::build(1, SnapshotSpec { clusters, ..SnapshotSpec::default() }).unwrap();
        let found: Vec<_> = (0..snapshot.endpoint_count() as u32)
            .map(|id| snapshot.endpoint(EndpointId(id)))
            .map(|(cluster, endpoint)| (&*cluster.name, endpoint.id.0, endpoint.weight))
            .collect();
        assert_eq!(found, [("a", 0, 10), ("a", 1, 11), ("b", 2, 20), ("c", 3, 30), ("c", 4, 31), ("c", 5, 32)]);
    }
}
