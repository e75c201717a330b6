//! Each policy against bounds that are computed: how evenly it distributes, how little moves when endpoints change, how soon it follows
//! what it measures. Fixed seeds and keys.

use std::collections::HashMap;

use super::hash::again;
use super::tests::{Chooser, cluster, cluster_of};
use super::*;

const KEYED: [Balance; 2] = [Balance::RingHash, Balance::Maglev];

fn keyed(number: u64) -> Preference {
    Preference { key: Some(again(number, 77)), endpoint: None }
}

/// The endpoint of each of so many keys.
fn owners(clusters: &[Cluster], keys: u64) -> Vec<u32> {
    let mut chooser = Chooser::new(clusters, 1);
    (0..keys).map(|key| chooser.prefer(&clusters[0], &Tried::default(), keyed(key)).unwrap().0).collect()
}

fn moved(before: &[u32], after: &[u32]) -> f64 {
    before.iter().zip(after).filter(|(before, after)| before != after).count() as f64 / before.len() as f64
}

#[test]
fn shares_are_those_of_the_weights() {
    const PICKS: u64 = 100_000;
    let cases: [&[u16]; 6] = [&[1, 1], &[1; 10], &[1, 2, 3, 4], &[5, 1, 1], &[1; 100], &[0, 9, 1]];
    for balance in [
        Balance::RoundRobin,
        Balance::Random,
        Balance::LeastRequest,
        Balance::PeakEwma,
        Balance::RingHash,
        Balance::Maglev,
    ] {
        for weights in cases {
            let clusters = cluster(balance, weights);
            let mut chooser = Chooser::new(&clusters, 5);
            let mut counts = vec![0.0; weights.len()];
            for key in 0..PICKS {
                let picked = chooser.prefer(&clusters[0], &Tried::default(), keyed(key)).unwrap();
                counts[picked.index()] += 1.0;
            }
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (count, weight) in counts.iter().zip(weights) {
                let share = f64::from(*weight) / total;
                // Standard deviations: of a fair draw; of a ring, whose points have exponential distances, besides.
                let drawn = (PICKS as f64 * share * (1.0 - share)).sqrt();
                let deviation = match balance {
                    Balance::RoundRobin => 0.5,
                    Balance::RingHash => {
                        drawn.hypot(PICKS as f64 * share / (512.0 * f64::from(*weight).max(1.0)).sqrt())
                    }
                    _ => drawn,
                };
                let error = (count - PICKS as f64 * share).abs();
                assert!(error <= 5.0 * deviation, "{balance:?} {weights:?}: {count} for {}", PICKS as f64 * share);
            }
        }
    }
}

/// Keys move to endpoints whose share has grown, and hardly any others do.
#[test]
fn few_keys_move_when_the_configuration_changes() {
    const KEYS: u64 = 50_000;
    let of = |endpoints: &[(u16, u16)]| -> Vec<_> { endpoints.iter().map(|(id, weight)| (*id, *weight, "")).collect() };
    let ten = || (0..10).map(|id| (id, 1)).collect::<Vec<_>>();
    let without: Vec<_> = ten().into_iter().filter(|(id, _)| *id != 4).collect();
    let more: Vec<_> = ten().into_iter().chain([(10, 1)]).collect();
    let heavier: Vec<_> = ten().into_iter().map(|(id, weight)| (id, if id == 3 { 3 } else { weight })).collect();
    let three = [(0, 1), (1, 1), (2, 1)];
    let fifty: Vec<_> = (0..50).map(|id| (id, 1)).collect();
    for (before, after) in [
        (&ten()[..], &without[..]),
        (&ten(), &more),
        (&ten(), &heavier),
        (&heavier, &ten()),
        (&three, &three[1..]),
        (&fifty, &fifty[1..]),
        // The fewest places each that a table has.
        (&fifty[..32], &fifty[..31]),
    ] {
        for balance in KEYED {
            let [old, new] = [before, after].map(|endpoints| owners(&cluster_of(balance, &of(endpoints), None), KEYS));
            // What moves at least, by the shares that there really are.
            let share = |owners: &[u32]| -> HashMap<u32, f64> {
                let mut shares = HashMap::new();
                owners.iter().for_each(|owner| *shares.entry(*owner).or_default() += 1.0 / KEYS as f64);
                shares
            };
            let (had, has) = (share(&old), share(&new));
            let ideal: f64 = has.iter().map(|(id, share)| (share - had.get(id).unwrap_or(&0.0)).max(0.0)).sum();
            let moved = moved(&old, &new);
            assert!(moved <= 1.2 * ideal, "{balance:?} {before:?} to {after:?}: {moved} for {ideal}");
        }
    }
    // The order in the file, too, is no matter.
    for balance in KEYED {
        let backwards: Vec<_> = ten().into_iter().rev().collect();
        let [old, new] = [ten(), backwards].map(|it| owners(&cluster_of(balance, &of(&it), None), KEYS));
        let most = if balance == Balance::RingHash { 0.0 } else { 0.02 };
        assert!(moved(&old, &new) <= most, "{balance:?}");
    }
}

