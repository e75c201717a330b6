//! Requests that wait for a place, because their cluster limits how many are under way. Each worker keeps its own; whose turn it is, all
//! workers see ([`Places`]). Not here: what is done at a place (`attempt`).

use std::time::Duration;

use slab::Slab;

use super::state::Wait;
use super::{Engine, Exchange, Failure, State};
use crate::buffer::Queue;
use crate::cluster::{ClusterState, Endpoint, EndpointState, Priority, Queued, Sharer};
use crate::id::{EndpointId, StreamId};
use crate::pool::CountedConnection;
use crate::snapshot::Snapshot;
use crate::uring::Driver;

/// What an exchange has of a cluster with limits.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) cluster: ClusterState,
    /// Whether it has one of the places of the cluster, which it keeps until it is over.
    counted: bool,
    /// The endpoint of which it has one of the places, while an attempt at it is under way.
    endpoint: Option<EndpointId>,
}

/// The position of an exchange among those that wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: Option<u32>,
    after: Option<u32>,
    since: Duration,
    /// Whether its attempt is to be made over a new connection.
    fresh: bool,
    sharer: Sharer,
}

impl Link {
    /// How long it has waited.
    pub(super) fn waited(self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

/// The requests of one cluster that wait here.
#[derive(Debug)]
pub(super) struct WaitingRequests {
    cluster: ClusterState,
    /// By priority.
    lists: [Lists; Priority::ALL.len()],
    /// How long one waits.
    timeout: Duration,
    /// Whether it is among those that are to be looked at.
    noted: bool,
}

/// Exchanges of one priority.
#[derive(Debug)]
struct Lists {
    /// By sharer.
    lists: Box<[List]>,
    /// Those of which some wait: a bit each.
    sharers: u64,
    count: u32,
}

impl Default for Lists {
    fn default() -> Self {
        Self { lists: vec![List::default(); Sharer::COUNT].into(), sharers: 0, count: 0 }
    }
}

impl Lists {
    fn push(&mut self, exchanges: &mut Slab<Exchange>, id: u32, sharer: Sharer) {
        self.lists[sharer.index()].push(exchanges, id);
        self.sharers |= 1 << sharer.index();
        self.count += 1;
    }

    fn remove(&mut self, exchanges: &mut Slab<Exchange>, it: Link) {
        let list = &mut self.lists[it.sharer.index()];
        list.remove(exchanges, it);
        if list.count == 0 {
            self.sharers &= !(1 << it.sharer.index());
        }
        self.count -= 1;
    }
}

/// Exchanges in the order in which they came.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<u32>,
    last: Option<u32>,
    count: u32,
}

impl List {
    fn push(&mut self, exchanges: &mut Slab<Exchange>, id: u32) {
        match self.last.replace(id) {
            Some(last) => link(exchanges, last).after = Some(id),
            None => self.first = Some(id),
        }
        self.count += 1;
    }

    fn remove(&mut self, exchanges: &mut Slab<Exchange>, it: Link) {
        match it.before {
            Some(before) => link(exchanges, before).after = it.after,
            None => self.first = it.after,
        }
        match it.after {
            Some(after) => link(exchanges, after).before = it.before,
            None => self.last = it.before,
        }
        self.count -= 1;
    }
}

/// The link of an exchange that another one that waits names.
fn link(exchanges: &mut Slab<Exchange>, id: u32) -> &mut Link {
    match &mut exchanges[id as usize].state {
        State::Waiting(Wait { link: Some(link), .. }) => link,
        state => unreachable!("an exchange in a list waits: {state:?}"),
    }
}

impl WaitingRequests {
    fn new(cluster: ClusterState) -> Self {
        Self { cluster, lists: Default::default(), timeout: Duration::ZERO, noted: false }
    }

    fn is_empty(&self) -> bool {
        self.lists.iter().all(|list| list.count == 0)
    }

