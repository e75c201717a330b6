//! TLS in front of HTTP: what comes passes through it before it is read, what goes before it is queued. Not here: the protocol
//! (`tls`).

use super::{Current, Downstream, Downstreams, Phase, Step};
use crate::buffer::Queue;
use crate::exchange::{Exchanges, Failure};
use crate::forward::Body;
use crate::tls::{self, Session};

impl Downstreams {
    /// Takes received bytes in.
    pub(super) fn receive(&mut self, x: &mut Exchanges, id: u32, received: Queue) {
        let connection = &mut self.table[id as usize];
        match connection.transport.receive(&mut x.ring, received) {
            Ok(None) => self.pump(x, id),
            Ok(Some(agreement)) => {
                x.counters.handshake(agreement.tls13, agreement.resumed);
                connection.enter(Phase::Head, x.ring.clock().tick());
                let listener = connection.listener;
                self.end_handshake(listener);
                self.pump(x, id);
            }
            Err(error) => self.break_off(x, id, error),
        }
    }

    /// Waits for the end of the handshake.
    pub(super) fn shake_hands(&mut self, x: &mut Exchanges, id: u32) -> Step {
        if !self.table[id as usize].transport.has_ended() {
            return Step::Wait;
        }
        self.remove(x, id, false);
        Step::Gone
    }

    /// Ends an idle connection.
    pub(super) fn retire(&mut self, x: &mut Exchanges, id: u32) {
        self.table[id as usize].enter(Phase::Flush, x.ring.clock().tick());
        self.pump(x, id);
    }

    /// Ends a connection on which TLS has failed; the client was told in its terms, or, if it speaks none, is told in plain
    /// text.
    fn break_off(&mut self, x: &mut Exchanges, id: u32, error: tls::Error) {
        let connection = &mut self.table[id as usize];
        connection.count_handshake(x);
        if let Phase::Exchange(exchange) | Phase::Tunnel(exchange) = connection.phase {
            x.close(exchange, false);
        }
        connection.transport.input.clear(x.ring.buffers.pieces());
        // Unread, so that closing waits until it has had time to take the answer.
        connection.current = Current { body: Body::Close, ..Current::default() };
        let before = connection.phase;
        connection.enter(Phase::Flush, x.ring.clock().tick());
        if before == Phase::Handshake {
            let listener = connection.listener;
            self.end_handshake(listener);
        }
        let connection = &mut self.table[id as usize];
        if error == tls::Error::PlainText {
            connection.transport.speak_plain_text();
            if self.refuse(x, id, Failure::RequestWithoutTls) == Step::Again {
                self.pump(x, id);
            }
        } else if connection.transport.unsent(&x.ring) == 0 {
            self.remove(x, id, false);
        } else {
            self.pump(x, id);
        }
    }
}

impl Downstream {
    /// Counts a handshake that has begun and comes to nothing.
    pub(super) fn count_handshake(&self, x: &Exchanges) {
        if self.phase == Phase::Handshake && self.transport.session().is_some_and(Session::has_begun) {
            x.counters.tls_failures.add(1);
        }
    }

    /// Whether it should not be kept after its current exchange.
    pub(super) fn is_worn(&self) -> bool {
        self.transport.session().is_some_and(Session::is_worn)
    }
}
