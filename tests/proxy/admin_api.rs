//! What the admin interface says: its documents against docs/admin.md, live rates, and who may change what. Not here: its connections
//! (`admin`), metrics (`metrics`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use rustls::StreamOwned;
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

use crate::harness::{End, Message, Origin, PATIENCE, Proxy, Setup, Wire};
use crate::metrics::{metrics, sum};
use crate::tls::{Authority, Client, Site, tcp};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn get(proxy: &Proxy, path: &str) -> Message {
    let mut wire = Wire::connect(proxy.admin());
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wire.message().unwrap()
}

fn json(proxy: &Proxy, path: &str) -> Value {
    let answer = get(proxy, path);
    assert_eq!(answer.status(), 200, "{path}: {answer:?}");
    serde_json::from_str(answer.text()).unwrap()
}

/// One request on the admin socket.
fn on_socket(proxy: &Proxy, head: &str) -> Message {
    let stream = UnixStream::connect(proxy.folder().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire::over(stream);
    wire.send(format!("{head}\r\n"));
    wire.message().unwrap()
}

const PLAN: &str = "POST /plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n";

/// The names of all members of a document, with `[]` for the items of a list and `*` for names that are no part of the schema.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    const MAPS: [&str; 2] = ["local_responses", "cuts"];
    match value {
        Value::Object(members_of) => {
            for (name, member) in members_of {
                let open = MAPS.contains(&path);
                let name = if open { "*" } else { name };
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                found.insert(path.clone());
                members(member, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The members that docs/admin.md lists below the heading of a path.
fn documented(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/admin.md")).unwrap();
    let heading = format!("## `GET {path}`");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let rows = lines.filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned()));
    let rows: BTreeSet<_> = rows.collect();
    assert!(!rows.is_empty(), "docs/admin.md says nothing of {path}");
    rows
}

/// A proxy of which all documents have something to say.
fn full() -> (Origin, Site, Proxy) {
    let (origin, site) = (Origin::answering(OK), Site::new());
    let tenant = "[[tenant]]\nname = \"team\"\nfile = \"team.toml\"\nclaims = [{ host = \"team.test\" }]\nlimits.endpoint_networks = [\"127.0.0.1\"]\n";
    let secure = format!("[[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\n{}", site.keys(&["a"]));
    let proxy = Setup::to(&[&origin.address]).cluster("limits.requests = 100").more(&secure).managed();
    let proxy = proxy.start();
    let file = format!(
        "[[route]]\nname = \"r\"\nhosts = [\"team.test\"]\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [\"{}\"]\n",
        origin.address
    );
    fs::write(proxy.folder().join("team.toml"), file).unwrap();
    proxy.reload(
        &Setup::to(&[&origin.address]).cluster("limits.requests = 100").more(&secure).more(tenant).managed().text(),
    );
    (origin, site, proxy)
}

#[test]
fn documents_are_what_their_schema_says() {
    let (_origin, _site, proxy) = full();
    for host in ["a.test", "team.test"] {
        let answer = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{host}: {answer:?} {}", proxy.status());
    }
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\n\r\n").status(), 400);
    assert_eq!(on_socket(&proxy, PLAN).status(), 200);
    for path in ["/status", "/routes", "/clusters", "/connections", "/certificates", "/log-level", "/top"] {
        let mut found = BTreeSet::new();
        members(&json(&proxy, path), "", &mut found);
        let rows = documented(path);
        let undocumented: Vec<_> = found.difference(&rows).collect();
        assert!(undocumented.is_empty(), "{path} has {undocumented:?}, which docs/admin.md lacks");
        let hollow = |row: &&String| {
            !row.ends_with('*') && !row.starts_with("process.draining.") && !row.starts_with("draining.")
        };
        let absent: Vec<_> = rows.difference(&found).filter(hollow).filter(|row| !row.contains(".zone.")).collect();
        assert!(absent.is_empty(), "{path} lacks {absent:?}, which docs/admin.md has");
    }
}

/// A report quotes the file, which whoever asks at the address may have no business with.
#[test]
fn the_last_plan_is_told_and_what_became_of_a_reload() {
    let origin = Origin::answering(OK);
    let setup = Setup::to(&[&origin.address]).managed();
    let proxy = setup.start();
    let last = |path| {
        let told = json(&proxy, path);
        (told["last_plan"].clone(), told["reloads"]["last"].clone())
    };
    assert_eq!(last("/status"), (Value::Null, Value::Null));
    let more = "[[route]]\nname = \"more\"\npath = \"/more\"\nrespond = { status = 204 }\n";
    proxy.configure(&setup.clone().more(more).text());
    assert_eq!(on_socket(&proxy, PLAN).status(), 200);
    let (plan, _) = last("/top");
    assert_eq!((&plan["accepted"], &plan["summary"]), (&true.into(), &"1 added".into()), "{plan}");
    proxy.configure("tooth = \"sweet\"\n");
    let refused = on_socket(&proxy, PLAN);
    assert!(refused.status() == 422 && refused.text().contains("tooth"), "{refused:?}");
    let (plan, reload) = last("/status");
    assert_eq!((&plan["accepted"], &plan["summary"]), (&false.into(), &"it would be refused".into()), "{plan}");
    assert_eq!(reload, Value::Null);
    proxy.reload(&setup.clone().more(more).text());
    let (_, reload) = last("/top");
    let expected = serde_json::json!({ "verdict": "applied", "version": 2, "summary": "1 added" });
    assert_eq!(reload, expected);
}

/// Browsers get the page, others the paths, and neither needs the token for that: the page asks for it.
#[test]
fn a_page_stands_at_the_root() {
    let origin = Origin::answering(OK);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let admin =
        format!("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"FOLDER/admin.sock\"\ntoken = \"@{}\"", file.display());
    let proxy = Setup::to(&[&origin.address]).more(&admin).start();
    let ask = |fields: &str| {
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("GET / HTTP/1.1\r\n{fields}\r\n"));
        wire.message().unwrap()
    };
    let page = ask("Host: localhost\r\nAccept: text/html,*/*;q=0.8\r\n");
    assert!(page.status() == 200 && page.text().starts_with("<!doctype html>"), "{page:?}");
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let text = ask("Host: localhost\r\n");
    assert!(text.status() == 200 && text.text().contains("/metrics"), "{text:?}");
    assert_eq!((page.field("vary"), text.field("vary")), (Some("Accept".to_owned()), Some("Accept".to_owned())));
    // Neither for a page of another site.
    assert_eq!(ask("Host: evil.example\r\nAccept: text/html\r\n").status(), 403);
}

/// The next event of a stream.
fn event(events: &mut Wire) -> Value {
    events.until(b"data: ").unwrap();
    serde_json::from_str(&events.until(b"\n\n").unwrap()).unwrap()
}

/// The time below which a part of some lies, milliseconds.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(part * times.len() as f64).ceil() as usize - 1].as_secs_f64() * 1e3
}

/// A request takes cairn longer than its origin holds it, and its client longer than cairn. Told quantiles lie between, but for 2 %.
#[test]
fn top_tells_rates_and_times() {
    const CLIENTS: u64 = 20;
    let (sender, held) = mpsc::channel();
    let origin = Origin::start(move |mut wire, _| {
        while let Some(request) = wire.message() {
            let began = Instant::now();
            let number: u64 = request.line().split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let pause = Duration::from_millis(10 * number);
            while began.elapsed() < pause {
                thread::park_timeout(pause - began.elapsed().min(pause));
            }
            sender.send(began.elapsed()).unwrap();
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).managed().start();
    let mut events = Wire::connect(proxy.admin());
    events.send("GET /top/events?interval_ms=3000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = events.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    assert_eq!(event(&mut events)["total"]["requests"], 0);
    let address = proxy.address("public");
    let ask = |number| {
        let mut client = Wire::connect(address);
        let began = Instant::now();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.message().unwrap().status(), 200);
        began.elapsed()
    };
    let times: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS).map(|number| scope.spawn(move || ask(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let held: Vec<_> = held.try_iter().collect();
    let top = event(&mut events);
    let route = &top["routes"][0];
    assert_eq!((&route["name"], &route["requests"]), (&"route-1".into(), &CLIENTS.into()), "{top}");
    for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let told = route["latency_ms"][name].as_f64().unwrap();
        let (least, most) = (0.98 * quantile(&held, part), 1.02 * quantile(&times, part));
        assert!(told > least && told < most, "{name}: {told} is not within {least} and {most}");
    }
    let rate = route["requests_per_second"].as_f64().unwrap() * top["seconds"].as_f64().unwrap();
    assert!((rate - CLIENTS as f64).abs() < 1e-6, "{top}");
    assert!(route["overhead_ms"]["p50"].as_f64().unwrap() > 0.0, "{top}");
    let heat: Vec<_> = route["heat"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    assert_eq!((heat.iter().sum(), heat.len()), (CLIENTS, top["bounds_ms"].as_array().unwrap().len() + 1), "{top}");
    // What is told here is what a scrape says.
    assert_eq!(sum(&metrics(&proxy, ""), "cairn_requests_total", &[]), CLIENTS as f64);
}

/// An open stream of events does not keep the process.
#[test]
fn the_process_ends_although_somebody_listens() {
    let origin = Origin::answering(OK);
    let mut proxy = Setup::to(&[&origin.address]).managed().start();
    let mut events = Wire::connect(proxy.admin());
    events.send("GET /top/events?interval_ms=100 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    events.until(b"data: ").unwrap();
    // Each that looks takes memory, so that there are a few at most.
    let more: Vec<_> = (0..8)
        .map(|_| {
            let mut wire = Wire::connect(proxy.admin());
            wire.send("GET /top/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let head = wire.head().unwrap();
            (head.split(' ').nth(1).unwrap().to_owned(), wire)
        })
        .collect();
    let statuses: Vec<_> = more.iter().map(|(status, _)| &**status).collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "200", "200", "200", "503"]);
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn nothing_is_changed_by_get_or_from_elsewhere() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).managed().start();
    let foreign = "POST /log-level?level=error HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n";
    assert_eq!(on_socket(&proxy, foreign).status(), 403);
    let commands = ["/reload", "/reload/accept", "/reload/rollback", "/plan", "/endpoint", "/log/reopen", "/drain"];
    for path in commands {
        assert_eq!(on_socket(&proxy, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n")).status(), 405, "{path}");
        let post = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n");
        let foreign = on_socket(&proxy, &format!("{post}Origin: http://evil.example\r\n"));
        assert_eq!(foreign.status(), 403, "{path}");
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("{post}\r\n"));
        assert_eq!(wire.message().unwrap().status(), 403, "{path}");
    }
    for (origin, status) in
        [("http://evil.example", 403), ("null", 403), ("http://localhost:9901", 200), ("http://127.0.0.1:9901", 200)]
    {
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("GET /status HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"));
        assert_eq!(wire.message().unwrap().status(), status, "{origin}");
    }
    assert_eq!(json(&proxy, "/log-level")["level"], "info");
    let set = |level: &str| {
        let head = format!("POST /log-level?level={level} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n");
        on_socket(&proxy, &head).status()
    };
    assert_eq!((set("loud"), set("error")), (400, 200));
    assert_eq!(json(&proxy, "/log-level")["level"], "error");
    assert!(proxy.verb(&["log", "level", "warn"]).status.success());
    assert_eq!(json(&proxy, "/log-level")["level"], "warn");
    assert_eq!(proxy.verb(&["log", "level", "loud"]).status.code(), Some(2));
}

/// Who cannot show the token of an address sees nothing of it, and the token itself is nowhere.
#[test]
fn a_token_keeps_others_out() {
    const TOKEN: &str = "0123456789abcdef0123";
    let origin = Origin::answering(OK);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let admin =
        format!("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"FOLDER/admin.sock\"\ntoken = \"@{}\"", file.display());
    let proxy = Setup::to(&[&origin.address]).more(&admin).start();
    let ask = |field: &str| {
        let mut wire = Wire::connect(proxy.admin());
        wire.send(format!("GET /config HTTP/1.1\r\nHost: localhost\r\n{field}\r\n"));
        wire.message().unwrap()
    };
    let wrong = [
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer 0123456789abcdef012\r\n",
        "Authorization: Basic eDp5\r\n",
    ];
    for field in wrong {
        let answer = ask(field);
        assert!(answer.status() == 401 && answer.field("www-authenticate").is_some(), "{field:?} {answer:?}");
    }
    let shown = ask(&format!("authorization: bearer {TOKEN}\r\n"));
    assert!(shown.status() == 200 && !shown.text().contains(TOKEN) && shown.text().contains("token ="), "{shown:?}");
    assert!(!proxy.status().to_string().contains(TOKEN));
}

/// Where the address speaks TLS, who has no certificate of the authority that is named sees nothing.
#[test]
fn an_address_with_tls_serves_who_shows_a_certificate() {
    let (origin, site) = (Origin::answering(OK), Site::new());
    site.authority.write_ca(site.folder.path());
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\nsocket = \"FOLDER/admin.sock\"\n\
                 tls = { cert = \"SITE/a.pem\", key = \"SITE/a.key\", client_ca = \"SITE/ca.pem\" }";
    let admin = admin.replace("SITE", site.folder.path().to_str().unwrap());
    let proxy = Setup::to(&[&origin.address]).more(&admin).start();
    let ask = |client: &Client| {
        let mut stream = StreamOwned::new(client.connection("a.test"), tcp(proxy.admin()));
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        stream.read_exact(&mut [0]).map(|()| Wire::over(stream).until(b"live\n").unwrap())
    };
    let key = KeyPair::generate().unwrap();
    let showing = |authority: &Authority, version| {
        let identity = Some((authority.sign(&["operator"], &key), &key));
        Client::of(site.authority.roots(), &[version], aws_lc_rs::ALL_CIPHER_SUITES, identity)
    };
    let other = Authority::new();
    for version in [&TLS12, &TLS13] {
        // A second connection shows its certificate as the first one has.
        let known = showing(&site.authority, version);
        for _ in 0..2 {
            assert!(ask(&known).unwrap().starts_with("TTP/1.1 200 "));
        }
        for stranger in [showing(&other, version), site.client()] {
            assert!(ask(&stranger).is_err());
        }
    }
    let mut plain = Wire::connect(proxy.admin());
    plain.send("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!matches!(plain.end(), End::Clean(text) | End::Reset(text) if text.starts_with(b"HTTP")));
    assert!(proxy.verb(&["status"]).status.success(), "the socket is as it was");
}

/// A scraper that asks and does not read is cut off; others are served meanwhile.
#[test]
fn who_does_not_read_is_cut_off() {
    let routes: String = (0..300)
        .map(|number| format!("[[route]]\nname = \"r{number}\"\npath = \"/{number}\"\nrespond = {{ status = 204 }}\n"))
        .collect();
    let proxy = Setup::to(&["127.0.0.1:1"]).more(&routes).managed().start();
    let before = proxy.descriptors();
    let mut slow = Wire::connect(proxy.admin());
    slow.send("GET /routes HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(300));
    assert_eq!(get(&proxy, "/metrics").status(), 200);
    assert!(proxy.descriptors() > before);
    // Ten seconds without progress, which is the patience of a wait here.
    let end = Instant::now() + 3 * PATIENCE;
    while proxy.descriptors() > before {
        assert!(Instant::now() < end, "it is still served");
        thread::park_timeout(Duration::from_millis(50));
    }
    drop(slow);
}
