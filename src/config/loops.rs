//! Requests that would come back to this process: endpoints that are its own listeners, and redirects to their own route.
//! Not here: what loops through other processes.

use super::report::Problems;
use super::section::Section;
use crate::cluster::ClusterSpec;
use crate::id::{Address, ClusterId, ListenerId};
use crate::route::template::first_variable;
use crate::route::{ActionSpec, ConditionsSpec, HeaderEdits, HostPattern, PathEdit, PathPattern, RouteSpec, Sample};
use crate::snapshot::{ListenerSpec, Snapshot, SnapshotSpec};

/// An endpoint of a cluster to which a route forwards, and which is a listener that serves the route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loop<'a> {
    pub(super) cluster: ClusterId,
    pub(super) route: &'a RouteSpec,
    pub(super) listener: &'a ListenerSpec,
    /// Whether the request comes back as it was, and takes the same way again.
    pub(super) endless: bool,
}

/// Every loop through an endpoint.
pub(super) fn loops(spec: &SnapshotSpec) -> Vec<Loop<'_>> {
    // By cluster, and once: there may be many routes.
    let reached: Vec<Vec<usize>> = spec.clusters.iter().map(|cluster| reached(cluster, &spec.listeners)).collect();
    let mut found = Vec::new();
    for route in &spec.routes {
        let clusters = match &route.action {
            ActionSpec::Cluster(id) => vec![*id],
            ActionSpec::Split(sides) => sides.iter().filter(|(_, weight)| *weight > 0).map(|(id, _)| *id).collect(),
            ActionSpec::Redirect { .. } | ActionSpec::Respond { .. } => continue,
        };
        let endless = route.rewrite_host.is_none()
            && route.rewrite_path.is_none()
            && route.request_headers == HeaderEdits::default()
            && same_by_connection(route);
        for cluster in clusters {
            for &position in reached.get(cluster.index()).into_iter().flatten() {
                let listener = &spec.listeners[position];
                if serves(route, position, listener) {
                    found.push(Loop { cluster, route, listener, endless });
                }
            }
        }
    }
    found
}

/// Whether the conditions hold for a request that comes back on a connection of this process: its client and its scheme may be others.
fn same_by_connection(route: &RouteSpec) -> bool {
    [&route.conditions, &route.not]
        .iter()
        .all(|it| it.client.is_empty() && it.client_ip.is_empty() && it.scheme.is_none())
}

/// Positions of the listeners that are endpoints of a cluster.
fn reached(cluster: &ClusterSpec, listeners: &[ListenerSpec]) -> Vec<usize> {
    let addresses: Vec<_> = cluster.endpoints.iter().flat_map(|endpoint| endpoint.addresses()).collect();
    let numbered = listeners.iter().enumerate();
    let found = numbered.filter(|(_, listener)| addresses.iter().any(|address| reaches(address, listener)));
    found.map(|(position, _)| position).collect()
}

