//! A second attempt at another endpoint beside one that is slow to answer, for routes that ask for it. The first good answer is taken, and
//! the other attempt is reset; after an error, the other one is waited for. Not here: another attempt after one that has failed (`recover`).
//!
//! While both are under way, one is the exchange's attempt and the other its [`Second`]. Which is which changes: the exchange's attempt is
//! the one of which an answer may still come.

use std::time::Duration;

use super::attempt::{Attempt, Round, Stage};
use super::latency::Latencies;
use super::recover::cause;
use super::replay::copied;
use super::state::Exchange;
use super::waiting::Place;
use super::{Engine, State};
use crate::buffer::Queue;
use crate::cluster::{Balance, Outcome, Tried};
use crate::http::UpgradeOffer;
use crate::id::EndpointId;
use crate::limits;
use crate::route::Hedge;
use crate::runtime::{Clock, Stall, Tick};
use crate::snapshot::Snapshot;
use crate::telemetry::HedgeOutcome;
use crate::upstream::{AcquireOptions, Destination, End, Upstream};
use crate::uring::Driver;

/// What each request adds to the budget of its route: second attempts are at most this share of the requests.
const SHARE: f32 = 0.05;
/// Second attempts that the requests of before allow at most, over all workers.
const SAVED: f32 = 10.0;

/// What ended an attempt whose answer was not waited for, because another one had come.
pub(super) const OUTRUN: &str = "hedge_lost";
/// What ended one that has sent what is no answer.
const BAD_HEAD: &str = "malformed_response";

/// The attempt that is under way beside the one of the exchange.
#[derive(Debug)]
pub(super) struct Second {
    pub(super) attempt: Attempt,
    /// What it has of a cluster with limits.
    place: Option<Place>,
    /// Since when its origin has had the whole request queued.
    asked: Duration,
    /// The status of an error that it has brought, which goes to the client if the other attempt brings nothing better. Receiving is paused
    /// meanwhile.
    pub(super) held: Option<u16>,
}

/// What an exchange that may have a second attempt knows of that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hedging {
    /// How long an endpoint may take to begin its response. None: no second attempt will be made, or too little is known of the route.
    after: Option<Duration>,
    /// When that time is over.
    at: Option<Tick>,
    /// Since when the first endpoint has had the whole request queued.
    asked: Duration,
}

impl Hedging {
    /// Takes in that an endpoint has the whole request queued. `first`: it is the first one.
    pub(super) fn ask(&mut self, clock: &Clock, first: bool) {
        self.at = self.after.map(|after| clock.deadline(after));
        if first {
            self.asked = clock.now();
        }
    }
}

/// What one worker knows of the second attempts of a route.
#[derive(Debug)]
pub(super) struct RouteHedge {
    /// Second attempts that may be made.
    budget: f32,
    latencies: Latencies,
}

/// What an attempt has brought so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Nothing that decides.
    Nothing,
    /// The head of an answer with a status below 500.
    Good,
    /// The head of another one, with this status.
    Error(u16),
    /// Its connection has ended like this; None: it has sent what is no answer.
    Failed(Option<End>),
}

impl<D: Driver> Engine<D> {
    /// Makes room for the routes of a snapshot that ask for second attempts.
    pub(super) fn apply_hedges(&mut self, snapshot: &Snapshot) {
        for route in snapshot.router.routes() {
            let at = snapshot.route_number(route.id).0 as usize;
            if self.hedges.len() <= at {
                self.hedges.resize_with(at + 1, || None);
            }
            if route.hedge.is_none() {
                self.hedges[at] = None;
            } else if self.hedges[at].is_none() {
                let budget = self.saved_hedges();
                self.hedges[at] = Some(Box::new(RouteHedge { budget, latencies: Latencies::default() }));
            }
        }
    }

    /// Second attempts that earlier requests allow this worker at most.
    fn saved_hedges(&self) -> f32 {
        (SAVED / self.workers as f32).max(1.0)
    }

    /// What a request needs for a second attempt, which counts for the budget of its route. None: it never has one.
    #[inline(never)]
    pub(super) fn hedging(&mut self, hedge: Hedge, exchange: &Exchange) -> Option<Hedging> {
        let cluster = exchange.own_cluster()?;
        let fits = exchange.method.is_idempotent() && !exchange.binds && exchange.offer.is_empty();
        if !fits || cluster.proxy_protocol.is_some() {
            return None;
        }
        let saved = self.saved_hedges();
        let number = exchange.snapshot.route_number(exchange.route);
        let known = self.hedges.get_mut(number.0 as usize)?.as_mut()?;
        known.budget = (known.budget + SHARE).min(saved);
        let after = match hedge {
            Hedge::After(after) => Some(after),
            Hedge::P95 => known.latencies.p95(),
        };
        Some(Hedging { after, ..Hedging::default() })
    }

