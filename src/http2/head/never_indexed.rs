//! The names of fields that came never indexed, so that they go on like that (RFC 7541 section 6.2.3). Not here: names that are
//! never indexed whatever they came as (`hpack`).

use crate::http::FieldName;
use crate::http2::hpack::{Indexing, name_hash};

/// Names besides the known ones that are told apart; with more, all fields count as never indexed.
const NAMES: usize = 8;

/// A set of names. It may say of others that they are in it, which costs bytes on the wire and gives nothing away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeverIndexed {
    /// Bits of known names.
    known: u64,
    /// Hashes of others.
    others: [u32; NAMES],
    count: u8,
    /// Whether all names are in the set.
    all: bool,
}

impl NeverIndexed {
    /// Adds a name.
    pub fn insert(&mut self, name: &[u8]) {
        match FieldName::lookup(name) {
            FieldName::Other if !self.has_other(name) => match self.others.get_mut(usize::from(self.count)) {
                Some(slot) => {
                    *slot = name_hash(name);
                    self.count += 1;
                }
                None => self.all = true,
            },
            FieldName::Other => {}
            id => self.known |= id.bit(),
        }
    }

    /// Whether fields with this name may be indexed.
    #[must_use]
    #[inline]
    pub fn indexing(&self, name: &[u8]) -> Indexing {
        if *self != Self::default() && self.has(name) { Indexing::Never } else { Indexing::Allowed }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.all
            || match FieldName::lookup(name) {
                FieldName::Other => self.has_other(name),
                id => self.known & id.bit() != 0,
            }
    }

    fn has_other(&self, name: &[u8]) -> bool {
        let others = self.others.get(..usize::from(self.count)).unwrap_or_default();
        !others.is_empty() && others.contains(&name_hash(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_too_many_are_all() {
        let mut set = NeverIndexed::default();
        assert_eq!(set.indexing(b"cookie"), Indexing::Allowed);
        set.insert(b"cookie");
        set.insert(b"x-secret");
        for (name, want) in [
            (&b"cookie"[..], Indexing::Never),
            (b"Cookie", Indexing::Never),
            (b"X-Secret", Indexing::Never),
            (b"accept", Indexing::Allowed),
            (b"x-other", Indexing::Allowed),
        ] {
            assert_eq!(set.indexing(name), want);
        }
        (0..20).for_each(|_| set.insert(b"x-secret"));
        assert_eq!(set.indexing(b"x-other"), Indexing::Allowed);
        (0..20).for_each(|at| set.insert(format!("x-secret-{at}").as_bytes()));
        assert_eq!(set.indexing(b"x-other"), Indexing::Never);
    }
}
