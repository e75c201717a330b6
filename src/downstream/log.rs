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
}

impl LogState {
    /// That of a connection that was accepted now.
    pub(super) fn at(now: Duration) -> Self {
        Self { begun_at: now, handshake: None, entry: None }
    }
}

impl Downstream {
    /// Completes the entry of an exchange that is over, and hands it in.
    #[inline(never)]
    pub(super) fn log_exchange<D: Driver>(&mut self, engine: &mut Engine<D>, record: &Record) {
        let tls = self.transport.session().and_then(Session::client_handshake);
        // Without an entry, there was no head that could be read.
        let read = self.log.entry.is_some();
        let mut draft = self.log.entry.take().unwrap_or_else(|| {
            let snapshot = self.last_snapshot.clone().unwrap_or_else(|| engine.snapshot().clone());
            engine.begin_unread_entry(&self.peer, &snapshot.listener(self.listener).name, tls)
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
        if let Some(forwarding) = record.forwarded {
            numbers.queue = forwarding.queue;
            numbers.connect = forwarding.connect;
            numbers.attempts = forwarding.attempts;
        }
        numbers.protocol = match (read, self.current.version) {
            (false, _) => Protocol::Unknown,
            (true, _) if self.is_stream() => Protocol::Http2,
            (true, Version::Http10) => Protocol::Http10,
            (true, Version::Http11) => Protocol::Http11,
        };
        engine.end_entry(draft);
    }
}