    /// Tells all workers how many wait here, and since when.
    fn publish(&self, exchanges: &mut Slab<Exchange>, worker: usize, priority: Priority) {
        let Lists { lists, sharers, count } = &self.lists[priority as usize];
        let places = self.cluster.places();
        let first = places.first_of(*sharers).and_then(|sharer| lists[sharer.index()].first);
        let since = first.map_or(Duration::ZERO, |first| link(exchanges, first).since);
        places.set_waiting(worker, priority, (*count, *sharers), since);
    }

    /// The one that is served next: of the most important ones, the first one of the sharer whose turn it is. Where that one has waited for half of its time, more come than
    /// can be served, and the first ones would all be served too late: then it is the last one.
    fn next(&self, exchanges: &mut Slab<Exchange>, now: Duration) -> Option<u32> {
        let lists = self.lists.iter().find(|lists| lists.count > 0)?;
        let list = &lists.lists[self.cluster.places().first_of(lists.sharers)?.index()];
        let first = list.first?;
        let late = now.saturating_sub(link(exchanges, first).since) > self.timeout / 2;
        if late { list.last } else { Some(first) }
    }

    /// The one that makes room for another one: of the least important ones, the last one of the sharer that has most.
    fn least(&self) -> Option<u32> {
        let lesser = &self.lists[Priority::Critical as usize + 1..];
        let lists = lesser.iter().rev().find(|lists| lists.count > 0)?;
        lists.lists.iter().max_by_key(|list| list.count)?.last
    }
}

impl<D: Driver> Engine<D> {
    /// Takes in the limits of clusters, and looks at all that wait under the old ones.
    pub(super) fn apply_limits(&mut self, snapshot: &Snapshot) {
        for slot in &mut self.waiting {
            slot.take_if(|waiting| waiting.is_empty());
        }
        self.noted.clear();
        self.waiting.iter_mut().flatten().for_each(|waiting| waiting.noted = false);
        for cluster in &snapshot.clusters {
            let number = cluster.state.number() as usize;
            let ring = &self.ring;
            cluster.state.places().apply(&cluster.limits, self.worker, || ring.waker());
            if cluster.limits.is_none() && self.waiting.get(number).is_none_or(Option::is_none) {
                continue;
            }
            if self.waiting.len() <= number {
                self.waiting.resize_with(number + 1, || None);
            }
            let slot = self.waiting[number].get_or_insert_with(|| WaitingRequests::new(cluster.state.clone()));
            slot.timeout = cluster.limits.queue_timeout;
            if cluster.limits.counts_connections() {
                cluster.endpoints.iter().for_each(|it| self.upstreams.close_uncounted(&mut self.ring, it.id));
            }
        }
        self.note_waiting();
    }

    /// Has all clusters looked at that have waiting requests, because another worker has given back a place, or wants one for a more
    /// important request.
    pub fn note_waiting(&mut self) {
        for number in 0..self.waiting.len() {
            self.note(number as u32);
        }
    }

    /// Has the waiting requests of a cluster looked at when the events of this turn are dealt with.
    pub(super) fn note(&mut self, number: u32) {
        let Some(Some(waiting)) = self.waiting.get_mut(number as usize) else { return };
        if !waiting.noted && waiting.cluster.places().waiting() > 0 {
            waiting.noted = true;
            self.noted.push(number);
        }
    }

    /// The client stream of a request that has waited and has got a place, or was refused: the caller goes on with it. None: there is none
    /// in this turn.
    pub fn next_served(&mut self) -> Option<StreamId> {
        loop {
            self.upstreams.release_reserved();
            while let Some(number) = self.upstreams.next_freed() {
                self.note(number);
            }
            if let Some(stream) = self.served.pop() {
                return Some(stream);
            }
            let number = *self.noted.last()?;
            if !self.serve(number) {
                self.noted.pop();
                if let Some(Some(waiting)) = self.waiting.get_mut(number as usize) {
                    waiting.noted = false;
                }
            }
        }
    }

