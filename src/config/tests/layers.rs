//! What `[defaults.*]` and `[[group]]` give to routes, clusters and listeners: the same as if it were written there.

use super::super::*;
use crate::route::PathPattern;

const LISTENERS: &str = r#"
    [[listener]]
    name = "public"
    bind = "127.0.0.1:8080"
    [[listener]]
    name = "inner"
    bind = "127.0.0.1:8081"
"#;
const APP: &str = r#"
    [[cluster]]
    name = "app"
    endpoints = ["127.0.0.1:9000"]
"#;

fn config(text: &str) -> Config {
    parse("layers.toml", text).unwrap_or_else(|report| panic!("{report}\n{text}"))
}

/// Both texts configure the same, and so does what `config show` makes of the first one.
fn same(layered: &str, flat: &str) {
    let layered = config(layered);
    assert_eq!(layered.snapshot, config(flat).snapshot);
    let shown = layered.show().unwrap();
    assert_eq!(config(&shown).snapshot, layered.snapshot, "{shown}");
}

#[test]
fn a_route_has_what_its_group_and_the_defaults_have() {
    let groups = r#"
        [defaults.route]
        timeout = "3s"
        timeouts = { idle = "1h", body = "10s" }
        hosts = ["default.example"]
        [[group]]
        name = "shop"
        hosts = ["shop.example", "*.shop.example"]
        listeners = ["public"]
        client_ip = ["10.0.0.0/8"]
        headers = { x-a = "1", X-B = "2" }
        not = { methods = ["PUT"], headers = { x-d = "1" } }
        timeouts = { body = "20s" }
        body_bytes = "1MiB"
        [[group.route]]
        name = "one"
        path = "/one"
        cluster = "app"
        [[group.route]]
        name = "two"
        path_prefix = "/two"
        cluster = "app"
        hosts = ["two.example"]
        client_ip = ["0.0.0.0/0"]
        headers = { x-b = "3", x-c = "4" }
        not = { methods = ["POST"], headers = { x-e = "1" } }
        timeouts = { idle = "2h" }
        timeout = "4s"
        body_bytes = 0
        [[route]]
        name = "plain"
        cluster = "app"
    "#;
    let flat = r#"
        [[route]]
        name = "one"
        path = "/one"
        hosts = ["shop.example", "*.shop.example"]
        listeners = ["public"]
        client_ip = ["10.0.0.0/8"]
        headers = { x-a = "1", x-b = "2" }
        not = { methods = ["PUT"], headers = { x-d = "1" } }
        cluster = "app"
        timeout = "3s"
        timeouts = { idle = "1h", body = "20s" }
        body_bytes = "1MiB"
        [[route]]
        name = "two"
        path_prefix = "/two"
        cluster = "app"
        hosts = ["two.example"]
        listeners = ["public"]
        client_ip = ["0.0.0.0/0"]
        headers = { x-a = "1", x-b = "3", x-c = "4" }
        not = { methods = ["POST"], headers = { x-d = "1", x-e = "1" } }
        timeout = "4s"
        timeouts = { idle = "2h", body = "20s" }
        body_bytes = 0
        [[route]]
        name = "plain"
        hosts = ["default.example"]
        cluster = "app"
        timeout = "3s"
        timeouts = { idle = "1h", body = "10s" }
    "#;
    same(&[LISTENERS, groups, APP].concat(), &[LISTENERS, flat, APP].concat());
}

