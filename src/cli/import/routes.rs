//! What an imported configuration becomes, and its tables. Not here: reading the other proxy's words, or writing TOML (`output`).

use std::collections::{BTreeMap, BTreeSet};

use super::expression;
use super::matching::{Host, Match, Path, Value};
use super::output::{self, Block, Range, array, string, strings, table};
use super::rules::{Conflicts, Order, Rule, resolved};
use super::words;

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Cluster(String),
    Split(Vec<(String, u32)>),
    Redirect(Redirect),
    Respond { status: u16, body: String, content_type: Option<String> },
}

/// A Location; parts that are None come from the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) status: u16,
    pub(super) scheme: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<NewPath>,
    /// Empty: none.
    pub(super) query: Option<String>,
}

impl Redirect {
    /// Whether it leads to where it came from.
    pub(super) fn is_empty(&self) -> bool {
        self.scheme.is_none() && self.host.is_none() && self.path.is_none()
    }
}

/// A change of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NewPath {
    Whole(String),
    /// Put in front of it.
    Added(String),
    /// A prefix is replaced: the prefix, what cairn writes instead, and what the other proxy does.
    Prefix {
        from: String,
        to: String,
        verbatim: String,
    },
}

/// Edits of the fields of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
}

/// What becomes of the requests that a rule takes.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) range: Range,
    /// Where it comes from.
    pub(super) heading: String,
    pub(super) name: String,
    pub(super) action: Action,
    /// What the origin gets.
    pub(super) path: Option<NewPath>,
    pub(super) host: Option<String>,
    pub(super) request: Edits,
    pub(super) response: Edits,
    pub(super) limits: Limits,
    /// Pages of errors: statuses and a file.
    pub(super) error_pages: Vec<(Vec<String>, String)>,
}

/// Limits of what is forwarded, instead of those of listeners and clusters. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// To the first byte of the response.
    pub(super) response: Option<u64>,
    /// Silence of the origin in a response.
    pub(super) idle: Option<u64>,
    /// Silence of the client in a request.
    pub(super) body: Option<u64>,
    /// Silence in a tunnel.
    pub(super) tunnel: Option<u64>,
    /// Bytes of a request's body, for listeners that have another limit; 0: none.
    pub(super) bytes: Option<u64>,
    /// Gives clients the form of Location that they know.
    pub(super) rewrite_location: bool,
}

impl Body {
    /// Whether it keeps requests out.
    pub(super) fn refuses(&self) -> bool {
        matches!(self.action, Action::Respond { status: 400.., .. })
    }

    /// Whether it uses what the expression of its path captures.
    pub(super) fn captures(&self) -> bool {
        let of_path = |path: &Option<NewPath>| match path {
            Some(NewPath::Whole(text) | NewPath::Added(text)) => words::has_capture(text),
            Some(NewPath::Prefix { .. }) | None => false,
        };
        let of_redirect = match &self.action {
            Action::Redirect(redirect) => {
                let texts = [&redirect.host, &redirect.query];
                of_path(&redirect.path) || texts.into_iter().flatten().any(|text| words::has_capture(text))
            }
            _ => false,
        };
        let edits = [&self.request, &self.response].into_iter().flat_map(|it| it.set.iter().chain(&it.add));
        of_path(&self.path)
            || of_redirect
            || edits.map(|(_, value)| value).chain(&self.host).any(|text| words::has_capture(text))
    }
}

/// A `[[listener]]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    pub(super) range: Range,
    pub(super) heading: String,
    pub(super) name: String,
    pub(super) bind: String,
    /// Limit of bodies, bytes; 0: none.
    pub(super) body_bytes: u64,
    /// Keys with values, as they are written.
    pub(super) keys: Vec<(String, String)>,
}

/// A `[[cluster]]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) range: Range,
    pub(super) heading: String,
    pub(super) name: String,
    /// Address and weight.
    pub(super) endpoints: Vec<(String, u32)>,
    pub(super) keys: Vec<(String, String)>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) heading: Vec<String>,
    pub(super) workers: Option<u32>,
    pub(super) listeners: Vec<Listener>,
    /// Headings of groups of routes: a server of nginx, a frontend. Their position is the second part of an order.
    pub(super) groups: Vec<(Range, String)>,
    pub(super) bodies: Vec<Body>,
    /// By listener.
    pub(super) rules: Vec<Vec<Rule>>,
    pub(super) clusters: Vec<Cluster>,
    /// What no route can say.
    pub(super) conflicts: Conflicts,
}

/// Hosts of a route, and when it is tried.
type Hosts = (Order, Vec<Host>);
/// A route: its body, match without host, listeners and hosts.
type Route = (usize, Match, Vec<usize>, Vec<Host>);

