//! TLS of one connection, as server or as client: first the handshake, then traffic. Not here: steps of the handshake
//! (`handshake`), records after it (`traffic`), state that connections share (`server`, `client`), time-outs.

use std::{error, mem};

use super::distrust::{Distrust, Reason};
use super::handshake::{Handshake, Next};
use super::traffic::{Traffic, append_contiguous};
use super::{Agreement, Client, ClientHandshake, Error, Server, ServerName, Wire, record};
use crate::buffer::{Buffers, Lease, Queue};
use crate::limits;

/// TLS state of one connection.
pub struct Session {
    state: State,
    /// An incomplete record. In the handshake it may follow records with an incomplete message.
    held: Option<Lease>,
    /// What `held` was before the peer has stopped in the middle of a message of its handshake: a few bytes would pin a buffer.
    aside: Box<[u8]>,
    /// Bytes of `held` that were shown to rustls, which needs them again.
    seen: usize,
    /// Whether the peer has sent anything.
    begun: bool,
    /// Whether the peer has sent close_notify.
    ended: bool,
    /// Whether we have sent close_notify, or an alert that ends the connection.
    finished: bool,
    /// What the client has shown; None before the end of the handshake, and for a server.
    client: Option<Box<ClientHandshake>>,
    /// When the first certificate of the server expires, seconds since 1970.
    server_end: u64,
    /// What a client sends before the end of its handshake, in plain text; None after the handshake, and for a server.
    waiting: Option<Queue>,
    /// What the peer has sent during the handshake and was not looked at yet.
    postponed: Queue,
}

#[allow(clippy::large_enum_variant, reason = "a session is boxed as a whole, and spends its life in the large variant")]
enum State {
    Handshake(Handshake),
    Traffic(Traffic),
    /// Broken, with the error of the handshake, if it broke there, or the alert of the peer. Everything received or to be sent is
    /// dropped.
    Over(Option<rustls::Error>),
}

impl Session {
    /// A session for an accepted connection.
    #[must_use]
    pub fn server(server: &Server) -> Self {
        Self::new(Handshake::server(server), None)
    }

    /// A session for a connection to the server `name`, which its certificate has to have. [`Session::begin`] has to follow.
    #[must_use]
    pub fn client(client: &Client, name: ServerName<'static>) -> Self {
        Self::new(Handshake::client(client, name), Some(Queue::default()))
    }

    fn new(handshake: Result<Handshake, rustls::Error>, waiting: Option<Queue>) -> Self {
        let state = handshake.map_or_else(|why| State::Over(Some(why)), State::Handshake);
        Self {
            state,
            held: None,
            aside: Box::default(),
            seen: 0,
            begun: false,
            ended: false,
            finished: false,
            client: None,
            server_end: u64::MAX,
            waiting,
            postponed: Queue::default(),
        }
    }

    /// Whether the handshake is under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// When the first certificate expires that the server has shown, in seconds since 1970: the end of what its tickets stand for.
    #[must_use]
    pub fn server_end(&self) -> u64 {
        self.server_end
    }

    /// What waits for the end of a client's handshake.
    #[must_use]
    pub fn waiting(&self) -> Option<&Queue> {
        self.waiting.as_ref()
    }

    /// Takes out what waits for the end of a client's handshake, even if that has failed. None: the handshake was completed, so that
    /// a part may have been sent.
    pub fn take_waiting(&mut self) -> Option<Queue> {
        self.waiting.take()
    }

    /// The error of the handshake, or the alert by which the peer has ended the connection, in more detail than [`Session::receive`] returns.
    #[must_use]
    pub fn why(&self) -> Option<&(impl error::Error + 'static)> {
        let State::Over(why) = &self.state else { return None };
        why.as_ref()
    }

    /// Why the peer's certificate was not believed, if that is why the handshake failed.
    #[must_use]
    pub fn distrust(&self) -> Option<Distrust> {
        let State::Over(why) = &self.state else { return None };
        why.as_ref().and_then(Distrust::of)
    }

    /// Why the session failed with `error`, in words, on one line.
    #[must_use]
    pub fn reason(&self, error: Error) -> Reason {
        let State::Over(why) = &self.state else { return Reason::new(error, None) };
        Reason::new(error, why.as_ref())
    }

    /// Sends the first message of a client's handshake. Does nothing for a server.
    ///
    /// # Errors
    /// No buffer is free, or the handshake could not be set up.
    pub fn begin(&mut self, wire: &mut Wire<'_>) -> Result<(), Error> {
        if let State::Over(_) = self.state {
            return Err(Error::Handshake);
        }
        let begun = self.advance(wire).map(|_| ());
        if let Err(error) = begun {
            self.fail(wire, error);
        }
        begun
    }

    /// What the client has shown; None before the end of the handshake, and on the side of the client.
    #[must_use]
    pub fn client_handshake(&self) -> Option<&ClientHandshake> {
        self.client.as_deref()
    }

