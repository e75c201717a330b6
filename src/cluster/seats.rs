//! Which part of its keys each endpoint of a cluster takes now: all of them, as a rule; none, if it is not in use; a part, while it has
//! just come back, or where an operator has given it another weight. Always the same part, so that keys come back one by one and stay.
//! Not here: the keys (`ring_hash`, `maglev`).

use super::Endpoint;
use super::hash::again;
use super::shares::Shares;

/// Most requests under way at an endpoint, as a multiple of its share of all that are: 5 / 4.
const BOUND: (u128, u128) = (5, 4);

/// The seats of a cluster.
#[derive(Debug)]
pub(super) struct Seats {
    /// By position in the cluster.
    list: Box<[Seat]>,
    /// Sum of the weights.
    total: u32,
}

#[derive(Debug)]
struct Seat {
    /// Of 2^32 keys, how many it takes; `u32::MAX`: all.
    part: u32,
    /// Its share of the traffic.
    weight: u32,
}

impl Seats {
    /// Those of endpoints whose keys were dealt by their weights in the configuration, and whose shares are these now.
    pub(super) fn new(endpoints: &[Endpoint], shares: &Shares) -> Self {
        let mut weights: Vec<_> = shares.list().iter().map(|share| (share.endpoint, share.weight)).collect();
        weights.sort_unstable();
        let weight = |endpoint: &Endpoint| {
            let found = weights.binary_search_by_key(&endpoint.id, |(id, _)| *id);
            found.map_or(0, |at| weights[at].1)
        };
        let grown = |endpoint: &Endpoint| f64::from(weight(endpoint)) / f64::from(dealt(endpoint));
        let most = endpoints.iter().map(grown).fold(0.0, f64::max);
        let seat = |endpoint: &Endpoint| {
            let part = if most > 0.0 { grown(endpoint) / most } else { 0.0 };
            Seat { part: (part * f64::from(u32::MAX)) as u32, weight: weight(endpoint) }
        };
        Self { list: endpoints.iter().map(seat).collect(), total: shares.total() }
    }

    /// Whether the endpoint at a position takes a key.
    #[inline]
    pub(super) fn takes(&self, position: usize, key: u64) -> bool {
        match self.list.get(position).map_or(0, |seat| seat.part) {
            0 => false,
            u32::MAX => true,
            part => ((again(key, !(position as u64)) >> 32) as u32) < part,
        }
    }

    /// Whether the endpoint at a position may get another request, as far as its share of all that are under way is concerned. `load`:
    /// requests under way at the endpoint at a position.
    ///
    /// Only where some are under way at it are those of the others counted.
    #[inline]
    pub(super) fn has_room(&self, position: usize, load: impl Fn(usize) -> u32) -> bool {
        let own = load(position);
        own == 0 || self.is_within_bound(position, own, load)
    }

    fn is_within_bound(&self, position: usize, own: u32, load: impl Fn(usize) -> u32) -> bool {
        let Some(seat) = self.list.get(position) else { return false };
        let used = self.list.iter().enumerate().filter(|(_, seat)| seat.weight > 0);
        let all: u128 = 1 + used.map(|(position, _)| u128::from(load(position))).sum::<u128>();
        u128::from(own) * u128::from(self.total) * BOUND.1 < all * u128::from(seat.weight) * BOUND.0
    }
}

/// The weight by which keys are dealt to an endpoint. One that has none is dealt keys all the same, in case an operator gives it one.
pub(super) fn dealt(endpoint: &Endpoint) -> u32 {
    u32::from(endpoint.weight).max(1)
}
