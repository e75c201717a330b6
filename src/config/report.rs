//! Problems of a configuration, collected and reported at once, each with its place and its remedy. `cairn-load` reports those of its
//! scenario files by it, too. Not here: finding problems (`check`, `listener`, `route`, `cluster`).

use std::fmt::{self, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use memchr::memchr_iter;
use toml::Spanned;

use crate::printable::{is_command, printable};

/// Most problems that a report shows. Of the rest, it gives the number.
const SHOWN: usize = 50;
/// Most problems that are kept, so that the first ones in file order can be shown. The others are only counted.
const KEPT: usize = 4 * SHOWN;
/// Longest message, note or remedy, bytes: they quote values of files.
const MESSAGE_BYTES: usize = 500;
/// Longest excerpt of a line, bytes.
const EXCERPT_BYTES: usize = 200;
/// Mark in place of text that was cut off.
const ELLIPSIS: char = '…';

/// One configuration file, kept for excerpts.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path as the operator wrote it, so that editors find the file.
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
    /// Computed when a place is looked up for the first time.
    lines: Arc<OnceLock<Lines>>,
}

/// Where the lines of a text begin.
#[derive(Debug)]
struct Lines {
    starts: Vec<usize>,
    /// Offset behind the last character that is not white space.
    end: usize,
}

impl Source {
    /// A file named `name` with this text.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into(), lines: Arc::default() }
    }

    /// Directory to which paths in the file are relative.
    pub(super) fn directory(&self) -> &Path {
        Path::new(&*self.name).parent().unwrap_or(Path::new(""))
    }

    fn lines(&self) -> &Lines {
        self.lines.get_or_init(|| Lines::of(&self.text))
    }
}

impl Lines {
    fn of(text: &str) -> Self {
        let behind = memchr_iter(b'\n', text.as_bytes()).map(|newline| newline + 1);
        Self { starts: std::iter::once(0).chain(behind).collect(), end: text.trim_end().len() }
    }

    /// Index of the line that holds the byte `at`. For places in trailing white space, such as the end of the file, the last line
    /// with text.
    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at.min(self.end)) - 1
    }
}

/// A range of bytes in one [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceSpan {
    /// Index of the source in its report.
    pub file: usize,
    /// Where it begins.
    pub start: usize,
    /// Where the text behind it begins.
    pub end: usize,
}

impl SourceSpan {
    /// The beginning of the first file, for problems that have no place.
    pub const START: Self = Self { file: 0, start: 0, end: 0 };

    /// Place of a node of a file.
    #[must_use]
    pub fn of<T>(file: usize, node: &Spanned<T>) -> Self {
        let span = node.span();
        Self { file, start: span.start, end: span.end }
    }
}

/// One problem and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    span: SourceSpan,
    message: String,
    notes: Vec<(SourceSpan, String)>,
    help: Option<String>,
    alone: bool,
}

impl Problem {
    /// Adds a further place with a message.
    pub fn note(&mut self, span: SourceSpan, message: impl Into<String>) -> &mut Self {
        self.notes.push((span, clipped(message.into())));
        self
    }

    /// Sets the remedy.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(clipped(help.into()));
        self
    }

    /// Suppresses other problems at the same place, which are consequences of this one.
    pub fn alone(&mut self) -> &mut Self {
        self.alone = true;
        self
    }
}

/// The problems found so far. Holds at most [`KEPT`] of them and counts the rest.
#[derive(Debug, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    /// Number of problems that are not kept.
    beyond: usize,
    /// The last problem that is not kept, for the return value of [`Problems::add`].
    spare: Option<Problem>,
}

impl Problems {
    /// Adds a problem. Notes and help are added to the returned reference.
    pub fn add(&mut self, span: SourceSpan, message: impl Into<String>) -> &mut Problem {
        let problem = Problem { span, message: clipped(message.into()), notes: Vec::new(), help: None, alone: false };
        self.settle();
        if self.is_full() {
            self.beyond += 1;
            return self.spare.insert(problem);
        }
        let at = self.kept.len();
        self.kept.push(problem);
        &mut self.kept[at]
    }

    /// Drops the last problem if it was known: what many items inherit is wrong once.
    fn settle(&mut self) {
        if let Some((last, before)) = self.kept.split_last()
            && before.contains(last)
        {
            self.kept.pop();
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether further problems are only counted, so that callers need not spend time on their texts.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= KEPT
    }

    /// Adds the problems of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        let room = KEPT.saturating_sub(self.kept.len());
        self.beyond += other.beyond + other.kept.len().saturating_sub(room);
        self.kept.extend(other.kept.into_iter().take(room));
    }
}

/// All problems of a configuration. Its text has `file:line:column: error: message` for each of the first [`SHOWN`], with an
/// excerpt and a remedy, then the number of further ones.
#[derive(Clone, Debug)]
pub struct Report {
    text: Arc<str>,
    errors: usize,
}

