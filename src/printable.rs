//! Text of others made safe to print: a tenant's file is quoted in the operator's log and terminal.
//! Bytes made text, too (`base64`). Not here: paths and header fields, which have rules of their own.

mod base64;
pub mod escape;

use std::borrow::Cow;

pub use base64::{DIGITS as BASE64_DIGITS, base64};

/// Whether a terminal or a reader of logs takes `character` for a command: line breaks, escape sequences, and those that turn the
/// direction of the text (Unicode Standard Annex #9, 2).
#[must_use]
pub fn is_command(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with escapes in place of commands: a file quoted in a log cannot write lines of its own into it.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(2 * text.len()), |mut escaped, character| {
        if is_command(character) {
            escaped.extend(character.escape_debug());
        } else {
            escaped.push(character);
        }
        escaped
    });
    Cow::Owned(escaped)
}

/// `text` of several lines: line breaks and tabs stay.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let is_layout = |character| matches!(character, '\n' | '\t');
    if !text.contains(|character| is_command(character) && !is_layout(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|character| if is_layout(character) { character } else { mark(character) }).collect())
}

/// [`char::REPLACEMENT_CHARACTER`] in place of a command.
fn mark(character: char) -> char {
    if is_command(character) { char::REPLACEMENT_CHARACTER } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_escaped_and_all_else_stays() {
        assert!(matches!(printable("é 日本 \"quoted\" \\"), Cow::Borrowed(_)));
        assert_eq!(
            printable("a\nb\r\t\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\u{2069}é"),
            r"a\nb\r\t\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\u{2069}é"
        );
        assert!(matches!(printable_lines("a\tb\n"), Cow::Borrowed(_)));
        assert_eq!(printable_lines("a\tb\n\u{1b}[2J\r\n"), "a\tb\n\u{fffd}[2J\u{fffd}\n");
    }
}
