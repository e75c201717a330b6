//! The endpoints of a cluster laid end to end, each as long as its weight, so that a point chooses one.
//! Not here: where the point comes from (one policy a file).

use crate::id::EndpointId;

/// Endpoints with a weight above 0.
#[derive(Debug)]
pub(super) struct Shares {
    list: Box<[Share]>,
    /// Sum of the weights.
    total: u32,
    /// Whether all weights are 1, so that a point is a position.
    even: bool,
}

/// The points `start..start + weight`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) endpoint: EndpointId,
    pub(super) start: u32,
    /// Not 0.
    pub(super) weight: u32,
}

impl Shares {
    /// Weights are divided by their common divisor: only their proportion counts. Where the sum would not fit, they lose their lowest bits.
    pub(super) fn new(weights: impl Iterator<Item = (EndpointId, u32)>) -> Self {
        let weighted: Vec<_> = weights.filter(|(_, weight)| *weight > 0).collect();
        let divisor = weighted.iter().fold(0, |divisor, (_, weight)| common_divisor(divisor, *weight)).max(1);
        let sum: u64 = weighted.iter().map(|(_, weight)| u64::from(weight / divisor)).sum();
        let excess = (u64::BITS - sum.leading_zeros()).saturating_sub(u32::BITS - 1);
        let mut total = 0;
        let share = |&(endpoint, weight): &(EndpointId, u32)| {
            let share = Share { endpoint, start: total, weight: ((weight / divisor) >> excess).max(1) };
            total += share.weight;
            share
        };
        let list: Box<[Share]> = weighted.iter().map(share).collect();
        let even = list.iter().all(|share| share.weight == 1);
        Self { list, total, even }
    }

    /// In file order.
    pub(super) fn list(&self) -> &[Share] {
        &self.list
    }

    /// Sum of the weights.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// The share that holds a point below `total`; O(log n), O(1) for equal weights.
    pub(super) fn at(&self, point: u32) -> Option<&Share> {
        let index = if self.even {
            point as usize
        } else {
            self.list.partition_point(|share| share.start <= point).checked_sub(1)?
        };
        self.list.get(index)
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
