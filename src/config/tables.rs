//! Every key of the configuration, once. Not here: what a key is (`schema`).

use std::time::Duration;

use super::cluster_tables::CLUSTER;
use super::condition_tables;
use super::layer_tables::{DEFAULTS, DEFAULTS_EXAMPLE, GROUP, GROUP_EXAMPLE, TENANT_FILE_DEFAULTS, TENANT_FILE_GROUP};
use super::listener_tables::LISTENER;
use super::log_tables::LOG;
use super::resilience_tables::{HEDGE, RETRY};
use super::schema::{Choice, Key, Kind, Preset, Table};
use super::trace_tables::{OTLP, TRACE};

/// Loopback (RFC 1122, RFC 4291), private (RFC 1918) and unique local (RFC 4193) ranges.
pub(super) const PRIVATE: [&str; 6] =
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"];
/// Most listeners: each has one socket per worker.
pub(super) const LISTENERS_MAX: usize = 1024;
/// Default of `admin.listen`.
const ADMIN_LISTEN: &str = "127.0.0.1:9901";
/// Default of `admin.socket`.
pub(super) const ADMIN_SOCKET: &str = "/run/cairn/admin.sock";
/// Default of `metrics.routes`.
const METRICS_ROUTES: u64 = 2000;
/// Default of `metrics.endpoints`.
const METRICS_ENDPOINTS: u64 = 10_000;
/// Most tenants.
pub(super) const TENANTS_MAX: usize = 1024;
/// Largest weight of one side of a split.
const SPLIT_WEIGHT_MAX: u64 = 1_000_000;

