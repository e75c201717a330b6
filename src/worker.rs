//! The loop of one worker. It owns a ring and, through it, every connection that it accepted; nothing of it is shared.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::buffer::Pool;
use crate::downstream::Downstreams;
use crate::exchange::Exchanges;
use crate::id::{Owner, WorkerId};
use crate::listener::Sockets;
use crate::runtime::{Background, Mailbox};
use crate::snapshot::Snapshot;
use crate::telemetry::Counters;
use crate::uring::{Errno, Event, Ring, StartError, Waker};

/// How often buffers that a burst has left behind are given back.
const UPKEEP: Duration = Duration::from_secs(10);
/// How often the same complaint is made.
const COMPLAINT: Duration = Duration::from_secs(1);
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
pub struct Letter {
    /// Of a higher version than the one before.
    pub snapshot: Arc<Snapshot>,
    /// One of each new listener.
    pub sockets: Sockets,
}

/// How the control thread reaches a worker.
#[derive(Clone, Debug)]
pub struct Reins {
    order: Arc<AtomicU8>,
    mailbox: Mailbox<Letter>,
    waker: Waker,
    /// What the worker counts.
    pub counters: Arc<Counters>,
}

impl Reins {
    /// Gives an order.
    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.waker.wake();
    }

    /// Leaves a letter, which the worker takes between two turns. One that it has not taken yet is replaced; the sockets in it
    /// go with the new one.
    pub fn send(&self, mut letter: Letter) {
        if let Some(untaken) = self.mailbox.take() {
            letter.sockets.extend(untaken.sockets);
        }
        self.mailbox.put(letter);
        self.waker.wake();
    }
}

/// What a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Client connections.
    pub downstreams: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Buffers that nobody holds and the kernel was not offered.
    pub free_buffers: usize,
}

