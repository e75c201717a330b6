//! Conditions of `if` and `map`. Not here: what happens if they hold.

use super::super::expression;
use super::super::matching::{Host, Match, Path, Value, canonical, network};
use super::super::nginx::Directive;
use super::super::valid::{conditional, encoded, is_host, is_value};
use super::scope::{Piece, Scope, pieces};
use cairn::config::is_token;

/// One alternative of `when` holds, and none of `unless`.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    pub(super) when: Vec<Match>,
    pub(super) unless: Vec<Match>,
}

/// A test on a variable.
#[derive(Clone, Debug)]
pub(super) struct Test {
    /// The variable's name.
    pub(super) subject: String,
    /// `=`, `~`, `~*`; empty: it is neither empty nor 0.
    pub(super) operator: String,
    pub(super) operand: String,
    pub(super) negated: bool,
}

/// A `map` block.
#[derive(Debug)]
pub(super) struct Map<'a> {
    pub(super) directive: &'a Directive,
    /// The variable that it gives a value.
    pub(super) name: String,
    source: String,
    /// Patterns and values, in the order in which they are tried; the default is apart.
    entries: Vec<(String, String)>,
    default: String,
    /// Whether each entry is for what no earlier one is for: networks, the smallest first.
    ordered: bool,
}

impl Test {
    /// The test of an `if`.
    ///
    /// # Errors
    /// Why it is none that a route can make.
    pub(super) fn of(directive: &Directive) -> Result<Self, String> {
        let joined: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
        let mut words: Vec<String> = joined.iter().map(|word| (*word).to_owned()).collect();
        if let Some(first) = words.first_mut() {
            *first = first.strip_prefix('(').unwrap_or(first).to_owned();
        }
        if let Some(last) = words.last_mut() {
            *last = last.strip_suffix(')').unwrap_or(last).to_owned();
        }
        if words.first().is_some_and(String::is_empty) {
            words.remove(0);
        }
        if words.len() != 1 && words.len() != 3 && words.last().is_some_and(String::is_empty) {
            words.pop();
        }
        let subject = match words.first().and_then(|word| word.strip_prefix('$')) {
            Some(name) if !name.contains('$') => name.trim_matches(['{', '}']).to_owned(),
            _ => return Err("routes have no condition on that".to_owned()),
        };
        match words.get(1).map(String::as_str) {
            None => Ok(Self { subject, operator: String::new(), operand: String::new(), negated: false }),
            Some(operator @ ("=" | "!=" | "~" | "~*" | "!~" | "!~*")) => {
                let negated = operator.starts_with('!');
                let operator = operator.trim_start_matches('!');
                let operator = if operator.is_empty() { "=" } else { operator };
                let operand = words.get(2).cloned().unwrap_or_default();
                Ok(Self { subject, operator: operator.to_owned(), operand, negated })
            }
            Some(operator) => Err(format!("`{operator}` is no operator of nginx")),
        }
    }

    /// Whether a value passes.
    fn passes(&self, value: &str) -> bool {
        let passes = match self.operator.as_str() {
            "" => !value.is_empty() && value != "0",
            "=" => value == self.operand,
            operator => expression::whole(&self.operand, operator == "~*")
                .is_ok_and(|expression| expression::matches(&expression, value)),
        };
        passes != self.negated
    }

    /// The condition of a route.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn condition(&self, scope: &Scope<'_>) -> Result<Condition, String> {
        if let Some(value) = known(&self.subject, scope) {
            let when = if self.passes(&value) { vec![Match::default()] } else { Vec::new() };
            return Ok(Condition { when, unless: Vec::new() });
        }
        let operand = scope.substituted(&self.operand);
        if pieces(&operand).iter().any(|piece| matches!(piece, Piece::Variable(_))) && self.operator == "=" {
            return Err("a route compares with a text, not with a variable".to_owned());
        }
        let alternatives = test(&self.subject, &self.operator, &operand)?;
        Ok(match self.negated {
            false => Condition { when: alternatives, unless: Vec::new() },
            true => Condition { when: vec![Match::default()], unless: alternatives },
        })
    }
}

