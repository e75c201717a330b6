//! Paths in a configuration. Not here: paths on the wire (`http`).

use super::foreign;
use super::report::Problems;
use super::section::Text;
use crate::http::path::{self, Forms, Rules};
use crate::route::template::fill;

/// A path in the normal form in which requests are routed. Escapes may be in either case (RFC 3986 section 6.2.2.1). Reports a path
/// that no request can have.
pub(super) fn normal(text: Text<'_>, problems: &mut Problems) -> String {
    match normal_form(text) {
        Ok(normal) => normal,
        Err(help) => {
            problems.add(text.at, format!("\"{}\" is not a path", text.shown.escape_debug())).help(help);
            text.value.to_owned()
        }
    }
}

/// A path on which a route has a condition, as [`normal`]. Reports a wildcard at its end, too, which other proxies have.
pub(super) fn condition(text: Text<'_>, problems: &mut Problems) -> String {
    let prefix = text.value.strip_suffix('*').map(|before| before.trim_end_matches('*'));
    if let Some(prefix) = prefix.filter(|prefix| prefix.starts_with('/') && prefix.ends_with('/')) {
        let prefix = if prefix.len() > 1 { prefix.trim_end_matches('/') } else { prefix };
        let help = match text.shown == text.value {
            true => format!("write `path_prefix = \"{prefix}\"`, which takes all that is below it, too"),
            false => "write it without, as `path_prefix`, which takes all that is below it, too".to_owned(),
        };
        problems.add(text.at, "`*` is no wildcard in a path, but stands for itself").help(help);
        return text.value.to_owned();
    }
    normal(text, problems)
}

/// A path to be sent, as it is written, in which variables may stand. Reports what [`normal`] reports, and a variable of another proxy;
/// `cure` says what to write instead where cairn has no such variable.
pub(super) fn sent(text: Text<'_>, cure: &str, problems: &mut Problems) -> String {
    match foreign::variable(text.value).filter(|variable| text.shown.contains(variable)) {
        Some(variable) => {
            let problem = format!("`{}` is a variable of another proxy, and only text here", variable.escape_debug());
            let own = foreign::own_variable(variable).map(|own| format!("cairn calls it `{own}`; or {cure}"));
            problems.add(text.at, problem).help(own.unwrap_or_else(|| cure.to_owned()));
        }
        None => {
            let filled = fill(text.value, |_| "x");
            if filled.starts_with('/') && filled.contains(['?', '#']) {
                let problem = format!("\"{}\" is not a path", text.shown.escape_debug());
                problems.add(text.at, problem).help("write the path alone, without query");
            } else {
                drop(normal(Text { value: &filled, ..text }, problems));
            }
        }
    }
    text.value.to_owned()
}

/// A regular expression for paths, with percent-escapes in upper case, as in the normal form. Brackets hold character classes, not
/// escapes, and stay as they are.
pub(super) fn expression(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let before = &rest[..open];
        let escapes = before.len() - before.trim_end_matches('\\').len();
        if escapes % 2 == 1 {
            out += &with_upper_case_escapes(&rest[..=open]);
            rest = &rest[open + 1..];
            continue;
        }
        // `]` right behind the bracket, or behind `^`, is a literal.
        let first = rest[open + 1..].trim_start_matches('^').trim_start_matches(']');
        let close = first.find(']').map_or(rest.len(), |at| rest.len() - first.len() + at);
        out += &with_upper_case_escapes(before);
        out += &rest[open..close];
        rest = &rest[close..];
    }
    out + &with_upper_case_escapes(rest)
}

fn with_upper_case_escapes(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    path::raise_digits(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The normal form of a path, or a remedy if it has none.
fn normal_form(text: Text<'_>) -> Result<String, String> {
    if text.value.starts_with(['^', '~']) {
        return Err(
            "a path starts with \"/\"; for an expression write `path_regex`, which is matched against the whole path"
                .to_owned(),
        );
    }
    if !text.value.starts_with('/') {
        return Err("a path starts with \"/\"".to_owned());
    }
    if text.value.contains(['?', '#']) {
        return Err("write the path alone; conditions on the query stand in `query`".to_owned());
    }
    if !text.value.bytes().all(|c| c.is_ascii_graphic()) {
        return Err("write the form that is on the wire: other characters are percent-encoded".to_owned());
    }
    let sent = text.value.as_bytes();
    let mut forms = Forms::with_capacity(sent.len());
    if let Err(error) = forms.read(sent, Rules { strict: true, ..Rules::default() }) {
        return Err(format!("readers disagree about its meaning ({})", error.reason()));
    }
    let normal = String::from_utf8_lossy(forms.normal(sent)).into_owned();
    match forms.rewritable(sent) {
        same if same == sent => Ok(normal),
        _ if text.shown != text.value => Err("requests have it in its normal form".to_owned()),
        _ => Err(format!("requests have it in its normal form: \"{normal}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::expression;

    #[test]
    fn escapes_of_expressions_are_in_upper_case() {
        for (text, expected) in [
            ("/caf%c3%a9/.*", "/caf%C3%A9/.*"),
            ("/%2f{2}|%ab?", "/%2F{2}|%AB?"),
            ("/[%2f]%2f[^%ab]%ab", "/[%2f]%2F[^%ab]%AB"),
            ("/[]%2f]%2f", "/[]%2f]%2F"),
            ("/[^]%2f]+%2f[a", "/[^]%2f]+%2F[a"),
            ("/%zz/%a", "/%zz/%a"),
            (r"/\[%2f\]\\[%2f]", r"/\[%2F\]\\[%2f]"),
            ("/caf\u{e9}%c3", "/caf\u{e9}%C3"),
        ] {
            assert_eq!(expression(text), expected);
        }
    }
}
