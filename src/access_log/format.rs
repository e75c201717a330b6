//! Lines of the access log, made of entries. Not here: where they go (`sink`).

use std::fmt;
use std::time::Duration;

use super::entry::{Entry, Text, Value as EntryValue};
use super::variable::{FIELDS, Field, Value, Variable};
use crate::calendar::{moment, month_name};
use crate::http::write_decimal;
use crate::printable::escape::{self, Style};

/// What a line looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object of JSON; what is not known is left out.
    Json,
    /// `key=value`, as JSON has them.
    Logfmt,
    /// As Apache and nginx write it.
    Combined,
    /// A text with variables; `-` for what is not known.
    Template(Vec<Part>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Text(Box<str>),
    /// What stands for a value.
    Variable(Variable),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => f.write_str("json"),
            Self::Logfmt => f.write_str("logfmt"),
            Self::Combined => f.write_str("combined"),
            Self::Template(parts) => parts.iter().try_for_each(|part| match part {
                Part::Text(text) => f.write_str(text),
                Part::Variable(variable) => write!(f, "${{{variable}}}"),
            }),
        }
    }
}

impl Format {
    /// Names of the formats that are no templates.
    pub const NAMES: [&str; 3] = ["json", "combined", "logfmt"];

    /// The format of this name; None: it has none, it may be a template.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "combined" => Some(Self::Combined),
            "logfmt" => Some(Self::Logfmt),
            _ => None,
        }
    }

    /// Names of the fields of requests that it tells and that are not kept by default.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let parts = if let Self::Template(parts) = self { &parts[..] } else { &[] };
        parts.iter().filter_map(|part| if let Part::Variable(variable) = part { variable.header() } else { None })
    }

    /// Appends the line of an entry, with its newline. `wall`: the time since 1970 when the clock of workers shows zero.
    pub(super) fn write(&self, entry: &Entry<'_>, wall: Duration, out: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(entry, wall, out),
            Self::Logfmt => write_logfmt(entry, wall, out),
            Self::Combined => write_combined(entry, wall, out),
            Self::Template(parts) => write_template(parts, entry, wall, out),
        }
        out.push(b'\n');
    }
}

fn write_json(entry: &Entry<'_>, wall: Duration, out: &mut Vec<u8>) {
    let mut next = b'{';
    for (key, _, field) in FIELDS.iter().filter(|(key, ..)| !key.is_empty()) {
        let value = field.value(entry, wall);
        if value == Value::None {
            continue;
        }
        out.extend_from_slice(&[next, b'"']);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        next = b',';
        match value {
            Value::Text(text, cut) => write_quoted(Style::Json, text, cut, out),
            Value::Time(time) if *field == Field::Time => {
                out.push(b'"');
                write_time(time, out);
                out.push(b'"');
            }
            value => write_plain(*field, value, out),
        }
    }
    let mut open = &b",\"headers\":{"[..];
    for (name, value) in entry.headers() {
        out.extend_from_slice(open);
        open = b",";
        write_quoted(Style::Json, name.bytes, name.cut, out);
        out.push(b':');
        write_quoted(Style::Json, value.bytes, value.cut, out);
    }
    if open == b"," {
        out.push(b'}');
    }
    out.push(b'}');
}

fn write_logfmt(entry: &Entry<'_>, wall: Duration, out: &mut Vec<u8>) {
    let key_begins = |prefix: &[u8], key: &[u8], out: &mut Vec<u8>| {
        if !out.is_empty() && out.last() != Some(&b'\n') {
            out.push(b' ');
        }
        out.extend_from_slice(prefix);
        out.extend_from_slice(key);
        out.push(b'=');
    };
    let write_text = |text: &[u8], cut: bool, out: &mut Vec<u8>| {
        if cut || !escape::is_bare(text) {
            write_quoted(Style::Quoted, text, cut, out)
        } else {
            out.extend_from_slice(text)
        }
    };
    for (key, _, field) in FIELDS.iter().filter(|(key, ..)| !key.is_empty()) {
        match field.value(entry, wall) {
            Value::None => {}
            Value::Text(text, cut) => {
                key_begins(b"", key.as_bytes(), out);
                write_text(text, cut, out);
            }
            value => {
                key_begins(b"", key.as_bytes(), out);
                write_plain(*field, value, out);
            }
        }
    }
    for (name, value) in entry.headers() {
        key_begins(b"header.", name.bytes, out);
        write_text(value.bytes, value.cut, out);
    }
}

