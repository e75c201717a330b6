//! `cairn dev-cert`: an authority of this machine and certificates of it, to try TLS out. Not here: certificates that others believe.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn::tls::{Chain, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::{fail, print, usage};

/// What `dev-cert` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// DNS names and addresses that the certificate is for, such as localhost, 127.0.0.1 or *.app.test
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Where the files are written
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    out: PathBuf,
    /// Replace certificates that are there; the authority stays
    #[arg(long)]
    force: bool,
}

/// The name of the authority.
const AUTHORITY: &str = "cairn development CA";
/// Who the client is.
const CLIENT: &str = "spiffe://dev.cairn/client";
/// How long certificates last. Browsers take them for at most 825 days.
const DAYS: u64 = 365;
/// How long the authority lasts.
const AUTHORITY_DAYS: u64 = 3650;
const DAY: u64 = 24 * 3600;

/// A certificate and its key in PEM.
struct Pair {
    cert: String,
    key: String,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
enum DevCertError {
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0} is there already: --force replaces certificates, or --out names another directory")]
    There(PathBuf),
    #[error(
        "{0} is no authority of `cairn dev-cert`, or {1} is not its key: take both away, or name another directory with --out"
    )]
    Foreign(PathBuf, PathBuf),
    #[error("{0}")]
    Make(#[from] rcgen::Error),
}

/// Success if all was written.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let names: Result<Vec<_>, _> = arguments.names.iter().map(|name| name_of(name)).collect();
    let names = names.unwrap_or_else(|why| usage(&why));
    match write(arguments, names) {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(error) => fail(&format!("cairn: {error}\n")),
    }
}

/// A name of a server.
fn name_of(text: &str) -> Result<SanType, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let plain = label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-')
    };
    let valid = name.len() <= 253 && name.split('.').all(label);
    let name = valid.then(|| text.to_ascii_lowercase().try_into().ok()).flatten();
    name.map(SanType::DnsName).ok_or_else(|| {
        format!("{text}: write a DNS name or an address, without scheme and port, such as localhost, *.app.test or 127.0.0.1")
    })
}

fn write(arguments: &Arguments, names: Vec<SanType>) -> Result<String, DevCertError> {
    let at = |name: &str| arguments.out.join(name);
    fs::create_dir_all(&arguments.out).map_err(|error| DevCertError::File(arguments.out.clone(), error))?;
    let written = ["cert.pem", "key.pem", "client.pem", "client-key.pem"].map(at);
    if let Some(there) = written.iter().find(|path| !arguments.force && path.exists()) {
        return Err(DevCertError::There(there.clone()));
    }
    let (ca, ca_key) = (at("ca.pem"), at("ca-key.pem"));
    let known = ca.exists() || ca_key.exists();
    let authority = if known { read_authority(&ca, &ca_key)? } else { make_authority()? };
    let key = KeyPair::from_pem(&authority.key)?;
    let issuer = Issuer::new(authority_params(), key);
    let server = make(names, "server", ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
    let client = vec![SanType::URI(CLIENT.try_into()?)];
    let client = make(client, "client", ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
    if !known {
        put(&ca, &authority.cert, 0o644)?;
        put(&ca_key, &authority.key, 0o600)?;
    }
    let [cert, key, client_cert, client_key] = &written;
    for (path, text, mode) in [
        (cert, &server.cert, 0o644),
        (key, &server.key, 0o600),
        (client_cert, &client.cert, 0o644),
        (client_key, &client.key, 0o600),
    ] {
        put(path, text, mode)?;
    }
    Ok(next_steps(arguments, known))
}

fn make(
    names: Vec<SanType>,
    subject: &str,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = named(subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    last(&mut params, DAYS);
    let key = KeyPair::generate()?;
    Ok(Pair { cert: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name = named(AUTHORITY);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, AUTHORITY_DAYS);
    params
}

fn make_authority() -> Result<Pair, DevCertError> {
    let key = KeyPair::generate()?;
    Ok(Pair { cert: authority_params().self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// An authority of an earlier call: who trusts it need not do so again.
fn read_authority(ca: &Path, key: &Path) -> Result<Pair, DevCertError> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| DevCertError::File(path.to_owned(), error));
    let pair = Pair { cert: read(ca)?, key: read(key)? };
    let foreign = || DevCertError::Foreign(ca.to_owned(), key.to_owned());
    let chain = Chain::from_pem(&pair.cert).map_err(|_| foreign())?;
    // One of the same key and another name would sign what nobody takes for its own.
    let own = chain.subject().is_some_and(|subject| subject == format!("CN={AUTHORITY}"));
    if !own || Identity::new(chain, &pair.key).is_err() {
        return Err(foreign());
    }
    Ok(pair)
}

fn named(subject: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject);
    name
}

/// From an hour ago, in case clocks differ.
fn last(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = start + now.saturating_sub(Duration::from_secs(3600));
    params.not_after = start + now + Duration::from_secs(days * DAY);
}

/// Writes a file under another name and renames it, so that nobody reads a part, and no key is readable for others in between.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), DevCertError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // One that is left of a call that was ended.
    let _ = fs::remove_file(&part);
    let write = || -> io::Result<()> {
        let mut file: File = File::options().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|error| DevCertError::File(path.to_owned(), error))
}

fn next_steps(arguments: &Arguments, known: bool) -> String {
    let at = |name: &str| arguments.out.join(name).display().to_string();
    let (ca, cert, key, client, client_key) =
        (at("ca.pem"), at("cert.pem"), at("key.pem"), at("client.pem"), at("client-key.pem"));
    let origin = if known { "was there, and has signed" } else { "new: never trust it where it matters" };
    let names = arguments.names.join(", ");
    // A wildcard is no name to connect to.
    let host = arguments.names.iter().find(|name| !name.contains('*')).map_or("localhost", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!(
        "authority    {ca} ({origin})\n\
         certificate  {cert}, {key}: {names}, for {DAYS} days\n\
         client       {client}, {client_key}: {CLIENT}\n\
         \n\
         Next, in a configuration beside them:\n\
         \n\
         [[listener]]\n\
         name = \"secure\"\n\
         bind = \"127.0.0.1:8443\"\n\
         [listener.tls]\n\
         certificates = [{{ cert = \"cert.pem\", key = \"key.pem\" }}]\n\
         # client_ca = \"ca.pem\"    # only for clients with a certificate\n\
         \n\
         curl --cacert {ca} https://{host}:8443/\n\
         curl --cacert {ca} --cert {client} --key {client_key} https://{host}:8443/\n\
         \n\
         A browser asks for {ca} among its authorities; whoever has {} can then be any site for it.\n",
        at("ca-key.pem")
    )
}
