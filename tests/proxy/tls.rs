//! TLS towards clients, with rustls as the client. Not here: what is in a record (`src/tls/tests.rs`), what is wrong with a
//! certificate (`tests/cli.rs`).

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use crate::bodies::{self, Check, Framing};
use crate::harness::{End, Message, Origin, Proxy, Setup, Wire, next, poll};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET /path HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An authority, and files of certificates that it has signed.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate for these names with its key.
    pub(crate) fn sign(&self, names: &[&str], key: &KeyPair) -> String {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap().signed_by(key, &self.issuer).unwrap().pem()
    }

    /// Writes `NAME.pem` and `NAME.key` to the folder.
    pub(crate) fn write(&self, folder: &Path, name: &str, names: &[&str], key: &KeyPair) {
        fs::write(folder.join(format!("{name}.pem")), self.sign(names, key)).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Writes what `client_ca` names.
    pub(crate) fn write_ca(&self, folder: &Path) {
        fs::write(folder.join("ca.pem"), self.issuer.pem()).unwrap();
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

/// An authority and a folder with a certificate `a` for a.test.
pub(crate) struct Site {
    pub(crate) authority: Authority,
    pub(crate) folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { authority: Authority::new(), folder: tempfile::tempdir().unwrap() };
        site.authority.write(site.folder.path(), "a", &["a.test"], &KeyPair::generate().unwrap());
        site
    }

    /// What stands in a configuration for these certificates.
    pub(crate) fn keys(&self, names: &[&str]) -> String {
        let folder = self.folder.path().to_str().unwrap();
        let all: Vec<_> =
            names.iter().map(|it| format!("{{ cert = \"{folder}/{it}.pem\", key = \"{folder}/{it}.key\" }}")).collect();
        format!("tls.certificates = [{}]", all.join(", "))
    }

    /// Another certificate of the folder.
    pub(crate) fn add(&self, name: &str, names: &[&str]) {
        self.authority.write(self.folder.path(), name, names, &KeyPair::generate().unwrap());
    }

    /// One listener with the certificate `a`.
    pub(crate) fn start(&self, origin: &Origin) -> Proxy {
        Setup::to(&[&origin.address]).listener(&self.keys(&["a"])).start()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.authority.roots())
    }
}

/// A client's configuration; all of its connections share sessions.
#[derive(Clone)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    pub(crate) fn new(roots: RootCertStore) -> Self {
        Self::of(roots, &[&TLS13, &TLS12], aws_lc_rs::ALL_CIPHER_SUITES, None)
    }

    pub(crate) fn of(
        roots: RootCertStore,
        versions: &[&'static SupportedProtocolVersion],
        suites: &[SupportedCipherSuite],
        identity: Option<(String, &KeyPair)>,
    ) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = suites.to_vec();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(8);
        Self { config: Arc::new(config) }
    }

    pub(crate) fn connection(&self, name: &str) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
    }

    /// Connects; the handshake is done with the first byte.
    pub(crate) fn connect(&self, proxy: &Proxy, listener: &str) -> Wire<Tls> {
        self.connect_as("a.test", proxy, listener)
    }

    pub(crate) fn connect_as(&self, name: &str, proxy: &Proxy, listener: &str) -> Wire<Tls> {
        Wire::over(StreamOwned::new(self.connection(name), tcp(proxy.address(listener))))
    }

    /// One request on a connection of its own, which ends with close_notify.
    pub(crate) fn ask(&self, proxy: &Proxy, listener: &str) -> (Message, HandshakeKind) {
        let mut wire = self.connect(proxy, listener);
        wire.send(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        let message = wire.message().expect("an answer");
        assert_eq!(wire.end(), End::Clean(Vec::new()));
        (message, wire.stream.conn.handshake_kind().unwrap())
    }

    /// Why there is no connection.
    pub(crate) fn refusal(&self, proxy: &Proxy, listener: &str) -> io::Error {
        let mut stream = StreamOwned::new(self.connection("a.test"), tcp(proxy.address(listener)));
        let sent = stream.write_all(GET.as_bytes()).and_then(|()| stream.flush());
        sent.and_then(|()| stream.read_exact(&mut [0; 1])).expect_err("no connection")
    }
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn tcp(address: &str) -> TcpStream {
    Wire::connect(address).stream
}

#[test]
fn every_suite_carries_both_directions() {
    let site = Site::new();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    site.authority.write(site.folder.path(), "rsa", &["a.test"], &rsa);
    let origin = bodies::origin(Framing::Length);
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a", "rsa"])).managed().start();
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        let client = Client::of(site.authority.roots(), &[suite.version()], &[*suite], None);
        let mut wire = client.connect(&proxy, "public");
        for length in [0, 1, 16_384, 16_385, 300_000] {
            download(&mut wire, length);
            upload(&mut wire, Framing::Length, length);
            upload(&mut wire, Framing::Chunks, length);
        }
        assert_eq!(wire.stream.conn.negotiated_cipher_suite(), Some(*suite));
        assert_eq!(wire.stream.conn.alpn_protocol(), None);
    }
    let counts = &proxy.status()["handshakes"];
    assert_eq!((&counts["tls12_full"], &counts["tls13_full"]), (&6.into(), &3.into()), "{counts}");
}

