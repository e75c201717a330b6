//! The request as an origin gets it: which fields are passed on, removed and added. Not here: the choice of the origin.

use std::net::IpAddr;
use std::time::Duration;

use crate::http::path::{EncodedSlash, Forms, PathError, Rules};
use crate::http::{
    BodyFraming, ENDS_HERE, Field, FieldName, Method, RequestHead, UpgradeOffer, Version, WebSocketKey, is_claim,
    parse_decimal, write_decimal,
};
use crate::respond::{write_fields, write_parts};
use crate::route::Scheme;
use crate::route::template::Use;
use crate::tls::ClientHandshake;
use crate::trace::{Received, TraceContext};

use super::deadline::{self, GRPC_TIMEOUT, write_left};
use super::{RequestValues, RouteRequest, write_host};

/// An IP address as text; empty for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressText {
    text: [u8; 45],
    length: u8,
}

impl AddressText {
    pub(super) fn new(address: Option<IpAddr>) -> Self {
        use std::io::Write;
        let mut text = [0; 45];
        let mut rest = &mut text[..];
        // The longest textual IPv6 address has 45 bytes.
        let written = address.is_none_or(|address| write!(rest, "{address}").is_ok());
        debug_assert!(written);
        let length = 45 - rest.len() as u8;
        Self { text, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    address: AddressText,
    /// Its port; 0 for a Unix-domain socket.
    pub port: u16,
    /// Whether its forwarding fields are believed.
    pub trusted: bool,
    /// Whether fields with `_` in their names are passed on: some applications treat it as `-`.
    pub underscores: bool,
    /// Whether its connection is encrypted with TLS.
    pub secure: bool,
    /// The address is that of a proxy that does not know whom it passes on: nobody is trusted for it.
    pub is_unnamed: bool,
}

impl Peer {
    /// A peer with this address and port; None: on a Unix-domain socket.
    #[must_use]
    pub fn new(address: Option<(IpAddr, u16)>, trusted: bool, underscores: bool, secure: bool) -> Self {
        let port = address.map_or(0, |(_, port)| port);
        let address = AddressText::new(address.map(|(address, _)| address));
        Self { address, port, trusted, underscores, secure, is_unnamed: false }
    }

    /// The same peer under newer rules: whether it is trusted, and whether `_` is passed on.
    #[must_use]
    pub fn with_trust(&self, trusted: impl Fn(Option<IpAddr>) -> bool, underscores: bool) -> Self {
        Self { trusted: !self.is_unnamed && trusted(self.address()), underscores, ..*self }
    }

    /// The scheme of its connection.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.secure { Scheme::Https } else { Scheme::Http }
    }

    /// The address; None: a Unix-domain socket. Kept as text alone, which each request needs; few need this.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        std::str::from_utf8(self.text()).ok()?.parse().ok()
    }

    /// The address as text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.address.bytes()
    }

    /// Whether a received field reaches the origin, as it is or as a field that is written in its place. Conditions of routes see these
    /// fields only, so that the application gets what its route was chosen by.
    #[must_use]
    #[inline]
    pub fn passes(&self, request: &RequestHead, head: &[u8], field: &Field) -> bool {
        let offered = field.id != FieldName::Upgrade || UpgradeOffer::of(request, head).is_some();
        let traced = !TRACE.contains(&field.id) || Received::of(request, head, false).is_some();
        offered && traced && self.filter(request).passes(field, head)
    }

    /// The filter for the fields of one request of this peer.
    #[inline]
    fn filter(&self, request: &RequestHead) -> FieldFilter {
        let claims = if self.trusted { 0 } else { CLAIMS };
        let expect = if request.expect_continue { 0 } else { FieldName::Expect.bit() };
        let drops_underscores = request.fields.has_underscores() && !self.underscores;
        FieldFilter { removed: ENDS_HERE | claims | expect, drops_underscores, trusted: self.trusted }
    }
}

/// Which fields of one request are passed on; made once for all of them.
#[derive(Clone, Copy)]
struct FieldFilter {
    /// The bits of the known names whose fields are removed, whatever their values.
    removed: u64,
    /// Some name may have a `_`, and fields with such names are removed.
    drops_underscores: bool,
    /// Claims with names that are not in [`FieldName`] are passed on.
    trusted: bool,
}

