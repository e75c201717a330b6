//! Responses, which are read as HTTP/1.1. Not here: what is done with them (`exchange`).

use super::{End, HeadError, Upstreams};
use crate::buffer::{Buffers, Lease, Queue};
use crate::forward::{Body, BodyEnd, BodyError, Chunking, Trailers, join};
use crate::http::{self, Fields, HeadLimits, Method, ResponseHead, UpgradeOffer};
use crate::limits;
use crate::uring::{Driver, Ring};

/// Bounds of the head of a response.
pub(super) const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::RESPONSE_HEAD_BYTES,
    field_count: limits::HEADER_COUNT_MAX,
    request_line: limits::REQUEST_LINE_BYTES,
};

impl Upstreams {
    /// Reads a response head. Some: the piece that begins with it, and the length of the head. The next call reads the next head:
    /// interim responses (1xx) are read one by one. `offer`: what the request offers in Upgrade. On a stream it is accepted with 2xx, as an
    /// extended CONNECT is (RFC 8441 section 5), which becomes the 101 of HTTP/1.1.
    ///
    /// # Errors
    /// When the head cannot be read; the connection cannot be used further.
    pub fn read_head<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        index: u32,
        method: Method,
        offer: &UpgradeOffer,
        head: &mut ResponseHead,
    ) -> Result<Option<(Lease, usize)>, HeadError> {
        self.touch_stream(index);
        let connection = &mut self.table[index as usize];
        loop {
            let Some(mut lease) = connection.transport.input.pop(ring.buffers.pieces()) else { return Ok(None) };
            let parsed = http::parse_response(lease.bytes(), &LIMITS, &mut connection.scanned, method, head);
            match parsed.map_err(HeadError::Invalid)? {
                Some(length) if connection.upgrades && (200..300).contains(&head.status) => {
                    connection.scanned = 0;
                    let accepted = accepted(&ring.buffers, offer, head, &lease.bytes()[..length]);
                    lease.advance(length);
                    connection.transport.input.push_front(ring.buffers.pieces(), lease);
                    connection.transport.input.push_front(ring.buffers.pieces(), accepted?);
                    continue;
                }
                Some(length) => {
                    connection.scanned = 0;
                    let nominates = http::nominates_fields(&lease.bytes()[..length], &head.fields);
                    let trailers = if nominates { Trailers::Dropped } else { Trailers::Passed };
                    connection.body = Body::of_response(head.body, trailers);
                    connection.keep_alive = head.keep_alive;
                    return Ok(Some((lease, length)));
                }
                None => connection.transport.input.push_front(ring.buffers.pieces(), lease),
            }
            if !join(&mut ring.buffers, &mut connection.transport.input).map_err(|_| HeadError::Exhausted)? {
                return Ok(None);
            }
        }
    }

    /// Puts back the bytes that followed a head.
    pub fn put_back<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, lease: Lease) {
        self.table[index as usize].transport.input.push_front(ring.buffers.pieces(), lease);
    }

    /// Moves the received part of the body to `out`. Some: the body is complete.
    ///
    /// # Errors
    /// When the body breaks its framing.
    pub fn read_body<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        index: u32,
        out: &mut Queue,
        chunking: Chunking,
        trailers: &mut Fields,
    ) -> Result<Option<BodyEnd>, BodyError> {
        self.touch_stream(index);
        let connection = &mut self.table[index as usize];
        let input = &mut connection.transport.input;
        let progress = connection.body.read(&mut ring.buffers, input, out, chunking, trailers)?;
        if progress.end.is_none() && connection.end == Some(End::Closed) {
            return Ok(connection.body.close());
        }
        Ok(progress.end)
    }

    /// Moves all received bytes to `out`, for a tunnel. Returns how the connection ended, if it has.
    pub fn read_raw<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, out: &mut Queue) -> Option<End> {
        self.touch_stream(index);
        let connection = &mut self.table[index as usize];
        // Bytes of a tunnel belong to no response: the connection is never used again.
        connection.keep_alive = false;
        out.append(ring.buffers.pieces(), &mut connection.transport.input);
        connection.end
    }

    /// Sets whether the ring returns pieces that were sent; see [`Ring::return_sent`].
    pub fn return_sent<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, returns: bool) {
        ring.return_sent(self.table[index as usize].transport.socket(), returns);
    }

    /// Stops or resumes receiving.
    pub fn set_paused<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, paused: bool) {
        self.table[index as usize].transport.set_paused(ring, paused);
    }

    /// Notes that something is read of a stream, so that its endpoint may send more.
    #[inline]
    pub(super) fn touch_stream(&mut self, index: u32) {
        if self.table[index as usize].seat.is_some() {
            self.touch(index);
        }
    }
}

/// The head of a response of HTTP/1.1 that accepts an upgrade, for one of HTTP/2 that accepts an extended CONNECT.
fn accepted(buffers: &Buffers, offer: &UpgradeOffer, head: &ResponseHead, text: &[u8]) -> Result<Lease, HeadError> {
    // What is written in front of the fields.
    const MORE: usize = 256;
    let ordinary = buffers.take().filter(|lease| lease.spare() >= text.len() + MORE);
    let mut lease = ordinary.or_else(|| buffers.take_large()).ok_or(HeadError::Exhausted)?;
    let mut written = None;
    lease.fill(|room| {
        written = offer.write_accepted(head, text, room);
        written.unwrap_or(0)
    });
    written.map(|_| lease).ok_or(HeadError::Exhausted)
}
