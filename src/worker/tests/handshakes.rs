//! Handshakes beside requests, on one worker: real clients of TLS, all at once.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

const CLIENTS: usize = 24;

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
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.test".into()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().display();
    let tls = format!("[listener.tls]\ncertificates = [{{ cert = \"{path}/cert.pem\", key = \"{path}/key.pem\" }}]\n");
    let text = format!("{LISTENER}{tls}{}{ROUTE}", LISTENER.replace("NAME", "plain"));
    let snapshot = config::parse("test.toml", &text).unwrap().compile(1, &mut Ledger::default()).unwrap();
    let snapshot = Arc::new(snapshot);
    let (mut sockets, bound) = listener::open(snapshot.listeners(), 1, &Vec::new()).unwrap();
    let (mut worker, handle) = Worker::new(WorkerId(0), 1, snapshot, sockets.remove(0)).unwrap();
    let [secure, plain] = [bound[0].1.to_string(), bound[1].1.to_string()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let mut clients: Vec<TlsClient> = (0..CLIENTS).map(|_| TlsClient::new(&config, &secure)).collect();
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
    assert!(worker.downstreams.has_waiting_handshakes(), "all of them were gone on with before one request");
    // Each has a step to make of its own, and a turn makes a few.
    let mut turns = 0;
    while worker.downstreams.has_waiting_handshakes() {
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
