//! What a listener needs to speak TLS. Not here: a connection's state.

use std::sync::Arc;

use rustls::ServerConfig;

/// Certificates of a listener, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {}

/// What all connections of a listener share.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) config: Arc<ServerConfig>,
}
