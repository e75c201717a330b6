//! TLS of client connections: received bytes, handshakes, and failures of TLS. Not here: the protocol (`tls`).

use std::time::Duration;

use super::end::Outcome;
use super::{Current, Downstream, Downstreams, Phase, Step};
use crate::buffer::Queue;
use crate::event_log::{Level, log};
use crate::exchange::{Engine, Failure};
use crate::forward::Body;
use crate::id::ListenerId;
use crate::limits;
use crate::telemetry::HandshakeFailure;
use crate::tls::{self, Distrust, Session};
use crate::uring::Driver;

/// The first byte of TLS: the type of a record with a handshake message (RFC 8446 section 5.1). No request of HTTP begins so.
const TLS_HANDSHAKE: u8 = 0x16;
/// How often a listener logs at most why a client is not believed, and that one speaks in the clear.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

impl Downstreams {
    /// Takes in received bytes, through TLS if the listener has it.
    pub(super) fn receive<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, mut received: Queue) {
        if self.table[id as usize].undecided && !self.choose_protocol(engine, id, &received) {
            return received.clear(engine.ring.buffers.pieces());
        }
        let connection = &mut self.table[id as usize];
        if connection.phase == Phase::ProxyHeader {
            return self.receive_proxied(engine, id, received);
        }
        if connection.phase == Phase::Handshake {
            return self.postpone_handshake(engine, id, received);
        }
        self.receive_content(engine, id, received);
    }

    /// Takes in received bytes, whose turn it is.
    pub(super) fn receive_content<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, received: Queue) {
        let connection = &mut self.table[id as usize];
        match connection.transport.receive(&mut engine.ring, received) {
            Ok(None) => self.pump(engine, id),
            Ok(Some(agreement)) => {
                engine.counters.handshake(agreement.tls13, agreement.resumed);
                connection.log.handshake = Some(engine.ring.clock().now().saturating_sub(connection.log.begun_at));
                connection.enter(Phase::Head, engine.ring.clock().tick());
                let listener = connection.listener;
                self.end_handshake(listener);
                self.table[id as usize].closes_at = self.first_request_by(engine);
                if agreement.http2 {
                    self.begin_http2(engine, id);
                }
                self.pump(engine, id);
            }
            Err(error) => self.fail_tls(engine, id, error),
        }
    }

    /// Decides by its first byte whether a client of a permissive listener speaks TLS. False: too many handshakes are under way; the
    /// connection is closed.
    fn choose_protocol<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, received: &Queue) -> bool {
        let Some(&first) = received.front(engine.ring.buffers.pieces()).and_then(<[u8]>::first) else { return true };
        let connection = &mut self.table[id as usize];
        connection.undecided = false;
        let listener = connection.listener;
        let snapshot = connection.snapshot(engine).clone();
        // The listener may speak TLS alone by now, or none at all.
        let Some(server) = snapshot.tls(listener) else { return true };
        if first != TLS_HANDSHAKE && server.is_permissive() {
            engine.counters.count_plain_text(listener);
            self.log_plain_text(engine, id);
            return true;
        }
        if !self.admits_handshake(engine, listener, snapshot.listener(listener).handshakes) {
            self.remove(engine, id, false);
            return false;
        }
        let connection = &mut self.table[id as usize];
        connection.transport.speak_tls(Box::new(Session::server(server)));
        connection.peer.secure = true;
        connection.begun = None;
        connection.enter(Phase::Handshake, engine.ring.clock().tick());
        self.begin_handshake(engine, id);
        true
    }

    /// Waits for the end of the handshake, or closes the connection if the client has sent FIN and all before it was looked at.
    pub(super) fn shake_hands<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let transport = &self.table[id as usize].transport;
        if !transport.has_ended() || transport.is_postponed() {
            return Step::Wait;
        }
        self.remove(engine, id, false);
        Step::Gone
    }

    /// Closes an idle connection, after TLS's close_notify.
    pub(super) fn close_idle<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let connection = &mut self.table[id as usize];
        // Who asks for nothing is not waited for as long as who has just been answered.
        connection.closes_at = Some(engine.ring.clock().deadline(limits::FIRST_REQUEST));
        connection.enter(Phase::Flush, engine.ring.clock().tick());
        self.pump(engine, id);
    }

    /// Ends a connection on which TLS has failed. The client was sent an alert; if it has sent plain HTTP, it is answered in plain
    /// HTTP.
    fn fail_tls<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, error: tls::Error) {
        self.log_distrust(engine, id, error);
        let connection = &mut self.table[id as usize];
        connection.count_handshake(engine);
        if let Some(record) = &mut connection.current.record {
            record.failure = Some(Failure::ClientGone);
        }
        connection.end_exchange(engine, Outcome::Cut);
        connection.transport.input.clear(engine.ring.buffers.pieces());
        // The body counts as unread, so that closing waits until the client has had time to read the answer.
        connection.current = Current { body: Body::Close, ..Current::default() };
        let before = connection.phase;
        connection.enter(Phase::Flush, engine.ring.clock().tick());
        if before == Phase::Handshake {
            let listener = connection.listener;
            self.end_handshake(listener);
        }
        let connection = &mut self.table[id as usize];
        if error == tls::Error::PlainText {
            connection.transport.speak_plain_text();
            connection.peer.secure = false;
            if self.refuse(engine, id, Failure::RequestWithoutTls) == Step::Again {
                self.pump(engine, id);
            }
        } else if connection.transport.unsent(&engine.ring) == 0 {
            self.remove(engine, id, false);
        } else {
            self.pump(engine, id);
        }
    }
}

