//! TLS towards endpoints, with rustls as the origin. Not here: what is in a record (`src/tls/tests.rs`), TLS towards clients (`tls`).

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::bodies::{self, Framing};
use crate::client_auth::revoke;
use crate::harness::{End, Message, Origin, PATIENCE, Proxy, Setup, Wire, next, poll};
use crate::tls::Authority;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET /path HTTP/1.1\r\nHost: a.test\r\n\r\n";
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// An authority whose certificate is `ca.pem` of a folder.
struct Site {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { authority: Authority::new(), folder: tempfile::tempdir().unwrap() };
        site.authority.write_ca(site.folder.path());
        site
    }

    /// `tls` of a cluster that trusts the authority, with more keys.
    fn tls(&self, keys: &str) -> String {
        format!("tls = {{ ca = \"{}/ca.pem\"{keys} }}", self.folder.path().display())
    }

    /// Writes `NAME.pem` and `NAME.key`, and returns what names them as a cluster's own.
    fn own(&self, name: &str) -> String {
        self.authority.write(self.folder.path(), name, &[name], &KeyPair::generate().unwrap());
        let folder = self.folder.path().display();
        format!(", server_name = \"a.test\", cert = \"{folder}/{name}.pem\", key = \"{folder}/{name}.key\"")
    }

    /// A certificate of the authority for these names.
    fn identity(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity { cert: self.authority.sign(names, &key), key: key.serialize_pem() }
    }
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
struct Identity {
    cert: String,
    key: String,
}

impl Identity {
    fn of(params: CertificateParams, authority: &Authority) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &authority.issuer).unwrap().pem();
        Self { cert, key: key.serialize_pem() }
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion], clients: Option<&Authority>) -> ServerConfig {
        let builder = ServerConfig::builder_with_protocol_versions(versions);
        let builder = match clients {
            Some(authority) => builder
                .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(authority.roots())).build().unwrap()),
            None => builder.with_no_client_auth(),
        };
        let chain = vec![CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()];
        let mut config =
            builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// An origin that speaks TLS of these versions.
    fn origin(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        serve: impl Fn(&mut Wire<Tls>, usize) + Send + Sync + 'static,
    ) -> Origin {
        start(self.config(versions, None), serve)
    }
}

/// An origin that ends each connection with close_notify.
fn start(config: ServerConfig, serve: impl Fn(&mut Wire<Tls>, usize) + Send + Sync + 'static) -> Origin {
    let config = Arc::new(config);
    Origin::start(move |wire, number| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut wire = Wire::over(StreamOwned::new(connection, wire.stream));
        serve(&mut wire, number);
        wire.stream.conn.send_close_notify();
        // The proxy may have closed the connection.
        let _ = wire.stream.flush();
    })
}

/// Answers every request with the same bytes.
fn answer(wire: &mut Wire<Tls>) {
    while wire.message().is_some() {
        wire.send(OK);
    }
}

/// An origin that reports how each of its connections ends, and what of HTTP came over it.
fn reporting(config: ServerConfig) -> (Origin, Receiver<End>) {
    let (sender, ends) = mpsc::channel();
    let origin = start(config, move |wire, _| {
        let end = wire.end();
        // The test may be over.
        let _ = sender.send(end);
    });
    (origin, ends)
}

fn error_of(message: &Message) -> String {
    let field = message.field("proxy-status").unwrap_or_default();
    let error = field.split(';').find_map(|part| part.trim().strip_prefix("error="));
    error.unwrap_or_default().to_owned()
}

/// Asks once, and says status, reason and error of the answer.
fn refusal(proxy: &Proxy) -> (u16, String, String) {
    let answer = proxy.ask(GET);
    (answer.status(), answer.reason(), error_of(&answer))
}

fn refused(reason: &str, error: &str) -> (u16, String, String) {
    (502, reason.to_owned(), error.to_owned())
}

