//! Series under the names that Envoy gives them, for dashboards that exist. What cairn does not count is not there. Not here: cairn's own
//! names (`series`).

use std::collections::BTreeMap;

use super::exposition::{Exposition, labels};
use super::names::SeriesNames;
use super::series::{counts, routes};
use super::{ClusterStatus, EndpointStatus, Status};

/// Requests by something, and by status.
type Requests<'a> = BTreeMap<&'a str, BTreeMap<u16, u64>>;

/// All series of the profile.
pub(super) fn series(status: &Status, names: &SeriesNames, out: &mut Exposition) {
    let (mut by_cluster, mut by_listener) = (Requests::new(), Requests::new());
    by_cluster.extend(status.clusters.iter().map(|it| (&*it.name, BTreeMap::new())));
    by_listener.extend(status.listeners.iter().map(|it| (&*it.name, BTreeMap::new())));
    for (_, stats) in routes(names) {
        for (series, count) in counts(names, stats) {
            let status = series.status.unwrap_or_default();
            *by_listener.entry(series.listener).or_default().entry(status).or_default() += count;
            if !series.cluster.is_empty() {
                *by_cluster.entry(series.cluster).or_default().entry(status).or_default() += count;
            }
        }
    }
    requests(out, "envoy_cluster_upstream_rq", "envoy_cluster_name", "Requests to the cluster", &by_cluster);
    let of = "envoy_http_conn_manager_prefix";
    requests(out, "envoy_http_downstream_rq", of, "Requests of clients of the listener", &by_listener);
    listeners(status, out);
    clusters(status, out);
    server(status, out);
}

/// Requests: all, by class of status, and by status.
fn requests(out: &mut Exposition, name: &str, of: &str, help: &str, requests: &Requests<'_>) {
    let total = |(owner, counts): (&&str, &BTreeMap<u16, u64>)| (labels(&[(of, owner)]), counts.values().sum::<u64>());
    let totals: Vec<_> = requests.iter().map(total).collect();
    out.family(&format!("{name}_total"), "counter", &format!("{help}."), &totals);
    let classes = |(owner, counts): (&&str, &BTreeMap<u16, u64>)| {
        let owner = owner.to_string();
        let of_class = |class: u16| counts.range(class * 100..class * 100 + 100).map(|(_, count)| count).sum::<u64>();
        [1, 2, 3, 4, 5].map(|class| {
            let class_text = class.to_string();
            (labels(&[(of, &owner), ("envoy_response_code_class", &class_text)]), of_class(class))
        })
    };
    let classes: Vec<_> = requests.iter().flat_map(classes).collect();
    out.family(&format!("{name}_xx"), "counter", &format!("{help}, by class of status."), &classes);
    let by_status = requests.iter().flat_map(|(owner, counts)| {
        let labelled = |(status, count): (&u16, &u64)| {
            (labels(&[(of, owner), ("envoy_response_code", &status.to_string())]), *count)
        };
        counts.iter().map(labelled).collect::<Vec<_>>()
    });
    out.family(name, "counter", &format!("{help}, by status."), &by_status.collect::<Vec<_>>());
}

fn listeners(status: &Status, out: &mut Exposition) {
    let connections =
        status.listeners.iter().map(|it| (labels(&[("envoy_http_conn_manager_prefix", &it.name)]), it.connections));
    let help = "Open connections of clients.";
    out.family("envoy_http_downstream_cx_active", "gauge", help, &connections.collect::<Vec<_>>());
}

fn clusters(status: &Status, out: &mut Exposition) {
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&ClusterStatus) -> u64| {
        let samples = status.clusters.iter().map(|it| (labels(&[("envoy_cluster_name", &it.name)]), value(it)));
        out.family(name, kind, help, &samples.collect::<Vec<_>>());
    };
    let sum = |of: fn(&EndpointStatus) -> u64| move |it: &ClusterStatus| it.endpoints.iter().map(of).sum::<u64>();
    each("envoy_cluster_membership_total", "gauge", "Endpoints.", &|it| it.endpoints.len() as u64);
    let help = "Endpoints that are usable.";
    each("envoy_cluster_membership_healthy", "gauge", help, &sum(|it| u64::from(it.is_usable())));
    each("envoy_cluster_upstream_rq_active", "gauge", "Requests under way.", &sum(|it| it.in_flight.into()));
    each("envoy_cluster_upstream_cx_active", "gauge", "Open connections.", &sum(|it| it.open));
    each("envoy_cluster_upstream_cx_total", "counter", "Connections that were begun.", &sum(|it| it.connections));
    let waiting = |it: &ClusterStatus| it.limits.map_or(0, |it| it.waiting.into());
    each("envoy_cluster_upstream_rq_pending_active", "gauge", "Requests that wait for a place.", &waiting);
    let refused = |it: &ClusterStatus| it.limits.map_or(0, |it| it.queue_full);
    let help = "Requests refused because too many waited.";
    each("envoy_cluster_upstream_rq_pending_overflow", "counter", help, &refused);
}

fn server(status: &Status, out: &mut Exposition) {
    let mut one = |name: &str, help: &str, value: u64| out.family(name, "gauge", help, &[(String::new(), value)]);
    one("envoy_server_live", "1 unless it drains.", u64::from(status.draining.is_none()));
    one("envoy_server_uptime", "Seconds since the start.", status.uptime_seconds);
    one("envoy_server_concurrency", "Workers.", status.workers as u64);
    one("envoy_server_memory_physical_size", "Bytes of memory that are resident.", status.process.resident_bytes);
    let connections = status.listeners.iter().map(|it| it.connections).sum();
    one("envoy_server_total_connections", "Open connections of clients.", connections);
}
