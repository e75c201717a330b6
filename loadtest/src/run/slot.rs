//! One connection of the generator: requests out, answers in. Not here: when requests are due, and counting them.

use std::collections::VecDeque;
use std::time::Duration;

use cairn::buffer::{Lease, Queue};
use cairn::forward::{Body, Delivery, Trailers, gather};
use cairn::http::{self, BodyFraming, HeadLimits, ResponseHead};
use cairn::limits;
use cairn::uring::{Ring, SocketId};
use sha2::{Digest, Sha256};

use super::ask::{Answer, Ask};
use super::tally::Failure;
use super::tls::{Progress, Session};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT_MAX,
    request_line: limits::REQUEST_LINE_BYTES,
};

/// The longest record of TLS (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 1 << 14;

/// One request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issued {
    pub(super) due: Duration,
    /// Index of its bytes.
    pub(super) request: u16,
    /// It is not part of the warm-up.
    pub(super) counts: bool,
}

/// How far reading got.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// More must arrive.
    More,
    /// The oldest request is answered.
    Answer(Answer),
    /// The connection is of no further use.
    Broken(Failure),
}

/// One connection, or the place of one.
#[derive(Debug)]
pub(super) struct Slot {
    /// Index of the host that it connects to.
    pub(super) host: u16,
    pub(super) socket: Option<SocketId>,
    pub(super) tls: Option<Session>,
    /// Requests under way, oldest first.
    pub(super) issued: VecDeque<Issued>,
    /// How many of them are queued to be sent whole, and how many bytes of the next.
    written: usize,
    offset: usize,
    input: Queue,
    /// Bytes of a partial head that hold no end.
    scanned: usize,
    /// The answer whose body is arriving.
    answer: Option<Answer>,
    body: Body,
    /// Of the body, where the answer is to have a certain one.
    hash: Sha256,
    pub(super) ended: bool,
    /// TLS says goodbye; then the connection is closed, whatever else happens on it.
    pub(super) leaving: bool,
    /// In the generator's list of slots to write.
    pub(super) dirty: bool,
    /// Connecting failed a moment ago, or TLS says goodbye: holds so many permissions to send back.
    pub(super) resting: Option<u16>,
}

impl Slot {
    pub(super) fn new(host: u16, pipeline: usize) -> Self {
        Self {
            host,
            socket: None,
            tls: None,
            issued: VecDeque::with_capacity(pipeline),
            written: 0,
            offset: 0,
            input: Queue::default(),
            scanned: 0,
            answer: None,
            body: Body::Done,
            hash: Sha256::new(),
            ended: false,
            leaving: false,
            dirty: false,
            resting: None,
        }
    }

    /// Closes the connection; what was under way stays in `issued` for the caller to settle. False: TLS says goodbye first, and
    /// the next call closes.
    pub(super) fn close(&mut self, ring: &mut Ring) -> bool {
        let goodbye = match (self.tls.take(), self.socket) {
            (Some(mut tls), Some(socket)) => tls.say_goodbye(ring, socket),
            _ => false,
        };
        if let Some(socket) = self.socket.take_if(|_| !goodbye) {
            ring.close(socket);
        }
        self.input.clear(ring.buffers.pieces());
        self.hash.reset();
        (self.written, self.offset, self.scanned) = (0, 0, 0);
        (self.answer, self.body, self.ended, self.leaving) = (None, Body::Done, false, goodbye);
        !goodbye
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.issued.len()
    }

    /// Queues what is not sent yet, several requests in one piece. False: buffers are short, try again.
    pub(super) fn write(&mut self, ring: &mut Ring, asks: &[Ask]) -> bool {
        let Some(socket) = self.socket else { return true };
        if self.tls.is_some() {
            return self.write_sealed(ring, socket, asks);
        }
        let mut open: Option<Lease> = None;
        // Behind the limit, the next send completion goes on.
        while self.has_unwritten() && !ring.is_full(socket) {
            let bytes = &asks[usize::from(self.issued[self.written].request)].bytes[self.offset..];
            let Some(mut lease) = open.take().or_else(|| ring.buffers.take()) else { return false };
            let count = lease.append(bytes);
            (self.written, self.offset) = after(self.written, self.offset, count, bytes.len());
            if lease.spare() == 0 {
                ring.send(socket, lease);
            } else {
                open = Some(lease);
            }
        }
        if let Some(lease) = open {
            ring.send(socket, lease);
        }
        true
    }

    /// The same through TLS, once it is agreed on.
    fn write_sealed(&mut self, ring: &mut Ring, socket: SocketId, asks: &[Ask]) -> bool {
        let Some(tls) = &mut self.tls else { return true };
        let mut sent = tls.flush(ring, socket);
        while sent.is_ok() && !tls.is_handshaking() && self.written < self.issued.len() && !ring.is_full(socket) {
            let bytes = &asks[usize::from(self.issued[self.written].request)].bytes[self.offset..];
            let record = &bytes[..bytes.len().min(RECORD_BYTES)];
            // What is not sent for want of a buffer is with TLS all the same.
            sent = tls.send(ring, socket, record);
            (self.written, self.offset) = after(self.written, self.offset, record.len(), bytes.len());
        }
        sent.is_ok()
    }

