//! One worker's state for choosing endpoints: round-robin positions, randomness, requests in flight. Not here: the choice (one
//! policy a file).

use std::sync::Arc;
use std::time::Duration;

use super::round_robin::RoundRobin;
use super::shares::{Share, Shares};
use super::state::{EndpointState, Outcome};
use super::view::{ClusterViews, View};
use super::{Balance, Cluster, power_of_two, random};
use crate::id::EndpointId;

/// Draws of a policy that may hit endpoints already tried. After that, the next endpoint not tried is taken.
const DRAWS: u32 = 8;

/// What a request says of where it is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// The key that it shares with requests which go to the same endpoint; see `key_of`.
    pub key: Option<u64>,
    /// The endpoint at which its client was last.
    pub endpoint: Option<EndpointId>,
}

/// State that a worker keeps over all snapshots. It grows when a snapshot is applied, and at no other time.
#[derive(Debug)]
pub struct Balancer {
    /// Position of the worker among all of them.
    worker: usize,
    /// By `EndpointId`.
    states: Vec<Option<Arc<EndpointState>>>,
    random: Random,
    /// The time of this turn, on the process's clock.
    now: Duration,
    /// The probe that the last pick has made of its request.
    probe: Option<Probe>,
}

/// A request that is to show whether an ejected endpoint is well. Whoever holds it ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Tells it from earlier ones.
    pub(super) number: u32,
}

/// Endpoints that an exchange has tried, at most [`Tried::CAPACITY`]; later ones are not remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    list: [Option<EndpointId>; Self::CAPACITY],
}

impl Tried {
    /// Most endpoints that it holds.
    pub const CAPACITY: usize = 4;

    /// Remembers an endpoint.
    pub fn insert(&mut self, endpoint: EndpointId) {
        if let Some(free) = self.list.iter_mut().find(|entry| entry.is_none_or(|known| known == endpoint)) {
            *free = Some(endpoint);
        }
    }

    /// Forgets an endpoint.
    pub fn remove(&mut self, endpoint: EndpointId) {
        let kept = self.list.into_iter().flatten().filter(|known| *known != endpoint);
        let mut list = [None; Self::CAPACITY];
        list.iter_mut().zip(kept).for_each(|(entry, known)| *entry = Some(known));
        self.list = list;
    }

    /// Whether the endpoint was tried.
    #[must_use]
    pub fn contains(&self, endpoint: EndpointId) -> bool {
        self.list.contains(&Some(endpoint))
    }

    /// Whether nothing was tried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list[0].is_none()
    }
}

impl Balancer {
    /// The one of a worker. Equal seeds give equal choices; each worker has its own.
    #[must_use]
    pub fn new(worker: usize, seed: u64) -> Self {
        Self { worker, states: Vec::new(), random: Random::new(seed), now: Duration::ZERO, probe: None }
    }

    /// Takes in what time it is.
    #[inline]
    pub fn turn(&mut self, now: Duration) {
        self.now = now;
    }

