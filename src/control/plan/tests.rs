//! Plans of small changes, in full.

use super::*;
use crate::config::{Config, parse};

const BASE: &str = r#"
[workers]
count = 1
[[listener]]
name = "public"
bind = "127.0.0.1:8080"
[[listener]]
name = "internal"
bind = "127.0.0.1:8081"
[[route]]
name = "all"
cluster = "app"
[[route]]
name = "orders"
path_prefix = "/orders"
cluster = "app"
[[cluster]]
name = "app"
endpoints = ["127.0.0.1:9000", "127.0.0.1:9001"]
"#;

fn config(text: &str) -> Config {
    parse("plan.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

/// The plan from [`BASE`] to what becomes of it by replacing texts.
fn plan(edits: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let (old, new) = (config(BASE), config(&text));
    let mut plan = difference(&old, &new, &|name| if name == "internal" { 12 } else { 0 });
    shadow::shadows(&old, &new).explain(&mut plan);
    plan.to_string()
}

#[test]
fn nothing() {
    assert_eq!(plan(&[]), "nothing would change\n");
}

#[test]
fn listeners_open_close_and_change() {
    let found = plan(&[
        ("127.0.0.1:8081\"", "127.0.0.1:8082\""),
        ("127.0.0.1:8080\"", "127.0.0.1:8080\"\nlimits = { header_count = 50 }"),
        ("name = \"public\"", "name = \"front\""),
    ]);
    let expected = "\
+ listener internal: opens 127.0.0.1:8082
- listener internal: closes 127.0.0.1:8081; its 12 connections end after their current request
~ listener front: name public → front, limits.header_count 100 → 50
1 added, 1 removed, 1 changed
";
    assert_eq!(found, expected);
}

#[test]
fn routes_say_whose_requests_they_take() {
    let found = plan(&[(
        "name = \"orders\"\npath_prefix = \"/orders\"",
        "name = \"new\"\nhosts = [\"*.example.com\"]\npath = \"/orders/new\"",
    )]);
    let expected = "\
+ route new: *.example.com = /orders/new: cluster app; such requests go to route orders today
- route orders: any host /orders…: cluster app; such requests will go to route all
1 added, 1 removed
";
    assert_eq!(found, expected);
    let found = plan(&[(
        "[[cluster]]",
        "[[route]]\nname = \"shadow\"\npath = \"/orders\"\nrespond = { body = \"here\" }\n[[cluster]]",
    )]);
    let expected = "\
+ route shadow: any host = /orders: respond 200; such requests go to route orders today
~ route orders: is shadowed: route shadow is more specific and takes its requests
1 added, 1 changed
";
    assert_eq!(found, expected);
}

#[test]
fn routes_of_tcp_are_those_of_connections() {
    let found = plan(&[
        ("bind = \"127.0.0.1:8081\"", "bind = \"127.0.0.1:8081\"\nprotocol = \"tcp\""),
        (
            "[[cluster]]",
            "[[route]]\nname = \"db\"\nsni = [\"*.db.corp\"]\nalpn = [\"h2\"]\ncluster = \"app\"\n[[cluster]]",
        ),
    ]);
    let expected = "\
~ listener internal: protocol http → tcp
+ route db: *.db.corp (tcp): cluster app; such connections are closed today
1 added, 1 changed
";
    assert_eq!(found, expected);
}

#[test]
fn changed_routes_say_what() {
    let found = plan(&[(
        "path_prefix = \"/orders\"\ncluster = \"app\"",
        "path_prefix = \"/v2\"\nmethods = [\"GET\"]\ntimeout = \"3s\"\nsplit = [{ cluster = \"app\", weight = 3 }]",
    )]);
    let expected = "\
~ route orders: path /orders… → /v2…, conditions none → method GET, action cluster app → split app 3, timeout none → 3s
1 changed
";
    assert_eq!(found, expected);
}

#[test]
fn routes_for_some_clients_say_whose_requests_they_take() {
    let found = plan(&[(
        "[[cluster]]",
        "[[route]]\nname = \"office\"\npath_prefix = \"/orders\"\nclient_ip = [\"10.0.0.0/8\"]\ncookies = { a = \"1\" }\n\
         port = 8081\nnot = { methods = [\"PUT\"] }\ncluster = \"app\"\n[[cluster]]",
    )]);
    let expected = "\
+ route office: any host /orders…: cluster app; such requests go to route orders today
1 added
";
    assert_eq!(found, expected);
    let conditions = "name = \"orders\"\nclient_ip = [\"10.0.0.0/8\"]\nnot = { scheme = \"https\" }";
    let found = plan(&[("name = \"orders\"", conditions)]);
    let expected = "\
~ route orders: conditions none → client_ip 10.0.0.0/8 and not scheme https
1 changed
";
    assert_eq!(found, expected);
}

#[test]
fn values_of_fields_are_not_told() {
    let edited = "name = \"all\"\nrequest_headers = { set = { authorization = \"Bearer secret\" } }";
    let found = plan(&[("name = \"all\"", edited)]);
    assert!(found.contains("request_headers {set ; add ; remove } → {set authorization #"), "{found}");
    assert!(!found.contains("secret"), "{found}");
}

#[test]
fn endpoints_join_and_leave() {
    let found = plan(&[(
        "\"127.0.0.1:9000\", \"127.0.0.1:9001\"]",
        "{ address = \"127.0.0.1:9001\", weight = 3 }, \"127.0.0.1:9002\"]\nbalance = \"round_robin\"",
    )]);
    let expected = "\
~ cluster app: balance least_request → round_robin
~ endpoint app 127.0.0.1:9001: weight 1 → 3
+ endpoint app 127.0.0.1:9002: joins with weight 1
- endpoint app 127.0.0.1:9000: leaves; requests under way end there, its idle connections are closed
1 added, 1 removed, 2 changed
";
    assert_eq!(found, expected);
}

/// Name servers give the addresses of a name in another order each time.
#[test]
fn the_order_of_a_names_addresses_is_no_change() {
    let named = |hosts: &[u8]| {
        let mut config = config(BASE);
        let mut addresses = hosts.iter().map(|host| format!("10.0.0.{host}:80").parse().unwrap());
        let endpoint = &mut config.snapshot.clusters[0].endpoints[0];
        endpoint.address = addresses.next().unwrap();
        endpoint.others = addresses.collect();
        config
    };
    let plan = |old: &[u8], new: &[u8]| difference(&named(old), &named(new), &|_| 0).to_string();
    for (old, new) in [([1, 2, 3], [2, 3, 1]), ([1, 2, 3], [1, 3, 2]), ([3, 2, 1], [1, 2, 3])] {
        assert_eq!(plan(&old, &new), "nothing would change\n", "{old:?} {new:?}");
    }
    let expected = "~ endpoint app 127.0.0.1:9000: addresses [10.0.0.1:80, 10.0.0.2:80] → [10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80]\n";
    assert_eq!(plan(&[1, 2], &[2, 3, 1]), format!("{expected}1 changed\n"));
}

#[test]
fn what_needs_a_restart_says_so() {
    let found = plan(&[("count = 1", "count = 2"), ("[workers]", "[admin]\nlisten = \"off\"\n[workers]")]);
    let expected = "\
~ process itself: workers.count 1 → 2, admin.listen 127.0.0.1:9901 → none: at the next start, not by a reload
1 changed
";
    assert_eq!(found, expected);
}

#[test]
fn certificates_and_authorities_are_told_apart() {
    use rcgen::{CertificateParams, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    write("key.pem", &key.serialize_pem());
    let read = |tls: &str| {
        let certificate = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        write("cert.pem", &certificate.pem());
        let text = format!("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n{tls}");
        parse(folder.path().join("plan.toml").to_str().unwrap(), &text).unwrap_or_else(|report| panic!("{report}"))
    };
    let certificates = "tls = { certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }] }";
    let clients = certificates.replace(" }] }", " }], client_ca = \"cert.pem\" }");
    let (clear, first, renewed, closed) = (read(""), read(certificates), read(certificates), read(&clients));
    let plan = |old: &Config, new: &Config| difference(old, new, &|_| 0).to_string();
    assert!(plan(&clear, &first).starts_with("~ listener a: tls none → [a.example #"));
    assert!(plan(&first, &renewed).starts_with("~ listener a: tls [a.example #"));
    assert!(plan(&renewed, &closed).contains("] for clients of 1 authority #"));
    assert!(plan(&closed, &clear).ends_with(" → none\n1 changed\n"));
    assert_eq!(plan(&first, &first), "nothing would change\n");
}

#[test]
fn clusters_say_whom_they_trust() {
    let app = "endpoints = [\"127.0.0.1:9000\", \"127.0.0.1:9001\"]";
    let other = "[[cluster]]\nname = \"other\"\nendpoints = [\"127.0.0.1:1\"]\ntls = { insecure = true }";
    let found = plan(&[(app, &format!("{app}\ntls = {{ insecure = true, server_name = \"app.test\" }}\n{other}"))]);
    let expected = "\
+ cluster other: 1 endpoint over TLS, insecure: takes any certificate
~ cluster app: tls none → insecure: takes any certificate
~ endpoint app 127.0.0.1:9000, app 127.0.0.1:9001: server_name none → app.test
1 added, 3 changed
";
    assert_eq!(found, expected);
}

#[test]
fn what_changes_for_many_is_said_once() {
    let all = "name = \"all\"";
    let found = plan(&[("[workers]", "[defaults.route]\ntimeout = \"7s\"\n[workers]")]);
    assert_eq!(found, "~ route all, orders: timeout none → 7s\n2 changed\n");
    let many: String =
        (0..9).map(|at| format!("name = \"r{at}\"\npath = \"/{at}\"\ncluster = \"app\"\n[[route]]\n")).collect();
    let old = BASE.replacen(all, &format!("{many}{all}"), 1);
    let new = old.replacen("[workers]", "[defaults.route]\ntimeout = \"7s\"\n[workers]", 1);
    let found = difference(&config(&old), &config(&new), &|_| 0).to_string();
    let expected = "~ route r0, r1, r2, r3, r4, r5, r6, r7 and 3 more: timeout none → 7s\n11 changed\n";
    assert_eq!(found, expected);
}
