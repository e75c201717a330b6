//! An origin that answers from memory: the yardstick behind a proxy under test. Not here: reading and writing HTTP.

mod answer;
mod connection;
mod grpc;
mod http2;
mod receipt;
mod websocket;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn::http::RequestHead;
use cairn::id::{Address, ListenerId, Owner, Timer};
use cairn::tls::{self, Chain, Identity, ServerSpec, Session, Tickets};
use cairn::uring::{self, BindError, Event, Ring};
use slab::Slab;

use crate::args::OriginArguments;
use crate::crew::{self, CrewError, Stop};
use crate::random::Random;
use answer::Answers;
use connection::{Connection, Next, Service};

/// How long a connection that was answered for the last time is read on, so that its answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(5);

/// Why the origin did not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot speak TLS with {}: {why}", .file.display())]
    Tls { file: PathBuf, why: String },
}

/// What one thread has done.
#[derive(Clone, Copy, Debug)]
struct Served {
    requests: u64,
    connections: u64,
}

/// Serves until SIGINT or SIGTERM, then says how much it was.
pub(crate) fn origin(arguments: &OriginArguments) -> Result<String, OriginError> {
    let cpus = crew::cpus(&arguments.threads.cpus)?;
    let threads = arguments.threads.threads.map_or(cpus.len(), usize::from);
    crew::provide_descriptors(0)?;
    let (sockets, address) = open(&arguments.listen, threads)?;
    let answers = Arc::new(Answers::new(arguments));
    let tls = arguments.tls.as_deref().map(tls_server).transpose()?;
    let announce = move || {
        // Nobody to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "cairn-load: origin on {address}");
    };
    let job = move |(thread, socket): (u64, OwnedFd), ring, stop: &Stop| {
        Origin::new(ring, socket, &answers, tls.as_ref(), thread).run(stop)
    };
    let served = crew::work((0..).zip(sockets).collect(), &cpus, job, announce, || {})?;
    let (requests, connections) =
        served.iter().fold((0, 0), |sum, one| (sum.0 + one.requests, sum.1 + one.connections));
    Ok(format!("{requests} requests on {connections} connections\n"))
}

/// What all connections share of TLS.
fn tls_server(file: &Path) -> Result<tls::Server, OriginError> {
    let failed = |why: String| OriginError::Tls { file: file.to_owned(), why };
    let pem = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let chain = Chain::from_pem(&pem).map_err(|error| failed(error.to_string()))?;
    let identity = Identity::new(chain, &pem).map_err(|error| failed(error.to_string()))?;
    let spec = ServerSpec::new([identity].into());
    Ok(tls::Server::new(&spec, Arc::new(Tickets::new())))
}

/// A listening socket for each thread, all on one address.
pub(crate) fn open(listen: &Address, threads: usize) -> Result<(Vec<OwnedFd>, Address), BindError> {
    let first = uring::bind(listen)?;
    let address = match (listen, uring::local_port(&first)) {
        (Address::Inet(address), Some(port)) => Address::Inet(SocketAddr::new(address.ip(), port)),
        _ => listen.clone(),
    };
    let mut sockets = Vec::with_capacity(threads);
    for _ in 1..threads {
        sockets.push(match &address {
            Address::Inet(_) => uring::bind(&address)?,
            Address::Unix(_) => uring::share(&first, &address)?,
        });
    }
    sockets.push(first);
    Ok((sockets, address))
}

/// One thread's origin.
struct Origin<'a> {
    ring: Ring,
    service: Service<'a>,
    /// None: in the clear.
    tls: Option<&'a tls::Server>,
    connections: Slab<Connection>,
    /// Answers that wait, by when they are due. The wheel's ticks are too long for them.
    waiting: BinaryHeap<Reverse<(Duration, u32)>>,
    /// Streams of HTTP/2 that may have something to send, and connections that may have something to write.
    touched: Vec<u32>,
    dirty: Vec<u32>,
    accepted: u64,
}

impl<'a> Origin<'a> {
    fn new(mut ring: Ring, socket: OwnedFd, answers: &'a Answers, tls: Option<&'a tls::Server>, thread: u64) -> Self {
        ring.listen(ListenerId(0), socket);
        let service = Service { answers, random: Random::new(thread), head: RequestHead::new(), requests: 0 };
        Self {
            ring,
            service,
            tls,
            connections: Slab::with_capacity(1024),
            waiting: BinaryHeap::new(),
            touched: Vec::new(),
            dirty: Vec::new(),
            accepted: 0,
        }
    }

    fn run(mut self, stop: &Stop) -> io::Result<Served> {
        while !stop.is_asked() {
            let due = self.waiting.peek().map(|Reverse((due, _))| *due);
            let wait = due.map_or(Duration::MAX, |due| due.saturating_sub(self.ring.clock().now()));
            self.ring.turn_within(wait)?;
            while let Some(event) = self.ring.next_event() {
                self.on_event(event);
            }
            let now = self.ring.clock().now();
            while let Some(&Reverse((due, id))) = self.waiting.peek()
                && due <= now
            {
                self.waiting.pop();
                self.drive(id, |connection, _| connection.wake());
            }
            self.flush();
        }
        Ok(Served { requests: self.service.requests, connections: self.accepted })
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Accepted(_, descriptor) => {
                let entry = self.connections.vacant_entry();
                let socket = self.ring.add(descriptor, Owner::Downstream(entry.key() as u32));
                let session = self.tls.map(|server| Box::new(Session::server(server)));
                entry.insert(Connection::new(socket, session));
                self.accepted += 1;
            }
            Event::Received(Owner::Downstream(id), bytes) => {
                self.drive(id, |connection, ring| connection.receive(ring, bytes));
            }
            Event::Sent(Owner::Downstream(id), ..) => {
                self.mark_dirty(id);
                self.drive(id, |_, _| {});
            }
            Event::Ended(Owner::Downstream(id)) => self.drive(id, |connection, _| connection.end()),
            Event::Failed(Owner::Downstream(id), _) | Event::Expired(Timer::Connection(Owner::Downstream(id))) => {
                self.close(id)
            }
            _ => {}
        }
    }

    /// Changes a connection and lets it go as far as it can.
    fn drive(&mut self, id: u32, change: impl FnOnce(&mut Connection, &mut Ring)) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        change(connection, &mut self.ring);
        match connection.pump(&mut self.ring, &mut self.service) {
            Next::Nothing => {}
            Next::Frames => return self.read_frames(id),
            Next::WakeAt(due) => self.waiting.push(Reverse((due, id))),
            Next::Linger => self.ring.set_deadline(connection.socket(), Some(LINGER)),
            Next::Close => return self.close(id),
        }
        self.touch(id);
    }

    /// Closes a connection with its streams, or a stream.
    fn close(&mut self, id: u32) {
        self.close_streams(id);
        if let Some(connection) = self.connections.try_remove(id as usize) {
            let waiting = connection.is_waiting();
            let stream = connection.transport.stream_link().map(|link| (link.connection, link.slot));
            connection.close(&mut self.ring);
            if waiting {
                // Its id may be used again before the answer is due.
                self.waiting.retain(|Reverse((_, waiting))| *waiting != id);
            }
            if let Some((carrier, slot)) = stream {
                self.close_stream(carrier, slot);
            }
        }
    }
}
