//! `[listener.tls]` to [`ServerSpec`] and `[cluster.tls]` to [`ClientSpec`], with the content of their files. Not here: PEM (`tls`).

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use super::cluster_tables::SYSTEM;
use super::external::External;
use super::report::{Problem, Problems, SourceSpan};
use super::section::{Section, Text};
use crate::limits;
use crate::tls::{
    Authorities, BadCertificates, BadKey, BadOcsp, BadRevocationLists, Chain, ClientAuth, ClientSpec,
    ForwardClientCert, Identity, Pin, RevocationList, ServerName, ServerSpec, SpiffeId, Trust,
};

/// The value of `server_name` for which requests say what the name is.
const HOST: &str = "host";

/// The TLS settings of a listener; None: it has no TLS.
pub(super) fn server(listener: Section<'_>, external: &mut External, problems: &mut Problems) -> Option<ServerSpec> {
    if !listener.has("tls") {
        return None;
    }
    let section = listener.one("tls");
    if section.length("certificates") == Some(0) {
        problems
            .add(section.span("certificates"), "the listener has no certificate")
            .help("write at least one: certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }]");
    }
    let mut reader = Reader { directory: section.directory(), external, problems };
    let identities = section.many("certificates").into_iter().filter_map(|pair| reader.stapled(pair)).collect();
    let clients = reader.clients(section);
    let forward = ForwardClientCert::of(section.word("forward_client_cert"));
    let permissive = section.word("mode") == "permissive";
    let http2 = listener.one("http2").flag("enabled");
    Some(ServerSpec { clients, forward, permissive, http2, ..ServerSpec::new(identities) })
}

/// The TLS settings of the admin address; None: it has no TLS, or settings with problems.
pub(super) fn admin(admin: Section<'_>, external: &mut External, problems: &mut Problems) -> Option<ServerSpec> {
    if !admin.has("tls") {
        return None;
    }
    let section = admin.one("tls");
    let mut reader = Reader { directory: section.directory(), external, problems };
    let identity = reader.identity(section);
    reader.directory = directory(section, "client_ca");
    let authorities = section.text("client_ca").and_then(|text| reader.authorities(text));
    let clients = ClientAuth::new(authorities?, true, Vec::new());
    Some(ServerSpec { clients: Some(clients), ..ServerSpec::new([identity?].into()) })
}

/// TLS towards the endpoints of a cluster.
pub(super) struct ClusterTls {
    pub(super) spec: ClientSpec,
    /// `server_name`
    name: Option<ServerName<'static>>,
}

/// The TLS settings of a cluster; None: it has no TLS, or settings with problems.
pub(super) fn client(cluster: Section<'_>, external: &mut External, problems: &mut Problems) -> Option<ClusterTls> {
    if cluster.table("tls").is_none() && !cluster.flag("tls") {
        return None;
    }
    let section = cluster.one("tls");
    let text = section.text("server_name");
    let by_host = text.is_some_and(|text| text.value == HOST);
    let name = text.filter(|_| !by_host).and_then(|text| server_name(text, problems));
    if by_host && cluster.word("protocol") != "http1" {
        problems
            .add(
                section.span("server_name"),
                "requests for different hosts cannot share a connection whose certificate has one name",
            )
            .note(cluster.span("protocol"), "connections of HTTP/2 are shared")
            .help("leave `protocol` out, or name one name that the certificates of all endpoints have");
    }
    let insecure = section.flag("insecure");
    exclude(section, insecure, problems);
    let (pins, spiffe_ids) = (pins(section, problems), spiffe_ids(section, problems));
    if section.has("crl") && !insecure && section.text("ca").is_none_or(|ca| ca.value == SYSTEM) {
        problems
            .add(section.span("crl"), "`crl` says nothing of the authorities of this machine")
            .help("name those whose lists these are: ca = \"ca.pem\"");
    }
    let mut reader = Reader { directory: section.directory(), external, problems };
    let identity = reader.own_identity(section);
    let revocation = reader.revocation(section).into();
    let trust = if insecure { Trust::Anyone } else { Trust::Authorities(reader.trusted(section)?) };
    if text.is_some() && name.is_none() && !by_host {
        return None;
    }
    let spec = ClientSpec {
        trust,
        pins,
        spiffe_ids,
        revocation,
        identity,
        protocols: match cluster.word("protocol") {
            "http2" => &[b"h2"],
            "auto" => &[b"h2", b"http/1.1"],
            _ => &[b"http/1.1"],
        },
        post_quantum: true,
        tickets: limits::ENDPOINT_TICKETS,
        by_host,
    };
    Some(ClusterTls { spec, name })
}

