//! TLS settings of connections to servers. Not here: the state of a connection, and the name of its server (`session`).

use std::sync::Arc;
use std::{fmt, io};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authorities::Authorities;
use super::demand::{Pin, SpiffeId};
use super::distrust::Distrust;
use super::identity::Identity;
use super::revocation::{self, RevocationList};
use super::server::provider;
use super::sessions::Sessions;
use super::tickets::first_end;

/// How certificates of servers are verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// The certificate has the name of the server, or one of the SPIFFE IDs, and a chain to one of these authorities; or it is itself
    /// one of theirs.
    Authorities(Authorities),
    /// Any certificate whose key the server has: the server is not authenticated.
    Anyone,
}

/// Settings of connections to servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientSpec {
    /// How servers are verified.
    pub trust: Trust,
    /// Keys of which the certificate has to be; empty: any. Only with authorities.
    pub pins: Arc<[Pin]>,
    /// SPIFFE IDs of which the certificate has to have one, whatever its name; empty: its name counts. Only with authorities.
    pub spiffe_ids: Arc<[SpiffeId]>,
    /// Lists of what is revoked; empty: none is looked at. Else a certificate counts only if a current one of its authority does not have
    /// it, and so for each that leads from it to one of the authorities.
    pub revocation: Arc<[RevocationList]>,
    /// Certificate for servers that ask for one.
    pub identity: Option<Identity>,
    /// Protocols that are offered by ALPN (RFC 7301), in order of preference.
    pub protocols: &'static [&'static [u8]],
    /// Whether the first group that is offered is a hybrid with a post-quantum one, which costs both sides more.
    pub post_quantum: bool,
    /// Most tickets kept per server for resumption; 0: no resumption.
    pub tickets: usize,
    /// The server is asked for by the name in Host of the request, where there is one, and has to have that.
    pub by_host: bool,
}

impl ClientSpec {
    /// HTTP/1.1 with servers that are trusted like this, without a certificate of its own and without resumption.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            pins: Arc::default(),
            spiffe_ids: Arc::default(),
            revocation: Arc::default(),
            identity: None,
            protocols: &[b"http/1.1"],
            post_quantum: true,
            tickets: 0,
            by_host: false,
        }
    }

    /// When the first revocation list is due to be replaced, in seconds since 1970: from then on it says nothing. None: there is none.
    #[must_use]
    pub fn revocation_end(&self) -> Option<u64> {
        revocation::first_end(&self.revocation)
    }

    /// Names of authorities without a revocation list, though there are some: no certificate that one of them has signed counts.
    pub fn unlisted(&self) -> impl Iterator<Item = String> {
        let authorities = match &self.trust {
            Trust::Authorities(authorities) => Some(authorities),
            Trust::Anyone => None,
        };
        authorities.into_iter().flat_map(|authorities| revocation::unlisted(authorities, &self.revocation))
    }
}

/// State that connections of one thread with the same settings share. Each thread has its own, because the tickets are behind a
/// lock.
pub struct Client {
    pub(super) config: Arc<ClientConfig>,
    spec: Arc<ClientSpec>,
}

impl Client {
    /// A client without tickets.
    #[must_use]
    pub fn new(spec: &ClientSpec) -> Self {
        Self::with_versions(spec, &[&TLS13, &TLS12])
    }

    /// # Panics
    /// Never: aws-lc has cipher suites for both versions.
    pub(super) fn with_versions(spec: &ClientSpec, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut provider = provider();
        if !spec.post_quantum {
            let groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
            provider = Arc::new(CryptoProvider { kx_groups: groups, ..CryptoProvider::clone(&provider) });
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.expect("aws-lc has cipher suites for both versions");
        let builder = match &spec.trust {
            Trust::Authorities(authorities) => {
                let verifier = AuthorityVerifier::new(authorities, spec, Arc::clone(&provider));
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            Trust::Anyone => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
            }
        };
        let mut config = match &spec.identity {
            Some(own) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.certified))))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = spec.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = resumption(spec);
        // `session` and `record` open and seal records by themselves.
        config.enable_secret_extraction = true;
        Self { config: Arc::new(config), spec: Arc::new(spec.clone()) }
    }

    /// When the first of its own certificates expires, in seconds since 1970: tickets stand for them, too.
    #[must_use]
    pub fn own_end(&self) -> u64 {
        let own = self.spec.identity.iter().flat_map(|own| &own.certified.cert).map(|certificate| &**certificate);
        first_end(own, UnixTime::now().as_secs()).unwrap_or(0)
    }

    /// A client with the same settings that shares no tickets with this one.
    #[must_use]
    pub fn apart(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = resumption(&self.spec);
        Self { config: Arc::new(config), spec: Arc::clone(&self.spec) }
    }

    /// Opens TLS on a stream of the control thread's, which is not a worker's: a check of an endpoint. Nothing is resumed.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &ServerName<'static>,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        TlsConnector::from(Arc::new(config)).connect(name.clone(), stream).await
    }

    /// Its settings.
    #[must_use]
    pub fn spec(&self) -> &ClientSpec {
        &self.spec
    }
}

