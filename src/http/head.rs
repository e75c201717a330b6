//! What requests, responses and trailers have in common: limits, the search for the end, and field lines.
//! Start lines and the meaning of fields are elsewhere.

use crate::buffer::scan::{self, FieldCursor, Lanes, Scan};
use crate::http::{Field, FieldName, Fields, Span};
use crate::limits::{FIELD_NAME_BYTES, HEAD_BYTES_MAX};

/// The caps on one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head; at most `limits::HEAD_BYTES_MAX` counts.
    pub head_bytes: usize,
    /// Number of fields; at most `limits::HEADER_COUNT_MAX` counts.
    pub field_count: usize,
    /// Bytes of the request line without its CRLF.
    pub request_line: usize,
}

/// What is wrong with a section of field lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldError {
    /// A name is empty, is no token, or does not end with a colon.
    BadName,
    /// A name is longer than `limits::FIELD_NAME_BYTES`.
    NameTooLong,
    /// A control character stands in a value.
    BadValue,
    /// CR or LF alone.
    BadLineEnd,
    /// A line begins with whitespace (RFC 9112 section 5.2).
    Folded,
    /// More fields than allowed.
    TooMany,
    /// More bytes than allowed.
    TooLarge,
}

/// What is wrong with a trailer section.
pub type TrailerError = FieldError;

impl FieldError {
    /// The status for it in a request.
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
/// `buf` begins behind the line of the last chunk. Returns the bytes taken including the empty line, or `None` as
/// long as that has not arrived. `scanned` is as for a head: 0 at first, then kept by the caller.
pub fn parse_trailers(
    buf: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    fields: &mut Fields,
) -> Result<Option<usize>, TrailerError> {
    let view = limits.view(buf);
    if *scanned != 0 && !worth_parsing(view, *scanned) && view.len() < limits.head_bytes() {
        *scanned = view.len();
        return Ok(None);
    }
    let end = scan::run(ParseTrailers { view, max: limits.field_count, fields })?;
    if end.is_none() && view.len() >= limits.head_bytes() {
        return Err(FieldError::TooLarge);
    }
    *scanned = if end.is_some() { 0 } else { view.len() };
    Ok(end)
}

/// One attempt at a trailer section.
struct ParseTrailers<'a> {
    view: &'a [u8],
    max: usize,
    fields: &'a mut Fields,
}

impl Scan for ParseTrailers<'_> {
    type Output = Result<Option<usize>, TrailerError>;

    #[inline(always)]
    fn scan<L: Lanes>(self, lanes: L) -> Self::Output {
        let mut cursor = FieldCursor::new(lanes, self.view);
        cursor.begin(0);
        parse_fields(&mut cursor, self.view, 0, self.max, self.fields)
    }
}

/// Whether bytes that arrived after the first `scanned` can end the head, or are sure to be refused.
///
/// Looks at the new line ends only, so that a head that comes byte by byte costs linear time.
pub(super) fn worth_parsing(view: &[u8], scanned: usize) -> bool {
    let new = view.get(scanned..).unwrap_or_default();
    memchr::memchr_iter(b'\n', new).any(|i| {
        let before = view.get(..scanned.saturating_add(i)).unwrap_or_default();
        // An empty line, at the beginning or behind another; or a line that does not end with CRLF.
        before == b"\r" || before.ends_with(b"\n\r") || !before.ends_with(b"\r")
    })
}

/// Reads field lines from `at` up to and including the empty line (RFC 9112 section 5).
///
/// Returns the offset behind the empty line, or `None` if `buf` ends before it.
#[inline(always)]
pub(super) fn parse_fields<L: Lanes>(
    cursor: &mut FieldCursor<'_, L>,
    buf: &[u8],
    mut at: usize,
    max: usize,
    fields: &mut Fields,
) -> Result<Option<usize>, FieldError> {
    let mut filling = fields.fill(max);
    let mut first = buf.get(at).copied().unwrap_or_default();
    loop {
        if first == b'\r' {
            let end = empty_line(buf, at)?;
            filling.finish();
            return Ok(end);
        }
        let Some(line) = buf.get(at..) else { return Ok(None) };
        let (mut colon, end) = cursor.line(at);
        while buf.get(colon) != Some(&b':') {
            if buf.get(colon) != Some(&b'_') {
                return no_name(buf, at, colon);
            }
            filling.note_underscore();
            colon = cursor.not_plain(colon.wrapping_add(1));
        }
        let len = colon.wrapping_sub(at);
        if len.wrapping_sub(1) >= FIELD_NAME_BYTES {
            return no_name(buf, at, colon);
        }
        let Some(field) = filling.room() else { return Err(FieldError::TooMany) };
        let next = end.wrapping_add(2);
        first = match buf.get(end..=next) {
            Some([cr, lf, first]) if [*cr, *lf] == *b"\r\n" => *first,
            _ => return line_end(buf, end),
        };
        let id = FieldName::lookup_in(line, len);
        let (start, value_end) = trim(buf, colon.wrapping_add(1), end);
        *field = Field { name: Span::between(at, colon), value: Span::between(start, value_end), id, dropped: false };
        filling.count(id);
        at = next;
    }
}

/// The offset behind the empty line at `at`.
fn empty_line(buf: &[u8], at: usize) -> Result<Option<usize>, FieldError> {
    match buf.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(at + 2)),
        Some([b'\r']) => Ok(None),
        _ => Err(FieldError::BadLineEnd),
    }
}

/// What the value stopped at is no line end with a byte behind it: an error, or the end of what has arrived.
#[cold]
fn line_end(buf: &[u8], end: usize) -> Result<Option<usize>, FieldError> {
    match buf.get(end..) {
        Some([b'\r', b'\n'] | [b'\r'] | []) | None => Ok(None),
        Some([b'\r' | b'\n', ..]) => Err(FieldError::BadLineEnd),
        Some(_) => Err(FieldError::BadValue),
    }
}

/// The line at `at` does not begin with a name and a colon, or not yet.
#[cold]
fn no_name(buf: &[u8], at: usize, end: usize) -> Result<Option<usize>, FieldError> {
    if end - at > FIELD_NAME_BYTES {
        return Err(FieldError::NameTooLong);
    }
    match buf.get(end) {
        None => Ok(None),
        Some(b' ' | b'\t') if end == at => Err(FieldError::Folded),
        Some(b'\r' | b'\n') => Err(FieldError::BadLineEnd),
        Some(_) => Err(FieldError::BadName),
    }
}

/// The value without the whitespace around it: usually there is one space, before it.
#[inline(always)]
fn trim(buf: &[u8], start: usize, end: usize) -> (usize, usize) {
    let start = start.wrapping_add(usize::from(buf.get(start) == Some(&b' ')));
    match (buf.get(start), buf.get(end.wrapping_sub(1))) {
        (Some(first), Some(last)) if *first > b' ' && *last > b' ' => (start, end),
        _ => trim_all(buf, start, end),
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
