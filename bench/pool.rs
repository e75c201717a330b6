//! Cost of keeping idle connections. Each case checks its answers before it is timed. Not here: the connections.

use std::hint::black_box;

use cairn::id::EndpointId;
use cairn::pool::Pool;
use criterion::{Criterion, criterion_group, criterion_main};

const ENDPOINTS: u32 = 64;
const CONNECTIONS: u32 = 4096;

/// Connections spread over the endpoints in turn.
fn full() -> Pool {
    let mut pool = Pool::default();
    pool.reserve(ENDPOINTS as usize);
    (0..CONNECTIONS).for_each(|connection| pool.push(EndpointId(connection % ENDPOINTS), connection));
    pool
}

/// Takes the idle connection of an endpoint that was used last.
fn take(pool: &mut Pool, endpoint: EndpointId) -> Option<u32> {
    let connection = pool.top(endpoint)?;
    pool.remove(endpoint, connection);
    Some(connection)
}

/// A number below `below`, scattered.
fn scattered(turn: u32, below: u32) -> u32 {
    ((u64::from(turn.wrapping_mul(0x9e37_79b9)) * u64::from(below)) >> 32) as u32
}

fn reuse(criterion: &mut Criterion) {
    let mut pool = full();
    for endpoint in (0..ENDPOINTS).map(EndpointId) {
        let last = CONNECTIONS - ENDPOINTS + endpoint.0;
        assert_eq!((take(&mut pool, endpoint), pool.len(endpoint)), (Some(last), CONNECTIONS / ENDPOINTS - 1));
        pool.push(endpoint, last);
    }
    let mut turn = 0;
    criterion.bench_function("pool/take and put/64 endpoints, 4096 idle", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let endpoint = EndpointId(scattered(turn, ENDPOINTS));
            let connection = take(&mut pool, black_box(endpoint)).expect("an idle connection");
            pool.push(endpoint, connection);
            connection
        });
    });
}

fn age(criterion: &mut Criterion) {
    let mut pool = full();
    let mut turn = 0;
    criterion.bench_function("pool/remove and put/64 endpoints, 4096 idle", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let connection = scattered(turn, CONNECTIONS);
            let endpoint = EndpointId(connection % ENDPOINTS);
            pool.remove(black_box(endpoint), connection);
            pool.push(endpoint, connection);
        });
    });
    let mut left: Vec<u32> = (0..ENDPOINTS)
        .flat_map(|endpoint| std::iter::from_fn(|| take(&mut pool, EndpointId(endpoint))).collect::<Vec<_>>())
        .collect();
    left.sort_unstable();
    assert!(left.into_iter().eq(0..CONNECTIONS), "none is lost or doubled");
}

criterion_group!(benches, reuse, age);
criterion_main!(benches);
