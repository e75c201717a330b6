//! A session on a real ring and a real socket, against rustls as the client for the handshake, and then records that rustls
//! would not send. Not here: whole requests (`tests/proxy/tls.rs`).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ContentType, ProtocolVersion, RootCertStore, SupportedCipherSuite};

use super::record::{CONTENT_MAX, HEADER, Header, Key};
use super::{Error, Server, ServerSpec, Session, Tickets, Wire};
use crate::buffer::Queue;
use crate::id::Owner;
use crate::limits;
use crate::uring::{Event, Ring, SocketId};

/// Does something on a session whose records go to a socket.
fn over<T>(ring: &mut Ring, socket: SocketId, act: impl FnOnce(&mut Wire<'_>) -> T) -> T {
    let mut out = Queue::default();
    let (now, taken, unsent) = (ring.clock().now(), ring.taken(socket), ring.unsent(socket) as u64);
    let done = act(&mut Wire { buffers: &mut ring.buffers, out: &mut out, now, taken, unsent });
    ring.send_all(socket, &mut out);
    done
}

/// A session and the keys of its client.
struct Pair {
    ring: Ring,
    socket: SocketId,
    session: Session,
    plain: Queue,
    client: UnixStream,
    tx: Key,
    rx: Key,
    /// Makes records for the client.
    harness: &'static crate::buffer::Pool,
}

/// A server, and clients that believe it.
fn parties(suite: SupportedCipherSuite) -> (Server, Arc<ClientConfig>) {
    let key = if is_rsa(suite) {
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap()
    } else {
        rcgen::KeyPair::generate().unwrap()
    };
    let cert = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap().self_signed(&key).unwrap();
    let chain = super::Chain::from_pem(&cert.pem()).unwrap();
    let identity = super::Identity::new(chain, &key.serialize_pem()).unwrap();
    let spec = ServerSpec::new([identity].into());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let version = if suite.version().version == ProtocolVersion::TLSv1_3 { &TLS13 } else { &TLS12 };
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
    let mut config = builder.with_no_client_auth();
    config.enable_secret_extraction = true;
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    (Server::new(&spec, Arc::new(Tickets::new())), Arc::new(config))
}

fn is_rsa(suite: SupportedCipherSuite) -> bool {
    format!("{suite:?}").contains("ECDHE_RSA")
}

impl Pair {
    /// After the handshake.
    fn new(suite: SupportedCipherSuite) -> Self {
        let (server, config) = parties(suite);
        let (mut client, theirs) = UnixStream::pair().unwrap();
        let mut ring = Ring::new().unwrap();
        let socket = ring.add(theirs.into(), Owner::Downstream(0));
        let (mut session, mut plain) = (Session::server(&server), Queue::default());
        let handshake = std::thread::spawn(move || {
            let mut tls = ClientConnection::new(config, ServerName::try_from("a.test").unwrap()).unwrap();
            // The first records of content, which bring the tickets of TLS 1.3 with them.
            tls.writer().write_all(b"hello").unwrap();
            while tls.is_handshaking() || tls.wants_write() {
                tls.complete_io(&mut client).unwrap();
            }
            let mut answer = [0; 2];
            rustls::Stream::new(&mut tls, &mut client).read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hi");
            let version = tls.protocol_version().unwrap();
            (client, version, tls.dangerous_extract_secrets().unwrap())
        });
        let (mut agreed, mut greeted) = (None, false);
        while !handshake.is_finished() {
            ring.turn_within(std::time::Duration::from_millis(20)).unwrap();
            while let Some(event) = ring.next_event() {
                let Event::Received(_, mut queue) = event else { continue };
                agreed =
                    over(&mut ring, socket, |wire| session.receive(wire, &mut queue, &mut plain)).unwrap().or(agreed);
            }
            if plain.bytes() == 5 && !greeted {
                greeted = true;
                let mut out = Queue::default();
                let mut lease = ring.buffers.take().unwrap();
                assert_eq!(lease.append(b"hi"), 2);
                out.push(ring.buffers.pieces(), lease);
                over(&mut ring, socket, |wire| session.send(wire, &mut out)).unwrap();
            }
        }
        let (client, version, secrets) = handshake.join().unwrap();
        let agreed = agreed.expect("the handshake is over");
        assert_eq!((agreed.tls13, agreed.resumed), (version == ProtocolVersion::TLSv1_3, false));
        assert_eq!(plain.front(ring.buffers.pieces()), Some(&b"hello"[..]));
        plain.clear(ring.buffers.pieces());
        let tx = Key::new(version, secrets.tx.0, &secrets.tx.1).unwrap();
        let rx = Key::new(version, secrets.rx.0, &secrets.rx.1).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let harness = crate::buffer::Pool::new(1, 60_000, 64, 64).unwrap();
        Self { ring, socket, session, plain, client, tx, rx, harness }
    }

    /// A record of the client.
    fn sealed(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let mut lease = self.harness.take().unwrap();
        assert_eq!(lease.append(content), content.len());
        assert!(self.tx.seal(kind, &mut lease));
        lease.bytes().to_vec()
    }

    /// Has the session receive bytes and returns what it says of them.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.client.write_all(bytes).unwrap();
        let (mut left, mut outcome) = (bytes.len(), Ok(()));
        while left > 0 {
            self.ring.turn(true).unwrap();
            while let Some(event) = self.ring.next_event() {
                let Event::Received(_, mut queue) = event else { continue };
                left -= queue.bytes();
                let received =
                    over(&mut self.ring, self.socket, |wire| self.session.receive(wire, &mut queue, &mut self.plain));
                outcome = outcome.and(received.map(|_| ()));
            }
        }
        outcome
    }

    /// What has arrived of content.
    fn content(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(lease) = self.plain.pop(self.ring.buffers.pieces()) {
            all.extend_from_slice(lease.bytes());
        }
        all
    }

    /// Brings what was queued to the client.
    fn flush(&mut self) {
        while self.ring.unsent(self.socket) > 0 {
            self.ring.turn(true).unwrap();
            while self.ring.next_event().is_some() {}
        }
    }

    /// The next record that the session has sent.
    fn sent(&mut self) -> (ContentType, Vec<u8>) {
        self.flush();
        let mut record = vec![0; HEADER];
        self.client.read_exact(&mut record).unwrap();
        let header = Header::read(&record).unwrap().unwrap();
        record.resize(HEADER + header.body, 0);
        self.client.read_exact(&mut record[HEADER..]).unwrap();
        let (kind, range) = self.rx.open(header, &mut record).unwrap();
        (kind, record[range].to_vec())
    }

    /// Sends what a lease of so many bytes each holds.
    fn send(&mut self, pieces: &[usize]) -> Vec<u8> {
        let (mut out, mut all) = (Queue::default(), Vec::new());
        for (&length, at) in pieces.iter().zip(0..) {
            let content: Vec<u8> = (0..length).map(|byte| (byte * 7 + at) as u8).collect();
            let mut lease =
                if length > CONTENT_MAX { self.ring.buffers.take_large() } else { self.ring.buffers.take() }.unwrap();
            assert_eq!(lease.append(&content), length);
            all.extend_from_slice(&content);
            out.push(self.ring.buffers.pieces(), lease);
        }
        over(&mut self.ring, self.socket, |wire| self.session.send(wire, &mut out)).unwrap();
        all
    }
}

