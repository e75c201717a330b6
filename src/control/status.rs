//! The state of the process, for `cairn status`, `/status` and `/metrics`. Not here: how it is sent (`admin`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::certificates::{CertificateStatus, certificates};
use super::prepare::insecure_clusters;
use super::reload::{Running, Verdict};
use super::{AccessLogStatus, BusyStatus, ClusterStatus, Control, DrainStatus, Plan, ProcessStatus, TraceStatus};
use crate::config::{Report, TenantState};
use crate::event_log;
use crate::http2::ErrorCode;
use crate::id::{Address, ListenerId};
use crate::limits::BUFFERS;
use crate::route::Protocol;
use crate::telemetry::{
    Counters, HandshakeFailure, HedgeOutcome, ProxyRefusal, Reasons, RetryReason, RetryRefusal, Shed, TcpRefusal,
    TlsFailure,
};

/// Counts of reloads, by result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadCounts {
    /// Applied.
    pub applied: u64,
    /// Without a change.
    pub unchanged: u64,
    /// Refused: because of errors, because a guard lasted, or because there was nothing to guard.
    pub refused: u64,
    /// Rolled back.
    pub rolled_back: u64,
    /// When the last one ended, in seconds since 1970; None: there was none.
    #[serde(default)]
    pub last_at: Option<u64>,
    /// What became of that one.
    #[serde(default)]
    pub last: Option<LastReload>,
    /// Why the files are not served: the last reload of them was refused or rolled back. None: they are what is served. Shared,
    /// because it can be long.
    pub problem: Option<Arc<str>>,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// The result.
    pub verdict: Verdict,
    /// Version of the configuration that was served then.
    pub version: u64,
    /// How much it has changed, or the first line of why it has not.
    pub summary: Arc<str>,
}

/// What a plan has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPlan {
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// Whether a reload would have been accepted.
    pub accepted: bool,
    /// How much a reload would have changed, or that it would have been refused.
    pub summary: Arc<str>,
}

