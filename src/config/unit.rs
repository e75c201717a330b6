//! Parses and writes durations ("250ms") and sizes ("16KiB"). Not here: their ranges.

use std::time::Duration;

const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Parses `"5s"`, `"250ms"`, `"1m"` or `"1h"`. None: another form, or more milliseconds than fit 64 bits.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &TIME_UNITS).map(Duration::from_millis)
}

/// Parses `"16KiB"`, `"1MiB"` or `"0"`. None: another form, or more bytes than fit 64 bits.
pub(super) fn size(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| scaled(text, &SIZE_UNITS))
}

/// The size that was meant by a text in the way of other proxies, such as `10m` or `16KB`.
pub(super) fn meant_size(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return None,
    };
    Some(format!("{number}{unit}")).filter(|meant| size(meant).is_some())
}

/// The shortest text that [`duration`] reads as `value`.
pub(super) fn duration_text(value: Duration) -> String {
    shortest(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS)
}

/// The shortest text that [`size`] reads as `value`.
pub(super) fn size_text(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { shortest(value, &SIZE_UNITS) }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn shortest(value: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (unit, factor) = fits.copied().unwrap_or((units[0].0, 1));
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, millis) in [("5s", 5000), ("250ms", 250), ("1m", 60_000), ("1h", 3_600_000), ("0ms", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        for text in ["", "5", "s", "5 s", "5S", "-5s", "1.5s", "5d", "99999999999999999999s", "18446744073709551615s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [("0", 0), ("16KiB", 16 << 10), ("1MiB", 1 << 20), ("3GiB", 3 << 30), ("1500B", 1500)] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size_text(bytes), text);
        }
        assert_eq!(size("4096"), Some(4096));
        for text in ["", "K", "16K", "16KB", "16 KiB", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
