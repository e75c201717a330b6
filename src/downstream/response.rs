//! The response head as an HTTP/1.1 client gets it. Not here: the body.

use super::{Current, restore};
use crate::exchange::{AffinityCookie, HeadKind, Kept, RouteOf, appended_lines};
use crate::forward::Framing;
use crate::http::{BodyFraming, Field, FieldName, ResponseHead, Version, hop_by_hop, write_decimal};
use crate::respond::{DATE_LINE, HSTS, phrase, write_fields, write_parts};
use crate::route::{Restores, Route};

/// What determines the head besides the origin's fields.
#[derive(Debug)]
pub struct HeadStyle<'a> {
    /// The kind of the response.
    pub kind: HeadKind,
    /// The route, with its edits.
    pub route: &'a Route,
    /// What the route needs of the request.
    pub kept: Option<&'a Kept>,
    /// The connection takes another request.
    pub keep_alive: bool,
    /// The version of the request.
    pub version: Version,
    /// The field line of Date for a response that has none (RFC 9110 section 6.6.1).
    pub date: &'a [u8; DATE_LINE],
    /// The line of Strict-Transport-Security for a final response that has none; empty: none.
    pub hsts: &'a [u8],
    /// The cookie that keeps the client at the endpoint, with what writes it; None: the client has it, or needs none.
    pub cookie: Option<(&'a RouteOf, AffinityCookie)>,
}

/// The framing of a response body for the client, and whether the connection can be kept afterwards.
pub(super) fn framing(body: BodyFraming, current: &Current) -> (Framing, bool) {
    match body {
        BodyFraming::None | BodyFraming::Length(_) => (Framing::Length, current.keep_alive),
        BodyFraming::Chunked | BodyFraming::Close if current.version == Version::Http10 => (Framing::Close, false),
        BodyFraming::Chunked => (Framing::Verbatim, current.keep_alive),
        BodyFraming::Close => (Framing::Chunked, current.keep_alive),
    }
}

/// Writes the head of a response to `out`. `head` holds the received bytes into which the spans of `response` point.
pub fn write(style: &HeadStyle<'_>, response: &ResponseHead, head: &[u8], out: &mut Vec<u8>) {
    let status = write_decimal(u64::from(response.status), &mut [0; 20]).first_chunk::<3>().copied().unwrap_or(*b"502");
    // HTTP/2 has no reason phrases, and there are clients that need one.
    let reason = match response.reason.of(head) {
        b"" => phrase(response.status).as_bytes(),
        reason => reason,
    };
    write_parts(out, &[b"HTTP/1.1 ", &status, b" ", reason, b"\r\n"]);
    let edits = &style.route.response_edits;
    let edited = style.kind == HeadKind::Final && !edits.is_empty();
    let keeps = |field: &Field| {
        let removed = edited && edits.removes(field.name.of(head));
        !(field.dropped || removed || hop_by_hop(field.id) || field.id == FieldName::ContentLength)
    };
    if style.route.restores == Restores::default() {
        write_fields(out, &response.fields, head, keeps);
    } else {
        restore::write_fields(style, response, head, keeps, out);
    }
    if edited {
        out.extend_from_slice(appended_lines(style.route, style.kept));
    }
    if let Some((route, cookie)) = style.cookie.filter(|_| style.kind != HeadKind::Interim) {
        route.write_cookie(cookie, out);
    }
    if !style.hsts.is_empty() && style.kind == HeadKind::Final {
        write_hsts(style, response, head, out);
    }
    if !is_dated(response) && response.status >= 200 && edits.names() & FieldName::Date.bit() == 0 {
        out.extend_from_slice(style.date);
    }
    match style.kind {
        HeadKind::Interim => {}
        HeadKind::Tunnel => {
            if let Some(protocol) = response.upgrade {
                write_parts(out, &[b"connection: upgrade\r\nupgrade: ", protocol.of(head), b"\r\n"]);
            }
        }
        HeadKind::Final => write_framing(style, response, head, out),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes Strict-Transport-Security, unless the origin has sent it or the route edits it: clients heed the first (RFC 6797 section 8.1).
#[cold]
fn write_hsts(style: &HeadStyle<'_>, response: &ResponseHead, head: &[u8], out: &mut Vec<u8>) {
    let own = response.fields.named(head, HSTS).any(|field| !field.dropped);
    if !own && !style.route.response_edits.removes(HSTS) {
        out.extend_from_slice(style.hsts);
    }
}

/// Whether the response has a Date that is forwarded.
#[inline(always)]
fn is_dated(response: &ResponseHead) -> bool {
    let fields = &response.fields;
    let kept = || fields.get(FieldName::Date).is_some_and(|date| !date.dropped);
    fields.has(FieldName::Date) && (!fields.has(FieldName::Connection) || kept())
}

fn write_framing(style: &HeadStyle<'_>, response: &ResponseHead, head: &[u8], out: &mut Vec<u8>) {
    let old = style.version == Version::Http10;
    match response.body {
        BodyFraming::Length(length) => {
            write_parts(out, &[b"content-length: ", write_decimal(length, &mut [0; 20]), b"\r\n"]);
        }
        // A response to HEAD and a 304 give the length that the body would have; a 204 must not (RFC 9110 section 8.6).
        BodyFraming::None if response.status != 204 => {
            if let Some(length) = response.fields.get(FieldName::ContentLength) {
                write_parts(out, &[b"content-length: ", length.value.of(head), b"\r\n"]);
            }
        }
        BodyFraming::None => {}
        BodyFraming::Chunked | BodyFraming::Close if old => {}
        BodyFraming::Chunked | BodyFraming::Close => write_parts(out, &[b"transfer-encoding: chunked\r\n"]),
    }
    match (style.keep_alive, old) {
        (false, _) => write_parts(out, &[b"connection: close\r\n"]),
        (true, true) => write_parts(out, &[b"connection: keep-alive\r\n"]),
        (true, false) => {}
    }
}
