//! A scenario: who takes part and what goes wrong, as data, so that a failing one can be printed and made smaller. Not here: drawing
//! one from a seed (`draw`), and playing it.

use std::time::Duration;

use crate::carrier::CarrierPlan;

/// The start of clients that come when the others have gone.
pub(crate) const NEVER: Duration = Duration::from_secs(1 << 40);

/// Everything that happens in one world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) kernel: KernelPlan,
    pub(crate) listeners: Vec<ListenerPlan>,
    pub(crate) clusters: Vec<ClusterPlan>,
    pub(crate) clients: Vec<ClientPlan>,
    /// By id.
    pub(crate) exchanges: Vec<ExchangePlan>,
    pub(crate) operator: Vec<OperatorPlan>,
}

impl KernelPlan {
    /// Whether moving bytes may take so long that no time can be asked for.
    pub(crate) fn is_tedious(&self) -> bool {
        self.single_bytes && (self.short_receives > 2 || self.short_sends > 2)
    }
}

/// How the kernel behaves, within what it may do.
#[derive(Clone, Debug)]
pub(crate) struct KernelPlan {
    /// Completions come late, by up to this.
    pub(crate) delay: Duration,
    /// Receives bring less than there is, in so many of a hundred cases.
    pub(crate) short_receives: usize,
    /// Sends take less than they could.
    pub(crate) short_sends: usize,
    /// Sends take long although there is room.
    pub(crate) slow_sends: usize,
    /// Some of the transfers above move a single byte.
    pub(crate) single_bytes: bool,
    /// Multishot operations end without reason, in so many of a hundred cases.
    pub(crate) ends_multishot: usize,
    /// EAGAIN and EINTR where they are allowed, ECONNABORTED for accept, in so many of a hundred cases.
    pub(crate) transient: usize,
    pub(crate) bundles: bool,
    /// A FIN right behind data may go untold.
    pub(crate) misses_ends: bool,
    /// Room of the completion queue.
    pub(crate) completions: usize,
    /// Ordinary buffers of the worker.
    pub(crate) buffers: usize,
    /// Descriptors that there may be; None: as many as anybody wants.
    pub(crate) descriptors: Option<usize>,
    /// Bytes that are on their way in one direction of a connection.
    pub(crate) window: usize,
    /// A reset takes along what the peer has not read.
    pub(crate) harsh_resets: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ListenerPlan {
    pub(crate) tls: bool,
    pub(crate) header: Duration,
    pub(crate) body: Duration,
    pub(crate) idle: Duration,
    /// Requests of one connection; 0: no limit.
    pub(crate) requests: usize,
    /// Connections; 0: no limit.
    pub(crate) connections: usize,
    /// TLS handshakes under way; 0: no limit.
    pub(crate) handshakes: usize,
    /// Bytes per second; 0: any.
    pub(crate) body_rate: usize,
    /// Streams of one connection of HTTP/2, and their windows; None: as many and as large as by default.
    pub(crate) http2: Option<(u32, u32)>,
}

#[derive(Clone, Debug)]
pub(crate) struct ClusterPlan {
    pub(crate) endpoints: Vec<EndpointPlan>,
    pub(crate) balance: &'static str,
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) idle: Duration,
    pub(crate) max_idle: usize,
    pub(crate) abort_on_close: bool,
    /// The route's `timeout`.
    pub(crate) timeout: Option<Duration>,
    pub(crate) limits: Option<LimitsPlan>,
    /// After how long another endpoint is asked, too.
    pub(crate) hedge: Option<Duration>,
}

/// How many requests may be under way, at the cluster and at one endpoint, and how many may wait, for how long; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitsPlan {
    pub(crate) requests: usize,
    pub(crate) endpoint_requests: usize,
    pub(crate) queue: usize,
    pub(crate) wait: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct EndpointPlan {
    pub(crate) connects: Connects,
    /// Idle connections are closed after about so long.
    pub(crate) closes_idle: Option<Duration>,
    /// It closes those that it closes at all at the same moments, as one that is restarted does.
    pub(crate) closes_together: bool,
    /// So long after an answer it sends what nobody has asked for: that it waits no longer.
    pub(crate) talks: Option<Duration>,
    /// It reads requests as slowly as this.
    pub(crate) reads: Pace,
}

