//! One connection of the generator that speaks HTTP/2: each request on a stream of its own. Not here: frames and windows
//! (`cairn::http2`), the bytes of answers (`response`), and when requests are due.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use cairn::buffer::{Buffers, Queue};
use cairn::http::{Method, ResponseHead};
use cairn::http2::connection::{Asked, Connection as Frames, Received, Slot as Place};
use cairn::http2::head::Scheme;
use cairn::http2::{ErrorCode, Settings, Side};
use cairn::transport::Transport;
use cairn::uring::Ring;
use slab::Slab;

use super::counts::Failure;
use super::response::{AnswerReader, LIMITS};
use super::slot::{Issued, PIECE_BYTES, Read};
use super::template::RequestTemplate;
use crate::frames::spec;

/// The windows of a stream and of a connection: so large that what is measured never waits for the generator.
const WINDOW: u32 = (1 << 30) - 1;
/// Most bytes of a request that wait on its stream.
const BACKLOG_BYTES: usize = 2 * PIECE_BYTES;

/// What a connection has besides its transport.
pub(super) struct Http2 {
    frames: Frames,
    scheme: Scheme,
    /// Requests under way, by their entries.
    streams: Slab<Stream>,
    /// Streams whose answers are read, but whose end has not been received.
    unended: Vec<Place>,
    /// Part of a request is still to be queued, or to be sent.
    is_behind: bool,
    /// The server opens no more streams, by its GOAWAY.
    is_ending: bool,
}

/// One request under way.
struct Stream {
    place: Place,
    issued: Issued,
    /// Bytes of the request that were queued.
    offset: usize,
    /// What of it the connection has not taken: a part of its head.
    output: Queue,
    /// What of the answer was received and not read.
    input: Queue,
    reader: AnswerReader,
}

impl Stream {
    /// Gives back what it holds. Returns its place and its request.
    fn clear(mut self, buffers: &mut Buffers) -> (Place, Issued) {
        self.output.clear(buffers.pieces());
        self.input.clear(buffers.pieces());
        (self.place, self.issued)
    }
}

impl Http2 {
    /// A connection on which nothing was sent, with so many streams at once.
    pub(super) fn new(ring: &mut Ring, streams: usize, secure: bool) -> Box<Self> {
        let settings = Settings { enable_push: false, initial_window_size: WINDOW, ..Settings::default() };
        let most = u16::try_from(streams).unwrap_or(u16::MAX);
        Box::new(Self {
            frames: Frames::new(&spec(Side::Client, settings, WINDOW, most), &mut ring.buffers),
            scheme: if secure { Scheme::Https } else { Scheme::Http },
            streams: Slab::with_capacity(streams),
            unended: Vec::with_capacity(streams),
            is_behind: false,
            is_ending: false,
        })
    }

    /// Requests on streams.
    pub(super) fn issued(&self) -> impl Iterator<Item = &Issued> {
        self.streams.iter().map(|(_, stream)| &stream.issued)
    }

    /// Whether sending can go on when something was sent.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether nothing is under way on a connection on which nothing can be begun.
    pub(super) fn is_spent(&self) -> bool {
        self.is_ending && self.streams.is_empty()
    }

    /// Gives back all that it holds. Requests under way go to `issued`.
    pub(super) fn clear(&mut self, buffers: &mut Buffers, issued: &mut VecDeque<Issued>) {
        for stream in self.streams.drain() {
            issued.push_back(stream.issued);
            stream.clear(buffers);
        }
        self.frames.clear(buffers);
    }

    /// Opens streams for requests and sends what can be sent, all in one piece. False: buffers are short, try again.
    pub(super) fn write(
        &mut self,
        ring: &mut Ring,
        transport: &mut Transport,
        issued: &mut VecDeque<Issued>,
        templates: &[RequestTemplate],
    ) -> bool {
        while !self.is_ending
            && self.frames.can_open() > 0
            && let Some(first) = issued.pop_front()
        {
            if let Err(first) = self.open(first, templates) {
                issued.push_front(first);
                break;
            }
        }
        let mut has_buffers = true;
        loop {
            if mem::take(&mut self.is_behind) {
                has_buffers &= self.push_all(&mut ring.buffers, templates);
            }
            let (unsent, is_full) = (transport.unsent(ring), transport.is_full(ring));
            let room = if is_full { 0 } else { ring.buffers.queue_limit().bytes.saturating_sub(unsent) };
            let mut out = Queue::default();
            self.frames.write(&mut ring.buffers, room, &mut out);
            has_buffers &= !self.frames.is_broken();
            // What is left waits for windows where nothing was written, and for the socket where it is full.
            let goes_on = self.is_behind && has_buffers && !out.is_empty() && !is_full;
            transport.send(ring, &mut out);
            while self.frames.next_moved().is_some() {}
            if !goes_on {
                return has_buffers;
            }
        }
    }

