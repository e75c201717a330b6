//! The `Connection` field: its options, and the fields it nominates for removal (RFC 9110 section 7.6.1).

use crate::http::name::is;
use crate::http::{Field, FieldName, Fields, Span};
use crate::limits::CONNECTION_OPTIONS;

/// What `Connection` said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    pub(super) te: bool,
    /// It nominated Host or Content-Length, without which the message is another one.
    pub(super) names_required: bool,
    /// It nominated more than `limits::CONNECTION_OPTIONS` fields.
    pub(super) too_many: bool,
}

impl Options {
    /// Takes an option that is not the name of a field to be dropped.
    #[inline(always)]
    fn take(&mut self, option: &[u8]) -> bool {
        let known = match option.len() {
            2 => (&mut self.te, &b"te"[..]),
            5 => (&mut self.close, &b"close"[..]),
            7 => (&mut self.upgrade, &b"upgrade"[..]),
            10 => (&mut self.keep_alive, &b"keep-alive"[..]),
            _ => return false,
        };
        let is_it = is(option, known.1);
        *known.0 |= is_it;
        is_it
    }
}

/// Reads all `Connection` fields and marks the fields they nominate as dropped.
pub(super) fn options(head: &[u8], fields: &mut Fields) -> Options {
    let mut found = Options::default();
    let mut nominated = 0;
    if !fields.repeats(FieldName::Connection) {
        if let Some(field) = fields.get(FieldName::Connection) {
            read(head, field.value, fields, &mut found, &mut nominated);
        }
        return found;
    }
    let mut at = 0;
    // By index, for the table is marked while its `Connection` fields are read.
    while let Some(field) = fields.as_slice().get(at).copied() {
        at += 1;
        if field.id == FieldName::Connection {
            read(head, field.value, fields, &mut found, &mut nominated);
        }
    }
    found
}

/// Reads one `Connection` value.
fn read(head: &[u8], value: Span, fields: &mut Fields, found: &mut Options, nominated: &mut usize) {
    if found.take(value.of(head)) {
        return;
    }
    for option in members(value.of(head)) {
        if found.take(option) {
            continue;
        }
        if *nominated == CONNECTION_OPTIONS {
            found.too_many = true;
            return;
        }
        *nominated += 1;
        found.names_required |= nominate(head, fields.as_mut_slice(), option);
    }
}

/// Marks the fields with this name as dropped; true if it is one that cannot be.
fn nominate(head: &[u8], fields: &mut [Field], name: &[u8]) -> bool {
    match FieldName::lookup(name) {
        FieldName::Host | FieldName::ContentLength => return true,
        // Framing and the wait for 100 are regenerated from what was understood, whoever names them.
        FieldName::TransferEncoding | FieldName::Connection | FieldName::Expect => {}
        FieldName::Other => {
            for field in fields {
                field.dropped |= field.id == FieldName::Other && field.name.of(head).eq_ignore_ascii_case(name);
            }
        }
        id => {
            for field in fields {
                field.dropped |= field.id == id;
            }
        }
    }
    false
}

/// Whether the head's `Connection` nominates more than the options that every hop knows. Trailers have to follow it too, but
/// arrive when the head is gone: such a message is passed on without them.
pub fn nominates_fields(head: &[u8], fields: &Fields) -> bool {
    const KNOWN: [&[u8]; 5] = [b"close", b"keep-alive", b"upgrade", b"te", b"trailer"];
    let is_known = |option: &[u8]| KNOWN.iter().any(|known| option.eq_ignore_ascii_case(known));
    fields.all(FieldName::Connection).any(|field| !members(field.value.of(head)).all(is_known))
}

/// The members of a comma-separated list, without whitespace around them and without empty ones
/// (RFC 9110 section 5.6.1.2).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without the OWS around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The protocols offered by `Upgrade`, if it may be passed on: one field, nominated, and none of them HTTP/2, which
/// would open a tunnel for requests that nobody looks at (RFC 9113 section 3.1 has withdrawn it).
pub(super) fn upgrade(head: &[u8], fields: &Fields, options: Options) -> Option<Span> {
    let field = fields.get(FieldName::Upgrade)?;
    if !options.upgrade || fields.repeats(FieldName::Upgrade) || field.value.is_empty() {
        return None;
    }
    if is(field.value.of(head), b"websocket") {
        return Some(field.value);
    }
    let is_http2 = |protocol: &[u8]| protocol.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2"));
    let is_http = |protocol: &[u8]| protocol.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"http"));
    let refused = members(field.value.of(head)).any(|protocol| is_http2(protocol) || is_http(protocol));
    (!refused).then_some(field.value)
}
