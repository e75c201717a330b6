//! Deadlines of client connections: what the client has to do next, and until when. Not here: how fast it has to be (`rate`).
//!
//! A connection has one timer. After every event, [`Downstreams::arm`] derives from the state what the client has to do and since
//! when, and sets the timer to the earliest of these deadlines. A deadline moves only with the progress that it guards: a client
//! that sends does not move the deadline for reading.

use std::time::Duration;

use super::h2_end::Ending;
use super::rate::MinimumRate;
use super::{Current, Downstream, Downstreams, Phase, Response, Step, Tunnel};
use crate::exchange::{Engine, Failure};
use crate::id::{Owner, Timer};
use crate::limits;
use crate::runtime::{Clock, Tick};
use crate::snapshot::ListenerSpec;
use crate::telemetry::ProxyRefusal;
use crate::uring::Driver;

/// The progress that a client has to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The end of the PROXY header before all else.
    ProxyHeader,
    /// The end of its TLS handshake.
    Handshake,
    /// The end of the ClientHello by which it is routed.
    Hello,
    /// The end of a request head, since its first byte.
    Head,
    /// The end of a TLS record that may hold anything, since its first byte.
    Record,
    /// A request.
    Idle,
    /// More of the request body.
    Body,
    /// The client has to take bytes that are sent to it.
    Read,
    /// The rest of a request that was refused.
    Drain,
    /// The client's FIN, after ours.
    Linger,
    /// Bytes of a tunnel, in either direction.
    Tunnel,
    /// The end of a field section of HTTP/2, since its beginning.
    Section,
    /// A stream of HTTP/2, on a connection that has none.
    Stream,
    /// The age at which a connection of HTTP/2 is to end.
    Age,
    /// The client's word that it has read of the end of its connection of HTTP/2.
    End,
}

/// The time-outs of a listener; `body` is the route's, if the exchange under way has one.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    header: Duration,
    body: Duration,
    idle: Duration,
}

/// Finds the earliest of several deadlines.
struct Earliest<'a> {
    clock: &'a Clock,
    /// The earliest so far.
    wait: Option<(Tick, Wait)>,
}

impl Earliest<'_> {
    /// Adds a deadline, `timeout` after `since`.
    fn add(&mut self, wait: Wait, since: Tick, timeout: Duration) {
        let at = self.clock.deadline_from(since, timeout);
        if self.wait.is_none_or(|(first, _)| at < first) {
            self.wait = Some((at, wait));
        }
    }
}

impl Downstreams {
    /// Sets the timer for the next progress that the client has to make. Closes the connection if the client has been too slow.
    pub(super) fn arm<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let Some(connection) = self.table.get_mut(id as usize) else { return };
        if connection.transport.is_broken() {
            return self.remove(engine, id, true);
        }
        let unread = connection.transport.unsent(&engine.ring) > 0 && !matches!(connection.phase, Phase::Tunnel(_));
        let now = engine.ring.clock().tick();
        let taken = connection.transport.taken(&engine.ring);
        if unread {
            let minimum = connection.minimum_rate(engine);
            if connection.download_rate.is_below(minimum, now, taken) {
                return self.remove(engine, id, true);
            }
        }
        let wait = self.wait(engine, id);
        engine.ring.set_timer(Timer::Connection(Owner::Downstream(id)), wait.map(|(at, _)| at));
    }

    /// The next progress that the client has to make, and its deadline.
    fn wait<D: Driver>(&mut self, engine: &Engine<D>, id: u32) -> Option<(Tick, Wait)> {
        let connection = &mut self.table[id as usize];
        let Timeouts { header, body, idle } = connection.timeouts(engine);
        let clock = engine.ring.clock();
        let since = connection.since;
        let now = clock.tick();
        let mut earliest = Earliest { clock, wait: None };
        let (unsent, taken) = (connection.transport.unsent(&engine.ring), connection.transport.taken(&engine.ring));
        let unread = connection.reading.observe(now, unsent > 0, taken);
        match connection.phase {
            Phase::ProxyHeader => earliest.add(Wait::ProxyHeader, since, header),
            Phase::Handshake => earliest.add(Wait::Handshake, since, header),
            Phase::Hello => {
                earliest.add(Wait::Hello, since, header);
                if let Some(closes_at) = connection.closes_at.filter(|_| connection.transport.input.is_empty()) {
                    earliest.add(Wait::Idle, closes_at, Duration::ZERO);
                }
            }
            // An endpoint has to do the next thing.
            Phase::Connect(_) => {}
            Phase::Head => {
                connection.notice_beginning(clock);
                match connection.begun {
                    Some(begun) if connection.transport.input.is_empty() => earliest.add(Wait::Record, begun, header),
                    Some(begun) => earliest.add(Wait::Head, begun, header),
                    None if connection.transport.is_paused() => {}
                    None => earliest.add(Wait::Idle, since, idle),
                }
                if let Some(closes_at) = connection.closes_at.filter(|_| connection.begun.is_none()) {
                    earliest.add(Wait::Idle, closes_at, Duration::ZERO);
                }
            }
            Phase::Exchange(exchange) => {
                let current = &mut connection.current;
                let waits = !current.body.is_done() && !connection.transport.is_paused();
                // A client that receives a response while its upload is open has to make progress in one of the two directions.
                let moved =
                    current.received.wrapping_add(if current.response != Response::Awaited { taken } else { 0 });
                if let Some(since) = current.arriving.observe(now, waits, moved)
                    && !engine.may_be_silent(exchange)
                {
                    earliest.add(Wait::Body, since, body);
                }
            }
            Phase::Tunnel(Tunnel { exchange, .. }) => {
                let idle = engine.tunnel_idle(exchange);
                let moved = taken.wrapping_add(engine.taken(exchange));
                if let Some(since) = connection.current.arriving.observe(now, true, moved) {
                    earliest.add(Wait::Tunnel, since, idle);
                }
                if let Some(since) = unread {
                    earliest.add(Wait::Read, since, idle);
                }
                return earliest.wait;
            }
            Phase::Http2 => connection.wait_for_streams(&mut earliest, header, idle),
            Phase::Drain => earliest.add(Wait::Drain, since, body),
            Phase::Flush => {}
            Phase::Linger => {
                earliest.add(Wait::Linger, since, limits::LINGER);
                if let Some(closes_at) = connection.closes_at {
                    earliest.add(Wait::Linger, closes_at, Duration::ZERO);
                }
            }
        }
        if let Some(since) = unread {
            earliest.add(Wait::Read, since, body);
        }
        earliest.wait
    }

    /// The timer has fired: ends the exchange or the connection, unless progress has moved the deadline since the timer was set.
    pub(super) fn expire<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let failure = match self.wait(engine, id) {
            Some((at, wait)) if at <= engine.ring.clock().tick() => match wait {
                Wait::Head => Failure::RequestHeadTimeout,
                Wait::Body => Failure::RequestBodyTimeout,
                // No request has begun, so that there is nothing to answer.
                Wait::Idle | Wait::Record => return self.close_idle(engine, id),
                Wait::ProxyHeader => return self.refuse_proxied(engine, id, ProxyRefusal::Incomplete),
                Wait::Hello => {
                    self.refuse_connection(engine, id, Failure::HelloTimeout);
                    return self.pump(engine, id);
                }
                Wait::Section | Wait::Stream | Wait::End => {
                    return self.expire_http2(engine, id, wait == Wait::Section);
                }
                Wait::Age => return self.announce_end(engine, id),
                Wait::Handshake | Wait::Linger => return self.remove(engine, id, false),
                Wait::Read | Wait::Drain | Wait::Tunnel => return self.remove(engine, id, true),
            },
            _ => return self.arm(engine, id),
        };
        if self.refuse(engine, id, failure) == Step::Again {
            self.pump(engine, id);
        }
    }
}

