//! The files of a configuration that is imported: their texts, places in them, and patterns of names. Not here: grammars.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cairn::config::{Source, SourceSpan};
use cairn::printable::printable;

/// Largest configuration, all files together, bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most files that one pattern names.
const MATCHES_MAX: usize = 10_000;
/// Longest quotation of a directive in a comment, characters.
const QUOTE_CHARS: usize = 160;

/// How files are read: by path, at most so many bytes.
pub(super) type Reader = fn(&Path, u64) -> io::Result<Vec<u8>>;

/// All files that were read.
#[derive(Debug)]
pub(super) struct Files {
    /// For reports of errors.
    pub(super) sources: Vec<Source>,
    texts: Vec<File>,
    reader: Reader,
    /// Bytes that may still be read.
    left: u64,
}

#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
}

impl Files {
    pub(super) fn new(reader: Reader) -> Self {
        Self { sources: Vec::new(), texts: Vec::new(), reader, left: BYTES_MAX }
    }

    /// Reads a file and returns its index. Bytes that are not UTF-8 become U+FFFD.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<usize> {
        let bytes = (self.reader)(path, self.left)?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(self.add(&path.display().to_string(), &bytes))
    }

    /// Takes a text as a file named so.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) -> usize {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let behind = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(behind).collect();
        self.sources.push(Source::new(name, &text));
        self.texts.push(File { name: name.to_owned(), text, lines });
        self.texts.len() - 1
    }

    /// Text of a file.
    pub(super) fn text(&self, file: usize) -> &str {
        self.texts.get(file).map_or("", |file| &file.text)
    }

    /// Whether a file was read whose name ends so.
    pub(super) fn sources_named(&self, end: &str) -> bool {
        self.texts.iter().any(|file| file.name.ends_with(end))
    }

    /// `FILE:LINE`
    pub(super) fn place(&self, span: SourceSpan) -> String {
        let Some(file) = self.texts.get(span.file) else { return String::new() };
        let line = file.lines.partition_point(|start| *start <= span.start);
        format!("{}:{line}", printable(&file.name))
    }

    /// What stands at a place, in one line.
    pub(super) fn quote(&self, span: SourceSpan) -> String {
        let text = self.text(span.file).get(span.start..span.end).unwrap_or_default();
        let words: Vec<_> = text.split_whitespace().collect();
        clipped(&printable(&words.join(" ")), QUOTE_CHARS)
    }
}

/// At most so many characters of a text.
pub(super) fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads a plain file. Devices and pipes have no end.
pub(super) fn read_plain(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("the configuration has more than {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Plain files that a path with `*`, `?` and `[…]` names, in order; a path without them names itself.
pub(super) fn matches(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let Some(text) = part.to_str().filter(|text| is_pattern(text)) else {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let mut deeper = Vec::new();
        for folder in &found {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let mut names: Vec<_> = names.filter(|name| !name.starts_with('.') && fits(text, name)).collect();
            names.sort_unstable();
            deeper.extend(names.into_iter().take(MATCHES_MAX).map(|name| match folder == Path::new(".") {
                true => PathBuf::from(name),
                false => folder.join(name),
            }));
        }
        deeper.truncate(MATCHES_MAX);
        found = deeper;
    }
    found
}

/// Whether a path holds wildcards.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether a name fits a pattern. Looks back at the last `*` alone, so that the time is bounded by the product of both lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at, position));
                at += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[at..], name[position]),
            Some(c) if *c == name[position] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => (at, position) = (at + length, position + 1),
            (None, Some((star_at, taken))) => {
                star = Some((star_at, taken + 1));
                (at, position) = (star_at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// Length of the class `[…]` at the beginning, if it holds the character.
fn class(pattern: &[char], character: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let end = pattern.iter().skip(first + 1).position(|c| *c == ']')? + first + 1;
    let set = &pattern[first..end];
    let mut held = false;
    let mut at = 0;
    while at < set.len() {
        match set.get(at..at + 3) {
            Some([low, '-', high]) => {
                held |= (*low..=*high).contains(&character);
                at += 3;
            }
            _ => {
                held |= set[at] == character;
                at += 1;
            }
        }
    }
    (held != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[0-9][!a]*", "10x", true),
            ("[0-9][!a]*", "1a", false),
            ("*a*b", "xaybzb", true),
            ("[", "[", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
