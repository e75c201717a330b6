//! Ends of connections that are the operator's wish: a drain, a listener that was removed, or that lets in others than before. Not
//! here: the ends of exchanges (`end`).

use std::time::Duration;

use super::{Downstreams, Phase, Response};
use crate::exchange::Engine;
use crate::id::ListenerId;
use crate::limits;
use crate::runtime::Tick;
use crate::snapshot::SnapshotRef;
use crate::uring::Driver;

impl Downstreams {
    /// Closes idle connections, each after a random time, and the others after their current exchange.
    pub fn begin_drain<D: Driver>(&mut self, engine: &mut Engine<D>) {
        self.draining = true;
        let (fresh, idle): (Vec<_>, Vec<_>) =
            self.table.iter().filter(|(_, c)| c.is_idle()).partition(|(_, connection)| connection.requests == 0);
        let [fresh, idle] = [fresh, idle].map(|some| some.iter().map(|(id, _)| *id as u32).collect::<Vec<_>>());
        // The first request of a client that has just connected may be on its way.
        for id in fresh {
            self.close_after(engine, id, limits::FIRST_REQUEST);
        }
        // So may one of a client that has been here for long; and not all of them are to come back elsewhere at once.
        for id in idle {
            let part = f64::from(engine.random()) / f64::from(u32::MAX);
            self.close_after(engine, id, limits::FIRST_REQUEST + limits::FIRST_REQUEST.mul_f64(part));
        }
        for (_, connection) in &mut self.table {
            connection.current.keep_alive = false;
        }
        self.announce_ends(engine, |_| true);
    }

    /// Ends the connections of a removed listener: after the exchange under way, or, if they are idle, each after a random time.
    /// `before` is the last snapshot that had the listener.
    pub fn retire_listener<D: Driver>(&mut self, engine: &mut Engine<D>, listener: ListenerId, before: &SnapshotRef) {
        self.retired.push((listener, before.clone()));
        let mut idle = Vec::new();
        for (id, connection) in &mut self.table {
            if connection.listener != listener || connection.last_snapshot.is_some() {
                continue;
            }
            connection.last_snapshot = Some(before.clone());
            // The client was told that the connection is kept if a response has begun: then it may send one more request.
            connection.current.keep_alive &= connection.current.response != Response::Awaited;
            if connection.is_idle() {
                idle.push(id as u32);
            }
        }
        self.announce_ends(engine, |connection| connection.listener == listener);
        for id in idle {
            let spread = limits::LEAVE - limits::LEAVE_MIN;
            let wait = limits::LEAVE_MIN + spread.mul_f64(f64::from(engine.random()) / f64::from(u32::MAX));
            self.close_after(engine, id, wait);
        }
    }

    /// When a new connection is closed unless a request has begun, if the process is about to end.
    pub(super) fn first_request_by<D: Driver>(&self, engine: &Engine<D>) -> Option<Tick> {
        self.draining.then(|| engine.ring.clock().deadline(limits::FIRST_REQUEST))
    }

    /// Ends an idle connection after `wait`, unless a request begins.
    pub(super) fn close_after<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, wait: Duration) {
        self.table[id as usize].closes_at = Some(engine.ring.clock().deadline(wait));
        self.arm(engine, id);
    }

    /// Ends the connections of a listener that lets in other clients than before, because of `client_ca`, `client_auth` or `crl`: theirs
    /// have not shown a certificate that it accepts now, or any, where it took plain text, too. So it does where `forward_client_cert` says otherwise than before: what it says
    /// is written once for a connection; and where it speaks another protocol now. Connections without an exchange are closed at once, the others after their exchange.
    pub fn distrust<D: Driver>(&mut self, engine: &mut Engine<D>, listener: ListenerId) {
        let mut early = Vec::new();
        for (id, connection) in self.table.iter_mut().filter(|(_, connection)| connection.listener == listener) {
            connection.current.keep_alive = false;
            if matches!(connection.phase, Phase::Handshake | Phase::Hello | Phase::Head | Phase::Drain) {
                early.push(id as u32);
            }
        }
        self.announce_ends(engine, |connection| connection.listener == listener);
        for id in early {
            match self.table[id as usize].phase {
                Phase::Handshake | Phase::Hello => self.remove(engine, id, false),
                _ => self.close_idle(engine, id),
            }
        }
    }

    /// Releases the snapshots of removed listeners that have no connections and will accept none.
    pub fn forget_retired<D: Driver>(&mut self, engine: &Engine<D>) {
        let busy = |id: ListenerId| self.counts.get(id.index()).is_some_and(|(count, _)| *count > 0);
        // A listener that has come back serves under the current snapshot.
        let gone = |id: ListenerId| !engine.snapshot().has_listener(id);
        self.retired.retain(|(id, _)| gone(*id) && (busy(*id) || engine.ring.is_accepting(*id)));
    }
}
