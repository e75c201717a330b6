//! The keys of `[[cluster]]`. Not here: what is done about endpoints that fail (`resilience_tables`).

use super::resilience_tables::{HEALTH, LIMITS, OUTLIER};
use super::schema::{Kind, Preset, Table};
use super::tables::{key, seconds};

/// Value of `ca` for the authorities that the machine trusts.
pub(super) const SYSTEM: &str = "system";

pub(super) static CLUSTER: Table = Table {
    title: "[[cluster]]",
    doc: "A named set of endpoints and how they are used.",
    keys: &[
        key("name", Kind::Text, Preset::Required("\"orders\""), "unique; for routes, logs and metrics"),
        key(
            "endpoints",
            Kind::TextsOr(&ENDPOINT),
            Preset::Required(
                "[\"127.0.0.1:9000\", { address = \"127.0.0.1:9001\", weight = 2 }, \"unix:/run/app.sock\"]",
            ),
            "IP:PORT, NAME:PORT (looked up when the file is loaded; its addresses are tried in turn) or unix:/path",
        ),
        key(
            "balance",
            Kind::Word(&["least_request", "round_robin", "random", "peak_ewma", "ring_hash", "maglev"]),
            Preset::Word("least_request"),
            "least_request (the less busy of two) | peak_ewma (the faster of two, by recent answers) | round_robin | random | ring_hash, maglev (both by `hash_on`); all by weight",
        ),
        key(
            "hash_on",
            Kind::Text,
            Preset::Optional("\"header:x-user\""),
            "header:NAME | cookie:NAME | query:NAME | source (the client's address): equal ones go to one endpoint, those without at random",
        ),
        key(
            "affinity",
            Kind::One(&AFFINITY),
            Preset::Optional("{ cookie = \"lb\", ttl = \"1h\" }"),
            "a cookie keeps each client at the endpoint that has answered it first, while that one is in use",
        ),
        key(
            "zone",
            Kind::Text,
            Preset::Optional("\"a\""),
            "where this proxy runs: endpoints of this zone are preferred, as far as none of them gets more than an even share",
        ),
        key(
            "abort_on_close",
            Kind::Flag,
            Preset::Flag(false),
            "end a request whose client closes its side before the response begins",
        ),
        key(
            "slow_start",
            Kind::Time,
            Preset::Optional("\"10s\""),
            "time in which an endpoint that has come back gets its full share; absent: at once",
        ),
        key(
            "panic_threshold",
            Kind::Ratio,
            Preset::Ratio(0.5),
            "share of the endpoints that have to be usable: where fewer are, backups join them; without backups, all are used",
        ),
        key(
            "tls",
            Kind::FlagOrOne(&CLUSTER_TLS),
            Preset::Absent,
            "true: with the defaults of [cluster.tls]; false: none",
        ),
        key(
            "proxy_protocol",
            Kind::Word(&["off", "v1", "v2"]),
            Preset::Word("off"),
            "begin each connection with a PROXY header, v1 (text) or v2 (binary); a connection then serves one client connection",
        ),
        key(
            "protocol",
            Kind::Word(&["http1", "http2", "auto"]),
            Preset::Word("http1"),
            "http1 | http2 (without TLS, too: the endpoints have to know) | auto (what TLS agrees on, by ALPN; without TLS http1)",
        ),
        key("http2", Kind::One(&CLUSTER_HTTP2), Preset::Absent, ""),
        key("limits", Kind::One(&LIMITS), Preset::Optional(""), ""),
        key("pool", Kind::One(&CLUSTER_POOL), Preset::Optional(""), ""),
        key("timeouts", Kind::One(&CLUSTER_TIMEOUTS), Preset::Optional(""), ""),
        key("outlier", Kind::One(&OUTLIER), Preset::Optional(""), ""),
        key(
            "health",
            Kind::FlagOrOne(&HEALTH),
            Preset::Absent,
            "true: with the defaults of [cluster.health]; false: none",
        ),
    ],
    choices: &[],
};

