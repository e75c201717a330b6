//! TLS of the generator's connections, over the ring's buffers; the only importer of rustls. Not here: HTTP.

mod tickets;

use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn::buffer::{Lease, Queue};
use cairn::uring::{Ring, SocketId};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self as provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
pub(super) use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme};

use super::tally::Failure;
use crate::args::TlsArguments;
use tickets::Tickets;

/// How long a connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read certificates from {0}: {1}")]
    Ca(PathBuf, rustls::pki_types::pem::Error),
    #[error("{0} holds no certificate")]
    NoCa(PathBuf),
    #[error("a certificate in {0} cannot be used: {1}")]
    BadCa(PathBuf, rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    #[error("no TLS with https://{0}: {1}; --ca FILE names its authority, --insecure takes any certificate")]
    Refused(String, io::Error),
}

/// What all connections of a run or a thread share.
#[derive(Clone, Debug)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
    resume: bool,
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Session {
    connection: Box<ClientConnection>,
    /// The server has said that no more will come.
    closed: bool,
}

/// What received bytes have brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The handshake goes on, or has been over for long.
    Nothing,
    /// The handshake is over: requests may be sent.
    Agreed(Handshake),
    /// The server has said that no more will come.
    Closed,
}

/// What a handshake took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    Full,
    /// Full, and one round trip more: the server did not take the key share that was offered first.
    Retried,
    Resumed,
}

impl Client {
    pub(super) fn new(arguments: &TlsArguments) -> Result<Self, TlsError> {
        // By name, because the provider's own order follows a feature that any crate of a build may turn on: every server is
        // offered one and the same key share, and none pays for a hybrid exchange that another does not do.
        let groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        let provider = Arc::new(CryptoProvider { kx_groups: groups, ..provider::default_provider() });
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let mut config = if arguments.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(arguments)?).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), resume: arguments.resume })
    }

    /// One for a thread, which shares no sessions with others.
    pub(super) fn for_thread(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        if self.resume {
            config.resumption = Resumption::store(Arc::new(Tickets::default()));
        }
        Self { config: Arc::new(config), resume: self.resume }
    }

    /// Does one handshake and returns what was agreed on, or why there cannot be any.
    pub(super) fn check(
        &self,
        name: &ServerName<'static>,
        mut stream: TcpStream,
        patience: Duration,
    ) -> io::Result<String> {
        stream.set_read_timeout(Some(patience))?;
        let mut session = self.session(name).map_err(io::Error::other)?;
        while session.connection.is_handshaking() {
            session.connection.complete_io(&mut stream)?;
        }
        session.connection.send_close_notify();
        // It has served its purpose already.
        let _ = session.connection.complete_io(&mut stream);
        Ok(session.agreement())
    }

    pub(super) fn session(&self, name: &ServerName<'static>) -> Result<Session, rustls::Error> {
        let connection = ClientConnection::new(Arc::clone(&self.config), name.clone())?;
        Ok(Session { connection: Box::new(connection), closed: false })
    }
}

impl Session {
    /// Whether requests may not be sent yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Says that nothing more will come (RFC 8446 section 6.1). True: the connection is to be closed when all is sent, or when
    /// that takes too long.
    pub(super) fn say_goodbye(&mut self, ring: &mut Ring, socket: SocketId) -> bool {
        if self.connection.is_handshaking() {
            return false;
        }
        self.connection.send_close_notify();
        // For want of a buffer it ends without a word.
        let said = self.flush(ring, socket).is_ok() && ring.unsent(socket) > 0;
        ring.set_deadline(socket, Some(GOODBYE));
        said
    }

    /// Version, cipher suite and group, as their standards call them.
    fn agreement(&self) -> String {
        let version = self.connection.protocol_version().and_then(|version| version.as_str());
        let suite = self.connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let group = self.connection.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
        let version = version.map(|version| version.replace('_', "."));
        [version.as_deref(), suite, group].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Sends what the protocol wants to say.
    pub(super) fn flush(&mut self, ring: &mut Ring, socket: SocketId) -> Result<(), Failure> {
        while self.connection.wants_write() {
            let mut lease = ring.buffers.take().ok_or(Failure::Tls)?;
            self.connection.write_tls(&mut Out(&mut lease)).map_err(|_| Failure::Tls)?;
            ring.send(socket, lease);
        }
        Ok(())
    }

    /// Sends bytes of HTTP; not while it is handshaking.
    pub(super) fn send(&mut self, ring: &mut Ring, socket: SocketId, bytes: &[u8]) -> Result<(), Failure> {
        self.connection.writer().write_all(bytes).map_err(|_| Failure::Tls)?;
        self.flush(ring, socket)
    }

    /// Appends to `plain` what received bytes hold of HTTP, and answers the protocol.
    pub(super) fn receive(
        &mut self,
        ring: &mut Ring,
        socket: SocketId,
        bytes: &mut Queue,
        plain: &mut Queue,
    ) -> Result<Progress, Failure> {
        let before = self.connection.is_handshaking();
        let read = self.read(ring, bytes, plain);
        bytes.clear(ring.buffers.pieces());
        // Also after a failure: the server is told which.
        self.flush(ring, socket)?;
        read?;
        match self.closed {
            true => Ok(Progress::Closed),
            false if before && !self.connection.is_handshaking() => {
                Ok(Progress::Agreed(match self.connection.handshake_kind() {
                    Some(HandshakeKind::Resumed) => Handshake::Resumed,
                    Some(HandshakeKind::FullWithHelloRetryRequest) => Handshake::Retried,
                    Some(HandshakeKind::Full) | None => Handshake::Full,
                }))
            }
            false => Ok(Progress::Nothing),
        }
    }

    fn read(&mut self, ring: &mut Ring, bytes: &mut Queue, plain: &mut Queue) -> Result<(), Failure> {
        while let Some(lease) = bytes.pop(ring.buffers.pieces()) {
            let mut rest = lease.bytes();
            while !rest.is_empty() {
                self.connection.read_tls(&mut rest).map_err(|_| Failure::Tls)?;
                self.closed |= self.connection.process_new_packets().map_err(|_| Failure::Tls)?.peer_has_closed();
                self.take(ring, plain)?;
            }
        }
        Ok(())
    }

    /// Moves decrypted bytes to buffers.
    fn take(&mut self, ring: &mut Ring, plain: &mut Queue) -> Result<(), Failure> {
        let mut reader = self.connection.reader();
        // An error says only that there is nothing now, or that the connection ended without a word, which its owner notes.
        while let Ok(bytes) = reader.fill_buf()
            && !bytes.is_empty()
        {
            let mut lease = ring.buffers.take().ok_or(Failure::Tls)?;
            let count = lease.append(bytes);
            reader.consume(count);
            plain.push(ring.buffers.pieces(), lease);
        }
        Ok(())
    }
}

/// Writes to a lease as much as fits.
struct Out<'a>(&'a mut Lease);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.append(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The authorities that are believed.
fn roots(arguments: &TlsArguments) -> Result<RootCertStore, TlsError> {
    let Some(path) = &arguments.ca else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let unreadable = |error| TlsError::Ca(path.clone(), error);
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        store.add(certificate.map_err(unreadable)?).map_err(|error| TlsError::BadCa(path.clone(), error))?;
    }
    if store.is_empty() { Err(TlsError::NoCa(path.clone())) } else { Ok(store) }
}

/// Takes any certificate whose key the server has: `--insecure`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