/// `CLIENT - - [TIME] "METHOD PATH PROTOCOL" STATUS BYTES "REFERER" "USER-AGENT"`
fn write_combined(entry: &Entry<'_>, wall: Duration, out: &mut Vec<u8>) {
    let or_dash = |text: Text, out: &mut Vec<u8>| write_or_dash(entry.text(text), out);
    or_dash(Text::Client, out);
    out.extend_from_slice(b" - - [");
    write_clf_time(wall + entry.numbers.began, out);
    out.extend_from_slice(b"] \"");
    if entry.text(Text::Method).bytes.is_empty() {
        out.push(b'-');
    } else {
        or_dash(Text::Method, out);
        out.push(b' ');
        // CONNECT asks for an authority.
        or_dash(if entry.text(Text::Path).bytes.is_empty() { Text::Authority } else { Text::Path }, out);
        if !entry.text(Text::Query).bytes.is_empty() {
            out.push(b'?');
            or_dash(Text::Query, out);
        }
        out.push(b' ');
        write_plain(Field::Protocol, Field::Protocol.value(entry, wall), out);
    }
    out.extend_from_slice(b"\" ");
    write_padded(u64::from(entry.numbers.status), 3, out);
    out.push(b' ');
    write_number(entry.numbers.sent, out);
    for text in [Text::Referer, Text::UserAgent] {
        out.extend_from_slice(b" \"");
        or_dash(text, out);
        out.push(b'"');
    }
}

fn write_template(parts: &[Part], entry: &Entry<'_>, wall: Duration, out: &mut Vec<u8>) {
    for part in parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Variable(Variable::Header(name)) => {
                let found = entry.headers().find(|(own, _)| own.bytes == name.as_bytes());
                write_or_dash(found.unwrap_or_default().1, out);
            }
            Part::Variable(Variable::Field(at)) => {
                let Some((_, _, field)) = FIELDS.get(*at) else { continue };
                match field.value(entry, wall) {
                    Value::Text(bytes, cut) => write_or_dash(EntryValue { bytes, cut }, out),
                    value => write_plain(*field, value, out),
                }
            }
        }
    }
}

/// A value that needs no quotes, whoever has sent the request: `-` for none.
fn write_plain(field: Field, value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::None => out.push(b'-'),
        Value::Text(text, _) => escape::write(Style::Hexadecimal, text, out),
        Value::Number(number) => write_number(number, out),
        Value::Time(time) => match field {
            Field::Time => write_time(time, out),
            Field::ClfTime => write_clf_time(time, out),
            Field::UnixTime => write_thousandths(time.as_millis(), out),
            _ => write_thousandths(time.as_micros(), out),
        },
    }
}

fn write_quoted(style: Style, text: &[u8], cut: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    escape::write(style, text, out);
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn write_or_dash(value: EntryValue<'_>, out: &mut Vec<u8>) {
    if value.bytes.is_empty() {
        return out.push(b'-');
    }
    escape::write(Style::Hexadecimal, value.bytes, out);
    if value.cut {
        out.extend_from_slice(b"...");
    }
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(write_decimal(number, &mut [0; 20]));
}

/// A number with at least so many digits.
fn write_padded(number: u64, digits: usize, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let text = write_decimal(number, &mut text);
    out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

/// A number of thousandths: `1.250`.
fn write_thousandths(number: u128, out: &mut Vec<u8>) {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    write_number(number / 1000, out);
    out.push(b'.');
    write_padded(number % 1000, 3, out);
}

/// `2026-11-29T03:22:04.125Z`
pub(super) fn write_time(time: Duration, out: &mut Vec<u8>) {
    let parts = moment(time.as_secs());
    for (part, (digits, behind)) in
        parts.into_iter().zip([(4, b'-'), (2, b'-'), (2, b'T'), (2, b':'), (2, b':'), (2, b'.')])
    {
        write_padded(part, digits, out);
        out.push(behind);
    }
    write_padded(u64::from(time.subsec_millis()), 3, out);
    out.push(b'Z');
}

/// [`write_time`] as a text of its own.
#[must_use]
pub fn rfc3339(time: Duration) -> String {
    let mut text = Vec::new();
    write_time(time, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// `Nov 29 03:22:04`, as syslog on one machine has it (RFC 3164 section 4.1.2).
pub(super) fn write_syslog_time(time: Duration, out: &mut Vec<u8>) {
    let [_, month, day, clock @ ..] = moment(time.as_secs());
    out.extend_from_slice(month_name(month).as_bytes());
    out.extend_from_slice(if day < 10 { b"  " } else { b" " });
    write_number(day, out);
    for (part, before) in clock.into_iter().zip(b" ::") {
        out.push(*before);
        write_padded(part, 2, out);
    }
}

/// `29/Nov/2026:03:22:04 +0000`
fn write_clf_time(time: Duration, out: &mut Vec<u8>) {
    let [year, month, day, clock @ ..] = moment(time.as_secs());
    write_padded(day, 2, out);
    out.push(b'/');
    out.extend_from_slice(month_name(month).as_bytes());
    out.push(b'/');
    write_padded(year, 4, out);
    for part in clock {
        out.push(b':');
        write_padded(part, 2, out);
    }
    out.extend_from_slice(b" +0000");
}
