//! A client that speaks HTTP/2: sends its requests on streams of one connection, gives credit as its plan says, checks every byte, and
//! does what its plan says is wrong with it or with a stream. Not here: frames and windows (`carrier`), reading a response (`response`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::carrier::{CANCEL, Carrier, Heard, NO_ERROR, REFUSED_STREAM, Section};
use crate::client::{CONNECTIONS, EXPECT_PATIENCE, Surroundings};
use crate::content::{Way, content};
use crate::net::{Event, LinkId, Net, tell};
use crate::oracle::Outcome;
use crate::random::Random;
use crate::response::Response;
use crate::scenario::{
    Body, ClientEnd, ClientFault, ClientPlan, ExchangePlan, Http2Plan, NEVER, Scenario, StreamFault, Target,
};
use crate::tls;
use crate::wire::{Incoming, Wire, Written};

/// Bytes that wait for the network at most while there is content to be sent.
const AHEAD: usize = 32 << 10;

pub(crate) struct Http2Client {
    number: usize,
    random: Random,
    wire: Option<Wire>,
    carrier: Carrier,
    /// When the connection was made.
    connected: Duration,
    /// Changes of the window that are to come.
    changes: VecDeque<(Duration, u32)>,
    wakes: Option<Duration>,
    /// What is still to be sent.
    waiting: VecDeque<u32>,
    /// By stream. One that was answered is left here while its request is not complete.
    open: BTreeMap<u32, Stream>,
    /// The stream that has sent content last.
    turn: u32,
    /// When the last answer was complete.
    answered: Duration,
    finished: bool,
    stops_reading: bool,
    stops_writing: bool,
    fault: Option<(usize, ClientFault)>,
    /// It has said that it opens no more streams.
    said_end: bool,
    connections: usize,
    starts_never: bool,
    done: bool,
    /// It sent what no frames consist of.
    garbage: bool,
}

/// An exchange on its stream.
struct Stream {
    exchange: u32,
    response: Response,
    /// Content that is to be sent, and how much of it was.
    size: usize,
    sent: usize,
    /// The end of the request was sent.
    complete: bool,
    /// A body that waits for 100, until then.
    held: Option<Duration>,
    /// The response is over.
    answered: bool,
    /// Content of the response that came.
    received: usize,
    /// Content for which no credit was given, and when it is.
    unread: usize,
    next_credit: Duration,
}

impl Stream {
    /// Whether its request can go on.
    fn can_send(&self) -> bool {
        !self.complete && self.held.is_none()
    }
}

impl Http2Client {
    pub(crate) fn new(scenario: &Scenario, number: usize, http2: &Http2Plan) -> Self {
        let plan = &scenario.clients[number];
        Self {
            number,
            random: Random::new(scenario.seed, 1_000 + number as u64),
            wire: None,
            carrier: Carrier::new(true, &http2.carrier),
            connected: Duration::ZERO,
            changes: VecDeque::new(),
            wakes: None,
            waiting: plan.exchanges.iter().copied().collect(),
            open: BTreeMap::new(),
            turn: 0,
            answered: Duration::ZERO,
            finished: false,
            stops_reading: false,
            stops_writing: false,
            fault: plan.fault,
            said_end: false,
            connections: 0,
            starts_never: plan.start == NEVER || plan.exchanges.is_empty(),
            done: false,
            garbage: false,
        }
    }

    pub(crate) fn link(&self) -> Option<LinkId> {
        self.wire.as_ref().map(|wire| wire.link)
    }

    /// Whether it has nothing to do any more, or never had.
    pub(crate) fn is_idle(&self) -> bool {
        self.done || (self.connections == 0 && self.starts_never)
    }

