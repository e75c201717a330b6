//! The end of a connection of HTTP/2: announced, complete, or because of an error. Not here: the end of its streams.

use super::h2::Http2;
use super::secure::is_due;
use super::{Downstream, Downstreams, Phase, Step};
use crate::event_log::{Level, log};
use crate::exchange::Engine;
use crate::forward::Body;
use crate::http2::{Error, ErrorCode};
use crate::limits;
use crate::runtime::Tick;
use crate::uring::Driver;

/// The data of the PING that goes with an announcement: its answer says that the client has read it.
const END_PING: [u8; 8] = *b"cairnend";

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It takes streams.
    Open,
    /// The client was told that it will end. Streams are taken until it answers, or until this time.
    Announced(Tick),
    /// No more streams are taken.
    Closing,
    /// The client has broken a rule, which the connection is told of next.
    Failed(Error),
}

impl Downstreams {
    /// Tells a client that its connection will end; it ends when its streams have.
    pub(super) fn announce_end<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let by = engine.ring.clock().deadline(limits::FIRST_REQUEST);
        let Some(http2) = self.http2(id).filter(|http2| http2.ending == Ending::Open) else { return };
        http2.ending = Ending::Announced(by);
        http2.connection.announce_end(&mut engine.ring.buffers, END_PING);
        self.dirty(id);
        self.arm(engine, id);
    }

    /// The same for all connections for which `which` holds.
    pub(super) fn announce_ends<D: Driver>(&mut self, engine: &mut Engine<D>, which: impl Fn(&Downstream) -> bool) {
        let some = self.table.iter().filter(|(_, connection)| connection.http2.is_some() && which(connection));
        let ids: Vec<_> = some.map(|(id, _)| id as u32).collect();
        ids.into_iter().for_each(|id| self.announce_end(engine, id));
    }

    /// Takes no more streams on a connection.
    pub(super) fn end_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let Some(http2) = self.http2(id) else { return };
        if matches!(http2.ending, Ending::Open | Ending::Announced(_)) {
            http2.ending = Ending::Closing;
            http2.connection.end(&mut engine.ring.buffers);
        }
        self.dirty(id);
    }

    /// A connection has waited for too long: for the end of a field section, or else for a stream, or for its client to know of its end.
    pub(super) fn expire_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, section: bool) {
        let step = if section {
            self.fail_http2(engine, id, Error::connection(ErrorCode::ProtocolError, "a field section took too long"))
        } else {
            self.end_http2(engine, id);
            self.end_if_done(engine, id)
        };
        match step {
            Step::Again => self.pump(engine, id),
            Step::Wait => self.arm(engine, id),
            Step::Gone => {}
        }
    }

    /// Takes in the answer to a PING.
    pub(super) fn take_pong<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, data: [u8; 8]) {
        let is_announced = self.http2(id).is_some_and(|http2| matches!(http2.ending, Ending::Announced(_)));
        if is_announced && data == END_PING {
            self.end_http2(engine, id);
        }
    }

    /// Ends a connection after as many requests as its listener allows, or its TLS key.
    pub(super) fn end_if_used_up<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let connection = &self.table[id as usize];
        let most = connection.spec(engine).requests;
        if most > 0 && connection.requests >= most || connection.is_worn() {
            self.end_http2(engine, id);
        }
    }

    /// Closes a connection that takes no more streams and has none, once all is sent.
    pub(super) fn end_if_done<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let Some(http2) = self.http2(id) else { return Step::Wait };
        match http2.ending {
            Ending::Failed(error) => self.fail_http2(engine, id, error),
            Ending::Closing if http2.connection.streams() == 0 => self.close_http2(engine, id),
            _ => Step::Wait,
        }
    }

    /// Ends a connection because of an error of its client, which it is told of. Its streams are cut.
    #[cold]
    pub(super) fn fail_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, error: Error) -> Step {
        engine.counters.http2_errors.add(error.code);
        self.log_http2(engine, id, error);
        let Some(mut http2) = self.table.get_mut(id as usize).and_then(|connection| connection.http2.take()) else {
            return Step::Wait;
        };
        self.remove_streams(engine, &mut http2);
        http2.connection.fail(&mut engine.ring.buffers, &error);
        let Some(connection) = self.table.get_mut(id as usize) else { return Step::Gone };
        connection.http2 = Some(http2);
        self.close_http2(engine, id)
    }

    /// Sends what is left, and closes the connection when the client has read it.
    fn close_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let Some(connection) = self.table.get_mut(id as usize) else { return Step::Gone };
        let Some(mut http2) = connection.http2.take() else { return Step::Wait };
        let mut out = crate::buffer::Queue::default();
        http2.connection.write(&mut engine.ring.buffers, 0, &mut out);
        http2.connection.clear(&mut engine.ring.buffers);
        connection.transport.send(&mut engine.ring, &mut out);
        // What the client still sends is read and dropped, so that it can read what it was told.
        connection.current.body = Body::Close;
        connection.closes_at = Some(engine.ring.clock().deadline(limits::FIRST_REQUEST));
        connection.enter(Phase::Flush, engine.ring.clock().tick());
        Step::Again
    }

    /// Logs why a connection has failed, at most once a second for each listener.
    fn log_http2<D: Driver>(&mut self, engine: &Engine<D>, id: u32, error: Error) {
        let connection = &self.table[id as usize];
        if !is_due(&mut self.http2_logged, connection.listener, engine.ring.clock().now()) {
            return;
        }
        let (listener, code, reason) = (&connection.spec(engine).name, error.code.name(), error.reason);
        let client = std::str::from_utf8(connection.peer.text()).unwrap_or_default();
        let level = if error.code == ErrorCode::EnhanceYourCalm { Level::Warn } else { Level::Info };
        log(level, format_args!("listener {listener}, client {client}: HTTP/2 connection ended with {code}: {reason}"));
    }

    fn http2(&mut self, id: u32) -> Option<&mut Http2> {
        self.table.get_mut(id as usize)?.http2.as_deref_mut()
    }
}
