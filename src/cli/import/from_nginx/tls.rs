//! TLS towards endpoints: `proxy_pass https://…` and `proxy_ssl_…`. Not here: certificates of listeners (`listen`).

use super::super::nginx::Directive;
use super::super::output::string;
use super::super::valid::is_host;
use super::scope::{Scope, at};
use super::{Translator, upstream};

/// Keys of a cluster, each with its value as it is written.
pub(super) type Keys = Vec<(String, String)>;

impl<'a> Translator<'a> {
    /// What `proxy_pass https://HOST` makes of the cluster for a host.
    pub(super) fn endpoint_tls(&mut self, scope: &Scope<'a>, host: &str, user: &'a Directive) -> Keys {
        let mut keys = Keys::new();
        let is_on = |name: &str| scope.one(name).is_some_and(|it| it.argument(0) == "on");
        let verifies = is_on("proxy_ssl_verify");
        match (verifies, self.file(scope, "proxy_ssl_trusted_certificate")) {
            (true, Some(ca)) => keys.push(("tls.ca".to_owned(), ca)),
            (true, None) => keys.push(("tls".to_owned(), "true".to_owned())),
            (false, _) => {
                keys.push(("tls.insecure".to_owned(), "true".to_owned()));
                let how = "nginx takes any certificate here, as `insecure = true` does: leave it out, with `ca`, to check who answers";
                self.notes.differs(at(user), how);
            }
        }
        // Without a check, the name is only asked for, if at all.
        if verifies || is_on("proxy_ssl_server_name") || host.starts_with("unix:") {
            keys.extend(self.server_name(scope, host).map(|name| ("tls.server_name".to_owned(), string(&name))));
        }
        let pair = ["proxy_ssl_certificate", "proxy_ssl_certificate_key"].map(|name| self.file(scope, name));
        if let [Some(cert), Some(key)] = pair {
            keys.extend([("tls.cert".to_owned(), cert), ("tls.key".to_owned(), key)]);
        }
        match keys.len() {
            1 => keys,
            // Other keys say that there is TLS.
            _ => keys.into_iter().filter(|(key, _)| key != "tls").collect(),
        }
    }

    /// The name that the certificate has to have; None: that of each endpoint.
    fn server_name(&mut self, scope: &Scope<'a>, host: &str) -> Option<String> {
        if let Some(directive) = scope.one("proxy_ssl_name") {
            let name = scope.substituted(directive.argument(0));
            let name = name.rsplit_once(':').map_or(&*name, |(name, _)| name);
            if is_host(name) {
                return Some(name.to_owned());
            }
            if name != "$proxy_host" {
                self.notes.differs(at(directive), "the name of a certificate is a text, the same for all requests");
            }
        }
        if host.starts_with("unix:") {
            return Some("localhost".to_owned());
        }
        let known = self.upstreams.iter().any(|it| it.argument(0) == host);
        known.then(|| host.to_owned()).filter(|host| is_host(host))
    }

    /// The file that a directive names.
    fn file(&mut self, scope: &Scope<'a>, name: &str) -> Option<String> {
        let directive = scope.one(name).filter(|it| !it.argument(0).is_empty())?;
        if directive.argument(0).contains(['$', ':']) {
            self.notes.left(at(directive), "a certificate is a file, the same for all requests");
            return None;
        }
        Some(string(directive.argument(0)))
    }
}

/// Splits `proxy_pass` behind its scheme: the port that its hosts have where they name none, and the rest.
pub(super) fn scheme(text: &str) -> Option<(u16, &str)> {
    let http = text.strip_prefix("http://").map(|rest| (upstream::HTTP, rest));
    http.or_else(|| text.strip_prefix("https://").map(|rest| (upstream::HTTPS, rest)))
}
