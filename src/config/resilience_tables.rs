//! The keys of what is done about endpoints that fail: `[cluster.outlier]`, `[route.retry]`, `hedge` of routes. Not here: what they mean (`cluster`,
//! `retry`).

use std::time::Duration;

use super::schema::{Kind, Preset, Table};
use super::tables::{key, seconds};
use crate::limits::{self, RETRIES_MAX};

pub(super) static OUTLIER: Table = Table {
    title: "[cluster.outlier]",
    doc: "Endpoints of which requests fail (no connection, hung up, too slow, 502, 503, 504) are ejected for a while.",
    keys: &[
        key(
            "consecutive_failures",
            Kind::Number(0, 1_000_000),
            Preset::Number(5),
            "in a row, over all workers; 0: never",
        ),
        key(
            "failure_rate",
            Kind::Ratio,
            Preset::Ratio(0.0),
            "share of the attempts of the last 10 seconds that have failed; 0: never",
        ),
        key(
            "latency_factor",
            Kind::Number(0, 1000),
            Preset::Number(0),
            "answers of the last 10 seconds, all but 5 in 100, take so many times as long as at the others of the cluster; 0: never, else at least 2",
        ),
        key(
            "min_volume",
            Kind::Number(1, 1_000_000),
            Preset::Number(100),
            "attempts in those 10 seconds, below which share and times do not count",
        ),
        key(
            "ejection",
            Kind::Time,
            seconds(10),
            "the first time; the next times twice, three times, … as long, up to 5m; then one request is tried",
        ),
        key(
            "max_ejected",
            Kind::Ratio,
            Preset::Ratio(0.5),
            "share of the endpoints that may be ejected at a time; one may always be, but never the last usable one",
        ),
    ],
    choices: &[],
};

pub(super) static LIMITS: Table = Table {
    title: "[cluster.limits]",
    doc: "How many requests may be under way, and may wait for that, over all workers. What is refused gets 503 and Retry-After.",
    keys: &[
        key(
            "requests",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(0),
            "under way at the endpoints, tunnels included; above: the queue; 0: no limit",
        ),
        key(
            "connections",
            Kind::Number(0, u32::MAX as u64),
            Preset::Number(0),
            "open to the endpoints, idle ones among them, those of checks not; above: the queue; 0: no limit",
        ),
        key(
            "per_endpoint",
            Kind::One(&ENDPOINT_LIMITS),
            Preset::Optional("{ requests = 100 }"),
            "the same for each one",
        ),
        key(
            "adaptive",
            Kind::Flag,
            Preset::Flag(false),
            "find the limit by itself: it falls while answers take longer than they have to, and grows while they do not",
        ),
        key(
            "queue",
            Kind::Number(0, 1_000_000),
            Preset::Number(0),
            "requests that wait; where it is full, one of a higher priority takes the place of one of a lower; 0: none",
        ),
        key("queue_timeout", Kind::Time, seconds(1), "how long one waits"),
    ],
    choices: &[],
};

static ENDPOINT_LIMITS: Table = Table {
    title: "cluster.limits.per_endpoint",
    doc: "",
    keys: &[
        key("requests", Kind::Number(0, u32::MAX as u64), Preset::Number(0), "under way at one endpoint; 0: no limit"),
        key("connections", Kind::Number(0, u32::MAX as u64), Preset::Number(0), "open to one endpoint; 0: no limit"),
    ],
    choices: &[],
};

