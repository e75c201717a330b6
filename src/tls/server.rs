//! TLS settings of a listener. Not here: the state of a connection (`session`).

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};

use super::client_auth::ClientAuth;
use super::identity::Identity;
use super::peer::ForwardClientCert;
use super::resolver::Resolver;
use super::secrets;
use super::tickets::Tickets;

/// Protocols for ALPN (RFC 7301), in order of preference.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
/// Tickets after a handshake of TLS 1.3. Clients use each of them once (RFC 8446 appendix C.4).
const TICKETS: usize = 2;

/// `[listener.tls]`, with the content of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// `certificates`, in file order.
    pub identities: Arc<[Identity]>,
    /// `client_ca`, `client_auth` and `crl`; None: clients are asked for no certificate.
    pub clients: Option<ClientAuth>,
    /// `forward_client_cert`
    pub forward: ForwardClientCert,
    /// `mode = "permissive"`: clients may speak in the clear, too.
    pub permissive: bool,
    /// `http2.enabled`
    pub http2: bool,
}

impl ServerSpec {
    /// Nothing but certificates.
    #[must_use]
    pub fn new(identities: Arc<[Identity]>) -> Self {
        Self { identities, clients: None, forward: ForwardClientCert::default(), permissive: false, http2: true }
    }
}

impl ServerSpec {
    /// Positions of the certificates for a name in lower case, of which a client gets the first whose signatures it can check. False: it
    /// is for none of them, so that they stand in for one.
    #[must_use]
    pub fn certificates_for(&self, name: &str) -> (Vec<usize>, bool) {
        let resolver = Resolver::new(&self.identities);
        let positions = resolver.candidates(Some(name)).iter().map(|choice| choice.position).collect();
        (positions, self.identities.iter().any(|identity| identity.covers(name)))
    }
}

/// Writes the identities, then what is asked of clients.
impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identities: Vec<_> = self.identities.iter().map(Identity::to_string).collect();
        write!(f, "[{}]", identities.join(", "))?;
        self.clients.as_ref().map_or(Ok(()), |clients| write!(f, " for clients of {clients}"))?;
        if self.permissive {
            f.write_str(", plain text, too")?;
        }
        let ForwardClientCert { client_cert, xfcc } = self.forward;
        let fields = [(client_cert, ", forwards Client-Cert"), (xfcc, ", forwards X-Forwarded-Client-Cert")];
        fields.into_iter().filter(|(sent, _)| *sent).try_for_each(|(_, text)| f.write_str(text))
    }
}

/// State that all connections of a listener share.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) config: Arc<ServerConfig>,
    clients: Option<ClientAuth>,
    pub(super) forward: ForwardClientCert,
    permissive: bool,
}

impl Server {
    /// A ticket stands for what its handshake has proved. Therefore `tickets` belong to one listener and one [`Admission`](super::Admission):
    /// with shared ones, a client without a certificate could resume a session of a listener that asks for none (CVE-2025-23419).
    ///
    /// # Panics
    /// Never: aws-lc has cipher suites for both versions.
    #[must_use]
    pub fn new(spec: &ServerSpec, tickets: Arc<Tickets>) -> Self {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12]);
        let verifier = spec.clients.as_ref().map_or_else(WebPkiClientVerifier::no_client_auth, ClientAuth::verifier);
        let mut config = builder
            .expect("aws-lc has cipher suites for both versions")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Resolver::new(&spec.identities)));
        let protocols = PROTOCOLS.get(usize::from(!spec.http2)..).unwrap_or_default();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Sessions stored on this side would be unknown to other workers. Tickets are stored by clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        config.send_tls13_tickets = TICKETS;
        // So the order of suites is ours, the strongest first, and no client's old list decides.
        config.ignore_client_order = true;
        // Early data can be replayed (RFC 8446 section 8), and cairn cannot tell which requests are safe to repeat.
        config.max_early_data_size = 0;
        // `session` and `record` open and seal records by themselves.
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(secrets::Listen);
        let ServerSpec { clients, forward, permissive, .. } = spec;
        Self { config: Arc::new(config), clients: clients.clone(), forward: *forward, permissive: *permissive }
    }

    /// Whether clients may speak in the clear, too: their first byte decides.
    #[must_use]
    pub fn is_permissive(&self) -> bool {
        self.permissive
    }

    /// How applications are told of clients' certificates.
    #[must_use]
    pub fn forward(&self) -> ForwardClientCert {
        self.forward
    }

    /// What is asked of clients; None: nothing.
    #[must_use]
    pub fn clients(&self) -> Option<&ClientAuth> {
        self.clients.as_ref()
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
