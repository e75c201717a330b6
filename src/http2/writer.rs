//! Writes frames into a buffer of the caller's (RFC 9113 section 6). Not here: field sections (`hpack`), and when what is sent.

use crate::http2::frame::{FRAME_HEAD_BYTES, Flags, FrameHead, FrameKind};
use crate::http2::settings::SETTING_BYTES;
use crate::http2::{ErrorCode, Setting, StreamId};

/// A buffer that is filled with frames from its beginning.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

/// The frame does not fit into the buffer, which is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl<'a> FrameWriter<'a> {
    /// A writer into `out`.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the head of a DATA frame, whose `length` bytes of content the caller sends behind it.
    ///
    /// # Errors
    /// As all of these functions: [`NoRoom`].
    pub fn data(&mut self, stream: StreamId, length: u32, end_stream: bool) -> Result<(), NoRoom> {
        self.frame(FrameHead::new(FrameKind::Data, Flags::END_STREAM.if_set(end_stream), stream, length), &[])
    }

    /// Writes HEADERS, with as many CONTINUATION frames as `max_frame_size` asks for.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn headers(
        &mut self,
        stream: StreamId,
        mut section: &[u8],
        end_stream: bool,
        max_frame_size: u32,
    ) -> Result<(), NoRoom> {
        if self.out.len() - self.len < sealed_bytes(section.len(), max_frame_size) {
            return Err(NoRoom);
        }
        let (mut kind, mut flags) = (FrameKind::Headers, Flags::END_STREAM.if_set(end_stream));
        loop {
            let (fragment, rest) = section.split_at(section.len().min(max_frame_size as usize));
            let flags_here = flags.with(Flags::END_HEADERS.if_set(rest.is_empty()));
            self.frame(FrameHead::new(kind, flags_here, stream, fragment.len() as u32), &[fragment])?;
            if rest.is_empty() {
                return Ok(());
            }
            (kind, flags, section) = (FrameKind::Continuation, Flags::NONE, rest);
        }
    }

    /// Writes PRIORITY with its five bytes, which nobody has to heed.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn priority(&mut self, stream: StreamId, fields: [u8; 5]) -> Result<(), NoRoom> {
        self.frame(FrameHead::new(FrameKind::Priority, Flags::NONE, stream, 5), &[&fields])
    }

    /// Writes RST_STREAM.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn rst_stream(&mut self, stream: StreamId, code: ErrorCode) -> Result<(), NoRoom> {
        let payload = (code as u32).to_be_bytes();
        self.frame(FrameHead::new(FrameKind::RstStream, Flags::NONE, stream, 4), &[&payload])
    }

    /// Writes SETTINGS.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn settings(&mut self, settings: impl Iterator<Item = Setting> + Clone) -> Result<(), NoRoom> {
        let length = settings.clone().count() * SETTING_BYTES;
        if self.out.len() - self.len < FRAME_HEAD_BYTES + length {
            return Err(NoRoom);
        }
        self.frame(FrameHead::new(FrameKind::Settings, Flags::NONE, StreamId::CONNECTION, length as u32), &[])?;
        for Setting { id, value } in settings {
            self.append(&id.to_be_bytes());
            self.append(&value.to_be_bytes());
        }
        Ok(())
    }

    /// Writes the acknowledgement of SETTINGS.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn settings_ack(&mut self) -> Result<(), NoRoom> {
        self.frame(FrameHead::new(FrameKind::Settings, Flags::ACK, StreamId::CONNECTION, 0), &[])
    }

    /// Writes PUSH_PROMISE with a field section that fits into one frame. cairn does not push; its tests do.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn push_promise(&mut self, stream: StreamId, promised: StreamId, section: &[u8]) -> Result<(), NoRoom> {
        let length = 4 + section.len() as u32;
        let head = FrameHead::new(FrameKind::PushPromise, Flags::END_HEADERS, stream, length);
        self.frame(head, &[&promised.get().to_be_bytes(), section])
    }

    /// Writes PING, or the answer to one.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn ping(&mut self, data: [u8; 8], ack: bool) -> Result<(), NoRoom> {
        self.frame(FrameHead::new(FrameKind::Ping, Flags::ACK.if_set(ack), StreamId::CONNECTION, 8), &[&data])
    }

    /// Writes GOAWAY with `debug`, which says in words what was wrong.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn go_away(&mut self, last: StreamId, code: ErrorCode, debug: &[u8]) -> Result<(), NoRoom> {
        let head = FrameHead::new(FrameKind::GoAway, Flags::NONE, StreamId::CONNECTION, 8 + debug.len() as u32);
        self.frame(head, &[&last.get().to_be_bytes(), &(code as u32).to_be_bytes(), debug])
    }

    /// Writes WINDOW_UPDATE for a stream, or for the connection.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn window_update(&mut self, stream: StreamId, increment: u32) -> Result<(), NoRoom> {
        let payload = increment.to_be_bytes();
        self.frame(FrameHead::new(FrameKind::WindowUpdate, Flags::NONE, stream, 4), &[&payload])
    }

    /// Writes PRIORITY_UPDATE with the value of a `priority` field.
    #[expect(clippy::missing_errors_doc, reason = "said at `data`")]
    pub fn priority_update(&mut self, stream: StreamId, value: &[u8]) -> Result<(), NoRoom> {
        let length = 4 + value.len() as u32;
        let head = FrameHead::new(FrameKind::PriorityUpdate, Flags::NONE, StreamId::CONNECTION, length);
        self.frame(head, &[&stream.get().to_be_bytes(), value])
    }

    /// Writes a head and what follows of its payload, or nothing.
    fn frame(&mut self, head: FrameHead, payload: &[&[u8]]) -> Result<(), NoRoom> {
        let len = FRAME_HEAD_BYTES + payload.iter().map(|piece| piece.len()).sum::<usize>();
        if self.out.len() - self.len < len {
            return Err(NoRoom);
        }
        self.append(&head.encode());
        payload.iter().for_each(|piece| self.append(piece));
        Ok(())
    }

    /// Appends bytes for which there is room.
    fn append(&mut self, bytes: &[u8]) {
        if let Some(to) = self.out.get_mut(self.len..self.len + bytes.len()) {
            to.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }
}