impl Plan {
    /// Orders the rules, lists what cannot be ordered, and leaves out clusters to which nothing leads.
    pub(super) fn resolve(&mut self) {
        for rules in &mut self.rules {
            *rules = resolved(std::mem::take(rules), &mut self.conflicts);
        }
        // What an expression captures is there where the route has the expression.
        for rules in &mut self.rules {
            rules.retain(|rule| {
                let kept = matches!(rule.matches.path, Path::Regex(_)) || !self.bodies[rule.body].captures();
                if !kept {
                    self.conflicts.insert((rule.body, rule.body));
                }
                kept
            });
        }
        // A limit that all listeners of a route have is theirs.
        let mut limited = BTreeSet::new();
        for (listener, rules) in self.listeners.iter().zip(&self.rules) {
            let other =
                |body: &usize| self.bodies[*body].limits.bytes.is_some_and(|bytes| bytes != listener.body_bytes);
            limited.extend(rules.iter().map(|rule| rule.body).filter(other));
        }
        let unlimited = self.bodies.iter_mut().enumerate().filter(|(position, _)| !limited.contains(position));
        unlimited.for_each(|(_, body)| body.limits.bytes = None);
        let mut used = BTreeSet::new();
        for rule in self.rules.iter().flatten() {
            match &self.bodies[rule.body].action {
                Action::Cluster(name) => used.extend([name.clone()]),
                Action::Split(sides) => used.extend(sides.iter().map(|(name, _)| name.clone())),
                Action::Redirect(_) | Action::Respond { .. } => {}
            }
        }
        for cluster in &mut self.clusters {
            let mut endpoints: Vec<(String, u32)> = Vec::new();
            for (address, weight) in cluster.endpoints.drain(..) {
                match endpoints.iter_mut().find(|(known, _)| *known == address) {
                    Some(known) => known.1 = known.1.saturating_add(weight).min(u32::from(u16::MAX)),
                    None => endpoints.push((address, weight)),
                }
            }
            cluster.endpoints = endpoints;
        }
        self.clusters.retain(|cluster| used.contains(&cluster.name));
    }

    /// What is not there where nothing would be served. `listener`: what becomes one.
    pub(super) fn missing(&self, listener: &str) -> Option<String> {
        match (self.listeners.is_empty(), self.bodies.is_empty()) {
            (true, _) => Some(format!("nothing would be served: there is no {listener} that can be imported")),
            (false, true) => Some("nothing would be served: no request has an answer that can be imported".to_owned()),
            (false, false) => None,
        }
    }

