//! The binary form of what is known of an exchange: numbers at fixed places, then texts. Not here: who writes one (`recorder`), and
//! lines (`format`).

use std::time::Duration;

use super::QueryRule;
use super::attempt::{AttemptEntry, AttemptLog};
use super::tap::{HeadSide, Heads};
use crate::limits::{LOGGED_ATTEMPTS, LOGGED_HEADERS};

/// Bytes of a text's tag and length.
pub(super) const HEADER: usize = 3;
/// Set in the length of a text that was cut.
const CUT: u16 = 1 << 15;
/// From which status on an exchange has failed.
pub(super) const FAILED: u16 = 500;
/// A time that is not known.
const UNKNOWN: u64 = u64::MAX;
/// Numbers of 8 bytes at the beginning of an entry.
const WORDS: usize = 13;
/// Bytes of them.
const NUMBER_BYTES: usize = WORDS * 8;

/// What a text of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Text {
    /// Address of the client.
    Client,
    /// Who the client is, by its certificate.
    ClientIdentity,
    /// Name of the listener.
    Listener,
    /// Name of the tenant.
    Tenant,
    /// Name of the route.
    Route,
    /// Name of the cluster.
    Cluster,
    /// Address of the endpoint of the last attempt.
    Endpoint,
    /// Method.
    Method,
    /// Host and port that were asked for.
    Authority,
    /// Path as it was received.
    Path,
    /// Query.
    Query,
    /// Version of TLS.
    TlsVersion,
    /// Name that the client asked for in TLS.
    TlsSni,
    /// Identifier of the request.
    RequestId,
    /// The field Traceparent.
    Traceparent,
    /// The field Referer.
    Referer,
    /// The field User-Agent.
    UserAgent,
    /// Reason code of the failure.
    Reason,
    /// Name of a field that the configuration asks for, before its value.
    HeaderName,
    /// Its value.
    HeaderValue,
    /// An attempt, as [`AttemptEntry`] writes it.
    Attempt,
    /// Who has to act on the failure.
    Side,
    /// The target that the origin was sent.
    Target,
    /// The field Tracestate.
    Tracestate,
}

impl Text {
    const ALL: [Self; 24] = [
        Self::Client,
        Self::ClientIdentity,
        Self::Listener,
        Self::Tenant,
        Self::Route,
        Self::Cluster,
        Self::Endpoint,
        Self::Method,
        Self::Authority,
        Self::Path,
        Self::Query,
        Self::TlsVersion,
        Self::TlsSni,
        Self::RequestId,
        Self::Traceparent,
        Self::Referer,
        Self::UserAgent,
        Self::Reason,
        Self::HeaderName,
        Self::HeaderValue,
        Self::Attempt,
        Self::Side,
        Self::Target,
        Self::Tracestate,
    ];

    /// The text with this tag.
    pub(super) fn of(tag: u8) -> Option<Self> {
        Self::ALL.get(usize::from(tag)).copied()
    }

    /// Bytes that are kept of it.
    fn bound(self) -> usize {
        match self {
            Self::Path | Self::Query => 1024,
            Self::Target => 2048,
            Self::Referer | Self::UserAgent | Self::Tracestate => 512,
            _ => 256,
        }
    }
}

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// It has sent no request that could be read.
    #[default]
    Unknown,
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Its name; None: none was spoken.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Http10 => Some("HTTP/1.0"),
            Self::Http11 => Some("HTTP/1.1"),
            Self::Http2 => Some("HTTP/2"),
        }
    }
}

/// The numbers of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// When the exchange began, by the clock of workers.
    pub began: Duration,
    /// From then to its end.
    pub total: Duration,
    /// From the first byte of the head to its end.
    pub head: Option<Duration>,
    /// The TLS handshake; only of the first exchange of a connection.
    pub tls: Option<Duration>,
    /// Waiting for a place at the cluster; None: it has not waited.
    pub queue: Option<Duration>,
    /// Connecting to the endpoint, TLS included; None: nothing was connected to.
    pub connect: Option<Duration>,
    /// From the beginning to the head of the response.
    pub first_byte: Option<Duration>,
    /// What cairn itself has taken.
    pub own: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response, head included.
    pub sent: u64,
    /// Status of the final response; 0: none was sent.
    pub status: u16,
    /// The client's port; 0: none is known.
    pub port: u16,
    /// Attempts at endpoints.
    pub attempts: u8,
    /// The client's protocol.
    pub protocol: Protocol,
    /// The response was not sent to its end.
    pub cut: bool,
    /// It has failed, or was slow.
    pub remarkable: bool,
    /// Endpoints of its cluster are spoken to over TLS.
    pub upstream_tls: bool,
    /// Id of the span of the exchange; 0: it is not recorded.
    pub span: u64,
    /// Id of the span that is its parent; 0: none, the trace begins here.
    pub parent: u64,
}

