//! One worker's state for choosing endpoints: round-robin positions, randomness, requests in flight. Not here: the choice (one
//! policy a file).

use std::cell::Cell;

use super::round_robin::RoundRobin;
use super::{Balance, Cluster, least_request, random};
use crate::id::EndpointId;

/// Draws of a policy that may hit endpoints already tried. After that, the next endpoint not tried is taken.
const DRAWS: u32 = 8;

/// State that a worker keeps over all snapshots. It grows when a snapshot is applied, and at no other time.
#[derive(Debug)]
pub struct Balancer {
    /// Requests of this worker in flight, by `EndpointId`.
    in_flight: Vec<u32>,
    random: Random,
}

/// Round-robin position of each cluster of one snapshot, on one worker.
#[derive(Debug)]
pub struct RoundRobinState(Box<[Cell<RoundRobin>]>);

impl RoundRobinState {
    /// Begins each round at a random position, so that workers do not choose the same endpoints at the same time.
    #[must_use]
    pub fn new(clusters: &[Cluster], balancer: &mut Balancer) -> Self {
        let round = |cluster: &Cluster| {
            let point = balancer.random.below(cluster.shares.total());
            Cell::new(RoundRobin::new(&cluster.shares, point))
        };
        Self(clusters.iter().map(round).collect())
    }
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
    /// Equal seeds give equal choices; each worker has its own.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { in_flight: Vec::new(), random: Random::new(seed) }
    }

    /// Makes room for the endpoints below `bound`.
    pub fn reserve(&mut self, bound: usize) {
        if self.in_flight.len() < bound {
            self.in_flight.resize(bound, 0);
        }
    }

    /// An endpoint for the next request, not yet tried if possible. None: all weights are 0. `rounds` belongs to
    /// the snapshot of `cluster`.
    pub fn pick(&mut self, cluster: &Cluster, rounds: &RoundRobinState, tried: &Tried) -> Option<EndpointId> {
        let shares = cluster.shares.list();
        if let [only] = shares {
            return Some(only.endpoint);
        }
        let mut picked = self.draw(cluster, rounds)?;
        if tried.is_empty() {
            return Some(picked);
        }
        for _ in 1..DRAWS {
            if !tried.contains(picked) {
                return Some(picked);
            }
            picked = self.draw(cluster, rounds)?;
        }
        // The endpoints already tried have nearly all of the weight.
        let from = self.random.below(shares.len() as u32) as usize;
        let in_line = shares.iter().cycle().skip(from).take(Tried::CAPACITY + 1);
        let mut others = in_line.map(|share| share.endpoint).filter(|endpoint| !tried.contains(*endpoint));
        Some(others.next().unwrap_or(picked))
    }

    fn draw(&mut self, cluster: &Cluster, rounds: &RoundRobinState) -> Option<EndpointId> {
        match cluster.balance {
            Balance::RoundRobin => {
                let place = rounds.0.get(cluster.id.index())?;
                let mut round = place.get();
                let picked = round.pick(&cluster.shares);
                place.set(round);
                picked
            }
            Balance::Random => random::pick(&cluster.shares, &mut self.random),
            Balance::LeastRequest => least_request::pick(&cluster.shares, &mut self.random, &self.in_flight),
        }
    }

    /// A request to the endpoint begins.
    pub fn begin(&mut self, endpoint: EndpointId) {
        if let Some(count) = self.in_flight.get_mut(endpoint.index()) {
            *count = count.saturating_add(1);
        }
    }

    /// A request to the endpoint has ended, with or without success.
    pub fn end(&mut self, endpoint: EndpointId) {
        if let Some(count) = self.in_flight.get_mut(endpoint.index()) {
            debug_assert!(*count > 0, "every end has its begin");
            *count = count.saturating_sub(1);
        }
    }

    /// Requests of this worker in flight to the endpoint.
    #[must_use]
    pub fn in_flight(&self, endpoint: EndpointId) -> u32 {
        self.in_flight.get(endpoint.index()).copied().unwrap_or(0)
    }

    /// 32 even random bits, for `route::Split::pick`.
    pub fn random(&mut self) -> u32 {
        self.random.next()
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
