//! Hosts as an operator writes them: patterns of routes, targets of redirects and rewrites.
//! Not here: hosts on the wire (`http`, `route`).

use std::net::Ipv6Addr;

use super::foreign;
use super::report::Problems;
use super::section::Text;
use crate::route::HostPattern;
use crate::route::template::fill;

/// The patterns of `hosts`; empty: any host.
pub(super) fn patterns(texts: &[Text<'_>], problems: &mut Problems) -> Vec<HostPattern> {
    if let [text] = texts
        && text.value == "*"
    {
        return Vec::new();
    }
    let mut patterns = Vec::with_capacity(texts.len());
    for text in texts {
        let Some(pattern) = pattern(*text, problems) else { continue };
        if patterns.contains(&pattern) {
            problems.add(text.at, format!("\"{}\" is here twice", text.shown)).help("leave one out");
        }
        patterns.push(pattern);
    }
    patterns
}

/// `host` or `host:port`, as in a Location or Host field; variables may stand in it.
pub(super) fn authority(text: Text<'_>, problems: &mut Problems) -> String {
    let filled = fill(text.value, |_| "1");
    let (host, port) = match filled.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (&*filled, None),
    };
    if !is_host(host) || !port.is_none_or(is_port) {
        let help = match foreign::variable(text.value) {
            Some(variable) => match foreign::own_variable(variable) {
                Some(own) => format!("cairn calls `{variable}` `{own}`; without `host`, that of the request is kept"),
                None => "leave it out to keep the host of the request".to_owned(),
            },
            None if text.value.contains("://") => "write the host alone, without scheme".to_owned(),
            None => "write \"example.com\", \"example.com:8443\" or \"[::1]:8443\"".to_owned(),
        };
        problems.add(text.at, format!("\"{}\" is not a host", text.shown.escape_debug())).help(help);
    }
    text.value.to_owned()
}

/// One pattern other than `*`. Reports it if it is invalid.
pub(super) fn pattern(text: Text<'_>, problems: &mut Problems) -> Option<HostPattern> {
    let lower = text.value.to_ascii_lowercase();
    let help = match lower.strip_prefix("*.") {
        Some(rest) if is_host(rest) && !rest.starts_with('[') => return Some(HostPattern::Wildcard(rest.to_owned())),
        None if is_host(&lower) => return Some(HostPattern::Exact(canonical(lower))),
        _ if lower == "*" => "\"*\" is any host; it makes the others needless",
        _ if lower.contains('*') => "`*` stands for whole labels at the front only: \"*.example.org\"",
        _ if lower.contains("://") => "write the host alone, without scheme",
        _ if lower.contains(':') && !lower.starts_with('[') => "write it without port; requests match on any port",
        _ if !lower.is_ascii() => "write the form that is on the wire: \"xn--…\"",
        _ if lower.ends_with('.') => "write it without the dot at its end",
        _ => "write \"api.example.com\", \"*.example.org\", \"*\" or an address",
    };
    problems.add(text.at, format!("\"{}\" is not a host pattern", text.shown.escape_debug())).help(help);
    None
}

/// Whether `text` is a port, 1 to 65535, in digits only: `parse` would accept a sign.
fn is_port(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// An IPv6 address in its canonical form, which routes compare (RFC 5952); a name as it is.
fn canonical(host: String) -> String {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]"),
        None => host,
    }
}

/// Whether `text` is a name of labels (RFC 1123 section 2.1, with `_` as used inside clusters), an IPv4 address, or `[IPv6]`.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let known = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// Whether the configuration accepts `host` as a pattern, or in the place that `key` names.
    fn taken(key: &str, host: &str) -> bool {
        let action = match key {
            "redirect" => format!("redirect = {{ host = {host:?} }}"),
            "rewrite" => format!("rewrite = {{ host = {host:?} }}\ncluster = \"a\""),
            _ => format!("hosts = [{host:?}]\ncluster = \"a\""),
        };
        let listener = "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\n";
        let cluster = "[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n";
        parse("host.toml", &format!("{listener}[[route]]\n{action}\n{cluster}")).is_ok()
    }

    #[test]
    fn an_authority_is_a_host_with_an_optional_port() {
        let good = ["a.example", "A.example:80", "10.0.0.1:65535", "[::1]", "[2001:db8::7]:8443", "a_b", "x:1"];
        let bad = [
            "",
            ":80",
            "a:",
            "a:+80",
            "a:-1",
            "a: 80",
            "a:0",
            "a:65536",
            "a:80:80",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "http://a",
            "a b",
            "a\r\nx:y",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::1%25eth0]",
            "a..b",
            ".a",
            "a.",
            "a,b",
            "caf\u{e9}",
            "a:80/x",
            "%61",
            "a\\b",
            "*.a",
        ];
        for key in ["redirect", "rewrite"] {
            for host in good {
                assert!(taken(key, host), "{key} {host}");
            }
            for host in bad {
                assert!(!taken(key, host), "{key} {host:?}");
            }
        }
    }

    #[test]
    fn one_address_has_one_spelling() {
        for host in ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::1]", "[::0.0.0.1]"] {
            assert_eq!(canonical(host.to_owned()), "[::1]");
            assert!(taken("hosts", host));
        }
        assert_eq!(canonical("a.example".to_owned()), "a.example");
    }
}
