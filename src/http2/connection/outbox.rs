//! Frames that wait to be written, in order. Not here: which.

use crate::buffer::{Buffers, Lease, Queue};
use crate::http2::{FrameWriter, NoRoom};

/// Room that a frame gets that is written as a whole; more than any of them has.
const FRAME_ROOM: usize = 128;

/// Frames in leases: control frames and heads share one, content keeps its own.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Queue,
    /// Where the next frame is written.
    tail: Option<Lease>,
    /// Control frames that the peer has caused since everything was sent.
    controls: u32,
    /// No buffer was free.
    is_broken: bool,
}

impl Outbox {
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Control frames that the peer has caused and not read, as far as is known.
    pub(super) fn controls(&self) -> u32 {
        self.controls
    }

    pub(super) fn drained(&mut self) {
        self.controls = 0;
    }

    /// Writes a frame.
    pub(super) fn frame(
        &mut self,
        buffers: &mut Buffers,
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), NoRoom>,
    ) {
        if !self.make_room(buffers, FRAME_ROOM) {
            return;
        }
        let Some(tail) = &mut self.tail else { return };
        let mut written = Ok(());
        tail.fill(|room| {
            let mut frames = FrameWriter::new(room);
            written = write(&mut frames);
            frames.len()
        });
        debug_assert_eq!(written, Ok(()), "there is room for it");
    }

    /// Writes a frame that the peer has caused.
    pub(super) fn control(
        &mut self,
        buffers: &mut Buffers,
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), NoRoom>,
    ) {
        self.controls = self.controls.saturating_add(1);
        self.frame(buffers, write);
    }

    /// Writes bytes that are no frame: the preface, or the head of one whose content follows.
    pub(super) fn bytes(&mut self, buffers: &mut Buffers, bytes: &[u8]) {
        if self.make_room(buffers, bytes.len())
            && let Some(tail) = &mut self.tail
        {
            let written = tail.append(bytes);
            debug_assert_eq!(written, bytes.len(), "there is room for it");
        }
    }

    /// Lets `write` write up to `bytes`, more than one ordinary buffer has if need be. It returns what it has written, or that it has
    /// written nothing. False: no buffer is free, or none is large enough.
    pub(super) fn section(
        &mut self,
        buffers: &mut Buffers,
        bytes: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        if !self.make_room(buffers, bytes) {
            return false;
        }
        let Some(tail) = &mut self.tail else { return false };
        tail.fill(write);
        true
    }

    /// Queues content behind all that was written.
    pub(super) fn content(&mut self, buffers: &mut Buffers, lease: Lease) {
        self.seal(buffers);
        self.queue.push(buffers.pieces(), lease);
    }

    /// Makes sure that there is room for so many bytes.
    fn make_room(&mut self, buffers: &mut Buffers, bytes: usize) -> bool {
        if self.tail.as_ref().is_some_and(|tail| tail.spare() >= bytes) {
            return true;
        }
        self.seal(buffers);
        self.tail = buffers.take().filter(|lease| lease.spare() >= bytes).or_else(|| buffers.take_large());
        let has_room = self.tail.as_ref().is_some_and(|tail| tail.spare() >= bytes);
        self.is_broken |= self.tail.is_none();
        has_room
    }

    /// Queues what was written; what follows goes to the rest of the buffer.
    fn seal(&mut self, buffers: &mut Buffers) {
        if let Some(tail) = &mut self.tail
            && !tail.is_empty()
        {
            let written = tail.split_to(tail.len());
            self.queue.push(buffers.pieces(), written);
        }
    }

    /// Moves all that waits to `out`.
    pub(super) fn take(&mut self, buffers: &mut Buffers, out: &mut Queue) {
        self.seal(buffers);
        self.tail = None;
        out.append(buffers.pieces(), &mut self.queue);
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.bytes() + self.tail.as_ref().map_or(0, Lease::len)
    }

    pub(super) fn clear(&mut self, buffers: &mut Buffers) {
        self.tail = None;
        self.queue.clear(buffers.pieces());
    }
}
