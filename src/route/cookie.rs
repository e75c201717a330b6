//! Cookies of a request, read as RFC 6265 section 4.2 has them written. Not here: what they mean, or setting them.

/// The values of the cookies called `name` in one Cookie field, in order: what stands between the first `=` and the next `;`, without
/// the white space around it. Quotes belong to the value (RFC 6265 section 5.2). What has no `=` is no cookie.
pub fn values<'a>(field: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    field.split(|&byte| byte == b';').filter_map(move |pair| {
        let (key, value) = pair.split_at(memchr::memchr(b'=', pair)?);
        (key.trim_ascii() == name).then(|| value[1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cookie_of_a_name_counts() {
        for (field, found) in [
            ("lang=de", &["de"][..]),
            ("a=1; lang=de; b=2", &["de"]),
            ("lang=de;lang=en", &["de", "en"]),
            (" lang = de ;a=1", &["de"]),
            ("lang=", &[""]),
            ("lang=\"de\"", &["\"de\""]),
            ("lang=a=b", &["a=b"]),
            ("lang=a,b", &["a,b"]),
            ("Lang=de; xlang=de; langx=de", &[]),
            ("lang", &[]),
            ("=lang", &[]),
            ("; ;;lang=de;", &["de"]),
            ("", &[]),
        ] {
            let values: Vec<_> = values(field.as_bytes(), b"lang").map(String::from_utf8_lossy).collect();
            assert_eq!(values, found, "{field}");
        }
    }
}