fn download(wire: &mut Wire<Tls>, length: u64) {
    wire.send(format!("GET /{length} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    let head = wire.head().unwrap();
    let mut check = Check::default();
    wire.body(&head, &mut |part| check.see(part));
    assert_eq!(check.0, length);
}

fn upload(wire: &mut Wire<Tls>, framing: Framing, length: u64) {
    wire.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{}\r\n", framing.fields(length)));
    framing.send(wire, length);
    assert_eq!(wire.message().unwrap().text(), length.to_string());
}

#[test]
fn large_bodies_are_never_held_as_a_whole() {
    let (site, origin) = (Site::new(), bodies::origin(Framing::Chunks));
    let proxy = site.start(&origin);
    let client = site.client();
    bodies::transfer(&proxy, |length| download(&mut client.connect(&proxy, "public"), length));
    bodies::transfer(&proxy, |length| upload(&mut client.connect(&proxy, "public"), Framing::Chunks, length));
}

/// Keys are changed in the middle, by the client.
#[test]
fn requests_in_any_pieces_and_under_changing_keys_are_answered() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = site.start(&origin);
    let stream = StreamOwned::new(site.client().connection("a.test"), Drip(tcp(proxy.address("public"))));
    let mut wire = Wire::over(stream);
    for _ in 0..3 {
        wire.send(GET.repeat(2));
        assert_eq!([(); 2].map(|()| wire.message().unwrap().status()), [200, 200]);
        wire.stream.conn.refresh_traffic_keys().unwrap();
    }
}

/// Every byte in a segment of its own.
pub(crate) struct Drip(pub(crate) TcpStream);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn the_application_hears_that_it_was_https() {
    let (origin, requests) = Origin::recording(OK);
    let site = Site::new();
    let moved = "[[route]]\npath = \"/moved\"\nredirect = { path = \"/there\" }";
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).more(moved).start();
    let (client, mut wire) = (site.client(), site.client().connect(&proxy, "public"));
    wire.send("GET https://a.test/x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: http\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 200);
    let request = next(&requests);
    assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("https"));
    assert!(request.field("forwarded").unwrap().ends_with(";proto=https"), "{request:?}");
    wire.send("GET /moved HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(wire.message().unwrap().field("location").as_deref(), Some("https://a.test/there"));
    assert_eq!(client.ask(&proxy, "public").0.text(), "hi");
}

#[test]
fn a_route_is_chosen_by_the_scheme() {
    let site = Site::new();
    let tls = format!("[[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\n{}\n", site.keys(&["a"]));
    let route = "[[route]]\nscheme = \"https\"\nrespond = { body = \"secure\" }\n\
                 [[route]]\npath = \"/not\"\nnot = { scheme = \"https\" }\nrespond = { body = \"clear\" }";
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).more(&tls).more(route).start();
    for (path, texts) in [("/", ["hi", "secure"]), ("/not", ["clear", "secure"])] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut secure = site.client().connect(&proxy, "secure");
        secure.send(&request);
        assert_eq!([proxy.ask(&request).text(), secure.message().unwrap().text()], texts, "{path}");
    }
}

