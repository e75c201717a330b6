//! Response heads: the status line, then what the fields mean for the body and the connection. Not here: how clients are answered
//! when a head is invalid (`exchange`).

use crate::buffer::scan::{self, FieldCursor, Lanes, Scan};
use crate::http::connection::{self, Options};
use crate::http::field_values::FieldValues;
use crate::http::framing::{self, Coding};
use crate::http::head::{incomplete, may_complete, parse_fields};
use crate::http::{BodyFraming, FieldError, FieldName, Fields, HeadLimits, Method, Span, Version};

/// A parsed response head, reused for each response. Spans are into the parsed bytes.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: u16,
    /// The version whose rules apply.
    pub version: Version,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// The fields.
    pub fields: Fields,
    /// How the body ends, given the method of the request.
    pub body: BodyFraming,
    /// Whether the connection persists after the body.
    pub keep_alive: bool,
    /// The protocols named by `Upgrade`, if `Connection` nominates it.
    pub upgrade: Option<Span>,
    /// The method of the request.
    request: Method,
}

impl ResponseHead {
    /// An empty head with its field table.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Why a response is refused. The client is answered 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// The first line is no status line of HTTP/1.x.
    BadStatusLine,
    /// The status is not within 100 and 599.
    BadStatus,
    /// The section of field lines is refused.
    Fields(FieldError),
    /// Content-Length is repeated, no number, or too large.
    BadContentLength,
    /// Transfer-Encoding is not exactly `chunked`.
    BadTransferEncoding,
    /// Transfer-Encoding in HTTP/1.0.
    TransferEncodingInHttp10,
    /// Content-Length and Transfer-Encoding.
    ConflictingFraming,
    /// `Connection` nominates too many fields.
    BadConnection,
}

impl ResponseError {
    /// The reason code.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadStatusLine => "bad_status_line",
            Self::BadStatus => "bad_status",
            Self::Fields(error) => error.reason(),
            Self::BadContentLength => "bad_content_length",
            Self::BadTransferEncoding => "bad_transfer_encoding",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http10",
            Self::ConflictingFraming => "conflicting_framing",
            Self::BadConnection => "bad_connection",
        }
    }
}

impl From<FieldError> for ResponseError {
    fn from(error: FieldError) -> Self {
        Self::Fields(error)
    }
}

/// Parses the response head at the beginning of `buf`, which answers a request with the given method.
///
/// The contract is that of [`parse_request`](crate::http::parse_request). Interim responses are heads of their own.
// Not inlined: otherwise its arguments are stored as words and read back in wider moves, which stalls on short heads.
#[inline(never)]
pub fn parse_response(
    buf: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    request: Method,
    head: &mut ResponseHead,
) -> Result<Option<usize>, ResponseError> {
    head.request = request;
    scan::run(buf, limits, scanned, head)
}

impl Scan<&HeadLimits, &mut usize> for ResponseHead {
    type Output = Result<Option<usize>, ResponseError>;

    #[inline(always)]
    fn scan<L: Lanes>(lanes: L, buf: &[u8], limits: &HeadLimits, scanned: &mut usize, head: &mut Self) -> Self::Output {
        let view = limits.view(buf);
        if *scanned != 0 && view.len() < limits.head_bytes() && !may_complete(view, *scanned) {
            *scanned = view.len();
            return Ok(None);
        }
        let mut field_values = FieldValues::new(lanes, view);
        let end = match syntax(lanes, view, limits, head, &mut field_values) {
            Ok(Some(end)) => end,
            found => return incomplete(found, view, limits, scanned, &mut head.fields),
        };
        *scanned = 0;
        finish(view, head, &field_values)?;
        Ok(Some(end))
    }
}

/// Parses start line and field lines; returns the offset behind the empty line.
#[inline(always)]
fn syntax<L: Lanes>(
    lanes: L,
    view: &[u8],
    limits: &HeadLimits,
    head: &mut ResponseHead,
    field_values: &mut FieldValues<'_, L, false>,
) -> Result<Option<usize>, ResponseError> {
    // Fields are classified before the status line is read, so that the processor can work on both in parallel.
    let mut cursor = FieldCursor::new(lanes, view);
    cursor.begin(0);
    let Some(start) = status_line(view, head)? else { return Ok(None) };
    let end = start.wrapping_add(cursor.line(start).1 as usize);
    match view.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([] | [b'\r']) | None => return Ok(None),
        Some(_) => return Err(ResponseError::BadStatusLine),
    }
    head.reason = Span::between(start, end);
    let at = end.wrapping_add(2);
    Ok(parse_fields(&mut cursor, view, at, limits.field_count, &mut head.fields, field_values)?)
}

