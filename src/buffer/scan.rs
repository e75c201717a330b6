//! SIMD byte classification, with the instruction set chosen at run time: which bytes end a field name, a field value, a request
//! target or a host name. Not here: HTTP messages; `http` decides what a mark means.
//!
//! The choice is made once for a whole head, not once for each search: [`run`] compiles a [`Scan`] for each set of
//! instructions, with all that is inlined into it.
#![allow(unsafe_code, reason = "vector intrinsics need it; every function on the outside is safe")]

#[cfg(target_arch = "x86_64")]
use core::sync::atomic::Ordering::Relaxed;

/// Bytes classified at once; one bit each in a `u64`.
const BLOCK: usize = 64;
/// Blocks classified ahead of the reader. Few, because a body may follow the head, whose bytes would be classified in vain.
const AHEAD: usize = 8;

/// Bytes that one call of the lanes classifies: half a block.
const PIECE: usize = 32;

/// A value that is filled from bytes by code that is compiled once for each set of instructions. Functions that this code calls are
/// compiled for the same set if they are `inline(always)`, and for the baseline of the target if they are not.
///
/// The arguments are passed one by one instead of as a tuple, so that they stay in registers.
pub trait Scan<A, B> {
    /// The result of a scan.
    type Output;

    /// Fills `into` from `buf`, with these lanes. Implementations have to be `inline(always)`.
    fn scan<L: Lanes>(lanes: L, buf: &[u8], a: A, b: B, into: &mut Self) -> Self::Output;
}

/// Fills `into` from `buf` with the best instructions that the machine has.
#[inline(always)]
pub fn run<S: Scan<A, B>, A, B>(buf: &[u8], a: A, b: B, into: &mut S) -> S::Output {
    #[cfg(target_arch = "x86_64")]
    if x86::DETECTED.load(Relaxed) {
        // SAFETY: the features were detected.
        return unsafe { x86::run(buf, a, b, into) };
    }
    run_undetected(buf, a, b, into)
}

/// Detects the features first. Apart from `run`, so that machines with the features pay nothing for it.
#[inline(never)]
fn run_undetected<S: Scan<A, B>, A, B>(buf: &[u8], a: A, b: B, into: &mut S) -> S::Output {
    #[cfg(target_arch = "x86_64")]
    if x86::detect() {
        // SAFETY: the features were detected.
        return unsafe { x86::run(buf, a, b, into) };
    }
    S::scan(Portable, buf, a, b, into)
}

/// Where field lines can end, a few blocks ahead: bit i of word n stands for byte `64 * n + i`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct FieldMarks {
    /// The byte is no tchar (RFC 9110 section 5.6.2), or it is `_`: few names have one, and those are read again, byte by byte.
    not_plain: [u64; AHEAD],
    /// The byte cannot stand in a field value: a control other than HTAB, or DEL (RFC 9110 section 5.5).
    not_value: [u64; AHEAD],
}

/// Reads field lines from left to right.
///
/// Invariant: `marks` describes `buf[base..base + AHEAD * BLOCK]`; bits of bytes beyond the end of `buf` are 0.
#[derive(Debug)]
pub struct FieldCursor<'a, L> {
    lanes: L,
    buf: &'a [u8],
    base: usize,
    marks: FieldMarks,
}

impl<'a, L: Lanes> FieldCursor<'a, L> {
    /// A cursor that has classified nothing yet.
    #[inline(always)]
    pub fn new(lanes: L, buf: &'a [u8]) -> Self {
        Self { lanes, buf, base: buf.len(), marks: FieldMarks::default() }
    }

    /// Classifies the first blocks from `at` on, where the first line begins. Apart from `new`, so that the marks are written in place.
    #[inline(always)]
    pub fn begin(&mut self, at: usize) {
        self.base = at;
        fields(self.lanes, self.buf, at, &mut self.marks);
    }

