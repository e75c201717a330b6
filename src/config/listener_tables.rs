//! The keys of `[[listener]]`. Not here: those of other tables (`tables`).

use super::schema::{Kind, Preset, Table};
use super::tables::{PRIVATE, key, seconds};
use crate::limits;

/// Default of `header_bytes` behind the edge: the edge's, with room for fields that proxies add.
const INNER_HEADER_BYTES: u64 = 32 * 1024;
/// Default of `header_count` behind the edge.
const INNER_HEADER_COUNT: u64 = 128;
/// Largest `body_rate`, bytes per second.
const RATE_MAX: u64 = 1 << 30;

pub(super) static LISTENER: Table = Table {
    title: "[[listener]]",
    doc: "A bound address.",
    keys: &[
        key("name", Kind::Text, Preset::Required("\"public\""), "unique; for routes, logs and metrics"),
        key("bind", Kind::Text, Preset::Required("\"127.0.0.1:8080\""), "IP:PORT, [IPv6]:PORT or unix:/path"),
        key(
            "ipv6only",
            Kind::Flag,
            Preset::Flag(true),
            "[::] takes IPv6 alone, so that 0.0.0.0 may stand beside it; false: IPv4, too",
        ),
        key(
            "mode",
            Kind::Text,
            Preset::Optional("\"0660\""),
            "of the file of a Unix-domain socket; absent: 0777 without the bits of the umask",
        ),
        key(
            "owner",
            Kind::Text,
            Preset::Optional("\"root:root\""),
            "of that file: user:group, user or :group; names of /etc/passwd and /etc/group, or numbers; absent: that of the process",
        ),
        key(
            "protocol",
            Kind::Word(&["http", "tcp"]),
            Preset::Word("http"),
            "http (HTTP/1.1 and HTTP/1.0) | tcp (connections are passed on as they are, TLS unopened; routes know sni, alpn and client_ip)",
        ),
        key(
            "trusted_proxies",
            Kind::Texts,
            Preset::ByRole(&[Preset::Texts(&[]), Preset::Texts(&PRIVATE), Preset::Texts(&PRIVATE)]),
            "address ranges whose forwarding fields are believed; absent: none at the edge, private ones behind it",
        ),
        key(
            "proxy_protocol",
            Kind::Word(&["off", "optional", "require"]),
            Preset::Word("off"),
            "connections of trusted_proxies begin with a PROXY header (v1 or v2): optional (they may) | require (and no others are let in)",
        ),
        key(
            "strict_paths",
            Kind::Flag,
            Preset::ByRole(&[Preset::Flag(true), Preset::Flag(false), Preset::Flag(false)]),
            "refuse paths that readers understand differently; absent: true at the edge, false behind it",
        ),
        key(
            "normalize_path",
            Kind::Flag,
            Preset::Flag(false),
            "forward the normal form of paths: // merged, %7e decoded; false: what was sent, without dot segments",
        ),
        key(
            "encoded_slash",
            Kind::Word(&["keep", "refuse", "decode"]),
            Preset::Word("keep"),
            "%2f in paths: keep (part of a name: routes do not see /a/b in /a%2fb) | refuse (400) | decode (a slash)",
        ),
        key(
            "redirect_to_https",
            Kind::Flag,
            Preset::Flag(false),
            "answer requests in the clear 308, with their URL in https, but for those of routes with scheme = \"http\"",
        ),
        key(
            "hsts",
            Kind::Text,
            Preset::Optional("\"1y\""),
            "with TLS: tells browsers for how long to use https alone (Strict-Transport-Security); \"1y; includeSubDomains; preload\"; absent: not sent",
        ),
        key("tls", Kind::One(&LISTENER_TLS), Preset::Absent, ""),
        key("limits", Kind::One(&LISTENER_LIMITS), Preset::Optional(""), ""),
        key("timeouts", Kind::One(&LISTENER_TIMEOUTS), Preset::Optional(""), ""),
        key("http2", Kind::One(&LISTENER_HTTP2), Preset::Optional(""), ""),
    ],
    choices: &[],
};

static LISTENER_TLS: Table = Table {
    title: "[listener.tls]",
    doc: "TLS 1.3 and 1.2 for all clients of the listener; without this table, none. Changed files are reloaded.",
    keys: &[
        key(
            "certificates",
            Kind::Many(&TLS_CERTIFICATE),
            Preset::Required("[{ cert = \"cert.pem\", key = \"key.pem\" }]"),
            "chosen by the name that a client asks for, and by its kinds of keys; the first one where no name fits",
        ),
        key(
            "mode",
            Kind::Word(&["strict", "permissive"]),
            Preset::Optional("\"permissive\""),
            "permissive: clients may speak in the clear on this port, too, as their first byte shows, and are counted; absent: strict",
        ),
        key(
            "client_ca",
            Kind::Path,
            Preset::Optional("\"ca.pem\""),
            "authorities, in PEM, that sign the certificates of clients; absent: clients are asked for none",
        ),
        key(
            "client_auth",
            Kind::Word(&["require", "request"]),
            Preset::Optional("\"request\""),
            "with client_ca: a client may have no certificate (request); absent: each needs one (require)",
        ),
        key(
            "crl",
            Kind::PathOrPaths,
            Preset::Optional("\"crl.pem\""),
            "with client_ca: lists of what is revoked, in PEM; a current one of each authority that has signed is needed",
        ),
        key(
            "forward_client_cert",
            Kind::Word(&["client-cert", "xfcc", "both", "off"]),
            Preset::Optional("\"client-cert\""),
            "tells the application as Client-Cert (RFC 9440), X-Forwarded-Client-Cert (xfcc), or both; absent: off; what clients send of these is removed in any case",
        ),
    ],
    choices: &[],
};

