//! Windows of flow control (RFC 9113 section 5.2 and 6.9), of a stream or of a connection: what may be sent, what was received and when
//! the peer is told of it. Not here: who waits for a window.

use crate::http2::{Error, ErrorCode, Scope};

/// Largest size of a window.
pub const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Size of the window of a connection before any WINDOW_UPDATE, which SETTINGS do not change.
pub const CONNECTION_WINDOW: u32 = 65_535;
/// A peer with less than this part of a window left counts as stalled: it is told at once of what was freed, because a message that it
/// must send as a whole may need more than it has left.
const STALLED_PART: i64 = 8;

/// Why a window ends a stream or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowError {
    /// WINDOW_UPDATE by 0.
    ZeroIncrement,
    /// A window would exceed [`WINDOW_MAX`].
    Overflow,
    /// The peer sent more than the window allows.
    Exceeded,
}

impl WindowError {
    /// The error for the stream or the connection that the window belongs to.
    #[must_use]
    pub fn of(self, scope: Scope) -> Error {
        let (code, reason) = match self {
            Self::ZeroIncrement => (ErrorCode::ProtocolError, "WINDOW_UPDATE by 0"),
            Self::Overflow => (ErrorCode::FlowControlError, "a window grows beyond 2^31-1"),
            Self::Exceeded => (ErrorCode::FlowControlError, "more data than the window allows"),
        };
        Error { scope, code, reason }
    }
}

/// What may be sent. Below 0 after the peer has made the initial window smaller (RFC 9113 section 6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWindow(i64);

impl SendWindow {
    /// A window of this size, at most [`WINDOW_MAX`].
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self(i64::from(size.min(WINDOW_MAX)))
    }

    /// Bytes that may be sent.
    #[must_use]
    #[inline]
    pub fn available(self) -> u32 {
        u32::try_from(self.0).unwrap_or(0)
    }

    /// Takes the increment of a WINDOW_UPDATE.
    ///
    /// # Errors
    /// The increment is 0, or the window would be too large.
    pub fn increase(&mut self, increment: u32) -> Result<(), WindowError> {
        if increment == 0 {
            return Err(WindowError::ZeroIncrement);
        }
        self.shift(i64::from(increment))
    }

    /// Takes a change of the peer's initial window, for a stream that was open before.
    ///
    /// # Errors
    /// The window would be too large; this ends the connection, whichever stream it is.
    pub fn shift(&mut self, by: i64) -> Result<(), WindowError> {
        let size = self.0.saturating_add(by);
        if size > i64::from(WINDOW_MAX) {
            return Err(WindowError::Overflow);
        }
        self.0 = size;
        Ok(())
    }

    /// Takes up to `wanted` bytes out of the windows of a stream and its connection. Returns how many.
    #[inline]
    pub fn take(stream: &mut Self, connection: &mut Self, wanted: u32) -> u32 {
        let granted = wanted.min(stream.available()).min(connection.available());
        stream.0 -= i64::from(granted);
        connection.0 -= i64::from(granted);
        granted
    }
}

/// What the peer may send. `left + held + freed` is the size: bytes that it may still send, that lie here, and that it is not told
/// of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    size: u32,
    /// Below 0 only after the window was made smaller.
    left: i64,
    freed: u32,
}

impl ReceiveWindow {
    /// A window of this size, at most [`WINDOW_MAX`], which the peer knows of.
    #[must_use]
    pub fn new(size: u32) -> Self {
        let size = size.min(WINDOW_MAX);
        Self { size, left: i64::from(size), freed: 0 }
    }

    /// The window of a connection that is to have `size` bytes, at least [`CONNECTION_WINDOW`]: the first update tells the peer of
    /// what is above the initial size.
    #[must_use]
    pub fn of_connection(size: u32) -> Self {
        let size = size.clamp(CONNECTION_WINDOW, WINDOW_MAX);
        Self { size, left: i64::from(CONNECTION_WINDOW), freed: size - CONNECTION_WINDOW }
    }

    /// Bytes that the peer may send.
    #[must_use]
    #[inline]
    pub fn left(&self) -> u32 {
        u32::try_from(self.left).unwrap_or(0)
    }

    /// Takes a DATA frame, `bytes` with its padding.
    ///
    /// # Errors
    /// The peer was not allowed to send so much.
    #[inline]
    pub fn receive(&mut self, bytes: u32) -> Result<(), WindowError> {
        if i64::from(bytes) > self.left {
            return Err(WindowError::Exceeded);
        }
        self.left -= i64::from(bytes);
        Ok(())
    }

    /// Frees received bytes: they have left the buffers that the window bounds, or were dropped.
    #[inline]
    pub fn free(&mut self, bytes: u32) {
        let held = i64::from(self.size) - self.left - i64::from(self.freed);
        debug_assert!(i64::from(bytes) <= held, "freed more than was received");
        self.freed += u32::try_from(i64::from(bytes).min(held)).unwrap_or(0);
    }

