//! httparse as an oracle: on the vectors and on seeded mutations of them, both parsers give the same fields or the same
//! refusal, or the difference is listed with its reason in `differences.toml`. httparse knows syntax only.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cairn::http::*;
use cairn::limits;

#[path = "vectors/input.rs"]
mod vectors;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT,
    request_line: limits::REQUEST_LINE_BYTES,
};
const MUTATIONS: usize = 200;
const SEED: u64 = 0x5eed_0000_cafe_f00d;

#[test]
fn every_difference_from_httparse_is_listed() {
    let list: toml::Table = include_str!("differences.toml").parse().unwrap();
    let mut listed = BTreeMap::new();
    for entry in list["difference"].as_array().unwrap() {
        let text = |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {entry}"));
        assert!(!text("why").is_empty() && !text("rfc").is_empty(), "{entry}");
        listed.insert((text("cairn").to_owned(), text("httparse").to_owned()), 0);
    }
    let mut unlisted = String::new();
    let mut compared = 0;
    for (kind, input) in inputs() {
        let (ours, theirs) = match kind.as_str() {
            "request" => (our_request(&input), their_request(&input)),
            _ => (our_response(&input), their_response(&input)),
        };
        compared += 1;
        if ours == theirs || (ours.is_refusal() && theirs.is_refusal()) {
            continue;
        }
        match listed.get_mut(&(ours.name(), theirs.name())) {
            Some(count) => *count += 1,
            None => writeln!(unlisted, "{ours:?} / {theirs:?}: {}", input.escape_ascii()).unwrap(),
        }
    }
    assert!(unlisted.is_empty(), "{unlisted}");
    let stale: Vec<_> = listed.iter().filter(|(_, count)| **count == 0).collect();
    assert!(stale.is_empty(), "listed, but not seen in {compared} inputs: {stale:?}");
}

/// What a parser says, in a form that both can say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Length, start line and fields.
    Head(usize, Vec<String>),
    Partial,
    Refused(String),
}

impl Outcome {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn name(&self) -> String {
        match self {
            Self::Head(..) => "head".to_owned(),
            Self::Partial => "partial".to_owned(),
            Self::Refused(reason) => reason.clone(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn our_fields(fields: &Fields, bytes: &[u8], parts: &mut Vec<String>) {
    for field in fields {
        parts.push(text(field.name.of(bytes)));
        parts.push(text(field.value.of(bytes)));
    }
}

fn our_request(bytes: &[u8]) -> Outcome {
    let mut head = RequestHead::new();
    match parse_request(bytes, &LIMITS, &mut 0, &mut head) {
        Err(error) => Outcome::Refused(error.reason().to_owned()),
        Ok(None) => Outcome::Partial,
        Ok(Some(len)) => {
            let version = if head.version == Version::Http10 { "0" } else { "1" };
            let mut parts = vec![text(head.method_text.of(bytes)), text(head.raw_target.of(bytes)), version.to_owned()];
            our_fields(&head.fields, bytes, &mut parts);
            Outcome::Head(len, parts)
        }
    }
}

fn our_response(bytes: &[u8]) -> Outcome {
    let mut head = ResponseHead::new();
    match parse_response(bytes, &LIMITS, &mut 0, Method::Get, &mut head) {
        Err(error) => Outcome::Refused(error.reason().to_owned()),
        Ok(None) => Outcome::Partial,
        Ok(Some(len)) => {
            let mut parts = vec![head.status.to_string()];
            our_fields(&head.fields, bytes, &mut parts);
            Outcome::Head(len, parts)
        }
    }
}

fn their_fields(fields: &[httparse::Header<'_>], parts: &mut Vec<String>) {
    for field in fields {
        parts.push(text(field.name.as_bytes()));
        parts.push(text(field.value));
    }
}

fn their_request(bytes: &[u8]) -> Outcome {
    let mut table = [httparse::EMPTY_HEADER; limits::HEADER_COUNT];
    let mut request = httparse::Request::new(&mut table);
    match request.parse(bytes) {
        Err(error) => Outcome::Refused(format!("{error:?}")),
        Ok(httparse::Status::Partial) => Outcome::Partial,
        Ok(httparse::Status::Complete(len)) => {
            let target = text(request.path.unwrap_or_default().as_bytes());
            let version = request.version.unwrap_or_default().to_string();
            let mut parts = vec![text(request.method.unwrap_or_default().as_bytes()), target, version];
            their_fields(request.headers, &mut parts);
            Outcome::Head(len, parts)
        }
    }
}

fn their_response(bytes: &[u8]) -> Outcome {
    let mut table = [httparse::EMPTY_HEADER; limits::HEADER_COUNT];
    let mut response = httparse::Response::new(&mut table);
    match response.parse(bytes) {
        Err(error) => Outcome::Refused(format!("{error:?}")),
        Ok(httparse::Status::Partial) => Outcome::Partial,
        Ok(httparse::Status::Complete(len)) => {
            let mut parts = vec![response.code.unwrap_or_default().to_string()];
            their_fields(response.headers, &mut parts);
            Outcome::Head(len, parts)
        }
    }
}

/// The vectors, and mutations of those that are not long.
fn inputs() -> Vec<(String, Vec<u8>)> {
    let mut inputs = Vec::new();
    let mut random = Random(SEED);
    for file in vectors::files() {
        let content = std::fs::read_to_string(file).unwrap();
        let mut lines = content.lines();
        while let Some(line) = lines.next() {
            let Some(kind) = line.strip_prefix("```").filter(|kind| kind.starts_with("re") && *kind != "result") else {
                continue;
            };
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let kind = kind.split(' ').next().unwrap_or_default().to_owned();
            let input = vectors::unescape(&block);
            if input.len() < 600 && !input.is_empty() {
                inputs.extend((0..MUTATIONS).map(|_| (kind.clone(), random.mutate(&input))));
            }
            inputs.push((kind, input));
        }
    }
    inputs
}

/// A xorshift generator: the inputs are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// Changes, adds or removes a few bytes, preferring those that mean something.
    fn mutate(&mut self, input: &[u8]) -> Vec<u8> {
        const ODD: &[u8] = b"\r\n \t:,;\0/?#%_\"x0\x7f\x80\x0b";
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            let byte = if self.below(4) == 0 { self.below(256) as u8 } else { ODD[self.below(ODD.len())] };
            match self.below(4) {
                0 if !bytes.is_empty() => drop(bytes.remove(at)),
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at.max(1)),
                _ if !bytes.is_empty() => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    }
}
