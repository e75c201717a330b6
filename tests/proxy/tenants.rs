//! Teams that own a part of the routes: their limits, and what a broken file of theirs does. Not here: what such a file may
//! say (`src/config/tests`).

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use crate::harness::{Origin, Proxy, Setup, next, says};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A root with the tenants `red` and `blue`, and its own route for the rest.
fn root(endpoint: &str, limits: &str) -> String {
    let tenant = |name: &str| {
        format!(
            "[[tenant]]\nname = \"{name}\"\nfile = \"FOLDER/{name}.toml\"\n\
             claims = [{{ host = \"a\", path_prefix = \"/{name}\" }}]\nlimits.endpoint_networks = [\"127.0.0.1\"]\n"
        )
    };
    Setup::to(&[endpoint]).managed().more(&format!("{}{limits}{}", tenant("red"), tenant("blue"))).text()
}

fn file(name: &str, endpoint: &str, mark: &str) -> String {
    format!(
        "[[route]]\nname = \"all\"\ncluster = \"app\"\nhosts = [\"a\"]\npath_prefix = \"/{name}\"\n\
         response_headers = {{ set = {{ x-mark = \"{mark}\" }} }}\n[[cluster]]\nname = \"app\"\nendpoints = [\"{endpoint}\"]\n"
    )
}

fn write(proxy: &Proxy, name: &str, text: &str) {
    fs::write(proxy.folder().join(format!("{name}.toml")), text).unwrap();
}

fn ask(proxy: &Proxy, path: &str) -> (u16, Option<String>) {
    let answer = proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    (answer.status(), answer.field("x-mark"))
}

fn states(proxy: &Proxy) -> Vec<String> {
    let status = proxy.status();
    status["tenants"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap().to_owned()).collect()
}

fn some(mark: &str) -> (u16, Option<String>) {
    (200, Some(mark.to_owned()))
}

#[test]
fn a_start_says_which_files_are_broken() {
    let line = says("cairn: tenant red is absent, its claims are answered 503", &root("127.0.0.1:1", ""));
    assert!(line.contains(" warn "), "{line}");
}

#[test]
fn a_broken_file_harms_nobody_else() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start(&root(&origin.address, ""), &[]);
    // There is no good version of either yet: what they claim says so, and the root's own routes serve.
    assert_eq!(states(&proxy), ["absent", "absent"]);
    assert_eq!((ask(&proxy, "/red").0, ask(&proxy, "/other").0), (503, 200));
    write(&proxy, "red", &file("red", &origin.address, "red one"));
    write(&proxy, "blue", &file("blue", &origin.address, "blue one"));
    assert!(proxy.verb(&["reload"]).status.success());
    assert_eq!(states(&proxy), ["live", "live"]);
    assert_eq!((ask(&proxy, "/red"), ask(&proxy, "/blue/x")), (some("red one"), some("blue one")));
    // One team breaks its file while the other changes its own.
    write(&proxy, "red", "[[route]]\nname = \"all\"\nhosts = [\"elsewhere\"]\ncluster = \"app\"\n");
    write(&proxy, "blue", &file("blue", &origin.address, "blue two"));
    let plan = String::from_utf8(proxy.verb(&["plan"]).stdout).unwrap();
    assert!(plan.contains("~ tenant red: is stale") && plan.contains("red.toml:4:"), "{plan}");
    assert!(plan.contains("~ route blue/all: response_headers "), "{plan}");
    let output = proxy.verb(&["reload"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("tenant red is stale") && text.contains("red.toml:4:"), "{text}");
    assert_eq!(states(&proxy), ["stale", "live"]);
    assert_eq!((ask(&proxy, "/red"), ask(&proxy, "/blue/x")), (some("red one"), some("blue two")));
    let status = proxy.verb(&["status", "--tenant", "red"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stdout).contains("red.toml:4:"), "{status:?}");
    assert_eq!(proxy.verb(&["status", "--tenant", "blue"]).status.code(), Some(0));
    // And once it is right, it is served.
    write(&proxy, "red", &file("red", &origin.address, "red two"));
    assert!(proxy.verb(&["reload"]).status.success());
    assert_eq!((states(&proxy), ask(&proxy, "/red")), (vec!["live".to_owned(); 2], some("red two")));
}

#[test]
fn requests_in_flight_are_limited_over_all_workers() {
    let (sender, begun) = std::sync::mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        wire.message().unwrap();
        sender.send(wire).unwrap();
    });
    let limits = "limits.requests = 3\n";
    let text = root(&origin.address, limits).replace("count = 1", "count = 2");
    let proxy = Proxy::start(&text, &[]);
    write(&proxy, "red", &file("red", &origin.address, "red"));
    // The limits stand behind the first tenant, which is red.
    assert!(proxy.verb(&["reload"]).status.success());
    let get = "GET /red HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    let mut held: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            client.send(get);
            next(&begun)
        })
        .collect();
    for _ in 0..4 {
        let refused = proxy.ask(get);
        assert_eq!((refused.status(), refused.reason()), (429, "tenant_requests".to_owned()));
        assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    }
    // A reload does not forget them.
    proxy.reload(&text.replace("requests = 3", "requests = 4"));
    let mut fourth = proxy.client();
    fourth.send(get);
    held.push(next(&begun));
    assert_eq!(proxy.ask(get).status(), 429);
    for (client, mut origin) in clients.iter_mut().chain([&mut fourth]).zip(held) {
        origin.send(OK);
        assert_eq!(client.message().unwrap().status(), 200);
    }
    let mut again = proxy.client();
    again.send(get);
    next(&begun).send(OK);
    assert_eq!(again.message().unwrap().status(), 200);
}

