//! Draws a scenario from a seed. Not here: which features it has (`swarm`).

use std::time::Duration;

use crate::later;
use crate::random::Random;
use crate::scenario::{
    Action, AnswerFraming, AnswerPlan, Body, ClientEnd, ClientFault, ClientPlan, ClusterPlan, Connects, EndpointPlan,
    ExchangePlan, KernelPlan, LimitsPlan, ListenerPlan, NEVER, OperatorPlan, OriginFault, Pace, Scenario, Target,
};
use crate::swarm::Swarm;

/// Pieces in which a peer moves one body, at most.
pub(crate) const PIECES: usize = 500;
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
/// In worlds about idle connections, clients pause for multiples of this, and origins wait for about as long.
const BEAT: Duration = Duration::from_millis(20);

pub(crate) fn draw(seed: u64) -> Scenario {
    let mut random = Random::new(seed, 0);
    let swarm = Swarm::draw(&mut random);
    let kernel = kernel(&mut random, &swarm);
    let listeners: Vec<_> = (0..random.within(1..=2)).map(|number| listener(&mut random, &swarm, number)).collect();
    let clusters: Vec<_> = (0..random.within(1..=3)).map(|_| cluster(&mut random, &swarm)).collect();
    let clusters = (0..)
        .zip(clusters)
        .map(|(number, it)| ClusterPlan { limits: limits(seed, number), hedge: hedge(seed, number), ..it })
        .collect();
    let mut scenario =
        Scenario { seed, kernel, listeners, clusters, clients: vec![], exchanges: vec![], operator: vec![] };
    // Much to be moved takes long.
    for number in 0..random.within(1..=if swarm.bulk { 4 } else { 12 }) {
        let mut random = Random::new(seed, 1 + number as u64);
        add_client(&mut scenario, &mut random, &swarm);
    }
    for listener in 0..scenario.listeners.len() {
        add_probe(&mut scenario, listener);
    }
    if swarm.operations > 0 {
        scenario.operator =
            (0..random.within(1..=swarm.operations)).map(|_| operator(&mut random, &scenario)).collect();
    }
    later::add(&mut scenario, &swarm);
    scenario
}

fn kernel(random: &mut Random, swarm: &Swarm) -> KernelPlan {
    let rate = |random: &mut Random| if random.chance(50) { 0 } else { random.pick(&[2, 20, 90]) };
    KernelPlan {
        delay: Duration::from_micros(random.pick(&[0, 20, 200, 2_000])),
        short_receives: rate(random),
        short_sends: rate(random),
        slow_sends: if random.chance(if swarm.pooled { 20 } else { 70 }) { 0 } else { random.pick(&[20, 90]) },
        single_bytes: random.chance(20),
        ends_multishot: rate(random),
        transient: if random.chance(70) { 0 } else { random.pick(&[1, 10]) },
        bundles: random.chance(60),
        misses_ends: random.chance(if swarm.overflows { 70 } else { 30 }),
        completions: if swarm.overflows { random.within(1..=6) } else { 4096 },
        buffers: if swarm.short { random.pick(&[144, 160, 192]) } else { 2048 },
        descriptors: swarm.few_descriptors.then(|| random.within(6..=24)),
        window: if swarm.bulk { 4 << 10 } else { random.pick(&[4 << 10, 64 << 10, 1 << 20]) },
        harsh_resets: random.chance(50),
    }
}

fn seconds(random: &mut Random, choices: &[u64]) -> Duration {
    Duration::from_secs(random.pick(choices))
}

fn listener(random: &mut Random, swarm: &Swarm, number: usize) -> ListenerPlan {
    ListenerPlan {
        tls: swarm.tls && number == 0,
        header: seconds(random, &[1, 5]),
        body: seconds(random, &[1, 5]),
        idle: seconds(random, &[1, 5, 75]),
        requests: if random.chance(if swarm.ends { 40 } else { 85 }) { 0 } else { random.within(1..=4) },
        handshakes: if random.chance(70) { 0 } else { random.within(1..=2) },
        connections: if random.chance(90) { 0 } else { random.within(1..=4) },
        body_rate: if random.chance(85) { 0 } else { 1000 },
        http2: None,
    }
}

