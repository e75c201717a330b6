//! Hints and warnings about a valid configuration. Not here: problems (`report`).

use std::fmt::Write;

use ahash::HashSet;

use super::Config;
use super::loops::{self, Loop};
use crate::http::path::EncodedSlash;
use crate::id::ListenerId;
use crate::route::{ActionSpec, Hedge, PathPattern, Protocol, RetryOn, RouteSpec, Scheme};
use crate::snapshot::{ListenerSpec, Snapshot};
use crate::tls::Trust;

/// What is worth a thought in a configuration that can be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// `FILE:LINE: note: …` and `FILE:LINE: warning: …`, one line each.
    pub text: String,
    /// How many of them are warnings: what does hardly what was meant.
    pub warnings: usize,
}

impl Notes {
    pub(super) fn note(&mut self, place: &str, message: &str) {
        let _ = writeln!(self.text, "{place}: note: {message}");
    }

    pub(super) fn warn(&mut self, place: &str, message: &str) {
        let _ = writeln!(self.text, "{place}: warning: {message}");
        self.warnings += 1;
    }
}

impl Config {
    /// All hints and warnings about a configuration that was compiled to `snapshot`.
    #[must_use]
    pub fn notes(&self, snapshot: &Snapshot) -> Notes {
        let mut notes = Notes::default();
        for (position, route) in self.snapshot.routes.iter().enumerate() {
            let place = self.route_place(position);
            if let Some(note) = self.unseen(route) {
                let _ = writeln!(notes.text, "{place}: note: {note}");
            }
            if let Some(warning) = self.misread(route) {
                notes.warn(&place, &warning);
            }
            if let Some(warning) = self.never(route) {
                notes.warn(&place, &warning);
            }
            if let Some(warning) = self.cut_short(route) {
                notes.warn(&place, &warning);
            }
            if let Some(warning) = self.unhedged(route) {
                notes.warn(&place, &warning);
            }
            if let Some(listener) = loops::own_redirect(&self.snapshot, position, snapshot) {
                notes.warn(
                    &place,
                    &format!(
                        "route {} redirects to itself on listener {listener}: take it off that listener with `listeners`, or give it \
                         another host or path",
                        route.name
                    ),
                );
            }
        }
        for Loop { cluster, route, listener, endless } in loops::loops(&self.snapshot) {
            if !endless {
                notes.warn(
                    &self.cluster_place(cluster.index()),
                    &format!(
                        "an endpoint is listener {} of this very process, which serves route {} that leads there: requests may go round",
                        listener.name, route.name
                    ),
                );
            }
        }
        self.checks(&mut notes);
        self.without_route(&mut notes);
        self.trusted(&mut notes);
        self.tls_notes(&mut notes);
        self.unused(&mut notes);
        notes
    }

    /// Clusters whose checks may take longer than they are apart: an endpoint that is silent is found out late, and so are others.
    fn checks(&self, notes: &mut Notes) {
        for (position, cluster) in self.snapshot.clusters.iter().enumerate() {
            let Some(health) = cluster.health.as_ref().filter(|it| it.timeout > it.interval) else { continue };
            notes.warn(
                &self.cluster_place(position),
                &format!(
                    "checks of cluster {} are {:?} apart and may take {:?}: make `health.timeout` no longer than `health.interval`",
                    cluster.name, health.interval, health.timeout
                ),
            );
        }
    }

    /// Listeners of TCP for which there is no route.
    fn without_route(&self, notes: &mut Notes) {
        let numbered = self.snapshot.listeners.iter().zip((0..).map(ListenerId)).enumerate();
        for (position, (listener, id)) in numbered.filter(|(_, (listener, _))| listener.protocol == Protocol::Tcp) {
            if !self.snapshot.routes.iter().any(|route| route.is_of(id, Protocol::Tcp)) {
                notes.warn(
                    &self.listener_place(position),
                    &format!(
                        "listener {name} closes every connection, for no route takes them: add one with `sni`, or with \
                         listeners = [\"{name}\"]",
                        name = listener.name
                    ),
                );
            }
        }
    }

    /// Clusters over TLS that take any certificate, or those of authorities that the configuration does not name.
    fn trusted(&self, notes: &mut Notes) {
        for (position, cluster) in self.snapshot.clusters.iter().enumerate() {
            let (place, name) = (self.cluster_place(position), &cluster.name);
            match cluster.tls.as_ref().map(|tls| &tls.trust) {
                Some(Trust::Anyone) => notes.warn(
                    &place,
                    &format!(
                        "cluster {name} takes any certificate (`insecure`): whoever is on the way can read and change what it carries; \
                         name who signs its certificates in `ca`"
                    ),
                ),
                Some(Trust::Authorities(authorities)) if authorities.is_default() => {
                    let _ = writeln!(notes.text, "{place}: note: cluster {name} trusts {authorities}: `ca` names none");
                }
                _ => {}
            }
        }
    }

    /// Clusters to which no route leads.
    fn unused(&self, notes: &mut Notes) {
        let mut used: HashSet<usize> = HashSet::default();
        for route in &self.snapshot.routes {
            match &route.action {
                ActionSpec::Cluster(id) => drop(used.insert(id.index())),
                ActionSpec::Split(sides) => used.extend(sides.iter().map(|(id, _)| id.index())),
                ActionSpec::Redirect { .. } | ActionSpec::Respond { .. } => {}
            }
        }
        for (position, cluster) in self.snapshot.clusters.iter().enumerate() {
            if !used.contains(&position) {
                let message = format!("no route uses cluster {}: name it in a route, or leave it out", cluster.name);
                notes.warn(&self.cluster_place(position), &message);
            }
        }
    }

