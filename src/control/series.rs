//! The series of requests: by route, by tenant, and as dashboards for Envoy know them. Not here: their text format (`exposition`), and
//! metrics of the process (`metrics`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::exposition::{Bucket, Exposition, labels};
use super::names::{NamedRoute, OVERFLOW, SeriesNames};
use crate::http::Method;
use crate::observer::{Exemplar, Exemplars, Timed};
use crate::telemetry::{Distribution, NO_METHOD, RouteStats, Span};

/// Bounds of times as clients see them and of what endpoints take.
pub(super) const LONG: [(&str, Duration); 14] = [
    ("0.0005", Duration::from_micros(500)),
    ("0.001", Duration::from_millis(1)),
    ("0.0025", Duration::from_micros(2500)),
    ("0.005", Duration::from_millis(5)),
    ("0.01", Duration::from_millis(10)),
    ("0.025", Duration::from_millis(25)),
    ("0.05", Duration::from_millis(50)),
    ("0.1", Duration::from_millis(100)),
    ("0.25", Duration::from_millis(250)),
    ("0.5", Duration::from_millis(500)),
    ("1.0", Duration::from_secs(1)),
    ("2.5", Duration::from_millis(2500)),
    ("5.0", Duration::from_secs(5)),
    ("10.0", Duration::from_secs(10)),
];

/// Bounds of the time that cairn itself takes.
const SHORT: [(&str, Duration); 10] = [
    ("0.00001", Duration::from_micros(10)),
    ("0.000025", Duration::from_micros(25)),
    ("0.00005", Duration::from_micros(50)),
    ("0.0001", Duration::from_micros(100)),
    ("0.00025", Duration::from_micros(250)),
    ("0.0005", Duration::from_micros(500)),
    ("0.001", Duration::from_millis(1)),
    ("0.0025", Duration::from_micros(2500)),
    ("0.01", Duration::from_millis(10)),
    ("0.1", Duration::from_millis(100)),
];

/// Each histogram: span, name, help.
const HISTOGRAMS: [(Span, &str, &str); 5] = [
    (
        Span::Total,
        "cairn_request_duration_seconds",
        "From the head of a request to the last byte of its response, as the client sees it.",
    ),
    (
        Span::Overhead,
        "cairn_proxy_overhead_seconds",
        "What cairn itself has added: from when bytes could be read to when what follows from them was queued.",
    ),
    (
        Span::Queue,
        "cairn_upstream_queue_seconds",
        "How long requests have waited for a place at their cluster, if they had to.",
    ),
    (
        Span::Connect,
        "cairn_upstream_connect_seconds",
        "How long connecting to endpoints has taken, TLS included, where a connection was made.",
    ),
    (
        Span::FirstByte,
        "cairn_upstream_first_byte_seconds",
        "From the whole request to the head of the endpoint's response.",
    ),
];

/// What requests are counted by, in names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedSeries<'a> {
    pub(super) listener: &'a str,
    pub(super) cluster: &'a str,
    pub(super) method: &'a str,
    /// None: there were too many.
    pub(super) status: Option<u16>,
}

/// The name of a method by its number.
fn method(number: u8) -> &'static str {
    const NAMED: [(Method, &str); 10] = [
        (Method::Get, "GET"),
        (Method::Head, "HEAD"),
        (Method::Post, "POST"),
        (Method::Put, "PUT"),
        (Method::Delete, "DELETE"),
        (Method::Connect, "CONNECT"),
        (Method::Options, "OPTIONS"),
        (Method::Trace, "TRACE"),
        (Method::Patch, "PATCH"),
        (Method::Other, "other"),
    ];
    match number {
        NO_METHOD => "",
        number => NAMED.into_iter().find(|(method, _)| *method as u8 == number).map_or("", |(_, name)| name),
    }
}

/// All requests of a route, of all workers, in the order of their names.
pub(super) fn counts<'a>(names: &'a SeriesNames, stats: &RouteStats) -> BTreeMap<NamedSeries<'a>, u64> {
    let mut sums = BTreeMap::new();
    for cells in stats.workers() {
        for (series, count) in cells.counts() {
            let named = NamedSeries {
                listener: names.listener(series.listener),
                cluster: names.cluster(series.cluster),
                method: method(series.method),
                status: Some(series.status),
            };
            *sums.entry(named).or_default() += count;
        }
        if cells.overflow() > 0 {
            let named = NamedSeries { listener: OVERFLOW, cluster: OVERFLOW, method: OVERFLOW, status: None };
            *sums.entry(named).or_default() += cells.overflow();
        }
    }
    sums
}

