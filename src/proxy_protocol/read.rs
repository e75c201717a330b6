//! Reading: bytes in, a header out. Nothing is kept between calls: a header is short.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{End, Header, Malformed, V1, V2};
use crate::limits::{PROXY_V1_BYTES, PROXY_V2_BYTES};

/// Bytes of version 2 before the addresses.
const V2_START: usize = 16;
/// Bytes of the addresses of two Unix-domain sockets.
const UNIX_BYTES: usize = 216;
/// PP2_TYPE_AUTHORITY
const AUTHORITY: u8 = 0x02;
/// PP2_TYPE_SSL
const SSL: u8 = 0x20;
/// PP2_CLIENT_SSL, in the first byte of that.
const CLIENT_SSL: u8 = 0x01;
/// Bytes of it before its own TLVs.
const SSL_START: usize = 5;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// They may become a header.
    Partial,
    /// They are no header, and no more bytes make one of them.
    Absent,
    /// A header, and its length.
    Header(Header<'a>, usize),
}

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// They begin like a header, and are none.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let begins = |mark: &[u8]| bytes.iter().zip(mark).all(|(byte, known)| byte == known);
    match bytes {
        _ if begins(V1) && bytes.len() >= V1.len() => v1(bytes),
        _ if begins(V2) && bytes.len() >= V2.len() => v2(bytes),
        _ if begins(V1) || begins(V2) => Ok(Parsed::Partial),
        _ => Ok(Parsed::Absent),
    }
}

fn v1(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let within = &bytes[..bytes.len().min(PROXY_V1_BYTES)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < PROXY_V1_BYTES { Ok(Parsed::Partial) } else { Err(Malformed) };
    };
    let line = std::str::from_utf8(&within[V1.len()..end]).map_err(|_| Malformed)?;
    let mut words = line.split(' ');
    let header = match words.next() {
        // What follows means nothing.
        Some("UNKNOWN") => Header { is_unnamed: true, ..Header::default() },
        Some(family @ ("TCP4" | "TCP6")) => {
            let mut next = || words.next().ok_or(Malformed);
            let addresses = [next()?, next()?];
            let [source, destination] = addresses.map(|text| address(family, text));
            let [from, to] = [port(next()?)?, port(next()?)?];
            if words.next().is_some() {
                return Err(Malformed);
            }
            Header { source: Some((source?, from)), destination: Some((destination?, to)), ..Header::default() }
        }
        _ => return Err(Malformed),
    };
    Ok(Parsed::Header(header, end + 2))
}

fn address(family: &str, text: &str) -> Result<IpAddr, Malformed> {
    let address = if family == "TCP4" { text.parse().map(IpAddr::V4) } else { text.parse().map(IpAddr::V6) };
    address.map(|address| address.to_canonical()).map_err(|_| Malformed)
}

fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Malformed)
}

fn v2(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some(start) = bytes.first_chunk::<V2_START>() else { return Ok(Parsed::Partial) };
    let [.., version, family, high, low] = *start;
    let length = V2_START + usize::from(u16::from_be_bytes([high, low]));
    let (address, transport) = (family >> 4, family & 0xf);
    if !matches!(version, 0x20 | 0x21) || address > 3 || transport > 2 || length > PROXY_V2_BYTES {
        return Err(Malformed);
    }
    let Some(content) = bytes.get(V2_START..length) else { return Ok(Parsed::Partial) };
    let header = match (version, address, transport) {
        // LOCAL: the proxy speaks for itself.
        (0x20, ..) => Header::default(),
        (_, 1, 1) => {
            let (ends, rest) = content.split_first_chunk::<12>().ok_or(Malformed)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *ends;
            with_tlvs([Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into()], ports, rest)?
        }
        (_, 2, 1) => {
            let (source, rest) = content.split_first_chunk::<16>().ok_or(Malformed)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            with_tlvs([Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into()], *ports, rest)?
        }
        // Datagrams do not come over a connection.
        (_, 1 | 2, 2) => return Err(Malformed),
        (_, 3, _) => {
            let header = Header { is_unnamed: true, ..Header::default() };
            tlvs(content.get(UNIX_BYTES..).ok_or(Malformed)?, header)?
        }
        _ => Header { is_unnamed: true, ..Header::default() },
    };
    Ok(Parsed::Header(header, length))
}

fn with_tlvs(addresses: [IpAddr; 2], ports: [u8; 4], rest: &[u8]) -> Result<Header<'_>, Malformed> {
    let [source, destination] = addresses.map(|address| address.to_canonical());
    let end = |address, port: [u8; 2]| -> Option<End> { Some((address, u16::from_be_bytes(port))) };
    let [a, b, c, d] = ports;
    let header = Header { source: end(source, [a, b]), destination: end(destination, [c, d]), ..Header::default() };
    tlvs(rest, header)
}

/// Adds what the TLVs behind the addresses say.
fn tlvs<'a>(mut rest: &'a [u8], mut header: Header<'a>) -> Result<Header<'a>, Malformed> {
    while let Some((kind, value)) = next_tlv(&mut rest)? {
        match kind {
            AUTHORITY => header.authority = authority(value)?,
            SSL => {
                let (start, mut inner) = value.split_first_chunk::<SSL_START>().ok_or(Malformed)?;
                while next_tlv(&mut inner)?.is_some() {}
                header.tls = start[0] & CLIENT_SSL != 0;
            }
            _ => {}
        }
    }
    Ok(header)
}

/// Takes a TLV off `rest`: its type, and its value.
fn next_tlv<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, Malformed> {
    if rest.is_empty() {
        return Ok(None);
    }
    let ([kind, high, low], content) = rest.split_first_chunk::<3>().ok_or(Malformed)?;
    let (value, behind) = content.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))).ok_or(Malformed)?;
    *rest = behind;
    Ok(Some((*kind, value)))
}

/// A name as it may stand in a field.
fn authority(value: &[u8]) -> Result<&str, Malformed> {
    let known = |c: &u8| c.is_ascii_alphanumeric() || b"-._:[]".contains(c);
    let valid = value.len() <= 255 && value.iter().all(known);
    std::str::from_utf8(value).ok().filter(|_| valid).ok_or(Malformed)
}
