//! Bodies from the received bytes to the sent ones: the results of reads, and how they are framed. Not here: heads.

use super::{Body, BodyEnd, BodyError, BuffersExhausted, Chunking, Framing, Trailers};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{BodyFraming, ChunkError, Fields};

const SECTION: &str = "X-Sum: 1\r\nX_Sum: 2\r\nContent-Length: 3\r\n\r\n";

/// A body that is being read, and the results so far.
struct Course {
    buffers: Buffers,
    body: Body,
    framing: Framing,
    input: Queue,
    out: Queue,
    fields: Fields,
    data: u64,
    /// The kind of each end that a read has reported.
    ends: Vec<&'static str>,
}

impl Course {
    fn new(body: Body, framing: Framing) -> Self {
        let buffers = Buffers::new().expect("address space");
        let (input, out, fields) = (Queue::default(), Queue::default(), Fields::new());
        Self { buffers, body, framing, input, out, fields, data: 0, ends: Vec::new() }
    }

    /// Begins another body with the same buffers.
    fn restart(&mut self, body: Body) {
        self.input.clear(self.buffers.pieces());
        self.out.clear(self.buffers.pieces());
        (self.body, self.data) = (body, 0);
        self.ends.clear();
    }

    fn lease(&self, bytes: &[u8]) -> Lease {
        let mut lease = self.buffers.take().expect("a free buffer");
        assert_eq!(lease.append(bytes), bytes.len());
        lease
    }

    /// A piece without tailroom, like one that was split off.
    fn tight(&self, bytes: &[u8]) -> Lease {
        let mut lease = self.lease(bytes);
        assert!(lease.spare() > 0);
        lease.split_to(bytes.len())
    }

    /// Receives `bytes` and reads as far as possible.
    fn arrive(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let lease = self.lease(bytes);
        self.input.push(self.buffers.pieces(), lease);
        self.read()
    }

    fn read(&mut self) -> Result<(), BodyError> {
        let mut moved = Queue::default();
        let chunking = self.framing.chunking();
        let read = self.body.read(&mut self.buffers, &mut self.input, &mut moved, chunking, &mut self.fields);
        self.framing.frame_data(&mut self.buffers, &mut moved)?;
        self.out.append(self.buffers.pieces(), &mut moved);
        let progress = read?;
        self.data += progress.data;
        self.take(progress.end)
    }

    fn close(&mut self) -> Result<(), BodyError> {
        let end = self.body.close();
        self.take(end)
    }

    fn take(&mut self, end: Option<BodyEnd>) -> Result<(), BodyError> {
        let Some(end) = end else { return Ok(()) };
        self.ends.push(if matches!(end, BodyEnd::Plain) { "plain" } else { "trailers" });
        Ok(self.framing.frame_end(&mut self.buffers, &mut self.out, &end, &self.fields)?)
    }

    fn text(&self, queue: &Queue) -> String {
        self.buffers.iter(queue).map(|piece| String::from_utf8_lossy(piece.bytes())).collect()
    }

    fn sent(&self) -> String {
        self.text(&self.out)
    }

    fn left(&self) -> String {
        self.text(&self.input)
    }

    fn available(&self) -> [usize; 2] {
        self.buffers.pools().map(|pool| pool.available())
    }

    /// Takes all free buffers.
    fn hoard(&self) -> Vec<Lease> {
        let ordinary = std::iter::from_fn(|| self.buffers.take());
        ordinary.chain(std::iter::from_fn(|| self.buffers.take_large())).collect()
    }
}

fn chunked(trailers: Trailers) -> Body {
    Body::new(BodyFraming::Chunked, trailers)
}

/// The data of a chunked body.
fn unchunked(text: &str) -> String {
    let mut course = Course::new(chunked(Trailers::Dropped), Framing::Close);
    course.arrive(text.as_bytes()).expect("a chunked body");
    assert_eq!((course.ends.len(), course.left()), (1, String::new()), "{text:?}");
    course.sent()
}

