//! What is made of entries of exchanges besides lines of the access log: spans of traces, which go to a collector, and an answer to what
//! became of one that has failed or was slow. One thread reads the rings of all workers; nobody waits for it. Not here: entries (`access_log`), and of which trace an exchange is part (`trace`).

mod batch;
mod exemplars;
mod exporter;
mod http;
mod recent;
mod spans;
mod tapped;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::access_log::Entry;
use crate::event_log::{Level, log};
use crate::runtime::{ByteRingReader, Clock};
pub use exemplars::{Exemplar, Exemplars, Timed};
use exporter::Exporter;
pub use http::Collector;
use recent::Recent;
pub use recent::{AttemptStory, Story};
pub use tapped::{TapEvent, Tapped};

/// How often the rings are looked at while spans are exported: often enough that a ring holds what comes meanwhile.
const INTERVAL: Duration = Duration::from_millis(20);
/// How often else: only what has failed or was slow comes then.
const IDLE_INTERVAL: Duration = Duration::from_millis(200);
/// How long the end of the process waits for the last spans to be taken.
const FLUSH: Duration = Duration::from_secs(1);

/// What `[otlp]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSpec {
    /// Where spans go.
    pub collector: Collector,
    /// Fields that each request to it has besides.
    pub headers: Vec<(String, String)>,
    /// What cairn is called there, `service.name`.
    pub service: String,
    /// How long spans wait for others before they are sent.
    pub interval: Duration,
    /// How long the collector may take for its answer.
    pub timeout: Duration,
}

/// What has become of spans so far.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    lost: AtomicU64,
}

/// The thread that observes exchanges.
#[derive(Clone, Debug)]
pub struct Observer {
    orders: mpsc::UnboundedSender<Order>,
    counts: Arc<Counts>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Export to this collector, or to none.
    Export(Option<Arc<ExportSpec>>),
    /// Say which requests were exported lately.
    Exemplars(oneshot::Sender<Exemplars>),
    /// Say what became of the request with this identifier.
    Why(String, oneshot::Sender<Result<Story, String>>),
    /// Tell of the last requests, so many at most.
    Recent(usize, oneshot::Sender<Vec<Story>>),
    /// Export all that is there, then answer.
    Flush(SyncSender<()>),
}

impl Observer {
    /// Starts the thread, which reads these rings, and exports spans to `export`; None: drops them.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(rings: Vec<ByteRingReader>, export: Option<Arc<ExportSpec>>) -> io::Result<Self> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let its_counts = Arc::clone(&counts);
        let run = move || {
            // From the first entry on.
            let exporter = export.map(|spec| Exporter::new(spec, Arc::clone(&its_counts)));
            let recent = Recent::new(rings.len());
            let thread = Thread {
                rings,
                entry: Vec::new(),
                recent,
                exporter,
                counts: its_counts,
                exemplars: Exemplars::default(),
            };
            runtime.block_on(thread.run(ordered));
        };
        thread::Builder::new().name("observer".to_owned()).spawn(run)?;
        Ok(Self { orders, counts })
    }

    /// Has spans exported to this collector from now on; None: drops them.
    pub fn export(&self, spec: Option<Arc<ExportSpec>>) {
        // The thread lives as long as the process.
        let _ = self.orders.send(Order::Export(spec));
    }

    /// What became of the request with this identifier, if it has failed or was slow, not long ago; else what is known instead.
    #[must_use]
    pub fn why(&self, request_id: String) -> oneshot::Receiver<Result<Story, String>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Why(request_id, reply));
        answer
    }

    /// The last requests that have failed or were slow, so many at most, the newest first.
    #[must_use]
    pub fn recent(&self, count: usize) -> oneshot::Receiver<Vec<Story>> {
        let (reply, answer) = oneshot::channel();
        // The thread lives as long as the process.
        let _ = self.orders.send(Order::Recent(count, reply));
        answer
    }

    /// Requests whose spans were exported lately.
    #[must_use]
    pub fn exemplars(&self) -> oneshot::Receiver<Exemplars> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Exemplars(reply));
        answer
    }

    /// Waits until the collector has all spans, for a second at most.
    pub fn flush(&self) {
        let (reply, answer) = sync_channel(1);
        if self.orders.send(Order::Flush(reply)).is_ok() && answer.recv_timeout(FLUSH + FLUSH / 4).is_err() {
            log(Level::Warn, "traces: the last spans may not have been exported before the end");
        }
    }

    /// Spans so far that the collector has taken.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.counts.exported.load(Ordering::Relaxed)
    }

    /// Spans so far that it could not be given.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

