//! `return`, and `rewrite` that redirects. Not here: `rewrite` that changes where a request goes (`forward`).

use cairn::route::count_groups;

use super::super::matching::{Match, Path};
use super::super::nginx::Directive;
use super::super::routes::{Action, NewPath, Redirect};
use super::super::valid::{encoded, is_authority, is_query};
use super::super::words;
use super::super::{expression, rules::Case};
use super::Translator;
use super::location::Place;
use super::scope::{Scope, at};

impl<'a> Translator<'a> {
    /// The case of a `return`.
    pub(super) fn returned(&mut self, place: &Place<'a>, directive: &'a Directive) -> usize {
        let (first, second) = (directive.argument(0), directive.argument(1));
        let (status, text) = match first.parse::<u16>() {
            Ok(status) => (status, second),
            Err(_) => (302, first),
        };
        let is_redirect = [301, 302, 303, 307, 308].contains(&status);
        if is_redirect && !text.is_empty() {
            return self.redirected(place, directive, status, text);
        }
        let body = match place.scope.value(text) {
            Ok(body) if words::has_request_variable(&body) => {
                self.notes.differs(at(directive), "the body is left out: a text has no variables");
                String::new()
            }
            Ok(body) => body,
            Err(variable) => {
                self.notes.differs(at(directive), &format!("the body is left out: there is no {variable} in it"));
                String::new()
            }
        };
        let status = match status {
            444 => {
                self.notes.differs(at(directive), "444 closes the connection without an answer; here it is 400");
                400
            }
            200..=599 => status,
            _ => {
                self.notes.differs(at(directive), "it is no status; here it is 500");
                500
            }
        };
        let body = if [204, 205, 304].contains(&status) { String::new() } else { body };
        let content_type = self.content_type(place).filter(|_| !body.is_empty());
        let action = Action::Respond { status, body, content_type };
        let body = self.with_edits(place, place.body(action), false);
        self.body(body)
    }

    /// The type of what `return` sends, if it is not text/plain.
    fn content_type(&mut self, place: &Place<'a>) -> Option<String> {
        let added =
            place.scope.all("add_header").into_iter().find(|it| it.argument(0).eq_ignore_ascii_case("content-type"));
        let kind = added.map(|it| it.argument(1)).or_else(|| place.scope.one("default_type").map(|it| it.argument(0)));
        kind.filter(|kind| *kind != "text/plain" && !kind.is_empty() && kind.is_ascii()).map(str::to_owned)
    }

    fn redirected(&mut self, place: &Place<'a>, directive: &'a Directive, status: u16, text: &str) -> usize {
        match target(&place.scope, text) {
            Ok(redirect) if redirect.is_empty() => {
                self.notes.left(at(directive), "it leads back to where it came from");
                self.answered(place, 508)
            }
            Ok(redirect) => {
                let body = self.with_edits(place, place.body(Action::Redirect(Redirect { status, ..redirect })), false);
                self.body(body)
            }
            Err(why) => {
                self.notes.left(at(directive), &format!("{why}; here it is 501"));
                self.answered(place, 501)
            }
        }
    }

    /// The cases of a `rewrite`. None: it is left to `forward`.
    pub(super) fn rewritten(&mut self, place: &Place<'a>, directive: &'a Directive) -> Option<Case> {
        let (pattern, to, flag) = (directive.argument(0), directive.argument(1), directive.argument(2));
        let absolute = ["http://", "https://", "$scheme://"].iter().any(|start| to.starts_with(start));
        let status = match flag {
            "permanent" => 301,
            "redirect" => 302,
            _ if absolute => 302,
            _ => return None,
        };
        let found = expression::whole(pattern, false).and_then(|whole| {
            // A question mark at the end keeps nginx from adding the query.
            let (text, query) = to.strip_suffix('?').map_or((to, true), |text| (text, false));
            let mut scope = place.scope.clone();
            scope.facts.captures = groups(pattern);
            let mut redirect = target(&scope, text)?;
            // It is added otherwise.
            redirect.query = match redirect.query {
                None => None,
                Some(own) if own.is_empty() => (!query).then(String::new),
                Some(own) if query => return Err(format!("a query is {own}, or that of the request")),
                own => own,
            };
            Ok((whole, redirect))
        });
        let (whole, redirect) = match found {
            Ok(found) => found,
            Err(why) => {
                self.notes.left(at(directive), &why);
                return None;
            }
        };
        if redirect.is_empty() {
            self.notes.left(at(directive), "it leads back to where it came from");
            return None;
        }
        let inner = place.at_directive(directive, self.notes.files);
        let mut body = inner.body(Action::Redirect(Redirect { status, ..redirect }));
        // An expression stays one if it captures what is used.
        let path = if body.captures() { Path::Regex(whole) } else { path_of(&whole) };
        body = self.with_edits(&inner, body, false);
        let body = self.body(body);
        Some(Case { when: vec![Match { path, ..Match::default() }], unless: Vec::new(), body })
    }
}

