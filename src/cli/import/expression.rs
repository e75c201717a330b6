//! Regular expressions of other proxies as cairn's, which match the whole of a value. Not here: matching (`cairn::route`).

use cairn::route::{expression_matches, try_expression};

/// Characters with a meaning in expressions.
const META: &str = r"\.+*?()|[]{}^$";

/// An expression that is searched for anywhere in a value, as one that matches the whole of the same values.
///
/// # Errors
/// Why there is none.
pub(super) fn whole(text: &str, insensitive: bool) -> Result<String, String> {
    let mut text = text.to_owned();
    let alternatives = has_alternatives(&text);
    let (mut before, mut behind) = (".*", ".*");
    if !alternatives {
        if let Some(rest) = text.strip_prefix('^') {
            (text, before) = (rest.to_owned(), "");
        }
        if ends_with_anchor(&text) {
            text.pop();
            behind = "";
        }
        if text.ends_with(".*") && !text.ends_with(r"\.*") || text.ends_with("(.*)") {
            behind = "";
        }
        if text.starts_with(".*") || text.starts_with("(.*)") {
            before = "";
        }
    } else {
        text = format!("(?:{text})");
    }
    let mode = if insensitive { "(?i)" } else { "" };
    let found = format!("{mode}{before}{text}{behind}");
    try_expression(&found).map(|_| found)
}

/// An expression for this text.
pub(super) fn literal(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if META.contains(c) {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

/// Whether the expression, which is cairn's, matches a value.
pub(super) fn matches(expression: &str, value: &str) -> bool {
    expression_matches(expression, value.as_bytes()).unwrap_or(true)
}

/// The text with which every value begins that the expression, which is cairn's, matches.
pub(super) fn prefix(expression: &str) -> String {
    let mut found = String::new();
    if has_alternatives(expression) {
        return found;
    }
    let mut characters = expression.chars().peekable();
    while let Some(c) = characters.next() {
        let literal = match c {
            '\\' => match characters.next() {
                Some(c) if c.is_ascii_punctuation() => c,
                _ => break,
            },
            c if META.contains(c) => break,
            c => c,
        };
        if matches!(characters.peek(), Some('*' | '?' | '{')) {
            break;
        }
        found.push(literal);
        if characters.peek() == Some(&'+') {
            break;
        }
    }
    found
}

/// Whether `|` stands outside of groups and classes.
fn has_alternatives(text: &str) -> bool {
    let (mut depth, mut in_class, mut escaped) = (0_i32, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// Whether it ends with a dollar that no backslash escapes.
fn ends_with_anchor(text: &str) -> bool {
    text.strip_suffix('$').is_some_and(|rest| (rest.len() - rest.trim_end_matches('\\').len()).is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_become_whole_matches() {
        for (text, expected) in [
            ("^/v[0-9]+/", "/v[0-9]+/.*"),
            (r"\.php$", r".*\.php"),
            ("^/a$", "/a"),
            ("^/a|b$", ".*(?:^/a|b$).*"),
            ("^(/a|/b)$", "(/a|/b)"),
            ("^/a(.*)$", "/a(.*)"),
            (r"\$", r".*\$.*"),
            ("x", ".*x.*"),
        ] {
            assert_eq!(whole(text, false).as_deref(), Ok(expected));
        }
        assert_eq!(whole("^/A", true).as_deref(), Ok("(?i)/A.*"));
        for (text, value, expected) in [("^/a|b$", "/ab", true), ("^/a|b$", "xb", true), ("^/a|b$", "x/ac", false)] {
            assert_eq!(matches(&whole(text, false).unwrap(), value), expected, "{text} {value}");
        }
        for text in ["(?=a)", r"(a)\1", "(", "a)(b"] {
            assert!(whole(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn values_begin_with_the_prefix() {
        for (text, expected) in [
            ("/v[0-9]+/.*", "/v"),
            (r"/a\.b.*", "/a.b"),
            ("/ab?c", "/a"),
            ("/ab+c", "/ab"),
            (".*x", ""),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            (r"/\d", "/"),
        ] {
            assert_eq!(prefix(text), expected, "{text}");
        }
    }
}
