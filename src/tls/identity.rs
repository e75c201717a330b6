//! Certificates with their key, parsed from PEM (RFC 7468). Not here: which of them a client gets (`resolver`), and reading files
//! (`config`).

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::ocsp::{BadOcsp, OcspResponse};

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificates {
    /// The text has no certificate.
    #[error("it holds no certificate")]
    None,
    /// What looks like PEM is not.
    #[error("it is not PEM: {0}")]
    NotPem(&'static str),
    /// A certificate, counted from 1, is invalid.
    #[error("certificate {0} in it is none that TLS takes ({1})")]
    Unusable(usize, String),
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The text has no private key.
    #[error("it holds no private key")]
    None,
    /// The key needs a passphrase.
    #[error("its private key is encrypted")]
    Encrypted,
    /// What looks like PEM is not.
    #[error("it is not PEM: {0}")]
    NotPem(&'static str),
    /// The key is invalid, or of a kind that TLS does not use.
    #[error("its private key is none that TLS takes")]
    Unusable,
    /// The key belongs to none of the certificates.
    #[error("its private key belongs to another certificate")]
    Other,
    /// The key belongs to this certificate of the chain, counted from 1, and not to the first.
    #[error("its private key belongs to certificate {0} of the chain, not to the first")]
    NotFirst(usize),
}

/// Certificates as they are sent: the end entity's, then those that lead to an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    /// DNS names of the first certificate, in lower case.
    names: Vec<String>,
}

impl Chain {
    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// The text has no certificate, or one that cannot be used.
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

impl Chain {
    /// The subject of the first certificate (RFC 4514).
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        let first = x509_cert::Certificate::from_der(self.certificates.first()?).ok()?;
        Some(first.tbs_certificate.subject.to_string())
    }
}

/// Certificates with their key. Equal if the certificates are: they name the key.
#[derive(Clone)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// The same with an OCSP response, which is for clients that ask for one.
    pub(super) stapled: Option<(Arc<CertifiedKey>, OcspResponse)>,
    names: Arc<[String]>,
}

impl Identity {
    /// An identity of a chain and the first private key in a PEM text: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// The text has no usable key, or not that of the first certificate.
    pub fn new(chain: Chain, key: &str) -> Result<Self, BadKey> {
        // PKCS #8 has the word in the label of a section; older formats in a field, with which the key would count as invalid.
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
        Ok(Self { certified: Arc::new(certified), stapled: None, names: chain.names.into() })
    }

    /// The same with an OCSP response, in DER.
    ///
    /// # Errors
    /// It is malformed, or does not say that the certificate is good.
    pub fn with_ocsp(self, der: Vec<u8>) -> Result<Self, BadOcsp> {
        let first = self.certified.cert.first().and_then(|it| x509_cert::Certificate::from_der(it).ok());
        let serial = first.map(|it| it.tbs_certificate.serial_number).ok_or(BadOcsp::Other)?;
        let response = OcspResponse::read(der, serial.as_bytes())?;
        let certified = CertifiedKey { ocsp: Some(response.der().to_vec()), ..CertifiedKey::clone(&self.certified) };
        Ok(Self { stapled: Some((Arc::new(certified), response)), ..self })
    }

    /// Its OCSP response.
    #[must_use]
    pub fn ocsp(&self) -> Option<&OcspResponse> {
        self.stapled.as_ref().map(|(_, response)| response)
    }

    /// Its first name, for people.
    #[must_use]
    pub fn label(&self) -> &str {
        self.names.first().map_or("without a name", String::as_str)
    }

    /// Whether its certificate has the address of a server.
    pub(super) fn has_address(&self) -> bool {
        let certificate = self.certified.cert.first().and_then(|it| x509_cert::Certificate::from_der(it).ok());
        let names = certificate.and_then(|it| it.tbs_certificate.get::<SubjectAltName>().ok().flatten());
        names.is_some_and(|(_, names)| names.0.iter().any(|name| matches!(name, GeneralName::IpAddress(_))))
    }

    /// The DNS names of its certificate, in lower case; `*.` stands for one label.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.ocsp() == other.ocsp()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.certified.cert.hash(state);
    }
}

/// Writes it without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// Writes the names, and eight digits to distinguish identities with the same names: for a single certificate, those at the
/// beginning of its SHA-256 fingerprint.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.names {
            [] => f.write_str("no name")?,
            [name] => f.write_str(name)?,
            [name, others @ ..] => write!(f, "{name} and {} more", others.len())?,
        }
        write!(f, " #{}", fingerprint(&hash(self.certified.cert.iter().map(|certificate| &**certificate))))?;
        self.ocsp().map_or(Ok(()), |response| write!(f, " with OCSP {response}"))
    }
}

/// The certificates of a PEM text, unchecked; at least one.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, BadCertificates> {
    let text = without_byte_order_marks(text);
    let found = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| BadCertificates::NotPem(pem_problem(&error)))?;
    if found.is_empty() { Err(BadCertificates::None) } else { Ok(found) }
}

/// The text without byte-order marks. Some editors write one at the beginning, which hides the first section; joined files have
/// them in the middle.
pub(super) fn without_byte_order_marks(text: &str) -> Cow<'_, str> {
    if text.contains('\u{feff}') { text.replace('\u{feff}', "").into() } else { text.into() }
}

/// SHA-256 of the concatenation of certificates or keys. It is unambiguous, because DER has lengths.
pub(super) fn hash<'a>(all: impl Iterator<Item = &'a [u8]>) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&SHA256);
    all.for_each(|one| context.update(one));
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The first eight hexadecimal digits of a hash.
pub(super) fn fingerprint(hash: &[u8; SHA256_OUTPUT_LEN]) -> String {
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The problem of a PEM text, without any of its content.
pub(super) fn pem_problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin with -----BEGIN …-----",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it has another form",
    }
}
