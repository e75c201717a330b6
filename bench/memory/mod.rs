//! A machine in memory, below a real worker: sockets are buffers, every connect and every send succeeds, time passes by a step a
//! turn, and the kernel is asked for nothing while connections last. Not here: faults, delays, and any order but the first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use cairn::buffer::{Buffers, ProvidedRing, Queue};
use cairn::id::Address;
use cairn::uring::{Completion, Driver, Operation, StartError, Waker};
use socket2::SockAddr;

/// How much time passes in a turn.
const STEP: Duration = Duration::from_micros(20);
/// When it begins, in seconds since 1970.
const EPOCH: u64 = 1_700_000_000;
/// Where clients come from.
const CLIENT: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

/// The machine that a ring stands on.
pub(crate) struct Memory {
    world: Rc<RefCell<World>>,
    waker: Waker,
}

/// The other end of a worker's connections, for whoever plays its clients.
#[derive(Clone)]
pub(crate) struct Outside {
    world: Rc<RefCell<World>>,
}

/// What stands behind every endpoint.
pub(crate) struct Origin {
    /// Bytes of content that each request has.
    pub(crate) content: usize,
    /// What each is answered with.
    pub(crate) answer: Vec<u8>,
}

/// A client's end of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Client(RawFd);

struct World {
    origin: Origin,
    now: Duration,
    /// Opened again for each socket, whose name the descriptor is.
    nothing: File,
    /// By descriptor.
    sockets: Vec<Option<Socket>>,
    /// The one accept there is: its tag, and whether it is for many.
    accept: Option<(u64, bool)>,
    /// Connections that wait to be accepted.
    arrived: VecDeque<OwnedFd>,
    /// What the next reap hands over.
    completions: Vec<Completion>,
    /// What the last one handed over, for its room.
    handed_over: Vec<Completion>,
}

#[derive(Default)]
struct Socket {
    is_client: bool,
    /// Tag and group of the receive that is armed.
    receive: Option<(u64, u16)>,
    /// What the worker is to receive, now and from the turn after the next on.
    incoming: Vec<u8>,
    later: Vec<u8>,
    /// What the worker has sent and the other end has not taken.
    outgoing: Vec<u8>,
}

impl Memory {
    /// A machine, and what is outside.
    pub(crate) fn new(origin: Origin) -> io::Result<(Self, Outside)> {
        let world = World {
            origin,
            now: Duration::ZERO,
            nothing: File::open("/dev/null")?,
            sockets: Vec::new(),
            accept: None,
            arrived: VecDeque::new(),
            completions: Vec::new(),
            handed_over: Vec::new(),
        };
        let world = Rc::new(RefCell::new(world));
        Ok((Self { world: Rc::clone(&world), waker: Waker::new()? }, Outside { world }))
    }
}

impl Outside {
    /// A listening socket. All share what connects.
    pub(crate) fn listener(&self) -> io::Result<OwnedFd> {
        self.world.borrow_mut().open(false)
    }

    /// Connects a client, which may write at once.
    pub(crate) fn connect(&self) -> io::Result<Client> {
        let mut world = self.world.borrow_mut();
        let socket = world.open(true)?;
        let client = Client(socket.as_raw_fd());
        world.arrived.push_back(socket);
        Ok(client)
    }

    /// Sends to the worker.
    pub(crate) fn write(&self, client: Client, bytes: &[u8]) {
        self.world.borrow_mut().at(client.0).incoming.extend_from_slice(bytes);
    }

    /// Appends what the worker has sent.
    pub(crate) fn read(&self, client: Client, into: &mut Vec<u8>) {
        into.append(&mut self.world.borrow_mut().at(client.0).outgoing);
    }
}

impl World {
    fn open(&mut self, is_client: bool) -> io::Result<OwnedFd> {
        let name: OwnedFd = self.nothing.try_clone()?.into();
        let index = name.as_raw_fd() as usize;
        self.sockets.resize_with(self.sockets.len().max(index + 1), || None);
        self.sockets[index] = Some(Socket { is_client, ..Socket::default() });
        Ok(name)
    }

    fn at(&mut self, name: RawFd) -> &mut Socket {
        self.sockets.get_mut(name as usize).and_then(Option::as_mut).expect("a socket of this machine")
    }

    fn complete(&mut self, tag: u64, result: i32) {
        self.completions.push(Completion { tag, result, buffer: None, more: false });
    }

    /// Does what was asked for, as far as it can be done at once. Never inlined, so that its work can be told from the worker's.
    #[inline(never)]
    fn take(&mut self, tag: u64, operation: Operation<'_>) {
        match operation {
            Operation::Accept(_) => self.accept = Some((tag, false)),
            Operation::AcceptMany(_) => self.accept = Some((tag, true)),
            Operation::Connect(..) => self.complete(tag, 0),
            Operation::Receive { socket, group } => self.at(socket.as_raw_fd()).receive = Some((tag, group)),
            Operation::Send { socket, out, buffers } => self.send(tag, socket.as_raw_fd(), out, buffers),
            Operation::Cancel(of) => {
                self.cancel(|_, tag| tag == of);
                if let Some((accept, _)) = self.accept.take_if(|(tag, _)| *tag == of) {
                    self.complete(accept, -libc::ECANCELED);
                }
                self.complete(tag, 0);
            }
            Operation::CancelAll(socket) => {
                self.cancel(|name, _| name == socket.as_raw_fd());
                self.complete(tag, 0);
            }
            Operation::Close(socket) => {
                self.sockets[socket.as_raw_fd() as usize] = None;
                self.complete(tag, 0);
            }
            // Nobody else is there to wake it.
            Operation::Wake => {}
        }
    }

