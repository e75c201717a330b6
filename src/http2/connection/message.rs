//! The text of a message that is sent on a stream: its head becomes HEADERS, its content waits for windows, without chunk lines. Not
//! here: when content is sent (`send`).

use super::Connection;
use super::stream::{Asked, MessageEnd, Outgoing, Slot};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{ChunkedDecoder, ChunkedPartKind, parse_decimal};
use crate::http2::head::{EncodeError, Scheme, encode_request, encode_response, encode_trailers};
use crate::http2::hpack::encoded_bound;
use crate::http2::{FRAME_HEAD_BYTES, Side, StreamId, seal_headers, sealed_bytes};

/// What waits to be sent on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes.
    pub bytes: usize,
    /// Pieces.
    pub pieces: usize,
}

/// Why text is no message. Whoever wrote it is to be mended; the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadText;

/// What a head says of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadSummary {
    /// Of a response; 0 of a request.
    status: u16,
    /// Whether it is CONNECT, or asks for an upgrade.
    is_tunnel: bool,
    framing: HeadFraming,
    /// Lines.
    fields: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadFraming {
    None,
    Length(u64),
    Chunked,
}

impl Connection {
    /// Takes text of the message that is sent on a stream, and sends its head. `ended`: of a tunnel, nothing follows. Returns what
    /// waits; text of a head that is not complete stays in `text`.
    ///
    /// # Errors
    /// The text is no message, or its head cannot be sent.
    pub fn push(
        &mut self,
        buffers: &mut Buffers,
        slot: Slot,
        text: &mut Queue,
        ended: bool,
        scheme: Scheme,
    ) -> Result<Backlog, BadText> {
        loop {
            let Some(stream) = self.streams.get_mut(slot).filter(|stream| !stream.is_reset) else {
                text.clear(buffers.pieces());
                return Ok(Backlog::default());
            };
            match stream.outgoing {
                Outgoing::Head => match take_head(buffers, text)? {
                    Some((lease, length)) => self.send_head(buffers, slot, lease, length, text, scheme)?,
                    None => break,
                },
                Outgoing::Length(left) => {
                    let Some(mut lease) = text.pop(buffers.pieces()) else { break };
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(lease.len());
                    let content = lease.split_to(count);
                    stream.data.push(buffers.pieces(), content);
                    text.push_front(buffers.pieces(), lease);
                    let left = left - count as u64;
                    stream.outgoing = Outgoing::Length(left);
                    if left == 0 {
                        (stream.outgoing, stream.end) = (Outgoing::Complete, MessageEnd::Plain);
                    }
                }
                Outgoing::Chunked(ref mut decoder) => {
                    let Some(lease) = text.pop(buffers.pieces()) else { break };
                    if take_chunks(buffers, decoder, lease, &mut stream.data, text)? {
                        stream.outgoing = Outgoing::Trailers;
                    }
                }
                Outgoing::Trailers => match take_trailers(buffers, text)? {
                    Some(end) => (stream.outgoing, stream.end) = (Outgoing::Complete, end),
                    None => break,
                },
                Outgoing::Raw => {
                    stream.data.append(buffers.pieces(), text);
                    if ended {
                        (stream.outgoing, stream.end) = (Outgoing::Complete, MessageEnd::Plain);
                    }
                    break;
                }
                Outgoing::Complete => {
                    text.clear(buffers.pieces());
                    break;
                }
            }
        }
        self.streams.make_ready(slot);
        Ok(self.backlog(slot))
    }

    /// What waits to be sent on a stream.
    #[must_use]
    pub fn backlog(&self, slot: Slot) -> Backlog {
        self.streams.get(slot).map_or(Backlog::default(), |stream| {
            // The end has to be sent, too.
            let end = usize::from(matches!(stream.end, MessageEnd::Plain | MessageEnd::Trailers(_)));
            Backlog { bytes: stream.data.bytes() + end, pieces: stream.data.pieces() }
        })
    }

