//! The access log: a line for each exchange. A worker writes what is known of an exchange as one binary entry into a ring of its own
//! (`recorder`); one thread makes lines of the entries of all workers (`format`) and writes them (`writer`, `sink`). A worker never waits
//! for that thread, nor does anybody else: what finds no room in a ring is counted. Who watches exchanges live has rings of its own (`tap`).
//! Not here: what happens to the process (`event_log`).

mod attempt;
mod entry;
mod format;
mod recorder;
mod sink;
mod tap;
mod variable;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use attempt::{AttemptEntry, AttemptLog};
pub use entry::{Draft, Entry, Numbers, Protocol, Text};
pub use format::{Format, Part, rfc3339};
pub use recorder::{Outcome, Recorded, Recorder};
pub use sink::{LogError, Sink};
pub use tap::{HeadSide, MASK, TAPS, Tap, TapFilter, TapOrder, TapReader, TappedField, is_secret, read_tapped, tap};
pub use variable::Variable;
pub use writer::AccessLog;

/// What `[log]` says of the access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSpec {
    /// Where lines go.
    pub target: LogTarget,
    /// What a line looks like.
    pub format: Format,
    /// Which exchanges are logged, and what is kept of them.
    pub rules: Rules,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, to which lines are appended, or a FIFO that somebody reads.
    File(PathBuf),
    /// The datagram socket of a syslog daemon on this machine, `/dev/log` (RFC 3164).
    SyslogSocket(PathBuf),
    /// A syslog daemon that takes UDP (RFC 5424, RFC 5426).
    SyslogAddress(SocketAddr),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::SyslogSocket(path) => write!(f, "syslog:{}", path.display()),
            Self::SyslogAddress(address) => write!(f, "syslog:{address}"),
        }
    }
}

/// What workers do for the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Names of the fields of requests that are logged besides, in lower case.
    pub headers: Vec<Box<str>>,
    /// What is logged of queries.
    pub query: QueryRule,
    /// The share of exchanges that is logged, 0 to 1. Those that have failed, and slow ones, are logged in any case.
    pub sample: f64,
    /// From which time on an exchange is slow; None: none is.
    pub slow: Option<Duration>,
    /// Statuses of the exchanges that are logged; empty: all.
    pub statuses: Vec<RangeInclusive<u16>>,
}

/// What is logged of queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryRule {
    /// All.
    #[default]
    Full,
    /// Names, with `*` in the place of values.
    Redacted,
    /// Nothing.
    Off,
}

#[cfg(test)]
mod tests;
