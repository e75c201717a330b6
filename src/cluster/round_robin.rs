//! In turn, by weight: every point of the shares once in each round, in strides that spread heavy endpoints evenly.

use super::shares::Shares;
use crate::id::EndpointId;

/// Position of one cluster's round.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundRobin {
    /// Below the sum of the weights.
    point: u32,
    /// Has no divisor in common with the sum, so that a round meets each point.
    stride: u32,
}

impl RoundRobin {
    /// Starts at `point`, which is below the sum of the weights unless that is 0.
    pub(super) fn new(shares: &Shares, point: u32) -> Self {
        Self { point, stride: stride(shares) }
    }

    pub(super) fn pick(&mut self, shares: &Shares) -> Option<EndpointId> {
        let share = shares.at(self.point)?;
        let left = shares.total() - self.point;
        self.point = if self.stride < left { self.point + self.stride } else { self.stride - left };
        Some(share.endpoint)
    }
}

/// 1, that is file order, if all weights are equal. Otherwise near the golden section, whose multiples are distributed most
/// evenly (three-distance theorem).
fn stride(shares: &Shares) -> u32 {
    let total = shares.total();
    if total as usize == shares.list().len() {
        return 1;
    }
    let golden = (f64::from(total) * 0.618_033_988_75) as u32;
    (golden..total).find(|stride| coprime(*stride, total)).unwrap_or(1)
}

fn coprime(a: u32, b: u32) -> bool {
    if b == 0 { a == 1 } else { coprime(b, a % b) }
}
