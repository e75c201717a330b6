//! HPACK (RFC 7541): field sections to bytes and back. Not here: what fields mean, and which are allowed (`head`).

mod decoder;
mod encoder;
mod integer;
mod static_table;
mod table;

pub(crate) use decoder::GAP;
pub use decoder::{DecodeError, DecodedField, Decoder, FieldSink, Next, SectionLimits, SectionSummary};
pub use encoder::{Encoder, Indexing, encoded_bound};
pub use table::{TABLE_BYTES, Table, table_memory};

/// A hash of a name, the same in upper and lower case.
pub(crate) fn name_hash(name: &[u8]) -> u32 {
    static_table::hash(name, 0)
}
