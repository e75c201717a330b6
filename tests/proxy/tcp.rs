//! Listeners with `protocol = "tcp"`: connections that are passed on as they are, and TLS routed by what its ClientHello says. Not here:
//! what a ClientHello looks like (`src/tls/client_hello/tests.rs`), tunnels that begin as requests (`tunnels`).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rcgen::KeyPair;
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{End, Origin, Proxy, Wire, closed, next, poll};
use crate::tls::Authority;

/// The alerts (RFC 8446 section 6.2) with which a connection is closed, in a record each.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A configuration with a listener `public` of TCP, these routes, and a cluster `NAME` for each endpoint.
struct Site {
    listener: String,
    routes: String,
    clusters: String,
}

impl Site {
    fn new(routes: &str) -> Self {
        Self { listener: String::new(), routes: routes.to_owned(), clusters: String::new() }
    }

    /// One cluster `app`, and a route to it.
    fn to(endpoints: &[&str]) -> Self {
        Self::new("[[route]]\ncluster = \"app\"\n").cluster("app", endpoints, "")
    }

    fn listener(mut self, keys: &str) -> Self {
        self.listener = format!("{}{keys}\n", self.listener);
        self
    }

    fn cluster(mut self, name: &str, endpoints: &[&str], keys: &str) -> Self {
        self.clusters += &format!("[[cluster]]\nname = \"{name}\"\nendpoints = {endpoints:?}\n{keys}\n");
        self
    }

    fn text(&self) -> String {
        let Self { listener, routes, clusters } = self;
        format!(
            "watch = false\n[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"FOLDER/admin.sock\"\n[workers]\ncount = 1\n\
             [[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n{listener}{routes}{clusters}"
        )
    }

    fn start(&self) -> Proxy {
        Proxy::start(&self.text(), &[])
    }
}

/// How many connections were refused for this reason.
fn refused(proxy: &Proxy, reason: &str) -> u64 {
    metric(proxy, &format!("cairn_tcp_connections_refused_total{{reason=\"{reason}\"}} "))
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let mut client = Wire::connect(proxy.admin());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.message().unwrap();
    answer.text().lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
}

/// Sends everything back until the end, and then the end.
fn echo() -> Origin {
    Origin::start(|mut wire, _| {
        let mut buffer = [0; 64 * 1024];
        while let Ok(count @ 1..) = wire.stream.read(&mut buffer) {
            wire.send(&buffer[..count]);
        }
        wire.finish();
    })
}

/// Greets with a text, and says what came until the end.
fn greeting(text: &'static str) -> (Origin, Receiver<End>) {
    let (sender, ends) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        wire.send(text);
        let end = wire.end();
        // The test may be over.
        let _ = sender.send(end);
    });
    (origin, ends)
}

#[test]
fn bytes_go_both_ways_and_ends_too() {
    let origin = echo();
    let proxy = Site::to(&[&origin.address]).start();
    let before = proxy.descriptors();
    let mut client = proxy.client();
    client.send("one ");
    assert_eq!(client.until(b" ").as_deref(), Some("one "));
    client.send("two");
    // What is sent back after the client's end still comes.
    client.finish();
    assert_eq!(client.end(), End::Clean(b"two".into()));
    poll(|| (proxy.descriptors() <= before).then_some(()));
    // The client has ended before it has sent anything.
    let client = proxy.client();
    client.finish();
    let mut client = client;
    assert_eq!(client.end(), End::Clean(Vec::new()));
}

/// MySQL, SMTP and others: the origin is the first to say something.
#[test]
fn the_origin_may_speak_first() {
    let (origin, ends) = greeting("220 hello\r\n");
    let proxy = Site::to(&[&origin.address]).start();
    let mut client = proxy.client();
    assert_eq!(client.until(b"\r\n").as_deref(), Some("220 hello\r\n"));
    client.send("QUIT\r\n");
    client.finish();
    assert_eq!(next(&ends), End::Clean(b"QUIT\r\n".into()));
    assert_eq!(client.end(), End::Clean(Vec::new()));
}