    /// For a line that begins at `at`: the number of bytes before the first that is no tchar or is `_`, and the number of bytes
    /// before the first that cannot be in a value; the number of all bytes if there is no such byte. The first number is at most
    /// the second. Lines have to be read in order.
    #[inline(always)]
    pub fn line(&mut self, at: usize) -> (u32, u32) {
        debug_assert!(at >= self.base, "a cursor only moves forward");
        let offset = at.wrapping_sub(self.base);
        let block = offset / BLOCK;
        if let (Some(plain), Some(value)) = (self.marks.not_plain.get(block), self.marks.not_value.get(block)) {
            let (plain, value) = (plain >> (offset % BLOCK), value >> (offset % BLOCK));
            if value != 0 {
                return (plain.trailing_zeros(), value.trailing_zeros());
            }
            // Most lines are shorter than a block, so they end in this one or the next.
            let block = block.wrapping_add(1);
            if let (Some(next_plain), Some(value)) = (self.marks.not_plain.get(block), self.marks.not_value.get(block))
                && *value != 0
            {
                let before = BLOCK as u32 - offset as u32 % BLOCK as u32;
                let plain = if plain != 0 { plain.trailing_zeros() } else { before + next_plain.trailing_zeros() };
                return (plain, before + value.trailing_zeros());
            }
        }
        self.long_line(at)
    }

    /// The same for a line that covers more than two blocks, or goes beyond those that are classified.
    #[inline(never)]
    fn long_line(&mut self, at: usize) -> (u32, u32) {
        let length = |end: usize| (end - at) as u32;
        let mut plain = None;
        let mut from = at;
        loop {
            let offset = from - self.base;
            let block = offset / BLOCK;
            if let (Some(plains), Some(values)) = (self.marks.not_plain.get(block), self.marks.not_value.get(block)) {
                let (plains, values) = (plains >> (offset % BLOCK), values >> (offset % BLOCK));
                if plain.is_none() && plains != 0 {
                    plain = Some(from + plains.trailing_zeros() as usize);
                }
                if values != 0 {
                    let end = from + values.trailing_zeros() as usize;
                    return (length(plain.unwrap_or(end)), length(end));
                }
                from = self.base + (block + 1) * BLOCK;
                continue;
            }
            if from >= self.buf.len() {
                return (length(plain.unwrap_or(self.buf.len())), length(self.buf.len()));
            }
            self.base = from;
            self.marks = FieldMarks::default();
            self.lanes.fields(self.buf, from, &mut self.marks);
        }
    }
}

/// The functions of one instruction set that classify a piece. A value exists only on machines that have the instructions.
///
/// The functions below that take lanes are inlined into what `run` compiles for each set.
pub trait Lanes: Copy {
    /// Marks of the two classes of [`FieldMarks`]: `not_plain` and `not_value`.
    fn field_marks(self, piece: &[u8; PIECE]) -> [u32; 2];
    /// Marks of the bytes that cannot be in a target, and marks of `?`.
    fn target_marks(self, piece: &[u8; PIECE]) -> [u32; 2];
    /// Marks of the bytes that cannot be in a host name.
    fn not_host(self, piece: &[u8; PIECE]) -> u32;
    /// Calls `fields`, for callers that are not compiled for these instructions.
    fn fields(self, buf: &[u8], at: usize, marks: &mut FieldMarks);
    /// Calls `long_target_end`, which is not inlined into the caller then.
    fn long_target_end(self, buf: &[u8], at: usize) -> (usize, Option<usize>);
}

/// Writes the marks of up to `AHEAD` blocks of `buf` from `at` on; `marks` has to be all zeros.
#[inline(always)]
fn fields<L: Lanes>(lanes: L, buf: &[u8], at: usize, marks: &mut FieldMarks) {
    let Some(rest) = buf.get(at..) else { return };
    let (blocks, tail) = rest.as_chunks();
    let mut outs = marks.not_plain.iter_mut().zip(&mut marks.not_value);
    for (block, (not_plain, not_value)) in blocks.iter().zip(&mut outs) {
        [*not_plain, *not_value] = whole_block(lanes, block);
    }
    if let (false, Some((not_plain, not_value))) = (tail.is_empty(), outs.next()) {
        [*not_plain, *not_value] = last_block(lanes, buf, tail);
    }
}