impl Downstreams {
    /// Logs why the certificate of a client is not believed, or that it has none, at most once a second for each listener.
    fn log_distrust<D: Driver>(&mut self, engine: &Engine<D>, id: u32, error: tls::Error) {
        let connection = &self.table[id as usize];
        let Some(session) = connection.transport.session().filter(|session| session.distrust().is_some()) else {
            return;
        };
        if !is_due(&mut self.distrust_logged, connection.listener, engine.ring.clock().now()) {
            return;
        }
        let (listener, reason) = (&connection.spec(engine).name, session.reason(error));
        match std::str::from_utf8(connection.peer.text()) {
            Ok(client) if !client.is_empty() => {
                log(Level::Warn, format_args!("listener {listener}, client {client}: TLS failed: {reason}"));
            }
            _ => log(Level::Warn, format_args!("listener {listener}: TLS failed: {reason}")),
        }
    }

    /// Logs a client that speaks in the clear to a permissive listener, at most once a second for each.
    fn log_plain_text<D: Driver>(&mut self, engine: &Engine<D>, id: u32) {
        let connection = &self.table[id as usize];
        if is_due(&mut self.plain_text_logged, connection.listener, engine.ring.clock().now()) {
            let listener = &connection.spec(engine).name;
            let client = std::str::from_utf8(connection.peer.text()).unwrap_or_default();
            log(Level::Info, format_args!("listener {listener}: client {client} speaks plain text"));
        }
    }
}

/// Whether something may be logged of a listener again; from now on, only after [`LOG_INTERVAL`].
pub(super) fn is_due(logged: &mut Vec<Duration>, listener: ListenerId, now: Duration) -> bool {
    let index = listener.index();
    if logged.len() <= index {
        logged.resize(index + 1, Duration::ZERO);
    }
    let due = now >= logged[index];
    if due {
        logged[index] = now + LOG_INTERVAL;
    }
    due
}

impl Downstream {
    /// Counts a failed handshake, if one has begun and is not complete.
    pub(super) fn count_handshake<D: Driver>(&self, engine: &Engine<D>) {
        let Some(session) = self.transport.session().filter(|session| session.has_begun()) else { return };
        if self.phase == Phase::Handshake {
            engine.counters.fail_handshake(match session.distrust() {
                Some(Distrust::Missing) => HandshakeFailure::NoCertificate,
                Some(_) => HandshakeFailure::Certificate,
                None => HandshakeFailure::Other,
            });
        }
    }

    /// Whether its TLS key has sealed so many records that the connection has to be closed after the current exchange.
    pub(super) fn is_worn(&self) -> bool {
        self.transport.session().is_some_and(Session::is_worn)
    }
}