/// Bytes of a field section of `section` bytes with the heads of its frames. `max_frame_size` is at least
/// [`FRAME_SIZE_MIN`](crate::http2::settings::FRAME_SIZE_MIN).
#[must_use]
pub fn sealed_bytes(section: usize, max_frame_size: u32) -> usize {
    section + FRAME_HEAD_BYTES * section.div_ceil(max_frame_size.max(1) as usize).max(1)
}

/// Puts the heads of HEADERS and CONTINUATION around a field section that was written at `out[FRAME_HEAD_BYTES..][..section]`, so
/// that it need not be copied where one frame is enough. Returns the bytes of all frames.
///
/// # Errors
/// [`NoRoom`], if `out` is shorter than [`sealed_bytes`].
pub fn seal_headers(
    out: &mut [u8],
    section: usize,
    stream: StreamId,
    end_stream: bool,
    max_frame_size: u32,
) -> Result<usize, NoRoom> {
    let size = max_frame_size.max(1) as usize;
    let len = sealed_bytes(section, max_frame_size);
    if out.len() < len {
        return Err(NoRoom);
    }
    let frames = section.div_ceil(size).max(1);
    // From the last frame to the first, because each moves by one head more than the one before it.
    for index in (0..frames).rev() {
        let start = index * size;
        let length = size.min(section - start);
        let head_at = start + index * FRAME_HEAD_BYTES;
        let from = FRAME_HEAD_BYTES + start;
        if index > 0 {
            out.copy_within(from..from + length, head_at + FRAME_HEAD_BYTES);
        }
        let kind = if index == 0 { FrameKind::Headers } else { FrameKind::Continuation };
        let flags =
            Flags::END_STREAM.if_set(end_stream && index == 0).with(Flags::END_HEADERS.if_set(index + 1 == frames));
        let head = FrameHead::new(kind, flags, stream, length as u32).encode();
        if let Some(to) = out.get_mut(head_at..head_at + FRAME_HEAD_BYTES) {
            to.copy_from_slice(&head);
        }
    }
    Ok(len)
}