impl FieldFilter {
    #[inline(always)]
    fn passes(&self, field: &Field, head: &[u8]) -> bool {
        if field.dropped || field.id.bit() & self.removed != 0 {
            return false;
        }
        if field.id != FieldName::Other || (self.trusted && !self.drops_underscores) {
            return true;
        }
        let name = field.name.of(head);
        !(self.drops_underscores && name.contains(&b'_')) && (self.trusted || !is_claim(name))
    }
}

/// The parts of which a forwarded request head is made.
pub struct Forwarded<'a> {
    /// The request and its route, with rewrites and edits.
    pub values: RequestValues<'a>,
    /// The protocols offered in Upgrade.
    pub upgrade: Option<&'a [u8]>,
    /// The key for WebSocket; None: the client has its own, or does not ask for it.
    pub key: Option<WebSocketKey>,
    /// The value of Host where neither the request nor the route names one.
    pub fallback: &'a [u8],
    /// How much time is left for the response; None: the origin is not told.
    pub left: Option<Duration>,
    /// Its trace context.
    pub trace: &'a TraceContext,
    /// The origin is told that trailers are taken: over HTTP/2, without which gRPC does not work.
    pub takes_trailers: bool,
}

/// Known names of fields that applications believe, and that are therefore accepted from trusted peers only.
const CLAIMS: u64 = FieldName::XForwardedFor.bit()
    | FieldName::XForwardedProto.bit()
    | FieldName::XForwardedHost.bit()
    | FieldName::XForwardedPort.bit()
    | FieldName::Forwarded.bit()
    | FieldName::XRealIp.bit()
    | FieldName::XRequestId.bit()
    | FieldName::XOriginalUrl.bit()
    | FieldName::XRewriteUrl.bit()
    | FieldName::XHttpMethodOverride.bit();

/// Fields that are not copied, because cairn writes its own in their place.
const REPLACED: u64 = FieldName::Host.bit()
    | FieldName::ContentLength.bit()
    | FieldName::TransferEncoding.bit()
    | FieldName::Upgrade.bit()
    | FieldName::XForwardedFor.bit()
    | FieldName::Forwarded.bit();

/// Fields that say of which trace a request is part. The second one means nothing without a valid first one.
const TRACE: [FieldName; 2] = [FieldName::Traceparent, FieldName::Tracestate];

/// Name of the field that tells an origin which part of the client's path it does not see.
const PREFIX: &[u8] = b"x-forwarded-prefix";

/// Fields that cairn adds to a request, and that a route may edit.
const OWN: u64 = FieldName::XForwardedFor.bit()
    | FieldName::XForwardedProto.bit()
    | FieldName::XForwardedHost.bit()
    | FieldName::Forwarded.bit()
    | FieldName::XRequestId.bit()
    | FieldName::Traceparent.bit()
    | FieldName::Via.bit();

