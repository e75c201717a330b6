//! The request of `cairn explain`, parsed as a listener would parse it. Not here: its route (`explain`).

use cairn::http::{HeadLimits, RequestHead, parse_request};
use cairn::limits::REQUEST_LINE_BYTES;
use cairn::snapshot::ListenerSpec;

/// Status and reason code with which a listener refuses a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) u16, pub(super) &'static str);

/// The scheme of `url`, which selects listeners with or without TLS; None: it has none.
pub(super) fn scheme(url: &str) -> Result<Option<&'static str>, String> {
    let Some((scheme, _)) = url.split_once("://") else { return Ok(None) };
    let known = ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known));
    known.map(Some).ok_or_else(|| format!("{url}: listeners speak http and https"))
}

/// Writes a request head. `url` is `http://host/path?query`, or `/path?query`, whose host is a host field's or else `localhost`;
/// for CONNECT, only its host and port count, which may stand alone.
pub(super) fn head(method: &str, url: &str, fields: &[String]) -> Result<String, String> {
    let url = url.split('#').next().unwrap_or(url);
    let (host, target) = match url.split_once("://") {
        Some((_, rest)) => {
            let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (host, if target.starts_with('/') { target.to_owned() } else { format!("/{target}") })
        }
        None if url.starts_with('/') || url == "*" => ("localhost", url.to_owned()),
        None if method == "CONNECT" && url.contains(':') => (url, String::new()),
        None => return Err(format!("{url}: write http://HOST/PATH, or /PATH with -H host:NAME")),
    };
    let target = if method == "CONNECT" { tunnel(url, host) } else { target };
    let host = if method == "CONNECT" { &target } else { host };
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    let mut named = false;
    for field in fields {
        let Some((name, value)) = field.split_once(':') else { return Err(format!("-H {field}: write NAME:VALUE")) };
        named |= name.eq_ignore_ascii_case("host");
        head += &format!("{name}: {}\r\n", value.trim());
    }
    if !named {
        head += &format!("host: {host}\r\n");
    }
    Ok(head + "\r\n")
}

/// The target of CONNECT: the host with its port.
fn tunnel(url: &str, host: &str) -> String {
    let port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    match port {
        true => host.to_owned(),
        false => format!("{host}:{}", if url.starts_with("https:") { 443 } else { 80 }),
    }
}

/// Reads a request with the limits of `listener`.
pub(super) fn read(bytes: &[u8], listener: &ListenerSpec) -> Result<RequestHead, Refused> {
    let limits = HeadLimits {
        head_bytes: listener.header_bytes,
        field_count: listener.header_count,
        request_line: REQUEST_LINE_BYTES,
    };
    let mut head = RequestHead::new();
    match parse_request(bytes, &limits, &mut 0, &mut head) {
        Ok(Some(_)) => Ok(head),
        Ok(None) => Err(Refused(400, "incomplete")),
        Err(error) => Err(Refused(error.status(), error.reason())),
    }
}

#[cfg(test)]
mod tests {
    use super::{head, scheme};

    #[test]
    fn urls_become_heads() {
        let host = || vec!["Host: b".to_owned()];
        let cases: [(&str, Vec<String>, Result<&str, &str>); 7] = [
            ("http://a/x?y#z", vec![], Ok("GET /x?y HTTP/1.1\r\nhost: a\r\n\r\n")),
            ("http://a:80", vec![], Ok("GET / HTTP/1.1\r\nhost: a:80\r\n\r\n")),
            ("http://a?y", vec![], Ok("GET /?y HTTP/1.1\r\nhost: a\r\n\r\n")),
            ("http://a/", host(), Ok("GET / HTTP/1.1\r\nHost: b\r\n\r\n")),
            ("/x", host(), Ok("GET /x HTTP/1.1\r\nHost: b\r\n\r\n")),
            ("https://a/", vec![], Ok("GET / HTTP/1.1\r\nhost: a\r\n\r\n")),
            ("a/x", vec![], Err("a/x: write http://HOST/PATH, or /PATH with -H host:NAME")),
        ];
        for (url, fields, expected) in cases {
            assert_eq!(head("GET", url, &fields).as_deref().map_err(String::as_str), expected, "{url}");
        }
        for (url, target) in [
            ("a:81", "a:81"),
            ("http://a/x", "a:80"),
            ("https://a", "a:443"),
            ("http://[::1]", "[::1]:80"),
            ("http://[::1]:8/", "[::1]:8"),
            ("/", "localhost:80"),
        ] {
            let expected = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
            assert_eq!(head("CONNECT", url, &[]), Ok(expected), "{url}");
        }
    }

    #[test]
    fn schemes_are_http_and_https() {
        let cases = [
            ("HTTPS://a/", Ok(Some("https"))),
            ("http://a/", Ok(Some("http"))),
            ("/x", Ok(None)),
            ("ws://a/", Err("ws://a/: listeners speak http and https")),
        ];
        for (url, expected) in cases {
            assert_eq!(scheme(url).as_ref().map_err(String::as_str), expected.as_ref().map_err(|why| *why), "{url}");
        }
    }
}
