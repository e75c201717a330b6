//! How many requests of a cluster may be under way at a time, over all workers, and which workers have requests that wait for a place.
//! Where nothing is limited, nothing is counted. Not here: the waiting requests themselves (`exchange`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::spec::LimitsSpec;
use crate::id::TenantId;
use crate::pool::ConnectionCount;
use crate::telemetry::Counter;
use crate::uring::Waker;

/// How important a request is where not all can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// Served first, refused last.
    Critical,
    /// As most are.
    #[default]
    Normal,
    /// Served last, refused first.
    Bulk,
}

impl Priority {
    /// All, the most important first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Normal, Self::Bulk];

    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Who shares a queue: the root's routes are one, each tenant another one, as long as there are no more than [`Sharer::COUNT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharer(u8);

impl Sharer {
    /// How many are told apart.
    pub const COUNT: usize = 64;

    /// The one to which requests of a tenant belong; None: of the root's routes.
    #[must_use]
    pub fn of(tenant: Option<TenantId>) -> Self {
        Self(tenant.map_or(0, |tenant| 1 + (tenant.index() % (Self::COUNT - 1)) as u8))
    }

    /// Its position among all.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Those in a set.
    fn in_set(set: u64) -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).filter(move |at| set >> at & 1 != 0).map(Self)
    }
}

/// The places of one cluster.
///
/// Among the requests of one priority that wait, sharers take turns: each is served as often as the others while it has any waiting, however
/// many that are. What counts is how many of its waiting requests were served (`served`); who begins to wait begins with what the one
/// that was served last has had (`level`), so that nobody saves turns up. This is deficit round robin with requests that all cost the same.
///
/// A place that is given back is for a request that waits, if there is one, so that a new request waits behind it. Whoever gives one back
/// looks for waiting requests after that, and whoever waits looks for a place after it has said so: one of both sees the other, because
/// all of these operations are in one order (`SeqCst`).
#[derive(Debug)]
pub struct Places {
    /// `limits.requests`; 0: no limit.
    requests: AtomicU32,
    /// `limits.per_endpoint.requests`; 0: no limit.
    endpoint_requests: AtomicU32,
    /// `limits.connections` and `limits.per_endpoint.connections`; 0: no limit.
    connections: [AtomicU32; 2],
    /// Connections that count against the former.
    connected: ConnectionCount,
    /// `limits.queue`
    queue: AtomicU32,
    /// What an adaptive limit stands at; 0: there is none.
    adapted: AtomicU32,
    taken: AtomicU32,
    waiting: AtomicU32,
    /// By sharer: how many of its requests wait, and its turns so far.
    sharers: Box<[(AtomicU32, AtomicU64)]>,
    /// The turns of the sharer that was served last.
    level: AtomicU64,
    /// Requests that were refused because too many waited, and because they had waited for too long.
    refused: [AtomicU64; 2],
    /// By worker.
    cells: Box<[Cell]>,
}

/// The requests of one worker that wait, and its measurements; it alone writes, but for `evict`.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    waiting: [AtomicU32; Priority::ALL.len()],
    /// Of each priority, the sharers of which some wait: a bit each.
    sharers: [AtomicU64; Priority::ALL.len()],
    /// Since when the first one of each priority has waited, milliseconds on the process's clock.
    since: [AtomicU64; Priority::ALL.len()],
    /// Requests that are to make room for more important ones of other workers.
    evict: AtomicU32,
    /// Answers, and the sum of the times to their first bytes, microseconds: for an adaptive limit.
    answers: Counter,
    answer_time: Counter,
    waker: OnceLock<Waker>,
}

/// What may be done with a request that finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits.
    Waits,
    /// It waits instead of a less important one of this worker, which the caller refuses.
    Evicts,
    /// Too many wait.
    Full,
}

