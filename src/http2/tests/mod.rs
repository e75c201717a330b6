//! Tests of the codec that concern more than one file of it.

mod encode;
mod frames;
mod head;
mod hpack;
mod huffman;

/// A small generator, so that a failure repeats.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }

    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Up to `longest` bytes.
    pub(super) fn bytes(&mut self, longest: usize) -> Vec<u8> {
        (0..self.below(longest + 1)).map(|_| self.next() as u8).collect()
    }
}

/// Bytes from text with two hexadecimal digits for each.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).expect("ASCII"), 16).expect("digits");
    digits.chunks(2).map(value).collect()
}

/// How often tests with random input run: as often as given, or as often as `CAIRN_HTTP2_RUNS` says.
pub(super) fn runs(usual: usize) -> usize {
    std::env::var("CAIRN_HTTP2_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(usual)
}
