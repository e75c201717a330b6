//! Logins that authenticate a connection instead of a request (RFC 4559 section 6): the origin takes all later requests on the
//! connection for requests of that user. Not here: which connections are affected (`exchange`).

use super::fields::Fields;
use super::name::FieldName;

/// Schemes that authenticate the connection.
const SCHEMES: [&[u8]; 2] = [b"negotiate", b"ntlm"];

/// Whether the field `id`, `Authorization` of a request or `WWW-Authenticate` of a response, names a scheme that authenticates
/// the connection.
#[must_use]
pub fn binds_connection(head: &[u8], fields: &Fields, id: FieldName) -> bool {
    fields.get(id).is_some() && fields.all(id).any(|field| names_scheme(field.value.of(head)))
}

/// Whether a value names one of the schemes. Commas separate challenges, and also their parameters (RFC 9110 section 11.6.1): each
/// part begins with a scheme, or with the name of a parameter, which `=` follows.
fn names_scheme(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|part| {
        let part = part.trim_ascii();
        let end = part.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(part.len());
        SCHEMES.iter().any(|scheme| part[..end].eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    use super::names_scheme;

    #[test]
    fn schemes_are_found_among_challenges() {
        for value in
            ["NTLM", "ntlm TlRMTVNTUAAB", "Negotiate", "Basic realm=\"a\", Negotiate", "Negotiate , Basic", ",\tNTLM"]
        {
            assert!(names_scheme(value.as_bytes()), "{value}");
        }
        for value in ["", "Basic realm=NTLM", "Bearer negotiate", "Digest x=1, ntlm=2", "NTLMv2 abc", "Basic a, b"] {
            assert!(!names_scheme(value.as_bytes()), "{value}");
        }
    }
}
