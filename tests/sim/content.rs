//! What bodies and tunnels consist of: bytes that follow from the exchange, the direction and the offset, so that every byte which
//! arrives anywhere can be checked. And chunked bodies, as peers read and write them.

use crate::random::mix;

/// Where a byte goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the origin.
    Up,
    /// To the client.
    Down,
}

/// The bytes at `offset` of an exchange.
pub(crate) fn content(exchange: u32, way: Way, offset: usize, length: usize) -> Vec<u8> {
    let first = offset & !7;
    let mut bytes = Vec::with_capacity(length + 16);
    while first + bytes.len() < offset + length {
        let key = u64::from(exchange) << 33 | (way as u64) << 32 | ((first + bytes.len()) as u64 >> 3);
        bytes.extend_from_slice(&mix(key).to_le_bytes());
    }
    bytes.truncate(offset - first + length);
    bytes.drain(..offset - first);
    bytes
}

/// The first byte that is not what it should be, by its place in `bytes`.
pub(crate) fn mismatch(exchange: u32, way: Way, offset: usize, bytes: &[u8]) -> Option<usize> {
    let expected = content(exchange, way, offset, bytes.len());
    if expected == bytes {
        return None;
    }
    (0..bytes.len()).find(|at| bytes[*at] != expected[*at])
}

/// Reads a chunked body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// Before a chunk-size line.
    #[default]
    Size,
    /// Within a chunk: bytes that are left of it.
    Data(usize),
    /// Before the end of the line behind a chunk.
    DataEnd,
    /// Within the trailer section.
    Trailers,
    /// It has ended.
    Done,
}

impl Chunks {
    /// Takes what it can off the front of `input` and appends the content to `out`.
    ///
    /// # Errors
    /// When the framing is broken.
    pub(crate) fn read(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), String> {
        let mut rest = &input[..];
        let read = self.advance(&mut rest, out);
        let taken = input.len() - rest.len();
        input.drain(..taken);
        read
    }

    fn advance(&mut self, rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        loop {
            match *self {
                Self::Size => {
                    let Some(line) = take_line(rest) else { return Ok(()) };
                    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                    let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
                    *self = match size.ok_or_else(|| format!("chunk size {:?}", String::from_utf8_lossy(line)))? {
                        0 => Self::Trailers,
                        size => Self::Data(size),
                    };
                }
                Self::Data(left) => {
                    let (data, behind) = rest.split_at(left.min(rest.len()));
                    out.extend_from_slice(data);
                    *rest = behind;
                    if data.len() < left {
                        *self = Self::Data(left - data.len());
                        return Ok(());
                    }
                    *self = Self::DataEnd;
                }
                Self::DataEnd => {
                    let Some(line) = take_line(rest) else { return Ok(()) };
                    if !line.is_empty() {
                        return Err(format!("{:?} behind a chunk", String::from_utf8_lossy(line)));
                    }
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(line) = take_line(rest) else { return Ok(()) };
                    if line.is_empty() {
                        *self = Self::Done;
                    }
                }
                Self::Done => return Ok(()),
            }
        }
    }
}

/// Takes a line off the front, without its CRLF.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memmem::find(rest, b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

/// Frames content as chunks of up to `size` bytes each.
pub(crate) fn chunked(content: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut framed = Vec::with_capacity(content.len() + 64);
    for chunk in content.chunks(size.max(1)) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n");
    framed.extend_from_slice(trailers.as_bytes());
    framed.extend_from_slice(b"\r\n");
    framed
}
