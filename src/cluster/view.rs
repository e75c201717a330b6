//! What one worker sees of the clusters of one snapshot: the endpoints in use, and where its rounds stand. Made anew where the state of
//! an endpoint has changed. Not here: the judgement (`selection`).

use std::cell::RefCell;

use super::balancer::Random;
use super::round_robin::RoundRobin;
use super::seats::Seats;
use super::selection::Selection;
use super::shares::Shares;
use super::{Balancer, Cluster, Probe};
use crate::id::EndpointId;

/// One worker's views of the clusters of one snapshot.
#[derive(Debug)]
pub struct ClusterViews(RefCell<Box<[View]>>);

/// One worker's view of one cluster.
#[derive(Debug)]
pub(super) struct View {
    /// The changes of the cluster's state that it knows.
    changes: u64,
    /// None: as the cluster was compiled.
    shares: Option<Shares>,
    /// Endpoints that are ejected and to which one request may be sent.
    probing: Vec<EndpointId>,
    /// Endpoints that are used only where none of the shares can be.
    reserve: Vec<EndpointId>,
    /// Endpoints at which clients may be kept; by id. Empty: the cluster keeps none.
    stays: Vec<EndpointId>,
    /// None: the cluster's policy heeds no key.
    seats: Option<Seats>,
    round: RoundRobin,
}

impl ClusterViews {
    /// Begins each round at a random position, so that workers do not choose the same endpoints at the same time.
    #[must_use]
    pub fn new(clusters: &[Cluster], balancer: &mut Balancer) -> Self {
        Self(RefCell::new(clusters.iter().map(|cluster| View::new(cluster, balancer.random_mut())).collect()))
    }

    /// Uses the view of a cluster as it is now. None: the cluster is of another snapshot.
    #[inline]
    pub(super) fn with<T>(
        &self,
        cluster: &Cluster,
        random: &mut Random,
        uses: impl FnOnce(&mut View, &mut Random) -> T,
    ) -> Option<T> {
        let mut views = self.0.borrow_mut();
        let view = views.get_mut(cluster.id.index())?;
        if view.changes != cluster.state.changes() {
            *view = View::new(cluster, random);
        }
        Some(uses(view, random))
    }
}

impl View {
    #[cold]
    fn new(cluster: &Cluster, random: &mut Random) -> Self {
        // Read first: a change that comes while the states are read is seen next time.
        let changes = cluster.state.changes();
        let Selection { shares, probing, reserve, .. } = Selection::of(cluster);
        let used = shares.as_ref().unwrap_or(&cluster.shares);
        let round = RoundRobin::new(used, random.below(used.total()));
        let seats = cluster.hashing.is_some().then(|| Seats::new(&cluster.endpoints, used));
        let mut stays = Vec::new();
        if cluster.affinity.is_some() {
            stays.extend(used.list().iter().map(|share| share.endpoint).chain(reserve.iter().copied()));
            stays.sort_unstable();
        }
        Self { changes, shares, probing, reserve, stays, seats, round }
    }

    /// The endpoints in use, and the round through them.
    #[inline]
    pub(super) fn parts<'a>(&'a mut self, cluster: &'a Cluster) -> (&'a Shares, &'a mut RoundRobin) {
        (self.shares.as_ref().unwrap_or(&cluster.shares), &mut self.round)
    }

    /// The part of its keys that each endpoint takes; None: the policy heeds none.
    #[inline]
    pub(super) fn seats(&self) -> Option<&Seats> {
        self.seats.as_ref()
    }

    /// Endpoints that are used only where none of the shares can be.
    #[inline]
    pub(super) fn reserve(&self) -> &[EndpointId] {
        &self.reserve
    }

    /// All endpoints in use, those first that are used first.
    pub(super) fn used<'a>(&'a self, cluster: &'a Cluster) -> impl Iterator<Item = EndpointId> + 'a {
        let shares = self.shares.as_ref().unwrap_or(&cluster.shares);
        shares.list().iter().map(|share| share.endpoint).chain(self.reserve.iter().copied())
    }

    /// The one at a position among them.
    pub(super) fn used_at(&self, cluster: &Cluster, position: usize) -> Option<EndpointId> {
        let list = self.shares.as_ref().unwrap_or(&cluster.shares).list();
        let share = list.get(position).map(|share| share.endpoint);
        share.or_else(|| self.reserve.get(position.checked_sub(list.len())?).copied())
    }

    /// Whether clients of an endpoint are kept there.
    #[inline]
    pub(super) fn keeps(&self, endpoint: EndpointId) -> bool {
        self.stays.binary_search(&endpoint).is_ok()
    }

    /// Takes the place of the request that may be sent to an endpoint which is ejected, if there is one and the request `may` take it.
    #[inline]
    pub(super) fn probe(&self, cluster: &Cluster, may: bool) -> Option<Probe> {
        if !may || self.probing.is_empty() {
            return None;
        }
        let mut probing = cluster.endpoints.iter().filter(|endpoint| self.probing.contains(&endpoint.id));
        probing.find_map(|it| Some(Probe { endpoint: it.id, number: it.state.take_probe()? }))
    }
}
