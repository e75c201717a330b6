//! The machine that a worker runs on: takes its operations and completes them as the network and the plan of the kernel say. Not here:
//! the network itself (`net`).

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use cairn::buffer::{Buffers, ProvidedRing, Queue};
use cairn::id::Address;
use cairn::limits::{self, SEND_PIECES};
use cairn::uring::{Completion, Driver, Operation, StartError, Waker};
use socket2::SockAddr;

use crate::net::{Event, LinkId, Name, Net, Peer, Pending, Spoiled, tell};
use crate::scenario::Connects;
use crate::world::World;

/// When every world begins, in seconds since 1970.
const EPOCH: i64 = 1_700_000_000;
/// Completions that come within this time of the first are handed over together.
const BATCH: Duration = Duration::from_micros(100);

/// Turns whose receives a queue may hold above its bounds: until its source was paused.
const TURNS_ABOVE: usize = 4;

/// The machine of one worker.
pub(crate) struct Machine {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) waker: Waker,
}

/// The provided buffers of both groups.
type Offered<'a> = [&'a mut ProvidedRing; 2];

impl Driver for Machine {
    fn has_bundles(&self) -> bool {
        self.world.borrow().net.plan.bundles
    }

    fn misses_ends(&self) -> bool {
        self.world.borrow().net.plan.misses_ends
    }

    fn register(&mut self, _: u16, _: &ProvidedRing) -> Result<(), StartError> {
        Ok(())
    }

    fn submit(&mut self, tag: u64, operation: Operation<'_>) {
        let net = &mut self.world.borrow_mut().net;
        net.submit(tag, operation);
    }

    /// A full submission queue: what did not fit the completion queue is taken.
    fn submit_now(&mut self) {
        let net = &mut self.world.borrow_mut().net;
        let waiting = net.completions.len();
        let taken = if waiting == 0 { 0 } else { net.random.below(waiting + 1) };
        let part: Vec<_> = net.completions.drain(..taken).collect();
        net.early.extend(part);
    }

    fn reap(&mut self, wait: Duration, offered: Offered<'_>, mut each: impl FnMut(Completion)) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.run(wait, offered);
        let room = world.net.plan.completions;
        let early: Vec<_> = world.net.early.drain(..).collect();
        let taken = room.min(world.net.completions.len());
        let completions: Vec<_> = world.net.completions.drain(..taken).collect();
        drop(world);
        early.into_iter().chain(completions).for_each(&mut each);
        Ok(())
    }

    fn reap_early(&mut self, each: impl FnMut(Completion)) {
        let early: Vec<_> = self.world.borrow_mut().net.early.drain(..).collect();
        early.into_iter().for_each(each);
    }

    fn has_overflowed(&mut self) -> bool {
        !self.world.borrow().net.completions.is_empty()
    }

    fn now(&self) -> Duration {
        self.world.borrow().net.now
    }

    fn wall_seconds(&self) -> u64 {
        let net = &self.world.borrow().net;
        (EPOCH + net.wall + net.now.as_secs() as i64) as u64
    }

    fn random(&mut self) -> u64 {
        self.world.borrow_mut().net.random.next()
    }

