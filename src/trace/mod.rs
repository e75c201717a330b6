//! The trace that an exchange is part of: what a request says of it, and what its origin is told. Sans-I/O, and it allocates nothing.

mod b3;
mod context;

pub use context::{Received, TraceContext, attempt_span, hexadecimal, replace_parent};

/// What `[trace]` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceSpec {
    /// Whose trace context is believed.
    pub accept: Accept,
    /// Whether a request without one gets one.
    pub make: bool,
    /// Whether the fields of B3 are read where there is no Traceparent.
    pub b3: bool,
    /// Which of the traces that begin here are recorded; None: nothing is, because nothing is exported.
    pub sampling: Option<Sampling>,
}

impl Default for TraceSpec {
    fn default() -> Self {
        Self { accept: Accept::Any, make: true, b3: false, sampling: None }
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

/// The share of traces that is recorded. Whoever has the same share decides the same of a trace, because its id decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The first of the random parts of ids, 56 bits, whose traces are recorded.
    threshold: u64,
}

impl Sampling {
    const RANDOM_BITS: u32 = 56;

    /// The sampling of this share, 0 to 1.
    #[must_use]
    pub fn of(share: f64) -> Self {
        let all = (1_u64 << Self::RANDOM_BITS) as f64;
        Self { threshold: ((1.0 - share) * all) as u64 }
    }

    /// Whether a trace is recorded, by the 32 digits of its id.
    #[must_use]
    pub fn records(self, id: &[u8; 32]) -> bool {
        let digit = |it: &u8| u64::from(char::from(*it).to_digit(16).unwrap_or(0));
        let random = id[32 - Self::RANDOM_BITS as usize / 4..].iter().fold(0, |sum, it| sum << 4 | digit(it));
        random >= self.threshold
    }
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

#[cfg(test)]
mod tests {
    use super::Sampling;

    #[test]
    fn the_id_of_a_trace_decides_whether_it_is_recorded() {
        let [low, high] = [*b"ffffffffffffffffff00000000000001", *b"000000000000000000ffffffffffffff"];
        assert!(Sampling::of(1.0).records(&low) && Sampling::of(1.0).records(&high));
        assert!(!Sampling::of(0.0).records(&low) && !Sampling::of(0.0).records(&high));
        assert!(!Sampling::of(0.01).records(&low) && Sampling::of(0.01).records(&high));
        let half = Sampling::of(0.5);
        assert!(
            half.records(b"00000000000000000080000000000000") && !half.records(b"0000000000000000007fffffffffffff")
        );
    }
}
