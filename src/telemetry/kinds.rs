//! What is counted by kind: why something was refused, shed or done again, with the words of metrics. Not here: the counters
//! (`telemetry`).

/// What a connection that was shed for want of buffers had kept waiting for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shed {
    /// A head, a TLS record or a handshake that had begun.
    PartialHead,
    /// A client that did not take what was sent to it.
    SlowReader,
    /// An origin that did not take the request.
    SlowOrigin,
    /// Requests that waited behind a slow one.
    Pipelined,
}

impl Shed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PartialHead, Self::SlowReader, Self::SlowOrigin, Self::Pipelined];

    /// Its name in metrics and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PartialHead => "partial_head",
            Self::SlowReader => "slow_reader",
            Self::SlowOrigin => "slow_origin",
            Self::Pipelined => "pipelined",
        }
    }
}

/// Why a connection was closed because of its PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRefusal {
    /// It comes from nobody who may send one, and one is required.
    Untrusted,
    /// It begins with something else.
    Missing,
    /// It begins with what looks like one and is none.
    Malformed,
    /// Its end did not come in time, or not at all.
    Incomplete,
}

impl ProxyRefusal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Untrusted, Self::Missing, Self::Malformed, Self::Incomplete];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Why a connection of TCP was not passed on to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpRefusal {
    /// The listener has as many connections as it may.
    Connections,
    /// Its ClientHello is malformed.
    Hello,
    /// Its ClientHello did not come in time.
    HelloTimeout,
    /// It has no route.
    NoRoute,
    /// No endpoint of its cluster takes traffic.
    NoEndpoint,
    /// Too many wait for a place of its cluster.
    QueueFull,
    /// It has waited too long for one.
    QueueTimeout,
    /// The worker has more to do than it can.
    Overloaded,
    /// No endpoint could be connected to.
    Connect,
    /// Connecting has taken too long.
    ConnectTimeout,
    /// TLS with the endpoint has failed.
    Tls,
    /// No descriptor or buffer was left.
    Resources,
}

impl TcpRefusal {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Connections,
        Self::Hello,
        Self::HelloTimeout,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Overloaded,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::Resources,
    ];

    /// Its name in metrics and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "too_many_connections",
            Self::Hello => "bad_hello",
            Self::HelloTimeout => "hello_timeout",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Overloaded => "overloaded",
            Self::Connect => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Resources => "no_resources",
        }
    }
}

/// Why the handshake of a client has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// Its certificate is not believed.
    Certificate,
    /// It has shown no certificate, and needs one.
    NoCertificate,
    /// Anything else: it breaks the protocol, does not believe our certificate, or hangs up.
    Other,
}

impl HandshakeFailure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Certificate, Self::NoCertificate, Self::Other];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::NoCertificate => "no_certificate",
            Self::Other => "other",
        }
    }
}

/// Why TLS with an endpoint has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// Its certificate is not believed.
    Certificate,
    /// It breaks the protocol, or hangs up during the handshake.
    Protocol,
    /// It has sent an alert.
    Alert,
    /// No buffer was free.
    Buffers,
}

impl TlsFailure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Certificate, Self::Protocol, Self::Alert, Self::Buffers];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Protocol => "protocol",
            Self::Alert => "alert",
            Self::Buffers => "buffers",
        }
    }
}

/// Why a request was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// A reused connection had ended.
    Stale,
    /// No connection could be made.
    Connect,
    /// The connection ended before a response.
    Reset,
    /// One try took too long.
    Timeout,
    /// The status of the response.
    Status,
}

impl RetryReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Stale, Self::Connect, Self::Reset, Self::Timeout, Self::Status];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

/// What becomes of a second attempt at another endpoint beside a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeOutcome {
    /// Its answer was taken.
    Won,
    /// That of the first attempt was taken, or it has failed.
    Lost,
    /// It was not made: the budget is used up, no other endpoint has a place, or the request is not held.
    Refused,
}

impl HedgeOutcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Won, Self::Lost, Self::Refused];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

/// Why a request was not sent again, although its route asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRefusal {
    /// The route's budget is used up.
    Budget,
    /// The request is too large to be kept, or buffers are short.
    NotHeld,
}

impl RetryRefusal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Budget, Self::NotHeld];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::NotHeld => "not_held",
        }
    }
}
