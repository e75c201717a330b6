//! Limits of tenants: requests per second and in flight, over all workers. Not here: leasing them (`runtime`).

use std::sync::Arc;

use super::{Engine, Failure};
use crate::id::TenantId;
use crate::runtime::QuotaLease;
use crate::snapshot::{LedgerNumber, Snapshot, SnapshotRef};
use crate::uring::Driver;

/// What one worker holds of the limits of one tenant.
pub(super) struct Tenancy {
    quota: QuotaLease,
    /// The tenant may be gone before its last request is.
    number: Arc<LedgerNumber>,
}

impl<D: Driver> Engine<D> {
    /// Makes room for the tenants of a snapshot, and forgets those that are gone and have no request in flight.
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
        let (rate, now) = (limits.spec.requests_per_second, self.ring.clock().now());
        let Some(Some(tenancy)) = self.tenancies.get_mut(id.index()) else { return Ok(()) };
        let passed = rate == 0 || tenancy.quota.spend(&tenancy.number.quota, rate, now);
        if passed { Ok(()) } else { Err(Failure::TenantRate) }
    }

    /// Takes a place among the requests in flight of a tenant that has a limit of them; Some: to be given back.
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

    /// Gives a place back.
    pub(super) fn release_place(&mut self, tenant: Option<TenantId>) {
        let Some(id) = tenant else { return };
        let limit = self.snapshot.tenant(id).map_or(0, |tenant| tenant.spec.requests);
        if let Some(Some(tenancy)) = self.tenancies.get_mut(id.index()) {
            tenancy.quota.give(&tenancy.number.quota, limit, self.workers);
        }
    }
}
