//! One client of the origin: requests in, answers out, one after the other. Not here: what is answered.

use std::time::Duration;

use cairn::buffer::{Lease, Queue};
use cairn::forward::{Body, Delivery, Trailers, gather};
use cairn::http::{self, Fields, HeadLimits, RequestHead};
use cairn::limits;
use cairn::uring::{Ring, SocketId};

use super::answer::{Answer, Answers, FILLER, has_body};
use super::receipt::Receipt;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT_MAX,
    request_line: limits::HEAD_BYTES_MAX,
};

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: SocketId,
    input: Queue,
    /// Bytes of a partial head that hold no end.
    scanned: usize,
    /// Of the current request.
    body: Body,
    receipt: Receipt,
    phase: Phase,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Reads a head.
    Head,
    /// Reads and drops a body.
    Body(Answer),
    /// The answer is not due yet.
    Waiting(Answer),
    /// Sends; this much of the body is not queued.
    Sending(Answer, u64),
    /// Answered for the last time: reads until the client ends.
    Lingering,
}

/// What the connection needs of its owner.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Nothing,
    /// [`Connection::wake`] at this time.
    WakeAt(Duration),
    /// To be closed after a while.
    Linger,
    Close,
}

/// Buffers are short: the connection is given up.
#[derive(Debug)]
struct Exhausted;

impl Connection {
    pub(super) fn new(socket: SocketId) -> Self {
        let (input, body, receipt) = (Queue::default(), Body::Done, Receipt::new());
        Self { socket, input, scanned: 0, body, receipt, phase: Phase::Head, ended: false }
    }

