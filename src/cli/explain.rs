//! `cairn explain`: prints how a configuration handles one request, or one connection of TCP (`connection`). Not here: deciding that
//! (`exchange`, `route`).

mod connection;

use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use cairn::cluster::{Cluster, HashOn};
use cairn::config::{Config, Loader, TenantState};
use cairn::exchange::{self, Failure, Refusal, RequestId, RequestValues, RouteRequest, Routed};
use cairn::http::path::Forms;
use cairn::id::{Address, ClusterId, ListenerId};
use cairn::limits::REQUEST_LINE_BYTES;
use cairn::route::template::Use;
use cairn::route::{
    Action, Captures, Condition, Considered, HostPattern, PathPattern, Protocol, Request, Route, RouteLimits,
    RouteSpec, Scheme, Unmet, Verdict,
};
use cairn::snapshot::{Ledger, ListenerSpec, Snapshot};
use cairn::tls::{ClientHandshake, ServerSpec};

use super::request::{self, Refused};
use super::{check, print, usage};

/// What `explain` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file, or a directory with cairn.toml and conf.d/*.toml
    #[arg(short, long, value_name = "PATH")]
    config: PathBuf,
    /// Of a request; without it, a connection to a listener of TCP is explained
    #[arg(requires = "url", required_unless_present_any = ["sni", "alpn", "listener"])]
    method: Option<String>,
    /// http://HOST/PATH, https://HOST/PATH, or /PATH with -H host:NAME; HOST:PORT for CONNECT
    url: Option<String>,
    /// The name that a client of TLS asks for, on a listener with protocol = "tcp"
    #[arg(long, value_name = "NAME", conflicts_with = "method")]
    sni: Option<String>,
    /// A protocol that it offers there; may be repeated
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "method")]
    alpn: Vec<String>,
    /// A header field of the request; may be repeated
    #[arg(short = 'H', value_name = "NAME:VALUE")]
    fields: Vec<String>,
    /// The listener that gets the request, instead of each in turn
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Who the client is by its certificate, on listeners that ask for one: "spiffe://corp/ns/shop/web", a DNS name or a subject
    #[arg(long, value_name = "IDENTITY")]
    client: Option<String>,
    /// The address from which the request comes: that of the client, unless a trusted proxy's X-Forwarded-For names another
    #[arg(long, alias = "from", value_name = "IP", default_value = "127.0.0.1")]
    client_ip: IpAddr,
}

/// Success if a listener has a route for the request, or for the connection.
pub(super) fn explain(arguments: &Arguments) -> ExitCode {
    let asked = arguments
        .method
        .as_deref()
        .zip(arguments.url.as_deref())
        .map(|(method, url)| Url::read(method, url, &arguments.fields));
    // A tenant with an invalid file must not hide the answer for the others.
    let config = match Loader::new(arguments.config.clone()).load() {
        Ok(config) => config,
        Err(report) => return check::invalid(&arguments.config, &report),
    };
    let snapshot = match config.compile(1, &mut Ledger::default()) {
        Ok(snapshot) => snapshot,
        Err(report) => return check::invalid(&arguments.config, &report),
    };
    let wanted = |listener: &ListenerSpec| arguments.listener.as_deref().is_none_or(|wanted| wanted == listener.name);
    if let Some(name) = arguments.listener.as_deref().filter(|_| !snapshot.listeners().any(|(_, it)| wanted(it))) {
        usage(&format!("there is no listener named {name}"));
    }
    match asked {
        Some(url) => explain_request(arguments, &url, &config, &snapshot),
        None => connection::explain(arguments, &config, &snapshot),
    }
}

/// A request as it was asked for.
struct Url<'a> {
    method: &'a str,
    url: &'a str,
    scheme: Option<&'static str>,
    head: String,
}

impl<'a> Url<'a> {
    fn read(method: &'a str, url: &'a str, fields: &[String]) -> Self {
        let scheme = request::scheme(url).unwrap_or_else(|error| usage(&error));
        let head = request::head(method, url, fields).unwrap_or_else(|error| usage(&error));
        Self { method, url, scheme, head }
    }
}

/// The listeners of a protocol that are meant.
fn listeners<'a>(
    arguments: &'a Arguments,
    snapshot: &'a Snapshot,
    protocol: Protocol,
) -> impl Iterator<Item = (ListenerId, &'a ListenerSpec)> {
    let wanted = |listener: &ListenerSpec| arguments.listener.as_deref().is_none_or(|wanted| wanted == listener.name);
    snapshot.listeners().filter(move |(_, listener)| wanted(listener) && listener.protocol == protocol)
}

