//! Lists of revoked certificates. Not here: whose certificates are looked up in them (`client_auth`, `client`).

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use webpki::BorrowedCertRevocationList;
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode};

use super::authorities::Authorities;
use super::identity::{self, pem_problem, without_byte_order_marks};

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
    pub(super) der: CertificateRevocationListDer<'static>,
    /// Name of the authority, in DER.
    issuer: Box<[u8]>,
    /// Hash of the name and the serial numbers alone, which a renewed list may have in common with the one before.
    pub(super) revoked: [u8; SHA256_OUTPUT_LEN],
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

impl Hash for RevocationList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.der.hash(state);
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationList(#{})", identity::fingerprint(&identity::hash([&*self.der].into_iter())))
    }
}

/// When the first of some lists is due to be replaced, in seconds since 1970: from then on it says nothing. None: there is none.
pub(super) fn first_end(lists: &[RevocationList]) -> Option<u64> {
    lists.iter().map(|list| list.end).min()
}

/// Names of authorities without a list, though there are lists: no certificate that one of them has signed counts.
pub(super) fn unlisted(authorities: &Authorities, lists: &[RevocationList]) -> impl Iterator<Item = String> {
    let listed = |name: &[u8]| lists.is_empty() || lists.iter().any(|list| *list.issuer == *name);
    authorities.names().filter(move |(name, _)| !listed(name)).map(|(_, text)| text)
}

/// Writes how many certificates the lists have, and a fingerprint of all lists; nothing where there is none.
pub(super) fn write(f: &mut fmt::Formatter<'_>, lists: &[RevocationList]) -> fmt::Result {
    if lists.is_empty() {
        return Ok(());
    }
    let revoked: usize = lists.iter().map(|list| list.count).sum();
    write!(f, ", {revoked} revoked #{}", identity::fingerprint(&identity::hash(lists.iter().map(|list| &*list.der))))
}
