//! One body on its way through: where it ends, and what of its framing goes on. Not here: sockets, time-outs.

use super::{BuffersExhausted, join};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{self, BodyFraming, ChunkError, ChunkedDecoder, Fields, HeadLimits, PieceKind, TrailerError};
use crate::limits;

/// How far the body of one received message has been read.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Read to its end.
    Done,
    /// Bytes to come.
    Length(u64),
    /// Chunked (RFC 9112 section 7.1).
    Chunked {
        /// Where in its framing.
        decoder: ChunkedDecoder,
        /// Which trailers may go on.
        trailers: Trailers,
    },
    /// The last chunk was read, the trailer section follows.
    Trailers {
        /// Bytes of it known to hold no end.
        scanned: usize,
        /// Which of it may go on.
        forward: Trailers,
    },
    /// Ends with the connection (responses only).
    Close,
}

/// Which trailers may go on, besides what [`http::is_forwardable_trailer`] says of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// None.
    Dropped,
    /// Those without `_` in their names: applications take it for `-`, and then the name for one that is removed from heads.
    Plain,
    /// All.
    Passed,
}

/// What the receiving side wants of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The bytes as they came; chunks stay chunks.
    Same,
    /// The data without chunk framing.
    Data,
    /// The data in chunks, though it came without.
    Chunks,
}

/// The body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Against the chunk grammar or a bound of it.
    Chunk(ChunkError),
    /// Against the trailer grammar or a bound of it.
    Trailer(TrailerError),
    /// No buffer is free.
    Exhausted,
}

impl From<BuffersExhausted> for BodyError {
    fn from(BuffersExhausted: BuffersExhausted) -> Self {
        Self::Exhausted
    }
}

impl Body {
    /// The body of a response that is about to arrive.
    #[must_use]
    pub fn of_response(framing: BodyFraming, trailers: Trailers) -> Self {
        match framing {
            BodyFraming::Chunked => Self::Chunked { decoder: ChunkedDecoder::of_response(), trailers },
            framing => Self::new(framing, trailers),
        }
    }

    /// The body of a request that is about to arrive. `trailers`: which of its trailers may go on.
    #[must_use]
    pub fn new(framing: BodyFraming, trailers: Trailers) -> Self {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) => Self::Done,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked { decoder: ChunkedDecoder::new(), trailers },
            BodyFraming::Close => Self::Close,
        }
    }

    /// Whether it was read to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Moves what of `input` belongs to this body to `out`, framed as `delivery` says, and leaves the rest. Returns the bytes
    /// of data moved.
    ///
    /// # Errors
    /// See [`BodyError`]; what was moved before stays moved.
    pub fn read(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        out: &mut Queue,
        delivery: Delivery,
        trailers: &mut Fields,
    ) -> Result<u64, BodyError> {
        let mut data = 0;
        while !self.is_done() {
            if let Self::Trailers { .. } = self {
                if self.read_trailers(buffers, input, out, delivery, trailers)? {
                    continue;
                }
                break;
            }
            let Some(lease) = input.pop(buffers.pieces()) else { break };
            data += match self {
                Self::Length(left) => {
                    let count = read_length(left, lease, buffers, input, out);
                    if *left == 0 {
                        *self = Self::Done;
                    }
                    count
                }
                Self::Close => {
                    let count = lease.len() as u64;
                    push(buffers, out, lease, delivery)?;
                    count
                }
                Self::Chunked { .. } => self.read_chunks(lease, buffers, input, out, delivery)?,
                Self::Done | Self::Trailers { .. } => 0,
            };
        }
        Ok(data)
    }

    /// Reads the chunks of one piece. Runs of framing and data go on in place; extensions are cut out.
    fn read_chunks(
        &mut self,
        mut lease: Lease,
        buffers: &mut Buffers,
        input: &mut Queue,
        out: &mut Queue,
        delivery: Delivery,
    ) -> Result<u64, BodyError> {
        let Self::Chunked { decoder, trailers } = self else { return Ok(0) };
        let (mut data, mut run) = (0, 0);
        loop {
            if delivery == Delivery::Same {
                let verbatim = decoder.run(&lease.bytes()[run..]).map_err(BodyError::Chunk)?;
                data += verbatim.data as u64;
                run += verbatim.len;
            }
            // The usual end goes on in place.
            if delivery == Delivery::Same && decoder.is_between_chunks() && lease.bytes()[run..].starts_with(LAST_CHUNK)
            {
                out.push(buffers.pieces(), lease.split_to(run + LAST_CHUNK.len()));
                input.push_front(buffers.pieces(), lease);
                *self = Self::Done;
                return Ok(data);
            }
            let piece = decoder.next(&lease.bytes()[run..]).map_err(BodyError::Chunk)?;
            match piece.kind {
                PieceKind::Data => {
                    data += piece.len as u64;
                    run += piece.len;
                }
                PieceKind::Framing | PieceKind::Skip => {
                    out.push(buffers.pieces(), lease.split_to(run));
                    lease.advance(piece.len);
                    run = 0;
                }
                PieceKind::NeedMore => {
                    out.push(buffers.pieces(), lease);
                    return Ok(data);
                }
                PieceKind::LastChunk => {
                    out.push(buffers.pieces(), lease.split_to(run));
                    lease.advance(piece.len);
                    input.push_front(buffers.pieces(), lease);
                    *self = Self::Trailers { scanned: 0, forward: *trailers };
                    return Ok(data);
                }
            }
        }
    }

    /// Reads the trailer section once it is whole and writes the last chunk with the fields that may go on. Returns whether
    /// it was whole.
    fn read_trailers(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        out: &mut Queue,
        delivery: Delivery,
        trailers: &mut Fields,
    ) -> Result<bool, BodyError> {
        const LIMITS: HeadLimits =
            HeadLimits { head_bytes: limits::HEADER_BYTES, field_count: limits::HEADER_COUNT, request_line: 0 };
        let Self::Trailers { scanned, forward } = self else { return Ok(true) };
        let forward = if delivery == Delivery::Same { *forward } else { Trailers::Dropped };
        let length = loop {
            let Some(bytes) = input.front(buffers.pieces()) else { return Ok(false) };
            if let Some(length) = http::parse_trailers(bytes, &LIMITS, scanned, trailers).map_err(BodyError::Trailer)? {
                break length;
            }
            if !join(buffers, input)? {
                return Ok(false);
            }
        };
        *self = Self::Done;
        let Some(mut rest) = input.pop(buffers.pieces()) else { return Ok(true) };
        let section = rest.split_to(length);
        input.push_front(buffers.pieces(), rest);
        if forward != Trailers::Dropped {
            write_trailers(section.bytes(), trailers, forward, buffers, out)?;
        } else if delivery == Delivery::Same {
            end_chunks(buffers, out)?;
        }
        Ok(true)
    }
}

