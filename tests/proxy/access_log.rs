//! The access log: what a line tells, that each exchange has one or is counted, and that nobody waits for it. Not here: formats and
//! escapes (`src/access_log/tests.rs`).

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Origin, Proxy, Setup, Wire, closed, next, poll, refused};
use crate::tls::Site;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const FILE: &str = "[log]\naccess = \"FOLDER/access.log\"";

/// Whole lines of the log file so far.
fn text(proxy: &Proxy) -> String {
    let mut text = fs::read_to_string(proxy.folder().join("access.log")).unwrap_or_default();
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The lines of the log file when there are so many.
fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    let text = poll(|| Some(text(proxy)).filter(|text| text.lines().count() >= count));
    let lines = parsed(&text);
    assert_eq!(lines.len(), count, "{text}");
    lines
}

/// A number of `cairn status --json`.
fn counted(proxy: &Proxy, what: &str) -> u64 {
    proxy.status()["access_log"][what].as_u64().unwrap()
}

/// Milliseconds under a key.
fn milliseconds(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn a_line_tells_what_has_happened() {
    let origin = Origin::answering(OK);
    let setup =
        Setup::to(&[&origin.address]).route("name = \"main\"").more(FILE).more("headers = [\"X-Tenant\", \"x-none\"]");
    let proxy = setup.start();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut client = proxy.client();
    let fields = format!(
        "Host: api.test:80\r\nUser-Agent: x/1 \"y\"\r\nReferer: http://r/?s=1\r\nX-Tenant: t\r\n\
         Traceparent: 00-{trace}-b7ad6b7169203331-01\r\n"
    );
    client.send(format!("POST /a/b?c=d HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\n12345"));
    let answer = client.message().unwrap();
    assert_eq!(answer.status(), 200);
    client.send(GET);
    assert_eq!(client.message().unwrap().status(), 200);
    let port = client.stream.local_addr().unwrap().port();
    let lines = lines(&proxy, 2);
    for (key, expected) in [
        ("client", json!("127.0.0.1")),
        ("client_port", json!(port)),
        ("listener", json!("public")),
        ("route", json!("main")),
        ("cluster", json!("app")),
        ("endpoint", json!(origin.address)),
        ("attempts", json!(1)),
        ("method", json!("POST")),
        ("authority", json!("api.test:80")),
        ("path", json!("/a/b")),
        ("query", json!("c=d")),
        ("protocol", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("reason", Value::Null),
        ("received_bytes", json!(5)),
        ("sent_bytes", json!(answer.head.len() + answer.body.len())),
        ("tls_version", Value::Null),
        ("trace_id", json!(trace)),
        ("referer", json!("http://r/?s=1")),
        ("user_agent", json!("x/1 \"y\"")),
        ("headers", json!({ "x-tenant": "t" })),
    ] {
        assert_eq!(lines[0][key], expected, "{key} in {}", lines[0]);
    }
    assert_eq!(lines[0]["request_id"].as_str().unwrap().len(), 32);
    let [connect, first, total, own] =
        ["connect_ms", "first_byte_ms", "total_ms", "own_ms"].map(|key| milliseconds(&lines[0], key));
    assert!(connect <= first && first <= total && 0.0 < own && own <= total, "{}", lines[0]);
    // The second one went over the same connection to the origin.
    assert_eq!((&lines[1]["path"], &lines[1]["connect_ms"]), (&json!("/a"), &Value::Null));
    assert_ne!(lines[0]["request_id"], lines[1]["request_id"]);
}

#[test]
fn times_are_those_of_who_was_waited_for() {
    let origin = Origin::start(|mut wire, _| {
        while wire.message().is_some() {
            thread::park_timeout(Duration::from_millis(120));
            wire.send(OK);
        }
    });
    let proxy = Setup::to(&[&origin.address]).more(FILE).start();
    let mut client = proxy.client();
    client.send("GET /a HTTP/1.1\r\n");
    thread::park_timeout(Duration::from_millis(150));
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.message().unwrap().status(), 200);
    let line = &lines(&proxy, 1)[0];
    let [head, first, total, own] =
        ["head_ms", "first_byte_ms", "total_ms", "own_ms"].map(|key| milliseconds(line, key));
    // The wait of a test may end a little early.
    assert!(head > 100.0 && first > head + 100.0 && total >= first && own < 100.0, "{line}");
}

/// A wait for a place is neither the origin's time nor cairn's.
#[test]
fn a_wait_in_a_queue_has_a_time_of_its_own() {
    let (sender, held) = channel();
    let allowed = Arc::new(AtomicUsize::new(0));
    let (its, read) = (Arc::clone(&allowed), AtomicUsize::new(0));
    let origin = Origin::start(move |mut wire, _| {
        while wire.message().is_some() {
            let number = read.fetch_add(1, Ordering::SeqCst);
            // The test may be over.
            let _ = sender.send(());
            poll(|| (its.load(Ordering::SeqCst) > number).then_some(()));
            wire.send(OK);
        }
    });
    let limits = "limits = { requests = 1, queue = 1, queue_timeout = \"5s\" }";
    let proxy = Setup::to(&[&origin.address]).managed().cluster(limits).more(FILE).start();
    let [mut first, mut second, mut gone] = [(); 3].map(|()| proxy.client());
    first.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    next(&held);
    second.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    poll(|| (proxy.status()["clusters"][0]["limits"]["waiting"] == 1).then_some(()));
    gone.send("GET /third HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(gone.message().unwrap().reason(), "queue_full");
    thread::park_timeout(Duration::from_millis(150));
    allowed.store(2, Ordering::SeqCst);
    assert_eq!(first.message().unwrap().status(), 200);
    assert_eq!(second.message().unwrap().status(), 200);
    let lines = lines(&proxy, 3);
    let line = |path: &str| lines.iter().find(|line| line["path"] == path).unwrap();
    assert_eq!((&line("/third")["reason"], &line("/third")["cluster"]), (&json!("queue_full"), &json!("app")));
    assert!(line("/first")["queue_ms"].is_null(), "{lines:?}");
    let [queue, first_byte] = ["queue_ms", "first_byte_ms"].map(|key| milliseconds(line("/second"), key));
    assert!(queue > 100.0 && queue <= first_byte, "{lines:?}");
}

/// Requests that are answered here: the log has the status and the reason that the client is told.
#[test]
fn every_answer_made_here_has_its_reason() {
    let (_held, refusing) = closed();
    let closing = Origin::start(|mut wire, _| drop(wire.message()));
    let garbage = Origin::answering("HTTP/1.1 2x0 OK\r\n\r\n");
    let switching = Origin::answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let silent = Origin::start(|mut wire, _| drop(wire.message().map(|_| wire.end())));
    let ok = Origin::answering(OK);
    let to = |name: &str, address: &str| {
        format!(
            "[[route]]\nhosts = [\"a\"]\npath = \"/{name}\"\ncluster = \"{name}\"\ntimeout = \"100ms\"\n\
             [[cluster]]\nname = \"{name}\"\nendpoints = [\"{address}\"]\n"
        )
    };
    let clusters = [
        to("refusing", &refusing),
        to("closing", &closing.address),
        to("garbage", &garbage.address),
        to("switching", &switching.address),
        to("silent", &silent.address),
    ];
    let here = "[[route]]\nhosts = [\"a\"]\npath = \"/moved\"\nredirect = { path = \"/\" }\n\
                [[route]]\nhosts = [\"a\"]\npath = \"/fixed\"\nrespond = { status = 418 }";
    let setup = Setup::to(&[&ok.address])
        .route("hosts = [\"a\"]")
        .listener("limits.body_bytes = 10\ntimeouts.header = \"100ms\"");
    let proxy = setup.more(&clusters.concat()).more(here).more(FILE).start();
    let cases = [
        ("GET / HTTP/1.1\r\nHost: other\r\n\r\n", "no_route", "/"),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "ambiguous_path", "/%00"),
        ("GET / HTTP/1.1\r\n\r\n", "missing_host", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "", ""),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "", ""),
        ("GET / HTTP/9.1\r\nHost: a\r\n\r\n", "", ""),
        ("GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "", ""),
        ("TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n", "method_not_allowed", "/x"),
        ("OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", "max_forwards", "/x"),
        ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", "body_too_large", "/x"),
        ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "malformed_body", "/x"),
        ("GET /half HTTP/1.1\r\nHost: a\r\n", "head_timeout", ""),
        ("GET /refusing HTTP/1.1\r\nHost: a\r\n\r\n", "connect_failed", "/refusing"),
        ("GET /closing HTTP/1.1\r\nHost: a\r\n\r\n", "upstream_closed", "/closing"),
        ("GET /garbage HTTP/1.1\r\nHost: a\r\n\r\n", "", "/garbage"),
        ("GET /switching HTTP/1.1\r\nHost: a\r\n\r\n", "unexpected_switch", "/switching"),
        ("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n", "response_timeout", "/silent"),
        ("GET /moved HTTP/1.1\r\nHost: a\r\n\r\n", "redirect", "/moved"),
        ("GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n", "respond", "/fixed"),
    ];
    for (number, (request, reason, path)) in cases.into_iter().enumerate() {
        let answer = proxy.ask(request);
        let lines = lines(&proxy, number + 1);
        let line = lines.last().unwrap();
        let told = if matches!(reason, "redirect" | "respond") { reason.to_owned() } else { answer.reason() };
        assert!(!told.is_empty() && (reason.is_empty() || told == reason), "{request}: {told}");
        assert_eq!((&line["status"], &line["reason"]), (&json!(answer.status()), &json!(told)), "{request}: {line}");
        assert_eq!(line["path"].as_str().unwrap_or_default(), path, "{request}: {line}");
        if answer.status() >= 502 && !path.is_empty() {
            assert_eq!(line["cluster"], json!(path[1..]), "{line}");
            assert!(line["endpoint"].is_string(), "{line}");
        }
    }
}

