//! Idle upstream connections of one worker, by endpoint. Last in, first out: connections at the bottom of a list stay idle until
//! their time-out closes them, so that no more are kept than are needed. Not here: the connections themselves (`upstream`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::id::EndpointId;
use crate::telemetry::EndpointCells;

const NONE: u32 = u32::MAX;

/// Lists of idle connections, which are identified by their slots in `upstream`.
#[derive(Debug, Default)]
pub struct Pool {
    /// By endpoint: its list.
    tops: Vec<Top>,
    /// By connection: its neighbours in a list, meaningful while it is in one.
    links: Vec<Links>,
    /// By endpoint: what is counted of its connections.
    cells: Vec<Arc<EndpointCells>>,
}

/// The list of one endpoint.
#[derive(Clone, Copy, Debug)]
struct Top {
    /// The connection that was used last, or `NONE`.
    connection: u32,
    /// Number of connections in the list.
    count: u32,
}

/// The neighbours of a connection in its list, or `NONE`.
#[derive(Clone, Copy, Debug)]
struct Links {
    above: u32,
    below: u32,
}

impl Pool {
    /// Makes room for the endpoints below `bound`.
    pub fn reserve(&mut self, bound: usize) {
        if self.tops.len() < bound {
            self.tops.resize(bound, Top { connection: NONE, count: 0 });
            self.cells.resize_with(bound, Arc::default);
        }
    }

    /// Has the connections to an endpoint, for which there is room, counted in these cells.
    pub fn count_in(&mut self, endpoint: EndpointId, cells: &Arc<EndpointCells>) {
        self.cells[endpoint.index()] = Arc::clone(cells);
    }

    /// What is counted of the connections to an endpoint.
    #[must_use]
    pub fn cells(&self, endpoint: EndpointId) -> &EndpointCells {
        &self.cells[endpoint.index()]
    }

    /// The endpoints that have idle connections.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointId> {
        let counted = self.tops.iter().enumerate().filter(|(_, top)| top.count > 0);
        counted.map(|(endpoint, _)| EndpointId(endpoint as u32))
    }

    /// Number of idle connections to an endpoint.
    #[must_use]
    pub fn len(&self, endpoint: EndpointId) -> u32 {
        self.tops[endpoint.index()].count
    }

    /// Adds a connection that is in no list, as the one used last.
    pub fn push(&mut self, endpoint: EndpointId, connection: u32) {
        let needed = connection as usize + 1;
        if self.links.len() < needed {
            self.links.resize(needed, Links { above: NONE, below: NONE });
        }
        let top = &mut self.tops[endpoint.index()];
        self.links[connection as usize] = Links { above: NONE, below: top.connection };
        if let Some(below) = self.links.get_mut(top.connection as usize) {
            below.above = connection;
        }
        *top = Top { connection, count: top.count + 1 };
        self.cells[endpoint.index()].enter_pool();
    }

    /// The connection that was used last.
    #[must_use]
    pub fn top(&self, endpoint: EndpointId) -> Option<u32> {
        match self.tops[endpoint.index()].connection {
            NONE => None,
            connection => Some(connection),
        }
    }

    /// The one that was used last of those that `fits`.
    #[inline]
    pub fn find(&self, endpoint: EndpointId, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let mut next = self.top(endpoint);
        while let Some(connection) = next.filter(|connection| !fits(*connection)) {
            next = self.links.get(connection as usize).map(|links| links.below).filter(|below| *below != NONE);
        }
        next
    }

    /// Removes a connection that is in the endpoint's list.
    pub fn remove(&mut self, endpoint: EndpointId, connection: u32) {
        let Links { above, below } = self.links[connection as usize];
        let top = &mut self.tops[endpoint.index()];
        top.count -= 1;
        self.cells[endpoint.index()].leave_pool();
        match self.links.get_mut(above as usize) {
            Some(above) => above.below = below,
            None => top.connection = below,
        }
        if let Some(below) = self.links.get_mut(below as usize) {
            below.above = above;
        }
    }
}

/// Connections to an endpoint or a cluster that count against a limit, of all workers.
#[derive(Clone, Debug, Default)]
pub struct ConnectionCount(Arc<AtomicU32>);

impl ConnectionCount {
    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Adds one to at most `limit`; 0: there is no limit. False: there are as many.
    fn add(&self, limit: u32) -> bool {
        let more = |count: u32| (limit == 0 || count < limit).then(|| count.saturating_add(1));
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One connection among those that count; it counts until it is dropped.
#[derive(Debug)]
pub struct CountedConnection {
    /// The number of the cluster.
    pub cluster: u32,
    counts: [ConnectionCount; 2],
}

impl CountedConnection {
    /// Counts one more connection to a cluster that is known by a number, and to an endpoint of it. None: one of both may have no more.
    #[must_use]
    pub fn new(
        cluster: u32,
        of_cluster: (&ConnectionCount, u32),
        of_endpoint: (&ConnectionCount, u32),
    ) -> Option<Self> {
        let ((cluster_count, cluster_limit), (endpoint_count, endpoint_limit)) = (of_cluster, of_endpoint);
        if !cluster_count.add(cluster_limit) {
            return None;
        }
        if !endpoint_count.add(endpoint_limit) {
            cluster_count.subtract();
            return None;
        }
        Some(Self { cluster, counts: [cluster_count.clone(), endpoint_count.clone()] })
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.counts.iter().for_each(ConnectionCount::subtract);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_in_first_out_and_removal_anywhere() {
        let (mut pool, one, two) = (Pool::default(), EndpointId(0), EndpointId(1));
        pool.reserve(2);
        for connection in [3, 5, 4] {
            pool.push(one, connection);
        }
        pool.push(two, 9);
        pool.remove(one, 5);
        assert_eq!((pool.len(one), pool.len(two)), (2, 1));
        assert!(pool.endpoints().eq([one, two]));
        assert_eq!(
            [pool.find(one, |it| it < 4), pool.find(one, |it| it > 4), pool.find(two, |_| true)],
            [Some(3), None, Some(9)]
        );
        for expected in [Some(4), Some(3), None] {
            assert_eq!(pool.find(one, |_| true), expected);
            expected.into_iter().for_each(|connection| pool.remove(one, connection));
        }
        pool.remove(two, 9);
        assert_eq!((pool.top(two), pool.len(two), pool.endpoints().count()), (None, 0, 0));
    }
}
