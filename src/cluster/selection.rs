//! Which endpoints of a cluster are in use, by their states. Not here: the states (`state`), and the choice among those in use.

use super::shares::Shares;
use super::state::{Hold, RAMP};
use super::zone::{self, Chosen};
use super::{Cluster, Endpoint};
use crate::id::EndpointId;

/// The endpoints in use.
#[derive(Debug)]
pub struct Selection {
    /// Which of them, and why these.
    pub level: Level,
    /// Those that are ejected and to which one request may be sent.
    pub(super) probing: Vec<EndpointId>,
    /// Their shares; None: those of the cluster as it was compiled.
    pub(super) shares: Option<Shares>,
    /// Those that are used only where none of the shares can be: of other zones.
    pub(super) reserve: Vec<EndpointId>,
    /// The part of the traffic that stays in the cluster's zone; None: no zone is preferred now.
    pub local: Option<f64>,
}

/// Which endpoints are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The usable ones that are no backups.
    Primary,
    /// Too few of those are usable, so that the usable backups join them.
    Backup,
    /// Too few are usable: all are used, because the few would fall under the load, or because the judgement may be wrong.
    Panic,
}

impl Selection {
    /// Judges the endpoints of a cluster as they are now.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let endpoints = &cluster.endpoints;
        let probing =
            endpoints.iter().filter(|it| it.state.may_be_probed() && it.current_weight() > 0).map(|it| it.id).collect();
        let plain = |it: &Endpoint| it.state.is_usable() && it.state.ramp() == RAMP && it.state.weight().is_none();
        if cluster.zone.is_none() && endpoints.iter().all(plain) {
            return Self { level: Level::Primary, probing, shares: None, reserve: Vec::new(), local: None };
        }
        // An endpoint that an operator has drained, or given no weight, is none that could be missed.
        let counts = |it: &&Endpoint| it.current_weight() > 0 && !it.state.has(Hold::Drained);
        let usable = |it: &&Endpoint| it.state.is_usable();
        let primaries = || endpoints.iter().filter(|it| !it.backup).filter(counts);
        let backups = || endpoints.iter().filter(|it| it.backup).filter(counts).filter(usable);
        let (all, well) = (primaries().count(), primaries().filter(usable).count());
        let enough = well > 0 && well as f64 >= all as f64 * cluster.panic_threshold;
        let (level, chosen): (_, Vec<&Endpoint>) = if enough {
            (Level::Primary, primaries().filter(usable).collect())
        } else if backups().next().is_some() {
            (Level::Backup, primaries().filter(usable).chain(backups()).collect())
        } else {
            (Level::Panic, endpoints.iter().filter(counts).collect())
        };
        // Where no endpoint gets a part of its weight only, none is multiplied, so that totals stay small.
        let whole = level == Level::Panic || chosen.iter().all(|it| it.state.ramp() == RAMP);
        let weighed =
            |it: &Endpoint| u32::from(it.current_weight()) * if whole { 1 } else { u32::from(it.state.ramp()) };
        // Where backups or all are used, it matters more that there are enough than where they are.
        let (weights, reserve, local) = match cluster.zone.as_deref().filter(|_| level == Level::Primary) {
            Some(zone) => {
                let usable: Vec<_> = chosen.into_iter().map(|it| (it, weighed(it))).collect();
                let Chosen { weights, reserve, local } = zone::prefer(cluster, zone, &usable);
                (weights, reserve, Some(local))
            }
            None => (chosen.into_iter().map(|it| (it.id, weighed(it))).collect(), Vec::new(), None),
        };
        Self { level, probing, shares: Some(Shares::new(weights.into_iter())), reserve, local }
    }
}
