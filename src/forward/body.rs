//! One body on its way in: where it ends, and what comes with its end. Not here: sockets, time-outs, and how the body is framed for
//! whoever gets it (`framing`).

use super::{BuffersExhausted, TrailerSection, Trailers, join};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{self, BodyFraming, ChunkError, ChunkedDecoder, ChunkedPartKind, Fields, HeadLimits, TrailerError};
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
        rule: Trailers,
    },
    /// Ends with the connection (responses only).
    Close,
}

/// What a read of a body has found, besides the data that it has moved.
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
    /// With a trailer section. Even if the chunking was kept, the last chunk was not moved: it is for the writer to write, because
    /// the fields stand within it and not all of them may go on.
    Trailers(TrailerSection),
}

/// What becomes of the chunk lines of a body that comes chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// They go on in place, with the data between them, to a receiver that reads chunks too: nothing is copied or cut.
    Kept,
    /// They are cut out: data is all that is moved.
    Removed,
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

    /// Moves what of `input` is data of this body to `out`, and leaves what follows the body. Once the body has ended, every read
    /// says so. A trailer section is parsed into `fields`, where it stays until the next one of any body is.
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

    /// Notes that the connection has ended in order. That is the end of a body which ends with it, and of no other.
    pub fn close(&mut self) -> Option<BodyEnd> {
        let Self::Close = self else { return None };
        *self = Self::Done;
        Some(BodyEnd::Plain)
    }

    /// Reads the chunks of one piece. Runs of framing and data go on in place; extensions are cut out.
    fn read_chunks(
        &mut self,
        mut lease: Lease,
        buffers: &mut Buffers,
        input: &mut Queue,
        out: &mut Queue,
        chunking: Chunking,
    ) -> Result<u64, BodyError> {
        let Self::Chunked { decoder, trailers } = self else { return Ok(0) };
        let (mut data, mut run) = (0, 0);
        loop {
            if chunking == Chunking::Kept {
                let verbatim = decoder.run(&lease.bytes()[run..]).map_err(BodyError::Chunk)?;
                data += verbatim.data as u64;
                run += verbatim.len;
            }
            // The usual end goes on in place.
            if chunking == Chunking::Kept && decoder.is_between_chunks() && lease.bytes()[run..].starts_with(LAST_CHUNK)
            {
                out.push(buffers.pieces(), lease.split_to(run + LAST_CHUNK.len()));
                input.push_front(buffers.pieces(), lease);
                *self = Self::Done;
                return Ok(data);
            }
            let piece = decoder.next(&lease.bytes()[run..]).map_err(BodyError::Chunk)?;
            match piece.kind {
                ChunkedPartKind::Data => {
                    data += piece.len as u64;
                    run += piece.len;
                }
                ChunkedPartKind::Framing | ChunkedPartKind::Skip => {
                    out.push(buffers.pieces(), lease.split_to(run));
                    lease.advance(piece.len);
                    run = 0;
                }
                ChunkedPartKind::NeedMore => {
                    out.push(buffers.pieces(), lease);
                    return Ok(data);
                }
                ChunkedPartKind::LastChunk => {
                    out.push(buffers.pieces(), lease.split_to(run));
                    lease.advance(piece.len);
                    input.push_front(buffers.pieces(), lease);
                    *self = Self::Trailers { scanned: 0, rule: *trailers };
                    return Ok(data);
                }
            }
        }
    }

    /// Reads the trailer section once it is whole. None: it is not.
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

/// A last chunk without extension or trailers, as it comes and as it is written.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

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
