//! What is made of entries of exchanges besides lines of the access log: spans of traces, which go to a collector. One thread reads the
//! rings of all workers; nobody waits for it. Not here: entries (`access_log`), and of which trace an exchange is part (`trace`).

mod batch;
mod exporter;
mod http;
mod spans;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::access_log::Entry;
use crate::event_log::{Level, log};
use crate::runtime::{ByteRingReader, Clock};
use exporter::Exporter;
pub use http::Collector;

/// How often the rings are looked at: often enough that a ring holds what comes meanwhile.
const INTERVAL: Duration = Duration::from_millis(20);
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
            let thread = Thread { rings, entry: Vec::new(), exporter, counts: its_counts };
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
    exporter: Option<Exporter>,
    counts: Arc<Counts>,
}

impl Thread {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Workers begin to record after the order to export.
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.follow(order).await,
                    None => return,
                },
                // Without an exporter nobody writes to the rings.
                _ = tick.tick(), if self.exporter.is_some() => self.round(),
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
                self.exporter = spec.map(|spec| Exporter::new(spec, Arc::clone(&self.counts)));
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

    /// Takes in what the rings hold.
    fn read(&mut self) {
        // The wall clock may have been set since the last time.
        let wall = wall_clock().saturating_sub(Clock::monotonic());
        let Self { rings, entry, exporter, .. } = self;
        for ring in rings {
            // A worker may write more for ever.
            for _ in 0..RING_ENTRIES {
                if !ring.pop(entry) {
                    break;
                }
                let Some(entry) = Entry::read(entry) else { continue };
                if let Some(exporter) = exporter {
                    exporter.take(&entry, wall);
                }
            }
        }
    }
}

/// Entries that are read of a ring at a time.
const RING_ENTRIES: usize = 16 * 1024;

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
