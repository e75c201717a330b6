//! Cost of recording a latency, of merging and of a quantile. Checks its counts. Not here: the load generator's loop.

// Its own file, which is private to the generator's binary.
#[allow(dead_code, unused_imports, reason = "the generator uses the rest, and its tests")]
#[path = "../loadtest/src/histogram.rs"]
mod histogram;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use histogram::Histogram;

/// Latencies from 10 µs to 10 ms, most of them short.
fn latency(turn: u64) -> Duration {
    let scattered = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    Duration::from_nanos(10_000 + scattered * scattered / 110_000)
}

fn record(criterion: &mut Criterion) {
    let (mut latencies, mut turn) = (Histogram::new(), 0);
    criterion.bench_function("histogram/record", |bencher| {
        bencher.iter(|| {
            turn += 1;
            latencies.record(black_box(latency(turn)));
        });
    });
    assert_eq!(latencies.count(), turn, "each is counted");
}

fn sum_up(criterion: &mut Criterion) {
    let mut part = Histogram::new();
    (0..100_000).for_each(|turn| part.record(latency(turn)));
    let exact = {
        let mut all: Vec<Duration> = (0..100_000).map(latency).collect();
        all.sort_unstable();
        all[98_999]
    };
    let found = part.quantile(0.99);
    assert!(found >= exact && found <= exact + exact / 500, "p99 is {exact:?}, not {found:?}");
    let mut sum = Histogram::new();
    criterion.bench_function("histogram/merge", |bencher| bencher.iter(|| sum.merge(black_box(&part))));
    assert_eq!(sum.count() % part.count(), 0);
    criterion.bench_function("histogram/p99", |bencher| bencher.iter(|| black_box(&part).quantile(0.99)));
}

criterion_group!(benches, record, sum_up);
criterion_main!(benches);
