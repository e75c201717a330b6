//! URLs and request bytes, checked and written once before the run. Not here: when they are sent.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use cairn::id::Address;

use super::tls::{Probe, ServerName, TlsError};

/// Why a URL, method or field cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("`{0}` is no URL; write http://HOST[:PORT]/PATH or https://")]
    Url(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("`{0}`: a weight is a number from 1 to 1000, as in URL@3")]
    Weight(String),
    #[error("`{0}` is only a path; name its host by a URL on the command line")]
    Baseless(String),
    #[error("a scenario takes one URL, for its requests that have only a path")]
    Bases,
    #[error("`{0}` is no method")]
    Method(String),
    #[error("`{0}` is no field; write 'Name: value'")]
    Field(String),
    #[error("the field {0} follows from the body and the connection; leave it out")]
    Framing(String),
    #[error("cannot find the address of {0}: {1}")]
    Resolve(String, io::Error),
    #[error("cannot connect to {0}: {1}")]
    Unreachable(String, io::Error),
}

/// One parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether the scheme is https.
    secure: bool,
    /// Host and port, as the value of Host.
    pub(super) authority: String,
    host: String,
    port: u16,
    /// Path and query.
    pub(super) target: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(text.into());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (secure, default_port) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(wrong()),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(wrong());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if path.starts_with('/') { path.into() } else { format!("/{path}") };
        let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
        let (host, port) = match colon {
            Some(colon) => (&authority[..colon], authority[colon + 1..].parse().map_err(|_| wrong())?),
            None => (authority, default_port),
        };
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if name.is_empty() || port == 0 || name.contains(['@', '[', ']']) || (name == host && name.contains(':')) {
            return Err(wrong());
        }
        Ok(Self { secure, authority: authority.into(), host: name.into(), port, target })
    }

    /// A URL that may end in `@3`, and that weight or 1.
    pub(super) fn parse_weighted(text: &str) -> Result<(Self, u16), TargetError> {
        let (url, weight) = split_weight(text).ok_or_else(|| TargetError::Weight(text.into()))?;
        Ok((Self::parse(url)?, weight))
    }

    /// A URL with another path on the same host.
    pub(super) fn at(&self, path: &str) -> Result<Self, TargetError> {
        Self::parse(&format!("{}://{}{path}", self.scheme(), self.authority))
    }

    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The name that the host's certificate has to have; None: there is none.
    fn server_name(&self) -> Result<Option<ServerName<'static>>, TargetError> {
        let name = self.secure.then(|| ServerName::try_from(self.host.clone()));
        name.transpose().map_err(|_| TargetError::Url(format!("https://{}", self.authority)))
    }

    /// The first of the host's addresses that takes a connection, on which TLS is tried where it is asked for.
    pub(super) fn reach(&self, probe: Option<&mut Probe>, patience: Duration) -> Result<Host, TargetError> {
        let (name, (address, stream)) = (self.server_name()?, self.connect(patience)?);
        let agreement = match (probe, &name) {
            (Some(probe), Some(name)) => {
                let agreed = probe.check(name, stream, patience);
                Some(agreed.map_err(|why| why.about(format!("{} ({address})", name.to_str()), probe.ca.as_deref()))?)
            }
            _ => None,
        };
        Ok(Host { address: Address::Inet(address), name, agreement })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    fn connect(&self, patience: Duration) -> Result<(SocketAddr, TcpStream), TargetError> {
        let resolve = |error| TargetError::Resolve(self.host.clone(), error);
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(resolve)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => return Ok((address, stream)),
                Err(error) => last = error,
            }
        }
        Err(TargetError::Unreachable(format!("{}://{}", self.scheme(), self.authority), last))
    }
}

/// A host to which requests are sent.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: Address,
    /// Name that its certificate has to have; None: no TLS.
    pub(super) name: Option<ServerName<'static>>,
    /// Version, cipher suite and group of TLS.
    pub(super) agreement: Option<String>,
}

/// Cuts `@3` off; 1 if there is none.
fn split_weight(text: &str) -> Option<(&str, u16)> {
    match text.rsplit_once('@') {
        Some((url, digits)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let weight = digits.parse().ok().filter(|weight| (1..=1000).contains(weight))?;
            Some((url, weight))
        }
        _ => Some((text, 1)),
    }
}

/// The parts that all requests share.
#[derive(Debug)]
pub(super) struct RequestForm<'a> {
    pub(super) method: &'a str,
    pub(super) headers: &'a [String],
    pub(super) body: Option<&'a [u8]>,
    pub(super) close: bool,
    /// Whether it is a call of gRPC with the body as its message.
    pub(super) grpc: bool,
}

/// What a call has besides.
const GRPC_FIELDS: &str = "Content-Type: application/grpc\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n";

/// Bytes of a message with its head.
pub(crate) const fn grpc_message_bytes(message: u64) -> u64 {
    1 + 4 + message
}

