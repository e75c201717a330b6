//! The PROXY protocol: what a proxy in front says of a client, and what origins are told. Not here: what a header looks like
//! (`src/proxy_protocol/tests.rs`).

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{End, Message, Origin, Proxy, Setup, Wire, closed, next, poll};
use crate::tls::Authority;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.80 4711 443\r\n";
const REQUIRED: &str = "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1\"]";
const OPTIONAL: &str = "proxy_protocol = \"optional\"\ntrusted_proxies = [\"127.0.0.1\"]";

/// A header of version 2: command, family, and what follows the length.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, content].concat()
}

/// That of a client 192.0.2.7:4711 with TLVs.
fn v2_of_client(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut content = vec![192, 0, 2, 7, 192, 0, 2, 80, 0x12, 0x67, 0x01, 0xbb];
    for (kind, value) in tlvs {
        content.push(*kind);
        content.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        content.extend(*value);
    }
    v2(0x21, 0x11, &content)
}

/// The connection was closed without an answer, in whatever way.
fn nothing(end: End) {
    assert!(matches!(&end, End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()), "{end:?}");
}

/// How many connections were closed for this reason.
fn refused(proxy: &Proxy, reason: &str) -> u64 {
    let mut client = Wire::connect(proxy.admin());
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let name = format!("cairn_proxy_protocol_refused_total{{reason=\"{reason}\"}} ");
    let answer = client.message().unwrap();
    answer.text().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

/// What the client's connection begins with, and who the client is then.
#[test]
fn the_client_is_whom_the_header_names() {
    let (origin, requests) = Origin::recording(OK);
    let route = "request_headers = { set = { x-port = \"${client.port}\" } }\n[[route]]\npath = \"/denied\"\n\
                 client_ip = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nrespond = { status = 403 }";
    let proxy = Setup::to(&[&origin.address]).listener(REQUIRED).route(route).start();
    for (header, client, port) in [
        (V1.to_vec(), "192.0.2.7", "4711"),
        (v2_of_client(&[]), "192.0.2.7", "4711"),
        (v2_of_client(&[(0x04, &[0; 500]), (0xea, b"vpce-1")]), "192.0.2.7", "4711"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), "2001:db8::1", "1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", ""),
        (v2(0x20, 0x00, &[]), "127.0.0.1", ""),
        (v2(0x21, 0x31, &[0; 216]), "127.0.0.1", ""),
    ] {
        for piece in [1, 7, usize::MAX] {
            let mut wire = proxy.client();
            let all = [&header[..], GET.as_bytes()].concat();
            all.chunks(piece.min(all.len())).for_each(|piece| wire.send(piece));
            assert_eq!(wire.message().unwrap().status(), 200);
            let request = next(&requests);
            assert_eq!(request.field("x-forwarded-for").as_deref(), Some(client), "{}", header.escape_ascii());
            let found = request.field("x-port").unwrap();
            assert!(found == port || port.is_empty() && found != "0", "{found}");
            // It is the same for all that follow, and its claims are those of any stranger.
            let denied = client != "127.0.0.1";
            wire.send("GET /denied HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n");
            assert_eq!(wire.message().unwrap().status(), if denied { 403 } else { 200 });
            requests.try_iter().count();
        }
    }
}

#[test]
fn tls_follows_the_header() {
    let (origin, requests) = Origin::recording(OK);
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(folder.path(), "a", &["a.test"], &KeyPair::generate().unwrap());
    let path = folder.path().display();
    let tls = format!("{REQUIRED}\ntls.certificates = [{{ cert = \"{path}/a.pem\", key = \"{path}/a.key\" }}]");
    let proxy = Setup::to(&[&origin.address]).listener(&tls).managed().start();
    let config = Arc::new(ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth());
    for piece in [1, usize::MAX] {
        let mut wire = proxy.client();
        V1.chunks(piece.min(V1.len())).for_each(|piece| wire.send(piece));
        let connection = ClientConnection::new(Arc::clone(&config), ServerName::try_from("a.test").unwrap()).unwrap();
        let mut wire = Wire::over(StreamOwned::new(connection, wire.stream));
        wire.send(GET);
        assert_eq!(wire.message().unwrap().status(), 200);
        let request = next(&requests);
        assert_eq!(request.field("x-forwarded-for").as_deref(), Some("192.0.2.7"));
        assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("https"));
    }
    // In one segment with the first message of the handshake.
    let mut connection = ClientConnection::new(config, ServerName::try_from("a.test").unwrap()).unwrap();
    let mut first = V1.to_vec();
    connection.write_tls(&mut first).unwrap();
    let mut wire = proxy.client();
    wire.send(&first);
    let mut wire = Wire::over(StreamOwned::new(connection, wire.stream));
    wire.send(GET);
    assert_eq!(wire.message().unwrap().status(), 200);
    // Without a header there is no handshake.
    let mut wire = proxy.client();
    wire.send([0x16, 3, 1, 0, 0]);
    assert_eq!(wire.end(), End::Reset(Vec::new()));
    assert_eq!(refused(&proxy, "missing"), 1);
}

