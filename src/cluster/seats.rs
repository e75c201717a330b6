//! Which part of its keys each endpoint of a cluster takes now: all of them, as a rule; none, if it is not in use; a part, while it has
//! just come back, or where an operator has given it another weight. Always the same part, so that keys come back one by one and stay.
//! Not here: the keys (`ring_hash`, `maglev`).

use std::cell::Cell;

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

    /// What the endpoints may have under way. `load`: how much that is now for the endpoint at a position.
    pub(super) fn room<F: Fn(usize) -> u32>(&self, load: F) -> Room<'_, F> {
        Room { seats: self, load, all: Cell::new(None) }
    }
}

/// How many requests may be under way at each endpoint, for one pick.
pub(super) struct Room<'a, F> {
    seats: &'a Seats,
    load: F,
    /// Under way at all of them, the new one included; counted when it is asked for first.
    all: Cell<Option<u128>>,
}

impl<F: Fn(usize) -> u32> Room<'_, F> {
    /// Whether the endpoint at a position may get another request. One with nothing under way always may, so that nothing is counted
    /// while there is little to do.
    #[inline]
    pub(super) fn has(&self, position: usize) -> bool {
        let own = (self.load)(position);
        own == 0 || self.is_within_bound(position, own)
    }

    fn is_within_bound(&self, position: usize, own: u32) -> bool {
        let Some(seat) = self.seats.list.get(position) else { return false };
        let all = self.all.get().unwrap_or_else(|| {
            let used = self.seats.list.iter().enumerate().filter(|(_, seat)| seat.weight > 0);
            1 + used.map(|(position, _)| u128::from((self.load)(position))).sum::<u128>()
        });
        self.all.set(Some(all));
        u128::from(own) * u128::from(self.seats.total) * BOUND.1 < all * u128::from(seat.weight) * BOUND.0
    }
}

/// The weight by which keys are dealt to an endpoint. One that has none is dealt keys all the same, in case an operator gives it one.
pub(super) fn dealt(endpoint: &Endpoint) -> u32 {
    u32::from(endpoint.weight).max(1)
}