#[test]
fn edits_of_headers_add_up_and_the_nearest_wins() {
    let groups = r#"
        [defaults.route]
        request_headers = { set = { x-a = "default", x-b = "default", x-c = "default" }, remove = ["x-gone", "x-back"] }
        response_headers = { add = { x-r = "default" } }
        [[group]]
        name = "shop"
        request_headers = { set = { X-B = "group" }, add = { x-l = "group", x-m = "group" }, remove = ["x-h"] }
        response_headers = { set = { x-r = "group" } }
        [[group.route]]
        name = "one"
        path = "/one"
        cluster = "app"
        request_headers = { set = { x-back = "1" }, add = { x-m = "route", x-n = "route" }, remove = ["x-c", "X-H"] }
        [[group.route]]
        name = "two"
        path = "/two"
        redirect = { path = "/one" }
        [[route]]
        name = "three"
        path = "/three"
        cluster = "app"
    "#;
    let flat = r#"
        [[route]]
        name = "one"
        path = "/one"
        cluster = "app"
        [route.request_headers]
        set = { x-a = "default", X-B = "group", x-back = "1" }
        add = { x-l = "group", x-m = "route", x-n = "route" }
        remove = ["x-gone", "x-back", "x-c", "x-h"]
        [route.response_headers]
        set = { x-r = "group" }
        [[route]]
        name = "two"
        path = "/two"
        redirect = { path = "/one" }
        [route.response_headers]
        set = { x-r = "group" }
        [[route]]
        name = "three"
        path = "/three"
        cluster = "app"
        [route.request_headers]
        set = { x-a = "default", x-b = "default", x-c = "default" }
        remove = ["x-gone", "x-back"]
        [route.response_headers]
        add = { x-r = "default" }
    "#;
    same(&[LISTENERS, groups, APP].concat(), &[LISTENERS, flat, APP].concat());
}

#[test]
fn clusters_and_listeners_have_their_defaults() {
    let defaults = r#"
        [defaults.listener]
        trusted_proxies = ["10.0.0.0/8"]
        mode = "0600"
        ipv6only = false
        [defaults.listener.limits]
        body_bytes = "1MiB"
        header_count = 50
        [defaults.cluster]
        balance = "random"
        [defaults.cluster.timeouts]
        connect = "1s"
        response = "7s"
        [[listener]]
        name = "public"
        bind = "127.0.0.1:8080"
        limits = { header_count = 60 }
        [[listener]]
        name = "local"
        bind = "unix:/run/in.sock"
        trusted_proxies = []
        [[listener]]
        name = "both"
        bind = "[::]:8082"
        [[cluster]]
        name = "app"
        endpoints = ["127.0.0.1:9000"]
        timeouts = { response = "9s" }
    "#;
    let flat = r#"
        [[listener]]
        name = "public"
        bind = "127.0.0.1:8080"
        limits = { header_count = 60, body_bytes = "1MiB" }
        trusted_proxies = ["10.0.0.0/8"]
        [[listener]]
        name = "local"
        bind = "unix:/run/in.sock"
        mode = "0600"
        limits = { header_count = 50, body_bytes = "1MiB" }
        trusted_proxies = []
        [[listener]]
        name = "both"
        bind = "[::]:8082"
        ipv6only = false
        limits = { header_count = 50, body_bytes = "1MiB" }
        trusted_proxies = ["10.0.0.0/8"]
        [[cluster]]
        name = "app"
        endpoints = ["127.0.0.1:9000"]
        balance = "random"
        timeouts = { connect = "1s", response = "9s" }
    "#;
    let route = "[[route]]\ncluster = \"app\"\n";
    same(&[defaults, route].concat(), &[flat, route].concat());
}

/// Routes without a name are numbered as they stand in the file, and so is which of two equals comes first.
#[test]
fn routes_of_a_group_stand_where_the_group_begins() {
    let text = r#"
        [[route]]
        cluster = "app"
        [[group]]
        name = "shop"
        hosts = ["shop.example"]
        [[group.route]]
        path = "/one"
        cluster = "app"
        [[group.route]]
        cluster = "app"
        [[route]]
        path = "/last"
        cluster = "app"
    "#;
    let config = config(&[LISTENERS, text, APP].concat());
    let routes = &config.snapshot.routes;
    let found: Vec<_> = routes.iter().map(|route| (route.name.as_str(), route.hosts.len(), &route.path)).collect();
    let path = |text: &str| PathPattern::Exact(text.to_owned());
    let expected = [
        ("route-1", 0, &PathPattern::Any),
        ("route-2", 1, &path("/one")),
        ("route-3", 1, &PathPattern::Any),
        ("route-4", 0, &path("/last")),
    ];
    assert_eq!(found, expected);
    assert!(config.route_place(1).ends_with(":14"), "{}", config.route_place(1));
}