    /// The increment that the peer has to be told of now: when half of the window is free again, or something is and the peer is stalled.
    #[inline]
    pub fn update(&mut self) -> Option<u32> {
        let size = i64::from(self.size);
        let is_due = i64::from(self.freed) * 2 >= size || self.left < size / STALLED_PART;
        if !is_due || self.freed == 0 {
            return None;
        }
        let increment = core::mem::take(&mut self.freed);
        self.left += i64::from(increment);
        Some(increment)
    }

    /// Makes the window of a stream one of another size, when the peer has acknowledged the SETTINGS that say so.
    pub fn resize(&mut self, size: u32) {
        let size = size.min(WINDOW_MAX);
        self.left += i64::from(size) - i64::from(self.size);
        self.size = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_window_is_signed_and_bounded() {
        let mut window = SendWindow::new(65_535);
        assert_eq!(window.increase(0), Err(WindowError::ZeroIncrement));
        assert_eq!(window.increase(WINDOW_MAX - 65_535), Ok(()));
        assert_eq!(window.increase(1), Err(WindowError::Overflow));
        assert_eq!(window.available(), WINDOW_MAX);
        // RFC 9113 section 6.9.2: 60 KB are sent, then the initial window is lowered to 16 KB, so that the window is -44 KB.
        let (mut window, mut connection) = (SendWindow::new(65_536), SendWindow::new(WINDOW_MAX));
        assert_eq!(SendWindow::take(&mut window, &mut connection, 60 * 1024), 60 * 1024);
        assert_eq!(window.shift(16 * 1024 - 65_536), Ok(()));
        assert_eq!((window.available(), window.0), (0, -44 * 1024));
        assert_eq!(SendWindow::take(&mut window, &mut connection, 1), 0);
        assert_eq!(window.increase(44 * 1024 + 1), Ok(()));
        assert_eq!(window.available(), 1);
    }

    #[test]
    fn the_smaller_of_two_windows_counts() {
        let (mut stream, mut connection) = (SendWindow::new(100), SendWindow::new(30));
        assert_eq!(SendWindow::take(&mut stream, &mut connection, 50), 30);
        assert_eq!((stream.available(), connection.available()), (70, 0));
    }

    #[test]
    fn updates_come_at_half_or_when_the_peer_is_stalled() {
        let mut window = ReceiveWindow::new(1000);
        assert_eq!(window.receive(1001), Err(WindowError::Exceeded));
        assert_eq!(window.receive(499), Ok(()));
        window.free(499);
        assert_eq!(window.update(), None, "less than half");
        assert_eq!(window.receive(1), Ok(()));
        window.free(1);
        assert_eq!(window.update(), Some(500));
        assert_eq!(window.update(), None);
        // All is held here, and one byte is given back: the peer has nothing left, so it is told.
        assert_eq!(window.receive(1000), Ok(()));
        assert_eq!(window.update(), None);
        window.free(1);
        assert_eq!(window.update(), Some(1));
        assert_eq!(window.left(), 1);
    }

    #[test]
    fn a_connection_begins_with_the_initial_window() {
        let mut window = ReceiveWindow::of_connection(1 << 20);
        assert_eq!(window.left(), 65_535);
        assert_eq!(window.update(), Some((1 << 20) - 65_535));
        assert_eq!(window.left(), 1 << 20);
        let mut smallest = ReceiveWindow::of_connection(1);
        assert_eq!((smallest.left(), smallest.update()), (65_535, None));
    }

    #[test]
    fn a_smaller_window_may_be_below_zero() {
        let mut window = ReceiveWindow::new(1000);
        assert_eq!(window.receive(800), Ok(()));
        window.resize(500);
        assert_eq!((window.left(), window.receive(1)), (0, Err(WindowError::Exceeded)));
        window.free(800);
        assert_eq!(window.update(), Some(800));
        assert_eq!(window.left(), 500);
    }

    #[test]
    fn a_window_survives_more_than_4_gib() {
        let (mut receive, mut stream, mut connection) =
            (ReceiveWindow::new(WINDOW_MAX), SendWindow::new(WINDOW_MAX), SendWindow::new(WINDOW_MAX));
        for _ in 0..1000 {
            let sent = SendWindow::take(&mut stream, &mut connection, 1 << 30);
            assert_eq!((sent, receive.receive(sent)), (1 << 30, Ok(())));
            receive.free(sent);
            let increment = receive.update().expect("half is free");
            assert_eq!((stream.increase(increment), connection.increase(increment)), (Ok(()), Ok(())));
        }
        assert_eq!((receive.left(), stream.available()), (WINDOW_MAX, WINDOW_MAX));
    }
}