    /// All tables, in order.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let head = Block { range: (0, usize::MAX), heading: self.heading.clone(), ..Block::default() };
        let mut blocks = vec![head];
        if let Some(count) = self.workers {
            let keys = vec![("count".to_owned(), count.to_string())];
            blocks.push(Block { range: (usize::MAX, usize::MAX), title: "[workers]", keys, ..Block::default() });
        }
        blocks.extend(self.listeners.iter().map(listener));
        let mut routes = self.routes();
        let mut names = BTreeSet::new();
        let (mut headed, mut begun, mut current) = (BTreeSet::new(), BTreeSet::new(), None);
        routes.sort_by_key(|(order, ..)| *order);
        for ((_, group, _), route) in routes {
            if current != Some(group)
                && let Some((range, heading)) = self.groups.get(group)
            {
                // Comments of the group stand where it begins.
                let range = if begun.insert(group) { *range } else { (usize::MAX, usize::MAX) };
                blocks.push(Block { range, heading: vec![heading.clone()], ..Block::default() });
                current = Some(group);
            }
            let mut block = self.route(&route, &mut names);
            if headed.insert(route.0) {
                block.heading.push(self.bodies[route.0].heading.clone());
            }
            blocks.push(block);
        }
        for (_, (range, heading)) in self.groups.iter().enumerate().filter(|(group, _)| !begun.contains(group)) {
            blocks.push(Block { range: *range, heading: vec![heading.clone()], ..Block::default() });
        }
        blocks.extend(self.clusters.iter().map(cluster));
        blocks
    }

    /// Routes with the order in which they are written.
    fn routes(&self) -> Vec<(Order, Route)> {
        let mut listeners: BTreeMap<(usize, &Match), (Order, Vec<usize>)> = BTreeMap::new();
        for (listener, rules) in self.rules.iter().enumerate() {
            for rule in rules {
                let entry = listeners.entry((rule.body, &rule.matches)).or_insert((rule.order, Vec::new()));
                entry.0 = entry.0.min(rule.order);
                entry.1.push(listener);
            }
        }
        let mut hosts: BTreeMap<(usize, Match, Vec<usize>, bool), Hosts> = BTreeMap::new();
        for ((body, matches), (order, listeners)) in listeners {
            let bare = Match { host: Host::Any, ..matches.clone() };
            let entry = hosts.entry((body, bare, listeners, matches.host == Host::Any)).or_insert((order, Vec::new()));
            entry.0 = entry.0.min(order);
            entry.1.push(matches.host.clone());
        }
        let routes = hosts
            .into_iter()
            .map(|((body, matches, listeners, _), (order, hosts))| (order, (body, matches, listeners, hosts)));
        routes.collect()
    }

    fn route(&self, (body, matches, listeners, hosts): &Route, names: &mut BTreeSet<String>) -> Block {
        let body = &self.bodies[*body];
        let mut block = Block { range: body.range, title: "[[route]]", ..Block::default() };
        block.key("name", string(&output::name(&body.name, names)));
        if listeners.len() < self.listeners.len() {
            let names: Vec<_> = listeners.iter().map(|at| self.listeners[*at].name.clone()).collect();
            block.key("listeners", strings("listeners", &names));
        }
        if hosts.iter().any(|host| *host != Host::Any) {
            let hosts: Vec<_> = hosts.iter().map(host).collect();
            block.key("hosts", strings("hosts", &hosts));
        }
        match &matches.path {
            Path::Any => {}
            Path::Exact(path) => block.key("path", string(path)),
            Path::Prefix(path) => block.key("path_prefix", string(path)),
            Path::Behind(prefix) => block.key("path_regex", string(&behind(prefix, body))),
            Path::Regex(regex) => block.key("path_regex", string(regex)),
        }
        if !matches.methods.is_empty() {
            block.key("methods", strings("methods", &matches.methods));
        }
        if !matches.client_ip.is_empty() {
            block.key("client_ip", strings("client_ip", &matches.client_ip));
        }
        let conditions = [("headers", &matches.headers), ("query", &matches.query), ("cookies", &matches.cookies)];
        for (key, conditions) in conditions {
            if !conditions.is_empty() {
                let entries = conditions.iter().map(|(name, value)| (name.clone(), condition(value)));
                block.key(key, table(&entries.collect::<Vec<_>>()));
            }
        }
        act(body, &matches.path, &mut block);
        block
    }
}

/// The action and what belongs to it.
fn act(body: &Body, path: &Path, block: &mut Block) {
    match &body.action {
        Action::Cluster(name) => block.key("cluster", string(name)),
        Action::Split(sides) => {
            let side = |(name, weight): &(String, u32)| {
                table(&[("cluster".to_owned(), string(name)), ("weight".to_owned(), weight.to_string())])
            };
            block.key("split", array("split", &sides.iter().map(side).collect::<Vec<_>>()));
        }
        Action::Redirect(redirect) => {
            let mut entries = vec![("status".to_owned(), redirect.status.to_string())];
            for (name, value) in [("scheme", &redirect.scheme), ("host", &redirect.host)] {
                entries.extend(value.as_ref().map(|value| (name.to_owned(), string(value))));
            }
            entries.extend(redirect.path.as_ref().map(|new| new_path(path, new)));
            entries.extend(redirect.query.as_ref().map(|query| ("query".to_owned(), string(query))));
            block.key("redirect", table(&entries));
        }
        Action::Respond { status, body, content_type } => {
            let mut entries = vec![("status".to_owned(), status.to_string())];
            if !body.is_empty() {
                entries.push(("body".to_owned(), string(body)));
            }
            if let Some(kind) = content_type {
                entries.push(("headers".to_owned(), table(&[("content-type".to_owned(), string(kind))])));
            }
            block.key("respond", table(&entries));
        }
    }
    let limits = &body.limits;
    for (key, time) in [
        ("timeout", limits.response),
        ("timeouts.idle", limits.idle),
        ("timeouts.body", limits.body),
        ("tunnel_idle", limits.tunnel),
    ] {
        block.keys.extend(time.map(|time| (key.to_owned(), string(&duration(time)))));
    }
    block.keys.extend(limits.bytes.map(|bytes| ("body_bytes".to_owned(), string(&size(bytes)))));
    if limits.rewrite_location {
        block.key("rewrite_location", "true");
    }
    let mut rewrite = Vec::new();
    rewrite.extend(body.path.as_ref().map(|new| new_path(path, new)));
    rewrite.extend(body.host.as_ref().map(|host| ("host".to_owned(), string(host))));
    if !rewrite.is_empty() {
        block.key("rewrite", table(&rewrite));
    }
    let page = |(statuses, file): &(Vec<String>, String)| {
        let html = string(&format!("{}{file}", words::FILE));
        table(&[("statuses".to_owned(), strings("statuses", statuses)), ("html".to_owned(), html)])
    };
    if !body.error_pages.is_empty() {
        let pages: Vec<_> = body.error_pages.iter().map(page).collect();
        block.key("error_pages", array("error_pages", &pages));
    }
    edits("request_headers", &body.request, block);
    edits("response_headers", &body.response, block);
}

