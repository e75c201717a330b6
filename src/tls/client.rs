//! What connections to servers of a kind need to speak TLS. Not here: a connection's state, and whose name a server has to have.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};

use super::authorities::Authorities;
use super::identity::Identity;
use super::server::provider;
use super::sessions::Sessions;

/// Which servers are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those whose name one of these authorities vouches for.
    Authorities(Authorities),
    /// Whoever has the key of the certificate that it shows, whatever stands in that: it may be anyone.
    Anyone,
}

/// How servers are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// Which of them are believed.
    pub trust: Trust,
    /// Shown to those that ask for a certificate.
    pub identity: Option<Identity>,
    /// Protocols that are offered (RFC 7301), the best first.
    pub protocols: &'static [&'static [u8]],
    /// The first key exchange that is offered also withstands quantum computers; it costs both sides more.
    pub post_quantum: bool,
    /// Tickets that are kept of each server to resume with; with 0, every handshake is a full one.
    pub tickets: usize,
}

/// What all connections of a kind that one thread makes share. Another thread needs its own, as the tickets are behind a lock.
pub struct Client {
    pub(super) config: Arc<ClientConfig>,
}

impl Client {
    /// One that has no tickets yet.
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
            Trust::Authorities(authorities) => builder.with_root_certificates(Arc::clone(&authorities.roots)),
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
        config.resumption = match spec.tickets {
            0 => Resumption::disabled(),
            tickets => Resumption::store(Arc::new(Sessions::new(tickets))),
        };
        // `session` and `record` open and seal records by themselves.
        config.enable_secret_extraction = true;
        Self { config: Arc::new(config) }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Takes any certificate whose key the server has.
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
