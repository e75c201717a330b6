//! Which routes take an extended CONNECT (RFC 8441), so that clients of HTTP/2 are told that they may send one. Not here: whether an
//! endpoint takes it, which its SETTINGS say.

use crate::cluster::ClusterSpec;
use crate::id::{ClusterId, ListenerId};
use crate::route::{Protocol, RouteSpec};

/// Whether routes of a listener take an extended CONNECT (RFC 8441).
#[derive(Debug, Default)]
pub struct Tunnels {
    /// One forwards to a cluster that may speak HTTP/1.1.
    pub always: bool,
    /// Clusters of HTTP/2 to which others forward: it depends on their endpoints.
    pub clusters: Box<[ClusterId]>,
}

impl Tunnels {
    /// Those of the routes of a listener.
    pub(super) fn of(routes: &[RouteSpec], clusters: &[ClusterSpec], listener: ListenerId) -> Self {
        let routes = routes.iter().filter(|route| route.is_of(listener, Protocol::Http));
        let mut reached: Vec<ClusterId> = routes.flat_map(RouteSpec::tunnel_clusters).collect();
        reached.sort_unstable_by_key(|id| id.index());
        reached.dedup();
        let all = reached.len();
        let http2 = |id: ClusterId| clusters.get(id.index()).and_then(|cluster| cluster.http2);
        reached.retain(|id| http2(*id).is_some_and(|http2| !http2.is_negotiated));
        Self { always: reached.len() < all, clusters: reached.into() }
    }
}
