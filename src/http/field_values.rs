//! Values of fields that affect framing or the connection, read while the fields are parsed, so that they need not be looked up
//! in the table. Not here: what they mean for the message (`request`, `response`).

use crate::buffer::scan::Lanes;
use crate::http::connection::Options;
use crate::http::head::Reader;
use crate::http::name::is;
use crate::http::{FieldName, Span, parse_decimal, target};

/// The value of the last field of each name. The table ([`Fields`](super::Fields)) records whether the field is present and unique.
pub(super) struct FieldValues<'a, L, const IS_REQUEST: bool> {
    lanes: L,
    buf: &'a [u8],
    /// Value of Host, in a request.
    pub(super) host: Span,
    /// Whether Host is an authority.
    pub(super) is_authority: bool,
    /// Value of Content-Length, if it is a valid number.
    pub(super) length: Option<u64>,
    /// Whether Transfer-Encoding is exactly `chunked`.
    pub(super) is_chunked: bool,
    /// Whether Expect is `100-continue`.
    pub(super) is_continue: bool,
    /// The option in Connection, if there is exactly one and it is a known one.
    pub(super) options: Options,
}

impl<'a, L: Lanes, const IS_REQUEST: bool> FieldValues<'a, L, IS_REQUEST> {
    /// No values yet, for a head in `buf`.
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
