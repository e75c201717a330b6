//! What is received: frames, the states of streams that they need, and content as text. Not here: field sections (`section`).

use core::time::Duration;

use super::stream::{Incoming, Slot, Stream};
use super::{Connection, Received};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{Fields, write_hex};
use crate::http2::abuse::Glitch;
use crate::http2::settings::Change;
use crate::http2::{Error, ErrorCode, Event, Part, PrefaceStep, Priority, Scope, Setting, Side, StreamId};
use crate::limits;

/// The connection cannot go on without a buffer.
pub(super) const NO_BUFFER: Error = Error::connection(ErrorCode::InternalError, "no buffer is free");
/// The end of a body in chunks, with the line end of the chunk before it.
const LAST_CHUNK: &[u8; 7] = b"\r\n0\r\n\r\n";

impl Connection {
    /// Reads what was received, up to the next thing that the owner has to know. None: all was read. `trailers` is memory that is used
    /// within a call. `now`: the time since some fixed moment.
    ///
    /// # Errors
    /// The connection is to end: see [`Connection::fail`]. What follows is not read.
    pub fn read(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        trailers: &mut Fields,
        now: Duration,
    ) -> Result<Option<Received>, Error> {
        loop {
            if let Some(refused) = self.next_refused() {
                return Ok(Some(refused));
            }
            if let Some(text) = self.next_content() {
                return Ok(Some(text));
            }
            let Some(mut lease) = self.lease.take().or_else(|| input.pop(buffers.pieces())) else {
                self.fold_section(buffers);
                return Ok(None);
            };
            if !self.read_preface(&mut lease)? {
                continue;
            }
            let part = match self.ahead.take() {
                Some(part) => part,
                None => self.reader.next(lease.bytes())?,
            };
            let outcome = self.take_part(buffers, &mut lease, trailers, part, now);
            if part.event != Event::NeedMore {
                self.lease = Some(lease);
            }
            match outcome {
                Ok(None) => {}
                Ok(Some(received)) => return Ok(Some(received)),
                Err(error @ Error { scope: Scope::Connection, .. }) => return Err(error),
                Err(Error { scope: Scope::Stream(id), code, .. }) => {
                    if let Some(received) = self.break_stream(buffers, id, code, now)? {
                        return Ok(Some(received));
                    }
                }
            }
        }
    }

    /// Reads the preface off the first bytes. False: more of it has to arrive.
    fn read_preface(&mut self, lease: &mut Lease) -> Result<bool, Error> {
        let Some(preface) = &mut self.preface else { return Ok(true) };
        match preface.next(lease.bytes()) {
            PrefaceStep::NeedMore => Ok(false),
            PrefaceStep::Complete(len) => {
                lease.advance(len);
                self.preface = None;
                Ok(true)
            }
            PrefaceStep::Mismatch => Err(protocol_error("no preface of HTTP/2")),
        }
    }

