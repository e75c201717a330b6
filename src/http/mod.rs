//! Sans-I/O HTTP/1: bytes in, offsets out. No I/O, no clock, no allocation per message.
//!
//! A head is parsed into spans of the buffer that holds it; a chunked body is split into parts of the buffers in which it arrives.
//! A message that is ambiguous is refused, never repaired (RFC 9112 section 11).

mod chunked;
mod connection;
mod fields;
mod framing;
mod head;
mod login;
mod field_values;
mod method;
mod name;
mod number;
pub mod path;
mod request;
mod response;
mod span;
mod target;
mod upgrade;
mod websocket;

pub use chunked::{ChunkError, ChunkedDecoder, ChunkedPart, ChunkedPartKind, VerbatimRun};
pub use connection::nominates_fields;
pub use fields::{Field, Fields};
pub use framing::BodyFraming;
pub use head::{FieldError, HeadLimits, TrailerError, parse_trailers};
pub use login::binds_connection;
pub use method::{Method, Version};
pub use name::{ENDS_HERE, FieldName, ends_here, hop_by_hop, is_claim, is_forwardable_trailer, is_grpc, proves_client};
pub use number::{parse_decimal, write_decimal, write_hex};
pub use request::{RequestError, RequestHead, parse_request};
pub use response::{ResponseError, ResponseHead, parse_response};
pub use span::Span;
pub use target::Target;
pub use upgrade::UpgradeOffer;
pub use websocket::{WebSocketAccept, WebSocketKey};

#[cfg(test)]
mod tests;
