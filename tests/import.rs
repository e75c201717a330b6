//! `cairn import`: `tests/import/PROXY/NAME/` holds a configuration of another proxy, what it becomes (`cairn.toml`, `summary`), and
//! requests to both with what comes of them (`requests`). The other proxy runs, too, where it is installed. CAIRN_UPDATE=1 rewrites all
//! but the configuration; differences from the other proxy are lines of their own, for people to read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "proxy/harness.rs"]
#[allow(dead_code, reason = "the tests of the proxy use all of it")]
mod harness;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use cairn::proxy_protocol::{self, Parsed};
use harness::{Message, Origin, Proxy, Wire, poll};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use regex::Regex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Attempts to start the other proxy, whose ports may be taken between choosing and binding them.
const ATTEMPTS: usize = 5;

/// One case: a folder below `tests/import`.
struct Case {
    folder: PathBuf,
    /// `nginx` or `haproxy`.
    peer: &'static str,
    table: Table,
}

/// The file `requests`.
#[derive(Default)]
struct Table {
    /// Lines before the first request, as they are.
    head: String,
    /// `origin ADDRESS NAME`: an address in the configuration, and what it is called in results.
    origins: Vec<(String, String)>,
    /// `tls-origin ADDRESS NAME PATH`: the same over TLS, with the certificate of this path.
    tls_origins: Vec<(String, String, String)>,
    /// `proxied-origin ADDRESS NAME`: the same whose connections begin with a PROXY header, which it has seen, too.
    proxied_origins: Vec<(String, String)>,
    /// `authority PATH`: a file with the certificate that has signed all of these.
    authorities: Vec<String>,
    /// `warns`: `cairn check` has warnings for what is imported.
    warns: bool,
    /// `certificate PATH NAMES…`: a file with certificate and key.
    certificates: Vec<(String, Vec<String>)>,
    /// `sees FIELDS…`: fields of requests that are compared.
    sees: Vec<String>,
    /// `gets FIELDS…`: fields of responses that are compared.
    gets: Vec<String>,
    /// `METHOD URL [xCOUNT] [| FIELD: VALUE]…`, and the lines with results. `| PROXY …` begins the connection, without TLS.
    requests: Vec<(String, Vec<String>)>,
    /// `file FOLDER NAME TEXT`: a file to which the configuration refers.
    files: Vec<(String, String, String)>,
    /// `closed ADDRESS`: an address at which nobody answers.
    closed: Vec<String>,
    /// `bodies`: bodies are compared, whatever the status.
    bodies: bool,
}

/// Whoever answers requests: addresses by the port of the configuration.
struct Target<'a> {
    ports: BTreeMap<u16, String>,
    /// What stands for what, in results.
    names: &'a [(String, String)],
    roots: &'a RootCertStore,
    table: &'a Table,
}

/// Kills the other proxy.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Table {
    fn read(text: &str) -> Self {
        let mut table = Self::default();
        let words = |rest: &str| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for line in text.lines() {
            if let Some(last) = table.requests.last_mut().filter(|_| line.starts_with(' ')) {
                last.1.push(line.trim().to_owned());
                continue;
            }
            match line.split_once(' ') {
                Some(("origin", rest)) => {
                    let (address, name) = rest.split_once(' ').unwrap();
                    table.origins.push((address.to_owned(), name.to_owned()));
                }
                Some(("tls-origin", rest)) => {
                    let mut parts = words(rest).into_iter();
                    let mut part = || parts.next().unwrap();
                    table.tls_origins.push((part(), part(), part()));
                }
                Some(("proxied-origin", rest)) => {
                    let (address, name) = rest.split_once(' ').unwrap();
                    table.proxied_origins.push((address.to_owned(), name.to_owned()));
                }
                Some(("authority", path)) => table.authorities.push(path.to_owned()),
                Some(("closed", address)) => table.closed.push(address.to_owned()),
                Some(("certificate", rest)) => {
                    let mut names = words(rest);
                    table.certificates.push((names.remove(0), names));
                }
                Some(("file", rest)) => {
                    let mut parts = rest.splitn(3, ' ').map(str::to_owned);
                    let mut part = || parts.next().unwrap();
                    table.files.push((part(), part(), part()));
                }
                None if line == "bodies" => table.bodies = true,
                None if line == "warns" => table.warns = true,
                Some(("sees", rest)) => table.sees = words(rest),
                Some(("gets", rest)) => table.gets = words(rest),
                Some((method, _)) if method.bytes().all(|c| c.is_ascii_uppercase()) => {
                    table.requests.push((line.to_owned(), Vec::new()));
                    continue;
                }
                _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
            }
            if table.requests.is_empty() {
                table.head += &format!("{line}\n");
            }
        }
        table
    }

    fn write(&self, results: &[Vec<String>]) -> String {
        let mut text = self.head.clone();
        for ((request, _), results) in self.requests.iter().zip(results) {
            let _ = writeln!(text, "{request}");
            results.iter().for_each(|result| text.extend(["    ", result, "\n"]));
        }
        text
    }
}

