//! What resumption tickets of a listener are sealed with (RFC 8446 section 4.6.1, RFC 5077). Not here: whose are whose
//! (`snapshot::Ledger`).

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

/// Keys that change every six hours and open a ticket for twelve at most; they never leave the process.
///
/// All workers share them, since a client may come back to another worker: each full or resumed handshake takes a read lock.
#[derive(Debug)]
pub struct Tickets(Option<Arc<dyn ProducesTickets>>);

impl Tickets {
    /// With new keys; without any, and without tickets, where the machine has no randomness to make them of.
    #[must_use]
    pub fn new() -> Self {
        Self(Ticketer::new().ok())
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.is_some()
    }

    fn lifetime(&self) -> u32 {
        self.0.as_ref().map_or(0, |keys| keys.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.as_ref()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.as_ref()?.decrypt(cipher)
    }
}
