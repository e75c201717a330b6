//! The streams of a connection: their states, and the table of them. Not here: frames.

use std::collections::VecDeque;

use super::resets::Resets;
use crate::buffer::{Buffers, Lease, Queue};
use crate::http::ChunkedDecoder;
use crate::http2::flow::{ReceiveWindow, SendWindow};
use crate::http2::head::NeverIndexed;
use crate::http2::{Priority, StreamId};

/// The place of a stream in its connection. It has another stream once that one was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) u16);

impl Slot {
    /// The slot with this number.
    #[must_use]
    pub fn of(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// What of a request decides how its response is read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Content,
    /// The method is HEAD: a response has no content.
    Head,
    /// A tunnel: CONNECT, or an upgrade.
    Tunnel,
}

/// What the peer sends on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A head is awaited.
    Head,
    /// Content, of which so many bytes are to come.
    Length(u64),
    /// Content of unknown length, which becomes chunks.
    Chunked {
        /// The line end of the last chunk was not written yet.
        owes_line_end: bool,
    },
    /// Bytes of a tunnel.
    Raw,
    /// END_STREAM was received.
    Ended,
}

/// What is sent on a stream, by its text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outgoing {
    /// A head is awaited.
    Head,
    /// Content, of which so many bytes are to come.
    Length(u64),
    /// Content in chunks.
    Chunked(ChunkedDecoder),
    /// The section behind the last chunk.
    Trailers,
    /// Bytes of a tunnel.
    Raw,
    /// The message is complete.
    Complete,
}

/// How a message that is complete ends.
#[derive(Debug)]
pub(super) enum MessageEnd {
    /// It is not complete.
    Open,
    /// With the last of its content.
    Plain,
    /// With trailers: the text of their lines and an empty one.
    Trailers(Lease),
    /// END_STREAM was written.
    Written,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// 0: of a client, whose request was not written yet.
    pub(super) id: StreamId,
    pub(super) entry: Option<u32>,
    pub(super) asked: Asked,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// Content that its owner has and has not freed.
    pub(super) held: u32,
    /// Content that waits to be sent.
    pub(super) data: Queue,
    pub(super) end: MessageEnd,
    pub(super) priority: Priority,
    /// Names of fields that came never indexed.
    pub(super) came_never_indexed: NeverIndexed,
    /// Names of fields that are sent never indexed.
    pub(super) never_indexed: NeverIndexed,
    /// It is in the queue of those that may send.
    pub(super) is_queued: bool,
    /// It is in the queue of those whose owners are to be told.
    pub(super) has_moved: bool,
    /// Content that was written since its owner was told.
    pub(super) moved: u32,
    /// RST_STREAM was sent or received.
    pub(super) is_reset: bool,
    /// Nobody uses it any more: both messages are complete, and only END_STREAM is still to come.
    pub(super) is_closing: bool,
}

impl Stream {
    pub(super) fn has_received_end(&self) -> bool {
        self.incoming == Incoming::Ended
    }

    pub(super) fn has_sent_end(&self) -> bool {
        matches!(self.end, MessageEnd::Written)
    }

    /// Whether both messages are complete but for END_STREAM of the one that is received.
    pub(super) fn has_whole_messages(&self) -> bool {
        self.incoming == Incoming::Length(0) && self.has_sent_end() && !self.is_reset
    }

    /// Whether there is something to be sent but windows.
    pub(super) fn has_output(&self) -> bool {
        !self.data.is_empty() || matches!(self.end, MessageEnd::Plain | MessageEnd::Trailers(_))
    }

    /// Whether a frame may be sent now, if the window of the connection allows for it.
    pub(super) fn can_send(&self) -> bool {
        self.has_output() && !self.is_reset && (self.data.is_empty() || self.send.available() > 0)
    }

    pub(super) fn clear(mut self, buffers: &mut Buffers) {
        self.data.clear(buffers.pieces());
    }
}

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    most: u16,
    /// Identifiers by slot; [`FREE`], [`UNNUMBERED`].
    ids: Vec<u32>,
    slots: Vec<Option<Stream>>,
    free: Vec<u16>,
    /// Streams that may send, in turn.
    pub(super) ready: VecDeque<u16>,
    /// Streams of which something was sent.
    pub(super) moved: VecDeque<u16>,
    pub(super) resets: Resets,
}

