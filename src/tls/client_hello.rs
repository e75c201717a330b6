//! The ClientHello with which a client of TLS begins (RFC 8446 section 4.1.2), read without a session: the name that the client asks for
//! (RFC 6066 section 3) and the protocols that it offers (RFC 7301). Sans-I/O: nothing is kept between calls. Not here: handshakes
//! (`session`), and what is routed by it (`downstream`).

use crate::limits::{CLIENT_HELLO_BYTES, CLIENT_HELLO_WIRE_BYTES};

#[cfg(test)]
mod tests;

/// Type of a record with a handshake message (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// Major version of every record and every ClientHello: that of SSL 3.0.
const MAJOR: u8 = 3;
/// Bytes of a record before its content.
const RECORD_HEADER: usize = 5;
/// Longest content of a record that is not encrypted.
const RECORD_BYTES: usize = 16 * 1024;
/// Type of the message.
const CLIENT_HELLO: u8 = 1;
/// Bytes of a message before its body.
const MESSAGE_HEADER: usize = 4;
/// Bytes of `random`.
const RANDOM_BYTES: usize = 32;
/// Longest session id.
const SESSION_ID_BYTES: usize = 32;
/// Type of the extension with the name.
const SERVER_NAME: u16 = 0;
/// Type of a name that is a host.
const HOST_NAME: u8 = 0;
/// Longest name of a host (RFC 1035 section 2.3.4), and a final dot.
const NAME_BYTES: usize = 254;
/// Type of the extension with the protocols.
const PROTOCOLS: u16 = 16;

/// What a client asks for before anything is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The name of the host, as sent: in any case; letters, digits, `-`, `_` and `.`. Empty: it names none.
    pub name: &'a str,
    /// Names behind their lengths, as they are sent; valid.
    protocols: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// One that asks for a name, if it is not empty, and offers `protocols`, each behind its length. None: no client may send that.
    #[must_use]
    pub fn of(name: &'a str, protocols: &'a [u8]) -> Option<Self> {
        let valid = name.is_empty() || host_name(name.as_bytes()).is_ok();
        valid.then_some(Self { name, protocols })
    }

    /// The protocols that it offers, those that it likes best first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.protocols;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first()?;
            let (protocol, behind) = behind.split_at_checked(usize::from(*length))?;
            rest = behind;
            Some(protocol)
        })
    }
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// They may become a ClientHello, once there are at least so many bytes.
    Partial(usize),
    /// The client does not speak TLS.
    Absent,
    /// A ClientHello.
    Hello(ClientHello<'a>),
}

/// Why bytes that begin like TLS are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// A record has another type or version, is empty or too long.
    Record,
    /// The first message is another one.
    Message,
    /// It is longer than `limits::CLIENT_HELLO_BYTES`, or in so many records that it takes `limits::CLIENT_HELLO_WIRE_BYTES`.
    TooLarge,
    /// The connection ends before it is complete.
    Cut,
    /// A field is longer than what holds it, or has a length that it cannot have.
    Length,
    /// Its version is none of TLS.
    Version,
    /// An extension is there twice.
    Duplicate,
    /// The name is none of a host.
    Name,
    /// The protocols are no list of names.
    Protocols,
}

impl HelloError {
    /// What is wrong, for an operator.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Record => "a record of TLS is malformed",
            Self::Message => "the first message is no ClientHello",
            Self::TooLarge => "the ClientHello is too large",
            Self::Cut => "the ClientHello is cut off",
            Self::Length => "a field of the ClientHello has a wrong length",
            Self::Version => "the version in the ClientHello is none of TLS",
            Self::Duplicate => "an extension of the ClientHello is there twice",
            Self::Name => "the name in the ClientHello is none of a host",
            Self::Protocols => "the protocols in the ClientHello are malformed",
        }
    }
}

/// Whether a connection begins as one of TLS does. False where too few bytes are there to say so.
#[must_use]
pub fn is_tls(bytes: &[u8]) -> bool {
    bytes.starts_with(&[HANDSHAKE, MAJOR])
}

/// Reads the ClientHello that `bytes` begin with, however many records it is in; what follows it is not looked at. `joined` is memory, of
/// `limits::CLIENT_HELLO_BYTES`, for one that is in several.
///
/// # Errors
/// They begin like TLS, and are no ClientHello.
pub fn parse<'a>(bytes: &'a [u8], joined: &'a mut [u8]) -> Result<Parsed<'a>, HelloError> {
    match bytes {
        [] => return Ok(Parsed::Partial(1)),
        [HANDSHAKE] => return Ok(Parsed::Partial(2)),
        [HANDSHAKE, MAJOR, ..] => {}
        _ => return Ok(Parsed::Absent),
    }
    let (mut rest, mut length) = (bytes, 0);
    loop {
        let missing = message_bytes(&joined[..length])? - length;
        let Some(Record { content, lacks, behind }) = record(rest)? else {
            return partial(bytes.len() + RECORD_HEADER - rest.len() + missing);
        };
        if length == 0 && content.len() >= message_bytes(content)? {
            // In one record: nothing has to be joined.
            return hello(&content[MESSAGE_HEADER..message_bytes(content)?]).map(Parsed::Hello);
        }
        let copied = content.len().min(joined.len() - length);
        joined[length..][..copied].copy_from_slice(&content[..copied]);
        length += copied;
        let whole = message_bytes(&joined[..length])?;
        if length >= whole {
            let message: &'a [u8] = joined;
            return hello(&message[MESSAGE_HEADER..whole]).map(Parsed::Hello);
        }
        if lacks {
            return partial(bytes.len() + whole - length);
        }
        rest = behind;
    }
}

