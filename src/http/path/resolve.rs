//! Removes dot segments from a path, in every spelling that some origin resolves. Not here: other changes; the rest of the path stays as
//! received.

use super::{EncodedSlash, PathError, Rules, Unit, units};

/// Writes `path`, which begins with a slash, without its dot segments. Returns whether the result has a backslash, encoded or not.
///
/// `..` between slashes removes the segment between the two slashes before it (RFC 3986 section 5.2.4). Next to another separator it is
/// a dot segment only for origins that treat that byte as a separator, and it removes the segment that they would remove.
///
/// # Errors
/// See [`PathError`]. A path is refused as leading above the root if it does so for any origin: one that merges empty segments, or one
/// that knows more separators.
pub(super) fn resolve(path: &[u8], rules: Rules, out: &mut Vec<u8>) -> Result<bool, PathError> {
    // Invariant: `out` ends with a separator when a segment begins.
    out.clear();
    out.push(b'/');
    // Number of segments that `..` can remove for every origin. Between two slashes at most one counts, because origins disagree about
    // other separators; none counts if all are empty or have parameters only.
    let mut plain_segments = 0_usize;
    let mut counted = false;
    let mut before = Separator::Slash;
    for segment in segments(path, rules.encoded_slash) {
        let kind = classify(segment.bytes, rules.strict)?;
        let soft = before != Separator::Slash || segment.after.is_some_and(|(after, _)| after != Separator::Slash);
        match segment.after {
            Some((Separator::EncodedSlash, _)) if rules.encoded_slash == EncodedSlash::Refuse => {
                return Err(PathError::EncodedSlash);
            }
            Some((Separator::Backslash, _)) if rules.strict => return Err(PathError::Backslash),
            _ if rules.strict && soft && matches!(kind, SegmentKind::Dot | SegmentKind::DotDot) => {
                return Err(PathError::EncodedSlash);
            }
            _ => {}
        }
        match kind {
            SegmentKind::DotDot => {
                plain_segments = plain_segments.checked_sub(1).ok_or(PathError::AboveRoot)?;
                remove_last(out, !soft, rules.strict)?;
            }
            SegmentKind::Dot => {}
            SegmentKind::Empty | SegmentKind::Plain => {
                plain_segments += usize::from(kind == SegmentKind::Plain && !counted);
                counted |= kind == SegmentKind::Plain;
                out.extend_from_slice(segment.bytes);
                out.extend_from_slice(segment.after.map_or(b"", |(_, text)| text));
            }
        }
        before = segment.after.map_or(before, |(after, _)| after);
        counted = before != Separator::Slash && (counted || has_parameters(segment.bytes));
    }
    Ok(units(out).any(|unit| matches!(unit, Unit::Byte(b'\\') | Unit::Encoded(_, b'\\'))))
}

/// Removes the last segment of `out` with the separator behind it; with `whole`, everything back to the slash before it. Reads no
/// more than it removes, so that the cost of a path is linear in its length.
fn remove_last(out: &mut Vec<u8>, whole: bool, strict: bool) -> Result<(), PathError> {
    let separator = if out.ends_with(b"/") || out.ends_with(b"\\") { 1 } else { 3 };
    let written = out.get(..out.len() - separator).unwrap_or_default();
    let slash = |end: usize| written.get(end - 1) == Some(&b'/');
    let any = |end: usize| ends_with_separator(written.get(..end).unwrap_or_default());
    let mut ends = (1..=written.len()).rev();
    let start = if whole { ends.find(|end| slash(*end)) } else { ends.find(|end| any(*end)) };
    let start = start.ok_or(PathError::AboveRoot)?;
    let removed = written.get(start..).unwrap_or_default();
    let mixed = || (1..=removed.len()).any(|end| ends_with_separator(removed.get(..end).unwrap_or_default()));
    if strict && (classify(removed, false) == Ok(SegmentKind::Empty) || mixed()) {
        return Err(PathError::Ambiguous);
    }
    out.truncate(start);
    Ok(())
}

/// Whether `bytes` end with a separator. `%2f` at the end is always an escape, since no escape contains a `%`.
fn ends_with_separator(bytes: &[u8]) -> bool {
    matches!(bytes, [.., b'/' | b'\\'] | [.., b'%', b'2', b'f' | b'F'] | [.., b'%', b'5', b'c' | b'C'])
}

/// The bytes between two separators.
struct Segment<'a> {
    bytes: &'a [u8],
    /// The separator behind it, with the bytes to write for it; None: the path ends.
    after: Option<(Separator, &'a [u8])>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    /// A separator for all origins.
    Slash,
    /// `%2f` that is not decoded here: a separator for origins that decode before they resolve.
    EncodedSlash,
    /// `\` or `%5c`. The former is a separator in WHATWG URL; on Windows both are.
    Backslash,
}

fn segments(path: &[u8], encoded_slash: EncodedSlash) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = path.strip_prefix(b"/");
    core::iter::from_fn(move || {
        let bytes = rest?;
        let mut at = 0;
        for unit in units(bytes) {
            let found = match unit {
                Unit::Byte(b'/') => Some(Separator::Slash),
                Unit::Encoded(_, b'/') if encoded_slash == EncodedSlash::Decode => Some(Separator::Slash),
                Unit::Encoded(_, b'/') => Some(Separator::EncodedSlash),
                Unit::Byte(b'\\') | Unit::Encoded(_, b'\\') => Some(Separator::Backslash),
                _ => None,
            };
            let end = at + unit.len();
            if let Some(found) = found {
                let text = if found == Separator::Slash { b"/" } else { bytes.get(at..end)? };
                rest = bytes.get(end..);
                return Some(Segment { bytes: bytes.get(..at)?, after: Some((found, text)) });
            }
            at = end;
        }
        rest = None;
        Some(Segment { bytes, after: None })
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SegmentKind {
    /// A segment without bytes, or with parameters only.
    Empty,
    Dot,
    DotDot,
    Plain,
}

fn has_parameters(segment: &[u8]) -> bool {
    units(segment).any(|unit| matches!(unit, Unit::Byte(b';') | Unit::Encoded(_, b';')))
}

/// Classifies a segment. Dots count encoded or not, and also with parameters behind them (`..;x`), which some origins cut off
/// before they resolve dot segments, some of them after decoding the `;`.
fn classify(segment: &[u8], strict: bool) -> Result<SegmentKind, PathError> {
    let mut dots = 0_usize;
    let mut others = false;
    let mut in_parameters = false;
    for unit in units(segment) {
        let byte = match unit {
            Unit::Broken if strict => return Err(PathError::BadPercent),
            Unit::Encoded(_, 0) if strict => return Err(PathError::EncodedNul),
            Unit::Encoded(_, byte) if strict && byte.is_ascii_control() => return Err(PathError::EncodedControl),
            Unit::Broken => b'%',
            Unit::Byte(byte) | Unit::Encoded(_, byte) => byte,
        };
        match byte {
            _ if in_parameters => {}
            b';' => in_parameters = true,
            b'.' => dots += 1,
            _ => others = true,
        }
    }
    Ok(match dots {
        _ if others => SegmentKind::Plain,
        0 => SegmentKind::Empty,
        1 => SegmentKind::Dot,
        2 => SegmentKind::DotDot,
        _ => SegmentKind::Plain,
    })
}
