//! The network and the kernel below a worker: connections, what is on its way through them, operations that wait, and when each thing
//! happens. Everything that happens is an event in one queue, ordered by time and then by chance. Not here: what the worker calls
//! (`machine`), and what peers do (`client`, `origin`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use cairn::uring::Completion;

use crate::random::Random;
use crate::scenario::{KernelPlan, OriginFault};

/// A connection, by its place among all that there ever were.
pub(crate) type LinkId = usize;

/// How long a slow send takes at most.
const SLOW_SEND: Duration = Duration::from_millis(5);

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client does what it can.
    Client(usize),
    /// An origin does what it can on a connection.
    Origin(LinkId),
    /// The operator acts.
    Operator(usize),
    /// The kernel completes what a receive has come to, a send, a connect.
    Receive(LinkId),
    Send(LinkId),
    Connect(LinkId),
    /// It accepts on a listener.
    Accept(usize),
    Wake,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Client(usize),
    /// The endpoint of a cluster.
    Origin(usize, usize),
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) bytes: VecDeque<u8>,
    /// No more follows.
    pub(crate) fin: bool,
    /// The connection was reset from the writing side.
    pub(crate) reset: bool,
}

/// An operation that has not completed.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) tag: u64,
    /// Its completion is an event in the queue.
    pub(crate) due: bool,
    pub(crate) cancelled: bool,
}

impl Pending {
    pub(crate) fn new(tag: u64) -> Self {
        Self { tag, due: false, cancelled: false }
    }
}

/// Whether a connection to an origin can take no further request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoiled {
    No,
    /// The completion that says so has this tag.
    Told(u64),
    /// The worker has taken that in.
    Known,
}

/// What receives have brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brought {
    pub(crate) bytes: usize,
    pub(crate) buffers: usize,
}

/// A connection between the worker and a peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    pub(crate) descriptor: RawFd,
    pub(crate) to_worker: Pipe,
    pub(crate) to_peer: Pipe,
    pub(crate) connect: Option<Pending>,
    pub(crate) receive: Option<(Pending, u16)>,
    pub(crate) send: Option<(Pending, Vec<u8>)>,
    /// A FIN went untold, until something is received anew.
    pub(crate) fin_missed: bool,
    /// It can take no further request: its origin has ended it, or has talked without being asked.
    pub(crate) spoiled: Spoiled,
    /// Where in the origin's bytes it has talked without being asked.
    pub(crate) talk: Option<u64>,
    /// What its origin has done wrong as it answered over it, and when: the worker may learn of it only from the failure of the next
    /// request.
    pub(crate) fault: Option<(Duration, OriginFault)>,
    /// The worker has its descriptor and has not closed it.
    pub(crate) held: bool,
    /// The worker has done something with it.
    pub(crate) touched: bool,
    /// The worker has closed it; what is in flight may keep it open.
    pub(crate) closing: bool,
    pub(crate) resets_on_close: bool,
    pub(crate) closed_by_worker: bool,
    pub(crate) closed_by_peer: bool,
    /// It carries HTTP/2.
    pub(crate) http2: bool,
    /// The peer is to be woken.
    pub(crate) peer_due: bool,
    /// Bytes that the worker has received.
    pub(crate) delivered: u64,
    /// What it has received in this turn.
    pub(crate) brought: Brought,
    /// What its receive has brought since it was cancelled.
    pub(crate) late: Brought,
}

/// A listening socket of the worker.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) descriptor: RawFd,
    pub(crate) number: usize,
    pub(crate) open: bool,
    /// Operation, and whether it is for many.
    pub(crate) accept: Option<(Pending, bool)>,
    pub(crate) arrived: VecDeque<(LinkId, OwnedFd)>,
}

/// What a peer's read brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(Vec<u8>),
    /// There is nothing yet.
    Nothing,
    End,
    Reset,
}

