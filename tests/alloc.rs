//! A warm exchange allocates nothing, with the access log on, too: a counting allocator watches a real worker on real sockets. One test in this file,
//! because the allocator belongs to the whole process.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use cairn::access_log::{TapFilter, TapOrder, tap};
use cairn::http2::{Event, FrameReader, FrameWriter, PREFACE, Side, StreamId};
use cairn::id::WorkerId;
use cairn::snapshot::Ledger;
use cairn::worker::{Order, Worker};
use cairn::{config, listener, runtime};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Allocations by threads that called [`watch`].
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    if WATCHED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: [&[u8]; 4] = [
    b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
    b"POST /orders/1/../2 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /caf%c3%a9//%7e/%2e%2E/x%2fy/b/..;z/ HTTP/1.1\r\nHost: [0:0:0:0:0:0:0:1]:80\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
];
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: origin\r\n\r\nok";

/// Answers every request, whose end is an empty line or the known body, with the same response.
fn origin<S: Read + Write + Send + 'static>(listener: &TcpListener, open: impl Fn(TcpStream) -> S) {
    for stream in listener.incoming() {
        let mut stream = open(stream.expect("a connection"));
        std::thread::spawn(move || {
            let (mut buffer, mut seen) = ([0; 4096], Vec::new());
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                let ends = [&b"\r\n\r\n"[..], b"\r\n\r\nhello", b"0\r\n\r\n"];
                let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
                let end = match (text.contains("content-length: 5"), text.contains("chunked")) {
                    (true, _) => ends[1],
                    (_, true) => ends[2],
                    _ => ends[0],
                };
                if seen.ends_with(end) {
                    seen.clear();
                    stream.write_all(RESPONSE).expect("a response");
                }
            }
        });
    }
}

/// The same over HTTP/2, without reading the fields of requests: a stream that has ended is answered.
fn http2_origin(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        std::thread::spawn(move || {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).expect("a preface");
            // Empty SETTINGS.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("a connection");
            let mut head = [0; 9];
            while stream.read_exact(&mut head).is_ok() {
                let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                stream.read_exact(&mut payload).expect("a frame");
                let id = &head[5..];
                match (head[3], head[4] & 1) {
                    (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).expect("a connection"),
                    (0 | 1, 1) => {
                        // `:status: 200` and `content-length: 2`, then content.
                        let fields = [&[0, 0, 5, 1, 4], id, &[0x88, 0x0f, 0x0d, 1, b'2']].concat();
                        let content = [&[0, 0, 2, 0, 1], id, b"ok"].concat();
                        stream.write_all(&[fields, content].concat()).expect("a connection");
                    }
                    _ => {}
                }
            }
        });
    }
}

fn exchange(client: &mut (impl Read + Write), request: &[u8]) {
    client.write_all(request).expect("a request");
    let (mut response, mut length) = ([0; 1024], 0);
    while !response[..length].ends_with(b"\r\n\r\nok") {
        let count = client.read(&mut response[length..]).expect("a response");
        assert!(count > 0, "the proxy closed the connection");
        length += count;
    }
    assert!(response.starts_with(b"HTTP/1.1 200 "));
}

/// A certificate for example.com in a folder, as a listener and as a cluster name it, a client that believes it, and a server that has it.
fn secure(folder: &Path) -> (String, String, ClientConfig, ServerConfig) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["example.com".into()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let (cert, path) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, certificate.pem()).expect("a file");
    std::fs::write(&path, key.serialize_pem()).expect("a file");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    let keys = format!("tls.certificates = [{{ cert = {cert:?}, key = {path:?} }}]");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    let trust = format!("tls = {{ ca = {cert:?}, server_name = \"example.com\" }}");
    (keys, trust, client, server.expect("a certificate with its key"))
}

/// Allocations of the worker while it serves ten thousand exchanges on a warm connection.
fn allocations(mut client: impl Read + Write) -> u64 {
    for turn in 0..300 {
        exchange(&mut client, REQUESTS[turn % REQUESTS.len()]);
    }
    assert!(COUNT.load(Ordering::Relaxed) > 0, "the counter counts: the first exchanges allocate");
    in_rounds(|turn| exchange(&mut client, REQUESTS[turn % REQUESTS.len()]))
}

