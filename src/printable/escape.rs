//! What clients have sent, written so that it can neither end a value nor a line, nor command a terminal. Not here: what a line holds
//! (`access_log`, `event_log`).

use super::is_command;

/// How a value is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Within a string of JSON (RFC 8259 section 7). A byte that is no UTF-8 becomes the text `\xNN`.
    Json,
    /// Within quotes, as programming languages read them: as [`Style::Json`], but for `\xNN`, which is an escape itself.
    Quoted,
    /// As nginx and Apache write combined logs: each byte that is no printable ASCII, and quotes and backslashes, as `\xNN`.
    Hexadecimal,
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes that stand for themselves in each style.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Whether a value can stand in a line of logfmt without quotes.
#[must_use]
pub fn is_bare(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| PLAIN[usize::from(*byte)] && !b" =".contains(byte))
}

/// Appends `text`, escaped.
pub fn write(style: Style, text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let Some(&first) = rest.first() else { return };
        let length = match first {
            _ if style == Style::Hexadecimal => byte(first, out),
            0x80.. => character(style, rest, out),
            _ => short(first, out),
        };
        rest = &rest[length..];
    }
}

/// Appends `\xNN`; returns the length of what it stands for.
fn byte(byte: u8, out: &mut Vec<u8>) -> usize {
    let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
    out.extend_from_slice(&[b'\\', b'x', high, low]);
    1
}

/// Appends a character of ASCII that does not stand for itself.
fn short(byte: u8, out: &mut Vec<u8>) -> usize {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => unicode(u32::from(byte), out),
    }
    1
}

/// Appends the first character of `rest`, which is none of ASCII.
fn character(style: Style, rest: &[u8], out: &mut Vec<u8>) -> usize {
    let first = rest.get(..4).unwrap_or(rest);
    let valid = match std::str::from_utf8(first) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&first[..error.valid_up_to()]).unwrap_or_default(),
    };
    let Some(character) = valid.chars().next() else {
        if style == Style::Json {
            out.push(b'\\');
        }
        return byte(rest[0], out);
    };
    if is_command(character) {
        unicode(u32::from(character), out);
    } else {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    character.len_utf8()
}

/// Appends `\uNNNN`. All characters that are escaped have four digits.
fn unicode(character: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[(character >> shift & 15) as usize]));
}