impl Numbers {
    fn encode(&self) -> [u8; NUMBER_BYTES] {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(UNKNOWN - 1);
        let optional = |time: Option<Duration>| time.map_or(UNKNOWN, nanoseconds);
        let small = u64::from(self.status)
            | u64::from(self.port) << 16
            | u64::from(self.attempts) << 32
            | (self.protocol as u64) << 40
            | u64::from(self.cut) << 48
            | u64::from(self.upstream_tls) << 49
            | u64::from(self.remarkable) << 50;
        let words = [
            nanoseconds(self.began),
            nanoseconds(self.total),
            optional(self.head),
            optional(self.tls),
            optional(self.connect),
            optional(self.first_byte),
            nanoseconds(self.own),
            self.received,
            self.sent,
            optional(self.queue),
            small,
            self.span,
            self.parent,
        ];
        let mut bytes = [0; NUMBER_BYTES];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8; NUMBER_BYTES]) -> Self {
        let (words, _) = bytes.as_chunks();
        let word = |at: usize| words.get(at).copied().map_or(0, u64::from_le_bytes);
        let time = |at| Duration::from_nanos(word(at));
        let optional = |at| (word(at) != UNKNOWN).then(|| time(at));
        let small = word(10);
        Self {
            began: time(0),
            total: time(1),
            head: optional(2),
            tls: optional(3),
            queue: optional(9),
            connect: optional(4),
            first_byte: optional(5),
            own: time(6),
            received: word(7),
            sent: word(8),
            status: small as u16,
            port: (small >> 16) as u16,
            attempts: (small >> 32) as u8,
            protocol: match (small >> 40) as u8 {
                1 => Protocol::Http10,
                2 => Protocol::Http11,
                3 => Protocol::Http2,
                _ => Protocol::Unknown,
            },
            cut: small >> 48 & 1 == 1,
            upstream_tls: small >> 49 & 1 == 1,
            remarkable: small >> 50 & 1 == 1,
            span: word(11),
            parent: word(12),
        }
    }
}

/// An entry that is being written, from when the head of a request is read until its exchange is over.
#[derive(Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    /// What is known of the numbers so far.
    pub numbers: Numbers,
    /// For those who watch exchanges live; empty while nobody does.
    pub(super) heads: Heads,
}

impl Default for Draft {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(1024), numbers: Numbers::default(), heads: Heads::default() }
    }
}

