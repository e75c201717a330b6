//! Field lines of a received section, checked and written as text. Not here: pseudo-header fields (`request`, `response`).

use crate::buffer::scan::is_tchar;
use crate::http::FieldError;
use crate::http2::head::{HeadError, NeverIndexed};
use crate::http2::hpack::{DecodedField, GAP};
use crate::limits::FIELD_NAME_BYTES;

/// The state of the lines that are written, while a section arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Names that came never indexed.
    pub(super) never_indexed: NeverIndexed,
    /// Whether `te: trailers` was among the fields.
    pub(super) takes_trailers: bool,
    /// Behind the last line that is a cookie; 0: none.
    cookie_end: usize,
    /// Whether there are several of them.
    has_split_cookies: bool,
}

/// What a name asks for besides the common checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    None,
    Cookie,
    Te,
    Connection,
}

impl Rule {
    fn of(name: &[u8]) -> Self {
        match name {
            b"cookie" => Self::Cookie,
            b"te" => Self::Te,
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => Self::Connection,
            _ => Self::None,
        }
    }
}

impl Lines {
    /// Checks a field and makes it a line where it stands. Returns the offset behind it.
    #[inline]
    pub(super) fn add(&mut self, out: &mut [u8], field: DecodedField) -> Result<usize, HeadError> {
        let (name, value) = (field.name(out), field.value(out));
        check_name(name)?;
        check_value(value)?;
        let rule = Rule::of(name);
        if field.never_indexed {
            self.never_indexed.insert(name);
        }
        match rule {
            Rule::None => {}
            Rule::Connection => return Err(HeadError::ConnectionField),
            Rule::Te if !value.eq_ignore_ascii_case(b"trailers") => return Err(HeadError::BadTe),
            Rule::Te => self.takes_trailers = true,
            Rule::Cookie => return self.add_cookie(out, field),
        }
        end_line(out, field)
    }

    /// Adds a cookie: joined with the line before it, if that is one, too (RFC 9113 section 8.2.3).
    fn add_cookie(&mut self, out: &mut [u8], field: DecodedField) -> Result<usize, HeadError> {
        let is_adjacent = self.cookie_end != 0 && self.cookie_end == field.start;
        self.has_split_cookies |= self.cookie_end != 0 && !is_adjacent;
        let end = if is_adjacent {
            // The line before ends with CRLF, where `; ` comes now.
            put(out, field.start - GAP, b"; ")?;
            out.copy_within(field.value_start()..field.value_end(), field.start);
            let end = field.start + field.value_len;
            put(out, end, b"\r\n")?;
            end + GAP
        } else {
            end_line(out, field)?
        };
        self.cookie_end = end;
        Ok(end)
    }

    /// Ends the lines that stand at `start..end` of `out` with an empty one. Returns the offset behind it.
    pub(super) fn finish(&self, out: &mut [u8], start: usize, end: usize) -> Result<usize, HeadError> {
        let end = if self.has_split_cookies { join_cookies(out, start, end)? } else { end };
        put(out, end, b"\r\n")?;
        Ok(end + GAP)
    }
}

/// Puts the bytes around a value that make its field a line.
#[inline]
fn end_line(out: &mut [u8], field: DecodedField) -> Result<usize, HeadError> {
    put(out, field.name_end(), b": ")?;
    put(out, field.value_end(), b"\r\n")?;
    Ok(field.value_end() + GAP)
}

/// Writes bytes at an offset, if they fit.
#[inline]
pub(super) fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), HeadError> {
    match out.get_mut(at..at + bytes.len()) {
        Some(to) => {
            to.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(FieldError::TooLarge.into()),
    }
}

/// Joins the lines with cookies to one, which becomes the last. It is written behind the lines, then these move over the cookies
/// among them: each byte moves once, however many there are. Returns the new end.
#[cold]
fn join_cookies(out: &mut [u8], start: usize, end: usize) -> Result<usize, HeadError> {
    const NAME: &[u8] = b"cookie: ";
    let next_line = |out: &[u8], at: usize| {
        let line = out.get(at..end).unwrap_or_default();
        let len = memchr::memchr(b'\n', line).map_or(line.len(), |newline| newline + 1);
        (at..at + len, line.starts_with(NAME))
    };
    let (mut joined_end, mut at) = (end, start);
    while at < end {
        let (line, is_cookie) = next_line(out, at);
        at = line.end;
        if is_cookie {
            // The first with its name, the others with the separator in its place, each without its CRLF.
            let is_first = joined_end == end;
            let from = line.start + if is_first { 0 } else { NAME.len() }..line.end - GAP;
            if !is_first {
                put(out, joined_end, b"; ")?;
                joined_end += GAP;
            }
            if out.len() < joined_end + from.len() {
                return Err(FieldError::TooLarge.into());
            }
            out.copy_within(from.clone(), joined_end);
            joined_end += from.len();
        }
    }
    put(out, joined_end, b"\r\n")?;
    joined_end += GAP;
    let mut to = start;
    at = start;
    while at < end {
        let (line, is_cookie) = next_line(out, at);
        at = line.end;
        if !is_cookie {
            let len = line.len();
            out.copy_within(line, to);
            to += len;
        }
    }
    out.copy_within(end..joined_end, to);
    Ok(to + joined_end - end)
}

/// Checks a name: a token in lower case (RFC 9113 section 8.2.1, RFC 9110 section 5.1).
#[inline]
fn check_name(name: &[u8]) -> Result<(), HeadError> {
    if name.len().wrapping_sub(1) < FIELD_NAME_BYTES && name.iter().all(|byte| NAME_BYTES[usize::from(*byte)]) {
        return Ok(());
    }
    Err(match name.len() {
        FIELD_NAME_BYTES.. if name.len() > FIELD_NAME_BYTES => FieldError::NameTooLong.into(),
        1.. if name.iter().all(|byte| is_tchar(*byte)) => HeadError::UpperCaseName,
        _ => FieldError::BadName.into(),
    })
}

/// Checks a value: no control character, no whitespace at its edges (RFC 9113 section 8.2.1, RFC 9110 section 5.5).
#[inline]
fn check_value(value: &[u8]) -> Result<(), HeadError> {
    // Without a branch for each byte, so that many are checked at once.
    let is_bad = |byte: u8| (byte < b' ') & (byte != b'\t') | (byte == 0x7f);
    let has_bad = value.iter().fold(false, |bad, byte| bad | is_bad(*byte));
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if has_bad || is_space(value.first()) || is_space(value.last()) {
        return Err(FieldError::BadValue.into());
    }
    Ok(())
}

/// Bytes of names: those of tokens, without upper-case letters.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_tchar(byte as u8) && !(byte as u8).is_ascii_uppercase();
        byte += 1;
    }
    table
};
