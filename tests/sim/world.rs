//! One world: a network, clients, origins, an operator, and what has to be true of them all the time. Not here: the worker, which runs on
//! top of it (`play`).

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cairn::buffer::Pool;
use cairn::limits;
use cairn::worker::Load;

use crate::client::{Client, Surroundings};
use crate::http2_client::Http2Client;
use crate::net::{Event, Link, LinkId, Name, Net, Peer, Spoiled, tell};
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::origin::Origin;
use crate::random::Random;
use crate::scenario::{Connects, NEVER, Scenario};

pub(crate) struct World {
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    clients: Vec<ClientActor>,
    /// By connection.
    origins: Vec<Option<Origin>>,
    pub(crate) operator: Option<Operator>,
    pools: [&'static Pool; 2],
    /// Buffers that something holds.
    held: usize,
    /// Idle connections may belong to clients that have logged in on them, and make no room for others.
    binds: bool,
    /// Connections to origins that were idle after the last turn.
    idle: usize,
    /// Streams of clients that there were then.
    streams: usize,
    /// Turns since time went on for more than a moment.
    turns: usize,
    since: Duration,
    /// Turns since something has completed.
    idle_turns: usize,
    last_turn: Duration,
    /// The same of events.
    events: usize,
    events_since: Duration,
}

/// Turns that a worker may take within [`SPIN_TIME`].
const SPIN_TURNS: usize = 200_000;
/// Turns in a row without a completion: in the longest wait the wheel comes round some hundred times.
const IDLE_TURNS: usize = 2_000;
const SPIN_EVENTS: usize = 2_000_000;
const SPIN_TIME: Duration = Duration::from_secs(1);
/// Buffers that one connection may hold: what one direction of an exchange may, what one receive brings besides, and a replay.
const BUFFERS_OF_CONNECTION: usize = limits::QUEUE_PIECES + limits::REPLAY_BYTES / limits::REPLAY_PIECE_BYTES + 6;

/// Turns whose receives come on top, each of which may bring all that was on offer: one that fills a queue, and one until its source is
/// paused for that.
const TURNS_ABOVE: usize = 2;

/// A client, by the version that it speaks.
enum ClientActor {
    Http1(Box<Client>),
    Http2(Box<Http2Client>),
}

impl ClientActor {
    fn new(scenario: &Scenario, number: usize) -> Self {
        match &scenario.clients[number].http2 {
            Some(http2) => Self::Http2(Box::new(Http2Client::new(scenario, number, http2))),
            None => Self::Http1(Box::new(Client::new(scenario, number))),
        }
    }

    fn step(&mut self, around: &mut Surroundings<'_>) {
        match self {
            Self::Http1(client) => client.step(around),
            Self::Http2(client) => client.step(around),
        }
    }

    fn link(&self) -> Option<LinkId> {
        match self {
            Self::Http1(client) => client.link,
            Self::Http2(client) => client.link(),
        }
    }

