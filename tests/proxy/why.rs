//! `cairn why`: what became of a request; and that each failure has one reason, in the answer, in the log and there. Not here: what
//! leads to a failure (`failures`, `bounds`, `queues`, …).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use cairn::exchange::Failure;
use cairn::http::path::PathError;
use cairn::http::{RequestError, ResponseError, TrailerError};
use cairn::http2::head::HeadError;
use cairn::tls::client_hello::HelloError;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::harness::{Origin, Proxy, Setup, Wire, closed, poll};
use crate::metrics::{metrics, samples};
use crate::tls::Authority;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /orders/7?secret=1 HTTP/1.1\r\nHost: a\r\n";

/// What `cairn why --json` says of a request.
fn why(proxy: &Proxy, id: &str) -> Value {
    let output = proxy.verb(&["why", id, "--json"]);
    assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Failures that no test can provoke at will over sockets, or of which nothing could ask, and who shows them instead.
const ELSEWHERE: [(&str, &str); 14] = [
    ("Login", "towards an origin of HTTP/2: http2_origins.rs"),
    ("Head", "over HTTP/2: http2.rs"),
    ("Refused", "by an origin of HTTP/2: http2_origins.rs"),
    ("NoStream", "the same"),
    ("Http2", "the same"),
    ("WebSocketKey", "the same: http2_tunnels.rs"),
    ("NoExtendedConnect", "the same: http2_tunnels.rs"),
    ("UnknownProtocol", "from clients of HTTP/2 alone: http2_tunnels.rs"),
    ("Hello", "of a connection of TCP, which has no request: tcp.rs"),
    ("HelloTimeout", "the same"),
    ("Descriptors", "when the process may open no more: limits.rs, failures.rs"),
    ("Buffers", "when 16,384 buffers are held: scarcity.rs"),
    ("Shed", "the same: scarcity.rs"),
    ("Overloaded", "when turns take too long for a second: src/exchange/overload.rs"),
];

/// The name of a cause. A new one does not compile before it is here, and then has to be in [`ALL`].
fn name(failure: Failure) -> &'static str {
    match failure {
        Failure::Request(_) => "Request",
        Failure::Path(_) => "Path",
        Failure::Misdirected => "Misdirected",
        Failure::NotSecure => "NotSecure",
        Failure::RequestBody => "RequestBody",
        Failure::RequestTrailers(_) => "RequestTrailers",
        Failure::RequestBodySize => "RequestBodySize",
        Failure::RequestHeadTimeout => "RequestHeadTimeout",
        Failure::RequestBodyTimeout => "RequestBodyTimeout",
        Failure::RequestBodySlow => "RequestBodySlow",
        Failure::ClientGone => "ClientGone",
        Failure::RequestWithoutTls => "RequestWithoutTls",
        Failure::Hello(_) => "Hello",
        Failure::HelloTimeout => "HelloTimeout",
        Failure::Method => "Method",
        Failure::MaxForwards => "MaxForwards",
        Failure::Asterisk => "Asterisk",
        Failure::TenantRequests => "TenantRequests",
        Failure::TenantRate => "TenantRate",
        Failure::NoRoute => "NoRoute",
        Failure::NoEndpoint => "NoEndpoint",
        Failure::QueueFull => "QueueFull",
        Failure::QueueTimeout => "QueueTimeout",
        Failure::Connect => "Connect",
        Failure::ConnectTimeout => "ConnectTimeout",
        Failure::TlsCertificate => "TlsCertificate",
        Failure::TlsProtocol => "TlsProtocol",
        Failure::TlsAlert => "TlsAlert",
        Failure::Closed => "Closed",
        Failure::Reset => "Reset",
        Failure::ResponseTimeout => "ResponseTimeout",
        Failure::Response(_) => "Response",
        Failure::ResponseBody => "ResponseBody",
        Failure::Switch => "Switch",
        Failure::InterimFlood => "InterimFlood",
        Failure::Descriptors => "Descriptors",
        Failure::Buffers => "Buffers",
        Failure::Shed => "Shed",
        Failure::Overloaded => "Overloaded",
        Failure::Connections => "Connections",
        Failure::Head(_) => "Head",
        Failure::Login => "Login",
        Failure::Refused => "Refused",
        Failure::NoStream => "NoStream",
        Failure::Http2 => "Http2",
        Failure::WebSocketKey => "WebSocketKey",
        Failure::NoExtendedConnect => "NoExtendedConnect",
        Failure::UnknownProtocol => "UnknownProtocol",
    }
}

