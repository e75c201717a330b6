//! Bounds of a tenant's configuration: time-outs, and addresses of endpoints. The root has no bounds.
//! Not here: hosts and paths (`claim`), costs of its file (`budget`), limits that hold while requests flow (`runtime::Quota`).

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::AdminSpec;
use super::budget::Budget;
use super::network;
use super::report::{Problems, SourceSpan};
use super::section::{Section, Text};
use crate::id::{Address, Network};

/// The bounds of one tenant. The default has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    /// The longest time-out, and where it is configured.
    max_timeout: Option<(Duration, SourceSpan)>,
    /// Where endpoints may be; None: anywhere.
    networks: Option<Networks>,
    /// Addresses of the admin interface, to which no tenant may forward.
    admin: Vec<Address>,
    /// Costs of the tenant's file; None: no bound.
    pub(super) budget: Option<Budget>,
}

#[derive(Clone, Debug)]
struct Networks {
    /// None: any address.
    ranges: Option<Vec<Network>>,
    /// Whether Unix-domain sockets are allowed. By default they are not: cairn's user can connect to sockets that are not the
    /// tenant's.
    unix: bool,
    /// Where they are configured.
    at: SourceSpan,
}

impl Networks {
    /// Whether a range that lies within the special network `special` contains `address`. Wider ranges do not count: `0.0.0.0/0`
    /// allows no tenant to reach this machine.
    fn names(&self, special: &SpecialNetwork, address: IpAddr) -> bool {
        let inside =
            |range: &Network| special.network.contains(range.address) && range.prefix >= special.network.prefix;
        self.ranges.iter().flatten().any(|range| range.contains(address) && inside(range))
    }
}

/// Value that stands for Unix-domain sockets among address ranges.
const UNIX: &str = "unix";
/// Most symbolic links that are followed to a file (path_resolution(7)).
const LINKS_MAX: usize = 40;

impl Bounds {
    /// Reads `[tenant.limits]`.
    pub(super) fn read(limits: Section<'_>, admin: &AdminSpec, problems: &mut Problems) -> Self {
        let (unix, ranges): (Vec<Text<'_>>, Vec<Text<'_>>) =
            limits.texts("endpoint_networks").into_iter().partition(|text| text.value == UNIX);
        let ranges = ranges.into_iter().filter_map(|text| network::range(text, problems)).collect();
        let networks = Networks {
            ranges: limits.has("endpoint_networks").then_some(ranges),
            unix: !unix.is_empty(),
            at: limits.span("endpoint_networks"),
        };
        let admin = [admin.listen.map(Address::Inet), admin.socket.clone().map(Address::Unix)];
        Self {
            max_timeout: limits.optional_time("max_timeout").map(|time| (time, limits.span("max_timeout"))),
            networks: Some(networks),
            admin: admin.into_iter().flatten().collect(),
            budget: Some(Budget::read(limits)),
        }
    }

    /// Whether they are a tenant's.
    pub(super) fn is_tenant(&self) -> bool {
        self.budget.is_some()
    }

    /// The same bounds with a whole budget, for another reading of the tenant's file.
    pub(super) fn begin(&self) -> Self {
        Self { budget: self.budget.as_ref().map(Budget::begin), ..self.clone() }
    }

    /// The time-out configured under `key`; None: it is absent. Reports one that is longer than allowed.
    pub(super) fn timeout(&self, section: Section<'_>, key: &str, problems: &mut Problems) -> Option<Duration> {
        let asked = section.optional_time(key);
        let Some((most, at)) = self.max_timeout else { return asked };
        if asked.is_some_and(|asked| asked > most) {
            problems
                .add(section.span(key), format!("`{key}` is above the tenant's limits.max_timeout"))
                .note(at, "the limit stands here")
                .help("write a shorter one, or leave it out");
        }
        asked
    }

    /// The lesser of `time` and the longest time-out allowed.
    pub(super) fn cut(&self, time: Duration) -> Duration {
        self.max_timeout.map_or(time, |(most, _)| time.min(most))
    }

    /// Reports an endpoint whose address is not allowed.
    pub(super) fn endpoint(&self, address: &Address, text: Text<'_>, problems: &mut Problems) {
        if self.admin.iter().any(|admin| same(admin, address)) {
            problems
                .add(text.at, format!("{} is the admin interface of this proxy", text.shown))
                .help("a tenant cannot forward to it");
            return;
        }
        let Some(networks) = &self.networks else { return };
        if let Address::Inet(inet) = address
            && let Some(special) = SpecialNetwork::of(inet.ip())
            && !networks.names(special, inet.ip())
        {
            let ip = inet.ip().to_canonical();
            let shown = if text.value == address.to_string() { String::new() } else { format!(" ({address})") };
            problems
                .add(text.at, format!("{}{shown} is {}, which the tenant is not given", text.shown, special.what))
                .note(networks.at, "its limits stand here")
                .help(format!("the operator can give it: `limits.endpoint_networks = [\"{ip}\"]` in the root"));
            return;
        }
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
        (Address::Unix(admin), Address::Unix(path)) => same_file(admin, path),
        (Address::Inet(_), Address::Unix(_)) | (Address::Unix(_), Address::Inet(_)) => false,
    }
}

/// Whether two paths lead to the same file, links followed. The file need not exist: a start makes the socket anew.
fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let both = identity(one).zip(identity(other));
    both.is_some_and(|(one, other)| one == other) || file_identity(one.to_owned()) == file_identity(other.to_owned())
}

/// Where a file is or would be created: device and inode of its directory, and its name there.
fn file_identity(mut path: PathBuf) -> Option<(u64, u64, OsString)> {
    for _ in 0..LINKS_MAX {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(target) = fs::read_link(&path) else {
            let found = fs::metadata(directory).ok()?;
            return Some((found.dev(), found.ino(), path.file_name()?.to_owned()));
        };
        path = directory.join(target);
    }
    None
}

/// A network whose addresses mean different hosts on different machines.
struct SpecialNetwork {
    network: Network,
    /// Its description in messages.
    what: &'static str,
}

/// Addresses of this machine, where services of the operator trust local clients; 0.0.0.0 and :: reach it as well (RFC 1122 section
/// 3.2.1.3). And link-local addresses (RFC 3927, RFC 4291), such as metadata services of clouds.
const SPECIAL_NETWORKS: [SpecialNetwork; 6] = [
    special(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, THIS_MACHINE),
    special(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, THIS_MACHINE),
    special(IpAddr::V6(Ipv6Addr::LOCALHOST), 128, THIS_MACHINE),
    special(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, THIS_MACHINE),
    special(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16, LINK_LOCAL),
    special(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, LINK_LOCAL),
];
const THIS_MACHINE: &str = "an address of this machine";
const LINK_LOCAL: &str = "a link-local address";

const fn special(address: IpAddr, prefix: u8, what: &'static str) -> SpecialNetwork {
    SpecialNetwork { network: Network { address, prefix }, what }
}

impl SpecialNetwork {
    /// The special network that contains `address`.
    fn of(address: IpAddr) -> Option<&'static Self> {
        SPECIAL_NETWORKS.iter().find(|special| special.network.contains(address))
    }
}
