//! `listen` and what belongs to the connection: TLS, limits, time-outs. Not here: routes.

use cairn::config::SourceSpan;

use super::super::nginx::Directive;
use super::super::output::{self, array, string, strings, table};
use super::super::routes::{Listener, duration, size};
use super::scope::{Scope, at, bytes, milliseconds};
use super::{Server, Translator};

/// An address on which servers listen.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) bind: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// Position of the server that takes what no name fits.
    pub(super) default: usize,
    marked: bool,
    ipv4_too: bool,
    /// The first `listen` of it.
    range: output::Range,
    heading: String,
    /// Where it is said that connections begin with a PROXY header.
    proxied: Option<(usize, SourceSpan)>,
}

impl<'a> Translator<'a> {
    /// The sockets of one server, as positions; new ones are added.
    pub(super) fn sockets(
        &mut self,
        server: &'a Directive,
        position: usize,
        all: &mut Vec<Socket>,
    ) -> Vec<(usize, bool)> {
        let mut found: Vec<(usize, bool)> = Vec::new();
        let listens: Vec<_> = server.children().iter().filter(|it| it.name == "listen").collect();
        let implied = listens.is_empty();
        for directive in listens.iter().copied().chain(implied.then_some(server)) {
            let address = if implied { "80" } else { directive.argument(0) };
            let Some((bind, port)) = address_of(address) else {
                self.notes.left(at(directive), "cairn binds IP:PORT, [IPv6]:PORT or unix:/path");
                continue;
            };
            let flags = if implied { &[][..] } else { directive.arguments.get(1..).unwrap_or_default() };
            self.flags(directive, flags);
            let has = |flag: &str| flags.iter().any(|it| it == flag);
            let tls = has("ssl") || server.children().iter().any(|it| it.name == "ssl" && it.argument(0) == "on");
            let marked = has("default_server") || has("default");
            let known = all.iter().position(|socket| socket.bind == bind).unwrap_or_else(|| {
                let quote = self.notes.files.quote(directive.span);
                let heading =
                    format!("{}: {}", self.notes.files.place(directive.span), if implied { "server" } else { &quote });
                let range = (directive.id, if implied { directive.id } else { directive.last });
                let ipv4_too = false;
                let (marked, proxied) = (false, None);
                all.push(Socket { bind, port, tls, default: position, marked, ipv4_too, range, heading, proxied });
                all.len() - 1
            });
            let socket = &mut all[known];
            socket.tls |= tls;
            socket.ipv4_too |= has("ipv6only=off");
            socket.proxied = socket.proxied.or(has("proxy_protocol").then(|| at(directive)));
            if marked && !socket.marked {
                (socket.default, socket.marked) = (position, true);
            }
            if !found.iter().any(|(socket, _)| *socket == known) {
                found.push((known, false));
            }
        }
        found
    }

    fn flags(&mut self, directive: &'a Directive, flags: &[String]) {
        for flag in flags {
            let why = match flag.as_str() {
                "quic" => "there is no HTTP/3: clients go on with HTTP/2",
                _ => continue,
            };
            self.notes.differs(at(directive), why);
        }
    }