static LISTENER_HTTP2: Table = Table {
    title: "[listener.http2]",
    doc: "HTTP/2: over TLS, where a client offers it (ALPN), and in the clear, where a connection begins with its preface.",
    keys: &[
        key("enabled", Kind::Flag, Preset::Flag(true), "false: clients speak HTTP/1.1 alone"),
        key(
            "streams",
            Kind::Number(1, limits::STREAMS_MAX as u64),
            Preset::Number(limits::STREAMS as u64),
            "requests of one connection at once; what a client sends beyond that is refused, and may be sent again",
        ),
        key(
            "window",
            Kind::Size(1024, limits::WINDOW_BYTES_MAX as u64),
            Preset::Size(limits::STREAM_WINDOW_BYTES as u64),
            "of a request body that may lie here while its origin does not take it; streams times window has to fit in a worker's buffers",
        ),
        key(
            "connection_window",
            Kind::Size(65_535, limits::WINDOW_BYTES_MAX as u64),
            Preset::Size(limits::CONNECTION_WINDOW_BYTES as u64),
            "of all bodies of a connection that may be on their way to here",
        ),
        key(
            "max_connection_age",
            Kind::Time,
            Preset::Optional("\"30m\""),
            "after which clients are told to make another connection, give or take a tenth; streams go on to their end. Absent: never",
        ),
    ],
    choices: &[],
};

static TLS_CERTIFICATE: Table = Table {
    title: "listener.tls.certificates",
    doc: "",
    keys: &[
        key("cert", Kind::Path, Preset::Required("\"cert.pem\""), "in PEM, then those that lead to its authority"),
        key("key", Kind::Path, Preset::Required("\"key.pem\""), "its private key, in PEM, not encrypted"),
        key(
            "ocsp",
            Kind::Path,
            Preset::Optional("\"ocsp.der\""),
            "an OCSP response for it, in DER, which clients that ask for it get until its time is over",
        ),
    ],
    choices: &[],
};

static LISTENER_LIMITS: Table = Table {
    title: "[listener.limits]",
    doc: "",
    keys: &[
        key(
            "header_bytes",
            Kind::Size(1024, limits::HEAD_BYTES_MAX as u64),
            Preset::ByRole(&[
                Preset::Size(limits::HEADER_BYTES as u64),
                Preset::Size(INNER_HEADER_BYTES),
                Preset::Size(INNER_HEADER_BYTES),
            ]),
            "request line and fields; 431 above; absent: 16KiB at the edge, 32KiB behind it",
        ),
        key(
            "header_count",
            Kind::Number(1, limits::HEADER_COUNT_MAX as u64),
            Preset::ByRole(&[
                Preset::Number(limits::HEADER_COUNT as u64),
                Preset::Number(INNER_HEADER_COUNT),
                Preset::Number(INNER_HEADER_COUNT),
            ]),
            "fields of a request; 431 above; absent: 100 at the edge, 128 behind it",
        ),
        key("body_bytes", Kind::Size(0, u64::MAX), Preset::Size(0), "request body; 413 above; 0: no limit"),
        key(
            "connections",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(0),
            "open at once, over all workers; 0: no limit",
        ),
        key(
            "handshakes",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(limits::HANDSHAKES as u64),
            "of TLS under way, over all workers; above, the oldest of a second or more ends, else the new one; 0: no limit",
        ),
        key(
            "requests",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(0),
            "of one connection, which is then closed; 0: no limit",
        ),
    ],
    choices: &[],
};

static LISTENER_TIMEOUTS: Table = Table {
    title: "[listener.timeouts]",
    doc: "",
    keys: &[
        key("header", Kind::Time, seconds(10), "first byte of a request to the end of its head; 408 above"),
        key(
            "body",
            Kind::Time,
            seconds(30),
            "between reads of a request body; a response that goes on meanwhile counts as one",
        ),
        key(
            "body_rate",
            Kind::Size(0, RATE_MAX),
            Preset::Size(0),
            "bytes per second, on average, that a body is sent and a response taken with, after `body`; 0: any",
        ),
        key("idle", Kind::Time, seconds(75), "how long a connection waits for its next request"),
    ],
    choices: &[],
};
