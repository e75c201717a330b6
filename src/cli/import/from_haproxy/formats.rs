//! Texts with samples, Locations, and expressions that replace a prefix. Not here: the rules that they stand in (`actions`).

use cairn::route::count_groups;

use super::super::expression;
use super::super::routes::{NewPath, Redirect};
use super::super::valid::{conditional, encoded, is_authority, is_query};
use super::super::words;
use super::Place;

/// Whether cairn sends a field with this value by itself.
pub(super) fn by_itself(name: &str, text: &str, place: &Place<'_>) -> bool {
    match (name, text) {
        ("x-forwarded-for", "%[src]" | "%ci") => true,
        ("x-forwarded-proto", "https") => place.facts.tls,
        ("x-forwarded-proto", "http") => !place.facts.tls,
        ("x-forwarded-host", text) => matches!(text.to_ascii_lowercase().as_str(), "%[req.hdr(host)]" | "%[hdr(host)]"),
        ("x-request-id", "%[uuid]" | "%[uuid()]" | "%[unique-id]" | "%ID") => true,
        _ => false,
    }
}

/// A text in which samples are variables; or the sample that is none.
pub(super) fn value(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let length = match behind.chars().next() {
            Some('%') => {
                out.push('%');
                rest = &behind[1..];
                continue;
            }
            Some('[') => behind.find(']').map_or(behind.len(), |end| end + 1),
            Some('{') => return Err(format!("%{behind}")),
            Some(c) if c.is_ascii_alphabetic() => behind.bytes().take_while(u8::is_ascii_alphanumeric).count(),
            _ => {
                out.push('%');
                rest = behind;
                continue;
            }
        };
        let sample = &behind[..length];
        out.push_str(&variable(sample).ok_or_else(|| format!("%{sample}"))?);
        rest = &behind[length..];
    }
    out.push_str(rest);
    Ok(out.trim().to_owned())
}

/// The variable that has the value of a sample: `[src]`, `ci`.
fn variable(sample: &str) -> Option<String> {
    let lower = sample.to_ascii_lowercase();
    let named = match lower.trim_matches(['[', ']']) {
        "src" | "ci" => "client.ip",
        "src_port" | "cp" => "client.port",
        "req.hdr(host),field(1,:)" | "hdr(host),field(1,:)" | "req.hdr(host),host_only" => "request.host",
        "path" | "hp" => "request.path",
        "query" | "hq" => "request.query",
        "method" | "hm" => "request.method",
        "unique-id" | "id" => "request.id",
        "ssl_fc,iif(https,http)" => "request.scheme",
        "ssl_fc_sni" | "sslc_sni" => "tls.sni",
        "ssl_fc_protocol" | "sslv" => "tls.version",
        "ssl_c_s_dn" | "{+q}[ssl_c_s_dn]" => "tls.client.subject",
        sample => {
            let field = sample
                .strip_prefix("req.hdr(")
                .or_else(|| sample.strip_prefix("hdr("))
                .or_else(|| sample.strip_prefix("req.fhdr("));
            let field = field?.strip_suffix(')').filter(|field| conditional(field))?;
            return Some(words::variable(&format!("header.{field}")));
        }
    };
    Some(words::variable(named))
}

/// Takes a Location apart.
///
/// # Errors
/// Why cairn cannot send it.
pub(super) fn location(text: &str) -> Result<Redirect, String> {
    let mut found = Redirect::default();
    let mut rest = text;
    for name in ["https", "http"] {
        let Some(after) = text.strip_prefix(name).and_then(|after| after.strip_prefix("://")) else { continue };
        let inside = |at: usize| after[..at].matches('[').count() > after[..at].matches(']').count();
        let end = after.match_indices(['/', '?']).map(|(at, _)| at).find(|at| !inside(*at));
        let kept = ["%[capture.req.uri]", "%[path", "%[url", "%HU", "%HP"];
        let end = kept.iter().filter_map(|it| after.find(it)).chain(end).min();
        let (host, path) = after.split_at(end.unwrap_or(after.len()));
        found.scheme = Some(name.to_owned());
        found.host = match host.to_ascii_lowercase().as_str() {
            "%[hdr(host)]" | "%[req.hdr(host)]" | "%[req.hdr(host),field(1,:)]" => None,
            _ => Some(value(host).map_err(|sample| format!("there is no {sample} in a redirect's host"))?),
        };
        if found.host.as_ref().is_some_and(|host| !is_authority(host)) {
            return Err("it is no host".to_owned());
        }
        rest = if path.is_empty() { "/" } else { path };
        break;
    }
    let whole = ["%[capture.req.uri]", "%[pathq]", "%[url]", "%HU"].iter().find_map(|it| rest.strip_suffix(it));
    let path = ["%[path]", "%HP"].iter().find_map(|it| rest.strip_suffix(it));
    if whole.is_none() {
        found.query = Some(String::new());
    }
    found.path = match whole.or(path) {
        Some("") => None,
        Some(start) if !start.contains('%') => Some(NewPath::Added(encoded(start.trim_end_matches('/'))?)),
        _ => {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let read = |text| value(text).map_err(|sample| format!("there is no {sample} in a redirect"));
            let (path, query) = (read(path)?, read(query)?);
            if !is_query(&query) {
                return Err("it is no query".to_owned());
            }
            found.query = Some(query);
            Some(NewPath::Whole(encoded(&path).map_err(|_| "it is no path in its normal form".to_owned())?))
        }
    };
    Ok(found)
}

