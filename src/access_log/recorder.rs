//! The side of the access log that a worker has: entries under way, which of them are logged, and the ring that they go to. Not here:
//! what an entry holds of an exchange (`downstream`).

use super::Rules;
use super::entry::{Draft, Numbers};
use crate::runtime::{ByteRingReader, ByteRingWriter, byte_ring};

/// Bytes of a worker's ring: some thousand entries, which the thread that writes lines takes several times a second.
const RING_BYTES: usize = 1024 * 1024;
/// Drafts that are kept for other exchanges.
const SPARE_MAX: usize = 1024;
/// From which status on an exchange has failed.
const FAILED: u16 = 500;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is in the ring.
    Queued,
    /// There was no room in the ring.
    Dropped,
    /// The rules leave it out.
    LeftOut,
}

/// The access log of one worker.
#[derive(Debug)]
pub struct Recorder {
    /// None: nothing is logged.
    rules: Option<Rules>,
    ring: ByteRingWriter,
    reader: Option<ByteRingReader>,
    /// Memory for entries under way.
    #[allow(clippy::vec_box, reason = "a box is given to an exchange and comes back")]
    spare: Vec<Box<Draft>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (ring, reader) = byte_ring();
        Self { rules: None, ring, reader: Some(reader), spare: Vec::new() }
    }
}

impl Recorder {
    /// Goes on under other rules; None: nothing is logged. Allocates.
    pub fn apply(&mut self, rules: Option<&Rules>) {
        self.rules = rules.cloned();
        if rules.is_some() {
            self.ring.allocate(RING_BYTES);
        }
    }

    /// The side of the ring that is read, once.
    pub fn take_reader(&mut self) -> Option<ByteRingReader> {
        self.reader.take()
    }

    /// Whether anything is logged.
    #[must_use]
    #[inline]
    pub fn is_on(&self) -> bool {
        self.rules.is_some()
    }

    /// The rules, if anything is logged.
    #[must_use]
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    /// An empty entry.
    #[must_use]
    pub fn draft(&mut self) -> Box<Draft> {
        let mut draft = self.spare.pop().unwrap_or_default();
        draft.clear();
        draft
    }

    /// Keeps the memory of an entry that is not wanted any more.
    pub fn put_back(&mut self, draft: Box<Draft>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(draft);
        }
    }

    /// Writes a complete entry to the ring, if the rules want it. `cut`: the response was not sent to its end. `random`: uniformly
    /// distributed bits.
    pub fn record(&mut self, mut draft: Box<Draft>, cut: bool, random: u32) -> Recorded {
        let wanted = self.rules.as_ref().is_some_and(|rules| rules.want(&draft.numbers, cut, random));
        let recorded = match wanted {
            false => Recorded::LeftOut,
            true if self.ring.push(draft.finish()) => Recorded::Queued,
            true => Recorded::Dropped,
        };
        self.put_back(draft);
        recorded
    }
}

impl Rules {
    fn want(&self, numbers: &Numbers, cut: bool, random: u32) -> bool {
        let slow = self.slow.is_some_and(|slow| numbers.total >= slow);
        if slow || cut {
            return true;
        }
        if !self.statuses.is_empty() && !self.statuses.iter().any(|range| range.contains(&numbers.status)) {
            return false;
        }
        numbers.status >= FAILED || self.sample >= 1.0 || f64::from(random) < self.sample * f64::from(u32::MAX)
    }
}
