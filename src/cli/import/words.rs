//! References inside of words: variables of the environment, and those of a request. Not here: the grammars, or writing (`output`).

pub(super) use cairn::route::template::{CLOSE as ENV_CLOSE, OPEN as ENV_OPEN, mark as variable};

/// Begins a word that names a file whose content is meant.
pub(super) const FILE: char = '\u{3}';

/// A character of a file as it stands in a word: those that mark references cannot be forged.
pub(super) fn shown(c: char) -> char {
    if matches!(c, ENV_OPEN | ENV_CLOSE | FILE | '\0') { char::REPLACEMENT_CHARACTER } else { c }
}

/// Whether a word holds a variable of the request, which have a dot in their names.
pub(super) fn has_request_variable(text: &str) -> bool {
    text.split(ENV_OPEN).skip(1).any(|rest| rest.split(ENV_CLOSE).next().is_some_and(|name| name.contains('.')))
}

/// Whether a word is a variable of the request, and nothing else, that some requests do not have.
pub(super) fn may_be_empty(text: &str) -> bool {
    let name = text.strip_prefix(ENV_OPEN).and_then(|rest| rest.strip_suffix(ENV_CLOSE));
    let absent = ["header.", "tls.", "request.query", "regex."];
    name.is_some_and(|name| !name.contains(ENV_CLOSE) && absent.iter().any(|it| name.starts_with(it)))
}

/// Whether a word holds what an expression has captured.
pub(super) fn has_capture(text: &str) -> bool {
    text.contains(&format!("{ENV_OPEN}regex."))
}

/// The texts and the variables of a word, in turn, beginning with a text.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split([ENV_OPEN, ENV_CLOSE])
}
