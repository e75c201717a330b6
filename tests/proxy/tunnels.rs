//! Connections that stop speaking HTTP: WebSocket with a real library on both sides, CONNECT, refusals. Not here: the grammar
//! of Upgrade (`tests/vectors/request/upgrade.md`).

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket};

use crate::harness::{End, Origin, Proxy, Setup, next, poll};

const CONNECT: &str = "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n";

/// Echoes messages until the close is agreed on, and then says so.
fn echo() -> (Origin, mpsc::Receiver<Option<CloseFrame>>) {
    let (sender, closes) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let mut socket = tungstenite::accept(wire.stream).unwrap();
        loop {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).unwrap(),
                Ok(Message::Close(frame)) => sender.send(frame).unwrap(),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    (origin, closes)
}

fn open(proxy: &Proxy) -> WebSocket<TcpStream> {
    let url = format!("ws://{}/chat?room=1", proxy.address("public"));
    let (socket, response) = tungstenite::client(url, proxy.client().stream).unwrap();
    assert_eq!(response.status(), 101);
    socket
}

#[test]
fn websockets_echo_through_the_proxy() {
    let (origin, closes) = echo();
    let proxy = Setup::to(&[&origin.address]).start();
    let mut socket = open(&proxy);
    let large: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    for message in [Message::text("hello"), Message::binary(Vec::new()), Message::binary(large)] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message);
    }
    // One message in three frames, with a ping between them.
    let fragment = |part: &'static str, kind, last| Message::Frame(Frame::message(part, OpCode::Data(kind), last));
    socket.send(fragment("one ", Data::Text, false)).unwrap();
    socket.send(Message::Ping("are you there".into())).unwrap();
    socket.send(fragment("two ", Data::Continue, false)).unwrap();
    socket.send(fragment("three", Data::Continue, true)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
    assert_eq!(socket.read().unwrap(), Message::text("one two three"));

    let bye = CloseFrame { code: CloseCode::Normal, reason: "bye".into() };
    socket.close(Some(bye.clone())).unwrap();
    assert_eq!(next(&closes), Some(bye.clone()));
    assert_eq!(socket.read().unwrap(), Message::Close(Some(bye)));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

/// The time for the response has passed when another request, made later, has run into it.
#[test]
fn a_silent_websocket_is_not_late_with_its_response() {
    let (echo, _closes) = echo();
    let silent = Origin::start(|mut wire, _| {
        wire.message();
        wire.end();
    });
    let quick = "timeouts = { response = \"300ms\" }";
    let late = format!(
        "[[route]]\npath = \"/late\"\ncluster = \"late\"\n[[cluster]]\nname = \"late\"\nendpoints = [\"{}\"]\n{quick}",
        silent.address
    );
    let proxy = Setup::to(&[&echo.address]).cluster(quick).more(&late).start();
    let mut socket = open(&proxy);
    for _ in 0..2 {
        assert_eq!(proxy.ask("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").status(), 504);
    }
    socket.send(Message::text("still there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still there"));
}

#[test]
fn many_websockets_at_once() {
    let (origin, _closes) = echo();
    let proxy = Setup::to(&[&origin.address]).start();
    let mut sockets: Vec<_> = (0..50).map(|_| open(&proxy)).collect();
    for round in 0..3 {
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(format!("{round} {number}"))).unwrap();
        }
        for (number, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.read().unwrap(), Message::text(format!("{round} {number}")));
        }
    }
    assert_eq!(origin.connections(), 50);
}

