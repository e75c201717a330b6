//! Runs `tests/vectors/**/*.md`: message text in, what the parser made of it out. The cases are data, not code.
//!
//! A case is a heading, a block of input (`request`, `response METHOD` or `chunked`) and a block `result`.
//! Input lines end with CRLF unless the line ends with `\`; `\r \n \t \\ \xHH` stand for bytes, `\{a*300}` repeats.
//! `CAIRN_UPDATE_VECTORS=1` writes the results anew: read the difference before you believe it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use cairn::http::*;
use cairn::limits;

#[path = "vectors/input.rs"]
mod vectors;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEADER_BYTES,
    field_count: limits::HEADER_COUNT,
    request_line: limits::REQUEST_LINE_BYTES,
};

#[test]
fn vectors_give_their_results() {
    let update = std::env::var_os("CAIRN_UPDATE_VECTORS").is_some();
    let mut wrong = String::new();
    for file in vectors::files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let fresh = run_file(&file, &text);
        if update {
            std::fs::write(&file, fresh).unwrap();
        } else if let Some((want, got)) = text.lines().zip(fresh.lines()).find(|(want, got)| want != got) {
            writeln!(wrong, "{}:\n  want {want}\n  got  {got}", file.display()).unwrap();
        } else {
            assert_eq!(text, fresh, "{}", file.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The file with its results written anew.
fn run_file(file: &Path, text: &str) -> String {
    let mut out = String::new();
    let mut case = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            case = line;
        }
        let Some(kind) = line.strip_prefix("```") else {
            writeln!(out, "{line}").unwrap();
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if kind == "result" {
            continue;
        }
        let input = vectors::unescape(&block);
        let result = run_case(kind, &input);
        for cut in cuts(input.len()) {
            assert_eq!(render(kind, &input, &cut), result, "{} {case}: cut at {cut:?}", file.display());
        }
        writeln!(out, "```{kind}\n{}\n```\n```result\n{result}```", block.join("\n")).unwrap();
    }
    out
}

fn run_case(kind: &str, input: &[u8]) -> String {
    render(kind, input, &[])
}

/// Ways to cut an input: everywhere, and in two at each place (at some places if it is long).
fn cuts(len: usize) -> impl Iterator<Item = Vec<usize>> {
    let step = len / 2000 + 1;
    let everywhere = (len < 5000).then(|| (1..len).collect());
    everywhere.into_iter().chain((1..len).step_by(step).map(|cut| vec![cut]))
}

fn render(kind: &str, input: &[u8], cut: &[usize]) -> String {
    let feed = Feed { input, cut };
    let mut out = String::new();
    match kind.split_once(' ').unwrap_or((kind, "")) {
        ("request", _) => requests(feed, &mut out),
        ("response", method) => responses(feed, Method::lookup(method.as_bytes()), &mut out),
        ("chunked", _) => {
            chunked(feed, 0, &mut out);
        }
        _ => panic!("unknown block `{kind}`"),
    }
    out
}

/// An input that arrives in pieces.
#[derive(Clone, Copy)]
struct Feed<'a> {
    input: &'a [u8],
    cut: &'a [usize],
}

impl<'a> Feed<'a> {
    /// Ends of what has arrived, beyond `at`.
    fn ends(self, at: usize) -> impl Iterator<Item = usize> + 'a {
        let len = self.input.len();
        self.cut.iter().copied().filter(move |cut| *cut > at && *cut < len).chain([len])
    }

    /// Calls `parse` with more and more of the input from `at` on until it knows.
    fn parse<T, E>(
        self,
        at: usize,
        mut parse: impl FnMut(&[u8], &mut usize) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut scanned = 0;
        for end in self.ends(at) {
            if let Some(found) = parse(&self.input[at..end], &mut scanned)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn requests(feed: Feed<'_>, out: &mut String) {
    let mut head = RequestHead::new();
    let mut at = 0;
    while at < feed.input.len() {
        match feed.parse(at, |buf, scanned| parse_request(buf, &LIMITS, scanned, &mut head)) {
            Err(error) => return writeln!(out, "error {} {}", error.status(), error.reason()).unwrap(),
            Ok(None) => return writeln!(out, "partial").unwrap(),
            Ok(Some(len)) => {
                write_request(&head, &feed.input[at..at + len], out);
                match body(feed, at + len, head.body, out) {
                    Some(end) if head.keep_alive => at = end,
                    Some(end) => return write_left_over(feed.input, end, out),
                    None => return,
                }
            }
        }
    }
}

fn write_left_over(input: &[u8], end: usize, out: &mut String) {
    if end < input.len() {
        writeln!(out, "left over {}", input[end..].escape_ascii()).unwrap();
    }
}

fn write_request(head: &RequestHead, bytes: &[u8], out: &mut String) {
    let text = |span: Span| shorten(span.of(bytes));
    writeln!(out, "{:?} {} {:?} {:?}", head.method, text(head.method_text), head.version, head.target).unwrap();
    if !head.scheme.is_empty() {
        writeln!(out, "scheme {}", text(head.scheme)).unwrap();
    }
    writeln!(out, "authority {}", text(head.authority)).unwrap();
    writeln!(out, "path {}{}", shorten(head.path(bytes)), path_form(head.path(bytes), head.target)).unwrap();
    if let Some(query) = head.query {
        writeln!(out, "query {}", text(query)).unwrap();
    }
    write_fields(&head.fields, bytes, out);
    if let Some(upgrade) = head.upgrade {
        writeln!(out, "upgrade {}", text(upgrade)).unwrap();
    }
    let flags = [(head.keep_alive, "keep-alive"), (head.expect_continue, "expect-continue")];
    let flags: Vec<_> = flags.iter().filter(|flag| flag.0).map(|flag| flag.1).collect();
    writeln!(out, "body {:?}; {}", head.body, flags.join(" ")).unwrap();
}

fn path_form(path: &[u8], target: Target) -> String {
    if !matches!(target, Target::Origin | Target::Absolute) {
        return String::new();
    }
    let mut forms = path::Forms::with_capacity(path.len());
    match forms.read(path, path::Rules { strict: true, ..path::Rules::default() }) {
        Err(error) => format!(" (refused: {})", error.reason()),
        Ok(()) => match (forms.normal(path), forms.forwarded(path)) {
            (normal, forwarded) if normal == path && forwarded == path => String::new(),
            (normal, forwarded) if normal == forwarded => format!(" (normalised: {})", normal.escape_ascii()),
            (normal, forwarded) if forwarded == path => format!(" (routed by {})", normal.escape_ascii()),
            (normal, forwarded) => {
                format!(" (routed by {}, forwarded as {})", normal.escape_ascii(), forwarded.escape_ascii())
            }
        },
    }
}

fn write_fields(fields: &Fields, bytes: &[u8], out: &mut String) {
    for field in fields {
        let (name, value) = (shorten(field.name.of(bytes)), shorten(field.value.of(bytes)));
        let dropped = if field.dropped { " dropped" } else { "" };
        writeln!(out, "field {name} = `{value}` {:?}{dropped}", field.id).unwrap();
    }
}

fn responses(feed: Feed<'_>, request: Method, out: &mut String) {
    let mut head = ResponseHead::new();
    let mut at = 0;
    loop {
        match feed.parse(at, |buf, scanned| parse_response(buf, &LIMITS, scanned, request, &mut head)) {
            Err(error) => return writeln!(out, "error 502 {}", error.reason()).unwrap(),
            Ok(None) => return writeln!(out, "partial").unwrap(),
            Ok(Some(len)) => {
                let bytes = &feed.input[at..at + len];
                writeln!(out, "{:?} {} {}", head.version, head.status, head.reason.of(bytes).escape_ascii()).unwrap();
                write_fields(&head.fields, bytes, out);
                if let Some(upgrade) = head.upgrade {
                    writeln!(out, "upgrade {}", upgrade.of(bytes).escape_ascii()).unwrap();
                }
                writeln!(out, "body {:?};{}", head.body, if head.keep_alive { " keep-alive" } else { "" }).unwrap();
                at += len;
                let is_interim = (100..200).contains(&head.status) && head.status != 101;
                if !is_interim {
                    break;
                }
            }
        }
    }
    if let Some(end) = body(feed, at, head.body, out) {
        write_left_over(feed.input, end, out);
    }
}

/// Reads a body; the offset behind it if it is complete.
fn body(feed: Feed<'_>, at: usize, framing: BodyFraming, out: &mut String) -> Option<usize> {
    let rest = &feed.input[at..];
    match framing {
        BodyFraming::None => Some(at),
        BodyFraming::Close => {
            writeln!(out, "data {}", shorten(rest)).unwrap();
            Some(feed.input.len())
        }
        BodyFraming::Length(len) => {
            let data = rest.get(..len as usize);
            writeln!(out, "data {}{}", shorten(data.unwrap_or(rest)), if data.is_none() { " (partial)" } else { "" })
                .unwrap();
            data.map(|data| at + data.len())
        }
        BodyFraming::Chunked => chunked(feed, at, out),
    }
}

fn chunked(feed: Feed<'_>, mut at: usize, out: &mut String) -> Option<usize> {
    let mut decoder = ChunkedDecoder::new();
    let (mut passed, mut data, mut error) = (Vec::new(), Vec::new(), None);
    for end in feed.ends(at) {
        while error.is_none() && at < end && !decoder.is_done() {
            match decoder.next(&feed.input[at..end]) {
                Ok(part) => {
                    let bytes = &feed.input[at..at + part.len];
                    at += part.len;
                    if part.kind == ChunkedPartKind::Data {
                        data.extend_from_slice(bytes);
                    }
                    if matches!(part.kind, ChunkedPartKind::Data | ChunkedPartKind::Framing) {
                        passed.extend_from_slice(bytes);
                    }
                }
                Err(found) => error = Some(found),
            }
        }
    }
    if let Some(error) = error {
        // How much went through before depends on the cuts.
        writeln!(out, "error 400 {}", error.reason()).unwrap();
        return None;
    }
    writeln!(out, "passed {}\ndata {}", shorten(&passed), shorten(&data)).unwrap();
    if !decoder.is_done() {
        writeln!(out, "partial").unwrap();
        return None;
    }
    let mut fields = Fields::new();
    match feed.parse(at, |buf, scanned| parse_trailers(buf, &LIMITS, scanned, &mut fields)) {
        Err(error) => writeln!(out, "error {} {}", error.status(), error.reason()).unwrap(),
        Ok(None) => writeln!(out, "partial").unwrap(),
        Ok(Some(len)) => {
            let bytes = &feed.input[at..at + len];
            for field in &fields {
                let (name, value) = (field.name.of(bytes), field.value.of(bytes));
                let stays = if is_forwardable_trailer(name, field.id) { "" } else { " stays here" };
                writeln!(out, "trailer {} = `{}`{stays}", name.escape_ascii(), value.escape_ascii()).unwrap();
            }
            return Some(at + len);
        }
    }
    None
}

fn shorten(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= 200 { text } else { format!("{}... ({} bytes)", &text[..20], bytes.len()) }
}