    /// Sends the head that stands in the first `length` bytes of `lease`; what follows it goes back to `text`.
    fn send_head(
        &mut self,
        buffers: &mut Buffers,
        slot: Slot,
        mut lease: Lease,
        length: usize,
        text: &mut Queue,
        scheme: Scheme,
    ) -> Result<(), BadText> {
        let side = self.spec.side;
        let stream = self.streams.get_mut(slot).ok_or(BadText)?;
        let summary = summarize(lease.bytes().get(..length).unwrap_or_default(), side)?;
        let is_interim = side == Side::Server && (100..200).contains(&summary.status) && summary.status != 101;
        let is_tunnel = match side {
            Side::Server => stream.asked == Asked::Tunnel && (summary.status == 101 || summary.status / 100 == 2),
            Side::Client => summary.is_tunnel,
        };
        let has_content = !(stream.asked == Asked::Head && side == Side::Server || matches!(summary.status, 204 | 304));
        let outgoing = match summary.framing {
            _ if is_interim => Outgoing::Head,
            _ if is_tunnel => Outgoing::Raw,
            HeadFraming::Chunked if has_content => Outgoing::Chunked(ChunkedDecoder::of_response()),
            HeadFraming::Length(length @ 1..) if has_content => Outgoing::Length(length),
            _ => Outgoing::Complete,
        };
        if summary.status == 101
            && let Some(status) = lease.bytes_mut().get_mut(b"HTTP/1.1 ".len()..b"HTTP/1.1 101".len())
        {
            // An upgrade is accepted with 200 (RFC 8441 section 4).
            status.copy_from_slice(b"200");
        }
        stream.outgoing = outgoing;
        let never_indexed = stream.never_indexed;
        let ends = matches!(outgoing, Outgoing::Complete);
        if side == Side::Client && stream.id.is_connection() {
            let id = StreamId::new(self.next_own);
            self.next_own += 2;
            self.streams.number(slot, id);
        }
        let head = lease.bytes().get(..length).unwrap_or_default();
        let encode = |encoder: &mut _, room: &mut [u8]| match side {
            Side::Server => encode_response(encoder, head, &never_indexed, room),
            Side::Client => encode_request(encoder, head, scheme, &never_indexed, room),
        };
        self.send_section(buffers, slot, summary.fields, head.len(), ends, encode)?;
        lease.advance(length);
        text.push_front(buffers.pieces(), lease);
        Ok(())
    }

