//! A client: sends its requests at its pace, reads the answers at its pace, checks every byte, and does what its plan says is wrong with
//! it. Not here: reading a response (`response`).

use std::collections::VecDeque;
use std::time::Duration;

use crate::channel::Channel;
use crate::content::{Way, chunked, content};
use crate::net::{Event, LinkId, Net, Read, tell};
use crate::oracle::{Oracle, Outcome};
use crate::random::Random;
use crate::response::Response;
use crate::scenario::{Body, ClientEnd, ClientFault, ClientPlan, ExchangePlan, NEVER, Scenario, Target};
use crate::tls;

/// How long a client waits for 100 before it sends its body all the same.
pub(crate) const EXPECT_PATIENCE: Duration = Duration::from_millis(200);
/// Connections that a client makes at most.
pub(crate) const CONNECTIONS: usize = 8;

pub(crate) struct Client {
    number: usize,
    random: Random,
    pub(crate) link: Option<LinkId>,
    channel: Channel,
    /// Bytes that went out, over all connections.
    written: usize,
    next_write: Duration,
    next_read: Duration,
    /// When it will act again.
    wakes: Option<Duration>,
    /// Content that came and was not understood yet.
    pub(crate) input: Vec<u8>,
    /// What is still to be sent.
    waiting: VecDeque<u32>,
    /// What was begun and is not answered, in order.
    pub(crate) open: VecDeque<Response>,
    /// A body that waits for 100, until then.
    held: Option<(Vec<u8>, Duration)>,
    /// When the last answer was complete.
    answered: Duration,
    /// The worker has said that the connection ends.
    pub(crate) closes: bool,
    /// It understands no more of this connection.
    deaf: bool,
    /// The worker has sent FIN on a tunnel.
    ended: bool,
    finished: bool,
    stops_reading: bool,
    stops_writing: bool,
    fault: Option<(usize, ClientFault)>,
    connections: usize,
    starts_never: bool,
    pub(crate) done: bool,
    /// It sent what no request consists of.
    pub(crate) garbage: bool,
}

/// What a client may look at besides itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) net: &'a mut Net,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) scenario: &'a Scenario,
}

impl Client {
    pub(crate) fn new(scenario: &Scenario, number: usize) -> Self {
        let plan = &scenario.clients[number];
        Self {
            number,
            random: Random::new(scenario.seed, 1_000 + number as u64),
            link: None,
            channel: Channel::default(),
            written: 0,
            next_write: Duration::ZERO,
            next_read: Duration::ZERO,
            wakes: None,
            input: Vec::new(),
            waiting: plan.exchanges.iter().copied().collect(),
            open: VecDeque::new(),
            held: None,
            answered: Duration::ZERO,
            closes: false,
            deaf: false,
            ended: false,
            finished: false,
            stops_reading: false,
            stops_writing: false,
            fault: plan.fault,
            connections: 0,
            starts_never: plan.start == NEVER || plan.exchanges.is_empty(),
            done: false,
            garbage: false,
        }
    }

    /// Whether it has nothing to do any more, or never had.
    pub(crate) fn is_idle(&self) -> bool {
        self.done || (self.connections == 0 && self.starts_never)
    }

