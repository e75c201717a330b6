//! One connection of the generator: requests out, answers in. Not here: when requests are due, and counting them.

use std::collections::VecDeque;
use std::time::Duration;

use cairn::buffer::Queue;
use cairn::forward::{Body, Chunking, Trailers, join};
use cairn::http::{self, BodyFraming, HeadLimits, ResponseHead};
use cairn::limits;
use cairn::tls::{Agreement, Session};
use cairn::transport::Transport;
use cairn::uring::Ring;
use sha2::{Digest, Sha256};

use super::counts::Failure;
use super::template::{Answer, RequestTemplate};
use super::tls::GOODBYE;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT_MAX,
    request_line: limits::REQUEST_LINE_BYTES,
};

/// Most bytes sent in one piece: the content of a TLS record (RFC 8446 section 5.1), which is sealed in place.
const PIECE_BYTES: usize = 1 << 14;

/// One request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issued {
    pub(super) due: Duration,
    /// Index of its bytes.
    pub(super) request: u16,
    /// Whether it counts: it is not part of the warm-up.
    pub(super) counts: bool,
}

/// Result of reading.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// More bytes have to arrive.
    More,
    /// The oldest request is answered.
    Answer(Answer),
    /// The connection cannot be used any more.
    Broken(Failure),
}

/// One connection, or a vacant slot for one.
pub(super) struct Slot {
    /// Index of the host that it connects to.
    pub(super) host: u16,
    pub(super) transport: Option<Transport>,
    /// Requests under way, oldest first.
    pub(super) issued: VecDeque<Issued>,
    /// How many of them are queued to be sent whole, and how many bytes of the next.
    written: usize,
    offset: usize,
    /// Bytes of an incomplete head that were searched for its end.
    scanned: usize,
    /// The answer whose body is arriving.
    answer: Option<Answer>,
    body: Body,
    /// Hash of the body so far, if one is expected.
    hash: Sha256,
    /// Whether close_notify is being sent; after that the connection is closed in any case.
    pub(super) leaving: bool,
    /// Whether the slot is in the generator's list of slots to write.
    pub(super) dirty: bool,
    /// The slot pauses after a failed connection, or sends close_notify. It withholds this many permissions to send.
    pub(super) resting: Option<u16>,
}

impl Slot {
    pub(super) fn new(host: u16, pipeline: usize) -> Self {
        Self {
            host,
            transport: None,
            issued: VecDeque::with_capacity(pipeline),
            written: 0,
            offset: 0,
            scanned: 0,
            answer: None,
            body: Body::Done,
            hash: Sha256::new(),
            leaving: false,
            dirty: false,
            resting: None,
        }
    }

    /// Closes the connection. Requests under way stay in `issued` for the caller to settle. False: close_notify is sent first, and
    /// the next call closes.
    pub(super) fn close(&mut self, ring: &mut Ring) -> bool {
        let goodbye = !self.leaving && self.transport.as_mut().is_some_and(|transport| close_notify(ring, transport));
        if goodbye {
            self.transport.as_mut().into_iter().for_each(|left| left.input.clear(ring.buffers.pieces()));
        } else if let Some(transport) = self.transport.take() {
            transport.close(ring, false);
        }
        self.hash.reset();
        (self.written, self.offset, self.scanned) = (0, 0, 0);
        (self.answer, self.body, self.leaving) = (None, Body::Done, goodbye);
        !goodbye
    }

    /// Notes that the server has sent FIN.
    pub(super) fn end(&mut self) {
        if let Some(transport) = &mut self.transport {
            transport.end();
        }
    }

    /// Whether nothing more will arrive on a connection that could be used.
    pub(super) fn has_ended(&self) -> bool {
        !self.leaving && self.transport.as_ref().is_some_and(Transport::has_ended)
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.issued.len()
    }

    /// Queues what is not sent yet, several requests in one piece; over TLS once it is agreed on. False: buffers are short, try
    /// again.
    pub(super) fn write(&mut self, ring: &mut Ring, templates: &[RequestTemplate]) -> Result<bool, Failure> {
        let Some(transport) = self.transport.as_mut().filter(|transport| !transport.is_handshaking()) else {
            return Ok(true);
        };
        // Behind the limit, the next send completion goes on.
        while self.written < self.issued.len() && !transport.is_full(ring) {
            let Some(mut piece) = ring.buffers.take() else { return Ok(false) };
            while self.written < self.issued.len() && piece.len() < PIECE_BYTES {
                let bytes = &templates[usize::from(self.issued[self.written].request)].bytes[self.offset..];
                let count = piece.append(&bytes[..bytes.len().min(PIECE_BYTES - piece.len())]);
                (self.written, self.offset) = after(self.written, self.offset, count, bytes.len());
            }
            transport.send_piece(ring, piece);
        }
        if transport.is_broken() { Err(Failure::Tls) } else { Ok(true) }
    }

