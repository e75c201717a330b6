//! Field sections: which message they belong to, and their text. Not here: which fields are allowed (`head`).

use core::time::Duration;

use super::read::NO_BUFFER;
use super::stream::{Asked, Incoming, Slot};
use super::{Connection, Received};
use crate::buffer::{Buffers, Lease};
use crate::http::{BodyFraming, FieldName, Fields, HeadLimits, Method, RequestHead, ResponseHead};
use crate::http2::head::{HeadError, NeverIndexed, ReceivedRequest, RequestSink, ResponseSink, TrailerSink};
use crate::http2::hpack::{DecodedField, FieldSink, Next, SectionSummary};
use crate::http2::{Error, ErrorCode, Priority, Side, StreamId};

/// Where the text of a section in a response of unknown length ends.
const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n\r\n";
/// The same of one that has ended with its head.
const EMPTY: &[u8] = b"content-length: 0\r\n\r\n";

/// A field section that is being read, or is complete.
#[derive(Debug)]
pub(super) struct Section {
    purpose: Purpose,
    end_stream: bool,
    /// Where the section is decoded. None: there is nothing of it. While it is decoded, the lease is large, and empty: what was decoded stands
    /// in its room. While more of it has to arrive, these are the bytes of an ordinary one, if they fit: a peer that does not go on holds
    /// no more than one that sends half a head of HTTP/1.1.
    lease: Option<Lease>,
    /// Set when it is complete.
    summary: Option<SectionSummary>,
}

/// What a section is. One that is dropped is decoded all the same, because the table follows from it (RFC 9113 section 4.3).
#[derive(Debug)]
enum Purpose {
    Request {
        id: StreamId,
        sink: RequestSink,
    },
    Response {
        slot: Slot,
        sink: ResponseSink,
    },
    Trailers {
        slot: Slot,
        sink: TrailerSink,
    },
    /// Nobody wants it. The stream is reset for this reason, if there is one.
    Dropped {
        id: StreamId,
        code: Option<ErrorCode>,
    },
}

impl Section {
    /// The lease with all the room that a section may need.
    fn unfold(&mut self, buffers: &Buffers) -> Result<&mut Lease, Error> {
        let folded = match self.lease.take() {
            Some(lease) if lease.is_empty() => return Ok(self.lease.insert(lease)),
            folded => folded,
        };
        let mut lease = buffers.take_large().ok_or(NO_BUFFER)?;
        if let Some(folded) = folded {
            let copied = lease.append(folded.bytes());
            debug_assert_eq!(copied, folded.len(), "it came out of a large one");
            lease.truncate(0);
        }
        Ok(self.lease.insert(lease))
    }

    /// Moves what was decoded, so many bytes, to an ordinary lease.
    fn fold(&mut self, buffers: &Buffers, decoded: usize) {
        let Some(mut lease) = self.lease.take_if(|lease| lease.is_empty()) else { return };
        let decoded = decoded.min(lease.spare());
        if decoded == 0 {
            return;
        }
        self.lease = match buffers.take() {
            Some(mut folded) if folded.spare() >= decoded => {
                lease.fill(|_| decoded);
                let _ = folded.append(lease.bytes());
                Some(folded)
            }
            _ => Some(lease),
        };
    }
}

/// Takes no field.
struct DroppingSink;

impl FieldSink for DroppingSink {
    fn field(&mut self, _: &mut [u8], _: DecodedField) -> Next {
        Next::Refuse
    }
}

impl Connection {
    /// Begins a section.
    pub(super) fn begin_section(&mut self, id: StreamId, end_stream: bool, now: Duration) -> Result<(), Error> {
        let purpose = self.purpose(id, end_stream, now)?;
        self.decoder.begin(self.spec.section);
        self.section = Some(Section { purpose, end_stream, lease: None, summary: None });
        Ok(())
    }

    fn purpose(&mut self, id: StreamId, end_stream: bool, now: Duration) -> Result<Purpose, Error> {
        let dropped = |code| Ok(Purpose::Dropped { id, code });
        if self.spec.side == Side::Server && self.streams.find(id).is_none() {
            if id <= self.last_peer {
                self.count_late(now)?;
                return match self.is_ignored(id) {
                    true => dropped(None),
                    false => Err(Error::connection(ErrorCode::ProtocolError, "HEADERS on a stream that is over")),
                };
            }
            self.last_peer = id;
            if self.has_ended() {
                self.count_late(now)?;
                return dropped(None);
            }
            if self.streams.is_full() || self.streams.len() >= usize::from(self.most_streams) {
                return dropped(Some(ErrorCode::RefusedStream));
            }
            return Ok(Purpose::Request { id, sink: RequestSink::new(self.spec.settings.enable_connect_protocol) });
        }
        let Some(slot) = self.receiver(id)? else { return dropped(None) };
        let is_head = self.streams.get(slot).is_some_and(|stream| stream.incoming == Incoming::Head);
        match is_head {
            true => Ok(Purpose::Response { slot, sink: ResponseSink::new() }),
            // A second section that does not end the message (RFC 9113 section 8.1).
            false if !end_stream => dropped(Some(ErrorCode::ProtocolError)),
            false => Ok(Purpose::Trailers { slot, sink: TrailerSink::new() }),
        }
    }

