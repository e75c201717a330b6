//! A simulated world around a real worker: clients, origins, an operator, and a kernel that completes operations in any order that it
//! may. One seed is one world. README.md beside this file says how to use and extend it.

mod carrier;
mod channel;
mod client;
mod complete;
mod content;
mod draw;
mod http2_client;
mod later;
mod machine;
mod net;
mod operator;
mod oracle;
mod origin;
mod play;
mod random;
mod response;
mod scenario;
mod shrink;
mod swarm;
mod tls;
mod wire;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

/// Seeds that are played when nothing else is asked for.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Plays the seeds from `first` on, on all CPUs, and returns those that fail, in order.
fn play_all(first: u64, count: u64) -> Vec<(u64, String)> {
    let (next, count_failed) = (AtomicU64::new(first), AtomicUsize::new(0));
    let (failed, failures) = channel();
    let only_http2 = number("CAIRN_SIM_HTTP2").is_some();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let failed = failed.clone();
            let (next, count_failed) = (&next, &count_failed);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || count_failed.load(Ordering::Relaxed) > 20 {
                        return;
                    }
                    if only_http2 && !later::has_http2(seed) {
                        continue;
                    }
                    if let Err(failure) = play::play(&draw::draw(seed), false) {
                        count_failed.fetch_add(1, Ordering::Relaxed);
                        let _ = failed.send((seed, failure.text));
                    }
                }
            });
        }
    });
    drop(failed);
    let mut failures: Vec<_> = failures.into_iter().collect();
    failures.sort();
    failures
}

/// Prints the smallest scenario that fails like this one, and what happens in it.
fn tell_story(scenario: scenario::Scenario, text: &str) -> ! {
    let seed = scenario.seed;
    let scenario = if number("CAIRN_SIM_WHOLE").is_some() { scenario } else { shrink::shrink(scenario, text) };
    let story = match play::play(&scenario, true) {
        Err(failure) => failure.story,
        Ok(_) => vec!["it fails only while nobody listens".to_owned()],
    };
    panic!("{}\n{}\nseed {seed}: {text}", scenario.describe(), story.join("\n"))
}

/// Seeds that have found something, each with a line that says what. They are played again, though the same seed is another scenario
/// once drawing has changed.
fn known_seeds() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split(' ').next().and_then(|seed| seed.parse().ok()).expect("a seed and what it found"))
        .collect()
}

#[test]
fn every_order_of_events() {
    play::catch_panics();
    if let Some(seed) = number("CAIRN_SIM_SEED") {
        let scenario = draw::draw(seed);
        if let Err(failure) = play::play(&scenario, false) {
            tell_story(scenario, &failure.text);
        }
        return;
    }
    let first = number("CAIRN_SIM_FIRST").unwrap_or(0);
    let mut failed = play_all(first, number("CAIRN_SIM_SEEDS").unwrap_or(SEEDS));
    failed.extend(known_seeds().into_iter().flat_map(|seed| play_all(seed, 1)));
    let lines: Vec<_> = failed.iter().map(|(seed, text)| format!("seed {seed}: {text}")).collect();
    assert!(failed.is_empty(), "{}\nCAIRN_SIM_SEED=N cargo test --test sim tells the story of one", lines.join("\n"));
}

/// One seed is one world, to the byte, TLS and reloads included.
#[test]
fn a_seed_is_repeated_to_the_byte() {
    play::catch_panics();
    let told = |seed| play::play(&draw::draw(seed), true).map_err(|failure| failure.text);
    for seed in 0..40 {
        let first = told(seed).unwrap();
        assert_eq!(first, told(seed).unwrap(), "seed {seed}");
    }
}
