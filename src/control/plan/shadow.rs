//! Which requests change their route: looks up one sample request of each route in the old and in the new router.
//! Not here: which items differ (`difference`).

use std::collections::HashMap;

use super::{Plan, Sign};
use crate::config::Config;
use crate::id::ListenerId;
use crate::route::{
    ClientPattern, ConditionsSpec, HostPattern, PathPattern, Protocol, RouteSpec, Router, Sample, ValuePattern,
};

/// Differences between the two routers.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    /// By name of an added route: what becomes of its sample request under the old router.
    before: HashMap<String, String>,
    /// By name of a removed route: what becomes of its sample request under the new router.
    after: HashMap<String, String>,
    /// Routes in both that lose their sample request, each with the route that gets it.
    lost: Vec<(String, String)>,
}

/// A request that satisfies the conditions of one route, and the listener that gets it.
struct Typical<'a> {
    listener: ListenerId,
    request: Sample<'a>,
    protocol: Protocol,
}

pub(super) fn shadows(old: &Config, new: &Config) -> Shadows {
    let mut shadows = Shadows::default();
    let router = |config: &Config| Router::build(&config.snapshot.routes, &config.snapshot.protocols()).ok();
    let (Some(old_router), Some(new_router)) = (router(old), router(new)) else { return shadows };
    let names = |config: &Config| -> HashMap<String, usize> {
        config.snapshot.routes.iter().enumerate().map(|(at, route)| (route.name.clone(), at)).collect()
    };
    let (old_names, new_names) = (names(old), names(new));
    // A listener may have spoken another protocol.
    let find = |(router, config): (&Router, &Config), typical: &Typical<'_>| {
        let found = router.find(typical.listener, &typical.request)?;
        let same = config.snapshot.routes[found.id.index()].protocol == typical.protocol;
        same.then(|| found.name.to_string())
    };
    let (before, after) = ((&old_router, old), (&new_router, new));
    for route in &new.snapshot.routes {
        let Some(sample) = Typical::of(new, route) else { continue };
        if !old_names.contains_key(&route.name) {
            let text = match (find(before, &sample), route.protocol) {
                (Some(other), Protocol::Http) => format!("; such requests go to route {other} today"),
                (None, Protocol::Http) => "; such requests are answered 404 today".to_owned(),
                (Some(other), Protocol::Tcp) => format!("; such connections go to route {other} today"),
                (None, Protocol::Tcp) => "; such connections are closed today".to_owned(),
            };
            shadows.before.insert(route.name.clone(), text);
            continue;
        }
        let (was, is) = (find(before, &sample), find(after, &sample));
        if let Some(by) = is.filter(|by| *by != route.name && was.as_deref() == Some(&route.name)) {
            shadows.lost.push((route.name.clone(), by));
        }
    }
    for route in old.snapshot.routes.iter().filter(|route| !new_names.contains_key(&route.name)) {
        if let Some(sample) = Typical::of(old, route) {
            let text = match (find(after, &sample), route.protocol) {
                (Some(other), Protocol::Http) => format!("; such requests will go to route {other}"),
                (None, Protocol::Http) => "; such requests will be answered 404".to_owned(),
                (Some(other), Protocol::Tcp) => format!("; such connections will go to route {other}"),
                (None, Protocol::Tcp) => "; such connections will be closed".to_owned(),
            };
            shadows.after.insert(route.name.clone(), text);
        }
    }
    shadows
}

impl Shadows {
    /// Appends to each change of a route what becomes of its requests.
    pub(super) fn explain(self, plan: &mut Plan) {
        for change in plan.changes.iter_mut().filter(|change| change.kind == "route") {
            let more = match change.sign {
                Sign::Added => self.before.get(&change.name),
                Sign::Removed => self.after.get(&change.name),
                Sign::Changed => None,
            };
            change.text += more.map_or("", String::as_str);
        }
        for (route, by) in self.lost {
            plan.add(
                Sign::Changed,
                "route",
                &route,
                format!("is shadowed: route {by} is more specific and takes its requests"),
            );
        }
    }
}

impl<'a> Typical<'a> {
    /// None if a condition of the route is a regular expression, or is excluded by another one.
    fn of(config: &Config, route: &'a RouteSpec) -> Option<Self> {
        let ConditionsSpec { client, client_ip, alpn, methods, headers, query, cookies, scheme, port: _ } =
            &route.conditions;
        let value = |pattern: &'a ValuePattern| match pattern {
            ValuePattern::Exact(text) => Some(Some(text.as_str())),
            ValuePattern::Present(true) => Some(Some("1")),
            ValuePattern::Present(false) => Some(None),
            ValuePattern::Regex(_) => None,
        };
        let values = |conditions: &'a [(String, ValuePattern)]| {
            let mut values = Vec::new();
            for (name, pattern) in conditions {
                values.extend(value(pattern)?.map(|value| (name.as_str(), value)));
            }
            Some(values)
        };
        let pairs = |values: Vec<(&str, &str)>, between: &str| {
            values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(between)
        };
        let numbered = config.snapshot.listeners.iter().zip(0..);
        let mut serving = numbered.filter(|(it, id)| {
            route.is_of(ListenerId(*id), it.protocol)
                && route.conditions.port.is_none_or(|asked| it.port() == Some(asked))
        });
        let (listener, id) = serving.next()?;
        let request = Sample {
            method: methods.first().map_or("GET", String::as_str),
            host: match route.hosts.first() {
                Some(HostPattern::Exact(name)) => name.clone(),
                Some(HostPattern::Wildcard(name)) => format!("any.{name}"),
                None => "host.invalid".to_owned(),
            },
            path: match &route.path {
                PathPattern::Any => "/",
                PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
                PathPattern::Regex(_) => return None,
            },
            query: pairs(values(query)?, "&"),
            headers: values(headers)?,
            cookies: pairs(values(cookies)?, "; "),
            protocols: alpn.first().map(String::as_str).into_iter().collect(),
            client_ip: client_ip.first().map(|network| network.address),
            identity: client.first().map(ClientPattern::example),
            scheme: scheme.unwrap_or_else(|| listener.scheme()),
            port: listener.port(),
        };
        may_pass(&request, &route.not).then_some(Self { listener: ListenerId(id), request, protocol: route.protocol })
    }
}

/// Whether none of the conditions holds, as far as it can be told without compiling them: other routes than the usual would need a
/// sample that is made for them.
fn may_pass(request: &Sample<'_>, not: &ConditionsSpec) -> bool {
    let absent =
        |conditions: &[(String, ValuePattern)]| conditions.iter().any(|(_, it)| *it == ValuePattern::Present(false));
    let method = not.methods.iter().any(|method| method == request.method);
    let known = request.identity.as_deref().is_some_and(|client| not.client.iter().any(|it| it.matches(client)));
    let client = request.client_ip.is_some_and(|client| not.client_ip.iter().any(|it| it.contains(client)));
    let connection = not.scheme == Some(request.scheme) || not.port.is_some() && not.port == request.port;
    let named = absent(&not.headers) || absent(&not.query) || absent(&not.cookies);
    !(method || known || client || connection || named)
}
