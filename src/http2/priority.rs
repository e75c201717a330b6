//! Priorities by RFC 9218: the value of a `priority` field or of a PRIORITY_UPDATE frame. Not here: the order of streams.

/// What a client says of the priority of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priority {
    /// 0, the most urgent, to 7.
    pub urgency: u8,
    /// Whether the response is of use in parts, so that it may share the connection with others of its urgency.
    pub incremental: bool,
}

impl Default for Priority {
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// Reads a dictionary of structured fields (RFC 9651 section 4.2.2). Members of another type or out of range count as absent,
    /// like unknown ones; a value that is no dictionary is no priority, so that all have their defaults (RFC 9218 section 4).
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        Self::try_parse(value).unwrap_or_default()
    }

    fn try_parse(value: &[u8]) -> Option<Self> {
        let mut priority = Self::default();
        let mut rest = trim_start(value, b" ");
        while !rest.is_empty() {
            let (key, tail) = key(rest)?;
            // A member without a value is true.
            let (item, tail) = match tail {
                [b'=', tail @ ..] => item(tail)?,
                _ => (Item::Boolean(true), tail),
            };
            let tail = parameters(tail)?;
            match (key, item) {
                (b"u", Item::Integer(urgency @ 0..=7)) => priority.urgency = urgency,
                (b"i", Item::Boolean(incremental)) => priority.incremental = incremental,
                _ => {}
            }
            rest = trim_start(tail, b" \t");
            match rest {
                [] => {}
                [b',', tail @ ..] => {
                    rest = trim_start(tail, b" \t");
                    if rest.is_empty() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        Some(priority)
    }
}

/// The value of a member or of a parameter, as far as a priority can use it.
#[derive(Clone, Copy)]
enum Item {
    Boolean(bool),
    /// An integer below 256.
    Integer(u8),
    Other,
}

fn trim_start<'a>(mut bytes: &'a [u8], spaces: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = bytes
        && spaces.contains(first)
    {
        bytes = rest;
    }
    bytes
}

/// The bytes up to the first one for which `is_part` does not hold, and the rest.
fn split(bytes: &[u8], is_part: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !is_part(*byte)).unwrap_or(bytes.len()))
}

/// `key = ( lcalpha / "*" ) *( lcalpha / DIGIT / "_" / "-" / "." / "*" )`
fn key(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    bytes.first().filter(|byte| byte.is_ascii_lowercase() || **byte == b'*')?;
    Some(split(bytes, is_part))
}

/// A bare item: an integer, a decimal, a boolean, a token, or a string. Inner lists and byte sequences have no use in a priority; a
/// value with one is not read.
fn item(bytes: &[u8]) -> Option<(Item, &[u8])> {
    match bytes {
        [b'?', b'0', rest @ ..] => Some((Item::Boolean(false), rest)),
        [b'?', b'1', rest @ ..] => Some((Item::Boolean(true), rest)),
        [b'0'..=b'9' | b'-', rest @ ..] => {
            let (digits, rest) = split(rest, |byte| byte.is_ascii_digit() || byte == b'.');
            let len = bytes.len() - rest.len();
            let is_small = digits.is_empty() && bytes.first().is_some_and(u8::is_ascii_digit) && len == 1;
            let value = bytes.first().map_or(0, |digit| digit.wrapping_sub(b'0'));
            Some((if is_small { Item::Integer(value) } else { Item::Other }, rest))
        }
        [b'"', rest @ ..] => {
            let mut at = 0;
            loop {
                match rest.get(at..)? {
                    [b'"', tail @ ..] => return Some((Item::Other, tail)),
                    [b'\\', b'"' | b'\\', ..] => at += 2,
                    [b'\\', ..] | [] => return None,
                    [0x20..=0x7e, ..] => at += 1,
                    _ => return None,
                }
            }
        }
        [b'a'..=b'z' | b'A'..=b'Z' | b'*', ..] => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
            Some((Item::Other, split(bytes, is_part).1))
        }
        _ => None,
    }
}

/// Skips the parameters of an item; a priority defines none.
fn parameters(mut bytes: &[u8]) -> Option<&[u8]> {
    while let [b';', rest @ ..] = bytes {
        let (_, tail) = key(trim_start(rest, b" "))?;
        bytes = match tail {
            [b'=', tail @ ..] => item(tail)?.1,
            _ => tail,
        };
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_dictionaries() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=0", 0, false),
            ("u=7, i", 7, true),
            ("i", 3, true),
            ("i=?0", 3, false),
            ("i=?1,u=5", 5, true),
            (" u=1", 1, false),
            ("u=1 ,\ti ", 1, true),
            ("u=1;x=2;y, i;z=\"a\\\"b\"", 1, true),
            ("u=8", 3, false),
            ("u=-1, i", 3, true),
            ("u=1.5, i", 3, true),
            ("u=?1, i=1", 3, false),
            ("u=2, u=4", 4, false),
            ("other=token/x:y, u=6", 6, false),
            ("u=1,", 3, false),
            ("u=1 i", 3, false),
            ("U=1", 3, false),
            ("=1", 3, false),
            ("u=1, x=\"unclosed", 3, false),
            ("u=1, x=(a b)", 3, false),
            ("\u{e9}", 3, false),
        ] {
            assert_eq!(Priority::parse(value.as_bytes()), Priority { urgency, incremental }, "{value:?}");
        }
    }
}