#[inline(always)]
fn whole_block<L: Lanes>(lanes: L, block: &[u8; BLOCK]) -> [u64; 2] {
    let (pieces, _) = block.as_chunks();
    let (low, high) = (lanes.field_marks(&pieces[0]), lanes.field_marks(&pieces[1]));
    [0, 1].map(|i| u64::from(low[i]) | u64::from(high[i]) << PIECE)
}

/// The marks of `tail`, the last bytes of `buf`: at least one, and fewer than a block.
#[inline(always)]
fn last_block<L: Lanes>(lanes: L, buf: &[u8], tail: &[u8]) -> [u64; 2] {
    if let Some(block) = buf.last_chunk() {
        // The block also holds bytes before `tail`, whose marks are shifted out.
        let missing = BLOCK.wrapping_sub(tail.len()) as u32;
        return whole_block(lanes, block).map(|marks| marks.wrapping_shr(missing));
    }
    if let (Some(low), Some(high)) = (tail.first_chunk(), tail.last_chunk()) {
        // Both pieces cover some bytes twice, with the same marks.
        let (low, high) = (lanes.field_marks(low), lanes.field_marks(high));
        let high_at = tail.len().wrapping_sub(PIECE) as u32;
        return [0, 1].map(|i| u64::from(low[i]) | u64::from(high[i]).wrapping_shl(high_at));
    }
    short_block(lanes, tail)
}

/// The marks of fewer bytes than a piece, in a buffer that is shorter than a block.
#[cold]
fn short_block<L: Lanes>(lanes: L, tail: &[u8]) -> [u64; 2] {
    let mut piece = [0; PIECE];
    for (to, from) in piece.iter_mut().zip(tail) {
        *to = *from;
    }
    let there = !(u64::MAX << tail.len());
    lanes.field_marks(&piece).map(|marks| u64::from(marks) & there)
}

/// The first byte of `buf` from `at` on that cannot stand in a request target (or `buf.len()`), and the first `?`
/// before it.
#[inline(always)]
pub fn target_end<L: Lanes>(lanes: L, buf: &[u8], at: usize) -> (usize, Option<usize>) {
    if let Some(piece) = buf.get(at..).and_then(<[u8]>::first_chunk) {
        let marks = lanes.target_marks(piece);
        if marks[0] != 0 {
            let [end, query] = marks.map(|marks| marks.trailing_zeros() as usize);
            return (at.wrapping_add(end), (query < end).then_some(at.wrapping_add(query)));
        }
    }
    lanes.long_target_end(buf, at)
}

/// The same for targets that are longer than a piece, or at the end of the buffer.
#[inline(always)]
fn long_target_end<L: Lanes>(lanes: L, buf: &[u8], at: usize) -> (usize, Option<usize>) {
    let (pieces, tail) = buf.get(at..).unwrap_or_default().as_chunks();
    let (mut from, mut query) = (at, None);
    for piece in pieces {
        let [not_target, mark] = lanes.target_marks(piece);
        if query.is_none() && mark.trailing_zeros() < not_target.trailing_zeros() {
            query = Some(from.wrapping_add(mark.trailing_zeros() as usize));
        }
        if not_target != 0 {
            return (from.wrapping_add(not_target.trailing_zeros() as usize), query);
        }
        from = from.wrapping_add(PIECE);
    }
    for byte in tail {
        let class = CLASSES[usize::from(*byte)];
        if class & NOT_TARGET != 0 {
            break;
        }
        if class & QUERY != 0 && query.is_none() {
            query = Some(from);
        }
        from = from.wrapping_add(1);
    }
    (from, query)
}