    /// Serves one waiting request of a cluster. False: none of them can be served now.
    fn serve(&mut self, number: u32) -> bool {
        let Some(Some(waiting)) = self.waiting.get(number as usize) else { return false };
        let places = waiting.cluster.places();
        for _ in 0..places.take_evictions(self.worker) {
            self.evict(number);
        }
        let Some(Some(waiting)) = self.waiting.get(number as usize) else { return false };
        let places = waiting.cluster.places();
        let free = places.limit() == 0 || places.taken() < places.limit();
        if !free {
            return false;
        }
        if !places.is_next(self.worker) {
            if places.waiting() > 0 && places.connection_limits() != [0, 0] {
                self.give_way(number);
            }
            return false;
        }
        let Some(id) = waiting.next(&mut self.exchanges, self.ring.clock().now()) else { return false };
        let State::Waiting(wait) = &mut self.exchanges[id as usize].state else { return false };
        let Some(link) = wait.link else { return false };
        let mut request = std::mem::take(&mut wait.request);
        match self.try_attempt(id, link.fresh) {
            Ok(false) => {
                if let State::Waiting(wait) = &mut self.exchanges[id as usize].state {
                    wait.request = request;
                }
                return false;
            }
            Ok(true) => {
                self.unlink(id, link, true);
                self.send_named(id, &mut request);
                self.arm(id);
            }
            Err(failure) => {
                self.unlink(id, link, true);
                request.clear(self.ring.buffers.pieces());
                self.fail(id, failure);
            }
        }
        self.served.push(self.exchanges[id as usize].stream);
        true
    }

    /// Takes a place of the cluster, if it limits its requests and the exchange has none. False: all are taken.
    pub(super) fn take_cluster_place(&mut self, id: u32) -> bool {
        let exchange = &mut self.exchanges[id as usize];
        let Some(cluster) = exchange.snapshot.clusters.get(exchange.cluster.index()) else { return true };
        if cluster.limits.is_none() {
            return true;
        }
        let place = exchange.place.get_or_insert_with(|| Place::of(&cluster.state));
        let places = place.cluster.places();
        if !place.counted && places.limit() > 0 {
            place.counted = places.take();
            return place.counted;
        }
        true
    }

    /// Takes a place of an endpoint, if the cluster limits attempts at one. False: all are taken.
    pub(super) fn take_endpoint_place(&mut self, id: u32, endpoint: EndpointId) -> bool {
        let Some(place) = &mut self.exchanges[id as usize].place else { return true };
        let limit = place.cluster.places().endpoint_limit();
        if limit == 0 {
            return true;
        }
        let Some(state) = self.balancer.state(endpoint) else { return true };
        let taken = state.take_place(limit);
        place.endpoint = taken.then_some(endpoint);
        taken
    }

    /// Takes what an attempt at an endpoint needs: a place of it, and a connection, as far as the cluster limits them. `fresh`: a new
    /// connection is made even if one is idle. False: there is none.
    pub(super) fn take_places_at(&mut self, id: u32, endpoint: EndpointId, fresh: bool) -> bool {
        if !self.take_endpoint_place(id, endpoint) {
            return false;
        }
        let Some(place) = &self.exchanges[id as usize].place else { return true };
        if place.cluster.places().connection_limits() == [0, 0] {
            return true;
        }
        let cluster = place.cluster.clone();
        let fresh = fresh || !self.has_idle(id, endpoint);
        let reserved = self.reserve_connection(&cluster, endpoint, fresh);
        if !reserved {
            self.give_endpoint_place(id);
        }
        reserved
    }

    /// Whether a connection to an endpoint is idle that an exchange can use.
    pub(super) fn has_idle(&self, id: u32, endpoint: EndpointId) -> bool {
        self.upstreams.has_idle(endpoint, self.exchanges[id as usize].tls_host())
    }

