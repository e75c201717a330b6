//! 5: acquire. Connections to endpoints: taken from the pool or made, read as HTTP/1.1, given back or closed.
//! Not here: which endpoint, and what to do when it fails.

use std::time::Duration;

use slab::Slab;

use crate::buffer::{Lease, Queue};
use crate::forward::{Body, BodyError, Delivery, Trailers, gather};
use crate::http::{self, Fields, HeadLimits, Method, ResponseError, ResponseHead};
use crate::id::{Address, EndpointId, Owner};
use crate::limits;
use crate::pool::Pool;
use crate::uring::{Errno, Fault, Ring, SocketId};

/// One connection.
#[derive(Debug)]
pub struct Upstream {
    /// Its socket.
    pub socket: SocketId,
    /// Whom it leads to.
    pub endpoint: EndpointId,
    /// The exchange that uses it; None: idle.
    pub exchange: Option<u32>,
    /// Whether an earlier exchange used it: then the endpoint may have closed it meanwhile.
    pub reused: bool,
    /// How it ended, once it has.
    pub end: Option<End>,
    /// Received and not read.
    pub input: Queue,
    /// Whether a byte of the current response was received.
    pub answered: bool,
    /// Whether receiving is paused because the downstream is slower.
    pub paused: bool,
    connected: bool,
    /// Bytes of a partial head that hold no end.
    scanned: usize,
    body: Body,
    /// What the response said.
    keep_alive: bool,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Closed,
    /// A fault of connect(2) or recv(2).
    Broken(Fault),
    /// A deadline passed while connecting.
    ConnectTimeout,
    /// A deadline passed while waiting for the response.
    ResponseTimeout,
}

/// A response head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The endpoint's fault.
    Invalid(ResponseError),
    /// No buffer is free.
    Exhausted,
}

/// Every upstream connection of a worker.
#[derive(Debug)]
pub struct Upstreams {
    table: Slab<Upstream>,
    pool: Pool,
}

impl Default for Upstreams {
    /// None yet.
    fn default() -> Self {
        Self { table: Slab::with_capacity(256), pool: Pool::default() }
    }
}

impl Upstreams {
    /// Makes room for the endpoints below `bound`, and closes the idle connections of those that `stays` refuses.
    pub fn adopt(&mut self, ring: &mut Ring, bound: usize, stays: impl Fn(EndpointId) -> bool) {
        self.pool.reserve(bound);
        let left: Vec<EndpointId> = self.pool.endpoints().filter(|endpoint| !stays(*endpoint)).collect();
        for endpoint in left {
            while let Some(index) = self.pool.top(endpoint) {
                self.discard(ring, index);
            }
        }
    }