/// Network, kernel and time.
pub(crate) struct Net {
    pub(crate) plan: KernelPlan,
    pub(crate) now: Duration,
    /// Seconds by which the wall clock is off.
    pub(crate) wall: i64,
    pub(crate) random: Random,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    pub(crate) links: Vec<Link>,
    pub(crate) listeners: Vec<Listener>,
    /// What stands at each descriptor.
    pub(crate) names: Vec<Option<Name>>,
    /// Completions that were not handed over.
    pub(crate) completions: VecDeque<Completion>,
    /// Those that were taken in the middle of a turn.
    pub(crate) early: VecDeque<Completion>,
    pub(crate) waker: Option<Pending>,
    /// The worker was woken and has not been told.
    pub(crate) woken: bool,
    /// How late connections to an endpoint stand.
    pub(crate) late: BTreeMap<(usize, usize), Duration>,
    /// The connections over which the worker has sent each exchange's request.
    pub(crate) sent_over: BTreeMap<u32, Vec<LinkId>>,
    /// Whether requests of some cluster are hedged.
    pub(crate) hedges: bool,
    /// The most that one turn has brought on one connection.
    pub(crate) most: Brought,
    /// The most that a receive has brought after it was to end: all of that may lie behind a full queue.
    pub(crate) late_most: Brought,
    /// Some peers speak HTTP/2.
    pub(crate) has_http2: bool,
    /// The most buffers that one turn has brought on all connections.
    pub(crate) most_of_turn: usize,
    /// The worker has found no descriptor for its last socket.
    pub(crate) lacks_socket: bool,
    /// When the worker had begun to drain.
    pub(crate) drains: Option<Duration>,
    /// Descriptors that the worker has.
    pub(crate) descriptors: usize,
    /// No fault happens any more.
    pub(crate) settled: bool,
    /// The process has ended.
    pub(crate) exits: bool,
    /// When a peer did something last.
    pub(crate) active: Duration,
    /// The first thing that was found wrong.
    pub(crate) violation: Option<String>,
    /// What happened, if somebody wants to read it.
    pub(crate) story: Option<Vec<String>>,
    nothing: File,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Link(LinkId),
    Listener(usize),
}

/// Adds a line to the story, if one is told.
macro_rules! tell {
    ($net:expr, $($text:tt)*) => {
        if $net.story.is_some() {
            $net.add_line(format!($($text)*));
        }
    };
}
pub(crate) use tell;

impl Net {
    pub(crate) fn new(plan: KernelPlan, random: Random, tells: bool) -> Self {
        Self {
            plan,
            now: Duration::ZERO,
            wall: 0,
            random,
            events: BinaryHeap::new(),
            links: Vec::new(),
            listeners: Vec::new(),
            names: Vec::new(),
            completions: VecDeque::new(),
            early: VecDeque::new(),
            waker: None,
            woken: false,
            late: BTreeMap::new(),
            sent_over: BTreeMap::new(),
            hedges: false,
            most: Brought::default(),
            late_most: Brought::default(),
            has_http2: false,
            most_of_turn: 0,
            lacks_socket: false,
            drains: None,
            descriptors: 0,
            settled: false,
            exits: false,
            active: Duration::ZERO,
            violation: None,
            story: tells.then(Vec::new),
            nothing: File::open("/dev/null").expect("/dev/null"),
        }
    }

    pub(crate) fn add_line(&mut self, text: String) {
        let now = self.now;
        if let Some(story) = &mut self.story {
            story.push(format!("{:>12.6} s  {text}", now.as_secs_f64()));
        }
    }

    /// Notes that something is wrong.
    pub(crate) fn violate(&mut self, text: String) {
        tell!(self, "WRONG: {text}");
        self.violation.get_or_insert(text);
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        let tie = self.random.next();
        self.events.push(Reverse((at.max(self.now), tie, event)));
    }