#[test]
fn certificates_are_chosen_by_name() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    site.add("b", &["b.test", "*.b.test"]);
    site.add("c", &["only.b.test"]);
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a", "b", "c"])).start();
    let leaf = |name: &str| fs::read(site.folder.path().join(format!("{name}.pem"))).unwrap();
    for (asked, given) in [("a.test", "a"), ("b.test", "b"), ("x.b.test", "b"), ("only.b.test", "c")] {
        let mut wire = site.client().connect_as(asked, &proxy, "public");
        wire.send(GET);
        assert_eq!(wire.message().unwrap().status(), 200);
        let shown = &wire.stream.conn.peer_certificates().unwrap()[0];
        assert_eq!(*shown, CertificateDer::from_pem_slice(&leaf(given)).unwrap(), "{asked}");
    }
    let mut wire = site.client().connect_as("other.test", &proxy, "public");
    let error = wire.stream.write_all(GET.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "the first certificate, which this client does not take: {error}");
}

#[test]
fn a_client_needs_a_certificate_where_client_ca_says_so() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    site.authority.write_ca(site.folder.path());
    let ca = format!("tls.client_ca = \"{}/ca.pem\"", site.folder.path().display());
    let open = format!("[[listener]]\nname = \"open\"\nbind = \"127.0.0.1:0\"\n{}", site.keys(&["a"]));
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).listener(&ca).more(&open).managed().start();
    let key = KeyPair::generate().unwrap();
    for version in [&TLS13, &TLS12] {
        let with = |authority: &Authority| {
            let cert = authority.sign(&["client"], &key);
            Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, Some((cert, &key)))
        };
        let known = with(&site.authority);
        assert_eq!(known.ask(&proxy, "public").1, HandshakeKind::Full);
        assert_eq!(known.ask(&proxy, "public").1, HandshakeKind::Resumed);
        let error = with(&Authority::new()).refusal(&proxy, "public").to_string();
        assert!(error.contains("UnknownCA") || error.contains("DecryptError"), "{error}");
        // It is asked for none at `open`, and its ticket from there is worth nothing here.
        let nobody = Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, None);
        assert_eq!(nobody.ask(&proxy, "open").1, HandshakeKind::Full);
        let error = nobody.refusal(&proxy, "public").to_string();
        assert!(error.contains("CertificateRequired") || error.contains("HandshakeFailure"), "{error}");
        assert_eq!(nobody.ask(&proxy, "open").1, HandshakeKind::Resumed);
    }
    // The client of TLS 1.3 is told only after it takes the handshake for done, and the proxy sees the end of it as well.
    poll(|| (proxy.status()["handshakes"]["failed"] == 4).then_some(()));
}

#[test]
fn the_application_hears_who_the_client_is() {
    let site = Site::new();
    let (origin, requests) = Origin::recording(OK);
    site.authority.write_ca(site.folder.path());
    let ca = format!("tls.client_ca = \"{}/ca.pem\"", site.folder.path().display());
    let edits = "request_headers = { set = { x-a = \"${tls.version} ${tls.sni} ${tls.client.subject}\" } }";
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).listener(&ca).route(edits).start();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CountryName, "DE");
    params.distinguished_name.push(rcgen::DnType::CommonName, "shop, \r\nx: \u{e4}");
    let cert = params.signed_by(&key, &site.authority.issuer).unwrap().pem();
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        let identity = Some((cert.clone(), &key));
        let client = Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, identity);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            assert_eq!(client.ask(&proxy, "public").1, kind);
            let got = next(&requests);
            let (shown, rest) =
                got.field("x-a").unwrap().split_once(" CN=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert_eq!(shown, format!("{name} a.test"));
            assert!(rest.starts_with("shop") && rest.ends_with(",C=DE") && !rest.contains('\r'), "{rest}");
        }
    }
}

