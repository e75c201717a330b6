//! The better of two different endpoints chosen at random, by weight (power of two choices): the one with less under way, or the one
//! that is expected to answer sooner.

use super::balancer::Random;
use super::shares::{Share, Shares};
use crate::id::EndpointId;

/// `weighed`: how busy one is, compared with the other. A tie goes to the first of the two, so that idle endpoints share the traffic by
/// weight.
pub(super) fn pick(
    shares: &Shares,
    random: &mut Random,
    weighed: impl Fn(&Share, &Share) -> u128,
) -> Option<EndpointId> {
    let first = shares.at(random.below(shares.total()))?;
    // A point among those of all other endpoints, without the gap that the first one leaves.
    let point = random.below(shares.total() - first.weight);
    let second = shares.at(if point < first.start { point } else { point + first.weight }).unwrap_or(first);
    let second_is_better = weighed(second, first) < weighed(first, second);
    Some(if second_is_better { second.endpoint } else { first.endpoint })
}
