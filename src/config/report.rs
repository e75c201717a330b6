//! What is wrong with a configuration, all of it at once, each problem with its place and its cure.
//! Not here: finding problems (`check`, `listener`, `route`, `cluster`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;

/// One configuration file, kept for excerpts.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As the operator wrote it, so that editors find it.
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// What paths in it are relative to.
    pub(super) fn directory(&self) -> &Path {
        Path::new(&*self.name).parent().unwrap_or(Path::new(""))
    }
}

/// A range of bytes in one [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Position of the source in its report.
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Place {
    /// The beginning of the first file: for what stands nowhere.
    pub(super) const START: Self = Self { file: 0, start: 0, end: 0 };

    /// Where a node of a file stands.
    pub(super) fn of<T>(file: usize, node: &Spanned<T>) -> Self {
        let span = node.span();
        Self { file, start: span.start, end: span.end }
    }
}

/// One thing that is wrong, and how to put it right.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    place: Place,
    message: String,
    notes: Vec<(Place, String)>,
    help: Option<String>,
    alone: bool,
}

impl Problem {
    /// Names another place that matters: where the other one stands.
    pub(super) fn note(&mut self, place: Place, message: impl Into<String>) -> &mut Self {
        self.notes.push((place, message.into()));
        self
    }

    /// Says what to write instead.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Drops all else that is said about its place: it follows from this.
    pub(super) fn alone(&mut self) -> &mut Self {
        self.alone = true;
        self
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Records a problem; notes and help are added to what comes back.
    pub(super) fn add(&mut self, place: Place, message: impl Into<String>) -> &mut Problem {
        let at = self.0.len();
        self.0.push(Problem { place, message: message.into(), notes: Vec::new(), help: None, alone: false });
        &mut self.0[at]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// Every problem of a configuration. Its text is `file:line:column: error: message` for each, with an excerpt and a cure.
#[derive(Clone, Debug)]
pub struct Report {
    unreadable: Vec<String>,
    sources: Arc<[Source]>,
    problems: Vec<Problem>,
}

impl Report {
    /// Problems in file order.
    pub(super) fn new(sources: &[Source], problems: Problems) -> Self {
        let mut problems = problems.0;
        let alone: Vec<_> = problems.iter().filter(|problem| problem.alone).map(|problem| problem.place).collect();
        problems.retain(|problem| problem.alone || !alone.contains(&problem.place));
        problems.sort_by_key(|problem| problem.place);
        Self { unreadable: Vec::new(), sources: sources.into(), problems }
    }

    /// Files that could not be read at all: `(file, why)`.
    pub(super) fn unreadable(files: Vec<(String, String)>) -> Self {
        let unreadable = files.into_iter().map(|(file, why)| format!("{file}: error: {why}")).collect();
        Self { unreadable, sources: Arc::new([]), problems: Vec::new() }
    }

    /// How many errors it holds; never 0.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.unreadable.len() + self.problems.len()
    }

    /// Writes `file:line:column: level: message` and the line with carets below the place.
    fn entry(&self, f: &mut fmt::Formatter<'_>, level: &str, place: Place, message: &str) -> fmt::Result {
        let Some(source) = self.sources.get(place.file) else { return writeln!(f, "{level}: {message}") };
        let excerpt = Excerpt::of(&source.text, place);
        writeln!(f, "{}:{}:{}: {level}: {message}", source.name, excerpt.line, excerpt.column)?;
        writeln!(f, "{:>5} | {}", excerpt.line, excerpt.text)?;
        writeln!(f, "{:>5} | {}{}", "", excerpt.indent, "^".repeat(excerpt.carets))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.unreadable {
            writeln!(f, "{line}")?;
        }
        for problem in &self.problems {
            self.entry(f, "error", problem.place, &problem.message)?;
            for (place, message) in &problem.notes {
                self.entry(f, "note", *place, message)?;
            }
            if let Some(help) = &problem.help {
                writeln!(f, "      help: {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// `file:line`
pub(super) fn line(sources: &[Source], place: Place) -> String {
    let source = sources.get(place.file);
    source.map(|source| format!("{}:{}", source.name, Excerpt::of(&source.text, place).line)).unwrap_or_default()
}

/// The line on which a place starts, and where to point.
struct Excerpt<'a> {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    text: &'a str,
    /// As wide as the text before the place; tabs stay tabs.
    indent: String,
    /// At least 1; a place over several lines is marked to the end of its first.
    carets: usize,
}

impl<'a> Excerpt<'a> {
    fn of(text: &'a str, place: Place) -> Self {
        // A place at the end of a file lies beyond its last line: point behind the last thing written.
        let beyond = place.start >= text.trim_end().len();
        let start = if beyond { text.trim_end().len() } else { boundary(text, place.start) };
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let before = &text[line_start..start];
        let end = boundary(text, place.end.min(line_end)).max(start);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before.chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r'),
            indent: before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect(),
            carets: text[start..end].trim_end().chars().count().max(1),
        }
    }
}

/// The last place in `text` at or before `at` where a character starts or the text ends.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
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
            let excerpt = Excerpt::of(text, Place { file: 0, start: span.start, end: span.end });
            let found = (excerpt.line, excerpt.column, excerpt.text, excerpt.indent.as_str(), excerpt.carets);
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
