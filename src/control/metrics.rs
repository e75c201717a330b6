//! All metrics of the process. Not here: counting (`telemetry`), the text formats (`exposition`), and what is counted by route
//! (`series`).

use std::borrow::Cow;

use super::exposition::{Exposition, MetricsFormat, escaped, labels};
use super::names::{OVERFLOW, SeriesNames};
use super::status::{BufferStatus, TurnStatus};
use super::{BusyStatus, EndpointStatus, EndpointsUsed, LimitStatus, Status};
use super::{envoy, series};
use crate::cluster::Priority;
use crate::config::{MetricsProfile, MetricsSpec, TenantState};
use crate::http2::ErrorCode;
use crate::observer::Exemplars;
use crate::telemetry::{
    HandshakeFailure, HedgeOutcome, ProxyRefusal, RetryReason, RetryRefusal, Shed, TcpRefusal, TlsFailure,
};

/// All metrics of the process.
pub(super) fn text(
    status: &Status,
    names: &SeriesNames,
    spec: MetricsSpec,
    format: MetricsFormat,
    exemplars: &Exemplars,
) -> String {
    let mut out = Exposition::new(format);
    status.process.write(&mut out);
    if spec.profile != MetricsProfile::Envoy {
        process(status, &mut out);
        endpoints(status, spec.endpoints, &mut out);
        series::native(names, exemplars, &mut out);
    }
    if spec.profile != MetricsProfile::Native {
        envoy::series(status, names, &mut out);
    }
    out.end()
}

/// What is known of the process and its workers as a whole.
fn process(status: &Status, out: &mut Exposition) {
    let mut family =
        |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| out.family(name, kind, help, samples);
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
    client_http2(status, &mut family);
    client_tls(status, &mut family);
    proxied(status, &mut family);
    tcp(status, &mut family);
    endpoint_tls(status, &mut family);
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
    let traces = &status.traces;
    family("cairn_spans_exported_total", "counter", "Spans that the collector has taken.", &one(traces.exported));
    let help = "What the collector has not got: spans of an exchange for which there was no room (full), and spans that were refused or could not be sent (export).";
    let dropped = by_reason(["full", "export"], [traces.dropped, traces.lost]);
    family("cairn_spans_dropped_total", "counter", help, &dropped);
    local_responses(status, &mut family);
    workers(status, &mut family);
    turn_delays(status, out);
}

/// Answers made here, and responses that broke off, by why.
fn local_responses(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let samples = |counts: &std::collections::BTreeMap<String, u64>| -> Vec<_> {
        counts.iter().map(|(reason, count)| (format!("{{reason=\"{}\"}}", escaped(reason)), *count)).collect()
    };
    let help = "Answers that cairn has made itself, by why.";
    family("cairn_local_responses_total", "counter", help, &samples(&status.local_responses));
    let help = "Responses that were not sent to their end, or not at all, by why.";
    family("cairn_responses_cut_total", "counter", help, &samples(&status.cuts));
}

/// Endpoints as they are shown: labels, and what is known. Those of a cluster beyond so many of all are shown as one.
fn shown_endpoints(status: &Status, most: usize) -> Vec<(String, Cow<'_, EndpointStatus>)> {
    let mut shown = Vec::new();
    for cluster in &status.clusters {
        let mut rest: Option<EndpointStatus> = None;
        for endpoint in &cluster.endpoints {
            if shown.len() < most {
                let of = [("cluster", &*cluster.name), ("endpoint", &*endpoint.address)];
                shown.push((labels(&of), Cow::Borrowed(endpoint)));
                continue;
            }
            match &mut rest {
                Some(rest) => rest.add(endpoint),
                None => rest = Some(endpoint.clone()),
            }
        }
        shown
            .extend(rest.map(|rest| (labels(&[("cluster", &cluster.name), ("endpoint", OVERFLOW)]), Cow::Owned(rest))));
    }
    shown
}