    /// Takes a part, which stands at the beginning of `lease`, and drops it there.
    fn take_part(
        &mut self,
        buffers: &mut Buffers,
        lease: &mut Lease,
        trailers: &mut Fields,
        part: Part,
        now: Duration,
    ) -> Result<Option<Received>, Error> {
        let Part { len, event } = part;
        match event {
            Event::Content => {
                let content = lease.split_to(len);
                return self.content(buffers, content, lease);
            }
            Event::Fragment => {
                let decoded = self.fragment(buffers, lease.bytes().get(..len).unwrap_or_default());
                lease.advance(len);
                return decoded.map(|()| None);
            }
            _ => lease.advance(len),
        }
        let limits = self.spec.abuse;
        let checked = match event {
            Event::Unknown => self.abuse.glitch(Glitch::Unknown, &limits, now),
            Event::Priority => self.abuse.glitch(Glitch::Priority, &limits, now),
            Event::PriorityUpdate { .. } => self.abuse.glitch(Glitch::Priority, &limits, now),
            Event::Settings { count } => self.abuse.settings(count, &limits, now),
            // Who measures the connection's delay sends one with each round trip of content.
            Event::Ping { .. } if core::mem::take(&mut self.has_moved) => Ok(()),
            Event::Ping { .. } => self.abuse.glitch(Glitch::Ping, &limits, now),
            Event::WindowUpdate { increment, .. } if increment > 0 => self.abuse.window_update(increment, &limits, now),
            Event::RstStream { .. } if self.spec.side == Side::Server => self.abuse.reset(&limits, now),
            Event::Continuation => self.abuse.continuation(&limits),
            Event::SettingsAck if self.unacknowledged == 0 => self.abuse.glitch(Glitch::Settings, &limits, now),
            Event::GoAway { .. } => self.abuse.glitch(Glitch::GoAway, &limits, now),
            _ => Ok(()),
        };
        checked.map_err(|abuse| abuse.error())?;
        match event {
            Event::Data { stream, flow_length, .. } => self.begin_data(stream, flow_length),
            Event::Padding => {
                self.free_padding(len);
                Ok(None)
            }
            Event::DataEnd { stream, end_stream } => {
                self.free_padding(len);
                self.end_data(buffers, stream, end_stream, now)
            }
            Event::Headers { stream, end_stream } => {
                self.abuse.headers();
                self.begin_section(stream, end_stream, now).map(|()| None)
            }
            Event::HeadersEnd { .. } => self.end_section(buffers, trailers, now),
            Event::Setting(setting) => self.take_setting(setting).map(|()| None),
            Event::Settings { .. } => {
                self.is_within_settings = true;
                Ok(None)
            }
            Event::SettingsEnd => {
                (self.has_peer_settings, self.is_within_settings) = (true, false);
                self.answer(buffers, |frames| frames.settings_ack())?;
                Ok(Some(Received::Settings))
            }
            Event::SettingsAck => {
                self.take_acknowledgement();
                Ok(None)
            }
            Event::Ping { ack: false, data } => self.answer(buffers, |frames| frames.ping(data, true)).map(|()| None),
            Event::Ping { ack: true, data } => Ok(Some(Received::Pong(data))),
            Event::GoAway { last, code } => self.take_go_away(last, code),
            Event::WindowUpdate { stream, increment } => self.take_window(stream, increment).map(|()| None),
            Event::RstStream { stream, code } => self.take_reset(stream, code, now),
            Event::PriorityUpdate { stream, priority } => self.take_priority(stream, priority).map(|()| None),
            _ => Ok(None),
        }
    }

    /// Queues an answer to a frame, unless too many lie here unread.
    fn answer(
        &mut self,
        buffers: &mut Buffers,
        write: impl FnOnce(&mut crate::http2::FrameWriter<'_>) -> Result<(), crate::http2::NoRoom>,
    ) -> Result<(), Error> {
        self.outbox.control(buffers, write);
        let checked = self.abuse.queued_controls(self.outbox.controls(), &self.spec.abuse);
        checked.map_err(|abuse| abuse.error())
    }

    /// The stream that a frame is for, if it is open for what the peer sends. None: it was reset, so that what comes is dropped.
    pub(super) fn receiver(&self, id: StreamId) -> Result<Option<Slot>, Error> {
        let found = self.streams.find(id);
        if let Some(stream) = found.and_then(|slot| self.streams.get(slot)) {
            return match stream {
                stream if stream.is_reset => Ok(None),
                stream if stream.has_received_end() => {
                    Err(Error::connection(ErrorCode::StreamClosed, "a frame behind END_STREAM"))
                }
                _ => Ok(found),
            };
        }
        if self.is_idle(id) {
            return Err(protocol_error("a frame on an idle stream"));
        }
        if !self.is_ignored(id) {
            return Err(Error::connection(ErrorCode::StreamClosed, "a frame on a stream that has ended"));
        }
        Ok(None)
    }

    /// Whether no stream with this identifier was ever opened.
    pub(super) fn is_idle(&self, id: StreamId) -> bool {
        let is_of_peer = id.is_of_client() == (self.spec.side == Side::Server);
        if is_of_peer { id > self.last_peer } else { id.get() >= self.next_own }
    }

    /// Whether frames on a stream that is over are dropped: it was reset here, or came after the last one that is taken. They may have been
    /// on their way for as long as a window lasts, so that they are no glitch.
    pub(super) fn is_ignored(&self, id: StreamId) -> bool {
        self.last_taken.is_some_and(|last| id > last) || self.streams.resets.may_have(id)
    }

    /// Counts a frame of a client for a stream that is over, of which there are few with each stream.
    pub(super) fn count_late(&mut self, now: Duration) -> Result<(), Error> {
        if self.spec.side == Side::Client {
            return Ok(());
        }
        self.abuse.glitch(Glitch::Late, &self.spec.abuse, now).map_err(|abuse| abuse.error())
    }

    fn begin_data(&mut self, id: StreamId, flow_length: u32) -> Result<Option<Received>, Error> {
        (self.data, self.data_content) = (None, 0);
        self.receive.receive(flow_length).map_err(|error| error.of(Scope::Connection))?;
        let Some(slot) = self.receiver(id)? else { return Ok(None) };
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(None) };
        if stream.incoming == Incoming::Head {
            // Of a request, the head is always there; a response has to begin with it.
            return Err(Error::stream(id, ErrorCode::ProtocolError, "DATA before HEADERS"));
        }
        stream.receive.receive(flow_length).map_err(|error| error.of(Scope::Stream(id)))?;
        self.data = Some(slot);
        Ok(None)
    }

