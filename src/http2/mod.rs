//! Sans-I/O HTTP/2: frames, HPACK, heads, windows, abuse, and connections made of them. No I/O, no clock; nothing is allocated for
//! a stream where there were as many before. Not here: what a message means.

pub mod abuse;
pub mod connection;
mod error;
pub mod flow;
mod frame;
pub mod head;
pub mod hpack;
pub mod huffman;
mod priority;
mod reader;
pub mod settings;
mod writer;

pub use error::{Error, ErrorCode, Scope};
pub use frame::{FRAME_HEAD_BYTES, Flags, FrameHead, FrameKind, PREFACE, Preface, PrefaceStep, StreamId};
pub use priority::Priority;
pub use reader::{Event, FrameReader, Part};
pub use settings::{Setting, Settings, Side};
pub use writer::{FrameWriter, NoRoom, seal_headers, sealed_bytes};

#[cfg(test)]
mod tests;