#[test]
fn bodies_of_every_framing_go_both_ways() {
    let site = Site::new();
    let identity = site.identity(&["a.test"]);
    for version in BOTH {
        for framing in [Framing::Length, Framing::Chunks, Framing::Close] {
            let origin = identity.origin(&[version], move |wire, _| {
                bodies::serve(wire, framing);
                assert_eq!(wire.stream.conn.server_name(), Some("a.test"));
                assert_eq!(wire.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            });
            let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
            for length in [0, 1, 16_384, 16_385, 300_000] {
                bodies::download(&proxy, length);
                bodies::upload(&proxy, Framing::Length, length);
                bodies::upload(&proxy, Framing::Chunks, length);
            }
            if framing != Framing::Close {
                assert_eq!(origin.connections(), 1, "connections are kept");
            }
        }
    }
}

#[test]
fn large_bodies_are_never_held_as_a_whole() {
    let site = Site::new();
    let origin = site.identity(&["a.test"]).origin(&BOTH, |wire, _| bodies::serve(wire, Framing::Chunks));
    let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
    bodies::transfer(&proxy, |length| bodies::download(&proxy, length));
    bodies::transfer(&proxy, |length| bodies::upload(&proxy, Framing::Length, length));
}

#[test]
fn an_origin_that_is_not_believed_gets_nothing() {
    let site = Site::new();
    let mut expired = CertificateParams::new(["a.test".to_owned()]).unwrap();
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let mut coming = CertificateParams::new(["a.test".to_owned()]).unwrap();
    coming.not_before = date_time_ymd(4000, 1, 1);
    let authority = &site.authority;
    let self_signed = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let self_signed = Identity { cert: self_signed.cert.pem(), key: self_signed.signing_key.serialize_pem() };
    let unknown = Identity::of(CertificateParams::new(["a.test".to_owned()]).unwrap(), &Authority::new());
    for (identity, words) in [
        (site.identity(&["b.test", "*.a.test"]), "its certificate is for another name"),
        (Identity::of(expired, authority), "its certificate is not valid at this time"),
        (Identity::of(coming, authority), "its certificate is not valid at this time"),
        (unknown, "its certificate is of an authority that is not believed"),
        (self_signed, "its certificate is of an authority that is not believed"),
    ] {
        for version in BOTH {
            let (origin, ends) = reporting(identity.config(&[version], None));
            let keys = site.tls(", server_name = \"a.test\"");
            let proxy = Setup::to(&[&origin.address]).cluster(&keys).managed().start();
            assert_eq!(refusal(&proxy), refused("tls_certificate", "tls_certificate_error"), "{words}");
            let line = proxy.said(&format!("cairn: cluster app, endpoint {}: TLS failed: {words}", origin.address));
            assert!(line.contains("invalid peer certificate"), "{line}");
            assert!(matches!(next(&ends), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()), "{words}");
            assert_eq!(origin.connections(), 1, "a certificate does not get better by asking again");
            assert_eq!(proxy.status()["endpoint_tls_failures"], serde_json::json!([1, 0, 0, 0]));
        }
    }
}

/// Whatever stands in for the name, and as in the lists of listeners: what no current list is about does not count.
#[test]
fn a_revoked_certificate_is_not_believed() {
    let site = Site::new();
    let mut revoked = CertificateParams::new(["a.test".to_owned()]).unwrap();
    revoked.serial_number = Some(7.into());
    revoked.subject_alt_names.push(rcgen::SanType::URI("spiffe://corp/shop".try_into().unwrap()));
    let revoked = Identity::of(revoked, &site.authority);
    let crl = site.folder.path().join("crl.pem");
    let unknown = "whether its certificate is revoked is unknown";
    for (serials, until, words) in
        [(&[7][..], 4000, Some("its certificate is revoked")), (&[8], 2025, Some(unknown)), (&[8], 4000, None)]
    {
        revoke(&crl, &site.authority, serials, 1, until);
        for version in BOTH {
            for name in ["server_name = \"a.test\"", "spiffe_id = [\"spiffe://corp/shop\"], server_name = \"b.test\""] {
                let keys = site.tls(&format!(", {name}, crl = \"{}\"", crl.display()));
                let Some(words) = words else {
                    let origin = revoked.origin(&[version], |wire, _| answer(wire));
                    let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
                    assert_eq!(proxy.ask(GET).text(), "hi", "{name}");
                    continue;
                };
                let (origin, ends) = reporting(revoked.config(&[version], None));
                let proxy = Setup::to(&[&origin.address]).cluster(&keys).managed().start();
                assert_eq!(refusal(&proxy), refused("tls_certificate", "tls_certificate_error"), "{name}");
                proxy.said(&format!("cairn: cluster app, endpoint {}: TLS failed: {words}", origin.address));
                assert!(matches!(next(&ends), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()), "{name}");
            }
        }
    }
}

/// A list that comes while the proxy runs ends the connections from before it.
#[test]
fn a_list_of_revoked_certificates_is_reloaded() {
    let site = Site::new();
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.serial_number = Some(7.into());
    let origin = Identity::of(params, &site.authority).origin(&BOTH, |wire, _| answer(wire));
    let crl = site.folder.path().join("crl.pem");
    revoke(&crl, &site.authority, &[], 1, 4000);
    let keys = site.tls(&format!(", server_name = \"a.test\", crl = \"{}\"", crl.display()));
    let proxy = Setup::to(&[&origin.address]).cluster(&keys).managed().start();
    assert_eq!(proxy.ask(GET).text(), "hi");
    revoke(&crl, &site.authority, &[7], 2, 4000);
    assert!(proxy.verb(&["reload"]).status.success());
    assert_eq!(refusal(&proxy), refused("tls_certificate", "tls_certificate_error"));
    // What is to be said of a list is said of a cluster's, too.
    revoke(&crl, &site.authority, &[], 3, 2025);
    let said = String::from_utf8(proxy.verb(&["check"]).stdout).unwrap();
    assert!(said.contains("a revocation list of cluster app was to be replaced by 2025-01-01"), "{said}");
}

#[test]
fn another_endpoint_takes_the_request() {
    let site = Site::new();
    let wrong = site.identity(&["b.test"]).origin(&BOTH, |wire, _| answer(wire));
    let right = site.identity(&["a.test"]).origin(&BOTH, |wire, _| answer(wire));
    let keys = format!("balance = \"round_robin\"\n{}", site.tls(", server_name = \"a.test\""));
    let proxy = Setup::to(&[&wrong.address, &right.address]).cluster(&keys).start();
    let body = "x".repeat(40_000);
    let post = format!("POST /path HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for request in [GET, &post, GET, &post] {
        assert_eq!(proxy.ask(request).text(), "hi");
    }
    assert!(wrong.connections() > 0);
}

#[test]
fn the_name_is_that_of_the_endpoint_unless_it_is_given() {
    let site = Site::new();
    let asked = |names: &[&str], endpoint: &str, keys: &str| {
        let (sender, names_asked) = mpsc::channel();
        let origin = site.identity(names).origin(&BOTH, move |wire, _| {
            if wire.message().is_some() {
                sender.send(wire.stream.conn.server_name().map(str::to_owned)).unwrap();
                wire.send(OK);
            }
        });
        let port = origin.address.rsplit(':').next().unwrap();
        let proxy = Setup::to(&[&format!("{endpoint}:{port}")]).cluster(&site.tls(keys)).start();
        // Nothing that the client says has a part in it.
        match proxy.ask(&GET.replace("a.test", "b.test")).status() {
            200 => Ok(next(&names_asked)),
            status => Err(status),
        }
    };
    let name = |name: &str| Ok(Some(name.to_owned()));
    assert_eq!(asked(&["localhost"], "localhost", ""), name("localhost"));
    assert_eq!(asked(&["localhost"], "localhost", ", server_name = \"a.test\""), Err(502));
    assert_eq!(asked(&["a.test"], "localhost", ", server_name = \"a.test\""), name("a.test"));
    assert_eq!(asked(&["b.test"], "localhost", ""), Err(502));
    assert_eq!(asked(&["127.0.0.1"], "127.0.0.1", ""), Ok(None), "SNI has no addresses");
    assert_eq!(asked(&["127.0.0.2", "localhost"], "127.0.0.1", ""), Err(502));
    assert_eq!(asked(&["127.0.0.2"], "127.0.0.1", ", server_name = \"127.0.0.2\""), Ok(None));
}

#[test]
fn insecure_takes_any_certificate() {
    let site = Site::new();
    let origin = site.identity(&["b.test"]).origin(&BOTH, |wire, _| answer(wire));
    let setup = |tls: &str| Setup::to(&[&origin.address]).cluster(tls).managed();
    let proxy = setup(&site.tls(", server_name = \"b.test\"")).start();
    proxy.reload(&setup("tls = { insecure = true }").text());
    assert_eq!(proxy.ask(GET).text(), "hi");
    proxy.said("cairn: cluster app takes any certificate");
    assert_eq!(proxy.status()["insecure_clusters"], 1);
    // The authorities of the machine have not signed it.
    let proxy = Setup::to(&[&origin.address]).cluster("tls = true").start();
    assert_eq!(refusal(&proxy), refused("tls_certificate", "tls_certificate_error"));
    let proxy = Setup::to(&[&origin.address]).cluster("tls = false").start();
    assert_ne!(proxy.ask(GET).status(), 200);
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let site = Site::new();
    let plain = Origin::start(|mut wire, _| {
        wire.take(100, &mut |_| ());
        wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let hangs_up = Origin::start(|mut wire, _| wire.take(100, &mut |_| ()));
    for (origin, words) in [(plain, "the handshake failed"), (hangs_up, "the connection ended during the handshake")] {
        let keys = site.tls(", server_name = \"a.test\"");
        let proxy = Setup::to(&[&origin.address]).cluster(&keys).managed().start();
        assert_eq!(refusal(&proxy), refused("tls_protocol", "tls_protocol_error"), "{words}");
        proxy.said(&format!("cairn: cluster app, endpoint {}: TLS failed: {words}", origin.address));
        assert_eq!(proxy.status()["endpoint_tls_failures"], serde_json::json!([0, 1, 0, 0]));
    }
}

#[test]
fn a_handshake_that_stalls_counts_as_connecting() {
    let site = Site::new();
    let origin = Origin::start(|mut wire, _| drop(wire.end()));
    let keys = format!("{}\ntimeouts.connect = \"200ms\"", site.tls(", server_name = \"a.test\""));
    let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
    let idle = proxy.descriptors();
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), &*answer.reason()), (504, "connect_timeout"));
    poll(|| (proxy.descriptors() == idle).then_some(()));
}

