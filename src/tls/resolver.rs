//! Which certificate a client gets: by the name that it asks for (RFC 6066 section 3) and the signatures that it can check.
//! Not here: the certificates.

use std::fmt;
use std::sync::Arc;

use ahash::HashMap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// Certificates of one name, in file order: RSA and ECDSA, for one.
type Choices = Vec<Arc<CertifiedKey>>;

/// The certificates of one listener by name. A look-up costs the same for one and for thousands.
#[derive(Default)]
pub(super) struct Resolver {
    exact: HashMap<Box<str>, Choices>,
    /// By what follows `*.`, which stands for one label (RFC 9525 section 6.3).
    wildcard: HashMap<Box<str>, Choices>,
    /// For clients that name nothing, or nothing known: the first certificate, and the first of each other kind of key.
    fallback: Choices,
}

impl Resolver {
    pub(super) fn new(identities: &[Identity]) -> Self {
        let mut resolver = Self::default();
        for identity in identities {
            let certified = || Arc::clone(&identity.certified);
            for name in identity.names() {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut resolver.wildcard, parent),
                    None => (&mut resolver.exact, name.as_str()),
                };
                table.entry(name.into()).or_default().push(certified());
            }
            let kind = identity.certified.key.algorithm();
            if resolver.fallback.iter().all(|known| known.key.algorithm() != kind) {
                resolver.fallback.push(certified());
            }
        }
        resolver
    }

    /// `name` is in lower case.
    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let exact = name.and_then(|name| self.exact.get(name));
        let wildcard = || self.wildcard.get(name?.split_once('.')?.1);
        let choices = exact.or_else(wildcard).unwrap_or(&self.fallback);
        choices.iter().find(|certified| certified.key.choose_scheme(schemes).is_some())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        self.find(hello.server_name(), hello.signature_schemes()).map(Arc::clone)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resolver({} names, {} wildcards)", self.exact.len(), self.wildcard.len())
    }
}
