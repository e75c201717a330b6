//! `[[cluster]]` to [`ClusterSpec`]; resolves names of endpoints. Not here: choosing an endpoint.

use std::net::ToSocketAddrs;

use super::names::Names;
use super::report::Problems;
use super::section::{Section, Text};
use crate::cluster::{Balance, ClusterSpec, EndpointSpec};
use crate::id::Address;

/// All clusters, in file order.
pub(super) fn clusters(sections: &[Section<'_>], names: &Names, problems: &mut Problems) -> Vec<ClusterSpec> {
    let read = |(position, section): (usize, &Section<'_>)| cluster(*section, names.get(position).to_owned(), problems);
    sections.iter().enumerate().map(read).collect()
}

fn cluster(section: Section<'_>, name: String, problems: &mut Problems) -> ClusterSpec {
    let pool = section.one("pool");
    let timeouts = section.one("timeouts");
    ClusterSpec {
        name,
        endpoints: endpoints(section, problems),
        balance: match section.word("balance") {
            "round_robin" => Balance::RoundRobin,
            "random" => Balance::Random,
            _ => Balance::LeastRequest,
        },
        max_idle: u32::try_from(pool.number("max_idle")).unwrap_or(u32::MAX),
        idle: pool.time("idle"),
        connect_timeout: timeouts.time("connect"),
        response_timeout: timeouts.time("response"),
    }
}

fn endpoints(section: Section<'_>, problems: &mut Problems) -> Vec<EndpointSpec> {
    let items = section.texts_or_tables("endpoints");
    if section.has("endpoints") && section.length("endpoints") == 0 {
        problems
            .add(section.place("endpoints"), "the cluster has no endpoint")
            .help("write at least one: endpoints = [\"127.0.0.1:9000\"]");
    }
    let mut endpoints: Vec<EndpointSpec> = Vec::with_capacity(items.len());
    for item in &items {
        let (text, weight) = match item {
            Ok(text) => (Some(*text), 1),
            Err(table) => (table.text("address"), table.number("weight")),
        };
        let Some((text, address)) = text.and_then(|text| Some((text, address(text, problems)?))) else { continue };
        if endpoints.iter().any(|other| other.address == address) {
            problems
                .add(text.at, format!("{address} is in the cluster twice"))
                .help(format!("for a larger share write {{ address = \"{address}\", weight = 2 }}"));
        }
        endpoints.push(EndpointSpec { address, weight: u16::try_from(weight).unwrap_or(u16::MAX) });
    }
    if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        problems
            .add(section.place("endpoints"), "every endpoint has weight 0, so none gets traffic")
            .help("give at least one a weight from 1 to 65535");
    }
    endpoints
}

/// An address, or the first IPv4 address of a name, else its first address.
fn address(text: Text<'_>, problems: &mut Problems) -> Option<Address> {
    let address = match text.value.parse() {
        Ok(address) => address,
        Err(error) => match resolve(text.value) {
            Ok(address) => address,
            Err(Unresolved::Form) => {
                problems
                    .add(text.at, format!("\"{}\" is {error}", text.value.escape_debug()))
                    .help("\"10.0.0.2:9000\", \"app.internal:9000\" or \"unix:/run/app.sock\"");
                return None;
            }
            Err(Unresolved::Name(why)) => {
                problems
                    .add(text.at, format!("\"{}\" does not resolve: {why}", text.value.escape_debug()))
                    .help("names are looked up when the configuration is loaded; write an address, or see to the name");
                return None;
            }
        },
    };
    if matches!(&address, Address::Inet(inet) if inet.port() == 0) {
        problems.add(text.at, "an endpoint cannot have port 0").help("write the port on which it listens");
    }
    Some(address)
}

enum Unresolved {
    Form,
    Name(String),
}

fn resolve(text: &str) -> Result<Address, Unresolved> {
    let known = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    match text.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && name.bytes().all(known) && port.parse::<u16>().is_ok() => {}
        _ => return Err(Unresolved::Form),
    }
    let addresses: Vec<_> = text.to_socket_addrs().map_err(|error| Unresolved::Name(error.to_string()))?.collect();
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    chosen.copied().map(Address::Inet).ok_or_else(|| Unresolved::Name("it has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_to_one_address() {
        let Ok(Address::Inet(address)) = resolve("localhost:9000") else { panic!("localhost does not resolve") };
        assert!(address.ip().is_loopback() && address.port() == 9000, "{address}");
        assert!(matches!(resolve("a..b:80"), Err(Unresolved::Name(_))));
        for text in ["localhost", "localhost:", ":80", "localhost:65536", "a b:80", "http://a:80", "[::1:80"] {
            assert!(matches!(resolve(text), Err(Unresolved::Form)), "{text}");
        }
    }
}
