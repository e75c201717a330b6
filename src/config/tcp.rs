//! Listeners and routes of TCP: which routes are such, and what they may say. Not here: what is routed by it (`route`).

use std::net::Ipv4Addr;

use super::host;
use super::layers::Origin;
use super::names::{Names, Scope};
use super::report::Problems;
use super::schema::Table;
use super::section::{Found, Section, Text};
use super::tables::ROUTE;
use crate::id::ClusterId;
use crate::route::{ActionSpec, HostPattern, Protocol, RouteSpec};
use crate::snapshot::SnapshotSpec;

/// Keys that say something of a route of TCP.
const ROUTE_KEYS: [&str; 7] = ["name", "listeners", "sni", "alpn", "client_ip", "cluster", "tunnel_idle"];
/// Keys that say something of a listener of TCP.
const LISTENER_KEYS: [&str; 10] = [
    "name",
    "bind",
    "ipv6only",
    "mode",
    "owner",
    "protocol",
    "trusted_proxies",
    "proxy_protocol",
    "limits",
    "timeouts",
];
/// Longest name of a protocol (RFC 7301 section 3.1).
const PROTOCOL_BYTES: usize = 255;

/// The listeners to which routes and claims refer.
#[derive(Debug)]
pub(super) struct Listeners {
    names: Names,
    /// By position.
    protocols: Vec<Protocol>,
}

