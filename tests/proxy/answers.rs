//! What cairn writes of its own: answers and their fields, fields of requests and responses, and edits of all of them.
//! Not here: which answer is given (`forwarding`, `framing`, `failures`).

use crate::harness::{Message, Origin, Setup, closed, next};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const CORS: &str =
    "response_headers = { set = { access-control-allow-origin = \"*\", strict-transport-security = \"max-age=1\" } }";

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")
}

/// All values of a field, in order.
fn values(message: &Message, name: &str) -> Vec<String> {
    let lines = message.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
}

fn is_date(text: &str) -> bool {
    text.len() == 29 && text.ends_with(" GMT") && text[3..5] == *", "
}

/// A request without Host, or in HTTP/1.0 with an empty one.
#[test]
fn a_request_without_host_asks_for_the_endpoint() {
    for fields in ["", "Host:\r\n", "Connection: keep-alive\r\n"] {
        let (origin, requests) = Origin::recording(OK);
        let proxy = Setup::to(&[&origin.address]).start();
        assert_eq!(proxy.ask(&format!("GET / HTTP/1.0\r\n{fields}\r\n")).status(), 200);
        let got = next(&requests);
        assert_eq!(values(&got, "host"), [origin.address.as_str()], "{}", got.head);
        assert_eq!(values(&got, "x-forwarded-host"), [""; 0], "{}", got.head);
        assert_eq!(values(&got, "forwarded"), ["for=127.0.0.1;proto=http"], "{}", got.head);
    }
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).route("rewrite.host = \"internal\"").start();
    proxy.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(values(&next(&requests), "host"), ["internal"]);
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost:\r\n\r\n").status(), 400);
}

/// (listener keys, redirect, request, status and location)
#[test]
fn redirects_know_host_and_scheme_or_lead_nowhere() {
    let origin = Origin::answering(OK);
    for (listener, redirect, request, expected) in [
        ("", "{ path = \"/n\" }", "GET / HTTP/1.0\r\n\r\n".to_owned(), (400, "")),
        ("", "{ scheme = \"https\" }", "GET / HTTP/1.0\r\nHost:\r\n\r\n".to_owned(), (400, "")),
        ("", "{ host = \"b\" }", "GET /x HTTP/1.0\r\n\r\n".to_owned(), (308, "http://b/x")),
        ("", "{ path = \"/n\" }", get("/", "X-Forwarded-Proto: https\r\n"), (308, "http://a.example/n")),
        (TRUSTING, "{ path = \"/n\" }", get("/", "X-Forwarded-Proto: https\r\n"), (308, "https://a.example/n")),
        (TRUSTING, "{ path = \"/n\" }", get("/", "X-Forwarded-Proto: HTTPS, http\r\n"), (308, "https://a.example/n")),
        (TRUSTING, "{ path = \"/n\" }", get("/", "X-Forwarded-Proto: gopher\r\n"), (308, "http://a.example/n")),
        (
            TRUSTING,
            "{ scheme = \"http\", path = \"/n\" }",
            get("/", "X-Forwarded-Proto: https\r\n"),
            (308, "http://a.example/n"),
        ),
        ("", "{ host = \"b\" }", get("//c.example//%7e/../x?y", ""), (308, "http://b//c.example//x?y")),
        ("", "{ host = \"b\" }", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), (200, "")),
        ("", "{ host = \"b\" }", "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), (200, "")),
    ] {
        let text = Setup::to(&[&origin.address]).listener(listener).text();
        let text = text.replacen("cluster = \"app\"", &format!("redirect = {redirect}"), 1);
        let answer = crate::harness::Proxy::start(&text, &[]).ask(&request);
        let location = answer.field("location").unwrap_or_default();
        assert_eq!((answer.status(), &*location), expected, "{redirect} {request} {}", answer.head);
    }
}

#[test]
fn a_response_without_a_date_gets_one() {
    const OLD: &str = "Tue, 15 Nov 1994 08:12:31 GMT";
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nok", None),
        ("HTTP/1.1 204 None\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nConnection: date\r\nDate: x\r\nContent-Length: 2\r\n\r\nok", None),
        ("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None),
        ("HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n\r\nok", Some(OLD)),
    ] {
        let origin = Origin::answering(head);
        let proxy = Setup::to(&[&origin.address]).start();
        let mut client = proxy.client();
        client.send(get("/", ""));
        let mut answer = client.message().unwrap();
        if answer.status() == 103 {
            assert_eq!(values(&answer, "date"), [""; 0]);
            answer = client.message().unwrap();
        }
        let dates = values(&answer, "date");
        assert_eq!(dates.len(), 1, "{}", answer.head);
        assert!(is_date(&dates[0]) && expected.is_none_or(|date| date == dates[0]), "{}", answer.head);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let day = format!("{}", now / 86_400);
        assert!(expected.is_some() || !dates[0].contains("1970"), "{day} {}", dates[0]);
    }
    let origin = Origin::answering(OK);
    for (edits, expected) in [("{ remove = [\"date\"] }", &[][..]), ("{ set = { date = \"x\" } }", &["x"])] {
        let proxy = Setup::to(&[&origin.address]).route(&format!("response_headers = {edits}")).start();
        assert_eq!(values(&proxy.ask(&get("/", "")), "date"), expected, "{edits}");
    }
}

