//! The conditions of a route beyond host and literal path. Not here: their order of precedence (`build`).

use super::network::NetworkSet;
use super::pattern::Pattern;
use super::spec::{ClientPattern, ConditionsSpec, PathPattern, RouteSpec, Scheme, ValuePattern};
use super::{BuildError, Request, cookie, query};
use crate::limits::REQUEST_LINE_BYTES;

/// The further conditions of a route.
#[derive(Debug)]
pub(super) struct Conditions {
    path: Option<Pattern>,
    /// All of these must hold.
    wanted: ConditionSet,
    /// None of these may hold.
    unwanted: ConditionSet,
}

/// Conditions each of which holds or not, by itself.
#[derive(Debug)]
struct ConditionSet {
    client: Box<[ClientPattern]>,
    client_ip: Option<NetworkSet>,
    alpn: Box<[Box<[u8]>]>,
    methods: Box<[Box<[u8]>]>,
    headers: Box<[Field]>,
    query: Box<[Field]>,
    cookies: Box<[Field]>,
    scheme: Option<Scheme>,
    port: Option<u16>,
}

/// A condition on one named value.
#[derive(Debug)]
struct Field {
    name: Box<str>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Exact(Box<[u8]>),
    Pattern(Pattern),
    Present(bool),
}

/// A condition of a route, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// `path_regex`
    Path,
    /// `client`
    Client,
    /// `client_ip`
    ClientIp,
    /// `alpn`
    Alpn,
    /// `methods`
    Method,
    /// `headers`, with the name of the field.
    Header(&'a str),
    /// `query`, with the name of the parameter.
    Query(&'a str),
    /// `cookies`, with the name of the cookie.
    Cookie(&'a str),
    /// `scheme`
    Scheme,
    /// `port`
    Port,
}

/// Why a route is not for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'a> {
    /// A condition does not hold.
    Fails(Condition<'a>),
    /// A condition under `not` holds.
    Not(Condition<'a>),
}

impl Conditions {
    /// Compiles the conditions of a route; None: it has none.
    pub(super) fn compile(spec: &RouteSpec, errors: &mut Vec<BuildError>) -> Option<Self> {
        let mut pattern = |key, text: &str| {
            let error = |problem| BuildError { route: spec.name.clone(), key, problem, rival: None };
            Pattern::compile(text).map_err(|problem| errors.push(error(problem))).ok()
        };
        let path = match &spec.path {
            PathPattern::Regex(text) => pattern("path_regex", text),
            PathPattern::Any | PathPattern::Exact(_) | PathPattern::Prefix(_) => None,
        };
        let wanted = ConditionSet::compile(&spec.conditions, ["headers", "query", "cookies"], &mut pattern);
        let unwanted = ConditionSet::compile(&spec.not, ["not.headers", "not.query", "not.cookies"], &mut pattern);
        let none = path.is_none() && spec.conditions.is_empty() && spec.not.is_empty();
        (!none).then_some(Self { path, wanted, unwanted })
    }

    /// The methods of the condition `methods`.
    pub(super) fn methods(&self) -> impl Iterator<Item = &[u8]> {
        self.wanted.methods.iter().map(|method| &**method)
    }

    /// The first condition because of which the route is not for the request.
    ///
    /// If a field, parameter or cookie occurs more than once, one that matches is enough: which of them counts is the
    /// application's choice.
    pub(super) fn unmet<R: Request>(&self, request: &R) -> Option<Unmet<'_>> {
        if self.path.as_ref().is_some_and(|path| !path.matches(request.path())) {
            return Some(Unmet::Fails(Condition::Path));
        }
        let fails = self.wanted.first(request, false).map(Unmet::Fails);
        fails.or_else(|| self.unwanted.first(request, true).map(Unmet::Not))
    }
}

impl ConditionSet {
    fn compile(
        spec: &ConditionsSpec,
        [headers, query, cookies]: [&'static str; 3],
        pattern: &mut impl FnMut(&'static str, &str) -> Option<Pattern>,
    ) -> Self {
        let mut fields = |key, specs: &[(String, ValuePattern)]| -> Box<[Field]> {
            let mut value = |value: &ValuePattern| match value {
                ValuePattern::Exact(text) => Some(Value::Exact(text.as_bytes().into())),
                ValuePattern::Regex(text) => pattern(key, text).map(Value::Pattern),
                ValuePattern::Present(present) => Some(Value::Present(*present)),
            };
            specs.iter().filter_map(|(name, v)| Some(Field { name: name.as_str().into(), value: value(v)? })).collect()
        };
        Self {
            client: spec.client.as_slice().into(),
            client_ip: (!spec.client_ip.is_empty()).then(|| NetworkSet::of(&spec.client_ip)),
            alpn: spec.alpn.iter().map(|protocol| protocol.as_bytes().into()).collect(),
            methods: spec.methods.iter().map(|method| method.as_bytes().into()).collect(),
            headers: fields(headers, &spec.headers),
            query: fields(query, &spec.query),
            cookies: fields(cookies, &spec.cookies),
            scheme: spec.scheme,
            port: spec.port,
        }
    }

    /// The first condition that holds, or that does not, as `holds` says. A client without an address is in no network, and one without
    /// an identity is nobody.
    fn first<R: Request>(&self, request: &R, holds: bool) -> Option<Condition<'_>> {
        if !self.client.is_empty()
            && request.identity().is_some_and(|identity| self.client.iter().any(|it| it.matches(identity))) == holds
        {
            return Some(Condition::Client);
        }
        if let Some(networks) = &self.client_ip
            && request.client_ip().is_some_and(|address| networks.contains(address)) == holds
        {
            return Some(Condition::ClientIp);
        }
        if !self.alpn.is_empty()
            && request.protocols().any(|protocol| self.alpn.iter().any(|it| **it == *protocol)) == holds
        {
            return Some(Condition::Alpn);
        }
        if !self.methods.is_empty() && self.methods.iter().any(|method| **method == *request.method()) == holds {
            return Some(Condition::Method);
        }
        for field in &self.headers {
            let values = request.header(field.name.as_bytes());
            if field.holds(values, |value, plain| value == plain, Pattern::matches) == holds {
                return Some(Condition::Header(&field.name));
            }
        }
        for field in &self.query {
            let name = field.name.as_bytes();
            let values = request.query().into_iter().flat_map(|query| query::values(query, name));
            if field.holds(values, query::equal, matches_encoded) == holds {
                return Some(Condition::Query(&field.name));
            }
        }
        for field in &self.cookies {
            let values = request.header(b"cookie").flat_map(|value| cookie::values(value, field.name.as_bytes()));
            if field.holds(values, |value, plain| value == plain, Pattern::matches) == holds {
                return Some(Condition::Cookie(&field.name));
            }
        }
        if self.scheme.is_some_and(|scheme| (request.scheme() == scheme) == holds) {
            return Some(Condition::Scheme);
        }
        if self.port.is_some_and(|port| (request.port() == Some(port)) == holds) {
            return Some(Condition::Port);
        }
        None
    }
}

impl Field {
    fn holds<'a>(
        &self,
        mut values: impl Iterator<Item = &'a [u8]>,
        equal: impl Fn(&[u8], &[u8]) -> bool,
        matches: impl Fn(&Pattern, &[u8]) -> bool,
    ) -> bool {
        match &self.value {
            Value::Exact(plain) => values.any(|value| equal(value, plain)),
            Value::Pattern(pattern) => values.any(|value| matches(pattern, value)),
            Value::Present(present) => values.next().is_some() == *present,
        }
    }
}

/// Whether a percent-encoded value matches. A value that decodes to more than a request line can hold does not.
fn matches_encoded(pattern: &Pattern, raw: &[u8]) -> bool {
    if memchr::memchr(b'%', raw).is_none() {
        return pattern.matches(raw);
    }
    let mut plain = [0; REQUEST_LINE_BYTES];
    let mut bytes = query::decoded(raw);
    let length = plain.iter_mut().zip(&mut bytes).map(|(to, from)| *to = from).count();
    bytes.next().is_none() && plain.get(..length).is_some_and(|plain| pattern.matches(plain))
}
