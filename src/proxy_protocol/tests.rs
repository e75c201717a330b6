//! Headers as data, and what is nearly one.

use super::*;
use crate::limits::{PROXY_V1_BYTES, PROXY_V2_BYTES};

fn end(text: &str) -> Option<End> {
    let address: std::net::SocketAddr = text.parse().ok()?;
    Some((address.ip(), address.port()))
}

/// A header of version 2: command, family, and what follows the length.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &length, content].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0, 80];

/// Valid headers, each with what it says.
fn valid() -> Vec<(Vec<u8>, Header<'static>)> {
    let unnamed = Header { is_unnamed: true, ..Header::default() };
    let four = Header { source: end("192.0.2.1:12345"), destination: end("10.0.0.1:80"), ..Header::default() };
    let six = Header { source: end("[2001:db8::1]:65535"), destination: end("[::1]:0"), ..Header::default() };
    let mut v6 = Vec::new();
    for address in ["2001:db8::1", "::1"] {
        v6.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    v6.extend([0xff, 0xff, 0, 0]);
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1], &[0; 10], &[0xff, 0xff, 10, 0, 0, 1], &V4[8..]].concat();
    let ssl = |client: u8| tlv(0x20, &[&[client, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"cn")].concat());
    let with = |tlvs: &[Vec<u8>]| v2(0x21, 0x11, &[&V4[..], &tlvs.concat()].concat());
    let named = tlv(0x02, b"a.example");
    let unix = [0x2f; 216];
    vec![
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n".to_vec(), four),
        (b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n".to_vec(), six),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 12345 80\r\n".to_vec(), four),
        (b"PROXY UNKNOWN\r\n".to_vec(), unnamed),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), unnamed),
        (v2(0x21, 0x11, &V4), four),
        (v2(0x21, 0x21, &v6), six),
        (v2(0x21, 0x21, &mapped), four),
        (v2(0x20, 0x00, &[]), Header::default()),
        // What stands behind LOCAL, or behind no family, is no address.
        (v2(0x20, 0x11, &V4), Header::default()),
        (v2(0x20, 0x11, &[1]), Header::default()),
        (v2(0x21, 0x00, &[1, 2, 3]), unnamed),
        (v2(0x21, 0x31, &unix), unnamed),
        (v2(0x21, 0x31, &[&unix[..], &named].concat()), Header { authority: "a.example", ..unnamed }),
        (with(&[tlv(0x03, &[0; 4]), tlv(0xea, b"vpce-1"), tlv(0x04, &[0; 9])]), four),
        (with(std::slice::from_ref(&named)), Header { authority: "a.example", ..four }),
        (with(&[ssl(0)]), four),
        (with(&[ssl(1), named.clone()]), Header { authority: "a.example", tls: true, ..four }),
        (with(&[tlv(0xea, &[7; PROXY_V2_BYTES - 31])]), four),
    ]
}

#[test]
fn headers_say_what_they_say() {
    for (bytes, header) in valid() {
        let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        for text in [&bytes, &followed] {
            assert_eq!(parse(text), Ok(Parsed::Header(header, bytes.len())), "{}", text.escape_ascii());
        }
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(Parsed::Partial), "{}", bytes[..end].escape_ascii());
        }
    }
}

