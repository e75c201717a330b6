//! Connections of HTTP/2, which requests to one endpoint share: how many there are, which of them a stream goes to, and how long they
//! last. Not here: what goes over them (`streams`).

use std::collections::VecDeque;
use std::time::Duration;

use super::{AcquireOptions, Destination, End, Seat, Sharing, Upstream, Upstreams};
use crate::http::Method;
use crate::http2::abuse::AbuseLimits;
use crate::http2::connection::{Asked, Connection, Spec};
use crate::http2::head::Scheme;
use crate::http2::hpack::SectionLimits;
use crate::http2::{ErrorCode, Settings, Side};
use crate::id::{EndpointId, Owner};
use crate::limits;
use crate::transport::Transport;
use crate::uring::{Driver, Errno, Fault, Ring};

/// The window of a stream, for responses: as much as an exchange may hold on its way to a client that reads slowly.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The window of a connection. It is open again as soon as content has gone to its stream, so that it bounds a burst alone.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// How long nothing comes after something was sent before the endpoint is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// The least time between two PING with nothing but answers to them in between: servers of gRPC end connections for less.
const PING_INTERVAL: Duration = Duration::from_secs(300);
/// How long a connection that is over waits for the endpoint to close it, and a response that has all of its content for its end.
const LINGER: Duration = Duration::from_secs(2);
/// What a PING holds.
const PING: [u8; 8] = *b"cairn \0\0";

/// The connections of HTTP/2 to one endpoint.
#[derive(Debug, Default)]
pub(super) struct SharedPool {
    /// Those that take streams, or will when they are established.
    pub(super) connections: Vec<u32>,
    /// Streams that wait for a place, in the order in which they came.
    pub(super) waiting: VecDeque<u32>,
    /// The endpoint takes an extended CONNECT (RFC 8441).
    pub(super) takes_tunnels: bool,
    /// The endpoint has chosen HTTP/1.1 by ALPN.
    pub(super) speaks_http1: bool,
}

/// A connection of HTTP/2.
pub(super) struct Shared {
    pub(super) core: Connection,
    pub(super) sharing: Sharing,
    pub(super) scheme: Scheme,
    /// Most streams now: fewer than may be, after the endpoint has refused one; one more with each response.
    pub(super) most: usize,
    /// It takes no more streams.
    pub(super) is_ending: bool,
    /// It is in [`Upstreams::dirty`].
    pub(super) is_dirty: bool,
    made: Duration,
    /// Since when nothing was received, while there is something to wait for; None: an answer to a PING was the last thing.
    pub(super) unheard: Option<Duration>,
    /// When the PING was sent that was not answered.
    pub(super) ping: Option<Duration>,
    /// When the last PING was sent, if nothing but its answer has come since.
    pub(super) last_ping: Option<Duration>,
    /// Since when there is no stream.
    idle_since: Option<Duration>,
    /// Since when there are streams of which only the end is awaited.
    pub(super) closing_since: Option<Duration>,
    /// FIN was sent, and when.
    over: Option<Duration>,
    /// When its timer fires, at the latest.
    timer: Option<Duration>,
}

impl Shared {
    /// How many streams may be opened now. Before the endpoint has sent SETTINGS nothing is known of it, not even that it speaks HTTP/2: one
    /// stream, for a request that may be sent elsewhere as well.
    pub(super) fn room(&self) -> usize {
        if self.is_ending { 0 } else { self.core.can_open().min(self.most.saturating_sub(self.core.streams())) }
    }

    /// How many more streams there will be room for, as far as is known.
    fn promise(&self) -> usize {
        let knows = self.core.has_peer_settings() || self.is_ending;
        if knows { self.room() } else { self.most.saturating_sub(self.core.streams()) }
    }

