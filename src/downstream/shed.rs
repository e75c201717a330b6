//! Ending connections when buffers run short: those that hold some and have made no progress for longest. Not here: the bounds of
//! each connection, which apply first.

use super::{Downstream, Downstreams, Phase, Response, Step, Tunnel};
use crate::exchange::{Engine, Failure};
use crate::limits::{SHED_CONNECTIONS, SHED_INTERVAL, SHED_STALL};
use crate::runtime::Tick;
use crate::telemetry::Shed;
use crate::uring::Driver;

/// A connection that may be shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// Since when it has made no progress.
    since: Tick,
    id: u32,
    /// Upper bounds of the buffers that it pins: ordinary and large ones.
    pieces: [usize; 2],
    /// The reason under which it is counted.
    reason: Shed,
}

impl Downstreams {
    /// Gives up what is kept to be sent again if buffers are too short for receives, and sheds connections if fewer are free than are reserved.
    /// Returns whether it has shed some.
    pub fn shed<D: Driver>(&mut self, engine: &mut Engine<D>) -> bool {
        let missing = engine.ring.buffers.missing();
        let now = engine.ring.clock().now();
        if (missing == [0, 0] && !engine.ring.is_short_of_buffers()) || now < self.next_shed {
            return false;
        }
        self.next_shed = now + SHED_INTERVAL;
        engine.drop_replays();
        if missing == [0, 0] {
            return false;
        }
        let clock = engine.ring.clock();
        let Some(latest) = clock.tick().checked_sub(clock.ticks(SHED_STALL)) else { return false };
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let stalled = |(id, connection): (usize, &mut Downstream)| connection.candidate(engine, id as u32);
        let helps = |candidate: &Candidate| candidate.since <= latest && candidate.frees(missing);
        candidates.extend(self.table.iter_mut().filter_map(stalled).filter(helps));
        if candidates.len() > SHED_CONNECTIONS {
            candidates.select_nth_unstable(SHED_CONNECTIONS);
            candidates.truncate(SHED_CONNECTIONS);
        }
        candidates.sort_unstable();
        let mut left = missing;
        let mut any = false;
        for candidate in &candidates {
            if !candidate.frees(left) {
                continue;
            }
            any = true;
            left = [0, 1].map(|size| left[size].saturating_sub(candidate.pieces[size]));
            engine.counters.shed(candidate.reason);
            self.give_up(engine, candidate);
        }
        self.candidates = candidates;
        any
    }

    /// Ends a connection: with an answer if no response has begun and the client reads, else with RST.
    fn give_up<D: Driver>(&mut self, engine: &mut Engine<D>, candidate: &Candidate) {
        let id = candidate.id;
        let connection = &self.table[id as usize];
        let answers = match connection.phase {
            Phase::Head => candidate.reason == Shed::PartialHead,
            Phase::Exchange(_) => {
                connection.current.response == Response::Awaited && candidate.reason != Shed::SlowReader
            }
            _ => false,
        };
        if !answers {
            return self.remove(engine, id, true);
        }
        if self.refuse(engine, id, Failure::Shed) == Step::Again {
            self.pump(engine, id);
        }
    }
}

impl Candidate {
    /// Whether it holds buffers of a size that is missing.
    fn frees(&self, missing: [usize; 2]) -> bool {
        (0..missing.len()).any(|size| missing[size] > 0 && self.pieces[size] > 0)
    }
}

impl Downstream {
    /// The connection as a candidate, if it holds buffers and waits for a peer.
    fn candidate<D: Driver>(&mut self, engine: &Engine<D>, id: u32) -> Option<Candidate> {
        let now = engine.ring.clock().tick();
        let unsent = self.transport.unsent(&engine.ring) > 0;
        let unread = self.reading.observe(now, unsent, self.transport.taken(&engine.ring));
        let [ordinary, large] = self.transport.held_buffers(&engine.ring);
        let section = self.http2.as_ref().map_or([0, 0], |it| it.connection.pinned(&engine.ring.buffers));
        let own = ordinary + self.transport.pinned(&engine.ring) + section[0];
        let large = large + section[1];
        let holds = own + large > 0;
        let candidate = |since, behind, reason| Some(Candidate { since, id, pieces: [own + behind, large], reason });
        match self.phase {
            Phase::Exchange(exchange) | Phase::Connect(exchange) | Phase::Tunnel(Tunnel { exchange, .. }) => {
                match engine.stalled(exchange) {
                    _ if unread.is_some() => candidate(unread?, engine.pinned(exchange), Shed::SlowReader),
                    Some(since) => candidate(since, engine.pinned(exchange), Shed::SlowOrigin),
                    // The buffers hold a body that arrives slowly, or requests that wait behind this one.
                    None if holds => candidate(self.current.arriving.since().unwrap_or(self.since), 0, Shed::Pipelined),
                    None => None,
                }
            }
            _ if unread.is_some() => candidate(unread?, 0, Shed::SlowReader),
            Phase::Http2 if section != [0, 0] => candidate(self.http2.as_ref()?.section?, 0, Shed::PartialHead),
            Phase::Head if holds => candidate(self.begun.unwrap_or(self.since), 0, Shed::PartialHead),
            _ if holds => candidate(self.since, 0, Shed::PartialHead),
            _ => None,
        }
    }
}