static ENDPOINT: Table = Table {
    title: "cluster.endpoints",
    doc: "",
    keys: &[
        key("address", Kind::Text, Preset::Required("\"10.0.0.2:9000\""), "IP:PORT, NAME:PORT or unix:/path"),
        key("weight", Kind::Number(0, u16::MAX as u64), Preset::Number(1), "share of the traffic; 0: none"),
        key(
            "backup",
            Kind::Flag,
            Preset::Flag(false),
            "used only where too few others are usable: see panic_threshold",
        ),
        key("zone", Kind::Text, Preset::Optional("\"a\""), "where it runs: see the cluster's `zone`"),
    ],
    choices: &[],
};

static AFFINITY: Table = Table {
    title: "cluster.affinity",
    doc: "",
    keys: &[
        key("cookie", Kind::Text, Preset::Required("\"lb\""), "its name, which no other cluster of the host has"),
        key(
            "ttl",
            Kind::Time,
            Preset::Optional("\"1h\""),
            "how long the client keeps it; absent: until the browser ends",
        ),
    ],
    choices: &[],
};

static CLUSTER_TLS: Table = Table {
    title: "[cluster.tls]",
    doc: "TLS 1.3 and 1.2 towards the endpoints; `tls=true` in [[cluster]] stands for these defaults. Changed files are reloaded.",
    keys: &[
        key(
            "ca",
            Kind::Path,
            Preset::Word(SYSTEM),
            "file with the authorities that are trusted, in PEM; \"system\": those of this machine, else Mozilla's as of the build",
        ),
        key(
            "crl",
            Kind::PathOrPaths,
            Preset::Optional("\"crl.pem\""),
            "lists of what is revoked, in PEM; a current one is needed of each authority on the way from the certificate to one of `ca`",
        ),
        key(
            "server_name",
            Kind::Text,
            Preset::Optional("\"orders.internal\""),
            "the name that is asked for (SNI) and that the certificate has to have; \"host\": that in the request's Host; absent: the host of the endpoint",
        ),
        key(
            "cert",
            Kind::Path,
            Preset::Optional("\"client.pem\""),
            "shown to endpoints that ask for a certificate; in PEM, with those that lead to its authority",
        ),
        key("key", Kind::Path, Preset::Optional("\"client-key.pem\""), "its private key, in PEM, not encrypted"),
        key(
            "pin",
            Kind::Texts,
            Preset::Optional("[\"sha256/d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=\"]"),
            "hashes of public keys (RFC 7469): the endpoint's has to be one of them, besides all else",
        ),
        key(
            "spiffe_id",
            Kind::Texts,
            Preset::Optional("[\"spiffe://corp/ns/shop/*\"]"),
            "the certificate has to have one of these IDs, whatever its name; /*: any below",
        ),
        key(
            "insecure",
            Kind::Flag,
            Preset::Flag(false),
            "take any certificate: whoever is on the way can read and change everything",
        ),
    ],
    choices: &[],
};

/// Defaults of `cluster.http2`.
pub(super) const STREAMS: u64 = 100;
pub(super) const CONNECTIONS: u64 = 64;

static CLUSTER_HTTP2: Table = Table {
    title: "[cluster.http2]",
    doc: "Connections that requests share, where `protocol` is \"http2\" or \"auto\".",
    keys: &[
        key(
            "streams",
            Kind::Number(1, 1000),
            Preset::Number(STREAMS),
            "requests that share a connection at a time, if the endpoint allows for as many",
        ),
        key(
            "connections",
            Kind::Number(1, u16::MAX as u64),
            Preset::Number(CONNECTIONS),
            "connections to one endpoint, over all workers, of which each may have one at least; where all are full, requests wait",
        ),
    ],
    choices: &[],
};

static CLUSTER_POOL: Table = Table {
    title: "[cluster.pool]",
    doc: "",
    keys: &[
        key(
            "max_idle",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(128),
            "idle connections kept per endpoint, over all workers; 0: none",
        ),
        key("idle", Kind::Time, seconds(55), "how long an idle connection is kept"),
    ],
    choices: &[],
};

static CLUSTER_TIMEOUTS: Table = Table {
    title: "[cluster.timeouts]",
    doc: "",
    keys: &[
        key("connect", Kind::Time, seconds(2), "to open a connection, the TLS handshake included"),
        key(
            "response",
            Kind::Time,
            seconds(30),
            "of one try: from the end of the request to the first response byte, and between reads of the response; 504 above",
        ),
    ],
    choices: &[],
};
