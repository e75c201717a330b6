//! Why an exchange is refused or cut, and the one map from cause to status, reason code and error type. Not here: how the answer
//! is written (`respond`).

use crate::http::path::PathError;
use crate::http::{RequestError, ResponseError, TrailerError};
use crate::http2::head::HeadError;
use crate::respond::Answer;
use crate::tls::client_hello::HelloError;

/// The cause of a failure, sorted by who has to act: downstream, operator, upstream, us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Downstream: the head breaks the grammar, a rule or a bound.
    Request(RequestError),
    /// Downstream: the head breaks a rule of HTTP/2.
    Head(HeadError),
    /// Downstream: the path is ambiguous or forbidden.
    Path(PathError),
    /// Downstream: an https target, though the connection is not encrypted and the peer is not trusted (RFC 9110 section 7.4).
    Misdirected,
    /// Downstream: it speaks in the clear, where `redirect_to_https` sends it to https.
    NotSecure,
    /// Downstream: the body breaks its framing.
    RequestBody,
    /// Downstream: the trailer section breaks the grammar or a bound.
    RequestTrailers(TrailerError),
    /// Downstream: the body is larger than `limits.body_bytes`.
    RequestBodySize,
    /// Downstream: the head was not complete in time.
    RequestHeadTimeout,
    /// Downstream: the body stalled.
    RequestBodyTimeout,
    /// Downstream: the body comes slower than `timeouts.body_rate`.
    RequestBodySlow,
    /// Downstream: the client closed its connection before its response was complete.
    ClientGone,
    /// Downstream: the client sent plain HTTP to a listener with TLS.
    RequestWithoutTls,
    /// Downstream: of a connection of TCP, what begins like a ClientHello is none.
    Hello(HelloError),
    /// Downstream: the ClientHello was not complete in time.
    HelloTimeout,
    /// Downstream: an upgrade to WebSocket without a valid key.
    WebSocketKey,
    /// Downstream: an extended CONNECT for a protocol with a name so long that none has it.
    UnknownProtocol,
    /// Downstream: TRACE or CONNECT, which only a route that names the method allows.
    Method,
    /// Downstream: `Max-Forwards: 0`.
    MaxForwards,
    /// Downstream: `OPTIONS *` on a route that redirects: it concerns the server as a whole, which has not moved.
    Asterisk,
    /// Operator: the tenant has more requests in flight than `limits.requests`.
    TenantRequests,
    /// Operator: the tenant gets more requests than `limits.requests_per_second`.
    TenantRate,
    /// Operator: no route matches.
    NoRoute,
    /// Operator: no endpoint of the cluster takes traffic.
    NoEndpoint,
    /// Operator: the cluster has as many requests under way as `limits.requests`, and as many that wait as `limits.queue`.
    QueueFull,
    /// Operator: no place became free within `limits.queue_timeout`.
    QueueTimeout,
    /// Upstream: connect(2) failed.
    Connect,
    /// Upstream: connecting took longer than `timeouts.connect`.
    ConnectTimeout,
    /// Upstream: its certificate is not believed.
    TlsCertificate,
    /// Upstream: it does not speak TLS, or breaks its protocol, or hangs up during the handshake.
    TlsProtocol,
    /// Upstream: it has ended TLS with an alert, because of our certificate, or the lack of one, as a rule.
    TlsAlert,
    /// Upstream: the connection ended before a response.
    Closed,
    /// Upstream: the connection was reset before a response.
    Reset,
    /// Operator: a login that holds for a connection (RFC 4559), where requests of all clients share connections.
    Login,
    /// Upstream: over HTTP/2, it has processed none of many attempts, as it says.
    Refused,
    /// Upstream: over HTTP/2, no stream could be opened within `timeouts.connect`, because all connections were full.
    NoStream,
    /// Upstream: it breaks the rules of HTTP/2.
    Http2,
    /// Upstream: no response within `timeout` or `timeouts.response`.
    ResponseTimeout,
    /// Upstream: the response head breaks the grammar, a rule or a bound.
    Response(ResponseError),
    /// Upstream: the response body breaks its framing or ends too early.
    ResponseBody,
    /// Upstream: it switched to a protocol that was not offered.
    Switch,
    /// Upstream: over HTTP/2, it does not take what a WebSocket needs (RFC 8441), or has not said so.
    NoExtendedConnect,
    /// Upstream: more interim responses than `limits::INTERIM_RESPONSES`.
    InterimFlood,
    /// Us: no file descriptor or memory for a connection.
    Descriptors,
    /// Us: no buffer is free.
    Buffers,
    /// Us: buffers ran short, and this was one of the exchanges that held some and had made no progress for longest.
    Shed,
    /// Us: the worker has more to do than it can, and the request is one of those that are given up first.
    Overloaded,
    /// Us: more connections than `limits.connections`.
    Connections,
}

