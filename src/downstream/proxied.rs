//! Connections that a proxy in front passes on with a PROXY header, which stands before everything else, TLS too. Not here: what a
//! header looks like (`proxy_protocol`).

use super::{Arrival, Downstreams, Phase, Step};
use crate::buffer::Queue;
use crate::exchange::Engine;
use crate::forward::join;
use crate::proxy_protocol::{Header, Parsed, parse};
use crate::snapshot::{ProxyProtocol, SnapshotRef};
use crate::telemetry::ProxyRefusal;
use crate::tls;
use crate::uring::Driver;

/// What became of the bytes before a request or a handshake.
enum Preface {
    /// More are awaited.
    Partial,
    /// They are over; what follows them is the client's.
    Over,
    /// The connection is closed.
    Refused(ProxyRefusal),
}

impl Downstreams {
    /// Takes in bytes that may belong to a PROXY header, and what follows it.
    #[cold]
    pub(super) fn receive_proxied<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, mut received: Queue) {
        let connection = &mut self.table[id as usize];
        connection.transport.input.append(engine.ring.buffers.pieces(), &mut received);
        match self.read_proxy_header(engine, id) {
            Preface::Partial => self.arm(engine, id),
            Preface::Over => self.after_proxy_header(engine, id),
            Preface::Refused(reason) => self.refuse_proxied(engine, id, reason),
        }
    }

    /// Waits for the end of a PROXY header; closes the connection if the peer has sent FIN before that. The bytes of a header are handled
    /// as they are received.
    pub(super) fn await_proxy_header<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &self.table[id as usize];
        if !connection.transport.has_ended() {
            return Step::Wait;
        }
        // Who sends nothing only looks whether somebody listens.
        match connection.transport.input.is_empty() {
            true => self.remove(engine, id, false),
            false => self.refuse_proxied(engine, id, ProxyRefusal::Incomplete),
        }
        Step::Gone
    }

    /// Closes a connection because of its PROXY header.
    pub(super) fn refuse_proxied<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, reason: ProxyRefusal) {
        engine.counters.refuse_proxied(reason);
        self.remove(engine, id, true);
    }

    /// Reads the header off the bytes that were received.
    fn read_proxy_header<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Preface {
        loop {
            let connection = &mut self.table[id as usize];
            let buffers = &mut engine.ring.buffers;
            let Some(mut lease) = connection.transport.input.pop(buffers.pieces()) else { return Preface::Partial };
            let parsed = parse(lease.bytes());
            let over = match parsed {
                Ok(Parsed::Header(header, length)) => {
                    self.apply_proxy_header(engine, id, &header);
                    lease.advance(length);
                    Some(Preface::Over)
                }
                Ok(Parsed::Absent) => match self.table[id as usize].spec(engine).proxy_protocol {
                    ProxyProtocol::Require => Some(Preface::Refused(ProxyRefusal::Missing)),
                    ProxyProtocol::Off | ProxyProtocol::Optional => Some(Preface::Over),
                },
                Ok(Parsed::Partial) => None,
                Err(_) => Some(Preface::Refused(ProxyRefusal::Malformed)),
            };
            let buffers = &mut engine.ring.buffers;
            let input = &mut self.table[id as usize].transport.input;
            input.push_front(buffers.pieces(), lease);
            if let Some(over) = over {
                return over;
            }
            match join(buffers, input) {
                Ok(true) => {}
                Ok(false) => return Preface::Partial,
                Err(_) => return Preface::Refused(ProxyRefusal::Incomplete),
            }
        }
    }

    /// The client is whom the header names, for everything that asks for its address.
    fn apply_proxy_header<D: Driver>(&mut self, engine: &Engine<D>, id: u32, header: &Header<'_>) {
        let connection = &self.table[id as usize];
        let mut peer = match header.source {
            Some(source) => connection.spec(engine).peer(Some(source)),
            None => connection.peer,
        };
        // What a client says whom the proxy cannot name is not what the proxy says.
        peer.is_unnamed = header.is_unnamed;
        peer.trusted &= !header.is_unnamed;
        peer.secure |= header.tls;
        let connection = &mut self.table[id as usize];
        connection.peer = peer;
        if header.destination.is_some() || !header.authority.is_empty() {
            let local = engine.ring.local_of(connection.transport.socket());
            let arrival = connection.arrival.get_or_insert_with(|| Arrival::at(local));
            arrival.destination = header.destination.or(arrival.destination);
            arrival.authority = header.authority.into();
        }
    }

    /// Goes on with what follows the header: TLS, a request, or what is passed on.
    fn after_proxy_header<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let connection = &self.table[id as usize];
        let (listener, handshakes) = (connection.listener, connection.spec(engine).handshakes);
        let server = connection.snapshot(engine).tls(listener).map(tls::Server::is_permissive);
        if server == Some(false) && !self.admits_handshake(engine, listener, handshakes) {
            return self.remove(engine, id, false);
        }
        let connection = &mut self.table[id as usize];
        let now = engine.ring.clock().tick();
        let mut rest = std::mem::take(&mut connection.transport.input);
        let strict = connection.snapshot(engine).tls(listener).filter(|server| !server.is_permissive());
        match strict.map(|server| Box::new(tls::Session::server(server))) {
            Some(session) => {
                connection.transport.speak_tls(session);
                connection.enter(Phase::Handshake, now);
                self.begin_handshake(engine, id);
            }
            None => {
                // On a permissive listener, the client's first byte decides.
                connection.undecided = server == Some(true);
                let protocol = connection.spec(engine).protocol;
                connection.enter(Phase::of(protocol), now);
                self.table[id as usize].closes_at = self.first_request_by(engine);
            }
        }
        match rest.is_empty() {
            true => {
                rest.clear(engine.ring.buffers.pieces());
                self.pump(engine, id);
            }
            false => self.receive(engine, id, rest),
        }
    }
}

impl super::Downstream {
    /// Finds out where its client has connected to, if endpoints may be told of that and were not when the connection was accepted. Returns
    /// the snapshot that says so, for the next request.
    pub(super) fn note_arrival<D: Driver>(&mut self, engine: &Engine<D>) -> SnapshotRef {
        let snapshot = self.snapshot(engine).clone();
        if snapshot.tells_of_clients && self.arrival.is_none() {
            self.arrival = Some(Arrival::at(engine.ring.local_of(self.transport.socket())));
        }
        snapshot
    }

    /// Where its client has connected to, and what a proxy in front says of it.
    pub(super) fn arrival(&self) -> Option<&Arrival> {
        self.arrival.as_deref()
    }
}
