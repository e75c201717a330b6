//! What workers count of the exchanges of one route: how many, by what they were, and how long they have taken. A route has it for as
//! long as its name is known. Not here: names (`snapshot`, `control`).

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Counter;
use super::histogram::{Distribution, Histograms, Span};
use crate::limits::ROUTE_SERIES;

/// What an exchange is counted by, besides its route. Names have numbers that are never given to others, so that counts stay what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// Number of the listener's name, below 4,096.
    pub listener: u16,
    /// Number of the cluster's name, below 2^24; [`NO_CLUSTER`]: none was chosen.
    pub cluster: u32,
    /// The method as a number below 15; [`NO_METHOD`]: the head could not be read.
    pub method: u8,
    /// The status of the response, below 1,024; 0: there was none.
    pub status: u16,
}

/// Instead of the number of a cluster: none was chosen.
pub const NO_CLUSTER: u32 = 0;
/// Instead of a method: the head could not be read.
pub const NO_METHOD: u8 = 15;

impl Series {
    /// All of it in one number other than 0.
    #[inline]
    fn pack(self) -> u64 {
        let Self { listener, cluster, method, status } = self;
        let status = u64::from(status & 0x3ff);
        1 << 63
            | u64::from(cluster & 0xff_ffff) << 28
            | u64::from(listener & 0xfff) << 16
            | status << 4
            | u64::from(method & 15)
    }

    fn unpack(packed: u64) -> Self {
        Self {
            listener: (packed >> 16 & 0xfff) as u16,
            cluster: (packed >> 28 & 0xff_ffff) as u32,
            method: (packed & 15) as u8,
            status: (packed >> 4 & 0x3ff) as u16,
        }
    }
}

/// What one worker counts of one route. It alone writes.
#[derive(Debug)]
pub struct RouteCells {
    /// Packed [`Series`], each where its hash says or in the next free place; 0: free.
    keys: [AtomicU64; ROUTE_SERIES],
    /// By position in `keys`.
    counts: [Counter; ROUTE_SERIES],
    /// Exchanges for whose series there was no place.
    overflow: Counter,
    /// How long exchanges have taken.
    pub times: Histograms,
}

impl Default for RouteCells {
    fn default() -> Self {
        Self {
            keys: array::from_fn(|_| AtomicU64::new(0)),
            counts: array::from_fn(|_| Counter::default()),
            overflow: Counter::default(),
            times: Histograms::default(),
        }
    }
}

impl RouteCells {
    /// Counts an exchange; for the writing thread only.
    #[inline]
    pub fn count(&self, series: Series) {
        let key = series.pack();
        // Multiplicative hashing: the high bits depend on all.
        let first = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - ROUTE_SERIES.ilog2())) as usize;
        for step in 0..ROUTE_SERIES {
            let at = (first + step) % ROUTE_SERIES;
            let found = self.keys[at].load(Ordering::Relaxed);
            if found == key {
                return self.counts[at].add(1);
            }
            if found == 0 {
                self.counts[at].set(1);
                // Who sees the key sees its count.
                return self.keys[at].store(key, Ordering::Release);
            }
        }
        self.overflow.add(1);
    }

    /// All series and their counts.
    pub fn counts(&self) -> impl Iterator<Item = (Series, u64)> {
        let keys = self.keys.iter().map(|key| key.load(Ordering::Acquire));
        let counted = keys.zip(&self.counts).filter(|(key, _)| *key != 0);
        counted.map(|(key, count)| (Series::unpack(key), count.get()))
    }

    /// Exchanges for whose series there was no place.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.overflow.get()
    }
}

/// What all workers count of one route.
#[derive(Debug)]
pub struct RouteStats {
    /// By worker.
    cells: Box<[Arc<RouteCells>]>,
}

impl Default for RouteStats {
    fn default() -> Self {
        Self::new(1)
    }
}

impl RouteStats {
    /// That of a route of which nothing was counted yet, for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { cells: std::iter::repeat_with(Arc::default).take(workers.max(1)).collect() }
    }

    /// What a worker counts.
    #[must_use]
    pub fn of(&self, worker: usize) -> &Arc<RouteCells> {
        &self.cells[worker % self.cells.len()]
    }

    /// What each worker counts.
    pub fn workers(&self) -> impl Iterator<Item = &RouteCells> {
        self.cells.iter().map(|cells| &**cells)
    }

    /// Whether any time was counted of a span.
    #[must_use]
    pub fn has(&self, span: Span) -> bool {
        self.workers().any(|cells| cells.times.has(span))
    }

    /// How long a part of all exchanges has taken.
    #[must_use]
    pub fn times(&self, span: Span) -> Distribution {
        let mut sum = Distribution::default();
        let counted = self.workers().filter(|cells| cells.times.has(span));
        counted.for_each(|cells| cells.times.add_to(span, &mut sum));
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn series_are_told_apart_and_counted_exactly() {
        let parts =
            [(0, NO_CLUSTER, NO_METHOD, 0), (4095, 0xff_ffff, 9, 999), (1, 2, 0, 200), (1, 2, 0, 204), (2, 2, 1, 200)];
        let series = parts.map(|(listener, cluster, method, status)| Series { listener, cluster, method, status });
        let cells = RouteCells::default();
        for (series, times) in series.iter().zip(1..) {
            (0..times).for_each(|_| cells.count(*series));
        }
        let counted: BTreeMap<_, _> = cells.counts().collect();
        assert_eq!(counted, series.into_iter().zip(1..).collect());
        assert_eq!(cells.overflow(), 0);
    }

    #[test]
    fn what_finds_no_place_is_counted_as_such() {
        let cells = RouteCells::default();
        for status in 0..ROUTE_SERIES as u16 + 7 {
            cells.count(Series { listener: 0, cluster: 1, method: 0, status });
        }
        cells.count(Series { listener: 0, cluster: 1, method: 0, status: 3 });
        assert_eq!(cells.counts().map(|(_, count)| count).sum::<u64>(), ROUTE_SERIES as u64 + 1);
        assert_eq!(cells.overflow(), 7);
    }
}
