//! The field table of one head: spans in the order of the message, with an index of the known names. Not here: parsing (`head`).

use crate::http::{FieldName, Span};
use crate::limits::HEADER_COUNT_MAX;

/// One field line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name as received.
    pub name: Span,
    /// The value without the whitespace around it.
    pub value: Span,
    /// The id of a known name; `Other` for other names.
    pub id: FieldName,
    /// Whether it must not be forwarded: `Connection` nominates it, or it could be taken for a field that cairn relies on.
    pub dropped: bool,
}

impl Field {
    /// The offset behind the line, if it has the form `name: value CRLF` without other whitespace.
    #[inline]
    pub fn plain_end(&self, head: &[u8]) -> Option<usize> {
        let colon = self.name.end();
        let end = self.value.end();
        let starts = |at: usize, text| head.get(at..).and_then(<[u8]>::first_chunk) == Some(text);
        let plain = usize::from(self.value.start) == colon + 2 && starts(colon, b": ") && starts(end, b"\r\n");
        plain.then_some(end + 2)
    }
}

/// A table of up to `HEADER_COUNT_MAX` fields, allocated once and reused for each head.
#[derive(Clone, Debug)]
pub struct Fields {
    table: Box<[Field; HEADER_COUNT_MAX]>,
    index: Index,
    /// Index of the last field with each id; meaningful where `index.seen` has the bit.
    last: [u8; 64],
}

/// Sets of the known names in a table.
#[derive(Clone, Copy, Debug, Default)]
struct Index {
    len: usize,
    /// Bit i: a field with id i is in the table; or `UNDERSCORE`.
    seen: u64,
    /// Bit i: more than one field with id i is in the table.
    repeated: u64,
}

// `last` holds indices in bytes.
const _: () = assert!(HEADER_COUNT_MAX <= 256);

impl Fields {
    /// An empty table.
    pub fn new() -> Self {
        Self { table: Box::new([Field::default(); HEADER_COUNT_MAX]), index: Index::default(), last: [0; 64] }
    }

    /// Removes all fields.
    #[inline]
    pub fn clear(&mut self) {
        self.index = Index::default();
    }

    /// The fields in order of arrival.
    #[inline]
    pub fn as_slice(&self) -> &[Field] {
        self.table.get(..self.index.len).unwrap_or_default()
    }

    /// The fields in order of arrival.
    pub fn iter(&self) -> core::slice::Iter<'_, Field> {
        self.as_slice().iter()
    }

    /// Number of fields.
    #[inline]
    pub fn len(&self) -> usize {
        self.index.len
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.index.len == 0
    }

    /// The first field with this id; None for `Other`.
    #[inline]
    pub fn get(&self, id: FieldName) -> Option<Field> {
        if id == FieldName::Other || !self.any(id.bit()) {
            return None;
        }
        if self.repeats(id) {
            return self.all(id).next().copied();
        }
        self.table.get(usize::from(self.last[id as usize & 63])).copied()
    }

    /// Whether there is a field with this id, which is not `Other`.
    #[inline]
    pub fn has(&self, id: FieldName) -> bool {
        self.any(id.bit())
    }

    /// How many fields have this id.
    pub fn count(&self, id: FieldName) -> usize {
        match self.any(id.bit()) {
            true if !self.repeats(id) => 1,
            false if id != FieldName::Other => 0,
            _ => self.all(id).count(),
        }
    }

    /// All fields with this name, in any case.
    pub fn named(&self, head: &[u8], name: &[u8]) -> impl Iterator<Item = &Field> {
        self.iter().filter(move |field| field.name.of(head).eq_ignore_ascii_case(name))
    }

    /// Whether a name with `_` may be in the table.
    #[inline]
    pub fn has_underscores(&self) -> bool {
        self.any(UNDERSCORE)
    }

    /// All fields with this id.
    pub fn all(&self, id: FieldName) -> impl DoubleEndedIterator<Item = &Field> {
        self.iter().filter(move |field| field.id == id)
    }

    /// A builder that replaces the fields of the table with up to `max` new ones.
    #[inline(always)]
    pub(super) fn fill(&mut self, max: usize) -> FieldsBuilder<'_> {
        let Self { table, index, last } = self;
        let room = table.get_mut(..max.min(HEADER_COUNT_MAX)).unwrap_or_default();
        FieldsBuilder { slots: room.iter_mut(), last, done: index, index: Index::default() }
    }

    /// Whether the id of at least one field is in this set of bits.
    #[inline(always)]
    pub(super) fn any(&self, ids: u64) -> bool {
        self.index.seen & ids != 0
    }

    /// Whether more than one field has this id.
    #[inline(always)]
    pub(super) fn repeats(&self, id: FieldName) -> bool {
        self.index.repeated & id.bit() != 0
    }

    /// The value of the only field with this id.
    #[inline(always)]
    pub(super) fn only(&self, id: FieldName) -> Option<Span> {
        if !self.any(id.bit()) || self.repeats(id) {
            return None;
        }
        self.table.get(usize::from(self.last[id as usize & 63])).map(|field| field.value)
    }

    /// The fields, for marking them as dropped.
    pub(super) fn as_mut_slice(&mut self) -> &mut [Field] {
        self.table.get_mut(..self.index.len).unwrap_or_default()
    }
}

/// A bit beside those of the ids: a name with `_` may be in the table.
pub(super) const UNDERSCORE: u64 = 1 << 63;

/// Fills a table. The new fields are in the table once `finish` is called.
pub(super) struct FieldsBuilder<'a> {
    slots: core::slice::IterMut<'a, Field>,
    last: &'a mut [u8; 64],
    done: &'a mut Index,
    index: Index,
}

impl<'a> FieldsBuilder<'a> {
    /// A free slot for one more field.
    #[inline(always)]
    pub(super) fn room(&mut self) -> Option<&'a mut Field> {
        self.slots.next()
    }

    /// Adds the field in the slot that [`FieldsBuilder::room`] returned last to the index.
    #[inline(always)]
    pub(super) fn count(&mut self, id: FieldName) {
        let index = &mut self.index;
        if id != FieldName::Other {
            self.last[id as usize & 63] = index.len as u8;
            index.repeated |= index.seen & id.bit();
            index.seen |= id.bit();
        }
        index.len = index.len.wrapping_add(1);
    }

    /// Records that a name with `_` may be in the table.
    #[inline(always)]
    pub(super) fn set_underscore(&mut self) {
        self.index.seen |= UNDERSCORE;
    }

    /// Makes the new fields those of the table.
    #[inline(always)]
    pub(super) fn finish(self) {
        *self.done = self.index;
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = core::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