/// Groups of an expression.
pub(super) fn groups(pattern: &str) -> u8 {
    count_groups(pattern).map_or(0, |count| u8::try_from(count).unwrap_or(u8::MAX))
}

/// The condition that a whole expression is: a path, a prefix, or the expression.
pub(super) fn path_of(whole: &str) -> Path {
    let literal = expression::prefix(whole);
    let encoded = encoded(&literal);
    if whole == ".*" || whole == "/.*" || whole == "/(.*)" || whole == "(.*)" {
        return Path::Any;
    }
    match (encoded, whole.strip_prefix(&expression::literal(&literal))) {
        (Ok(path), Some("")) => Path::Exact(path),
        (Ok(path), Some("/?")) if !path.ends_with('/') => Path::Regex(whole.to_owned()),
        _ => Path::Regex(whole.to_owned()),
    }
}

/// Takes a Location apart.
fn target(scope: &Scope<'_>, text: &str) -> Result<Redirect, String> {
    let text = scope.substituted(text);
    let mut found = Redirect::default();
    let mut rest = &*text;
    for (start, scheme) in [("https://", Some("https")), ("http://", Some("http")), ("$scheme://", None)] {
        if let Some(after) = text.strip_prefix(start) {
            let end = after.find(['/', '?']).unwrap_or(after.len());
            let end = ["$request_uri", "$uri", "$is_args"].iter().filter_map(|it| after.find(it)).fold(end, usize::min);
            let (host, path) = after.split_at(end);
            found.scheme = scheme.map(str::to_owned);
            found.host = self::host(scope, host)?;
            rest = if path.is_empty() { "/" } else { path };
        }
    }
    if rest == text && !rest.starts_with(['/', '$']) {
        return Err("a redirect leads to a path, or to http:// or https://".to_owned());
    }
    let path = match rest.strip_suffix("$request_uri") {
        Some(start) => format!("{start}$uri"),
        None => match ["$is_args$args", "?$args", "$is_args$query_string", "?$query_string"]
            .iter()
            .find_map(|it| rest.strip_suffix(it))
        {
            Some(start) => start.to_owned(),
            None => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                let query = scope.value(query).map_err(|name| format!("there is no {name} in a redirect's query"))?;
                if !is_query(&query) {
                    return Err("it is no query".to_owned());
                }
                found.query = Some(query);
                path.to_owned()
            }
        },
    };
    let path = path.replace("$document_uri", "$uri");
    found.path = match path.strip_suffix("$uri") {
        Some("") => None,
        Some(start) if !start.contains('$') => Some(NewPath::Added(encoded(start.trim_end_matches('/'))?)),
        _ => {
            let path = scope.value(&path).map_err(|name| format!("there is no {name} in a redirect's path"))?;
            Some(NewPath::Whole(encoded(&path).map_err(|_| "it is no path in its normal form".to_owned())?))
        }
    };
    // The scheme that every request of the scope has changes nothing.
    if found.host.is_none() && found.path.is_none() && found.scheme == scope.value("$scheme").ok() {
        found.scheme = None;
    }
    Ok(found)
}

/// None: that of the request.
fn host(scope: &Scope<'_>, text: &str) -> Result<Option<String>, String> {
    match text {
        "$host" | "$http_host" | "$host:$server_port" => return Ok(None),
        _ => {}
    }
    let host = scope.value(text).map_err(|name| format!("there is no {name} in a redirect's host"))?;
    if is_authority(&host) { Ok(Some(host)) } else { Err("it is no host".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_taken_apart() {
        let scope = Scope::new(&[]);
        let part = |text: &str| (text != "-").then(|| text.to_owned());
        for (text, scheme, host, path, query) in [
            ("https://$host$request_uri", "https", "-", "-", "-"),
            ("https://example.com$request_uri", "https", "example.com", "-", "-"),
            ("$scheme://www.example.com$request_uri", "-", "www.example.com", "-", "-"),
            ("https://example.com", "https", "example.com", "/", ""),
            ("https://example.com/new$is_args$args", "https", "example.com", "/new", "-"),
            ("/new", "-", "-", "/new", ""),
            ("/new?a=b", "-", "-", "/new", "a=b"),
            ("/new$request_uri", "-", "-", "+/new", "-"),
            ("https://www.$host$request_uri", "https", "www.\u{1}request.host\u{2}", "-", "-"),
            ("https://$host:8443$request_uri", "https", "\u{1}request.host\u{2}:8443", "-", "-"),
            ("/$cookie_a", "!", "-", "-", "-"),
            ("new", "!", "-", "-", "-"),
        ] {
            let path = part(path).map(|path| match path.strip_prefix('+') {
                Some(added) => NewPath::Added(added.to_owned()),
                None => NewPath::Whole(path),
            });
            let expected = Redirect { status: 0, scheme: part(scheme), host: part(host), path, query: part(query) };
            match target(&scope, text) {
                Ok(found) => assert_eq!(found, expected, "{text}"),
                Err(why) => assert_eq!(scheme, "!", "{text}: {why}"),
            }
        }
    }
}
