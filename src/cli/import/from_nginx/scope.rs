//! Directives as they are inherited, and the variables in their arguments. Not here: what they become.

use std::collections::BTreeMap;

use cairn::config::{SourceSpan, of_nginx};

use super::super::nginx::Directive;
use super::super::valid::conditional;
use super::super::words;

/// Deepest nesting of variables that `set` gives, and longest text that they make, bytes.
const DEPTH_MAX: usize = 10;
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A directive's position and place, for notes.
pub(super) fn at(directive: &Directive) -> (usize, SourceSpan) {
    (directive.id, directive.span)
}

/// What is known of the requests of a server before they come.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) tls: Option<bool>,
    pub(super) port: Option<u16>,
    /// Its first name.
    pub(super) name: String,
    /// Groups of the expression of the path.
    pub(super) captures: u8,
}

/// The blocks around a directive, the outermost first.
#[derive(Clone, Debug)]
pub(super) struct Scope<'a> {
    levels: Vec<&'a [Directive]>,
    pub(super) facts: Facts,
    /// Variables with values that are known.
    variables: BTreeMap<String, String>,
}

/// A part of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    /// Name of a variable.
    Variable(&'t str),
}

impl<'a> Scope<'a> {
    pub(super) fn new(level: &'a [Directive]) -> Self {
        Self { levels: vec![level], facts: Facts::default(), variables: BTreeMap::new() }
    }

    /// The scope of a block inside this one.
    pub(super) fn inside(&self, block: &'a [Directive]) -> Self {
        let mut inner = self.clone();
        inner.levels.push(block);
        for set in block.iter().filter(|it| it.name == "set" && it.arguments.len() == 2) {
            let name = set.argument(0).trim_start_matches('$').to_owned();
            let value = inner.substituted(set.argument(1));
            inner.variables.insert(name, value);
        }
        inner
    }

    /// The scope of a block beside the innermost one.
    pub(super) fn beside(&self, block: &'a [Directive]) -> Self {
        let mut outer = self.clone();
        outer.levels.pop();
        outer.inside(block)
    }

    /// The innermost block.
    pub(super) fn innermost(&self) -> &'a [Directive] {
        self.levels.last().copied().unwrap_or_default()
    }

    /// Gives a variable a value.
    pub(super) fn bind(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// All directives of a name on the innermost level that has any: they replace those of outer levels.
    pub(super) fn all(&self, name: &str) -> Vec<&'a Directive> {
        self.all_among(&[name])
    }

    /// The same of several names, those of one level replacing all those of outer levels.
    pub(super) fn all_among(&self, names: &[&str]) -> Vec<&'a Directive> {
        let named = |it: &&'a Directive| names.contains(&it.name.as_str());
        let of_level = |level: &&'a [Directive]| level.iter().filter(named).collect::<Vec<_>>();
        self.levels.iter().rev().map(of_level).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// All directives of a name on all levels.
    pub(super) fn all_of(&self, name: &str) -> Vec<&'a Directive> {
        self.levels.iter().flat_map(|level| level.iter()).filter(|it| it.name == name).collect()
    }

    /// The directive of a name that holds.
    pub(super) fn one(&self, name: &str) -> Option<&'a Directive> {
        self.all(name).into_iter().next()
    }

    /// The text with the values of variables that are known.
    pub(super) fn substituted(&self, text: &str) -> String {
        let mut out = String::new();
        self.substitute(text, 0, &mut out);
        out
    }

    fn substitute(&self, text: &str, depth: usize, out: &mut String) {
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(name) => match self.variables.get(name) {
                    Some(value) if depth < DEPTH_MAX && out.len() < TEXT_BYTES_MAX => {
                        self.substitute(value, depth + 1, out);
                    }
                    _ => {
                        out.push('$');
                        out.push_str(name);
                    }
                },
            }
        }
    }

    /// The value of a field or a text.
    ///
    /// # Errors
    /// The variable that cairn does not have.
    pub(super) fn value(&self, text: &str) -> Result<String, String> {
        let mut value = String::new();
        for piece in pieces(&self.substituted(text)) {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Variable(name) => value.push_str(&self.variable(name).ok_or_else(|| format!("${name}"))?),
            }
        }
        Ok(value)
    }

    fn variable(&self, name: &str) -> Option<String> {
        let facts = &self.facts;
        let known = match name {
            "scheme" => facts.tls.map(|tls| if tls { "https" } else { "http" }.to_owned()),
            "server_port" => facts.port.map(|port| port.to_string()),
            "server_name" if !facts.name.is_empty() => Some(facts.name.clone()),
            _ => None,
        };
        if known.is_some() {
            return known;
        }
        if let Some(named) = of_nginx(name) {
            return Some(words::variable(named));
        }
        let field = name.strip_prefix("http_").map(|field| field.replace('_', "-"));
        let field = field.filter(|field| conditional(field)).map(|field| format!("header.{field}"));
        let group = name.parse::<u8>().ok().filter(|group| (1..=9).contains(group) && facts.captures >= *group);
        field.or_else(|| Some(format!("regex.{}", group?))).map(|name| words::variable(&name))
    }
}

/// Texts and variables of an argument.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(dollar) = rest[from..].find('$').map(|at| at + from) {
        let behind = &rest[dollar + 1..];
        let (name, after) = match behind.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some((name, after)) => (name, after),
                None => ("", behind),
            },
            None => {
                let known = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
                let length = behind.bytes().take_while(|c| known(*c)).count();
                behind.split_at(length)
            }
        };
        if name.is_empty() {
            from = dollar + 1;
            continue;
        }
        if dollar > 0 {
            pieces.push(Piece::Text(&rest[..dollar]));
        }
        pieces.push(Piece::Variable(name));
        (rest, from) = (after, 0);
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// A time of nginx in milliseconds: `30s`, `1m30s`, `500ms`; without unit: seconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let scale = match &rest[..unit] {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        rest = &rest[unit..];
        total = total.checked_add(number.checked_mul(scale)?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// A size of nginx in bytes: `8k`, `1m`, `1g`, or a number.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, scale) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 1 << 10),
        b'm' => (&lower[..lower.len() - 1], 1 << 20),
        b'g' => (&lower[..lower.len() - 1], 1 << 30),
        _ => (&*lower, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found() {
        use Piece::{Text, Variable};
        for (text, expected) in [
            ("https://$host$request_uri", &[Text("https://"), Variable("host"), Variable("request_uri")][..]),
            ("${a}b", &[Variable("a"), Text("b")]),
            ("$", &[Text("$")]),
            ("a$ b$c", &[Text("a$ b"), Variable("c")]),
            ("${a", &[Text("${a")]),
            ("", &[]),
        ] {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }

    #[test]
    fn units_are_those_of_nginx() {
        for (text, expected) in
            [("30", Some(30_000)), ("1m30s", Some(90_000)), ("5ms", Some(5)), ("x", None), ("", None)]
        {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
        for (text, expected) in [("8k", Some(8192)), ("1M", Some(1 << 20)), ("7", Some(7)), ("", None), ("1x", None)] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
