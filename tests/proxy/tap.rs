//! Exchanges as those see them who watch: which ones, what of them, and for how long. Not here: what a worker hands over
//! (`src/access_log/tap.rs`).

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, Wire, poll};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: id=s3cret\r\nX-Kind: plain\r\n\r\nok";

/// A running `cairn tap --json`; killed when dropped.
struct Tap {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Tap {
    /// Starts it, and waits until workers hand exchanges over.
    fn of(proxy: &Proxy, arguments: &[&str]) -> Self {
        let mut command = proxy.asking(&[&["tap", "--json"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut tap = Self { child, lines };
        assert_eq!(tap.event().unwrap()["begun"], 1);
        tap
    }

    fn event(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn exchange(&mut self) -> Value {
        self.event().unwrap()["exchange"].take()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field<'a>(fields: &'a Value, name: &str) -> Vec<&'a str> {
    let own = |field: &&'a Value| field[0].as_str().unwrap().eq_ignore_ascii_case(name);
    fields.as_array().unwrap().iter().filter(own).map(|field| field[1].as_str().unwrap()).collect()
}

fn proxy(origin: &Origin) -> Proxy {
    let more = "[[route]]\nname = \"gone\"\npath = \"/gone\"\nrespond = { status = 503 }\n";
    Setup::to(&[&origin.address]).route("name = \"app\"").more(more).managed().start()
}

#[test]
fn both_heads_are_shown_and_secrets_are_not() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin);
    let mut tap = Tap::of(&proxy, &["--limit", "3"]);
    let head = "GET /a?access_token=s3cret&b=1 HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic s3cret\r\nCookie: s3cret\r\n\
                Accept: text/x-kind\r\nX-Api-Key: s3cret\r\nReferer: http://b/?token=s3cret\r\n\r\n";
    assert_eq!(proxy.ask(head).status(), 200);
    let shown = tap.exchange();
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    for (member, value) in [
        ("method", "GET"),
        ("authority", "a.test"),
        ("path", "/a"),
        ("query", "access_token=***&b=1"),
        ("protocol", "HTTP/1.1"),
        ("route", "app"),
        ("cluster", "app"),
    ] {
        assert_eq!(shown[member], value, "{shown}");
    }
    assert_eq!((&shown["status"], &shown["attempts"][0]["endpoint"]), (&200.into(), &origin.address.as_str().into()));
    let request = &shown["request_fields"];
    for (name, value) in [
        ("accept", "text/x-kind"),
        ("authorization", "***"),
        ("cookie", "***"),
        ("x-api-key", "***"),
        ("referer", "http://b/?token=***"),
    ] {
        assert_eq!(field(request, name), [value], "{shown}");
    }
    let response = &shown["response_fields"];
    assert_eq!((field(response, "x-kind"), field(response, "set-cookie")), (vec!["plain"], vec!["***"]), "{shown}");
    // An answer made here, and a request that could not be read.
    assert_eq!(proxy.ask("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n").status(), 503);
    let local = tap.exchange();
    assert_eq!((&local["status"], &local["route"], &local["reason"]), (&503.into(), &"gone".into(), &"respond".into()));
    assert_eq!(field(&local["response_fields"], "content-length").len(), 1, "{local}");
    assert_eq!(proxy.ask("GET / HTTP/1.1\r\nHost: a\r\nBad name: x\r\n\r\n").status(), 400);
    let unread = tap.exchange();
    assert_eq!((&unread["status"], &unread["protocol"]), (&400.into(), &"".into()), "{unread}");
    // With the limit it ends.
    assert_eq!(tap.event(), None);
    assert!(tap.child.wait().unwrap().success());
}

#[test]
fn a_stream_of_http2_is_shown_as_a_request_is() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin);
    let mut tap = Tap::of(&proxy, &[]);
    let answer = crate::http2::ask(&proxy, "/two", &[("cookie", "s3cret"), ("x-one", "1")]);
    assert_eq!(answer, 200);
    let shown = tap.exchange();
    assert_eq!((&shown["protocol"], &shown["path"]), (&"HTTP/2".into(), &"/two".into()), "{shown}");
    let request = &shown["request_fields"];
    assert_eq!((field(request, "cookie"), field(request, "x-one")), (vec!["***"], vec!["1"]), "{shown}");
    assert_eq!(field(&shown["response_fields"], "x-kind"), ["plain"], "{shown}");
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin);
    let mut failed = Tap::of(&proxy, &["--status", "5xx", "--limit", "1"]);
    let mut routed = Tap::of(&proxy, &["--route", "app", "--limit", "1"]);
    let mut slow = Tap::of(&proxy, &["--slower", "1h", "--limit", "1"]);
    for path in ["/gone", "/a"] {
        proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    assert_eq!((&failed.exchange()["path"], &routed.exchange()["path"]), (&"/gone".into(), &"/a".into()));
    assert_eq!((failed.event(), routed.event()), (None, None));
    // Nothing was slow: what comes next is the end of the process, which does not wait for those who watch.
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(slow.event(), None);
}

#[test]
fn a_few_can_watch_and_a_place_is_free_again_when_one_goes() {
    let origin = Origin::answering(OK);
    let proxy = proxy(&origin);
    let mut taps: Vec<_> = (0..4).map(|_| Tap::of(&proxy, &[])).collect();
    let fifth = proxy.verb(&["tap", "--limit", "1"]);
    assert_eq!(String::from_utf8_lossy(&fifth.stderr), "4 watch already; end one of them\n");
    assert!(!fifth.status.success());
    taps.pop();
    let head = || {
        let stream = UnixStream::connect(proxy.folder().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = Wire::over(stream);
        wire.send("GET /tap HTTP/1.1\r\nHost: cairn\r\n\r\n");
        let head = wire.head().unwrap();
        head.starts_with("HTTP/1.1 200 ").then_some(wire)
    };
    poll(head);
    // Not over the address, and with words that are known only.
    let mut wire = Wire::connect(proxy.admin());
    wire.send("GET /tap HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(wire.message().unwrap().status(), 403);
    for wrong in [["--status", "6xx"], ["--slower", "soon"], ["--limit", "0"]] {
        assert_eq!(proxy.verb(&[&["tap"][..], &wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

/// Who does not read is told how many were not shown, and nobody waits.
#[test]
fn what_is_not_taken_is_counted() {
    const REQUESTS: usize = 3000;
    let proxy = Setup::to(&["127.0.0.1:1"])
        .route("path = \"/none\"")
        .more("[[route]]\nname = \"here\"\nrespond = { status = 204 }\n");
    let proxy = proxy.managed().start();
    let stream = UnixStream::connect(proxy.folder().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire::over(stream);
    wire.send("GET /tap HTTP/1.1\r\nHost: cairn\r\n\r\n");
    wire.until(b"{\"begun\":1}\n").unwrap();
    let mut client = proxy.client();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(1500));
    for _ in 0..REQUESTS {
        client.send(&request);
        assert_eq!(client.message().unwrap().status(), 204);
    }
    let (mut shown, mut dropped) = (0, 0);
    while shown + dropped < REQUESTS as u64 {
        let line = wire.until(b"\n").unwrap();
        let Some(json) = line.find('{').map(|at| &line[at..]) else { continue };
        match serde_json::from_str::<Value>(json.trim_end()) {
            Ok(event) if event["dropped"].is_u64() => dropped = event["dropped"].as_u64().unwrap(),
            Ok(event) => shown += u64::from(event["exchange"].is_object()),
            Err(error) => panic!("{error}: {json}"),
        }
    }
    assert!(dropped > 0 && shown > 0, "{shown} shown, {dropped} not");
}