/// What becomes of connections to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connects {
    /// They stand at once.
    Up,
    /// They are refused.
    Refused,
    /// They are never answered.
    Silent,
    /// They stand after so long.
    Late(Duration),
    /// They stand and are refused in turn, for so long each.
    Flapping(Duration),
}

/// How bytes are moved: at most so many at a time, with a pause of up to `gap` in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) chunk: usize,
    pub(crate) gap: Duration,
}

impl Pace {
    pub(crate) const PROMPT: Self = Self { chunk: usize::MAX, gap: Duration::ZERO };

    /// The same with larger pieces.
    pub(crate) fn at_least(self, chunk: usize) -> Self {
        Self { chunk: self.chunk.max(chunk), ..self }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) start: Duration,
    pub(crate) listener: usize,
    /// In their order.
    pub(crate) exchanges: Vec<u32>,
    /// Requests that are sent before the first of them is answered.
    pub(crate) depth: usize,
    pub(crate) writes: Pace,
    pub(crate) reads: Pace,
    /// It does nothing that a worker may hold against it.
    pub(crate) calm: bool,
    pub(crate) end: ClientEnd,
    /// What it does after having sent so many bytes.
    pub(crate) fault: Option<(usize, ClientFault)>,
    /// How it speaks HTTP/2; None: it speaks HTTP/1.1.
    pub(crate) http2: Option<Http2Plan>,
}

/// How a peer speaks HTTP/2, and what it does with it.
#[derive(Clone, Debug)]
pub(crate) struct Http2Plan {
    pub(crate) carrier: CarrierPlan,
    /// Other windows of streams, each so long after the connection was made.
    pub(crate) changes: Vec<(Duration, u32)>,
    /// Where a stream is read slowly, the pause between two updates of its window.
    pub(crate) gap: Duration,
    /// It sends PING with each stream.
    pub(crate) pings: bool,
}

/// What is wrong with a stream, on its client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFault {
    /// It is reset right behind the head of the request.
    ResetsAtOnce,
    /// It is reset when so many bytes of the request were sent.
    ResetsSending(usize),
    /// It is reset when so many bytes of the response have come.
    ResetsReceiving(usize),
    /// No more is sent after so many bytes.
    StopsSending(usize),
    /// Its window is never opened again.
    StopsReading,
    /// Its window is opened slowly.
    ReadsSlowly,
}

/// What a client does when all is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    Close,
    /// It sends FIN behind its last request and reads on.
    HalfClose,
    /// It waits to be closed.
    Idle,
    Reset,
}

/// What is wrong with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientFault {
    /// It resets the connection.
    Resets,
    /// It sends FIN and reads on.
    Finishes,
    /// It closes, read or not.
    Closes,
    /// It sends no more.
    Stalls,
    /// It sends no more for this long.
    Pauses(Duration),
    /// It reads no more.
    StopsReading,
    /// It sends bytes that mean nothing.
    Garbage,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Cluster(usize),
    /// A route that answers by itself.
    Own,
    /// No route.
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(usize),
    /// In chunks of so many bytes.
    Chunked(usize, usize),
}

