//! What an import makes: tables of TOML, and comments at the place of what they are about. Not here: what becomes what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cairn::config::SourceSpan;
use cairn::printable::printable;

use super::files::Files;
use super::words::{ENV_CLOSE, ENV_OPEN, FILE};

/// Longest line, characters, before an array is written in several.
const WIDTH: usize = 118;

/// First and last position of the directives that became something.
pub(super) type Range = (usize, usize);

/// A table, or comments alone.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) range: Range,
    /// Said before all comments.
    pub(super) heading: Vec<String>,
    /// `[[route]]`, …; empty: no table.
    pub(super) title: &'static str,
    /// Keys with their values, as they are written.
    pub(super) keys: Vec<(String, String)>,
}

impl Block {
    pub(super) fn key(&mut self, key: &str, value: impl Into<String>) {
        self.keys.push((key.to_owned(), value.into()));
    }
}

/// What was not imported, and what was with another meaning.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    pub(super) files: &'a Files,
    comments: Vec<(usize, Vec<String>)>,
    said: BTreeSet<(usize, String)>,
    /// Directives that were not imported, by position.
    left: BTreeSet<usize>,
    /// Those that restrict who may do what and do not, or not always: the place, and which of the two.
    open: BTreeMap<usize, String>,
    /// Those that mean something else.
    differing: BTreeSet<usize>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(files: &'a Files) -> Self {
        let (comments, said, left, open) = (Vec::new(), BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        Self { files, comments, said, left, open, differing: BTreeSet::new() }
    }

    /// A directive is not imported.
    pub(super) fn left(&mut self, (id, span): (usize, SourceSpan), why: &str) {
        self.left.insert(id);
        self.say((id, span), "not imported", why);
    }

    /// The same, where what is around it has been said to be left out.
    pub(super) fn left_quietly(&mut self, id: usize) {
        self.left.insert(id);
    }

    /// A directive that restricts access is not imported, and nothing stands in its place.
    pub(super) fn open(&mut self, (id, span): (usize, SourceSpan), why: &str) {
        let (place, quote) = (self.files.place(span), self.files.quote(span));
        self.open.insert(id, format!("{place}: {quote} restricts access and is not imported"));
        self.left((id, span), why);
    }

    /// What restricts access stands there, and some requests that it is for are not kept out.
    pub(super) fn weaker(&mut self, id: usize, heading: &str, how: &str) {
        self.open.entry(id).or_insert_with(|| format!("{heading} restricts access, and not for all: {how}"));
        self.conflict(id, heading, how);
    }

    /// A directive is imported and means something else.
    pub(super) fn differs(&mut self, (id, span): (usize, SourceSpan), how: &str) {
        self.differing.insert(id);
        self.say((id, span), "differs", how);
    }

    /// What stands at a position means something else beside others. `heading`: what it is.
    pub(super) fn conflict(&mut self, id: usize, heading: &str, how: &str) {
        self.differing.insert(id);
        if self.said.insert((id, how.to_owned())) {
            self.comments.push((id, vec![heading.to_owned(), format!("  differs: {how}")]));
        }
    }

    fn say(&mut self, (id, span): (usize, SourceSpan), mark: &str, text: &str) {
        if self.said.insert((id, text.to_owned())) {
            let place = self.files.place(span);
            let lines = vec![format!("{place}: {}", self.files.quote(span)), format!("  {mark}: {text}")];
            self.comments.push((id, lines));
        }
    }

    /// The summary, for stderr. `missing`: what it takes to serve something, and is not there.
    pub(super) fn summary(&self, name: &str, total: usize, missing: Option<String>) -> String {
        let mut text = format!("{name}: {} of {total} directives are imported", total.saturating_sub(self.left.len()));
        if !self.left.is_empty() {
            let _ = write!(text, "; {} not, see \"not imported\"", self.left.len());
        }
        if !self.differing.is_empty() {
            let _ = write!(text, "; {} with another meaning, see \"differs\"", self.differing.len());
        }
        text.push('\n');
        for line in self.open.values() {
            let _ = writeln!(text, "warning: {line}");
        }
        if let Some(missing) = missing {
            let _ = writeln!(text, "warning: {name}: {missing}");
        }
        text
    }

    /// The document: each comment before the smallest block that holds its directive.
    pub(super) fn document(&self, blocks: &[Block]) -> String {
        let mut of_block: BTreeMap<usize, Vec<(usize, &[String])>> = BTreeMap::new();
        for (id, lines) in &self.comments {
            let holds = |(_, block): &(usize, &Block)| (block.range.0..=block.range.1).contains(id);
            let size = |(_, block): &(usize, &Block)| block.range.1 - block.range.0;
            let at = blocks.iter().enumerate().filter(holds).min_by_key(size).map_or(0, |(at, _)| at);
            of_block.entry(at).or_default().push((*id, lines));
        }
        let mut text = String::new();
        for (at, block) in blocks.iter().enumerate() {
            let mut comments = of_block.remove(&at).unwrap_or_default();
            comments.sort_by_key(|(id, _)| *id);
            let mut lines: Vec<&String> = block.heading.iter().collect();
            let mut last: Option<&String> = None;
            let mut comments = comments.into_iter().map(|(_, lines)| lines).peekable();
            while let Some(comment) = comments.next() {
                // One reason for several, and what the block itself is about, are said once.
                let same = comments.peek().is_some_and(|next| next.len() > 1 && next.last() == comment.last());
                let kept = if same { &comment[..comment.len() - 1] } else { comment };
                let repeated = |line: &String| block.heading.contains(line) || last == Some(line);
                lines.extend(kept.iter().filter(|line| !repeated(line)));
                last = comment.first();
            }
            if lines.is_empty() && block.title.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            lines.into_iter().for_each(|line| {
                let blank = if line.is_empty() { "#" } else { "# " };
                text.extend([blank, &*printable(line), "\n"]);
            });
            if !block.title.is_empty() {
                let _ = writeln!(text, "{}", block.title);
            }
            for (key, value) in &block.keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }
}

/// A string of TOML. References to the environment stay references, and nothing else becomes one.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    if text.starts_with('@') {
        out.push('@');
    }
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            ENV_OPEN => out.push_str("${"),
            ENV_CLOSE => out.push('}'),
            FILE => out.push('@'),
            '$' if characters.peek() == Some(&'{') => out.push_str("$$"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An array of values that are written already.
pub(super) fn array(key: &str, values: &[String]) -> String {
    let line = format!("[{}]", values.join(", "));
    if key.len() + line.chars().count() + 3 <= WIDTH || values.len() < 2 {
        return line;
    }
    let lines: String = values.iter().map(|value| format!("    {value},\n")).collect();
    format!("[\n{lines}]")
}

/// An array of strings.
pub(super) fn strings(key: &str, texts: &[String]) -> String {
    array(key, &texts.iter().map(|text| string(text)).collect::<Vec<_>>())
}

/// A key: bare where it can be.
pub(super) fn key(name: &str) -> String {
    let bare = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { string(name) }
}

/// A table in one line, of values that are written already.
pub(super) fn table(entries: &[(String, String)]) -> String {
    let entries: Vec<_> = entries.iter().map(|(name, value)| format!("{} = {value}", key(name))).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// A name for a listener, route or cluster: letters, digits, `-`, `_` and `.`, none of `taken`, to which it is added.
pub(super) fn name(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name = String::new();
    for c in wanted.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') => name.push(c),
            _ if name.ends_with('-') || name.is_empty() => {}
            _ => name.push('-'),
        }
    }
    let name: String = name.chars().take(56).collect();
    let name = name.trim_matches('-');
    let name = if name.is_empty() { "route" } else { name };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.unwrap_or_default();
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_hold_what_they_say() {
        for (text, expected) in [
            ("a\"b\\", r#""a\"b\\""#),
            ("@file", r#""@@file""#),
            ("\u{3}file", r#""@file""#),
            ("${A}", r#""$${A}""#),
            ("\u{1}A\u{2}", r#""${A}""#),
            ("a\n\u{7f}", r#""a\n\u007f""#),
            ("$", r#""$""#),
        ] {
            assert_eq!(string(text), expected);
        }
    }

    #[test]
    fn names_are_such_and_unique() {
        let mut taken = BTreeSet::new();
        let mut name = |wanted| name(wanted, &mut taken);
        assert_eq!(name("a.example /x//y"), "a.example-x-y");
        assert_eq!(name("a.example /x/y"), "a.example-x-y-2");
        assert_eq!(name("/"), "route");
        assert_eq!(name(&"x".repeat(100)), "x".repeat(56));
    }
}
