//! Sessions of clients against sessions of servers, in memory, and against a server of rustls.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ContentType, ServerConfig, ServerConnection};

use super::*;
use crate::buffer::{Buffers, Queue};
use crate::tls::{Agreement, Chain, ClientAuth, Error, Server, ServerSpec, Session, Tickets, Wire};

/// An authority, who signs for all.
static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(authority);
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn identity(name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &*AUTHORITY).unwrap();
    Identity::new(Chain::from_pem(&certificate.pem()).unwrap(), &key.serialize_pem()).unwrap()
}

fn believing(authority: &CertifiedIssuer<'static, KeyPair>) -> Trust {
    Trust::Authorities(Authorities::from_pem(&authority.pem()).unwrap())
}

/// A server of `a.test` and `b.test`, which wants certificates of clients or not.
fn server(wants: bool) -> Server {
    let clients = wants.then(|| ClientAuth::new(Authorities::from_pem(&AUTHORITY.pem()).unwrap(), true, Vec::new()));
    let spec = ServerSpec { clients, ..ServerSpec::new([identity("a.test"), identity("b.test")].into()) };
    Server::new(&spec, Arc::new(Tickets::new()))
}

fn spec() -> ClientSpec {
    ClientSpec { post_quantum: false, tickets: 4, ..ClientSpec::new(believing(&AUTHORITY)) }
}

fn client(version: &'static SupportedProtocolVersion) -> Client {
    Client::with_versions(&spec(), &[version])
}

/// One side.
struct End {
    session: Session,
    /// Records on their way to the other one.
    out: Queue,
    plain: Queue,
    outcome: Result<Option<Agreement>, Error>,
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, out: Queue::default(), plain: Queue::default(), outcome: Ok(None) }
    }

    fn with<T>(&mut self, buffers: &mut Buffers, act: impl FnOnce(&mut Session, &mut Wire<'_>, &mut Queue) -> T) -> T {
        let Self { session, out, plain, .. } = self;
        act(session, &mut Wire { buffers, out, now: Duration::ZERO, taken: u64::MAX / 2, unsent: 0 }, plain)
    }

    fn send(&mut self, buffers: &mut Buffers, content: &[u8]) {
        let mut queue = queue(buffers, content);
        self.with(buffers, |session, wire, _| session.send(wire, &mut queue)).unwrap();
    }

    fn send_record(&mut self, buffers: &mut Buffers, kind: ContentType, content: &[u8]) {
        self.with(buffers, |session, wire, _| session.send_record(wire, kind, content));
    }

    fn receive(&mut self, buffers: &mut Buffers, bytes: &[u8]) {
        let mut received = queue(buffers, bytes);
        let outcome = self.with(buffers, |session, wire, plain| session.receive(wire, &mut received, plain));
        match outcome {
            Ok(None) => {}
            outcome => self.outcome = outcome,
        }
    }

    fn agreed(&self) -> Agreement {
        self.outcome.unwrap().expect("the handshake is over")
    }
}

fn queue(buffers: &mut Buffers, bytes: &[u8]) -> Queue {
    let mut queue = Queue::default();
    for part in bytes.chunks(16_384) {
        let mut lease = buffers.take().unwrap();
        assert_eq!(lease.append(part), part.len());
        queue.push(buffers.pieces(), lease);
    }
    queue
}

fn drain(buffers: &mut Buffers, queue: &mut Queue) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(lease) = queue.pop(buffers.pieces()) {
        all.extend_from_slice(lease.bytes());
    }
    all
}

/// A client and a server, between which bytes arrive in pieces of so many.
struct Pair {
    buffers: Buffers,
    client: End,
    server: End,
    piece: usize,
}

impl Pair {
    fn new(client: &Client, server: &Server, name: &str, piece: usize) -> Self {
        let mut buffers = Buffers::new().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let (mut client, server) = (End::new(Session::client(client, name)), End::new(Session::server(server)));
        client.with(&mut buffers, |session, wire, _| session.begin(wire)).unwrap();
        let mut pair = Self { buffers, client, server, piece };
        pair.run();
        pair
    }

    /// Carries records to and fro until there are none.
    fn run(&mut self) {
        let Self { buffers, client, server, piece } = self;
        while !client.out.is_empty() || !server.out.is_empty() {
            drain(buffers, &mut client.out).chunks(*piece).for_each(|part| server.receive(buffers, part));
            drain(buffers, &mut server.out).chunks(*piece).for_each(|part| client.receive(buffers, part));
        }
    }

