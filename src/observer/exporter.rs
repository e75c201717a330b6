//! Spans on their way to the collector: they wait for others, within bounds, and what is not taken is sent again after a while, for some
//! minutes. Not here: what is sent (`batch`), and how (`http`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, timeout};

use super::batch::{self, Batch};
use super::http::{self, Connection, Refused};
use super::{Counts, ExportSpec, spans};
use crate::access_log::Entry;
use crate::event_log::{Level, log};
use crate::tls::Client;

/// Spans that may wait; with some twenty attributes each, about 16 MiB.
const WAITING: usize = 8 * 1024;
/// The first wait after a failure; each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long a message is sent again and again.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often at most it is logged that spans are lost or late.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// What came of sending a message.
type Sent = Result<(Vec<u8>, Option<Connection>), Refused>;

/// The way to one collector.
pub(super) struct Exporter {
    spec: Arc<ExportSpec>,
    tls: Option<Arc<Client>>,
    counts: Arc<Counts>,
    waiting: VecDeque<Span>,
    /// Since when the first of them waits.
    since: Option<Instant>,
    /// The message under way, or to be sent again.
    batch: Option<Batch>,
    sending: Option<oneshot::Receiver<Sent>>,
    connection: Option<Connection>,
    retries: Retries,
    /// Since writing has failed: when that was logged last.
    failing: Option<Instant>,
}

/// Failures in a row of one message.
#[derive(Default)]
struct Retries {
    count: u32,
    first: Option<Instant>,
    /// When it is sent again.
    next: Option<Instant>,
}

impl Exporter {
    pub(super) fn new(spec: Arc<ExportSpec>, counts: Arc<Counts>) -> Self {
        let tls = spec.collector.tls.as_ref().map(|(tls, _)| Arc::new(Client::new(tls)));
        Self {
            spec,
            tls,
            counts,
            waiting: VecDeque::new(),
            since: None,
            batch: None,
            sending: None,
            connection: None,
            retries: Retries::default(),
            failing: None,
        }
    }

    /// Takes in the spans of an exchange; those for which there is no room are lost.
    pub(super) fn take(&mut self, entry: &Entry<'_>, wall: Duration) {
        let before = self.waiting.len();
        spans::write(entry, wall, &mut self.waiting);
        if self.waiting.len() > WAITING {
            // All of an exchange, or none.
            self.lose((self.waiting.len() - before) as u64);
            self.waiting.truncate(before);
            self.complain("more come than the collector takes");
        }
        self.since.get_or_insert_with(Instant::now);
    }

    /// Does what is due.
    pub(super) fn go_on(&mut self, now: Instant) {
        match self.sending.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return,
            Some(sent) => {
                self.sending = None;
                self.judge(sent.ok(), now);
            }
            None => {}
        }
        if self.retries.next.is_some_and(|next| now < next) {
            return;
        }
        let due = self.since.is_some_and(|since| now >= since + self.spec.interval);
        if self.batch.is_none() && (due || batch::is_full(&self.waiting)) {
            self.pack(now);
        }
        self.send();
    }

    fn pack(&mut self, now: Instant) {
        self.batch = batch::take(&mut self.waiting, &self.spec.service);
        self.since = (!self.waiting.is_empty()).then_some(now);
    }

    fn send(&mut self) {
        let Some(batch) = &self.batch else { return };
        let (spec, tls, message) = (Arc::clone(&self.spec), self.tls.clone(), batch.bytes.clone());
        let connection = self.connection.take();
        let (sender, sending) = oneshot::channel();
        self.sending = Some(sending);
        tokio::spawn(async move {
            // The exporter may have ended.
            let _ = sender.send(http::send(&spec, tls.as_deref(), connection, message).await);
        });
    }

    /// Takes in what came of a message. None: the task that sent it was ended.
    fn judge(&mut self, sent: Option<Sent>, now: Instant) {
        let spans = self.batch.as_ref().map_or(0, |batch| batch.spans);
        match sent {
            Some(Ok((answer, connection))) => {
                self.connection = connection;
                let (rejected, why) = batch::rejected(&answer);
                self.counts.exported.fetch_add(spans.saturating_sub(rejected), Ordering::Relaxed);
                self.forget();
                if rejected > 0 {
                    self.lose(rejected);
                    self.complain(&format!("the collector has refused {rejected}: {why}"));
                } else if self.failing.take().is_some() {
                    log(Level::Info, "traces: spans are exported again");
                }
            }
            Some(Err(Refused { why, again, after })) => {
                let first = *self.retries.first.get_or_insert(now);
                if again && now < first + PATIENCE {
                    let doubled = BACKOFF.saturating_mul(1 << self.retries.count.min(10)).min(BACKOFF_MAX);
                    self.retries.count += 1;
                    // Half of it is random, so that many processes do not come back together.
                    let random =
                        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) as f64 / u64::MAX as f64;
                    self.retries.next = Some(now + after.unwrap_or(doubled.mul_f64(0.5 + random / 2.0)));
                } else {
                    self.lose(spans);
                    self.forget();
                }
                self.complain(&why);
            }
            None => {
                self.lose(spans);
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        self.batch = None;
        self.retries = Retries::default();
    }

    fn lose(&self, spans: u64) {
        self.counts.lost.fetch_add(spans, Ordering::Relaxed);
    }

    fn complain(&mut self, why: &str) {
        let now = Instant::now();
        if self.failing.is_none_or(|logged| now >= logged + COMPLAINT_INTERVAL) {
            self.failing = Some(now);
            let (collector, lost) = (&self.spec.collector, self.counts.lost.load(Ordering::Relaxed));
            log(Level::Warn, format_args!("traces: {collector}: {why}; {lost} spans are lost so far"));
        }
    }

    /// Sends all that is left, for as long as `patience`; the rest is lost.
    pub(super) async fn end(mut self, patience: Duration) {
        let all = async {
            loop {
                if let Some(sending) = self.sending.take() {
                    let sent = sending.await.ok();
                    self.judge(sent, Instant::now());
                    // There is no time for another try.
                    if self.batch.is_some() {
                        return;
                    }
                }
                if self.batch.is_none() {
                    self.pack(Instant::now());
                }
                if self.batch.is_none() {
                    return;
                }
                self.send();
            }
        };
        // What was not sent in time is counted below.
        let _ = timeout(patience, all).await;
        let left = self.waiting.len() as u64 + self.batch.as_ref().map_or(0, |batch| batch.spans);
        if left > 0 {
            self.lose(left);
            log(Level::Warn, format_args!("traces: {left} spans were not taken before the end"));
        }
    }
}