fn resumption(spec: &ClientSpec) -> Resumption {
    match spec.tickets {
        0 => Resumption::disabled(),
        tickets => Resumption::store(Arc::new(Sessions::new(tickets))),
    }
}

/// Writes who is believed, and who the client says it is.
impl fmt::Display for ClientSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::Authorities(authorities) => write!(f, "trusts {authorities}")?,
            Trust::Anyone => f.write_str("insecure: takes any certificate")?,
        }
        if !self.pins.is_empty() {
            write!(f, " with the keys {:?}", self.pins)?;
        }
        for (id, nth) in self.spiffe_ids.iter().zip(0..) {
            write!(f, "{} {id}", if nth == 0 { " for" } else { " or" })?;
        }
        if self.by_host {
            f.write_str(" by the name in Host")?;
        }
        revocation::write(f, &self.revocation)?;
        self.identity.as_ref().map_or(Ok(()), |identity| write!(f, " as {identity}"))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Accepts certificates with a chain to an authority, and those of authorities themselves from a server that has their key: what
/// `openssl req -x509` makes is marked as one of an authority, and is believed if it was given as such.
#[derive(Debug)]
struct AuthorityVerifier {
    chains: Arc<WebPkiServerVerifier>,
    authorities: Arc<[CertificateDer<'static>]>,
    pins: Arc<[Pin]>,
    spiffe_ids: Arc<[SpiffeId]>,
}

impl AuthorityVerifier {
    /// # Panics
    /// Never: there is an authority, and the lists have been parsed.
    fn new(authorities: &Authorities, spec: &ClientSpec, provider: Arc<CryptoProvider>) -> Self {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&authorities.roots), provider);
        let lists = spec.revocation.iter().map(|list| list.der.clone());
        let chains = builder.with_crls(lists).enforce_revocation_expiration().build();
        let chains = chains.expect("there is an authority, and the lists have been parsed");
        Self {
            chains,
            authorities: Arc::clone(&authorities.certificates),
            pins: Arc::clone(&spec.pins),
            spiffe_ids: Arc::clone(&spec.spiffe_ids),
        }
    }

    /// Verifies the chain, and the name where no SPIFFE ID stands in its place.
    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let named = self.spiffe_ids.is_empty();
        let verified = self.chains.verify_server_cert(certificate, chain, name, staple, now).map(|_| ());
        // The name is looked at behind all else, so that all else is well where only the name is wrong.
        let other_name = |error: &rustls::Error| Distrust::of(error) == Some(Distrust::Name);
        let verified =
            if named { verified } else { verified.or_else(|e| if other_name(&e) { Ok(()) } else { Err(e) }) };
        let Err(error) = &verified else { return verified };
        // The time of a certificate is checked before its kind, so this one's is right.
        if Distrust::of(error) == Some(Distrust::Authority) && self.authorities.contains(certificate) {
            return if named { verify_server_name(&ParsedCertificate::try_from(certificate)?, name) } else { Ok(()) };
        }
        verified
    }
}

impl ServerCertVerifier for AuthorityVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify_chain(certificate, chain, name, staple, now)?;
        if !self.spiffe_ids.is_empty() && !SpiffeId::is_any_of(&self.spiffe_ids, certificate) {
            return Err(Distrust::SpiffeId.error());
        }
        if !self.pins.is_empty() && !self.pins.iter().any(|pin| pin.is_of(certificate)) {
            return Err(Distrust::Pin.error());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Accepts any certificate whose key the server has.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
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

#[cfg(test)]
mod tests;