/// Defaults stand in cairn.toml, groups wherever routes may; every problem is told where its value was written, and once.
#[test]
fn what_is_inherited_from_another_file_is_told_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let root = [LISTENERS, APP, "[defaults.route]\nclient_ip = [\"10.0.0.1/8\"]\nhosts = [\"a.example\"]\n"].concat();
    write("cairn.toml", &root);
    let group = "[[group]]\nname = \"g\"\nclient_ip = [\"x\"]\n[[group.route]]\npath = \"/g\"\ncluster = \"app\"\n\
                 [[group.route]]\npath = \"/h\"\ncluster = \"app\"\n";
    let routes = "[[route]]\npath = \"/a\"\ncluster = \"app\"\n[[route]]\npath = \"/b\"\ncluster = \"app\"\n";
    write("conf.d/10.toml", &[group, routes].concat());
    let report = load(folder.path()).unwrap_err().to_string();
    let heads: Vec<_> = report.lines().filter(|line| line.contains(": error: ")).collect();
    let found: Vec<_> = heads.iter().map(|line| line.rsplit('/').next().unwrap()).collect();
    assert_eq!(
        (
            found.len(),
            heads[0].contains("cairn.toml:13:14: error: \"10.0.0.1/8\""),
            heads[1].contains("10.toml:3:14: error: \"x\"")
        ),
        (2, true, true),
        "{report}"
    );
    write("cairn.toml", &root.replace("10.0.0.1/8", "10.0.0.0/8"));
    write("conf.d/10.toml", &[&group.replace("\"x\"", "\"192.0.2.1\""), routes].concat());
    let config = load(folder.path()).unwrap();
    let shown = config.show().unwrap();
    let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("client_ip")).collect();
    let group = lines[0].split_once("# ").unwrap().1;
    assert!(group.starts_with("group g, ") && group.ends_with("conf.d/10.toml:3"), "{shown}");
    let defaults = lines[2].split_once("# ").unwrap().1;
    assert!(defaults.starts_with("defaults.route, ") && defaults.ends_with("cairn.toml:13"), "{shown}");
    write("conf.d/10.toml", "[defaults.route]\ntimeout = \"1s\"\n");
    let report = load(folder.path()).unwrap_err().to_string();
    assert!(report.contains("`defaults` stands in a part of a configuration"), "{report}");
}

/// Each key of a route can stand in a group, but for those of its own: what is added later does so by itself.
#[test]
fn no_key_is_forgotten() {
    use super::super::layer_tables::{GROUP, ROUTE_OWN};
    use super::super::tables::ROUTE;
    for key in ROUTE.keys.iter().filter(|key| key.name != "name") {
        assert_eq!(GROUP.key(key.name).is_some(), !ROUTE_OWN.contains(&key.name), "{}", key.name);
    }
}

/// Of keys that exclude each other the nearest one counts, and what is of no use to a route is not asked of it.
#[test]
fn a_route_replaces_what_excludes_its_own() {
    let groups = r#"
        [defaults.route]
        cookie_path = true
        [[group]]
        name = "shop"
        rewrite = { path_prefix = "/v1", host = "inner" }
        rewrite_location = true
        request_headers = { set = { x-client = "${client.ip}" } }
        error_pages = [{ html = "group" }]
        [[group.route]]
        name = "one"
        path_prefix = "/one"
        cluster = "app"
        [[group.route]]
        name = "two"
        path_regex = "/two/(.*)"
        rewrite = { path = "/new/${regex.1}" }
        error_pages = [{ statuses = ["404"], html = "route" }]
        cluster = "app"
        [[group.route]]
        name = "three"
        path = "/three"
        redirect = { path = "/one" }
    "#;
    let flat = r#"
        [[route]]
        name = "one"
        path_prefix = "/one"
        rewrite = { path_prefix = "/v1", host = "inner" }
        rewrite_location = true
        cookie_path = true
        request_headers = { set = { x-client = "${client.ip}" } }
        error_pages = [{ html = "group" }]
        cluster = "app"
        [[route]]
        name = "two"
        path_regex = "/two/(.*)"
        rewrite = { path = "/new/${regex.1}", host = "inner" }
        rewrite_location = true
        request_headers = { set = { x-client = "${client.ip}" } }
        error_pages = [{ statuses = ["404"], html = "route" }]
        cluster = "app"
        [[route]]
        name = "three"
        path = "/three"
        error_pages = [{ html = "group" }]
        redirect = { path = "/one" }
    "#;
    same(&[LISTENERS, groups, APP].concat(), &[LISTENERS, flat, APP].concat());
}
