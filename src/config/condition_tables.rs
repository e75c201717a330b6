//! The keys of a route's conditions, which stand in `[[route]]` and under its `not`. Not here: host and path (`tables`).

use super::schema::{Key, Kind, Preset, Table};
use super::tables::key;

pub(super) const METHODS: Key = key("methods", Kind::Texts, Preset::Optional("[\"GET\", \"HEAD\"]"), "absent: any");

pub(super) const HEADERS: Key = key(
    "headers",
    Kind::Conditions,
    Preset::Optional("{ x-canary = \"1\", x-user = { regex = \"[a-z]+\" }, x-debug = { present = false } }"),
    "an exact value, an expression, or presence; all must hold; any field of the name that goes on upstream will do",
);

pub(super) const QUERY: Key = key("query", Kind::Conditions, Preset::Optional("{ debug = \"1\" }"), "as for headers");

pub(super) const COOKIES: Key = key(
    "cookies",
    Kind::Conditions,
    Preset::Optional("{ lang = \"de\", beta = { present = true } }"),
    "as for headers",
);

pub(super) const CLIENT: Key = key(
    "client",
    Kind::TextOrTexts,
    Preset::Optional("\"spiffe://corp/ns/shop/*\""),
    "who the client is by its certificate, which client_ca asks for: its SPIFFE ID (/* for all below), else its DNS name, else its subject",
);

pub(super) const CLIENT_IP: Key = key(
    "client_ip",
    Kind::Texts,
    Preset::Optional("[\"10.0.0.0/8\", \"192.0.2.7\"]"),
    "the client's address: that of the connection; behind trusted_proxies, the last in X-Forwarded-For that is none of theirs",
);

pub(super) const SCHEME: Key = key(
    "scheme",
    Kind::Word(&["http", "https"]),
    Preset::Optional("\"https\""),
    "as the client speaks: with TLS or not; behind trusted_proxies, as X-Forwarded-Proto says",
);

pub(super) const PORT: Key =
    key("port", Kind::Number(1, u16::MAX as u64), Preset::Optional("8443"), "that the listener binds");

pub(super) const NOT: Key = key(
    "not",
    Kind::One(&NOT_TABLE),
    Preset::Optional("{ client_ip = [\"192.0.2.0/24\"], methods = [\"TRACE\"] }"),
    "conditions none of which may hold, each by itself: neither those clients nor that method",
);

static NOT_TABLE: Table = Table {
    title: "route.not",
    doc: "",
    keys: &[METHODS, HEADERS, QUERY, COOKIES, CLIENT, CLIENT_IP, SCHEME, PORT],
    choices: &[],
};
