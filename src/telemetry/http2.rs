//! Connections of HTTP/2 that ended with an error, by its code. Not here: what the codes mean (`http2`).

use super::Counter;
use crate::http2::ErrorCode;

/// Counts of errors by code.
#[derive(Debug, Default)]
pub struct Http2Errors([Counter; ErrorCode::ALL.len()]);

impl Http2Errors {
    /// Counts a connection that ends.
    pub fn add(&self, code: ErrorCode) {
        if let Some(counter) = self.0.get(code as usize) {
            counter.add(1);
        }
    }

    /// The counts, in the order of [`ErrorCode::ALL`].
    #[must_use]
    pub fn get(&self) -> [u64; ErrorCode::ALL.len()] {
        self.0.each_ref().map(Counter::get)
    }
}
