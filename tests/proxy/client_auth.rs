//! Certificates of clients: who is let in, and who not any more. Not here: TLS by itself (`tls`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, SupportedProtocolVersion};

use crate::harness::{End, Origin, Proxy, Setup, Wire, next, poll};
use crate::tls::{Authority, Client, Site, tcp};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET /path HTTP/1.1\r\nHost: a.test\r\n\r\n";
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// An authority of this name.
fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
}

/// What a certificate for a client holds.
fn params(serial: u64) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

/// A client that shows a certificate of `issuer`, and believes `site`.
fn showing(
    site: &Site,
    issuer: &Authority,
    params: CertificateParams,
    version: &'static SupportedProtocolVersion,
) -> Client {
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &issuer.issuer).unwrap().pem();
    Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, Some((cert, &key)))
}

fn nobody(site: &Site, version: &'static SupportedProtocolVersion) -> Client {
    Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, None)
}

/// Writes a list of revoked serial numbers, which is due to be replaced in that year.
pub(crate) fn revoke(file: &Path, issuer: &Authority, serials: &[u64], number: u64, until: i32) {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    fs::write(file, list.signed_by(&issuer.issuer).unwrap().pem().unwrap()).unwrap();
}

/// A site whose listener asks clients for certificates of `issuer`, with more keys of TLS.
fn asking(site: &Site, issuer: &Authority, origin: &Origin, keys: &str) -> Setup {
    issuer.write_ca(site.folder.path());
    let folder = site.folder.path().display();
    let keys = keys.replace("SITE", &folder.to_string());
    let keys = format!("{}\ntls.client_ca = \"{folder}/ca.pem\"\n{keys}", site.keys(&["a"]));
    Setup::to(&[&origin.address]).listener(&keys).managed()
}

fn failures(proxy: &Proxy) -> [u64; 3] {
    serde_json::from_value(proxy.status()["handshakes"]["failures"].clone()).unwrap()
}

