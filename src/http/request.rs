//! Request heads: the request line, then what the fields mean for the exchange. Not here: bodies (`chunked`) and paths (`path`).

use crate::buffer::scan::{self, FieldCursor, Lanes, Portable, Scan};
use crate::http::connection::{self, Options};
use crate::http::field_values::FieldValues;
use crate::http::fields::UNDERSCORE;
use crate::http::framing::{self, Coding};
use crate::http::head::{incomplete, may_complete, parse_fields};
use crate::http::name::{is, is_alias};
use crate::http::{BodyFraming, FieldError, FieldName, Fields, HeadLimits, Method, Span, Target, Version, target};
use crate::limits::{LEADING_EMPTY_LINES, METHOD_BYTES};

/// A parsed request head, reused for each request. Spans are into the parsed bytes.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as received.
    pub method_text: Span,
    /// The version whose rules apply.
    pub version: Version,
    /// The form of the target.
    pub target: Target,
    /// The whole target.
    pub raw_target: Span,
    /// The scheme of an absolute-form target; otherwise empty.
    pub scheme: Span,
    /// Host and port: from an absolute-form or authority-form target, else from Host. Empty only in HTTP/1.0.
    pub authority: Span,
    /// The path as received, without the query; see [`RequestHead::path`].
    pub path: Span,
    /// The query: all behind the first `?`.
    pub query: Option<Span>,
    /// The fields.
    pub fields: Fields,
    /// How the body ends; never `Close`.
    pub body: BodyFraming,
    /// Whether the connection persists after the response.
    pub keep_alive: bool,
    /// Whether the client waits for 100 before it sends the body.
    pub expect_continue: bool,
    /// The protocols that the client offers to switch to, if the offer may be forwarded.
    pub upgrade: Option<Span>,
    /// The upgrade was asked for by an extended CONNECT (RFC 8441 section 4), which has no key of its own.
    pub is_extended_connect: bool,
}

impl RequestHead {
    /// An empty head with its field table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path for routing and forwarding. Never empty if the target has a path (RFC 9112 sections 3.2.1 and 3.2.4).
    pub fn path<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        match (self.target, self.path.of(head)) {
            (Target::Absolute, []) if self.method == Method::Options && self.query.is_none() => b"*",
            (Target::Absolute, []) => b"/",
            (_, path) => path,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// The method is no token, or is not followed by one space.
    BadMethod,
    /// The method is longer than `limits::METHOD_BYTES`.
    MethodTooLong,
    /// The target has no valid form for its method.
    BadTarget,
    /// The version is malformed or missing.
    BadVersion,
    /// A version of HTTP that is not 1.x.
    UnsupportedVersion,
    /// The request line is longer than allowed.
    RequestLineTooLong,
    /// The section of field lines is refused.
    Fields(FieldError),
    /// HTTP/1.1 without Host.
    MissingHost,
    /// More than one Host.
    DuplicateHost,
    /// Host is no authority.
    BadHost,
    /// Content-Length is repeated, no number, or too large.
    BadContentLength,
    /// Transfer-Encoding does not end with one `chunked`.
    BadTransferEncoding,
    /// Transfer-Encoding has codings before `chunked`.
    UnknownTransferCoding,
    /// Transfer-Encoding in HTTP/1.0.
    TransferEncodingInHttp10,
    /// Content-Length and Transfer-Encoding.
    ConflictingFraming,
    /// CONNECT with Content-Length or Transfer-Encoding: what follows its head is the tunnel's (RFC 9110 section 9.3.6).
    BodyOfConnect,
    /// An expectation other than `100-continue`.
    UnknownExpectation,
    /// `Connection` nominates a field that the message cannot be without, or too many.
    BadConnection,
}

impl RequestError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::Fields(error) => error.status(),
            Self::RequestLineTooLong => 414,
            Self::UnknownExpectation => 417,
            Self::MethodTooLong | Self::UnknownTransferCoding => 501,
            Self::UnsupportedVersion => 505,
            Self::BadMethod
            | Self::BadTarget
            | Self::BadVersion
            | Self::MissingHost
            | Self::DuplicateHost
            | Self::BadHost
            | Self::BadContentLength
            | Self::BadTransferEncoding
            | Self::TransferEncodingInHttp10
            | Self::ConflictingFraming
            | Self::BodyOfConnect
            | Self::BadConnection => 400,
        }
    }

    /// The reason code.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BadMethod => "bad_method",
            Self::MethodTooLong => "method_too_long",
            Self::BadTarget => "bad_target",
            Self::BadVersion => "bad_version",
            Self::UnsupportedVersion => "unsupported_version",
            Self::RequestLineTooLong => "request_line_too_long",
            Self::Fields(error) => error.reason(),
            Self::MissingHost => "missing_host",
            Self::DuplicateHost => "duplicate_host",
            Self::BadHost => "bad_host",
            Self::BadContentLength => "bad_content_length",
            Self::BadTransferEncoding => "bad_transfer_encoding",
            Self::UnknownTransferCoding => "unknown_transfer_coding",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http10",
            Self::ConflictingFraming => "conflicting_framing",
            Self::BodyOfConnect => "body_of_connect",
            Self::UnknownExpectation => "unknown_expectation",
            Self::BadConnection => "bad_connection",
        }
    }
}

