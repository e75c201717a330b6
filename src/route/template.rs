//! Texts with variables: `for=${client.ip}`. Not here: the values of variables, which a request has (`exchange`).
//!
//! In a configuration that was read, a variable stands between two characters that no value can hold, `OPEN` and `CLOSE`: a text that
//! only looks like one, such as the content of a file, stays a text.

use std::fmt;

/// Stands before the name of a variable.
pub const OPEN: char = '\u{1}';
/// Stands behind the name of a variable.
pub const CLOSE: char = '\u{2}';
/// Largest number of a capture.
pub const CAPTURES_MAX: usize = 9;

/// What stands for a part of the request, or of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `client.ip`: its address, as conditions on it see it; empty on a Unix-domain socket.
    ClientIp,
    /// `client.port`: empty where a proxy names the client.
    ClientPort,
    /// `client.identity`: of its certificate: the first SPIFFE ID, else the first DNS name, else the subject; empty without one.
    ClientIdentity,
    /// `listener.name`
    ListenerName,
    /// `route.name`
    RouteName,
    /// `request.id`: the value of X-Request-Id.
    RequestId,
    /// `request.scheme`: `http` or `https`, as the client uses it.
    RequestScheme,
    /// `request.method`
    RequestMethod,
    /// `request.host`: the name, without port.
    RequestHost,
    /// `request.path`: as it was sent, without dot segments.
    RequestPath,
    /// `request.query`: without `?`.
    RequestQuery,
    /// `tls.version`: `TLSv1.3` or `TLSv1.2`; empty without TLS.
    TlsVersion,
    /// `tls.sni`: the name that the client asked for.
    TlsSni,
    /// `tls.client.subject`: of the client's certificate (RFC 4514).
    TlsClientSubject,
    /// `header.NAME`: all fields of that name, in lower case, that go on upstream, joined by commas.
    Header(Box<str>),
    /// `error.status`: of an answer that is made here; in error pages only, as those below.
    ErrorStatus,
    /// `error.title`: the reason phrase of the status.
    ErrorTitle,
    /// `error.reason`: the reason code.
    ErrorReason,
    /// `regex.N`: what the group with this number has matched of the path; 0: the whole path.
    Capture(usize),
}

/// Variables without a part of their own, by name.
const NAMED: [(&str, Variable); 17] = [
    ("client.ip", Variable::ClientIp),
    ("client.port", Variable::ClientPort),
    ("client.identity", Variable::ClientIdentity),
    ("listener.name", Variable::ListenerName),
    ("route.name", Variable::RouteName),
    ("request.id", Variable::RequestId),
    ("request.scheme", Variable::RequestScheme),
    ("request.method", Variable::RequestMethod),
    ("request.host", Variable::RequestHost),
    ("request.path", Variable::RequestPath),
    ("request.query", Variable::RequestQuery),
    ("tls.version", Variable::TlsVersion),
    ("tls.sni", Variable::TlsSni),
    ("tls.client.subject", Variable::TlsClientSubject),
    ("error.status", Variable::ErrorStatus),
    ("error.title", Variable::ErrorTitle),
    ("error.reason", Variable::ErrorReason),
];

impl Variable {
    /// The variable of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(field) = name.strip_prefix("header.") {
            let token = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
            let valid = !field.is_empty() && field.bytes().all(token);
            return valid.then(|| Self::Header(field.to_ascii_lowercase().into()));
        }
        if let Some(number) = name.strip_prefix("regex.") {
            let number = number.parse().ok().filter(|_| number.len() == 1)?;
            return Some(Self::Capture(number));
        }
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, variable)| variable.clone())
    }

    /// Whether it has a value in error pages.
    #[must_use]
    pub fn is_of_error(&self) -> bool {
        self.is_of_error_alone() || *self == Self::RequestId
    }

    /// Whether it has a value in error pages only.
    #[must_use]
    pub fn is_of_error_alone(&self) -> bool {
        matches!(self, Self::ErrorStatus | Self::ErrorTitle | Self::ErrorReason)
    }

    /// The names of all variables, as a help shows them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name).chain(["header.NAME", "regex.1"])
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Capture(group) => write!(f, "regex.{group}"),
            other => {
                let name = NAMED.iter().find(|(_, variable)| variable == other).map(|(name, _)| *name);
                f.write_str(name.unwrap_or_default())
            }
        }
    }
}

/// Knows the values of variables.
pub trait Values {
    /// Appends the value of `variable`: bytes that may stand in a field.
    fn write(&self, variable: &Variable, out: &mut Vec<u8>);
}

/// How a text is used, which decides what of a value has to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// As text.
    Text,
    /// As field lines, each with its CRLF: those are left out whose whole value is empty variables.
    Lines,
    /// As a path: what cannot stand there is percent-encoded (RFC 3986 section 3.3).
    Path,
    /// As a query: so is what separates parameters, but for the query of the request.
    Query,
    /// As a host: what cannot stand there becomes `-`.
    Host,
}