#[test]
fn no_key_moves_but_those_of_an_endpoint_that_fails() {
    for balance in KEYED {
        let clusters = cluster(balance, &[1, 2, 1, 1, 0]);
        let before = owners(&clusters, 20_000);
        let state = &clusters[0].endpoints[1].state;
        state.set(Hold::Ejected, true);
        clusters[0].state.change();
        let without = owners(&clusters, 20_000);
        for (before, without) in before.iter().zip(&without) {
            assert!(*without != 1 && (before == without || *before == 1), "{balance:?}: {before} to {without}");
        }
        // Those of the lost one are shared by the others: a third each, within five deviations of 1,024 points of a ring, whose
        // distances are exponential, or of 6,000 draws.
        let most = if balance == Balance::RingHash { 5.0 * (2.0 / 9.0 * 2.0 / 1024.0f64).sqrt() } else { 0.03 };
        let lost = before.iter().filter(|owner| **owner == 1).count() as f64;
        for other in [0, 2, 3] {
            let got = before.iter().zip(&without).filter(|(before, now)| **before == 1 && **now == other).count();
            assert!((got as f64 / lost - 1.0 / 3.0).abs() < most, "{balance:?}: {got} of {lost}");
        }
        // It comes back step by step, and with it its keys, one by one.
        state.set(Hold::Ejected, false);
        let mut known = without;
        for ramp in 1..=RAMP {
            state.set_ramp(ramp);
            clusters[0].state.change();
            let now = owners(&clusters, 20_000);
            let back = |it: &[u32]| it.iter().filter(|owner| **owner == 1).count() as f64;
            assert!(known.iter().zip(&now).all(|(known, now)| known == now || *now == 1), "{balance:?} {ramp}");
            let part = f64::from(ramp) / f64::from(RAMP);
            assert!((back(&now) / lost - part).abs() < 0.03, "{balance:?} {ramp}: {} of {lost}", back(&now));
            known = now;
        }
        assert_eq!(known, before);
        // An operator's weight for one that has none.
        clusters[0].endpoints[4].state.set_weight(Some(1));
        clusters[0].state.change();
        assert!(owners(&clusters, 1000).contains(&4), "{balance:?}");
    }
}

#[test]
fn one_hot_key_overloads_no_endpoint() {
    for weights in [&[1; 8][..], &[1, 2, 4]] {
        let clusters = cluster(Balance::RingHash, weights);
        let mut chooser = Chooser::new(&clusters, 5);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for under_way in 1..=2000 {
            let picked = chooser.prefer(&clusters[0], &Tried::default(), keyed(1)).unwrap();
            chooser.balancer.begin(picked);
            let most = 1.25 * f64::from(under_way) * f64::from(weights[picked.index()]) / total;
            assert!(f64::from(chooser.in_flight(picked.0)) <= most.ceil(), "{weights:?} {under_way}");
        }
    }
}

#[test]
fn another_try_goes_to_another_endpoint() {
    for balance in KEYED {
        let clusters = cluster(balance, &[1, 1, 1, 1]);
        let mut chooser = Chooser::new(&clusters, 5);
        for key in 0..500 {
            let mut tried = Tried::default();
            for _ in 0..4 {
                let picked = chooser.prefer(&clusters[0], &tried, keyed(key)).unwrap();
                assert!(!tried.contains(picked), "{balance:?} {key}");
                assert_eq!(chooser.prefer(&clusters[0], &tried, keyed(key)), Some(picked));
                tried.insert(picked);
            }
            assert!(chooser.prefer(&clusters[0], &tried, keyed(key)).is_some());
        }
        // Without a key, any is as good.
        let picks: Vec<_> = (0..100).map(|_| chooser.pick(&clusters[0], &Tried::default()).unwrap().0).collect();
        assert!((0..4).all(|id| picks.contains(&id)), "{balance:?}: {picks:?}");
    }
}

