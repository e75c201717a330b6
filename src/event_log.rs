//! Messages of the process to its operator, on stderr. No thread waits for the reader of stderr: entries go into a bounded queue,
//! one thread writes them, and entries for which there is no room are counted and dropped. Not here: the record of each exchange.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::calendar::moment;
use crate::printable::escape::{self, Style};

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

/// Entries go nowhere; see [`silence`].
static SILENT: AtomicBool = AtomicBool::new(false);

/// The least level that is logged, as a number.
static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Entries are objects of JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// `TIME LEVEL cairn: TEXT`, in several lines where the text has several.
    Text,
    /// An object of JSON on one line: `time`, `level`, `message`.
    Json,
}

/// How much an entry concerns the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// All is as it was asked for.
    Info,
    /// Something is not as it should be, and the process goes on.
    Warn,
    /// Something that was asked for was not done.
    Error,
}

impl Level {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warn, Self::Error];

    /// As it is written in the log and in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The least level that is logged.
#[must_use]
pub fn least() -> Level {
    match LEAST.load(Ordering::Relaxed) {
        0 => Level::Info,
        1 => Level::Warn,
        _ => Level::Error,
    }
}

/// From now on logs what is of this level or above, until the next [`configure`].
pub fn set_least(least: Level) {
    LEAST.store(least as u8, Ordering::Relaxed);
}

/// From now on logs what is of this level or above, in this format.
pub fn configure(least: Level, format: EventFormat) {
    LEAST.store(least as u8, Ordering::Relaxed);
    JSON.store(format == EventFormat::Json, Ordering::Relaxed);
}

/// Logs `TIME LEVEL cairn: TEXT`; further lines of `text` begin with time and level, too. Never blocks. Allocates, so it must not be
/// called on the request path.
pub fn log(level: Level, text: impl fmt::Display) {
    PROCESS.add(level, format_args!("cairn: {text}"));
}

/// Logs the report on a configuration, whose lines begin with places, as an error. Otherwise like [`log`].
pub fn report(text: impl fmt::Display) {
    PROCESS.add(Level::Error, format_args!("{text}"));
}

/// Logs `cairn: TEXT` without time and level: where a listener is bound, and that all are served. Scripts and supervisors wait for
/// these lines, so their form stays. Otherwise like [`log`].
pub fn announce(text: impl fmt::Display) {
    PROCESS.queue(format!("cairn: {text}"));
}

/// Queues `text` as it is, for a person who tries cairn out. Otherwise like [`log`].
pub fn print(text: impl fmt::Display) {
    PROCESS.queue(text.to_string());
}

