//! HTTP/2 of the origin: each stream is a connection of its own, which carries the text of HTTP/1.1. What streams have to send in a turn
//! leaves at its end, in one send. Not here: frames and windows (`cairn::http2`), and answers.

use cairn::buffer::Queue;
use cairn::http2::connection::{Connection as Frames, Moved, Received, Slot};
use cairn::http2::head::Scheme;
use cairn::http2::{Error, ErrorCode, Settings, Side};
use cairn::uring::Ring;

use super::connection::{Connection, LIMITS};
use super::{LINGER, Origin};
use crate::frames::{SECTION_BYTES, spec};

/// The first line of a client's preface (RFC 9113 section 3.4). What follows it is checked with the frames.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Most streams at once.
const STREAMS: u16 = 1024;
/// Windows for what clients send on a stream and on a connection: an upload is to be held up by the proxy, not by the origin.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;

/// What a connection of HTTP/2 has besides its transport.
pub(super) struct Http2 {
    frames: Frames,
    /// Whether it is in the list of those that are to be written.
    is_dirty: bool,
}

impl Http2 {
    /// A connection on which nothing but what lies in its input was received.
    pub(super) fn new(ring: &mut Ring) -> Box<Self> {
        let settings = Settings {
            enable_push: false,
            max_concurrent_streams: u32::from(STREAMS),
            initial_window_size: STREAM_WINDOW,
            max_header_list_size: SECTION_BYTES,
            no_rfc7540_priorities: true,
            ..Settings::default()
        };
        let spec = spec(Side::Server, settings, CONNECTION_WINDOW, STREAMS);
        Box::new(Self { frames: Frames::new(&spec, &mut ring.buffers), is_dirty: false })
    }

    /// Whether what a client has sent first is HTTP/2, with prior knowledge.
    pub(super) fn is_begun_by(bytes: &[u8]) -> bool {
        bytes.starts_with(PREFACE_LINE)
    }

    pub(super) fn clear(&mut self, ring: &mut Ring) {
        self.frames.clear(&mut ring.buffers);
    }
}