/// Each side sends 16 MiB at once, and reads what the other one sends.
#[test]
fn sixteen_mebibytes_go_both_ways_at_once() {
    const LENGTH: usize = 16 << 20;
    fn pattern(seed: usize) -> Vec<u8> {
        (0..LENGTH).map(|at| ((at + seed) % 251) as u8).collect()
    }
    fn exchange(wire: Wire, own: usize, other: usize) {
        let mut sender = wire.twin();
        let sending = thread::spawn(move || {
            sender.send(pattern(own));
            sender.finish();
        });
        let mut wire = wire;
        let End::Clean(got) = wire.end() else { panic!("reset") };
        assert!(got == pattern(other), "{} bytes", got.len());
        sending.join().unwrap();
    }
    let (sender, done) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        exchange(wire, 1, 2);
        sender.send(()).unwrap();
    });
    let proxy = Site::to(&[&origin.address]).start();
    exchange(proxy.client(), 2, 1);
    next(&done);
}

/// The first endpoint refuses connections, and the next one does not. What the client has sent meanwhile is not lost.
#[test]
fn another_endpoint_is_tried_until_one_is_connected() {
    let (_dead, address) = closed();
    let origin = echo();
    let proxy = Site::to(&[&address, &origin.address]).start();
    for round in 0..8 {
        let mut client = proxy.client();
        client.send(format!("{round}!"));
        client.finish();
        assert_eq!(client.end(), End::Clean(format!("{round}!").into()));
    }
    assert_eq!((origin.connections(), refused(&proxy, "connect_failed")), (8, 0));
    assert_eq!(metric(&proxy, "cairn_tcp_connections_total{listener=\"public\"} "), 8);
    // Failures in a row are counted as those of requests are.
    let dead = format!("cairn_endpoint_failed_total{{cluster=\"app\",endpoint=\"{address}\"}} ");
    assert!(metric(&proxy, &dead) >= 1);
}

#[test]
fn without_a_living_endpoint_it_is_refused_and_counted() {
    let (_dead, address) = closed();
    let proxy = Site::to(&[&address]).start();
    let mut client = proxy.client();
    assert_eq!(client.end(), End::Reset(Vec::new()));
    assert_eq!((refused(&proxy, "connect_failed"), refused(&proxy, "no_endpoint")), (1, 0));
    proxy.said("cairn: listener public: client 127.0.0.1 is not passed on: connect_failed");
    let text = proxy.verb(&["status"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("0 connections passed on, 0 of them open, 1 refused"), "{text}");
}

/// Nobody answers at the first endpoint: after the cluster's time for connecting, the other one is tried.
#[test]
fn connecting_has_a_time_of_its_own() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    // One connection fills the queue of a socket that nobody accepts from.
    let waiting = TcpStream::connect(address).unwrap();
    let origin = echo();
    let (address, quick) = (address.to_string(), "timeouts = { connect = \"300ms\" }");
    let site = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&address, &origin.address], quick);
    let proxy = site.start();
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("x");
        client.finish();
        assert_eq!(client.end(), End::Clean(b"x".into()));
    }
    drop(proxy);
    let proxy = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&address], quick).start();
    let mut client = proxy.client();
    assert_eq!(client.end(), End::Reset(Vec::new()));
    assert_eq!(refused(&proxy, "connect_timeout"), 1);
    drop(waiting);
}

