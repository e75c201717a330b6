//! Edits of the fields of a head by a route, compiled to the bytes that are written. Not here: path and host (`rewrite`), writing
//! (`exchange`, `downstream`).

use super::spec::HeaderEdits;
use super::template::Template;
use crate::http::FieldName;
use crate::respond;

/// `set`, `add` and `remove` of one direction.
#[derive(Debug, Default)]
pub struct Edits {
    /// Names that are removed or set, lower case.
    removed: Box<[Box<[u8]>]>,
    /// Bit n: a removed name has n bytes; bit 63: 63 or more.
    lengths: u64,
    /// The bits of the names among `removed` that cairn knows.
    removed_names: u64,
    /// Field lines, each with its CRLF.
    appended: Template,
    /// The bits of the known names that are appended.
    appended_names: u64,
}

impl Edits {
    pub(super) fn compile(spec: &HeaderEdits) -> Self {
        let set = spec.set.iter().map(|(name, _)| name);
        let mut removed: Vec<Box<[u8]>> =
            spec.remove.iter().chain(set).map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        removed.sort();
        removed.dedup();
        let lengths = removed.iter().fold(0, |lengths, name| lengths | length_bit(name));
        let added = spec.set.iter().chain(&spec.add).fold(0, |bits, (name, _)| bits | known(name.as_bytes()));
        let lines = field_lines(spec.set.iter().chain(&spec.add));
        Self {
            lengths,
            removed_names: removed.iter().fold(0, |bits, name| bits | known(name)),
            appended_names: added,
            removed: removed.into(),
            appended: Template::compile(&lines),
        }
    }

    /// Field lines in the form of a configuration, after editing by `spec`, of which these edits were made.
    pub(super) fn apply(&self, lines: &str, spec: &HeaderEdits) -> String {
        let name = |line: &str| line.find(':').unwrap_or(line.len());
        let kept = lines.split_inclusive('\n').filter(|line| !self.removes(&line.as_bytes()[..name(line)]));
        kept.chain([&*field_lines(spec.set.iter().chain(&spec.add))]).collect()
    }

    /// Whether there is nothing to edit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths == 0 && self.appended.is_empty()
    }

    /// Whether a field of that name, in any case, is dropped: removed for good, or replaced by what is appended.
    #[must_use]
    #[inline]
    pub fn removes(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0 && self.removed.iter().any(|removed| removed.eq_ignore_ascii_case(name))
    }

    /// The bits of the known names (`FieldName::bit`) that are dropped.
    #[must_use]
    #[inline]
    pub fn removed_names(&self) -> u64 {
        self.removed_names
    }

    /// The bits of the known names that are dropped, replaced or appended.
    #[must_use]
    #[inline]
    pub fn names(&self) -> u64 {
        self.removed_names | self.appended_names
    }

    /// Field lines to write after the kept ones, each with its CRLF: what is set, then what is added.
    #[must_use]
    #[inline]
    pub fn appended(&self) -> &Template {
        &self.appended
    }
}

/// The edits of an answer that is made here.
#[derive(Clone, Copy, Debug)]
pub struct AnswerEdits<'a> {
    /// The edits of its route.
    pub edits: &'a Edits,
    /// What they append, with the values of variables.
    pub appended: &'a [u8],
}

impl respond::Edits for AnswerEdits<'_> {
    fn removes(&self, name: &[u8]) -> bool {
        self.edits.removes(name)
    }

    fn replaces(&self, name: &[u8]) -> bool {
        self.edits.removes(name) || self.edits.names() & known(name) != 0
    }

    fn appended(&self) -> &[u8] {
        self.appended
    }
}

/// Field lines, each with its CRLF.
pub(super) fn field_lines<'a>(fields: impl Iterator<Item = &'a (String, String)>) -> String {
    fields.map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// The bit of a known name; 0 for any other.
fn known(name: &[u8]) -> u64 {
    match FieldName::lookup(name) {
        FieldName::Other => 0,
        id => id.bit(),
    }
}

#[inline]
fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_remove_what_they_set() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let long = "x".repeat(80);
        let edits = Edits::compile(&HeaderEdits {
            set: vec![pair("X-A", "1")],
            add: vec![pair("x-b", "2")],
            remove: vec!["server".into(), long.clone()],
        });
        for (name, removed) in
            [("x-a", true), ("X-A", true), ("SERVER", true), ("x-b", false), ("x-c", false), ("", false)]
        {
            assert_eq!(edits.removes(name.as_bytes()), removed, "{name}");
        }
        assert!(edits.removes(long.as_bytes()));
        assert!(!edits.removes("y".repeat(80).as_bytes()));
        assert_eq!(edits.appended().plain(), Some(&b"X-A: 1\r\nx-b: 2\r\n"[..]));
        assert!(!edits.is_empty());
        assert!(Edits::default().is_empty());
    }
}
