//! What is wrong with a chain of certificates, though it can be served: clients may not take it, now or soon. Not here: what cannot be
//! served (`identity`).

use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::name::Name;

use super::identity::Identity;

/// Object identifiers of signatures that clients do not take: with MD5 and SHA-1 (RFC 3279 section 2.2).
const WEAK_SIGNATURES: [&str; 3] = ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];
/// Object identifier of RSA keys (RFC 3279 section 2.3.1).
const RSA: &str = "1.2.840.113549.1.1.1";
/// Bytes of an RSA key of 2048 bits with its exponent, at least.
const RSA_BYTES_MIN: usize = 256;
/// Object identifier of the extension that says where more about the issuer is found (RFC 5280 section 4.2.2.1).
const AUTHORITY_INFORMATION: &str = "1.3.6.1.5.5.7.1.1";
/// In it: the certificate of the issuer, in DER.
const CA_ISSUERS: [u8; 10] = [6, 8, 0x2b, 6, 1, 5, 5, 7, 48, 2];

/// Why clients may not take a chain. Certificates are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A certificate is followed by another one than that of its issuer, which comes later.
    #[error(
        "certificate {0} is not followed by that of its issuer, which is certificate {1}: put each before that of its issuer"
    )]
    Order(usize, usize),
    /// The certificate of an issuer that clients need to get to an authority is not there.
    #[error("the certificate of {1}, who has signed certificate {0}, is missing: add it behind (`fullchain.pem`)")]
    Missing(usize, String),
    /// A certificate has nothing to do with those before it.
    #[error("certificate {0} is not that of the issuer of the one before: leave it out")]
    Stray(usize),
    /// The first certificate has no name that clients compare.
    #[error("the first certificate has no DNS name and no address (subjectAltName): clients do not take it for any")]
    Unnamed,
    /// A certificate has a short key.
    #[error("certificate {0} has an RSA key of fewer than 2048 bits: clients do not take it")]
    WeakKey(usize),
    /// A certificate is signed with a broken hash function.
    #[error("certificate {0} is signed with SHA-1 or MD5: clients do not take it")]
    WeakSignature(usize),
    /// The time of a certificate has not come.
    #[error("certificate {0} is not valid yet")]
    Early(usize),
}

impl Identity {
    /// When the first of its certificates ends, in seconds since 1970.
    #[must_use]
    pub fn end(&self) -> u64 {
        let chain = self.chain();
        let ends = chain.iter().map(|it| it.tbs_certificate.validity.not_after.to_unix_duration().as_secs());
        ends.min().unwrap_or(u64::MAX)
    }

    /// What is wrong with it at a time in seconds since 1970.
    #[must_use]
    pub fn faults(&self, now: u64) -> Vec<ChainFault> {
        let chain = self.chain();
        let mut faults = links(&chain);
        if self.names().is_empty() && !self.has_address() {
            faults.push(ChainFault::Unnamed);
        }
        for (certificate, at) in chain.iter().zip(1..) {
            let certificate = &certificate.tbs_certificate;
            let key = &certificate.subject_public_key_info;
            if key.algorithm.oid.to_string() == RSA && key.subject_public_key.raw_bytes().len() < RSA_BYTES_MIN {
                faults.push(ChainFault::WeakKey(at));
            }
            // The signature of an authority under itself is not looked at.
            let own = certificate.subject == certificate.issuer && at > 1;
            if !own && WEAK_SIGNATURES.contains(&certificate.signature.oid.to_string().as_str()) {
                faults.push(ChainFault::WeakSignature(at));
            }
            if certificate.validity.not_before.to_unix_duration().as_secs() > now {
                faults.push(ChainFault::Early(at));
            }
        }
        faults
    }

    /// Whether the first certificate is for this DNS name, which is in lower case; `*.` stands for one label.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names().iter().any(|own| {
            own == name || own.strip_prefix("*.").is_some_and(|own| Some(own) == parent && !name.starts_with("*."))
        })
    }

    /// The certificates that the parser reads: all of them, as a rule.
    fn chain(&self) -> Vec<Certificate> {
        self.certified.cert.iter().filter_map(|it| Certificate::from_der(it).ok()).collect()
    }
}

/// What is wrong with the order of a chain and with its end.
fn links(chain: &[Certificate]) -> Vec<ChainFault> {
    let mut faults = Vec::new();
    for (at, certificate) in chain.iter().enumerate() {
        let issuer = &certificate.tbs_certificate.issuer;
        let is_issuer = |other: &Certificate| other.tbs_certificate.subject == *issuer;
        if is_issuer(certificate) || chain.get(at + 1).is_some_and(is_issuer) {
            continue;
        }
        if let Some(behind) = chain.iter().skip(at + 1).position(is_issuer) {
            faults.push(ChainFault::Order(at + 1, at + 2 + behind));
            break;
        }
        let before = chain.iter().take(at).any(is_issuer);
        if !before && names_issuer(certificate) && !is_public_root(issuer) {
            faults.push(ChainFault::Missing(at + 1, issuer.to_string()));
        } else if at + 1 < chain.len() {
            faults.push(ChainFault::Stray(at + 2));
        }
        break;
    }
    faults
}

/// Whether a certificate says where that of its issuer is found. Public authorities do that, and none of them signs with what clients
/// know; who signs for a company may well do so.
fn names_issuer(certificate: &Certificate) -> bool {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let mut found = extensions.filter(|it| it.extn_id.to_string() == AUTHORITY_INFORMATION);
    found.any(|it| it.extn_value.as_bytes().windows(CA_ISSUERS.len()).any(|window| window == CA_ISSUERS))
}

/// Whether browsers know the authority of this name.
fn is_public_root(name: &Name) -> bool {
    let Ok(der) = name.to_der() else { return false };
    // Roots are listed without the header of the sequence, which has two to four bytes.
    webpki_roots::TLS_SERVER_ROOTS
        .iter()
        .any(|root| der.ends_with(&root.subject) && der.len() <= root.subject.len() + 4)
}
