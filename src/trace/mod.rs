//! The trace that an exchange is part of: what a request says of it, and what its origin is told. Sans-I/O, and it allocates nothing.

mod b3;
mod context;

pub use context::{Received, TraceContext};

/// What `[trace]` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceSpec {
    /// Whose trace context is believed.
    pub accept: Accept,
    /// Whether a request without one gets one.
    pub make: bool,
    /// Whether the fields of B3 are read where there is no Traceparent.
    pub b3: bool,
}

impl Default for TraceSpec {
    fn default() -> Self {
        Self { accept: Accept::Any, make: true, b3: false }
    }
}

/// Whose trace context is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Everybody's.
    Any,
    /// That of trusted peers.
    Trusted,
    /// Nobody's.
    None,
}

impl TraceSpec {
    /// Whether the trace context of a peer is believed.
    #[must_use]
    #[inline]
    pub fn believes(&self, trusted: bool) -> bool {
        match self.accept {
            Accept::Any => true,
            Accept::Trusted => trusted,
            Accept::None => false,
        }
    }
}
