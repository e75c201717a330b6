//! Hellos that are put together, whole and broken, and those of rustls in whatever records and pieces.

use std::sync::Arc;

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{ClientHello, HelloError, Parsed, parse};
use crate::limits::{CLIENT_HELLO_BYTES, CLIENT_HELLO_WIRE_BYTES};

/// `content` behind its length, in so many bytes.
fn counted(width: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_be_bytes();
    [&length[8 - width..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted(2, content)].concat()
}

/// The extension with names, each behind its type.
fn names(names: &[(u8, &str)]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|(kind, name)| [&[*kind][..], &counted(2, name.as_bytes())].concat()).collect();
    extension(0, &counted(2, &list))
}

/// The extension with protocols.
fn protocols(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| counted(1, name.as_bytes())).collect();
    extension(16, &counted(2, &list))
}

/// What a hello consists of.
#[derive(Clone)]
struct Body {
    version: [u8; 2],
    session_id: Vec<u8>,
    suites: Vec<u8>,
    compression: Vec<u8>,
    /// None: the field is not there at all.
    extensions: Option<Vec<u8>>,
    behind: Vec<u8>,
}

fn body(extensions: &[Vec<u8>]) -> Body {
    Body {
        version: [3, 3],
        session_id: vec![7; 32],
        suites: vec![0x13, 1],
        compression: vec![0],
        extensions: Some(extensions.concat()),
        behind: Vec::new(),
    }
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        let extensions = self.extensions.as_ref().map(|it| counted(2, it)).unwrap_or_default();
        [
            &self.version[..],
            &[9; 32],
            &counted(1, &self.session_id),
            &counted(2, &self.suites),
            &counted(1, &self.compression),
            &extensions,
            &self.behind,
        ]
        .concat()
    }

    /// As a message in one record.
    fn wire(&self) -> Vec<u8> {
        record(&message(1, &self.bytes()))
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &counted(3, body)].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &counted(2, content)].concat()
}

/// A message in records of so many bytes each, the last one shorter.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

/// What `bytes` are: name and protocols, or why not.
fn read(bytes: &[u8]) -> Result<(String, Vec<String>), String> {
    let mut joined = vec![0xff; CLIENT_HELLO_BYTES];
    match parse(bytes, &mut joined) {
        Ok(Parsed::Hello(hello)) => Ok(texts(&hello)),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(format!("{error:?}")),
    }
}

fn texts(hello: &ClientHello<'_>) -> (String, Vec<String>) {
    (hello.name.to_owned(), hello.protocols().map(|it| String::from_utf8_lossy(it).into_owned()).collect())
}

#[test]
fn name_and_protocols_are_found() {
    let without = Body { extensions: None, ..body(&[]) };
    let long = format!("{}.a", "x".repeat(252));
    for (hello, name, offered) in [
        (body(&[names(&[(0, "db.corp")]), protocols(&["h2", "http/1.1"])]), "db.corp", &["h2", "http/1.1"][..]),
        (
            body(&[extension(43, &[2, 3, 4]), protocols(&["x"]), names(&[(0, "A_b-1.Example.")])]),
            "A_b-1.Example.",
            &["x"],
        ),
        (body(&[names(&[(7, "anything at all"), (0, "db.corp"), (8, "")])]), "db.corp", &[]),
        (body(&[names(&[(0, "10.0.0.1")])]), "10.0.0.1", &[]),
        (body(&[names(&[(0, &long)])]), &long, &[]),
        (body(&[protocols(&["\u{0}", "é"])]), "", &["\u{0}", "é"]),
        (body(&[]), "", &[]),
        (without.clone(), "", &[]),
        (Body { version: [3, 1], session_id: Vec::new(), suites: vec![0; 200], ..without }, "", &[]),
    ] {
        let expected = Ok((name.to_owned(), offered.iter().map(ToString::to_string).collect()));
        assert_eq!(read(&hello.wire()), expected, "{name} {offered:?}");
    }
}

