//! The path of a request target: the form for routing, the form to forward, and which paths are refused (RFC 3986 section 6.2.2).
//! Not here: queries.
//!
//! A path has two forms. The forwarded form is the path as received, byte for byte, but without dot segments. Routes are looked up
//! by the normal form, which is computed from the forwarded form: `//` merged, encoded unreserved characters decoded, hexadecimal
//! digits in upper case. So a route covers what an origin makes of the path:
//!
//! - No dot segment is left, in any spelling that some origin resolves: `..` with either dot encoded (WHATWG URL), between
//!   backslashes (WHATWG URL), between `%2f` or `%5c` (origins that decode before they resolve, such as nginx), with parameters
//!   behind it (origins that cut them off before they resolve, such as Tomcat). Where origins would disagree, all of them get the
//!   path as it was resolved here.
//! - An origin that merges `//` or decodes serves the normal form. Any other origin serves the same names or none.
//! - Origins disagree about backslashes. [`Forms::slashed`] is the normal form of those that treat them as slashes; a path
//!   whose two normal forms have different routes is refused.
//! - `%2f` within a name is data as long as `encoded_slash` is `keep`, for names that hold a slash. An origin that decodes it
//!   serves another path than the routed one, so an operator who denies a prefix chooses `refuse` or `decode`.

mod resolve;
#[cfg(test)]
mod tests;

use crate::http::number::hex_digit;

/// The rules by which paths are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Refuse paths that origins interpret differently.
    pub strict: bool,
    /// How `%2f` is interpreted.
    pub encoded_slash: EncodedSlash,
    /// Forward the normal form.
    pub normalize: bool,
}

/// How `%2f` in a path is interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// As a byte of a name.
    #[default]
    Keep,
    /// As a reason to refuse the path.
    Refuse,
    /// As a slash; it is forwarded as one.
    Decode,
}

/// Why a path is refused with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It does not begin with a slash.
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    BadPercent,
    /// `%00`.
    EncodedNul,
    /// `%01` to `%1f` or `%7f`, which can end a line or a log entry once decoded.
    EncodedControl,
    /// `\` or `%5c`, which some origins treat as a separator.
    Backslash,
    /// `%2f` where it is refused, or next to a dot segment: some origins treat it as a separator.
    EncodedSlash,
    /// `..` behind an empty segment, or behind a name with `%2f`: what it removes depends on merging and decoding. Also a dot segment
    /// that a variable has brought into the path for an origin.
    Ambiguous,
    /// Dot segments lead above the root.
    AboveRoot,
}

impl PathError {
    /// The reason in detail, for the operator. Clients get one reason code for all.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::BadPercent => "path_bad_percent",
            Self::EncodedNul => "path_encoded_nul",
            Self::EncodedControl => "path_encoded_control",
            Self::Backslash => "path_backslash",
            Self::EncodedSlash => "path_encoded_slash",
            Self::Ambiguous => "path_ambiguous",
            Self::AboveRoot => "path_above_root",
        }
    }
}

/// The forms of a path, in buffers that are allocated once and reused for each path.
#[derive(Clone, Debug)]
pub struct Forms {
    /// Whether all forms equal the path as received; then the buffers are unspecified.
    plain: bool,
    forwarded: Vec<u8>,
    rewritable: Vec<u8>,
    normal: Vec<u8>,
    /// See [`Forms::slashed`]; empty: it equals the normal form.
    slashed: Vec<u8>,
}

impl Forms {
    /// Room for paths of this many bytes; a longer one allocates.
    pub fn with_capacity(bytes: usize) -> Self {
        let buffer = || Vec::with_capacity(bytes);
        Self { plain: true, forwarded: buffer(), rewritable: buffer(), normal: buffer(), slashed: buffer() }
    }

    /// Reads a path, the `*` of OPTIONS, or the empty path of CONNECT. For most paths all forms are equal; one pass over the bytes
    /// detects that.
    ///
    /// # Errors
    /// The path leads above the root, or the rules refuse it. Then the forms are unspecified.
    #[inline]
    pub fn read(&mut self, path: &[u8], rules: Rules) -> Result<(), PathError> {
        self.plain = true;
        if path.first() != Some(&b'/') {
            return if matches!(path, b"" | b"*") { Ok(()) } else { Err(PathError::NotAbsolute) };
        }
        if is_plain(path) { Ok(()) } else { self.read_odd(path, rules) }
    }

    /// The form by which routes are looked up. `received` is the path that was read.
    #[inline]
    pub fn normal<'a>(&'a self, received: &'a [u8]) -> &'a [u8] {
        if self.plain { received } else { &self.normal }
    }

    /// The normal form with backslashes treated as slashes; None if that is the same.
    #[inline]
    pub fn slashed(&self) -> Option<&[u8]> {
        if self.plain || self.slashed.is_empty() { None } else { Some(&self.slashed) }
    }

    /// The normal form with hexadecimal digits in their original case, for rewrites. It is as long as the normal form.
    #[inline]
    pub fn rewritable<'a>(&'a self, received: &'a [u8]) -> &'a [u8] {
        if self.plain { received } else { &self.rewritable }
    }

    /// The form to forward.
    #[inline]
    pub fn forwarded<'a>(&'a self, received: &'a [u8]) -> &'a [u8] {
        if self.plain { received } else { &self.forwarded }
    }

