//! The values of fields that change a message, read while the fields are found: at that moment a branch tells which field
//! it is, and nothing has to wait until it is found again in the table. What follows from them is decided elsewhere.

use crate::buffer::scan::Lanes;
use crate::http::connection::Options;
use crate::http::head::Reader;
use crate::http::name::is;
use crate::http::{FieldName, Span, parse_decimal, target};

/// What was found; of each field the last. Whether there is one, and one only, is for the table to say.
pub(super) struct FieldValues<'a, L, const IS_REQUEST: bool> {
    lanes: L,
    buf: &'a [u8],
    /// Host of a request.
    pub(super) host: Span,
    /// Host is an authority.
    pub(super) is_authority: bool,
    /// Content-Length.
    pub(super) length: Option<u64>,
    /// Transfer-Encoding is `chunked` and nothing else.
    pub(super) is_chunked: bool,
    /// Expect is `100-continue`.
    pub(super) is_continue: bool,
    /// Connection, if it is a single option that names no field.
    pub(super) options: Options,
}

impl<'a, L: Lanes, const IS_REQUEST: bool> FieldValues<'a, L, IS_REQUEST> {
    /// Of a head in `buf`.
    #[inline(always)]
    pub(super) fn new(lanes: L, buf: &'a [u8]) -> Self {
        Self {
            lanes,
            buf,
            host: Span::default(),
            is_authority: false,
            length: None,
            is_chunked: false,
            is_continue: false,
            options: Options::NONE,
        }
    }
}

impl<L: Lanes, const IS_REQUEST: bool> Reader for FieldValues<'_, L, IS_REQUEST> {
    const USUAL: FieldName = if IS_REQUEST { FieldName::Host } else { FieldName::ContentLength };

    #[inline(always)]
    fn read(&mut self, id: FieldName, start: usize, end: usize) {
        if id > FieldName::LAST_READ {
            return;
        }
        let Some(value) = self.buf.get(start..end) else { return };
        match id {
            FieldName::Host if IS_REQUEST => {
                self.host = Span::between(start, end);
                self.is_authority = target::is_authority(self.lanes, self.buf, start, end);
            }
            FieldName::ContentLength => self.length = parse_decimal(value),
            FieldName::TransferEncoding => self.is_chunked = is(value, b"chunked"),
            FieldName::Connection => self.options = Options::single(value),
            FieldName::Expect if IS_REQUEST => self.is_continue = is(value, b"100-continue"),
            _ => {}
        }
    }
}
