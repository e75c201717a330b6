//! Certificates, keys and tickets in handshakes with a client of rustls, in memory.

use std::sync::LazyLock;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, SupportedProtocolVersion,
};

use super::*;
use crate::tls::{Authorities, BadCertificates, BadKey, Chain};

/// An authority, who signs for all.
static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(authority);
/// To make one takes long.
static RSA: LazyLock<String> = LazyLock::new(|| key(&PKCS_RSA_SHA256));

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn key(kind: &'static SignatureAlgorithm) -> String {
    KeyPair::generate_for(kind).unwrap().serialize_pem()
}

/// A certificate for these names, signed by [`AUTHORITY`].
fn certificate(names: &[&str], key: &str) -> String {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let key = KeyPair::from_pem(key).unwrap();
    CertificateParams::new(names).unwrap().signed_by(&key, &AUTHORITY).unwrap().pem()
}

fn identity_of(names: &[&str], key: &str) -> Identity {
    Identity::new(Chain::from_pem(&certificate(names, key)).unwrap(), key).unwrap()
}

fn identity(names: &[&str]) -> Identity {
    identity_of(names, &key(&PKCS_ECDSA_P256_SHA256))
}

fn spec(identities: &[Identity]) -> ServerSpec {
    ServerSpec::new(identities.into())
}

/// Each client needs a certificate of this authority.
fn asking(issuer: &CertifiedIssuer<'_, KeyPair>) -> ClientAuth {
    ClientAuth::new(Authorities::from_pem(&issuer.pem()).unwrap(), true, Vec::new())
}

fn server(spec: &ServerSpec) -> Server {
    Server::new(spec, Arc::new(Tickets::new()))
}

