//! `upstream` blocks and addresses behind `proxy_pass`. Not here: which requests go there.

use super::super::files::clipped;
use super::super::nginx::Directive;
use super::super::output::{self, string};
use super::super::routes::{Cluster, duration};
use super::super::valid::is_host;
use super::Translator;
use super::scope::{at, milliseconds};
use super::tls::Keys;

/// The port of `http://`.
pub(super) const HTTP: u16 = 80;
/// The port of `https://`.
pub(super) const HTTPS: u16 = 443;

impl<'a> Translator<'a> {
    /// The name of the cluster for a host of `proxy_pass`, which is made if it does not exist. None: it is no address. `port`: where the
    /// host names none.
    pub(super) fn cluster(&mut self, host: &str, port: u16, tls: Keys, user: &'a Directive) -> Option<String> {
        let upstream = self.upstreams.iter().copied().find(|it| it.argument(0) == host);
        if let Some(upstream) = upstream {
            return self.upstream(upstream, tls);
        }
        let (address, _) = endpoint(host, port)?;
        let same = |it: &&Cluster| {
            it.endpoints == [(address.clone(), 1)] && it.heading.contains("proxy_pass") && has_tls(it, &tls)
        };
        if let Some(known) = self.plan.clusters.iter().find(same) {
            return Some(known.name.clone());
        }
        let mut keys = vec![("balance".to_owned(), "\"round_robin\"".to_owned())];
        keys.extend(tls);
        let name = output::name(host.trim_start_matches("unix:/"), &mut self.names);
        let place = self.notes.files.place(user.span);
        self.plan.clusters.push(Cluster {
            range: (user.id, user.id),
            heading: format!("{place}: proxy_pass"),
            name: name.clone(),
            endpoints: vec![(address, 1)],
            keys,
        });
        Some(name)
    }

    fn upstream(&mut self, upstream: &'a Directive, tls: Keys) -> Option<String> {
        let range = (upstream.id, upstream.last);
        if let Some(known) = self.plan.clusters.iter().find(|cluster| cluster.range == range && has_tls(cluster, &tls))
        {
            return Some(known.name.clone());
        }
        let mut balance = "round_robin";
        let mut keys = Vec::new();
        let mut endpoints = Vec::new();
        for directive in upstream.children() {
            match directive.name.as_str() {
                "server" => endpoints.extend(self.server_of_upstream(directive)),
                "least_conn" | "least_time" => {
                    balance = "least_request";
                    if directive.name == "least_time" {
                        self.notes.differs(at(directive), "least_request looks at requests under way alone");
                    }
                }
                "random" => {
                    let two = directive.argument(0) == "two";
                    balance = if two { "least_request" } else { "random" };
                }
                "ip_hash" | "hash" => {
                    keys.retain(|(key, _)| key != "hash_on");
                    let (policy, key) = self.hash(directive).unwrap_or(("round_robin", Vec::new()));
                    balance = policy;
                    keys.extend(key);
                }
                "sticky" => keys.extend(self.sticky(directive)),
                "keepalive" => match directive.argument(0).parse::<u32>() {
                    Ok(count) => keys.push(("pool.max_idle".to_owned(), count.to_string())),
                    Err(_) => self.notes.left(at(directive), "it is no number"),
                },
                "keepalive_timeout" => match milliseconds(directive.argument(0)) {
                    Some(time @ 1..) => keys.push(("pool.idle".to_owned(), string(&duration(time)))),
                    _ => self.notes.left(at(directive), "this time is above 0"),
                },
                "keepalive_requests" | "keepalive_time" => {
                    self.notes
                        .left(at(directive), "a connection to an endpoint has no bound but the time that it is idle");
                }
                _ => {}
            }
        }
        if endpoints.is_empty() {
            return None;
        }
        if endpoints.iter().all(|(_, weight)| *weight == 0) {
            endpoints.iter_mut().for_each(|(_, weight)| *weight = 1);
        }
        // Of several policies the last one counts.
        keys.retain(|(key, _)| key != "hash_on" || ["ring_hash", "maglev"].contains(&balance));
        let mut all = vec![("balance".to_owned(), string(balance))];
        all.append(&mut keys);
        all.extend(tls);
        let name = output::name(upstream.argument(0), &mut self.names);
        let place = self.notes.files.place(upstream.span);
        let shown = clipped(&cairn::printable::printable(upstream.argument(0)), 100);
        let heading = format!("{place}: upstream {shown}");
        self.plan.clusters.push(Cluster { range, heading, name: name.clone(), endpoints, keys: all });
        Some(name)
    }

