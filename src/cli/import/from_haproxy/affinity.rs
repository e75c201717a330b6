//! `balance` and `cookie` of a backend. Not here: its servers.

use cairn::config::is_token;

use super::super::haproxy::Section;
use super::super::output::string;
use super::super::routes::duration;
use super::servers::Keys;
use super::{Translator, at};

/// Longest age of a cookie that the configuration takes, seconds.
const AGE_MAX: u64 = 24 * 3600;

impl<'a> Translator<'a> {
    /// `balance`, with `hash_on` where that is needed.
    pub(super) fn balance(&mut self, section: &'a Section) -> Keys {
        let policy = |name: &str| vec![("balance".to_owned(), string(name))];
        let Some(line) = self.setting(section, &["balance"]) else { return policy("round_robin") };
        match line.word(1) {
            "roundrobin" | "static-rr" | "" => return policy("round_robin"),
            "leastconn" | "random" | "random(2)" => return policy("least_request"),
            _ => {}
        }
        let Some(on) = key(line.word(1), line.word(2)) else {
            let why =
                "`hash_on` takes one header, one cookie, one parameter or the client's address: round_robin is taken";
            self.notes.left(at(line), why);
            return policy("round_robin");
        };
        let consistent = self.setting(section, &["hash-type"]).is_some_and(|line| line.word(1) == "consistent");
        self.notes.differs(at(line), "requests go to other endpoints than before; those without a key go to any");
        let mut keys = policy(if consistent { "ring_hash" } else { "maglev" });
        keys.push(("hash_on".to_owned(), string(&on)));
        keys
    }

    /// `cookie NAME insert …`
    pub(super) fn cookie(&mut self, section: &'a Section) -> Option<(String, String)> {
        let line = self.setting(section, &["cookie"])?;
        let options: Vec<&str> = line.from(2).iter().map(|word| word.text.as_str()).collect();
        if !options.contains(&"insert") || !is_token(line.word(1)) {
            self.notes.left(at(line), "the application's cookies stay as they are: write `affinity` by hand");
            return None;
        }
        let value = |name: &str| options.iter().position(|it| *it == name).and_then(|at| options.get(at + 1)).copied();
        let seconds = value("maxlife").and_then(age).filter(|age| (1..=AGE_MAX).contains(age));
        let ttl = seconds.map(|age| format!(", ttl = {}", string(&duration(1000 * age)))).unwrap_or_default();
        let why =
            "the values are cairn's own, the cookie has Path=/, HttpOnly, SameSite=Lax, and goes on to the application";
        self.notes.differs(at(line), why);
        Some(("affinity".to_owned(), format!("{{ cookie = {}{ttl} }}", string(line.word(1)))))
    }
}

/// A time in seconds, with or without unit.
fn age(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// `hash_on` for a policy and the word behind it.
fn key(policy: &str, next: &str) -> Option<String> {
    let within = |name: &str| policy.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')').filter(|it| is_token(it));
    let sampled = |name: &str| {
        let inner = next.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        Some(inner).filter(|it| policy == "hash" && is_token(it))
    };
    let header = within("hdr").or_else(|| sampled("req.hdr")).or_else(|| sampled("hdr"));
    let cookie = sampled("req.cook").or_else(|| sampled("cook"));
    let query = sampled("url_param").or(Some(next).filter(|it| policy == "url_param" && is_token(it)));
    match (policy, next) {
        ("source", _) | ("hash", "src") => Some("source".to_owned()),
        _ => header
            .map(|name| format!("header:{}", name.to_ascii_lowercase()))
            .or_else(|| cookie.map(|name| format!("cookie:{name}")))
            .or_else(|| query.map(|name| format!("query:{name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{age, key};

    #[test]
    fn a_key_is_one_value() {
        for (policy, next, expected) in [
            ("source", "", Some("source")),
            ("hdr(X-User)", "", Some("header:x-user")),
            ("url_param", "id", Some("query:id")),
            ("hash", "src", Some("source")),
            ("hash", "req.cook(session)", Some("cookie:session")),
            ("hash", "req.hdr(X-User)", Some("header:x-user")),
            ("hash", "req.hdr(X-User),lower", None),
            ("uri", "", None),
            ("rdp-cookie", "", None),
            ("url_param", "", None),
        ] {
            assert_eq!(key(policy, next).as_deref(), expected, "{policy} {next}");
        }
        assert_eq!(
            [age("90"), age("1h"), age("2d"), age("x"), age("1w")],
            [Some(90), Some(3600), Some(172_800), None, None]
        );
    }
}
