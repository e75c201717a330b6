//! The grammar of nginx: text to directives. Not here: what directives mean (`from_nginx`).

use std::path::{Path, PathBuf};

use cairn::config::{Problems, SourceSpan};

use super::files::{self, Files};
use super::words;

/// Deepest nesting of blocks, and of files that include others.
const DEPTH_MAX: usize = 50;
/// Most directives.
const DIRECTIVES_MAX: usize = 1_000_000;

/// One directive. Blocks are those of nginx's own modules and of its third-party modules alike.
#[derive(Debug)]
pub(super) struct Directive {
    /// Position among all directives, in the order in which nginx reads them.
    pub(super) id: usize,
    /// Position of the last one inside it; its own if there is none.
    pub(super) last: usize,
    /// From its name to the semicolon or the brace.
    pub(super) span: SourceSpan,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
    /// What became of an `include` that named no file that can be read.
    pub(super) missing: Option<String>,
}

impl Directive {
    /// An argument; empty if there is none.
    pub(super) fn argument(&self, position: usize) -> &str {
        self.arguments.get(position).map_or("", String::as_str)
    }

    /// What stands in the block.
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Parses file number `file` and what it includes. Files are relative to the folder of the first one.
pub(super) fn parse(files: &mut Files, file: usize, folder: &Path, problems: &mut Problems) -> Vec<Directive> {
    let mut parser = Parser { files, folder, problems, count: 0, including: Vec::new() };
    parser.file(file)
}

struct Parser<'a> {
    files: &'a mut Files,
    folder: &'a Path,
    problems: &'a mut Problems,
    count: usize,
    /// Files that are being read, the outermost first.
    including: Vec<PathBuf>,
}

/// What ends a token, or a file.
enum Token {
    Word(String, SourceSpan),
    Semicolon(SourceSpan),
    Open(SourceSpan),
    Close(SourceSpan),
    End(SourceSpan),
}

/// Reads one file.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    file: usize,
}

/// A problem, with its remedy.
type Fault = (SourceSpan, String, &'static str);

impl Parser<'_> {
    fn file(&mut self, file: usize) -> Vec<Directive> {
        let text = self.files.text(file).to_owned();
        let mut lexer = Lexer { text: &text, at: 0, file };
        let mut found = Vec::new();
        if let Err((span, message, help)) = self.block(&mut lexer, 0, None, &mut found) {
            self.problems.add(span, message).help(help);
        }
        found
    }

    /// Directives up to the brace that closes the block which `open` began, or to the end of the file.
    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        depth: usize,
        open: Option<SourceSpan>,
        found: &mut Vec<Directive>,
    ) -> Result<(), Fault> {
        loop {
            let (name, start) = match lexer.token()? {
                Token::Word(name, span) => (name, span),
                Token::End(span) => {
                    return match open {
                        None => Ok(()),
                        Some(_) => Err((span, "the file ends inside a block".to_owned(), "close it with `}`")),
                    };
                }
                Token::Close(span) => {
                    return match open {
                        Some(_) => Ok(()),
                        None => Err((span, "this `}` closes nothing".to_owned(), "take it out, or open a block")),
                    };
                }
                Token::Semicolon(span) | Token::Open(span) => {
                    return Err((span, "a directive has to begin here".to_owned(), "write its name before this"));
                }
            };
            self.directive(lexer, depth, (name, start), found)?;
        }
    }

    fn directive(
        &mut self,
        lexer: &mut Lexer<'_>,
        depth: usize,
        (name, start): (String, SourceSpan),
        found: &mut Vec<Directive>,
    ) -> Result<(), Fault> {
        let id = self.count;
        self.count += 1;
        if self.count > DIRECTIVES_MAX {
            return Err((start, format!("these are more than {DIRECTIVES_MAX} directives"), "import parts of it"));
        }
        let mut arguments = Vec::new();
        loop {
            let (end, opens) = match lexer.token()? {
                Token::Word(word, _) => {
                    arguments.push(word);
                    continue;
                }
                Token::Semicolon(span) => (span, false),
                Token::Open(span) => (span, true),
                Token::Close(_) | Token::End(_) => {
                    return Err((start, format!("`{name}` does not end"), "end a directive with `;`, or with a block"));
                }
            };
            let span = SourceSpan { end: end.end, ..start };
            let mut directive = Directive { id, last: id, span, name, arguments, block: None, missing: None };
            if opens {
                if depth >= DEPTH_MAX {
                    return Err((span, format!("blocks lie in more than {DEPTH_MAX} others"), "nest them less deeply"));
                }
                let mut block = Vec::new();
                if directive.name.ends_with("_by_lua_block") {
                    lexer.skip_lua(end)?;
                } else {
                    self.block(lexer, depth + 1, Some(end), &mut block)?;
                }
                directive.block = Some(block);
                directive.last = self.count - 1;
            } else if directive.name == "include" && directive.arguments.len() == 1 {
                return self.include(directive, found);
            }
            found.push(directive);
            return Ok(());
        }
    }

    /// Puts the directives of other files in the place of an `include`, behind it.
    fn include(&mut self, mut directive: Directive, found: &mut Vec<Directive>) -> Result<(), Fault> {
        let span = directive.span;
        let path = self.folder.join(directive.argument(0));
        let paths = files::matches(&path);
        if self.including.len() >= DEPTH_MAX || paths.iter().any(|path| self.including.contains(path)) {
            return Err((span, "this file includes itself".to_owned(), "take this line out"));
        }
        let mut included = Vec::new();
        for path in paths {
            match self.files.read(&path) {
                Ok(file) => {
                    self.including.push(path);
                    included.extend(self.file(file));
                    self.including.pop();
                }
                Err(error) => directive.missing = Some(error.to_string()),
            }
        }
        found.push(directive);
        found.extend(included);
        Ok(())
    }
}