/// A connection keeps its place of the cluster for as long as it lasts; others wait for one, but not for long, and not too many.
#[test]
fn limits_of_the_cluster_hold_for_connections() {
    let origin = echo();
    let limits = "limits = { requests = 1, queue = 1, queue_timeout = \"5s\" }";
    let proxy = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&origin.address], limits).start();
    let mut first = proxy.client();
    first.send("first.");
    assert_eq!(first.until(b".").as_deref(), Some("first."));
    let mut second = proxy.client();
    second.send("second.");
    poll(|| (metric(&proxy, "cairn_cluster_requests_waiting{cluster=\"app\"} ") == 1).then_some(()));
    assert_eq!(proxy.client().end(), End::Reset(Vec::new()));
    assert_eq!((refused(&proxy, "queue_full"), origin.connections()), (1, 1));
    first.finish();
    assert_eq!(first.end(), End::Clean(Vec::new()));
    // It has waited, and what it has sent meanwhile is not lost.
    assert_eq!(second.until(b".").as_deref(), Some("second."));
    second.finish();
    assert_eq!(second.end(), End::Clean(Vec::new()));
    let quick = limits.replace("5s", "200ms");
    let proxy = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&origin.address], &quick).start();
    let mut first = proxy.client();
    first.send("first.");
    assert_eq!(first.until(b".").as_deref(), Some("first."));
    assert_eq!(proxy.client().end(), End::Reset(Vec::new()));
    assert_eq!(refused(&proxy, "queue_timeout"), 1);
}

/// A cluster that hashes addresses leads all connections of one client to one endpoint, as `explain` says.
#[test]
fn clients_stay_at_an_endpoint_by_their_address() {
    let origins = ["a\n", "b\n", "c\n"].map(|text| greeting(text).0);
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address.as_str()).collect();
    let hashing = "balance = \"ring_hash\"\nhash_on = \"source\"";
    let site = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &addresses, hashing);
    let proxy = site.listener("proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1\"]").start();
    let mut used = std::collections::BTreeSet::new();
    for number in 0..12 {
        let client = format!("192.0.2.{number}");
        let told = proxy.verb(&["explain", "--listener", "public", "--client-ip", &client]);
        let told = String::from_utf8(told.stdout).unwrap();
        for _ in 0..3 {
            let mut wire = proxy.client();
            wire.send(format!("PROXY TCP4 {client} 192.0.2.80 1 2\r\n"));
            let greeting = wire.until(b"\n").unwrap();
            let at = ["a\n", "b\n", "c\n"].iter().position(|text| *text == greeting).unwrap();
            assert!(told.contains(&format!("leads to {}", addresses[at])), "{greeting:?} {told}");
            used.insert(at);
            // An endpoint with more than its share under way passes the next ones on.
            wire.finish();
            wire.end();
            poll(|| (metric(&proxy, "cairn_tcp_connections_open ") == 0).then_some(()));
        }
    }
    assert!(used.len() > 1, "{used:?}");
}

/// What one side breaks off, the other one sees broken off.
#[test]
fn a_reset_goes_on_to_the_other_side() {
    let (origin, ends) = greeting("hello\n");
    let proxy = Site::to(&[&origin.address]).start();
    let mut client = proxy.client();
    client.until(b"\n").unwrap();
    client.abort();
    assert_eq!(next(&ends), End::Reset(Vec::new()));
    let origin = Origin::start(|mut wire, _| {
        wire.until(b"\n").unwrap();
        wire.abort();
    });
    let proxy = Site::to(&[&origin.address]).start();
    let mut client = proxy.client();
    client.send("now\n");
    assert_eq!(client.end(), End::Reset(Vec::new()));
}

#[test]
fn a_connection_that_is_silent_for_too_long_ends() {
    let origin = echo();
    let site =
        Site::new("[[route]]\ncluster = \"app\"\ntunnel_idle = \"300ms\"\n").cluster("app", &[&origin.address], "");
    let proxy = site.start();
    let mut client = proxy.client();
    client.send("x");
    client.take(1, &mut |_| {});
    assert_eq!(client.end(), End::Reset(Vec::new()));
    assert_eq!(poll(|| (metric(&proxy, "cairn_tcp_connections_open ") == 0).then_some(0)), 0);
}

#[test]
fn more_connections_than_there_may_be_are_closed() {
    let origin = echo();
    let proxy = Site::to(&[&origin.address]).listener("limits.connections = 1").start();
    let mut client = proxy.client();
    client.send("x");
    client.take(1, &mut |_| {});
    let mut other = proxy.client();
    assert!(matches!(other.end(), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()));
    assert_eq!(refused(&proxy, "too_many_connections"), 1);
    assert_eq!(metric(&proxy, "cairn_tcp_connections_open "), 1);
}

