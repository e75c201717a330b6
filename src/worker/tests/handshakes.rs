//! Handshakes beside requests, on one worker: real clients of TLS, and real servers, all at once.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::*;

const CLIENTS: usize = 24;

/// A name with its certificate, and who trusts it.
struct Site {
    folder: tempfile::TempDir,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Site {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["a.test".into()]).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(vec![certificate.der().clone()], private).unwrap();
        Self { folder, client: Arc::new(client), server: Arc::new(server) }
    }

    /// A worker with a listener of this name's TLS, and what `more` says.
    fn worker(&self, more: &str) -> (Worker, WorkerHandle, Vec<SocketAddr>) {
        let path = self.folder.path().display();
        let tls =
            format!("[listener.tls]\ncertificates = [{{ cert = \"{path}/cert.pem\", key = \"{path}/key.pem\" }}]\n");
        let text = format!("{LISTENER}{tls}{}", more.replace("FOLDER", &path.to_string()));
        let snapshot = config::parse("test.toml", &text).unwrap().compile(1, &mut Ledger::default()).unwrap();
        let snapshot = Arc::new(snapshot);
        let (mut sockets, bound) = listener::open(snapshot.listeners(), 1, &Vec::new()).unwrap();
        let (worker, handle) = Worker::new(WorkerId(0), 1, snapshot, sockets.remove(0)).unwrap();
        let bound = bound.iter().map(|(_, address)| address.to_string().parse().unwrap()).collect();
        (worker, handle, bound)
    }
}

/// A client of TLS on a socket that does not block.
struct TlsClient {
    tls: ClientConnection,
    socket: TcpStream,
}

