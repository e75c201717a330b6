//! Exchanges that somebody watches while they happen: what a worker is told of a watcher, and what it hands over, heads with their secrets
//! masked. Without a watcher nothing is kept. Not here: who watches (`control`), and what is shown (`observer`).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::entry::{Draft, Entry, Text};
use crate::runtime::{ByteRingReader, ByteRingWriter, byte_ring};

/// Most watchers at a time.
pub const TAPS: usize = 4;
/// Bytes of the ring between a worker and a watcher: about a hundred exchanges with long heads, some hundred with short ones.
const RING_BYTES: usize = 256 * 1024;
/// Bytes that are kept of each of the two heads of an exchange.
const HEAD_BYTES: usize = 8 * 1024;
/// Bytes that are kept of a value.
const VALUE_BYTES: usize = 2 * 1024;
/// What stands for a secret.
pub const MASK: &str = "***";
/// Bytes of a field's tag and lengths.
const FIELD: usize = 5;
/// A field of which more was received.
const CUT: u8 = 2;

/// Parts of the names of fields, and of parameters of queries, that let whoever reads their values pass for somebody else.
const SECRETS: [&[u8]; 13] = [
    b"auth",
    b"cookie",
    b"token",
    b"secret",
    b"passw",
    b"api-key",
    b"api_key",
    b"apikey",
    b"access-key",
    b"session",
    b"signature",
    b"assertion",
    b"jwt",
];
/// Longest name that is looked at; longer ones count as secrets.
const NAME_BYTES: usize = 64;

/// Whether the value of a field, or of a parameter of a query, with this name is a secret.
#[must_use]
pub fn is_secret(name: &[u8]) -> bool {
    let mut lower = [0; NAME_BYTES];
    let Some(lower) = lower.get_mut(..name.len()) else { return true };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    SECRETS.iter().any(|part| lower.windows(part.len()).any(|window| window == *part))
}

/// Which exchanges a watcher wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapFilter {
    /// Only those of this route.
    pub route: Option<Box<str>>,
    /// Only those with such a status.
    pub statuses: Option<RangeInclusive<u16>>,
    /// Only those that have taken so long.
    pub slower: Option<Duration>,
}

impl TapFilter {
    fn wants(&self, draft: &Draft) -> bool {
        let numbers = &draft.numbers;
        self.statuses.as_ref().is_none_or(|statuses| statuses.contains(&numbers.status))
            && self.slower.is_none_or(|slower| numbers.total >= slower)
            && self.route.as_ref().is_none_or(|route| draft.text(Text::Route) == route.as_bytes())
    }
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    /// The worker has begun.
    begun: AtomicBool,
    /// Exchanges that had no room; written by the worker.
    dropped: AtomicU64,
}

/// The side of a watcher that a worker has.
#[derive(Debug)]
pub struct Tap {
    filter: TapFilter,
    ring: ByteRingWriter,
    shared: Arc<Shared>,
}

/// The side that reads.
#[derive(Debug)]
pub struct TapReader {
    ring: ByteRingReader,
    shared: Arc<Shared>,
}

/// What a worker is told of a watcher.
#[derive(Debug)]
pub enum TapOrder {
    /// Hand over exchanges from now on.
    Begin(Tap),
    /// No more.
    End,
}

/// Both sides between a worker and a watcher, with their memory.
#[must_use]
pub fn tap(filter: TapFilter) -> (Tap, TapReader) {
    let (ring, reader) = byte_ring();
    ring.allocate(RING_BYTES);
    let shared = Arc::new(Shared::default());
    (Tap { filter, ring, shared: Arc::clone(&shared) }, TapReader { ring: reader, shared })
}

impl Tap {
    /// Notes that the worker has begun.
    pub(super) fn begin(&self) {
        self.shared.begun.store(true, Ordering::Relaxed);
    }

    /// Hands an exchange over, if it is wanted. `bytes`: scratch memory.
    pub(super) fn offer(&mut self, draft: &mut Draft, bytes: &mut Vec<u8>) {
        if !self.filter.wants(draft) {
            return;
        }
        bytes.clear();
        let entry = draft.finish();
        bytes.extend_from_slice(&(entry.len() as u64).to_le_bytes());
        bytes.extend_from_slice(entry);
        bytes.extend_from_slice(&draft.heads.bytes);
        if !self.ring.push(bytes) {
            let dropped = self.shared.dropped.load(Ordering::Relaxed);
            self.shared.dropped.store(dropped + 1, Ordering::Relaxed);
        }
    }
}

impl TapReader {
    /// Whether the worker hands exchanges over by now.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// Exchanges so far for which there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Reads the next exchange into `bytes`; see [`read_tapped`]. False: there is none.
    pub fn pop(&mut self, bytes: &mut Vec<u8>) -> bool {
        self.ring.pop(bytes)
    }
}

/// Whose head a field is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HeadSide {
    /// The client's.
    Request,
    /// What the client is answered.
    Response,
}

/// The fields of both heads of an exchange that is watched.
#[derive(Debug, Default)]
pub(super) struct Heads {
    bytes: Vec<u8>,
    /// Bytes of each.
    used: [usize; 2],
}

