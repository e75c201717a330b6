//! TLS in a comparison: the one certificate that all proxies show, and whether their handshakes were what a scenario says.
//! Not here: how proxies are configured, or the client's side.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::run::RunCounts;

/// The kind of key, for those who read the results: what authorities give out unless asked for another. Signing with RSA takes
/// so long that the proxies could not be told apart.
pub(super) const KEY: &str = "ECDSA P-256";

/// Handshakes of a hundred that may be full where they should resume: servers change their keys.
const FULL_PERCENT: u64 = 2;

/// The name of the origin in the certificate.
pub(super) const ORIGIN_NAME: &str = "origin.test";

/// A certificate for 127.0.0.1 and the origin, signed by itself, and its key, as PEM.
#[derive(Debug)]
pub(super) struct Identity {
    certificate: String,
    key: String,
}

/// What the handshakes of a scenario are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshakes {
    /// One for each connection, which stays.
    Once,
    /// One for each request, full.
    Full,
    /// One for each request that resumes a session, but the first of each connection.
    Resumed,
}

impl Identity {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".into(), ORIGIN_NAME.into()])?.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Writes `cert.pem`, `key.pem`, and `both.pem` for those who want one file.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::write(authority(folder), &self.certificate)?;
        std::fs::write(folder.join("key.pem"), &self.key)?;
        std::fs::write(both(folder), [&*self.certificate, &*self.key].concat())
    }
}

/// Certificate and key in a folder.
pub(super) fn both(folder: &Path) -> PathBuf {
    folder.join("both.pem")
}

/// The certificate in a folder is its own authority.
pub(super) fn authority(folder: &Path) -> PathBuf {
    folder.join("cert.pem")
}

impl Handshakes {
    /// The mismatch between the handshakes of a run and the scenario, given the number of connections.
    pub(super) fn check(self, counts: &RunCounts, connections: u64) -> Option<String> {
        let &RunCounts { handshakes, resumed, retried, .. } = counts;
        let answered = counts.latency.count();
        if retried > 0 {
            return Some(format!("{retried} of {handshakes} handshakes took a round trip more"));
        }
        match self {
            Self::Once if handshakes > connections + counts.all_errors() => {
                Some(format!("{handshakes} handshakes on {connections} connections, which should stay"))
            }
            Self::Full | Self::Resumed if handshakes < answered => {
                Some(format!("{handshakes} handshakes for {answered} requests, which should have one each"))
            }
            Self::Once | Self::Full if resumed > 0 => {
                Some(format!("{resumed} of {handshakes} handshakes resumed, where all should be full"))
            }
            Self::Resumed if handshakes - resumed > connections + handshakes * FULL_PERCENT / 100 => {
                Some(format!("only {resumed} of {handshakes} handshakes resumed"))
            }
            Self::Once | Self::Full | Self::Resumed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn handshakes_have_to_be_what_the_scenario_says() {
        use Handshakes::{Full, Once, Resumed};
        for (kind, answered, handshakes, resumed, retried, right) in [
            (Once, 1000, 64, 0, 0, true),
            (Once, 1000, 65, 0, 0, false),
            (Once, 1000, 64, 1, 0, false),
            (Once, 1000, 64, 0, 1, false),
            (Full, 1000, 1001, 0, 0, true),
            (Full, 1000, 999, 0, 0, false),
            (Full, 1000, 1000, 1, 0, false),
            (Full, 1000, 1000, 0, 1, false),
            (Resumed, 1000, 1000, 916, 0, true),
            (Resumed, 1000, 1000, 915, 0, false),
            (Resumed, 1000, 900, 900, 0, false),
            (Resumed, 1000, 1000, 999, 1, false),
        ] {
            let mut counts = RunCounts::new();
            (0..answered).for_each(|_| counts.latency.record(Duration::from_millis(1)));
            (counts.handshakes, counts.resumed, counts.retried) = (handshakes, resumed, retried);
            let complaint = kind.check(&counts, 64);
            assert_eq!(
                complaint.is_none(),
                right,
                "{kind:?} {answered} {handshakes} {resumed} {retried}: {complaint:?}"
            );
        }
    }
}