impl TlsClient {
    fn new(config: &Arc<ClientConfig>, address: &str) -> Self {
        let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("a.test").unwrap()).unwrap();
        let mut client = Self { tls, socket: connect(address) };
        client.step();
        client
    }

    /// One that has sent `part` bytes of its hello, and the rest of that.
    fn half(config: &Arc<ClientConfig>, address: &str, part: usize) -> (Self, Vec<u8>) {
        let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("a.test").unwrap()).unwrap();
        let mut client = Self { tls, socket: connect(address) };
        let mut hello = Vec::new();
        client.tls.write_tls(&mut hello).unwrap();
        let rest = hello.split_off(part.min(hello.len() - 1));
        client.socket.write_all(&hello).unwrap();
        (client, rest)
    }

    /// Reads and writes what it can. Returns whether its handshake is over.
    fn step(&mut self) -> bool {
        if self.tls.wants_read() && self.tls.read_tls(&mut self.socket).is_ok() {
            self.tls.process_new_packets().unwrap();
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
        !self.tls.is_handshaking()
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Requests are answered in the turn in which they are received, however many handshakes have something to do. Those wait, a few are
/// gone on with each turn, and none is forgotten: not even that of a client whose FIN has come meanwhile.
#[test]
fn handshakes_wait_behind_everything_else() {
    let site = Site::new();
    let (mut worker, handle, bound) = site.worker(&format!("{}{ROUTE}", LISTENER.replace("NAME", "plain")));
    let [secure, plain] = [bound[0].to_string(), bound[1].to_string()];
    let mut clients: Vec<TlsClient> = (0..CLIENTS).map(|_| TlsClient::new(&site.client, &secure)).collect();
    let mut asking = connect(&plain);
    asking.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut buffer = [0; 4096];
    let answer = loop {
        assert!(!worker.turn(false).unwrap());
        match asking.read(&mut buffer) {
            Ok(count) => break String::from_utf8_lossy(&buffer[..count]).into_owned(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(worker.has_waiting_handshakes(), "all of them were gone on with before one request");
    // Each has a step to make of its own, and a turn makes a few.
    let mut turns = 0;
    while worker.has_waiting_handshakes() {
        assert!(!worker.turn(true).unwrap());
        turns += 1;
    }
    assert!(turns > CLIENTS / 8, "{CLIENTS} handshakes in {turns} turns");
    // This one ends right behind its last message, which is looked at all the same.
    while !clients[0].step() {
        assert!(!worker.turn(false).unwrap());
    }
    clients[0].tls.send_close_notify();
    clients[0].step();
    clients[0].socket.shutdown(std::net::Shutdown::Write).unwrap();
    while clients.iter_mut().filter_map(|client| client.step().then_some(())).count() < CLIENTS {
        assert!(!worker.turn(false).unwrap());
    }
    while handle.counters.handshakes().as_flattened().iter().sum::<u64>() < CLIENTS as u64 {
        assert!(!worker.turn(false).unwrap());
    }
}

/// Clients that send a part of a hello and stop hold no buffer, others are served meanwhile, and what they send later goes on from there.
#[test]
fn half_a_hello_holds_no_buffer() {
    // No more than one buffer is offered to the kernel for each socket, and at least these are.
    const HALVES: usize = limits::BUFFERS_OFFERED_MIN - 4;
    let site = Site::new();
    let (mut worker, _handle, bound) = site.worker(ROUTE);
    let secure = bound[0].to_string();
    let serve = |worker: &mut Worker, client: &mut TlsClient| {
        while !client.step() {
            assert!(!worker.turn(false).unwrap());
        }
    };
    serve(&mut worker, &mut TlsClient::new(&site.client, &secure));
    let free = worker.load().free_buffers;
    let halves = (0..HALVES).map(|at| TlsClient::half(&site.client, &secure, 1 + at * 31));
    let mut halves: Vec<(TlsClient, Vec<u8>)> = halves.collect();
    // Whoever comes behind them is served when they have been looked at.
    serve(&mut worker, &mut TlsClient::new(&site.client, &secure));
    assert!(worker.downstreams.handshakes_under_way() >= HALVES as u64);
    assert!(worker.load().free_buffers >= free, "{} of {free}", worker.load().free_buffers);
    for (client, rest) in &mut halves {
        client.socket.write_all(rest).unwrap();
    }
    for (client, _) in &mut halves {
        serve(&mut worker, client);
    }
}

/// A hello may be so long that it needs a large buffer. Whoever stops in the middle of one is shed when those are short.
#[test]
fn half_of_a_long_hello_gives_way() {
    let site = Site::new();
    let (mut worker, handle, bound) = site.worker(ROUTE);
    let mut stuck = connect(&bound[0].to_string());
    // Records of a handshake message that has 60,000 bytes.
    let mut part = vec![0; 10_000];
    for first in [&[22, 3, 1, 39, 16, 1, 0, 234, 96], &[22, 3, 1, 39, 16, 0, 0, 0, 0]] {
        part[..9].copy_from_slice(first);
        part.resize(10_005, 0);
        stuck.write_all(&part).unwrap();
    }
    let large = |worker: &Worker| worker.engine.ring.buffers.pools()[1].available();
    let all = large(&worker);
    while large(&worker) == all {
        assert!(!worker.turn(false).unwrap());
    }
    let mut held = Vec::new();
    while worker.engine.ring.buffers.missing() == [0, 0] {
        held.extend(worker.engine.ring.buffers.take_large());
    }
    while handle.counters.sheds() == [0; 4] {
        assert!(!worker.turn(false).unwrap());
    }
    assert_eq!(large(&worker) + held.len(), all);
    // The connection was reset.
    let ended = loop {
        match stuck.read(&mut [0; 100]) {
            Ok(count) => break count == 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => assert!(!worker.turn(false).unwrap()),
            Err(_) => break true,
        }
    };
    assert!(ended);
}

/// A server of TLS that answers one request.
struct TlsServer {
    tls: ServerConnection,
    socket: TcpStream,
}

impl TlsServer {
    fn step(&mut self) {
        if self.tls.read_tls(&mut self.socket).is_ok() {
            let state = self.tls.process_new_packets().unwrap();
            if state.plaintext_bytes_to_read() > 0 {
                let mut request = vec![0; state.plaintext_bytes_to_read()];
                self.tls.reader().read_exact(&mut request).unwrap();
                assert!(request.starts_with(b"GET /far "));
                self.tls.writer().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            }
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }
}

/// Handshakes with endpoints wait as those of clients do: a request that needs none is answered in the turn in which it is received. None is
/// forgotten, and each of their requests is answered.
#[test]
fn handshakes_with_endpoints_wait_behind_everything_else() {
    let site = Site::new();
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    let more = format!(
        "{}{ROUTE}[[route]]\npath = \"/far\"\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [\"{address}\"]\n\
         tls = {{ ca = \"FOLDER/cert.pem\", server_name = \"a.test\" }}\n",
        LISTENER.replace("NAME", "plain")
    );
    let (mut worker, handle, bound) = site.worker(&more);
    let plain = bound[1].to_string();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(&plain)).collect();
    for client in &mut clients {
        client.write_all(b"GET /far HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    origin.set_nonblocking(true).unwrap();
    let mut servers = Vec::new();
    while servers.len() < CLIENTS {
        assert!(!worker.turn(false).unwrap());
        if let Ok((socket, _)) = origin.accept() {
            socket.set_nonblocking(true).unwrap();
            servers.push(TlsServer { tls: ServerConnection::new(Arc::clone(&site.server)).unwrap(), socket });
        }
    }
    // Each answers the hello that it has got; the worker looks at none of that before all are there.
    for server in &mut servers {
        while !server.tls.wants_write() {
            if server.tls.read_tls(&mut server.socket).is_ok() {
                server.tls.process_new_packets().unwrap();
            } else {
                worker.turn(false).unwrap();
            }
        }
    }
    servers.iter_mut().for_each(TlsServer::step);
    let mut asking = connect(&plain);
    asking.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut buffer = [0; 4096];
    let done = || handle.counters.endpoint_handshakes().as_flattened().iter().sum::<u64>() as usize;
    let mut turns = 0;
    let mut answer = |worker: &mut Worker, client: &mut TcpStream| loop {
        match client.read(&mut buffer) {
            Ok(count) => break String::from_utf8_lossy(&buffer[..count]).into_owned(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let before = done();
        assert!(!worker.turn(false).unwrap());
        // Events of a turn are those of all connections at most, twice each.
        assert!(done() - before <= 1 + 4 * CLIENTS / EVENTS_A_STEP as usize, "{} in one turn", done() - before);
        turns += 1;
        servers.iter_mut().for_each(TlsServer::step);
    };
    assert!(answer(&mut worker, &mut asking).starts_with("HTTP/1.1 200 "));
    assert!(worker.has_waiting_handshakes(), "all of them were gone on with before one request");
    for client in &mut clients {
        assert!(answer(&mut worker, client).ends_with("hi"));
    }
    assert_eq!(done(), CLIENTS);
    assert!(turns > CLIENTS / 8, "{CLIENTS} handshakes in {turns} turns");
}
