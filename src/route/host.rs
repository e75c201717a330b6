//! The host of a request in canonical form. Not here: its syntax, which `http` has checked.

use std::io::Write;
use std::net::Ipv6Addr;

use memchr::memchr;

/// A host longer than this matches no named host: names end at 253 bytes (RFC 1035 section 2.3.4, without the root label).
pub(super) const BYTES_MAX: usize = 253;

/// The host without its port and without the dot that ends a fully qualified name. `[::1]:80` gives `[::1]`.
#[inline]
pub fn name(authority: &[u8]) -> &[u8] {
    let digits = authority.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let host = match authority.get(..authority.len() - digits) {
        Some([host @ .., b':']) => host,
        _ => authority,
    };
    host.strip_suffix(b".").unwrap_or(host)
}

/// Writes `host` in lower case, an IPv6 address in the form of RFC 5952. Returns the length; None if it is longer than
/// [`BYTES_MAX`].
#[cold]
pub(super) fn write_canonical(host: &[u8], out: &mut [u8; BYTES_MAX]) -> Option<usize> {
    let literal = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let address = literal.and_then(|text| std::str::from_utf8(text).ok()?.parse::<Ipv6Addr>().ok());
    if let Some(address) = address {
        let mut rest = &mut out[..];
        // The longest textual IPv6 address has 45 bytes.
        write!(rest, "[{address}]").ok()?;
        return Some(BYTES_MAX - rest.len());
    }
    let lower = out.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(host.len())
}

/// Whether `host` is certainly in lower case: no byte is in 0x40..0x60, the range of capital letters and of the brackets of
/// an IPv6 address. Compares eight bytes at a time.
#[inline]
pub(super) fn is_lower(host: &[u8]) -> bool {
    const BIT_6: u64 = 0x4040_4040_4040_4040;
    let (words, rest) = host.as_chunks();
    let capitals =
        words.iter().map(|word| u64::from_le_bytes(*word)).fold(0, |found, word| found | (word & !(word << 1)));
    capitals & BIT_6 == 0 && rest.iter().all(|byte| byte & 0x60 != 0x40)
}

/// The suffixes of `host` that a wildcard may name, longest first: `b.c` and `c` for `a.b.c`.
pub(super) fn parents(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = host;
    std::iter::from_fn(move || {
        let dot = memchr(b'.', rest)?;
        rest = rest.get(dot + 1..)?;
        Some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_and_final_dot_are_dropped() {
        for (authority, host) in [
            ("example.com", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("example.com:", "example.com"),
            ("80", "80"),
            (":80", ""),
            ("", ""),
            (".", ""),
        ] {
            assert_eq!(name(authority.as_bytes()), host.as_bytes(), "{authority}");
        }
    }

    #[test]
    fn every_capital_is_seen_at_every_place() {
        assert!(is_lower(b"a-z.0123456789.example.com:80"));
        for capital in b'A'..=b'Z' {
            for length in 1..20 {
                for at in 0..length {
                    let mut host = vec![b'z'; length];
                    assert!(is_lower(&host));
                    host[at] = capital;
                    assert!(!is_lower(&host));
                }
            }
        }
    }

    #[test]
    fn parents_drop_one_label_at_a_time() {
        let parents: Vec<_> = parents(b"a.b.c").collect();
        assert_eq!(parents, [&b"b.c"[..], b"c"]);
    }
}
