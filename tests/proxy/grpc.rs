//! gRPC: what it needs of HTTP/2, and how it is told of failures. Not here: streams and connections (`http2_origins`).

use std::sync::mpsc;

use crate::harness::{End, Message, Origin, Proxy, Setup, Wire, closed, next, poll};
use crate::http2_wire::{DATA, H2Wire, HEADERS, Request};

/// A call, as a client of HTTP/1.1 would write it.
fn call(path: &str, fields: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\n{fields}Transfer-Encoding: chunked\r\n\r\n\
         5\r\n\0\0\0\0\0\r\n0\r\n\r\n"
    )
}

/// Answers every call with a status, in trailers or in the head alone.
fn serving(status: &'static str, trailers_only: bool) -> (Origin, mpsc::Receiver<Request>) {
    let (sender, calls) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(call) = wire.request() {
            let head = [(":status", "200"), ("content-type", "application/grpc")];
            if trailers_only {
                wire.headers(call.stream, &[head[0], head[1], ("grpc-status", status)], true);
            } else {
                wire.headers(call.stream, &head, false);
                wire.send(DATA, 0, call.stream, b"\0\0\0\0\0");
                wire.headers(call.stream, &[("grpc-status", status)], true);
            }
            // The test may be over.
            let _ = sender.send(call);
        }
    });
    (origin, calls)
}

fn setup(endpoints: &[&str]) -> Setup {
    Setup::to(endpoints).cluster("protocol = \"http2\"")
}

/// What a client of gRPC reads: HTTP's status, gRPC's, and its message.
fn verdict(answer: &Message) -> (u16, Option<String>, Option<String>) {
    let is_grpc = answer.field("content-type").is_some_and(|value| value.starts_with("application/grpc"));
    assert!(is_grpc && answer.body.is_empty(), "{}", answer.head);
    (answer.status(), answer.field("grpc-status"), answer.field("grpc-message"))
}

#[test]
fn trailers_come_and_are_asked_for() {
    let (origin, calls) = serving("0", false);
    let proxy = setup(&[&origin.address]).start();
    for (fields, te) in
        [("TE: trailers\r\n", Some("trailers")), ("TE: gzip, trailers\r\n", Some("trailers")), ("", None)]
    {
        let answer = proxy.ask(&call("/a.B/C", fields));
        assert_eq!((answer.status(), &*answer.trailers), (200, "grpc-status: 0\r\n"));
        assert_eq!(next(&calls).field("te"), te, "{fields}");
    }
    let (origin, _calls) = serving("5", true);
    let answer = setup(&[&origin.address]).start().ask(&call("/a.B/C", ""));
    assert_eq!((answer.status(), answer.field("grpc-status").as_deref(), answer.text()), (200, Some("5"), ""));
}

#[test]
fn failures_are_told_in_grpc() {
    let (_socket, dead) = closed();
    let silent = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while wire.request().is_some() {}
    });
    let told = |setup: Setup, path: &str| verdict(&setup.start().ask(&call(path, "")));
    let want = |code: &str, message: &str| (200, Some(code.to_owned()), Some(message.to_owned()));
    assert_eq!(told(setup(&[&dead]), "/a.B/C"), want("14", "connect_failed"));
    assert_eq!(told(setup(&[&dead]).route("hosts = [\"other.test\"]"), "/a.B/C"), want("12", "no_route"));
    assert_eq!(told(setup(&[&silent.address]).route("timeout = \"100ms\""), "/a.B/C"), want("4", "response_timeout"));
    let forbids = setup(&[&dead]).more("[[route]]\npath_prefix = \"/a.B/\"\nrespond = { status = 403, body = \"no\" }");
    assert_eq!(told(forbids, "/a.B/C"), want("7", "Forbidden"));
    // Others are told as ever.
    let answer = setup(&[&dead]).start().ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status(), &*answer.reason()), (502, "connect_failed"));
}

#[test]
fn unavailable_calls_are_tried_elsewhere() {
    let (down, refused) = serving("14", true);
    let (up, _calls) = serving("0", false);
    let retry = "retry = { attempts = 1, on = [\"grpc-unavailable\"], methods = [\"POST\"], budget = { min_per_second = 100 } }";
    let keys = "balance = \"round_robin\"\noutlier.consecutive_failures = 0";
    let proxy = setup(&[&down.address, &up.address]).cluster(keys).route(retry).start();
    for _ in 0..6 {
        assert_eq!(proxy.ask(&call("/a.B/C", "")).trailers, "grpc-status: 0\r\n");
    }
    assert_eq!(refused.try_iter().count(), 3);
    // Without being asked for that, none is sent twice.
    let proxy = setup(&[&down.address, &up.address]).cluster(keys).start();
    let plain = |proxy: &Proxy| proxy.ask(&call("/a.B/C", "")).field("grpc-status");
    assert_eq!((0..6).filter(|_| plain(&proxy).as_deref() == Some("14")).count(), 3);
}

/// Whether status 14 comes alone or behind content, it counts as a failure of the endpoint.
#[test]
fn unavailable_endpoints_are_ejected() {
    for trailers_only in [true, false] {
        let (down, refused) = serving("14", trailers_only);
        let (up, _calls) = serving("0", false);
        let keys = "balance = \"round_robin\"\noutlier = { consecutive_failures = 3, ejection = \"60s\" }";
        let proxy = setup(&[&down.address, &up.address]).cluster(keys).start();
        poll(|| {
            let answers = (0..4).map(|_| proxy.ask(&call("/a.B/C", "")));
            answers.map(|answer| answer.trailers).all(|trailers| trailers == "grpc-status: 0\r\n").then_some(())
        });
        assert!(refused.try_iter().count() >= 3);
    }
}

