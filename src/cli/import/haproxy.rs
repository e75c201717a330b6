//! The grammar of HAProxy: text to sections and lines of words. Not here: what lines mean (`from_haproxy`).

use cairn::config::{Problems, SourceSpan};

use super::files::Files;
use super::words::{self, ENV_CLOSE, ENV_OPEN};

/// Most lines.
const LINES_MAX: usize = 1_000_000;
/// Most words of a line; HAProxy has a smaller bound of its own.
const WORDS_MAX: usize = 4096;
/// Sections of HAProxy. Each has a name or not; none of these words begins another line.
const SECTIONS: [&str; 20] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "resolvers",
    "peers",
    "mailers",
    "userlist",
    "cache",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "log-profile",
    "acme",
    "dynamic-update",
];

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    /// Position among all lines.
    pub(super) id: usize,
    pub(super) span: SourceSpan,
    pub(super) words: Vec<Word>,
}

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Whether quotes or escapes made any of it, so that it is no brace or operator.
    pub(super) quoted: bool,
}

impl Line {
    /// A word; empty if there is none.
    pub(super) fn word(&self, position: usize) -> &str {
        self.words.get(position).map_or("", |word| &word.text)
    }

    /// The words from a position on.
    pub(super) fn from(&self, position: usize) -> &[Word] {
        self.words.get(position..).unwrap_or_default()
    }
}

/// A section.
#[derive(Debug)]
pub(super) struct Section {
    /// Its first line, which names it.
    pub(super) head: Line,
    pub(super) lines: Vec<Line>,
}

impl Section {
    /// `frontend`, `backend`, …
    pub(super) fn kind(&self) -> &str {
        self.head.word(0)
    }

    pub(super) fn name(&self) -> &str {
        self.head.word(1)
    }

    /// Position of its last line.
    pub(super) fn last(&self) -> usize {
        self.lines.last().map_or(self.head.id, |line| line.id)
    }
}

/// Whether a word begins a section.
pub(super) fn is_section(word: &str) -> bool {
    SECTIONS.contains(&word)
}

