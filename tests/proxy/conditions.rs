//! By what a route can be chosen: by the fields that the origin gets to see, by each of them, and by the client's address, scheme and
//! port. Not here: the order of precedence (`route`).

use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, Wire};

const EDGE: &str = "";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const LAX: &str = "strict_paths = false";

/// Listener, condition, what is sent besides Host, and whether the route is taken.
type Case = (&'static str, &'static str, &'static str, bool);

/// A request line and fields of each case, sent to a route with the condition on headers and foretold by `explain`.
fn check(cases: &[Case]) {
    check_keys(cases, |condition| format!("headers = {{ {condition} }}"));
}

/// The same, with the keys that `keys` makes of a condition.
fn check_keys(cases: &[Case], keys: impl Fn(&str) -> String) {
    for listener in [EDGE, TRUSTING, LAX] {
        let cases: Vec<_> = cases.iter().filter(|case| case.0 == listener).collect();
        let mut text = format!(
            "watch = false\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n[workers]\ncount = 1\n[[listener]]\nname = \"public\"\n\
             bind = \"127.0.0.1:0\"\n{listener}\n[[route]]\nname = \"other\"\nrespond = {{ status = 202 }}\n"
        );
        for (number, (_, condition, ..)) in cases.iter().enumerate() {
            let route = format!("path = \"/{number}\"\n{}\nrespond = {{ status = 201 }}", keys(condition));
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

#[test]
fn a_route_is_chosen_by_the_address_of_the_client() {
    let cases: &[Case] = &[
        (EDGE, "client_ip = [\"127.0.0.0/8\"]", "", true),
        (EDGE, "client_ip = [\"127.0.0.1\"]", "", true),
        (EDGE, "client_ip = [\"10.0.0.0/8\", \"fd00::/8\"]", "", false),
        (EDGE, "client_ip = [\"::1\", \"127.0.0.2\"]", "", false),
        // What strangers claim is not believed.
        (EDGE, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1\r\n", false),
        (EDGE, "client_ip = [\"127.0.0.1\"]", "X-Forwarded-For: 10.0.0.1\r\n", true),
        // A trusted proxy itself, and whom it names.
        (TRUSTING, "client_ip = [\"127.0.0.1\"]", "", true),
        (TRUSTING, "client_ip = [\"127.0.0.1\"]", "X-Forwarded-For:\r\n", true),
        (TRUSTING, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1\r\n", true),
        (TRUSTING, "client_ip = [\"127.0.0.1\"]", "X-Forwarded-For: 10.0.0.1\r\n", false),
        (TRUSTING, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1:4711\r\n", true),
        (TRUSTING, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: ::ffff:10.0.0.1\r\n", true),
        (TRUSTING, "client_ip = [\"fd00::/8\"]", "X-Forwarded-For: [fd00::1]:4711\r\n", true),
        // Proxies in a row; the last one that nobody trusts may have made up what stands before it.
        (TRUSTING, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1, 127.0.0.9\r\n", true),
        (TRUSTING, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 127.0.0.9\r\n", true),
        (TRUSTING, "client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1, 192.0.2.1\r\n", false),
        (
            TRUSTING,
            "client_ip = [\"10.0.0.0/8\"]",
            "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\n",
            false,
        ),
        (TRUSTING, "client_ip = [\"192.0.2.1\"]", "X-Forwarded-For: 10.0.0.1, 192.0.2.1,127.0.0.9\r\n", true),
        (TRUSTING, "client_ip = [\"127.0.0.8\"]", "X-Forwarded-For: 127.0.0.8, 127.0.0.9\r\n", true),
        // One that is named by no address is in no network.
        (TRUSTING, "client_ip = [\"0.0.0.0/0\", \"::/0\"]", "X-Forwarded-For: 10.0.0.1, unknown\r\n", false),
        (TRUSTING, "not = { client_ip = [\"0.0.0.0/0\", \"::/0\"] }", "X-Forwarded-For: _hidden\r\n", true),
        // A client cannot have its address taken away.
        (
            TRUSTING,
            "client_ip = [\"127.0.0.1\"]",
            "X-Forwarded-For: 10.0.0.1\r\nConnection: x-forwarded-for\r\n",
            false,
        ),
        (EDGE, "not = { client_ip = [\"127.0.0.0/8\"] }", "", false),
        (EDGE, "not = { client_ip = [\"10.0.0.0/8\"] }", "X-Forwarded-For: 10.0.0.1\r\n", true),
        (TRUSTING, "not = { client_ip = [\"10.0.0.0/8\"] }", "X-Forwarded-For: 10.0.0.1\r\n", false),
    ];
    check_keys(cases, str::to_owned);
}

#[test]
fn a_route_is_chosen_by_cookies_and_by_what_is_not_there() {
    let cases: &[Case] = &[
        (EDGE, "cookies = { lang = \"de\" }", "Cookie: a=1; lang=de\r\n", true),
        (EDGE, "cookies = { lang = \"de\" }", "Cookie: a=1\r\nCookie: lang=en\r\nCookie: lang=de\r\n", true),
        (EDGE, "cookies = { lang = \"de\" }", "Cookie: lang=en\r\n", false),
        (EDGE, "cookies = { lang = \"de\" }", "Cookie: Lang=de\r\n", false),
        (EDGE, "cookies = { lang = \"de\" }", "Cookie: a=lang=de\r\n", false),
        (EDGE, "cookies = { lang = \"de\" }", "lang: de\r\n", false),
        (EDGE, "cookies = { lang = \"de\" }", "Cookie: lang=de\r\nConnection: cookie\r\n", false),
        (EDGE, "cookies = { lang = { regex = \"d.\" } }", "Cookie: lang=dk;a\r\n", true),
        (EDGE, "cookies = { beta = { present = true } }", "Cookie: beta=\r\n", true),
        (EDGE, "cookies = { beta = { present = true } }", "Cookie: beta\r\n", false),
        (EDGE, "cookies = { beta = { present = false } }", "Cookie: a=beta\r\n", true),
        (EDGE, "cookies = { a = \"1\", b = \"2\" }", "Cookie: b=2;a=1\r\n", true),
        (EDGE, "not = { cookies = { beta = { present = true } } }", "Cookie: beta=1\r\n", false),
        (EDGE, "not = { headers = { x-a = \"1\" }, query = { a = \"1\" } }", "", true),
        (EDGE, "not = { headers = { x-a = \"1\" }, query = { a = \"1\" } }", "X-A: 1\r\n", false),
        (EDGE, "not = { headers = { x-a = \"1\", x-b = \"2\" } }", "X-A: 2\r\nX-B: 2\r\n", false),
        (EDGE, "not = { methods = [\"GET\"] }", "", false),
        (EDGE, "not = { methods = [\"POST\", \"PUT\"] }", "", true),
        (EDGE, "headers = { x-a = { present = true } }\nnot = { headers = { x-a = \"1\" } }", "X-A: 2\r\n", true),
        (
            EDGE,
            "headers = { x-a = { present = true } }\nnot = { headers = { x-a = \"1\" } }",
            "X-A: 2\r\nX-A: 1\r\n",
            false,
        ),
        (EDGE, "scheme = \"http\"", "X-Forwarded-Proto: https\r\n", true),
        (EDGE, "scheme = \"https\"", "X-Forwarded-Proto: https\r\n", false),
        (TRUSTING, "scheme = \"https\"", "X-Forwarded-Proto: https\r\n", true),
        (TRUSTING, "scheme = \"https\"", "X-Forwarded-Proto: https, http\r\n", true),
        (TRUSTING, "scheme = \"https\"", "", false),
        (TRUSTING, "not = { scheme = \"http\" }", "X-Forwarded-Proto: https\r\n", true),
    ];
    check_keys(cases, str::to_owned);
}

/// A route `here` besides one that takes all else.
fn choice(listeners: &str, condition: &str) -> String {
    format!(
        "watch = false\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n[workers]\ncount = 1\n{listeners}\
         [[route]]\nrespond = {{ body = \"else\" }}\n[[route]]\n{condition}\nrespond = {{ body = \"here\" }}\n"
    )
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn a_route_is_chosen_by_the_port_of_the_listener() {
    let free: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [first, second] = [0, 1].map(|at: usize| free[at].local_addr().unwrap().port());
    drop(free);
    let listener = |name, port| format!("[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\n");
    let listeners = listener("public", first) + &listener("other", second);
    for (condition, expected) in
        [(format!("port = {second}"), ["else", "here"]), (format!("not = {{ port = {second} }}"), ["here", "else"])]
    {
        let proxy = Proxy::start(&choice(&listeners, &condition), &[]);
        for (name, expected) in ["public", "other"].into_iter().zip(expected) {
            let mut client = Wire::connect(proxy.address(name));
            // The port in Host is what the client says.
            client.send(format!("GET / HTTP/1.1\r\nHost: a:{second}\r\n\r\n"));
            assert_eq!(client.message().unwrap().text(), expected, "{condition} {name}");
        }
    }
}

#[test]
fn a_client_of_ipv4_on_a_socket_of_ipv6_has_its_ipv4_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let listener = "[[listener]]\nname = \"public\"\nbind = \"[::]:0\"\nipv6only = false\n";
    let proxy = Proxy::start(&choice(listener, "client_ip = [\"127.0.0.0/8\"]"), &[]);
    let port = proxy.address("public").rsplit_once(':').unwrap().1.to_owned();
    for (address, expected) in [("127.0.0.1", "here"), ("[::1]", "else")] {
        let mut client = Wire::connect(&format!("{address}:{port}"));
        client.send(ASK);
        assert_eq!(client.message().unwrap().text(), expected, "{address}");
    }
}

#[test]
fn a_client_of_a_unix_domain_socket_has_the_address_that_it_is_said_to_have() {
    let listener = "[[listener]]\nname = \"public\"\nbind = \"unix:FOLDER/in.sock\"\n";
    for (condition, fields, expected) in [
        ("client_ip = [\"0.0.0.0/0\", \"::/0\"]", "", "else"),
        ("client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 10.0.0.1\r\n", "here"),
        ("client_ip = [\"10.0.0.0/8\"]", "X-Forwarded-For: 11.0.0.1\r\n", "else"),
        ("not = { client_ip = [\"0.0.0.0/0\"] }", "", "here"),
        ("port = 80", "", "else"),
    ] {
        let proxy = Proxy::start(&choice(listener, condition), &[]);
        let mut client = UnixStream::connect(proxy.folder().join("in.sock")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(ASK.replace("\r\n\r\n", &format!("\r\n{fields}\r\n")).as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(expected), "{condition} {fields}: {answer}");
    }
}
