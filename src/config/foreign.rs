//! Words of other proxies, nginx and HAProxy above all, and what cairn calls the same. Not here: misspelt words (`nearest`).

/// A word that another proxy has for something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreign {
    /// What to write instead.
    pub(super) cure: &'static str,
    /// The key of the same table that is meant, if it is one.
    pub(super) key: Option<&'static str>,
}

/// Title of the table in which a word has another meaning than elsewhere.
const LISTENER: &str = "[[listener]]";
const ROUTE: &str = "[[route]]";
const ROUTE_TIMEOUTS: &str = "[route.timeouts]";
const CLUSTER: &str = "[[cluster]]";
const DEFAULTS: &str = "[defaults]";
const CLUSTER_LIMITS: &str = "[cluster.limits]";
const ENDPOINT_LIMITS: &str = "cluster.limits.per_endpoint";
const CLUSTER_TLS: &str = "[cluster.tls]";

/// What cairn calls the key or section `name` that was found in the table with this title; None: no proxy is known to have it.
pub(super) fn key(name: &str, title: &str) -> Option<Foreign> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let same = |key| Some(Foreign { cure: "", key: Some(key) });
    let own = match (title, name.as_str()) {
        (LISTENER, "listen" | "address" | "listen_address") => same("bind"),
        (ROUTE, "proxy_pass" | "backend" | "default_backend" | "use_backend" | "service" | "upstream") => {
            same("cluster")
        }
        (ROUTE, "server_name" | "host" | "domains" | "authority") => same("hosts"),
        (ROUTE, "server_names" | "snis" | "hostsni" | "host_sni" | "req_ssl_sni" | "ssl_preread_server_name") => {
            same("sni")
        }
        (ROUTE, "application_protocols" | "req_ssl_alpn" | "ssl_preread_alpn_protocols") => same("alpn"),
        (ROUTE, "prefix" | "location" | "path_beg") => same("path_prefix"),
        (ROUTE, "regex" | "path_reg") => same("path_regex"),
        (ROUTE, "method") => same("methods"),
        (ROUTE, "src" | "remote_addr" | "remote_ip" | "source_ip" | "ip_allow_list" | "allow") => same("client_ip"),
        (ROUTE, "deny" | "unless") => Some(Foreign {
            cure: "cairn calls it `not = { client_ip = [\"192.0.2.0/24\"] }`: the route is for all others",
            key: Some("not"),
        }),
        (ROUTE, "cookie") => same("cookies"),
        (ROUTE, "dst_port" | "server_port") => same("port"),
        (ROUTE, "return") => Some(Foreign {
            cure: "cairn calls it `respond = { status = 200, body = \"…\" }` or `redirect = { … }`",
            key: Some("respond"),
        }),
        (ROUTE, "root" | "alias" | "try_files" | "index") => {
            Some(Foreign { cure: "cairn serves no files; `respond` answers with a text", key: Some("respond") })
        }
        (ROUTE, "weighted_clusters") => same("split"),
        (ROUTE, "client_max_body_size") => same("body_bytes"),
        (ROUTE, "limits") => Some(Foreign {
            cure: "a route has `body_bytes = \"10MiB\"`; other limits are those of a listener, in [listener.limits]",
            key: Some("body_bytes"),
        }),
        (ROUTE_TIMEOUTS, "response") => Some(Foreign {
            cure: "a route calls it `timeout`, in [[route]]: to the first byte of the response; `idle` is between reads after its head",
            key: None,
        }),
        (ROUTE, "proxy_read_timeout" | "stream_idle_timeout" | "idle_timeout") => Some(Foreign {
            cure: "cairn calls it `timeouts = { idle = \"1h\" }` between reads of the response, and `timeout` before its first byte",
            key: Some("timeouts"),
        }),
        (CLUSTER, "server" | "servers" | "hosts" | "targets" | "load_assignment" | "addresses") => same("endpoints"),
        (CLUSTER, "lb_policy" | "load_balancing" | "lb_algorithm") => same("balance"),
        (CLUSTER, "keepalive") => same("pool"),
        (DEFAULTS, "mode" | "log" | "option") => Some(Foreign {
            cure: "cairn has no such setting: it speaks HTTP, and has [defaults.listener], [defaults.route] and [defaults.cluster]",
            key: None,
        }),
        (CLUSTER, "ssl" | "https" | "transport_socket") => same("tls"),
        (
            CLUSTER_LIMITS | ENDPOINT_LIMITS,
            "maxconn" | "max_conns" | "max_connections" | "max_requests" | "fullconn",
        ) => same("requests"),
        (CLUSTER_LIMITS, "max_pending_requests" | "maxqueue" | "max_queue") => same("queue"),
        (CLUSTER_TLS, "sni" | "name" | "host" | "verifyhost") => same("server_name"),
        (CLUSTER_TLS, "ca_file" | "trusted_ca" | "root_cas" | "validation_context") => same("ca"),
        (CLUSTER_TLS, "verify" | "insecure_skip_verify") => same("insecure"),
        _ => None,
    };
    own.or_else(|| elsewhere(&name).map(|cure| Foreign { cure, key: None }))
}

