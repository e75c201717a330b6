//! What a client's certificate says of its owner. Called once for each handshake, also where that resumes a session. Not here: whether
//! the certificate is believed (`client_auth`).

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_cert::der::Decode;

use super::ClientHandshake;
use super::identity::hash;
use crate::limits::{CLIENT_CERT_BYTES, IDENTITY_BYTES};
use crate::printable::base64;

/// How an application is told what the certificate of a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardClientCert {
    /// As `Client-Cert` (RFC 9440).
    pub client_cert: bool,
    /// As `X-Forwarded-Client-Cert`, in the form of Envoy.
    pub xfcc: bool,
}

impl ForwardClientCert {
    /// The value of `forward_client_cert`.
    #[must_use]
    pub fn of(word: &str) -> Self {
        let both = word == "both";
        Self { client_cert: both || word == "client-cert", xfcc: both || word == "xfcc" }
    }
}

/// Takes in the certificate that a client has shown; `own` is the one that it was shown.
pub(super) fn read(
    shown: &mut ClientHandshake,
    certificate: &CertificateDer<'_>,
    own: Option<&CertificateDer<'_>>,
    forward: ForwardClientCert,
) {
    shown.subject = subject(certificate);
    shown.identity = identity(certificate, &shown.subject);
    let mut bounded = |value: String| {
        let fits = value.len() <= CLIENT_CERT_BYTES;
        shown.cert_too_large |= !fits;
        if fits { value.into() } else { Box::default() }
    };
    if forward.client_cert {
        shown.client_cert = bounded(format!(":{}:", base64(certificate).map(char::from).collect::<String>()));
    }
    if forward.xfcc {
        shown.xfcc = bounded(element(certificate, own, &shown.subject));
    }
}

/// The subject of a certificate that was found valid (RFC 4514). Empty: it has none, or one that this parser does not read, or that is
/// longer than [`IDENTITY_BYTES`].
fn subject(certificate: &CertificateDer<'_>) -> Box<str> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok();
    let text = parsed.map(|parsed| parsed.tbs_certificate.subject.to_string()).unwrap_or_default();
    if text.len() > IDENTITY_BYTES {
        return Box::default();
    }
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>().into()
}

/// Who the owner of a certificate is: its first SPIFFE ID, else its first DNS name in lower case, else its subject. Empty: it has none
/// of these. One that is too long is passed over: a part of it could be the name of somebody else.
fn identity(certificate: &CertificateDer<'_>, subject: &str) -> Box<str> {
    let Ok(owner) = EndEntityCert::try_from(certificate) else { return subject.into() };
    let mut ids = owner.valid_uri_names().filter(|name| name.starts_with("spiffe://") && is_plain(name));
    if let Some(id) = ids.next() {
        return id.into();
    }
    let name = owner.valid_dns_names().find(|name| is_plain(name)).map(str::to_ascii_lowercase);
    name.map_or_else(|| subject.into(), Into::into)
}

/// Whether a name has a sensible length, and no character that would end a field or an element of a list.
fn is_plain(name: &str) -> bool {
    name.len() <= IDENTITY_BYTES
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;<>\\^`{|}".contains(&byte))
}

/// The element of X-Forwarded-Client-Cert for a connection. Readers differ in what a backslash before a quote means, so that a subject
/// could end the text in which it stands: no quote is written but those around a value, and no backslash before one.
fn element(certificate: &CertificateDer<'_>, own: Option<&CertificateDer<'_>>, subject: &str) -> String {
    let mut text = String::new();
    let mut add = |key: &str, value: &str, quoted: bool| {
        if !text.is_empty() {
            text.push(';');
        }
        text.extend([key, "="]);
        let quote = if quoted || value.contains([',', ';', '=']) { "\"" } else { "" };
        text.extend([quote, value, quote]);
    };
    let visible = |name: &&str| name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if let Some(own) = own.and_then(|own| EndEntityCert::try_from(own).ok()) {
        own.valid_uri_names().filter(visible).for_each(|name| add("By", name, false));
    }
    let digest: String = hash([&**certificate].into_iter()).iter().map(|byte| format!("{byte:02x}")).collect();
    add("Hash", &digest, false);
    add("Subject", &in_hexadecimal(subject), true);
    if let Ok(owner) = EndEntityCert::try_from(certificate) {
        owner.valid_uri_names().filter(visible).for_each(|name| add("URI", name, false));
        owner.valid_dns_names().filter(visible).for_each(|name| add("DNS", name, false));
    }
    text
}

/// A subject with its escaped quotes and backslashes as hexadecimal digits, which means the same (RFC 4514 section 2.4).
fn in_hexadecimal(subject: &str) -> String {
    let mut text = String::with_capacity(subject.len());
    let mut rest = subject.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('\\', Some('"' | '\\')) => {
                let escaped = rest.next();
                text += if escaped == Some('"') { "\\22" } else { "\\5C" };
            }
            ('"', _) => text += "\\22",
            ('\\', None) => text += "\\5C",
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_no_quote_and_end_with_no_backslash() {
        for (subject, text) in [
            ("CN=a", "CN=a"),
            (r#"CN=a\"b"#, r"CN=a\22b"),
            (r"CN=a\\", r"CN=a\5C"),
            (r#"CN=a\\\"\,"#, r"CN=a\5C\22\,"),
            (r#"CN=""#, r"CN=\22"),
            (r"CN=a\", r"CN=a\5C"),
        ] {
            assert_eq!(in_hexadecimal(subject), text, "{subject}");
        }
    }
}