    /// When a second attempt is made. None: none will be.
    pub(super) fn hedge_deadline(&self, id: u32) -> Option<Tick> {
        let exchange = &self.exchanges[id as usize];
        let at = exchange.hedging?.at?;
        let connection = self.connection(id)?;
        let transport = &connection.transport;
        if exchange.second.is_some() || !exchange.request_done {
            return None;
        }
        let waits = exchange.stage() == Stage::Waiting && !connection.answered && exchange.interims == 0;
        // What is partly sent can neither be taken back nor be copied whole.
        let sent = transport.unsent(&self.ring) == 0 && exchange.replay.is_whole();
        (waits && connection.bound.is_none() && (sent || !connection.is_connected())).then_some(at)
    }

    /// A timer has fired: ends the second attempt if its origin is late, or makes one if the first one has taken too long.
    pub(super) fn expire_second(&mut self, id: u32) {
        let deadline = self.second_deadline(id);
        if self.has_passed(deadline)
            && let Some(second) = &self.exchanges[id as usize].second
        {
            let index = second.attempt.connection;
            self.end_late(id, index);
        }
        if self.has_passed(self.hedge_deadline(id)) {
            self.hedge(id);
        }
    }

    /// The time for the whole exchange is over: of two attempts, the one is left that has brought an error, if one has.
    pub(super) fn end_race(&mut self, id: u32) {
        if self.exchanges[id as usize].second.as_ref().is_some_and(|second| second.held.is_some()) {
            self.swap(id);
        }
        self.end_second(id, HedgeOutcome::Lost);
    }

    /// Makes a second attempt, if the budget, the limits of the cluster and its endpoints allow one. There is one chance for each request.
    pub(super) fn hedge(&mut self, id: u32) {
        let exchange = &mut self.exchanges[id as usize];
        if let Some(hedging) = &mut exchange.hedging {
            (hedging.after, hedging.at) = (None, None);
        }
        let number = exchange.snapshot.route_number(exchange.route).0 as usize;
        let Some(Some(known)) = self.hedges.get(number) else { return };
        let granted = known.budget >= 1.0 && !self.ring.buffers.is_scarce();
        let picked = if granted { self.pick_second(id) } else { None };
        let Some((endpoint, place)) = picked else { return self.counters.count_hedge(HedgeOutcome::Refused) };
        let Some((connection, mut request)) = self.connect_second(id, endpoint) else {
            self.give_places(place);
            return self.counters.count_hedge(HedgeOutcome::Refused);
        };
        if let Some(Some(known)) = self.hedges.get_mut(number) {
            known.budget -= 1.0;
        }
        let number = self.exchanges[id as usize].forwarding.attempts.saturating_add(1);
        self.name_attempt(id, number, &mut request);
        self.upstreams.send(&mut self.ring, connection, &mut request);
        let attempt = Attempt {
            endpoint,
            connection,
            round: Round::default(),
            stage: Stage::Waiting,
            owes: true,
            sends_copy: true,
            number,
            began: self.ring.clock().now(),
            since: self.ring.clock().tick(),
            sending: Stall::default(),
            answering: Stall::default(),
        };
        let exchange = &mut self.exchanges[id as usize];
        exchange.forwarding.attempts = number;
        exchange.second = Some(Second { attempt, place, asked: self.ring.clock().now(), held: None });
        self.balancer.begin(endpoint);
        self.balancer.owe(endpoint);
    }

    /// Another endpoint than that of the first attempt, and places for a second one. None: there is none, or requests wait for places.
    fn pick_second(&mut self, id: u32) -> Option<(EndpointId, Option<Place>)> {
        let exchange = &self.exchanges[id as usize];
        let first = exchange.attempt()?.endpoint;
        let mut tried: Tried = exchange.tries.failed;
        tried.insert(first);
        let (snapshot, cluster, preference) = (&exchange.snapshot, exchange.cluster, exchange.wanted.preference);
        if !snapshot.has_untried(cluster, &tried, &mut self.balancer) {
            return None;
        }
        let endpoint = snapshot.pick(cluster, &tried, preference, false, &mut self.balancer);
        let endpoint = endpoint.filter(|endpoint| !tried.contains(*endpoint))?;
        let cluster = exchange.own_cluster()?;
        if cluster.limits.is_none() {
            return Some((endpoint, None));
        }
        if cluster.state.places().has_before(exchange.priority) {
            return None;
        }
        let state = cluster.state.clone();
        let place = Place::take(&state, endpoint, self.balancer.state(endpoint)?);
        if place.is_some() && self.reserve_connection(&state, endpoint, !self.has_idle(id, endpoint)) {
            return Some((endpoint, place));
        }
        self.give_places(place);
        self.note(state.number());
        None
    }

