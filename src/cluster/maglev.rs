//! A table of places, each of which belongs to an endpoint; a key has one place. The endpoints have chosen the places in turn, each by an
//! order of its own, so that their shares differ by one place at most, and few places get another owner when the endpoints change
//! (Eisenbud and others, "Maglev", NSDI 2016, section 3.4). Built with the cluster. Keys of an endpoint that is not in use look for
//! other places, and no other key moves.
//! Not here: what is hashed (`exchange`), and who is in use (`seats`).

use super::hash::again;
use super::seats::Seats;

/// Places of the table; a prime, so that each step through it meets all.
const PLACES: usize = 65_537;
/// Those of a cluster with so many endpoints that they would have fewer than [`EACH`]; a prime, too.
const PLACES_MANY: usize = 655_373;
/// The fewer places an endpoint has, the more of the others' change hands when one leaves: with so many, a sixth of its own at most.
const EACH: usize = 2000;
/// Places in which a key looks for an endpoint that takes it, before it takes the next one at hand.
const DRAWS: u64 = 64;

/// The table of one cluster.
#[derive(Debug)]
pub(super) struct Table {
    /// Positions of the endpoints in the cluster.
    places: Box<[u32]>,
}

impl Table {
    /// The table of endpoints with these hashes of their names, and weights above 0, in file order.
    pub(super) fn new(endpoints: &[(u64, u32)]) -> Self {
        const FREE: u32 = u32::MAX;
        let heaviest = endpoints.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(0);
        let size = if endpoints.len() * EACH > PLACES { PLACES_MANY } else { PLACES };
        let mut places = vec![FREE; if heaviest > 0 { size } else { 0 }];
        let count = places.len();
        let order = |&(name, weight): &(u64, u32)| Order {
            next: (again(name, 0) % size as u64) as usize,
            step: (again(name, 1) % (size as u64 - 1)) as usize + 1,
            weight: u64::from(weight),
            due: 0,
        };
        let mut orders: Vec<Order> = endpoints.iter().map(order).collect();
        let mut taken = 0;
        while taken < count {
            for (order, position) in orders.iter_mut().zip(0..) {
                // The heaviest chooses in each round, the others in the rounds in which they are due.
                order.due += order.weight;
                if order.due < heaviest || taken == count {
                    continue;
                }
                order.due -= heaviest;
                while places[order.next] != FREE {
                    order.next = (order.next + order.step) % size;
                }
                places[order.next] = position;
                taken += 1;
            }
        }
        Self { places: places.into() }
    }

    /// The position of the endpoint for a key. None: no endpoint takes it.
    pub(super) fn pick(&self, key: u64, seats: &Seats, may: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.places.len() as u64;
        let place = |draw: u64| again(key, draw).checked_rem(count).map(|place| place as usize);
        let owner = |place: usize| self.places[place] as usize;
        let drawn = (0..DRAWS).filter_map(place).map(owner);
        // Nearly nobody is in use.
        let (before, behind) = self.places.split_at(place(DRAWS)?);
        let next = behind.iter().chain(before).map(|position| *position as usize);
        drawn.chain(next).find(|position| seats.takes(*position, key) && may(*position))
    }
}

/// The order in which an endpoint chooses places.
struct Order {
    next: usize,
    /// Has no divisor in common with the number of places.
    step: usize,
    weight: u64,
    /// Below the largest weight between rounds.
    due: u64,
}