impl From<FieldError> for RequestError {
    fn from(error: FieldError) -> Self {
        Self::Fields(error)
    }
}

/// Parses the request head at the beginning of `buf`.
///
/// - `Ok(Some(n))`: `head` is filled; the head has n bytes including its empty line and any empty lines before it.
/// - `Ok(None)`: more bytes are needed; `head` is unspecified.
/// - `Err`: the head is refused, whatever bytes may follow.
///
/// `scanned` is 0 for a new head and kept by the caller between attempts; `buf` only grows between them. The result does not depend
/// on how the bytes arrive. Cost: one pass; a head that arrives byte by byte is parsed twice.
// Not inlined: otherwise its arguments are stored as words and read back in wider moves, which stalls on short heads.
#[inline(never)]
pub fn parse_request(
    buf: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
    head: &mut RequestHead,
) -> Result<Option<usize>, RequestError> {
    scan::run(buf, limits, scanned, head)
}

impl Scan<&HeadLimits, &mut usize> for RequestHead {
    type Output = Result<Option<usize>, RequestError>;

    #[inline(always)]
    fn scan<L: Lanes>(lanes: L, buf: &[u8], limits: &HeadLimits, scanned: &mut usize, head: &mut Self) -> Self::Output {
        let view = limits.view(buf);
        if *scanned != 0 && !may_differ(view, limits, *scanned) {
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

/// Whether parsing again may give another result than the last attempt.
fn may_differ(view: &[u8], limits: &HeadLimits, scanned: usize) -> bool {
    // A request line that does not end within so many bytes is too long.
    let line = limits.request_line.saturating_add(2 + 2 * LEADING_EMPTY_LINES);
    view.len() >= limits.head_bytes() || (scanned <= line && view.len() > line) || may_complete(view, scanned)
}

/// Parses start line and field lines; returns the offset behind the empty line.
#[inline(always)]
fn syntax<L: Lanes>(
    lanes: L,
    view: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
    field_values: &mut FieldValues<'_, L, true>,
) -> Result<Option<usize>, RequestError> {
    let Some(start) = skip_empty_lines(view)? else { return Ok(None) };
    // Fields are classified before the request line is read, so that the processor can work on both in parallel.
    let mut cursor = FieldCursor::new(lanes, view);
    cursor.begin(start);
    let at = match request_line(lanes, view, start, head) {
        Ok(Some(at)) if at.wrapping_sub(start).wrapping_sub(2) <= limits.request_line => at,
        _ => match odd_request_line(view, limits, start, head)? {
            Some(at) => at,
            None => return Ok(None),
        },
    };
    Ok(parse_fields(&mut cursor, view, at, limits.field_count, &mut head.fields, field_values)?)
}

/// Reads a request line again that is incomplete, refused or too long, and now at most as many bytes as are allowed.
#[cold]
fn odd_request_line(
    view: &[u8],
    limits: &HeadLimits,
    start: usize,
    head: &mut RequestHead,
) -> Result<Option<usize>, RequestError> {
    let max = start.saturating_add(limits.request_line).saturating_add(2);
    let line = view.get(..max).unwrap_or(view);
    match request_line(Portable, line, start, head)? {
        None if view.len() >= max => Err(RequestError::RequestLineTooLong),
        found => Ok(found),
    }
}

/// The offset of the request line behind empty lines (RFC 9112 section 2.2).
#[inline(always)]
fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut at = 0;
    if buf.first().is_some_and(|first| *first > b'\r') {
        return Ok(Some(0));
    }
    loop {
        match buf.get(at..) {
            Some([b'\r', b'\n', ..]) if at < 2 * LEADING_EMPTY_LINES => at = at.wrapping_add(2),
            Some([b'\r'] | []) | None => return Ok(None),
            Some([b'\r' | b'\n', ..]) => return Err(FieldError::BadLineEnd.into()),
            Some(_) => return Ok(Some(at)),
        }
    }
}

/// Reads `method SP target SP version CRLF` (RFC 9112 section 3); returns the offset behind it.
#[inline(always)]
fn request_line<L: Lanes>(
    lanes: L,
    line: &[u8],
    start: usize,
    head: &mut RequestHead,
) -> Result<Option<usize>, RequestError> {
    let (method, method_end) = match line.get(start..).and_then(<[u8]>::first_chunk) {
        Some(word) if *word == *b"GET " => (Method::Get, start.wrapping_add(3)),
        Some(word) if *word == *b"PUT " => (Method::Put, start.wrapping_add(3)),
        _ => match method(line, start)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    head.method = method;
    head.method_text = Span::between(start, method_end);
    let target_start = method_end.wrapping_add(1);
    let (target_end, query) = scan::target_end(lanes, line, target_start);
    match line.get(target_end) {
        None => return Ok(None),
        Some(b' ') if target_end > target_start => {}
        Some(b'\r' | b'\n') => return Err(RequestError::BadVersion),
        Some(_) => return Err(RequestError::BadTarget),
    }
    split_target(line, (target_start, target_end), query, head)?;
    let at = target_end.wrapping_add(1);
    if line.get(at..).and_then(<[u8]>::first_chunk).is_some_and(|version| *version == *b"HTTP/1.1\r\n") {
        head.version = Version::Http11;
        return Ok(Some(at.wrapping_add(10)));
    }
    let Some((version, end)) = version(line, at)? else { return Ok(None) };
    head.version = version;
    Ok(Some(end))
}

/// Reads a method. Returns it with the offset of the space behind it. The caller handles GET and PUT.
fn method(line: &[u8], start: usize) -> Result<Option<(Method, usize)>, RequestError> {
    let rest = line.get(start..).unwrap_or_default();
    if let Some(b"POST ") = rest.first_chunk() {
        return Ok(Some((Method::Post, start + 4)));
    }
    let len = rest.iter().position(|byte| !scan::is_tchar(*byte)).unwrap_or(rest.len());
    if len > METHOD_BYTES {
        return Err(RequestError::MethodTooLong);
    }
    match rest.get(len) {
        None => Ok(None),
        Some(b' ') if len > 0 => Ok(Some((Method::lookup(rest.get(..len).unwrap_or_default()), start + len))),
        Some(_) => Err(RequestError::BadMethod),
    }
}

/// Reads `HTTP/d.d CRLF`. Returns the version with the offset behind it. `HTTP/2` and above may lack the minor version.
fn version(line: &[u8], at: usize) -> Result<Option<(Version, usize)>, RequestError> {
    let rest = line.get(at..).unwrap_or_default();
    let common = rest.iter().zip(b"HTTP/").take_while(|(got, want)| got == want).count();
    if common < 5 {
        return if common == rest.len() { Ok(None) } else { Err(RequestError::BadVersion) };
    }
    let rest = rest.get(5..).unwrap_or_default();
    let (version, len) = match rest {
        [b'1', b'.', b'0', ..] => (Some(Version::Http10), 3),
        [b'1', b'.', b'1'..=b'9', ..] => (Some(Version::Http11), 3),
        [b'0'..=b'9', b'.', b'0'..=b'9', ..] => (None, 3),
        [b'2'..=b'9', b'\r', ..] => (None, 1),
        [] | [b'0'..=b'9'] | [b'0'..=b'9', b'.'] => return Ok(None),
        _ => return Err(RequestError::BadVersion),
    };
    match rest.get(len..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([] | [b'\r']) | None => return Ok(None),
        Some(_) => return Err(RequestError::BadVersion),
    }
    match version {
        Some(version) => Ok(Some((version, at + 5 + len + 2))),
        None => Err(RequestError::UnsupportedVersion),
    }
}

/// Determines the form of the target and its parts (RFC 9112 section 3.2).
#[inline(always)]
fn split_target(
    line: &[u8],
    (start, end): (usize, usize),
    query: Option<usize>,
    head: &mut RequestHead,
) -> Result<(), RequestError> {
    head.raw_target = Span::between(start, end);
    head.query = query.map(|mark| Span::between(mark.wrapping_add(1), end));
    head.path = Span::between(start, query.unwrap_or(end));
    head.scheme = Span::default();
    head.authority = Span::default();
    if let (Some(b'/'), false) = (line.get(start), head.method == Method::Connect) {
        head.target = Target::Origin;
        return Ok(());
    }
    other_target(line.get(start..end).unwrap_or_default(), start, head)
}

/// Splits a target that is not in origin-form.
fn other_target(target: &[u8], start: usize, head: &mut RequestHead) -> Result<(), RequestError> {
    let end = start + target.len();
    match (head.method, target) {
        (Method::Connect, authority) if target::is_connect_authority(authority) => {
            head.target = Target::Authority;
            head.authority = Span::between(start, end);
            head.path = Span::default();
        }
        (Method::Connect, _) => return Err(RequestError::BadTarget),
        (Method::Options, b"*") => head.target = Target::Asterisk,
        _ => {
            let parts = target::absolute(target).ok_or(RequestError::BadTarget)?;
            head.target = Target::Absolute;
            head.scheme = Span::between(start, start + parts.scheme);
            head.authority = Span::between(start + parts.scheme + 3, start + parts.authority);
            head.path = Span::between(start + parts.authority, head.path.end());
        }
    }
    Ok(())
}

/// Fields, besides Host, that affect framing or the connection.
const SEMANTIC_FIELDS: u64 = FieldName::TransferEncoding.bit()
    | FieldName::ContentLength.bit()
    | FieldName::Connection.bit()
    | FieldName::Expect.bit();

/// Sets the members of `head` that follow from the fields: authority, body, persistence, upgrade.
#[inline(always)]
fn finish<L: Lanes>(
    buf: &[u8],
    head: &mut RequestHead,
    field_values: &FieldValues<'_, L, true>,
) -> Result<(), RequestError> {
    authority(head, field_values)?;
    if head.fields.any(FieldName::Proxy.bit() | UNDERSCORE) {
        drop_aliases(buf, &mut head.fields);
    }
    head.keep_alive = head.version == Version::Http11;
    head.body = BodyFraming::None;
    head.expect_continue = false;
    head.upgrade = None;
    head.is_extended_connect = false;
    if head.fields.any(SEMANTIC_FIELDS) { apply(buf, head, field_values) } else { Ok(()) }
}

/// Determines the authority: the target's, else that of Host (RFC 9112 section 3.2).
#[inline(always)]
fn authority<L: Lanes>(head: &mut RequestHead, field_values: &FieldValues<'_, L, true>) -> Result<(), RequestError> {
    if !head.fields.any(FieldName::Host.bit()) || head.fields.repeats(FieldName::Host) {
        return no_host(head);
    }
    if !field_values.is_authority {
        // HTTP/1.0 does not require Host, so it may be empty.
        let none = head.version == Version::Http10 && field_values.host.is_empty();
        return if none { Ok(()) } else { Err(RequestError::BadHost) };
    }
    if head.authority.is_empty() {
        head.authority = field_values.host;
    }
    Ok(())
}

/// The result for a head that does not have exactly one Host. HTTP/1.0 does not require it.
#[cold]
fn no_host(head: &RequestHead) -> Result<(), RequestError> {
    match head.version {
        _ if head.fields.repeats(FieldName::Host) => Err(RequestError::DuplicateHost),
        Version::Http10 => Ok(()),
        Version::Http11 | Version::Http2 => Err(RequestError::MissingHost),
    }
}

/// Drops `Proxy`, and names that differ from known ones only by `_` for `-`: an application that treats both alike must not take
/// them for the fields that were checked here.
#[cold]
fn drop_aliases(buf: &[u8], fields: &mut Fields) {
    for field in fields.as_mut_slice() {
        field.dropped = match field.id {
            FieldName::Other => is_alias(field.name.of(buf)),
            FieldName::Proxy => true,
            _ => false,
        };
    }
}

/// Sets the members of `head` that follow from the fields in `SEMANTIC_FIELDS`.
#[inline(always)]
fn apply<L: Lanes>(
    buf: &[u8],
    head: &mut RequestHead,
    field_values: &FieldValues<'_, L, true>,
) -> Result<(), RequestError> {
    let options = connection::options(buf, &mut head.fields, field_values.options);
    if options.has(Options::NAMES_REQUIRED.or(Options::TOO_MANY)) {
        return Err(RequestError::BadConnection);
    }
    head.body = body(buf, head, field_values)?;
    head.keep_alive = match head.version {
        Version::Http11 | Version::Http2 => !options.has(Options::CLOSE),
        Version::Http10 => options.has(Options::KEEP_ALIVE) && !options.has(Options::CLOSE),
    };
    let expects = head.fields.any(FieldName::Expect.bit());
    if expects && !is_only_continue(buf, &head.fields, field_values.is_continue) {
        return Err(RequestError::UnknownExpectation);
    }
    // Expect is ignored in HTTP/1.0, and in requests without a body (RFC 9110 section 10.1.1).
    let has_body = !matches!(head.body, BodyFraming::None | BodyFraming::Length(0));
    if head.version == Version::Http11 {
        head.expect_continue = expects && has_body;
        head.upgrade = connection::upgrade(buf, &head.fields, options);
    }
    Ok(())
}

/// Whether all expectations are `100-continue` (RFC 9110 section 10.1.1). `is_continue`: whether the last one is.
#[inline(always)]
fn is_only_continue(buf: &[u8], fields: &Fields, is_continue: bool) -> bool {
    let all = || fields.all(FieldName::Expect).all(|field| is(field.value.of(buf), b"100-continue"));
    is_continue && (!fields.repeats(FieldName::Expect) || all())
}

/// How the body ends (RFC 9112 section 6.3).
#[inline(always)]
fn body<L: Lanes>(
    buf: &[u8],
    head: &RequestHead,
    field_values: &FieldValues<'_, L, true>,
) -> Result<BodyFraming, RequestError> {
    let fields = &head.fields;
    let has_length = fields.any(FieldName::ContentLength.bit());
    if head.method == Method::Connect && fields.any(FieldName::ContentLength.bit() | FieldName::TransferEncoding.bit())
    {
        return Err(RequestError::BodyOfConnect);
    }
    if !fields.any(FieldName::TransferEncoding.bit()) {
        return match field_values.length {
            _ if !has_length => Ok(BodyFraming::None),
            // Repeated fields are refused even if they are equal.
            Some(length) if !fields.repeats(FieldName::ContentLength) => Ok(BodyFraming::Length(length)),
            _ => Err(RequestError::BadContentLength),
        };
    }
    if has_length {
        return Err(RequestError::ConflictingFraming);
    }
    if head.version == Version::Http10 {
        return Err(RequestError::TransferEncodingInHttp10);
    }
    match framing::transfer_coding(buf, fields, field_values.is_chunked) {
        Coding::Chunked => Ok(BodyFraming::Chunked),
        Coding::Unknown => Err(RequestError::UnknownTransferCoding),
        Coding::Malformed => Err(RequestError::BadTransferEncoding),
    }
}
