//! 6: pump heads and bodies both ways: framing, joining, placing. Not here: deciding where they go.

mod body;
mod gather;
mod place;

pub use body::{Body, BodyError, Delivery, Trailers, end_chunks};
pub use gather::gather;
pub use place::{BuffersExhausted, place};
