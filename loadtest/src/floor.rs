//! `cairn-load floor`: what comes on a connection goes to another one as it is, on the ring that cairn uses: no parsing, no routing, no
//! pool. What a proxy costs beyond this is its own. Not here: measuring it.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use cairn::id::{Address, ListenerId, Owner};
use cairn::uring::{BindError, Event, Ring, SocketId};
use slab::Slab;

use crate::args::FloorArguments;
use crate::crew::{self, CrewError, Stop};
use crate::origin;

/// Why nothing was passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    #[error(transparent)]
    Crew(#[from] CrewError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Passes bytes on until SIGINT or SIGTERM, then says on how many connections.
pub(crate) fn floor(arguments: &FloorArguments) -> Result<String, FloorError> {
    let cpus = crew::cpus(&arguments.threads.cpus)?;
    let threads = arguments.threads.threads.map_or(cpus.len(), usize::from);
    crew::provide_descriptors(0)?;
    let (sockets, address) = origin::open(&arguments.listen, threads)?;
    let to = arguments.origin.clone();
    let announce = || {
        // Nobody to tell when stderr is closed.
        let _ = writeln!(io::stderr(), "cairn-load: floor on {address}");
    };
    let job = move |socket: OwnedFd, ring, stop: &Stop| Floor::new(ring, socket, to.clone()).run(stop);
    let passed = crew::work(sockets, &cpus, job, announce, || {})?;
    Ok(format!("{} connections\n", passed.iter().sum::<u64>()))
}

/// One thread's forwarder.
struct Floor {
    ring: Ring,
    origin: Address,
    pairs: Slab<Pair>,
    accepted: u64,
}

/// A side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Origin,
}

/// A client's connection and the one to the origin that goes with it.
struct Pair {
    client: End,
    origin: End,
}

/// One of the two.
struct End {
    socket: SocketId,
    /// Nothing is received, because the other one has enough to send.
    is_paused: bool,
    /// FIN was received.
    has_ended: bool,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Origin,
            Self::Origin => Self::Client,
        }
    }
}

impl Pair {
    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Origin => &mut self.origin,
        }
    }
}

impl Floor {
    fn new(mut ring: Ring, socket: OwnedFd, origin: Address) -> Self {
        ring.listen(ListenerId(0), socket);
        Self { ring, origin, pairs: Slab::with_capacity(1024), accepted: 0 }
    }

    fn run(mut self, stop: &Stop) -> io::Result<u64> {
        while !stop.is_asked() {
            self.ring.turn_within(Duration::MAX)?;
            while let Some(event) = self.ring.next_event() {
                self.on_event(event);
            }
        }
        Ok(self.accepted)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Accepted(_, descriptor) => self.begin(descriptor),
            Event::Received(owner, mut bytes) => {
                let (id, side) = place(owner);
                let Some(pair) = self.pairs.get_mut(id) else { return bytes.clear(self.ring.buffers.pieces()) };
                let to = pair.end(side.other()).socket;
                self.ring.send_all(to, &mut bytes);
                if self.ring.is_full(to) {
                    let from = pair.end(side);
                    from.is_paused = true;
                    self.ring.pause(from.socket);
                }
            }
            Event::Sent(owner, ..) => {
                let (id, side) = place(owner);
                self.resume(id, side);
            }
            Event::Ended(owner) => {
                let (id, side) = place(owner);
                let Some(pair) = self.pairs.get_mut(id) else { return };
                pair.end(side).has_ended = true;
                self.ring.finish(pair.end(side.other()).socket);
                self.close_if_done(id);
            }
            Event::Failed(owner, _) => self.close(place(owner).0),
            _ => {}
        }
    }

    /// Begins to pass on what comes on a new connection.
    fn begin(&mut self, descriptor: OwnedFd) {
        let entry = self.pairs.vacant_entry();
        let id = entry.key() as u32;
        let end = |socket| End { socket, is_paused: false, has_ended: false };
        let client = end(self.ring.add(descriptor, Owner::Downstream(id)));
        self.accepted += 1;
        match self.ring.connect(&self.origin, Owner::Upstream(id)) {
            Ok(socket) => {
                entry.insert(Pair { client, origin: end(socket) });
            }
            Err(_) => self.ring.close(client.socket),
        }
    }

    /// Something was sent on one side: the other one may be received from again.
    fn resume(&mut self, id: usize, sent: Side) {
        let Some(pair) = self.pairs.get_mut(id) else { return };
        let to = pair.end(sent).socket;
        let from = pair.end(sent.other());
        if from.is_paused && !self.ring.is_full(to) {
            from.is_paused = false;
            self.ring.receive(from.socket);
        }
        self.close_if_done(id);
    }

    fn close_if_done(&mut self, id: usize) {
        let Some(Pair { client, origin }) = self.pairs.get(id) else { return };
        let is_sent = self.ring.unsent(client.socket) == 0 && self.ring.unsent(origin.socket) == 0;
        if client.has_ended && origin.has_ended && is_sent {
            self.close(id);
        }
    }

    fn close(&mut self, id: usize) {
        if let Some(Pair { client, origin }) = self.pairs.try_remove(id) {
            self.ring.close(client.socket);
            self.ring.close(origin.socket);
        }
    }
}

/// The pair that an event concerns, and its side.
fn place(owner: Owner) -> (usize, Side) {
    match owner {
        Owner::Downstream(id) => (id as usize, Side::Client),
        Owner::Upstream(id) => (id as usize, Side::Origin),
    }
}