    /// Takes all that is queued, and has the origin answer each whole request in it.
    fn send(&mut self, tag: u64, name: RawFd, out: &Queue, buffers: &Buffers) {
        let Self { sockets, origin, .. } = self;
        let Some(socket) = sockets[name as usize].as_mut() else { return self.complete(tag, -libc::EPIPE) };
        buffers.iter(out).for_each(|lease| socket.outgoing.extend_from_slice(lease.bytes()));
        while !socket.is_client {
            let head = socket.outgoing.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = head.map(|at| at + 4 + origin.content).filter(|end| *end <= socket.outgoing.len()) else {
                break;
            };
            socket.outgoing.drain(..end);
            socket.later.extend_from_slice(&origin.answer);
        }
        self.complete(tag, out.bytes() as i32);
    }

    fn cancel(&mut self, which: impl Fn(RawFd, u64) -> bool) {
        for (name, socket) in self.sockets.iter_mut().enumerate() {
            let receive =
                socket.as_mut().and_then(|socket| socket.receive.take_if(|(tag, _)| which(name as RawFd, *tag)));
            if let Some((tag, _)) = receive {
                self.completions.push(Completion { tag, result: -libc::ECANCELED, buffer: None, more: false });
            }
        }
    }

    /// What has happened since the last turn. What an origin answers comes a turn later than the end of the send that it answers.
    #[inline(never)]
    fn happen(&mut self, offered: [&mut ProvidedRing; 2]) -> Vec<Completion> {
        self.now += STEP;
        while let Some((tag, more)) = self.accept.filter(|_| !self.arrived.is_empty()) {
            self.accept = self.accept.filter(|_| more);
            let result = self.arrived.pop_front().map_or(-libc::EINTR, IntoRawFd::into_raw_fd);
            self.completions.push(Completion { tag, result, buffer: None, more });
        }
        for socket in self.sockets.iter_mut().flatten() {
            if let (Some((tag, group)), false) = (socket.receive, socket.incoming.is_empty()) {
                let completion = match offered[usize::from(group)].fill(&socket.incoming, true) {
                    Some((buffer, filled)) => {
                        socket.incoming.drain(..filled);
                        Completion { tag, result: filled as i32, buffer: Some(buffer), more: true }
                    }
                    None => Completion { tag, result: -libc::ENOBUFS, buffer: None, more: false },
                };
                socket.receive = socket.receive.filter(|_| completion.more);
                self.completions.push(completion);
            }
            socket.incoming.append(&mut socket.later);
        }
        let room = std::mem::take(&mut self.handed_over);
        std::mem::replace(&mut self.completions, room)
    }
}

impl Driver for Memory {
    fn has_bundles(&self) -> bool {
        true
    }

    fn misses_ends(&self) -> bool {
        false
    }

    fn register(&mut self, _: u16, _: &ProvidedRing) -> Result<(), StartError> {
        Ok(())
    }

    fn submit(&mut self, tag: u64, operation: Operation<'_>) {
        self.world.borrow_mut().take(tag, operation);
    }

    fn submit_now(&mut self) {}

    fn reap(
        &mut self,
        _: Duration,
        offered: [&mut ProvidedRing; 2],
        mut each: impl FnMut(Completion),
    ) -> io::Result<()> {
        let mut happened = self.world.borrow_mut().happen(offered);
        happened.drain(..).for_each(&mut each);
        self.world.borrow_mut().handed_over = happened;
        Ok(())
    }

    fn reap_early(&mut self, _: impl FnMut(Completion)) {}

    fn has_overflowed(&mut self) -> bool {
        false
    }

    fn now(&self) -> Duration {
        self.world.borrow().now
    }

    fn wall_seconds(&self) -> u64 {
        EPOCH + self.now().as_secs()
    }

    fn random(&mut self) -> u64 {
        0
    }

    fn descriptors_left(&self) -> usize {
        64 * 1024
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn socket(&mut self, address: &Address) -> io::Result<(OwnedFd, SockAddr)> {
        let address = match address {
            Address::Inet(address) => SockAddr::from(*address),
            Address::Unix(path) => SockAddr::unix(path)?,
        };
        Ok((self.world.borrow_mut().open(false)?, address))
    }

    fn peer(&self, _: BorrowedFd<'_>) -> io::Result<Option<(IpAddr, u16)>> {
        Ok(Some(CLIENT))
    }

    fn accept_waiting(&mut self, _: BorrowedFd<'_>) -> Vec<OwnedFd> {
        self.world.borrow_mut().arrived.drain(..).collect()
    }

    fn shut_down(&mut self, _: BorrowedFd<'_>) {}

    fn reset_on_close(&mut self, _: BorrowedFd<'_>) {}

    fn has_ended(&mut self, _: BorrowedFd<'_>) -> bool {
        false
    }
}
