//! Compares two configurations, item by item. Not here: which route gets whose requests (`shadow`).

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use super::{Change, Plan, Sign};
use crate::cluster::{CheckKind, ClusterSpec, EndpointSpec, HealthSpec, HttpCheck};
use crate::config::Config;
use crate::control::routes;
use crate::proxy_protocol::Version;
use crate::route::{ActionSpec, ErrorPageSpec, HeaderEdits, Protocol, RouteLimits, RouteSpec, template};
use crate::snapshot::{ListenerSpec, TenantSpec, listened};
use crate::tls::ServerName;

/// Name, old value and new value, as text.
type Aspects = Vec<(&'static str, String, String)>;

/// How items of one kind are matched and described.
struct Kind<'a, T, K> {
    word: &'static str,
    /// Identity: an item of the old configuration and one of the new are the same if their keys are.
    key: &'a dyn Fn(&'a T) -> K,
    name: &'a dyn Fn(&T) -> String,
    added: &'a dyn Fn(&T) -> String,
    removed: &'a dyn Fn(&T) -> String,
    aspects: &'a dyn Fn(&T, &T) -> Aspects,
}

/// `connections` counts the open connections of a listener of the old configuration, by its name.
pub(in crate::control) fn difference(old: &Config, new: &Config, connections: &dyn Fn(&str) -> u64) -> Plan {
    let mut plan = Plan::default();
    listeners(old, new, connections, &mut plan);
    routes(old, new, &mut plan);
    clusters(old, new, &mut plan);
    process(old, new, &mut plan);
    tenants(old, new, &mut plan);
    plan
}

impl<'a, T, K: Eq + Hash> Kind<'a, T, K> {
    /// Added and changed items in the order of `new`, then removed ones.
    fn changes(&self, old: &'a [T], new: &'a [T]) -> Vec<Change> {
        let change = |sign, it, text| Change { sign, kind: self.word.to_owned(), name: (self.name)(it), text };
        let here = matched(old, new, self.key).filter_map(|(was, it)| match was {
            None => Some(change(Sign::Added, it, (self.added)(it))),
            Some(was) => changes((self.aspects)(was, it)).map(|text| change(Sign::Changed, it, text)),
        });
        let gone = matched(new, old, self.key).filter(|(now, _)| now.is_none());
        here.chain(gone.map(|(_, it)| change(Sign::Removed, it, (self.removed)(it)))).collect()
    }

    /// [`Kind::changes`], sorted by sign.
    fn changes_by_sign(&self, old: &'a [T], new: &'a [T]) -> Vec<Change> {
        let mut changes = self.changes(old, new);
        changes.sort_by_key(|change| change.sign);
        changes
    }
}

/// Each item of `these`, with the item of `others` that has the same key.
fn matched<'a, T, K: Eq + Hash>(
    others: &'a [T],
    these: &'a [T],
    key: &'a dyn Fn(&'a T) -> K,
) -> impl Iterator<Item = (Option<&'a T>, &'a T)> {
    let others: HashMap<_, _> = others.iter().map(|it| (key(it), it)).collect();
    these.iter().map(move |it| (others.get(&key(it)).copied(), it))
}

