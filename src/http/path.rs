//! Paths in the form that routing and forwarding agree on: what to refuse, and what to rewrite
//! (RFC 3986 section 6.2.2). Queries are left alone.

use crate::http::number::hex_digit;

/// What has to be done about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// It can be used as it stands.
    Clean,
    /// It means the same as its normalised form, which has to be used instead.
    Normalise,
    /// Readers disagree about what it means.
    Refused(PathError),
}

/// Why a path is refused: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It does not begin with a slash.
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    BadPercent,
    /// `%00`.
    EncodedNul,
    /// `%01` to `%1f` or `%7f`: the end of a line or of a log entry for whoever decodes it.
    EncodedControl,
    /// `\` or `%5c`: a separator for some.
    Backslash,
    /// `%2f` next to a dot segment: a separator for some.
    EncodedSlash,
    /// Dot segments that lead above the root.
    AboveRoot,
}

impl PathError {
    /// The reason code.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::BadPercent => "path_bad_percent",
            Self::EncodedNul => "path_encoded_nul",
            Self::EncodedControl => "path_encoded_control",
            Self::Backslash => "path_backslash",
            Self::EncodedSlash => "path_encoded_slash",
            Self::AboveRoot => "path_above_root",
        }
    }
}

/// Judges a path, or the `*` of OPTIONS. Most are clean, and known to be after one look at each byte.
pub fn inspect(path: &[u8]) -> PathForm {
    if path == b"*" {
        return PathForm::Clean;
    }
    if path.first() != Some(&b'/') {
        return PathForm::Refused(PathError::NotAbsolute);
    }
    if is_plain(path) {
        return PathForm::Clean;
    }
    let mut changes = false;
    let mut depth = 0_usize;
    for segment in segments(path) {
        match judge(segment.bytes) {
            Err(error) => return PathForm::Refused(error),
            Ok(Segment { has_unreserved, kind }) => {
                changes |= has_unreserved;
                match kind {
                    Kind::Plain => depth += 1,
                    Kind::Empty => changes |= !segment.is_last,
                    Kind::Dot => changes = true,
                    Kind::DotDot if depth == 0 => return PathForm::Refused(PathError::AboveRoot),
                    Kind::DotDot => (depth, changes) = (depth - 1, true),
                }
            }
        }
    }
    if changes { PathForm::Normalise } else { PathForm::Clean }
}

/// Writes the normalised form of a path and returns its length: dot segments resolved, empty segments merged, encoded
/// unreserved characters decoded. All else, the case of hexadecimal digits included, stays as it was.
///
/// `None` if `inspect` refuses the path or `out` is too short; `path.len()` bytes are always enough.
pub fn normalise(path: &[u8], out: &mut [u8]) -> Option<usize> {
    if path.first() != Some(&b'/') {
        return None;
    }
    // Invariant: out[..len] is the normalised form of the segments so far and ends with a slash.
    let mut len = 0;
    push(out, &mut len, b'/')?;
    for segment in segments(path) {
        match judge(segment.bytes).ok()?.kind {
            Kind::Empty | Kind::Dot => {}
            Kind::DotDot => {
                let parent = out.get(..len.checked_sub(1)?)?;
                len = parent.iter().rposition(|byte| *byte == b'/')? + 1;
            }
            Kind::Plain => {
                for unit in units(segment.bytes) {
                    match unit {
                        Unit::Encoded(_, byte) if is_unreserved(byte) => push(out, &mut len, byte)?,
                        Unit::Encoded(triplet, _) => {
                            for byte in triplet {
                                push(out, &mut len, byte)?;
                            }
                        }
                        Unit::Byte(byte) => push(out, &mut len, byte)?,
                        Unit::Broken => return None,
                    }
                }
                if !segment.is_last {
                    push(out, &mut len, b'/')?;
                }
            }
        }
    }
    Some(len)
}

fn push(out: &mut [u8], len: &mut usize, byte: u8) -> Option<()> {
    *out.get_mut(*len)? = byte;
    *len += 1;
    Some(())
}

