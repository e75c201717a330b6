//! What the process knows of one endpoint, and of one cluster as a whole. One state each for all workers and all snapshots: the control
//! thread decides it, workers read it without a lock; what workers observe travels the other way as counts.
//! Not here: the decisions (`control`), and which endpoints are in use (`selection`).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::places::{self, Places};
use super::times::{TIME_CLASSES, TimeCounts, Times};
use crate::pool::ConnectionCount;
use crate::runtime::Bell;
use crate::telemetry::{Counter, EndpointCells};

/// Stands for no weight of an operator's.
const NO_WEIGHT: u32 = u32::MAX;

/// Parts in which an endpoint that has just come back gets its weight.
pub const RAMP: u8 = 16;

/// Why an endpoint is kept from traffic; several reasons may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hold {
    /// Its health checks fail.
    Down = 1,
    /// Too many attempts at it have failed: it is ejected for a while.
    Ejected = 2,
    /// An operator has drained it.
    Drained = 4,
    /// Its ejection is over, and one request is to show whether it is well.
    Probing = 8,
}

/// The state of one endpoint.
#[derive(Debug)]
pub struct EndpointState {
    /// One bit for each [`Hold`].
    holds: AtomicU8,
    /// Parts of its weight that it gets, 1 to [`RAMP`].
    ramp: AtomicU8,
    /// Its weight by an operator's word, or [`NO_WEIGHT`].
    weight: AtomicU32,
    /// The request that is to show whether it is well: its number times [`PROBE_STAGES`], and its [`ProbeStage`].
    probe: AtomicU32,
    /// Failures in a row, over all workers.
    streak: AtomicU32,
    /// When the last one was, milliseconds on the process's clock.
    failed_at: AtomicU64,
    /// Seconds for which it has asked to be left alone, by Retry-After of a failure; 0: it has not.
    retry_after: AtomicU32,
    /// Attempts under way that count against a limit.
    taken: AtomicU32,
    /// Connections that count against a limit.
    connected: ConnectionCount,
    /// By worker.
    cells: Box<[Cell]>,
    /// By worker.
    counted: Box<[Arc<EndpointCells>]>,
    /// By worker: how long answers have taken. Made when somebody asks for it.
    times: OnceLock<Box<[Times]>>,
}

/// What one worker has under way at one endpoint, and has seen of it; it alone writes.
#[derive(Debug, Default)]
struct Cell {
    in_flight: AtomicU32,
    /// Of these, the ones whose request it has whole and whose response it has not begun: tunnels, downloads and slow uploads are none.
    owing: AtomicU32,
    answered: Counter,
    failed: Counter,
    /// Since when it has owed an answer without having given one, milliseconds on the process's clock; while it owes any.
    owes_since: AtomicU64,
    /// Average time to the first byte of a response, microseconds, in which a longer one counts at once and fades slowly.
    latency: AtomicU64,
    /// When `latency` was brought up to date, milliseconds on the process's clock.
    measured: AtomicU64,
}

impl Cell {
    /// For how many milliseconds an answer has been owed to the worker, and none was given.
    #[inline]
    fn owed(&self, now: u64) -> u64 {
        match self.owing.load(Ordering::Relaxed) {
            0 => 0,
            _ => now.saturating_sub(self.owes_since.load(Ordering::Relaxed)),
        }
    }
}

/// How an attempt at an endpoint has turned out, as far as that says something of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has answered, and not with 502, 503 or 504.
    Answered,
    /// It could not be connected to, has hung up, was too slow, or has answered 502, 503 or 504.
    Failed,
}

/// How far the request has come that is to show whether an ejected endpoint is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeStage {
    /// None may be sent.
    Closed,
    /// One may be sent.
    Open,
    /// It is under way.
    Taken,
    /// The endpoint has answered it.
    Answered,
    /// The endpoint has failed it.
    Failed,
    /// Its client has gone before the endpoint has answered.
    Abandoned,
}

