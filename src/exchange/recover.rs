//! Another attempt after one that has failed: whether, where and when. What may be sent again is decided here alone, from facts: what
//! was received, what was sent and is still held, the method, what went wrong, and what the route's retries leave.
//! Not here: making an attempt (`attempt`), and how many retries a route may have (`budget`).

use std::time::Duration;

use super::attempt::{Attempt, Round};
use super::deadline;
use super::observe::says_unavailable;
use super::state::Wait;
use super::{Engine, Exchange, Failure, Stage, State};
use crate::buffer::{Buffers, Queue};
use crate::cluster::{Cluster, Outcome, Probe, Tried};
use crate::http::Method;
use crate::id::EndpointId;
use crate::limits;
use crate::route::{Retry, RetryOn};
use crate::telemetry::{HedgeOutcome, RetryReason, RetryRefusal};
use crate::tls;
use crate::upstream::{AcquireOptions, End, Upstream};
use crate::uring::{Driver, Fault, Ring, SocketId};

/// Number of endpoints that one exchange tries to connect to.
const CONNECT_ATTEMPTS: u8 = 3;
/// Number of attempts of one exchange that endpoints may leave unprocessed.
const REFUSALS: u8 = 10;
/// Number of them after which the next attempt waits.
const REFUSALS_AT_ONCE: u8 = 4;
/// How long, the first time.
const REFUSAL_WAIT: Duration = Duration::from_millis(10);

/// The attempts of an exchange before the one under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    /// Endpoints at which an attempt has failed.
    pub(super) failed: Tried,
    /// Number of attempts that ended because an endpoint could not be connected to.
    unconnected: u8,
    /// The request was sent again on a fresh connection, which happens once at most without the route's asking for it.
    replayed: bool,
    /// Number of attempts that endpoints have not processed, as they say.
    refused: u8,
    /// The endpoint whose idle connection had ended then: it may be well, and is the last resort.
    stale: Option<EndpointId>,
    /// Number of attempts that the route's retries have brought.
    retries: u8,
    /// What it is to show of an ejected endpoint.
    pub(super) probe: Option<Probe>,
}

impl Tries {
    /// Whether a request may be sent once more because a connection that was used before has ended without a byte of response.
    fn may_replay<D: Driver>(&self, ring: &Ring<D>, connection: &Upstream, end: End, method: Method) -> bool {
        !self.replayed && is_stale(connection, end) && (method.is_idempotent() || connection.is_untouched(ring))
    }

    /// Whether the route's retries leave another attempt.
    fn has_retry(&self, retry: &Retry) -> bool {
        self.retries < retry.attempts
    }
}

/// Where and when the next attempt of an exchange is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At an endpoint that was not tried if there is one, else at any.
    Anywhere,
    /// The same, over an idle connection if there is one.
    Again,
    /// At the same endpoint, under its next address.
    NextAddress(EndpointId, Round),
    /// At an endpoint that was not tried.
    Elsewhere,
    /// At any endpoint, after a while: all were tried.
    Later,
}

impl<D: Driver> Engine<D> {
    /// The attempt ended before a response: begins another one if the request may be sent again, else says why there is none.
    pub(super) fn recover(&mut self, id: u32, end: End) -> Result<(), Failure> {
        if self.reclaims(id, end) {
            return Ok(());
        }
        let failure = cause(end);
        let expired = self.has_passed(self.exchange_deadline(id));
        // That a client allows little time says nothing of the endpoint.
        if !self.has_passed(self.exchanges[id as usize].due) {
            self.observe_end(id, end);
        }
        let free = self.free_place(id, end);
        let place = free.or_else(|| if expired { None } else { self.retry_place(id, end) });
        let Some(place) = place else { return Err(self.fail(id, failure)) };
        let held = if expired { None } else { self.take_request(id) };
        let Some(request) = held else { return Err(self.fail(id, failure)) };
        self.note_attempt(id, 0, Some(failure));
        self.repeat(id, request, place).map_err(|again| {
            // The cause of the last attempt's failure tells the operator more than that no endpoint is left.
            let exhausted = !matches!(place, Place::Anywhere | Place::Again) && again == Failure::NoEndpoint;
            self.fail(id, if exhausted { failure } else { again })
        })
    }