/// Nothing that could have to be refused or rewritten: no `%`, no `\`, no segment that is empty or begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let next = path.get(1..).unwrap_or_default();
    // Pairs of neighbours, in pieces of fixed size for the vectoriser; the last piece overlaps the one before.
    match (path.get(..next.len()).and_then(<[u8]>::last_chunk), next.last_chunk()) {
        (Some(last), Some(next_last)) => {
            let (pieces, nexts) = (path.as_chunks::<PIECE>().0, next.as_chunks::<PIECE>().0);
            !has_odd(last, next_last) && !pieces.iter().zip(nexts).any(|(piece, next)| has_odd(piece, next))
        }
        _ => !path.iter().zip(next.iter().chain([&0])).any(|(byte, next)| is_odd(*byte, *next)),
    }
}

const PIECE: usize = 16;

/// `path[0]` is a slash, so what can stand last is looked at as a neighbour too.
#[inline(always)]
fn has_odd(piece: &[u8; PIECE], next: &[u8; PIECE]) -> bool {
    piece.iter().zip(next).fold(false, |odd, (byte, next)| odd | is_odd(*byte, *next))
}

#[inline(always)]
fn is_odd(byte: u8, next: u8) -> bool {
    (byte == b'%')
        | (byte == b'\\')
        | (next == b'%')
        | (next == b'\\')
        | ((byte == b'/') & ((next == b'/') | (next == b'.')))
}

struct Part<'a> {
    bytes: &'a [u8],
    is_last: bool,
}

/// What stands between slashes.
fn segments(path: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = path.strip_prefix(b"/");
    core::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.iter().position(|byte| *byte == b'/');
        rest = end.and_then(|end| bytes.get(end + 1..));
        Some(Part { bytes: end.and_then(|end| bytes.get(..end)).unwrap_or(bytes), is_last: end.is_none() })
    })
}

struct Segment {
    /// It has an encoded character that need not be encoded.
    has_unreserved: bool,
    kind: Kind,
}

enum Kind {
    Empty,
    Dot,
    DotDot,
    Plain,
}

/// Judges one segment. Dots count with or without encoding, and with parameters behind them (`..;x`), which some
/// readers cut off before they resolve dot segments.
fn judge(segment: &[u8]) -> Result<Segment, PathError> {
    let mut found = Segment { has_unreserved: false, kind: Kind::Plain };
    let (mut has_slash, mut has_dots) = (false, false);
    let mut dots = Dots::default();
    for unit in units(segment) {
        match unit {
            Unit::Broken => return Err(PathError::BadPercent),
            Unit::Encoded(_, 0) => return Err(PathError::EncodedNul),
            Unit::Encoded(_, byte) if byte.is_ascii_control() => return Err(PathError::EncodedControl),
            Unit::Byte(b'\\') | Unit::Encoded(_, b'\\') => return Err(PathError::Backslash),
            Unit::Encoded(_, b'/') => {
                has_slash = true;
                has_dots |= dots.is_dot_segment();
                dots = Dots::default();
            }
            Unit::Byte(byte) => dots.take(byte),
            Unit::Encoded(_, byte) => {
                found.has_unreserved |= is_unreserved(byte);
                // Only a character that need not be encoded means the same in both forms.
                dots.take(if is_unreserved(byte) { byte } else { b'x' });
            }
        }
    }
    if has_slash && (has_dots || dots.is_dot_segment()) {
        return Err(PathError::EncodedSlash);
    }
    found.kind = match dots {
        _ if segment.is_empty() => Kind::Empty,
        _ if has_slash || !dots.is_dot_segment() => Kind::Plain,
        Dots { count: 1, .. } => Kind::Dot,
        _ => Kind::DotDot,
    };
    Ok(found)
}

/// Whether a segment without its parameters is one or two dots.
#[derive(Clone, Copy, Default)]
struct Dots {
    count: usize,
    has_other: bool,
    in_parameters: bool,
}