    /// Takes in received bytes. Returns the result of the handshake once.
    pub(super) fn receive(&mut self, ring: &mut Ring, mut bytes: Queue) -> Result<Option<Agreement>, Failure> {
        match &mut self.transport {
            Some(transport) => transport.receive(ring, bytes).map_err(|_| Failure::Tls),
            None => {
                bytes.clear(ring.buffers.pieces());
                Ok(None)
            }
        }
    }

    /// Reads one answer from what has arrived.
    pub(super) fn read(&mut self, ring: &mut Ring, templates: &[RequestTemplate], head: &mut ResponseHead) -> Read {
        loop {
            let Some(issued) = self.issued.front() else {
                let surplus = self.transport.as_ref().is_some_and(|transport| !transport.input.is_empty());
                return if surplus { Read::Broken(Failure::Protocol) } else { Read::More };
            };
            let template = &templates[usize::from(issued.request)];
            let read = match self.answer {
                Some(_) => self.read_body(ring, template, head),
                None => self.read_head(ring, template, head),
            };
            match read {
                Ok(None) if self.has_ended() => return Read::Broken(Failure::Reset),
                Ok(None) => return Read::More,
                Ok(Some(())) => {}
                Err(failure) => return Read::Broken(failure),
            }
            if let Some(mut answer) = self.answer.take_if(|_| self.body.is_done()) {
                answer.sha256 = template.expect.sha256.map(|_| self.hash.finalize_reset().into());
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
    fn read_head(
        &mut self,
        ring: &mut Ring,
        template: &RequestTemplate,
        head: &mut ResponseHead,
    ) -> Result<Option<()>, Failure> {
        let Some(Transport { input, .. }) = &mut self.transport else { return Ok(None) };
        let Some(mut lease) = input.pop(ring.buffers.pieces()) else { return Ok(None) };
        let parsed = http::parse_response(lease.bytes(), &LIMITS, &mut self.scanned, template.method, head);
        let Some(length) = parsed.map_err(|_| Failure::Protocol)? else {
            input.push_front(ring.buffers.pieces(), lease);
            let joined = join(&mut ring.buffers, input).map_err(|_| Failure::Protocol)?;
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
                    if template.expect.sha256.is_some() {
                        self.hash.update(&lease.bytes()[..length as usize]);
                    }
                    lease.advance(length as usize);
                    (answer.length, self.body) = (length, Body::Done);
                }
                self.answer = Some(answer);
            }
        }
        input.push_front(ring.buffers.pieces(), lease);
        Ok(Some(()))
    }

    fn read_body(
        &mut self,
        ring: &mut Ring,
        template: &RequestTemplate,
        head: &mut ResponseHead,
    ) -> Result<Option<()>, Failure> {
        let Some(transport) = &mut self.transport else { return Ok(None) };
        let mut dropped = Queue::default();
        let input = &mut transport.input;
        let read = self.body.read(&mut ring.buffers, input, &mut dropped, Chunking::Removed, &mut head.fields);
        if template.expect.sha256.is_some() {
            dropped.iter(ring.buffers.pieces()).for_each(|piece| self.hash.update(piece.bytes()));
        }
        dropped.clear(ring.buffers.pieces());
        let progress = read.map_err(|_| Failure::Body)?;
        if let Some(answer) = &mut self.answer {
            answer.length += progress.data;
        }
        // Over TLS, FIN alone may be a cut.
        let whole = transport.has_ended() && transport.session().is_none_or(Session::has_ended);
        if whole {
            self.body.close();
        }
        Ok(self.body.is_done().then_some(()))
    }
}

/// Says over TLS that nothing more will come (RFC 8446 section 6.1). True: the connection is to be closed when all is sent, or when
/// that takes too long.
fn close_notify(ring: &mut Ring, transport: &mut Transport) -> bool {
    if transport.session().is_none_or(Session::is_handshaking) {
        return false;
    }
    transport.close_notify(ring);
    ring.set_deadline(transport.socket(), Some(GOODBYE));
    transport.unsent(ring) > 0
}

/// Requests written, and bytes of the next one, after `count` of its `left` bytes were.
fn after(written: usize, offset: usize, count: usize, left: usize) -> (usize, usize) {
    if count == left { (written + 1, 0) } else { (written, offset + count) }
}
