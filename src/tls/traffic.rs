//! Records after the handshake, opened in the buffers that received them, sealed in those that hold their content. Not here: the
//! handshake (`session`), the protection of a record (`record`).

use std::time::Duration;

use rustls::{AlertDescription, ContentType, ProtocolVersion, SupportedCipherSuite};

use super::handshake::Handshake;
use super::keys::Keys;
use super::record::{BACK_MAX, CONTENT_MAX, FRONT_MAX, HEADER, Header, Key};
use super::{Agreement, Error, Wire};
use crate::buffer::{Buffers, Lease, Queue};
use crate::limits;

/// KeyUpdate (RFC 8446 section 4.6.3) without its last byte, which is 1 to request an update in return.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// Type of NewSessionTicket (RFC 8446 section 4.6.1), which only servers send.
const TICKET: u8 = 4;
/// HelloRequest, by which a server of TLS 1.2 asks for a new handshake; the client may decline (RFC 5246 section 7.4.1.1).
const HELLO_REQUEST: [u8; 4] = [0; 4];
/// Distance to a key's limit, in records, from which a connection without key updates is no longer reused.
const WORN_RECORDS: u64 = 1 << 16;

/// Both directions of a connection whose handshake is complete.
pub(super) struct Traffic {
    rx: Key,
    tx: Key,
    /// Derives the next keys.
    keys: Keys,
    /// An incomplete ticket.
    ticket: Option<Lease>,
    /// Most records that a key may seal.
    record_limit: u64,
    /// Whether the peer has requested a key update, which has to precede the next record.
    key_update_owed: bool,
    /// The value of `Wire::taken` at which our last key update has been sent.
    key_update_end: u64,
    /// Whether we have sent close_notify, after which no key update may follow (RFC 8446 section 6.1).
    finished: bool,
    /// The alert by which the peer has ended the connection.
    refusal: Option<AlertDescription>,
    /// Charges for records without content, less credit for content and time.
    debt: u32,
    /// When time was credited last.
    paid: Duration,
}

