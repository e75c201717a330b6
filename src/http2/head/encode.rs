//! Heads of HTTP/1.1, as text, to field sections. Not here: which fields a head gets (`exchange`, `downstream`).

use crate::http2::head::{NeverIndexed, Scheme};
use crate::http2::hpack::{Encoder, Indexing, encoded_bound};

/// Why a head is not encoded. The table is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncodeError {
    /// The buffer may be too short.
    NoRoom,
    /// The text is no head: whoever wrote it is to be mended.
    NoHead,
}

/// Encodes a request: `text` is its head as it would go to an origin over HTTP/1.1. Returns the bytes of the section, which begins
/// at the beginning of `out`.
///
/// An upgrade becomes an extended CONNECT (RFC 8441 section 4), which the caller must have been told of by the origin's SETTINGS.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode_request<M: AsRef<[u8]> + AsMut<[u8]>>(
    encoder: &mut Encoder<M>,
    text: &[u8],
    scheme: Scheme,
    never_indexed: &NeverIndexed,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let (line, fields) = split_line(text)?;
    let (method, rest) = split_at(line, b' ')?;
    let (target, version) = split_at(rest, b' ')?;
    if version != b"HTTP/1.1" || method.is_empty() || target.is_empty() {
        return Err(EncodeError::NoHead);
    }
    let fields = Fields::of(fields)?;
    let mut section = Section::begin(encoder, &fields, line, never_indexed, out)?;
    let scheme = match scheme {
        Scheme::Http => &b"http"[..],
        Scheme::Https => b"https",
    };
    if method == b"CONNECT" {
        section.add(b":method", method)?;
        section.add(b":authority", target)?;
    } else {
        section.add(b":method", if fields.upgrade.is_some() { b"CONNECT" } else { method })?;
        section.add(b":scheme", scheme)?;
        section.add(b":path", target)?;
        if let Some(host) = fields.host {
            section.add(b":authority", host)?;
        }
        if let Some(protocol) = fields.upgrade {
            section.add(b":protocol", protocol)?;
        }
    }
    section.add_fields(&fields)
}

/// Encodes a response: `text` is its head as it would go to a client over HTTP/1.1.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode_response<M: AsRef<[u8]> + AsMut<[u8]>>(
    encoder: &mut Encoder<M>,
    text: &[u8],
    never_indexed: &NeverIndexed,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let (line, fields) = split_line(text)?;
    let status = line.strip_prefix(b"HTTP/1.1 ").and_then(<[u8]>::first_chunk::<3>).ok_or(EncodeError::NoHead)?;
    let fields = Fields::of(fields)?;
    let mut section = Section::begin(encoder, &fields, line, never_indexed, out)?;
    section.add(b":status", status)?;
    section.add_fields(&fields)
}

/// Encodes trailers: `text` is lines and an empty one.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode_trailers<M: AsRef<[u8]> + AsMut<[u8]>>(
    encoder: &mut Encoder<M>,
    text: &[u8],
    never_indexed: &NeverIndexed,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let fields = Fields::of(text)?;
    Section::begin(encoder, &fields, b"", never_indexed, out)?.add_fields(&fields)
}

/// A section that is written.
struct Section<'a, M> {
    encoder: &'a mut Encoder<M>,
    never_indexed: &'a NeverIndexed,
    out: &'a mut [u8],
    at: usize,
}

impl<'a, M: AsRef<[u8]> + AsMut<[u8]>> Section<'a, M> {
    /// Begins a section, if all fields have room, and the pseudo-header fields.
    fn begin(
        encoder: &'a mut Encoder<M>,
        fields: &Fields<'_>,
        start_line: &[u8],
        never_indexed: &'a NeverIndexed,
        out: &'a mut [u8],
    ) -> Result<Self, EncodeError> {
        // Pseudo-header fields: five names have fewer than 64 bytes, and the scheme as well; their values are in the text.
        let bytes = fields.lines.0.len() + start_line.len() + 64;
        if out.len() < encoded_bound(fields.count + 5, bytes) {
            return Err(EncodeError::NoRoom);
        }
        Ok(Self { encoder, never_indexed, out, at: 0 })
    }

    #[inline]
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
        self.add_with(name, value, Indexing::Allowed)
    }

    #[inline]
    fn add_with(&mut self, name: &[u8], value: &[u8], indexing: Indexing) -> Result<(), EncodeError> {
        let room = self.out.get_mut(self.at..).unwrap_or_default();
        self.at += self.encoder.field(name, value, indexing, room).ok_or(EncodeError::NoRoom)?;
        Ok(())
    }

    fn add_fields(mut self, fields: &Fields<'_>) -> Result<usize, EncodeError> {
        for (name, value) in fields.lines {
            if passes(name, value) {
                self.add_with(name, value, self.never_indexed.indexing(name))?;
            }
        }
        Ok(self.at)
    }
}

/// Whether a field of HTTP/1.1 has a meaning in HTTP/2 (RFC 9113 section 8.2.2, RFC 8441 section 5).
fn passes(name: &[u8], value: &[u8]) -> bool {
    let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
    match name.len() {
        2 => !is(b"te") || value.eq_ignore_ascii_case(b"trailers"),
        4 => !is(b"host"),
        7 => !is(b"upgrade"),
        10 => !(is(b"connection") || is(b"keep-alive")),
        14 => !is(b"http2-settings"),
        16 => !is(b"proxy-connection"),
        17 => !(is(b"transfer-encoding") || is(b"sec-websocket-key")),
        20 => !is(b"sec-websocket-accept"),
        _ => true,
    }
}

/// Lines as pairs of name and value, up to the empty one.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (line, rest) = split_line(self.0).ok()?;
        self.0 = rest;
        let (name, value) = split_at(line, b':').ok()?;
        Some((name, trim(value)))
    }
}

/// Field lines that were checked, before the table changes, and what of them becomes a pseudo-header field.
struct Fields<'a> {
    lines: Lines<'a>,
    count: usize,
    host: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// The fields in text that is lines and an empty one.
    fn of(text: &'a [u8]) -> Result<Self, EncodeError> {
        let mut rest = Lines(text);
        let mut fields = Self { lines: Lines(text), count: 0, host: None, upgrade: None };
        for (name, value) in rest.by_ref() {
            match name.len() {
                0 => return Err(EncodeError::NoHead),
                4 if name.eq_ignore_ascii_case(b"host") => fields.host = Some(value),
                7 if name.eq_ignore_ascii_case(b"upgrade") => fields.upgrade = Some(value),
                _ => {}
            }
            fields.count += 1;
        }
        let has_end = text == b"\r\n" || text.ends_with(b"\r\n\r\n");
        if rest.0.is_empty() && has_end { Ok(fields) } else { Err(EncodeError::NoHead) }
    }
}

fn split_line(text: &[u8]) -> Result<(&[u8], &[u8]), EncodeError> {
    let end = memchr::memchr(b'\n', text).ok_or(EncodeError::NoHead)?;
    let (line, rest) = text.split_at(end);
    Ok((line.strip_suffix(b"\r").ok_or(EncodeError::NoHead)?, rest.get(1..).unwrap_or_default()))
}

fn split_at(text: &[u8], separator: u8) -> Result<(&[u8], &[u8]), EncodeError> {
    let at = memchr::memchr(separator, text).ok_or(EncodeError::NoHead)?;
    let (before, behind) = text.split_at(at);
    Ok((before, behind.get(1..).unwrap_or_default()))
}

/// A value without the whitespace around it, which HTTP/2 does not allow.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