/// State of a running process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the binary.
    pub cairn: String,
    /// Process id.
    pub pid: u32,
    /// Time since the start.
    pub uptime_seconds: u64,
    /// Number of workers.
    pub workers: usize,
    /// Version of the configuration that is served.
    pub version: u64,
    /// Whether a reload is under way.
    pub reloading: bool,
    /// Time until the guard of the last reload ends; None: there is no guard.
    pub guard_seconds: Option<u64>,
    /// The drain under way; None: the process serves.
    #[serde(default)]
    pub draining: Option<DrainStatus>,
    /// Snapshots in memory: the current one, and those that exchanges under way still use.
    pub snapshots: usize,
    /// Exchanges with origins under way.
    pub exchanges: u64,
    /// Final responses so far, by class: 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 4],
    /// Connections to endpoints that could not be made, so far.
    pub connect_failures: u64,
    /// TLS handshakes of clients so far.
    pub handshakes: Handshakes,
    /// TLS handshakes with endpoints so far: of TLS 1.2 and 1.3, full and resumed.
    #[serde(default)]
    pub endpoint_tls_handshakes: [[u64; 2]; 2],
    /// Clusters that take any certificate.
    #[serde(default)]
    pub insecure_clusters: usize,
    /// Connections to endpoints on which TLS has failed so far, in the order of `telemetry::TlsFailure`.
    #[serde(default)]
    pub endpoint_tls_failures: [u64; TlsFailure::ALL.len()],
    /// Receive buffers of each worker.
    pub buffers: Vec<BufferStatus>,
    /// Connections closed because of their PROXY header so far, in the order of `telemetry::ProxyRefusal`.
    pub proxied_refused: [u64; ProxyRefusal::ALL.len()],
    /// How long the turns of each worker are into which arrivals fall, on average, microseconds.
    #[serde(default)]
    pub turn_delays: Vec<u64>,
    /// Requests refused because a worker was overloaded, by priority: critical, normal, bulk.
    #[serde(default)]
    pub overloaded: [u64; 3],
    /// Connections of TCP that are open and were passed on to an endpoint.
    #[serde(default)]
    pub passing: u64,
    /// Connections of TCP that were not passed on so far, in the order of `telemetry::TcpRefusal`.
    #[serde(default)]
    pub tcp_refused: [u64; TcpRefusal::ALL.len()],
    /// Connections of HTTP/2 that ended with an error of the client's so far, in the order of `http2::ErrorCode`.
    #[serde(default)]
    pub http2_errors: [u64; ErrorCode::ALL.len()],
    /// Connections shed for want of buffers so far, in the order of `telemetry::Shed`.
    pub shed: [u64; Shed::ALL.len()],
    /// Answers made here so far, by reason code.
    #[serde(default)]
    pub local_responses: BTreeMap<String, u64>,
    /// Responses that were not sent to their end so far, or not at all, by reason code.
    #[serde(default)]
    pub cuts: BTreeMap<String, u64>,
    /// Requests that were sent again so far, in the order of `telemetry::RetryReason`.
    #[serde(default)]
    pub retries: [u64; RetryReason::ALL.len()],
    /// Requests that were not sent again although their routes ask for it so far, in the order of `telemetry::RetryRefusal`.
    #[serde(default)]
    pub refused_retries: [u64; RetryRefusal::ALL.len()],
    /// Second attempts beside slow ones so far, in the order of `telemetry::HedgeOutcome`.
    #[serde(default)]
    pub hedges: [u64; HedgeOutcome::ALL.len()],
    /// Clusters and their endpoints.
    #[serde(default)]
    pub clusters: Vec<ClusterStatus>,
    /// Open listeners.
    pub listeners: Vec<ListenerStatus>,
    /// Certificates that are served.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Reloads so far.
    pub reloads: ReloadCounts,
    /// The last plan that an operator has asked for; None: there was none.
    #[serde(default)]
    pub last_plan: Option<LastPlan>,
    /// Tenants.
    pub tenants: Vec<TenantStatus>,
    /// Lines for stderr that were dropped, because nobody read it.
    pub events_dropped: u64,
    /// The access log.
    #[serde(default)]
    pub access_log: AccessLogStatus,
    /// Spans of traces.
    #[serde(default)]
    pub traces: TraceStatus,
    /// What the process uses.
    #[serde(default)]
    pub process: ProcessStatus,
    /// How busy the threads of workers are, in their order.
    #[serde(default)]
    pub threads: Vec<BusyStatus>,
    /// What workers have counted of themselves, in their order.
    #[serde(default)]
    pub turns: Vec<TurnStatus>,
}

/// Open connections of both sides.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionsStatus {
    /// Of clients, by listener.
    pub listeners: Vec<ListenerStatus>,
    /// Of clients, by worker.
    pub workers: Vec<TurnStatus>,
    /// Connections of TCP that are passed on.
    pub passing: u64,
    /// To endpoints.
    pub endpoints: Vec<EndpointConnections>,
}

/// Open connections to an endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointConnections {
    /// Name of its cluster.
    pub cluster: String,
    /// Its address.
    pub address: String,
    /// Connections that are open, or being made.
    pub open: u64,
    /// Of these, the ones that wait in pools.
    pub idle: u64,
    /// Attempts under way.
    pub in_flight: u32,
}

impl ConnectionsStatus {
    /// What is said of connections in a state of the process.
    pub(super) fn of(status: Status) -> Self {
        let endpoints = status.clusters.iter().flat_map(|cluster| {
            cluster.endpoints.iter().map(|endpoint| EndpointConnections {
                cluster: cluster.name.clone(),
                address: endpoint.address.clone(),
                open: endpoint.open,
                idle: endpoint.idle,
                in_flight: endpoint.in_flight,
            })
        });
        let endpoints = endpoints.collect();
        Self { listeners: status.listeners, workers: status.turns, passing: status.passing, endpoints }
    }
}

