//! One thread's loop: sends what is due on the connections that are free, and counts the answers.
//! Not here: reading and writing HTTP, or when requests are due.

use std::collections::VecDeque;
use std::time::Duration;
use std::{io, mem};

use cairn::buffer::Queue;
use cairn::http::ResponseHead;
use cairn::id::{Owner, Timer};
use cairn::tls::{Client, Session};
use cairn::transport::Transport;
use cairn::uring::{Event, Fault, Ring};
use rustix::time::{ClockId, clock_gettime};

use super::counts::{Failure, RunCounts};
use super::meter::Meter;
use super::pace::Pace;
use super::plan::{Plan, ThreadLoad};
use super::slot::{Issued, Read, Slot};
use super::template::Answer;
use crate::crew::Stop;

/// Pause of a slot whose connection could not be made.
const REST: Duration = Duration::from_millis(10);
/// How soon a write that found no buffer is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// One thread of a run. All times are since it began.
pub(super) struct Generator<'a> {
    plan: &'a Plan,
    ring: Ring,
    /// The ring's clock when the run began.
    zero: Duration,
    pace: Pace,
    turn: usize,
    slots: Vec<Slot>,
    /// For each host the slots that may send to it, once for each request that a connection may have under way; first come,
    /// first served. A host has as many slots as there are connections, so that no host has to wait for another's.
    free: Vec<VecDeque<u32>>,
    /// Number of requests that may be begun before others end.
    permissions: usize,
    /// Slots with something to write.
    dirty: Vec<u32>,
    /// Slots that pause, by the end of the pause.
    resting: VecDeque<(Duration, u32)>,
    under_way: usize,
    /// Whether the end has passed and all requests due by then for which there was a connection have been sent.
    over: bool,
    head: ResponseHead,
    /// For hosts that want TLS.
    client: Option<Client>,
    counts: RunCounts,
    meter: Meter,
    warm: Option<WarmupEnd>,
    last_answer: Duration,
}

/// State at the end of the warm-up.
#[derive(Clone, Copy, Debug)]
struct WarmupEnd {
    at: Duration,
    cpu: Duration,
}

impl<'a> Generator<'a> {
    pub(super) fn new(plan: &'a Plan, part: &ThreadLoad, ring: Ring, meter: Meter) -> Self {
        let (hosts, connections) = (plan.hosts.len(), part.connections);
        let first = |host: usize| (host * connections) as u32..((host + 1) * connections) as u32;
        let free = |host| (0..plan.pipeline).flat_map(|_| first(host)).collect();
        let slots = (0..hosts).flat_map(|host| (0..connections).map(move |_| Slot::new(host as u16, plan.pipeline)));
        Self {
            plan,
            zero: ring.clock().now(),
            ring,
            pace: Pace::new(&part.load),
            turn: part.load.thread,
            slots: slots.collect(),
            free: (0..hosts).map(free).collect(),
            permissions: connections * plan.pipeline,
            dirty: Vec::with_capacity(hosts * connections),
            resting: VecDeque::with_capacity(hosts * connections),
            under_way: 0,
            over: false,
            head: ResponseHead::new(),
            client: plan.client.as_ref().map(Client::new),
            counts: RunCounts::new(),
            meter,
            warm: None,
            last_answer: Duration::ZERO,
        }
    }

    pub(super) fn run(mut self, stop: &Stop) -> io::Result<RunCounts> {
        self.ring.turn_within(Duration::ZERO)?;
        self.zero = self.ring.clock().now();
        loop {
            let now = self.now();
            if self.warm.is_none() && now >= self.plan.warmup {
                self.warm = Some(WarmupEnd { at: now, cpu: thread_cpu() });
            }
            if let Some(warm) = self.warm {
                self.meter.turn(now.saturating_sub(warm.at));
            }
            self.wake_rested(now);
            self.send_due(now);
            self.write_dirty();
            self.over |= now >= self.pace.end() || self.pace.next(now).is_none();
            if stop.is_asked() || self.counts.out_of_ports || (self.over && self.under_way == 0) {
                self.close_books(stop.is_asked());
                self.take_leave()?;
                self.meter.close();
                return Ok(self.counts);
            }
            let wait = self.wait(now);
            self.ring.turn_within(wait)?;
            self.note_all();
        }
    }

    fn now(&self) -> Duration {
        self.ring.clock().now() - self.zero
    }

