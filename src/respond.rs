//! Answers made here, written from prebuilt parts. Not here: deciding to make one.

use crate::calendar::{moment, month_name};
use crate::http::{Field, Fields, Method, Version, write_decimal};

/// An answer that cairn makes itself: a status, the reason code that logs and bodies carry, and the error type of RFC 9209
/// section 2.3 where one fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code (RFC 9110 section 15).
    pub status: u16,
    /// Snake-case reason code.
    pub reason: &'static str,
    /// `error` parameter of Proxy-Status.
    pub error: &'static str,
}

/// How an answer is to be put.
#[derive(Clone, Copy, Debug)]
pub struct ResponseStyle {
    /// What its body is written in.
    pub format: Format,
    /// Of the request: the answer to HEAD has no body.
    pub method: Method,
    /// The connection stays open.
    pub keep_alive: bool,
    /// What the client speaks: with HTTP/1.0 it has to be told that the connection stays open.
    pub version: Version,
    /// Seconds since 1970, for Date.
    pub now: u64,
}

/// What the body of an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line of text.
    Text,
    /// An object, for a client that prefers JSON.
    Json,
    /// A page, for a client that prefers HTML; without one, a line of text.
    Html,
    /// None: the client speaks gRPC, whose status and message are fields, behind status 200 (gRPC over HTTP/2, "Responses").
    Grpc,
}

/// Status codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcStatus {
    /// Something of the request is not as it should be.
    Internal = 13,
    /// The time for the answer is over.
    DeadlineExceeded = 4,
    /// The client may not do that.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// Nobody serves the method.
    Unimplemented = 12,
    /// It may work the next time.
    Unavailable = 14,
    /// Nobody knows who the client is.
    Unauthenticated = 16,
}

