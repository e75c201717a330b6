//! How a listener's socket is made: both families or one, and who may use the file of a Unix-domain socket.
//! Not here: making it (`uring`).

use std::fs;
use std::net::{IpAddr, SocketAddr};

use super::report::{Problems, SourceSpan};
use super::section::{Section, Text};
use crate::id::Address;
use crate::uring::{BindOptions, FileAccess};

/// The listener as far as `key` is concerned: one that it does nothing for inherits none.
pub(super) fn in_effect<'a>(section: Section<'a>, key: &str, bind: &Address) -> Section<'a> {
    let effective = match key {
        "ipv6only" => is_any_ipv6(bind),
        "mode" | "owner" => matches!(bind, Address::Unix(_)),
        _ => true,
    };
    if effective { section } else { section.alone() }
}

/// Whether it is all IPv6 addresses of this machine.
fn is_any_ipv6(bind: &Address) -> bool {
    matches!(bind, Address::Inet(SocketAddr::V6(inet)) if inet.ip().is_unspecified())
}

/// Reads `ipv6only`, `mode` and `owner` of a listener that binds `bind`. Reports those that do nothing there.
pub(super) fn options(listener: Section<'_>, bind: &Address, problems: &mut Problems) -> BindOptions {
    let section = in_effect(listener, "ipv6only", bind);
    let dual_stack = section.has("ipv6only") && !section.flag("ipv6only");
    let any = is_any_ipv6(bind);
    if dual_stack && !any {
        problems
            .add(section.span("ipv6only"), "`ipv6only = false` does nothing here")
            .help("it is for \"[::]:PORT\", all addresses of this machine: leave it out");
    }
    let section = in_effect(listener, "mode", bind);
    if let Some(text) = section.text("mode").filter(|text| ["tcp", "http"].contains(&text.value)) {
        problems
            .add(text.at, format!("\"{}\" is not the mode of a socket", text.shown))
            .help(format!("cairn calls it `protocol = \"{}\"`: what the listener takes", text.value));
        return BindOptions { dual_stack: dual_stack && any, file: FileAccess::default() };
    }
    for key in ["mode", "owner"] {
        if section.has(key) && matches!(bind, Address::Inet(_)) {
            problems
                .add(section.span(key), format!("`{key}` does nothing here"))
                .help("it is for the file of a Unix-domain socket, bind = \"unix:/path\": leave it out");
        }
    }
    let mode = section.text("mode").and_then(|text| mode(text, problems));
    let (user, group) = section.text("owner").map_or((None, None), |text| owner(text, problems));
    BindOptions { dual_stack: dual_stack && any, file: FileAccess { mode, user, group } }
}

/// Permission bits in octal.
fn mode(text: Text<'_>, problems: &mut Problems) -> Option<u32> {
    let octal = (3..=4).contains(&text.value.len()) && text.value.bytes().all(|c| (b'0'..=b'7').contains(&c));
    let mode = u32::from_str_radix(text.value, 8).ok().filter(|mode| octal && *mode <= 0o777);
    if mode.is_none() {
        problems
            .add(text.at, format!("\"{}\" is not the mode of a socket", text.shown.escape_debug()))
            .help("write octal digits, such as \"0660\": to connect takes the right to write");
    }
    mode
}

/// User and group of `user:group`, `user` or `:group`; names or numbers.
fn owner(text: Text<'_>, problems: &mut Problems) -> (Option<u32>, Option<u32>) {
    let (user, group) = text.value.split_once(':').unwrap_or((text.value, ""));
    if user.is_empty() && group.is_empty() {
        problems
            .add(text.at, "this is no owner")
            .help("write \"user:group\", \"user\" or \":group\"; names or numbers");
    }
    let mut look_up = |what: &str, file: &str, name: &str| {
        let found = id(file, name);
        if found.is_none() && !name.is_empty() {
            problems
                .add(text.at, format!("there is no {what} \"{}\" in {file}", name.escape_debug()))
                .help("write one that is there, or its number");
        }
        found
    };
    (look_up("user", "/etc/passwd", user), look_up("group", "/etc/group", group))
}

/// The number of a user or group: the third field of its line (passwd(5), group(5)).
fn id(file: &str, name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        // -1 leaves an owner as it is (chown(2)).
        return Some(number).filter(|number| *number != u32::MAX);
    }
    let lines = fs::read_to_string(file).ok()?;
    let mut fields = lines.lines().map(|line| line.split(':'));
    fields
        .find_map(|mut fields| fields.next().filter(|known| *known == name && !name.is_empty()).and(fields.nth(1)))?
        .parse()
        .ok()
}

/// A listener that was read before.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) address: Address,
    pub(super) dual_stack: bool,
    pub(super) at: SourceSpan,
}

/// Reports an address that another listener binds too, but for port 0, which is a new port for each; and one that is written in the
/// form of another family. 127.0.0.1 beside 0.0.0.0 is none: the kernel gives connections to the more specific one.
pub(super) fn clash(text: Text<'_>, new: Bound, bound: &mut Vec<Bound>, problems: &mut Problems) {
    if let Address::Inet(SocketAddr::V6(inet)) = &new.address
        && let Some(ip) = inet.ip().to_ipv4_mapped()
    {
        problems
            .add(text.at, format!("{} is an IPv4 address in the form of IPv6", text.shown))
            .help(format!("write \"{ip}:{}\"", inet.port()));
    }
    if let Some(other) = bound.iter().find(|other| other.address == new.address && !is_any_port(&new.address)) {
        problems
            .add(text.at, format!("two listeners bind {}", text.shown))
            .note(other.at, "the first one is here")
            .help("give each an address or port of its own");
    } else if let Some(other) = bound.iter().find(|other| both_take_ipv4(other, &new) || both_take_ipv4(&new, other)) {
        problems
            .add(text.at, format!("this listener and that on {} both take IPv4 connections", other.address))
            .note(other.at, "the first one is here")
            .help("leave `ipv6only = false` out: \"[::]\" takes IPv6 alone then; or leave out the one on 0.0.0.0");
    }
    bound.push(new);
}

fn both_take_ipv4(dual: &Bound, other: &Bound) -> bool {
    let (Address::Inet(six), Address::Inet(four)) = (&dual.address, &other.address) else { return false };
    let any = matches!(four.ip(), IpAddr::V4(ip) if ip.is_unspecified());
    dual.dual_stack && any && six.port() == four.port() && six.port() != 0
}

fn is_any_port(address: &Address) -> bool {
    matches!(address, Address::Inet(inet) if inet.port() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn owners_are_names_or_numbers() {
        let file = |keys: &str| {
            let text = format!("[[listener]]\nname = \"a\"\nbind = \"unix:/run/a\"\n{keys}\n");
            parse("a.toml", &text).map(|config| config.snapshot.listeners[0].options.file)
        };
        for (keys, mode, user, group) in [
            ("", None, None, None),
            ("mode = \"0660\"", Some(0o660), None, None),
            ("mode = \"600\"", Some(0o600), None, None),
            ("owner = \"root\"", None, Some(0), None),
            ("owner = \"7:root\"", None, Some(7), Some(0)),
            ("owner = \":8\"", None, None, Some(8)),
        ] {
            assert_eq!(file(keys).unwrap(), FileAccess { mode, user, group }, "{keys}");
        }
        for keys in [
            "mode = \"66\"",
            "mode = \"1777\"",
            "mode = \"rw\"",
            "owner = \":\"",
            "owner = \"no-such-user\"",
            "owner = \"4294967295\"",
        ] {
            assert!(file(keys).is_err(), "{keys}");
        }
    }
}
