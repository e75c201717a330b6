//! The operator: writes configurations, loads them, drains. Not here: when (`scenario`).

use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cairn::config;
use cairn::id::ListenerId;
use cairn::snapshot::{Ledger, Snapshot};
use cairn::worker::{ConfigUpdate, Order, WorkerHandle};

use crate::net::{Net, tell};
use crate::scenario::{Action, Scenario};
use crate::tls;

/// Port of listener 0.
const PORT: usize = 8000;

/// What is configured now.
#[derive(Clone, Debug, Default)]
struct State {
    removed_listeners: Vec<usize>,
    added_listeners: usize,
    /// Clusters that have only their first endpoint.
    shrunk: Vec<usize>,
    removed_clusters: Vec<usize>,
}

pub(crate) struct Operator {
    ledger: Ledger,
    state: State,
    version: u64,
    pub(crate) handle: Option<WorkerHandle>,
    /// All but the current one have to be let go of.
    pub(crate) snapshots: Vec<Arc<Snapshot>>,
    pub(crate) drained: Option<Duration>,
}

impl Operator {
    /// An operator, the first snapshot and its sockets.
    pub(crate) fn new(net: &mut Net, scenario: &Scenario) -> (Self, Vec<(ListenerId, OwnedFd)>) {
        let mut operator = Self {
            ledger: Ledger::default(),
            state: State::default(),
            version: 0,
            handle: None,
            snapshots: Vec::new(),
            drained: None,
        };
        let sockets = operator.load(net, scenario);
        (operator, sockets)
    }

    /// Whether the configuration has an endpoint now.
    pub(crate) fn has(&self, cluster: usize, endpoint: usize) -> bool {
        !self.state.removed_clusters.contains(&cluster) && (endpoint == 0 || !self.state.shrunk.contains(&cluster))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots[self.snapshots.len() - 1])
    }

    /// Compiles the configuration of now. Returns the sockets of listeners that the snapshot before did not have.
    fn load(&mut self, net: &mut Net, scenario: &Scenario) -> Vec<(ListenerId, OwnedFd)> {
        self.version += 1;
        let text = self.state.text(scenario);
        let config = match config::parse("sim.toml", &text) {
            Ok(config) => config,
            Err(report) => panic!("{report}\n{text}"),
        };
        let snapshot = match config.compile(self.version, &mut self.ledger) {
            Ok(snapshot) => Arc::new(snapshot),
            Err(report) => panic!("{report}\n{text}"),
        };
        let before = self.snapshots.last();
        let new: Vec<_> = snapshot
            .listeners()
            .filter(|(id, _)| before.is_none_or(|before| !before.has_listener(*id)))
            .map(|(id, spec)| (id, spec.name.to_string()))
            .collect();
        self.snapshots.push(snapshot);
        new.into_iter().map(|(id, name)| (id, net.listen(name[1..].parse().unwrap_or_default()))).collect()
    }

    fn reload(&mut self, net: &mut Net, scenario: &Scenario) {
        let sockets = self.load(net, scenario);
        if let Some(handle) = &self.handle {
            handle.send(ConfigUpdate { snapshot: self.snapshot(), sockets });
        }
        net.wake();
    }

    pub(crate) fn drain(&mut self, net: &mut Net) {
        tell!(net, "the operator drains");
        self.drained.get_or_insert(net.now);
        if let Some(handle) = &self.handle {
            handle.order(Order::Drain);
        }
        net.wake();
    }

    /// Returns whether the action takes something away.
    pub(crate) fn act(&mut self, net: &mut Net, scenario: &Scenario, action: Action) -> bool {
        tell!(net, "the operator: {action:?}");
        match action {
            Action::Reload => {}
            Action::AddListener => self.state.added_listeners += 1,
            Action::RemoveListener(listener) => {
                let others = scenario.listeners.len() - self.state.removed_listeners.len() + self.state.added_listeners;
                if others < 2 || self.state.removed_listeners.contains(&listener) {
                    return false;
                }
                self.state.removed_listeners.push(listener);
            }
            Action::RemoveEndpoints(cluster) => self.state.shrunk.push(cluster),
            Action::Restore => self.state = State { added_listeners: self.state.added_listeners, ..State::default() },
            Action::RemoveCluster(0) => return false,
            Action::RemoveCluster(cluster) => self.state.removed_clusters.push(cluster),
            Action::ReloadTwice => self.reload(net, scenario),
            Action::Drain => self.drain(net),
            Action::Clock(seconds) => net.wall += seconds,
        }
        if !matches!(action, Action::Drain | Action::Clock(_)) {
            self.reload(net, scenario);
        }
        matches!(
            action,
            Action::RemoveListener(_) | Action::RemoveEndpoints(_) | Action::RemoveCluster(_) | Action::Drain
        )
    }
}

