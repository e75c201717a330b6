//! What resumption tickets of a listener are sealed with, and how long each lives (RFC 8446 section 4.6.1, RFC 5077). Not here:
//! whose are whose (`snapshot::Ledger`).

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use webpki::{EndEntityCert, KeyUsage};

/// Bytes in front of what is sealed: until when the ticket is good, in seconds since 1970.
const EXPIRY: usize = size_of::<u64>();

/// Keys that change every six hours and open a ticket for twelve at most; they never leave the process. A client that has shown
/// a certificate is not asked for it when it resumes: its ticket lives no longer than that.
///
/// All workers share them, since a client may come back to another worker: each full or resumed handshake takes a read lock.
#[derive(Debug)]
pub struct Tickets {
    keys: Option<Arc<dyn ProducesTickets>>,
    /// Seconds by which the clock is ahead.
    #[cfg(test)]
    pub(super) ahead: std::sync::atomic::AtomicU64,
}

impl Tickets {
    /// With new keys; without any, and without tickets, where the machine has no randomness to make them of.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys: Ticketer::new().ok(),
            #[cfg(test)]
            ahead: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        let now = UnixTime::now().as_secs();
        #[cfg(test)]
        let now = now + self.ahead.load(std::sync::atomic::Ordering::Relaxed);
        now
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.keys.is_some()
    }

    fn lifetime(&self) -> u32 {
        self.keys.as_ref().map_or(0, |keys| keys.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let expiry = expiry(plain, self.now())?;
        self.keys.as_ref()?.encrypt(&[&expiry.to_be_bytes(), plain].concat())
    }

    /// None: the client has to go through a full handshake.
    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.keys.as_ref()?.decrypt(cipher)?;
        let expiry = u64::from_be_bytes(*plain.first_chunk::<EXPIRY>()?);
        plain.drain(..EXPIRY);
        (self.now() <= expiry).then_some(plain)
    }
}

/// Until when the certificates in a session are valid; without any, for ever. None: they cannot be read, and there is to be no
/// ticket. Those that have expired were of no use when the client was believed.
fn expiry(session: &[u8], now: u64) -> Option<u64> {
    let ends = certificates(session)?.into_iter().map(not_after).collect::<Option<Vec<_>>>()?;
    Some(ends.into_iter().filter(|end| *end >= now).min().unwrap_or(u64::MAX))
}

/// The certificates of the client in what rustls writes of a session: `server_name`, version, suite, secret, whether it is bound
/// to the handshake (RFC 7627), then a list as in RFC 5246 section 7.4.2. The first two and the list may be absent.
fn certificates(session: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = session;
    if take(&mut rest, 1)? == [1] {
        vector(&mut rest, 1)?;
    }
    take(&mut rest, 2 + 2)?;
    vector(&mut rest, 1)?;
    take(&mut rest, 1)?;
    let mut found = Vec::new();
    match take(&mut rest, 1)? {
        [0] => {}
        [1] => {
            let mut list = vector(&mut rest, 3)?;
            while !list.is_empty() {
                found.push(vector(&mut list, 3)?);
            }
        }
        _ => return None,
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    rest.split_off(..count)
}

/// Bytes behind their length, which has so many bytes (RFC 8446 section 3.4).
fn vector<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let count = take(rest, length)?.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
    take(rest, count)
}

/// The last second in which a certificate is valid.
fn not_after(certificate: &[u8]) -> Option<u64> {
    let certificate = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    // Nothing else is looked at once it has expired, and at the end of time each has.
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    match certificate.verify_for_usage(&[], &[], &[], end, KeyUsage::client_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}
