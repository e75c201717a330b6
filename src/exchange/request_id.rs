//! The identifier of a request, by which logs of several processes are joined. Not here: where it is written (`request`, `values`).

use super::{Engine, Peer};
use crate::http::{FieldName, RequestHead};
use crate::trace::{Received, Sampling};
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

    /// Forgets the text.
    pub fn clear(&mut self) {
        self.length = 0;
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
    /// Writes the identifier of a request to `id`: that of a trusted peer, else a new one.
    pub fn identify(&mut self, request: &RequestHead, head: &[u8], peer: &Peer, id: &mut RequestId) {
        let field = request.fields.get(FieldName::XRequestId).filter(|_| peer.trusted);
        let told = field.filter(|field| peer.passes(request, head, field)).map(|field| field.value.of(head));
        let made = told.is_none_or(<[u8]>::is_empty);
        match told {
            Some(told) if !made => *id = RequestId::new(told),
            _ => self.make_request_id(id),
        }
        self.trace_request(request, head, peer.trusted, id.text().first_chunk().filter(|_| made));
    }

    /// Decides of which trace a request is part. `own`: random digits that may be the id of a new one.
    #[inline]
    fn trace_request(&mut self, request: &RequestHead, head: &[u8], trusted: bool, own: Option<&[u8; 32]>) {
        let spec = self.snapshot.trace;
        let received = if spec.believes(trusted) { Received::of(request, head, spec.b3) } else { None };
        match received {
            Some(received) => {
                self.trace.continue_with(&received);
                if spec.sampling.is_some() && self.trace.is_sampled() {
                    self.record_span(false);
                }
            }
            None if spec.make => {
                let parent = self.random_digits();
                match own {
                    Some(own) => self.trace.begin(own, &parent),
                    None => {
                        let [first, last] = [self.random_digits(), self.random_digits()];
                        let mut id = [0; 32];
                        id[..16].copy_from_slice(&first);
                        id[16..].copy_from_slice(&last);
                        self.trace.begin(&id, &parent);
                    }
                }
                if let Some(sampling) = spec.sampling {
                    self.sample(sampling);
                }
            }
            None => self.trace.clear(),
        }
    }

    /// Records the trace that begins here, if it is one of those that are recorded.
    #[cold]
    fn sample(&mut self, sampling: Sampling) {
        if self.trace.trace().is_some_and(|id| sampling.records(id)) {
            self.record_span(true);
        }
    }

    /// Records the exchange of the request. `root`: its trace begins with it.
    #[cold]
    fn record_span(&mut self, root: bool) {
        let id = u64::from(self.balancer.random()) << 32 | u64::from(self.balancer.random());
        self.trace.record(id.max(1), root);
    }

    /// 16 random hexadecimal digits; not all zero, which names no span.
    #[inline]
    fn random_digits(&mut self) -> [u8; 16] {
        let mut digits = [0; 16];
        for part in digits.as_chunks_mut().0 {
            *part = hexadecimal(self.balancer.random());
        }
        if digits == [b'0'; 16] {
            digits[15] = b'1';
        }
        digits
    }

    /// Writes a new identifier: 32 random hexadecimal digits.
    pub fn make_request_id(&mut self, id: &mut RequestId) {
        id.length = 32;
        for part in id.text.as_chunks_mut().0.iter_mut().take(4) {
            *part = hexadecimal(self.balancer.random());
        }
    }
}

/// The hexadecimal digits of a number, the least significant first, all at once.
fn hexadecimal(bits: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let bits = u64::from(bits);
    let bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    let bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (bits | bits << 4) & (0x0f * EACH);
    // 1 where a digit is 10 or more.
    let letters = (digits + 6 * EACH) >> 4 & EACH;
    (digits + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn digits_are_hexadecimal() {
        for (bits, digits) in
            [(0, "00000000"), (0xffff_ffff, "ffffffff"), (0x0123_4567, "76543210"), (0x89ab_cdef, "fedcba98")]
        {
            assert_eq!(hexadecimal(bits), digits.as_bytes());
        }
    }
}
