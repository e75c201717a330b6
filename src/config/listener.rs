//! `[[listener]]` to [`ListenerSpec`]. Not here: binding it.

use super::address;
use super::external::External;
use super::names::Names;
use super::network;
use super::report::{Problems, SourceSpan};
use super::section::{Section, Text};
use super::tables::LISTENERS_MAX;
use super::tls;
use crate::http::path::EncodedSlash;
use crate::id::{Address, ListenerId};
use crate::snapshot::ListenerSpec;

/// All listeners, in file order.
pub(super) fn listeners(
    sections: &[Section<'_>],
    names: &Names,
    external: &mut External,
    problems: &mut Problems,
) -> Vec<ListenerSpec> {
    if let Some(surplus) = sections.get(LISTENERS_MAX) {
        problems.add(surplus.at, format!("there are more than {LISTENERS_MAX} listeners")).help("leave some out");
    }
    let mut bound: Vec<(Address, SourceSpan)> = Vec::new();
    let mut listeners = Vec::with_capacity(sections.len());
    for (position, section) in sections.iter().enumerate() {
        let Some(bind) = section.text("bind").and_then(|text| address(text, &mut bound, problems)) else { continue };
        let tls = tls::server(*section, external, problems);
        listeners.push(ListenerSpec { tls, ..listener(*section, names.full(position), bind, problems) });
    }
    listeners
}

fn listener(section: Section<'_>, name: String, bind: Address, problems: &mut Problems) -> ListenerSpec {
    let limits = section.one("limits");
    let timeouts = section.one("timeouts");
    let trusted = section.texts("trusted_proxies").into_iter();
    ListenerSpec {
        name,
        bind,
        header_bytes: usize::try_from(limits.size("header_bytes")).unwrap_or(usize::MAX),
        header_count: usize::try_from(limits.number("header_count")).unwrap_or(usize::MAX),
        body_bytes: limits.size("body_bytes"),
        connections: u32::try_from(limits.number("connections")).unwrap_or(u32::MAX),
        handshakes: u32::try_from(limits.number("handshakes")).unwrap_or(u32::MAX),
        requests: u32::try_from(limits.number("requests")).unwrap_or(u32::MAX),
        header_timeout: timeouts.time("header"),
        body_timeout: timeouts.time("body"),
        body_rate: timeouts.size("body_rate"),
        idle_timeout: timeouts.time("idle"),
        trusted_proxies: trusted.filter_map(|text| network::range(text, problems)).collect(),
        strict_paths: section.flag("strict_paths"),
        normalize_path: section.flag("normalize_path"),
        encoded_slash: match section.word("encoded_slash") {
            "refuse" => EncodedSlash::Refuse,
            "decode" => EncodedSlash::Decode,
            _ => EncodedSlash::Keep,
        },
        tls: None,
    }
}

/// The listeners that `section` names; empty: all.
pub(super) fn ids(section: Section<'_>, names: &Names, problems: &mut Problems) -> Vec<ListenerId> {
    let mut ids = Vec::new();
    for text in section.texts("listeners") {
        let Some(position) = names.find(text, problems) else { continue };
        match u16::try_from(position).map(ListenerId) {
            Ok(id) if !ids.contains(&id) => ids.push(id),
            _ => {}
        }
    }
    ids
}

/// The address to bind. Reports one that another listener binds too, but for port 0, which is a new port for each.
fn address(text: Text<'_>, bound: &mut Vec<(Address, SourceSpan)>, problems: &mut Problems) -> Option<Address> {
    let address = match text.value.parse::<Address>() {
        Ok(address) => address,
        Err(error) => {
            address::no_bind(text, &error, problems);
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
