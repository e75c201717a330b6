//! What a connection needs after its handshake to derive the next keys, and to store tickets. Not here: the use of keys (`record`,
//! `traffic`).

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{ProtocolVersion, SupportedCipherSuite};

use super::record::Key;
use super::secrets::TrafficSecret;

/// The state of one connection.
pub(super) enum Keys {
    /// Of a connection with a client.
    Server {
        suite: SupportedCipherSuite,
        /// Of the client's direction, and of ours; None: the connection is TLS 1.2, which has no key updates.
        secrets: Option<[TrafficSecret; 2]>,
    },
    /// Of a connection with a server. It is rustls's, which understands tickets.
    Client(Box<KernelConnection<ClientConnectionData>>),
}

impl Keys {
    pub(super) fn version(&self) -> ProtocolVersion {
        match self {
            Self::Server { suite, .. } => suite.version().version,
            Self::Client(keys) => keys.protocol_version(),
        }
    }

    pub(super) fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Server { suite, .. } => *suite,
            Self::Client(keys) => keys.negotiated_cipher_suite(),
        }
    }

    /// The next key of the peer's direction.
    ///
    /// # Errors
    /// The connection is TLS 1.2, which has no key updates.
    pub(super) fn update_rx(&mut self) -> Result<Key, rustls::Error> {
        match self {
            Self::Server { suite, secrets } => update(*suite, secrets.as_mut().map(|[client, _]| client)),
            Self::Client(keys) => {
                let (count, secrets) = keys.update_rx_secret()?;
                Key::new(keys.protocol_version(), count, &secrets)
            }
        }
    }

    /// The next key of our direction.
    ///
    /// # Errors
    /// See [`Keys::update_rx`].
    pub(super) fn update_tx(&mut self) -> Result<Key, rustls::Error> {
        match self {
            Self::Server { suite, secrets } => update(*suite, secrets.as_mut().map(|[_, server]| server)),
            Self::Client(keys) => {
                let (count, secrets) = keys.update_tx_secret()?;
                Key::new(keys.protocol_version(), count, &secrets)
            }
        }
    }

    /// Stores a ticket for later connections (RFC 8446 section 4.6.1).
    ///
    /// # Errors
    /// The ticket is malformed, or the peer is a client.
    pub(super) fn take_ticket(&mut self, ticket: &[u8]) -> Result<(), rustls::Error> {
        match self {
            Self::Server { .. } => Err(rustls::Error::General("only servers send tickets".into())),
            Self::Client(keys) => keys.handle_new_session_ticket(ticket),
        }
    }

    /// Whether the peer is a server.
    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

fn update(suite: SupportedCipherSuite, secret: Option<&mut TrafficSecret>) -> Result<Key, rustls::Error> {
    let updated = secret.and_then(|secret| secret.update(suite).ok());
    updated.ok_or_else(|| rustls::Error::General("the connection has no key updates".into()))
}
