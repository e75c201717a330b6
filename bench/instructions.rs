//! Fixed exchanges through a real worker on a machine in memory, for `.ci/instructions`, which has valgrind count what the worker
//! executes for each. Every answer is checked. Not here: time, and what the kernel does.
//!
//! `instructions CASE COUNT` runs so many exchanges of a case; without, as `cargo bench` calls it, a few of each.

mod memory;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use cairn::buffer::Buffers;
use cairn::config;
use cairn::id::WorkerId;
use cairn::runtime::ByteRingReader;
use cairn::snapshot::Ledger;
use cairn::uring::Ring;
use cairn::worker::Worker;
use memory::{Client, Memory, Origin, Outside};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Exchanges before those that count: pools are full and tables have grown.
const WARM_UP: usize = 160;
/// Turns after which an answer counts as lost.
const PATIENCE: usize = 100;

/// What answers consist of, and no head has.
const MARK: u8 = b'#';
/// What requests say besides.
const FIELDS: &str = "Host: example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n";

/// A kind of exchange.
struct Case {
    name: &'static str,
    is_tls: bool,
    /// Bytes of content of the request; with none it is a GET.
    content: usize,
    /// Bytes of content of the answer.
    answer: usize,
    /// Requests that are sent at once.
    depth: usize,
    /// Whether exchanges are logged.
    is_logged: bool,
}

const CASES: [Case; 6] = [
    Case { name: "get", is_tls: false, content: 0, answer: 100, depth: 1, is_logged: false },
    Case { name: "get_logged", is_tls: false, content: 0, answer: 100, depth: 1, is_logged: true },
    Case { name: "post", is_tls: false, content: 1024, answer: 100, depth: 1, is_logged: false },
    Case { name: "pipelined", is_tls: false, content: 0, answer: 100, depth: 16, is_logged: false },
    Case { name: "get_64k", is_tls: false, content: 0, answer: 64 << 10, depth: 1, is_logged: false },
    Case { name: "tls_get", is_tls: true, content: 0, answer: 100, depth: 1, is_logged: false },
];

/// A worker, and a client on one connection to it.
struct World {
    worker: Worker<Memory>,
    outside: Outside,
    client: Client,
    tls: Option<ClientConnection>,
    requests: Vec<u8>,
    /// What `requests` are answered with; empty before the first time.
    expected: Vec<u8>,
    received: Vec<u8>,
    /// Bytes of TLS on their way.
    wire: Vec<u8>,
    /// The entries of the access log.
    log: ByteRingReader,
    /// The one read last.
    entry: Vec<u8>,
}

impl Case {
    fn requests(&self) -> Vec<u8> {
        let request = match self.content {
            0 => format!("GET /orders/7?page=2 HTTP/1.1\r\n{FIELDS}\r\n").into_bytes(),
            length => {
                let head = format!("POST /orders HTTP/1.1\r\n{FIELDS}Content-Length: {length}\r\n\r\n");
                [head.into_bytes(), vec![b'x'; length]].concat()
            }
        };
        request.repeat(self.depth)
    }

    fn origin(&self) -> Origin {
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            self.answer
        );
        Origin { content: self.content, answer: [head.into_bytes(), vec![MARK; self.answer]].concat() }
    }

    fn world(&self) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let (keys, certificate) = if self.is_tls { certificate(folder.path()) } else { Default::default() };
        // One host, one route and one endpoint, so that no look-up depends on the seeds of hash tables.
        let log = if self.is_logged { "[log]\naccess = '/dev/null'\n" } else { "" };
        let text = format!(
            "{log}[[listener]]\nname = 'l'\nbind = '127.0.0.1:80'\n{keys}\n\
             [[route]]\nname = 'r'\nhosts = ['example.com']\npath_prefix = '/orders'\ncluster = 'c'\n\
             [[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:8080']\n"
        );
        let config = config::parse("bench.toml", &text).expect("valid");
        let snapshot = Arc::new(config.compile(1, &mut Ledger::default()).expect("compiles"));
        let (machine, outside) = Memory::new(self.origin()).expect("descriptors");
        let sockets = snapshot.listeners().map(|(id, _)| (id, outside.listener().expect("a descriptor"))).collect();
        let ring = Ring::on(machine, Buffers::new().expect("address space")).expect("a ring");
        let (worker, handle) = Worker::on(ring, WorkerId(0), 1, snapshot, sockets);
        let client = outside.connect().expect("a descriptor");
        let tls = certificate.map(tls_client);
        let (requests, expected) = (self.requests(), Vec::new());
        let log = handle.access_log.take().expect("a ring");
        World {
            worker,
            outside,
            client,
            tls,
            requests,
            expected,
            received: Vec::new(),
            wire: Vec::new(),
            log,
            entry: Vec::new(),
        }
    }

    fn run(&self, count: usize) {
        assert!(count.is_multiple_of(self.depth), "{}: requests are sent {} at a time", self.name, self.depth);
        let mut world = self.world();
        world.shake_hands();
        world.learn(self);
        (0..WARM_UP / self.depth).for_each(|_| world.exchange());
        counted(&mut world, count / self.depth);
        // Giving its memory back asks for the page size in a way that ends the process under valgrind.
        std::mem::forget(world);
    }
}

