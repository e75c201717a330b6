//! The loop of one worker. It owns a ring and, through it, every connection that it accepted; nothing of it is shared.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::access_log::{TAPS, TapOrder};
use crate::buffer::Pool;
use crate::downstream::Downstreams;
use crate::event_log::{Level, log};
use crate::exchange::Engine;
use crate::id::{Owner, Timer, WorkerId};
use crate::limits;
use crate::listener::Sockets;
use crate::runtime::{Background, ByteRingReader, Mailbox};
use crate::snapshot::Snapshot;
use crate::telemetry::Counters;
use crate::uring::{Driver, Errno, Event, Kernel, Ring, StartError, Waker};

/// How often buffers that a burst has left behind are given back.
const UPKEEP: Duration = Duration::from_secs(10);
/// How often the same warning is logged.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// Events of a turn for each of which it may make a step of a handshake besides the one that every turn may: events of small exchanges
/// take about as long as the steps then.
const EVENTS_A_STEP: u32 = 16;
/// Buffers given back between two turns.
const UPKEEP_STEP: usize = 64;

/// What the control thread may tell a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Accept and serve.
    Serve,
    /// Accept no more, end what is under way, then end.
    Drain,
    /// End now.
    Stop,
}

/// A configuration for a worker, with the sockets of the listeners that are new to it.
#[derive(Debug)]
pub struct ConfigUpdate {
    /// Of a higher version than the one before.
    pub snapshot: Arc<Snapshot>,
    /// One of each new listener.
    pub sockets: Sockets,
}

/// How the control thread reaches a worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    order: Arc<AtomicU8>,
    mailbox: Mailbox<ConfigUpdate>,
    waker: Waker,
    /// What the worker counts.
    pub counters: Arc<Counters>,
    /// The entries of its access log, for the one who reads them.
    pub access_log: Mailbox<ByteRingReader>,
    /// The entries of which spans are made, for the one who reads them.
    pub observed: Mailbox<ByteRingReader>,
    /// What it has to know of those who watch exchanges.
    taps: [Mailbox<TapOrder>; TAPS],
}

impl WorkerHandle {
    /// Says whether somebody watches exchanges at this place; the worker takes it in between two turns.
    pub fn watch(&self, place: usize, order: TapOrder) {
        if let Some(mailbox) = self.taps.get(place) {
            // What is replaced was not taken in, and says less.
            drop(mailbox.store(order));
            self.waker.wake();
        }
    }

    /// Gives the worker an order, which it follows at the end of its current turn.
    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.waker.wake();
    }

    /// Sends an update, which the worker applies between two turns. It replaces an update that was not applied yet, and takes over
    /// the sockets in that one.
    pub fn send(&self, mut update: ConfigUpdate) {
        if let Some(untaken) = self.mailbox.take() {
            update.sockets.extend(untaken.sockets);
        }
        self.mailbox.store(update);
        self.waker.wake();
    }
}

/// What a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Client connections.
    pub downstreams: usize,
    /// Their streams of HTTP/2.
    pub streams: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Connections to endpoints, idle ones among them.
    pub upstreams: usize,
    /// Sockets that are open or whose operations the kernel has not given back.
    pub sockets: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Buffers that nobody holds and the kernel was not offered.
    pub free_buffers: usize,
}

/// One worker.
pub struct Worker<D = Kernel> {
    id: WorkerId,
    engine: Engine<D>,
    downstreams: Downstreams,
    order: Arc<AtomicU8>,
    mailbox: Mailbox<ConfigUpdate>,
    taps: [Mailbox<TapOrder>; TAPS],
    draining: bool,
    next_upkeep: Duration,
    /// Warnings that were logged, and when each may be logged again.
    warnings: Vec<(Warning, Duration)>,
}

/// A state that an operator should know of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warning {
    /// What accept(2) failed with.
    Accept(Errno),
    /// Buffers are short.
    Buffers,
    /// Turns take so long that accepting rests.
    Overload,
}