impl Heads {
    /// Forgets all, but for the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.used = [0; 2];
    }

    /// Gives the memory back.
    pub(super) fn free(&mut self) {
        *self = Self::default();
    }

    /// Adds a field; what is beyond a bound is left out, and secrets are masked.
    pub(super) fn add(&mut self, side: HeadSide, name: &[u8], value: &[u8]) {
        let value = if is_secret(name) { MASK.as_bytes() } else { value };
        let kept = &value[..value.len().min(VALUE_BYTES)];
        let used = &mut self.used[side as usize];
        let length = FIELD + name.len() + kept.len();
        if *used + length > HEAD_BYTES {
            return;
        }
        *used += length;
        let tag = side as u8 | if kept.len() < value.len() { CUT } else { 0 };
        let [[a, b], [c, d]] = [name.len(), kept.len()].map(|length| (length as u16).to_le_bytes());
        self.bytes.extend_from_slice(&[tag, a, b, c, d]);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(kept);
    }
}

/// A field of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TappedField<'a> {
    /// Whose head it is in.
    pub side: HeadSide,
    /// Its name as it was sent.
    pub name: &'a [u8],
    /// Its value, or what masks it.
    pub value: &'a [u8],
    /// Whether the value was longer.
    pub cut: bool,
}

/// Reads what [`TapReader::pop`] has given: the entry, and the fields of both heads. None: it is something else.
#[must_use]
pub fn read_tapped(bytes: &[u8]) -> Option<(Entry<'_>, impl Iterator<Item = TappedField<'_>>)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (entry, mut heads) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let next = move || {
        let (&[tag, a, b, c, d], rest) = heads.split_first_chunk::<FIELD>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([c, d])))?;
        heads = rest;
        let side = if tag & 1 == HeadSide::Request as u8 { HeadSide::Request } else { HeadSide::Response };
        Some(TappedField { side, name, value, cut: tag & CUT != 0 })
    };
    Some((Entry::read(entry)?, std::iter::from_fn(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_whatever_their_case() {
        let long = [b'x'; NAME_BYTES + 1];
        let secret: [&[u8]; 9] = [
            b"Authorization",
            b"proxy-authorization",
            b"COOKIE",
            b"set-cookie",
            b"x-api-key",
            b"X-Amz-Security-Token",
            b"access_token",
            b"Password",
            &long,
        ];
        for name in secret {
            assert!(is_secret(name), "{}", String::from_utf8_lossy(name));
        }
        for name in [&b"accept"[..], b"host", b"access-control-allow-credentials", b"etag", b"x-request-id", b""] {
            assert!(!is_secret(name), "{}", String::from_utf8_lossy(name));
        }
    }

    fn draft(route: &[u8], status: u16, total: u64) -> Draft {
        let mut draft = Draft::default();
        draft.clear();
        draft.add(Text::Client, b"192.0.2.1");
        draft.add(Text::Route, route);
        (draft.numbers.status, draft.numbers.total) = (status, Duration::from_millis(total));
        draft
    }

    #[test]
    fn a_watcher_gets_what_it_wants_and_is_told_what_it_missed() {
        let route = Some("orders".into());
        let filter = TapFilter { route, statuses: Some(500..=599), slower: Some(Duration::from_millis(10)) };
        let (mut tap, mut reader) = tap(filter);
        let (mut scratch, mut read) = (Vec::new(), Vec::new());
        for (route, status, total) in
            [(&b"orders"[..], 200, 20), (b"orders", 503, 9), (b"order", 503, 20), (b"", 503, 20)]
        {
            tap.offer(&mut draft(route, status, total), &mut scratch);
        }
        assert!(!reader.pop(&mut read));
        let mut wanted = draft(b"orders", 503, 10);
        let long = [b'v'; VALUE_BYTES + 1];
        wanted.heads.add(HeadSide::Request, b"Accept", b"*/*");
        wanted.heads.add(HeadSide::Request, b"Cookie", b"id=1");
        wanted.heads.add(HeadSide::Response, b"x-long", &long);
        (0..10).for_each(|_| wanted.heads.add(HeadSide::Request, b"x", &long));
        tap.offer(&mut wanted, &mut scratch);
        assert!(reader.pop(&mut read));
        let (entry, fields) = read_tapped(&read).unwrap();
        assert_eq!((entry.numbers.status, entry.text(Text::Client).bytes), (503, &b"192.0.2.1"[..]));
        let fields: Vec<_> = fields.map(|it| (it.side, it.name, it.value.len(), it.cut)).collect();
        let whole = [
            (HeadSide::Request, &b"Accept"[..], 3, false),
            (HeadSide::Request, b"Cookie", MASK.len(), false),
            (HeadSide::Response, b"x-long", VALUE_BYTES, true),
        ];
        assert_eq!(fields[..3], whole);
        assert_eq!(fields[3..], [(HeadSide::Request, &b"x"[..], VALUE_BYTES, true); 3]);
        for length in 0..read.len() {
            // Cut anywhere, it is something else or less.
            read_tapped(&read[..length]).map(|(_, fields)| fields.count());
        }
        for _ in 0..100 {
            tap.offer(&mut wanted, &mut scratch);
        }
        let got = std::iter::from_fn(|| reader.pop(&mut read).then_some(())).count();
        assert!(got > 0 && got as u64 + reader.dropped() == 100, "{got} {}", reader.dropped());
    }
}
