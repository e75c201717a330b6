//! The conditions of a route beyond host and literal path. Not here: their order of precedence (`build`).

use super::pattern::Pattern;
use super::spec::{PathPattern, RouteSpec, ValuePattern};
use super::{BuildError, Request, query};
use crate::limits::REQUEST_LINE_BYTES;

/// The further conditions of a route, all of which must hold.
#[derive(Debug)]
pub(super) struct Conditions {
    path: Option<Pattern>,
    methods: Box<[Box<[u8]>]>,
    headers: Box<[Field]>,
    query: Box<[Field]>,
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

/// A condition that does not hold for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'a> {
    /// `path_regex`
    Path,
    /// `methods`
    Method,
    /// `headers`, with the name of the field.
    Header(&'a str),
    /// `query`, with the name of the parameter.
    Query(&'a str),
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
        let mut fields = |key, specs: &[(String, ValuePattern)]| -> Box<[Field]> {
            let mut value = |value: &ValuePattern| match value {
                ValuePattern::Exact(text) => Some(Value::Exact(text.as_bytes().into())),
                ValuePattern::Regex(text) => pattern(key, text).map(Value::Pattern),
                ValuePattern::Present(present) => Some(Value::Present(*present)),
            };
            specs.iter().filter_map(|(name, v)| Some(Field { name: name.as_str().into(), value: value(v)? })).collect()
        };
        let headers = fields("headers", &spec.headers);
        let query = fields("query", &spec.query);
        let methods: Box<[Box<[u8]>]> = spec.methods.iter().map(|method| method.as_bytes().into()).collect();
        let none = path.is_none() && methods.is_empty() && headers.is_empty() && query.is_empty();
        (!none).then_some(Self { path, methods, headers, query })
    }

    /// The methods of the condition `methods`.
    pub(super) fn methods(&self) -> impl Iterator<Item = &[u8]> {
        self.methods.iter().map(|method| &**method)
    }

    /// The first condition that does not hold.
    ///
    /// If a field or parameter occurs more than once, one that matches is enough: which of them counts is the application's choice.
    pub(super) fn unmet<R: Request>(&self, request: &R) -> Option<Unmet<'_>> {
        if self.path.as_ref().is_some_and(|path| !path.matches(request.path())) {
            return Some(Unmet::Path);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|method| **method == *request.method()) {
            return Some(Unmet::Method);
        }
        for field in &self.headers {
            let values = request.header(field.name.as_bytes());
            if !field.holds(values, |value, plain| value == plain, Pattern::matches) {
                return Some(Unmet::Header(&field.name));
            }
        }
        for field in &self.query {
            let name = field.name.as_bytes();
            let values = request.query().into_iter().flat_map(|query| query::values(query, name));
            if !field.holds(values, query::equal, matches_encoded) {
                return Some(Unmet::Query(&field.name));
            }
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
