//! Health of endpoints, one state each for the process: which are ejected because requests to them fail, and what operators have said.
//! Workers count what comes of attempts; here it is judged. Not here: which endpoints are in use then (`cluster`), and health checks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::checks::Judgement;
use super::slowness::{self, Counts, RecentTimes};
use crate::cluster::{
    AdaptiveLimit, Cluster, Endpoint, EndpointState, Hold, OutlierSpec, ProbeProgress, ProbeStage, RAMP,
};
use crate::event_log::{Level, log};
use crate::id::Address;
use crate::runtime::Bell;
use crate::snapshot::Snapshot;

/// How often endpoints are looked at while one of them is not simply well.
const INTERVAL: Duration = Duration::from_millis(200);
/// The time over which the share of failures is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest ejection.
const EJECTION_MAX: Duration = Duration::from_secs(300);
/// What a request that tries an endpoint gets besides the time-outs of the cluster.
const PROBE_SLACK: Duration = Duration::from_secs(1);
/// How often changes of one endpoint are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is known of all endpoints besides their states.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// By [`Endpoint::state_key`]: two names may share an address, and TLS settings may change, without being another endpoint's.
    watched: HashMap<usize, Watched>,
    /// By number of the cluster.
    adaptive: HashMap<u32, AdaptiveLimit>,
    /// Version of the snapshot whose endpoints these are.
    version: u64,
}

/// What an operator has an endpoint do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointOrder {
    /// Get no new requests.
    Drain,
    /// Get its share again, by the weight of the configuration, whatever was held against it.
    Ready,
    /// Get another weight than the configuration's.
    Weight(u16),
}

/// What is known of one endpoint besides its state.
#[derive(Debug)]
struct Watched {
    /// Held for its key.
    _state: Arc<EndpointState>,
    phase: Phase,
    /// Ejections since it was well for long.
    ejections: u32,
    /// When it was last readmitted, or first seen.
    well_since: Instant,
    /// Whether it gets a part of its weight only, since `well_since`.
    ramps: bool,
    /// Attempts answered and failed, at moments of the last [`WINDOW`].
    samples: VecDeque<(Instant, (u64, u64))>,
    /// How long its answers have taken lately, where the cluster asks for that.
    times: RecentTimes,
    changes: ChangeLog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Well,
    Ejected {
        until: Instant,
    },
    /// One request may show whether it is well: how far it has come, and since when.
    Probing {
        progress: ProbeProgress,
        since: Instant,
    },
}

/// Bounds the lines about one endpoint.
#[derive(Debug, Default)]
struct ChangeLog {
    next: Option<Instant>,
    /// Changes that were not logged.
    left_out: u32,
}

impl ChangeLog {
    /// Counts a change. Some: it is to be logged, and so many before it were not. None: it is not.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        if self.next.is_some_and(|next| now < next) {
            self.left_out += 1;
            return None;
        }
        self.next = Some(now + LOG_INTERVAL);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Shortest time between two looks at all endpoints: a cluster whose only endpoint fails rings often.
const REST: Duration = Duration::from_millis(10);

/// Waits until a worker has rung, and some time after the last look. Cancel-safe.
pub(super) async fn rung(bell: &Bell, last: Instant) {
    tokio::time::sleep_until((last + REST).into()).await;
    bell.heard().await;
}

