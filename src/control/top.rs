//! `/top`: what has happened lately, for `cairn top` and for pages that show it live. Two looks at all counters, some time apart, are
//! made rates and quantiles of that time. Not here: how it is sent (`events`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::names::SeriesNames;
use super::series::{LONG, counts, routes};
use super::status::ReloadCounts;
use super::{CertificateStatus, ClusterStatus, DrainStatus, EndpointStatus, EndpointsUsed, LastPlan, Status};
use crate::config::TenantState;
use crate::telemetry::{Distribution, RouteStats, Span};

/// Routes that are shown, those with most requests.
const ROUTES: usize = 200;

/// All counters at one time.
pub(super) struct Look {
    at: Instant,
    status: Status,
    routes: BTreeMap<Arc<str>, RouteLook>,
}

/// The counters of one route.
#[derive(Default)]
struct RouteLook {
    tenant: Option<Arc<str>>,
    /// Requests by class of status: none, 1xx to 5xx.
    classes: [u64; 6],
    total: Distribution,
    overhead: Distribution,
}

/// What has happened between two looks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Top {
    /// When the second look was, in seconds since 1970.
    pub at: f64,
    /// Seconds between both.
    pub seconds: f64,
    /// The process.
    pub process: ProcessTop,
    /// All routes together.
    pub total: RouteTop,
    /// Upper bounds of `heat`, in milliseconds; what is longer comes last.
    pub bounds_ms: Vec<f64>,
    /// The 200 routes with most requests.
    pub routes: Vec<RouteTop>,
    /// Clusters.
    pub clusters: Vec<ClusterTop>,
    /// Workers.
    pub workers: Vec<WorkerTop>,
    /// Why cairn has answered by itself, or has cut responses, most of that first.
    pub reasons: Vec<ReasonTop>,
    /// Tenants.
    pub tenants: Vec<TenantTop>,
    /// Listeners.
    pub listeners: Vec<ListenerTop>,
    /// Certificates that are served.
    pub certificates: Vec<CertificateStatus>,
    /// Reloads so far.
    pub reloads: ReloadCounts,
    /// The last plan that an operator has asked for; none: there was none.
    pub last_plan: Option<LastPlan>,
}

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessTop {
    /// Version of the program.
    pub cairn: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Version of the configuration.
    pub version: u64,
    /// Whether a reload is under way.
    pub reloading: bool,
    /// Time until the guard of the last reload ends; none: there is no guard.
    pub guard_seconds: Option<u64>,
    /// The drain under way.
    pub draining: Option<DrainStatus>,
    /// CPUs' worth of time that all threads have used.
    pub cpu: f64,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub open_descriptors: u64,
    /// Descriptors that may be open; 0: any number.
    pub max_descriptors: u64,
    /// Requests with an origin under way.
    pub in_flight: u64,
}

/// Requests of a route.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RouteTop {
    /// Its name.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant: Option<String>,
    /// Requests since the start.
    pub requests: u64,
    /// Requests a second.
    pub requests_per_second: f64,
    /// By class of status.
    pub per_second: ClassRates,
    /// Part of the requests that were answered with 5xx, or not at all.
    pub error_ratio: f64,
    /// As the client sees it.
    pub latency_ms: Quantiles,
    /// What cairn itself has taken.
    pub overhead_ms: Quantiles,
    /// Requests by how long they have taken, of `bounds_ms`.
    pub heat: Vec<u64>,
}

/// Requests a second by class of status.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClassRates {
    /// Requests that got no response.
    pub none: f64,
    /// Requests with that class of status.
    #[serde(rename = "1xx")]
    pub informational: f64,
    /// Requests with that class of status.
    #[serde(rename = "2xx")]
    pub successful: f64,
    /// Requests with that class of status.
    #[serde(rename = "3xx")]
    pub redirected: f64,
    /// Requests with that class of status.
    #[serde(rename = "4xx")]
    pub refused: f64,
    /// Requests with that class of status.
    #[serde(rename = "5xx")]
    pub failed: f64,
}

