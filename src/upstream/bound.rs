//! Connections that belong to a client connection, and what endpoints are told of that one. Not here: when a connection is to belong to
//! one (`exchange`).

use super::Upstreams;
use crate::id::EndpointId;
use crate::proxy_protocol::{Ends, HeaderBytes, Version};
use crate::uring::{Driver, Ring};

impl Upstreams {
    /// The idle connection that belongs to a client connection, and its endpoint.
    #[must_use]
    pub fn bound_to(&self, downstream: u32) -> Option<(u32, EndpointId)> {
        let index = (*self.bound.get(downstream as usize)?)?;
        let connection = self.table.get(index as usize).filter(|connection| connection.exchange.is_none())?;
        Some((index, connection.endpoint))
    }

    /// Makes a connection belong to a client connection until one of them ends: no other client may send on it (RFC 4559 section 6).
    /// The connection that belonged to it before is closed.
    pub fn bind<D: Driver>(&mut self, ring: &mut Ring<D>, index: u32, downstream: u32) {
        let slot = downstream as usize;
        if self.bound.len() <= slot {
            self.bound.resize(slot + 1, None);
        }
        let before = self.bound[slot].replace(index).filter(|before| *before != index);
        self.table[index as usize].bound = Some(downstream);
        if let Some(before) = before {
            self.discard(ring, before);
        }
    }

    /// Takes in what endpoints are told of a client connection.
    pub fn introduce(&mut self, downstream: u32, ends: Ends) {
        let slot = downstream as usize;
        if self.ends.len() <= slot {
            self.ends.resize(slot + 1, Ends::UNKNOWN);
        }
        self.ends[slot] = ends;
    }

    /// The header that tells of a client connection.
    #[must_use]
    pub fn header(&self, version: Version, downstream: u32) -> HeaderBytes {
        HeaderBytes::new(version, self.ends.get(downstream as usize).copied().unwrap_or(Ends::UNKNOWN))
    }

    /// Takes in that a client connection has ended: closes the connection that belonged to it.
    pub fn unbind<D: Driver>(&mut self, ring: &mut Ring<D>, downstream: u32) {
        let Some(index) = self.bound.get_mut(downstream as usize).and_then(Option::take) else { return };
        self.discard(ring, index);
    }
}
