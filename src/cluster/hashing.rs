//! The choice of an endpoint by a key of the request: equal keys go to the same endpoint. Not here: the two ways in which keys are dealt
//! (`ring_hash`, `maglev`).

use super::hash::hash;
use super::maglev::Table;
use super::ring_hash::Ring;
use super::seats::{Seats, dealt};
use super::{Balance, Endpoint};

/// Under which keys and names of endpoints are hashed. No secret: whoever can choose a key can find out where it leads.
const KEY: [u64; 2] = [0x6361_6972_6e20_6b65, 0x7973_206f_6620_6c62];

/// How keys are dealt to the endpoints of a cluster.
#[derive(Debug)]
pub(super) enum Hashing {
    Ring(Ring),
    Table(Table),
}

impl Hashing {
    /// That of a cluster; None: its policy heeds no key.
    pub(super) fn new(balance: Balance, endpoints: &[Endpoint]) -> Option<Self> {
        let named = || -> Vec<_> {
            endpoints.iter().map(|endpoint| (hash(KEY, lasting_name(endpoint).as_bytes()), dealt(endpoint))).collect()
        };
        match balance {
            Balance::RingHash => Some(Self::Ring(Ring::new(&named()))),
            Balance::Maglev => Some(Self::Table(Table::new(&named()))),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random | Balance::PeakEwma => None,
        }
    }

    /// The position of the endpoint for a key, of those that it `may` be. `load`: requests under way at the endpoint at a position.
    /// None: there is none.
    pub(super) fn pick(
        &self,
        key: u64,
        seats: &Seats,
        load: impl Fn(usize) -> u32,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self {
            Self::Ring(ring) => {
                let room = seats.room(load);
                let bounded = ring.pick(key, seats, |position| may(position) && room.has(position));
                bounded.or_else(|| ring.pick(key, seats, may))
            }
            Self::Table(table) => table.pick(key, seats, may),
        }
    }
}

/// The key of a value of a request.
#[must_use]
pub fn key_of(value: &[u8]) -> u64 {
    hash(KEY, value)
}

/// What an endpoint is known by over restarts, whatever the order in which the addresses of its name are found.
pub(super) fn lasting_name(endpoint: &Endpoint) -> String {
    let least = endpoint.others.iter().chain([&endpoint.address]).min();
    least.map(ToString::to_string).unwrap_or_default()
}