pub(super) const fn key(name: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Key {
    Key { name, kind, preset, doc }
}

pub(super) const fn seconds(count: u64) -> Preset {
    Preset::Time(Duration::from_secs(count))
}

pub(super) static ROOT: Table = Table {
    title: "the configuration",
    doc: "",
    keys: &[
        key(
            "role",
            Kind::Word(&["edge", "waypoint", "sidecar"]),
            Preset::Word("edge"),
            "edge | waypoint | sidecar: chooses defaults; `cairn config show` prints them",
        ),
        key(
            "watch",
            Kind::FlagOr(&["poll"]),
            Preset::Flag(true),
            "reload when a file of the configuration changes; \"poll\": look every second, where inotify says nothing (NFS)",
        ),
        key("workers", Kind::One(&WORKERS), Preset::Optional(""), ""),
        key("admin", Kind::One(&ADMIN), Preset::Optional(""), ""),
        key("drain", Kind::One(&DRAIN), Preset::Optional(""), ""),
        key("log", Kind::One(&LOG), Preset::Absent, ""),
        key("trace", Kind::One(&TRACE), Preset::Optional(""), ""),
        key("metrics", Kind::One(&METRICS), Preset::Optional(""), ""),
        key("otlp", Kind::One(&OTLP), Preset::Absent, ""),
        key("listener", Kind::Many(&LISTENER), Preset::Optional(""), ""),
        key("route", Kind::Many(&ROUTE), Preset::Optional(""), ""),
        key("cluster", Kind::Many(&CLUSTER), Preset::Optional(""), ""),
        key("defaults", Kind::One(&DEFAULTS), Preset::Example(DEFAULTS_EXAMPLE), ""),
        key("group", Kind::Many(&GROUP), Preset::Example(GROUP_EXAMPLE), ""),
        key("tenant", Kind::Many(&TENANT), Preset::Absent, ""),
        key("error_pages", Kind::Many(&ERROR_PAGES), Preset::Absent, ""),
    ],
    choices: &[],
};

/// Schema of a tenant's file.
pub(super) static TENANT_FILE: Table = Table {
    title: "a tenant's file",
    doc: "",
    keys: &[
        key("route", Kind::Many(&ROUTE), Preset::Optional(""), ""),
        key("cluster", Kind::Many(&CLUSTER), Preset::Optional(""), ""),
        key("defaults", Kind::One(&TENANT_FILE_DEFAULTS), Preset::Absent, ""),
        key("group", Kind::Many(&TENANT_FILE_GROUP), Preset::Absent, ""),
    ],
    choices: &[],
};

static WORKERS: Table = Table {
    title: "[workers]",
    doc: "A worker is one pinned thread with its own sockets, connections and pools.",
    keys: &[
        key("count", Kind::Number(0, 1024), Preset::Number(0), "0: one per CPU that the process may use"),
        key(
            "overload_delay",
            Kind::Time,
            Preset::Time(Duration::from_millis(50)),
            "a worker whose turns take longer, for a second, refuses bulk requests, at five times that normal ones, too; never critical ones",
        ),
        key(
            "batch_wait",
            Kind::Word(&["0", "50us", "100us", "200us"]),
            Preset::Word("0"),
            "how long a worker that has nothing to do waits for more than one thing to do: less CPU at part of the load, for that much latency on each side (Linux 6.12)",
        ),
    ],
    choices: &[],
};

static ADMIN: Table = Table {
    title: "[admin]",
    doc: "Where operators and their machines look in. A default that is taken by another process is left out.",
    keys: &[
        key(
            "listen",
            Kind::Text,
            Preset::ByRole(&[Preset::Word(ADMIN_LISTEN), Preset::Word(ADMIN_LISTEN), Preset::Word("off")]),
            "IP:PORT for /metrics, /ready, /status, … or off; absent: off in a sidecar, else 127.0.0.1:9901",
        ),
        key(
            "hosts",
            Kind::Texts,
            Preset::Texts(&[]),
            "names by which `listen` may be asked, besides addresses and names without a dot; \"*\": any",
        ),
        key(
            "token",
            Kind::Text,
            Preset::Optional("\"@admin.token\""),
            "what who asks at `listen` shows as Authorization: Bearer; it or `tls` has to be there where that is no loopback address; absent: none",
        ),
        key(
            "socket",
            Kind::Text,
            Preset::Word(ADMIN_SOCKET),
            "a path, for the verbs of `cairn`: another one for each process; or off",
        ),
        key("tls", Kind::One(&ADMIN_TLS), Preset::Absent, ""),
    ],
    choices: &[],
};

static ADMIN_TLS: Table = Table {
    title: "[admin.tls]",
    doc: "Who asks at `listen` speaks TLS and shows a certificate. Files are read at the start.",
    keys: &[
        key("cert", Kind::Path, Preset::Required("\"admin.pem\""), "in PEM, then those that lead to its authority"),
        key("key", Kind::Path, Preset::Required("\"admin-key.pem\""), "its private key, in PEM, not encrypted"),
        key(
            "client_ca",
            Kind::Path,
            Preset::Required("\"operators.pem\""),
            "authorities, in PEM, that sign the certificates of clients, of which each needs one",
        ),
    ],
    choices: &[],
};

static METRICS: Table = Table {
    title: "[metrics]",
    doc: "What /metrics of the admin interface shows.",
    keys: &[
        key(
            "profile",
            Kind::Word(&["native", "envoy", "both"]),
            Preset::Word("native"),
            "native | envoy | both: series that begin with cairn_, those that dashboards for Envoy use, or both",
        ),
        key(
            "routes",
            Kind::Number(0, 100_000),
            Preset::Number(METRICS_ROUTES),
            "routes with series of their own; all further ones are counted together, as route=\"overflow\"",
        ),
        key(
            "endpoints",
            Kind::Number(0, 1_000_000),
            Preset::Number(METRICS_ENDPOINTS),
            "endpoints with series of their own; those of each cluster beyond are shown together, as endpoint=\"overflow\"",
        ),
    ],
    choices: &[],
};

static DRAIN: Table = Table {
    title: "[drain]",
    doc: "What SIGTERM, SIGINT and `cairn drain` begin: no new connections, and the end when what is under way has ended.",
    keys: &[
        key("timeout", Kind::Time, seconds(30), "how long that may take; then everything ends at once"),
        key(
            "grace",
            Kind::Time,
            Preset::Optional("\"5s\""),
            "before that: /ready says 503 while all is served on, so that load balancers look elsewhere first; absent: none",
        ),
    ],
    choices: &[],
};

pub(super) static ROUTE: Table = Table {
    title: "[[route]]",
    doc: "What to do with a request. The most specific wins: exact host, wildcard, none; then exact path, longest prefix, regex.",
    keys: &[
        key("name", Kind::Text, Preset::Optional("\"orders\""), "unique; absent: route-N, by position"),
        key(
            "listeners",
            Kind::Texts,
            Preset::Optional("[\"public\"]"),
            "absent: every listener of HTTP; with sni or alpn, of TCP",
        ),
        key(
            "hosts",
            Kind::Texts,
            Preset::Optional("[\"api.example.com\", \"*.example.org\"]"),
            "without port; *. stands for one or more labels; absent: any",
        ),
        key("path", Kind::Text, Preset::Optional("\"/orders\""), "the whole path"),
        key(
            "path_prefix",
            Kind::Text,
            Preset::Optional("\"/orders\""),
            "whole segments: /orders, /orders/7, not /orders2",
        ),
        key(
            "path_regex",
            Kind::Text,
            Preset::Optional("\"/orders/[0-9]+\""),
            "of the whole path, in which escapes are in upper case: [0-9A-F]",
        ),
        condition_tables::METHODS,
        condition_tables::HEADERS,
        condition_tables::QUERY,
        condition_tables::COOKIES,
        condition_tables::CLIENT,
        condition_tables::CLIENT_IP,
        condition_tables::SCHEME,
        condition_tables::PORT,
        condition_tables::NOT,
        key(
            "grpc",
            Kind::One(&GRPC),
            Preset::Optional("{ service = \"shop.Orders\", method = \"Place\" }"),
            "calls of gRPC of this service: POST, content-type application/grpc…, and the path that stands for it",
        ),
        key(
            "sni",
            Kind::Texts,
            Preset::Optional("[\"db.example.com\", \"*.db.corp\"]"),
            "on listeners of TCP: names that clients of TLS ask for, as hosts; absent: any, and clients that name none or speak no TLS",
        ),
        key(
            "alpn",
            Kind::Texts,
            Preset::Optional("[\"h2\", \"postgresql\"]"),
            "on listeners of TCP: the client offers one of these protocols; absent: any or none",
        ),
        key("cluster", Kind::Text, Preset::Optional("\"orders\""), "forward to it"),
        key(
            "split",
            Kind::Many(&SPLIT),
            Preset::Optional("[{ cluster = \"orders\", weight = 90 }, { cluster = \"orders-next\", weight = 10 }]"),
            "forward to one of them, by weight",
        ),
        key(
            "redirect",
            Kind::One(&REDIRECT),
            Preset::Optional("{ status = 308, scheme = \"https\", host = \"example.com\", path = \"/new\" }"),
            "answer with a Location; what is absent is kept",
        ),
        key(
            "respond",
            Kind::One(&RESPOND),
            Preset::Optional("{ status = 200, body = \"ok\", headers = { content-type = \"text/plain\" } }"),
            "answer from here",
        ),
        key(
            "timeout",
            Kind::Time,
            Preset::Optional("\"30s\""),
            "from the end of the request to the first response byte, over all tries; 504 above; absent: as long as they take",
        ),
        key(
            "body_bytes",
            Kind::Size(0, u64::MAX),
            Preset::Optional("\"1MiB\""),
            "request body; 413 above; 0: no limit; absent: limits.body_bytes of the listener",
        ),
        key(
            "tunnel_idle",
            Kind::Time,
            Preset::Optional("\"2h\""),
            "how long a WebSocket, another tunnel or a connection of TCP may be silent in both directions; absent: 1h",
        ),
        key(
            "rewrite",
            Kind::One(&REWRITE),
            Preset::Optional("{ path_prefix = \"/v1\", host = \"orders.internal\" }"),
            "what the origin gets: another path, another Host; a prefix that it does not see goes on as x-forwarded-prefix",
        ),
        key(
            "rewrite_location",
            Kind::Flag,
            Preset::Flag(false),
            "Location and Content-Location that name the origin itself are given the path that the client knows",
        ),
        key(
            "cookie_path",
            Kind::Flag,
            Preset::Flag(false),
            "Path of Set-Cookie is given the prefix that `rewrite` has replaced",
        ),
        key(
            "error_pages",
            Kind::Many(&ROUTE_ERROR_PAGES),
            Preset::Optional("[{ statuses = [\"5xx\"], html = \"sorry\" }]"),
            "as [[error_pages]], and before those",
        ),
        key(
            "request_headers",
            Kind::One(&REQUEST_HEADERS),
            Preset::Optional(
                "{ set = { x-client = \"${client.ip}\" }, add = { x-hop = \"edge\" }, remove = [\"cookie\"] }",
            ),
            "sent upstream; also of what cairn writes: x-forwarded-*, forwarded, via, x-request-id",
        ),
        key(
            "response_headers",
            Kind::One(&RESPONSE_HEADERS),
            Preset::Optional(
                "{ set = { x-frame-options = \"DENY\" }, add = { vary = \"origin\" }, remove = [\"server\"] }",
            ),
            "sent downstream, on redirects and errors made here too",
        ),
        key(
            "deadline",
            Kind::Flag,
            Preset::Flag(false),
            "keep to the time that trusted peers allow (x-request-timeout-ms, grpc-timeout), and tell endpoints how much is left of it, or of `timeout`",
        ),
        key(
            "priority",
            Kind::Text,
            Preset::Optional("\"critical\""),
            "where not all can be served: critical (first) | normal | bulk (last) | header:NAME (as trusted peers say); absent: normal",
        ),
        key(
            "hedge",
            Kind::One(&HEDGE),
            Preset::Optional("{ after = \"30ms\" }"),
            "where an endpoint is slow, another one is asked, too, and the first good answer taken; GET, HEAD, OPTIONS, PUT, DELETE, TRACE",
        ),
        key("timeouts", Kind::One(&ROUTE_TIMEOUTS), Preset::Optional(""), ""),
        key("retry", Kind::One(&RETRY), Preset::Absent, ""),
    ],
    choices: &[
        Choice { keys: &["path", "path_prefix", "path_regex", "grpc"], required: false },
        Choice { keys: &["cluster", "split", "redirect", "respond"], required: true },
    ],
};

static GRPC: Table = Table {
    title: "route.grpc",
    doc: "",
    keys: &[
        key("service", Kind::Text, Preset::Required("\"shop.Orders\""), "its full name, with its package"),
        key("method", Kind::Text, Preset::Optional("\"Place\""), "absent: all of its methods"),
    ],
    choices: &[],
};

static ERROR_PAGES: Table = Table {
    title: "[[error_pages]]",
    doc: "Bodies of answers that cairn makes itself, by status and by what the client accepts; other answers have cairn's own.",
    keys: &[
        key("statuses", Kind::Texts, Preset::Optional("[\"404\", \"5xx\"]"), "that it is for; absent: all"),
        key(
            "html",
            Kind::Page,
            Preset::Optional("\"<h1>${error.status} ${error.title}</h1>\""),
            "a text, or @ and a file; with ${error.status}, ${error.title}, ${error.reason}, ${request.id}",
        ),
        key(
            "json",
            Kind::Page,
            Preset::Optional("'{\"error\":\"${error.reason}\",\"request\":\"${request.id}\"}'"),
            "for clients that prefer JSON",
        ),
        key("text", Kind::Page, Preset::Optional("\"${error.status} ${error.title}\\n\""), "for others; absent: html"),
    ],
    choices: &[],
};

static ROUTE_TIMEOUTS: Table = Table {
    title: "[route.timeouts]",
    doc: "In the place of those of listener and cluster: for uploads with pauses, long polls and event streams.",
    keys: &[
        key(
            "idle",
            Kind::Time,
            Preset::Optional("\"1h\""),
            "silence of the origin after the head of its response; absent: the cluster's timeouts.response",
        ),
        key(
            "body",
            Kind::Time,
            Preset::Optional("\"5m\""),
            "silence of the client in a request body, or that does not read; absent: the listener's timeouts.body",
        ),
    ],
    choices: &[],
};

static ROUTE_ERROR_PAGES: Table = Table { title: "route.error_pages", ..ERROR_PAGES };

static SPLIT: Table = Table {
    title: "route.split",
    doc: "",
    keys: &[
        key("cluster", Kind::Text, Preset::Required("\"orders\""), "name of a cluster"),
        key("weight", Kind::Number(0, SPLIT_WEIGHT_MAX), Preset::Required("90"), "share of the traffic; 0: none"),
    ],
    choices: &[],
};

static REDIRECT: Table = Table {
    title: "route.redirect",
    doc: "",
    keys: &[
        key(
            "status",
            Kind::Number(301, 308),
            Preset::Number(308),
            "301 or 308: for good; 302 or 307: for now; 303: with GET",
        ),
        key("scheme", Kind::Word(&["http", "https"]), Preset::Optional("\"https\""), "absent: kept"),
        key("host", Kind::Template, Preset::Optional("\"www.${request.host}\""), "with an optional port; absent: kept"),
        key("path", Kind::Template, Preset::Optional("\"/new/${regex.1}\""), "the whole path; absent: kept"),
        key(
            "path_prefix",
            Kind::Template,
            Preset::Optional("\"/new\""),
            "replaces the matched path or prefix; what follows is kept",
        ),
        key("add_prefix", Kind::Template, Preset::Optional("\"/v1\""), "put in front of the path"),
        key(
            "query",
            Kind::Template,
            Preset::Optional("\"from=${request.host}\""),
            "without ?; \"\": none; absent: kept",
        ),
    ],
    choices: &[Choice { keys: &["path", "path_prefix", "add_prefix"], required: false }],
};

static RESPOND: Table = Table {
    title: "route.respond",
    doc: "",
    keys: &[
        key("status", Kind::Number(200, 599), Preset::Number(200), "not 1xx"),
        key("body", Kind::Text, Preset::Optional("\"ok\""), "sent as it is"),
        key(
            "headers",
            Kind::Fields,
            Preset::Optional("{ content-type = \"text/plain\" }"),
            "content-type defaults to text/plain",
        ),
    ],
    choices: &[],
};

static REWRITE: Table = Table {
    title: "route.rewrite",
    doc: "",
    keys: &[
        key("path_prefix", Kind::Template, Preset::Optional("\"/v1\""), "replaces the matched path or prefix"),
        key("path", Kind::Template, Preset::Optional("\"/v1/${regex.1}\""), "the whole path"),
        key("add_prefix", Kind::Template, Preset::Optional("\"/v1\""), "put in front of the path"),
        key("host", Kind::Template, Preset::Optional("\"orders.internal\""), "replaces Host"),
    ],
    choices: &[Choice { keys: &["path", "path_prefix", "add_prefix"], required: false }],
};

const EDIT_KEYS: &[Key] = &[
    key("set", Kind::Fields, Preset::Optional("{ x-edge = \"1\" }"), "replaces every field of that name"),
    key("add", Kind::Fields, Preset::Optional("{ x-hop = \"edge\" }"), "appended, whatever is there"),
    key("remove", Kind::Texts, Preset::Optional("[\"cookie\"]"), "dropped"),
];

static REQUEST_HEADERS: Table = Table { title: "route.request_headers", doc: "", keys: EDIT_KEYS, choices: &[] };

static RESPONSE_HEADERS: Table = Table { title: "route.response_headers", doc: "", keys: EDIT_KEYS, choices: &[] };

static TENANT: Table = Table {
    title: "[[tenant]]",
    doc: "A team with a file of its own, which holds [[route]], [[group]] and [[cluster]] and can only use what is claimed here.",
    keys: &[
        key(
            "name",
            Kind::Text,
            Preset::Required("\"payments\""),
            "unique; its route `a` is payments/a in logs and metrics",
        ),
        key("file", Kind::Path, Preset::Required("\"teams/payments.toml\""), "relative to this file"),
        key(
            "claims",
            Kind::Many(&CLAIM),
            Preset::Required("[{ host = \"api.example.com\", path_prefix = \"/payments\" }]"),
            "each of its routes lies in one of them; those of two tenants never overlap",
        ),
        key("limits", Kind::One(&TENANT_LIMITS), Preset::Optional(""), ""),
        key("defaults", Kind::One(&TENANT_DEFAULTS), Preset::Optional(""), ""),
    ],
    choices: &[],
};

static CLAIM: Table = Table {
    title: "tenant.claims",
    doc: "",
    keys: &[
        key("host", Kind::Text, Preset::Required("\"api.example.com\""), "as in a route's hosts; *: any"),
        key("path_prefix", Kind::Text, Preset::Word("/"), "whole segments"),
        key("listeners", Kind::Texts, Preset::Optional("[\"public\"]"), "absent: every listener"),
    ],
    choices: &[],
};

static TENANT_LIMITS: Table = Table {
    title: "[tenant.limits]",
    doc: "",
    keys: &[
        key(
            "max_timeout",
            Kind::Time,
            Preset::Optional("\"30s\""),
            "of its routes and clusters: longer ones are errors, defaults are cut; absent: any",
        ),
        key(
            "requests",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(0),
            "in flight, over all workers; 0: no limit",
        ),
        key(
            "requests_per_second",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(0),
            "over all workers; 0: no limit",
        ),
        key(
            "endpoint_networks",
            Kind::Texts,
            Preset::Optional("[\"10.1.0.0/16\", \"unix\"]"),
            "where its endpoints may be; absent: at any address; this machine, link-local ones and Unix-domain sockets only if named",
        ),
        key("routes", Kind::Number(1, u32::MAX as u64), Preset::Number(1000), "in its file"),
        key(
            "names",
            Kind::Number(1, u32::MAX as u64),
            Preset::Number(1000),
            "hosts of its routes, and names of its endpoints, which are looked up",
        ),
        key(
            "expression_bytes",
            Kind::Size(1, u64::MAX),
            Preset::Size(8 * 1024 * 1024),
            "of the automata that its regular expressions become",
        ),
        key(
            "compile_time",
            Kind::Time,
            seconds(5),
            "of a CPU, and of waiting for files and the addresses of names, to read and compile its file",
        ),
        key("files", Kind::Number(1, u32::MAX as u64), Preset::Number(100), "to which its file refers: \"@name\""),
    ],
    choices: &[],
};

static TENANT_DEFAULTS: Table = Table {
    title: "[tenant.defaults]",
    doc: "",
    keys: &[key("timeout", Kind::Time, Preset::Optional("\"10s\""), "of its routes that set none")],
    choices: &[],
};