    /// A final response head has come, and none of it has gone to the client: whether its status is one after which the route's
    /// requests are sent again. If so, the attempt has ended and another one has begun.
    pub(super) fn retries_status(&mut self, id: u32, head: &[u8]) -> bool {
        let exchange = &self.exchanges[id as usize];
        let (status, retry) = (self.response.status, exchange.retry());
        let unavailable = || retry.on.has(RetryOn::GRPC_UNAVAILABLE) && says_unavailable(&self.response.fields, head);
        let (may, lasts) = (retry.on.has_status(status) || unavailable(), exchange.interims == 0);
        if !may || !lasts || !retry.allows(exchange.method) || !exchange.tries.has_retry(retry) {
            return false;
        }
        let Some(attempt) = exchange.attempt() else { return false };
        let endpoint = attempt.endpoint;
        self.exchanges[id as usize].tries.failed.insert(endpoint);
        // The one that has answered so would hardly answer better at once.
        if !self.has_untried(id) || self.has_passed(self.exchange_deadline(id)) {
            return false;
        }
        if !self.grants_retry(id, RetryReason::Status) {
            return false;
        }
        let Some(request) = self.take_request(id) else { return false };
        self.note_attempt(id, status, None);
        match self.repeat(id, request, Place::Elsewhere) {
            Ok(()) => true,
            Err(failure) => {
                self.fail(id, failure);
                true
            }
        }
    }