    /// Decodes a fragment.
    pub(super) fn fragment(&mut self, buffers: &Buffers, bytes: &[u8]) -> Result<(), Error> {
        let Some(section) = &mut self.section else { return Ok(()) };
        section.unfold(buffers)?;
        let Section { purpose, lease: Some(lease), .. } = section else { return Ok(()) };
        let mut decoded = Ok(());
        lease.fill(|room| {
            decoded = match purpose {
                Purpose::Request { sink, .. } => self.decoder.fragment(bytes, room, sink),
                Purpose::Response { sink, .. } => self.decoder.fragment(bytes, room, sink),
                Purpose::Trailers { sink, .. } => self.decoder.fragment(bytes, room, sink),
                Purpose::Dropped { .. } => self.decoder.fragment(bytes, room, &mut DroppingSink),
            };
            0
        });
        decoded.map_err(|error| error.error())
    }

    /// All was read: gives up the room of a section that is not complete.
    pub(super) fn fold_section(&mut self, buffers: &Buffers) {
        if let Some(section) = &mut self.section {
            section.fold(buffers, self.decoder.written());
        }
    }

    /// Ordinary and large buffers that a section holds of which more has to arrive.
    #[must_use]
    pub fn pinned(&self, buffers: &Buffers) -> [usize; 2] {
        let lease = self.section.as_ref().and_then(|section| section.lease.as_ref());
        buffers.pools().map(|pool| usize::from(lease.is_some_and(|lease| lease.is_of(pool))))
    }

    /// Takes in that a section is complete.
    pub(super) fn end_section(
        &mut self,
        buffers: &mut Buffers,
        trailers: &mut Fields,
        now: Duration,
    ) -> Result<Option<Received>, Error> {
        let summary = self.decoder.end().map_err(|error| error.error())?;
        let Some(section) = &mut self.section else { return Ok(None) };
        section.unfold(buffers)?;
        section.summary = Some(summary);
        match section.purpose {
            Purpose::Request { id, .. } => match self.add_stream(id) {
                Some(slot) => Ok(Some(Received::Request { slot })),
                None => Err(Error::stream(id, ErrorCode::RefusedStream, "too many streams")),
            },
            Purpose::Response { slot, .. } => {
                let entry = self.streams.get(slot).and_then(|stream| stream.entry);
                Ok(entry.map(|entry| Received::Response { slot, entry }))
            }
            Purpose::Trailers { slot, .. } => self.take_trailers(buffers, trailers, slot),
            Purpose::Dropped { id, code } => {
                self.section = None;
                let Some(code) = code else { return Ok(None) };
                if self.streams.find(id).is_some() {
                    return Err(Error::stream(id, code, "a second field section without END_STREAM"));
                }
                self.reset(buffers, id, code);
                self.count_reset(now)?;
                Ok(None)
            }
        }
    }