/// A text with variables, compiled to the bytes between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    text: Box<[u8]>,
    /// Where in `text` the value of each variable goes, ascending.
    variables: Box<[(usize, Variable)]>,
}

impl Template {
    /// Compiles a text of a configuration. What is marked as a variable and is none stays text.
    #[must_use]
    pub fn compile(marked: &str) -> Self {
        let mut text = String::with_capacity(marked.len());
        let mut variables = Vec::new();
        for part in parts(marked) {
            match part {
                Part::Text(part) => text += part,
                Part::Variable(name) => variables.extend(Variable::parse(name).map(|variable| (text.len(), variable))),
            }
        }
        Self { text: text.into_bytes().into(), variables: variables.into() }
    }

    /// The bytes, if there is no variable among them.
    #[must_use]
    #[inline]
    pub fn plain(&self) -> Option<&[u8]> {
        if self.variables.is_empty() { Some(&self.text) } else { None }
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.variables.is_empty()
    }

    /// The variables, in the order of the text.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.variables.iter().map(|(_, variable)| variable)
    }

    /// Appends the text with the values of its variables.
    #[inline]
    pub fn write(&self, usage: Use, values: &impl Values, out: &mut Vec<u8>) {
        let mut written = 0;
        for (position, (at, variable)) in self.variables.iter().enumerate() {
            out.extend_from_slice(&self.text[written..*at]);
            written = *at;
            let start = out.len();
            values.write(variable, out);
            match usage {
                Use::Text => {}
                Use::Lines => {
                    let last = self.variables.get(position + 1).is_none_or(|(next, _)| next != at);
                    if last && self.text[*at..].starts_with(b"\r\n") && drop_empty_line(out) {
                        written += 2;
                    }
                }
                Use::Path => encode(start, out, is_path),
                Use::Query if *variable == Variable::RequestQuery => encode(start, out, is_path),
                Use::Query => encode(start, out, is_parameter),
                Use::Host => out[start..].iter_mut().filter(|byte| !is_host(**byte)).for_each(|byte| *byte = b'-'),
            }
        }
        out.extend_from_slice(&self.text[written..]);
    }
}

/// A part of a marked text.
/// A part of a text of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text that stands for itself.
    Text(&'a str),
    /// The name of a variable.
    Variable(&'a str),
}

/// The parts of a text of a configuration.
pub fn parts(marked: &str) -> impl Iterator<Item = Part<'_>> {
    let mut pieces = marked.split(OPEN);
    let first = pieces.next().map(Part::Text);
    let others = pieces.flat_map(|piece| match piece.split_once(CLOSE) {
        Some((name, text)) => [Part::Variable(name), Part::Text(text)],
        None => [Part::Text(piece), Part::Text("")],
    });
    first.into_iter().chain(others)
}

/// `name`, marked as a variable.
#[must_use]
pub fn mark(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

/// `text`, in which `${name}` is marked as a variable where it is one of those that `takes` accepts.
#[must_use]
pub fn mark_known(text: &str, takes: impl Fn(&Variable) -> bool) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let name = rest[start + 2..].split_once('}').map_or("", |(name, _)| name);
        let known = Variable::parse(name).is_some_and(|variable| takes(&variable));
        let end = start + 2 + if known { name.len() + 1 } else { 0 };
        marked += &rest[..if known { start } else { end }];
        if known {
            marked += &mark(name);
        }
        rest = &rest[end..];
    }
    marked + rest
}

/// The names of what is marked as variables in a text of a configuration.
pub fn variables_of(marked: &str) -> impl Iterator<Item = &str> {
    parts(marked).filter_map(|part| if let Part::Variable(name) = part { Some(name) } else { None })
}

/// The first variable in a text of a configuration, by its name.
#[must_use]
pub fn first_variable(marked: &str) -> Option<&str> {
    variables_of(marked).next()
}

/// A text of a configuration as an operator writes it, `${client.ip}`.
#[must_use]
pub fn shown(marked: &str) -> String {
    fill(marked, |name| format!("${{{name}}}"))
}

/// A text of a configuration with something in the place of each variable.
#[must_use]
pub fn fill<T: fmt::Display>(marked: &str, value: impl Fn(&str) -> T) -> String {
    let part = |part| match part {
        Part::Text(text) => text.to_owned(),
        Part::Variable(name) => value(name).to_string(),
    };
    parts(marked).map(part).collect()
}

/// Takes away a field line at the end, without its CRLF, if its value is empty. True: it was.
fn drop_empty_line(out: &mut Vec<u8>) -> bool {
    // Whatever is written before begins on a line of its own.
    let start = out.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let empty = out[start..].strip_suffix(b": ").is_some_and(|name| !name.contains(&b':'));
    if empty {
        out.truncate(start);
    }
    empty
}

