//! How clients of a listener prove who they are: by certificates of authorities that are not revoked. Not here: certificates of our own
//! (`identity`), and what a certificate says of its owner (`peer`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use webpki::BorrowedCertRevocationList;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode};

use super::authorities::Authorities;
use super::identity::{self, pem_problem, without_byte_order_marks};
use super::server::provider;

/// Why revocation lists cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRevocationLists {
    /// The text has none.
    #[error("it holds no revocation list")]
    None,
    /// What looks like PEM is not.
    #[error("it is not PEM: {0}")]
    NotPem(&'static str),
    /// A list, counted from 1, is invalid.
    #[error("revocation list {0} in it cannot be used ({1})")]
    Unusable(usize, String),
}

/// A list of revoked certificates (RFC 5280 section 5). Equal if all of it is.
#[derive(Clone)]
pub struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    /// Name of the authority, in DER.
    issuer: Box<[u8]>,
    /// Hash of the name and the serial numbers alone, which a renewed list may have in common with the one before.
    revoked: [u8; SHA256_OUTPUT_LEN],
    /// Number of revoked certificates.
    count: usize,
    end: u64,
}

impl RevocationList {
    /// Reads all lists of a PEM text; at least one.
    ///
    /// # Errors
    /// The text has no list, or one that cannot be used.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, BadRevocationLists> {
        let text = without_byte_order_marks(text);
        let lists = CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|error| BadRevocationLists::NotPem(pem_problem(&error)))?;
        if lists.is_empty() {
            return Err(BadRevocationLists::None);
        }
        let numbered = lists.into_iter().zip(1..);
        numbered.map(|(list, at)| Self::new(list).map_err(|why| BadRevocationLists::Unusable(at, why))).collect()
    }

    fn new(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let text = |error: webpki::Error| error.to_string();
        let list = BorrowedCertRevocationList::from_der(&der).map_err(text)?;
        let mut serials = BTreeSet::new();
        for entry in &list {
            serials.insert(entry.map_err(text)?.serial_number);
        }
        // The other parser tells who has issued it, and when it ends.
        let fields = CertificateList::from_der(&der).map_err(|error| error.to_string())?.tbs_cert_list;
        let issuer = fields.issuer.to_der().map_err(|error| error.to_string())?;
        let revoked = identity::hash([&*issuer].into_iter().chain(serials.iter().copied()));
        let end = fields.next_update.map_or(u64::MAX, |time| time.to_unix_duration().as_secs());
        let count = serials.len();
        Ok(Self { der, issuer: issuer.into(), revoked, count, end })
    }
}

impl PartialEq for RevocationList {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for RevocationList {}

/// What a listener asks of its clients. Equal if all of it is.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientAuth {
    authorities: Authorities,
    required: bool,
    revocation: Arc<[RevocationList]>,
}

impl ClientAuth {
    /// Clients show a certificate of one of `authorities`; unless `required`, they may show none. Unless there is no revocation list, a
    /// certificate counts only if a current one of its authority does not have it, and so for each that leads from it to one of
    /// `authorities`.
    #[must_use]
    pub fn new(authorities: Authorities, required: bool, revocation: Vec<RevocationList>) -> Self {
        Self { authorities, required, revocation: revocation.into() }
    }

    /// Whether clients without a certificate are turned away.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// When the first revocation list is due to be replaced, in seconds since 1970: from then on it says nothing. None: there is none.
    #[must_use]
    pub fn revocation_end(&self) -> Option<u64> {
        self.revocation.iter().map(|list| list.end).min()
    }

    /// Names of authorities without a revocation list, though there are some: no certificate that one of them has signed counts.
    pub fn unlisted(&self) -> impl Iterator<Item = String> {
        let listed =
            |name: &[u8]| self.revocation.is_empty() || self.revocation.iter().any(|list| *list.issuer == *name);
        self.authorities.names().filter(move |(name, _)| !listed(name)).map(|(_, text)| text)
    }

    /// What decides who is let in. While it stays the same, connections and tickets from before are as good as new ones: a list that
    /// was renewed without a further entry changes nothing of that.
    #[must_use]
    pub fn admission(&self) -> Admission {
        let mut revoked: Vec<_> = self.revocation.iter().map(|list| list.revoked).collect();
        revoked.sort_unstable();
        Admission { authorities: self.authorities.clone(), required: self.required, revoked }
    }

    /// # Panics
    /// Never: there is an authority, and the lists have been parsed.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let roots = Arc::clone(&self.authorities.roots);
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        if !self.required {
            builder = builder.allow_unauthenticated();
        }
        let lists = self.revocation.iter().map(|list| list.der.clone());
        let builder = builder.with_crls(lists).enforce_revocation_expiration();
        builder.build().expect("there is an authority, and the lists have been parsed")
    }
}

/// See [`ClientAuth::admission`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    authorities: Authorities,
    required: bool,
    revoked: Vec<[u8; SHA256_OUTPUT_LEN]>,
}

/// Writes the authorities, whether a certificate may be missing, and the revocation lists.
impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.authorities)?;
        if !self.required {
            f.write_str(", or without a certificate")?;
        }
        if self.revocation.is_empty() {
            return Ok(());
        }
        let revoked: usize = self.revocation.iter().map(|list| list.count).sum();
        write!(
            f,
            ", {revoked} revoked #{}",
            identity::fingerprint(&identity::hash(self.revocation.iter().map(|list| &*list.der)))
        )
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuth({self})")
    }
}