/// What an expression makes of a path: the expression, which matches all of it, and the new path.
pub(super) fn replaced(pattern: &str, to: &str) -> Option<(String, NewPath)> {
    let whole = expression::whole(pattern, false).ok()?;
    let groups = count_groups(&whole).ok()?;
    let mut path = String::new();
    let mut characters = to.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            path.push(c);
            continue;
        }
        let group = characters.next()?.to_digit(10)? as usize;
        if group == 0 || group > groups {
            return None;
        }
        path.push_str(&words::variable(&format!("regex.{group}")));
    }
    let path = encoded(&value(&path).ok()?).ok()?;
    Some((whole, NewPath::Whole(path)))
}

/// The prefix that an expression replaces, and by what; `capture` stands for what follows it.
pub(super) fn prefix(pattern: &str, to: &str, capture: &str) -> Option<NewPath> {
    let inner = pattern.strip_prefix('^').unwrap_or(pattern);
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let (inner, capture) = match inner.strip_suffix("(/)?(.*)") {
        Some(inner) => (format!("{inner}/"), r"\2"),
        None => (inner.strip_suffix("(.*)")?.to_owned(), capture),
    };
    let to = to.strip_suffix(capture)?;
    new_prefix(&inner, to)
}

/// The same of `%[path,regsub(^/api,)]` and the like.
pub(super) fn substitution(text: &str) -> Option<NewPath> {
    let arguments = text.strip_prefix("%[path,regsub(")?.strip_suffix(")]")?;
    let mut parts = arguments.split(',').map(|part| part.trim_matches(['"', '\'']));
    let (pattern, to) = (parts.next()?, parts.next().unwrap_or_default());
    let inner = pattern.strip_prefix('^')?;
    new_prefix(inner, to)
}

/// What replaces the prefix that an expression is with `to`; None: it is more than a prefix, or another one than routes replace.
fn new_prefix(expression: &str, to: &str) -> Option<NewPath> {
    let literal = expression::prefix(expression);
    let plain = expression::literal(&literal) == expression && !to.contains(['\\', '%', '?']);
    let whole = literal.ends_with('/') == to.ends_with('/');
    let verbatim = to.to_owned();
    let to = if to.len() > 1 { to.trim_end_matches('/') } else { to };
    let to = if to.is_empty() { "/" } else { to };
    let found = NewPath::Prefix { from: literal.clone(), to: to.to_owned(), verbatim };
    (plain && whole && literal.len() > 1 && literal.starts_with('/') && encoded(to).is_ok()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found() {
        let pair = |from: &str, to: &str, verbatim: &str| {
            Some(NewPath::Prefix { from: from.to_owned(), to: to.to_owned(), verbatim: verbatim.to_owned() })
        };
        assert_eq!(prefix("^/api/(.*)", r"/\1", r"\1"), pair("/api/", "/", "/"));
        assert_eq!(prefix("/api/(.*)", r"/v2/\1", r"\1"), pair("/api/", "/v2", "/v2/"));
        assert_eq!(prefix("^/api(/)?(.*)", r"/\2", r"\1"), pair("/api/", "/", "/"));
        assert_eq!(prefix("^/[ab]/(.*)", r"/\1", r"\1"), None);
        assert_eq!(substitution("%[path,regsub(^/api,)]"), pair("/api", "/", ""));
        assert_eq!(substitution("%[path,regsub(^/api/,/)]"), pair("/api/", "/", "/"));
        assert_eq!(substitution("%[path,lower]"), None);
    }

    #[test]
    fn samples_are_variables_or_refused() {
        for (text, expected) in [
            ("100%%", Ok("100%")),
            ("%[src]:x", Ok("\u{1}client.ip\u{2}:x")),
            ("a %ci", Ok("a \u{1}client.ip\u{2}")),
            ("%[req.hdr(X-A)]", Ok("\u{1}header.x-a\u{2}")),
            ("%[nbsrv(a)]", Err("%[nbsrv(a)]")),
            ("a %ac", Err("%ac")),
            ("5% off", Ok("5% off")),
        ] {
            assert_eq!(value(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
