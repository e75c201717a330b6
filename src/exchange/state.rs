//! One exchange while it lasts. Not here: what is done with it (`exchange`), and what stays of it (`record`).

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Attempt, Stage};
use super::hedge::{Hedging, Second};
use super::preference::Wanted;
use super::recover::Tries;
use super::replay::Replay;
use super::waiting::{Link, Place};
use super::{Failure, Forwarding, Kept};
use crate::access_log::AttemptLog;
use crate::buffer::Queue;
use crate::cluster::{Cluster, Priority};
use crate::http::{Method, UpgradeOffer};
use crate::http2::head::NeverIndexed;
use crate::id::{ClusterId, RouteId, StreamId, TenantId};
use crate::limits;
use crate::route::{Route, RouteLimits};
use crate::runtime::Tick;
use crate::snapshot::{LedgerNumber, SnapshotRef};
use crate::telemetry::NO_CLUSTER;

/// One exchange.
pub(super) struct Exchange {
    /// The client's stream that gets the response.
    pub(super) stream: StreamId,
    /// The snapshot that the exchange began under. A tunnel, which may last for days, holds the empty one.
    pub(super) snapshot: SnapshotRef,
    /// The ledger numbers of a tunnel's endpoint and route: while they are held, the ledger gives them to no others.
    pub(super) numbers: [Option<Arc<LedgerNumber>>; 2],
    pub(super) route: RouteId,
    /// The tenant whose quota of requests in flight it counts against.
    pub(super) tenant: Option<TenantId>,
    pub(super) cluster: ClusterId,
    pub(super) method: Method,
    pub(super) offer: UpgradeOffer,
    /// It is a call of gRPC, over HTTP/2: it may last, and be silent, for as long as both ends like.
    pub(super) is_call: bool,
    /// Names of fields of the request that came never indexed, for an origin that speaks HTTP/2.
    pub(super) never_indexed: NeverIndexed,
    pub(super) state: State,
    /// Another attempt that is under way beside that of `state`.
    pub(super) second: Option<Second>,
    /// None: there will be no second attempt.
    pub(super) hedging: Option<Hedging>,
    pub(super) tries: Tries,
    /// Where its request was to go.
    pub(super) wanted: Wanted,
    /// How important it is where not all can be served.
    pub(super) priority: Priority,
    /// What it has of a cluster with limits; None: the cluster has none, or nothing was taken yet.
    pub(super) place: Option<Place>,
    /// Since when the attempt under way connects; None: it does not.
    pub(super) connecting: Option<Duration>,
    /// The part of its record that describes the origin's side.
    pub(super) forwarding: Forwarding,
    /// Its attempts before the one under way; None: there are none.
    pub(super) attempts: Option<Box<AttemptLog>>,
    /// Id of its span; 0: it is not recorded.
    pub(super) span: u64,
    /// The part of the request that was sent and may be sent again.
    pub(super) replay: Replay,
    /// What its response needs of its request.
    pub(super) kept: Option<Box<Kept>>,
    /// Since when the origin of this attempt has had the whole request queued; before that, when the exchange began.
    pub(super) asked: Duration,
    /// The whole request was queued for the origin.
    pub(super) request_done: bool,
    /// The request or its response authenticates the connection itself (NTLM, Negotiate).
    pub(super) binds: bool,
    /// What its response says of the endpoint is in its trailers.
    pub(super) judged_by_trailers: bool,
    /// Number of interim responses so far.
    pub(super) interims: u16,
    /// Whether the route has limits of its own.
    pub(super) limited: bool,
    /// How long it may be silent in both directions once it is a tunnel, milliseconds: the route is not known any more then.
    pub(super) tunnel_idle: u32,
    /// The route's `timeout`, which begins when the request has ended.
    pub(super) timeout: Option<Duration>,
    /// When the time is over that the client allows.
    pub(super) due: Option<Tick>,
    /// When `timeout` is over, which is known when the request has ended, or the time that the client allows.
    pub(super) deadline: Option<Tick>,
}

