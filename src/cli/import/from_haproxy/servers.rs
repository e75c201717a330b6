//! Servers of a backend, and how one is chosen. Not here: which requests go there.

use super::super::files::clipped;
use super::super::haproxy::{Line, Section};
use super::super::output::{self, string};
use super::super::routes::{Cluster, duration};
use super::super::valid::is_host;
use super::super::words::ENV_OPEN;
use super::{Translator, at};

/// Keys of a cluster, each with its value as it is written.
pub(super) type Keys = Vec<(String, String)>;

impl<'a> Translator<'a> {
    /// The backend of a name: of two sections of a name, `listen` is one, too.
    pub(super) fn backend(&self, name: &str) -> Option<&'a Section> {
        self.sections.iter().find(|it| matches!(it.kind(), "backend" | "listen") && it.name() == name)
    }

    /// The cluster of a section, which is made if it does not exist. None: it has no server that cairn can reach.
    pub(super) fn cluster(&mut self, section: &'a Section) -> Option<String> {
        if let Some(known) = self.clusters.get(&section.head.id) {
            return known.clone();
        }
        let found = self.new_cluster(section);
        self.clusters.insert(section.head.id, found.clone());
        found
    }

    fn new_cluster(&mut self, section: &'a Section) -> Option<String> {
        let inherited = self.inherited(section);
        let defaults: Vec<_> = inherited.iter().filter(|line| line.word(0) == "default-server").copied().collect();
        let weight = defaults.iter().find_map(|line| {
            let at = line.words.iter().position(|word| word.text == "weight")?;
            line.word(at + 1).parse().ok()
        });
        let mut endpoints = Vec::new();
        let mut tls: Option<Keys> = None;
        for line in &section.lines {
            let is_server = matches!(line.word(0), "server" | "server-template");
            if is_server && !self.has_tls_of(&mut tls, line, &defaults) {
                continue;
            }
            match line.word(0) {
                "server" => endpoints.extend(self.server(line, 2, weight.unwrap_or(1))),
                "server-template" => {
                    let found = self.server(line, 3, weight.unwrap_or(1));
                    if found.is_some() {
                        self.notes.differs(
                            at(line),
                            "the addresses of the name are those of the moment when the configuration is loaded",
                        );
                    }
                    endpoints.extend(found);
                }
                _ => {}
            }
        }
        for line in &defaults {
            self.parameters(line, 1);
        }
        if endpoints.is_empty() {
            return None;
        }
        if endpoints.iter().all(|(_, weight)| *weight == 0) {
            endpoints.iter_mut().for_each(|(_, weight)| *weight = 1);
        }
        let mut keys = self.balance(section);
        keys.extend(self.cookie(section));
        if self.setting(section, &["option", "abortonclose"]).is_some() {
            keys.push(("abort_on_close".to_owned(), "true".to_owned()));
        }
        keys.extend(tls.unwrap_or_default());
        keys.extend(self.proxy_protocol(section, &defaults));
        keys.extend(self.protocol(section, &defaults));
        for (name, key) in [("connect", "timeouts.connect"), ("server", "timeouts.response")] {
            let time = self.time(section, name);
            keys.extend(time.map(|time| (key.to_owned(), string(&duration(time)))));
        }
        let name = output::name(section.name(), &mut self.cluster_names);
        let place = self.notes.files.place(section.head.span);
        let shown = clipped(&cairn::printable::printable(section.name()), 100);
        let heading = format!("{place}: {} {shown}", section.kind());
        // Of a `listen` section, what is about requests stands with its routes.
        let range = match section.kind() {
            "listen" => (section.last(), section.last()),
            _ => (section.head.id, section.last()),
        };
        self.plan.clusters.push(Cluster { range, heading, name: name.clone(), endpoints, keys });
        Some(name)
    }

    fn server(&mut self, line: &'a Line, position: usize, weight: u32) -> Option<(String, u32)> {
        let Some(address) = endpoint(line.word(position)) else {
            self.notes.left(at(line), "an endpoint is IP:PORT, NAME:PORT or unix:/path");
            return None;
        };
        let words = line.from(position + 1);
        let value = |name: &str| {
            let at = words.iter().position(|word| word.text == name)?;
            words.get(at + 1).map(|word| word.text.as_str())
        };
        let has = |name: &str| words.iter().any(|word| word.text == name);
        if has("backup") {
            self.notes.left(at(line), "write `backup = true` instead of the weight 0 with which it stands here");
            return Some((address, 0));
        }
        if has("disabled") {
            return Some((address, 0));
        }
        self.parameters(line, position + 1);
        Some((address, value("weight").and_then(|text| text.parse::<u16>().ok()).map_or(weight, u32::from)))
    }

    /// The version of the PROXY protocol that the servers of a section are spoken to in.
    fn proxy_protocol(&mut self, section: &'a Section, defaults: &[&'a Line]) -> Option<(String, String)> {
        let is = |line: &&Line, words: &[&str]| line.words.iter().any(|word| words.contains(&word.text.as_str()));
        const V2: [&str; 3] = ["send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn"];
        let server = |line: &&Line| matches!(line.word(0), "server" | "server-template");
        let lines: Vec<_> = section.lines.iter().filter(server).collect();
        let inherited = |words: &[&str]| defaults.iter().any(|line| is(line, words));
        let version = |line: &&Line| match () {
            () if is(line, &V2) || inherited(&V2) => Some("v2"),
            () if is(line, &["send-proxy"]) || inherited(&["send-proxy"]) => Some("v1"),
            () => None,
        };
        let first = lines.iter().find_map(version)?;
        for line in lines.iter().filter(|line| version(line) != Some(first)) {
            let how = format!("cairn sends a PROXY header of {first} to each endpoint of a cluster, to this one, too");
            self.notes.differs(at(line), &how);
        }
        Some(("proxy_protocol".to_owned(), string(first)))
    }

    /// The version of HTTP that the servers of a section are spoken to in; None: HTTP/1.1.
    fn protocol(&mut self, section: &'a Section, defaults: &[&'a Line]) -> Option<(String, String)> {
        let value = |line: &'a Line, name: &str| {
            let position = line.words.iter().position(|word| word.text == name)?;
            Some(line.word(position + 1))
        };
        let spoken = |line: &'a Line| {
            let find = |name: &str| value(line, name).or_else(|| defaults.iter().find_map(|it| value(it, name)));
            let offered = find("alpn").map(|names| names.split(',').collect::<Vec<_>>()).unwrap_or_default();
            match (find("proto"), offered.contains(&"h2"), offered.len()) {
                (Some("h2"), _, _) | (None, true, 1) => Some("http2"),
                (None, true, _) => Some("auto"),
                _ => None,
            }
        };
        let is_server = |line: &&Line| matches!(line.word(0), "server" | "server-template");
        let mut lines = section.lines.iter().filter(is_server);
        let first = spoken(lines.next()?)?;
        for line in lines.filter(|line| spoken(line) != Some(first)) {
            let how = format!("cairn speaks `protocol = \"{first}\"` to all endpoints of a cluster, to this one, too");
            self.notes.differs(at(line), &how);
        }
        Some(("protocol".to_owned(), string(first)))
    }

    /// Whether a server speaks TLS as the first one of its backend does; where it is the first, `tls` becomes what it does.
    fn has_tls_of(&mut self, tls: &mut Option<Keys>, line: &'a Line, defaults: &[&'a Line]) -> bool {
        let own = self.tls(line, defaults);
        let same = tls.get_or_insert_with(|| own.clone()) == &own;
        if !same {
            self.notes
                .left(at(line), "all endpoints of a cluster speak TLS in the same way: write a cluster for this one");
        }
        same
    }

    /// The keys of a cluster for how a server speaks TLS; empty: it does not.
    fn tls(&mut self, line: &'a Line, defaults: &[&'a Line]) -> Keys {
        let all = || std::iter::once(line).chain(defaults.iter().copied());
        let has = |name: &str| all().any(|line| line.words.iter().any(|word| word.text == name));
        let value = |name: &str| {
            let of = |line: &'a Line| line.words.iter().position(|word| word.text == name).map(|at| line.word(at + 1));
            all().find_map(of)
        };
        let off = line.words.iter().any(|word| word.text == "no-ssl");
        if !has("ssl") || off {
            return Keys::new();
        }
        let mut keys = Keys::new();
        let verify = value("verify").unwrap_or_else(|| self.global("ssl-server-verify").unwrap_or("required"));
        let name = value("verifyhost").or_else(|| {
            let text = value("sni")?.strip_prefix("str(")?.strip_suffix(')')?;
            Some(text.trim_matches(['"', '\''].as_slice()))
        });
        match (verify, value("ca-file")) {
            ("none", _) => {
                keys.push(("tls.insecure".to_owned(), "true".to_owned()));
                let how = "verify none: HAProxy takes any certificate here, as `insecure = true` does: leave it out, with `ca`, to check who answers";
                self.notes.differs(at(line), how);
            }
            (_, Some("@system-ca") | None) => keys.push(("tls.ca".to_owned(), string("system"))),
            (_, Some(file)) => keys.push(("tls.ca".to_owned(), string(&self.base("ca-base", file)))),
        }
        match (name.filter(|name| is_host(name)), value("sni")) {
            (Some(name), _) => keys.push(("tls.server_name".to_owned(), string(name))),
            (None, Some(_)) => self.notes.differs(at(line), "sni: the name is a text, the same for all requests"),
            (None, None) if verify != "none" => {
                let how = "HAProxy does not look at the name in the certificate; cairn asks for that of the endpoint: `server_name` is another";
                self.notes.differs(at(line), how);
            }
            (None, None) => {}
        }
        if let Some(file) = value("crt") {
            let file = string(&self.base("crt-base", file));
            keys.extend([("tls.cert".to_owned(), file.clone()), ("tls.key".to_owned(), file)]);
        }
        if value("crl-file").is_some() {
            self.notes.open(at(line), "crl-file: there are no revocation lists for endpoints");
        }
        keys
    }

    /// The first word of a setting of `global`.
    pub(super) fn global(&self, key: &str) -> Option<&'a str> {
        let lines = self.sections.iter().filter(|it| it.kind() == "global").flat_map(|it| &it.lines);
        lines.filter(|line| line.word(0) == key).map(|line| line.word(1)).next_back()
    }

    /// Says which parameters of a server mean nothing here.
    fn parameters(&mut self, line: &'a Line, from: usize) {
        let mut words = line.from(from).iter().map(|word| word.text.as_str());
        while let Some(word) = words.next() {
            let how = match word {
                "check" => "write [cluster.health] by hand; without it, [cluster.outlier] ejects who fails",
                "agent-check" | "observe" => "there is [cluster.outlier] and [cluster.health]",
                "cookie" => "an endpoint is named by a hash of its address",
                "maxconn" | "maxqueue" => "an endpoint has no limit of connections or requests",
                "resolvers" => "names are looked up when the configuration is loaded",
                "slowstart" => "write `slow_start` in the cluster by hand",
                _ => continue,
            };
            self.notes.differs(at(line), &format!("{word}: {how}"));
            if ["cookie", "maxconn", "maxqueue", "resolvers", "slowstart"].contains(&word) {
                words.next();
            }
        }
    }

    /// Says which backends are left out.
    pub(super) fn unused(&mut self) {
        for section in self.sections.iter().filter(|it| it.kind() == "backend") {
            let used = self.plan.clusters.iter().any(|it| it.range == (section.head.id, section.last()));
            let answers = self.plan.bodies.iter().any(|it| (section.head.id..=section.last()).contains(&it.range.0));
            if !used && !answers && self.speaks_http(section) {
                self.notes.left(at(&section.head), "no route leads to it");
            }
        }
        self.plan.clusters.sort_by_key(|cluster| cluster.range);
    }
}

/// An address with its port.
fn endpoint(text: &str) -> Option<String> {
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    if let Some(path) = text.strip_prefix("unix@").or_else(|| text.starts_with('/').then_some(text)) {
        return path.starts_with('/').then(|| format!("unix:{path}"));
    }
    if text.contains(ENV_OPEN) {
        return Some(text.to_owned());
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(format!("[{bare}]:{port}"));
    }
    is_host(host).then(|| text.to_owned())
}