    /// Whether the peer has sent anything. Health checks may connect without doing so.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the peer has sent close_notify (RFC 8446 section 6.1).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether an incomplete record or ticket has arrived.
    #[must_use]
    pub fn holds_part(&self) -> bool {
        !self.aside.is_empty() || self.parts().next().is_some()
    }

    /// The buffers that hold an incomplete record, message of the handshake, or ticket.
    pub fn parts(&self) -> impl Iterator<Item = &Lease> {
        let ticket = match &self.state {
            State::Traffic(traffic) => traffic.ticket(),
            State::Handshake(_) | State::Over(_) => None,
        };
        self.held.iter().chain(ticket)
    }

    /// Keeps what the peer has sent until there is time for its handshake: [`Session::receive`] goes on from there.
    pub fn postpone(&mut self, buffers: &mut Buffers, received: &mut Queue) {
        self.postponed.append(buffers.pieces(), received);
    }

    /// What was kept so.
    #[must_use]
    pub fn postponed(&self) -> &Queue {
        &self.postponed
    }

    /// Drops what was kept so.
    pub fn drop_postponed(&mut self, buffers: &mut Buffers) {
        self.postponed.clear(buffers.pieces());
    }

    /// Whether the key has sealed so many records that the connection must soon end: TLS 1.2 has no key updates.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        let State::Traffic(traffic) = &self.state else { return false };
        traffic.is_worn()
    }

    /// Processes received bytes, sends what the protocol requires, and appends the content to `plain`. Returns the result of the
    /// handshake once.
    ///
    /// # Errors
    /// The peer breaks the protocol. An alert is sent; after that, nothing is read or sent.
    pub fn receive(
        &mut self,
        wire: &mut Wire<'_>,
        received: &mut Queue,
        plain: &mut Queue,
    ) -> Result<Option<Agreement>, Error> {
        self.begun = true;
        if !self.postponed.is_empty() {
            self.postponed.append(wire.buffers.pieces(), received);
            mem::swap(&mut self.postponed, received);
        }
        if self.ended {
            received.clear(wire.buffers.pieces());
        }
        let mut outcome = Ok(None);
        if self.is_handshaking() {
            outcome = self.bring_back(wire.buffers).and_then(|()| self.shake_hands(wire, received));
        }
        if let Ok(Some(_)) = outcome
            && let Some(mut waiting) = self.waiting.take()
            && let Err(error) = self.send(wire, &mut waiting)
        {
            outcome = Err(error);
        }
        if let (Ok(_), false, State::Traffic(traffic)) = (&outcome, self.ended, &mut self.state) {
            let opened = traffic.open(wire, &mut self.held, received, plain);
            match opened {
                Ok(ended) => self.ended |= ended,
                Err(error) => outcome = Err(error),
            }
        }
        if let Err(error) = outcome {
            self.fail(wire, error);
        }
        if self.ended || outcome.is_err() {
            self.held = None;
        }
        received.clear(wire.buffers.pieces());
        self.put_aside();
        outcome
    }

    /// Seals and queues all of `out`; drops it if the connection is broken. Before the end of a client's handshake, it waits.
    ///
    /// # Errors
    /// No buffer is free, or the key has reached its limit.
    pub fn send(&mut self, wire: &mut Wire<'_>, out: &mut Queue) -> Result<(), Error> {
        if let Some(waiting) = &mut self.waiting {
            waiting.append(wire.buffers.pieces(), out);
            return Ok(());
        }
        let State::Traffic(traffic) = &mut self.state else {
            out.clear(wire.buffers.pieces());
            return Ok(());
        };
        let sent = traffic.send(wire, out);
        if sent.is_err() {
            out.clear(wire.buffers.pieces());
            self.state = State::Over(None);
        }
        sent
    }

    /// Sends close_notify, unless it was sent, so that the peer can tell the end from a truncation. Returns whether it was sent
    /// now.
    pub fn finish(&mut self, wire: &mut Wire<'_>) -> bool {
        if mem::replace(&mut self.finished, true) {
            return false;
        }
        let State::Traffic(traffic) = &mut self.state else { return false };
        traffic.finish(wire).is_ok()
    }

    /// Sets the limit of the key to `count` further records.
    #[cfg(test)]
    pub(super) fn limit_after(&mut self, count: u64) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.limit_after(count);
        }
    }

    /// Sends a record with any content.
    #[cfg(test)]
    pub(super) fn send_record(&mut self, wire: &mut Wire<'_>, kind: rustls::ContentType, content: &[u8]) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.send_record(wire, kind, content).expect("a free buffer");
        }
    }

    /// Shows rustls one record after the other until the handshake is complete, and none after that: content and key updates right
    /// behind the last message are for `traffic`, and records that rustls made in reply would never be sent.
    fn shake_hands(&mut self, wire: &mut Wire<'_>, received: &mut Queue) -> Result<Option<Agreement>, Error> {
        while self.hold_record(wire.buffers, received)? {
            if !self.advance(wire)? {
                continue;
            }
            let State::Handshake(mut handshake) = mem::replace(&mut self.state, State::Over(None)) else { break };
            self.client = handshake.client_handshake();
            self.server_end = handshake.server_end();
            let (traffic, agreement) = Traffic::after(handshake).map_err(|_| Error::Handshake)?;
            self.state = State::Traffic(traffic);
            return Ok(Some(agreement));
        }
        Ok(None)
    }

    /// Moves received bytes to `held` until that ends with a whole record. Returns whether it does.
    fn hold_record(&mut self, buffers: &mut Buffers, received: &mut Queue) -> Result<bool, Error> {
        loop {
            let part = self.held.as_ref().map_or(&[][..], |held| &held.bytes()[self.seen..]);
            let missing = record::length(part).saturating_sub(part.len());
            if missing == 0 {
                return Ok(true);
            }
            let Some(mut next) = received.pop(buffers.pieces()) else { return Ok(false) };
            if self.held.is_none() && self.is_server() && next.bytes().first().is_some_and(u8::is_ascii_uppercase) {
                return Err(Error::PlainText);
            }
            let count = if part.is_empty() { record::length(next.bytes()) } else { missing };
            let taken = next.split_to(count);
            received.push_front(buffers.pieces(), next);
            self.hold(buffers, taken)?;
        }
    }

    /// Moves the part of a message with which the peer has stopped in the middle of its handshake to memory of its own, if it is small: the
    /// peer has proved nothing yet, and may be one of many that go no further.
    fn put_aside(&mut self) {
        if self.is_handshaking()
            && let Some(held) = self.held.take_if(|held| held.len() <= limits::HANDSHAKE_PART_BYTES)
        {
            // tidy: start-up
            self.aside = held.bytes().into();
        }
    }

    /// Moves that part back to a buffer, because more of it has come.
    fn bring_back(&mut self, buffers: &Buffers) -> Result<(), Error> {
        let aside = mem::take(&mut self.aside);
        if !aside.is_empty() {
            let mut held = buffers.take().ok_or(Error::Buffers)?;
            if held.append(&aside) < aside.len() {
                return Err(Error::TooLong);
            }
            self.held = Some(held);
        }
        Ok(())
    }

    /// Appends to `held`: rustls reads contiguous bytes.
    fn hold(&mut self, buffers: &mut Buffers, next: Lease) -> Result<(), Error> {
        let Some(held) = &mut self.held else {
            self.held = Some(next);
            return Ok(());
        };
        append_contiguous(buffers, held, next.bytes())
    }

    /// Lets rustls read `held`, and sends its records. True: the handshake is complete.
    fn advance(&mut self, wire: &mut Wire<'_>) -> Result<bool, Error> {
        let State::Handshake(handshake) = &mut self.state else { return Ok(false) };
        let mut flight = None;
        let next = loop {
            let held = self.held.as_mut().map_or(&mut [][..], Lease::bytes_mut);
            let (discard, next) = handshake.step(held, &mut flight, wire);
            if let Some(mut held) = self.held.take() {
                held.advance(discard);
                self.held = Some(held).filter(|held| !held.is_empty());
            }
            match next? {
                Next::Again => {}
                Next::Ended => self.ended = true,
                next => break next,
            }
        };
        self.seen = self.held.as_ref().map_or(0, Lease::len);
        if !matches!(next, Next::Done) || handshake.is_under_way() {
            return if self.ended { Err(Error::Refused) } else { Ok(false) };
        }
        // No message may span a key change (RFC 8446 section 5.1); rustls checks that.
        self.seen = 0;
        if self.held.is_some() { Err(Error::Unexpected) } else { Ok(true) }
    }

    /// Breaks the session. Sends an alert, if possible.
    fn fail(&mut self, wire: &mut Wire<'_>, error: Error) {
        self.finished = true;
        self.state = match mem::replace(&mut self.state, State::Over(None)) {
            State::Handshake(mut handshake) => {
                // Sends only what rustls has queued: it must not be shown bytes again. Nothing, if a record was lost for want of a
                // buffer: what follows it makes no sense.
                let mut flight = None;
                let mut goes_on = error != Error::Buffers;
                while goes_on && handshake.wants_write() {
                    goes_on = handshake.step(&mut [], &mut flight, wire).1.is_ok();
                }
                if let Some(lease) = flight {
                    wire.send(lease);
                }
                State::Over(handshake.into_why())
            }
            State::Traffic(mut traffic) => {
                if let Some(alert) = error.alert() {
                    // If no buffer is free, the peer gets no alert.
                    let _ = traffic.alert(wire, alert);
                }
                State::Over(traffic.refusal().map(rustls::Error::AlertReceived))
            }
            State::Over(why) => State::Over(why),
        };
    }

    fn is_server(&self) -> bool {
        matches!(&self.state, State::Handshake(handshake) if handshake.is_server())
    }
}
