//! Preference for the endpoints of the zone in which this proxy runs. Not here: which endpoints are usable (`selection`).

use ahash::HashSet;

use super::{Cluster, Endpoint};
use crate::id::EndpointId;

/// Into how many parts the traffic is divided between zones.
const PARTS: f64 = (1 << 24) as f64;

/// What is used of the endpoints.
pub(super) struct Chosen {
    pub(super) weights: Vec<(EndpointId, u32)>,
    /// Those that are used only where none of these can be.
    pub(super) reserve: Vec<EndpointId>,
    /// The part of the traffic that stays in the zone.
    pub(super) local: f64,
}

/// The weights of usable endpoints by zone. The local ones get all traffic, unless that were more than an even share for each of all
/// usable endpoints, if as much traffic came from every zone: the rest goes to the other zones then.
///
/// With three zones of three endpoints each, all traffic stays; where one of the local ones fails, two thirds of the local capacity are
/// left, and a quarter of the traffic leaves, after which all eight have as much to do.
pub(super) fn prefer(cluster: &Cluster, zone: &str, usable: &[(&Endpoint, u32)]) -> Chosen {
    let primaries = cluster.endpoints.iter().filter(|endpoint| !endpoint.backup);
    let zones: HashSet<Option<&str>> = primaries.map(|endpoint| endpoint.zone.as_deref()).collect();
    let is_local = |endpoint: &Endpoint| endpoint.zone.as_deref() == Some(zone);
    let sum = |local: bool| -> f64 {
        let those = usable.iter().filter(|(endpoint, _)| is_local(endpoint) == local);
        those.map(|(_, weight)| f64::from(*weight)).sum()
    };
    let (local, other) = (sum(true), sum(false));
    let stays = local_part(local, other, zones.len());
    let weigh = |&(endpoint, weight): &(&Endpoint, u32)| {
        let (part, of) = if is_local(endpoint) { (stays, local) } else { (1.0 - stays, other) };
        let parts = if part == 1.0 { weight } else { (f64::from(weight) / of * part * PARTS).ceil() as u32 };
        (endpoint.id, if part == 0.0 { 0 } else { parts })
    };
    let weighed: Vec<_> = usable.iter().map(weigh).collect();
    let reserve = weighed.iter().filter(|(_, weight)| *weight == 0).map(|(id, _)| *id).collect();
    Chosen { weights: weighed, reserve, local: stays }
}

/// The part of the traffic that stays in the zone, where the usable local endpoints have so much weight, and those of the other zones.
fn local_part(local: f64, other: f64, zones: usize) -> f64 {
    let all = local + other;
    if all > 0.0 { (local * zones as f64 / all).min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::local_part;

    #[test]
    fn no_endpoint_gets_more_than_an_even_share() {
        for (local, other, zones, expected) in [
            (3.0, 6.0, 3, 1.0),
            (2.0, 6.0, 3, 0.75),
            (1.0, 6.0, 3, 3.0 / 7.0),
            (0.0, 6.0, 3, 0.0),
            (3.0, 3.0, 3, 1.0),
            (4.0, 4.0, 2, 1.0),
            (1.0, 9.0, 2, 0.2),
            (5.0, 0.0, 2, 1.0),
            (0.0, 0.0, 2, 0.0),
        ] {
            assert_eq!(local_part(local, other, zones), expected, "{local} {other} {zones}");
        }
    }
}
