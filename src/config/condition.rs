//! Conditions of routes beyond host and path: from the file to [`ConditionsSpec`], and from there to text for operators.
//! Not here: compiling them, or their order of precedence (`route`).

use super::bounds::Bounds;
use super::report::Problems;
use super::section::{Condition, Section, Text};
use super::{Config, field, network};
use crate::id::Network;
use crate::route::{ClientPattern, ConditionsSpec, RouteSpec, Scheme, ValuePattern, try_expression};

/// Methods of RFC 9110 and RFC 5789, to recognise them in the wrong letter case.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Reads the conditions in `section`, which is a route or what stands under its `not`.
pub(super) fn conditions(section: Section<'_>, bounds: &Bounds, problems: &mut Problems) -> ConditionsSpec {
    let mut reader = Reader { section, bounds, problems };
    ConditionsSpec {
        client: reader.clients(),
        client_ip: reader.networks(),
        alpn: Vec::new(),
        methods: reader.methods(),
        headers: reader.headers(),
        query: reader.query(),
        cookies: reader.cookies(),
        scheme: match section.word("scheme") {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        },
        port: section.valid_number("port").and_then(|port| u16::try_from(port).ok()),
    }
}

/// Reads `client_ip` alone.
pub(super) fn networks(section: Section<'_>, bounds: &Bounds, problems: &mut Problems) -> Vec<Network> {
    Reader { section, bounds, problems }.networks()
}

/// Reads `not`: conditions none of which may hold.
pub(super) fn not(section: Section<'_>, bounds: &Bounds, problems: &mut Problems) -> ConditionsSpec {
    let Some(section) = section.table("not") else { return ConditionsSpec::default() };
    let not = conditions(section, bounds, problems);
    if section.key_spans().is_empty() && !section.has_unknown_keys() {
        problems
            .add(section.at, "`not` names no condition")
            .help("add one, such as `not = { client_ip = [\"10.0.0.0/8\"] }`, or leave it out");
    }
    not
}

/// Checks a regular expression, within the budget of a tenant.
pub(super) fn regex(text: Text<'_>, bounds: &Bounds, problems: &mut Problems) -> String {
    let tried = match &bounds.budget {
        Some(budget) => budget.expression(text, problems),
        None => Some(try_expression(text.value)),
    };
    if let Some(Err(why)) = tried {
        problems
            .add(text.at, format!("the regular expression is invalid: {why}"))
            .help("the syntax is that of docs.rs/regex, for bytes, not Unicode; it is matched against the whole value");
    }
    text.value.to_owned()
}

