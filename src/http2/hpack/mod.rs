//! HPACK (RFC 7541): field sections to bytes and back. Not here: what fields mean, and which are allowed (`head`).

mod decoder;
mod encoder;
mod integer;
mod static_table;
mod table;

pub use decoder::{DecodeError, DecodedField, Decoder, FieldSink, Next, SectionLimits, SectionSummary};
pub use encoder::{Encoder, Indexing, encoded_bound};
pub use table::{TABLE_BYTES, Table, table_memory};
