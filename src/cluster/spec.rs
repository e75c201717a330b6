//! Clusters as plain data: the form that `config` produces. Not here: choosing an endpoint.

use std::time::Duration;

use crate::id::Address;
use crate::tls::{ClientSpec, ServerName};

/// One `[[cluster]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    /// Unique name.
    pub name: String,
    /// Endpoints; at least one.
    pub endpoints: Vec<EndpointSpec>,
    /// Host and port of the first endpoint that has a host, as it is written. The Host of requests that have none.
    pub host: String,
    /// `tls`; None: in the clear.
    pub tls: Option<ClientSpec>,
    /// Policy by which an endpoint is chosen.
    pub balance: Balance,
    /// `pool.max_idle`: idle connections kept per endpoint, over all workers. Default 128.
    pub max_idle: u32,
    /// `pool.idle`: how long an idle connection is kept. Default 55 s.
    pub idle: Duration,
    /// `timeouts.connect`. Default 2 s.
    pub connect_timeout: Duration,
    /// `timeouts.response`: end of the request head to the first response byte, and between reads of the response. Default 30 s.
    pub response_timeout: Duration,
    /// Whether a client that sends FIN before the response begins is taken to have gone. Default false: it may only have
    /// finished sending (RFC 9112 section 9.6).
    pub abort_on_close: bool,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Its address.
    pub address: Address,
    /// Further addresses of its name, in the order in which they are tried when no connection to `address` can be made.
    pub others: Vec<Address>,
    /// The name that TLS asks for and that the certificate has to have; None: in the clear.
    pub tls_name: Option<ServerName<'static>>,
    /// Share of the traffic, 0 (none) to 65,535; default 1.
    pub weight: u16,
}

impl EndpointSpec {
    /// All of its addresses, in the order in which they are tried.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.address).chain(&self.others)
    }
}

/// `cluster.balance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two chosen at random, by weight (power of two choices).
    #[default]
    LeastRequest,
    /// At random, by weight.
    Random,
}

impl Balance {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::Random => "random",
        }
    }
}