/// Ticks when endpoints are to be looked at.
pub(super) fn pulse() -> Interval {
    let mut pulse = interval(INTERVAL);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

impl Health {
    /// Looks at all endpoints of the snapshot that is served. Returns whether it has to be called again after [`INTERVAL`].
    pub(super) fn review(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        if self.version != snapshot.version {
            self.version = snapshot.version;
            self.forget(snapshot);
        }
        let mut busy = false;
        for cluster in &snapshot.clusters {
            let mut changed = false;
            let times =
                if cluster.outlier.latency_factor > 0 { self.take_times(cluster, now) } else { Counts::default() };
            busy |= cluster.outlier.failure_rate > 0.0 || cluster.outlier.latency_factor > 0;
            for endpoint in &cluster.endpoints {
                let watched = self.watched(cluster, endpoint, now);
                changed |= watched.review(cluster, endpoint, &times, now);
                busy |= watched.phase != Phase::Well || watched.ramps;
            }
            if changed {
                cluster.state.change();
            }
            if cluster.limits.adaptive {
                self.adapt(cluster);
                busy = true;
            }
        }
        busy
    }

    /// Takes in how long answers of endpoints have taken. Returns the times of all that are in use.
    fn take_times(&mut self, cluster: &Cluster, now: Instant) -> Counts {
        let mut all = Counts::default();
        for endpoint in &cluster.endpoints {
            let watched = self.watched(cluster, endpoint, now);
            watched.times.observe(endpoint.state.times(), now);
            if watched.phase == Phase::Well {
                all.add(&watched.times.counts());
            }
        }
        all
    }

    /// Sets the limit of a cluster that follows how long answers take.
    fn adapt(&mut self, cluster: &Cluster) {
        let places = cluster.state.places();
        let (answers, sum) = places.measured();
        let limit = self.adaptive.entry(cluster.state.number()).or_default();
        places.adapt(limit.observe(answers, sum, places.taken()));
    }

    /// Forgets endpoints that a snapshot does not have.
    fn forget(&mut self, snapshot: &Snapshot) {
        let known: std::collections::HashSet<usize> =
            snapshot.clusters.iter().flat_map(|it| &it.endpoints).map(Endpoint::state_key).collect();
        let adaptive: std::collections::HashSet<u32> =
            snapshot.clusters.iter().filter(|it| it.limits.adaptive).map(|it| it.state.number()).collect();
        self.adaptive.retain(|number, _| adaptive.contains(number));
        self.watched.retain(|key, _| known.contains(key));
    }

    fn watched(&mut self, cluster: &Cluster, endpoint: &Endpoint, now: Instant) -> &mut Watched {
        self.watched.entry(endpoint.state_key()).or_insert_with(|| {
            // An earlier configuration may have had it, and something may still hold its state: it is forgotten all the same, be it
            // held by chance or not.
            let state = &endpoint.state;
            state.close_probe();
            let holds = [Hold::Ejected, Hold::Probing, Hold::Drained];
            let held = holds.into_iter().filter(|hold| state.set(*hold, false)).count() > 0;
            // Without a change, workers go on with their rounds.
            if held | state.set_ramp(RAMP) | state.weight().is_some() {
                state.reset_streak();
                state.set_weight(None);
                cluster.state.change();
            }
            Watched::new(Arc::clone(state), now)
        })
    }

    /// Takes in what the checks of an endpoint say. One that comes back is used as if it had never been ejected: it has been away.
    pub(super) fn judge(&mut self, snapshot: &Snapshot, judgement: &Judgement, now: Instant) {
        let Some((cluster, endpoint)) = snapshot.endpoint(judgement.endpoint) else { return };
        if cluster.health.is_none() {
            return;
        }
        let down = judgement.problem.is_some();
        let changed = endpoint.state.set(Hold::Down, down);
        if changed {
            cluster.state.change();
        } else if !down {
            return;
        }
        let watched = self.watched(cluster, endpoint, now);
        match &judgement.problem {
            Some(problem) => watched.log(cluster, endpoint, now, &format!("is down: {problem}")),
            None => {
                watched.readmit(cluster, endpoint, now);
                cluster.state.change();
                watched.log(cluster, endpoint, now, "is up: its checks are good");
            }
        }
    }

    /// Follows an operator's order.
    ///
    /// # Errors
    /// There is no such cluster or endpoint.
    pub(super) fn order(
        &mut self,
        snapshot: &Snapshot,
        (cluster, address): (&str, &str),
        order: EndpointOrder,
        now: Instant,
    ) -> Result<String, String> {
        let found = snapshot.clusters.iter().find(|it| *it.name == *cluster);
        let cluster = found.ok_or_else(|| {
            let names: Vec<_> = snapshot.clusters.iter().map(|it| &*it.name).collect();
            format!("there is no cluster {cluster}; there are {}", names.join(", "))
        })?;
        let endpoint = named(cluster, address).ok_or_else(|| {
            let names: Vec<_> = cluster.endpoints.iter().map(|it| &*it.name).collect();
            format!("cluster {} has no endpoint {address}; it has {}", cluster.name, names.join(", "))
        })?;
        // What was said of it under an earlier configuration is forgotten before, not after.
        let watched = self.watched(cluster, endpoint, now);
        let state = &endpoint.state;
        let done = match order {
            EndpointOrder::Drain => {
                state.set(Hold::Drained, true);
                format!("is drained: it gets no new requests; {} are under way", state.in_flight())
            }
            EndpointOrder::Ready => {
                state.set(Hold::Drained, false);
                state.set_weight(None);
                watched.clear(cluster, endpoint, now);
                format!("is ready, with weight {}", endpoint.weight)
            }
            EndpointOrder::Weight(weight) => {
                state.set_weight(Some(weight));
                format!("has weight {weight}; in the configuration it is {}", endpoint.weight)
            }
        };
        cluster.state.change();
        Ok(format!("cluster {}, endpoint {} {done}", cluster.name, endpoint.name))
    }
}

impl Watched {
    fn new(state: Arc<EndpointState>, now: Instant) -> Self {
        let (samples, times, changes) = (VecDeque::new(), RecentTimes::default(), ChangeLog::default());
        Self { _state: state, phase: Phase::Well, ejections: 0, well_since: now, ramps: false, samples, times, changes }
    }

    /// Judges the endpoint. `all`: how long answers of all endpoints have taken. Returns whether its state has changed.
    fn review(&mut self, cluster: &Cluster, endpoint: &Endpoint, all: &Counts, now: Instant) -> bool {
        match self.phase {
            Phase::Well => {
                let ramped = self.ramps && self.ramp(cluster, endpoint, now);
                let fault =
                    self.fault(&cluster.outlier, endpoint, now).or_else(|| self.slowness(&cluster.outlier, all));
                let Some(fault) = fault.filter(|_| may_eject(cluster, endpoint)) else { return ramped };
                self.eject(cluster, endpoint, &fault, now);
                true
            }
            Phase::Ejected { until } if now < until => false,
            Phase::Ejected { .. } => {
                self.probe(endpoint, now);
                true
            }
            Phase::Probing { progress, since } => self.review_probe(cluster, endpoint, (progress, since), now),
        }
    }

    /// Judges an endpoint that a request is to try. Returns whether its state has changed.
    fn review_probe(
        &mut self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        (before, since): (ProbeProgress, Instant),
        now: Instant,
    ) -> bool {
        let progress = endpoint.state.probe();
        let since = if progress == before { since } else { now };
        self.phase = Phase::Probing { progress, since };
        let why = match progress.stage {
            ProbeStage::Answered => "it has answered",
            // Without a request that may be tried again, nothing is to be learned by waiting longer.
            ProbeStage::Open if now >= since + cluster.outlier.ejection => "no request has come to try it",
            ProbeStage::Failed => {
                self.eject(cluster, endpoint, "it has failed again", now);
                return true;
            }
            // The worker says so before that, unless what the client still sends keeps the request going.
            ProbeStage::Taken if now >= since + probe_time(cluster) => {
                self.eject(cluster, endpoint, "it has left a request without an answer", now);
                return true;
            }
            // Clients that wait for less than the time-out find out nothing of an endpoint that is silent: not all are to try.
            ProbeStage::Abandoned => {
                endpoint.state.close_probe();
                endpoint.state.set(Hold::Probing, false);
                self.phase = Phase::Ejected { until: now + cluster.outlier.ejection };
                return true;
            }
            ProbeStage::Open | ProbeStage::Taken | ProbeStage::Closed => return false,
        };
        self.readmit(cluster, endpoint, now);
        self.log(cluster, endpoint, now, &format!("is used again: {why}"));
        true
    }

    /// Why the endpoint should be ejected because its answers take too long.
    fn slowness(&self, outlier: &OutlierSpec, all: &Counts) -> Option<String> {
        (outlier.latency_factor > 0).then(|| slowness::fault(outlier, &self.times.counts(), all))?
    }

    /// Why the endpoint should be ejected because of what has failed.
    fn fault(&mut self, outlier: &OutlierSpec, endpoint: &Endpoint, now: Instant) -> Option<String> {
        let streak = endpoint.state.streak();
        if outlier.consecutive_failures > 0 && streak >= outlier.consecutive_failures {
            return Some(format!("{streak} failures in a row"));
        }
        if outlier.failure_rate == 0.0 {
            return None;
        }
        let outcomes = endpoint.state.outcomes();
        self.samples.push_back((now, outcomes));
        // One sample that is older than the window stays: what has come since is counted from it.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let (_, first) = *self.samples.front()?;
        let (answered, failed) = (outcomes.0 - first.0, outcomes.1 - first.1);
        let all = answered + failed;
        let rate = failed as f64 / all.max(1) as f64;
        (all >= u64::from(outlier.min_volume) && rate >= outlier.failure_rate)
            .then(|| format!("{failed} of {all} attempts have failed in {} s", WINDOW.as_secs()))
    }

    /// Ejects it, each time longer, and at least for as long as it has asked for itself.
    fn eject(&mut self, cluster: &Cluster, endpoint: &Endpoint, fault: &str, now: Instant) {
        let (state, ejection) = (&endpoint.state, cluster.outlier.ejection);
        let long = ejection.saturating_mul(self.ejections.saturating_mul(2));
        if self.phase == Phase::Well && now.duration_since(self.well_since) > long {
            self.ejections = 0;
        }
        self.ejections = self.ejections.saturating_add(1);
        let asked = Duration::from_secs(state.take_retry_after().into());
        let lasts = ejection.saturating_mul(self.ejections).max(asked).min(EJECTION_MAX);
        state.set(Hold::Ejected, true);
        state.set(Hold::Probing, false);
        state.close_probe();
        state.reset_streak();
        self.samples.clear();
        self.times.clear();
        self.phase = Phase::Ejected { until: now + lasts };
        self.log(cluster, endpoint, now, &format!("is ejected for {lasts:?}: {fault}"));
    }

    /// Lets one request show whether it is well.
    fn probe(&mut self, endpoint: &Endpoint, now: Instant) {
        let state = &endpoint.state;
        state.reset_streak();
        state.open_probe();
        state.set(Hold::Probing, true);
        self.phase = Phase::Probing { progress: state.probe(), since: now };
    }

    /// Has it used again, at first with a part of its weight where the cluster starts slowly.
    fn readmit(&mut self, cluster: &Cluster, endpoint: &Endpoint, now: Instant) {
        let state = &endpoint.state;
        state.close_probe();
        state.reset_streak();
        state.set(Hold::Ejected, false);
        state.set(Hold::Probing, false);
        (self.phase, self.well_since) = (Phase::Well, now);
        self.samples.clear();
        self.times.clear();
        self.ramps = !cluster.slow_start.is_zero();
        state.set_ramp(if self.ramps { 1 } else { RAMP });
    }

    /// Has it used with its whole weight, and forgets what was held against it.
    fn clear(&mut self, cluster: &Cluster, endpoint: &Endpoint, now: Instant) {
        if self.phase != Phase::Well {
            self.readmit(cluster, endpoint, now);
        }
        (self.ejections, self.ramps) = (0, false);
        endpoint.state.set_ramp(RAMP);
    }

    /// Gives it as much of its weight as the time since it came back allows. Returns whether that is new.
    fn ramp(&mut self, cluster: &Cluster, endpoint: &Endpoint, now: Instant) -> bool {
        let part = now.duration_since(self.well_since).as_secs_f64() / cluster.slow_start.as_secs_f64();
        self.ramps = part < 1.0;
        // Squared: the more it has shown, the more it gets.
        let parts = if self.ramps { 1 + (part * part * f64::from(RAMP)) as u8 } else { RAMP };
        endpoint.state.set_ramp(parts)
    }

    fn log(&mut self, cluster: &Cluster, endpoint: &Endpoint, now: Instant, what: &str) {
        let Some(left_out) = self.changes.admit(now) else { return };
        let before = match left_out {
            0 => String::new(),
            count => format!(" ({count} changes before that were not logged)"),
        };
        log(Level::Warn, format_args!("cluster {}, endpoint {} {what}{before}", cluster.name, endpoint.name));
    }
}

/// The endpoint that is called so, or the only one that has this address.
fn named<'a>(cluster: &'a Cluster, name: &str) -> Option<&'a Endpoint> {
    if let Some(endpoint) = cluster.endpoints.iter().find(|it| *it.name == *name) {
        return Some(endpoint);
    }
    let address = name.parse::<Address>().ok()?;
    let has = |it: &&Endpoint| (0..it.addresses()).any(|at| *it.address_at(at) == address);
    let mut found = cluster.endpoints.iter().filter(has);
    found.next().filter(|_| found.next().is_none())
}

