//! rustls's state of a connection after its handshake: it derives the next keys and stores tickets. Not here: the use of keys
//! (`record`, `traffic`).

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};

/// The state of one connection.
pub(super) enum Keys {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl Keys {
    pub(super) fn version(&self) -> ProtocolVersion {
        match self {
            Self::Server(keys) => keys.protocol_version(),
            Self::Client(keys) => keys.protocol_version(),
        }
    }

    pub(super) fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Server(keys) => keys.negotiated_cipher_suite(),
            Self::Client(keys) => keys.negotiated_cipher_suite(),
        }
    }

    /// The next key of the peer's direction, and the number of its first record.
    ///
    /// # Errors
    /// The connection is TLS 1.2, which has no key updates.
    pub(super) fn update_rx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        match self {
            Self::Server(keys) => keys.update_rx_secret(),
            Self::Client(keys) => keys.update_rx_secret(),
        }
    }

    /// The next key of our direction, and the number of its first record.
    ///
    /// # Errors
    /// See [`Keys::update_rx`].
    pub(super) fn update_tx(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        match self {
            Self::Server(keys) => keys.update_tx_secret(),
            Self::Client(keys) => keys.update_tx_secret(),
        }
    }

    /// Stores a ticket for later connections (RFC 8446 section 4.6.1).
    ///
    /// # Errors
    /// The ticket is malformed, or the peer is a client.
    pub(super) fn take_ticket(&mut self, ticket: &[u8]) -> Result<(), rustls::Error> {
        match self {
            Self::Server(_) => Err(rustls::Error::General("only servers send tickets".into())),
            Self::Client(keys) => keys.handle_new_session_ticket(ticket),
        }
    }

    /// Whether the peer is a server.
    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}