    /// When the next event happens.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop().map(|Reverse((.., event))| event)
    }

    /// How long the kernel takes now.
    pub(crate) fn delay(&mut self) -> Duration {
        let most = if self.settled { Duration::from_micros(20) } else { self.plan.delay };
        // Most things take next to no time.
        if self.random.chance(80) { self.random.time(most / 20) } else { self.random.time(most) }
    }

    /// Whether something happens that happens in so many of a hundred cases.
    pub(crate) fn fault(&mut self, percent: usize) -> bool {
        percent > 0 && !self.settled && self.random.chance(percent)
    }

    /// How many of `most` bytes are moved, in so many of a hundred cases fewer.
    pub(crate) fn part(&mut self, most: usize, percent: usize) -> usize {
        if most < 2 || !self.fault(percent) {
            return most;
        }
        // Of much, seldom: it would take for ever.
        let seldom = if most < 2_000 { 50 } else { 2 };
        let single = self.plan.single_bytes && self.random.chance(seldom);
        if single { 1 } else { 1 + self.random.below(most) }
    }

    /// A descriptor of the worker.
    pub(crate) fn open(&mut self, name: Name) -> OwnedFd {
        let descriptor: OwnedFd = self.nothing.try_clone().expect("a descriptor").into();
        let index = descriptor.as_raw_fd() as usize;
        self.names.resize(self.names.len().max(index + 1), None);
        self.names[index] = Some(name);
        descriptor
    }

    pub(crate) fn link_of(&self, descriptor: RawFd) -> Option<LinkId> {
        match self.names.get(descriptor as usize).copied().flatten() {
            Some(Name::Link(link)) => Some(link),
            _ => None,
        }
    }

    /// A new connection. The worker has its descriptor, or will have it once it is accepted.
    pub(crate) fn connect(&mut self, peer: Peer) -> (LinkId, OwnedFd) {
        let link = self.links.len();
        let descriptor = self.open(Name::Link(link));
        self.links.push(Link {
            peer,
            descriptor: descriptor.as_raw_fd(),
            to_worker: Pipe::default(),
            to_peer: Pipe::default(),
            connect: None,
            receive: None,
            send: None,
            fin_missed: false,
            spoiled: Spoiled::No,
            talk: None,
            fault: None,
            held: false,
            touched: false,
            closing: false,
            resets_on_close: false,
            closed_by_worker: false,
            closed_by_peer: false,
            http2: false,
            peer_due: false,
            delivered: 0,
            brought: Brought::default(),
            late: Brought::default(),
        });
        (link, descriptor)
    }

    /// Opens a listening socket.
    pub(crate) fn listen(&mut self, number: usize) -> OwnedFd {
        let index = self.listeners.len();
        let descriptor = self.open(Name::Listener(index));
        let raw = descriptor.as_raw_fd();
        self.listeners.push(Listener { descriptor: raw, number, open: true, accept: None, arrived: VecDeque::new() });
        descriptor
    }

    /// A client connects to the listener of this number; None: nobody listens.
    pub(crate) fn call(&mut self, client: usize, number: usize) -> Option<LinkId> {
        let index = self.listeners.iter().rposition(|listener| listener.open && listener.number == number)?;
        let (link, descriptor) = self.connect(Peer::Client(client));
        self.listeners[index].arrived.push_back((link, descriptor));
        self.complete_accept(index);
        Some(link)
    }

    // What peers do.

    pub(crate) fn read(&mut self, link: LinkId, most: usize) -> Read {
        let pipe = &mut self.links[link].to_peer;
        let taken = most.min(pipe.bytes.len());
        if taken > 0 {
            let bytes = pipe.bytes.drain(..taken).collect();
            self.active = self.now;
            self.complete_send(link);
            return Read::Bytes(bytes);
        }
        match pipe {
            Pipe { reset: true, .. } => Read::Reset,
            Pipe { fin: true, bytes, .. } if bytes.is_empty() => Read::End,
            _ => Read::Nothing,
        }
    }

    /// How many bytes the peer may write now.
    pub(crate) fn room(&self, link: LinkId) -> usize {
        self.plan.window.saturating_sub(self.links[link].to_worker.bytes.len())
    }

    /// Writes as much as there is room for.
    pub(crate) fn write(&mut self, link: LinkId, bytes: &[u8]) -> usize {
        let taken = self.room(link).min(bytes.len());
        self.active = self.now;
        if self.links[link].closed_by_worker {
            // Nobody is there: a reset comes back.
            let harsh = self.plan.harsh_resets && self.random.chance(50);
            let pipe = &mut self.links[link].to_peer;
            pipe.reset = true;
            if harsh {
                pipe.bytes.clear();
            }
            self.wake_peer(link);
            return bytes.len();
        }
        self.links[link].to_worker.bytes.extend(&bytes[..taken]);
        self.complete_receive(link);
        taken
    }

    pub(crate) fn finish(&mut self, link: LinkId) {
        self.links[link].to_worker.fin = true;
        self.active = self.now;
        self.complete_receive(link);
    }

    pub(crate) fn reset(&mut self, link: LinkId) {
        let keeps = self.random.chance(50);
        let pipe = &mut self.links[link].to_worker;
        pipe.reset = true;
        if !keeps {
            pipe.bytes.clear();
        }
        self.links[link].closed_by_peer = true;
        self.active = self.now;
        self.complete_receive(link);
        self.complete_send(link);
    }

    /// The peer closes: with a reset if it has not read everything.
    pub(crate) fn close(&mut self, link: LinkId) {
        if self.links[link].closed_by_peer {
            return;
        }
        if !self.links[link].to_peer.bytes.is_empty() {
            return self.reset(link);
        }
        self.links[link].closed_by_peer = true;
        self.finish(link);
        self.complete_send(link);
    }

    /// The peer is to notice something.
    pub(crate) fn wake_peer(&mut self, link: LinkId) {
        if !std::mem::replace(&mut self.links[link].peer_due, true) {
            let at = self.now + self.delay();
            let event = match self.links[link].peer {
                Peer::Client(client) => Event::Client(client),
                Peer::Origin(..) => Event::Origin(link),
            };
            self.schedule(at, event);
        }
    }

    // What the kernel does when something has changed.

    pub(crate) fn complete_receive(&mut self, link: LinkId) {
        let it = &mut self.links[link];
        let missed = it.fin_missed;
        let Some((pending, _)) = &mut it.receive else { return };
        let pipe = &it.to_worker;
        let ready = !pipe.bytes.is_empty() || pipe.reset || (pipe.fin && !missed) || pending.cancelled;
        if ready && !std::mem::replace(&mut pending.due, true) {
            let at = self.now + self.delay();
            self.schedule(at, Event::Receive(link));
        }
    }

    pub(crate) fn complete_send(&mut self, link: LinkId) {
        let window = self.plan.window;
        let it = &mut self.links[link];
        let broken = it.to_worker.reset || it.closed_by_peer;
        let Some((pending, _)) = &mut it.send else { return };
        let ready = broken || it.to_peer.bytes.len() < window || pending.cancelled;
        if ready && !std::mem::replace(&mut pending.due, true) {
            let slow = self.fault(self.plan.slow_sends);
            let more = if slow { self.random.time(SLOW_SEND) } else { Duration::ZERO };
            let at = self.now + more + self.delay();
            self.schedule(at, Event::Send(link));
        }
    }

    pub(crate) fn complete_accept(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let Some((pending, _)) = &mut listener.accept else { return };
        let ready = !listener.arrived.is_empty() || pending.cancelled;
        if ready && !std::mem::replace(&mut pending.due, true) {
            let at = self.now + self.delay();
            self.schedule(at, Event::Accept(index));
        }
    }

    /// The control thread wakes the worker.
    pub(crate) fn wake(&mut self) {
        self.woken = true;
        let at = self.now + self.delay();
        if let Some(pending) = &mut self.waker
            && !std::mem::replace(&mut pending.due, true)
        {
            self.schedule(at, Event::Wake);
        }
    }
}
