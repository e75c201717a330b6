//! `cairn explain` says what the data path does: random requests get the answers that it foretells.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::mpsc::Receiver;

use crate::harness::{Message, Origin, Proxy, next};

const LISTENERS: [&str; 6] = [
    "",
    "strict_paths = false",
    "encoded_slash = \"decode\"\nnormalize_path = true",
    "strict_paths = false\nencoded_slash = \"refuse\"\ntrusted_proxies = [\"127.0.0.0/8\"]",
    "trusted_proxies = [\"127.0.0.0/8\"]\nlimits.body_bytes = 10",
    "trusted_proxies = [\"10.0.0.0/8\"]\nstrict_paths = false\nencoded_slash = \"decode\"",
];
/// What decides; each answers with its name.
const ROUTES: [&str; 24] = [
    "",
    "hosts = [\"a.example\"]",
    "hosts = [\"*.example\"]\npath_prefix = \"/a\"",
    "hosts = [\"[0::1]\"]",
    "path_prefix = \"/a\"",
    "path = \"/a/b\"",
    "path_prefix = \"/a/b\"\nmethods = [\"GET\", \"POST\"]",
    "path = \"/a/%c3%a9\"",
    "path_regex = \"/b/.*%2f.*\"",
    "path_prefix = \"/t\"\nmethods = [\"TRACE\", \"CONNECT\"]",
    "methods = [\"CONNECT\"]\nhosts = [\"tunnel.example\"]",
    "path_prefix = \"/a\"\nquery = { d = \"1\" }",
    "path_prefix = \"/a\"\nheaders = { x = { regex = \"[0-9]+\" } }",
    "path_prefix = \"/b\"\nquery = { d = { present = true } }",
    "path_prefix = \"/b\"\nheaders = { x = { present = true } }",
    "path_prefix = \"/b\"\nheaders = { x = \"1\", x-forwarded-proto = { present = false } }",
    "headers = { x_y = \"1\" }",
    "path_prefix = \"/t\"\nheaders = { x-real-ip = \"10.0.0.1\" }",
    "path_prefix = \"/t\"\nheaders = { host = { regex = \".*example\" }, forwarded = { present = false } }",
    "headers = { upgrade = \"websocket\" }",
    "path_prefix = \"/a\"\nclient_ip = [\"10.0.0.0/8\"]",
    "path_prefix = \"/b\"\nnot = { client_ip = [\"127.0.0.0/8\"], methods = [\"GET\"] }",
    "path_prefix = \"/a\"\ncookies = { a = { regex = \"[0-9]\" } }\nscheme = \"http\"",
    "path_prefix = \"/t\"\nscheme = \"https\"\nnot = { cookies = { a = { present = true } } }",
];
const FORWARDING: &str = "[[route]]\nname = \"sent\"\npath_prefix = \"/sent\"\ncluster = \"app\"\n\
    [[route]]\nname = \"rewritten\"\npath_prefix = \"/pre\"\ncluster = \"app\"\nrewrite = { path_prefix = \"/new\", host = \"inner\" }\n\
    [[route]]\nname = \"moved\"\npath_prefix = \"/moved\"\nredirect = { host = \"b.example\" }\n\
    [[route]]\nname = \"here\"\npath = \"/here\"\nhosts = [\"*.example\"]\nredirect = { scheme = \"https\" }\n\
    [[route]]\nname = \"elsewhere\"\npath = \"/else\"\nredirect = { path = \"/a\" }\n";

const METHODS: [&str; 8] = ["GET", "GET", "POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PURGE"];
const HOSTS: [&str; 6] = ["a.example", "A.Example:80", "b.a.example", "other", "[::1]:81", "[0:0:0:0:0:0:0:1]"];
const PARTS: [&str; 20] = [
    "/a", "/b", "/t", "/sent", "/pre", "/moved", "/here", "/else", "/..", "/.", "//", "/%2e%2E", "%2f", "\\", "%5c",
    "/%c3%A9", "/%7e", "%00", "/x;y", "%zz",
];
const QUERIES: [&str; 6] = ["", "", "?", "?d=1", "?d=2&d=%31", "?e=/../"];
const FIELDS: [&str; 16] = [
    "X:1",
    "X:a",
    "X:1",
    "Connection:x",
    "Connection:upgrade",
    "Upgrade:websocket",
    "X-Forwarded-Proto:https",
    "X-Real-IP:10.0.0.1",
    "X-Forwarded-For:10.0.0.1",
    "Cookie:b=2; a=1",
    "Forwarded:for=10.0.0.1",
    "X_Y:1",
    "Max-Forwards:0",
    "Max-Forwards:3",
    "Content-Length:11",
    "Accept:x",
];

/// A xorshift generator: the requests are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