impl Draft {
    /// Forgets all, but for the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(NUMBER_BYTES, 0);
        self.numbers = Numbers::default();
        self.heads.clear();
    }

    /// Adds a text, of which no more than a bound is kept. An empty one is left out.
    pub fn add(&mut self, text: Text, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        let kept = &value[..value.len().min(text.bound())];
        let cut = if kept.len() < value.len() { CUT } else { 0 };
        let [low, high] = (kept.len() as u16 | cut).to_le_bytes();
        self.bytes.extend_from_slice(&[text as u8, low, high]);
        self.bytes.extend_from_slice(kept);
    }

    /// Adds a text of which only the beginning is known.
    pub fn add_beginning(&mut self, text: Text, value: &[u8]) {
        let start = self.bytes.len();
        self.add(text, value);
        if let Some(length) = self.bytes.get_mut(start + 1..start + HEADER).and_then(<[u8]>::first_chunk_mut::<2>) {
            *length = (u16::from_le_bytes(*length) | CUT).to_le_bytes();
        }
    }

    /// Adds what the configuration has logged of a query.
    pub fn add_query(&mut self, rule: QueryRule, query: &[u8]) {
        match rule {
            QueryRule::Full => self.add(Text::Query, query),
            QueryRule::Redacted if !query.is_empty() => self.add_redacted(query),
            QueryRule::Redacted | QueryRule::Off => {}
        }
    }

    /// Adds a query with `*` in the place of values. What has no name may be a value.
    fn add_redacted(&mut self, query: &[u8]) {
        self.bytes.extend_from_slice(&[Text::Query as u8, 0, 0]);
        let start = self.bytes.len();
        for (at, pair) in query.split(|byte| *byte == b'&').enumerate() {
            let name = pair.iter().position(|byte| *byte == b'=').map_or(&b""[..], |equals| &pair[..=equals]);
            let parts: [&[u8]; 3] = [if at > 0 { b"&" } else { b"" }, name, if pair.is_empty() { b"" } else { b"*" }];
            parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
            if self.bytes.len() - start > Text::Query.bound() {
                break;
            }
        }
        let length = self.bytes.len() - start;
        let kept = length.min(Text::Query.bound());
        self.bytes.truncate(start + kept);
        let cut = if kept < length { CUT } else { 0 };
        self.bytes[start - 2..start].copy_from_slice(&(kept as u16 | cut).to_le_bytes());
    }

    /// Adds a field that the configuration asks for.
    pub fn add_header(&mut self, name: &[u8], value: &[u8]) {
        if !value.is_empty() {
            self.add(Text::HeaderName, name);
            self.add(Text::HeaderValue, value);
        }
    }

    /// Adds a field of a head, for those who watch: what is beyond a bound is left out, and secrets are masked.
    pub fn add_watched(&mut self, side: HeadSide, name: &[u8], value: &[u8]) {
        self.heads.add(side, name, value);
    }

    /// A text that was added; empty: it was not.
    pub(super) fn text(&self, wanted: Text) -> &[u8] {
        let mut rest = self.bytes.get(NUMBER_BYTES..).unwrap_or_default();
        while let Some((&[tag, low, high], behind)) = rest.split_first_chunk::<HEADER>() {
            let length = usize::from(u16::from_le_bytes([low, high]) & !CUT);
            let Some((value, behind)) = behind.split_at_checked(length) else { break };
            if tag == wanted as u8 {
                return value;
            }
            rest = behind;
        }
        b""
    }

    /// Adds an attempt.
    pub fn add_attempt(&mut self, attempt: &AttemptEntry<'_>) {
        attempt.write(&mut self.bytes);
    }

    /// Adds attempts that have ended before.
    pub fn add_attempts(&mut self, attempts: &AttemptLog) {
        self.bytes.extend_from_slice(&attempts.bytes);
    }

    /// The bytes of the entry with the numbers as they are now.
    pub fn finish(&mut self) -> &[u8] {
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = self.numbers.encode();
        }
        &self.bytes
    }
}

/// A text that was read from an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value<'a> {
    /// Its bytes; of what a client has sent they can be any.
    pub bytes: &'a [u8],
    /// Whether it was longer.
    pub cut: bool,
}

/// An entry that was read.
#[derive(Clone, Debug, Default)]
pub struct Entry<'a> {
    /// Its numbers.
    pub numbers: Numbers,
    texts: [Value<'a>; Text::ALL.len()],
    headers: [(Value<'a>, Value<'a>); LOGGED_HEADERS],
    header_count: usize,
    attempts: [Option<AttemptEntry<'a>>; LOGGED_ATTEMPTS],
    attempt_count: usize,
}

impl<'a> Entry<'a> {
    /// Reads what [`Draft::finish`] has given. None: it is something else.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (numbers, mut rest) = bytes.split_first_chunk()?;
        let mut entry = Self { numbers: Numbers::decode(numbers), ..Self::default() };
        while let Some((&[tag, low, high], behind)) = rest.split_first_chunk::<HEADER>() {
            let length = u16::from_le_bytes([low, high]);
            let (value, behind) = behind.split_at_checked(usize::from(length & !CUT))?;
            let value = Value { bytes: value, cut: length & CUT != 0 };
            match Text::of(tag)? {
                Text::HeaderName => entry.headers.get_mut(entry.header_count)?.0 = value,
                Text::HeaderValue => {
                    entry.headers.get_mut(entry.header_count)?.1 = value;
                    entry.header_count += 1;
                }
                Text::Attempt => {
                    if let Some(place) = entry.attempts.get_mut(entry.attempt_count) {
                        *place = AttemptEntry::read(value.bytes);
                        entry.attempt_count += 1;
                    }
                }
                text => entry.texts[text as usize] = value,
            }
            rest = behind;
        }
        Some(entry)
    }

    /// A text; empty: there is none.
    #[must_use]
    pub fn text(&self, text: Text) -> Value<'a> {
        self.texts[text as usize]
    }

    /// Whether it has failed: by a failure, or by what the origin has answered.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.numbers.status >= FAILED || !self.text(Text::Side).bytes.is_empty()
    }

    /// The attempts, in order.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptEntry<'a>> {
        self.attempts.iter().flatten().copied()
    }

    /// Names and values of the fields that the configuration asks for.
    pub fn headers(&self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        self.headers[..self.header_count].iter().copied()
    }
}
