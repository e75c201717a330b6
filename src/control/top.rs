//! `/top`: what has happened lately, for `cairn top` and for pages that show it live. Two looks at all counters, some time apart, are
//! made rates and quantiles of that time. Not here: how it is sent (`events`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

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
#[derive(Clone, Debug, Serialize)]
pub struct Top {
    /// When the second look was, in seconds since 1970.
    at: f64,
    /// Seconds between both.
    seconds: f64,
    process: ProcessTop,
    /// All routes together.
    total: RouteTop,
    /// Upper bounds of `heat`, in milliseconds; what is longer comes last.
    bounds_ms: Vec<f64>,
    /// The 200 routes with most requests.
    routes: Vec<RouteTop>,
    clusters: Vec<ClusterTop>,
    workers: Vec<WorkerTop>,
    /// Why cairn has answered by itself, or has cut responses, most of that first.
    reasons: Vec<ReasonTop>,
    tenants: Vec<TenantTop>,
    listeners: Vec<ListenerTop>,
    certificates: Vec<CertificateStatus>,
    reloads: ReloadCounts,
    /// The last plan that an operator has asked for; none: there was none.
    last_plan: Option<LastPlan>,
}

/// The process.
#[derive(Clone, Debug, Serialize)]
struct ProcessTop {
    cairn: String,
    pid: u32,
    uptime_seconds: u64,
    /// Version of the configuration.
    version: u64,
    /// Whether a reload is under way.
    reloading: bool,
    /// Time until the guard of the last reload ends; none: there is no guard.
    guard_seconds: Option<u64>,
    draining: Option<DrainStatus>,
    /// CPUs' worth of time that all threads have used.
    cpu: f64,
    resident_bytes: u64,
    open_descriptors: u64,
    max_descriptors: u64,
    /// Requests with an origin under way.
    in_flight: u64,
}

/// Requests of a route.
#[derive(Clone, Debug, Default, Serialize)]
struct RouteTop {
    name: String,
    tenant: Option<String>,
    /// Requests since the start.
    requests: u64,
    requests_per_second: f64,
    /// By class of status.
    per_second: ClassRates,
    /// Part of the requests that were answered with 5xx, or not at all.
    error_ratio: f64,
    /// As the client sees it.
    latency_ms: Quantiles,
    /// What cairn itself has taken.
    overhead_ms: Quantiles,
    /// Requests by how long they have taken, of `bounds_ms`.
    heat: Vec<u64>,
}

/// Requests a second by class of status.
#[derive(Clone, Debug, Default, Serialize)]
struct ClassRates {
    none: f64,
    #[serde(rename = "1xx")]
    informational: f64,
    #[serde(rename = "2xx")]
    successful: f64,
    #[serde(rename = "3xx")]
    redirected: f64,
    #[serde(rename = "4xx")]
    refused: f64,
    #[serde(rename = "5xx")]
    failed: f64,
}

/// Quantiles of times; none without any.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Quantiles {
    mean: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
}

/// A cluster and its endpoints.
#[derive(Clone, Debug, Serialize)]
struct ClusterTop {
    name: String,
    uses: EndpointsUsed,
    /// Requests that wait for a place; none where nothing is limited.
    waiting: Option<u32>,
    endpoints: Vec<EndpointTop>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
struct EndpointTop {
    address: String,
    healthy: bool,
    /// Why it is kept from traffic.
    held: Vec<String>,
    weight: u16,
    in_flight: u32,
    open: u64,
    idle: u64,
    answered_per_second: f64,
    failed_per_second: f64,
    /// Mean time to the head of a response; none without any.
    first_byte_ms: Option<f64>,
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
struct WorkerTop {
    worker: usize,
    /// Part of the time that its thread runs.
    busy_ratio: f64,
    turn_delay_ms: f64,
    turns_per_second: f64,
    connections: u64,
    handshakes: u64,
    exchanges: u64,
    used_buffers: u64,
    ring_overflows: u64,
}

/// Something that cairn has done for a reason.
#[derive(Clone, Debug, Serialize)]
struct ReasonTop {
    reason: String,
    /// `answer` or `cut`.
    kind: &'static str,
    count: u64,
    per_second: f64,
}

/// A tenant.
#[derive(Clone, Debug, Serialize)]
struct TenantTop {
    name: String,
    state: TenantState,
    routes: usize,
    requests_per_second: f64,
    error_ratio: f64,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
struct ListenerTop {
    name: String,
    address: String,
    connections: u64,
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
                kind,
                count: *count,
                per_second: rate(*count, before.get(reason).copied().unwrap_or(0), seconds),
            })
        })
        .collect();
    all.sort_by(|one, other| other.per_second.total_cmp(&one.per_second).then(other.count.cmp(&one.count)));
    all
}
