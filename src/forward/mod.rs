//! 6: pump heads and bodies both ways: reading, framing, joining, placing. Not here: deciding where they go.
//!
//! A body is read as data, then its end, with trailers or without ([`Body::read`]). What goes out over HTTP/1 is framed apart from that
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