    /// Takes content, behind which `rest` was received: it has left the connection, and becomes text.
    fn content(
        &mut self,
        buffers: &mut Buffers,
        mut content: Lease,
        rest: &mut Lease,
    ) -> Result<Option<Received>, Error> {
        let len = content.len() as u32;
        self.receive.free(len);
        self.data_content += len;
        self.has_moved = true;
        let Some(slot) = self.data else { return Ok(None) };
        if self.streams.get(slot).is_some_and(|stream| stream.held > 0) {
            content = with_room(buffers, content);
        }
        let is_chunked = |stream: &Stream| matches!(stream.incoming, Incoming::Chunked { .. });
        if self.streams.get(slot).is_some_and(is_chunked) {
            self.make_room(&mut content, rest)?;
        }
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(None) };
        if stream.is_closing {
            return Err(Error::stream(stream.id, ErrorCode::ProtocolError, "more content than content-length"));
        }
        let Some(entry) = stream.entry else { return Ok(None) };
        match &mut stream.incoming {
            Incoming::Length(left) => match left.checked_sub(u64::from(len)) {
                Some(rest) => *left = rest,
                None => {
                    let id = stream.id;
                    return Err(Error::stream(id, ErrorCode::ProtocolError, "more content than content-length"));
                }
            },
            Incoming::Chunked { owes_line_end } => {
                // The line end of this chunk stands behind it, or else before the next one.
                let owed = core::mem::replace(owes_line_end, true);
                let mut line = [0; 20];
                let line = chunk_line(len, owed, &mut line);
                if content.spare() >= 2 {
                    *owes_line_end = content.append(b"\r\n") < 2;
                }
                if !content.prepend(line) {
                    let mut moved = buffers.take().ok_or(NO_BUFFER)?;
                    let _ = moved.append(line);
                    stream.held += len;
                    self.behind_line = Some((slot, content));
                    return Ok(Some(Received::Text { slot, entry, lease: moved }));
                }
            }
            Incoming::Raw => {}
            Incoming::Head | Incoming::Ended => return Ok(None),
        }
        stream.held += len;
        Ok(Some(Received::Text { slot, entry, lease: content }))
    }

    /// Makes room behind content for the line end of a chunk: the head of the next frame is there, of which two bytes are read now. An
    /// origin may wait for the line end before it takes the chunk.
    fn make_room(&mut self, content: &mut Lease, rest: &mut Lease) -> Result<(), Error> {
        if content.spare() >= 2 || rest.len() < 2 {
            return Ok(());
        }
        let end = self.reader.next(&[])?;
        if end.event == Event::NeedMore {
            // Padding follows.
            return Ok(());
        }
        self.ahead = Some(end);
        let head = self.reader.next(rest.bytes().get(..2).unwrap_or_default())?;
        rest.advance(head.len);
        let has_room = content.take_room(rest, 2);
        debug_assert!(has_room && head.len == 2, "the rest was one piece with the content");
        Ok(())
    }

    /// Padding is no text: its credit is given back at once.
    fn free_padding(&mut self, len: usize) {
        let len = len as u32;
        self.receive.free(len);
        if let Some(stream) = self.data.and_then(|slot| self.streams.get_mut(slot)) {
            stream.receive.free(len);
        }
    }

    /// Ends a DATA frame.
    fn end_data(
        &mut self,
        buffers: &mut Buffers,
        id: StreamId,
        end_stream: bool,
        now: Duration,
    ) -> Result<Option<Received>, Error> {
        self.update_connection_window(buffers);
        let counted = self.abuse.data(self.data_content, end_stream, &self.spec.abuse, now);
        counted.map_err(|abuse| abuse.error())?;
        let Some(slot) = self.data.take() else { return Ok(None) };
        if end_stream {
            return self.end_message(buffers, slot, id);
        }
        self.update_stream_window(buffers, slot);
        Ok(None)
    }

    /// Ends what the peer sends on a stream, without trailers.
    pub(super) fn end_message(
        &mut self,
        buffers: &mut Buffers,
        slot: Slot,
        id: StreamId,
    ) -> Result<Option<Received>, Error> {
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(None) };
        if stream.is_closing {
            self.forget(slot);
            return Ok(None);
        }
        let before = core::mem::replace(&mut stream.incoming, Incoming::Ended);
        let Some(entry) = stream.entry else { return Ok(None) };
        match before {
            Incoming::Length(1..) => {
                Err(Error::stream(id, ErrorCode::ProtocolError, "less content than content-length"))
            }
            Incoming::Chunked { owes_line_end } => {
                let text = LAST_CHUNK.get(if owes_line_end { 0 } else { 2 }..).unwrap_or_default();
                let mut lease = buffers.take().ok_or(NO_BUFFER)?;
                let _ = lease.append(text);
                Ok(Some(Received::Text { slot, entry, lease }))
            }
            Incoming::Raw => Ok(Some(Received::End { slot, entry })),
            Incoming::Length(0) | Incoming::Head | Incoming::Ended => Ok(None),
        }
    }

    fn take_setting(&mut self, setting: Setting) -> Result<(), Error> {
        let sender = match self.spec.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        match self.peer.apply(sender, setting)? {
            Change::Nothing => {}
            Change::Windows(by) => {
                let Self { streams, .. } = self;
                for (_, stream) in streams.iter_mut() {
                    stream.send.shift(by).map_err(|error| error.of(Scope::Connection))?;
                }
                self.wake_all();
            }
            Change::HeaderTable(bytes) => self.encoder.set_limit(bytes),
        }
        Ok(())
    }

    /// Takes in that the peer knows the own parameters: from now on, windows are as large as they say.
    fn take_acknowledgement(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        if self.unacknowledged == 0 {
            self.most_streams = self.told_streams;
        }
        if core::mem::replace(&mut self.is_acknowledged, true) {
            return;
        }
        let own = self.spec.settings.initial_window_size;
        for (_, stream) in self.streams.iter_mut() {
            stream.receive.resize(own);
        }
    }

    fn take_window(&mut self, id: StreamId, increment: u32) -> Result<(), Error> {
        if id.is_connection() {
            self.send.increase(increment).map_err(|error| error.of(Scope::Connection))?;
            return Ok(());
        }
        let Some(slot) = self.streams.find(id) else {
            if self.is_idle(id) {
                return Err(protocol_error("WINDOW_UPDATE on an idle stream"));
            }
            // Credit for the end of a message whose reader did not know yet that it was the end.
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(slot).filter(|stream| !stream.is_reset) else { return Ok(()) };
        stream.send.increase(increment).map_err(|error| error.of(Scope::Stream(id)))?;
        self.streams.make_ready(slot);
        Ok(())
    }

    fn take_reset(&mut self, id: StreamId, code: ErrorCode, now: Duration) -> Result<Option<Received>, Error> {
        let Some(slot) = self.streams.find(id) else {
            if self.is_idle(id) {
                return Err(protocol_error("RST_STREAM on an idle stream"));
            }
            self.count_late(now)?;
            return Ok(None);
        };
        self.streams.resets.add(id);
        Ok(self.give_up(slot, code))
    }

    /// Ends a stream that the peer has broken, with RST_STREAM.
    fn break_stream(
        &mut self,
        buffers: &mut Buffers,
        id: StreamId,
        code: ErrorCode,
        now: Duration,
    ) -> Result<Option<Received>, Error> {
        self.reset(buffers, id, code);
        self.count_reset(now)?;
        Ok(self.streams.find(id).and_then(|slot| self.give_up(slot, code)))
    }

    /// Marks a stream as reset; its owner is told, if it has one.
    pub(super) fn give_up(&mut self, slot: Slot, code: ErrorCode) -> Option<Received> {
        if self.data == Some(slot) {
            self.data = None;
        }
        let stream = self.streams.get_mut(slot).filter(|stream| !stream.is_reset)?;
        if stream.is_closing {
            self.forget(slot);
            return None;
        }
        stream.is_reset = true;
        let entry = stream.entry?;
        Some(Received::Reset { slot, entry, code })
    }

    fn take_priority(&mut self, id: StreamId, priority: Priority) -> Result<(), Error> {
        if !id.is_of_client() {
            return Err(protocol_error("PRIORITY_UPDATE for a stream of the server"));
        }
        // One for a stream that is not open yet may be dropped (RFC 9218 section 7.1).
        if let Some(stream) = self.streams.find(id).and_then(|slot| self.streams.get_mut(slot)) {
            stream.priority = priority;
        }
        Ok(())
    }

    fn take_go_away(&mut self, last: StreamId, code: ErrorCode) -> Result<Option<Received>, Error> {
        if self.peer_takes.is_some_and(|before| last > before) {
            return Err(protocol_error("GOAWAY with a higher stream than before"));
        }
        self.peer_takes = Some(last);
        Ok(Some(Received::GoAway { code }))
    }

    /// A stream of this side that the peer does not take, after its GOAWAY.
    fn next_refused(&mut self) -> Option<Received> {
        let last = self.peer_takes.filter(|_| self.spec.side == Side::Client)?;
        let is_refused = |stream: &Stream| !stream.is_reset && (stream.id > last || stream.id.is_connection());
        let slot = self.streams.iter().find(|(_, stream)| is_refused(stream) && stream.entry.is_some())?.0;
        self.give_up(slot, ErrorCode::RefusedStream)
    }

    /// Content whose chunk line was given before it.
    fn next_content(&mut self) -> Option<Received> {
        let (slot, lease) = self.behind_line.take()?;
        let stream = self.streams.get(slot).filter(|stream| !stream.is_reset)?;
        Some(Received::Text { slot, entry: stream.entry?, lease })
    }

    /// Streams may send again, because their windows have grown.
    fn wake_all(&mut self) {
        for index in 0..self.streams.places() {
            self.streams.make_ready(Slot(index));
        }
    }
}

