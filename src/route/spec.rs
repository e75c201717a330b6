//! Routes as plain data: the form that `config` produces and [`super::Router::build`] compiles. Texts that are called templates may
//! hold variables, marked as [`super::template`] has it. Not here: anything used while requests flow.

use std::fmt;
use std::time::Duration;

use super::{Hedge, Importance, Retry, template};
use crate::id::{ClusterId, ListenerId, Network, TenantId};
use crate::tls::SpiffeId;

/// What clients of a listener speak, and its routes are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP; a route takes requests.
    #[default]
    Http,
    /// Anything, which is passed on as it is; a route takes connections.
    Tcp,
}

impl Protocol {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Unique name, for logs, metrics and `explain`.
    pub name: String,
    /// Owner of the route; None: the root.
    pub tenant: Option<TenantId>,
    /// What it takes.
    pub protocol: Protocol,
    /// Listeners that serve the route; empty: all of its protocol.
    pub listeners: Vec<ListenerId>,
    /// Hosts that it serves; empty: any. Of TCP, they are asked for in the SNI of a ClientHello.
    pub hosts: Vec<HostPattern>,
    /// Condition on the path.
    pub path: PathPattern,
    /// Further conditions, all of which must hold.
    pub conditions: ConditionsSpec,
    /// Conditions none of which may hold.
    pub not: ConditionsSpec,
    /// What to do with its requests.
    pub action: ActionSpec,
    /// From the end of the request to the first response byte, over all attempts; above: 504. None: as long as they take.
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
    /// What `rewrite` does to the path.
    pub rewrite_path: Option<PathEdit>,
    /// `rewrite.host`: replaces Host; a template.
    pub rewrite_host: Option<String>,
    /// `rewrite_location`: Location of responses is given the form that the client knows.
    pub rewrite_location: bool,
    /// `cookie_path`: so is Path of cookies.
    pub cookie_path: bool,
    /// Bodies of answers that cairn makes itself, before those of the whole configuration.
    pub error_pages: Vec<ErrorPageSpec>,
    /// Edits of the request's fields.
    pub request_headers: HeaderEdits,
    /// Edits of the response's fields.
    pub response_headers: HeaderEdits,
}

impl RouteSpec {
    /// A route for all requests.
    #[must_use]
    pub fn new(name: impl Into<String>, action: ActionSpec) -> Self {
        Self {
            name: name.into(),
            tenant: None,
            protocol: Protocol::Http,
            listeners: Vec::new(),
            hosts: Vec::new(),
            path: PathPattern::Any,
            conditions: ConditionsSpec::default(),
            not: ConditionsSpec::default(),
            action,
            timeout: None,
            deadline: false,
            limits: RouteLimits::default(),
            retry: Retry::NEVER,
            hedge: None,
            priority: Importance::default(),
            rewrite_path: None,
            rewrite_host: None,
            rewrite_location: false,
            cookie_path: false,
            error_pages: Vec::new(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        }
    }

    /// The clusters to which a request for a tunnel could be forwarded: an extended CONNECT (RFC 8441), which counts as GET.
    #[must_use]
    pub fn tunnel_clusters(&self) -> Vec<ClusterId> {
        let methods = &self.conditions.methods;
        if !methods.is_empty() && methods.iter().all(|method| method != "GET") {
            return Vec::new();
        }
        match &self.action {
            ActionSpec::Cluster(id) => vec![*id],
            ActionSpec::Split(sides) => sides.iter().map(|(id, _)| *id).collect(),
            ActionSpec::Redirect { .. } | ActionSpec::Respond { .. } => Vec::new(),
        }
    }

    /// Whether it is one of the routes of a listener that speaks `protocol`.
    #[must_use]
    pub fn is_of(&self, listener: ListenerId, protocol: Protocol) -> bool {
        self.protocol == protocol && (self.listeners.is_empty() || self.listeners.contains(&listener))
    }
}

/// Limits of a route on its exchanges, each in the place of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// `body_bytes`; 0: no limit; None: the listener's.
    pub body_bytes: Option<u64>,
    /// `timeouts.body`; None: the listener's.
    pub body_timeout: Option<Duration>,
    /// Whether those of the listener hold besides, which the owner of the route cannot lift.
    pub within_listener: bool,
    /// `timeouts.idle`: between reads of the response after its head; None: the cluster's `timeouts.response`.
    pub response_idle: Option<Duration>,
    /// How long a tunnel may be silent in both directions; None: `limits::TUNNEL_IDLE`.
    pub tunnel_idle: Option<Duration>,
}

impl RouteLimits {
    /// None of its own.
    pub const NONE: Self =
        Self { body_bytes: None, body_timeout: None, within_listener: false, response_idle: None, tunnel_idle: None };

    /// How long a client may be silent in a body where the listener allows `listener`.
    #[must_use]
    pub fn body_timeout(&self, listener: Duration) -> Duration {
        match self.body_timeout {
            None => listener,
            Some(own) if self.within_listener => own.min(listener),
            Some(own) => own,
        }
    }

    /// The limit of a request body where that of the listener is `listener`; 0: none.
    #[must_use]
    pub fn body_bytes(&self, listener: u64) -> u64 {
        match self.body_bytes {
            None => listener,
            Some(own) if !self.within_listener => own,
            Some(own) if own == 0 || listener == 0 => own.max(listener),
            Some(own) => own.min(listener),
        }
    }
}

