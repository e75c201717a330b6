//! TLS of the generator's connections: settings from arguments, and trial handshakes with hosts. Not here: the protocol
//! (`cairn::tls`).

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn::id::Owner;
pub(super) use cairn::tls::ServerName;
use cairn::tls::{Agreement, Authorities, BadCertificates, Client, ClientSpec, Distrust, Session, Trust};
use cairn::transport::Transport;
use cairn::uring::{Event, Ring, StartError};

use crate::args::TlsArguments;

/// How long a connection may take to send close_notify.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
/// Most tickets kept per server: as many as connections may need at a time.
const TICKETS: usize = 4096;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read certificates from {0}: {1}")]
    Ca(PathBuf, io::Error),
    #[error("cannot use {0}: {1}")]
    BadCa(PathBuf, BadCertificates),
    #[error(transparent)]
    Ring(#[from] StartError),
    #[error("no TLS with https://{0}: {1}")]
    Refused(String, io::Error),
    #[error("no TLS with https://{0}: {1}; {2}")]
    Distrusted(String, Distrust, String),
    #[error("https://{0} does not speak HTTP/2: it has not chosen h2 by ALPN")]
    Version(String),
}

/// Why a trial handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Distrusted(Distrust),
    #[error("no HTTP/2")]
    Version,
}

impl ProbeError {
    /// The complaint about the host `name`.
    pub(super) fn about(self, name: String, ca: Option<&Path>) -> TlsError {
        match self {
            Self::Broken(error) => TlsError::Refused(name, error),
            Self::Distrusted(why) => TlsError::Distrusted(name, why, cure(why, ca)),
            Self::Version => TlsError::Version(name),
        }
    }
}

/// What helps against `why`, with the authorities of `ca` or of the web.
fn cure(why: Distrust, ca: Option<&Path>) -> String {
    let help = match (why, ca) {
        (Distrust::Issuer, None) => "--ca FILE names its authority".to_owned(),
        (Distrust::Issuer, Some(ca)) => format!("{} does not hold its authority", ca.display()),
        (Distrust::Authority, None) => "--ca FILE with this very certificate believes it".to_owned(),
        (Distrust::Authority, Some(ca)) => format!(
            "{} does not hold this very certificate; `openssl req -x509` makes one of a server with \
             -addext basicConstraints=CA:FALSE",
            ca.display()
        ),
        (Distrust::Name, _) => "write the URL with a name that it has".to_owned(),
        (Distrust::Time, _) => "renew it, or set the clock".to_owned(),
        // Of these, only servers say the last three of their peers.
        (
            Distrust::Other
            | Distrust::Pin
            | Distrust::SpiffeId
            | Distrust::Revoked
            | Distrust::Revocation
            | Distrust::Missing,
            _,
        ) => {
            return "--insecure takes any certificate".to_owned();
        }
    };
    format!("{help}, --insecure takes any")
}

/// The client settings by arguments. Every server is offered the same key share, and no hybrid group, which only some servers would
/// negotiate.
pub(super) fn spec(arguments: &TlsArguments, http2: bool) -> Result<ClientSpec, TlsError> {
    let trust = match &arguments.ca {
        _ if arguments.insecure => Trust::Anyone,
        None => Trust::Authorities(Authorities::public()),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| TlsError::Ca(path.clone(), error))?;
            let authorities = Authorities::from_pem(&text).map_err(|why| TlsError::BadCa(path.clone(), why))?;
            Trust::Authorities(authorities)
        }
    };
    let tickets = if arguments.resume { TICKETS } else { 0 };
    let protocols: &[&[u8]] = if http2 { &[b"h2"] } else { &[b"http/1.1"] };
    Ok(ClientSpec { post_quantum: false, tickets, protocols, ..ClientSpec::new(trust) })
}

/// Performs trial handshakes with hosts, one after the other.
pub(super) struct Probe {
    ring: Ring,
    client: Client,
    /// Whether HTTP/2 has to be agreed on.
    http2: bool,
    /// File of the authorities; None: those of the web, or any.
    pub(super) ca: Option<PathBuf>,
}

impl Probe {
    pub(super) fn new(spec: &ClientSpec, http2: bool, ca: Option<PathBuf>) -> Result<Self, TlsError> {
        Ok(Self { ring: Ring::new()?, client: Client::new(&ClientSpec { tickets: 0, ..spec.clone() }), http2, ca })
    }

    /// Does one handshake and returns what was agreed on, or why there cannot be any.
    pub(super) fn check(
        &mut self,
        name: &ServerName<'static>,
        stream: TcpStream,
        patience: Duration,
    ) -> Result<String, ProbeError> {
        let session = Session::client(&self.client, name.clone());
        let socket = self.ring.add(stream.into(), Owner::Upstream(0));
        let mut transport = Transport::new(socket, Some(Box::new(session)));
        self.ring.set_deadline(socket, Some(patience));
        let agreed = self.shake_hands(&mut transport);
        transport.close_notify(&mut self.ring);
        self.ring.set_deadline(socket, Some(GOODBYE));
        // The handshake is complete, so an error does not matter.
        let _ = self.flush(&mut transport);
        transport.close(&mut self.ring, false);
        self.ring.submit_closes();
        let agreement = agreed?;
        if self.http2 && !agreement.http2 {
            return Err(ProbeError::Version);
        }
        Ok(agreement.to_string())
    }

    fn shake_hands(&mut self, transport: &mut Transport) -> Result<Agreement, ProbeError> {
        transport.begin(&mut self.ring).map_err(io::Error::other)?;
        loop {
            self.ring.turn_within(Duration::MAX)?;
            let mut outcome = Ok(None);
            // All of them: a turn wants those of the last one to have been taken.
            while let Some(event) = self.ring.next_event() {
                let noted = self.note(transport, event);
                if matches!(outcome, Ok(None)) {
                    outcome = noted;
                }
            }
            if let Some(agreement) = outcome? {
                return Ok(agreement);
            }
        }
    }

    fn note(&mut self, transport: &mut Transport, event: Event) -> Result<Option<Agreement>, ProbeError> {
        match event {
            Event::Received(_, bytes) => transport.receive(&mut self.ring, bytes).map_err(|error| {
                let session = transport.session();
                if let Some(why) = session.and_then(Session::distrust) {
                    return ProbeError::Distrusted(why);
                }
                let why = session.and_then(Session::why).map(ToString::to_string);
                io::Error::other(why.unwrap_or_else(|| error.to_string())).into()
            }),
            Event::Expired(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            Event::Ended(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Event::Failed(..) => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            _ => Ok(None),
        }
    }

    /// Waits until all is sent, or nothing more will be.
    fn flush(&mut self, transport: &mut Transport) -> io::Result<()> {
        let mut over = false;
        while !over && transport.unsent(&self.ring) > 0 {
            self.ring.turn_within(Duration::MAX)?;
            while let Some(event) = self.ring.next_event() {
                over |= matches!(event, Event::Expired(_) | Event::Failed(..));
                // Results for received bytes do not matter any more.
                let _ = self.note(transport, event);
            }
        }
        Ok(())
    }
}