const CONTENT: ContentType = ContentType::ApplicationData;

#[test]
fn content_comes_out_as_it_went_in_whatever_its_pieces() {
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        let mut pair = Pair::new(*suite);
        let content: Vec<u8> = (0..CONTENT_MAX).map(|byte| (byte % 251) as u8).collect();
        for cut in [1, 4, 5, 6, 300, 16_389] {
            let mut records = pair.sealed(CONTENT, &content);
            records.extend(pair.sealed(CONTENT, b"end"));
            let (first, second) = records.split_at(cut);
            pair.receive(first).unwrap();
            assert!(pair.session.holds_part(), "{suite:?} {cut}");
            pair.receive(second).unwrap();
            assert!(!pair.session.holds_part());
            assert!(pair.content() == [&content[..], b"end"].concat(), "{suite:?} {cut}");
        }
        for pieces in [&[1][..], &[3, 5, 200], &[100, 16_384, 9], &[16_384, 16_384, 1], &[50_000, 3], &[0, 1]] {
            let all = pair.send(pieces);
            let mut got = Vec::new();
            while got.len() < all.len() {
                let (kind, content) = pair.sent();
                assert_eq!(kind, CONTENT);
                got.extend(content);
            }
            assert!(got == all, "{suite:?} {pieces:?}");
        }
    }
}

#[test]
fn bytes_one_by_one_are_a_record_all_the_same() {
    let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    let records = [pair.sealed(CONTENT, b"one"), pair.sealed(CONTENT, b"two")].concat();
    for byte in records {
        pair.receive(&[byte]).unwrap();
    }
    assert_eq!(pair.content(), b"onetwo");
}

