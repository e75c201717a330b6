//! Requests: pseudo-header fields to a request line, and what END_STREAM says of the body. Not here: field lines (`lines`).

use core::ops::Range;

use crate::buffer::scan::is_tchar;
use crate::http::{
    BodyFraming, FieldError, FieldName, HeadLimits, Method, RequestError, RequestHead, Version, parse_request,
};
use crate::http2::head::lines::{Lines, put};
use crate::http2::head::{HeadError, NeverIndexed};
use crate::http2::hpack::{DecodedField, FieldSink, GAP, Next, SectionSummary};

/// The scheme of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// What is known of a received request besides its [`RequestHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// Where the text starts in the buffer. Spans of the head are into the text.
    pub start: usize,
    /// Behind the text.
    pub end: usize,
    /// The scheme; none for CONNECT.
    pub scheme: Option<Scheme>,
    /// Whether it is an extended CONNECT, which became an upgrade.
    pub is_tunnel: bool,
    /// Whether the client takes trailers, as gRPC asks for.
    pub takes_trailers: bool,
    /// Names of fields that came never indexed.
    pub never_indexed: NeverIndexed,
}

impl ReceivedRequest {
    /// The range of the text.
    #[must_use]
    pub fn text(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// The pseudo-header fields of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
}

impl Pseudo {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b":method" => Some(Self::Method),
            b":scheme" => Some(Self::Scheme),
            b":authority" => Some(Self::Authority),
            b":path" => Some(Self::Path),
            b":protocol" => Some(Self::Protocol),
            _ => None,
        }
    }
}

/// Takes the fields of a request as they are decoded.
///
/// Pseudo-header fields come first, in any order. They stay where they were decoded, until the first other field, or the end, shows
/// that they are complete; then the text begins behind them.
#[derive(Clone, Copy, Debug)]
pub struct RequestSink {
    /// Whether extended CONNECT was announced to the peer.
    allows_tunnels: bool,
    /// Where values of pseudo-header fields stand: start and length.
    pseudo: [Option<(usize, usize)>; 5],
    /// Where the text starts, once the request line is written.
    text: Option<usize>,
    lines: Lines,
    error: Option<HeadError>,
}

impl RequestSink {
    /// A sink for one request. `allows_tunnels`: the peer was told of SETTINGS_ENABLE_CONNECT_PROTOCOL.
    #[must_use]
    pub fn new(allows_tunnels: bool) -> Self {
        Self { allows_tunnels, pseudo: [None; 5], text: None, lines: Lines::default(), error: None }
    }

    /// Ends the section and fills `head`. `limits` hold for the text, as for a head of HTTP/1.1.
    ///
    /// # Errors
    /// The request is malformed or too large. Nothing in `head` is of use then.
    pub fn finish(
        self,
        out: &mut [u8],
        summary: &SectionSummary,
        end_stream: bool,
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<ReceivedRequest, HeadError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if summary.is_too_large {
            return Err(FieldError::TooLarge.into());
        }
        let (start, end) = match self.text {
            Some(start) => (start, summary.end),
            None => (summary.end, self.write_start(out, summary.end)?),
        };
        let end = self.lines.finish(out, start, end)?;
        let text = out.get(start..end).unwrap_or_default();
        // The text is complete, and nothing in it can end it early, so that the parser takes all of it or refuses it.
        if parse_request(text, limits, &mut 0, head)? != Some(text.len()) {
            return Err(RequestError::BadTarget.into());
        }
        let is_tunnel = self.value(Pseudo::Protocol).is_some();
        set_body(head, end_stream, is_tunnel)?;
        head.is_extended_connect = is_tunnel;
        head.version = Version::Http2;
        let scheme = self.value(Pseudo::Scheme).map(|range| scheme(out.get(range).unwrap_or_default()));
        Ok(ReceivedRequest {
            start,
            end,
            scheme: scheme.flatten(),
            is_tunnel,
            takes_trailers: self.lines.takes_trailers,
            never_indexed: self.lines.never_indexed,
        })
    }

    fn value(&self, pseudo: Pseudo) -> Option<Range<usize>> {
        self.pseudo[pseudo as usize].map(|(start, len)| start..start + len)
    }

