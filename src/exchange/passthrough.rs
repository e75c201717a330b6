//! Connections of TCP, which are passed on as they are: their route, and their exchange, which begins as a tunnel. Nothing is sent before an
//! endpoint is connected, so that another one can be tried until then. Not here: their bytes, and a ClientHello (`downstream`).

use std::net::IpAddr;

use super::attempt::Stage;
use super::preference::Wanted;
use super::state::{Exchange, State};
use super::{Decision, Engine, Failure};
use crate::cluster::{Balance, Outcome, Priority};
use crate::id::{ListenerId, StreamId};
use crate::proxy_protocol::Ends;
use crate::route::{self, Action, Scheme};
use crate::snapshot::SnapshotRef;
use crate::tls::client_hello::ClientHello;
use crate::uring::Driver;

/// A connection of TCP as the router sees it: a request for a host, without method, path and fields.
#[derive(Clone, Copy, Debug)]
pub struct Passthrough<'a> {
    /// What its client asks for; nothing, if it does not speak TLS.
    pub hello: ClientHello<'a>,
    /// The address of the client.
    pub client: Option<IpAddr>,
    /// The port of the listener.
    pub port: Option<u16>,
}

impl route::Request for Passthrough<'_> {
    fn method(&self) -> &[u8] {
        b""
    }

    fn host(&self) -> &[u8] {
        self.hello.name.as_bytes()
    }

    fn path(&self) -> &[u8] {
        b""
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn header(&self, _name: &[u8]) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.client
    }

    fn identity(&self) -> Option<&str> {
        None
    }

    fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        self.hello.protocols()
    }

    fn scheme(&self) -> Scheme {
        Scheme::Http
    }

    fn port(&self) -> Option<u16> {
        self.port
    }
}

impl<D: Driver> Engine<D> {
    /// The route of a connection of TCP; None: it has none.
    pub fn decide_connection(
        &mut self,
        snapshot: &SnapshotRef,
        listener: ListenerId,
        asked: &Passthrough<'_>,
    ) -> Option<Decision> {
        let route = snapshot.router.find(listener, asked)?;
        let cluster = match &route.action {
            Action::Cluster(cluster) => *cluster,
            Action::Split(split) => split.pick(self.balancer.random()),
            // No route of TCP answers by itself.
            Action::Redirect(_) | Action::Respond(_) => return None,
        };
        Some(Decision { snapshot: snapshot.clone(), route: route.id, cluster: Some(cluster) })
    }

    /// Begins the exchange of a connection of TCP: picks an endpoint and connects to it, or waits for a place of the cluster, which it then
    /// keeps for as long as it lasts. `ends`: what the endpoint is told, if its cluster wants that; its client decides where the cluster
    /// hashes addresses.
    ///
    /// # Errors
    /// When no endpoint takes traffic, no connection can be made, or too many wait.
    pub fn open_tunnel(&mut self, decision: &Decision, stream: StreamId, ends: Ends) -> Result<u32, Failure> {
        self.admit(Priority::default())?;
        let snapshot = &decision.snapshot;
        let cluster = decision.cluster.ok_or(Failure::NoRoute)?;
        let route = &snapshot.router.routes()[decision.route.index()];
        let new = Exchange::new(stream, snapshot, route, cluster, self.ring.clock().now());
        // Nothing more has to come before an endpoint can do its part.
        let client = ends.source.map(|(address, _)| address);
        let wanted = Wanted::of_client(&snapshot.clusters[cluster.index()], client);
        let id = self.exchanges.insert(Exchange { request_done: true, wanted, ..new }) as u32;
        if snapshot.clusters[cluster.index()].proxy_protocol.is_some() {
            self.upstreams.introduce(stream.connection, ends);
        }
        // A connection of the pool has begun to speak HTTP.
        if let Err(failure) = self.attempt(id, true) {
            self.close(id, false);
            return Err(failure);
        }
        self.counters.exchanges.set(self.exchanges.len() as u64);
        Ok(id)
    }

    /// Whether the endpoint of such an exchange is connected: from then on it is a tunnel. After a failure another endpoint is tried.
    ///
    /// # Errors
    /// When none can be connected to. The caller then closes the exchange.
    pub fn connect(&mut self, id: u32) -> Result<bool, Failure> {
        let exchange = &self.exchanges[id as usize];
        if exchange.wait().is_some() {
            return Ok(false);
        }
        let connection = self.upstreams.get(exchange.connection()?).ok_or(Failure::Closed)?;
        if !connection.is_connected() {
            return match connection.end {
                Some(end) => self.recover(id, end).map(|()| false),
                None => Ok(false),
            };
        }
        let (endpoint, asked) = (connection.endpoint, exchange.asked);
        let cluster = exchange.own_cluster();
        if cluster.is_some_and(|cluster| cluster.balance == Balance::PeakEwma) {
            self.balancer.measure(endpoint, self.ring.clock().now().saturating_sub(asked));
        }
        self.observe(id, endpoint, Outcome::Answered);
        if let State::Attempt(attempt) = &mut self.exchanges[id as usize].state {
            attempt.stage = Stage::Tunnel;
        }
        self.detach(id);
        self.arm(id);
        Ok(true)
    }
}
