//! Distribution of each policy, with fixed seeds.

use super::*;

/// A balancer and the turns of one snapshot.
struct Chooser {
    balancer: Balancer,
    rounds: RoundRobinState,
}

impl Chooser {
    fn new(clusters: &[Cluster], seed: u64) -> Self {
        let mut balancer = Balancer::new(seed);
        balancer.reserve(clusters.iter().map(|cluster| cluster.endpoints.len()).sum());
        let rounds = RoundRobinState::new(clusters, &mut balancer);
        Self { balancer, rounds }
    }

    fn pick(&mut self, cluster: &Cluster, tried: &Tried) -> Option<EndpointId> {
        self.balancer.pick(cluster, &self.rounds, tried)
    }
}

fn cluster(balance: Balance, weights: &[u16]) -> Vec<Cluster> {
    let endpoint = |(at, weight): (usize, &u16)| EndpointSpec {
        address: format!("127.0.0.1:{}", 9000 + at).parse().unwrap(),
        others: Vec::new(),
        tls_name: None,
        weight: *weight,
    };
    let second = Duration::from_secs(1);
    let spec = ClusterSpec {
        host: "localhost".into(),
        name: "test".into(),
        tls: None,
        endpoints: weights.iter().enumerate().map(endpoint).collect(),
        balance,
        max_idle: 1,
        idle: second,
        connect_timeout: second,
        response_timeout: second,
        abort_on_close: false,
    };
    let ids: Vec<_> = (0..weights.len() as u32).map(EndpointId).collect();
    vec![Cluster::build(ClusterId(0), &spec, &ids)]
}

fn picks(balance: Balance, weights: &[u16], count: usize) -> Vec<usize> {
    let clusters = cluster(balance, weights);
    let mut chooser = Chooser::new(&clusters, 7);
    (0..count).map(|_| chooser.pick(&clusters[0], &Tried::default()).unwrap().index()).collect()
}

fn counts(picks: &[usize], endpoints: usize) -> Vec<usize> {
    (0..endpoints).map(|endpoint| picks.iter().filter(|pick| **pick == endpoint).count()).collect()
}

#[test]
fn round_robin_is_exact_in_each_round() {
    for weights in [&[1, 1, 1][..], &[5, 1, 1], &[3, 2], &[10, 20, 30], &[1, 0, 2], &[65_535, 1], &[997, 991, 13]] {
        let divisor = if weights == [10, 20, 30] { 10 } else { 1 };
        let expected: Vec<usize> = weights.iter().map(|weight| usize::from(*weight) / divisor).collect();
        let round = expected.iter().sum();
        let picks = picks(Balance::RoundRobin, weights, 3 * round);
        for part in picks.chunks(round) {
            assert_eq!(counts(part, weights.len()), expected, "{weights:?}");
        }
    }
}

#[test]
fn round_robin_keeps_file_order_for_equal_weights() {
    let picks = picks(Balance::RoundRobin, &[4, 4, 4], 9);
    assert!(picks.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3), "{picks:?}");
}

#[test]
fn round_robin_is_smooth() {
    for weights in [&[50, 50, 1][..], &[3, 2], &[60, 40], &[20, 10, 5], &[7, 5, 3, 1], &[97, 2]] {
        let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let picks = picks(Balance::RoundRobin, weights, 2 * total);
        // In every window an endpoint is within two picks of its share.
        for length in 1..=total {
            for window in picks.windows(length) {
                for (endpoint, weight) in weights.iter().enumerate() {
                    let share = (length * usize::from(*weight)) as f64 / total as f64;
                    let count = window.iter().filter(|pick| **pick == endpoint).count() as f64;
                    assert!((count - share).abs() <= 2.5, "{weights:?}: {count} for {share} in {window:?}");
                }
            }
        }
    }
}

#[test]
fn workers_do_not_march_in_step() {
    let clusters = cluster(Balance::RoundRobin, &[1; 16]);
    let firsts = (0..16).map(|seed| Chooser::new(&clusters, seed).pick(&clusters[0], &Tried::default()).unwrap());
    let mut firsts: Vec<_> = firsts.collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() >= 8, "{firsts:?}");
}

