//! The loop of one worker. It owns a ring and, through it, every connection that it accepted; nothing of it is shared.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::buffer::Pool;
use crate::downstream::Downstreams;
use crate::event_log::say;
use crate::exchange::Engine;
use crate::id::{Owner, Timer, WorkerId};
use crate::limits;
use crate::listener::Sockets;
use crate::runtime::{Background, Mailbox};
use crate::snapshot::Snapshot;
use crate::telemetry::Counters;
use crate::uring::{self, Driver, Errno, Event, Kernel, Ring, StartError, Waker};

/// How often buffers that a burst has left behind are given back.
const UPKEEP: Duration = Duration::from_secs(10);
/// How often the same warning is logged.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// Buffers given back between two turns.
const UPKEEP_STEP: usize = 64;

/// What the control thread may tell a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Accept and serve.
    Serve,
    /// Accept no more, end what is under way, then end.
    Drain,
    /// End now.
    Stop,
}

/// A configuration for a worker, with the sockets of the listeners that are new to it.
#[derive(Debug)]
pub struct ConfigUpdate {
    /// Of a higher version than the one before.
    pub snapshot: Arc<Snapshot>,
    /// One of each new listener.
    pub sockets: Sockets,
}

/// How the control thread reaches a worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    order: Arc<AtomicU8>,
    mailbox: Mailbox<ConfigUpdate>,
    waker: Waker,
    /// What the worker counts.
    pub counters: Arc<Counters>,
}

impl WorkerHandle {
    /// Gives the worker an order, which it follows at the end of its current turn.
    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.waker.wake();
    }

    /// Sends an update, which the worker applies between two turns. It replaces an update that was not applied yet, and takes over
    /// the sockets in that one.
    pub fn send(&self, mut update: ConfigUpdate) {
        if let Some(untaken) = self.mailbox.take() {
            update.sockets.extend(untaken.sockets);
        }
        self.mailbox.store(update);
        self.waker.wake();
    }
}

/// What a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Client connections.
    pub downstreams: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Buffers that nobody holds and the kernel was not offered.
    pub free_buffers: usize,
}

/// One worker.
pub struct Worker<D = Kernel> {
    id: WorkerId,
    engine: Engine<D>,
    downstreams: Downstreams,
    order: Arc<AtomicU8>,
    mailbox: Mailbox<ConfigUpdate>,
    draining: bool,
    next_upkeep: Duration,
    /// Warnings that were logged, and when each may be logged again.
    warnings: Vec<(Warning, Duration)>,
}

/// A state that an operator should know of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warning {
    /// What accept(2) failed with.
    Accept(Errno),
    /// Buffers are short.
    Buffers,
}

impl Worker {
    /// Sets up the worker on the calling thread, which will run it.
    ///
    /// # Errors
    /// When the machine does not grant what a ring needs.
    pub fn new(
        id: WorkerId,
        workers: usize,
        snapshot: Arc<Snapshot>,
        sockets: Sockets,
    ) -> Result<(Self, WorkerHandle), StartError> {
        Ok(Self::on(Ring::new()?, id, workers, snapshot, sockets))
    }
}

impl<D: Driver> Worker<D> {
    /// Sets up the worker on a given ring.
    #[must_use]
    pub fn on(
        mut ring: Ring<D>,
        id: WorkerId,
        workers: usize,
        snapshot: Arc<Snapshot>,
        sockets: Sockets,
    ) -> (Self, WorkerHandle) {
        ring.limit_clients(client_limit(workers));
        for (listener, socket) in sockets {
            ring.listen(listener, socket);
        }
        let (order, mailbox) = (Arc::new(AtomicU8::new(Order::Serve as u8)), Mailbox::default());
        let (waker, downstreams) = (ring.waker(), Downstreams::new(workers));
        let engine = Engine::new(ring, snapshot, workers, seed(id));
        let counters = Arc::clone(&engine.counters);
        let [buffers, _] = engine.ring.buffers.pools();
        counters.free_buffers.set(buffers.available() as u64);
        let handle = WorkerHandle { order: Arc::clone(&order), mailbox: mailbox.clone(), waker, counters };
        let (draining, next_upkeep, warnings) = (false, UPKEEP, Vec::new());
        (Self { id, engine, downstreams, order, mailbox, draining, next_upkeep, warnings }, handle)
    }

