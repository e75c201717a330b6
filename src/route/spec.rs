//! Routes as plain data: the form that `config` produces and [`super::Router::build`] compiles.
//! Not here: anything used while requests flow.

use std::time::Duration;

use crate::id::{ClusterId, ListenerId, TenantId};

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Unique name, for logs, metrics and `explain`.
    pub name: String,
    /// Owner of the route; None: the root.
    pub tenant: Option<TenantId>,
    /// Listeners that serve the route; empty: all.
    pub listeners: Vec<ListenerId>,
    /// Hosts that it serves; empty: any.
    pub hosts: Vec<HostPattern>,
    /// Condition on the path.
    pub path: PathPattern,
    /// Methods, exact and case-sensitive (RFC 9110 section 9.1); empty: any.
    pub methods: Vec<String>,
    /// Conditions on header fields; all must hold. Names in lower case.
    pub headers: Vec<(String, ValuePattern)>,
    /// Conditions on query parameters; all must hold, each for one of the parameters of its name. Names and values are compared
    /// as sent, percent-decoded.
    pub query: Vec<(String, ValuePattern)>,
    /// What to do with its requests.
    pub action: ActionSpec,
    /// From the end of the request head to the first response byte; above: 504. None: the cluster's `timeouts.response`.
    pub timeout: Option<Duration>,
    /// `rewrite.path_prefix`: replaces the matched prefix (or the whole exact path).
    pub rewrite_path_prefix: Option<String>,
    /// `rewrite.host`: replaces Host.
    pub rewrite_host: Option<String>,
    /// Edits of the request's fields.
    pub request_headers: HeaderEdits,
    /// Edits of the response's fields.
    pub response_headers: HeaderEdits,
}

/// A condition on the host, in lower case, without port; an IPv6 address as RFC 5952 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `api.example.com`
    Exact(String),
    /// `*.example.org`, kept as `example.org`: one or more labels before it, not the bare name.
    Wildcard(String),
}

/// A condition on the path, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// No condition.
    Any,
    /// The whole path.
    Exact(String),
    /// Whole segments: `/orders` matches `/orders` and `/orders/7`, not `/orders2`.
    Prefix(String),
    /// A regular expression for the whole path (anchored at both ends by the router).
    Regex(String),
}

/// A condition on one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValuePattern {
    /// The whole value.
    Exact(String),
    /// A regular expression for the whole value (anchored at both ends by the router).
    Regex(String),
    /// Present (true) or absent (false), whatever the value.
    Present(bool),
}

/// The action of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionSpec {
    /// Forward to one cluster.
    Cluster(ClusterId),
    /// Forward to one of several, by weight (1 to 1,000,000 each; 0 takes no traffic; the sum is not 0).
    Split(Vec<(ClusterId, u32)>),
    /// Answer with a Location; parts that are None come from the request.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// `http` or `https`.
        scheme: Option<String>,
        /// Host with an optional port.
        host: Option<String>,
        /// Whole path, replaces path and keeps the query.
        path: Option<String>,
    },
    /// Answer with a configured response.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body, sent as it is.
        body: String,
        /// Extra fields; `content-type` defaults to `text/plain; charset=utf-8`.
        headers: Vec<(String, String)>,
    },
}

/// `set`, `add` and `remove` of one direction. Names are valid tokens, values valid field values, none of them framing or
/// hop-by-hop fields (`config` has checked that).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaces every field of that name.
    pub set: Vec<(String, String)>,
    /// Appended, whatever is there.
    pub add: Vec<(String, String)>,
    /// Dropped, lower case.
    pub remove: Vec<String>,
}
