//! gRPC echo: each message of a call is sent back as it comes, then `grpc-status: 0`; of a unary call that is one. Not here: deadlines,
//! compression, and what a message means.

use cairn::buffer::{Lease, Queue};
use cairn::forward::{Body, Chunking};
use cairn::http::{self, Fields, Method, RequestHead};
use cairn::transport::Transport;
use cairn::uring::Ring;

/// The head of the answer. Over HTTP/2, `Transfer-Encoding` only says that its length is unknown.
pub(super) const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";
/// The last chunk and the trailers, behind the line end of the chunk before them.
const END: &[u8] = b"\r\n0\r\ngrpc-status: 0\r\n\r\n";
/// A line end, the digits of a size, and another line end.
const LINE_BYTES: usize = 2 + 16 + 2;

/// The progress of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    /// A chunk was sent without the line end behind it.
    owes_line_end: bool,
}

/// Result of [`Call::pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes have to arrive or to be sent.
    Wait,
    /// The status was sent.
    Answered,
    /// The bytes are no body, or no buffer is free.
    Broken,
}

/// Whether a request is a call.
pub(super) fn is_call(bytes: &[u8], request: &RequestHead) -> bool {
    let mut kinds = request.fields.named(bytes, b"content-type");
    let is_grpc = |value: &[u8]| match value.strip_prefix(b"application/grpc") {
        Some([]) => true,
        Some([next, ..]) => matches!(next, b'+' | b';'),
        None => false,
    };
    request.method == Method::Post && kinds.next().is_some_and(|field| is_grpc(field.value.of(bytes)))
}

impl Call {
    /// Sends back what has arrived.
    pub(super) fn pump(
        &mut self,
        ring: &mut Ring,
        transport: &mut Transport,
        body: &mut Body,
        trailers: &mut Fields,
    ) -> Progress {
        // If the queue is full, the next bytes that are sent continue.
        if transport.is_full(ring) {
            return Progress::Wait;
        }
        let mut content = Queue::default();
        let read = body.read(&mut ring.buffers, &mut transport.input, &mut content, Chunking::Removed, trailers);
        while let Some(piece) = content.pop(ring.buffers.pieces()) {
            if !piece.is_empty() && !self.send(ring, transport, piece) {
                content.clear(ring.buffers.pieces());
                return Progress::Broken;
            }
        }
        match read {
            Err(_) => Progress::Broken,
            Ok(_) if !body.is_done() => Progress::Wait,
            Ok(_) => {
                let Some(mut end) = ring.buffers.take() else { return Progress::Broken };
                let text = &END[if self.owes_line_end { 0 } else { 2 }..];
                let written = end.append(text);
                debug_assert_eq!(written, text.len());
                transport.send_piece(ring, end);
                Progress::Answered
            }
        }
    }

    /// Sends a piece as a chunk. False: no buffer is free.
    fn send(&mut self, ring: &mut Ring, transport: &mut Transport, mut piece: Lease) -> bool {
        let mut line = [0; LINE_BYTES];
        let (mut digits, mut len) = ([0; 16], 0);
        let end_before = if self.owes_line_end { &b"\r\n"[..] } else { b"" };
        for part in [end_before, http::write_hex(piece.len() as u64, &mut digits), b"\r\n"] {
            line[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        self.owes_line_end = true;
        if !piece.prepend(&line[..len]) {
            let Some(mut before) = ring.buffers.take() else { return false };
            let written = before.append(&line[..len]);
            debug_assert_eq!(written, len);
            transport.send_piece(ring, before);
        }
        transport.send_piece(ring, piece);
        true
    }
}