    /// Time until something has to be done without an event.
    fn wait(&self, now: Duration) -> Duration {
        let due = self.pace.next(now).filter(|_| !self.over && self.can_send());
        let rested = self.resting.front().map(|(until, _)| *until);
        let warm = self.warm.is_none().then_some(self.plan.warmup);
        let retry = (!self.dirty.is_empty()).then_some(now + RETRY);
        let second = self.warm.map(|warm| warm.at + self.meter.next());
        let first = [due, rested, warm, retry, second].into_iter().flatten().min();
        first.map_or(Duration::MAX, |time| time.saturating_sub(now))
    }

    /// Sends every request that is due, as far as connections are free.
    fn send_due(&mut self, now: Duration) {
        if self.over {
            return;
        }
        while let Some(due) = self.pace.next(now).filter(|due| *due <= now) {
            let request = self.request();
            let host = self.plan.templates[usize::from(request)].host;
            let Some(id) = self.take_free(host) else { return };
            let slot = &mut self.slots[id as usize];
            if let Some(held) = &mut slot.resting {
                *held += 1;
                continue;
            }
            let counts = self.pace.counts(due);
            self.pace.advance(due);
            self.permissions -= 1;
            self.turn = self.turn.wrapping_add(1);
            if counts {
                self.counts.sent += 1;
            }
            if counts && self.plan.is_open() {
                self.counts.late.record(now - due);
            }
            slot.issued.push_back(Issued { due, at: now, request, counts, is_sent_again: false });
            self.under_way += 1;
            if slot.transport.is_none() && !self.connect(id) {
                continue;
            }
            let slot = &mut self.slots[id as usize];
            if slot.under_way().nth(1).is_none() {
                set_deadline(&mut self.ring, slot, Some(self.plan.timeout));
            }
            self.mark_dirty(id);
        }
    }

    /// Begins a connection. False: it has failed already.
    fn connect(&mut self, id: u32) -> bool {
        let slot = &mut self.slots[id as usize];
        let host = &self.plan.hosts[usize::from(slot.host)];
        let Ok(socket) = self.ring.connect(&host.address, Owner::Upstream(id)) else {
            self.rest(id);
            return false;
        };
        let names = self.client.as_ref().zip(host.name.as_ref());
        let session = names.map(|(client, name)| Box::new(Session::client(client, name.clone())));
        let begun = slot.transport.insert(Transport::new(socket, session)).begin(&mut self.ring);
        if begun.is_err() {
            self.fail(id, Failure::Tls);
        } else if self.plan.http2 {
            slot.speak_http2(&mut self.ring, self.plan.pipeline);
        }
        begun.is_ok()
    }

    /// Index of the request whose turn it is.
    fn request(&self) -> u16 {
        self.plan.schedule[self.turn % self.plan.schedule.len()]
    }

    /// A slot that may send to a host.
    fn take_free(&mut self, host: u16) -> Option<u32> {
        if self.permissions == 0 {
            return None;
        }
        self.free[usize::from(host)].pop_front()
    }

    fn can_send(&self) -> bool {
        let host = self.plan.templates[usize::from(self.request())].host;
        self.permissions > 0 && !self.free[usize::from(host)].is_empty()
    }

