//! 8: what one worker counts. It alone writes, with plain stores; the control thread reads at any time.
//! Not here: what is made of it (`control`).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::ListenerId;
use crate::limits::LISTENER_IDS;

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; for the writing thread only.
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Sets; for the writing thread only.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now, or a moment ago.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that one worker counts.
#[derive(Debug)]
pub struct Counters {
    /// Responses sent, by class of status: 1xx to 5xx.
    responses: [Counter; 5],
    /// Connections to endpoints that could not be made.
    pub connect_failures: Counter,
    /// Exchanges with an origin under way.
    pub exchanges: Counter,
    /// Handshakes of clients, by version (1.2, 1.3) and by whether a ticket was resumed.
    tls_handshakes: [[Counter; 2]; 2],
    /// Handshakes that came to nothing.
    pub tls_failures: Counter,
    /// Version of the snapshot in use.
    pub version: Counter,
    /// Open connections, by `ListenerId`.
    connections: Box<[Counter]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            responses: Default::default(),
            connect_failures: Counter::default(),
            exchanges: Counter::default(),
            tls_handshakes: Default::default(),
            tls_failures: Counter::default(),
            version: Counter::default(),
            connections: std::iter::repeat_with(Counter::default).take(LISTENER_IDS).collect(),
        }
    }
}

impl Counters {
    /// Counts a response.
    pub fn respond(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.add(1);
        }
    }

    /// Final responses sent, by class: 2xx to 5xx.
    #[must_use]
    pub fn responses(&self) -> [u64; 4] {
        let [_, classes @ ..] = &self.responses;
        classes.each_ref().map(Counter::get)
    }

    /// Counts a handshake of a client.
    pub fn handshake(&self, tls13: bool, resumed: bool) {
        self.tls_handshakes[usize::from(tls13)][usize::from(resumed)].add(1);
    }

    /// Handshakes of clients: of TLS 1.2 and 1.3, full and resumed.
    #[must_use]
    pub fn handshakes(&self) -> [[u64; 2]; 2] {
        self.tls_handshakes.each_ref().map(|version| version.each_ref().map(Counter::get))
    }

    /// Sets the number of open connections of a listener.
    pub fn set_connections(&self, listener: ListenerId, count: u32) {
        if let Some(counter) = self.connections.get(listener.index()) {
            counter.set(u64::from(count));
        }
    }

    /// Open connections of a listener.
    #[must_use]
    pub fn connections(&self, listener: ListenerId) -> u64 {
        self.connections.get(listener.index()).map_or(0, Counter::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_count_by_class() {
        let counters = Counters::default();
        for status in [200, 204, 304, 404, 503, 599, 101, 0, 99, 600, u16::MAX] {
            counters.respond(status);
        }
        assert_eq!(counters.responses(), [2, 1, 1, 2]);
    }
}
