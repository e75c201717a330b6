//! What a listener needs to speak TLS. Not here: a connection's state.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};

use super::authorities::Authorities;
use super::identity::Identity;
use super::resolver::Resolver;
use super::tickets::Tickets;

/// Protocols for who asks (RFC 7301), the best first.
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];
/// Tickets after a handshake of TLS 1.3: a client uses each but once (RFC 8446 appendix C.4).
const TICKETS: usize = 2;

/// `[listener.tls]`, with what its files held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// `certificates`, in file order.
    pub identities: Arc<[Identity]>,
    /// `client_ca`; with it, each client has to show a certificate.
    pub client_ca: Option<Authorities>,
}

/// Each certificate, then who vouches for clients.
impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identities: Vec<_> = self.identities.iter().map(Identity::to_string).collect();
        write!(f, "[{}]", identities.join(", "))?;
        self.client_ca.as_ref().map_or(Ok(()), |authorities| write!(f, " for clients of {authorities}"))
    }
}

/// What all connections of a listener share.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) config: Arc<ServerConfig>,
    client_ca: Option<Authorities>,
}

impl Server {
    /// A ticket stands for what the handshake has proved. So `tickets` belong to one listener and one `client_ca`: with those of
    /// another, who was let in there without a certificate would be let in here (CVE-2025-23419).
    ///
    /// # Panics
    /// Never: aws-lc has cipher suites for both versions.
    #[must_use]
    pub fn new(spec: &ServerSpec, tickets: Arc<Tickets>) -> Self {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12]);
        let verifier = match &spec.client_ca {
            Some(authorities) => Arc::clone(&authorities.verifier),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = builder
            .expect("aws-lc has cipher suites for both versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Resolver::new(&spec.identities)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // What is remembered here is not there on the other workers; tickets are the client's to keep.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        config.send_tls13_tickets = TICKETS;
        // Early data can be replayed (RFC 8446 section 8), and nothing says which requests bear that.
        config.max_early_data_size = 0;
        // `session` and `record` open and seal records by themselves.
        config.enable_secret_extraction = true;
        Self { config: Arc::new(config), client_ca: spec.client_ca.clone() }
    }

    /// Who vouches for each client.
    #[must_use]
    pub fn client_ca(&self) -> Option<&Authorities> {
        self.client_ca.as_ref()
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