/// The state of an exchange.
#[derive(Debug)]
pub(super) enum State {
    /// No attempt is under way; the next one is about to begin.
    Between,
    /// An attempt at an endpoint is under way.
    Attempt(Attempt),
    /// The next attempt is made after a while, or when there is a place for it.
    Waiting(Wait),
    /// There will be no response.
    Failed(Failure),
}

/// A wait before an attempt.
#[derive(Debug)]
pub(super) struct Wait {
    /// The whole request so far.
    pub(super) request: Queue,
    pub(super) until: Tick,
    /// None: since an attempt has failed. Some: for a place, which has to come before `until`.
    pub(super) link: Option<Link>,
}

impl Exchange {
    /// One on `route`, before its first attempt, without what a request brings.
    #[inline(always)]
    pub(super) fn new(
        stream: StreamId,
        snapshot: &SnapshotRef,
        route: &Route,
        cluster: ClusterId,
        now: Duration,
    ) -> Self {
        Self {
            stream,
            route: route.id,
            tenant: None,
            cluster,
            method: Method::Connect,
            state: State::Between,
            second: None,
            hedging: None,
            tries: Tries::default(),
            wanted: Wanted::default(),
            connecting: None,
            forwarding: Forwarding::to(
                cluster,
                snapshot.clusters.get(cluster.index()).map_or(NO_CLUSTER, |it| it.state.series()),
            ),
            attempts: None,
            span: 0,
            asked: now,
            request_done: false,
            binds: false,
            judged_by_trailers: false,
            limited: false,
            tunnel_idle: route.limits.tunnel_idle.unwrap_or(limits::TUNNEL_IDLE).as_millis() as u32,
            timeout: None,
            due: None,
            deadline: None,
            interims: 0,
            offer: UpgradeOffer::default(),
            is_call: false,
            never_indexed: NeverIndexed::default(),
            replay: Replay::new(route.retry.buffer),
            kept: None,
            priority: Priority::default(),
            place: None,
            snapshot: snapshot.clone(),
            numbers: [None, None],
        }
    }

    /// Its cluster; None: it is a tunnel, which has let go of the snapshot.
    #[inline]
    pub(super) fn own_cluster(&self) -> Option<&Cluster> {
        self.snapshot.clusters.get(self.cluster.index())
    }

    /// The attempt that is under way.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        if let State::Attempt(attempt) = &self.state { Some(attempt) } else { None }
    }

    #[inline]
    pub(super) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        if let State::Attempt(attempt) = &mut self.state { Some(attempt) } else { None }
    }

    /// The attempt beside that one.
    pub(super) fn second_mut(&mut self) -> Option<&mut Attempt> {
        self.second.as_mut().map(|second| &mut second.attempt)
    }

    /// The limits that its route has of its own.
    #[inline]
    pub(super) fn limits(&self) -> &RouteLimits {
        if self.limited { &self.snapshot.router.routes()[self.route.index()].limits } else { &RouteLimits::NONE }
    }

    /// Whether there is, or may be, a deadline.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.timeout.is_some() || self.due.is_some()
    }

    /// How far the response has come.
    pub(super) fn stage(&self) -> Stage {
        self.attempt().map_or(Stage::Waiting, |attempt| attempt.stage)
    }

    /// The wait before its next attempt.
    pub(super) fn wait(&self) -> Option<&Wait> {
        if let State::Waiting(wait) = &self.state { Some(wait) } else { None }
    }

    /// Why there will be no response.
    pub(super) fn failure(&self) -> Option<Failure> {
        if let State::Failed(failure) = &self.state { Some(*failure) } else { None }
    }

    /// Slot of the connection to the endpoint, or why there will be no response.
    pub(super) fn connection(&self) -> Result<u32, Failure> {
        match &self.state {
            State::Attempt(attempt) => Ok(attempt.connection),
            State::Failed(failure) => Err(*failure),
            State::Between | State::Waiting(_) => Err(Failure::Closed),
        }
    }
}
