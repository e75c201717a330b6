//! Metrics in the Prometheus text format 0.0.4. Not here: counting (`telemetry`).

use std::fmt::Write;

use super::status::BufferStatus;
use super::{ClusterStatus, EndpointStatus, EndpointsUsed, LimitStatus, Status};
use crate::cluster::Priority;
use crate::config::TenantState;
use crate::telemetry::{
    HandshakeFailure, HedgeOutcome, ProxyRefusal, RetryReason, RetryRefusal, Shed, TcpRefusal, TlsFailure,
};

/// All metrics of the process.
pub(super) fn text(status: &Status) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| [(String::new(), value)];
    family("cairn_config_version", "gauge", "Version of the configuration that is served.", &one(status.version));
    let help = "Configurations in memory: the current one, and old ones that exchanges under way use.";
    family("cairn_config_snapshots", "gauge", help, &one(status.snapshots as u64));
    let reloads = &status.reloads;
    let results = [
        ("applied", reloads.applied),
        ("unchanged", reloads.unchanged),
        ("refused", reloads.refused),
        ("rolled_back", reloads.rolled_back),
    ];
    let results = results.map(|(result, count)| (format!("{{result=\"{result}\"}}"), count));
    family("cairn_config_reloads_total", "counter", "Reloads, by what became of them.", &results);
    let failed = u64::from(reloads.problem.is_some());
    family(
        "cairn_config_last_reload_failed",
        "gauge",
        "1 if the files are not served: the last reload of them was refused or rolled back.",
        &one(failed),
    );
    let classes: Vec<_> =
        (2..).zip(status.responses).map(|(class, count)| (format!("{{class=\"{class}xx\"}}"), count)).collect();
    family("cairn_responses_total", "counter", "Final responses sent, by class of status.", &classes);
    let help = "Connections to endpoints that could not be made.";
    family("cairn_upstream_connect_failures_total", "counter", help, &one(status.connect_failures));
    client_tls(status, &mut family);
    proxied(status, &mut family);
    tcp(status, &mut family);
    endpoint_tls(status, &mut family);
    endpoints(status, &mut family);
    retries(status, &mut family);
    let help = "Exchanges with an origin under way.";
    family("cairn_upstream_requests_in_flight", "gauge", help, &one(status.exchanges));
    buffers(status, &mut family);
    overload(status, &mut family);
    let listeners: Vec<_> =
        status.listeners.iter().map(|it| (format!("{{listener=\"{}\"}}", escaped(&it.name)), it.connections)).collect();
    family("cairn_downstream_connections", "gauge", "Open connections.", &listeners);
    let tenants: Vec<_> = status
        .tenants
        .iter()
        .map(|tenant| {
            (format!("{{tenant=\"{}\"}}", escaped(&tenant.name)), u64::from(tenant.state == TenantState::Live))
        })
        .collect();
    family("cairn_tenant_live", "gauge", "1 if the tenant's file is served as it stands.", &tenants);
    let help = "Lines for stderr that were dropped, because nobody read it.";
    family("cairn_events_dropped_total", "counter", help, &one(status.events_dropped));
    let log = &status.access_log;
    let help = "Entries of the access log that were queued to be written.";
    family("cairn_access_log_entries_total", "counter", help, &one(log.queued));
    let help = "Entries of the access log that are not in it: there was no room for them (full), or they could not be written (write).";
    let dropped = by_reason(["full", "write"], [log.dropped, log.lost]);
    family("cairn_access_log_dropped_total", "counter", help, &dropped);
    turn_delays(status, &mut out);
    out
}

/// The state of clusters and endpoints.
fn endpoints(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let each = |value: fn(&EndpointStatus) -> u64| -> Vec<_> {
        let pairs = status.clusters.iter().flat_map(|it| it.endpoints.iter().map(move |endpoint| (it, endpoint)));
        let labels = |(cluster, endpoint): (&ClusterStatus, &EndpointStatus)| {
            let (cluster, address) = (escaped(&cluster.name), escaped(&endpoint.address));
            (format!("{{cluster=\"{cluster}\",endpoint=\"{address}\"}}"), value(endpoint))
        };
        pairs.map(labels).collect()
    };
    let help = "1 if nothing keeps the endpoint from traffic: no health check, no ejection, no operator.";
    family("cairn_endpoint_healthy", "gauge", help, &each(|it| u64::from(it.is_usable())));
    let help = "Attempts that the endpoint has answered, and not with 502, 503 or 504.";
    family("cairn_endpoint_answered_total", "counter", help, &each(|it| it.answered));
    let help = "Attempts at the endpoint that have failed: no connection, hung up, too slow, 502, 503 or 504.";
    family("cairn_endpoint_failed_total", "counter", help, &each(|it| it.failed));
    family("cairn_endpoint_in_flight", "gauge", "Attempts at the endpoint under way.", &each(|it| it.in_flight.into()));
    let panics = status.clusters.iter().map(|cluster| {
        (format!("{{cluster=\"{}\"}}", escaped(&cluster.name)), u64::from(cluster.uses == EndpointsUsed::All))
    });
    let help = "1 if all endpoints are used, because too few are usable.";
    family("cairn_cluster_panic", "gauge", help, &panics.collect::<Vec<_>>());
    limits(status, family);
}

