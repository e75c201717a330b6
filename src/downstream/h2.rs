//! HTTP/2 on the client's side: a connection, whose streams are entries of their own in the same table. A stream carries the text of
//! HTTP/1.1, so that `h1` serves it. Not here: frames and windows (`http2::connection`), the end of a connection (`h2_end`).

use super::end::Outcome;
use super::h2_end::Ending;
use super::log::LogState;
use super::rate::RateMeter;
use super::{Admission, Current, Downstream, Downstreams, Phase, Step, StreamState};
use crate::buffer::{Buffers, Queue};
use crate::exchange::{Engine, Failure, RequestId};
use crate::http2::abuse::AbuseLimits;
use crate::http2::connection::{Connection, Moved, Received, Slot, Spec};
use crate::http2::head::{HeadError, Scheme};
use crate::http2::hpack::SectionLimits;
use crate::http2::{ErrorCode, PREFACE, Settings, Side};
use crate::id::{Owner, Timer};
use crate::limits;
use crate::runtime::{Stall, Tick};
use crate::snapshot::{Http2Spec, ListenerSpec};
use crate::transport::{StreamLink, Transport};
use crate::uring::Driver;

/// What a connection of HTTP/2 has besides its transport.
pub(super) struct Http2 {
    pub(super) connection: Connection,
    /// Since when a field section is not complete.
    pub(super) section: Option<Tick>,
    pub(super) ending: Ending,
    /// When its client is told to make another one.
    pub(super) ages_at: Option<Tick>,
    /// How much was known of origins when it was looked whether one takes an extended CONNECT.
    known_tunnels: u32,
    /// It is in the list of those that are to be written.
    is_dirty: bool,
}

impl Http2 {
    /// As much of the client's preface as looks like a request line of HTTP/1.1: what follows is checked by the connection.
    const LINE: usize = b"PRI * HTTP/2.0\r\n".len();

    /// Tells the client how many streams it may have: fewer if the worker has too much to do, or too little memory.
    fn tell_streams(&mut self, buffers: &mut Buffers, is_short: bool) {
        /// What is left of the streams then.
        const PART: u16 = 8;
        let most = self.connection.spec_streams();
        self.connection.tell_streams(buffers, if is_short { most / PART } else { most });
    }

    /// Whether the client's preface may begin with these bytes.
    pub(super) fn is_begun_by(bytes: &[u8]) -> bool {
        let len = bytes.len().min(PREFACE.len());
        len >= Self::LINE && bytes.get(..len) == PREFACE.get(..len)
    }

    /// Whether these bytes are too few of the client's preface to say so.
    pub(super) fn may_be_begun_by(bytes: &[u8]) -> bool {
        bytes.len() < Self::LINE && PREFACE.starts_with(bytes)
    }
}

impl Http2Spec {
    /// What a connection of a listener is made with.
    fn connection(&self, listener: &ListenerSpec, takes_tunnels: bool) -> Spec {
        let list_bytes = listener.header_bytes.saturating_add(32 * (listener.header_count + limits::PSEUDO_FIELDS));
        let list_bytes = u32::try_from(list_bytes).unwrap_or(u32::MAX);
        let settings = Settings {
            enable_push: false,
            max_concurrent_streams: u32::from(self.streams),
            initial_window_size: self.window,
            max_header_list_size: list_bytes,
            no_rfc7540_priorities: true,
            // Whether an origin switches to the protocol, it says itself.
            enable_connect_protocol: takes_tunnels,
            ..Settings::default()
        };
        Spec {
            side: Side::Server,
            settings,
            connection_window: self.connection_window,
            streams: self.streams,
            section: SectionLimits {
                list_bytes,
                fields: u32::try_from(listener.header_count + limits::PSEUDO_FIELDS).unwrap_or(u32::MAX),
            },
            abuse: AbuseLimits::default(),
        }
    }
}