pub(super) static HEALTH: Table = Table {
    title: "[cluster.health]",
    doc: "Each endpoint is asked how it does, once for the whole process. An answer that is late, long or unexpected is a failed check.",
    keys: &[
        key(
            "kind",
            Kind::Word(&["http", "tcp", "grpc"]),
            Preset::Word("http"),
            "http | tcp: whether a connection can be made, TLS included | grpc: what grpc.health.v1.Health/Check says",
        ),
        key(
            "service",
            Kind::Text,
            Preset::Optional("\"shop.Orders\""),
            "with grpc: the service that is asked for; absent: the server as a whole",
        ),
        key("path", Kind::Text, Preset::Word("/"), "what is asked for, with its query"),
        key(
            "host",
            Kind::Text,
            Preset::Optional("\"orders.internal\""),
            "the Host that is asked for; absent: that of the endpoint, or the server_name of TLS",
        ),
        key("method", Kind::Word(&["GET", "HEAD", "OPTIONS"]), Preset::Word("GET"), "GET | HEAD | OPTIONS"),
        key("headers", Kind::Fields, Preset::Optional("{ x-check = \"cairn\" }"), "sent besides"),
        key("expect", Kind::Texts, Preset::Texts(&["2xx"]), "statuses of a good answer: \"200\", \"2xx\""),
        key(
            "body",
            Kind::Text,
            Preset::Optional("\"ok\""),
            "what the first 64 KiB of its body have to hold; absent: anything",
        ),
        key(
            "interval",
            Kind::Time,
            seconds(5),
            "between checks, a tenth more or less at random; a quarter of it while a judgement changes",
        ),
        key("timeout", Kind::Time, seconds(1), "of one check, from connecting to the end of the answer"),
        key(
            "rise",
            Kind::Number(1, 100),
            Preset::Number(2),
            "good checks in a row that bring an endpoint back; the first one of all decides alone",
        ),
        key("fall", Kind::Number(1, 100), Preset::Number(3), "failed checks in a row that take it out"),
        key(
            "initial",
            Kind::Word(&["up", "down", "wait"]),
            Preset::Word("up"),
            "what an endpoint is until its first check: up | down | wait (down, and /ready says 503 from the start until all were checked)",
        ),
    ],
    choices: &[],
};

pub(super) static RETRY: Table = Table {
    title: "[route.retry]",
    doc: "Failed requests are sent again, to another endpoint, while nothing has gone to the client; without this table, too.",
    keys: &[
        key(
            "attempts",
            Kind::Number(0, RETRIES_MAX as u64),
            Preset::Number(1),
            "at most, besides what is free: other addresses and endpoints where no connection can be made; 0: none",
        ),
        key(
            "on",
            Kind::Texts,
            Preset::Texts(&["connect", "reset", "502", "503", "504"]),
            "connect | reset (hung up before a response) | timeout (of one try) | retriable-4xx (409, 425, 429) | gateway-error (502 to 504) | 5xx | a status",
        ),
        key(
            "methods",
            Kind::Texts,
            Preset::Texts(&["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]),
            "of which the origin may see a request twice",
        ),
        key(
            "per_try_timeout",
            Kind::Time,
            Preset::Optional("\"2s\""),
            "of one try, to the first response byte; absent: the cluster's timeouts.response",
        ),
        key(
            "same_endpoint",
            Kind::Flag,
            Preset::Flag(false),
            "where no other endpoint is left, try one again that has failed, after `backoff`; not after a status",
        ),
        key(
            "backoff",
            Kind::Time,
            Preset::Time(Duration::from_millis(25)),
            "wait before the same endpoint is tried again, half to whole of it at random, doubled each time",
        ),
        key(
            "buffer",
            Kind::Size(0, limits::REPLAY_BYTES_MAX as u64),
            Preset::Size(limits::REPLAY_BYTES as u64),
            "of a request, its head included, kept to be sent again, for idle connections that turn out to be closed, too; a larger one is sent once",
        ),
        key(
            "budget",
            Kind::RatioOrOne(&BUDGET),
            Preset::Optional("{ ratio = 0.2, min_per_second = 3 }"),
            "share of the route's requests that retries may add, so that they overload nothing; absent: this",
        ),
    ],
    choices: &[],
};

pub(super) static HEDGE: Table = Table {
    title: "route.hedge",
    doc: "",
    keys: &[key(
        "after",
        Kind::Text,
        Preset::Required("\"30ms\""),
        "from the end of the request; \"p95\": as long as all but five in a hundred of the route's requests take; of at most a twentieth of these",
    )],
    choices: &[],
};

static BUDGET: Table = Table {
    title: "route.retry.budget",
    doc: "",
    keys: &[
        key("ratio", Kind::Ratio, Preset::Ratio(0.2), "of the requests of the last second"),
        key("min_per_second", Kind::Number(0, 1_000_000), Preset::Number(3), "besides, over all workers"),
    ],
    choices: &[],
};