/// Clusters with limits.
fn limits(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let limited = || status.clusters.iter().filter_map(|it| Some((escaped(&it.name), it.limits?)));
    let each = |value: fn(&LimitStatus) -> u32| -> Vec<_> {
        limited().map(|(name, it)| (format!("{{cluster=\"{name}\"}}"), value(&it).into())).collect()
    };
    let help = "Most requests to the cluster under way, as it stands; 0: only its endpoints have limits.";
    family("cairn_cluster_requests_limit", "gauge", help, &each(|it| it.requests));
    let help = "Requests to the cluster that count against its limit.";
    family("cairn_cluster_requests_taken", "gauge", help, &each(|it| it.taken));
    let help = "Requests to the cluster that wait for a place.";
    family("cairn_cluster_requests_waiting", "gauge", help, &each(|it| it.waiting));
    let refused = limited().flat_map(|(name, it)| {
        let reasons = [("queue_full", it.queue_full), ("queue_timeout", it.queue_timeout)];
        reasons.map(|(reason, count)| (format!("{{cluster=\"{name}\",reason=\"{reason}\"}}"), count))
    });
    let help = "Requests refused because of the limits of their cluster.";
    family("cairn_cluster_refused_total", "counter", help, &refused.collect::<Vec<_>>());
}

/// Requests that were sent again, and those that were not.
fn retries(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let made = by_reason(RetryReason::ALL.map(RetryReason::name), status.retries);
    family("cairn_retries_total", "counter", "Requests that were sent again, by why.", &made);
    let refused = by_reason(RetryRefusal::ALL.map(RetryRefusal::name), status.refused_retries);
    let help = "Requests that were not sent again although their routes ask for it, by why.";
    family("cairn_retries_refused_total", "counter", help, &refused);
    let hedges = HedgeOutcome::ALL.into_iter().zip(status.hedges);
    let hedges: Vec<_> =
        hedges.map(|(outcome, count)| (format!("{{outcome=\"{}\"}}", outcome.name()), count)).collect();
    let help = "Second attempts beside slow ones, by what became of them.";
    family("cairn_hedges_total", "counter", help, &hedges);
}

/// PROXY headers of clients.
fn proxied(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let refused = by_reason(ProxyRefusal::ALL.map(ProxyRefusal::name), status.proxied_refused);
    let help = "Connections closed because of their PROXY header, by why.";
    family("cairn_proxy_protocol_refused_total", "counter", help, &refused);
}

/// Connections of TCP.
fn tcp(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let listeners = status.listeners.iter();
    let passed: Vec<_> =
        listeners.filter_map(|it| Some((format!("{{listener=\"{}\"}}", escaped(&it.name)), it.passed_on?))).collect();
    let help = "Connections of TCP that were passed on to an endpoint.";
    family("cairn_tcp_connections_total", "counter", help, &passed);
    let open = [(String::new(), status.passing)];
    family("cairn_tcp_connections_open", "gauge", "Those of them that are open.", &open);
    let refused = by_reason(TcpRefusal::ALL.map(TcpRefusal::name), status.tcp_refused);
    let help = "Connections of TCP that were not passed on, by why.";
    family("cairn_tcp_connections_refused_total", "counter", help, &refused);
}

