//! Cost of picking an endpoint. Each case checks its choices before it is timed. Not here: routing, connecting.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cairn::cluster::{
    Balance, Balancer, Cluster, ClusterSpec, ClusterState, ClusterViews, EndpointSpec, EndpointState, LimitsSpec,
    OutlierSpec, Preference, Tried,
};
use cairn::id::{ClusterId, EndpointId};
use cairn::runtime::Bell;
use criterion::{Criterion, criterion_group, criterion_main};

fn pick(criterion: &mut Criterion) {
    let endpoint = |at: usize, even: bool| EndpointSpec {
        name: format!("127.0.0.1:{}", 9000 + at),
        host: format!("127.0.0.1:{}", 9000 + at),
        address: format!("127.0.0.1:{}", 9000 + at).parse().expect("valid address"),
        others: Vec::new(),
        tls_name: None,
        weight: if even { 1 } else { 1 + at as u16 },
        backup: false,
        zone: None,
    };
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
        for (case, count, even) in [("1", 1, true), ("64", 64, true), ("64 weighted", 64, false)] {
            let spec = ClusterSpec {
                host: "localhost".into(),
                name: "c".into(),
                tls: None,
                http2: None,
                endpoints: (0..count).map(|at| endpoint(at, even)).collect(),
                proxy_protocol: None,
                balance,
                max_idle: 1,
                idle: Duration::ZERO,
                connect_timeout: Duration::ZERO,
                response_timeout: Duration::ZERO,
                abort_on_close: false,
                outlier: OutlierSpec::OFF,
                health: None,
                panic_threshold: 0.5,
                slow_start: Duration::ZERO,
                limits: LimitsSpec::NONE,
                hash_on: None,
                affinity: None,
                zone: None,
            };
            let known = |id: u32| (EndpointId(id), Arc::new(EndpointState::new(1)));
            let known: Vec<_> = (0..count as u32).map(known).collect();
            let clusters = [Cluster::build(ClusterId(0), &spec, ClusterState::new(0, 1, 1, Bell::default()), &known)];
            let mut balancer = Balancer::new(0, 1);
            balancer.apply(&clusters);
            let turns = ClusterViews::new(&clusters, &mut balancer);
            check(&mut balancer, &turns, &clusters[0], count, even, &format!("{balance:?}/{case}"));
            criterion.bench_function(&format!("cluster/pick/{balance:?}/{case}"), |bencher| {
                bencher.iter(|| {
                    let picked = pick_one(&mut balancer, black_box(&clusters[0]), &turns);
                    balancer.begin(picked);
                    balancer.end(picked);
                    picked
                });
            });
        }
    }
}

fn pick_one(balancer: &mut Balancer, cluster: &Cluster, turns: &ClusterViews) -> EndpointId {
    balancer.pick(cluster, turns, &Tried::default(), Preference::default(), false).expect("an endpoint")
}

/// Every endpoint is picked, in proportion to its weight within a half.
fn check(balancer: &mut Balancer, turns: &ClusterViews, cluster: &Cluster, count: usize, even: bool, case: &str) {
    let mut picks = vec![0u32; count];
    for _ in 0..1000 * count {
        let picked = pick_one(balancer, cluster, turns);
        picks[picked.index()] += 1;
    }
    let weights: u32 = if even { count as u32 } else { (1..=count as u32).sum() };
    for (at, picks) in picks.into_iter().enumerate() {
        let expected = 1000 * count as u32 * if even { 1 } else { at as u32 + 1 } / weights;
        assert!(picks.abs_diff(expected) <= expected / 2 + 10, "{case}: endpoint {at}: {picks}, not {expected}");
    }
}

criterion_group!(benches, pick);
criterion_main!(benches);