    fn plan<'a>(&self, scenario: &'a Scenario) -> &'a ClientPlan {
        &scenario.clients[self.number]
    }

    /// Does all that can be done now.
    pub(crate) fn step(&mut self, around: &mut Surroundings<'_>) {
        if self.done {
            return;
        }
        self.wakes = self.wakes.filter(|at| *at > around.net.now);
        let Some(link) = self.link.or_else(|| self.connect(around)) else { return };
        around.net.links[link].peer_due = false;
        self.read(around, link);
        if self.done || self.link != Some(link) {
            return;
        }
        self.begin_requests(around);
        self.write(around, link);
        if !self.done && self.link == Some(link) {
            self.end_if_over(around, link);
        }
    }

    fn connect(&mut self, around: &mut Surroundings<'_>) -> Option<LinkId> {
        let plan = self.plan(around.scenario);
        self.connections += 1;
        let link = if self.connections > CONNECTIONS { None } else { around.net.call(self.number, plan.listener) };
        if link.is_none() {
            self.done = true;
            return None;
        }
        let tls = around.scenario.listeners[plan.listener].tls;
        self.channel = Channel::new(tls.then(|| tls::client().into()));
        self.link = link;
        self.answered = around.net.now;
        tell!(around.net, "client {} connects to listener {}", self.number, plan.listener);
        link
    }

    /// Has it act again at a time, unless it will before.
    fn wake_at(&mut self, net: &mut Net, at: Duration) {
        if self.wakes.is_none_or(|wakes| wakes > at) {
            self.wakes = Some(at);
            net.schedule(at, Event::Client(self.number));
        }
    }

    // Reading.

    fn read(&mut self, around: &mut Surroundings<'_>, link: LinkId) {
        let pace = self.plan(around.scenario).reads;
        loop {
            if self.stops_reading {
                return;
            }
            if around.net.now < self.next_read {
                return self.wake_at(around.net, self.next_read);
            }
            match around.net.read(link, pace.chunk.min(1 << 20)) {
                Read::Bytes(bytes) => {
                    self.take(around, &bytes);
                    self.understand(around);
                    if self.done || self.link != Some(link) {
                        return;
                    }
                    if !pace.gap.is_zero() {
                        self.next_read = around.net.now + self.random.time(pace.gap);
                    }
                }
                Read::Nothing => return,
                Read::End if self.open.front().is_some_and(Response::is_tunnel) && !self.finished => {
                    // The other way of the tunnel goes on.
                    self.ended = true;
                    return;
                }
                Read::End => return self.lose(around, false),
                Read::Reset => return self.lose(around, true),
            }
        }
    }

    /// Takes in bytes from the wire.
    fn take(&mut self, around: &mut Surroundings<'_>, bytes: &[u8]) {
        if let Err(text) = self.channel.receive(bytes, &mut self.input)
            && !self.garbage
            && self.fault.is_none()
            && self.plan(around.scenario).fault.is_none()
        {
            around.net.violate(format!("client {}: TLS breaks: {text}", self.number));
        }
    }

    /// Reads answers from what has come.
    fn understand(&mut self, around: &mut Surroundings<'_>) {
        while !self.input.is_empty() {
            if self.deaf {
                return self.input.clear();
            }
            let Some(mut response) = self.open.pop_front() else {
                let plan = self.plan(around.scenario);
                if around.scenario.listeners[plan.listener].connections > 0 {
                    // Above its limit, a listener answers before it is asked.
                    return;
                }
                if plan.calm {
                    let text = String::from_utf8_lossy(&self.input[..self.input.len().min(60)]).into_owned();
                    around.net.violate(format!("client {} gets what answers nothing: {text:?}", self.number));
                }
                // What comes now belongs to nothing that it knows of.
                self.deaf = true;
                continue;
            };
            let before = self.input.len();
            let complete = response.read(around, &mut self.input);
            if response.continues() || response.has_head() {
                self.release_body();
            }
            if complete {
                self.finish_exchange(around, &response, response.outcome());
            } else {
                self.open.push_front(response);
                if self.input.len() == before || around.net.violation.is_some() {
                    return;
                }
            }
        }
    }

    fn finish_exchange(&mut self, around: &mut Surroundings<'_>, response: &Response, outcome: Outcome) {
        tell!(around.net, "client {}: exchange {} is {outcome:?}", self.number, response.exchange);
        around.oracle.end(around.net, response.exchange, outcome);
        self.closes |= response.closes;
        self.answered = around.net.now;
    }

    /// The connection has ended.
    fn lose(&mut self, around: &mut Surroundings<'_>, reset: bool) {
        let Some(link) = self.link.take() else { return };
        tell!(around.net, "client {}: connection {link} {}", self.number, if reset { "is reset" } else { "ends" });
        let cut_by_tls = self.channel.is_open();
        let mut first = true;
        while let Some(mut response) = self.open.pop_front() {
            let outcome = if first { response.end(around, reset || cut_by_tls) } else { Outcome::Unanswered };
            if self.closes {
                around.oracle.excuse(response.exchange, "sent behind the last request of a connection");
            }
            first &= !response.closes;
            self.closes |= response.closes;
            if !response.has_head() || outcome != Outcome::Unanswered {
                first = false;
            }
            self.finish_exchange(around, &response, outcome);
        }
        around.net.close(link);
        self.input.clear();
        self.channel = Channel::default();
        self.held = None;
        (self.closes, self.deaf) = (false, false);
        if self.waiting.is_empty() || self.finished || self.stops_writing {
            self.done = true;
            return;
        }
        // The rest goes over another connection.
        self.wake_at(around.net, around.net.now + Duration::from_micros(50));
    }

    // Writing.

    fn begin_requests(&mut self, around: &mut Surroundings<'_>) {
        let plan = self.plan(around.scenario);
        while let Some(&exchange) = self.waiting.front() {
            let request = &around.scenario.exchanges[exchange as usize];
            let ready = self.answered + request.pause;
            let alone = !request.pause.is_zero() || request.tunnel.is_some() || request.expects;
            if self.closes || self.finished || self.stops_writing || self.held.is_some() {
                return;
            }
            if self.open.len() >= plan.depth || (alone && !self.open.is_empty()) {
                return;
            }
            if self.open.iter().any(|response| response.is_last) {
                return;
            }
            if around.net.now < ready {
                return self.wake_at(around.net, ready);
            }
            self.waiting.pop_front();
            around.oracle.begin(exchange, around.net.now);
            tell!(around.net, "client {}: begins exchange {exchange}", self.number);
            let (head, body) = write_request(exchange, request);
            self.open.push_back(Response::new(exchange, request));
            self.send(&head);
            if request.expects && !body.is_empty() {
                self.held = Some((body, around.net.now + EXPECT_PATIENCE));
            } else {
                self.send(&body);
            }
        }
    }

    fn release_body(&mut self) {
        if let Some((body, _)) = self.held.take() {
            self.send(&body);
        }
    }

    /// Queues content for the worker.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.channel.send(bytes);
    }

    fn write(&mut self, around: &mut Surroundings<'_>, link: LinkId) {
        let pace = self.plan(around.scenario).writes;
        match self.held.as_ref().map(|(_, until)| *until) {
            Some(until) if until <= around.net.now => self.release_body(),
            Some(until) => self.wake_at(around.net, until),
            None => {}
        }
        self.open_tunnel(around);
        while !self.channel.unsent.is_empty() && !self.stops_writing && !self.done {
            if around.net.now < self.next_write {
                return self.wake_at(around.net, self.next_write);
            }
            let until_fault = self.fault.map_or(usize::MAX, |(at, _)| at.saturating_sub(self.written));
            let most = pace.chunk.min(self.channel.unsent.len()).min(until_fault.max(1));
            let written = around.net.write(link, &self.channel.unsent[..most]);
            self.channel.unsent.drain(..written);
            self.written += written;
            if self.fault.is_some_and(|(at, _)| at <= self.written)
                && let Some((_, fault)) = self.fault.take()
            {
                self.fail(around, link, fault);
                continue;
            }
            if written == 0 {
                return;
            }
            if !pace.gap.is_zero() {
                self.next_write = around.net.now + self.random.time(pace.gap);
            }
        }
    }

    /// Sends what goes up a tunnel that has just been opened.
    fn open_tunnel(&mut self, around: &mut Surroundings<'_>) {
        let Some(response) = self.open.front_mut() else { return };
        if !response.opens_tunnel() {
            return;
        }
        let exchange = response.exchange;
        let (up, _) = around.scenario.exchanges[exchange as usize].tunnel.unwrap_or_default();
        self.send(&content(exchange, Way::Up, 0, up));
    }

    fn fail(&mut self, around: &mut Surroundings<'_>, link: LinkId, fault: ClientFault) {
        tell!(around.net, "client {}: {fault:?}", self.number);
        match fault {
            ClientFault::Resets => {
                around.net.reset(link);
                self.give_up(around);
            }
            ClientFault::Closes => {
                around.net.close(link);
                self.give_up(around);
            }
            ClientFault::Finishes => {
                around.net.finish(link);
                (self.finished, self.stops_writing) = (true, true);
            }
            ClientFault::Stalls => self.stops_writing = true,
            ClientFault::StopsReading => self.stops_reading = true,
            ClientFault::Pauses(time) => {
                self.next_write = around.net.now + time;
                self.wake_at(around.net, self.next_write);
            }
            ClientFault::Garbage => {
                self.garbage = true;
                let garbage: Vec<u8> = (0..200).map(|_| self.random.next() as u8).collect();
                self.channel.unsent.splice(0..0, garbage);
            }
        }
    }

    /// It is not there any more.
    fn give_up(&mut self, around: &mut Surroundings<'_>) {
        while let Some(response) = self.open.pop_front() {
            around.oracle.end(around.net, response.exchange, Outcome::Cut);
        }
        self.done = true;
    }

    /// Ends the connection as planned when all is answered.
    fn end_if_over(&mut self, around: &mut Surroundings<'_>, link: LinkId) {
        let end = self.plan(around.scenario).end;
        let tunnel = self.open.front().is_some_and(Response::is_tunnel);
        let all_sent = !self.channel.shakes_hands()
            && self.waiting.is_empty()
            && self.channel.unsent.is_empty()
            && self.held.is_none();
        let waits_for_switch = self.open.iter().any(|response| response.wants_tunnel() && !response.is_tunnel());
        // Through every other tunnel the client says nothing of its end before it knows of the other's.
        let waits = self.open.front().is_some_and(|response| response.exchange % 2 == 1) && !self.ended;
        let finishes = if tunnel { !waits } else { end == ClientEnd::HalfClose };
        if all_sent && finishes && !self.finished && !self.stops_writing && !waits_for_switch {
            self.say_goodbye(around, link);
            around.net.finish(link);
            self.finished = true;
            if self.ended {
                return self.lose(around, false);
            }
        }
        if !self.waiting.is_empty() || !self.open.is_empty() || self.stops_reading || self.stops_writing {
            return;
        }
        match end {
            ClientEnd::Close => {
                self.say_goodbye(around, link);
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

    fn say_goodbye(&mut self, around: &mut Surroundings<'_>, link: LinkId) {
        if self.channel.say_goodbye() {
            around.net.write(link, &std::mem::take(&mut self.channel.unsent));
        }
    }
}

/// Head and body of a request.
fn write_request(exchange: u32, plan: &ExchangePlan) -> (Vec<u8>, Vec<u8>) {
    let path = match plan.target {
        Target::Cluster(cluster) => format!("/c{cluster}/{exchange}"),
        Target::Own => "/own".to_owned(),
        Target::Nowhere => "/nowhere".to_owned(),
    };
    let version = if plan.http10 { "1.0" } else { "1.1" };
    let mut head = format!("{} {path} HTTP/{version}\r\nHost: sim\r\nX-Id: {exchange}\r\n", plan.method);
    if plan.padding > 0 {
        head.push_str(&format!("X-Padding: {}\r\n", "p".repeat(plan.padding)));
    }
    if plan.expects && plan.body.bytes() > 0 {
        head.push_str("Expect: 100-continue\r\n");
    }
    if plan.logs_in {
        head.push_str("Authorization: NTLM c2lt\r\n");
    }
    if plan.close {
        head.push_str("Connection: close\r\n");
    }
    if plan.tunnel.is_some() {
        head.push_str("Connection: upgrade\r\nUpgrade: sim\r\n");
    }
    let bytes = content(exchange, Way::Up, 0, plan.body.bytes());
    let body = match plan.body {
        Body::None => Vec::new(),
        Body::Length(length) => {
            head.push_str(&format!("Content-Length: {length}\r\n"));
            bytes
        }
        Body::Chunked(_, size) => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            chunked(&bytes, size, "")
        }
    };
    head.push_str("\r\n");
    (head.into_bytes(), body)
}