/// Allocations of ten thousand exchanges in ten rounds, without the two rounds that have most: every ten seconds the worker gives memory
/// back, and that is a task, which is allocated. On a slow machine it falls into one round or two; what exchanges allocate is in each.
fn in_rounds(mut exchange: impl FnMut(usize)) -> u64 {
    let mut rounds = [0; 10].map(|_: u64| {
        let before = COUNT.load(Ordering::Relaxed);
        (0..1_000).for_each(&mut exchange);
        COUNT.load(Ordering::Relaxed) - before
    });
    rounds.sort_unstable();
    rounds[..8].iter().sum()
}

/// A client that speaks HTTP/2, in frames that repeat but for the number of the stream.
struct Http2<S> {
    stream: S,
    next: u32,
    reader: FrameReader,
    /// Data that was received since the window was last opened.
    received: u32,
}

impl<S: Read + Write> Http2<S> {
    fn over(mut stream: S) -> Self {
        let mut bytes = [0; 64];
        let mut frames = FrameWriter::new(&mut bytes);
        frames.settings(std::iter::empty()).expect("room");
        let len = frames.len();
        stream.write_all(&[&PREFACE[..], &bytes[..len]].concat()).expect("a preface");
        Self { stream, next: 1, reader: FrameReader::new(Side::Server, 16_384), received: 0 }
    }

    fn exchange(&mut self, body: &[u8]) {
        // GET or POST, https, example.com, and a path; none of it indexed anew.
        let get = b"\x82\x87\x04\x06/a?b=c\x01\x0bexample.com\x0f\x2b\x04test";
        let post = b"\x83\x87\x04\x02/c\x01\x0bexample.com";
        let (id, mut bytes) = (StreamId::new(self.next), [0; 256]);
        self.next += 2;
        let mut frames = FrameWriter::new(&mut bytes);
        frames.headers(id, if body.is_empty() { get } else { post }, body.is_empty(), 16_384).expect("room");
        if !body.is_empty() {
            frames.data(id, body.len() as u32, true).expect("room");
        }
        if self.received > 16_384 {
            frames.window_update(StreamId::CONNECTION, std::mem::take(&mut self.received)).expect("room");
        }
        let len = frames.len();
        // The content belongs behind the head of its frame, which is the last one but for the window.
        let mut message = bytes[..len].to_vec();
        if !body.is_empty() {
            let at = message.windows(9).position(|head| head[3] == 0 && head[4] == 1 && head[2] == body.len() as u8);
            let at = at.expect("DATA") + 9;
            message.splice(at..at, body.iter().copied());
        }
        self.stream.write_all(&message).expect("a request");
        let (mut bytes, mut is_over) = ([0; 4096], false);
        while !is_over {
            let count = self.stream.read(&mut bytes).expect("a response");
            assert!(count > 0, "the proxy closed the connection");
            let mut rest = &bytes[..count];
            loop {
                let part = self.reader.next(rest).expect("frames");
                rest = &rest[part.len..];
                match part.event {
                    Event::NeedMore => break,
                    Event::Content => self.received += part.len as u32,
                    Event::DataEnd { stream, end_stream } => is_over |= stream == id && end_stream,
                    Event::RstStream { .. } | Event::GoAway { .. } => panic!("{part:?}"),
                    _ => {}
                }
            }
        }
    }
}

/// The same as [`allocations`] over HTTP/2, with and without content of unknown length.
fn stream_allocations(client: impl Read + Write) -> u64 {
    let mut client = Http2::over(client);
    let bodies: [&[u8]; 2] = [b"", b"hello"];
    for turn in 0..300 {
        client.exchange(bodies[turn % 2]);
    }
    in_rounds(|turn| client.exchange(bodies[turn % 2]))
}

