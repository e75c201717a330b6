//! `[[cluster]]` to [`ClusterSpec`]; resolves names of endpoints. Not here: choosing an endpoint.

use std::time::Duration;

use ahash::{HashSet, HashSetExt};

use super::address;
use super::bounds::Bounds;
use super::cluster_tables::{CONNECTIONS, STREAMS};
use super::external::External;
use super::health;
use super::names::Names;
use super::preference;
use super::report::Problems;
use super::section::{Section, Text};
use super::tls::{self, ClusterTls};
use crate::cluster::{Balance, ClusterSpec, EndpointSpec, Http2Spec, LimitsSpec, OutlierSpec};
use crate::id::Address;
use crate::proxy_protocol::Version;

/// All clusters, in file order.
pub(super) fn clusters(
    sections: &[Section<'_>],
    names: &Names,
    bounds: &Bounds,
    external: &mut External,
    problems: &mut Problems,
) -> Vec<ClusterSpec> {
    let read = |(position, section): (usize, &Section<'_>)| {
        let mut reader = Reader { section: *section, bounds, external, problems };
        reader.cluster(names.full(position))
    };
    sections.iter().enumerate().map(read).collect()
}

struct Reader<'a> {
    section: Section<'a>,
    bounds: &'a Bounds,
    external: &'a mut External,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn cluster(&mut self, name: String) -> ClusterSpec {
        let section = self.section;
        let pool = section.one("pool");
        let tls = tls::client(section, self.external, self.problems);
        let host = host(section);
        let balance = balance(section);
        let endpoints = self.endpoints(tls.as_ref());
        ClusterSpec {
            name,
            endpoints,
            hash_on: preference::hash_on(section, balance, self.problems),
            affinity: preference::affinity(section, self.problems),
            zone: preference::zone(section, &zones(section), self.problems),
            health: health::health(section, self.bounds, self.problems),
            host,
            tls: tls.map(|tls| tls.spec),
            proxy_protocol: match section.word("proxy_protocol") {
                "v1" => Some(Version::V1),
                "v2" => Some(Version::V2),
                _ => None,
            },
            http2: self.http2(),
            balance,
            max_idle: u32::try_from(pool.number("max_idle")).unwrap_or(u32::MAX),
            idle: pool.time("idle"),
            connect_timeout: self.timeout("connect"),
            response_timeout: self.timeout("response"),
            abort_on_close: section.flag("abort_on_close"),
            outlier: outlier(section.one("outlier"), self.problems),
            panic_threshold: section.ratio("panic_threshold").unwrap_or_default(),
            slow_start: section.optional_time("slow_start").unwrap_or_default(),
            limits: self.limits(),
        }
    }

    /// The connections that requests share; None: there are none, and HTTP/1.1 alone is spoken.
    fn http2(&mut self) -> Option<Http2Spec> {
        let section = self.section;
        let word = section.word("protocol");
        if word == "http1" {
            // What `config show` prints has the defaults in it.
            let written = section.one("http2");
            let differs = |(key, default): (&str, u64)| written.number(key) != default;
            if section.has("http2") && [("streams", STREAMS), ("connections", CONNECTIONS)].into_iter().any(differs) {
                self.problems
                    .add(section.span("http2"), "[cluster.http2] says nothing where `protocol` is \"http1\"")
                    .help("set `protocol = \"http2\"`, or \"auto\" where TLS is to decide; or leave it out");
            }
            return None;
        }
        if section.word("proxy_protocol") != "off" {
            self.problems
                .add(section.span("protocol"), format!("`protocol = \"{word}\"` and `proxy_protocol` exclude each other"))
                .note(section.span("proxy_protocol"), "the header tells of one client, and requests of all would follow it")
                .help("leave `protocol` out: a connection that begins with a PROXY header serves one client, over HTTP/1.1");
        }
        let is_negotiated = word == "auto";
        if is_negotiated && section.table("tls").is_none() && !section.flag("tls") {
            // Without TLS nobody could say what is spoken.
            return None;
        }
        let section = section.one("http2");
        Some(Http2Spec {
            is_negotiated,
            streams: u16::try_from(section.number("streams")).unwrap_or(u16::MAX),
            connections: u32::try_from(section.number("connections")).unwrap_or(u32::MAX),
        })
    }

    fn limits(&mut self) -> LimitsSpec {
        let section = self.section.one("limits");
        let count = |section: Section<'_>, key: &str| u32::try_from(section.number(key)).unwrap_or(u32::MAX);
        let limits = LimitsSpec {
            requests: count(section, "requests"),
            endpoint_requests: count(section.one("per_endpoint"), "requests"),
            connections: count(section, "connections"),
            endpoint_connections: count(section.one("per_endpoint"), "connections"),
            queue: count(section, "queue"),
            queue_timeout: section.time("queue_timeout"),
            adaptive: section.flag("adaptive"),
        };
        if limits.is_none() && limits.queue > 0 {
            self.problems
                .add(section.span("queue"), "there is a queue, and nothing that a request would wait for")
                .help("set `requests`, `connections`, `per_endpoint` or `adaptive = true`, or leave `queue` out");
        }
        if limits.counts_connections() && limits.queue == 0 {
            let endpoints = limits.connections == 0;
            let at =
                if endpoints { section.one("per_endpoint").span("connections") } else { section.span("connections") };
            self.problems
                .add(at, "a request may have to wait until a connection is given up, and none may wait")
                .help("set `queue`, too: how many may, as `queue = 100`");
        }
        limits
    }

    fn timeout(&mut self, key: &str) -> Duration {
        let timeouts = self.section.one("timeouts");
        let asked = self.bounds.timeout(timeouts, key, self.problems);
        asked.unwrap_or_else(|| self.bounds.cut(timeouts.time(key)))
    }

    fn endpoints(&mut self, tls: Option<&ClusterTls>) -> Vec<EndpointSpec> {
        let section = self.section;
        let items = section.texts_or_tables("endpoints");
        if section.length("endpoints") == Some(0) {
            self.problems
                .add(section.span("endpoints"), "the cluster has no endpoint")
                .help("write at least one: endpoints = [\"127.0.0.1:9000\"]");
        }
        let mut known = HashSet::with_capacity(items.len());
        let mut endpoints: Vec<EndpointSpec> = Vec::with_capacity(items.len());
        for item in &items {
            let (text, weight, backup, zone) = match item {
                Ok(text) => (Some(*text), 1, false, None),
                Err(table) => {
                    // An invalid weight has been reported, and is none of 0.
                    let weight = table.valid_number("weight").unwrap_or(1);
                    (table.text("address"), weight, table.flag("backup"), table.text("zone"))
                }
            };
            let zone = zone.map(|zone| zone.value.to_owned());
            let Some(text) = text else { continue };
            let mut addresses = self.addresses(text).into_iter();
            let Some(address) = addresses.next() else { continue };
            // One address has many spellings, a name is what it is.
            let name = text.value.parse::<Address>().map_or_else(|_| text.shown.to_owned(), |it| it.to_string());
            let others: Vec<_> = addresses.collect();
            let weight = u16::try_from(weight).unwrap_or(u16::MAX);
            let host = if text.value.starts_with("unix:") { "localhost" } else { text.value }.to_owned();
            let tls_name = tls.and_then(|tls| tls.name_of(name_in(text.value), text, self.problems));
            let endpoint = EndpointSpec { name, host, address, others, tls_name, weight, backup, zone };
            endpoint.addresses().for_each(|address| self.bounds.endpoint(address, text, self.problems));
            // Two names may share an address, but not all of them.
            let twice = endpoint.addresses().all(|address| known.contains(address));
            known.extend(endpoint.addresses().cloned());
            if twice {
                self.problems
                    .add(text.at, format!("{} is in the cluster twice", text.shown))
                    .help(format!("for a larger share write {{ address = \"{}\", weight = 2 }}", text.shown));
            }
            endpoints.push(endpoint);
        }
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            self.problems
                .add(section.span("endpoints"), "every endpoint has weight 0, so none gets traffic")
                .help("give at least one a weight from 1 to 65535");
        }
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.backup) {
            self.problems
                .add(
                    section.span("endpoints"),
                    "every endpoint is a backup, so there is none that it could stand in for",
                )
                .help("leave `backup = true` out of at least one");
        }
        endpoints
    }

    /// The address, or all addresses of a name. Empty: there is none, which has been reported.
    fn addresses(&mut self, text: Text<'_>) -> Vec<Address> {
        let addresses = match text.value.parse() {
            Ok(address) => vec![address],
            Err(_) if is_name(text.value) && address::is_wrong_ipv4(host_of(text.value)) => {
                self.problems
                    .add(text.at, format!("\"{}\" is not an address", text.shown.escape_debug()))
                    .help("an IPv4 address has four numbers from 0 to 255");
                return Vec::new();
            }
            Err(_) if is_name(text.value) => match self.look_up(text) {
                Some(Ok(addresses)) => addresses,
                None => return Vec::new(),
                Some(Err(why)) => {
                    self.problems
                        .add(text.at, format!("\"{}\" does not resolve: {why}", text.shown.escape_debug()))
                        .help("names are looked up when the configuration is loaded; write an address, or see to the name");
                    return Vec::new();
                }
            },
            Err(error) => {
                address::no_endpoint(text, &error, self.problems);
                return Vec::new();
            }
        };
        if matches!(addresses.first(), Some(Address::Inet(inet)) if inet.port() == 0) {
            self.problems.add(text.at, "an endpoint cannot have port 0").help("write the port on which it listens");
        }
        addresses
    }

    /// Resolves a name. None: the tenant's budget is used up.
    fn look_up(&mut self, text: Text<'_>) -> Option<Result<Vec<Address>, String>> {
        let mut ask = || self.external.addresses(text.value);
        match &self.bounds.budget {
            Some(budget) => budget.look_up(text, self.problems, ask),
            None => Some(ask()),
        }
    }
}

