//! Integers of HPACK (RFC 7541 section 5.1), bounded. Not here: what they stand for.

/// Continuation bytes of one integer: 28 bits, more than any length or index that can be valid. What is longer is refused, so that no
/// integer wraps and none keeps the decoder busy.
const CONTINUATIONS: u32 = 4;

/// An integer whose prefix was full, while its continuation bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartialInteger {
    value: u32,
    shift: u32,
}

/// The integer has more bytes than any valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// An integer after its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    /// The byte holds it.
    Whole(u32),
    /// More bytes follow.
    Partial(PartialInteger),
}

impl Integer {
    /// Reads the first byte, whose lower `prefix` bits belong to the integer.
    #[inline]
    pub(super) fn begin(byte: u8, prefix: u32) -> Self {
        let mask = (1u32 << prefix) - 1;
        match u32::from(byte) & mask {
            value if value < mask => Self::Whole(value),
            value => Self::Partial(PartialInteger { value, shift: 0 }),
        }
    }
}

impl PartialInteger {
    /// Takes a continuation byte. Returns the integer if it is the last one.
    #[inline]
    pub(super) fn next(&mut self, byte: u8) -> Result<Option<u32>, TooLong> {
        if self.shift >= 7 * CONTINUATIONS {
            return Err(TooLong);
        }
        // Four times seven bits and a prefix are less than 2^29.
        self.value += u32::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

/// Writes `value` with a prefix of `prefix` bits below `flags`. Returns how many bytes of `out` it takes, or `None` if there is no room.
#[inline]
pub(super) fn encode(value: u32, prefix: u32, flags: u8, out: &mut [u8]) -> Option<usize> {
    let mask = (1u32 << prefix) - 1;
    let first = out.first_mut()?;
    if value < mask {
        *first = flags | value as u8;
        return Some(1);
    }
    *first = flags | mask as u8;
    let (mut rest, mut at) = (value - mask, 1);
    while rest >= 0x80 {
        *out.get_mut(at)? = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    *out.get_mut(at)? = rest as u8;
    Some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], prefix: u32) -> Result<Option<u32>, TooLong> {
        let mut partial = match Integer::begin(bytes[0], prefix) {
            Integer::Whole(value) => return Ok(Some(value)),
            Integer::Partial(partial) => partial,
        };
        for byte in &bytes[1..] {
            if let Some(value) = partial.next(*byte)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// RFC 7541 appendix C.1.
    #[test]
    fn examples_of_the_rfc() {
        for (value, prefix, bytes) in [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a])] {
            let mut out = [0; 8];
            assert_eq!(encode(value, prefix, 0, &mut out), Some(bytes.len()));
            assert_eq!(&out[..bytes.len()], bytes);
            assert_eq!(decode(bytes, prefix), Ok(Some(value)));
        }
    }

    #[test]
    fn integers_are_bounded() {
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0x7f], 7), Ok(Some((1 << 28) + 126)));
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x00], 7), Err(TooLong));
        assert_eq!(decode(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], 7), Err(TooLong), "zeros count");
        assert_eq!(decode(&[0x7f, 0x80, 0x80], 7), Ok(None));
    }

    #[test]
    fn what_is_written_reads_back() {
        for prefix in 4..=8 {
            for value in (0..70_000).chain([(1 << 24) - 1, 1 << 28]) {
                let mut out = [0; 8];
                let len = encode(value, prefix, 0, &mut out).expect("room");
                assert_eq!(decode(&out[..len], prefix), Ok(Some(value)));
                assert_eq!(encode(value, prefix, 0, &mut out[..len - 1]), None);
            }
        }
    }
}
