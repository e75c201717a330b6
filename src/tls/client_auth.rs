//! How clients of a listener prove who they are: by certificates of authorities that are not revoked. Not here: certificates of our own
//! (`identity`), and what a certificate says of its owner (`peer`).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::authorities::Authorities;
use super::revocation::{self, RevocationList};
use super::server::provider;

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
        revocation::first_end(&self.revocation)
    }

    /// Names of authorities without a revocation list, though there are some: no certificate that one of them has signed counts.
    pub fn unlisted(&self) -> impl Iterator<Item = String> {
        revocation::unlisted(&self.authorities, &self.revocation)
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
        revocation::write(f, &self.revocation)
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuth({self})")
    }
}