/// The key for a change of the path, and its value.
fn new_path(path: &Path, new: &NewPath) -> (String, String) {
    let (key, text) = match (new, path) {
        (NewPath::Whole(text), _) => ("path", text.clone()),
        (NewPath::Added(text), _) => ("add_prefix", text.clone()),
        // What follows the prefix is captured.
        (NewPath::Prefix { verbatim, .. }, Path::Regex(_)) => {
            ("path", format!("{verbatim}{}", words::variable("regex.1")))
        }
        (NewPath::Prefix { from, to, .. }, Path::Behind(_)) => {
            ("path", format!("{}{}", replacement(path, from, to), words::variable("regex.1")))
        }
        (NewPath::Prefix { from, to, .. }, _) => ("path_prefix", replacement(path, from, to)),
    };
    (key.to_owned(), string(&text))
}

/// What replaces the path of a route so that `from` becomes `to`: the route may be more specific than the rule was.
fn replacement(path: &Path, from: &str, to: &str) -> String {
    let matched = match path {
        Path::Exact(path) | Path::Prefix(path) | Path::Behind(path) => path,
        Path::Any | Path::Regex(_) => from,
    };
    let rest = matched.strip_prefix(from.trim_end_matches('/')).unwrap_or_default();
    match (to.trim_end_matches('/'), rest.trim_start_matches('/')) {
        ("", "") => "/".to_owned(),
        (_, "") => to.to_owned(),
        (to, rest) => format!("{to}/{rest}"),
    }
}

/// The expression for the paths of a prefix. Its group is what follows what replaces the prefix.
fn behind(prefix: &str, body: &Body) -> String {
    let path = Path::Behind(prefix.to_owned());
    let to_root =
        matches!(&body.path, Some(NewPath::Prefix { from, to, .. }) if replacement(&path, from, to).ends_with('/'));
    format!("{}{}", expression::literal(prefix), if to_root { "(?:/(.*))?" } else { "(/.*)?" })
}

fn edits(key: &str, edits: &Edits, block: &mut Block) {
    for (kind, fields) in [("set", &edits.set), ("add", &edits.add)] {
        if !fields.is_empty() {
            let entries: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), string(value))).collect();
            block.key(&format!("{key}.{kind}"), table(&entries));
        }
    }
    if !edits.remove.is_empty() {
        block.key(&format!("{key}.remove"), strings(key, &edits.remove));
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Any => "*".to_owned(),
        Host::Exact(name) => name.clone(),
        Host::Wildcard(suffix) => format!("*.{suffix}"),
    }
}

fn condition(value: &Value) -> String {
    match value {
        Value::Exact(text) => string(text),
        Value::Regex(text) => table(&[("regex".to_owned(), string(text))]),
        Value::Present(present) => table(&[("present".to_owned(), present.to_string())]),
    }
}

fn listener(listener: &Listener) -> Block {
    let heading = vec![listener.heading.clone()];
    let mut block = Block { range: listener.range, heading, title: "[[listener]]", ..Block::default() };
    block.key("name", string(&listener.name));
    block.key("bind", string(&listener.bind));
    if listener.body_bytes > 0 {
        block.key("limits.body_bytes", string(&size(listener.body_bytes)));
    }
    block.keys.extend(listener.keys.iter().cloned());
    block
}

/// A time as cairn writes it.
pub(super) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        time if time % 1000 == 0 => format!("{}s", time / 1000),
        time => format!("{time}ms"),
    }
}

/// A size as cairn writes it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes % (1 << 30) == 0 => format!("{}GiB", bytes >> 30),
        bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

fn cluster(cluster: &Cluster) -> Block {
    let heading = vec![cluster.heading.clone()];
    let mut block = Block { range: cluster.range, heading, title: "[[cluster]]", ..Block::default() };
    block.key("name", string(&cluster.name));
    let endpoint = |(address, weight): &(String, u32)| match weight {
        1 => string(address),
        weight => table(&[("address".to_owned(), string(address)), ("weight".to_owned(), weight.to_string())]),
    };
    let endpoints: Vec<_> = cluster.endpoints.iter().map(endpoint).collect();
    block.key("endpoints", array("endpoints", &endpoints));
    block.keys.extend(cluster.keys.iter().cloned());
    block
}