/// How a collector of traces is authenticated.
pub(super) fn collector(section: Section<'_>, external: &mut External, problems: &mut Problems) -> Option<ClientSpec> {
    let mut reader = Reader { directory: section.directory(), external, problems };
    Some(ClientSpec::new(Trust::Authorities(reader.trusted(section)?)))
}

impl ClusterTls {
    /// The name that TLS asks an endpoint for, whose host is `host`; None: it has none, which is reported.
    pub(super) fn name_of(&self, host: &str, text: Text<'_>, problems: &mut Problems) -> Option<ServerName<'static>> {
        if let Some(name) = &self.name {
            return Some(name.clone());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let name = ServerName::try_from(host.to_owned()).ok();
        if name.is_none() && self.spec.by_host {
            // Of an endpoint without a host, it is asked for only where a request names none.
            return ServerName::try_from("localhost").ok();
        }
        if name.is_none() {
            problems
                .add(text.at, format!("\"{}\" has no name that a certificate could have", text.shown.escape_debug()))
                .help("write `server_name = \"…\"` in [cluster.tls]: the name to ask for and to check");
        }
        name
    }
}

/// Reports what is asked of a certificate that is not looked at.
fn exclude(section: Section<'_>, insecure: bool, problems: &mut Problems) {
    for key in ["ca", "crl", "pin", "spiffe_id"].into_iter().filter(|key| insecure && section.has(key)) {
        problems
            .add(section.span(key), format!("`{key}` and `insecure = true` exclude each other"))
            .note(section.span("insecure"), "no certificate is checked because of this")
            .help("leave `insecure` out: `ca` takes certificates that a company or a test has made for itself");
    }
}

fn pins(section: Section<'_>, problems: &mut Problems) -> Arc<[Pin]> {
    let mut read = |text: Text<'_>| {
        let pin = Pin::parse(text.value);
        if pin.is_none() {
            problems
                .add(text.at, format!("\"{}\" is not the hash of a key", text.shown.escape_debug()))
                .help(
                    "write \"sha256/…\", with what this prints: openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform der | \
                     openssl dgst -sha256 -binary | base64",
                );
        }
        pin
    };
    section.texts("pin").into_iter().filter_map(&mut read).collect()
}

fn spiffe_ids(section: Section<'_>, problems: &mut Problems) -> Arc<[SpiffeId]> {
    let mut read = |text: Text<'_>| {
        let id = SpiffeId::parse(text.value);
        if id.is_none() {
            problems
                .add(text.at, format!("\"{}\" is not a SPIFFE ID", text.shown.escape_debug()))
                .help("write \"spiffe://DOMAIN/PATH\", with /* at the end for all below, without query and port");
        }
        id
    };
    section.texts("spiffe_id").into_iter().filter_map(&mut read).collect()
}

/// Directory of a path, which may be inherited from another file.
fn directory<'a>(section: Section<'a>, key: &str) -> &'a Path {
    section.find(key).map_or(section.directory(), |found| found.directory())
}