/// Who may come is judged by address before anything is read.
#[test]
fn clients_are_told_apart_by_address() {
    let (one, _ends) = greeting("one\n");
    let (other, _ends) = greeting("other\n");
    let routes = "[[route]]\ncluster = \"one\"\nclient_ip = [\"127.0.0.0/8\"]\n[[route]]\ncluster = \"other\"\n";
    let listener = "proxy_protocol = \"optional\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let site = Site::new(routes).listener(listener);
    let proxy = site.cluster("one", &[&one.address], "").cluster("other", &[&other.address], "").start();
    for (header, expected) in [
        ("PROXY TCP4 192.0.2.7 192.0.2.80 4711 443\r\n", "other\n"),
        ("PROXY TCP4 127.9.9.9 192.0.2.80 1 2\r\n", "one\n"),
    ] {
        let mut client = proxy.client();
        client.send(header);
        assert_eq!(client.until(b"\n").as_deref(), Some(expected));
    }
    let routes = "[[route]]\ncluster = \"one\"\nclient_ip = [\"192.0.2.0/24\"]\n";
    let proxy = Site::new(routes).cluster("one", &[&one.address], "").start();
    assert_eq!(proxy.client().end(), End::Reset(Vec::new()));
    assert_eq!(refused(&proxy, "no_route"), 1);
}

#[test]
fn proxy_headers_come_and_go_on() {
    let (sender, firsts) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        let header = wire.until(b"\r\n").unwrap();
        let rest = wire.until(b"!").unwrap();
        sender.send((header, rest.clone())).unwrap();
        wire.send(rest);
    });
    let (_dead, dead) = closed();
    let v1 = "proxy_protocol = \"v1\"";
    let site = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&dead, &origin.address], v1);
    let site = site.listener("proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1\"]");
    let proxy = site.start();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.80 4711 443\r\n";
    for piece in [1, 9, usize::MAX] {
        let mut client = proxy.client();
        let all = format!("{header}hello!");
        all.as_bytes().chunks(piece.min(all.len())).for_each(|piece| client.send(piece));
        assert_eq!(next(&firsts), (header.to_owned(), "hello!".to_owned()));
        assert_eq!(client.end(), End::Clean(b"hello!".into()));
    }
    let mut client = proxy.client();
    client.send("hello!");
    assert_eq!(client.end(), End::Reset(Vec::new()));
    assert_eq!(metric(&proxy, "cairn_proxy_protocol_refused_total{reason=\"missing\"} "), 1);
}

/// TLS origins, each with a certificate of its own, and what clients need to believe them.
struct Origins {
    authority: Authority,
    client: Arc<ClientConfig>,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Origins {
    fn new() -> Self {
        let authority = Authority::new();
        let client = ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
        Self { authority, client: Arc::new(client) }
    }

    /// One for these names, which greets with a text and sends back what comes.
    fn origin(&self, names: &[&str], text: &'static str) -> Origin {
        let key = KeyPair::generate().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(self.authority.sign(names, &key).as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        Origin::start(move |wire, _| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, wire.stream);
            let mut buffer = [0; 1024];
            let mut answered = stream.write_all(text.as_bytes());
            while answered.is_ok() {
                answered = match stream.read(&mut buffer) {
                    Ok(count @ 1..) => stream.write_all(&buffer[..count]),
                    _ => return,
                };
            }
        })
    }

    fn connection(&self, name: &str, protocols: &[&str]) -> ClientConnection {
        let mut config = (*self.client).clone();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
    }

    /// What a client writes first.
    fn hello(&self, name: &str) -> Vec<u8> {
        let mut hello = Vec::new();
        self.connection(name, &[]).write_tls(&mut hello).unwrap();
        hello
    }

    /// Does the handshake with whom it is led to, whose certificate has to be for the name.
    fn open(&self, wire: Wire, name: &str, protocols: &[&str]) -> Wire<Tls> {
        Wire::over(StreamOwned::new(self.connection(name, protocols), wire.stream))
    }
}

