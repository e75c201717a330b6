//! One connection of an origin: reads requests at its pace, checks every byte, answers as the plan of the exchange says. Not here: how
//! connections come about (`machine`).

use std::time::Duration;

use crate::content::{Chunks, Way, chunked, content, mismatch};
use crate::net::{Event, LinkId, Net, Read, tell};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::scenario::{
    Action, AnswerFraming, AnswerPlan, ClientFault, EndpointPlan, ExchangePlan, OperatorPlan, OriginFault, Scenario,
    Target,
};

/// What opens a tunnel.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\n";

/// How often an origin closes connections that it closes at the same moments.
const MOMENTS: Duration = Duration::from_millis(20);
/// What is said to nobody.
const TALK: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nX-Talk: yes\r\nContent-Length: 0\r\n\r\n";

pub(crate) struct Origin {
    link: LinkId,
    random: Random,
    cluster: usize,
    endpoint: EndpointPlan,
    input: Vec<u8>,
    request: Option<Request>,
    answer: Option<Answer>,
    next_read: Duration,
    /// When it will act again.
    wakes: Option<Duration>,
    /// The client that has logged in on it.
    bound: Option<usize>,
    /// It reads or writes no more.
    stalled: bool,
    /// It has answered a request that it has not read to its end.
    answered: bool,
    finished: bool,
    gone: bool,
    /// When it has last answered.
    idle_since: Option<Duration>,
    /// It has said what nobody asked for.
    talked: bool,
    /// The way up of a tunnel has ended.
    ended: bool,
}

/// A request that is being read, or was read and is being answered.
struct Request {
    exchange: u32,
    framing: Framing,
    received: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked(Chunks),
    Tunnel,
}

/// An answer that is being written.
struct Answer {
    bytes: Vec<u8>,
    written: usize,
    /// When more may be written.
    next: Duration,
    fault: Option<(usize, OriginFault)>,
}

impl Origin {
    pub(crate) fn new(scenario: &Scenario, link: LinkId, cluster: usize, endpoint: usize) -> Self {
        Self {
            link,
            random: Random::new(scenario.seed, 1_000_000 + link as u64),
            cluster,
            endpoint: scenario.clusters[cluster].endpoints[endpoint].clone(),
            input: Vec::new(),
            request: None,
            answer: None,
            next_read: Duration::ZERO,
            wakes: None,
            bound: None,
            stalled: false,
            answered: false,
            finished: false,
            gone: false,
            idle_since: None,
            talked: false,
            ended: false,
        }
    }

    /// Does all that can be done now.
    pub(crate) fn step(&mut self, net: &mut Net, oracle: &mut Oracle, scenario: &Scenario) {
        net.links[self.link].peer_due = false;
        if self.gone {
            return;
        }
        self.wakes = self.wakes.filter(|at| *at > net.now);
        self.read(net, oracle, scenario);
        self.write(net, scenario);
        self.talk_if_idle(net);
        self.close_if_idle(net);
    }

    /// Has it act again at a time, unless it will before.
    fn wake_at(&mut self, net: &mut Net, at: Duration) {
        if self.wakes.is_none_or(|wakes| wakes > at) {
            self.wakes = Some(at);
            net.schedule(at, Event::Origin(self.link));
        }
    }

    fn read(&mut self, net: &mut Net, oracle: &mut Oracle, scenario: &Scenario) {
        while !self.gone {
            if net.now < self.next_read {
                return self.wake_at(net, self.next_read);
            }
            match net.read(self.link, self.endpoint.reads.chunk.min(1 << 20)) {
                Read::Bytes(bytes) => {
                    self.input.extend_from_slice(&bytes);
                    self.understand(net, oracle, scenario);
                    if !self.endpoint.reads.gap.is_zero() {
                        self.next_read = net.now + self.random.time(self.endpoint.reads.gap);
                    }
                }
                Read::Nothing => return,
                Read::End => return self.lose(net, oracle, scenario, false),
                Read::Reset => return self.lose(net, oracle, scenario, true),
            }
        }
    }

