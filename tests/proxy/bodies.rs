//! Large bodies: the same bytes come out, whatever their framing, and they are never held as a whole. Not here: how framings
//! are turned into one another (`framing`).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::{Origin, PATIENCE, Proxy, Setup, Wire, next};

const MIB: u64 = 1 << 20;
const LARGE: u64 = 100 * MIB;
/// How much the proxy may grow while a large body goes through, KiB.
const GROWTH: u64 = 8 * 1024;

/// Pseudo-random bytes; the body repeats them. A prime number of them, so that no buffer size divides it.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    });
    words.flatten().take(1_048_573).collect()
});

fn pattern(at: u64) -> &'static [u8] {
    &PATTERN[usize::try_from(at).unwrap() % PATTERN.len()..]
}

/// The first bytes of the body.
pub(crate) fn beginning(length: usize) -> &'static [u8] {
    &PATTERN[..length]
}

/// Compares a body with the pattern while it arrives.
#[derive(Default)]
pub(crate) struct Check(pub(crate) u64);

impl Check {
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = pattern(self.0);
            let count = expected.len().min(bytes.len());
            assert!(bytes[..count] == expected[..count], "other bytes from {} on", self.0);
            self.0 += count as u64;
            bytes = &bytes[count..];
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    Length,
    Chunks,
    Close,
}

impl Framing {
    pub(crate) fn fields(self, length: u64) -> String {
        match self {
            Self::Length => format!("Content-Length: {length}\r\n"),
            Self::Chunks => "Transfer-Encoding: chunked\r\n".into(),
            Self::Close => String::new(),
        }
    }

    /// Sends `length` bytes of the pattern in pieces of many sizes.
    pub(crate) fn send<S: Read + Write>(self, wire: &mut Wire<S>, length: u64) {
        let (mut at, mut size) = (0, 1);
        while at < length {
            let part = pattern(at);
            let part = &part[..part.len().min(size).min(usize::try_from(length - at).unwrap())];
            if self == Self::Chunks {
                wire.send(format!("{:x}\r\n", part.len()));
                wire.send(part);
                wire.send("\r\n");
            } else {
                wire.send(part);
            }
            at += part.len() as u64;
            size = (size * 3 + 1) % 300_007;
        }
        if self == Self::Chunks {
            wire.send("0\r\n\r\n");
        }
    }
}

/// Answers `GET /LENGTH` with so many bytes, and anything else with the length of a body that is as it should be.
pub(crate) fn origin(framing: Framing) -> Origin {
    Origin::start(move |mut wire, _| serve(&mut wire, framing))
}

/// One connection to such an origin.
pub(crate) fn serve<S: Read + Write>(wire: &mut Wire<S>, framing: Framing) {
    while let Some(head) = wire.head() {
        let mut check = Check::default();
        wire.body(&head, &mut |part| check.see(part));
        if head.starts_with("POST") {
            let body = check.0.to_string();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            continue;
        }
        let length = head.split([' ', '/']).nth(2).unwrap().parse().unwrap();
        wire.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.fields(length)));
        framing.send(wire, length);
        if framing == Framing::Close {
            return;
        }
    }
}

pub(crate) fn download(proxy: &Proxy, length: u64) {
    download_over(&mut proxy.client(), length);
}

pub(crate) fn download_over(client: &mut Wire, length: u64) {
    client.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let head = client.head().unwrap();
    let mut check = Check::default();
    client.body(&head, &mut |part| check.see(part));
    assert_eq!(check.0, length);
}

pub(crate) fn upload(proxy: &Proxy, framing: Framing, length: u64) {
    upload_over(&mut proxy.client(), framing, length);
}

pub(crate) fn upload_over(client: &mut Wire, framing: Framing, length: u64) {
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n", framing.fields(length)));
    framing.send(client, length);
    assert_eq!(client.message().unwrap().text(), length.to_string());
}

/// Runs a transfer small, to fill what is kept, and then large, which may take no more.
pub(crate) fn transfer(proxy: &Proxy, run: impl Fn(u64)) {
    run(16 * MIB);
    let before = proxy.memory();
    run(LARGE);
    let after = proxy.memory();
    assert!(after < before + GROWTH, "grew from {before} to {after} KiB");
}

#[test]
fn large_downloads_come_whole() {
    for framing in [Framing::Length, Framing::Chunks, Framing::Close] {
        let origin = origin(framing);
        let proxy = Setup::to(&[&origin.address]).start();
        transfer(&proxy, |length| download(&proxy, length));
    }
}

#[test]
fn large_uploads_arrive_whole() {
    for framing in [Framing::Length, Framing::Chunks] {
        let origin = origin(framing);
        let proxy = Setup::to(&[&origin.address]).start();
        transfer(&proxy, |length| upload(&proxy, framing, length));
    }
}

