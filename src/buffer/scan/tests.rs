//! Vector lanes against the table, and searches against a byte loop. Not here: messages.

use super::*;

/// Miri takes a thousand times as long, so it runs a few of the cases.
const FEW: bool = cfg!(miri);

/// A xorshift generator: the tests are the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Mostly letters, so that runs cross blocks, with every byte value now and then.
    fn byte(&mut self) -> u8 {
        let r = self.next();
        if r.is_multiple_of(40) { (r >> 32) as u8 } else { b'a' + (r >> 40) as u8 % 26 }
    }
}

/// The results of one implementation for a buffer from a position on: the marks, the end of a target and its query, and the lengths of
/// host names that end with the buffer and a few bytes behind the position.
type Answers = (FieldMarks, (usize, Option<usize>), [usize; 2]);

/// Calls all functions of the lanes.
struct Ask;

impl Scan<usize, ()> for Ask {
    type Output = Answers;

    fn scan<L: Lanes>(lanes: L, buf: &[u8], at: usize, (): (), _: &mut Self) -> Answers {
        let mut marks = FieldMarks::default();
        lanes.fields(buf, at, &mut marks);
        let target = target_end(lanes, buf, at);
        assert_eq!(target, lanes.long_target_end(buf, at), "a short target");
        (marks, target, host_ends(buf, at).map(|end| host_len(lanes, buf, at, end)))
    }
}

fn host_ends(buf: &[u8], at: usize) -> [usize; 2] {
    [buf.len(), buf.len().min(at + 20)]
}

/// Every implementation that this machine can run.
fn everywhere(buf: &[u8], at: usize) -> [(&'static str, Answers); 2] {
    [("portable", Ask::scan(Portable, buf, at, (), &mut Ask)), ("best", run(buf, at, (), &mut Ask))]
}

/// The same from the definition, byte by byte.
fn by_bytes(buf: &[u8], at: usize) -> Answers {
    let is = |i: usize, class| CLASSES[usize::from(buf[i])] & class != 0;
    let mut marks = FieldMarks::default();
    for (i, byte) in (at..buf.len()).take(AHEAD * BLOCK).enumerate() {
        marks.not_plain[i / BLOCK] |= u64::from(is(byte, NOT_PLAIN)) << (i % BLOCK);
        marks.not_value[i / BLOCK] |= u64::from(is(byte, NOT_VALUE)) << (i % BLOCK);
    }
    let end = (at..buf.len()).find(|i| is(*i, NOT_TARGET)).unwrap_or(buf.len());
    let host = host_ends(buf, at).map(|end| (at..end).find(|i| is(*i, NOT_HOST)).unwrap_or(end) - at);
    (marks, (end, (at..end).find(|i| is(*i, QUERY))), host)
}

/// Under Miri the detected features are those that the compiler was given.
#[test]
#[cfg(all(target_feature = "avx2", target_feature = "bmi1", target_feature = "bmi2"))]
fn what_runs_is_compiled_for_the_vector_instructions() {
    assert!(x86::detect());
}

#[test]
fn every_byte_in_every_place_is_classed_as_defined() {
    for byte in (0..=255).step_by(if FEW { 17 } else { 1 }) {
        for place in (0..BLOCK).step_by(if FEW { 31 } else { 1 }) {
            let mut block = [b'a'; BLOCK];
            block[place] = byte;
            for (name, got) in everywhere(&block, 0) {
                assert_eq!(got, by_bytes(&block, 0), "{name}: {byte:#x} at {place}");
            }
        }
    }
}

#[test]
fn every_alignment_and_length_gives_what_a_byte_loop_gives() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for len in (0..400).step_by(if FEW { 53 } else { 1 }) {
        for align in (0..4).step_by(if FEW { 3 } else { 1 }) {
            let whole: Vec<u8> = (0..len + align).map(|_| random.byte()).collect();
            let buf = &whole[align..];
            for at in [0, 1, len / 3, len.saturating_sub(1)] {
                let at = at.min(len);
                for (name, got) in everywhere(buf, at) {
                    assert_eq!(got, by_bytes(buf, at), "{name}, length {len}, from {at}: {buf:?}");
                }
            }
        }
    }
}

#[test]
fn random_bytes_are_classed_as_defined() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..if FEW { 3 } else { 5_000 } {
        let block: [u8; BLOCK * AHEAD + 3] = core::array::from_fn(|_| random.next() as u8);
        for (name, got) in everywhere(&block, 2) {
            assert_eq!(got, by_bytes(&block, 2), "{name}: {block:?}");
        }
    }
}

/// Walks over a buffer from a position on, as field lines are read.
struct Walk;

impl Scan<usize, &mut Random> for Walk {
    type Output = ();

    fn scan<L: Lanes>(lanes: L, buf: &[u8], mut at: usize, random: &mut Random, _: &mut Self) {
        let len = buf.len();
        let find = |at: usize, class| (at..len).find(|i| CLASSES[usize::from(buf[*i])] & class != 0).unwrap_or(len);
        let mut cursor = FieldCursor::new(lanes, buf);
        cursor.begin(at);
        while at < len {
            let want = (find(at, NOT_PLAIN), find(at, NOT_VALUE));
            let (plain, value) = cursor.line(at);
            assert_eq!((at + plain as usize, at + value as usize), want, "from {at} of {len}: {buf:?}");
            // Sometimes the next line begins further on, so that whole blocks are skipped too.
            at = want.1 + 1 + if random.next().is_multiple_of(4) { random.next() as usize % 400 } else { 0 };
        }
    }
}

#[test]
fn a_cursor_finds_what_a_byte_loop_finds() {
    let mut random = Random(0x853c_49e6_748f_ea9b);
    for len in (0..900).step_by(if FEW { 293 } else { 1 }) {
        let buf: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        for start in [0, 1, 63, 64, 65, 300] {
            run(&buf, start.min(len), &mut random, &mut Walk);
            Walk::scan(Portable, &buf, start.min(len), &mut random, &mut Walk);
        }
    }
}