/// The value of a variable that is the same for all requests of a scope.
fn known(name: &str, scope: &Scope<'_>) -> Option<String> {
    match name {
        "https" => scope.facts.tls.map(|tls| if tls { "on" } else { "" }.to_owned()),
        "scheme" | "server_port" => scope.value(&format!("${name}")).ok(),
        name => {
            let text = format!("${name}");
            let value = scope.substituted(&text);
            (value != text && !pieces(&value).iter().any(|it| matches!(it, Piece::Variable(_)))).then_some(value)
        }
    }
}

/// Alternatives of which one holds if the variable passes.
fn test(subject: &str, operator: &str, operand: &str) -> Result<Vec<Match>, String> {
    let value = || value(operator, operand);
    let one = |matches: Match| Ok(vec![matches]);
    if subject == "host" || subject == "http_host" {
        let host = operand.to_ascii_lowercase();
        return match operator {
            "" => one(Match::default()),
            "=" if !is_host(&host) => Err("no request has this host".to_owned()),
            "=" => one(Match { host: Host::Exact(host), ..Match::default() }),
            _ => one(host_expression(operand)?),
        };
    }
    if let Some(name) = subject.strip_prefix("http_") {
        if !conditional(&name.replace('_', "-")) {
            return Err("no condition on this field can hold".to_owned());
        }
        return one(Match { headers: vec![(name.replace('_', "-"), value()?)], ..Match::default() });
    }
    if let Some(name) = subject.strip_prefix("arg_") {
        return one(Match { query: vec![(name.to_owned(), value()?)], ..Match::default() });
    }
    if subject == "remote_addr" || subject == "realip_remote_addr" {
        let network = canonical(operand).filter(|_| operator == "=");
        let network = network.ok_or("clients are told apart by their networks alone")?;
        return one(Match { client_ip: vec![network], ..Match::default() });
    }
    if let Some(name) = subject.strip_prefix("cookie_") {
        if !is_token(name) {
            return Err("it is not the name of a cookie".to_owned());
        }
        return one(Match { cookies: vec![(name.to_owned(), value()?)], ..Match::default() });
    }
    match subject {
        "request_method" => methods(operator, operand).map(|methods| vec![Match { methods, ..Match::default() }]),
        "request_uri" | "uri" | "document_uri" => {
            let path = match operator {
                _ if operand.contains(if operator == "=" { "?" } else { r"\?" }) => {
                    return Err("a path has no query: conditions on it stand in `query`".to_owned());
                }
                "=" => Path::Exact(encoded(operand)?),
                "" => return one(Match::default()),
                operator => Path::Regex(expression::whole(operand, operator == "~*")?),
            };
            one(Match { path, ..Match::default() })
        }
        _ => Err(format!("routes have no condition on ${subject}")),
    }
}

fn value(operator: &str, operand: &str) -> Result<Value, String> {
    Ok(match operator {
        "" => Value::Present(true),
        "=" if operand.is_empty() => Value::Present(false),
        "=" if !is_value(operand) => return Err("no field has this value".to_owned()),
        "=" => Value::Exact(operand.to_owned()),
        operator => Value::Regex(expression::whole(operand, operator == "~*")?),
    })
}

/// A condition on the host that an expression makes: on the field, which may have a port.
pub(super) fn host_expression(text: &str) -> Result<Match, String> {
    let whole = expression::whole(text, true)?;
    let port = if whole.ends_with(".*") { "" } else { "(?::[0-9]+)?" };
    Ok(Match { headers: vec![("host".to_owned(), Value::Regex(format!("{whole}{port}")))], ..Match::default() })
}

fn methods(operator: &str, operand: &str) -> Result<Vec<String>, String> {
    let list = match operator {
        "=" => vec![operand.to_owned()],
        "~" | "~*" => {
            let inner = operand.trim_start_matches('^').trim_end_matches('$');
            let inner = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(inner);
            let anchored = operand.starts_with('^') && operand.ends_with('$');
            if !anchored && inner.len() < 3 {
                return Err("a route has a list of methods".to_owned());
            }
            inner.split('|').map(str::to_owned).collect()
        }
        _ => return Err("every request has a method".to_owned()),
    };
    if !list.iter().all(|method| !method.is_empty() && method.bytes().all(|c| c.is_ascii_alphabetic())) {
        return Err("a route has a list of methods".to_owned());
    }
    let mut list: Vec<_> = list.iter().map(|method| method.to_ascii_uppercase()).collect();
    list.sort();
    list.dedup();
    Ok(list)
}