    /// Whether the kernel still reads a part of a request that is to be sent again. It is asked to stop, and the completion of the send
    /// leads to [`Engine::recover`] once more: only then is it known what was sent.
    fn reclaims(&mut self, id: u32, end: End) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let exchange = &self.exchanges[id as usize];
        let socket = connection.transport.socket();
        let again = exchange.tries.may_replay(&self.ring, connection, end, exchange.method)
            || exchange.retries_after(&self.ring, connection, end);
        let waits = again && connection.transport.session().is_none() && self.ring.is_sending(socket);
        if waits {
            self.ring.cancel_send(socket);
        }
        waits
    }

    /// Where another attempt can be made without the risk that the request is carried out twice.
    ///
    /// - After connecting failed, TLS included: the next address of the endpoint, then another endpoint, because nothing was sent. A
    ///   certificate that is not believed stands for the whole endpoint.
    /// - After a reused connection ended without a byte of response: one fresh connection, because an endpoint may close an idle
    ///   connection at any time (RFC 9112 section 9.3.1). The method has to be idempotent, and the whole request still held, or nothing
    ///   of it was sent. It leads to another endpoint if there is one: this one may be going down.
    /// - After an endpoint has said that it has not processed the request: anywhere, and it is not to blame.
    fn free_place(&mut self, id: u32, end: End) -> Option<Place> {
        let exchange = &mut self.exchanges[id as usize];
        if end == End::Refused {
            exchange.tries.refused += 1;
            let place = if exchange.tries.refused <= REFUSALS_AT_ONCE { Place::Again } else { Place::Later };
            return (exchange.tries.refused <= REFUSALS).then_some(place);
        }
        let State::Attempt(attempt) = &mut exchange.state else { return None };
        let connection = self.upstreams.get(attempt.connection)?;
        let endpoint = attempt.endpoint;
        if connection.is_connected() {
            let free = exchange.tries.may_replay(&self.ring, connection, end, exchange.method);
            exchange.tries.replayed |= free;
            exchange.tries.failed.insert(endpoint);
            if free {
                exchange.tries.stale = Some(endpoint);
                self.counters.count_retry(RetryReason::Stale);
            }
            return free.then_some(Place::Anywhere);
        }
        if end.is_blameless() {
            return None;
        }
        attempt.round.failed += 1;
        let addresses = exchange.snapshot.endpoint(endpoint).map_or(0, |(_, endpoint)| endpoint.addresses());
        if usize::from(attempt.round.failed) < addresses && end != End::Tls(tls::Error::Certificate) {
            return Some(Place::NextAddress(endpoint, attempt.round));
        }
        let counted = self.count_unconnected(id, endpoint);
        let tries = &mut self.exchanges[id as usize].tries;
        if let Some(stale) = tries.stale.take_if(|stale| *stale != endpoint) {
            tries.failed.remove(stale);
        }
        (counted && self.has_untried(id)).then_some(Place::Elsewhere)
    }

    /// Where and when the route's retries make another attempt.
    fn retry_place(&mut self, id: u32, end: End) -> Option<Place> {
        let connection = self.connection(id)?;
        let exchange = &self.exchanges[id as usize];
        if !exchange.retries_after(&self.ring, connection, end) {
            return None;
        }
        let same = exchange.retry().same_endpoint;
        let elsewhere = self.has_untried(id);
        if !elsewhere && !same {
            return None;
        }
        if !self.grants_retry(id, reason(end)) {
            return None;
        }
        Some(if elsewhere { Place::Elsewhere } else { Place::Later })
    }

    /// Takes the place of a retry in the route's budget, and counts why. False: the request is not held whole, or there is no place.
    fn grants_retry(&mut self, id: u32, reason: RetryReason) -> bool {
        if !self.is_held(id) {
            self.counters.refuse_retry(RetryRefusal::NotHeld);
            return false;
        }
        let now = self.ring.clock().now();
        let exchange = &mut self.exchanges[id as usize];
        let number = exchange.snapshot.route_number(exchange.route);
        let (retry, quota) = (exchange.retry(), exchange.snapshot.route_quota(exchange.route));
        let taken = self.budgets.get_mut(number.0 as usize).is_some_and(|budget| budget.take(retry, quota, now));
        if taken {
            exchange.tries.retries += 1;
            self.counters.count_retry(reason);
        } else {
            self.counters.refuse_retry(RetryRefusal::Budget);
        }
        taken
    }

    /// Counts that no address of an endpoint could be connected to. Returns whether another endpoint may be tried.
    pub(super) fn count_unconnected(&mut self, id: u32, endpoint: EndpointId) -> bool {
        self.counters.connect_failures.add(1);
        self.observe(id, endpoint, Outcome::Failed);
        let tries = &mut self.exchanges[id as usize].tries;
        tries.failed.insert(endpoint);
        tries.unconnected += 1;
        tries.unconnected < CONNECT_ATTEMPTS
    }

    /// Whether an endpoint is in use at which this exchange has not failed.
    pub(super) fn has_untried(&mut self, id: u32) -> bool {
        let exchange = &self.exchanges[id as usize];
        exchange.snapshot.has_untried(exchange.cluster, &exchange.tries.failed, &mut self.balancer)
    }

    /// Whether the whole request so far could be sent again.
    fn is_held(&self, id: u32) -> bool {
        let Some(connection) = self.connection(id) else { return false };
        let transport = &connection.transport;
        let exchange = &self.exchanges[id as usize];
        if connection.is_stream() {
            return !connection.is_begun() || exchange.replay.is_whole();
        }
        match (connection.is_connected(), transport.session().is_some()) {
            (true, _) if connection.is_untouched(&self.ring) => true,
            (true, true) => exchange.replay.is_whole(),
            (true, false) => exchange.replay.is_whole() && !self.ring.is_sending(transport.socket()),
            (false, true) => true,
            (false, false) => transport.taken(&self.ring) <= u64::from(connection.header_bytes),
        }
    }

    /// The whole request so far, sent or not. None when a part of it is no longer held, or the kernel is still reading it.
    pub(super) fn take_request(&mut self, id: u32) -> Option<Queue> {
        let index = self.exchanges[id as usize].connection().ok()?;
        let copies = self.exchanges[id as usize].attempt().is_some_and(|attempt| attempt.sends_copy);
        let connection = self.upstreams.get(index)?;
        let connected = connection.is_connected();
        if connection.is_stream() {
            return if connection.is_begun() {
                self.exchanges[id as usize].replay.take()
            } else {
                self.upstreams.take_output(index)
            };
        }
        if connection.transport.session().is_some() {
            // What the ring still holds is sealed.
            return if connected {
                self.exchanges[id as usize].replay.take()
            } else {
                self.upstreams.take_waiting(index)
            };
        }
        let (socket, taken) = (connection.transport.socket(), connection.transport.taken(&self.ring));
        // Another connection begins with a PROXY header of its own, so that what is left of this one's is dropped.
        let header = if connection.reused { 0 } else { usize::from(connection.header_bytes) };
        let untouched = if connected { connection.is_untouched(&self.ring) } else { taken as usize <= header };
        let header = if untouched { header.saturating_sub(taken as usize) } else { header };
        let held = match (untouched, connected) {
            (true, _) => Queue::default(),
            (false, true) => self.exchanges[id as usize].replay.take()?,
            // The kernel has taken a part of the request, which was not kept.
            (false, false) => return None,
        };
        if copies && !untouched {
            // What is left there is a part of what is held.
            return Some(held);
        }
        let mut request = self.join_unsent(socket, held)?;
        drop_front(&mut self.ring.buffers, &mut request, header);
        Some(request)
    }

    /// Appends the bytes that were queued and not sent to `held`.
    fn join_unsent(&mut self, socket: SocketId, mut held: Queue) -> Option<Queue> {
        let Some(mut unsent) = self.ring.take_unsent(socket) else {
            held.clear(self.ring.buffers.pieces());
            return None;
        };
        held.append(self.ring.buffers.pieces(), &mut unsent);
        Some(held)
    }

    /// Ends the attempt and makes another one with the same request, or waits before that.
    fn repeat(&mut self, id: u32, mut request: Queue, place: Place) -> Result<(), Failure> {
        self.end_attempt(id);
        let exchange = &self.exchanges[id as usize];
        if let Some(deadline) = exchange.deadline.filter(|_| exchange.tells_deadline()) {
            let left = self.ring.clock().until(deadline);
            deadline::shorten(&mut self.ring.buffers, &mut request, left);
        }
        let (method, upgrades) = (exchange.method, !exchange.offer.is_empty());
        let options = AcquireOptions { fresh: true, replay: self.keeps_request(id, true), method, upgrades };
        let begun = match place {
            Place::NextAddress(endpoint, round) if self.take_places_at(id, endpoint, true) => {
                match self.attempt_from(id, endpoint, round, options) {
                    Ok(false) => self.wait_for_place(id, true),
                    begun => begun.map(drop),
                }
            }
            Place::Again => self.attempt(id, false),
            Place::Elsewhere if !self.has_untried(id) => Err(Failure::NoEndpoint),
            Place::Elsewhere | Place::Anywhere | Place::NextAddress(..) => self.attempt(id, true),
            Place::Later => {
                self.wait(id, request);
                return Ok(());
            }
        };
        if let Err(failure) = begun {
            request.clear(self.ring.buffers.pieces());
            return Err(failure);
        }
        self.send_named(id, &mut request);
        self.arm(id);
        Ok(())
    }

    /// Waits before the next attempt. The wait doubles with each retry; half of it is random, so that exchanges that failed together
    /// do not come back together.
    fn wait(&mut self, id: u32, request: Queue) {
        let random = f64::from(self.balancer.random()) / f64::from(u32::MAX);
        let exchange = &mut self.exchanges[id as usize];
        let backoff = |first: Duration, count: u8| first.saturating_mul(1 << count.saturating_sub(1).min(10));
        let refusals = exchange.tries.refused.saturating_sub(REFUSALS_AT_ONCE);
        let doubled = match refusals {
            0 => backoff(exchange.retry().backoff, exchange.tries.retries),
            refusals => backoff(REFUSAL_WAIT, refusals),
        };
        let doubled = doubled.min(limits::BACKOFF_MAX);
        let until = self.ring.clock().deadline(doubled.mul_f64(0.5 + random / 2.0));
        exchange.state = State::Waiting(Wait { request, until, link: None });
        self.arm(id);
    }

    /// The wait before the next attempt is over, or the time for the whole exchange: begins the attempt, or gives up. One that has waited
    /// for a place gives up.
    pub(super) fn resume(&mut self, id: u32, expired: bool) {
        let failure = if expired { Failure::ResponseTimeout } else { Failure::QueueTimeout };
        if self.exchanges[id as usize].wait().is_some_and(|wait| wait.link.is_some()) {
            return self.end_wait(id, failure);
        }
        let before = std::mem::replace(&mut self.exchanges[id as usize].state, State::Between);
        let State::Waiting(Wait { mut request, .. }) = before else {
            self.exchanges[id as usize].state = before;
            return;
        };
        let begun = if expired { Err(Failure::ResponseTimeout) } else { self.attempt(id, true) };
        match begun {
            Ok(()) => {
                self.send_named(id, &mut request);
                self.arm(id);
            }
            Err(failure) => {
                request.clear(self.ring.buffers.pieces());
                self.fail(id, failure);
            }
        }
    }

    /// Ends the attempt and closes its connection.
    pub(super) fn end_attempt(&mut self, id: u32) {
        let before = std::mem::replace(&mut self.exchanges[id as usize].state, State::Between);
        if let State::Attempt(Attempt { endpoint, connection, owes, .. }) = before {
            if owes {
                self.balancer.settle(endpoint);
            }
            self.balancer.end(endpoint);
            self.upstreams.discard(&mut self.ring, connection);
        }
        self.give_endpoint_place(id);
    }

    /// Ends the attempt, and with it the exchange's chance of a response.
    pub(super) fn fail(&mut self, id: u32, failure: Failure) -> Failure {
        self.end_second(id, HedgeOutcome::Lost);
        self.note_attempt(id, 0, Some(failure));
        self.end_attempt(id);
        self.exchanges[id as usize].state = State::Failed(failure);
        failure
    }
}

