//! Certificate authorities by which peers are verified. Not here: certificates of our own (`identity`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use x509_cert::der::{Decode, Encode};

use super::identity::{self, BadCertificates};

/// Certificates of authorities. Equal if all certificates are.
#[derive(Clone)]
pub struct Authorities {
    /// Roots to verify certificates.
    pub(super) roots: Arc<RootCertStore>,
    /// The certificates themselves, where they are known.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
    hash: [u8; SHA256_OUTPUT_LEN],
    count: usize,
    origin: Origin,
}

/// Where authorities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    File,
    Machine,
    Build,
}

impl Authorities {
    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// The text has no certificate, or one that cannot be used.
    pub fn from_pem(text: &str) -> Result<Self, BadCertificates> {
        let certificates = identity::certificates(text)?;
        let mut roots = RootCertStore::empty();
        for (certificate, at) in certificates.iter().zip(1..) {
            let anchor = webpki::anchor_from_trusted_cert(certificate);
            let anchor = anchor.map_err(|error| BadCertificates::Unusable(at, error.to_string()))?;
            roots.roots.push(anchor.to_owned());
        }
        let hash = identity::hash(certificates.iter().map(|certificate| &**certificate));
        Self::new(roots, certificates.into(), hash, Origin::File)
    }

    /// The public authorities that browsers trust, as of the build.
    ///
    /// # Panics
    /// Never: the list is not empty.
    #[must_use]
    pub fn public() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        let hash = identity::hash(roots.iter().map(|root| &*root.subject_public_key_info));
        Self::new(RootCertStore { roots }, Arc::default(), hash, Origin::Build).expect("there are public authorities")
    }

    /// The authorities that this machine trusts: those of SSL_CERT_FILE and SSL_CERT_DIR, or of where its distribution keeps them.
    /// What cannot be read or used is left out. None: there is none.
    #[must_use]
    pub fn of_machine() -> Option<Self> {
        let mut certificates = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        certificates.retain(|certificate| roots.add(certificate.clone()).is_ok());
        let hash = identity::hash(certificates.iter().map(|certificate| &**certificate));
        Self::new(roots, certificates.into(), hash, Origin::Machine).ok()
    }

    /// Whether they are those of the machine or of the build: public ones, as a rule.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.origin != Origin::File
    }

    fn new(
        roots: RootCertStore,
        certificates: Arc<[CertificateDer<'static>]>,
        hash: [u8; SHA256_OUTPUT_LEN],
        origin: Origin,
    ) -> Result<Self, BadCertificates> {
        if roots.is_empty() {
            return Err(BadCertificates::None);
        }
        Ok(Self { count: roots.len(), roots: Arc::new(roots), certificates, hash, origin })
    }

    /// Their names, in DER and as text (RFC 4514).
    pub(super) fn names(&self) -> impl Iterator<Item = (Vec<u8>, String)> {
        let parsed = self.certificates.iter().filter_map(|it| x509_cert::Certificate::from_der(it).ok());
        parsed
            .filter_map(|it| Some((it.tbs_certificate.subject.to_der().ok()?, it.tbs_certificate.subject.to_string())))
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Authorities {}

impl Hash for Authorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({self})")
    }
}

/// Writes their number, where they come from, unless it is a file, and the first eight digits of their hash.
impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.count == 1 { "authority" } else { "authorities" };
        let origin = match self.origin {
            Origin::File => "",
            Origin::Machine => " of this machine",
            Origin::Build => " of Mozilla's list as of the build",
        };
        write!(f, "{} {noun}{origin} #{}", self.count, identity::fingerprint(&self.hash))
    }
}
