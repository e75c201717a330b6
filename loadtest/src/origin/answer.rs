//! The answer to a request, by options and path. Not here: sending it.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn::http::{self, BodyFraming, Method, RequestHead, Version};

use crate::args::{FIELD_BYTES, OriginArguments};
use crate::random::Random;

/// Bytes of filler that a body is made of; also the longest chunk.
pub(super) const FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// Room for a head that is not prebuilt.
const HEAD_BYTES: usize = 128 + FIELD_BYTES;

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    status: u16,
    /// Bytes of body.
    pub(super) size: u64,
    pub(super) delay: Duration,
    /// Time between the pieces of the body; zero: it is sent at once.
    pub(super) drip: Duration,
    /// Whether the body is chunked.
    pub(super) chunked: bool,
    /// Whether the connection ends with it.
    pub(super) last: bool,
    /// Whether only the head is sent.
    pub(super) bodiless: bool,
    /// Whether the body is the receipt of the request.
    pub(super) receipt: bool,
}

/// The usual answer, and its head in bytes.
#[derive(Debug)]
pub(super) struct Answers {
    usual: Answer,
    head: Head,
    sizes: RangeInclusive<u64>,
    exponential: bool,
    /// Share of requests that is answered 503.
    errors: f64,
    /// An extra field line, with its CRLF.
    field: Vec<u8>,
    /// Whether `/healthz` answers 200. Shared by all threads.
    healthy: AtomicBool,
}

/// A written head.
#[derive(Clone, Debug)]
pub(super) struct Head {
    bytes: [u8; HEAD_BYTES],
    len: usize,
}

impl Answers {
    pub(super) fn new(arguments: &OriginArguments) -> Self {
        let &OriginArguments { status, delay, chunked, exponential, errors, .. } = arguments;
        let (size, drip) = (*arguments.size.start(), arguments.drip.unwrap_or_default());
        let bodiless = is_bodiless(status);
        let usual = Answer { status, size, delay, drip, chunked, last: false, bodiless, receipt: false };
        let field = arguments.header.as_ref().map_or(String::new(), |field| format!("{field}\r\n")).into_bytes();
        let (head, sizes) = (Head::of(&usual, &field), arguments.size.clone());
        Self { usual, head, sizes, exponential, errors, field, healthy: AtomicBool::new(true) }
    }

    /// The answer to a request.
    pub(super) fn choose(&self, bytes: &[u8], request: &RequestHead, random: &mut Random) -> Answer {
        let mut answer = self.usual;
        answer.last = !request.keep_alive;
        answer.chunked &= request.version != Version::Http10;
        answer.bodiless |= request.method == Method::Head;
        let range = self.sizes.end() - self.sizes.start();
        if range > 0 {
            answer.size += random.next() % (range + 1);
        }
        if self.errors > 0.0 && random.part() <= self.errors {
            answer.set_status(503);
        }
        let path = request.path(bytes);
        match self.health(request.method, path) {
            Some(status) => answer.set_status(status),
            None => answer.read_path(path),
        }
        if self.exponential {
            answer.delay = answer.delay.mul_f64(random.exponential());
        }
        answer
    }

    /// The status of `/healthz`, which POST to `/healthz/down` and `/healthz/up` changes; None: another path.
    fn health(&self, method: Method, path: &[u8]) -> Option<u16> {
        match path {
            b"/healthz" => Some(if self.healthy.load(Ordering::Relaxed) { 200 } else { 503 }),
            b"/healthz/down" | b"/healthz/up" if method == Method::Post => {
                self.healthy.store(path.ends_with(b"up"), Ordering::Relaxed);
                Some(200)
            }
            b"/healthz/down" | b"/healthz/up" => Some(405),
            _ => None,
        }
    }

    /// The answer to bytes that are no request.
    pub(super) fn refusal(&self, status: u16) -> Answer {
        Answer {
            status,
            size: 0,
            last: true,
            chunked: false,
            bodiless: false,
            delay: Duration::ZERO,
            drip: Duration::ZERO,
            receipt: false,
        }
    }

    /// Hands the head to `write`.
    pub(super) fn with_head<T>(&self, answer: &Answer, write: impl FnOnce(&[u8]) -> T) -> T {
        let usual = &self.usual;
        let same = (answer.status, answer.size, answer.chunked) == (usual.status, usual.size, usual.chunked);
        if same && !answer.last { write(self.head.bytes()) } else { write(Head::of(answer, &self.field).bytes()) }
    }
}

impl Answer {
    fn set_status(&mut self, status: u16) {
        self.status = status;
        self.bodiless |= is_bodiless(status);
    }

    /// Reads `/size/N`, `/delay/N`, `/drip/N`, `/status/N` and `/receipt`, in any order. Other segments are ignored.
    fn read_path(&mut self, path: &[u8]) {
        let mut segments = path.split(|byte| *byte == b'/').skip(1);
        while let Some(name) = segments.next() {
            if name == b"receipt" {
                (self.receipt, self.chunked) = (true, false);
            }
            if !matches!(name, b"size" | b"delay" | b"drip" | b"status") {
                continue;
            }
            let Some(value) = segments.next().and_then(http::parse_decimal) else { return };
            match (name, u16::try_from(value)) {
                (b"size", _) => self.size = value,
                (b"delay", _) => self.delay = Duration::from_millis(value),
                (b"drip", _) => self.drip = Duration::from_millis(value),
                (b"status", Ok(status @ 200..=599)) => self.set_status(status),
                _ => {}
            }
        }
    }
}

impl Head {
    fn of(answer: &Answer, field: &[u8]) -> Self {
        let mut head = Self { bytes: [0; HEAD_BYTES], len: 0 };
        let mut digits = [0; 20];
        head.add(b"HTTP/1.1 ");
        head.add(http::write_decimal(u64::from(answer.status), &mut digits));
        head.add(if answer.status == 200 { b" OK\r\n" } else { b" \r\n" });
        head.add(field);
        if answer.last {
            head.add(b"Connection: close\r\n");
        }
        match answer.status {
            // RFC 9110 section 8.6: no Content-Length in 204.
            204 => {}
            _ if answer.chunked => head.add(b"Transfer-Encoding: chunked\r\n"),
            _ => {
                head.add(b"Content-Length: ");
                head.add(http::write_decimal(answer.size, &mut digits));
                head.add(b"\r\n");
            }
        }
        head.add(b"\r\n");
        head
    }

    fn add(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Whether a status never has a body (RFC 9110 section 6.4.1).
fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 304)
}

/// Whether a request has a body to read.
pub(super) fn has_body(request: &RequestHead) -> bool {
    !matches!(request.body, BodyFraming::None | BodyFraming::Length(0))
}
