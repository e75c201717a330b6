//! Which fields, targets and paths an origin and a client get to see. Not here: framing (`framing`).

use crate::harness::{Message, Origin, Setup, next};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

/// What the origin gets of one request.
fn forwarded(listener: &str, route: &str, request: &str) -> Message {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).listener(listener).route(route).start();
    let answer = proxy.ask(request);
    assert_eq!(answer.status(), 200, "{request} {}", answer.head);
    next(&requests)
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}

#[test]
fn fields_of_the_connection_stay_on_it() {
    let got = forwarded(
        "",
        "",
        &get("Connection: keep-alive, X-Hop , x-forwarded-for\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-Kept: 2\r\n\
         Proxy-Connection: keep-alive\r\nTE: trailers, deflate\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eA==\r\n"),
    );
    for name in ["connection", "keep-alive", "x-hop", "proxy-connection", "upgrade", "te", "proxy-authorization"] {
        assert_eq!(got.field(name), None, "{}", got.head);
    }
    // A client cannot have ours removed.
    let kept = [("x-kept", "2"), ("host", "a.example"), ("x-forwarded-for", "127.0.0.1"), ("via", "1.1 cairn")];
    for (name, value) in kept {
        assert_eq!(got.field(name).as_deref(), Some(value), "{}", got.head);
    }
}

