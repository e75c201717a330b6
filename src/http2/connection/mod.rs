//! One connection of HTTP/2, of either side: states of streams, windows, field sections, what is sent and when. Not here: sockets,
//! clocks and timers, and what a message means. The owner reads received bytes with [`Connection::read`], gives the text of messages
//! to [`Connection::push`], and writes once a turn with [`Connection::write`].
//!
//! # A stream is a pipe of HTTP/1.1 text
//!
//! What the peer sends on a stream comes as the text of a message of HTTP/1.1: a head (`head`), then content, in chunks where no
//! length was given, so that a message that breaks off is one without a last chunk. What is sent on a stream is such text, too: the
//! head says where the message ends, chunk lines are removed, and the fields behind the last chunk become trailers. So everything
//! that is done with messages is written once, for both versions.
//!
//! Content is not copied: the line of a chunk is written where the head of the DATA frame was, and the other way round.
//!
//! # Windows
//!
//! The credit of the connection is given back when content has left the connection for its stream, that of the stream when the owner
//! says so ([`Connection::freed`]): a stream that nobody reads stalls no other one.

mod message;
mod outbox;
mod read;
mod resets;
mod section;
mod send;
mod stream;
#[cfg(test)]
mod tests;

use core::time::Duration;

use crate::buffer::{Buffers, Lease};
use crate::http2::abuse::{AbuseCounter, AbuseLimits};
use crate::http2::flow::{CONNECTION_WINDOW, ReceiveWindow, SendWindow};
use crate::http2::head::NeverIndexed;
use crate::http2::hpack::{Decoder, Encoder, SectionLimits, TABLE_BYTES, Table, table_memory};
use crate::http2::settings::FRAME_SIZE_MIN;
use crate::http2::{Error, ErrorCode, FrameReader, PREFACE, Part, Preface, Setting, Settings, Side, StreamId};
pub use message::{Backlog, BadText};
use outbox::Outbox;
use section::Section;
pub use send::Moved;
use stream::Streams;
pub use stream::{Asked, Slot};

/// Bytes of the encoder's dynamic table. Smaller than what peers allow: fields that repeat within a connection are few.
const ENCODER_TABLE_BYTES: usize = 1024;

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The own side.
    pub side: Side,
    /// What the peer is told of.
    pub settings: Settings,
    /// The window of the connection, for what the peer sends.
    pub connection_window: u32,
    /// Most streams that there may be at once.
    pub streams: u16,
    /// Bounds of a field section.
    pub section: SectionLimits,
    /// Bounds of what the peer can cause.
    pub abuse: AbuseLimits,
}

/// What was received, for the owner.
#[derive(Debug)]
pub enum Received {
    /// To a server: the head of a request is complete. [`Connection::finish_request`] is to be called next.
    Request {
        /// The stream.
        slot: Slot,
    },
    /// To a client: the head of a response is complete. [`Connection::finish_response`] is to be called next.
    Response {
        /// The stream.
        slot: Slot,
        /// Its entry.
        entry: u32,
    },
    /// More text of the message that comes on a stream: content with its chunk lines, the last chunk, trailers.
    Text {
        /// The stream.
        slot: Slot,
        /// Its entry.
        entry: u32,
        /// The text.
        lease: Lease,
    },
    /// The peer sends no more on a tunnel.
    End {
        /// The stream.
        slot: Slot,
        /// Its entry.
        entry: u32,
    },
    /// The stream has ended early: the peer has reset it, has broken the rules on it, or will not process it. [`Connection::close`] is
    /// to be called.
    Reset {
        /// The stream.
        slot: Slot,
        /// Its entry.
        entry: u32,
        /// Why.
        code: ErrorCode,
    },
    /// The peer's parameters have changed.
    Settings,
    /// The peer ends the connection: it takes no more streams of this side.
    GoAway {
        /// Why.
        code: ErrorCode,
    },
    /// The answer to a PING.
    Pong([u8; 8]),
}

