//! Which streams of a connection were reset, because frames may come that the peer has sent before it knew. Not here: what is done with them.

use crate::http2::StreamId;

/// Streams below the newest one that was reset of which it is known. Far more than there can be at once, so that a burst of resets,
/// such as those of a client that has many requests under way and goes, leaves none out.
const KNOWN: u32 = 2048;
const _: () = assert!(KNOWN as usize >= 2 * crate::limits::STREAMS_MAX && KNOWN.is_multiple_of(u64::BITS));

/// The streams of one side that were reset: a bit for each of the last ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resets {
    /// By number modulo [`KNOWN`], for those from `newest` downward.
    bits: [u64; (KNOWN / u64::BITS) as usize],
    /// The highest number that was reset.
    newest: u32,
}

impl Default for Resets {
    /// None.
    fn default() -> Self {
        Self { bits: [0; (KNOWN / u64::BITS) as usize], newest: 0 }
    }
}

impl Resets {
    /// Remembers that a stream was reset.
    pub(super) fn add(&mut self, id: StreamId) {
        let number = number(id);
        if number > self.newest {
            let first = self.newest.saturating_add(1).max(number.saturating_sub(KNOWN - 1));
            (first..=number).for_each(|skipped| self.set(skipped, false));
            self.newest = number;
        }
        if self.newest - number < KNOWN {
            self.set(number, true);
        }
    }

    /// Whether a stream was reset. Of those that are too old to be known, it says so.
    pub(super) fn may_have(&self, id: StreamId) -> bool {
        let number = number(id);
        let (word, bit) = place(number);
        match self.newest.checked_sub(number) {
            Some(age) if age < KNOWN => self.bits.get(word).is_some_and(|bits| bits & bit != 0),
            age => age.is_some(),
        }
    }

    fn set(&mut self, number: u32, was_reset: bool) {
        let (word, bit) = place(number);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits = if was_reset { *bits | bit } else { *bits & !bit };
        }
    }
}

/// All streams of one side have identifiers of the same parity.
fn number(id: StreamId) -> u32 {
    id.get() / 2
}

fn place(number: u32) -> (usize, u64) {
    let at = number % KNOWN;
    ((at / u64::BITS) as usize, 1 << (at % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_and_older_ones_may_have_been_reset() {
        let mut resets = Resets::default();
        let has = |resets: &Resets, number: u32| resets.may_have(StreamId::new(2 * number + 1));
        assert!(!has(&resets, 0) && !has(&resets, 5));
        // A naive model beside it, with gaps of all sizes.
        let mut known = std::collections::BTreeSet::new();
        let mut number = 0;
        for step in [0, 1, 1, 63, 64, 65, 1, 2046, 1, 2047, 2048, 3, 5000, 1, 1, 1 << 29] {
            number += step;
            resets.add(StreamId::new(2 * number + 1));
            known.insert(number);
            for asked in number.saturating_sub(KNOWN - 1)..=number + 70 {
                assert_eq!(has(&resets, asked), known.contains(&asked), "{asked} after {number}");
            }
            assert!(number < KNOWN || has(&resets, number - KNOWN));
        }
        // One that is late, and one that is too late.
        resets.add(StreamId::new(2 * (number - 100) + 1));
        resets.add(StreamId::new(1));
        assert!(has(&resets, number - 100) && has(&resets, number) && !has(&resets, number - 99));
    }
}