impl Places {
    /// Those of a cluster without limits, for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            requests: AtomicU32::new(0),
            endpoint_requests: AtomicU32::new(0),
            connections: Default::default(),
            connected: ConnectionCount::default(),
            queue: AtomicU32::new(0),
            adapted: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            sharers: std::iter::repeat_with(Default::default).take(Sharer::COUNT).collect(),
            level: AtomicU64::new(0),
            refused: Default::default(),
            cells: std::iter::repeat_with(Cell::default).take(workers.max(1)).collect(),
        }
    }

    /// Takes in the limits, and how a worker is woken when a place is free for one of its requests.
    pub fn apply(&self, limits: &LimitsSpec, worker: usize, waker: impl FnOnce() -> Waker) {
        self.requests.store(limits.requests, Ordering::Relaxed);
        self.endpoint_requests.store(limits.endpoint_requests, Ordering::Relaxed);
        self.connections[0].store(limits.connections, Ordering::Relaxed);
        self.connections[1].store(limits.endpoint_connections, Ordering::Relaxed);
        self.queue.store(limits.queue, Ordering::Relaxed);
        if !limits.is_none() {
            self.cell(worker).waker.get_or_init(waker);
        }
        if !limits.adaptive {
            self.adapt(0);
        }
    }

    /// Takes in how long a worker has waited for the first byte of an answer.
    pub fn measure(&self, worker: usize, time: Duration) {
        let cell = self.cell(worker);
        cell.answers.add(1);
        cell.answer_time.add(time.as_micros() as u64);
    }

    /// Answers that were measured so far, and the sum of their times, microseconds.
    #[must_use]
    pub fn measured(&self) -> (u64, u64) {
        let sum = |of: fn(&Cell) -> &Counter| self.cells.iter().map(|it| of(it).get()).sum();
        (sum(|cell| &cell.answers), sum(|cell| &cell.answer_time))
    }

    /// Sets an adaptive limit; 0: there is none.
    pub fn adapt(&self, limit: u32) {
        self.adapted.store(limit, Ordering::Relaxed);
    }

    /// Most requests under way; 0: no limit.
    #[must_use]
    #[inline]
    pub fn limit(&self) -> u32 {
        match (self.requests.load(Ordering::Relaxed), self.adapted.load(Ordering::Relaxed)) {
            (limit, 0) | (0, limit) => limit,
            (limit, adapted) => limit.min(adapted),
        }
    }

    /// Most requests under way at one endpoint; 0: no limit.
    #[must_use]
    #[inline]
    pub fn endpoint_limit(&self) -> u32 {
        self.endpoint_requests.load(Ordering::Relaxed)
    }

    /// Most connections to the cluster, and to one endpoint; 0: no limit.
    #[must_use]
    #[inline]
    pub fn connection_limits(&self) -> [u32; 2] {
        self.connections.each_ref().map(|limit| limit.load(Ordering::Relaxed))
    }

    /// Connections that count against the limit of the cluster.
    #[must_use]
    pub fn connected(&self) -> &ConnectionCount {
        &self.connected
    }

    /// Wakes all other workers, which may have idle connections where a request of this one wants to make one.
    pub fn wake_others(&self, worker: usize) {
        self.others(worker).for_each(|(_, cell)| wake(cell));
    }

    /// Requests that have a place.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Requests that wait for one.
    #[must_use]
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Requests that were refused so far because too many waited, and because they had waited for too long.
    #[must_use]
    pub fn refused(&self) -> [u64; 2] {
        self.refused.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts a request that was refused because too many waited.
    pub fn count_full(&self) {
        self.refused[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was refused because it had waited for too long.
    pub fn count_late(&self) {
        self.refused[1].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a place. False: all are taken.
    #[must_use]
    pub fn take(&self) -> bool {
        take(&self.taken, self.limit())
    }

    /// Gives a place back.
    pub fn give(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a request waits that is served before a new one of a priority.
    #[must_use]
    pub fn has_before(&self, priority: Priority) -> bool {
        self.waiting() > 0
            && self
                .cells
                .iter()
                .any(|cell| (0..=priority as usize).any(|at| cell.waiting[at].load(Ordering::SeqCst) > 0))
    }

    /// Asks for a place in the queue for a request of a worker.
    pub fn queue(&self, worker: usize, priority: Priority, sharer: Sharer) -> Queued {
        let queued = self.find_room(worker, priority, sharer);
        if queued != Queued::Full {
            let (waiting, turns) = &self.sharers[sharer.index()];
            if waiting.fetch_add(1, Ordering::SeqCst) == 0 {
                turns.fetch_max(self.level.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
        queued
    }

    fn find_room(&self, worker: usize, priority: Priority, sharer: Sharer) -> Queued {
        let least = |waiting: u32| (waiting < self.queue.load(Ordering::Relaxed)).then_some(waiting + 1);
        if self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, least).is_ok() {
            return Queued::Waits;
        }
        let gives_way = |cell: &Cell| has_lesser(cell, priority) || self.has_greedier(cell, priority, sharer);
        if gives_way(self.cell(worker)) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            return Queued::Evicts;
        }
        let Some((_, cell)) = self.others(worker).find(|(_, cell)| gives_way(cell)) else {
            return Queued::Full;
        };
        // For a moment, one more waits than may.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        cell.evict.fetch_add(1, Ordering::SeqCst);
        wake(cell);
        Queued::Waits
    }

    /// A request of a worker has begun to wait, or the first one of its priority has changed: so many of that priority wait now, the first
    /// one since `since`.
    pub fn set_waiting(&self, worker: usize, priority: Priority, (count, sharers): (u32, u64), since: Duration) {
        let cell = self.cell(worker);
        cell.sharers[priority as usize].store(sharers, Ordering::SeqCst);
        cell.since[priority as usize].store(since.as_millis() as u64, Ordering::SeqCst);
        cell.waiting[priority as usize].store(count, Ordering::SeqCst);
    }

    /// A request of a sharer waits no more. `served`: because it was its turn.
    pub fn leave(&self, sharer: Sharer, served: bool) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let (waiting, turns) = &self.sharers[sharer.index()];
        waiting.fetch_sub(1, Ordering::SeqCst);
        if served {
            self.level.fetch_max(turns.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// Whose turn it is among these.
    #[must_use]
    pub fn first_of(&self, sharers: u64) -> Option<Sharer> {
        Sharer::in_set(sharers).min_by_key(|it| self.sharers[it.index()].1.load(Ordering::SeqCst))
    }

    /// Whether some other sharer has more requests of a priority waiting than this one would have.
    fn has_greedier(&self, cell: &Cell, priority: Priority, sharer: Sharer) -> bool {
        let waiting = |it: Sharer| self.sharers[it.index()].0.load(Ordering::SeqCst);
        let own = waiting(sharer) + 1;
        let sharers = cell.sharers[priority as usize].load(Ordering::SeqCst);
        priority != Priority::Critical && Sharer::in_set(sharers).any(|it| it != sharer && waiting(it) > own)
    }

    /// Takes out how many requests of a worker are to make room.
    #[must_use]
    pub fn take_evictions(&self, worker: usize) -> u32 {
        let cell = self.cell(worker);
        if cell.evict.load(Ordering::SeqCst) == 0 { 0 } else { cell.evict.swap(0, Ordering::SeqCst) }
    }

    /// Whether the request that is served next is one of a worker's: of the most important ones that wait, one of the sharer whose turn it
    /// is, and of several the one that has waited for longest. If it is another worker's, that one is woken. False also where none waits.
    #[must_use]
    pub fn is_next(&self, worker: usize) -> bool {
        let first = |priority: usize| {
            let waits = self.cells.iter().enumerate().filter(|(_, it)| it.waiting[priority].load(Ordering::SeqCst) > 0);
            waits.min_by_key(|(_, it)| {
                let first = self.first_of(it.sharers[priority].load(Ordering::SeqCst));
                let turns = first.map_or(0, |it| self.sharers[it.index()].1.load(Ordering::SeqCst));
                (turns, it.since[priority].load(Ordering::SeqCst))
            })
        };
        let Some((next, cell)) = (0..Priority::ALL.len()).find_map(first) else { return false };
        if next == worker % self.cells.len() {
            return true;
        }
        wake(cell);
        false
    }

    fn cell(&self, worker: usize) -> &Cell {
        &self.cells[worker % self.cells.len()]
    }

    fn others(&self, worker: usize) -> impl Iterator<Item = (usize, &Cell)> {
        let own = worker % self.cells.len();
        self.cells.iter().enumerate().filter(move |(at, _)| *at != own)
    }
}

/// Whether requests wait that are less important.
fn has_lesser(cell: &Cell, priority: Priority) -> bool {
    cell.waiting[priority as usize + 1..].iter().any(|count| count.load(Ordering::SeqCst) > 0)
}

fn wake(cell: &Cell) {
    if let Some(waker) = cell.waker.get() {
        waker.wake();
    }
}

/// Takes one of `limit` places; 0: there is no limit. False: all are taken.
pub(super) fn take(taken: &AtomicU32, limit: u32) -> bool {
    let more = |taken: u32| (limit == 0 || taken < limit).then(|| taken.saturating_add(1));
    taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
}