impl Worker {
    /// Sets up the worker on the calling thread, which will run it.
    ///
    /// # Errors
    /// When the machine does not grant what a ring needs.
    pub fn new(
        id: WorkerId,
        workers: usize,
        snapshot: Arc<Snapshot>,
        sockets: Sockets,
    ) -> Result<(Self, WorkerHandle), StartError> {
        Ok(Self::on(Ring::new()?, id, workers, snapshot, sockets))
    }
}

impl<D: Driver> Worker<D> {
    /// Sets up the worker on a given ring.
    #[must_use]
    pub fn on(
        mut ring: Ring<D>,
        id: WorkerId,
        workers: usize,
        snapshot: Arc<Snapshot>,
        sockets: Sockets,
    ) -> (Self, WorkerHandle) {
        ring.limit_clients(client_limit(ring.descriptors_left(), workers));
        for (listener, socket) in sockets {
            ring.listen(listener, socket);
        }
        let (order, mailbox) = (Arc::new(AtomicU8::new(Order::Serve as u8)), Mailbox::default());
        let (waker, downstreams) = (ring.waker(), Downstreams::new(workers));
        // Different in each worker, so that balancers do not march in step.
        let seed = ring.random();
        let mut engine = Engine::new(ring, snapshot, id, workers, seed);
        let counters = Arc::clone(&engine.counters);
        let [buffers, _] = engine.ring.buffers.pools();
        counters.free_buffers.set(buffers.available() as u64);
        let access_log = Mailbox::default();
        if let Some(reader) = engine.access_log.take_reader() {
            access_log.store(reader);
        }
        let observed = Mailbox::default();
        if let Some(reader) = engine.access_log.take_observer() {
            observed.store(reader);
        }
        let taps: [Mailbox<TapOrder>; TAPS] = Default::default();
        let (its_order, its_mailbox, its_taps) = (Arc::clone(&order), mailbox.clone(), taps.clone());
        let handle = WorkerHandle {
            order: its_order,
            mailbox: its_mailbox,
            waker,
            counters,
            access_log,
            observed,
            taps: its_taps,
        };
        let (draining, next_upkeep, warnings) = (false, UPKEEP, Vec::new());
        (Self { id, engine, downstreams, order, mailbox, taps, draining, next_upkeep, warnings }, handle)
    }

    /// Runs turns until the worker is told to end.
    ///
    /// # Errors
    /// When the ring breaks.
    pub async fn run(mut self, background: Background) -> io::Result<()> {
        self.engine.counters.thread.set(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into());
        while !self.turn(!background.is_busy())? {
            if self.engine.ring.clock().now() >= self.next_upkeep {
                self.next_upkeep = self.engine.ring.clock().now() + UPKEEP;
                for pool in self.engine.ring.buffers.pools().into_iter().filter(|pool| pool.is_stale()) {
                    background.spawn(trim(pool, background.clone()));
                }
            }
            if background.is_busy() {
                background.yield_now().await;
            }
        }
        Ok(())
    }

    /// Runs one turn, which waits for an event if `block`. Returns whether the worker is to end.
    ///
    /// # Errors
    /// When the ring breaks.
    pub fn turn(&mut self, block: bool) -> io::Result<bool> {
        self.engine.ring.turn(block && !self.has_waiting_handshakes())?;
        self.engine.begin_turn();
        if self.engine.ring.has_overflowed() {
            self.engine.counters.ring_overflows.add(1);
        }
        let mut woken = false;
        let mut events = 0;
        while let Some(event) = self.engine.ring.next_event() {
            woken |= matches!(event, Event::Woken);
            events += 1;
            self.dispatch(event);
        }
        self.advance_handshakes(events);
        if woken {
            if let Some(update) = self.mailbox.take() {
                self.apply(update);
            }
            for (place, mailbox) in self.taps.iter().enumerate() {
                if let Some(order) = mailbox.take() {
                    self.engine.access_log.watch(place, order);
                }
            }
            self.engine.note_waiting();
        }
        while let Some(stream) = self.engine.next_served() {
            self.downstreams.pump(&mut self.engine, stream.connection);
        }
        self.flush();
        self.downstreams.forget_retired(&self.engine);
        self.shed_if_short();
        let ends = self.follow_order();
        if self.engine.end_turn() {
            self.warn(Warning::Overload);
        }
        Ok(ends)
    }

