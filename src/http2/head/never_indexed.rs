//! The names of fields that came never indexed, so that they go on like that (RFC 7541 section 6.2.3). Not here: names that are
//! never indexed whatever they came as (`hpack`).

use crate::http::FieldName;
use crate::http2::hpack::{Indexing, name_hash};

/// A set of names. It may say of others that they are in it, which costs bytes on the wire and gives nothing away: one of 64 names that
/// are not known, for each of those that are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeverIndexed {
    /// Bits of known names.
    known: u64,
    /// Bits of others, by their hashes.
    others: u64,
}

impl NeverIndexed {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        let (known, others) = bits(name);
        self.known |= known;
        self.others |= others;
    }

    /// Adds all names of another set.
    pub fn extend(&mut self, other: Self) {
        self.known |= other.known;
        self.others |= other.others;
    }

    /// Whether there is no name in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known | self.others == 0
    }

    /// Whether fields with this name may be indexed.
    #[must_use]
    #[inline]
    pub fn indexing(&self, name: &[u8]) -> Indexing {
        if !self.is_empty() && self.has(name) { Indexing::Never } else { Indexing::Allowed }
    }

    fn has(&self, name: &[u8]) -> bool {
        let (known, others) = bits(name);
        self.known & known != 0 || self.others & others != 0
    }
}

/// The bit of a name: among those of known names, or among those of others.
fn bits(name: &[u8]) -> (u64, u64) {
    match FieldName::lookup(name) {
        FieldName::Other => (0, 1 << (name_hash(name) % u64::BITS)),
        id => (id.bit(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept() {
        let mut set = NeverIndexed::default();
        assert!(set.is_empty());
        assert_eq!(set.indexing(b"cookie"), Indexing::Allowed);
        set.insert(b"cookie");
        let mut other = NeverIndexed::default();
        other.insert(b"x-secret");
        set.extend(other);
        for (name, want) in [
            (&b"cookie"[..], Indexing::Never),
            (b"Cookie", Indexing::Never),
            (b"X-Secret", Indexing::Never),
            (b"accept", Indexing::Allowed),
            (b"x-other", Indexing::Allowed),
        ] {
            assert_eq!(set.indexing(name), want);
        }
    }
}
