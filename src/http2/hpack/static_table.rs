//! The static table (RFC 7541 appendix A), and its names by their hashes. Not here: the dynamic table.

/// Fields by index, from 1. Those with one name stand together.
pub(super) static STATIC_TABLE: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// A hash of bytes, with letters in lower case; `seed` is a hash of what stands before them.
///
/// It need not resist attacks: what is found by it is compared, and it leads to one place, not to a list.
#[inline]
pub(super) const fn hash(bytes: &[u8], seed: u32) -> u32 {
    let mut hash = seed as u64 ^ (bytes.len() as u64) << 32;
    let mut rest = bytes;
    while let Some((word, tail)) = rest.split_first_chunk() {
        hash = mix(hash, u64::from_le_bytes(*word));
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk() {
        hash = mix(hash, u32::from_le_bytes(*word) as u64);
        rest = tail;
    }
    while let Some((byte, tail)) = rest.split_first() {
        hash = mix(hash, *byte as u64);
        rest = tail;
    }
    (hash ^ hash >> 32) as u32
}

#[inline]
const fn mix(hash: u64, word: u64) -> u64 {
    // Not only letters are folded, but bytes that are equal in lower case always have the same hash.
    (hash ^ (word | 0x2020_2020_2020_2020)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// The first index of each name, by hash; 0: none. A name stands in the first free slot from that of its hash on.
static NAMES: [u8; 256] = {
    let mut names = [0; 256];
    let mut i = 0;
    while i < STATIC_TABLE.len() {
        if i == 0 || !same(STATIC_TABLE[i].0, STATIC_TABLE[i - 1].0) {
            let mut slot = hash(STATIC_TABLE[i].0, 0) as usize % names.len();
            while names[slot] != 0 {
                slot = (slot + 1) % names.len();
            }
            names[slot] = i as u8 + 1;
        }
        i += 1;
    }
    names
};

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    a.len() == b.len() && i == a.len()
}

/// The index of a field, as far as the static table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Name and value.
    Field(u32),
    /// The name.
    Name(u32),
    /// Nothing.
    Nothing,
}

/// Looks up a field. `hash` is the hash of its name, which may be in any case.
pub(super) fn find(name: &[u8], value: &[u8], hash: u32) -> Found {
    let mut slot = hash as usize % NAMES.len();
    loop {
        let index = usize::from(NAMES[slot]);
        let Some(first) = index.checked_sub(1) else { return Found::Nothing };
        let (text, _) = STATIC_TABLE[first];
        if is_name(text, name) {
            // Those with one name stand together.
            let entries = STATIC_TABLE.iter().skip(first).take_while(|entry| entry.0 == text);
            let found = entries.enumerate().find(|(_, entry)| entry.1 == value);
            return found.map_or(Found::Name(index as u32), |(offset, _)| Found::Field((index + offset) as u32));
        }
        slot = (slot + 1) % NAMES.len();
    }
}

/// Whether `name`, in any case, is `text`, which is in lower case; mostly both are.
#[inline]
pub(super) fn is_name(text: &[u8], name: &[u8]) -> bool {
    text == name || text.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for (index, (name, value)) in (1..).zip(STATIC_TABLE) {
            assert_eq!(find(name, value, hash(name, 0)), Found::Field(index));
            let upper = name.to_ascii_uppercase();
            assert_eq!(find(&upper, value, hash(&upper, 0)), Found::Field(index));
            assert!(matches!(find(name, b"other", hash(name, 0)), Found::Name(first) if first <= index));
        }
        assert_eq!(find(b"x-other", b"", hash(b"x-other", 0)), Found::Nothing);
        assert_eq!(find(b"", b"", hash(b"", 0)), Found::Nothing);
    }
}
