//! A body as it is sent to an HTTP/1 receiver: chunk lines, the last chunk, trailers. Not here: the fields of the head that describe
//! it, and other versions, which would frame the same data and ends (`body`) themselves.

use super::body::LAST_CHUNK;
use super::{BodyEnd, BuffersExhausted, Chunking, TrailerSection};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{self, Fields};

/// What tells the receiver where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The head: it gives the length, or shows that there is no body.
    Length,
    /// Chunks that are written here.
    Chunked,
    /// The framing of the sender, which is HTTP/1 as well: its length is kept, or its chunks are forwarded as they are. Not for a body
    /// that ends with its sender's connection.
    Verbatim,
    /// The end of the connection.
    Close,
}

impl Framing {
    /// How a body has to be read to be framed like this.
    #[must_use]
    pub fn chunking(self) -> Chunking {
        match self {
            Self::Verbatim => Chunking::Kept,
            Self::Length | Self::Chunked | Self::Close => Chunking::Removed,
        }
    }

    /// Frames `data` that a read has moved: with [`Framing::Chunked`] each piece becomes a chunk, else nothing changes.
    ///
    /// # Errors
    /// When a buffer is needed and none is free; then only what was framed before is left in `data`.
    pub fn frame_data(self, buffers: &mut Buffers, data: &mut Queue) -> Result<(), BuffersExhausted> {
        if self != Self::Chunked {
            return Ok(());
        }
        let mut unframed = std::mem::take(data);
        while let Some(piece) = unframed.pop(buffers.pieces()) {
            if let Err(exhausted) = push_chunk(buffers, data, piece) {
                unframed.clear(buffers.pieces());
                return Err(exhausted);
            }
        }
        Ok(())
    }

    /// Queues the end of the body behind the data, where chunks mark it: the last chunk, with those trailers that may be forwarded.
    /// `fields`: the fields that the read which found the end has filled.
    ///
    /// # Errors
    /// When no buffer is free.
    pub fn frame_end(
        self,
        buffers: &mut Buffers,
        out: &mut Queue,
        end: &BodyEnd,
        fields: &Fields,
    ) -> Result<(), BuffersExhausted> {
        match (self, end) {
            // The last chunk was moved with the others, or the body is not sent chunked.
            (Self::Verbatim, BodyEnd::Plain) | (Self::Length | Self::Close, _) => Ok(()),
            (Self::Chunked, BodyEnd::Plain) => push_bytes(buffers, out, LAST_CHUNK),
            (Self::Chunked | Self::Verbatim, BodyEnd::Trailers(section)) => {
                push_trailers(buffers, out, section, fields)
            }
        }
    }
}

/// Queues a piece of data as one chunk. The chunk line and the final CRLF are written to the room around the data if it is large
/// enough, else to buffers of their own.
fn push_chunk(buffers: &mut Buffers, out: &mut Queue, mut data: Lease) -> Result<(), BuffersExhausted> {
    let mut line = [0; 18];
    let mut digits = [0; 16];
    let digits = http::write_hex(data.len() as u64, &mut digits);
    line[..digits.len()].copy_from_slice(digits);
    line[digits.len()..digits.len() + 2].copy_from_slice(b"\r\n");
    let line = &line[..digits.len() + 2];
    let ended = data.spare() >= 2 && data.append(b"\r\n") == 2;
    if !data.prepend(line) {
        push_bytes(buffers, out, line)?;
    }
    out.push(buffers.pieces(), data);
    if ended { Ok(()) } else { push_bytes(buffers, out, b"\r\n") }
}

/// Queues the last chunk with those trailers that may be forwarded.
fn push_trailers(
    buffers: &mut Buffers,
    out: &mut Queue,
    section: &TrailerSection,
    fields: &Fields,
) -> Result<(), BuffersExhausted> {
    let mut lease = buffers.take().ok_or(BuffersExhausted)?;
    let mut room = lease.append(b"0\r\n") == 3;
    for (name, value) in section.passed(fields) {
        for part in [name, b": ", value, b"\r\n"] {
            room &= lease.append(part) == part.len();
        }
    }
    room &= lease.append(b"\r\n") == 2;
    out.push(buffers.pieces(), lease);
    // The section always fits: its bound, `limits::HEADER_BYTES`, is below the size of a buffer.
    if room { Ok(()) } else { Err(BuffersExhausted) }
}

/// Queues a few bytes in a buffer of their own.
fn push_bytes(buffers: &mut Buffers, out: &mut Queue, bytes: &[u8]) -> Result<(), BuffersExhausted> {
    let mut lease = buffers.take().ok_or(BuffersExhausted)?;
    debug_assert!(lease.spare() >= bytes.len());
    let _ = lease.append(bytes);
    out.push(buffers.pieces(), lease);
    Ok(())
}