fn explain_request(arguments: &Arguments, asked: &Url<'_>, config: &Config, snapshot: &Snapshot) -> ExitCode {
    let Url { method, url, scheme, head } = asked;
    let scheme = *scheme;
    let of_http = || listeners(arguments, snapshot, Protocol::Http);
    if let Some(name) = arguments.listener.as_deref().filter(|_| of_http().next().is_none()) {
        usage(&format!(
            "listener {name} passes TCP on, where there are no requests: write --sni NAME in the place of METHOD and URL"
        ));
    }
    let speaks = |listener: &ListenerSpec| {
        let spoken = [Scheme::Http, Scheme::Https].into_iter().filter(|scheme| listener.speaks(*scheme));
        scheme.is_none_or(|asked| spoken.map(Scheme::text).any(|known| known == asked))
    };
    if let Some(scheme) = scheme.filter(|_| !of_http().any(|(_, it)| speaks(it))) {
        match &arguments.listener {
            Some(name) => usage(&format!("listener {name} does not speak {scheme}")),
            None => usage(&format!("no listener speaks {scheme}")),
        }
    }
    let mut rows = Rows(String::new());
    let mut found = false;
    rows.row("request", format_args!("{method} {url}"));
    for (id, listener) in of_http().filter(|(_, listener)| speaks(listener)) {
        rows.gap();
        rows.row("listener", format_args!("{}, {}{}", listener.name, listener.bind, spoken(listener, scheme)));
        if let Some(tls) = listener.tls.as_ref().filter(|_| scheme != Some("http")) {
            rows.row("shows", certificates(tls, url));
        }
        let request = match request::read(head.as_bytes(), listener) {
            Ok(request) => request,
            Err(Refused(status, reason)) => {
                rows.row("answer", format_args!("{status}, {reason}"));
                continue;
            }
        };
        // Clients of a Unix-domain socket have no address.
        let address = Some((arguments.client_ip, 0)).filter(|_| matches!(listener.bind, Address::Inet(_)));
        let mut peer = listener.peer(address);
        peer.secure = listener.tls.is_some() && scheme != Some("http");
        let asks = peer.secure && listener.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        let shown = arguments.client.as_deref().and_then(|identity| shown(identity, asks, &mut rows));
        let asked = RouteRequest {
            request: &request,
            head: head.as_bytes(),
            listener: id,
            peer: &peer,
            tls: shown.as_ref(),
            arrival: None,
            id: &RequestId::new(b"-"),
        };
        let client = exchange::client_ip(&peer, &request, head.as_bytes(), listener);
        if client != peer.address() {
            let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
            rows.row("client", format_args!("{client}, as {} says", arguments.client_ip));
        }
        let paths = Forms::with_capacity(REQUEST_LINE_BYTES);
        found |= Explanation { snapshot, config, asked, paths, rows: &mut rows }.print();
    }
    print(&rows.0, if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The certificates that the client may get, by the host of its URL.
fn certificates(tls: &ServerSpec, url: &str) -> String {
    let host = url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', ':']).next().unwrap_or_default();
    let (positions, covered) = tls.certificates_for(&host.to_ascii_lowercase());
    let named =
        positions.iter().filter_map(|at| tls.identities.get(*at).map(|it| format!("certificate {}, {it}", at + 1)));
    let all = named.collect::<Vec<_>>().join("; to who cannot check its signatures, ");
    if covered || host.is_empty() { all } else { format!("{all}; none is for {host}") }
}

/// How the client is taken to speak.
fn spoken(listener: &ListenerSpec, scheme: Option<&str>) -> &'static str {
    match (&listener.tls, listener.is_permissive()) {
        (None, _) => "",
        (Some(_), false) => ", TLS",
        (Some(_), true) if scheme == Some("http") => ", TLS or plain text: plain text here",
        (Some(_), true) => ", TLS or plain text: TLS here",
    }
}

/// What a client has shown whose certificate says this of it, where it is asked for one.
fn shown(identity: &str, asks: bool, rows: &mut Rows) -> Option<ClientHandshake> {
    if !asks {
        rows.row("client", "without a certificate: the listener asks for none");
        return None;
    }
    rows.row("client", format_args!("{identity}, by its certificate"));
    Some(ClientHandshake { tls13: true, identity: identity.into(), ..ClientHandshake::default() })
}

/// Rows of a label and a text.
struct Rows(String);

impl Rows {
    fn row(&mut self, label: &str, text: impl Display) {
        let _ = writeln!(self.0, "{label:<10}{text}");
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

struct Explanation<'a> {
    snapshot: &'a Snapshot,
    config: &'a Config,
    asked: RouteRequest<'a>,
    paths: Forms,
    rows: &'a mut Rows,
}

impl<'a> Explanation<'a> {
    /// Prints the result. True: a route serves the request.
    fn print(&mut self) -> bool {
        let snapshot = self.snapshot;
        let decided = exchange::decide(snapshot, &self.asked, &mut self.paths);
        match decided {
            Ok(route) => self.route(route),
            Err(Refusal { failure, route }) => {
                if let Some(route) = route.and_then(|id| snapshot.router.routes().get(id.index())) {
                    chosen(self.config, route, self.rows);
                }
                self.refused(failure);
            }
        }
        if !matches!(decided, Err(Refusal { failure: Failure::Misdirected | Failure::Path(_), .. })) {
            let considered = snapshot.router.explain(self.asked.listener, &self.routed());
            considered.iter().for_each(|rejected| self.rejected(rejected));
        }
        decided.is_ok()
    }

    fn refused(&mut self, failure: Failure) {
        let answer = failure.answer();
        let mut url = Vec::new();
        if failure == Failure::NotSecure {
            url.extend_from_slice(b", location ");
            exchange::write_secure_url(&self.asked, &self.paths, &mut url);
        }
        let location = String::from_utf8_lossy(&url);
        self.rows.row("answer", format_args!("{}, {}{location}", answer.status, answer.reason));
        if let Failure::Path(error) = failure {
            self.rows.row("because", error.reason());
        }
    }

    fn route(&mut self, route: &Route) {
        chosen(self.config, route, self.rows);
        match &route.action {
            Action::Cluster(id) => self.cluster(*id, ""),
            Action::Split(split) => {
                let sum: u64 = split.shares().map(|(_, weight)| u64::from(weight)).sum();
                for (id, weight) in split.shares() {
                    self.cluster(id, &format!(", {weight} of {sum} requests"));
                }
            }
            Action::Redirect(redirect) => {
                let mut location = Vec::new();
                self.with_values(route, |values| exchange::write_location(values, redirect, &mut location));
                let location = String::from_utf8_lossy(&location);
                self.rows.row("answer", format_args!("{}, location {location}", redirect.status));
            }
            Action::Respond(respond) => {
                self.rows.row("answer", format_args!("{}, {} bytes from here", respond.status, respond.body.len()));
            }
        }
        if matches!(route.action, Action::Cluster(_) | Action::Split(_)) {
            self.sends(route);
        }
        if let Some(timeout) = route.timeout {
            self.rows.row("timeout", format_args!("{timeout:?} to the first response byte"));
        }
        self.limits(route);
    }

    /// Prints the limits that the route has of its own.
    fn limits(&mut self, route: &Route) {
        let RouteLimits { body_bytes, body_timeout, response_idle, tunnel_idle, within_listener: _ } = route.limits;
        if body_bytes.is_some() {
            let listener = self.snapshot.listener(self.asked.listener).body_bytes;
            match route.limits.body_bytes(listener) {
                0 => self.rows.row("body", "of any length"),
                bytes => self.rows.row("body", format_args!("of {bytes} bytes at most")),
            }
        }
        for (what, time) in
            [("of the request body", body_timeout), ("of the response", response_idle), ("of a tunnel", tunnel_idle)]
        {
            if let Some(time) = time {
                self.rows.row("silence", format_args!("{what}: {time:?} at most"));
            }
        }
    }

    /// Prints path and host for the origin, if they differ from the request's.
    fn sends(&mut self, route: &Route) {
        let RouteRequest { request, head, .. } = self.asked;
        let (received, host) = (request.path(head), request.authority.of(head));
        let forwarded = self.paths.forwarded(received);
        let (mut new_path, mut new_host) = (Vec::new(), Vec::new());
        let rewrite = route.rewrite.as_ref();
        self.with_values(route, |values| {
            match rewrite.and_then(|rewrite| rewrite.path.as_ref()) {
                Some(rewrite) => rewrite.write(forwarded, self.paths.rewritable(received), values, &mut new_path),
                None => new_path.extend_from_slice(forwarded),
            }
            match rewrite.and_then(|rewrite| rewrite.host.as_ref()) {
                Some(rewrite) => rewrite.write(Use::Host, values, &mut new_host),
                None => new_host.extend_from_slice(host),
            }
        });
        if rewrite.is_none() && new_path == received {
            return;
        }
        let [path, host] = [new_path, new_host].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        self.rows.row("sends", format_args!("{path}, host {host}"));
    }

    /// Calls `act` with the values that variables have for this request. What only a connection has is empty.
    fn with_values(&self, route: &Route, act: impl FnOnce(&RequestValues<'_>)) {
        let RouteRequest { request, head, .. } = self.asked;
        let mut captures = Captures::new();
        exchange::find_captures(&mut captures, route, self.paths.normal(request.path(head)));
        let (snapshot, paths) = (self.snapshot, &self.paths);
        act(&RequestValues { asked: self.asked, snapshot, route, paths, captures: &captures });
    }

    fn cluster(&mut self, id: ClusterId, share: &str) {
        cluster(self.snapshot, id, share, self.rows);
        if let Some(cluster) = self.snapshot.clusters.get(id.index()) {
            self.preferences(cluster);
        }
    }

    /// Which endpoints of a cluster are better than others for the request.
    fn preferences(&mut self, cluster: &Cluster) {
        if let Some(on) = &cluster.hash_on {
            let key = exchange::key(on, &self.asked, self.snapshot.listener(self.asked.listener));
            key_row(cluster, on, key, "the request", self.rows);
        }
        if let Some(affinity) = &cluster.affinity {
            let named = exchange::named_endpoint(affinity, &self.asked);
            match named.and_then(|id| cluster.endpoints.iter().find(|endpoint| endpoint.id == id)) {
                Some(own) => {
                    self.rows
                        .row("cookie", format_args!("{} names {}, if that is in use", affinity.cookie(), own.address));
                }
                None => self
                    .rows
                    .row("cookie", format_args!("the answer brings {}, which names its endpoint", affinity.cookie())),
            }
        }
    }

    /// Whether the request has a field called `name` that is not forwarded.
    fn withholds(&self, name: &str) -> bool {
        let RouteRequest { request, head, peer, .. } = self.asked;
        request.fields.named(head, name.as_bytes()).any(|field| !peer.passes(request, head, field))
    }

    /// That a condition does not hold, and why.
    fn fails(&self, condition: Condition<'_>, spec: &RouteSpec) -> String {
        match condition {
            Condition::Path => "its path_regex does not match".to_owned(),
            Condition::Method => format!("its methods are {}", spec.conditions.methods.join(", ")),
            Condition::Header(name) => {
                let why = if self.withholds(name) { ": it came, but does not go on" } else { "" };
                format!("its condition on header {name} does not hold{why}")
            }
            Condition::Query(name) => format!("its condition on query {name} does not hold"),
            Condition::Cookie(name) => format!("its condition on cookie {name} does not hold"),
            Condition::Client => match self.routed().identity() {
                Some(identity) => format!("its client is not {identity}"),
                None => "its client holds for no client without a certificate: --client states one".to_owned(),
            },
            Condition::Alpn => "its alpn holds for no request".to_owned(),
            Condition::ClientIp => match self.routed().client_ip() {
                Some(address) => format!("its client_ip does not contain {address}"),
                None => "its client_ip holds for no client without an address".to_owned(),
            },
            Condition::Scheme => format!("its scheme is not {}", self.routed().scheme().text()),
            Condition::Port => match self.routed().port() {
                Some(port) => format!("its port is not {port}"),
                None => "its port is none of a Unix-domain socket's".to_owned(),
            },
        }
    }

    /// What a condition under `not` says that holds.
    fn met(&self, condition: Condition<'_>) -> String {
        let RouteRequest { request, head, .. } = self.asked;
        match condition {
            Condition::Path => "path_regex".to_owned(),
            Condition::Method => format!("method {}", String::from_utf8_lossy(request.method_text.of(head))),
            Condition::Header(name) => format!("the condition on header {name}"),
            Condition::Query(name) => format!("the condition on query {name}"),
            Condition::Cookie(name) => format!("the condition on cookie {name}"),
            Condition::Client => format!("client {}", self.routed().identity().unwrap_or_default()),
            Condition::Alpn => "alpn".to_owned(),
            Condition::ClientIp => {
                let address = self.routed().client_ip().map(|address| format!(" contains {address}"));
                format!("client_ip{}", address.unwrap_or_default())
            }
            Condition::Scheme => format!("scheme {}", self.routed().scheme().text()),
            Condition::Port => format!("port {}", self.routed().port().unwrap_or_default()),
        }
    }

    /// The request as the router sees it.
    fn routed(&self) -> Routed<'_> {
        let RouteRequest { request, head, listener, .. } = self.asked;
        self.asked.routed(self.snapshot.listener(listener), self.paths.normal(request.path(head)))
    }

    fn rejected(&mut self, rejected: &Considered<'_>) {
        let spec = &self.config.snapshot.routes[rejected.route.index()];
        let why = match rejected.verdict {
            Verdict::Unmet(Unmet::Fails(condition)) => self.fails(condition, spec),
            Verdict::Unmet(Unmet::Not(condition)) => format!("its `not` excludes it: {}", self.met(condition)),
            Verdict::Chosen | Verdict::Shadowed(_) => String::new(),
        };
        not(self.config, rejected, &why, self.rows);
    }
}

/// Prints the route and its conditions.
fn chosen(config: &Config, route: &Route, rows: &mut Rows) {
    let position = route.id.index();
    rows.row("route", format_args!("{}, {}", route.name, config.route_place(position)));
    if let Some(tenant) = config.snapshot.routes[position].tenant.and_then(|id| config.tenants.get(id.index())) {
        let broken = if tenant.state == TenantState::Live { "" } else { ", broken: cairn check says why" };
        rows.row("tenant", format_args!("{}, {}{broken}", tenant.name, tenant.file.display()));
    }
    rows.row("because", because(config, &config.snapshot.routes[position]));
}

/// Prints a cluster and its endpoints.
fn cluster(snapshot: &Snapshot, id: ClusterId, share: &str, rows: &mut Rows) {
    let Some(cluster) = snapshot.clusters.get(id.index()) else { return };
    let tls = if cluster.tls.is_some() { ", TLS" } else { "" };
    rows.row("cluster", format_args!("{}, {}{tls}{share}", cluster.name, cluster.balance.name()));
    let sum: u64 = cluster.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    for endpoint in &cluster.endpoints {
        let others: String = endpoint.others.iter().map(|other| format!(" or {other}")).collect();
        let weight = endpoint.weight;
        let zone: String = endpoint.zone.iter().map(|zone| format!(", zone {zone}")).collect();
        rows.row("endpoint", format_args!("{}{others}, weight {weight} of {sum}{zone}", endpoint.address));
    }
    if let Some(zone) = &cluster.zone {
        rows.row("zone", format_args!("{zone}: its endpoints are preferred"));
    }
}

/// Prints where the key of a request or a connection leads, if it has one.
fn key_row(cluster: &Cluster, on: &HashOn, key: Option<u64>, what: &str, rows: &mut Rows) {
    match key.and_then(|key| cluster.owner(key)) {
        Some(owner) => rows.row("key", format_args!("{on} leads to {}, if that is in use", owner.address)),
        None => rows.row("key", format_args!("{what} has no {on}: it goes to any endpoint")),
    }
}

/// Prints a route that is not taken; `why`: because of a condition.
fn not(config: &Config, rejected: &Considered<'_>, why: &str, rows: &mut Rows) {
    let routes = &config.snapshot.routes;
    let (name, place) = (&routes[rejected.route.index()].name, config.route_place(rejected.route.index()));
    match rejected.verdict {
        Verdict::Chosen => {}
        Verdict::Unmet(_) => rows.row("not", format_args!("{name}, {place}: {why}")),
        Verdict::Shadowed(by) => {
            let by = &routes[by.index()].name;
            rows.row("not", format_args!("{name}, {place}: fits too, but {by} comes before it"));
        }
    }
}

/// All conditions of a route.
fn because(config: &Config, spec: &RouteSpec) -> String {
    let shown = |value| config.shown(value);
    let mut conditions = Vec::new();
    if !spec.hosts.is_empty() {
        let hosts = spec.hosts.iter().map(|host| match host {
            HostPattern::Exact(name) => shown(name).to_owned(),
            HostPattern::Wildcard(name) => format!("*.{}", shown(name)),
        });
        let what = if spec.protocol == Protocol::Tcp { "sni" } else { "host" };
        conditions.push(format!("{what} {}", hosts.collect::<Vec<_>>().join(" or ")));
    }
    match &spec.path {
        PathPattern::Any => {}
        PathPattern::Exact(path) => conditions.push(format!("path {}", shown(path))),
        PathPattern::Prefix(path) => conditions.push(format!("path_prefix {}", shown(path))),
        PathPattern::Regex(regex) => conditions.push(format!("path_regex {}", shown(regex))),
    }
    conditions.extend(config.conditions(spec));
    if conditions.is_empty() { "it has no condition".to_owned() } else { conditions.join(", ") }
}
