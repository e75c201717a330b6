//! `bind` and what belongs to connections of clients. Not here: routes.

use super::super::haproxy::{Line, Section};
use super::super::output::{self, array, string, table};
use super::super::routes::{Listener, duration};
use super::{Facts, Translator, at, milliseconds};

/// An address of a frontend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bind {
    /// Position among the listeners.
    pub(super) listener: usize,
    pub(super) facts: Facts,
}

impl<'a> Translator<'a> {
    /// Makes the listeners of a section.
    pub(super) fn binds(&mut self, section: &'a Section) -> Vec<Bind> {
        let mut found = Vec::new();
        for line in section.lines.iter().filter(|line| line.word(0) == "bind") {
            let tls = line.from(2).iter().any(|word| word.text == "ssl");
            for text in line.word(1).split(',') {
                let Some((bind, port)) = address(text) else {
                    self.notes.left(at(line), "cairn binds IP:PORT, [IPv6]:PORT or unix:/path");
                    continue;
                };
                if self.plan.listeners.iter().any(|known| known.bind == bind) {
                    self.notes.left(at(line), "another frontend binds this address");
                    continue;
                }
                let name = match (port, section.lines.iter().filter(|line| line.word(0) == "bind").count()) {
                    (_, 1) => section.name().to_owned(),
                    (0, _) => format!("{}-unix", section.name()),
                    (port, _) => format!("{}-{port}", section.name()),
                };
                let quote = self.notes.files.quote(line.span);
                let mut listener = Listener {
                    range: (line.id, line.id),
                    heading: format!("{}: {quote}", self.notes.files.place(line.span)),
                    name: output::name(&name, &mut self.listener_names),
                    bind,
                    body_bytes: 0,
                    keys: Vec::new(),
                };
                self.bind_parameters(line, tls, &mut listener);
                self.connections(section, &mut listener);
                self.plan.listeners.push(listener);
                found.push(Bind { listener: self.plan.listeners.len() - 1, facts: Facts { tls, port } });
            }
        }
        if found.is_empty() {
            self.notes.left(at(&section.head), "it binds no address that cairn can bind");
        }
        found
    }

    fn bind_parameters(&mut self, line: &'a Line, tls: bool, listener: &mut Listener) {
        let mut certificates = Vec::new();
        let mut authorities = None;
        let (mut required, mut requested, mut revoked) = (false, false, None);
        let mut words = line.from(2).iter().map(|word| word.text.as_str());
        while let Some(word) = words.next() {
            match word {
                "crt" => certificates.extend(words.next().map(|path| self.base("crt-base", path))),
                "ca-file" => authorities = words.next().map(|path| self.base("ca-base", path)),
                "verify" => match words.next() {
                    Some("required") => required = true,
                    Some("optional") => requested = true,
                    _ => {}
                },
                "crl-file" => revoked = words.next().map(|path| self.base("ca-base", path)),
                "accept-netscaler-cip" => {
                    words.next();
                    self.notes.differs(at(line), "cairn takes addresses from PROXY headers alone");
                }
                "accept-proxy" => {
                    self.notes.differs(
                        at(line),
                        "write `proxy_protocol = \"require\"` with `trusted_proxies`: HAProxy believes the header of everybody",
                    );
                }
                // Without it, HAProxy offers HTTP/2 over TLS since 2.8, and cairn does. In the clear, a client tells by its preface.
                "alpn" | "npn" | "proto" => {
                    let offers = words.next().is_some_and(|names| names.split(',').any(|name| name == "h2"));
                    listener.keys.extend((!offers).then(|| ("http2.enabled".to_owned(), "false".to_owned())));
                }
                "v4v6" => listener.keys.push(("ipv6only".to_owned(), "false".to_owned())),
                "mode" => {
                    let mode = words.next().unwrap_or_default().trim_start_matches('0');
                    let octal = (1..=3).contains(&mode.len()) && mode.bytes().all(|c| (b'0'..=b'7').contains(&c));
                    match octal && listener.bind.starts_with("unix:") {
                        true => listener.keys.push(("mode".to_owned(), string(&format!("0{mode}")))),
                        false => self.notes.differs(at(line), "mode: it is for the file of a Unix-domain socket"),
                    }
                }
                "crt-list" => {
                    words.next();
                    self.notes.left(at(line), "certificates are listed one by one: crt-list is not read");
                }
                "name" | "ciphers" | "ciphersuites" | "curves" | "ssl-min-ver" | "ssl-max-ver" | "backlog"
                | "process" | "thread" | "interface" | "maxconn" | "nice" | "user" | "group" | "uid" | "gid"
                | "level" | "shards" => {
                    words.next();
                }
                _ => {}
            }
        }
        if !tls {
            return;
        }
        let mut pairs = Vec::new();
        for path in certificates {
            if path.ends_with('/') || std::path::Path::new(&path).is_dir() {
                self.notes.differs(at(line), &format!("{path} is a folder: name each of its files here"));
            }
            pairs.push(table(&[("cert".to_owned(), string(&path)), ("key".to_owned(), string(&path))]));
        }
        listener.keys.push(("tls.certificates".to_owned(), array("tls.certificates", &pairs)));
        if let Some(path) = authorities.filter(|_| required || requested) {
            listener.keys.push(("tls.client_ca".to_owned(), string(&path)));
            if requested {
                listener.keys.push(("tls.client_auth".to_owned(), string("request")));
            }
            listener.keys.extend(revoked.map(|path| ("tls.crl".to_owned(), string(&path))));
        }
    }

