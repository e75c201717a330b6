//! Why a peer's certificate was not believed, in words that lead to a cure. Not here: what is believed (`client`, `server`).

use rustls::{CertificateError, Error, OtherError};

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
    /// Its time is over, or has not come.
    #[error("its certificate is not valid at this time")]
    Time,
    /// Anything else.
    #[error("its certificate cannot be verified")]
    Other,
}

impl Distrust {
    /// The reason in `error`; None: it is not about a certificate.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let Error::InvalidCertificate(why) = error else { return None };
        Some(match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Issuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::Name,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Time,
            CertificateError::Other(OtherError(why))
                if matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
            {
                Self::Authority
            }
            _ => Self::Other,
        })
    }
}