/// Who was let in without a certificate is not served any more once the listener asks for one.
#[test]
fn connections_from_before_client_ca_end_after_their_exchange() {
    let site = Site::new();
    site.authority.write_ca(site.folder.path());
    let ca = format!("tls.client_ca = \"{}/ca.pem\"", site.folder.path().display());
    for secure in [true, false] {
        let (begun, begins) = mpsc::channel();
        let go = Arc::new(Barrier::new(2));
        let gate = Arc::clone(&go);
        let origin = Origin::start(move |mut wire, _| {
            while let Some(request) = wire.message() {
                if request.line().contains("/slow") {
                    begun.send(()).unwrap();
                    gate.wait();
                }
                wire.send(OK);
            }
        });
        let keys = if secure { site.keys(&["a"]) } else { String::new() };
        let open = Setup::to(&[&origin.address]).listener("bind = \"127.0.0.1:0\"").listener(&keys).managed();
        let closed = open_with(&open, &site.keys(&["a"]), &ca, secure);
        let proxy = open.start();
        if secure {
            let connect = || site.client().connect(&proxy, "public");
            outlive(&proxy, &closed, [connect(), connect()], &begins, &go);
        } else {
            outlive(&proxy, &closed, [proxy.client(), proxy.client()], &begins, &go);
        }
        let nobody = Client::of(site.authority.roots(), &[&TLS12], aws_lc_rs::ALL_CIPHER_SUITES, None);
        nobody.refusal(&proxy, "public");
    }
}

/// The same with certificates of clients.
fn open_with(open: &Setup, keys: &str, ca: &str, secure: bool) -> Setup {
    let open = open.clone().listener(ca);
    if secure { open } else { open.listener(keys) }
}

/// An idle connection and one in an exchange, over a reload.
fn outlive<S: Read + Write>(
    proxy: &Proxy,
    closed: &Setup,
    [mut idle, mut busy]: [Wire<S>; 2],
    begins: &mpsc::Receiver<()>,
    go: &Barrier,
) {
    idle.send(GET);
    assert_eq!(idle.message().unwrap().status(), 200);
    // The second one waits already.
    busy.send(format!("{}{GET}", GET.replace("/path", "/slow")));
    next(begins);
    proxy.reload(&closed.text());
    assert_eq!(idle.end(), End::Clean(Vec::new()));
    go.wait();
    assert_eq!(busy.message().unwrap().status(), 200);
    assert!(matches!(busy.end(), End::Clean(rest) if rest.is_empty()));
}

#[test]
fn sessions_are_resumed_over_a_reload_with_a_new_certificate() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let setup = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).managed();
    let proxy = setup.start();
    for version in [&TLS13, &TLS12] {
        let client = Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, None);
        assert_eq!(client.ask(&proxy, "public").1, HandshakeKind::Full);
        assert_eq!(client.ask(&proxy, "public").1, HandshakeKind::Resumed);
        let old = fs::read(site.folder.path().join("a.pem")).unwrap();
        let mut kept = client.connect(&proxy, "public");
        kept.send(GET);
        assert_eq!(kept.message().unwrap().status(), 200);
        site.add("a", &["a.test"]);
        proxy.reload(&setup.text());
        assert_eq!(client.ask(&proxy, "public").1, HandshakeKind::Resumed);
        kept.send(GET);
        assert_eq!(kept.message().unwrap().status(), 200, "a connection goes on");
        let mut fresh = site.client().connect(&proxy, "public");
        fresh.send(GET);
        assert_eq!(fresh.message().unwrap().status(), 200);
        let shown = fresh.stream.conn.peer_certificates().unwrap()[0].clone();
        assert_ne!(shown, CertificateDer::from_pem_slice(&old).unwrap());
    }
    let counts = &proxy.status()["handshakes"];
    assert!(counts["tls12_resumed"] != 0 && counts["tls13_resumed"] != 0, "{counts}");
}