#[test]
fn trace_stops_where_it_may_go_no_further() {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Setup::to(&[&origin.address]).route("methods = [\"TRACE\", \"OPTIONS\"]").start();
    for method in ["TRACE", "OPTIONS"] {
        for (hops, status, left) in [("0", 200, None), ("00", 200, None), ("1", 200, Some("0"))] {
            let answer = proxy.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\n\r\n"));
            assert_eq!(answer.status(), status);
            assert_eq!(answer.field("proxy-status").is_some(), left.is_none(), "{method} {hops} {}", answer.head);
            if let Some(left) = left {
                assert_eq!(next(&requests).field("max-forwards").as_deref(), Some(left));
            }
        }
    }
}

#[test]
fn connect_with_a_body_is_refused() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).route("methods = [\"CONNECT\"]").start();
    for field in ["Content-Length: 5\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"] {
        let answer = proxy.ask(&format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n{field}\r\nhello"));
        assert_eq!((answer.status(), origin.connections()), (400, 0), "{field}");
    }
}

/// (routes, request, Allow)
#[test]
fn method_not_allowed_names_the_methods_of_the_routes() {
    let origin = Origin::answering(OK);
    let text = Setup::to(&[&origin.address])
        .route("path = \"/x\"\nmethods = [\"GET\", \"PUT\", \"PURGE\"]")
        .more("[[route]]\npath = \"/x\"\nhosts = [\"b\"]\nmethods = [\"POST\"]\ncluster = \"app\"")
        .more("[[route]]\npath_prefix = \"/all\"\ncluster = \"app\"")
        .more("[[route]]\npath = \"/all/trace\"\nmethods = [\"TRACE\"]\nheaders = { x = \"1\" }\ncluster = \"app\"");
    let proxy = text.start();
    let all = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    for (request, status, allow) in [
        ("TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n", 405, "GET, PUT, PURGE"),
        ("TRACE /x HTTP/1.1\r\nHost: b\r\n\r\n", 405, "GET, POST, PUT, PURGE"),
        ("TRACE /all/x HTTP/1.1\r\nHost: a\r\n\r\n", 405, all),
        ("TRACE /all/trace HTTP/1.1\r\nHost: a\r\n\r\n", 405, all),
        ("TRACE /all/trace HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", 200, ""),
        ("TRACE /y HTTP/1.1\r\nHost: a\r\n\r\n", 404, ""),
    ] {
        let answer = proxy.ask(request);
        let got = answer.field("allow").unwrap_or_default();
        assert_eq!((answer.status(), &*got), (status, allow), "{request}");
    }
    let origin = Origin::answering(OK);
    let answer = Setup::to(&[&origin.address]).start().ask("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    assert_eq!((answer.status(), answer.field("allow").as_deref()), (405, Some(all)));
}

/// Whatever is answered once the route is known has the fields that the route sets.
#[test]
fn answers_of_our_own_are_edited_by_the_route() {
    let (_socket, nobody) = closed();
    let broken = Origin::answering("HTTP/1.1 2 OK\r\n\r\n");
    let post = |length: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    for (endpoint, listener, request, status) in [
        (&nobody, "", get("/", ""), 502),
        (&broken.address, "", get("/", ""), 502),
        (&broken.address, "", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        (&broken.address, "", "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n".to_owned(), 200),
        (&broken.address, "limits.body_bytes = 10", post(11), 413),
        (&broken.address, "timeouts.body = \"100ms\"", post(9), 408),
    ] {
        let proxy = Setup::to(&[endpoint]).listener(listener).route(CORS).start();
        let answer = proxy.ask(&request);
        assert_eq!(answer.status(), status, "{request}");
        for name in ["access-control-allow-origin", "strict-transport-security"] {
            assert_eq!(values(&answer, name).len(), 1, "{request} {}", answer.head);
        }
        // What is refused before it has a route has none to edit it.
        let answer = proxy.ask("GET / HTTP/1.1\r\n\r\n");
        assert_eq!((answer.status(), answer.field("access-control-allow-origin")), (400, None));
    }
    let edits = "response_headers = { set = { content-type = \"a/b\", date = \"d\" }, remove = [\"proxy-status\"] }";
    let answer = Setup::to(&[&nobody]).route(edits).start().ask(&get("/", ""));
    let got = ["content-type", "date", "proxy-status"].map(|name| values(&answer, name).join("|"));
    assert_eq!(got, ["a/b", "d", ""], "{}", answer.head);
}

/// (what the route says besides its action, and each field's values)
#[test]
fn a_routes_own_answer_has_each_field_once() {
    let origin = Origin::answering(OK);
    let respond = "respond = { body = \"x\", headers = { date = \"d\", content-type = \"a/b\", location = \"/l\" } }";
    let redirect = "redirect = { host = \"b\" }";
    for (keys, date, location, kind) in [
        (respond.to_owned(), "d", "/l", "a/b"),
        (format!("{respond}\nresponse_headers = {{ set = {{ date = \"e\", location = \"/m\" }} }}"), "e", "/m", "a/b"),
        (format!("{respond}\nresponse_headers = {{ remove = [\"date\", \"content-type\"] }}"), "", "/l", ""),
        (
            "respond = { body = \"x\" }\nresponse_headers = { add = { date = \"f\" } }".into(),
            "f",
            "",
            "text/plain; charset=utf-8",
        ),
        (format!("{redirect}\nresponse_headers = {{ set = {{ location = \"/n\", date = \"g\" }} }}"), "g", "/n", ""),
        (
            format!("{redirect}\nresponse_headers = {{ add = {{ location = \"/o\" }}, remove = [\"date\"] }}"),
            "",
            "/o",
            "",
        ),
    ] {
        let text = Setup::to(&[&origin.address]).text().replacen("cluster = \"app\"", &keys, 1);
        let answer = crate::harness::Proxy::start(&text, &[]).ask(&get("/", ""));
        let got = ["date", "location", "content-type"].map(|name| values(&answer, name).join("|"));
        assert_eq!(got, [date, location, kind], "{keys}");
    }
}

const OWN: [(&str, &str); 6] = [
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-host", "a.example"),
    ("forwarded", "for=127.0.0.1;host=\"a.example\";proto=http"),
    ("via", "1.1 cairn"),
    ("x-request-id", ""),
];

#[test]
fn what_cairn_writes_into_requests_can_be_edited() {
    let sent: String = OWN.iter().map(|(name, _)| format!("{name}: 9\r\n")).collect();
    for (name, ours) in OWN {
        for listener in ["", TRUSTING] {
            for (edit, expected) in [
                (format!("set = {{ {name} = \"v\" }}"), Some("v")),
                (format!("set = {{ {} = \"v\" }}", name.to_uppercase()), Some("v")),
                (format!("remove = [\"{name}\"]"), None),
                (format!("add = {{ {name} = \"v\" }}"), Some("+")),
            ] {
                let (origin, requests) = Origin::recording(OK);
                let proxy = Setup::to(&[&origin.address])
                    .listener(listener)
                    .route(&format!("request_headers = {{ {edit} }}"))
                    .start();
                proxy.ask(&get("/", &sent));
                let got = next(&requests);
                let found = values(&got, name);
                match expected {
                    Some("+") => {
                        assert!(found.len() > 1 && found.last().is_some_and(|last| last == "v"), "{edit} {}", got.head)
                    }
                    expected => assert_eq!(found, Vec::from_iter(expected), "{listener} {edit} {}", got.head),
                }
                // The others are as ever.
                for (other, value) in OWN.iter().filter(|(other, _)| *other != name && listener.is_empty()) {
                    let found = values(&got, other);
                    assert!(found.last().is_some_and(|last| value.is_empty() || last == value), "{edit} {}", got.head);
                }
            }
        }
        assert!(ours.is_empty() || !ours.contains('9'));
    }
}

#[test]
fn a_request_without_host_asks_for_the_endpoint_by_its_name() {
    let (origin, requests) = Origin::recording(OK);
    let named = origin.address.replace("127.0.0.1", "localhost");
    let named = ["unix:/nowhere".to_owned(), named];
    let endpoints = format!("endpoints = [{{ address = {:?}, weight = 0 }}, {:?}]", named[0], named[1]);
    let text = Setup::to(&["127.0.0.1:1"]).text().replace("endpoints = [\"127.0.0.1:1\"]", &endpoints);
    let proxy = crate::harness::Proxy::start(&text, &[]);
    proxy.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(values(&next(&requests), "host"), [named[1].as_str()]);
}