    /// What each side gets of what the other one sends.
    fn talk(&mut self, length: usize) {
        let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        self.client.send(&mut self.buffers, &content);
        self.server.send(&mut self.buffers, &content);
        self.run();
        for end in [&mut self.client, &mut self.server] {
            assert!(drain(&mut self.buffers, &mut end.plain) == content && end.outcome.is_ok(), "{:?}", end.outcome);
        }
    }
}

#[test]
fn both_sides_agree_and_content_arrives_whatever_its_pieces() {
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        for piece in [1, 5, 1000, usize::MAX] {
            let mut pair = Pair::new(&client(version), &server(false), "a.test", piece);
            let (ours, theirs) = (pair.client.agreed(), pair.server.agreed());
            assert_eq!(ours, theirs);
            assert_eq!((ours.tls13, ours.resumed, ours.retried), (name == "TLSv1.3", false, false));
            let text = ours.to_string();
            assert!(text.starts_with(name) && text.contains("AES_256_GCM") && text.ends_with("X25519"), "{text}");
            for length in [1, 16_384, if piece == 1 { 3 } else { 100_000 }] {
                pair.talk(length);
            }
        }
    }
}

#[test]
fn the_first_key_share_withstands_quantum_computers_where_asked() {
    let client = Client::new(&ClientSpec { post_quantum: true, ..spec() });
    let mut pair = Pair::new(&client, &server(false), "a.test", usize::MAX);
    assert!(pair.client.agreed().to_string().ends_with("X25519MLKEM768"), "{}", pair.client.agreed());
    pair.talk(9);
}

#[test]
fn later_connections_resume_where_tickets_are_kept() {
    let server = server(false);
    for version in VERSIONS {
        for (tickets, resumed) in [(4, [false, true, true, false]), (0, [false; 4])] {
            let client = Client::with_versions(&ClientSpec { tickets, ..spec() }, &[version]);
            let found = ["a.test", "a.test", "a.test", "b.test"].map(|name| {
                let mut pair = Pair::new(&client, &server, name, 100);
                pair.talk(10);
                assert_eq!(pair.client.agreed().resumed, pair.server.agreed().resumed);
                pair.client.agreed().resumed
            });
            assert_eq!(found, resumed, "{version:?}");
        }
    }
}

#[test]
fn keys_change_on_either_side() {
    let mut pair = Pair::new(&client(&TLS13), &server(false), "a.test", usize::MAX);
    for round in 0..6 {
        if round % 3 != 0 {
            pair.client.session.limit_after(0);
        }
        if round % 3 != 1 {
            pair.server.session.limit_after(0);
        }
        pair.talk(40_000);
    }
}

#[test]
fn either_side_says_that_it_sends_no_more() {
    for version in VERSIONS {
        let mut pair = Pair::new(&client(version), &server(false), "a.test", usize::MAX);
        assert!(pair.client.with(&mut pair.buffers, |session, wire, _| session.finish(wire)));
        pair.run();
        assert!(pair.server.session.has_ended() && !pair.client.session.has_ended());
        pair.server.send(&mut pair.buffers, b"still");
        assert!(pair.server.with(&mut pair.buffers, |session, wire, _| session.finish(wire)));
        pair.run();
        assert!(pair.client.session.has_ended() && pair.client.outcome.is_ok());
        assert_eq!(drain(&mut pair.buffers, &mut pair.client.plain), b"still");
    }
}

/// Who is not believed is told so, and we know why.
#[test]
fn a_wrong_name_and_an_unknown_authority_are_refused() {
    let server = server(false);
    let cases = [
        (believing(&AUTHORITY), "b.test", Ok("")),
        (Trust::Anyone, "c.test", Ok("")),
        (believing(&AUTHORITY), "c.test", Err("not valid for name")),
        (believing(&AUTHORITY), "127.0.0.1", Err("not valid for name")),
        (believing(&authority()), "a.test", Err("BadSignature")),
        (Trust::Authorities(Authorities::public()), "a.test", Err("UnknownIssuer")),
    ];
    for (trust, name, expected) in cases {
        for version in VERSIONS {
            let client = Client::with_versions(&ClientSpec { trust: trust.clone(), ..spec() }, &[version]);
            let mut pair = Pair::new(&client, &server, name, usize::MAX);
            let why = pair.client.session.why().map(ToString::to_string).unwrap_or_default();
            match expected {
                Ok(_) => pair.talk(3),
                Err(text) => {
                    assert_eq!(
                        (pair.client.outcome, pair.server.outcome),
                        (Err(Error::Certificate), Err(Error::Refused))
                    );
                    assert!(why.contains(text), "{name}: {why}");
                }
            }
        }
    }
    assert_ne!(Authorities::public(), Authorities::from_pem(&AUTHORITY.pem()).unwrap());
}

