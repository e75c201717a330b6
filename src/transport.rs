//! One connection of either side: a socket, TLS on it or not, and what was received and not read. `downstream`, `upstream` and
//! `cairn-load` speak through it only. Not here: what the bytes mean, and how long somebody is waited for.

use crate::buffer::{Lease, Queue};
use crate::tls::{self, Agreement, Session, Wire};
use crate::uring::{Driver, Ring, SocketId};

/// A connection.
pub struct Transport {
    socket: SocketId,
    /// What goes through it in both directions, where it speaks TLS.
    session: Option<Box<Session>>,
    /// Bytes that were received and not read.
    pub input: Queue,
    /// Receiving is paused.
    paused: bool,
    /// The peer sends no more.
    ended: bool,
    /// Something could not be sealed: nothing more can be sent.
    broken: bool,
}

impl Transport {
    /// A transport on a socket that was just accepted or is connecting.
    #[must_use]
    pub fn new(socket: SocketId, session: Option<Box<Session>>) -> Self {
        Self { socket, session, input: Queue::default(), paused: false, ended: false, broken: false }
    }

    /// Begins a TLS handshake in which we are the client. Its first message is sent when the socket is connected.
    ///
    /// # Errors
    /// When the message cannot be made; nothing more is read or sent.
    pub fn begin<D: Driver>(&mut self, ring: &mut Ring<D>) -> Result<(), tls::Error> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let begun = on_wire(ring, self.socket, |wire| session.begin(wire));
        self.broken |= begun.is_err();
        begun
    }

    /// Takes received bytes in and appends their content to [`Transport::input`]. Returns the agreement once, when a handshake is
    /// over.
    ///
    /// # Errors
    /// When the peer breaks TLS. An alert was queued for it; nothing more is read or sent.
    pub fn receive<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        mut received: Queue,
    ) -> Result<Option<Agreement>, tls::Error> {
        let Some(session) = &mut self.session else {
            self.input.append(ring.buffers.pieces(), &mut received);
            return Ok(None);
        };
        let outcome = on_wire(ring, self.socket, |wire| session.receive(wire, &mut received, &mut self.input));
        self.ended |= session.has_ended();
        outcome
    }

    /// Whether a handshake has to be over before anything may be sent.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.session().is_some_and(Session::is_handshaking)
    }

    /// Queues one piece of what the peer is to get.
    pub fn send_piece<D: Driver>(&mut self, ring: &mut Ring<D>, piece: Lease) {
        if self.session.is_none() {
            return ring.send(self.socket, piece);
        }
        let mut content = Queue::default();
        content.push(ring.buffers.pieces(), piece);
        self.send(ring, &mut content);
    }

    /// Queues what the peer is to get; not while it is handshaking.
    pub fn send<D: Driver>(&mut self, ring: &mut Ring<D>, content: &mut Queue) {
        let Some(session) = &mut self.session else { return ring.send_all(self.socket, content) };
        self.broken |= on_wire(ring, self.socket, |wire| session.send(wire, content)).is_err();
    }

    /// Queues TLS's close_notify (RFC 8446 section 6.1), by which the peer can tell the end from a cut.
    pub fn close_notify<D: Driver>(&mut self, ring: &mut Ring<D>) {
        let Some(session) = &mut self.session else { return };
        on_wire(ring, self.socket, |wire| session.finish(wire));
    }

    /// Sends FIN once everything queued has gone.
    pub fn finish<D: Driver>(&mut self, ring: &mut Ring<D>) {
        self.close_notify(ring);
        ring.finish(self.socket);
    }

    /// Stops or resumes receiving.
    pub fn set_paused<D: Driver>(&mut self, ring: &mut Ring<D>, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            if paused { ring.pause(self.socket) } else { ring.receive(self.socket) }
        }
    }

    /// Whether receiving is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Notes that the peer has sent FIN.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the peer sends no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether nothing more can be sent.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Its TLS session, where it has one.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Whether part of a TLS record has arrived.
    #[must_use]
    pub fn holds_part(&self) -> bool {
        self.session().is_some_and(Session::holds_part)
    }

    /// Goes on without TLS, so that a peer that speaks none can be answered.
    pub fn speak_plain_text(&mut self) {
        self.session = None;
    }

    /// Bytes queued and not yet taken by the kernel.
    #[must_use]
    pub fn unsent<D: Driver>(&self, ring: &Ring<D>) -> usize {
        ring.unsent(self.socket)
    }

    /// Bytes that the kernel has taken so far.
    #[must_use]
    pub fn taken<D: Driver>(&self, ring: &Ring<D>) -> u64 {
        ring.taken(self.socket)
    }

    /// Whether so much is queued that no more should be.
    #[must_use]
    pub fn is_full<D: Driver>(&self, ring: &Ring<D>) -> bool {
        ring.is_full(self.socket)
    }

    /// The socket, for what only a socket has.
    #[must_use]
    pub fn socket(&self) -> SocketId {
        self.socket
    }

    /// Closes the connection; with a reset if `reset`, so that the peer cannot take what it has for a whole message.
    pub fn close<D: Driver>(mut self, ring: &mut Ring<D>, reset: bool) {
        self.input.clear(ring.buffers.pieces());
        if reset { ring.abort(self.socket) } else { ring.close(self.socket) }
    }
}

/// Has a session act, and sends the records that it makes.
fn on_wire<D: Driver, T>(ring: &mut Ring<D>, socket: SocketId, act: impl FnOnce(&mut Wire<'_>) -> T) -> T {
    let mut out = Queue::default();
    let (now, taken, unsent) = (ring.clock().now(), ring.taken(socket), ring.unsent(socket) as u64);
    let done = act(&mut Wire { buffers: &mut ring.buffers, out: &mut out, now, taken, unsent });
    ring.send_all(socket, &mut out);
    done
}