/// No stream.
const FREE: u32 = 0;
/// A stream that has no identifier yet.
const UNNUMBERED: u32 = u32::MAX;

impl Streams {
    pub(super) fn new(most: u16) -> Self {
        // tidy: start-up
        Self {
            most,
            ids: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            moved: VecDeque::new(),
            resets: Resets::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Number of slots that have ever been in use.
    pub(super) fn places(&self) -> u16 {
        self.slots.len() as u16
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= usize::from(self.most)
    }

    /// Adds a stream; None: there are as many as may be. The table grows to the most that there were at once.
    pub(super) fn add(&mut self, id: StreamId, send: SendWindow, receive: ReceiveWindow) -> Option<Slot> {
        if self.is_full() {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = self.slots.len() as u16;
                self.slots.push(None);
                self.ids.push(FREE);
                // Each stream is at most once in each of these queues.
                let missing = |queue: &VecDeque<u16>| self.slots.len() - queue.len();
                let (ready, moved) = (missing(&self.ready), missing(&self.moved));
                self.ready.reserve(ready);
                self.moved.reserve(moved);
                self.free.reserve(self.slots.len());
                index
            }
        };
        let number = if id.is_connection() { UNNUMBERED } else { id.get() };
        *self.ids.get_mut(usize::from(index))? = number;
        *self.slots.get_mut(usize::from(index))? = Some(Stream {
            id,
            entry: None,
            asked: Asked::Content,
            incoming: Incoming::Head,
            outgoing: Outgoing::Head,
            send,
            receive,
            held: 0,
            data: Queue::default(),
            end: MessageEnd::Open,
            priority: Priority::default(),
            came_never_indexed: NeverIndexed::default(),
            never_indexed: NeverIndexed::default(),
            is_queued: false,
            has_moved: false,
            moved: 0,
            is_reset: false,
            is_closing: false,
        });
        Some(Slot(index))
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Stream> {
        self.slots.get(usize::from(slot.0))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Stream> {
        self.slots.get_mut(usize::from(slot.0))?.as_mut()
    }

    /// The stream with this identifier.
    pub(super) fn find(&self, id: StreamId) -> Option<Slot> {
        self.ids.iter().position(|known| *known == id.get()).map(|index| Slot(index as u16))
    }

    /// Gives a stream its identifier.
    pub(super) fn number(&mut self, slot: Slot, id: StreamId) {
        if let Some(stream) = self.slots.get_mut(usize::from(slot.0)).and_then(Option::as_mut)
            && let Some(number) = self.ids.get_mut(usize::from(slot.0))
        {
            (stream.id, *number) = (id, id.get());
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Stream> {
        let stream = self.slots.get_mut(usize::from(slot.0))?.take()?;
        if let Some(number) = self.ids.get_mut(usize::from(slot.0)) {
            *number = FREE;
        }
        self.free.push(slot.0);
        if stream.is_queued {
            self.ready.retain(|queued| *queued != slot.0);
        }
        if stream.has_moved {
            self.moved.retain(|queued| *queued != slot.0);
        }
        Some(stream)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Stream)> {
        (0..).map(Slot).zip(&self.slots).filter_map(|(slot, stream)| Some((slot, stream.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Stream)> {
        (0..).map(Slot).zip(&mut self.slots).filter_map(|(slot, stream)| Some((slot, stream.as_mut()?)))
    }

    /// Puts a stream in the queue of those that may send, if it may.
    pub(super) fn make_ready(&mut self, slot: Slot) {
        let Some(stream) = self.slots.get_mut(usize::from(slot.0)).and_then(Option::as_mut) else { return };
        if !stream.is_queued && stream.can_send() {
            stream.is_queued = true;
            self.ready.push_back(slot.0);
        }
    }

    /// Remembers that content of a stream was sent, or its end, so that its owner is told.
    pub(super) fn note_moved(&mut self, slot: Slot, sent: u32) {
        let Some(stream) = self.slots.get_mut(usize::from(slot.0)).and_then(Option::as_mut) else { return };
        stream.moved = stream.moved.saturating_add(sent);
        if !stream.has_moved {
            stream.has_moved = true;
            self.moved.push_back(slot.0);
        }
    }

    pub(super) fn clear(&mut self, buffers: &mut Buffers) {
        for stream in self.slots.iter_mut().filter_map(Option::take) {
            stream.clear(buffers);
        }
        self.ready.clear();
        self.moved.clear();
    }
}
