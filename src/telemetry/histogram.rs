//! Histograms of how long the phases of exchanges have taken, in buckets so fine that a quantile is at most 2 % off. A worker writes its
//! own, and the control thread adds them up. Not here: which bounds are shown (`control`).

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::buffer::zeroed_counters;

/// A part of the time of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From the head of the request to the last byte queued of the response, as the client sees it; of what becomes a tunnel, to the head
    /// of its response.
    Total,
    /// What cairn itself has added: from when bytes were there to be read to when what follows from them was queued.
    Overhead,
    /// Waiting for a place at the cluster, of requests that have waited.
    Queue,
    /// Connecting to endpoints, TLS included, of requests that needed a new connection.
    Connect,
    /// From the request, queued whole for the endpoint, to the head of its response.
    FirstByte,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Total, Self::Overhead, Self::Queue, Self::Connect, Self::FirstByte];
}

/// Nanoseconds of the finest bucket, as a power of two.
const UNIT_BITS: u32 = 5;
/// Buckets of one octave, as a power of two: the middle of each is at most 1/64 off any value in it.
const STEP_BITS: u32 = 5;
/// Buckets of one octave.
const STEPS: usize = 1 << STEP_BITS;
/// Octaves: the first is linear, the last ends at 2^42 ns, more than an hour. What is longer counts there.
const OCTAVES: usize = 33;
/// Cells of all spans.
const CELLS: usize = OCTAVES * Span::ALL.len() * STEPS;

const _: () = assert!(STEPS >= 25, "the middle of a bucket may be 2 % off");

/// The histograms of one route on one worker: 42 KiB of addresses, of which those pages are resident that hold a value.
#[derive(Debug)]
pub struct Histograms {
    /// By octave, then by span, then by step, so that what a route needs lies on few pages.
    cells: Box<[AtomicU64]>,
    /// Nanoseconds, by span.
    sums: [AtomicU64; Span::ALL.len()],
}

impl Default for Histograms {
    fn default() -> Self {
        Self { cells: zeroed_counters(CELLS), sums: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Histograms {
    /// Counts a time; for the writing thread only.
    #[inline]
    pub fn record(&self, span: Span, time: Duration) {
        let nanoseconds = time.as_nanos() as u64;
        let (octave, step) = bucket(nanoseconds);
        let cell = (octave * Span::ALL.len() + span as usize) * STEPS + step;
        if let Some(cell) = self.cells.get(cell) {
            add(cell, 1);
        }
        add(&self.sums[span as usize], nanoseconds);
    }

    /// Whether anything was counted of a span. Tells that without a look at the cells, which may not be resident.
    #[must_use]
    pub fn has(&self, span: Span) -> bool {
        self.sums[span as usize].load(Ordering::Relaxed) > 0
    }

    /// Adds what was counted of a span.
    pub fn add_to(&self, span: Span, sum: &mut Distribution) {
        let of_span = |octave: &[AtomicU64]| -> [u64; STEPS] {
            let from = span as usize * STEPS;
            array::from_fn(|step| octave[from + step].load(Ordering::Relaxed))
        };
        for (octave, counts) in self.cells.chunks_exact(Span::ALL.len() * STEPS).zip(&mut sum.counts) {
            let read = of_span(octave);
            counts.iter_mut().zip(read).for_each(|(count, more)| *count += more);
        }
        sum.nanoseconds += u128::from(self.sums[span as usize].load(Ordering::Relaxed));
    }
}

/// Adds to a number that this thread alone writes.
#[inline]
fn add(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// Octave and step of a number of nanoseconds.
#[inline]
fn bucket(nanoseconds: u64) -> (usize, usize) {
    let units = (nanoseconds >> UNIT_BITS).min((1 << (OCTAVES as u32 + STEP_BITS - 1)) - 1);
    // The octave that the highest bit says, or the linear one.
    let octave = (units >> STEP_BITS).checked_ilog2().map_or(0, |bits| bits + 1);
    let step = (units >> octave.saturating_sub(1)) as usize % STEPS;
    (octave as usize, step)
}

/// The first nanosecond of a bucket.
fn lower_bound(octave: usize, step: usize) -> u64 {
    let units = if octave == 0 { step as u64 } else { ((STEPS + step) as u64) << (octave - 1) };
    units << UNIT_BITS
}

/// Nanoseconds in a bucket.
fn width(octave: usize) -> u64 {
    1 << (octave.saturating_sub(1) as u32 + UNIT_BITS)
}

/// How many buckets, from the first on, lie below a bound: those whose middle does.
fn buckets_below(bound: u64) -> usize {
    let (octave, step) = bucket(bound);
    let own = lower_bound(octave, step) + width(octave) / 2 < bound;
    octave * STEPS + step + usize::from(own)
}

/// Times of which only the buckets are known.
#[derive(Clone, Debug)]
pub struct Distribution {
    counts: [[u64; STEPS]; OCTAVES],
    nanoseconds: u128,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { counts: [[0; STEPS]; OCTAVES], nanoseconds: 0 }
    }
}

impl Distribution {
    /// Number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.as_flattened().iter().sum()
    }

    /// Their sum, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }

    /// How many of them are at most as long as each of `bounds`, which ascend. A bound counts as the end of a bucket that is next to it,
    /// at most 1/64 away.
    #[must_use]
    pub fn cumulative<const N: usize>(&self, bounds: &[Duration; N]) -> [u64; N] {
        let counts = self.counts.as_flattened();
        let (mut at, mut below) = (0, 0);
        bounds.map(|bound| {
            let end = buckets_below(bound.as_nanos() as u64);
            below += counts.get(at..end).unwrap_or_default().iter().sum::<u64>();
            at = end;
            below
        })
    }

    /// The time that a part of them, 0 to 1, does not exceed. None: there are none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((part * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let counts = self.counts.as_flattened().iter().enumerate();
        let mut reached = counts.filter(|(_, count)| **count > 0).map(|(at, count)| {
            below += count;
            (at, below)
        });
        let (at, _) = reached.find(|(_, below)| *below >= rank)?;
        let (octave, step) = (at / STEPS, at % STEPS);
        Some(Duration::from_nanos(lower_bound(octave, step) + width(octave) / 2))
    }

    /// Adds all that is in another one.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.counts.as_flattened_mut().iter_mut().zip(other.counts.as_flattened());
        pairs.for_each(|(count, more)| *count += more);
        self.nanoseconds += other.nanoseconds;
    }