/// What cairn calls a word, wherever it was found.
fn elsewhere(name: &str) -> Option<&'static str> {
    Some(match name {
        "access_log" | "accesslog" | "access_logs" | "log_format" | "error_log" | "log_level" => {
            "cairn calls it [log], with `access`, `format` and `level`"
        }
        "upstream" | "upstreams" | "backend" | "backends" | "services" | "service" => {
            "cairn calls it [[cluster]], with `name` and `endpoints`"
        }
        "server" | "servers" | "virtual_host" | "virtual_hosts" | "vhost" => {
            "cairn calls it [[listener]] for the address, and [[route]] with `hosts` for each name"
        }
        "frontend" | "frontends" | "entrypoints" | "entrypoint" | "listen" => {
            "cairn calls it [[listener]], with `name` and `bind`"
        }
        "location" | "locations" | "router" | "routers" | "handle" => {
            "cairn calls it [[route]], with `path_prefix`, and `cluster` for where it leads"
        }
        "tcp" | "stream" => {
            "cairn has no such section: write `protocol = \"tcp\"` in a [[listener]], and [[route]] with `sni` or `listeners` for it"
        }
        "http" => {
            "cairn has no such section: routers and locations are [[route]], services and upstreams [[cluster]], entry points [[listener]]"
        }
        "proxy_pass" | "use_backend" | "default_backend" => "cairn calls it `cluster`, in [[route]]",
        "server_name" => "cairn calls it `hosts`, in [[route]]",
        "acl" => {
            "cairn has conditions instead: `hosts`, `path_prefix`, `methods`, `headers`, `query`, `cookies`, `client_ip`, `not` in [[route]]"
        }
        "allow" | "deny" => "cairn calls it `client_ip`, in [[route]], and `not = { client_ip = … }`",
        "middlewares" | "middleware" | "filters" => {
            "cairn has keys of [[route]] instead: `rewrite`, `request_headers`, …"
        }
        "proxy_set_header" | "set_header" => "cairn calls it `request_headers = { set = { … } }`, in [[route]]",
        "add_header" | "more_set_headers" => "cairn calls it `response_headers = { set = { … } }`, in [[route]]",
        "client_max_body_size" => "cairn calls it `body_bytes`, in [listener.limits], or in [[route]] for one of them",
        "large_client_header_buffers" | "client_header_buffer_size" => {
            "cairn calls it `header_bytes`, in [listener.limits]"
        }
        "client_header_timeout" => "cairn calls it `header`, in [listener.timeouts]",
        "client_body_timeout" => "cairn calls it `body`, in [listener.timeouts]",
        "keepalive_timeout" => "cairn calls it `idle`, in [listener.timeouts]",
        "proxy_connect_timeout" => "cairn calls it `connect`, in [cluster.timeouts]",
        "proxy_read_timeout" | "proxy_send_timeout" => "cairn calls it `response`, in [cluster.timeouts]",
        "keepalive" => "cairn calls it `max_idle`, in [cluster.pool]",
        "worker_processes" | "nbthread" | "nbproc" => "cairn calls it `count`, in [workers]",
        "worker_connections" | "maxconn" => "cairn calls it `connections`, in [listener.limits]",
        "set_real_ip_from" | "real_ip_header" => "cairn calls it `trusted_proxies`, in [[listener]]",
        "ssl_certificate" | "ssl_certificate_key" | "ssl" | "crt" => {
            "cairn calls it `certificates = [{ cert = \"…\", key = \"…\" }]`, in [listener.tls]"
        }
        "ssl_client_certificate" | "ssl_verify_client" => "cairn calls it `client_ca`, in [listener.tls]",
        "proxy_ssl_trusted_certificate" | "proxy_ssl_verify" | "ca_file" => "cairn calls it `ca`, in [cluster.tls]",
        "proxy_ssl_name" | "proxy_ssl_server_name" | "sni" => "cairn calls it `server_name`, in [cluster.tls]",
        "ssl_protocols" | "ssl_ciphers" => "cairn has nothing to choose there: TLS 1.3 and 1.2, without weak ciphers",
        "root" | "try_files" => "cairn serves no files; `respond`, in [[route]], answers with a text",
        "include" => "cairn reads `conf.d/*.toml` beside cairn.toml if it is given the directory",
        "global" | "events" => "cairn has no such section: every key has a default, see `cairn config default`",
        _ => return None,
    })
}