impl Forwarded<'_> {
    /// Writes an HTTP/1.1 request head.
    pub fn write(&self, out: &mut Vec<u8>) {
        let RequestValues { asked, route, .. } = &self.values;
        self.write_start(out);
        write_parts(out, &[b" HTTP/1.1\r\nhost: "]);
        write_host(&self.values, self.fallback, out);
        write_parts(out, &[b"\r\n"]);
        let filter = self.filter();
        let edits = &route.request_edits;
        let head = asked.head;
        let stripped = route.rewrite.as_ref().and_then(|rewrite| rewrite.stripped());
        write_fields(out, &asked.request.fields, head, |field| {
            let name = field.name.of(head);
            let replaced = stripped.is_some() && name.eq_ignore_ascii_case(PREFIX);
            let timeout = self.left.is_some() && deadline::is_timeout(name);
            filter.passes(field, head) && !edits.removes(name) && !replaced && !timeout
        });
        self.write_framing(out);
        if edits.removed_names() & OWN == 0 {
            self.write_trace::<false>(out);
        } else {
            self.write_trace::<true>(out);
        }
        if let Some(tls) = asked.tls.filter(|tls| !(tls.client_cert.is_empty() && tls.xfcc.is_empty())) {
            self.write_client_cert(tls, out);
        }
        if let Some(left) = self.left {
            let grpc = asked.request.fields.named(head, GRPC_TIMEOUT).next().is_some();
            write_left(left, grpc, out);
        }
        if let Some(prefix) = stripped.filter(|_| !edits.removes(PREFIX)) {
            self.write_prefix(prefix, out);
        }
        edits.appended().write(Use::Lines, &self.values, out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the method and the target.
    fn write_start(&self, out: &mut Vec<u8>) {
        let RequestValues { asked, route, paths, .. } = &self.values;
        let (request, head) = (asked.request, asked.head);
        write_parts(out, &[request.method_text.of(head), b" "]);
        if request.method == Method::Connect {
            return write_parts(out, &[request.raw_target.of(head)]);
        }
        let received = request.path(head);
        let forwarded = paths.forwarded(received);
        match route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()) {
            Some(rewrite) => rewrite.write(forwarded, paths.rewritable(received), &self.values, out),
            None => write_parts(out, &[forwarded]),
        }
        if let Some(query) = request.query {
            write_parts(out, &[b"?", query.of(head)]);
        }
    }

    /// Writes the part of the client's path that the origin does not see, behind what a trusted peer has said of it.
    #[cold]
    fn write_prefix(&self, prefix: &[u8], out: &mut Vec<u8>) {
        let asked = &self.values.asked;
        let (request, head) = (asked.request, asked.head);
        write_parts(out, &[PREFIX, b": "]);
        if let Some(told) = request.fields.named(head, PREFIX).find(|field| self.passes(field)) {
            let told = told.value.of(head);
            write_parts(out, &[told.strip_suffix(b"/").unwrap_or(told)]);
        }
        write_parts(out, &[prefix, b"\r\n"]);
    }

    /// Writes what the certificate of the client is.
    #[cold]
    fn write_client_cert(&self, tls: &ClientHandshake, out: &mut Vec<u8>) {
        let values = [(&b"client-cert"[..], &tls.client_cert), (b"x-forwarded-client-cert", &tls.xfcc)];
        for (name, value) in values {
            if !value.is_empty() && !self.values.route.request_edits.removes(name) {
                write_parts(out, &[name, b": ", value.as_bytes(), b"\r\n"]);
            }
        }
    }

    #[inline(always)]
    fn asked(&self) -> &RouteRequest<'_> {
        &self.values.asked
    }

    /// The filter for received fields that are copied unchanged.
    fn filter(&self) -> FieldFilter {
        let counted = if self.counts_forwards() { FieldName::MaxForwards.bit() } else { 0 };
        let mut filter = self.asked().peer.filter(self.asked().request);
        filter.removed |= REPLACED | counted | self.trace.replaced();
        filter
    }

    /// Whether a claim of a trusted peer reaches the origin. Not inlined: most requests have no claims, and their heads are written
    /// faster without this code.
    #[inline(never)]
    fn passes(&self, field: &Field) -> bool {
        self.asked().peer.passes(self.asked().request, self.asked().head, field)
    }

    /// Whether Max-Forwards is counted down: for these methods only (RFC 9110 section 7.6.2).
    fn counts_forwards(&self) -> bool {
        matches!(self.asked().request.method, Method::Options | Method::Trace)
    }

    /// Writes the fields of framing, Upgrade and Max-Forwards.
    fn write_framing(&self, out: &mut Vec<u8>) {
        match self.asked().request.body {
            BodyFraming::Chunked => write_parts(out, &[b"transfer-encoding: chunked\r\n"]),
            BodyFraming::Length(length) => {
                write_parts(out, &[b"content-length: ", write_decimal(length, &mut [0; 20]), b"\r\n"]);
            }
            BodyFraming::None | BodyFraming::Close => {}
        }
        if self.takes_trailers {
            write_parts(out, &[b"te: trailers\r\n"]);
        }
        if let Some(protocols) = self.upgrade {
            write_parts(out, &[b"connection: upgrade\r\nupgrade: ", protocols, b"\r\n"]);
            if let Some(key) = &self.key {
                write_parts(out, &[b"sec-websocket-key: ", key.text(), b"\r\n"]);
            }
        }
        if let Some(field) = self.asked().request.fields.get(FieldName::MaxForwards).filter(|_| self.counts_forwards())
        {
            let left = parse_decimal(field.value.of(self.asked().head)).unwrap_or(0).saturating_sub(1);
            write_parts(out, &[b"max-forwards: ", write_decimal(left, &mut [0; 20]), b"\r\n"]);
        }
    }

    /// Writes the fields that describe the client and this proxy. They are written after `Connection` was applied to the received
    /// fields, so that no client can have them removed. `EDITED`: the route sets or removes some of them.
    fn write_trace<const EDITED: bool>(&self, out: &mut Vec<u8>) {
        let removed = if EDITED { self.values.route.request_edits.removed_names() } else { 0 };
        let fields = &self.asked().request.fields;
        let peer = self.asked().peer.text();
        let writes = |id: FieldName| removed & id.bit() == 0;
        let makes = |id: FieldName| {
            writes(id) && !(self.asked().peer.trusted && fields.get(id).is_some_and(|it| self.passes(&it)))
        };
        if writes(FieldName::XForwardedFor) {
            self.write_list(b"x-forwarded-for: ", FieldName::XForwardedFor, &[peer], out);
        }
        if makes(FieldName::XForwardedProto) {
            write_parts(out, &[b"x-forwarded-proto: ", self.asked().peer.scheme().text().as_bytes(), b"\r\n"]);
        }
        let original = self.asked().request.authority.of(self.asked().head);
        if makes(FieldName::XForwardedHost) && !original.is_empty() {
            write_parts(out, &[b"x-forwarded-host: ", original, b"\r\n"]);
        }
        if writes(FieldName::Forwarded) {
            self.write_forwarded(peer, original, out);
        }
        if makes(FieldName::XRequestId) {
            write_parts(out, &[b"x-request-id: ", self.asked().id.text(), b"\r\n"]);
        }
        if let Some(line) = self.trace.line().filter(|_| writes(FieldName::Traceparent)) {
            out.extend_from_slice(line);
        }
        if writes(FieldName::Via) {
            // The version in which the message was received (RFC 9110 section 7.6.3).
            let line: &[u8] = match self.asked().request.version {
                Version::Http10 => b"via: 1.0 cairn\r\n",
                Version::Http11 => b"via: 1.1 cairn\r\n",
                Version::Http2 => b"via: 2.0 cairn\r\n",
            };
            write_parts(out, &[line]);
        }
    }

    #[inline(always)]
    fn write_forwarded(&self, peer: &[u8], original: &[u8], out: &mut Vec<u8>) {
        // The first colon of an IPv6 address follows at most four digits.
        let ipv6 = peer.iter().take(5).any(|byte| *byte == b':');
        let open: &[u8] = if ipv6 { b"for=\"[" } else { b"for=" };
        let (close, behind): (&[u8], &[u8]) = match (ipv6, original.is_empty()) {
            (false, false) => (b";host=\"", b"\";proto="),
            (true, false) => (b"]\";host=\"", b"\";proto="),
            (false, true) => (b"", b";proto="),
            (true, true) => (b"]\"", b";proto="),
        };
        let node = if peer.is_empty() { b"unknown" } else { peer };
        let element = [open, node, close, original, behind, self.asked().peer.scheme().text().as_bytes()];
        self.write_list(b"forwarded: ", FieldName::Forwarded, &element, out);
    }

    /// Writes one field line: the elements received from a trusted peer, then `element`.
    #[inline(always)]
    fn write_list<const N: usize>(&self, name: &[u8], id: FieldName, element: &[&[u8]; N], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(name);
        let first = out.len();
        if self.asked().peer.trusted {
            for field in
                self.asked().request.fields.all(id).filter(|field| self.passes(field) && !field.value.is_empty())
            {
                write_parts(out, &[field.value.of(self.asked().head), b", "]);
            }
        }
        write_parts(out, element);
        if out.len() == first { out.truncate(start) } else { out.extend_from_slice(b"\r\n") }
    }
}

