//! Connections to endpoints, with TLS or without: acquired from the pool or made, read as HTTP/1.1, released to the pool or closed.
//! Not here: the choice of the endpoint, and what to do when it fails.

mod counted;

use std::time::Duration;

use slab::Slab;

use crate::buffer::{Lease, Queue};
use crate::forward::{Body, BodyEnd, BodyError, Chunking, Trailers, join};
use crate::http::{self, Fields, HeadLimits, Method, ResponseError, ResponseHead};
use crate::id::{Address, EndpointId, Owner};
use crate::limits;
use crate::pool::{CountedConnection, Pool};
use crate::proxy_protocol::{Ends, HeaderBytes, Version};
use crate::tls::{self, Agreement, Client, ServerName, Session};
use crate::transport::Transport;
use crate::uring::{Driver, Errno, Fault, Ring};

/// One connection to an endpoint.
pub struct Upstream {
    /// Its socket, and the bytes that were received and not read.
    pub transport: Transport,
    /// The endpoint that it leads to.
    pub endpoint: EndpointId,
    /// The exchange that uses it; None: idle.
    pub exchange: Option<u32>,
    /// Whether an earlier exchange has used it: then the endpoint may have closed it meanwhile.
    pub reused: bool,
    /// How it ended; None: it has not.
    pub end: Option<End>,
    /// Whether a byte of the current response was received.
    pub answered: bool,
    /// Bytes that the kernel had taken before the current exchange.
    taken_before: u64,
    /// Bytes received since it was made.
    pub received: u64,
    /// The client connection that it belongs to, because its client has logged in on it, or was asked to, or because its PROXY header
    /// tells of that one.
    pub bound: Option<u32>,
    /// Length of the PROXY header that it has begun with; 0: none.
    pub header_bytes: u8,
    connected: bool,
    /// Whether sending has failed: nothing more goes out, though what was received may still be read.
    pub deaf: bool,
    /// Position of its address among those of the endpoint.
    address: u8,
    /// Bytes of a partial head that are known not to hold its end.
    scanned: usize,
    /// The body of the current response.
    body: Body,
    /// Whether the last response allows another request on the connection.
    keep_alive: bool,
    /// That it counts against limits; None: there were none when it was made.
    counted: Option<CountedConnection>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The endpoint has sent FIN; over TLS, close_notify.
    Closed,
    /// The endpoint has sent FIN and no close_notify, so that something may be missing (RFC 8446 section 6.1).
    Truncated,
    /// TLS has failed.
    Tls(tls::Error),
    /// connect(2) or recv(2) has failed.
    Broken(Fault),
    /// A deadline passed while connecting.
    ConnectTimeout,
    /// A deadline passed while waiting for the response.
    ResponseTimeout,
}

/// Why a response head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The endpoint sent an invalid head.
    Invalid(ResponseError),
    /// No buffer is free.
    Exhausted,
}

/// Every upstream connection of a worker.
pub struct Upstreams {
    table: Slab<Upstream>,
    pool: Pool,
    /// By slot of a client connection: the connection that belongs to it. Grows to the largest slot that has had one.
    bound: Vec<Option<u32>>,
    /// By slot of a client connection: what endpoints are told of it. Grows as `bound` does.
    ends: Vec<Ends>,
    /// By `EndpointId`: the position of the address to which a connection was last established.
    preferred: Vec<u8>,
    /// By `EndpointId`: what connections to the endpoint share of TLS. None: there was none yet, or it speaks in the clear.
    clients: Vec<Option<EndpointClient>>,
    /// What the next new connection counts as.
    reserved: Option<CountedConnection>,
    /// Numbers of clusters that count one connection less than before.
    freed: Vec<u32>,
}

/// What connections of this worker to one endpoint share of TLS.
struct EndpointClient {
    client: Client,
    /// When the first certificate expires for which one of its tickets may stand, seconds since 1970.
    until: u64,
}

/// Where a new connection leads.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The address.
    pub address: &'a Address,
    /// Its position among the addresses of the endpoint.
    pub position: usize,
    /// The settings of TLS, and the name that is asked for; None: in the clear.
    pub tls: Option<(&'a Client, &'a ServerName<'static>)>,
    /// What the connection begins with, before TLS, so that it is a new one; None: with nothing of that kind.
    pub header: Option<&'a HeaderBytes>,
}

/// How a connection is to be acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireOptions {
    /// A new connection is made even if one is idle.
    pub fresh: bool,
    /// The ring returns pieces that were sent, because they may be sent again.
    pub replay: bool,
}