impl State {
    fn text(&self, scenario: &Scenario) -> String {
        let mut text = String::new();
        let numbers = (0..scenario.listeners.len()).filter(|number| !self.removed_listeners.contains(number));
        let added = (0..self.added_listeners).map(|number| number + scenario.listeners.len());
        for number in numbers.chain(added) {
            let plan = &scenario.listeners[number.min(scenario.listeners.len() - 1)];
            let http2 = plan.http2.map_or(String::new(), |(streams, window)| {
                format!("http2 = {{ streams = {streams}, window = {window} }}\n")
            });
            let tls = if plan.tls { tls::listener() } else { String::new() };
            let _ = write!(
                text,
                "[[listener]]\nname = \"l{number}\"\nbind = \"127.0.0.1:{}\"\n{tls}\
                 limits = {{ requests = {}, connections = {}, handshakes = {} }}\n\
                 timeouts = {{ header = \"{}s\", body = \"{}s\", idle = \"{}s\", body_rate = {} }}\n{http2}",
                PORT + number,
                plan.requests,
                plan.connections,
                plan.handshakes,
                plan.header.as_secs(),
                plan.body.as_secs(),
                plan.idle.as_secs(),
                plan.body_rate,
            );
        }
        text.push_str(
            "[[route]]\nname = \"own\"\npath_prefix = \"/own\"\nrespond = { status = 200, body = \"own\" }\n",
        );
        for (number, plan) in scenario.clusters.iter().enumerate() {
            let removed = self.removed_clusters.contains(&number);
            let timeout = plan.timeout.map_or(String::new(), |time| format!("timeout = \"{}s\"\n", time.as_secs()));
            let hedge =
                plan.hedge.map_or(String::new(), |time| format!("hedge = {{ after = \"{}ms\" }}\n", time.as_millis()));
            let cluster = if removed { 0 } else { number };
            let _ = write!(
                text,
                "[[route]]\nname = \"r{number}\"\npath_prefix = \"/c{number}\"\ncluster = \"c{cluster}\"\nretry = {{ attempts = 0 }}\n{timeout}{hedge}"
            );
            if removed {
                continue;
            }
            let count = if self.shrunk.contains(&number) { 1 } else { plan.endpoints.len() };
            let limits = plan.limits.filter(|it| it.requests + it.endpoint_requests > 0).map_or(String::new(), |it| {
                format!(
                    "limits = {{ requests = {}, per_endpoint = {{ requests = {} }}, queue = {}, queue_timeout = \"{}ms\" }}\n",
                    it.requests,
                    it.endpoint_requests,
                    it.queue,
                    it.wait.as_millis()
                )
            });
            let endpoints: Vec<_> = (1..=count).map(|endpoint| format!("\"10.{number}.0.{endpoint}:80\"")).collect();
            let _ = write!(
                text,
                "[[cluster]]\nname = \"c{number}\"\nendpoints = [{}]\nbalance = \"{}\"\nabort_on_close = {}\n\
                 pool = {{ max_idle = {}, idle = \"{}s\" }}\n\
                 timeouts = {{ connect = \"{}ms\", response = \"{}s\" }}\n{limits}",
                endpoints.join(", "),
                plan.balance,
                plan.abort_on_close,
                plan.max_idle,
                plan.idle.as_secs(),
                plan.connect.as_millis(),
                plan.response.as_secs(),
            );
        }
        text
    }
}