/// How many bytes of `buf[start..end]`, from its beginning, can stand in a host name: see [`is_host`].
#[inline(always)]
pub fn host_len<L: Lanes>(lanes: L, buf: &[u8], start: usize, end: usize) -> usize {
    let Some(bytes) = buf.get(start..end) else { return 0 };
    // Nearly always a name is short and a whole piece ends with it: the marks of the bytes before the name are shifted out.
    if let (Some(piece), 1..=PIECE) = (buf.get(..end).and_then(<[u8]>::last_chunk), bytes.len()) {
        let marks = lanes.not_host(piece).wrapping_shr(PIECE.wrapping_sub(bytes.len()) as u32);
        return if marks == 0 { bytes.len() } else { marks.trailing_zeros() as usize };
    }
    long_host_len(bytes)
}

#[cold]
fn long_host_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !is_host(*byte)).unwrap_or(bytes.len())
}

/// Lanes for any machine: a table look-up for each byte.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

const NOT_PLAIN: u8 = 1;
const NOT_VALUE: u8 = 2;
const NOT_TARGET: u8 = 4;
const QUERY: u8 = 8;
const NOT_HOST: u8 = 16;

/// The classes of each byte: the definition that the vector tables below are derived from.
const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        if !is_tchar(byte) || byte == b'_' {
            table[i] |= NOT_PLAIN;
        }
        if (byte < b' ' && byte != b'\t') || byte == 0x7f {
            table[i] |= NOT_VALUE;
        }
        if byte <= b' ' || byte >= 0x7f || byte == b'#' {
            table[i] |= NOT_TARGET;
        }
        if byte == b'?' {
            table[i] |= QUERY;
        }
        if !is_host(byte) {
            table[i] |= NOT_HOST;
        }
        i += 1;
    }
    table
};

/// RFC 9110 section 5.6.2.
pub const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// A letter, digit, or one of `-._~`: what RFC 3986 section 2.3 calls unreserved.
pub const fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

impl Portable {
    fn marks(piece: &[u8; PIECE], class: u8) -> u32 {
        piece.iter().rev().fold(0, |bits, byte| bits << 1 | u32::from(CLASSES[usize::from(*byte)] & class != 0))
    }
}

impl Lanes for Portable {
    fn field_marks(self, piece: &[u8; PIECE]) -> [u32; 2] {
        [Self::marks(piece, NOT_PLAIN), Self::marks(piece, NOT_VALUE)]
    }

    fn target_marks(self, piece: &[u8; PIECE]) -> [u32; 2] {
        [Self::marks(piece, NOT_TARGET), Self::marks(piece, QUERY)]
    }

    fn not_host(self, piece: &[u8; PIECE]) -> u32 {
        Self::marks(piece, NOT_HOST)
    }

    fn fields(self, buf: &[u8], at: usize, marks: &mut FieldMarks) {
        fields(self, buf, at, marks);
    }

    fn long_target_end(self, buf: &[u8], at: usize) -> (usize, Option<usize>) {
        long_target_end(self, buf, at)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CLASSES, FieldMarks, Lanes, NOT_HOST, NOT_PLAIN, NOT_TARGET, NOT_VALUE, PIECE, Scan};
    use core::arch::x86_64::*;
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// A byte class as a matrix: entry `low` has bit `high` set if byte `high << 4 | low` is (`is`) or is not (`!is`)
    /// in the class, for ASCII. A shuffle by the low nibble and one by the high nibble look it up.
    const fn matrix(class: u8, is: bool) -> [u8; 16] {
        let mut table = [0; 16];
        let mut byte = 0;
        while byte < 128 {
            if (CLASSES[byte] & class != 0) == is {
                table[byte & 15] |= 1 << (byte >> 4);
            }
            byte += 1;
        }
        table
    }