impl Exchange {
    /// When its route's requests are sent again.
    #[inline]
    pub(super) fn retry(&self) -> &Retry {
        self.snapshot.router.routes().get(self.route.index()).map_or(&Retry::NEVER, |route| &route.retry)
    }

    /// The name that TLS asks its endpoint for, where that is the one in its Host. None: it is the endpoint's own.
    pub(super) fn tls_host(&self) -> Option<&str> {
        let by_host = self.own_cluster().is_some_and(Cluster::asks_by_host);
        self.kept.as_deref().filter(|_| by_host)?.host()
    }

    /// Whether its origin is told how much time is left.
    fn tells_deadline(&self) -> bool {
        self.snapshot.router.routes().get(self.route.index()).is_some_and(|route| route.deadline)
    }

    /// Whether the route's retries leave an attempt after the origin may have seen the request.
    #[inline]
    pub(super) fn may_retry(&self) -> bool {
        let retry = self.retry();
        retry.allows(self.method) && self.tries.has_retry(retry)
    }

    /// Whether the route's retries make another attempt after an end of a connection before a response.
    fn retries_after<D: Driver>(&self, ring: &Ring<D>, connection: &Upstream, end: End) -> bool {
        let retry = self.retry();
        let unseen = !connection.is_connected() || connection.is_untouched(ring);
        let begun = connection.answered || self.interims > 0 || self.stage() != Stage::Waiting;
        !begun && self.tries.has_retry(retry) && retry.on.has(event(end)) && (unseen || retry.allows(self.method))
    }
}

