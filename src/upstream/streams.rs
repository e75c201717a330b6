//! What goes over connections of HTTP/2: the text of requests in, that of responses out. Once a turn, all that is to be sent on a
//! connection is written in one piece. Not here: which connection a stream has (`shared`), and frames (`http2::connection`).

use super::response::LIMITS;
use super::{End, Seat, Upstreams};
use crate::buffer::Queue;
use crate::http::{Fields, ResponseHead};
use crate::http2::ErrorCode;
use crate::http2::connection::Received;
use crate::http2::head::NeverIndexed;
use crate::tls::{self, Agreement};
use crate::uring::{Driver, Errno, Fault, Ring};

use super::shared::Shared;

/// Memory that is used while a response is read.
pub struct ResponseMemory<'a> {
    /// Its head.
    pub head: &'a mut ResponseHead,
    /// Its trailers.
    pub trailers: &'a mut Fields,
}

impl Upstreams {
    /// The next stream whose exchange is to be looked at.
    pub fn next_ready(&mut self) -> Option<u32> {
        let entry = self.ready.pop()?;
        if let Some(stream) = self.table.get_mut(entry as usize) {
            stream.is_ready = false;
        }
        Some(entry)
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The exchange of a stream of a connection, or of one that waits for it.
    #[must_use]
    pub fn exchange_on(&self, index: u32) -> Option<u32> {
        let connection = self.get(index)?;
        let waiting = || self.shared.get(connection.endpoint.index())?.waiting.front().copied();
        let entry = connection.shared.as_ref()?.core.entries().next().or_else(waiting)?;
        self.get(entry)?.exchange
    }

    /// The next stream of which something was sent, so that the endpoint has other things to do.
    pub fn next_moved(&mut self) -> Option<u32> {
        self.moved.pop()
    }

    pub(super) fn note_ready(&mut self, entry: u32) {
        if let Some(stream) = self.table.get_mut(entry as usize)
            && !stream.is_ready
        {
            stream.is_ready = true;
            self.ready.push(entry);
        }
    }

    /// Notes that a stream has something for its connection: text, or room for more.
    pub(super) fn touch(&mut self, entry: u32) {
        if let Some(stream) = self.table.get_mut(entry as usize)
            && !stream.is_touched
        {
            stream.is_touched = true;
            self.touched.push(entry);
        }
    }

    /// Notes that a connection has something to write.
    pub(super) fn soil(&mut self, index: u32) {
        let shared = self.table.get_mut(index as usize).and_then(|connection| connection.shared.as_mut());
        if let Some(shared) = shared.filter(|shared| !shared.is_dirty) {
            shared.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Takes in that a connection is established, TLS included: its streams are sent.
    pub fn shared_connected<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.connected(index);
        let Some(connection) = self.table.get_mut(index as usize).filter(|connection| connection.connected) else {
            return;
        };
        let endpoint = connection.endpoint;
        self.assign(ring, endpoint, None);
        self.soil(index);
        self.arm_shared(ring, index);
    }

    /// Takes in what was received on a connection. Returns what a handshake has agreed on, once.
    ///
    /// # Errors
    /// TLS has failed; the connection has ended.
    pub fn shared_received<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        index: u32,
        mut queue: Queue,
        memory: ResponseMemory<'_>,
    ) -> Result<Option<Agreement>, tls::Error> {
        let Some(connection) = self.table.get_mut(index as usize) else {
            queue.clear(ring.buffers.pieces());
            return Ok(None);
        };
        connection.received += queue.bytes() as u64;
        let agreed = match connection.transport.receive(ring, queue) {
            Ok(agreed) => agreed,
            Err(error) => {
                self.end_shared(ring, index, End::Tls(error));
                return Err(error);
            }
        };
        if let Some(agreement) = &agreed {
            self.note_certificate(index);
            let shared = self.get(index).and_then(|connection| connection.shared.as_ref());
            let is_negotiated = shared.is_some_and(|shared| shared.sharing.is_negotiated);
            match (agreement.http2, is_negotiated) {
                (true, _) => self.shared_connected(ring, index),
                (false, true) => self.unshare(ring, index),
                // What it would speak is not known.
                (false, false) => self.end_shared(ring, index, End::Protocol),
            }
        }
        self.read_frames(ring, index, memory);
        if self.get(index).is_some_and(|connection| connection.transport.has_ended()) {
            self.end_shared(ring, index, End::Closed);
        }
        Ok(agreed)
    }

    /// Reads the frames that were received.
    fn read_frames<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, memory: ResponseMemory<'_>) {
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let endpoint = connection.endpoint;
        let Some(mut shared) = connection.shared.take() else { return };
        let mut input = std::mem::take(&mut connection.transport.input);
        let now = ring.clock().now();
        shared.unheard = shared.unheard.map(|_| now);
        let knew = shared.core.has_peer_settings();
        let error = loop {
            match shared.core.read(&mut ring.buffers, &mut input, memory.trailers, now) {
                Ok(Some(received)) => self.take_received(ring, &mut shared, received, memory.head),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        input.clear(ring.buffers.pieces());
        if let Some(error) = &error {
            shared.core.fail(&mut ring.buffers, error);
        }
        shared.closing_since.take_if(|_| !shared.core.is_closing());
        if !knew && shared.core.has_peer_settings() {
            self.take_settings(endpoint, &shared);
        }
        let (is_broken, is_ending) = (shared.core.is_broken(), shared.is_ending);
        if let Some(connection) = self.table.get_mut(index as usize) {
            connection.shared = Some(shared);
        }
        self.soil(index);
        if error.is_some() {
            self.write(ring, index);
            return self.end_shared(ring, index, End::Protocol);
        }
        if is_broken {
            return self.end_shared(ring, index, End::Broken(Fault::Send(Errno::NO_BUFFERS)));
        }
        if is_ending {
            self.retire(index);
        }
        self.end_unused(ring, index);
        self.settle(ring, endpoint);
    }

    fn take_received<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        shared: &mut Shared,
        received: Received,
        head: &mut ResponseHead,
    ) {
        // What an endpoint sends of its own accord allows for another PING.
        if !matches!(received, Received::Pong(_)) {
            shared.last_ping = None;
        }
        if matches!(received, Received::Response { .. } | Received::Text { .. }) {
            shared.unheard = Some(ring.clock().now());
        }
        match received {
            Received::Response { slot, entry } => {
                let method = self.get(entry).map_or_else(Default::default, |stream| stream.method);
                if let Some(stream) = self.table.get_mut(entry as usize) {
                    stream.connected = true;
                }
                match shared.core.finish_response(&ring.buffers, slot, &LIMITS, method, head) {
                    Ok(text) => {
                        self.take_text(ring, entry, text);
                        // Nothing says so in the text of what may be a tunnel.
                        let is_over = shared.core.has_ended_tunnel(slot);
                        if let Some(stream) = self.table.get_mut(entry as usize).filter(|_| is_over) {
                            stream.end.get_or_insert(End::Closed);
                        }
                    }
                    Err(_) => {
                        shared.core.close(&mut ring.buffers, slot, ErrorCode::ProtocolError);
                        self.end_stream(entry, End::Protocol);
                    }
                }
            }
            Received::Text { entry, lease, .. } => self.take_text(ring, entry, lease),
            Received::End { entry, .. } => {
                if let Some(stream) = self.table.get_mut(entry as usize) {
                    stream.end.get_or_insert(End::Closed);
                }
                self.note_ready(entry);
            }
            Received::Reset { slot, entry, code } => {
                shared.core.close(&mut ring.buffers, slot, code);
                let end = match code {
                    ErrorCode::RefusedStream => End::Refused,
                    _ => End::Reset,
                };
                if code == ErrorCode::RefusedStream {
                    // There may be as many as there are now.
                    shared.most = shared.core.streams().max(1);
                }
                self.end_stream(entry, end);
            }
            Received::GoAway { .. } => shared.is_ending = true,
            Received::Pong(_) => (shared.ping, shared.unheard) = (None, None),
            Received::Settings | Received::Request { .. } => {}
        }
    }

    fn take_text<D: Driver>(&mut self, ring: &mut Ring<D>, entry: u32, text: crate::buffer::Lease) {
        let Some(stream) = self.table.get_mut(entry as usize) else { return };
        stream.received += text.len() as u64;
        stream.answered = true;
        stream.transport.input.push(ring.buffers.pieces(), text);
        self.note_ready(entry);
    }

    /// Has fields with these names sent never indexed on a stream, as they came from the client.
    pub fn send_never_indexed(&mut self, entry: u32, names: NeverIndexed) {
        if let Some(stream) = self.table.get_mut(entry as usize).filter(|stream| stream.is_stream()) {
            stream.never_indexed.extend(names);
        }
    }

    /// Names of fields that have come never indexed on a stream.
    #[must_use]
    pub fn came_never_indexed(&self, entry: u32) -> NeverIndexed {
        let seat = self.get(entry).and_then(|stream| stream.seat);
        let carrier = |seat: &Seat| self.get(seat.connection)?.shared.as_ref();
        let names = seat.and_then(|seat| Some(carrier(&seat)?.core.came_never_indexed(seat.slot)));
        names.unwrap_or_default()
    }

    /// Moves all that streams have for their connections there, and writes what connections have. Once a turn: all frames of a turn
    /// leave a connection in one send.
    pub fn flush<D: Driver>(&mut self, ring: &mut Ring<D>) {
        for at in 0..self.touched.len() {
            let entry = self.touched[at];
            self.push(ring, entry);
        }
        self.touched.clear();
        while let Some(index) = self.dirty.pop() {
            self.write(ring, index);
        }
    }

    /// Moves the text of a stream to its connection, and says how much of the response lies here.
    fn push<D: Driver>(&mut self, ring: &mut Ring<D>, entry: u32) {
        let Some(stream) = self.table.get_mut(entry as usize) else { return };
        stream.is_touched = false;
        let Some(Seat { connection: index, slot }) = stream.seat else { return };
        let held = stream.transport.input.bytes();
        let Some(link) = stream.transport.stream_link_mut() else { return };
        let (mut output, ended) = (std::mem::take(&mut link.output), link.is_finished);
        let never_indexed = stream.never_indexed;
        let Some(shared) = self.table.get_mut(index as usize).and_then(|connection| connection.shared.as_mut()) else {
            return output.clear(ring.buffers.pieces());
        };
        let sends = !output.is_empty() || ended;
        let mut pushed = Ok(shared.core.backlog(slot));
        if sends {
            shared.unheard.get_or_insert(ring.clock().now());
            shared.core.send_never_indexed(slot, never_indexed);
            pushed = shared.core.push(&mut ring.buffers, slot, &mut output, ended, shared.scheme);
        }
        shared.core.freed(&mut ring.buffers, slot, held);
        let stream = &mut self.table[entry as usize];
        stream.is_begun |= sends;
        if let Some(link) = stream.transport.stream_link_mut() {
            link.output = output;
        }
        match pushed {
            Ok(backlog) => {
                if let Some(link) = stream.transport.stream_link_mut() {
                    (link.waiting_bytes, link.waiting_pieces) = (backlog.bytes, backlog.pieces);
                }
            }
            Err(_) => {
                if let Some(shared) = self.table.get_mut(index as usize).and_then(|it| it.shared.as_mut()) {
                    shared.core.close(&mut ring.buffers, slot, ErrorCode::InternalError);
                }
                self.end_stream(entry, End::Protocol);
            }
        }
        self.soil(index);
    }

    /// Writes what a connection has to send, as far as its queue has room.
    pub(super) fn write<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let Some(shared) = &mut connection.shared else { return };
        shared.is_dirty = false;
        if !connection.connected {
            return;
        }
        let mut out = Queue::default();
        let room = ring.buffers.queue_limit().bytes.saturating_sub(connection.transport.unsent(ring));
        shared.core.write(&mut ring.buffers, room, &mut out);
        connection.transport.send(ring, &mut out);
        let Some(mut shared) = connection.shared.take() else { return };
        while let Some(moved) = shared.core.next_moved() {
            let Some(stream) = self.table.get_mut(moved.entry as usize) else { continue };
            if let Some(link) = stream.transport.stream_link_mut() {
                link.taken += u64::from(moved.sent);
                (link.waiting_bytes, link.waiting_pieces) = (moved.backlog.bytes, moved.backlog.pieces);
            }
            if moved.sent > 0 {
                self.note_ready(moved.entry);
            } else {
                self.moved.push(moved.entry);
            }
        }
        let is_broken = shared.core.is_broken();
        self.table[index as usize].shared = Some(shared);
        if is_broken {
            return self.end_shared(ring, index, End::Broken(Fault::Send(Errno::NO_BUFFERS)));
        }
        self.arm_shared(ring, index);
    }

    /// Takes in that the kernel has taken something of what is queued for a connection; `all`: nothing is queued any more.
    pub fn shared_sent(&mut self, index: u32, all: bool) {
        let shared = self.table.get_mut(index as usize).and_then(|connection| connection.shared.as_mut());
        if let Some(shared) = shared.filter(|_| all) {
            shared.core.drained();
        }
        self.soil(index);
    }

    /// Takes in that nothing more can be sent on a connection: what was sent may still be answered.
    pub fn shared_deaf<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.retire(index);
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let endpoint = connection.endpoint;
        let Some(shared) = connection.shared.take() else { return };
        for entry in shared.core.entries() {
            self.send_failed(entry);
            self.note_ready(entry);
        }
        self.table[index as usize].shared = Some(shared);
        self.end_unused(ring, index);
        self.settle(ring, endpoint);
    }
}