#[test]
fn what_is_nearly_a_header_is_refused() {
    let long = format!("PROXY UNKNOWN {}", "x".repeat(PROXY_V1_BYTES));
    let exact = format!("PROXY UNKNOWN {}\r\n", "x".repeat(PROXY_V1_BYTES - 16));
    assert!(matches!(parse(exact.as_bytes()), Ok(Parsed::Header(_, PROXY_V1_BYTES))));
    for text in [
        "PROXY \r\n",
        "PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY tcp4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1  10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY TCP6 [::1] [::1] 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 \r\n",
        "PROXY TCP4 192.0.2.1\t10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n\r\n",
        &long,
    ] {
        assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text:?}");
    }
    let with = |tlvs: &[u8]| v2(0x21, 0x11, &[&V4[..], tlvs].concat());
    for bytes in [
        v2(0x11, 0x11, &V4),
        v2(0x22, 0x11, &V4),
        v2(0x21, 0x41, &V4),
        v2(0x21, 0x13, &V4),
        v2(0x21, 0x12, &V4),
        v2(0x21, 0x11, &V4[..11]),
        v2(0x21, 0x21, &V4),
        v2(0x21, 0x31, &[0; 215]),
        with(&[1]),
        with(&[1, 0]),
        with(&[1, 0, 2, 9]),
        with(&tlv(0x02, b"a b")),
        with(&tlv(0x02, b"a\r\nx: y")),
        with(&tlv(0x02, &[0xff])),
        with(&tlv(0x02, &[b'a'; 256])),
        with(&tlv(0x20, &[1, 0, 0, 0])),
        with(&tlv(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9])),
        v2(0x21, 0x11, &[0; PROXY_V2_BYTES]),
        v2(0x20, 0x00, &[0; PROXY_V2_BYTES]),
    ] {
        assert_eq!(parse(&bytes), Err(Malformed), "{}", bytes.escape_ascii());
    }
    // It is known as soon as the length is.
    assert_eq!(parse(&v2(0x21, 0x11, &[0; PROXY_V2_BYTES])[..16]), Err(Malformed));
}

#[test]
fn other_protocols_are_none() {
    for text in [
        "GET / HTTP/1.1\r\n",
        "PUT / HTTP/1.1",
        "PROPFIND /",
        "PROXYX",
        "\r\nGET",
        "\r\n\r\nGET",
        "\u{16}\u{3}\u{1}",
        "x",
    ] {
        assert_eq!(parse(text.as_bytes()), Ok(Parsed::Absent), "{text:?}");
    }
}

/// Every change of one byte of every header: no panic, and no more is taken than there is.
#[test]
fn any_byte_may_be_wrong() {
    for (bytes, _) in valid() {
        let mut changed = bytes.clone();
        // Content of a long TLV is not looked at.
        for at in 0..bytes.len().min(300) {
            for value in 0..=255 {
                changed[at] = value;
                if let Ok(Parsed::Header(_, length)) = parse(&changed) {
                    assert!(length <= changed.len());
                }
            }
            changed[at] = bytes[at];
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let ends = [
        "192.0.2.1:12345",
        "[2001:db8::1]:1",
        "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        "255.255.255.255:65535",
    ];
    for version in [Version::V1, Version::V2] {
        for source in ends {
            for destination in ends {
                let written =
                    HeaderBytes::new(version, Ends { source: end(source), destination: end(destination).unwrap() });
                let said = Header { source: end(source), destination: end(destination), ..Header::default() };
                assert_eq!(
                    parse(written.bytes()),
                    Ok(Parsed::Header(said, written.bytes().len())),
                    "{source} {destination}"
                );
            }
        }
        let written = HeaderBytes::new(version, Ends { source: None, destination: end(ends[0]).unwrap() });
        let unnamed = Header { is_unnamed: true, ..Header::default() };
        assert_eq!(parse(written.bytes()), Ok(Parsed::Header(unnamed, written.bytes().len())));
    }
    assert_eq!(HeaderBytes::local(Version::V1).bytes(), b"PROXY UNKNOWN\r\n");
    assert_eq!(HeaderBytes::local(Version::V2).bytes(), v2(0x20, 0x00, &[]));
    let to_port_80 = Ends { source: end(ends[0]), destination: end("10.0.0.1:80").unwrap() };
    let text = HeaderBytes::new(Version::V1, to_port_80);
    assert_eq!(text.bytes(), b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n");
    let binary = HeaderBytes::new(Version::V2, to_port_80);
    assert_eq!(binary.bytes(), v2(0x21, 0x11, &V4));
}
