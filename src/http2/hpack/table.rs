//! The dynamic table (RFC 7541 section 2.3.2 and 4): a ring of bytes of a fixed size in memory of the caller's. Not here: indices
//! on the wire, whose first 61 are those of the static table.

use crate::http2::hpack::static_table::is_name;

/// The capacity of a table before any SETTINGS (RFC 9113 section 6.5.2).
pub const TABLE_BYTES: usize = 4096;
/// What an entry counts for besides its bytes (RFC 7541 section 4.1).
pub(super) const ENTRY_BYTES: usize = 32;
/// Bytes that an entry takes of the memory besides its name and value.
const RECORD_BYTES: usize = 4;

/// Bytes of memory for a table of up to `capacity` bytes as HPACK counts them.
#[must_use]
pub const fn table_memory(capacity: usize) -> usize {
    capacity + capacity / ENTRY_BYTES * RECORD_BYTES
}

/// A dynamic table. The memory holds a ring of names and values, and behind it a ring of records: where an entry starts in the
/// first, and how long its name is. An entry ends where the next newer one starts.
#[derive(Clone, Debug)]
pub struct Table<M> {
    memory: M,
    /// Bytes of the ring of names and values; the largest capacity.
    ring: u32,
    /// Records of the other ring.
    records: u32,
    /// The current bound, at most `ring`.
    capacity: u32,
    /// Where the next entry starts.
    head: u32,
    /// Bytes of names and values.
    used: u32,
    /// Entries.
    count: u32,
    /// The number of the record of the next entry.
    next: u32,
}

/// An entry, as ranges of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Slice,
    pub(super) value: Slice,
}

/// A range of the ring, which may go on at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    start: usize,
    pub(super) len: usize,
}

impl<M: AsRef<[u8]> + AsMut<[u8]>> Table<M> {
    /// An empty table of `capacity` bytes, or as many as `memory` has room for: see [`table_memory`].
    #[must_use]
    pub fn new(memory: M, capacity: usize) -> Self {
        let len = memory.as_ref().len();
        let records = len / (ENTRY_BYTES + RECORD_BYTES);
        let room = records * ENTRY_BYTES + (len % (ENTRY_BYTES + RECORD_BYTES)).min(ENTRY_BYTES - 1);
        // Offsets are stored in 16 bits.
        let ring = capacity.min(room).min(usize::from(u16::MAX)) as u32;
        let records = ring / ENTRY_BYTES as u32;
        Self { memory, ring, records, capacity: ring, head: 0, used: 0, count: 0, next: 0 }
    }

    /// The largest capacity.
    #[must_use]
    pub fn capacity_max(&self) -> usize {
        self.ring as usize
    }

    /// The current capacity.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Bytes of all entries, as HPACK counts them.
    #[must_use]
    pub fn size(&self) -> usize {
        self.used as usize + self.count as usize * ENTRY_BYTES
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets the capacity, at most the largest, and evicts what does not fit.
    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = self.ring.min(capacity as u32);
        self.evict_to(self.capacity());
    }

    /// Evicts all entries.
    pub(super) fn clear(&mut self) {
        self.evict_to(0);
    }

    fn evict_to(&mut self, size: usize) {
        while self.size() > size && self.count > 0 {
            let Some(oldest) = self.get(self.count as usize - 1) else { return };
            self.used -= (oldest.name.len + oldest.value.len) as u32;
            self.count -= 1;
        }
    }

