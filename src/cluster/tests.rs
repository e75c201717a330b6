//! Distribution of each policy, with fixed seeds.

use super::*;
use crate::runtime::Bell;

/// A balancer and the turns of one snapshot.
pub(super) struct Chooser {
    pub(super) balancer: Balancer,
    views: ClusterViews,
}

impl Chooser {
    pub(super) fn new(clusters: &[Cluster], seed: u64) -> Self {
        let mut balancer = Balancer::new(0, seed);
        balancer.apply(clusters);
        let views = ClusterViews::new(clusters, &mut balancer);
        Self { balancer, views }
    }

    pub(super) fn pick(&mut self, cluster: &Cluster, tried: &Tried) -> Option<EndpointId> {
        self.prefer(cluster, tried, Preference::default())
    }

    pub(super) fn prefer(&mut self, cluster: &Cluster, tried: &Tried, preference: Preference) -> Option<EndpointId> {
        self.balancer.pick(cluster, &self.views, tried, preference, false)
    }

    pub(super) fn in_flight(&self, endpoint: u32) -> u32 {
        self.balancer.state(EndpointId(endpoint)).unwrap().in_flight()
    }
}

/// A cluster whose endpoints have these weights; ids and ports are their positions.
pub(super) fn cluster(balance: Balance, weights: &[u16]) -> Vec<Cluster> {
    let endpoints: Vec<_> = weights.iter().zip(0..).map(|(weight, at)| (at, *weight, "")).collect();
    cluster_of(balance, &endpoints, None)
}

