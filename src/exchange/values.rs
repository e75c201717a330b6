//! The values of variables, and what of them a response needs when the head of its request is gone. Not here: the texts in which
//! variables stand (`route::template`).

use super::request::AddressText;
use super::{Engine, Failure, RouteRequest, client};
use crate::http::path::Forms;
use crate::http::{FieldError, RequestError, write_decimal};
use crate::limits::KEPT_BYTES;
use crate::respond::write_parts;
use crate::route::template::{Use, Values, Variable};
use crate::route::{Captures, Route, Scheme, Target, host_name};
use crate::snapshot::{ListenerSpec, Snapshot};
use crate::uring::Driver;

/// A routed request, of which variables have their values.
#[derive(Clone, Copy)]
pub struct RequestValues<'a> {
    /// The request.
    pub asked: RouteRequest<'a>,
    /// The snapshot that it was routed under.
    pub snapshot: &'a Snapshot,
    /// Its route.
    pub route: &'a Route,
    /// The forms of its path.
    pub paths: &'a Forms,
    /// What the groups of the route's `path_regex` have matched of the normal form of its path.
    pub captures: &'a Captures,
}

impl<'a> RequestValues<'a> {
    fn spec(&self) -> &'a ListenerSpec {
        self.snapshot.listener(self.asked.listener)
    }

    /// Address and port of the client: of whoever has connected, or of whom a trusted proxy names, without port.
    fn client(&self) -> (AddressText, u16) {
        let RouteRequest { request, head, peer, .. } = self.asked;
        let address = client::client_ip(peer, request, head, self.spec());
        (AddressText::new(address), if address == peer.address() { peer.port } else { 0 })
    }

    /// The path as it was received.
    fn received(&self) -> &'a [u8] {
        self.asked.request.path(self.asked.head)
    }

    /// The parts that a redirect keeps.
    #[must_use]
    pub fn target(&self) -> Target<'a> {
        let RouteRequest { request, head, peer, .. } = self.asked;
        let received = self.received();
        Target {
            scheme: client::scheme(peer, request, head).text().as_bytes(),
            host: request.authority.of(head),
            path: self.paths.forwarded(received),
            rewritable: self.paths.rewritable(received),
            query: request.query.map(|query| query.of(head)),
        }
    }

    /// Appends the values of all fields called `name` that go on upstream, joined by commas.
    fn write_header(&self, name: &str, out: &mut Vec<u8>) {
        use crate::route::Request;
        let start = out.len();
        for value in self.asked.routed(self.spec(), b"").header(name.as_bytes()) {
            if out.len() > start {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(value);
        }
    }
}

impl Values for RequestValues<'_> {
    fn write(&self, variable: &Variable, out: &mut Vec<u8>) {
        let RouteRequest { request, head, peer, tls, id, .. } = self.asked;
        let digits = &mut [0; 20];
        let address;
        let value: &[u8] = match variable {
            Variable::ClientIp => {
                address = self.client().0;
                address.bytes()
            }
            Variable::ClientPort => match self.client().1 {
                0 => b"",
                port => write_decimal(u64::from(port), digits),
            },
            Variable::ListenerName => self.spec().name.as_bytes(),
            Variable::RouteName => self.route.name.as_bytes(),
            Variable::RequestId => id.text(),
            Variable::RequestScheme => client::scheme(peer, request, head).text().as_bytes(),
            Variable::RequestMethod => request.method_text.of(head),
            Variable::RequestHost => host_name(request.authority.of(head)),
            Variable::RequestPath => self.paths.forwarded(self.received()),
            Variable::RequestQuery => request.query.map_or(b"", |query| query.of(head)),
            Variable::TlsVersion => tls.map_or(b"", |tls| tls.version().as_bytes()),
            // Of TLS that has ended at a proxy in front, that one says it.
            Variable::TlsSni => match (tls, self.asked.arrival) {
                (Some(tls), _) => tls.sni.as_bytes(),
                (None, arrival) => arrival.map_or(b"", |arrival| arrival.authority.as_bytes()),
            },
            Variable::ClientIdentity => tls.map_or(b"", |tls| tls.identity.as_bytes()),
            Variable::TlsClientSubject => tls.map_or(b"", |tls| tls.subject.as_bytes()),
            // Pages have them.
            Variable::ErrorStatus | Variable::ErrorTitle | Variable::ErrorReason => b"",
            Variable::Header(name) => return self.write_header(name, out),
            Variable::Capture(group) => {
                let normal = self.paths.normal(self.received());
                self.captures.get(*group).and_then(|range| normal.get(range)).unwrap_or_default()
            }
        };
        out.extend_from_slice(value);
    }
}

/// What a response needs of its request, for routes that need it.
#[derive(Debug, Default)]
pub struct Kept {
    /// The field lines that the route appends to the response, then the values of Host for the origin and of Host as the client sent it.
    bytes: Vec<u8>,
    /// Where the field lines end.
    lines: usize,
    /// Where the origin's Host ends.
    host: usize,
    /// Whether the client speaks https.
    secure: bool,
}

