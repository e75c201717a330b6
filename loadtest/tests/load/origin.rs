//! What the origin can be told to do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;
use tungstenite::Message;

use crate::harness::{Origin, at_least, command, read_report};

fn run(origin: &Origin, path: &str, arguments: &str) -> Value {
    let url = format!("{}{path}", origin.url);
    let all = ["run", "--fail-below", "0", &url, "--json", "--threads", "1"];
    read_report(&command(&all).args(arguments.split(' ')).output().unwrap())
}

/// Sends one request and returns the whole answer.
fn ask(origin: &Origin, line: &str) -> String {
    let mut stream = TcpStream::connect(origin.url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: o\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn health_is_flipped_by_hand() {
    let origin = Origin::start(&["--threads", "2"]);
    let mut seen = Vec::new();
    for line in [
        "GET /healthz",
        "POST /healthz/down",
        "GET /healthz",
        "GET /other",
        "GET /healthz/up",
        "POST /healthz/up",
        "GET /healthz",
    ] {
        seen.push(ask(&origin, line)[9..12].to_owned());
    }
    assert_eq!(seen, ["200", "200", "503", "200", "405", "200", "200"]);
}

#[test]
fn a_client_that_has_sent_fin_gets_its_answer_whole() {
    let origin = Origin::start(&[]);
    let mut stream = TcpStream::connect(origin.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /size/5000000 HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > 5_000_000, "{} bytes", answer.len());
}

#[test]
fn a_field_tells_origins_apart() {
    let origin = Origin::start(&["--header", "X-Origin: seven"]);
    for path in ["/", "/size/9", "/status/404"] {
        assert!(ask(&origin, &format!("GET {path}")).contains("\r\nX-Origin: seven\r\n"), "{path}");
    }
}

#[test]
fn errors_and_sizes_are_as_random_as_asked() {
    let origin = Origin::start(&["--errors", "0.25", "--size", "10-1KiB", "--threads", "1"]);
    let report = run(&origin, "/", "-n 2000 -c 4");
    let failed = report["errors"]["status"].as_u64().unwrap();
    // The origin's random numbers are the same in every run.
    assert!((400..600).contains(&failed), "{report}");
    // 517 bytes on average, and some sixty for the head.
    assert!((540..620).contains(&(report["received_bytes"].as_u64().unwrap() / 2000)), "{report}");
}

#[test]
fn delays_may_be_exponential() {
    let origin = Origin::start(&["--delay", "5ms", "--exponential", "--threads", "1"]);
    let report = run(&origin, "/", "-n 400 -c 20");
    // Of exponential times, 1/e are longer than the mean: 147 of 400, give or take four deviations.
    assert!(at_least(&report, 5.0) >= 147 - 39, "{report}");
    assert!(report["latency_us"]["buckets"][0][0].as_f64().unwrap() < 4000.0, "{report}");
}

#[test]
fn bodies_may_drip() {
    for more in [&[][..], &["--chunked"]] {
        let origin = Origin::start(&[&["--drip", "10ms"], more].concat());
        // Six pieces, five pauses.
        let report = run(&origin, "/size/6000", "-n 4 -c 2 --expect-length 6000");
        assert_eq!((&report["answered"], at_least(&report, 50.0)), (&4.into(), 4), "{report}");
    }
}

#[test]
fn websockets_are_echoed() {
    let origin = Origin::start(&[]);
    let address = origin.url.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/chat"), stream).unwrap();
    for length in [0, 5, 125, 126, 70_000, 1_000_000] {
        let message = Message::text("y".repeat(length));
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "{length} bytes");
    }
    socket.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
    socket.close(None).unwrap();
    assert!(socket.read().unwrap().is_close());
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert_eq!(origin.end(), (1, 1));
}