/// Responses that are cut: the status is what the client has got, the reason says who has cut.
#[test]
fn every_cut_has_its_reason() {
    let (sender, held) = channel();
    let origin = Origin::start(move |mut wire, _| {
        let Some(request) = wire.message() else { return };
        if request.line().contains("/short") {
            return wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        }
        if request.line().contains("/begun") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        }
        // The test may be over.
        let _ = sender.send(());
        wire.end();
    });
    let proxy = Setup::to(&[&origin.address]).more(FILE).start();
    for (number, (path, status, reason)) in
        [("/short", 200, "malformed_response_body"), ("/begun", 200, "client_gone"), ("/none", 0, "client_gone")]
            .into_iter()
            .enumerate()
    {
        let mut client = proxy.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if path != "/none" {
            client.head().unwrap();
        }
        if path == "/short" {
            client.end();
        } else {
            next(&held);
            client.abort();
        }
        let lines = lines(&proxy, number + 1);
        let line = lines.last().unwrap();
        assert_eq!(
            (&line["path"], &line["status"], &line["reason"]),
            (&json!(path), &json!(status), &json!(reason)),
            "{line}"
        );
        assert_eq!(line["endpoint"], json!(origin.address));
    }
}

/// With two workers, aborts, and reloads in between.
#[test]
fn each_exchange_is_one_line() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 150;
    let (sender, held) = channel();
    let origin = Origin::start(move |mut wire, _| {
        while let Some(request) = wire.message() {
            if request.line().contains("/held") {
                // The test may be over.
                let _ = sender.send(());
                wire.end();
                return;
            }
            wire.send(OK);
        }
    });
    let setup = Setup::to(&[&origin.address]).managed().more(FILE);
    let config = setup.text().replace("count = 1", "count = 2");
    let mut proxy = Proxy::start(&config, &[]);
    let mut expected = HashSet::new();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let address = proxy.address("public").to_owned();
            scope.spawn(move || {
                // A few connections each, so that both workers serve.
                for part in 0..REQUESTS / 10 {
                    let mut client = Wire::connect(&address);
                    for request in 0..10 {
                        client.send(format!("GET /{number}/{part}/{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
                        assert_eq!(client.message().unwrap().status(), 200);
                    }
                }
            });
        }
        for number in 0..10 {
            let more = format!("[[route]]\nname = \"more-{number}\"\npath = \"/more\"\nrespond = {{}}\n");
            proxy.reload(&format!("{config}{more}"));
            let mut client = proxy.client();
            client.send(format!("GET /held/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
            next(&held);
            client.abort();
            expected.insert(format!("/held/{number}"));
        }
    });
    for number in 0..CLIENTS {
        for part in 0..REQUESTS / 10 {
            expected.extend((0..10).map(|request| format!("/{number}/{part}/{request}")));
        }
    }
    poll(|| (counted(&proxy, "queued") == expected.len() as u64).then_some(()));
    assert_eq!((counted(&proxy, "dropped"), counted(&proxy, "lost")), (0, 0));
    // The end of the process writes what is left.
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let lines = parsed(&text(&proxy));
    assert_eq!(lines.len(), expected.len());
    let paths: HashSet<_> = lines.iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    assert!(paths == expected);
    let ids: HashSet<_> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), lines.len());
    assert!(lines.iter().all(|line| (line["status"] == 200) != (line["reason"] == "client_gone")));
}