fn updating() -> bool {
    std::env::var_os("CAIRN_UPDATE").is_some()
}

/// Compares with the text of `path`, or writes it when `CAIRN_UPDATE` is set.
fn expect(path: &Path, found: &str) {
    if updating() {
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(expected == found, "{} is not what was found; CAIRN_UPDATE=1 rewrites it:\n{found}", path.display());
}

fn cases(peer: &'static str) -> Vec<Case> {
    let entries = fs::read_dir(Path::new(ROOT).join("tests/import").join(peer)).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 10, "{peer}");
    let case = |folder: PathBuf| {
        let table = Table::read(&fs::read_to_string(folder.join("requests")).unwrap());
        Case { folder, peer, table }
    };
    folders.into_iter().map(case).collect()
}

fn import(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.arg("import").args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Origins that answer with what they saw, in the field x-saw. `files`: where the certificates are.
fn origins(table: &Table, files: &[(String, String)]) -> Vec<(String, String)> {
    let clear = |(address, name): &(String, String)| {
        let (name, sees) = (name.clone(), table.sees.clone());
        let origin = Origin::start(move |wire, _| answer(wire, &name, &sees));
        (address.clone(), origin.address)
    };
    let encrypted = |(address, name, path): &(String, String, String)| {
        let (_, file) = files.iter().find(|(of, _)| of == path).unwrap();
        let chain = CertificateDer::pem_file_iter(file).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(file).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let (name, sees, config) = (name.clone(), table.sees.clone(), Arc::new(config));
        let origin = Origin::start(move |wire, _| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(Wire::over(StreamOwned::new(connection, wire.stream)), &name, &sees);
        });
        (address.clone(), origin.address)
    };
    let proxied = |(address, name): &(String, String)| {
        let (name, sees) = (name.clone(), table.sees.clone());
        let origin = Origin::start(move |mut wire, _| {
            let mut bytes = Vec::new();
            let told = loop {
                let mut byte = [0];
                // Whoever only tries the port says nothing.
                if wire.stream.read(&mut byte).unwrap() == 0 {
                    return;
                }
                bytes.extend(byte);
                match proxy_protocol::parse(&bytes) {
                    Ok(Parsed::Partial) => {}
                    Ok(Parsed::Header(header, _)) => break header.source.map(|(address, _)| address.to_string()),
                    other => panic!("{other:?}"),
                }
            };
            let version = if bytes.starts_with(b"PROXY ") { "v1" } else { "v2" };
            answer(wire, &format!("{name} ({version} of {})", told.unwrap_or_default()), &sees);
        });
        (address.clone(), origin.address)
    };
    let plain = table.origins.iter().map(clear).chain(table.proxied_origins.iter().map(proxied));
    plain.chain(table.tls_origins.iter().map(encrypted)).collect()
}

/// Answers all requests of a connection.
fn answer<S: Read + Write>(mut wire: Wire<S>, name: &str, sees: &[String]) {
    while let Some(request) = wire.message() {
        let line = request.line().rsplit_once(' ').unwrap().0.to_owned();
        let mut saw = format!("{name}: {line} host={}", request.field("host").unwrap_or_default());
        for field in sees {
            let value = request.field(field).map_or("-".to_owned(), |value| format!("{value:?}"));
            let _ = write!(saw, " {field}={value}");
        }
        if request.field("upgrade").is_some() {
            wire.send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nx-saw: {saw}\r\n\r\n"
            ));
            return;
        }
        // What an origin thinks that it is called, and where it is.
        if let Some((_, above)) = line.strip_suffix("/redirect").and_then(|start| start.split_once(' ')) {
            let host = request.field("host").unwrap_or_default();
            wire.send(format!(
                "HTTP/1.1 302 Found\r\nlocation: http://{host}{above}/next\r\ncontent-length: 0\r\n\r\n"
            ));
            continue;
        }
        let length = if line.starts_with("HEAD ") { "" } else { "content-length: 2\r\n" };
        let body = if line.starts_with("HEAD ") { "" } else { "ok" };
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nserver: origin\r\nx-powered-by: origin\r\nx-saw: {saw}\r\n{length}\r\n{body}"
        ));
    }
}

