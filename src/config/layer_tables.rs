//! The keys of `[defaults.*]` and `[[group]]`: those of the tables whose items inherit from them, but for what each item has to have of
//! its own. Not here: inheriting (`layers`).

use super::cluster_tables::CLUSTER;
use super::listener_tables::LISTENER;
use super::schema::{Key, Kind, Preset, Table};
use super::tables::{ROUTE, key};

/// What a route inherits from nothing.
pub(super) const ROUTE_OWN: &[&str] =
    &["name", "path", "path_prefix", "path_regex", "grpc", "sni", "alpn", "cluster", "split", "redirect", "respond"];
/// What a cluster inherits from nothing.
pub(super) const CLUSTER_OWN: &[&str] = &["name", "endpoints"];
/// What a listener inherits from nothing.
pub(super) const LISTENER_OWN: &[&str] = &["name", "bind", "tls"];

pub(super) static DEFAULTS: Table = Table {
    title: "[defaults]",
    doc: "Values for all routes, clusters and listeners that have none of their own; tables below them key by key.",
    keys: &[
        key("route", Kind::One(&DEFAULT_ROUTE), Preset::Optional(""), ""),
        key("cluster", Kind::One(&DEFAULT_CLUSTER), Preset::Optional(""), ""),
        key("listener", Kind::One(&DEFAULT_LISTENER), Preset::Optional(""), ""),
    ],
    choices: &[],
};

/// How `[defaults]` is written, for the default file.
pub(super) const DEFAULTS_EXAMPLE: &str = "\
[defaults.route]
response_headers = { set = { x-frame-options = \"DENY\" } }
[defaults.cluster.timeouts]
connect = \"1s\"
[defaults.listener.limits]
body_bytes = \"1MiB\"
";

/// Those of a tenant's file, which has no listeners.
pub(super) static TENANT_FILE_DEFAULTS: Table = Table {
    title: "[defaults]",
    doc: "",
    keys: &[
        key("route", Kind::One(&DEFAULT_ROUTE), Preset::Optional(""), ""),
        key("cluster", Kind::One(&DEFAULT_CLUSTER), Preset::Optional(""), ""),
    ],
    choices: &[],
};

const ROUTE_KEYS: usize = ROUTE.keys.len() - ROUTE_OWN.len();
const CLUSTER_KEYS: usize = CLUSTER.keys.len() - CLUSTER_OWN.len();
const LISTENER_KEYS: usize = LISTENER.keys.len() - LISTENER_OWN.len();

static DEFAULT_ROUTE: Table = Table {
    title: "[defaults.route]",
    doc: "For all routes.",
    keys: &selected::<ROUTE_KEYS>(ROUTE.keys, ROUTE_OWN),
    choices: &[],
};

static DEFAULT_CLUSTER: Table = Table {
    title: "[defaults.cluster]",
    doc: "For all clusters.",
    keys: &selected::<CLUSTER_KEYS>(CLUSTER.keys, CLUSTER_OWN),
    choices: &[],
};

static DEFAULT_LISTENER: Table = Table {
    title: "[defaults.listener]",
    doc: "For all listeners.",
    keys: &selected::<LISTENER_KEYS>(LISTENER.keys, LISTENER_OWN),
    choices: &[],
};

const GROUP_NAME: Key = key("name", Kind::Text, Preset::Required("\"shop\""), "unique; for `cairn config show`");
const GROUP_TENANT: Key = key(
    "tenant",
    Kind::Text,
    Preset::Optional("\"payments\""),
    "a [[tenant]] against whose limits the requests of these routes count",
);
const GROUP_ROUTES: Key = key(
    "route",
    Kind::Many(&ROUTE),
    Preset::Required("[{ path = \"/cart\", cluster = \"orders\" }]"),
    "its routes, or each below [[group.route]]",
);

pub(super) static GROUP: Table = Table {
    title: "[[group]]",
    doc: "Routes with values in common. What a route says itself wins; conditions and edits of headers add up, name by name.",
    keys: &joined::<{ ROUTE_KEYS + 3 }>(
        &[GROUP_NAME, GROUP_TENANT],
        &selected::<ROUTE_KEYS>(ROUTE.keys, ROUTE_OWN),
        &[GROUP_ROUTES],
    ),
    choices: &[],
};

/// How `[[group]]` is written, for the default file.
pub(super) const GROUP_EXAMPLE: &str = "\
[[group]]
name = \"shop\"                               # unique; for `cairn config show`
tenant = \"payments\"                         # a [[tenant]] against whose limits the requests of these routes count
hosts = [\"shop.example.com\"]                # and all keys of [[route]] but its name, its path and where it leads
timeouts = { idle = \"1h\" }
[[group.route]]
path = \"/cart\"
cluster = \"orders\"
";

/// That of a tenant's file.
pub(super) static TENANT_FILE_GROUP: Table = Table {
    title: "[[group]]",
    doc: "",
    keys: &joined::<{ ROUTE_KEYS + 2 }>(&[GROUP_NAME], &selected::<ROUTE_KEYS>(ROUTE.keys, ROUTE_OWN), &[GROUP_ROUTES]),
    choices: &[],
};

/// The table whose items inherit from one with this title.
pub(super) fn heir(title: &str) -> Option<&'static Table> {
    match title {
        "[defaults.route]" | "[[group]]" => Some(&ROUTE),
        "[defaults.cluster]" => Some(&CLUSTER),
        "[defaults.listener]" => Some(&LISTENER),
        _ => None,
    }
}

/// `keys` but for those called `without`.
const fn selected<const N: usize>(keys: &[Key], without: &[&str]) -> [Key; N] {
    let mut selected = [keys[0]; N];
    let (mut from, mut to) = (0, 0);
    while from < keys.len() {
        if !is_among(keys[from].name, without) {
            selected[to] = keys[from];
            to += 1;
        }
        from += 1;
    }
    assert!(to == N, "each name in `without` is that of a key");
    selected
}

/// Three lists of keys as one.
const fn joined<const N: usize>(first: &[Key], second: &[Key], third: &[Key]) -> [Key; N] {
    let mut joined = [first[0]; N];
    let mut at = 0;
    while at < N {
        joined[at] = if at < first.len() {
            first[at]
        } else if at < first.len() + second.len() {
            second[at - first.len()]
        } else {
            third[at - first.len() - second.len()]
        };
        at += 1;
    }
    joined
}

const fn is_among(name: &str, names: &[&str]) -> bool {
    let mut at = 0;
    while at < names.len() {
        if is_same(name.as_bytes(), names[at].as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
