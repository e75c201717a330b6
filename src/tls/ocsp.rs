//! OCSP responses that are stapled (RFC 6960, RFC 6066 section 8): what is in one. Not here: fetching one, and the signature, which
//! clients check.

use std::fmt;

use x509_cert::der::asn1::{GeneralizedTime, ObjectIdentifier, OctetStringRef};
use x509_cert::der::{self, Decode, Header, Reader, SliceReader, Tag, TagNumber};

use super::identity;

/// Object identifier of the one kind of response that clients read (RFC 6960 section 4.2.1).
const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";
/// Most bytes of a response: it goes out with each full handshake.
const BYTES_MAX: usize = 16 * 1024;

/// Why a response cannot be stapled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOcsp {
    /// It is not DER, or of another form.
    #[error("it is no OCSP response in DER")]
    Malformed,
    /// It is longer than a handshake should carry.
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// The responder has refused, with this status.
    #[error("the responder refused to answer (status {0})")]
    Refused(u8),
    /// It says nothing of the certificate.
    #[error("it is for another certificate")]
    Other,
    /// The certificate is revoked.
    #[error("it says that the certificate is revoked")]
    Revoked,
    /// The responder does not know the certificate.
    #[error("it says that the responder does not know the certificate")]
    Unknown,
}

/// A response that says that a certificate is good.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OcspResponse {
    der: Vec<u8>,
    end: u64,
}

impl OcspResponse {
    /// Reads a response for the certificate with this serial number, as its DER has it.
    pub(super) fn read(der: Vec<u8>, serial: &[u8]) -> Result<Self, BadOcsp> {
        if der.len() > BYTES_MAX {
            return Err(BadOcsp::TooLong);
        }
        let response = Response::read(&der, serial).map_err(|_| BadOcsp::Malformed)?;
        match response {
            Response::Refused(status) => Err(BadOcsp::Refused(status)),
            Response::Single(None) => Err(BadOcsp::Other),
            Response::Single(Some((Status::Revoked, _))) => Err(BadOcsp::Revoked),
            Response::Single(Some((Status::Unknown, _))) => Err(BadOcsp::Unknown),
            Response::Single(Some((Status::Good, end))) => Ok(Self { der, end }),
        }
    }

    /// As it is sent.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// When there is a newer one, in seconds since 1970: from then on it is not stapled.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }
}

impl fmt::Debug for OcspResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OcspResponse({self})")
    }
}

/// Writes the first eight digits of its hash.
impl fmt::Display for OcspResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", identity::fingerprint(&identity::hash([&*self.der].into_iter())))
    }
}

/// What is said of a certificate.
#[derive(Clone, Copy)]
enum Status {
    Good,
    Revoked,
    Unknown,
}

enum Response {
    Refused(u8),
    /// What is said of the certificate, and until when; None: nothing.
    Single(Option<(Status, u64)>),
}

impl Response {
    /// OCSPResponse (RFC 6960 section 4.2.1).
    fn read(der: &[u8], serial: &[u8]) -> der::Result<Self> {
        let mut outer = SliceReader::new(der)?;
        let mut response = inside(&mut outer, Tag::Sequence)?;
        outer.finish(())?;
        let status = value(&mut response, Tag::Enumerated)?.first().copied().unwrap_or(u8::MAX);
        if status != 0 {
            return Ok(Self::Refused(status));
        }
        let mut bytes = inside(&mut response, context0())?;
        let mut bytes = inside(&mut bytes, Tag::Sequence)?;
        if ObjectIdentifier::decode(&mut bytes)?.to_string() != BASIC {
            return Err(Tag::ObjectIdentifier.value_error());
        }
        let basic = OctetStringRef::decode(&mut bytes)?;
        let mut basic = SliceReader::new(basic.as_bytes())?;
        let mut basic = inside(&mut basic, Tag::Sequence)?;
        let mut data = inside(&mut basic, Tag::Sequence)?;
        // Version and the name of the responder.
        while data.peek_tag()?.is_context_specific() {
            data.tlv_bytes()?;
        }
        GeneralizedTime::decode(&mut data)?;
        let mut responses = inside(&mut data, Tag::Sequence)?;
        while !responses.is_finished() {
            let mut single = inside(&mut responses, Tag::Sequence)?;
            if let Some(found) = Self::single(&mut single, serial)? {
                return Ok(Self::Single(Some(found)));
            }
        }
        Ok(Self::Single(None))
    }

    /// SingleResponse; None: it is for another certificate.
    fn single(single: &mut SliceReader<'_>, serial: &[u8]) -> der::Result<Option<(Status, u64)>> {
        let mut id = inside(single, Tag::Sequence)?;
        // Hash function, name and key of the issuer.
        for _ in 0..3 {
            id.tlv_bytes()?;
        }
        if positive(value(&mut id, Tag::Integer)?) != positive(serial) {
            return Ok(None);
        }
        let status = match single.peek_tag()?.number().value() {
            0 => Status::Good,
            1 => Status::Revoked,
            _ => Status::Unknown,
        };
        single.tlv_bytes()?;
        GeneralizedTime::decode(single)?;
        let mut end = u64::MAX;
        if !single.is_finished() && single.peek_tag()? == context0() {
            let mut next = inside(single, context0())?;
            end = GeneralizedTime::decode(&mut next)?.to_unix_duration().as_secs();
        }
        Ok(Some((status, end)))
    }
}

/// The value of the next element, which has this tag.
fn value<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    let header = Header::decode(reader)?;
    header.tag.assert_eq(tag)?;
    reader.read_slice(header.length)
}

/// What the next element holds, which has this tag.
fn inside<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<SliceReader<'a>> {
    value(reader, tag).and_then(SliceReader::new)
}

/// The tag of an explicitly tagged element with the number 0.
fn context0() -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber::N0 }
}

/// A number without the zeros that keep it from being negative.
fn positive(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