    /// The warning of a path that means something else in other proxies.
    fn misread(&self, route: &RouteSpec) -> Option<String> {
        match &route.path {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => {
                let mut segments = path.split('/');
                let odd = segments.find(|segment| {
                    segment.contains('*')
                        || segment.starts_with(':')
                        || segment.starts_with('{') && segment.ends_with('}')
                })?;
                let odd = if self.shown(path) == path { odd } else { self.shown(path) };
                Some(format!(
                    "`{odd}` in the path of route {} stands for itself: for any segment write `path_regex` with [^/]+",
                    route.name
                ))
            }
            PathPattern::Regex(text) if text.starts_with('^') && !text.ends_with('$') && !text.contains(".*") => {
                Some(format!(
                    "the expression of route {} is matched against the whole path: add .* for what may be behind it",
                    route.name
                ))
            }
            PathPattern::Regex(_) | PathPattern::Any => None,
        }
    }

    /// The warning of a condition on the listener that none of the route's listeners can meet.
    fn never(&self, route: &RouteSpec) -> Option<String> {
        let numbered = self.snapshot.listeners.iter().zip(0..);
        let named = numbered.filter(|(listener, id)| route.is_of(ListenerId(*id), listener.protocol));
        let listeners: Vec<_> = named.map(|(listener, _)| listener).collect();
        let speaks = |it: &ListenerSpec, scheme: Scheme| {
            // A trusted proxy may say that its client speaks otherwise; so may who comes on a Unix-domain socket.
            it.speaks(scheme) || it.port().is_none() || !it.trusted_proxies.is_empty()
        };
        let asks = |it: &ListenerSpec| it.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        if !route.conditions.client.is_empty() && !listeners.iter().any(|it| asks(it)) {
            return Some(format!(
                "route {} takes no request: none of its listeners asks clients for certificates (`client_ca`)",
                route.name
            ));
        }
        match (route.conditions.port, route.conditions.scheme) {
            (Some(port), _) if !listeners.iter().any(|it| it.port() == Some(port)) => {
                Some(format!("route {} takes no request: none of its listeners binds port {port}", route.name))
            }
            (_, Some(scheme)) if !listeners.iter().any(|it| speaks(it, scheme)) => Some(format!(
                "route {} takes no request: none of its listeners speaks {} or has trusted_proxies that may say so",
                route.name,
                scheme.text()
            )),
            _ => None,
        }
    }

    /// The warning of a time for all tries that one try alone cannot use up, and after which there is no other.
    fn cut_short(&self, route: &RouteSpec) -> Option<String> {
        let ActionSpec::Cluster(cluster) = route.action else { return None };
        let cluster = self.snapshot.clusters.get(cluster.index())?;
        let (whole, retry) = (route.timeout?, &route.retry);
        let one = retry.per_try_timeout.unwrap_or(cluster.response_timeout);
        let again = retry.attempts > 0 && retry.on.has(RetryOn::TIMEOUT);
        (whole > one && !again).then(|| {
            format!(
                "route {} allows {whole:?}, but one try ends after {one:?} and no other follows: make `timeouts.response` of cluster {} or \
                 `retry.per_try_timeout` longer, or add \"timeout\" to `retry.on`",
                route.name, cluster.name
            )
        })
    }

    /// The warning of a route whose slow requests never have a second attempt.
    fn unhedged(&self, route: &RouteSpec) -> Option<String> {
        let (ActionSpec::Cluster(cluster), hedge) = (&route.action, route.hedge?) else { return None };
        let cluster = self.snapshot.clusters.get(cluster.index())?;
        let (one, name) = (cluster.response_timeout, &cluster.name);
        let why = match hedge {
            _ if cluster.proxy_protocol.is_some() => {
                format!(
                    "cluster {name} has `proxy_protocol`, so that a client has one connection to it: leave one of both out"
                )
            }
            _ if cluster.endpoints.len() == 1 => {
                format!("cluster {name} has no other endpoint: add one, or leave `hedge` out")
            }
            Hedge::After(after) if after >= one => {
                format!(
                    "cluster {name} ends one try after {one:?}: make `hedge.after` shorter than its `timeouts.response`"
                )
            }
            _ => return None,
        };
        Some(format!("route {} never has a second attempt: {why}", route.name))
    }

    /// The hint on a route that denies a path on listeners that keep `%2f`: it does not match spellings with `%2f` for a slash.
    fn unseen(&self, route: &RouteSpec) -> Option<String> {
        let ActionSpec::Respond { status: status @ (401 | 403), .. } = route.action else { return None };
        let (PathPattern::Exact(path) | PathPattern::Prefix(path) | PathPattern::Regex(path)) = &route.path else {
            return None;
        };
        if matches!(&route.path, PathPattern::Prefix(path) if path == "/") {
            return None;
        }
        let numbered = self.snapshot.listeners.iter().enumerate();
        let keeps = numbered
            .filter(|(position, it)| loops::serves(route, *position, it) && it.encoded_slash == EncodedSlash::Keep);
        let names: Vec<_> = keeps.map(|(_, it)| it.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        Some(format!(
            "route {} answers {status} for {} and does not see %2f for a slash in it, which an origin may: \
             set encoded_slash = \"refuse\" or \"decode\" in listener {}",
            route.name,
            self.shown(path),
            names.join(", ")
        ))
    }
}
