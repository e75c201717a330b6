//! What a client is waited for, and until when. Not here: how fast it has to be besides (`rate`).
//!
//! A connection has one timer. Whenever something has happened, [`Downstreams::arm`] works out from the state what the client is
//! waited for and since when, and sets the timer to the first of these times. Each moves only with the progress that it guards:
//! a client that sends does not put off the moment at which it should have read.

use std::time::Duration;

use super::rate::MinimumRate;
use super::{Current, Downstream, Downstreams, Phase, Response, Step, Tunnel};
use crate::exchange::{Engine, Failure};
use crate::id::{Owner, Timer};
use crate::limits;
use crate::runtime::{Clock, Tick};
use crate::uring::Driver;

/// What a client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The end of its TLS handshake.
    Handshake,
    /// The end of a request head, since its first byte.
    Head,
    /// The end of a TLS record that may hold anything, since its first byte.
    Record,
    /// A request.
    Idle,
    /// More of the request body.
    Body,
    /// That the client takes what is sent to it.
    Read,
    /// The rest of a request that was refused.
    Drain,
    /// The client's FIN, after ours.
    Linger,
    /// Bytes of a tunnel, either way.
    Tunnel,
}

/// How long a listener waits for its clients.
#[derive(Clone, Copy, Debug)]
struct Patience {
    header: Duration,
    body: Duration,
    idle: Duration,
}

/// Finds the first of several deadlines.
struct First<'a> {
    clock: &'a Clock,
    wait: Option<(Tick, Wait)>,
}

impl First<'_> {
    fn or(&mut self, wait: Wait, since: Tick, patience: Duration) {
        let at = self.clock.deadline_from(since, patience);
        if self.wait.is_none_or(|(first, _)| at < first) {
            self.wait = Some((at, wait));
        }
    }
}

impl Downstreams {
    /// Sets the timer for the next thing that the client has to do, unless it has been too slow already.
    pub(super) fn arm<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let Some(connection) = self.table.get_mut(id as usize) else { return };
        if connection.transport.is_broken() {
            return self.remove(engine, id, true);
        }
        let minimum = MinimumRate::of(connection.spec(engine));
        let unread = connection.transport.unsent(&engine.ring) > 0 && !matches!(connection.phase, Phase::Tunnel(_));
        let (now, taken) = (engine.ring.clock().tick(), connection.transport.taken(&engine.ring));
        if unread && connection.download_rate.is_below(minimum, now, taken) {
            return self.remove(engine, id, true);
        }
        let wait = self.wait(engine, id);
        engine.ring.set_timer(Timer::Connection(Owner::Downstream(id)), wait.map(|(at, _)| at));
    }

    /// What the client is waited for, and until when.
    fn wait<D: Driver>(&mut self, engine: &Engine<D>, id: u32) -> Option<(Tick, Wait)> {
        let connection = &mut self.table[id as usize];
        let Patience { header, body, idle } = connection.patience(engine);
        let (clock, socket, since) = (engine.ring.clock(), connection.transport.socket(), connection.since);
        let now = clock.tick();
        let mut first = First { clock, wait: None };
        let unread = connection.reading.observe(now, engine.ring.unsent(socket) > 0, engine.ring.taken(socket));
        match connection.phase {
            Phase::Handshake => first.or(Wait::Handshake, since, header),
            Phase::Head => {
                connection.notice_beginning(now);
                match connection.begun {
                    Some(begun) if connection.transport.input.is_empty() => first.or(Wait::Record, begun, header),
                    Some(begun) => first.or(Wait::Head, begun, header),
                    None if connection.transport.is_paused() => {}
                    None => first.or(Wait::Idle, since, idle),
                }
                if let Some(closes_at) = connection.closes_at.filter(|_| connection.begun.is_none()) {
                    first.or(Wait::Idle, closes_at, Duration::ZERO);
                }
            }
            Phase::Exchange(_) => {
                let current = &mut connection.current;
                let waits = !current.body.is_done() && !connection.transport.is_paused();
                // A client that takes a response as it comes may leave its upload open beside it, as long as either goes on.
                let moved = current.received.wrapping_add(if current.response != Response::Awaited {
                    engine.ring.taken(socket)
                } else {
                    0
                });
                if let Some(since) = current.arriving.observe(now, waits, moved) {
                    first.or(Wait::Body, since, body);
                }
            }
            Phase::Tunnel(Tunnel { exchange, .. }) => {
                let moved = engine.ring.taken(socket).wrapping_add(engine.taken(exchange));
                if let Some(since) = connection.current.arriving.observe(now, true, moved) {
                    first.or(Wait::Tunnel, since, limits::TUNNEL_IDLE);
                }
            }
            Phase::Drain => first.or(Wait::Drain, since, body),
            Phase::Flush => {}
            Phase::Linger => first.or(Wait::Linger, since, limits::LINGER),
        }
        let tunnel = matches!(connection.phase, Phase::Tunnel(_));
        if let Some(since) = unread {
            first.or(Wait::Read, since, if tunnel { limits::TUNNEL_IDLE } else { body });
        }
        first.wait
    }

    /// The timer has fired: ends what was waited for, unless progress has moved the deadline since the timer was set.
    pub(super) fn expire<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let failure = match self.wait(engine, id) {
            Some((at, wait)) if at <= engine.ring.clock().tick() => match wait {
                Wait::Head => Failure::RequestHeadTimeout,
                Wait::Body => Failure::RequestBodyTimeout,
                // No request has begun, so that there is nothing to answer.
                Wait::Idle | Wait::Record => return self.close_idle(engine, id),
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
    /// Goes on to another phase.
    pub(super) fn enter(&mut self, phase: Phase, now: Tick) {
        (self.phase, self.since) = (phase, now);
    }

    /// Notices when a head begins, or a record that may hold one: what drips is as slow within the one as within the other.
    pub(super) fn notice_beginning(&mut self, now: Tick) {
        let arrives = !self.transport.input.is_empty() || self.transport.holds_part();
        if !arrives || self.transport.is_paused() {
            self.begun = None;
        } else if self.begun.is_none() {
            self.begun = Some(now);
            // The exchange before must not decide how a refusal of this one is written.
            self.current = Current::default();
        }
    }

    fn patience<D: Driver>(&self, engine: &Engine<D>) -> Patience {
        let spec = self.spec(engine);
        let idle = if self.last_snapshot.is_some() { spec.idle_timeout.min(limits::LEAVE) } else { spec.idle_timeout };
        Patience { header: spec.header_timeout, body: spec.body_timeout, idle }
    }
}