    /// Writes a field section of so many lines and bytes of text.
    fn send_section(
        &mut self,
        buffers: &mut Buffers,
        slot: Slot,
        fields: usize,
        bytes: usize,
        ends: bool,
        encode: impl FnOnce(&mut super::Encoder<Box<[u8]>>, &mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), BadText> {
        let stream = self.streams.get_mut(slot).ok_or(BadText)?;
        let frame_size = self.peer.max_frame_size;
        let bound = encoded_bound(fields + 5, bytes + 128);
        let mut sealed = Err(BadText);
        let has_room = self.outbox.section(buffers, sealed_bytes(bound, frame_size) + FRAME_HEAD_BYTES, |room| {
            let encoded = room.get_mut(FRAME_HEAD_BYTES..).ok_or(EncodeError::NoRoom);
            let encoded = encoded.and_then(|room| encode(&mut self.encoder, room));
            let frames = encoded.ok().and_then(|section| seal_headers(room, section, stream.id, ends, frame_size).ok());
            sealed = frames.map(|_| ()).ok_or(BadText);
            frames.unwrap_or(0)
        });
        if !has_room {
            return Err(BadText);
        }
        sealed?;
        if ends {
            stream.end = MessageEnd::Written;
            self.streams.note_moved(slot, 0);
        }
        Ok(())
    }

    /// Sends the trailers that end the message of a stream.
    pub(super) fn send_trailers(&mut self, buffers: &mut Buffers, slot: Slot, text: &Lease) -> Result<(), BadText> {
        let never_indexed = self.streams.get(slot).ok_or(BadText)?.never_indexed;
        let fields = memchr::memchr_iter(b'\n', text.bytes()).count();
        let encode = |encoder: &mut _, room: &mut [u8]| encode_trailers(encoder, text.bytes(), &never_indexed, room);
        self.send_section(buffers, slot, fields, text.len(), true, encode)
    }
}

/// Takes the head off `text`, with what follows it in the same piece. None: it is not complete.
fn take_head(buffers: &mut Buffers, text: &mut Queue) -> Result<Option<(Lease, usize)>, BadText> {
    take_section(buffers, text, b"\r\n\r\n")
}

/// Takes text up to the first `end` into one piece.
fn take_section(buffers: &mut Buffers, text: &mut Queue, end: &[u8]) -> Result<Option<(Lease, usize)>, BadText> {
    let Some(mut lease) = text.pop(buffers.pieces()) else { return Ok(None) };
    loop {
        if let Some(at) = memchr::memmem::find(lease.bytes(), end) {
            return Ok(Some((lease, at + end.len())));
        }
        let Some(mut next) = text.pop(buffers.pieces()) else {
            text.push_front(buffers.pieces(), lease);
            return Ok(None);
        };
        if lease.spare() < next.len() {
            let mut large = buffers.take_large().ok_or(BadText)?;
            if large.append(lease.bytes()) < lease.len() {
                return Err(BadText);
            }
            lease = large;
        }
        let copied = lease.append(next.bytes());
        next.advance(copied);
        text.push_front(buffers.pieces(), next);
        if copied == 0 {
            return Err(BadText);
        }
    }
}

/// Takes the section behind the last chunk.
fn take_trailers(buffers: &mut Buffers, text: &mut Queue) -> Result<Option<MessageEnd>, BadText> {
    let Some((lease, _)) = take_section(buffers, text, b"\r\n")? else { return Ok(None) };
    if lease.bytes().starts_with(b"\r\n") {
        return Ok(Some(MessageEnd::Plain));
    }
    text.push_front(buffers.pieces(), lease);
    let section = take_section(buffers, text, b"\r\n\r\n")?;
    Ok(section.map(|(mut lease, length)| {
        lease.truncate(length);
        MessageEnd::Trailers(lease)
    }))
}

/// Moves the data of chunks in `lease` to `data`, and what follows the last chunk back to `text`. Returns whether that was there.
fn take_chunks(
    buffers: &mut Buffers,
    decoder: &mut ChunkedDecoder,
    mut lease: Lease,
    data: &mut Queue,
    text: &mut Queue,
) -> Result<bool, BadText> {
    loop {
        let part = decoder.next(lease.bytes()).map_err(|_| BadText)?;
        match part.kind {
            ChunkedPartKind::Data => {
                let content = lease.split_to(part.len);
                data.push(buffers.pieces(), content);
            }
            ChunkedPartKind::Framing | ChunkedPartKind::Skip => lease.advance(part.len),
            ChunkedPartKind::NeedMore => return Ok(false),
            ChunkedPartKind::LastChunk => {
                lease.advance(part.len);
                text.push_front(buffers.pieces(), lease);
                return Ok(true);
            }
        }
    }
}

/// Reads what a head says of its message. It was written by cairn, so that nothing in it is ambiguous.
fn summarize(head: &[u8], side: Side) -> Result<HeadSummary, BadText> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let start = lines.next().ok_or(BadText)?;
    let status = match side {
        Side::Server => {
            let digits = start.get(b"HTTP/1.1 ".len()..b"HTTP/1.1 200".len()).ok_or(BadText)?;
            parse_decimal(digits).and_then(|status| u16::try_from(status).ok()).ok_or(BadText)?
        }
        Side::Client => 0,
    };
    let mut summary = HeadSummary {
        status,
        is_tunnel: side == Side::Client && start.starts_with(b"CONNECT "),
        framing: HeadFraming::None,
        fields: 0,
    };
    for line in lines {
        summary.fields += 1;
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = || value.get(1..).unwrap_or_default().trim_ascii();
        match name.len() {
            7 if side == Side::Client && name.eq_ignore_ascii_case(b"upgrade") => summary.is_tunnel = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                summary.framing = HeadFraming::Length(parse_decimal(value()).ok_or(BadText)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => summary.framing = HeadFraming::Chunked,
            _ => {}
        }
    }
    Ok(summary)
}