fn balance(cluster: Section<'_>) -> Balance {
    match cluster.word("balance") {
        "round_robin" => Balance::RoundRobin,
        "random" => Balance::Random,
        "peak_ewma" => Balance::PeakEwma,
        "ring_hash" => Balance::RingHash,
        "maglev" => Balance::Maglev,
        _ => Balance::LeastRequest,
    }
}

/// The zones of all endpoints that have one.
fn zones(cluster: Section<'_>) -> Vec<Text<'_>> {
    cluster.texts_or_tables("endpoints").into_iter().filter_map(|item| item.err()?.text("zone")).collect()
}

fn outlier(section: Section<'_>, problems: &mut Problems) -> OutlierSpec {
    if section.number("latency_factor") == 1 {
        problems
            .add(
                section.span("latency_factor"),
                "an endpoint that takes as long as the others is not far slower than they are",
            )
            .help("write 2 or more, 5 for instance; 0: never");
    }
    let count = |key: &str| u32::try_from(section.number(key)).unwrap_or(u32::MAX);
    let ratio = |key: &str| section.ratio(key).unwrap_or_default();
    OutlierSpec {
        consecutive_failures: count("consecutive_failures"),
        failure_rate: ratio("failure_rate"),
        latency_factor: count("latency_factor"),
        min_volume: count("min_volume"),
        ejection: section.time("ejection"),
        max_ejected: ratio("max_ejected"),
    }
}

/// Host and port of the first endpoint that is not a Unix-domain socket, else `localhost`.
fn host(cluster: Section<'_>) -> String {
    let items = cluster.texts_or_tables("endpoints").into_iter();
    let mut texts = items.filter_map(|item| item.map_or_else(|table| table.text("address"), Some));
    texts.find(|text| !text.value.starts_with("unix:")).map_or("localhost", |text| text.value).to_owned()
}

/// The host that a certificate may be for; empty for a Unix-domain socket.
fn name_in(endpoint: &str) -> &str {
    if endpoint.starts_with("unix:") { "" } else { host_of(endpoint) }
}

fn host_of(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(host, _)| host)
}

/// Whether `text` has the form `NAME:PORT`.
fn is_name(text: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    text.rsplit_once(':')
        .is_some_and(|(name, port)| !name.is_empty() && name.bytes().all(known) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_name;

    /// What a name server says, and how an address is spelled, makes no difference.
    #[test]
    fn endpoints_are_called_what_the_file_calls_them() {
        let text = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[route]]\ncluster = \"app\"\n[[cluster]]\nname = \"app\"\n\
                    endpoints = [\"localhost:9000\", \"[0:0:0:0:0:0:0:2]:80\", \"unix:/run/app.sock\"]\n";
        let config = crate::config::parse("a.toml", text).unwrap();
        let names: Vec<_> = config.snapshot.clusters[0].endpoints.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["localhost:9000", "[::2]:80", "unix:/run/app.sock"]);
    }

    #[test]
    fn names_have_a_port() {
        assert!(is_name("localhost:9000"));
        for text in ["localhost", "localhost:", ":80", "localhost:65536", "a b:80", "http://a:80", "[::1:80"] {
            assert!(!is_name(text), "{text}");
        }
    }
}