    /// Opens a stream for a request. Gives it back if there can be none.
    fn open(&mut self, issued: Issued, templates: &[RequestTemplate]) -> Result<(), Issued> {
        let entry = self.streams.vacant_entry();
        let asked = match templates[usize::from(issued.request)].method {
            Method::Head => Asked::Head,
            _ => Asked::Content,
        };
        let Some(place) = self.frames.open(entry.key() as u32, asked) else { return Err(issued) };
        let (output, input) = (Queue::default(), Queue::default());
        entry.insert(Stream { place, issued, offset: 0, output, input, reader: AnswerReader::new() });
        self.is_behind = true;
        Ok(())
    }

    /// Queues more of the requests that are not queued whole. False: buffers are short.
    fn push_all(&mut self, buffers: &mut Buffers, templates: &[RequestTemplate]) -> bool {
        let mut has_buffers = true;
        for (_, stream) in &mut self.streams {
            let bytes = &templates[usize::from(stream.issued.request)].bytes;
            let mut backlog = self.frames.backlog(stream.place);
            while stream.offset < bytes.len() && backlog.bytes < BACKLOG_BYTES {
                let Some(mut piece) = buffers.take() else {
                    has_buffers = false;
                    break;
                };
                let rest = &bytes[stream.offset..];
                stream.offset += piece.append(&rest[..rest.len().min(PIECE_BYTES)]);
                stream.output.push(buffers.pieces(), piece);
                let pushed = self.frames.push(buffers, stream.place, &mut stream.output, false, self.scheme);
                // A head that cannot be sent yields no answer, so that its request runs into the time-out.
                backlog = pushed.unwrap_or_default();
            }
            self.is_behind |= stream.offset < bytes.len() || backlog.bytes > 0;
        }
        has_buffers
    }

    /// Reads what was received, up to the next thing that counts.
    pub(super) fn read(
        &mut self,
        ring: &mut Ring,
        transport: &mut Transport,
        waiting: &mut VecDeque<Issued>,
        templates: &[RequestTemplate],
        head: &mut ResponseHead,
    ) -> Read {
        loop {
            let now = ring.clock().now();
            let received = self.frames.read(&mut ring.buffers, &mut transport.input, &mut head.fields, now);
            let read = match received {
                Ok(Some(Received::Response { slot, entry })) => self.take_head(ring, slot, entry, templates, head),
                Ok(Some(Received::Text { slot, entry, lease })) => {
                    let Some(stream) = self.stream(slot, entry) else { continue };
                    stream.input.push(ring.buffers.pieces(), lease);
                    self.read_answer(&mut ring.buffers, entry, templates, head)
                }
                Ok(Some(Received::Reset { slot, entry, code })) => {
                    self.frames.close(&mut ring.buffers, slot, code);
                    self.unended.retain(|place| *place != slot);
                    match self.stream(slot, entry) {
                        Some(_) => self.take_reset(&mut ring.buffers, entry, code, waiting),
                        // It was answered before.
                        None => None,
                    }
                }
                Ok(Some(Received::GoAway { .. })) => {
                    self.is_ending = true;
                    Some(Read::GoAway)
                }
                // A tunnel was not asked for.
                Ok(Some(Received::End { .. } | Received::Request { .. })) => Some(Read::Broken(Failure::Protocol)),
                Ok(Some(Received::Settings | Received::Pong(_))) => None,
                Ok(None) => {
                    self.close_ended(&mut ring.buffers);
                    return if transport.has_ended() { Read::Broken(Failure::Reset) } else { Read::More };
                }
                Err(error) => {
                    self.frames.fail(&mut ring.buffers, &error);
                    let mut out = Queue::default();
                    self.frames.write(&mut ring.buffers, 0, &mut out);
                    transport.send(ring, &mut out);
                    return Read::Broken(Failure::Protocol);
                }
            };
            if let Some(read) = read {
                return read;
            }
        }
    }

