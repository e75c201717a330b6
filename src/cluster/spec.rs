//! Clusters as plain data: the form that `config` produces. Not here: choosing an endpoint.

use std::fmt;
use std::time::Duration;

use crate::id::Address;
use crate::proxy_protocol::Version;
use crate::tls::{ClientSpec, ServerName};

/// One `[[cluster]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSpec {
    /// Unique name.
    pub name: String,
    /// Endpoints; at least one.
    pub endpoints: Vec<EndpointSpec>,
    /// Host and port of the first endpoint that has a host, as it is written. The Host of requests that have none.
    pub host: String,
    /// `tls`; None: in the clear.
    pub tls: Option<ClientSpec>,
    /// `proxy_protocol`: the version of the header that each connection begins with; None: there is none.
    pub proxy_protocol: Option<Version>,
    /// `protocol` and `http2`: connections that requests share; None: HTTP/1.1 alone is spoken.
    pub http2: Option<Http2Spec>,
    /// Policy by which an endpoint is chosen.
    pub balance: Balance,
    /// `pool.max_idle`: idle connections kept per endpoint, over all workers. Default 128.
    pub max_idle: u32,
    /// `pool.idle`: how long an idle connection is kept. Default 55 s.
    pub idle: Duration,
    /// `timeouts.connect`. Default 2 s.
    pub connect_timeout: Duration,
    /// `timeouts.response`: end of the request head to the first response byte, and between reads of the response. Default 30 s.
    pub response_timeout: Duration,
    /// Whether a client that sends FIN before the response begins is taken to have gone. Default false: it may only have
    /// finished sending (RFC 9112 section 9.6).
    pub abort_on_close: bool,
    /// `outlier`
    pub outlier: OutlierSpec,
    /// `health`; None: endpoints are not checked.
    pub health: Option<HealthSpec>,
    /// `panic_threshold`: share of the endpoints that have to be usable, 0 to 1; where fewer are, all are used. Default 0.5.
    pub panic_threshold: f64,
    /// `slow_start`: time in which an endpoint that has come back gets its full weight; 0: at once.
    pub slow_start: Duration,
    /// `limits`
    pub limits: LimitsSpec,
    /// `hash_on`: what equal requests have in common; for the policies that heed it.
    pub hash_on: Option<HashOn>,
    /// `affinity`; None: no client is kept at its endpoint.
    pub affinity: Option<AffinitySpec>,
    /// `zone`: the one in which this proxy runs; None: no endpoint is preferred.
    pub zone: Option<String>,
}

/// `protocol` and `[cluster.http2]`: connections that requests share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Spec {
    /// TLS decides by ALPN whether HTTP/2 or HTTP/1.1 is spoken; else it is HTTP/2.
    pub is_negotiated: bool,
    /// `streams`: requests that share a connection at a time.
    pub streams: u16,
    /// `connections`: to one endpoint, over all workers.
    pub connections: u32,
}

impl fmt::Display for Http2Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_negotiated, streams, connections } = self;
        let protocol = if *is_negotiated { "auto" } else { "http2" };
        write!(f, "{protocol}, {streams} streams, {connections} connections")
    }
}

/// `cluster.hash_on`: the part of a request by which its endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// `header:NAME`, in lower case: the first field of this name that is forwarded.
    Header(Box<str>),
    /// `cookie:NAME`: the first cookie of this name.
    Cookie(Box<str>),
    /// `query:NAME`: the first parameter of this name, as it was sent.
    Query(Box<str>),
    /// `source`: the address of the client, as far as it is known and believed.
    Source,
}

impl fmt::Display for HashOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Source => f.write_str("source"),
        }
    }
}

/// `cluster.affinity`: a cookie that names the endpoint of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinitySpec {
    /// `cookie`: its name.
    pub cookie: String,
    /// `ttl`: how long the client keeps it; None: until it ends.
    pub ttl: Option<Duration>,
}

impl fmt::Display for AffinitySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ttl {
            Some(ttl) => write!(f, "cookie {} for {ttl:?}", self.cookie),
            None => write!(f, "cookie {}", self.cookie),
        }
    }
}

/// `[cluster.limits]`: how many requests may be under way, and may wait, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsSpec {
    /// `requests`: under way; 0: no limit.
    pub requests: u32,
    /// `per_endpoint.requests`: under way at one endpoint; 0: no limit.
    pub endpoint_requests: u32,
    /// `connections`: open to all endpoints, idle ones among them; 0: no limit.
    pub connections: u32,
    /// `per_endpoint.connections`: to one endpoint; 0: no limit.
    pub endpoint_connections: u32,
    /// `queue`: that wait for a place.
    pub queue: u32,
    /// `queue_timeout`: how long one waits.
    pub queue_timeout: Duration,
    /// `adaptive`: whether there is a limit that follows the time to first bytes.
    pub adaptive: bool,
}

