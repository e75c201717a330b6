//! Numbers in messages: digits only, bounded. `str::parse` is not used, because it accepts a sign. Not here: which fields hold them.

use crate::limits::BODY_LENGTH_MAX;

/// Most digits of a decimal length: enough for `BODY_LENGTH_MAX`, and too few to overflow a `u64`.
const DECIMAL_DIGITS: usize = 19;
/// Most digits of a chunk size, leading zeros included.
pub(super) const HEX_DIGITS: usize = 16;

/// Parses `1*DIGIT` of at most 19 digits, at most `BODY_LENGTH_MAX` (RFC 9110 section 8.6).
#[inline(always)]
pub fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DECIMAL_DIGITS {
        return None;
    }
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits are less than 2^64.
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    (value <= BODY_LENGTH_MAX).then_some(value)
}

/// The value of one hexadecimal digit.
#[inline(always)]
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    let value = HEX_VALUES[usize::from(byte)];
    (value < 16).then_some(value)
}

/// Value of each byte as a hexadecimal digit; 16 for other bytes.
const HEX_VALUES: [u8; 256] = {
    let mut table = [16; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value];
        table[digit as usize] = value as u8;
        table[digit.to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    table
};

/// Writes `value` in decimal, right-aligned in `out`, and returns the digits.
pub fn write_decimal(value: u64, out: &mut [u8; 20]) -> &[u8] {
    write_digits(value, 10, out)
}

/// Writes `value` in lower-case hexadecimal, right-aligned in `out`, and returns the digits.
pub fn write_hex(value: u64, out: &mut [u8; 16]) -> &[u8] {
    write_digits(value, 16, out)
}

#[inline(always)]
fn write_digits(mut value: u64, base: u64, out: &mut [u8]) -> &[u8] {
    let mut digits = 0;
    for slot in out.iter_mut().rev() {
        *slot = b"0123456789abcdef"[(value % base) as usize];
        digits += 1;
        value /= base;
        if value == 0 {
            break;
        }
    }
    &out[out.len() - digits..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits_and_bounded() {
        for (text, want) in [
            ("0", Some(0)),
            ("0000000010", Some(10)),
            ("4611686018427387903", Some(BODY_LENGTH_MAX)),
            ("4611686018427387904", None),
            ("18446744073709551621", None),
            ("00000000000000000005", None),
            ("", None),
            ("+5", None),
            ("-0", None),
            ("5 5", None),
            ("0x5", None),
            ("5,5", None),
            ("\u{0665}", None),
        ] {
            assert_eq!(parse_decimal(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn written_numbers_read_back() {
        for value in [0, 1, 9, 10, 255, 65_536, BODY_LENGTH_MAX, u64::MAX] {
            assert_eq!(write_decimal(value, &mut [0; 20]), value.to_string().as_bytes());
            assert_eq!(write_hex(value, &mut [0; 16]), format!("{value:x}").as_bytes());
        }
    }
}