    pub(super) fn socket(&self) -> SocketId {
        self.socket
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    pub(super) fn receive(&mut self, ring: &mut Ring, mut bytes: Queue) {
        self.input.append(ring.pieces(), &mut bytes);
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The answer is due.
    pub(super) fn wake(&mut self) {
        if let Phase::Waiting(answer) = &mut self.phase {
            answer.delay = Duration::ZERO;
        }
    }

    /// Drops what it holds and closes it.
    pub(super) fn forget(&mut self, ring: &mut Ring) {
        self.input.clear(ring.pieces());
        ring.close(self.socket);
    }

    /// Goes as far as what has arrived and what was sent allow. Counts the requests that it answers.
    pub(super) fn go_on(
        &mut self,
        ring: &mut Ring,
        request: &mut RequestHead,
        answers: &Answers,
        requests: &mut u64,
    ) -> Next {
        loop {
            let stepped = match self.phase {
                Phase::Head => self.read_head(ring, request, answers),
                Phase::Body(answer) => self.read_body(ring, answer, request),
                Phase::Waiting(answer) if answer.delay.is_zero() => {
                    *requests += 1;
                    self.write_head(ring, &answer, answers).map(|()| Some(Next::Nothing))
                }
                Phase::Waiting(_) => return Next::Nothing,
                Phase::Sending(answer, left) => self.write_body(ring, answer, left),
                Phase::Lingering => {
                    self.input.clear(ring.pieces());
                    return if self.ended { Next::Close } else { Next::Nothing };
                }
            };
            match stepped {
                Ok(Some(Next::Nothing)) => {}
                Ok(Some(next)) => return next,
                Ok(None) => return Next::Nothing,
                Err(Exhausted) => return Next::Close,
            }
        }
    }

    /// Some(Nothing): go on with the next phase; None: wait.
    fn read_head(&mut self, ring: &mut Ring, request: &mut RequestHead, answers: &Answers) -> Step {
        let Some(mut lease) = self.input.pop(ring.pieces()) else {
            return Ok(self.ended.then_some(Next::Close));
        };
        match http::parse_request(lease.bytes(), &LIMITS, &mut self.scanned, request) {
            Ok(Some(length)) => {
                let answer = answers.choose(lease.bytes(), request);
                lease.advance(length);
                self.input.push_front(ring.pieces(), lease);
                self.body = Body::new(request.body, Trailers::Dropped);
                if request.expect_continue && has_body(request) {
                    self.write(ring, b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                self.phase = Phase::Body(answer);
                Ok(Some(Next::Nothing))
            }
            Ok(None) => {
                self.input.push_front(ring.pieces(), lease);
                match gather(ring, &mut self.input) {
                    Ok(true) => Ok(Some(Next::Nothing)),
                    Ok(false) => Ok(self.ended.then_some(Next::Close)),
                    Err(_) => Err(Exhausted),
                }
            }
            Err(error) => {
                self.phase = Phase::Waiting(answers.refusal(error.status()));
                Ok(Some(Next::Nothing))
            }
        }
    }

    fn read_body(&mut self, ring: &mut Ring, mut answer: Answer, request: &mut RequestHead) -> Step {
        if !self.body.is_done() {
            let mut dropped = Queue::default();
            let trailers: &mut Fields = &mut request.fields;
            let read = self.body.read(ring, &mut self.input, &mut dropped, Delivery::Data, trailers);
            if answer.receipt {
                dropped.iter(ring.pieces()).for_each(|piece| self.receipt.add(piece.bytes()));
            }
            dropped.clear(ring.pieces());
            if read.is_err() {
                return Ok(Some(Next::Close));
            }
        }
        if !self.body.is_done() {
            return Ok(self.ended.then_some(Next::Close));
        }
        if answer.receipt {
            answer.size = self.receipt.close().len() as u64;
        }
        self.phase = Phase::Waiting(answer);
        let delay = answer.delay;
        Ok(Some(if delay.is_zero() { Next::Nothing } else { Next::WakeAt(ring.clock().now() + delay) }))
    }

    fn write_head(&mut self, ring: &mut Ring, answer: &Answer, answers: &Answers) -> Result<(), Exhausted> {
        let body = if answer.bodiless { 0 } else { answer.size };
        let mut lease = ring.buffer().ok_or(Exhausted)?;
        let written = answers.with_head(answer, |head| lease.append(head));
        debug_assert!(written > 0);
        let mut left = body;
        if answer.receipt && !answer.bodiless {
            left -= lease.append(self.receipt.text()) as u64;
        } else if !answer.chunked {
            left -= fill(&mut lease, left);
        }
        ring.send(self.socket, lease);
        self.phase = Phase::Sending(*answer, left);
        if answer.chunked && body == 0 && !answer.bodiless {
            self.write(ring, b"0\r\n\r\n")?;
        }
        Ok(())
    }

    fn write_body(&mut self, ring: &mut Ring, answer: Answer, mut left: u64) -> Step {
        while left > 0 {
            if ring.unsent(self.socket) >= ring.queue_limit() {
                self.phase = Phase::Sending(answer, left);
                return Ok(None);
            }
            let mut lease = ring.buffer().ok_or(Exhausted)?;
            if answer.chunked {
                left -= chunk(&mut lease, left);
            } else {
                left -= fill(&mut lease, left);
            }
            ring.send(self.socket, lease);
        }
        self.phase = Phase::Head;
        if !answer.last {
            return Ok(Some(Next::Nothing));
        }
        ring.finish(self.socket);
        self.phase = Phase::Lingering;
        self.input.clear(ring.pieces());
        Ok(Some(if self.ended { Next::Close } else { Next::Linger }))
    }

    fn write(&self, ring: &mut Ring, bytes: &[u8]) -> Result<(), Exhausted> {
        let mut lease = ring.buffer().ok_or(Exhausted)?;
        let written = lease.append(bytes);
        debug_assert_eq!(written, bytes.len());
        ring.send(self.socket, lease);
        Ok(())
    }
}

/// How one step went. Some([`Next::Nothing`]): take the next one; None: there is nothing to do until more happens.
type Step = Result<Option<Next>, Exhausted>;

/// Appends up to `left` bytes of filler, as many as there is room for.
fn fill(lease: &mut Lease, left: u64) -> u64 {
    lease.append(&FILLER[..left.min(FILLER.len() as u64) as usize]) as u64
}

/// Writes one chunk, and behind the last one the end of the body. Returns its data.
fn chunk(lease: &mut Lease, left: u64) -> u64 {
    const END: &[u8] = b"0\r\n\r\n";
    const LINE_BYTES: usize = 16 + 2;
    let room = lease.spare() - LINE_BYTES - 2 - END.len();
    let count = left.min(room.min(FILLER.len()) as u64);
    let mut digits = [0; 16];
    let last = if count == left { END } else { b"" };
    for part in [http::write_hex(count, &mut digits), b"\r\n", &FILLER[..count as usize], b"\r\n", last] {
        let written = lease.append(part);
        debug_assert_eq!(written, part.len());
    }
    count
}

#[cfg(test)]
mod tests {
    use cairn::buffer::Pool;

    use super::*;

    #[test]
    fn chunks_add_up_and_end() {
        let pool = Pool::new(1, limits::BUFFER_BYTES, 0, 0).expect("17 KiB");
        let mut left = 40_000;
        let mut text = Vec::new();
        while left > 0 {
            let mut lease = pool.take().expect("a free buffer");
            left -= chunk(&mut lease, left);
            text.extend_from_slice(lease.bytes());
        }
        assert!(text.starts_with(b"4000\r\nxxx") && text.ends_with(b"x\r\n0\r\n\r\n"));
        assert_eq!(text.iter().filter(|byte| **byte == b'x').count(), 40_000);
    }
}
