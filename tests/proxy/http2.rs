//! Clients that speak HTTP/2, with `h2` as the client and curl. Not here: hostile ones, which a corpus plays.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, next, poll};
use crate::tls::Site;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A client with one connection.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    pub(crate) requests: SendRequest<Bytes>,
    /// Ends with the connection.
    ended: JoinHandle<Result<(), h2::Error>>,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    pub(crate) fn of(proxy: &Proxy) -> Self {
        Self::at(proxy.address("public"))
    }

    fn at(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (requests, connection): (_, Connection<TcpStream, Bytes>) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            h2::client::handshake(stream).await.unwrap()
        });
        let ended = runtime.spawn(connection);
        Self { runtime, requests, ended }
    }

    /// Begins a request.
    pub(crate) fn open(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let ready = self.requests.clone().ready();
        let mut requests =
            self.runtime.block_on(async { tokio::time::timeout(PATIENCE, ready).await.unwrap().unwrap() });
        let _guard = self.runtime.enter();
        requests.send_request(request, ends).unwrap()
    }

    pub(crate) fn get(&mut self, path: &str) -> ResponseFuture {
        self.open(Request::get(format!("http://a.test{path}")).body(()).unwrap(), true).0
    }

    pub(crate) fn wait(&self, response: ResponseFuture) -> Result<Answer, h2::Error> {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer(response)).await.expect("an answer") })
    }

    pub(crate) fn ask(&mut self, path: &str) -> Answer {
        let response = self.get(path);
        self.wait(response).unwrap()
    }

    /// Waits for the end of the connection.
    pub(crate) fn end(self) -> Result<(), h2::Error> {
        let ended = self.ended;
        drop(self.requests);
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, ended).await.expect("an end").unwrap() })
    }
}

async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let body = body(&mut stream).await?;
    let trailers = stream.trailers().await?;
    Ok(Answer { status: head.status.as_u16(), head: head.headers, body, trailers })
}

async fn body(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(body)
}

/// Asks for a path on a connection of its own, and returns the status.
pub(crate) fn ask(proxy: &Proxy, path: &str, fields: &[(&str, &str)]) -> u16 {
    let mut client = Client::of(proxy);
    let request = Request::get(format!("http://a.test{path}"));
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let (response, _) = client.open(request.body(()).unwrap(), true);
    client.wait(response).unwrap().status
}