/// Who has to do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// The author of the configuration.
    Operator,
    /// The origin.
    Upstream,
    /// cairn, or the machine that it runs on.
    Us,
}

impl Side {
    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Downstream => "client",
            Self::Operator => "operator",
            Self::Upstream => "origin",
            Self::Us => "cairn",
        }
    }
}

impl Failure {
    /// That of a request of HTTP/2 whose head is malformed or too large.
    #[must_use]
    pub fn of_head(error: HeadError) -> Self {
        match error {
            HeadError::Request(error) => Self::Request(error),
            HeadError::Fields(error) => Self::Request(RequestError::Fields(error)),
            error => Self::Head(error),
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::Head(_) => Side::Downstream,
            Self::Request(_) | Self::Path(_) | Self::Misdirected | Self::Method | Self::MaxForwards => Side::Downstream,
            Self::Asterisk | Self::ClientGone | Self::RequestWithoutTls | Self::NotSecure => Side::Downstream,
            Self::RequestBody | Self::RequestTrailers(_) | Self::RequestBodySize => Side::Downstream,
            Self::Hello(_) | Self::HelloTimeout | Self::WebSocketKey | Self::UnknownProtocol => Side::Downstream,
            Self::RequestHeadTimeout | Self::RequestBodyTimeout | Self::RequestBodySlow => Side::Downstream,
            Self::TenantRequests | Self::TenantRate | Self::NoRoute | Self::NoEndpoint => Side::Operator,
            Self::QueueFull | Self::QueueTimeout | Self::Login => Side::Operator,
            Self::Connect | Self::ConnectTimeout | Self::Closed | Self::Reset => Side::Upstream,
            Self::TlsCertificate | Self::TlsProtocol | Self::TlsAlert => Side::Upstream,
            Self::ResponseTimeout | Self::Response(_) | Self::ResponseBody => Side::Upstream,
            Self::Switch | Self::NoExtendedConnect | Self::InterimFlood => Side::Upstream,
            Self::Refused | Self::NoStream | Self::Http2 => Side::Upstream,
            Self::Descriptors | Self::Buffers | Self::Shed | Self::Overloaded | Self::Connections => Side::Us,
        }
    }

    /// Whether the client's connection has to be closed: the beginning of the next request is not known, or resources are short.
    #[must_use]
    pub fn is_fatal(self) -> bool {
        matches!(
            self,
            Self::Request(_)
                | Self::Head(_)
                | Self::RequestBody
                | Self::RequestTrailers(_)
                | Self::RequestBodySize
                | Self::RequestHeadTimeout
                | Self::RequestBodyTimeout
                | Self::RequestBodySlow
                | Self::ClientGone
                | Self::RequestWithoutTls
                | Self::Hello(_)
                | Self::HelloTimeout
                | Self::Connections
                | Self::Shed
        )
    }