/// Base64 of DER under a label; rcgen writes PKCS #8 alone.
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for bytes in der.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(bytes.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            text.push(if at > bytes.len() { '=' } else { DIGITS[bits >> (18 - 6 * at) & 63].into() });
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn keys_of_every_kind_and_form_are_read() {
    let inner = |pkcs8: &str, header: usize| {
        PrivateKeyDer::from_pem_slice(pkcs8.as_bytes()).unwrap().secret_der()[header..].to_vec()
    };
    let p256 = key(&PKCS_ECDSA_P256_SHA256);
    let sec1 = pem("EC PRIVATE KEY", &inner(&p256, 29));
    let pkcs1 = pem("RSA PRIVATE KEY", &inner(&RSA, 26));
    for (name, pkcs8, key) in [
        ("P-256", &p256, &p256),
        ("P-384", &key(&PKCS_ECDSA_P384_SHA384), &String::new()),
        ("Ed25519", &key(&PKCS_ED25519), &String::new()),
        ("RSA", &RSA, &RSA),
        (
            "SEC 1",
            &p256,
            &format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}"),
        ),
        ("PKCS #1", &RSA, &pkcs1),
    ] {
        let chain = Chain::from_pem(&certificate(&["A.example", "*.b.example"], pkcs8)).unwrap();
        let found = Identity::new(chain, if key.is_empty() { pkcs8 } else { key });
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.names(), ["a.example", "*.b.example"], "{name}");
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let (own, other) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P256_SHA256));
    // With byte-order marks, as files of some editors, joined, have them.
    let marked = format!("\u{feff}{}\u{feff}{}", certificate(&["a.example"], &own), AUTHORITY.pem());
    let identity = Identity::new(Chain::from_pem(&marked).unwrap(), &format!("\u{feff}{own}")).unwrap();
    assert_eq!((identity.certified.cert.len(), identity.names()), (2, &["a.example".to_owned()][..]));
    let authorities = format!("\u{feff}{}\u{feff}{}", AUTHORITY.pem(), authority().pem());
    assert_eq!(Authorities::from_pem(&authorities).unwrap().to_string()[..13], *"2 authorities");
    // And with the ends of lines of another system.
    let [chain, key] = [&marked, &format!("\u{feff}{own}")].map(|text| text.replace('\n', "\r\n"));
    let identity = Identity::new(Chain::from_pem(&chain).unwrap(), &key).unwrap();
    assert_eq!(identity.certified.cert.len(), 2);
    let leaf = certificate(&["a.example"], &own);
    let judge = |chain: &str, key: &str| Identity::new(Chain::from_pem(chain).unwrap(), key).unwrap_err();
    let cut = own.replace("-----END PRIVATE KEY-----", "");
    assert_eq!(judge(&leaf, ""), BadKey::None);
    assert_eq!(judge(&leaf, &leaf), BadKey::None);
    assert_eq!(judge(&leaf, &own.replace("PRIVATE", "ENCRYPTED PRIVATE")), BadKey::Encrypted);
    assert_eq!(judge(&leaf, &own.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n")), BadKey::Encrypted);
    assert_eq!(judge(&leaf, &cut), BadKey::NotPem("a section has no end"));
    assert_eq!(judge(&leaf, &pem("PRIVATE KEY", b"no key")), BadKey::Unusable);
    assert_eq!(judge(&leaf, &other), BadKey::Other);
    assert_eq!(judge(&format!("{}{leaf}", AUTHORITY.pem()), &own), BadKey::NotFirst(2));
    let judge = |text: &str| Chain::from_pem(text).unwrap_err();
    assert_eq!(judge(&own), BadCertificates::None);
    assert_eq!(judge(&leaf.replace("\nMI", "\n!!")), BadCertificates::NotPem("a section is not base64"));
    let broken = pem("CERTIFICATE", b"no certificate");
    assert!(matches!(judge(&broken), BadCertificates::Unusable(1, _)));
    assert!(matches!(judge(&format!("{leaf}{broken}")), BadCertificates::Unusable(2, _)));
    assert_eq!(Authorities::from_pem(&own), Err(BadCertificates::None));
    assert!(matches!(Authorities::from_pem(&format!("{leaf}{broken}")), Err(BadCertificates::Unusable(2, _))));
    assert_eq!(Authorities::from_pem(&AUTHORITY.pem()).unwrap().to_string()[..11], *"1 authority");
}

#[test]
fn what_holds_the_same_is_the_same_and_keys_are_not_printed() {
    let own = key(&PKCS_ECDSA_P256_SHA256);
    let (pem, renewed) = (certificate(&["a.example"], &own), certificate(&["a.example"], &own));
    let read = |pem: &str| Identity::new(Chain::from_pem(pem).unwrap(), &own).unwrap();
    let ca = |issuer: &CertifiedIssuer<'_, KeyPair>| Some(asking(issuer));
    let base = ServerSpec { clients: ca(&AUTHORITY), ..spec(&[read(&pem)]) };
    assert_eq!(base, ServerSpec { clients: ca(&AUTHORITY), ..spec(&[read(&pem)]) });
    for other in [
        ServerSpec { clients: None, ..base.clone() },
        ServerSpec { clients: ca(&authority()), ..base.clone() },
        ServerSpec { identities: [read(&renewed)].into(), ..base.clone() },
        ServerSpec { identities: [read(&pem), read(&pem)].into(), ..base.clone() },
    ] {
        assert!(base != other && base.to_string() != other.to_string(), "{base} {other}");
    }
    let secret = PrivateKeyDer::from_pem_slice(own.as_bytes()).unwrap();
    let [first, second, ..] = secret.secret_der()[36..] else { panic!("a short key") };
    for printed in [format!("{base:?}"), format!("{:?}", server(&base))] {
        assert!(printed.contains("a.example") || printed.contains("1 names"), "{printed}");
        assert!(!printed.contains(&format!("{first}, {second}")), "{printed}");
    }
}

/// A client that trusts [`AUTHORITY`] and remembers tickets.
fn client(versions: &[&'static SupportedProtocolVersion], own: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&own.certified)))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What came of a handshake: the first certificate that the client got, unless it resumed.
type Shaken = Result<(HandshakeKind, Option<CertificateDer<'static>>), rustls::Error>;

/// Shakes hands and takes the tickets.
fn shake(server: &Server, client: &Arc<ClientConfig>, name: &str) -> Shaken {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&server.config)).unwrap();
    while client.wants_write() || server.wants_write() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut there).unwrap();
        }
        server.read_tls(&mut there.as_slice()).unwrap();
        server.process_new_packets()?;
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        client.read_tls(&mut back.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
    let kind = client.handshake_kind().unwrap();
    let certificate = client.peer_certificates().and_then(|chain| chain.first()).cloned();
    Ok((kind, certificate.filter(|_| kind != HandshakeKind::Resumed)))
}

fn kind(server: &Server, client: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    shake(server, client, "a.example").ok().map(|(kind, _)| kind)
}

const FULL: Option<HandshakeKind> = Some(HandshakeKind::Full);
const RESUMED: Option<HandshakeKind> = Some(HandshakeKind::Resumed);

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let identities = [identity(&["a.example"]), identity(&["*.a.example", "b.example"]), identity(&["x.a.example"])];
    let server = server(&spec(&identities));
    let cases = [("a.example", 0), ("A.EXAMPLE", 0), ("b.example", 1), ("y.a.example", 1), ("x.a.example", 2)];
    for (name, expected) in cases {
        let (_, certificate) = shake(&server, &client(&[&TLS13], None), name).unwrap();
        assert_eq!(certificate.as_ref(), identities[expected].certified.cert.first(), "{name}");
    }
    for name in ["z.y.a.example", "example", "127.0.0.1"] {
        let refused = shake(&server, &client(&[&TLS13], None), name).unwrap_err().to_string();
        assert!(refused.contains("a.example"), "{name} gets the first: {refused}");
    }
}