    fn add(&mut self, out: &mut [u8], field: DecodedField) -> Result<usize, HeadError> {
        let name = field.name(out);
        if name.first() == Some(&b':') {
            return self.add_pseudo(name, field);
        }
        let field = match self.text {
            Some(_) => field,
            None => self.begin_text(out, field)?,
        };
        if field.name(out) == b"host" && self.is_same_host(out, field)? {
            return Ok(field.start);
        }
        self.lines.add(out, field)
    }

    fn add_pseudo(&mut self, name: &[u8], field: DecodedField) -> Result<usize, HeadError> {
        let pseudo = Pseudo::of(name).ok_or(HeadError::UnknownPseudo)?;
        if self.text.is_some() {
            return Err(HeadError::MisplacedPseudo);
        }
        let slot = &mut self.pseudo[pseudo as usize];
        if slot.is_some() {
            return Err(HeadError::DuplicatePseudo);
        }
        *slot = Some((field.value_start(), field.value_len));
        Ok(field.value_end() + GAP)
    }

    /// Whether a `host` repeats `:authority`, so that its line is not needed.
    fn is_same_host(&self, out: &[u8], field: DecodedField) -> Result<bool, HeadError> {
        let Some(authority) = self.value(Pseudo::Authority) else { return Ok(false) };
        let is_same = out.get(authority).unwrap_or_default().eq_ignore_ascii_case(field.value(out));
        if is_same { Ok(true) } else { Err(HeadError::HostMismatch) }
    }

    /// Begins the text in front of the first field, which moves.
    fn begin_text(&mut self, out: &mut [u8], mut field: DecodedField) -> Result<DecodedField, HeadError> {
        let len = self.start_len();
        let from = field.start..field.value_end();
        let start = field.start + len;
        if out.len() < from.end + len {
            return Err(FieldError::TooLarge.into());
        }
        out.copy_within(from, start);
        self.text = Some(field.start);
        let written = self.write_start(out, field.start)?;
        debug_assert_eq!(written, start, "the text fills the room made for it");
        field.start = start;
        Ok(field)
    }

    /// Bytes that [`RequestSink::write_start`] writes, unless it fails.
    fn start_len(&self) -> usize {
        let len = |pseudo| self.value(pseudo).map_or(0, |range| range.len());
        let host = self.value(Pseudo::Authority).map_or(0, |authority| b"host: \r\n".len() + authority.len());
        let line = b"  HTTP/1.1\r\n".len();
        match (self.value(Pseudo::Protocol), self.value(Pseudo::Path)) {
            (Some(protocol), _) => {
                let upgrade = b"connection: upgrade\r\nupgrade: \r\n".len() + protocol.len();
                b"GET".len() + len(Pseudo::Path) + line + host + upgrade
            }
            (None, Some(path)) => len(Pseudo::Method) + path.len() + line + host,
            (None, None) => len(Pseudo::Method) + len(Pseudo::Authority) + line + host,
        }
    }

    /// Checks the pseudo-header fields and writes the request line at `at`, with `host` and, for a tunnel, the upgrade. Returns the
    /// offset behind.
    fn write_start(&self, out: &mut [u8], at: usize) -> Result<usize, HeadError> {
        let method = self.value(Pseudo::Method).ok_or(HeadError::MissingPseudo)?;
        let method_text = out.get(method.clone()).unwrap_or_default();
        // PRI is the preface's (RFC 9113 section 11.6).
        if !is_token(method_text) || method_text == b"PRI" {
            return Err(RequestError::BadMethod.into());
        }
        let authority = self.value(Pseudo::Authority);
        let protocol = self.value(Pseudo::Protocol);
        let target = if method_text == b"CONNECT" && protocol.is_none() {
            // RFC 9113 section 8.5.
            if self.value(Pseudo::Scheme).is_some() || self.value(Pseudo::Path).is_some() {
                return Err(HeadError::MisplacedPseudo);
            }
            authority.clone().ok_or(HeadError::MissingPseudo)?
        } else {
            self.check_target(out)?
        };
        if let Some(authority) = &authority
            && !is_visible(out.get(authority.clone()).unwrap_or_default())
        {
            return Err(RequestError::BadHost.into());
        }
        if let Some(protocol) = protocol.clone() {
            let protocol = out.get(protocol).unwrap_or_default();
            if !self.allows_tunnels || !is_token(protocol) || method_text != b"CONNECT" || authority.is_none() {
                return Err(HeadError::BadProtocol);
            }
        }
        let mut text = Text { out, at };
        match protocol {
            None => text.copy(method)?,
            Some(_) => text.put(b"GET")?,
        }
        text.put(b" ")?;
        text.copy(target)?;
        text.put(b" HTTP/1.1\r\n")?;
        if let Some(authority) = authority {
            text.line(b"host: ", authority)?;
        }
        if let Some(protocol) = protocol {
            text.put(b"connection: upgrade\r\n")?;
            text.line(b"upgrade: ", protocol)?;
        }
        Ok(text.at)
    }

