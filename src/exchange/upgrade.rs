//! Upgrades and the extended CONNECT (RFC 8441): what is offered to an origin, and whether clients may ask for it. Not here: the answer
//! (`response`), and what goes through a tunnel.

use super::{Engine, Failure};
use crate::http::{BodyFraming, Method, RequestHead, UpgradeOffer, WebSocketAccept, WebSocketKey};
use crate::id::{ClusterId, ListenerId};
use crate::snapshot::Snapshot;
use crate::uring::Driver;

impl<D: Driver> Engine<D> {
    /// What is offered in Upgrade to the origin. `must_share`: it speaks HTTP/2, where a tunnel is the one thing that can be offered.
    pub(super) fn offer(
        &mut self,
        request: &RequestHead,
        head: &[u8],
        must_share: bool,
    ) -> Result<Option<UpgradeOffer>, Failure> {
        let Some(mut offer) = UpgradeOffer::of(request, head) else {
            // A client that has sent CONNECT takes no other answer.
            return if request.is_extended_connect { Err(Failure::UnknownProtocol) } else { Ok(None) };
        };
        if !must_share {
            if WebSocketKey::is_missing(request, head) {
                offer.key = Some(WebSocketKey::new([(); 4].map(|()| self.balancer.random())));
            }
            return Ok(Some(offer));
        }
        if request.is_extended_connect {
            return Ok(Some(offer));
        }
        if request.method != Method::Get || request.body != BodyFraming::None || !offer.is_tunnel() {
            // Whoever offers another protocol may be answered as if it did not.
            return Ok(None);
        }
        if offer.is_websocket() {
            offer.accept = Some(WebSocketAccept::to(request, head).ok_or(Failure::WebSocketKey)?);
        }
        Ok(Some(offer))
    }

    /// Whether some route of a listener takes an extended CONNECT (RFC 8441), as far as is known of its origins.
    #[must_use]
    pub fn takes_tunnels(&self, snapshot: &Snapshot, listener: ListenerId) -> bool {
        let tunnels = snapshot.tunnels(listener);
        let takes = |id: &ClusterId| {
            let cluster = snapshot.clusters.get(id.index());
            cluster.is_some_and(|it| it.endpoints.iter().any(|endpoint| self.upstreams.takes_tunnels(endpoint.id)))
        };
        tunnels.always || (self.known_tunnels() > 0 && tunnels.clusters.iter().any(takes))
    }

    /// How often an origin was found that takes an extended CONNECT.
    #[must_use]
    pub fn known_tunnels(&self) -> u32 {
        self.upstreams.known_tunnels()
    }
}