#[test]
fn a_cookie_names_an_endpoint_of_its_cluster_while_that_is_in_use() {
    let clusters = cluster(Balance::LeastRequest, &[1, 1, 1]);
    let affinity = clusters[0].affinity.as_ref().unwrap();
    let value = |affinity: &Affinity, id: u32, secure: bool| {
        let mut line = Vec::new();
        affinity.write(EndpointId(id), secure, &mut line);
        let line = String::from_utf8(line).unwrap();
        let (value, rest) = line.strip_prefix("set-cookie: lb=").unwrap().split_once(';').unwrap();
        let end = if secure { "; Secure\r\n" } else { "\r\n" };
        assert_eq!(rest, format!(" Path=/; Max-Age=60; HttpOnly; SameSite=Lax{end}"));
        value.to_owned()
    };
    let second = value(affinity, 1, false);
    assert_eq!(affinity.endpoint(second.as_bytes()), Some(EndpointId(1)));
    for wrong in
        ["", "1", "127.0.0.1:9001", &second.to_uppercase(), &second[1..], &"0".repeat(16), &(second.clone() + "0")]
    {
        assert_eq!(affinity.endpoint(wrong.as_bytes()), None, "{wrong}");
    }
    // Other endpoints, and another order.
    let other = cluster_of(Balance::Random, &[(7, 1, ""), (1, 1, ""), (0, 1, "")], None);
    assert_eq!(value(other[0].affinity.as_ref().unwrap(), 1, true), second);
    let mut chooser = Chooser::new(&clusters, 3);
    let own = Preference { key: None, endpoint: Some(EndpointId(1)) };
    let mut picks =
        |tried: &Tried| -> Vec<_> { (0..50).map(|_| chooser.prefer(&clusters[0], tried, own).unwrap().0).collect() };
    assert_eq!(picks(&Tried::default()), [1; 50]);
    let mut tried = Tried::default();
    tried.insert(EndpointId(1));
    assert!(!picks(&tried).contains(&1));
    for hold in [Hold::Down, Hold::Ejected, Hold::Drained] {
        clusters[0].endpoints[1].state.set(hold, true);
        clusters[0].state.change();
        assert!(!picks(&Tried::default()).contains(&1), "{hold:?}");
        clusters[0].endpoints[1].state.set(hold, false);
        clusters[0].state.change();
        assert_eq!(picks(&Tried::default()), [1; 50]);
    }
}

/// Of 6,000 picks each, those of zones "a", "b" and "c", where endpoints in "a" fail one after another.
#[test]
fn a_zone_keeps_its_traffic_while_it_has_its_share_of_the_endpoints() {
    let endpoints: Vec<_> = (0..9).map(|id| (id, 1, ["a", "b", "c"][usize::from(id) / 3])).collect();
    let clusters = cluster_of(Balance::Random, &endpoints, Some("a"));
    let mut chooser = Chooser::new(&clusters, 3);
    for (failed, expected) in [(0, 1.0), (1, 6.0 / 8.0), (2, 3.0 / 7.0), (3, 0.0)] {
        if failed > 0 {
            clusters[0].endpoints[failed - 1].state.set(Hold::Down, true);
            clusters[0].state.change();
        }
        let picks: Vec<_> = (0..6000).map(|_| chooser.pick(&clusters[0], &Tried::default()).unwrap().index()).collect();
        let local = picks.iter().filter(|id| **id < 3).count() as f64 / 6000.0;
        // Five standard deviations of a fair draw.
        let deviation = (expected * (1.0 - expected) / 6000.0f64).sqrt();
        assert!((local - expected).abs() <= 5.0 * deviation, "{failed}: {local} for {expected}");
        assert!(picks.iter().all(|id| *id >= failed));
    }
}

#[test]
fn a_try_after_the_only_local_one_has_failed_leaves_the_zone() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Maglev] {
        let clusters = cluster_of(balance, &[(0, 1, "a"), (1, 1, "b")], Some("a"));
        let mut chooser = Chooser::new(&clusters, 3);
        let mut tried = Tried::default();
        assert_eq!(chooser.prefer(&clusters[0], &tried, keyed(1)), Some(EndpointId(0)), "{balance:?}");
        tried.insert(EndpointId(0));
        assert_eq!(chooser.prefer(&clusters[0], &tried, keyed(1)), Some(EndpointId(1)), "{balance:?}");
        // A client that was there before stays.
        let own = Preference { key: None, endpoint: Some(EndpointId(1)) };
        assert_eq!(chooser.prefer(&clusters[0], &Tried::default(), own), Some(EndpointId(1)), "{balance:?}");
    }
}

/// An endpoint that takes 20 times as long is left after one answer, and tried again when what is remembered of it has faded to what
/// the others take: after 10 s * ln 20 = 30 s. So it is found within that time that it is well again. The excess x that is remembered over
/// their 5 ms becomes 1 / (1 / x + 1 / 5) with each visit, and fades in 10 s * ln(1 + x / 5) until the next one, so that there are e^(t / 10 s)
/// visits in a time t, and a third of 200 a second after 10 s * ln 667 = 65 s more.
#[test]
fn peak_ewma_converges() {
    let clusters = cluster(Balance::PeakEwma, &[1, 1, 1]);
    let mut chooser = Chooser::new(&clusters, 9);
    let mut now = Duration::from_secs(1);
    let [fast, slow] = [5, 100].map(Duration::from_millis);
    // Picks of 100 s, at 200 a second.
    let mut run = |picks: u32, takes: Duration| -> u32 {
        let mut picked = 0;
        for _ in 0..picks {
            now += Duration::from_millis(5);
            chooser.balancer.turn(now);
            let endpoint = chooser.pick(&clusters[0], &Tried::default()).unwrap();
            chooser.balancer.measure(endpoint, if endpoint.0 == 1 { takes } else { fast });
            picked += u32::from(endpoint.0 == 1);
        }
        picked
    };
    assert!((6000..7500).contains(&run(20_000, fast)));
    let left = run(20_000, slow);
    assert!((1..=4).contains(&left), "{left}");
    run(20_000, fast);
    let back = run(20_000, fast);
    assert!((6000..7500).contains(&back), "{back}");
}