    /// Checks `:scheme` and `:path` (RFC 9113 section 8.3.1). Returns the path.
    fn check_target(&self, out: &[u8]) -> Result<Range<usize>, HeadError> {
        let text = |range: &Range<usize>| out.get(range.clone()).unwrap_or_default();
        let scheme_range = self.value(Pseudo::Scheme).ok_or(HeadError::MissingPseudo)?;
        let path = self.value(Pseudo::Path).ok_or(HeadError::MissingPseudo)?;
        scheme(text(&scheme_range)).ok_or(HeadError::BadScheme)?;
        let is_asterisk = || {
            let method = self.value(Pseudo::Method).map_or(&b""[..], |method| text(&method));
            text(&path) == b"*" && method == b"OPTIONS"
        };
        if !is_visible(text(&path)) || (text(&path).first() != Some(&b'/') && !is_asterisk()) {
            return Err(HeadError::BadPath);
        }
        Ok(path)
    }
}

impl FieldSink for RequestSink {
    #[inline]
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        match self.add(out, field) {
            Ok(next) => Next::At(next),
            Err(error) => {
                self.error = Some(error);
                Next::Refuse
            }
        }
    }
}

/// Text that is written from parts of the same buffer, which stand before it.
struct Text<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Text<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        put(self.out, self.at, bytes)?;
        self.at += bytes.len();
        Ok(())
    }

    fn copy(&mut self, part: Range<usize>) -> Result<(), HeadError> {
        let len = part.len();
        if self.out.len() < self.at + len || self.out.len() < part.end {
            return Err(FieldError::TooLarge.into());
        }
        self.out.copy_within(part, self.at);
        self.at += len;
        Ok(())
    }

    fn line(&mut self, name: &[u8], value: Range<usize>) -> Result<(), HeadError> {
        self.put(name)?;
        self.copy(value)?;
        self.put(b"\r\n")
    }
}

/// What END_STREAM says of the body, which HTTP/1.1 would say in fields.
fn set_body(head: &mut RequestHead, end_stream: bool, is_tunnel: bool) -> Result<(), HeadError> {
    let is_tunnel = is_tunnel || head.method == Method::Connect;
    head.body = match head.body {
        BodyFraming::Length(_) if is_tunnel => return Err(RequestError::BodyOfConnect.into()),
        BodyFraming::Length(1..) if end_stream => return Err(HeadError::MissingContent),
        BodyFraming::None if !end_stream && !is_tunnel => BodyFraming::Chunked,
        body => body,
    };
    // The parser has refused other expectations than `100-continue`.
    let has_body = !matches!(head.body, BodyFraming::None | BodyFraming::Length(0));
    head.expect_continue = has_body && head.fields.has(FieldName::Expect);
    Ok(())
}

/// The scheme, in any case; none if it is not one of those that can be proxied.
fn scheme(text: &[u8]) -> Option<Scheme> {
    match text {
        text if text.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
        text if text.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
        _ => None,
    }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_tchar(*byte))
}

/// Whether no byte is a space or a control character. What else is allowed in a target or an authority, the parser knows.
fn is_visible(text: &[u8]) -> bool {
    !text.iter().fold(false, |bad, byte| bad | (*byte <= b' ') | (*byte == 0x7f))
}