/// Drops the first `count` bytes of a queue.
fn drop_front(buffers: &mut Buffers, queue: &mut Queue, mut count: usize) {
    while count > 0
        && let Some(mut lease) = queue.pop(buffers.pieces())
    {
        let dropped = count.min(lease.len());
        lease.advance(dropped);
        count -= dropped;
        if !lease.is_empty() {
            queue.push_front(buffers.pieces(), lease);
        }
    }
}

/// Whether a connection has ended that an earlier exchange used, before anything came for this one: the endpoint may have closed it while
/// it was idle.
pub(super) fn is_stale(connection: &Upstream, end: End) -> bool {
    connection.reused && !connection.answered && end != End::ResponseTimeout
}

/// What the route's retries call an end.
fn event(end: End) -> RetryOn {
    match end {
        End::Closed | End::Truncated | End::Broken(Fault::Receive(_) | Fault::Send(_)) => RetryOn::RESET,
        End::Broken(Fault::Connect(_)) | End::ConnectTimeout => RetryOn::CONNECT,
        End::Tls(tls::Error::Certificate | tls::Error::Buffers) => RetryOn::NOTHING,
        End::Tls(_) => RetryOn::CONNECT.and(RetryOn::RESET),
        End::ResponseTimeout => RetryOn::TIMEOUT,
        End::Reset | End::Protocol => RetryOn::RESET,
        End::Refused | End::NoStream | End::NoExtendedConnect => RetryOn::NOTHING,
    }
}

/// What a retry after an end is counted as.
fn reason(end: End) -> RetryReason {
    match end {
        End::ResponseTimeout => RetryReason::Timeout,
        End::Broken(Fault::Connect(_)) | End::ConnectTimeout | End::Tls(_) => RetryReason::Connect,
        End::Closed | End::Truncated | End::Broken(_) | End::Reset | End::Protocol => RetryReason::Reset,
        End::Refused | End::NoStream | End::NoExtendedConnect => RetryReason::Reset,
    }
}

/// The failure of an exchange whose connection has ended like this.
pub(super) fn cause(end: End) -> Failure {
    match end {
        End::Closed | End::Truncated => Failure::Closed,
        End::Tls(tls::Error::Certificate) => Failure::TlsCertificate,
        End::Tls(tls::Error::Refused) => Failure::TlsAlert,
        End::Tls(tls::Error::Buffers) => Failure::Buffers,
        End::Tls(_) => Failure::TlsProtocol,
        End::Broken(Fault::Connect(_)) => Failure::Connect,
        End::Broken(Fault::Receive(_) | Fault::Send(_)) | End::Reset => Failure::Reset,
        End::ConnectTimeout => Failure::ConnectTimeout,
        End::ResponseTimeout => Failure::ResponseTimeout,
        End::Refused => Failure::Refused,
        End::NoStream => Failure::NoStream,
        End::NoExtendedConnect => Failure::NoExtendedConnect,
        End::Protocol => Failure::Http2,
    }
}
