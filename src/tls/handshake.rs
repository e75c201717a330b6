//! A handshake by rustls, as server or as client, step by step, with its result. Not here: buffering received records (`session`),
//! records after the handshake (`traffic`).

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::UnixTime;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{CommonState, ExtractedSecrets, HandshakeKind, ProtocolVersion};

use super::keys::Keys;
use super::peer::ForwardClientCert;
use super::resolver::Asked;
use super::secrets::{self, TrafficSecret};
use super::tickets::first_end;
use super::{Agreement, Client, ClientHandshake, Error, Server, ServerName, Wire, peer, resolver};
use crate::buffer::Lease;

/// One handshake.
pub(super) struct Handshake {
    side: Side,
    /// The first error.
    why: Option<rustls::Error>,
    /// What the client has asked for.
    asked: Asked,
    /// As the server: what later keys are made of, of the client's direction and of ours; None before, and of TLS 1.2.
    secrets: Option<[TrafficSecret; 2]>,
    /// How an application is told of the client's certificate.
    forward: ForwardClientCert,
}

/// rustls's connection, boxed because it is large and short-lived.
enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What has to happen after a step.
pub(super) enum Next {
    /// Another step.
    Again,
    /// The peer has sent close_notify.
    Ended,
    /// More bytes have to be received.
    Blocked,
    /// Nothing: the handshake may be complete.
    Done,
}

impl Handshake {
    /// A handshake with a client.
    ///
    /// # Errors
    /// The configuration is invalid, which [`Server`] rules out.
    pub(super) fn server(server: &Server) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&server.config))?;
        let side = Side::Server(Box::new(connection));
        Ok(Self { side, why: None, asked: Asked::default(), secrets: None, forward: server.forward })
    }

    /// A handshake with the server `name`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn client(client: &Client, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&client.config), name)?;
        let side = Side::Client(Box::new(connection));
        let forward = ForwardClientCert::default();
        Ok(Self { side, why: None, asked: Asked::default(), secrets: None, forward })
    }

    /// Whether the peer is a client.
    pub(super) fn is_server(&self) -> bool {
        matches!(self.side, Side::Server(_))
    }

    /// Whether the handshake is not complete.
    pub(super) fn is_under_way(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Whether rustls has records to send.
    pub(super) fn wants_write(&self) -> bool {
        self.common().wants_write()
    }

    /// The error with which it failed.
    pub(super) fn into_why(self) -> Option<rustls::Error> {
        self.why
    }

    /// Performs one step. Returns the bytes of `held` that are used up, and what has to happen next.
    pub(super) fn step(
        &mut self,
        held: &mut [u8],
        flight: &mut Option<Lease>,
        wire: &mut Wire<'_>,
    ) -> (usize, Result<Next, Error>) {
        match &mut self.side {
            Side::Server(connection) => {
                let step = on_status(connection.process_tls_records(held), flight, wire, &mut self.why);
                if let Some(asked) = resolver::take_asked() {
                    self.asked = asked;
                }
                if let [Some(client), Some(server)] = secrets::take_told() {
                    self.secrets = Some([client, server]);
                }
                step
            }
            Side::Client(connection) => on_status(connection.process_tls_records(held), flight, wire, &mut self.why),
        }
    }

    /// What the client has shown; None: the peer is a server.
    pub(super) fn client_handshake(&mut self) -> Option<Box<ClientHandshake>> {
        let Side::Server(connection) = &self.side else { return None };
        let mut shown = ClientHandshake {
            tls13: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            sni: std::mem::take(&mut self.asked.name),
            ..ClientHandshake::default()
        };
        if let Some(certificate) = connection.peer_certificates().and_then(|chain| chain.first()) {
            let own = self.asked.certified.as_ref().and_then(|own| own.cert.first());
            peer::read(&mut shown, certificate, own, self.forward);
        }
        Some(Box::new(shown))
    }

    /// When the first certificate expires that the server has shown and that counts, in seconds since 1970; 0 if one cannot be read.
    pub(super) fn server_end(&self) -> u64 {
        let Side::Client(connection) = &self.side else { return u64::MAX };
        let chain = connection.peer_certificates().unwrap_or_default();
        first_end(chain.iter().map(|certificate| &**certificate), UnixTime::now().as_secs()).unwrap_or(0)
    }

    /// The result: secrets of both directions, the state that derives further ones, and what was negotiated.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub(super) fn finish(self) -> Result<(ExtractedSecrets, Keys, Agreement), rustls::Error> {
        let common = self.common();
        let kind = common.handshake_kind();
        let agreement = Agreement {
            tls13: common.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            resumed: kind == Some(HandshakeKind::Resumed),
            retried: kind == Some(HandshakeKind::FullWithHelloRetryRequest),
            http2: common.alpn_protocol() == Some(b"h2"),
            suite: common.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
            group: common.negotiated_key_exchange_group().and_then(|group| group.name().as_str()),
        };
        let suite = common.negotiated_cipher_suite().ok_or(rustls::Error::HandshakeNotComplete)?;
        let (secrets, keys) = match self.side {
            Side::Server(connection) => {
                (connection.dangerous_into_kernel_connection()?.0, Keys::Server { suite, secrets: self.secrets })
            }
            Side::Client(connection) => {
                let (secrets, keys) = connection.dangerous_into_kernel_connection()?;
                (secrets, Keys::Client(Box::new(keys)))
            }
        };
        Ok((secrets, keys, agreement))
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }
}

/// Does what rustls requests in a step.
fn on_status<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    flight: &mut Option<Lease>,
    wire: &mut Wire<'_>,
    why: &mut Option<rustls::Error>,
) -> (usize, Result<Next, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            append_to_flight(wire, flight, |room| data.encode(room).ok()).map(|()| Next::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            if let Some(lease) = flight.take() {
                wire.send(lease);
            }
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
        Ok(ConnectionState::PeerClosed) => Ok(Next::Ended),
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Blocked),
        Ok(_) => Err(Error::Handshake),
        Err(error) => {
            let class = error_of(&error);
            why.get_or_insert(error);
            Err(class)
        }
    };
    (discard, next)
}

fn error_of(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) => Error::Certificate,
        rustls::Error::AlertReceived(_) => Error::Refused,
        _ => Error::Handshake,
    }
}

/// Appends a message of ours to the flight. If there is no room, sends the flight and begins another.
fn append_to_flight(
    wire: &mut Wire<'_>,
    flight: &mut Option<Lease>,
    mut write: impl FnMut(&mut [u8]) -> Option<usize>,
) -> Result<(), Error> {
    for _ in 0..2 {
        let mut lease = flight.take().or_else(|| wire.buffers.take()).ok_or(Error::Buffers)?;
        let mut written = None;
        lease.fill(|room| {
            written = write(room);
            written.unwrap_or(0)
        });
        if written.is_some() {
            *flight = Some(lease);
            return Ok(());
        }
        wire.send(lease);
    }
    // A record fits an empty buffer (`limits`).
    Err(Error::Buffers)
}