impl Report {
    /// A report of `problems` in file order.
    #[must_use]
    pub fn new(sources: &[Source], mut problems: Problems) -> Self {
        problems.settle();
        let Problems { kept: mut problems, beyond, .. } = problems;
        let alone: Vec<_> = problems.iter().filter(|problem| problem.alone).map(|problem| problem.span).collect();
        problems.retain(|problem| problem.alone || !alone.contains(&problem.span));
        problems.sort_by_key(|problem| problem.span);
        let (mut text, errors) = (String::new(), problems.len() + beyond);
        for problem in problems.iter().take(SHOWN) {
            // Writing to a string cannot fail.
            let _ = problem.write(&mut text, sources);
        }
        Self::of(text, errors)
    }

    /// A report of files that cannot be read: `(file, why)`.
    #[must_use]
    pub fn unreadable(files: Vec<(String, String)>) -> Self {
        let errors = files.len();
        let line = |(file, why): (String, String)| format!("{}: error: {}\n", printable(&file), printable(&why));
        let lines = files.into_iter().take(SHOWN).map(line);
        Self::of(lines.collect(), errors)
    }

    fn of(mut text: String, errors: usize) -> Self {
        if errors > SHOWN {
            let _ = writeln!(text, "and {} more", errors - SHOWN);
        }
        Self { text: text.into(), errors }
    }

