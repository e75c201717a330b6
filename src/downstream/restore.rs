//! Fields of a response in which an origin names paths as it knows them, in the form that the client knows: Location, Content-Location
//! and Set-Cookie, where the route asks for that. Not here: the prefixes (`route`).

use super::response::HeadStyle;
use crate::exchange::Kept;
use crate::http::{Field, FieldName, ResponseHead};
use crate::respond::{self, write_parts};
use crate::route::PathRewrite;

/// Name of the second field that leads to a place of the origin.
const CONTENT_LOCATION: &[u8] = b"content-location";

/// Writes the fields of a response that `keeps` lets pass: first those that are as they came.
#[cold]
pub(super) fn write_fields(
    style: &HeadStyle<'_>,
    response: &ResponseHead,
    head: &[u8],
    keeps: impl Fn(&Field) -> bool,
    out: &mut Vec<u8>,
) {
    let route = style.route;
    let rewrite = route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let is_location = |field: &Field| {
        let named = || field.id == FieldName::Location || field.name.of(head).eq_ignore_ascii_case(CONTENT_LOCATION);
        route.restores.location && named()
    };
    let is_cookie = |field: &Field| route.restores.cookies && field.id == FieldName::SetCookie;
    let as_it_came = |field: &Field| keeps(field) && !is_location(field) && !is_cookie(field);
    respond::write_fields(out, &response.fields, head, as_it_came);
    for field in response.fields.iter().filter(|field| keeps(field) && !as_it_came(field)) {
        write_parts(out, &[field.name.of(head), b": "]);
        match is_location(field) {
            true => write_location(field.value.of(head), rewrite, style.kept, out),
            false => write_cookie(field.value.of(head), rewrite, out),
        }
        write_parts(out, &[b"\r\n"]);
    }
}

/// Writes a reference of the origin to itself as a path of the client's, and any other as it is.
fn write_location(value: &[u8], rewrite: Option<&PathRewrite>, kept: Option<&Kept>, out: &mut Vec<u8>) {
    let Some(path) = own_path(value, kept) else { return write_parts(out, &[value]) };
    match rewrite.map(|rewrite| rewrite.restore(path)) {
        None => write_parts(out, &[path]),
        Some(Some((prefix, rest))) if prefix.is_empty() && names_host(rest) => write_parts(out, &[value]),
        Some(Some((b"", b""))) => write_parts(out, &[b"/"]),
        Some(Some((prefix, rest))) => write_parts(out, &[prefix, rest]),
        // No path of the client leads there.
        Some(None) => write_parts(out, &[value]),
    }
}

/// The path, with what follows it, of a reference (RFC 3986 section 4.1) that leads to the origin itself.
fn own_path<'a>(value: &'a [u8], kept: Option<&Kept>) -> Option<&'a [u8]> {
    let behind_scheme = ["http://", "https://", "//"].iter().find_map(|scheme| {
        let (start, rest) = value.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some((scheme.starts_with("https"), rest))
    });
    let Some((secure, rest)) = behind_scheme else { return value.starts_with(b"/").then_some(value) };
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.is_empty() { &b"/"[..] } else { path };
    let own = kept.is_some_and(|kept| kept.leads_to_origin(authority, secure));
    (own && path.starts_with(b"/") && !names_host(path)).then_some(path)
}

/// Whether browsers would read what stands behind the first slash of a path as a host: they take `\` for `/`, and leave tabs out (WHATWG
/// URL section 4.4).
fn names_host(path: &[u8]) -> bool {
    path.iter().skip(1).find(|byte| **byte != b'\t').is_some_and(|byte| b"/\\".contains(byte))
}

/// Writes a cookie whose Path, if it has one, is one of the client's (RFC 6265 section 4.1.2.4).
fn write_cookie(value: &[u8], rewrite: Option<&PathRewrite>, out: &mut Vec<u8>) {
    for (number, part) in value.split(|byte| *byte == b';').enumerate() {
        if number > 0 {
            write_parts(out, &[b";"]);
        }
        let attribute = part.trim_ascii_start();
        let path = attribute.split_at_checked(5).filter(|(name, _)| number > 0 && name.eq_ignore_ascii_case(b"path="));
        let restored = path.and_then(|(_, path)| rewrite?.restore(path.trim_ascii()));
        match restored {
            None => write_parts(out, &[part]),
            Some((b"", b"" | b"/")) => write_parts(out, &[b" Path=/"]),
            // `/orders/` would not cover `/orders`.
            Some((prefix, b"/")) => write_parts(out, &[b" Path=", prefix]),
            Some((prefix, rest)) => write_parts(out, &[b" Path=", prefix, rest]),
        }
    }
}