/// A connection.
pub struct Connection {
    spec: Spec,
    /// Of a server: the client's preface, while it has not arrived.
    preface: Option<Preface>,
    reader: FrameReader,
    /// The piece that is being read.
    lease: Option<Lease>,
    /// The end of a frame that was read ahead.
    ahead: Option<Part>,
    /// Content of a stream, whose chunk line was given before it.
    behind_line: Option<(Slot, Lease)>,
    /// The stream of the DATA frame that is being read; None: its content is dropped.
    data: Option<Slot>,
    /// Content of that frame so far.
    data_content: u32,
    /// The field section that is being read, or is complete.
    section: Option<Section>,
    decoder: Decoder<Box<[u8]>>,
    encoder: Encoder<Box<[u8]>>,
    /// What the peer has told.
    peer: Settings,
    /// Whether it has.
    has_peer_settings: bool,
    /// A frame of parameters was read in part: some of them hold, and the peer was not told.
    is_within_settings: bool,
    /// Whether the peer has acknowledged the first parameters of this side.
    is_acknowledged: bool,
    /// SETTINGS of this side that the peer has not acknowledged.
    unacknowledged: u8,
    /// How many streams the peer was told that it may have, and how many it may have as far as it knows.
    told_streams: u16,
    most_streams: u16,
    abuse: AbuseCounter,
    /// Content was sent or received since the last PING.
    has_moved: bool,
    streams: Streams,
    /// Number of those that nobody uses any more.
    closing: u16,
    send: SendWindow,
    receive: ReceiveWindow,
    outbox: Outbox,
    /// The highest stream that the peer has opened.
    last_peer: StreamId,
    /// The next stream that this side opens; above [`StreamId::MAX`]: none is left.
    next_own: u32,
    /// The last stream of the peer that is taken; None: all.
    last_taken: Option<StreamId>,
    /// The last stream of this side that the peer takes, by its GOAWAY; None: all.
    peer_takes: Option<StreamId>,
}

impl Connection {
    /// A connection on which nothing was sent or received. Queues what this side sends first.
    #[must_use]
    pub fn new(spec: &Spec, buffers: &mut Buffers) -> Self {
        let table = |capacity| {
            // tidy: start-up
            let memory: Box<[u8]> = vec![0; table_memory(capacity)].into();
            Table::new(memory, capacity)
        };
        let sender = match spec.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        let mut connection = Self {
            spec: *spec,
            preface: (spec.side == Side::Server).then(Preface::new),
            reader: FrameReader::new(sender, spec.settings.max_frame_size.max(FRAME_SIZE_MIN)),
            lease: None,
            ahead: None,
            behind_line: None,
            data: None,
            data_content: 0,
            section: None,
            decoder: Decoder::new(table(TABLE_BYTES)),
            encoder: Encoder::new(table(ENCODER_TABLE_BYTES)),
            peer: Settings::default(),
            has_peer_settings: false,
            is_within_settings: false,
            is_acknowledged: false,
            unacknowledged: 1,
            told_streams: spec.streams,
            most_streams: spec.streams,
            abuse: AbuseCounter::new(&spec.abuse),
            has_moved: false,
            streams: Streams::new(spec.streams),
            closing: 0,
            send: SendWindow::new(CONNECTION_WINDOW),
            receive: ReceiveWindow::of_connection(spec.connection_window),
            outbox: Outbox::default(),
            last_peer: StreamId::CONNECTION,
            next_own: if spec.side == Side::Client { 1 } else { 2 },
            last_taken: None,
            peer_takes: None,
        };
        if spec.side == Side::Client {
            connection.outbox.bytes(buffers, PREFACE);
        }
        connection.outbox.frame(buffers, |frames| frames.settings(spec.settings.changed()));
        connection.update_connection_window(buffers);
        connection
    }

