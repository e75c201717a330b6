//! The handshake of WebSocket (RFC 6455 section 4) towards an origin that speaks HTTP/1.1, for a client that speaks HTTP/2 and has no
//! part in it (RFC 8441 section 5). Not here: what goes through the tunnel.

use sha1::{Digest, Sha1};

use crate::http::RequestHead;

/// What is hashed behind the key (RFC 6455 section 1.3).
const GUID: &[u8; 36] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key as it is sent.
const KEY_BYTES: usize = 24;
/// Bytes of the answer to it.
const ACCEPT_BYTES: usize = 28;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key that an origin has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketKey([u8; KEY_BYTES]);

impl WebSocketKey {
    /// A key of random bytes.
    pub(super) fn new(random: [u32; 4]) -> Self {
        let mut bytes = [0; 16];
        bytes.as_chunks_mut().0.iter_mut().zip(random).for_each(|(to, from)| *to = from.to_ne_bytes());
        Self(base64(&bytes))
    }

    /// Whether a request needs one: it asks for WebSocket, and brings none.
    pub(super) fn is_missing(request: &RequestHead, head: &[u8]) -> bool {
        let asks = request.upgrade.is_some_and(|protocols| protocols.of(head).eq_ignore_ascii_case(b"websocket"));
        // Some clients send one all the same; it goes through as it would over HTTP/1.1.
        let brings = || request.fields.named(head, b"sec-websocket-key").next().is_some();
        asks && request.is_extended_connect && !brings()
    }

    /// The value of Sec-WebSocket-Key.
    pub(super) fn text(&self) -> &[u8] {
        &self.0
    }

    /// Whether the value of Sec-WebSocket-Accept answers it: the origin is no other server that repeats what it gets.
    pub(super) fn is_answered_by(&self, accept: &[u8]) -> bool {
        let hash = Sha1::new().chain_update(self.0).chain_update(GUID).finalize();
        let expected: [u8; ACCEPT_BYTES] = base64(&hash);
        accept == expected
    }
}

/// Base64 with padding (RFC 4648 section 4). `N` is the length of the text of so many bytes.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut text = [b'='; N];
    for (to, from) in text.chunks_mut(4).zip(bytes.chunks(3)) {
        let bits = from.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - from.len()));
        let digits = to.iter_mut().take(from.len() + 1).zip([18, 12, 6, 0]);
        digits.for_each(|(to, shift)| *to = ALPHABET[(bits >> shift & 63) as usize]);
    }
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
        assert_eq!(WebSocketKey(base64(b"the sample nonce")), key);
        assert_ne!(WebSocketKey::new([1, 2, 3, 4]), WebSocketKey::new([1, 2, 3, 5]));
    }
}