impl Default for Upstreams {
    /// No connections yet.
    fn default() -> Self {
        Self {
            table: Slab::with_capacity(256),
            pool: Pool::default(),
            bound: Vec::new(),
            ends: Vec::new(),
            preferred: Vec::new(),
            clients: Vec::new(),
            reserved: None,
            freed: Vec::new(),
        }
    }
}

impl Upstream {
    /// Whether it has been established, and its TLS handshake completed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether nothing of the current request was sent.
    #[must_use]
    pub fn is_untouched<D: Driver>(&self, ring: &Ring<D>) -> bool {
        self.transport.taken(ring) == self.taken_before && !ring.is_sending(self.transport.socket())
    }
}

impl Upstreams {
    /// Makes room for the endpoints below `bound`, and closes the idle connections to endpoints for which `stays` is false.
    pub fn apply<D: Driver>(&mut self, ring: &mut Ring<D>, bound: usize, stays: impl Fn(EndpointId) -> bool) {
        self.pool.reserve(bound);
        self.preferred.resize(bound.max(self.preferred.len()), 0);
        self.clients.resize_with(bound.max(self.clients.len()), || None);
        let numbered = (0..).map(EndpointId).zip(&mut self.clients);
        numbered.filter(|(endpoint, _)| !stays(*endpoint)).for_each(|(_, client)| *client = None);
        let left: Vec<EndpointId> = self.pool.endpoints().filter(|endpoint| !stays(*endpoint)).collect();
        for endpoint in left {
            while let Some(index) = self.pool.top(endpoint) {
                self.discard(ring, index);
            }
        }
        for at in 0..self.bound.len() {
            let idle = |index: &u32| self.get(*index).is_some_and(|it| it.exchange.is_none() && !stays(it.endpoint));
            if let Some(index) = self.bound[at].filter(idle) {
                self.discard(ring, index);
            }
        }
    }

    /// Idle connections, and what is counted of all.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Position of the endpoint's address that is tried first.
    #[must_use]
    pub fn preferred(&self, endpoint: EndpointId) -> u8 {
        self.preferred.get(endpoint.index()).copied().unwrap_or_default()
    }

