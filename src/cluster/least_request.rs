//! The less busy of two different endpoints chosen at random, by weight (power of two choices).

use super::balancer::Random;
use super::shares::{Share, Shares};
use crate::id::EndpointId;

/// Compares requests in flight, of the whole process, divided by weight. A tie goes to the first of the two, so that idle endpoints share the
/// traffic by weight.
pub(super) fn pick(shares: &Shares, random: &mut Random, in_flight: impl Fn(EndpointId) -> u32) -> Option<EndpointId> {
    let first = shares.at(random.below(shares.total()))?;
    // A point among those of all other endpoints, without the gap that the first one leaves.
    let point = random.below(shares.total() - first.weight);
    let second = shares.at(if point < first.start { point } else { point + first.weight }).unwrap_or(first);
    let load = |share: &Share| u64::from(in_flight(share.endpoint));
    let second_is_less_busy = load(second) * u64::from(first.weight) < load(first) * u64::from(second.weight);
    Some(if second_is_less_busy { second.endpoint } else { first.endpoint })
}
