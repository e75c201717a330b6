//! Counts of a run. Not here: reports of them.

use std::time::Duration;

use cairn::uring;
use rustix::io::Errno;

use crate::histogram::Histogram;
use crate::report;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection, or the stream, ended before the answer did.
    Reset,
    /// No whole answer in time.
    Timeout,
    /// Not the status that was expected; of a call of gRPC, any but 0.
    Status,
    /// Not the length that was expected, or a broken body.
    Body,
    /// No handshake, or a broken record.
    Tls,
    /// The bytes are no response of the version that is spoken, or no request is under way.
    Protocol,
}

impl Failure {
    pub(crate) const ALL: [Self; 7] =
        [Self::Connect, Self::Reset, Self::Timeout, Self::Status, Self::Body, Self::Tls, Self::Protocol];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Body => "body",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
        }
    }
}

/// Counts of the requests after the warm-up: `sent` is the sum of those in `latency`, all errors, and `unanswered`.
#[derive(Clone, Debug)]
pub(crate) struct RunCounts {
    pub(crate) sent: u64,
    /// Latencies of requests answered as expected: from when a request was due to the last byte of its answer.
    pub(crate) latency: Histogram,
    /// Delays from when a request was due until it was sent; open loop only.
    pub(crate) late: Histogram,
    errors: [u64; Failure::ALL.len()],
    /// Requests under way when the run was interrupted.
    pub(crate) unanswered: u64,
    /// Requests due before the end for which no connection was free.
    pub(crate) unsent: u64,
    pub(crate) received_bytes: u64,
    /// TLS handshakes, how many of them resumed a session, and how many took a round trip more than they should.
    pub(crate) handshakes: u64,
    pub(crate) resumed: u64,
    pub(crate) retried: u64,
    /// Streams of HTTP/2 that the server has reset, and connections that it has ended with GOAWAY.
    pub(crate) stream_resets: u64,
    pub(crate) goaways: u64,
    pub(crate) elapsed: Duration,
    /// CPU time of the generator's threads, user and system.
    pub(crate) cpu: Duration,
    pub(crate) interrupted: bool,
    /// A connection found no local port.
    pub(crate) out_of_ports: bool,
}

impl RunCounts {
    pub(crate) fn new() -> Self {
        Self {
            sent: 0,
            latency: Histogram::new(),
            late: Histogram::new(),
            errors: [0; Failure::ALL.len()],
            unanswered: 0,
            unsent: 0,
            received_bytes: 0,
            handshakes: 0,
            resumed: 0,
            retried: 0,
            stream_resets: 0,
            goaways: 0,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            interrupted: false,
            out_of_ports: false,
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.errors[failure as usize] += 1;
    }

    /// A connection could not be made.
    pub(super) fn note_connect(&mut self, error: uring::Errno) {
        self.out_of_ports |= error.0 == Errno::ADDRNOTAVAIL.raw_os_error();
    }

    pub(crate) fn errors(&self, failure: Failure) -> u64 {
        self.errors[failure as usize]
    }

    pub(crate) fn all_errors(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// What is wrong with the answers if a smaller part than `least` of those that came, or should have come, was right.
    pub(crate) fn complaint(&self, least: f64) -> Option<String> {
        let (right, wrong) = (self.latency.count(), self.all_errors());
        let part = right as f64 / (right + wrong).max(1) as f64;
        (wrong > 0 && part < least).then(|| {
            format!(
                "only {right} of {} requests were answered as expected, less than --fail-below {least}; wrong: {}",
                right + wrong,
                report::errors(self)
            )
        })
    }

    /// Whether any request was answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.latency.count() + self.errors(Failure::Status) + self.errors(Failure::Body) > 0
    }

    /// Adds the counts of another thread for the same time.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.latency.merge(&other.latency);
        self.late.merge(&other.late);
        for (sum, count) in self.errors.iter_mut().zip(other.errors) {
            *sum += count;
        }
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.received_bytes += other.received_bytes;
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.retried += other.retried;
        self.stream_resets += other.stream_resets;
        self.goaways += other.goaways;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.cpu += other.cpu;
        self.interrupted |= other.interrupted;
        self.out_of_ports |= other.out_of_ports;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_fails_when_too_few_answers_were_right() {
        let mut counts = RunCounts::new();
        // Nothing was asked, so nothing was wrong.
        assert_eq!(counts.complaint(1.0), None);
        (0..99).for_each(|_| counts.latency.record(Duration::from_millis(1)));
        counts.fail(Failure::Status);
        assert_eq!([0.0, 0.99].map(|least| counts.complaint(least)), [None, None]);
        counts.fail(Failure::Reset);
        counts.unanswered = 50;
        let complaint = counts.complaint(0.99).expect("99 of 101");
        assert!(complaint.starts_with("only 99 of 101 ") && complaint.ends_with("; wrong: 2 (reset 1, status 1)"));
    }
}
