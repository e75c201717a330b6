//! WebSocket towards origins that speak HTTP/2 (RFC 8441): from clients of both versions, and only where the origin has said that it takes
//! an extended CONNECT. Not here: origins that speak HTTP/1.1 (`tunnels`, `http2`).

use std::sync::mpsc;

use cairn::http2::hpack::{DecodedField, Decoder, FieldSink, Next, SectionLimits, Table, table_memory};
use h2::Reason;
use tungstenite::Message;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, next, poll};
use crate::http2::{Client, extended_connect, websocket};
use crate::http2_wire::{
    ACK, DATA, ENABLE_CONNECT_PROTOCOL, END_HEADERS, END_STREAM, Frame, H2Wire, HEADERS, PING, RST_STREAM, Request,
    SETTINGS,
};

/// A handshake, with a key of the RFC.
const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn start(origin: &Origin) -> Proxy {
    Setup::to(&[&origin.address]).cluster("protocol = \"http2\"").start()
}

/// Accepts each tunnel once it is sure that nothing has come on it, and sends back what comes then. Reports requests, and the codes with
/// which streams are reset.
fn echo() -> (Origin, mpsc::Receiver<Request>, mpsc::Receiver<u32>) {
    let ((sender, requests), (ends, resets)) = (mpsc::channel(), mpsc::channel());
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[(ENABLE_CONNECT_PROTOCOL, 1)]) else { return };
        let mut opened = 0;
        while let Some(frame) = wire.frame() {
            match frame.kind {
                HEADERS if frame.ends() => {
                    wire.fields(&frame);
                    wire.answer(frame.stream, b"plain");
                }
                HEADERS => {
                    let fields = wire.fields(&frame);
                    opened = frame.stream;
                    wire.send(PING, 0, 0, b"anything");
                    sender.send(Request { stream: opened, fields, ..Request::default() }).unwrap();
                }
                PING if frame.flags & ACK != 0 => wire.headers(opened, &[(":status", "200"), ("x-a", "b")], false),
                DATA => wire.send(DATA, frame.flags & END_STREAM, frame.stream, &frame.payload),
                RST_STREAM => drop(ends.send(frame.code())),
                _ => {}
            }
        }
    });
    (origin, requests, resets)
}

/// What an origin gets: the pseudo-header fields of RFC 8441, and nothing of the handshake of HTTP/1.1.
fn check(request: &Request) {
    let pseudo = [":method", ":protocol", ":scheme", ":path", ":authority", "sec-websocket-version"];
    let found = pseudo.map(|name| request.field(name).unwrap_or_default());
    assert_eq!(found[..4], ["CONNECT", "websocket", "http", "/chat"]);
    assert_eq!(found[5], "13");
    for gone in ["connection", "upgrade", "sec-websocket-key", "host"] {
        assert_eq!(request.field(gone), None, "{gone}");
    }
}

#[test]
fn a_websocket_of_http1_is_an_extended_connect_at_the_origin() {
    let (origin, requests, _resets) = echo();
    let proxy = start(&origin);
    let url = format!("ws://{}/chat", proxy.address("public"));
    for number in 0..2 {
        // The library checks the answer to its key.
        let (mut socket, response) = tungstenite::client(&url, proxy.client().stream).unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["x-a"]), (101, &"b".parse().unwrap()));
        let request = next(&requests);
        check(&request);
        assert_eq!(request.stream, 2 * number + 1, "one connection");
        socket.send(Message::text("hello")).unwrap();
        assert!(socket.read().is_err(), "it is masked, as it was sent");
        drop(socket);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn what_follows_a_handshake_waits_for_the_answer() {
    let (origin, requests, _resets) = echo();
    let proxy = start(&origin);
    let mut client = proxy.client();
    client.send(format!("{HANDSHAKE}early"));
    check(&next(&requests));
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    for line in
        ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", "x-a: b"]
    {
        assert_eq!(lower.lines().filter(|known| *known == line).count(), 1, "{line} in {head}");
    }
    client.take(5, &mut |part| assert!(b"early".windows(part.len()).any(|window| window == part)));
    // The end goes through, in both directions.
    client.finish();
    assert!(client.until(b"never").is_none());
}

