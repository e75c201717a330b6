//! Names of endpoints that requests say: SNI and the checked name from Host. Not here: names that the configuration says (`cluster_tls`).

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rcgen::KeyPair;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{Origin, Proxy, Setup, Wire, next};
use crate::tls::Authority;

/// What the origin has seen of a request: the number of its connection, the name in SNI, Host, and whether the session was resumed.
type Seen = (usize, String, String, bool);

/// One endpoint with certificates for a.test, b.test and own.test, each for itself. `/close` ends its connection.
struct Site {
    origin: Origin,
    seen: Receiver<Seen>,
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        authority.write_ca(folder.path());
        let mut resolver = ResolvesServerCertUsingSni::new();
        for name in ["a.test", "b.test", "own.test"] {
            let key = KeyPair::generate().unwrap();
            let chain = vec![CertificateDer::from_pem_slice(authority.sign(&[name], &key).as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            resolver.add(name, CertifiedKey::new(chain, any_supported_type(&key).unwrap())).unwrap();
        }
        let config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(resolver));
        let config = Arc::new(config);
        let (sender, seen) = mpsc::channel();
        let origin = Origin::start(move |wire, number| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut wire = Wire::over(StreamOwned::new(connection, wire.stream));
            while let Some(request) = wire.message() {
                let tls = &wire.stream.conn;
                let name = tls.server_name().unwrap_or_default().to_owned();
                let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
                // The test may be over.
                let _ = sender.send((number, name, request.field("host").unwrap(), resumed));
                if request.line().starts_with("GET /close ") {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    wire.stream.conn.send_close_notify();
                    // The proxy may have closed the connection.
                    let _ = std::io::Write::flush(&mut wire.stream);
                    return;
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Self { origin, seen, folder }
    }

    fn proxy(&self, endpoint: &str, name: &str, more: &str) -> Proxy {
        let port = self.origin.address.rsplit_once(':').unwrap().1;
        let tls = format!("tls = {{ ca = \"{}/ca.pem\"{name} }}\n{more}", self.folder.path().display());
        Setup::to(&[&format!("{endpoint}:{port}")]).cluster(&tls).start()
    }

    /// Asks with this Host. Returns what the origin has seen.
    fn ask(&self, client: &mut Wire, path: &str, host: &str) -> Seen {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.message().unwrap().status(), 200, "{host}");
        next(&self.seen)
    }
}

const BY_HOST: &str = ", server_name = \"host\"";

/// Requests for two hosts go to one endpoint, over connections and with sessions that are never the other one's.
#[test]
fn hosts_share_neither_connections_nor_sessions() {
    let site = Site::new();
    let proxy = site.proxy("127.0.0.1", BY_HOST, "");
    let mut client = proxy.client();
    for (host, name, connection) in
        [("a.test", "a.test", 0), ("b.test", "b.test", 1), ("A.test:8443", "a.test", 0), ("b.test.", "b.test", 1)]
    {
        let (number, asked, told, resumed) = site.ask(&mut client, "/", host);
        assert_eq!((number, asked.to_lowercase().as_str(), &*told, resumed), (connection, name, host, false));
    }
    // New connections resume the sessions of their own names.
    site.ask(&mut client, "/close", "a.test");
    site.ask(&mut client, "/close", "b.test");
    for host in ["b.test", "a.test"] {
        let (number, asked, _, resumed) = site.ask(&mut client, "/", host);
        assert_eq!((number > 1, &*asked, resumed), (true, host, true));
    }
    // Nor does the first request of one name resume what others have left.
    let (_, asked, _, resumed) = site.ask(&mut client, "/", "own.test");
    assert_eq!((&*asked, resumed), ("own.test", false));
}

/// The endpoint has to have the name that it is asked for, whoever else it is.
#[test]
fn an_endpoint_that_lacks_the_name_gets_no_request() {
    let site = Site::new();
    let proxy = site.proxy("127.0.0.1", BY_HOST, "");
    for host in ["c.test", "127.0.0.1", "a.test.example"] {
        let answer = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status(), 502, "{host}");
    }
    // The wrong certificate for the right endpoint is one, too.
    let proxy = site.proxy("127.0.0.1", ", server_name = \"a.test\"", "");
    assert_eq!(
        proxy.ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").status(),
        200,
        "Host does not count unless asked for"
    );
    assert_eq!(next(&site.seen).1, "a.test");
    assert_eq!(site.seen.try_iter().count(), 0);
}

/// What counts is the Host that the endpoint is sent.
#[test]
fn a_rewritten_host_is_the_name() {
    let site = Site::new();
    let port = site.origin.address.rsplit_once(':').unwrap().1;
    let tls = format!("tls = {{ ca = \"{}/ca.pem\"{BY_HOST} }}", site.folder.path().display());
    let proxy =
        Setup::to(&[&format!("127.0.0.1:{port}")]).cluster(&tls).route("rewrite = { host = \"own.test\" }").start();
    let (_, asked, told, _) = site.ask(&mut proxy.client(), "/", "a.test");
    assert_eq!((&*asked, &*told), ("own.test", "own.test"));
}

/// Where there may be one connection, the idle one of another name gives way; one of its own name is used.
#[test]
fn an_idle_connection_of_another_name_gives_way() {
    let site = Site::new();
    let limits = "limits = { connections = 1, queue = 10, queue_timeout = \"10s\" }";
    let proxy = site.proxy("127.0.0.1", BY_HOST, limits);
    let mut client = proxy.client();
    for (host, connection) in [("a.test", 0), ("a.test", 0), ("b.test", 1), ("b.test", 1), ("a.test", 2)] {
        let (number, asked, ..) = site.ask(&mut client, "/", host);
        assert_eq!((number, &*asked), (connection, host));
    }
}