/// A last chunk without extension or trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn read_length(left: &mut u64, mut lease: Lease, buffers: &mut Buffers, input: &mut Queue, out: &mut Queue) -> u64 {
    let count = (*left).min(lease.len() as u64);
    *left -= count;
    if count == lease.len() as u64 {
        out.push(buffers.pieces(), lease);
    } else {
        out.push(buffers.pieces(), lease.split_to(count as usize));
        input.push_front(buffers.pieces(), lease);
    }
    count
}

/// Queues data, with a chunk's framing around it if asked for.
fn push(buffers: &mut Buffers, out: &mut Queue, mut lease: Lease, delivery: Delivery) -> Result<(), BodyError> {
    if delivery != Delivery::Chunks || lease.is_empty() {
        out.push(buffers.pieces(), lease);
        return Ok(());
    }
    let mut line = [0; 18];
    let mut digits = [0; 16];
    let digits = http::write_hex(lease.len() as u64, &mut digits);
    line[..digits.len()].copy_from_slice(digits);
    line[digits.len()..digits.len() + 2].copy_from_slice(b"\r\n");
    let line = &line[..digits.len() + 2];
    let ended = lease.spare() >= 2 && lease.append(b"\r\n") == 2;
    if !lease.prepend(line) {
        let line = written(buffers, line)?;
        out.push(buffers.pieces(), line);
    }
    out.push(buffers.pieces(), lease);
    if !ended {
        let end = written(buffers, b"\r\n")?;
        out.push(buffers.pieces(), end);
    }
    Ok(())
}

/// The end of a body that was delivered as [`Delivery::Chunks`].
///
/// # Errors
/// When no buffer is free.
pub fn end_chunks(buffers: &mut Buffers, out: &mut Queue) -> Result<(), BuffersExhausted> {
    let end = written(buffers, LAST_CHUNK)?;
    out.push(buffers.pieces(), end);
    Ok(())
}

fn write_trailers(
    section: &[u8],
    trailers: &Fields,
    forward: Trailers,
    buffers: &mut Buffers,
    out: &mut Queue,
) -> Result<(), BodyError> {
    let mut lease = buffers.take().ok_or(BodyError::Exhausted)?;
    let mut room = lease.append(b"0\r\n") == 3;
    for field in trailers.iter() {
        let name = field.name.of(section);
        let is_refused = forward == Trailers::Plain && name.contains(&b'_');
        if is_refused || !http::is_forwardable_trailer(name, field.id) {
            continue;
        }
        for part in [name, b": ", field.value.of(section), b"\r\n"] {
            room &= lease.append(part) == part.len();
        }
    }
    room &= lease.append(b"\r\n") == 2;
    out.push(buffers.pieces(), lease);
    // The section fits: its bound is below the size of a buffer.
    if room { Ok(()) } else { Err(BodyError::Exhausted) }
}

fn written(buffers: &Buffers, bytes: &[u8]) -> Result<Lease, BuffersExhausted> {
    let mut lease = buffers.take().ok_or(BuffersExhausted)?;
    debug_assert!(lease.spare() >= bytes.len());
    let _ = lease.append(bytes);
    Ok(lease)
}
