//! A worker on the calling thread, between real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::exchange::{Failure, Record};
use crate::snapshot::Ledger;
use crate::{config, listener};

mod handshakes;

const LISTENER: &str = "[[listener]]\nname = \"NAME\"\nbind = \"127.0.0.1:0\"\n";
const ROUTE: &str = "[[route]]\nrespond = { status = 200, body = \"ok\" }\n";

/// A worker on the calling thread, which has to turn it.
struct World {
    ledger: Ledger,
    worker: Worker,
    handle: WorkerHandle,
    address: String,
}

fn snapshot(ledger: &mut Ledger, version: u64, listeners: &[&str], routes: &str) -> Arc<Snapshot> {
    let listeners: String = listeners.iter().map(|name| LISTENER.replace("NAME", name)).collect();
    let config = config::parse("test.toml", &format!("{listeners}{routes}")).unwrap();
    Arc::new(config.compile(version, ledger).unwrap())
}

impl World {
    fn new(listeners: &[&str]) -> Self {
        Self::with(listeners, ROUTE)
    }

    fn with(listeners: &[&str], routes: &str) -> Self {
        let mut ledger = Ledger::default();
        let snapshot = snapshot(&mut ledger, 1, listeners, routes);
        let (mut sockets, bound) = listener::open(snapshot.listeners(), 1, &Vec::new()).unwrap();
        let (worker, handle) = Worker::new(WorkerId(0), 1, snapshot, sockets.remove(0)).unwrap();
        Self { ledger, worker, handle, address: bound[0].1.to_string() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn turn(&mut self) {
        self.worker.engine.ring.turn_within(Duration::from_millis(5)).unwrap();
        self.worker.engine.begin_turn();
        while let Some(event) = self.worker.engine.ring.next_event() {
            self.worker.dispatch(event);
        }
        self.worker.shed_if_short();
    }

    fn turn_until(&mut self, so: impl Fn(&Worker) -> bool) {
        while !so(&self.worker) {
            self.turn();
        }
    }

    /// Turns until the client has read something, or the end.
    fn read(&mut self, client: &mut TcpStream) -> String {
        let mut buffer = [0; 4096];
        loop {
            self.turn();
            match client.read(&mut buffer) {
                Ok(count) => return String::from_utf8_lossy(&buffer[..count]).into_owned(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Clients cannot take the last buffers: whoever holds one and makes no progress goes first, others are served.
#[test]
fn who_holds_buffers_without_progress_is_shed() {
    let mut world = World::new(&["a"]);
    let mut stuck = world.connect();
    stuck.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let mut client = world.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "));
    let ring = &world.worker.engine.ring;
    let mut held = Vec::new();
    while ring.buffers.missing() == [0, 0] {
        held.extend(ring.buffers.take());
    }
    let answer = world.read(&mut stuck);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("details=\"shed\""), "{answer}");
    assert_eq!(world.worker.engine.counters.sheds(), [1, 0, 0, 0]);
    // A want of large buffers is nothing that it could help.
    let mut stuck = world.connect();
    stuck.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    held.clear();
    let ring = &world.worker.engine.ring;
    while ring.buffers.missing() == [0, 0] {
        held.extend(ring.buffers.take_large());
    }
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "));
    world.worker.engine.ring.turn_within(limits::SHED_STALL + limits::SHED_STALL).unwrap();
    while let Some(event) = world.worker.engine.ring.next_event() {
        world.worker.dispatch(event);
    }
    assert!(!world.worker.downstreams.shed(&mut world.worker.engine));
    assert_eq!(world.worker.engine.counters.sheds(), [1, 0, 0, 0]);
    held.clear();
    held.extend(std::iter::from_fn(|| {
        let ring = &world.worker.engine.ring;
        (ring.buffers.missing() == [0, 0]).then(|| ring.buffers.take()).flatten()
    }));
    // No more buffers are offered to clients, but what was offered serves them.
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "));
    drop(held);
}

/// Whether forwarded, answered here, refused or cut: one end each.
#[test]
fn every_exchange_ends_with_one_record() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes = format!(
        "[[route]]\npath = \"/here\"\nrespond = {{ status = 201, body = \"ok\" }}\n[[route]]\npath = \"/there\"\n\
         cluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [\"{nobody}\"]\n"
    );
    let mut world = World::with(&["a"], &routes);
    let cases = [
        ("GET /here HTTP/1.1\r\nHost: a\r\n\r\n", Some(0), 0, 201, None),
        ("GET /there HTTP/1.1\r\nHost: a\r\n\r\n", Some(1), 1, 502, Some(Failure::Connect)),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", None, 0, 404, Some(Failure::NoRoute)),
    ];
    let mut client = world.connect();
    for (request, route, attempts, status, failure) in cases {
        client.write_all(request.as_bytes()).unwrap();
        let answer = world.read(&mut client);
        let finished = std::mem::take(&mut world.worker.engine.finished);
        let [record] = finished[..] else { panic!("{request}: {finished:?}") };
        let forwarded = record.forwarded.map_or(0, |forwarding| forwarding.attempts);
        let found = (record.route.map(|route| route.0), forwarded, record.status, record.failure);
        assert_eq!(found, (route, attempts, status, failure), "{request}");
        assert_eq!(record.sent, answer.len() as u64);
    }
    client.write_all(b"GET\r\n\r\n").unwrap();
    world.read(&mut client);
    assert!(matches!(world.worker.engine.finished[..], [Record { status: 400, failure: Some(_), .. }]));
    world.worker.engine.finished.clear();
    // One that is cut while its origin is waited for.
    let _origin = std::net::TcpListener::bind(nobody).unwrap();
    let mut client = world.connect();
    client.write_all(b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    world.turn_until(|worker| worker.load().exchanges == 1);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.turn_until(|worker| worker.load().exchanges == 0);
    assert!(matches!(
        world.worker.engine.finished[..],
        [Record { status: 0, failure: Some(Failure::ClientGone), forwarded: Some(_), .. }]
    ));
}

/// Whoever has reset its connection before it was accepted has no address any more, and is not taken for a trusted neighbour on a
/// Unix-domain socket.
#[test]
fn who_is_gone_before_it_is_accepted_is_not_served() {
    let mut world = World::new(&["a"]);
    let mut forger = TcpStream::connect(&world.address).unwrap();
    forger.write_all(b"GET /forged HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n").unwrap();
    // Behind a FIN, what was sent can be read even after the reset.
    forger.shutdown(std::net::Shutdown::Write).unwrap();
    socket2::SockRef::from(&forger).set_linger(Some(Duration::ZERO)).unwrap();
    drop(forger);
    let mut client = world.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "));
    assert_eq!(world.worker.engine.finished.len(), 1);
    assert_eq!(world.worker.load().downstreams, 1);
}

/// A configuration may arrive after the order to drain, and lack the listener of a connection that still ends.
#[test]
fn a_listener_may_go_while_draining() {
    let mut world = World::new(&["a", "b"]);
    let mut client = world.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n").unwrap();
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "));
    world.handle.order(Order::Drain);
    assert!(!world.worker.follow_order());
    let newer = snapshot(&mut world.ledger, 2, &["b"], ROUTE);
    world.worker.apply(ConfigUpdate { snapshot: newer, sockets: Vec::new() });
    client.write_all(b"Host: a\r\n\r\n").unwrap();
    let answer = world.read(&mut client);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
}

/// While the process is to end, nobody keeps it waiting who asks for nothing.
#[test]
fn a_drain_waits_for_no_idle_client() {
    let mut world = World::new(&["a"]);
    let mut refused = world.connect();
    refused.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert!(world.read(&mut refused).starts_with("HTTP/1.1 200 "));
    world.handle.order(Order::Drain);
    assert!(!world.worker.follow_order());
    // The rest of a request that was answered, and a connection that the kernel had already accepted.
    refused.write_all(b"12345").unwrap();
    let (_late, accepted) = std::os::unix::net::UnixStream::pair().unwrap();
    let (listener, _) = world.worker.engine.snapshot().listeners().next().unwrap();
    world.worker.downstreams.accept(&mut world.worker.engine, listener, accepted.into());
    let begun = Instant::now();
    while world.worker.load().downstreams > 0 {
        world.turn();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", world.worker.load());
    }
    assert!(begun.elapsed() >= limits::FIRST_REQUEST / 2, "one that has just come may have a request on its way");
}

fn tcp_socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
}

/// A listener whose backlog is full, and who fills it.
fn full_listener() -> (Socket, Vec<Socket>) {
    let listener = tcp_socket();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = |socket: &Socket| {
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
    };
    let crowd = std::iter::repeat_with(tcp_socket).take(4).inspect(connect).collect();
    (listener, crowd)
}

/// A client whose kernel takes little of what it does not read.
fn small_client(address: &str) -> TcpStream {
    let client = tcp_socket();
    client.set_recv_buffer_size(2048).unwrap();
    client.connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    client.set_nonblocking(true).unwrap();
    client.into()
}

/// Accepts whoever waits, until one of them has sent `text`.
fn accept_until(world: &mut World, listener: &Socket, text: &str) -> Vec<TcpStream> {
    let (mut accepted, mut received, begun) = (Vec::<TcpStream>::new(), String::new(), Instant::now());
    while !received.contains(text) {
        world.turn();
        accepted.extend(listener.accept().ok().map(|(socket, _)| TcpStream::from(socket)));
        for stream in &mut accepted {
            stream.set_nonblocking(true).unwrap();
            let mut buffer = [0; 4096];
            if let Ok(count) = stream.read(&mut buffer) {
                received.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{} {received}", accepted.len());
    }
    accepted
}

/// Connecting took too long, and the connection stands after all before anybody could go on from there: what was sent on it is
/// neither forgotten nor taken for never sent.
#[test]
fn a_connection_that_stands_too_late_was_sent_on() {
    let (slow, crowd) = full_listener();
    let address = slow.local_addr().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let text = "x".repeat(12_000);
    let routes = format!(
        "[[route]]\npath = \"/here\"\nrespond = {{ status = 200, body = \"{text}\" }}\n[[route]]\npath = \"/there\"\n\
         cluster = \"c\"\n[[cluster]]\nname = \"c\"\nbalance = \"round_robin\"\nendpoints = [{{ address = \"{}\", weight = 10000 }}, \"{}\"]\n\
         timeouts = {{ connect = \"300ms\", response = \"2s\" }}\n",
        address.as_socket().unwrap(),
        other.local_addr().unwrap()
    );
    let mut world = World::with(&["a"], &routes);
    let mut client = small_client(&world.address);
    (0..10).for_each(|_| world.turn());
    let free = |world: &World| world.worker.engine.ring.buffers.pools()[0].available();
    let before = free(&world);
    // Answers that the client does not take: two pieces wait.
    while free(&world) + 2 > before {
        client.write_all(b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        (0..4).for_each(|_| world.turn());
    }
    client.write_all(b"POST /there HTTP/1.1\r\nHost: a\r\nContent-Length: 48\r\n\r\nbody").unwrap();
    world.turn_until(|worker| worker.load().exchanges == 1);
    // Buffers run short, and the client may have no more.
    let mut held = Vec::new();
    while !world.worker.engine.ring.buffers.is_scarce() {
        held.extend(world.worker.engine.ring.buffers.take());
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        world.turn();
    }
    assert_eq!(world.worker.load().exchanges, 1);
    let _accepted = accept_until(&mut world, &slow, "body");
    drop(held);
    // The end of the body: what another origin would take for a request.
    client.write_all(b"GET /not/by/this/route HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut answer, mut elsewhere, mut sent) = (String::new(), None, String::new());
    let begun = Instant::now();
    while !answer.contains("HTTP/1.1 5") && begun.elapsed() < Duration::from_secs(10) {
        world.turn();
        let mut buffer = [0; 65536];
        // What came before the answer is dropped.
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            answer.drain(..answer.len().saturating_sub(20));
            answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
            world.turn();
        }
        elsewhere = elsewhere.or(other.accept().ok());
        if let Some((stream, _)) = &mut elsewhere {
            stream.set_nonblocking(true).unwrap();
            if let Ok(count) = stream.read(&mut buffer) {
                sent.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }
    let waited = begun.elapsed();
    let answer = answer.split_once("HTTP/1.1 5").map(|(_, rest)| rest.to_owned());
    assert!(elsewhere.is_none(), "another origin is asked, with {sent:?}; after {waited:?}: {answer:?}");
    assert!(answer.unwrap().contains("_timeout"));
    drop(crowd);
}

/// A client that takes no more when its origin is yet to be connected to: nothing is received for it afterwards.
#[test]
fn a_response_is_paused_though_the_connection_stood_later() {
    let (slow, crowd) = full_listener();
    let address = slow.local_addr().unwrap().as_socket().unwrap();
    let text = "x".repeat(12_000);
    let routes = format!(
        "[[route]]\npath = \"/here\"\nrespond = {{ status = 200, body = \"{text}\" }}\n[[route]]\npath = \"/there\"\n\
         cluster = \"c\"\n[[cluster]]\nname = \"c\"\nendpoints = [\"{address}\"]\ntimeouts.connect = \"20s\"\n"
    );
    let mut world = World::with(&["a"], &routes);
    let mut client = small_client(&world.address);
    (0..10).for_each(|_| world.turn());
    let before = world.worker.load().free_buffers;
    while world.worker.load().free_buffers + 2 > before {
        client.write_all(b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        (0..4).for_each(|_| world.turn());
    }
    client.write_all(b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    world.turn_until(|worker| worker.load().exchanges == 1);
    let mut held = Vec::new();
    while !world.worker.engine.ring.buffers.is_scarce() {
        held.extend(world.worker.engine.ring.buffers.take());
    }
    // The client cannot take any more, and is found to while its origin is connected to.
    world.worker.downstreams.pump(&mut world.worker.engine, 0);
    let mut accepted = accept_until(&mut world, &slow, "/there");
    let (mut written, mut received, begun) = (0, 0, Instant::now());
    while begun.elapsed() < limits::SHED_STALL / 2 {
        world.turn();
        received = world.worker.engine.upstreams.get(0).map_or(received, |connection| connection.received);
        written += accepted.iter_mut().filter_map(|stream| stream.write(&[b'x'; 65536]).ok()).sum::<usize>();
    }
    assert!(received < 65536, "{received} bytes of {written} were taken for a client that reads nothing");
    drop((held, crowd));
}

/// A worker that is late refuses what matters least, and only that.
#[test]
fn what_matters_least_is_refused_where_turns_take_too_long() {
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in origin.incoming().flatten() {
            std::thread::spawn(move || {
                while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    let route =
        |priority: &str| format!("[[route]]\npath = \"/{priority}\"\npriority = \"{priority}\"\ncluster = \"c\"\n");
    let routes = format!(
        "{}{}[[cluster]]\nname = \"c\"\nendpoints = [\"{at}\"]\n[workers]\noverload_delay = \"1ms\"\n",
        route("critical"),
        route("bulk")
    );
    let mut world = World::with(&["a"], &routes);
    let mut client = world.connect();
    let mut ask = |world: &mut World, priority: &str| {
        client.write_all(format!("GET /{priority} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        world.read(&mut client)
    };
    assert!(ask(&mut world, "bulk").starts_with("HTTP/1.1 200 "));
    let answer = loop {
        // A turn in which there is much to do.
        world.turn();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        world.worker.engine.end_turn();
        if world.worker.engine.is_overloaded() {
            let answer = ask(&mut world, "bulk");
            if !answer.starts_with("HTTP/1.1 200 ") {
                break answer;
            }
        }
    };
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("details=\"overloaded\""), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert!(ask(&mut world, "critical").starts_with("HTTP/1.1 200 "));
    let [critical, normal, bulk] = world.worker.engine.counters.overloaded();
    assert_eq!((critical, normal, bulk), (0, 0, 1));
}

/// Where turns take far too long, connections that there are come first: idle ones are kept for less time, and in the end no more are
/// accepted, until turns are short again.
#[test]
fn accepting_stops_last_under_overload() {
    let mut world = World::with(&["a"], &format!("{ROUTE}[workers]\noverload_delay = \"1ms\"\n"));
    let mut client = world.connect();
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(get).unwrap();
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "));
    let busy_turn = |world: &mut World| {
        world.turn();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        world.worker.engine.end_turn()
    };
    while !busy_turn(&mut world) {}
    assert!(world.worker.engine.is_overloaded());
    // It rests from now on, however long this test has taken; what was armed ends in this turn.
    world.worker.engine.ring.rest_accepting();
    world.turn();
    let mut late = world.connect();
    late.write_all(get).unwrap();
    client.write_all(get).unwrap();
    world.worker.engine.ring.rest_accepting();
    world.turn();
    assert_eq!(world.worker.load().downstreams, 1, "it waits in the backlog");
    assert!(world.read(&mut client).starts_with("HTTP/1.1 200 "), "who is there is served");
    // Turns are short again, and accepting goes on.
    let answer = loop {
        world.turn();
        world.worker.engine.end_turn();
        let mut buffer = [0; 4096];
        match late.read(&mut buffer) {
            Ok(count) => break String::from_utf8_lossy(&buffer[..count]).into_owned(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}