fn cluster(random: &mut Random, swarm: &Swarm) -> ClusterPlan {
    ClusterPlan {
        endpoints: (0..random.within(1..=if swarm.pooled { 1 } else { 3 })).map(|_| endpoint(random, swarm)).collect(),
        balance: random.pick(&["least_request", "round_robin", "random"]),
        connect: Duration::from_millis(random.pick(&[500, 2000])),
        response: seconds(random, &[1, 5]),
        idle: seconds(random, &[1, 55]),
        max_idle: if swarm.pooled || swarm.few_descriptors { 128 } else { random.pick(&[0, 1, 2, 128]) },
        abort_on_close: random.chance(if swarm.ends { 50 } else { 20 }),
        timeout: random.chance(30).then(|| seconds(random, &[1, 2])),
        limits: None,
        hedge: None,
    }
}

/// Limits of a cluster. They came later than the rest, so that they have randomness of their own and only some seeds have them: what the
/// others stand for is as it was.
fn limits(seed: u64, cluster: usize) -> Option<LimitsPlan> {
    let mut random = Random::new(seed, u64::MAX - cluster as u64);
    let limited = seed % 8 == 3 && random.chance(70);
    limited.then(|| LimitsPlan {
        requests: random.pick(&[0, 1, 2, 3]),
        endpoint_requests: random.pick(&[0, 1, 2]),
        queue: random.pick(&[0, 1, 2, 100]),
        wait: Duration::from_millis(random.pick(&[20, 200, 5000])),
    })
}

/// After how long a cluster's requests are hedged; for some seeds, as `limits`.
fn hedge(seed: u64, cluster: usize) -> Option<Duration> {
    let mut random = Random::new(seed, u64::MAX / 2 - cluster as u64);
    let hedged = seed % 4 == 1 && random.chance(70);
    hedged.then(|| Duration::from_millis(random.pick(&[1, 1, 20, 200])))
}

fn endpoint(random: &mut Random, swarm: &Swarm) -> EndpointPlan {
    let bad = swarm.bad_endpoints && random.chance(50);
    let late = Duration::from_millis(random.pick(&[490, 500, 516, 2000, 2016]));
    let kinds = [Connects::Refused, Connects::Silent, Connects::Late(late), Connects::Flapping(300 * MILLISECOND)];
    let closes = swarm.pooled && random.chance(70) || swarm.origin_faults && random.chance(30);
    let talks = swarm.pooled && random.chance(50) || swarm.origin_faults && random.chance(10);
    let slow = swarm.slow && random.chance(if swarm.bulk { 50 } else { 30 });
    let idles = |random: &mut Random| match random.below(4) {
        0 => random.time(300 * MILLISECOND),
        1 => Duration::ZERO,
        _ => BEAT * random.below(4) as u32 + random.time(5 * MILLISECOND),
    };
    EndpointPlan {
        connects: if bad { random.pick(&kinds) } else { Connects::Up },
        closes_idle: closes.then(|| idles(random)),
        closes_together: swarm.pooled && random.chance(50),
        talks: talks.then(|| if random.chance(50) { Duration::ZERO } else { idles(random) }),
        reads: if slow { Pace { chunk: 5000, gap: 300 * MILLISECOND } } else { Pace::PROMPT },
    }
}

fn calm_pace(random: &mut Random, swarm: &Swarm) -> Pace {
    match random.below(if swarm.ends { 2 } else { 4 }) {
        // Pieces that are too long to be joined, and fill no buffer.
        _ if swarm.bulk => Pace { chunk: 2_100 + random.below(2_000), gap: Duration::from_micros(300) },
        0 => Pace { chunk: 1 + random.below(7), gap: Duration::from_micros(4) },
        1 => Pace { chunk: 500 + random.length(4000), gap: Duration::from_micros(300) },
        _ => Pace::PROMPT,
    }
}

