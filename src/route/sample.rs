//! A request for which a route is looked up without one on the wire: what a plan, a check or a test asks the router. Not here: requests of
//! clients (`exchange`).

use std::net::IpAddr;

use super::{Request, Scheme};

/// The parts of a request that routes have conditions on.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// The method.
    pub method: &'a str,
    /// The authority.
    pub host: String,
    /// The path in its normal form.
    pub path: &'a str,
    /// The query without `?`; empty: none.
    pub query: String,
    /// Names, in lower case, and values of fields.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The value of Cookie; empty: none.
    pub cookies: String,
    /// What a ClientHello offers.
    pub protocols: Vec<&'a str>,
    /// The address of the client.
    pub client_ip: Option<IpAddr>,
    /// What the certificate of the client says of its owner.
    pub identity: Option<String>,
    /// How the client speaks.
    pub scheme: Scheme,
    /// The port of the listener.
    pub port: Option<u16>,
}

impl<'a> Sample<'a> {
    /// A GET in the clear for a host and a path, and nothing else.
    #[must_use]
    pub fn get(host: impl Into<String>, path: &'a str) -> Self {
        Self {
            method: "GET",
            host: host.into(),
            path,
            query: String::new(),
            headers: Vec::new(),
            cookies: String::new(),
            protocols: Vec::new(),
            client_ip: None,
            identity: None,
            scheme: Scheme::Http,
            port: None,
        }
    }
}

impl Request for Sample<'_> {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        (!self.query.is_empty()).then_some(self.query.as_bytes())
    }

    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        let cookies = Some(self.cookies.as_bytes()).filter(|cookies| name == b"cookie" && !cookies.is_empty());
        let fields = self.headers.iter().filter(move |(known, _)| known.as_bytes() == name);
        fields.map(|(_, value)| value.as_bytes()).chain(cookies)
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }

    fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        self.protocols.iter().map(|protocol| protocol.as_bytes())
    }

    fn scheme(&self) -> Scheme {
        self.scheme
    }

    fn port(&self) -> Option<u16> {
        self.port
    }
}