    /// High nibble → its bit in a matrix; 0 beyond ASCII.
    const HIGH: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];
    // Bytes beyond ASCII are in no matrix: neither in those of allowed bytes nor in that of forbidden ones (`BAD_VALUE`).
    const PLAIN: [u8; 16] = matrix(NOT_PLAIN, false);
    const BAD_VALUE: [u8; 16] = matrix(NOT_VALUE, true);
    const TARGET: [u8; 16] = matrix(NOT_TARGET, false);
    const HOST: [u8; 16] = matrix(NOT_HOST, false);

    /// The machine is known to have all features that `run` is compiled for.
    pub(super) static DETECTED: AtomicBool = AtomicBool::new(false);

    #[cold]
    pub(super) fn detect() -> bool {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
        DETECTED.store(has, Relaxed);
        has
    }

    /// The scan, compiled with AVX2 for classification and with BMI for operations on the marks.
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn run<S: Scan<A, B>, A, B>(buf: &[u8], a: A, b: B, into: &mut S) -> S::Output {
        S::scan(Avx2(()), buf, a, b, into)
    }

    /// The lanes of AVX2. Values are made only in functions that enable AVX2, so that a value proves that the machine has it.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Avx2(());

    impl Lanes for Avx2 {
        #[inline(always)]
        fn field_marks(self, piece: &[u8; PIECE]) -> [u32; 2] {
            // SAFETY: an `Avx2` exists only inside functions that enable AVX2, whose callers detected it.
            unsafe { avx2_field_marks(piece) }
        }

        #[inline(always)]
        fn target_marks(self, piece: &[u8; PIECE]) -> [u32; 2] {
            // SAFETY: an `Avx2` exists only inside functions that enable AVX2, whose callers detected it.
            unsafe { avx2_target_marks(piece) }
        }

        #[inline(always)]
        fn not_host(self, piece: &[u8; PIECE]) -> u32 {
            // SAFETY: an `Avx2` exists only inside functions that enable AVX2, whose callers detected it.
            unsafe { avx2_not_host(piece) }
        }

        fn fields(self, buf: &[u8], at: usize, marks: &mut FieldMarks) {
            // SAFETY: an `Avx2` exists only inside functions that enable AVX2, whose callers detected it.
            unsafe { avx2_fields(self, buf, at, marks) }
        }

        fn long_target_end(self, buf: &[u8], at: usize) -> (usize, Option<usize>) {
            // SAFETY: an `Avx2` exists only inside functions that enable AVX2, whose callers detected it.
            unsafe { avx2_long_target_end(self, buf, at) }
        }
    }

    #[target_feature(enable = "avx2")]
    fn avx2_fields(lanes: Avx2, buf: &[u8], at: usize, marks: &mut FieldMarks) {
        super::fields(lanes, buf, at, marks);
    }

    #[target_feature(enable = "avx2")]
    fn avx2_long_target_end(lanes: Avx2, buf: &[u8], at: usize) -> (usize, Option<usize>) {
        super::long_target_end(lanes, buf, at)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_field_marks(piece: &[u8; PIECE]) -> [u32; 2] {
        let bytes = avx2_load(piece);
        [avx2_outside(bytes, &PLAIN), !avx2_outside(bytes, &BAD_VALUE)]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_target_marks(piece: &[u8; PIECE]) -> [u32; 2] {
        let bytes = avx2_load(piece);
        let query = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'?' as i8));
        [avx2_outside(bytes, &TARGET), _mm256_movemask_epi8(query) as u32]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_not_host(piece: &[u8; PIECE]) -> u32 {
        avx2_outside(avx2_load(piece), &HOST)
    }

    /// Marks of the bytes that are not in the matrix.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_outside(bytes: __m256i, matrix: &[u8; 16]) -> u32 {
        let nibbles = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15));
        let row = _mm256_shuffle_epi8(avx2_table(&HIGH), nibbles);
        let column = _mm256_shuffle_epi8(avx2_table(matrix), bytes);
        let outside = _mm256_cmpeq_epi8(_mm256_and_si256(column, row), _mm256_setzero_si256());
        _mm256_movemask_epi8(outside) as u32
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_table(table: &[u8; 16]) -> __m256i {
        // SAFETY: 16 bytes are read from a reference to 16 bytes; the load needs no alignment.
        let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
        _mm256_broadcastsi128_si256(table)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_load(piece: &[u8; PIECE]) -> __m256i {
        // SAFETY: 32 bytes are read from a reference to 32 bytes; the load needs no alignment.
        unsafe { _mm256_loadu_si256(piece.as_ptr().cast()) }
    }
}

#[cfg(test)]
mod tests;
