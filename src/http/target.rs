//! The four forms of a request target (RFC 9112 section 3.2) and the syntax of an authority. Not here: paths (`path`).

use core::net::Ipv6Addr;

use crate::buffer::scan::{self, Lanes};

/// The form of a request target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`, authoritative over Host.
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

/// The parts of an absolute-form target, as offsets: the scheme is `..scheme`, the authority `scheme + 3..authority`, and path and query
/// are the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absolute {
    pub(super) scheme: usize,
    pub(super) authority: usize,
}

/// Splits an absolute-form target. Only `http` and `https` can be proxied; userinfo is refused (RFC 9110 section 4.2.4).
pub(super) fn absolute(target: &[u8]) -> Option<Absolute> {
    let scheme = target.iter().position(|byte| *byte == b':')?;
    let name = target.get(..scheme)?;
    let rest = target.get(scheme..)?;
    if !(name.eq_ignore_ascii_case(b"http") || name.eq_ignore_ascii_case(b"https")) {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    authority_port(rest.get(..len)?)?;
    Some(Absolute { scheme, authority: scheme + 3 + len })
}

/// Whether `authority` is `host:port` with both present, as CONNECT requires (RFC 9110 section 9.3.6).
pub(super) fn is_connect_authority(authority: &[u8]) -> bool {
    matches!(authority_port(authority), Some(Some(_)))
}

/// Parses `uri-host [ ":" port ]`, stricter than RFC 3986: a name consists of unreserved characters only, so that it can be written
/// to logs and redirects without escapes; there is no userinfo and no IPvFuture; a port is at most 65535.
///
/// Returns the port; `Some(None)` if it is missing or empty; `None` if the authority is invalid.
pub(super) fn authority_port(authority: &[u8]) -> Option<Option<u16>> {
    let host_len = authority.iter().position(|byte| !scan::is_host(*byte)).unwrap_or(authority.len());
    port_behind(authority, host_len)
}

/// Whether `head[start..end]` is an authority. It takes the whole head, because bytes before the authority allow wider reads.
#[inline(always)]
pub(super) fn is_authority<L: Lanes>(lanes: L, head: &[u8], start: usize, end: usize) -> bool {
    let host_len = scan::host_len(lanes, head, start, end);
    // The usual case is a name without a port.
    if host_len != 0 && host_len == end.wrapping_sub(start) {
        return true;
    }
    head.get(start..end).and_then(|authority| port_behind(authority, host_len)).is_some()
}

/// The port of an authority whose host name has `host_len` bytes.
fn port_behind(authority: &[u8], host_len: usize) -> Option<Option<u16>> {
    let host_len = if host_len == 0 { literal_len(authority)? } else { host_len };
    match authority.get(host_len..)? {
        [] | [b':'] => Some(None),
        [b':', digits @ ..] => port(digits).map(Some),
        _ => None,
    }
}

/// The length of an IPv6 literal with its brackets.
#[cold]
fn literal_len(authority: &[u8]) -> Option<usize> {
    let close = authority.iter().position(|byte| *byte == b']')?;
    let address = core::str::from_utf8(authority.get(..close)?.strip_prefix(b"[")?).ok()?;
    // Accepts exactly the grammar of IPv6address: no sign, no zone.
    address.parse::<Ipv6Addr>().ok()?;
    Some(close + 1)
}

fn port(digits: &[u8]) -> Option<u16> {
    let mut value: u16 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u16::from(digit))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for (text, want) in [
            ("case.test", Some(None)),
            ("CASE.test:80", Some(Some(80))),
            ("a_b.test:", Some(None)),
            ("127.0.0.1:65535", Some(Some(65535))),
            ("[::1]", Some(None)),
            ("[2001:db8::7]:8080", Some(Some(8080))),
            ("", None),
            (":80", None),
            ("case.test:65536", None),
            ("case.test:-1", None),
            ("case.test:80:80", None),
            ("::1", None),
            ("[::1]x", None),
            ("[:::1]", None),
            ("[fe80::1%25eth0]", None),
            ("[::1", None),
            ("user@case.test", None),
            ("a,b", None),
            ("a b", None),
            ("case%2etest", None),
            ("case.test/x", None),
        ] {
            assert_eq!(authority_port(text.as_bytes()), want, "{text}");
        }
    }
}
