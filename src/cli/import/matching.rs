//! The conditions of a route, which of two routes cairn takes, and what both match. Not here: the order of rules (`rules`).

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expression;

/// A condition on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host {
    #[default]
    Any,
    /// In lower case.
    Exact(String),
    /// `*.example.org`, kept as `example.org`.
    Wildcard(String),
}

/// A condition on the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Path {
    #[default]
    Any,
    Exact(String),
    /// Whole segments, without a slash at the end.
    Prefix(String),
    /// The same paths, written as an expression: cairn tries prefixes first, and an expression stands before this one.
    Behind(String),
    /// Of the whole path.
    Regex(String),
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Value {
    Exact(String),
    Regex(String),
    Present(bool),
}

/// All conditions of a route. Lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Match {
    pub(super) host: Host,
    pub(super) path: Path,
    pub(super) methods: Vec<String>,
    pub(super) headers: Vec<(String, Value)>,
    pub(super) query: Vec<(String, Value)>,
    pub(super) cookies: Vec<(String, Value)>,
    /// Networks of clients, sorted.
    pub(super) client_ip: Vec<String>,
}

/// What two matches have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    Nothing,
    /// What one route can say.
    Match(Match),
    /// Something, or perhaps nothing, that no route can say.
    Unsayable,
}

impl Path {
    /// A prefix, or any path for the root.
    pub(super) fn prefix(text: &str) -> Self {
        match text.trim_end_matches('/') {
            "" => Self::Any,
            text => Self::Prefix(text.to_owned()),
        }
    }

    fn and(&self, other: &Self) -> Option<Option<Self>> {
        Some(match (self, other) {
            (Self::Any, path) | (path, Self::Any) => Some(path.clone()),
            (a, b) if a == b => Some(a.clone()),
            (Self::Exact(_), Self::Exact(_)) => None,
            (Self::Exact(path), Self::Prefix(prefix) | Self::Behind(prefix))
            | (Self::Prefix(prefix) | Self::Behind(prefix), Self::Exact(path)) => {
                is_below(path, prefix).then(|| Self::Exact(path.clone()))
            }
            (Self::Exact(path), Self::Regex(regex)) | (Self::Regex(regex), Self::Exact(path)) => {
                expression::matches(regex, path).then(|| Self::Exact(path.clone()))
            }
            (Self::Prefix(a), Self::Behind(b)) | (Self::Behind(b), Self::Prefix(a)) if a == b => {
                Some(Self::Prefix(a.clone()))
            }
            (Self::Prefix(a) | Self::Behind(a), Self::Prefix(b) | Self::Behind(b)) if is_below(a, b) => {
                Some(self.clone())
            }
            (Self::Prefix(a) | Self::Behind(a), Self::Prefix(b) | Self::Behind(b)) => {
                is_below(b, a).then(|| other.clone())
            }
            (Self::Prefix(prefix) | Self::Behind(prefix), Self::Regex(regex))
            | (Self::Regex(regex), Self::Prefix(prefix) | Self::Behind(prefix)) => {
                let start = expression::prefix(regex);
                let slash = format!("{prefix}/");
                match () {
                    () if start.starts_with(&slash) => Some(Self::Regex(regex.clone())),
                    () if slash.starts_with(&start) => {
                        // What goes on without a slash is no whole segment.
                        let behind = regex.strip_prefix(&expression::literal(&start)).unwrap_or_default();
                        let apart = behind.trim_start_matches('(').starts_with("[^/]");
                        if !apart || !slash[start.len()..].starts_with('/') {
                            return None;
                        }
                        None
                    }
                    () => None,
                }
            }
            (Self::Regex(a), Self::Regex(b)) => {
                let (a, b) = (expression::prefix(a), expression::prefix(b));
                if a.starts_with(&b) || b.starts_with(&a) {
                    return None;
                }
                None
            }
        })
    }

    /// Whether it is written as an expression.
    pub(super) fn is_expression(&self) -> bool {
        matches!(self, Self::Regex(_) | Self::Behind(_))
    }

    /// Class and, of prefixes, length: the greater one is taken.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Regex(_) | Self::Behind(_) => (1, 0),
            Self::Prefix(prefix) => (2, prefix.matches('/').count()),
            Self::Exact(_) => (3, 0),
        }
    }
}