fn certificates(table: &Table, folder: &Path) -> (RootCertStore, Vec<(String, String)>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Otherwise OpenSSL takes what it signs for self-signed.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let write = |(at, (path, names)): (usize, &(String, Vec<String>))| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names.clone()).unwrap().signed_by(&key, &issuer).unwrap();
        let file = folder.join(format!("{at}.pem"));
        fs::write(&file, format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap();
        (path.clone(), file.to_str().unwrap().to_owned())
    };
    let mut files: Vec<_> = table.certificates.iter().enumerate().map(write).collect();
    let file = folder.join("authority.pem");
    fs::write(&file, issuer.pem()).unwrap();
    files.extend(table.authorities.iter().map(|path| (path.clone(), file.to_str().unwrap().to_owned())));
    (roots, files)
}

fn replaced(text: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// cairn's listeners by the port that they had, and its configuration with ports of the system's choice.
fn without_ports(text: &str) -> (String, Vec<(u16, String)>) {
    let bind = Regex::new(r#"(?m)^name = "(.*)"\nbind = "(?:.*):([0-9]+)"$"#).unwrap();
    let listener = |found: regex::Captures<'_>| (found[2].parse().unwrap(), found[1].to_owned());
    let listeners = bind.captures_iter(text).map(listener).collect();
    let text = bind.replace_all(text, "name = \"$1\"\nbind = \"127.0.0.1:0\"").into_owned();
    (text, listeners)
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Case {
    fn file(&self) -> &'static str {
        if self.peer == "nginx" { "nginx.conf" } else { "haproxy.cfg" }
    }

    fn name(&self) -> String {
        self.folder.strip_prefix(ROOT).unwrap().display().to_string()
    }

    /// Starts the other proxy; None: it is not installed.
    fn peer(&self, folder: &Path, pairs: &[(String, String)]) -> Option<(Peer, BTreeMap<u16, String>)> {
        let found = Command::new(self.peer).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            eprintln!("{}: {} is not installed, so cairn's half alone is tested", self.name(), self.peer);
            return None;
        }
        for attempt in 1.. {
            let mut ports = BTreeMap::new();
            for file in self.files() {
                let to = folder.join(file.strip_prefix(&self.folder).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, self.runnable(&replaced(&fs::read_to_string(&file).unwrap(), pairs), folder, &mut ports))
                    .unwrap();
            }
            let path = folder.join(self.file());
            let mut command = Command::new(self.peer);
            match self.peer {
                "nginx" => {
                    let global = format!(
                        "daemon off; master_process off; pid {}/nginx.pid; error_log stderr crit;",
                        folder.display()
                    );
                    command.arg("-p").arg(folder).arg("-e").arg("stderr").arg("-c").arg(&path).arg("-g").arg(global)
                }
                _ => command.arg("-db").arg("-f").arg(&path),
            };
            let log = fs::File::create(folder.join("peer.log")).unwrap();
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
            let mut peer = Peer(child);
            let up = poll(|| match peer.0.try_wait().unwrap() {
                Some(_) => Some(false),
                None => {
                    let all = ports
                        .values()
                        .all(|port| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], *port))).is_ok());
                    all.then_some(true)
                }
            });
            if up {
                return Some((peer, ports.into_iter().map(|(port, own)| (port, format!("127.0.0.1:{own}"))).collect()));
            }
            let log = fs::read_to_string(folder.join("peer.log")).unwrap();
            assert!(attempt < ATTEMPTS, "{} does not start:\n{log}", self.name());
        }
        None
    }

    /// The configuration and what it includes.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.folder.join(self.file())];
        if let Ok(entries) = fs::read_dir(self.folder.join("conf.d")) {
            files.extend(entries.map(|entry| entry.unwrap().path()));
        }
        files
    }

    /// A file of the other proxy with ports that are free, without what is about the machine and not about requests.
    fn runnable(&self, text: &str, folder: &Path, ports: &mut BTreeMap<u16, u16>) -> String {
        let listen = match self.peer {
            "nginx" => r"(?m)^(\s*listen )(?:\S*:)?([0-9]+)\b",
            _ => r"(?m)^(\s*bind )\S*:([0-9]+)\b",
        };
        let with_ports = Regex::new(listen).unwrap().replace_all(text, |found: &regex::Captures<'_>| {
            let port = ports.entry(found[2].parse::<u16>().unwrap()).or_insert_with(free_port);
            format!("{}127.0.0.1:{port}", &found[1])
        });
        let machine = [
            "user ",
            "pid ",
            "error_log ",
            "access_log ",
            "chroot ",
            "group ",
            "daemon",
            "log ",
            "stats socket",
            "pidfile",
            "maxconn 20000",
        ];
        let is_kept = |line: &&str| !machine.iter().any(|word| line.trim().starts_with(word));
        let text: String = with_ports.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            kinds.iter().map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display())).collect();
        text.replacen("http {", &format!("http {{ access_log off; {temporary}"), 1)
    }

    fn run(&self) {
        let output = import(&self.folder, &[self.file()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let imported = text(&output.stdout);
        expect(&self.folder.join("cairn.toml"), &imported);
        expect(&self.folder.join("summary"), &text(&output.stderr));
        let folder = tempfile::tempdir().unwrap();
        let (roots, files) = certificates(&self.table, folder.path());
        let origins = origins(&self.table, &files);
        let mut pairs = [files, origins.clone()].concat();
        let (_socket, nobody) = harness::closed();
        pairs.extend(self.table.closed.iter().map(|address| (address.clone(), nobody.clone())));
        for (at, (of, name, content)) in self.table.files.iter().enumerate() {
            let own = folder.path().join(format!("files-{at}"));
            fs::create_dir_all(&own).unwrap();
            fs::write(own.join(name), content).unwrap();
            pairs.push((of.clone(), own.to_str().unwrap().to_owned()));
        }
        let (runnable, listeners) = without_ports(&replaced(&imported, &pairs));
        self.check(folder.path(), &runnable);
        let admin = "\n[admin]\nlisten = \"off\"\nsocket = \"off\"\n";
        let workers = if runnable.contains("[workers]") { "" } else { "\n[workers]\ncount = 1\n" };
        let proxy = Proxy::start(&format!("{runnable}{admin}{workers}"), &[]);
        let ports = listeners.iter().map(|(port, name)| (*port, proxy.address(name).to_owned())).collect();
        let cairn = Target { ports, names: &origins, roots: &roots, table: &self.table };
        let peer = self.peer(folder.path(), &pairs);
        let peer =
            peer.map(|(peer, ports)| (peer, Target { ports, names: &origins, roots: &roots, table: &self.table }));
        let mut results = Vec::new();
        for (request, expected) in &self.table.requests {
            let own = cairn.ask(request);
            let theirs = match &peer {
                Some((_, target)) => target.ask(request),
                // Then it is believed to be what it was.
                None => {
                    let start = format!("{}: ", self.peer);
                    let before = expected.iter().find_map(|line| line.strip_prefix(&start));
                    before.map_or_else(|| expected.first().cloned().unwrap_or_default(), str::to_owned)
                }
            };
            results.push(match own == theirs {
                true => vec![own],
                false => vec![format!("{}: {theirs}", self.peer), format!("cairn: {own}")],
            });
        }
        expect(&self.folder.join("requests"), &self.table.write(&results));
    }

    /// The imported file is valid and has no warning but where they are expected.
    fn check(&self, folder: &Path, runnable: &str) {
        fs::write(folder.join("cairn.toml"), runnable).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        let strict = ["--strict"].into_iter().filter(|_| !self.table.warns);
        let output = command.arg("check").args(strict).args(["-c", "cairn.toml"]).current_dir(folder).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{}\n{said}\n{runnable}", self.name());
    }
}

impl Target<'_> {
    /// What comes of a request, in a line.
    fn ask(&self, request: &str) -> String {
        let mut parts = request.split(" | ");
        let mut words = parts.next().unwrap().split(' ');
        let (method, url) = (words.next().unwrap(), words.next().unwrap());
        let count = words.next().map_or(1, |word| word.strip_prefix('x').unwrap().parse().unwrap());
        let (preface, fields): (Vec<_>, Vec<_>) = parts.partition(|part| part.starts_with("PROXY "));
        let lines = |parts: Vec<&str>| parts.iter().map(|part| format!("{part}\r\n")).collect::<String>();
        let (preface, fields) = (lines(preface), lines(fields));
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_at(rest.find('/').unwrap());
        let (host, port) =
            authority.split_once(':').unwrap_or((authority, if scheme == "https" { "443" } else { "80" }));
        let address = &self.ports[&port.parse().unwrap()];
        let end = if fields.contains("upgrade:") { "" } else { "connection: close\r\n" };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n{fields}{end}\r\n");
        let mut results: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..count {
            let message = match scheme {
                "https" => self.secure(address, host, &head),
                _ => exchange(Wire::connect(address), &format!("{preface}{head}"), method),
            };
            *results.entry(self.result(&message, address, port)).or_default() += 1;
        }
        match count {
            1 => results.into_keys().next().unwrap(),
            _ => results.iter().map(|(result, count)| format!("{count} x {result}")).collect::<Vec<_>>().join("; "),
        }
    }

    fn secure(&self, address: &str, host: &str, head: &str) -> Message {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(self.roots.clone()).with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
        let method = head.split(' ').next().unwrap();
        exchange(Wire::over(StreamOwned::new(session, stream)), head, method)
    }

    fn result(&self, message: &Message, address: &str, port: &str) -> String {
        let mut result = message.status().to_string();
        let own = address.rsplit_once(':').unwrap().1;
        let port = if ["80", "443"].contains(&port) { String::new() } else { format!(":{port}") };
        match message.field("x-saw") {
            Some(saw) => {
                let saw = self.names.iter().fold(saw, |saw, (name, own)| saw.replace(own, name));
                let _ = write!(result, " from {saw}");
            }
            // Texts of errors are each proxy's own.
            None if (message.status() == 200 || self.table.bodies)
                && !message.body.is_empty()
                && !message.text().starts_with("<html>") =>
            {
                let _ = write!(result, " {:?}", message.text());
            }
            None => {}
        }
        if let Some(location) = message.field("location") {
            let _ = write!(result, " location={}", location.replace(&format!(":{own}"), &port));
        }
        for field in &self.table.gets {
            if let Some(value) = message.field(field) {
                let _ = write!(result, " {field}={value:?}");
            }
        }
        result
    }
}