/// A proxy that has ended TLS says so, and which name it was asked for.
#[test]
fn tlvs_tell_of_tls_in_front() {
    let (origin, requests) = Origin::recording(OK);
    let route = "request_headers = { set = { x-sni = \"${tls.sni}\" } }\n[[route]]\nscheme = \"http\"\nredirect = { scheme = \"https\" }";
    let proxy = Setup::to(&[&origin.address]).listener(REQUIRED).route(route).start();
    let ssl = [1, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3'];
    for (header, sni) in [
        (v2_of_client(&[(0x20, &ssl), (0x02, b"shop.example")]), Some("shop.example")),
        (v2_of_client(&[(0x20, &ssl)]), None),
    ] {
        let mut wire = proxy.client();
        wire.send([&header[..], GET.as_bytes()].concat());
        assert_eq!(wire.message().unwrap().status(), 200);
        let request = next(&requests);
        assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("https"));
        assert_eq!(request.field("x-sni").as_deref(), sni);
    }
    let mut wire = proxy.client();
    wire.send([&v2_of_client(&[(0x20, &[0; 5])])[..], GET.as_bytes()].concat());
    assert_eq!(wire.message().unwrap().status(), 308);
}

#[test]
fn what_is_wrong_with_a_header_is_counted() {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).listener(REQUIRED).managed().start();
    let ends = |bytes: &[u8]| {
        let mut wire = proxy.client();
        wire.send(bytes);
        wire.end()
    };
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 107]].concat();
    for malformed in
        [&b"PROXY TCP4 1 2 3 4\r\n"[..], &v2(0x21, 0x11, &[0; 3]), &v2(0x21, 0x11, &[0; 5000])[..16], &long]
    {
        assert_eq!(ends(malformed), End::Reset(Vec::new()), "{}", malformed.escape_ascii());
    }
    assert_eq!(ends(GET.as_bytes()), End::Reset(Vec::new()));
    // Half a header, then FIN.
    let mut wire = proxy.client();
    wire.send(b"PROXY TCP4 ");
    wire.finish();
    nothing(wire.end());
    // Who only connects is no failure.
    let mut wire = proxy.client();
    wire.finish();
    assert_eq!(wire.end(), End::Clean(Vec::new()));
    let counts = ["malformed", "missing", "incomplete", "untrusted"].map(|reason| refused(&proxy, reason));
    assert_eq!(counts, [4, 1, 1, 0]);
    let keys = format!("{REQUIRED}\ntimeouts.header = \"200ms\"");
    let proxy = Setup::to(&[&origin.address]).listener(&keys).managed().start();
    for bytes in [&b"PROXY TCP4 "[..], b""] {
        let mut wire = proxy.client();
        wire.send(bytes);
        assert_eq!(wire.end(), End::Reset(Vec::new()));
    }
    assert_eq!(refused(&proxy, "incomplete"), 2);
    assert_eq!(requests.try_iter().count(), 0);
}