/// Each kind of record that may not come, and the alert that it earns.
#[test]
fn what_may_not_come_earns_an_alert() {
    type Make = fn(&mut Pair) -> Vec<u8>;
    let cases: [(&str, Make, Error, u8); 9] = [
        ("forged", |pair| flip(pair.sealed(CONTENT, b"text")), Error::Forged, 20),
        (
            "replayed",
            |pair| {
                let one = pair.sealed(CONTENT, b"text");
                [one.clone(), one].concat()
            },
            Error::Forged,
            20,
        ),
        ("too long", |_| vec![23, 3, 3, 0x41, 0x01], Error::TooLong, 22),
        ("content too long", |pair| pair.sealed(CONTENT, &vec![b'x'; CONTENT_MAX + 1]), Error::TooLong, 22),
        ("not TLS", |_| b"GET / HTTP/1.1\r\n\r\n".to_vec(), Error::Malformed, 50),
        ("change of cipher", |_| vec![20, 3, 3, 0, 1, 1], Error::Unexpected, 10),
        ("handshake", |pair| pair.sealed(ContentType::Handshake, &[1, 0, 0, 1, 0]), Error::Unexpected, 10),
        (
            "two key updates",
            |pair| pair.sealed(ContentType::Handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]),
            Error::Unexpected,
            10,
        ),
        (
            "flood",
            |pair| (0..=limits::EMPTY_RECORDS).flat_map(|_| pair.sealed(CONTENT, b"")).collect(),
            Error::Flood,
            10,
        ),
    ];
    for (name, make, error, alert) in cases {
        let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384);
        let bytes = make(&mut pair);
        assert_eq!(pair.receive(&bytes), Err(error), "{name}");
        assert_eq!(pair.sent(), (ContentType::Alert, vec![2, alert]), "{name}");
        assert!(
            !over(&mut pair.ring, pair.socket, |wire| pair.session.finish(wire)),
            "{name}: no second word after an alert"
        );
        over(&mut pair.ring, pair.socket, |wire| pair.session.send(wire, &mut Queue::default())).unwrap();
    }
}

#[test]
fn alerts_of_the_peer_end_it_or_not() {
    let tls13 = aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let tls12 = aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let cases = [
        (tls13, [1, 0], Ok(()), true),
        (tls13, [1, 90], Ok(()), false),
        (tls13, [1, 100], Err(Error::Refused), false),
        (tls12, [1, 100], Ok(()), false),
        (tls12, [2, 40], Err(Error::Refused), false),
    ];
    for (suite, alert, outcome, ended) in cases {
        let mut pair = Pair::new(suite);
        let record = pair.sealed(ContentType::Alert, &alert);
        assert_eq!((pair.receive(&record), pair.session.has_ended()), (outcome, ended), "{alert:?}");
    }
}

/// Asked for new keys, it says so under the old ones and then uses the new ones, which this client does not have.
#[test]
fn keys_change_both_ways_when_the_peer_asks() {
    let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    let request = pair.sealed(ContentType::Handshake, &[24, 0, 0, 1, 1]);
    pair.receive(&request).unwrap();
    assert_eq!(pair.sent(), (ContentType::Handshake, vec![24, 0, 0, 1, 0]));
    pair.send(&[10]);
    pair.flush();
    let mut record = vec![0; HEADER + 10 + 17];
    pair.client.read_exact(&mut record).unwrap();
    let header = Header::read(&record).unwrap().unwrap();
    assert_eq!(pair.rx.open(header, &mut record), Err(Error::Forged));
    let old = pair.sealed(CONTENT, b"text");
    assert_eq!(pair.receive(&old), Err(Error::Forged));
}

