//! A range of a head, by offset and length: valid for the bytes that were parsed, and for a copy of them. Not here: the bytes.

/// Bytes `start..start + len` of a head. Heads are shorter than `limits::HEAD_BYTES_MAX`, so 16 bits are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u16,
    /// Number of bytes.
    pub len: u16,
}

impl Span {
    /// The span from `start` to before `end`, both within a head.
    #[inline(always)]
    pub(super) fn between(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self { start: start as u16, len: end.wrapping_sub(start) as u16 }
    }

    /// The bytes of the span; empty if `head` is too short, and so cannot be the head that was parsed.
    #[inline]
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..self.end()).unwrap_or_default()
    }

    /// Offset of the byte after the last.
    #[inline]
    pub fn end(self) -> usize {
        usize::from(self.start) + usize::from(self.len)
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}
