//! `cairn explain` of a connection to a listener of TCP: what its ClientHello leads to. Not here: requests (`explain`).

use std::net::IpAddr;
use std::process::ExitCode;

use cairn::cluster::HashOn;
use cairn::config::Config;
use cairn::exchange::{Passthrough, source_key};
use cairn::id::{Address, ClusterId, ListenerId};
use cairn::route::{Action, Condition, Protocol, Request, RouteSpec, Unmet, Verdict};
use cairn::snapshot::{ListenerSpec, Snapshot};
use cairn::tls::client_hello::ClientHello;

use super::super::{print, usage};
use super::{Arguments, Rows, chosen, cluster, key_row, listeners, not};

/// Success if a listener has a route for the connection.
pub(super) fn explain(arguments: &Arguments, config: &Config, snapshot: &Snapshot) -> ExitCode {
    let protocols: Vec<u8> = arguments.alpn.iter().flat_map(|protocol| listed(protocol)).collect();
    let name = arguments.sni.as_deref().unwrap_or_default();
    let Some(hello) = ClientHello::of(name, &protocols) else {
        usage(&format!("--sni {name}: no client of TLS asks for this: write a name, without port"));
    };
    if listeners(arguments, snapshot, Protocol::Tcp).next().is_none() {
        match &arguments.listener {
            Some(name) => usage(&format!("listener {name} speaks HTTP: write METHOD and URL of a request")),
            None => usage("no listener has protocol = \"tcp\": write METHOD and URL of a request"),
        }
    }
    let mut rows = Rows(String::new());
    let (sni, alpn) = (if name.is_empty() { "none" } else { name }, arguments.alpn.join(", "));
    rows.row("sni", sni);
    if !alpn.is_empty() {
        rows.row("alpn", alpn);
    }
    let mut found = false;
    for (id, listener) in listeners(arguments, snapshot, Protocol::Tcp) {
        rows.gap();
        rows.row("listener", format_args!("{}, {}, TCP", listener.name, listener.bind));
        found |= print_way(config, snapshot, (id, listener), (hello, arguments.client_ip), &mut rows);
    }
    print(&rows.0, if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A protocol behind its length.
fn listed(protocol: &str) -> impl Iterator<Item = u8> {
    match u8::try_from(protocol.len()) {
        Ok(length @ 1..) => std::iter::once(length).chain(protocol.bytes()),
        _ => usage(&format!("--alpn {protocol}: a protocol has 1 to 255 bytes")),
    }
}

/// Prints where a connection to a listener goes. True: a route takes it.
fn print_way(
    config: &Config,
    snapshot: &Snapshot,
    (id, listener): (ListenerId, &ListenerSpec),
    (hello, client): (ClientHello<'_>, IpAddr),
    rows: &mut Rows,
) -> bool {
    // Clients of a Unix-domain socket have no address.
    let client = Some(client).filter(|_| matches!(listener.bind, Address::Inet(_)));
    let asked = Passthrough { hello, client, port: listener.port() };
    let route = snapshot.router.find(id, &asked);
    match route {
        Some(route) => {
            chosen(config, route, rows);
            match &route.action {
                Action::Cluster(id) => {
                    cluster(snapshot, *id, "", rows);
                    print_key(snapshot, *id, asked.client, rows);
                }
                Action::Split(_) | Action::Redirect(_) | Action::Respond(_) => {}
            }
            if let Some(time) = route.limits.tunnel_idle {
                rows.row("silence", format_args!("in both directions: {time:?} at most"));
            }
        }
        None if snapshot.router.reads_hello(id) => {
            rows.row("answer", "an alert to who speaks TLS, unrecognized_name; else a reset");
        }
        None => rows.row("answer", "a reset"),
    }
    for considered in &snapshot.router.explain(id, &asked) {
        let why = match considered.verdict {
            Verdict::Unmet(Unmet::Fails(condition) | Unmet::Not(condition)) => {
                fails(condition, &config.snapshot.routes[considered.route.index()], &asked)
            }
            Verdict::Chosen | Verdict::Shadowed(_) => String::new(),
        };
        not(config, considered, &why, rows);
    }
    route.is_some()
}

/// Prints the endpoint to which the address of a client leads, where the cluster hashes that.
fn print_key(snapshot: &Snapshot, id: ClusterId, client: Option<IpAddr>, rows: &mut Rows) {
    let Some(cluster) = snapshot.clusters.get(id.index()) else { return };
    let Some(on) = &cluster.hash_on else { return };
    let key = client.filter(|_| matches!(on, HashOn::Source)).map(source_key);
    key_row(cluster, on, key, "a connection", rows);
}

/// That a condition does not hold, and why.
fn fails(condition: Condition<'_>, spec: &RouteSpec, asked: &Passthrough<'_>) -> String {
    match (condition, asked.client_ip()) {
        (Condition::ClientIp, Some(address)) => format!("its client_ip does not contain {address}"),
        (Condition::ClientIp, None) => "its client_ip holds for no client without an address".to_owned(),
        // Routes of TCP have no other conditions.
        _ => format!("its alpn is {}", spec.conditions.alpn.join(", ")),
    }
}