#[test]
fn fields_of_the_origins_connection_stay_on_it() {
    let origin = Origin::answering(
        "HTTP/1.1 200 Fine\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: o\r\n\
         Set-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = Setup::to(&[&origin.address]).start();
    let answer = proxy.ask(&get(""));
    assert_eq!(answer.line(), "HTTP/1.1 200 Fine");
    let gone = ["connection", "x-hop", "keep-alive"].map(|name| answer.field(name));
    assert_eq!(gone, [None, None, None], "{}", answer.head);
    assert_eq!(
        (answer.field("server").as_deref(), answer.field("set-cookie").as_deref()),
        (Some("o"), Some("a=1, b=2"))
    );
}

/// (listener keys, field sent, field received)
#[test]
fn forwarding_fields_are_replaced_for_strangers_and_appended_to_for_trusted_peers() {
    let ours = "for=127.0.0.1;host=\"a.example\";proto=http";
    let appended = format!("for=1.2.3.4, {ours}");
    for (listener, sent, name, value) in [
        ("", "X-Forwarded-For: 1.2.3.4\r\n", "x-forwarded-for", "127.0.0.1"),
        ("", "X-Forwarded-Proto: https\r\n", "x-forwarded-proto", "http"),
        ("", "X-Forwarded-Host: b.example\r\n", "x-forwarded-host", "a.example"),
        ("", "Forwarded: for=1.2.3.4\r\n", "forwarded", ours),
        (TRUSTING, "", "x-forwarded-for", "127.0.0.1"),
        (
            TRUSTING,
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: ::1\r\n",
            "x-forwarded-for",
            "1.2.3.4, ::1, 127.0.0.1",
        ),
        (TRUSTING, "X-Forwarded-Proto: https\r\n", "x-forwarded-proto", "https"),
        (TRUSTING, "X-Forwarded-Host: b.example\r\n", "x-forwarded-host", "b.example"),
        (TRUSTING, "Forwarded: for=1.2.3.4\r\n", "forwarded", &appended),
        (TRUSTING, "X-Request-Id: abc\r\n", "x-request-id", "abc"),
        (TRUSTING, "Via: 1.0 other\r\n", "via", "1.0 other, 1.1 cairn"),
        ("trusted_proxies = [\"10.0.0.0/8\"]", "X-Forwarded-For: 1.2.3.4\r\n", "x-forwarded-for", "127.0.0.1"),
    ] {
        let got = forwarded(listener, "", &get(sent));
        assert_eq!(got.field(name).as_deref(), Some(value), "{listener} {sent}{}", got.head);
    }
    for claim in [
        "x-forwarded-port",
        "X-Forwarded-Prefix",
        "x-real-ip",
        "True-Client-IP",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-Url",
        "X-HTTP-Method-Override",
    ] {
        let sent = get(&format!("{claim}: 9\r\nX-Forwarded: 1\r\n"));
        let got = ["", TRUSTING].map(|listener| forwarded(listener, "", &sent));
        assert_eq!(got.each_ref().map(|got| got.field(claim)), [None, Some("9".to_owned())], "{claim}");
        assert_eq!(got[0].field("x-forwarded").as_deref(), Some("1"));
    }
    // Applications read it as the variable HTTP_PROXY.
    for listener in ["", TRUSTING] {
        assert_eq!(forwarded(listener, "", &get("Proxy: http://b.example\r\n")).field("proxy"), None);
    }
    let made = [0, 1].map(|_| forwarded("", "", &get("X-Request-Id: abc\r\n")).field("x-request-id").unwrap());
    assert!(made[0] != made[1] && made.iter().all(|id| id.len() == 32), "{made:?}");
    assert_eq!(forwarded("", "", "GET / HTTP/1.0\r\n\r\n").field("via").as_deref(), Some("1.0 cairn"));
}

/// (route keys, target and host sent, target and host received)
#[test]
fn targets_are_rewritten_and_queries_kept() {
    for (route, sent, received) in [
        ("", ("/a/b?c=d&e=%2F", "a"), ("/a/b?c=d&e=%2F", "a")),
        ("", ("/?", "a:81"), ("/?", "a:81")),
        ("", ("http://b.example/x?y", "a"), ("/x?y", "b.example")),
        ("", ("http://b.example:81", "a"), ("/", "b.example:81")),
        ("", ("/a/./b/../%63//d", "a"), ("/a/%63//d", "a")),
        ("", ("/a%2Fb/%C3%A4", "a"), ("/a%2Fb/%C3%A4", "a")),
        ("path_prefix = \"/api\"\nrewrite.path_prefix = \"/v1\"", ("/api/x?y", "a"), ("/v1/x?y", "a")),
        ("path_prefix = \"/api\"\nrewrite.path_prefix = \"/\"", ("/api", "a"), ("/", "a")),
        ("path_prefix = \"/api\"\nrewrite.path_prefix = \"/\"", ("/api/x", "a"), ("/x", "a")),
        ("path_prefix = \"/api\"\nrewrite.path_prefix = \"/v1\"", ("/x/../api/./y", "a"), ("/v1/y", "a")),
        ("path = \"/old\"\nrewrite.path_prefix = \"/new\"", ("/old?q", "a"), ("/new?q", "a")),
        ("rewrite.host = \"internal:9\"", ("/", "a"), ("/", "internal:9")),
        ("hosts = [\"b.example\"]", ("http://b.example/", "a"), ("/", "b.example")),
        ("hosts = [\"*.example\"]", ("/", "A.Example:8080"), ("/", "A.Example:8080")),
    ] {
        let got = forwarded("", route, &format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", sent.0, sent.1));
        let host = got.field("host").unwrap();
        assert_eq!((got.line(), &*host), (&*format!("GET {} HTTP/1.1", received.0), received.1), "{route} {sent:?}");
    }
    let got = forwarded("", "rewrite.host = \"internal\"", &get(""));
    assert_eq!(got.field("x-forwarded-host").as_deref(), Some("a.example"));
    assert_eq!(forwarded("", "", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn ambiguous_targets_are_refused_and_strangers_are_not_found() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).route("hosts = [\"a\"]\npath_prefix = \"/api\"").start();
    for (target, host, status) in [
        ("/api/x", "a", 200),
        ("/api", "a", 200),
        ("/apix", "a", 404),
        ("/x", "a", 404),
        ("/api/../x", "a", 404),
        ("/api", "b", 404),
        ("http://b/api", "a", 404),
        ("/api/../../x", "a", 400),
        ("/api/%5cx", "a", 400),
        ("/api/%00", "a", 400),
        ("/api/%2e%2e%2fx", "a", 400),
        ("/api/%zz", "a", 400),
        ("https://a/api", "a", 421),
        ("HTTPS://a/api", "a", 421),
    ] {
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status(), status, "{target} {host}");
    }
}

#[test]
fn names_that_applications_confuse_do_not_pass_the_edge() {
    for twin in ["X_Real_Ip", "X_Forwarded_For", "x-forwarded_proto", "X_Request-Id", "Proxy_Connection"] {
        let sent = get(&format!("{twin}: 1.2.3.4\r\nX-Plain: 1\r\n"));
        for listener in ["", TRUSTING] {
            let got = forwarded(listener, "", &sent);
            assert_eq!((got.field(twin), got.field("x-plain").as_deref()), (None, Some("1")), "{twin}");
        }
    }
}

#[test]
fn fields_are_edited_both_ways() {
    let edits = "request_headers = { set = { x-set = \"s\" }, add = { x-add = \"n\" }, remove = [\"x-gone\"] }\n\
                 response_headers = { set = { x-set = \"S\" }, add = { vary = \"origin\" }, remove = [\"server\"] }";
    let (origin, requests) = Origin::recording(
        "HTTP/1.1 200 OK\r\nServer: o\r\nX-Set: 0\r\nX-SET: 1\r\nVary: accept\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = Setup::to(&[&origin.address]).route(edits).start();
    let answer = proxy.ask(&get("X-Set: 0\r\nX-Add: o\r\nX-Gone: 1\r\nX-Gone: 2\r\n"));
    let request = next(&requests);
    let values = |message: &Message, names: [&str; 3]| names.map(|name| message.field(name).unwrap_or_default());
    assert_eq!(values(&request, ["x-set", "x-add", "x-gone"]), ["s", "o, n", ""]);
    assert_eq!(values(&answer, ["x-set", "vary", "server"]), ["S", "accept, origin", ""]);
}

#[test]
fn max_forwards_counts_down() {
    let options = |hops: u32| format!("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n");
    assert_eq!(forwarded("", "", &options(3)).field("max-forwards").as_deref(), Some("2"));
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).start();
    assert_eq!((proxy.ask(&options(0)).status(), origin.connections()), (200, 0));
}
