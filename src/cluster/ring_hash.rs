//! A ring of points, some for each endpoint, by weight; a key belongs to the endpoint of the first point behind it that is in use and
//! is not too busy (consistent hashing with bounded loads). An endpoint that leaves gives its keys to those behind it, and no other key
//! moves. Built with the cluster; what changes later is who is in use.
//! Not here: what is hashed (`exchange`), and who is in use (`seats`).

use super::hash::again;
use super::seats::Seats;

/// Points for each unit of weight. The share that an endpoint of weight 1 has is then within about 1 / sqrt(512), that is 4.4 %, of its
/// weight's.
const POINTS: u64 = 512;
/// Most points of a ring for each endpoint, and in all. Where there would be more, all endpoints have half as many, a quarter, and so on:
/// so long as that does not change, nobody else's points do when an endpoint comes, goes or is given another weight.
const POINTS_MAX: (u64, u64) = (4 * POINTS, 1 << 20);

/// The ring of one cluster.
#[derive(Debug)]
pub(super) struct Ring {
    /// By hash.
    points: Box<[Point]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    /// Position of the endpoint in the cluster.
    position: u32,
}

impl Ring {
    /// The ring of endpoints with these hashes of their names, and weights above 0, in file order.
    pub(super) fn new(endpoints: &[(u64, u32)]) -> Self {
        let total: u64 = endpoints.iter().map(|(_, weight)| POINTS * u64::from(*weight)).sum();
        let most = (POINTS_MAX.0 * endpoints.len() as u64).min(POINTS_MAX.1);
        let halvings = (0..u64::BITS).find(|halvings| total >> halvings <= most).unwrap_or(0);
        let points = |(&(name, weight), position): (&(u64, u32), u32)| {
            let count = ((POINTS * u64::from(weight)) >> halvings).max(1);
            (0..count).map(move |number| Point { hash: again(name, number), position })
        };
        let mut points: Box<[Point]> = endpoints.iter().zip(0..).flat_map(points).collect();
        points.sort_unstable();
        Self { points }
    }

    /// The position of the endpoint for a key. None: no endpoint takes it.
    ///
    /// Passes each point at most once; a ring in which few endpoints are in use is passed nearly whole.
    pub(super) fn pick(&self, key: u64, seats: &Seats, may: impl Fn(usize) -> bool) -> Option<usize> {
        let from = self.points.partition_point(|point| point.hash < key);
        let (before, behind) = self.points.split_at(from);
        let mut last = None;
        behind.iter().chain(before).map(|point| point.position as usize).find(|position| {
            // Neighbouring points often are of one endpoint, of which the answer is known.
            let known = last.replace(*position) == Some(*position);
            !known && seats.takes(*position, key) && may(*position)
        })
    }
}
