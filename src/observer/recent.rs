//! The last exchanges that have failed or were slow, for the question what became of one. Not here: who asks (`control`).

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access_log::{AttemptEntry, Entry, Text, rfc3339};

/// Exchanges that have failed of which each worker's last ones are remembered, and as many slow ones.
const EACH: usize = 512;

/// The exchanges that are remembered.
#[derive(Debug)]
pub(super) struct Recent {
    failed: VecDeque<Box<[u8]>>,
    slow: VecDeque<Box<[u8]>>,
    bound: usize,
}

/// What is known of an exchange that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// Identifier of the request.
    pub request_id: String,
    /// The trace that it is part of.
    pub trace_id: String,
    /// When it began, RFC 3339.
    pub time: String,
    /// Address of the client.
    pub client: String,
    /// Names of what it has come over and gone to; empty: none.
    pub listener: String,
    /// See `listener`.
    pub tenant: String,
    /// See `listener`.
    pub route: String,
    /// See `listener`.
    pub cluster: String,
    /// Method.
    pub method: String,
    /// Host that was asked for.
    pub authority: String,
    /// Path, without query.
    pub path: String,
    /// Status that the client was sent; 0: none.
    pub status: u16,
    /// Reason code of the failure; empty: none.
    pub reason: String,
    /// Who has to act on it: client, operator, origin, cairn.
    pub side: String,
    /// Whether the response was not sent to its end.
    pub cut: bool,
    /// Bytes of the request's body, and of the response.
    pub received_bytes: u64,
    /// See `received_bytes`.
    pub sent_bytes: u64,
    /// Its times in milliseconds, in order; those that are not known are left out.
    pub milliseconds: Vec<(String, f64)>,
    /// Its attempts.
    pub attempts: Vec<AttemptStory>,
}

/// What is known of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptStory {
    /// Address of the endpoint.
    pub endpoint: String,
    /// From the beginning of the exchange to its own, milliseconds.
    pub after_ms: f64,
    /// How long it has lasted, milliseconds.
    pub took_ms: f64,
    /// What came of it: a status, or the reason code of its failure.
    pub outcome: String,
}

impl Recent {
    /// Of so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self { failed: VecDeque::new(), slow: VecDeque::new(), bound: EACH * workers.max(1) }
    }

    /// Remembers an exchange, in the place of the oldest one of its kind.
    pub(super) fn keep(&mut self, entry: &Entry<'_>, bytes: &[u8]) {
        if entry.text(Text::RequestId).bytes.is_empty() {
            // A connection of TCP: nobody could ask for it.
            return;
        }
        let kind = if entry.has_failed() { &mut self.failed } else { &mut self.slow };
        if kind.len() >= self.bound {
            kind.pop_front();
        }
        kind.push_back(bytes.into());
    }

    /// The story of the last exchange with this identifier. `wall`: the time since 1970 when the clock of workers shows zero.
    pub(super) fn story(&self, request_id: &str, wall: Duration) -> Option<Story> {
        let entries = self.failed.iter().rev().chain(self.slow.iter().rev()).filter_map(|bytes| Entry::read(bytes));
        let own = |entry: &Entry<'_>| entry.text(Text::RequestId).bytes == request_id.as_bytes();
        let found = entries.filter(own).max_by_key(|entry| entry.numbers.began)?;
        Some(Story::of(&found, wall))
    }

    /// The stories of the last ones, so many at most, the newest first.
    pub(super) fn last(&self, count: usize, wall: Duration) -> Vec<Story> {
        // Those of one kind are in the order in which they ended, but for workers that were read one after the other.
        let newest = |kind: &VecDeque<Box<[u8]>>| kind.iter().rev().take(count).cloned().collect::<Vec<_>>();
        let bytes = [newest(&self.failed), newest(&self.slow)].concat();
        let mut entries: Vec<_> = bytes.iter().filter_map(|bytes| Entry::read(bytes)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.numbers.began + entry.numbers.total));
        entries.iter().take(count).map(|entry| Story::of(entry, wall)).collect()
    }

    /// How many are remembered: failed ones and slow ones.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.failed.len(), self.slow.len())
    }
}