impl Traffic {
    /// The traffic after a complete handshake.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub(super) fn after(handshake: Handshake) -> Result<(Self, Agreement), rustls::Error> {
        let (secrets, keys, agreement) = handshake.finish()?;
        let [rx, tx] = [secrets.rx, secrets.tx].map(|(count, secrets)| Key::new(keys.version(), count, &secrets));
        let traffic = Self {
            rx: rx?,
            tx: tx?,
            record_limit: record_limit(keys.suite()),
            keys,
            ticket: None,
            key_update_owed: false,
            key_update_end: 0,
            finished: false,
            refusal: None,
            debt: 0,
            paid: Duration::ZERO,
        };
        Ok((traffic, agreement))
    }

    /// The incomplete ticket that has arrived.
    pub(super) fn ticket(&self) -> Option<&Lease> {
        self.ticket.as_ref()
    }

    /// The alert by which the peer has ended the connection.
    pub(super) fn refusal(&self) -> Option<AlertDescription> {
        self.refusal
    }

    /// Whether the connection must soon end, because TLS 1.2 has no key updates.
    pub(super) fn is_worn(&self) -> bool {
        !self.is_tls13() && self.tx.count() >= self.record_limit.saturating_sub(WORN_RECORDS)
    }

    /// Opens the records in `held` and `received` and appends their content to `plain`. An incomplete record stays in `held`. True:
    /// the peer has sent close_notify.
    ///
    /// # Errors
    /// The peer breaks the protocol, or no buffer is free to join the pieces of a record.
    pub(super) fn open(
        &mut self,
        wire: &mut Wire<'_>,
        held: &mut Option<Lease>,
        received: &mut Queue,
        plain: &mut Queue,
    ) -> Result<bool, Error> {
        while let Some(mut lease) = held.take().or_else(|| received.pop(wire.buffers.pieces())) {
            let header = Header::read(lease.bytes())?;
            let needed = header.map_or(HEADER, |header| HEADER + header.body);
            let Some(header) = header.filter(|_| lease.len() >= needed) else {
                let missing = needed - lease.len();
                *held = Some(complete_record(wire.buffers, lease, missing, received)?);
                if received.is_empty() && held.as_ref().is_some_and(|held| held.len() < needed) {
                    return Ok(false);
                }
                continue;
            };
            let mut record = lease.split_to(needed);
            *held = Some(lease).filter(|rest| !rest.is_empty());
            let (kind, content) = self.rx.open(header, record.bytes_mut())?;
            record.truncate(content.end);
            record.advance(content.start);
            if kind == ContentType::ApplicationData && !record.is_empty() {
                self.debt = self.debt.saturating_sub(record.len() as u32);
                plain.push(wire.buffers.pieces(), record);
            } else if self.on_control_record(wire, kind, record.bytes())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Processes a record without content. True: the peer has sent close_notify.
    fn on_control_record(&mut self, wire: &mut Wire<'_>, kind: ContentType, content: &[u8]) -> Result<bool, Error> {
        self.charge(wire)?;
        match (kind, content) {
            (ContentType::ApplicationData, _) => Ok(false),
            (ContentType::Alert, &[level, alert]) => match AlertDescription::from(alert) {
                AlertDescription::CloseNotify => {
                    self.ticket = None;
                    Ok(true)
                }
                AlertDescription::UserCanceled => Ok(false),
                // Warnings of TLS 1.2.
                _ if level == 1 && !self.is_tls13() => Ok(false),
                alert => {
                    self.refusal = Some(alert);
                    Err(Error::Refused)
                }
            },
            (ContentType::Handshake, [_, ..]) if self.is_tls13() => self.take_messages(wire, content).map(|()| false),
            (ContentType::Handshake, content) if content == HELLO_REQUEST && self.keys.is_client() => {
                self.send_record(wire, ContentType::Alert, &[1, u8::from(AlertDescription::NoRenegotiation)])?;
                Ok(false)
            }
            // This includes renegotiation.
            _ => Err(Error::Unexpected),
        }
    }

    /// Processes messages after a handshake of TLS 1.3: tickets, several in a record or one in several, and key updates.
    fn take_messages(&mut self, wire: &mut Wire<'_>, content: &[u8]) -> Result<(), Error> {
        let mut joined = self.ticket.take();
        if let Some(begun) = &mut joined {
            append_contiguous(wire.buffers, begun, content)?;
        }
        let mut rest = joined.as_ref().map_or(content, Lease::bytes);
        while let [kind, high, middle, low, behind @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            match behind.split_at_checked(length) {
                Some((ticket, after)) if *kind == TICKET && self.keys.is_client() => {
                    // Each ticket costs a key derivation, however many are in a record.
                    self.charge(wire)?;
                    self.keys.take_ticket(ticket).map_err(|_| Error::Malformed)?;
                    rest = after;
                }
                // A key update has to end its record: what follows is under the next key.
                Some(([asks @ 0..=1], [])) if rest.starts_with(&KEY_UPDATE) => {
                    return self.change_key(wire, *asks == 1);
                }
                None if *kind == TICKET => break,
                _ => return Err(Error::Unexpected),
            }
        }
        let left = match rest {
            [] => return Ok(()),
            [TICKET, ..] if self.keys.is_client() => rest.len(),
            _ => return Err(Error::Unexpected),
        };
        let mut begun = joined.or_else(|| wire.buffers.take()).ok_or(Error::Buffers)?;
        if begun.is_empty() {
            // The content of a record fits an empty buffer (`limits`).
            let _ = begun.append(content);
        }
        begun.advance(begun.len() - left);
        self.ticket = Some(begun);
        Ok(())
    }

    /// Takes the next key of the peer's direction. `asks`: the peer requests an update of ours.
    fn change_key(&mut self, wire: &mut Wire<'_>, asks: bool) -> Result<(), Error> {
        self.rx = self.keys.update_rx().map_err(|_| Error::Unexpected)?;
        self.key_update_owed |= asks && !self.finished;
        // If the last update of ours is not sent yet, the next one waits until there is content to seal.
        if self.key_update_owed && wire.taken >= self.key_update_end { self.update_keys(wire) } else { Ok(()) }
    }

    /// Charges for a record that brings no content.
    fn charge(&mut self, wire: &Wire<'_>) -> Result<(), Error> {
        let now = wire.now;
        let time = now.saturating_sub(self.paid).as_millis() / limits::EMPTY_RECORD_INTERVAL.as_millis();
        let paid = u32::try_from(time).unwrap_or(u32::MAX).saturating_mul(limits::EMPTY_RECORD_BYTES);
        if paid > 0 {
            (self.debt, self.paid) = (self.debt.saturating_sub(paid), now);
        }
        self.debt += limits::EMPTY_RECORD_BYTES;
        if self.debt > limits::EMPTY_RECORDS * limits::EMPTY_RECORD_BYTES { Err(Error::Flood) } else { Ok(()) }
    }

    /// Seals and queues all of `out`.
    ///
    /// # Errors
    /// No buffer is free, or the key has reached its limit.
    pub(super) fn send(&mut self, wire: &mut Wire<'_>, out: &mut Queue) -> Result<(), Error> {
        while let Some(piece) = out.pop(wire.buffers.pieces()) {
            let content = next_content(wire.buffers, piece, out)?;
            if self.key_update_owed || self.tx.count() >= self.record_limit {
                self.update_keys(wire)?;
            }
            self.seal(wire, ContentType::ApplicationData, content)?;
        }
        Ok(())
    }

    /// Sends close_notify, after which nothing may be sent.
    ///
    /// # Errors
    /// No buffer is free.
    pub(super) fn finish(&mut self, wire: &mut Wire<'_>) -> Result<(), Error> {
        (self.finished, self.key_update_owed) = (true, false);
        self.alert(wire, AlertDescription::CloseNotify)
    }

    /// Sends an alert (RFC 8446 section 6).
    ///
    /// # Errors
    /// No buffer is free.
    pub(super) fn alert(&mut self, wire: &mut Wire<'_>, alert: AlertDescription) -> Result<(), Error> {
        let level = if alert == AlertDescription::CloseNotify { 1 } else { 2 };
        self.send_record(wire, ContentType::Alert, &[level, u8::from(alert)])
    }

    /// Sends a key update, and takes our next key.
    fn update_keys(&mut self, wire: &mut Wire<'_>) -> Result<(), Error> {
        if !self.is_tls13() {
            return Err(Error::Worn);
        }
        let [kind, a, b, c] = KEY_UPDATE;
        self.send_record(wire, ContentType::Handshake, &[kind, a, b, c, 0])?;
        self.tx = self.keys.update_tx().map_err(|_| Error::Worn)?;
        (self.key_update_owed, self.key_update_end) = (false, wire.end());
        Ok(())
    }

    pub(super) fn send_record(&mut self, wire: &mut Wire<'_>, kind: ContentType, content: &[u8]) -> Result<(), Error> {
        let mut lease = wire.buffers.take().ok_or(Error::Buffers)?;
        let _ = lease.append(content);
        self.seal(wire, kind, lease)
    }

    fn seal(&mut self, wire: &mut Wire<'_>, kind: ContentType, mut content: Lease) -> Result<(), Error> {
        if !self.tx.seal(kind, &mut content) {
            return Err(Error::Buffers);
        }
        wire.send(content);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn limit_after(&mut self, count: u64) {
        self.record_limit = self.tx.count() + count;
    }

    fn is_tls13(&self) -> bool {
        self.keys.version() == ProtocolVersion::TLSv1_3
    }
}

/// Most records that a key may seal (RFC 8446 section 5.5).
fn record_limit(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
    }
}

/// Appends up to `missing` received bytes to `part`, in a fresh buffer if `part` lacks the room. Any record fits a buffer.
fn complete_record(
    buffers: &mut Buffers,
    mut part: Lease,
    mut missing: usize,
    received: &mut Queue,
) -> Result<Lease, Error> {
    while missing > 0
        && let Some(mut next) = received.pop(buffers.pieces())
    {
        if part.spare() < missing {
            let mut fresh = buffers.take().ok_or(Error::Buffers)?;
            let _ = fresh.append(part.bytes());
            part = fresh;
        }
        let count = part.append(&next.bytes()[..next.len().min(missing)]);
        missing -= count;
        next.advance(count);
        received.push_front(buffers.pieces(), next);
    }
    Ok(part)
}

/// Appends to `held`, which has to stay contiguous, in a larger buffer if necessary.
///
/// # Errors
/// No buffer is free, or none is large enough.
pub(super) fn append_contiguous(buffers: &mut Buffers, held: &mut Lease, more: &[u8]) -> Result<(), Error> {
    let length = held.len() + more.len();
    if held.spare() < more.len() {
        let ordinary = buffers.take().filter(|fresh| fresh.spare() >= length);
        let mut fresh = ordinary.or_else(|| buffers.take_large()).ok_or(Error::Buffers)?;
        let _ = fresh.append(held.bytes());
        *held = fresh;
    }
    if held.append(more) < more.len() { Err(Error::TooLong) } else { Ok(()) }
}

/// The content of the next record: a piece that can be sealed in place, or a copy of pieces that cannot.
fn next_content(buffers: &mut Buffers, piece: Lease, out: &mut Queue) -> Result<Lease, Error> {
    let roomy =
        |piece: &Lease| piece.len() <= CONTENT_MAX && piece.headroom() >= FRONT_MAX && piece.spare() >= BACK_MAX;
    let stays = |piece: &Lease| roomy(piece) && piece.len() >= limits::SEAL_PIECE_BYTES;
    if stays(&piece) || (out.is_empty() && roomy(&piece)) {
        return Ok(piece);
    }
    let mut content = buffers.take().ok_or(Error::Buffers)?;
    let mut next = Some(piece);
    while let Some(mut piece) = next {
        let room = CONTENT_MAX - content.len();
        let count = if stays(&piece) && !content.is_empty() { 0 } else { piece.len().min(room) };
        let count = content.append(&piece.bytes()[..count]);
        piece.advance(count);
        let rest = !piece.is_empty();
        out.push_front(buffers.pieces(), piece);
        next = if rest { None } else { out.pop(buffers.pieces()) };
    }
    Ok(content)
}