/// How many of those that were used are kept for other exchanges.
const SPARE_MAX: usize = 1024;

impl Kept {
    /// The name in Host for the origin, without the port. None: there is none.
    pub(super) fn host(&self) -> Option<&str> {
        name_in(self.bytes.get(self.lines..self.host).unwrap_or_default())
    }

    /// Whether a reference with this authority leads to the origin itself: it is the one that the origin was sent, or that the client has
    /// sent. `secure`: the reference is one of https. It sends a client of http to another port, where it names what the client knows.
    #[must_use]
    pub fn leads_to_origin(&self, authority: &[u8], secure: bool) -> bool {
        let [origin, client] = [self.lines..self.host, self.host..self.bytes.len()].map(|known| {
            let known = self.bytes.get(known).unwrap_or_default();
            known.eq_ignore_ascii_case(authority)
        });
        if client { !secure || self.secure } else { origin }
    }
}

/// The field lines that `route` appends to a response, of whose request `kept` was kept.
#[must_use]
#[inline]
pub fn appended_lines<'a>(route: &'a Route, kept: Option<&'a Kept>) -> &'a [u8] {
    match (route.response_edits.appended().plain(), kept) {
        (Some(lines), _) => lines,
        (None, Some(kept)) => kept.bytes.get(..kept.lines).unwrap_or_default(),
        (None, None) => b"",
    }
}

/// The name in a value of Host. None: it has none.
fn name_in(host: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(host).ok()?;
    let name = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.0,
        None => text.split(':').next()?,
    };
    Some(name.trim_end_matches('.')).filter(|name| !name.is_empty())
}

impl<D: Driver> Engine<D> {
    /// What the response to a request of `route` needs of it, or its attempts, if these ask for endpoints `by_host`; its captures have been
    /// found.
    ///
    /// # Errors
    /// It is more than [`KEPT_BYTES`].
    #[inline]
    pub(super) fn keep(
        &mut self,
        snapshot: &Snapshot,
        route: &Route,
        asked: &RouteRequest<'_>,
        by_host: bool,
    ) -> Result<Option<Box<Kept>>, Failure> {
        let plain = route.response_edits.appended().plain().is_some();
        if plain && !route.restores.location && !by_host {
            return Ok(None);
        }
        let kept = self.keep_parts(snapshot, route, asked);
        if kept.bytes.len() <= KEPT_BYTES {
            return Ok(Some(kept));
        }
        Err(Failure::Request(RequestError::Fields(FieldError::TooLarge)))
    }

    #[cold]
    fn keep_parts(&mut self, snapshot: &Snapshot, route: &Route, asked: &RouteRequest<'_>) -> Box<Kept> {
        let mut kept = self.spare.pop().unwrap_or_default();
        let asked = *asked;
        let Self { paths, captures, .. } = self;
        let values = RequestValues { asked, snapshot, route, paths, captures };
        kept.bytes.clear();
        route.response_edits.appended().write(Use::Lines, &values, &mut kept.bytes);
        kept.lines = kept.bytes.len();
        let client = asked.request.authority.of(asked.head);
        match route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_ref()) {
            Some(host) => host.write(Use::Host, &values, &mut kept.bytes),
            None => kept.bytes.extend_from_slice(client),
        }
        kept.host = kept.bytes.len();
        kept.secure = client::scheme(asked.peer, asked.request, asked.head) == Scheme::Https;
        kept.bytes.extend_from_slice(client);
        kept
    }

    /// Keeps the memory for another exchange.
    #[inline]
    pub(super) fn spare(&mut self, kept: Option<Box<Kept>>) {
        if let Some(kept) = kept
            && self.spare.len() < SPARE_MAX
        {
            self.spare.push(kept);
        }
    }
}

/// Finds what the groups of the route's expression have matched, if its texts ask for that.
#[inline]
pub fn find_captures(captures: &mut Captures, route: &Route, normal: &[u8]) {
    if let Some(groups) = &route.captures {
        captures.read(groups, normal);
    }
}

/// Writes the Location of a redirect.
pub fn write_location(values: &RequestValues<'_>, redirect: &crate::route::Redirect, out: &mut Vec<u8>) {
    redirect.write_location(&values.target(), values, out);
}

/// Writes the value of Host that a request is forwarded with; `fallback` where neither the request nor its route names one.
pub(super) fn write_host(values: &RequestValues<'_>, fallback: &[u8], out: &mut Vec<u8>) {
    let rewritten = values.route.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_ref());
    match (rewritten, values.asked.request.authority.of(values.asked.head)) {
        (Some(host), _) => host.write(Use::Host, values, out),
        (None, []) => write_parts(out, &[fallback]),
        (None, host) => write_parts(out, &[host]),
    }
}
