//! What a client writes and reads, made bytes of the network and back, over TLS or not. Not here: when and how many of them go (`wire`,
//! `client`).

use std::io::{Read as _, Write as _};

use rustls::Connection;

#[derive(Default)]
pub(crate) struct Channel {
    session: Option<Box<Connection>>,
    /// Bytes for the network.
    pub(crate) unsent: Vec<u8>,
}

impl Channel {
    /// One with nothing to send but what TLS begins with.
    pub(crate) fn new(session: Option<Connection>) -> Self {
        let mut channel = Self { session: session.map(Box::new), unsent: Vec::new() };
        channel.flush();
        channel
    }

    fn flush(&mut self) {
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
                self.flush();
            }
            None => self.unsent.extend_from_slice(bytes),
        }
    }

    /// Adds the content of bytes from the network to `content`.
    ///
    /// # Errors
    /// TLS has failed.
    pub(crate) fn receive(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> Result<(), String> {
        let Some(session) = &mut self.session else {
            content.extend_from_slice(bytes);
            return Ok(());
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let read = session.read_tls(&mut rest);
            let processed = session.process_new_packets();
            if read.is_err() || processed.is_err() {
                return Err(format!("{read:?}, {processed:?}"));
            }
            let _ = session.reader().read_to_end(content);
            // Behind close_notify nothing is read.
            if matches!(read, Ok(0)) {
                break;
            }
        }
        self.flush();
        Ok(())
    }

    /// Whether a handshake is under way.
    pub(crate) fn shakes_hands(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Whether the end of the connection would cut what the other side has sent: over TLS, that says when there is no more.
    pub(crate) fn is_open(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        !matches!(session.reader().read(&mut [0; 1]), Ok(0))
    }

    /// Queues that nothing more is sent. False: without TLS, only FIN says so.
    pub(crate) fn say_goodbye(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        session.send_close_notify();
        self.flush();
        true
    }
}
