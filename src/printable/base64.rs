//! Bytes as text in Base64 with padding (RFC 4648 section 4). Not here: reading it.

/// The digits, by value.
pub const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The characters of the text, four for each three bytes; nothing is allocated.
pub fn base64(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.chunks(3).flat_map(|three| {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digit = move |at: usize| DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
        (0..4).map(move |at| if at <= three.len() { digit(at) } else { b'=' })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648 section 10.
    #[test]
    fn base64_is_padded() {
        let text = |bytes: &[u8]| base64(bytes).map(char::from).collect::<String>();
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            assert_eq!(text(bytes.as_bytes()), expected);
        }
        assert_eq!(text(&[0xfb, 0xff, 0xbf]), "+/+/");
    }
}
