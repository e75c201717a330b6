//! One connection of either side: a socket, its TLS session if it has one, and the bytes that were received and not read. Or one
//! stream of a connection of HTTP/2, which carries the text of one message of HTTP/1.1 in each direction. `downstream`, `upstream`
//! and `cairn-load` send and receive only through it. Not here: the meaning of the bytes, frames, and deadlines.

use crate::buffer::{Lease, Queue, QueueLimit};
use crate::limits;
use crate::tls::{self, Agreement, Session, Wire};
use crate::uring::{Driver, Ring, SocketId};

/// What a peer may send ahead of its handshake: a ClientHello of the largest record. More stays with the kernel.
const HANDSHAKE_AHEAD: QueueLimit = QueueLimit { bytes: limits::CLIENT_HELLO_BYTES, pieces: 8 };

/// A connection.
pub struct Transport {
    /// [`SocketId::NONE`] of a stream.
    socket: SocketId,
    link: Link,
    /// Bytes that were received and not read, after decryption.
    pub input: Queue,
    /// Receiving is paused.
    paused: bool,
    /// The peer has sent FIN, or TLS's close_notify.
    ended: bool,
    /// A record could not be sealed: nothing more can be sent.
    broken: bool,
}

/// What bytes go through.
enum Link {
    /// The socket, as they are.
    Plain,
    /// The socket, encrypted.
    Tls(Box<Session>),
    /// A stream of another connection.
    Stream(StreamLink),
}

/// A stream of a connection of HTTP/2. The owner of the connection moves what is queued here to it, and says what became of it.
#[derive(Debug)]
pub struct StreamLink {
    /// The entry of the connection, in the table that the stream has an entry in.
    pub connection: u32,
    /// The stream's place in the connection.
    pub slot: u16,
    /// What is sent, and was not moved to the connection.
    pub output: Queue,
    /// Bytes that were moved, and wait there.
    pub waiting_bytes: usize,
    /// Pieces that wait there.
    pub waiting_pieces: usize,
    /// Bytes that the connection has sent.
    pub taken: u64,
    /// Nothing more is sent.
    pub is_finished: bool,
}

impl Transport {
    /// A transport on a socket that was just accepted or is connecting.
    #[must_use]
    pub fn new(socket: SocketId, session: Option<Box<Session>>) -> Self {
        Self::over(socket, session.map_or(Link::Plain, Link::Tls))
    }

    /// A transport on a stream: its entry's connection, and its place there.
    #[must_use]
    pub fn stream(connection: u32, slot: u16) -> Self {
        let link = StreamLink {
            connection,
            slot,
            output: Queue::default(),
            waiting_bytes: 0,
            waiting_pieces: 0,
            taken: 0,
            is_finished: false,
        };
        Self::over(SocketId::NONE, Link::Stream(link))
    }

    fn over(socket: SocketId, link: Link) -> Self {
        Self { socket, link, input: Queue::default(), paused: false, ended: false, broken: false }
    }

    /// The stream; None: it is a connection.
    #[must_use]
    pub fn stream_link(&self) -> Option<&StreamLink> {
        match &self.link {
            Link::Stream(link) => Some(link),
            Link::Plain | Link::Tls(_) => None,
        }
    }

    /// The same, to move what is queued, and to say what became of it.
    pub fn stream_link_mut(&mut self) -> Option<&mut StreamLink> {
        match &mut self.link {
            Link::Stream(link) => Some(link),
            Link::Plain | Link::Tls(_) => None,
        }
    }

    /// Begins a TLS handshake as the client; does nothing without TLS. The first message is sent when the socket is connected.
    ///
    /// # Errors
    /// When the message cannot be made; nothing more is read or sent.
    pub fn begin<D: Driver>(&mut self, ring: &mut Ring<D>) -> Result<(), tls::Error> {
        let Link::Tls(session) = &mut self.link else { return Ok(()) };
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
        let Link::Tls(session) = &mut self.link else {
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
        if matches!(self.link, Link::Plain) {
            return ring.send(self.socket, piece);
        }
        let mut content = Queue::default();
        content.push(ring.buffers.pieces(), piece);
        self.send(ring, &mut content);
    }

    /// Queues `content` for the peer, encrypted if there is TLS; not during the handshake of a server. That of a client lets it wait.
    pub fn send<D: Driver>(&mut self, ring: &mut Ring<D>, content: &mut Queue) {
        match &mut self.link {
            Link::Plain => ring.send_all(self.socket, content),
            Link::Tls(session) => {
                self.broken |= on_wire(ring, self.socket, |wire| session.send(wire, content)).is_err();
            }
            Link::Stream(link) => link.output.append(ring.buffers.pieces(), content),
        }
    }

    /// Queues TLS's close_notify (RFC 8446 section 6.1), which tells the peer that nothing was cut off.
    pub fn close_notify<D: Driver>(&mut self, ring: &mut Ring<D>) {
        let Link::Tls(session) = &mut self.link else { return };
        on_wire(ring, self.socket, |wire| session.finish(wire));
    }

    /// Sends close_notify if there is TLS, and FIN once everything queued was sent. Of a stream, END_STREAM.
    pub fn finish<D: Driver>(&mut self, ring: &mut Ring<D>) {
        if let Link::Stream(link) = &mut self.link
            && !std::mem::replace(&mut link.is_finished, true)
        {
            // The end has to be sent, too: until it was moved, it waits here.
            link.waiting_bytes += 1;
        }
        self.close_notify(ring);
        ring.finish(self.socket);
    }

    /// Stops or resumes receiving. A stream's peer is stopped by what lies in [`Transport::input`].
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
        match &self.link {
            Link::Tls(session) => Some(session),
            Link::Plain | Link::Stream(_) => None,
        }
    }

