//! The response of an exchange: its heads, its body, and whether the downstream can take more. Not here: what is written to the client
//! (`downstream`).

use super::{Engine, Failure, Stage, State};
use crate::buffer::{Lease, Queue};
use crate::cluster::Outcome;
use crate::forward::{BodyEnd, Chunking};
use crate::http::{self, FieldName, Method};
use crate::limits;
use crate::upstream::{End, HeadError};
use crate::uring::Driver;

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// Bytes that begin with the head; bytes of the body may follow.
    pub lease: Lease,
    /// Length of the head, bytes.
    pub length: usize,
    /// The kind of the response.
    pub kind: HeadKind,
}

/// The kind of a response, by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// An interim response (RFC 9110 section 15.2); another head follows.
    Interim,
    /// A final response.
    Final,
    /// A tunnel: 101, or 2xx to CONNECT.
    Tunnel,
}

impl<D: Driver> Engine<D> {
    /// The next response head; None: it has not arrived. [`Engine::response`] holds its fields.
    ///
    /// # Errors
    /// When there will be no response. The caller then closes the exchange.
    pub fn response_head(&mut self, id: u32) -> Result<Option<Head>, Failure> {
        let exchange = &self.exchanges[id as usize];
        if exchange.wait().is_some() {
            return Ok(None);
        }
        if exchange.second.is_some() && self.race(id) {
            return Ok(None);
        }
        let exchange = &self.exchanges[id as usize];
        let index = exchange.connection()?;
        match self.upstreams.read_head(&mut self.ring, index, exchange.method, &exchange.offer, &mut self.response) {
            Err(HeadError::Invalid(error)) => {
                if let Some(attempt) = exchange.attempt() {
                    self.observe(id, attempt.endpoint, Outcome::Failed);
                }
                Err(Failure::Response(error))
            }
            Err(HeadError::Exhausted) => Err(Failure::Buffers),
            Ok(None) => match self.upstreams.get(index).and_then(|connection| connection.end) {
                Some(end) => self.recover(id, end).map(|()| None),
                None => Ok(None),
            },
            Ok(Some((lease, length))) => {
                if self.response.status >= 200 {
                    if self.exchanges[id as usize].hedging.is_some() {
                        self.measure_route(id);
                    }
                    self.observe_status(id, &lease.bytes()[..length]);
                    if self.retries_status(id, &lease.bytes()[..length]) {
                        return self.exchanges[id as usize].failure().map_or(Ok(None), Err);
                    }
                }
                let kind = self.classify_head(id, &lease.bytes()[..length])?;
                Ok(Some(Head { lease, length, kind }))
            }
        }
    }

    /// Classifies a response head, or refuses it.
    fn classify_head(&mut self, id: u32, head: &[u8]) -> Result<HeadKind, Failure> {
        let exchange = &mut self.exchanges[id as usize];
        let status = self.response.status;
        let tunnel = match status {
            101 => {
                let chosen = self.response.upgrade.map(|protocol| protocol.of(head));
                if !chosen.is_some_and(|protocol| exchange.offer.contains(protocol)) || !exchange.request_done {
                    return Err(Failure::Switch);
                }
                let accepts = self.response.fields.named(head, b"sec-websocket-accept").next();
                let accept = accepts.map_or(&b""[..], |field| field.value.of(head));
                if exchange.offer.key.is_some_and(|key| !key.is_answered_by(accept)) {
                    return Err(Failure::Switch);
                }
                true
            }
            100..=199 => {
                exchange.interims += 1;
                let flood = exchange.interims > limits::INTERIM_RESPONSES;
                return if flood { Err(Failure::InterimFlood) } else { Ok(HeadKind::Interim) };
            }
            _ => exchange.method == Method::Connect && (200..300).contains(&status),
        };
        // A request is never sent again once a response has begun to go to the client.
        exchange.replay.begin(&mut self.ring.buffers, false);
        exchange.binds |=
            status == 401 && http::binds_connection(head, &self.response.fields, FieldName::WwwAuthenticate);
        if let State::Attempt(attempt) = &mut exchange.state {
            attempt.stage = if tunnel { Stage::Tunnel } else { Stage::Body };
            let time = self.ring.clock().now().saturating_sub(exchange.asked);
            exchange.forwarding.first_byte = Some(time);
            self.upstreams.pool().cells(attempt.endpoint).respond(time);
            if std::mem::take(&mut attempt.owes) {
                self.balancer.settle(attempt.endpoint);
            }
        }
        Ok(if tunnel { HeadKind::Tunnel } else { HeadKind::Final })
    }

    /// Puts back the bytes that followed a head, to be read as body.
    pub fn put_back(&mut self, id: u32, lease: Lease) {
        if let Ok(index) = self.exchanges[id as usize].connection() {
            self.upstreams.put_back(&mut self.ring, index, lease);
        }
    }

    /// Moves the received part of the response body to `out`. Some: the body is complete; the fields of a trailer section are in
    /// [`Engine::trailers`] until another body is read.
    ///
    /// # Errors
    /// When the body breaks its framing, or ends too early.
    pub fn response_body(&mut self, id: u32, out: &mut Queue, chunking: Chunking) -> Result<Option<BodyEnd>, Failure> {
        let exchange = &self.exchanges[id as usize];
        let index = exchange.connection()?;
        if exchange.stage() == Stage::Tunnel {
            return match self.upstreams.read_raw(&mut self.ring, index, out) {
                None => Ok(None),
                Some(End::Closed) => Ok(Some(BodyEnd::Plain)),
                Some(_) => Err(Failure::Reset),
            };
        }
        let read = self.upstreams.read_body(&mut self.ring, index, out, chunking, &mut self.trailers);
        let end = read.map_err(|_| Failure::ResponseBody)?;
        if end.is_none() && self.upstreams.get(index).is_none_or(|connection| connection.end.is_some()) {
            return Err(Failure::ResponseBody);
        }
        if let Some(end) = end.as_ref().filter(|_| self.exchanges[id as usize].judged_by_trailers) {
            self.observe_trailers(id, end);
        }
        Ok(end)
    }

    /// Stops or resumes receiving the response, because the downstream is slower than the origin.
    pub fn pause_response(&mut self, id: u32, paused: bool) {
        let exchange = &self.exchanges[id as usize];
        let Ok(index) = exchange.connection() else { return };
        if let Some(second) = exchange.second.as_ref().filter(|second| second.held.is_none()) {
            self.upstreams.set_paused(&mut self.ring, second.attempt.connection, paused);
        }
        let was = self.upstreams.get(index).is_some_and(|connection| connection.transport.is_paused());
        if was != paused {
            self.upstreams.set_paused(&mut self.ring, index, paused);
            self.arm(id);
        }
    }
}