    /// The worker sends no more.
    fn lose(&mut self, net: &mut Net, oracle: &Oracle, scenario: &Scenario, reset: bool) {
        if let Some(Request { exchange, framing: Framing::Tunnel, received }) = self.request {
            let (up, _) = scenario.exchanges[exchange as usize].tunnel.unwrap_or_default();
            // Until its client has been told, there is no tunnel.
            let opened = oracle.exchanges[exchange as usize].opened;
            let garbled = matches!(scenario.exchanges[exchange as usize].answer.fault, Some((_, OriginFault::Garbage)));
            if opened && !garbled && !reset && received < up && !ends_early(scenario, exchange) {
                net.violate(format!("{received} of {up} bytes of tunnel {exchange} look whole"));
            }
            if opened && !reset && (self.answer.is_some() || !self.ended) {
                // Its own way goes on.
                self.ended = true;
                if self.answer.is_none() {
                    self.end_tunnel(net);
                }
                return;
            }
        }
        self.leave(net);
    }

    fn leave(&mut self, net: &mut Net) {
        net.close(self.link);
        self.gone = true;
    }

    fn understand(&mut self, net: &mut Net, oracle: &mut Oracle, scenario: &Scenario) {
        while !self.input.is_empty() && net.violation.is_none() {
            let Some(request) = &mut self.request else {
                if !self.read_head(net, oracle, scenario) {
                    return;
                }
                continue;
            };
            let plan = &scenario.exchanges[request.exchange as usize];
            let (before, mut part) = (self.input.len(), Vec::new());
            let whole = match &mut request.framing {
                // To the worker, the answer was whole before its last byte.
                Framing::Length(0) | Framing::Chunked(Chunks::Done)
                    if matches!(net.links[self.link].fault, Some((_, OriginFault::Garbage))) =>
                {
                    return self.leave(net);
                }
                Framing::Length(0) | Framing::Chunked(Chunks::Done) => {
                    let text = format!("{} bytes behind request {}", self.input.len(), request.exchange);
                    return net.violate(text);
                }
                Framing::Length(left) => {
                    part.extend(self.input.drain(..(*left).min(self.input.len())));
                    *left -= part.len();
                    *left == 0
                }
                Framing::Chunked(chunks) => {
                    let read = chunks.read(&mut self.input, &mut part);
                    if let Err(text) = read {
                        return net.violate(format!("body of request {}: {text}", request.exchange));
                    }
                    *chunks == Chunks::Done
                }
                Framing::Tunnel => {
                    part.append(&mut self.input);
                    false
                }
            };
            let wrong = mismatch(request.exchange, Way::Up, request.received, &part);
            if let Some(at) = wrong.filter(|_| !is_garbled(scenario, request.exchange)) {
                let (exchange, at) = (request.exchange, request.received + at);
                return net.violate(format!("byte {at} of request {exchange} is another's"));
            }
            request.received += part.len();
            if whole {
                if request.received != plan.body.bytes() && !is_garbled(scenario, request.exchange) {
                    let (exchange, received) = (request.exchange, request.received);
                    return net.violate(format!("{received} bytes of request {exchange} look whole"));
                }
                if std::mem::take(&mut self.answered) {
                    self.request = None;
                    self.idle_since = Some(net.now);
                } else {
                    self.begin_answer(net, plan);
                }
            } else if self.input.len() == before {
                return;
            }
        }
    }

