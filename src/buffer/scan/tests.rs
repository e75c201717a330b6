//! Vector lanes against the table, and searches against a byte loop.
use super::*;

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

/// What one implementation says about a buffer from a position on.
type Answers = (FieldMarks, (usize, Option<usize>), usize);

/// Asks for all that can be found.
struct Ask<'a>(&'a [u8], usize);

impl Scan for Ask<'_> {
    type Output = Answers;

    fn scan<L: Lanes>(self, lanes: L) -> Answers {
        let (Self(buf, at), mut marks) = (self, FieldMarks::default());
        lanes.fields(buf, at, &mut marks);
        (marks, target_end(lanes, buf, at), host_end(lanes, buf, at))
    }
}

/// Every implementation that this machine can run.
fn everywhere(buf: &[u8], at: usize) -> [(&'static str, Answers); 2] {
    [("portable", run_portable(Ask(buf, at))), ("best", run(Ask(buf, at)))]
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
    let host = (at..buf.len()).find(|i| is(*i, NOT_HOST)).unwrap_or(buf.len());
    (marks, (end, (at..end).find(|i| is(*i, QUERY))), host)
}

#[test]
fn every_byte_in_every_place_is_classed_as_defined() {
    for byte in 0..=255 {
        for place in 0..BLOCK {
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
    for len in 0..400 {
        for align in 0..4 {
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
    for _ in 0..5_000 {
        let block: [u8; BLOCK * AHEAD + 3] = core::array::from_fn(|_| random.next() as u8);
        for (name, got) in everywhere(&block, 2) {
            assert_eq!(got, by_bytes(&block, 2), "{name}: {block:?}");
        }
    }
}

/// Walks over a buffer from a position on, as field lines are read.
struct Walk<'a>(&'a [u8], usize, &'a mut Random);

impl Scan for Walk<'_> {
    type Output = ();

    fn scan<L: Lanes>(self, lanes: L) {
        let Self(buf, mut at, random) = self;
        let len = buf.len();
        let find = |at: usize, class| (at..len).find(|i| CLASSES[usize::from(buf[*i])] & class != 0).unwrap_or(len);
        let mut cursor = FieldCursor::new(lanes, buf);
        cursor.begin(at);
        while at < len {
            let want = (find(at, NOT_PLAIN), find(at, NOT_VALUE));
            assert_eq!(cursor.line(at), want, "from {at} of {len}: {buf:?}");
            assert_eq!(cursor.not_plain(at), want.0);
            // Sometimes further than the next line would be, so that whole blocks are passed over too.
            at = want.1 + 1 + if random.next().is_multiple_of(4) { random.next() as usize % 400 } else { 0 };
        }
    }
}

#[test]
fn a_cursor_finds_what_a_byte_loop_finds() {
    let mut random = Random(0x853c_49e6_748f_ea9b);
    for len in 0..900 {
        let buf: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        for start in [0, 1, 63, 64, 65, 300] {
            run(Walk(&buf, start.min(len), &mut random));
            run_portable(Walk(&buf, start.min(len), &mut random));
        }
    }
}
