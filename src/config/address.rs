//! Addresses that operators write wrongly: what is wrong with one, and the cure. Not here: their form (`id`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::report::Problems;
use super::section::Text;
use crate::id::AddressError;

const PORTS: &str = "a port is a number from 1 to 65535";

/// Reports a value of `bind` that is no address.
pub(super) fn no_bind(text: Text<'_>, error: &AddressError, problems: &mut Problems) {
    let value = text.value;
    let cure = common(value, error).or_else(|| {
        let (host, port) = value.rsplit_once(':').unwrap_or(("", value));
        let any = "\"0.0.0.0:8080\" for IPv4 and \"[::]:8080\" for IPv6".replace("8080", port);
        match host {
            _ if !is_number(port) && value.parse::<IpAddr>().is_ok() => Some("write the port behind it".to_owned()),
            _ if !is_number(port) => None,
            "" | "*" => Some(format!("write {any}")),
            _ if value.parse::<Ipv6Addr>().is_ok() => {
                Some(format!("write an IPv6 address in brackets: \"[{host}]:{port}\""))
            }
            _ => Some(format!("a listener binds an address, not a name: \"127.0.0.1:{port}\" for this machine, {any}")),
        }
    });
    let usual = "\"127.0.0.1:8080\" for this machine, \"0.0.0.0:8080\" or \"[::]:8080\" for all";
    report(text, error, "IP:PORT, [IPv6]:PORT or unix:/path", (cure, usual), problems);
}

/// Reports an endpoint that is neither an address nor a name.
pub(super) fn no_endpoint(text: Text<'_>, error: &AddressError, problems: &mut Problems) {
    let value = text.value;
    let cure = common(value, error).or_else(|| {
        let (host, port) = value.rsplit_once(':').unwrap_or((value, ""));
        match value.split_once(' ') {
            Some((address, rest)) if rest.contains("weight") => {
                Some(format!("write {{ address = \"{address}\", weight = 2 }}"))
            }
            _ if value.parse::<Ipv6Addr>().is_ok() => {
                Some(format!("write \"[{value}]:80\", with brackets and the port"))
            }
            _ if is_name(host) && is_name(port) => Some(PORTS.to_owned()),
            _ if port.is_empty() && is_name(host) => Some(format!("write its port: \"{host}:80\"")),
            _ => None,
        }
    });
    let usual = "\"10.0.0.2:9000\", \"app.internal:9000\" or \"unix:/run/app.sock\"";
    report(text, error, "IP:PORT, NAME:PORT or unix:/path", (cure, usual), problems);
}

/// Whether a name is an IPv4 address with a number above 255, or with too many or too few numbers.
pub(super) fn is_wrong_ipv4(name: &str) -> bool {
    let numbers = || name.split('.');
    numbers().count() > 1 && numbers().all(is_number) && name.parse::<Ipv4Addr>().is_err()
}

fn report(
    text: Text<'_>,
    error: &AddressError,
    forms: &str,
    (cure, usual): (Option<String>, &str),
    problems: &mut Problems,
) {
    let shown = text.shown.escape_debug();
    let what = match (port_beyond(text.value), error) {
        (Some(_), AddressError::Form) if text.shown == text.value => format!("the port of \"{shown}\" is out of range"),
        (_, AddressError::Form) => format!("\"{shown}\" is not an address; write {forms}"),
        (_, error) => format!("\"{shown}\" is {error}"),
    };
    // A cure quotes the value, which may be secret.
    let cure = cure.filter(|_| text.shown == text.value);
    problems.add(text.at, what).help(cure.as_deref().unwrap_or(usual));
}

/// Cures that hold for both.
fn common(value: &str, error: &AddressError) -> Option<String> {
    if !matches!(error, AddressError::Form) {
        return Some("choose a shorter path".to_owned());
    }
    if let Some((scheme, rest)) = value.split_once("://") {
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (usual, tls) = if scheme == "https" { (":443", ", and set up `tls` beside it") } else { (":80", "") };
        let port = if address.contains(':') { "" } else { usual };
        let more = if path.len() > 1 { " and the path; a route changes paths with `rewrite`" } else { "" };
        return Some(format!("drop the scheme{more}{tls}: \"{address}{port}\""));
    }
    if port_beyond(value).is_some() {
        return Some(PORTS.to_owned());
    }
    value.starts_with('/').then(|| format!("write \"unix:{value}\" for a Unix-domain socket"))
}

/// The port, if it is a number and none that a port can be.
fn port_beyond(value: &str) -> Option<&str> {
    let port = value.rsplit_once(':').map_or(value, |(_, port)| port);
    Some(port).filter(|port| is_number(port) && port.parse::<u16>().is_err())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}