    /// Reads a request head. Returns whether it was there.
    fn read_head(&mut self, net: &mut Net, oracle: &mut Oracle, scenario: &Scenario) -> bool {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut fields);
        let length = match head.parse(&self.input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return false,
            Err(error) => {
                net.violate(format!("request head: {error}"));
                return false;
            }
        };
        let field = |name: &str| {
            let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| String::from_utf8_lossy(field.value).into_owned())
        };
        let id = field("x-id").and_then(|id| id.parse::<u32>().ok());
        let named = head.path.and_then(|path| path.rsplit('/').next()?.parse::<u32>().ok());
        let Some(exchange) = id.filter(|id| Some(*id) == named && (*id as usize) < scenario.exchanges.len()) else {
            net.violate(format!("a request for {:?} with id {id:?}", head.path));
            return false;
        };
        let plan = &scenario.exchanges[exchange as usize];
        let framing = match (field("content-length"), field("transfer-encoding")) {
            (Some(size), None) => Framing::Length(size.parse().unwrap_or(usize::MAX)),
            (None, Some(_)) => Framing::Chunked(Chunks::default()),
            (None, None) if plan.tunnel.is_some() => Framing::Tunnel,
            (None, None) => Framing::Length(0),
            (Some(_), Some(_)) => {
                net.violate(format!("request {exchange} has length and coding"));
                return false;
            }
        };
        if head.method != Some(plan.method) {
            net.violate(format!("request {exchange} has method {:?}", head.method));
        }
        if !self.serves(scenario, plan) {
            net.violate(format!("request {exchange} comes to an origin of cluster {}", self.cluster));
        }
        let expects = field("expect").is_some();
        self.input.drain(..length);
        tell!(net, "{}: reads the head of request {exchange}", net.name(self.link));
        oracle.sight(net, scenario, exchange, self.link);
        let client = scenario.client_of(exchange);
        if self.bound.is_some_and(|bound| Some(bound) != client) {
            net.violate(format!("request {exchange} comes on a connection on which another client has logged in"));
        }
        if plan.logs_in {
            self.bound = client;
        }
        self.request = Some(Request { exchange, framing, received: 0 });
        self.idle_since = None;
        if expects && !plan.answer.early {
            net.write(self.link, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if framing == Framing::Length(0) || framing == Framing::Tunnel || plan.answer.early {
            self.begin_answer(net, plan);
        }
        true
    }

    /// Whether a request may come here: to its own cluster, or to the first one if its own may have been taken away.
    fn serves(&self, scenario: &Scenario, plan: &ExchangePlan) -> bool {
        let Target::Cluster(target) = plan.target else { return false };
        let removes = |plan: &OperatorPlan| plan.action == Action::RemoveCluster(target);
        target == self.cluster || (self.cluster == 0 && scenario.operator.iter().any(removes))
    }

    fn begin_answer(&mut self, net: &mut Net, plan: &ExchangePlan) {
        let Some(request) = self.request.as_ref().filter(|_| self.answer.is_none() && !self.finished) else { return };
        let next = net.now + plan.answer.delay;
        let bytes = write_answer(request.exchange, plan);
        self.answer = Some(Answer { bytes, written: 0, next, fault: plan.answer.fault });
        self.wake_at(net, next);
    }

    fn write(&mut self, net: &mut Net, scenario: &Scenario) {
        while let (Some(answer), Some(request)) = (&mut self.answer, &self.request) {
            if self.stalled || self.gone {
                return;
            }
            if net.now < answer.next {
                let at = answer.next;
                return self.wake_at(net, at);
            }
            let plan = &scenario.exchanges[request.exchange as usize];
            let pace = plan.answer.writes;
            let until_fault = answer.fault.map_or(usize::MAX, |(at, _)| at.saturating_sub(answer.written));
            let rest = &answer.bytes[answer.written..];
            let most = pace.chunk.min(rest.len()).min(until_fault);
            let written = net.write(self.link, &rest[..most]);
            answer.written += written;
            if !pace.gap.is_zero() {
                answer.next = net.now + self.random.time(pace.gap);
            }
            let complete = answer.written == answer.bytes.len();
            if answer.fault.is_some_and(|(at, _)| at <= answer.written) && !(self.fail(net) && complete) {
                continue;
            }
            if complete {
                self.finish_answer(net, &plan.answer);
            } else if written == 0 && most > 0 {
                return;
            }
        }
    }

    /// Does what the plan has in store. Returns whether that was nothing: a delay behind the last byte of an answer is none, because the
    /// next request may come at once.
    fn fail(&mut self, net: &mut Net) -> bool {
        let Some(answer) = &mut self.answer else { return false };
        let Some((_, fault)) = answer.fault.take() else { return false };
        if answer.written == answer.bytes.len() && matches!(fault, OriginFault::Stalls | OriginFault::Pauses(_)) {
            return true;
        }
        tell!(net, "{}: {fault:?}", net.name(self.link));
        // Before the end of an answer, its connection takes no other request unless there is garbage in the place of the rest.
        if fault == OriginFault::Garbage || answer.written == answer.bytes.len() {
            net.links[self.link].fault = Some((net.now, fault));
        }
        match fault {
            OriginFault::Finishes => self.leave(net),
            OriginFault::Resets => {
                net.reset(self.link);
                self.gone = true;
            }
            OriginFault::Stalls => self.stalled = true,
            OriginFault::Pauses(time) => {
                answer.next = net.now + time;
                let at = answer.next;
                self.wake_at(net, at);
            }
            OriginFault::Garbage => {
                let garbage: Vec<u8> = (0..100).map(|_| self.random.next() as u8).collect();
                let at = answer.written;
                answer.bytes.splice(at..at, garbage);
            }
        }
        false
    }

    fn finish_answer(&mut self, net: &mut Net, plan: &AnswerPlan) {
        self.answer = None;
        let Some(request) = &self.request else { return };
        tell!(net, "{}: has answered request {}", net.name(self.link), request.exchange);
        let ends = plan.close || plan.framing == AnswerFraming::Close;
        match request.framing {
            // Through some tunnels it says nothing of its end before it knows of the other's.
            Framing::Tunnel if request.exchange % 4 == 0 && !self.ended => {}
            Framing::Tunnel => self.end_tunnel(net),
            Framing::Length(0) | Framing::Chunked(Chunks::Done) => {
                self.request = None;
                self.idle_since = Some(net.now);
                if ends {
                    self.leave(net);
                }
            }
            // The rest of the request is read and dropped.
            _ if ends => {
                net.finish(self.link);
                self.finished = true;
            }
            _ => self.answered = true,
        }
    }

    fn end_tunnel(&mut self, net: &mut Net) {
        if !std::mem::replace(&mut self.finished, true) {
            net.finish(self.link);
        }
    }

    /// Sends what nobody has asked for.
    fn talk_if_idle(&mut self, net: &mut Net) {
        let (Some(since), Some(after)) = (self.idle_since, self.endpoint.talks) else { return };
        if self.gone || self.talked || net.settled {
            return;
        }
        if net.now < since + after {
            return self.wake_at(net, since + after);
        }
        if net.room(self.link) < TALK.len() {
            // What it has answered is still on its way.
            return;
        }
        tell!(net, "{}: talks to nobody", net.name(self.link));
        self.talked = true;
        let link = &mut net.links[self.link];
        link.talk = Some(link.delivered + link.to_worker.bytes.len() as u64);
        net.write(self.link, TALK);
    }

    fn close_if_idle(&mut self, net: &mut Net) {
        let (Some(since), Some(after)) = (self.idle_since, self.endpoint.closes_idle) else { return };
        if self.gone || net.settled {
            return;
        }
        let mut at = since + after;
        if self.endpoint.closes_together {
            at = MOMENTS * (at.as_nanos().div_ceil(MOMENTS.as_nanos()) as u32);
        }
        if net.now >= at {
            tell!(net, "{}: closes its idle connection", net.name(self.link));
            self.leave(net);
        } else {
            self.wake_at(net, at);
        }
    }
}

