//! Chooses the certificate for a client, by server name (RFC 6066 section 3) and signature schemes.
//! Not here: the certificates (`identity`).

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use ahash::HashMap;
use rustls::SignatureScheme;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

thread_local! {
    /// Of the client whose hello was read last: an unbuffered connection of rustls does not tell it.
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
}

/// What a client has asked for, and what it gets.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The name; empty: none.
    pub(super) name: Box<str>,
    /// The certificate of ours that was chosen, also if the client resumes and is not sent it.
    pub(super) certified: Option<Arc<CertifiedKey>>,
}

/// What a client has asked for since the last call; None: no hello was read.
pub(super) fn take_asked() -> Option<Asked> {
    ASKED.take()
}

/// Certificates for one name, in file order, such as one with an RSA key and one with an ECDSA key.
type Choices = Vec<Choice>;

/// A certificate of a listener.
#[derive(Clone)]
pub(super) struct Choice {
    /// Its position in the file, from 0.
    pub(super) position: usize,
    certified: Arc<CertifiedKey>,
    /// The same with an OCSP response, and when that ends, in seconds since 1970.
    stapled: Option<(Arc<CertifiedKey>, u64)>,
}

impl Choice {
    /// What a client gets now: an OCSP response that is past its time would do harm.
    fn now(&self) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, end)) if UnixTime::now().as_secs() < *end => stapled,
            _ => &self.certified,
        }
    }
}

/// The certificates of one listener by name. The cost of a look-up does not depend on their number.
#[derive(Default)]
pub(super) struct Resolver {
    exact: HashMap<Box<str>, Choices>,
    /// By the name behind `*.`, which stands for one label (RFC 9525 section 6.3).
    wildcard: HashMap<Box<str>, Choices>,
    /// For clients that send no name, or an unknown one: the first certificate for each kind of key.
    fallback: Choices,
}

impl Resolver {
    pub(super) fn new(identities: &[Identity]) -> Self {
        let mut resolver = Self::default();
        for (position, identity) in identities.iter().enumerate() {
            let choice = || Choice {
                position,
                certified: Arc::clone(&identity.certified),
                stapled: identity.stapled.as_ref().map(|(stapled, response)| (Arc::clone(stapled), response.end())),
            };
            for name in identity.names() {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut resolver.wildcard, parent),
                    None => (&mut resolver.exact, name.as_str()),
                };
                table.entry(name.into()).or_default().push(choice());
            }
            let kind = identity.certified.key.algorithm();
            if resolver.fallback.iter().all(|known| known.certified.key.algorithm() != kind) {
                resolver.fallback.push(choice());
            }
        }
        resolver
    }

    /// The certificates for a name in lower case, of which a client gets the first whose signatures it can check.
    pub(super) fn candidates(&self, name: Option<&str>) -> &[Choice] {
        let exact = name.and_then(|name| self.exact.get(name));
        let wildcard = || self.wildcard.get(name?.split_once('.')?.1);
        exact.or_else(wildcard).unwrap_or(&self.fallback)
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Choice> {
        self.candidates(name).iter().find(|choice| choice.certified.key.choose_scheme(schemes).is_some())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        // Where the client can check none, any of them makes the handshake fail as the standards have it (handshake_failure): without
        // one, rustls says access_denied.
        let found = self.find(hello.server_name(), hello.signature_schemes());
        let choice = found.or_else(|| self.candidates(hello.server_name()).first());
        let certified = choice.map(|choice| Arc::clone(choice.now()));
        let name = hello.server_name().map(Box::from).unwrap_or_default();
        ASKED.set(Some(Asked { name, certified: certified.clone() }));
        certified
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({} names, {} wildcards)", self.exact.len(), self.wildcard.len())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;
    use crate::tls::Chain;

    #[test]
    fn names_come_before_wildcards_and_keys_fit_the_client() {
        let [ecdsa, eddsa] = [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519].map(|kind| KeyPair::generate_for(kind).unwrap());
        let identity = |(names, key): (&[&str], &KeyPair)| {
            let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let certificate = CertificateParams::new(names).unwrap().self_signed(key).unwrap();
            Identity::new(Chain::from_pem(&certificate.pem()).unwrap(), &key.serialize_pem()).unwrap()
        };
        let identities: [(&[&str], &KeyPair); 6] = [
            (&["a.example"], &ecdsa),
            (&["a.example"], &eddsa),
            (&["*.a.example"], &ecdsa),
            (&["x.a.example", "*.x.a.example"], &ecdsa),
            (&["b.example"], &eddsa),
            (&[], &ecdsa),
        ];
        let identities = identities.map(identity);
        let resolver = Resolver::new(&identities);
        let p256 = &[SignatureScheme::ECDSA_NISTP256_SHA256][..];
        let ed25519 = &[SignatureScheme::ED25519][..];
        let both = &[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256][..];
        let cases = [
            (Some("a.example"), both, Some(0)),
            (Some("a.example"), p256, Some(0)),
            (Some("a.example"), ed25519, Some(1)),
            (Some("y.a.example"), both, Some(2)),
            (Some("y.a.example"), ed25519, None),
            (Some("x.a.example"), both, Some(3)),
            (Some("y.x.a.example"), both, Some(3)),
            (Some("z.y.a.example"), both, Some(0)),
            (Some("b.example"), p256, None),
            (Some("example"), p256, Some(0)),
            (Some("a"), ed25519, Some(1)),
            (None, both, Some(0)),
            (None, ed25519, Some(1)),
            (None, &[SignatureScheme::RSA_PSS_SHA256][..], None),
        ];
        for (name, schemes, expected) in cases {
            let found = resolver.find(name, schemes);
            assert_eq!(found.map(|choice| choice.position), expected, "{name:?} {schemes:?}");
        }
    }
}
