//! Query parameters as sent, percent-decoded while they are compared. Not here: form decoding; `+` is a plus sign.

/// The raw values of the parameters called `name`, in order. A parameter without `=` has an empty value.
pub fn values<'a>(query: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    query.split(|&byte| byte == b'&').filter_map(move |pair| {
        let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (key, value) = pair.split_at(equals);
        equal(key, name).then(|| value.strip_prefix(b"=").unwrap_or(value))
    })
}

/// Whether `raw`, percent-decoded, is `plain`.
pub(super) fn equal(raw: &[u8], plain: &[u8]) -> bool {
    raw == plain || (memchr::memchr(b'%', raw).is_some() && decoded(raw).eq(plain.iter().copied()))
}

/// The bytes that `raw` stands for. A `%` without two hexadecimal digits stands for itself.
pub(super) fn decoded(raw: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest.get(1..)?),
            },
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_a_name_counts() {
        for (query, name, found) in [
            ("a=1", "a", &["1"][..]),
            ("b=2&a=1&a=3", "a", &["1", "3"]),
            ("a", "a", &[""]),
            ("a=&a", "a", &["", ""]),
            ("a=1=2", "a", &["1=2"]),
            ("aa=1", "a", &[]),
            ("", "a", &[]),
            ("&&a=1", "a", &["1"]),
            ("%61=1&a=%31", "a", &["1", "%31"]),
            ("x%26y=1", "x&y", &["1"]),
        ] {
            let values: Vec<_> = values(query.as_bytes(), name.as_bytes()).map(String::from_utf8_lossy).collect();
            assert_eq!(values, found, "{query}");
        }
    }

    #[test]
    fn percent_decoding_keeps_what_is_not_an_escape() {
        for (raw, plain) in
            [("a%20b", "a b"), ("%41%4a%4A", "AJJ"), ("100%", "100%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("a+b", "a+b")]
        {
            assert!(equal(raw.as_bytes(), plain.as_bytes()), "{raw}");
        }
        assert!(!equal(b"%41", b"B"));
        assert!(!equal(b"%41x", b"A"));
    }
}
