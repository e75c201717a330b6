//! Compiles route specs to a [`Router`], and finds the errors that only compiling finds. Not here: the lookup (`tree`).

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;

use ahash::{HashMap, HashMapExt, HashSet, HashSetExt};

use super::action::Action;
use super::condition::Conditions;
use super::edit::Edits;
use super::host;
use super::pattern::Groups;
use super::rewrite::Rewrite;
use super::spec::{ClientPattern, ConditionsSpec, HostPattern, PathPattern, Protocol, RouteSpec, Scheme, ValuePattern};
use super::template::Variable;
use super::tree::{Draft, DraftId, Rule};
use super::{ErrorPages, Restores, Route, Router, Table};
use crate::id::{ListenerId, Network, RouteId};
use crate::limits::{REQUEST_LINE_BYTES, ROUTE_TABLE_BYTES_MAX};

/// Why a route cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {route:?}: {key}: {problem}")]
pub struct BuildError {
    /// Name of the route.
    pub route: String,
    /// Path of the key inside `[[route]]`.
    pub key: &'static str,
    /// The problem.
    pub problem: String,
    /// Name of the route with the same conditions.
    pub rival: Option<String>,
}

/// Order of the routes at one node; the least is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    path: PathClass,
    /// The client cannot choose who it is and from where it comes as it can all else, so nothing that it sends puts another route before
    /// this one.
    client: Reverse<bool>,
    client_ip: Reverse<bool>,
    alpn: Reverse<bool>,
    methods: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    cookies: Reverse<usize>,
    scheme: Reverse<bool>,
    port: Reverse<bool>,
    not: Reverse<usize>,
    /// Position in the configuration.
    route: RouteId,
}

/// Literal paths come before expressions, those before no path. Only the root of a host has routes of more than one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PathClass {
    Literal,
    Regex,
    Any,
}

/// All conditions of a route but host and literal path, in canonical order. Routes at one node with equal signatures are
/// duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Signature<'a> {
    path: PathClass,
    regex: Option<&'a str>,
    wanted: Sorted<'a>,
    unwanted: Sorted<'a>,
}

/// Conditions in canonical order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sorted<'a> {
    client: Vec<&'a ClientPattern>,
    client_ip: Vec<&'a Network>,
    alpn: Vec<&'a String>,
    methods: Vec<&'a String>,
    headers: Vec<&'a (String, ValuePattern)>,
    query: Vec<&'a (String, ValuePattern)>,
    cookies: Vec<&'a (String, ValuePattern)>,
    scheme: Option<Scheme>,
    port: Option<u16>,
}

pub(super) fn compile(specs: &[RouteSpec], listeners: &[Protocol]) -> Result<Router, Vec<BuildError>> {
    let mut errors = Vec::new();
    let mut routes = Vec::with_capacity(specs.len());
    let mut conditions = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        check(spec, listeners.len(), &mut errors);
        conditions.push(Conditions::compile(spec, &mut errors));
        match route(RouteId(index as u32), spec) {
            Ok(route) => routes.push(route),
            Err((key, problem)) => errors.push(BuildError { route: spec.name.clone(), key, problem, rival: None }),
        }
    }
    let (served, listeners) = group_by_routes(specs, listeners);
    let mut builder = TreeBuilder::new(specs);
    let drafts: Vec<_> = served.iter().map(|table| builder.table(table)).collect();
    errors.append(&mut builder.errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let (tree, node_of) = builder.draft.freeze();
    let tables = drafts.into_iter().map(|draft| Table {
        exact: node_of(draft.exact),
        wildcard: node_of(draft.wildcard),
        any: node_of(draft.any),
        suffix_bytes: draft.suffix_bytes,
        reads_hello: draft.reads_hello,
    });
    Ok(Router {
        routes: routes.into(),
        conditions: conditions.into(),
        listeners: listeners.into(),
        tables: tables.collect(),
        tree,
    })
}

fn route(id: RouteId, spec: &RouteSpec) -> Result<Route, (&'static str, String)> {
    let response_edits = Edits::compile(&spec.response_headers);
    let request_edits = Edits::compile(&spec.request_headers);
    let action = Action::compile(spec, &response_edits)?;
    let rewrite = Rewrite::compile(spec)?;
    let edits = request_edits.appended().variables().chain(response_edits.appended().variables());
    let mut variables = edits.chain(action.variables()).chain(rewrite.iter().flat_map(Rewrite::variables));
    let captures = match (&spec.path, variables.any(|variable| matches!(variable, Variable::Capture(_)))) {
        (PathPattern::Regex(text), true) => Some(Groups::compile(text).map_err(|problem| ("path_regex", problem))?),
        _ => None,
    };
    drop(variables);
    Ok(Route {
        id,
        name: spec.name.as_str().into(),
        tenant: spec.tenant,
        action,
        timeout: spec.timeout,
        deadline: spec.deadline,
        limits: spec.limits,
        retry: spec.retry,
        hedge: spec.hedge,
        priority: spec.priority.clone(),
        rewrite,
        restores: Restores { location: spec.rewrite_location, cookies: spec.cookie_path },
        names_method: !spec.conditions.methods.is_empty(),
        takes_plain_text: spec.conditions.scheme == Some(Scheme::Http),
        captures,
        error_pages: ErrorPages::compile(&spec.error_pages),
        request_edits,
        response_edits,
    })
}