    pub(super) fn receive(&mut self, ring: &mut Ring, mut bytes: Queue) -> Result<Progress, Failure> {
        if let (Some(tls), Some(socket)) = (&mut self.tls, self.socket) {
            let progress = tls.receive(ring, socket, &mut bytes, &mut self.input)?;
            self.ended |= progress == Progress::Closed;
            return Ok(progress);
        }
        self.input.append(ring.buffers.pieces(), &mut bytes);
        Ok(Progress::Nothing)
    }

    /// Begins TLS on a new connection.
    pub(super) fn secure(&mut self, ring: &mut Ring, mut session: Session) -> Result<(), Failure> {
        let Some(socket) = self.socket else { return Ok(()) };
        session.flush(ring, socket)?;
        self.tls = Some(session);
        Ok(())
    }

    /// Reads one answer from what has arrived.
    pub(super) fn read(&mut self, ring: &mut Ring, asks: &[Ask], head: &mut ResponseHead) -> Read {
        loop {
            let Some(issued) = self.issued.front() else {
                return if self.input.is_empty() { Read::More } else { Read::Broken(Failure::Protocol) };
            };
            let ask = &asks[usize::from(issued.request)];
            let read = match self.answer {
                Some(_) => self.read_body(ring, ask, head),
                None => self.read_head(ring, ask, head),
            };
            match read {
                Ok(None) if self.ended => return Read::Broken(Failure::Reset),
                Ok(None) => return Read::More,
                Ok(Some(())) => {}
                Err(failure) => return Read::Broken(failure),
            }
            if let Some(mut answer) = self.answer.take_if(|_| self.body.is_done()) {
                answer.sha256 = ask.expect.sha256.map(|_| self.hash.finalize_reset().into());
                return Read::Answer(answer);
            }
        }
    }

    /// Takes the oldest request off, which was answered. False: before it was sent whole, so the connection is spoilt.
    pub(super) fn settle(&mut self) -> (Option<Issued>, bool) {
        let whole = self.written > 0;
        self.written -= usize::from(whole);
        (self.issued.pop_front(), whole)
    }

    /// Some: something was read; None: more must arrive.
    fn read_head(&mut self, ring: &mut Ring, ask: &Ask, head: &mut ResponseHead) -> Result<Option<()>, Failure> {
        let Some(mut lease) = self.input.pop(ring.buffers.pieces()) else { return Ok(None) };
        let parsed = http::parse_response(lease.bytes(), &LIMITS, &mut self.scanned, ask.method, head);
        let Some(length) = parsed.map_err(|_| Failure::Protocol)? else {
            self.input.push_front(ring.buffers.pieces(), lease);
            let joined = gather(&mut ring.buffers, &mut self.input).map_err(|_| Failure::Protocol)?;
            return Ok(joined.then_some(()));
        };
        lease.advance(length);
        match head.status {
            101 => return Err(Failure::Protocol),
            // Interim (RFC 9110 section 15.2): the answer is yet to come.
            100..200 => {}
            status => {
                let mut answer = Answer { status, length: 0, sha256: None, keep_alive: head.keep_alive };
                self.body = Body::new(head.body, Trailers::Dropped);
                if let BodyFraming::Length(length) = head.body
                    && length <= lease.len() as u64
                {
                    // The usual case: the body came with its head.
                    if ask.expect.sha256.is_some() {
                        self.hash.update(&lease.bytes()[..length as usize]);
                    }
                    lease.advance(length as usize);
                    (answer.length, self.body) = (length, Body::Done);
                }
                self.answer = Some(answer);
            }
        }
        self.input.push_front(ring.buffers.pieces(), lease);
        Ok(Some(()))
    }

    fn read_body(&mut self, ring: &mut Ring, ask: &Ask, head: &mut ResponseHead) -> Result<Option<()>, Failure> {
        let mut dropped = Queue::default();
        let read = self.body.read(&mut ring.buffers, &mut self.input, &mut dropped, Delivery::Data, &mut head.fields);
        if ask.expect.sha256.is_some() {
            dropped.iter(ring.buffers.pieces()).for_each(|piece| self.hash.update(piece.bytes()));
        }
        dropped.clear(ring.buffers.pieces());
        let count = read.map_err(|_| Failure::Body)?;
        if let Some(answer) = &mut self.answer {
            answer.length += count;
        }
        if self.ended && matches!(self.body, Body::Close) && self.tls.as_ref().is_none_or(Session::is_closed) {
            self.body = Body::Done;
        }
        Ok(self.body.is_done().then_some(()))
    }
}

/// Requests written, and bytes of the next one, after `count` of its `left` bytes were.
fn after(written: usize, offset: usize, count: usize, left: usize) -> (usize, usize) {
    if count == left { (written + 1, 0) } else { (written, offset + count) }
}