    /// Whether no buffer was free for what has to be sent: the connection cannot go on.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.outbox.is_broken()
    }

    /// Number of streams that somebody uses.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len() - usize::from(self.closing)
    }

    /// Whether there are streams that nobody uses any more, because only END_STREAM is still to come.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing > 0
    }

    /// Resets those streams: the peer has had enough time.
    pub fn end_closing(&mut self, buffers: &mut Buffers) {
        for slot in (0..self.streams.places()).map(Slot) {
            let Some(id) = self.streams.get(slot).filter(|stream| stream.is_closing).map(|stream| stream.id) else {
                continue;
            };
            self.forget(slot);
            self.reset(buffers, id, ErrorCode::Cancel);
        }
    }

    /// Drops a stream that nobody uses any more.
    fn forget(&mut self, slot: Slot) {
        if self.streams.remove(slot).is_some_and(|stream| stream.is_closing) {
            self.closing -= 1;
        }
    }

    /// The entries of all streams that have one.
    pub fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        self.streams.iter().filter_map(|(_, stream)| stream.entry)
    }

    /// The entry of one of its streams; None: no stream has one.
    #[must_use]
    pub fn first_entry(&self) -> Option<u32> {
        self.entries().next()
    }

    /// The identifier of a stream; 0 if it has none yet.
    #[must_use]
    pub fn id(&self, slot: Slot) -> StreamId {
        self.streams.get(slot).map_or(StreamId::CONNECTION, |stream| stream.id)
    }

    /// Whether the peer sends no more on a stream: it has ended its message, or there is no such stream. A message of known length may be
    /// complete before.
    #[must_use]
    pub fn has_received_end(&self, slot: Slot) -> bool {
        self.streams.get(slot).is_none_or(|stream| stream.has_received_end() || stream.is_reset)
    }

    /// Whether the peer sends no more on a stream that was asked to be a tunnel.
    #[must_use]
    pub fn has_ended_tunnel(&self, slot: Slot) -> bool {
        self.streams.get(slot).is_some_and(|stream| stream.asked == Asked::Tunnel && stream.has_received_end())
    }

    /// Whether a field section has begun and is not complete, so that nothing else can be received.
    #[must_use]
    pub fn is_within_section(&self) -> bool {
        self.reader.is_within_section()
    }

    /// Most streams that there may be at once.
    #[must_use]
    pub fn spec_streams(&self) -> u16 {
        self.spec.streams
    }

    /// Whether the peer has sent SETTINGS.
    #[must_use]
    pub fn has_peer_settings(&self) -> bool {
        self.has_peer_settings
    }

    /// What the peer has told.
    #[must_use]
    pub fn peer(&self) -> &Settings {
        &self.peer
    }

    /// Of a client: how many streams may be opened now. One, before the peer has sent SETTINGS.
    #[must_use]
    pub fn can_open(&self) -> usize {
        if self.peer_takes.is_some() || self.next_own > StreamId::MAX.get() {
            return 0;
        }
        let most = if self.has_peer_settings { self.peer.max_concurrent_streams as usize } else { 1 };
        most.min(usize::from(self.spec.streams)).saturating_sub(self.streams.len())
    }

    /// Of a client: a new stream for an entry, whose text says what is sent on it. None: see [`Connection::can_open`].
    pub fn open(&mut self, entry: u32, asked: Asked) -> Option<Slot> {
        if self.can_open() == 0 {
            return None;
        }
        let slot = self.add_stream(StreamId::CONNECTION)?;
        let stream = self.streams.get_mut(slot)?;
        (stream.entry, stream.asked) = (Some(entry), asked);
        Some(slot)
    }

    /// Of a server: gives a stream whose request was finished to an entry.
    pub fn accept(&mut self, slot: Slot, entry: u32) {
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.entry = Some(entry);
        }
    }

    fn add_stream(&mut self, id: StreamId) -> Option<Slot> {
        // A peer that does not know of a smaller window yet may use the initial one (RFC 9113 section 6.9.3).
        let own = self.spec.settings.initial_window_size;
        let own = if self.is_acknowledged { own } else { own.max(CONNECTION_WINDOW) };
        self.streams.add(id, SendWindow::new(self.peer.initial_window_size), ReceiveWindow::new(own))
    }

    /// Names of fields that have come never indexed on a stream.
    #[must_use]
    pub fn came_never_indexed(&self, slot: Slot) -> NeverIndexed {
        self.streams.get(slot).map_or_else(NeverIndexed::default, |stream| stream.came_never_indexed)
    }

    /// Has fields with these names sent never indexed on a stream, as they came from another peer (RFC 7541 section 6.2.3).
    pub fn send_never_indexed(&mut self, slot: Slot, names: NeverIndexed) {
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.never_indexed.extend(names);
        }
    }

    /// Takes in that the owner has taken text of a stream: `held` bytes lie there still. The rest of what was received is credit again.
    pub fn freed(&mut self, buffers: &mut Buffers, slot: Slot, held: usize) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let left = stream.held.min(u32::try_from(held).unwrap_or(u32::MAX));
        stream.receive.free(stream.held - left);
        stream.held = left;
        self.update_stream_window(buffers, slot);
    }

    /// Ends a stream. If a message is not complete, the peer is told so: with NO_ERROR if only the request was not read to its end,
    /// else with `code`. The owner does not use the stream any more.
    ///
    /// Where a response has all of its content, but END_STREAM is to come in a frame of its own, as many servers send it, there is nothing
    /// to tell: the stream counts for [`Connection::can_open`] until it does, or [`Connection::end_closing`] is called.
    pub fn close(&mut self, buffers: &mut Buffers, slot: Slot, code: ErrorCode) {
        if self.spec.side == Side::Client
            && let Some(stream) = self.streams.get_mut(slot)
            && stream.has_whole_messages()
        {
            self.closing += u16::from(!stream.is_closing);
            (stream.entry, stream.is_closing) = (None, true);
            return;
        }
        let Some(stream) = self.streams.remove(slot) else { return };
        let (id, has_sent, has_received) = (stream.id, stream.has_sent_end(), stream.has_received_end());
        let is_silent = stream.is_reset || id.is_connection() || (has_sent && has_received);
        stream.clear(buffers);
        if self.data == Some(slot) {
            self.data = None;
        }
        if is_silent {
            return;
        }
        let code = if has_sent && self.spec.side == Side::Server { ErrorCode::NoError } else { code };
        self.reset(buffers, id, code);
    }

    /// Ends a stream of a connection that ends, of which the peer is told otherwise.
    pub fn drop_stream(&mut self, buffers: &mut Buffers, slot: Slot) {
        if let Some(stream) = self.streams.remove(slot) {
            stream.clear(buffers);
        }
    }

    /// Closes a stream because of what the peer has sent on it.
    ///
    /// # Errors
    /// The peer has done so too often: the connection is to end.
    pub fn reject(&mut self, buffers: &mut Buffers, slot: Slot, code: ErrorCode, now: Duration) -> Result<(), Error> {
        self.close(buffers, slot, code);
        self.count_reset(now)
    }

    /// Counts something that costs as much as a reset, for which nothing was asked: a malformed request, that is. A server can end no more
    /// streams than were opened here, so that it is not to blame.
    ///
    /// # Errors
    /// The peer has done so too often: the connection is to end.
    pub fn count_reset(&mut self, now: Duration) -> Result<(), Error> {
        if self.spec.side == Side::Client {
            return Ok(());
        }
        self.abuse.reset(&self.spec.abuse, now).map_err(|abuse| abuse.error())
    }

    /// Sends RST_STREAM, and remembers it: frames that the peer has sent before it knew are no error.
    fn reset(&mut self, buffers: &mut Buffers, id: StreamId, code: ErrorCode) {
        self.streams.resets.add(id);
        self.outbox.control(buffers, |frames| frames.rst_stream(id, code));
    }

    /// Tells the peer that the connection will end soon, so that it opens streams elsewhere (RFC 9113 section 6.8). Streams that are
    /// on their way are still taken, until [`Connection::end`]; the answer to the PING with `data` says that none is.
    pub fn announce_end(&mut self, buffers: &mut Buffers, data: [u8; 8]) {
        self.outbox.frame(buffers, |frames| frames.go_away(StreamId::MAX, ErrorCode::NoError, b""));
        self.outbox.frame(buffers, |frames| frames.ping(data, false));
    }

    /// Takes no more streams of the peer, and tells it so.
    pub fn end(&mut self, buffers: &mut Buffers) {
        if self.last_taken.is_none() {
            self.last_taken = Some(self.last_peer);
            let last = self.last_peer;
            self.outbox.frame(buffers, |frames| frames.go_away(last, ErrorCode::NoError, b""));
        }
    }

    /// Whether no more streams of the peer are taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.last_taken.is_some()
    }

    /// Tells the peer of an error that ends the connection. What was received and not read is dropped.
    pub fn fail(&mut self, buffers: &mut Buffers, error: &Error) {
        self.lease = None;
        let last = self.last_taken.map_or(self.last_peer, |taken| taken.min(self.last_peer));
        self.last_taken = Some(last);
        self.outbox.frame(buffers, |frames| frames.go_away(last, error.code, error.reason.as_bytes()));
    }

    /// Of a server: tells the peer how many streams it may have, at most as many as at the beginning. It may have as many as before until
    /// it knows; nothing is said while it has not acknowledged what was said before.
    pub fn tell_streams(&mut self, buffers: &mut Buffers, most: u16) {
        let most = most.clamp(1, self.spec.streams);
        if most == self.told_streams || self.unacknowledged > 0 {
            return;
        }
        (self.told_streams, self.unacknowledged) = (most, 1);
        // More may come before the peer says that it knows.
        self.most_streams = self.most_streams.max(most);
        let setting = Setting { id: Setting::MAX_CONCURRENT_STREAMS, value: u32::from(most) };
        self.outbox.frame(buffers, |frames| frames.settings(core::iter::once(setting)));
    }

    /// Of a server: tells the peer that an extended CONNECT is taken from now on (RFC 8441 section 3), unless it knows.
    pub fn take_tunnels(&mut self, buffers: &mut Buffers) {
        if self.spec.settings.enable_connect_protocol {
            return;
        }
        self.spec.settings.enable_connect_protocol = true;
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        let setting = Setting { id: Setting::ENABLE_CONNECT_PROTOCOL, value: 1 };
        self.outbox.frame(buffers, |frames| frames.settings(core::iter::once(setting)));
    }

    /// Sends PING; [`Received::Pong`] is the answer.
    pub fn ping(&mut self, buffers: &mut Buffers, data: [u8; 8]) {
        self.outbox.frame(buffers, |frames| frames.ping(data, false));
    }

    /// Takes in that everything written was sent: the peer reads the answers that it has asked for.
    pub fn drained(&mut self) {
        self.outbox.drained();
    }

    /// Gives back all that it holds. To be called before it is dropped.
    pub fn clear(&mut self, buffers: &mut Buffers) {
        (self.lease, self.behind_line, self.section) = (None, None, None);
        self.outbox.clear(buffers);
        self.streams.clear(buffers);
    }

    fn update_connection_window(&mut self, buffers: &mut Buffers) {
        if let Some(increment) = self.receive.update() {
            self.outbox.frame(buffers, |frames| frames.window_update(StreamId::CONNECTION, increment));
        }
    }

    fn update_stream_window(&mut self, buffers: &mut Buffers, slot: Slot) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        // A peer that sends no more needs no window.
        if stream.has_received_end() || stream.is_reset {
            return;
        }
        if let Some(increment) = stream.receive.update() {
            let id = stream.id;
            self.outbox.frame(buffers, |frames| frames.window_update(id, increment));
        }
    }
}