impl Lexer<'_> {
    fn span(&self, start: usize) -> SourceSpan {
        SourceSpan { file: self.file, start, end: self.at }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.text[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn token(&mut self) -> Result<Token, Fault> {
        loop {
            let start = self.at;
            let Some(c) = self.next() else { return Ok(Token::End(self.span(start))) };
            match c {
                c if is_space(c) => {}
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                ';' => return Ok(Token::Semicolon(self.span(start))),
                '{' => return Ok(Token::Open(self.span(start))),
                '}' => return Ok(Token::Close(self.span(start))),
                '"' | '\'' => return self.quoted(c, start),
                c => return Ok(self.plain(c, start)),
            }
        }
    }

    fn quoted(&mut self, quote: char, start: usize) -> Result<Token, Fault> {
        let mut word = String::new();
        loop {
            match self.next() {
                Some('\\') => self.escape(&mut word),
                Some(c) if c == quote => break,
                Some(c) => word.push(words::shown(c)),
                None => {
                    let opening = SourceSpan { file: self.file, start, end: start + 1 };
                    return Err((opening, "the quotation does not end".to_owned(), "close it with the same mark"));
                }
            }
        }
        let span = self.span(start);
        if self.peek().is_some_and(|c| !is_space(c) && !matches!(c, ';' | '{' | ')')) {
            let behind = SourceSpan { start: self.at, end: self.at + 1, ..span };
            return Err((
                behind,
                "text follows a quotation at once".to_owned(),
                "put a space between, or quote all of it",
            ));
        }
        Ok(Token::Word(word, span))
    }

    fn plain(&mut self, first: char, start: usize) -> Token {
        let mut word = String::new();
        let mut c = first;
        loop {
            match c {
                '\\' => self.escape(&mut word),
                // A brace behind a dollar is one of a variable.
                '$' if self.peek() == Some('{') => {
                    self.next();
                    word.push_str("${");
                }
                c => word.push(words::shown(c)),
            }
            match self.peek() {
                Some(next) if !is_space(next) && !matches!(next, ';' | '{') => {
                    self.next();
                    c = next;
                }
                _ => return Token::Word(word, self.span(start)),
            }
        }
    }

    /// What follows a backslash. nginx takes it away before few characters, and leaves it to expressions before others.
    fn escape(&mut self, word: &mut String) {
        match self.next() {
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c) => word.extend(['\\', words::shown(c)]),
            None => word.push('\\'),
        }
    }

    /// Skips a block of Lua behind its opening brace. Braces in its strings and comments are counted, too, as few have any.
    fn skip_lua(&mut self, open: SourceSpan) -> Result<(), Fault> {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                Some(_) => {}
                None => return Err((open, "the block does not end".to_owned(), "close it with `}`")),
            }
        }
        Ok(())
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
