//! Finds the route of a request.
//!
//! The most specific route wins: exact host, then wildcard host (longest suffix first), then no host; under a host exact
//! path, then longest prefix, then regular expression, then no path; then a route with `client_ip`, because a client can choose all
//! else; then one with `alpn`; then one with methods, then the one with more header conditions, then more query conditions, then more cookies, then one
//! with a scheme, with a port, with more conditions under `not`, then the earlier one in the file. Where all routes of a more
//! specific host or path fail on a condition, the less specific ones are tried. Not here: carrying out the route's action
//! (`exchange`).

mod action;
mod allow;
mod build;
mod condition;
mod cookie;
mod edit;
mod explain;
mod hedge;
mod host;
mod importance;
mod network;
mod page;
mod pattern;
mod query;
mod retry;
mod rewrite;
mod sample;
mod spec;
pub mod template;
mod tree;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::{ControlFlow, RangeInclusive};
use std::time::Duration;

use crate::id::{ListenerId, RouteId, TenantId};
pub use action::{Action, Redirect, Respond, Split, Target};
pub use build::BuildError;
use condition::Conditions;
pub use condition::{Condition, Unmet};
pub use cookie::values as cookie_values;
pub use edit::{AnswerEdits, Edits};
pub use explain::{Considered, Verdict};
pub use hedge::Hedge;
pub use host::name as host_name;
pub use importance::Importance;
pub use page::ErrorPages;
pub use pattern::{Captures, Groups, count_groups, expression_matches, try_expression};
pub use query::values as query_values;
pub use retry::{Retry, RetryOn};
pub use rewrite::{PathRewrite, Rewrite};
pub use sample::Sample;
pub use spec::{
    ActionSpec, ClientPattern, ConditionsSpec, ErrorPageSpec, HeaderEdits, HostPattern, PathEdit, PathPattern,
    Protocol, RouteLimits, RouteSpec, Scheme, StatusPattern, ValuePattern,
};
use tree::{NodeId, Rule, Tree};

/// The parts of a request that routes have conditions on.
pub trait Request {
    /// The method as sent.
    fn method(&self) -> &[u8];
    /// The authority as sent: in any case, perhaps with a port; empty if there is none.
    fn host(&self) -> &[u8];
    /// The path in its normal form, without query.
    fn path(&self) -> &[u8];
    /// What follows the first `?`, as sent.
    fn query(&self) -> Option<&[u8]>;
    /// Values of all fields called `name`, which is in lower case.
    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]>;
    /// The address of the client, as far as it is known and believed.
    fn client_ip(&self) -> Option<IpAddr>;
    /// What the certificate of the client says of its owner; None: it has shown none.
    fn identity(&self) -> Option<&str>;
    /// The protocols that a ClientHello offers which is not answered here; none of a request.
    fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
    /// The scheme that the client uses.
    fn scheme(&self) -> Scheme;
    /// The port of the listener; None: it has none.
    fn port(&self) -> Option<u16>;
}

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its position in [`Router::routes`].
    pub id: RouteId,
    /// Unique name.
    pub name: Box<str>,
    /// The tenant whose limits its requests count against; None: the root's route.
    pub tenant: Option<TenantId>,
    /// What to do with its requests.
    pub action: Action,
    /// Time from the end of the request to the first response byte, over all attempts; None: as long as they take.
    pub timeout: Option<Duration>,
    /// Whether it keeps to the time that trusted peers allow, and tells origins how much is left.
    pub deadline: bool,
    /// Limits of its own.
    pub limits: RouteLimits,
    /// When its requests are sent again.
    pub retry: Retry,
    /// When a second attempt is made beside a slow one; None: never.
    pub hedge: Option<Hedge>,
    /// How important its requests are.
    pub priority: Importance,
    /// New path and host.
    pub rewrite: Option<Rewrite>,
    /// What is given the form that the client knows in responses.
    pub restores: Restores,
    /// Finds the captures that its texts use.
    pub captures: Option<Groups>,
    /// Whether it has a condition on the method: only then does it serve TRACE and CONNECT.
    pub names_method: bool,
    /// Whether it has a condition on the scheme that asks for http: only then does it serve clients that `redirect_to_https` sends away.
    pub takes_plain_text: bool,
    /// Bodies of answers that are made here.
    pub error_pages: ErrorPages,
    /// Edits of the request's fields.
    pub request_edits: Edits,
    /// Edits of the response's fields.
    pub response_edits: Edits,
}

