//! One connection of a peer as bytes, over TLS or not, read and written at the peer's pace. Not here: what the bytes are.

use std::time::Duration;

use rustls::Connection;

use crate::channel::Channel;
use crate::net::{LinkId, Net, Read};
use crate::random::Random;
use crate::scenario::Pace;

pub(crate) struct Wire {
    pub(crate) link: LinkId,
    pub(crate) channel: Channel,
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
        Self { link, channel: Channel::new(session), written: 0, next_write: Duration::ZERO, next_read: Duration::ZERO }
    }

    /// Queues content.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.channel.send(bytes);
    }

    /// Whether a handshake is under way.
    pub(crate) fn shakes_hands(&self) -> bool {
        self.channel.shakes_hands()
    }

    /// Says that nothing more is sent, and whatever is left.
    pub(crate) fn say_goodbye(&mut self, net: &mut Net) {
        self.channel.say_goodbye();
        net.write(self.link, &std::mem::take(&mut self.channel.unsent));
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
        let mut content = Vec::new();
        match self.channel.receive(&bytes, &mut content) {
            Ok(()) => Incoming::Bytes(content),
            Err(text) => Incoming::Broken(text),
        }
    }

    /// Writes what is queued, until so many bytes went out in all.
    pub(crate) fn write(&mut self, net: &mut Net, pace: Pace, random: &mut Random, until: usize) -> Written {
        loop {
            if self.written >= until {
                return Written::Enough;
            }
            if self.channel.unsent.is_empty() {
                return Written::All;
            }
            if net.now < self.next_write {
                return Written::Later(self.next_write);
            }
            let most = pace.chunk.min(self.channel.unsent.len()).min(until - self.written);
            let written = net.write(self.link, &self.channel.unsent[..most]);
            self.channel.unsent.drain(..written);
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
