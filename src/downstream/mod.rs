//! 2: one client connection each: read and parse, hand over, deliver. `h1` today; another version goes beside it.
//! Not here: routing, endpoints (`exchange`).

mod deadline;
mod h1;
mod handshakes;
mod pace;
pub mod response;
mod secure;
mod shed;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use slab::Slab;

use crate::buffer::Queue;
use crate::exchange::{Engine, Failure, Peer, RouteOf};
use crate::forward::{Body, Delivery};
use crate::http::RequestHead;
use crate::id::{ListenerId, Owner};
use crate::limits;
use crate::runtime::{Lot, Stall, Tick};
use crate::snapshot::{Held, ListenerSpec};
use crate::tls;
use crate::transport::Transport;
use crate::uring::{Driver, Event};
use handshakes::Handshakes;
use pace::Pace;
use shed::Candidate;

/// Every client connection of a worker.
pub struct Downstreams {
    table: Slab<Downstream>,
    /// Admitted connections, by listener, and what is held of the limit of them.
    counts: Vec<(u32, Lot)>,
    /// Removed listeners whose last connections are ending, with the last snapshot that had them.
    leaving: Vec<(ListenerId, Held)>,
    /// Connections above the limit of their listener that are being told so.
    refused: u32,
    /// By listener.
    handshakes: Vec<Handshakes>,
    /// Connections that were accepted so far.
    accepted: u64,
    /// Workers that share the process-wide limits.
    workers: u32,
    /// The request head read last.
    request: RequestHead,
    draining: bool,
    /// When connections may next be shed.
    next_shed: Duration,
    /// Which ones; kept so that choosing them allocates nothing.
    candidates: Vec<Candidate>,
}

/// One client connection.
struct Downstream {
    transport: Transport,
    /// Its number among all that were accepted.
    serial: u64,
    listener: ListenerId,
    /// Its listener was removed: this is the snapshot that its last request is served under.
    home: Option<Held>,
    /// The snapshot that `peer` was judged under.
    version: u64,
    peer: Peer,
    /// Within `limits.connections`.
    admitted: bool,
    /// And has taken one of so many places.
    placed: bool,
    phase: Phase,
    /// When the phase began.
    since: Tick,
    /// Bytes of a partial head that hold no end.
    scanned: usize,
    /// When the first byte of a head that has not ended arrived, or of a TLS record that may hold one.
    begun: Option<Tick>,
    /// When it ends if no request has come by then.
    leaves: Option<Tick>,
    /// Since when it has taken nothing of what waits to be sent.
    reading: Stall,
    /// Requests begun.
    requests: u32,
    /// How fast the client takes what is sent to it.
    taking: Pace,
    /// The current exchange.
    current: Current,
}

/// What has to be known of a request while its response is made.
struct Current {
    body: Body,
    /// Bytes of body read.
    received: u64,
    /// How fast they come.
    sending: Pace,
    /// Since when none has come, of the body or of the tunnel.
    arriving: Stall,
    delivery: Delivery,
    /// The connection can take another request afterwards.
    keep_alive: bool,
    /// The client speaks HTTP/1.0.
    old: bool,
    /// The request was HEAD.
    head: bool,
    /// The client prefers JSON.
    json: bool,
    /// The client waits for 100 before it sends the body.
    expects: bool,
    /// The final response head was sent.
    started: bool,
    /// The response ends with the connection.
    endless: bool,
    /// The tunnel's way up, or down, has ended.
    up_ended: bool,
    down_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// TLS is being agreed on.
    Handshake,
    /// Before or within a head.
    Head,
    /// Request and response go through an exchange.
    Exchange(u32),
    /// Bytes go through unread.
    Tunnel(u32),
    /// Answered; the rest of the request body is dropped.
    Drain,
    /// Answered for the last time: closed when all is sent.
    Flush,
    /// FIN sent; what the client still sends is dropped until it ends.
    Linger,
}