struct Reader<'a> {
    section: Section<'a>,
    bounds: &'a Bounds,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn networks(&mut self) -> Vec<Network> {
        if self.section.length("client_ip") == Some(0) {
            self.problems
                .add(self.section.span("client_ip"), "no client is in an empty list")
                .help("name addresses or ranges, or leave `client_ip` out for any client");
        }
        let texts = self.section.texts("client_ip").into_iter();
        texts.filter_map(|text| network::range(text, self.problems)).collect()
    }

    fn clients(&mut self) -> Vec<ClientPattern> {
        if self.section.length("client") == Some(0) {
            self.problems
                .add(self.section.span("client"), "no client is in an empty list")
                .help("name clients, or leave `client` out for any");
        }
        let texts = self.section.texts("client").into_iter();
        let mut read = |text: Text<'_>| {
            let pattern = ClientPattern::parse(text.value);
            if pattern.is_none() {
                self.problems
                    .add(text.at, format!("\"{}\" is not what a certificate says of a client", text.shown.escape_debug()))
                    .help(
                        "write a SPIFFE ID (\"spiffe://corp/ns/shop\", with /* at the end for all below), a DNS name or a subject (\"CN=shop,O=Corp\")",
                    );
            }
            pattern
        };
        texts.filter_map(&mut read).collect()
    }

    fn methods(&mut self) -> Vec<String> {
        let methods = self.section.texts("methods");
        for method in &methods {
            let upper = method.value.to_ascii_uppercase();
            if !field::is_token(method.value) {
                self.problems
                    .add(method.at, format!("\"{}\" is not a method", method.shown.escape_debug()))
                    .help("a method is a token, such as \"GET\" (RFC 9110 section 9.1)");
            } else if upper != method.value && METHODS.contains(&upper.as_str()) {
                self.problems
                    .add(method.at, format!("no client sends the method \"{}\"", method.shown))
                    .help(format!("methods have a letter case: write \"{upper}\""));
            }
        }
        methods.into_iter().map(|method| method.value.to_owned()).collect()
    }

    fn headers(&mut self) -> Vec<(String, ValuePattern)> {
        let mut conditions = Vec::new();
        for (name, condition) in self.section.conditions("headers") {
            field::conditional(name, self.problems);
            if let Condition::Exact(text) = condition {
                field::value(text, self.problems);
            }
            conditions.push((name.value.to_ascii_lowercase(), self.pattern(condition)));
        }
        conditions
    }

    fn query(&mut self) -> Vec<(String, ValuePattern)> {
        let conditions = self.section.conditions("query").into_iter();
        conditions.map(|(name, condition)| (name.value.to_owned(), self.pattern(condition))).collect()
    }

    fn cookies(&mut self) -> Vec<(String, ValuePattern)> {
        let mut conditions = Vec::new();
        for (name, condition) in self.section.conditions("cookies") {
            if !field::is_token(name.value) {
                self.problems
                    .add(name.at, format!("\"{}\" is not the name of a cookie", name.shown.escape_debug()))
                    .help("use letters, digits and !#$%&'*+-.^_`|~ (RFC 6265 section 4.1.1); the letter case counts");
            }
            if let Condition::Exact(text) = condition {
                field::value(text, self.problems);
                if text.value.contains(';') {
                    self.problems
                        .add(text.at, "no cookie has a `;` in its value")
                        .help("write one condition for each cookie: { lang = \"de\", theme = \"dark\" }");
                }
            }
            conditions.push((name.value.to_owned(), self.pattern(condition)));
        }
        conditions
    }

    fn pattern(&mut self, condition: Condition<'_>) -> ValuePattern {
        match condition {
            Condition::Exact(text) => ValuePattern::Exact(text.value.to_owned()),
            Condition::Regex(text) => ValuePattern::Regex(regex(text, self.bounds, self.problems)),
            Condition::Present(present) => ValuePattern::Present(present),
        }
    }
}

impl Config {
    /// The conditions of a route beyond host and path, each as text: `method GET or HEAD`, `not cookie beta is there`. What comes from
    /// a reference is shown as the reference.
    #[must_use]
    pub fn conditions(&self, route: &RouteSpec) -> Vec<String> {
        let mut texts = self.texts(&route.conditions);
        texts.extend(self.texts(&route.not).into_iter().map(|text| format!("not {text}")));
        texts
    }

    fn texts(&self, conditions: &ConditionsSpec) -> Vec<String> {
        let ConditionsSpec { client, client_ip, alpn, methods, headers, query, cookies, scheme, port } = conditions;
        let mut texts = Vec::new();
        if !client.is_empty() {
            let clients: Vec<_> = client.iter().map(|it| self.shown(&it.to_string()).to_owned()).collect();
            texts.push(format!("client {}", clients.join(" or ")));
        }
        if !client_ip.is_empty() {
            let networks: Vec<_> = client_ip.iter().map(ToString::to_string).collect();
            texts.push(format!("client_ip {}", networks.join(" or ")));
        }
        if !alpn.is_empty() {
            let protocols: Vec<_> = alpn.iter().map(|it| self.shown(it)).collect();
            texts.push(format!("alpn {}", protocols.join(" or ")));
        }
        if !methods.is_empty() {
            texts.push(format!("method {}", methods.join(" or ")));
        }
        for (kind, conditions) in [("header", headers), ("query", query), ("cookie", cookies)] {
            texts.extend(conditions.iter().map(|(name, value)| format!("{kind} {name} {}", self.value_text(value))));
        }
        texts.extend(scheme.map(|scheme| format!("scheme {}", scheme.text())));
        texts.extend(port.map(|port| format!("port {port}")));
        texts
    }

    fn value_text(&self, value: &ValuePattern) -> String {
        match value {
            ValuePattern::Exact(text) => format!("is \"{}\"", self.shown(text)),
            ValuePattern::Regex(regex) => format!("matches {}", self.shown(regex)),
            ValuePattern::Present(true) => "is there".to_owned(),
            ValuePattern::Present(false) => "is not there".to_owned(),
        }
    }
}