/// `name old → new` for each aspect that differs; None if all are equal.
fn changes(aspects: Aspects) -> Option<String> {
    let differing = aspects.into_iter().filter(|(_, old, new)| old != new);
    let texts: Vec<_> = differing.map(|(name, old, new)| format!("{name} {old} → {new}")).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn time(time: std::time::Duration) -> String {
    format!("{time:?}")
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn template(text: Option<&String>) -> String {
    optional(text.map(|text| template::shown(text)))
}

fn listeners(old: &Config, new: &Config, connections: &dyn Fn(&str) -> u64, plan: &mut Plan) {
    let kind = Kind::<ListenerSpec, _> {
        word: "listener",
        key: &|it| listened(&it.bind, it.options.dual_stack, &it.name),
        name: &|it| it.name.clone(),
        added: &|it| format!("opens {}", it.bind),
        removed: &|it| {
            let end = match it.protocol {
                Protocol::Http => "end after their current request",
                Protocol::Tcp => "go on until they end",
            };
            format!("closes {}; its {} connections {end}", it.bind, connections(&it.name))
        },
        aspects: &listener_aspects,
    };
    plan.changes.extend(kind.changes_by_sign(&old.snapshot.listeners, &new.snapshot.listeners));
}

fn listener_aspects(old: &ListenerSpec, new: &ListenerSpec) -> Aspects {
    let networks = |it: &ListenerSpec| {
        let all: Vec<_> = it.trusted_proxies.iter().map(|net| format!("{}/{}", net.address, net.prefix)).collect();
        format!("[{}]", all.join(", "))
    };
    let mut aspects: Aspects = vec![("name", old.name.clone(), new.name.clone())];
    aspects.push(("protocol", old.protocol.name().to_owned(), new.protocol.name().to_owned()));
    aspects.push(("trusted_proxies", networks(old), networks(new)));
    let protocol = |it: &ListenerSpec| it.proxy_protocol.name().to_owned();
    aspects.push(("proxy_protocol", protocol(old), protocol(new)));
    aspects.push(("mode and owner", old.options.file.to_string(), new.options.file.to_string()));
    aspects.push(("strict paths", shown(&old.strict_paths), shown(&new.strict_paths)));
    aspects.push(("normalize_path", shown(&old.normalize_path), shown(&new.normalize_path)));
    let slash = |it: &ListenerSpec| format!("{:?}", it.encoded_slash).to_lowercase();
    aspects.push(("encoded_slash", slash(old), slash(new)));
    let tls = |it: &ListenerSpec| optional(it.tls.as_ref());
    aspects.push(("tls", tls(old), tls(new)));
    let limits: [(&str, u64, u64); 7] = [
        ("limits.header_bytes", old.header_bytes as u64, new.header_bytes as u64),
        ("limits.header_count", old.header_count as u64, new.header_count as u64),
        ("limits.body_bytes", old.body_bytes, new.body_bytes),
        ("limits.connections", old.connections.into(), new.connections.into()),
        ("limits.handshakes", old.handshakes.into(), new.handshakes.into()),
        ("limits.requests", old.requests.into(), new.requests.into()),
        ("timeouts.body_rate", old.body_rate, new.body_rate),
    ];
    aspects.extend(limits.map(|(name, old, new)| (name, old.to_string(), new.to_string())));
    let times = [
        ("timeouts.header", old.header_timeout, new.header_timeout),
        ("timeouts.body", old.body_timeout, new.body_timeout),
        ("timeouts.idle", old.idle_timeout, new.idle_timeout),
    ];
    aspects.extend(times.map(|(name, old, new)| (name, shown(&old), shown(&new))));
    aspects
}

fn routes(old: &Config, new: &Config, plan: &mut Plan) {
    let kind = Kind::<RouteSpec, _> {
        word: "route",
        key: &|it| it.name.as_str(),
        name: &|it| it.name.clone(),
        added: &|it| route_text(new, it),
        removed: &|it| route_text(old, it),
        aspects: &|was, it| route_aspects((old, was), (new, it)),
    };
    plan.changes.extend(kind.changes_by_sign(&old.snapshot.routes, &new.snapshot.routes));
}

fn hosts(route: &RouteSpec) -> String {
    let hosts: Vec<_> = route.hosts.iter().map(routes::host).collect();
    let any = if route.protocol == Protocol::Tcp { "any sni" } else { "any host" };
    if hosts.is_empty() { any.to_owned() } else { hosts.join(" or ") }
}

fn route_text(config: &Config, route: &RouteSpec) -> String {
    let methods = &route.conditions.methods;
    let methods = if methods.is_empty() { String::new() } else { format!("{} ", methods.join(" or ")) };
    format!("{methods}{} {}: {}", hosts(route), routes::path(route), routes::action(config, &route.action))
}

fn route_aspects((old_config, old): (&Config, &RouteSpec), (new_config, new): (&Config, &RouteSpec)) -> Aspects {
    let listeners = |config: &Config, route: &RouteSpec| {
        let names = route.listeners.iter().filter_map(|id| config.snapshot.listeners.get(id.index()));
        let names: Vec<_> = names.map(|it| it.name.as_str()).collect();
        if names.is_empty() { "all".to_owned() } else { names.join(", ") }
    };
    vec![
        ("listeners", listeners(old_config, old), listeners(new_config, new)),
        ("hosts", hosts(old), hosts(new)),
        ("path", routes::path(old), routes::path(new)),
        ("conditions", conditions(old_config, old), conditions(new_config, new)),
        ("action", action(old_config, old), action(new_config, new)),
        ("timeout", optional(old.timeout.map(time)), optional(new.timeout.map(time))),
        ("deadline", old.deadline.to_string(), new.deadline.to_string()),
        ("retry", old.retry.to_string(), new.retry.to_string()),
        ("hedge", optional(old.hedge), optional(new.hedge)),
        ("priority", old.priority.to_string(), new.priority.to_string()),
        ("body_bytes", body(&old.limits), body(&new.limits)),
        ("timeouts.idle", optional(old.limits.response_idle.map(time)), optional(new.limits.response_idle.map(time))),
        ("timeouts.body", optional(old.limits.body_timeout.map(time)), optional(new.limits.body_timeout.map(time))),
        ("tunnel_idle", optional(old.limits.tunnel_idle.map(time)), optional(new.limits.tunnel_idle.map(time))),
        ("rewrite.path", optional(old.rewrite_path.as_ref()), optional(new.rewrite_path.as_ref())),
        ("rewrite.host", template(old.rewrite_host.as_ref()), template(new.rewrite_host.as_ref())),
        ("rewrite_location", old.rewrite_location.to_string(), new.rewrite_location.to_string()),
        ("cookie_path", old.cookie_path.to_string(), new.cookie_path.to_string()),
        ("error_pages", pages(&old.error_pages), pages(&new.error_pages)),
        ("request_headers", edits(&old.request_headers), edits(&new.request_headers)),
        ("response_headers", edits(&old.response_headers), edits(&new.response_headers)),
    ]
}

fn pages(pages: &[ErrorPageSpec]) -> String {
    if pages.is_empty() { "none".to_owned() } else { format!("{} {}", pages.len(), mark(&pages)) }
}

fn body(limits: &RouteLimits) -> String {
    optional(limits.body_bytes)
}

/// A hash that stands for a value that may be secret. It is seeded per process, so the value cannot be guessed from it.
fn mark(value: &impl Hash) -> String {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    format!("#{:04x}", SEED.hash_one(value) & 0xffff)
}

fn action(config: &Config, route: &RouteSpec) -> String {
    let text = routes::action(config, &route.action);
    match &route.action {
        ActionSpec::Cluster(_) | ActionSpec::Split(_) => text,
        ActionSpec::Redirect { scheme, host, path, query, .. } => {
            let part = |name: &str, part: &Option<String>| {
                part.as_ref().map(|part| format!(" {name} {}", template::shown(part))).unwrap_or_default()
            };
            let path = path.as_ref().map(|path| format!(" path {path}")).unwrap_or_default();
            [text, part("scheme", scheme), part("host", host), path, part("query", query)].concat()
        }
        ActionSpec::Respond { body, headers, .. } => {
            format!("{text} with {} bytes {} and fields {}", body.len(), mark(body), mark(headers))
        }
    }
}

fn conditions(config: &Config, route: &RouteSpec) -> String {
    let all = config.conditions(route);
    if all.is_empty() { "none".to_owned() } else { all.join(" and ") }
}

fn edits(edits: &HeaderEdits) -> String {
    let names = |fields: &[(String, String)]| {
        fields.iter().map(|(name, value)| format!("{name} {}", mark(value))).collect::<Vec<_>>().join(", ")
    };
    format!("{{set {}; add {}; remove {}}}", names(&edits.set), names(&edits.add), edits.remove.join(", "))
}

fn clusters(old: &Config, new: &Config, plan: &mut Plan) {
    let count =
        |it: &ClusterSpec| format!("{} endpoint{}", it.endpoints.len(), if it.endpoints.len() == 1 { "" } else { "s" });
    let (old, new) = (&old.snapshot.clusters, &new.snapshot.clusters);
    let kind = Kind::<ClusterSpec, _> {
        word: "cluster",
        key: &|it| it.name.as_str(),
        name: &|it| it.name.clone(),
        added: &|it| {
            let tls = it.tls.as_ref().map(|tls| format!(" over TLS, {tls}"));
            format!("{}{}", count(it), tls.unwrap_or_default())
        },
        removed: &|it| format!("{}; requests under way end there", count(it)),
        aspects: &cluster_aspects,
    };
    plan.changes.extend(kind.changes_by_sign(old, new));
    for (was, it) in matched(old, new, kind.key) {
        plan.changes.extend(was.map(|was| endpoints(was, it)).unwrap_or_default());
    }
}

fn cluster_aspects(old: &ClusterSpec, new: &ClusterSpec) -> Aspects {
    let tls = |it: &ClusterSpec| optional(it.tls.as_ref());
    let protocol = |it: &ClusterSpec| it.proxy_protocol.map_or("off", Version::name).to_owned();
    let spoken = |it: &ClusterSpec| it.http2.map_or_else(|| "http1".to_owned(), |http2| http2.to_string());
    vec![
        ("tls", tls(old), tls(new)),
        ("proxy_protocol", protocol(old), protocol(new)),
        ("protocol", spoken(old), spoken(new)),
        ("balance", old.balance.name().to_owned(), new.balance.name().to_owned()),
        ("pool.max_idle", old.max_idle.to_string(), new.max_idle.to_string()),
        ("pool.idle", shown(&old.idle), shown(&new.idle)),
        ("timeouts.connect", shown(&old.connect_timeout), shown(&new.connect_timeout)),
        ("timeouts.response", shown(&old.response_timeout), shown(&new.response_timeout)),
        ("abort_on_close", old.abort_on_close.to_string(), new.abort_on_close.to_string()),
        ("outlier", old.outlier.to_string(), new.outlier.to_string()),
        ("health", optional(old.health.as_ref().map(health)), optional(new.health.as_ref().map(health))),
        ("panic_threshold", old.panic_threshold.to_string(), new.panic_threshold.to_string()),
        ("slow_start", time(old.slow_start), time(new.slow_start)),
        ("limits", old.limits.to_string(), new.limits.to_string()),
        ("hash_on", optional(old.hash_on.as_ref()), optional(new.hash_on.as_ref())),
        ("affinity", optional(old.affinity.as_ref()), optional(new.affinity.as_ref())),
        ("zone", optional(old.zone.as_ref()), optional(new.zone.as_ref())),
    ]
}

/// How endpoints are checked; what is sent may hold secrets.
fn health(spec: &HealthSpec) -> String {
    let HealthSpec { kind, interval, timeout, rise, fall, initial } = spec;
    let what = match kind {
        CheckKind::Tcp => "tcp".to_owned(),
        CheckKind::Grpc(service) => format!("grpc {service:?}"),
        CheckKind::Http(check) => {
            let HttpCheck { method, path, host, expect, .. } = check;
            let host = host.as_deref().unwrap_or("each endpoint");
            format!("{method} {path} of {host} for {expect:?} {}", mark(&(&check.headers, &check.body)))
        }
    };
    format!("{what} each {interval:?} within {timeout:?}, rise {rise}, fall {fall}, at first {}", initial.name())
}

/// Changes of the endpoints of a cluster that is in both configurations.
fn endpoints(old: &ClusterSpec, new: &ClusterSpec) -> Vec<Change> {
    let kind = Kind::<EndpointSpec, _> {
        word: "endpoint",
        // Independent of what the name server says; two names may share addresses.
        key: &|it| &it.name,
        name: &|it| format!("{} {}", new.name, it.name),
        added: &|it| format!("joins with weight {}", it.weight),
        removed: &|_| "leaves; requests under way end there, its idle connections are closed".to_owned(),
        aspects: &|was, it| {
            let name = |it: &EndpointSpec| optional(it.tls_name.as_ref().map(ServerName::to_str));
            let addresses = |it: &EndpointSpec| {
                let mut all: Vec<_> = it.addresses().collect();
                all.sort_unstable();
                format!("[{}]", all.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            };
            vec![
                ("weight", was.weight.to_string(), it.weight.to_string()),
                ("backup", was.backup.to_string(), it.backup.to_string()),
                ("zone", optional(was.zone.as_ref()), optional(it.zone.as_ref())),
                ("server_name", name(was), name(it)),
                ("addresses", addresses(was), addresses(it)),
            ]
        },
    };
    kind.changes(&old.endpoints, &new.endpoints)
}

/// Says of a token that it is another one, and nothing else.
fn token(config: &Config) -> String {
    config.admin.token.as_ref().map_or_else(|| "none".to_owned(), mark)
}

/// Settings of the process, also those that a reload cannot change.
fn process(old: &Config, new: &Config, plan: &mut Plan) {
    let socket = |config: &Config| optional(config.admin.socket.as_ref().map(|path| path.display()));
    let aspects = vec![
        ("role", shown(&old.role), shown(&new.role)),
        ("watch", shown(&old.watch), shown(&new.watch)),
        ("drain.timeout", shown(&old.drain_timeout), shown(&new.drain_timeout)),
        ("drain.grace", shown(&old.drain_grace), shown(&new.drain_grace)),
        ("workers.overload_delay", shown(&old.snapshot.overload_delay), shown(&new.snapshot.overload_delay)),
        ("workers.batch_wait", shown(&old.snapshot.batch_wait), shown(&new.snapshot.batch_wait)),
        ("error_pages", pages(&old.snapshot.error_pages), pages(&new.snapshot.error_pages)),
    ];
    let others = log(old, new).into_iter().chain(trace(old, new));
    if let Some(text) = changes(aspects.into_iter().chain(others).collect()) {
        plan.add(Sign::Changed, "process", "itself", text);
    }
    let aspects = vec![
        ("workers.count", old.workers.to_string(), new.workers.to_string()),
        ("admin.listen", optional(old.admin.listen), optional(new.admin.listen)),
        ("admin.hosts", shown(&old.admin.hosts), shown(&new.admin.hosts)),
        ("admin.socket", socket(old), socket(new)),
        ("admin.token", token(old), token(new)),
        ("admin.tls", optional(old.admin.tls.as_ref()), optional(new.admin.tls.as_ref())),
    ];
    if let Some(text) = changes(aspects) {
        plan.add(Sign::Changed, "process", "itself", format!("{text}: at the next start, not by a reload"));
    }
}

/// Settings of the access log, and of what is said on stderr.
fn log(old: &Config, new: &Config) -> Aspects {
    let of = |config: &Config| {
        let log = config.snapshot.access_log.as_ref();
        let rules = log.map(|log| &log.rules);
        let slow = optional(config.snapshot.slow.map(time));
        [
            log.map_or_else(|| "off".to_owned(), |log| log.target.to_string()),
            optional(log.map(|log| &log.format)),
            optional(rules.map(shown)).replace("Rules ", ""),
            slow,
            shown(&config.events.level),
            shown(&config.events.format),
        ]
    };
    let names = ["log.access", "log.format", "log", "log.slow", "log.level", "log.events"];
    names.into_iter().zip(of(old).into_iter().zip(of(new))).map(|(name, (old, new))| (name, old, new)).collect()
}

/// What becomes of trace contexts.
fn trace(old: &Config, new: &Config) -> Aspects {
    let exports = |config: &Config| {
        let export = config.snapshot.export.as_ref();
        // Headers hold secrets.
        let headers = export.map(|it| it.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        let times = export.map(|it| (it.interval, it.timeout));
        let service = export.map(|it| it.service.clone());
        [optional(export.map(|it| &it.collector)), optional(service), shown(&headers), shown(&times)]
    };
    let names = ["otlp.endpoint", "otlp.service", "otlp.headers", "otlp times"];
    let both = exports(old).into_iter().zip(exports(new));
    let otlp: Aspects = names.into_iter().zip(both).map(|(name, (old, new))| (name, old, new)).collect();
    let [old, new] = [old, new].map(|config| config.snapshot.trace);
    let mut aspects = vec![
        ("trace.accept", shown(&old.accept), shown(&new.accept)),
        ("trace.make", old.make.to_string(), new.make.to_string()),
        ("trace.b3", old.b3.to_string(), new.b3.to_string()),
        ("otlp.sample", shown(&old.sampling), shown(&new.sampling)),
    ];
    aspects.extend(otlp);
    aspects
}

fn tenants(old: &Config, new: &Config, plan: &mut Plan) {
    let requests = |it: &TenantSpec| (it.requests.to_string(), it.requests_per_second.to_string());
    let kind = Kind::<TenantSpec, _> {
        word: "tenant",
        key: &|it| it.name.as_str(),
        name: &|it| it.name.clone(),
        added: &|_| "joins".to_owned(),
        removed: &|_| "leaves, with its routes and clusters".to_owned(),
        aspects: &|was, it| {
            let ((old, old_rate), (new, new_rate)) = (requests(was), requests(it));
            vec![("limits.requests", old, new), ("limits.requests_per_second", old_rate, new_rate)]
        },
    };
    plan.changes.extend(kind.changes(&old.snapshot.tenants, &new.snapshot.tenants));
}