/// What counts: the counts before are dropped where this begins.
#[inline(never)]
fn counted(world: &mut World, times: usize) {
    (0..times).for_each(|_| world.exchange());
}

/// All that the worker does is done in here, and the counting is switched on here. What the machine does is called from here, too,
/// and switches it off.
#[inline(never)]
fn turn_worker(worker: &mut Worker<Memory>) {
    let ends = worker.turn(false).expect("nothing breaks");
    assert!(!ends, "nobody has said so");
}

impl World {
    /// Sends the requests and takes the right answers.
    fn exchange(&mut self) {
        self.send();
        let length = self.expected.len();
        self.turn_until(|world| world.received.len() >= length);
        assert!(self.received == self.expected, "another answer than the first time");
        while self.log.pop(&mut self.entry) {}
        self.received.clear();
    }

    /// Takes the first answers for those that are expected from now on, if they are right.
    fn learn(&mut self, case: &Case) {
        self.send();
        let content = case.answer * case.depth;
        self.turn_until(|world| world.received.iter().filter(|byte| **byte == MARK).count() >= content);
        let text = String::from_utf8_lossy(&self.received);
        let count = |part: &str| text.matches(part).count();
        let parts = (count("HTTP/1.1 200 OK\r\n"), count("\r\n\r\n#"), count("#"));
        assert_eq!(parts, (case.depth, case.depth, content), "{}: {text}", case.name);
        self.expected = std::mem::take(&mut self.received);
    }

    fn send(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(&self.requests).expect("room");
            return self.send_records();
        }
        self.outside.write(self.client, &self.requests);
    }

    fn send_records(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        while tls.wants_write() {
            tls.write_tls(&mut self.wire).expect("memory");
        }
        self.outside.write(self.client, &self.wire);
        self.wire.clear();
    }

    fn receive(&mut self) {
        let Some(tls) = &mut self.tls else { return self.outside.read(self.client, &mut self.received) };
        self.outside.read(self.client, &mut self.wire);
        let mut records = &self.wire[..];
        while !records.is_empty() {
            tls.read_tls(&mut records).expect("memory");
            tls.process_new_packets().expect("good records");
        }
        self.wire.clear();
        // What is not there yet is an error here.
        let _ = tls.reader().read_to_end(&mut self.received);
        self.send_records();
    }

    fn turn_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            turn_worker(&mut self.worker);
            self.receive();
            if done(self) {
                return;
            }
        }
        panic!("no answer; so far {:?}", String::from_utf8_lossy(&self.received));
    }

    fn shake_hands(&mut self) {
        self.send_records();
        self.turn_until(|world| world.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()));
    }
}

/// A certificate for example.com, and how a listener names it.
fn certificate(folder: &Path) -> (String, Option<CertificateDer<'static>>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["example.com".into()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let (cert, path) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, certificate.pem()).expect("a file");
    std::fs::write(&path, key.serialize_pem()).expect("a file");
    (format!("tls.certificates = [{{ cert = {cert:?}, key = {path:?} }}]"), Some(certificate.der().clone()))
}

/// A client that knows one cipher suite, so that the worker has no choice.
fn tls_client(certificate: CertificateDer<'static>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let config = config.expect("TLS 1.3").with_root_certificates(roots).with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("example.com").expect("a name")).expect("a client")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match &arguments[..] {
        [] => CASES.iter().for_each(|case| case.run(2 * case.depth)),
        [name, count] => {
            // The worker and the libraries choose their instructions by what the processor has.
            #[cfg(target_arch = "x86_64")]
            assert!(
                is_x86_feature_detected!("avx2"),
                "counts are those of a processor with AVX2, which this one lacks"
            );
            let case = CASES.iter().find(|case| case.name == name).expect("a case of this bench");
            case.run(count.parse().expect("a number"));
        }
        _ => panic!("usage: instructions [CASE COUNT]"),
    }
}