/// Small content, of a stream whose owner has not taken what came before, in a buffer with room behind it: the next small piece goes there.
/// A window bounds bytes alone, and each piece without room would pin a buffer. Where no buffer is free, it stays where it is.
fn with_room(buffers: &mut Buffers, mut content: Lease) -> Lease {
    if content.len() <= limits::COALESCE_BYTES
        && content.spare() < limits::COALESCE_BYTES + limits::BUFFER_TAILROOM
        && let Some(mut copy) = buffers.take()
    {
        let copied = copy.append(content.bytes());
        debug_assert!(copied == content.len(), "an empty buffer has room for small content");
        content = copy;
    }
    content
}

/// The line of a chunk; behind the line end of the chunk before it, if that is owed.
fn chunk_line(len: u32, owed: bool, line: &mut [u8; 20]) -> &[u8] {
    let mut digits = [0; 16];
    let digits = write_hex(u64::from(len), &mut digits);
    let mut at = 0;
    for part in [if owed { &b"\r\n"[..] } else { b"" }, digits, b"\r\n"] {
        if let Some(to) = line.get_mut(at..at + part.len()) {
            to.copy_from_slice(part);
            at += part.len();
        }
    }
    line.get(..at).unwrap_or_default()
}

const fn protocol_error(reason: &'static str) -> Error {
    Error::connection(ErrorCode::ProtocolError, reason)
}
