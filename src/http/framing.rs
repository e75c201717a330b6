//! How a body is delimited, from Content-Length and Transfer-Encoding (RFC 9112 section 6). Not here: reading bodies.

use crate::buffer::scan::is_tchar;
use crate::http::connection::trim;
use crate::http::name::is;
use crate::http::{FieldName, Fields};

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    #[default]
    None,
    /// It ends after this many bytes.
    Length(u64),
    /// It ends with the last chunk and its trailer section.
    Chunked,
    /// It ends with the connection; in responses only.
    Close,
}

/// The value of Transfer-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Exactly one coding, `chunked`.
    Chunked,
    /// `chunked` last, after codings that cairn does not implement.
    Unknown,
    /// Anything else: the end of the body is unknown.
    Malformed,
}

/// The transfer coding of a message with Transfer-Encoding. `is_chunked`: the value of the last such field is exactly `chunked`.
#[inline(always)]
pub(super) fn transfer_coding(head: &[u8], fields: &Fields, is_chunked: bool) -> Coding {
    if is_chunked && !fields.repeats(FieldName::TransferEncoding) {
        return Coding::Chunked;
    }
    other_coding(head, fields)
}

#[cold]
fn other_coding(head: &[u8], fields: &Fields) -> Coding {
    let mut codings = fields
        .all(FieldName::TransferEncoding)
        .flat_map(|field| field.value.of(head).split(|byte| *byte == b','))
        .map(trim)
        .peekable();
    while let Some(coding) = codings.next() {
        match (is(coding, b"chunked"), codings.peek()) {
            (true, None) => return Coding::Unknown,
            (false, Some(_)) if is_coding(coding) => {}
            _ => return Coding::Malformed,
        }
    }
    Coding::Malformed
}

/// Whether `coding` is a transfer coding other than chunked: a token, perhaps with parameters.
fn is_coding(coding: &[u8]) -> bool {
    let name = trim(coding.split(|byte| *byte == b';').next().unwrap_or_default());
    !name.is_empty() && name.iter().copied().all(is_tchar) && !is(name, b"chunked")
}