/// The thread's own state.
struct Thread {
    rings: Vec<ByteRingReader>,
    /// The entry read last.
    entry: Vec<u8>,
    recent: Recent,
    exporter: Option<Exporter>,
    counts: Arc<Counts>,
    exemplars: Exemplars,
}

impl Thread {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let wait = if self.exporter.is_some() { INTERVAL } else { IDLE_INTERVAL };
            tokio::select! {
                // Workers begin to record after the order to export.
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.follow(order).await,
                    None => return,
                },
                () = sleep(wait) => self.round(),
            }
        }
    }

    async fn follow(&mut self, order: Order) {
        match order {
            Order::Export(spec) => {
                // What has come until now belongs to the old collector.
                self.read();
                if let Some(exporter) = self.exporter.take() {
                    tokio::spawn(exporter.end(FLUSH));
                }
                if spec.is_none() {
                    // Nobody has traces that could be looked up from now on.
                    self.exemplars = Exemplars::default();
                }
                self.exporter = spec.map(|spec| Exporter::new(spec, Arc::clone(&self.counts)));
            }
            Order::Exemplars(reply) => {
                self.read();
                // The requester may have hung up.
                let _ = reply.send(self.exemplars.clone());
            }
            Order::Why(request_id, reply) => {
                // It may have been the last one.
                self.read();
                // The requester may have hung up.
                let _ =
                    reply.send(self.recent.story(&request_id, wall_offset()).ok_or_else(|| self.unknown(&request_id)));
            }
            Order::Recent(count, reply) => {
                self.read();
                // The requester may have hung up.
                let _ = reply.send(self.recent.last(count, wall_offset()));
            }
            Order::Flush(reply) => {
                self.read();
                if let Some(exporter) = self.exporter.take() {
                    exporter.end(FLUSH).await;
                }
                // Whoever flushes may have given up.
                let _ = reply.try_send(());
            }
        }
    }

    fn round(&mut self) {
        self.read();
        if let Some(exporter) = &mut self.exporter {
            exporter.go_on(Instant::now());
        }
    }

    /// What is said of a request that is not known.
    fn unknown(&self, request_id: &str) -> String {
        let (failed, slow) = self.recent.len();
        format!(
            "nothing is known of request {request_id}: the last {failed} that have failed and {slow} that were slow are remembered, and no others; \
             the access log has all of them, if there is one"
        )
    }

    /// Takes in what the rings hold.
    fn read(&mut self) {
        let wall = wall_offset();
        let Self { rings, entry, recent, exporter, exemplars, .. } = self;
        for ring in rings {
            // A worker may write more for ever.
            for _ in 0..RING_ENTRIES {
                if !ring.pop(entry) {
                    break;
                }
                let bytes = &entry[..];
                let Some(entry) = Entry::read(bytes) else { continue };
                if let Some(exporter) = exporter.as_mut().filter(|_| entry.numbers.span != 0) {
                    exporter.take(&entry, wall);
                    exemplars.take(&entry, wall);
                }
                if entry.numbers.remarkable {
                    recent.keep(&entry, bytes);
                }
            }
        }
    }
}

/// Entries that are read of a ring at a time.
const RING_ENTRIES: usize = 16 * 1024;

/// The time since 1970 when the clock of workers shows zero. The wall clock may have been set since the last time.
fn wall_offset() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(Clock::monotonic())
}