/// Checks what the tree relies on.
fn check(spec: &RouteSpec, listeners: usize, errors: &mut Vec<BuildError>) {
    let mut fail = |key, problem| errors.push(BuildError { route: spec.name.clone(), key, problem, rival: None });
    if let Some(id) = spec.listeners.iter().find(|id| id.index() >= listeners) {
        fail("listeners", format!("there is no listener number {}", id.0));
    }
    for HostPattern::Exact(host) | HostPattern::Wildcard(host) in &spec.hosts {
        if host.len() > host::BYTES_MAX {
            fail("hosts", format!("{host:?} is longer than {} bytes", host::BYTES_MAX));
        }
    }
    if let PathPattern::Exact(path) | PathPattern::Prefix(path) = &spec.path {
        if !path.starts_with('/') {
            fail(path_key(spec), format!("{path:?} does not begin with `/`"));
        }
        if path.len() > REQUEST_LINE_BYTES {
            fail(path_key(spec), format!("is longer than a request line may be, {REQUEST_LINE_BYTES} bytes"));
        }
    }
}

fn path_key(spec: &RouteSpec) -> &'static str {
    match spec.path {
        PathPattern::Exact(_) => "path",
        PathPattern::Prefix(_) => "path_prefix",
        PathPattern::Regex(_) => "path_regex",
        PathPattern::Any if spec.hosts.is_empty() => "name",
        PathPattern::Any if spec.protocol == Protocol::Tcp => "sni",
        PathPattern::Any => "hosts",
    }
}

/// The distinct sets of routes that listeners serve, and the index of the set for each listener.
fn group_by_routes(specs: &[RouteSpec], listeners: &[Protocol]) -> (Vec<Vec<RouteId>>, Vec<u32>) {
    let mut sets: Vec<Vec<RouteId>> = Vec::new();
    let mut known: HashMap<Vec<RouteId>, u32> = HashMap::new();
    let by_listener = (0..).map(ListenerId).zip(listeners).map(|(listener, protocol)| {
        let numbered = specs.iter().enumerate().filter(|(_, spec)| spec.is_of(listener, *protocol));
        let set: Vec<_> = numbered.map(|(index, _)| RouteId(index as u32)).collect();
        *known.entry(set).or_insert_with_key(|set| {
            sets.push(set.clone());
            sets.len() as u32 - 1
        })
    });
    let by_listener = by_listener.collect();
    (sets, by_listener)
}

struct DraftTable {
    exact: DraftId,
    wildcard: DraftId,
    any: DraftId,
    suffix_bytes: RangeInclusive<usize>,
    reads_hello: bool,
}

/// Inserts routes into the draft of the tree.
struct TreeBuilder<'a> {
    specs: &'a [RouteSpec],
    /// Number of each route's signature, by `RouteId`; equal signatures have equal numbers.
    signatures: Vec<usize>,
    draft: Draft,
    /// The first route with each combination of node, whether the path ends there, and signature.
    occupied: HashMap<(DraftId, bool, usize), RouteId>,
    /// Pairs of duplicates that have been reported.
    reported: HashSet<(RouteId, RouteId)>,
    errors: Vec<BuildError>,
}

impl<'a> TreeBuilder<'a> {
    fn new(specs: &'a [RouteSpec]) -> Self {
        let mut numbers = HashMap::new();
        let signatures = specs.iter().map(|spec| {
            let next = numbers.len();
            *numbers.entry(Signature::of(spec)).or_insert(next)
        });
        Self {
            specs,
            signatures: signatures.collect(),
            draft: Draft::default(),
            occupied: HashMap::new(),
            reported: HashSet::new(),
            errors: Vec::new(),
        }
    }