    /// Whether handshakes wait for their turn, so that nothing else needs to happen for the worker to go on.
    fn has_waiting_handshakes(&self) -> bool {
        self.downstreams.has_waiting_handshakes() || self.engine.has_waiting_handshakes()
    }

    /// Goes on with handshakes that wait, of clients and with endpoints, each with as many as a turn of so many events may: neither side can
    /// keep the other one waiting.
    fn advance_handshakes(&mut self, events: u32) {
        let mut steps = 1 + events / EVENTS_A_STEP;
        self.downstreams.advance_handshakes(&mut self.engine, steps);
        while steps > 0 {
            let Some((index, stream, took_long)) = self.engine.advance_handshake() else { return };
            steps -= u32::from(took_long);
            if let Some(stream) = stream {
                self.downstreams.pump(&mut self.engine, stream.connection);
                self.engine.arm_connection(index);
            }
        }
    }

    /// Brings together what came and what is to go on connections that streams share, until there is nothing more to do: what one side has
    /// sent makes room for what the other one has received.
    fn flush(&mut self) {
        loop {
            while let Some((index, stream)) = self.engine.next_ready() {
                self.downstreams.pump(&mut self.engine, stream.connection);
                self.engine.arm_connection(index);
            }
            let moved = self.downstreams.flush_streams(&mut self.engine);
            if !self.engine.flush_shared() && !moved {
                return;
            }
        }
    }

    /// Sheds connections if buffers have run short, and logs that.
    fn shed_if_short(&mut self) {
        let engine = &mut self.engine;
        let starved = engine.ring.starved();
        let [buffers, _] = engine.ring.buffers.pools();
        engine.counters.free_buffers.set(buffers.available() as u64);
        engine.counters.starved_receives.set(starved as u64);
        engine.counters.handshakes_under_way.set(self.downstreams.handshakes_under_way());
        if self.downstreams.shed(engine) || (starved > 0 && engine.ring.buffers.missing() != [0, 0]) {
            self.warn(Warning::Buffers);
        }
    }

    /// How much the worker holds now.
    #[must_use]
    pub fn load(&self) -> Load {
        let buffers = self.engine.ring.buffers.pools().iter().map(|pool| pool.available()).sum();
        let streams = self.downstreams.streams();
        Load {
            downstreams: self.downstreams.len() - streams,
            streams,
            exchanges: self.engine.len(),
            upstreams: self.engine.upstreams.len(),
            sockets: self.engine.ring.sockets(),
            timers: self.engine.ring.timers(),
            free_buffers: buffers,
        }
    }

    /// Goes on under a newer snapshot. Exchanges under way end under the one that they began with.
    fn apply(&mut self, update: ConfigUpdate) {
        let engine = &mut self.engine;
        let before = engine.apply(update.snapshot);
        let now = engine.snapshot().clone();
        // This is done while draining, too: connections of a removed listener are served under the last snapshot that had it.
        for (id, _) in before.listeners().filter(|(id, _)| !now.has_listener(*id)) {
            self.downstreams.retire_listener(engine, id, &before);
        }
        let admission = |snapshot: &Snapshot, id| {
            let tls = snapshot.tls(id)?;
            Some((tls.clients()?.admission(), tls.forward()))
        };
        for (id, _) in now.listeners().filter(|(id, _)| before.has_listener(*id)) {
            let permissive = |snapshot: &Snapshot| snapshot.tls(id).is_some_and(crate::tls::Server::is_permissive);
            let closes = permissive(&before) && !permissive(&now);
            let asked = admission(&now, id);
            let other = before.listener(id).protocol != now.listener(id).protocol;
            if closes || other || asked.is_some() && asked != admission(&before, id) {
                self.downstreams.distrust(engine, id);
            }
        }
        if self.draining {
            return;
        }
        for (id, socket) in update.sockets.into_iter().filter(|(id, _)| now.has_listener(*id)) {
            engine.ring.listen(id, socket);
        }
        for (id, descriptor) in engine.ring.stop_listening(|id| !now.has_listener(id)) {
            self.downstreams.accept(engine, id, descriptor);
        }
    }

