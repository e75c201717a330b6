//! Imports of hostile texts: none panics, and what is made of them is a document. Not here: what configurations mean
//! (`tests/import.rs`).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use cairn::config;
use cairn::snapshot::Ledger;
use rustix::time::{ClockId, clock_gettime};

use super::*;

/// Changes of each configuration; CAIRN_MUTATIONS sets more.
const MUTATIONS: usize = 50;
/// Words that mean something to a grammar or a translator.
const WORDS: [&str; 34] = [
    "{",
    "}",
    ";",
    "\"",
    "'",
    "\\",
    "\n",
    "#",
    "$",
    "${",
    "if ",
    "unless ",
    "(",
    ")",
    " ",
    "~",
    "^~ ",
    "= ",
    "!",
    "||",
    "%[",
    "%",
    "/",
    "//",
    "..",
    "*",
    "\u{0}",
    "\u{1}A\u{2}",
    "\u{fffd}é",
    "map ",
    "location / {",
    "include *;",
    "99999999999999999999",
    "backend ",
];

/// A small generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap_or(0)
    }
}

/// Replaces, doubles, cuts and inserts pieces of a text.
fn mutated(text: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        let length = random.below(40).min(bytes.len() - at);
        match random.below(6) {
            0 => drop(bytes.drain(at..at + length)),
            1 => {
                let piece = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            2 if !bytes.is_empty() => bytes[at] = u8::try_from(random.below(256)).unwrap_or(0),
            3 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
        }
    }
    bytes
}

fn nothing(_: &Path, _: u64) -> io::Result<Vec<u8>> {
    Err(io::Error::other("no file is read"))
}

fn import_text(text: &[u8], from: Proxy) -> Result<Import, Report> {
    let mut files = Files::new(nothing);
    let file = files.add("file", text);
    imported(files, file, Path::new("file"), Some(from))
}

/// What cairn says against a document but for what is about the machine: files and names that are not there.
fn complaints(document: &str) -> String {
    // Names are not looked up: that takes a network.
    let name = regex::Regex::new(r#""([^":\[]*[A-Za-z_-][^":]*):([0-9]+)""#).unwrap();
    let mut count = 0;
    let mut address = |found: &regex::Captures<'_>| {
        count += 1;
        format!("\"10.9.{}.{}:{}\"", count / 250, count % 250, &found[2])
    };
    let lines = document.lines().map(|line| match line.starts_with("endpoints") || line.starts_with("    ") {
        true => format!("{}\n", name.replace_all(line, &mut address)),
        false => format!("{line}\n"),
    });
    let document: String = lines.collect();
    let compiled = config::parse("cairn.toml", &document).and_then(|it| it.compile(1, &mut Ledger::default()));
    let Err(report) = compiled else { return String::new() };
    let report = report.to_string();
    let mut machine = vec!["cannot be read", "is not set", "the listener has no certificate"];
    if !document.contains("[[listener]]") {
        machine.push("the configuration has no listener");
    }
    let errors = report.lines().filter(|line| line.contains(": error: "));
    let own: Vec<_> = errors.filter(|line| !machine.iter().any(|it| line.contains(it))).collect();
    if own.is_empty() { String::new() } else { report }
}

/// All configurations of `tests/import`.
fn configurations() -> Vec<(String, Proxy)> {
    let mut all = Vec::new();
    for (folder, file, proxy) in [("nginx", "nginx.conf", Proxy::Nginx), ("haproxy", "haproxy.cfg", Proxy::Haproxy)] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(folder);
        let mut folders: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        all.extend(folders.iter().map(|folder| (fs::read_to_string(folder.join(file)).unwrap(), proxy)));
    }
    all
}