/// Three origins by exact name, by wildcard, and for the rest; `NAME.` of each is what it greets with.
fn routed() -> (Origins, [Origin; 3], Site) {
    let origins = Origins::new();
    let one = origins.origin(&["one.db.corp"], "one.");
    let wild = origins.origin(&["*.db.corp", "*.more.db.corp"], "wild.");
    let rest = origins.origin(&["127.0.0.1", "other.test"], "rest.");
    let routes = "[[route]]\nsni = [\"one.db.corp\"]\ncluster = \"one\"\n[[route]]\nsni = [\"*.db.corp\"]\ncluster = \"wild\"\n\
                  [[route]]\nname = \"rest\"\nlisteners = [\"public\"]\ncluster = \"rest\"\n";
    let site = Site::new(routes).cluster("one", &[&one.address], "");
    let site = site.cluster("wild", &[&wild.address], "").cluster("rest", &[&rest.address], "");
    (origins, [one, wild, rest], site)
}

/// (the name that is asked for, whom that leads to)
#[test]
fn tls_is_routed_by_the_name_that_is_asked_for() {
    let (origins, _served, site) = routed();
    let proxy = site.start();
    for (name, expected) in [
        ("one.db.corp", "one."),
        ("ONE.db.corp", "one."),
        ("two.db.corp", "wild."),
        ("a.more.db.corp", "wild."),
        ("other.test", "rest."),
        // An address is not asked for.
        ("127.0.0.1", "rest."),
    ] {
        let mut client = origins.open(proxy.client(), name, &[]);
        client.send("ping.");
        assert_eq!(client.until(b".").as_deref(), Some(expected), "{name}");
        assert_eq!(client.until(b".").as_deref(), Some("ping."), "{name}");
    }
    assert_eq!(metric(&proxy, "cairn_tcp_connections_total{listener=\"public\"} "), 6);
}

/// `cairn explain` says what is done.
#[test]
fn what_is_explained_is_where_connections_go() {
    let origins = Origins::new();
    let names = ["a.test", "b.test", "c.b.test", "other"];
    let served = ["a.", "b.", "h2.", "near."].map(|text| (text, origins.origin(&names, text)));
    let routes = [
        "sni = [\"a.test\"]",
        "sni = [\"*.test\"]",
        "alpn = [\"h2\"]\nsni = [\"*.test\"]",
        "sni = [\"*.b.test\"]\nclient_ip = [\"127.0.0.1\"]",
    ];
    let routes: String =
        (0..).zip(routes).map(|(at, keys)| format!("[[route]]\n{keys}\ncluster = \"to-{at}\"\n")).collect();
    let site = (0..)
        .zip(&served)
        .fold(Site::new(&routes), |site, (at, (_, origin))| site.cluster(&format!("to-{at}"), &[&origin.address], ""));
    let proxy = site.start();
    for name in names {
        for protocols in [&[][..], &["h2"], &["http/1.1"], &["http/1.1", "h2"]] {
            let mut client = origins.open(proxy.client(), name, protocols);
            let mut first = [0; 16];
            let done = match client.stream.read(&mut first) {
                Ok(count) => String::from_utf8_lossy(&first[..count]).into_owned(),
                Err(error) => error.to_string(),
            };
            let offered: Vec<_> = protocols.iter().flat_map(|it| ["--alpn", it]).collect();
            let told = proxy.verb(&[&["explain", "--sni", name][..], &offered].concat());
            let told = String::from_utf8(told.stdout).unwrap();
            let row = told.lines().find_map(|line| line.strip_prefix("cluster   to-"));
            match row.map(|row| row.split(',').next().unwrap().parse::<usize>().unwrap()) {
                Some(at) => assert_eq!(done, served[at].0, "{name} {protocols:?}\n{told}"),
                None => assert!(done.contains("UnrecognisedName"), "{name} {protocols:?} {done}\n{told}"),
            }
        }
    }
}