/// Longest time in which a request that tries an endpoint is waited for: what a worker allows it, and some more.
fn probe_time(cluster: &Cluster) -> Duration {
    cluster.connect_timeout + cluster.response_timeout + PROBE_SLACK
}

/// Whether an endpoint may be ejected: never the last usable one, and not more than the cluster allows, but always one.
fn may_eject(cluster: &Cluster, endpoint: &Endpoint) -> bool {
    let counts = |it: &&Endpoint| it.weight > 0 && !it.state.has(Hold::Drained);
    let others = || cluster.endpoints.iter().filter(counts).filter(|it| it.id != endpoint.id);
    let most = ((others().count() + 1) as f64 * cluster.outlier.max_ejected) as usize;
    let ejected = others().filter(|it| it.state.has(Hold::Ejected)).count();
    others().any(|it| it.state.is_usable()) && ejected < most.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Outcome;
    use crate::config::{Config, parse};
    use crate::snapshot::Ledger;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> Config {
        let text = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[route]]\ncluster = \"app\"\n[[cluster]]\nname = \"app\"\n\
                    endpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\ntimeouts = { connect = \"2s\", response = \"6s\" }\n\
                    outlier = { consecutive_failures = 1, ejection = \"1s\" }\n";
        parse("a.toml", text).unwrap()
    }

    /// Health and a snapshot, of whose two endpoints the first waits for a request that tries it since the time that is given.
    fn probing() -> (Health, Snapshot, Instant) {
        let snapshot = config().compile(1, &mut Ledger::default()).unwrap();
        let (mut health, now) = (Health::default(), Instant::now());
        health.review(&snapshot, now);
        let state = &snapshot.clusters[0].endpoints[0].state;
        state.observe(0, Outcome::Failed, Duration::ZERO);
        health.review(&snapshot, now);
        assert!(state.has(Hold::Ejected) && !state.has(Hold::Probing));
        health.review(&snapshot, now + SECOND);
        assert!(state.has(Hold::Probing));
        (health, snapshot, now + SECOND)
    }

    /// A configuration whose two endpoints are names for these addresses.
    fn named(addresses: [[&str; 2]; 2]) -> Config {
        let mut config = config();
        for (endpoint, addresses) in config.snapshot.clusters[0].endpoints.iter_mut().zip(addresses) {
            let mut addresses = addresses.map(|address| address.parse().unwrap()).into_iter();
            endpoint.address = addresses.next().unwrap();
            endpoint.others = addresses.collect();
        }
        config
    }

    #[test]
    fn names_that_share_an_address_are_judged_apart() {
        let config = named([["10.0.0.2:80", "10.0.0.3:80"], ["10.0.0.2:80", "10.0.0.4:80"]]);
        let snapshot = config.compile(1, &mut Ledger::default()).unwrap();
        let (mut health, now) = (Health::default(), Instant::now());
        health.review(&snapshot, now);
        let state = &snapshot.clusters[0].endpoints[1].state;
        state.observe(0, Outcome::Failed, Duration::ZERO);
        for later in 0..5 {
            health.review(&snapshot, now + SECOND * later);
            assert_eq!(state.is_usable(), later > 1, "{later}");
        }
    }

    /// An endpoint that goes down and comes up each second for a minute.
    #[test]
    fn an_endpoint_that_flaps_is_logged_once_in_ten_seconds() {
        let (mut changes, now) = (ChangeLog::default(), Instant::now());
        let lines: Vec<_> = (0..120).filter_map(|at| Some((at, changes.admit(now + SECOND / 2 * at)?))).collect();
        assert_eq!(lines, [(0, 0), (20, 19), (40, 19), (60, 19), (80, 19), (100, 19)]);
    }

    /// Name servers give the addresses of a name in another order each time.
    #[test]
    fn an_endpoint_stays_ejected_when_its_addresses_come_in_another_order() {
        let (mut health, now, mut ledger) = (Health::default(), Instant::now(), Ledger::default());
        let first = named([["10.0.0.2:80", "10.0.0.3:80"], ["10.0.0.4:80", "10.0.0.5:80"]]);
        let first = first.compile(1, &mut ledger).unwrap();
        health.review(&first, now);
        first.clusters[0].endpoints[0].state.observe(0, Outcome::Failed, Duration::ZERO);
        health.review(&first, now);
        let second = named([["10.0.0.3:80", "10.0.0.2:80"], ["10.0.0.4:80", "10.0.0.5:80"]]);
        let second = second.compile(2, &mut ledger).unwrap();
        health.review(&second, now);
        let endpoint = &second.clusters[0].endpoints[0];
        assert!(endpoint.state.has(Hold::Ejected));
        assert_eq!(&*endpoint.name, "127.0.0.1:1", "it is called what the file calls it");
        assert!(health.order(&second, ("app", "10.0.0.2:80"), EndpointOrder::Drain, now).is_ok());
        assert!(endpoint.state.has(Hold::Drained));
    }

    #[test]
    fn an_endpoint_that_no_request_tries_is_used_again_after_a_while() {
        let (mut health, snapshot, since) = probing();
        let state = &snapshot.clusters[0].endpoints[0].state;
        health.review(&snapshot, since + SECOND / 2);
        assert!(!state.is_usable());
        health.review(&snapshot, since + SECOND);
        assert!(state.is_usable());
    }

    #[test]
    fn an_endpoint_is_used_again_when_it_has_answered_the_request_that_tries_it() {
        let (mut health, snapshot, since) = probing();
        let state = &snapshot.clusters[0].endpoints[0].state;
        let probe = state.take_probe().unwrap();
        // This one was sent to it before its ejection.
        state.observe(0, Outcome::Answered, Duration::ZERO);
        for later in 1..5 {
            health.review(&snapshot, since + SECOND * later);
            assert!(!state.is_usable(), "{later}");
        }
        state.end_probe(probe, Some(Outcome::Answered));
        health.review(&snapshot, since + SECOND * 5);
        assert!(state.is_usable());
    }

    #[test]
    fn an_endpoint_that_leaves_it_without_an_answer_is_ejected_again() {
        let (mut health, snapshot, since) = probing();
        let state = &snapshot.clusters[0].endpoints[0].state;
        let probe = state.take_probe().unwrap();
        health.review(&snapshot, since);
        // 2 s to connect, 6 s to answer, and one more.
        health.review(&snapshot, since + SECOND * 8);
        assert!(state.has(Hold::Probing));
        health.review(&snapshot, since + SECOND * 9);
        assert!(state.has(Hold::Ejected) && !state.has(Hold::Probing));
        state.end_probe(probe, Some(Outcome::Answered));
        health.review(&snapshot, since + SECOND * 10);
        assert!(state.has(Hold::Ejected));
    }

    /// A request that does not come to the endpoint has shown nothing.
    #[test]
    fn a_request_that_was_to_try_it_and_went_elsewhere_is_followed_by_another() {
        let (mut health, snapshot, since) = probing();
        let state = &snapshot.clusters[0].endpoints[0].state;
        let probe = state.take_probe().unwrap();
        health.review(&snapshot, since);
        state.end_probe(probe, None);
        health.review(&snapshot, since + SECOND);
        assert!(!state.is_usable() && state.take_probe().is_some());
    }

    /// One of two endpoints is far slower than the other. It is ejected, and the other one is not, however slow it gets.
    #[test]
    fn an_endpoint_that_is_far_slower_than_the_others_is_ejected() {
        let mut config = config();
        let outlier = &mut config.snapshot.clusters[0].outlier;
        (outlier.latency_factor, outlier.min_volume, outlier.max_ejected) = (5, 20, 1.0);
        let snapshot = config.compile(1, &mut Ledger::default()).unwrap();
        let (mut health, now) = (Health::default(), Instant::now());
        let endpoints = &snapshot.clusters[0].endpoints;
        let mut look = |later: u32, millis: [u64; 2]| {
            for (endpoint, millis) in endpoints.iter().zip(millis) {
                (0..20).for_each(|_| endpoint.state.count_time(0, Duration::from_millis(millis)));
            }
            assert!(health.review(&snapshot, now + SECOND * later), "it is to be looked at again");
            endpoints.iter().map(|endpoint| endpoint.state.has(Hold::Ejected)).collect::<Vec<_>>()
        };
        assert_eq!(look(0, [1, 1]), [false, false], "from now on it is counted");
        assert_eq!(look(1, [20, 20]), [false, false], "both are as slow");
        assert_eq!(look(12, [20, 200]), [false, true]);
        assert_eq!(look(12, [2000, 20]), [false, true], "the last usable one");
    }

    /// Nor has one whose client does not wait for the answer; and that may have cost it as long as it would wait.
    #[test]
    fn after_a_request_whose_client_has_gone_it_is_left_alone_for_a_while() {
        let (mut health, snapshot, since) = probing();
        let state = &snapshot.clusters[0].endpoints[0].state;
        state.abandon_probe(state.take_probe().unwrap());
        health.review(&snapshot, since + SECOND / 2);
        assert!(state.has(Hold::Ejected) && !state.has(Hold::Probing));
        assert_eq!(state.take_probe(), None);
        health.review(&snapshot, since + SECOND);
        assert!(!state.has(Hold::Probing));
        health.review(&snapshot, since + SECOND * 3 / 2);
        assert!(state.has(Hold::Probing) && state.take_probe().is_some());
    }
}