    /// Runs turns until the worker is told to end.
    ///
    /// # Errors
    /// When the ring breaks.
    pub async fn run(mut self, background: Background) -> io::Result<()> {
        while !self.turn(!background.is_busy())? {
            if self.engine.ring.clock().now() >= self.next_upkeep {
                self.next_upkeep = self.engine.ring.clock().now() + UPKEEP;
                for pool in self.engine.ring.buffers.pools().into_iter().filter(|pool| pool.is_stale()) {
                    background.spawn(trim(pool, background.clone()));
                }
            }
            if background.is_busy() {
                background.give_way().await;
            }
        }
        Ok(())
    }

    /// Runs one turn, which waits for an event if `block`. Returns whether the worker is to end.
    ///
    /// # Errors
    /// When the ring breaks.
    pub fn turn(&mut self, block: bool) -> io::Result<bool> {
        self.engine.ring.turn(block)?;
        let mut woken = false;
        while let Some(event) = self.engine.ring.next_event() {
            woken |= matches!(event, Event::Woken);
            self.dispatch(event);
        }
        if woken && let Some(update) = self.mailbox.take() {
            self.apply(update);
        }
        self.downstreams.forget_retired(&self.engine);
        self.shed_if_short();
        Ok(self.follow_order())
    }

    /// Sheds connections if buffers have run short, and logs that.
    fn shed_if_short(&mut self) {
        let engine = &mut self.engine;
        let starved = engine.ring.starved();
        let [buffers, _] = engine.ring.buffers.pools();
        engine.counters.free_buffers.set(buffers.available() as u64);
        engine.counters.starved_receives.set(starved as u64);
        if self.downstreams.shed(engine) || (starved > 0 && engine.ring.buffers.missing() != [0, 0]) {
            self.warn(Warning::Buffers);
        }
    }

    /// How much the worker holds now.
    #[must_use]
    pub fn load(&self) -> Load {
        let buffers = self.engine.ring.buffers.pools().iter().map(|pool| pool.available()).sum();
        Load { downstreams: self.downstreams.len(), exchanges: self.engine.len(), free_buffers: buffers }
    }

    /// Goes on under a newer snapshot. Exchanges under way end under the one that they began with.
    fn apply(&mut self, update: ConfigUpdate) {
        let engine = &mut self.engine;
        let before = engine.apply(update.snapshot);
        let now = engine.snapshot().clone();
        // This is done while draining, too: connections of a removed listener are served under the last snapshot that had it.
        for (id, _) in before.listeners().filter(|(id, _)| !now.has_listener(*id)) {
            self.downstreams.retire_listener(engine, id, &before);
        }
        let client_ca = |snapshot: &Snapshot, id| snapshot.tls(id).and_then(|tls| tls.client_ca().cloned());
        for (id, _) in now.listeners().filter(|(id, _)| before.has_listener(*id)) {
            let asked = client_ca(&now, id);
            if asked.is_some() && asked != client_ca(&before, id) {
                self.downstreams.distrust(engine, id);
            }
        }
        if self.draining {
            return;
        }
        for (id, socket) in update.sockets.into_iter().filter(|(id, _)| now.has_listener(*id)) {
            engine.ring.listen(id, socket);
        }
        for (id, descriptor) in engine.ring.stop_listening(|id| !now.has_listener(id)) {
            self.downstreams.accept(engine, id, descriptor);
        }
    }

    fn dispatch(&mut self, event: Event) {
        let engine = &mut self.engine;
        let owner = match &event {
            Event::Accepted(..) | Event::AcceptPaused(..) | Event::Woken => None,
            Event::Connected(owner) | Event::Received(owner, _) | Event::Ended(owner) => Some(*owner),
            Event::Sent(owner, ..) | Event::Failed(owner, _) | Event::Expired(Timer::Connection(owner)) => Some(*owner),
            Event::Expired(Timer::Exchange(_) | Timer::Attempt(_)) => None,
        };
        match (owner, event) {
            (None, Event::Accepted(listener, descriptor)) => self.downstreams.accept(engine, listener, descriptor),
            (None, Event::AcceptPaused(_, error)) => self.warn(Warning::Accept(error)),
            (None, Event::Expired(timer)) => {
                if let Some(stream) = engine.expire(timer) {
                    self.downstreams.pump(engine, stream.connection);
                }
            }
            (None, _) => {}
            (Some(Owner::Downstream(id)), event) => self.downstreams.on_event(engine, id, event),
            (Some(Owner::Upstream(id)), event) => {
                let progress = matches!(event, Event::Sent(..));
                match engine.on_event(id, event) {
                    Some(stream) if progress => self.downstreams.pump_waiting(engine, stream.connection),
                    Some(stream) => self.downstreams.pump(engine, stream.connection),
                    None => return,
                }
                engine.arm_connection(id);
            }
        }
    }

