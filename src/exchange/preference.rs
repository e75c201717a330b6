//! Where a request is to go by what it holds: its key, and the cookie that names an endpoint. Not here: whether it can go there
//! (`cluster`).

use std::net::IpAddr;

use super::{Engine, RouteOf, RouteRequest, client};
use crate::cluster::{Affinity, Cluster, HashOn, Preference, key_of};
use crate::http::FieldName;
use crate::id::{ClusterId, EndpointId};
use crate::route::{Request, Scheme, cookie_values, query_values};
use crate::snapshot::ListenerSpec;
use crate::uring::Driver;

/// What an exchange keeps of where its request was to go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) preference: Preference,
    /// Whether the client uses https, so that its cookies may be for that alone. Known where the cluster gives it a cookie.
    secure: bool,
}

/// The cookie that a response brings to its client.
#[derive(Clone, Copy, Debug)]
pub struct AffinityCookie {
    cluster: ClusterId,
    endpoint: EndpointId,
    secure: bool,
}

impl Wanted {
    /// What a request says to a cluster. `listener` is its listener.
    #[inline]
    pub(super) fn of(cluster: &Cluster, asked: &RouteRequest<'_>, listener: &ListenerSpec) -> Self {
        if cluster.hash_on.is_none() && cluster.affinity.is_none() {
            return Self::default();
        }
        Self::read(cluster, asked, listener)
    }

    /// What a connection says to a cluster, of which nothing but its client's address is known.
    pub(super) fn of_client(cluster: &Cluster, client: Option<IpAddr>) -> Self {
        let by_source = cluster.hash_on.as_ref().is_some_and(|on| matches!(on, HashOn::Source));
        let key = client.filter(|_| by_source).map(source_key);
        Self { preference: Preference { key, endpoint: None }, secure: false }
    }

    #[inline(never)]
    fn read(cluster: &Cluster, asked: &RouteRequest<'_>, listener: &ListenerSpec) -> Self {
        let key = cluster.hash_on.as_ref().and_then(|on| key(on, asked, listener));
        let Some(affinity) = &cluster.affinity else {
            return Self { preference: Preference { key, endpoint: None }, secure: false };
        };
        let endpoint = named_endpoint(affinity, asked);
        let secure = client::scheme(asked.peer, asked.request, asked.head) == Scheme::Https;
        Self { preference: Preference { key, endpoint }, secure }
    }
}

/// The key of a request. None: it lacks what keys are made of, or that is empty.
pub fn key(on: &HashOn, asked: &RouteRequest<'_>, listener: &ListenerSpec) -> Option<u64> {
    let routed = asked.routed(listener, b"");
    let of = |value: Option<&[u8]>| value.filter(|value| !value.is_empty()).map(key_of);
    match on {
        HashOn::Header(name) => of(routed.header(name.as_bytes()).next()),
        HashOn::Cookie(name) => {
            of(routed.header(b"cookie").flat_map(|field| cookie_values(field, name.as_bytes())).next())
        }
        HashOn::Query(name) => of(routed.query().and_then(|query| query_values(query, name.as_bytes()).next())),
        HashOn::Source => routed.client_ip().map(source_key),
    }
}

/// The key of whatever comes from an address.
#[must_use]
pub fn source_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => key_of(&address.octets()),
        IpAddr::V6(address) => key_of(&address.octets()),
    }
}

/// The endpoint that the cookies of a request name. A cookie may have been set under several paths or domains: the first one that names
/// an endpoint of the cluster counts.
pub fn named_endpoint(affinity: &Affinity, asked: &RouteRequest<'_>) -> Option<EndpointId> {
    let fields = asked.request.fields.all(FieldName::Cookie);
    let mut values = fields.flat_map(|field| cookie_values(field.value.of(asked.head), affinity.cookie().as_bytes()));
    values.find_map(|value| affinity.endpoint(value))
}

impl<D: Driver> Engine<D> {
    /// The cookie for the client of an exchange: where its cluster keeps clients at endpoints, and the one that has answered is not the
    /// one that the client's cookie names.
    #[must_use]
    #[inline]
    pub fn affinity_cookie(&self, id: u32) -> Option<AffinityCookie> {
        let exchange = &self.exchanges[id as usize];
        let cluster = exchange.cluster;
        exchange.own_cluster()?.affinity.as_ref()?;
        let endpoint = exchange.attempt()?.endpoint;
        let new = exchange.wanted.preference.endpoint != Some(endpoint);
        new.then_some(AffinityCookie { cluster, endpoint, secure: exchange.wanted.secure })
    }
}

impl RouteOf {
    /// Writes the field line of Set-Cookie.
    #[cold]
    pub fn write_cookie(&self, cookie: AffinityCookie, out: &mut Vec<u8>) {
        let AffinityCookie { cluster, endpoint, secure } = cookie;
        let affinity: Option<&Affinity> =
            self.snapshot.clusters.get(cluster.index()).and_then(|it| it.affinity.as_ref());
        if let Some(affinity) = affinity {
            affinity.write(endpoint, secure, out);
        }
    }
}
