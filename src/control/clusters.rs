//! The state of clusters and their endpoints, for `cairn status`, `/status` and `/metrics`. Not here: what decides it (`health`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Endpoint, Hold, Level, Places, Selection};

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Unique name.
    pub name: String,
    /// Which of its endpoints are in use.
    pub uses: EndpointsUsed,
    /// What comes of its zone; None: it prefers none.
    pub zone: Option<ZoneStatus>,
    /// What its limits come to; None: it has none.
    pub limits: Option<LimitStatus>,
    /// Its endpoints, in file order.
    pub endpoints: Vec<EndpointStatus>,
}

/// What comes of the zone of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// The zone in which this proxy runs.
    pub name: String,
    /// Percent of the traffic that stay there; null: the zone does not count now, because backups or all endpoints are used.
    pub local_percent: Option<u8>,
}

/// What the limits of a cluster come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Most requests under way; 0: only endpoints have limits.
    pub requests: u32,
    /// Requests under way that count against it.
    pub taken: u32,
    /// Most connections that may be open; 0: only endpoints have limits, or none has.
    #[serde(default)]
    pub connections: u32,
    /// Open connections that count against it.
    #[serde(default)]
    pub connected: u32,
    /// Requests that wait for a place.
    pub waiting: u32,
    /// Requests refused because too many waited.
    pub queue_full: u64,
    /// Requests refused because they had waited for too long.
    pub queue_timeout: u64,
}

/// Which endpoints of a cluster are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointsUsed {
    /// The usable ones that are no backups.
    Usable,
    /// Backups besides, because too few others are usable.
    Backups,
    /// All, because too few are usable (`panic_threshold`).
    All,
}

impl fmt::Display for EndpointsUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usable => "usable",
            Self::Backups => "backups",
            Self::All => "all",
        })
    }
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its address.
    pub address: String,
    /// Why it is kept from traffic: `down`, `ejected`, `probing`, `drained`; empty: it is usable.
    pub held: Vec<String>,
    /// Its weight, by the configuration or an operator's word.
    pub weight: u16,
    /// Whether the weight is an operator's word.
    pub weight_is_set: bool,
    /// Whether it is used only where too few others are usable.
    pub backup: bool,
    /// The zone in which it runs, if that is known.
    pub zone: Option<String>,
    /// Attempts under way.
    pub in_flight: u32,
    /// Attempts that were answered, and not with 502, 503 or 504.
    pub answered: u64,
    /// Attempts that have failed.
    pub failed: u64,
    /// Connections that were begun so far.
    #[serde(default)]
    pub connections: u64,
    /// Connections that are open, or being made.
    #[serde(default)]
    pub open: u64,
    /// Of these, the ones that wait in pools.
    #[serde(default)]
    pub idle: u64,
    /// Responses whose head has come so far.
    #[serde(default)]
    pub responses: u64,
    /// Nanoseconds that all of them have taken from their requests to their heads.
    #[serde(default)]
    pub first_byte_ns: u64,
}

impl ClusterStatus {
    /// The state of a cluster now.
    pub(super) fn of(cluster: &Cluster) -> Self {
        let selection = Selection::of(cluster);
        let uses = match selection.level {
            Level::Primary => EndpointsUsed::Usable,
            Level::Backup => EndpointsUsed::Backups,
            Level::Panic => EndpointsUsed::All,
        };
        let endpoints = cluster.endpoints.iter().map(EndpointStatus::of).collect();
        let limits = (!cluster.limits.is_none()).then(|| LimitStatus::of(cluster.state.places()));
        let zone = cluster.zone.as_ref().map(|zone| ZoneStatus {
            name: zone.to_string(),
            local_percent: selection.local.map(|part| (100.0 * part).round() as u8),
        });
        Self { name: cluster.name.to_string(), uses, zone, limits, endpoints }
    }
}

impl LimitStatus {
    fn of(places: &Places) -> Self {
        let [queue_full, queue_timeout] = places.refused();
        let (requests, taken, waiting) = (places.limit(), places.taken(), places.waiting());
        let ([connections, _], connected) = (places.connection_limits(), places.connected().get());
        Self { requests, taken, connections, connected, waiting, queue_full, queue_timeout }
    }
}

