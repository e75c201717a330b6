//! The cookie that keeps a client at its endpoint. Its value is a hash of the endpoint's address, so that it means the same after a
//! restart, to other proxies, and when endpoints come and go; a value that names no endpoint of the cluster means nothing.
//! Not here: whether the endpoint is in use (`view`).

use super::hash::hash;
use super::hashing::lasting_name;
use super::{AffinitySpec, Endpoint};
use crate::id::EndpointId;

/// Digits of a value.
const DIGITS: usize = 16;

/// The cookie of one cluster.
#[derive(Debug)]
pub struct Affinity {
    cookie: Box<str>,
    /// The endpoints by their hashes.
    endpoints: Box<[(u64, EndpointId)]>,
    /// What stands before and behind the value in a field line of Set-Cookie; behind it also over TLS.
    parts: [Box<str>; 3],
}

impl Affinity {
    /// The cookie of a cluster with this name and these endpoints.
    pub(super) fn new(cluster: &str, spec: &AffinitySpec, endpoints: &[Endpoint]) -> Self {
        let AffinitySpec { cookie, ttl } = spec;
        // A value of one cluster means nothing in another one.
        let key = [hash([0, 1], cluster.as_bytes()), hash([2, 3], cookie.as_bytes())];
        let named = |endpoint: &Endpoint| (hash(key, lasting_name(endpoint).as_bytes()), endpoint.id);
        let mut endpoints: Box<[_]> = endpoints.iter().map(named).collect();
        endpoints.sort_unstable();
        let age = ttl.map(|ttl| format!("; Max-Age={}", ttl.as_secs().max(1))).unwrap_or_default();
        let behind = format!("; Path=/{age}; HttpOnly; SameSite=Lax");
        let parts = [format!("set-cookie: {cookie}="), format!("{behind}\r\n"), format!("{behind}; Secure\r\n")];
        Self { cookie: cookie.as_str().into(), endpoints, parts: parts.map(Into::into) }
    }

    /// Its name.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The endpoint that a value names; None: none of the cluster.
    #[must_use]
    pub fn endpoint(&self, value: &[u8]) -> Option<EndpointId> {
        let digits: &[u8; DIGITS] = value.try_into().ok()?;
        let digit = |byte: &u8| match byte {
            b'0'..=b'9' => Some(u64::from(byte - b'0')),
            b'a'..=b'f' => Some(u64::from(byte - b'a' + 10)),
            _ => None,
        };
        let name = digits.iter().try_fold(0, |name, byte| Some(name << 4 | digit(byte)?))?;
        let at = self.endpoints.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        Some(self.endpoints[at].1)
    }

    /// Writes the field line that gives a client the cookie of an endpoint. `secure`: for https alone.
    pub fn write(&self, endpoint: EndpointId, secure: bool, out: &mut Vec<u8>) {
        let Some((name, _)) = self.endpoints.iter().find(|(_, id)| *id == endpoint) else { return };
        let [before, behind, over_tls] = &self.parts;
        out.extend_from_slice(before.as_bytes());
        for shift in (0..DIGITS).rev() {
            let digit = name >> (4 * shift) & 0xf;
            out.push(b"0123456789abcdef"[digit as usize]);
        }
        out.extend_from_slice(if secure { over_tls } else { behind }.as_bytes());
    }
}
