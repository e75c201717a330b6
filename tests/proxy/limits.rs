//! Limits that a route has of its own: the length of bodies, and silence of client, origin and tunnel. Not here: those of listeners
//! (`bounds`) and clusters (`failures`).

use std::fs;
use std::thread;
use std::time::Duration;

use crate::harness::{End, Origin, Proxy, Setup, Wire};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Longer than every time-out that is to be over, far shorter than every other one.
const PAUSE: Duration = Duration::from_millis(600);

/// The same body with a length and in chunks, on a path.
fn posts(path: &str, length: usize) -> [String; 2] {
    let body = "x".repeat(length);
    [
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"),
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        ),
    ]
}

fn refuses(proxy: &Proxy, path: &str, length: usize) -> bool {
    let [one, other] = posts(path, length).map(|post| {
        let answer = proxy.ask(&post);
        assert!([200, 413].contains(&answer.status()), "{}", answer.head);
        assert!(answer.status() == 200 || answer.reason() == "body_too_large", "{}", answer.head);
        answer.status() == 413
    });
    assert_eq!(one, other, "{path} {length}");
    one
}

#[test]
fn a_route_takes_longer_or_shorter_bodies_than_its_listener() {
    let origin = Origin::answering(OK);
    let route = |path, limit| format!("[[route]]\npath = \"{path}\"\ncluster = \"app\"\nbody_bytes = {limit}\n");
    let routes = route("/long", 5000) + &route("/short", 10) + &route("/any", 0);
    for listener in ["limits.body_bytes = 1000", ""] {
        let proxy = Setup::to(&[&origin.address]).listener(listener).more(&routes).start();
        let limited = !listener.is_empty();
        for (path, length, refused) in [
            ("/", 1000, false),
            ("/", 1001, limited),
            ("/long", 1001, false),
            ("/long", 5000, false),
            ("/long", 5001, true),
            ("/short", 10, false),
            ("/short", 11, true),
            ("/any", 5001, false),
        ] {
            assert_eq!(refuses(&proxy, path, length), refused, "{listener} {path} {length}");
        }
    }
}

#[test]
fn a_tenant_does_not_lift_the_limit_of_a_listener() {
    let origin = Origin::answering(OK);
    let tenant = "[[tenant]]\nname = \"red\"\nfile = \"FOLDER/red.toml\"\nlimits.endpoint_networks = [\"127.0.0.1\"]\n\
                  claims = [{ host = \"a\", path_prefix = \"/red\" }]\n";
    let root = Setup::to(&[&origin.address]).managed().listener("limits.body_bytes = 1000").more(tenant).text();
    let proxy = Proxy::start(&root, &[]);
    let route = |path, limit| format!("[[route]]\npath = \"/red{path}\"\ncluster = \"app\"\nbody_bytes = {limit}\n");
    let cluster = format!("[[cluster]]\nname = \"app\"\nendpoints = [\"{}\"]\n", origin.address);
    let file = route("/long", 5000) + &route("/short", 10) + &route("/any", 0) + &cluster;
    fs::write(proxy.folder().join("red.toml"), file).unwrap();
    assert!(proxy.verb(&["reload"]).status.success());
    for (path, length, refused) in [
        ("/red/long", 1000, false),
        ("/red/long", 1001, true),
        ("/red/short", 10, false),
        ("/red/short", 11, true),
        ("/red/any", 1000, false),
        ("/red/any", 1001, true),
    ] {
        assert_eq!(refuses(&proxy, path, length), refused, "{path} {length}");
    }
}

/// Sends a head, pauses, and sends the body.
fn upload(client: &mut Wire) {
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    thread::park_timeout(PAUSE);
}

#[test]
fn a_route_waits_longer_or_shorter_for_a_body_than_its_listener() {
    let origin = Origin::answering(OK);
    let short = "timeouts.body = \"100ms\"";
    let proxy = Setup::to(&[&origin.address]).listener(short).route("timeouts.body = \"1m\"").start();
    let mut client = proxy.client();
    upload(&mut client);
    client.send("x");
    assert_eq!(client.message().unwrap().text(), "ok");
    let proxy = Setup::to(&[&origin.address]).route(short).start();
    let mut client = proxy.client();
    upload(&mut client);
    let answer = client.message().unwrap();
    assert_eq!((answer.status(), &*answer.reason()), (408, "body_timeout"));
    assert_eq!(client.end(), End::Clean(Vec::new()));
}

/// An origin that begins its response at once, and ends it after a pause.
fn pausing() -> Origin {
    Origin::start(|mut wire, _| {
        while wire.message().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
            thread::park_timeout(PAUSE);
            wire.send("k");
        }
    })
}

#[test]
fn a_route_waits_longer_or_shorter_for_the_rest_of_a_response_than_its_cluster() {
    let origin = pausing();
    let cluster = "timeouts.response = \"100ms\"";
    let proxy = Setup::to(&[&origin.address]).cluster(cluster).route("timeouts.idle = \"1m\"").start();
    assert_eq!(proxy.ask(GET).text(), "ok");
    let proxy = Setup::to(&[&origin.address]).route("timeouts.idle = \"100ms\"").start();
    let mut client = proxy.client();
    client.send(GET);
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.end(), End::Clean(b"o".to_vec()));
}

/// `timeouts.idle` begins behind the head: before it, `timeout` or the cluster's time counts.
#[test]
fn the_head_of_a_response_has_its_own_time() {
    let origin = Origin::start(|mut wire, _| {
        wire.message();
        wire.end();
    });
    for (route, cluster) in [("", "timeouts.response = \"100ms\""), ("timeout = \"100ms\"\n", "")] {
        let route = format!("{route}timeouts.idle = \"1m\"");
        let proxy = Setup::to(&[&origin.address]).cluster(cluster).route(&route).start();
        let answer = proxy.ask(GET);
        assert_eq!((answer.status(), &*answer.reason()), (504, "response_timeout"));
    }
    let late = Origin::start(|mut wire, _| {
        while wire.message().is_some() {
            thread::park_timeout(PAUSE);
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&late.address]).route("timeouts.idle = \"100ms\"").start();
    assert_eq!(proxy.ask(GET).text(), "ok");
}

#[test]
fn a_tunnel_may_be_silent_for_as_long_as_its_route_says() {
    const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    const TICKS: usize = 15;
    // The origin speaks for longer than the tunnel may be silent, and then no more.
    let origin = Origin::start(|mut wire, _| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\n\r\n");
        for _ in 0..TICKS {
            thread::park_timeout(Duration::from_millis(100));
            wire.send("x");
        }
        wire.end();
    });
    let keys = "methods = [\"CONNECT\"]\ntunnel_idle = \"1s\"\ntimeouts = { idle = \"1ms\", body = \"1ms\" }";
    let proxy = Setup::to(&[&origin.address]).route(keys).cluster("timeouts.response = \"10s\"").start();
    let mut client = proxy.client();
    client.send(CONNECT);
    client.head().unwrap();
    assert_eq!(client.end(), End::Reset("x".repeat(TICKS).into_bytes()));
}
