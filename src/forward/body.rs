//! A body that is received: its data, its end, and the trailer section. Not here: sockets, time-outs, and how the body is framed for
//! its receiver (`framing`).

use super::{BuffersExhausted, TrailerSection, Trailers, join};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{self, BodyFraming, ChunkError, ChunkedDecoder, ChunkedPartKind, Fields, HeadLimits, TrailerError};
use crate::limits;

/// How far the body of one received message has been read.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// It was read to its end.
    Done,
    /// So many bytes are still to come.
    Length(u64),
    /// It is chunked (RFC 9112 section 7.1).
    Chunked {
        /// The position in the chunked coding.
        decoder: ChunkedDecoder,
        /// Which trailers may be forwarded.
        trailers: Trailers,
    },
    /// The last chunk was read, the trailer section follows.
    Trailers {
        /// Bytes of the section that are known not to hold its end.
        scanned: usize,
        /// Which trailers may be forwarded.
        rule: Trailers,
    },
    /// It ends with the connection (responses only).
    Close,
}

/// The result of one read of a body.
#[derive(Debug)]
pub struct Progress {
    /// Bytes of data moved, without framing.
    pub data: u64,
    /// The end of the body, if it was reached.
    pub end: Option<BodyEnd>,
}

/// How a body ends.
#[derive(Debug)]
pub enum BodyEnd {
    /// Without trailers. If the chunking was kept, the last chunk was moved like the others.
    Plain,
    /// With a trailer section. Even if the chunking was kept, the last chunk was not moved: the writer makes its own, because the
    /// fields are part of it and not all of them may be forwarded.
    Trailers(TrailerSection),
}

/// What is done with the chunk lines of a body that is received chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// They are moved in place with the data, for a receiver that reads chunks too: nothing is copied.
    Kept,
    /// They are cut out: only data is moved.
    Removed,
}

/// Why a body cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It breaks the grammar of chunks, or a bound of them.
    Chunk(ChunkError),
    /// It breaks the grammar of trailers, or a bound of them.
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

    /// The body of a request that is about to arrive. `trailers`: which of its trailers may be forwarded.
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

    /// Moves the data of this body from `input` to `out`, and leaves what follows the body. Once the body has ended, every read
    /// reports its end. A trailer section is parsed into `fields`, where it stays until that of another body is parsed.
    ///
    /// # Errors
    /// See [`BodyError`]; what was moved before stays moved.
    pub fn read(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        out: &mut Queue,
        chunking: Chunking,
        fields: &mut Fields,
    ) -> Result<Progress, BodyError> {
        let mut data = 0;
        while !self.is_done() {
            if let Self::Trailers { .. } = self {
                let section = self.read_trailers(buffers, input, fields)?;
                return Ok(Progress { data, end: section.map(BodyEnd::Trailers) });
            }
            let Some(lease) = input.pop(buffers.pieces()) else { return Ok(Progress { data, end: None }) };
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
                    out.push(buffers.pieces(), lease);
                    count
                }
                Self::Chunked { .. } => self.read_chunks(lease, buffers, input, out, chunking)?,
                Self::Done | Self::Trailers { .. } => 0,
            };
        }
        Ok(Progress { data, end: Some(BodyEnd::Plain) })
    }

    /// Takes in that the connection has ended with FIN. That is the end of a body that ends with the connection, and of no other.
    pub fn close(&mut self) -> Option<BodyEnd> {
        let Self::Close = self else { return None };
        *self = Self::Done;
        Some(BodyEnd::Plain)
    }

    /// Reads the chunks of one piece. Consecutive framing and data are moved in place; extensions are cut out.
    fn read_chunks(
        &mut self,
        mut lease: Lease,
        buffers: &mut Buffers,
        input: &mut Queue,
        out: &mut Queue,
        chunking: Chunking,
    ) -> Result<u64, BodyError> {
        let Self::Chunked { decoder, trailers } = self else { return Ok(0) };
        let mut data = 0;
        // Bytes at the beginning of `lease` that are to be moved.
        let mut run = 0;
        loop {
            if chunking == Chunking::Kept {
                let verbatim = decoder.run(&lease.bytes()[run..]).map_err(BodyError::Chunk)?;
                data += verbatim.data as u64;
                run += verbatim.len;
            }
            // The usual end, without extension or trailers, is moved in place.
            if chunking == Chunking::Kept && decoder.is_between_chunks() && lease.bytes()[run..].starts_with(LAST_CHUNK)
            {
                out.push(buffers.pieces(), lease.split_to(run + LAST_CHUNK.len()));
                input.push_front(buffers.pieces(), lease);
                *self = Self::Done;
                return Ok(data);
            }
            let part = decoder.next(&lease.bytes()[run..]).map_err(BodyError::Chunk)?;
            match part.kind {
                ChunkedPartKind::Data => {
                    data += part.len as u64;
                    run += part.len;
                }
                ChunkedPartKind::Framing | ChunkedPartKind::Skip => {
                    out.push(buffers.pieces(), lease.split_to(run));
                    lease.advance(part.len);
                    run = 0;
                }
                ChunkedPartKind::NeedMore => {
                    out.push(buffers.pieces(), lease);
                    return Ok(data);
                }
                ChunkedPartKind::LastChunk => {
                    out.push(buffers.pieces(), lease.split_to(run));
                    lease.advance(part.len);
                    input.push_front(buffers.pieces(), lease);
                    *self = Self::Trailers { scanned: 0, rule: *trailers };
                    return Ok(data);
                }
            }
        }
    }

    /// Reads the trailer section. None: it is not complete yet.
    fn read_trailers(
        &mut self,
        buffers: &mut Buffers,
        input: &mut Queue,
        fields: &mut Fields,
    ) -> Result<Option<TrailerSection>, BodyError> {
        const LIMITS: HeadLimits =
            HeadLimits { head_bytes: limits::HEADER_BYTES, field_count: limits::HEADER_COUNT, request_line: 0 };
        let Self::Trailers { scanned, rule } = self else { return Ok(None) };
        loop {
            let Some(mut lease) = input.pop(buffers.pieces()) else { return Ok(None) };
            let parsed = http::parse_trailers(lease.bytes(), &LIMITS, scanned, fields);
            let section = parsed.map(|end| end.map(|length| TrailerSection::new(lease.split_to(length), *rule)));
            input.push_front(buffers.pieces(), lease);
            if let Some(section) = section.map_err(BodyError::Trailer)? {
                *self = Self::Done;
                return Ok(Some(section));
            }
            if !join(buffers, input)? {
                return Ok(None);
            }
        }
    }
}

/// A last chunk without extension or trailers.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Moves data of a body with `left` bytes to come from `lease` to `out`, and what follows it back to `input`. Returns how many bytes
/// of data were moved.
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
