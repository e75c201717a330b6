//! Lines that need no translation, and those that have none. Not here: those that are translated.

/// What cairn does by itself, or what has no meaning in it: the first words of lines.
const NEEDLESS: &[&str] = &[
    "daemon",
    "master-worker",
    "pidfile",
    "nbproc",
    "cpu-map",
    "thread-groups",
    "stats socket",
    "stats timeout",
    "ca-base",
    "ssl-default-bind-ciphers",
    "ssl-default-bind-ciphersuites",
    "ssl-default-bind-options",
    "ssl-default-bind-curves",
    "ssl-default-server-ciphers",
    "ssl-default-server-ciphersuites",
    "ssl-default-server-options",
    "ssl-server-verify",
    "ssl-dh-param-file",
    "tune.",
    "spread-checks",
    "hard-stop-after",
    "mode http",
    "option forwardfor",
    "option http-keep-alive",
    "option http-server-close",
    "option httpclose",
    "option prefer-last-server",
    "option redispatch",
    "option dontlognull",
    "option dontlog-normal",
    "option log-health-checks",
    "option log-separate-errors",
    "option splice-auto",
    "option splice-request",
    "option splice-response",
    "option tcp-smart-accept",
    "option tcp-smart-connect",
    "option tcpka",
    "option clitcpka",
    "option srvtcpka",
    "option http-no-delay",
    "option contstats",
    "option socket-stats",
    "option http-use-htx",
    "option http-ignore-probes",
    "option http-pretend-keepalive",
    "option accept-invalid-http-request",
    "no option",
    "http-reuse",
    "fullconn",
    "description",
    "id",
    "unique-id-format",
    "unique-id-header",
    "enabled",
    "node",
    "zero-warning",
    "numa-cpu-mapping",
    "expose-experimental-directives",
    "set-dumpable",
];

/// What the translators look at, and say themselves what becomes of it.
const TRANSLATED: &[&str] = &[
    "nbthread",
    "crt-base",
    "bind",
    "acl",
    "use_backend",
    "default_backend",
    "http-request",
    "http-response",
    "redirect",
    "server",
    "server-template",
    "default-server",
    "balance",
    "hash-type",
    "cookie",
    "maxconn",
    "timeout client",
    "timeout server",
    "timeout connect",
    "timeout http-request",
    "timeout tunnel",
    "timeout http-keep-alive",
    "option abortonclose",
    "monitor-uri",
    "disabled",
];

/// Why a line is not imported; None: it needs nothing, or a translator looks at it.
pub(super) fn reason(line: &str) -> Option<&'static str> {
    let begins = |prefix: &str| {
        line.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ') || prefix.ends_with('.'))
    };
    if NEEDLESS.iter().any(|it| begins(it)) || TRANSLATED.iter().any(|it| begins(it)) {
        return None;
    }
    let any = |prefixes: &[&str]| prefixes.iter().any(|it| line.starts_with(it));
    Some(match () {
        () if any(&["user", "group", "uid", "gid", "chroot"]) => {
            "start cairn as that user; ports below 1024 take CAP_NET_BIND_SERVICE"
        }
        () if any(&["log", "option httplog", "option tcplog", "capture", "http-request capture"]) => {
            "[log] has an access log, for all routes: access, format, headers"
        }
        () if any(&["ulimit-n"]) => "descriptors are raised to the hard limit",
        () if any(&["stats"]) => "admin.listen has /status, /routes and /metrics",
        () if any(&["option httpchk", "http-check", "option ssl-hello-chk", "option external-check", "tcp-check"]) => {
            "write [cluster.health] by hand"
        }
        () if any(&[
            "option tcp-check",
            "option mysql",
            "option pgsql",
            "option redis",
            "option smtp",
            "option ldap",
        ]) =>
        {
            "write [cluster.health] by hand"
        }
        () if any(&["timeout check", "timeout queue", "timeout tarpit"]) => "there is nothing that it would bound",
        () if any(&["timeout client-fin", "timeout server-fin"]) => {
            "a side that is closed is noticed within two minutes"
        }
        () if any(&["retries", "retry-on"]) => "[route.retry] has its own defaults: see `cairn config default`",
        () if any(&["appsession", "stick", "persist", "force-persist", "ignore-persist"]) => {
            "a client does not stay with one endpoint"
        }
        () if any(&["errorfile", "errorloc", "http-error", "errorfiles"]) => {
            "such a file is a whole response: [[error_pages]] has bodies"
        }
        () if any(&["compression"]) => "cairn does not compress",
        () if any(&["filter", "lua-", "http-request lua", "http-request use-service"]) => {
            "cairn runs no filters or scripts"
        }
        () if any(&["http-after-response"]) => "answers made here have the edits of their route alone",
        () if any(&["tcp-request", "tcp-response", "rate-limit"]) => {
            "connections are bounded by listener.limits.connections alone"
        }
        () if any(&["option originalto"]) => "the address that a client connected to goes to no origin",
        () if any(&["use-server"]) => "an endpoint is chosen by the cluster's balance",
        () if any(&["mode tcp"]) => "write it by hand: a listener with `protocol = \"tcp\"`, and routes with `sni`",
        () if any(&["email-alert", "monitor fail", "grace", "dispatch", "transparent", "source"]) => {
            "cairn has nothing like it"
        }
        () => "cairn has nothing like it",
    })
}

/// Whether a line that is not imported restricts who may do what.
pub(super) fn restricts(line: &str) -> bool {
    ["tcp-request connection reject", "tcp-request content reject", "rate-limit"].iter().any(|it| line.starts_with(it))
}
