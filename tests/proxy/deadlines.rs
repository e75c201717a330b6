//! The time that clients allow: kept to, and passed on as what is left. Not here: time-outs of the configuration (`failures`).

use crate::harness::{Message, Origin, Proxy, Setup};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";

fn ask(proxy: &Proxy, fields: &str) -> Message {
    proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

/// An origin that never answers.
fn silent() -> Origin {
    Origin::start(|mut wire, _| while wire.message().is_some() {})
}

fn milliseconds(request: &Message, name: &str) -> u64 {
    let value = request.field(name).unwrap();
    let digits = value.trim_end_matches('m');
    assert_eq!(digits.len(), 8, "{value}");
    digits.parse().unwrap()
}

#[test]
fn the_time_that_a_trusted_peer_allows_is_kept_to() {
    let origin = silent();
    let proxy = Setup::to(&[&origin.address]).listener(TRUSTED).route("deadline = true").managed().start();
    for field in ["X-Request-Timeout-Ms: 100", "grpc-timeout: 100m", "grpc-timeout: 9S\r\nx-request-timeout-ms: 100"] {
        let answer = ask(&proxy, &format!("{field}\r\n"));
        assert_eq!((answer.status(), answer.reason()), (504, "response_timeout".to_owned()), "{field}");
    }
    assert_eq!(ask(&proxy, "x-request-timeout-ms: 0\r\n").status(), 504);
    // That clients are in a hurry is held against nobody.
    assert_eq!(proxy.status()["clusters"][0]["endpoints"][0]["failed"], 0);
    assert_eq!(origin.connections(), 3);
}

#[test]
fn endpoints_are_told_how_much_is_left() {
    let (origin, received) = Origin::recording(OK);
    let setup = Setup::to(&[&origin.address]).listener(TRUSTED).route("deadline = true");
    let proxy = setup.clone().route("timeout = \"2s\"").start();
    assert_eq!(ask(&proxy, "X-Request-Timeout-Ms: 1500\r\ngrpc-timeout: 1M\r\n").status(), 200);
    let request = received.recv().unwrap();
    assert!((1000..=1500).contains(&milliseconds(&request, "x-request-timeout-ms")));
    assert!((1000..=1500).contains(&milliseconds(&request, "grpc-timeout")));
    // The route's own time is told of, too.
    assert_eq!(ask(&proxy, "").status(), 200);
    let request = received.recv().unwrap();
    assert_eq!((milliseconds(&request, "x-request-timeout-ms"), request.field("grpc-timeout")), (2000, None));
    // Nothing is said where the route does not ask for it, or the peer is not trusted.
    let plain = Setup::to(&[&origin.address]);
    for proxy in [plain.clone().listener(TRUSTED).start(), plain.route("deadline = true").start()] {
        assert_eq!(ask(&proxy, "X-Request-Timeout-Ms: 1\r\n").status(), 200);
        assert_eq!(received.recv().unwrap().field("x-request-timeout-ms").as_deref(), Some("1"));
    }
}

/// An endpoint that is tried later is told that less is left.
#[test]
fn a_retry_is_told_of_less() {
    let sick = silent();
    let (well, received) = Origin::recording(OK);
    let retry = "deadline = true\nretry = { on = [\"timeout\"], per_try_timeout = \"400ms\", budget = 1.0 }";
    let setup = Setup::to(&[&sick.address, &well.address]).cluster("balance = \"round_robin\"").listener(TRUSTED);
    let proxy = setup.route(retry).start();
    let mut left: Vec<_> = (0..2)
        .map(|_| {
            assert_eq!(ask(&proxy, "X-Request-Timeout-Ms: 10000\r\nX-After: kept\r\n").status(), 200);
            let request = received.recv().unwrap();
            assert_eq!(request.field("x-after").as_deref(), Some("kept"));
            milliseconds(&request, "x-request-timeout-ms")
        })
        .collect();
    left.sort_unstable();
    assert!(left[0] <= 9600 && left[1] > 9600, "{left:?}");
}
