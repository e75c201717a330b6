//! What a request offers in Upgrade, and what stands for it over HTTP/2 (RFC 8441). Not here: the grammar of Upgrade (`connection`).

use super::websocket::{WebSocketAccept, WebSocketKey, is_websocket};
use super::{RequestHead, ResponseHead};
use crate::limits::UPGRADE_BYTES;

/// Protocols for which an extended CONNECT is defined besides WebSocket (RFC 9298, RFC 9484): a client of HTTP/1.1 that asks for one has
/// no use for an answer that ignores that.
const TUNNELS: [&[u8]; 2] = [b"connect-udp", b"connect-ip"];

/// The protocols offered in Upgrade, to which the origin's choice is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpgradeOffer {
    text: [u8; UPGRADE_BYTES],
    length: u8,
    /// What an origin of HTTP/1.1 has to answer, if the client has no key of its own.
    pub key: Option<WebSocketKey>,
    /// What a client of HTTP/1.1 is answered where the origin speaks HTTP/2 and is asked for no answer.
    pub accept: Option<WebSocketAccept>,
}

impl UpgradeOffer {
    /// The protocols that are offered to the origin. None: the request offers none, or more than `limits::UPGRADE_BYTES`.
    #[must_use]
    pub fn of(request: &RequestHead, head: &[u8]) -> Option<Self> {
        let protocols = request.upgrade?.of(head);
        let mut offer = Self { length: protocols.len().try_into().ok()?, ..Self::default() };
        offer.text.get_mut(..protocols.len())?.copy_from_slice(protocols);
        Some(offer)
    }

    /// Whether none is offered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether a protocol is among them.
    #[must_use]
    pub fn contains(&self, protocol: &[u8]) -> bool {
        let mut offered = self.protocols().split(|&byte| byte == b',');
        !protocol.is_empty() && offered.any(|one| one.trim_ascii().eq_ignore_ascii_case(protocol))
    }

    /// Whether it is WebSocket that is offered.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        is_websocket(self.protocols())
    }

    /// Whether a client of HTTP/1.1 asks for a tunnel and nothing else, so that it becomes an extended CONNECT.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.is_websocket() || TUNNELS.iter().any(|tunnel| self.protocols().eq_ignore_ascii_case(tunnel))
    }

    /// Writes the head of a response of HTTP/1.1 that accepts the offer: it says what `response` says, which accepts an extended CONNECT,
    /// and has the head `head`. Returns its length; None: `out` is too short.
    pub fn write_accepted(&self, response: &ResponseHead, head: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        let mut put = |parts: &[&[u8]]| {
            parts.iter().try_for_each(|part| {
                out.get_mut(at..at + part.len())?.copy_from_slice(part);
                at += part.len();
                Some(())
            })
        };
        put(&[b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ", self.protocols(), b"\r\n"])?;
        if let Some(accept) = &self.accept {
            put(&[b"sec-websocket-accept: ", accept.text(), b"\r\n"])?;
        }
        for field in response.fields.iter() {
            let name = field.name.of(head);
            // It has no content, and the origin has seen no key.
            let is_void =
                [&b"content-length"[..], b"sec-websocket-accept"].iter().any(|it| name.eq_ignore_ascii_case(it));
            if !is_void {
                put(&[name, b": ", field.value.of(head), b"\r\n"])?;
            }
        }
        put(&[b"\r\n"])?;
        Some(at)
    }

    fn protocols(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or_default()
    }
}
