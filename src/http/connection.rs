//! The `Connection` field: its options, and the fields that it nominates for removal (RFC 9110 section 7.6.1). Not here: the meaning
//! of the options for a message (`request`, `response`).

use crate::http::name::is;
use crate::http::{Field, FieldName, Fields, Span};
use crate::limits::CONNECTION_OPTIONS;

/// Options of `Connection`, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options(u8);

impl Options {
    pub(super) const NONE: Self = Self(0);
    pub(super) const CLOSE: Self = Self(1);
    pub(super) const KEEP_ALIVE: Self = Self(2);
    pub(super) const UPGRADE: Self = Self(4);
    pub(super) const TE: Self = Self(8);
    /// Host or Content-Length was nominated, without which the message would have another meaning.
    pub(super) const NAMES_REQUIRED: Self = Self(16);
    /// More than `limits::CONNECTION_OPTIONS` fields were nominated.
    pub(super) const TOO_MANY: Self = Self(32);

    /// Whether one of `options` is in the set.
    #[inline(always)]
    pub(super) fn has(self, options: Self) -> bool {
        self.0 & options.0 != 0
    }

    #[inline(always)]
    pub(super) const fn or(self, options: Self) -> Self {
        Self(self.0 | options.0)
    }

    /// The set of one option; [`Options::NONE`] if it is not a known one, but nominates a field.
    #[inline(always)]
    pub(super) fn single(option: &[u8]) -> Self {
        match option.len() {
            10 if is(option, b"keep-alive") => Self::KEEP_ALIVE,
            5 if is(option, b"close") => Self::CLOSE,
            7 if is(option, b"upgrade") => Self::UPGRADE,
            2 if is(option, b"te") => Self::TE,
            _ => Self::NONE,
        }
    }
}

/// The options of all `Connection` fields. Marks the nominated fields as dropped. `single`: the value of the last such field, read as
/// one option.
#[inline(always)]
pub(super) fn options(head: &[u8], fields: &mut Fields, single: Options) -> Options {
    match single {
        _ if !fields.any(FieldName::Connection.bit()) => Options::NONE,
        Options::NONE => read_all(head, fields),
        _ if fields.repeats(FieldName::Connection) => read_all(head, fields),
        _ => single,
    }
}

#[cold]
fn read_all(head: &[u8], fields: &mut Fields) -> Options {
    let mut found = Options::NONE;
    let mut nominated = 0;
    let mut at = 0;
    // By index, because fields are marked while the table is read.
    while let Some(field) = fields.as_slice().get(at).copied() {
        at += 1;
        if field.id == FieldName::Connection {
            found = found.or(read(head, field.value, fields, &mut nominated));
        }
    }
    found
}

/// Reads one `Connection` value.
fn read(head: &[u8], value: Span, fields: &mut Fields, nominated: &mut usize) -> Options {
    let mut found = Options::NONE;
    for option in members(value.of(head)) {
        let single = Options::single(option);
        if single != Options::NONE {
            found = found.or(single);
            continue;
        }
        if *nominated == CONNECTION_OPTIONS {
            return found.or(Options::TOO_MANY);
        }
        *nominated += 1;
        if nominate(head, fields.as_mut_slice(), option) {
            found = found.or(Options::NAMES_REQUIRED);
        }
    }
    found
}

/// Marks the fields with this name as dropped. True: fields with this name must not be dropped.
fn nominate(head: &[u8], fields: &mut [Field], name: &[u8]) -> bool {
    match FieldName::lookup(name) {
        FieldName::Host | FieldName::ContentLength => return true,
        // These are not marked: they are written anew from the parsed values, whether or not they are nominated.
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

/// Whether `Connection` nominates fields, apart from the common options. A nomination also covers trailers. They arrive when the head
/// is no longer held, so such a message is forwarded without trailers.
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

/// `bytes` without the OWS around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The protocols offered by `Upgrade`, if it may be forwarded: there is one field, it is nominated, and it does not offer HTTP/2,
/// which would open a tunnel for unchecked requests (RFC 9113 section 3.1 has withdrawn it).
#[inline(always)]
pub(super) fn upgrade(head: &[u8], fields: &Fields, options: Options) -> Option<Span> {
    if options.has(Options::UPGRADE) { offered(head, fields) } else { None }
}

/// The value of the only `Upgrade` field, unless it is empty or offers a version of HTTP.
fn offered(head: &[u8], fields: &Fields) -> Option<Span> {
    let value = fields.only(FieldName::Upgrade).filter(|value| !value.is_empty())?;
    if is(value.of(head), b"websocket") {
        return Some(value);
    }
    let is_http2 = |protocol: &[u8]| protocol.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2"));
    let is_http = |protocol: &[u8]| protocol.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"http"));
    let refused = members(value.of(head)).any(|protocol| is_http2(protocol) || is_http(protocol));
    if refused { None } else { Some(value) }
}
