//! New paths and queries of `redirect` and `rewrite`. Not here: their hosts (`host`).

use super::path;
use super::report::Problems;
use super::section::{Section, Text};
use crate::route::PathEdit;
use crate::route::template::fill;

/// What the keys `path`, `path_prefix` and `add_prefix` of `target` do to the paths of `route`.
pub(super) fn path_edit(route: Section<'_>, target: Section<'_>, problems: &mut Problems) -> Option<PathEdit> {
    if let Some(text) = target.text("path") {
        return Some(PathEdit::Whole(path::sent(
            text,
            "leave `path` out to keep the path; `path_prefix` replaces its beginning",
            problems,
        )));
    }
    if let Some(text) = target.text("add_prefix") {
        return Some(PathEdit::Add(path::sent(text, "write the prefix alone: the path is kept behind it", problems)));
    }
    let text = target.text("path_prefix")?;
    if route.has("path_regex") {
        problems
            .add(text.at, "`path_prefix` replaces what the route's `path` or `path_prefix` has matched")
            .help("an expression matches the whole path: write `path`, with ${regex.1} for its first group");
    }
    Some(PathEdit::Prefix(path::sent(text, "write the new prefix alone: what is behind the old one is kept", problems)))
}

/// A query. Reports what cannot stand in one (RFC 3986 section 3.4).
pub(super) fn query(text: Text<'_>, problems: &mut Problems) -> String {
    let filled = fill(text.value, |_| "x");
    let help = match filled.as_str() {
        query if query.starts_with('?') => "write it without `?`",
        query if query.contains('#') => "a fragment is no part of it: write `#` as %23",
        query if !query.bytes().all(|c| c.is_ascii_graphic()) => {
            "write the form that is on the wire: other characters are percent-encoded"
        }
        _ => return text.value.to_owned(),
    };
    problems.add(text.at, format!("\"{}\" is not a query", text.shown.escape_debug())).help(help);
    text.value.to_owned()
}