/// All routes and what stands for those that have none, by name.
pub(super) fn routes(names: &SeriesNames) -> impl Iterator<Item = (&str, &RouteStats)> {
    let common = [("", &*names.common.unrouted), (OVERFLOW, &*names.common.overflow)];
    common.into_iter().chain(names.routes.iter().map(|(name, route)| (&**name, &*route.stats)))
}

/// Requests and times, by route.
pub(super) fn native(names: &SeriesNames, exemplars: &Exemplars, out: &mut Exposition) {
    let mut tenants = BTreeMap::<&str, [u64; 6]>::new();
    for NamedRoute { tenant, .. } in names.routes.values() {
        tenant.iter().for_each(|tenant| *tenants.entry(tenant).or_default() = [0; 6]);
    }
    let (mut overflow, name) = (0, "cairn_requests_total");
    let help =
        "Requests that are over, by status of the response (0: none was sent); route is empty where none matched.";
    out.begin(name, "counter", help);
    for (route, stats) in routes(names) {
        let mut totals = names.routes.get(route).and_then(|it| it.tenant.as_deref()).and_then(|it| tenants.get_mut(it));
        for (series, count) in counts(names, stats) {
            let NamedSeries { listener, cluster, method, status } = series;
            let text = status.map_or_else(|| OVERFLOW.to_owned(), |status| status.to_string());
            let written = [
                ("listener", listener),
                ("route", route),
                ("cluster", cluster),
                ("method", method),
                ("status", &*text),
            ];
            out.sample(name, &labels(&written), count);
            if let Some(totals) = &mut totals {
                totals[usize::from(status.unwrap_or_default() / 100).min(5)] += count;
            }
            if status.is_none() || route == OVERFLOW {
                overflow += count;
            }
        }
    }
    let help = "Requests of a tenant's routes that are over, by class of status (0xx: none was sent).";
    let by_class = |(tenant, totals): (&&str, &[u64; 6])| {
        let (tenant, totals) = (tenant.to_string(), *totals);
        totals
            .into_iter()
            .zip(0..)
            .map(move |(count, class)| (labels(&[("tenant", &tenant), ("class", &format!("{class}xx"))]), count))
    };
    out.family("cairn_tenant_requests_total", "counter", help, &tenants.iter().flat_map(by_class).collect::<Vec<_>>());
    let help = "Requests that have no series of their own, because there are too many series (metrics.routes).";
    out.family("cairn_metrics_overflow_total", "counter", help, &[(String::new(), overflow)]);
    let help = "Routes that are gone whose series are not shown any more, because there were too many.";
    out.family("cairn_metrics_forgotten_routes_total", "counter", help, &[(String::new(), names.forgotten)]);
    let help = "Routes of the configuration that have no series of their own (metrics.routes).";
    out.family("cairn_metrics_overflowing_routes", "gauge", help, &[(String::new(), names.overflowing as u64)]);
    for (span, name, help) in HISTOGRAMS {
        out.begin(name, "histogram", help);
        for (route, stats) in routes(names).filter(|(_, stats)| stats.has(span)) {
            let times = stats.times(span);
            let find = |above, most| exemplars.find(route, timed(span)?, above, most);
            histogram(out, name, &labels(&[("route", route)]), (span, &times), find);
        }
    }
}

fn histogram<'a>(
    out: &mut Exposition,
    name: &str,
    labels: &str,
    (span, times): (Span, &Distribution),
    find: impl Fn(Duration, Duration) -> Option<&'a Exemplar>,
) {
    let total = (times.count(), times.seconds());
    if span == Span::Overhead {
        out.histogram(name, labels, buckets(&SHORT, times, find), total);
    } else {
        out.histogram(name, labels, buckets(&LONG, times, find), total);
    }
}

/// The buckets of a histogram with these bounds.
fn buckets<'a, const N: usize>(
    bounds: &[(&'static str, Duration); N],
    times: &Distribution,
    find: impl Fn(Duration, Duration) -> Option<&'a Exemplar>,
) -> impl Iterator<Item = Bucket<'a>> {
    let mut above = Duration::ZERO;
    let below = times.cumulative(&bounds.map(|(_, bound)| bound)).into_iter().chain([times.count()]);
    let bounds = bounds.iter().copied().chain([("+Inf", Duration::MAX)]);
    bounds.zip(below).map(move |((text, bound), below)| {
        let exemplar = find(above, bound);
        above = bound;
        Bucket { bound: text, below, exemplar }
    })
}

/// What exemplars know of a part of the time. The first byte is timed there from the beginning of the request, not from its end.
fn timed(span: Span) -> Option<Timed> {
    match span {
        Span::Total => Some(Timed::Total),
        Span::Overhead => Some(Timed::Own),
        Span::Queue => Some(Timed::Queue),
        Span::Connect => Some(Timed::Connect),
        Span::FirstByte => None,
    }
}
