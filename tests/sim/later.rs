//! What scenarios have that came later than the rest: HTTP/2. It has randomness of its own, and only two seeds of nine have it: what the
//! others stand for is as it was. Not here: everything else (`draw`).

use std::time::Duration;

use crate::carrier::CarrierPlan;
use crate::draw::{MILLISECOND, PIECES, exchange};
use crate::random::Random;
use crate::scenario::{Http2Plan, NEVER, Scenario, StreamFault};
use crate::swarm::Swarm;

/// The stream of random numbers of a seed that is used here.
const NUMBER: u64 = u64::MAX / 3;

/// Whether a seed has clients, or origins, that speak HTTP/2.
pub(crate) fn has_http2(seed: u64) -> bool {
    matches!(seed % 9, 3 | 5)
}

pub(crate) fn add(scenario: &mut Scenario, swarm: &Swarm) {
    if !has_http2(scenario.seed) {
        return;
    }
    let mut random = Random::new(scenario.seed, NUMBER);
    let share = if scenario.seed % 9 == 3 { random.pick(&[100, 100, 50]) } else { random.pick(&[0, 0, 50]) };
    for listener in &mut scenario.listeners {
        let streams = random.pick(&[1, 2, 5, 100, 100]);
        listener.http2 = random.chance(60).then(|| (streams, random.pick(&[1 << 10, 16 << 10, 64 << 10])));
    }
    for number in 0..scenario.clients.len() {
        let mut random = Random::new(scenario.seed, NUMBER - 1 - number as u64);
        if scenario.clients[number].start != NEVER && random.chance(share) {
            speak_http2(scenario, &mut random, swarm, number);
        }
    }
}

/// Makes a client one of HTTP/2.
fn speak_http2(scenario: &mut Scenario, random: &mut Random, swarm: &Swarm, number: usize) {
    let listener = scenario.listeners[scenario.clients[number].listener].clone();
    if random.chance(50) {
        for _ in 0..random.within(1..=10) {
            let exchange = exchange(scenario, random, swarm, &listener);
            let most = exchange.body.bytes().max(exchange.answer.bytes);
            let client = &mut scenario.clients[number];
            client.calm &= exchange.pause + 200 * MILLISECOND < listener.idle;
            client.writes = client.writes.at_least(most / PIECES);
            client.reads = client.reads.at_least(most / PIECES);
            client.exchanges.push(scenario.exchanges.len() as u32);
            scenario.exchanges.push(exchange);
        }
    }
    let faulty = swarm.client_faults && random.chance(50);
    let plan = http2(random, swarm);
    let client = &mut scenario.clients[number];
    client.http2 = Some(plan);
    if random.chance(70) {
        client.depth = random.within(2..=12);
    }
    for exchange in client.exchanges.clone() {
        let exchange = &mut scenario.exchanges[exchange as usize];
        (exchange.http10, exchange.close, exchange.logs_in) = (false, false, false);
        if faulty && random.chance(40) {
            exchange.stream = Some(stream_fault(random));
        }
    }
}

/// How a peer speaks HTTP/2.
pub(crate) fn http2(random: &mut Random, swarm: &Swarm) -> Http2Plan {
    let window = random.pick(&[0, 300, 5_000, 65_535, 65_535, 1 << 20]);
    let changes = if random.chance(75) {
        Vec::new()
    } else {
        let mut changes: Vec<_> = (0..random.within(1..=3))
            .map(|_| (random.time(100 * MILLISECOND), random.pick(&[0, 1, 1_000, 100_000])))
            .collect();
        changes.sort_unstable();
        // Whatever was, in the end there is room.
        changes.push((100 * MILLISECOND, 65_535));
        changes
    };
    Http2Plan {
        carrier: CarrierPlan {
            window,
            more_window: random.pick(&[0, 0, 1 << 20]),
            credit: random.pick(&[300, 5_000, 32_768]),
            streams: 100,
            frame: random.pick(&[700, 16_384, 16_384]).max(if swarm.large || swarm.huge { 8_192 } else { 0 }),
            padding: if random.chance(80) { 0 } else { random.within(1..=255) as u8 },
            indexes: random.chance(50),
            fragment: if random.chance(70) { 16_384 } else { random.within(1_500..=4_000) },
        },
        changes,
        gap: random.time(300 * MILLISECOND).max(Duration::from_micros(50)),
        pings: random.chance(20),
    }
}

fn stream_fault(random: &mut Random) -> StreamFault {
    match random.below(7) {
        0 => StreamFault::ResetsAtOnce,
        1 => StreamFault::ResetsSending(random.length(20_000)),
        2 => StreamFault::ResetsReceiving(random.length(20_000)),
        3 => StreamFault::StopsSending(random.length(20_000)),
        4 => StreamFault::StopsReading,
        _ => StreamFault::ReadsSlowly,
    }
}