    fn server_of_upstream(&mut self, directive: &'a Directive) -> Option<(String, u32)> {
        let Some((address, _)) = endpoint(directive.argument(0), HTTP) else {
            self.notes.left(at(directive), "an endpoint is IP:PORT, NAME:PORT or unix:/path");
            return None;
        };
        let mut weight = 1;
        for parameter in directive.arguments.iter().skip(1) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("weight", value) => weight = value.parse::<u16>().map_or(1, u32::from),
                ("down", _) => return Some((address, 0)),
                ("backup", _) => {
                    let how = "write `backup = true` instead of the weight 0 with which it stands here";
                    self.notes.left(at(directive), how);
                    return Some((address, 0));
                }
                ("max_fails" | "fail_timeout", _) => {
                    let how = "max_fails and fail_timeout: five failures in a row eject an endpoint for ten seconds ([cluster.outlier])";
                    self.notes.differs(at(directive), how);
                }
                ("max_conns", _) => {
                    self.notes.differs(at(directive), "max_conns: an endpoint has no limit of connections")
                }
                ("resolve", _) => {
                    self.notes.differs(at(directive), "resolve: names are looked up when the configuration is loaded")
                }
                _ => {
                    self.notes.differs(at(directive), &format!("{}: cairn has nothing like it", clipped(parameter, 40)))
                }
            }
        }
        Some((address, weight))
    }

    /// Adds the time-outs of clusters and routes, and says which upstreams are left out.
    pub(super) fn clusters(&mut self) {
        for cluster in &mut self.plan.clusters {
            if let Some((connect, response)) = self.times.get(&cluster.name) {
                cluster.keys.push(("timeouts.connect".to_owned(), string(&duration(*connect))));
                cluster.keys.push(("timeouts.response".to_owned(), string(&duration(*response))));
            }
        }
        for (body, cluster, wait) in &self.waits {
            if self.times.get(cluster).is_some_and(|(_, response)| wait < response) {
                let limits = &mut self.plan.bodies[*body].limits;
                (limits.response, limits.idle) = (Some(*wait), Some(*wait));
            }
        }
        for upstream in self.upstreams.clone() {
            let range = (upstream.id, upstream.last);
            if !self.plan.clusters.iter().any(|cluster| cluster.range == range) {
                self.notes.left(at(upstream), "no route leads to it, or it has no server that cairn can reach");
            }
        }
        self.plan.clusters.sort_by_key(|cluster| cluster.range);
    }
}

/// Whether a cluster has these keys of TLS, and no others.
fn has_tls(cluster: &Cluster, tls: &Keys) -> bool {
    cluster.keys.iter().filter(|(key, _)| key.starts_with("tls")).eq(tls)
}

/// An address with its port, `usual` if there is none; and what a request's Host says of it.
pub(super) fn endpoint(text: &str, usual: u16) -> Option<(String, String)> {
    if text.starts_with("unix:/") {
        return Some((text.trim_end_matches(':').to_owned(), "localhost".to_owned()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok().filter(|port| *port > 0)?),
        _ => (text, usual),
    };
    let address = format!("{host}:{port}");
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = inner.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let shown = if port == usual { host.to_owned() } else { address.clone() };
    (is_address || is_host(host)).then_some((address, shown))
}