/// Has all entries go nowhere from now on: for processes whose workers serve nobody, such as simulations of them.
pub fn silence() {
    SILENT.store(true, Ordering::Relaxed);
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
            BacktraceStatus::Captured => log(Level::Error, format_args!("thread {name} {panic}\n{trace}")),
            _ => log(Level::Error, format_args!("thread {name} {panic}")),
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

    fn add(&self, level: Level, text: fmt::Arguments<'_>) {
        if (level as u8) < LEAST.load(Ordering::Relaxed) {
            return;
        }
        // Checked before the text is formatted, so that a queue that stays full costs little.
        if self.shared.waiting.load(Ordering::Relaxed) >= QUEUE_BYTES {
            self.shared.drop_one();
            return;
        }
        self.queue(entry(level, &text.to_string()));
    }

    fn queue(&self, mut entry: String) {
        if SILENT.load(Ordering::Relaxed) {
            return;
        }
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

/// `text` as it is written now.
fn entry(level: Level, text: &str) -> String {
    let now = SystemTime::now();
    if JSON.load(Ordering::Relaxed) { object(now, level, text) } else { stamped(now, level, text) }
}

/// `text` with time and level in front of each line, up to the longest entry.
fn stamped(now: SystemTime, level: Level, text: &str) -> String {
    let stamp = format!("{} {} ", Utc(now), level.name());
    let mut entry = String::with_capacity(stamp.len() + text.len());
    for line in text.trim_end().split('\n') {
        if !entry.is_empty() {
            entry.push('\n');
        }
        entry.push_str(&stamp);
        entry.push_str(line);
        if entry.len() > ENTRY_BYTES {
            break;
        }
    }
    entry
}

/// An object of JSON with time, level and text, in which the name of the program is left out. A text that is too long is cut.
fn object(now: SystemTime, level: Level, text: &str) -> String {
    const ROOM: usize = 256;
    let text = text.trim_end();
    let text = text.strip_prefix("cairn: ").unwrap_or(text);
    let begin = format!("{{\"time\":\"{}\",\"level\":\"{}\",\"message\":\"", Utc(now), level.name());
    let mut entry = begin.into_bytes();
    for character in text.chars() {
        if entry.len() > ENTRY_BYTES - ROOM {
            entry.extend_from_slice("…".as_bytes());
            break;
        }
        escape::write(Style::Json, character.encode_utf8(&mut [0; 4]).as_bytes(), &mut entry);
    }
    entry.extend_from_slice(b"\"}");
    // What was UTF-8 is so when it is escaped, so that nothing is replaced.
    String::from_utf8_lossy(&entry).into_owned()
}

/// A time as RFC 3339 writes it, in UTC, with milliseconds.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ([year, month, day, hour, minute, second], milliseconds) = (moment(since.as_secs()), since.subsec_millis());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
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
            let text = format!("cairn: {count} events were dropped, because stderr was not read");
            self.write(&format!("{}\n", entry(Level::Warn, &text)));
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
    use crate::printable::is_command;

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
            log.add(Level::Info, format_args!("{long}"));
        }
        let kept = QUEUE_BYTES / (ENTRY_BYTES + ENTRY_OVERHEAD + 1);
        let dropped = log.shared.dropped.load(Ordering::Relaxed);
        assert_eq!(dropped, 100 - kept as u64);
        log.flush(Duration::from_millis(1));
        // When the sink is read again, it gets the entries that were kept, then the number of those that were dropped.
        assert_eq!(lines.recv().unwrap().len(), ENTRY_BYTES + 1);
        let said = format!(" warn cairn: {dropped} events were dropped, because stderr was not read\n");
        assert!(lines.recv().unwrap().ends_with(&said));
        for _ in 1..kept {
            assert_eq!(lines.recv().unwrap().len(), ENTRY_BYTES + 1);
        }
        // And there is room again.
        log.add(Level::Info, format_args!("again"));
        assert!(lines.recv().unwrap().ends_with("Z info again\n"));
        log.flush(Duration::from_secs(10));
        assert_eq!(log.shared.dropped.load(Ordering::Relaxed), dropped);
    }

    #[test]
    fn every_line_tells_time_and_level() {
        for (milliseconds, time) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_709_164_800_007, "2024-02-29T00:00:00.007Z"),
            (1_795_885_262_345, "2026-11-28T17:01:02.345Z"),
        ] {
            let now = UNIX_EPOCH + Duration::from_millis(milliseconds);
            let expected = format!("{time} warn cairn: one\n{time} warn   two");
            assert_eq!(stamped(now, Level::Warn, "cairn: one\n  two\n"), expected);
        }
        // Many short lines make no entry longer than another.
        let lines = stamped(UNIX_EPOCH, Level::Info, &"\n".repeat(2 * ENTRY_BYTES));
        assert!(lines.len() < ENTRY_BYTES + 100);
    }

    #[test]
    fn an_object_is_one_line_of_json_within_the_bound() {
        let text = "cairn: a \"b\" \\ c\n  d\t\u{1b}[2J\u{202e}é\n";
        let line = object(UNIX_EPOCH, Level::Error, text);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        let message = "a \"b\" \\ c\n  d\t\u{1b}[2J\u{202e}é";
        assert_eq!(
            read,
            serde_json::json!({ "time": "1970-01-01T00:00:00.000Z", "level": "error", "message": message })
        );
        assert!(!line.contains(is_command), "{line}");
        let long = object(UNIX_EPOCH, Level::Info, &"\u{7f}".repeat(2 * ENTRY_BYTES));
        assert!(long.len() <= ENTRY_BYTES && serde_json::from_str::<serde_json::Value>(&long).is_ok());
    }

    #[test]
    fn short_entries_are_bounded_too() {
        let (sender, _lines) = sync_channel(0);
        let log = EventLog::start(Slow(sender));
        (0..QUEUE_BYTES / ENTRY_OVERHEAD).for_each(|_| log.add(Level::Info, format_args!("é")));
        assert!(log.shared.dropped.load(Ordering::Relaxed) > 0);
        assert!(log.shared.waiting.load(Ordering::Relaxed) <= QUEUE_BYTES);
    }
}