/// Who has said that it sends no more answers no request for new keys either, but goes on reading.
#[test]
fn no_key_update_follows_close_notify() {
    let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    assert!(over(&mut pair.ring, pair.socket, |wire| pair.session.finish(wire)));
    assert_eq!(pair.sent(), (ContentType::Alert, vec![1, 0]));
    let records = [pair.sealed(CONTENT, b"text"), pair.sealed(ContentType::Handshake, &[24, 0, 0, 1, 1])].concat();
    pair.receive(&records).unwrap();
    assert_eq!(pair.content(), b"text");
    pair.flush();
    pair.client.set_nonblocking(true).unwrap();
    let mut more = [0; 64];
    assert_eq!(pair.client.read(&mut more).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    // It has taken the peer's next key.
    let old = pair.sealed(CONTENT, b"text");
    assert_eq!(pair.receive(&old), Err(Error::Forged));
}

/// A key of TLS 1.3 that has sealed as much as it may is followed by another; one of 1.2 ends the connection, which says so
/// long before.
#[test]
fn a_key_seals_no_more_than_it_may() {
    let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    pair.session.limit_after(1);
    pair.send(&[1, 16_384]);
    assert_eq!(pair.sent().0, CONTENT);
    assert_eq!(pair.sent(), (ContentType::Handshake, vec![24, 0, 0, 1, 0]));
    assert!(!pair.session.is_worn());
    let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
    assert!(!pair.session.is_worn());
    pair.session.limit_after(1);
    assert!(pair.session.is_worn());
    pair.send(&[1]);
    let mut out = Queue::default();
    let mut lease = pair.ring.buffers.take().unwrap();
    assert_eq!(lease.append(b"x"), 1);
    out.push(pair.ring.buffers.pieces(), lease);
    assert_eq!(over(&mut pair.ring, pair.socket, |wire| pair.session.send(wire, &mut out)), Err(Error::Worn));
    assert!(out.is_empty());
}

#[test]
fn the_end_is_said_once_and_nothing_is_read_after_the_peers() {
    let mut pair = Pair::new(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    let records = [pair.sealed(ContentType::Alert, &[1, 0]), b"no TLS".to_vec()].concat();
    pair.receive(&records).unwrap();
    pair.receive(b"more").unwrap();
    assert_eq!(pair.content(), b"");
    assert_eq!([(); 2].map(|()| over(&mut pair.ring, pair.socket, |wire| pair.session.finish(wire))), [true, false]);
    assert_eq!(pair.sent(), (ContentType::Alert, vec![1, 0]));
}

/// What a client says first, byte by byte wrong: there is an alert or a wait for more, and nothing else.
#[test]
fn a_hello_with_any_byte_changed_does_no_harm() {
    let (server, config) = parties(aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(config, ServerName::try_from("a.test").unwrap()).unwrap();
    client.write_tls(&mut hello).unwrap();
    let mut ring = Ring::new().unwrap();
    let (_client, theirs) = UnixStream::pair().unwrap();
    let socket = ring.add(theirs.into(), Owner::Downstream(0));
    // What is sent to a closed socket is dropped.
    ring.close(socket);
    let mut failures = 0;
    for at in 0..hello.len() {
        let mut bytes = hello.clone();
        bytes[at] ^= 0x81;
        let mut session = Session::server(&server);
        let (first, rest) = bytes.split_at(at);
        for part in [first, rest, &hello] {
            let (mut queue, mut plain) = (Queue::default(), Queue::default());
            let mut lease = ring.buffers.take().unwrap();
            assert_eq!(lease.append(part), part.len());
            queue.push(ring.buffers.pieces(), lease);
            let broken = !session.is_handshaking();
            let outcome = over(&mut ring, socket, |wire| session.receive(wire, &mut queue, &mut plain));
            failures += usize::from(outcome.is_err());
            assert!(queue.is_empty() && plain.is_empty());
            assert!(!broken || outcome == Ok(None), "what is broken stays so, and says so once");
        }
        assert!(session.is_handshaking() || !session.holds_part());
    }
    assert!(failures > hello.len() / 2);
}

/// Brings a handshake to where the last word is the client's. Returns that with `content` right behind it, and the client.
fn last_flight(
    (server, config): (&Server, &Arc<ClientConfig>),
    write: impl FnOnce(&mut ClientConnection),
) -> (Vec<u8>, ClientConnection, Harness) {
    let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("a.test").unwrap()).unwrap();
    tls.set_buffer_limit(None);
    let mut harness = Harness::new(server);
    loop {
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight).unwrap();
        }
        if !tls.is_handshaking() {
            write(&mut tls);
            while tls.wants_write() {
                tls.write_tls(&mut flight).unwrap();
            }
            return (flight, tls, harness);
        }
        harness.take(&flight).unwrap();
        harness.answer(&mut tls);
    }
}

/// A session that is given bytes by hand.
struct Harness {
    ring: Ring,
    socket: SocketId,
    session: Session,
    plain: Queue,
    client: UnixStream,
}

impl Harness {
    fn new(server: &Server) -> Self {
        let (client, theirs) = UnixStream::pair().unwrap();
        let mut ring = Ring::new().unwrap();
        let socket = ring.add(theirs.into(), Owner::Downstream(0));
        Self { ring, socket, session: Session::server(server), plain: Queue::default(), client }
    }

