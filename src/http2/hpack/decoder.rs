//! Decodes field sections that arrive in fragments (RFC 7541 section 3 and 6). Not here: which fields are allowed (`head`).
//!
//! Each field is decoded where its text is to stand: name, two bytes, value, two bytes, in a buffer of the caller's. A sink that
//! keeps a field puts `: ` and CRLF there, and has lines of HTTP/1.1 without another copy.
//!
//! A section that is refused, because it is too large or by the sink, is decoded to its end, so that the table stays that of the
//! peer: only the stream ends, not the connection. That work is bounded as well: see [`FAR_TOO_LARGE`].

use crate::http2::hpack::integer::{Integer, PartialInteger};
use crate::http2::hpack::static_table::STATIC_TABLE;
use crate::http2::hpack::table::{ENTRY_BYTES, TABLE_BYTES, Table};
use crate::http2::huffman::{HuffmanDecoder, HuffmanError};
use crate::http2::{Error, ErrorCode};

/// Bytes between name and value, and behind the value.
pub(crate) const GAP: usize = 2;
/// A section that is so many times as large as allowed, or has so many times as many fields, ends the connection.
const FAR_TOO_LARGE: u32 = 4;

/// Most that a field section may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionLimits {
    /// Bytes, counted as decoded: names, values, and 32 for each field (RFC 9113 section 6.5.2).
    pub list_bytes: u32,
    /// Fields, pseudo-header fields included.
    pub fields: u32,
}

/// A decoded field: where it stands in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedField {
    /// Where the name starts.
    pub start: usize,
    /// Bytes of the name.
    pub name_len: usize,
    /// Bytes of the value.
    pub value_len: usize,
    /// Whether the field must not be indexed by anyone who passes it on (RFC 7541 section 6.2.3).
    pub never_indexed: bool,
}

impl DecodedField {
    /// The name.
    #[must_use]
    #[inline]
    pub fn name<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.start..self.name_end()).unwrap_or_default()
    }

    /// The value.
    #[must_use]
    #[inline]
    pub fn value<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.value_start()..self.value_end()).unwrap_or_default()
    }

    /// The offset behind the name.
    #[must_use]
    #[inline]
    pub fn name_end(&self) -> usize {
        self.start + self.name_len
    }

    /// The offset of the value.
    #[must_use]
    #[inline]
    pub fn value_start(&self) -> usize {
        self.name_end() + GAP
    }

    /// The offset behind the value.
    #[must_use]
    #[inline]
    pub fn value_end(&self) -> usize {
        self.value_start() + self.value_len
    }
}

/// What becomes of the bytes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next field stands at this offset, which is behind what the sink keeps.
    At(usize),
    /// The section is refused: the rest is not needed.
    Refuse,
}

/// Takes fields as they are decoded.
pub trait FieldSink {
    /// Takes a field, which stands in `out` with [`GAP`] bytes of room behind its value, if `out` has them.
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next;
}

/// Why a field section cannot be decoded. The connection ends, because the table is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// An index of no entry.
    BadIndex,
    /// An integer with more bytes than any valid one.
    BadInteger,
    /// A string that is not in the Huffman code.
    BadHuffman,
    /// A size of the table above the limit, or not at the beginning of the section.
    BadTableSize,
    /// The section does not begin with the size of the table, although the limit was lowered below it.
    MissingTableSize,
    /// The section ends within a field.
    Truncated,
    /// The section is many times as large as allowed.
    FarTooLarge,
}

impl DecodeError {
    /// The error that ends the connection.
    #[must_use]
    pub fn error(self) -> Error {
        let reason = match self {
            Self::BadIndex => "HPACK: an index of no entry",
            Self::BadInteger => "HPACK: an integer that is too long",
            Self::BadHuffman => "HPACK: a malformed Huffman code",
            Self::BadTableSize => "HPACK: a table size above the limit or not at the beginning",
            Self::MissingTableSize => "HPACK: no table size after the limit was lowered",
            Self::Truncated => "HPACK: a field section that ends within a field",
            Self::FarTooLarge => return Error::connection(ErrorCode::EnhanceYourCalm, "a field section far too large"),
        };
        Error::connection(ErrorCode::CompressionError, reason)
    }
}