#[test]
fn random_and_idle_least_request_follow_weights() {
    for balance in [Balance::Random, Balance::LeastRequest] {
        for weights in [&[1, 1, 1, 1][..], &[1, 2, 3, 4], &[0, 9, 1], &[2, 1]] {
            let picks = picks(balance, weights, 100_000);
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (count, weight) in counts(&picks, weights.len()).into_iter().zip(weights) {
                let share = f64::from(*weight) / total;
                assert!((count as f64 / 1e5 - share).abs() < 0.01, "{balance:?} {weights:?}: {count} for {share}");
            }
        }
    }
}

#[test]
fn least_request_prefers_the_less_busy() {
    let clusters = cluster(Balance::LeastRequest, &[1, 1]);
    let mut chooser = Chooser::new(&clusters, 3);
    chooser.balancer.begin(EndpointId(0));
    for _ in 0..100 {
        assert_eq!(chooser.pick(&clusters[0], &Tried::default()), Some(EndpointId(1)));
    }
    chooser.balancer.begin(EndpointId(1));
    chooser.balancer.begin(EndpointId(1));
    assert_eq!(chooser.pick(&clusters[0], &Tried::default()), Some(EndpointId(0)));
    chooser.balancer.end(EndpointId(0));
    chooser.balancer.end(EndpointId(1));
    chooser.balancer.end(EndpointId(1));
    assert_eq!(chooser.balancer.in_flight(EndpointId(0)), 0);
    assert_eq!(chooser.balancer.in_flight(EndpointId(1)), 0);
}

#[test]
fn least_request_fills_by_weight() {
    let clusters = cluster(Balance::LeastRequest, &[1, 2, 5]);
    let mut chooser = Chooser::new(&clusters, 3);
    for _ in 0..8000 {
        let endpoint = chooser.pick(&clusters[0], &Tried::default()).unwrap();
        chooser.balancer.begin(endpoint);
    }
    for (endpoint, weight) in [(0, 1000.0), (1, 2000.0), (2, 5000.0)] {
        let count = f64::from(chooser.balancer.in_flight(EndpointId(endpoint)));
        assert!((count / weight - 1.0).abs() < 0.02, "{endpoint}: {count}");
    }
}

#[test]
fn tried_endpoints_are_avoided_while_another_exists() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
        let clusters = cluster(balance, &[60_000, 60_000, 1, 0]);
        let mut chooser = Chooser::new(&clusters, 5);
        let mut tried = Tried::default();
        assert!(tried.is_empty());
        tried.insert(EndpointId(0));
        tried.insert(EndpointId(0));
        tried.insert(EndpointId(1));
        for _ in 0..100 {
            assert_eq!(chooser.pick(&clusters[0], &tried), Some(EndpointId(2)), "{balance:?}");
        }
        tried.insert(EndpointId(2));
        assert!(chooser.pick(&clusters[0], &tried).is_some_and(|endpoint| endpoint.0 < 3), "{balance:?}");
    }
}

#[test]
fn a_full_set_forgets_no_earlier_endpoint() {
    let mut tried = Tried::default();
    (0..6).for_each(|id| tried.insert(EndpointId(id)));
    let known: Vec<_> = (0..6).filter(|id| tried.contains(EndpointId(*id))).collect();
    assert_eq!(known, [0, 1, 2, 3]);
}

#[test]
fn one_endpoint_is_always_picked_and_none_never() {
    for balance in [Balance::RoundRobin, Balance::Random, Balance::LeastRequest] {
        let clusters = cluster(balance, &[0, 3]);
        let mut tried = Tried::default();
        tried.insert(EndpointId(1));
        assert_eq!(Chooser::new(&clusters, 0).pick(&clusters[0], &tried), Some(EndpointId(1)));
        let clusters = cluster(balance, &[0, 0]);
        assert_eq!(Chooser::new(&clusters, 0).pick(&clusters[0], &Tried::default()), None);
    }
}