    /// As if all of it had arrived at once.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<super::Agreement>, Error> {
        let mut queue = Queue::default();
        for part in bytes.chunks(CONTENT_MAX) {
            let mut lease = self.ring.buffers.take().unwrap();
            assert_eq!(lease.append(part), part.len());
            queue.push(self.ring.buffers.pieces(), lease);
        }
        over(&mut self.ring, self.socket, |wire| self.session.receive(wire, &mut queue, &mut self.plain))
    }

    /// Brings what the session has sent to the client.
    fn answer(&mut self, tls: &mut ClientConnection) {
        while self.ring.unsent(self.socket) > 0 {
            self.ring.turn(true).unwrap();
            while self.ring.next_event().is_some() {}
        }
        self.client.set_nonblocking(true).unwrap();
        while tls.read_tls(&mut self.client).is_ok() {
            tls.process_new_packets().unwrap();
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(lease) = self.plain.pop(self.ring.buffers.pieces()) {
            all.extend_from_slice(lease.bytes());
        }
        all
    }

    fn send(&mut self, content: &[u8]) {
        let (mut out, mut lease) = (Queue::default(), self.ring.buffers.take().unwrap());
        assert_eq!(lease.append(content), content.len());
        out.push(self.ring.buffers.pieces(), lease);
        over(&mut self.ring, self.socket, |wire| self.session.send(wire, &mut out)).unwrap();
    }
}

/// The suites of both versions of which a client may send content right behind its Finished; of TLS 1.2 when it resumes.
fn hasty() -> [(Server, Arc<ClientConfig>); 2] {
    let tls12 = aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    [aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, tls12].map(|suite| {
        let (server, config) = parties(suite);
        // A full handshake, which brings tickets.
        let (flight, mut tls, mut harness) =
            last_flight((&server, &config), |tls| tls.writer().write_all(b"x").unwrap());
        harness.take(&flight).unwrap();
        harness.send(b"y");
        harness.answer(&mut tls);
        (server, config)
    })
}

#[test]
fn content_right_behind_the_handshake_is_taken_however_much_it_is() {
    for (server, config) in &hasty() {
        for (length, cuts) in [(0, 0..=0), (1, 0..=0), (70_000, 0..=160), (1_000_000, 0..=0), (1_000_000, 60..=60)] {
            for cut in cuts {
                let content: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
                let write = |tls: &mut ClientConnection| tls.writer().write_all(&content).unwrap();
                let (flight, mut tls, mut harness) = last_flight((server, config), write);
                let (first, rest) = flight.split_at(cut.min(flight.len()));
                let early = harness.take(first).unwrap();
                let agreed = early.or(harness.take(rest).unwrap());
                assert!(agreed.is_some_and(|agreed| agreed.resumed), "{length} {cut} {agreed:?}");
                assert!(harness.content() == content && !harness.session.holds_part(), "{length} {cut}");
                harness.send(b"y");
                harness.answer(&mut tls);
                assert_eq!(tls.reader().read(&mut [0; 9]).unwrap(), 1, "{length} {cut}");
            }
        }
    }
}

#[test]
fn keys_may_change_right_behind_the_handshake() {
    let (server, config) = &hasty()[0];
    for at_once in [true, false] {
        let write = |tls: &mut ClientConnection| {
            tls.refresh_traffic_keys().unwrap();
            tls.writer().write_all(b"ab").unwrap();
            tls.refresh_traffic_keys().unwrap();
        };
        let (flight, mut tls, mut harness) = last_flight((server, config), write);
        if at_once {
            harness.take(&flight).unwrap();
        } else {
            flight.iter().for_each(|byte| assert!(harness.take(&[*byte]).is_ok()));
        }
        harness.answer(&mut tls);
        assert_eq!(harness.content(), b"ab");
        harness.send(b"y");
        harness.answer(&mut tls);
        assert_eq!(tls.reader().read(&mut [0; 9]).unwrap(), 1);
    }
}