#[test]
fn mutations_of_configurations_never_panic() {
    let more = std::env::var("CAIRN_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let mutations = more.unwrap_or(MUTATIONS);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut refused, mut problems) = (0, 0, Vec::new());
    for (text, proxy) in configurations() {
        assert_eq!(told(&text), proxy);
        for _ in 0..mutations {
            let bytes = mutated(&text, &mut random);
            match import_text(&bytes, proxy) {
                Ok(import) => {
                    taken += 1;
                    let report = complaints(&import.document);
                    if !report.is_empty() {
                        problems.push(format!("{}\n{}\n{report}", String::from_utf8_lossy(&bytes), import.document));
                    }
                    assert!(!import.summary.is_empty());
                }
                Err(report) => {
                    refused += 1;
                    assert!(report.to_string().starts_with("file:"), "{report}");
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}\n{} problems", problems[..problems.len().min(20)].join("\n"), problems.len());
    // A mutation that always refuses, or never does, tests one half alone.
    assert!(taken > 10 * mutations && refused > 3 * mutations, "{taken} {refused}");
}

/// What this thread has worked so far. Other processes that keep the machine busy do not count.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What is small and means much: each of these costs bounded work. Where one round too many is made of them, it is hours.
#[test]
fn hostile_texts_take_bounded_work() {
    let sets: String = (0..60).map(|at| format!("set $v{} \"$v{at}$v{at}\";", at + 1)).collect();
    let locations: String = (0..120)
        .map(|at| format!("location ~ ^/a{at} {{ if ($http_x{at} != 1) {{ return 403; }} return 200; }}"))
        .collect();
    let maps: String = (0..200).map(|at| format!("~*x{at} b{at};")).collect();
    let nginx = [
        format!("server {{ listen 80; {sets} location / {{ return 200 $v60; }} }}"),
        format!("server {{ listen 80; {locations} }}"),
        format!(
            "map $http_a $b {{ {maps} }} server {{ listen 80; if ($b) {{ return 403; }} location / {{ proxy_pass http://$b; }} }}"
        ),
        "location {".repeat(10_000),
        "a ".repeat(100_000),
        format!("server {{ listen 80; location ~ {} {{ return 200; }} }}", "(a|b)*".repeat(2000)),
    ];
    let acls: String = (0..40).map(|at| format!("acl a{at} hdr(x{at}) 1\n")).collect();
    let names: String = (0..40).map(|at| format!("!a{at} or a{at} ")).collect();
    let rules: String = (0..40).map(|at| format!("http-request deny if !a{at} {{ path_beg /p{at} }}\n")).collect();
    let head = "defaults\nmode http\nfrontend f\nbind :80\n";
    let haproxy = [
        format!("{head}{acls}http-request deny unless {names}\n"),
        format!("{head}{acls}{rules}"),
        format!("{head}use_backend f if {{ path_reg {} }}\n", "(a|b)*".repeat(2000)),
        format!("{head}use_backend f if {}\n", "{ path /x } ".repeat(1000)),
    ];
    let all = nginx.iter().map(|text| (text, Proxy::Nginx)).chain(haproxy.iter().map(|text| (text, Proxy::Haproxy)));
    for (text, proxy) in all {
        let start = worked();
        // What becomes of it does not matter here.
        let _ = import_text(text.as_bytes(), proxy);
        let work = worked().saturating_sub(start);
        assert!(work < Duration::from_secs(60), "{work:?} {}", &text[..100]);
    }
}

/// What is asked of clients is asked of them here, too, and what may be missing there may be missing here.
#[test]
fn certificates_of_clients_are_asked_for_alike() {
    let nginx = |verify: &str| {
        format!(
            "events {{}} http {{ server {{ listen 443 ssl; ssl_certificate c.pem; ssl_certificate_key k.pem; \
             ssl_client_certificate ca.pem; ssl_crl crl.pem; ssl_verify_client {verify}; location / {{ return 200; }} }} }}"
        )
    };
    let haproxy = |verify: &str| {
        format!(
            "defaults\n  mode http\nfrontend f\n  bind :443 ssl crt c.pem ca-file ca.pem crl-file crl.pem verify {verify}\n  default_backend b\n\
             backend b\n  server s 127.0.0.1:80\n"
        )
    };
    let lines = ["client_ca = \"ca.pem\"", "client_auth = \"request\"", "crl = \"crl.pem\""];
    for (text, proxy, expected) in [
        (nginx("on"), Proxy::Nginx, [true, false, true]),
        (nginx("optional"), Proxy::Nginx, [true; 3]),
        (nginx("off"), Proxy::Nginx, [false; 3]),
        (haproxy("required"), Proxy::Haproxy, [true, false, true]),
        (haproxy("optional"), Proxy::Haproxy, [true; 3]),
        (haproxy("none"), Proxy::Haproxy, [false; 3]),
    ] {
        let document = import_text(text.as_bytes(), proxy).unwrap().document;
        assert_eq!(lines.map(|line| document.contains(line)), expected, "{text}\n{document}");
        assert_eq!(complaints(&document), "", "{document}");
    }
}