/// Reads `HTTP/1.d SP ddd [SP]` (RFC 9112 section 4). Returns the offset of the reason phrase; of the CR if the space before the
/// phrase is missing.
#[inline(always)]
fn status_line(buf: &[u8], head: &mut ResponseHead) -> Result<Option<usize>, ResponseError> {
    let Some([name @ .., a, b, c, end]) = buf.first_chunk::<13>() else {
        return if may_begin_status_line(buf) { Ok(None) } else { Err(ResponseError::BadStatusLine) };
    };
    head.version = if *name == *b"HTTP/1.1 " { Version::Http11 } else { other_version(name)? };
    let [a, b, c] = [a, b, c].map(|digit| digit.wrapping_sub(b'0'));
    if (a > 9) | (b > 9) | (c > 9) | !matches!(end, b' ' | b'\r') {
        return Err(ResponseError::BadStatusLine);
    }
    if !(1..6).contains(&a) {
        return Err(ResponseError::BadStatus);
    }
    head.status = u16::from(a) * 100 + u16::from(b) * 10 + u16::from(c);
    Ok(Some(if *end == b' ' { 13 } else { 12 }))
}

/// Reads a version other than 1.1, with `HTTP/` and the space behind it.
#[cold]
fn other_version(name: &[u8; 9]) -> Result<Version, ResponseError> {
    match name.split_first_chunk() {
        Some((b"HTTP/1.", [b'0', b' '])) => Ok(Version::Http10),
        Some((b"HTTP/1.", [b'1'..=b'9', b' '])) => Ok(Version::Http11),
        _ => Err(ResponseError::BadStatusLine),
    }
}

/// Whether fewer than 13 bytes can still become a status line.
fn may_begin_status_line(buf: &[u8]) -> bool {
    buf.iter().zip(b"HTTP/1.d ddd").all(|(got, want)| got == want || *want == b'd' && got.is_ascii_digit())
}

/// Fields that affect framing or the connection.
const SEMANTIC_FIELDS: u64 =
    FieldName::TransferEncoding.bit() | FieldName::ContentLength.bit() | FieldName::Connection.bit();

/// Sets the members of `head` that follow from the fields: body, persistence, upgrade.
#[inline(always)]
fn finish<L: Lanes>(
    buf: &[u8],
    head: &mut ResponseHead,
    field_values: &FieldValues<'_, L, false>,
) -> Result<(), ResponseError> {
    let mut options = Options::NONE;
    let mut framing = BodyFraming::Close;
    head.upgrade = None;
    if head.fields.any(SEMANTIC_FIELDS) {
        options = connection::options(buf, &mut head.fields, field_values.options);
        if options.has(Options::TOO_MANY) {
            return Err(ResponseError::BadConnection);
        }
        head.upgrade = connection::upgrade(buf, &head.fields, options);
        framing = body(buf, head, field_values)?;
    }
    // No body, whatever the fields say (RFC 9112 section 6.3, rules 1 and 2).
    let has_body = match head.status {
        100..200 | 204 | 304 => false,
        200..300 => !matches!(head.request, Method::Head | Method::Connect),
        _ => head.request != Method::Head,
    };
    head.body = if has_body { framing } else { BodyFraming::None };
    head.keep_alive = match head.version {
        _ if head.body == BodyFraming::Close || options.has(Options::CLOSE) => false,
        Version::Http11 | Version::Http2 => true,
        Version::Http10 => options.has(Options::KEEP_ALIVE),
    };
    Ok(())
}

/// The end of the body by the fields (RFC 9112 section 6.3, rules 3 to 8).
#[inline(always)]
fn body<L: Lanes>(
    buf: &[u8],
    head: &ResponseHead,
    field_values: &FieldValues<'_, L, false>,
) -> Result<BodyFraming, ResponseError> {
    let fields = &head.fields;
    let has_length = fields.any(FieldName::ContentLength.bit());
    if !fields.any(FieldName::TransferEncoding.bit()) {
        return match field_values.length {
            _ if !has_length => Ok(BodyFraming::Close),
            // Repeated fields are refused even if they are equal.
            Some(length) if !fields.repeats(FieldName::ContentLength) => Ok(BodyFraming::Length(length)),
            _ => Err(ResponseError::BadContentLength),
        };
    }
    if has_length {
        return Err(ResponseError::ConflictingFraming);
    }
    if head.version == Version::Http10 {
        return Err(ResponseError::TransferEncodingInHttp10);
    }
    match framing::transfer_coding(buf, fields, field_values.is_chunked) {
        Coding::Chunked => Ok(BodyFraming::Chunked),
        Coding::Unknown | Coding::Malformed => Err(ResponseError::BadTransferEncoding),
    }
}