/// Reports endpoints to which requests would be sent for ever. `clusters` are the sections of the clusters that `spec` has.
pub(super) fn report(spec: &SnapshotSpec, clusters: &[Section<'_>], problems: &mut Problems) {
    let mut known = Vec::new();
    for Loop { cluster, route, listener, endless } in loops(spec) {
        let Some(section) = clusters.get(cluster.index()).filter(|_| endless && !known.contains(&cluster)) else {
            continue;
        };
        known.push(cluster);
        problems
            .add(
                section.span("endpoints"),
                format!(
                    "requests would go round: {} is listener \"{}\" of this very process",
                    listener.bind, listener.name
                ),
            )
            .help(format!(
                "write the address of the application; or take route \"{}\" off that listener, with `listeners`",
                route.name
            ));
    }
}

/// Whether a route is one of the listener at `position`.
pub(super) fn serves(route: &RouteSpec, position: usize, listener: &ListenerSpec) -> bool {
    let port = listener.port();
    u16::try_from(position).is_ok_and(|position| route.is_of(ListenerId(position), listener.protocol))
        && route.conditions.port.is_none_or(|asked| port == Some(asked))
        && route.not.port.is_none_or(|it| port != Some(it))
}

/// Whether a connection to `endpoint` is one to the socket of `listener`.
fn reaches(endpoint: &Address, listener: &ListenerSpec) -> bool {
    match (endpoint, &listener.bind) {
        (Address::Inet(endpoint), Address::Inet(bind)) => {
            let (to, own) = (endpoint.ip().to_canonical(), bind.ip().to_canonical());
            let here = to.is_loopback() || to.is_unspecified();
            let any = own.is_unspecified() && here && (to.is_ipv4() == own.is_ipv4() || listener.options.dual_stack);
            bind.port() != 0 && endpoint.port() == bind.port() && (to == own || any)
        }
        (Address::Unix(endpoint), Address::Unix(bind)) => endpoint == bind,
        (Address::Inet(_), Address::Unix(_)) | (Address::Unix(_), Address::Inet(_)) => false,
    }
}

/// Name of the listener on which the redirect of the route at `position` leads to that route again.
pub(super) fn own_redirect<'a>(spec: &'a SnapshotSpec, position: usize, snapshot: &Snapshot) -> Option<&'a str> {
    let route = spec.routes.get(position)?;
    let ActionSpec::Redirect { scheme, host, path, query: new_query, .. } = &route.action else { return None };
    let ConditionsSpec { client, client_ip, alpn: _, methods, headers, query, cookies, scheme: only, port: _ } =
        &route.conditions;
    let named = !headers.is_empty() || !query.is_empty() || !cookies.is_empty();
    if named || !client.is_empty() || !client_ip.is_empty() || new_query.is_some() || !route.not.is_empty() {
        return None;
    }
    let path = match (path, &route.path) {
        // Where a variable leads is not known here.
        (Some(PathEdit::Whole(path) | PathEdit::Prefix(path)), _) if first_variable(path).is_some() => return None,
        (Some(PathEdit::Add(_)), _) => return None,
        (Some(PathEdit::Whole(path) | PathEdit::Prefix(path)), _) => path.as_str(),
        (None, PathPattern::Exact(path) | PathPattern::Prefix(path)) => path.as_str(),
        (None, PathPattern::Any) => "/",
        (None, PathPattern::Regex(_)) => return None,
    };
    let hosts: Vec<String> = match host {
        Some(host) if first_variable(host).is_some() => return None,
        Some(host) => vec![host.clone()],
        None if route.hosts.is_empty() => vec!["a".to_owned()],
        None => route.hosts.iter().map(sample).collect(),
    };
    let numbered = spec.listeners.iter().enumerate().filter(|(at, it)| serves(route, *at, it));
    let mut same = numbered.filter(|(_, it)| scheme.as_deref().is_none_or(|asked| asked == it.scheme().text()));
    let found = same.find(|(_, listener)| {
        let id = snapshot.listeners().find(|(_, known)| known.name == listener.name).map(|(id, _)| id);
        hosts.iter().filter(|host| leads_to(host, listener)).any(|host| {
            let method = methods.first().map_or("GET", String::as_str);
            // What a redirect does not change stays as the route has it.
            let scheme = only.filter(|_| scheme.is_none()).unwrap_or_else(|| listener.scheme());
            let request = Sample { method, scheme, port: listener.port(), ..Sample::get(host, path) };
            let taken = id.and_then(|id| snapshot.router.find(id, &request));
            taken.is_some_and(|taken| taken.id.index() == position)
        })
    });
    found.map(|(_, listener)| listener.name.as_str())
}

/// A host that the pattern takes.
fn sample(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Wildcard(suffix) => format!("a.{suffix}"),
    }
}

/// Whether the port of `host`, if it names one, is the listener's.
fn leads_to(host: &str, listener: &ListenerSpec) -> bool {
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    port.is_none_or(|port| matches!(&listener.bind, Address::Inet(inet) if inet.port().to_string() == port))
}