fn config(listener: &str, origin: &Origin) -> String {
    let mut text = format!(
        "watch = false\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n[workers]\ncount = 1\n[[listener]]\nname = \"public\"\n\
         bind = \"127.0.0.1:0\"\n{listener}\n{FORWARDING}[[cluster]]\nname = \"app\"\nendpoints = [\"{}\"]\n",
        origin.address
    );
    // Without the first, which takes everything, some requests find no route.
    let first = usize::from(listener.contains("strict_paths"));
    for (number, route) in ROUTES.iter().enumerate().skip(first) {
        let answer = format!("respond = {{ body = \"route-{number}\", headers = {{ x-route = \"route-{number}\" }} }}");
        write!(text, "[[route]]\nname = \"route-{number}\"\n{route}\n{answer}\n").unwrap();
    }
    text
}

/// Status, and what tells why: the route, location or reason; for what is forwarded, the path and host that are sent.
type Told = (u16, String);

/// What was done; true: it was forwarded.
fn done(answer: &Message, requests: &Receiver<Message>) -> (Told, bool) {
    let reason = answer.field("proxy-status").map(|_| answer.reason());
    let made_here = answer.field("location").or(answer.field("x-route")).or(reason);
    let forwarded = made_here.is_none();
    let why = made_here.unwrap_or_else(|| {
        let sent = next(requests);
        let target = sent.line().split(' ').nth(1).unwrap();
        format!("{} {}", target.split('?').next().unwrap(), sent.field("host").unwrap())
    });
    ((answer.status(), why), forwarded)
}

fn foretold(proxy: &Proxy, method: &str, target: &str, host: &str, fields: &[&str]) -> Told {
    let url = if method == "CONNECT" { target } else { &format!("http://{host}{target}") };
    let mut arguments = vec!["explain", method, if target == "*" { "*" } else { url }];
    let host_field = format!("host:{host}");
    fields.iter().for_each(|field| arguments.extend(["-H", field]));
    if target == "*" {
        arguments.extend(["-H", &host_field]);
    }
    let output = proxy.verb(&arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |label: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(label))?;
        Some(line[10..].to_owned())
    };
    let Some(answer) = row("answer") else {
        let sends = row("sends").map(|sends| sends.replace(", host ", " "));
        assert!(row("cluster").is_some(), "{arguments:?}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        return (200, sends.unwrap_or_else(|| format!("{} {host}", target.split('?').next().unwrap())));
    };
    let (status, why) = answer.split_once(", ").unwrap();
    let why = why.strip_prefix("location ").unwrap_or(why);
    let why = match why {
        bytes if bytes.ends_with("bytes from here") => row("route").unwrap().split(',').next().unwrap().to_owned(),
        other => other.to_owned(),
    };
    (status.parse().unwrap(), why)
}

/// One request: method, target, host, fields.
fn request(random: &mut Random) -> (&'static str, String, String, Vec<&'static str>) {
    let (method, host) = (random.of(&METHODS), random.of(&HOSTS));
    let path: String = (0..=random.below(4)).map(|_| random.of(&PARTS)).collect();
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let target = match method {
        "CONNECT" => random.of(&["a.example:80", "tunnel.example:443", "[::1]:80"]).to_owned(),
        "OPTIONS" if random.below(3) == 0 => "*".to_owned(),
        _ => path + random.of(&QUERIES),
    };
    let fields: Vec<_> = (0..random.below(5)).map(|_| random.of(&FIELDS)).collect();
    let host = if method == "CONNECT" { target.clone() } else { host.to_owned() };
    (method, target, host, fields)
}

#[test]
fn what_is_explained_is_what_is_done() {
    let mut random = Random(0x5eed_0000_cafe_f00d);
    let (mut kinds, mut passed) = (BTreeSet::new(), 0);
    for listener in LISTENERS {
        let (origin, requests) = Origin::recording("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let proxy = Proxy::start(&config(listener, &origin), &[]);
        for _ in 0..120 {
            let (method, target, host, fields) = request(&mut random);
            let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            let body = if lines.contains("Content-Length") { "hello world" } else { "" };
            let mut client = proxy.client();
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n{body}"));
            let answer = Message { head: client.head().unwrap(), body: Vec::new(), trailers: String::new() };
            let (done, forwarded) = done(&answer, &requests);
            let told = foretold(&proxy, method, &target, &host, &fields);
            assert_eq!(told, done, "{listener}: {method} {target} {host} {fields:?}\n{}", answer.head);
            passed += usize::from(forwarded);
            kinds.insert(if forwarded { (0, String::new()) } else { done });
        }
    }
    assert!(kinds.len() > 15 && passed > 4, "{passed} {kinds:?}");
}