/// The message of a call as it is sent: not compressed, behind its length.
pub(crate) fn grpc_message(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

impl RequestForm<'_> {
    /// Whether it makes a request.
    pub(super) fn check(&self) -> Result<(), TargetError> {
        self.fields().map(drop)
    }

    /// The bytes of one request.
    pub(super) fn write(&self, url: &Url) -> Result<Box<[u8]>, TargetError> {
        let (fields, has_host) = self.fields()?;
        let host = if has_host { String::new() } else { format!("Host: {}\r\n", url.authority) };
        if self.grpc {
            // Over HTTP/2, the chunk only says where the content ends.
            let message = grpc_message(self.body.unwrap_or_default());
            let head = format!("{} {} HTTP/1.1\r\n{host}{fields}{GRPC_FIELDS}\r\n", self.method, url.target);
            return Ok([format!("{head}{:x}\r\n", message.len()).as_bytes(), &message, b"\r\n0\r\n\r\n"]
                .concat()
                .into());
        }
        let length = self.body.map_or(String::new(), |body| format!("Content-Length: {}\r\n", body.len()));
        let close = if self.close { "Connection: close\r\n" } else { "" };
        let head = format!("{} {} HTTP/1.1\r\n{host}{fields}{length}{close}\r\n", self.method, url.target);
        Ok([head.as_bytes(), self.body.unwrap_or_default()].concat().into())
    }

    /// The fields as they are sent, and whether Host is among them.
    fn fields(&self) -> Result<(String, bool), TargetError> {
        if self.method == "CONNECT" || !is_token(self.method) {
            return Err(TargetError::Method(self.method.into()));
        }
        let mut fields = String::new();
        let mut has_host = false;
        for header in self.headers {
            let (name, value) = field(header).ok_or_else(|| TargetError::Field(header.clone()))?;
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            if is("content-length") || is("transfer-encoding") || is("connection") || (self.grpc && is("content-type"))
            {
                return Err(TargetError::Framing(name.into()));
            }
            has_host |= is("host");
            fields += &format!("{name}: {value}\r\n");
        }
        Ok((fields, has_host))
    }
}

fn field(header: &str) -> Option<(&str, &str)> {
    let (name, value) = header.split_once(':')?;
    let value = value.trim_matches([' ', '\t']);
    let is_value = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    (is_token(name) && is_value).then_some((name, value))
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The order in which URLs with these weights take turns, evenly mixed and as long as the sum of the weights.
pub(super) fn schedule(weights: &[u16]) -> Box<[u16]> {
    let sum: i32 = weights.iter().map(|weight| i32::from(*weight)).sum();
    let mut credit = vec![0; weights.len()];
    let turn = |_| {
        let mut best = 0;
        for (index, weight) in weights.iter().enumerate() {
            credit[index] += i32::from(*weight);
            if credit[index] > credit[best] {
                best = index;
            }
        }
        credit[best] -= sum;
        best as u16
    };
    (0..sum).map(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_or_refused() {
        let parts = |text| Url::parse_weighted(text).map(|(url, weight)| (url.host, url.port, url.target, weight));
        let good = [
            ("http://a", ("a", 80, "/", 1)),
            ("http://a:81/b?c@3", ("a", 81, "/b?c", 3)),
            ("http://a?c", ("a", 80, "/?c", 1)),
            ("https://a", ("a", 443, "/", 1)),
            ("http://[::1]:9/x", ("::1", 9, "/x", 1)),
            ("http://[::1]/@x", ("::1", 80, "/@x", 1)),
        ];
        for (text, (host, port, target, weight)) in good {
            assert_eq!(parts(text).expect(text), (host.into(), port, target.into(), weight));
        }
        let bad =
            ["", "a/b", "ftp://a", "https://", "http://", "http:///x", "http://a:0", "http://a:b", "http://a:99999"];
        for text in
            bad.into_iter().chain(["http://u@h/", "http://::1/", "http://a/ b", "http://a/@0", "http://a/@1001"])
        {
            assert!(parts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn requests_are_written_as_asked() {
        let url = Url::parse("http://a:81/b").expect("a URL");
        let headers = ["X-One:  1 ".to_owned()];
        let form = RequestForm { method: "PUT", headers: &headers, body: Some(b"hi"), close: true, grpc: false };
        let bytes = form.write(&url).expect("a request");
        let expected = "PUT /b HTTP/1.1\r\nHost: a:81\r\nX-One: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        assert_eq!(std::str::from_utf8(&bytes), Ok(expected));
        for header in ["nothing", "a b: c", ": c", "x: a\r\nb: c", "Content-Length: 3", "connection: close"] {
            let headers = [header.to_owned()];
            assert!(RequestForm { headers: &headers, ..form }.write(&url).is_err(), "{header}");
        }
        assert!(RequestForm { method: "G T", headers: &headers, ..form }.write(&url).is_err());
        let bytes = RequestForm { method: "POST", grpc: true, close: false, ..form }.write(&url).expect("a call");
        let head = format!("POST /b HTTP/1.1\r\nHost: a:81\r\nX-One: 1\r\n{GRPC_FIELDS}\r\n");
        assert_eq!(*bytes, *[head.as_bytes(), b"7\r\n\0\0\0\0\x02hi\r\n0\r\n\r\n"].concat());
    }

    #[test]
    fn weights_are_mixed_evenly() {
        assert_eq!(*schedule(&[1]), [0]);
        assert_eq!(*schedule(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(*schedule(&[2, 2, 1]), [0, 1, 2, 0, 1]);
    }
}