#[test]
fn what_is_sent_does_not_depend_on_the_cuts() {
    let length = Body::new(BodyFraming::Length(5), Trailers::Passed);
    let plain = "3;x=y\r\nabc\r\n0002\r\nde\r\n0\r\n\r\n";
    let trailed = format!("5\r\nabcde\r\n0;x\r\n{SECTION}");
    for (body, input, verbatim) in [
        (length, "abcde", "abcde"),
        (chunked(Trailers::Passed), plain, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        (chunked(Trailers::Passed), &trailed, "5\r\nabcde\r\n0\r\nX-Sum: 1\r\nX_Sum: 2\r\n\r\n"),
        (chunked(Trailers::Plain), &trailed, "5\r\nabcde\r\n0\r\nX-Sum: 1\r\n\r\n"),
        (chunked(Trailers::Dropped), &trailed, "5\r\nabcde\r\n0\r\n\r\n"),
    ] {
        for framing in [Framing::Verbatim, Framing::Length, Framing::Chunked, Framing::Close] {
            let mut course = Course::new(body, framing);
            for cut in 0..input.len() {
                course.restart(body);
                let (first, second) = input.as_bytes().split_at(cut);
                course.arrive(first).expect("the first part");
                assert!(course.ends.is_empty() && !course.body.is_done());
                course.arrive(&[second, b"GET /"].concat()).expect("the second part");
                assert_eq!((course.data, course.left().as_str()), (5, "GET /"), "{input:?} cut {cut}");
                match framing {
                    Framing::Verbatim => assert_eq!(course.sent(), verbatim, "{input:?} cut {cut}"),
                    Framing::Length | Framing::Close => assert_eq!(course.sent(), "abcde", "{input:?} cut {cut}"),
                    Framing::Chunked => assert_eq!(unchunked(&course.sent()), "abcde", "{input:?} cut {cut}"),
                }
            }
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_make_the_same_events() {
    let input = format!("3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n{SECTION}");
    for (framing, sent) in [
        (Framing::Verbatim, "3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\nX_Sum: 2\r\n\r\n"),
        (Framing::Chunked, "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\nX-Sum: 1\r\nX_Sum: 2\r\n\r\n"),
        (Framing::Close, "abcde"),
    ] {
        let mut course = Course::new(chunked(Trailers::Passed), framing);
        for byte in input.as_bytes() {
            assert!(course.ends.is_empty());
            course.arrive(&[*byte]).expect("a byte");
        }
        assert_eq!((course.sent().as_str(), course.data, course.ends.as_slice()), (sent, 5, &["trailers"][..]));
    }
}

#[test]
fn a_usual_last_chunk_goes_on_in_place() {
    let mut course = Course::new(chunked(Trailers::Passed), Framing::Verbatim);
    let free = course.available();
    course.arrive(b"5\r\nhello\r\n0\r\n\r\n").expect("a body");
    assert_eq!((course.sent().as_str(), course.ends.as_slice()), ("5\r\nhello\r\n0\r\n\r\n", &["plain"][..]));
    assert_eq!((course.out.pieces(), course.available()), (1, [free[0] - 1, free[1]]));
    // If only data is moved, the end comes with the trailer section, even an empty one.
    let mut course = Course::new(chunked(Trailers::Passed), Framing::Close);
    course.arrive(b"5\r\nhello\r\n0\r\n\r\n").expect("a body");
    assert_eq!((course.sent().as_str(), course.ends.as_slice()), ("hello", &["trailers"][..]));
}

#[test]
fn an_end_is_reported_by_the_read_that_finds_it_and_later_ones() {
    let mut course = Course::new(Body::new(BodyFraming::Length(2), Trailers::Passed), Framing::Length);
    course.arrive(b"a").expect("data");
    assert!(course.ends.is_empty());
    course.arrive(b"bc").expect("data");
    course.read().expect("nothing more");
    assert_eq!(
        (course.ends.as_slice(), course.sent().as_str(), course.left().as_str()),
        (&["plain"; 2][..], "ab", "c")
    );
    for framing in [BodyFraming::None, BodyFraming::Length(0)] {
        course.restart(Body::new(framing, Trailers::Passed));
        course.read().expect("no body");
        assert_eq!((course.ends.as_slice(), course.data), (&["plain"][..], 0));
    }
}

#[test]
fn only_what_ends_with_its_connection_is_ended_by_it() {
    for (framing, sent) in [(Framing::Chunked, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), (Framing::Close, "abcde")] {
        let mut course = Course::new(Body::of_response(BodyFraming::Close, Trailers::Passed), framing);
        course.arrive(b"abc").expect("data");
        course.arrive(b"de").expect("data");
        course.read().expect("nothing more");
        assert!(course.ends.is_empty());
        course.close().expect("the end");
        course.close().expect("no other end");
        assert_eq!((course.sent().as_str(), course.data, course.ends.as_slice()), (sent, 5, &["plain"][..]));
        assert!(course.body.is_done());
    }
    for framing in [BodyFraming::Length(3), BodyFraming::Chunked] {
        let mut body = Body::of_response(framing, Trailers::Passed);
        assert!(body.close().is_none() && !body.is_done());
    }
}

#[test]
fn what_breaks_the_grammar_ends_nothing() {
    for framing in [Framing::Verbatim, Framing::Close] {
        let mut course = Course::new(chunked(Trailers::Passed), framing);
        course.arrive(b"3\r\nabc\r\n").expect("a chunk");
        assert_eq!(course.arrive(b"x\r\n"), Err(BodyError::Chunk(ChunkError::BadSize)));
        course.restart(chunked(Trailers::Passed));
        let broken = course.arrive(b"3\r\nabc\r\n0\r\nno colon\r\n\r\n");
        assert!(matches!(broken, Err(BodyError::Trailer(_))), "{broken:?}");
        assert!(course.ends.is_empty() && !course.body.is_done() && course.sent().contains("abc"));
    }
}

#[test]
fn lack_of_buffers_is_reported_and_leaks_none() {
    let mut course = Course::new(chunked(Trailers::Passed), Framing::Chunked);
    let free = course.available();
    // There is no room for the CRLF behind the first piece, so the second one is dropped.
    let one = course.tight(b"abc");
    let two = course.lease(&[b'd'; 4000]);
    let hoard = course.hoard();
    let mut data = Queue::default();
    data.push(course.buffers.pieces(), one);
    data.push(course.buffers.pieces(), two);
    assert_eq!(data.pieces(), 2);
    assert_eq!(Framing::Chunked.frame_data(&mut course.buffers, &mut data), Err(BuffersExhausted));
    assert_eq!(course.text(&data), "3\r\nabc");
    assert_eq!(Framing::Close.frame_data(&mut course.buffers, &mut data), Ok(()));
    data.clear(course.buffers.pieces());
    drop(hoard);
    assert_eq!(course.available(), free);
    // Last chunks.
    for section in ["\r\n", SECTION] {
        course.restart(chunked(Trailers::Passed));
        let lease = course.lease(format!("0\r\n{section}").as_bytes());
        course.input.push(course.buffers.pieces(), lease);
        let hoard = course.hoard();
        assert_eq!(course.read(), Err(BodyError::Exhausted));
        assert!(course.out.is_empty() && course.input.is_empty());
        drop(hoard);
        assert_eq!(course.available(), free);
    }
    course.restart(Body::Close);
    let hoard = course.hoard();
    assert_eq!(course.close(), Err(BodyError::Exhausted));
    drop(hoard);
    // A section in two pieces that cannot be joined.
    course.restart(chunked(Trailers::Passed));
    let one = course.tight(b"0\r\nX-Sum: ");
    let two = course.lease(b"1\r\n\r\n");
    course.input.push(course.buffers.pieces(), one);
    course.input.push(course.buffers.pieces(), two);
    let hoard = course.hoard();
    assert_eq!(course.read(), Err(BodyError::Exhausted));
    course.input.clear(course.buffers.pieces());
    drop(hoard);
    assert_eq!((course.available(), course.ends.len()), (free, 0));
}

#[test]
fn only_verbatim_framing_keeps_chunk_lines() {
    assert_eq!(Framing::Verbatim.chunking(), Chunking::Kept);
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        assert_eq!(framing.chunking(), Chunking::Removed);
    }
}
