//! Why a peer's certificate was not believed, in words that lead to a cure. Not here: what is believed (`client`, `server`).

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, Error, OtherError};

use crate::printable::printable;

/// Why a certificate was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No authority that is believed has signed it.
    #[error("its certificate is of an authority that is not believed")]
    Issuer,
    /// It is one of an authority, and stands in for that of a server.
    #[error("its certificate is that of an authority (CA:TRUE), not that of a server")]
    Authority,
    /// It is for other names.
    #[error("its certificate is for another name")]
    Name,
    /// It is of another key than those that are pinned.
    #[error("its certificate is of none of the pinned keys")]
    Pin,
    /// It has none of the SPIFFE IDs that are asked for.
    #[error("its certificate has none of the SPIFFE IDs that are asked for")]
    SpiffeId,
    /// Its time is over, or has not come.
    #[error("its certificate is not valid at this time")]
    Time,
    /// A list of revoked certificates has it.
    #[error("its certificate is revoked")]
    Revoked,
    /// There are such lists, but no current one that says whether it is revoked.
    #[error("whether its certificate is revoked is unknown: `crl` has no current list of its authority")]
    Revocation,
    /// There is none.
    #[error("it has shown no certificate")]
    Missing,
    /// Anything else.
    #[error("its certificate cannot be verified")]
    Other,
}

/// Why a session has failed, with what rustls says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    distrust: Option<Distrust>,
    error: super::Error,
    detail: Option<String>,
}

impl Reason {
    pub(super) fn new(error: super::Error, why: Option<&Error>) -> Self {
        Self { distrust: why.and_then(Distrust::of), error, detail: why.map(ToString::to_string) }
    }
}

/// Writes one line, though the peer may have had a say in it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.distrust {
            Some(distrust) => write!(f, "{distrust}")?,
            None => write!(f, "{}", self.error)?,
        }
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {}", printable(detail)))
    }
}

impl Distrust {
    /// The error that has this reason.
    pub(super) fn error(self) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }

    /// The reason in `error`; None: it is not about a certificate.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let why = match error {
            Error::InvalidCertificate(why) => why,
            Error::NoCertificatesPresented => return Some(Self::Missing),
            _ => return None,
        };
        Some(match why {
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::Revocation,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::Name,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Time,
            CertificateError::Other(OtherError(why)) if why.is::<Self>() => *why.downcast_ref::<Self>()?,
            CertificateError::Other(OtherError(why))
                if matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
            {
                Self::Authority
            }
            _ => Self::Other,
        })
    }
}
