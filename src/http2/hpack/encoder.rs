//! Encodes field sections (RFC 7541 section 6). Not here: which fields are sent.
//!
//! A field is indexed when it comes for the second time within a short while: what is different in each message, such as a path or
//! an identifier, then takes no room from what repeats. Fields that hold credentials are never indexed, so that nobody who shares
//! the connection can guess them by the size of what is sent (RFC 7541 section 7.1).

use crate::http2::hpack::integer;
use crate::http2::hpack::static_table::{self, Found, STATIC_TABLE, hash};
use crate::http2::hpack::table::{Entry, TABLE_BYTES, Table};
use crate::http2::huffman;

/// Slots for entries of the dynamic table by hash, for fields and for names; and for fields that came lately. A power of two.
const SLOTS: usize = 64;
/// Cookies shorter than this have little to guess, so they are never indexed by anyone; longer ones are not indexed here.
const SHORT_COOKIE: usize = 20;

/// Whether a field may be indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Indexing {
    /// If it repeats, and its name is not one of those for credentials.
    Allowed,
    /// Neither here nor by those who pass it on: it came so, or a name for credentials says so.
    Never,
}

/// How a literal field is written, with its first bits and how many bits of the byte belong to the index of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Incremental,
    Plain,
    Never,
}

impl Literal {
    fn pattern(self) -> (u8, u32) {
        match self {
            Self::Incremental => (0x40, 6),
            Self::Plain => (0x00, 4),
            Self::Never => (0x10, 4),
        }
    }
}

/// An encoder with its dynamic table: one for each connection.
#[derive(Clone, Debug)]
pub struct Encoder<M> {
    table: Table<M>,
    /// Capacities that the next section has to begin with: the smallest since the last section, and the current one.
    announced: Option<(usize, usize)>,
    /// Entries that were ever added, in the lowest 16 bits.
    added: u16,
    /// Numbers of entries by the hash of the field. What is found there is compared, so it may be stale.
    fields: [u16; SLOTS],
    /// The same by the hash of the name.
    names: [u16; SLOTS],
    /// Parts of hashes of fields that were written without being indexed.
    recent: [u16; SLOTS],
}

impl<M: AsRef<[u8]> + AsMut<[u8]>> Encoder<M> {
    /// An encoder whose table may be smaller than the peer allows. Its capacity is announced with the first section.
    #[must_use]
    pub fn new(mut table: Table<M>) -> Self {
        let capacity = table.capacity_max().min(TABLE_BYTES);
        table.resize(capacity);
        let announced = (capacity < TABLE_BYTES).then_some((capacity, capacity));
        Self { table, announced, added: 0, fields: [0; SLOTS], names: [0; SLOTS], recent: [0; SLOTS] }
    }

    /// Takes the limit of the peer's SETTINGS_HEADER_TABLE_SIZE, between two sections. The next one says what became of it.
    pub fn set_limit(&mut self, limit: u32) {
        let capacity = self.table.capacity_max().min(limit as usize);
        if capacity == self.table.capacity() {
            return;
        }
        let smallest = self.announced.map_or(capacity, |(smallest, _)| smallest.min(capacity));
        self.announced = Some((smallest, capacity));
        self.table.resize(capacity);
    }

    /// The table, to be inspected.
    #[must_use]
    pub fn table(&self) -> &Table<M> {
        &self.table
    }

    /// Encodes a field at the beginning of `out`. Letters of the name are written in lower case. Returns the bytes written; `None`
    /// if there is no room.
    ///
    /// What was encoded has to be sent, because the peer's table follows it. So the caller makes sure that there is room for a
    /// whole section before it begins one: see [`encoded_bound`].
    #[must_use]
    pub fn field(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut [u8]) -> Option<usize> {
        let at = match self.announced.take() {
            Some(capacities) => announce(capacities, out)?,
            None => 0,
        };
        Some(at + self.encode(name, value, indexing, out.get_mut(at..)?)?)
    }

    #[inline]
    fn encode(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut [u8]) -> Option<usize> {
        let name_hash = hash(name, 0);
        let in_static = static_table::find(name, value, name_hash);
        let never = indexing == Indexing::Never;
        if let (Found::Field(index), false) = (in_static, never) {
            return integer::encode(index, 7, 0x80, out);
        }
        let secret = if never { Some(Literal::Never) } else { secret(name, value) };
        let field_hash = hash(value, name_hash);
        if secret.is_none()
            && let Some(index) = self.find(&self.fields, field_hash, |table, entry| {
                table.is_lower_case(entry.name, name) && table.is(entry.value, value)
            })
        {
            return integer::encode(index, 7, 0x80, out);
        }
        let name_index = match in_static {
            Found::Field(index) | Found::Name(index) => Some(index),
            Found::Nothing => self.find(&self.names, name_hash, |table, entry| table.is_lower_case(entry.name, name)),
        };
        let literal = secret.unwrap_or_else(|| self.literal(field_hash));
        let at = write_literal(literal, name_index, name, value, out)?;
        if literal == Literal::Incremental {
            self.add(name, value, name_hash, field_hash);
        }
        Some(at)
    }

