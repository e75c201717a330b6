//! When content is sent: within the windows, by urgency, in turn. Not here: its text (`message`).

use super::stream::{MessageEnd, Slot};
use super::{Backlog, Connection};
use crate::buffer::{Buffers, Queue};
use crate::http2::flow::SendWindow;
use crate::http2::settings::FRAME_SIZE_MIN;
use crate::http2::{Flags, FrameHead, FrameKind};

/// Most content of a frame, so that streams share the connection in parts of this size.
const FRAME_CONTENT: u32 = FRAME_SIZE_MIN;

/// A stream of which something was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The stream.
    pub slot: Slot,
    /// Its entry.
    pub entry: u32,
    /// Bytes of content that were sent since the last time.
    pub sent: u32,
    /// What waits.
    pub backlog: Backlog,
}

impl Connection {
    /// Moves all frames that wait to `out`, and so much content that it holds about `room` bytes. Content that new windows allow goes
    /// behind the acknowledgement of the parameters that say so: until that has come, some peers count by the old ones.
    pub fn write(&mut self, buffers: &mut Buffers, room: usize, out: &mut Queue) {
        while self.outbox.len() < room
            && !self.is_within_settings
            && let Some(slot) = self.next_ready()
        {
            self.send_frame(buffers, slot);
        }
        self.outbox.take(buffers, out);
    }

    /// The next stream of which something was sent since the last time.
    pub fn next_moved(&mut self) -> Option<Moved> {
        loop {
            let slot = Slot(self.streams.moved.pop_front()?);
            let backlog = self.backlog(slot);
            let Some(stream) = self.streams.get_mut(slot) else { continue };
            stream.has_moved = false;
            let sent = core::mem::take(&mut stream.moved);
            if let Some(entry) = stream.entry {
                return Some(Moved { slot, entry, sent, backlog });
            }
        }
    }

    /// Takes the next stream out of the queue of those that may send: the first of the most urgent ones. Only what needs no window is
    /// sent while that of the connection is empty.
    fn next_ready(&mut self) -> Option<Slot> {
        let has_window = self.send.available() > 0;
        let streams = &self.streams;
        let candidates = streams.ready.iter().enumerate().filter_map(|(at, index)| {
            let stream = streams.get(Slot(*index))?;
            (has_window || stream.data.is_empty()).then_some((at, stream.priority.urgency))
        });
        let (at, _) = candidates.min_by_key(|(_, urgency)| *urgency)?;
        let slot = Slot(self.streams.ready.remove(at)?);
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.is_queued = false;
        }
        Some(slot)
    }

    /// Sends one frame of a stream, and puts it at the end of the queue if it may send more.
    fn send_frame(&mut self, buffers: &mut Buffers, slot: Slot) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.data.is_empty()
            && let MessageEnd::Trailers(_) = stream.end
            && let MessageEnd::Trailers(text) = core::mem::replace(&mut stream.end, MessageEnd::Open)
        {
            // Trailers that cannot be encoded leave the message open, so that it is cut when its stream is closed.
            let _ = self.send_trailers(buffers, slot, &text);
            self.streams.note_moved(slot, 0);
            return;
        }
        let most = FRAME_CONTENT.min(self.peer.max_frame_size);
        let wanted = u32::try_from(stream.data.bytes()).unwrap_or(u32::MAX).min(most);
        let length = SendWindow::take(&mut stream.send, &mut self.send, wanted);
        if length < wanted && length == 0 {
            return;
        }
        let ends = matches!(stream.end, MessageEnd::Plain) && length as usize == stream.data.bytes();
        let head = FrameHead::new(FrameKind::Data, Flags::END_STREAM.if_set(ends), stream.id, length).encode();
        if ends {
            stream.end = MessageEnd::Written;
        }
        let mut left = length as usize;
        let mut is_first = true;
        while left > 0
            && let Some(mut lease) = stream.data.pop(buffers.pieces())
        {
            if lease.len() > left {
                let rest = lease;
                let (first, rest) = split(rest, left);
                lease = first;
                stream.data.push_front(buffers.pieces(), rest);
            }
            left -= lease.len();
            if is_first && !lease.prepend(&head) {
                self.outbox.bytes(buffers, &head);
            }
            is_first = false;
            self.outbox.content(buffers, lease);
        }
        if is_first {
            self.outbox.bytes(buffers, &head);
        }
        self.has_moved |= length > 0;
        self.streams.note_moved(slot, length);
        self.streams.make_ready(slot);
    }
}

/// The first `count` bytes of a lease, and the rest.
fn split(mut lease: crate::buffer::Lease, count: usize) -> (crate::buffer::Lease, crate::buffer::Lease) {
    let first = lease.split_to(count);
    (first, lease)
}
