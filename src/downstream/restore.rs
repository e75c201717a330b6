//! Fields of a response in which an origin names paths as it knows them, in the form that the client knows: Location, Content-Location
//! and Set-Cookie, where the route asks for that. Not here: the prefixes (`route`).

use crate::exchange::Kept;
use crate::http::{Field, FieldName, ResponseHead};
use crate::respond::write_parts;
use crate::route::{PathRewrite, Route};

/// Name of the second field that leads to a place of the origin.
const CONTENT_LOCATION: &[u8] = b"content-location";

/// Whether `field` is written by [`write`] for this route, and is not to be copied.
pub(super) fn replaces(route: &Route, field: &Field, head: &[u8]) -> bool {
    is_location(route, field, head) || is_cookie(route, field)
}

fn is_location(route: &Route, field: &Field, head: &[u8]) -> bool {
    let named = || field.id == FieldName::Location || field.name.of(head).eq_ignore_ascii_case(CONTENT_LOCATION);
    route.restores.location && named()
}

fn is_cookie(route: &Route, field: &Field) -> bool {
    route.restores.cookies && field.id == FieldName::SetCookie
}

/// Writes the fields of a response that [`replaces`] has kept back and `keeps` lets pass.
#[cold]
pub(super) fn write(
    route: &Route,
    kept: &Kept,
    response: &ResponseHead,
    head: &[u8],
    keeps: impl Fn(&Field) -> bool,
    out: &mut Vec<u8>,
) {
    let rewrite = route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    for field in response.fields.iter().filter(|field| keeps(field)) {
        let value = field.value.of(head);
        if is_location(route, field, head) {
            write_parts(out, &[field.name.of(head), b": "]);
            write_location(value, rewrite, kept, out);
        } else if is_cookie(route, field) {
            write_parts(out, &[field.name.of(head), b": "]);
            write_cookie(value, rewrite, out);
        } else {
            continue;
        }
        write_parts(out, &[b"\r\n"]);
    }
}

/// Writes a reference of the origin to itself as a path of the client's, and any other as it is.
fn write_location(value: &[u8], rewrite: Option<&PathRewrite>, kept: &Kept, out: &mut Vec<u8>) {
    let Some(path) = own_path(value, kept) else { return write_parts(out, &[value]) };
    match rewrite.map(|rewrite| rewrite.restore(path)) {
        None => write_parts(out, &[path]),
        // A path that begins with `//` would be read as a host.
        Some(Some((prefix, rest))) if prefix.is_empty() && rest.starts_with(b"//") => write_parts(out, &[value]),
        Some(Some((b"", b""))) => write_parts(out, &[b"/"]),
        Some(Some((prefix, rest))) => write_parts(out, &[prefix, rest]),
        // No path of the client leads there.
        Some(None) => write_parts(out, &[value]),
    }
}

/// The path, with what follows it, of a reference (RFC 3986 section 4.1) that leads to the origin itself.
fn own_path<'a>(value: &'a [u8], kept: &Kept) -> Option<&'a [u8]> {
    let behind_scheme = ["http://", "https://", "//"].iter().find_map(|scheme| {
        let (start, rest) = value.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let Some(rest) = behind_scheme else { return value.starts_with(b"/").then_some(value) };
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.is_empty() { &b"/"[..] } else { path };
    (kept.names(authority) && path.starts_with(b"/") && !path.starts_with(b"//")).then_some(path)
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