    /// A copy of the whole request. None: it is not held whole, or buffers are short.
    fn copy_request(&mut self, id: u32) -> Option<Queue> {
        let index = self.exchanges[id as usize].connection().ok()?;
        let connection = self.upstreams.get(index)?;
        // Over TLS and HTTP/2, what is kept is a copy from before it was sealed or encoded. Else it is what was sent, or it waits for the
        // connection.
        let kept = connection.is_connected() || connection.needs_copies();
        let mut request = if kept { self.exchanges[id as usize].replay.take()? } else { self.take_request(id)? };
        let copy = copied(&mut self.ring.buffers, &request);
        // The first attempt goes on as it was.
        if kept {
            self.exchanges[id as usize].replay.restore(request);
        } else {
            self.upstreams.send(&mut self.ring, index, &mut request);
        }
        copy
    }

    /// A connection for the second attempt, and what it is to send. None: one of both cannot be had.
    fn connect_second(&mut self, id: u32, endpoint: EndpointId) -> Option<(u32, Queue)> {
        let mut request = self.copy_request(id)?;
        let exchange = &self.exchanges[id as usize];
        let (cluster, spec) = exchange.snapshot.endpoint(endpoint)?;
        let (tls, sharing) = self.spoken(id, endpoint, cluster);
        let tls = tls.zip(spec.tls_name.as_ref());
        let position = usize::from(self.upstreams.preferred(endpoint)) % spec.addresses();
        let (address, host) = (spec.address_at(position), exchange.tls_host());
        let destination = Destination { address, position, tls, host, header: None, sharing };
        let options = AcquireOptions { fresh: false, replay: false, method: exchange.method, upgrades: false };
        match self.upstreams.acquire(&mut self.ring, endpoint, destination, id, options) {
            Ok(connection) => Some((connection, request)),
            Err(_) => {
                request.clear(self.ring.buffers.pieces());
                None
            }
        }
    }

    /// Looks what two attempts have brought. True: nothing that decides between them. False: one of them is left, which is the exchange's
    /// attempt now.
    pub(super) fn race(&mut self, id: u32) -> bool {
        let exchange = &self.exchanges[id as usize];
        let (Ok(index), Some(second)) = (exchange.connection(), &exchange.second) else { return false };
        let (other, held) = (second.attempt.connection, second.held);
        let news = self.news(id, index);
        let others = held.map_or_else(|| self.news(id, other), News::Error);
        match (news, others) {
            (News::Nothing, News::Nothing) => return true,
            (News::Nothing, News::Error(status)) => {
                self.hold(id, status);
                return true;
            }
            (News::Error(status), News::Nothing) => {
                self.swap(id);
                self.hold(id, status);
                return true;
            }
            (News::Good, _) => self.end_second(id, HedgeOutcome::Lost),
            (_, News::Good) => {
                self.swap(id);
                self.end_second(id, HedgeOutcome::Won);
            }
            (News::Failed(end), _) => {
                self.swap(id);
                self.fail_second(id, end);
            }
            (_, News::Failed(end)) => self.fail_second(id, end),
            (News::Error(_), News::Error(status)) => {
                self.hold(id, status);
                self.end_second(id, HedgeOutcome::Lost);
            }
        }
        false
    }

    /// Looks what a connection has brought, and leaves it there. Interim responses are dropped: another one may come from the other side.
    fn news(&mut self, id: u32, index: u32) -> News {
        loop {
            let method = self.exchanges[id as usize].method;
            let Ok(read) =
                self.upstreams.read_head(&mut self.ring, index, method, &UpgradeOffer::default(), &mut self.response)
            else {
                return News::Failed(None);
            };
            let Some((mut lease, length)) = read else {
                let end = self.upstreams.get(index).and_then(|connection| connection.end);
                return end.map_or(News::Nothing, |end| News::Failed(Some(end)));
            };
            let status = self.response.status;
            if status >= 200 || status == 101 {
                self.upstreams.put_back(&mut self.ring, index, lease);
                return if status < 500 { News::Good } else { News::Error(status) };
            }
            lease.advance(length);
            if !lease.is_empty() {
                self.upstreams.put_back(&mut self.ring, index, lease);
            }
            let exchange = &mut self.exchanges[id as usize];
            exchange.interims += 1;
            if exchange.interims > limits::INTERIM_RESPONSES {
                return News::Failed(None);
            }
        }
    }

