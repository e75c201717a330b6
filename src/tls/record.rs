//! Opens and seals records in place (RFC 8446 section 5, RFC 5246 section 6.2.3): one direction's key, nonce and count.
//! Not here: the content of records (`traffic`).

use std::ops::Range;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use rustls::crypto::cipher::{make_tls12_aad, make_tls13_aad};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};

use super::Error;
use crate::buffer::Lease;

/// Length of a record's header: type, version and length.
pub(super) const HEADER: usize = 5;
/// Most content of one record, bytes.
pub(super) const CONTENT_MAX: usize = 1 << 14;
/// Most bytes behind the header: content and the overhead of protection (RFC 8446 section 5.2).
pub(super) const BODY_MAX: usize = CONTENT_MAX + 256;
/// The bound of TLS 1.2, which applies in handshakes (RFC 5246 section 6.2.3).
const BODY_MAX_TLS12: usize = CONTENT_MAX + 2048;
/// Length of the explicit part of a nonce (RFC 5288 section 3).
const EXPLICIT: usize = 8;
const TAG: usize = 16;
/// Most bytes that sealing adds before the content.
pub(super) const FRONT_MAX: usize = HEADER + EXPLICIT;
/// Most bytes that sealing adds behind the content.
pub(super) const BACK_MAX: usize = 1 + TAG;

/// The protection of one direction.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; 12],
    /// Number of records so far under this key.
    count: u64,
    form: Form,
}

/// Layout of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The encrypted content is followed by its type.
    Tls13,
    /// The explicit part of the nonce precedes the content.
    Tls12Gcm,
    /// Only the tag is added.
    Tls12ChaCha,
}

/// Header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: ContentType,
    /// Bytes behind the header.
    pub(super) body: usize,
}

impl Header {
    /// The header at the start of `bytes`; None: fewer than five.
    ///
    /// # Errors
    /// The bytes are not TLS, or the record is too long.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let &[kind, major, _, high, low, ..] = bytes else { return Ok(None) };
        let kind = ContentType::from(kind);
        let body = usize::from(u16::from_be_bytes([high, low]));
        match kind {
            _ if major != 3 => Err(Error::Malformed),
            ContentType::Alert | ContentType::Handshake | ContentType::ApplicationData if body <= BODY_MAX => {
                Ok(Some(Self { kind, body }))
            }
            ContentType::Alert | ContentType::Handshake | ContentType::ApplicationData => Err(Error::TooLong),
            _ => Err(Error::Unexpected),
        }
    }
}

/// Length of the record that begins with `bytes`. Length of a header, if that is incomplete or enough to refuse the record.
pub(super) fn length(bytes: &[u8]) -> usize {
    let &[20..=24, 3, _, high, low, ..] = bytes else { return HEADER };
    let body = usize::from(u16::from_be_bytes([high, low]));
    if body > BODY_MAX_TLS12 { HEADER } else { HEADER + body }
}