/// Who is not believed sends no byte of its request to an origin, and the log says why.
#[test]
fn who_is_not_believed_is_turned_away_before_any_request() {
    let site = Site::new();
    let (issuer, other) = (authority("clients"), authority("others"));
    revoke(&site.folder.path().join("crl.pem"), &issuer, &[7], 1, 4000);
    let origin = Origin::answering(OK);
    let mut expired = params(1);
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    for version in BOTH {
        let revoked = showing(&site, &issuer, params(7), version);
        let expired = showing(&site, &issuer, expired.clone(), version);
        let unknown = showing(&site, &other, params(1), version);
        let unbelieved = "its certificate is of an authority that is not believed";
        for (client, alerts, words, counted) in [
            (revoked, &["CertificateRevoked"][..], "its certificate is revoked", [1, 0, 0]),
            (expired, &["CertificateExpired"], "its certificate is not valid at this time", [1, 0, 0]),
            (unknown, &["UnknownCA", "DecryptError"], unbelieved, [1, 0, 0]),
            (
                nobody(&site, version),
                &["CertificateRequired", "HandshakeFailure"],
                "it has shown no certificate",
                [0, 1, 0],
            ),
        ] {
            let proxy = asking(&site, &issuer, &origin, "tls.crl = \"SITE/crl.pem\"").start();
            let error = client.refusal(&proxy, "public").to_string();
            assert!(alerts.iter().any(|alert| error.contains(alert)), "{words}: {error}");
            proxy.said(&format!("cairn: listener public, client 127.0.0.1: TLS failed: {words}"));
            assert_eq!(failures(&proxy), counted, "{words}");
        }
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn lists_of_revoked_certificates_take_effect_with_a_reload() {
    let site = Site::new();
    let issuer = authority("clients");
    let crl = site.folder.path().join("crl.pem");
    revoke(&crl, &issuer, &[], 1, 4000);
    let origin = Origin::answering(OK);
    let setup = asking(&site, &issuer, &origin, "tls.crl = [\"SITE/crl.pem\"]");
    let proxy = setup.start();
    for (round, version) in BOTH.into_iter().enumerate() {
        let serial = 10 + round as u64;
        let (one, other) =
            (showing(&site, &issuer, params(serial), version), showing(&site, &issuer, params(1), version));
        assert_eq!(one.ask(&proxy, "public").1, HandshakeKind::Full);
        assert_eq!(one.ask(&proxy, "public").1, HandshakeKind::Resumed);
        let mut idle = one.connect(&proxy, "public");
        idle.send(GET);
        assert_eq!(idle.message().unwrap().status(), 200);
        // A list that only lasts longer ends nothing.
        let before: Vec<_> = (10..serial).collect();
        revoke(&crl, &issuer, &before, 2 * serial, 4001 + round as i32);
        proxy.reload(&setup.text());
        idle.send(GET);
        assert_eq!(idle.message().unwrap().status(), 200);
        assert_eq!(one.ask(&proxy, "public").1, HandshakeKind::Resumed);
        let now: Vec<_> = (10..=serial).collect();
        revoke(&crl, &issuer, &now, 2 * serial + 1, 4001);
        proxy.reload(&setup.text());
        assert_eq!(idle.end(), End::Clean(Vec::new()), "connections from before end");
        let error = one.refusal(&proxy, "public").to_string();
        assert!(error.contains("CertificateRevoked"), "a ticket from before is worth nothing: {error}");
        assert_eq!(other.ask(&proxy, "public").0.status(), 200);
    }
}

/// As with OpenSSL, and so nginx and HAProxy: where there are lists, a certificate of whose authority none is current does not count.
#[test]
fn who_cannot_be_looked_up_is_not_let_in() {
    let site = Site::new();
    let (issuer, other) = (authority("clients"), authority("others"));
    let origin = Origin::answering(OK);
    let crl = site.folder.path().join("crl.pem");
    let unlisted = "listener public has no revocation list of the authority CN=clients";
    let ended = "a revocation list of listener public was to be replaced by 2025-01-01";
    for (author, until, warning) in [(&issuer, 2025, ended), (&other, 4000, unlisted)] {
        revoke(&crl, author, &[], 1, until);
        let proxy = asking(&site, &issuer, &origin, "tls.crl = \"SITE/crl.pem\"").start();
        showing(&site, &issuer, params(1), &TLS13).refusal(&proxy, "public");
        proxy.said(
            "cairn: listener public, client 127.0.0.1: TLS failed: whether its certificate is revoked is unknown",
        );
        let said = String::from_utf8(proxy.verb(&["check"]).stdout).unwrap();
        assert!(said.contains(warning), "{said}");
    }
    // All lists of a file are read, also with a byte-order mark and other ends of lines.
    let foreign = fs::read_to_string(&crl).unwrap();
    revoke(&crl, &issuer, &[], 1, 4000);
    let own = fs::read_to_string(&crl).unwrap();
    fs::write(&crl, format!("\u{feff}{foreign}{own}").replace('\n', "\r\n")).unwrap();
    let proxy = asking(&site, &issuer, &origin, "tls.crl = \"SITE/crl.pem\"").start();
    assert_eq!(showing(&site, &issuer, params(1), &TLS13).ask(&proxy, "public").0.status(), 200);
}

#[test]
fn a_certificate_that_is_only_requested_may_be_missing() {
    let site = Site::new();
    let (issuer, other) = (authority("clients"), authority("others"));
    let (origin, requests) = Origin::recording(OK);
    let setup = |auth: &str| {
        asking(&site, &issuer, &origin, &format!("tls.client_auth = \"{auth}\""))
            .route("request_headers = { set = { x-subject = \"${tls.client.subject}\" } }")
    };
    let proxy = setup("request").start();
    for version in BOTH {
        let (known, nobody) = (showing(&site, &issuer, params(1), version), nobody(&site, version));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            assert_eq!(nobody.ask(&proxy, "public").1, kind);
            assert_eq!(next(&requests).field("x-subject"), None);
            assert_eq!(known.ask(&proxy, "public").1, kind);
            assert_ne!(next(&requests).field("x-subject"), None);
        }
        // Who shows one has to show a good one.
        showing(&site, &other, params(1), version).refusal(&proxy, "public");
        let mut idle = nobody.connect(&proxy, "public");
        idle.send(GET);
        assert_eq!(idle.message().unwrap().status(), 200);
        next(&requests);
        proxy.reload(&setup("require").text());
        assert_eq!(idle.end(), End::Clean(Vec::new()));
        nobody.refusal(&proxy, "public");
        proxy.reload(&setup("request").text());
    }
}

/// What a client is asked for names the authorities of now: some choose their certificate by that.
#[test]
fn openssl_is_told_the_authorities_of_now() {
    let site = Site::new();
    let origin = Origin::answering(OK);
    let asked = |proxy: &Proxy, version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", proxy.address("public"), "-servername", "a.test", version]);
        let output = command.stdin(Stdio::null()).output().expect("openssl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.split("Acceptable client certificate CA names\n").nth(1).unwrap_or_default();
        names.lines().take_while(|line| line.contains("CN")).map(|line| line.replace(' ', "")).collect::<Vec<_>>()
    };
    let setup = |names: &[&str]| {
        let authorities: Vec<_> = names.iter().map(|name| authority(name)).collect();
        let setup = asking(&site, &authorities[0], &origin, "tls.client_auth = \"request\"");
        let all: String = authorities.iter().map(|authority| authority.issuer.pem()).collect();
        fs::write(site.folder.path().join("ca.pem"), all).unwrap();
        setup
    };
    let proxy = setup(&["one"]).start();
    assert_eq!([asked(&proxy, "-tls1_3"), asked(&proxy, "-tls1_2")], [["CN=one"]; 2]);
    proxy.reload(&setup(&["two", "three"]).text());
    assert_eq!([asked(&proxy, "-tls1_3"), asked(&proxy, "-tls1_2")], [["CN=two", "CN=three"]; 2]);
}

/// Names of a certificate besides the serial number.
fn named(sans: Vec<SanType>, subject: &str) -> CertificateParams {
    let mut params = params(1);
    params.subject_alt_names = sans;
    params.distinguished_name = DistinguishedName::new();
    if !subject.is_empty() {
        params.distinguished_name.push(DnType::CommonName, subject);
    }
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

#[test]
fn routes_know_who_the_client_is() {
    let site = Site::new();
    let issuer = authority("clients");
    let origin = Origin::answering(OK);
    let respond = |name: &str, client: &str| {
        format!(
            "[[route]]\npath = \"/path\"\n{client}\nrespond = {{ headers = {{ x-who = \"{name} ${{client.identity}}\" }} }}\n"
        )
    };
    let more = [
        respond("shop", "client = \"spiffe://corp/ns/shop/*\""),
        respond("two", "client = [\"spiffe://corp/ns/pay\", \"Web.Corp\"]"),
        respond("cn", "client = \"CN=robot\""),
        respond("others", "not = { client = [\"spiffe://corp/*\", \"spiffe://evil/*\"] }"),
    ];
    let keys = "tls.client_auth = \"request\"";
    let proxy = asking(&site, &issuer, &origin, keys).more(&more.concat()).start();
    let spiffe =
        |id: &str| named(vec![dns("web.corp"), uri("https://corp/x"), uri(id), uri("spiffe://corp/ns/pay")], "robot");
    for version in BOTH {
        for (params, who) in [
            (spiffe("spiffe://corp/ns/shop/web"), "shop spiffe://corp/ns/shop/web"),
            (spiffe("spiffe://corp/ns/shop"), ""),
            (spiffe("spiffe://corp/ns/shopping/web"), ""),
            (spiffe("spiffe://corp.evil/ns/shop/web"), "others spiffe://corp.evil/ns/shop/web"),
            (named(vec![uri("spiffe://corp/ns/pay"), dns("web.corp")], ""), "two spiffe://corp/ns/pay"),
            (named(vec![uri("https://corp/ns/pay"), dns("WEB.corp"), dns("b.corp")], "robot"), "two web.corp"),
            (named(vec![dns("b.corp"), dns("web.corp")], "robot"), "others b.corp"),
            (named(vec![], "robot"), "cn CN=robot"),
            (named(vec![], ""), "others "),
        ] {
            let client = showing(&site, &issuer, params, version);
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (answer, how) = client.ask(&proxy, "public");
                assert_eq!((answer.field("x-who").unwrap_or_default().as_str(), how), (who.trim(), kind));
            }
        }
        let (answer, _) = nobody(&site, version).ask(&proxy, "public");
        assert_eq!(answer.field("x-who").as_deref(), Some("others"), "nobody is no client");
    }
    // In the clear and on a listener that asks for nothing, nobody is anybody.
    let said = String::from_utf8(proxy.verb(&["check"]).stdout).unwrap();
    assert!(!said.contains("takes no request"), "{said}");
    let plain = Setup::to(&[&origin.address]).managed().more(&more.concat()).start();
    assert_eq!(plain.ask(GET).field("x-who").as_deref(), Some("others"));
    let said = String::from_utf8(plain.verb(&["check"]).stdout).unwrap();
    assert_eq!(said.matches("none of its listeners asks clients for certificates").count(), 3, "{said}");
}

/// What clients send to be taken for others: also where the application is told nothing, and from peers that are believed otherwise.
const FORGED: &str = "GET /path HTTP/1.1\r\nHost: a.test\r\nClient-Cert: :Zm9yZ2Vk:\r\nclient_cert: :Zm9yZ2Vk:\r\n\
                      Client-Cert-Chain: :Zm9yZ2Vk:\r\nX-Forwarded-Client-Cert: Hash=forged\r\n\
                      X_Forwarded_Client_Cert: Hash=forged\r\nConnection: close, client-cert, x-forwarded-client-cert\r\n\r\n";

/// The certificate that a client shows, and the fields by which the application hears of it.
fn told(params: CertificateParams, site: &Site, issuer: &Authority, proxy: &Proxy) -> String {
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &issuer.issuer).unwrap();
    let identity = Some((cert.pem(), &key));
    let client = Client::of(site.authority.roots(), &[&TLS13], aws_lc_rs::ALL_CIPHER_SUITES, identity);
    let mut wire = client.connect(proxy, "public");
    for _ in 0..2 {
        wire.send(FORGED.replace("close, ", ""));
        assert_eq!(wire.message().unwrap().status(), 200);
    }
    cert.pem()
}