/// grpc.health.v1: only an endpoint whose service serves is used.
#[test]
fn health_is_asked_for_in_grpc() {
    let origin = |name: &'static str, status: u8| {
        Origin::start(move |wire, _| {
            let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
            while let Some(call) = wire.request() {
                wire.headers(
                    call.stream,
                    &[(":status", "200"), ("content-type", "application/grpc"), ("x-origin", name)],
                    false,
                );
                if call.field(":path") == Some("/grpc.health.v1.Health/Check") {
                    assert_eq!(call.body, b"\0\0\0\0\x05\x0a\x03a.B");
                    assert_eq!(
                        (call.field("te"), call.field("content-type")),
                        (Some("trailers"), Some("application/grpc"))
                    );
                    wire.send(DATA, 0, call.stream, &[0, 0, 0, 0, 2, 8, status]);
                }
                wire.headers(call.stream, &[("grpc-status", "0")], true);
            }
        })
    };
    let (well, ill) = (origin("well", 1), origin("ill", 2));
    let keys = "balance = \"round_robin\"\nhealth = { kind = \"grpc\", service = \"a.B\", interval = \"100ms\", initial = \"down\" }";
    let proxy = setup(&[&well.address, &ill.address]).cluster(keys).start();
    let ask = || proxy.ask(&call("/a.B/C", "")).field("x-origin");
    poll(|| (0..4).all(|_| ask().as_deref() == Some("well")).then_some(()));
}

/// Checks of HTTP speak the version of the cluster.
#[test]
fn checks_are_made_over_http2() {
    let (sender, checks) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            wire.headers(request.stream, &[(":status", "204")], true);
            // The test may be over.
            let _ = sender.send(request);
        }
    });
    let keys = "health = { path = \"/well?a\", host = \"b.test\", interval = \"100ms\" }";
    let _proxy = setup(&[&origin.address]).cluster(keys).start();
    let check = next(&checks);
    let told = [":method", ":path", ":authority", "user-agent"].map(|name| check.field(name).unwrap().to_owned());
    assert_eq!(told, ["GET", "/well?a", "b.test", "cairn-health"]);
}

/// A route may be for a service, or for one of its methods, and takes nothing else.
#[test]
fn routes_are_for_services_and_methods() {
    let (origin, calls) = serving("0", true);
    let others =
        "[[route]]\ngrpc = { service = \"a.B\" }\nrespond = { status = 403 }\n[[route]]\nrespond = { status = 204 }";
    let proxy = setup(&[&origin.address]).route("grpc = { service = \"a.B\", method = \"C\" }").more(others).start();
    assert_eq!(proxy.ask(&call("/a.B/C", "")).field("grpc-status").as_deref(), Some("0"));
    assert_eq!(next(&calls).field(":path"), Some("/a.B/C"));
    assert_eq!(proxy.ask(&call("/a.B/D", "")).field("grpc-status").as_deref(), Some("7"));
    assert_eq!(proxy.ask(&get("/a.B/C")).status(), 204);
    assert_eq!(
        proxy
            .ask("POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\r\n")
            .status(),
        204
    );
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A call may be silent in both directions for longer than other exchanges may; unless its route says how long.
#[test]
fn calls_may_be_silent() {
    let origin = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(frame) = wire.frame() {
            if frame.kind == HEADERS {
                let of_grpc = wire.fields(&frame).iter().any(|(_, value)| value.starts_with("application/grpc"));
                let kind = if of_grpc { "application/grpc" } else { "text/plain" };
                wire.headers(frame.stream, &[(":status", "200"), ("content-type", kind)], false);
                wire.send(DATA, 0, frame.stream, b"\0\0\0\0\0");
            } else if frame.kind == DATA && frame.ends() {
                wire.headers(frame.stream, &[("grpc-status", "0")], true);
            }
        }
    });
    let keys = "timeouts.response = \"100ms\"\noutlier.consecutive_failures = 0";
    let started = |route: &str| {
        setup(&[&origin.address]).cluster(keys).listener("timeouts.body = \"100ms\"").route(route).start()
    };
    let open = |proxy: &Proxy, kind: &str| {
        let mut client = proxy.client();
        client.send(format!(
            "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\0\0\0\0\0\r\n"
        ));
        assert!(client.head().unwrap().starts_with("HTTP/1.1 200 "));
        client
    };
    let proxy = started("");
    let mut call = open(&proxy, "application/grpc");
    // These begin later and are as silent: when they have been cut, so would the call have been.
    let is_cut = |client: &mut Wire| !matches!(client.end(), End::Clean(rest) if rest.ends_with(b"0\r\n\r\n"));
    assert!(is_cut(&mut open(&proxy, "text/plain")));
    let mut get = proxy.client();
    get.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(is_cut(&mut get));
    call.send("0\r\n\r\n");
    assert!(call.until(b"grpc-status: 0\r\n").is_some());
    // Who asks for a bound gets one.
    let bounded = started("timeouts.body = \"100ms\"");
    assert!(is_cut(&mut open(&bounded, "application/grpc")));
}