/// Parses a file. `count`: lines before it.
pub(super) fn parse(files: &Files, file: usize, problems: &mut Problems) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut count = 0;
    let mut start = 0;
    for text in files.text(file).split_inclusive('\n') {
        let (begin, line) = (start, text.trim_end_matches(['\n', '\r']));
        start += text.len();
        let words = match (Lexer { text: line, at: 0 }).words() {
            Ok(words) => words,
            Err((at, message, help)) => {
                let end = begin + at + line[at..].chars().next().map_or(0, char::len_utf8);
                problems.add(SourceSpan { file, start: begin + at, end }, message).help(help);
                continue;
            }
        };
        if words.is_empty() {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let span = SourceSpan { file, start: begin + indent, end: begin + line.trim_end().len() };
        let line = Line { id: count, span, words };
        count += 1;
        if count > LINES_MAX {
            problems.add(span, format!("these are more than {LINES_MAX} lines")).help("import parts of it");
            break;
        }
        if is_section(line.word(0)) {
            sections.push(Section { head: line, lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else {
            let word = line.word(0).to_owned();
            problems
                .add(span, format!("`{word}` stands in no section"))
                .help("a file begins with a section: global, defaults, frontend, backend or listen");
        }
    }
    sections
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// Where in the line, what, and the remedy.
type Fault = (usize, String, &'static str);

/// A quotation that begins at `at` and does not end on its line.
fn open_quotation(at: usize) -> Fault {
    (at, "the quotation does not end".to_owned(), "close it with the same mark, on this line")
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.text[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// The words up to the end or a comment.
    fn words(&mut self) -> Result<Vec<Word>, Fault> {
        let mut words = Vec::new();
        let mut word: Option<Word> = None;
        loop {
            let at = self.at;
            let next = self.next();
            match next {
                Some(c) if c.is_ascii_whitespace() => words.extend(word.take()),
                Some('#') | None => {
                    words.extend(word.take());
                    break;
                }
                Some(c) => {
                    let word = word.get_or_insert_with(|| Word { text: String::new(), quoted: false });
                    match c {
                        '\'' => self.single(at, word)?,
                        '"' => self.double(at, word)?,
                        '\\' => self.escape(at, word)?,
                        c => word.text.push(words::shown(c)),
                    }
                }
            }
            if words.len() > WORDS_MAX {
                return Err((at, format!("the line has more than {WORDS_MAX} words"), "cut it into several"));
            }
        }
        Ok(words)
    }

    fn single(&mut self, at: usize, word: &mut Word) -> Result<(), Fault> {
        word.quoted = true;
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => word.text.push(words::shown(c)),
                None => return Err(open_quotation(at)),
            }
        }
    }

    fn double(&mut self, at: usize, word: &mut Word) -> Result<(), Fault> {
        word.quoted = true;
        loop {
            let begin = self.at;
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => self.escape(begin, word)?,
                Some('$') => self.variable(begin, word)?,
                Some(c) => word.text.push(words::shown(c)),
                None => return Err(open_quotation(at)),
            }
        }
    }

    /// What follows a backslash. It stays before characters that it does not change, for expressions.
    fn escape(&mut self, at: usize, word: &mut Word) -> Result<(), Fault> {
        word.quoted = true;
        let c = match self.peek() {
            Some(c @ (' ' | '\\' | '#' | '"' | '\'' | '$')) => c,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('x') => {
                let digits = self.text.get(self.at + 1..self.at + 3);
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let Some(byte) = byte else {
                    return Err((
                        at,
                        "`\\x` is not followed by two hexadecimal digits".to_owned(),
                        "write \\x20, for instance",
                    ));
                };
                self.at += 3;
                word.text.push(words::shown(char::from(byte)));
                return Ok(());
            }
            Some(_) => {
                word.text.push('\\');
                return Ok(());
            }
            None => {
                return Err((
                    at,
                    "the line ends with a backslash".to_owned(),
                    "HAProxy joins no lines: write it in one",
                ));
            }
        };
        self.next();
        word.text.push(c);
        Ok(())
    }

    /// A variable of the environment behind a dollar: `$NAME`, `${NAME}` or `${NAME-default}`.
    fn variable(&mut self, at: usize, word: &mut Word) -> Result<(), Fault> {
        let braced = self.peek() == Some('{');
        if braced {
            self.next();
        }
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.')).count();
        if length == 0 {
            return Err((at, "`$` is not followed by a name".to_owned(), "write `\\$` for the character itself"));
        }
        let name = rest[..length].to_owned();
        self.at += length;
        if braced {
            match self.text[self.at..].find('}') {
                Some(end) => self.at += end + 1,
                None => return Err((at, "the name of the variable does not end".to_owned(), "close it with `}`")),
            }
        }
        word.text.push(ENV_OPEN);
        word.text += &name;
        word.text.push(ENV_CLOSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Lexer { text, at: 0 }.words().unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_and_escapes_are_those_of_haproxy() {
        for (text, expected) in [
            ("a b\t c # d", &["a", "b", "c"][..]),
            (r"a\ b 'c d' e'f g'h", &["a b", "c d", "ef gh"]),
            (r"path_reg ^/v[0-9]+\.x\\y", &["path_reg", r"^/v[0-9]+\.x\y"]),
            (r#""a\"b" '\"' \x41#"#, &[r#"a"b"#, r#"\""#, "A"]),
            (r#""$HOST:${PORT-80}" $NOT"#, &["\u{1}HOST\u{2}:\u{1}PORT\u{2}", "$NOT"]),
            (r"\# '' #", &["#", ""]),
            ("", &[]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn faults_have_a_place() {
        for (text, at) in [("a 'b", 2), ("a \"b", 2), ("a \\", 2), (r"\xg", 0), ("\"$\"", 1), ("\"${A\"", 1)] {
            assert_eq!(Lexer { text, at: 0 }.words().map_err(|(at, ..)| at), Err(at), "{text}");
        }
    }
}
