//! `hash`, `ip_hash` and `sticky` of an `upstream`. Not here: its servers.

use cairn::config::is_token;

use super::super::nginx::Directive;
use super::super::output::string;
use super::super::routes::duration;
use super::Translator;
use super::scope::{at, milliseconds};
use super::tls::Keys;

/// Longest age of a cookie that the configuration takes, milliseconds.
const AGE_MAX: u64 = 24 * 3600 * 1000;

impl<'a> Translator<'a> {
    /// `hash KEY [consistent]` and `ip_hash`: the policy, and the keys besides. None: there is no such key.
    pub(super) fn hash(&mut self, directive: &'a Directive) -> Option<(&'static str, Keys)> {
        let ip_hash = directive.name == "ip_hash";
        let Some(on) = (if ip_hash { Some("source".to_owned()) } else { key(directive.argument(0)) }) else {
            let why =
                "`hash_on` takes one header, one cookie, one parameter or the client's address: round_robin is taken";
            self.notes.left(at(directive), why);
            return None;
        };
        let consistent = directive.argument(1) == "consistent";
        self.notes.differs(at(directive), "requests go to other endpoints than before; those without a key go to any");
        Some((if consistent { "ring_hash" } else { "maglev" }, vec![("hash_on".to_owned(), string(&on))]))
    }

    /// `sticky cookie NAME [expires=TIME] …`
    pub(super) fn sticky(&mut self, directive: &'a Directive) -> Option<(String, String)> {
        let name = directive.argument(1);
        if directive.argument(0) != "cookie" || !is_token(name) {
            self.notes.left(at(directive), "there is `sticky cookie NAME` alone: write `affinity` by hand");
            return None;
        }
        let mut ttl = String::new();
        let mut differs = false;
        for argument in directive.arguments.iter().skip(2) {
            match argument.split_once('=') {
                Some(("expires", time)) => match milliseconds(time) {
                    Some(time @ 1..=AGE_MAX) => ttl = format!(", ttl = {}", string(&duration(time))),
                    _ => differs = true,
                },
                _ => differs |= !["path=/", "httponly", "samesite=lax"].contains(&argument.as_str()),
            }
        }
        if differs {
            let why = "the cookie has Path=/, HttpOnly, SameSite=Lax and, over TLS, Secure; `ttl` is a day at most";
            self.notes.differs(at(directive), why);
        }
        Some(("affinity".to_owned(), format!("{{ cookie = {}{ttl} }}", string(name))))
    }
}

/// `hash_on` for a key that is one variable.
fn key(text: &str) -> Option<String> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(name);
    if ["remote_addr", "binary_remote_addr"].contains(&name) {
        return Some("source".to_owned());
    }
    let (kind, name) = name.split_once('_').filter(|(_, name)| is_token(name) && !name.contains('$'))?;
    match kind {
        "http" => Some(format!("header:{}", name.replace('_', "-"))),
        "cookie" => Some(format!("cookie:{name}")),
        "arg" => Some(format!("query:{name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_is_one_variable() {
        for (text, expected) in [
            ("$remote_addr", Some("source")),
            ("$http_x_user", Some("header:x-user")),
            ("${cookie_Session}", Some("cookie:Session")),
            ("$arg_id", Some("query:id")),
            ("$request_uri", None),
            ("$arg_id$arg_other", None),
            ("$host", None),
            ("fixed", None),
        ] {
            assert_eq!(key(text).as_deref(), expected, "{text}");
        }
    }
}
