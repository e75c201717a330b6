//! Heads of HTTP/2 in the form that heads of HTTP/1.1 have (RFC 9113 section 8): lines of text with spans into them. Not here:
//! HPACK (`hpack`), and what happens to a refused stream.
//!
//! # One form for both versions
//!
//! A decoded field section becomes the text of an HTTP/1.1 head, in the buffer in which it was decoded, and a [`RequestHead`], a
//! [`ResponseHead`] or [`Fields`] are filled from that text by the parsers of `http`. So one parser says what a head means: routing,
//! edits, logs and checks cannot tell which version it came in, and what goes to an HTTP/1.1 origin has passed the checks that any
//! HTTP/1.1 head has to pass. The checks here are those that HTTP/2 has besides: pseudo-header fields, names in lower case, no
//! fields of the connection. Values are checked before they become text, so that none can look like the end of a line.
//!
//! | in HTTP/2 | in the text |
//! |---|---|
//! | `:method`, `:path` | the request line |
//! | `:authority`, or `host` if it is missing | `host`, the first line; a `host` that differs is refused |
//! | `:scheme` | not in the text; [`ReceivedRequest::scheme`] |
//! | `:status` | the status line, without a phrase |
//! | CONNECT | `CONNECT authority` |
//! | extended CONNECT (RFC 8441) | GET with `connection: upgrade` and `upgrade: protocol` |
//! | `cookie`, several times | one `cookie`, joined with `; ` |
//! | no `content-length`, no END_STREAM | [`BodyFraming::Chunked`]: a body of unknown length |
//! | END_STREAM | [`BodyFraming::None`], or a length of 0 |
//!
//! The way back is the same: [`encode_request`] and the like take the text that `exchange` or `downstream` has written for the
//! other side, and encode it line by line. Fields that HTTP/2 has no use for are left out there.
//!
//! # What the seam needs
//!
//! - **Memory.** A section is decoded in a lease that is as large as the limits of heads ask for, plus the pseudo-header fields,
//!   which stay in front of the text: [`ReceivedRequest::text`] says where it stands. One lease for each stream whose section is
//!   under way: at most one for each connection.
//! - **State.** Decoder and sink keep a section that arrives in fragments; the sink is a value of about a hundred bytes beside the lease.
//! - **Refusals.** [`HeadError`] says what a request would be answered over HTTP/1.1. The stream may be reset with PROTOCOL_ERROR
//!   instead. The table of HPACK is right either way, so the connection goes on.
//! - **Body.** The stream counts DATA against [`BodyFraming::Length`] and compares at END_STREAM.
//! - **Never indexed.** [`NeverIndexed`] goes from the received head to the encoder of the other side (RFC 7541 section 6.2.3).
//! - **Tunnels.** A request with [`ReceivedRequest::is_tunnel`] looks like an upgrade, and is answered with 200 where HTTP/1.1 has
//!   101. The origin's side makes `sec-websocket-key` and checks `sec-websocket-accept`; the encoders leave both out.
//! - **`te: trailers`** is a field of the connection for HTTP/1.1 and is not forwarded. [`ReceivedRequest::takes_trailers`] says
//!   that it was there, for gRPC over HTTP/2 to the origin, where the caller encodes it with the text.
//!
//! [`RequestHead`]: crate::http::RequestHead
//! [`ResponseHead`]: crate::http::ResponseHead
//! [`Fields`]: crate::http::Fields
//! [`BodyFraming::Chunked`]: crate::http::BodyFraming::Chunked
//! [`BodyFraming::None`]: crate::http::BodyFraming::None
//! [`BodyFraming::Length`]: crate::http::BodyFraming::Length

mod encode;
mod error;
mod lines;
mod never_indexed;
mod request;
mod response;

pub use encode::{EncodeError, encode_request, encode_response, encode_trailers};
pub use error::HeadError;
pub use never_indexed::NeverIndexed;
pub use request::{ReceivedRequest, RequestSink, Scheme};
pub use response::{ReceivedResponse, ResponseSink, TrailerSink};