/// A cluster of endpoints with these ids, weights and zones, for a proxy in a zone.
pub(super) fn cluster_of(balance: Balance, endpoints: &[(u16, u16, &str)], zone: Option<&str>) -> Vec<Cluster> {
    let endpoint = |&(at, weight, zone): &(u16, u16, &str)| EndpointSpec {
        name: format!("127.0.0.1:{}", 9000 + at),
        host: format!("127.0.0.1:{}", 9000 + at),
        address: format!("127.0.0.1:{}", 9000 + at).parse().unwrap(),
        others: Vec::new(),
        tls_name: None,
        weight,
        backup: false,
        zone: (!zone.is_empty()).then(|| zone.to_owned()),
    };
    let second = Duration::from_secs(1);
    let spec = ClusterSpec {
        host: "localhost".into(),
        name: "test".into(),
        tls: None,
        endpoints: endpoints.iter().map(endpoint).collect(),
        proxy_protocol: None,
        http2: None,
        balance,
        max_idle: 1,
        idle: second,
        connect_timeout: second,
        response_timeout: second,
        abort_on_close: false,
        outlier: OutlierSpec::OFF,
        health: None,
        panic_threshold: 0.5,
        slow_start: Duration::ZERO,
        limits: LimitsSpec::NONE,
        hash_on: None,
        affinity: Some(AffinitySpec { cookie: "lb".into(), ttl: Some(Duration::from_secs(60)) }),
        zone: zone.map(str::to_owned),
    };
    let known = |id: u32| (EndpointId(id), Arc::new(EndpointState::new(1)));
    let known: Vec<_> = endpoints.iter().map(|endpoint| known(endpoint.0.into())).collect();
    vec![Cluster::build(ClusterId(0), &spec, ClusterState::new(0, 1, 1, Bell::default()), &known)]
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
fn random_and_idle_policies_of_two_follow_weights() {
    for balance in [Balance::Random, Balance::LeastRequest, Balance::PeakEwma] {
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
    assert_eq!(chooser.in_flight(0), 0);
    assert_eq!(chooser.in_flight(1), 0);
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
        let count = f64::from(chooser.in_flight(endpoint));
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
    tried.remove(EndpointId(1));
    tried.insert(EndpointId(9));
    let known: Vec<_> = (0..10).filter(|id| tried.contains(EndpointId(*id))).collect();
    assert_eq!(known, [0, 2, 3, 9]);
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

fn hold(endpoints: &[Endpoint], hold: Hold) {
    endpoints.iter().for_each(|endpoint| _ = endpoint.state.set(hold, true));
}

/// Each endpoint by its number of picks among 6,000, after a change of the states.
fn picked_after(weights: &[u16], backups: &[usize], change: impl Fn(&[Endpoint])) -> (Level, Vec<usize>) {
    let mut clusters = cluster(Balance::Random, weights);
    let endpoints = &mut clusters[0].endpoints;
    backups.iter().for_each(|at| endpoints[*at].backup = true);
    let primaries = endpoints.iter().filter(|endpoint| !endpoint.backup);
    clusters[0].shares = Shares::new(primaries.map(|endpoint| (endpoint.id, u32::from(endpoint.weight))));
    let mut chooser = Chooser::new(&clusters, 11);
    assert!(chooser.pick(&clusters[0], &Tried::default()).is_some());
    change(&clusters[0].endpoints);
    clusters[0].state.change();
    let picks: Vec<_> =
        (0..6000).filter_map(|_| chooser.pick(&clusters[0], &Tried::default())).map(EndpointId::index).collect();
    (Selection::of(&clusters[0]).level, counts(&picks, weights.len()))
}

#[test]
fn what_is_held_gets_no_traffic_while_enough_are_usable() {
    type Change = fn(&[Endpoint]);
    type Case = (&'static str, &'static [u16], &'static [usize], Change, Level, [usize; 4]);
    let cases: [Case; 11] = [
        ("all well", &[1, 1, 1], &[], |_| {}, Level::Primary, [2000, 2000, 2000, 0]),
        ("one down", &[1, 1, 1], &[], |it| hold(&it[..1], Hold::Down), Level::Primary, [0, 3000, 3000, 0]),
        ("half ejected", &[1, 1], &[], |it| hold(&it[..1], Hold::Ejected), Level::Primary, [0, 6000, 0, 0]),
        ("two of three down", &[1, 1, 1], &[], |it| hold(&it[..2], Hold::Down), Level::Panic, [2000, 2000, 2000, 0]),
        ("two drained", &[1, 1, 1], &[], |it| hold(&it[..2], Hold::Drained), Level::Primary, [0, 0, 6000, 0]),
        ("a backup rests", &[1, 1, 1], &[2], |_| {}, Level::Primary, [3000, 3000, 0, 0]),
        ("a backup stands in", &[1, 1, 1], &[2], |it| hold(&it[..2], Hold::Down), Level::Backup, [0, 0, 6000, 0]),
        ("a backup joins", &[1, 1, 1, 2], &[3], |it| hold(&it[..2], Hold::Down), Level::Backup, [0, 0, 2000, 4000]),
        ("another weight", &[1, 1], &[], |it| it[0].state.set_weight(Some(5)), Level::Primary, [5000, 1000, 0, 0]),
        ("a weight of 0", &[1, 1], &[], |it| it[0].state.set_weight(Some(0)), Level::Primary, [0, 6000, 0, 0]),
        ("a part of it", &[1, 1], &[], |it| _ = it[0].state.set_ramp(RAMP / 4), Level::Primary, [1200, 4800, 0, 0]),
    ];
    for (what, weights, backups, change, level, expected) in cases {
        let (found, picked) = picked_after(weights, backups, change);
        assert_eq!(found, level, "{what}");
        for (count, expected) in picked.iter().zip(expected) {
            assert!(count.abs_diff(expected) <= 200, "{what}: {picked:?} for {expected:?}");
            assert!(expected > 0 || *count == 0, "{what}: {picked:?}");
        }
    }
}

/// Two endpoints, of which the first is ejected and may be tried by one request.
fn probing(seed: u64) -> (Vec<Cluster>, Chooser) {
    let clusters = cluster(Balance::RoundRobin, &[1, 1]);
    let chooser = Chooser::new(&clusters, seed);
    let ejected = &clusters[0].endpoints[0].state;
    ejected.set(Hold::Probing, true);
    ejected.open_probe();
    clusters[0].state.change();
    (clusters, chooser)
}

#[test]
fn one_request_is_a_probe() {
    let (clusters, mut chooser) = probing(1);
    let state = &clusters[0].endpoints[0].state;
    let tried = Tried::default();
    let mut pick = |probe| {
        let picked =
            chooser.balancer.pick(&clusters[0], &chooser.views, &tried, Preference::default(), probe).unwrap().index();
        (picked, chooser.balancer.probe())
    };
    let (first, probe) = ([pick(false), pick(false)], pick(true));
    assert_eq!(first, [(1, None); 2]);
    assert_eq!(probe.0, 0);
    assert_eq!([pick(true), pick(true)], [(1, None); 2]);
    assert_eq!(state.probe().stage, ProbeStage::Taken);
    // It says nothing of the endpoint, so that another one is sent.
    chooser.balancer.end_probe(probe.1.unwrap(), None);
    let mut pick = || {
        let picked =
            chooser.balancer.pick(&clusters[0], &chooser.views, &tried, Preference::default(), true).unwrap().index();
        (picked, chooser.balancer.probe())
    };
    let (again, another) = pick();
    assert_eq!((again, pick()), (0, (1, None)));
    // The first one is over, and what is seen of others is not seen of the probe.
    chooser.balancer.end_probe(probe.1.unwrap(), Some(Outcome::Answered));
    chooser.balancer.observe(EndpointId(0), Outcome::Answered);
    assert_eq!(state.probe().stage, ProbeStage::Taken);
    chooser.balancer.end_probe(another.unwrap(), Some(Outcome::Failed));
    assert_eq!(state.probe().stage, ProbeStage::Failed);
    state.close_probe();
    assert_eq!(state.take_probe(), None);
}

#[test]
fn what_is_held_for_another_reason_gets_no_probe() {
    type Change = fn(&EndpointState);
    let changes: [(Change, usize); 5] = [
        (|_| (), 0),
        (|state| _ = state.set(Hold::Ejected, true), 0),
        (|state| _ = state.set(Hold::Drained, true), 1),
        (|state| _ = state.set(Hold::Down, true), 1),
        (|state| state.set_weight(Some(0)), 1),
    ];
    for (change, expected) in changes {
        let (clusters, mut chooser) = probing(1);
        change(&clusters[0].endpoints[0].state);
        clusters[0].state.change();
        let picked =
            chooser.balancer.pick(&clusters[0], &chooser.views, &Tried::default(), Preference::default(), true);
        assert_eq!(picked, Some(EndpointId(expected as u32)));
    }
}

#[test]
fn a_request_that_has_failed_is_no_probe() {
    let (clusters, mut chooser) = probing(1);
    let mut tried = Tried::default();
    tried.insert(EndpointId(0));
    let picked = chooser.balancer.pick(&clusters[0], &chooser.views, &tried, Preference::default(), true);
    assert_eq!(picked, Some(EndpointId(1)));
}

#[test]
fn failures_in_a_row_are_counted_over_all_workers() {
    let state = EndpointState::new(2);
    let streaks = [(0, Outcome::Failed), (1, Outcome::Failed), (0, Outcome::Answered), (1, Outcome::Failed)]
        .map(|(worker, outcome)| state.observe(worker, outcome, Duration::ZERO));
    assert_eq!((streaks, state.outcomes()), ([1, 2, 0, 1], (1, 3)));
}

#[test]
fn what_a_failure_has_asked_for_ends_with_the_next_answer() {
    let state = EndpointState::new(1);
    state.note_retry_after(250);
    state.observe(0, Outcome::Failed, Duration::ZERO);
    state.observe(0, Outcome::Failed, Duration::ZERO);
    assert_eq!(state.take_retry_after(), 250);
    state.note_retry_after(250);
    state.observe(0, Outcome::Failed, Duration::ZERO);
    state.observe(0, Outcome::Answered, Duration::ZERO);
    state.observe(0, Outcome::Failed, Duration::ZERO);
    assert_eq!(state.take_retry_after(), 0);
}

#[test]
fn sums_of_weights_fit() {
    let many = (0..100_000).map(|id| (EndpointId(id), 65_535 * 16 - id % 2));
    let shares = Shares::new(many);
    assert_eq!(shares.list().len(), 100_000);
    assert!(shares.total() < u32::MAX / 2 + 100_000);
}

#[test]
fn who_has_stopped_answering_is_not_taken_for_idle() {
    let clusters = cluster(Balance::LeastRequest, &[1, 1]);
    let mut chooser = Chooser::new(&clusters, 3);
    for endpoint in [0, 1, 1] {
        chooser.balancer.begin(EndpointId(endpoint));
        chooser.balancer.owe(EndpointId(endpoint));
    }
    chooser.balancer.turn(Duration::from_secs(1));
    chooser.balancer.observe(EndpointId(1), Outcome::Answered);
    let picks: Vec<_> = (0..20).map(|_| chooser.pick(&clusters[0], &Tried::default())).collect();
    assert_eq!(picks, [Some(EndpointId(1)); 20]);
}

/// One of three endpoints becomes twenty times slower, then as fast as before.
#[test]
fn peak_ewma_leaves_a_slow_endpoint_and_comes_back() {
    let clusters = cluster(Balance::PeakEwma, &[1, 1, 1]);
    let mut chooser = Chooser::new(&clusters, 9);
    let (mut now, mut picked) = (Duration::from_secs(1), [[0; 3]; 3]);
    let phases = [5, 100, 5].map(Duration::from_millis);
    for (phase, slow) in phases.into_iter().enumerate() {
        for _ in 0..20_000 {
            now += Duration::from_millis(5);
            chooser.balancer.turn(now);
            let endpoint = chooser.pick(&clusters[0], &Tried::default()).unwrap();
            chooser.balancer.measure(endpoint, if endpoint.0 == 1 { slow } else { phases[0] });
            picked[phase][endpoint.index()] += 1;
        }
    }
    let share = |phase: usize| f64::from(picked[phase][1]) / 20_000.0;
    assert!((0.3..0.37).contains(&share(0)), "{picked:?}");
    assert!(share(1) < 0.01, "{picked:?}");
    assert!(share(2) > 0.1, "{picked:?}");
}

/// Where nothing is owed, as in a tunnel, a download or a slow upload, an attempt weighs the same however long it lasts.
#[test]
fn what_lasts_long_by_itself_keeps_nobody_away() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let clusters = cluster(balance, &[1, 1]);
        let mut chooser = Chooser::new(&clusters, 3);
        chooser.balancer.begin(EndpointId(0));
        chooser.balancer.owe(EndpointId(0));
        chooser.balancer.settle(EndpointId(0));
        let mut picked = [0; 2];
        for second in 1..1000 {
            chooser.balancer.turn(Duration::from_secs(second));
            let endpoint = chooser.pick(&clusters[0], &Tried::default()).unwrap();
            picked[endpoint.index()] += 1;
            chooser.balancer.begin(endpoint);
            // Two more are under way at the other one.
            if picked[1] <= 2 && endpoint.0 == 1 {
                continue;
            }
            chooser.balancer.end(endpoint);
        }
        assert!(picked[0] > 300, "{balance:?}: {picked:?}");
    }
}

#[test]
fn who_fails_at_once_is_not_taken_for_idle_and_tried_again_after_a_while() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let clusters = cluster(balance, &[1, 1]);
        let mut chooser = Chooser::new(&clusters, 3);
        let (sick, well) = (EndpointId(0), EndpointId(1));
        (0..5).for_each(|_| chooser.balancer.begin(well));
        chooser.balancer.turn(Duration::from_millis(10_000));
        chooser.balancer.observe(sick, Outcome::Failed);
        for age in [0, 100, 400] {
            chooser.balancer.turn(Duration::from_millis(10_000 + age));
            assert_eq!(chooser.pick(&clusters[0], &Tried::default()), Some(well), "{balance:?} {age}");
        }
        chooser.balancer.turn(Duration::from_millis(11_000));
        assert_eq!(chooser.pick(&clusters[0], &Tried::default()), Some(sick), "{balance:?}");
    }
}