/// One of each.
const ALL: [Failure; 48] = [
    Failure::WebSocketKey,
    Failure::NoExtendedConnect,
    Failure::UnknownProtocol,
    Failure::Login,
    Failure::Head(HeadError::MissingPseudo),
    Failure::Refused,
    Failure::NoStream,
    Failure::Http2,
    Failure::Request(RequestError::MissingHost),
    Failure::Path(PathError::EncodedNul),
    Failure::Misdirected,
    Failure::NotSecure,
    Failure::RequestBody,
    Failure::RequestTrailers(TrailerError::TooLarge),
    Failure::RequestBodySize,
    Failure::RequestHeadTimeout,
    Failure::RequestBodyTimeout,
    Failure::RequestBodySlow,
    Failure::ClientGone,
    Failure::RequestWithoutTls,
    Failure::Hello(HelloError::TooLarge),
    Failure::HelloTimeout,
    Failure::Method,
    Failure::MaxForwards,
    Failure::Asterisk,
    Failure::TenantRequests,
    Failure::TenantRate,
    Failure::NoRoute,
    Failure::NoEndpoint,
    Failure::QueueFull,
    Failure::QueueTimeout,
    Failure::Connect,
    Failure::ConnectTimeout,
    Failure::TlsCertificate,
    Failure::TlsProtocol,
    Failure::TlsAlert,
    Failure::Closed,
    Failure::Reset,
    Failure::ResponseTimeout,
    Failure::Response(ResponseError::BadStatus),
    Failure::ResponseBody,
    Failure::Switch,
    Failure::InterimFlood,
    Failure::Descriptors,
    Failure::Buffers,
    Failure::Shed,
    Failure::Overloaded,
    Failure::Connections,
];

