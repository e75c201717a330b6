//! Makes a failing scenario smaller: leaves out whatever it still fails without, in the same way. Not here: telling what happens in it.

use std::time::Duration;

use crate::play::play;
use crate::scenario::{ClientEnd, Connects, NEVER, Pace, Scenario};

/// Scenarios that are tried at most.
const TRIES: usize = 3_000;

/// The smallest scenario found that fails like `scenario`, which fails with `text`.
pub(crate) fn shrink(mut scenario: Scenario, text: &str) -> Scenario {
    let kind = kind(text);
    let mut tries = 0;
    loop {
        let before = tries;
        let mut smaller_found = false;
        let mut step = 0;
        while let Some(smaller) = without(&scenario, step) {
            tries += 1;
            if tries > TRIES {
                return scenario;
            }
            match smaller {
                // What comes next has moved to the same place.
                Some(smaller) if fails(&smaller, &kind) => {
                    scenario = smaller;
                    smaller_found = true;
                }
                _ => step += 1,
            }
        }
        if !smaller_found || tries == before {
            return scenario;
        }
    }
}

fn fails(scenario: &Scenario, kind: &str) -> bool {
    play(scenario, false).is_err_and(|failure| self::kind(&failure.text) == kind)
}

/// What a failure is, without the numbers in it.
fn kind(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect()
}

/// The scenario without its part number `step`. None: there are not so many. Some(None): the part is not there already.
fn without(scenario: &Scenario, step: usize) -> Option<Option<Scenario>> {
    let mut smaller = scenario.clone();
    let mut step = step;
    if step < smaller.clients.len() {
        if smaller.clients[step].exchanges.is_empty() || smaller.clients[step].start == NEVER {
            return Some(None);
        }
        // It stays, with nothing to do, so that the others keep their numbers.
        smaller.clients[step].exchanges.clear();
        return Some(Some(smaller));
    }
    step -= smaller.clients.len();
    if step < smaller.operator.len() {
        smaller.operator.remove(step);
        return Some(Some(smaller));
    }
    step -= smaller.operator.len();
    for client in smaller.clients.iter_mut().filter(|client| client.start != NEVER) {
        if step < client.exchanges.len() {
            client.exchanges.remove(step);
            return Some((!client.exchanges.is_empty()).then_some(smaller));
        }
        step -= client.exchanges.len();
    }
    let simpler = simplify(&mut smaller, step)?;
    Some(simpler.then_some(smaller))
}

/// Sets one property to its plainest value. Returns whether that changes anything; None: there are not so many.
fn simplify(scenario: &mut Scenario, step: usize) -> Option<bool> {
    fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
        std::mem::replace(place, value) != *place
    }
    let kernel = &mut scenario.kernel;
    let plain = match step {
        0 => set(&mut kernel.short_receives, 0),
        1 => set(&mut kernel.short_sends, 0),
        2 => set(&mut kernel.ends_multishot, 0),
        3 => set(&mut kernel.transient, 0),
        4 => set(&mut kernel.misses_ends, false),
        5 => set(&mut kernel.completions, 4096),
        6 => set(&mut kernel.bundles, true),
        7 => set(&mut kernel.harsh_resets, false),
        8 => set(&mut kernel.single_bytes, false),
        9 => set(&mut kernel.delay, Duration::ZERO),
        10 => set(&mut kernel.window, 1 << 20),
        11 => set(&mut kernel.descriptors, None),
        12 => set(&mut kernel.slow_sends, 0),
        _ => return simplify_peers(scenario, step - 13),
    };
    Some(plain)
}

fn simplify_peers(scenario: &mut Scenario, step: usize) -> Option<bool> {
    let (client, aspect) = (step / 5, step % 5);
    if let Some(client) = scenario.clients.get_mut(client) {
        if client.exchanges.is_empty() {
            return Some(false);
        }
        return Some(match aspect {
            0 => std::mem::replace(&mut client.depth, 1) != 1,
            1 => std::mem::replace(&mut client.writes, Pace::PROMPT).chunk != usize::MAX,
            2 => std::mem::replace(&mut client.reads, Pace::PROMPT).chunk != usize::MAX,
            3 => std::mem::replace(&mut client.end, ClientEnd::Close) != ClientEnd::Close,
            _ => client.fault.take().is_some(),
        });
    }
    let step = step - 5 * scenario.clients.len();
    let used: Vec<u32> = scenario.clients.iter().flat_map(|client| client.exchanges.iter().copied()).collect();
    if let Some(exchange) = used.get(step / 5) {
        let exchange = &mut scenario.exchanges[*exchange as usize];
        return Some(match step % 5 {
            0 => std::mem::take(&mut exchange.padding) > 0,
            1 => std::mem::take(&mut exchange.pause) > Duration::ZERO,
            2 => std::mem::take(&mut exchange.answer.interims) > 0,
            3 => std::mem::replace(&mut exchange.answer.writes, Pace::PROMPT).chunk != usize::MAX,
            _ => std::mem::take(&mut exchange.answer.delay) > Duration::ZERO,
        });
    }
    let step = step - 5 * used.len();
    let mut endpoints = scenario.clusters.iter_mut().flat_map(|cluster| &mut cluster.endpoints);
    let endpoint = endpoints.nth(step)?;
    Some(std::mem::replace(&mut endpoint.connects, Connects::Up) != Connects::Up)
}