impl Key {
    /// # Errors
    /// The secrets are for an unknown cipher.
    pub(super) fn new(
        version: ProtocolVersion,
        count: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<Self, rustls::Error> {
        type Secrets = ConnectionTrafficSecrets;
        let tls13 = version == ProtocolVersion::TLSv1_3;
        let gcm = if tls13 { Form::Tls13 } else { Form::Tls12Gcm };
        let (algorithm, key, iv, form) = match secrets {
            Secrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, gcm),
            Secrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, gcm),
            Secrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, if tls13 { Form::Tls13 } else { Form::Tls12ChaCha })
            }
            _ => return Err(rustls::Error::General("an unknown cipher".into())),
        };
        let wrong = || rustls::Error::General("a key of a wrong size".into());
        let iv = iv.as_ref().try_into().map_err(|_| wrong())?;
        Self::of(algorithm, key.as_ref(), iv, count, form).map_err(|_| wrong())
    }

    /// A key of TLS 1.3 under which no record was sent.
    ///
    /// # Errors
    /// `key` has another length than keys of `algorithm`.
    pub(super) fn tls13(algorithm: &'static Algorithm, key: &[u8], iv: [u8; 12]) -> Result<Self, Unspecified> {
        Self::of(algorithm, key, iv, 0, Form::Tls13)
    }

    fn of(
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: [u8; 12],
        count: u64,
        form: Form,
    ) -> Result<Self, Unspecified> {
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(algorithm, key)?), iv, count, form })
    }

    /// Number of records so far under this key.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes before the content of a sealed record, header included.
    pub(super) fn front(&self) -> usize {
        if self.form == Form::Tls12Gcm { FRONT_MAX } else { HEADER }
    }

    /// Opens a whole record in place. Returns the type and the range of its content.
    ///
    /// # Errors
    /// It does not authenticate as the next record, or exceeds a bound.
    pub(super) fn open(&mut self, header: Header, record: &mut [u8]) -> Result<(ContentType, Range<usize>), Error> {
        let front = self.front();
        let Some(length) = (HEADER + header.body).checked_sub(front + TAG) else { return Err(Error::Malformed) };
        let (before, sealed) = record.split_at_mut_checked(front).ok_or(Error::Malformed)?;
        let mut nonce = self.nonce();
        if self.form == Form::Tls12Gcm {
            nonce[4..].copy_from_slice(&before[HEADER..]);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = match self.form {
            Form::Tls13 if header.kind != ContentType::ApplicationData => return Err(Error::Unexpected),
            Form::Tls13 => self.key.open_in_place(nonce, Aad::from(make_tls13_aad(header.body)), sealed),
            _ => {
                let aad = make_tls12_aad(self.count, header.kind, ProtocolVersion::TLSv1_2, length);
                self.key.open_in_place(nonce, Aad::from(aad), sealed)
            }
        };
        let content = opened.map_err(|_| Error::Forged)?;
        self.count += 1;
        let (kind, length) = match self.form {
            // Zeros may follow the type as padding.
            Form::Tls13 => match content.iter().rposition(|byte| *byte != 0) {
                Some(end) => (ContentType::from(content[end]), end),
                None => return Err(Error::Unexpected),
            },
            _ => (header.kind, content.len()),
        };
        if length > CONTENT_MAX { Err(Error::TooLong) } else { Ok((kind, front..front + length)) }
    }

    /// Seals content of at most [`CONTENT_MAX`] bytes in place and adds header and tag. False: the lease lacks the room, and is
    /// unchanged.
    #[must_use]
    pub(super) fn seal(&mut self, kind: ContentType, content: &mut Lease) -> bool {
        let length = content.len();
        let front = self.front();
        let back = if self.form == Form::Tls13 { BACK_MAX } else { TAG };
        if content.headroom() < front || content.spare() < back {
            return false;
        }
        let nonce = self.nonce();
        let body = front - HEADER + length + back;
        let sealed = if self.form == Form::Tls13 {
            let _ = content.append(&[u8::from(kind)]);
            let aad = Aad::from(make_tls13_aad(body));
            self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, content.bytes_mut())
        } else {
            let aad = Aad::from(make_tls12_aad(self.count, kind, ProtocolVersion::TLSv1_2, length));
            self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, content.bytes_mut())
        };
        // It fails only for lengths that no record has.
        let Ok(tag) = sealed else { return false };
        self.count += 1;
        let outer = if self.form == Form::Tls13 { ContentType::ApplicationData } else { kind };
        let [high, low] = (body as u16).to_be_bytes();
        let mut head = [u8::from(outer), 3, 3, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        if self.form == Form::Tls12Gcm {
            head[HEADER..].copy_from_slice(&nonce[4..]);
        }
        content.append(tag.as_ref()) == TAG && content.prepend(&head[..front])
    }

    /// The initialisation vector, with the count xored into its last eight bytes (RFC 8446 section 5.3, RFC 7905 section 2). With
    /// GCM in TLS 1.2, the sender may choose these bytes, as long as they never repeat.
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.count.to_be_bytes()) {
            *byte ^= count;
        }
        nonce
    }
}