/// The state of clusters and endpoints.
fn endpoints(status: &Status, most: usize, out: &mut Exposition) {
    let shown = shown_endpoints(status, most);
    let mut each = |name: &str, kind: &str, help: &str, value: fn(&EndpointStatus) -> u64| {
        out.begin(name, kind, help);
        shown.iter().for_each(|(labels, endpoint)| out.sample(name, labels, value(endpoint)));
    };
    let help = "1 if nothing keeps the endpoint from traffic: no health check, no ejection, no operator.";
    each("cairn_endpoint_healthy", "gauge", help, |it| u64::from(it.is_usable()));
    let help = "Attempts that the endpoint has answered, and not with 502, 503 or 504.";
    each("cairn_endpoint_answered_total", "counter", help, |it| it.answered);
    let help = "Attempts at the endpoint that have failed: no connection, hung up, too slow, 502, 503 or 504.";
    each("cairn_endpoint_failed_total", "counter", help, |it| it.failed);
    each("cairn_endpoint_in_flight", "gauge", "Attempts at the endpoint under way.", |it| it.in_flight.into());
    let help = "Connections to the endpoint that were begun.";
    each("cairn_upstream_connections_opened_total", "counter", help, |it| it.connections);
    let name = "cairn_upstream_connections";
    out.begin(name, "gauge", "Connections to the endpoint: active, or idle in a pool.");
    for (labels, it) in &shown {
        let inner = labels.trim_end_matches('}');
        out.sample(name, &format!("{inner},state=\"active\"}}"), it.open.saturating_sub(it.idle));
        out.sample(name, &format!("{inner},state=\"idle\"}}"), it.idle);
    }
    let name = "cairn_endpoint_first_byte_seconds";
    out.begin(name, "summary", "From the whole request to the head of the endpoint's response, of all that have come.");
    for (labels, it) in &shown {
        out.sample("cairn_endpoint_first_byte_seconds_sum", labels, it.first_byte_ns as f64 / 1e9);
        out.sample("cairn_endpoint_first_byte_seconds_count", labels, it.responses);
    }
    clusters(status, out);
}

/// The state of clusters.
fn clusters(status: &Status, out: &mut Exposition) {
    let family =
        &mut |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| out.family(name, kind, help, samples);
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

/// HTTP/2 with clients.
fn client_http2(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let names = ErrorCode::ALL.map(ErrorCode::name).into_iter().zip(status.http2_errors);
    let errors: Vec<_> = names.map(|(name, count)| (format!("{{code=\"{name}\"}}"), count)).collect();
    let help = "Connections of HTTP/2 that ended with an error of their client, by its code.";
    family("cairn_http2_connection_errors_total", "counter", help, &errors);
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

/// What each worker does and holds.
fn workers(status: &Status, family: &mut impl FnMut(&str, &str, &str, &[(String, u64)])) {
    let by_worker = |count: fn(&TurnStatus) -> u64| -> Vec<_> {
        let workers = status.turns.iter().enumerate();
        workers.map(|(worker, it)| (format!("{{worker=\"{worker}\"}}"), count(it))).collect()
    };
    family("cairn_worker_turns_total", "counter", "Turns of the worker's loop.", &by_worker(|it| it.turns));
    let help = "Turns in which the ring had more completions than it has room for; the kernel kept the others.";
    family("cairn_worker_ring_overflows_total", "counter", help, &by_worker(|it| it.ring_overflows));
    let help = "Receive buffers that are in use, or offered to the kernel.";
    family("cairn_worker_used_buffers", "gauge", help, &by_worker(|it| it.used_buffers));
    let by_state = status.turns.iter().enumerate().flat_map(|(worker, it)| {
        let active = it.exchanges.min(it.connections - it.handshakes.min(it.connections));
        let idle = it.connections.saturating_sub(it.handshakes + active);
        [("handshake", it.handshakes), ("active", active), ("idle", idle)]
            .map(|(state, count)| (format!("{{worker=\"{worker}\",state=\"{state}\"}}"), count))
    });
    let help = "Open connections of clients: in a TLS handshake, with an exchange with an origin, or with none.";
    family("cairn_worker_connections", "gauge", help, &by_state.collect::<Vec<_>>());
}

/// How late workers are, which is no whole number of seconds.
fn turn_delays(status: &Status, out: &mut Exposition) {
    let name = "cairn_worker_turn_delay_seconds";
    out.begin(name, "gauge", "How long the turn of the worker is into which an arrival falls, on average.");
    for (worker, delay) in status.turn_delays.iter().enumerate() {
        out.sample(name, &format!("{{worker=\"{worker}\"}}"), *delay as f64 / 1e6);
    }
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize, &BusyStatus) -> f64| {
        out.begin(name, kind, help);
        for (worker, busy) in status.threads.iter().enumerate() {
            out.sample(name, &format!("{{worker=\"{worker}\"}}"), value(worker, busy));
        }
    };
    let help = "Part of the time that the worker's thread runs on a CPU, over the last half second.";
    each("cairn_worker_busy_ratio", "gauge", help, &|_, it| it.busy_ratio);
    let help = "Seconds that the worker's thread has run on a CPU.";
    each("cairn_worker_cpu_seconds_total", "counter", help, &|_, it| it.cpu_seconds);
    let help = "Seconds that the worker's thread could have run and had to wait for a CPU.";
    each("cairn_worker_cpu_wait_seconds_total", "counter", help, &|_, it| it.wait_seconds);
    let help = "Seconds that the worker has spent in turns, between its calls of the kernel.";
    each("cairn_worker_turn_seconds_total", "counter", help, &|worker, _| {
        status.turns.get(worker).map_or(0.0, |it| it.busy_ns as f64 / 1e9)
    });
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
