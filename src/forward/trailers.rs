//! The trailer section of a body, and which of its fields may be forwarded. Not here: its grammar (`http`).

use crate::buffer::Lease;
use crate::http::{self, FieldName, Fields};

/// Which trailers of a message may be forwarded, if [`http::is_forwardable_trailer`] allows them as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// None.
    Dropped,
    /// Those without `_` in their names: some applications treat it as `-`, and would take the name for one that is removed from
    /// heads.
    Plain,
    /// All.
    Passed,
}

impl Trailers {
    fn passes(self, name: &[u8], id: FieldName) -> bool {
        let is_passed = match self {
            Self::Dropped => false,
            Self::Plain => !name.contains(&b'_'),
            Self::Passed => true,
        };
        is_passed && http::is_forwardable_trailer(name, id)
    }
}

/// A trailer section that was read: the bytes into which its parsed fields point. It holds a buffer until it is dropped.
#[derive(Debug)]
pub struct TrailerSection {
    bytes: Lease,
    rule: Trailers,
}

impl TrailerSection {
    pub(super) fn new(bytes: Lease, rule: Trailers) -> Self {
        Self { bytes, rule }
    }

    /// Names and values of those fields that may be forwarded. `parsed`: the fields that the read of this section has filled.
    pub fn passed<'a>(&'a self, parsed: &'a Fields) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let section = self.bytes.bytes();
        let passes = |field: &&http::Field| self.rule.passes(field.name.of(section), field.id);
        parsed.iter().filter(passes).map(|field| (field.name.of(section), field.value.of(section)))
    }
}
