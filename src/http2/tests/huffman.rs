//! The Huffman code, against the RFC and against another implementation.

use httlib_huffman::DecoderSpeed;

use super::{Random, hex, runs};
use crate::http2::huffman::{HuffmanDecoder, HuffmanError, encode, encoded_len};

fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, HuffmanError> {
    let mut out = vec![0; pieces.iter().map(|piece| piece.len()).sum::<usize>() * 2];
    let (mut decoder, mut len) = (HuffmanDecoder::new(), 0);
    for piece in pieces {
        len += decoder.decode(piece, &mut out[len..])?;
    }
    len += decoder.finish(&mut out[len..])?;
    out.truncate(len);
    Ok(out)
}

fn encoded(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; encoded_len(text.iter().copied())];
    assert_eq!(encode(text.iter().copied(), &mut out), Some(out.len()));
    out
}

/// Strings of RFC 7541 appendix C.
#[test]
fn examples_of_the_rfc() {
    for (text, code) in [
        ("www.example.com", "f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        ("no-cache", "a8eb 1064 9cbf"),
        ("custom-key", "25a8 49e9 5ba9 7d7f"),
        ("custom-value", "25a8 49e9 5bb8 e8b4 bf"),
        ("302", "6402"),
        ("private", "aec3 771a 4b"),
        ("Mon, 21 Oct 2013 20:13:21 GMT", "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"),
        ("https://www.example.com", "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"),
        ("", ""),
    ] {
        assert_eq!(encoded(text.as_bytes()), hex(code), "{text}");
        assert_eq!(decode(&[&hex(code)]).as_deref(), Ok(text.as_bytes()), "{text}");
    }
}

#[test]
fn padding_and_eos_are_checked() {
    for (code, want) in [
        ("ff", Err(HuffmanError::Malformed)),
        ("ffffffff", Err(HuffmanError::Malformed)),
        ("fffffffc", Err(HuffmanError::Malformed)),
        // `0` is 00000: three bits of padding, of which one is 0.
        ("07", Ok(&b"0"[..])),
        ("06", Err(HuffmanError::Malformed)),
        ("03", Err(HuffmanError::Malformed)),
        // Eight bits of padding behind a whole byte.
        ("f8ff", Err(HuffmanError::Malformed)),
        ("f8", Ok(b"&")),
        // Half of a long code.
        ("fffe", Err(HuffmanError::Malformed)),
        ("ff ff ff f3", Ok(b"\n")),
        ("ff ff ff f2", Err(HuffmanError::Malformed)),
    ] {
        assert_eq!(decode(&[&hex(code)]).as_deref(), want.as_ref().map(|text| *text), "{code}");
    }
}

#[test]
fn room_is_respected() {
    let code = encoded(b"www.example.com");
    for room in 0..15 {
        let (mut out, mut decoder) = (vec![0; room], HuffmanDecoder::new());
        let result = decoder.decode(&code, &mut out).and_then(|len| decoder.finish(&mut out[len..]));
        assert_eq!(result, Err(HuffmanError::NoRoom), "{room}");
        assert_eq!(encode(b"www.example.com".iter().copied(), &mut vec![0; room.min(code.len() - 1)]), None);
    }
}

/// Every string reads back, whatever its bytes and the cuts; and another decoder reads the same.
#[test]
fn strings_read_back_in_any_cuts() {
    let mut random = Random(1);
    for run in 0..runs(20_000) {
        let text: Vec<u8> = match run % 3 {
            0 => random.bytes(40),
            1 => (0..random.below(100)).map(|_| *random.one(b"abcdefghijklmnopqrstuvwxyz-0123456789=./%")).collect(),
            _ => (0..random.below(20)).map(|_| 32 + random.below(95) as u8).collect(),
        };
        let code = encoded(&text);
        let (one, two) = (random.below(code.len() + 1), random.below(code.len() + 1));
        let (start, end) = (one.min(two), one.max(two));
        assert_eq!(decode(&[&code[..start], &code[start..end], &code[end..]]).as_ref(), Ok(&text));
        let mut other = Vec::new();
        httlib_huffman::decode(&code, &mut other, DecoderSpeed::FourBits).expect("valid");
        assert_eq!(other, text);
        let mut other = Vec::new();
        httlib_huffman::encode(&text, &mut other).expect("valid");
        assert_eq!(other, code);
    }
}

/// Random bytes are accepted exactly if they are what the encoder writes: there is one code for each string.
#[test]
fn the_code_of_a_string_is_unique() {
    let mut random = Random(2);
    let mut valid = 0;
    for _ in 0..runs(200_000) {
        let mut code = random.bytes(6);
        if let (Some(last), true) = (code.last_mut(), random.below(2) == 0) {
            *last |= (1 << random.below(8)) - 1;
        }
        if let Ok(text) = decode(&[&code]) {
            assert_eq!(encoded(&text), code);
            valid += 1;
        }
    }
    assert!(valid > 1000, "{valid}");
}
