//! 4: pick an endpoint of a cluster. Not here: connections to it (`upstream`, `pool`).

mod balancer;
mod least_request;
mod random;
mod round_robin;
mod shares;
mod spec;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use balancer::{Balancer, Tried};
use shares::Shares;
pub use spec::{Balance, ClusterSpec, EndpointSpec};

use crate::id::{Address, ClusterId, EndpointId};

/// A compiled cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its position in the snapshot.
    pub id: ClusterId,
    /// Unique.
    pub name: Box<str>,
    /// In file order; their ids count up from `first_endpoint`.
    pub endpoints: Box<[Endpoint]>,
    /// Id of the first endpoint.
    pub first_endpoint: EndpointId,
    /// How one of them is chosen.
    pub balance: Balance,
    /// Idle connections kept per endpoint, over all workers.
    pub max_idle: u32,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// For the connection to be established.
    pub connect_timeout: Duration,
    /// End of the request head to the first response byte, and between reads of the response.
    pub response_timeout: Duration,
    shares: Shares,
}

/// One endpoint of a compiled cluster.
#[derive(Debug)]
pub struct Endpoint {
    /// Its position among all endpoints of the snapshot.
    pub id: EndpointId,
    /// Where it is.
    pub address: Address,
    /// Share of the traffic; 0: none.
    pub weight: u16,
    /// The address as text.
    pub name: Box<str>,
}

impl Cluster {
    /// Compiles all clusters of a snapshot and numbers their endpoints.
    #[must_use]
    pub fn build_all(specs: &[ClusterSpec]) -> Vec<Self> {
        let mut next = 0;
        let numbered = specs.iter().enumerate();
        numbered.map(|(index, spec)| Self::build(ClusterId(index as u32), &mut next, spec)).collect()
    }

    fn build(id: ClusterId, next: &mut u32, spec: &ClusterSpec) -> Self {
        let first_endpoint = EndpointId(*next);
        let endpoints = spec.endpoints.iter().map(|endpoint| {
            let id = EndpointId(*next);
            *next += 1;
            let name = endpoint.address.to_string().into();
            Endpoint { id, address: endpoint.address.clone(), weight: endpoint.weight, name }
        });
        Self {
            id,
            name: spec.name.as_str().into(),
            endpoints: endpoints.collect(),
            first_endpoint,
            balance: spec.balance,
            max_idle: spec.max_idle,
            idle: spec.idle,
            connect_timeout: spec.connect_timeout,
            response_timeout: spec.response_timeout,
            shares: Shares::new(first_endpoint, spec.endpoints.iter().map(|endpoint| endpoint.weight)),
        }
    }
}
