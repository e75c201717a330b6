//! Sets of address ranges, in which an address is looked up. Not here: their text form (`config`).

use std::net::IpAddr;

use crate::id::Network;

/// Ranges of addresses. A look-up costs O(log n).
#[derive(Debug)]
pub(super) struct NetworkSet {
    /// First and last address of each range, sorted and apart from each other.
    ipv4: Box<[(u32, u32)]>,
    /// The same of IPv6.
    ipv6: Box<[(u128, u128)]>,
}

impl NetworkSet {
    pub(super) fn of(networks: &[Network]) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.address {
                IpAddr::V4(first) => {
                    let beyond = u32::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
                    ipv4.push((first.to_bits(), first.to_bits() | beyond));
                }
                IpAddr::V6(first) => {
                    let beyond = u128::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
                    ipv6.push((first.to_bits(), first.to_bits() | beyond));
                }
            }
        }
        Self { ipv4: merged(ipv4), ipv6: merged(ipv6) }
    }

    /// Whether one of the ranges contains `address`. An IPv4-mapped IPv6 address counts as its IPv4 address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => contains(&self.ipv4, address.to_bits()),
            IpAddr::V6(address) => contains(&self.ipv6, address.to_bits()),
        }
    }
}

/// The same ranges, sorted; those that overlap are one.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let overlap = next.0 <= before.1;
        if overlap {
            before.1 = before.1.max(next.1);
        }
        overlap
    });
    ranges.into()
}

fn contains<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_contains_what_one_of_its_networks_contains() {
        let networks = [
            ("10.0.0.0", 8),
            ("10.1.0.0", 16),
            ("192.0.2.7", 32),
            ("192.0.2.6", 32),
            ("203.0.113.128", 25),
            ("fd00::", 8),
            ("2001:db8::1", 128),
        ]
        .map(|(address, prefix)| Network { address: address.parse().unwrap(), prefix });
        let set = NetworkSet::of(&networks);
        assert_eq!((set.ipv4.len(), set.ipv6.len()), (4, 2), "one lies in another");
        for address in [
            "9.255.255.255",
            "10.0.0.0",
            "10.1.0.0",
            "10.2.0.0",
            "10.255.255.255",
            "11.0.0.0",
            "192.0.2.5",
            "192.0.2.6",
            "192.0.2.7",
            "192.0.2.8",
            "203.0.113.127",
            "203.0.113.128",
            "203.0.113.255",
            "::ffff:10.0.0.1",
            "::ffff:9.0.0.1",
            "::10.0.0.1",
            "fd00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "fe00::",
            "2001:db8::1",
            "2001:db8::2",
            "0.0.0.0",
            "::",
            "255.255.255.255",
        ] {
            let address: IpAddr = address.parse().unwrap();
            let expected = networks.iter().any(|network| network.contains(address));
            assert_eq!(set.contains(address), expected, "{address}");
        }
        for (all, inside, outside) in [("0.0.0.0", "1.2.3.4", "::1"), ("::", "::1", "1.2.3.4")] {
            let set = NetworkSet::of(&[Network { address: all.parse().unwrap(), prefix: 0 }]);
            assert!(set.contains(inside.parse().unwrap()) && !set.contains(outside.parse().unwrap()), "{all}");
        }
    }
}
