//! Claims of a tenant: hosts, paths and listeners that its routes may serve. Not here: other bounds (`bounds`).

use super::host;
use super::listener;
use super::path;
use super::report::{Problems, SourceSpan};
use super::section::Section;
use super::tcp::Listeners;
use crate::id::ListenerId;
use crate::route::{HostPattern, PathPattern, Protocol, RouteSpec};

/// One of `tenant.claims`.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// None: any host.
    pub(super) host: Option<HostPattern>,
    /// Path prefix without the final slash; empty: every path.
    prefix: String,
    /// Listeners, sorted; empty: all.
    pub(super) listeners: Vec<ListenerId>,
    pub(super) at: SourceSpan,
}

impl Claim {
    pub(super) fn read(section: Section<'_>, listeners: &Listeners, problems: &mut Problems) -> Option<Self> {
        let host = section.text("host")?;
        let host = if host.value == "*" { None } else { Some(host::pattern(host, problems)?) };
        let prefix = match section.text("path_prefix") {
            Some(text) => path::normal(text, problems),
            None => section.word("path_prefix").to_owned(),
        };
        for text in section.texts("listeners") {
            if listeners.protocol(text.value) == Some(Protocol::Tcp) {
                problems
                    .add(
                        text.at,
                        format!("listener \"{}\" passes TCP on, of which a tenant can claim nothing", text.shown),
                    )
                    .help("name listeners of HTTP: a claim is of hosts and paths");
            }
        }
        let mut ids = listener::ids(section, listeners, problems);
        ids.sort_unstable();
        Some(Self { host, prefix: prefix.trim_end_matches('/').to_owned(), listeners: ids, at: section.at })
    }

    /// The claimed paths, as the pattern of a route.
    pub(super) fn path(&self) -> PathPattern {
        if self.prefix.is_empty() { PathPattern::Any } else { PathPattern::Prefix(self.prefix.clone()) }
    }

    /// Whether some request is in both claims.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let shared = self.listeners.is_empty()
            || other.listeners.is_empty()
            || self.listeners.iter().any(|id| other.listeners.contains(id));
        let hosts = self.covers_host(other.host.as_ref()) || other.covers_host(self.host.as_ref());
        let paths = below(&self.prefix, &other.prefix) || below(&other.prefix, &self.prefix);
        shared && paths && hosts
    }

    /// Whether `route` has a host and a path within the claim, on whatever listeners.
    pub(super) fn touches(&self, route: &RouteSpec) -> bool {
        let hosts = route.hosts.iter().any(|host| self.covers_host(Some(host)));
        self.covers_path(&route.path) && (hosts || route.hosts.is_empty() && self.covers_host(None))
    }

    /// Whether every host of the pattern is claimed; None stands for any host.
    fn covers_host(&self, host: Option<&HostPattern>) -> bool {
        let under = |name: &str, suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
        match (&self.host, host) {
            (None, _) => true,
            (Some(_), None) | (Some(HostPattern::Exact(_)), Some(HostPattern::Wildcard(_))) => false,
            (Some(HostPattern::Exact(own)), Some(HostPattern::Exact(name))) => own == name,
            (Some(HostPattern::Wildcard(own)), Some(HostPattern::Exact(name))) => under(name, own),
            (Some(HostPattern::Wildcard(own)), Some(HostPattern::Wildcard(name))) => own == name || under(name, own),
        }
    }

    fn covers_path(&self, path: &PathPattern) -> bool {
        match path {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => below(path.trim_end_matches('/'), &self.prefix),
            PathPattern::Any | PathPattern::Regex(_) => self.prefix.is_empty(),
        }
    }
}

/// Whether `path` is `prefix` or lies below it by whole segments. Neither ends with a slash.
fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Writes it as in a configuration.
impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = if self.prefix.is_empty() { "/" } else { &self.prefix };
        match &self.host {
            None => write!(f, "{{ host = \"*\", path_prefix = \"{prefix}\" }}"),
            Some(HostPattern::Exact(host)) => write!(f, "{{ host = \"{host}\", path_prefix = \"{prefix}\" }}"),
            Some(HostPattern::Wildcard(host)) => write!(f, "{{ host = \"*.{host}\", path_prefix = \"{prefix}\" }}"),
        }
    }
}

/// Confines a tenant's route to its claims. Hosts and paths that the route leaves open become those of the claim, if there is only
/// one. Reports what lies outside.
pub(super) fn hold_to_claims(route: &mut RouteSpec, section: Section<'_>, claims: &[Claim], problems: &mut Problems) {
    let all = claims.iter().map(Claim::to_string).collect::<Vec<_>>().join(", ");
    let one = if let [one] = claims { Some(one) } else { None };
    if section.has("listeners") {
        problems
            .add(section.span("listeners"), "a tenant's route cannot choose listeners")
            .help("leave it out: its claims say where it is served");
    }
    if !section.has("hosts") {
        match one {
            Some(claim) => route.hosts = claim.host.iter().cloned().collect(),
            None => {
                problems.add(section.at, "the route names no host").help(format!("add `hosts`; the claims are {all}"));
                return;
            }
        }
    } else if route.hosts.len() < section.length("hosts").unwrap_or(0) && !any_host(section) {
        return; // One of them is no host, which has been reported.
    }
    if let (PathPattern::Any, Some(claim)) = (&route.path, one) {
        route.path = claim.path();
    }
    assign_listeners(route, section, claims, &all, problems);
}

fn any_host(section: Section<'_>) -> bool {
    matches!(section.texts("hosts").as_slice(), [text] if text.value == "*")
}

const OUTSIDE: &str = "the route lies outside of what the tenant claims";
const NO_REGEX: &str = "an expression cannot be held inside a claim; write `path` or `path_prefix`";

/// Finds the claim of each of the route's hosts, and gives the route the listeners of these claims.
fn assign_listeners(route: &mut RouteSpec, section: Section<'_>, claims: &[Claim], all: &str, problems: &mut Problems) {
    let hosts: Vec<_> = if route.hosts.is_empty() { vec![None] } else { route.hosts.iter().map(Some).collect() };
    let mut listeners: Option<&[ListenerId]> = None;
    for host in hosts {
        let of_host = || claims.iter().filter(|claim| claim.covers_host(host));
        let Some(claim) = of_host().find(|claim| claim.covers_path(&route.path)) else {
            let (span, message, help) = match &route.path {
                _ if of_host().next().is_none() => (section.span("hosts"), OUTSIDE, format!("the claims are {all}")),
                PathPattern::Any => (section.at, "the route names no path", format!("the claims are {all}")),
                PathPattern::Regex(_) => (section.span("path_regex"), OUTSIDE, NO_REGEX.to_owned()),
                PathPattern::Exact(_) => (section.span("path"), OUTSIDE, format!("the claims are {all}")),
                PathPattern::Prefix(_) => (section.span("path_prefix"), OUTSIDE, format!("the claims are {all}")),
            };
            problems.add(span, message).help(help);
            return;
        };
        if listeners.is_some_and(|listeners| listeners != claim.listeners) {
            problems
                .add(section.span("hosts"), "the hosts belong to claims on different listeners")
                .help("write a route for each");
        }
        listeners = Some(&claim.listeners);
    }
    route.listeners = listeners.unwrap_or_default().to_vec();
}