#[test]
fn a_hello_is_understood_in_any_segments_and_records() {
    let (origins, _served, site) = routed();
    let proxy = site.start();
    for (segment, record) in [(1, usize::MAX), (100, usize::MAX), (1, 1), (7, 3), (usize::MAX, 1), (usize::MAX, 90)] {
        let mut connection = origins.connection("two.db.corp", &[]);
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let message = &hello[5..];
        let parts = message.chunks(record.min(message.len()));
        let of = |part: &[u8]| [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
        let records: Vec<u8> = parts.flat_map(of).collect();
        let mut wire = proxy.client();
        records.chunks(segment.min(records.len())).for_each(|segment| wire.send(segment));
        let mut client = Wire::over(StreamOwned::new(connection, wire.stream));
        assert_eq!(client.until(b".").as_deref(), Some("wild."), "segments of {segment}, records of {record}");
    }
}

/// Who asks for what nobody has is told so, and so is who asks for nothing where there is no route for the rest.
#[test]
fn who_has_no_route_gets_an_alert() {
    let (origins, served, site) = routed();
    let without_rest = Site { routes: site.routes.split("[[route]]\nname").next().unwrap().to_owned(), ..site };
    let proxy = without_rest.start();
    for name in ["other.test", "db.corp", "127.0.0.1"] {
        let mut wire = proxy.client();
        wire.send(origins.hello(name));
        assert_eq!(wire.end(), End::Clean(UNRECOGNIZED_NAME.into()), "{name}");
        let mut client = origins.open(proxy.client(), name, &[]);
        let error = client.stream.read(&mut [0; 9]).unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{error}");
    }
    // Who does not speak TLS would not understand an alert.
    let mut wire = proxy.client();
    wire.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(wire.end(), End::Reset(Vec::new()));
    assert_eq!((refused(&proxy, "no_route"), served[2].connections()), (7, 0));
    // A listener without any route.
    let proxy = Site { routes: String::new(), ..without_rest }.start();
    let mut wire = proxy.client();
    wire.send(origins.hello("one.db.corp"));
    assert_eq!(wire.end(), End::Clean(UNRECOGNIZED_NAME.into()));
}

/// The route without `sni` takes whatever is no TLS.
#[test]
fn what_is_no_tls_takes_the_route_for_the_rest() {
    let origin = echo();
    let routes =
        "[[route]]\nsni = [\"*.db.corp\"]\ncluster = \"app\"\n[[route]]\nlisteners = [\"public\"]\ncluster = \"app\"\n";
    let proxy = Site::new(routes).cluster("app", &[&origin.address], "").start();
    for first in ["SSH-2.0-x\r\n", "\u{16}", "\u{16}\u{2}x", "x"] {
        let mut wire = proxy.client();
        wire.send(first);
        // One byte of 0x16 may be TLS.
        wire.send("more");
        wire.finish();
        assert_eq!(wire.end(), End::Clean(format!("{first}more").into()), "{first:?}");
    }
}

#[test]
fn protocols_that_are_offered_decide_too() {
    let origins = Origins::new();
    let two = origins.origin(&["a.test"], "h2.");
    let one = origins.origin(&["a.test"], "other.");
    let routes = "[[route]]\nsni = [\"a.test\"]\nalpn = [\"h2\", \"h3\"]\ncluster = \"two\"\n[[route]]\nsni = [\"a.test\"]\ncluster = \"one\"\n";
    let site = Site::new(routes).cluster("two", &[&two.address], "").cluster("one", &[&one.address], "");
    let proxy = site.start();
    for (protocols, expected) in
        [(&["h2", "http/1.1"][..], "h2."), (&["http/1.1", "h2"], "h2."), (&["http/1.1"], "other."), (&[], "other.")]
    {
        let mut client = origins.open(proxy.client(), "a.test", protocols);
        assert_eq!(client.until(b".").as_deref(), Some(expected), "{protocols:?}");
    }
}

/// What begins like TLS and is no ClientHello, or a larger one than is read, ends at once with an alert.
#[test]
fn a_malformed_hello_is_refused() {
    let (origins, served, site) = routed();
    let proxy = site.start();
    let hello = origins.hello("one.db.corp");
    let mut nul = hello.clone();
    let at = memchr::memmem::find(&nul, b"one.db.corp").unwrap();
    nul[at] = 0;
    let mut cut = hello.clone();
    cut.truncate(200);
    let large = [&[22, 3, 1, 0x40, 0, 1, 0, 0x40, 0][..], &[3; 16_380]].concat();
    let mut server = hello.clone();
    server[5] = 2;
    for (what, bytes) in [
        ("a name with a NUL", &nul[..]),
        ("16 KiB and more", &large),
        ("a ServerHello", &server),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("garbage", &[22, 3, 1, 0, 9, 1, 0, 0, 5, 9, 9, 9, 9, 9]),
    ] {
        let mut wire = proxy.client();
        wire.send(bytes);
        assert_eq!(wire.end(), End::Clean(DECODE_ERROR.into()), "{what}");
    }
    let mut wire = proxy.client();
    wire.send(&cut);
    wire.finish();
    assert_eq!(wire.end(), End::Clean(DECODE_ERROR.into()));
    // Who only looks whether somebody listens is no error.
    let mut wire = proxy.client();
    wire.finish();
    assert_eq!(wire.end(), End::Clean(Vec::new()));
    assert_eq!(refused(&proxy, "bad_hello"), 6);
    proxy.said(
        "cairn: listener public: client 127.0.0.1 is not passed on: the name in the ClientHello is none of a host",
    );
    assert_eq!(served.map(|origin| origin.connections()), [0, 0, 0]);
}

#[test]
fn a_hello_that_does_not_come_in_time_ends_the_connection() {
    let (origins, served, site) = routed();
    let proxy = site.listener("timeouts.header = \"300ms\"").start();
    let hello = origins.hello("one.db.corp");
    let mut wire = proxy.client();
    assert_eq!(wire.end(), End::Reset(Vec::new()));
    let mut wire = proxy.client();
    wire.send(&hello[..hello.len() - 1]);
    assert_eq!(wire.end(), End::Clean(DECODE_ERROR.into()));
    assert_eq!(refused(&proxy, "hello_timeout"), 2);
    assert_eq!(served.map(|origin| origin.connections()), [0, 0, 0]);
}

/// A client of TLS learns that the trouble is not its own.
#[test]
fn a_dead_cluster_is_told_of_in_an_alert() {
    let (origins, _served, site) = routed();
    let (_dead, dead) = closed();
    let routes = format!("{}[[route]]\nsni = [\"dead.test\"]\ncluster = \"dead\"\n", site.routes);
    let proxy = Site { routes, ..site }.cluster("dead", &[&dead], "").start();
    let mut wire = proxy.client();
    wire.send(origins.hello("dead.test"));
    assert_eq!(wire.end(), End::Clean(INTERNAL_ERROR.into()));
    assert_eq!(refused(&proxy, "connect_failed"), 1);
}

/// TLS towards the origin, though the client speaks in the clear.
#[test]
fn clusters_may_be_spoken_to_over_tls() {
    let origins = Origins::new();
    let origin = origins.origin(&["a.test"], "hello.");
    let folder = tempfile::tempdir().unwrap();
    origins.authority.write_ca(folder.path());
    let tls = format!("tls = {{ ca = \"{}/ca.pem\", server_name = \"a.test\" }}", folder.path().display());
    let proxy = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&origin.address], &tls).start();
    let mut client = proxy.client();
    client.send("ping.");
    assert_eq!(client.until(b".").as_deref(), Some("hello."));
    assert_eq!(client.until(b".").as_deref(), Some("ping."));
    let wrong = tls.replace("a.test", "b.test");
    let proxy = Site::new("[[route]]\ncluster = \"app\"\n").cluster("app", &[&origin.address], &wrong).start();
    assert_eq!(proxy.client().end(), End::Reset(Vec::new()));
    assert_eq!(refused(&proxy, "tls"), 1);
}

