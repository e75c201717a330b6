//! Methods and versions. Not here: what an exchange does with them.

/// A request method. Methods are case-sensitive (RFC 9110 section 9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH (RFC 5789)
    Patch,
    /// Any other token.
    Other,
}

impl Method {
    /// The method with this name.
    #[inline]
    pub fn lookup(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Its bit in a set of methods; 0 for [`Method::Other`], which is in none.
    #[must_use]
    pub fn bit(self) -> u16 {
        if self == Self::Other { 0 } else { 1 << self as u16 }
    }

    /// Whether the method is idempotent (RFC 9110 section 9.2.2). Unknown methods count as not idempotent.
    pub fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace => true,
            Self::Post | Self::Connect | Self::Patch | Self::Other => false,
        }
    }
}

/// The version whose rules a message follows. A higher 1.x is read as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: the connection closes unless `keep-alive` is asked for, and there are no transfer codings.
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2, whose messages are read as those of HTTP/1.1.
    Http2,
}