/// How a literal field is represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Added to the table (RFC 7541 section 6.2.1).
    Incremental,
    /// Not added.
    Plain,
    /// Not added, and to be passed on like that.
    Never,
}

/// What an integer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The index of a field.
    Index,
    /// The index of the name of a literal field.
    NameIndex,
    /// A size of the table.
    TableSize,
    /// The length of a string.
    Length { is_coded: bool },
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The first of a representation.
    Representation,
    /// The next of an integer.
    Integer(Purpose, PartialInteger),
    /// The first of a string's length.
    Length,
    /// Of a string, which has `left` more.
    Text { is_coded: bool, left: u32 },
}

/// How far a section is decoded.
#[derive(Clone, Copy, Debug)]
struct Section {
    limits: SectionLimits,
    step: Step,
    kind: Kind,
    huffman: HuffmanDecoder,
    /// Whether the string that comes next, or is under way, is the value.
    is_value: bool,
    /// Whether a field has begun: no more sizes of the table may come.
    has_fields: bool,
    /// Whether fields are only decoded for the table.
    is_refused: bool,
    is_too_large: bool,
    /// Whether the field has more bytes than there is room for; then it is larger than the table, too.
    overflows: bool,
    /// The field under way.
    start: usize,
    name_len: usize,
    value_len: usize,
    /// Bytes that were not written because of `overflows`.
    skipped: u32,
    fields: u32,
    list_bytes: u32,
}

impl Section {
    fn new(limits: SectionLimits) -> Self {
        Self {
            limits,
            step: Step::Representation,
            kind: Kind::Plain,
            huffman: HuffmanDecoder::new(),
            is_value: false,
            has_fields: false,
            is_refused: false,
            is_too_large: false,
            overflows: false,
            start: 0,
            name_len: 0,
            value_len: 0,
            skipped: 0,
            fields: 0,
            list_bytes: 0,
        }
    }

    /// Where the next byte of the field is written.
    fn at(&self) -> usize {
        self.start + self.name_len + if self.is_value { GAP + self.value_len } else { 0 }
    }

    /// Counts bytes written.
    fn wrote(&mut self, len: usize) {
        *(if self.is_value { &mut self.value_len } else { &mut self.name_len }) += len;
    }

    /// Makes room for a field that does not fit behind those before it: the section is too large, so these are not needed any more. If
    /// the field stands at the beginning already, its bytes are skipped from here on.
    fn make_room(&mut self, out: &mut [u8]) {
        (self.is_refused, self.is_too_large) = (true, true);
        if self.start == 0 {
            self.overflows = true;
        } else {
            out.copy_within(self.start.min(out.len())..self.at().min(out.len()), 0);
        }
        self.start = 0;
    }
}

/// What is known of a section at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionSummary {
    /// Behind the last field that the sink has kept.
    pub end: usize,
    /// Fields.
    pub fields: u32,
    /// Bytes, counted as decoded.
    pub list_bytes: u32,
    /// Whether it exceeds its limits; then the sink has not seen all fields.
    pub is_too_large: bool,
}

/// A decoder with its dynamic table: one for each connection.
#[derive(Clone, Debug)]
pub struct Decoder<M> {
    table: Table<M>,
    /// What the peer may make the capacity of the table.
    limit: usize,
    /// Whether the next section has to begin with a new capacity.
    is_size_due: bool,
    section: Section,
}

