//! At random, by weight.

use super::balancer::Random;
use super::shares::Shares;
use crate::id::EndpointId;

pub(super) fn pick(shares: &Shares, random: &mut Random) -> Option<EndpointId> {
    shares.at(random.below(shares.total())).map(|share| share.endpoint)
}