impl EndpointStatus {
    fn of(endpoint: &Endpoint) -> Self {
        let state = &endpoint.state;
        let holds =
            [(Hold::Down, "down"), (Hold::Ejected, "ejected"), (Hold::Probing, "probing"), (Hold::Drained, "drained")];
        let held = holds.into_iter().filter(|(hold, _)| state.has(*hold)).map(|(_, name)| name.to_owned()).collect();
        let (answered, failed) = state.outcomes();
        Self {
            address: endpoint.name.to_string(),
            held,
            weight: endpoint.current_weight(),
            weight_is_set: state.weight().is_some(),
            backup: endpoint.backup,
            zone: endpoint.zone.as_deref().map(str::to_owned),
            in_flight: state.in_flight(),
            answered,
            failed,
            connections: state.sum(|cells| &cells.connections),
            open: state.sum(|cells| &cells.open),
            idle: state.sum(|cells| &cells.idle),
            responses: state.sum(|cells| &cells.responses),
            first_byte_ns: state.sum(|cells| &cells.first_byte),
        }
    }

    /// Adds what is counted of another one, for a sum over both. It is held only where both are.
    pub(super) fn add(&mut self, other: &Self) {
        if other.is_usable() {
            self.held.clear();
        }
        self.in_flight += other.in_flight;
        let pairs = [
            (&mut self.answered, other.answered),
            (&mut self.failed, other.failed),
            (&mut self.connections, other.connections),
            (&mut self.open, other.open),
            (&mut self.idle, other.idle),
            (&mut self.responses, other.responses),
            (&mut self.first_byte_ns, other.first_byte_ns),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }

    /// Whether nothing but the weight keeps it from traffic.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.held.is_empty()
    }
}

/// Clusters with an endpoint that is not simply in use, or with limits; others say nothing.
impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, uses, zone, limits, endpoints } = self;
        if let Some(LimitStatus { requests, taken, connections, connected, waiting, queue_full, queue_timeout }) =
            limits
        {
            let of = if *requests > 0 { format!(" of {requests}") } else { String::new() };
            let open = if *connections > 0 {
                format!(", {connected} of {connections} connections open")
            } else {
                String::new()
            };
            writeln!(
                f,
                "{:<14}{name}: {taken}{of} requests under way{open}, {waiting} wait; refused so far: {queue_full} queue_full, {queue_timeout} \
                 queue_timeout",
                "cluster"
            )?;
        }
        if let Some(ZoneStatus { name: zone, local_percent: Some(percent) }) =
            zone.as_ref().filter(|it| it.local_percent != Some(100))
        {
            writeln!(
                f,
                "{:<14}{name}: {percent} % of its requests stay in zone {zone}, which has too few usable endpoints",
                "cluster"
            )?;
        }
        let told = |it: &&EndpointStatus| !it.is_usable() || it.weight_is_set;
        if *uses == EndpointsUsed::Usable && !endpoints.iter().any(|it| told(&it)) {
            return Ok(());
        }
        let (usable, all) = (endpoints.iter().filter(|it| it.is_usable()).count(), endpoints.len());
        let but = match uses {
            EndpointsUsed::Usable => "",
            EndpointsUsed::Backups => "; backups are used, because too few others are usable",
            EndpointsUsed::All => "; all are used, because too few are usable (panic_threshold)",
        };
        writeln!(f, "{:<14}{name}: {usable} of {all} endpoints are usable{but}", "cluster")?;
        for it in endpoints.iter().filter(told) {
            let EndpointStatus { address, weight, in_flight, answered, failed, .. } = it;
            let held = if it.is_usable() { "usable".to_owned() } else { it.held.join(", ") };
            let set = if it.weight_is_set { format!(", weight set to {weight}") } else { String::new() };
            writeln!(
                f,
                "{:<14}{address} is {held}{set}: {in_flight} under way, {answered} answered, {failed} failed",
                ""
            )?;
        }
        Ok(())
    }
}