    /// When something has to be done unless something comes before.
    fn deadline(&self, connected: bool) -> Option<Duration> {
        if let Some(over) = self.over {
            return Some(over + LINGER);
        }
        if !connected || !self.core.has_peer_settings() {
            return Some(self.made + self.sharing.connect_timeout);
        }
        let closes = self.closing_since.map(|since| since + LINGER);
        if let Some(ping) = self.ping {
            return closes.into_iter().chain([ping + PING_LIMIT]).min();
        }
        let asks = self.unheard.map(|since| {
            let allowed = self.last_ping.map_or(Duration::ZERO, |last| last + PING_INTERVAL);
            allowed.max(since + PING_AFTER)
        });
        let idles = self.idle_since.map(|since| since + self.sharing.idle);
        asks.into_iter().chain(idles).chain(closes).min()
    }
}

impl Upstreams {
    /// Whether an entry is a connection of HTTP/2.
    #[must_use]
    pub fn is_shared(&self, index: u32) -> bool {
        self.get(index).is_some_and(|connection| connection.shared.is_some())
    }

    /// A stream for `exchange`: on a connection that has room, or one that is made; or it waits for one.
    ///
    /// # Errors
    /// When no socket can be made for the first connection.
    pub(super) fn open_stream<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        endpoint: EndpointId,
        destination: Destination<'_>,
        sharing: Sharing,
        exchange: u32,
        options: AcquireOptions,
    ) -> Result<u32, Errno> {
        if self.shared.len() <= endpoint.index() {
            self.shared.resize_with(endpoint.index() + 1, SharedPool::default);
        }
        if self.lacks_connection(endpoint, 1, sharing, Some(destination.position as u8))
            && (self.reserved.is_some() || !sharing.is_counted)
            && let Err(error) = self.connect_shared(ring, endpoint, destination, sharing)
            && self.shared[endpoint.index()].connections.is_empty()
        {
            self.wake_waiting(endpoint, End::Refused);
            return Err(error);
        }
        let transport = Transport::stream(u32::MAX, u16::MAX);
        let entry = self.table.insert(Upstream {
            exchange: Some(exchange),
            method: options.method,
            upgrades: options.upgrades,
            ..Upstream::new(transport, endpoint, destination.position)
        }) as u32;
        self.streams += 1;
        self.shared[endpoint.index()].waiting.push_back(entry);
        self.assign(ring, endpoint, Some(entry));
        Ok(entry)
    }

    /// Whether another connection is wanted for `more` streams besides those that wait, and allowed. `position`: that of the address
    /// that it would be made to; one that is being made to another address may come to nothing, and does not count.
    fn lacks_connection(&self, endpoint: EndpointId, more: usize, sharing: Sharing, position: Option<u8>) -> bool {
        let pool = &self.shared[endpoint.index()];
        let wanted = pool.waiting.len() + more;
        let (mut room, mut count) = (0, 0);
        for connection in pool.connections.iter().filter_map(|index| self.get(*index)) {
            let Some(shared) = &connection.shared else { continue };
            let counts = shared.core.has_peer_settings() || position.is_none_or(|other| other == connection.address);
            // Another one would be told the same as this one that no stream may be opened.
            if shared.core.peer().max_concurrent_streams == 0 {
                return false;
            }
            if counts {
                count += 1;
                room += shared.promise();
            }
        }
        room < wanted && count < sharing.connections.max(1)
    }

    /// Begins to make a connection.
    fn connect_shared<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        endpoint: EndpointId,
        destination: Destination<'_>,
        sharing: Sharing,
    ) -> Result<(), Errno> {
        let index = self.table.vacant_key() as u32;
        let socket = ring.connect(destination.address, Owner::Upstream(index))?;
        let wall = ring.wall_seconds();
        let session = destination.tls.map(|(client, name)| self.session(endpoint, client, name.clone(), wall));
        let scheme = if session.is_some() { Scheme::Https } else { Scheme::Http };
        let mut transport = Transport::new(socket, session);
        let end = transport.begin(ring).err().map(End::Tls);
        let core = Connection::new(&spec(sharing), &mut ring.buffers);
        let shared = Shared {
            core,
            sharing,
            scheme,
            most: usize::from(sharing.streams),
            is_ending: false,
            is_dirty: false,
            made: ring.clock().now(),
            unheard: None,
            ping: None,
            last_ping: None,
            idle_since: Some(ring.clock().now()),
            closing_since: None,
            over: None,
            timer: None,
        };
        self.pool.cells(endpoint).connect();
        // tidy: start-up
        self.table.insert(Upstream {
            counted: self.reserved.take(),
            shared: Some(Box::new(shared)),
            ..Upstream::new(transport, endpoint, destination.position)
        });
        self.shared[endpoint.index()].connections.push(index);
        self.arm_shared(ring, index);
        if let Some(end) = end {
            self.end_shared(ring, index, end);
        }
        Ok(())
    }

    /// Gives places to streams that wait. `new`: the one whose exchange knows.
    pub(super) fn assign<D: Driver>(&mut self, ring: &mut Ring<D>, endpoint: EndpointId, new: Option<u32>) {
        loop {
            let Some(pool) = self.shared.get(endpoint.index()) else { return };
            let Some(&entry) = pool.waiting.front() else { return };
            let is_harmless = self.get(entry).is_some_and(|stream| stream.method.is_idempotent() && !stream.upgrades);
            let has_room = |index: &u32| {
                let connection = self.get(*index);
                let shared =
                    connection.and_then(|connection| Some((connection.connected, connection.shared.as_ref()?)));
                shared.is_some_and(|(connected, shared)| {
                    let knows = shared.core.has_peer_settings();
                    shared.room() > 0 && (knows || connected && is_harmless)
                })
            };
            let Some(index) = pool.connections.iter().copied().find(has_room) else { return };
            self.shared[endpoint.index()].waiting.pop_front();
            let (method, upgrades) =
                self.get(entry).map_or((Method::Get, false), |stream| (stream.method, stream.upgrades));
            let Some(connection) = self.table.get_mut(index as usize) else { return };
            let Some(shared) = &mut connection.shared else { return };
            // Until the endpoint has sent SETTINGS, it counts as being connected to.
            let connected = shared.core.has_peer_settings();
            if upgrades && !shared.core.peer().enable_connect_protocol {
                self.end_stream(entry, End::NoExtendedConnect);
                continue;
            }
            let asked = match method {
                _ if upgrades => Asked::Tunnel,
                Method::Head => Asked::Head,
                Method::Connect => Asked::Tunnel,
                _ => Asked::Content,
            };
            let slot = shared.core.open(entry, asked);
            shared.idle_since = None;
            if let (Some(slot), Some(stream)) = (slot, self.table.get_mut(entry as usize)) {
                stream.seat = Some(Seat { connection: index, slot });
                // It is there already, so that it may have been closed meanwhile.
                (stream.connected, stream.reused) = (connected, connected);
            }
            self.touch(entry);
            if new != Some(entry) {
                self.note_ready(entry);
            }
            self.arm_shared(ring, index);
        }
    }

    /// After streams have ended or a connection has changed: gives places to those that wait, lets one of them make another connection
    /// if there is too little room, and ends connections that are not used any more.
    pub(super) fn settle<D: Driver>(&mut self, ring: &mut Ring<D>, endpoint: EndpointId) {
        self.assign(ring, endpoint, None);
        let Some(pool) = self.shared.get(endpoint.index()) else { return };
        let Some(&first) = pool.waiting.front() else { return };
        let sharing = pool.connections.iter().find_map(|index| self.get(*index)?.shared.as_ref().map(|it| it.sharing));
        if sharing.is_none_or(|sharing| !sharing.is_counted && self.lacks_connection(endpoint, 0, sharing, None)) {
            self.shared[endpoint.index()].waiting.pop_front();
            self.end_stream(first, End::Refused);
        }
    }

    /// Ends all streams of an endpoint that wait.
    pub(super) fn wake_waiting(&mut self, endpoint: EndpointId, end: End) {
        while let Some(entry) = self.shared.get_mut(endpoint.index()).and_then(|pool| pool.waiting.pop_front()) {
            self.end_stream(entry, end);
        }
    }

    /// Takes in how a stream has ended; its exchange is told.
    pub(super) fn end_stream(&mut self, entry: u32, end: End) {
        if let Some(stream) = self.table.get_mut(entry as usize) {
            stream.end.get_or_insert(end);
            stream.seat = None;
            stream.deaf = true;
            self.note_ready(entry);
        }
    }

    /// Takes in that a stream is closed by its exchange.
    pub(super) fn leave<D: Driver>(&mut self, ring: &mut Ring<D>, entry: u32, stream: Upstream) {
        self.streams -= 1;
        let Upstream { endpoint, seat, transport, answered, .. } = stream;
        transport.close(ring, false);
        match seat {
            Some(Seat { connection: index, slot }) => {
                let now = ring.clock().now();
                let connection = self.table.get_mut(index as usize);
                if let Some(shared) = connection.and_then(|connection| connection.shared.as_mut()) {
                    shared.core.close(&mut ring.buffers, slot, ErrorCode::Cancel);
                    if answered {
                        shared.most = (shared.most + 1).min(usize::from(shared.sharing.streams));
                    }
                    if shared.core.is_closing() {
                        shared.closing_since.get_or_insert(now);
                    }
                    if shared.core.streams() == 0 {
                        shared.idle_since = Some(now);
                        shared.unheard = None;
                    }
                }
                self.soil(index);
                self.end_unused(ring, index);
            }
            None => {
                if let Some(pool) = self.shared.get_mut(endpoint.index()) {
                    pool.waiting.retain(|waiting| *waiting != entry);
                }
            }
        }
        self.settle(ring, endpoint);
    }

    /// Ends a connection that takes no more streams, when it has none.
    pub(super) fn end_unused<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        let shared = self.get(index).and_then(|connection| connection.shared.as_ref());
        if shared.is_some_and(|shared| shared.is_ending && shared.over.is_none() && shared.core.streams() == 0) {
            self.shut(ring, index);
        } else {
            self.arm_shared(ring, index);
        }
    }

    /// Takes in that a connection takes no more streams.
    pub(super) fn retire(&mut self, index: u32) {
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let endpoint = connection.endpoint;
        if let Some(shared) = &mut connection.shared {
            shared.is_ending = true;
            self.shared[endpoint.index()].connections.retain(|known| *known != index);
        }
    }

    /// Ends a connection without streams: says so to the endpoint, which closes it.
    fn shut<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.retire(index);
        let now = ring.clock().now();
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        if !connection.connected {
            return self.end_shared(ring, index, End::Closed);
        }
        if let Some(shared) = &mut connection.shared {
            shared.core.end(&mut ring.buffers);
            shared.over = Some(now);
        }
        self.write(ring, index);
        if let Some(connection) = self.table.get_mut(index as usize) {
            connection.transport.finish(ring);
        }
        self.arm_shared(ring, index);
    }

    /// Takes in how a connection has ended, closes it, and ends its streams. Returns the exchange of one of them.
    pub(super) fn end_shared<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, end: End) {
        self.retire(index);
        let Some(connection) = self.table.try_remove(index as usize) else { return };
        let Upstream { mut shared, transport, endpoint, counted, .. } = connection;
        let mut was_established = false;
        if let Some(shared) = &mut shared {
            was_established = shared.core.has_peer_settings();
            for entry in shared.core.entries() {
                self.end_stream(entry, end);
            }
            shared.core.clear(&mut ring.buffers);
        }
        self.pool.cells(endpoint).close();
        if let Some(counted) = &counted {
            self.freed.push(counted.cluster);
        }
        transport.close(ring, false);
        // Those that wait would have gone to this one.
        if !was_established && self.shared.get(endpoint.index()).is_some_and(|pool| pool.connections.is_empty()) {
            self.wake_waiting(endpoint, end);
        }
        self.settle(ring, endpoint);
    }

    /// Takes in that an endpoint has chosen HTTP/1.1: the connection is an idle one of that version, and the exchanges of streams that
    /// wait begin again.
    pub(super) fn unshare<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.retire(index);
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let endpoint = connection.endpoint;
        let Some(mut shared) = connection.shared.take() else { return };
        let entries = shared.core.entries().collect::<Vec<_>>();
        debug_assert!(entries.is_empty(), "streams are opened when the endpoint has sent SETTINGS");
        shared.core.clear(&mut ring.buffers);
        ring.set_deadline(connection.transport.socket(), Some(shared.sharing.idle));
        self.connected(index);
        self.pool.reserve(endpoint.index() + 1);
        self.pool.push(endpoint, index);
        if let Some(pool) = self.shared.get_mut(endpoint.index()) {
            pool.speaks_http1 = true;
        }
        self.wake_waiting(endpoint, End::Refused);
    }

    /// Takes in that an endpoint has chosen HTTP/2 on a connection that was made for HTTP/1.1: its exchange begins again.
    pub(super) fn share_again(&mut self, index: u32) {
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        connection.end.get_or_insert(End::Refused);
        if let Some(pool) = self.shared.get_mut(connection.endpoint.index()) {
            pool.speaks_http1 = false;
        }
    }

    /// Whether an endpoint takes an extended CONNECT, as far as is known.
    #[must_use]
    pub fn takes_tunnels(&self, endpoint: EndpointId) -> bool {
        self.shared.get(endpoint.index()).is_some_and(|pool| pool.takes_tunnels)
    }

    /// How often an endpoint was found that does.
    #[must_use]
    pub fn known_tunnels(&self) -> u32 {
        self.known_tunnels
    }

    /// Takes in what an endpoint has said in its SETTINGS, of which nothing was known before: its streams are established.
    pub(super) fn take_settings(&mut self, endpoint: EndpointId, shared: &Shared) {
        for entry in shared.core.entries() {
            if let Some(stream) = self.table.get_mut(entry as usize) {
                stream.connected = true;
                stream.end.take_if(|end| *end == End::ConnectTimeout);
            }
            self.note_ready(entry);
        }
        let takes_tunnels = shared.core.peer().enable_connect_protocol;
        if let Some(pool) = self.shared.get_mut(endpoint.index()).filter(|pool| takes_tunnels && !pool.takes_tunnels) {
            pool.takes_tunnels = true;
            self.known_tunnels += 1;
        }
    }

    /// Whether a connection to an endpoint takes streams, or will.
    #[must_use]
    pub fn is_sharing(&self, endpoint: EndpointId) -> bool {
        self.shared.get(endpoint.index()).is_some_and(|pool| !pool.connections.is_empty())
    }

    /// Whether no connection has to be made for another stream.
    #[must_use]
    pub fn has_room(&self, endpoint: EndpointId) -> bool {
        let Some(pool) = self.shared.get(endpoint.index()) else { return false };
        let promises = pool.connections.iter().filter_map(|index| Some(self.get(*index)?.shared.as_ref()?.promise()));
        promises.sum::<usize>() > pool.waiting.len()
    }

    /// Ends a connection without streams to an endpoint for which `which` holds; at once, so that its descriptor is free. Where streams wait for
    /// a place, those without are about to get them, when the endpoint has sent SETTINGS. False: there is none.
    pub(super) fn close_idle_shared<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        which: impl Fn(EndpointId) -> bool,
    ) -> bool {
        for at in 0..self.shared.len() {
            let idle = |index: &u32| {
                let shared = self.get(*index).and_then(|connection| connection.shared.as_ref());
                let unused = shared.is_some_and(|shared| shared.core.streams() == 0);
                unused && self.shared[at].waiting.is_empty() && which(EndpointId(at as u32))
            };
            if let Some(index) = self.shared[at].connections.iter().copied().find(idle) {
                self.end_shared(ring, index, End::Closed);
                return true;
            }
        }
        false
    }

    /// Has connections to endpoints for which `stays` is false take no more streams.
    pub(super) fn retire_shared<D: Driver>(&mut self, ring: &mut Ring<D>, stays: impl Fn(EndpointId) -> bool) {
        for at in (0..self.shared.len()).filter(|at| !stays(EndpointId(*at as u32))) {
            self.shared[at].takes_tunnels = false;
            while let Some(index) = self.shared[at].connections.last().copied() {
                self.retire(index);
                self.end_unused(ring, index);
            }
        }
    }

    /// How the wait of a stream's exchange ends when its time is over.
    #[must_use]
    pub fn late(&self, index: u32) -> End {
        let Some(connection) = self.get(index) else { return End::ConnectTimeout };
        if connection.is_connected() {
            return End::ResponseTimeout;
        }
        let established = |index: &u32| {
            let shared = self.get(*index).and_then(|connection| connection.shared.as_ref());
            shared.is_some_and(|shared| shared.core.has_peer_settings())
        };
        let pool = self.shared.get(connection.endpoint.index()).filter(|_| connection.is_stream());
        let is_full = connection.seat.is_none() && pool.is_some_and(|pool| pool.connections.iter().any(established));
        if is_full { End::NoStream } else { End::ConnectTimeout }
    }

    /// The timer of a connection has fired.
    pub fn expire_shared<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        let now = ring.clock().now();
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let (connected, endpoint) = (connection.connected, connection.endpoint);
        let Some(shared) = &mut connection.shared else { return };
        shared.timer = None;
        let is_due = shared.deadline(connected).is_some_and(|deadline| deadline <= now);
        if !is_due {
            return self.arm_shared(ring, index);
        }
        if shared.over.is_some() {
            return self.end_shared(ring, index, End::Closed);
        }
        if !connected || !shared.core.has_peer_settings() {
            return self.end_shared(ring, index, End::ConnectTimeout);
        }
        if shared.closing_since.take_if(|since| *since + LINGER <= now).is_some() {
            shared.core.end_closing(&mut ring.buffers);
            self.soil(index);
            self.arm_shared(ring, index);
            return self.settle(ring, endpoint);
        }
        if shared.ping.is_some() {
            return self.end_shared(ring, index, End::Broken(Fault::Receive(Errno::TIMED_OUT)));
        }
        if shared.idle_since.is_some() {
            return self.shut(ring, index);
        }
        shared.core.ping(&mut ring.buffers, PING);
        (shared.ping, shared.last_ping) = (Some(now), Some(now));
        self.soil(index);
        self.arm_shared(ring, index);
    }

    /// Sets the timer of a connection, unless it fires early enough.
    pub(super) fn arm_shared<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        let connected = connection.connected;
        let Some(shared) = &mut connection.shared else { return };
        let Some(deadline) = shared.deadline(connected) else { return };
        if shared.timer.is_none_or(|timer| deadline < timer) {
            shared.timer = Some(deadline);
            ring.set_deadline(connection.transport.socket(), Some(deadline.saturating_sub(ring.clock().now())));
        }
    }
}

/// What a connection is made with.
fn spec(sharing: Sharing) -> Spec {
    let settings = Settings {
        enable_push: false,
        initial_window_size: STREAM_WINDOW,
        max_header_list_size: limits::RESPONSE_HEAD_BYTES as u32,
        no_rfc7540_priorities: true,
        ..Settings::default()
    };
    Spec {
        side: Side::Client,
        settings,
        connection_window: CONNECTION_WINDOW,
        streams: sharing.streams,
        section: SectionLimits {
            list_bytes: limits::RESPONSE_HEAD_BYTES as u32,
            fields: limits::HEADER_COUNT_MAX as u32 + 1,
        },
        abuse: AbuseLimits::default(),
    }
}
