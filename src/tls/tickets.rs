//! Keys of a listener's resumption tickets, and the lifetime of each ticket (RFC 8446 section 4.6.1, RFC 5077). Not here: which
//! listener has which keys (`snapshot::Ledger`).

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use webpki::{EndEntityCert, KeyUsage};

/// Length of the expiry in front of a sealed session: seconds since 1970.
const EXPIRY: usize = size_of::<u64>();

/// Keys that change every six hours and open tickets of at most twelve hours; they never leave the process. A client is not asked
/// for its certificate when it resumes, so its ticket expires with the certificate at the latest.
///
/// All workers share the keys, since a client may return to another worker. Each full or resumed handshake takes a read lock.
#[derive(Debug)]
pub struct Tickets {
    keys: Option<Arc<dyn ProducesTickets>>,
    /// Seconds by which tests move the clock.
    #[cfg(test)]
    pub(super) ahead: std::sync::atomic::AtomicU64,
}

impl Tickets {
    /// New keys. If the system has no random numbers, there are no keys and no tickets.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys: Ticketer::new().ok(),
            #[cfg(test)]
            ahead: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// No keys, and no tickets.
    pub(super) fn none() -> Self {
        Self {
            keys: None,
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

/// When the first certificate in a session expires; never, if there is none. None: they cannot be read, so there must be no ticket.
/// Certificates that have expired already were not needed to verify the client.
fn expiry(session: &[u8], now: u64) -> Option<u64> {
    first_end(certificates(session)?.into_iter(), now)
}

/// When the first of these certificates expires that have not; never, if there is none. None: they cannot be read.
pub(super) fn first_end<'a>(certificates: impl Iterator<Item = &'a [u8]>, now: u64) -> Option<u64> {
    let ends = certificates.map(not_after).collect::<Option<Vec<_>>>()?;
    Some(ends.into_iter().filter(|end| *end >= now).min().unwrap_or(u64::MAX))
}

/// The client's certificates in a session as rustls encodes it: server name, version, suite, secret, whether the secret is bound to
/// the handshake (RFC 7627), then a list as in RFC 5246 section 7.4.2. Server name and list are optional.
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

/// A vector whose length takes `length` bytes (RFC 8446 section 3.4).
fn vector<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let count = take(rest, length)?.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
    take(rest, count)
}

/// The last second in which a certificate is valid.
fn not_after(certificate: &[u8]) -> Option<u64> {
    let certificate = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    // At the end of time each certificate has expired, and the check of the expiry comes before all others.
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    match certificate.verify_for_usage(&[], &[], &[], end, KeyUsage::client_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}
