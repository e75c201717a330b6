//! WebSocket echo (RFC 6455): the answer to the handshake, then each frame is sent back. Not here: joining
//! fragments, extensions, or checking UTF-8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn::forward::join;
use cairn::http::RequestHead;
use cairn::transport::Transport;
use cairn::uring::Ring;
use sha1::{Digest, Sha1};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Kinds of frames (section 5.2).
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Longest head of a frame from a server: it has no mask.
const HEAD_BYTES: usize = 10;

/// Position within a frame. The default is before a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Echo {
    /// Bytes of payload that are still to come.
    left: u64,
    mask: [u8; 4],
    /// Offset in the mask for the next byte.
    at: usize,
    /// Whether the frame is a pong, which is not answered.
    silent: bool,
    /// The frame is a Close: the last one.
    closing: bool,
}

/// Result of [`Echo::pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes have to arrive or to be sent.
    Wait,
    /// The Close was sent back.
    Closed,
    /// The bytes are no valid frame of a client.
    Broken,
}

/// The answer that accepts; None: the request asks for no WebSocket.
pub(super) fn handshake(bytes: &[u8], request: &RequestHead) -> Option<Vec<u8>> {
    if !request.upgrade?.of(bytes).eq_ignore_ascii_case(b"websocket") {
        return None;
    }
    let named = |name: &[u8]| name.eq_ignore_ascii_case(b"sec-websocket-key");
    let key = request.fields.iter().find(|field| named(field.name.of(bytes)))?;
    let accept = STANDARD.encode(Sha1::new().chain_update(key.value.of(bytes)).chain_update(GUID).finalize());
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    Some(format!("{head}{accept}\r\n\r\n").into_bytes())
}

impl Echo {
    /// Sends back what has arrived.
    pub(super) fn pump(&mut self, ring: &mut Ring, transport: &mut Transport) -> Progress {
        loop {
            if self.left == 0 && self.closing {
                return Progress::Closed;
            }
            // If the queue is full, the next send completion continues.
            if transport.is_full(ring) {
                return Progress::Wait;
            }
            let stepped =
                if self.left > 0 { self.turn_payload(ring, transport) } else { self.turn_head(ring, transport) };
            if let Some(progress) = stepped {
                return progress;
            }
        }
    }

    /// None: go on.
    fn turn_payload(&mut self, ring: &mut Ring, transport: &mut Transport) -> Option<Progress> {
        let Some(mut piece) = transport.input.pop(ring.buffers.pieces()) else { return Some(Progress::Wait) };
        if piece.len() as u64 > self.left {
            let head = piece.split_to(self.left as usize);
            transport.input.push_front(ring.buffers.pieces(), std::mem::replace(&mut piece, head));
        }
        self.left -= piece.len() as u64;
        for byte in piece.bytes_mut() {
            *byte ^= self.mask[self.at];
            self.at = (self.at + 1) % self.mask.len();
        }
        if !self.silent {
            transport.send_piece(ring, piece);
        }
        None
    }

    /// None: go on.
    fn turn_head(&mut self, ring: &mut Ring, transport: &mut Transport) -> Option<Progress> {
        let Some(mut lease) = transport.input.pop(ring.buffers.pieces()) else { return Some(Progress::Wait) };
        let Ok(read) = read_head(lease.bytes()) else { return Some(Progress::Broken) };
        let Some((first, length, mask, bytes)) = read else {
            transport.input.push_front(ring.buffers.pieces(), lease);
            return match join(&mut ring.buffers, &mut transport.input) {
                Ok(true) => None,
                Ok(false) => Some(Progress::Wait),
                Err(_) => Some(Progress::Broken),
            };
        };
        lease.advance(bytes);
        transport.input.push_front(ring.buffers.pieces(), lease);
        let kind = first & 0x0f;
        *self = Self { left: length, mask, at: 0, silent: kind == PONG, closing: kind == CLOSE };
        if !self.silent {
            let Some(mut head) = ring.buffers.take() else { return Some(Progress::Broken) };
            let (text, count) = write_head(if kind == PING { first & 0xf0 | PONG } else { first }, length);
            let written = head.append(&text[..count]);
            debug_assert_eq!(written, count);
            transport.send_piece(ring, head);
        }
        None
    }
}

/// A client has to mask its frames (section 5.1).
#[derive(Debug, PartialEq, Eq)]
struct Unmasked;

/// First byte, length of the payload, mask, and bytes of the head; None: it is not whole.
type Head = Option<(u8, u64, [u8; 4], usize)>;

fn read_head(bytes: &[u8]) -> Result<Head, Unmasked> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Unmasked);
    }
    let (length, rest) = match (second & 0x7f, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        (127, [a, b, c, d, e, f, g, h, rest @ ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest),
        (126 | 127, _) => return Ok(None),
        (length, rest) => (u64::from(length), rest),
    };
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    Ok(Some((*first, length, *mask, bytes.len() - rest.len())))
}

fn write_head(first: u8, length: u64) -> ([u8; HEAD_BYTES], usize) {
    let mut head = [0; HEAD_BYTES];
    head[0] = first;
    let long = length.to_be_bytes();
    let count = match length {
        0..126 => {
            head[1] = length as u8;
            2
        }
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&long[6..]);
            4
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&long);
            10
        }
    };
    (head, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_lengths_are_read_and_written() {
        for length in [0, 125, 126, 0xffff, 0x1_0000, 1 << 40] {
            let (text, count) = write_head(0x82, length);
            let mut sent = text[..count].to_vec();
            sent[1] |= 0x80;
            sent.extend_from_slice(&[1, 2, 3, 4]);
            for cut in 0..sent.len() {
                assert_eq!(read_head(&sent[..cut]), Ok(None), "{length} cut at {cut}");
            }
            assert_eq!(read_head(&sent), Ok(Some((0x82, length, [1, 2, 3, 4], count + 4))));
            assert_eq!(read_head(&text[..count]), Err(Unmasked));
        }
    }
}