#[test]
fn the_application_hears_of_the_certificate_from_us_alone() {
    let (site, issuer) = (Site::new(), authority("clients"));
    // A certificate of our own with a SPIFFE ID.
    let key = KeyPair::generate().unwrap();
    let own = named(vec![dns("a.test"), uri("spiffe://corp/edge")], "edge");
    fs::write(site.folder.path().join("a.pem"), own.signed_by(&key, &site.authority.issuer).unwrap().pem()).unwrap();
    fs::write(site.folder.path().join("a.key"), key.serialize_pem()).unwrap();
    let (origin, requests) = Origin::recording(OK);
    let setup = |forward: &str| asking(&site, &issuer, &origin, &format!("tls.forward_client_cert = \"{forward}\""));
    let names =
        ["client-cert", "x-forwarded-client-cert", "client-cert-chain", "client_cert", "x_forwarded_client_cert"];
    let proxy = setup("off").listener("trusted_proxies = [\"127.0.0.0/8\"]\nstrict_paths = false").start();
    for (forward, sent) in
        [("off", [false; 2]), ("client-cert", [true, false]), ("xfcc", [false, true]), ("both", [true; 2])]
    {
        proxy.reload(&setup(forward).listener("trusted_proxies = [\"127.0.0.0/8\"]\nstrict_paths = false").text());
        let params = named(vec![uri("spiffe://corp/ns/shop"), dns("web.corp"), dns("b.corp")], "sh\"op; a=b, c\\");
        let pem = told(params, &site, &issuer, &proxy);
        let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let hash = fingerprint(&pem);
        let xfcc = format!(
            "By=spiffe://corp/edge;Hash={hash};Subject=\"CN=sh\\22op\\; a=b\\, c\\5C\";URI=spiffe://corp/ns/shop;DNS=web.corp;DNS=b.corp"
        );
        for _ in 0..2 {
            let request = next(&requests);
            let [cert, element, ..] = names.map(|name| request.field(name));
            assert_eq!(cert, sent[0].then(|| format!(":{lines}:")), "{forward}");
            assert_eq!(element, sent[1].then(|| xfcc.clone()), "{forward}");
            assert_eq!(names[2..].iter().map(|name| request.field(name)).collect::<Vec<_>>(), [None, None, None]);
        }
    }
    // A route may keep it from an application.
    proxy.reload(&setup("both").route("request_headers = { remove = [\"client-cert\"] }").text());
    told(params(1), &site, &issuer, &proxy);
    for _ in 0..2 {
        let request = next(&requests);
        assert!(request.field("client-cert").is_none() && request.field("x-forwarded-client-cert").is_some());
    }
    let plain = Setup::to(&[&origin.address]).listener("trusted_proxies = [\"127.0.0.0/8\"]").start();
    assert_eq!(plain.ask(FORGED).status(), 200);
    let request = next(&requests);
    assert_eq!(names.map(|name| request.field(name).is_some()), [false; 5]);
}

