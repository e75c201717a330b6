//! TLS over our buffers (RFC 8446, RFC 5246). rustls performs handshakes; later records are opened and sealed here, in leases,
//! where rustls would allocate and copy each. The only importer of rustls and aws-lc. Not here: sockets and HTTP.

mod acceptor;
mod authorities;
mod client;
mod client_auth;
pub mod client_hello;
mod demand;
mod distrust;
mod examine;
mod handshake;
mod identity;
mod keys;
mod ocsp;
mod peer;
mod record;
mod resolver;
mod revocation;
mod secrets;
mod server;
mod session;
mod sessions;
mod tickets;
mod traffic;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use rustls::AlertDescription;

use crate::buffer::{Buffers, Lease, Queue};

pub use acceptor::{Accepted, Acceptor};
pub use authorities::Authorities;
pub use client::{Client, ClientSpec, Trust};
pub use client_auth::{Admission, ClientAuth};
pub use demand::{Pin, SpiffeId};
pub use distrust::{Distrust, Reason};
pub use examine::ChainFault;
pub use identity::{BadCertificates, BadKey, Chain, Identity};
pub use ocsp::{BadOcsp, OcspResponse};
pub use peer::ForwardClientCert;
pub use revocation::{BadRevocationLists, RevocationList};
pub use server::{Server, ServerSpec};
pub use session::Session;
pub use tickets::Tickets;

/// Name of a server: a DNS name or an address.
pub use rustls::pki_types::ServerName;

/// Output of a session, and what is needed to make records.
#[derive(Debug)]
pub struct Wire<'a> {
    /// Buffers for records.
    pub buffers: &'a mut Buffers,
    /// Records to be sent, in order.
    pub out: &'a mut Queue,
    /// The time of this turn.
    pub now: Duration,
    /// Bytes of the connection that the kernel has accepted so far.
    pub taken: u64,
    /// Bytes that are queued before `out`.
    pub unsent: u64,
}

impl Wire<'_> {
    fn send(&mut self, record: Lease) {
        self.out.push(self.buffers.pieces(), record);
    }

    /// The value of `taken` once everything queued so far is accepted.
    fn end(&self) -> u64 {
        self.taken + self.unsent + self.out.bytes() as u64
    }
}

/// What a client has shown in its handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHandshake {
    /// Whether the version is TLS 1.3; else it is 1.2.
    pub tls13: bool,
    /// The name of the server that it asked for (RFC 6066 section 3); empty: none.
    pub sni: Box<str>,
    /// The subject of its certificate (RFC 4514); empty: it has shown none. Without control characters.
    pub subject: Box<str>,
    /// Who it is, by its certificate: the first SPIFFE ID, else the first DNS name, else the subject; empty: it has shown none.
    pub identity: Box<str>,
    /// The value of Client-Cert; empty: it is not sent.
    pub client_cert: Box<str>,
    /// The value of X-Forwarded-Client-Cert; empty: it is not sent.
    pub xfcc: Box<str>,
    /// Whether one of these two is due and longer than `limits::CLIENT_CERT_BYTES`: then no request goes on, because one without the field is that
    /// of a client without a certificate.
    pub cert_too_large: bool,
}

impl ClientHandshake {
    /// The version of TLS, as logs of other programs call it.
    #[must_use]
    pub fn version(&self) -> &'static str {
        if self.tls13 { "TLSv1.3" } else { "TLSv1.2" }
    }
}

/// The result of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Whether the version is TLS 1.3; else it is 1.2.
    pub tls13: bool,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Whether it took one more round trip, because the server rejected the first key share (RFC 8446 section 4.1.4).
    pub retried: bool,
    /// Whether ALPN has chosen HTTP/2 (RFC 9113 section 3.2).
    pub http2: bool,
    suite: Option<&'static str>,
    group: Option<&'static str>,
}

/// Writes version, cipher suite and group, by their names in the standards.
impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls13 { "TLSv1.3" } else { "TLSv1.2" })?;
        [self.suite, self.group].into_iter().flatten().try_for_each(|name| write!(f, " {name}"))
    }
}

/// Why a connection cannot continue, and whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer: the handshake failed.
    #[error("the handshake failed")]
    Handshake,
    /// The peer: its certificate could not be verified.
    #[error("the peer's certificate is not to be believed")]
    Certificate,
    /// The peer, a client: it speaks HTTP without TLS.
    #[error("the peer does not speak TLS")]
    PlainText,
    /// The peer: it does not send TLS records.
    #[error("a record breaks the grammar")]
    Malformed,
    /// The peer: a record, a handshake message or a ticket is longer than allowed.
    #[error("a record is too long")]
    TooLong,
    /// The peer: a record of a type that is not allowed now.
    #[error("an unexpected record")]
    Unexpected,
    /// The peer, or an attacker: a record does not authenticate as the next one.
    #[error("a record that does not open")]
    Forged,
    /// The peer: too many records without content.
    #[error("too many empty records")]
    Flood,
    /// The peer: it has sent a fatal alert.
    #[error("the peer gave up")]
    Refused,
    /// The peer: its connection ended before the handshake did.
    #[error("the connection ended during the handshake")]
    Cut,
    /// Us: no buffer is free.
    #[error("no buffer is free")]
    Buffers,
    /// Us: a key of TLS 1.2 has reached its limit of records.
    #[error("the key is worn out")]
    Worn,
}

impl Error {
    /// The alert for the peer (RFC 8446 section 6.2).
    fn alert(self) -> Option<AlertDescription> {
        match self {
            Self::Handshake | Self::Certificate | Self::PlainText | Self::Refused | Self::Cut => None,
            Self::Malformed => Some(AlertDescription::DecodeError),
            Self::TooLong => Some(AlertDescription::RecordOverflow),
            Self::Unexpected | Self::Flood => Some(AlertDescription::UnexpectedMessage),
            Self::Forged => Some(AlertDescription::BadRecordMac),
            Self::Buffers | Self::Worn => Some(AlertDescription::InternalError),
        }
    }
}