#[test]
fn the_end_of_a_response_can_be_told_from_a_cut() {
    let site = Site::new();
    // Without a length, its end is the end of the connection.
    let (go, gone) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
    let (wait, cut) = (Arc::clone(&go), Arc::clone(&gone));
    let origin = Origin::start(move |mut wire, _| {
        wire.message();
        wire.send("HTTP/1.1 200 OK\r\n\r\nsome text");
        wait.wait();
        if cut.load(Ordering::SeqCst) {
            wire.abort();
        }
    });
    let proxy = site.start(&origin);
    let ask = || {
        let mut wire = site.client().connect(&proxy, "public");
        wire.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
        wire.until(b"some text").unwrap();
        go.wait();
        wire.end()
    };
    assert_eq!(ask(), End::Clean(Vec::new()));
    gone.store(true, Ordering::SeqCst);
    assert!(matches!(ask(), End::Reset(_)));
}

#[test]
fn a_client_that_has_ended_gets_its_answer() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = site.start(&origin);
    let mut wire = site.client().connect(&proxy, "public");
    wire.send(GET);
    wire.stream.conn.send_close_notify();
    wire.stream.flush().unwrap();
    wire.stream.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.message().unwrap().text(), "hi");
    assert_eq!(wire.end(), End::Clean(Vec::new()));
}

#[test]
fn plain_http_is_told_what_is_wrong() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = site.start(&origin);
    let mut wire = proxy.client();
    wire.send(GET);
    let answer = wire.message().unwrap();
    assert_eq!((answer.status(), answer.reason().as_str()), (400, "tls_required"));
    wire.finish();
    assert_eq!(wire.end(), End::Clean(Vec::new()));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn what_is_neither_gets_an_alert_and_harms_nobody() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let keys = format!("{}\ntimeouts = {{ header = \"1s\" }}", site.keys(&["a"]));
    let proxy = Setup::to(&[&origin.address]).listener(&keys).start();
    let hello = |length: usize| [&[22, 3, 1, 0x40, 0][..], &vec![1; length]].concat();
    for garbage in [
        b"\0\0\0\0\0\0\0\0".to_vec(),
        vec![0x80; 100],
        vec![22, 3, 1, 255, 255],
        hello(0x4000),
        vec![21, 3, 1, 0, 2, 1, 0],
    ] {
        let mut wire = proxy.client();
        wire.send(&garbage);
        let (End::Clean(said) | End::Reset(said)) = wire.end();
        assert!(said.is_empty() || said.starts_with(&[21, 3]), "{garbage:?}: {said:?}");
    }
    assert_eq!(site.client().ask(&proxy, "public").0.status(), 200);
}

/// A record that was tampered with ends the exchange: the origin sees a cut, not an end.
#[test]
fn a_forged_record_cuts_the_request_off() {
    let site = Site::new();
    let (begun, begins) = mpsc::channel();
    let (sender, ends) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        begun.send(wire.until(b"part")).unwrap();
        sender.send(wire.end()).unwrap();
    });
    let proxy = site.start(&origin);
    let mut wire = site.client().connect(&proxy, "public");
    wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npart");
    wire.stream.flush().unwrap();
    next(&begins);
    wire.stream.sock.write_all(&[&[23, 3, 3, 0, 30][..], &[7; 30]].concat()).unwrap();
    let error = wire.stream.read(&mut [0; 10]).unwrap_err().to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
    let (End::Clean(body) | End::Reset(body)) = next(&ends);
    assert_eq!(body, b"");
}

#[test]
fn who_stalls_in_a_handshake_or_a_record_is_let_go() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let keys = format!("{}\ntimeouts = {{ header = \"300ms\" }}", site.keys(&["a"]));
    let proxy = Setup::to(&[&origin.address]).listener(&keys).start();
    for start in [&b""[..], b"\x16\x03", b"\x16\x03\x01\x02\x00\x01"] {
        let mut wire = proxy.client();
        wire.send(start);
        assert_eq!(wire.end(), End::Clean(Vec::new()));
    }
    let mut wire = site.client().connect(&proxy, "public");
    wire.send(GET);
    assert_eq!(wire.message().unwrap().status(), 200);
    wire.stream.sock.write_all(&[23, 3, 3, 0, 30, 1]).unwrap();
    // It may be a key update: an answer here would be taken for that to the next request.
    assert_eq!(wire.end(), End::Clean(Vec::new()));
}

