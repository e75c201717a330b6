//! What an endpoint's certificate has to have besides a chain to an authority: a key, a SPIFFE ID. Not here: chains and names (`client`).

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The SHA-256 hash of a public key (SubjectPublicKeyInfo, RFC 7469 section 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; SHA256_OUTPUT_LEN]);

impl Pin {
    /// Reads `sha256/` and the hash in Base64. curl writes two slashes. None: it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("sha256/")?;
        let text = text.strip_prefix('/').filter(|rest| rest.len() == 44).unwrap_or(text);
        let digits = text.strip_suffix('=')?;
        if digits.len() != 43 {
            return None;
        }
        let mut hash = [0; SHA256_OUTPUT_LEN];
        let (mut bits, mut count, mut at) = (0_u32, 0, 0);
        for digit in digits.bytes() {
            bits = (bits << 6) | u32::from(value_of(digit)?);
            count += 6;
            if count >= 8 {
                count -= 8;
                hash[at] = (bits >> count) as u8;
                at += 1;
                bits &= (1 << count) - 1;
            }
        }
        // Two bits are left, which have to be 0: a hash is written in one way.
        (bits == 0).then_some(Self(hash))
    }

    /// Whether the certificate is of this key.
    pub(super) fn is_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let key = EndEntityCert::try_from(certificate).map(|owner| owner.subject_public_key_info());
        key.is_ok_and(|key| digest(&SHA256, &key).as_ref() == self.0)
    }
}

/// Writes the first eight digits.
impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", super::identity::fingerprint(&self.0))
    }
}

/// The value of a digit of Base64 (RFC 4648 section 4).
fn value_of(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// A SPIFFE ID, or all below a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// The ID, or what those that are meant begin with.
    text: Box<str>,
    /// Whether all are meant that begin so and go on.
    below: bool,
}

impl SpiffeId {
    /// Reads `spiffe://DOMAIN/PATH`, which `/*` may end. None: it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, below) = text.strip_suffix('*').map_or((text, false), |id| (id, true));
        if below && !id.ends_with('/') {
            return None;
        }
        let (domain, path) = match id.strip_prefix("spiffe://")?.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (id.strip_prefix("spiffe://")?, None),
        };
        let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        let segment = |it: &str| !it.is_empty() && it != "." && it != ".." && it.bytes().all(plain);
        let lower = !domain.bytes().any(|c| c.is_ascii_uppercase());
        // The path of `/*` ends with a slash, and may be nothing else.
        let path = path.map(|path| if below { path.strip_suffix('/').unwrap_or(path) } else { path });
        let whole = path.is_none_or(|path| (below && path.is_empty()) || path.split('/').all(segment));
        (segment(domain) && lower && whole).then(|| Self { text: id.into(), below })
    }

    /// Whether `id` is meant.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        if self.below { id.len() > self.text.len() && id.starts_with(&*self.text) } else { id == &*self.text }
    }

    /// An ID that is meant.
    #[must_use]
    pub fn example(&self) -> String {
        if self.below { format!("{}any", self.text) } else { self.text.to_string() }
    }

    /// Whether the certificate has one of these IDs. One with several IDs has none (X509-SVID section 2).
    pub(super) fn is_any_of(ids: &[Self], certificate: &CertificateDer<'_>) -> bool {
        let Ok(owner) = EndEntityCert::try_from(certificate) else { return false };
        let mut names = owner.valid_uri_names();
        let (Some(id), None) = (names.next(), names.next()) else { return false };
        ids.iter().any(|known| known.matches(id))
    }
}

/// Writes it as it is read.
impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.below { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_hashes_in_base64() {
        let zeros = format!("sha256/{}=", "A".repeat(43));
        assert_eq!(Pin::parse(&zeros), Some(Pin([0; 32])));
        assert_eq!(Pin::parse(&zeros.replace('/', "//")), Some(Pin([0; 32])));
        let ones = format!("sha256/{}8=", "/".repeat(42));
        assert_eq!(Pin::parse(&ones), Some(Pin([0xff; 32])));
        // The example of RFC 7469 section 2.1.5.
        let known = Pin::parse("sha256/d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=").unwrap();
        assert_eq!(known.0[..3], [0x77, 0xaa, 0xb3]);
        for bad in [
            "",
            "sha256/",
            &zeros[7..],
            &zeros[..50],
            &zeros.replace('=', "A"),
            &zeros.replace("A=", "B="),
            &zeros.replace("AA", "A!"),
        ] {
            assert_eq!(Pin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_exact_or_all_below() {
        for (text, id, meant) in [
            ("spiffe://corp/ns/shop", "spiffe://corp/ns/shop", true),
            ("spiffe://corp/ns/shop", "spiffe://corp/ns/shop/a", false),
            ("spiffe://corp/ns/shop", "spiffe://corp/ns/Shop", false),
            ("spiffe://corp/ns/*", "spiffe://corp/ns/shop", true),
            ("spiffe://corp/ns/*", "spiffe://corp/ns/shop/a", true),
            ("spiffe://corp/ns/*", "spiffe://corp/ns/", false),
            ("spiffe://corp/ns/*", "spiffe://corp/nsx/shop", false),
            ("spiffe://corp/*", "spiffe://corp/ns", true),
            ("spiffe://corp/*", "spiffe://corp.evil/ns", false),
            ("spiffe://corp", "spiffe://corp", true),
        ] {
            let known = SpiffeId::parse(text).unwrap();
            assert_eq!(known.to_string(), text);
            assert_eq!(known.matches(id), meant, "{text} {id}");
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://corp/",
            "spiffe://corp/ns*",
            "spiffe://corp/*/a",
            "spiffe://*",
            "spiffe://corp//a",
            "spiffe://corp/a/",
            "spiffe://Corp/a",
            "https://corp/a",
            "spiffe://corp/a b",
            "spiffe://corp/../a",
            "spiffe://corp:1/a",
        ] {
            assert!(SpiffeId::parse(bad).is_none(), "{bad}");
        }
    }
}