/// Whether a connection can go on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Again,
    Wait,
    /// It was closed.
    Gone,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            body: Body::Done,
            received: 0,
            sending: Pace::default(),
            arriving: Stall::default(),
            delivery: Delivery::Same,
            keep_alive: false,
            old: false,
            head: false,
            json: false,
            expects: false,
            started: false,
            endless: false,
            up_ended: false,
            down_ended: false,
        }
    }
}

impl Downstreams {
    /// None yet, for one worker of `workers`.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            table: Slab::with_capacity(1024),
            counts: Vec::new(),
            leaving: Vec::new(),
            refused: 0,
            handshakes: Vec::new(),
            accepted: 0,
            workers: workers as u32,
            request: RequestHead::new(),
            draining: false,
            next_shed: Duration::ZERO,
            candidates: Vec::with_capacity(1024),
        }
    }

    /// Takes over an accepted connection.
    pub fn accept<D: Driver>(&mut self, engine: &mut Engine<D>, listener: ListenerId, descriptor: OwnedFd) {
        let gone = |(id, _): &&(ListenerId, Held)| *id == listener && !engine.snapshot().has_listener(listener);
        let home = self.leaving.iter().find(gone).map(|(_, held)| held.clone());
        let snapshot = home.as_ref().unwrap_or(engine.snapshot());
        debug_assert!(snapshot.has_listener(listener), "it leaves only when nothing is accepted any more");
        let handshakes = snapshot.listener(listener).handshakes;
        if snapshot.tls(listener).is_some() && !self.admits_handshake(engine, listener, handshakes) {
            return;
        }
        let snapshot = home.as_ref().unwrap_or(engine.snapshot());
        let (spec, version) = (snapshot.listener(listener), snapshot.version);
        let address = engine.ring.peer(&descriptor).map(|(address, _)| address);
        let session = snapshot.tls(listener).map(|server| Box::new(tls::Session::new(server)));
        let peer = spec.peer(address);
        let cap = spec.connections;
        if self.counts.len() <= listener.index() {
            self.counts.resize_with(listener.index() + 1, Default::default);
        }
        let (count, lot) = &mut self.counts[listener.index()];
        let placed = cap > 0 && lot.take(snapshot.allowance(listener), cap, self.workers);
        let admitted = cap == 0 || placed;
        let tally = if admitted { count } else { &mut self.refused };
        *tally += 1;
        // What a refused client sends is not read, so that closing waits until it has had time to take the answer.
        let lingers = !admitted && *tally <= limits::REFUSED_CONNECTIONS;
        engine.counters.set_connections(listener, self.counts[listener.index()].0);
        let unread = if lingers { Body::Close } else { Body::Done };
        let entry = self.table.vacant_entry();
        let id = entry.key() as u32;
        let socket = engine.ring.adopt(descriptor, Owner::Downstream(id));
        let phase = if session.is_some() { Phase::Handshake } else { Phase::Head };
        self.accepted += 1;
        entry.insert(Downstream {
            transport: Transport::new(socket, session),
            serial: self.accepted,
            listener,
            home,
            version,
            peer,
            admitted,
            placed,
            phase,
            since: engine.ring.clock().tick(),
            scanned: 0,
            begun: None,
            leaves: None,
            reading: Stall::default(),
            requests: 0,
            taking: Pace::default(),
            current: Current { body: unread, ..Current::default() },
        });
        if phase == Phase::Handshake {
            self.begin_handshake(engine, id);
        }
        if admitted {
            self.arm(engine, id);
        } else if phase == Phase::Handshake {
            // It cannot be told in plain text.
            self.remove(engine, id, false);
        } else if self.refuse(engine, id, Failure::Connections) == Step::Again {
            self.pump(engine, id);
        }
    }

    /// Takes in what happened on a client connection.
    pub fn note<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, event: Event) {
        let Some(connection) = self.table.get_mut(id as usize) else { return };
        match event {
            Event::Received(_, queue) => self.receive(engine, id, queue),
            Event::Ended(_) => {
                connection.transport.end();
                self.pump(engine, id);
            }
            Event::Sent(_, drained, _) => {
                if drained {
                    connection.taking.pause(engine.ring.clock().tick());
                }
                // Between requests nothing waits for room, unless too many answers do.
                if connection.phase != Phase::Head || connection.transport.is_paused() {
                    self.pump(engine, id);
                }
            }
            Event::Failed(..) => self.remove(engine, id, true),
            Event::Expired(_) => self.expire(engine, id),
            _ => {}
        }
    }

    /// Does all that can be done on a connection now. Called after every event that concerns it or its exchange, so that no
    /// order of events can leave it waiting for nothing.
    pub fn pump<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        loop {
            let Some(connection) = self.table.get_mut(id as usize) else { return };
            let step = match connection.phase {
                Phase::Handshake => self.shake_hands(engine, id),
                Phase::Head => self.read_head(engine, id),
                Phase::Exchange(exchange) => match self.feed(engine, id, exchange) {
                    Step::Wait => self.deliver(engine, id, exchange),
                    step => step,
                },
                Phase::Tunnel(exchange) => self.tunnel(engine, id, exchange),
                Phase::Drain => self.drain(engine, id),
                Phase::Flush => self.flush(engine, id),
                Phase::Linger => self.linger(engine, id),
            };
            match step {
                Step::Again => {}
                Step::Wait => return self.arm(engine, id),
                Step::Gone => return,
            }
        }
    }

    /// Goes on where something waits for the origin to take what was sent to it.
    pub fn pump_waiting<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) {
        let waits =
            |connection: &Downstream| connection.transport.is_paused() || matches!(connection.phase, Phase::Tunnel(_));
        if self.table.get(id as usize).is_some_and(waits) {
            self.pump(engine, id);
        }
    }

    /// Closes what is idle and lets the rest end: no connection is kept after its current exchange.
    pub fn begin_drain<D: Driver>(&mut self, engine: &mut Engine<D>) {
        self.draining = true;
        let idle = |connection: &Downstream| connection.phase == Phase::Head && connection.transport.input.is_empty();
        let (fresh, idle): (Vec<_>, Vec<_>) =
            self.table.iter().filter(|(_, c)| idle(c)).partition(|(_, connection)| connection.requests == 0);
        let [fresh, idle] = [fresh, idle].map(|some| some.iter().map(|(id, _)| *id as u32).collect::<Vec<_>>());
        // A client that has just connected has a request on its way.
        for id in fresh {
            self.leave_within(engine, id, limits::FIRST_REQUEST);
        }
        for id in idle {
            self.retire(engine, id);
        }
        for (_, connection) in &mut self.table {
            connection.current.keep_alive = false;
        }
    }

    /// Lets the connections of a removed listener end: after the exchange under way, or soon, each at a moment of its own.
    /// `before` is the last snapshot that had the listener.
    pub fn leave<D: Driver>(&mut self, engine: &mut Engine<D>, listener: ListenerId, before: &Held) {
        self.leaving.push((listener, before.clone()));
        let mut idle = Vec::new();
        for (id, connection) in &mut self.table {
            if connection.listener != listener || connection.home.is_some() {
                continue;
            }
            connection.home = Some(before.clone());
            // A client that was told that the connection is kept may send one more request.
            connection.current.keep_alive &= connection.current.started;
            if connection.phase == Phase::Head && connection.transport.input.is_empty() {
                idle.push(id as u32);
            }
        }
        for id in idle {
            let spread = limits::LEAVE - limits::LEAVE_MIN;
            let wait = limits::LEAVE_MIN + spread.mul_f64(f64::from(engine.random()) / f64::from(u32::MAX));
            self.leave_within(engine, id, wait);
        }
    }

    /// Ends an idle connection after `wait`, unless a request comes.
    fn leave_within<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, wait: Duration) {
        self.table[id as usize].leaves = Some(engine.ring.clock().deadline(wait));
        self.arm(engine, id);
    }

    /// Ends the connections of a listener that has come to ask its clients for certificates, or for others: these clients have
    /// shown none. What is not yet an exchange is closed at once.
    pub fn distrust<D: Driver>(&mut self, engine: &mut Engine<D>, listener: ListenerId) {
        let mut early = Vec::new();
        for (id, connection) in self.table.iter_mut().filter(|(_, connection)| connection.listener == listener) {
            connection.current.keep_alive = false;
            if matches!(connection.phase, Phase::Handshake | Phase::Head | Phase::Drain) {
                early.push(id as u32);
            }
        }
        for id in early {
            match self.table[id as usize].phase {
                Phase::Handshake => self.remove(engine, id, false),
                _ => self.retire(engine, id),
            }
        }
    }

    /// Lets go of the snapshots of removed listeners that have no connection and will get none.
    pub fn forget_leaving<D: Driver>(&mut self, engine: &Engine<D>) {
        let busy = |id: ListenerId| self.counts.get(id.index()).is_some_and(|(count, _)| *count > 0);
        self.leaving.retain(|(listener, _)| busy(*listener) || engine.ring.is_accepting(*listener));
    }

    /// Open connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Answers a failure. The one place where an answer of our own begins, so that the rest of a refused request is always
    /// dropped within a bound, or the connection closed.
    fn refuse<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, failure: Failure) -> Step {
        let route = match self.table[id as usize].phase {
            Phase::Exchange(exchange) => Some(engine.route(exchange)),
            _ => None,
        };
        self.refuse_routed(engine, id, failure, route)
    }

    /// The same for a request whose route is known, so that the answer has the fields that the route sets.
    fn refuse_routed<D: Driver>(
        &mut self,
        engine: &mut Engine<D>,
        id: u32,
        failure: Failure,
        route: Option<RouteOf>,
    ) -> Step {
        let connection = &mut self.table[id as usize];
        if let Phase::Exchange(exchange) | Phase::Tunnel(exchange) = connection.phase {
            engine.close(exchange, false);
        }
        let tunnel = matches!(connection.phase, Phase::Tunnel(_));
        if connection.current.started {
            // Only a cut can tell the client that the response is not whole. Its framing shows one, once all that came has been
            // sent (RFC 9112 section 8); where the connection's end is the response's end, only RST does.
            connection.enter(Phase::Flush, engine.ring.clock().tick());
            if !tunnel && !connection.current.endless {
                return Step::Again;
            }
            self.remove(engine, id, true);
            return Step::Gone;
        }
        let fatal = matches!(
            failure,
            Failure::Request(_)
                | Failure::RequestBody
                | Failure::RequestTrailers(_)
                | Failure::RequestBodySize
                | Failure::RequestHeadTimeout
                | Failure::RequestBodyTimeout
                | Failure::RequestBodySlow
                | Failure::RequestWithoutTls
                | Failure::Connections
                | Failure::Shed
        );
        connection.current.keep_alive &= !fatal;
        let manner = connection.manner(engine.ring.wall_seconds());
        let status = engine.write_failure(failure, route.as_ref(), &manner);
        self.send_scratch(engine, id, status, manner.keep_alive)
    }

    /// Sends an answer of our own from the scratch, counts it, and goes on with what follows it: the one end of a route's own
    /// answers and of refusals.
    fn send_scratch<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, status: u16, keep_alive: bool) -> Step {
        engine.counters.respond(status);
        let mut out = Queue::default();
        if engine.place(&mut out, None).is_err() {
            self.remove(engine, id, true);
            return Step::Gone;
        }
        let connection = &mut self.table[id as usize];
        connection.transport.send(&mut engine.ring, &mut out);
        let next = match connection.current.body {
            _ if !keep_alive => Phase::Flush,
            Body::Done => Phase::Head,
            _ => Phase::Drain,
        };
        connection.enter(next, engine.ring.clock().tick());
        Step::Again
    }

    fn drain<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        let mut dropped = Queue::default();
        let body = &mut connection.current.body;
        let read = body.read(
            &mut engine.ring.buffers,
            &mut connection.transport.input,
            &mut dropped,
            Delivery::Data,
            &mut engine.trailers,
        );
        dropped.clear(engine.ring.buffers.pieces());
        let ended = connection.transport.has_ended() || read.is_err();
        let next = match &connection.current.body {
            Body::Done if !ended => Phase::Head,
            _ if ended => Phase::Flush,
            _ => {
                // It may have been paused for an origin that is gone.
                self.set_paused(engine, id, false);
                return Step::Wait;
            }
        };
        connection.enter(next, engine.ring.clock().tick());
        Step::Again
    }

    /// Waits until everything is sent, then closes; after a request that was not read to its end only when the client has
    /// had time to read the answer (RFC 9112 section 9.6).
    fn flush<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        connection.transport.say_goodbye(&mut engine.ring);
        if connection.transport.unsent(&engine.ring) > 0 {
            connection.transport.input.clear(engine.ring.buffers.pieces());
            return Step::Wait;
        }
        let clean =
            connection.current.body.is_done() && connection.transport.input.is_empty() && connection.begun.is_none();
        if clean || connection.transport.has_ended() {
            self.remove(engine, id, false);
            return Step::Gone;
        }
        connection.transport.finish(&mut engine.ring);
        connection.transport.set_paused(&mut engine.ring, false);
        connection.enter(Phase::Linger, engine.ring.clock().tick());
        Step::Again
    }

    fn linger<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32) -> Step {
        let connection = &mut self.table[id as usize];
        connection.transport.input.clear(engine.ring.buffers.pieces());
        if connection.transport.has_ended() {
            self.remove(engine, id, false);
            return Step::Gone;
        }
        Step::Wait
    }

    /// Closes a connection, with RST if `abort`, and gives up its exchange.
    fn remove<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, abort: bool) {
        let Some(connection) = self.table.try_remove(id as usize) else { return };
        connection.count_handshake(engine);
        if connection.phase == Phase::Handshake {
            self.end_handshake(connection.listener);
        }
        let (count, lot) = &mut self.counts[connection.listener.index()];
        let tally = if connection.admitted { count } else { &mut self.refused };
        *tally -= 1;
        if connection.placed {
            let snapshot = connection.snapshot(engine);
            let cap = snapshot.listener(connection.listener).connections;
            lot.give(snapshot.allowance(connection.listener), cap, self.workers);
        }
        engine.counters.set_connections(connection.listener, self.counts[connection.listener.index()].0);
        if let Phase::Exchange(exchange) | Phase::Tunnel(exchange) = connection.phase {
            engine.close(exchange, false);
        }
        engine.unbind(id);
        connection.transport.close(&mut engine.ring, abort);
    }

    /// Stops or resumes receiving from a client.
    fn set_paused<D: Driver>(&mut self, engine: &mut Engine<D>, id: u32, paused: bool) {
        self.table[id as usize].transport.set_paused(&mut engine.ring, paused);
    }
}

impl Downstream {
    /// What its next request is served under.
    fn snapshot<'a, D: Driver>(&'a self, engine: &'a Engine<D>) -> &'a Held {
        self.home.as_ref().unwrap_or(engine.snapshot())
    }

    /// Its listener.
    fn spec<'a, D: Driver>(&'a self, engine: &'a Engine<D>) -> &'a ListenerSpec {
        self.snapshot(engine).listener(self.listener)
    }
}

impl ListenerSpec {
    /// Whether forwarding fields of this peer are believed; a peer on a Unix-domain socket is on this machine.
    #[must_use]
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|peer| self.trusted_proxies.iter().any(|network| network.contains(peer)))
    }

    /// Who has connected from this address.
    #[must_use]
    pub fn peer(&self, address: Option<IpAddr>) -> Peer {
        Peer::new(address, self.trusts(address), !self.strict_paths, self.tls.is_some())
    }

    /// Bounds of a request head.
    fn head_limits(&self) -> crate::http::HeadLimits {
        crate::http::HeadLimits {
            head_bytes: self.header_bytes,
            field_count: self.header_count,
            request_line: limits::REQUEST_LINE_BYTES,
        }
    }
}
