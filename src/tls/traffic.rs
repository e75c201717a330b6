//! Records after the handshake: opened where they were received, sealed where their content lies. Not here: the handshake
//! (`session`), what protects a record (`record`).

use std::time::Duration;

use rustls::{AlertDescription, ContentType, ProtocolVersion, SupportedCipherSuite};

use super::handshake::Handshake;
use super::keys::Keys;
use super::record::{BACK_MAX, CONTENT_MAX, FRONT_MAX, HEADER, Header, Key};
use super::{Agreement, Error, Wire};
use crate::buffer::{Buffers, Lease, Queue};
use crate::limits;

/// A message that may follow a handshake (RFC 8446 section 4.6.3), without its last byte: 1 asks for one in return.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];
/// The first byte of the other one (section 4.6.1), which is a server's alone.
const TICKET: u8 = 4;
/// By which a server of TLS 1.2 asks for a new handshake, if the client likes one (RFC 5246 section 7.4.1.1).
const HELLO_REQUEST: [u8; 4] = [0; 4];
/// Records before the bound of a key at which a connection is no longer kept, where it cannot be given a new one.
const WORN_RECORDS: u64 = 1 << 16;

/// Both directions of a connection whose handshake is over.
pub(super) struct Traffic {
    rx: Key,
    tx: Key,
    /// Makes the next keys.
    keys: Keys,
    /// The beginning of a ticket.
    ticket: Option<Lease>,
    /// Records that a key may seal.
    record_limit: u64,
    /// The peer has asked for a new key, and what is sealed next has to come under it.
    key_update_owed: bool,
    /// What the socket has sent when our last key update has left.
    key_update_end: u64,
    /// What records without content have cost, less what content and time have paid for.
    debt: u32,
    /// When time has paid last.
    paid: Duration,
}

impl Traffic {
    /// Takes over from rustls.
    ///
    /// # Errors
    /// When the handshake is not over.
    pub(super) fn after(handshake: Handshake) -> Result<(Self, Agreement), rustls::Error> {
        let (secrets, keys, agreement) = handshake.finish()?;
        let [rx, tx] = [secrets.rx, secrets.tx].map(|(count, secrets)| Key::new(keys.version(), count, &secrets));
        let (record_limit, ticket) = (record_limit(keys.suite()), None);
        let (key_update_owed, key_update_end, debt, paid) = (false, 0, 0, Duration::ZERO);
        Ok((
            Self { rx: rx?, tx: tx?, keys, ticket, record_limit, key_update_owed, key_update_end, debt, paid },
            agreement,
        ))
    }

    /// Whether part of a ticket has arrived.
    pub(super) fn holds_part(&self) -> bool {
        self.ticket.is_some()
    }

    /// Whether the connection must soon end: TLS 1.2 has no way to a new key.
    pub(super) fn is_worn(&self) -> bool {
        !self.is_tls13() && self.tx.count() >= self.record_limit.saturating_sub(WORN_RECORDS)
    }

    /// Opens the records in `held` and `received` and appends their content to `plain`; `held` keeps the beginning of the next
    /// one. True: the peer sends no more.
    ///
    /// # Errors
    /// When the peer breaks the protocol, or no buffer is free for a record that came in pieces.
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

    /// Takes a record that brings no content. True: the peer sends no more.
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
                // TLS 1.2 has alerts that are only warnings.
                _ if level == 1 && !self.is_tls13() => Ok(false),
                _ => Err(Error::Refused),
            },
            (ContentType::Handshake, [_, ..]) if self.is_tls13() => self.take_messages(wire, content).map(|()| false),
            (ContentType::Handshake, content) if content == HELLO_REQUEST && self.keys.is_client() => {
                self.send_record(wire, ContentType::Alert, &[1, u8::from(AlertDescription::NoRenegotiation)])?;
                Ok(false)
            }
            // A new handshake on the same connection (renegotiation) among them.
            _ => Err(Error::Unexpected),
        }
    }

    /// Takes messages that follow a handshake of TLS 1.3: tickets, several in a record or one in several, and changes of key.
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
                    // Each costs a key, however many come in a record.
                    self.charge(wire)?;
                    self.keys.take_ticket(ticket).map_err(|_| Error::Malformed)?;
                    rest = after;
                }
                // What would stand behind one belongs under the next key.
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
            // What a record holds fits an empty buffer (`limits`).
            let _ = begun.append(content);
        }
        begun.advance(begun.len() - left);
        self.ticket = Some(begun);
        Ok(())
    }

    /// Opens what follows with the next key of the peer, which may ask for one of ours in return.
    fn change_key(&mut self, wire: &mut Wire<'_>, asks: bool) -> Result<(), Error> {
        let (count, secrets) = self.keys.update_rx().map_err(|_| Error::Unexpected)?;
        self.rx = self.key(count, &secrets)?;
        self.key_update_owed |= asks;
        // Who asks again before it has taken the answer gets no second one until there is something to seal.
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

    /// Seals and queues everything of `out`.
    ///
    /// # Errors
    /// When no buffer is free, or the key may seal no more.
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

    /// Sends an alert (RFC 8446 section 6).
    ///
    /// # Errors
    /// When no buffer is free.
    pub(super) fn alert(&mut self, wire: &mut Wire<'_>, alert: AlertDescription) -> Result<(), Error> {
        let level = if alert == AlertDescription::CloseNotify { 1 } else { 2 };
        self.send_record(wire, ContentType::Alert, &[level, u8::from(alert)])
    }

    /// Tells the peer that our records come under the next key from now on, and takes that.
    fn update_keys(&mut self, wire: &mut Wire<'_>) -> Result<(), Error> {
        if !self.is_tls13() {
            return Err(Error::Worn);
        }
        let [kind, a, b, c] = KEY_UPDATE;
        self.send_record(wire, ContentType::Handshake, &[kind, a, b, c, 0])?;
        let (count, secrets) = self.keys.update_tx().map_err(|_| Error::Worn)?;
        self.tx = self.key(count, &secrets)?;
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

    fn key(&self, count: u64, secrets: &rustls::ConnectionTrafficSecrets) -> Result<Key, Error> {
        Key::new(self.keys.version(), count, secrets).map_err(|_| Error::Unexpected)
    }

    fn is_tls13(&self) -> bool {
        self.keys.version() == ProtocolVersion::TLSv1_3
    }
}

/// Records that a key may seal (RFC 8446 section 5.5).
fn record_limit(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
    }
}

/// Appends up to `missing` bytes of what was received to `part`, where there is room, else both to a fresh buffer, which holds
/// any record.
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

/// Appends to what is held of something that has to lie in one run, in a larger buffer if need be.
///
/// # Errors
/// When none is free, or there is none so large.
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

/// The content of the next record: a piece that can be sealed where it lies, or a copy of those that follow and cannot.
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
