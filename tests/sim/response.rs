//! Reads one response as a client does, and checks that it is that of its exchange, whole or visibly cut. Not here: sending.

use crate::carrier::{Section, value};
use crate::client::Surroundings;
use crate::content::{Chunks, Way, mismatch};
use crate::oracle::Outcome;
use crate::scenario::{AnswerFraming, ExchangePlan, OriginFault};

/// A response that is awaited or being read.
pub(crate) struct Response {
    pub(crate) exchange: u32,
    /// The request asks for the end of the connection, or for a tunnel: no other may follow.
    pub(crate) is_last: bool,
    /// The connection ends with it.
    pub(crate) closes: bool,
    head_only: bool,
    wants_tunnel: bool,
    is_http10: bool,
    state: State,
    status: u16,
    from_origin: bool,
    /// Bytes of content that came.
    received: usize,
    interims: usize,
    /// An origin has said it to nobody.
    is_talk: bool,
    /// A tunnel was opened and its way up has not begun.
    opened: bool,
    /// Of HTTP/2: the length that its head names.
    length: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    Chunked(Chunks),
    Close,
    /// It ends with its stream.
    Stream,
    Tunnel,
}

impl Response {
    pub(crate) fn new(exchange: u32, plan: &ExchangePlan) -> Self {
        Self {
            exchange,
            is_last: plan.close || plan.http10 || plan.tunnel.is_some(),
            closes: false,
            head_only: plan.method == "HEAD",
            wants_tunnel: plan.tunnel.is_some(),
            is_http10: plan.http10,
            state: State::Head,
            status: 0,
            from_origin: false,
            received: 0,
            interims: 0,
            is_talk: false,
            opened: false,
            length: None,
        }
    }

    /// Whether an interim response has come.
    pub(crate) fn continues(&self) -> bool {
        self.interims > 0
    }

    pub(crate) fn has_head(&self) -> bool {
        self.state != State::Head
    }

    pub(crate) fn wants_tunnel(&self) -> bool {
        self.wants_tunnel && (self.state == State::Head || self.state == State::Tunnel)
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.state == State::Tunnel
    }

    /// Whether a tunnel was opened. True once.
    pub(crate) fn opens_tunnel(&mut self) -> bool {
        std::mem::take(&mut self.opened)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::Complete { status: self.status, own: !self.from_origin }
    }

    /// Takes what belongs to the response off the front of `input`. Returns whether it is complete.
    pub(crate) fn read(&mut self, around: &mut Surroundings<'_>, input: &mut Vec<u8>) -> bool {
        loop {
            match self.state {
                State::Head => match self.read_head(input) {
                    Ok(true) => {
                        if let Err(text) = self.check_head(around) {
                            self.violate(around, &text);
                            return false;
                        }
                    }
                    Ok(false) => return false,
                    Err(text) => {
                        self.violate(around, &text);
                        return false;
                    }
                },
                State::Length(left) => {
                    let part: Vec<u8> = input.drain(..left.min(input.len())).collect();
                    self.state = State::Length(left - part.len());
                    self.take(around, &part);
                    return left == part.len() && self.check_whole(around);
                }
                State::Chunked(mut chunks) => {
                    let mut part = Vec::new();
                    let read = chunks.read(input, &mut part);
                    self.state = State::Chunked(chunks);
                    self.take(around, &part);
                    if let Err(text) = read {
                        self.violate(around, &text);
                    }
                    return chunks == Chunks::Done && self.check_whole(around);
                }
                State::Close | State::Stream | State::Tunnel => {
                    let part = std::mem::take(input);
                    self.take(around, &part);
                    return false;
                }
            }
        }
    }

    /// The connection has ended, with a reset or with FIN.
    pub(crate) fn end(&mut self, around: &mut Surroundings<'_>, reset: bool) -> Outcome {
        match self.state {
            State::Head => Outcome::Unanswered,
            State::Close if !reset => {
                self.check_whole(around);
                self.outcome()
            }
            State::Tunnel if !reset => {
                let (_, down) = around.scenario.exchanges[self.exchange as usize].tunnel.unwrap_or_default();
                if self.received < down { Outcome::Cut } else { self.outcome() }
            }
            _ => Outcome::Cut,
        }
    }

    /// Takes the head of a response of HTTP/2.
    pub(crate) fn take_head(&mut self, around: &mut Surroundings<'_>, fields: &Section) {
        if let Err(text) = self.read_section(fields).and_then(|()| self.check_head(around)) {
            self.violate(around, &text);
        }
    }