    fn plan<'a>(&self, scenario: &'a Scenario) -> (&'a ClientPlan, &'a Http2Plan) {
        let plan = &scenario.clients[self.number];
        (plan, plan.http2.as_ref().expect("it speaks HTTP/2"))
    }

    /// Does all that can be done now.
    pub(crate) fn step(&mut self, around: &mut Surroundings<'_>) {
        if self.done {
            return;
        }
        self.wakes = self.wakes.filter(|at| *at > around.net.now);
        if self.wire.is_none() && !self.connect(around) {
            return;
        }
        let Some(link) = self.link() else { return };
        around.net.links[link].peer_due = false;
        self.read(around);
        if self.done || self.wire.is_none() {
            return;
        }
        self.change_windows(around);
        self.begin_requests(around);
        self.give_credit(around);
        self.send_content(around);
        self.write(around);
        if !self.done && self.wire.is_some() {
            self.end_if_over(around);
        }
    }

    fn connect(&mut self, around: &mut Surroundings<'_>) -> bool {
        let (plan, http2) = self.plan(around.scenario);
        self.connections += 1;
        let link = if self.connections > CONNECTIONS + plan.exchanges.len() {
            None
        } else {
            around.net.call(self.number, plan.listener)
        };
        let Some(link) = link else {
            self.done = true;
            return false;
        };
        let tls = around.scenario.listeners[plan.listener].tls;
        self.wire = Some(Wire::new(link, tls.then(|| tls::http2_client().into())));
        self.carrier = Carrier::new(true, &http2.carrier);
        self.connected = around.net.now;
        self.changes = http2.changes.iter().copied().collect();
        self.said_end = false;
        self.answered = around.net.now;
        around.net.links[link].http2 = true;
        tell!(around.net, "client {} connects to listener {} with HTTP/2", self.number, plan.listener);
        true
    }

    /// Has it act again at a time, unless it will before.
    fn wake_at(&mut self, net: &mut Net, at: Duration) {
        if self.wakes.is_none_or(|wakes| wakes > at) {
            self.wakes = Some(at);
            net.schedule(at, Event::Client(self.number));
        }
    }

    // Reading.

    fn read(&mut self, around: &mut Surroundings<'_>) {
        let (plan, _) = self.plan(around.scenario);
        while !self.stops_reading && !self.done {
            let Some(wire) = &mut self.wire else { return };
            match wire.read(around.net, plan.reads, &mut self.random) {
                Incoming::Bytes(bytes) => match self.carrier.read(&bytes) {
                    Ok(heard) => heard.into_iter().for_each(|heard| self.take(around, heard)),
                    Err(text) => return self.break_off(around, &text),
                },
                Incoming::Nothing => return,
                Incoming::Later(at) => return self.wake_at(around.net, at),
                Incoming::End => return self.lose(around, false),
                Incoming::Reset => return self.lose(around, true),
                Incoming::Broken(text) => return self.break_off(around, &format!("TLS breaks: {text}")),
            }
        }
    }

    /// It understands no more: that is the worker's fault unless the client has sent garbage.
    fn break_off(&mut self, around: &mut Surroundings<'_>, text: &str) {
        let (plan, _) = self.plan(around.scenario);
        // Above its limit, a listener answers before it is asked, in the version that everybody knows.
        let is_refused = around.scenario.listeners[plan.listener].connections > 0 && !self.carrier.told.is_known;
        if !self.garbage && !is_refused && (plan.calm || self.carrier.told.is_known) {
            return around.net.violate(format!("client {}: {text}", self.number));
        }
        if let Some(link) = self.link() {
            around.net.close(link);
        }
        self.give_up(around);
    }

    fn take(&mut self, around: &mut Surroundings<'_>, heard: Heard) {
        match heard {
            Heard::Head { stream, fields, end } => {
                let Some(it) = self.open.get_mut(&stream) else { return };
                it.response.take_head(around, &fields);
                if it.response.has_head() || it.response.continues() {
                    it.held = None;
                }
                if end {
                    self.finish_response(around, stream);
                }
            }
            Heard::Content { stream, bytes, end } => {
                let Some(it) = self.open.get_mut(&stream) else { return };
                it.response.take_content(around, &bytes);
                it.received += bytes.len();
                it.unread += bytes.len();
                let resets = match fault_of(around, it.exchange) {
                    Some(StreamFault::ResetsReceiving(at)) => it.received >= at,
                    _ => false,
                };
                if end {
                    self.finish_response(around, stream);
                } else if resets {
                    self.reset(around, stream);
                }
            }
            Heard::Trailers { stream } => self.finish_response(around, stream),
            Heard::Reset { stream, code } => self.take_reset(around, stream, code),
            Heard::GoAway { last, error } => {
                if let Some(error) = error.filter(|_| self.plan(around.scenario).0.calm) {
                    around.net.violate(format!("client {}: {error}", self.number));
                }
                let refused: Vec<u32> = self.open.range(last.saturating_add(1)..).map(|(stream, _)| *stream).collect();
                refused.into_iter().rev().for_each(|stream| self.take_back(around, stream));
            }
        }
    }

    /// The worker has not processed a stream: its request is sent again.
    fn take_back(&mut self, around: &mut Surroundings<'_>, stream: u32) {
        let Some(it) = self.open.remove(&stream) else { return };
        if it.answered {
            return around.net.violate(format!("exchange {} is refused after its answer", it.exchange));
        }
        tell!(around.net, "client {}: exchange {} was not processed", self.number, it.exchange);
        around.oracle.take_back(around.net, it.exchange);
        self.waiting.push_front(it.exchange);
    }

    fn take_reset(&mut self, around: &mut Surroundings<'_>, stream: u32, code: u32) {
        let Some(it) = self.open.get(&stream) else { return };
        if code == REFUSED_STREAM {
            return self.take_back(around, stream);
        }
        if !it.answered && code == NO_ERROR && !self.garbage {
            around.net.violate(format!("exchange {} is reset without an error before its answer", it.exchange));
        }
        let Some(mut it) = self.open.remove(&stream) else { return };
        if !it.answered {
            let outcome = it.response.end(around, true);
            self.finish(around, it.exchange, outcome);
        }
    }

    fn finish_response(&mut self, around: &mut Surroundings<'_>, stream: u32) {
        let Some(it) = self.open.get_mut(&stream).filter(|it| !it.answered) else { return };
        let outcome = it.response.end_stream(around);
        let (exchange, tunnel) = (it.exchange, it.response.is_tunnel());
        it.answered = true;
        if it.complete {
            self.open.remove(&stream);
        } else if !tunnel && exchange % 2 == 0 {
            // The rest of the request is not wanted.
            self.carrier.reset(stream, CANCEL);
            self.open.remove(&stream);
        }
        self.finish(around, exchange, outcome);
    }

    fn finish(&mut self, around: &mut Surroundings<'_>, exchange: u32, outcome: Outcome) {
        tell!(around.net, "client {}: exchange {exchange} is {outcome:?}", self.number);
        around.oracle.end(around.net, exchange, outcome);
        self.answered = around.net.now;
    }

    /// Ends a stream as its plan says.
    fn reset(&mut self, around: &mut Surroundings<'_>, stream: u32) {
        let Some(it) = self.open.remove(&stream) else { return };
        tell!(around.net, "client {}: resets the stream of exchange {}", self.number, it.exchange);
        self.carrier.reset(stream, CANCEL);
        if !it.answered {
            self.finish(around, it.exchange, Outcome::Cut);
        }
    }

    /// The connection has ended.
    fn lose(&mut self, around: &mut Surroundings<'_>, reset: bool) {
        let Some(wire) = self.wire.take() else { return };
        let link = wire.link;
        tell!(around.net, "client {}: connection {link} {}", self.number, if reset { "is reset" } else { "ends" });
        let all_read = around.net.links[link].to_worker.bytes.is_empty() && wire.channel.unsent.is_empty();
        let is_at_rest = !reset && all_read && self.open.is_empty() && !self.garbage && !around.net.exits;
        if let Err(text) = self.carrier.check_rest().or_else(|text| if is_at_rest { Err(text) } else { Ok(()) }) {
            around.net.violate(format!("client {}: {text}", self.number));
        }
        for (_, mut it) in std::mem::take(&mut self.open) {
            if !it.answered {
                let outcome = it.response.end(around, true);
                self.finish(around, it.exchange, outcome);
            }
        }
        around.net.close(link);
        if self.waiting.is_empty() || self.finished || self.stops_writing {
            self.done = true;
            return;
        }
        // The rest goes over another connection.
        self.wake_at(around.net, around.net.now + Duration::from_micros(50));
    }

    /// Gives credit for what was read.
    fn give_credit(&mut self, around: &mut Surroundings<'_>) {
        let mut wakes = None;
        let (_, http2) = self.plan(around.scenario);
        for (stream, it) in &mut self.open {
            let gap = match fault_of(around, it.exchange) {
                Some(StreamFault::StopsReading) => continue,
                Some(StreamFault::ReadsSlowly) => http2.gap,
                _ => Duration::ZERO,
            };
            if it.unread == 0 {
                continue;
            }
            if it.next_credit > around.net.now {
                wakes = [wakes, Some(it.next_credit)].into_iter().flatten().min();
                continue;
            }
            let most = if gap.is_zero() { it.unread } else { it.unread.min(2_000) };
            it.unread -= most;
            self.carrier.consumed(*stream, most);
            if !gap.is_zero() {
                it.next_credit = around.net.now + self.random.time(gap);
                wakes = [wakes, Some(it.next_credit)].into_iter().flatten().min();
            }
        }
        if let Some(at) = wakes {
            self.wake_at(around.net, at);
        }
    }

    // Writing.

    fn change_windows(&mut self, around: &mut Surroundings<'_>) {
        while let Some((after, window)) = self.changes.front().copied() {
            let at = self.connected + after;
            if around.net.now < at {
                return self.wake_at(around.net, at);
            }
            self.changes.pop_front();
            tell!(around.net, "client {}: windows of {window} bytes", self.number);
            self.carrier.announce(window);
        }
    }

    fn begin_requests(&mut self, around: &mut Surroundings<'_>) {
        let (plan, http2) = self.plan(around.scenario);
        while let Some(&exchange) = self.waiting.front() {
            let request = &around.scenario.exchanges[exchange as usize];
            let ready = self.answered + request.pause;
            let busy = self.open.values().filter(|it| !it.answered).count();
            let told = &self.carrier.told;
            // Until it knows better, it believes that the worker takes many; what is too much is refused.
            let full = busy >= plan.depth || told.is_known && self.open.len() >= told.streams;
            if !self.carrier.takes_streams() || self.finished || self.stops_writing || full {
                return;
            }
            if !request.pause.is_zero() && busy > 0 || request.tunnel.is_some() && !told.tunnels {
                return;
            }
            if around.net.now < ready {
                return self.wake_at(around.net, ready);
            }
            self.waiting.pop_front();
            around.oracle.begin(exchange, around.net.now);
            let (_, down) = request.tunnel.unwrap_or_default();
            let size = request.tunnel.map_or(request.body.bytes(), |(up, _)| up);
            let complete = request.body == Body::None && request.tunnel.is_none();
            let secure = around.scenario.listeners[plan.listener].tls;
            let stream = self.carrier.open(&write_request(exchange, request, secure), complete);
            tell!(around.net, "client {}: begins exchange {exchange} on stream {stream}", self.number);
            if http2.carrier.window < 1_000 {
                self.carrier.grant(stream, 1_000 + down as u32 % 1_000);
            }
            let expects = request.expects && size > 0;
            let stream_state = Stream {
                exchange,
                response: Response::new(exchange, request),
                size,
                sent: 0,
                complete,
                held: expects.then_some(around.net.now + EXPECT_PATIENCE),
                answered: false,
                received: 0,
                unread: 0,
                next_credit: Duration::ZERO,
            };
            self.open.insert(stream, stream_state);
            if http2.pings {
                self.carrier.ping();
            }
            if fault_of(around, exchange) == Some(StreamFault::ResetsAtOnce) {
                self.reset(around, stream);
            }
        }
    }

    /// Queues content of requests, a frame of each stream in turn.
    fn send_content(&mut self, around: &mut Surroundings<'_>) {
        self.release_bodies(around);
        loop {
            let queued = self.wire.as_ref().map_or(0, |wire| wire.channel.unsent.len()) + self.carrier.out.len();
            if queued > AHEAD || self.stops_writing {
                return;
            }
            let behind = self.open.range(self.turn + 1..).chain(self.open.range(..=self.turn));
            let mut ready = behind.filter(|(_, it)| it.can_send() && !self.waits(around, it));
            let Some(stream) = ready.find(|(stream, it)| self.can_move(**stream, it)).map(|(stream, _)| *stream) else {
                return;
            };
            self.turn = stream;
            let Some(it) = self.open.get_mut(&stream) else { return };
            let stops = match fault_of(around, it.exchange) {
                Some(StreamFault::ResetsSending(at) | StreamFault::StopsSending(at)) => at,
                _ => usize::MAX,
            };
            if it.sent >= stops {
                match fault_of(around, it.exchange) {
                    Some(StreamFault::ResetsSending(_)) => self.reset(around, stream),
                    // It sends no more on it, and nobody knows.
                    _ => it.held = Some(Duration::MAX),
                }
                continue;
            }
            let plan = &around.scenario.exchanges[it.exchange as usize];
            let chunk = if let Body::Chunked(_, size) = plan.body { size } else { usize::MAX };
            let length = chunk.min(it.size - it.sent).min(self.carrier.room(stream)).min(stops - it.sent);
            let bytes = content(it.exchange, Way::Up, it.sent, length);
            it.sent += length;
            // Of every other message, the end comes in a frame of its own.
            it.complete = it.sent == it.size && (length == 0 || it.exchange % 2 == 0);
            let complete = it.complete;
            self.carrier.content(stream, &bytes, complete);
            if complete && it.answered {
                self.open.remove(&stream);
            }
        }
    }

    /// Whether something can be sent on a stream: content, or the end alone.
    fn can_move(&self, stream: u32, it: &Stream) -> bool {
        it.sent == it.size || self.carrier.room(stream) > 0
    }

    /// Whether a tunnel is not open yet, or its client says nothing of its end before it knows of the other's.
    fn waits(&self, around: &Surroundings<'_>, it: &Stream) -> bool {
        if around.scenario.exchanges[it.exchange as usize].tunnel.is_none() {
            return false;
        }
        let last = it.sent == it.size && it.exchange % 2 == 1 && !it.answered;
        !it.response.is_tunnel() || last
    }

    fn release_bodies(&mut self, around: &mut Surroundings<'_>) {
        let now = around.net.now;
        let mut wakes = None;
        for it in self.open.values_mut() {
            match it.held {
                Some(until) if until <= now => it.held = None,
                Some(until) if until < Duration::MAX => wakes = [wakes, Some(until)].into_iter().flatten().min(),
                _ => {}
            }
        }
        if let Some(at) = wakes {
            self.wake_at(around.net, at);
        }
    }

    fn write(&mut self, around: &mut Surroundings<'_>) {
        let (plan, _) = self.plan(around.scenario);
        loop {
            let Some(wire) = &mut self.wire else { return };
            if !self.carrier.out.is_empty() {
                wire.send(&std::mem::take(&mut self.carrier.out));
            }
            if self.stops_writing || self.done {
                return;
            }
            let until = self.fault.map_or(usize::MAX, |(at, _)| at.max(1));
            match wire.write(around.net, plan.writes, &mut self.random, until) {
                Written::All => {
                    let before = self.carrier.out.len();
                    self.send_content(around);
                    if self.carrier.out.len() == before {
                        return;
                    }
                }
                Written::Blocked => return,
                Written::Later(at) => return self.wake_at(around.net, at),
                Written::Enough => {
                    if let Some((_, fault)) = self.fault.take() {
                        self.fail(around, fault);
                    }
                }
            }
        }
    }

    fn fail(&mut self, around: &mut Surroundings<'_>, fault: ClientFault) {
        let Some(wire) = &mut self.wire else { return };
        tell!(around.net, "client {}: {fault:?}", self.number);
        match fault {
            ClientFault::Resets => {
                around.net.reset(wire.link);
                self.give_up(around);
            }
            ClientFault::Closes => {
                around.net.close(wire.link);
                self.give_up(around);
            }
            ClientFault::Finishes => {
                around.net.finish(wire.link);
                (self.finished, self.stops_writing) = (true, true);
            }
            ClientFault::Stalls => self.stops_writing = true,
            ClientFault::StopsReading => self.stops_reading = true,
            ClientFault::Pauses(time) => {
                wire.next_write = around.net.now + time;
                let at = wire.next_write;
                self.wake_at(around.net, at);
            }
            ClientFault::Garbage => {
                self.garbage = true;
                let garbage: Vec<u8> = (0..200).map(|_| self.random.next() as u8).collect();
                wire.channel.unsent.splice(0..0, garbage);
            }
        }
    }

    /// It is not there any more.
    fn give_up(&mut self, around: &mut Surroundings<'_>) {
        for (_, it) in std::mem::take(&mut self.open) {
            if !it.answered {
                around.oracle.end(around.net, it.exchange, Outcome::Cut);
            }
        }
        self.done = true;
    }

    /// Ends the connection as planned when all is answered, or when the worker takes no more on it.
    fn end_if_over(&mut self, around: &mut Surroundings<'_>) {
        let (plan, _) = self.plan(around.scenario);
        let Some(wire) = &mut self.wire else { return };
        let link = wire.link;
        let begun = self.waiting.is_empty() && !wire.shakes_hands();
        if begun && plan.end == ClientEnd::HalfClose && !self.said_end && !self.stops_writing {
            self.said_end = true;
            self.carrier.go_away(0);
            return self.write(around);
        }
        if !self.open.is_empty() || self.stops_reading || self.stops_writing {
            return;
        }
        if !self.waiting.is_empty() {
            if !self.carrier.takes_streams() {
                // The rest goes over another connection.
                wire.say_goodbye(around.net);
                around.net.close(link);
                self.wire = None;
                self.wake_at(around.net, around.net.now + Duration::from_micros(50));
            }
            return;
        }
        if !wire.channel.unsent.is_empty() {
            return;
        }
        match plan.end {
            ClientEnd::Close => {
                wire.say_goodbye(around.net);
                around.net.close(link);
                self.done = true;
            }
            ClientEnd::Reset => {
                around.net.reset(link);
                self.done = true;
            }
            ClientEnd::HalfClose | ClientEnd::Idle => {}
        }
    }
}