    /// Logs a warning, at most once a second for each cause.
    fn warn(&mut self, warning: Warning) {
        let now = self.engine.ring.clock().now();
        match self.warnings.iter_mut().find(|(known, _)| *known == warning) {
            Some((_, again)) if *again > now => return,
            Some((_, again)) => *again = now + WARNING_INTERVAL,
            None => self.warnings.push((warning, now + WARNING_INTERVAL)),
        }
        let id = self.id.0;
        match warning {
            Warning::Accept(error) => say(format_args!("worker {id}: accepting paused: {error}; {}", error.cure())),
            Warning::Buffers => {
                let counters = &self.engine.counters;
                let (free, waiting) = (counters.free_buffers.get(), counters.starved_receives.get());
                let [heads, readers, origins, pipelined] = counters.sheds();
                say(format_args!(
                    "worker {id}: buffers are short: {free} free, {waiting} receives wait; shed so far: {heads} partial heads, \
                     {readers} slow readers, {origins} before slow origins, {pipelined} with pipelined requests"
                ));
            }
        }
    }

    /// Follows the control thread's order. Returns whether the worker is to end.
    fn follow_order(&mut self) -> bool {
        let order = self.order.load(Ordering::Acquire);
        if order == Order::Drain as u8 && !self.draining {
            self.draining = true;
            for (id, descriptor) in self.engine.ring.stop_listening(|_| true) {
                self.downstreams.accept(&mut self.engine, id, descriptor);
            }
            self.downstreams.begin_drain(&mut self.engine);
        }
        order == Order::Stop as u8 || (self.draining && self.downstreams.is_empty())
    }
}

/// Client connections that one worker of `workers` may have, so that descriptors are left for connections to endpoints, and for
/// files and the admin interface.
fn client_limit(workers: usize) -> usize {
    let left = uring::descriptors_left();
    let control = (left / 16).min(limits::CONTROL_DESCRIPTORS);
    let own = (left - control) / workers;
    (own - (own / 2).min(limits::UPSTREAM_DESCRIPTORS)).max(1)
}

/// Gives back what a burst has left behind, a few buffers at a time.
async fn trim(pool: &'static Pool, background: Background) {
    while pool.trim(UPKEEP_STEP) {
        background.give_way().await;
    }
}

/// Different in each process and worker, so that balancers do not march in step. Not for secrets.
fn seed(id: WorkerId) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(id.0)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::exchange::{Failure, Record};
    use crate::snapshot::Ledger;
    use crate::{config, listener};

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

    /// Connecting took too long, and the connection stands after all before anybody could go on from there: what was sent on it is
    /// neither forgotten nor taken for never sent.
    #[test]
    fn a_connection_that_stands_too_late_was_sent_on() {
        use socket2::{Domain, Socket, Type};
        // An origin that lets nobody in.
        let slow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        slow.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        slow.listen(0).unwrap();
        slow.set_nonblocking(true).unwrap();
        let address = slow.local_addr().unwrap();
        let crowd: Vec<Socket> = std::iter::repeat_with(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
            .take(4)
            .inspect(|socket| {
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address);
            })
            .collect();
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
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(2048).unwrap();
        client.connect(&world.address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut client = TcpStream::from(client);
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
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(700) {
            world.turn();
        }
        assert_eq!(world.worker.load().exchanges, 1);
        // Now the origin lets them in, and gets the request.
        let (mut accepted, mut request) = (Vec::new(), String::new());
        while !request.contains("body") {
            world.turn();
            accepted.extend(slow.accept().ok().map(|(socket, _)| TcpStream::from(socket)));
            for stream in &mut accepted {
                stream.set_nonblocking(true).unwrap();
                let mut buffer = [0; 4096];
                if let Ok(count) = stream.read(&mut buffer) {
                    request.push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{} {request}", accepted.len());
        }
        drop(held);
        // The end of the body: what another origin would take for a request.
        client.write_all(b"GET /not/by/this/route HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (mut answer, mut elsewhere, mut sent) = (String::new(), None, String::new());
        let begun = std::time::Instant::now();
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
}
