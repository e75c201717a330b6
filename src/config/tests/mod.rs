//! Tests of the configuration as a whole: the document against the schema and the code, and what needs several files.
//! The texts of reports are in `tests/config/`.

use super::*;
use crate::route::{Protocol, ValuePattern};

mod claims;
mod layers;
mod tenants;
mod tls;

/// Rewrites `conf/cairn.toml` when `CAIRN_UPDATE` is set.
#[test]
fn the_default_file_is_the_schema_written_out() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/cairn.toml");
    if std::env::var_os("CAIRN_UPDATE").is_some() {
        std::fs::write(path, document()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), document(), "CAIRN_UPDATE=1 cargo test rewrites it");
}

/// A file with the required keys alone equals the documented one, so each documented default is the code's.
#[test]
fn documented_defaults_are_those_of_the_code() {
    let documented = parse("cairn.toml", &document()).unwrap();
    let bare = "
        [[listener]]
        name = \"public\"
        bind = \"127.0.0.1:8080\"
        [[route]]
        cluster = \"orders\"
        [[cluster]]
        name = \"orders\"
        endpoints = [\"127.0.0.1:9000\", { address = \"127.0.0.1:9001\", weight = 2 }, \"unix:/run/app.sock\"]
    ";
    let bare = parse("bare.toml", bare).unwrap();
    assert_eq!(documented.snapshot, bare.snapshot);
    assert_eq!((documented.role, documented.workers, documented.watch), (bare.role, bare.workers, bare.watch));
    assert_eq!(documented.drain_timeout, bare.drain_timeout);
    let addresses = |config: Config| (config.admin.listen, config.admin.socket);
    assert_eq!(addresses(documented), addresses(bare));
}

/// Each commented line of the document, put to use in place of its rivals, is accepted and changes something.
#[test]
fn documented_examples_are_accepted() {
    let document = document() + "\n[[cluster]]\nname = \"orders-next\"\nendpoints = [\"127.0.0.1:9009\"]\n";
    let effect = |config: Config| (config.snapshot, config.admin.listen, (config.drain_timeout, config.drain_grace));
    let plain = effect(parse("plain", &document).unwrap());
    let examples = default_file::examples();
    assert!(examples.len() > 15, "{examples:?}");
    // `hsts` needs TLS, and so files, and `token` is one; the others are of listeners of TCP.
    let apart = |example: &String| ["hsts", "token", "sni", "alpn"].iter().any(|key| example.starts_with(key));
    for example in examples.into_iter().filter(|example| !apart(example)) {
        let mut text = document.replace(&format!("# {example}"), &example);
        if ["split", "redirect", "respond"].iter().any(|action| example.starts_with(action)) {
            text = text.replace("\ncluster = \"orders\"", "\n");
        }
        if ["mode", "owner"].iter().any(|key| example.starts_with(key)) {
            text = text.replace("bind = \"127.0.0.1:8080\"", "bind = \"unix:/run/in.sock\"");
        }
        if example.starts_with("hash_on") {
            text = text.replace("balance = \"least_request\"", "balance = \"maglev\"");
        }
        if example.starts_with("zone") {
            text = text.replace("weight = 2 }", "weight = 2, zone = \"a\" }");
        }
        if example.starts_with("rewrite") {
            text = text.replace("# path_prefix", "path_prefix");
        }
        match parse("example", &text) {
            Ok(config) => assert_ne!(effect(config), plain, "{example} does nothing"),
            Err(report) => panic!("{example}\n{report}"),
        }
    }
}

/// A route without listeners is one of all that speak as it does.
#[test]
fn routes_of_tcp_are_those_of_listeners_of_tcp() {
    let listener = |name: &str, protocol: &str| {
        format!("[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\n")
    };
    let cluster = "[[cluster]]\nname = \"a\"\nendpoints = [\"127.0.0.1:1\"]\n";
    let route = |keys: &str| format!("[[route]]\ncluster = \"a\"\n{keys}\n");
    let (web, db) = (listener("web", "http"), listener("db", "tcp"));
    for (listeners, keys, protocol) in [
        (format!("{web}{db}"), "", Protocol::Http),
        (format!("{web}{db}"), "sni = [\"*.db.corp\"]", Protocol::Tcp),
        (format!("{web}{db}"), "alpn = [\"h2\"]\ntunnel_idle = \"5m\"", Protocol::Tcp),
        (format!("{web}{db}"), "listeners = [\"db\"]\nclient_ip = [\"10.0.0.0/8\"]", Protocol::Tcp),
        (format!("{web}{db}"), "listeners = [\"web\"]", Protocol::Http),
        (db.clone(), "", Protocol::Tcp),
        (db, "sni = [\"*\"]", Protocol::Tcp),
    ] {
        // What all routes have in common is for those of HTTP.
        let defaults = "[defaults.route]\nrequest_headers = { set = { x = \"1\" } }\n[defaults.listener.timeouts]\nidle = \"9s\"\n";
        let config = parse("a.toml", &format!("{listeners}{}{cluster}{defaults}", route(keys))).unwrap();
        let found = &config.snapshot.routes[0];
        assert_eq!(found.protocol, protocol, "{listeners}{keys}");
        assert_eq!(found.request_headers.set.is_empty(), protocol == Protocol::Tcp);
        config.compile(1, &mut Ledger::default()).unwrap();
    }
}

#[test]
fn role_chooses_trust_strictness_and_limits() {
    for (role, expected) in
        [("edge", (0, true, 16384, 100)), ("waypoint", (6, false, 32768, 128)), ("sidecar", (6, false, 32768, 128))]
    {
        let text = format!("role = \"{role}\"\n[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n");
        let it = &parse("role.toml", &text).unwrap().snapshot.listeners[0];
        assert_eq!((it.trusted_proxies.len(), it.strict_paths, it.header_bytes, it.header_count), expected, "{role}");
    }
}

/// Listeners and routes of TCP, and what is inherited by those of HTTP alone.
const TCP: &str = "\
[defaults.listener]
strict_paths = false
limits = { connections = 7, header_bytes = \"32KiB\" }
timeouts = { idle = \"9s\", header = \"3s\" }
[defaults.route]
response_headers = { set = { x = \"1\" } }
timeout = \"9s\"
tunnel_idle = \"8s\"
[[listener]]
name = \"db\"
bind = \"127.0.0.1:5432\"
protocol = \"tcp\"
proxy_protocol = \"require\"
trusted_proxies = [\"10.0.0.0/8\"]
[[route]]
sni = [\"*.db.corp\"]
alpn = [\"h2\"]
cluster = \"a\"
[[route]]
client_ip = [\"10.0.0.0/8\"]
cluster = \"a\"
[[cluster]]
name = \"a\"
endpoints = [\"127.0.0.1:1\"]
";

/// What is shown means the same as what was read, whatever it was read from.
#[test]
fn what_is_shown_reads_as_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let same = |from: &Path| {
        let shown = show(from).unwrap();
        std::fs::write(path("shown.toml"), &shown).unwrap();
        let (config, again) = (load(from).unwrap(), load(&path("shown.toml")).unwrap());
        assert_eq!(config.snapshot, again.snapshot, "{shown}");
        let rest = |it: &Config| (it.workers, it.role, it.watch, it.admin.listen, it.admin.socket.clone());
        assert_eq!(rest(&config), rest(&again), "{shown}");
        shown
    };
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    std::fs::create_dir(path("teams")).unwrap();
    for file in ["teams/payments.toml", "teams/shops.toml", "cairn.toml", "edge.toml", "sidecar.toml", "teams.toml"] {
        std::fs::copy(conf.join(file), path(file)).unwrap();
        if !file.contains('/') {
            same(&path(file));
        }
    }
    std::fs::write(path("tcp.toml"), TCP).unwrap();
    let shown = same(&path("tcp.toml"));
    for absent in
        ["strict_paths", "header_bytes", "idle = \"9s\"", "response_headers", "rewrite_location", "timeout = \"9s\""]
    {
        assert!(!shown.contains(absent), "{absent}: {shown}");
    }
    std::fs::create_dir_all(path("conf.d/teams")).unwrap();
    std::fs::write(path("conf.d/body"), "a \"quoted\"\n\u{1b}body\n").unwrap();
    std::fs::write(path("conf.d/teams/a.toml"), "[[route]]\nrespond = { body = \"of a\" }\n").unwrap();
    std::fs::write(path("cairn.toml"), ROOT).unwrap();
    std::fs::write(path("conf.d/10.toml"), PART).unwrap();
    let shown = same(directory.path());
    let shown: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "role = \"sidecar\" # cairn.toml:1",
        "watch = true # default",
        "header_bytes = \"32KiB\" # default of the role",
        "header_count = 7 # cairn.toml:7",
        "respond = { status = 200, body = \"@conf.d/body\" } # conf.d/10.toml:2",
        "path_regex = \"/\\\\d+\" # conf.d/10.toml:3",
        "claims = [{ host = \"a.example\", path_prefix = \"/\" }] # conf.d/10.toml:7",
        "file = \"conf.d/teams/a.toml\" # conf.d/10.toml:6",
        "headers = { x-a = \"$${b}\", x-b = { regex = \"@@c\" }, x-c = { present = false } } # conf.d/10.toml:9",
    ] {
        let line = match line.split_once(".toml:") {
            Some(_) => line.replace(" # ", &format!(" # {}/", directory.path().display())),
            None => line.to_owned(),
        };
        assert!(shown.contains(&line), "{line}\n{shown:#?}");
    }
}

const ROOT: &str = r#"role = "sidecar"
[[listener]]
name = "a"
bind = "127.0.0.1:0"
trusted_proxies = ["::1"]
[listener.limits]
header_count = 0x7
"#;
const PART: &str = r#"[[route]]
respond = { body = "@body" }
path_regex = '/\d+'
[[tenant]]
name = "a"
file = "teams/a.toml"
claims = [{ host = "a.example" }]
[[route]]
headers = { x-a = "$${b}", x-b = { regex = "@@c" }, x-c = { present = false } }
cluster = "c"
[[cluster]]
name = "c"
endpoints = ["127.0.0.1:1", { address = "127.0.0.1:2" }]
"#;

#[test]
fn the_demo_takes_the_addresses_of_its_origins() {
    let origins = ["127.0.0.1:4001".parse().unwrap(), "127.0.0.1:4002".parse().unwrap()];
    let config = demo(origins).unwrap();
    let endpoints = config.snapshot.clusters.iter().map(|cluster| cluster.endpoints[0].address.to_string());
    assert_eq!(endpoints.collect::<Vec<_>>(), ["127.0.0.1:4001", "127.0.0.1:4002"]);
}

#[test]
fn a_directory_is_read_in_order_and_its_parts_hold_no_scalars() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    write("cairn.toml", "role = \"sidecar\"\n[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n");
    write("conf.d/20-b.toml", "[[route]]\nname = \"last\"\ncluster = \"c\"\n");
    write(
        "conf.d/10-a.toml",
        "[[route]]\nname = \"first\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [\"127.0.0.1:1\"]\n",
    );
    write("conf.d/notes.txt", "not read");
    let config = load(directory.path()).unwrap();
    let names: Vec<_> = config.snapshot.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!((config.role, names), (Role::Sidecar, vec!["first", "last"]));
    let files = ["", "conf.d", "cairn.toml", "conf.d/10-a.toml", "conf.d/20-b.toml"];
    assert_eq!(config.files, files.map(|file| directory.path().join(file)));

    write("conf.d/30-c.toml", "role = \"edge\"\n");
    let report = load(directory.path()).unwrap_err().to_string();
    assert!(report.contains("conf.d/30-c.toml:1:1: error: `role` stands in a part of a configuration"), "{report}");
    std::fs::remove_file(directory.path().join("cairn.toml")).unwrap();
    let report = load(directory.path()).unwrap_err().to_string();
    assert!(report.contains("cairn.toml: error: No such file"), "{report}");
}

#[test]
fn workers_are_counted() {
    let count = |count: &str| {
        let text = format!("[workers]\ncount = {count}\n[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n");
        parse("workers.toml", &text).unwrap().workers
    };
    assert_eq!(count("3"), 3);
    assert!(count("0") >= 1);
}

#[test]
fn what_a_reference_stands_for_is_used_and_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("token", "s3cret\n");
    let listener = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n";
    let route = "[[route]]\nheaders = { x-token = \"@token\" }\nhosts = [\"@token\"]\nrespond = { status = 200 }\n";
    write("cairn.toml", &format!("{listener}{route}"));
    let config = load(directory.path()).unwrap();
    let expected = [("x-token".to_owned(), ValuePattern::Exact("s3cret".to_owned()))];
    assert_eq!(config.snapshot.routes[0].conditions.headers, expected);
    assert_eq!((config.shown("s3cret"), config.shown("other")), ("@token", "other"));
    assert!(config.files.contains(&directory.path().join("token")), "{:?}", config.files);

    write("cairn.toml", &format!("{listener}{route}{route}"));
    let report =
        load(directory.path()).and_then(|config| config.compile(1, &mut Ledger::default())).unwrap_err().to_string();
    assert!(report.contains("matches the same requests as route \"route-1\" (host @token)"), "{report}");
    assert!(!report.contains("s3cret"), "{report}");
}

/// An expression is judged by the engine that will match it, where it stands.
#[test]
fn expressions_are_tried_by_the_engine() {
    let cases = [
        ("/[a-z]+", None),
        ("/\\p{Greek}+", Some("Unicode")),
        ("/(?u)x", None),
        ("/[é-ö]", Some("Unicode")),
        ("/(?=a)", Some("look-around")),
        ("/(a", Some("unclosed group")),
        ("/a)(b", Some("unopened group")),
        ("/(a|b)*a(a|b){30}", Some("make it simpler")),
    ];
    for (expression, why) in cases {
        let keys =
            [format!("path_regex = '{expression}'"), format!("headers = {{ x-a = {{ regex = '{expression}' }} }}")];
        for key in keys {
            let text = format!(
                "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[route]]\nrespond = {{ body = \"x\" }}\n{key}\n"
            );
            let report = parse("cairn.toml", &text).map_err(|report| report.to_string());
            match why {
                None => assert!(report.is_ok(), "{expression}: {report:?}"),
                Some(why) => {
                    let report = report.expect_err(expression);
                    let placed = report.starts_with("cairn.toml:6:") && report.matches(": error: ").count() == 1;
                    assert!(placed && report.contains(why), "{report}");
                }
            }
        }
    }
}