/// What `openssl req -x509` makes: signed with its own key, and marked as an authority's.
#[test]
fn an_authority_that_was_named_is_believed_as_a_server_too() {
    let make = |year: i32| {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (own, other, past) = (make(4000), make(4000), make(2001));
    for (shown, trusted, name, expected) in [
        (&own, &own, "a.test", None),
        (&own, &own, "b.test", Some(Distrust::Name)),
        (&own, &other, "a.test", Some(Distrust::Authority)),
        (&past, &past, "a.test", Some(Distrust::Time)),
    ] {
        let identity = Identity::new(Chain::from_pem(&shown.pem()).unwrap(), &shown.key().serialize_pem()).unwrap();
        let served = ServerSpec::new([identity].into());
        let server = Server::new(&served, Arc::new(Tickets::new()));
        for version in VERSIONS {
            let client = ClientSpec { trust: believing(trusted), ..spec() };
            let mut pair = Pair::new(&Client::with_versions(&client, &[version]), &server, name, usize::MAX);
            assert_eq!(pair.client.session.distrust(), expected, "{name}");
            if expected.is_none() {
                pair.talk(3);
            }
        }
    }
}

#[test]
fn a_certificate_is_shown_to_who_asks() {
    let server = server(true);
    for version in VERSIONS {
        let known = ClientSpec { identity: Some(identity("client.test")), ..spec() };
        let known = Client::with_versions(&known, &[version]);
        for resumed in [false, true] {
            let mut pair = Pair::new(&known, &server, "a.test", usize::MAX);
            pair.talk(3);
            assert_eq!(pair.client.agreed().resumed, resumed);
        }
        let pair = Pair::new(&client(version), &server, "a.test", usize::MAX);
        assert_eq!((pair.client.outcome, pair.server.outcome), (Err(Error::Refused), Err(Error::Handshake)));
    }
}

/// A ticket of so many bytes, as a message.
fn ticket(length: u16) -> Vec<u8> {
    let mut body = [&[0, 0, 1, 0, 1, 2, 3, 4, 1, 9][..], &length.to_be_bytes()].concat();
    body.resize(body.len() + usize::from(length), 7);
    body.extend([0, 0]);
    [&[4, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat()
}

/// What servers say after the handshake, in records of up to so many bytes.
#[test]
fn tickets_come_several_in_a_record_or_one_in_several() {
    let update = [24, 0, 0, 1, 0];
    let cases: [(Vec<u8>, usize, Result<(), Error>); 10] = [
        ([ticket(30), ticket(40), ticket(1)].concat(), 9999, Ok(())),
        ([ticket(300), ticket(40)].concat(), 31, Ok(())),
        (ticket(3), 1, Ok(())),
        (ticket(60_000), 16_000, Ok(())),
        (ticket(65_000), 16_000, Err(Error::TooLong)),
        ((0..40).flat_map(|_| ticket(9)).collect(), 9999, Err(Error::Flood)),
        ([update.to_vec(), ticket(9)].concat(), 9999, Err(Error::Unexpected)),
        ([4, 0, 0, 2, 1, 1].to_vec(), 9999, Err(Error::Malformed)),
        ([0, 0, 0, 0].to_vec(), 9999, Err(Error::Unexpected)),
        ([8, 0, 0, 2, 0, 0].to_vec(), 2, Err(Error::Unexpected)),
    ];
    let server = server(false);
    for (bytes, piece, expected) in cases {
        let client = client(&TLS13);
        let mut pair = Pair::new(&client, &server, "a.test", usize::MAX);
        let agreed = pair.client.outcome;
        for part in bytes.chunks(piece) {
            pair.server.send_record(&mut pair.buffers, ContentType::Handshake, part);
        }
        pair.run();
        assert_eq!(pair.client.outcome, expected.and(agreed), "{:?}", &bytes[..4]);
        assert!(!pair.client.session.holds_part());
        if expected.is_ok() {
            pair.talk(5);
            // The server does not know these tickets.
            assert!(!Pair::new(&client, &server, "a.test", usize::MAX).client.agreed().resumed);
        } else {
            assert_eq!(pair.server.outcome, Err(Error::Refused));
        }
    }
    let mut pair = Pair::new(&client(&TLS13), &server, "a.test", usize::MAX);
    pair.server.send_record(&mut pair.buffers, ContentType::Handshake, &ticket(9)[..7]);
    pair.run();
    assert!(pair.client.session.holds_part());
    pair.client.send_record(&mut pair.buffers, ContentType::Handshake, &ticket(9));
    pair.run();
    assert_eq!(pair.server.outcome, Err(Error::Unexpected), "a client gives no tickets");
}

/// A server of TLS 1.2 may ask for a new handshake; it is told that there is none, and that does no harm.
#[test]
fn nothing_is_negotiated_again() {
    let mut pair = Pair::new(&client(&TLS12), &server(false), "a.test", usize::MAX);
    pair.server.send_record(&mut pair.buffers, ContentType::Handshake, &[0, 0, 0, 0]);
    pair.run();
    pair.talk(5);
    pair.client.send_record(&mut pair.buffers, ContentType::Handshake, &[0, 0, 0, 0]);
    pair.run();
    assert_eq!(pair.server.outcome, Err(Error::Unexpected));
    assert_eq!(pair.client.outcome, Err(Error::Refused));
}

/// Whatever answers, and whatever is changed on the way: there is an error or a wait for more, and nothing else.
#[test]
fn garbage_does_no_harm() {
    let server = server(false);
    let mut buffers = Buffers::new().unwrap();
    for bytes in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x03\xff\xff", &[0; 99]]
    {
        let name = ServerName::try_from("a.test").unwrap();
        let mut end = End::new(Session::client(&client(&TLS13), name));
        end.with(&mut buffers, |session, wire, _| session.begin(wire)).unwrap();
        end.receive(&mut buffers, bytes);
        assert!(matches!(end.outcome, Err(Error::Handshake | Error::Refused)), "{bytes:?}: {:?}", end.outcome);
        assert!(end.plain.is_empty() && !end.session.holds_part());
        end.receive(&mut buffers, bytes);
    }
    for version in VERSIONS {
        let client = client(version);
        let mut shake = |spoil: Option<usize>| {
            let buffers = &mut buffers;
            let name = ServerName::try_from("a.test").unwrap();
            let (mut ours, mut theirs) = (End::new(Session::client(&client, name)), End::new(Session::server(&server)));
            ours.with(buffers, |session, wire, _| session.begin(wire)).unwrap();
            let hello = drain(buffers, &mut ours.out);
            theirs.receive(buffers, &hello);
            let mut flight = drain(buffers, &mut theirs.out);
            // Not every signature is as long.
            if let Some(byte) = spoil.and_then(|at| flight.get_mut(at)) {
                *byte ^= 0x81;
            }
            ours.receive(buffers, &flight);
            assert!(ours.plain.is_empty());
            drain(buffers, &mut ours.out);
            (ours.outcome, flight.len())
        };
        let (_, length) = shake(None);
        let failures = (0..length).filter(|at| shake(Some(*at)).0.is_err()).count();
        assert!(failures > length / 2, "{failures} of {length}");
    }
}

/// rustls asks for new keys, gives tickets and ends.
#[test]
fn a_server_of_rustls_is_understood() {
    let mut config = ServerConfig::clone(&server(false).config);
    // Right behind its Finished, before it has heard ours.
    config.send_half_rtt_data = true;
    let config = Arc::new(config);
    for version in VERSIONS {
        let client = client(version);
        for resumed in [false, true] {
            let mut buffers = Buffers::new().unwrap();
            let mut theirs = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut ours = End::new(Session::client(&client, ServerName::try_from("a.test").unwrap()));
            ours.with(&mut buffers, |session, wire, _| session.begin(wire)).unwrap();
            for round in 0..8 {
                let sent = drain(&mut buffers, &mut ours.out);
                let mut sent = &sent[..];
                while !sent.is_empty() {
                    theirs.read_tls(&mut sent).unwrap();
                    theirs.process_new_packets().unwrap();
                }
                if round > 3 && version.version == TLS13.version {
                    theirs.refresh_traffic_keys().unwrap();
                }
                theirs.writer().write_all(b"hello").unwrap();
                let mut back = Vec::new();
                while theirs.wants_write() {
                    theirs.write_tls(&mut back).unwrap();
                }
                ours.receive(&mut buffers, &back);
                if !ours.session.is_handshaking() {
                    ours.send(&mut buffers, b"hi");
                }
            }
            assert_eq!(ours.agreed().resumed, resumed);
            assert_eq!(theirs.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(drain(&mut buffers, &mut ours.plain), b"hello".repeat(8));
            let mut all = [0; 99];
            let count = theirs.reader().read(&mut all).unwrap();
            assert!(count >= 10 && all[..count].chunks(2).all(|part| part == b"hi"), "{count}");
        }
    }
}