/// Who may send a header is told by the address of the connection alone.
#[test]
fn strangers_name_no_client() {
    let (origin, requests) = Origin::recording(OK);
    let strange = |keys: &str| keys.replace("127.0.0.1", "192.0.2.1");
    let proxy = Setup::to(&[&origin.address]).listener(&strange(REQUIRED)).managed().start();
    let mut wire = proxy.client();
    nothing(wire.end());
    assert_eq!(refused(&proxy, "untrusted"), 1);
    let proxy = Setup::to(&[&origin.address]).listener(&strange(OPTIONAL)).start();
    let mut wire = proxy.client();
    wire.send([V1, GET.as_bytes()].concat());
    assert_eq!(wire.message().unwrap().status(), 400);
    assert_eq!(proxy.ask(GET).status(), 200);
    assert_eq!(next(&requests).field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    // One that is trusted is not believed by its name in a header.
    let keys = format!("{REQUIRED}, \"192.0.2.9\"]").replace("\"], ", "\", ");
    let proxy = Setup::to(&[&origin.address]).listener(&keys).start();
    for (client, told) in [("192.0.2.9", "203.0.113.1, 192.0.2.9"), ("192.0.2.10", "192.0.2.10")] {
        let mut wire = proxy.client();
        let request = GET.replace("\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n");
        wire.send(format!("PROXY TCP4 {client} 10.0.0.1 1 2\r\n{request}"));
        assert_eq!(wire.message().unwrap().status(), 200);
        assert_eq!(next(&requests).field("x-forwarded-for").as_deref(), Some(told));
    }
}

#[test]
fn a_header_may_be_optional() {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).listener(OPTIONAL).start();
    for (start, client) in [(V1, "192.0.2.7"), (b"", "127.0.0.1"), (b"\r\n\r\n", "127.0.0.1")] {
        for method in ["GET", "PUT", "PROPFIND"] {
            for piece in [1, usize::MAX] {
                let mut wire = proxy.client();
                let all = [start, GET.replace("GET", method).as_bytes()].concat();
                all.chunks(piece.min(all.len())).for_each(|piece| wire.send(piece));
                assert_eq!(wire.message().unwrap().status(), 200, "{method}");
                assert_eq!(next(&requests).field("x-forwarded-for").as_deref(), Some(client));
            }
        }
    }
}

/// Kills the other program.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a program that a test needs is installed. Where it is not, the test says so, and is not carried out.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        let _ = writeln!(io::stderr(), "{program} is not installed, so this is not tested with it");
    }
    found
}

/// HAProxy on a free port with such a listener and such a server.
fn haproxy(folder: &std::path::Path, bind: &str, server: &str) -> (Peer, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = folder.join(format!("haproxy-{port}.cfg"));
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
         frontend f\n  bind 127.0.0.1:{port} {bind}\n  default_backend b\n\
         backend b\n  http-request set-header x-src %[src]:%[src_port]\n  http-request set-header x-dst %[dst]\n  server s {server}\n"
    );
    fs::write(&file, text).unwrap();
    let log = fs::File::create(folder.join("haproxy.log")).unwrap();
    let child = Command::new("haproxy").arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(log).spawn();
    let peer = Peer(child.unwrap());
    let address = format!("127.0.0.1:{port}");
    poll(|| std::net::TcpStream::connect(&address).ok());
    (peer, address)
}

#[test]
fn curl_and_haproxy_are_understood() {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).listener(REQUIRED).start();
    let cairn = proxy.address("public");
    if is_installed("curl") {
        let url = format!("http://{cairn}/");
        let output = Command::new("curl").args(["-s", "-m", "10", "--haproxy-protocol", &url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hi", "{output:?}");
        assert_eq!(next(&requests).field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    }
    if is_installed("haproxy") {
        let folder = tempfile::tempdir().unwrap();
        for how in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"] {
            // What HAProxy was told itself, it passes on.
            let (_peer, address) = haproxy(folder.path(), "accept-proxy", &format!("{cairn} {how}"));
            let mut wire = Wire::connect(&address);
            wire.send([V1, GET.as_bytes()].concat());
            assert_eq!(wire.message().unwrap().status(), 200, "{how}");
            assert_eq!(next(&requests).field("x-forwarded-for").as_deref(), Some("192.0.2.7"), "{how}");
        }
    }
}

/// What a connection to an origin began with, and the request that followed.
type Seen = (usize, String, Message);

/// An origin whose connections begin with a header of version 1. It closes each after `requests` answers.
fn told(requests: usize) -> (Origin, Receiver<Seen>) {
    let (sender, seen) = mpsc::channel();
    let origin = Origin::start(move |mut wire, number| {
        let Some(header) = wire.until(b"\r\n") else { return };
        for _ in 0..requests {
            let Some(request) = wire.message() else { return };
            // The test may be over.
            let _ = sender.send((number, header.clone(), request));
            wire.send(OK);
        }
    });
    (origin, seen)
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// The header for a client of a listener.
fn header_of(client: &Wire, proxy: &Proxy) -> String {
    let (from, to) = (client.stream.local_addr().unwrap().port(), port_of(proxy.address("public")));
    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n")
}

/// A connection to an origin tells of one client connection, and serves no other.
#[test]
fn origins_are_told_of_each_client() {
    let (origin, seen) = told(usize::MAX);
    let proxy = Setup::to(&[&origin.address]).cluster("proxy_protocol = \"v1\"").start();
    let mut clients = [proxy.client(), proxy.client()];
    for round in 0..2 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(GET.replace("GET /", &format!("GET /{round}")));
            assert_eq!(client.message().unwrap().status(), 200);
            let (connection, header, request) = next(&seen);
            assert_eq!((connection, header), (number, header_of(client, &proxy)));
            assert_eq!(request.line(), format!("GET /{round} HTTP/1.1"));
        }
    }
    assert_eq!(origin.connections(), 2);
    drop(clients);
    let mut client = proxy.client();
    client.send(GET);
    assert_eq!(client.message().unwrap().status(), 200);
    assert_eq!(next(&seen).1, header_of(&client, &proxy));
    assert_eq!(origin.connections(), 3);
}