#[test]
fn an_extended_connect_goes_on_as_one() {
    let (origin, requests, resets) = echo();
    let proxy = start(&origin);
    let mut client = Client::of(&proxy);
    // It is told once the origin is known.
    assert_eq!(client.ask("/").body, b"plain");
    let (response, mut up) = websocket(&mut client);
    up.send_data("early".into(), false).unwrap();
    check(&next(&requests));
    let echoed = client.runtime.block_on(async {
        let exchange = async {
            let (head, mut down) = response.await.unwrap().into_parts();
            assert_eq!((head.status.as_u16(), &head.headers["x-a"]), (200, &"b".parse().unwrap()));
            for gone in ["sec-websocket-accept", "upgrade", "connection"] {
                assert!(!head.headers.contains_key(gone), "{gone}");
            }
            down.data().await.unwrap().unwrap()
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an echo")
    });
    assert_eq!(&echoed[..], b"early");
    up.send_reset(Reason::CANCEL);
    assert_eq!(next(&resets), crate::http2_wire::CANCEL);
}

/// Cases: what the origin says of extended CONNECT, its status and whether that ends the stream; what the client sends; status and reason
/// (or content) of the answer, and whether the origin has seen a request.
#[test]
fn what_is_no_tunnel_is_told() {
    let no_key = HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "");
    let bad_key = HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
    let chat = HANDSHAKE.replace("Upgrade: websocket", "Upgrade: chat");
    let posted = HANDSHAKE.replace("GET", "POST");
    for (enabled, status, sent, answer, told, arrives) in [
        (0, "200", HANDSHAKE, 502, "no_extended_connect", false),
        (1, "403", HANDSHAKE, 403, "said", true),
        (1, "101", HANDSHAKE, 502, "http2_protocol", true),
        (1, "200", &no_key, 400, "bad_websocket_key", false),
        (1, "200", &bad_key, 400, "bad_websocket_key", false),
        // RFC 9110 section 7.8: an offer may be ignored.
        (0, "200", &chat, 200, "said", true),
        (0, "200", &posted, 200, "said", true),
    ] {
        let (sender, requests) = mpsc::channel();
        let origin = Origin::start(move |wire, _| {
            let Some(mut wire) = H2Wire::accept(wire, &[(ENABLE_CONNECT_PROTOCOL, enabled)]) else { return };
            while let Some((request, _)) = wire.head() {
                let _ = sender.send(());
                wire.headers(request.stream, &[(":status", status)], false);
                wire.send(DATA, END_STREAM, request.stream, b"said");
            }
        });
        // That clients are told of it is another route's doing.
        let other = "[[route]]\npath = \"/other\"\ncluster = \"other\"\n[[cluster]]\nname = \"other\"\nendpoints = [\"127.0.0.1:9\"]";
        let proxy = Setup::to(&[&origin.address]).cluster("protocol = \"http2\"").more(other).start();
        let response = proxy.ask(sent);
        let text = if response.text() == "said" { "said".to_owned() } else { response.reason() };
        assert_eq!((response.status(), &*text), (answer, told), "{sent}");
        assert_eq!(requests.try_recv().is_ok(), arrives, "{sent}");
        // Nobody else notices.
        let plain = if status == "101" { 502 } else { status.parse().unwrap() };
        assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), plain, "{sent}");
        if enabled == 0 && sent == HANDSHAKE {
            let mut client = Client::of(&proxy);
            let (response, _up) = websocket(&mut client);
            let head = client.runtime.block_on(async { tokio::time::timeout(PATIENCE, response).await.unwrap() });
            assert_eq!(head.unwrap().status(), 502);
        }
    }
}

/// A tunnel that the origin ends with its head has ended.
#[test]
fn a_tunnel_may_end_with_its_head() {
    let origin = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[(ENABLE_CONNECT_PROTOCOL, 1)]) else { return };
        while let Some((request, _)) = wire.head() {
            wire.headers(request.stream, &[(":status", "200")], true);
        }
    });
    let proxy = start(&origin);
    let mut client = proxy.client();
    client.send(HANDSHAKE);
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
    assert!(client.until(b"never").is_none(), "FIN");
}

/// Other protocols go on as well; one whose name nobody could have chosen does not.
#[test]
fn other_protocols_are_passed_on() {
    let (origin, requests, _resets) = echo();
    let proxy = start(&origin);
    let mut client = Client::of(&proxy);
    assert_eq!(client.ask("/").body, b"plain");
    for (protocol, status) in
        [("connect-udp", 200), ("a-protocol-with-a-name-of-more-than-thirty-bytes", 501), ("chat", 200)]
    {
        let (response, _up) = extended_connect(&mut client, protocol);
        let head = client.runtime.block_on(async { tokio::time::timeout(PATIENCE, response).await.unwrap() });
        assert_eq!(head.unwrap().status(), status, "{protocol}");
        if status == 200 {
            assert_eq!(next(&requests).field(":protocol"), Some(protocol));
        }
    }
}

/// Names of the fields in a section that came never indexed, or have another mark of that kind.
#[derive(Default)]
struct Secrets(Vec<String>);

impl FieldSink for Secrets {
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        if field.never_indexed {
            self.0.push(String::from_utf8(field.name(out).to_vec()).unwrap());
        }
        Next::At(field.value_end() + 2)
    }
}

/// A literal that is never indexed.
fn secret(name: &str) -> Vec<u8> {
    [&[0x10, name.len() as u8], name.as_bytes(), &[1, b'v']].concat()
}

/// A literal that is not indexed.
fn plain(name: &str) -> Vec<u8> {
    [&[0x00, name.len() as u8], name.as_bytes(), &[1, b'v']].concat()
}

/// Reads the sections that come on a connection.
struct Sections(Decoder<Vec<u8>>);

impl Sections {
    fn new() -> Self {
        Self(Decoder::new(Table::new(vec![0; table_memory(4096)], 4096)))
    }