/// Values that the stage of a probe takes.
const PROBE_STAGES: u32 = 8;

/// Where the request stands that is to show whether an endpoint is well. Its number tells it from those before: an answer to a request
/// from before the ejection says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeProgress {
    /// Another one for each request that was allowed.
    pub number: u32,
    /// How far it has come.
    pub stage: ProbeStage,
}

impl ProbeProgress {
    fn from_bits(bits: u32) -> Self {
        let stage = match bits % PROBE_STAGES {
            1 => ProbeStage::Open,
            2 => ProbeStage::Taken,
            3 => ProbeStage::Answered,
            4 => ProbeStage::Failed,
            5 => ProbeStage::Abandoned,
            _ => ProbeStage::Closed,
        };
        Self { number: bits / PROBE_STAGES, stage }
    }

    fn to_bits(self) -> u32 {
        self.number.wrapping_mul(PROBE_STAGES) | self.stage as u32
    }

    /// The next request, not yet sent.
    fn next(self) -> Self {
        Self { number: self.number.wrapping_add(1) % (u32::MAX / PROBE_STAGES), stage: ProbeStage::Open }
    }
}

impl EndpointState {
    /// The state of an endpoint of which nothing is known yet, for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            holds: AtomicU8::new(0),
            ramp: AtomicU8::new(RAMP),
            weight: AtomicU32::new(NO_WEIGHT),
            probe: AtomicU32::new(ProbeStage::Closed as u32),
            streak: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            retry_after: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            connected: ConnectionCount::default(),
            cells: std::iter::repeat_with(Cell::default).take(workers.max(1)).collect(),
            counted: std::iter::repeat_with(Arc::default).take(workers.max(1)).collect(),
            times: OnceLock::new(),
        }
    }

    /// Whether a reason holds.
    #[must_use]
    pub fn has(&self, hold: Hold) -> bool {
        self.holds.load(Ordering::Relaxed) & hold as u8 != 0
    }

    /// Whether nothing keeps it from traffic.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.holds.load(Ordering::Relaxed) == 0
    }

    /// Whether a request may show whether it is well: its ejection is over, and nothing else keeps it from traffic.
    #[must_use]
    pub fn may_be_probed(&self) -> bool {
        let others = !(Hold::Ejected as u8 | Hold::Probing as u8);
        self.has(Hold::Probing) && self.holds.load(Ordering::Relaxed) & others == 0
    }

    /// Sets whether a reason holds; for the control thread. Returns whether that is new.
    pub fn set(&self, hold: Hold, holds: bool) -> bool {
        let before = self.holds.load(Ordering::Relaxed);
        let after = if holds { before | hold as u8 } else { before & !(hold as u8) };
        self.holds.store(after, Ordering::Relaxed);
        before != after
    }

    /// Parts of its weight that it gets, 1 to [`RAMP`].
    #[must_use]
    pub fn ramp(&self) -> u8 {
        self.ramp.load(Ordering::Relaxed)
    }

    /// Sets [`EndpointState::ramp`]; for the control thread. Returns whether that is new.
    pub fn set_ramp(&self, parts: u8) -> bool {
        let parts = parts.clamp(1, RAMP);
        self.ramp.swap(parts, Ordering::Relaxed) != parts
    }

    /// Its weight by an operator's word.
    #[must_use]
    pub fn weight(&self) -> Option<u16> {
        u16::try_from(self.weight.load(Ordering::Relaxed)).ok()
    }

    /// Sets [`EndpointState::weight`]; for the control thread.
    pub fn set_weight(&self, weight: Option<u16>) {
        self.weight.store(weight.map_or(NO_WEIGHT, u32::from), Ordering::Relaxed);
    }

    /// Where the request stands that is to show whether it is well.
    #[must_use]
    pub fn probe(&self) -> ProbeProgress {
        ProbeProgress::from_bits(self.probe.load(Ordering::Relaxed))
    }

    /// Allows one request to be sent to it although it is held for probing; for the control thread.
    pub fn open_probe(&self) {
        self.probe.store(self.probe().next().to_bits(), Ordering::Relaxed);
    }

    /// Allows none any more, and is told nothing of one that is under way; for the control thread.
    pub fn close_probe(&self) {
        self.probe.store(ProbeProgress { stage: ProbeStage::Closed, ..self.probe() }.to_bits(), Ordering::Relaxed);
    }

    /// Takes the place of that request, and gives its number. None: none may be sent, or another one has the place.
    pub fn take_probe(&self) -> Option<u32> {
        let open = self.probe();
        let taken = ProbeProgress { stage: ProbeStage::Taken, ..open };
        (open.stage == ProbeStage::Open && self.replace_probe(open, taken)).then_some(open.number)
    }

    /// Says how the request of a number has turned out. None: that says nothing of the endpoint, and another one may be sent. Where the
    /// control thread waits for it no more, nothing happens.
    pub fn end_probe(&self, number: u32, outcome: Option<Outcome>) {
        let taken = ProbeProgress { number, stage: ProbeStage::Taken };
        let ended = match outcome {
            Some(Outcome::Answered) => ProbeProgress { number, stage: ProbeStage::Answered },
            Some(Outcome::Failed) => ProbeProgress { number, stage: ProbeStage::Failed },
            None => taken.next(),
        };
        self.replace_probe(taken, ended);
    }

    /// Says that the client of the request of a number has gone before an answer.
    pub fn abandon_probe(&self, number: u32) {
        let taken = ProbeProgress { number, stage: ProbeStage::Taken };
        self.replace_probe(taken, ProbeProgress { number, stage: ProbeStage::Abandoned });
    }

    fn replace_probe(&self, before: ProbeProgress, after: ProbeProgress) -> bool {
        let (before, after) = (before.to_bits(), after.to_bits());
        self.probe.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts an attempt of a worker's, at `now`. Returns the number of failures in a row, over all workers.
    pub fn observe(&self, worker: usize, outcome: Outcome, now: Duration) -> u32 {
        let cell = self.cell(worker);
        cell.owes_since.store(milliseconds(now), Ordering::Relaxed);
        match outcome {
            Outcome::Answered => {
                cell.answered.add(1);
                // Workers share this one, so that it is written only where it changes.
                if self.streak.load(Ordering::Relaxed) != 0 {
                    self.reset_streak();
                }
                0
            }
            Outcome::Failed => {
                cell.failed.add(1);
                self.failed_at.store(milliseconds(now), Ordering::Relaxed);
                self.streak.fetch_add(1, Ordering::Relaxed).saturating_add(1)
            }
        }
    }

    /// Failures in a row, over all workers.
    #[must_use]
    pub fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }

    /// Begins to count failures in a row anew. What an earlier one has asked for does not hold any more.
    pub fn reset_streak(&self) {
        self.streak.store(0, Ordering::Relaxed);
        self.retry_after.store(0, Ordering::Relaxed);
    }

    /// Notes for how many seconds the endpoint asks to be left alone, before the failure that says so is counted.
    pub fn note_retry_after(&self, seconds: u32) {
        self.retry_after.store(seconds, Ordering::Relaxed);
    }

    /// Takes out the seconds for which the endpoint asks to be left alone; 0: it does not.
    pub fn take_retry_after(&self) -> u32 {
        self.retry_after.swap(0, Ordering::Relaxed)
    }

    /// Takes one of `limit` places for an attempt. False: all are taken.
    #[must_use]
    pub fn take_place(&self, limit: u32) -> bool {
        places::take(&self.taken, limit)
    }

    /// Gives it back.
    pub fn give_place(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    /// Connections that count against a limit.
    #[must_use]
    pub fn connected(&self) -> &ConnectionCount {
        &self.connected
    }

    /// Attempts that were answered, and attempts that have failed, of all workers.
    #[must_use]
    pub fn outcomes(&self) -> (u64, u64) {
        let sum = |count: fn(&Cell) -> &Counter| self.cells.iter().map(|it| count(it).get()).sum();
        (sum(|cell| &cell.answered), sum(|cell| &cell.failed))
    }

    /// Counts how long an answer took, if somebody has asked for that.
    #[inline]
    pub fn count_time(&self, worker: usize, time: Duration) {
        if let Some(times) = self.times.get().and_then(|times| times.get(worker % times.len())) {
            times.count(time);
        }
    }

    /// How long answers have taken so far, of all workers, since this was asked for the first time; for the control thread.
    #[must_use]
    pub fn times(&self) -> Box<TimeCounts> {
        let mut counts = Box::new([0; TIME_CLASSES]);
        let times = self.times.get_or_init(|| self.cells.iter().map(|_| Times::default()).collect());
        times.iter().for_each(|times| times.add_to(&mut counts));
        counts
    }

    /// What a worker counts of it and its connections.
    #[must_use]
    pub fn counted(&self, worker: usize) -> &Arc<EndpointCells> {
        &self.counted[worker % self.counted.len()]
    }

    /// What all workers have counted, added up.
    #[must_use]
    pub fn sum(&self, of: fn(&EndpointCells) -> &Counter) -> u64 {
        // What one has counted less than nothing, by the order in which they are read, is nothing.
        let sum = self.counted.iter().fold(0u64, |sum, cells| sum.wrapping_add(of(cells).get()));
        if sum > u64::MAX / 2 { 0 } else { sum }
    }

    /// Attempts under way, of all workers.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.cells.iter().map(|cell| cell.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Attempts under way, of all workers; those for which an answer is owed are the heavier the longer the endpoint has given its worker
    /// none: twice as heavy after an eighth of a second. One that has stopped answering looks idle otherwise, until many wait for it; and
    /// so does one that fails at once, which counts as busy for a second therefore.
    #[must_use]
    #[inline]
    pub fn load(&self, now: Duration) -> u64 {
        let now = milliseconds(now);
        let load = |cell: &Cell| match cell.in_flight.load(Ordering::Relaxed) {
            0 => 0,
            count => 128 * u64::from(count) + cell.owed(now) * u64::from(cell.owing.load(Ordering::Relaxed)),
        };
        let load: u64 = self.cells.iter().map(load).sum();
        load.max(self.mistrust(128 * 64, now))
    }

    /// What another request would have to wait for, as a worker has measured it: the time to a first byte, or since when the endpoint has
    /// owed one, for the new attempt and for each one under way, of which one with more `weight` than the `mean` bears more.
    #[must_use]
    pub fn cost(&self, worker: usize, now: Duration, (weight, mean): (u32, u32)) -> u128 {
        let cell = self.cell(worker);
        let now = milliseconds(now);
        let age = now.saturating_sub(cell.measured.load(Ordering::Relaxed));
        let latency = fade(cell.latency.load(Ordering::Relaxed), age);
        let owed = 1000 * cell.owed(now);
        // In 256ths of an attempt. The new one counts whole whatever the weight is: idle ones share the traffic by weight as they are drawn.
        let under_way = 256 * u128::from(self.in_flight()) * u128::from(mean) / u128::from(weight.max(1));
        // Nothing is known of a new one: it costs next to nothing, so that it is tried.
        let cost = u128::from(latency.max(owed).max(1)) * (under_way + 256);
        cost.max(256 * u128::from(self.mistrust(1_000_000, now)))
    }

    /// `most` where the last attempt has failed just now, half of it after a quarter of a second, nothing after a second: then it is tried
    /// again.
    #[inline]
    fn mistrust(&self, most: u64, now: u64) -> u64 {
        if self.streak.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        match now.saturating_sub(self.failed_at.load(Ordering::Relaxed)) {
            age @ 0..1000 => most >> (age / 250),
            _ => 0,
        }
    }

    /// Takes in how long a worker has waited for the first byte of a response.
    pub fn measure(&self, worker: usize, latency: Duration, now: Duration) {
        let (cell, now) = (self.cell(worker), milliseconds(now));
        let sample = latency.as_micros() as u64;
        let age = now.saturating_sub(cell.measured.load(Ordering::Relaxed));
        let faded = fade(cell.latency.load(Ordering::Relaxed).saturating_sub(sample), age) + sample;
        cell.latency.store(faded, Ordering::Relaxed);
        cell.measured.store(now, Ordering::Relaxed);
    }

    /// An attempt of a worker begins.
    #[inline]
    pub fn begin(&self, worker: usize) {
        more(&self.cell(worker).in_flight);
    }

    /// An answer is owed to an attempt from now on.
    #[inline]
    pub fn owe(&self, worker: usize, now: Duration) {
        let cell = self.cell(worker);
        if more(&cell.owing) == 0 {
            cell.owes_since.store(milliseconds(now), Ordering::Relaxed);
        }
    }

    /// An answer has begun, or is owed no longer.
    #[inline]
    pub fn settle(&self, worker: usize) {
        less(&self.cell(worker).owing);
    }

    /// An attempt of a worker has ended.
    #[inline]
    pub fn end(&self, worker: usize) {
        less(&self.cell(worker).in_flight);
    }

    #[inline]
    fn cell(&self, worker: usize) -> &Cell {
        &self.cells[worker % self.cells.len()]
    }
}