impl Downstreams {
    /// Goes on with HTTP/2, if the listener has it. What was received begins with the preface.
    #[cold]
    pub(super) fn begin_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> bool {
        let draining = self.draining;
        let connection = &mut self.table[id as usize];
        let listener = connection.listener;
        let takes_tunnels = engine.takes_tunnels(connection.snapshot(engine), listener);
        let spec = connection.spec(engine);
        let Some(http2) = spec.http2 else { return false };
        let spec = http2.connection(spec, takes_tunnels);
        // Connections that were made at once do not end at once.
        let part = f64::from(engine.random()) / f64::from(u32::MAX);
        let ages_at = http2.max_age.map(|age| engine.ring.clock().deadline(age.mul_f64(0.9 + part / 5.0)));
        let connection = &mut self.table[id as usize];
        let now = engine.ring.clock().tick();
        let http2 = Http2 {
            connection: Connection::new(&spec, &mut engine.ring.buffers),
            section: Some(now),
            ending: Ending::Open,
            ages_at,
            known_tunnels: engine.known_tunnels(),
            is_dirty: false,
        };
        connection.current = Current::default();
        (connection.begun, connection.scanned, connection.closes_at) = (None, 0, None);
        connection.http2 = Some(Box::new(http2));
        connection.enter(Phase::Http2, now);
        let leaves = draining || connection.last_snapshot.is_some();
        self.dirty(id);
        if leaves {
            self.announce_end(engine, id);
        }
        true
    }

