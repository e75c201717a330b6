//! The way to https: redirects of requests in the clear, and Strict-Transport-Security. Not here: TLS (`tls`).

use crate::harness::{Origin, Proxy, Setup, next};
use crate::tls::Site;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET /path HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Status, Location and reason of an answer.
fn asked(proxy: &Proxy, request: &str) -> (u16, String, String) {
    let answer = proxy.ask(request);
    (answer.status(), answer.field("location").unwrap_or_default(), answer.reason())
}

#[test]
fn requests_in_the_clear_are_sent_to_https() {
    let origin = Origin::answering(OK);
    let routes = "[[route]]\npath_prefix = \"/.well-known/acme-challenge\"\nscheme = \"http\"\nrespond = { body = \"token\" }\n\
                  [[route]]\npath_prefix = \"/only-https\"\nscheme = \"https\"\nrespond = { body = \"secure\" }";
    let setup =
        |more: &str| Setup::to(&[&origin.address]).listener("redirect_to_https = true").listener(more).more(routes);
    let proxy = setup("").managed().start();
    let moved = |url: &str| (308, url.to_owned(), "https_required".to_owned());
    for (request, url) in [
        ("GET /path?a=1&b=%2F HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", "https://a.test/path?a=1&b=%2F"),
        ("GET http://b.test/x/../y HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://b.test/y"),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "https://[::1]/"),
        ("GET /nowhere HTTP/1.1\r\nHost: other.test\r\nX-Forwarded-Proto: https\r\n\r\n", "https://other.test/nowhere"),
        ("POST /path HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", "https://a.test/path"),
        ("HEAD /path HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://a.test/path"),
        ("GET /only-https HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://a.test/only-https"),
    ] {
        if !request.starts_with("HEAD") {
            assert_eq!(asked(&proxy, request), moved(url), "{request}");
            continue;
        }
        let mut client = proxy.client();
        client.send(request);
        assert!(client.head().unwrap().contains(&format!("\r\nlocation: {url}\r\n")), "{request}");
    }
    let challenge = proxy.ask("GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((challenge.status(), challenge.text()), (200, "token"));
    assert_eq!(asked(&proxy, "GET / HTTP/1.0\r\n\r\n").2, "missing_host");
    assert_eq!(asked(&proxy, "GET /a%00 HTTP/1.1\r\nHost: a.test\r\n\r\n").0, 400);
    // The connection is kept, a body included.
    let mut client = proxy.client();
    client.send("POST /path HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    client.send(GET);
    assert_eq!([(); 2].map(|()| client.message().unwrap().status()), [308, 308]);
    let text = String::from_utf8(proxy.verb(&["explain", "GET", "http://a.test/path?x"]).stdout).unwrap();
    assert!(text.contains("308, https_required, location https://a.test/path?x"), "{text}");
    assert_eq!(origin.connections(), 0);
    // A trusted proxy has ended the client's TLS.
    let proxy = setup("trusted_proxies = [\"127.0.0.1\"]").start();
    let forwarded = GET.replace("\r\n\r\n", "\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!((proxy.ask(&forwarded).status(), proxy.ask(GET).status()), (200, 308));
}

#[test]
fn browsers_are_told_to_stay_with_https() {
    let site = Site::new();
    let (origin, requests) = Origin::recording(OK);
    let routes = "[[route]]\npath = \"/own\"\ncluster = \"app\"\n\
                  response_headers = { set = { strict-transport-security = \"max-age=5\" } }\n\
                  [[route]]\npath = \"/none\"\ncluster = \"app\"\n\
                  response_headers = { remove = [\"strict-transport-security\"] }\n\
                  [[route]]\npath = \"/moved\"\nredirect = { path = \"/\" }\n\
                  [[route]]\npath = \"/here\"\nrespond = { body = \"hi\" }\n\
                  [[route]]\npath = \"/here-own\"\nrespond = { headers = { Strict-Transport-Security = \"max-age=6\" } }";
    let keys = format!(
        "{}\nhsts = \"1y; includesubdomains\"\ntls.mode = \"permissive\"\nredirect_to_https = true",
        site.keys(&["a"])
    );
    let proxy = Setup::to(&[&origin.address]).listener(&keys).more(routes).start();
    let mut wire = site.client().connect(&proxy, "public");
    let year = Some("max-age=31536000; includeSubDomains".to_owned());
    let other = |text: &str| Some(text.to_owned());
    for (path, status, expected) in [
        ("/path", 200, year.clone()),
        ("/moved", 308, year.clone()),
        ("/here", 200, year.clone()),
        ("/own", 200, other("max-age=5")),
        ("/none", 200, None),
        ("/here-own", 200, other("max-age=6")),
        ("/a%00", 400, year.clone()),
    ] {
        wire.send(GET.replace("/path", path));
        let answer = wire.message().unwrap();
        assert_eq!((answer.status(), answer.field("strict-transport-security")), (status, expected), "{path}");
    }
    while requests.try_recv().is_ok() {}
    // Never in the clear (RFC 6797 section 7.2).
    let answer = proxy.ask(GET);
    assert_eq!((answer.status(), answer.field("strict-transport-security")), (308, None));
    // What the origin says stands.
    let (origin, requests) =
        Origin::recording("HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=7\r\nContent-Length: 0\r\n\r\n");
    let keys = format!("{}\nhsts = \"2d\"", site.keys(&["a"]));
    let proxy = Setup::to(&[&origin.address]).listener(&keys).start();
    let (answer, _) = site.client().ask(&proxy, "public");
    assert_eq!(answer.field("strict-transport-security").as_deref(), Some("max-age=7"));
    next(&requests);
    let answer = proxy.ask(GET);
    assert_eq!((answer.reason().as_str(), answer.field("strict-transport-security")), ("tls_required", None));
}