fn add_client(scenario: &mut Scenario, random: &mut Random, swarm: &Swarm) {
    let listener = random.below(scenario.listeners.len());
    let slow = swarm.slow && random.chance(if swarm.short || swarm.bulk { 90 } else { 40 });
    let faulty = swarm.client_faults && random.chance(50);
    let patience = scenario.listeners[listener].clone();
    let gap = if swarm.bulk { 300 * MILLISECOND } else { 2 * patience.body };
    let crawl = |random: &mut Random| Pace { chunk: 1 + random.length(20_000), gap: random.time(gap) };
    let (mut writes, mut reads) = (calm_pace(random, swarm), calm_pace(random, swarm));
    if slow && random.chance(if swarm.bulk { 10 } else { 50 }) {
        writes = crawl(random);
    } else if slow {
        reads = crawl(random);
    }
    let waits = [patience.header, patience.body, patience.idle];
    let alone = match swarm {
        Swarm { ends: true, .. } => 20,
        Swarm { pooled: true, .. } => 40,
        _ => 70,
    };
    let fault = faulty.then(|| (random.length(3000), client_fault(random, &waits)));
    let mut client = ClientPlan {
        start: random.time(400 * MILLISECOND),
        listener,
        exchanges: Vec::new(),
        depth: if random.chance(alone) { 1 } else { random.within(2..=6) },
        writes,
        reads,
        calm: !slow && !faulty,
        end: match random.below(5) {
            0..=1 if swarm.ends => ClientEnd::HalfClose,
            0..=1 => ClientEnd::Close,
            2 => ClientEnd::HalfClose,
            3 => ClientEnd::Idle,
            _ => ClientEnd::Reset,
        },
        fault,
        http2: None,
    };
    for _ in 0..random.within(1..=6) {
        let exchange = exchange(scenario, random, swarm, &patience);
        client.calm &= exchange.pause + 200 * MILLISECOND < patience.idle;
        client.exchanges.push(scenario.exchanges.len() as u32);
        let (up, down) = exchange.tunnel.unwrap_or_default();
        let most = exchange.body.bytes().max(exchange.answer.bytes).max(up).max(down);
        client.writes = client.writes.at_least(most / PIECES);
        client.reads = client.reads.at_least(most / PIECES);
        let tunnel = exchange.tunnel.is_some();
        scenario.exchanges.push(exchange);
        if tunnel {
            client.depth = 1;
            break;
        }
    }
    scenario.clients.push(client);
}

/// A client that comes when all others have gone, and has to be served.
fn add_probe(scenario: &mut Scenario, listener: usize) {
    let exchange = ExchangePlan {
        target: Target::Own,
        method: "GET",
        body: Body::None,
        padding: 0,
        expects: false,
        http10: false,
        close: false,
        logs_in: false,
        tunnel: None,
        pause: Duration::ZERO,
        answer: AnswerPlan {
            delay: Duration::ZERO,
            interims: 0,
            status: 200,
            framing: AnswerFraming::Length,
            bytes: 0,
            writes: Pace::PROMPT,
            early: false,
            close: false,
            fault: None,
        },
        stream: None,
    };
    scenario.clients.push(ClientPlan {
        start: NEVER,
        listener,
        exchanges: vec![scenario.exchanges.len() as u32],
        depth: 1,
        writes: Pace::PROMPT,
        reads: Pace::PROMPT,
        calm: true,
        end: ClientEnd::Close,
        fault: None,
        http2: None,
    });
    scenario.exchanges.push(exchange);
}

/// A time that is nearly or exactly what somebody is waited for.
fn exact(random: &mut Random, waits: &[Duration]) -> Duration {
    let about = random.pick(waits);
    match random.below(4) {
        0 => about,
        1 => about + Duration::from_millis(random.below(40) as u64),
        2 => about.saturating_sub(Duration::from_millis(random.below(40) as u64)),
        _ => about * 2,
    }
}

fn client_fault(random: &mut Random, waits: &[Duration]) -> ClientFault {
    match random.below(8) {
        0 => ClientFault::Resets,
        1 => ClientFault::Finishes,
        2 => ClientFault::Closes,
        3 => ClientFault::Stalls,
        4 => ClientFault::StopsReading,
        5 => ClientFault::Garbage,
        _ => ClientFault::Pauses(exact(random, waits)),
    }
}