    fn table(&mut self, routes: &[RouteId]) -> DraftTable {
        let exact = self.draft.root();
        let wildcard = self.draft.root();
        let any = self.draft.root();
        let mut suffixes: Option<(usize, usize)> = None;
        for &id in routes {
            let spec = &self.specs[id.index()];
            if spec.hosts.is_empty() {
                self.insert_route(any, id, None);
            }
            for pattern in &spec.hosts {
                let (parent, host) = match pattern {
                    HostPattern::Exact(host) => (exact, host),
                    HostPattern::Wildcard(suffix) => {
                        let (min, max) = suffixes.unwrap_or((usize::MAX, 0));
                        suffixes = Some((min.min(suffix.len()), max.max(suffix.len())));
                        (wildcard, suffix)
                    }
                };
                if self.draft.bytes() > ROUTE_TABLE_BYTES_MAX {
                    let problem = format!("with these hosts the tables exceed {ROUTE_TABLE_BYTES_MAX} bytes");
                    self.errors.push(BuildError { route: spec.name.clone(), key: "hosts", problem, rival: None });
                    break;
                }
                let root = self.draft.child(parent, host.as_bytes());
                self.insert_route(root, id, Some(host));
            }
        }
        let (min, max) = suffixes.unwrap_or((1, 0));
        let asks = |spec: &RouteSpec| !spec.hosts.is_empty() || !spec.conditions.alpn.is_empty();
        // Who is not served is to be told so as it speaks.
        let reads_hello = routes.is_empty() || routes.iter().any(|id| asks(&self.specs[id.index()]));
        DraftTable { exact, wildcard, any, suffix_bytes: min..=max, reads_hello }
    }

    /// Inserts a route under the root of one host; None: of any.
    fn insert_route(&mut self, root: DraftId, id: RouteId, host: Option<&str>) {
        let spec = &self.specs[id.index()];
        let (node, ends) = match &spec.path {
            PathPattern::Exact(path) => (self.draft.path(root, path), true),
            PathPattern::Prefix(path) => (self.draft.path(root, path.trim_end_matches('/')), false),
            PathPattern::Regex(_) | PathPattern::Any => (root, false),
        };
        match self.occupied.entry((node, ends, self.signatures[id.index()])) {
            Entry::Occupied(first) if *first.get() == id => {} // It names the host twice.
            Entry::Occupied(first) => {
                let first = *first.get();
                self.duplicate(first, id, host);
            }
            Entry::Vacant(free) => {
                free.insert(id);
                let rank = Rank::of(spec, id);
                let conditional = rank.path == PathClass::Regex || !spec.conditions.is_empty() || !spec.not.is_empty();
                self.draft.add(node, ends, rank, Rule::new(id, conditional));
            }
        }
    }

    fn duplicate(&mut self, first: RouteId, second: RouteId, host: Option<&str>) {
        if self.reported.insert((first, second)) {
            let (first, second) = (&self.specs[first.index()], &self.specs[second.index()]);
            let (word, what) = match second.protocol {
                Protocol::Http => ("host", "requests"),
                Protocol::Tcp => ("sni", "connections"),
            };
            let on = host.map_or(format!("on any {word}"), |host| format!("{word} {host}"));
            let problem = format!("matches the same {what} as route {:?} ({on})", first.name);
            self.errors.push(BuildError {
                route: second.name.clone(),
                key: path_key(second),
                problem,
                rival: Some(first.name.clone()),
            });
        }
    }
}

impl PathClass {
    fn of(path: &PathPattern) -> Self {
        match path {
            PathPattern::Exact(_) | PathPattern::Prefix(_) => Self::Literal,
            PathPattern::Regex(_) => Self::Regex,
            PathPattern::Any => Self::Any,
        }
    }
}

impl Rank {
    fn of(spec: &RouteSpec, route: RouteId) -> Self {
        let wanted = &spec.conditions;
        Self {
            path: PathClass::of(&spec.path),
            client: Reverse(!wanted.client.is_empty()),
            client_ip: Reverse(!wanted.client_ip.is_empty()),
            alpn: Reverse(!wanted.alpn.is_empty()),
            methods: Reverse(!wanted.methods.is_empty()),
            headers: Reverse(wanted.headers.len()),
            query: Reverse(wanted.query.len()),
            cookies: Reverse(wanted.cookies.len()),
            scheme: Reverse(wanted.scheme.is_some()),
            port: Reverse(wanted.port.is_some()),
            not: Reverse(spec.not.count()),
            route,
        }
    }
}

impl<'a> Signature<'a> {
    fn of(spec: &'a RouteSpec) -> Self {
        let regex = match &spec.path {
            PathPattern::Regex(text) => Some(text.as_str()),
            PathPattern::Exact(_) | PathPattern::Prefix(_) | PathPattern::Any => None,
        };
        let [wanted, unwanted] = [&spec.conditions, &spec.not].map(Sorted::of);
        Self { path: PathClass::of(&spec.path), regex, wanted, unwanted }
    }
}

impl<'a> Sorted<'a> {
    fn of(spec: &'a ConditionsSpec) -> Self {
        Self {
            client: sorted(&spec.client),
            client_ip: sorted(&spec.client_ip),
            alpn: sorted(&spec.alpn),
            methods: sorted(&spec.methods),
            headers: sorted(&spec.headers),
            query: sorted(&spec.query),
            cookies: sorted(&spec.cookies),
            scheme: spec.scheme,
            port: spec.port,
        }
    }
}

/// Each once, in order.
fn sorted<T: Ord>(items: &[T]) -> Vec<&T> {
    let mut items: Vec<_> = items.iter().collect();
    items.sort_unstable();
    items.dedup();
    items
}