impl Body {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Length(bytes) | Self::Chunked(bytes, _) => bytes,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ExchangePlan {
    pub(crate) target: Target,
    pub(crate) method: &'static str,
    pub(crate) body: Body,
    /// Bytes of a field that only makes the head longer.
    pub(crate) padding: usize,
    /// The client waits for 100 before it sends the body, for a while.
    pub(crate) expects: bool,
    pub(crate) http10: bool,
    /// It logs in on the connection: no other client may use the one to the origin (RFC 4559 section 6).
    pub(crate) logs_in: bool,
    /// The client asks for the connection to be closed.
    pub(crate) close: bool,
    /// It asks for a tunnel, through which so many bytes go up and down.
    pub(crate) tunnel: Option<(usize, usize)>,
    /// How long the client waits before it begins.
    pub(crate) pause: Duration,
    pub(crate) answer: AnswerPlan,
    /// What is wrong with its stream.
    pub(crate) stream: Option<StreamFault>,
}

/// What the origin does.
#[derive(Clone, Debug)]
pub(crate) struct AnswerPlan {
    /// How long it takes.
    pub(crate) delay: Duration,
    /// Heads of 1xx before.
    pub(crate) interims: usize,
    pub(crate) status: u16,
    pub(crate) framing: AnswerFraming,
    /// Bytes of content.
    pub(crate) bytes: usize,
    pub(crate) writes: Pace,
    /// It answers before it has read the whole request.
    pub(crate) early: bool,
    /// It closes the connection afterwards, and says so.
    pub(crate) close: bool,
    /// What goes wrong after so many bytes.
    pub(crate) fault: Option<(usize, OriginFault)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFraming {
    Length,
    /// In chunks of so many bytes, with trailers or not.
    Chunked(usize, bool),
    Close,
}

/// What is wrong with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginFault {
    Finishes,
    Resets,
    /// It sends no more.
    Stalls,
    /// It sends no more for this long.
    Pauses(Duration),
    Garbage,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct OperatorPlan {
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Loads the same configuration again.
    Reload,
    /// Adds a listener, and a route of its own.
    AddListener,
    RemoveListener(usize),
    /// Takes a cluster's endpoints away but the first.
    RemoveEndpoints(usize),
    /// Sends a cluster's traffic to the first one.
    RemoveCluster(usize),
    /// Brings back all that was removed.
    Restore,
    /// Loads two configurations at once.
    ReloadTwice,
    Drain,
    /// Sets the wall clock by so many seconds.
    Clock(i64),
}

impl Scenario {
    /// Whether an exchange has to succeed, whatever others do, unless the operator or a shortage comes between.
    pub(crate) fn is_clean(&self, number: usize, exchange: u32) -> bool {
        let (client, plan) = (&self.clients[number], &self.exchanges[exchange as usize]);
        let listener = &self.listeners[client.listener];
        if client.start != NEVER && (self.is_short() || listener.connections > 0 || listener.handshakes > 0)
            || !client.calm
        {
            return false;
        }
        let before = client.exchanges.iter().take_while(|other| **other != exchange);
        let is_piped = client.depth > 1 && client.http2.is_none();
        if plan.stream.is_some() {
            return false;
        }
        if is_piped && !before.copied().all(|other| self.is_clean(number, other)) {
            // It waits for others.
            return false;
        }
        // Streams neither wait for each other nor end together.
        let mut behind = client.exchanges.iter().skip_while(|other| **other != exchange).skip(1).take(client.depth - 1);
        if client.http2.is_none() && behind.any(|other| self.may_be_reset(*other)) {
            // The reset takes along what is not read yet: who pipelines has to ask again (RFC 9112 section 9.3.2).
            return false;
        }
        let Target::Cluster(cluster) = plan.target else { return true };
        let answer = &plan.answer;
        let cluster = &self.clusters[cluster];
        if client.end == ClientEnd::HalfClose && cluster.abort_on_close && client.http2.is_none() {
            return false;
        }
        if cluster.endpoints.iter().any(|endpoint| endpoint.talks.is_some()) {
            // What it says to nobody may come as somebody begins to ask.
            return false;
        }
        let closes = cluster.endpoints.iter().any(|endpoint| endpoint.closes_idle.is_some());
        if closes && (!self.is_idempotent(exchange) || plan.body != Body::None) {
            return false;
        }
        let prompt = answer.delay + Duration::from_millis(200)
            < cluster.timeout.unwrap_or(cluster.response).min(cluster.response);
        let early = answer.early && plan.body.bytes() > 0;
        prompt && !early && answer.fault.is_none() && cluster.is_clean()
    }

    /// Whether nothing but a reset can tell the client that a response has broken off: HTTP/1.0 knows no chunks.
    fn may_be_reset(&self, exchange: u32) -> bool {
        let plan = &self.exchanges[exchange as usize];
        plan.http10 && plan.answer.framing != AnswerFraming::Length && plan.answer.fault.is_some()
    }

    /// Whether every endpoint of an exchange's cluster takes connections at once.
    pub(crate) fn is_reachable(&self, exchange: u32) -> bool {
        let Target::Cluster(cluster) = self.exchanges[exchange as usize].target else { return false };
        self.clusters[cluster].endpoints.iter().all(|endpoint| endpoint.connects == Connects::Up)
    }