    /// The text, shared.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Number of errors; never 0.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Report {}

impl Problem {
    fn write(&self, out: &mut String, sources: &[Source]) -> fmt::Result {
        entry(out, sources, "error", self.span, &self.message)?;
        for (span, message) in &self.notes {
            entry(out, sources, "note", *span, message)?;
        }
        self.help.as_ref().map_or(Ok(()), |help| writeln!(out, "      help: {}", printable(help)))
    }
}

/// Writes `file:line:column: level: message`, then the line with carets below the place.
fn entry(out: &mut String, sources: &[Source], level: &str, span: SourceSpan, message: &str) -> fmt::Result {
    let message = printable(message);
    let Some(source) = sources.get(span.file) else { return writeln!(out, "{level}: {message}") };
    let excerpt = Excerpt::of(source, span);
    writeln!(out, "{}:{}:{}: {level}: {message}", printable(&source.name), excerpt.line, excerpt.column)?;
    writeln!(out, "{:>5} | {}", excerpt.line, excerpt.text)?;
    writeln!(out, "{:>5} | {}{}", "", excerpt.indent, "^".repeat(excerpt.carets))
}

/// The place as `file:line`.
pub(super) fn line(sources: &[Source], span: SourceSpan) -> String {
    let source = sources.get(span.file);
    source
        .map(|source| format!("{}:{}", printable(&source.name), source.lines().line(span.start) + 1))
        .unwrap_or_default()
}

/// The line on which a place starts, with what is needed to mark the place.
struct Excerpt {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// The line, or [`EXCERPT_BYTES`] of it around the place.
    text: String,
    /// Blanks as wide as the text before the place; tabs stay tabs.
    indent: String,
    /// Width of the place, at least 1. A place of several lines ends with its first line here.
    carets: usize,
}

impl Excerpt {
    fn of(source: &Source, span: SourceSpan) -> Self {
        let (text, lines) = (&*source.text, source.lines());
        // A place at the end of the file is shown behind the last text.
        let start = boundary(text, span.start.min(lines.end));
        let line = lines.line(start);
        let line_start = lines.starts[line];
        let line_end = lines.starts.get(line + 1).map_or(text.len(), |next| next - 1);
        let end = boundary(text, span.end.min(line_end)).max(start);
        let written = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        // The place is in the middle of the excerpt, unless the line begins or ends before.
        let from = line_start
            .max(start.saturating_sub(EXCERPT_BYTES / 2))
            .min(written.saturating_sub(EXCERPT_BYTES).max(line_start));
        let from = boundary(text, from);
        let to = boundary(text, written.min(from + EXCERPT_BYTES)).max(from);
        let (cut_before, cut_after) = (from > line_start, to < written);
        let mark = |cut: bool| if cut { ELLIPSIS.to_string() } else { String::new() };
        let before = text[from..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' });
        Self {
            line: line + 1,
            column: text[line_start..start].chars().count() + 1,
            text: format!("{}{}{}", mark(cut_before), replaced(&text[from..to]), mark(cut_after)),
            indent: cut_before.then_some(' ').into_iter().chain(before).collect(),
            carets: text[start..end.min(to).max(start)].trim_end().chars().count().max(1),
        }
    }
}

/// `line` with U+FFFD in place of each control character but the tab. The number of characters stays, so that carets fit.
fn replaced(line: &str) -> String {
    let mark =
        |character| if character != '\t' && is_command(character) { char::REPLACEMENT_CHARACTER } else { character };
    line.chars().map(mark).collect()
}

/// The last character boundary of `text` at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// `text` cut to [`MESSAGE_BYTES`].
fn clipped(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        text.truncate(boundary(&text, MESSAGE_BYTES));
        text.push(ELLIPSIS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_point_at_characters_not_bytes() {
        let cases = [
            ("a = 1\nb = 2\n", 6..7, (2, 1, "b = 2", "", 1)),
            ("\té = [1,\n2]\n", 6..13, (1, 6, "\té = [1,", "\t    ", 3)),
            ("a = \n\n", 6..6, (1, 4, "a = ", "   ", 1)),
            ("", 0..0, (1, 1, "", "", 1)),
            ("a = 1\r\nb\r\n", 7..8, (2, 1, "b", "", 1)),
        ];
        for (text, span, expected) in cases {
            let source = Source::new("", text);
            let excerpt = Excerpt::of(&source, SourceSpan { file: 0, start: span.start, end: span.end });
            let found = (excerpt.line, excerpt.column, &*excerpt.text, excerpt.indent.as_str(), excerpt.carets);
            assert_eq!(found, expected, "{text:?}");
        }
    }

    /// What a tenant writes is quoted in the operator's log and terminal.
    #[test]
    fn quoted_text_cannot_forge_lines_or_command_a_terminal() {
        let evil = "a\ncairn: ready, 99 workers\u{1b}[2J\u{202e}\u{9b}\t\u{2028}é";
        let mut problems = Problems::default();
        problems
            .add(SourceSpan { file: 0, start: 0, end: 1 }, evil)
            .help(evil)
            .note(SourceSpan { file: 9, start: 0, end: 0 }, evil);
        let text = Report::new(&[Source::new(evil, "\tk = '\u{1b}[2J\u{9b}\u{202e}'\n")], problems).to_string();
        let escaped = r"a\ncairn: ready, 99 workers\u{1b}[2J\u{202e}\u{9b}\t\u{2028}é";
        let expected = format!(
            "{escaped}:1:1: error: {escaped}\n    1 | \tk = '\u{fffd}[2J\u{fffd}\u{fffd}'\n      | ^\nnote: {escaped}\n      help: {escaped}\n"
        );
        assert_eq!(text, expected);
        let unreadable = Report::unreadable(vec![(evil.to_owned(), evil.to_owned())]).to_string();
        assert_eq!(unreadable, format!("{escaped}: error: {escaped}\n"));
    }

    #[test]
    fn excerpts_of_long_lines_stand_around_the_place() {
        let text = format!("short\n{}\n", "é".repeat(1 << 20));
        let source = Source::new("", &text);
        let last = text.len() - 3;
        for (at, column, carets, starts, ends) in
            [(6, 1, 100, false, true), (6 + 2000, 1001, 50, true, true), (last, 1 << 20, 1, true, false)]
        {
            let excerpt = Excerpt::of(&source, SourceSpan { file: 0, start: at, end: text.len() });
            assert_eq!((excerpt.line, excerpt.column, excerpt.carets), (2, column, carets), "{at}");
            assert_eq!((excerpt.text.starts_with('…'), excerpt.text.ends_with('…')), (starts, ends), "{at}");
            assert!(excerpt.text.len() <= EXCERPT_BYTES + 2 * ELLIPSIS.len_utf8(), "{at}");
            assert_eq!(excerpt.text.chars().nth(excerpt.indent.chars().count()), Some('é'), "{at}");
        }
    }

    #[test]
    fn reports_are_short_however_much_is_wrong() {
        let text = format!("{}\n", "x".repeat(1 << 20)).repeat(2);
        let (mut problems, long) = (Problems::default(), &text[..10_000]);
        for number in (0..20_000).rev() {
            let at = SourceSpan { file: 0, start: number, end: text.len() };
            problems.add(at, long).help(long).note(at, long);
        }
        let mut all = Problems::default();
        all.add(SourceSpan::START, "first");
        all.append(problems);
        assert!(all.kept.len() <= KEPT);
        let report = Report::new(&[Source::new("file", &text)], all);
        assert_eq!(report.errors(), 20_001);
        let text = report.to_string();
        assert!(text.starts_with("file:1:1: error: first\n") && text.ends_with("\nand 19951 more\n"), "{text}");
        assert!(text.len() < 64 * 1024 * 2, "{}", text.len());
    }

    /// Counted, because time depends on the machine: a line is looked up without a walk through the text.
    #[test]
    fn lines_are_found_in_an_index() {
        let text = "a\r\n\nbb\n\n  \n";
        let lines = Lines::of(text);
        assert_eq!(lines.starts, [0, 3, 4, 7, 8, 11]);
        let found: Vec<_> = (0..=text.len()).map(|at| lines.line(at)).collect();
        assert_eq!(found, [0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
    }
}
