//! Connections to endpoints, with TLS or without: acquired from the pool or made, read as HTTP/1.1, released to the pool or closed.
//! Not here: the choice of the endpoint, and what to do when it fails.
//!
//! An entry is a connection of HTTP/1.1, which one exchange uses at a time; a connection of HTTP/2, which no exchange uses itself; or one
//! of its streams, which is used as a connection of HTTP/1.1 is: the text of messages goes in and comes out. So nobody outside has to
//! know which of them it is.

mod bound;
mod counted;
mod events;
mod handshakes;
mod response;
mod shared;
mod streams;

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;

use crate::forward::Body;
use crate::http::{Method, ResponseError};
use crate::http2::connection::Slot;
use crate::http2::head::NeverIndexed;
use crate::id::{Address, EndpointId, Owner};
use crate::pool::{CountedConnection, Pool};
use crate::proxy_protocol::{Ends, HeaderBytes};
use crate::tls::{self, Client, ServerName, Session};
use crate::transport::Transport;
use crate::uring::{Driver, Errno, Fault, Ring};
use shared::{Shared, SharedPool};
pub use streams::ResponseMemory;

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
    /// The name that TLS has asked for, where that was the one in a request's Host: no request for another one is sent over it.
    host: Option<Box<str>>,
    /// That it counts against limits; None: there were none when it was made.
    counted: Option<CountedConnection>,
    /// The method of the current request.
    method: Method,
    /// Of a stream: the request is an extended CONNECT.
    upgrades: bool,
    /// A connection of HTTP/2; None: one of HTTP/1.1, or a stream.
    shared: Option<Box<Shared>>,
    /// Of a stream: names of fields that are sent never indexed.
    never_indexed: NeverIndexed,
    /// Of a stream: its place. None: it waits for one, or has lost it.
    seat: Option<Seat>,
    /// Of a stream: something of its request has gone to the connection.
    is_begun: bool,
    /// It is in [`Upstreams::touched`].
    is_touched: bool,
    /// It is in [`Upstreams::ready`].
    is_ready: bool,
}

/// The place of a stream in a connection.
#[derive(Clone, Copy, Debug)]
struct Seat {
    connection: u32,
    slot: Slot,
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
    /// The endpoint has not processed the request, and says so, or there was no place for it on a connection of HTTP/2: it can be sent
    /// again, whatever it is.
    Refused,
    /// A deadline passed while waiting for a place on a connection of HTTP/2.
    NoStream,
    /// The endpoint has not said that it takes an extended CONNECT (RFC 8441 section 3).
    NoExtendedConnect,
    /// The endpoint has ended the stream.
    Reset,
    /// The endpoint breaks the rules of HTTP/2, on the stream or on its connection.
    Protocol,
}

impl End {
    /// Whether it says nothing of how well the endpoint is: it is busy, or lacks what this request needs, or the fault is here.
    #[must_use]
    pub fn is_blameless(self) -> bool {
        matches!(self, Self::Tls(tls::Error::Buffers) | Self::Refused | Self::NoStream | Self::NoExtendedConnect)
    }
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
    /// By `EndpointId`: connections of HTTP/2, and streams that wait for one.
    shared: Vec<SharedPool>,
    /// How often an endpoint was found that takes an extended CONNECT.
    known_tunnels: u32,
    /// Number of entries that are streams.
    streams: usize,
    /// Streams with something for their connections.
    touched: Vec<u32>,
    /// Connections of HTTP/2 with something to write.
    dirty: Vec<u32>,
    /// Streams whose exchanges are to be looked at.
    ready: Vec<u32>,
    /// Streams of which something was sent.
    moved: Vec<u32>,
    /// Connections with something of their handshakes that was not looked at yet, the one that has waited longest first. Those that have
    /// ended meanwhile stay until it is their turn.
    handshakes: VecDeque<u32>,
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
    /// The name in the request's Host, where that is asked for instead; None: it is not.
    pub host: Option<&'a str>,
    /// What the connection begins with, before TLS, so that it is a new one; None: with nothing of that kind.
    pub header: Option<&'a HeaderBytes>,
    /// How connections of HTTP/2 are shared; None: HTTP/1.1 is spoken.
    pub sharing: Option<Sharing>,
}

/// How connections of HTTP/2 to one endpoint are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// TLS decides by ALPN: where it chooses HTTP/1.1, connections are not shared.
    pub is_negotiated: bool,
    /// Most streams of a connection.
    pub streams: u16,
    /// Most connections of this worker.
    pub connections: u32,
    /// Connections count against limits of the cluster, so that one is made only if that was reserved.
    pub is_counted: bool,
    /// Time until a connection is established, TLS and SETTINGS included.
    pub connect_timeout: Duration,
    /// How long one without streams is kept.
    pub idle: Duration,
}

