//! `[[listener]]` to [`ListenerSpec`]. Not here: binding it.

use std::net::IpAddr;

use super::Role;
use super::names::Names;
use super::report::{Place, Problems};
use super::schema::LISTENERS_MAX;
use super::section::{Section, Text};
use crate::id::Address;
use crate::snapshot::{ListenerSpec, Network};

/// Loopback (RFC 1122, RFC 4291), private (RFC 1918) and unique local (RFC 4193) ranges: the peers of a waypoint or sidecar.
const PRIVATE: [&str; 6] = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"];

/// All listeners, in file order.
pub(super) fn listeners(
    sections: &[Section<'_>],
    names: &Names,
    role: Role,
    problems: &mut Problems,
) -> Vec<ListenerSpec> {
    if let Some(surplus) = sections.get(LISTENERS_MAX) {
        problems.add(surplus.at, format!("there are more than {LISTENERS_MAX} listeners")).help("leave some out");
    }
    let mut bound: Vec<(Address, Place)> = Vec::new();
    let mut listeners = Vec::with_capacity(sections.len());
    for (position, section) in sections.iter().enumerate() {
        let Some(bind) = section.text("bind").and_then(|text| address(text, &mut bound, problems)) else { continue };
        listeners.push(listener(*section, names.get(position).to_owned(), bind, role, problems));
    }
    listeners
}

fn listener(section: Section<'_>, name: String, bind: Address, role: Role, problems: &mut Problems) -> ListenerSpec {
    let limits = section.one("limits");
    let timeouts = section.one("timeouts");
    let trusted_proxies = if section.has("trusted_proxies") {
        section.texts("trusted_proxies").into_iter().filter_map(|text| trusted(text, problems)).collect()
    } else if role == Role::Edge {
        Vec::new()
    } else {
        PRIVATE.iter().filter_map(|text| network(text).ok()).collect()
    };
    ListenerSpec {
        name,
        bind,
        header_bytes: usize::try_from(limits.size("header_bytes")).unwrap_or(usize::MAX),
        header_count: usize::try_from(limits.number("header_count")).unwrap_or(usize::MAX),
        body_bytes: limits.size("body_bytes"),
        connections: u32::try_from(limits.number("connections")).unwrap_or(u32::MAX),
        requests: u32::try_from(limits.number("requests")).unwrap_or(u32::MAX),
        header_timeout: timeouts.time("header"),
        body_timeout: timeouts.time("body"),
        body_rate: timeouts.size("body_rate"),
        idle_timeout: timeouts.time("idle"),
        trusted_proxies,
        strict_paths: role == Role::Edge,
    }
}

/// The address to bind, unless another listener has it. Port 0 is a new port for each.
fn address(text: Text<'_>, bound: &mut Vec<(Address, Place)>, problems: &mut Problems) -> Option<Address> {
    let address = match text.value.parse::<Address>() {
        Ok(address) => address,
        Err(error) => {
            problems
                .add(text.at, format!("\"{}\" is {error}", text.shown.escape_debug()))
                .help("\"127.0.0.1:8080\" for this machine, \"0.0.0.0:8080\" or \"[::]:8080\" for all");
            return None;
        }
    };
    let shared = !matches!(&address, Address::Inet(inet) if inet.port() == 0);
    if let Some((_, first)) = bound.iter().find(|(other, _)| shared && *other == address) {
        problems
            .add(text.at, format!("two listeners bind {}", text.shown))
            .note(*first, "the first one is here")
            .help("give each an address or port of its own");
    }
    bound.push((address.clone(), text.at));
    Some(address)
}

fn trusted(text: Text<'_>, problems: &mut Problems) -> Option<Network> {
    let help = match network(text.value) {
        Ok(network) => return Some(network),
        Err(NetworkError::Form) => "write \"10.0.0.0/8\", \"10.1.2.3\", \"fd00::/8\" or \"::1\"".to_owned(),
        Err(NetworkError::HostBits(first)) => {
            format!("its first address is {}; write \"{}/{}\"", first.address, first.address, first.prefix)
        }
    };
    problems.add(text.at, format!("\"{}\" is not an address range", text.shown.escape_debug())).help(help);
    None
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetworkError {
    Form,
    /// Bits beyond the prefix are set; the range that was meant.
    HostBits(Network),
}

/// `10.0.0.0/8`; an address alone is a range of one.
fn network(text: &str) -> Result<Network, NetworkError> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = |prefix: &str| prefix.bytes().all(|c| c.is_ascii_digit());
    let prefix = match prefix {
        None => bits,
        Some(prefix) if digits(prefix) => prefix.parse::<u8>().map_err(|_| NetworkError::Form)?,
        Some(_) => return Err(NetworkError::Form),
    };
    if prefix > bits {
        return Err(NetworkError::Form);
    }
    let beyond = u32::from(bits - prefix);
    let first = match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(beyond).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(beyond).unwrap_or(0)).into()),
    };
    let range = Network { address: first, prefix };
    if first == address { Ok(range) } else { Err(NetworkError::HostBits(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let range = |address: &str, prefix| Network { address: address.parse().unwrap(), prefix };
        let cases = [
            ("10.0.0.0/8", Ok(range("10.0.0.0", 8))),
            ("10.1.2.3", Ok(range("10.1.2.3", 32))),
            ("0.0.0.0/0", Ok(range("0.0.0.0", 0))),
            ("::/0", Ok(range("::", 0))),
            ("::1", Ok(range("::1", 128))),
            ("fd00::/8", Ok(range("fd00::", 8))),
            ("10.1.2.3/8", Err(NetworkError::HostBits(range("10.0.0.0", 8)))),
            ("10.0.0.0/33", Err(NetworkError::Form)),
            ("10.0.0.0/+8", Err(NetworkError::Form)),
            ("10.0.0/8", Err(NetworkError::Form)),
            ("localhost", Err(NetworkError::Form)),
        ];
        for (text, expected) in cases {
            assert_eq!(network(text), expected, "{text}");
        }
        for text in PRIVATE {
            assert!(network(text).is_ok(), "{text}");
        }
    }
}
