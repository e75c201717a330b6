//! The identifier of a request, by which logs of several processes are joined. Not here: where it is written (`request`, `values`).

use super::{Engine, RouteRequest};
use crate::http::FieldName;
use crate::uring::Driver;

/// Most bytes of an identifier that are known of; a longer one is passed on whole.
const BYTES_MAX: usize = 64;

/// The value of X-Request-Id: the one that a trusted peer has sent, or a random one.
#[derive(Clone, Copy)]
pub struct RequestId {
    text: [u8; BYTES_MAX],
    length: u8,
}

impl RequestId {
    /// The identifier with this text, of which no more than 64 bytes are kept.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let length = text.len().min(BYTES_MAX);
        let mut id = Self { text: [0; BYTES_MAX], length: length as u8 };
        id.text[..length].copy_from_slice(&text[..length]);
        id
    }

    /// The text; empty: there is none yet.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self { text: [0; BYTES_MAX], length: 0 }
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.text().escape_ascii())
    }
}

impl<D: Driver> Engine<D> {
    /// The identifier of a request: that of a trusted peer, else a new one.
    pub fn request_id(&mut self, asked: &RouteRequest<'_>) -> RequestId {
        let RouteRequest { request, head, peer, .. } = *asked;
        let field = request.fields.get(FieldName::XRequestId).filter(|_| peer.trusted);
        let told = field.filter(|field| peer.passes(request, head, field)).map(|field| field.value.of(head));
        match told {
            Some(told) if !told.is_empty() => RequestId::new(told),
            _ => self.new_request_id(),
        }
    }

    /// A new identifier: 32 random hexadecimal digits.
    pub fn new_request_id(&mut self) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = RequestId { text: [0; BYTES_MAX], length: 32 };
        for part in id.text[..32].chunks_exact_mut(8) {
            let mut bits = self.balancer.random();
            for digit in part {
                *digit = DIGITS[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        id
    }
}
