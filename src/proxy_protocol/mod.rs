//! The PROXY protocol, versions 1 and 2: what a proxy says before all else of the connection that it passes on. Sans-I/O. Not here: who
//! may send it (`downstream`), and over which connections it goes (`upstream`).

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::net::{IpAddr, Ipv4Addr};

pub use read::{Parsed, parse};
pub use write::HeaderBytes;

/// First bytes of version 1.
const V1: &[u8] = b"PROXY ";
/// First bytes of version 2: no request begins with them, nor any other protocol known.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A version that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// An IP address and a port.
pub type End = (IpAddr, u16);

/// What an endpoint is told of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client; None: it has no address, as one on a Unix-domain socket.
    pub source: Option<End>,
    /// Where it has connected to.
    pub destination: End,
}

impl Ends {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { source: None, destination: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0) };
}

/// What a header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// The client. None: the header names none; its address is that of who has connected.
    pub source: Option<End>,
    /// The connection is a client's that the proxy knows no address of (UNKNOWN, and families without IP addresses), so that what comes over
    /// it is not the proxy's own, as a check is that it makes itself (LOCAL).
    pub is_unnamed: bool,
    /// Where the client has connected to.
    pub destination: Option<End>,
    /// The name that the client has asked for, as in TLS's SNI; empty: none is known.
    pub authority: &'a str,
    /// The client has come over TLS.
    pub tls: bool,
}

/// What begins like a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;