/// The SHA-256 of a certificate, in hexadecimal digits.
/// A certificate of which the application cannot be told is not passed over in silence.
#[test]
fn a_certificate_that_is_too_large_to_be_told_is_refused() {
    let (site, issuer) = (Site::new(), authority("clients"));
    let (origin, requests) = Origin::recording(OK);
    let names = (0..200).map(|number| dns(&format!("{number}.{}.corp", "x".repeat(45)))).collect();
    let params = named(names, "large");
    for (forward, status) in [("off", 200), ("client-cert", 431), ("xfcc", 431), ("both", 431)] {
        let proxy = asking(&site, &issuer, &origin, &format!("tls.forward_client_cert = \"{forward}\"")).start();
        for version in [&TLS13, &TLS12] {
            let mut wire = showing(&site, &issuer, params.clone(), version).connect(&proxy, "public");
            wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(wire.message().unwrap().status(), status, "{forward}");
        }
    }
    assert_eq!(requests.try_iter().count(), 2);
}

fn fingerprint(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let digest = digest(&SHA256, &der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new setting holds for connections that are open.
#[test]
fn connections_from_before_another_setting_end() {
    let (site, issuer) = (Site::new(), authority("clients"));
    let (origin, requests) = Origin::recording(OK);
    let setup = |forward: &str| asking(&site, &issuer, &origin, &format!("tls.forward_client_cert = \"{forward}\""));
    let proxy = setup("xfcc").start();
    let client = showing(&site, &issuer, params(1), &TLS13);
    let mut idle = client.connect(&proxy, "public");
    idle.send(GET);
    assert_eq!(idle.message().unwrap().status(), 200);
    assert!(next(&requests).field("x-forwarded-client-cert").is_some());
    proxy.reload(&setup("off").text());
    assert_eq!(idle.end(), End::Clean(Vec::new()));
    assert_eq!(client.ask(&proxy, "public").1, HandshakeKind::Resumed);
    assert!(next(&requests).field("x-forwarded-client-cert").is_none());
}

/// Each connection of the origin shows another certificate, each client another one every few requests, and cairn has new ones on both
/// sides with each reload. `CAIRN_SWAPS` is how many of these.
#[test]
fn certificates_of_all_sides_change_under_load() {
    let swaps = std::env::var("CAIRN_SWAPS").ok().and_then(|count| count.parse().ok()).unwrap_or(20);
    let (site, issuer) = (Site::new(), authority("clients"));
    site.authority.write(site.folder.path(), "own", &["proxy"], &KeyPair::generate().unwrap());
    fs::write(site.folder.path().join("origin-ca.pem"), site.authority.issuer.pem()).unwrap();
    let shown: Vec<_> = (0..8).map(|_| origin_config(&site)).collect();
    let origin = Origin::start(move |wire, number| {
        let connection = rustls::ServerConnection::new(Arc::clone(&shown[number % shown.len()])).unwrap();
        let mut wire = Wire::over(rustls::StreamOwned::new(connection, wire.stream));
        while wire.message().is_some() {
            wire.send(OK);
        }
    });
    let folder = site.folder.path().display();
    let cluster = format!(
        "pool.idle = \"50ms\"\ntls = {{ ca = \"{folder}/origin-ca.pem\", server_name = \"origin.test\", cert = \"{folder}/own.pem\", \
         key = \"{folder}/own.key\" }}"
    );
    let setup = asking(&site, &issuer, &origin, "").cluster(&cluster);
    let proxy = setup.start();
    let (done, served) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 3]);
    std::thread::scope(|scope| {
        for count in &served {
            let (site, issuer, address, done) = (&site, &issuer, proxy.address("public"), &done);
            scope.spawn(move || {
                for version in BOTH.into_iter().cycle() {
                    let client = showing(site, issuer, params(1), version);
                    for _ in 0..5 {
                        let stream = rustls::StreamOwned::new(client.connection("a.test"), tcp(address));
                        let mut wire = Wire::over(stream);
                        wire.send(GET);
                        assert_eq!(wire.message().expect("an answer").text(), "hi");
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        for _ in 0..swaps {
            let before = served.each_ref().map(|count| count.load(Ordering::SeqCst));
            site.add("a", &["a.test"]);
            site.authority.write(site.folder.path(), "own", &["proxy"], &KeyPair::generate().unwrap());
            proxy.reload(&setup.text());
            // Everyone has been served by way of the new ones.
            poll(|| {
                served.iter().zip(before).all(|(now, before)| now.load(Ordering::SeqCst) > before + 1).then_some(())
            });
        }
        done.store(true, Ordering::SeqCst);
    });
    let status = proxy.status();
    assert_eq!((failures(&proxy), &status["endpoint_tls_failures"]), ([0, 0, 0], &serde_json::json!([0, 0, 0, 0])));
}

/// An origin that asks for certificates, with a new one of its own.
fn origin_config(site: &Site) -> Arc<rustls::ServerConfig> {
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(site.authority.roots())).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(site.authority.sign(&["origin.test"], &key).as_bytes()).unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let builder = rustls::ServerConfig::builder().with_client_cert_verifier(verifier);
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// All names of a listener have one policy, so that a client may ask for one and send a request for another (RFC 9110 section 7.4).
#[test]
fn another_host_than_that_of_the_handshake_is_served() {
    let (site, issuer, origin) = (Site::new(), authority("clients"), Origin::answering(OK));
    site.add("b", &["b.test"]);
    let keys = site.keys(&["a", "b"]);
    let folder = site.folder.path().display();
    issuer.write_ca(site.folder.path());
    let keys = format!("{keys}\ntls.client_ca = \"{folder}/ca.pem\"");
    let proxy = Setup::to(&[&origin.address]).listener(&keys).start();
    let mut wire = showing(&site, &issuer, params(1), &TLS13).connect(&proxy, "public");
    for host in ["a.test", "b.test", "c.test"] {
        wire.send(GET.replace("a.test", host));
        assert_eq!(wire.message().unwrap().status(), 200, "{host}");
    }
}