    /// Takes in the endpoints of clusters. Those of earlier ones stay known until their ids are given again.
    pub fn apply(&mut self, clusters: &[Cluster]) {
        for endpoint in clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            if self.states.len() <= endpoint.id.index() {
                self.states.resize(endpoint.id.index() + 1, None);
            }
            self.states[endpoint.id.index()] = Some(Arc::clone(&endpoint.state));
        }
    }

    /// An endpoint for the next request, the preferred one if that is in use, and not yet tried if possible. `probe`: the request may be
    /// tried again, so that it may go to an ejected endpoint of which is to be seen whether it is well; then [`Balancer::probe`] has it.
    /// None: no endpoint takes traffic. `views` belong to the snapshot of `cluster`.
    pub fn pick(
        &mut self,
        cluster: &Cluster,
        views: &ClusterViews,
        tried: &Tried,
        preference: Preference,
        probe: bool,
    ) -> Option<EndpointId> {
        let Self { worker, states, random, now, probe: taken } = self;
        let known = Known { states, worker: *worker, now: *now };
        *taken = None;
        views.with(cluster, random, |view, random| {
            // Also before it would be a probe: a client whose endpoint is well is sent to no other one.
            if let Some(own) = preference.endpoint.filter(|own| view.keeps(*own) && !tried.contains(*own)) {
                return Some(own);
            }
            // A request that has failed already has had its risk.
            *taken = view.probe(cluster, probe && tried.is_empty());
            if let Some(probe) = taken {
                return Some(probe.endpoint);
            }
            if let Some(dealt) = by_key(cluster, view, tried, preference, known) {
                return Some(dealt);
            }
            let reserve = || view.reserve().iter().copied().find(|endpoint| !tried.contains(*endpoint));
            let reserved = if tried.is_empty() { None } else { reserve() };
            let (shares, rounds) = view.parts(cluster);
            if let [only] = shares.list() {
                let elsewhere = reserved.filter(|_| tried.contains(only.endpoint));
                return Some(elsewhere.unwrap_or(only.endpoint));
            }
            // A second try at another endpoint does not take the place of a first one in the round.
            let balance = match cluster.balance {
                Balance::RoundRobin if !tried.is_empty() => Balance::Random,
                balance => balance,
            };
            let mut picked = draw(balance, shares, rounds, random, known)?;
            if tried.is_empty() {
                return Some(picked);
            }
            for _ in 1..DRAWS {
                if !tried.contains(picked) {
                    return Some(picked);
                }
                picked = draw(balance, shares, rounds, random, known)?;
            }
            // The endpoints already tried have nearly all of the weight.
            let list = shares.list();
            let from = random.below(list.len() as u32) as usize;
            let in_line = list.iter().cycle().skip(from).take(list.len().min(Tried::CAPACITY + 1));
            let mut others = in_line.map(|share| share.endpoint).filter(|endpoint| !tried.contains(*endpoint));
            Some(others.next().or(reserved).unwrap_or(picked))
        })?
    }

    /// The endpoint at a position among those in use; None: there are fewer.
    #[must_use]
    pub fn used(&mut self, cluster: &Cluster, views: &ClusterViews, position: usize) -> Option<EndpointId> {
        let at = |view: &mut View, _: &mut Random| view.used_at(cluster, position);
        views.with(cluster, &mut self.random, at)?
    }

    /// Whether an endpoint is in use that was not tried.
    #[must_use]
    pub fn has_untried(&mut self, cluster: &Cluster, views: &ClusterViews, tried: &Tried) -> bool {
        let untried = |view: &mut View, _: &mut Random| view.used(cluster).any(|endpoint| !tried.contains(endpoint));
        views.with(cluster, &mut self.random, untried).unwrap_or(false)
    }

    /// A request to the endpoint begins.
    #[inline]
    pub fn begin(&mut self, endpoint: EndpointId) {
        if let Some(state) = self.state(endpoint) {
            state.begin(self.worker);
        }
    }

    /// The endpoint has a whole request, so that it owes the answer.
    #[inline]
    pub fn owe(&mut self, endpoint: EndpointId) {
        if let Some(state) = self.state(endpoint) {
            state.owe(self.worker, self.now);
        }
    }

    /// It has begun the answer, or owes none any more.
    #[inline]
    pub fn settle(&mut self, endpoint: EndpointId) {
        if let Some(state) = self.state(endpoint) {
            state.settle(self.worker);
        }
    }

    /// A request to the endpoint has ended, with or without success.
    #[inline]
    pub fn end(&mut self, endpoint: EndpointId) {
        if let Some(state) = self.state(endpoint) {
            state.end(self.worker);
        }
    }

    /// Counts how an attempt has turned out. Returns the number of failures in a row, over all workers.
    pub fn observe(&self, endpoint: EndpointId, outcome: Outcome) -> u32 {
        self.state(endpoint).map_or(0, |state| state.observe(self.worker, outcome, self.now))
    }

    /// Takes out the probe that the last pick has made of its request; None: of none.
    pub fn probe(&mut self) -> Option<Probe> {
        self.probe.take()
    }

    /// Says how a probe has turned out; None: that says nothing of the endpoint.
    pub fn end_probe(&self, probe: Probe, outcome: Option<Outcome>) {
        if let Some(state) = self.state(probe.endpoint) {
            state.end_probe(probe.number, outcome);
        }
    }

    /// Says that the client of a probe has gone before an answer.
    pub fn abandon_probe(&self, probe: Probe) {
        if let Some(state) = self.state(probe.endpoint) {
            state.abandon_probe(probe.number);
        }
    }

    /// Takes in how long the first byte of a response took.
    #[inline]
    pub fn measure(&self, endpoint: EndpointId, latency: Duration) {
        if let Some(state) = self.state(endpoint) {
            state.measure(self.worker, latency, self.now);
        }
    }

    /// Counts how long the first byte of a response took, where such times are judged.
    pub fn count_time(&self, endpoint: EndpointId, latency: Duration) {
        if let Some(state) = self.state(endpoint) {
            state.count_time(self.worker, latency);
        }
    }

    /// The state of an endpoint.
    #[must_use]
    #[inline]
    pub fn state(&self, endpoint: EndpointId) -> Option<&EndpointState> {
        self.states.get(endpoint.index())?.as_deref()
    }

    /// 32 even random bits, for `route::Split::pick`.
    pub fn random(&mut self) -> u32 {
        self.random.next()
    }

    pub(super) fn random_mut(&mut self) -> &mut Random {
        &mut self.random
    }
}