/// How long a high latency is remembered: after this time, a third of the excess is left.
const MEMORY: Duration = Duration::from_secs(10);

/// What is left of a latency after so many milliseconds.
fn fade(latency: u64, age: u64) -> u64 {
    if latency == 0 || age == 0 {
        return latency;
    }
    (latency as f64 * (-(age as f64) / milliseconds(MEMORY) as f64).exp()) as u64
}

#[inline]
fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// Adds one to a number that one thread writes. Returns what it was.
#[inline]
fn more(number: &AtomicU32) -> u32 {
    let before = number.load(Ordering::Relaxed);
    number.store(before.saturating_add(1), Ordering::Relaxed);
    before
}

/// Takes one from it.
#[inline]
fn less(number: &AtomicU32) {
    let before = number.load(Ordering::Relaxed);
    debug_assert!(before > 0, "every end has its begin");
    number.store(before.saturating_sub(1), Ordering::Relaxed);
}

/// The state of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The same in every snapshot that has a cluster of its name.
    number: u32,
    /// Number of its name in metrics.
    series: u32,
    /// Counts changes of the states of its endpoints, so that a worker sees that there was one.
    changes: AtomicU64,
    bell: Bell,
    places: Places,
}

impl ClusterState {
    /// The state of a cluster that is known by `number`, and in metrics by `series`, whose workers ring `bell`.
    #[must_use]
    pub fn new(number: u32, series: u32, workers: usize, bell: Bell) -> Self {
        Self(Arc::new(Shared { number, series, changes: AtomicU64::new(0), bell, places: Places::new(workers) }))
    }

    /// Its position in tables that outlive a snapshot.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.number
    }

    /// The number of its name in metrics, which is never another one's.
    #[must_use]
    #[inline]
    pub fn series(&self) -> u32 {
        self.0.series
    }

    /// Its limits, and who waits because of them.
    #[must_use]
    #[inline]
    pub fn places(&self) -> &Places {
        &self.0.places
    }

    /// Changes of the states of its endpoints so far.
    #[must_use]
    #[inline]
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Says that the state of an endpoint has changed; for the control thread, after the change.
    pub fn change(&self) {
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// Has the control thread look at the states of its endpoints.
    pub fn ring(&self) {
        self.0.bell.ring();
    }

    /// Whether nobody else holds it.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}
