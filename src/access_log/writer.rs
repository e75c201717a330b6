//! The thread that makes lines of the entries of all workers and writes them. Whoever orders something of it does not wait for it: it
//! may be held up by a file system. Not here: where lines go (`sink`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::entry::Entry;
use super::format::{write_syslog_time, write_time};
use super::sink::Sink;
use super::{AccessLogSpec, LogTarget};
use crate::event_log::{Level, log};
use crate::runtime::{ByteRingReader, Clock};

/// How often the rings are looked at: often enough that a ring holds what comes meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);
/// Lines that are written at once, bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for the last lines to be written.
const FLUSH: Duration = Duration::from_secs(1);
/// How often at most it is logged that lines cannot be written.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Answer to an order to reopen what is no file.
const NO_FILE: &str = "the access log is no file: there is nothing to reopen";
/// Facility local7, severity informational (RFC 5424 section 6.2.1).
const PRIORITY: u32 = 23 * 8 + 6;

/// The access log of the process.
#[derive(Clone, Debug)]
pub struct AccessLog {
    orders: Sender<Order>,
    lost: Arc<AtomicU64>,
}

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// Write to this, or drop everything.
    Use(Option<(AccessLogSpec, Sink)>),
    /// Open the file again, which has been renamed.
    Reopen(oneshot::Sender<Result<String, String>>),
    /// Write all that is there, then answer with the number of lines that were left.
    Flush(SyncSender<u64>),
}

impl AccessLog {
    /// Starts the thread, which reads these rings as soon as it is told where to write.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(rings: Vec<ByteRingReader>) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            rings,
            lost: Arc::clone(&lost),
            output: None,
            entry: Vec::new(),
            batch: Vec::with_capacity(2 * BATCH_BYTES),
            written: 0,
            torn: false,
            prefix: Vec::new(),
            failing: None,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&ordered))?;
        Ok(Self { orders, lost })
    }

    /// Has what comes from now on written to `sink`, as `spec` says; None: drops it.
    pub fn switch(&self, output: Option<(AccessLogSpec, Sink)>) {
        // The thread lives as long as the process.
        let _ = self.orders.send(Order::Use(output));
    }

    /// Opens the file again, for a log that has been renamed. The answer says what was done, or why not: then the old file is written on.
    #[must_use]
    pub fn reopen(&self) -> oneshot::Receiver<Result<String, String>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.orders.send(Order::Reopen(reply));
        answer
    }

    /// Waits until all that is in the rings is written, for a second at most.
    pub fn flush(&self) {
        let (reply, answer) = sync_channel(1);
        if self.orders.send(Order::Flush(reply)).is_err() {
            return;
        }
        // The thread itself gives up a little earlier.
        match answer.recv_timeout(FLUSH + FLUSH / 4) {
            Ok(0) => {}
            Ok(left) => log(Level::Warn, format_args!("access log: {left} lines were not taken before the end")),
            Err(_) => log(Level::Warn, "access log: the last lines may not have been written before the end"),
        }
    }

    /// Lines so far that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The thread's own state.
struct Writer {
    rings: Vec<ByteRingReader>,
    /// Lines that could not be written.
    lost: Arc<AtomicU64>,
    output: Option<(AccessLogSpec, Sink)>,
    /// The entry read last.
    entry: Vec<u8>,
    /// Whole lines.
    batch: Vec<u8>,
    /// How many bytes of these are written.
    written: usize,
    /// The last line in the file was not written to its end.
    torn: bool,
    /// What stands before each line of syslog.
    prefix: Vec<u8>,
    /// Since writing has failed: lines lost by then, and when that was logged last.
    failing: Option<(u64, Instant)>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut wait = INTERVAL;
        loop {
            let order = match self.output {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => orders.recv_timeout(wait),
            };
            match order {
                Ok(order) => self.follow(order),
                Err(RecvTimeoutError::Timeout) => wait = if self.round() { Duration::ZERO } else { INTERVAL },
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Use(output) => {
                // What has come until now belongs to the old place, unless nobody takes it there.
                self.drain(INTERVAL);
                self.give_up();
                self.torn = false;
                self.failing = None;
                self.output = output;
                if self.output.is_none() {
                    self.discard();
                }
            }
            Order::Reopen(reply) => {
                self.drain(INTERVAL);
                let done = self.reopen();
                match &done {
                    Ok(done) => log(Level::Info, done),
                    Err(problem) => log(Level::Error, problem),
                }
                // Who asked may have hung up.
                let _ = reply.send(done);
            }
            Order::Flush(reply) => {
                self.drain(FLUSH);
                let mut left = line_count(&self.batch[self.written..]);
                let Self { rings, entry, .. } = self;
                rings.iter_mut().for_each(|ring| {
                    while ring.pop(entry) {
                        left += 1;
                    }
                });
                // Whoever flushes may have given up.
                let _ = reply.try_send(if self.output.is_some() { left } else { 0 });
            }
        }
    }

