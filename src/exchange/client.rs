//! Who the client is and how it speaks, as far as that can be believed: what a trusted proxy says, else what the connection shows.
//! Not here: what is passed on to origins (`request`).

use std::net::{IpAddr, Ipv4Addr};

use super::Peer;
use crate::http::{FieldName, RequestHead};
use crate::id::Address;
use crate::proxy_protocol::{End, Ends};
use crate::route::Scheme;
use crate::snapshot::ListenerSpec;

/// What is known of how a client's connection came.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// Where the client has connected to; None: it is not known.
    pub destination: Option<End>,
    /// The name that a proxy in front was asked for, in TLS's SNI or otherwise; empty: it says none.
    pub authority: Box<str>,
}

impl Arrival {
    /// A connection to this address.
    #[must_use]
    pub fn at(destination: Option<End>) -> Box<Self> {
        Box::new(Self { destination, authority: Box::default() })
    }
}

/// What an endpoint is told of the connection that a request has come over: who has made it and where it has gone. Of the clients that a
/// trusted proxy names in fields, those fields tell.
#[must_use]
pub fn ends(peer: &Peer, arrival: Option<&Arrival>, listener: &ListenerSpec) -> Ends {
    let source = peer.address().filter(|_| !peer.is_unnamed).map(|address| (address, peer.port));
    let bound = match &listener.bind {
        Address::Inet(bind) => (bind.ip(), bind.port()),
        Address::Unix(_) => (Ipv4Addr::UNSPECIFIED.into(), 0),
    };
    Ends { source, destination: arrival.and_then(|arrival| arrival.destination).unwrap_or(bound) }
}

/// The address of the client. That of the peer, unless the peer is a trusted proxy: then the last one in X-Forwarded-For that is no
/// trusted proxy's, or the first one if all are. None: a Unix-domain socket, or a proxy that names its client by no address.
#[must_use]
pub fn client_ip(peer: &Peer, request: &RequestHead, head: &[u8], listener: &ListenerSpec) -> Option<IpAddr> {
    let mut client = peer.address();
    if !peer.trusted {
        return client;
    }
    // Also fields that Connection nominates: they are for this hop, and a client must not be able to take them away.
    let fields = request.fields.all(FieldName::XForwardedFor).rev();
    let elements = fields.flat_map(|field| field.value.of(head).rsplit(|byte| *byte == b','));
    for element in elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()) {
        client = address(element);
        // What stands before the first one that is not trusted, that one may have made up.
        if !client.is_some_and(|address| listener.trusts(Some(address))) {
            break;
        }
    }
    client
}

/// The scheme that the client uses: the one that a trusted peer names, which may have ended the client's TLS, else that of the
/// connection.
pub(super) fn scheme(peer: &Peer, request: &RequestHead, head: &[u8]) -> Scheme {
    let told = request.fields.get(FieldName::XForwardedProto).filter(|field| peer.passes(request, head, field));
    // Each proxy on the way appends its element; the first was written by the proxy that the client is connected to.
    let first = told.and_then(|field| field.value.of(head).split(|byte| *byte == b',').next()).map(<[u8]>::trim_ascii);
    match first {
        Some(told) if told.eq_ignore_ascii_case(b"https") => Scheme::Https,
        Some(told) if told.eq_ignore_ascii_case(b"http") => Scheme::Http,
        _ => peer.scheme(),
    }
}

/// The address in an element, which some proxies write with the port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.0.parse().ok().map(IpAddr::V6),
        None => text.split_once(':')?.0.parse().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn an_element_is_an_address_with_or_without_port() {
        for (element, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:8080", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:8080", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("::ffff:192.0.2.1")),
            ("unknown", None),
            ("_hidden", None),
            ("192.0.2.1.5", None),
            ("[192.0.2.1]", None),
            ("[2001:db8::1", None),
            ("192.0.2.1 10.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(address(element.as_bytes()), expected.map(|text| text.parse().unwrap()), "{element}");
        }
        assert_eq!(address(b"\xff"), None);
    }
}