    /// Has a connection to an endpoint that is about to be made count against the limits of its cluster. Where that has too many, an idle one
    /// of this worker gives way. False: there are too many.
    pub(super) fn reserve_connection(&mut self, cluster: &ClusterState, endpoint: EndpointId, fresh: bool) -> bool {
        let places = cluster.places();
        let [limit, endpoint_limit] = places.connection_limits();
        if limit == 0 && endpoint_limit == 0 || !fresh {
            return true;
        }
        if self.upstreams.has_room(endpoint) {
            return true;
        }
        let Some(state) = self.balancer.state(endpoint) else { return false };
        let count = || {
            CountedConnection::new(cluster.number(), (places.connected(), limit), (state.connected(), endpoint_limit))
        };
        let counted = count().or_else(|| {
            let full = endpoint_limit > 0 && state.connected().get() >= endpoint_limit;
            let mut own = self.snapshot.clusters.iter().filter(|it| it.state.number() == cluster.number());
            let ids = own.next().map(|it| it.endpoints.iter().map(|it| it.id)).into_iter().flatten();
            let mut others = std::iter::once(endpoint).chain(ids.filter(|_| !full));
            others.any(|other| self.upstreams.close_idle_of(&mut self.ring, other)).then(count)?
        });
        // Over HTTP/2, it may wait for a stream.
        counted.map(|counted| self.upstreams.reserve(counted)).is_some() || self.upstreams.is_sharing(endpoint)
    }

    /// Gives up an idle connection of a cluster whose limit of connections is reached: a request of another worker waits for it.
    #[cold]
    fn give_way(&mut self, number: u32) {
        let Some(cluster) = self.snapshot.clusters.iter().find(|it| it.state.number() == number) else { return };
        let places = cluster.state.places();
        let [limit, endpoint_limit] = places.connection_limits();
        let all = limit > 0 && places.connected().get() >= limit;
        let full = |it: &&Endpoint| all || endpoint_limit > 0 && it.state.connected().get() >= endpoint_limit;
        let mut full = cluster.endpoints.iter().filter(full);
        if full.any(|it| self.upstreams.close_idle_of(&mut self.ring, it.id)) {
            // The one whose turn it is, is woken again.
            let _ = places.is_next(self.worker);
        }
    }

    /// Gives the place of an endpoint back.
    pub(super) fn give_endpoint_place(&mut self, id: u32) {
        if let Some(place) = &mut self.exchanges[id as usize].place
            && let Some(endpoint) = place.endpoint.take()
        {
            let number = place.cluster.number();
            if let Some(state) = self.balancer.state(endpoint) {
                state.give_place();
            }
            self.note(number);
        }
    }

    /// Gives all places of an exchange back that is over.
    pub(super) fn give_places(&mut self, place: Option<Place>) {
        let Some(Place { cluster, counted, endpoint }) = place else { return };
        if counted {
            cluster.places().give();
        }
        if let Some(state) = endpoint.and_then(|endpoint| self.balancer.state(endpoint)) {
            state.give_place();
        }
        self.note(cluster.number());
    }

    /// Whether an exchange that has no place yet has to wait behind others.
    pub(super) fn has_to_wait(&self, id: u32) -> bool {
        let exchange = &self.exchanges[id as usize];
        let Some(cluster) = exchange.own_cluster() else { return false };
        !cluster.limits.is_none() && exchange.place.is_none() && cluster.state.places().has_before(exchange.priority)
    }