impl<'a> Map<'a> {
    /// Reads a `map $source $name { … }`.
    pub(super) fn of(directive: &'a Directive) -> Self {
        let mut map = Self {
            directive,
            name: directive.argument(1).trim_start_matches('$').to_owned(),
            source: directive.argument(0).to_owned(),
            entries: Vec::new(),
            default: String::new(),
            ordered: false,
        };
        let mut expressions = Vec::new();
        for entry in directive.children() {
            let (pattern, value) = (entry.name.clone(), entry.argument(0).to_owned());
            match pattern.as_str() {
                "default" => map.default = value,
                "hostnames" | "volatile" => {}
                _ if pattern.starts_with('~') => expressions.push((pattern, value)),
                _ => map.entries.push((pattern, value)),
            }
        }
        map.entries.append(&mut expressions);
        map
    }

    /// Reads a `geo [$source] $name { … }`.
    pub(super) fn of_networks(directive: &'a Directive) -> Self {
        let last = directive.arguments.len().saturating_sub(1);
        let mut map = Self {
            directive,
            name: directive.argument(last).trim_start_matches('$').to_owned(),
            source: if last == 0 { "$remote_addr" } else { directive.argument(0) }.to_owned(),
            entries: Vec::new(),
            default: String::new(),
            ordered: true,
        };
        for entry in directive.children() {
            match entry.name.as_str() {
                "default" => map.default = entry.argument(0).to_owned(),
                _ => map.entries.push((entry.name.clone(), entry.argument(0).to_owned())),
            }
        }
        map.entries.sort_by_key(|(pattern, _)| std::cmp::Reverse(network(pattern).map(|(_, bits)| bits)));
        map
    }

    /// The values that pass a test, each with its condition.
    ///
    /// # Errors
    /// Why a route cannot have it.
    pub(super) fn passing(&self, test: &Test, scope: &Scope<'_>) -> Result<Vec<(Condition, String)>, String> {
        Ok(self.values(scope)?.into_iter().filter(|(_, value)| test.passes(value)).collect())
    }

    /// All values, each with its condition. Earlier ones come first; the default is last.
    ///
    /// # Errors
    /// Why a route cannot have it.
    pub(super) fn values(&self, scope: &Scope<'_>) -> Result<Vec<(Condition, String)>, String> {
        let subject = match pieces(&self.source)[..] {
            [Piece::Variable(name)] => name.to_owned(),
            _ => return Err("the map is not of one variable".to_owned()),
        };
        let mut found: Vec<(Condition, String)> = Vec::new();
        let mut others: Vec<Match> = Vec::new();
        for (pattern, value) in &self.entries {
            let alternatives = self.entry(&subject, pattern)?;
            // Earlier expressions win; texts exclude each other.
            let unless = if self.ordered || pattern.starts_with('~') { others.clone() } else { Vec::new() };
            others.extend(alternatives.iter().cloned());
            found.push((Condition { when: alternatives, unless }, value.clone()));
        }
        found.push((Condition { when: vec![Match::default()], unless: others }, self.default.clone()));
        let value = |(condition, value): (Condition, String)| (condition, scope.substituted(&value));
        Ok(found.into_iter().map(value).collect())
    }

    fn entry(&self, subject: &str, pattern: &str) -> Result<Vec<Match>, String> {
        match pattern.strip_prefix('~') {
            Some(rest) => match rest.strip_prefix('*') {
                Some(rest) => test(subject, "~*", rest),
                None => test(subject, "~", rest),
            },
            None => {
                let wildcard = pattern.strip_prefix("*.").or_else(|| pattern.strip_prefix('.'));
                let text = pattern.strip_prefix('\\').unwrap_or(pattern);
                match wildcard.filter(|_| subject == "host" || subject == "http_host") {
                    Some(suffix) if !is_host(suffix) => Err("no request has this host".to_owned()),
                    Some(suffix) => {
                        let suffix = suffix.to_ascii_lowercase();
                        let mut found = vec![Match { host: Host::Wildcard(suffix.clone()), ..Match::default() }];
                        if pattern.starts_with('.') {
                            found.push(Match { host: Host::Exact(suffix), ..Match::default() });
                        }
                        Ok(found)
                    }
                    None => test(subject, "=", text),
                }
            }
        }
    }
}