    fn reopen(&mut self) -> Result<String, String> {
        let Some((spec, sink)) = &mut self.output else { return Ok("there is no access log to reopen".to_owned()) };
        let LogTarget::File(path) = &spec.target else { return Ok(NO_FILE.to_owned()) };
        if !sink.is_file() {
            return Ok(NO_FILE.to_owned());
        }
        let opened = spec.open().map_err(|error| format!("{error}; the old file is written on"))?;
        *sink = opened;
        let path = path.display().to_string();
        if self.written > 0 && self.batch.get(self.written - 1) != Some(&b'\n') {
            // Its beginning is in the old file.
            self.give_up();
        }
        self.torn = false;
        Ok(format!("reopened {path}"))
    }

    /// Writes all that is there, for as long as the reader takes it within `patience`.
    fn drain(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        // Workers may write more for ever.
        while (self.round() || self.written < self.batch.len()) && Instant::now() < end {}
    }

    /// Writes what the rings hold. True: there may be more, and the reader takes it.
    fn round(&mut self) -> bool {
        if self.written < self.batch.len() && !self.write() {
            return false;
        }
        self.batch.clear();
        self.written = 0;
        self.fill();
        !self.batch.is_empty() && self.write()
    }

    /// Makes lines of entries.
    fn fill(&mut self) {
        let Self { rings, entry, batch, output, .. } = self;
        let Some((spec, _)) = output else { return };
        // The wall clock may have been set since the last time.
        let wall = wall_clock().saturating_sub(Clock::monotonic());
        // Another one comes first each time, so that none waits for ever behind a busy one.
        let next = rings.len().min(1);
        rings.rotate_left(next);
        for ring in rings {
            while batch.len() < BATCH_BYTES && ring.pop(entry) {
                if let Some(entry) = Entry::read(entry) {
                    spec.format.write(&entry, wall, batch);
                }
            }
        }
    }

    /// Writes the batch. True: nothing is left of it.
    fn write(&mut self) -> bool {
        let Some((spec, sink)) = &mut self.output else { return true };
        let mut reconnected = false;
        if sink.is_syslog() {
            write_prefix(sink.is_local(), &mut self.prefix);
        }
        while self.written < self.batch.len() {
            if self.torn {
                match sink.write(b"\n", b"") {
                    Ok(0) => return false,
                    Ok(_) => self.torn = false,
                    Err(error) => return self.fail(&error),
                }
                continue;
            }
            match sink.write(&self.batch[self.written..], &self.prefix) {
                Ok(0) => return false,
                Ok(count) => self.written += count,
                Err(error) if sink.is_syslog() && error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    let line = &self.batch[self.written..];
                    self.written += line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |end| end + 1);
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
                // The daemon may have been started again.
                Err(_) if sink.is_syslog() && !reconnected => {
                    reconnected = true;
                    if let Ok(opened) = spec.open() {
                        *sink = opened;
                    }
                }
                Err(error) => return self.fail(&error),
            }
        }
        if let Some((lost, _)) = self.failing.take() {
            let count = self.lost.load(Ordering::Relaxed) - lost;
            log(Level::Info, format_args!("access log: it is written again; {count} lines are lost"));
        }
        true
    }

    /// Gives the batch up, because of an error.
    fn fail(&mut self, error: &io::Error) -> bool {
        let (before, now) = (self.lost.load(Ordering::Relaxed), Instant::now());
        self.give_up();
        let (lost, due) = match self.failing {
            None => (before, true),
            Some((lost, logged)) => (lost, now >= logged + COMPLAINT_INTERVAL),
        };
        if due {
            log(Level::Error, format_args!("access log: lines are lost: {error}"));
            self.failing = Some((lost, now));
        }
        true
    }

    /// Counts what is left of the batch as lost.
    fn give_up(&mut self) {
        let (written, left) = self.batch.split_at(self.written);
        if !left.is_empty() {
            self.torn |= written.last().is_some_and(|byte| *byte != b'\n');
            self.lost.fetch_add(line_count(left), Ordering::Relaxed);
        }
        self.batch.clear();
        self.written = 0;
    }

    /// Empties the rings: what is in them belongs to a log that is off, and could not be written in time.
    fn discard(&mut self) {
        let Self { rings, entry, lost, .. } = self;
        rings.iter_mut().for_each(|ring| {
            while ring.pop(entry) {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

fn line_count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What stands before a line of syslog, at this time: for a daemon on this machine as RFC 3164 has it, without the host, else as RFC 5424.
fn write_prefix(local: bool, out: &mut Vec<u8>) {
    let pid = std::process::id();
    out.clear();
    out.extend_from_slice(format!("<{PRIORITY}>").as_bytes());
    if local {
        write_syslog_time(wall_clock(), out);
        return out.extend_from_slice(format!(" cairn[{pid}]: ").as_bytes());
    }
    out.extend_from_slice(b"1 ");
    write_time(wall_clock(), out);
    let system = rustix::system::uname();
    let host = system.nodename().to_str().ok().filter(|name| !name.is_empty()).unwrap_or("-");
    out.extend_from_slice(format!(" {host} cairn {pid} - - ").as_bytes());
}
