//! One connection of a peer as bytes, over TLS or not, read and written at the peer's pace. Not here: what the bytes are.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use rustls::Connection;

use crate::net::{LinkId, Net, Read};
use crate::random::Random;
use crate::scenario::Pace;

pub(crate) struct Wire {
    pub(crate) link: LinkId,
    session: Option<Box<Connection>>,
    /// Bytes for the network.
    pub(crate) unsent: Vec<u8>,
    /// Bytes that went out.
    pub(crate) written: usize,
    pub(crate) next_write: Duration,
    next_read: Duration,
}

/// What comes.
#[derive(Debug)]
pub(crate) enum Incoming {
    Bytes(Vec<u8>),
    Nothing,
    /// It reads again at this time.
    Later(Duration),
    End,
    Reset,
    /// TLS has failed.
    Broken(String),
}

/// How far writing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    /// The network takes no more.
    Blocked,
    Later(Duration),
    /// As much as was asked for.
    Enough,
}

impl Wire {
    pub(crate) fn new(link: LinkId, session: Option<Connection>) -> Self {
        let mut wire = Self {
            link,
            session: session.map(Box::new),
            unsent: Vec::new(),
            written: 0,
            next_write: Duration::ZERO,
            next_read: Duration::ZERO,
        };
        wire.flush_session();
        wire
    }

    fn flush_session(&mut self) {
        if let Some(session) = &mut self.session {
            while session.wants_write() {
                let _ = session.write_tls(&mut self.unsent);
            }
        }
    }

    /// Queues content.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.session {
            Some(session) => {
                session.set_buffer_limit(None);
                let _ = session.writer().write_all(bytes);
                self.flush_session();
            }
            None => self.unsent.extend_from_slice(bytes),
        }
    }

    /// Whether a handshake is under way.
    pub(crate) fn shakes_hands(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Says that nothing more is sent, and whatever is left.
    pub(crate) fn say_goodbye(&mut self, net: &mut Net) {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            self.flush_session();
        }
        net.write(self.link, &std::mem::take(&mut self.unsent));
    }

    /// Reads once.
    pub(crate) fn read(&mut self, net: &mut Net, pace: Pace, random: &mut Random) -> Incoming {
        if net.now < self.next_read {
            return Incoming::Later(self.next_read);
        }
        let bytes = match net.read(self.link, pace.chunk.min(1 << 20)) {
            Read::Bytes(bytes) => bytes,
            Read::Nothing => return Incoming::Nothing,
            Read::End => return Incoming::End,
            Read::Reset => return Incoming::Reset,
        };
        if !pace.gap.is_zero() {
            self.next_read = net.now + random.time(pace.gap);
        }
        let Some(session) = &mut self.session else { return Incoming::Bytes(bytes) };
        let (mut rest, mut content) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let read = session.read_tls(&mut rest);
            let processed = session.process_new_packets();
            if read.is_err() || processed.is_err() {
                return Incoming::Broken(format!("{read:?}, {processed:?}"));
            }
            let _ = session.reader().read_to_end(&mut content);
            // Behind close_notify nothing is read.
            if matches!(read, Ok(0)) {
                break;
            }
        }
        self.flush_session();
        Incoming::Bytes(content)
    }

    /// Writes what is queued, until so many bytes went out in all.
    pub(crate) fn write(&mut self, net: &mut Net, pace: Pace, random: &mut Random, until: usize) -> Written {
        loop {
            if self.written >= until {
                return Written::Enough;
            }
            if self.unsent.is_empty() {
                return Written::All;
            }
            if net.now < self.next_write {
                return Written::Later(self.next_write);
            }
            let most = pace.chunk.min(self.unsent.len()).min(until - self.written);
            let written = net.write(self.link, &self.unsent[..most]);
            self.unsent.drain(..written);
            self.written += written;
            if written == 0 {
                return Written::Blocked;
            }
            if !pace.gap.is_zero() {
                self.next_write = net.now + random.time(pace.gap);
            }
        }
    }
}
