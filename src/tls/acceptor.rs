//! TLS with clients of the control thread's, over streams of tokio. Not here: TLS of workers (`session`).

use std::io;
use std::sync::Arc;

use rustls::{NoKeyLog, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::server::{Server, ServerSpec};
use super::tickets::Tickets;

/// A stream that speaks TLS with a client.
pub type Accepted<S> = tokio_rustls::server::TlsStream<S>;

/// Takes clients that speak HTTP/1.1 over TLS. Nothing is resumed, so that each shows its certificate.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// With these settings.
    #[must_use]
    pub fn new(spec: &ServerSpec) -> Self {
        let mut config = ServerConfig::clone(&Server::new(spec, Arc::new(Tickets::none())).config);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = false;
        // That of workers keeps secrets for records that are made elsewhere.
        config.key_log = Arc::new(NoKeyLog {});
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    /// Does the handshake of a connection.
    ///
    /// # Errors
    /// The client does not speak TLS, or shows no certificate that counts.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Accepted<S>> {
        self.0.accept(stream).await
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}
