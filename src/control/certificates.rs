//! The certificates that are served, and how long they last, for `cairn status`, `/status` and `/metrics`. Not here: warnings of `cairn
//! check` (`config`).

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// A certificate with those that lead to its authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// `listener` or `cluster`: whom it is shown by.
    pub kind: String,
    /// Name of the listener or the cluster.
    pub owner: String,
    /// Its position in `certificates`, from 1.
    pub position: usize,
    /// Its first DNS name.
    pub name: String,
    /// When the first of them ends, in seconds since 1970.
    pub expires: u64,
    /// Whole days until then; 0: fewer, or none.
    pub days_left: u64,
}

/// All certificates of a configuration.
pub(super) fn certificates(config: &Config) -> Vec<CertificateStatus> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let listeners = config.snapshot.listeners.iter().flat_map(|listener| {
        let identities = listener.tls.iter().flat_map(|tls| &*tls.identities);
        identities.zip(1..).map(|(identity, position)| ("listener", &listener.name, position, identity))
    });
    let clusters = config.snapshot.clusters.iter().filter_map(|cluster| {
        let identity = cluster.tls.as_ref()?.identity.as_ref()?;
        Some(("cluster", &cluster.name, 1, identity))
    });
    let status = |(kind, owner, position, identity): (&str, &String, usize, &crate::tls::Identity)| CertificateStatus {
        kind: kind.to_owned(),
        owner: owner.clone(),
        position,
        name: identity.label().to_owned(),
        expires: identity.end(),
        days_left: identity.end().saturating_sub(now) / DAY,
    };
    listeners.chain(clusters).map(status).collect()
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, owner, name, days_left, .. } = self;
        write!(f, "{name} of {kind} {owner}, {days_left} days left")
    }
}
