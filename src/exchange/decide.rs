//! The decision on a request before anything is sent: its route, or why it is refused. One function for the data path and for
//! `cairn explain`. Not here: the accounting of tenants' limits (`tenancy`).

use std::net::IpAddr;

use super::{Arrival, Decision, Engine, Failure, Peer, RequestId, RouteOf, client};
use crate::http::path::{Forms, PathError};
use crate::http::{BodyFraming, Field, FieldName, Method, RequestError, RequestHead, parse_decimal};
use crate::id::{ListenerId, RouteId};
use crate::respond::write_parts;
use crate::route::{self, Action, Route, Scheme};
use crate::snapshot::{ListenerSpec, Snapshot, SnapshotRef};
use crate::tls::ClientHandshake;
use crate::uring::Driver;

/// A request for which a route is looked up.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// The parsed head.
    pub request: &'a RequestHead,
    /// The received bytes of the head, into which the spans point.
    pub head: &'a [u8],
    /// The listener that accepted its connection.
    pub listener: ListenerId,
    /// Its sender.
    pub peer: &'a Peer,
    /// What its sender has shown in the TLS handshake; None without TLS.
    pub tls: Option<&'a ClientHandshake>,
    /// How its connection came; None: nothing is known of that.
    pub arrival: Option<&'a Arrival>,
    /// Its identifier.
    pub id: &'a RequestId,
}

impl<'a> RouteRequest<'a> {
    /// The request as the router sees it, with a form of its path. `spec` is that of its listener.
    #[must_use]
    pub fn routed(&self, spec: &'a ListenerSpec, path: &'a [u8]) -> Routed<'a> {
        let Self { request, head, peer, tls, .. } = *self;
        Routed { request, head, peer, tls, spec, path }
    }
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The cause.
    pub failure: Failure,
    /// The route of the request, if it has one.
    pub route: Option<RouteId>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, route: None }
    }
}

/// The route that answers a request under `snapshot`; `paths` then holds the forms of its path.
///
/// # Errors
/// When the request is refused.
#[inline]
pub fn decide<'a>(snapshot: &'a Snapshot, asked: &RouteRequest<'_>, paths: &mut Forms) -> Result<&'a Route, Refusal> {
    let RouteRequest { request, head, listener, peer, .. } = *asked;
    // RFC 9110 section 7.4: only a trusted gateway may say that the client's side was encrypted.
    let vouched = peer.trusted || peer.secure || request.scheme.is_empty();
    if !vouched && request.scheme.of(head).eq_ignore_ascii_case(b"https") {
        return Err(Failure::Misdirected.into());
    }
    let spec = snapshot.listener(listener);
    let received = request.path(head);
    paths.read(received, spec.path_rules()).map_err(Failure::Path)?;
    let find = |path| snapshot.router.find(listener, &asked.routed(spec, path));
    let found = find(paths.normal(received));
    if let Some(slashed) = paths.slashed()
        && find(slashed).map(|route| route.id) != found.map(|route| route.id)
    {
        return Err(Failure::Path(PathError::Backslash).into());
    }
    if spec.redirect_to_https
        && request.method != Method::Connect
        && client::scheme(peer, request, head) == Scheme::Http
        && found.is_none_or(|route| !route.takes_plain_text)
    {
        return Err(not_secure(request, head).into());
    }
    let Some(route) = found else {
        return Err(unrouted(snapshot, listener, &asked.routed(spec, paths.normal(received))).into());
    };
    match objection(route, request, head, route.limits.body_bytes(spec.body_bytes)) {
        None => Ok(route),
        Some(failure) => Err(Refusal { failure, route: Some(route.id) }),
    }
}

/// The failure of a request without a route: TRACE and CONNECT are not allowed where other methods have a route; else there is no
/// route. A client that has come over TLS for another host, and would be served at another listener, is told to connect anew, because
/// browsers use a connection for all hosts that its certificate is for (RFC 9110 section 15.5.20).
#[cold]
fn unrouted(snapshot: &Snapshot, listener: ListenerId, routed: &Routed<'_>) -> Failure {
    let mut served = false;
    if is_restricted(routed.request) {
        snapshot.router.methods(listener, routed, |_| served = true);
    }
    if served {
        return Failure::Method;
    }
    let host = route::host_name(route::Request::host(routed));
    let is_foreign =
        routed.tls.is_some_and(|tls| !tls.sni.is_empty() && !tls.sni.as_bytes().eq_ignore_ascii_case(host));
    let mut others = snapshot.listeners().filter(|(id, spec)| *id != listener && spec.speaks(Scheme::Https));
    if is_foreign && others.any(|(id, _)| snapshot.router.find(id, routed).is_some()) {
        return Failure::Misdirected;
    }
    Failure::NoRoute
}

/// The failure of a request in the clear that is sent to https. Without a host, it can be sent nowhere.
#[cold]
fn not_secure(request: &RequestHead, head: &[u8]) -> Failure {
    match request.path(head) {
        b"*" => Failure::Asterisk,
        _ if request.authority.is_empty() => Failure::Request(RequestError::MissingHost),
        _ => Failure::NotSecure,
    }
}

fn is_restricted(request: &RequestHead) -> bool {
    matches!(request.method, Method::Trace | Method::Connect)
}