#[test]
fn ten_thousand_warm_exchanges_allocate_nothing() {
    let [upstream, secured, shared] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("an origin"));
    let folder = tempfile::tempdir().expect("a folder");
    let (keys, trust, tls, server) = secure(folder.path());
    let text = format!(
        "[log]\naccess = \"/dev/null\"\nheaders = [\"accept\"]\n[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"s\"\nbind = \"127.0.0.1:0\"\n{keys}\n[[listener]]\nname = \"o\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"k\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"h\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"h\"\nlisteners = [\"h\"]\ncluster = \"h\"\n[[cluster]]\nname = \"h\"\nendpoints = [\"{}\"]\n\
         protocol = \"http2\"\n\
         [[route]]\nname = \"r\"\nlisteners = [\"l\", \"s\"]\nhosts = [\"example.com\", \"[::1]\"]\n\
         path_prefix = \"/\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [\"{}\"]\n\
         [[route]]\nname = \"t\"\nlisteners = [\"o\"]\ncluster = \"t\"\n[[cluster]]\nname = \"t\"\nendpoints = [\"{}\"]\n{trust}\n\
         [[route]]\nname = \"k\"\nlisteners = [\"k\"]\ncluster = \"k\"\n[[cluster]]\nname = \"k\"\n\
         endpoints = [{{ address = \"{1}\", zone = \"a\" }}]\nzone = \"a\"\n\
         balance = \"ring_hash\"\nhash_on = \"source\"\naffinity = {{ cookie = \"lb\" }}\n",
        shared.local_addr().expect("an address"),
        upstream.local_addr().expect("an address"),
        secured.local_addr().expect("an address")
    );
    std::thread::spawn(move || origin(&upstream, |stream| stream));
    std::thread::spawn(move || http2_origin(&shared));
    let server = Arc::new(server);
    std::thread::spawn(move || {
        origin(&secured, |stream| {
            let connection = ServerConnection::new(Arc::clone(&server)).expect("a server");
            StreamOwned::new(connection, stream)
        });
    });
    let snapshot = Arc::new(
        config::parse("test.toml", &text).expect("valid").compile(1, &mut Ledger::default()).expect("compiles"),
    );
    let (mut sockets, bound) = listener::open(snapshot.listeners(), 1, &Vec::new()).expect("a port");
    let sockets = sockets.remove(0);
    let (started, start) = mpsc::channel();
    let cpu = runtime::allowed_cpus().expect("an affinity mask")[0];
    let executor = runtime::spawn("test", cpu, move |background| async move {
        let (worker, handle) = Worker::new(WorkerId(0), 1, snapshot, sockets).expect("a ring");
        started.send(handle).expect("a waiting test");
        WATCHED.set(true);
        worker.run(background).await
    });
    let executor = executor.expect("an executor");
    let handle = start.recv().expect("a worker");

    let connect = |at: usize| TcpStream::connect(bound[at].1.to_string()).expect("a connection");
    assert_eq!(allocations(connect(0)), 0, "in the clear");
    assert_eq!(stream_allocations(connect(0)), 0, "over HTTP/2");
    // Who has watched leaves nothing behind.
    let (begin, mut reader) = tap(TapFilter::default());
    handle.watch(0, TapOrder::Begin(begin));
    while !reader.has_begun() {
        std::thread::yield_now();
    }
    let mut client = connect(0);
    (0..300).for_each(|turn| exchange(&mut client, REQUESTS[turn % REQUESTS.len()]));
    assert!(reader.pop(&mut Vec::new()), "it is watched");
    handle.watch(0, TapOrder::End);
    assert_eq!(allocations(client), 0, "after somebody has watched");
    let name = ServerName::try_from("example.com").expect("a name");
    let tls = ClientConnection::new(Arc::new(tls), name).expect("a client");
    assert_eq!(allocations(StreamOwned::new(tls, connect(1))), 0, "over TLS");
    assert_eq!(allocations(connect(2)), 0, "over TLS to the origin");
    assert_eq!(allocations(connect(3)), 0, "by a key, with a cookie each time");

    assert_eq!(allocations(connect(4)), 0, "over HTTP/2 to the origin");

    handle.order(Order::Stop);
    executor.join().expect("no panic").expect("no fault");
}