/// A client that takes nothing and asks for new keys again and again gets one answer, and another before what is sealed next.
#[test]
fn one_answer_to_key_updates_waits_to_be_taken() {
    let (server, config) = &hasty()[0];
    let (flight, mut tls, mut harness) = last_flight((server, config), |_| {});
    harness.take(&flight).unwrap();
    harness.answer(&mut tls);
    let mut first = None;
    for _ in 0..20 {
        let (flight, free) = (update(&mut tls, 1), harness.ring.buffers.pools()[0].available());
        // The ring does not turn meanwhile: nothing leaves.
        harness.take(&flight).unwrap();
        assert_eq!(harness.content(), b"x");
        let kept = usize::from(first.is_none());
        assert_eq!(harness.ring.buffers.pools()[0].available(), free - kept);
        let unsent = harness.ring.unsent(harness.socket);
        assert_eq!(*first.get_or_insert(unsent), unsent);
    }
    harness.send(b"y");
    harness.answer(&mut tls);
    assert_eq!(tls.reader().read(&mut [0; 9]).unwrap(), 1);
    harness.take(&update(&mut tls, 1)).unwrap();
    assert!(harness.ring.unsent(harness.socket) > 0, "an answer that was taken makes way for the next");
}

/// A new key of the client's, which wants one in return, and so many bytes of content under it.
fn update(tls: &mut ClientConnection, content: usize) -> Vec<u8> {
    let mut flight = Vec::new();
    tls.refresh_traffic_keys().unwrap();
    tls.writer().write_all(&vec![b'x'; content]).unwrap();
    while tls.wants_write() {
        tls.write_tls(&mut flight).unwrap();
    }
    flight
}

#[test]
fn key_updates_are_paid_for_by_content_and_not_by_records() {
    let (server, config) = &hasty()[0];
    for (content, outcome) in [(1, Err(Error::Flood)), (limits::EMPTY_RECORD_BYTES as usize, Ok(None))] {
        let (flight, mut tls, mut harness) = last_flight((server, config), |_| {});
        harness.take(&flight).unwrap();
        harness.answer(&mut tls);
        let mut outcomes = (0..10 * limits::EMPTY_RECORDS).map(|_| {
            let outcome = harness.take(&update(&mut tls, content));
            harness.content();
            outcome
        });
        assert_eq!(outcomes.find(Result::is_err).unwrap_or(Ok(None)), outcome, "{content}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Records of any kind and content, some of them spoilt, in any pieces: what comes out is the beginning of what went in.
    #[test]
    fn what_comes_out_went_in(
        records in proptest::collection::vec((20_u8..25, proptest::collection::vec(0_u8..3, 0..8), 0..200_usize), 1..12),
        cuts in proptest::collection::vec(1..60_usize, 1..20),
        tls13 in proptest::bool::ANY,
    ) {
        let tls12 = aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
        let mut pair = Pair::new(if tls13 { aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 } else { tls12 });
        let (mut bytes, mut content) = (Vec::new(), Vec::new());
        for (kind, text, spoil) in records {
            let kind = ContentType::from(if kind > 23 { 23 } else { kind });
            let mut record = pair.sealed(kind, &text);
            // Most are left as they are.
            if let Some(byte) = record.get_mut(spoil) {
                *byte ^= 1;
            }
            bytes.extend(record);
            content.extend(if kind == CONTENT { text } else { Vec::new() });
        }
        let (mut rest, mut broken) = (&bytes[..], false);
        for cut in cuts.iter().cycle() {
            let (part, after) = rest.split_at(rest.len().min(*cut));
            rest = after;
            let failed = pair.receive(part).is_err();
            assert!(!(broken && failed), "it fails once");
            broken |= failed;
            if rest.is_empty() {
                break;
            }
        }
        assert!(content.starts_with(&pair.content()));
    }
}

fn flip(mut record: Vec<u8>) -> Vec<u8> {
    record[HEADER] ^= 1;
    record
}

/// Every suite has a hash and a length of keys of its own: rustls, the client, derives the same keys in both directions.
#[test]
fn keys_of_every_suite_change_as_rustls_changes_them() {
    let mut suites = aws_lc_rs::ALL_CIPHER_SUITES.to_vec();
    suites.retain(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
    assert_eq!(suites.len(), 3);
    for suite in suites {
        let (server, config) = parties(suite);
        let (flight, mut tls, mut harness) = last_flight((&server, &config), |_| {});
        harness.take(&flight).unwrap();
        harness.answer(&mut tls);
        for round in 0..3 {
            harness.take(&update(&mut tls, 64)).unwrap();
            assert_eq!(harness.content(), [b'x'; 64], "{suite:?} {round}");
            harness.send(b"y");
            harness.answer(&mut tls);
            let mut got = [0; 9];
            assert_eq!((tls.reader().read(&mut got).unwrap(), got[0]), (1, b'y'), "{suite:?} {round}");
        }
    }
}
