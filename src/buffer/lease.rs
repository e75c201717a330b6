//! A move-only claim on a range of one buffer. Not here: where buffers come from.

use super::Pool;
use crate::limits;

/// Bytes `start..end` of a buffer, and the unused room around them, which no other lease may touch.
///
/// Invariant: `floor <= start <= end <= ceiling`, and `floor..ceiling` overlaps no other lease of the buffer.
#[derive(Debug)]
pub struct Lease {
    pub(super) pool: &'static Pool,
    pub(super) buffer: u16,
    pub(super) floor: u16,
    pub(super) start: u16,
    pub(super) end: u16,
    pub(super) ceiling: u16,
}

impl Lease {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start..end` lies inside the buffer, no other lease covers it, and the kernel writes to a buffer only
        // before its first lease exists; every byte of the mapping is initialised (anonymous pages read as zero).
        unsafe { std::slice::from_raw_parts(self.pointer(self.start), self.len()) }
    }

    /// The bytes, for changes in place.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.window(self.start, self.end)
    }

    /// Whether the buffer is one of `pool`.
    #[must_use]
    pub fn is_of(&self, pool: &Pool) -> bool {
        std::ptr::eq(self.pool, pool)
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `count` bytes (at most all); their room becomes headroom.
    pub fn advance(&mut self, count: usize) {
        self.start += count.min(self.len()) as u16;
    }

    /// Keeps the first `count` bytes; the room of the others becomes tailroom.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.start + count.min(self.len()) as u16;
    }

    /// Splits off the first `count` bytes (at most all) with the headroom; this lease keeps the rest with the tailroom.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let cut = self.start + count.min(self.len()) as u16;
        self.pool.retain(self.buffer);
        let (pool, buffer, floor, start) = (self.pool, self.buffer, self.floor, self.start);
        self.floor = cut;
        self.start = cut;
        Self { pool, buffer, floor, start, end: cut, ceiling: cut }
    }

    /// Makes the last `count` bytes of the headroom of `next`, which follows directly in the same buffer, part of the tailroom; returns
    /// whether it did.
    #[must_use]
    pub fn take_room(&mut self, next: &mut Self, count: usize) -> bool {
        let neighbours = std::ptr::eq(self.pool, next.pool) && self.buffer == next.buffer && self.ceiling == next.floor;
        if !neighbours || next.headroom() < count {
            return false;
        }
        self.ceiling += count as u16;
        next.floor = self.ceiling;
        true
    }

    /// Puts `bytes` in front if the headroom is large enough; returns whether it was.
    #[must_use]
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.headroom() {
            return false;
        }
        let start = self.start - bytes.len() as u16;
        self.window(start, self.start).copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Appends as many of `bytes` as fit the tailroom; returns how many.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.spare());
        let end = self.end + count as u16;
        self.window(self.end, end).copy_from_slice(&bytes[..count]);
        self.end = end;
        count
    }

    /// Lets `write` fill the tailroom from its beginning. It returns how many bytes it has written, which then belong to the lease.
    pub fn fill(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let count = write(self.window(self.end, self.ceiling)).min(self.spare());
        self.end += count as u16;
    }

    /// Appends the bytes of `next`, all or none of them; returns whether it did.
    ///
    /// If `next` follows directly in the same buffer, nothing is copied. Else up to `copied` bytes are copied: into the gap before
    /// `next` in the same buffer, or into the tailroom, of which `limits::BUFFER_TAILROOM` bytes stay free. A kernel that is reading
    /// this lease is not disturbed, because the bytes that it reads do not change.
    #[must_use]
    pub fn absorb(&mut self, next: &mut Self, copied: usize) -> bool {
        let neighbours = std::ptr::eq(self.pool, next.pool) && self.buffer == next.buffer && self.ceiling == next.floor;
        if neighbours && (self.end == next.start || next.len() <= copied) {
            let length = next.len() as u16;
            // Offsets of the bytes of `next` from the end of this lease.
            let from = usize::from(next.start - self.end);
            let to = usize::from(next.end - self.end);
            // From here on `next` covers nothing, and its room belongs to this lease.
            self.ceiling = next.ceiling;
            next.floor = next.ceiling;
            next.start = next.ceiling;
            next.end = next.ceiling;
            if from > 0 {
                self.window(self.end, self.ceiling).copy_within(from..to, 0);
            }
            self.end += length;
            return true;
        }
        if next.len() > copied || self.spare() < next.len() + limits::BUFFER_TAILROOM {
            return false;
        }
        let appended = self.append(next.bytes());
        next.advance(appended);
        true
    }

    /// Bytes that can be put in front.
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.start - self.floor)
    }

    /// Bytes that can be appended.
    #[must_use]
    pub fn spare(&self) -> usize {
        usize::from(self.ceiling - self.end)
    }

    /// A pointer to the first byte, for the kernel to read from. It is valid until the lease is dropped.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.pointer(self.start)
    }

    fn pointer(&self, offset: u16) -> *mut u8 {
        // SAFETY: offsets of a lease are at most the size of its buffer.
        unsafe { self.pool.address(self.buffer).as_ptr().add(usize::from(offset)) }
    }

    fn window(&mut self, from: u16, to: u16) -> &mut [u8] {
        debug_assert!(self.floor <= from && from <= to && to <= self.ceiling);
        // SAFETY: `from..to` lies within `floor..ceiling`, which no other lease overlaps and the kernel does not write.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(from), usize::from(to - from)) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.release(self.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(text: &[u8]) -> Lease {
        let pool = Pool::new(2, 256, 32, 16).expect("half a kilobyte");
        let mut lease = pool.take().expect("a free buffer");
        assert_eq!(lease.append(text), text.len());
        lease
    }

    #[test]
    fn prepend_uses_headroom_and_what_was_dropped() {
        let mut lease = lease(b"old head body");
        lease.advance(9);
        assert!(lease.prepend(&[b'x'; 41]));
        assert!(!lease.prepend(b"y"));
        assert_eq!(&lease.bytes()[41..], b"body");
    }

    #[test]
    fn split_ranges_do_not_reach_into_each_other() {
        let mut rest = lease(b"firstsecond");
        let mut first = rest.split_to(5);
        assert_eq!((first.append(b"!"), rest.prepend(b"!")), (0, false));
        first.truncate(4);
        assert_eq!(first.append(b"TT"), 1);
        assert_eq!((first.bytes(), rest.bytes()), (&b"firsT"[..], &b"second"[..]));
    }

    #[test]
    fn room_goes_from_one_part_to_the_part_before() {
        let mut rest = lease(b"firstsecond");
        let mut first = rest.split_to(5);
        assert!(!first.take_room(&mut rest, 1), "there is no headroom");
        rest.advance(3);
        assert!(first.take_room(&mut rest, 2) && !first.take_room(&mut rest, 2));
        assert_eq!((first.append(b"!!!"), rest.headroom()), (2, 1));
        assert_eq!((first.bytes(), rest.bytes()), (&b"first!!"[..], &b"ond"[..]));
        let mut other = lease(b"other");
        other.advance(5);
        assert!(!rest.take_room(&mut other, 1));
    }

    #[test]
    fn parts_of_one_buffer_are_read_and_changed_side_by_side() {
        let mut second = lease(b"firstsecond");
        let mut first = second.split_to(5);
        let sent = first.as_ptr();
        // All three parts are borrowed at once, and changed in turn.
        let (head, tail) = (first.bytes_mut(), second.bytes_mut());
        head[0] = b'F';
        tail[0] = b'S';
        head[4] = b'T';
        tail[5] = b'D';
        second.fill(|room| {
            head[1] = b'I';
            room[0] = b'!';
            1
        });
        assert_eq!((&*head, second.bytes()), (&b"FIrsT"[..], &b"SeconD!"[..]));
        // While the kernel sends a part, what follows is appended to it, and it is moved.
        assert!(first.absorb(&mut second, 0) && first.prepend(b"> "));
        let moved = first;
        let mut read = [0; 5];
        // SAFETY: the kernel reads so too: the bytes belong to a lease that lives.
        unsafe { sent.copy_to_nonoverlapping(read.as_mut_ptr(), read.len()) };
        assert_eq!((&read, moved.bytes()), (b"FIrsT", &b"> FIrsTSeconD!"[..]));
    }

    #[test]
    fn what_is_filled_in_counts_up_to_the_ceiling() {
        let mut lease = lease(b"ab");
        lease.fill(|room| {
            room[..2].copy_from_slice(b"cd");
            2
        });
        assert_eq!((lease.bytes(), lease.headroom()), (&b"abcd"[..], 32));
        lease.fill(|room| room.len() + 1);
        assert_eq!((lease.len(), lease.spare()), (256 - 32, 0));
    }

    #[test]
    fn neighbours_become_one_lease() {
        let mut first = lease(b"one, two, three");
        let (mut one, mut two) = (first.split_to(4), first.split_to(6));
        // Without a copy, however long.
        assert!(one.absorb(&mut two, 0) && two.is_empty());
        assert_eq!(one.bytes(), b"one, two, ");
        // What was cut out between the two is closed.
        first.advance(2);
        assert!(!one.absorb(&mut first, 2));
        assert!(one.absorb(&mut first, 3));
        assert_eq!((one.bytes(), one.headroom(), one.spare()), (&b"one, two, ree"[..], 32, 256 - 32 - 13));
        drop((two, first));
        assert_eq!(one.pool.available(), 1);
        drop(one);
    }

    #[test]
    fn bytes_of_another_buffer_are_copied_while_the_tailroom_stays() {
        let pool = Pool::new(2, 2048, 32, 512).expect("four kilobytes");
        let lease = |length| {
            let mut lease = pool.take().expect("a free buffer");
            assert_eq!(lease.append(&[7; 2048][..length]), length);
            lease
        };
        let (mut first, mut next) = (lease(1000), lease(504));
        assert!(!first.absorb(&mut next, 503));
        assert!(first.absorb(&mut next, 504) && next.is_empty());
        assert_eq!((first.len(), first.spare()), (1504, 512));
        assert_eq!(next.append(b"x"), 1);
        assert!(!first.absorb(&mut next, 504));
    }

    #[test]
    fn counts_beyond_the_end_are_cut() {
        let mut lease = lease(b"abc");
        lease.truncate(9);
        lease.advance(2);
        assert_eq!(lease.bytes(), b"c");
        assert_eq!(lease.split_to(9).bytes(), b"c");
        assert!(lease.is_empty());
    }
}
