//! The keys of `[log]`. Not here: what they mean (`log`).

use super::schema::{Kind, Preset, Table};
use super::tables::key;

pub(super) static LOG: Table = Table {
    title: "[log]",
    doc: "The access log, a line for each exchange; without this table there is none. And what is said on stderr.",
    keys: &[
        key(
            "access",
            Kind::Text,
            Preset::Word("stdout"),
            "stdout, off, a path, syslog:/dev/log, or syslog:IP:PORT for UDP",
        ),
        key(
            "format",
            Kind::Line,
            Preset::Word("json"),
            "json, combined, logfmt, or a text with variables: \"${client.ip} ${response.status} ${duration.total}\"",
        ),
        key(
            "headers",
            Kind::Texts,
            Preset::Texts(&[]),
            "fields of requests that json and logfmt have besides, 16 at most",
        ),
        key(
            "query",
            Kind::Word(&["full", "redacted", "off"]),
            Preset::Word("full"),
            "full | redacted: names, with * for values | off; the latter two also take it away from Referer",
        ),
        key(
            "sample",
            Kind::Ratio,
            Preset::Ratio(1.0),
            "share of exchanges that is logged; cut ones, those with status 5xx and slow ones are in any case",
        ),
        key(
            "slow",
            Kind::Time,
            Preset::Optional("\"1s\""),
            "from which time on one is slow: it is logged in any case, and `cairn why` remembers it; absent: none is logged for that, and 1 s",
        ),
        key("filter", Kind::One(&FILTER), Preset::Optional("{ statuses = [\"4xx\", \"5xx\"] }"), "which are logged"),
        key(
            "level",
            Kind::Word(&["info", "warn", "error"]),
            Preset::Word("info"),
            "info | warn | error: the least that is said on stderr",
        ),
        key("events", Kind::Word(&["text", "json"]), Preset::Word("text"), "text | json: how that is said"),
    ],
    choices: &[],
};

static FILTER: Table = Table {
    title: "log.filter",
    doc: "",
    keys: &[key(
        "statuses",
        Kind::Texts,
        Preset::Optional("[\"4xx\", \"503\"]"),
        "that are logged, besides cut and slow exchanges; absent: all",
    )],
    choices: &[],
};