#[test]
fn a_reader_that_is_stuck_makes_nobody_wait() {
    let origin = Origin::answering(OK);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let setup = Setup::to(&[&origin.address]).managed().more("[log]\naccess = \"stdout\"");
    let mut proxy = Proxy::start_to(Stdio::from(writer), &setup.text());
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n", "p".repeat(1000), "u".repeat(500));
    let mut asked = 0;
    let mut client = proxy.client();
    let mut slowest = Duration::ZERO;
    while counted(&proxy, "dropped") == 0 {
        for _ in 0..100 {
            let begun = Instant::now();
            client.send(&request);
            assert_eq!(client.message().unwrap().status(), 200);
            slowest = slowest.max(begun.elapsed());
            asked += 1;
        }
        assert!(asked < 20_000, "nothing is dropped");
    }
    // Half of what a write that blocks would cost: for ever.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // Orders are answered, and reloads go on.
    assert!(proxy.verb(&["log", "reopen"]).status.success());
    proxy.reload(&format!("{}[[route]]\nname = \"new\"\npath = \"/new\"\nrespond = {{}}\n", setup.text()));
    assert_eq!(proxy.ask("GET /new HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    asked += 1;
    let dropped = counted(&proxy, "dropped");
    assert_eq!(counted(&proxy, "queued") + dropped, asked);
    // It is read again.
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert_eq!(parsed(&reading.join().unwrap()).len() as u64, asked - dropped);
}

/// The end of the process waits for a reader, but not for ever.
#[test]
fn a_reader_that_is_gone_for_good_keeps_no_process_alive() {
    let origin = Origin::answering(OK);
    let (reader, writer) = std::io::pipe().unwrap();
    let setup = Setup::to(&[&origin.address]).more("[log]\nformat = \"combined\"");
    let mut proxy = Proxy::start_to(Stdio::from(writer), &setup.text());
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n", "p".repeat(1000), "u".repeat(500));
    let mut client = proxy.client();
    for _ in 0..200 {
        client.send(&request);
        assert_eq!(client.message().unwrap().status(), 200);
    }
    drop(client);
    proxy.signal(Signal::TERM);
    assert!(proxy.said("cairn: access log: ").contains(" lines were not taken before the end"));
    assert!(proxy.wait().success());
    drop(reader);
    // One that closes the pipe costs lines, and nothing else.
    let (reader, writer) = std::io::pipe().unwrap();
    let proxy = Proxy::start_to(Stdio::from(writer), &setup.managed().text());
    drop(reader);
    assert_eq!(proxy.ask(GET).status(), 200);
    proxy.said("cairn: access log: lines are lost: Broken pipe");
    poll(|| (counted(&proxy, "lost") == 1).then_some(()));
    assert_eq!(proxy.ask(GET).status(), 200);
}

#[test]
fn a_renamed_file_is_left_when_it_is_told() {
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).managed().more(FILE).start();
    let folder = proxy.folder();
    for (number, reopen) in ["signal", "verb"].into_iter().enumerate() {
        let old = folder.join(format!("old.{number}"));
        assert_eq!(proxy.ask(GET).status(), 200);
        lines(&proxy, 1);
        fs::rename(folder.join("access.log"), &old).unwrap();
        assert_eq!(proxy.ask(GET).status(), 200);
        poll(|| (fs::read_to_string(&old).unwrap().lines().count() == 2).then_some(()));
        if reopen == "signal" {
            proxy.signal(Signal::USR1);
            proxy.said("cairn: reopened ");
        } else {
            let output = proxy.verb(&["log", "reopen"]);
            assert!(output.status.success());
            assert!(String::from_utf8(output.stdout).unwrap().starts_with("reopened "));
        }
        assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 2);
        assert!(folder.join("access.log").exists());
    }
    // Where it cannot be opened, the old one is written on.
    fs::remove_file(folder.join("access.log")).unwrap();
    fs::create_dir(folder.join("access.log")).unwrap();
    let output = proxy.verb(&["log", "reopen"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the old file is written on"));
    assert_eq!(proxy.ask(GET).status(), 200);
    poll(|| (counted(&proxy, "queued") == 5).then_some(()));
    assert_eq!(counted(&proxy, "lost"), 0);
}

#[test]
fn what_a_client_sends_forges_no_line() {
    let origin = Origin::answering(OK);
    let setup = |format: &str| Setup::to(&[&origin.address]).more(FILE).more(&format!("format = {format:?}"));
    let request =
        "GET /\"a'\\b HTTP/1.1\r\nHost: a\r\nUser-Agent: \" x=\"y\" \\ \u{e9}\u{202e}\t1\r\nReferer: \u{9b}2J\r\n\r\n";
    for (format, expected) in [
        ("json", "\"user_agent\":\"\\\" x=\\\"y\\\" \\\\ é\\u202e\\t1\""),
        ("logfmt", "user_agent=\"\\\" x=\\\"y\\\" \\\\ é\\u202e\\t1\""),
        ("combined", "\"\\xc2\\x9b2J\" \"\\x22 x=\\x22y\\x22 \\x5c \\xc3\\xa9\\xe2\\x80\\xae\\x091\""),
    ] {
        let proxy = setup(format).start();
        let mut client = proxy.client();
        client.send(request);
        // Some of it may be refused; what is logged is safe in any case.
        client.message().unwrap();
        let text = poll(|| Some(text(&proxy)).filter(|text| !text.is_empty()));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(expected), "{text}");
        if format == "json" {
            parsed(&text);
        }
    }
}

#[test]
fn a_sample_has_what_matters_and_secrets_are_left_out() {
    let failing = Origin::answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let slow = Origin::start(|mut wire, _| {
        while wire.message().is_some() {
            thread::park_timeout(Duration::from_millis(300));
            wire.send(OK);
        }
    });
    let origin = Origin::answering(OK);
    let to = |name: &str, address: &str| {
        format!(
            "[[route]]\npath = \"/{name}\"\ncluster = \"{name}\"\n[[cluster]]\nname = \"{name}\"\nendpoints = [\"{address}\"]\n"
        )
    };
    let clusters = to("failing", &failing.address) + &to("slow", &slow.address);
    let setup = Setup::to(&[&origin.address]).managed().more(&clusters).more(FILE);
    let proxy = setup.clone().more("sample = 0.0\nslow = \"200ms\"\nquery = \"redacted\"").start();
    let ask =
        |path: &str| proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nReferer: http://a/?t=1\r\n\r\n")).status();
    for (path, status) in
        [("/ok", 200), ("/failing?token=s3cret&x", 503), ("/ok", 200), ("/slow?a=b", 200), ("/ok", 200)]
    {
        assert_eq!(ask(path), status);
    }
    let found = lines(&proxy, 2);
    let told =
        |line: &Value| [&line["path"], &line["query"], &line["referer"]].map(|text| text.as_str().unwrap().to_owned());
    assert_eq!(told(&found[0]), ["/failing", "token=*&*", "http://a/"]);
    assert_eq!(told(&found[1]), ["/slow", "a=*", "http://a/"]);
    // Other rules hold for what begins after a reload.
    proxy.reload(&setup.clone().more("filter = { statuses = [\"404\"] }\nquery = \"off\"").text());
    assert_eq!([ask("/ok?a=b"), ask("/slow")], [200, 200]);
    proxy.reload(&setup.clone().more("format = '${request.path} ${request.query}'").text());
    assert_eq!(ask("/ok?a=b"), 200);
    poll(|| text(&proxy).ends_with("}\n/ok a=b\n").then_some(()));
    // And none at all, then again.
    proxy.reload(&setup.clone().more("").text().replace("[log]\naccess = \"FOLDER/access.log\"", ""));
    assert_eq!(ask("/ok"), 200);
    proxy.reload(&setup.text());
    assert_eq!(ask("/last"), 200);
    poll(|| text(&proxy).contains("/last").then_some(()));
    assert_eq!(text(&proxy).lines().count(), 4);
}

#[test]
fn a_log_that_cannot_be_opened_starts_nothing_and_changes_nothing() {
    let origin = Origin::answering(OK);
    let setup = |access: &str| Setup::to(&[&origin.address]).managed().more(&format!("[log]\naccess = {access:?}"));
    let places = [
        ("FOLDER/nowhere/a.log", "No such file or directory"),
        ("FOLDER", "Is a directory"),
        ("syslog:FOLDER/nowhere", "No such file or directory"),
    ];
    for (access, why) in places {
        let output = refused(&setup(access).text());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the access log cannot be written to ") && said.contains(why), "{said}");
    }
    let proxy = setup("FOLDER/access.log").start();
    for (access, why) in places {
        proxy.configure(&setup(access).text());
        let output = proxy.verb(&["reload"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("version 1 is served on") && said.contains(why), "{said}");
    }
    assert_eq!(proxy.ask(GET).status(), 200);
    lines(&proxy, 1);
}

#[test]
fn what_tls_has_shown_is_told() {
    let site = Site::new();
    let origin = Origin::answering(OK);
    let proxy = Setup::to(&[&origin.address]).listener(&site.keys(&["a"])).more(FILE).start();
    let mut wire = site.client().connect(&proxy, "public");
    for _ in 0..2 {
        wire.send("GET /path HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(wire.message().unwrap().status(), 200);
    }
    assert_eq!(proxy.ask(GET).reason(), "tls_required");
    let lines = lines(&proxy, 3);
    for line in &lines[..2] {
        assert_eq!((&line["tls_version"], &line["tls_sni"]), (&json!("TLSv1.3"), &json!("a.test")), "{line}");
    }
    // The handshake was for the first one.
    assert!(milliseconds(&lines[0], "tls_ms") > 0.0 && lines[1]["tls_ms"].is_null());
    assert_eq!((&lines[2]["reason"], &lines[2]["tls_version"]), (&json!("tls_required"), &Value::Null));
}

/// A tunnel is one exchange, though it holds nothing of the configuration that it began under.
#[test]
fn a_tunnel_is_a_line_when_it_ends() {
    let origin = Origin::start(|mut wire, _| {
        if wire.message().is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhi");
            wire.end();
        }
    });
    let setup = Setup::to(&[&origin.address]).managed().route("name = \"old\"").more(FILE);
    let proxy = setup.start();
    let mut client = proxy.client();
    client.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let head = client.head().unwrap();
    proxy.reload(&setup.text().replace("name = \"old\"", "name = \"new\"").replace(&origin.address, "127.0.0.1:9"));
    client.send("bytes");
    client.finish();
    client.end();
    let line = &lines(&proxy, 1)[0];
    assert_eq!(
        (&line["status"], &line["route"], &line["endpoint"]),
        (&json!(101), &json!("old"), &json!(origin.address))
    );
    assert_eq!((&line["sent_bytes"], &line["reason"]), (&json!(head.len() + 2), &Value::Null));
}

#[test]
fn events_are_as_loud_as_they_are_meant_to_be() {
    let setup = |keys: &str| Setup::to(&["127.0.0.1:9"]).managed().more(&format!("[log]\naccess = \"off\"\n{keys}"));
    let proxy = setup("level = \"warn\"").start();
    proxy.configure(&setup("broken = 1").text());
    assert!(!proxy.verb(&["reload"]).status.success());
    let line = proxy.line().unwrap();
    assert!(line.contains(" error cairn: the reload is refused"), "{line}");
    let proxy = setup("events = \"json\"").start();
    proxy.configure(&setup("broken = 1").text());
    assert!(!proxy.verb(&["reload"]).status.success());
    let event: Value = serde_json::from_str(&proxy.line().unwrap()).unwrap();
    assert_eq!(event["level"], "error");
    assert!(event["message"].as_str().unwrap().starts_with("the reload is refused, version 1 is served on:\n"));
}