    /// Has an exchange wait for a place.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn wait_for_place(&mut self, id: u32, fresh: bool) -> Result<(), Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let cluster = &exchange.snapshot.clusters[exchange.cluster.index()];
        let (number, priority) = (cluster.state.number(), exchange.priority);
        let route = exchange.snapshot.router.routes().get(exchange.route.index());
        let sharer = Sharer::of(route.and_then(|route| route.tenant));
        // What waits holds its head at least.
        if self.ring.buffers.is_scarce() {
            return Err(Failure::Buffers);
        }
        exchange.place.get_or_insert_with(|| Place::of(&cluster.state));
        let Some(Some(waiting)) = self.waiting.get_mut(number as usize) else { return Err(Failure::QueueFull) };
        match waiting.cluster.places().queue(self.worker, priority, sharer) {
            Queued::Waits => {}
            Queued::Evicts => self.evict(number),
            Queued::Full => {
                waiting.cluster.places().count_full();
                return Err(Failure::QueueFull);
            }
        }
        let Some(Some(waiting)) = self.waiting.get_mut(number as usize) else { return Err(Failure::QueueFull) };
        let (now, until) = (self.ring.clock().now(), self.ring.clock().deadline(waiting.timeout));
        let lists = &mut waiting.lists[priority as usize];
        let before = lists.lists[sharer.index()].last;
        let link = Link { before, after: None, since: now, fresh, sharer };
        self.exchanges[id as usize].state = State::Waiting(Wait { request: Queue::default(), until, link: Some(link) });
        lists.push(&mut self.exchanges, id, sharer);
        waiting.publish(&mut self.exchanges, self.worker, priority);
        // A place may have become free before this one was seen to wait.
        self.note(number);
        if let Some(Some(waiting)) = self.waiting.get(number as usize)
            && waiting.cluster.places().connection_limits() != [0, 0]
        {
            waiting.cluster.places().wake_others(self.worker);
        }
        self.arm(id);
        Ok(())
    }

    /// Takes an exchange out of those that wait. `link` is or was its own. `served`: it was its turn.
    pub(super) fn unlink(&mut self, id: u32, link: Link, served: bool) {
        let exchange = &mut self.exchanges[id as usize];
        exchange.forwarding.end_queue(link.waited(self.ring.clock().now()));
        let (priority, number) = (exchange.priority, exchange.place.as_ref().map(|place| place.cluster.number()));
        self.remove_waiting(number, priority, link, served);
    }

    /// Takes an exchange out of those that wait at a cluster.
    pub(super) fn remove_waiting(&mut self, number: Option<u32>, priority: Priority, link: Link, served: bool) {
        let Some(Some(waiting)) = number.and_then(|number| self.waiting.get_mut(number as usize)) else { return };
        waiting.lists[priority as usize].remove(&mut self.exchanges, link);
        waiting.cluster.places().leave(link.sharer, served);
        waiting.publish(&mut self.exchanges, self.worker, priority);
    }

    /// Refuses the least important of the requests of a cluster that wait here, unless all are of the highest priority.
    fn evict(&mut self, number: u32) {
        let Some(Some(waiting)) = self.waiting.get(number as usize) else { return };
        let Some(id) = waiting.least() else { return };
        self.end_wait(id, Failure::QueueFull);
        self.served.push(self.exchanges[id as usize].stream);
    }

    /// Refuses a request that waits for a place.
    pub(super) fn end_wait(&mut self, id: u32, failure: Failure) {
        let before = std::mem::replace(&mut self.exchanges[id as usize].state, State::Failed(failure));
        let State::Waiting(Wait { mut request, link, .. }) = before else { return };
        request.clear(self.ring.buffers.pieces());
        if let (Some(link), Some(place)) = (link, &self.exchanges[id as usize].place) {
            match failure {
                Failure::QueueFull => place.cluster.places().count_full(),
                _ => place.cluster.places().count_late(),
            }
            self.unlink(id, link, false);
        }
    }
}

impl Place {
    /// Places of a cluster and of an endpoint for one more attempt, as far as they are limited. None: one of both has none.
    pub(super) fn take(cluster: &ClusterState, endpoint: EndpointId, state: &EndpointState) -> Option<Self> {
        let places = cluster.places();
        let counted = places.limit() > 0;
        if counted && !places.take() {
            return None;
        }
        let limit = places.endpoint_limit();
        if limit > 0 && !state.take_place(limit) {
            if counted {
                places.give();
            }
            return None;
        }
        Some(Self { cluster: cluster.clone(), counted, endpoint: (limit > 0).then_some(endpoint) })
    }

    fn of(cluster: &ClusterState) -> Self {
        Self { cluster: cluster.clone(), counted: false, endpoint: None }
    }
}