#[test]
fn tickets_are_good_for_the_listener_through_renewals_and_nowhere_else() {
    for version in [&TLS13, &TLS12] {
        let tickets = Arc::new(Tickets::new());
        let (first, renewed) = (spec(&[identity(&["a.example"])]), spec(&[identity(&["a.example"])]));
        let (before, after) = (Server::new(&first, Arc::clone(&tickets)), Server::new(&renewed, tickets));
        let client = client(&[version], None);
        let kinds = [&before, &before, &after].map(|server| kind(server, &client));
        assert_eq!(kinds, [FULL, RESUMED, RESUMED], "{version:?}");
        assert_eq!(kind(&server(&first), &client), FULL, "{version:?}");
    }
}

#[test]
fn with_client_ca_each_client_shows_a_certificate() {
    let open = spec(&[identity(&["a.example"])]);
    let closed = ServerSpec { clients: Some(asking(&AUTHORITY)), ..open.clone() };
    let foreign = ServerSpec { clients: Some(asking(&authority())), ..open.clone() };
    let (open, closed, foreign) = (server(&open), server(&closed), server(&foreign));
    let own = identity(&["client.example"]);
    for version in [&TLS13, &TLS12] {
        let (known, nobody) = (client(&[version], Some(&own)), client(&[version], None));
        assert_eq!([kind(&closed, &known), kind(&closed, &known)], [FULL, RESUMED], "{version:?}");
        assert_eq!(kind(&foreign, &known), None, "{version:?}");
        // CVE-2025-23419: tickets that prove nothing about a client.
        assert_eq!([kind(&open, &nobody), kind(&open, &nobody)], [FULL, RESUMED], "{version:?}");
        assert_eq!(kind(&closed, &nobody), None, "{version:?}");
    }
}

/// A ticket ends with the certificate that the client has shown, and with any that led from it to the authority.
#[test]
fn tickets_end_with_the_certificate_of_the_client() {
    const HOUR: u64 = 3600;
    let now = rustls::pki_types::UnixTime::now().as_secs();
    let until = |hours: u64| {
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now + hours * HOUR);
        params
    };
    let own = key(&PKCS_ECDSA_P256_SHA256);
    let pair = KeyPair::from_pem(&own).unwrap();
    let mut middle = until(1);
    middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &*AUTHORITY).unwrap();
    let direct = until(1).signed_by(&pair, &*AUTHORITY).unwrap().pem();
    let led = format!("{}{}", until(9).signed_by(&pair, &middle).unwrap().pem(), middle.pem());
    let lasting = until(9).signed_by(&pair, &*AUTHORITY).unwrap().pem();
    let closed = ServerSpec { clients: Some(asking(&AUTHORITY)), ..spec(&[identity(&["a.example"])]) };
    for (chain, ends) in [(direct, true), (led, true), (lasting, false)] {
        let shown = Identity::new(Chain::from_pem(&chain).unwrap(), &own).unwrap();
        for version in [&TLS13, &TLS12] {
            let tickets = Arc::new(Tickets::new());
            let (server, client) = (Server::new(&closed, Arc::clone(&tickets)), client(&[version], Some(&shown)));
            assert_eq!([(); 2].map(|()| kind(&server, &client)), [FULL, RESUMED], "{version:?}");
            tickets.ahead.store(HOUR + 2, std::sync::atomic::Ordering::Relaxed);
            // The verifier's clock is not ahead: what matters is that the certificate is asked for.
            assert_eq!(kind(&server, &client), if ends { FULL } else { RESUMED }, "{version:?} {ends}");
        }
    }
}