/// The origin sends back what it receives while it receives it.
#[test]
fn an_echo_streams_both_ways_at_once() {
    let origin = Origin::start(|mut wire, _| {
        let Some(head) = wire.head() else { return };
        let mut back = wire.twin();
        back.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.body(&head, &mut |part| {
            back.send(format!("{:x}\r\n", part.len()));
            back.send(part);
            back.send("\r\n");
        });
        back.send("0\r\n\r\n");
    });
    let proxy = Setup::to(&[&origin.address]).start();
    transfer(&proxy, |length| {
        let mut client = proxy.client();
        let mut up = client.twin();
        thread::scope(|scope| {
            scope.spawn(|| {
                up.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                Framing::Chunks.send(&mut up, length);
            });
            let head = client.head().unwrap();
            let mut check = Check::default();
            client.body(&head, &mut |part| check.see(part));
            assert_eq!(check.0, length);
        });
    });
}

/// Writes until the other side takes no more, and returns how much it took. A busy machine can only make it less.
fn fill(wire: &mut Wire, length: u64) -> u64 {
    wire.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut at = 0;
    while at < length {
        let part = pattern(at);
        let part = &part[..part.len().min(usize::try_from(length - at).unwrap())];
        match wire.stream.write(part) {
            Ok(count) => at += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    wire.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    at
}

/// Sends what [`fill`] left.
fn fill_up(wire: &mut Wire, mut at: u64, length: u64) {
    while at < length {
        let part = pattern(at);
        let part = &part[..part.len().min(usize::try_from(length - at).unwrap())];
        wire.send(part);
        at += part.len() as u64;
    }
}

/// A connection whose receive buffer is as small as the kernel allows.
fn narrow(address: &str) -> Wire {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    Wire::new(TcpStream::from(socket))
}

#[test]
fn a_slow_reader_slows_the_origin() {
    const LENGTH: u64 = 48 * MIB;
    let (sender, reports) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        SockRef::from(&wire.stream).set_send_buffer_size(64 * 1024).unwrap();
        while wire.head().is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            let at = fill(&mut wire, LENGTH);
            sender.send(at).unwrap();
            fill_up(&mut wire, at, LENGTH);
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let mut client = narrow(proxy.address("public"));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let taken = next(&reports);
        assert!(taken < LENGTH, "all {taken} bytes were taken though nobody read them");
        sizes.push(proxy.memory());
        let head = client.head().unwrap();
        let mut check = Check::default();
        client.body(&head, &mut |part| check.see(part));
        assert_eq!(check.0, LENGTH);
    }
    sizes.push(proxy.memory());
    assert!(sizes.iter().all(|size| *size < sizes[0] + GROWTH), "grew: {sizes:?} KiB");
}

#[test]
fn a_slow_origin_slows_the_client() {
    const LENGTH: u64 = 64 * MIB;
    // Sending waits until it is received: the client opens the gate.
    let (gate, opened) = mpsc::sync_channel(0);
    let origin = Origin::start(move |mut wire, _| {
        // Else the kernel alone may take as much as tcp_rmem allows.
        SockRef::from(&wire.stream).set_recv_buffer_size(64 * 1024).unwrap();
        while let Some(head) = wire.head() {
            gate.send(()).unwrap();
            let mut check = Check::default();
            wire.body(&head, &mut |part| check.see(part));
            wire.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let proxy = Setup::to(&[&origin.address]).start();
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.client();
        SockRef::from(&client.stream).set_send_buffer_size(64 * 1024).unwrap();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let taken = fill(&mut client, LENGTH);
        assert!(taken < LENGTH, "all {taken} bytes were taken though nobody read them");
        sizes.push(proxy.memory());
        next(&opened);
        fill_up(&mut client, taken, LENGTH);
        assert_eq!(client.message().unwrap().status(), 204);
    }
    sizes.push(proxy.memory());
    assert!(sizes.iter().all(|size| *size < sizes[0] + GROWTH), "grew: {sizes:?} KiB");
}

/// Extensions and blanks of an origin's chunk sizes are cut out, however many there are; of a client's, blanks are refused and
/// extensions bounded.
#[test]
fn chunk_sizes_of_origins_may_be_padded_and_extended() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let many = "1;name=\"some value\"\r\nx\r\n".repeat(2000);
    for (body, data) in [
        ("5 \r\nhello\r\n0 \r\n\r\n".to_owned(), "hello".to_owned()),
        ("00005      \r\nhello\r\n0\r\n\r\n".to_owned(), "hello".to_owned()),
        ("5\t;a\r\nhello\r\n0;b \r\n\r\n".to_owned(), "hello".to_owned()),
        (format!("{many}0\r\n\r\n"), "x".repeat(2000)),
    ] {
        let response = chunked(&body);
        let origin = Origin::start(move |mut wire, _| {
            while wire.head().is_some() {
                wire.send(&response);
            }
        });
        let proxy = Setup::to(&[&origin.address]).start();
        let answer = proxy.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((answer.status(), answer.text()), (200, &*data));
    }
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = Setup::to(&[&origin.address]).start();
    for (body, status) in [
        ("5 \r\nhello\r\n0\r\n\r\n".to_owned(), 400),
        ("5;a\r\nhello\r\n0\r\n\r\n".to_owned(), 200),
        (format!("1;a={}\r\nx\r\n0\r\n\r\n", "x".repeat(256)), 400),
        (format!("{many}0\r\n\r\n"), 400),
    ] {
        let answer = proxy.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        assert_eq!(answer.status(), status, "{}", &body[..20]);
    }
}