/// Percent-encodes what follows `start`, where it needs that. Escapes that are there stay.
fn encode(start: usize, out: &mut Vec<u8>, stays: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if out[start..].iter().all(|byte| stays(*byte)) {
        return;
    }
    // From the end, so that each byte is moved once.
    let extra = 2 * out[start..].iter().filter(|byte| !stays(**byte)).count();
    let mut from = out.len();
    out.resize(from + extra, 0);
    let mut to = out.len();
    while from > start {
        from -= 1;
        let byte = out[from];
        if stays(byte) {
            to -= 1;
            out[to] = byte;
        } else {
            to -= 3;
            out[to..to + 3].copy_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Whether a byte may stand in a path or a query (RFC 3986 sections 3.3 and 3.4), or begins an escape.
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// Whether a byte may stand in the value of a parameter.
fn is_parameter(byte: u8) -> bool {
    is_path(byte) && !b"&=+;?".contains(&byte)
}

/// Whether a byte may stand in a host with a port.
fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value is this one.
    struct Always(&'static str);

    impl Values for Always {
        fn write(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.as_bytes());
        }
    }

    fn write(text: &str, usage: Use, value: &'static str) -> String {
        let mut out = b"> ".to_vec();
        Template::compile(text).write(usage, &Always(value), &mut out);
        String::from_utf8(out).unwrap().split_off(2)
    }

    #[test]
    fn variables_are_replaced_where_they_stand() {
        let ip = mark("client.ip");
        for (text, written) in [
            (String::new(), ""),
            ("plain ${client.ip}".to_owned(), "plain ${client.ip}"),
            (ip.clone(), "7"),
            (format!("a{ip}b{ip}{ip}c"), "a7b77c"),
            (format!("{ip}/"), "7/"),
            (format!("a{}b", mark("no.such")), "ab"),
        ] {
            assert_eq!(write(&text, Use::Text, "7"), written);
        }
        assert_eq!(first_variable(&format!("a{ip}")), Some("client.ip"));
        assert_eq!(first_variable("a\u{1}b"), None);
        assert_eq!(shown(&format!("a{ip}b")), "a${client.ip}b");
    }

    #[test]
    fn a_field_without_a_value_is_left_out() {
        let v = mark("header.a");
        for (text, empty, full) in [
            (format!("a: {v}\r\nb: 1\r\n"), "b: 1\r\n", "a: 7\r\nb: 1\r\n"),
            (format!("b: 1\r\na: {v}{v}\r\n"), "b: 1\r\n", "b: 1\r\na: 77\r\n"),
            (format!("a: {v}\r\nb: {v}\r\n"), "", "a: 7\r\nb: 7\r\n"),
            (format!("a: b: {v}\r\n"), "a: b: \r\n", "a: b: 7\r\n"),
            (format!("a: {v}x\r\nb: x{v}\r\n"), "a: x\r\nb: x\r\n", "a: 7x\r\nb: x7\r\n"),
            ("a: \r\n".to_owned(), "a: \r\n", "a: \r\n"),
        ] {
            for (value, written) in [("", empty), ("7", full)] {
                let mut out = b"z: \r\n".to_vec();
                Template::compile(&text).write(Use::Lines, &Always(value), &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), format!("z: \r\n{written}"), "{text}");
            }
        }
    }

    #[test]
    fn values_cannot_leave_their_place() {
        let text = format!("/x{}/", mark("header.a"));
        for (value, path, host) in [
            ("a/b?c=%20", "/xa/b?c=%20/", "/xa-b-c--20/"),
            ("a b", "/xa%20b/", "/xa-b/"),
            ("\u{e9}#", "/x%C3%A9%23/", "/x---/"),
            ("", "/x/", "/x/"),
            ("<a>", "/x%3Ca%3E/", "/x-a-/"),
            ("u@h:1", "/xu@h:1/", "/xu-h:1/"),
        ] {
            assert_eq!(write(&text, Use::Path, value), path);
            assert_eq!(write(&text, Use::Host, value), host);
        }
    }

    #[test]
    fn variables_of_a_file_are_found_among_what_only_looks_so() {
        let text = "<p>${error.status} ${x} ${client.ip}</p><script>`${a.b} ${`</script>${error.reason}";
        let marked = mark_known(text, Variable::is_of_error);
        assert_eq!(shown(&marked), text);
        let template = Template::compile(&marked);
        assert_eq!(template.variables().collect::<Vec<_>>(), [&Variable::ErrorStatus, &Variable::ErrorReason]);
    }

    #[test]
    fn names_are_known() {
        assert_eq!(Variable::parse("header.X-User"), Some(Variable::Header("x-user".into())));
        assert_eq!(Variable::parse("regex.9"), Some(Variable::Capture(9)));
        for name in ["", "header.", "header.a b", "regex.", "regex.10", "regex.x", "client", "client.ip ", "CLIENT.IP"]
        {
            assert_eq!(Variable::parse(name), None, "{name}");
        }
        for name in Variable::names() {
            let variable = Variable::parse(name).unwrap();
            assert_eq!(variable.to_string().to_lowercase(), name.to_lowercase());
        }
    }
}
