//! Writing.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};

use super::{End, Ends, V2, Version};
use crate::limits::PROXY_V1_BYTES;

/// Version and command: a connection of the proxy's own.
const LOCAL: u8 = 0x20;
/// Version and command: a client's connection.
const PROXY: u8 = 0x21;

/// A header as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; PROXY_V1_BYTES],
    length: u8,
}

impl HeaderBytes {
    /// The header that tells of a client's connection.
    #[must_use]
    pub fn new(version: Version, Ends { source, destination }: Ends) -> Self {
        let mut header = Self { bytes: [0; PROXY_V1_BYTES], length: 0 };
        let (families, ends) = match source {
            None => (None, [destination; 2]),
            // Both are of one family.
            Some(source) if source.0.is_ipv4() == destination.0.is_ipv4() => {
                (Some(source.0.is_ipv4()), [source, destination])
            }
            Some(source) => (Some(false), [source, destination].map(|(address, port)| (mapped(address).into(), port))),
        };
        match version {
            Version::V1 => header.write_v1(families, ends),
            Version::V2 => header.write_v2(families, ends),
        }
        header
    }

    /// The header for a connection of our own, on which no client's request is sent.
    #[must_use]
    pub fn local(version: Version) -> Self {
        let mut header = Self::new(version, Ends::UNKNOWN);
        if version == Version::V2 {
            header.bytes[V2.len()] = LOCAL;
        }
        header
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn write_v1(&mut self, is_ipv4: Option<bool>, [(source, from), (destination, to)]: [End; 2]) {
        let mut rest = &mut self.bytes[..];
        let written = match is_ipv4 {
            None => write!(rest, "PROXY UNKNOWN\r\n"),
            Some(true) => write!(rest, "PROXY TCP4 {source} {destination} {from} {to}\r\n"),
            Some(false) => write!(rest, "PROXY TCP6 {source} {destination} {from} {to}\r\n"),
        };
        // The longest line has as many bytes as there are.
        debug_assert!(written.is_ok());
        self.length = (PROXY_V1_BYTES - rest.len()) as u8;
    }

    fn write_v2(&mut self, is_ipv4: Option<bool>, [(source, from), (destination, to)]: [End; 2]) {
        self.add(V2);
        let (family, length) = match is_ipv4 {
            None => (0x00, 0),
            Some(true) => (0x11, 12),
            Some(false) => (0x21, 36),
        };
        self.add(&[PROXY, family, 0, length]);
        if is_ipv4.is_none() {
            return;
        }
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => self.add(&address.octets()),
                IpAddr::V6(address) => self.add(&address.octets()),
            }
        }
        self.add(&from.to_be_bytes());
        self.add(&to.to_be_bytes());
    }

    fn add(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
