//! The binary form of what is known of one attempt of an exchange. Not here: the entry that it is a part of (`entry`).

use std::time::Duration;

use super::entry::{HEADER, Text};
use crate::limits::LOGGED_ATTEMPTS;

/// Bytes before the texts of an attempt.
const FIXED: usize = 20;
/// Bytes that are kept of an endpoint's name.
const ENDPOINT: usize = 255;

/// One attempt of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptEntry<'a> {
    /// 1 for the first one.
    pub number: u8,
    /// Status of its response, if that was not passed on; 0: the status of the exchange, if it was the last one.
    pub status: u16,
    /// When it began, by the clock of workers.
    pub began: Duration,
    /// When it ended; None: with the exchange.
    pub ended: Option<Duration>,
    /// Address of the endpoint.
    pub endpoint: &'a [u8],
    /// Reason code of its failure; empty: that of the exchange, if it was the last one.
    pub reason: &'a [u8],
}

impl<'a> AttemptEntry<'a> {
    /// Appends it as a text of an entry.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let endpoint = &self.endpoint[..self.endpoint.len().min(ENDPOINT)];
        let length = FIXED + self.reason.len() + endpoint.len();
        let [low, high] = (length as u16).to_le_bytes();
        out.extend_from_slice(&[Text::Attempt as u8, low, high, self.number, self.reason.len() as u8]);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&(self.began.as_nanos() as u64).to_le_bytes());
        out.extend_from_slice(&self.ended.map_or(u64::MAX, |ended| ended.as_nanos() as u64).to_le_bytes());
        out.extend_from_slice(self.reason);
        out.extend_from_slice(endpoint);
    }

    /// Reads what [`AttemptEntry::write`] has put behind the tag and the length.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[number, reason], rest) = bytes.split_first_chunk()?;
        let (status, rest) = rest.split_first_chunk()?;
        let (began, rest) = rest.split_first_chunk()?;
        let (ended, rest) = rest.split_first_chunk()?;
        let (reason, endpoint) = rest.split_at_checked(usize::from(reason))?;
        let ended = u64::from_le_bytes(*ended);
        Some(Self {
            number,
            status: u16::from_le_bytes(*status),
            began: Duration::from_nanos(u64::from_le_bytes(*began)),
            ended: (ended != u64::MAX).then(|| Duration::from_nanos(ended)),
            endpoint,
            reason,
        })
    }
}

/// The attempts of an exchange that have ended while it lasts.
#[derive(Debug)]
pub struct AttemptLog {
    pub(super) bytes: Vec<u8>,
    count: usize,
}

impl Default for AttemptLog {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(4 * (HEADER + FIXED + 64)), count: 0 }
    }
}

impl AttemptLog {
    /// Forgets all, but for the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Adds one, if there is room: of many, the first ones are kept, with a place for the last.
    pub fn add(&mut self, attempt: &AttemptEntry<'_>) {
        if self.count + 1 < LOGGED_ATTEMPTS {
            self.count += 1;
            attempt.write(&mut self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::{Draft, Entry};

    #[test]
    fn attempts_come_out_as_they_went_in() {
        let first = AttemptEntry {
            number: 1,
            status: 503,
            began: Duration::from_millis(5),
            ended: Some(Duration::from_millis(7)),
            endpoint: b"127.0.0.1:9000",
            reason: b"upstream_reset",
        };
        let last = AttemptEntry { number: 2, ended: None, reason: b"", ..first };
        let mut log = AttemptLog::default();
        (0..40).for_each(|_| log.add(&first));
        let mut draft = Draft::default();
        draft.clear();
        draft.add(Text::Client, b"192.0.2.1");
        draft.add_attempts(&log);
        draft.add_attempt(&last);
        let bytes = draft.finish().to_vec();
        let entry = Entry::read(&bytes).unwrap();
        let attempts: Vec<_> = entry.attempts().collect();
        assert_eq!(attempts.len(), LOGGED_ATTEMPTS);
        assert_eq!((attempts[0], attempts[LOGGED_ATTEMPTS - 1]), (first, last));
        for length in 0..bytes.len() {
            // Cut anywhere, it is another entry or none.
            let _ = Entry::read(&bytes[..length]);
        }
    }
}
