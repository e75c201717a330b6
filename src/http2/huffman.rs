//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B). Not here: lengths and the flag that says that a string is coded.
//!
//! The code is canonical: codes of one length count up in the order of the symbols, and each length begins where the shorter one
//! ended. So the lengths are all that is written down; codes and tables are computed from them when this is compiled.
//!
//! The decoder looks up [`QUICK_BITS`] bits at a time, which are one or two symbols: two of the common ones have ten to twelve bits
//! together. Longer codes, those of rare bytes, are found by their lengths.

/// Bits of the code of each byte, and of EOS, which no string contains.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];
/// Most bits of a code.
const LONGEST: u32 = 30;
/// The symbol that is no byte.
const EOS: usize = 256;

/// Bits that one look-up reads. 8 KiB of tables; with 12 bits they would be 16 KiB, and a tenth faster as long as they are in the cache.
const QUICK_BITS: u32 = 11;

/// Symbols of one length.
#[derive(Clone, Copy)]
struct Class {
    /// The first code, in the highest bits of 32.
    first: u32,
    /// The position of its symbol in `SORTED`.
    position: u16,
}

/// Symbols in the order of their codes.
static SORTED: [u16; 257] = CODE.sorted;
/// The code of each byte.
static CODES: [u32; 257] = CODE.codes;
/// Symbols by length.
static CLASSES: [Class; LONGEST as usize + 2] = CODE.classes;
/// One or two symbols for each value of the next bits.
static QUICK: [Quick; 1 << QUICK_BITS] = quick();

struct Code {
    codes: [u32; 257],
    sorted: [u16; 257],
    classes: [Class; LONGEST as usize + 2],
}

const CODE: Code = {
    let mut code = Code {
        codes: [0; 257],
        sorted: [0; 257],
        classes: [Class { first: u32::MAX, position: 257 }; LONGEST as usize + 2],
    };
    let (mut next, mut position, mut length) = (0u64, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.classes[length as usize] = Class { first: (next << (32 - length)) as u32, position: position as u16 };
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as u32 == length {
                code.codes[symbol] = next as u32;
                code.sorted[position] = symbol as u16;
                next += 1;
                position += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    assert!(next == 1 << LONGEST && position == 257, "the code is complete");
    code
};

/// What the next bits are.
#[derive(Clone, Copy)]
struct Quick {
    /// One or two symbols.
    symbols: [u8; 2],
    /// How many; 0: the code is longer.
    count: u8,
    /// Bits of all of them.
    bits: u8,
}

const fn quick() -> [Quick; 1 << QUICK_BITS] {
    let mut table = [Quick { symbols: [0; 2], count: 0, bits: 0 }; 1 << QUICK_BITS];
    let mut first = 0;
    while first < EOS {
        let bits = LENGTHS[first] as u32;
        if bits <= QUICK_BITS {
            let room = QUICK_BITS - bits;
            let start = (CODE.codes[first] as usize) << room;
            let mut rest = 0;
            while rest < 1 << room {
                table[start + rest] = Quick { symbols: [first as u8, 0], count: 1, bits: bits as u8 };
                rest += 1;
            }
            let mut second = 0;
            while second < EOS {
                let more = LENGTHS[second] as u32;
                if more <= room {
                    let start = start + ((CODE.codes[second] as usize) << (room - more));
                    let both = Quick { symbols: [first as u8, second as u8], count: 2, bits: (bits + more) as u8 };
                    let mut rest = 0;
                    while rest < 1 << (room - more) {
                        table[start + rest] = both;
                        rest += 1;
                    }
                }
                second += 1;
            }
        }
        first += 1;
    }
    table
}

/// Why a string cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HuffmanError {
    /// It contains EOS, or ends with more than seven bits of padding, or with padding that is not all ones.
    Malformed,
    /// There is no room for its symbols.
    NoRoom,
}

/// A decoder of one string, which may arrive in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct HuffmanDecoder {
    /// Bits that are not decoded, from the highest.
    bits: u64,
    /// Their number: fewer than [`LONGEST`] between two pieces.
    count: u32,
}