    fn mark_dirty(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(id);
        }
    }

    fn write_dirty(&mut self) {
        let mut dirty = mem::take(&mut self.dirty);
        dirty.retain(|id| {
            let slot = &mut self.slots[*id as usize];
            let written = slot.write(&mut self.ring, &self.plan.templates);
            let again = written == Ok(false);
            slot.dirty = again;
            if let Err(failure) = written {
                self.fail(*id, failure);
            }
            again
        });
        self.dirty = dirty;
    }

    fn note_all(&mut self) {
        while let Some(event) = self.ring.next_event() {
            match owner(&event) {
                Some(id) if self.slots[id as usize].leaving => self.note_leaving(id, event),
                _ => self.on_event(event),
            }
        }
    }

    /// An event on a connection that sends close_notify: only the end of sending matters.
    fn note_leaving(&mut self, id: u32, event: Event) {
        match event {
            Event::Received(_, mut bytes) => bytes.clear(self.ring.buffers.pieces()),
            Event::Sent(_, false, _) => {}
            _ => {
                self.slots[id as usize].close(&mut self.ring);
                self.wake(id);
                self.reconnect(id);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Received(Owner::Upstream(id), bytes) => {
                if self.warm.is_some() {
                    self.counts.received_bytes += bytes.bytes() as u64;
                }
                self.receive(id, bytes);
            }
            Event::Sent(Owner::Upstream(id), ..) if self.slots[id as usize].has_unwritten() => self.mark_dirty(id),
            Event::Ended(Owner::Upstream(id)) => {
                self.slots[id as usize].end();
                self.read(id);
                if self.slots[id as usize].has_ended() {
                    // It was idle.
                    self.fail(id, Failure::Reset);
                }
            }
            Event::Failed(Owner::Upstream(id), Fault::Connect(error)) => {
                self.counts.note_connect(error);
                self.rest(id);
            }
            Event::Failed(Owner::Upstream(id), Fault::Receive(_)) => self.fail(id, Failure::Reset),
            Event::Expired(Timer::Connection(Owner::Upstream(id))) => self.expire(id),
            // After a failed send, an answer may still arrive, and the end of the connection will.
            _ => {}
        }
    }

    fn receive(&mut self, id: u32, bytes: Queue) {
        match self.slots[id as usize].receive(&mut self.ring, bytes) {
            Ok(Some(agreement)) if agreement.http2 != self.plan.http2 => return self.fail(id, Failure::Protocol),
            Ok(Some(agreement)) => {
                if self.warm.is_some() {
                    self.counts.handshakes += 1;
                    self.counts.resumed += u64::from(agreement.resumed);
                    self.counts.retried += u64::from(agreement.retried);
                }
                self.mark_dirty(id);
            }
            Ok(None) => {}
            Err(failure) => return self.fail(id, failure),
        }
        self.read(id);
    }

    /// Reads every answer that has arrived.
    fn read(&mut self, id: u32) {
        loop {
            let slot = &mut self.slots[id as usize];
            match slot.read(&mut self.ring, &self.plan.templates, &mut self.head) {
                Read::More => break,
                Read::Broken(failure) => return self.fail(id, failure),
                Read::Answer { issued, answer, is_usable } => self.answered(id, issued, &answer, is_usable),
                Read::Failed { issued, failure, by_peer } => self.stream_failed(id, issued, failure, by_peer),
                Read::GoAway => self.counts.goaways += u64::from(self.warm.is_some()),
            }
        }
        let slot = &mut self.slots[id as usize];
        if slot.is_spent() {
            self.renew(id);
        } else if slot.is_http2() {
            // Windows may have come, and what was received may ask for answers.
            self.mark_dirty(id);
        }
    }

    fn answered(&mut self, id: u32, issued: Issued, answer: &Answer, is_usable: bool) {
        let now = self.now();
        let Issued { due, request, counts, .. } = issued;
        if counts {
            match self.plan.templates[usize::from(request)].expect.check(answer) {
                None => {
                    self.counts.latency.record(now - due);
                    self.meter.record(now - due);
                }
                Some(failure) => {
                    self.counts.fail(failure);
                    self.meter.fail();
                }
            }
            self.last_answer = now;
        }
        self.settle(id);
        if self.plan.close || !is_usable {
            return self.fail(id, Failure::Reset);
        }
        let slot = &self.slots[id as usize];
        if slot.under_way().next().is_none() {
            set_deadline(&mut self.ring, slot, None);
        } else if !slot.is_http2() {
            set_deadline(&mut self.ring, slot, Some(self.plan.timeout));
        }
    }

    /// A request is no longer under way: its connection may be used for another.
    fn settle(&mut self, id: u32) {
        self.under_way -= 1;
        self.permissions += 1;
        self.free[usize::from(self.slots[id as usize].host)].push_back(id);
    }

    /// A stream has ended without the answer; its connection goes on.
    fn stream_failed(&mut self, id: u32, issued: Issued, failure: Failure, by_peer: bool) {
        if issued.counts {
            self.counts.fail(failure);
            self.counts.stream_resets += u64::from(by_peer);
            self.meter.fail();
        }
        self.settle(id);
        let slot = &self.slots[id as usize];
        if slot.under_way().next().is_none() {
            set_deadline(&mut self.ring, slot, None);
        }
    }

    /// A request may have waited too long. Over HTTP/2 that ends its stream, else the connection.
    fn expire(&mut self, id: u32) {
        let before = self.now().saturating_sub(self.plan.timeout);
        let slot = &mut self.slots[id as usize];
        // One that has no stream yet waits for the connection.
        if !slot.is_http2() || slot.issued.iter().any(|issued| issued.at <= before) {
            return self.fail(id, Failure::Timeout);
        }
        while let Some(Read::Failed { issued, failure, by_peer }) =
            self.slots[id as usize].give_up_late(&mut self.ring, before)
        {
            self.stream_failed(id, issued, failure, by_peer);
        }
        let oldest = self.slots[id as usize].under_way().map(|issued| issued.at).min();
        let left = oldest.map(|at| at.saturating_sub(before));
        set_deadline(&mut self.ring, &self.slots[id as usize], left);
        self.mark_dirty(id);
    }

    /// Leaves a connection on which the server takes no more requests. Those that wait go over another one.
    fn renew(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        if slot.close(&mut self.ring) {
            self.reconnect(id);
        } else {
            slot.resting = Some(0);
        }
    }

    /// Connects again if requests wait for that.
    fn reconnect(&mut self, id: u32) {
        if !self.slots[id as usize].issued.is_empty() && self.connect(id) {
            set_deadline(&mut self.ring, &self.slots[id as usize], Some(self.plan.timeout));
            self.mark_dirty(id);
        }
    }

    /// Closes a connection. Its requests under way fail.
    fn fail(&mut self, id: u32, failure: Failure) {
        let slot = &mut self.slots[id as usize];
        if !slot.close(&mut self.ring) {
            slot.resting = Some(0);
        }
        while let Some(issued) = self.slots[id as usize].issued.pop_front() {
            if issued.counts {
                self.counts.fail(failure);
                self.meter.fail();
            }
            self.settle(id);
        }
    }

    /// A connection could not be made: its requests fail, and the slot pauses.
    fn rest(&mut self, id: u32) {
        self.fail(id, Failure::Connect);
        self.slots[id as usize].resting = Some(0);
        self.resting.push_back((self.now() + REST, id));
    }

    fn wake_rested(&mut self, now: Duration) {
        while let Some(&(until, id)) = self.resting.front()
            && until <= now
        {
            self.resting.pop_front();
            self.wake(id);
        }
    }

    /// A slot may be used again.
    fn wake(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        let held = slot.resting.take().unwrap_or_default();
        self.free[usize::from(slot.host)].extend(std::iter::repeat_n(id, usize::from(held)));
    }

    /// Closes all connections, those over TLS with close_notify.
    fn take_leave(&mut self) -> io::Result<()> {
        for slot in &mut self.slots {
            if !slot.leaving {
                slot.close(&mut self.ring);
            }
        }
        while self.slots.iter().any(|slot| slot.leaving) {
            self.ring.turn_within(Duration::MAX)?;
            self.note_all();
        }
        Ok(())
    }

    fn close_books(&mut self, interrupted: bool) {
        let now = self.now();
        let end = match (interrupted, self.plan.duration) {
            (true, _) => now,
            (false, Some(_)) => self.last_answer.max(self.pace.end()),
            (false, None) => self.last_answer,
        };
        let issued = self.slots.iter().flat_map(Slot::under_way);
        self.counts.unanswered = issued.filter(|issued| issued.counts).count() as u64;
        self.counts.unsent = self.pace.abandon(end.min(self.pace.end()));
        self.counts.interrupted = interrupted;
        if let Some(warm) = self.warm {
            self.counts.elapsed = end.saturating_sub(warm.at);
            self.counts.cpu = thread_cpu().saturating_sub(warm.cpu);
        }
    }
}

/// The slot that an event concerns.
fn owner(event: &Event) -> Option<u32> {
    match event {
        Event::Connected(Owner::Upstream(id))
        | Event::Received(Owner::Upstream(id), _)
        | Event::Ended(Owner::Upstream(id))
        | Event::Sent(Owner::Upstream(id), ..)
        | Event::Failed(Owner::Upstream(id), _)
        | Event::Expired(Timer::Connection(Owner::Upstream(id))) => Some(*id),
        _ => None,
    }
}

fn set_deadline(ring: &mut Ring, slot: &Slot, after: Option<Duration>) {
    if let Some(transport) = &slot.transport {
        ring.set_deadline(transport.socket(), after);
    }
}

/// User and system time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