/// Whether a path is the prefix or lies below it.
pub(super) fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Host {
    /// None: no host fits both.
    fn and(&self, other: &Self) -> Option<Self> {
        let under = |name: &str, suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
        match (self, other) {
            (Self::Any, host) | (host, Self::Any) => Some(host.clone()),
            (a, b) if a == b => Some(a.clone()),
            (Self::Exact(name), Self::Wildcard(suffix)) | (Self::Wildcard(suffix), Self::Exact(name)) => {
                under(name, suffix).then(|| Self::Exact(name.clone()))
            }
            (Self::Wildcard(a), Self::Wildcard(b)) if under(a, b) => Some(self.clone()),
            (Self::Wildcard(a), Self::Wildcard(b)) => under(b, a).then(|| other.clone()),
            (Self::Exact(_), Self::Exact(_)) => None,
        }
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Wildcard(suffix) => (1, suffix.len()),
            Self::Exact(_) => (2, 0),
        }
    }
}

/// Both lists of conditions. None: they exclude each other.
fn both(a: &[(String, Value)], b: &[(String, Value)]) -> Option<Vec<(String, Value)>> {
    let mut all: Vec<(String, Value)> = a.to_vec();
    for (name, value) in b {
        let Some(at) = all.iter().position(|(known, _)| known == name) else {
            all.push((name.clone(), value.clone()));
            continue;
        };
        match (&all[at].1, value) {
            (old, new) if old == new => {}
            (Value::Present(false), _) | (_, Value::Present(false)) => return None,
            (Value::Present(true), _) => all[at].1 = value.clone(),
            (_, Value::Present(true)) => {}
            (Value::Exact(_), Value::Exact(_)) => return None,
            (Value::Regex(regex), Value::Exact(text)) => {
                if !expression::matches(regex, text) {
                    return None;
                }
                all[at].1 = value.clone();
            }
            (Value::Exact(text), Value::Regex(regex)) => {
                if !expression::matches(regex, text) {
                    return None;
                }
            }
            // Two expressions for one field: a table has each name once.
            (Value::Regex(a), Value::Regex(b)) => {
                let (a, b) = (expression::prefix(a), expression::prefix(b));
                if !a.starts_with(&b) && !b.starts_with(&a) {
                    return None;
                }
                all.push((name.clone(), value.clone()));
            }
        }
    }
    all.sort();
    all.dedup();
    Some(all)
}

/// A network as the first address, widened to 128 bits with IPv4 in front of all else, and the number of bits that count.
pub(super) fn network(text: &str) -> Option<(u128, u32)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let (address, width) = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => (0xffff_0000_0000 | u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let bits = bits.map_or(Some(width), |bits| bits.parse::<u32>().ok().filter(|bits| *bits <= width))? + 128 - width;
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Some((address & mask, bits))
}

/// A network without the bits that do not count.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (address, bits) = network(text)?;
    // IPv4 stands in its own form, however it was written.
    let ipv4 = (bits >= 96 && address >> 32 == 0xffff).then(|| Ipv4Addr::from(address as u32).to_string());
    Some(match (ipv4, bits) {
        (Some(address), 128) => address,
        (Some(address), bits) => format!("{address}/{}", bits - 96),
        (None, 128) => Ipv6Addr::from(address).to_string(),
        (None, bits) => format!("{}/{bits}", Ipv6Addr::from(address)),
    })
}