pub(crate) fn exchange(
    scenario: &Scenario,
    random: &mut Random,
    swarm: &Swarm,
    listener: &ListenerPlan,
) -> ExchangePlan {
    let odd = swarm.odd_requests;
    let target = match random.below(12) {
        0 => Target::Own,
        1 if odd => Target::Nowhere,
        2 if swarm.ends => Target::Own,
        3 if swarm.ends => Target::Nowhere,
        _ => Target::Cluster(random.below(scenario.clusters.len())),
    };
    let most = match random.below(4) {
        0 if swarm.huge => 4_000_000,
        1 | 2 if swarm.large || swarm.bulk => 300_000,
        _ => 20_000,
    };
    let forwarded = matches!(target, Target::Cluster(_));
    // The body of a request that is answered here is dropped.
    let method = match random.pick(&["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE"]) {
        _ if swarm.ends && !forwarded => "POST",
        method => method,
    };
    let body = match (method, random.below(4)) {
        ("POST", 2) if !forwarded => Body::Length(random.length(most)),
        ("POST" | "PUT", 0 | 1) => Body::Length(random.length(most)),
        ("POST" | "PUT", _) => {
            let bytes = random.length(most);
            Body::Chunked(bytes, bytes / 300 + 1 + random.length(9000))
        }
        ("DELETE", 0) => Body::Length(random.length(100)),
        _ => Body::None,
    };
    let tunnel = (forwarded && random.chance(swarm.tunnels)).then(|| (random.length(most), random.length(most)));
    let (method, body) = if tunnel.is_some() { ("GET", Body::None) } else { (method, body) };
    let pause = if swarm.exact && random.chance(20) {
        exact(random, &[listener.idle])
    } else if swarm.pooled && random.chance(60) {
        BEAT * random.below(4) as u32
    } else if random.chance(if swarm.operations > 3 { 40 } else { 70 }) {
        Duration::ZERO
    } else {
        random.time(300 * MILLISECOND)
    };
    ExchangePlan {
        target,
        method,
        body,
        padding: if random.chance(80) { 0 } else { random.length(9000) },
        expects: odd && body != Body::None && random.chance(20),
        http10: odd
            && tunnel.is_none()
            && !matches!(body, Body::Chunked(..))
            && random.chance(if swarm.ends { 30 } else { 10 }),
        logs_in: odd && tunnel.is_none() && random.chance(8),
        close: odd && tunnel.is_none() && random.chance(8),
        tunnel,
        pause,
        answer: through(tunnel, answer(scenario, random, swarm, target, most)),
        stream: None,
    }
}

/// What goes down a tunnel is moved in no more pieces than a body.
fn through(tunnel: Option<(usize, usize)>, answer: AnswerPlan) -> AnswerPlan {
    let (_, down) = tunnel.unwrap_or_default();
    AnswerPlan { writes: answer.writes.at_least(down / PIECES), ..answer }
}

fn answer(scenario: &Scenario, random: &mut Random, swarm: &Swarm, target: Target, most: usize) -> AnswerPlan {
    let response =
        if let Target::Cluster(cluster) = target { scenario.clusters[cluster].response } else { MILLISECOND };
    let faulty = swarm.origin_faults && random.chance(30);
    let delay = match random.below(10) {
        0 if swarm.exact => exact(random, &[response]),
        1..=5 if swarm.operations > 3 => random.time(400 * MILLISECOND),
        1..=3 => random.time(100 * MILLISECOND),
        _ => Duration::ZERO,
    };
    let bytes = random.length(most);
    let framing = match random.below(10) {
        0..=1 if swarm.ends => AnswerFraming::Close,
        0..=4 => AnswerFraming::Length,
        5..=8 => AnswerFraming::Chunked(bytes / 300 + 1 + random.length(9000), random.chance(30)),
        _ => AnswerFraming::Close,
    };
    AnswerPlan {
        delay,
        interims: if random.chance(90) { 0 } else { random.within(1..=3) },
        status: random.pick(&[200, 200, 200, 200, 204, 304, 404, 500, 503]),
        framing,
        bytes,
        writes: calm_pace(random, swarm).at_least(bytes / PIECES),
        early: random.chance(10),
        close: random.chance(15),
        fault: faulty.then(|| (random.length(2000), origin_fault(random, response))),
    }
}

fn origin_fault(random: &mut Random, response: Duration) -> OriginFault {
    match random.below(6) {
        0 => OriginFault::Finishes,
        1 => OriginFault::Resets,
        2 => OriginFault::Stalls,
        3 => OriginFault::Garbage,
        _ => OriginFault::Pauses(exact(random, &[response])),
    }
}

fn operator(random: &mut Random, scenario: &Scenario) -> OperatorPlan {
    let (listener, cluster) = (random.below(scenario.listeners.len()), random.below(scenario.clusters.len()));
    let action = match random.below(10) {
        9 => Action::Restore,
        0 => Action::Reload,
        1 => Action::AddListener,
        2 => Action::RemoveListener(listener),
        3 => Action::RemoveEndpoints(cluster),
        4 => Action::RemoveCluster(cluster),
        5 => Action::ReloadTwice,
        6 | 7 => Action::Drain,
        _ => Action::Clock(random.pick(&[-3600, -1, 1, 3600])),
    };
    OperatorPlan { at: random.time(700 * MILLISECOND), action }
}