/// One record, as far as it has come.
struct Record<'a> {
    content: &'a [u8],
    /// A part of the content has not come.
    lacks: bool,
    behind: &'a [u8],
}

/// The record that `bytes` begin with; None: not even its header is whole.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, HelloError> {
    let valid = |at: usize, value: u8| bytes.get(at).is_none_or(|byte| *byte == value);
    if !valid(0, HANDSHAKE) || !valid(1, MAJOR) {
        return Err(HelloError::Record);
    }
    let Some(([_, _, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    // RFC 8446 section 5.1: no part of a handshake message is empty.
    if length == 0 || length > RECORD_BYTES {
        return Err(HelloError::Record);
    }
    let (content, behind) = rest.split_at(length.min(rest.len()));
    Ok(Some(Record { content, lacks: content.len() < length, behind }))
}

/// Bytes of the message that begins so, at least.
fn message_bytes(start: &[u8]) -> Result<usize, HelloError> {
    if start.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::Message);
    }
    let Some([_, a, b, c]) = start.first_chunk::<MESSAGE_HEADER>() else { return Ok(MESSAGE_HEADER) };
    let length = MESSAGE_HEADER + u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if length > CLIENT_HELLO_BYTES { Err(HelloError::TooLarge) } else { Ok(length) }
}

/// The answer to bytes that are too few.
fn partial<'a>(needed: usize) -> Result<Parsed<'a>, HelloError> {
    if needed > CLIENT_HELLO_WIRE_BYTES { Err(HelloError::TooLarge) } else { Ok(Parsed::Partial(needed)) }
}

/// Reads the body of the message.
fn hello(body: &[u8]) -> Result<ClientHello<'_>, HelloError> {
    let mut fields = Fields(body);
    if fields.take(2)?.first() != Some(&MAJOR) {
        return Err(HelloError::Version);
    }
    fields.take(RANDOM_BYTES)?;
    let session_id = fields.short()?;
    let (suites, compression) = (fields.long()?, fields.short()?);
    let odd = suites.0.is_empty() || suites.0.len() % 2 != 0;
    if session_id.0.len() > SESSION_ID_BYTES || odd || compression.0.is_empty() {
        return Err(HelloError::Length);
    }
    if fields.0.is_empty() {
        // TLS 1.2 and before it may have no extensions.
        return Ok(ClientHello::default());
    }
    let mut extensions = fields.long()?;
    if !fields.0.is_empty() {
        return Err(HelloError::Length);
    }
    let (mut name, mut protocols) = (None, None);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        let again = match kind {
            SERVER_NAME => name.replace(server_name(content)?).is_some(),
            PROTOCOLS => protocols.replace(protocol_list(content)?).is_some(),
            _ => false,
        };
        if again {
            return Err(HelloError::Duplicate);
        }
    }
    Ok(ClientHello { name: name.unwrap_or_default(), protocols: protocols.unwrap_or_default() })
}

/// The name in a list of names, which has one of a kind.
fn server_name(mut content: Fields<'_>) -> Result<&str, HelloError> {
    let mut list = content.long()?;
    if list.0.is_empty() || !content.0.is_empty() {
        return Err(HelloError::Name);
    }
    let mut host = None;
    while !list.0.is_empty() {
        // RFC 6066 section 3: a name of another kind begins with its length, too.
        let (kind, name) = (list.byte()?, list.long()?);
        if kind == HOST_NAME && host.replace(host_name(name.0)?).is_some() {
            return Err(HelloError::Duplicate);
        }
    }
    host.ok_or(HelloError::Name)
}

/// A name as it may be that of a host.
fn host_name(name: &[u8]) -> Result<&str, HelloError> {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let valid = (1..=NAME_BYTES).contains(&name.len()) && name != b"." && name.iter().all(known);
    std::str::from_utf8(name).ok().filter(|_| valid).ok_or(HelloError::Name)
}

/// The content of a list of protocols, none of which is empty.
fn protocol_list(mut content: Fields<'_>) -> Result<&[u8], HelloError> {
    let list = content.long().map_err(|_| HelloError::Protocols)?;
    if list.0.is_empty() || !content.0.is_empty() {
        return Err(HelloError::Protocols);
    }
    let mut names = Fields(list.0);
    while !names.0.is_empty() {
        if names.short().map_err(|_| HelloError::Protocols)?.0.is_empty() {
            return Err(HelloError::Protocols);
        }
    }
    Ok(list.0)
}

/// Bytes from which fields are taken off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HelloError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, HelloError> {
        let (byte, rest) = self.0.split_first().ok_or(HelloError::Length)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u16, HelloError> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A field behind its length, of one byte.
    fn short(&mut self) -> Result<Self, HelloError> {
        let length = self.byte()?;
        self.take(usize::from(length)).map(Self)
    }

    /// A field behind its length, of two bytes.
    fn long(&mut self) -> Result<Self, HelloError> {
        let length = self.number()?;
        self.take(usize::from(length)).map(Self)
    }
}
