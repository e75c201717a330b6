//! 6: pump heads and bodies both ways: framing, joining, placing. Not here: deciding where they go.

mod body;
mod join;
mod prepend;

pub use body::{Body, BodyError, Delivery, Trailers, end_chunks};
pub use join::join;
pub use prepend::{BuffersExhausted, prepend_head};