/// Sends a request and reads the answer; that to HEAD has no body, whatever its head says.
fn exchange<S: Read + Write>(mut wire: Wire<S>, head: &str, method: &str) -> Message {
    wire.send(head);
    if method == "HEAD" {
        return Message { head: wire.head().expect("an answer"), body: Vec::new(), trailers: String::new() };
    }
    wire.message().expect("an answer")
}

#[test]
fn nginx_configurations_mean_the_same() {
    cases("nginx").iter().for_each(Case::run);
}

#[test]
fn haproxy_configurations_mean_the_same() {
    cases("haproxy").iter().for_each(Case::run);
}

/// Files that are none: the place, the line with a caret, and the cure; exit 1. Each `tests/import/errors/NAME` has its report.
#[test]
fn faults_of_the_source_are_reported_with_their_place() {
    let folder = Path::new(ROOT).join("tests/import/errors");
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it != "txt")).collect();
    files.sort();
    assert!(files.len() >= 8);
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let output = import(&folder, &[name]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{name}");
        let report = text(&output.stderr);
        assert!(
            report.starts_with(&format!("{name}:")) && report.contains("^") && report.contains("help: "),
            "{report}"
        );
        expect(&folder.join(format!("{name}.txt")), &report);
    }
}

/// Whose a file is, is told by its text, or by `--from`.
#[test]
fn either_proxy_is_told_by_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let said = |content: &str, arguments: &[&str]| {
        fs::write(folder.path().join("file"), content).unwrap();
        let output = import(folder.path(), &[&["file"], arguments].concat());
        (output.status.code().unwrap(), text(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    let of = |name: &str| {
        (
            0,
            format!(
                "# Imported from {name} by `cairn import`; read it before it serves. What {name} does and cairn does not is said where it stood."
            ),
        )
    };
    let haproxy = "# of HAProxy\n\nglobal\n  daemon\n";
    assert_eq!(said(haproxy, &[]), of("HAProxy"));
    assert_eq!(said("server { listen 80; }", &[]), of("nginx"));
    assert_eq!(said("upstream backend { server a:1; }", &[]), of("nginx"));
    assert_eq!(said("daemon\n", &["--from", "haproxy"]).0, 1);
    assert_eq!(said(haproxy, &["--from", "nginx"]).0, 1);
    assert_eq!(said("", &["--from", "apache"]).0, 2);
    assert_eq!(import(folder.path(), &[]).status.code(), Some(2));
    let output = import(folder.path(), &["nowhere.conf"]);
    let report = "nowhere.conf: error: No such file or directory (os error 2)\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), report.to_owned()));
    let output = import(folder.path(), &["/dev/zero"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(1), "/dev/zero: error: it is no plain file\n".to_owned())
    );
}

/// What would serve nothing is not imported in silence.
#[test]
fn what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let nothing =
        "there is nothing in it to import: neither a `server` of nginx nor a `frontend` or `listen` of HAProxy";
    for content in ["", "\n \n", "# nginx\n", "  # haproxy"] {
        fs::write(folder.path().join("empty.conf"), content).unwrap();
        for from in [&[][..], &["--from", "nginx"], &["--from", "haproxy"]] {
            let output = import(folder.path(), &[&["empty.conf"], from].concat());
            let said = format!("empty.conf: error: {nothing}\n");
            assert_eq!(
                (output.status.code(), text(&output.stdout), text(&output.stderr)),
                (Some(1), String::new(), said)
            );
        }
    }
    for (content, missing) in [
        (
            "events {}\nhttp { upstream a { server 10.0.0.1:80; } }\n",
            "there is no `server` with `listen` that can be imported",
        ),
        ("backend b\n  server s 10.0.0.1:80\n", "there is no `frontend` or `listen` with `bind` that can be imported"),
    ] {
        fs::write(folder.path().join("part.conf"), content).unwrap();
        let output = import(folder.path(), &["part.conf"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0));
        assert!(said.ends_with(&format!("warning: part.conf: nothing would be served: {missing}\n")), "{said}");
    }
}

/// A document that cannot be written is an error.
#[test]
fn what_cannot_be_written_is_an_error() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    let file = Path::new(ROOT).join("tests/import/nginx/locations/nginx.conf");
    let output = command.arg("import").arg(file).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.ends_with("cairn: cannot write to standard output: No space left on device (os error 28)\n"),
        "{said}"
    );
}