impl Downstream {
    /// Adds what is awaited of a connection of HTTP/2, besides what is awaited of its streams.
    fn wait_for_streams(&self, earliest: &mut Earliest<'_>, header: Duration, idle: Duration) {
        let Some(http2) = &self.http2 else { return };
        if let Some(begun) = http2.section {
            earliest.add(Wait::Section, begun, header);
        }
        if let Ending::Announced(at) = http2.ending {
            earliest.add(Wait::End, at, Duration::ZERO);
        }
        if let Some(at) = http2.ages_at.filter(|_| http2.ending == Ending::Open) {
            earliest.add(Wait::Age, at, Duration::ZERO);
        }
        if http2.connection.streams() == 0 {
            earliest.add(Wait::Stream, self.since, idle);
        }
    }

    /// Enters another phase.
    pub(super) fn enter(&mut self, phase: Phase, now: Tick) {
        self.phase = phase;
        self.since = now;
    }

    /// Notices when a head begins, or a TLS record that may hold one, so that the time-out of heads covers both.
    pub(super) fn notice_beginning(&mut self, clock: &Clock) {
        let arrives = !self.transport.input.is_empty() || self.transport.holds_part();
        if !arrives || self.transport.is_paused() {
            self.begun = None;
        } else if self.begun.is_none() {
            self.begun = Some(clock.tick());
            self.log.begun_at = clock.now();
            // The values of the exchange before must not determine how this one is refused.
            self.current = Current::default();
        }
    }

    fn timeouts<D: Driver>(&self, engine: &Engine<D>) -> Timeouts {
        let spec = self.spec(engine);
        let leaves = self.last_snapshot.is_some() || engine.is_overloaded();
        let idle = if leaves { spec.idle_timeout.min(limits::LEAVE) } else { spec.idle_timeout };
        Timeouts { header: spec.header_timeout, body: self.body_timeout(engine, spec), idle }
    }

    /// How long the client may be silent in the middle of a body: what its exchange's route says, or else its listener.
    fn body_timeout<D: Driver>(&self, engine: &Engine<D>, spec: &ListenerSpec) -> Duration {
        match self.phase.exchange() {
            Some(exchange) => engine.limits(exchange).body_timeout(spec.body_timeout),
            None => spec.body_timeout,
        }
    }

    /// The lowest rate at which the client may send its body and take its response.
    pub(super) fn minimum_rate<D: Driver>(&self, engine: &Engine<D>) -> MinimumRate {
        let spec = self.spec(engine);
        let may_be_silent = self.phase.exchange().is_some_and(|exchange| engine.may_be_silent(exchange));
        match spec.body_rate {
            0 => MinimumRate::ANY,
            _ if may_be_silent => MinimumRate::ANY,
            rate => MinimumRate { rate, grace: self.body_timeout(engine, spec) },
        }
    }
}