/// Fields of a response in which an origin names its own paths, and which are given the form that the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restores {
    /// Location and Content-Location.
    pub location: bool,
    /// Path of Set-Cookie.
    pub cookies: bool,
}

/// All routes, compiled for lookup.
#[derive(Debug, Default)]
pub struct Router {
    /// Routes by `RouteId`.
    routes: Box<[Route]>,
    /// Conditions by `RouteId`, apart from the routes, so that a lookup reads little memory.
    conditions: Box<[Option<Conditions>]>,
    /// Index into `tables`, by `ListenerId`. Listeners with the same routes share a table.
    listeners: Box<[u32]>,
    tables: Box<[Table]>,
    tree: Tree,
}

/// Nodes of the tree under which the routes of a listener are.
#[derive(Debug)]
struct Table {
    /// Parent of the roots of exact hosts.
    exact: NodeId,
    /// Parent of the roots of wildcard hosts, labelled with their suffixes.
    wildcard: NodeId,
    /// Root of the routes without host.
    any: NodeId,
    /// Lengths of the suffixes under `wildcard`, which bound the probes for a host of many labels.
    suffix_bytes: RangeInclusive<usize>,
    /// Whether a route asks for what is in a ClientHello, or there is no route.
    reads_hello: bool,
}

impl Router {
    /// Compiles the routes of listeners, which speak these protocols, by `ListenerId`.
    ///
    /// # Errors
    /// Every invalid regular expression, and every pair of routes with the same conditions on the same listener and host.
    pub fn build(routes: &[RouteSpec], listeners: &[Protocol]) -> Result<Self, Vec<BuildError>> {
        build::compile(routes, listeners)
    }

    /// The route for a request. Allocates nothing and takes no lock. Costs one probe for each label of the host that a wildcard may
    /// match, and one for each path segment in the tree.
    pub fn find<R: Request>(&self, listener: ListenerId, request: &R) -> Option<&Route> {
        let found = self.walk(listener, request, |rule| {
            if rule.conditional() && self.unmet(rule.route(), request).is_some() {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(rule.route())
        });
        found.break_value().and_then(|id| self.routes.get(id.index()))
    }

    /// Whether what becomes of a connection to a listener depends on its ClientHello.
    #[must_use]
    pub fn reads_hello(&self, listener: ListenerId) -> bool {
        self.listeners.get(listener.index()).is_some_and(|&at| self.tables[at as usize].reads_hello)
    }

    /// All routes, by id.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn unmet<R: Request>(&self, route: RouteId, request: &R) -> Option<Unmet<'_>> {
        self.conditions[route.index()].as_ref()?.unmet(request)
    }

    /// Calls `visit` with every rule whose host and literal path match, most specific first, until it breaks.
    #[inline]
    fn walk<R: Request, B>(
        &self,
        listener: ListenerId,
        request: &R,
        mut visit: impl FnMut(Rule) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(table) = self.listeners.get(listener.index()).map(|&at| &self.tables[at as usize]) else {
            return ControlFlow::Continue(());
        };
        let host = host::name(request.host());
        if host.len() <= host::BYTES_MAX {
            if host::is_lower(host) {
                self.walk_named(table, host, request.path(), &mut visit)?;
            } else {
                let mut common = [0; host::BYTES_MAX];
                let length = host::write_canonical(host, &mut common).unwrap_or(0);
                self.walk_named(table, &common[..length], request.path(), &mut visit)?;
            }
        }
        self.tree.walk(table.any, request.path(), &mut visit)
    }

    /// Visits the rules with a host. `host` is in lower case, an IPv6 address in its canonical form.
    fn walk_named<B>(
        &self,
        table: &Table,
        host: &[u8],
        path: &[u8],
        visit: &mut impl FnMut(Rule) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if let Some(root) = self.tree.child(table.exact, host) {
            self.tree.walk(root, path, visit)?;
        }
        if table.suffix_bytes.is_empty() {
            return ControlFlow::Continue(());
        }
        for suffix in host::parents(host).filter(|suffix| table.suffix_bytes.contains(&suffix.len())) {
            if let Some(root) = self.tree.child(table.wildcard, suffix) {
                self.tree.walk(root, path, visit)?;
            }
        }
        ControlFlow::Continue(())
    }
}