    /// Keeps the error that the second attempt has brought.
    fn hold(&mut self, id: u32, status: u16) {
        let Some(second) = &mut self.exchanges[id as usize].second else { return };
        second.held = Some(status);
        self.upstreams.set_paused(&mut self.ring, second.attempt.connection, true);
    }

    /// Makes the second attempt the exchange's, and the other way round.
    fn swap(&mut self, id: u32) {
        let exchange = &mut self.exchanges[id as usize];
        let (State::Attempt(attempt), Some(second)) = (&mut exchange.state, &mut exchange.second) else { return };
        std::mem::swap(attempt, &mut second.attempt);
        std::mem::swap(&mut exchange.place, &mut second.place);
        std::mem::swap(&mut exchange.asked, &mut second.asked);
        exchange.forwarding.endpoint = Some(attempt.endpoint);
        if second.held.take().is_some() {
            self.upstreams.set_paused(&mut self.ring, attempt.connection, false);
        }
    }

    /// Ends the second attempt, which has failed.
    fn fail_second(&mut self, id: u32, end: Option<End>) {
        let exchange = &self.exchanges[id as usize];
        let Some(Attempt { endpoint, connection, .. }) = exchange.second.as_ref().map(|second| second.attempt) else {
            return;
        };
        let connected = self.upstreams.get(connection).is_some_and(|connection| connection.is_connected());
        match end {
            None => self.observe(id, endpoint, Outcome::Failed),
            Some(End::Refused | End::NoStream | End::NoExtendedConnect) => {}
            Some(_) if !connected => drop(self.count_unconnected(id, endpoint)),
            Some(end) => self.observe_end_of(id, connection, end),
        }
        self.exchanges[id as usize].tries.failed.insert(endpoint);
        self.note_second(id, end.map_or(BAD_HEAD, |end| cause(end).answer().reason));
        self.drop_second(id, HedgeOutcome::Lost);
    }

    /// Notes the second attempt, which ends.
    fn note_second(&mut self, id: u32, reason: &'static str) {
        let second = self.exchanges.get(id as usize).and_then(|exchange| exchange.second.as_ref());
        if let Some((attempt, held)) = second.map(|second| (second.attempt, second.held)) {
            self.note_ended(id, &attempt, held.unwrap_or(0), if held.is_some() { "" } else { reason });
        }
    }

    /// Ends the second attempt, if there is one, which was not needed.
    #[inline]
    pub(super) fn end_second(&mut self, id: u32, outcome: HedgeOutcome) {
        self.note_second(id, OUTRUN);
        self.drop_second(id, outcome);
    }

    /// Ends the second attempt, if there is one, and resets its connection.
    fn drop_second(&mut self, id: u32, outcome: HedgeOutcome) {
        let Some(exchange) = self.exchanges.get_mut(id as usize) else { return };
        let Some(Second { attempt, place, asked, held }) = exchange.second.take() else { return };
        let Attempt { endpoint, connection, owes, sends_copy, .. } = attempt;
        let peak = exchange.own_cluster().is_some_and(|cluster| cluster.balance == Balance::PeakEwma);
        let holds = |it: &Upstream| !it.needs_copies() && it.transport.unsent(&self.ring) > 0;
        if !sends_copy && self.upstreams.get(connection).is_none_or(holds) {
            // A part of what the exchange would send again goes with it.
            exchange.replay.begin(&mut self.ring.buffers, false);
        }
        if owes {
            self.balancer.settle(endpoint);
        }
        if let Some(status) = held {
            let failed = matches!(status, 502..=504);
            self.observe(id, endpoint, if failed { Outcome::Failed } else { Outcome::Answered });
        } else if peak {
            // It has taken longer than this.
            self.balancer.measure(endpoint, self.ring.clock().now().saturating_sub(asked));
        }
        if self.exchanges[id as usize].tries.probe.is_some_and(|probe| probe.endpoint == endpoint) {
            self.end_probe(id, None);
        }
        self.balancer.end(endpoint);
        self.upstreams.abort(&mut self.ring, connection);
        self.give_places(place);
        self.counters.count_hedge(outcome);
    }

    /// Takes in how long the first attempt of a request has taken, or at least: the answer has come.
    #[inline(never)]
    pub(super) fn measure_route(&mut self, id: u32) {
        let exchange = &self.exchanges[id as usize];
        let Some(hedging) = exchange.hedging else { return };
        let number = exchange.snapshot.route_number(exchange.route).0 as usize;
        let took = self.ring.clock().now().saturating_sub(hedging.asked);
        if let Some(Some(known)) = self.hedges.get_mut(number) {
            known.latencies.add(took);
        }
    }
}