/// What a worker knows of endpoints now.
#[derive(Clone, Copy)]
struct Known<'a> {
    states: &'a [Option<Arc<EndpointState>>],
    worker: usize,
    now: Duration,
}

impl Known<'_> {
    #[inline]
    fn of(&self, endpoint: EndpointId) -> Option<&EndpointState> {
        self.states.get(endpoint.index()).and_then(Option::as_deref)
    }
}

/// The endpoint for the request's key, not yet tried. None: there is none, or the request has no key.
fn by_key(
    cluster: &Cluster,
    view: &View,
    tried: &Tried,
    preference: Preference,
    known: Known<'_>,
) -> Option<EndpointId> {
    let (hashing, seats, key) = (cluster.hashing.as_ref()?, view.seats()?, preference.key?);
    let id = |position: usize| cluster.endpoints.get(position).map(|endpoint| endpoint.id);
    let load = |position| id(position).and_then(|id| known.of(id)).map_or(0, EndpointState::in_flight);
    let may = |position| id(position).is_some_and(|id| !tried.contains(id));
    hashing.pick(key, seats, load, may).and_then(id)
}

fn draw(
    balance: Balance,
    shares: &Shares,
    round: &mut RoundRobin,
    random: &mut Random,
    known: Known<'_>,
) -> Option<EndpointId> {
    match balance {
        Balance::RoundRobin => round.pick(shares),
        // Those that heed a key, for requests that have none.
        Balance::Random | Balance::RingHash | Balance::Maglev => random::pick(shares, random),
        Balance::LeastRequest => {
            let load = |endpoint| known.of(endpoint).map_or(0, |state| state.load(known.now));
            power_of_two::pick(shares, random, |one, other| u128::from(load(one.endpoint)) * u128::from(other.weight))
        }
        Balance::PeakEwma => {
            let mean = shares.total() / (shares.list().len() as u32).max(1);
            let cost = |share: &Share| {
                known.of(share.endpoint).map_or(0, |state| state.cost(known.worker, known.now, (share.weight, mean)))
            };
            power_of_two::pick(shares, random, |one, _| cost(one))
        }
    }
}

/// A small generator (xorshift64*): good enough to spread load, not for secrets.
#[derive(Debug)]
pub(super) struct Random {
    /// Not 0.
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // One round of a mixing function, so that seeds 1, 2, 3 start far apart.
        let mixed = (seed ^ (seed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self { state: (mixed ^ (mixed >> 33)) | 1 }
    }

    /// 32 even bits.
    pub(super) fn next(&mut self) -> u32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Below `bound`, or 0 where that is 0; even to one part in 2^32 / `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 32) as u32
    }
}