    /// Of a server: the request whose head is complete, with its text. `limits` hold for the text, as for a head of HTTP/1.1.
    ///
    /// # Errors
    /// The request is malformed or too large. The stream is to be closed, or answered.
    pub fn finish_request(
        &mut self,
        buffers: &Buffers,
        slot: Slot,
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<(ReceivedRequest, Lease), HeadError> {
        let complete = self.section.take().and_then(|section| Some((section.summary?, section)));
        let Some((summary, Section { purpose: Purpose::Request { sink, .. }, end_stream, lease: Some(mut lease), .. })) =
            complete
        else {
            return Err(HeadError::MissingPseudo);
        };
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.incoming = if end_stream { Incoming::Ended } else { Incoming::Chunked { owes_line_end: false } };
        }
        let (mut finished, mut priority) = (Err(HeadError::MissingPseudo), None);
        lease.fill(|room| {
            finished = sink.finish(room, &summary, end_stream, limits, head);
            if let Ok(received) = &finished {
                let text = room.get(received.text()).unwrap_or_default();
                let value = head.fields.named(text, b"priority").next().map(|field| field.value.of(text));
                priority = value.map(Priority::parse);
            }
            finished.as_ref().map_or(0, |received| received.end)
        });
        let received = finished?;
        lease.advance(received.start);
        let is_tunnel = received.is_tunnel || head.method == Method::Connect;
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.priority = priority.unwrap_or(stream.priority);
            stream.came_never_indexed.extend(received.never_indexed);
            stream.asked = match head.method {
                _ if is_tunnel => Asked::Tunnel,
                Method::Head => Asked::Head,
                _ => Asked::Content,
            };
            stream.incoming = match head.body {
                _ if end_stream => Incoming::Ended,
                _ if is_tunnel => Incoming::Raw,
                BodyFraming::Length(length) => Incoming::Length(length),
                BodyFraming::None => Incoming::Length(0),
                BodyFraming::Chunked | BodyFraming::Close => Incoming::Chunked { owes_line_end: false },
            };
        }
        Ok((received, ordinary(buffers, lease, 0)))
    }

    /// Of a client: the text of a response whose head is complete. If the length of its content is unknown, it says that it is
    /// chunked, as the content will be. `request`: the method of the request.
    ///
    /// # Errors
    /// The response is malformed or too large. The stream is to be closed.
    pub fn finish_response(
        &mut self,
        buffers: &Buffers,
        slot: Slot,
        limits: &HeadLimits,
        request: Method,
        head: &mut ResponseHead,
    ) -> Result<Lease, HeadError> {
        let complete = self.section.take().and_then(|section| Some((section.summary?, section)));
        let Some((
            summary,
            Section { purpose: Purpose::Response { sink, .. }, end_stream, lease: Some(mut lease), .. },
        )) = complete
        else {
            return Err(HeadError::MissingPseudo);
        };
        let mut finished = Err(HeadError::MissingPseudo);
        lease.fill(|room| {
            finished = sink.finish(room, &summary, end_stream, limits, request, head);
            finished.as_ref().map_or(0, |received| received.end)
        });
        let received = finished?;
        lease.advance(received.start);
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(ordinary(buffers, lease, 0)) };
        stream.came_never_indexed.extend(received.never_indexed);
        let is_tunnel = stream.asked == Asked::Tunnel && (200..300).contains(&head.status);
        stream.incoming = match head.body {
            _ if end_stream => Incoming::Ended,
            _ if head.status < 200 => Incoming::Head,
            _ if is_tunnel => Incoming::Raw,
            BodyFraming::Length(length) => Incoming::Length(length),
            BodyFraming::None => Incoming::Length(0),
            BodyFraming::Chunked | BodyFraming::Close => Incoming::Chunked { owes_line_end: false },
        };
        // HTTP/1.1 would read on without either of them.
        let may_have_content = request != Method::Head && head.status >= 200 && !matches!(head.status, 204 | 304);
        let has_length = head.fields.get(FieldName::ContentLength).is_some();
        let framing = match stream.incoming {
            Incoming::Chunked { .. } => CHUNKED,
            Incoming::Ended if may_have_content && !has_length => EMPTY,
            _ => b"",
        };
        let mut lease = ordinary(buffers, lease, CHUNKED.len());
        if !framing.is_empty() {
            lease.truncate(lease.len() - 2);
            let written = lease.append(framing);
            debug_assert_eq!(written, framing.len(), "there is room for it");
        }
        Ok(lease)
    }

    /// Takes trailers: text behind the last chunk, where there are chunks. Others have no place in HTTP/1.1, and are left out.
    fn take_trailers(
        &mut self,
        buffers: &mut Buffers,
        fields: &mut Fields,
        slot: Slot,
    ) -> Result<Option<Received>, Error> {
        const LIMITS: HeadLimits = HeadLimits {
            head_bytes: crate::limits::HEADER_BYTES,
            field_count: crate::limits::HEADER_COUNT,
            request_line: 0,
        };
        let Some(Section {
            purpose: Purpose::Trailers { sink, .. },
            lease: Some(mut lease),
            summary: Some(summary),
            ..
        }) = self.section.take()
        else {
            return Ok(None);
        };
        let Some(stream) = self.streams.get(slot) else { return Ok(None) };
        let id = stream.id;
        let Incoming::Chunked { owes_line_end } = stream.incoming else {
            let checked = finish_trailers(sink, &mut lease, &summary, &LIMITS, fields);
            return checked.map_err(|error| error.error(id)).and_then(|_| self.end_message(buffers, slot, id));
        };
        let finished = finish_trailers(sink, &mut lease, &summary, &LIMITS, fields);
        let never_indexed = finished.map_err(|error| error.error(id))?;
        let line = if owes_line_end { &b"\r\n0\r\n"[..] } else { b"0\r\n" };
        let mut text = ordinary(buffers, lease, line.len());
        if !text.prepend(line) {
            return Err(Error::stream(id, ErrorCode::InternalError, "trailers too large"));
        }
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(None) };
        stream.incoming = Incoming::Ended;
        stream.came_never_indexed.extend(never_indexed);
        Ok(stream.entry.map(|entry| Received::Text { slot, entry, lease: text }))
    }
}

/// Checks trailers, and makes their text the content of the lease. They are parsed once more where the text is read. Returns the names
/// of those that came never indexed.
fn finish_trailers(
    sink: TrailerSink,
    lease: &mut Lease,
    summary: &SectionSummary,
    limits: &HeadLimits,
    fields: &mut Fields,
) -> Result<NeverIndexed, HeadError> {
    let mut finished = Err(HeadError::MissingPseudo);
    lease.fill(|room| {
        finished = sink.finish(room, summary, limits, fields);
        finished.as_ref().map_or(0, |received| received.end)
    });
    let received = finished?;
    lease.advance(received.start);
    Ok(received.never_indexed)
}

/// Text in an ordinary buffer with `spare` bytes of room behind it, because large ones are few; or as it is, if it is too long or no
/// buffer is free.
fn ordinary(buffers: &Buffers, lease: Lease, spare: usize) -> Lease {
    match buffers.take() {
        Some(mut moved) if moved.spare() >= lease.len() + spare => {
            let _ = moved.append(lease.bytes());
            moved
        }
        _ => lease,
    }
}
