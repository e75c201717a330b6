//! Address ranges in CIDR notation. Not here: what they are used for.

use std::net::IpAddr;

use super::report::Problems;
use super::section::Text;
use crate::id::Network;

/// The address range in `text`. Reports it if it is invalid.
pub(super) fn range(text: Text<'_>, problems: &mut Problems) -> Option<Network> {
    let help = match parse(text.value) {
        Ok(network) => return Some(network),
        Err(NetworkError::Form) => "write \"10.0.0.0/8\", \"10.1.2.3\", \"fd00::/8\" or \"::1\"".to_owned(),
        Err(NetworkError::Mapped(ipv4)) => {
            format!("clients that connect so count as IPv4: write \"{ipv4}\"")
        }
        Err(NetworkError::HostBits(first)) => {
            format!("its first address is {}; write \"{}/{}\"", first.address, first.address, first.prefix)
        }
    };
    problems.add(text.at, format!("\"{}\" is not an address range", text.shown.escape_debug())).help(help);
    None
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetworkError {
    Form,
    /// Bits beyond the prefix are set; the range without them.
    HostBits(Network),
    /// IPv4 addresses written as IPv6 (RFC 4291 section 2.5.5.2); the same range in IPv4.
    Mapped(Network),
}

/// Parses `10.0.0.0/8`. An address alone is a range of one.
fn parse(text: &str) -> Result<Network, NetworkError> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = |prefix: &str| prefix.bytes().all(|c| c.is_ascii_digit());
    let prefix = match prefix {
        None => bits,
        Some(prefix) if digits(prefix) => prefix.parse::<u8>().map_err(|_| NetworkError::Form)?,
        Some(_) => return Err(NetworkError::Form),
    };
    if prefix > bits {
        return Err(NetworkError::Form);
    }
    let beyond = u32::from(bits - prefix);
    let first = match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(beyond).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(beyond).unwrap_or(0)).into()),
    };
    let range = Network { address: first, prefix };
    match first.to_canonical() {
        _ if first != address => Err(NetworkError::HostBits(range)),
        ipv4 if ipv4 != first && prefix >= 96 => {
            Err(NetworkError::Mapped(Network { address: ipv4, prefix: prefix - 96 }))
        }
        _ => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let range = |address: &str, prefix| Network { address: address.parse().unwrap(), prefix };
        let cases = [
            ("10.0.0.0/8", Ok(range("10.0.0.0", 8))),
            ("10.1.2.3", Ok(range("10.1.2.3", 32))),
            ("0.0.0.0/0", Ok(range("0.0.0.0", 0))),
            ("::/0", Ok(range("::", 0))),
            ("::1", Ok(range("::1", 128))),
            ("fd00::/8", Ok(range("fd00::", 8))),
            ("10.1.2.3/8", Err(NetworkError::HostBits(range("10.0.0.0", 8)))),
            ("::ffff:10.0.0.0/104", Err(NetworkError::Mapped(range("10.0.0.0", 8)))),
            ("::ffff:10.1.2.3", Err(NetworkError::Mapped(range("10.1.2.3", 32)))),
            ("10.0.0.0/33", Err(NetworkError::Form)),
            ("10.0.0.0/+8", Err(NetworkError::Form)),
            ("10.0.0/8", Err(NetworkError::Form)),
            ("localhost", Err(NetworkError::Form)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in crate::config::tables::PRIVATE {
            assert!(parse(text).is_ok(), "{text}");
        }
    }
}