fn server_name(text: Text<'_>, problems: &mut Problems) -> Option<ServerName<'static>> {
    let name = ServerName::try_from(text.value.to_owned()).ok();
    if name.is_none() {
        problems
            .add(text.at, format!("\"{}\" is not the name of a server", text.shown.escape_debug()))
            .help("write a DNS name or an IP address, without scheme and port: \"orders.internal\"");
    }
    name
}

struct Reader<'a> {
    directory: &'a Path,
    external: &'a mut External,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// The certificate that a cluster shows to its endpoints.
    fn own_identity(&mut self, section: Section<'a>) -> Option<Identity> {
        for (key, other) in [("cert", "key"), ("key", "cert")] {
            if section.has(key) && !section.has(other) {
                self.problems
                    .add(section.span(key), format!("`{key}` has no `{other}` beside it"))
                    .help("name the file of the certificate in `cert`, and that of its private key in `key`; one file may be both");
            }
        }
        self.identity(section)
    }

    fn identity(&mut self, pair: Section<'a>) -> Option<Identity> {
        self.directory = directory(pair, "cert");
        let chain = pair.text("cert").and_then(|cert| self.chain(cert));
        self.directory = directory(pair, "key");
        let key = pair.text("key")?;
        // Read even if the certificate has problems, so that those of both are reported at once.
        let pem = self.read(key, "the private key of the certificate");
        Identity::new(chain?, &pem?).map_err(|error| self.bad_key(key, pair.span("cert"), &error)).ok()
    }

    /// A certificate of a listener, with its OCSP response.
    fn stapled(&mut self, pair: Section<'a>) -> Option<Identity> {
        let identity = self.identity(pair);
        let Some(name) = pair.text("ocsp") else { return identity };
        self.directory = directory(pair, "ocsp");
        let content = self.external.binary_file(self.directory, Path::new(name.value));
        let der = self.content(name, "an OCSP response, in DER", content)?;
        identity?.with_ocsp(der).map_err(|error| self.bad_ocsp(name, &error)).ok()
    }

    fn bad_ocsp(&mut self, name: Text<'_>, error: &BadOcsp) {
        let help = match error {
            BadOcsp::Malformed | BadOcsp::TooLong => {
                "fetch it again: openssl ocsp -issuer ISSUER -cert CERT -url URL -respout FILE, with the URL of openssl x509 -in CERT -noout -ocsp_uri"
            }
            BadOcsp::Refused(_) | BadOcsp::Unknown => {
                "ask the responder of the authority that has signed the certificate, or leave `ocsp` out"
            }
            BadOcsp::Other => "name the one for this certificate; after a renewal it has to be fetched anew",
            BadOcsp::Revoked => "get another certificate: clients that look it up do not take this one",
        };
        self.bad(name, error).help(help);
    }

    fn chain(&mut self, cert: Text<'_>) -> Option<Chain> {
        let pem = self.read(cert, "a certificate, then those that lead to its authority")?;
        Chain::from_pem(&pem).map_err(|error| self.bad_certificates(cert, &error)).ok()
    }

    /// The authorities that `ca` names: those of its file, or of this machine.
    fn trusted(&mut self, section: Section<'a>) -> Option<Authorities> {
        self.directory = directory(section, "ca");
        match section.text("ca") {
            Some(ca) if ca.value != SYSTEM => self.authorities(ca),
            _ => Some(self.external.public_authorities()),
        }
    }

    fn authorities(&mut self, client_ca: Text<'_>) -> Option<Authorities> {
        let pem = self.read(client_ca, "the certificates of authorities")?;
        Authorities::from_pem(&pem).map_err(|error| self.bad_certificates(client_ca, &error)).ok()
    }

    /// What is asked of the clients of a listener.
    fn clients(&mut self, section: Section<'a>) -> Option<ClientAuth> {
        for key in ["client_auth", "crl", "forward_client_cert"]
            .into_iter()
            .filter(|key| section.has(key) && !section.has("client_ca"))
        {
            self.problems
                .add(section.span(key), format!("`{key}` says nothing without `client_ca`"))
                .help("name the authorities that sign the certificates of clients: client_ca = \"ca.pem\"");
        }
        let lists = self.revocation(section);
        self.directory = directory(section, "client_ca");
        let authorities = section.text("client_ca").and_then(|text| self.authorities(text))?;
        Some(ClientAuth::new(authorities, section.word("client_auth") != "request", lists))
    }

    /// What the files of `crl` hold.
    fn revocation(&mut self, section: Section<'a>) -> Vec<RevocationList> {
        self.directory = directory(section, "crl");
        section.texts("crl").into_iter().filter_map(|name| self.lists(name)).flatten().collect()
    }

    fn lists(&mut self, name: Text<'_>) -> Option<Vec<RevocationList>> {
        let content = self.external.large_file(self.directory, Path::new(name.value));
        let pem = self.content(name, "lists of revoked certificates", content)?;
        RevocationList::from_pem(&pem).map_err(|error| self.bad_lists(name, &error)).ok()
    }

    fn read(&mut self, name: Text<'_>, what: &str) -> Option<String> {
        let content = self.external.file(self.directory, Path::new(name.value));
        self.content(name, what, content)
    }

    /// What a file holds; reports why it cannot be read.
    fn content<T>(&mut self, name: Text<'_>, what: &str, content: Result<T, String>) -> Option<T> {
        let unreadable = |why| {
            self.problems
                .add(name.at, format!("the file \"{}\" cannot be read: {why}", name.shown.escape_debug()))
                .help(format!(
                    "name a file with {what}{}, relative to this one",
                    if what.ends_with("DER") { "" } else { ", in PEM" }
                ));
        };
        content.map_err(unreadable).ok()
    }

    fn bad_certificates(&mut self, name: Text<'_>, error: &BadCertificates) {
        let help = match error {
            BadCertificates::None => "it needs sections that begin with -----BEGIN CERTIFICATE-----",
            BadCertificates::NotPem(_) => "copy it again, with the lines -----BEGIN …----- and -----END …-----",
            BadCertificates::Unusable(..) => "it has to be of X.509 version 3; `openssl x509 -text -in FILE` shows it",
        };
        self.bad(name, error).help(help);
    }

    fn bad_lists(&mut self, name: Text<'_>, error: &BadRevocationLists) {
        let help = match error {
            BadRevocationLists::None => {
                "it needs sections that begin with -----BEGIN X509 CRL-----; of DER this makes one: openssl crl -inform der -in FILE"
            }
            BadRevocationLists::NotPem(_) => {
                "copy it again, with the lines -----BEGIN X509 CRL----- and -----END X509 CRL-----"
            }
            BadRevocationLists::Unusable(..) => {
                "it has to be whole, of version 2, with a number and the time of the next one; `openssl crl -text -in FILE` shows it"
            }
        };
        self.bad(name, error).help(help);
    }

    fn bad_key(&mut self, name: Text<'_>, cert: SourceSpan, error: &BadKey) {
        let help = match error {
            BadKey::None => "it needs a section that begins with -----BEGIN PRIVATE KEY-----, or … RSA or … EC …",
            BadKey::Encrypted => "take the passphrase away: openssl pkey -in FILE -out PLAIN_FILE",
            BadKey::NotPem(_) => "copy it again, with the lines -----BEGIN …----- and -----END …-----",
            BadKey::Unusable => "keys are RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519",
            BadKey::Other => "name the key that the certificate was made for",
            BadKey::NotFirst(_) => "put the certificate of the key first in its file",
        };
        let note = matches!(error, BadKey::Other | BadKey::NotFirst(_));
        let problem = self.bad(name, error).help(help);
        if note {
            problem.note(cert, "the certificate is here");
        }
    }

    fn bad(&mut self, name: Text<'_>, error: &impl Display) -> &mut Problem {
        self.problems.add(name.at, format!("the file \"{}\" cannot be used: {error}", name.shown.escape_debug()))
    }
}