    /// The index of an entry that a slot leads to, if it is the right one.
    #[inline]
    fn find(&self, slots: &[u16; SLOTS], hash: u32, is_it: impl Fn(&Table<M>, Entry) -> bool) -> Option<u32> {
        let age = self.added.wrapping_sub(slots[hash as usize % SLOTS]).wrapping_sub(1);
        let entry = self.table.get(usize::from(age))?;
        is_it(&self.table, entry).then_some(STATIC_TABLE.len() as u32 + 1 + u32::from(age))
    }

    /// How a field that is in no table is written: it is indexed if it came lately.
    fn literal(&mut self, field_hash: u32) -> Literal {
        let slot = &mut self.recent[field_hash as usize % SLOTS];
        // 0 stands for none.
        let part = (field_hash >> 16) as u16 | 1;
        if core::mem::replace(slot, part) == part { Literal::Incremental } else { Literal::Plain }
    }

    /// Adds a field to the table, as the peer does.
    fn add(&mut self, name: &[u8], value: &[u8], name_hash: u32, field_hash: u32) {
        if !self.table.insert(name, value) {
            return;
        }
        // Names from HTTP/1.1 may have letters in upper case.
        self.table.lower_newest();
        self.fields[field_hash as usize % SLOTS] = self.added;
        self.names[name_hash as usize % SLOTS] = self.added;
        self.added = self.added.wrapping_add(1);
    }
}

/// Writes the smallest capacity that the table has had since the last section, and the current one (RFC 7541 section 4.2). They
/// stand before the first field, never in a section without fields, which some peers refuse.
#[cold]
fn announce((smallest, capacity): (usize, usize), out: &mut [u8]) -> Option<usize> {
    let at = if smallest < capacity { integer::encode(smallest as u32, 5, 0x20, out)? } else { 0 };
    Some(at + integer::encode(capacity as u32, 5, 0x20, out.get_mut(at..)?)?)
}

/// How a field that holds credentials is written.
fn secret(name: &[u8], value: &[u8]) -> Option<Literal> {
    let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
    match name.len() {
        6 if is(b"cookie") => Some(if value.len() < SHORT_COOKIE { Literal::Never } else { Literal::Plain }),
        10 if is(b"set-cookie") => Some(Literal::Never),
        13 if is(b"authorization") => Some(Literal::Never),
        19 if is(b"proxy-authorization") => Some(Literal::Never),
        _ => None,
    }
}

fn write_literal(
    literal: Literal,
    name_index: Option<u32>,
    name: &[u8],
    value: &[u8],
    out: &mut [u8],
) -> Option<usize> {
    let (flags, prefix) = literal.pattern();
    let mut at = integer::encode(name_index.unwrap_or(0), prefix, flags, out)?;
    if name_index.is_none() {
        at += write_text(name, |byte| byte.to_ascii_lowercase(), out.get_mut(at..)?)?;
    }
    Some(at + write_text(value, |byte| byte, out.get_mut(at..)?)?)
}

/// Writes a string, in the Huffman code where that is shorter.
#[inline]
fn write_text(text: &[u8], fold: impl Fn(u8) -> u8 + Copy, out: &mut [u8]) -> Option<usize> {
    let coded = huffman::encoded_len(text.iter().copied().map(fold));
    if coded < text.len() {
        let at = integer::encode(coded as u32, 7, 0x80, out)?;
        return Some(at + huffman::encode(text.iter().copied().map(fold), out.get_mut(at..)?)?);
    }
    let at = integer::encode(text.len() as u32, 7, 0x00, out)?;
    let to = out.get_mut(at..at + text.len())?;
    to.iter_mut().zip(text).for_each(|(to, from)| *to = fold(*from));
    Some(at + text.len())
}

/// Most bytes of a section of so many fields, whose names and values have `bytes` bytes together.
#[must_use]
pub const fn encoded_bound(fields: usize, bytes: usize) -> usize {
    // Two sizes of the table, and for each field an index and two lengths.
    2 * 4 + bytes + fields * (1 + 2 * 4)
}