    /// The names in a section that came never indexed.
    fn secrets(&mut self, frame: &Frame) -> Vec<String> {
        let (mut found, mut out) = (Secrets::default(), [0; 8192]);
        self.0.begin(SectionLimits { list_bytes: 8192, fields: 100 });
        self.0.fragment(&frame.payload, &mut out, &mut found).unwrap();
        self.0.end().unwrap();
        found.0
    }
}

/// RFC 7541 section 6.2.3: in both directions, and in trailers as well.
/// The plain names are none of those that a set takes for one that is in it.
#[test]
fn what_is_never_indexed_stays_so() {
    let (sender, secrets) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        let mut sections = Sections::new();
        while let Some(frame) = wire.frame() {
            if frame.kind == HEADERS {
                sender.send(sections.secrets(&frame)).unwrap();
            }
            if frame.ends() {
                let head = [vec![0x88], secret("x-private"), plain("x-public")].concat();
                wire.send(HEADERS, END_HEADERS, frame.stream, &head);
                wire.send(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    frame.stream,
                    &[secret("x-sum"), plain("x-total")].concat(),
                );
            }
        }
    });
    let proxy = start(&origin);
    let mut client = H2Wire::connect(proxy.client());
    let mut sections = Sections::new();
    for stream in [1, 3] {
        // POST, http, /, and a literal with the first name of the static table, which is `:authority`.
        let start = [0x83, 0x86, 0x84, 0x01, 1, b'a'];
        let head = [start.to_vec(), secret("x-secret"), plain("x-plain")].concat();
        client.send(HEADERS, END_HEADERS, stream, &head);
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &[secret("x-signature"), plain("x-length")].concat());
        assert_eq!(next(&secrets), ["x-secret"]);
        assert_eq!(next(&secrets), ["x-signature"]);
        let mut came = Vec::new();
        loop {
            let frame = client.frame().unwrap();
            if frame.kind == HEADERS {
                came.push(sections.secrets(&frame));
            }
            if frame.ends() {
                break;
            }
        }
        assert_eq!(came, [["x-private"], ["x-sum"]]);
    }
}

/// Clients are told that an extended CONNECT is taken only where a route could take it.
#[test]
fn who_could_take_a_tunnel_is_told() {
    let h2 = echo().0;
    let plain = Origin::start(|wire, _| {
        let Some(mut wire) = H2Wire::accept(wire, &[]) else { return };
        while let Some(request) = wire.request() {
            wire.answer(request.stream, b"plain");
        }
    });
    let http1 = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
    for (origin, keys, route, at_first, then) in [
        (&http1, "", "", true, true),
        (&http1, "", "methods = [\"GET\", \"HEAD\"]", true, true),
        (&http1, "", "methods = [\"POST\"]", false, false),
        (&plain, "protocol = \"http2\"", "", false, false),
        (&h2, "protocol = \"http2\"", "", false, true),
    ] {
        let proxy = Setup::to(&[&origin.address]).cluster(keys).route(route).start();
        let mut client = H2Wire::connect(proxy.client());
        let first = client.frame().unwrap();
        assert_eq!(first.kind, SETTINGS);
        let tells =
            |frame: &Frame| frame.kind == SETTINGS && frame.payload.chunks(6).any(|it| *it == [0, 8, 0, 0, 0, 1]);
        assert_eq!(tells(&first), at_first, "{keys} {route}");
        let method = if route.contains("POST") { "POST" } else { "GET" };
        client.headers(1, &[(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a")], true);
        let mut told = at_first;
        loop {
            let frame = client.frame().unwrap();
            told |= tells(&frame);
            if frame.ends() {
                // What it was told before this is answered.
                client.send(PING, 0, 0, b"anything");
            } else if frame.kind == PING {
                break;
            }
        }
        assert_eq!(told, then, "{keys} {route}");
    }
}

/// A connection gets old, and its client is told so twice: to open no more streams, then which were taken. Streams go on.
#[test]
fn connections_of_clients_get_old() {
    let (sender, gates) = mpsc::channel::<mpsc::Sender<()>>();
    let origin = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
            let (opener, gate) = mpsc::channel();
            sender.send(opener).unwrap();
            let _ = gate.recv();
            wire.send("lo");
        }
    });
    let proxy = Setup::to(&[&origin.address]).listener("http2 = { max_connection_age = \"200ms\" }").start();
    let mut client = Client::of(&proxy);
    let response = client.get("/");
    let gate = next(&gates);
    // The library stops making streams when it is told of the end.
    poll(|| {
        let ready = client.requests.clone().ready();
        client.runtime.block_on(async { tokio::time::timeout(PATIENCE, ready).await.unwrap() }).is_err().then_some(())
    });
    gate.send(()).unwrap();
    assert_eq!(client.wait(response).unwrap().body, b"hello");
    client.end().unwrap();
    // Another one is made as if nothing had been.
    let mut client = Client::of(&proxy);
    let response = client.get("/");
    next(&gates).send(()).unwrap();
    assert_eq!(client.wait(response).unwrap().status, 200);
}