impl Dots {
    fn take(&mut self, byte: u8) {
        match byte {
            _ if self.in_parameters => {}
            b';' => self.in_parameters = true,
            b'.' => self.count += 1,
            _ => self.has_other = true,
        }
    }

    fn is_dot_segment(self) -> bool {
        !self.has_other && matches!(self.count, 1 | 2)
    }
}

enum Unit {
    Byte(u8),
    /// A triplet and the byte it encodes.
    Encoded([u8; 3], u8),
    Broken,
}

fn units(bytes: &[u8]) -> impl Iterator<Item = Unit> {
    let mut rest = bytes;
    core::iter::from_fn(move || match rest {
        [] => None,
        [b'%', high, low, behind @ ..] => {
            let byte = hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low);
            let triplet = [b'%', *high, *low];
            rest = behind;
            Some(byte.map_or(Unit::Broken, |byte| Unit::Encoded(triplet, byte)))
        }
        [b'%', ..] => {
            rest = &[];
            Some(Unit::Broken)
        }
        [byte, behind @ ..] => {
            rest = behind;
            Some(Unit::Byte(*byte))
        }
    })
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        use PathError::*;
        let cases: [(&str, Result<&str, PathError>); 42] = [
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/b/", Ok("/a/b/")),
            ("/a.b/c..d/...", Ok("/a.b/c..d/...")),
            ("/a/../b", Ok("/b")),
            ("/a/./b", Ok("/a/b")),
            ("/a/..", Ok("/")),
            ("/a/b/..", Ok("/a/")),
            ("/a/.", Ok("/a/")),
            ("/a/%2E%2e/b", Ok("/b")),
            ("/a/.%2e/b", Ok("/b")),
            ("/a/..;/b", Ok("/b")),
            ("/a/..;x=y/b", Ok("/b")),
            ("/a/.;/b", Ok("/a/b")),
            ("/a//b", Ok("/a/b")),
            ("/a///", Ok("/a/")),
            ("//a", Ok("/a")),
            ("/%61%62%7E", Ok("/ab~")),
            ("/a%20HTTP/1.1%0d%0aX:b", Err(EncodedControl)),
            ("/a%23b%3fc", Ok("/a%23b%3fc")),
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%252e", Ok("/a%252e")),
            ("/a/..b/.c", Ok("/a/..b/.c")),
            ("/a/;x/b;y", Ok("/a/;x/b;y")),
            ("/a/../../b", Err(AboveRoot)),
            ("/..", Err(AboveRoot)),
            ("/a//../../b", Err(AboveRoot)),
            ("/%2e%2e/b", Err(AboveRoot)),
            ("/a/..%2f..%2fb", Err(EncodedSlash)),
            ("/a/b%2F%2e%2e", Err(EncodedSlash)),
            ("/a\\..\\b", Err(Backslash)),
            ("/a%5c..%5Cb", Err(Backslash)),
            ("/a%00b", Err(EncodedNul)),
            ("/a%0d%0aHost:b", Err(EncodedControl)),
            ("/a%1Fb", Err(EncodedControl)),
            ("/a%7f", Err(EncodedControl)),
            ("/a%20b%80", Ok("/a%20b%80")),
            ("/a/%u002e", Err(BadPercent)),
            ("/a%zz", Err(BadPercent)),
            ("/a%2", Err(BadPercent)),
            ("/a%", Err(BadPercent)),
            ("a", Err(NotAbsolute)),
        ];
        for (path, want) in cases {
            let mut out = vec![0; path.len()];
            let got = normalise(path.as_bytes(), &mut out).map(|len| &out[..len]);
            assert_eq!(got, want.ok().map(str::as_bytes), "{path}");
            let form = match want {
                Ok(same) if same == path => PathForm::Clean,
                Ok(_) => PathForm::Normalise,
                Err(error) => PathForm::Refused(error),
            };
            assert_eq!(inspect(path.as_bytes()), form, "{path}");
            if let Ok(normal) = want {
                assert_eq!(inspect(normal.as_bytes()), PathForm::Clean, "{path}");
            }
        }
    }
}