/// Sends so many requests on a connection of its own; `of` says the path of each and the status that its answer has.
pub(crate) fn exchange(address: &str, count: usize, of: impl Fn(usize) -> (&'static str, u16)) {
    let mut client = Client::at(address);
    for turn in 0..count {
        let (path, status) = of(turn);
        assert_eq!(client.ask(path).status, status);
    }
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://a.test{path}")).body(()).unwrap()
}

#[test]
fn messages_go_both_ways_over_one_connection() {
    let (origin, requests) = Origin::recording(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\nKeep-Alive: 5\r\n\r\n5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n",
    );
    let log = "[log]\naccess = \"FOLDER/access.log\"\nformat = \"${request.protocol} ${request.method} ${request.path} ${response.status}\"";
    let proxy = Setup::to(&[&origin.address]).more(log).start();
    let mut client = Client::of(&proxy);
    let answer = client.ask("/one?a=b");
    assert_eq!(
        (answer.status, answer.body, answer.trailers.unwrap()["x-end"].to_str().unwrap()),
        (200, b"hello".to_vec(), "1")
    );
    assert!(!answer.head.contains_key("keep-alive") && !answer.head.contains_key("transfer-encoding"));
    let request = next(&requests);
    assert_eq!(request.line(), "GET /one?a=b HTTP/1.1");
    assert_eq!(request.field("host").unwrap(), "a.test");
    // RFC 9110 section 7.6.3: the version in which it was received.
    assert_eq!(request.field("via").unwrap(), "2.0 cairn");
    // Of unknown length, with trailers; then of a known one.
    let big = vec![b'x'; 200_000];
    let (response, mut body) = client.open(post("/two"), false);
    let _guard = client.runtime.enter();
    body.send_data(big.clone().into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    drop(_guard);
    assert_eq!(client.wait(response).unwrap().status, 200);
    let request = next(&requests);
    assert_eq!(request.field("transfer-encoding").unwrap(), "chunked");
    assert_eq!((request.body.len(), request.trailers.as_str()), (big.len(), "x-sum: 7\r\n"));
    let mut known = post("/three");
    known.headers_mut().insert("content-length", "5".parse().unwrap());
    let (response, mut body) = client.open(known, false);
    body.send_data("hello".into(), true).unwrap();
    assert_eq!(client.wait(response).unwrap().status, 200);
    let request = next(&requests);
    assert_eq!((request.field("content-length").unwrap().as_str(), request.text()), ("5", "hello"));
    // Over HTTP/1.1 on the same port, too.
    assert_eq!(proxy.ask("GET /four HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").status(), 200);
    let lines = poll(|| {
        let lines = std::fs::read_to_string(proxy.folder().join("access.log")).ok()?;
        (lines.lines().count() == 4).then_some(lines)
    });
    assert_eq!(lines, "HTTP/2 GET /one 200\nHTTP/2 POST /two 200\nHTTP/2 POST /three 200\nHTTP/1.1 GET /four 200\n");
}

#[test]
fn alpn_chooses_it_unless_it_is_off() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    for (keys, version) in [("", "2 hi"), ("http2.enabled = false", "1.1 hi")] {
        let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).listener(keys).start();
        let port = proxy.address("public").rsplit(':').next().unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--http2", "-w", " %{http_version}", "--resolve", &format!("a.test:{port}:127.0.0.1")]);
        let output = curl.arg(format!("https://a.test:{port}/")).output().expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let got = text.split_once(' ').map(|(body, version)| format!("{version} {body}"));
        assert_eq!(got.as_deref(), Some(version), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let proxy = Setup::to(&[&origin.address]).listener("http2.enabled = false").start();
    assert_eq!(proxy.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 400);
}

#[test]
fn a_stream_that_an_origin_does_not_take_stalls_no_other() {
    let (sender, held) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        let head = wire.head().unwrap_or_default();
        if head.starts_with("POST") {
            // Nothing of the body is read while the test lasts.
            return sender.send(wire).unwrap();
        }
        wire.send(OK);
        while wire.message().is_some() {
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = Client::of(&proxy);
    let (_response, mut body) = client.open(post("/slow"), false);
    body.send_data(vec![b'x'; 8 << 20].into(), false).unwrap();
    let _wire = next(&held);
    for _ in 0..50 {
        assert_eq!(client.ask("/quick").body, b"hi");
    }
}

#[test]
fn a_response_that_breaks_off_is_a_reset() {
    let origin = Origin::start(|mut wire, _| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = Client::of(&proxy);
    let response = client.get("/");
    assert_eq!(client.wait(response).unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    // The connection goes on.
    let response = client.get("/");
    assert_eq!(client.wait(response).unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
}

#[test]
fn a_client_that_gives_a_request_up_frees_its_origin() {
    let (sender, ends) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        if wire.head().is_some_and(|head| head.starts_with("GET /held")) {
            let _ = sender.send(wire.end());
        } else {
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = Client::of(&proxy);
    let held = client.open(Request::get("http://a.test/held").body(()).unwrap(), true);
    poll(|| (origin.connections() == 1).then_some(()));
    let (response, mut stream) = held;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    next(&ends);
    assert_eq!(client.ask("/").status, 200);
}

#[test]
fn a_drain_ends_connections_when_their_streams_have() {
    let (sender, held) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while wire.head().is_some() {
            sender.send(wire.twin()).unwrap();
        }
    });
    let mut proxy = Setup::to(&[&origin.address]).start();
    let mut client = Client::of(&proxy);
    let response = client.get("/");
    let mut wire = next(&held);
    proxy.signal(Signal::TERM);
    // The client is told, and opens no more.
    poll(|| {
        let ready = client.requests.clone().ready();
        let opened = client.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(5), ready).await });
        matches!(opened, Ok(Err(_))).then_some(())
    });
    wire.send(OK);
    assert_eq!(client.wait(response).unwrap().body, b"hi");
    client.end().unwrap();
    assert!(proxy.wait().success());
}

#[test]
fn requests_of_a_connection_are_bounded() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener("limits.requests = 3\ntimeouts.idle = \"60s\"").start();
    let mut client = Client::of(&proxy);
    for _ in 0..3 {
        assert_eq!(client.ask("/").status, 200);
    }
    client.end().unwrap();
}

#[test]
fn a_client_that_breaks_the_rules_is_told_and_logged() {
    use std::io::{Read, Write};
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).start();
    let mut stream = std::net::TcpStream::connect(proxy.address("public")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // WINDOW_UPDATE on an idle stream.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\x05\0\0\0\x01")
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let goaway: &[u8] = b"\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01WINDOW_UPDATE on an idle stream";
    assert!(bytes.windows(goaway.len()).any(|window| window == goaway), "{bytes:?}");
    proxy.said("cairn: listener public, client 127.0.0.1: HTTP/2 connection ended with PROTOCOL_ERROR: WINDOW_UPDATE on an idle stream");
}

#[test]
fn a_field_section_that_does_not_end_ends_its_connection() {
    use std::io::{Read, Write};
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener("timeouts.header = \"200ms\"").start();
    let mut stream = std::net::TcpStream::connect(proxy.address("public")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // HEADERS without END_HEADERS.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(b"a field section took too long"), "{bytes:?}");
}

#[test]
fn a_host_that_another_listener_serves_is_misdirected() {
    let (site, origin) = (Site::new(), Origin::answering(OK));
    let second = format!(
        "[[listener]]\nname = \"second\"\nbind = \"127.0.0.1:0\"\n{}\n[[route]]\nlisteners = [\"second\"]\nhosts = [\"b.test\"]\ncluster = \"app\"",
        site.keys(&["a"])
    );
    let first = Setup::to(&[&origin.address]).listener(&site.keys(&["a"]));
    let proxy = first.route("listeners = [\"public\"]\nhosts = [\"a.test\"]").more(&second).start();
    let port = proxy.address("public").rsplit(':').next().unwrap();
    // Of the same certificate: served here, elsewhere, nowhere.
    for (host, status) in [("a.test", "200"), ("b.test", "421"), ("c.test", "404")] {
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--http2", "-o", "/dev/null", "-w", "%{http_code}", "-H", &format!("host: {host}")]);
        let output =
            curl.args(["--resolve", &format!("a.test:{port}:127.0.0.1")]).arg(format!("https://a.test:{port}/"));
        let output = output.output().expect("curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// An extended CONNECT (RFC 8441).
pub(crate) fn websocket(client: &mut Client) -> (ResponseFuture, SendStream<Bytes>) {
    extended_connect(client, "websocket")
}

/// The same for another protocol.
pub(crate) fn extended_connect(client: &mut Client, protocol: &'static str) -> (ResponseFuture, SendStream<Bytes>) {
    client.runtime.block_on(async {
        let opened = async {
            while !client.requests.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("it was announced");
    });
    let mut request = Request::builder().method("CONNECT").uri("http://a.test/chat").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    client.open(request, false)
}

#[test]
#[allow(clippy::result_large_err, reason = "the library gives the types of its callback")]
fn a_websocket_on_a_stream_is_an_upgrade_at_the_origin() {
    let (sender, keys) = mpsc::channel();
    let origin = Origin::start(move |wire, _| {
        let look = |request: &tungstenite::handshake::server::Request, response| {
            sender.send(request.headers()["sec-websocket-key"].to_str().unwrap().len()).unwrap();
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(wire.stream, look).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).unwrap();
            }
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut client = Client::of(&proxy);
    let (response, mut up) = websocket(&mut client);
    // A frame with the text `hi`, masked; sent before the answer, it waits.
    let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    up.send_data(frame.to_vec().into(), false).unwrap();
    assert_eq!(next(&keys), 24);
    let echoed = client.runtime.block_on(async {
        let exchange = async {
            let (head, mut down) = response.await.unwrap().into_parts();
            assert_eq!(head.status, 200);
            assert!(!head.headers.contains_key("sec-websocket-accept") && !head.headers.contains_key("upgrade"));
            down.data().await.unwrap().unwrap()
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an echo")
    });
    assert_eq!(&echoed[..], b"\x81\x02hi");
    // Other streams share the connection with it.
    up.send_reset(Reason::CANCEL);
}

#[test]
fn what_does_not_switch_is_no_tunnel() {
    const WRONG: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for answer in [OK, WRONG] {
        let origin = Origin::answering(answer);
        let proxy = Setup::to(&[&origin.address]).start();
        let mut client = Client::of(&proxy);
        let (response, _up) = websocket(&mut client);
        let head =
            client.runtime.block_on(async { tokio::time::timeout(PATIENCE, response).await.expect("an answer") });
        assert_eq!(head.unwrap().status(), 502, "{answer}");
    }
    let local = "[[route]]\npath = \"/chat\"\nrespond = { status = 200, body = \"x\" }";
    let proxy = Setup::to(&["127.0.0.1:9"]).more(local).start();
    let mut client = Client::of(&proxy);
    let (response, _up) = websocket(&mut client);
    let head = client.runtime.block_on(async { tokio::time::timeout(PATIENCE, response).await.expect("an answer") });
    assert_eq!(head.unwrap().status(), 405);
}