/// In TLS 1.2 the alert comes in the handshake; in 1.3 after it, when the request may be on its way, though no application sees it.
#[test]
fn an_origin_that_wants_a_certificate_says_so() {
    let site = Site::new();
    let identity = site.identity(&["a.test"]);
    for version in BOTH {
        let (origin, ends) = reporting(identity.config(&[version], Some(&site.authority)));
        let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
        assert_eq!(refusal(&proxy), refused("tls_alert", "tls_alert_received"));
        let line =
            proxy.said(&format!("cairn: cluster app, endpoint {}: TLS failed: the peer gave up", origin.address));
        assert!(line.contains("CertificateRequired") || line.contains("HandshakeFailure"), "{line}");
        assert!(matches!(next(&ends), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()));
        assert_eq!(origin.connections(), 1);
    }
}

/// The first connection takes one request, and is closed when it has read the next.
#[test]
fn a_request_on_a_stale_connection_is_sent_again_as_it_was() {
    let site = Site::new();
    let identity = site.identity(&["a.test"]);
    let put = |length: usize| {
        let body = "x".repeat(length);
        format!("PUT /path HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    for (request, answered) in
        [(GET.to_owned(), true), (put(40_000), true), (put(100_000), false), (put(5).replace("PUT", "POST"), false)]
    {
        for version in BOTH {
            let origin = identity.origin(&[version], |wire, number| {
                while let Some(message) = wire.message() {
                    if number == 0 && message.line().contains("/path") {
                        return;
                    }
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{:06}", message.body.len()));
                }
            });
            let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
            let mut client = proxy.client();
            client.send(GET.replace("/path", "/first"));
            assert_eq!(client.message().unwrap().text(), "000000");
            client.send(&request);
            let answer = client.message().unwrap();
            let length = request.split_once("\r\n\r\n").unwrap().1.len();
            match answered {
                true => assert_eq!(answer.text(), format!("{length:06}")),
                false => assert_eq!((answer.status(), &*answer.reason()), (502, "upstream_closed")),
            }
            assert_eq!(origin.connections(), 1 + usize::from(answered), "{length}");
        }
    }
}

#[test]
fn a_body_that_ends_without_close_notify_is_cut() {
    let site = Site::new();
    let identity = site.identity(&["a.test"]);
    for (notifies, whole) in [(true, true), (false, false)] {
        let config = Arc::new(identity.config(&BOTH, None));
        let origin = Origin::start(move |wire, _| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut wire = Wire::over(StreamOwned::new(connection, wire.stream));
            if wire.message().is_some() {
                wire.send("HTTP/1.1 200 OK\r\n\r\nhello");
                if notifies {
                    wire.stream.conn.send_close_notify();
                    wire.stream.flush().unwrap();
                }
            }
        });
        let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
        let mut client = proxy.client();
        client.send(GET);
        assert!(client.head().unwrap().contains("chunked"));
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let (End::Clean(bytes) | End::Reset(bytes)) = client.end();
        assert_eq!(String::from_utf8_lossy(&bytes).contains("\r\n0\r\n\r\n"), whole);
    }
}

#[test]
fn keys_may_change_at_any_time() {
    let site = Site::new();
    let origin = site.identity(&["a.test"]).origin(&[&TLS13], |wire, _| {
        while wire.message().is_some() {
            wire.stream.conn.refresh_traffic_keys().unwrap();
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
    for _ in 0..5 {
        assert_eq!(proxy.ask(GET).text(), "hi");
    }
}

#[test]
fn a_tunnel_goes_through() {
    let site = Site::new();
    let origin = site.identity(&["a.test"]).origin(&BOTH, |wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let End::Clean(bytes) = wire.end() else { panic!("the client has ended its side") };
        wire.send(bytes);
    });
    let proxy = Setup::to(&[&origin.address]).cluster(&site.tls(", server_name = \"a.test\"")).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101"));
    client.send(bodies::beginning(100_000));
    client.finish();
    assert!(client.end() == End::Clean(bodies::beginning(100_000).to_vec()));
}

/// An origin that reports what kind each handshake was.
fn kinds(config: ServerConfig) -> (Origin, Receiver<Option<HandshakeKind>>) {
    let (sender, kinds) = mpsc::channel();
    let origin = start(config, move |wire, _| {
        while wire.message().is_some() {
            // The test may be over.
            let _ = sender.send(wire.stream.conn.handshake_kind());
            wire.send(OK);
        }
    });
    (origin, kinds)
}

#[test]
fn sessions_are_resumed() {
    let site = Site::new();
    let identity = site.identity(&["a.test"]);
    for version in BOTH {
        let (origin, kinds) = kinds(identity.config(&[version], None));
        let keys = format!("pool.max_idle = 0\n{}", site.tls(", server_name = \"a.test\""));
        // Another cluster has tickets of its own.
        let other = format!(
            "[[route]]\npath = \"/other\"\ncluster = \"other\"\n[[cluster]]\nname = \"other\"\nendpoints = [\"{}\"]\n{keys}",
            origin.address
        );
        let proxy = Setup::to(&[&origin.address]).cluster(&keys).more(&other).managed().start();
        for (path, kind) in [
            ("/path", HandshakeKind::Full),
            ("/path", HandshakeKind::Resumed),
            ("/other", HandshakeKind::Full),
            ("/other", HandshakeKind::Resumed),
            ("/path", HandshakeKind::Resumed),
        ] {
            assert_eq!(proxy.ask(&GET.replace("/path", path)).text(), "hi");
            let seen = next(&kinds);
            let full = seen == Some(HandshakeKind::Full) || seen == Some(HandshakeKind::FullWithHelloRetryRequest);
            assert_eq!(full, kind == HandshakeKind::Full, "{path}: {seen:?}");
        }
        let counts = if *version == TLS13 { [[0, 0], [2, 3]] } else { [[2, 3], [0, 0]] };
        assert_eq!(proxy.status()["endpoint_tls_handshakes"], serde_json::json!(counts));
    }
}

/// A server that is resumed does not show its certificate again.
#[test]
fn no_session_outlives_a_certificate() {
    let site = Site::new();
    for version in BOTH {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs() + 4);
        let (origin, kinds) = kinds(Identity::of(params, &site.authority).config(&[version], None));
        let keys = format!("pool.max_idle = 0\n{}", site.tls(", server_name = \"a.test\""));
        let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
        assert_eq!([(); 2].map(|()| proxy.ask(GET).text().to_owned()), ["hi", "hi"]);
        assert_eq!([(); 2].map(|()| next(&kinds)).map(|kind| kind == Some(HandshakeKind::Resumed)), [false, true]);
        // It is resumed until then.
        let answer = poll(|| Some(proxy.ask(GET)).filter(|answer| answer.status() != 200));
        assert_eq!((answer.status(), &*answer.reason()), (502, "tls_certificate"));
    }
}

#[test]
fn changed_settings_end_what_was_made_under_the_old_ones() {
    let site = Site::new();
    let origin_identity = site.identity(&["a.test", "b.test"]);
    let (origin, kinds) = kinds(origin_identity.config(&[&TLS13], None));
    let setup = |keys: &str| Setup::to(&[&origin.address]).cluster(keys).managed();
    let text = |name: &str| setup(&site.tls(&format!(", server_name = \"{name}\""))).text();
    let proxy = Proxy::start(&text("a.test"), &[]);
    let ask = |connections: usize| {
        assert_eq!(proxy.ask(GET).text(), "hi");
        assert_eq!(origin.connections(), connections);
        next(&kinds) != Some(HandshakeKind::Resumed)
    };
    assert!(ask(1));
    proxy.reload(&format!("{}# the same\n", text("a.test")));
    assert!(ask(1), "the connection is kept");
    proxy.reload(&text("b.test"));
    assert!(ask(2), "another name, another connection, and no ticket");
    proxy.reload(&setup("tls = { insecure = true, server_name = \"b.test\" }").text());
    assert!(ask(3), "another way of looking at certificates");
    // A file with other authorities has the same name.
    proxy.reload(&text("b.test"));
    assert!(ask(4));
    let both = format!("{}{}", site.authority.issuer.pem(), Authority::new().issuer.pem());
    fs::write(site.folder.path().join("ca.pem"), both).unwrap();
    proxy.reload(&format!("{}# again\n", text("b.test")));
    assert!(ask(5));
    let lost = Authority::new().issuer.pem();
    fs::write(site.folder.path().join("ca.pem"), lost).unwrap();
    proxy.reload(&format!("{}# and again\n", text("b.test")));
    assert_eq!(refusal(&proxy), refused("tls_certificate", "tls_certificate_error"));
}

/// Whole bodies come while the settings of TLS change.
#[test]
fn reloads_under_load_lose_nothing() {
    let site = Site::new();
    let origin = site.identity(&["a.test", "b.test"]).origin(&BOTH, |wire, _| bodies::serve(wire, Framing::Length));
    let text = |name: &str| {
        Setup::to(&[&origin.address]).cluster(&site.tls(&format!(", server_name = \"{name}\""))).managed().text()
    };
    let proxy = Proxy::start(&text("a.test"), &[]);
    let address = proxy.address("public");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    for length in [0, 1, 20_000, 300_000].repeat(10) {
                        bodies::download_over(&mut Wire::connect(address), length);
                        bodies::upload_over(&mut Wire::connect(address), Framing::Chunks, length);
                    }
                })
            })
            .collect();
        let mut names = ["b.test", "a.test"].iter().cycle();
        let begun = std::time::Instant::now();
        while clients.iter().any(|client| !client.is_finished()) && begun.elapsed() < PATIENCE {
            proxy.reload(&text(names.next().unwrap()));
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// `pin` of a certificate.
fn pin(cert: &str) -> String {
    let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    let key = webpki::EndEntityCert::try_from(&cert).unwrap().subject_public_key_info();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
    format!("sha256/{}", base64(hash.as_ref()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |group: &[u8], nth: usize| {
        let bits = group.iter().chain(&[0, 0]).take(3).fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        if nth <= group.len() { char::from(DIGITS[(bits >> (18 - 6 * nth) & 63) as usize]) } else { '=' }
    };
    bytes.chunks(3).flat_map(|group| (0..4).map(move |nth| digit(group, nth))).collect()
}

#[test]
fn a_pinned_key_is_the_only_one_that_is_believed() {
    let site = Site::new();
    let (right, other) = (site.identity(&["a.test"]), site.identity(&["a.test"]));
    for version in BOTH {
        for (pins, status) in [
            (vec![pin(&right.cert)], 200),
            (vec![pin(&other.cert), pin(&right.cert)], 200),
            (vec![pin(&other.cert)], 502),
        ] {
            let origin = right.origin(&[version], |wire, _| answer(wire));
            let keys = site.tls(&format!(", server_name = \"a.test\", pin = {pins:?}"));
            let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
            assert_eq!(proxy.ask(GET).status(), status);
            if status == 502 {
                proxy.said(&format!(
                    "cairn: cluster app, endpoint {}: TLS failed: its certificate is of none of the pinned keys",
                    origin.address
                ));
            }
        }
        // A pin stands in for nothing else.
        let (origin, ends) = reporting(right.config(&[version], None));
        let keys = site.tls(&format!(", server_name = \"b.test\", pin = [{:?}]", pin(&right.cert)));
        let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
        assert_eq!(refusal(&proxy), refused("tls_certificate", "tls_certificate_error"));
        assert!(matches!(next(&ends), End::Clean(bytes) | End::Reset(bytes) if bytes.is_empty()));
    }
}

#[test]
fn a_spiffe_id_stands_in_for_the_name() {
    let site = Site::new();
    let with = |ids: &[&str], authority: &Authority| {
        let mut params = CertificateParams::new(["elsewhere.test".to_owned()]).unwrap();
        params.subject_alt_names.extend(ids.iter().map(|id| rcgen::SanType::URI((*id).try_into().unwrap())));
        Identity::of(params, authority)
    };
    let shop = with(&["spiffe://corp/ns/shop"], &site.authority);
    let asked = "its certificate has none of the SPIFFE IDs that are asked for";
    let unknown = "its certificate is of an authority that is not believed";
    for (identity, ids, words) in [
        (&shop, &["spiffe://corp/ns/shop"][..], None),
        (&shop, &["spiffe://corp/ns/bank", "spiffe://corp/ns/*"], None),
        (&shop, &["spiffe://corp/ns/shop/*"], Some(asked)),
        (&shop, &["spiffe://other/ns/shop"], Some(asked)),
        (&site.identity(&["a.test"]), &["spiffe://corp/ns/shop"], Some(asked)),
        (
            &with(&["spiffe://corp/ns/shop", "spiffe://corp/ns/bank"], &site.authority),
            &["spiffe://corp/*"],
            Some(asked),
        ),
        (&with(&["spiffe://corp/ns/shop"], &Authority::new()), &["spiffe://corp/*"], Some(unknown)),
    ] {
        for version in BOTH {
            let origin = identity.origin(&[version], |wire, _| answer(wire));
            let keys = site.tls(&format!(", server_name = \"a.test\", spiffe_id = {ids:?}"));
            let proxy = Setup::to(&[&origin.address]).cluster(&keys).start();
            let answer = proxy.ask(GET);
            match words {
                None => assert_eq!(answer.text(), "hi", "{ids:?}"),
                Some(words) => {
                    assert_eq!((answer.status(), &*answer.reason()), (502, "tls_certificate"));
                    proxy.said(&format!("cairn: cluster app, endpoint {}: TLS failed: {words}", origin.address));
                }
            }
        }
    }
}

/// An origin for clients of an authority, that reports of each request the handshake and whose certificate came with it.
fn guarded(
    site: &Site,
    version: &'static SupportedProtocolVersion,
) -> (Origin, Receiver<(bool, CertificateDer<'static>)>) {
    let (sender, seen) = mpsc::channel();
    let origin = start(site.identity(&["a.test"]).config(&[version], Some(&site.authority)), move |wire, _| {
        while wire.message().is_some() {
            let shown = wire.stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
            // The test may be over.
            let _ = sender.send((wire.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed), shown));
            wire.send(OK);
        }
    });
    (origin, seen)
}

#[test]
fn a_cluster_shows_its_own_certificate_and_no_other() {
    let site = Site::new();
    let shown = |name: &str| CertificateDer::from_pem_file(site.folder.path().join(format!("{name}.pem"))).unwrap();
    for version in BOTH {
        let (origin, seen) = guarded(&site, version);
        let one = format!("pool.max_idle = 0\n{}", site.tls(&site.own("one")));
        let other = format!(
            "[[route]]\npath = \"/other\"\ncluster = \"other\"\n[[cluster]]\nname = \"other\"\nendpoints = [\"{}\"]\n\
             pool.max_idle = 0\n{}",
            origin.address,
            site.tls(&site.own("other"))
        );
        let proxy = Setup::to(&[&origin.address]).cluster(&one).more(&other).start();
        for (path, name, resumed) in
            [("/path", "one", false), ("/other", "other", false), ("/path", "one", true), ("/other", "other", true)]
        {
            assert_eq!(proxy.ask(&GET.replace("/path", path)).text(), "hi");
            assert_eq!(next(&seen), (resumed, shown(name)), "{path}");
        }
    }
}

#[test]
fn a_renewed_certificate_is_shown_by_itself() {
    let site = Site::new();
    let (origin, seen) = guarded(&site, &TLS13);
    let keys = site.tls(&site.own("one"));
    let watching = Setup::to(&[&origin.address]).cluster(&keys).text().replace("watch = false", "watch = true");
    let proxy = Proxy::start(&watching, &[]);
    let path = site.folder.path().join("one.pem");
    let mut shown = CertificateDer::from_pem_file(&path).unwrap();
    for _ in 0..3 {
        assert_eq!(proxy.ask(GET).text(), "hi");
        assert_eq!(next(&seen), (false, shown.clone()), "no session is resumed under the other certificate");
        // While one of both is new the reload is refused.
        let key = KeyPair::generate().unwrap();
        let pem = site.authority.sign(&["one"], &key);
        fs::write(site.folder.path().join("one.key"), key.serialize_pem()).unwrap();
        fs::write(&path, &pem).unwrap();
        proxy.said("cairn: files have changed: reloaded");
        shown = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    }
}

/// Certificates of both sides change all the time, and nobody notices.
#[test]
fn certificates_change_under_load() {
    let site = Site::new();
    let (origin, _seen) = guarded(&site, &TLS13);
    let text = |name: &str| Setup::to(&[&origin.address]).cluster(&site.tls(&site.own(name))).managed().text();
    let proxy = Proxy::start(&text("0"), &[]);
    let address = proxy.address("public");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mut client = Wire::connect(address);
                        client.send(GET);
                        assert_eq!(client.message().unwrap().text(), "hi");
                    }
                })
            })
            .collect();
        let (begun, mut reloads) = (std::time::Instant::now(), 0);
        while clients.iter().any(|client| !client.is_finished()) && begun.elapsed() < PATIENCE {
            reloads += 1;
            proxy.reload(&text(&reloads.to_string()));
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    assert_eq!(proxy.status()["endpoint_tls_failures"], serde_json::json!([0, 0, 0, 0]));
}

/// A second attempt beside a slow one, whose request is sealed for another connection; and one beside a handshake that does not end.
#[test]
fn slow_requests_are_hedged() {
    let site = Site::new();
    let identity = site.identity(&["a.test"]);
    for version in BOTH {
        let (sender, received) = mpsc::channel();
        let well = identity.origin(&[version], move |wire, _| {
            while let Some(request) = wire.message() {
                sender.send(request).unwrap();
                wire.send(OK);
            }
        });
        let silent = identity.origin(&[version], |wire, _| {
            wire.message();
            wire.end();
        });
        let stuck = Origin::start(|mut wire, _| drop(wire.end()));
        for slow in [&silent.address, &stuck.address] {
            let proxy = Setup::to(&[slow, &well.address])
                .cluster(&site.tls(", server_name = \"a.test\""))
                .cluster("balance = \"round_robin\"\ntimeouts = { connect = \"30s\" }")
                .route("hedge = { after = \"20ms\" }")
                .start();
            for number in 0..6 {
                let body = "b".repeat(number * 5000);
                let request =
                    format!("PUT /path HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                assert_eq!(proxy.ask(&request).text(), "hi");
                assert!(next(&received).text() == body);
            }
        }
    }
}
