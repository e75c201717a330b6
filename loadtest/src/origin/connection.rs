//! One client of the origin, or one stream of a client that speaks HTTP/2: requests in, answers out, one after the other. Not here: what
//! is answered, and frames (`http2`).

use std::time::Duration;

use cairn::buffer::{Lease, Queue};
use cairn::forward::{Body, Chunking, Trailers, join};
use cairn::http::{self, Fields, HeadLimits, RequestHead};
use cairn::limits;
use cairn::tls::Session;
use cairn::transport::Transport;
use cairn::uring::{Ring, SocketId};

use super::answer::{Answer, Answers, FILLER, has_body};
use super::grpc::{self, Call};
use super::http2::Http2;
use super::receipt::Receipt;
use super::websocket::{self, Echo, Progress};
use crate::random::Random;

pub(super) const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT_MAX,
    request_line: limits::HEAD_BYTES_MAX,
};

/// Bytes of a piece of a body that is sent slowly.
const DRIP_BYTES: usize = 1024;

/// What the connections of a thread share.
#[derive(Debug)]
pub(super) struct Service<'a> {
    pub(super) answers: &'a Answers,
    pub(super) random: Random,
    /// Scratch for the head that is being read.
    pub(super) head: RequestHead,
    /// Number of requests answered so far.
    pub(super) requests: u64,
}

/// One connection.
pub(super) struct Connection {
    pub(super) transport: Transport,
    /// Frames, if it speaks HTTP/2: then its streams have entries of their own.
    pub(super) http2: Option<Box<Http2>>,
    /// Of a stream: whether it is in the list of those that may have something to send.
    pub(super) is_touched: bool,
    /// Bytes of an incomplete head that were searched for its end.
    scanned: usize,
    /// Progress in the body of the current request.
    body: Body,
    receipt: Receipt,
    phase: Phase,
    /// TLS has failed.
    broken: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Reads a head.
    Head,
    /// Reads and drops a body.
    Body(Answer),
    /// The answer is not due yet.
    Waiting(Answer),
    /// Sends; with the bytes of the body that are not queued yet.
    Sending(Answer, u64),
    /// The next piece of the body is not due yet.
    Dripping(Answer, u64),
    /// Speaks WebSocket.
    Echo(Echo),
    /// Sends the messages of a call back.
    Call(Call),
    /// Speaks HTTP/2.
    Frames,
    /// Of a stream: all is read, and all is queued.
    Done,
    /// The last answer is sent: reads until the client ends.
    Lingering,
}

/// What the owner of the connection has to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Nothing,
    /// Read frames.
    Frames,
    /// Call [`Connection::wake`] at this time.
    WakeAt(Duration),
    /// Close it after a while.
    Linger,
    Close,
}

/// No buffer is free: the connection is closed.
#[derive(Debug)]
struct Exhausted;

impl Connection {
    pub(super) fn new(socket: SocketId, session: Option<Box<Session>>) -> Self {
        Self::over(Transport::new(socket, session))
    }

    /// A stream of the connection with the entry `carrier`, and its place there.
    pub(super) fn stream(carrier: u32, slot: u16) -> Self {
        Self::over(Transport::stream(carrier, slot))
    }

    fn over(transport: Transport) -> Self {
        Self {
            transport,
            http2: None,
            is_touched: false,
            scanned: 0,
            body: Body::Done,
            receipt: Receipt::new(),
            phase: Phase::Head,
            broken: false,
        }
    }

