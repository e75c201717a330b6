//! Handshakes with endpoints that wait for their turn, because a step of one takes as long as many exchanges. Not here: how many steps a
//! turn makes (`worker`), and the messages (`tls`).

use super::Upstreams;
use crate::buffer::Queue;
use crate::uring::{Driver, Ring};

impl Upstreams {
    /// Keeps what an endpoint has sent of its handshake until there is time for it. Otherwise, gives it back.
    pub fn postpone<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, received: Queue) -> Option<Queue> {
        let connection = self.table.get_mut(index as usize).filter(|connection| connection.transport.is_handshaking());
        let Some(connection) = connection else { return Some(received) };
        let waits = connection.transport.is_postponed();
        connection.transport.postpone(ring, received);
        if !waits && connection.transport.is_postponed() {
            self.handshakes.push_back(index);
        }
        None
    }

    /// Whether something of a handshake waits for its turn.
    #[must_use]
    pub fn has_handshakes(&self) -> bool {
        !self.handshakes.is_empty()
    }

    /// Takes out the connection that has waited longest. It goes on with an empty receive.
    pub fn next_handshake<D: Driver>(&mut self, ring: &mut Ring<D>) -> Option<u32> {
        loop {
            let index = self.handshakes.pop_front()?;
            let connection = self.table.get_mut(index as usize);
            if let Some(connection) = connection.filter(|connection| connection.transport.is_postponed()) {
                connection.transport.set_paused(ring, false);
                return Some(index);
            }
        }
    }

    /// Whether something of a connection's handshake waits for its turn.
    #[must_use]
    pub fn is_postponed(&self, index: u32) -> bool {
        self.get(index).is_some_and(|connection| connection.transport.is_postponed())
    }
}
