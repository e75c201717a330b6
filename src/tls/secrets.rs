//! Secrets of TLS 1.3 after a handshake, of which the keys behind a key update are made (RFC 8446 section 7.2). rustls would make them,
//! too, but keeps a kilobyte for each connection to do so. Not here: records under a key (`record`), when keys change (`traffic`).

use std::cell::Cell;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{self, HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use aws_lc_rs::{aead, aead::AES_128_GCM, aead::AES_256_GCM, aead::CHACHA20_POLY1305};
use rustls::{CipherSuite, KeyLog, SupportedCipherSuite};
use zeroize::Zeroize;

use super::record::Key;

/// Length of SHA-384, the longest hash of a cipher suite of TLS 1.3, bytes.
const HASH_MAX: usize = 48;
/// Length of the longest key, bytes.
const KEY_MAX: usize = 32;

thread_local! {
    /// Those of the handshake step under way: of the client's direction, and of the server's.
    static TOLD: Cell<[Option<TrafficSecret>; 2]> = const { Cell::new([None, None]) };
}

/// The secret of one direction. It is overwritten when it is dropped.
pub(super) struct TrafficSecret {
    bytes: [u8; HASH_MAX],
    length: u8,
}

/// Through it rustls tells the secrets, as it would to a file for debugging. It writes them nowhere but to this thread's memory, from
/// where [`take_told`] takes them.
#[derive(Debug)]
pub(super) struct Listen;

/// The secrets that rustls has told since the last call: of the client's direction, and of the server's.
pub(super) fn take_told() -> [Option<TrafficSecret>; 2] {
    TOLD.take()
}

/// Position of a label of NSS's key log among [`TOLD`]; None: of no use here.
fn position(label: &str) -> Option<usize> {
    ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"].iter().position(|known| *known == label)
}

impl KeyLog for Listen {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let Some(position) = position(label) else { return };
        let mut told = TOLD.take();
        told[position] = TrafficSecret::new(secret);
        TOLD.set(told);
    }

    fn will_log(&self, label: &str) -> bool {
        position(label).is_some()
    }
}

/// A length of what is to be derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl TrafficSecret {
    /// None: it is longer than the hash of any cipher suite.
    fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; HASH_MAX];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, length: secret.len() as u8 })
    }

    /// Becomes the secret behind a key update, and returns its key.
    ///
    /// # Errors
    /// The cipher suite is not one of TLS 1.3.
    pub(super) fn update(&mut self, suite: SupportedCipherSuite) -> Result<Key, Unspecified> {
        let (hash, algorithm) = parts(suite)?;
        let length = usize::from(self.length);
        let mut next = Self { bytes: [0; HASH_MAX], length: self.length };
        self.expand(hash, b"traffic upd", &mut next.bytes[..length])?;
        *self = next;
        let (mut key, mut iv) = ([0; KEY_MAX], [0; 12]);
        let bytes = &mut key[..algorithm.key_len()];
        self.expand(hash, b"key", bytes)?;
        self.expand(hash, b"iv", &mut iv)?;
        let made = Key::tls13(algorithm, bytes, iv);
        key.zeroize();
        made
    }

    /// HKDF-Expand-Label without a context (RFC 8446 section 7.1).
    fn expand(&self, hash: hkdf::Algorithm, label: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
        const PREFIX: &[u8] = b"tls13 ";
        let length = (out.len() as u16).to_be_bytes();
        let label_length = [(PREFIX.len() + label.len()) as u8];
        let info = [&length[..], &label_length, PREFIX, label, &[0]];
        let secret = Prk::new_less_safe(hash, &self.bytes[..usize::from(self.length)]);
        secret.expand(&info, Length(out.len()))?.fill(out)
    }
}

impl Drop for TrafficSecret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Hash and cipher of a suite.
fn parts(suite: SupportedCipherSuite) -> Result<(hkdf::Algorithm, &'static aead::Algorithm), Unspecified> {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Ok((HKDF_SHA256, &AES_128_GCM)),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Ok((HKDF_SHA384, &AES_256_GCM)),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Ok((HKDF_SHA256, &CHACHA20_POLY1305)),
        _ => Err(Unspecified),
    }
}