/// (fields of the request, response of the origin, status, reason code)
#[test]
fn a_switch_happens_only_to_what_was_offered() {
    const OFFER: &str = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for (fields, response, status, reason) in [
        (
            "",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            502,
            "unexpected_switch",
        ),
        (
            OFFER,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
            502,
            "unexpected_switch",
        ),
        (OFFER, "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "unexpected_switch"),
        (OFFER, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", 426, ""),
        ("Upgrade: websocket\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "unexpected_switch"),
    ] {
        let origin = Origin::answering(response);
        let proxy = Setup::to(&[&origin.address]).start();
        let answer = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!((answer.status(), &*answer.reason()), (status, reason), "{fields}{response}");
    }
}

#[test]
fn connect_needs_a_route_that_names_it() {
    let (origin, requests) = Origin::recording("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let proxy = Setup::to(&[&origin.address]).start();
    assert_eq!((proxy.ask(CONNECT).status(), origin.connections()), (405, 0));

    let proxy = Setup::to(&[&origin.address]).route("methods = [\"CONNECT\"]").start();
    let answer = proxy.ask(CONNECT);
    assert_eq!((answer.status(), answer.text()), (403, "no"));
    assert_eq!(next(&requests).line(), "CONNECT db.example:5432 HTTP/1.1");
}

#[test]
fn a_tunnel_carries_bytes_until_both_sides_have_ended() {
    // Who ends first: the client, or the origin.
    for client_first in [true, false] {
        let origin = Origin::start(move |mut wire, _| {
            wire.head().unwrap();
            wire.send("HTTP/1.1 200 OK\r\n\r\nwelcome ");
            assert_eq!(wire.until(b"!").as_deref(), Some("hello!"));
            if client_first {
                assert_eq!(wire.end(), End::Clean(b"and bye".into()));
                wire.send("after your end");
            } else {
                wire.send("after your end");
                wire.finish();
                assert_eq!(wire.end(), End::Clean(b"and bye".into()));
            }
        });
        let proxy = Setup::to(&[&origin.address]).route("methods = [\"CONNECT\"]").start();
        let before = proxy.descriptors();
        let mut client = proxy.client();
        client.send(CONNECT);
        let head = client.head().unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
        assert_eq!(client.until(b" ").as_deref(), Some("welcome "));
        client.send("hello!");
        if client_first {
            client.send("and bye");
            client.finish();
            assert_eq!(client.end(), End::Clean(b"after your end".into()));
        } else {
            assert_eq!(client.end(), End::Clean(b"after your end".into()));
            client.send("and bye");
            client.finish();
        }
        poll(|| (proxy.descriptors() <= before).then_some(()));
    }
}

#[test]
fn bytes_sent_along_with_connect_go_through_the_tunnel() {
    let origin = Origin::start(|mut wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\n\r\n");
        let early = wire.until(b"!").unwrap();
        wire.send(early);
    });
    let proxy = Setup::to(&[&origin.address]).route("methods = [\"CONNECT\"]").start();
    let mut client = proxy.client();
    client.send(format!("{CONNECT}early!"));
    client.head().unwrap();
    assert_eq!(client.end(), End::Clean(b"early!".into()));
}

#[test]
fn a_broken_side_breaks_the_tunnel() {
    let (sender, ends) = mpsc::channel();
    let origin = Origin::start(move |mut wire, number| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\n\r\nx");
        if number == 0 {
            sender.send(wire.end()).unwrap();
        } else {
            wire.until(b"!").unwrap();
            wire.abort();
        }
    });
    let proxy = Setup::to(&[&origin.address]).route("methods = [\"CONNECT\"]").start();
    let mut client = proxy.client();
    client.send(CONNECT);
    client.until(b"x").unwrap();
    client.abort();
    next(&ends);

    let mut client = proxy.client();
    client.send(CONNECT);
    client.until(b"x").unwrap();
    client.send("!");
    assert_eq!(client.end(), End::Reset(Vec::new()));
}

/// What the client sends to an origin that has gone brings the end, not a wait for what can never be sent.
#[test]
fn a_tunnel_ends_whose_origin_takes_nothing_any_more() {
    let origin = Origin::start(|mut wire, _| {
        wire.head().unwrap();
        wire.send("HTTP/1.1 200 OK\r\n\r\nbye");
    });
    let setup = Setup::to(&[&origin.address]).route("methods = [\"CONNECT\"]").managed();
    let proxy = setup.start();
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send(CONNECT);
        client.until(b"bye").unwrap();
        // The first bytes bring a reset, those after it an error.
        for _ in 0..3 {
            // The proxy may have ended the tunnel by then.
            let _ = client.stream.write_all(b"late");
            proxy.status();
        }
        drop(client);
    }
    poll(|| (proxy.status()["exchanges"] == 0).then_some(()));
}