impl<M: AsRef<[u8]> + AsMut<[u8]>> Decoder<M> {
    /// A decoder whose table has the initial size, which is all that a peer may use before it has acknowledged another limit. The
    /// memory has to have room for that.
    #[must_use]
    pub fn new(mut table: Table<M>) -> Self {
        table.resize(TABLE_BYTES);
        let limit = table.capacity();
        let none = SectionLimits { list_bytes: 0, fields: 0 };
        Self { table, limit, is_size_due: false, section: Section::new(none) }
    }

    /// Takes a new limit, when the peer has acknowledged the SETTINGS that say so. No more than the memory has room for.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(self.table.capacity_max());
        self.is_size_due = self.is_size_due || self.limit < self.table.capacity();
    }

    /// Bytes of `out` that hold what was decoded of the section so far. They have to stand at the beginning of `out` when it goes on.
    #[must_use]
    pub fn written(&self) -> usize {
        self.section.at()
    }

    /// The table, to be inspected.
    #[must_use]
    pub fn table(&self) -> &Table<M> {
        &self.table
    }

    /// Begins a field section.
    pub fn begin(&mut self, limits: SectionLimits) {
        self.section = Section::new(limits);
    }

    /// Decodes a fragment, which may end anywhere. `out` holds the same for all fragments of a section, as [`Decoder::written`]
    /// says; the first field is written at its beginning. Unless it has room for as many bytes as the table and two more, a section that is too large may
    /// end the connection.
    ///
    /// # Errors
    /// The connection ends.
    pub fn fragment<S: FieldSink>(
        &mut self,
        mut bytes: &[u8],
        out: &mut [u8],
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.section.step {
                Step::Representation => {
                    bytes = rest;
                    let (purpose, prefix) = self.representation(byte)?;
                    self.begin_integer(byte, prefix, purpose, out, sink)?;
                }
                Step::Length => {
                    bytes = rest;
                    self.begin_integer(byte, 7, Purpose::Length { is_coded: byte & 0x80 != 0 }, out, sink)?;
                }
                Step::Integer(purpose, mut partial) => {
                    bytes = rest;
                    match partial.next(byte).map_err(|_| DecodeError::BadInteger)? {
                        Some(value) => self.integer(purpose, value, out, sink)?,
                        None => self.section.step = Step::Integer(purpose, partial),
                    }
                }
                Step::Text { is_coded, left } => {
                    let (piece, rest) = bytes.split_at(bytes.len().min(left as usize));
                    bytes = rest;
                    let left = left - piece.len() as u32;
                    self.text(piece, is_coded, left, out)?;
                    self.section.step = Step::Text { is_coded, left };
                    if left == 0 {
                        self.end_text(is_coded, out, sink)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the section.
    ///
    /// # Errors
    /// The connection ends.
    pub fn end(&mut self) -> Result<SectionSummary, DecodeError> {
        if self.section.step != Step::Representation {
            return Err(DecodeError::Truncated);
        }
        let Section { start, fields, list_bytes, is_too_large, .. } = self.section;
        Ok(SectionSummary { end: start, fields, list_bytes, is_too_large })
    }

    /// Reads the kind of a representation from its first byte: what its integer is, and how many bits of the byte belong to it.
    #[inline]
    fn representation(&mut self, byte: u8) -> Result<(Purpose, u32), DecodeError> {
        if byte & 0xe0 == 0x20 {
            let is_late = self.section.has_fields;
            return if is_late { Err(DecodeError::BadTableSize) } else { Ok((Purpose::TableSize, 5)) };
        }
        if self.is_size_due {
            return Err(DecodeError::MissingTableSize);
        }
        self.section.has_fields = true;
        let (kind, purpose, prefix) = match byte {
            0x80.. => return Ok((Purpose::Index, 7)),
            0x40.. => (Kind::Incremental, Purpose::NameIndex, 6),
            0x10.. => (Kind::Never, Purpose::NameIndex, 4),
            _ => (Kind::Plain, Purpose::NameIndex, 4),
        };
        self.section.kind = kind;
        Ok((purpose, prefix))
    }

    #[inline]
    fn begin_integer<S: FieldSink>(
        &mut self,
        byte: u8,
        prefix: u32,
        purpose: Purpose,
        out: &mut [u8],
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        match Integer::begin(byte, prefix) {
            Integer::Whole(value) => self.integer(purpose, value, out, sink),
            Integer::Partial(partial) => {
                self.section.step = Step::Integer(purpose, partial);
                Ok(())
            }
        }
    }

    /// Takes a complete integer.
    #[inline]
    fn integer<S: FieldSink>(
        &mut self,
        purpose: Purpose,
        value: u32,
        out: &mut [u8],
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        match purpose {
            Purpose::Index => self.indexed(value, out, sink),
            Purpose::NameIndex => {
                self.section.step = Step::Length;
                if value > 0 {
                    self.copy_entry(value, false, out)?;
                    self.section.is_value = true;
                }
                Ok(())
            }
            Purpose::TableSize if value as usize > self.limit => Err(DecodeError::BadTableSize),
            Purpose::TableSize => {
                self.table.resize(value as usize);
                self.is_size_due = false;
                self.section.step = Step::Representation;
                Ok(())
            }
            Purpose::Length { is_coded } => {
                self.section.step = Step::Text { is_coded, left: value };
                if value == 0 { self.end_text(false, out, sink) } else { Ok(()) }
            }
        }
    }

    /// Takes a field that is in a table.
    #[inline]
    fn indexed<S: FieldSink>(&mut self, index: u32, out: &mut [u8], sink: &mut S) -> Result<(), DecodeError> {
        self.section.kind = Kind::Plain;
        self.copy_entry(index, true, out)?;
        self.complete(out, sink)
    }

    /// Copies the name of an entry, or the whole entry, to where the field is to stand.
    #[inline]
    fn copy_entry(&mut self, index: u32, is_whole: bool, out: &mut [u8]) -> Result<(), DecodeError> {
        let index = (index as usize).checked_sub(1).ok_or(DecodeError::BadIndex)?;
        if let Some((name, value)) = STATIC_TABLE.get(index) {
            self.copy_text(name.len(), out, |to| to.copy_from_slice(name));
            if is_whole {
                self.section.is_value = true;
                self.copy_text(value.len(), out, |to| to.copy_from_slice(value));
            }
            return Ok(());
        }
        let entry = self.table.get(index - STATIC_TABLE.len()).ok_or(DecodeError::BadIndex)?;
        if is_whole && self.section.is_refused {
            // Nobody reads it, and it is in the table already: it only counts.
            self.section.skipped += (entry.name.len + entry.value.len) as u32;
            return Ok(());
        }
        // `copy` takes the section apart from the table, which both are borrowed here.
        let Self { table, section, .. } = self;
        copy_text(section, entry.name.len, out, |to| _ = table.copy(entry.name, to));
        if is_whole {
            section.is_value = true;
            copy_text(section, entry.value.len, out, |to| _ = table.copy(entry.value, to));
        }
        Ok(())
    }

    #[inline]
    fn copy_text(&mut self, len: usize, out: &mut [u8], copy: impl Fn(&mut [u8])) {
        copy_text(&mut self.section, len, out, copy);
    }

    /// Takes a piece of a string, behind which `left` bytes follow.
    #[inline]
    fn text(&mut self, piece: &[u8], is_coded: bool, left: u32, out: &mut [u8]) -> Result<(), DecodeError> {
        if !is_coded {
            copy_text(&mut self.section, piece.len(), out, |to| to.copy_from_slice(piece));
            return self.check_size();
        }
        loop {
            let section = &mut self.section;
            if section.overflows {
                section.skipped += piece.len() as u32;
                return self.check_size();
            }
            // On the first failure, the field moves to the beginning, and the piece is decoded once more.
            let before = section.huffman;
            let at = section.at();
            let mut decoded = section.huffman.decode(piece, out.get_mut(at..).unwrap_or_default());
            if let (Ok(written), 0) = (decoded, left) {
                let rest = out.get_mut(at + written..).unwrap_or_default();
                decoded = section.huffman.finish(rest).map(|more| written + more);
            }
            match decoded {
                Ok(written) => {
                    section.wrote(written);
                    return self.check_size();
                }
                Err(HuffmanError::Malformed) => return Err(DecodeError::BadHuffman),
                Err(HuffmanError::NoRoom) => {
                    section.huffman = before;
                    section.make_room(out);
                }
            }
        }
    }

    /// Checks that the field under way does not make the section far too large.
    #[inline]
    fn check_size(&self) -> Result<(), DecodeError> {
        let Section { limits, name_len, value_len, skipped, list_bytes, .. } = self.section;
        let bytes = list_bytes.saturating_add((name_len + value_len) as u32).saturating_add(skipped);
        if bytes > limits.list_bytes.saturating_mul(FAR_TOO_LARGE) { Err(DecodeError::FarTooLarge) } else { Ok(()) }
    }

    /// Ends a string: behind the name comes the value, and behind that the field is complete.
    #[inline]
    fn end_text<S: FieldSink>(&mut self, is_coded: bool, out: &mut [u8], sink: &mut S) -> Result<(), DecodeError> {
        if is_coded {
            self.section.huffman = HuffmanDecoder::new();
        }
        if self.section.is_value {
            return self.complete(out, sink);
        }
        self.section.is_value = true;
        self.section.step = Step::Length;
        Ok(())
    }

    /// Ends a field: counts it, adds it to the table, and passes it on.
    #[inline]
    fn complete<S: FieldSink>(&mut self, out: &mut [u8], sink: &mut S) -> Result<(), DecodeError> {
        let Self { table, section, .. } = self;
        let SectionLimits { list_bytes, fields } = section.limits;
        let size = (section.name_len + section.value_len + ENTRY_BYTES) as u32 + section.skipped;
        section.fields = section.fields.saturating_add(1);
        section.list_bytes = section.list_bytes.saturating_add(size);
        if section.list_bytes > list_bytes || section.fields > fields {
            let is_far = section.list_bytes > list_bytes.saturating_mul(FAR_TOO_LARGE)
                || section.fields > fields.saturating_mul(FAR_TOO_LARGE);
            if is_far {
                return Err(DecodeError::FarTooLarge);
            }
            (section.is_too_large, section.is_refused) = (true, true);
        }
        let field = DecodedField {
            start: section.start,
            name_len: section.name_len,
            value_len: section.value_len,
            never_indexed: section.kind == Kind::Never,
        };
        if section.kind == Kind::Incremental {
            if !section.overflows {
                table.insert(field.name(out), field.value(out));
            } else if out.len() >= table.capacity() + GAP {
                // An entry that is larger than the table empties it.
                table.clear();
            } else {
                return Err(DecodeError::FarTooLarge);
            }
        }
        if !section.is_refused {
            match sink.field(out, field) {
                Next::At(next) => section.start = next,
                Next::Refuse => section.is_refused = true,
            }
        }
        if section.is_refused {
            section.start = 0;
        }
        section.step = Step::Representation;
        (section.name_len, section.value_len, section.skipped) = (0, 0, 0);
        (section.is_value, section.overflows) = (false, false);
        Ok(())
    }
}

/// Appends `len` bytes, which `copy` writes, to the string under way, or skips them if there is no room.
#[inline]
fn copy_text(section: &mut Section, len: usize, out: &mut [u8], copy: impl Fn(&mut [u8])) {
    loop {
        if section.overflows {
            section.skipped += len as u32;
            return;
        }
        let at = section.at();
        if let Some(to) = out.get_mut(at..at + len) {
            copy(to);
            section.wrote(len);
            return;
        }
        section.make_room(out);
    }
}