    pub(super) fn listeners(&mut self, sockets: &[Socket], servers: &[Server<'a>]) {
        let mut names = std::collections::BTreeSet::new();
        for (position, socket) in sockets.iter().enumerate() {
            let users: Vec<_> =
                servers.iter().filter(|server| server.sockets.iter().any(|own| own.0 == position)).collect();
            let wanted = match (socket.port, socket.tls) {
                (0, _) => "unix".to_owned(),
                (80, false) => "http".to_owned(),
                (443, true) => "https".to_owned(),
                (port, tls) => format!("{}-{port}", if tls { "https" } else { "http" }),
            };
            let wanted = if socket.bind.starts_with('[') { format!("{wanted}-v6") } else { wanted };
            let mut listener = Listener {
                range: socket.range,
                heading: socket.heading.clone(),
                name: output::name(&wanted, &mut names),
                bind: socket.bind.clone(),
                body_bytes: 0,
                keys: Vec::new(),
            };
            if socket.ipv4_too {
                listener.keys.push(("ipv6only".to_owned(), "false".to_owned()));
            }
            let default = servers.get(socket.default);
            if let Some(default) = default {
                self.proxies(&default.scope, socket.proxied, &mut listener);
            }
            if socket.tls {
                self.tls(&users, default, &mut listener);
            }
            if let Some(default) = default {
                listener.body_bytes = body_bytes(&default.scope);
                self.limits(&default.scope, &mut listener);
            }
            self.plan.listeners.push(listener);
        }
    }

    /// Whose word is taken for the address of a client.
    fn proxies(&mut self, scope: &Scope<'a>, proxied: Option<(usize, SourceSpan)>, listener: &mut Listener) {
        let ranges: Vec<_> = scope.all("set_real_ip_from").iter().map(|it| it.argument(0).to_owned()).collect();
        let usable = |range: &String| range.bytes().all(|c| c.is_ascii_hexdigit() || matches!(c, b'.' | b':' | b'/'));
        if let Some(directive) =
            scope.all("set_real_ip_from").into_iter().find(|it| !usable(&it.argument(0).to_owned()))
        {
            self.notes.left(at(directive), "trusted proxies are ranges of addresses");
        }
        let header = scope.one("real_ip_header");
        let of_proxies = header.is_some_and(|it| it.argument(0) == "proxy_protocol");
        let ranges: Vec<_> = ranges.into_iter().filter(usable).collect();
        if let Some(place) = proxied {
            if of_proxies && !ranges.is_empty() {
                listener.keys.push(("trusted_proxies".to_owned(), strings("trusted_proxies", &ranges)));
                listener.keys.push(("proxy_protocol".to_owned(), string("require")));
                let how = "proxy_protocol: nginx lets in everybody who sends a header, and believes those of set_real_ip_from alone; cairn \
                           lets in nobody else";
                return self.notes.differs(place, how);
            }
            let why = "proxy_protocol: write `proxy_protocol = \"require\"` with `trusted_proxies`, which name those who may send a header";
            self.notes.left(place, why);
        }
        match header {
            Some(directive) if !directive.argument(0).eq_ignore_ascii_case("x-forwarded-for") => {
                self.notes.left(at(directive), "the address of a client comes from x-forwarded-for or forwarded");
            }
            _ => {
                if !ranges.is_empty() {
                    listener.keys.push(("trusted_proxies".to_owned(), strings("trusted_proxies", &ranges)));
                }
            }
        }
    }

    fn tls(&mut self, users: &[&Server<'a>], default: Option<&Server<'a>>, listener: &mut Listener) {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for server in default.into_iter().chain(users.iter().copied()) {
            let (certificates, keys) = (server.scope.all("ssl_certificate"), server.scope.all("ssl_certificate_key"));
            for (cert, key) in certificates.iter().zip(keys) {
                let variable = [cert, &key].into_iter().find(|it| it.argument(0).contains(['$', ':']));
                if let Some(directive) = variable {
                    self.notes.left(at(directive), "a certificate is a file, the same for all requests");
                    continue;
                }
                let pair = (cert.argument(0).to_owned(), key.argument(0).to_owned());
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
            self.client_certificates(server, users.len(), listener);
        }
        let pair = |(cert, key): &(String, String)| {
            table(&[("cert".to_owned(), string(cert)), ("key".to_owned(), string(key))])
        };
        let pairs: Vec<_> = pairs.iter().map(pair).collect();
        listener.keys.push(("tls.certificates".to_owned(), array("tls.certificates", &pairs)));
    }

    fn client_certificates(&mut self, server: &Server<'a>, users: usize, listener: &mut Listener) {
        let Some(verify) = server.scope.one("ssl_verify_client") else { return };
        match (verify.argument(0), server.scope.one("ssl_client_certificate")) {
            (mode @ ("on" | "optional"), Some(ca)) => {
                if !listener.keys.iter().any(|(key, _)| key == "tls.client_ca") {
                    listener.keys.push(("tls.client_ca".to_owned(), string(ca.argument(0))));
                    if mode == "optional" {
                        listener.keys.push(("tls.client_auth".to_owned(), string("request")));
                    }
                    let crl = server.scope.one("ssl_crl");
                    listener.keys.extend(crl.map(|crl| ("tls.crl".to_owned(), string(crl.argument(0)))));
                }
                if users > 1 {
                    self.notes
                        .differs(at(verify), "all servers of this address ask for certificates, not this one alone");
                }
            }
            ("off", _) => {}
            _ => self.notes.open(at(verify), "a certificate of a client counts only if an authority has signed it"),
        }
    }

    /// Limits and time-outs, which nginx takes from the default server, too.
    fn limits(&mut self, scope: &Scope<'a>, listener: &mut Listener) {
        for (name, key) in [
            ("client_header_timeout", "timeouts.header"),
            ("client_body_timeout", "timeouts.body"),
            ("keepalive_timeout", "timeouts.idle"),
        ] {
            let Some(directive) = scope.one(name) else { continue };
            match milliseconds(directive.argument(0)) {
                Some(0) | None => self.notes.left(at(directive), "this time is above 0"),
                Some(time) => listener.keys.push((key.to_owned(), string(&duration(time)))),
            }
        }
        if let Some(directive) = scope.one("keepalive_requests") {
            match directive.argument(0).parse::<u32>() {
                Ok(count) => listener.keys.push(("limits.requests".to_owned(), count.to_string())),
                Err(_) => self.notes.left(at(directive), "it is no number"),
            }
        }
        if let Some(directive) = scope.one("large_client_header_buffers") {
            let count: Option<u64> = directive.argument(0).parse().ok();
            match count.zip(bytes(directive.argument(1))).and_then(|(count, size)| count.checked_mul(size)) {
                Some(total @ 1024..=61_440) => {
                    listener.keys.push(("limits.header_bytes".to_owned(), string(&size(total))));
                    self.notes.differs(
                        at(directive),
                        "limits.header_bytes bounds the whole head, not each line; a line has 8KiB",
                    );
                }
                _ => self.notes.left(at(directive), "limits.header_bytes is 1KiB to 60KiB"),
            }
        }
    }
}

/// What cairn binds, and the port; 0: a Unix-domain socket.
fn address_of(text: &str) -> Option<(String, u16)> {
    if text.starts_with("unix:/") {
        return Some((text.to_owned(), 0));
    }
    let is_port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(port) = is_port(text) {
        return Some((format!("0.0.0.0:{port}"), port));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, is_port(port)?),
        _ => (text, 80),
    };
    let host = match host {
        "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        host => host,
    };
    let bind = format!("{host}:{port}");
    bind.parse::<std::net::SocketAddr>().is_ok().then_some((bind, port))
}

/// The limit of bodies that holds, which nginx has in any case; 0: none.
pub(super) fn body_bytes(scope: &Scope<'_>) -> u64 {
    scope.one("client_max_body_size").and_then(|it| bytes(it.argument(0))).unwrap_or(1 << 20)
}
