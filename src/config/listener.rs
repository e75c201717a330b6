//! `[[listener]]` to [`ListenerSpec`]. Not here: binding it.

use super::address;
use super::external::External;
use super::network;
use super::report::Problems;
use super::section::{Section, Text};
use super::socket::{self, Bound};
use super::tables::LISTENERS_MAX;
use super::tcp::{self, Listeners};
use super::tls;
use crate::http::path::EncodedSlash;
use crate::id::{Address, ListenerId};
use crate::limits;
use crate::route::Protocol;
use crate::snapshot::{Http2Spec, ListenerSpec, ProxyProtocol};
use crate::uring::BindOptions;

/// What may stand behind the time of `hsts`.
const HSTS_WORDS: [&str; 2] = ["includeSubDomains", "preload"];

/// All listeners, in file order.
pub(super) fn listeners(
    sections: &[Section<'_>],
    names: &Listeners,
    external: &mut External,
    problems: &mut Problems,
) -> Vec<ListenerSpec> {
    if let Some(surplus) = sections.get(LISTENERS_MAX) {
        problems.add(surplus.at, format!("there are more than {LISTENERS_MAX} listeners")).help("leave some out");
    }
    let mut bound: Vec<Bound> = Vec::new();
    let mut listeners = Vec::with_capacity(sections.len());
    for (position, section) in sections.iter().enumerate() {
        let Some((text, bind)) = section.text("bind").and_then(|text| Some((text, address(text, problems)?))) else {
            continue;
        };
        let options = socket::options(*section, &bind, problems);
        let new = Bound { address: bind.clone(), dual_stack: options.dual_stack, at: text.at };
        socket::clash(text, new, &mut bound, problems);
        if tcp::of_listener(*section) == Protocol::Tcp {
            tcp::check_listener(*section, problems);
            listeners.push(ListenerSpec { options, ..listener(*section, names.full(position), bind, problems) });
            continue;
        }
        let tls = tls::server(*section, external, problems);
        let hsts = section.text("hsts").and_then(|text| hsts(text, tls.is_some(), problems));
        let sends_all_away = tls.as_ref().is_some_and(|tls| !tls.permissive);
        if section.flag("redirect_to_https") && sends_all_away {
            problems
                .add(section.span("redirect_to_https"), "each client of this listener speaks https already")
                .help("write it in the listener in the clear that is beside this one, such as that of port 80");
        }
        listeners.push(ListenerSpec { options, hsts, tls, ..listener(*section, names.full(position), bind, problems) });
    }
    listeners
}

fn listener(section: Section<'_>, name: String, bind: Address, problems: &mut Problems) -> ListenerSpec {
    let protocol = tcp::of_listener(section);
    // What is about requests is inherited by listeners of HTTP alone.
    let other = if protocol == Protocol::Tcp { section.alone() } else { section };
    let (limits, timeouts) = (other.one("limits"), other.one("timeouts"));
    let trusted = section.texts("trusted_proxies").into_iter();
    let proxy_protocol = proxy_protocol(section, &bind, problems);
    ListenerSpec {
        name,
        bind,
        protocol,
        options: BindOptions::default(),
        header_bytes: usize::try_from(limits.size("header_bytes")).unwrap_or(usize::MAX),
        header_count: usize::try_from(limits.number("header_count")).unwrap_or(usize::MAX),
        body_bytes: limits.size("body_bytes"),
        connections: u32::try_from(section.one("limits").number("connections")).unwrap_or(u32::MAX),
        handshakes: u32::try_from(limits.number("handshakes")).unwrap_or(u32::MAX),
        requests: u32::try_from(limits.number("requests")).unwrap_or(u32::MAX),
        header_timeout: section.one("timeouts").time("header"),
        body_timeout: timeouts.time("body"),
        body_rate: timeouts.size("body_rate"),
        idle_timeout: timeouts.time("idle"),
        trusted_proxies: trusted.filter_map(|text| network::range(text, problems)).collect(),
        strict_paths: other.flag("strict_paths"),
        normalize_path: other.flag("normalize_path"),
        proxy_protocol,
        encoded_slash: match other.word("encoded_slash") {
            "refuse" => EncodedSlash::Refuse,
            "decode" => EncodedSlash::Decode,
            _ => EncodedSlash::Keep,
        },
        redirect_to_https: other.flag("redirect_to_https"),
        hsts: None,
        tls: None,
        http2: http2(other.one("http2"), problems).filter(|_| protocol == Protocol::Http),
    }
}

/// `[listener.http2]`; None: it is not enabled.
fn http2(section: Section<'_>, problems: &mut Problems) -> Option<Http2Spec> {
    /// What the bodies of one connection may hold of a worker's buffers, bytes.
    const BUDGET: u64 = (limits::BUFFERS / limits::CONNECTION_SHARE * limits::RECEIVE_BYTES) as u64;
    if !section.flag("enabled") {
        return None;
    }
    let (streams, window) = (section.number("streams"), section.size("window"));
    if streams.saturating_mul(window) > BUDGET {
        let key = if section.has("window") { "window" } else { "streams" };
        let (most, mib) = (BUDGET / streams.max(1) / 1024, BUDGET >> 20);
        problems
            .add(
                section.span(key),
                format!("one client could have {streams} bodies of {} KiB lie in a worker's buffers", window / 1024),
            )
            .help(format!(
                "streams times window may be {mib} MiB: write `window = \"{most}KiB\"` or less, or fewer streams"
            ));
    }
    Some(Http2Spec {
        streams: u16::try_from(streams).unwrap_or(u16::MAX),
        window: u32::try_from(window).unwrap_or(u32::MAX),
        connection_window: u32::try_from(section.size("connection_window")).unwrap_or(u32::MAX),
        max_age: section.optional_time("max_connection_age"),
    })
}

fn proxy_protocol(section: Section<'_>, bind: &Address, problems: &mut Problems) -> ProxyProtocol {
    let found = match section.word("proxy_protocol") {
        "require" => ProxyProtocol::Require,
        "optional" => ProxyProtocol::Optional,
        _ => ProxyProtocol::Off,
    };
    let nobody = matches!(bind, Address::Inet(_)) && section.texts("trusted_proxies").is_empty();
    if found != ProxyProtocol::Off && nobody {
        problems
            .add(section.span("proxy_protocol"), "there is no proxy that may send a PROXY header")
            .help("name those in front: `trusted_proxies = [\"10.0.0.5\"]`; what others send is not believed");
    }
    found
}

/// The field line of Strict-Transport-Security (RFC 6797 section 6.1). None: the text has another form, or nothing can come of it.
fn hsts(text: Text<'_>, tls: bool, problems: &mut Problems) -> Option<Box<str>> {
    if !tls {
        problems
            .add(text.at, "clients heed `hsts` over TLS only, which this listener does not speak")
            .help("write it in the listener with [listener.tls], and `redirect_to_https = true` in this one");
        return None;
    }
    let mut parts = text.value.split(';').map(str::trim);
    let seconds = parts.next().and_then(age);
    let mut line = format!("strict-transport-security: max-age={}", seconds.unwrap_or_default());
    for part in parts {
        match HSTS_WORDS.iter().find(|word| word.eq_ignore_ascii_case(part)) {
            Some(word) => line.extend(["; ", word]),
            None => return no_hsts(text, problems),
        }
    }
    if seconds.is_none() {
        return no_hsts(text, problems);
    }
    Some((line + "\r\n").into())
}

fn no_hsts<T>(text: Text<'_>, problems: &mut Problems) -> Option<T> {
    problems
        .add(text.at, format!("\"{}\" does not say how long clients are to use https only", text.shown.escape_debug()))
        .help("write days (d), weeks (w) or years (y), such as \"1y\" or \"1y; includeSubDomains\"; \"0d\" ends it");
    None
}

/// Seconds of a time in days, weeks or years.
fn age(text: &str) -> Option<u64> {
    const DAY: u64 = 24 * 3600;
    let factor = match text.chars().last()? {
        'd' => DAY,
        'w' => 7 * DAY,
        'y' => 365 * DAY,
        _ => return None,
    };
    // More than a hundred years are a slip of the pen.
    let number: u64 = text[..text.len() - 1].parse().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))?;
    number.checked_mul(factor).filter(|seconds| *seconds <= 100 * 365 * DAY)
}

/// The listeners that `section` names; empty: all.
pub(super) fn ids(section: Section<'_>, names: &Listeners, problems: &mut Problems) -> Vec<ListenerId> {
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

/// The address to bind; None: it is none, which has been reported.
fn address(text: Text<'_>, problems: &mut Problems) -> Option<Address> {
    let address = text.value.parse::<Address>();
    address.map_err(|error| address::no_bind(text, &error, problems)).ok()
}