/// A connection goes on under whatever comes; new ones are led by the new routes. No old configuration stays for it.
#[test]
fn a_reload_leaves_connections_alone() {
    let (one, _ends) = greeting("one\n");
    let old = echo();
    let proxy = Site::to(&[&old.address]).start();
    let mut client = proxy.client();
    client.send("a\n");
    assert_eq!(client.until(b"\n").as_deref(), Some("a\n"));
    proxy.reload(&Site::to(&[&one.address]).text());
    assert_eq!(proxy.client().until(b"\n").as_deref(), Some("one\n"));
    client.send("b\n");
    assert_eq!(client.until(b"\n").as_deref(), Some("b\n"));
    poll(|| (proxy.status()["snapshots"] == 1).then_some(()));
    // Nor does it matter that its listener goes.
    let other = Site::to(&[&one.address])
        .text()
        .replace("name = \"public\"\nbind = \"127.0.0.1:0\"", "name = \"new\"\nbind = \"127.0.0.1:0\"");
    proxy.reload(&other);
    client.send("c\n");
    assert_eq!(client.until(b"\n").as_deref(), Some("c\n"));
    client.finish();
    assert_eq!(client.end(), End::Clean(Vec::new()));
}

/// A listener that goes over to the other protocol: who has not begun is closed, so that nobody is taken for what it is not.
#[test]
fn a_listener_may_change_its_protocol() {
    let origin = echo();
    let bind = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = |protocol: &str, route: &str| {
        let site =
            Site::new(&format!("[[route]]\n{route}\ncluster = \"app\"\n")).cluster("app", &[&origin.address], "");
        site.text()
            .replace("protocol = \"tcp\"", protocol)
            .replace("bind = \"127.0.0.1:0\"", &format!("bind = \"{bind}\""))
    };
    let http = "[[route]]\npath = \"/here\"\nrespond = { body = \"here\" }";
    let proxy = Proxy::start(&text("protocol = \"tcp\"", "sni = [\"a.test\"]"), &[]);
    let mut waiting = proxy.client();
    waiting.send([22, 3, 1]);
    poll(|| (proxy.status()["listeners"][0]["connections"] == 1).then_some(()));
    proxy.reload(&text(
        "protocol = \"http\"",
        &format!("hosts = [\"a.test\"]\ncluster = \"app\"\n{http}\n[[route]]\npath = \"/x\""),
    ));
    assert!(matches!(waiting.end(), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()));
    let mut kept = proxy.client();
    kept.send("GET /here HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.message().unwrap().text(), "here");
    proxy.reload(&text("protocol = \"tcp\"", "listeners = [\"public\"]"));
    assert!(matches!(kept.end(), End::Clean(_)));
    let mut client = proxy.client();
    client.send("echo");
    client.finish();
    assert_eq!(client.end(), End::Clean(b"echo".into()));
}

/// A drain lets connections end; who has not begun is not waited for, and who does not end is cut.
#[test]
fn a_drain_waits_for_connections() {
    for stays in [false, true] {
        let origin = echo();
        let site = Site::new(
            "[[route]]\nsni = [\"a.test\"]\ncluster = \"app\"\n[[route]]\nlisteners = [\"public\"]\ncluster = \"app\"\n",
        );
        let text = site.cluster("app", &[&origin.address], "").text();
        let timeout = if stays { "800ms" } else { "20s" };
        let mut proxy =
            Proxy::start(&text.replace("[workers]", &format!("[drain]\ntimeout = \"{timeout}\"\n[workers]")), &[]);
        let mut client = proxy.client();
        client.send("a\n");
        assert_eq!(client.until(b"\n").as_deref(), Some("a\n"));
        let mut idle = proxy.client();
        poll(|| (proxy.status()["listeners"][0]["connections"] == 2).then_some(()));
        proxy.signal(Signal::TERM);
        assert_eq!(idle.end(), End::Clean(Vec::new()));
        client.send("b\n");
        assert_eq!(client.until(b"\n").as_deref(), Some("b\n"));
        if stays {
            assert!(matches!(client.end(), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()));
        } else {
            client.finish();
            assert_eq!(client.end(), End::Clean(Vec::new()));
        }
        assert_eq!(proxy.ended().code(), Some(0));
    }
}