/// How a connection is to be acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireOptions {
    /// A new connection is made even if one is idle.
    pub fresh: bool,
    /// The ring returns pieces that were sent, because they may be sent again.
    pub replay: bool,
    /// The method of the request.
    pub method: Method,
    /// The request asks for another protocol with Upgrade.
    pub upgrades: bool,
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
            shared: Vec::new(),
            known_tunnels: 0,
            streams: 0,
            touched: Vec::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            moved: Vec::new(),
            handshakes: VecDeque::new(),
        }
    }
}

impl Upstream {
    /// Whether it has been established, and its TLS handshake completed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether it may be used for requests whose Host has this name; None: for those of which that does not matter.
    #[must_use]
    #[inline]
    pub fn is_named(&self, host: Option<&str>) -> bool {
        match (self.host.as_deref(), host) {
            (None, None) => true,
            (Some(own), Some(asked)) => own.eq_ignore_ascii_case(asked),
            _ => false,
        }
    }

    /// Whether it is a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.transport.stream_link().is_some()
    }

    /// Whether something of the request of a stream has gone to its connection.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether what is sent has to be copied if it may be sent again: it is sealed, or encoded.
    #[must_use]
    pub fn needs_copies(&self) -> bool {
        self.transport.session().is_some() || self.is_stream()
    }

    /// Whether nothing of the current request was sent, or the endpoint says that it has not processed it.
    #[must_use]
    pub fn is_untouched<D: Driver>(&self, ring: &Ring<D>) -> bool {
        if self.is_stream() {
            return !self.is_begun || self.end == Some(End::Refused);
        }
        self.transport.taken(ring) == self.taken_before && !ring.is_sending(self.transport.socket())
    }
}

impl Upstream {
    /// A connection that is being made, or a stream.
    fn new(transport: Transport, endpoint: EndpointId, address: usize) -> Self {
        Self {
            transport,
            endpoint,
            exchange: None,
            reused: false,
            end: None,
            answered: false,
            taken_before: 0,
            received: 0,
            bound: None,
            header_bytes: 0,
            connected: false,
            deaf: false,
            address: address as u8,
            scanned: 0,
            body: Body::Done,
            keep_alive: true,
            host: None,
            counted: None,
            method: Method::Get,
            upgrades: false,
            shared: None,
            never_indexed: NeverIndexed::default(),
            seat: None,
            is_begun: false,
            is_touched: false,
            is_ready: false,
        }
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
        self.shared.resize_with(bound.max(self.shared.len()), SharedPool::default);
        self.retire_shared(ring, stays);
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
        let speaks_http1 = |pool: &SharedPool| pool.speaks_http1;
        if let Some(sharing) = destination.sharing
            && !(sharing.is_negotiated && self.shared.get(endpoint.index()).is_some_and(speaks_http1))
        {
            return self.open_stream(ring, endpoint, destination, sharing, exchange, options);
        }
        if !options.fresh
            && destination.header.is_none()
            && let Some(index) = self.pool.find(endpoint, |index| {
                self.table.get(index as usize).is_some_and(|idle| idle.is_named(destination.host))
            })
        {
            self.pool.remove(endpoint, index);
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
        // tidy: start-up
        let host = destination.host.map(Box::<str>::from);
        let named = |host: &str| ServerName::try_from(host).ok().map(|name| name.to_owned());
        let session = destination.tls.map(|(client, name)| {
            let name = host.as_deref().and_then(named).unwrap_or_else(|| name.clone());
            self.session(endpoint, client, name, now)
        });
        let mut transport = Transport::new(socket, session);
        let end = transport.begin(ring).err().map(End::Tls);
        // What the ring would return is sealed.
        ring.return_sent(socket, options.replay && transport.session().is_none());
        self.pool.cells(endpoint).connect();
        self.table.insert(Upstream {
            exchange: Some(exchange),
            end,
            header_bytes,
            host,
            counted: self.reserved.take(),
            ..Upstream::new(transport, endpoint, destination.position)
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
        name: ServerName<'static>,
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
        Box::new(Session::client(&known.client, name))
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

    /// Closes an idle connection, if there is one, so that its descriptor can be reused: one to the endpoint that has most of them, or else
    /// one that belongs to a client connection.
    pub fn close_idle<D: Driver>(&mut self, ring: &mut Ring<D>) {
        let most = self.pool.endpoints().max_by_key(|endpoint| self.pool.len(*endpoint));
        let pooled = most.and_then(|endpoint| self.pool.top(endpoint));
        let is_idle = |index: &u32| self.get(*index).is_some_and(|it| it.exchange.is_none());
        if let Some(index) = pooled.or_else(|| self.bound.iter().flatten().copied().find(is_idle)) {
            return self.discard(ring, index);
        }
        self.close_idle_shared(ring, |_| true);
    }

    /// Connections that there are, idle ones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len() - self.streams
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
}