/// Whether the client of an exchange sends what nobody can foresee.
fn is_garbled(scenario: &Scenario, exchange: u32) -> bool {
    scenario.client_fault_of(exchange) == Some(ClientFault::Garbage)
}

/// Whether the client of an exchange may end its way before all was sent.
fn ends_early(scenario: &Scenario, exchange: u32) -> bool {
    let fault = scenario.client_fault_of(exchange);
    matches!(fault, Some(ClientFault::Finishes | ClientFault::Closes | ClientFault::Garbage))
}

/// Everything that an origin sends for a request.
fn write_answer(exchange: u32, plan: &ExchangePlan) -> Vec<u8> {
    let answer = &plan.answer;
    let mut bytes = Vec::new();
    for _ in 0..answer.interims {
        bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nX-Hint: yes\r\n\r\n");
    }
    if let Some((_, down)) = plan.tunnel {
        bytes.extend_from_slice(SWITCH.as_bytes());
        bytes.extend_from_slice(&content(exchange, Way::Down, 0, down));
        return bytes;
    }
    let empty = plan.method == "HEAD" || matches!(answer.status, 204 | 304);
    let mut head = format!("HTTP/1.1 {} Simulated\r\nX-Id: {exchange}\r\n", answer.status);
    if answer.close || answer.framing == AnswerFraming::Close {
        head.push_str("Connection: close\r\n");
    }
    let body = content(exchange, Way::Down, 0, answer.bytes);
    let body = match answer.framing {
        AnswerFraming::Length => {
            if answer.status != 204 {
                head.push_str(&format!("Content-Length: {}\r\n", answer.bytes));
            }
            body
        }
        AnswerFraming::Chunked(size, trailers) => {
            if !empty {
                head.push_str("Transfer-Encoding: chunked\r\n");
            }
            chunked(&body, size, if trailers { "X-Trailer: yes\r\n" } else { "" })
        }
        AnswerFraming::Close => body,
    };
    head.push_str("\r\n");
    bytes.extend_from_slice(head.as_bytes());
    if !empty {
        bytes.extend_from_slice(&body);
    }
    bytes
}
