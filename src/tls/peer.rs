//! What a client's certificate says of its owner. Called once for each handshake, also where that resumes a session. Not here: whether
//! the certificate is believed (`client_auth`).

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_cert::der::Decode;

use crate::limits::IDENTITY_BYTES;

/// The subject of a certificate that was found valid (RFC 4514). Empty: it has none, or one that this parser does not read, or that is
/// longer than [`IDENTITY_BYTES`].
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Box<str> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok();
    let text = parsed.map(|parsed| parsed.tbs_certificate.subject.to_string()).unwrap_or_default();
    if text.len() > IDENTITY_BYTES {
        return Box::default();
    }
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>().into()
}

/// Who the owner of a certificate is: its first SPIFFE ID, else its first DNS name in lower case, else its subject. Empty: it has none
/// of these. One that is too long is passed over: a part of it could be the name of somebody else.
pub(super) fn identity(certificate: &CertificateDer<'_>, subject: &str) -> Box<str> {
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