/// One worker.
pub struct Worker {
    id: WorkerId,
    exchanges: Exchanges,
    downstreams: Downstreams,
    order: Arc<AtomicU8>,
    mailbox: Mailbox<Letter>,
    draining: bool,
    next_upkeep: Duration,
    /// What accept(2) failed with, and when that may be said again.
    complaints: Vec<(Errno, Duration)>,
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
    ) -> Result<(Self, Reins), StartError> {
        let mut ring = Ring::new()?;
        for (listener, socket) in sockets {
            ring.listen(listener, socket);
        }
        let (order, mailbox) = (Arc::new(AtomicU8::new(Order::Serve as u8)), Mailbox::default());
        let (waker, downstreams) = (ring.waker(), Downstreams::new(workers));
        let exchanges = Exchanges::new(ring, snapshot, workers, seed(id));
        let counters = Arc::clone(&exchanges.counters);
        let reins = Reins { order: Arc::clone(&order), mailbox: mailbox.clone(), waker, counters };
        let (draining, next_upkeep, complaints) = (false, UPKEEP, Vec::new());
        Ok((Self { id, exchanges, downstreams, order, mailbox, draining, next_upkeep, complaints }, reins))
    }

    /// Turns until the worker is told to end.
    ///
    /// # Errors
    /// When the ring breaks.
    pub async fn run(mut self, background: Background) -> io::Result<()> {
        while !self.turn(!background.is_busy())? {
            if self.exchanges.ring.clock().now() >= self.next_upkeep {
                self.next_upkeep = self.exchanges.ring.clock().now() + UPKEEP;
                for pool in self.exchanges.ring.pools().into_iter().filter(|pool| pool.is_stale()) {
                    background.spawn(trim(pool, background.clone()));
                }
            }
            if background.is_busy() {
                background.give_way().await;
            }
        }
        Ok(())
    }

    /// One turn, which waits for something to happen if `block`. True: the worker is to end.
    ///
    /// # Errors
    /// When the ring breaks.
    pub fn turn(&mut self, block: bool) -> io::Result<bool> {
        self.exchanges.ring.turn(block)?;
        let mut woken = false;
        while let Some(event) = self.exchanges.ring.next_event() {
            woken |= matches!(event, Event::Woken);
            self.dispatch(event);
        }
        if woken && let Some(letter) = self.mailbox.take() {
            self.adopt(letter);
        }
        self.downstreams.forget_leaving(&self.exchanges);
        Ok(self.obey())
    }

    /// What the worker holds now.
    #[must_use]
    pub fn load(&self) -> Load {
        let buffers = self.exchanges.ring.pools().iter().map(|pool| pool.available()).sum();
        Load { downstreams: self.downstreams.len(), exchanges: self.exchanges.len(), free_buffers: buffers }
    }

    /// Goes on under a newer snapshot. Exchanges under way end under the one that they began with.
    fn adopt(&mut self, letter: Letter) {
        let x = &mut self.exchanges;
        let before = x.adopt(letter.snapshot);
        let now = x.snapshot().clone();
        if self.draining {
            return;
        }
        for (id, _) in before.listeners().filter(|(id, _)| !now.has_listener(*id)) {
            self.downstreams.leave(x, id, &before);
        }
        for (id, socket) in letter.sockets.into_iter().filter(|(id, _)| now.has_listener(*id)) {
            x.ring.listen(id, socket);
        }
        for (id, descriptor) in x.ring.stop_listening(|id| !now.has_listener(id)) {
            self.downstreams.accept(x, id, descriptor);
        }
    }

    fn dispatch(&mut self, event: Event) {
        let x = &mut self.exchanges;
        let owner = match &event {
            Event::Accepted(..) | Event::AcceptPaused(..) | Event::Woken => None,
            Event::Connected(owner) | Event::Received(owner, _) | Event::Ended(owner) => Some(*owner),
            Event::Sent(owner, _) | Event::Failed(owner, _) | Event::Deadline(owner) => Some(*owner),
        };
        match (owner, event) {
            (None, Event::Accepted(listener, descriptor)) => self.downstreams.accept(x, listener, descriptor),
            (None, Event::AcceptPaused(_, error)) => self.complain(error),
            (None, _) => {}
            (Some(Owner::Downstream(id)), event) => self.downstreams.note(x, id, event),
            (Some(Owner::Upstream(id)), event) => {
                let progress = matches!(event, Event::Sent(..));
                match x.note(id, event) {
                    Some(downstream) if progress => self.downstreams.pump_waiting(x, downstream),
                    Some(downstream) => self.downstreams.pump(x, downstream),
                    None => {}
                }
            }
        }
    }

    /// Says on stderr that clients have to wait, once a second for each cause. A reader of stderr that is stuck would stop the
    /// worker here; one line a second fills a pipe only after minutes.
    fn complain(&mut self, error: Errno) {
        let now = self.exchanges.ring.clock().now();
        match self.complaints.iter_mut().find(|(known, _)| *known == error) {
            Some((_, again)) if *again > now => return,
            Some((_, again)) => *again = now + COMPLAINT,
            None => self.complaints.push((error, now + COMPLAINT)),
        }
        // Nobody to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "cairn: worker {}: accepting paused: {error}; {}", self.id.0, error.cure());
    }

    /// Does what the control thread asks for; true: end.
    fn obey(&mut self) -> bool {
        let order = self.order.load(Ordering::Acquire);
        if order == Order::Drain as u8 && !self.draining {
            self.draining = true;
            for (id, descriptor) in self.exchanges.ring.stop_listening(|_| true) {
                self.downstreams.accept(&mut self.exchanges, id, descriptor);
            }
            self.downstreams.begin_drain(&mut self.exchanges);
        }
        order == Order::Stop as u8 || (self.draining && self.downstreams.is_empty())
    }
}

/// Gives back what a burst has left behind, a few buffers at a time.
async fn trim(pool: &'static Pool, background: Background) {
    while pool.trim(UPKEEP_STEP) {
        background.give_way().await;
    }
}

/// Different in each process and worker, so that balancers do not march in step. Not for secrets.
fn seed(id: WorkerId) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(id.0)
}