#[test]
fn requests_per_second_are_limited() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::start(&root(&origin.address, "limits.requests_per_second = 5\n"), &[]);
    write(&proxy, "red", &file("red", &origin.address, "red"));
    write(&proxy, "blue", &file("blue", &origin.address, "blue"));
    assert!(proxy.verb(&["reload"]).status.success());
    let mut client = proxy.client();
    let mut statuses = Vec::new();
    // However long this takes, the burst passes; a refusal comes before the rate could pay for so many.
    while !statuses.contains(&429) && statuses.len() < 10_000 {
        client.send("GET /red HTTP/1.1\r\nHost: a\r\n\r\n");
        statuses.push(client.message().unwrap().status());
    }
    assert!(statuses[..5].iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
    assert_eq!(ask(&proxy, "/blue"), some("blue"));
}

/// Whatever has become of the team's own file.
#[test]
fn routes_of_a_group_count_towards_its_tenant() {
    let origin = Origin::answering(OK);
    let group =
        "[[group]]\nname = \"of-red\"\ntenant = \"red\"\n[[group.route]]\npath = \"/for-red\"\ncluster = \"app\"\n";
    let proxy = Proxy::start(&[&root(&origin.address, "limits.requests_per_second = 5\n"), group].concat(), &[]);
    let mut client = proxy.client();
    let mut asked = 0;
    let refused = loop {
        client.send("GET /for-red HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.message().unwrap();
        asked += 1;
        if answer.status() == 429 || asked == 10_000 {
            break answer;
        }
    };
    assert!(asked > 5, "the burst passes");
    assert_eq!((refused.status(), &*refused.reason()), (429, "tenant_rate"));
    assert_eq!(ask(&proxy, "/other").0, 200);
    let told = proxy.verb(&["explain", "GET", "http://a/for-red"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.lines().any(|line| line.starts_with("tenant") && line.contains("red, ")), "{told}");
}

/// A team's file has groups and defaults of its own, and they take it nowhere.
#[test]
fn a_team_may_group_its_routes_within_its_claims() {
    let (origin, requests) = Origin::recording(OK);
    let proxy = Proxy::start(&root(&origin.address, ""), &[]);
    let group = |hosts: &str| {
        format!(
            "[defaults.route]\nrequest_headers = {{ set = {{ x-team = \"red\" }} }}\n[[group]]\nname = \"all\"\nhosts = [\"{hosts}\"]\n\
             request_headers = {{ set = {{ x-group = \"all\" }} }}\n[[group.route]]\nname = \"one\"\npath = \"/red/one\"\ncluster = \"app\"\n\
             [[cluster]]\nname = \"app\"\nendpoints = [\"{}\"]\n",
            origin.address
        )
    };
    write(&proxy, "red", &group("a"));
    write(&proxy, "blue", &group("b").replace("/red/", "/blue/"));
    assert!(proxy.verb(&["reload"]).status.success());
    assert_eq!(states(&proxy), ["live", "absent"]);
    assert_eq!(ask(&proxy, "/red/one").0, 200);
    let request = next(&requests);
    assert_eq!((request.field("x-team").as_deref(), request.field("x-group").as_deref()), (Some("red"), Some("all")));
    let problem = String::from_utf8_lossy(&proxy.verb(&["status", "--tenant", "blue"]).stdout).into_owned();
    assert!(problem.contains("blue.toml:5:9") && problem.contains("outside of what the tenant claims"), "{problem}");
}

/// A team's endpoint was a socket of its own when it was checked, and is a link to the admin socket when it is used.
#[test]
fn the_admin_socket_answers_no_client_of_the_proxy() {
    let origin = Origin::answering(OK);
    let text = root(&origin.address, "").replace("[\"127.0.0.1\"]", "[\"unix\"]");
    let proxy = Proxy::start(&text, &[]);
    let (link, own) = (proxy.folder().join("link"), proxy.folder().join("own"));
    let _listener = UnixListener::bind(&own).unwrap();
    symlink(&own, &link).unwrap();
    write(&proxy, "red", &file("red", &format!("unix:{}", link.display()), "red"));
    assert!(proxy.verb(&["reload"]).status.success());
    assert_eq!(states(&proxy), ["live", "absent"]);
    fs::remove_file(&link).unwrap();
    symlink(proxy.folder().join("admin.sock"), &link).unwrap();
    let answer = proxy.ask("POST /red HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status(), 502);
    // And once it is looked at, it is refused, and so is the version before, which leads there as well.
    write(&proxy, "red", &file("red", &format!("unix:{}", link.display()), "red two"));
    assert!(proxy.verb(&["reload"]).status.success());
    assert_eq!(states(&proxy), ["absent", "absent"]);
    let status = proxy.verb(&["status", "--tenant", "red"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("is the admin interface"), "{status:?}");
}
