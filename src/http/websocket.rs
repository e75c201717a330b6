//! The handshake of WebSocket (RFC 6455 section 4) with the side that speaks HTTP/1.1, where the other one speaks HTTP/2 and has no part
//! in it (RFC 8441 section 5). Not here: what goes through the tunnel.

use sha1::{Digest, Sha1};

use super::RequestHead;
use crate::printable::{BASE64_DIGITS, base64};

/// What is hashed behind the key (RFC 6455 section 1.3).
const GUID: &[u8; 36] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key as it is sent.
const KEY_BYTES: usize = 24;
/// Bytes of the answer to it.
const ACCEPT_BYTES: usize = 28;

/// A key that an origin has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketKey([u8; KEY_BYTES]);

impl WebSocketKey {
    /// A key of random bytes.
    #[must_use]
    pub fn new(random: [u32; 4]) -> Self {
        let mut bytes = [0; 16];
        bytes.as_chunks_mut().0.iter_mut().zip(random).for_each(|(to, from)| *to = from.to_ne_bytes());
        Self(text_of(&bytes))
    }

    /// Whether a request needs one: it asks for WebSocket, and brings none.
    #[must_use]
    pub fn is_missing(request: &RequestHead, head: &[u8]) -> bool {
        let asks = request.upgrade.is_some_and(|protocols| is_websocket(protocols.of(head)));
        // Some clients send one all the same; it goes through as it would over HTTP/1.1.
        let brings = || request.fields.named(head, b"sec-websocket-key").next().is_some();
        asks && request.is_extended_connect && !brings()
    }

    /// The value of Sec-WebSocket-Key.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.0
    }

    /// Whether the value of Sec-WebSocket-Accept answers it: the origin is no other server that repeats what it gets.
    #[must_use]
    pub fn is_answered_by(&self, accept: &[u8]) -> bool {
        accept == WebSocketAccept::of(&self.0).text()
    }
}

/// The answer to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketAccept([u8; ACCEPT_BYTES]);

impl WebSocketAccept {
    /// The answer to the key of a request, for an origin that is not asked for one. None: it brings no valid key, or several (RFC 6455
    /// section 4.2.1).
    #[must_use]
    pub fn to(request: &RequestHead, head: &[u8]) -> Option<Self> {
        let mut keys = request.fields.named(head, b"sec-websocket-key");
        let (key, others) = (keys.next()?.value.of(head).trim_ascii(), keys.next());
        let key = <&[u8; KEY_BYTES]>::try_from(key).ok()?;
        let (digits, padding) = key.split_at(KEY_BYTES - 2);
        let is_valid = padding == b"==" && digits.iter().all(|digit| BASE64_DIGITS.contains(digit));
        (is_valid && others.is_none()).then(|| Self::of(key))
    }

    fn of(key: &[u8; KEY_BYTES]) -> Self {
        Self(text_of(&Sha1::new().chain_update(key).chain_update(GUID).finalize()))
    }

    /// The value of Sec-WebSocket-Accept.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.0
    }
}

/// Whether WebSocket is the only protocol that Upgrade offers.
pub(super) fn is_websocket(protocols: &[u8]) -> bool {
    protocols.eq_ignore_ascii_case(b"websocket")
}

/// Bytes in Base64. `N` is the length of the text of so many.
fn text_of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut text = [0; N];
    text.iter_mut().zip(base64(bytes)).for_each(|(to, from)| *to = from);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_answered_as_the_rfc_says() {
        let key = WebSocketKey(*b"dGhlIHNhbXBsZSBub25jZQ==");
        assert!(key.is_answered_by(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!key.is_answered_by(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOO=") && !key.is_answered_by(b""));
        assert_eq!(WebSocketKey(text_of(b"the sample nonce")), key);
        assert_ne!(WebSocketKey::new([1, 2, 3, 4]), WebSocketKey::new([1, 2, 3, 5]));
    }
}
