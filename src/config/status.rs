//! Statuses as they are written, one or a class of them. Not here: what they stand for where they are written.

use std::ops::RangeInclusive;

/// The statuses that a text such as `404` or `5xx` names, from 100 to 599. None: it names none.
#[must_use]
pub fn range(text: &str) -> Option<RangeInclusive<u16>> {
    match text.strip_suffix("xx") {
        Some(class) => {
            let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
            Some(class * 100..=class * 100 + 99)
        }
        None => text.parse().ok().filter(|status| (100..=599).contains(status)).map(|status| status..=status),
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_status_or_a_class() {
        for (text, expected) in [
            ("100", Some(100..=100)),
            ("599", Some(599..=599)),
            ("1xx", Some(100..=199)),
            ("5xx", Some(500..=599)),
            ("99", None),
            ("600", None),
            ("0xx", None),
            ("6xx", None),
            ("xx", None),
            ("404xx", None),
            ("65536xx", None),
            ("", None),
            ("ok", None),
        ] {
            assert_eq!(range(text), expected, "{text}");
        }
    }
}