    fn read_section(&mut self, fields: &Section) -> Result<(), String> {
        let number = |name| value(fields, name).and_then(|value| std::str::from_utf8(value).ok()?.parse::<u32>().ok());
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"] {
            if value(fields, name).is_some() {
                return Err(format!("{name} in a response of HTTP/2"));
            }
        }
        let id = number("x-id");
        self.status = number(":status").ok_or("a head without a status")? as u16;
        self.is_talk = value(fields, "x-talk").is_some();
        self.from_origin = id.is_some();
        self.length = number("content-length").map(|length| length as usize);
        if id.is_some_and(|id| id != self.exchange) {
            return Err(format!("the answer to exchange {}", id.unwrap_or_default()));
        }
        self.state = match self.status {
            101 => return Err("status 101 over HTTP/2".to_owned()),
            100..=199 => State::Head,
            200 if self.wants_tunnel && id.is_none() => State::Tunnel,
            _ => State::Stream,
        };
        if self.state == State::Tunnel {
            (self.opened, self.from_origin) = (true, true);
        }
        Ok(())
    }

    /// Takes content of a stream.
    pub(crate) fn take_content(&mut self, around: &mut Surroundings<'_>, part: &[u8]) {
        self.take(around, part);
    }

    /// The stream has ended as it should.
    pub(crate) fn end_stream(&mut self, around: &mut Surroundings<'_>) -> Outcome {
        match self.state {
            State::Head => self.violate(around, "a stream ends before a response"),
            State::Tunnel => return self.end(around, false),
            _ => {
                self.check_whole(around);
                let wanted = self.length.filter(|_| !self.head_only && self.status != 304);
                if wanted.is_some_and(|length| length != self.received) {
                    self.violate(around, &format!("{} of {wanted:?} bytes came", self.received));
                }
            }
        }
        self.outcome()
    }

    /// Reads a head. Returns whether it was there.
    fn read_head(&mut self, input: &mut Vec<u8>) -> Result<bool, String> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(error) => {
                return Err(format!("{error}: {:?}", String::from_utf8_lossy(&input[..input.len().min(60)])));
            }
        };
        self.status = head.code.unwrap_or_default();
        let (mut size, mut coded, mut id) = (None, false, None);
        for field in head.headers.iter() {
            let value = String::from_utf8_lossy(field.value);
            match field.name.to_ascii_lowercase().as_str() {
                "content-length" if size.is_some() => return Err("two lengths".to_owned()),
                "content-length" => size = value.parse::<usize>().ok(),
                "transfer-encoding" => coded = value.eq_ignore_ascii_case("chunked"),
                "connection" => self.closes |= value.eq_ignore_ascii_case("close"),
                "x-talk" => self.is_talk = true,
                "x-id" => id = value.parse::<u32>().ok(),
                _ => {}
            }
        }
        if coded && size.is_some() {
            return Err("length and coding at once".to_owned());
        }
        self.from_origin = id.is_some();
        if id.is_some_and(|id| id != self.exchange) {
            return Err(format!("the answer to exchange {}", id.unwrap_or_default()));
        }
        input.drain(..length);
        self.choose_state(size, coded);
        Ok(true)
    }

    fn choose_state(&mut self, size: Option<usize>, coded: bool) {
        // A request that could not be read may not have been known as HEAD: what follows its refusal is anybody's guess.
        if self.head_only && !self.from_origin && self.closes {
            self.state = State::Close;
            return;
        }
        let empty = self.head_only || matches!(self.status, 204 | 304);
        self.state = match self.status {
            101 => State::Tunnel,
            100..=199 => State::Head,
            _ if empty => State::Length(0),
            _ if coded => State::Chunked(Chunks::default()),
            _ => size.map_or(State::Close, State::Length),
        };
        if self.status == 101 {
            (self.opened, self.from_origin) = (true, true);
        }
        self.closes |= self.state == State::Close || self.is_http10;
    }

    fn check_head(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        let plan = &around.scenario.exchanges[self.exchange as usize];
        if self.state == State::Head {
            self.interims += 1;
            return if self.is_http10 { Err("1xx for HTTP/1.0".to_owned()) } else { Ok(()) };
        }
        if self.state == State::Tunnel {
            around.oracle.exchanges[self.exchange as usize].opened = true;
            return if plan.tunnel.is_some() { Ok(()) } else { Err("a tunnel that nobody wants".to_owned()) };
        }
        around.oracle.heads += 1;
        if self.is_talk && !around.net.sent_over.contains_key(&self.exchange) {
            return Err("what an origin had said before it was asked".to_owned());
        }
        let begun = around.oracle.exchanges[self.exchange as usize].begun;
        if self.state != State::Stream && !self.closes && around.net.drains.is_some_and(|drains| drains < begun) {
            return Err("the connection is to be kept, though the worker drains".to_owned());
        }
        if self.from_origin && self.status != plan.answer.status {
            return Err(format!("status {} instead of {}", self.status, plan.answer.status));
        }
        Ok(())
    }

    /// Takes in content.
    fn take(&mut self, around: &mut Surroundings<'_>, part: &[u8]) {
        if self.from_origin
            && let Some(at) = mismatch(self.exchange, Way::Down, self.received, part)
        {
            self.violate(around, &format!("byte {} of the response is another's", self.received + at));
        }
        self.received += part.len();
    }

    /// What looks whole is whole.
    fn check_whole(&self, around: &mut Surroundings<'_>) -> bool {
        let plan = &around.scenario.exchanges[self.exchange as usize];
        let answer = &plan.answer;
        let empty = self.head_only || matches!(self.status, 204 | 304);
        // An origin that ends a response with its connection may end it anywhere.
        let open_end =
            answer.framing == AnswerFraming::Close && matches!(answer.fault, Some((_, OriginFault::Finishes)));
        let garbage = matches!(answer.fault, Some((_, OriginFault::Garbage)));
        if self.from_origin && !empty && self.received != answer.bytes && !open_end && !garbage {
            let text = format!("{} of {} bytes look whole", self.received, answer.bytes);
            self.violate(around, &text);
        }
        true
    }

    fn violate(&self, around: &mut Surroundings<'_>, text: &str) {
        // What an origin has garbled is nobody else's fault.
        let answer = &around.scenario.exchanges[self.exchange as usize].answer;
        if !matches!(answer.fault, Some((_, OriginFault::Garbage))) {
            around.net.violate(format!("response of exchange {}: {text}", self.exchange));
        }
    }
}