/// Whether the client takes trailers (RFC 9110 section 10.1.4).
pub(super) fn takes_trailers(request: &RequestHead, head: &[u8]) -> bool {
    let mut codings =
        request.fields.all(FieldName::Te).flat_map(|field| field.value.of(head).split(|byte| *byte == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The target of a request head.
pub(super) fn target(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// Refuses a target that was made of variables if its path is not where it seems to be: a value such as `../admin` would lead out of
/// the directory in which it was put, and an origin may decode `%00`. `forms` is memory for that.
#[cold]
pub(super) fn check_made(target: &[u8], rules: Rules, forms: &mut Forms) -> Result<(), PathError> {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let encoded_slash = match rules.encoded_slash {
        EncodedSlash::Refuse => EncodedSlash::Refuse,
        // Nothing is decoded any more.
        EncodedSlash::Keep | EncodedSlash::Decode => EncodedSlash::Keep,
    };
    forms.read(path, Rules { encoded_slash, normalize: false, ..rules })?;
    if forms.forwarded(path) == path { Ok(()) } else { Err(PathError::Ambiguous) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, parse_request};
    use crate::limits::{HEAD_BYTES_MAX, HEADER_COUNT_MAX, REQUEST_LINE_BYTES};

    /// Cases: fields, and the names of those that pass from an untrusted peer, from one that may use `_`, and from a trusted peer.
    #[test]
    fn what_passes_depends_on_who_sent_it() {
        let long = format!("Connection: upgrade\r\nUpgrade: {}\r\n", "x".repeat(31));
        for (fields, [stranger, lax, trusted]) in [
            ("A: 1\r\nB: 2\r\nA: 3\r\n", ["A B A"; 3]),
            ("A: 1\r\nConnection: a\r\nB: 2\r\n", ["B"; 3]),
            (
                "X-Real-IP: 1\r\nForwarded: for=a\r\nX-Forwarded-Any: 1\r\nX-Client-IP: 1\r\nX-Request-Id: 1\r\n",
                ["", "", "X-Real-IP Forwarded X-Forwarded-Any X-Client-IP X-Request-Id"],
            ),
            ("X-Forwarded-For: 1\r\nConnection: x-forwarded-for\r\n", [""; 3]),
            ("A_B: 1\r\nX_Real_IP: 1\r\n", ["", "A_B", ""]),
            ("Client-Cert: :YQ==:\r\nClient-Cert-Chain: :YQ==:\r\nX-Forwarded-Client-Cert: Hash=a\r\n", [""; 3]),
            ("client_cert: a\r\nCLIENT_CERT_CHAIN: a\r\nX-Forwarded_Client-Cert: a\r\n", [""; 3]),
            ("TE: trailers\r\nKeep-Alive: 5\r\nProxy-Authorization: a\r\nProxy: a\r\nVia: 1.1 a\r\n", ["Via"; 3]),
            ("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", ["Transfer-Encoding Expect"; 3]),
            ("Content-Length: 0\r\nExpect: 100-continue\r\n", ["Content-Length"; 3]),
            ("Connection: upgrade\r\nUpgrade: websocket\r\n", ["Upgrade"; 3]),
            ("Upgrade: websocket\r\n", [""; 3]),
            (&*long, [""; 3]),
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let limits = HeadLimits {
                head_bytes: HEAD_BYTES_MAX,
                field_count: HEADER_COUNT_MAX,
                request_line: REQUEST_LINE_BYTES,
            };
            let mut request = RequestHead::new();
            assert_eq!(parse_request(head.as_bytes(), &limits, &mut 0, &mut request), Ok(Some(head.len())), "{fields}");
            let peers = [(false, false), (false, true), (true, false)];
            for ((trusted, underscores), want) in peers.into_iter().zip([stranger, lax, trusted]) {
                let peer = Peer::new(None, trusted, underscores, false);
                let passing = request.fields.iter().filter(|field| peer.passes(&request, head.as_bytes(), field));
                let names: Vec<_> =
                    passing.map(|field| String::from_utf8_lossy(field.name.of(head.as_bytes()))).collect();
                assert_eq!(names.join(" ").strip_prefix("Host").unwrap().trim(), want, "{fields} {peer:?}");
            }
        }
    }
}