/// What a worker has counted of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnStatus {
    /// Turns so far.
    pub turns: u64,
    /// Nanoseconds of them, without waits.
    pub busy_ns: u64,
    /// Turns in which the ring had more completions than it has room for.
    pub ring_overflows: u64,
    /// Client connections that are open.
    pub connections: u64,
    /// Of these, the ones whose TLS handshake is under way.
    pub handshakes: u64,
    /// Exchanges with an origin under way.
    pub exchanges: u64,
    /// Receive buffers that are in use.
    pub used_buffers: u64,
}

impl TurnStatus {
    fn of(counters: &Counters) -> Self {
        Self {
            turns: counters.turns.get(),
            busy_ns: counters.busy.get(),
            ring_overflows: counters.ring_overflows.get(),
            connections: counters.all_connections(),
            handshakes: counters.handshakes_under_way.get(),
            exchanges: counters.exchanges.get(),
            used_buffers: (BUFFERS as u64).saturating_sub(counters.free_buffers.get()),
        }
    }
}

/// TLS handshakes of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// TLS 1.2, without a ticket.
    pub tls12_full: u64,
    /// TLS 1.2, from a ticket.
    pub tls12_resumed: u64,
    /// TLS 1.3, without a ticket.
    pub tls13_full: u64,
    /// TLS 1.3, from a ticket.
    pub tls13_resumed: u64,
    /// Failed.
    pub failed: u64,
    /// Of these, by `telemetry::HandshakeFailure`, in its order.
    #[serde(default)]
    pub failures: [u64; HandshakeFailure::ALL.len()],
    /// Connections closed because too many handshakes were under way (`limits.handshakes`).
    #[serde(default)]
    pub refused: u64,
}

/// Receive buffers of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferStatus {
    /// Free buffers.
    pub free: u64,
    /// Sockets whose receive waits for a buffer.
    pub starved: u64,
}

/// An open listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Configured name.
    pub name: String,
    /// Bound address.
    pub address: String,
    /// Open connections.
    pub connections: u64,
    /// Connections so far of clients that speak in the clear, though the listener speaks TLS (`tls.mode = "permissive"`). None: it takes
    /// none of them.
    #[serde(default)]
    pub plain_text: Option<u64>,
    /// Connections so far that were passed on to an endpoint (`protocol = "tcp"`). None: it speaks HTTP.
    #[serde(default)]
    pub passed_on: Option<u64>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Configured name.
    pub name: String,
    /// Path of its file.
    pub file: String,
    /// Which version of its file is served.
    pub state: TenantState,
    /// Routes that are served.
    pub routes: usize,
    /// Clusters that are served.
    pub clusters: usize,
    /// Problems of the file as it stands. Shares the report's text, because there may be a long one for each of many tenants.
    pub problems: Option<Arc<str>>,
}

impl ReloadCounts {
    /// Counts one that has ended now.
    pub(super) fn note(&mut self, verdict: Verdict, version: u64, message: &str) {
        match verdict {
            Verdict::Applied => self.applied += 1,
            Verdict::Unchanged => self.unchanged += 1,
            Verdict::Refused => self.refused += 1,
            Verdict::RolledBack => self.rolled_back += 1,
            Verdict::Stuck => {}
        }
        self.last_at = Some(seconds_since_1970());
        // The whole message may have a section for each of many errors.
        let summary = message.lines().next().unwrap_or_default().into();
        self.last = Some(LastReload { verdict, version, summary });
    }
}