    /// A connection to `endpoint` for `exchange`: the idle one that was used last, or a new one if none is idle or `options` want it.
    /// A new one is made to `destination`.
    ///
    /// # Errors
    /// When no socket can be made, or no buffer is free for the header.
    pub fn acquire<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        endpoint: EndpointId,
        destination: Destination<'_>,
        exchange: u32,
        options: AcquireOptions,
    ) -> Result<u32, Errno> {
        if !options.fresh
            && destination.header.is_none()
            && let Some(index) = self.pool.take(endpoint)
        {
            self.reuse(ring, index, exchange, options.replay);
            return Ok(index);
        }
        let index = self.table.vacant_key() as u32;
        let header = match destination.header {
            Some(header) => {
                let mut lease = ring.buffers.take().ok_or(Errno::NO_BUFFERS)?;
                let copied = lease.append(header.bytes());
                debug_assert_eq!(copied, header.bytes().len());
                Some(lease)
            }
            None => None,
        };
        let socket = ring.connect(destination.address, Owner::Upstream(index))?;
        let header_bytes = header.as_ref().map_or(0, |header| header.len() as u8);
        if let Some(header) = header {
            ring.send(socket, header);
        }
        let now = ring.wall_seconds();
        let session = destination.tls.map(|(client, name)| self.session(endpoint, client, name, now));
        let mut transport = Transport::new(socket, session);
        let end = transport.begin(ring).err().map(End::Tls);
        // What the ring would return is sealed.
        ring.return_sent(socket, options.replay && transport.session().is_none());
        self.pool.cells(endpoint).connect();
        self.table.insert(Upstream {
            transport,
            endpoint,
            exchange: Some(exchange),
            reused: false,
            end,
            answered: false,
            taken_before: 0,
            received: 0,
            bound: None,
            header_bytes,
            connected: false,
            deaf: false,
            address: destination.position as u8,
            scanned: 0,
            body: Body::Done,
            keep_alive: true,
            counted: self.reserved.take(),
        });
        Ok(index)
    }

    /// A session of TLS with an endpoint. Its tickets are those of this endpoint under the same settings, of this worker alone: an
    /// exchange of an earlier snapshot may come with other settings, even when the id has a new owner. And a server that is resumed does
    /// not show its certificate again, so that no ticket outlives one.
    fn session(
        &mut self,
        endpoint: EndpointId,
        settings: &Client,
        name: &ServerName<'static>,
        now: u64,
    ) -> Box<Session> {
        if self.clients.len() <= endpoint.index() {
            self.clients.resize_with(endpoint.index() + 1, || None);
        }
        let slot = &mut self.clients[endpoint.index()];
        let known = slot.take().filter(|known| now <= known.until && known.client.spec() == settings.spec());
        let fresh = || {
            let client = settings.apart();
            EndpointClient { until: client.own_end(), client }
        };
        let known = slot.insert(known.unwrap_or_else(fresh));
        Box::new(Session::client(&known.client, name.clone()))
    }

    /// Begins to use an idle connection for `exchange`. `replay`: see [`AcquireOptions`].
    pub fn reuse<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, exchange: u32, replay: bool) {
        let connection = &mut self.table[index as usize];
        connection.exchange = Some(exchange);
        connection.reused = true;
        connection.answered = false;
        connection.taken_before = connection.transport.taken(ring);
        // The idle timer is not cleared: it has no effect while the connection is in use, and is set again afterwards.
        // What the ring would return is sealed.
        ring.return_sent(connection.transport.socket(), replay && connection.transport.session().is_none());
    }

    /// The idle connection that belongs to a client connection, and its endpoint.
    #[must_use]
    pub fn bound_to(&self, downstream: u32) -> Option<(u32, EndpointId)> {
        let index = (*self.bound.get(downstream as usize)?)?;
        let connection = self.table.get(index as usize).filter(|connection| connection.exchange.is_none())?;
        Some((index, connection.endpoint))
    }

    /// Makes a connection belong to a client connection until one of them ends: no other client may send on it (RFC 4559 section 6).
    /// The connection that belonged to it before is closed.
    pub fn bind<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, downstream: u32) {
        let slot = downstream as usize;
        if self.bound.len() <= slot {
            self.bound.resize(slot + 1, None);
        }
        let before = self.bound[slot].replace(index).filter(|before| *before != index);
        self.table[index as usize].bound = Some(downstream);
        if let Some(before) = before {
            self.discard(ring, before);
        }
    }

    /// Takes in what endpoints are told of a client connection.
    pub fn introduce(&mut self, downstream: u32, ends: Ends) {
        let slot = downstream as usize;
        if self.ends.len() <= slot {
            self.ends.resize(slot + 1, Ends::UNKNOWN);
        }
        self.ends[slot] = ends;
    }

    /// The header that tells of a client connection.
    #[must_use]
    pub fn header(&self, version: Version, downstream: u32) -> HeaderBytes {
        HeaderBytes::new(version, self.ends.get(downstream as usize).copied().unwrap_or(Ends::UNKNOWN))
    }

    /// Takes in that a client connection has ended: closes the connection that belonged to it.
    pub fn unbind<D: Driver>(&mut self, ring: &mut Ring<D>, downstream: u32) {
        let Some(index) = self.bound.get_mut(downstream as usize).and_then(Option::take) else { return };
        self.discard(ring, index);
    }

    /// Closes an idle connection, if there is one, so that its descriptor can be reused: one to the endpoint that has most of them, or else
    /// one that belongs to a client connection.
    pub fn close_idle<D: Driver>(&mut self, ring: &mut Ring<D>) {
        let most = self.pool.endpoints().max_by_key(|endpoint| self.pool.len(*endpoint));
        let pooled = most.and_then(|endpoint| self.pool.top(endpoint));
        let is_idle = |index: &u32| self.get(*index).is_some_and(|it| it.exchange.is_none());
        if let Some(index) = pooled.or_else(|| self.bound.iter().flatten().copied().find(is_idle)) {
            self.discard(ring, index);
        }
    }

    /// Connections that there are, idle ones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The connection in a slot.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Upstream> {
        self.table.get(index as usize)
    }

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
        } else if let Ok(Some(_)) = outcome {
            let end = connection.transport.session().map(Session::server_end);
            if let (Some(end), Some(Some(client))) = (end, self.clients.get_mut(connection.endpoint.index())) {
                client.until = client.until.min(end);
            }
            self.connected(index);
        }
        outcome
    }

    /// Takes in how the connection ended; an idle one is closed. Returns how TLS has failed, if that is the end.
    pub fn ended<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, end: End) -> Option<tls::Error> {
        let connection = self.table.get_mut(index as usize)?;
        let end = match end {
            End::Closed | End::Broken(Fault::Receive(_)) if connection.transport.is_handshaking() => {
                End::Tls(tls::Error::Cut)
            }
            End::Closed if connection.transport.session().is_some() => End::Truncated,
            end => end,
        };
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
        if connection.transport.is_broken() {
            connection.end.get_or_insert(End::Tls(tls::Error::Buffers));
        }
    }

    /// Sends FIN after what is queued; over TLS, after close_notify.
    pub fn finish<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32) {
        self.table[index as usize].transport.finish(ring);
    }

    /// Takes out the request of a connection whose TLS handshake was not completed: nothing of it was sent.
    pub fn take_waiting(&mut self, index: u32) -> Option<Queue> {
        self.table.get_mut(index as usize)?.transport.take_waiting()
    }

    /// Releases a connection after an exchange. It becomes idle, in the pool or for the client connection that it belongs to, if its
    /// last response has ended, nothing is queued or unread, and it may be used again; else it is closed. `max_idle`: the most idle
    /// connections to the endpoint; `idle`: how long it may be idle.
    pub fn release<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, max_idle: u32, idle: Duration) {
        let connection = &mut self.table[index as usize];
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

    /// Reads a response head. Some: the piece that begins with it, and the length of the head. The next call reads the next head:
    /// interim responses (1xx) are read one by one.
    ///
    /// # Errors
    /// When the head cannot be read; the connection cannot be used further.
    pub fn read_head<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        index: u32,
        method: Method,
        head: &mut ResponseHead,
    ) -> Result<Option<(Lease, usize)>, HeadError> {
        const LIMITS: HeadLimits = HeadLimits {
            head_bytes: limits::RESPONSE_HEAD_BYTES,
            field_count: limits::HEADER_COUNT_MAX,
            request_line: limits::REQUEST_LINE_BYTES,
        };
        let connection = &mut self.table[index as usize];
        loop {
            let Some(lease) = connection.transport.input.pop(ring.buffers.pieces()) else { return Ok(None) };
            let parsed = http::parse_response(lease.bytes(), &LIMITS, &mut connection.scanned, method, head);
            match parsed.map_err(HeadError::Invalid)? {
                Some(length) => {
                    connection.scanned = 0;
                    let nominates = http::nominates_fields(&lease.bytes()[..length], &head.fields);
                    let trailers = if nominates { Trailers::Dropped } else { Trailers::Passed };
                    connection.body = Body::of_response(head.body, trailers);
                    connection.keep_alive = head.keep_alive;
                    return Ok(Some((lease, length)));
                }
                None => connection.transport.input.push_front(ring.buffers.pieces(), lease),
            }
            if !join(&mut ring.buffers, &mut connection.transport.input).map_err(|_| HeadError::Exhausted)? {
                return Ok(None);
            }
        }
    }

    /// Puts back the bytes that followed a head.
    pub fn put_back<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, lease: Lease) {
        self.table[index as usize].transport.input.push_front(ring.buffers.pieces(), lease);
    }

    /// Moves the received part of the body to `out`. Some: the body is complete.
    ///
    /// # Errors
    /// When the body breaks its framing.
    pub fn read_body<D: Driver>(
        &mut self,
        ring: &mut Ring<D>,
        index: u32,
        out: &mut Queue,
        chunking: Chunking,
        trailers: &mut Fields,
    ) -> Result<Option<BodyEnd>, BodyError> {
        let connection = &mut self.table[index as usize];
        let input = &mut connection.transport.input;
        let progress = connection.body.read(&mut ring.buffers, input, out, chunking, trailers)?;
        if progress.end.is_none() && connection.end == Some(End::Closed) {
            return Ok(connection.body.close());
        }
        Ok(progress.end)
    }

    /// Moves all received bytes to `out`, for a tunnel. Returns how the connection ended, if it has.
    pub fn read_raw<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, out: &mut Queue) -> Option<End> {
        let connection = &mut self.table[index as usize];
        // Bytes of a tunnel belong to no response: the connection is never used again.
        connection.keep_alive = false;
        out.append(ring.buffers.pieces(), &mut connection.transport.input);
        connection.end
    }

    /// Sets whether the ring returns pieces that were sent; see [`Ring::return_sent`].
    pub fn return_sent<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, returns: bool) {
        ring.return_sent(self.table[index as usize].transport.socket(), returns);
    }

    /// Stops or resumes receiving.
    pub fn set_paused<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, paused: bool) {
        self.table[index as usize].transport.set_paused(ring, paused);
    }
}