/// Cases: the cause, the listener, the request. A request to `/x` goes to the cluster `x`.
const CASES: [(&str, &str, &str); 32] = [
    ("Request", "public", "GET / HTTP/1.1\r\n\r\n"),
    ("Request", "public", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Path", "public", "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Misdirected", "public", "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("NotSecure", "strict", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("RequestBody", "public", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    (
        "RequestTrailers",
        "public",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na b: c\r\n\r\n",
    ),
    ("RequestBodySize", "public", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n"),
    ("RequestHeadTimeout", "public", "GET / HTTP/1.1\r\nHost: a\r\n"),
    ("RequestBodyTimeout", "public", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"),
    ("RequestBodySlow", "rate", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"),
    ("ClientGone", "public", "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("RequestWithoutTls", "tls", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Method", "public", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("MaxForwards", "public", "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
    ("Asterisk", "public", "OPTIONS * HTTP/1.1\r\nHost: moved\r\n\r\n"),
    ("NoRoute", "public", "GET / HTTP/1.1\r\nHost: other\r\n\r\n"),
    ("NoEndpoint", "public", "GET /down HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("QueueFull", "public", "GET /full HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("QueueTimeout", "public", "GET /queue HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Connect", "public", "GET /refusing HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("ConnectTimeout", "public", "GET /unaccepting HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("TlsCertificate", "public", "GET /certificate HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("TlsProtocol", "public", "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("TlsAlert", "public", "GET /alert HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Closed", "public", "GET /closing HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Reset", "public", "GET /resetting HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("ResponseTimeout", "public", "GET /late HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Response", "public", "GET /garbage HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("ResponseBody", "public", "GET /short HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Switch", "public", "GET /switching HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("InterimFlood", "public", "GET /interims HTTP/1.1\r\nHost: a\r\n\r\n"),
];

/// Shown with a setup of their own below.
const APART: [&str; 3] = ["Connections", "TenantRequests", "TenantRate"];

#[test]
fn the_table_of_failures_is_whole() {
    let names: BTreeSet<_> = ALL.into_iter().map(name).collect();
    assert_eq!(names.len(), ALL.len(), "each once");
    let shown = CASES.iter().map(|(name, ..)| *name).chain(ELSEWHERE.iter().map(|(name, _)| *name)).chain(APART);
    assert_eq!(shown.collect::<BTreeSet<_>>(), names);
}

/// An origin of each kind, by the name of its cluster.
fn origins() -> Vec<(&'static str, Origin)> {
    let answers = |answer: &'static str| {
        Origin::start(move |mut wire, _| {
            drop(wire.head());
            wire.send(answer);
        })
    };
    let silent = || Origin::start(|mut wire, _| drop(wire.head().map(|_| wire.end())));
    vec![
        ("silent", silent()),
        ("late", silent()),
        ("full", silent()),
        ("queue", silent()),
        (
            "plain",
            Origin::start(|mut wire, _| {
                wire.take(100, &mut |_| ());
                wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            }),
        ),
        ("closing", Origin::start(|mut wire, _| drop(wire.head()))),
        (
            "resetting",
            Origin::start(|mut wire, _| {
                drop(wire.head());
                wire.abort();
            }),
        ),
        ("garbage", answers("HTTP/1.1 2x0 OK\r\n\r\n")),
        ("short", answers("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")),
        ("switching", answers("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")),
        (
            "interims",
            Origin::start(|mut wire, _| {
                drop(wire.head());
                wire.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200));
                wire.end();
            }),
        ),
    ]
}

fn cluster(name: &str, address: &str) -> String {
    let more = match name {
        "late" => "timeouts.response = \"100ms\"",
        "full" => "limits = { requests = 1 }",
        "queue" => "limits = { requests = 1, queue = 1, queue_timeout = \"100ms\" }",
        "unaccepting" => "timeouts.connect = \"100ms\"",
        "certificate" => "tls = { server_name = \"a\" }",
        "plain" => "tls = { server_name = \"a\" }",
        "alert" => "tls = { ca = \"CERT/ca.pem\", server_name = \"a\" }",
        _ => "",
    };
    format!(
        "[[route]]\nname = \"to-{name}\"\nhosts = [\"a\"]\npath = \"/{name}\"\ncluster = \"{name}\"\n\
         [[cluster]]\nname = \"{name}\"\nendpoints = [\"{address}\"]\n{more}\n"
    )
}

/// The reason that `case` gets, with the identifier of the request, by the last line of the log.
fn provoke(proxy: &Proxy, (name, listener, request): (&str, &str, &str), number: usize) -> (Value, Option<String>) {
    let mut client = Wire::connect(proxy.address(listener));
    client.send(request);
    let told = match name {
        "ClientGone" => {
            poll(|| (proxy.status()["exchanges"] == 3).then_some(()));
            client.abort();
            None
        }
        "ResponseBody" => {
            drop(client.head());
            client.end();
            None
        }
        "RequestBodySlow" => {
            let mut twin = client.twin();
            let drip = thread::spawn(move || {
                use std::io::Write;
                while twin.stream.write_all(b"x").is_ok() {
                    thread::park_timeout(Duration::from_millis(5));
                }
            });
            let answer = client.message();
            client.end();
            drop(client);
            drip.join().unwrap();
            answer.map(|answer| answer.reason())
        }
        "InterimFlood" => loop {
            let answer = client.message().unwrap();
            if answer.status() >= 200 {
                break Some(answer.reason());
            }
        },
        _ => client.message().map(|answer| answer.reason()),
    };
    let log = proxy.folder().join("access.log");
    let line = poll(|| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let whole = text.ends_with('\n') && text.lines().count() == number;
        whole.then(|| text.lines().last().unwrap_or_default().to_owned())
    });
    (serde_json::from_str(&line).unwrap(), told)
}

/// Answers made here and responses that were cut, by reason, as metrics count them.
fn counted(proxy: &Proxy) -> BTreeMap<String, f64> {
    let text = metrics(proxy, "");
    let names = ["cairn_local_responses_total", "cairn_responses_cut_total"];
    let all = names.iter().flat_map(|name| samples(&text, name));
    let reason = |labels: &str| labels.split("reason=\"").nth(1)?.split('"').next().map(str::to_owned);
    all.fold(BTreeMap::new(), |mut sums, (labels, value)| {
        *sums.entry(reason(labels).unwrap_or_default()).or_default() += value;
        sums
    })
}

/// The reasons that were counted between two looks, each as often as it was.
fn told_apart(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Vec<String> {
    let more = |(reason, count): (&String, &f64)| {
        let times = count - before.get(reason).copied().unwrap_or(0.0);
        std::iter::repeat_n(reason.clone(), times as usize).collect::<Vec<_>>()
    };
    now.iter().flat_map(more).collect()
}

#[test]
fn each_failure_has_one_reason_wherever_it_is_told() {
    let (_held, refusing) = closed();
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let unaccepting = full.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(unaccepting).unwrap();
    let (ok, origins) = (Origin::answering(OK), origins());
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path(), "a", &["a"], &rcgen::KeyPair::generate().unwrap());
    authority.write_ca(folder.path());
    let placed = |text: &str| text.replace("CERT", folder.path().to_str().unwrap());
    let own = placed("tls.certificates = [{ cert = \"CERT/a.pem\", key = \"CERT/a.key\" }]");
    let secure = Setup::to(&[&ok.address]).listener(&own).start();
    let demanding = placed("tls.client_auth = \"require\"\ntls.client_ca = \"CERT/ca.pem\"");
    let demanding = Setup::to(&[&ok.address]).listener(&format!("{own}\n{demanding}")).start();
    let mut tables: String = origins.iter().map(|(name, origin)| cluster(name, &origin.address)).collect();
    for (name, address) in [
        ("refusing", &*refusing),
        ("unaccepting", &unaccepting.to_string()),
        ("certificate", secure.address("public")),
        ("alert", demanding.address("public")),
        ("down", &ok.address),
    ] {
        tables += &cluster(name, address);
    }
    tables += "[[route]]\nhosts = [\"moved\"]\nredirect = { path = \"/\" }\n\
               [[listener]]\nname = \"strict\"\nbind = \"127.0.0.1:0\"\nredirect_to_https = true\n\
               [[listener]]\nname = \"rate\"\nbind = \"127.0.0.1:0\"\ntimeouts = { body = \"1s\", body_rate = \"100KiB\" }\n\
               [[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\n\
               OWN\n\
               [log]\naccess = \"FOLDER/access.log\"\n";
    let listener = "limits.body_bytes = 1000000\ntimeouts = { header = \"100ms\", body = \"100ms\" }";
    let setup = Setup::to(&[&ok.address]).managed().route("hosts = [\"a\"]").listener(listener);
    let setup = setup.more(&placed(&tables.replace("OWN", &own)));
    let proxy = setup.start();
    assert!(proxy.verb(&["endpoint", "drain", "down", &ok.address]).status.success());
    // Each holds the one place of its cluster.
    let _busy = ["/full", "/queue"].map(|path| {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    });
    poll(|| (proxy.status()["exchanges"] == 2).then_some(()));
    for (number, case) in (1..).zip(CASES) {
        let before = counted(&proxy);
        let (line, told) = provoke(&proxy, case, number);
        assert_eq!(told_apart(&before, &counted(&proxy)), [line["reason"].as_str().unwrap()], "{case:?}: {line}");
        let reason = &line["reason"];
        assert!(reason.is_string(), "{case:?}: {line}");
        if let Some(failure) = ALL.into_iter().find(|failure| name(*failure) == case.0)
            && !matches!(
                failure,
                Failure::Request(_) | Failure::Path(_) | Failure::RequestTrailers(_) | Failure::Response(_)
            )
        {
            assert_eq!(*reason, failure.answer().reason, "{case:?}: {line}");
        }
        let unseen = ["ClientGone", "ResponseBody"].contains(&case.0);
        assert_eq!(told.is_none(), unseen, "{case:?}");
        if let Some(told) = told {
            assert_eq!(*reason, told, "{case:?}: {line}");
        }
        let story = why(&proxy, line["request_id"].as_str().unwrap_or_else(|| panic!("{case:?}: {line}")));
        assert_eq!((&story["reason"], &story["status"]), (reason, &line["status"]), "{case:?}: {story}");
        assert!(!story["side"].as_str().unwrap().is_empty(), "{case:?}: {story}");
    }
}

#[test]
fn failures_of_limits_have_one_reason_as_well() {
    let origin = Origin::start(|mut wire, _| drop(wire.message().map(|_| wire.end())));
    let log = "[log]\naccess = \"FOLDER/access.log\"\n";
    let proxy = Setup::to(&[&origin.address]).managed().listener("limits.connections = 1").more(log).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    poll(|| (proxy.status()["exchanges"] == 1).then_some(()));
    let (line, told) = provoke(&proxy, ("Connections", "public", ""), 1);
    assert_eq!(
        (line["reason"].as_str(), told.as_deref()),
        (Some("too_many_connections"), Some("too_many_connections"))
    );
    assert_eq!(why(&proxy, line["request_id"].as_str().unwrap())["reason"], "too_many_connections");
    for (limit, name) in [("requests = 1", "tenant_requests"), ("requests_per_second = 1", "tenant_rate")] {
        let tenant = format!(
            "[[tenant]]\nname = \"red\"\nfile = \"red.toml\"\nclaims = [{{ host = \"*\", path_prefix = \"/red\" }}]\nlimits.{limit}\n\
             [[group]]\nname = \"of-red\"\ntenant = \"red\"\n[[group.route]]\npath = \"/for-red\"\ncluster = \"app\"\n"
        );
        let proxy = Setup::to(&[&origin.address]).managed().more(&format!("{tenant}{log}")).start();
        let request = "GET /for-red HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut busy = Vec::new();
        let refused = loop {
            let mut client = proxy.client();
            client.send(request);
            let before = busy.len();
            let answered = poll(|| {
                let held = proxy.status()["exchanges"] == before + 1;
                let text = fs::read_to_string(proxy.folder().join("access.log")).unwrap_or_default();
                (held || text.ends_with('\n')).then_some(!held)
            });
            if answered {
                break client.message().unwrap();
            }
            busy.push(client);
        };
        assert_eq!(refused.reason(), name);
        let text = fs::read_to_string(proxy.folder().join("access.log")).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(why(&proxy, line["request_id"].as_str().unwrap())["reason"], name);
    }
}

/// Without an access log, too.
#[test]
fn a_story_has_the_route_the_attempts_and_the_times() {
    let (_held, refusing) = closed();
    let closing = Origin::start(|mut wire, _| drop(wire.message()));
    let retry = "name = \"orders\"\nretry = { attempts = 2, on = [\"connect\", \"reset\"], budget = 1.0 }";
    let setup = Setup::to(&[&refusing, &closing.address]).managed().route(retry).cluster("balance = \"round_robin\"");
    let proxy = setup.listener("trusted_proxies = [\"127.0.0.0/8\"]").start();
    let answer = proxy.ask(&format!("{GET}X-Request-Id: mine\r\n\r\n"));
    assert_eq!(answer.status(), 502);
    let story = why(&proxy, "mine");
    for (key, value) in [
        ("request_id", json!("mine")),
        ("route", json!("orders")),
        ("cluster", json!("app")),
        ("listener", json!("public")),
        ("client", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("path", json!("/orders/7")),
        ("status", json!(502)),
        ("reason", json!(answer.reason())),
        ("side", json!("origin")),
    ] {
        assert_eq!(story[key], value, "{key} in {story}");
    }
    let attempts = story["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{story}");
    for (endpoint, outcome) in [(&refusing, "connect_failed"), (&closing.address, "upstream_closed")] {
        let found = attempts.iter().find(|it| it["endpoint"] == *endpoint).unwrap_or_else(|| panic!("{story}"));
        assert_eq!(found["outcome"], outcome, "{story}");
    }
    let text = String::from_utf8(proxy.verb(&["why", "mine"]).stdout).unwrap();
    for part in [
        "request      mine at 20",
        "GET /orders/7 by 127.0.0.1",
        "route        orders, cluster app",
        "attempt 2",
        "answer       status 502, upstream_closed: it is for the origin to act",
    ] {
        let other = part.replace("upstream_closed", "connect_failed");
        assert!(text.contains(part) || text.contains(&other), "{part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn slow_ones_are_remembered_and_others_are_not() {
    let origin = Origin::start(|mut wire, _| {
        while let Some(request) = wire.message() {
            if request.line().contains("/slow") {
                thread::park_timeout(Duration::from_millis(120));
            }
            wire.send(OK);
        }
    });
    let setup = Setup::to(&[&origin.address]).managed().listener("trusted_proxies = [\"127.0.0.0/8\"]");
    let proxy = setup.more("[log]\naccess = \"off\"\nslow = \"100ms\"\n").start();
    for (path, id) in [("/slow", "slow"), ("/quick", "quick")] {
        proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n"));
    }
    assert_eq!(proxy.status()["responses"][0], 2);
    let story = why(&proxy, "slow");
    assert_eq!(
        (&story["status"], &story["reason"], &story["attempts"][0]["outcome"]),
        (&json!(200), &json!(""), &json!("200"))
    );
    let unknown = proxy.verb(&["why", "quick"]);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        said.starts_with("nothing is known of request quick: the last 0 that have failed and 1 that were slow"),
        "{said}"
    );
}
