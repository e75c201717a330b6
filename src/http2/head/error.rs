//! Why a head is refused. Not here: the frames that say so.

use crate::http::{FieldError, RequestError, ResponseError};
use crate::http2::{Error, ErrorCode, StreamId};

/// Why a message is refused: it is malformed (RFC 9113 section 8.1.1), or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadError {
    /// As a request of HTTP/1.1 would be.
    Request(RequestError),
    /// As a response of HTTP/1.1 would be.
    Response(ResponseError),
    /// As the fields of any message would be.
    Fields(FieldError),
    /// A pseudo-header field that is not defined for this message.
    UnknownPseudo,
    /// The same pseudo-header field twice.
    DuplicatePseudo,
    /// A pseudo-header field behind other fields, or among trailers.
    MisplacedPseudo,
    /// A pseudo-header field is missing that the message needs.
    MissingPseudo,
    /// `:scheme` is neither `http` nor `https`.
    BadScheme,
    /// `:path` is empty, or does not begin with `/`, or has a space or a control character.
    BadPath,
    /// `:protocol` is no token, or was not announced, or comes with another method than CONNECT.
    BadProtocol,
    /// `host` differs from `:authority`.
    HostMismatch,
    /// A name in upper case.
    UpperCaseName,
    /// A field that concerns the connection (RFC 9113 section 8.2.2).
    ConnectionField,
    /// `te` is not `trailers`.
    BadTe,
    /// The message ends without the content that its length promises.
    MissingContent,
    /// An interim response that ends the stream.
    InterimEnd,
    /// Status 101, which HTTP/2 does not have.
    SwitchingProtocols,
}

impl HeadError {
    /// The status to answer a request with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Request(error) => error.status(),
            Self::Fields(error) => error.status(),
            Self::Response(_) | Self::InterimEnd | Self::SwitchingProtocols => 502,
            Self::UnknownPseudo
            | Self::DuplicatePseudo
            | Self::MisplacedPseudo
            | Self::MissingPseudo
            | Self::BadScheme
            | Self::BadPath
            | Self::BadProtocol
            | Self::HostMismatch
            | Self::UpperCaseName
            | Self::ConnectionField
            | Self::BadTe
            | Self::MissingContent => 400,
        }
    }

    /// The reason code.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Request(error) => error.reason(),
            Self::Response(error) => error.reason(),
            Self::Fields(error) => error.reason(),
            Self::UnknownPseudo => "unknown_pseudo_field",
            Self::DuplicatePseudo => "duplicate_pseudo_field",
            Self::MisplacedPseudo => "misplaced_pseudo_field",
            Self::MissingPseudo => "missing_pseudo_field",
            Self::BadScheme => "bad_scheme",
            Self::BadPath => "bad_target",
            Self::BadProtocol => "bad_protocol",
            Self::HostMismatch => "host_mismatch",
            Self::UpperCaseName => "upper_case_name",
            Self::ConnectionField => "connection_field",
            Self::BadTe => "bad_te",
            Self::MissingContent => "bad_content_length",
            Self::InterimEnd => "interim_end",
            Self::SwitchingProtocols => "switching_protocols",
        }
    }

    /// The error that resets the stream, where it is not answered.
    #[must_use]
    pub fn error(self, stream: StreamId) -> Error {
        Error::stream(stream, ErrorCode::ProtocolError, self.reason())
    }
}

impl From<FieldError> for HeadError {
    fn from(error: FieldError) -> Self {
        Self::Fields(error)
    }
}

impl From<RequestError> for HeadError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Fields(error) => Self::Fields(error),
            error => Self::Request(error),
        }
    }
}

impl From<ResponseError> for HeadError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Fields(error) => Self::Fields(error),
            error => Self::Response(error),
        }
    }
}
