//! Directives that need no translation, and those that have none. Not here: those that are translated.

/// What cairn does by itself, or what has no meaning in it.
const NEEDLESS: &[&str] = &[
    "worker_rlimit_nofile",
    "worker_cpu_affinity",
    "pid",
    "daemon",
    "master_process",
    "events",
    "http",
    "server",
    "location",
    "use",
    "multi_accept",
    "accept_mutex",
    "load_module",
    "sendfile",
    "sendfile_max_chunk",
    "tcp_nopush",
    "tcp_nodelay",
    "server_tokens",
    "types",
    "types_hash_max_size",
    "types_hash_bucket_size",
    "default_type",
    "charset",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "variables_hash_max_size",
    "variables_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_headers_hash_bucket_size",
    "proxy_http_version",
    "proxy_buffering",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_max_temp_file_size",
    "proxy_temp_path",
    "proxy_temp_file_write_size",
    "proxy_request_buffering",
    "proxy_socket_keepalive",
    "client_body_buffer_size",
    "client_body_temp_path",
    "client_header_buffer_size",
    "connection_pool_size",
    "request_pool_size",
    "output_buffers",
    "postpone_output",
    "reset_timedout_connection",
    "lingering_close",
    "lingering_time",
    "lingering_timeout",
    "keepalive_disable",
    "msie_padding",
    "merge_slashes",
    "absolute_redirect",
    "port_in_redirect",
    "server_name_in_redirect",
    "underscores_in_headers",
    "ignore_invalid_headers",
    "chunked_transfer_encoding",
    "ssl_protocols",
    "ssl_ciphers",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache",
    "ssl_session_timeout",
    "ssl_session_tickets",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_buffer_size",
    "zone",
    "recursive_error_pages",
    "log_not_found",
    "error_log",
    "log_format",
    "include",
    "break",
    "etag",
    "pcre_jit",
    "env",
    "timer_resolution",
    "thread_pool",
    "aio",
    "directio",
    "if_modified_since",
    "max_ranges",
    "hostnames",
    "volatile",
];

/// What the translators look at, and say themselves what becomes of it.
const TRANSLATED: &[&str] = &[
    "worker_processes",
    "upstream",
    "map",
    "split_clients",
    "geo",
    "least_conn",
    "least_time",
    "random",
    "ip_hash",
    "hash",
    "sticky",
    "keepalive",
    "keepalive_time",
    "listen",
    "server_name",
    "return",
    "rewrite",
    "if",
    "set",
    "proxy_pass",
    "proxy_set_header",
    "proxy_hide_header",
    "add_header",
    "expires",
    "limit_except",
    "error_page",
    "allow",
    "deny",
    "internal",
    "auth_basic",
    "auth_basic_user_file",
    "auth_request",
    "try_files",
    "root",
    "alias",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_verify_client",
    "client_max_body_size",
    "client_header_timeout",
    "client_body_timeout",
    "keepalive_timeout",
    "keepalive_requests",
    "large_client_header_buffers",
    "set_real_ip_from",
    "real_ip_header",
    "real_ip_recursive",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "proxy_redirect",
    "proxy_ignore_client_abort",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "stub_status",
    "ssl",
    "http2",
];

/// Why a directive is not imported; None: it needs nothing, or a translator looks at it.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    if NEEDLESS.contains(&name) || TRANSLATED.contains(&name) {
        return None;
    }
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    Some(match name {
        "user" => "start cairn as that user; ports below 1024 take CAP_NET_BIND_SERVICE",
        "worker_connections" => "descriptors bound the connections; listener.limits.connections sets fewer",
        "worker_shutdown_timeout" => "drain.timeout is how long the end may take",
        "stream" | "mail" => "cairn is a proxy for HTTP",
        "access_log" => "there is no access log yet",
        "resolver" | "resolver_timeout" => "names of endpoints are looked up when the configuration is loaded",
        "proxy_intercept_errors" => "answers of an origin are not replaced",
        "index" | "autoindex" | "disable_symlinks" => "cairn serves no files",
        "proxy_send_timeout" | "send_timeout" => {
            "the listener's timeouts.body bounds the silence of clients, and the cluster's timeouts.response that of endpoints"
        }
        "proxy_cookie_path" | "proxy_cookie_domain" | "proxy_cookie_flags" => "cookies of an origin go on as they are",
        "proxy_method" | "proxy_set_body" | "proxy_pass_request_body" | "proxy_pass_request_headers" => {
            "a request goes on with its own method, fields and body"
        }
        "proxy_bind" => "the kernel chooses the address that endpoints see",
        "proxy_ignore_headers" | "proxy_pass_header" => "there is nothing that cairn obeys or hides",
        "satisfy" => "there is no other way of access than what routes say",
        "stub_status_format" | "status" => "the admin interface has /status and /metrics",
        "mirror" | "mirror_request_body" => "requests go to one place",
        "slice" | "image_filter" | "perl" => "cairn does not change bodies",
        _ if begins(&["proxy_cache", "proxy_store", "proxy_no_cache", "open_file_cache"]) => "cairn is no cache",
        _ if begins(&["gzip", "gunzip", "brotli"]) => "cairn does not compress",
        _ if begins(&["limit_req"]) => "there is no limit of rates but for tenants (requests_per_second)",
        _ if begins(&["limit_conn"]) => "there is no limit of connections for each client",
        _ if begins(&["limit_rate"]) => "there is no limit of bandwidth",
        _ if begins(&["proxy_next_upstream"]) => {
            "another endpoint is tried when connecting has failed, and nothing else is tried again"
        }
        _ if begins(&["proxy_ssl"]) => {
            "write `tls` in the cluster by hand: see [cluster.tls] in `cairn config default`"
        }
        _ if begins(&["ssl_stapling", "ssl_trusted", "ssl_crl", "ssl_ocsp"]) => {
            "there is no OCSP, nor revocation lists"
        }
        _ if begins(&["ssl_"]) => "there is nothing to choose there",
        _ if begins(&["http2_", "http3", "quic"]) => "there is HTTP/1.1 alone",
        _ if begins(&["fastcgi_", "uwsgi_", "scgi_", "grpc_", "memcached_"]) => "cairn speaks HTTP to origins alone",
        _ if begins(&["sub_filter", "addition", "add_before", "add_after", "xslt"]) => "cairn does not change bodies",
        _ if begins(&["geoip", "geoip2"]) => "there is no condition on the client's country",
        _ if begins(&["auth_", "secure_link"]) => "cairn does not authenticate clients but by certificates",
        _ if name.contains("lua") || begins(&["js_", "perl_"]) => "cairn runs no scripts",
        _ => "cairn has nothing like it",
    })
}

/// Whether a directive that is not imported restricts who may do what.
pub(super) fn restricts(name: &str) -> bool {
    ["limit_req", "limit_conn", "secure_link", "access_by_lua"].iter().any(|prefix| name.starts_with(prefix))
        && !name.ends_with("_zone")
        && !name.ends_with("_level")
        && !name.ends_with("_status")
        || name == "auth_jwt"
        || name == "modsecurity"
}
