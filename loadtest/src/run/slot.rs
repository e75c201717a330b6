//! One connection of the generator: requests out, answers in. Not here: the streams of HTTP/2 (`http2`), when requests are due, and
//! counting them.

use std::collections::VecDeque;
use std::time::Duration;

use cairn::buffer::Queue;
use cairn::http::ResponseHead;
use cairn::tls::{Agreement, Session};
use cairn::transport::Transport;
use cairn::uring::Ring;

use super::counts::Failure;
use super::http2::Http2;
use super::response::AnswerReader;
use super::template::{Answer, RequestTemplate};
use super::tls::GOODBYE;

/// Most bytes sent in one piece: the content of a TLS record (RFC 8446 section 5.1), which is sealed in place.
pub(super) const PIECE_BYTES: usize = 1 << 14;

/// One request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issued {
    pub(super) due: Duration,
    /// When a connection was found for it.
    pub(super) at: Duration,
    /// Index of its bytes.
    pub(super) request: u16,
    /// Whether it counts: it is not part of the warm-up.
    pub(super) counts: bool,
    /// Whether a connection that ended has not processed it.
    pub(super) is_sent_again: bool,
}

/// Result of reading.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    /// More bytes have to arrive.
    More,
    /// A request is answered.
    Answer {
        issued: Issued,
        answer: Answer,
        /// Whether the connection can be used for others.
        is_usable: bool,
    },
    /// A stream has ended without the answer.
    Failed {
        issued: Issued,
        failure: Failure,
        /// Whether the server has reset it.
        by_peer: bool,
    },
    /// The server takes no more requests on this connection.
    GoAway,
    /// The connection cannot be used any more.
    Broken(Failure),
}

/// One connection, or a vacant slot for one.
pub(super) struct Slot {
    /// Index of the host that it connects to.
    pub(super) host: u16,
    pub(super) transport: Option<Transport>,
    /// Requests under way, oldest first; over HTTP/2 those that have no stream yet.
    pub(super) issued: VecDeque<Issued>,
    /// How many of them are queued to be sent whole, and how many bytes of the next.
    written: usize,
    offset: usize,
    /// The answer to the oldest one.
    reader: AnswerReader,
    /// Streams, once there is a connection that speaks HTTP/2.
    http2: Option<Box<Http2>>,
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
            reader: AnswerReader::new(),
            http2: None,
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
        if let Some(mut http2) = self.http2.take() {
            http2.clear(&mut ring.buffers, &mut self.issued);
        }
        (self.written, self.offset, self.reader, self.leaving) = (0, 0, AnswerReader::new(), goodbye);
        !goodbye
    }

    /// Speaks HTTP/2 on the connection that was begun, with so many streams at once.
    pub(super) fn speak_http2(&mut self, ring: &mut Ring, streams: usize) {
        let secure = self.transport.as_ref().is_some_and(|transport| transport.session().is_some());
        self.http2 = Some(Http2::new(ring, streams, secure));
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.is_some()
    }

    /// Requests under way.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Issued> {
        self.issued.iter().chain(self.http2.iter().flat_map(|http2| http2.issued()))
    }

    /// Whether nothing is under way on a connection on which nothing can be begun.
    pub(super) fn is_spent(&self) -> bool {
        self.http2.as_ref().is_some_and(|http2| http2.is_spent())
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
        match &self.http2 {
            Some(http2) => http2.is_behind(),
            None => self.written < self.issued.len(),
        }
    }

    /// Queues what is not sent yet, several requests in one piece; over TLS once it is agreed on. False: buffers are short, try
    /// again.
    pub(super) fn write(&mut self, ring: &mut Ring, templates: &[RequestTemplate]) -> Result<bool, Failure> {
        let Some(transport) = self.transport.as_mut().filter(|transport| !self.leaving && !transport.is_handshaking())
        else {
            return Ok(true);
        };
        if let Some(http2) = &mut self.http2 {
            let has_buffers = http2.write(ring, transport, &mut self.issued, templates);
            return if transport.is_broken() { Err(Failure::Tls) } else { Ok(has_buffers) };
        }
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

    /// Reads from what has arrived, up to the next thing that counts.
    pub(super) fn read(&mut self, ring: &mut Ring, templates: &[RequestTemplate], head: &mut ResponseHead) -> Read {
        let has_ended = self.has_ended();
        let Some(transport) = &mut self.transport else { return Read::More };
        if let Some(http2) = &mut self.http2 {
            return http2.read(ring, transport, &mut self.issued, templates, head);
        }
        let Some(issued) = self.issued.front() else {
            return if transport.input.is_empty() { Read::More } else { Read::Broken(Failure::Protocol) };
        };
        let template = &templates[usize::from(issued.request)];
        // Over TLS, FIN alone may be a cut.
        let is_over = transport.has_ended() && transport.session().is_none_or(Session::has_ended);
        match self.reader.read(&mut ring.buffers, &mut transport.input, template, head, is_over) {
            Ok(None) if has_ended => Read::Broken(Failure::Reset),
            Ok(None) => Read::More,
            Err(failure) => Read::Broken(failure),
            Ok(Some(answer)) => {
                let issued = *issued;
                self.issued.pop_front();
                // An answer to a request that was not sent whole spoils the connection.
                let is_whole = self.written > 0;
                self.written -= usize::from(is_whole);
                Read::Answer { issued, answer, is_usable: answer.keep_alive && is_whole }
            }
        }
    }

    /// Gives up a request on a stream of its own that was sent before `before` and is not answered; None: there is no other.
    pub(super) fn give_up_late(&mut self, ring: &mut Ring, before: Duration) -> Option<Read> {
        self.http2.as_mut()?.give_up_late(&mut ring.buffers, before)
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