    /// The request on a stream; None: its answer was read, and another request may have its entry.
    fn stream(&mut self, place: Place, entry: u32) -> Option<&mut Stream> {
        self.streams.get_mut(entry as usize).filter(|stream| stream.place == place)
    }

    fn take_head(
        &mut self,
        ring: &mut Ring,
        place: Place,
        entry: u32,
        templates: &[RequestTemplate],
        head: &mut ResponseHead,
    ) -> Option<Read> {
        let stream = self.stream(place, entry)?;
        let method = templates[usize::from(stream.issued.request)].method;
        match self.frames.finish_response(&ring.buffers, place, &LIMITS, method, head) {
            Ok(text) => {
                self.stream(place, entry)?.input.push(ring.buffers.pieces(), text);
                self.read_answer(&mut ring.buffers, entry, templates, head)
            }
            Err(_) => self.give_up(&mut ring.buffers, entry, ErrorCode::ProtocolError, Failure::Protocol),
        }
    }

    fn read_answer(
        &mut self,
        buffers: &mut Buffers,
        entry: u32,
        templates: &[RequestTemplate],
        head: &mut ResponseHead,
    ) -> Option<Read> {
        let stream = self.streams.get_mut(entry as usize)?;
        let template = &templates[usize::from(stream.issued.request)];
        match stream.reader.read(buffers, &mut stream.input, template, head, false) {
            Ok(None) => {
                self.frames.freed(buffers, stream.place, stream.input.bytes());
                None
            }
            Ok(Some(answer)) => {
                let is_sent = stream.offset == template.bytes.len() && self.frames.backlog(stream.place).bytes == 0;
                let (place, issued) = self.streams.remove(entry as usize).clear(buffers);
                if is_sent && !self.frames.has_received_end(place) {
                    self.unended.push(place);
                } else {
                    self.frames.close(buffers, place, ErrorCode::Cancel);
                }
                Some(Read::Answer { issued, answer, is_usable: true })
            }
            Err(failure) => self.give_up(buffers, entry, ErrorCode::Cancel, failure),
        }
    }

    /// Ends a request on whose answer nothing more is read.
    fn give_up(&mut self, buffers: &mut Buffers, entry: u32, code: ErrorCode, failure: Failure) -> Option<Read> {
        let (place, issued) = self.streams.try_remove(entry as usize)?.clear(buffers);
        self.frames.close(buffers, place, code);
        Some(Read::Failed { issued, failure, by_peer: false })
    }

    /// Takes in that a stream was reset. A request that the server has not processed, because it ends the connection, is sent again on
    /// the next one, once.
    fn take_reset(
        &mut self,
        buffers: &mut Buffers,
        entry: u32,
        code: ErrorCode,
        waiting: &mut VecDeque<Issued>,
    ) -> Option<Read> {
        let (_, mut issued) = self.streams.try_remove(entry as usize)?.clear(buffers);
        if code == ErrorCode::RefusedStream && self.is_ending && !issued.is_sent_again {
            issued.is_sent_again = true;
            waiting.push_front(issued);
            return None;
        }
        Some(Read::Failed { issued, failure: Failure::Reset, by_peer: true })
    }

    /// Gives up a request that was sent before `before` and is not answered; None: there is no other.
    pub(super) fn give_up_late(&mut self, buffers: &mut Buffers, before: Duration) -> Option<Read> {
        let late = self.streams.iter().find(|(_, stream)| stream.issued.at <= before)?.0;
        self.give_up(buffers, late as u32, ErrorCode::Cancel, Failure::Timeout)
    }

    /// Closes the streams whose answers were read before their end was received.
    fn close_ended(&mut self, buffers: &mut Buffers) {
        let frames = &mut self.frames;
        self.unended.retain(|place| {
            let has_ended = frames.has_received_end(*place);
            if has_ended {
                frames.close(buffers, *place, ErrorCode::Cancel);
            }
            !has_ended
        });
    }
}