impl HuffmanDecoder {
    /// A decoder at the beginning of a string.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: 0, count: 0 }
    }

    /// Decodes a piece. Returns how many bytes were written; some of the last symbols may come with the next piece or the end.
    ///
    /// # Errors
    /// The string is malformed, or `out` is too short; then what was written is of no use.
    pub fn decode(&mut self, piece: &[u8], out: &mut [u8]) -> Result<usize, HuffmanError> {
        let (mut at, mut written) = (0, 0);
        // Local copies stay in registers.
        let Self { mut bits, mut count } = *self;
        loop {
            if let Some(word) = piece.get(at..).and_then(<[u8]>::first_chunk) {
                // As many whole bytes as there is room for. Bits of the next byte are set, too, and will be set again to the same values.
                bits |= u64::from_be_bytes(*word) >> count;
                let bytes = (63 - count) >> 3;
                at += bytes as usize;
                count += bytes * 8;
            } else {
                while let Some(byte) = piece.get(at).filter(|_| count <= 56) {
                    bits |= u64::from(*byte) << (56 - count);
                    at += 1;
                    count += 8;
                }
                if count < LONGEST {
                    *self = Self { bits, count };
                    return Ok(written);
                }
            }
            while count >= LONGEST {
                let quick = QUICK[(bits >> (64 - QUICK_BITS)) as usize];
                let (symbols, symbol_count, used) = match quick.count {
                    0 => {
                        let (symbol, used) = long(bits)?;
                        ([symbol, 0], 1, used)
                    }
                    symbol_count => (quick.symbols, usize::from(symbol_count), u32::from(quick.bits)),
                };
                match out.get_mut(written..).and_then(<[u8]>::first_chunk_mut) {
                    Some(slot) => *slot = symbols,
                    // The last byte of the room.
                    None => match out.get_mut(written) {
                        Some(slot) if symbol_count == 1 => *slot = symbols[0],
                        _ => return Err(HuffmanError::NoRoom),
                    },
                }
                written += symbol_count;
                bits <<= used;
                count -= used;
            }
        }
    }

    /// Decodes what is left when all pieces have arrived.
    ///
    /// # Errors
    /// As for [`HuffmanDecoder::decode`].
    pub fn finish(&mut self, out: &mut [u8]) -> Result<usize, HuffmanError> {
        let mut written = 0;
        loop {
            let padded = self.bits | u64::MAX >> self.count;
            let quick = QUICK[(padded >> (64 - QUICK_BITS)) as usize];
            let (symbol, used) = match quick.count {
                // Padding of up to seven bits: no code is a part of it.
                0 if self.count < 8 => break,
                0 => long(padded)?,
                _ => (quick.symbols[0], u32::from(LENGTHS[usize::from(quick.symbols[0])])),
            };
            if used > self.count {
                break;
            }
            *out.get_mut(written).ok_or(HuffmanError::NoRoom)? = symbol;
            written += 1;
            self.bits <<= used;
            self.count -= used;
        }
        let is_padding = self.count < 8 && (self.bits | u64::MAX >> self.count) == u64::MAX;
        *self = Self::new();
        if is_padding { Ok(written) } else { Err(HuffmanError::Malformed) }
    }
}

/// The symbol whose code is at the beginning of `bits` and has more than [`QUICK_BITS`] bits.
#[cold]
fn long(bits: u64) -> Result<(u8, u32), HuffmanError> {
    let bits = (bits >> 32) as u32;
    let mut length = QUICK_BITS + 1;
    while length < LONGEST && bits >= CLASSES[length as usize + 1].first {
        length += 1;
    }
    let class = CLASSES[length as usize];
    let offset = (bits.wrapping_sub(class.first) >> (32 - length)) as usize;
    let symbol = SORTED.get(usize::from(class.position) + offset).copied().unwrap_or(EOS as u16);
    match u8::try_from(symbol) {
        Ok(symbol) => Ok((symbol, length)),
        Err(_) => Err(HuffmanError::Malformed),
    }
}

/// Bytes of a string in the code.
#[must_use]
pub fn encoded_len(text: impl Iterator<Item = u8>) -> usize {
    text.map(|byte| usize::from(LENGTHS[usize::from(byte)])).sum::<usize>().div_ceil(8)
}

/// Writes a string in the code at the beginning of `out`. Returns how many bytes, or `None` if there is no room.
pub fn encode(text: impl Iterator<Item = u8>, out: &mut [u8]) -> Option<usize> {
    let (mut bits, mut count, mut at) = (0u64, 0u32, 0);
    for byte in text {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << length | u64::from(CODES[usize::from(byte)]);
        count += length;
        if count >= 32 {
            count -= 32;
            out.get_mut(at..at + 4)?.copy_from_slice(&((bits >> count) as u32).to_be_bytes());
            at += 4;
        }
    }
    while count > 0 {
        let byte = if count >= 8 { bits >> (count - 8) } else { bits << (8 - count) | 0xff >> count };
        *out.get_mut(at)? = byte as u8;
        at += 1;
        count = count.saturating_sub(8);
    }
    Some(at)
}