    pub(super) fn socket(&self) -> SocketId {
        self.transport.socket()
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_) | Phase::Dripping(..))
    }

    /// Whether a stream has nothing more to read or to queue.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    pub(super) fn receive(&mut self, ring: &mut Ring, bytes: Queue) {
        match self.transport.receive(ring, bytes) {
            Ok(Some(agreement)) if agreement.http2 => self.phase = Phase::Frames,
            Ok(_) => {}
            Err(_) => self.broken = true,
        }
    }

    pub(super) fn end(&mut self) {
        self.transport.end();
    }

    /// The answer, or its next piece, is due.
    pub(super) fn wake(&mut self) {
        match &mut self.phase {
            Phase::Waiting(answer) => answer.delay = Duration::ZERO,
            Phase::Dripping(answer, left) => self.phase = Phase::Sending(*answer, *left),
            _ => {}
        }
    }

    /// Releases its buffers and closes the socket.
    pub(super) fn close(mut self, ring: &mut Ring) {
        if let Some(http2) = &mut self.http2 {
            http2.clear(ring);
        }
        self.transport.close(ring, false);
    }

    /// Sends what is queued, and reads on until the client ends.
    pub(super) fn linger(&mut self, ring: &mut Ring) {
        self.transport.finish(ring);
        self.phase = Phase::Lingering;
    }

    /// Does all that can be done with the bytes that have arrived and the room to send. Counts the requests that it answers.
    pub(super) fn pump(&mut self, ring: &mut Ring, service: &mut Service<'_>) -> Next {
        if self.broken || self.transport.is_broken() {
            return Next::Close;
        }
        loop {
            let stepped = match self.phase {
                Phase::Head => self.read_head(ring, service),
                Phase::Body(answer) => self.read_body(ring, answer, &mut service.head),
                Phase::Waiting(answer) if answer.delay.is_zero() => {
                    service.requests += 1;
                    self.write_head(ring, &answer, service.answers).map(|()| Some(Next::Nothing))
                }
                Phase::Waiting(_) | Phase::Dripping(..) => return Next::Nothing,
                Phase::Sending(answer, left) => self.write_body(ring, answer, left),
                Phase::Echo(echo) => self.echo(ring, echo),
                Phase::Call(call) => self.call(ring, call, &mut service.head.fields),
                Phase::Frames => return Next::Frames,
                Phase::Done => return Next::Nothing,
                Phase::Lingering => {
                    self.transport.input.clear(ring.buffers.pieces());
                    return if self.is_over(ring) { Next::Close } else { Next::Nothing };
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

    /// `Some(Nothing)`: continue with the next phase; None: wait.
    fn read_head(&mut self, ring: &mut Ring, service: &mut Service<'_>) -> Step {
        let Some(lease) = self.transport.input.pop(ring.buffers.pieces()) else {
            return Ok(self.transport.has_ended().then_some(Next::Close));
        };
        if Http2::is_begun_by(lease.bytes()) {
            self.transport.input.push_front(ring.buffers.pieces(), lease);
            self.phase = Phase::Frames;
            return Ok(Some(Next::Nothing));
        }
        match http::parse_request(lease.bytes(), &LIMITS, &mut self.scanned, &mut service.head) {
            Ok(Some(length)) => self.take_request(ring, service, lease, length).map(|()| Some(Next::Nothing)),
            Ok(None) => {
                self.transport.input.push_front(ring.buffers.pieces(), lease);
                match join(&mut ring.buffers, &mut self.transport.input) {
                    Ok(true) => Ok(Some(Next::Nothing)),
                    Ok(false) => Ok(self.transport.has_ended().then_some(Next::Close)),
                    Err(_) => Err(Exhausted),
                }
            }
            Err(error) => {
                self.phase = Phase::Waiting(service.answers.refusal(error.status()));
                Ok(Some(Next::Nothing))
            }
        }
    }

    /// Takes the request of a stream, whose head was parsed from the first `length` bytes of `lease`. False: no buffer is free.
    pub(super) fn begin(&mut self, ring: &mut Ring, service: &mut Service<'_>, lease: Lease, length: usize) -> bool {
        self.take_request(ring, service, lease, length).is_ok()
    }

    /// Decides how the request is answered whose head was parsed from the first `length` bytes of `lease`.
    fn take_request(
        &mut self,
        ring: &mut Ring,
        service: &mut Service<'_>,
        mut lease: Lease,
        length: usize,
    ) -> Result<(), Exhausted> {
        let Service { answers, random, head: request, .. } = service;
        let answer = answers.choose(lease.bytes(), request, random);
        let handshake = websocket::handshake(lease.bytes(), request);
        let is_call = self.transport.stream_link().is_some() && grpc::is_call(lease.bytes(), request);
        lease.advance(length);
        self.transport.input.push_front(ring.buffers.pieces(), lease);
        self.body = Body::new(request.body, Trailers::Dropped);
        if let Some(handshake) = handshake {
            service.requests += 1;
            self.phase = Phase::Echo(Echo::default());
            return self.write(ring, &handshake);
        }
        if is_call {
            service.requests += 1;
            self.phase = Phase::Call(Call::default());
            return self.write(ring, grpc::HEAD);
        }
        self.phase = Phase::Body(answer);
        if request.expect_continue && has_body(request) {
            self.write(ring, b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(())
    }

    fn call(&mut self, ring: &mut Ring, mut call: Call, trailers: &mut Fields) -> Step {
        let progress = call.pump(ring, &mut self.transport, &mut self.body, trailers);
        self.phase = Phase::Call(call);
        match progress {
            grpc::Progress::Wait => Ok(None),
            grpc::Progress::Broken => Ok(Some(Next::Close)),
            grpc::Progress::Answered => {
                self.phase = Phase::Done;
                Ok(Some(Next::Nothing))
            }
        }
    }

    fn echo(&mut self, ring: &mut Ring, mut echo: Echo) -> Step {
        let progress = echo.pump(ring, &mut self.transport);
        self.phase = Phase::Echo(echo);
        match progress {
            Progress::Wait => Ok(self.transport.has_ended().then_some(Next::Close)),
            Progress::Broken => Ok(Some(Next::Close)),
            Progress::Closed => Ok(Some(self.finish(ring))),
        }
    }

    /// Ends the connection once everything is sent.
    fn finish(&mut self, ring: &mut Ring) -> Next {
        self.transport.finish(ring);
        self.phase = Phase::Lingering;
        self.transport.input.clear(ring.buffers.pieces());
        if self.is_over(ring) { Next::Close } else { Next::Linger }
    }

    /// Whether nothing more comes, and nothing is left to be sent.
    fn is_over(&self, ring: &Ring) -> bool {
        self.transport.has_ended() && self.transport.unsent(ring) == 0
    }

    fn read_body(&mut self, ring: &mut Ring, mut answer: Answer, request: &mut RequestHead) -> Step {
        if !self.body.is_done() {
            let mut dropped = Queue::default();
            let trailers: &mut Fields = &mut request.fields;
            let read =
                self.body.read(&mut ring.buffers, &mut self.transport.input, &mut dropped, Chunking::Removed, trailers);
            if answer.receipt {
                dropped.iter(ring.buffers.pieces()).for_each(|piece| self.receipt.add(piece.bytes()));
            }
            dropped.clear(ring.buffers.pieces());
            if read.is_err() {
                return Ok(Some(Next::Close));
            }
        }
        if !self.body.is_done() {
            return Ok(self.transport.has_ended().then_some(Next::Close));
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
        let mut lease = ring.buffers.take().ok_or(Exhausted)?;
        let written = answers.with_head(answer, |head| lease.append(head));
        debug_assert!(written > 0);
        let mut left = body;
        if answer.receipt && !answer.bodiless {
            left -= lease.append(self.receipt.text()) as u64;
        } else if !answer.chunked && answer.drip.is_zero() {
            left -= fill(&mut lease, left);
        }
        self.transport.send_piece(ring, lease);
        self.phase = Phase::Sending(*answer, left);
        if answer.chunked && body == 0 && !answer.bodiless {
            self.write(ring, b"0\r\n\r\n")?;
        }
        Ok(())
    }

    fn write_body(&mut self, ring: &mut Ring, answer: Answer, mut left: u64) -> Step {
        while left > 0 {
            if self.transport.is_full(ring) {
                self.phase = Phase::Sending(answer, left);
                return Ok(None);
            }
            let mut lease = ring.buffers.take().ok_or(Exhausted)?;
            let most = if answer.drip.is_zero() { FILLER.len() } else { DRIP_BYTES } as u64;
            if answer.chunked {
                left -= chunk(&mut lease, left, most);
            } else {
                left -= fill(&mut lease, left.min(most));
            }
            self.transport.send_piece(ring, lease);
            if left > 0 && !answer.drip.is_zero() {
                self.phase = Phase::Dripping(answer, left);
                return Ok(Some(Next::WakeAt(ring.clock().now() + answer.drip)));
            }
        }
        if self.transport.stream_link().is_some() {
            self.phase = Phase::Done;
            return Ok(Some(Next::Nothing));
        }
        self.phase = Phase::Head;
        if !answer.last {
            return Ok(Some(Next::Nothing));
        }
        Ok(Some(self.finish(ring)))
    }

    fn write(&mut self, ring: &mut Ring, bytes: &[u8]) -> Result<(), Exhausted> {
        let mut lease = ring.buffers.take().ok_or(Exhausted)?;
        let written = lease.append(bytes);
        debug_assert_eq!(written, bytes.len());
        self.transport.send_piece(ring, lease);
        Ok(())
    }
}

/// How one step went. Some([`Next::Nothing`]): take the next one; None: there is nothing to do until more happens.
type Step = Result<Option<Next>, Exhausted>;

/// Appends up to `left` bytes of filler, as many as there is room for.
fn fill(lease: &mut Lease, left: u64) -> u64 {
    lease.append(&FILLER[..left.min(FILLER.len() as u64) as usize]) as u64
}

/// Writes one chunk of at most `most` bytes, and behind the last one the end of the body. Returns its data.
fn chunk(lease: &mut Lease, left: u64, most: u64) -> u64 {
    const END: &[u8] = b"0\r\n\r\n";
    const LINE_BYTES: usize = 16 + 2;
    let room = lease.spare() - LINE_BYTES - 2 - END.len();
    let count = left.min(most).min(room.min(FILLER.len()) as u64);
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
            left -= chunk(&mut lease, left, u64::MAX);
            text.extend_from_slice(lease.bytes());
        }
        assert!(text.starts_with(b"4000\r\nxxx") && text.ends_with(b"x\r\n0\r\n\r\n"));
        assert_eq!(text.iter().filter(|byte| **byte == b'x').count(), 40_000);
    }
}
