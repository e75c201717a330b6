//! Limits of tenants: requests per second and in flight, over all workers. Not here: leasing them (`runtime`).

use std::sync::Arc;

use super::{Engine, Failure};
use crate::id::TenantId;
use crate::runtime::QuotaLease;
use crate::snapshot::{LedgerNumber, Snapshot, SnapshotRef};
use crate::uring::Driver;

/// One worker's share of the limits of one tenant.
pub(super) struct Tenancy {
    quota: QuotaLease,
    /// Keeps the shared quota, because the tenant may be removed before its last request has ended.
    number: Arc<LedgerNumber>,
}

impl<D: Driver> Engine<D> {
    /// Makes room for the tenants of a snapshot, and drops those that it does not have and that have no request in flight.
    pub(super) fn apply_tenants(&mut self, snapshot: &Snapshot) {
        for (id, tenant) in snapshot.tenants() {
            if self.tenancies.len() <= id.index() {
                self.tenancies.resize_with(id.index() + 1, || None);
            }
            self.tenancies[id.index()]
                .get_or_insert_with(|| Tenancy { quota: QuotaLease::default(), number: Arc::clone(&tenant.number) });
        }
        for (tenancy, id) in self.tenancies.iter_mut().zip(0..) {
            let gone = snapshot.tenant(TenantId(id)).is_none();
            tenancy.take_if(|tenancy| gone && tenancy.quota.used() == 0);
        }
    }

    /// Counts a request against the rate of its tenant.
    pub(super) fn spend_rate(&mut self, snapshot: &SnapshotRef, tenant: Option<TenantId>) -> Result<(), Failure> {
        let Some((id, limits)) = tenant.and_then(|id| Some((id, snapshot.tenant(id)?))) else { return Ok(()) };
        let rate = limits.spec.requests_per_second;
        let now = self.ring.clock().now();
        let Some(Some(tenancy)) = self.tenancies.get_mut(id.index()) else { return Ok(()) };
        let passed = rate == 0 || tenancy.quota.spend(&tenancy.number.quota, rate, now);
        if passed { Ok(()) } else { Err(Failure::TenantRate) }
    }

    /// Counts a request as in flight, if its tenant has a limit of them. Some: it has, and the caller calls
    /// [`Engine::release_place`] when the request has ended.
    pub(super) fn take_place(
        &mut self,
        snapshot: &SnapshotRef,
        tenant: Option<TenantId>,
    ) -> Result<Option<TenantId>, Failure> {
        let Some((id, limits)) = tenant.and_then(|id| Some((id, snapshot.tenant(id)?))) else { return Ok(None) };
        let Some(Some(tenancy)) = self.tenancies.get_mut(id.index()) else { return Ok(None) };
        match limits.spec.requests {
            0 => Ok(None),
            limit if tenancy.quota.take(&tenancy.number.quota, limit, self.workers) => Ok(Some(id)),
            _ => Err(Failure::TenantRequests),
        }
    }

    /// Takes back the count of [`Engine::take_place`].
    pub(super) fn release_place(&mut self, tenant: Option<TenantId>) {
        let Some(id) = tenant else { return };
        let limit = self.snapshot.tenant(id).map_or(0, |tenant| tenant.spec.requests);
        if let Some(Some(tenancy)) = self.tenancies.get_mut(id.index()) {
            tenancy.quota.give(&tenancy.number.quota, limit, self.workers);
        }
    }
}