impl Origin<'_> {
    /// Reads the frames that were received on a connection, and serves what came on its streams.
    pub(super) fn read_frames(&mut self, id: u32) {
        loop {
            let Some(connection) = self.connections.get_mut(id as usize) else { return };
            let http2 = connection.http2.get_or_insert_with(|| Http2::new(&mut self.ring));
            let now = self.ring.clock().now();
            let (input, trailers) = (&mut connection.transport.input, &mut self.service.head.fields);
            match http2.frames.read(&mut self.ring.buffers, input, trailers, now) {
                Ok(None) => break,
                Ok(Some(received)) => self.take_received(id, received),
                Err(error) => return self.fail_connection(id, &error),
            }
        }
        let Some(connection) = self.connections.get(id as usize) else { return };
        // Nobody is there to read what would be answered.
        if connection.transport.has_ended() { self.close(id) } else { self.mark_dirty(id) }
    }

    fn take_received(&mut self, id: u32, received: Received) {
        match received {
            Received::Request { slot } => self.begin_stream(id, slot),
            Received::Text { entry, mut lease, .. } => {
                let mut text = Queue::default();
                text.push(self.ring.buffers.pieces(), lease.split_to(lease.len()));
                self.drive(entry, |stream, ring| stream.transport.input.append(ring.buffers.pieces(), &mut text));
            }
            Received::End { entry, .. } => self.drive(entry, |stream, _| stream.end()),
            Received::Reset { entry, .. } => self.close(entry),
            // Of a client, GOAWAY says only that this side opens no streams.
            Received::Response { .. } | Received::Settings | Received::GoAway { .. } | Received::Pong(_) => {}
        }
    }

    /// Begins to serve a request.
    fn begin_stream(&mut self, id: u32, slot: Slot) {
        let Some(http2) = self.connections.get_mut(id as usize).and_then(|carrier| carrier.http2.as_mut()) else {
            return;
        };
        let (buffers, head) = (&mut self.ring.buffers, &mut self.service.head);
        let Ok((_, lease)) = http2.frames.finish_request(buffers, slot, &LIMITS, head) else {
            return http2.frames.close(buffers, slot, ErrorCode::ProtocolError);
        };
        let mut stream = Connection::stream(id, slot.number());
        let length = lease.len();
        let begun = stream.begin(&mut self.ring, &mut self.service, lease, length);
        let entry = self.connections.insert(stream) as u32;
        if let Some(http2) = self.connections.get_mut(id as usize).and_then(|carrier| carrier.http2.as_mut()) {
            http2.frames.accept(slot, entry);
        }
        if begun { self.drive(entry, |_, _| {}) } else { self.close(entry) }
    }

    /// Tells the client of an error that ends the connection, and reads on until it has seen it.
    fn fail_connection(&mut self, id: u32, error: &Error) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        if let Some(http2) = &mut connection.http2 {
            http2.frames.fail(&mut self.ring.buffers, error);
        }
        self.write_frames(id);
        self.close_streams(id);
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        if let Some(mut http2) = connection.http2.take() {
            http2.clear(&mut self.ring);
        }
        self.ring.set_deadline(connection.socket(), Some(LINGER));
        self.drive(id, Connection::linger);
    }

    /// Closes the streams of a connection that ends.
    pub(super) fn close_streams(&mut self, id: u32) {
        while let Some(http2) = self.connections.get(id as usize).and_then(|carrier| carrier.http2.as_ref())
            && let Some(entry) = http2.frames.first_entry()
        {
            self.close(entry);
        }
    }

    /// Ends the stream of an entry that was removed. What is not complete is reset.
    pub(super) fn close_stream(&mut self, carrier: u32, slot: u16) {
        let Some(http2) = self.connections.get_mut(carrier as usize).and_then(|carrier| carrier.http2.as_mut()) else {
            return;
        };
        http2.frames.close(&mut self.ring.buffers, Slot::of(slot), ErrorCode::InternalError);
        self.mark_dirty(carrier);
    }

    /// Remembers that a stream may have something to send, or may have made room to receive.
    pub(super) fn touch(&mut self, id: u32) {
        let Some(stream) = self.connections.get_mut(id as usize) else { return };
        if stream.transport.stream_link().is_some() && !stream.is_touched {
            stream.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Remembers that a connection may have something to write.
    pub(super) fn mark_dirty(&mut self, id: u32) {
        let Some(http2) = self.connections.get_mut(id as usize).and_then(|carrier| carrier.http2.as_mut()) else {
            return;
        };
        if !http2.is_dirty {
            http2.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Sends all that waits on streams.
    pub(super) fn flush(&mut self) {
        loop {
            let mut at = 0;
            while let Some(&stream) = self.touched.get(at) {
                at += 1;
                self.move_output(stream);
            }
            self.touched.clear();
            let Some(connection) = self.dirty.pop() else { return };
            self.write_frames(connection);
        }
    }

    /// Moves what was queued on a stream to its connection, and ends the stream if that was all.
    fn move_output(&mut self, id: u32) {
        let Some(stream) = self.connections.get_mut(id as usize) else { return };
        stream.is_touched = false;
        let (held, is_done) = (stream.transport.input.bytes(), stream.is_done());
        let Some(link) = stream.transport.stream_link_mut() else { return };
        let (carrier, slot) = (link.connection, Slot::of(link.slot));
        let mut output = std::mem::take(&mut link.output);
        let buffers = &mut self.ring.buffers;
        let Some(http2) = self.connections.get_mut(carrier as usize).and_then(|carrier| carrier.http2.as_mut()) else {
            return output.clear(buffers.pieces());
        };
        http2.frames.freed(buffers, slot, held);
        let pushed = http2.frames.push(buffers, slot, &mut output, false, Scheme::Http);
        // Every head is written whole, and what follows it is moved at once.
        output.clear(buffers.pieces());
        self.mark_dirty(carrier);
        let Ok(backlog) = pushed else { return self.close(id) };
        if is_done && backlog.bytes == 0 {
            return self.close(id);
        }
        let link = self.connections.get_mut(id as usize).and_then(|stream| stream.transport.stream_link_mut());
        if let Some(link) = link {
            (link.waiting_bytes, link.waiting_pieces) = (backlog.bytes, backlog.pieces);
        }
    }

    /// Writes what a connection has to send, and lets those of its streams go on of which something was sent.
    fn write_frames(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        let Some(http2) = &mut connection.http2 else { return };
        http2.is_dirty = false;
        let unsent = connection.transport.unsent(&self.ring);
        let room = self.ring.buffers.queue_limit().bytes.saturating_sub(unsent);
        let room = if connection.transport.is_full(&self.ring) { 0 } else { room };
        let mut out = Queue::default();
        http2.frames.write(&mut self.ring.buffers, room, &mut out);
        if http2.frames.is_broken() {
            out.clear(self.ring.buffers.pieces());
            return self.close(id);
        }
        connection.transport.send(&mut self.ring, &mut out);
        while let Some(http2) = self.connections.get_mut(id as usize).and_then(|carrier| carrier.http2.as_mut())
            && let Some(Moved { entry, backlog, .. }) = http2.frames.next_moved()
        {
            let Some(stream) = self.connections.get_mut(entry as usize) else { continue };
            let is_done = stream.is_done();
            if let Some(link) = stream.transport.stream_link_mut() {
                (link.waiting_bytes, link.waiting_pieces) = (backlog.bytes, backlog.pieces);
            }
            if is_done && backlog.bytes == 0 { self.close(entry) } else { self.drive(entry, |_, _| {}) }
        }
    }
}
