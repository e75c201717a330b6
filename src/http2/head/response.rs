//! Responses and trailers. Not here: field lines (`lines`).

use core::ops::Range;

use crate::http::{
    BodyFraming, FieldError, Fields, HeadLimits, Method, ResponseError, ResponseHead, parse_response, parse_trailers,
};
use crate::http2::head::lines::{Lines, put};
use crate::http2::head::{HeadError, NeverIndexed};
use crate::http2::hpack::{DecodedField, FieldSink, Next, SectionSummary};

/// The status line without its status.
const STATUS_LINE: &[u8; 15] = b"HTTP/1.1 ... \r\n";
/// Where the status stands in it.
const STATUS: Range<usize> = 9..12;

/// What is known of a received response, or of trailers, besides what the parser has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedResponse {
    /// Where the text starts in the buffer. Spans are into the text.
    pub start: usize,
    /// Behind the text.
    pub end: usize,
    /// Names of fields that came never indexed.
    pub never_indexed: NeverIndexed,
}

impl ReceivedResponse {
    /// The range of the text.
    #[must_use]
    pub fn text(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Takes the fields of a response as they are decoded. The status line is written over `:status`, where that was decoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseSink {
    has_status: bool,
    has_fields: bool,
    lines: Lines,
    error: Option<HeadError>,
}

impl ResponseSink {
    /// A sink for one response.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the section and fills `head`. `request`: the method of the request.
    ///
    /// # Errors
    /// The response is malformed or too large. Nothing in `head` is of use then.
    pub fn finish(
        self,
        out: &mut [u8],
        summary: &SectionSummary,
        end_stream: bool,
        limits: &HeadLimits,
        request: Method,
        head: &mut ResponseHead,
    ) -> Result<ReceivedResponse, HeadError> {
        let received = finish(self.error, &self.lines, out, summary)?;
        if !self.has_status {
            return Err(HeadError::MissingPseudo);
        }
        let text = out.get(received.text()).unwrap_or_default();
        if parse_response(text, limits, &mut 0, request, head)? != Some(text.len()) {
            return Err(ResponseError::BadStatusLine.into());
        }
        match head.status {
            101 => return Err(HeadError::SwitchingProtocols),
            100..200 if end_stream => return Err(HeadError::InterimEnd),
            _ => {}
        }
        head.keep_alive = true;
        head.body = match head.body {
            BodyFraming::Length(1..) if end_stream => return Err(HeadError::MissingContent),
            BodyFraming::Close if end_stream => BodyFraming::None,
            // Of unknown length.
            BodyFraming::Close => BodyFraming::Chunked,
            body => body,
        };
        Ok(received)
    }

    fn add(&mut self, out: &mut [u8], field: DecodedField) -> Result<usize, HeadError> {
        let name = field.name(out);
        if name.first() != Some(&b':') {
            self.has_fields = true;
            return self.lines.add(out, field);
        }
        if name != b":status" {
            return Err(HeadError::UnknownPseudo);
        }
        if self.has_fields {
            return Err(HeadError::MisplacedPseudo);
        }
        if self.has_status {
            return Err(HeadError::DuplicatePseudo);
        }
        self.has_status = true;
        let status: [u8; 3] = field.value(out).try_into().map_err(|_| ResponseError::BadStatus)?;
        if !status.iter().all(u8::is_ascii_digit) {
            return Err(ResponseError::BadStatus.into());
        }
        put(out, field.start, STATUS_LINE)?;
        put(out, field.start + STATUS.start, &status)?;
        Ok(field.start + STATUS_LINE.len())
    }
}

impl FieldSink for ResponseSink {
    #[inline]
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        next(self.add(out, field), &mut self.error)
    }
}

/// Takes trailers as they are decoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrailerSink {
    lines: Lines,
    error: Option<HeadError>,
}

impl TrailerSink {
    /// A sink for one trailer section.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the section and fills `fields`. Which of them may go on, `http::is_forwardable_trailer` says.
    ///
    /// # Errors
    /// The message is malformed, or the section too large.
    pub fn finish(
        self,
        out: &mut [u8],
        summary: &SectionSummary,
        limits: &HeadLimits,
        fields: &mut Fields,
    ) -> Result<ReceivedResponse, HeadError> {
        let received = finish(self.error, &self.lines, out, summary)?;
        let text = out.get(received.text()).unwrap_or_default();
        if parse_trailers(text, limits, &mut 0, fields)? != Some(text.len()) {
            return Err(FieldError::BadLineEnd.into());
        }
        Ok(received)
    }

    fn add(&mut self, out: &mut [u8], field: DecodedField) -> Result<usize, HeadError> {
        if field.name(out).first() == Some(&b':') {
            return Err(HeadError::MisplacedPseudo);
        }
        self.lines.add(out, field)
    }
}

impl FieldSink for TrailerSink {
    #[inline]
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        next(self.add(out, field), &mut self.error)
    }
}

#[inline]
fn next(added: Result<usize, HeadError>, error: &mut Option<HeadError>) -> Next {
    match added {
        Ok(next) => Next::At(next),
        Err(refused) => {
            *error = Some(refused);
            Next::Refuse
        }
    }
}

/// Ends the text of a section that stands at the beginning of `out`.
fn finish(
    error: Option<HeadError>,
    lines: &Lines,
    out: &mut [u8],
    summary: &SectionSummary,
) -> Result<ReceivedResponse, HeadError> {
    if let Some(error) = error {
        return Err(error);
    }
    if summary.is_too_large {
        return Err(FieldError::TooLarge.into());
    }
    let end = lines.finish(out, 0, summary.end)?;
    Ok(ReceivedResponse { start: 0, end, never_indexed: lines.never_indexed })
}
