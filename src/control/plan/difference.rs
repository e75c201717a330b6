//! Compares two configurations, thing by thing. Not here: whose requests go where (`shadow`).

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use super::{Plan, Sign};
use crate::cluster::ClusterSpec;
use crate::config::Config;
use crate::control::routes;
use crate::id::Address;
use crate::route::{ActionSpec, HeaderEdits, RouteSpec, ValuePattern};
use crate::snapshot::ListenerSpec;

/// Names of what is compared with its old and new value, as text.
type Aspects = Vec<(&'static str, String, String)>;

/// `connections` counts the open connections of a listener of the old configuration, by its name.
pub(in crate::control) fn difference(old: &Config, new: &Config, connections: &dyn Fn(&str) -> u64) -> Plan {
    let mut plan = Plan::default();
    listeners(old, new, connections, &mut plan);
    routes(old, new, &mut plan);
    clusters(old, new, &mut plan);
    process(old, new, &mut plan);
    plan
}

/// `name 1 → 2` for each that differs; None if none does.
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

fn maybe(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn listeners(old: &Config, new: &Config, connections: &dyn Fn(&str) -> u64, plan: &mut Plan) {
    // As the ledger of snapshots knows them.
    let key = |it: &ListenerSpec| {
        let chosen = matches!(&it.bind, Address::Inet(inet) if inet.port() == 0);
        (it.bind.clone(), if chosen { it.name.clone() } else { String::new() })
    };
    let before: HashMap<_, _> = old.snapshot.listeners.iter().map(|it| (key(it), it)).collect();
    let after: HashMap<_, _> = new.snapshot.listeners.iter().map(|it| (key(it), it)).collect();
    for it in new.snapshot.listeners.iter().filter(|it| !before.contains_key(&key(it))) {
        plan.add(Sign::Added, "listener", &it.name, format!("opens {}", it.bind));
    }
    for it in old.snapshot.listeners.iter().filter(|it| !after.contains_key(&key(it))) {
        let text =
            format!("closes {}; its {} connections end after their current request", it.bind, connections(&it.name));
        plan.add(Sign::Removed, "listener", &it.name, text);
    }
    for it in &new.snapshot.listeners {
        if let Some(text) = before.get(&key(it)).and_then(|was| changes(listener_aspects(was, it))) {
            plan.add(Sign::Changed, "listener", &it.name, text);
        }
    }
}

fn listener_aspects(old: &ListenerSpec, new: &ListenerSpec) -> Aspects {
    let networks = |it: &ListenerSpec| {
        let all: Vec<_> = it.trusted_proxies.iter().map(|net| format!("{}/{}", net.address, net.prefix)).collect();
        format!("[{}]", all.join(", "))
    };
    let mut aspects: Aspects = vec![("name", old.name.clone(), new.name.clone())];
    aspects.push(("trusted_proxies", networks(old), networks(new)));
    aspects.push(("strict paths", shown(&old.strict_paths), shown(&new.strict_paths)));
    let tls = |it: &ListenerSpec| maybe(it.tls.as_ref());
    aspects.push(("tls", tls(old), tls(new)));
    let limits: [(&str, u64, u64); 6] = [
        ("limits.header_bytes", old.header_bytes as u64, new.header_bytes as u64),
        ("limits.header_count", old.header_count as u64, new.header_count as u64),
        ("limits.body_bytes", old.body_bytes, new.body_bytes),
        ("limits.connections", old.connections.into(), new.connections.into()),
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
    let before: HashMap<_, _> = old.snapshot.routes.iter().map(|it| (it.name.as_str(), it)).collect();
    let after: HashMap<_, _> = new.snapshot.routes.iter().map(|it| (it.name.as_str(), it)).collect();
    for it in new.snapshot.routes.iter().filter(|it| !before.contains_key(it.name.as_str())) {
        plan.add(Sign::Added, "route", &it.name, whole(new, it));
    }
    for it in old.snapshot.routes.iter().filter(|it| !after.contains_key(it.name.as_str())) {
        plan.add(Sign::Removed, "route", &it.name, whole(old, it));
    }
    for it in &new.snapshot.routes {
        let was = before.get(it.name.as_str());
        if let Some(text) = was.and_then(|was| changes(route_aspects((old, was), (new, it)))) {
            plan.add(Sign::Changed, "route", &it.name, text);
        }
    }
}

fn hosts(route: &RouteSpec) -> String {
    let hosts: Vec<_> = route.hosts.iter().map(routes::host).collect();
    if hosts.is_empty() { "any host".to_owned() } else { hosts.join(" or ") }
}

fn whole(config: &Config, route: &RouteSpec) -> String {
    let methods = if route.methods.is_empty() { String::new() } else { format!("{} ", route.methods.join(" or ")) };
    format!("{methods}{} {}: {}", hosts(route), routes::path(&route.path), routes::action(config, &route.action))
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
        ("path", routes::path(&old.path), routes::path(&new.path)),
        ("methods", shown(&old.methods), shown(&new.methods)),
        ("headers", conditions(old_config, &old.headers), conditions(new_config, &new.headers)),
        ("query", conditions(old_config, &old.query), conditions(new_config, &new.query)),
        ("action", action(old_config, old), action(new_config, new)),
        ("timeout", maybe(old.timeout.map(time)), maybe(new.timeout.map(time))),
        ("rewrite.path_prefix", maybe(old.rewrite_path_prefix.as_ref()), maybe(new.rewrite_path_prefix.as_ref())),
        ("rewrite.host", maybe(old.rewrite_host.as_ref()), maybe(new.rewrite_host.as_ref())),
        ("request_headers", edits(&old.request_headers), edits(&new.request_headers)),
        ("response_headers", edits(&old.response_headers), edits(&new.response_headers)),
    ]
}

/// Values may be secrets: they are told apart by a number that means nothing outside this process.
fn mark(value: &impl Hash) -> String {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    format!("#{:04x}", SEED.hash_one(value) & 0xffff)
}

fn action(config: &Config, route: &RouteSpec) -> String {
    let text = routes::action(config, &route.action);
    match &route.action {
        ActionSpec::Cluster(_) | ActionSpec::Split(_) => text,
        ActionSpec::Redirect { scheme, host, path, .. } => {
            let part = |name: &str, part: &Option<String>| part.as_ref().map(|part| format!(" {name} {part}"));
            let parts = [part("scheme", scheme), part("host", host), part("path", path)];
            text + &parts.into_iter().flatten().collect::<String>()
        }
        ActionSpec::Respond { body, headers, .. } => {
            format!("{text} with {} bytes {} and fields {}", body.len(), mark(body), mark(headers))
        }
    }
}

fn conditions(config: &Config, conditions: &[(String, ValuePattern)]) -> String {
    let condition = |(name, pattern): &(String, ValuePattern)| match pattern {
        ValuePattern::Exact(value) => format!("{name} is {}", config.shown(value)),
        ValuePattern::Regex(regex) => format!("{name} matches {}", config.shown(regex)),
        ValuePattern::Present(true) => format!("{name} is there"),
        ValuePattern::Present(false) => format!("{name} is not there"),
    };
    let all: Vec<_> = conditions.iter().map(condition).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(" and ") }
}

fn edits(edits: &HeaderEdits) -> String {
    let names = |fields: &[(String, String)]| {
        fields.iter().map(|(name, value)| format!("{name} {}", mark(value))).collect::<Vec<_>>().join(", ")
    };
    format!("{{set {}; add {}; remove {}}}", names(&edits.set), names(&edits.add), edits.remove.join(", "))
}

fn clusters(old: &Config, new: &Config, plan: &mut Plan) {
    let before: HashMap<_, _> = old.snapshot.clusters.iter().map(|it| (it.name.as_str(), it)).collect();
    let after: HashMap<_, _> = new.snapshot.clusters.iter().map(|it| (it.name.as_str(), it)).collect();
    let count =
        |it: &ClusterSpec| format!("{} endpoint{}", it.endpoints.len(), if it.endpoints.len() == 1 { "" } else { "s" });
    for it in new.snapshot.clusters.iter().filter(|it| !before.contains_key(it.name.as_str())) {
        plan.add(Sign::Added, "cluster", &it.name, count(it));
    }
    for it in old.snapshot.clusters.iter().filter(|it| !after.contains_key(it.name.as_str())) {
        plan.add(Sign::Removed, "cluster", &it.name, format!("{}; requests under way end there", count(it)));
    }
    let both = || new.snapshot.clusters.iter().filter_map(|it| Some((*before.get(it.name.as_str())?, it)));
    for (was, it) in both() {
        if let Some(text) = changes(cluster_aspects(was, it)) {
            plan.add(Sign::Changed, "cluster", &it.name, text);
        }
    }
    for (was, it) in both() {
        endpoints(was, it, plan);
    }
}

fn cluster_aspects(old: &ClusterSpec, new: &ClusterSpec) -> Aspects {
    vec![
        ("balance", old.balance.name().to_owned(), new.balance.name().to_owned()),
        ("pool.max_idle", old.max_idle.to_string(), new.max_idle.to_string()),
        ("pool.idle", shown(&old.idle), shown(&new.idle)),
        ("timeouts.connect", shown(&old.connect_timeout), shown(&new.connect_timeout)),
        ("timeouts.response", shown(&old.response_timeout), shown(&new.response_timeout)),
    ]
}

fn endpoints(old: &ClusterSpec, new: &ClusterSpec, plan: &mut Plan) {
    let before: HashMap<_, _> = old.endpoints.iter().map(|it| (&it.address, it.weight)).collect();
    let after: HashMap<_, _> = new.endpoints.iter().map(|it| (&it.address, it.weight)).collect();
    for it in &new.endpoints {
        let name = format!("{} {}", new.name, it.address);
        match before.get(&it.address) {
            None => plan.add(Sign::Added, "endpoint", &name, format!("joins with weight {}", it.weight)),
            Some(weight) if *weight != it.weight => {
                plan.add(Sign::Changed, "endpoint", &name, format!("weight {weight} → {}", it.weight));
            }
            Some(_) => {}
        }
    }
    for it in old.endpoints.iter().filter(|it| !after.contains_key(&it.address)) {
        let text = "leaves; requests under way end there, its idle connections are closed".to_owned();
        plan.add(Sign::Removed, "endpoint", &format!("{} {}", old.name, it.address), text);
    }
}

/// What a reload cannot change is said as well.
fn process(old: &Config, new: &Config, plan: &mut Plan) {
    let socket = |config: &Config| maybe(config.admin.socket.as_ref().map(|path| path.display()));
    let aspects = vec![("role", shown(&old.role), shown(&new.role)), ("watch", shown(&old.watch), shown(&new.watch))];
    if let Some(text) = changes(aspects) {
        plan.add(Sign::Changed, "process", "itself", text);
    }
    let aspects = vec![
        ("workers.count", old.workers.to_string(), new.workers.to_string()),
        ("admin.listen", maybe(old.admin.listen), maybe(new.admin.listen)),
        ("admin.socket", socket(old), socket(new)),
    ];
    if let Some(text) = changes(aspects) {
        plan.add(Sign::Changed, "process", "itself", format!("{text}: at the next start, not by a reload"));
    }
    let before: HashMap<_, _> = old.snapshot.tenants.iter().map(|it| (it.name.as_str(), it)).collect();
    let after: HashMap<_, _> = new.snapshot.tenants.iter().map(|it| (it.name.as_str(), it)).collect();
    for it in &new.snapshot.tenants {
        match before.get(it.name.as_str()) {
            None => plan.add(Sign::Added, "tenant", &it.name, "joins".to_owned()),
            Some(was) => {
                let aspects = vec![
                    ("limits.requests", was.requests.to_string(), it.requests.to_string()),
                    (
                        "limits.requests_per_second",
                        was.requests_per_second.to_string(),
                        it.requests_per_second.to_string(),
                    ),
                ];
                if let Some(text) = changes(aspects) {
                    plan.add(Sign::Changed, "tenant", &it.name, text);
                }
            }
        }
    }
    for it in old.snapshot.tenants.iter().filter(|it| !after.contains_key(it.name.as_str())) {
        plan.add(Sign::Removed, "tenant", &it.name, "leaves, with its routes and clusters".to_owned());
    }
}