    /// A connection to `endpoint` for `exchange`: the idle one used last, or a new one if there is none or `fresh` asks for
    /// it.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn acquire(
        &mut self,
        ring: &mut Ring,
        endpoint: EndpointId,
        address: &Address,
        exchange: u32,
        fresh: bool,
    ) -> Result<u32, Errno> {
        if let Some(index) = (!fresh).then(|| self.pool.take(endpoint)).flatten() {
            let connection = &mut self.table[index as usize];
            connection.exchange = Some(exchange);
            connection.reused = true;
            connection.answered = false;
            ring.keep_sent(connection.socket, true);
            return Ok(index);
        }
        let entry = self.table.vacant_entry();
        let index = entry.key() as u32;
        let socket = ring.connect(address, Owner::Upstream(index))?;
        ring.keep_sent(socket, true);
        entry.insert(Upstream {
            socket,
            endpoint,
            exchange: Some(exchange),
            reused: false,
            end: None,
            input: Queue::default(),
            answered: false,
            paused: false,
            connected: false,
            scanned: 0,
            body: Body::Done,
            keep_alive: true,
        });
        Ok(index)
    }

    /// The connection, if it is still there.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Upstream> {
        self.table.get(index as usize)
    }

    /// Notes that the connection stands.
    pub fn connected(&mut self, index: u32) {
        if let Some(connection) = self.table.get_mut(index as usize) {
            connection.connected = true;
        }
    }

    /// Whether it has been established.
    #[must_use]
    pub fn is_connected(&self, index: u32) -> bool {
        self.get(index).is_some_and(|connection| connection.connected)
    }

    /// Takes in received bytes. An idle connection must not receive any: it is closed, because they would be taken for the
    /// next response.
    pub fn received(&mut self, ring: &mut Ring, index: u32, mut queue: Queue) {
        let Some(connection) = self.table.get_mut(index as usize) else { return queue.clear(ring.pieces()) };
        connection.input.append(ring.pieces(), &mut queue);
        if !connection.answered {
            // A request is never sent again once an answer has begun, and an idle connection holds no buffer.
            connection.answered = true;
            ring.keep_sent(connection.socket, false);
        }
        if connection.exchange.is_none() {
            self.discard(ring, index);
        }
    }

    /// Notes how the connection ended; an idle one is forgotten.
    pub fn ended(&mut self, ring: &mut Ring, index: u32, end: End) {
        let Some(connection) = self.table.get_mut(index as usize) else { return };
        connection.end.get_or_insert(end);
        if connection.exchange.is_none() {
            self.discard(ring, index);
        }
    }

    /// Gives a connection back: to the pool if its last response ended cleanly and allows it, else it is closed.
    pub fn release(&mut self, ring: &mut Ring, index: u32, max_idle: u32, idle: Duration) {
        let connection = &mut self.table[index as usize];
        let clean = connection.body.is_done() && connection.input.is_empty() && ring.unsent(connection.socket) == 0;
        let usable = connection.keep_alive && connection.connected && connection.end.is_none() && !connection.paused;
        if !clean || !usable || self.pool.len(connection.endpoint) >= max_idle {
            return self.discard(ring, index);
        }
        connection.exchange = None;
        ring.set_deadline(connection.socket, Some(idle));
        self.pool.put(connection.endpoint, index);
    }

    /// Closes a connection with RST.
    pub fn abort(&mut self, ring: &mut Ring, index: u32) {
        if let Some(connection) = self.table.get(index as usize) {
            ring.abort(connection.socket);
        }
        self.discard(ring, index);
    }

    /// Closes a connection.
    pub fn discard(&mut self, ring: &mut Ring, index: u32) {
        let Some(mut connection) = self.table.try_remove(index as usize) else { return };
        if connection.exchange.is_none() {
            self.pool.remove(connection.endpoint, index);
        }
        connection.input.clear(ring.pieces());
        ring.close(connection.socket);
    }

    /// Reads a response head. Some: the piece that begins with it, and its length. The next call reads the next head, so that
    /// interim responses (1xx) are read one by one.
    ///
    /// # Errors
    /// When it cannot be read; the connection is of no further use.
    pub fn read_head(
        &mut self,
        ring: &mut Ring,
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
            let Some(lease) = connection.input.pop(ring.pieces()) else { return Ok(None) };
            let parsed = http::parse_response(lease.bytes(), &LIMITS, &mut connection.scanned, method, head);
            match parsed.map_err(HeadError::Invalid)? {
                Some(length) => {
                    connection.scanned = 0;
                    let nominates = http::nominates_fields(&lease.bytes()[..length], &head.fields);
                    let trailers = if nominates { Trailers::Dropped } else { Trailers::Passed };
                    connection.body = Body::new(head.body, trailers);
                    connection.keep_alive = head.keep_alive;
                    return Ok(Some((lease, length)));
                }
                None => connection.input.push_front(ring.pieces(), lease),
            }
            if !gather(ring, &mut connection.input).map_err(|_| HeadError::Exhausted)? {
                return Ok(None);
            }
        }
    }

    /// Puts back what followed a head.
    pub fn put_back(&mut self, ring: &mut Ring, index: u32, lease: Lease) {
        self.table[index as usize].input.push_front(ring.pieces(), lease);
    }

    /// Moves what has arrived of the body to `out`. True: the body is complete.
    ///
    /// # Errors
    /// When it breaks its framing.
    pub fn read_body(
        &mut self,
        ring: &mut Ring,
        index: u32,
        out: &mut Queue,
        delivery: Delivery,
        trailers: &mut Fields,
    ) -> Result<bool, BodyError> {
        let connection = &mut self.table[index as usize];
        connection.body.read(ring, &mut connection.input, out, delivery, trailers)?;
        if matches!(connection.body, Body::Close) && connection.end == Some(End::Closed) {
            connection.body = Body::Done;
        }
        Ok(connection.body.is_done())
    }

    /// Moves everything received to `out`, for a tunnel. Returns how the endpoint has ended its side, if it has.
    pub fn read_raw(&mut self, ring: &mut Ring, index: u32, out: &mut Queue) -> Option<End> {
        let connection = &mut self.table[index as usize];
        // Bytes of a tunnel belong to no response: the connection is never used again.
        connection.keep_alive = false;
        out.append(ring.pieces(), &mut connection.input);
        connection.end
    }

    /// Stops or resumes receiving.
    pub fn set_paused(&mut self, ring: &mut Ring, index: u32, paused: bool) {
        let connection = &mut self.table[index as usize];
        if connection.paused != paused {
            connection.paused = paused;
            if paused { ring.pause(connection.socket) } else { ring.receive(connection.socket) }
        }
    }
}