    /// What was added since `before` was read.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        let pairs = since.counts.as_flattened_mut().iter_mut().zip(before.counts.as_flattened());
        pairs.for_each(|(count, before)| *count = count.saturating_sub(*before));
        since.nanoseconds = self.nanoseconds.saturating_sub(before.nanoseconds);
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(span: Span, times: &[Duration]) -> Distribution {
        let histograms = Histograms::default();
        times.iter().for_each(|time| histograms.record(span, *time));
        let mut sum = Distribution::default();
        histograms.add_to(span, &mut sum);
        sum
    }

    #[test]
    fn every_time_is_in_its_bucket() {
        let around = (0..42).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1, (1 << bits) / 3 * 4]);
        for nanoseconds in around.chain([0, 999, 1_000_000, 123_456_789]) {
            let (octave, step) = bucket(nanoseconds);
            let lower = lower_bound(octave, step);
            assert!(lower <= nanoseconds && nanoseconds < lower + width(octave), "{nanoseconds}: {octave} {step}");
        }
        for nanoseconds in [1 << 42, 1 << 50, u64::MAX] {
            assert_eq!(bucket(nanoseconds), (OCTAVES - 1, STEPS - 1), "{nanoseconds}");
        }
    }

    #[test]
    fn a_bound_is_the_end_that_is_next_to_it() {
        let middles: Vec<_> =
            (0..OCTAVES * STEPS).map(|at| lower_bound(at / STEPS, at % STEPS) + width(at / STEPS) / 2).collect();
        let around = middles.iter().flat_map(|middle| [middle - 1, *middle, middle + 1]);
        for bound in around.chain((0..63).map(|bits| 3 << bits >> 1)).chain([0, 1, u64::MAX]) {
            let expected = middles.iter().filter(|middle| **middle < bound).count();
            assert_eq!(buckets_below(bound), expected, "{bound}");
        }
    }

    #[test]
    fn quantiles_are_at_most_two_per_cent_off() {
        // From 1 µs to 20 minutes.
        let times: Vec<_> = (0..3000).map(|turn| Duration::from_secs_f64(1e-6 * 1.007f64.powi(turn))).collect();
        let sum = distribution(Span::Connect, &times);
        assert_eq!(sum.count(), 3000);
        for part in [0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = times[(part * 3000.0) as usize - 1].as_secs_f64();
            let found = sum.quantile(part).unwrap().as_secs_f64();
            assert!((found / exact - 1.0).abs() < 0.02, "{part}: {exact}, not {found}");
        }
        let exact: f64 = times.iter().map(Duration::as_secs_f64).sum();
        assert!((sum.seconds() / exact - 1.0).abs() < 1e-6);
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn spans_are_counted_apart_and_bounds_cumulate() {
        let histograms = Histograms::default();
        for (span, milliseconds) in [(Span::Total, 4), (Span::Total, 6), (Span::Total, 3_600_000), (Span::FirstByte, 1)]
        {
            histograms.record(span, Duration::from_millis(milliseconds));
        }
        let bounds = [5, 10, 1000].map(Duration::from_millis);
        let counted = Span::ALL.map(|span| {
            let mut sum = Distribution::default();
            histograms.add_to(span, &mut sum);
            (sum.cumulative(&bounds), sum.count())
        });
        assert_eq!(counted, [([1, 2, 2], 3), ([0; 3], 0), ([0; 3], 0), ([0; 3], 0), ([1, 1, 1], 1)]);
    }

    #[test]
    fn what_was_read_before_is_taken_off() {
        let histograms = Histograms::default();
        let read = || {
            let mut sum = Distribution::default();
            histograms.add_to(Span::Total, &mut sum);
            sum
        };
        histograms.record(Span::Total, Duration::from_millis(1));
        let before = read();
        histograms.record(Span::Total, Duration::from_secs(1));
        let since = read().since(&before);
        assert_eq!(since.count(), 1);
        let mut both = since.clone();
        both.add(&before);
        assert_eq!(both.count(), 2);
        assert!((since.quantile(0.5).unwrap().as_secs_f64() - 1.0).abs() < 0.02);
    }
}