impl LimitsSpec {
    /// None.
    pub const NONE: Self = Self {
        requests: 0,
        endpoint_requests: 0,
        connections: 0,
        endpoint_connections: 0,
        queue: 0,
        queue_timeout: Duration::from_secs(1),
        adaptive: false,
    };

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.requests == 0 && self.endpoint_requests == 0 && !self.adaptive && !self.counts_connections()
    }

    /// Whether connections are limited.
    #[must_use]
    pub fn counts_connections(&self) -> bool {
        self.connections > 0 || self.endpoint_connections > 0
    }
}

impl fmt::Display for LimitsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, endpoint_requests, connections, endpoint_connections, queue, queue_timeout, adaptive } =
            self;
        if self.is_none() {
            return f.write_str("none");
        }
        let adaptive = if *adaptive { ", adaptive" } else { "" };
        write!(f, "{requests} requests, {endpoint_requests} an endpoint{adaptive}, ")?;
        if self.counts_connections() {
            write!(f, "{connections} connections, {endpoint_connections} an endpoint, ")?;
        }
        write!(f, "{queue} waiting for {queue_timeout:?}")
    }
}

/// `[cluster.health]`: how endpoints are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSpec {
    /// What is done.
    pub kind: CheckKind,
    /// Between checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Good checks in a row that bring an endpoint back.
    pub rise: u32,
    /// Failed checks in a row that take an endpoint out.
    pub fall: u32,
    /// What an endpoint is until its first check.
    pub initial: Initial,
}

/// What an endpoint is until its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Used.
    Up,
    /// Kept from traffic.
    Down,
    /// Kept from traffic; and at the start of the process, `/ready` waits for the check.
    Wait,
}

impl Initial {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Wait => "wait",
        }
    }
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Makes a connection.
    Tcp,
    /// Sends a request.
    Http(HttpCheck),
    /// Asks the health service of gRPC for a service; empty: the server as a whole.
    Grpc(String),
}

/// The request of a check, and its good answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Path and query.
    pub path: String,
    /// Host; None: that of the endpoint.
    pub host: Option<String>,
    /// Method.
    pub method: String,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// Statuses.
    pub expect: Vec<std::ops::RangeInclusive<u16>>,
    /// What the beginning of the body has to hold.
    pub body: Option<String>,
}

/// `[cluster.outlier]`: when endpoints are ejected because of what comes of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierSpec {
    /// Failures in a row; 0: never.
    pub consecutive_failures: u32,
    /// Share of the attempts of the last ten seconds that have failed, 0 to 1; 0: never.
    pub failure_rate: f64,
    /// How many times as long as at the others of the cluster all but one in twenty answers take; 0: never.
    pub latency_factor: u32,
    /// Attempts in that time from which on the share, and answers from which on their times, count.
    pub min_volume: u32,
    /// How long, the first time; the n-th time n times as long.
    pub ejection: Duration,
    /// Largest share of the endpoints that are ejected at a time, 0 to 1; one always may be, if another is usable.
    pub max_ejected: f64,
}

impl fmt::Display for OutlierSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consecutive_failures, failure_rate, latency_factor, min_volume, ejection, max_ejected } = self;
        write!(
            f,
            "{consecutive_failures} in a row or {failure_rate} of {min_volume}, for {ejection:?}, at most {max_ejected}"
        )?;
        if *latency_factor > 0 { write!(f, ", {latency_factor} times as slow") } else { Ok(()) }
    }
}

impl OutlierSpec {
    /// No ejection.
    pub const OFF: Self = Self {
        consecutive_failures: 0,
        failure_rate: 0.0,
        latency_factor: 0,
        min_volume: 0,
        ejection: Duration::from_secs(10),
        max_ejected: 0.5,
    };
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// What it is called: the address, or the name with its port as it is written, which stays when a name server answers otherwise.
    pub name: String,
    /// Host and port as they are written; `localhost` for a Unix-domain socket. The Host of checks that name none.
    pub host: String,
    /// Its address.
    pub address: Address,
    /// Further addresses of its name, in the order in which they are tried when no connection to `address` can be made.
    pub others: Vec<Address>,
    /// The name that TLS asks for and that the certificate has to have; None: in the clear.
    pub tls_name: Option<ServerName<'static>>,
    /// Share of the traffic, 0 (none) to 65,535; default 1.
    pub weight: u16,
    /// Whether it is used only where too few others are usable.
    pub backup: bool,
    /// The zone in which it runs; None: in none that is known.
    pub zone: Option<String>,
}

impl EndpointSpec {
    /// All of its addresses, in the order in which they are tried.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.address).chain(&self.others)
    }
}

/// `cluster.balance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two chosen at random, by weight (power of two choices), over all workers.
    #[default]
    LeastRequest,
    /// At random, by weight.
    Random,
    /// Of two chosen at random, the one that is expected to answer sooner, by its recent times to a first byte.
    PeakEwma,
    /// By a key of the request: the next one on a ring that is not too busy (consistent hashing with bounded loads).
    RingHash,
    /// By a key of the request: the one that has its place in a table (Maglev).
    Maglev,
}

impl Balance {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::Random => "random",
            Self::PeakEwma => "peak_ewma",
            Self::RingHash => "ring_hash",
            Self::Maglev => "maglev",
        }
    }
}