    /// Status, reason code and error type (RFC 9209 section 2.3) of the answer.
    #[must_use]
    pub fn answer(self) -> Answer {
        let (status, reason, error) = match self {
            Self::Request(error) => (error.status(), error.reason(), "http_request_error"),
            Self::Head(error) => (error.status(), error.reason(), "http_request_error"),
            Self::Misdirected => (421, "misdirected", "http_request_denied"),
            Self::NotSecure => (308, "https_required", "proxy_internal_response"),
            Self::Path(_) => (400, "ambiguous_path", "http_request_error"),
            Self::RequestBody => (400, "malformed_body", "http_request_error"),
            Self::RequestTrailers(error) => (error.status(), error.reason(), "http_request_error"),
            Self::RequestBodySize => (413, "body_too_large", "http_request_error"),
            Self::RequestHeadTimeout => (408, "head_timeout", "http_request_error"),
            Self::RequestBodyTimeout => (408, "body_timeout", "http_request_error"),
            Self::RequestBodySlow => (408, "body_too_slow", "http_request_error"),
            // The answer is never sent: the client's connection is closed.
            Self::ClientGone => (499, "client_gone", "connection_terminated"),
            Self::RequestWithoutTls => (400, "tls_required", "http_request_error"),
            // Nobody who does not speak HTTP is answered so.
            Self::Hello(_) => (400, "bad_hello", "tls_protocol_error"),
            Self::HelloTimeout => (408, "hello_timeout", "connection_timeout"),
            Self::WebSocketKey => (400, "bad_websocket_key", "http_request_error"),
            Self::UnknownProtocol => (501, "unknown_protocol", "http_request_denied"),
            Self::Method => (405, "method_not_allowed", "http_request_denied"),
            Self::MaxForwards => (200, "max_forwards", "proxy_internal_response"),
            Self::Asterisk => (200, "options_asterisk", "proxy_internal_response"),
            Self::TenantRequests => (429, "tenant_requests", "http_request_denied"),
            Self::TenantRate => (429, "tenant_rate", "http_request_denied"),
            Self::NoRoute => (404, "no_route", "destination_not_found"),
            Self::NoEndpoint => (503, "no_endpoint", "destination_unavailable"),
            Self::QueueFull => (503, "queue_full", "connection_limit_reached"),
            Self::QueueTimeout => (503, "queue_timeout", "connection_limit_reached"),
            Self::Connect => (502, "connect_failed", "connection_refused"),
            Self::ConnectTimeout => (504, "connect_timeout", "connection_timeout"),
            Self::TlsCertificate => (502, "tls_certificate", "tls_certificate_error"),
            Self::TlsProtocol => (502, "tls_protocol", "tls_protocol_error"),
            Self::TlsAlert => (502, "tls_alert", "tls_alert_received"),
            Self::Closed => (502, "upstream_closed", "connection_terminated"),
            Self::Reset => (502, "upstream_reset", "connection_terminated"),
            Self::Login => (502, "connection_login", "http_request_denied"),
            Self::Refused => (503, "upstream_refused", "destination_unavailable"),
            Self::NoStream => (503, "no_stream", "connection_limit_reached"),
            Self::Http2 => (502, "http2_protocol", "http_protocol_error"),
            Self::ResponseTimeout => (504, "response_timeout", "http_response_timeout"),
            Self::Response(error) => (502, error.reason(), "http_protocol_error"),
            Self::ResponseBody => (502, "malformed_response_body", "http_response_incomplete"),
            Self::Switch => (502, "unexpected_switch", "http_upgrade_failed"),
            Self::NoExtendedConnect => (502, "no_extended_connect", "http_upgrade_failed"),
            Self::InterimFlood => (502, "interim_flood", "http_protocol_error"),
            Self::Descriptors => (503, "no_descriptors", "proxy_internal_error"),
            Self::Buffers => (503, "no_buffers", "proxy_internal_error"),
            Self::Overloaded => (503, "overloaded", "proxy_internal_error"),
            Self::Shed => (503, "shed", "proxy_internal_error"),
            Self::Connections => (503, "too_many_connections", "connection_limit_reached"),
        };
        Answer { status, reason, error }
    }
}
