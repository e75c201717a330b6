//! The common syntax of requests, responses and trailers: limits, the end of a head, and field lines.
//! Not here: start lines (`request`, `response`) and values of fields (`field_values`).

use crate::buffer::scan::{self, FieldCursor, Lanes, Scan, is_tchar};
use crate::http::name::is;
use crate::http::{Field, FieldName, Fields, Span};
use crate::limits::{FIELD_NAME_BYTES, HEAD_BYTES_MAX};

/// Limits of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes of the whole head; no more than `limits::HEAD_BYTES_MAX`.
    pub head_bytes: usize,
    /// Most fields; no more than `limits::HEADER_COUNT_MAX`.
    pub field_count: usize,
    /// Most bytes of the request line without its CRLF.
    pub request_line: usize,
}

/// Why a section of field lines is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldError {
    /// A name is empty, is no token, or does not end with a colon.
    BadName,
    /// A name is longer than `limits::FIELD_NAME_BYTES`.
    NameTooLong,
    /// A control character stands in a value.
    BadValue,
    /// A CR or LF stands alone.
    BadLineEnd,
    /// A line begins with whitespace (RFC 9112 section 5.2).
    Folded,
    /// More fields than allowed.
    TooMany,
    /// More bytes than allowed.
    TooLarge,
}

/// Why a trailer section is refused.
pub type TrailerError = FieldError;

impl FieldError {
    /// The status to answer a request with.
    pub fn status(self) -> u16 {
        match self {
            Self::BadName | Self::BadValue | Self::BadLineEnd | Self::Folded => 400,
            Self::NameTooLong | Self::TooMany | Self::TooLarge => 431,
        }
    }

    /// The reason code.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadName => "bad_field_name",
            Self::NameTooLong => "field_name_too_long",
            Self::BadValue => "bad_field_value",
            Self::BadLineEnd => "bad_line_end",
            Self::Folded => "folded_field",
            Self::TooMany => "too_many_fields",
            Self::TooLarge => "head_too_large",
        }
    }
}

impl HeadLimits {
    /// The part of `buf` in which the head has to end.
    #[inline(always)]
    pub(super) fn view<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        buf.get(..self.head_bytes()).unwrap_or(buf)
    }

    #[inline(always)]
    pub(super) fn head_bytes(&self) -> usize {
        self.head_bytes.min(HEAD_BYTES_MAX)
    }
}

/// Parses the trailer section that follows the last chunk (RFC 9112 section 7.1.2).
///
/// `buf` begins behind the line of the last chunk. Returns the length of the section with the empty line, or `None` if that
/// has not arrived. `scanned` is as for a head: 0 at first, then kept by the caller.
pub fn parse_trailers(
    buf: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    fields: &mut Fields,
) -> Result<Option<usize>, TrailerError> {
    let view = limits.view(buf);
    if *scanned != 0 && !may_complete(view, *scanned) && view.len() < limits.head_bytes() {
        *scanned = view.len();
        return Ok(None);
    }
    match scan::run(view, limits.field_count, (), fields) {
        Ok(Some(end)) => {
            *scanned = 0;
            Ok(Some(end))
        }
        found => incomplete(found, view, limits, scanned, fields),
    }
}

/// The result for a section that is refused or incomplete. Clears `fields`, so that fields of the last message are not taken for those
/// of this one.
#[cold]
pub(super) fn incomplete<E: From<FieldError>>(
    found: Result<Option<usize>, E>,
    view: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    fields: &mut Fields,
) -> Result<Option<usize>, E> {
    fields.clear();
    found?;
    *scanned = view.len();
    if view.len() >= limits.head_bytes() { Err(FieldError::TooLarge.into()) } else { Ok(None) }
}

/// Parses a trailer section of at most `max` fields.
impl Scan<usize, ()> for Fields {
    type Output = Result<Option<usize>, TrailerError>;

    #[inline(always)]
    fn scan<L: Lanes>(lanes: L, view: &[u8], max: usize, (): (), fields: &mut Self) -> Self::Output {
        let mut cursor = FieldCursor::new(lanes, view);
        cursor.begin(0);
        parse_fields(&mut cursor, view, 0, max, fields, &mut ())
    }
}

/// Whether the bytes after the first `scanned` may end the head, or are certain to be refused.
///
/// Reads the new bytes only, so that a head that arrives byte by byte costs linear time.
pub(super) fn may_complete(view: &[u8], scanned: usize) -> bool {
    let new = view.get(scanned..).unwrap_or_default();
    memchr::memchr_iter(b'\n', new).any(|i| {
        let before = view.get(..scanned.saturating_add(i)).unwrap_or_default();
        // An empty line, at the beginning or behind another; or a line that does not end with CRLF.
        before == b"\r" || before.ends_with(b"\n\r") || !before.ends_with(b"\r")
    })
}

/// Reads values of fields while they are parsed, so that they need not be looked up in the table later.
pub(super) trait Reader {
    /// A field that nearly every message has; its name is compared first.
    const USUAL: FieldName;