impl Listeners {
    /// Those of `sections`. Reports names that are malformed or not unique.
    pub(super) fn read(sections: &[Section<'_>], incomplete: bool, problems: &mut Problems) -> Self {
        let names = Names::read("listener", sections, Scope::default(), problems).incomplete_if(incomplete);
        Self { names, protocols: sections.iter().map(|section| of_listener(*section)).collect() }
    }

    /// The full name of the one at `position`.
    pub(super) fn full(&self, position: usize) -> String {
        self.names.full(position)
    }

    /// The position of a listener. Reports a name that does not exist.
    pub(super) fn find(&self, name: Text<'_>, problems: &mut Problems) -> Option<usize> {
        self.names.find(name, problems)
    }

    /// What the listener of this name speaks; None: there is none.
    pub(super) fn protocol(&self, name: &str) -> Option<Protocol> {
        self.protocols.get(self.names.position(name)?).copied()
    }

    fn any(&self, protocol: Protocol) -> bool {
        self.protocols.contains(&protocol)
    }
}

/// What a listener speaks.
pub(super) fn of_listener(section: Section<'_>) -> Protocol {
    if section.word("protocol") == "tcp" { Protocol::Tcp } else { Protocol::Http }
}

/// What a route takes: connections, if it asks for what is in a ClientHello, if it names listeners of TCP alone, or if there are no
/// others.
pub(super) fn of_route(section: Section<'_>, listeners: &Listeners) -> Protocol {
    let named: Vec<_> =
        section.texts("listeners").into_iter().filter_map(|text| listeners.protocol(text.value)).collect();
    let none = named.is_empty() && listeners.any(Protocol::Tcp) && !listeners.any(Protocol::Http);
    let all = !named.is_empty() && named.iter().all(|protocol| *protocol == Protocol::Tcp);
    if asks(section).is_some() || none || all { Protocol::Tcp } else { Protocol::Http }
}

/// The key by which a route asks for what is in a ClientHello.
pub(super) fn asks(section: Section<'_>) -> Option<&'static str> {
    ["sni", "alpn"].into_iter().find(|key| section.has(key))
}

/// Whether a key says something of a listener or a route of TCP.
pub(super) fn applies(schema: &Table, key: &str) -> bool {
    match schema.title {
        "[[listener]]" => LISTENER_KEYS.contains(&key),
        "[listener.limits]" => key == "connections",
        "[listener.timeouts]" => key == "header",
        "[[route]]" => ROUTE_KEYS.contains(&key),
        _ => true,
    }
}

/// Reports what says nothing of a listener of TCP.
pub(super) fn check_listener(section: Section<'_>, problems: &mut Problems) {
    let own = section.alone();
    let tables = ["limits", "timeouts"].map(|name| own.table(name));
    for table in std::iter::once(own).chain(tables.into_iter().flatten()) {
        for (key, at) in table.key_spans() {
            let schema = table.schema();
            if applies(schema, key) || table.find(key).is_some_and(|found| is_off(&found)) {
                continue;
            }
            let help = match (schema.title, key) {
                (_, "tls") => {
                    "TLS passes through unopened, and `sni` routes it: leave [listener.tls] out; or leave `protocol` out, and cairn ends TLS and reads HTTP"
                }
                ("[listener.timeouts]", "idle") => "how long a connection may be silent is `tunnel_idle` of its route",
                ("[listener.limits]", _) => "leave it out: of these, `connections` holds for TCP",
                ("[listener.timeouts]", _) => "leave it out: of these, `header` holds for TCP, until a route is found",
                _ => "leave it out: it is about requests of HTTP",
            };
            problems.add(at, format!("`{key}` does nothing where `protocol` is \"tcp\"")).help(help);
        }
    }
    if own.has("trusted_proxies") && section.word("proxy_protocol") == "off" {
        problems
            .add(own.span("trusted_proxies"), "`trusted_proxies` does nothing here without `proxy_protocol`")
            .help("add `proxy_protocol = \"require\"` or \"optional\": nothing else tells of clients over TCP; or leave it out");
    }
}

/// Reports what is wrong with the protocol of a route: listeners that speak another one, and keys that say nothing of it.
pub(super) fn check_route(
    section: Section<'_>,
    protocol: Protocol,
    listeners: &Listeners,
    is_tenant: bool,
    problems: &mut Problems,
) {
    let asks = asks(section);
    if let Some(key) = asks.filter(|_| is_tenant) {
        problems
            .add(section.span(key), format!("a tenant's route takes requests, of which `{key}` says nothing"))
            .help("leave it out: a tenant claims hosts and paths");
        return;
    }
    for text in section.texts("listeners") {
        let Some(spoken) = listeners.protocol(text.value) else { continue };
        let problem = match (spoken, protocol, asks) {
            (Protocol::Http, Protocol::Tcp, Some(key)) => {
                format!("listener \"{}\" speaks HTTP, of which `{key}` says nothing", text.shown)
            }
            (Protocol::Tcp, Protocol::Http, _) => {
                format!("listener \"{}\" passes TCP on, and others here speak HTTP", text.shown)
            }
            _ => continue,
        };
        problems.add(text.at, problem).help(
            "write one route for listeners with protocol = \"tcp\", with `sni`, and another one for those of HTTP, with `hosts`",
        );
    }
    if let Some(key) = asks.filter(|_| !listeners.any(Protocol::Tcp) && !section.has("listeners")) {
        problems
            .add(section.span(key), format!("no listener has protocol = \"tcp\", which alone routes by `{key}`"))
            .help("add that to a listener; or, for requests, write `hosts`");
    }
    if protocol == Protocol::Tcp {
        check_keys(section, problems);
    }
}

/// Reports keys that say nothing of a route of TCP. Those of `[defaults.route]` are for routes of HTTP.
fn check_keys(section: Section<'_>, problems: &mut Problems) {
    for key in ROUTE.keys.iter().map(|key| key.name).filter(|key| !ROUTE_KEYS.contains(key)) {
        let own = |found: &Found<'_>| !matches!(found.layer.map(|layer| layer.origin), Some(Origin::Defaults(_)));
        let Some(found) = section.find(key).filter(own) else { continue };
        if is_off(&found) {
            continue;
        }
        let help = match key {
            "hosts" => "write `sni`: the names that clients of TLS ask for",
            "split" | "redirect" | "respond" => "write `cluster`: connections are passed on to one",
            "timeout" | "timeouts" => {
                "`tunnel_idle` says how long a connection may be silent, and `timeouts` of the cluster how long connecting may take"
            }
            "hedge" => "leave it out: a connection leads to one endpoint",
            "retry" => "leave it out: other endpoints are tried in any case, until one is connected",
            "client" => "leave it out: TLS passes through unopened, so that certificates of clients are not seen",
            _ => "leave it out: what passes through is not read; a route of TCP has `sni`, `alpn` and `client_ip`",
        };
        problems.add(found.at(), format!("`{key}` is about requests, and this route takes TCP connections")).help(help);
    }
}

/// Reports clusters of HTTP/2 to which connections of TCP are passed on. `clusters` are the sections of the clusters that `spec` has.
pub(super) fn check_clusters(spec: &SnapshotSpec, clusters: &[Section<'_>], problems: &mut Problems) {
    for (section, id) in clusters.iter().zip(0..) {
        let leads = |route: &&RouteSpec| {
            route.protocol == Protocol::Tcp && matches!(route.action, ActionSpec::Cluster(to) if to == ClusterId(id))
        };
        let is_http2 = spec.clusters.get(id as usize).is_some_and(|cluster| cluster.http2.is_some());
        if let Some(route) = spec.routes.iter().find(leads).filter(|_| is_http2) {
            problems
                .add(
                    section.span("protocol"),
                    format!(
                        "its connections carry requests of HTTP/2, and route \"{}\" passes TCP on to it",
                        route.name
                    ),
                )
                .help("leave `protocol` out: the two ends speak what they like; or write another cluster for requests");
        }
    }
}

/// Whether a value is as good as none: a flag that is off, or an empty table.
fn is_off(found: &Found<'_>) -> bool {
    found.node.get_ref().as_bool() == Some(false) || found.table().is_some_and(|table| table.is_empty())
}

/// The names of `sni`.
pub(super) fn names(section: Section<'_>, problems: &mut Problems) -> Vec<HostPattern> {
    empty(section, "sni", "name", problems);
    let texts = section.texts("sni");
    for text in &texts {
        let lower = text.value.trim_start_matches("*.");
        if lower.starts_with('[') || lower.parse::<Ipv4Addr>().is_ok() {
            problems
                .add(text.at, format!("no client asks for \"{}\" in SNI", text.shown.escape_debug()))
                .help("SNI has names, no addresses (RFC 6066 section 3): a route without `sni` takes the clients that name none");
        }
    }
    host::patterns(&texts, problems)
}

/// The protocols of `alpn`.
pub(super) fn protocols(section: Section<'_>, problems: &mut Problems) -> Vec<String> {
    empty(section, "alpn", "protocol", problems);
    let mut protocols: Vec<String> = Vec::new();
    for text in section.texts("alpn") {
        if !(1..=PROTOCOL_BYTES).contains(&text.value.len()) {
            problems
                .add(text.at, format!("\"{}\" is not a protocol of ALPN", text.shown.escape_debug()))
                .help(format!("write 1 to {PROTOCOL_BYTES} bytes, such as \"h2\", \"http/1.1\" or \"postgresql\""));
        } else if protocols.iter().any(|known| *known == text.value) {
            problems.add(text.at, format!("\"{}\" is here twice", text.shown)).help("leave one out");
        }
        protocols.push(text.value.to_owned());
    }
    protocols
}

fn empty(section: Section<'_>, key: &str, what: &str, problems: &mut Problems) {
    if section.length(key) == Some(0) {
        problems
            .add(section.span(key), format!("no client asks for a {what} of an empty list"))
            .help(format!("name some, or leave `{key}` out for any"));
    }
}