/// Quantiles of times; none without any.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// Their mean.
    pub mean: Option<f64>,
    /// Half of them took at most that.
    pub p50: Option<f64>,
    /// Nine of ten.
    pub p90: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1,000.
    pub p999: Option<f64>,
}

/// A cluster and its endpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterTop {
    /// Its name.
    pub name: String,
    /// Which of its endpoints are in use.
    pub uses: EndpointsUsed,
    /// Requests that wait for a place; none where nothing is limited.
    pub waiting: Option<u32>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointTop>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointTop {
    /// Where it is bound, or its address.
    pub address: String,
    /// Whether nothing keeps it from traffic.
    pub healthy: bool,
    /// Why it is kept from traffic.
    pub held: Vec<String>,
    /// Its weight.
    pub weight: u16,
    /// Attempts under way.
    pub in_flight: u32,
    /// Connections that are open.
    pub open: u64,
    /// Of these, the ones that wait in pools.
    pub idle: u64,
    /// Attempts that were answered.
    pub answered_per_second: f64,
    /// Attempts that have failed.
    pub failed_per_second: f64,
    /// Mean time to the head of a response; none without any.
    pub first_byte_ms: Option<f64>,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerTop {
    /// Its number.
    pub worker: usize,
    /// Part of the time that its thread runs.
    pub busy_ratio: f64,
    /// How long the turn is into which an arrival falls.
    pub turn_delay_ms: f64,
    /// Turns of its loop.
    pub turns_per_second: f64,
    /// Open connections of clients.
    pub connections: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// Exchanges with an origin under way.
    pub exchanges: u64,
    /// Receive buffers in use.
    pub used_buffers: u64,
    /// Turns with more completions than the ring holds.
    pub ring_overflows: u64,
}

/// Something that cairn has done for a reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReasonTop {
    /// Reason code, as in Proxy-Status.
    pub reason: String,
    /// `answer` or `cut`.
    pub kind: String,
    /// Since the start.
    pub count: u64,
    /// A second.
    pub per_second: f64,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TenantTop {
    /// Its name.
    pub name: String,
    /// Which version of its file is served.
    pub state: TenantState,
    /// Number of its routes.
    pub routes: usize,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Part of them that failed.
    pub error_ratio: f64,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerTop {
    /// Its name.
    pub name: String,
    /// Where it is bound, or its address.
    pub address: String,
    /// Open connections of clients.
    pub connections: u64,
}

impl Look {
    /// A look at all counters now.
    pub(super) fn new(status: Status, names: &SeriesNames) -> Self {
        let look = |(name, stats): (&str, &RouteStats)| {
            let mut classes = [0; 6];
            for (series, count) in counts(names, stats) {
                classes[usize::from(series.status.unwrap_or_default() / 100).min(5)] += count;
            }
            let tenant = names.routes.get(name).and_then(|route| route.tenant.clone());
            let (total, overhead) = (stats.times(Span::Total), stats.times(Span::Overhead));
            (Arc::from(name), RouteLook { tenant, classes, total, overhead })
        };
        let active = routes(names).filter(|(_, stats)| stats.has(Span::Total));
        Self { at: Instant::now(), status, routes: active.map(look).collect() }
    }

    /// What has happened since `before`.
    pub(super) fn since(&self, before: &Self) -> Top {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let (mut routes, mut total) = (Vec::new(), RouteLook::default());
        let mut total_before = RouteLook::default();
        let new = RouteLook::default();
        for (name, look) in &self.routes {
            let earlier = before.routes.get(name).unwrap_or(&new);
            total.add(look);
            total_before.add(earlier);
            routes.push(look.since(name, earlier, seconds));
        }
        let tenants = self.tenants(&routes);
        routes.sort_by(|one, other| {
            other.requests_per_second.total_cmp(&one.requests_per_second).then(other.requests.cmp(&one.requests))
        });
        routes.truncate(ROUTES);
        let (status, earlier) = (&self.status, &before.status);
        Top {
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            seconds,
            process: ProcessTop::of(status, earlier, seconds),
            total: total.since("", &total_before, seconds),
            bounds_ms: LONG.iter().map(|(_, bound)| milliseconds(*bound)).collect(),
            routes,
            clusters: clusters(status, earlier, seconds),
            workers: workers(status, earlier, seconds),
            reasons: reasons(status, earlier, seconds),
            tenants,
            listeners: status.listeners.iter().map(ListenerTop::of).collect(),
            certificates: status.certificates.clone(),
            reloads: status.reloads.clone(),
            last_plan: status.last_plan.clone(),
        }
    }

    fn tenants(&self, routes: &[RouteTop]) -> Vec<TenantTop> {
        let tenant = |status: &super::TenantStatus| {
            let own = || routes.iter().filter(|route| route.tenant.as_deref() == Some(&*status.name));
            let requests: f64 = own().map(|route| route.requests_per_second).sum();
            let errors: f64 = own().map(|route| route.error_ratio * route.requests_per_second).sum();
            TenantTop {
                name: status.name.clone(),
                state: status.state,
                routes: status.routes,
                requests_per_second: requests,
                error_ratio: if requests > 0.0 { errors / requests } else { 0.0 },
            }
        };
        self.status.tenants.iter().map(tenant).collect()
    }
}

impl RouteLook {
    fn add(&mut self, other: &Self) {
        self.classes.iter_mut().zip(other.classes).for_each(|(sum, more)| *sum += more);
        self.total.add(&other.total);
        self.overhead.add(&other.overhead);
    }

    fn since(&self, name: &str, before: &Self, seconds: f64) -> RouteTop {
        let mut counted = self.classes;
        counted.iter_mut().zip(before.classes).for_each(|(count, before)| *count = count.saturating_sub(before));
        let all: u64 = counted.iter().sum();
        let [none, informational, successful, redirected, refused, failed] =
            counted.map(|count| count as f64 / seconds);
        let times = self.total.since(&before.total);
        let below = times.cumulative(&LONG.map(|(_, bound)| bound));
        let starts = [0].into_iter().chain(below);
        let heat = below.into_iter().chain([times.count()]).zip(starts).map(|(end, start)| end - start).collect();
        RouteTop {
            name: name.to_owned(),
            tenant: self.tenant.as_deref().map(str::to_owned),
            requests: self.classes.iter().sum(),
            requests_per_second: all as f64 / seconds,
            per_second: ClassRates { none, informational, successful, redirected, refused, failed },
            error_ratio: (counted[0] + counted[5]) as f64 / all.max(1) as f64,
            latency_ms: Quantiles::of(&times),
            overhead_ms: Quantiles::of(&self.overhead.since(&before.overhead)),
            heat,
        }
    }
}

impl Quantiles {
    fn of(times: &Distribution) -> Self {
        let quantile = |part| times.quantile(part).map(milliseconds);
        let count = times.count();
        Self {
            mean: (count > 0).then(|| 1e3 * times.seconds() / count as f64),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

fn rate(now: u64, before: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

impl ProcessTop {
    fn of(status: &Status, before: &Status, seconds: f64) -> Self {
        let process = &status.process;
        Self {
            cairn: status.cairn.clone(),
            pid: status.pid,
            uptime_seconds: status.uptime_seconds,
            version: status.version,
            reloading: status.reloading,
            guard_seconds: status.guard_seconds,
            draining: status.draining.clone(),
            cpu: (process.cpu_seconds - before.process.cpu_seconds).max(0.0) / seconds,
            resident_bytes: process.resident_bytes,
            open_descriptors: process.open_descriptors,
            max_descriptors: process.max_descriptors,
            in_flight: status.exchanges,
        }
    }
}

impl ListenerTop {
    fn of(status: &super::ListenerStatus) -> Self {
        Self { name: status.name.clone(), address: status.address.clone(), connections: status.connections }
    }
}

fn clusters(status: &Status, before: &Status, seconds: f64) -> Vec<ClusterTop> {
    let known: BTreeMap<&str, &ClusterStatus> = before.clusters.iter().map(|it| (&*it.name, it)).collect();
    let cluster = |cluster: &ClusterStatus| {
        let earlier = known.get(&*cluster.name).map_or(&[][..], |it| &it.endpoints);
        // Endpoints keep their order, unless the configuration has changed.
        let endpoints = cluster.endpoints.iter().enumerate().map(|(position, endpoint)| {
            let same = |it: &&EndpointStatus| it.address == endpoint.address;
            let before = earlier.get(position).filter(same).or_else(|| earlier.iter().find(same));
            EndpointTop::of(endpoint, before, seconds)
        });
        ClusterTop {
            name: cluster.name.clone(),
            uses: cluster.uses,
            waiting: cluster.limits.map(|limits| limits.waiting),
            endpoints: endpoints.collect(),
        }
    };
    status.clusters.iter().map(cluster).collect()
}

impl EndpointTop {
    fn of(endpoint: &EndpointStatus, before: Option<&EndpointStatus>, seconds: f64) -> Self {
        let since = |of: fn(&EndpointStatus) -> u64| of(endpoint).saturating_sub(before.map_or(0, of));
        let responses = since(|it| it.responses);
        Self {
            address: endpoint.address.clone(),
            healthy: endpoint.is_usable(),
            held: endpoint.held.clone(),
            weight: endpoint.weight,
            in_flight: endpoint.in_flight,
            open: endpoint.open,
            idle: endpoint.idle,
            answered_per_second: since(|it| it.answered) as f64 / seconds,
            failed_per_second: since(|it| it.failed) as f64 / seconds,
            first_byte_ms: (responses > 0).then(|| since(|it| it.first_byte_ns) as f64 / 1e6 / responses as f64),
        }
    }
}

fn workers(status: &Status, before: &Status, seconds: f64) -> Vec<WorkerTop> {
    let worker = |(worker, turns): (usize, &super::status::TurnStatus)| {
        let earlier = before.turns.get(worker).map_or(0, |it| it.turns);
        let cpu = |status: &Status| status.threads.get(worker).map_or(0.0, |it| it.cpu_seconds);
        WorkerTop {
            worker,
            busy_ratio: ((cpu(status) - cpu(before)) / seconds).clamp(0.0, 1.0),
            turn_delay_ms: status.turn_delays.get(worker).map_or(0.0, |it| *it as f64 / 1e3),
            turns_per_second: rate(turns.turns, earlier, seconds),
            connections: turns.connections,
            handshakes: turns.handshakes,
            exchanges: turns.exchanges,
            used_buffers: turns.used_buffers,
            ring_overflows: turns.ring_overflows,
        }
    };
    status.turns.iter().enumerate().map(worker).collect()
}

fn reasons(status: &Status, before: &Status, seconds: f64) -> Vec<ReasonTop> {
    let kinds = [("answer", &status.local_responses, &before.local_responses), ("cut", &status.cuts, &before.cuts)];
    let mut all: Vec<_> = kinds
        .into_iter()
        .flat_map(|(kind, now, before)| {
            now.iter().map(move |(reason, count)| ReasonTop {
                reason: reason.clone(),
                kind: kind.to_owned(),
                count: *count,
                per_second: rate(*count, before.get(reason).copied().unwrap_or(0), seconds),
            })
        })
        .collect();
    all.sort_by(|one, other| other.per_second.total_cmp(&one.per_second).then(other.count.cmp(&one.count)));
    all
}