#[test]
fn what_is_no_hello_is_refused_with_a_reason() {
    use HelloError as E;
    let hello = || body(&[names(&[(0, "db.corp")])]);
    let of = |extensions: &[Vec<u8>]| body(extensions).wire();
    let bytes = hello().bytes();
    let whole = message(1, &bytes);
    let cut: Vec<u8> = [&whole[..40], &whole[41..]].concat();
    for (what, wire, expected) in [
        ("another type of record behind the first", [record(&whole[..9]), vec![23, 3, 3, 0, 1, 0]].concat(), E::Record),
        ("another version behind the first", [record(&whole[..9]), vec![22, 2]].concat(), E::Record),
        ("an empty record", [record(&whole[..9]), record(&[])].concat(), E::Record),
        ("an empty first record", record(&[]), E::Record),
        ("a record that is too long", [&[22, 3, 1, 0x40, 1][..], &whole].concat(), E::Record),
        ("another message", record(&message(2, &bytes)), E::Message),
        ("a message of 16 MiB", record(&[1, 0xff, 0xff, 0xff, 3, 3]), E::TooLarge),
        ("a message one byte too long", record(&message(1, &vec![3; CLIENT_HELLO_BYTES - 3])[..16_000]), E::TooLarge),
        ("SSL 2.0", Body { version: [2, 0], ..hello() }.wire(), E::Version),
        ("a message that says it is shorter", record(&message(1, &bytes[..bytes.len() - 1])), E::Length),
        ("a byte missing in the middle", record(&message(1, &cut[4..])), E::Length),
        ("an empty message", record(&message(1, &[])), E::Length),
        ("a random that is too short", record(&message(1, &bytes[..33])), E::Length),
        ("a session id of 33 bytes", Body { session_id: vec![7; 33], ..hello() }.wire(), E::Length),
        ("no cipher suite", Body { suites: Vec::new(), ..hello() }.wire(), E::Length),
        ("half a cipher suite", Body { suites: vec![0; 3], ..hello() }.wire(), E::Length),
        ("no compression method", Body { compression: Vec::new(), ..hello() }.wire(), E::Length),
        ("bytes behind the extensions", Body { behind: vec![0], ..hello() }.wire(), E::Length),
        ("half an extension", of(&[vec![0, 0, 0]]), E::Length),
        ("an extension that is too long", of(&[vec![0, 9, 0, 2, 0]]), E::Length),
        ("two names of a host", of(&[names(&[(0, "a"), (0, "b")])]), E::Duplicate),
        ("two extensions with names", of(&[names(&[(0, "a")]), names(&[(0, "a")])]), E::Duplicate),
        ("two extensions with protocols", of(&[protocols(&["a"]), protocols(&["a"])]), E::Duplicate),
        ("no name in the list", of(&[names(&[])]), E::Name),
        ("no name of a host", of(&[names(&[(1, "a")])]), E::Name),
        ("an extension without a list of names", of(&[extension(0, &[])]), E::Length),
        ("an empty name", of(&[names(&[(0, "")])]), E::Name),
        ("a dot", of(&[names(&[(0, ".")])]), E::Name),
        ("an IPv6 address", of(&[names(&[(0, "::1")])]), E::Name),
        ("a NUL", of(&[names(&[(0, "a\u{0}.corp")])]), E::Name),
        ("a name in UTF-8", of(&[names(&[(0, "é.corp")])]), E::Name),
        ("a name of 255 bytes", of(&[names(&[(0, &"a".repeat(255))])]), E::Name),
        ("a name longer than its list", of(&[extension(0, &[0, 4, 0, 0, 9, b'a'])]), E::Length),
        ("bytes behind the names", of(&[extension(0, &[0, 4, 0, 0, 1, b'a', 0])]), E::Name),
        ("no protocol", of(&[protocols(&[])]), E::Protocols),
        ("an empty protocol", of(&[protocols(&["a", ""])]), E::Protocols),
        ("a protocol longer than its list", of(&[extension(16, &[0, 2, 9, b'a'])]), E::Protocols),
        ("bytes behind the protocols", of(&[extension(16, &[0, 2, 1, b'a', 0])]), E::Protocols),
        ("an extension without a list of protocols", of(&[extension(16, &[])]), E::Protocols),
    ] {
        assert_eq!(read(&wire), Err(format!("{expected:?}")), "{what}");
        assert!(!expected.text().is_empty());
    }
}

