//! One port for TLS and plain text, as the first byte says. Not here: TLS by itself (`tls`).

use std::process::Command;

use rustls::StreamOwned;

use crate::harness::{End, Origin, Proxy, Setup, Wire, poll};
use crate::tls::{Drip, Site, tcp};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET /path HTTP/1.1\r\nHost: a.test\r\n\r\n";
/// Says how the client speaks.
const ROUTES: &str = "[[route]]\npath = \"/path\"\nscheme = \"https\"\nrespond = { body = \"secure\" }\n\
                      [[route]]\npath = \"/path\"\nscheme = \"http\"\nrespond = { body = \"clear\" }";

fn permissive(site: &Site, origin: &Origin, keys: &str) -> Setup {
    let keys = format!("{}\ntls.mode = \"permissive\"\n{keys}", site.keys(&["a"]));
    Setup::to(&[&origin.address]).listener(&keys).more(ROUTES).managed()
}

fn plain_text(proxy: &Proxy) -> u64 {
    proxy.status()["listeners"][0]["plain_text"].as_u64().unwrap()
}

#[test]
fn one_port_takes_both_and_counts_who_is_in_the_clear() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = permissive(&site, &origin, "").start();
    let mut plain = proxy.client();
    let mut secure = site.client().connect(&proxy, "public");
    for _ in 0..2 {
        plain.send(GET);
        assert_eq!(plain.message().unwrap().text(), "clear");
        secure.send(GET);
        assert_eq!(secure.message().unwrap().text(), "secure");
        assert_eq!(plain_text(&proxy), 1, "connections are counted");
    }
    proxy.said("cairn: listener public: client 127.0.0.1 speaks plain text");
    assert_eq!(proxy.ask(GET).text(), "clear");
    assert_eq!(site.client().ask(&proxy, "public").0.text(), "secure");
    assert_eq!(plain_text(&proxy), 2);
    let mut metrics = Wire::connect(proxy.admin());
    metrics.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = metrics.message().unwrap();
    assert!(metrics.text().contains("cairn_tls_plain_text_connections_total{listener=\"public\"} 2\n"));
    // Both as other programs speak.
    let port = proxy.address("public").rsplit(':').next().unwrap();
    for (scheme, text) in [("http", "clear"), ("https", "secure")] {
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--resolve", &format!("a.test:{port}:127.0.0.1")]);
        let output = curl.arg(format!("{scheme}://a.test:{port}/path")).output().expect("curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_first_byte_may_come_late_and_alone() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let timeouts = "timeouts = { header = \"300ms\", idle = \"10s\" }";
    let proxy = permissive(&site, &origin, &format!("limits.handshakes = 1\n{timeouts}")).start();
    let (mut plain, late) = (proxy.client(), tcp(proxy.address("public")));
    let _silent: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    // Longer than a head or a handshake may take.
    let mut stalled = proxy.client();
    stalled.send("G");
    assert_eq!(stalled.message().unwrap().status(), 408);
    plain.send("G");
    plain.send(&GET[1..]);
    assert_eq!(plain.message().unwrap().text(), "clear");
    let mut secure = Wire::over(StreamOwned::new(site.client().connection("a.test"), Drip(late)));
    secure.send(GET);
    assert_eq!(secure.message().unwrap().text(), "secure");
    // From the first byte on, a handshake has its time.
    let mut stalled = proxy.client();
    stalled.send([0x16]);
    assert_eq!(stalled.end(), End::Clean(Vec::new()));
    poll(|| (proxy.status()["handshakes"]["failed"] == 1).then_some(()));
}

#[test]
fn who_says_nothing_is_let_go() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = permissive(&site, &origin, "timeouts = { idle = \"200ms\" }").start();
    assert_eq!(proxy.client().end(), End::Clean(Vec::new()));
    let mut garbage = proxy.client();
    garbage.send([0x80, 0x2e, 1, 3, 1, 0x0d, 0x0a, 0x0d, 0x0a]);
    assert_eq!(garbage.message().unwrap().status(), 400);
    assert_eq!(proxy.ask(GET).text(), "clear");
}

#[test]
fn a_listener_that_becomes_strict_takes_no_more_plain_text() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let setup = permissive(&site, &origin, "");
    let proxy = setup.start();
    let (mut plain, mut undecided) = (proxy.client(), proxy.client());
    plain.send(GET);
    assert_eq!(plain.message().unwrap().text(), "clear");
    proxy.reload(&setup.text().replace("permissive", "strict"));
    assert_eq!(plain.end(), End::Clean(Vec::new()));
    assert_eq!(undecided.end(), End::Clean(Vec::new()));
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), &*answer.reason()), (400, "tls_required"));
    assert_eq!(site.client().ask(&proxy, "public").0.text(), "secure");
    // And back: what was plain text becomes TLS, too.
    proxy.reload(&setup.text());
    assert_eq!(proxy.ask(GET).text(), "clear");
}

/// The way into mutual TLS: who comes with TLS shows a certificate, who comes without is nobody.
#[test]
fn plain_text_is_nobody_where_certificates_are_asked_for() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    site.authority.write_ca(site.folder.path());
    let keys = format!("tls.client_ca = \"{}/ca.pem\"", site.folder.path().display());
    let known = "[[route]]\npath = \"/path\"\nclient = \"client\"\nrespond = { body = \"known\" }";
    let proxy = permissive(&site, &origin, &keys).more(known).start();
    assert_eq!(proxy.ask(GET).text(), "clear");
    site.client().refusal(&proxy, "public");
    let key = rcgen::KeyPair::generate().unwrap();
    let identity = Some((site.authority.sign(&["client"], &key), &key));
    let suites = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
    let client = crate::tls::Client::of(site.authority.roots(), &[&rustls::version::TLS13], suites, identity);
    assert_eq!(client.ask(&proxy, "public").0.text(), "known");
}

#[test]
fn explain_and_check_know_both() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let proxy = permissive(&site, &origin, "").start();
    for (url, answer) in [("http://a.test/path", "5 bytes"), ("https://a.test/path", "6 bytes"), ("/path", "6 bytes")] {
        let output = proxy.verb(&["explain", "GET", url]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(answer), "{url}: {text}");
    }
    let text = String::from_utf8(proxy.verb(&["check"]).stdout).unwrap();
    assert!(
        text.contains("note: listener public takes plain text, too") && !text.contains("takes no request"),
        "{text}"
    );
}