#[test]
fn nothing_is_kept_of_many_connections() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = site.start(&origin);
    let client = site.client();
    let run = |count| (0..count).for_each(|_| assert_eq!(client.ask(&proxy, "public").0.status(), 200));
    run(50);
    let before = proxy.descriptors();
    run(100);
    poll(|| (proxy.descriptors() <= before).then_some(()));
}

/// Clients that send all of an upload right behind their last word of the handshake, many at a time.
#[test]
fn uploads_may_follow_the_handshake_at_once() {
    const LENGTH: usize = 1_000_000;
    let (site, origin) = (Site::new(), bodies::origin(Framing::Length));
    let proxy = site.start(&origin);
    for version in [&TLS13, &TLS12] {
        let client = Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, None);
        // TLS 1.2 lets content follow only where it resumes.
        client.ask(&proxy, "public");
        let address = proxy.address("public");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut connection = client.connection("a.test");
                    connection.set_buffer_limit(None);
                    let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LENGTH}\r\n\r\n");
                    connection.writer().write_all(head.as_bytes()).unwrap();
                    connection.writer().write_all(bodies::beginning(LENGTH)).unwrap();
                    let mut wire = Wire::over(StreamOwned::new(connection, tcp(address)));
                    assert_eq!(wire.message().expect("an answer").text(), LENGTH.to_string());
                });
            }
        });
    }
}

/// A client that reads nothing and asks for new keys without end is let go; others shake hands meanwhile.
#[test]
fn who_only_changes_keys_is_let_go() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = site.start(&origin);
    let mut wire = site.client().connect(&proxy, "public");
    wire.send(GET);
    assert_eq!(wire.message().unwrap().status(), 200);
    for _ in 0..200 {
        let connection = &mut wire.stream.conn;
        connection.refresh_traffic_keys().unwrap();
        connection.writer().write_all(b"G").unwrap();
        while connection.wants_write() {
            connection.write_tls(&mut wire.stream.sock).unwrap();
        }
    }
    assert_eq!(site.client().ask(&proxy, "public").0.status(), 200);
    let error = wire.stream.read(&mut [0; 1]).unwrap_err().to_string();
    assert!(error.contains("UnexpectedMessage"), "{error}");
}

/// Clients that connect and say nothing cannot keep others from shaking hands.
#[test]
fn handshakes_under_way_are_bounded_and_the_oldest_gives_way() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let keys = format!("{}\nlimits.handshakes = 3", site.keys(&["a"]));
    let proxy = Setup::to(&[&origin.address]).listener(&keys).managed().start();
    let refused = || proxy.status()["handshakes"]["refused"].as_u64().unwrap();
    // What is over does not count.
    for _ in 0..10 {
        assert_eq!(site.client().ask(&proxy, "public").0.status(), 200);
    }
    assert_eq!(refused(), 0);
    let mut silent: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for mut client in silent.drain(3..) {
        assert!(matches!(client.end(), End::Clean(said) | End::Reset(said) if said.is_empty()));
    }
    assert_eq!(refused(), 5);
    // After a second the oldest makes room.
    let ask = || {
        let mut stream = StreamOwned::new(site.client().connection("a.test"), tcp(proxy.address("public")));
        stream.write_all(GET.as_bytes()).and_then(|()| stream.read_exact(&mut [0; 1])).ok().map(|()| stream)
    };
    let served = poll(ask);
    assert!(matches!(silent.remove(0).end(), End::Clean(said) | End::Reset(said) if said.is_empty()));
    assert!(refused() > 5);
    drop(served);
    assert_eq!(proxy.status()["handshakes"]["failed"], 0, "nobody had begun");
}
