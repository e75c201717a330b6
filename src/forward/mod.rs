//! Heads and bodies, in both directions: reading bodies, framing them, joining pieces, prepending heads. Not here: where they are
//! sent.
//!
//! A body is read as data, then its end, with trailers or without ([`Body::read`]). Framing for an HTTP/1 receiver is apart from that
//! ([`Framing`]), so that another version can frame the same data and the same end in its own way.

mod body;
mod framing;
mod join;
mod prepend;
#[cfg(test)]
mod tests;
mod trailers;

pub use body::{Body, BodyEnd, BodyError, Chunking, Progress};
pub use framing::Framing;
pub use join::join;
pub use prepend::{BuffersExhausted, prepend_head};
pub use trailers::{TrailerSection, Trailers};