/// A text of an entry, with a mark where it was cut.
pub(super) fn text(entry: &Entry<'_>, wanted: Text) -> String {
    let value = entry.text(wanted);
    format!("{}{}", String::from_utf8_lossy(value.bytes), if value.cut { "…" } else { "" })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl Story {
    /// That of an entry.
    pub(super) fn of(entry: &Entry<'_>, wall: Duration) -> Self {
        let text = |wanted: Text| text(entry, wanted);
        let numbers = &entry.numbers;
        let times = [
            ("tls", numbers.tls),
            ("head", numbers.head),
            ("queue", numbers.queue),
            ("connect", numbers.connect),
            ("first_byte", numbers.first_byte),
            ("total", Some(numbers.total)),
            ("own", Some(numbers.own)),
        ];
        let known = times.into_iter().filter_map(|(name, time)| Some((name.to_owned(), milliseconds(time?))));
        let last = entry.attempts().last().map(|attempt| attempt.number);
        let trace = text(Text::Traceparent);
        Self {
            request_id: text(Text::RequestId),
            trace_id: trace.get(3..35).unwrap_or_default().to_owned(),
            time: rfc3339(wall + numbers.began),
            client: text(Text::Client),
            listener: text(Text::Listener),
            tenant: text(Text::Tenant),
            route: text(Text::Route),
            cluster: text(Text::Cluster),
            method: text(Text::Method),
            authority: text(Text::Authority),
            path: text(Text::Path),
            status: numbers.status,
            reason: text(Text::Reason),
            side: text(Text::Side),
            cut: numbers.cut,
            received_bytes: numbers.received,
            sent_bytes: numbers.sent,
            milliseconds: known.collect(),
            attempts: entry.attempts().map(|it| AttemptStory::of(&it, entry, last == Some(it.number))).collect(),
        }
    }
}

impl AttemptStory {
    fn of(attempt: &AttemptEntry<'_>, entry: &Entry<'_>, last: bool) -> Self {
        let numbers = &entry.numbers;
        let ends_here = last && attempt.ended.is_none();
        let reason = if ends_here { entry.text(Text::Reason).bytes } else { attempt.reason };
        let status = if ends_here { numbers.status } else { attempt.status };
        let outcome = match String::from_utf8_lossy(reason) {
            reason if !reason.is_empty() => reason.into_owned(),
            _ => status.to_string(),
        };
        let ended = attempt.ended.unwrap_or(numbers.began + numbers.total);
        Self {
            endpoint: String::from_utf8_lossy(attempt.endpoint).into_owned(),
            after_ms: milliseconds(attempt.began.saturating_sub(numbers.began)),
            took_ms: milliseconds(ended.saturating_sub(attempt.began)),
            outcome,
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let mut row = |name: &str, text: String| writeln!(f, "{name:<12} {text}");
        row("request", format!("{} at {}", self.request_id, self.time))?;
        let target = format!("{} {}{}", or(&self.method, "?"), self.authority, self.path);
        row(
            "asked",
            format!("{target} by {} on listener {}", or(&self.client, "a Unix-domain socket"), self.listener),
        )?;
        let tenant = if self.tenant.is_empty() { String::new() } else { format!(" of tenant {}", self.tenant) };
        let cluster = if self.cluster.is_empty() { String::new() } else { format!(", cluster {}", self.cluster) };
        row("route", format!("{}{tenant}{cluster}", or(&self.route, "none")))?;
        for (number, attempt) in (1..).zip(&self.attempts) {
            let AttemptStory { endpoint, after_ms, took_ms, outcome } = attempt;
            row(&format!("attempt {number}"), format!("{endpoint} after {after_ms} ms: {outcome}, {took_ms} ms"))?;
        }
        let status = match self.status {
            0 => "no answer".to_owned(),
            status => format!("status {status}"),
        };
        let cut = if self.cut { ", cut before its end" } else { "" };
        let reason = match (&*self.reason, &*self.side) {
            ("", _) => String::new(),
            (reason, "") => format!(", {reason}"),
            (reason, side) => format!(", {reason}: it is for the {side} to act"),
        };
        row("answer", format!("{status}{cut}{reason}"))?;
        row("bytes", format!("{} of the request's body, {} of the response", self.received_bytes, self.sent_bytes))?;
        let times: Vec<_> = self.milliseconds.iter().map(|(name, time)| format!("{name} {time}")).collect();
        row("milliseconds", times.join(", "))?;
        if !self.trace_id.is_empty() {
            row("trace", self.trace_id.clone())?;
        }
        Ok(())
    }
}