impl LastPlan {
    /// What a plan that was made now has said.
    pub(super) fn of(plan: &Result<Plan, String>) -> Self {
        let summary = match plan {
            Ok(plan) => plan.summary().into(),
            // A report quotes the file, which may be any that the operator can read: it is for whoever has asked.
            Err(_) => "it would be refused".into(),
        };
        Self { at: seconds_since_1970(), accepted: plan.is_ok(), summary }
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Control {
    /// The state now.
    pub(super) fn status(&mut self) -> Status {
        self.collect();
        let sum = |count: &dyn Fn(&Counters) -> u64| self.sum(count);
        let buffers = self.workers.iter().map(|worker| BufferStatus {
            free: worker.counters.free_buffers.get(),
            starved: worker.counters.starved_receives.get(),
        });
        let shaken = |tls13: usize| [0, 1].map(|resumed| sum(&|it| it.endpoint_handshakes()[tls13][resumed]));
        Status {
            cairn: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            workers: self.workers.len(),
            version: self.version(),
            reloading: self.running.as_ref().is_some_and(Running::is_reload),
            guard_seconds: self.guarded.as_ref().map(|guarded| guarded.left().as_secs()),
            draining: self.drain_status(),
            snapshots: self.snapshots.len(),
            exchanges: sum(&|counters| counters.exchanges.get()),
            responses: [0, 1, 2, 3].map(|class| sum(&|counters| counters.responses()[class])),
            connect_failures: sum(&|counters| counters.connect_failures.get()),
            handshakes: self.handshakes(),
            endpoint_tls_handshakes: [0, 1].map(shaken),
            insecure_clusters: insecure_clusters(None, &self.config).len(),
            endpoint_tls_failures: self.totals(Counters::endpoint_tls_failures),
            buffers: buffers.collect(),
            turn_delays: self.workers.iter().map(|worker| worker.counters.turn_delay.get()).collect(),
            overloaded: self.totals(Counters::overloaded),
            proxied_refused: self.totals(Counters::proxied_refused),
            passing: sum(&|counters| counters.passing.get()),
            tcp_refused: self.totals(Counters::tcp_refused),
            http2_errors: self.totals(|counters| counters.http2_errors.get()),
            shed: self.totals(Counters::sheds),
            local_responses: self.by_reason(|counters| &counters.local_responses),
            cuts: self.by_reason(|counters| &counters.cuts),
            retries: self.totals(Counters::retries),
            refused_retries: self.totals(Counters::refused_retries),
            hedges: self.totals(Counters::hedges),
            clusters: self.snapshot().map_or_else(Vec::new, |it| it.clusters.iter().map(ClusterStatus::of).collect()),
            listeners: self.bound.iter().map(|(id, address)| self.listener(*id, address)).collect(),
            certificates: certificates(&self.config),
            reloads: self.reload_counts.clone(),
            last_plan: self.last_plan.borrow().clone(),
            tenants: self.tenants(),
            events_dropped: event_log::dropped(),
            access_log: self.access_log_status(),
            traces: self.trace_status(),
            process: ProcessStatus::read(),
            threads: self.threads.status(),
            turns: self.workers.iter().map(|worker| TurnStatus::of(&worker.counters)).collect(),
        }
    }

    /// A listener that is open.
    fn listener(&self, id: ListenerId, address: &Address) -> ListenerStatus {
        let known = self.snapshot().filter(|snapshot| snapshot.has_listener(id));
        ListenerStatus {
            name: known.map(|snapshot| snapshot.listener(id).name.clone()).unwrap_or_default(),
            address: address.to_string(),
            connections: self.sum(&|counters| counters.connections(id)),
            plain_text: known
                .filter(|snapshot| snapshot.listener(id).is_permissive())
                .map(|_| self.sum(&|counters| counters.plain_text(id))),
            passed_on: known
                .filter(|snapshot| snapshot.listener(id).protocol == Protocol::Tcp)
                .map(|_| self.sum(&|counters| counters.passed_on(id))),
        }
    }

    /// Handshakes of clients.
    fn handshakes(&self) -> Handshakes {
        let kind = |tls13: usize, resumed: usize| self.sum(&|counters| counters.handshakes()[tls13][resumed]);
        let failures = self.totals(Counters::failed_handshakes);
        Handshakes {
            tls12_full: kind(0, 0),
            tls12_resumed: kind(0, 1),
            tls13_full: kind(1, 0),
            tls13_resumed: kind(1, 1),
            failed: failures.iter().sum(),
            failures,
            refused: self.sum(&|counters| counters.tls_refused.get()),
        }
    }

    /// What all workers have counted, added up.
    fn sum(&self, count: &dyn Fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|worker| count(&worker.counters)).sum()
    }

    /// The same of several counts.
    fn totals<const N: usize>(&self, of: impl Fn(&Counters) -> [u64; N]) -> [u64; N] {
        self.workers.iter().fold([0; N], |mut sums, worker| {
            sums.iter_mut().zip(of(&worker.counters)).for_each(|(sum, count)| *sum += count);
            sums
        })
    }

    /// What all workers have counted by reason code, added up.
    fn by_reason(&self, of: impl Fn(&Counters) -> &Reasons) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (reason, count) in self.workers.iter().flat_map(|worker| of(&worker.counters).counts()) {
            *sums.entry(reason.to_owned()).or_default() += count;
        }
        sums
    }