    /// Reads what was received on a connection, and serves what came on its streams.
    pub(super) fn read_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        // The stream whose text was received last; it is pumped when something else comes.
        let mut last = None;
        loop {
            let Some(connection) = self.table.get_mut(id as usize) else { return Step::Gone };
            let Some(http2) = &mut connection.http2 else { return Step::Wait };
            let now = engine.ring.clock().now();
            let buffers = &mut engine.ring.buffers;
            let read = http2.connection.read(buffers, &mut connection.transport.input, &mut engine.trailers, now);
            let entry = match &read {
                Ok(Some(Received::Text { entry, .. } | Received::End { entry, .. })) => Some(*entry),
                _ => None,
            };
            if let Some(other) = last.filter(|_| entry != last) {
                last = None;
                self.pump(engine, other);
            }
            match read {
                Ok(Some(Received::Text { entry, lease, .. })) => {
                    last = Some(entry);
                    let Some(stream) = self.table.get_mut(entry as usize) else { continue };
                    stream.transport.input.push(engine.ring.buffers.pieces(), lease);
                }
                Ok(Some(Received::End { entry, .. })) => {
                    last = Some(entry);
                    let Some(stream) = self.table.get_mut(entry as usize) else { continue };
                    stream.transport.end();
                }
                Ok(Some(received)) => self.take_event(engine, id, received),
                Ok(None) => return self.after_reading(engine, id),
                Err(error) => return self.fail_http2(engine, id, error),
            }
        }
    }

    /// Takes in what was received, but for content.
    fn take_event<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, received: Received) {
        match received {
            Received::Request { slot } => self.begin_stream(engine, id, slot),
            Received::Reset { entry, .. } => self.remove(engine, entry, true),
            Received::Pong(data) => self.take_pong(engine, id, data),
            // The client opens no more streams; those that there are go on.
            Received::GoAway { .. } | Received::Settings => self.dirty(id),
            Received::Response { .. } | Received::Text { .. } | Received::End { .. } => {}
        }
        self.dirty(id);
    }

    /// Everything that was received has been read.
    fn after_reading<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        self.dirty(id);
        let connection = &mut self.table[id as usize];
        let Some(http2) = &mut connection.http2 else { return Step::Wait };
        let within = http2.connection.is_within_section() || !http2.connection.has_peer_settings();
        let now = engine.ring.clock().tick();
        http2.section = if within { http2.section.or(Some(now)) } else { None };
        // A worker with too much to do asks each client for less at once.
        let is_short = engine.is_overloaded() || engine.ring.buffers.is_scarce();
        http2.tell_streams(&mut engine.ring.buffers, is_short);
        if connection.transport.has_ended() {
            // Nobody is there to read what would be answered.
            self.remove(engine, id, false);
            return Step::Gone;
        }
        // A client that sends requests and reads no answers has to wait.
        let unread = connection.transport.unsent(&engine.ring);
        connection.transport.set_paused(&mut engine.ring, unread > limits::QUEUE_BYTES + limits::PIPELINE_BYTES);
        self.end_if_done(engine, id)
    }

    /// Begins the exchange of a request.
    fn begin_stream<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, slot: Slot) {
        let connection = &mut self.table[id as usize];
        let head_limits = connection.spec(engine).head_limits();
        let Some(http2) = &mut connection.http2 else { return };
        let buffers = &engine.ring.buffers;
        let finished = http2.connection.finish_request(buffers, slot, &head_limits, &mut self.request);
        connection.requests = connection.requests.saturating_add(1);
        let stream = self.add_stream(engine, id, slot);
        self.end_if_used_up(engine, id);
        let step = match finished {
            Ok((received, lease)) => {
                let length = lease.len();
                self.table[stream as usize].stream.is_tunnel = received.is_tunnel;
                let step = self.begin(engine, stream, lease, length);
                if let Some(exchange) = self.table.get(stream as usize).and_then(|stream| stream.phase.exchange()) {
                    self.pass_never_indexed(engine, stream, exchange);
                }
                step
            }
            Err(error) => self.refuse_head(engine, id, stream, error),
        };
        if step != Step::Gone {
            self.pump(engine, stream);
        }
    }

    /// Makes the entry of a stream.
    fn add_stream<D: Driver>(&mut self, engine: &Engine<D>, id: u32, slot: Slot) -> u32 {
        let now = engine.ring.clock();
        let connection = &mut self.table[id as usize];
        let mut log = LogState::at(now.now());
        log.handshake = connection.log.handshake.take();
        let stream = Downstream {
            transport: Transport::stream(id, slot.number()),
            serial: connection.serial,
            listener: connection.listener,
            last_snapshot: connection.last_snapshot.clone(),
            version: connection.version,
            peer: connection.peer,
            arrival: None,
            admission: Admission::Stream,
            phase: Phase::Head,
            undecided: false,
            passed_on: false,
            since: now.tick(),
            scanned: 0,
            begun: None,
            log,
            closes_at: None,
            reading: Stall::default(),
            requests: 0,
            download_rate: RateMeter::default(),
            id: RequestId::default(),
            current: Current::default(),
            http2: None,
            stream: StreamState::default(),
        };
        let entry = self.table.insert(stream) as u32;
        if let Some(http2) = self.table.get_mut(id as usize).and_then(|connection| connection.http2.as_mut()) {
            http2.connection.accept(slot, entry);
        }
        entry
    }

    /// Answers a request whose head is malformed or too large.
    fn refuse_head<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, stream: u32, error: HeadError) -> Step {
        let now = engine.ring.clock().now();
        let counted = self.table[id as usize].http2.as_mut().map_or(Ok(()), |http2| http2.connection.count_reset(now));
        if let Err(error) = counted {
            // The caller goes on with the connection, which then finds that it has failed.
            self.table[id as usize].http2.iter_mut().for_each(|http2| http2.ending = Ending::Failed(error));
        }
        self.refuse(engine, stream, Failure::of_head(error))
    }

    /// Has fields of a request that came never indexed go on like that. Does nothing for a request of HTTP/1.1.
    pub(super) fn pass_never_indexed<D: Driver>(&self, engine: &mut Engine<D>, id: u32, exchange: u32) {
        let link = self.table.get(id as usize).and_then(|stream| stream.transport.stream_link());
        let carrier = |link: &StreamLink| self.table.get(link.connection as usize)?.http2.as_ref();
        let names = link.and_then(|link| Some(carrier(link)?.connection.came_never_indexed(Slot::of(link.slot))));
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            engine.send_never_indexed(exchange, names);
        }
    }

    /// Remembers that something may have to be sent on a stream, or more may be received.
    pub(super) fn touch(&mut self, id: u32) {
        let Some(stream) = self.table.get_mut(id as usize) else { return };
        if stream.transport.stream_link().is_some() && !stream.stream.is_touched {
            stream.stream.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Remembers that something may have to be written on a connection.
    pub(super) fn dirty(&mut self, id: u32) {
        let Some(http2) = self.table.get_mut(id as usize).and_then(|connection| connection.http2.as_mut()) else {
            return;
        };
        if !http2.is_dirty {
            http2.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Sends all that waits on streams: once a turn, so that one send is enough for a connection.
    /// Returns whether there was any.
    pub fn flush_streams<D: Driver>(&mut self, engine: &mut Engine<D>) -> bool {
        let any = !self.touched.is_empty() || !self.dirty.is_empty();
        loop {
            let mut at = 0;
            while let Some(&stream) = self.touched.get(at) {
                at += 1;
                self.move_output(engine, stream);
            }
            self.touched.clear();
            let Some(connection) = self.dirty.pop() else { return any };
            self.write_http2(engine, connection);
        }
    }

    /// Moves what was queued on a stream to its connection.
    fn move_output<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let Some(stream) = self.table.get_mut(id as usize) else { return };
        stream.stream.is_touched = false;
        let held = stream.transport.input.bytes();
        let scheme = if stream.peer.secure { Scheme::Https } else { Scheme::Http };
        let never_indexed = stream.stream.never_indexed;
        let Some(link) = stream.transport.stream_link_mut() else { return };
        let (carrier, slot, ended) = (link.connection, Slot::of(link.slot), link.is_finished);
        let mut output = std::mem::take(&mut link.output);
        let Some(http2) = self.table.get_mut(carrier as usize).and_then(|carrier| carrier.http2.as_mut()) else {
            return output.clear(engine.ring.buffers.pieces());
        };
        let buffers = &mut engine.ring.buffers;
        http2.connection.freed(buffers, slot, held);
        http2.connection.send_never_indexed(slot, never_indexed);
        let pushed = http2.connection.push(buffers, slot, &mut output, ended, scheme);
        let Some(link) = self.table.get_mut(id as usize).and_then(|stream| stream.transport.stream_link_mut()) else {
            return output.clear(engine.ring.buffers.pieces());
        };
        link.output = output;
        match pushed {
            Ok(backlog) => (link.waiting_bytes, link.waiting_pieces) = (backlog.bytes, backlog.pieces),
            Err(_) => self.remove(engine, id, true),
        }
        self.dirty(carrier);
    }

    /// Tells a client that an extended CONNECT is taken, once an origin is known that takes it.
    fn tell_tunnels<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let known = engine.known_tunnels();
        let Some(connection) = self.table.get_mut(id as usize) else { return };
        let Some(http2) = connection.http2.as_mut().filter(|http2| http2.known_tunnels != known) else { return };
        http2.known_tunnels = known;
        if engine.takes_tunnels(connection.snapshot(engine), connection.listener)
            && let Some(http2) = &mut connection.http2
        {
            http2.connection.take_tunnels(&mut engine.ring.buffers);
        }
    }

    /// Writes what a connection has to send, and tells its streams what was sent.
    fn write_http2<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        self.tell_tunnels(engine, id);
        let Some(connection) = self.table.get_mut(id as usize) else { return };
        let unsent = connection.transport.unsent(&engine.ring);
        let Some(http2) = &mut connection.http2 else { return };
        http2.is_dirty = false;
        let room = engine.ring.buffers.queue_limit().bytes.saturating_sub(unsent);
        let room = if connection.transport.is_full(&engine.ring) { 0 } else { room };
        let mut out = Queue::default();
        http2.connection.write(&mut engine.ring.buffers, room, &mut out);
        if http2.connection.is_broken() {
            out.clear(engine.ring.buffers.pieces());
            return self.remove(engine, id, true);
        }
        connection.transport.send(&mut engine.ring, &mut out);
        while let Some(http2) = self.table.get_mut(id as usize).and_then(|connection| connection.http2.as_mut())
            && let Some(Moved { entry, sent, backlog, .. }) = http2.connection.next_moved()
        {
            let Some(stream) = self.table.get_mut(entry as usize) else { continue };
            let Some(link) = stream.transport.stream_link_mut() else { continue };
            (link.waiting_bytes, link.waiting_pieces) = (backlog.bytes, backlog.pieces);
            link.taken += u64::from(sent);
            if backlog.bytes == 0 {
                stream.download_rate.pause(engine.ring.clock().tick());
            }
            self.pump(engine, entry);
        }
        if self.table.contains(id as usize) {
            match self.end_if_done(engine, id) {
                Step::Again => self.pump(engine, id),
                Step::Wait => self.arm(engine, id),
                Step::Gone => {}
            }
        }
    }

    /// Ends the entry of a stream: its exchange, and what was not sent.
    pub(super) fn remove_stream<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        id: u32,
        mut stream: Downstream,
        code: ErrorCode,
    ) {
        if let Some(record) = &mut stream.current.record {
            record.failure.get_or_insert(Failure::ClientGone);
        }
        stream.end_exchange(engine, Outcome::Cut);
        engine.unbind(id);
        engine.ring.set_timer(Timer::Connection(Owner::Downstream(id)), None);
        let Some((carrier, slot)) = stream.transport.stream_link().map(|link| (link.connection, Slot::of(link.slot)))
        else {
            return;
        };
        stream.transport.close(&mut engine.ring, false);
        let Some(connection) = self.table.get_mut(carrier as usize) else { return };
        let now = engine.ring.clock().tick();
        if let Some(http2) = &mut connection.http2 {
            http2.connection.close(&mut engine.ring.buffers, slot, code);
            if http2.connection.streams() == 0 {
                connection.since = now;
            }
        }
        self.dirty(carrier);
    }

    /// Ends all streams of a connection that is about to end, and gives back what it holds.
    pub(super) fn remove_streams<D: Driver>(&mut self, engine: &mut Engine<D>, http2: &mut Http2) {
        while let Some(entry) = http2.connection.first_entry() {
            let Some(stream) = self.table.try_remove(entry as usize) else {
                debug_assert!(false, "the entry of a stream lives as long as the stream");
                break;
            };
            let slot = stream.transport.stream_link().map(|link| Slot::of(link.slot));
            self.remove_stream(engine, entry, stream, ErrorCode::Cancel);
            if let Some(slot) = slot {
                http2.connection.drop_stream(&mut engine.ring.buffers, slot);
            }
        }
    }
}

impl Downstream {
    /// Whether a preface of HTTP/2 may come now: as the first thing, in the clear. Over TLS the protocol was agreed on before.
    pub(super) fn may_begin_http2(&self) -> bool {
        self.requests == 0 && self.transport.session().is_none() && !self.is_stream()
    }

    /// Whether it is a stream of a connection.
    pub(super) fn is_stream(&self) -> bool {
        self.transport.stream_link().is_some()
    }

    /// Has fields of the response that came never indexed go on like that. Does nothing for a client of HTTP/1.1.
    pub(super) fn note_never_indexed<D: Driver>(&mut self, engine: &Engine<D>, exchange: u32) {
        if self.is_stream() {
            self.stream.never_indexed.extend(engine.came_never_indexed(exchange));
        }
    }
}
