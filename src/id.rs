//! Newtypes for every index and address. Not here: anything that can fail at run time, or does I/O.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// The index in tables by this id.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// A listener: the same id in every snapshot that has the listener. The snapshot's ledger gives it.
    ListenerId(u16)
);
index!(
    /// Position of a route in one snapshot.
    RouteId(u32)
);
index!(
    /// Number of a route in the process: the same in every snapshot that has the route. Below `limits::ROUTE_NUMBERS`.
    RouteNumber(u32)
);
index!(
    /// Position of a cluster in one snapshot.
    ClusterId(u32)
);
index!(
    /// An endpoint: the same id in every snapshot that has the endpoint. The snapshot's ledger gives it.
    EndpointId(u32)
);
index!(
    /// A tenant. In a specification it is the tenant's position; in snapshots it is the same in every one that has the tenant.
    TenantId(u16)
);
index!(
    /// Number of a worker, 0 to workers - 1.
    WorkerId(u16)
);

/// The connection that gets the events of a socket: a slot in one of a worker's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A client's connection.
    Downstream(u32),
    /// A connection to an endpoint.
    Upstream(u32),
}

/// The destination of a response: a client's connection, and the stream on it. HTTP/1.1 has one stream at a time, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// Slot of the connection.
    pub connection: u32,
    /// Number of the stream on it.
    pub stream: u32,
}

/// A timer, by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The timer of a connection, for what its peer has to do next.
    Connection(Owner),
    /// The timer of an exchange as a whole, by its slot.
    Exchange(u32),
    /// The timer of the attempt that an exchange makes now, by the slot of the exchange.
    Attempt(u32),
}

impl Timer {
    /// The timer's index in the wheel, unique for slots below 2^30.
    #[must_use]
    pub fn number(self) -> u32 {
        let (kind, slot) = match self {
            Self::Connection(Owner::Downstream(slot)) => (0, slot),
            Self::Connection(Owner::Upstream(slot)) => (1, slot),
            Self::Exchange(slot) => (2, slot),
            Self::Attempt(slot) => (3, slot),
        };
        slot << 2 | kind
    }

    /// The timer with this number.
    #[must_use]
    pub fn of(number: u32) -> Self {
        let slot = number >> 2;
        match number & 3 {
            0 => Self::Connection(Owner::Downstream(slot)),
            1 => Self::Connection(Owner::Upstream(slot)),
            2 => Self::Exchange(slot),
            _ => Self::Attempt(slot),
        }
    }
}

/// The address that a listener binds, or of an endpoint: `127.0.0.1:80`, `[::1]:80` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// Path of a Unix-domain stream socket (unix(7)), at most 107 bytes.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is neither IP:PORT nor unix:/path.
    #[error("not an address; write IP:PORT, [IPv6]:PORT or unix:/path")]
    Form,
    /// The path is too long: the kernel's `sun_path` holds 108 bytes, the NUL at the end included (unix(7)).
    #[error("the socket path is longer than 107 bytes")]
    PathLength,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(AddressError::Form),
                1..=107 => Ok(Self::Unix(PathBuf::from(path))),
                _ => Err(AddressError::PathLength),
            };
        }
        text.parse().map(Self::Inet).map_err(|_| AddressError::Form)
    }
}

/// An address range, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// Its first address; bits beyond the prefix are zero.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix: u8,
}

impl Network {
    /// Whether `peer` lies in the range. An IPv4-mapped IPv6 peer counts as its IPv4 address.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let shift = |bits: u32| bits.checked_sub(u32::from(self.prefix));
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(peer)) => {
                let shift = shift(32).unwrap_or(0);
                u64::from(net.to_bits()) >> shift == u64::from(peer.to_bits()) >> shift
            }
            (IpAddr::V6(net), IpAddr::V6(peer)) => {
                let shift = shift(128).unwrap_or(0);
                shift == 128 || net.to_bits() >> shift == peer.to_bits() >> shift
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            prefix if prefix == bits => write!(f, "{}", self.address),
            prefix => write!(f, "{}/{prefix}", self.address),
        }
    }
}
