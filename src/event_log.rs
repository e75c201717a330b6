//! Messages of the process to its operator, on stderr. No thread waits for the reader of stderr: entries go into a bounded queue,
//! one thread writes them, and entries for which there is no room are counted and dropped. Not here: the record of each exchange.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Capacity of the queue, bytes.
const QUEUE_BYTES: usize = 1024 * 1024;
/// Longest entry, bytes; longer ones are cut.
const ENTRY_BYTES: usize = 64 * 1024;
/// Bytes that an entry counts besides its text, which bounds the number of short entries.
const ENTRY_OVERHEAD: usize = 128;
/// How long the process waits at its end for the last entries to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// The log of this process.
static PROCESS: LazyLock<EventLog> = LazyLock::new(|| EventLog::start(Stderr));

/// Logs `cairn: TEXT`. Never blocks. Allocates, so it must not be called on the request path.
pub fn log(text: impl fmt::Display) {
    PROCESS.add(format_args!("cairn: {text}"));
}

/// Logs `text` without a prefix, for text of several lines. Otherwise like [`log`].
pub fn print(text: impl fmt::Display) {
    PROCESS.add(format_args!("{text}"));
}

/// Number of entries dropped so far because stderr was not read.
#[must_use]
pub fn dropped() -> u64 {
    PROCESS.shared.dropped.load(Ordering::Relaxed)
}

/// Waits until all entries are written, for a second at most.
pub fn flush() {
    PROCESS.flush(FLUSH);
}

/// Starts the log, and reports panics in it: the default panic hook would block on stderr.
pub fn start() {
    LazyLock::force(&PROCESS);
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let trace = Backtrace::capture();
        let name = thread.name().unwrap_or("without a name");
        match trace.status() {
            BacktraceStatus::Captured => log(format_args!("thread {name} {panic}\n{trace}")),
            _ => log(format_args!("thread {name} {panic}")),
        }
    }));
}

/// A queue of entries, and the thread that writes them.
#[derive(Debug)]
struct EventLog {
    entries: Sender<Entry>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of the queued entries, with their overhead.
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Entry {
    /// Text with its newline.
    Text(String),
    /// Answered through the channel when all entries before it are written.
    Mark(SyncSender<()>),
}

impl EventLog {
    /// Starts a log that writes to `sink`, which may block for ever.
    fn start(sink: impl Write + Send + 'static) -> Self {
        let (entries, queue) = channel();
        let shared = Arc::new(Shared::default());
        let writer = Writer { sink, shared: Arc::clone(&shared), reported: 0 };
        // If the thread cannot be started, entries are dropped.
        let _ = thread::Builder::new().name("event-log".to_owned()).spawn(move || writer.run(&queue));
        Self { entries, shared }
    }

    fn add(&self, text: fmt::Arguments<'_>) {
        // Checked before the text is formatted, so that a queue that stays full costs little.
        if self.shared.waiting.load(Ordering::Relaxed) >= QUEUE_BYTES {
            self.shared.drop_one();
            return;
        }
        let mut entry = text.to_string();
        let end = (0..=entry.len().min(ENTRY_BYTES)).rev().find(|end| entry.is_char_boundary(*end));
        entry.truncate(end.unwrap_or(0));
        entry.truncate(entry.trim_end().len());
        entry.push('\n');
        let cost = entry.len() + ENTRY_OVERHEAD;
        if self.shared.waiting.fetch_add(cost, Ordering::Relaxed) + cost > QUEUE_BYTES {
            self.shared.waiting.fetch_sub(cost, Ordering::Relaxed);
            self.shared.drop_one();
        } else if self.entries.send(Entry::Text(entry)).is_err() {
            self.shared.drop_one();
        }
    }

    fn flush(&self, patience: Duration) {
        let (mark, written) = sync_channel(1);
        if self.entries.send(Entry::Mark(mark)).is_ok() {
            // The process ends even if the answer is late.
            let _ = written.recv_timeout(patience);
        }
    }
}

impl Shared {
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The thread that writes the entries.
struct Writer<W> {
    sink: W,
    shared: Arc<Shared>,
    /// Number of dropped entries that were reported.
    reported: u64,
}

impl<W: Write> Writer<W> {
    fn run(mut self, queue: &Receiver<Entry>) {
        for entry in queue {
            match entry {
                Entry::Text(text) => {
                    self.write(&text);
                    self.shared.waiting.fetch_sub(text.len() + ENTRY_OVERHEAD, Ordering::Relaxed);
                    self.report_dropped();
                }
                // The thread that flushes may have given up.
                Entry::Mark(mark) => drop(mark.try_send(())),
            }
        }
    }

    fn report_dropped(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.reported {
            let count = dropped - self.reported;
            self.reported = dropped;
            self.write(&format!("cairn: {count} events were dropped, because stderr was not read\n"));
        }
    }

    fn write(&mut self, text: &str) {
        // There is no place to report that the sink is closed.
        let _ = self.sink.write_all(text.as_bytes());
    }
}

/// Standard error without the lock of the standard library: other threads would wait for it while a write blocks.
#[derive(Debug)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        loop {
            match rustix::io::write(stderr.as_fd(), bytes) {
                // Another process that shares the file description has made it non-blocking.
                Err(Errno::AGAIN) => {
                    let mut ready = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
                    match poll(&mut ready, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink that blocks at each write until the test receives it.
    struct Slow(SyncSender<String>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_events_and_nothing_else() {
        let (sender, lines) = sync_channel(0);
        let log = EventLog::start(Slow(sender));
        let long = "x".repeat(2 * ENTRY_BYTES);
        for _ in 0..100 {
            log.add(format_args!("{long}"));
        }
        let kept = QUEUE_BYTES / (ENTRY_BYTES + ENTRY_OVERHEAD + 1);
        let dropped = log.shared.dropped.load(Ordering::Relaxed);
        assert_eq!(dropped, 100 - kept as u64);
        log.flush(Duration::from_millis(1));
        // When the sink is read again, it gets the entries that were kept, then the number of those that were dropped.
        assert_eq!(lines.recv().unwrap().len(), ENTRY_BYTES + 1);
        assert_eq!(
            lines.recv().unwrap(),
            format!("cairn: {dropped} events were dropped, because stderr was not read\n")
        );
        for _ in 1..kept {
            assert_eq!(lines.recv().unwrap().len(), ENTRY_BYTES + 1);
        }
        // And there is room again.
        log.add(format_args!("again"));
        assert_eq!(lines.recv().unwrap(), "again\n");
        log.flush(Duration::from_secs(10));
        assert_eq!(log.shared.dropped.load(Ordering::Relaxed), dropped);
    }

    #[test]
    fn short_entries_are_bounded_too() {
        let (sender, _lines) = sync_channel(0);
        let log = EventLog::start(Slow(sender));
        (0..QUEUE_BYTES / ENTRY_OVERHEAD).for_each(|_| log.add(format_args!("é")));
        assert!(log.shared.dropped.load(Ordering::Relaxed) > 0);
        assert!(log.shared.waiting.load(Ordering::Relaxed) <= QUEUE_BYTES);
    }
}