/// Why a request is refused although it has a route.
#[inline]
fn objection(route: &Route, request: &RequestHead, head: &[u8], body_bytes: u64) -> Option<Failure> {
    if is_restricted(request) && !route.names_method {
        return Some(Failure::Method);
    }
    // RFC 9110 section 7.6.2.
    let counted = matches!(request.method, Method::Options | Method::Trace);
    let hops = request.fields.get(FieldName::MaxForwards).filter(|_| counted);
    if hops.is_some_and(|field| parse_decimal(field.value.of(head)) == Some(0)) {
        return Some(Failure::MaxForwards);
    }
    if let Action::Redirect(redirect) = &route.action {
        if request.path(head) == b"*" {
            return Some(Failure::Asterisk);
        }
        if redirect.host.is_none() && request.authority.is_empty() {
            // An HTTP/1.0 request without Host: the redirect would have no host.
            return Some(Failure::Request(RequestError::MissingHost));
        }
    }
    match request.body {
        BodyFraming::Length(length) if body_bytes > 0 && length > body_bytes => Some(Failure::RequestBodySize),
        _ => None,
    }
}

/// Writes the URL in https of a request in the clear, for [`Failure::NotSecure`]. The request's port, which is that of http, is left out.
#[cold]
pub fn write_secure_url(asked: &RouteRequest<'_>, paths: &Forms, out: &mut Vec<u8>) {
    let RouteRequest { request, head, .. } = *asked;
    write_parts(out, &[b"https://", route::host_name(request.authority.of(head)), paths.forwarded(request.path(head))]);
    if let Some(query) = request.query {
        write_parts(out, &[b"?", query.of(head)]);
    }
}

impl<D: Driver> Engine<D> {
    /// Decides on a request under `snapshot`, and counts it against the rate of its tenant.
    ///
    /// # Errors
    /// The failure, and the route of the request if it has one.
    pub fn decide(
        &mut self,
        snapshot: &SnapshotRef,
        asked: &RouteRequest<'_>,
    ) -> Result<Decision, (Failure, Option<RouteOf>)> {
        let of = |route| RouteOf { snapshot: snapshot.clone(), route, cluster: None };
        let route = match decide(snapshot, asked, &mut self.paths) {
            Ok(route) => route,
            Err(Refusal { failure, route }) => {
                self.write_answer_field(snapshot, asked, failure);
                return Err((failure, route.map(of)));
            }
        };
        self.spend_rate(snapshot, route.tenant).map_err(|failure| (failure, Some(of(route.id))))?;
        let cluster = match &route.action {
            Action::Cluster(cluster) => Some(*cluster),
            Action::Split(split) => Some(split.pick(self.balancer.random())),
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        Ok(Decision { snapshot: snapshot.clone(), route: route.id, cluster })
    }

    /// Writes the value of the field that the answer to a failure has of its own: the methods for Allow, or the Location at https.
    #[cold]
    fn write_answer_field(&mut self, snapshot: &Snapshot, asked: &RouteRequest<'_>, failure: Failure) {
        self.answer_field.clear();
        let RouteRequest { request, head, listener, .. } = *asked;
        match failure {
            Failure::NotSecure => return write_secure_url(asked, &self.paths, &mut self.answer_field),
            Failure::Method => {}
            _ => return,
        }
        let routed = asked.routed(snapshot.listener(listener), self.paths.normal(request.path(head)));
        let allow = &mut self.answer_field;
        snapshot.router.methods(listener, &routed, |method| {
            let comma: &[u8] = if allow.is_empty() { b"" } else { b", " };
            write_parts(allow, &[comma, method]);
        });
    }
}

/// A parsed request as the router sees it.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The parsed head.
    pub request: &'a RequestHead,
    /// The received bytes of the head, into which the spans point.
    pub head: &'a [u8],
    /// Its sender.
    pub peer: &'a Peer,
    /// What its sender has shown in the TLS handshake; None without TLS.
    pub tls: Option<&'a ClientHandshake>,
    /// The listener that accepted its connection.
    pub spec: &'a ListenerSpec,
    /// The form of its path by which routes are looked up.
    pub path: &'a [u8],
}

impl route::Request for Routed<'_> {
    fn method(&self) -> &[u8] {
        self.request.method_text.of(self.head)
    }

    fn host(&self) -> &[u8] {
        self.request.authority.of(self.head)
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.request.query.map(|query| query.of(self.head))
    }

    /// The values that are passed on to an origin. That of `Host` is the authority, because an absolute target overrides the field.
    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        let Self { request, head, peer, .. } = *self;
        let authority = request.authority.of(head);
        let host = if name == b"host" && !authority.is_empty() { Some(authority) } else { None };
        let passes = move |field: &&Field| field.id != FieldName::Host && peer.passes(request, head, field);
        let fields = request.fields.named(head, name).filter(passes);
        host.into_iter().chain(fields.map(|field| field.value.of(head)))
    }

    fn client_ip(&self) -> Option<IpAddr> {
        client::client_ip(self.peer, self.request, self.head, self.spec)
    }

    fn identity(&self) -> Option<&str> {
        self.tls.map(|tls| &*tls.identity).filter(|identity| !identity.is_empty())
    }

    fn scheme(&self) -> Scheme {
        client::scheme(self.peer, self.request, self.head)
    }

    fn port(&self) -> Option<u16> {
        self.spec.port()
    }
}