    /// A path relative to a folder that `global` names.
    pub(super) fn base(&self, key: &str, path: &str) -> String {
        match self.global(key) {
            Some(folder) if !path.starts_with('/') => format!("{}/{path}", folder.trim_end_matches('/')),
            _ => path.to_owned(),
        }
    }

    /// Limits and time-outs.
    fn connections(&mut self, section: &'a Section, listener: &mut Listener) {
        if let Some(line) = self.setting(section, &["maxconn"]) {
            match line.word(1).parse::<u32>() {
                Ok(count) => {
                    listener.keys.push(("limits.connections".to_owned(), count.to_string()));
                    self.notes
                        .differs(at(line), "each listener has its own limit, and refuses what is above it with 503");
                }
                Err(_) => self.notes.left(at(line), "it is no number"),
            }
        }
        let (header, client) = (self.time(section, "http-request"), self.time(section, "client"));
        let idle = self.time(section, "http-keep-alive").or(header).or(client);
        for (key, time) in [("timeouts.header", header.or(client)), ("timeouts.body", client), ("timeouts.idle", idle)]
        {
            listener.keys.extend(time.map(|time| (key.to_owned(), string(&duration(time)))));
        }
    }

    /// A time-out of a section.
    pub(super) fn time(&mut self, section: &'a Section, name: &str) -> Option<u64> {
        let line = self.setting(section, &["timeout", name])?;
        match milliseconds(line.word(2)) {
            Some(time @ 1..) => Some(time),
            _ => {
                self.notes.left(at(line), "this time is above 0");
                None
            }
        }
    }
}

/// What cairn binds, and the port; 0: a Unix-domain socket.
fn address(text: &str) -> Option<(String, u16)> {
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    if let Some(path) = text.strip_prefix("unix@").or_else(|| text.starts_with('/').then_some(text)) {
        return path.starts_with('/').then(|| (format!("unix:{path}"), 0));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let host = match host {
        "" | "*" => "0.0.0.0".to_owned(),
        "::" => "[::]".to_owned(),
        "localhost" => "127.0.0.1".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let bind = format!("{host}:{port}");
    bind.parse::<std::net::SocketAddr>().is_ok().then_some((bind, port))
}