/// Whatever connection a request is sent over in the end, its header stands there once.
#[test]
fn another_attempt_has_a_header_of_its_own() {
    let (_socket, nobody) = closed();
    // At the first address nobody listens; an origin closes what was used once, which is noticed late.
    for (others, requests, connections) in [(&[&*nobody][..], usize::MAX, 2), (&[], 1, 6)] {
        let (origin, seen) = told(requests);
        let endpoints = [others, &[&*origin.address]].concat();
        let cluster = "balance = \"round_robin\"\nproxy_protocol = \"v1\"";
        let proxy = Setup::to(&endpoints).cluster(cluster).start();
        for _ in 0..2 {
            let mut client = proxy.client();
            for at in 0..3 {
                client.send(format!("PUT /{at} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody"));
                assert_eq!(client.message().unwrap().status(), 200);
                let (connection, header, request) = next(&seen);
                assert_eq!(header, header_of(&client, &proxy));
                assert_eq!((request.line(), request.text()), (&*format!("PUT /{at} HTTP/1.1"), "body"));
                assert_eq!(connection + 1, origin.connections());
            }
        }
        assert_eq!(origin.connections(), connections);
    }
}

/// The same for retries that a route asks for, of what was sent on a connection that was new.
#[test]
fn a_retry_has_a_header_of_its_own() {
    let (sender, seen) = mpsc::channel();
    let origin = |answer: Option<String>| {
        let sender = sender.clone();
        Origin::start(move |mut wire, _| {
            let header = wire.until(b"\r\n").unwrap();
            while let Some(request) = wire.message() {
                // The test may be over.
                let _ = sender.send((header.clone(), request.line().to_owned(), request.text().to_owned()));
                match &answer {
                    Some(answer) => wire.send(answer),
                    // It hangs up after it has read all.
                    None => return,
                }
            }
        })
    };
    let busy = origin(Some(OK.replace("200 OK", "503 Service Unavailable")));
    let (broken, well) = (origin(None), origin(Some(OK.to_owned())));
    let retry = "retry = { attempts = 3, on = [\"reset\", \"503\"], backoff = \"1ms\", budget = 1.0 }";
    let cluster = "proxy_protocol = \"v1\"\nbalance = \"round_robin\"\noutlier = { consecutive_failures = 0 }";
    let setup = Setup::to(&[&busy.address, &broken.address, &well.address]).route(retry).cluster(cluster);
    let proxy = setup.start();
    let mut attempts = 0;
    for _ in 0..3 {
        let mut client = proxy.client();
        client.send("PUT /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.message().unwrap().status(), 200);
        for found in seen.try_iter() {
            let line = "PUT /x HTTP/1.1".to_owned();
            assert_eq!(found, (header_of(&client, &proxy), line, "body".to_owned()));
            attempts += 1;
        }
    }
    // One that is busy, one that is broken, and each that was well in the end.
    assert!(attempts >= 5, "{attempts}");
}

/// A health check is nobody's request.
#[test]
fn health_checks_say_that_they_are_the_proxy_s_own() {
    let (sender, seen) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        let mut header = [0; 16];
        wire.stream.read_exact(&mut header).unwrap();
        if wire.message().is_some() {
            // The test may be over.
            let _ = sender.send(header.to_vec());
            wire.send(OK);
        }
    });
    let cluster = "proxy_protocol = \"v2\"\nhealth = { path = \"/health\" }";
    let _proxy = Setup::to(&[&origin.address]).cluster(cluster).start();
    assert_eq!(next(&seen), v2(0x20, 0x00, &[]));
}

