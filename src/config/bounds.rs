//! What binds a tenant beside its claims: time-outs, and where its endpoints may be. The root has no bounds.
//! Not here: hosts and paths (`claim`), limits that only hold while requests flow.

use std::time::Duration;

use super::AdminSpec;
use super::network;
use super::report::{Place, Problems};
use super::section::{Section, Text};
use crate::id::Address;
use crate::snapshot::Network;

/// The bounds of one tenant; by default none.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    /// The longest, and where it says so.
    max_timeout: Option<(Duration, Place)>,
    /// None: anywhere.
    networks: Option<Networks>,
    /// What operates the proxy must not be forwarded to.
    admin: Vec<Address>,
}

#[derive(Clone, Debug)]
struct Networks {
    /// None: any address.
    ranges: Option<Vec<Network>>,
    /// Whether Unix-domain sockets are allowed: what the proxy's user can connect to is not the tenant's to use.
    unix: bool,
    /// Where it says so.
    at: Place,
}

/// Stands for Unix-domain sockets among address ranges.
const UNIX: &str = "unix";

impl Bounds {
    /// Reads `[tenant.limits]`.
    pub(super) fn read(limits: Section<'_>, admin: &AdminSpec, problems: &mut Problems) -> Self {
        let (unix, ranges): (Vec<Text<'_>>, Vec<Text<'_>>) =
            limits.texts("endpoint_networks").into_iter().partition(|text| text.value == UNIX);
        let ranges = ranges.into_iter().filter_map(|text| network::range(text, problems)).collect();
        let networks = Networks {
            ranges: limits.has("endpoint_networks").then_some(ranges),
            unix: !unix.is_empty(),
            at: limits.place("endpoint_networks"),
        };
        let admin = [admin.listen.map(Address::Inet), admin.socket.clone().map(Address::Unix)];
        Self {
            max_timeout: limits.optional_time("max_timeout").map(|time| (time, limits.place("max_timeout"))),
            networks: Some(networks),
            admin: admin.into_iter().flatten().collect(),
        }
    }

    /// The time-out under `key`, cut to what is allowed where it is the default; reports a longer one that was asked for.
    pub(super) fn timeout(&self, section: Section<'_>, key: &str, problems: &mut Problems) -> Option<Duration> {
        let asked = section.optional_time(key);
        let Some((most, at)) = self.max_timeout else { return asked };
        if asked.is_some_and(|asked| asked > most) {
            problems
                .add(section.place(key), format!("`{key}` is above the tenant's limits.max_timeout"))
                .note(at, "the limit stands here")
                .help("write a shorter one, or leave it out");
        }
        asked
    }

    /// `time`, or what is allowed if that is less.
    pub(super) fn cut(&self, time: Duration) -> Duration {
        self.max_timeout.map_or(time, |(most, _)| time.min(most))
    }

    /// Reports an endpoint where none may be.
    pub(super) fn endpoint(&self, address: &Address, text: Text<'_>, problems: &mut Problems) {
        if self.admin.iter().any(|admin| same(admin, address)) {
            problems
                .add(text.at, format!("{} is the admin interface of this proxy", text.shown))
                .help("a tenant cannot forward to it");
            return;
        }
        let Some(networks) = &self.networks else { return };
        let (allowed, help) = match (address, &networks.ranges) {
            (Address::Inet(_), None) => (true, ""),
            (Address::Inet(inet), Some(ranges)) => (
                ranges.iter().any(|range| range.contains(inet.ip())),
                "use an endpoint inside of them, or ask for a wider range",
            ),
            (Address::Unix(_), _) => (networks.unix, "Unix-domain sockets need \"unix\" in limits.endpoint_networks"),
        };
        if !allowed {
            problems
                .add(text.at, format!("{} is outside of the tenant's limits.endpoint_networks", text.shown))
                .note(networks.at, "its limits stand here")
                .help(help);
        }
    }
}

/// Whether connecting to `address` reaches `admin`.
fn same(admin: &Address, address: &Address) -> bool {
    match (admin, address) {
        (Address::Inet(admin), Address::Inet(address)) => {
            let (own, ip) = (admin.ip().to_canonical(), address.ip().to_canonical());
            admin.port() == address.port() && (own == ip || own.is_unspecified() || ip.is_unspecified())
        }
        (admin, address) => admin == address,
    }
}
