//! What may stand in cairn's configuration: hosts, paths, names and values of fields. Not here: what becomes of what may not.

use std::net::Ipv4Addr;

use cairn::config::is_token;
use cairn::http::path::{Forms, Rules};
use cairn::http::{FieldName, ends_here, hop_by_hop};
use cairn::route::template::fill;

use super::words::{self, pieces};

/// Longest path, bytes.
const PATH_BYTES_MAX: usize = 4096;

/// Whether a name may stand in `hosts`.
pub(super) fn is_host(text: &str) -> bool {
    let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    // Numbers alone are an address.
    let is_number = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    text.len() <= 253 && text.split('.').all(is_label) && (!is_number || text.parse::<Ipv4Addr>().is_ok())
}

/// Whether a text may replace Host, or be the host of a redirect.
pub(super) fn is_authority(text: &str) -> bool {
    let text = without_variables(text);
    let (name, port) = text.rsplit_once(':').unwrap_or((&text, "80"));
    is_host(name) && port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A text with something in place of each variable.
fn without_variables(text: &str) -> String {
    fill(text, |_| "x")
}

/// A decoded path as it is on the wire. Variables stay.
///
/// # Errors
/// No request has it.
pub(super) fn encoded(path: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()+,;=:@".contains(c);
    let encode = |piece: &str| {
        piece.chars().fold(String::new(), |mut out, c| {
            match plain(c) {
                true => out.push(c),
                false => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}"))),
            }
            out
        })
    };
    let mut text = String::new();
    for (at, piece) in pieces(path).enumerate() {
        match at % 2 {
            0 => text.push_str(&encode(piece)),
            _ => text.push_str(&words::variable(piece)),
        }
    }
    if is_path(&without_variables(&text)) {
        Ok(text)
    } else {
        Err("no request has this path in its normal form".to_owned())
    }
}

/// Whether a text may be a query; it may hold variables.
pub(super) fn is_query(text: &str) -> bool {
    without_variables(text).bytes().all(|c| c.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&c))
}

/// Whether a path, as it is on the wire, is one in its normal form.
pub(super) fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !text.starts_with('/')
        || text.len() > PATH_BYTES_MAX
        || !bytes.iter().all(|c| c.is_ascii_graphic() && !b"?#*".contains(c))
    {
        return false;
    }
    let mut forms = Forms::with_capacity(bytes.len());
    let read = forms.read(bytes, Rules { strict: true, ..Rules::default() });
    read.is_ok() && forms.normal(bytes) == bytes && forms.rewritable(bytes) == bytes
}

/// Whether an operator may edit a field.
pub(super) fn editable(name: &str) -> bool {
    let id = FieldName::lookup(name.as_bytes());
    is_token(name) && !matches!(id, FieldName::Host | FieldName::ContentLength | FieldName::Trailer) && !hop_by_hop(id)
}

/// Whether a route may have a condition on a field.
pub(super) fn conditional(name: &str) -> bool {
    is_token(name) && !ends_here(FieldName::lookup(name.as_bytes()))
}

/// Whether a text may be the value of a field.
pub(super) fn is_value(text: &str) -> bool {
    let text = without_variables(text);
    text.trim_matches([' ', '\t']) == text && !text.chars().any(|c| c.is_control() && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_or_refused() {
        for (text, expected) in [
            ("/a b", Some("/a%20b")),
            ("/caf\u{e9}", Some("/caf%C3%A9")),
            ("/a/", Some("/a/")),
            ("a", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("/a\\b", None),
            ("/a\0b", None),
            ("/..;x/", None),
        ] {
            assert_eq!(encoded(text).ok().as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn authorities_have_a_port_or_none() {
        for (text, expected) in
            [("a:80", true), ("a", true), ("a:+80", false), ("10.0:80", false), ("", false), (":80", false)]
        {
            assert_eq!(is_authority(text), expected, "{text}");
        }
    }
}