impl GrpcStatus {
    /// What an answer says in gRPC.
    #[must_use]
    pub fn of(status: u16, reason: &str) -> Self {
        match (status, reason) {
            (401, _) => Self::Unauthenticated,
            (403, _) => Self::PermissionDenied,
            (404 | 405 | 501, _) => Self::Unimplemented,
            (413 | 429 | 431, _) | (_, "queue_full" | "queue_timeout") => Self::ResourceExhausted,
            (_, "response_timeout") => Self::DeadlineExceeded,
            (500..=599, _) => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}

/// The status that an answer is sent with.
#[must_use]
pub fn sent_status(status: u16, format: Format) -> u16 {
    if format == Format::Grpc { 200 } else { status }
}

/// Writes the status line of an answer to a client that speaks gRPC, and the fields in which it looks for what has happened.
pub fn write_grpc_status(status: u16, reason: &str, out: &mut Vec<u8>) {
    let code = GrpcStatus::of(status, reason) as u64;
    write_status_line(200, out);
    write_parts(out, &[b"content-type: application/grpc\r\ngrpc-status: ", write_decimal(code, &mut [0; 20])]);
    write_parts(out, &[b"\r\ngrpc-message: ", reason.as_bytes(), b"\r\n"]);
}

impl Format {
    /// The format that a client prefers, by its Accept (RFC 9110 section 12.5.1): of JSON, HTML and plain text the one with the highest
    /// weight, and of those the first.
    #[must_use]
    pub fn of(accept: &[u8]) -> Self {
        let named = accept.windows(4).any(|word| word == b"json" || word == b"html");
        if !named {
            return Self::Text;
        }
        let mut best = (Self::Text, 0);
        for element in accept.split(|byte| *byte == b',') {
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let media_type = parts.next().unwrap_or_default();
            let format = match media_type {
                it if it.ends_with(b"json") => Self::Json,
                it if it.ends_with(b"html") || it.ends_with(b"xhtml+xml") => Self::Html,
                b"text/plain" => Self::Text,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix(b"q=")).map_or(1000, weight);
            if weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }
}

/// A weight in thousandths (RFC 9110 section 12.4.2): `0.5` is 500.
fn weight(text: &[u8]) -> u32 {
    let digit = |at: usize| text.get(at).filter(|byte| byte.is_ascii_digit()).map_or(0, |byte| u32::from(byte - b'0'));
    digit(0) * 1000 + digit(2) * 100 + digit(3) * 10 + digit(4)
}

/// The body of an answer that the operator has written.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The value of Content-Type.
    pub media_type: &'static str,
    /// The body.
    pub body: &'a [u8],
}

/// What the route of a request changes in the fields of an answer.
pub trait Edits {
    /// Fields of that name are dropped: for good, or for one that is appended.
    fn removes(&self, name: &[u8]) -> bool;
    /// A field of that name, of which an answer has one, is dropped or appended.
    fn replaces(&self, name: &[u8]) -> bool;
    /// Field lines, each with its CRLF.
    fn appended(&self) -> &[u8];
}

/// Nothing is changed.
impl Edits for () {
    fn removes(&self, _: &[u8]) -> bool {
        false
    }

    fn replaces(&self, _: &[u8]) -> bool {
        false
    }

    fn appended(&self) -> &[u8] {
        b""
    }
}

/// Fields of an answer that depend on the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerFields<'a> {
    /// The value of Allow, for 405: methods, as a list (RFC 9110 section 15.5.6); of Location, for 308.
    pub value: &'a [u8],
    /// The line of Strict-Transport-Security; empty: none.
    pub hsts: &'a [u8],
}

/// The name of the field whose line `AnswerFields::hsts` is.
pub const HSTS: &[u8] = b"strict-transport-security";

impl Answer {
    /// Writes head and body. `page`: the body, if it is not cairn's own.
    pub fn write(
        &self,
        style: &ResponseStyle,
        edits: &impl Edits,
        fields: AnswerFields<'_>,
        page: Option<Page<'_>>,
        out: &mut Vec<u8>,
    ) {
        let json = style.format == Format::Json;
        let write_body = |out: &mut Vec<u8>| match page {
            Some(page) => out.extend_from_slice(page.body),
            None => write_body(self, json, out),
        };
        let is_grpc = style.format == Format::Grpc;
        let start = out.len();
        if !is_grpc {
            write_body(out);
        }
        let body = out.len() - start;
        out.truncate(start);
        if is_grpc {
            write_grpc_status(self.status, self.reason, out);
        } else {
            write_status_line(self.status, out);
        }
        if !is_grpc && !edits.replaces(b"content-type") {
            let own = if json { "application/json" } else { "text/plain" };
            let media_type = page.map_or(own, |page| page.media_type);
            write_parts(out, &[b"content-type: ", media_type.as_bytes(), b"\r\n"]);
        }
        if !edits.removes(b"proxy-status") {
            let (error, reason) = (self.error.as_bytes(), self.reason.as_bytes());
            write_parts(out, &[b"proxy-status: cairn; error=", error, b"; details=\"", reason, b"\"\r\n"]);
        }
        match self.status {
            405 if !edits.removes(b"allow") => write_parts(out, &[b"allow: ", fields.value, b"\r\n"]),
            308 if !edits.removes(b"location") => write_parts(out, &[b"location: ", fields.value, b"\r\n"]),
            429 | 503 if !edits.removes(b"retry-after") => write_parts(out, &[b"retry-after: 1\r\n"]),
            _ => {}
        }
        if !fields.hsts.is_empty() && !edits.removes(HSTS) {
            out.extend_from_slice(fields.hsts);
        }
        out.extend_from_slice(edits.appended());
        write_framing(Some(body), !edits.replaces(b"date"), style, out);
        if style.method != Method::Head && !is_grpc {
            write_body(out);
        }
    }
}

/// Writes what follows the fields of a configured answer: date if asked for, framing and body. A status without content (RFC
/// 9110 sections 15.3.5 and 15.4.5) gets none.
pub fn write_rest(status: u16, body: &[u8], dated: bool, style: &ResponseStyle, out: &mut Vec<u8>) {
    write_framing((!matches!(status, 204 | 304)).then_some(body.len()), dated, style, out);
    if style.method != Method::Head {
        out.extend_from_slice(body);
    }
}

/// Writes `HTTP/1.1 404 Not Found` and the line's end.
pub fn write_status_line(status: u16, out: &mut Vec<u8>) {
    write_parts(out, &[b"HTTP/1.1 "]);
    write_parts(out, &[write_decimal(u64::from(status), &mut [0; 20]), b" ", phrase(status).as_bytes(), b"\r\n"]);
}

fn write_framing(length: Option<usize>, dated: bool, style: &ResponseStyle, out: &mut Vec<u8>) {
    if dated {
        write_parts(out, &[b"date: "]);
        write_date(style.now, out);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(length) = length {
        write_parts(out, &[b"content-length: ", write_decimal(length as u64, &mut [0; 20]), b"\r\n"]);
    }
    let connection: &[u8] = match (style.keep_alive, style.version == Version::Http10) {
        (false, _) => b"connection: close\r\n",
        (true, true) => b"connection: keep-alive\r\n",
        (true, false) => b"",
    };
    write_parts(out, &[connection, b"\r\n"]);
}

fn write_body(answer: &Answer, json: bool, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let status = write_decimal(u64::from(answer.status), &mut digits);
    let (phrase, reason) = (phrase(answer.status).as_bytes(), answer.reason.as_bytes());
    if json {
        write_parts(out, &[b"{\"status\":", status, b",\"title\":\"", phrase, b"\",\"reason\":\"", reason, b"\"}\n"]);
    } else {
        write_parts(out, &[status, b" ", phrase, b": ", reason, b"\n"]);
    }
}

/// Appends the parts of a head.
// Inlined, parts of a known length are stored in a few moves instead of copied by a call.
#[inline(always)]
pub(crate) fn write_parts<const N: usize>(out: &mut Vec<u8>, parts: &[&[u8]; N]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends the kept field lines of a received head, each as `name: value`. Neighbours that came so are copied in one piece.
#[inline]
pub(crate) fn write_fields(out: &mut Vec<u8>, fields: &Fields, head: &[u8], keeps: impl Fn(&Field) -> bool) {
    let mut run = 0..0;
    for field in fields.iter() {
        if !keeps(field) {
            continue;
        }
        let start = usize::from(field.name.start);
        let end = field.plain_end(head);
        if let Some(end) = end.filter(|_| start == run.end) {
            run.end = end;
            continue;
        }
        out.extend_from_slice(head.get(run).unwrap_or_default());
        run = start..end.unwrap_or(start);
        if end.is_none() {
            write_parts(out, &[field.name.of(head), b": ", field.value.of(head), b"\r\n"]);
        }
    }
    out.extend_from_slice(head.get(run).unwrap_or_default());
}

/// The reason phrase of a status that cairn or its configuration sends.
#[must_use]
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Bytes of the field line of Date: of a fixed number, so that they are copied in a few moves.
pub const DATE_LINE: usize = 37;

/// The field line of Date, written once a second.
#[derive(Debug)]
pub struct DateLine {
    second: u64,
    line: [u8; DATE_LINE],
    /// Scratch buffer: the line is written here, then copied to `line`.
    scratch: Vec<u8>,
}

impl DateLine {
    /// The line for a second since 1970.
    #[must_use]
    pub fn at(second: u64) -> Self {
        let mut date = Self { second, line: [b' '; DATE_LINE], scratch: Vec::with_capacity(2 * DATE_LINE) };
        date.write(second);
        date
    }

    /// Goes over to a second since 1970.
    #[inline]
    pub fn set(&mut self, second: u64) {
        if self.second != second {
            self.write(second);
        }
    }

    /// With its CRLF.
    #[must_use]
    #[inline]
    pub fn line(&self) -> &[u8; DATE_LINE] {
        &self.line
    }

    #[cold]
    fn write(&mut self, second: u64) {
        self.second = second;
        self.scratch.clear();
        write_parts(&mut self.scratch, &[b"date: "]);
        write_date(second, &mut self.scratch);
        write_parts(&mut self.scratch, &[b"\r\n"]);
        if let Some(line) = self.scratch.first_chunk() {
            self.line = *line;
        }
    }
}

/// Writes an IMF-fixdate (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn write_date(seconds: u64, out: &mut Vec<u8>) {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    let [year, month, day, hour, minute, second] = moment(seconds);
    let weekday = (seconds / 86_400 % 7) as usize * 3;
    let two = |value: u64| [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8];
    write_parts(out, &[&DAYS[weekday..weekday + 3], b", ", &two(day), b" ", month_name(month).as_bytes(), b" "]);
    write_parts(out, &[&two(year / 100), &two(year % 100), b" ", &two(hour), b":", &two(minute), b":"]);
    write_parts(out, &[&two(second), b" GMT"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn the_format_is_the_one_with_the_highest_weight() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain, x/js", Format::Text),
            ("text/html,application/json", Format::Html),
            ("application/xhtml+xml", Format::Html),
            ("application/problem+json, text/html", Format::Json),
            ("image/jpeg, application/json;q=0.5", Format::Json),
            ("application/json;q=0.1, text/html", Format::Html),
            ("text/html;q=0.5,application/json", Format::Json),
            ("text/plain, text/html;q=0.1", Format::Text),
            ("text/html;q=0, */*", Format::Text),
            ("text/html ; level=1; q=0.25, application/json;q=0.3", Format::Json),
            ("text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8", Format::Html),
        ] {
            assert_eq!(Format::of(accept.as_bytes()), format, "{accept}");
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!(text(|out| write_date(seconds, out)), date);
        }
    }

    #[test]
    fn a_line_of_date_is_written_anew_for_each_second() {
        let mut date = DateLine::at(0);
        assert_eq!(date.line(), b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        date.set(784_111_777);
        assert_eq!(date.line(), b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    }

    #[test]
    fn an_answer_carries_its_reason_and_length() {
        let answer = Answer { status: 404, reason: "no_route", error: "destination_not_found" };
        let style = ResponseStyle {
            format: Format::Json,
            method: Method::Get,
            keep_alive: false,
            version: Version::Http11,
            now: 0,
        };
        assert_eq!(
            text(|out| answer.write(&style, &(), AnswerFields::default(), None, out)),
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\
             proxy-status: cairn; error=destination_not_found; details=\"no_route\"\r\n\
             date: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 55\r\nconnection: close\r\n\r\n\
             {\"status\":404,\"title\":\"Not Found\",\"reason\":\"no_route\"}\n"
        );
    }
}