    fn tenants(&self) -> Vec<TenantStatus> {
        let tenant = |report: &crate::config::TenantReport| TenantStatus {
            name: report.name.clone(),
            file: report.file.display().to_string(),
            state: report.state,
            routes: report.routes,
            clusters: report.clusters,
            problems: report.problems.as_ref().map(Report::text),
        };
        self.config.tenants.iter().map(tenant).collect()
    }
}

impl Status {
    /// Rows of what was sent again, refused, shed or dropped, for those of which there is something to say.
    fn write_wants(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |label: &str, text: fmt::Arguments<'_>| writeln!(f, "{label:<14}{text}");
        let (retried, refused) = (self.retries.iter().sum::<u64>(), self.refused_retries.iter().sum::<u64>());
        if retried + refused > 0 {
            row("retries", format_args!("{retried} requests were sent again, {refused} were not, to spare endpoints"))?;
        }
        let (starved, shed) = (self.buffers.iter().map(|it| it.starved).sum::<u64>(), self.shed.iter().sum::<u64>());
        if starved + shed > 0 {
            row("buffers", format_args!("short: {starved} receives wait, {shed} connections shed"))?;
        }
        let refused: u64 = self.overloaded.iter().sum();
        if refused > 0 {
            let [_, normal, bulk] = self.overloaded;
            row("overload", format_args!("{normal} normal and {bulk} bulk requests were refused so far"))?;
        }
        if self.events_dropped > 0 {
            row("stderr", format_args!("{} lines dropped, because nobody read it", self.events_dropped))?;
        }
        let AccessLogStatus { queued, dropped, lost } = self.access_log;
        if queued + dropped > 0 {
            row(
                "access log",
                format_args!("{queued} lines, {dropped} more were dropped, {lost} could not be written"),
            )?;
        }
        let TraceStatus { exported, dropped, lost } = self.traces;
        if exported + dropped + lost > 0 {
            let text = format_args!("{exported} spans exported, {lost} lost, and those of {dropped} exchanges dropped");
            row("traces", text)?;
        }
        Ok(())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |label: &str, text: fmt::Arguments<'_>| writeln!(f, "{label:<14}{text}");
        let Self { cairn, pid, workers, uptime_seconds, .. } = self;
        row("cairn", format_args!("{cairn}, process {pid}, {workers} workers, up {uptime_seconds} s"))?;
        let old = self.snapshots.saturating_sub(1);
        row("configuration", format_args!("version {}, {old} older still in use", self.version))?;
        let ReloadCounts { applied, unchanged, refused, rolled_back, problem, .. } = &self.reloads;
        row(
            "reloads",
            format_args!("{applied} applied, {unchanged} unchanged, {refused} refused, {rolled_back} rolled back"),
        )?;
        if let Some(left) = self.guard_seconds {
            row("guard", format_args!("on version {}, {left} s left", self.version))?;
        }
        if let Some(DrainStatus { why, seconds, seconds_left, connections }) = &self.draining {
            let lasts =
                format_args!("because of {why}, for {seconds} s, {seconds_left} s left: {connections} connections");
            row("draining", lasts)?;
        }
        let [ok, moved, refusals, errors] = self.responses;
        row("answers", format_args!("{ok} 2xx, {moved} 3xx, {refusals} 4xx, {errors} 5xx"))?;
        row("exchanges", format_args!("{} under way, {} connect failures", self.exchanges, self.connect_failures))?;
        let Handshakes { tls12_full, tls12_resumed, tls13_full, tls13_resumed, failed, refused, .. } = self.handshakes;
        let (full, resumed) = (tls12_full + tls13_full, tls12_resumed + tls13_resumed);
        if full + resumed + failed + refused > 0 {
            let counts = format_args!("{full} full handshakes, {resumed} resumed, {failed} failed, {refused} refused");
            row("TLS", counts)?;
        }
        let passed: u64 = self.listeners.iter().filter_map(|it| it.passed_on).sum();
        let refused: u64 = self.tcp_refused.iter().sum();
        if passed + refused > 0 {
            let counts =
                format_args!("{passed} connections passed on, {} of them open, {refused} refused", self.passing);
            row("TCP", counts)?;
        }
        self.write_wants(f)?;
        let mut row = |label: &str, text: fmt::Arguments<'_>| writeln!(f, "{label:<14}{text}");
        for ListenerStatus { name, address, connections, plain_text, passed_on } in &self.listeners {
            let plain = plain_text.map(|count| format!(", {count} so far in plain text")).unwrap_or_default();
            let tcp = passed_on.map(|count| format!(", {count} so far passed on")).unwrap_or_default();
            row("listener", format_args!("{name} on {address}, {connections} connections{plain}{tcp}"))?;
        }
        for certificate in &self.certificates {
            row("certificate", format_args!("{certificate}"))?;
        }
        for cluster in &self.clusters {
            write!(f, "{cluster}")?;
        }
        for tenant in &self.tenants {
            write!(f, "{tenant}")?;
        }
        match problem {
            Some(problem) => writeln!(f, "\nThe last reload failed:\n{}", problem.trim_end()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, file, state, routes, clusters, problems } = self;
        writeln!(f, "{:<14}{name} ({file}) is {state}: {routes} routes, {clusters} clusters", "tenant")?;
        problems.as_ref().map_or(Ok(()), |problems| writeln!(f, "{}", problems.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Loader;
    use crate::control::{Compiler, Control};
    use crate::listener::BoundAddresses;

    use super::*;

    /// However many ask, none of them costs the control thread a copy.
    #[tokio::test]
    async fn reports_are_shared_with_whoever_asks() {
        let folder = tempfile::tempdir().unwrap();
        let tenant = "[[tenant]]\nname = \"a\"\nfile = \"a.toml\"\nclaims = [{ host = \"a\" }]\n";
        let text = format!("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n{tenant}");
        std::fs::write(folder.path().join("cairn.toml"), text).unwrap();
        let config = Loader::new(folder.path().join("cairn.toml")).load().unwrap();
        let mut compiler = Compiler::new(None);
        let snapshot = Arc::new(compiler.compile(&config, 1).unwrap());
        let mut control = Control::new(compiler, config, snapshot, BoundAddresses::new(), Vec::new());
        control.reload_counts.problem = Some("much is wrong".into());
        let (one, other) = (control.status(), control.status());
        let same = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| {
            Arc::ptr_eq(one.as_ref().unwrap(), other.as_ref().unwrap())
        };
        assert!(one.tenants[0].problems.as_ref().unwrap().contains("a.toml"));
        assert!(same(&one.tenants[0].problems, &other.tenants[0].problems));
        assert!(same(&one.reloads.problem, &other.reloads.problem));
        let read: Status = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        assert_eq!(read, one);
    }
}
