//! One body on its way out to whoever speaks HTTP/1: chunk lines, the last chunk, trailers. Not here: what the head says of it, and
//! other versions, which take data and ends as `body` finds them.

use super::body::LAST_CHUNK;
use super::{BodyEnd, BuffersExhausted, Chunking, TrailerSection};
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::{self, Fields};

/// What tells the receiver where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The head: it gives the length, or says that there is no body.
    Length,
    /// Chunks that are written here.
    Chunked,
    /// What the sender has framed it with, because that is HTTP/1 as well: its length holds, or its chunks go on as they are. Not for
    /// a body that ends with its sender's connection.
    Verbatim,
    /// The end of the connection.
    Close,
}

impl Framing {
    /// How a body has to be read, for this framing.
    #[must_use]
    pub fn chunking(self) -> Chunking {
        match self {
            Self::Verbatim => Chunking::Kept,
            Self::Length | Self::Chunked | Self::Close => Chunking::Removed,
        }
    }

    /// Frames `data`, as a read has moved it: pieces become chunks if they are to be.
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

    /// Queues what tells the end, behind the data: the last chunk, with those trailers that may go on. `fields`: what the read
    /// that found the end has filled.
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
            // The last chunk was moved with the others, or there are none.
            (Self::Verbatim, BodyEnd::Plain) | (Self::Length | Self::Close, _) => Ok(()),
            (Self::Chunked, BodyEnd::Plain) => push_bytes(buffers, out, LAST_CHUNK),
            (Self::Chunked | Self::Verbatim, BodyEnd::Trailers(section)) => {
                push_trailers(buffers, out, section, fields)
            }
        }
    }
}

/// Queues a piece of data as one chunk. The lines go into the room around the data where there is some.
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

/// Queues the last chunk with those trailers that may go on.
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
    // The section fits: its bound is below the size of a buffer.
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
