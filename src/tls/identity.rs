//! Who a listener is: certificates and their key, out of PEM (RFC 7468). Not here: which of them a client gets (`resolver`), and
//! where the files are (`config`).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificates {
    /// There is none.
    #[error("it holds no certificate")]
    None,
    /// What looks like PEM is not.
    #[error("it is not PEM: {0}")]
    NotPem(&'static str),
    /// One of them, counted from 1, is none.
    #[error("certificate {0} in it is none that TLS takes ({1})")]
    Unusable(usize, String),
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// There is none.
    #[error("it holds no private key")]
    None,
    /// It takes a passphrase.
    #[error("its private key is encrypted")]
    Encrypted,
    /// What looks like PEM is not.
    #[error("it is not PEM: {0}")]
    NotPem(&'static str),
    /// It is no key, or one of a kind that TLS has no use for.
    #[error("its private key is none that TLS takes")]
    Unusable,
    /// It is not the key of these certificates.
    #[error("its private key belongs to another certificate")]
    Other,
    /// It is the key of this certificate of the chain, counted from 1, and not of the first.
    #[error("its private key belongs to certificate {0} of the chain, not to the first")]
    NotFirst(usize),
}

/// Certificates as they are sent: the owner's, then those that lead to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    /// DNS names of the first, in lower case.
    names: Vec<String>,
}

impl Chain {
    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// There is none, or one cannot be used.
    pub fn from_pem(text: &str) -> Result<Self, BadCertificates> {
        let certificates = certificates(text)?;
        let unusable = |at: usize| move |error: webpki::Error| BadCertificates::Unusable(at, error.to_string());
        let mut names = Vec::new();
        for (certificate, at) in certificates.iter().zip(1..) {
            if at == 1 {
                let owner = EndEntityCert::try_from(certificate).map_err(unusable(at))?;
                names.extend(owner.valid_dns_names().map(str::to_ascii_lowercase));
            } else {
                webpki::anchor_from_trusted_cert(certificate).map_err(unusable(at))?;
            }
        }
        Ok(Self { certificates, names })
    }
}

/// Certificates with their key. Equal if the certificates are: they name the key.
#[derive(Clone)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    names: Arc<[String]>,
}

impl Identity {
    /// Puts a chain and the first private key of a PEM text together: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// There is no key, or not that of the first certificate.
    pub fn new(chain: Chain, key: &str) -> Result<Self, BadKey> {
        // Sections of PKCS #8 say so in their label, older ones in a field, with which they would read as broken keys.
        if key.contains("ENCRYPTED") {
            return Err(BadKey::Encrypted);
        }
        let key =
            PrivateKeyDer::from_pem_slice(without_byte_order_marks(key).as_bytes()).map_err(|error| match error {
                pem::Error::NoItemsFound => BadKey::None,
                error => BadKey::NotPem(pem_problem(&error)),
            })?;
        let key = any_supported_type(&key).map_err(|_| BadKey::Unusable)?;
        let certified = CertifiedKey::new(chain.certificates, key);
        if certified.keys_match().is_err() {
            let alone = |certificate: &CertificateDer<'static>| {
                CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
            };
            let owner = certified.cert.iter().position(alone);
            return Err(owner.map_or(BadKey::Other, |at| BadKey::NotFirst(at + 1)));
        }
        Ok(Self { certified: Arc::new(certified), names: chain.names.into() })
    }

    /// The DNS names of its certificate, in lower case; `*.` stands for one label.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl Eq for Identity {}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// Names, and eight digits that tell it from another of the same names: of a single certificate, the first of its SHA-256
/// fingerprint.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.names {
            [] => f.write_str("no name")?,
            [name] => f.write_str(name)?,
            [name, others @ ..] => write!(f, "{name} and {} more", others.len())?,
        }
        write!(f, " #{}", fingerprint(&hash(self.certified.cert.iter().map(|certificate| &**certificate))))
    }
}

/// The certificates of a PEM text, as they stand; at least one.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, BadCertificates> {
    let text = without_byte_order_marks(text);
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| BadCertificates::NotPem(pem_problem(&error)))?;
    if found.is_empty() { Err(BadCertificates::None) } else { Ok(found) }
}

/// The text without byte-order marks, which some editors put in front of it: the line behind one would begin no section. There is
/// one in the middle where such files were joined.
fn without_byte_order_marks(text: &str) -> Cow<'_, str> {
    if text.contains('\u{feff}') { text.replace('\u{feff}', "").into() } else { text.into() }
}

/// SHA-256 of certificates or keys, one after the other; each says how long it is.
pub(super) fn hash<'a>(all: impl Iterator<Item = &'a [u8]>) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&SHA256);
    all.for_each(|one| context.update(one));
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Enough of a hash for a person.
pub(super) fn fingerprint(hash: &[u8; SHA256_OUTPUT_LEN]) -> String {
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with PEM, without a word of what it holds.
fn pem_problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin with -----BEGIN …-----",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it has another form",
    }
}
