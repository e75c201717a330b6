//! The side of the access log that a worker has: entries under way, which of them are logged, and the ring that they go to; a second
//! ring is for those of which more is made (`observer`), and each who watches has one (`tap`). Not here: what an entry holds of an exchange
//! (`downstream`).

use std::time::Duration;

use super::attempt::AttemptLog;
use super::entry::{Draft, FAILED, Numbers};
use super::tap::{TAPS, Tap, TapOrder};
use super::{QueryRule, Rules};
use crate::limits::SLOW_EXCHANGE;
use crate::runtime::{ByteRingReader, ByteRingWriter, byte_ring};

/// Bytes of a worker's ring: some thousand entries, which the thread that writes lines takes several times a second.
const RING_BYTES: usize = 1024 * 1024;
/// Drafts that are kept for other exchanges.
const SPARE_MAX: usize = 1024;

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

/// What became of an entry in each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In the access log.
    pub log: Recorded,
    /// At the observer, which makes spans of it, or remembers it because it has failed or was slow.
    pub observed: Recorded,
}

/// The access log of one worker.
#[derive(Debug)]
pub struct Recorder {
    /// None: nothing is logged.
    rules: Option<Rules>,
    /// Whether every exchange has an entry, for the log or for those who watch.
    is_on: bool,
    /// Those who watch.
    taps: [Option<Tap>; TAPS],
    /// What one of them was handed last.
    tapped: Vec<u8>,
    ring: ByteRingWriter,
    reader: Option<ByteRingReader>,
    observed: ByteRingWriter,
    observer: Option<ByteRingReader>,
    /// From which time on an exchange is slow.
    slow: Duration,
    /// Memory for entries under way.
    #[allow(clippy::vec_box, reason = "a box is given to an exchange and comes back")]
    spare: Vec<Box<Draft>>,
    #[allow(clippy::vec_box, reason = "a box is given to an exchange and comes back")]
    spare_attempts: Vec<Box<AttemptLog>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let ((ring, reader), (observed, observer)) = (byte_ring(), byte_ring());
        Self {
            rules: None,
            is_on: false,
            taps: Default::default(),
            tapped: Vec::new(),
            ring,
            reader: Some(reader),
            observed,
            observer: Some(observer),
            slow: SLOW_EXCHANGE,
            spare: Vec::new(),
            spare_attempts: Vec::new(),
        }
    }
}

impl Recorder {
    /// Goes on under other rules; None: nothing is logged. `slow`: from which time on an exchange is slow. Allocates.
    pub fn apply(&mut self, rules: Option<&Rules>, slow: Option<Duration>) {
        self.observed.allocate(RING_BYTES);
        self.slow = slow.unwrap_or(SLOW_EXCHANGE);
        self.rules = rules.cloned();
        if rules.is_some() {
            self.ring.allocate(RING_BYTES);
        }
        self.is_on = self.rules.is_some() || self.is_watched();
    }

    /// Takes in what is said of the watcher at this place.
    pub fn watch(&mut self, place: usize, order: TapOrder) {
        let Some(tap) = self.taps.get_mut(place) else { return };
        *tap = match order {
            TapOrder::Begin(tap) => {
                tap.begin();
                Some(tap)
            }
            TapOrder::End => None,
        };
        self.is_on = self.rules.is_some() || self.is_watched();
    }

    /// Whether anybody watches, so that entries have the fields of heads.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.taps.iter().any(Option::is_some)
    }

    /// The side of the ring that is read, once.
    pub fn take_reader(&mut self) -> Option<ByteRingReader> {
        self.reader.take()
    }

    /// The side that is read of the observer's ring, once.
    pub fn take_observer(&mut self) -> Option<ByteRingReader> {
        self.observer.take()
    }

    /// Whether every exchange has an entry, because it may be logged or is watched.
    #[must_use]
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The rules, if anything is logged.
    #[must_use]
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.as_ref()
    }

    /// From which time on an exchange is slow.
    #[must_use]
    #[inline]
    pub fn slow(&self) -> Duration {
        self.slow
    }

    /// What is kept of queries.
    #[must_use]
    pub fn query(&self) -> QueryRule {
        self.rules.as_ref().map_or(QueryRule::Full, |rules| rules.query)
    }

    /// A list of attempts without any.
    #[must_use]
    pub fn attempts(&mut self) -> Box<AttemptLog> {
        let mut attempts = self.spare_attempts.pop().unwrap_or_default();
        attempts.clear();
        attempts
    }

    /// Keeps the memory of attempts for another exchange.
    #[inline]
    pub fn put_back_attempts(&mut self, attempts: Option<Box<AttemptLog>>) {
        if let Some(attempts) = attempts
            && self.spare_attempts.len() < SPARE_MAX
        {
            self.spare_attempts.push(attempts);
        }
    }

    /// An empty entry.
    #[must_use]
    pub fn draft(&mut self) -> Box<Draft> {
        let mut draft = self.spare.pop().unwrap_or_default();
        draft.clear();
        draft
    }

    /// Keeps the memory of an entry that is not wanted any more.
    pub fn put_back(&mut self, mut draft: Box<Draft>) {
        if !self.is_watched() {
            draft.heads.free();
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(draft);
        }
    }

    /// Writes a complete entry to the rings that want it. `random`: uniformly distributed bits.
    pub fn record(&mut self, mut draft: Box<Draft>, random: u32) -> Outcome {
        let logged = self.rules.as_ref().is_some_and(|rules| rules.want(&draft.numbers, random));
        let observed = draft.numbers.span != 0 || draft.numbers.remarkable;
        let bytes = draft.finish();
        let write = |wanted: bool, ring: &mut ByteRingWriter| match wanted {
            false => Recorded::LeftOut,
            true if ring.push(bytes) => Recorded::Queued,
            true => Recorded::Dropped,
        };
        let outcome = Outcome { log: write(logged, &mut self.ring), observed: write(observed, &mut self.observed) };
        for tap in self.taps.iter_mut().flatten() {
            tap.offer(&mut draft, &mut self.tapped);
        }
        self.put_back(draft);
        outcome
    }
}

impl Rules {
    fn want(&self, numbers: &Numbers, random: u32) -> bool {
        let slow = self.slow.is_some_and(|slow| numbers.total >= slow);
        if slow || numbers.cut {
            return true;
        }
        if !self.statuses.is_empty() && !self.statuses.iter().any(|range| range.contains(&numbers.status)) {
            return false;
        }
        numbers.status >= FAILED || self.sample >= 1.0 || f64::from(random) < self.sample * f64::from(u32::MAX)
    }
}
