//! TLS over our buffers (RFC 8446, RFC 5246). rustls shakes hands; the records after that are opened and sealed here, in leases,
//! where rustls would allocate and copy each. The only importer of rustls and aws-lc. Not here: sockets' life and HTTP.

mod authorities;
mod client;
mod handshake;
mod identity;
mod keys;
mod record;
mod resolver;
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

pub use authorities::Authorities;
pub use client::{Client, ClientSpec, Trust};
pub use identity::{BadCertificates, BadKey, Chain, Identity};
pub use server::{Server, ServerSpec};
pub use session::Session;
pub use tickets::Tickets;

/// Whom a client means: a DNS name or an address.
pub use rustls::pki_types::ServerName;

/// Where the records of a session go, and what making them takes.
#[derive(Debug)]
pub struct Wire<'a> {
    /// Where records lie.
    pub buffers: &'a mut Buffers,
    /// Records to be sent, in order.
    pub out: &'a mut Queue,
    /// The time of this turn.
    pub now: Duration,
    /// Bytes of the connection that the kernel has taken so far.
    pub taken: u64,
    /// Bytes that wait before `out`.
    pub unsent: u64,
}

impl Wire<'_> {
    fn send(&mut self, record: Lease) {
        self.out.push(self.buffers.pieces(), record);
    }

    /// What will have been taken when everything queued so far has.
    fn end(&self) -> u64 {
        self.taken + self.unsent + self.out.bytes() as u64
    }
}

/// What a handshake has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// TLS 1.3, else 1.2.
    pub tls13: bool,
    /// From a ticket.
    pub resumed: bool,
    /// It took one round trip more: the server did not take the key share that was offered first.
    pub retried: bool,
    suite: Option<&'static str>,
    group: Option<&'static str>,
}

/// Version, cipher suite and group, as their standards call them.
impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls13 { "TLSv1.3" } else { "TLSv1.2" })?;
        [self.suite, self.group].into_iter().flatten().try_for_each(|name| write!(f, " {name}"))
    }
}

/// Why a connection cannot go on, by blame: the peer, us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer: the handshake failed.
    #[error("the handshake failed")]
    Handshake,
    /// The peer: its certificate is not to be believed.
    #[error("the peer's certificate is not to be believed")]
    Certificate,
    /// The peer, a client: it speaks HTTP without TLS.
    #[error("the peer does not speak TLS")]
    PlainText,
    /// The peer: this is not TLS.
    #[error("a record breaks the grammar")]
    Malformed,
    /// The peer: a record, or its part of the handshake, or a ticket, is longer than any may be.
    #[error("a record is too long")]
    TooLong,
    /// The peer: a record of a kind that has no place here.
    #[error("an unexpected record")]
    Unexpected,
    /// The peer, or somebody between: a record was not sealed by the peer as the next one.
    #[error("a record that does not open")]
    Forged,
    /// The peer: too many records that bring nothing.
    #[error("too many empty records")]
    Flood,
    /// The peer: it has sent a fatal alert.
    #[error("the peer gave up")]
    Refused,
    /// Us: no buffer is free.
    #[error("no buffer is free")]
    Buffers,
    /// Us: a key of TLS 1.2 has sealed as much as it may.
    #[error("the key is worn out")]
    Worn,
}

impl Error {
    /// What the peer is told (RFC 8446 section 6.2).
    fn alert(self) -> Option<AlertDescription> {
        match self {
            Self::Handshake | Self::Certificate | Self::PlainText | Self::Refused => None,
            Self::Malformed => Some(AlertDescription::DecodeError),
            Self::TooLong => Some(AlertDescription::RecordOverflow),
            Self::Unexpected | Self::Flood => Some(AlertDescription::UnexpectedMessage),
            Self::Forged => Some(AlertDescription::BadRecordMac),
            Self::Buffers | Self::Worn => Some(AlertDescription::InternalError),
        }
    }
}