    fn dispatch(&mut self, event: Event) {
        let engine = &mut self.engine;
        let owner = match &event {
            Event::Accepted(..) | Event::AcceptPaused(..) | Event::Woken => None,
            Event::Connected(owner) | Event::Received(owner, _) | Event::Ended(owner) => Some(*owner),
            Event::Sent(owner, ..) | Event::Failed(owner, _) | Event::Expired(Timer::Connection(owner)) => Some(*owner),
            Event::Expired(Timer::Exchange(_) | Timer::Attempt(_)) => None,
        };
        match (owner, event) {
            (None, Event::Accepted(listener, descriptor)) => self.downstreams.accept(engine, listener, descriptor),
            (None, Event::AcceptPaused(_, error)) => self.warn(Warning::Accept(error)),
            (None, Event::Expired(timer)) => {
                if let Some(stream) = engine.expire(timer) {
                    self.downstreams.pump(engine, stream.connection);
                }
            }
            (None, _) => {}
            (Some(Owner::Downstream(id)), event) => self.downstreams.on_event(engine, id, event),
            (Some(Owner::Upstream(id)), event) => {
                // Of a connection that has ended, what was sent decides whether the request can go out again.
                let progress = matches!(event, Event::Sent(..)) && !engine.has_ended(id);
                match engine.on_event(id, event) {
                    Some(stream) if progress => self.downstreams.pump_waiting(engine, stream.connection),
                    Some(stream) => self.downstreams.pump(engine, stream.connection),
                    None => return,
                }
                engine.arm_connection(id);
            }
        }
    }

    /// Logs a warning, at most once a second for each cause.
    fn warn(&mut self, warning: Warning) {
        let now = self.engine.ring.clock().now();
        match self.warnings.iter_mut().find(|(known, _)| *known == warning) {
            Some((_, again)) if *again > now => return,
            Some((_, again)) => *again = now + WARNING_INTERVAL,
            None => self.warnings.push((warning, now + WARNING_INTERVAL)),
        }
        let id = self.id.0;
        match warning {
            Warning::Accept(error) => {
                log(Level::Warn, format_args!("worker {id}: accepting paused: {error}; {}", error.cure()))
            }
            Warning::Overload => {
                let delay = self.engine.counters.turn_delay.get() / 1000;
                log(Level::Warn, format_args!("worker {id}: overloaded: what comes waits {delay} ms; accepting rests"));
            }
            Warning::Buffers => {
                let counters = &self.engine.counters;
                let (free, waiting) = (counters.free_buffers.get(), counters.starved_receives.get());
                let [heads, readers, origins, pipelined] = counters.sheds();
                log(
                    Level::Warn,
                    format_args!(
                        "worker {id}: buffers are short: {free} free, {waiting} receives wait; shed so far: {heads} partial heads, \
                     {readers} slow readers, {origins} before slow origins, {pipelined} with pipelined requests"
                    ),
                );
            }
        }
    }

    /// Follows the control thread's order. Returns whether the worker is to end.
    fn follow_order(&mut self) -> bool {
        let order = self.order.load(Ordering::Acquire);
        if order == Order::Drain as u8 && !self.draining {
            self.draining = true;
            for (id, descriptor) in self.engine.ring.stop_listening(|_| true) {
                self.downstreams.accept(&mut self.engine, id, descriptor);
            }
            self.downstreams.begin_drain(&mut self.engine);
        }
        order == Order::Stop as u8 || (self.draining && self.downstreams.is_empty())
    }
}

/// Client connections that one worker of `workers` may have while the process may open `left` descriptors, so that descriptors are left for connections to endpoints, and for
/// files and the admin interface.
fn client_limit(left: usize, workers: usize) -> usize {
    let control = (left / 16).min(limits::CONTROL_DESCRIPTORS);
    let own = (left - control) / workers;
    (own - (own / 2).min(limits::UPSTREAM_DESCRIPTORS)).max(1)
}

/// Gives back what a burst has left behind, a few buffers at a time.
async fn trim(pool: &'static Pool, background: Background) {
    while pool.trim(UPKEEP_STEP) {
        background.yield_now().await;
    }
}

#[cfg(test)]
mod tests;