    #[cold]
    #[inline(never)]
    fn read_odd(&mut self, path: &[u8], rules: Rules) -> Result<(), PathError> {
        let backslashes = resolve::resolve(path, rules, &mut self.forwarded)?;
        normalise(&self.forwarded, &mut self.rewritable);
        self.normal.clear();
        self.normal.extend_from_slice(&self.rewritable);
        raise_digits(&mut self.normal);
        self.slashed.clear();
        if backslashes {
            with_slashes(&self.normal, &mut self.slashed);
        }
        if rules.normalize {
            self.forwarded.clone_from(&self.normal);
            self.rewritable.clone_from(&self.normal);
        }
        self.plain = false;
        Ok(())
    }
}

/// Whether the path has no `%`, no `\`, and no segment that is empty or begins with a dot. Then all its forms are equal.
fn is_plain(path: &[u8]) -> bool {
    let next = path.get(1..).unwrap_or_default();
    // Compares neighbouring bytes in chunks of fixed size, for vectorisation. The last chunk overlaps the one before.
    match (path.get(..next.len()).and_then(<[u8]>::last_chunk), next.last_chunk()) {
        (Some(last), Some(next_last)) => {
            let chunks = path.as_chunks::<CHUNK>().0;
            let nexts = next.as_chunks::<CHUNK>().0;
            !has_odd(last, next_last) && !chunks.iter().zip(nexts).any(|(chunk, next)| has_odd(chunk, next))
        }
        _ => !path.iter().zip(next.iter().chain([&0])).any(|(byte, next)| is_odd(*byte, *next)),
    }
}

/// Number of bytes that are compared with their neighbours at once.
const CHUNK: usize = 16;

/// Whether one of the bytes, or the byte after it, rules out that the path is plain. The first byte of a path is a slash, so each other
/// byte is checked as the second of a pair.
#[inline(always)]
fn has_odd(chunk: &[u8; CHUNK], next: &[u8; CHUNK]) -> bool {
    chunk.iter().zip(next).fold(false, |odd, (byte, next)| odd | is_odd(*byte, *next))
}

#[inline(always)]
fn is_odd(byte: u8, next: u8) -> bool {
    (byte == b'%')
        | (byte == b'\\')
        | (next == b'%')
        | (next == b'\\')
        | ((byte == b'/') & ((next == b'/') | (next == b'.')))
}

/// Writes a resolved path with `//` merged and encoded unreserved characters decoded (RFC 3986 section 6.2.2.2).
fn normalise(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    // How many hexadecimal digits a `%` that begins no escape lacks. An escape of such a digit is not decoded there: `%%32f` must not
    // become `%2f`.
    let mut open = 0_u8;
    for unit in units(path) {
        let left = core::mem::take(&mut open);
        match unit {
            Unit::Byte(b'/') if out.last() == Some(&b'/') => {}
            Unit::Encoded(_, byte) if is_unreserved(byte) && left == 0 => out.push(byte),
            Unit::Encoded(triplet, _) => out.extend_from_slice(&triplet),
            Unit::Byte(byte) => {
                open = if byte.is_ascii_hexdigit() { left.saturating_sub(1) } else { 0 };
                out.push(byte);
            }
            Unit::Broken => {
                open = 2;
                out.push(b'%');
            }
        }
    }
}

/// Writes the hexadecimal digits of escapes in upper case (RFC 3986 section 6.2.2.1).
pub fn raise_digits(path: &mut [u8]) {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        rest = rest.get_mut(at + 1..).unwrap_or_default();
        if let Some(digits) = rest.get_mut(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            digits.make_ascii_uppercase();
        }
    }
}

/// Writes a normal path with each backslash as a slash; repeated slashes are merged.
fn with_slashes(normal: &[u8], out: &mut Vec<u8>) {
    for unit in units(normal) {
        match unit {
            Unit::Byte(b'/' | b'\\') | Unit::Encoded(_, b'\\') => {
                if out.last() != Some(&b'/') {
                    out.push(b'/');
                }
            }
            Unit::Byte(byte) => out.push(byte),
            Unit::Encoded(triplet, _) => out.extend_from_slice(&triplet),
            Unit::Broken => out.push(b'%'),
        }
    }
}

/// One unit of a path.
#[derive(Clone, Copy)]
enum Unit {
    /// A byte other than `%`.
    Byte(u8),
    /// An escape and the byte that it encodes.
    Encoded([u8; 3], u8),
    /// A `%` that begins no escape.
    Broken,
}

impl Unit {
    fn len(self) -> usize {
        if matches!(self, Self::Encoded(..)) { 3 } else { 1 }
    }
}

fn units(bytes: &[u8]) -> impl Iterator<Item = Unit> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let unit = match rest {
            [] => return None,
            [b'%', high, low, ..] => match hex_digit(*high).zip(hex_digit(*low)) {
                Some((value, digit)) => Unit::Encoded([b'%', *high, *low], value << 4 | digit),
                None => Unit::Broken,
            },
            [b'%', ..] => Unit::Broken,
            [byte, ..] => Unit::Byte(*byte),
        };
        rest = rest.get(unit.len()..).unwrap_or_default();
        Some(unit)
    })
}

/// Whether `byte` is an unreserved character (RFC 3986 section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
