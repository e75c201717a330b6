//! TLS of clients, by rustls, with one certificate for all worlds. Everything about it has a size that no chance decides, so that a
//! world takes the same course whatever the keys are.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

struct Identity {
    /// Holds the files for as long as the process lives.
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
    client: Arc<ClientConfig>,
    /// The same, of clients that offer HTTP/2 alone.
    http2: Arc<ClientConfig>,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = rcgen::CertificateParams::new(vec!["sim".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&paths[0], certificate.pem()).expect("written");
    std::fs::write(&paths[1], key.serialize_pem()).expect("written");
    let [path, key] = paths;
    let client = config(certificate.der().clone());
    let mut http2 = client.clone();
    http2.alpn_protocols = vec![b"h2".to_vec()];
    Identity { _folder: folder, certificate: path, key, client: Arc::new(client), http2: Arc::new(http2) }
});

fn config(certificate: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("an authority");
    let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// A connection to a listener that speaks TLS.
pub(crate) fn client() -> ClientConnection {
    let name = ServerName::try_from("sim").expect("a name");
    ClientConnection::new(Arc::clone(&IDENTITY.client), name).expect("a connection")
}

/// The same, of a client that speaks HTTP/2.
pub(crate) fn http2_client() -> ClientConnection {
    let name = ServerName::try_from("sim").expect("a name");
    ClientConnection::new(Arc::clone(&IDENTITY.http2), name).expect("a connection")
}

/// What a listener needs, in TOML.
pub(crate) fn listener() -> String {
    let (certificate, key) = (IDENTITY.certificate.display(), IDENTITY.key.display());
    format!("tls.certificates = [{{ cert = \"{certificate}\", key = \"{key}\" }}]\n")
}
