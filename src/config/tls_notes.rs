//! Warnings about what TLS is made of: what ends soon, what is missing. Not here: what cannot be used (`tls`).

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::notes::Notes;
use super::{Config, loops};
use crate::calendar::moment;
use crate::route::{HostPattern, Scheme};
use crate::snapshot::ListenerSpec;
use crate::tls::{Identity, OcspResponse, ServerSpec};

/// Seconds of a day.
const DAY: u64 = 24 * 3600;
/// A certificate that ends within this time should have been renewed.
const SOON: u64 = 14 * DAY;

impl Config {
    /// Warnings about the TLS settings of listeners.
    pub(super) fn tls_notes(&self, notes: &mut Notes) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for (position, listener) in self.snapshot.listeners.iter().enumerate() {
            let (Some(tls), place) = (&listener.tls, self.listener_place(position)) else { continue };
            let name = &listener.name;
            if tls.permissive {
                notes.note(&place, &format!("listener {name} takes plain text, too, as tls.mode says"));
            }
            for identity in &*tls.identities {
                warn_of(identity, &format!("of listener {name}"), &place, now, notes);
            }
            self.uncovered(position, listener, tls, &place, notes);
            let Some(clients) = &tls.clients else { continue };
            let owner = format!("listener {name}");
            warn_of_revocation(clients.unlisted(), clients.revocation_end(), [&owner, "client_ca"], &place, now, notes);
        }
        for (position, cluster) in self.snapshot.clusters.iter().enumerate() {
            let (Some(tls), place) = (&cluster.tls, self.cluster_place(position)) else { continue };
            let owner = format!("cluster {}", cluster.name);
            if let Some(identity) = &tls.identity {
                warn_of_end(identity, &format!("of {owner}"), &place, now, notes);
            }
            warn_of_revocation(tls.unlisted(), tls.revocation_end(), [&owner, "ca"], &place, now, notes);
        }
    }

    /// Hosts of routes on a listener for which it has no certificate.
    fn uncovered(&self, position: usize, listener: &ListenerSpec, tls: &ServerSpec, place: &str, notes: &mut Notes) {
        let mut hosts: Vec<_> = Vec::new();
        for route in self.snapshot.routes.iter().filter(|route| loops::serves(route, position, listener)) {
            for host in &route.hosts {
                let name = match host {
                    // An address is in no DNS name.
                    HostPattern::Exact(name) if name.starts_with('[') || name.parse::<IpAddr>().is_ok() => continue,
                    HostPattern::Exact(name) => name.clone(),
                    HostPattern::Wildcard(name) => format!("*.{name}"),
                };
                let in_clear = route.conditions.scheme == Some(Scheme::Http);
                if !in_clear && !tls.identities.iter().any(|identity| identity.covers(&name)) && !hosts.contains(&name)
                {
                    hosts.push(name);
                }
            }
        }
        if let [first, others @ ..] = &*hosts {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            let first = self.shown(first);
            notes.warn(
                place,
                &format!(
                    "listener {} has no certificate for {first}{more}, though routes are for it: clients that ask for it are shown another \
                     one",
                    listener.name
                ),
            );
        }
    }
}

/// Warns of authorities whose certificates do not count, because revocation lists are looked at and theirs is missing or too old.
/// `owner`: whose lists they are, and the key that names the authorities.
fn warn_of_revocation(
    unlisted: impl Iterator<Item = String>,
    end: Option<u64>,
    [owner, authorities]: [&str; 2],
    place: &str,
    now: u64,
    notes: &mut Notes,
) {
    for authority in unlisted {
        notes.warn(
            place,
            &format!(
                "{owner} has no revocation list of the authority {authority}, so no certificate of it counts: name its list in `crl`, or \
                 take it out of `{authorities}`"
            ),
        );
    }
    if let Some(end) = end.filter(|end| *end <= now) {
        notes.warn(
            place,
            &format!(
                "a revocation list of {owner} was to be replaced by {}: no certificate of its authority counts until it is",
                date(end)
            ),
        );
    }
}

/// Warns of all that is wrong with a certificate.
fn warn_of(identity: &Identity, owner: &str, place: &str, now: u64, notes: &mut Notes) {
    warn_of_end(identity, owner, place, now, notes);
    if let Some(end) = identity.ocsp().map(OcspResponse::end).filter(|end| *end <= now) {
        let label = identity.label();
        notes.warn(
            place,
            &format!(
                "the OCSP response of certificate {label} {owner} was to be replaced by {}: it is not sent any more",
                date(end)
            ),
        );
    }
    for fault in identity.faults(now) {
        notes.warn(place, &format!("certificate {} {owner}: {fault}", identity.label()));
    }
}

fn warn_of_end(identity: &Identity, owner: &str, place: &str, now: u64, notes: &mut Notes) {
    let end = identity.end();
    let label = identity.label();
    if end <= now {
        notes.warn(place, &format!("certificate {label} {owner} has ended on {}: renew it", date(end)));
    } else if end - now < SOON {
        let days = (end - now) / DAY;
        notes.warn(place, &format!("certificate {label} {owner} ends in {days} days, on {}: renew it", date(end)));
    }
}

/// A time in seconds since 1970 as the day on which it is.
fn date(time: u64) -> String {
    let [year, month, day, ..] = moment(time);
    format!("{year}-{month:02}-{day:02}")
}