/// Conditions beyond host and path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConditionsSpec {
    /// The certificate of the client says one of these of its owner; empty: no condition.
    pub client: Vec<ClientPattern>,
    /// The client's address lies in one of these; empty: no condition.
    pub client_ip: Vec<Network>,
    /// The client's ClientHello offers one of these protocols (RFC 7301); empty: no condition.
    pub alpn: Vec<String>,
    /// Methods, exact and case-sensitive (RFC 9110 section 9.1), one of which it has; empty: no condition.
    pub methods: Vec<String>,
    /// Conditions on header fields. Names in lower case.
    pub headers: Vec<(String, ValuePattern)>,
    /// Conditions on query parameters, each for one of the parameters of its name. Names and values are compared as sent,
    /// percent-decoded.
    pub query: Vec<(String, ValuePattern)>,
    /// Conditions on cookies, each for one of the cookies of its name. Names and values are compared as sent.
    pub cookies: Vec<(String, ValuePattern)>,
    /// The scheme that the client uses.
    pub scheme: Option<Scheme>,
    /// The port of the listener.
    pub port: Option<u16>,
}

impl ConditionsSpec {
    /// Number of conditions; a list of methods, of clients, of networks or of protocols is one.
    #[must_use]
    pub fn count(&self) -> usize {
        let one = usize::from;
        let Self { client, client_ip, alpn, methods, headers, query, cookies, scheme, port } = self;
        let single =
            one(!client_ip.is_empty()) + one(!methods.is_empty()) + one(scheme.is_some()) + one(port.is_some());
        single + one(!client.is_empty()) + one(!alpn.is_empty()) + headers.len() + query.len() + cookies.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

/// Clients, by what their certificates say of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientPattern {
    /// A SPIFFE ID, or all below a path.
    Spiffe(SpiffeId),
    /// A DNS name in lower case, or a subject (RFC 4514).
    Exact(Box<str>),
}

impl ClientPattern {
    /// Reads `spiffe://…`, which `/*` may end, a DNS name, or a subject, which has a `=`. None: it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match text {
            _ if text.starts_with("spiffe:") => SpiffeId::parse(text).map(Self::Spiffe),
            _ if text.contains('=') && !text.contains(char::is_control) => Some(Self::Exact(text.into())),
            _ => {
                let rest = text.strip_prefix("*.").unwrap_or(text);
                let valid = !rest.is_empty() && rest.bytes().all(name);
                valid.then(|| Self::Exact(text.to_ascii_lowercase().into()))
            }
        }
    }

    /// Whether it is meant who has this identity.
    #[must_use]
    pub fn matches(&self, identity: &str) -> bool {
        match self {
            Self::Spiffe(id) => id.matches(identity),
            Self::Exact(text) => **text == *identity,
        }
    }

    /// An identity that is meant.
    #[must_use]
    pub fn example(&self) -> String {
        match self {
            Self::Spiffe(id) => id.example(),
            Self::Exact(text) => text.to_string(),
        }
    }
}

/// Writes it as it is read.
impl fmt::Display for ClientPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::Exact(text) => f.write_str(text),
        }
    }
}

/// How a client speaks HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
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

/// One `[[error_pages]]`; its bodies are templates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ErrorPageSpec {
    /// The statuses that it is for; empty: all.
    pub statuses: Vec<StatusPattern>,
    /// For clients that prefer HTML.
    pub html: Option<String>,
    /// For clients that prefer JSON.
    pub json: Option<String>,
    /// For others.
    pub text: Option<String>,
}

/// A condition on a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusPattern {
    /// This one.
    Exact(u16),
    /// All with this first digit.
    Class(u16),
}

/// A change of the path, in templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEdit {
    /// The whole path becomes this.
    Whole(String),
    /// The matched prefix, or the whole exact path, becomes this.
    Prefix(String),
    /// This is put in front of the path.
    Add(String),
}

impl fmt::Display for PathEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(to) => write!(f, "{}", template::shown(to)),
            Self::Prefix(to) => write!(f, "{} for the prefix", template::shown(to)),
            Self::Add(to) => write!(f, "{} in front", template::shown(to)),
        }
    }
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
        /// Host with an optional port; a template.
        host: Option<String>,
        /// The new path.
        path: Option<PathEdit>,
        /// The new query, without `?`; a template; empty: none.
        query: Option<String>,
    },
    /// Answer with a configured response.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body, sent as it is.
        body: String,
        /// Extra fields, whose values are templates; `content-type` defaults to `text/plain; charset=utf-8`.
        headers: Vec<(String, String)>,
    },
}

/// `set`, `add` and `remove` of one direction. Names are valid tokens, values templates that are valid field values, none of them framing or
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

#[cfg(test)]
mod tests {
    use super::*;

    /// (own, the listener's, which counts, which counts in a tenant's route); 0: no limit of bytes.
    #[test]
    fn a_tenant_does_not_lift_what_the_listener_limits() {
        for (own, listener, alone, within) in
            [(None, 5, 5, 5), (Some(3), 5, 3, 3), (Some(9), 5, 9, 5), (Some(0), 5, 0, 5), (Some(9), 0, 9, 9)]
        {
            for (within_listener, counts) in [(false, alone), (true, within)] {
                let limits = RouteLimits { body_bytes: own, within_listener, ..RouteLimits::NONE };
                assert_eq!(limits.body_bytes(listener), counts, "{own:?} {listener}");
            }
        }
        for (own, alone, within) in [(None, 5, 5), (Some(3), 3, 3), (Some(9), 9, 5)] {
            for (within_listener, counts) in [(false, alone), (true, within)] {
                let body_timeout = own.map(Duration::from_secs);
                let limits = RouteLimits { body_timeout, within_listener, ..RouteLimits::NONE };
                assert_eq!(limits.body_timeout(Duration::from_secs(5)), Duration::from_secs(counts), "{own:?}");
            }
        }
    }
}
