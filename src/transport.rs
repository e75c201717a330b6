//! One connection of either side: a socket, its TLS session if it has one, and the bytes that were received and not read.
//! `downstream`, `upstream` and `cairn-load` send and receive only through it. Not here: the meaning of the bytes, and deadlines.

use crate::buffer::{Lease, Queue};
use crate::tls::{self, Agreement, Session, Wire};
use crate::uring::{Driver, Ring, SocketId};

/// A connection.
pub struct Transport {
    socket: SocketId,
    /// The TLS session; None without TLS.
    session: Option<Box<Session>>,
    /// Bytes that were received and not read, after decryption.
    pub input: Queue,
    /// Receiving is paused.
    paused: bool,
    /// The peer has sent FIN, or TLS's close_notify.
    ended: bool,
    /// A record could not be sealed: nothing more can be sent.
    broken: bool,
}

impl Transport {
    /// A transport on a socket that was just accepted or is connecting.
    #[must_use]
    pub fn new(socket: SocketId, session: Option<Box<Session>>) -> Self {
        Self { socket, session, input: Queue::default(), paused: false, ended: false, broken: false }
    }

    /// Begins a TLS handshake as the client; does nothing without TLS. The first message is sent when the socket is connected.
    ///
    /// # Errors
    /// When the message cannot be made; nothing more is read or sent.
    pub fn begin<D: Driver>(&mut self, ring: &mut Ring<D>) -> Result<(), tls::Error> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let begun = on_wire(ring, self.socket, |wire| session.begin(wire));
        self.broken |= begun.is_err();
        begun
    }

    /// Takes in received bytes, decrypts them if there is TLS, and appends the content to [`Transport::input`]. Returns the
    /// parameters that a handshake has agreed on, once, when it is complete.
    ///
    /// # Errors
    /// When the peer breaks the TLS protocol. An alert was queued for it; nothing more is read or sent.
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

    /// Whether a handshake is under way, before whose end nothing is sent.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.session().is_some_and(Session::is_handshaking)
    }

    /// Queues one piece for the peer; not during the handshake of a server.
    pub fn send_piece<D: Driver>(&mut self, ring: &mut Ring<D>, piece: Lease) {
        if self.session.is_none() {
            return ring.send(self.socket, piece);
        }
        let mut content = Queue::default();
        content.push(ring.buffers.pieces(), piece);
        self.send(ring, &mut content);
    }

    /// Queues `content` for the peer, encrypted if there is TLS; not during the handshake of a server. That of a client lets it wait.
    pub fn send<D: Driver>(&mut self, ring: &mut Ring<D>, content: &mut Queue) {
        let Some(session) = &mut self.session else { return ring.send_all(self.socket, content) };
        self.broken |= on_wire(ring, self.socket, |wire| session.send(wire, content)).is_err();
    }

    /// Queues TLS's close_notify (RFC 8446 section 6.1), which tells the peer that nothing was cut off.
    pub fn close_notify<D: Driver>(&mut self, ring: &mut Ring<D>) {
        let Some(session) = &mut self.session else { return };
        on_wire(ring, self.socket, |wire| session.finish(wire));
    }

    /// Sends close_notify if there is TLS, and FIN once everything queued was sent.
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

    /// Takes in that the peer has sent FIN.
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

    /// The TLS session; None without TLS.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Whether an incomplete TLS record was received.
    #[must_use]
    pub fn holds_part(&self) -> bool {
        self.session().is_some_and(Session::holds_part)
    }

    /// Goes on with TLS, of which nothing has been received or sent yet; no byte is left in [`Transport::input`].
    pub fn speak_tls(&mut self, session: Box<Session>) {
        debug_assert!(self.session.is_none() && self.input.is_empty());
        self.session = Some(session);
    }

    /// Drops the TLS session, so that a peer that has sent plain text can be answered in plain text.
    pub fn speak_plain_text(&mut self) {
        self.session = None;
    }

    /// Bytes queued and not yet taken by the kernel.
    #[must_use]
    #[inline]
    pub fn unsent<D: Driver>(&self, ring: &Ring<D>) -> usize {
        let queued = ring.unsent(self.socket);
        if self.session.is_none() { queued } else { queued + self.waiting().map_or(0, Queue::bytes) }
    }

    /// Number of pieces queued: an upper bound of the buffers that the queue pins.
    #[must_use]
    pub fn pinned<D: Driver>(&self, ring: &Ring<D>) -> usize {
        ring.pinned(self.socket) + self.waiting().map_or(0, Queue::pieces)
    }

    /// What waits for the end of a client's handshake.
    #[inline(never)]
    fn waiting(&self) -> Option<&Queue> {
        self.session().and_then(Session::waiting)
    }

    /// Takes out what waits for the end of a client's handshake, of which nothing was sent; see [`Session::take_waiting`].
    pub fn take_waiting(&mut self) -> Option<Queue> {
        self.session.as_mut()?.take_waiting()
    }

    /// Bytes that the kernel has taken since the connection began, TLS records included.
    #[must_use]
    pub fn taken<D: Driver>(&self, ring: &Ring<D>) -> u64 {
        ring.taken(self.socket)
    }

    /// Whether the queue is full, so that nothing should be added.
    #[must_use]
    #[inline]
    pub fn is_full<D: Driver>(&self, ring: &Ring<D>) -> bool {
        let limit = || ring.buffers.queue_limit();
        ring.is_full(self.socket)
            || (self.session.is_some() && self.waiting().is_some_and(|waiting| limit().is_reached(waiting)))
    }

    /// The socket, for calls on the ring.
    #[must_use]
    pub fn socket(&self) -> SocketId {
        self.socket
    }

    /// Closes the connection; with RST if `reset`, so that the peer cannot take what it has received for a whole message.
    pub fn close<D: Driver>(mut self, ring: &mut Ring<D>, reset: bool) {
        self.input.clear(ring.buffers.pieces());
        if let Some(mut waiting) = self.take_waiting() {
            waiting.clear(ring.buffers.pieces());
        }
        if reset { ring.abort(self.socket) } else { ring.close(self.socket) }
    }
}

/// Calls `act`, which lets a session make records, and queues them for the socket.
fn on_wire<D: Driver, T>(ring: &mut Ring<D>, socket: SocketId, act: impl FnOnce(&mut Wire<'_>) -> T) -> T {
    let mut out = Queue::default();
    let now = ring.clock().now();
    let taken = ring.taken(socket);
    let unsent = ring.unsent(socket) as u64;
    let done = act(&mut Wire { buffers: &mut ring.buffers, out: &mut out, now, taken, unsent });
    ring.send_all(socket, &mut out);
    done
}
