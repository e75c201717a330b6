//! The table of routes as text for operators. Not here: finding the route of a request (`route`), or why (`cairn explain`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::route::{ActionSpec, HostPattern, PathPattern, Protocol, RouteSpec};

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLine {
    /// Unique name.
    pub name: String,
    /// Names of its listeners; empty: all.
    pub listeners: Vec<String>,
    /// Host patterns, for SNI or for requests; empty: any host.
    pub hosts: Vec<String>,
    /// `= /exact`, `/prefix…`, `~ expression`, or `*`; `(tcp)` for a route of connections.
    pub path: String,
    /// Methods; empty: any method.
    pub methods: Vec<String>,
    /// Number of further conditions.
    pub conditions: usize,
    /// Its action.
    pub action: String,
    /// Where it is configured, `file:line`.
    pub place: String,
}

/// All routes of a configuration, in the order of its files.
pub(super) fn lines(config: &Config) -> Vec<RouteLine> {
    let line = |(at, route): (usize, &RouteSpec)| {
        let listener = |id: &crate::id::ListenerId| config.snapshot.listeners.get(id.index()).map(|it| it.name.clone());
        RouteLine {
            name: route.name.clone(),
            listeners: route.listeners.iter().filter_map(listener).collect(),
            hosts: route.hosts.iter().map(host).collect(),
            path: path(route),
            methods: route.conditions.methods.clone(),
            conditions: route.conditions.count() + route.not.count()
                - usize::from(!route.conditions.methods.is_empty()),
            action: action(config, &route.action),
            place: config.route_place(at),
        }
    };
    config.snapshot.routes.iter().enumerate().map(line).collect()
}

pub(super) fn host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
    }
}

pub(super) fn path(route: &RouteSpec) -> String {
    match &route.path {
        _ if route.protocol == Protocol::Tcp => "(tcp)".to_owned(),
        PathPattern::Any => "*".to_owned(),
        PathPattern::Exact(path) => format!("= {path}"),
        PathPattern::Prefix(path) => format!("{path}…"),
        PathPattern::Regex(regex) => format!("~ {regex}"),
    }
}

pub(super) fn action(config: &Config, action: &ActionSpec) -> String {
    let cluster = |id: crate::id::ClusterId| config.snapshot.clusters.get(id.index()).map_or("", |it| it.name.as_str());
    match action {
        ActionSpec::Cluster(id) => format!("cluster {}", cluster(*id)),
        ActionSpec::Split(sides) => {
            let side = |(id, weight): &(crate::id::ClusterId, u32)| format!("{} {weight}", cluster(*id));
            format!("split {}", sides.iter().map(side).collect::<Vec<_>>().join(", "))
        }
        ActionSpec::Redirect { status, .. } => format!("redirect {status}"),
        ActionSpec::Respond { status, .. } => format!("respond {status}"),
    }
}

impl fmt::Display for RouteLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = |list: &[String]| if list.is_empty() { "*".to_owned() } else { list.join(",") };
        let Self { name, listeners, hosts, path, methods, conditions, action, place } = self;
        write!(f, "{:<10} {:<28} {path:<28} {:<10} ", any(listeners), any(hosts), any(methods))?;
        if *conditions > 0 {
            write!(f, "+{conditions} ")?;
        }
        write!(f, "{action}  [{name}, {place}]")
    }
}
