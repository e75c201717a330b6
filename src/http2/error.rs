//! Error codes of HTTP/2 and what an error ends: a stream or the connection (RFC 9113 sections 5.4 and 7). Not here: which answer a
//! client gets for a malformed request (`head`).

use crate::http2::StreamId;

/// Why a stream or a connection ends, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// A graceful end.
    NoError = 0x0,
    /// A violation of the protocol that has no code of its own.
    ProtocolError = 0x1,
    /// An error of the sender's own.
    InternalError = 0x2,
    /// More data than the window allows, or a window that grows beyond its largest size.
    FlowControlError = 0x3,
    /// SETTINGS were not acknowledged in time.
    SettingsTimeout = 0x4,
    /// A frame on a stream that has ended.
    StreamClosed = 0x5,
    /// A frame whose length its kind does not allow.
    FrameSizeError = 0x6,
    /// The stream was not processed; the request may be sent again.
    RefusedStream = 0x7,
    /// The stream is no longer needed.
    Cancel = 0x8,
    /// The state of field compression is lost.
    CompressionError = 0x9,
    /// The connection that a CONNECT asked for was reset or closed.
    ConnectError = 0xa,
    /// The peer causes too much work.
    EnhanceYourCalm = 0xb,
    /// The transport is not secure enough.
    InadequateSecurity = 0xc,
    /// The request is to be sent over HTTP/1.1.
    Http11Required = 0xd,
}

impl ErrorCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::NoError,
        Self::ProtocolError,
        Self::InternalError,
        Self::FlowControlError,
        Self::SettingsTimeout,
        Self::StreamClosed,
        Self::FrameSizeError,
        Self::RefusedStream,
        Self::Cancel,
        Self::CompressionError,
        Self::ConnectError,
        Self::EnhanceYourCalm,
        Self::InadequateSecurity,
        Self::Http11Required,
    ];

    /// The code with this number. Unknown codes have no special meaning, and are read as an error of the peer's own.
    #[must_use]
    pub fn from_wire(code: u32) -> Self {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code));
        known.copied().unwrap_or(Self::InternalError)
    }

    /// The name in the RFC, for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoError => "NO_ERROR",
            Self::ProtocolError => "PROTOCOL_ERROR",
            Self::InternalError => "INTERNAL_ERROR",
            Self::FlowControlError => "FLOW_CONTROL_ERROR",
            Self::SettingsTimeout => "SETTINGS_TIMEOUT",
            Self::StreamClosed => "STREAM_CLOSED",
            Self::FrameSizeError => "FRAME_SIZE_ERROR",
            Self::RefusedStream => "REFUSED_STREAM",
            Self::Cancel => "CANCEL",
            Self::CompressionError => "COMPRESSION_ERROR",
            Self::ConnectError => "CONNECT_ERROR",
            Self::EnhanceYourCalm => "ENHANCE_YOUR_CALM",
            Self::InadequateSecurity => "INADEQUATE_SECURITY",
            Self::Http11Required => "HTTP_1_1_REQUIRED",
        }
    }
}

/// What an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The connection, with GOAWAY.
    Connection,
    /// This stream, with RST_STREAM.
    Stream(StreamId),
}

/// An error that a peer has caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Error {
    /// What it ends.
    pub scope: Scope,
    /// The code for the frame that says so.
    pub code: ErrorCode,
    /// What was wrong, in a few words: the debug data of GOAWAY, and a token of the log.
    pub reason: &'static str,
}

impl Error {
    /// An error that ends the connection.
    #[must_use]
    pub const fn connection(code: ErrorCode, reason: &'static str) -> Self {
        Self { scope: Scope::Connection, code, reason }
    }

    /// An error that ends one stream.
    #[must_use]
    pub const fn stream(stream: StreamId, code: ErrorCode, reason: &'static str) -> Self {
        Self { scope: Scope::Stream(stream), code, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_numbers_on_the_wire() {
        for (number, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(ErrorCode::from_wire(number as u32), code);
        }
        assert_eq!(ErrorCode::from_wire(14), ErrorCode::InternalError);
        assert_eq!(ErrorCode::from_wire(u32::MAX), ErrorCode::InternalError);
    }
}
