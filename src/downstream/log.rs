//! The end of an exchange as the access log is told of it. Not here: what is kept of its request (`exchange`).

use std::time::Duration;

use super::Downstream;
use crate::access_log::{Draft, Protocol, Text};
use crate::exchange::{Engine, Record};
use crate::http::Version;
use crate::tls::Session;
use crate::uring::Driver;

/// What the access log will be told of a client's connection and of its current exchange.
#[derive(Debug)]
pub(super) struct LogState {
    /// When the first byte came of the current request, or of the handshake.
    pub(super) begun_at: Duration,
    /// How long its TLS handshake has taken, until its first exchange has been logged.
    pub(super) handshake: Option<Duration>,
    /// The entry of the current exchange; None: it is not logged, or its head could not be read.
    pub(super) entry: Option<Box<Draft>>,
    /// The beginning of the current request, for an entry that is made later; empty: it was not read.
    start: [u8; START],
}

/// Bytes of a request that are kept for an entry that is made when it has failed or was slow.
const START: usize = 64;

impl LogState {
    /// That of a connection that was accepted now.
    pub(super) fn at(now: Duration) -> Self {
        Self { begun_at: now, handshake: None, entry: None, start: [0; START] }
    }

    /// Notes the beginning of a request.
    #[inline]
    pub(super) fn note_start(&mut self, head: &[u8]) {
        match head.first_chunk() {
            Some(start) => self.start = *start,
            None => {
                self.start = [0; START];
                self.start[..head.len()].copy_from_slice(head);
            }
        }
    }

    /// Forgets it.
    #[inline]
    pub(super) fn forget_start(&mut self) {
        self.start[0] = 0;
    }

    /// Adds method and path of the request, as far as they are known.
    fn add_start(&self, draft: &mut Draft) {
        let line = self.start.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let whole = line.len() < START;
        let mut parts = line.trim_ascii_start().split(|byte| *byte == b' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if method.is_empty() || method[0] == 0 {
            return;
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        draft.add(Text::Method, method);
        if whole || parts.next().is_some() || path.len() < target.len() {
            draft.add(Text::Path, path);
        } else {
            draft.add_beginning(Text::Path, path);
        }
    }
}

impl Downstream {
    /// The entry of an exchange that has none, because nothing was to be told of it before it had failed or was slow.
    #[cold]
    pub(super) fn begin_late_entry<D: Driver>(&self, engine: &mut Engine<D>) -> Box<Draft> {
        let tls = self.transport.session().and_then(Session::client_handshake);
        let snapshot = self.last_snapshot.clone().unwrap_or_else(|| engine.snapshot().clone());
        let mut draft = engine.begin_unread_entry(&self.peer, &snapshot.listener(self.listener).name, tls);
        draft.add(Text::RequestId, self.id.text());
        self.log.add_start(&mut draft);
        draft
    }

    /// Completes the entry of an exchange that is over, and hands it in.
    #[inline(never)]
    pub(super) fn log_exchange<D: Driver>(&mut self, engine: &mut Engine<D>, record: &Record) {
        // Without an entry, there was no head that could be read.
        let read = self.log.entry.is_some();
        let mut draft = self.log.entry.take().unwrap_or_else(|| {
            let mut draft = self.begin_late_entry(engine);
            engine.name_record(record, &mut draft);
            draft
        });
        if let Some(failure) = record.failure {
            draft.add(Text::Reason, failure.answer().reason.as_bytes());
            draft.add(Text::Side, failure.side().name().as_bytes());
        }
        let now = record.ended;
        let began = if read || self.begun.is_some() { self.log.begun_at } else { record.began };
        let numbers = &mut draft.numbers;
        numbers.began = began;
        numbers.total = now.saturating_sub(began);
        numbers.head = (read || self.begun.is_some()).then(|| record.began.saturating_sub(began));
        numbers.tls = self.log.handshake.take();
        numbers.first_byte = record.answered.map(|answered| answered.saturating_sub(began));
        numbers.own = record.overhead;
        (numbers.received, numbers.sent) = (record.received, record.sent);
        (numbers.status, numbers.cut) = (record.status, record.is_cut());
        numbers.remarkable = engine.is_remarkable(record);
        if let Some(forwarding) = record.forwarded {
            numbers.queue = forwarding.queue;
            numbers.connect = forwarding.connect;
            numbers.attempts = forwarding.attempts;
        }
        numbers.protocol = match (read, self.current.version) {
            (false, _) => Protocol::Unknown,
            (true, _) if self.is_stream() => Protocol::Http2,
            (true, Version::Http10) => Protocol::Http10,
            (true, Version::Http11 | Version::Http2) => Protocol::Http11,
        };
        engine.end_entry(draft);
    }
}