/// What is wrong with the stream of an exchange.
fn fault_of(around: &Surroundings<'_>, exchange: u32) -> Option<StreamFault> {
    around.scenario.exchanges[exchange as usize].stream
}

/// The head of a request.
fn write_request(exchange: u32, plan: &ExchangePlan, secure: bool) -> Section {
    let path = match plan.target {
        Target::Cluster(cluster) => format!("/c{cluster}/{exchange}"),
        Target::Own => "/own".to_owned(),
        Target::Nowhere => "/nowhere".to_owned(),
    };
    let method = if plan.tunnel.is_some() { "CONNECT" } else { plan.method };
    let mut fields = vec![(":method", method.to_owned())];
    if plan.tunnel.is_some() {
        fields.push((":protocol", "sim".to_owned()));
    }
    let scheme = if secure { "https" } else { "http" };
    fields.extend([(":scheme", scheme.to_owned()), (":authority", "sim".to_owned()), (":path", path)]);
    fields.push(("x-id", exchange.to_string()));
    if plan.padding > 0 {
        fields.push(("x-padding", "p".repeat(plan.padding)));
    }
    if plan.expects && plan.body.bytes() > 0 {
        fields.push(("expect", "100-continue".to_owned()));
    }
    if let Body::Length(length) = plan.body {
        fields.push(("content-length", length.to_string()));
    }
    fields.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())).collect()
}