/// The header stands before the first message of TLS, and says what the one of the client has said.
#[test]
fn headers_are_passed_on_before_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(folder.path(), "a", &["a.test"], &KeyPair::generate().unwrap());
    authority.write_ca(folder.path());
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&read("a.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read("a.key")).unwrap();
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let (sender, seen) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        let mut header = vec![0; 16];
        wire.stream.read_exact(&mut header).unwrap();
        header.resize(16 + usize::from(u16::from_be_bytes([header[14], header[15]])), 0);
        wire.stream.read_exact(&mut header[16..]).unwrap();
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut wire = Wire::over(StreamOwned::new(connection, wire.stream));
        while wire.message().is_some() {
            // The test may be over.
            let _ = sender.send(header.clone());
            wire.send(OK);
        }
    });
    let tls = format!(
        "proxy_protocol = \"v2\"\ntls = {{ ca = \"{}/ca.pem\", server_name = \"a.test\" }}",
        folder.path().display()
    );
    let proxy = Setup::to(&[&origin.address]).listener(REQUIRED).cluster(&tls).start();
    for (header, expected) in [
        (V1.to_vec(), v2_of_client(&[])),
        (v2_of_client(&[(0x04, b"")]), v2_of_client(&[])),
        (b"PROXY UNKNOWN\r\n".to_vec(), v2(0x21, 0x00, &[])),
    ] {
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send([&header[..], GET.as_bytes()].concat());
            assert_eq!(client.message().unwrap().status(), 200);
            let found = next(&seen);
            assert_eq!(found, expected);
            client.send(GET);
            assert_eq!(client.message().unwrap().status(), 200);
            assert_eq!(next(&seen), found);
            client = proxy.client();
        }
    }
}

/// A connection from before origins were told of clients is not used after that, and one that told of a client is not used by others.
#[test]
fn a_reload_begins_new_connections() {
    let (sender, seen) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while let Some(line) = wire.until(b"\r\n") {
            let _ = sender.send(line.clone());
            if !line.starts_with("PROXY ") {
                wire.until(b"\r\n\r\n");
                wire.send(OK);
            }
        }
    });
    let setup = |version: &str| {
        Setup::to(&[&origin.address]).cluster(&format!("proxy_protocol = \"{version}\"")).managed().text()
    };
    let proxy = Proxy::start(&setup("off"), &[]);
    let mut client = proxy.client();
    for version in ["off", "v1", "off", "v1"] {
        proxy.reload(&setup(version));
        client.send(GET);
        assert_eq!(client.message().unwrap().status(), 200);
        if version == "v1" {
            assert!(next(&seen).starts_with("PROXY TCP4 127.0.0.1 "));
        }
        assert_eq!(next(&seen), "GET / HTTP/1.1\r\n");
    }
    assert_eq!(origin.connections(), 4);
}

/// Where a client has connected to is not where its listener is bound: it has an address of its own there, also if endpoints are told of
/// clients only since a reload.
#[test]
fn a_reload_tells_where_clients_have_connected_to() {
    let (origin, seen) = told(1);
    let plain = Origin::answering(OK);
    let setup = |origin: &Origin, keys: &str| {
        Setup::to(&[&origin.address]).listener("bind = \"0.0.0.0:0\"").cluster(keys).managed().text()
    };
    let proxy = Proxy::start(&setup(&plain, ""), &[]);
    let port = port_of(proxy.address("public"));
    let mut client = Wire::connect(&format!("127.0.0.2:{port}"));
    client.send(GET);
    assert_eq!(client.message().unwrap().status(), 200);
    proxy.reload(&setup(&origin, "proxy_protocol = \"v1\""));
    client.send(GET);
    assert_eq!(client.message().unwrap().status(), 200);
    let from = client.stream.local_addr().unwrap().port();
    assert_eq!(next(&seen).1, format!("PROXY TCP4 127.0.0.1 127.0.0.2 {from} {port}\r\n"));
}