/// Networks in both lists; an empty list is no condition. None: there are none.
fn shared(a: &[String], b: &[String]) -> Option<Vec<String>> {
    if a.is_empty() || b.is_empty() {
        return Some(if a.is_empty() { b.to_vec() } else { a.to_vec() });
    }
    let holds = |outer: &str, inner: &str| match (network(outer), network(inner)) {
        (Some((outer, bits)), Some((inner, more))) => {
            more >= bits && inner & u128::MAX.checked_shl(128 - bits).unwrap_or(0) == outer
        }
        _ => false,
    };
    let mut found = Vec::new();
    for a in a {
        for b in b {
            if holds(a, b) {
                found.push(b.clone());
            } else if holds(b, a) {
                found.push(a.clone());
            }
        }
    }
    found.sort();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

/// Whether a name stands there twice, which no table can.
fn repeats(conditions: &[(String, Value)]) -> bool {
    conditions.windows(2).any(|pair| pair[0].0 == pair[1].0)
}

impl Match {
    /// What both match.
    pub(super) fn and(&self, other: &Self) -> Overlap {
        let Some(host) = self.host.and(&other.host) else { return Overlap::Nothing };
        let methods = match (self.methods.is_empty(), other.methods.is_empty()) {
            (true, _) => other.methods.clone(),
            (_, true) => self.methods.clone(),
            _ => {
                let shared: Vec<_> = self.methods.iter().filter(|method| other.methods.contains(method)).collect();
                if shared.is_empty() {
                    return Overlap::Nothing;
                }
                shared.into_iter().cloned().collect()
            }
        };
        let Some(headers) = both(&self.headers, &other.headers) else { return Overlap::Nothing };
        let Some(query) = both(&self.query, &other.query) else { return Overlap::Nothing };
        let Some(cookies) = both(&self.cookies, &other.cookies) else { return Overlap::Nothing };
        let Some(client_ip) = shared(&self.client_ip, &other.client_ip) else { return Overlap::Nothing };
        match self.path.and(&other.path) {
            Some(None) => Overlap::Nothing,
            None => Overlap::Unsayable,
            Some(Some(_)) if repeats(&headers) || repeats(&query) || repeats(&cookies) => Overlap::Unsayable,
            Some(Some(path)) => Overlap::Match(Self { host, path, methods, headers, query, cookies, client_ip }),
        }
    }

    /// Which of two routes that both match a request cairn takes; Equal: the earlier one in the file.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        let key = |it: &Self| {
            let values = (it.headers.len(), it.query.len(), it.cookies.len());
            (it.host.rank(), it.path.rank(), !it.client_ip.is_empty(), !it.methods.is_empty(), values)
        };
        key(self).cmp(&key(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        match text.split_at(1) {
            ("=", text) => Path::Exact(text.to_owned()),
            ("~", text) => Path::Regex(text.to_owned()),
            _ => Path::prefix(text),
        }
    }

    #[test]
    fn paths_in_common() {
        for (a, b, expected) in [
            ("/a", "/a/b", Some(Some("/a/b"))),
            ("/a", "/ab", Some(None)),
            ("/a", "=/a", Some(Some("=/a"))),
            ("=/a", "=/b", Some(None)),
            ("/", "~/x.*", Some(Some("~/x.*"))),
            ("/a", "~/b.*", Some(None)),
            ("/a", "~/a/.*", Some(Some("~/a/.*"))),
            ("/a", "~/a.*", None),
            ("/a", r"~.*\.png", None),
            ("/a", "~/a([^/].*)", Some(None)),
            ("/a/b", "~/a[^/].*", Some(None)),
            ("/ab", "~/a[^/].*", None),
            ("=/a.png", r"~.*\.png", Some(Some("=/a.png"))),
            ("=/a.gif", r"~.*\.png", Some(None)),
            ("~/a.*", "~/b.*", Some(None)),
            ("~/a.*", "~.*b", None),
        ] {
            assert_eq!(path(a).and(&path(b)), expected.map(|it| it.map(path)), "{a} {b}");
            assert_eq!(path(b).and(&path(a)), expected.map(|it| it.map(path)), "{b} {a}");
        }
    }

    #[test]
    fn networks_in_common() {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (a, b, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16 192.168.0.0/16", Some("10.1.0.0/16")),
            ("10.0.0.0/8", "11.0.0.1", None),
            ("10.0.0.1", "10.0.0.1/32", Some("10.0.0.1/32")),
            ("", "::1", Some("::1")),
            ("::/0", "fe80::/10", Some("fe80::/10")),
            ("0.0.0.0/0", "fe80::/10", None),
        ] {
            assert_eq!(shared(&list(a), &list(b)), expected.map(list), "{a} {b}");
        }
    }

    #[test]
    fn hosts_in_common() {
        let host = |text: &str| match text.strip_prefix("*.") {
            Some(suffix) => Host::Wildcard(suffix.to_owned()),
            None => Host::Exact(text.to_owned()),
        };
        assert_eq!(host("a.b").and(&host("*.b")), Some(host("a.b")));
        assert_eq!(host("b").and(&host("*.b")), None);
        assert_eq!(host("*.a.b").and(&host("*.b")), Some(host("*.a.b")));
        assert_eq!(host("*.a").and(&host("*.b")), None);
        assert_eq!(Host::Any.and(&host("a")), Some(host("a")));
    }
}