/// What an `include` names is read where it stands; what includes itself is an error.
#[test]
fn includes_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("nginx.conf", "events {}\nhttp {\n  include sites/*.conf;\n  include missing.conf;\n}\n");
    write("sites/10-a.conf", "server { listen 81; location / { return 200 \"a\"; } gzip on; }\n");
    write("sites/20-b.conf", "server { listen 82; include parts/b; }\n");
    write("sites/off.disabled", "server { listen 83; }\n");
    write("parts/b", "location / { return 200 \"b\"; }\n");
    let output = import(folder.path(), &["nginx.conf"]);
    let document = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for part in [
        "bind = \"0.0.0.0:81\"",
        "bind = \"0.0.0.0:82\"",
        "body = \"a\"",
        "body = \"b\"",
        "sites/10-a.conf:1: gzip on;",
        "nginx.conf:4: include missing.conf;",
    ] {
        assert!(document.contains(part), "{part}\n{document}");
    }
    assert!(!document.contains(":83"), "{document}");
    write("parts/b", "include sites/20-b.conf;\n");
    let output = import(folder.path(), &["nginx.conf"]);
    let report = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("error: this file includes itself"), "{report}");
    write("parts/b", "location / {\n");
    let output = import(folder.path(), &["nginx.conf"]);
    let report = text(&output.stderr);
    assert!(report.contains("parts/b:1:13: error: the file ends inside a block"), "{report}");
}