    /// The entry at `index`: 0 is the newest.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<Entry> {
        if index >= self.count as usize {
            return None;
        }
        let (start, name) = self.record(index as u32 + 1)?;
        let end = if index == 0 { self.head as usize } else { self.record(index as u32)?.0 };
        let len = if end >= start { end - start } else { end + self.ring as usize - start };
        let value_start = start + name;
        let ring = self.ring as usize;
        let value_start = if value_start >= ring { value_start - ring } else { value_start };
        Some(Entry { name: Slice { start, len: name }, value: Slice { start: value_start, len: len - name } })
    }

    /// The start and the length of the name of the entry that is the `age`th newest; 1 is the newest.
    #[inline]
    fn record(&self, age: u32) -> Option<(usize, usize)> {
        let number = if self.next >= age { self.next - age } else { self.next + self.records - age };
        let at = self.ring as usize + number as usize * RECORD_BYTES;
        let [a, b, c, d] = *self.memory.as_ref().get(at..)?.first_chunk()?;
        Some((usize::from(u16::from_le_bytes([a, b])), usize::from(u16::from_le_bytes([c, d]))))
    }

    /// The two pieces of a range; the second is empty unless it goes on at the beginning of the ring.
    #[inline]
    fn pieces(&self, slice: Slice) -> (&[u8], &[u8]) {
        let ring = self.memory.as_ref().get(..self.ring as usize).unwrap_or_default();
        let from_start = ring.get(slice.start..).unwrap_or_default();
        match from_start.get(..slice.len) {
            Some(whole) => (whole, &[]),
            None => (from_start, ring.get(..slice.len - from_start.len()).unwrap_or_default()),
        }
    }

    /// Copies a range to the beginning of `out`. False if there is no room.
    #[inline]
    pub(super) fn copy(&self, slice: Slice, out: &mut [u8]) -> bool {
        let (first, second) = self.pieces(slice);
        let Some((to_first, rest)) = out.split_at_mut_checked(first.len()) else { return false };
        let Some(to_second) = rest.get_mut(..second.len()) else { return false };
        to_first.copy_from_slice(first);
        to_second.copy_from_slice(second);
        true
    }

    /// Whether a range has these bytes.
    #[inline]
    pub(super) fn is(&self, slice: Slice, bytes: &[u8]) -> bool {
        let (first, second) = self.pieces(slice);
        slice.len == bytes.len() && bytes.strip_prefix(first) == Some(second)
    }

    /// Whether a range has these bytes in lower case.
    #[inline]
    pub(super) fn is_lower_case(&self, slice: Slice, bytes: &[u8]) -> bool {
        let (first, second) = self.pieces(slice);
        let (start, end) = bytes.split_at(first.len().min(bytes.len()));
        slice.len == bytes.len() && is_name(first, start) && is_name(second, end)
    }

    /// Adds an entry, and evicts what it displaces. An entry that is larger than the table empties it, and is not added (RFC 7541
    /// section 4.4). Returns whether it was added.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) -> bool {
        let size = name.len() + value.len() + ENTRY_BYTES;
        let Some(left) = self.capacity().checked_sub(size) else {
            self.clear();
            return false;
        };
        self.evict_to(left);
        let record = (self.head as u16).to_le_bytes().into_iter().chain((name.len() as u16).to_le_bytes());
        let at = self.ring as usize + self.next as usize * RECORD_BYTES;
        let slot = self.memory.as_mut().get_mut(at..).unwrap_or_default();
        slot.iter_mut().zip(record).for_each(|(to, from)| *to = from);
        self.append(name);
        self.append(value);
        self.next = if self.next + 1 == self.records { 0 } else { self.next + 1 };
        self.used += (name.len() + value.len()) as u32;
        self.count += 1;
        true
    }

    /// Writes bytes at the head, which moves behind them.
    fn append(&mut self, bytes: &[u8]) {
        let ring = self.memory.as_mut().get_mut(..self.ring as usize).unwrap_or_default();
        let (to_start, to_end) = ring.split_at_mut((self.head as usize).min(ring.len()));
        let (first, second) = bytes.split_at(bytes.len().min(to_end.len()));
        to_end[..first.len()].copy_from_slice(first);
        if let Some(to) = to_start.get_mut(..second.len()) {
            to.copy_from_slice(second);
        }
        let head = self.head + bytes.len() as u32;
        self.head = if head >= self.ring { head - self.ring } else { head };
    }

    /// Makes the name of the newest entry lower-case.
    pub(super) fn lower_newest(&mut self) {
        let Some(Slice { start, len }) = self.get(0).map(|newest| newest.name) else { return };
        let ring = self.memory.as_mut().get_mut(..self.ring as usize).unwrap_or_default();
        let (to_start, to_end) = ring.split_at_mut(start.min(ring.len()));
        let first = len.min(to_end.len());
        to_end[..first].make_ascii_lowercase();
        if let Some(rest) = to_start.get_mut(..len - first) {
            rest.make_ascii_lowercase();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    type Model = VecDeque<(Vec<u8>, Vec<u8>)>;

    fn size(model: &Model) -> usize {
        model.iter().map(|(name, value)| name.len() + value.len() + ENTRY_BYTES).sum()
    }

    fn check(table: &Table<Vec<u8>>, model: &Model) {
        assert_eq!((table.len(), table.size()), (model.len(), size(model)));
        assert!(table.size() <= table.capacity());
        for (index, (name, value)) in model.iter().enumerate() {
            let entry = table.get(index).expect("an entry");
            let (mut got_name, mut got_value) = (vec![0; entry.name.len], vec![0; entry.value.len]);
            assert!(table.copy(entry.name, &mut got_name) && table.copy(entry.value, &mut got_value));
            assert_eq!((&got_name, &got_value), (name, value), "{index}");
            assert!(table.is(entry.value, value) && table.is_lower_case(entry.name, &name.to_ascii_uppercase()));
        }
        assert_eq!(table.get(model.len()), None);
    }

    #[test]
    fn the_ring_holds_what_a_queue_would() {
        let mut seed = 1u32;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        for capacity in [0, 31, 32, 33, 64, 100, 128, 500, 4096] {
            let mut table = Table::new(vec![0; table_memory(capacity)], capacity);
            assert_eq!(table.capacity_max(), capacity);
            let mut model = Model::new();
            for _ in 0..3000 {
                let longest = [1, 10, capacity + 2][random(3)];
                let name: Vec<u8> = (0..random(longest)).map(|_| b'a' + random(26) as u8).collect();
                let value: Vec<u8> = (0..random(longest)).map(|_| random(256) as u8).collect();
                if random(50) == 0 {
                    table.resize(random(capacity + 100));
                } else {
                    let added = table.insert(&name.to_ascii_uppercase(), &value);
                    if added {
                        table.lower_newest();
                    }
                    assert_eq!(added, name.len() + value.len() + ENTRY_BYTES <= table.capacity());
                    model.push_front((name, value));
                }
                while size(&model) > table.capacity() {
                    model.pop_back();
                }
                check(&table, &model);
            }
        }
    }

    #[test]
    fn memory_bounds_the_capacity() {
        assert_eq!(Table::new([0; 100], 4096).capacity_max(), 2 * ENTRY_BYTES + 28);
        assert_eq!(Table::new([0; 0], 4096).capacity_max(), 0);
        assert!(!Table::new([0; 0], 4096).insert(b"", b""));
    }
}