    fn descriptors_left(&self) -> usize {
        self.world.borrow().net.plan.descriptors.unwrap_or(64 * 1024)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn socket(&mut self, address: &Address) -> io::Result<(OwnedFd, SockAddr)> {
        let Address::Inet(address) = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let IpAddr::V4(ip) = address.ip() else { return Err(io::ErrorKind::Unsupported.into()) };
        let [_, cluster, _, endpoint] = ip.octets();
        let net = &mut self.world.borrow_mut().net;
        net.lacks_socket = net.is_out_of_descriptors();
        if net.lacks_socket {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let peer = Peer::Origin(usize::from(cluster), usize::from(endpoint) - 1);
        let (link, descriptor) = net.connect(peer);
        net.links[link].held = true;
        net.links[link].touched = true;
        net.descriptors += 1;
        Ok((descriptor, SockAddr::from(*address)))
    }

    fn peer(&self, socket: BorrowedFd<'_>) -> io::Result<Option<(IpAddr, u16)>> {
        let net = &self.world.borrow().net;
        let link = net.link_of(socket.as_raw_fd());
        if link.is_some_and(|link| net.links[link].to_worker.reset) {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        }
        Ok(Some((IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000)))
    }

    fn accept_waiting(&mut self, listener: BorrowedFd<'_>) -> Vec<OwnedFd> {
        let net = &mut self.world.borrow_mut().net;
        let Some(Some(Name::Listener(index))) = net.names.get(listener.as_raw_fd() as usize).copied() else {
            return Vec::new();
        };
        let mut accepted = Vec::new();
        while !net.is_out_of_descriptors()
            && let Some((link, descriptor)) = net.listeners[index].arrived.pop_front()
        {
            accepted.push(net.hand_over(link, descriptor));
        }
        accepted
    }

    fn shut_down(&mut self, socket: BorrowedFd<'_>) {
        let net = &mut self.world.borrow_mut().net;
        if let Some(link) = net.link_of(socket.as_raw_fd()) {
            tell!(net, "{}: worker sends FIN", net.name(link));
            net.links[link].to_peer.fin = true;
            net.wake_peer(link);
        }
    }

    fn reset_on_close(&mut self, socket: BorrowedFd<'_>) {
        let net = &mut self.world.borrow_mut().net;
        if let Some(link) = net.link_of(socket.as_raw_fd()) {
            net.links[link].resets_on_close = true;
        }
    }

    fn has_ended(&mut self, socket: BorrowedFd<'_>) -> bool {
        let net = &self.world.borrow().net;
        let link = net.link_of(socket.as_raw_fd()).map(|link| &net.links[link]);
        link.is_some_and(|link| link.to_worker.fin && link.to_worker.bytes.is_empty() && !link.to_worker.reset)
    }
}

/// The exchange whose request head begins these bytes for an origin.
fn request_of(bytes: &[u8]) -> Option<u32> {
    let mut words = bytes[..bytes.len().min(64)].split(|byte| *byte == b' ');
    let (method, path) = (words.next()?, words.next()?);
    if !matches!(method, b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE") || !path.starts_with(b"/c") {
        return None;
    }
    std::str::from_utf8(path).ok()?.rsplit('/').next()?.parse().ok()
}

impl World {
    /// Lets time pass until something has completed, but for `wait` at most.
    fn run(&mut self, wait: Duration, mut offered: Offered<'_>) {
        self.before_wait([0, 1].map(|group: usize| offered[group].offered()));
        // A turn takes some time.
        self.net.now += Duration::from_micros(1);
        let mut end = self.net.now + wait;
        if !self.net.completions.is_empty() || !self.net.early.is_empty() {
            end = self.net.now;
        }
        while self.net.violation.is_none() {
            let Some(at) = self.net.next_at().filter(|at| *at <= end) else { break };
            self.net.now = self.net.now.max(at);
            let Some(event) = self.net.next_event() else { break };
            self.count_event(event);
            match event {
                Event::Client(client) => self.step_client(client),
                Event::Origin(link) => self.step_origin(link),
                Event::Operator(plan) => self.act(plan),
                Event::Receive(link) => self.net.receive(link, &mut offered),
                Event::Send(link) => self.net.send(link),
                Event::Connect(link) => self.finish_connect(link),
                Event::Accept(listener) => self.net.accept(listener),
                Event::Wake => self.net.tell_wake(),
            }
            if !self.net.completions.is_empty() {
                end = end.min(self.net.now + BATCH);
            }
        }
        self.net.now = self.net.now.max(end);
    }

    /// The process has ended: the kernel closes what it had, and peers notice.
    pub(crate) fn exit(&mut self) {
        self.net.exits = true;
        for link in 0..self.net.links.len() {
            let it = &mut self.net.links[link];
            (it.connect, it.receive, it.send) = (None, None, None);
            it.closing = true;
            self.net.close_if_idle(link);
        }
        let end = self.net.now + Duration::from_secs(1);
        while let Some(at) = self.net.next_at().filter(|at| *at <= end && self.net.violation.is_none()) {
            self.net.now = self.net.now.max(at);
            match self.net.next_event() {
                Some(Event::Client(client)) => self.step_client(client),
                Some(Event::Origin(link)) => self.step_origin(link),
                _ => {}
            }
        }
    }

    /// The kernel knows what has become of a connection attempt.
    fn finish_connect(&mut self, link: LinkId) {
        let Some(pending) = self.net.links[link].connect.as_mut() else { return };
        pending.due = false;
        if pending.cancelled {
            return self.net.complete_connect(link, -libc::ECANCELED);
        }
        let Peer::Origin(cluster, endpoint) = self.net.links[link].peer else { return };
        let result = match self.connects(cluster, endpoint) {
            Connects::Silent => return,
            Connects::Refused => -libc::ECONNREFUSED,
            _ => 0,
        };
        tell!(self.net, "{}: connect gives {result}", self.net.name(link));
        if result == 0 {
            self.meet_origin(link);
        }
        self.net.complete_connect(link, result);
    }
}

impl Net {
    /// A name for the story.
    pub(crate) fn name(&self, link: LinkId) -> String {
        match self.links[link].peer {
            Peer::Client(client) => format!("client {client} (connection {link})"),
            Peer::Origin(cluster, endpoint) => format!("origin {cluster}.{endpoint} (connection {link})"),
        }
    }

    pub(crate) fn complete(&mut self, tag: u64, result: i32, buffer: Option<u16>, more: bool) {
        self.completions.push_back(Completion { tag, result, buffer, more });
    }

    fn complete_connect(&mut self, link: LinkId, result: i32) {
        if let Some(pending) = self.links[link].connect.take() {
            self.complete(pending.tag, result, None, false);
        }
        self.close_if_idle(link);
    }

    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        self.plan.descriptors.is_some_and(|most| self.descriptors >= most)
    }

    /// Gives the worker a connection.
    pub(crate) fn hand_over(&mut self, link: LinkId, descriptor: OwnedFd) -> OwnedFd {
        tell!(self, "{}: accepted", self.name(link));
        self.links[link].held = true;
        self.descriptors += 1;
        descriptor
    }

    fn submit(&mut self, tag: u64, operation: Operation<'_>) {
        match operation {
            Operation::Accept(listener) => self.submit_accept(tag, listener.as_raw_fd(), false),
            Operation::AcceptMany(listener) => self.submit_accept(tag, listener.as_raw_fd(), true),
            Operation::Connect(socket, _) => {
                let Some(link) = self.link_of(socket.as_raw_fd()) else { return };
                self.links[link].connect = Some(Pending::new(tag));
                let late = match self.links[link].peer {
                    Peer::Origin(cluster, endpoint) => self.late.get(&(cluster, endpoint)).copied(),
                    Peer::Client(_) => None,
                };
                let at = self.now + late.unwrap_or_default() + self.delay();
                self.schedule(at, Event::Connect(link));
            }
            Operation::Receive { socket, group } => {
                let Some(link) = self.link_of(socket.as_raw_fd()) else { return };
                let it = &mut self.links[link];
                it.touched = true;
                it.fin_missed = false;
                if it.receive.replace((Pending::new(tag), group)).is_some() {
                    return self.violate(format!("two receives on {}", self.name(link)));
                }
                self.complete_receive(link);
            }
            Operation::Send { socket, out, buffers } => self.submit_send(tag, socket.as_raw_fd(), out, buffers),
            Operation::Cancel(of) => {
                self.cancel(|pending, _| pending.tag == of);
                self.complete(tag, 0, None, false);
            }
            Operation::CancelAll(socket) => {
                let raw = socket.as_raw_fd();
                self.cancel(|_, descriptor| descriptor == raw);
                self.complete(tag, 0, None, false);
            }
            Operation::Close(socket) => {
                self.close_for_worker(socket);
                self.complete(tag, 0, None, false);
            }
            Operation::Wake => {
                self.waker = Some(Pending::new(tag));
                if self.woken {
                    self.wake();
                }
            }
        }
    }

    fn submit_accept(&mut self, tag: u64, listener: RawFd, many: bool) {
        let Some(Some(Name::Listener(index))) = self.names.get(listener as usize).copied() else { return };
        if self.listeners[index].accept.replace((Pending::new(tag), many)).is_some() {
            return self.violate("two accepts on a listener".to_owned());
        }
        self.complete_accept(index);
    }

    fn submit_send(&mut self, tag: u64, socket: RawFd, out: &Queue, buffers: &Buffers) {
        let Some(link) = self.link_of(socket) else { return };
        let mut bytes = Vec::with_capacity(out.bytes());
        buffers.iter(out).take(SEND_PIECES).for_each(|lease| bytes.extend_from_slice(lease.bytes()));
        self.check_queue(link, out, buffers);
        if let Some(exchange) = request_of(&bytes) {
            self.begin_request(link, exchange);
        }
        if self.links[link].send.replace((Pending::new(tag), bytes)).is_some() {
            return self.violate(format!("two sends on {}", self.name(link)));
        }
        self.complete_send(link);
    }

    /// The worker sends the head of a request.
    fn begin_request(&mut self, link: LinkId, exchange: u32) {
        if self.links[link].spoiled == Spoiled::Known {
            self.violate(format!("request {exchange} is sent to {}, which can take none", self.name(link)));
        }
        let sent_over = self.sent_over.entry(exchange).or_default();
        sent_over.push(link);
        sent_over.dedup();
        // Sent again once, and before that nothing was sent where nobody could be connected to; and once to be hedged.
        if sent_over.len() > 2 + usize::from(self.hedges) {
            self.violate(format!("request {exchange} is sent over one connection too many"));
        }
    }

    /// What waits to be sent is within its bounds, and small pieces have been joined.
    fn check_queue(&mut self, link: LinkId, out: &Queue, buffers: &Buffers) {
        let (mut held, mut first, mut spare) = (0, 0, 0);
        for lease in buffers.iter(out) {
            let (at, length) = (lease.as_ptr() as usize, lease.bytes().len());
            // A chunked body may be in many pieces of one buffer.
            if held == 0 || !(first..first + limits::BUFFER_BYTES).contains(&at) {
                (held, first) = (held + 1, at);
            }
            if length <= limits::COALESCE_BYTES && spare >= length + limits::BUFFER_TAILROOM {
                self.violate(format!("{length} bytes for {} have a buffer of their own", self.name(link)));
            }
            spare = lease.spare();
        }
        let (bytes, most, late) = (out.bytes(), self.most, self.late_most);
        // A stream's window may lie behind a full queue, and comes all at once. Of two neighbouring pieces of it one is not small.
        let streams = [0, limits::STREAM_WINDOW_BYTES][usize::from(self.has_http2)];
        let small = 2 * streams / limits::COALESCE_BYTES;
        if bytes > limits::QUEUE_BYTES + TURNS_ABOVE * most.bytes + late.bytes + streams
            || held > limits::QUEUE_PIECES + TURNS_ABOVE * (most.buffers + 1) + late.buffers + small
        {
            self.violate(format!("{bytes} bytes in {held} buffers wait to be sent to {}", self.name(link)));
        }
    }

    /// Cancels operations. Each may still complete as if nothing had been asked.
    fn cancel(&mut self, which: impl Fn(&Pending, RawFd) -> bool) {
        for link in 0..self.links.len() {
            let it = &mut self.links[link];
            if it.closed_by_worker && it.connect.is_none() && it.receive.is_none() && it.send.is_none() {
                continue;
            }
            let raw = if it.held { it.descriptor } else { -1 };
            if let Some(pending) = it.connect.as_mut().filter(|pending| which(pending, raw)) {
                pending.cancelled = true;
                let at = self.now + self.delay();
                self.schedule(at, Event::Connect(link));
            }
            let it = &mut self.links[link];
            if let Some((pending, _)) = it.receive.as_mut().filter(|(pending, _)| which(pending, raw)) {
                pending.cancelled = true;
                self.complete_receive(link);
            }
            let it = &mut self.links[link];
            if let Some((pending, _)) = it.send.as_mut().filter(|(pending, _)| which(pending, raw)) {
                pending.cancelled = true;
                self.complete_send(link);
            }
        }
        for index in 0..self.listeners.len() {
            let raw = self.listeners[index].descriptor;
            let open = self.listeners[index].open;
            if let Some((pending, _)) = &mut self.listeners[index].accept
                && which(pending, if open { raw } else { -1 })
            {
                pending.cancelled = true;
                self.complete_accept(index);
            }
        }
    }

    fn close_for_worker(&mut self, socket: OwnedFd) {
        let raw = socket.as_raw_fd();
        match self.names.get_mut(raw as usize).and_then(Option::take) {
            Some(Name::Link(link)) => {
                self.links[link].held = false;
                self.links[link].closing = true;
                self.descriptors -= 1;
                self.close_if_idle(link);
            }
            Some(Name::Listener(index)) => {
                self.listeners[index].open = false;
                let waiting: Vec<_> = self.listeners[index].arrived.drain(..).collect();
                for (link, _) in waiting {
                    self.names[self.links[link].descriptor as usize] = None;
                    self.links[link].closing = true;
                    self.close_if_idle(link);
                }
            }
            None => self.violate(format!("descriptor {raw} is closed that nobody has")),
        }
    }

    /// Closes what the worker has closed, once no operation keeps it open.
    pub(crate) fn close_if_idle(&mut self, link: LinkId) {
        let it = &mut self.links[link];
        let busy = it.connect.is_some() || it.receive.is_some() || it.send.is_some();
        if busy || !it.closing || it.closed_by_worker {
            return;
        }
        it.closed_by_worker = true;
        let unread = !it.to_worker.bytes.is_empty();
        let harsh = self.plan.harsh_resets;
        let it = &mut self.links[link];
        if it.resets_on_close || unread {
            it.to_peer.reset = true;
            if harsh || it.resets_on_close {
                it.to_peer.bytes.clear();
            }
        } else {
            it.to_peer.fin = true;
        }
        let how = if it.to_peer.reset { "with a reset" } else { "with FIN" };
        tell!(self, "{}: closed by the worker, {how}", self.name(link));
        self.wake_peer(link);
    }

    fn tell_wake(&mut self) {
        if let Some(pending) = self.waker.take() {
            self.woken = false;
            self.complete(pending.tag, 8, None, false);
        }
    }
}
