//! What happens to a connection: it is established, receives, ends, and is released or closed. Not here: its responses (`response`).

use std::time::Duration;

use super::{End, Upstreams};
use crate::buffer::Queue;
use crate::tls::{self, Agreement, Session};
use crate::uring::{Driver, Fault, Ring};

impl Upstreams {
    /// Takes in that sending has failed.
    pub fn send_failed(&mut self, index: u32) {
        if let Some(connection) = self.table.get_mut(index as usize) {
            connection.deaf = true;
        }
    }

    /// Takes in that the connection is established. Over TLS, it is once the handshake is complete.
    pub fn connected(&mut self, index: u32) {
        if let Some(connection) = self.table.get_mut(index as usize) {
            if connection.transport.is_handshaking() {
                return;
            }
            connection.connected = true;
            // The connection was established after its time-out, but before the attempt was ended: it is used all the same.
            connection.end.take_if(|end| *end == End::ConnectTimeout);
            if let Some(preferred) = self.preferred.get_mut(connection.endpoint.index()) {
                *preferred = connection.address;
            }
        }
    }

    /// Takes in received bytes. If the connection is idle and they bring content, it is closed: that would be taken for the next
    /// response. If nothing of the request was sent, it came before that and answers nothing either: to the exchange, an idle
    /// connection has ended. Returns what a handshake has agreed on, once.
    ///
    /// # Errors
    /// TLS has failed; the connection has ended.
    pub fn received<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        index: u32,
        mut queue: Queue,
    ) -> Result<Option<Agreement>, tls::Error> {
        let Some(connection) = self.table.get_mut(index as usize) else {
            queue.clear(ring.buffers.pieces());
            return Ok(None);
        };
        let early =
            !connection.answered && connection.reused && connection.exchange.is_some() && connection.is_untouched(ring);
        connection.received += queue.bytes() as u64;
        let outcome = connection.transport.receive(ring, queue);
        if let Err(error) = outcome {
            connection.end.get_or_insert(End::Tls(error));
        }
        if connection.transport.has_ended() {
            connection.end.get_or_insert(End::Closed);
        }
        let content = !connection.transport.input.is_empty();
        if content && early {
            connection.transport.input.clear(ring.buffers.pieces());
            connection.end.get_or_insert(End::Closed);
            return outcome;
        }
        if content && !connection.answered {
            // A request is never sent again once a response has begun.
            connection.answered = true;
            ring.return_sent(connection.transport.socket(), false);
        }
        if connection.exchange.is_none() && (content || connection.end.is_some()) {
            self.discard(ring, index);
        } else if let Ok(Some(agreement)) = outcome {
            self.note_certificate(index);
            if agreement.http2 { self.share_again(index) } else { self.connected(index) }
        }
        outcome
    }

    /// Takes in until when the certificate holds that an endpoint has shown.
    pub(super) fn note_certificate(&mut self, index: u32) {
        let Some(connection) = self.table.get(index as usize) else { return };
        let end = connection.transport.session().map(Session::server_end);
        if let (Some(end), Some(Some(client))) = (end, self.clients.get_mut(connection.endpoint.index())) {
            client.until = client.until.min(end);
        }
    }

    /// Takes in how the connection ended; an idle one is closed. Returns how TLS has failed, if that is the end.
    pub fn ended<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, end: End) -> Option<tls::Error> {
        let connection = self.table.get_mut(index as usize)?;
        let end = match end {
            end if connection.is_stream() => end,
            End::Closed | End::Broken(Fault::Receive(_)) if connection.transport.is_handshaking() => {
                End::Tls(tls::Error::Cut)
            }
            End::Closed if connection.transport.session().is_some() => End::Truncated,
            end => end,
        };
        if connection.shared.is_some() {
            self.end_shared(ring, index, end);
            return if let End::Tls(error) = end { Some(error) } else { None };
        }
        connection.end.get_or_insert(end);
        if connection.exchange.is_none() {
            self.discard(ring, index);
        }
        if let End::Tls(error) = end { Some(error) } else { None }
    }

    /// Queues content for the endpoint.
    pub fn send<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, content: &mut Queue) {
        let connection = &mut self.table[index as usize];
        connection.transport.send(ring, content);
        if connection.is_stream() {
            return self.touch(index);
        }
        if connection.transport.is_broken() {
            connection.end.get_or_insert(End::Tls(tls::Error::Buffers));
        }
    }

    /// Sends FIN after what is queued; over TLS, after close_notify.
    pub fn finish<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.table[index as usize].transport.finish(ring);
        self.touch_stream(index);
    }

    /// Takes out the request of a connection whose TLS handshake was not completed: nothing of it was sent.
    pub fn take_waiting(&mut self, index: u32) -> Option<Queue> {
        self.table.get_mut(index as usize)?.transport.take_waiting()
    }

    /// Takes out the request of a stream of which nothing has gone to its connection.
    pub fn take_output(&mut self, index: u32) -> Option<Queue> {
        let link = self.table.get_mut(index as usize)?.transport.stream_link_mut()?;
        Some(std::mem::take(&mut link.output))
    }

    /// Releases a connection after an exchange. It becomes idle, in the pool or for the client connection that it belongs to, if its
    /// last response has ended, nothing is queued or unread, and it may be used again; else it is closed. `max_idle`: the most idle
    /// connections to the endpoint; `idle`: how long it may be idle.
    pub fn release<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, max_idle: u32, idle: Duration) {
        let connection = &mut self.table[index as usize];
        if connection.is_stream() {
            return self.discard(ring, index);
        }
        let clean = connection.body.is_done()
            && connection.transport.input.is_empty()
            && connection.transport.unsent(ring) == 0
            && !connection.transport.holds_part();
        let usable = connection.keep_alive
            && connection.connected
            && connection.end.is_none()
            && !connection.transport.is_paused()
            && !connection.transport.session().is_some_and(Session::is_worn);
        let kept = connection.bound.is_some() || self.pool.len(connection.endpoint) < max_idle;
        if !clean || !usable || !kept {
            return self.discard(ring, index);
        }
        connection.exchange = None;
        ring.set_deadline(connection.transport.socket(), Some(idle));
        if connection.bound.is_none() {
            self.pool.push(connection.endpoint, index);
        }
    }

    /// Closes a connection with RST.
    pub fn abort<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.remove(ring, index, true);
    }

    /// Closes a connection.
    pub fn discard<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.remove(ring, index, false);
    }

    fn remove<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, reset: bool) {
        let Some(connection) = self.table.try_remove(index as usize) else { return };
        if connection.is_stream() {
            return self.leave(ring, index, connection);
        }
        match connection.bound.and_then(|downstream| self.bound.get_mut(downstream as usize)) {
            Some(bound) => drop(bound.take_if(|bound| *bound == index)),
            None if connection.exchange.is_none() => self.pool.remove(connection.endpoint, index),
            None => {}
        }
        self.pool.cells(connection.endpoint).close();
        if let Some(counted) = &connection.counted {
            self.freed.push(counted.cluster);
        }
        connection.transport.close(ring, reset);
    }
}