/// TLS towards clients.
fn client_tls(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let tls = &status.handshakes;
    let kinds = [
        ("1.2", false, tls.tls12_full),
        ("1.2", true, tls.tls12_resumed),
        ("1.3", false, tls.tls13_full),
        ("1.3", true, tls.tls13_resumed),
    ];
    let kinds =
        kinds.map(|(version, resumed, count)| (format!("{{version=\"{version}\",resumed=\"{resumed}\"}}"), count));
    family("cairn_tls_handshakes_total", "counter", "TLS handshakes of clients.", &kinds);
    let help = "TLS handshakes of clients that came to nothing, by why.";
    let failures = by_reason(HandshakeFailure::ALL.map(HandshakeFailure::name), tls.failures);
    family("cairn_tls_handshake_failures_total", "counter", help, &failures);
    let help = "Clients that were hung up on because of limits.handshakes.";
    let refused = [("{reason=\"too_many_handshakes\"}".to_owned(), tls.refused)];
    family("cairn_tls_handshakes_refused_total", "counter", help, &refused);
    let plain = status
        .listeners
        .iter()
        .filter_map(|it| Some((format!("{{listener=\"{}\"}}", escaped(&it.name)), it.plain_text?)));
    let plain: Vec<_> = plain.collect();
    let help = "Connections in plain text to listeners that take TLS, too (tls.mode permissive).";
    family("cairn_tls_plain_text_connections_total", "counter", help, &plain);
    let certificates = status.certificates.iter().map(|it| {
        let labels = format!(
            "{{kind=\"{}\",owner=\"{}\",position=\"{}\",name=\"{}\"}}",
            it.kind,
            escaped(&it.owner),
            it.position,
            escaped(&it.name)
        );
        (labels, it.expires)
    });
    let certificates: Vec<_> = certificates.collect();
    let help = "When a certificate ends, or one that leads from it to its authority, in seconds since 1970.";
    family("cairn_tls_certificate_expiry_timestamp_seconds", "gauge", help, &certificates);
}

/// TLS towards endpoints.
fn endpoint_tls(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let kinds = ["1.2", "1.3"].into_iter().zip(status.endpoint_tls_handshakes);
    let kind = |(version, counts): (&str, [u64; 2])| {
        [false, true]
            .map(|resumed| (format!("{{version=\"{version}\",resumed=\"{resumed}\"}}"), counts[usize::from(resumed)]))
    };
    let kinds: Vec<_> = kinds.flat_map(kind).collect();
    family("cairn_upstream_tls_handshakes_total", "counter", "TLS handshakes with endpoints.", &kinds);
    let failures = by_reason(TlsFailure::ALL.map(TlsFailure::name), status.endpoint_tls_failures);
    let help = "Connections to endpoints on which TLS has failed, by why.";
    family("cairn_upstream_tls_failures_total", "counter", help, &failures);
    let insecure = [(String::new(), status.insecure_clusters as u64)];
    family("cairn_insecure_clusters", "gauge", "Clusters that take any certificate.", &insecure);
}

/// Receive buffers, and the connections that were shed for want of them.
fn buffers(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let by_worker = |count: fn(&BufferStatus) -> u64| -> Vec<_> {
        let workers = status.buffers.iter().enumerate();
        workers.map(|(worker, it)| (format!("{{worker=\"{worker}\"}}"), count(it))).collect()
    };
    let help = "Receive buffers that nobody holds.";
    family("cairn_worker_free_buffers", "gauge", help, &by_worker(|it| it.free));
    let help = "Sockets whose receive waits for a buffer.";
    family("cairn_worker_starved_receives", "gauge", help, &by_worker(|it| it.starved));
    let shed = by_reason(Shed::ALL.map(Shed::name), status.shed);
    let help = "Connections ended because buffers ran short, by what they had waited for.";
    family("cairn_connections_shed_total", "counter", help, &shed);
}

/// How late workers are, which is no whole number of seconds.
fn turn_delays(status: &Status, out: &mut String) {
    let name = "cairn_worker_turn_delay_seconds";
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "# HELP {name} How long the turn of the worker is into which an arrival falls, on average.\n# TYPE {name} gauge"
    );
    for (worker, delay) in status.turn_delays.iter().enumerate() {
        let _ = writeln!(out, "{name}{{worker=\"{worker}\"}} {}", *delay as f64 / 1e6);
    }
}

/// What workers refuse because they are late.
fn overload(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let refused = Priority::ALL.into_iter().zip(status.overloaded);
    let refused = refused.map(|(priority, count)| (format!("{{priority=\"{}\"}}", priority.name()), count));
    let help = "Requests refused because a worker had more to do than it could.";
    family("cairn_overload_refused_total", "counter", help, &refused.collect::<Vec<_>>());
}

/// Samples with a label `reason`.
fn by_reason<const N: usize>(names: [&str; N], counts: [u64; N]) -> Vec<(String, u64)> {
    names.into_iter().zip(counts).map(|(name, count)| (format!("{{reason=\"{name}\"}}"), count)).collect()
}

/// `text` as the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