    /// The number of the client that sends an exchange.
    pub(crate) fn client_of(&self, exchange: u32) -> Option<usize> {
        self.clients.iter().position(|client| client.exchanges.contains(&exchange))
    }

    /// What is wrong with that client.
    pub(crate) fn client_fault_of(&self, exchange: u32) -> Option<ClientFault> {
        let (_, fault) = self.clients[self.client_of(exchange)?].fault?;
        Some(fault)
    }

    /// Whether every client reads whatever it gets, and gets only what it asks for.
    pub(crate) fn is_calm(&self) -> bool {
        self.clients.iter().all(|client| client.calm)
            && self.exchanges.iter().all(|exchange| exchange.stream.is_none())
            && self.listeners.iter().all(|it| it.connections == 0)
    }

    /// Whether a request may be sent again (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self, exchange: u32) -> bool {
        self.exchanges[exchange as usize].method != "POST"
    }

    /// Whether buffers or descriptors may run out.
    pub(crate) fn is_short(&self) -> bool {
        self.kernel.buffers < 2048 || self.kernel.descriptors.is_some()
    }

    /// What of it plays a part, to read.
    pub(crate) fn describe(&self) -> String {
        let mut lines = vec![format!("{:?}", self.kernel)];
        lines.extend(self.listeners.iter().enumerate().map(|(number, plan)| format!("listener {number}: {plan:?}")));
        lines.extend(self.clusters.iter().enumerate().map(|(number, plan)| format!("cluster {number}: {plan:?}")));
        for (number, client) in self.clients.iter().enumerate().filter(|(_, client)| !client.exchanges.is_empty()) {
            lines.push(format!("client {number}: {client:?}"));
            for exchange in &client.exchanges {
                lines.push(format!("  exchange {exchange}: {:?}", self.exchanges[*exchange as usize]));
            }
        }
        lines.extend(self.operator.iter().map(|plan| format!("operator: {plan:?}")));
        lines.join("\n")
    }

    /// How long an exchange may be held up by endpoints that cannot be connected to.
    pub(crate) fn connecting_time(&self, plan: &ExchangePlan) -> Duration {
        let Target::Cluster(cluster) = plan.target else { return Duration::ZERO };
        3 * self.clusters[cluster].connect
    }

    /// The longest that a worker may wait for somebody.
    pub(crate) fn patience(&self) -> Duration {
        let listeners = self.listeners.iter().map(|it| it.header + it.body + it.idle).max().unwrap_or_default();
        let clusters = self.clusters.iter().map(|it| 4 * it.connect + 2 * it.response + it.idle + it.wait()).max();
        let tunnels = self.exchanges.iter().any(|exchange| exchange.tunnel.is_some());
        let tunnel = Duration::from_secs(if tunnels { 3700 } else { 0 });
        listeners + clusters.unwrap_or_default() + tunnel + Duration::from_secs(60)
    }
}

impl Scenario {
    /// Whether an exchange may be at two endpoints at a time.
    pub(crate) fn is_hedged(&self, exchange: u32) -> bool {
        let hedge = |cluster: usize| self.clusters[cluster].hedge.is_some();
        match self.exchanges[exchange as usize].target {
            // A removed cluster's route leads to the first one, and has its own key.
            Target::Cluster(cluster) => hedge(cluster) && self.is_idempotent(exchange),
            _ => false,
        }
    }
}

impl ClusterPlan {
    /// How long a request waits at most before its first attempt.
    fn wait(&self) -> Duration {
        self.limits.map_or(Duration::ZERO, |limits| limits.wait)
    }

    /// Whether a connection is had in time whatever is picked.
    fn is_clean(&self) -> bool {
        let up = self.endpoints.iter().any(|endpoint| endpoint.connects == Connects::Up);
        let known = |endpoint: &EndpointPlan| match endpoint.connects {
            Connects::Up | Connects::Refused => true,
            Connects::Silent => self.timeout.is_none(),
            Connects::Late(_) | Connects::Flapping(_) => false,
        };
        up && self.limits.is_none()
            && self.endpoints.iter().all(known)
            && self.endpoints.iter().all(|it| it.reads.gap <= Duration::from_millis(2))
    }
}