#[test]
fn what_does_not_begin_like_tls_is_something_else() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[22, 2], &[21, 3, 1], &[0x80, 0x2e, 1, 3, 1], &[0]] {
        assert_eq!(read(bytes), Err("Absent".to_owned()), "{bytes:?}");
        assert!(!super::is_tls(bytes));
    }
    assert!(super::is_tls(&[22, 3]) && !super::is_tls(&[22]) && !super::is_tls(&[]));
}

#[test]
fn the_largest_is_read_in_any_records_that_fit() {
    let empty = body(&[names(&[(0, "db.corp")]), extension(21, &[])]).bytes().len();
    let padding = vec![0; CLIENT_HELLO_BYTES - 4 - empty];
    let largest = message(1, &body(&[names(&[(0, "db.corp")]), extension(21, &padding)]).bytes());
    assert_eq!(largest.len(), CLIENT_HELLO_BYTES);
    for size in [16 * 1024, 8192, 100, 2] {
        let wire = records(&largest, size);
        let expected = if wire.len() <= CLIENT_HELLO_WIRE_BYTES { Ok(()) } else { Err("TooLarge".to_owned()) };
        assert_eq!(read(&wire).map(|(name, _)| assert_eq!(name, "db.corp")), expected, "{size}");
    }
    // So many records that they would not fit are refused before they have come.
    assert_eq!(read(&records(&largest, 1)[..CLIENT_HELLO_WIRE_BYTES - 6_000]), Err("TooLarge".to_owned()));
}

/// Of a hello that comes byte by byte, a number of bytes that grows with the logarithm of its length is looked at.
#[test]
fn it_is_not_read_again_for_every_byte() {
    let message = message(1, &body(&[names(&[(0, "db.corp")]), extension(21, &vec![0; 8000])]).bytes());
    for size in [1, 3, 1000, 16_000] {
        let wire = records(&message, size);
        let mut joined = vec![0; CLIENT_HELLO_BYTES];
        let (mut length, mut looks) = (0, 0);
        loop {
            looks += 1;
            match parse(&wire[..length], &mut joined).unwrap() {
                Parsed::Partial(needed) => {
                    assert!(needed > length && needed <= wire.len(), "{size}: {needed} after {length}");
                    length = needed;
                }
                other => break assert!(matches!(other, Parsed::Hello(hello) if hello.name == "db.corp")),
            }
        }
        assert!(length == wire.len() && looks < 80, "{size}: {looks} looks");
    }
}

/// What rustls sends to a host, with these protocols.
fn of_rustls(host: &str, protocols: &[String]) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut wire = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut wire).unwrap();
    }
    wire
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Byte by byte, in whatever records: the answer comes with the last byte, and is what rustls was told to ask for. Nothing that is
    /// changed on the way makes it panic, and nothing behind the hello matters.
    #[test]
    fn hellos_of_rustls_are_read_in_any_records(
        host in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{1,10}){1,3}",
        offered in prop::collection::vec("[a-z0-9/.]{1,12}", 0..6),
        sizes in prop::collection::vec(1usize..400, 1..6),
        (at, to) in (0usize..4096, 0u8..=255),
    ) {
        let sent = of_rustls(&host, &offered);
        let message = &sent[5..];
        let mut wire = Vec::new();
        let (mut rest, mut turn) = (message, sizes.iter().cycle());
        while !rest.is_empty() {
            let (part, behind) = rest.split_at((*turn.next().unwrap()).min(rest.len()));
            wire.extend(record(part));
            rest = behind;
        }
        let mut joined = vec![0; CLIENT_HELLO_BYTES];
        let mut needed = 1;
        for length in 0..wire.len() {
            match parse(&wire[..length], &mut joined) {
                Ok(Parsed::Partial(more)) => {
                    prop_assert!(more > length && more <= wire.len());
                    prop_assert!(more >= needed, "what is needed does not become less");
                    needed = more;
                }
                other => prop_assert!(false, "{other:?} after {length} of {} bytes", wire.len()),
            }
        }
        for whole in [wire.clone(), sent.clone(), [&wire[..], b"\x14\x03\x03\0\x01\x01 and what follows"].concat()] {
            prop_assert_eq!(read(&whole), Ok((host.clone(), offered.clone())));
        }
        let at = at % wire.len();
        wire[at] = to;
        for length in 0..=wire.len() {
            let _ = parse(&wire[..length], &mut joined);
        }
    }
}
