//! Endpoints with several addresses, as names have them: a real worker between real sockets. Not here: looking names up
//! (`src/config/external.rs`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use cairn::buffer::{Buffers, ProvidedRing};
use cairn::cluster::EndpointSpec;
use cairn::id::{Address, WorkerId};
use cairn::snapshot::Ledger;
use cairn::uring::{Completion, Driver, Kernel, Operation, Ring, StartError, Waker, Workarounds};
use cairn::worker::{Order, Worker, WorkerHandle};
use cairn::{config, listener, runtime};
use socket2::{Domain, SockAddr, Socket, Type};

/// A worker; it is stopped when dropped.
struct Proxy {
    address: String,
    handle: WorkerHandle,
}

impl Proxy {
    /// With one cluster, whose endpoints have these addresses each.
    fn start(endpoints: &[&[SocketAddr]]) -> Self {
        Self::start_on(|| Kernel::new(Workarounds::needed().unwrap()).unwrap(), endpoints)
    }

    /// The same on a given machine.
    fn start_on<D: Driver + 'static>(
        machine: impl FnOnce() -> D + Send + 'static,
        endpoints: &[&[SocketAddr]],
    ) -> Self {
        let text = "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\n[[route]]\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\n\
                    balance = \"round_robin\"\nendpoints = [\"127.0.0.1:1\"]\n";
        let mut config = config::parse("test.toml", text).unwrap();
        let spec = |addresses: &&[SocketAddr]| {
            let mut addresses = addresses.iter().map(|address| Address::Inet(*address));
            let address = addresses.next().unwrap();
            let others = addresses.collect();
            let (name, host) = (address.to_string(), address.to_string());
            EndpointSpec { name, host, address, others, tls_name: None, weight: 1, backup: false, zone: None }
        };
        config.snapshot.clusters[0].endpoints = endpoints.iter().map(spec).collect();
        let snapshot = Arc::new(config.compile(1, &mut Ledger::default()).unwrap());
        let (mut sockets, bound) = listener::open(snapshot.listeners(), 1, &Vec::new()).unwrap();
        let (sockets, (started, start)) = (sockets.remove(0), mpsc::channel());
        let cpu = runtime::allowed_cpus().unwrap()[0];
        // It ends with its order; who waits for it would wait for a test that fails, too.
        drop(runtime::spawn("test", cpu, move |background| async move {
            let (worker, handle) =
                Worker::on(Ring::on(machine(), Buffers::new().unwrap()).unwrap(), WorkerId(0), 1, snapshot, sockets);
            started.send(handle).unwrap();
            worker.run(background).await
        }));
        Self { address: bound[0].1.to_string(), handle: start.recv().unwrap() }
    }

    /// What comes of one request on a connection of its own.
    fn ask(&self) -> String {
        let mut client = TcpStream::connect(&self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    fn failures(&self) -> u64 {
        self.handle.counters.connect_failures.get()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.handle.order(Order::Stop);
    }
}

/// The machine of the test, as if its kernel were built without IPv6.
struct WithoutIpv6(Kernel);

impl Driver for WithoutIpv6 {
    fn has_bundles(&self) -> bool {
        self.0.has_bundles()
    }

    fn misses_ends(&self) -> bool {
        self.0.misses_ends()
    }

    fn register(&mut self, group: u16, offered: &ProvidedRing) -> Result<(), StartError> {
        self.0.register(group, offered)
    }

    fn submit(&mut self, tag: u64, operation: Operation<'_>) {
        self.0.submit(tag, operation);
    }

    fn submit_now(&mut self) {
        self.0.submit_now();
    }

    fn reap(
        &mut self,
        wait: Duration,
        offered: [&mut ProvidedRing; 2],
        each: impl FnMut(Completion),
    ) -> io::Result<()> {
        self.0.reap(wait, offered, each)
    }

    fn reap_early(&mut self, each: impl FnMut(Completion)) {
        self.0.reap_early(each);
    }

    fn has_overflowed(&mut self) -> bool {
        self.0.has_overflowed()
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn wall_seconds(&self) -> u64 {
        self.0.wall_seconds()
    }

    fn random(&mut self) -> u64 {
        self.0.random()
    }

    fn descriptors_left(&self) -> usize {
        self.0.descriptors_left()
    }

    fn waker(&self) -> Waker {
        self.0.waker()
    }

    fn socket(&mut self, address: &Address) -> io::Result<(OwnedFd, SockAddr)> {
        if matches!(address, Address::Inet(SocketAddr::V6(_))) {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        self.0.socket(address)
    }

    fn peer(&self, socket: BorrowedFd<'_>) -> io::Result<Option<(IpAddr, u16)>> {
        self.0.peer(socket)
    }

    fn local(&self, socket: BorrowedFd<'_>) -> Option<(IpAddr, u16)> {
        self.0.local(socket)
    }

    fn accept_waiting(&mut self, listener: BorrowedFd<'_>) -> Vec<OwnedFd> {
        self.0.accept_waiting(listener)
    }

    fn shut_down(&mut self, socket: BorrowedFd<'_>) {
        self.0.shut_down(socket);
    }

    fn reset_on_close(&mut self, socket: BorrowedFd<'_>) {
        self.0.reset_on_close(socket);
    }

    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> bool {
        self.0.has_ended(socket)
    }
}

/// Answers 200 and closes; counts connections.
fn live(address: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let (mut stream, mut seen) = (stream.unwrap(), Vec::new());
            let mut buffer = [0; 4096];
            while !seen.ends_with(b"\r\n\r\nhi") {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "the proxy gave up: {:?}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&buffer[..count]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        }
    });
    (address, count)
}

/// Refuses connections for as long as the socket lives.
fn dead(address: &str) -> (Socket, SocketAddr) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn the_addresses_of_a_name_are_one_endpoint_and_tried_in_turn() {
    let six = TcpListener::bind("[::1]:0").is_ok();
    let (_a, first) = dead(if six { "[::1]:0" } else { "127.0.0.1:0" });
    let (_b, second) = dead("127.0.0.1:0");
    let (good, count) = live("127.0.0.1:0");
    for addresses in [&[good][..], &[first, good], &[good, first], &[first, second, good], &[first, good, second]] {
        let proxy = Proxy::start(&[addresses]);
        let before = count.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert!(proxy.ask().starts_with("HTTP/1.1 200 "), "{addresses:?}");
        }
        assert_eq!(count.load(Ordering::SeqCst) - before, 3);
        assert_eq!(proxy.failures(), 0, "an address is no endpoint");
    }
    if six {
        let (good, _) = live("[::1]:0");
        assert!(Proxy::start(&[&[good]]).ask().starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn another_endpoint_follows_when_all_addresses_have_failed() {
    let (_a, first) = dead("127.0.0.1:0");
    let (_b, second) = dead("127.0.0.1:0");
    let (_c, third) = dead("127.0.0.1:0");
    let proxy = Proxy::start(&[&[first, second, third]]);
    let answer = proxy.ask();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connect_failed"), "{answer}");
    assert_eq!(proxy.failures(), 1);
    let (good, _) = live("127.0.0.1:0");
    let proxy = Proxy::start(&[&[first, second], &[third, good]]);
    for _ in 0..4 {
        assert!(proxy.ask().starts_with("HTTP/1.1 200 "));
    }
    assert!((1..=4).contains(&proxy.failures()), "once for each request that began at the endpoint that is down");
}

/// An address from which nothing comes back takes its share of the time, once: then the one that answered comes first.
#[test]
fn an_address_that_worked_comes_first() {
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    // With its queue full, the kernel drops what comes.
    let fill = Duration::from_millis(300);
    let queue: Vec<_> = (0..8).map_while(|_| TcpStream::connect_timeout(&address, fill).ok()).collect();
    assert!(!queue.is_empty() && queue.len() < 8);
    let (good, _) = live("127.0.0.1:0");
    let proxy = Proxy::start(&[&[address, good]]);
    let began = std::time::Instant::now();
    for _ in 0..4 {
        assert!(proxy.ask().starts_with("HTTP/1.1 200 "));
    }
    // One share of two seconds for two addresses, not four.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_millis(3900), "{took:?}");
}

/// On a machine without IPv6, an endpoint that has no other address is like one that refuses connections.
#[test]
fn an_address_of_a_family_that_the_machine_lacks_is_like_one_that_refuses() {
    let [six, a, b, c] = [1, 2, 3, 4].map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let start = |endpoints: &[&[SocketAddr]]| {
        Proxy::start_on(|| WithoutIpv6(Kernel::new(Workarounds::needed().unwrap()).unwrap()), endpoints)
    };
    let (_socket, refusing) = dead("127.0.0.1:0");
    let (good, count) = live("127.0.0.1:0");
    // Alone, or after an address that refuses. A request tries three endpoints at most.
    for (endpoints, failures) in [
        (&[&[six][..]][..], 1),
        (&[&[six, a]], 1),
        (&[&[refusing, six]], 1),
        (&[&[six], &[refusing, six]], 2),
        (&[&[six], &[a], &[b], &[c]], 3),
    ] {
        let proxy = start(endpoints);
        let answer = proxy.ask();
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connect_failed"), "{endpoints:?}: {answer}");
        assert_eq!(proxy.failures(), failures, "{endpoints:?}");
    }
    for endpoints in [&[&[six][..], &[good]][..], &[&[refusing, six], &[good]], &[&[six], &[refusing, six], &[good]]] {
        let proxy = start(endpoints);
        let before = count.load(Ordering::SeqCst);
        for _ in 0..4 {
            let answer = proxy.ask();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{endpoints:?}: {answer}");
        }
        assert_eq!(count.load(Ordering::SeqCst) - before, 4);
        assert!(proxy.failures() >= 1, "{endpoints:?}");
    }
    // An address of another family makes up for it.
    let proxy = start(&[&[six, good]]);
    assert!(proxy.ask().starts_with("HTTP/1.1 200 "));
    assert_eq!(proxy.failures(), 0);
}
