//! Sans-I/O HTTP/2: frames, HPACK, heads, windows, abuse. No I/O, no clock, no allocation after construction. Not here: the
//! states of streams, and when what is sent.

pub mod abuse;
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