    /// Whether an incomplete TLS record was received.
    #[must_use]
    pub fn holds_part(&self) -> bool {
        self.session().is_some_and(Session::holds_part)
    }

    /// How many ordinary and how many large buffers are pinned at most by what was received and not read.
    #[must_use]
    pub fn held_buffers<D: Driver>(&self, ring: &Ring<D>) -> [usize; 2] {
        let [mut ordinary, mut large] = ring.buffers.pieces_by_size(&self.input);
        if let Some(session) = self.session() {
            ordinary += session.postponed().pieces();
            for part in session.parts() {
                *if ring.buffers.is_large(part) { &mut large } else { &mut ordinary } += 1;
            }
        }
        [ordinary, large]
    }

    /// Keeps bytes that were received during a handshake until there is time for it: [`Transport::receive`] goes on with them. Receiving is
    /// paused when they are many.
    pub fn postpone<D: Driver>(&mut self, ring: &mut Ring<D>, mut received: Queue) {
        let Link::Tls(session) = &mut self.link else { return self.input.append(ring.buffers.pieces(), &mut received) };
        session.postpone(&mut ring.buffers, &mut received);
        if HANDSHAKE_AHEAD.is_reached(session.postponed()) {
            self.set_paused(ring, true);
        }
    }

    /// Whether there are such bytes.
    #[must_use]
    pub fn is_postponed(&self) -> bool {
        self.session().is_some_and(|session| !session.postponed().is_empty())
    }

    /// Goes on with TLS, of which nothing has been received or sent yet; no byte is left in [`Transport::input`].
    pub fn speak_tls(&mut self, session: Box<Session>) {
        debug_assert!(matches!(self.link, Link::Plain) && self.input.is_empty());
        self.link = Link::Tls(session);
    }

    /// Drops the TLS session, so that a peer that has sent plain text can be answered in plain text.
    pub fn speak_plain_text(&mut self) {
        self.link = Link::Plain;
    }

    /// Bytes queued and not yet taken by the kernel.
    #[must_use]
    #[inline]
    pub fn unsent<D: Driver>(&self, ring: &Ring<D>) -> usize {
        match &self.link {
            Link::Plain => ring.unsent(self.socket),
            Link::Tls(_) => ring.unsent(self.socket) + self.waiting().map_or(0, Queue::bytes),
            Link::Stream(link) => link.output.bytes() + link.waiting_bytes,
        }
    }

    /// Number of pieces queued: an upper bound of the buffers that the queue pins.
    #[must_use]
    pub fn pinned<D: Driver>(&self, ring: &Ring<D>) -> usize {
        match &self.link {
            Link::Plain | Link::Tls(_) => ring.pinned(self.socket) + self.waiting().map_or(0, Queue::pieces),
            Link::Stream(link) => link.output.pieces() + link.waiting_pieces,
        }
    }

    /// What waits for the end of a client's handshake.
    #[inline(never)]
    fn waiting(&self) -> Option<&Queue> {
        self.session().and_then(Session::waiting)
    }

    /// Takes out what waits for the end of a client's handshake, of which nothing was sent; see [`Session::take_waiting`].
    pub fn take_waiting(&mut self) -> Option<Queue> {
        match &mut self.link {
            Link::Tls(session) => session.take_waiting(),
            Link::Plain | Link::Stream(_) => None,
        }
    }

    /// Bytes that the kernel has taken since the connection began, TLS records included.
    #[must_use]
    pub fn taken<D: Driver>(&self, ring: &Ring<D>) -> u64 {
        match &self.link {
            Link::Plain | Link::Tls(_) => ring.taken(self.socket),
            Link::Stream(link) => link.taken,
        }
    }

    /// Whether the queue is full, so that nothing should be added.
    #[must_use]
    #[inline]
    pub fn is_full<D: Driver>(&self, ring: &Ring<D>) -> bool {
        let limit = || ring.buffers.queue_limit();
        match &self.link {
            Link::Plain => ring.is_full(self.socket),
            Link::Tls(_) => {
                ring.is_full(self.socket) || self.waiting().is_some_and(|waiting| limit().is_reached(waiting))
            }
            Link::Stream(link) => {
                let QueueLimit { bytes, pieces } = limit();
                // There may be many streams.
                let bytes = bytes.min(limits::STREAM_QUEUE_BYTES);
                self.unsent(ring) >= bytes || link.output.pieces() + link.waiting_pieces >= pieces
            }
        }
    }

    /// The socket, for calls on the ring. A stream has none: the ring ignores calls for it.
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
        match &mut self.link {
            Link::Plain => {}
            Link::Tls(session) => session.drop_postponed(&mut ring.buffers),
            Link::Stream(link) => link.output.clear(ring.buffers.pieces()),
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