    /// Reads the value of a field with a known name, at these offsets. Implementations have to be `inline(always)`.
    fn read(&mut self, id: FieldName, start: usize, end: usize);
}

impl Reader for () {
    const USUAL: FieldName = FieldName::Other;

    #[inline(always)]
    fn read(&mut self, _: FieldName, _: usize, _: usize) {}
}

/// Reads field lines from `at` up to and including the empty line (RFC 9112 section 5).
///
/// Returns the offset behind the empty line, or `None` if `buf` ends before it; then `fields` is unspecified.
#[inline(always)]
pub(super) fn parse_fields<L: Lanes, R: Reader>(
    cursor: &mut FieldCursor<'_, L>,
    buf: &[u8],
    mut at: usize,
    max: usize,
    fields: &mut Fields,
    reader: &mut R,
) -> Result<Option<usize>, FieldError> {
    let mut builder = fields.fill(max);
    loop {
        let Some(line) = buf.get(at..) else { return Ok(None) };
        let (name, end) = cursor.line(at);
        let (mut name, end) = (name as usize, end as usize);
        if end == 0 {
            let empty = empty_line(line)?;
            builder.finish();
            return Ok(empty.map(|len| at.wrapping_add(len)));
        }
        if line.get(end..end + 2) != Some(b"\r\n") {
            return odd_line(line, name, end, builder.room().is_some());
        }
        if name >= end || line.get(name) != Some(&b':') {
            name = name_len(line, name);
            builder.set_underscore();
            if line.get(name) != Some(&b':') {
                return no_name(line, name);
            }
        }
        if name.wrapping_sub(1) >= FIELD_NAME_BYTES {
            return no_name(line, name);
        }
        let Some(field) = builder.room() else { return Err(FieldError::TooMany) };
        let is_usual = line.get(..name).is_some_and(|name| is(name, const { R::USUAL.text() }));
        let id = if is_usual { R::USUAL } else { FieldName::lookup_in(line, name) };
        let (start, value_end) = trim(line, name + 1, end);
        let (start, value_end) = (at.wrapping_add(start), at.wrapping_add(value_end));
        let name = Span::between(at, at.wrapping_add(name));
        *field = Field { name, value: Span::between(start, value_end), id, dropped: false };
        builder.count(id);
        if id != FieldName::Other {
            reader.read(id, start, value_end);
        }
        at = at.wrapping_add(end + 2);
    }
}

/// The length of the empty line that `line` begins with, or `None` if it has not arrived.
#[inline(always)]
fn empty_line(line: &[u8]) -> Result<Option<usize>, FieldError> {
    match line {
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r'] | [] => Ok(None),
        [b'\r' | b'\n', ..] => Err(FieldError::BadLineEnd),
        _ => Err(FieldError::BadName),
    }
}

/// The length of a name that may have a `_` behind its first `at` bytes.
#[cold]
fn name_len(line: &[u8], at: usize) -> usize {
    let rest = line.get(at..).unwrap_or_default();
    rest.iter().position(|byte| !is_tchar(*byte)).map_or(line.len(), |len| at + len)
}

/// The result for a line whose value ends at `end` without CRLF: the first error from left to right, or `None` if the line is
/// incomplete.
#[cold]
fn odd_line(line: &[u8], name: usize, end: usize, has_room: bool) -> Result<Option<usize>, FieldError> {
    let name = name_len(line, name);
    if line.get(name) != Some(&b':') || name.wrapping_sub(1) >= FIELD_NAME_BYTES {
        return no_name(line, name);
    }
    if !has_room {
        return Err(FieldError::TooMany);
    }
    match line.get(end..) {
        Some([b'\r'] | []) | None => Ok(None),
        Some([b'\r' | b'\n', ..]) => Err(FieldError::BadLineEnd),
        Some(_) => Err(FieldError::BadValue),
    }
}

/// The result for a line that does not begin with a name and a colon: the error, or `None` if the line is incomplete.
#[cold]
fn no_name(line: &[u8], name: usize) -> Result<Option<usize>, FieldError> {
    if name > FIELD_NAME_BYTES {
        return Err(FieldError::NameTooLong);
    }
    match line.get(name) {
        None => Ok(None),
        Some(b' ' | b'\t') if name == 0 => Err(FieldError::Folded),
        Some(b'\r' | b'\n') => Err(FieldError::BadLineEnd),
        Some(_) => Err(FieldError::BadName),
    }
}

/// The range of a value without the whitespace around it. Usually there is one space before it.
#[inline(always)]
fn trim(line: &[u8], start: usize, end: usize) -> (usize, usize) {
    let start = start.wrapping_add(usize::from(line.get(start) == Some(&b' ')));
    match (line.get(start), line.get(end.wrapping_sub(1))) {
        (Some(first), Some(last)) if *first > b' ' && *last > b' ' => (start, end),
        _ => trim_all(line, start, end),
    }
}

#[cold]
fn trim_all(buf: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    while let Some(b' ' | b'\t') = buf.get(start) {
        start += 1;
    }
    while end > start && matches!(buf.get(end - 1), Some(b' ' | b'\t')) {
        end -= 1;
    }
    (start, end)
}
