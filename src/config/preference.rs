//! Keys of `[[cluster]]` that say which of its endpoints a request is better sent to: `hash_on`, `affinity`, `zone`.
//! Not here: the endpoints (`cluster`).

use super::field;
use super::nearest::nearest;
use super::report::Problems;
use super::section::{Section, Text};
use crate::cluster::{AffinitySpec, Balance, HashOn};

/// What `hash_on` takes.
const FORMS: &str = "it is \"header:NAME\", \"cookie:NAME\", \"query:NAME\" or \"source\" (the address of the client)";

/// `hash_on`, which the policies with keys need and no other one heeds.
pub(super) fn hash_on(cluster: Section<'_>, balance: Balance, problems: &mut Problems) -> Option<HashOn> {
    let heeds = matches!(balance, Balance::RingHash | Balance::Maglev);
    let Some(text) = cluster.text("hash_on") else {
        if heeds && !cluster.has("hash_on") {
            problems
                .add(cluster.span("balance"), format!("\"{}\" needs a key in the request", balance.name()))
                .help("add hash_on = \"cookie:session\", \"header:NAME\", \"query:NAME\" or \"source\"");
        }
        return None;
    };
    // A misspelt policy is another problem.
    if !heeds && cluster.text("balance").is_none_or(|policy| policy.value == balance.name()) {
        problems
            .add(text.at, format!("`balance = \"{}\"` heeds no key", balance.name()))
            .help("set `balance = \"ring_hash\"` or \"maglev\", or leave `hash_on` out");
    }
    let on = read(text.value);
    if on.is_none() {
        problems.add(text.at, format!("\"{}\" is no key", text.shown.escape_debug())).help(FORMS);
    }
    on
}

fn read(text: &str) -> Option<HashOn> {
    if text == "source" {
        return Some(HashOn::Source);
    }
    let (kind, name) = text.split_once(':')?;
    match kind {
        "header" if field::is_token(name) => Some(HashOn::Header(name.to_ascii_lowercase().into())),
        "cookie" if field::is_token(name) => Some(HashOn::Cookie(name.into())),
        "query" if !name.is_empty() && !name.contains(['&', '#', '=', ' ']) => Some(HashOn::Query(name.into())),
        _ => None,
    }
}

/// `affinity`
pub(super) fn affinity(cluster: Section<'_>, problems: &mut Problems) -> Option<AffinitySpec> {
    let section = cluster.table("affinity")?;
    let cookie = section.text("cookie")?;
    if !field::is_token(cookie.value) {
        problems
            .add(cookie.at, format!("\"{}\" is no name of a cookie", cookie.shown.escape_debug()))
            .help("it has letters, digits and !#$%&'*+-.^_`|~, as in cookie = \"lb\"");
        return None;
    }
    Some(AffinitySpec { cookie: cookie.value.to_owned(), ttl: section.optional_time("ttl") })
}

/// `zone`, where the endpoints that have one run in these.
pub(super) fn zone(cluster: Section<'_>, zones: &[Text<'_>], problems: &mut Problems) -> Option<String> {
    let Some(own) = cluster.text("zone") else {
        if let Some(first) = zones.first().filter(|_| !cluster.has("zone")) {
            problems
                .add(first.at, "the cluster does not say in which zone this proxy runs, so that no zone is preferred")
                .help(format!(
                    "write `zone = \"{}\"` in [[cluster]], or leave the zones of endpoints out",
                    first.shown
                ));
        }
        return None;
    };
    for text in zones.iter().chain([&own]).filter(|text| text.value.is_empty()) {
        problems.add(text.at, "a zone has a name").help("write it, or leave `zone` out");
    }
    if zones.is_empty() {
        problems
            .add(own.at, "no endpoint has a zone, so that none is preferred")
            .help("write { address = \"10.0.0.2:80\", zone = \"a\" } for each endpoint whose zone is known");
    } else if let Some(meant) = misspelt(own.value, zones) {
        problems
            .add(own.at, format!("no endpoint is in zone \"{}\"", own.shown.escape_debug()))
            .help(format!("did you mean \"{meant}\"?"));
    }
    Some(own.value.to_owned())
}

/// The zone that is meant by one in which there is no endpoint. None: there may be none, as in the zones of a cluster that is in some.
fn misspelt<'a>(own: &str, zones: &[Text<'a>]) -> Option<&'a str> {
    let known = || zones.iter().map(|text| text.value);
    // Names of a series, as "eu-1a" and "eu-1b", differ in the last letter, and are all right.
    let stem = |name: &str| name.char_indices().next_back().map_or(0, |(last, _)| last);
    let near = nearest(own, known())?;
    (!known().any(|name| name == own) && near[..stem(near)] != own[..stem(own)]).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_kind_and_a_name() {
        assert_eq!(read("source"), Some(HashOn::Source));
        assert_eq!(read("header:X-User"), Some(HashOn::Header("x-user".into())));
        assert_eq!(read("cookie:Session"), Some(HashOn::Cookie("Session".into())));
        assert_eq!(read("query:user id"), None);
        for text in ["", "header", "header:", "header:a b", "cookie:a=b", "query:", "path", "Source", "source:", "ip:a"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