    /// Whether it has nothing to do any more, or never had.
    fn is_idle(&self) -> bool {
        match self {
            Self::Http1(client) => client.is_idle(),
            Self::Http2(client) => client.is_idle(),
        }
    }
}

impl World {
    pub(crate) fn new(scenario: Rc<Scenario>, pools: [&'static Pool; 2], tells: bool) -> Self {
        let mut net = Net::new(scenario.kernel.clone(), Random::new(scenario.seed, 2_000_000), tells);
        net.has_http2 = scenario.clients.iter().any(|client| client.http2.is_some());
        net.hedges = scenario.clusters.iter().any(|cluster| cluster.hedge.is_some());
        for (number, client) in scenario.clients.iter().enumerate() {
            if client.start != NEVER && !client.exchanges.is_empty() {
                net.schedule(client.start, Event::Client(number));
            }
        }
        for (number, plan) in scenario.operator.iter().enumerate() {
            net.schedule(plan.at, Event::Operator(number));
        }
        for (cluster, plan) in scenario.clusters.iter().enumerate() {
            for (endpoint, plan) in plan.endpoints.iter().enumerate() {
                if let Connects::Late(time) = plan.connects {
                    net.late.insert((cluster, endpoint), time);
                }
            }
        }
        let clients = (0..scenario.clients.len()).map(|number| ClientActor::new(&scenario, number)).collect();
        Self {
            net,
            oracle: Oracle::new(scenario.exchanges.len()),
            clients,
            origins: Vec::new(),
            operator: None,
            pools,
            held: 0,
            binds: scenario.exchanges.iter().any(|exchange| exchange.logs_in),
            idle: 0,
            streams: 0,
            turns: 0,
            since: Duration::ZERO,
            idle_turns: 0,
            last_turn: Duration::ZERO,
            events: 0,
            events_since: Duration::ZERO,
            scenario,
        }
    }

    pub(crate) fn step_client(&mut self, number: usize) {
        let Self { clients, net, oracle, scenario, .. } = self;
        clients[number].step(&mut Surroundings { net, oracle, scenario });
    }

    pub(crate) fn step_origin(&mut self, link: LinkId) {
        let Self { origins, net, oracle, scenario, .. } = self;
        if let Some(origin) = origins.get_mut(link).and_then(Option::as_mut) {
            origin.step(net, oracle, scenario);
        } else {
            net.links[link].peer_due = false;
        }
    }

    pub(crate) fn act(&mut self, plan: usize) {
        let Self { net, scenario, operator: Some(operator), oracle, .. } = self else { return };
        if operator.act(net, scenario, scenario.operator[plan].action) {
            oracle.disturbed.get_or_insert(net.now);
        }
    }

    /// What becomes now of a connection to an endpoint.
    pub(crate) fn connects(&self, cluster: usize, endpoint: usize) -> Connects {
        match self.scenario.clusters[cluster].endpoints[endpoint].connects {
            Connects::Flapping(period) if (self.net.now.as_micros() / period.as_micros()) % 2 == 1 => Connects::Refused,
            plan => plan,
        }
    }

    /// A connection to an origin stands.
    pub(crate) fn meet_origin(&mut self, link: LinkId) {
        let Peer::Origin(cluster, endpoint) = self.net.links[link].peer else { return };
        self.origins.resize_with(self.origins.len().max(link + 1), || None);
        self.origins[link] = Some(Origin::new(&self.scenario, link, cluster, endpoint));
        self.net.wake_peer(link);
    }

    /// Notices when peers keep each other busy for ever.
    pub(crate) fn count_event(&mut self, event: Event) {
        if !matches!(event, Event::Client(_) | Event::Origin(_) | Event::Operator(_)) {
            self.idle_turns = 0;
        }
        self.events += 1;
        if self.net.now > self.events_since + SPIN_TIME {
            (self.events, self.events_since) = (0, self.net.now);
        } else if self.events > SPIN_EVENTS {
            self.net.violate(format!("{SPIN_EVENTS} events within {SPIN_TIME:?}, the last of them {event:?}"));
        }
    }

    /// Whether every client is done, or waits for nothing but the end of its connection.
    pub(crate) fn is_over(&self) -> bool {
        let gone = |client: &ClientActor| {
            client.is_idle() || client.link().is_some_and(|link| self.net.links[link].closed_by_worker)
        };
        self.clients.iter().all(gone)
    }

    /// What has to be true whenever the worker waits. `offered`: buffers that receives may fill, of each group.
    pub(crate) fn before_wait(&mut self, offered: [usize; 2]) {
        self.drop_untouched();
        self.net.end_turn();
        self.net.settled = self.is_over();
        let held = self.pools[0].capacity() - self.pools[0].available() - offered[0] - offered[1];
        let open = self.net.links.iter().filter(|link| link.held || link.closing && !link.closed_by_worker).count();
        self.held = held;
        if held > BUFFERS_OF_CONNECTION * (open + self.streams + 1) + TURNS_ABOVE * self.net.most_of_turn {
            self.net.violate(format!("{open} connections hold {held} buffers"));
        }
        // A long wait is not for nothing.
        self.idle_turns = if self.net.now > self.last_turn + SPIN_TIME { 0 } else { self.idle_turns + 1 };
        self.last_turn = self.net.now;
        if self.idle_turns > IDLE_TURNS {
            self.net.violate(format!("the worker wakes {IDLE_TURNS} times for nothing"));
        }
        self.turns += 1;
        if self.net.now > self.since + SPIN_TIME {
            (self.turns, self.since) = (0, self.net.now);
        } else if self.turns > SPIN_TURNS {
            self.net.violate(format!("the worker takes {SPIN_TURNS} turns within {SPIN_TIME:?}"));
        }
    }

    /// Closes what the worker was given and has dropped: nothing was asked of it.
    fn drop_untouched(&mut self) {
        for link in 0..self.net.links.len() {
            let it = &self.net.links[link];
            if !it.held || it.touched || self.net.is_on_its_way(it.descriptor) {
                continue;
            }
            tell!(self.net, "{}: dropped by the worker", self.net.name(link));
            let raw = self.net.links[link].descriptor as usize;
            if self.net.names.get(raw) == Some(&Some(Name::Link(link))) {
                self.net.names[raw] = None;
            }
            self.net.descriptors -= 1;
            self.net.links[link].held = false;
            self.net.links[link].closing = true;
            self.net.close_if_idle(link);
        }
    }

    /// What has to be true after each turn.
    pub(crate) fn after_turn(&mut self, load: &Load) {
        let held =
            |of: fn(Peer) -> bool| self.net.links.iter().filter(move |link| link.held && link.touched && of(link.peer));
        let clients = held(|peer| matches!(peer, Peer::Client(_))).count();
        let origins = held(|peer| matches!(peer, Peer::Origin(..))).count();
        if (load.downstreams, load.upstreams) != (clients, origins) {
            let text = format!(
                "the worker counts {} clients and {} connections to endpoints, of {clients} and {origins}",
                load.downstreams, load.upstreams
            );
            self.net.violate(text);
        }
        if load.exchanges > load.downstreams + load.streams || load.sockets < clients + origins {
            self.net.violate(format!("{load:?}"));
        }
        // One of each connection, those of endpoints that are used included, and two of each exchange.
        if load.timers > load.downstreams + load.streams + load.upstreams + 2 * load.exchanges {
            self.net.violate(format!("timers of nothing are set: {load:?}"));
        }
        // Of the connections that were idle, every exchange has taken one at most.
        if std::mem::take(&mut self.net.lacks_socket) && !self.binds && self.idle > load.exchanges {
            let text = format!("an exchange finds no descriptor, though {} connections were idle", self.idle);
            self.net.violate(text);
        }
        self.idle = load.upstreams - load.exchanges.min(load.upstreams);
        let useless =
            |link: &Link| link.held && link.spoiled == Spoiled::Known && matches!(link.peer, Peer::Origin(..));
        if let Some(link) = self.net.links.iter().position(useless).filter(|_| load.exchanges == 0) {
            self.net.violate(format!("{} is kept, which can take no request", self.net.name(link)));
        }
        self.streams = load.streams;
        self.after_orders(load);
    }

    /// What has to be true once the worker has heard of everything that the operator wants.
    fn after_orders(&mut self, load: &Load) {
        let Self { net, operator: Some(operator), .. } = self else { return };
        if operator.drained.is_some() {
            net.drains.get_or_insert(net.now);
        }
        let Some(handle) = operator.handle.as_ref().filter(|_| net.waker.is_some() && !net.woken) else { return };
        let (version, wanted) = (handle.counters.version.get(), operator.snapshot().version);
        if version != wanted {
            net.violate(format!("the worker goes on under snapshot {version} instead of {wanted}"));
        }
        let mut idle = net.links.iter().filter(|link| link.held && load.exchanges == 0).map(|link| link.peer);
        let gone = idle.find(|peer| matches!(*peer, Peer::Origin(cluster, at) if !operator.has(cluster, at)));
        if let Some(Peer::Origin(cluster, endpoint)) = gone {
            net.violate(format!("an idle connection to endpoint {cluster}.{endpoint} is kept, which is gone"));
        }
    }

    /// The last clients come: whatever has happened, they have to be served.
    pub(crate) fn probe(&mut self) {
        for (number, client) in self.scenario.clients.iter().enumerate().filter(|(_, client)| client.start == NEVER) {
            tell!(self.net, "client {number} comes last, to listener {}", client.listener);
            self.net.schedule(self.net.now, Event::Client(number));
        }
        self.net.active = self.net.now;
    }

    /// What has to be true when nothing is left to happen.
    pub(crate) fn at_rest(&mut self, load: &Load) {
        let free_buffers = load.free_buffers;
        let nothing =
            Load { downstreams: 0, streams: 0, exchanges: 0, upstreams: 0, sockets: 0, timers: 0, free_buffers };
        if *load != nothing {
            self.net.violate(format!("at rest there is {load:?}"));
        }
        if self.held > 0 {
            self.net.violate(format!("at rest {} buffers are held", self.held));
        }
        let waits = |client: &&ClientActor| !client.is_idle();
        let waiting = self.clients.iter().filter(waits).find_map(ClientActor::link);
        if let Some(link) = waiting.filter(|link| !self.net.links[*link].closed_by_worker) {
            let text = format!("{} waits for ever", self.net.name(link));
            self.net.violate(text);
        }
        let snapshots = self.operator.iter().flat_map(|operator| operator.snapshots.iter().rev().skip(1));
        let held = snapshots.filter(|snapshot| Arc::strong_count(snapshot) > 1).count();
        if held > 0 {
            self.net.violate(format!("{held} old snapshots are held"));
        }
    }

    /// What has to be true of all exchanges once they are over.
    pub(crate) fn judge(&mut self) {
        let Self { net, oracle, scenario, operator, .. } = self;
        oracle.judge(net, scenario);
        let handle = operator.as_ref().and_then(|operator| operator.handle.as_ref());
        let Some(handle) = handle else { return };
        let counted: u64 = handle.counters.responses().iter().sum();
        let seen = oracle.heads;
        if counted < seen || (counted > seen && oracle.is_complete() && scenario.is_calm()) {
            net.violate(format!("{seen} responses were seen, {counted} are counted"));
        }
    }
}

impl Net {
    /// A turn is over. Notes which connections the worker knows to take no further request: it has had the completion that says so, and
    /// whatever it had queued before was submitted.
    fn end_turn(&mut self) {
        let Self { links, completions, early, .. } = self;
        let mut brought = 0;
        for link in links {
            brought += std::mem::take(&mut link.brought).buffers;
            let Spoiled::Told(tag) = link.spoiled else { continue };
            if !completions.iter().chain(&*early).any(|completion| completion.tag == tag) {
                link.spoiled = Spoiled::Known;
            }
        }
        self.most_of_turn = self.most_of_turn.max(brought);
    }

    /// Whether the worker has yet to be told of an accepted descriptor.
    fn is_on_its_way(&self, descriptor: RawFd) -> bool {
        self.completions.iter().chain(&self.early).any(|completion| completion.result == descriptor)
    }
}
