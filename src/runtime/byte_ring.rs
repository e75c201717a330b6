//! A ring of bytes between one thread that writes entries and one that reads them. Neither waits for the other: an entry for which there
//! is no room is refused. Not here: what entries hold.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of a word, the unit of the ring.
const WORD: usize = 8;

/// What both sides share. Positions count words for ever; a word lies at its position modulo the size.
#[derive(Debug)]
struct Shared {
    /// The memory, taken when the first entry is to be written. The size is a power of two.
    words: OnceLock<Box<[AtomicU64]>>,
    /// Position of the first word that was not read. Written by the reader.
    head: Line<AtomicUsize>,
    /// Position behind the last word that was written. Written by the writer.
    tail: Line<AtomicUsize>,
}

/// A value alone on its cache lines, so that one side's stores do not slow down the other one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// The side that writes.
#[derive(Debug)]
pub struct ByteRingWriter {
    shared: Arc<Shared>,
    tail: usize,
    /// `head`, as it was seen last.
    head: usize,
}

/// The side that reads.
#[derive(Debug)]
pub struct ByteRingReader {
    shared: Arc<Shared>,
    head: usize,
}

/// Both sides of a ring without memory; see [`ByteRingWriter::allocate`].
#[must_use]
pub fn byte_ring() -> (ByteRingWriter, ByteRingReader) {
    let shared = Arc::new(Shared { words: OnceLock::new(), head: Line::default(), tail: Line::default() });
    (ByteRingWriter { shared: Arc::clone(&shared), tail: 0, head: 0 }, ByteRingReader { shared, head: 0 })
}

impl ByteRingWriter {
    /// Takes the memory of the ring, `bytes` rounded up to a power of two, unless it has some.
    pub fn allocate(&self, bytes: usize) {
        self.shared.words.get_or_init(|| {
            let words = bytes.div_ceil(WORD).next_power_of_two();
            std::iter::repeat_with(AtomicU64::default).take(words).collect()
        });
    }

    /// Writes an entry. False: there is no room for it.
    #[must_use]
    pub fn push(&mut self, entry: &[u8]) -> bool {
        let Some(words) = self.shared.words.get() else { return false };
        let needed = 1 + entry.len().div_ceil(WORD);
        let room = |head: usize| words.len().saturating_sub(self.tail.wrapping_sub(head));
        if needed > room(self.head) {
            // Pairs with the release in `pop`: what was read may be written over.
            self.head = self.shared.head.0.load(Ordering::Acquire);
            if needed > room(self.head) {
                return false;
            }
        }
        let mask = words.len() - 1;
        let start = self.tail & mask;
        words[start].store(entry.len() as u64, Ordering::Relaxed);
        let (whole, rest) = entry.as_chunks::<WORD>();
        // Up to the end of the memory, then from its beginning.
        let (before, behind) = whole.split_at(whole.len().min(mask - start));
        for (word, bytes) in words[start + 1..].iter().zip(before) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        for (word, bytes) in words.iter().zip(behind) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; WORD];
            last[..rest.len()].copy_from_slice(rest);
            words[(start + 1 + whole.len()) & mask].store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(needed);
        // Pairs with the acquire in `pop`: whoever sees the position sees the words.
        self.shared.tail.0.store(self.tail, Ordering::Release);
        true
    }
}

impl ByteRingReader {
    /// Reads the next entry into `entry`, in the place of what that held. False: there is none.
    pub fn pop(&mut self, entry: &mut Vec<u8>) -> bool {
        let Some(words) = self.shared.words.get() else { return false };
        if self.shared.tail.0.load(Ordering::Acquire) == self.head {
            return false;
        }
        let mask = words.len() - 1;
        let word = |at: usize| words[self.head.wrapping_add(at) & mask].load(Ordering::Relaxed);
        let length = word(0) as usize;
        let count = length.div_ceil(WORD);
        entry.clear();
        (1..=count).for_each(|at| entry.extend_from_slice(&word(at).to_le_bytes()));
        entry.truncate(length);
        self.head = self.head.wrapping_add(1 + count);
        self.shared.head.0.store(self.head, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn entry(number: usize) -> Vec<u8> {
        (0..number * 7 % 61).map(|at| (number + at) as u8).collect()
    }

    #[test]
    fn entries_come_out_as_they_went_in_and_none_is_torn() {
        let (mut writer, mut reader) = byte_ring();
        let mut read = Vec::new();
        assert!(!writer.push(b"no memory") && !reader.pop(&mut read));
        writer.allocate(1000);
        let mut written = 0;
        // Around the end of the memory many times, at every alignment.
        for number in 0..2000 {
            while writer.push(&entry(written)) {
                written += 1;
            }
            assert!(reader.pop(&mut read));
            assert_eq!(read, entry(number));
        }
        assert!(!writer.push(&[0; 1024]), "an entry that never fits");
    }

    #[test]
    fn an_entry_fits_exactly_or_not_at_all() {
        let (mut writer, mut reader) = byte_ring();
        writer.allocate(64);
        assert!(!writer.push(&[1; 57]));
        assert!(writer.push(&[2; 56]));
        assert!(!writer.push(b""));
        let mut read = Vec::new();
        assert!(reader.pop(&mut read) && read == [2; 56] && !reader.pop(&mut read));
        assert!(writer.push(b""));
        assert!(reader.pop(&mut read) && read.is_empty());
    }

    #[test]
    fn two_threads_lose_nothing_but_what_was_refused() {
        let (mut writer, mut reader) = byte_ring();
        writer.allocate(4096);
        let reading = thread::spawn(move || {
            let (mut seen, mut read, mut next) = (0_usize, Vec::new(), 0_u64);
            loop {
                if !reader.pop(&mut read) {
                    thread::yield_now();
                    continue;
                }
                let number = u64::from_le_bytes(*read.first_chunk().unwrap());
                if number == u64::MAX {
                    return seen;
                }
                assert!(number >= next, "out of order");
                assert!(read[8..] == entry(number as usize), "torn");
                next = number + 1;
                seen += 1;
            }
        });
        let mut refused = 0;
        for number in 0..100_000_u64 {
            if !writer.push(&[&number.to_le_bytes()[..], &entry(number as usize)].concat()) {
                refused += 1;
            }
        }
        while !writer.push(&u64::MAX.to_le_bytes()) {
            thread::yield_now();
        }
        assert_eq!(reading.join().unwrap() + refused, 100_000);
    }
}