/// A proxy that passes on somebody whom it cannot name does not lend its trust. What it says for itself is believed, and by its address alone,
/// which a reload may change.
#[test]
fn who_is_not_named_is_not_trusted() {
    let (origin, requests) = Origin::recording(OK);
    let setup = |trusted: &str| {
        let keys = format!("proxy_protocol = \"optional\"\ntrusted_proxies = [{trusted}]");
        Setup::to(&[&origin.address]).listener(&keys).managed().text()
    };
    let claim = GET.replace("\r\n\r\n", "\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n");
    for (header, trusted) in [
        (b"".to_vec(), true),
        (v2(0x20, 0x00, &[]), true),
        (b"PROXY UNKNOWN\r\n".to_vec(), false),
        (v2(0x21, 0x00, &[]), false),
        (v2(0x21, 0x31, &[0; 216]), false),
    ] {
        let proxy = Proxy::start(&setup("\"127.0.0.1\""), &[]);
        let mut wire = proxy.client();
        wire.send(&header);
        for (reload, trusted) in
            [("\"127.0.0.1\"", trusted), ("\"192.0.2.1\"", false), ("\"127.0.0.1\", \"192.0.2.1\"", trusted)]
        {
            proxy.reload(&setup(reload));
            wire.send(&claim);
            let told = if trusted { "203.0.113.1, 127.0.0.1" } else { "127.0.0.1" };
            assert_eq!(wire.message().unwrap().status(), 200);
            let seen = next(&requests).field("x-forwarded-for");
            assert_eq!(seen.as_deref(), Some(told), "{} {reload}", header.escape_ascii());
        }
    }
}

/// Clients of a Unix-domain socket have no address.
#[test]
fn some_clients_have_no_address() {
    let (origin, seen) = told(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.sock");
    let listener = format!("bind = \"unix:{}\"", path.display());
    let _proxy = Setup::to(&[&origin.address]).listener(&listener).cluster("proxy_protocol = \"v1\"").start();
    let mut wire = Wire::over(UnixStream::connect(&path).unwrap());
    wire.send(GET);
    assert_eq!(wire.message().unwrap().status(), 200);
    assert_eq!(next(&seen).1, "PROXY UNKNOWN\r\n");
}

#[test]
fn haproxy_is_told() {
    if !is_installed("haproxy") {
        return;
    }
    let (origin, requests) = Origin::recording(OK);
    let folder = tempfile::tempdir().unwrap();
    let (_peer, address) = haproxy(folder.path(), "accept-proxy", &origin.address);
    for version in ["v1", "v2"] {
        let cluster = format!("proxy_protocol = \"{version}\"");
        let proxy = Setup::to(&[&address]).listener(REQUIRED).cluster(&cluster).start();
        for (header, source, destination) in [
            (V1, "192.0.2.7:4711", "192.0.2.80"),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", "2001:db8::1:1", "2001:db8::2"),
        ] {
            let mut wire = proxy.client();
            wire.send([header, GET.as_bytes()].concat());
            assert_eq!(wire.message().unwrap().status(), 200);
            let request = next(&requests);
            let found = ["x-src", "x-dst"].map(|name| request.field(name).unwrap());
            assert_eq!(found, [source, destination], "{version}");
        }
    }
}

/// A connection that belongs to its client is left where its endpoint takes no requests any more.
#[test]
fn what_is_drained_gets_nothing_over_connections_of_clients_either() {
    let ((one, first), (two, second)) = (told(usize::MAX), told(usize::MAX));
    let setup = Setup::to(&[&one.address, &two.address]).cluster("proxy_protocol = \"v1\"").managed();
    let proxy = setup.start();
    let mut client = proxy.client();
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(client.message().unwrap().status(), 200);
    };
    ask();
    let (drained, others) = if first.try_recv().is_ok() { (&one, (first, second)) } else { (&two, (second, first)) };
    others.0.try_iter().for_each(drop);
    assert!(proxy.verb(&["endpoint", "drain", "app", &drained.address]).status.success());
    (0..3).for_each(|_| ask());
    assert_eq!((others.0.try_iter().count(), others.1.try_iter().count() >= 3), (0, true));
}