/// The word of `known` that other proxies call `word`.
pub(super) fn word(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let own = match word.to_ascii_lowercase().replace('-', "_").as_str() {
        "leastconn" | "least_conn" | "least_connections" => "least_request",
        "roundrobin" | "rr" | "static_rr" | "wrr" => "round_robin",
        _ => return None,
    };
    known.iter().copied().find(|known| *known == own)
}

/// A variable of another proxy in `text`: `$remote_addr`, `%[src]`, `%{…}`, `%REQ(…)%`.
pub(super) fn variable(text: &str) -> Option<&str> {
    let marks = text.char_indices().filter(|(_, mark)| matches!(mark, '$' | '%'));
    marks.map(|(at, _)| &text[at..]).find_map(|rest| match rest.as_bytes() {
        [b'$', ..] => {
            let length = rest[1..].bytes().take_while(|c| c.is_ascii_alphanumeric() || *c == b'_').count();
            Some(&rest[..=length]).filter(|name| is_nginx(&name[1..]))
        }
        [b'%', b'[', ..] => rest.find(']').map(|end| &rest[..=end]),
        [b'%', b'{', ..] => rest.find('}').map(|end| &rest[..=end]),
        // A percent-encoded byte of a path.
        [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => None,
        _ => {
            let name = rest[1..].bytes().take_while(|c| c.is_ascii_uppercase() || *c == b'_').count();
            let behind = &rest[name + 1..];
            let end = if behind.starts_with('(') { behind.find(")%").map(|at| at + 2) } else { None };
            let end = end.or_else(|| behind.starts_with('%').then_some(1));
            end.filter(|_| name > 2).map(|end| &rest[..name + 1 + end])
        }
    })
}

/// Whether nginx has a variable of this name. Captures are digits.
fn is_nginx(name: &str) -> bool {
    const PREFIXES: [&str; 7] = ["http_", "arg_", "cookie_", "upstream_", "ssl_", "sent_http_", "proxy_"];
    const NAMES: [&str; 24] = [
        "args",
        "uri",
        "request_uri",
        "document_uri",
        "query_string",
        "is_args",
        "host",
        "hostname",
        "scheme",
        "https",
        "remote_addr",
        "remote_port",
        "remote_user",
        "realip_remote_addr",
        "server_name",
        "server_addr",
        "server_port",
        "server_protocol",
        "request_id",
        "request_method",
        "request_filename",
        "binary_remote_addr",
        "connection",
        "time_iso8601",
    ];
    let capture = !name.is_empty() && name.len() <= 2 && name.bytes().all(|c| c.is_ascii_digit());
    capture || NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The name of the variable of cairn that has the value of nginx's `$name`; None: it has none, or one by the rule of `$http_NAME` and of
/// captures.
#[must_use]
pub fn of_nginx(name: &str) -> Option<&'static str> {
    Some(match name {
        "remote_addr" | "realip_remote_addr" => "client.ip",
        "remote_port" => "client.port",
        "host" => "request.host",
        "http_host" => "header.host",
        "uri" | "document_uri" => "request.path",
        "args" | "query_string" => "request.query",
        "request_method" => "request.method",
        "request_id" => "request.id",
        "scheme" => "request.scheme",
        "ssl_protocol" => "tls.version",
        "ssl_server_name" => "tls.sni",
        "ssl_client_s_dn" => "tls.client.subject",
        _ => return None,
    })
}

/// The variable of cairn that has the same value.
pub(super) fn own_variable(variable: &str) -> Option<String> {
    let name = variable.trim_start_matches('$');
    if let Some(named) = of_nginx(name) {
        return Some(format!("${{{named}}}"));
    }
    let named = match name {
        "%[src]" | "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" => "client.ip",
        "%[src_port]" => "client.port",
        "%[req.hdr(host),field(1,:)]" => "request.host",
        "%[req.hdr(host)]" | "%REQ(:authority)%" => "header.host",
        "%[path]" | "%REQ(:path)%" => "request.path",
        "%[query]" => "request.query",
        "request_uri" | "%[url]" | "%[pathq]" => return Some("${request.path}?${request.query}".to_owned()),
        "%[method]" | "%REQ(:method)%" => "request.method",
        "%[unique-id]" | "%REQ(x-request-id)%" => "request.id",
        "%REQ(:scheme)%" => "request.scheme",
        "%[ssl_fc_protocol]" | "%DOWNSTREAM_TLS_VERSION%" => "tls.version",
        "%[ssl_fc_sni]" | "%REQUESTED_SERVER_NAME%" => "tls.sni",
        "%[ssl_c_s_dn]" | "%DOWNSTREAM_PEER_SUBJECT%" => "tls.client.subject",
        other => {
            let field = other.strip_prefix("http_").map(|name| name.replace('_', "-"));
            let field = field.or_else(|| Some(other.strip_prefix("%[req.hdr(")?.strip_suffix(")]")?.to_owned()));
            let group = Some(other).filter(|it| it.len() == 1 && it.bytes().all(|c| c.is_ascii_digit()));
            let name = field.map(|field| format!("header.{field}")).or_else(|| Some(format!("regex.{}", group?)))?;
            return Some(format!("${{{name}}}"));
        }
    };
    Some(format!("${{{named}}}"))
}

/// What to write instead of a variable in the value of a field.
pub(super) fn field_cure(variable: &str) -> String {
    let own = own_variable(variable);
    let by_itself = match variable {
        "$remote_addr" | "$proxy_add_x_forwarded_for" | "$realip_remote_addr" | "%[src]" => {
            "cairn sends the client's address as x-forwarded-for and forwarded by itself"
        }
        "$host" | "$http_host" | "$server_name" | "$server_port" | "$scheme" | "$https" | "%[req.hdr(host)]" => {
            "cairn keeps Host, and sends x-forwarded-host and x-forwarded-proto by itself"
        }
        "$request_id" => "cairn sends x-request-id by itself",
        "$http_upgrade" | "$connection_upgrade" => "cairn passes upgrades on by itself",
        _ => {
            return match own {
                Some(own) => format!("cairn calls it `{own}`"),
                None => {
                    "cairn has no such variable: leave it out; a text that only looks so may come from a file, \"@name\""
                        .to_owned()
                }
            };
        }
    };
    match own.filter(|_| !variable.contains("upgrade")) {
        Some(own) => format!("{by_itself}: leave the field out, or write `{own}`"),
        None => format!("{by_itself}: leave the field out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_and_nothing_else() {
        for (text, found) in [
            ("$remote_addr", Some("$remote_addr")),
            ("for=$http_x_real_ip;", Some("$http_x_real_ip")),
            ("/new$uri", Some("$uri")),
            ("/new/$1", Some("$1")),
            ("%[src]", Some("%[src]")),
            ("a %{+Q}o", Some("%{+Q}")),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", Some("%DOWNSTREAM_REMOTE_ADDRESS%")),
            ("%REQ(:authority)%", Some("%REQ(:authority)%")),
            ("costs $5000", None),
            ("US$ 5", None),
            ("$", None),
            ("%", None),
            ("100%[", None),
            ("%AB%CD", None),
            ("/caf%C3%A9", None),
            ("/%EF%BF%BDA%EF%BF%BD", None),
            ("$hosting", None),
            ("$\u{e9}%\u{e9}", None),
        ] {
            assert_eq!(variable(text), found, "{text}");
        }
    }

    /// What is named as the same key has to be one of that table.
    #[test]
    fn keys_that_are_named_exist() {
        use super::super::schema::Kind;
        use super::super::tables::ROOT;
        for key in ROOT.keys {
            let Kind::Many(table) = &key.kind else { continue };
            for word in
                ["listen", "ssl", "proxy_pass", "server_name", "location", "regex", "method", "return", "servers"]
            {
                let meant = super::key(word, table.title).and_then(|foreign| foreign.key);
                assert!(meant.is_none_or(|meant| table.key(meant).is_some()), "{word} in {}", table.title);
            }
        }
    }
}
