//! By which fields a route can be chosen: by those that the origin gets to see, and by each of them. Not here: the order of
//! precedence (`route`).

use std::fmt::Write;

use crate::harness::{Origin, Proxy, Setup};

const EDGE: &str = "";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const LAX: &str = "strict_paths = false";

/// Listener, condition, what is sent besides Host, and whether the route is taken.
type Case = (&'static str, &'static str, &'static str, bool);

/// A request line and fields of each case, sent to a route with the condition and foretold by `explain`.
fn check(cases: &[Case]) {
    for listener in [EDGE, TRUSTING, LAX] {
        let cases: Vec<_> = cases.iter().filter(|case| case.0 == listener).collect();
        let mut text = format!(
            "watch = false\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n[workers]\ncount = 1\n[[listener]]\nname = \"public\"\n\
             bind = \"127.0.0.1:0\"\n{listener}\n[[route]]\nname = \"other\"\nrespond = {{ status = 202 }}\n"
        );
        for (number, (_, condition, ..)) in cases.iter().enumerate() {
            let route = format!("path = \"/{number}\"\nheaders = {{ {condition} }}\nrespond = {{ status = 201 }}");
            write!(text, "[[route]]\nname = \"route-{number}\"\n{route}\n").unwrap();
        }
        let proxy = Proxy::start(&text, &[]);
        for (number, (_, condition, fields, taken)) in cases.into_iter().enumerate() {
            let answer = proxy.ask(&format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"));
            let want = if *taken { 201 } else { 202 };
            assert_eq!(answer.status(), want, "{listener} {condition}: {fields}\n{}", answer.head);
            let url = format!("http://a.example/{number}");
            let mut arguments = vec!["explain", "GET", &url];
            fields.lines().for_each(|field| arguments.extend(["-H", field]));
            let told = String::from_utf8_lossy(&proxy.verb(&arguments).stdout).into_owned();
            let told =
                told.lines().find_map(|line| line.strip_prefix("answer")?.trim().split(',').next()).unwrap_or(&told);
            assert_eq!(told, want.to_string(), "{listener} {condition}: {fields}");
        }
    }
}

#[test]
fn what_does_not_go_on_chooses_no_route() {
    check(&[
        (EDGE, "x-a = \"1\"", "X-A: 1\r\n", true),
        // Fields of the connection.
        (EDGE, "x-a = \"1\"", "X-A: 1\r\nConnection: x-a\r\n", false),
        (EDGE, "x-a = { present = true }", "Connection: close, X-A\r\nX-A: 1\r\n", false),
        (EDGE, "x-a = { present = false }", "X-A: 1\r\nConnection: x-a\r\n", true),
        (EDGE, "x-b = \"1\"", "X-A: 1\r\nConnection: x-a\r\nX-B: 1\r\n", true),
        (
            TRUSTING,
            "x-forwarded-proto = \"https\"",
            "X-Forwarded-Proto: https\r\nConnection: x-forwarded-proto\r\n",
            false,
        ),
        (TRUSTING, "authorization = { present = false }", "Authorization: a\r\nConnection: authorization\r\n", true),
        // An upgrade goes on where it is one.
        (EDGE, "upgrade = \"websocket\"", "Connection: upgrade\r\nUpgrade: websocket\r\n", true),
        (EDGE, "upgrade = \"websocket\"", "Upgrade: websocket\r\n", false),
        (EDGE, "upgrade = { present = true }", "Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        (EDGE, "expect = { present = true }", "Expect: 100-continue\r\n", false),
        (EDGE, "content-length = \"0\"", "Content-Length: 0\r\n", true),
        // Taken for another field by those who read `_` as `-`.
        (EDGE, "x_a = \"1\"", "X_A: 1\r\n", false),
        (LAX, "x_a = \"1\"", "X_A: 1\r\n", true),
        (LAX, "x_real_ip = { present = true }", "X_Real_Ip: 1.2.3.4\r\n", false),
        (EDGE, "proxy-x = { present = true }", "Proxy-X: 1\r\n", true),
    ]);
}

#[test]
fn what_strangers_claim_chooses_no_route() {
    let claims = [
        ("x-forwarded-for = \"10.0.0.1\"", "X-Forwarded-For: 10.0.0.1\r\n"),
        ("x-forwarded-proto = \"https\"", "X-Forwarded-Proto: https\r\n"),
        ("x-forwarded-host = \"b.example\"", "X-Forwarded-Host: b.example\r\n"),
        ("x-forwarded-port = \"443\"", "X-Forwarded-Port: 443\r\n"),
        ("x-forwarded-user = { regex = \"r.*\" }", "X-Forwarded-User: root\r\n"),
        ("forwarded = { present = true }", "Forwarded: for=10.0.0.1\r\n"),
        ("x-real-ip = \"10.0.0.1\"", "X-Real-IP: 10.0.0.1\r\n"),
        ("true-client-ip = \"10.0.0.1\"", "True-Client-IP: 10.0.0.1\r\n"),
        ("x-original-url = \"/admin\"", "X-Original-URL: /admin\r\n"),
        ("x-http-method-override = \"PUT\"", "X-HTTP-Method-Override: PUT\r\n"),
        ("x-request-id = \"abc\"", "X-Request-Id: abc\r\n"),
    ];
    let cases = claims
        .iter()
        .flat_map(|(condition, field)| [(EDGE, *condition, *field, false), (TRUSTING, *condition, *field, true)]);
    let absent = "x-real-ip = { present = false }";
    let more = [(EDGE, absent, "X-Real-IP: 1\r\n", true), (TRUSTING, absent, "X-Real-IP: 1\r\n", false)];
    check(&cases.chain(more).collect::<Vec<_>>());
}

#[test]
fn every_field_of_a_name_counts() {
    check(&[
        (EDGE, "x-a = \"1\"", "X-A: 1\r\nX-A: 2\r\n", true),
        (EDGE, "x-a = \"1\"", "X-A: 2\r\nX-B: 1\r\nx-a: 1\r\n", true),
        (EDGE, "x-a = \"1\"", "X-A: 2\r\nX-A: 3\r\n", false),
        (EDGE, "x-a = \"1\"", "X-A: 2, 1\r\n", false),
        (EDGE, "x-a = { regex = \"[0-9]+\" }", "X-A: a\r\nX-A: b\r\nX-A: 12\r\n", true),
        (EDGE, "x-a = { regex = \"[0-9]+\" }", "X-A: a\r\nX-A: b\r\n", false),
        (EDGE, "x-a = { present = true }", "X-A:\r\nX-A: 1\r\n", true),
        (EDGE, "x-a = { present = false }", "X-A:\r\nX-A: 1\r\n", false),
        (EDGE, "x-a = \"1\", x-b = \"2\"", "X-A: 0\r\nX-B: 0\r\nX-A: 1\r\nX-B: 2\r\n", true),
        (TRUSTING, "x-forwarded-for = \"10.0.0.1\"", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.0.0.1\r\n", true),
    ]);
}

/// An absolute target names the host, and the field is ignored (RFC 9112 section 3.2.2).
#[test]
fn a_condition_on_host_sees_the_host_that_goes_on() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = Setup::to(&[&origin.address]).route("headers = { host = \"a.example\" }").start();
    for (target, host, status) in [
        ("/", "a.example", 200),
        ("/", "b.example", 404),
        ("http://a.example/", "b.example", 200),
        ("http://b.example/", "a.example", 404),
    ] {
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status(), status, "{target} {host}");
    }
}
