//! The field names that a proxy reads, writes or removes, and rules about them. Not here: other field names.

use crate::limits::FIELD_NAME_BYTES;

/// Defines the enum and the list of texts from one list of names.
macro_rules! field_names {
    ($($id:ident $text:literal)*) => {
        /// A field name that cairn knows; all others are `Other`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum FieldName {
            /// A field that is only forwarded.
            #[default]
            Other,
            $(#[doc = $text] $id,)*
        }

        /// Each known name in lower case.
        const NAMES: &[(&[u8], FieldName)] = &[$(($text.as_bytes(), FieldName::$id),)*];
    };
}

// Names whose values `field_values` reads come first, up to `LAST_READ`.
field_names! {
    Host "host"
    ContentLength "content-length"
    TransferEncoding "transfer-encoding"
    Connection "connection"
    Expect "expect"
    KeepAlive "keep-alive"
    ProxyConnection "proxy-connection"
    Te "te"
    Trailer "trailer"
    Upgrade "upgrade"
    Via "via"
    Forwarded "forwarded"
    XForwardedFor "x-forwarded-for"
    XForwardedProto "x-forwarded-proto"
    XForwardedHost "x-forwarded-host"
    XForwardedPort "x-forwarded-port"
    XForwardedClientCert "x-forwarded-client-cert"
    ClientCert "client-cert"
    ClientCertChain "client-cert-chain"
    XRealIp "x-real-ip"
    XRequestId "x-request-id"
    ProxyAuthenticate "proxy-authenticate"
    ProxyAuthorization "proxy-authorization"
    ProxyAuthenticationInfo "proxy-authentication-info"
    Proxy "proxy"
    Http2Settings "http2-settings"
    XRewriteUrl "x-rewrite-url"
    XOriginalUrl "x-original-url"
    XHttpMethodOverride "x-http-method-override"
    MaxForwards "max-forwards"
    Date "date"
    Server "server"
    Location "location"
    Traceparent "traceparent"
    Tracestate "tracestate"
    ContentType "content-type"
    ContentEncoding "content-encoding"
    CacheControl "cache-control"
    Accept "accept"
    AcceptEncoding "accept-encoding"
    Cookie "cookie"
    SetCookie "set-cookie"
    Authorization "authorization"
    UserAgent "user-agent"
    Range "range"
    WwwAuthenticate "www-authenticate"
}

// Sets of names have one bit per name; bit 0 is `Other`, and bit 63 is no name.
const _: () = assert!(NAMES.len() < 63);

impl FieldName {
    /// The id of a field name, in any case. `name` must be a token: the comparison takes some other bytes for letters.
    pub fn lookup(name: &[u8]) -> Self {
        let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) else { return Self::Other };
        let known = &KNOWN[slot(*first, *last, name.len())];
        if is(name, known.id.text()) { known.id } else { Self::Other }
    }

    /// The id of the name in the first `len` bytes of `line`. Faster if `line` has at least 16 bytes.
    #[inline(always)]
    pub(super) fn lookup_in(line: &[u8], len: usize) -> Self {
        let Some(name) = line.get(..len) else { return Self::Other };
        let (Some(wide), Some(last)) = (line.first_chunk(), name.last_chunk()) else { return Self::lookup(name) };
        let known = &KNOWN[slot([wide[0], wide[1]], *last, len)];
        if usize::from(known.len) == len && known.matches(wide, name) { known.id } else { Self::Other }
    }

    /// The name in lower case; empty for `Other`.
    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            Self::Other => b"",
            id => NAMES[id as usize - 1].0,
        }
    }

    /// The last name whose value is read while fields are parsed.
    pub(super) const LAST_READ: Self = Self::Expect;

    /// The bit of this name in a set of names.
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// Number of bytes compared at once. Few known names are longer, and none is longer than twice as many.
const WIDE: usize = 16;

/// A known name in the form in which it is compared: its first and its last 16 bytes as integers.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Known {
    /// The first bytes in lower case, then zeros if the name is shorter.
    first: u128,
    /// All ones for each byte of `first` that is one of the name.
    mask: u128,
    /// The last bytes, if the name is longer.
    last: u128,
    /// Bytes of the name; 0 in a slot without a name.
    len: u8,
    id: FieldName,
}

impl Known {
    const NOTHING: Self = Self { first: 0, mask: 0, last: 0, len: 0, id: FieldName::Other };

    const fn new(name: &[u8], id: FieldName) -> Self {
        let mut known = Self { len: name.len() as u8, id, ..Self::NOTHING };
        let mut at = 0;
        while at < name.len() && at < WIDE {
            known.first |= (name[at] as u128) << (at * 8);
            known.mask |= 0xff << (at * 8);
            at += 1;
        }
        if let Some(last) = name.last_chunk() {
            known.last = u128::from_le_bytes(*last);
        }
        assert!(name.len() <= 2 * WIDE);
        known
    }

    /// Whether `name`, which has the length of this name, is this name. `wide` begins with `name`.
    ///
    /// For tokens only: of their bytes, those that become a lower-case letter, digit or hyphen when or'ed with 0x20 are that character,
    /// in either case.
    #[inline(always)]
    fn matches(&self, wide: &[u8; WIDE], name: &[u8]) -> bool {
        let first = (u128::from_le_bytes(*wide) | LOWER) & self.mask == self.first;
        match name.last_chunk() {
            Some(last) => first && u128::from_le_bytes(*last) | LOWER == self.last,
            None => first,
        }
    }
}

/// Whether a token equals `text`, which is in lower case, in any case. Compares chunks of fixed size; the last overlaps the one before.
#[inline(always)]
pub(super) fn is(token: &[u8], text: &[u8]) -> bool {
    if token.len() != text.len() {
        return false;
    }
    if let (Some(last), Some(want)) = (token.last_chunk(), text.last_chunk()) {
        let same = |got: &[u8; 8], want: &[u8; 8]| u64::from_le_bytes(*got) | LOWER as u64 == u64::from_le_bytes(*want);
        let (pieces, wanted) = (token.as_chunks().0, text.as_chunks().0);
        return same(last, want) && pieces.iter().zip(wanted).all(|(got, want)| same(got, want));
    }
    let same = |got: &[u8; 4], want: &[u8; 4]| u32::from_le_bytes(*got) | LOWER as u32 == u32::from_le_bytes(*want);
    match (token.first_chunk(), text.first_chunk(), token.last_chunk(), text.last_chunk()) {
        (Some(first), Some(want), Some(last), Some(want_last)) => same(first, want) && same(last, want_last),
        _ => token.iter().zip(text).all(|(byte, want)| byte | 0x20 == *want),
    }
}

const LOWER: u128 = u128::from_le_bytes([0x20; WIDE]);

/// Slot of a name in `KNOWN`. The factor was found by search, so that no two known names share a slot.
#[inline(always)]
const fn slot(first: [u8; 2], last: [u8; 2], len: usize) -> usize {
    let key = u32::from_le_bytes([first[0], first[1], last[0], last[1]]) | LOWER as u32;
    (key.wrapping_add(len as u32).wrapping_mul(0x5d93_c219) >> 25) as usize
}

/// Known names by slot.
static KNOWN: [Known; 128] = {
    let mut known = [Known::NOTHING; 128];
    let mut i = 0;
    while i < NAMES.len() {
        let (text, id) = NAMES[i];
        let at = slot([text[0], text[1]], [text[text.len() - 2], text[text.len() - 1]], text.len());
        assert!(known[at].len == 0, "two names in one slot: search for another factor");
        known[at] = Known::new(text, id);
        i += 1;
    }
    known
};

/// Whether a field concerns the connection only and is never forwarded (RFC 9110 section 7.6.1). That includes authentication to proxies
/// (section 11.7), and `Proxy`, which CGI passes on as `HTTP_PROXY`, a variable that HTTP clients take for their proxy.
pub const fn hop_by_hop(id: FieldName) -> bool {
    use FieldName::*;
    matches!(
        id,
        Connection
            | KeepAlive
            | ProxyConnection
            | Te
            | TransferEncoding
            | Upgrade
            | Http2Settings
            | ProxyAuthenticate
            | ProxyAuthorization
            | ProxyAuthenticationInfo
            | Proxy
    )
}

/// Whether a message with this Content-Type is one of gRPC, of any encoding.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let (name, rest) = content_type.split_at(content_type.len().min(NAME.len()));
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Whether a field says who the client of a TLS connection is, by its certificate (RFC 9440; Envoy). Nobody else is believed in this,
/// not even a trusted peer: applications take these fields for a proof.
pub const fn proves_client(id: FieldName) -> bool {
    matches!(id, FieldName::ClientCert | FieldName::ClientCertChain | FieldName::XForwardedClientCert)
}

/// Whether a field of a request is removed without a replacement: a hop-by-hop one, or a proof of who the client is. `Upgrade` and
/// `Transfer-Encoding` are written anew for the next hop.
pub const fn ends_here(id: FieldName) -> bool {
    let hop_by_hop = hop_by_hop(id) && !matches!(id, FieldName::Upgrade | FieldName::TransferEncoding);
    hop_by_hop || proves_client(id)
}

/// The bits of the names for which [`ends_here`] holds.
pub const ENDS_HERE: u64 = {
    let (mut bits, mut i) = (0, 0);
    while i < NAMES.len() {
        if ends_here(NAMES[i].1) {
            bits |= NAMES[i].1.bit();
        }
        i += 1;
    }
    bits
};

/// Whether a trailer field may be forwarded. Fields for framing, routing, authentication or control must not be, because recipients
/// may merge trailers into the header section (RFC 9110 section 6.5.1).
pub fn is_forwardable_trailer(name: &[u8], id: FieldName) -> bool {
    use FieldName::*;
    if hop_by_hop(id) || proves_client(id) {
        return false;
    }
    match id {
        Host | ContentLength | Trailer | Expect | Via | Forwarded | XForwardedFor | XForwardedProto
        | XForwardedHost | XForwardedPort | XRealIp | XRequestId | XRewriteUrl | XOriginalUrl | XHttpMethodOverride
        | MaxForwards | Date | Location | Traceparent | Tracestate | ContentType | ContentEncoding | CacheControl
        | Accept | AcceptEncoding | Cookie | SetCookie | Authorization | Range | WwwAuthenticate => false,
        Other => {
            !is_claim(name)
                && !CONTROL_FIELDS.iter().any(|control| name.eq_ignore_ascii_case(control))
                && !is_twin(name)
        }
        _ => true,
    }
}

/// Whether a name with `_` must not be forwarded as a trailer, because some recipients treat `_` as `-`.
fn is_twin(name: &[u8]) -> bool {
    let mut plain = [0; FIELD_NAME_BYTES];
    let Some(plain) = plain.get_mut(..name.len()).filter(|_| name.contains(&b'_')) else { return false };
    for (to, from) in plain.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    !is_forwardable_trailer(plain, FieldName::lookup(plain))
}

/// Whether a field with this name, which is `Other`, is accepted from trusted peers only: it claims an identity of the client, or
/// another target or method.
#[inline]
pub fn is_claim(name: &[u8]) -> bool {
    // Few names begin with the first letter of a claim, so few are compared with all claims.
    let letter = name.first().map_or(u8::MAX, |first| (first | 0x20).wrapping_sub(b'a'));
    letter < 32 && CLAIM_LETTERS >> letter & 1 != 0 && is_among_claims(name)
}

#[inline(never)]
fn is_among_claims(name: &[u8]) -> bool {
    let start = name.get(..FORWARDED_PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED_PREFIX))
        || CLAIMS.iter().any(|claim| claim.eq_ignore_ascii_case(name))
}

/// Fields besides those of [`FieldName`] that claim an identity of the client, or ask an application for another method or target
/// than the routed one. Like all `X-Forwarded-*`, they are accepted from trusted peers only.
const CLAIMS: [&[u8]; 8] = [
    b"cf-connecting-ip",
    b"fastly-client-ip",
    b"true-client-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-http-method",
    b"x-method-override",
    b"x-original-host",
];
const FORWARDED_PREFIX: &[u8] = b"x-forwarded-";
/// Bit i: a claim begins with the letter i of the alphabet.
const CLAIM_LETTERS: u32 = {
    let (mut bits, mut i) = (1 << (FORWARDED_PREFIX[0] - b'a'), 0);
    while i < CLAIMS.len() {
        bits |= 1 << (CLAIMS[i][0] - b'a');
        i += 1;
    }
    bits
};

/// Request and response controls (RFC 9110 section 6.5.1) that are not in [`FieldName`].
const CONTROL_FIELDS: [&[u8]; 13] = [
    b"age",
    b"content-range",
    b"expires",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"pragma",
    b"retry-after",
    b"vary",
    b"warning",
    b"authentication-info",
];

/// Whether a name with `_` would be taken for a known name by recipients that treat `_` as `-` (CGI variables and interfaces
/// modelled on them).
pub(super) fn is_alias(name: &[u8]) -> bool {
    let mut plain = [0; 2 * WIDE];
    if !name.contains(&b'_') || name.len() > plain.len() {
        return false;
    }
    for (to, from) in plain.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    FieldName::lookup_in(&plain, name.len()) != FieldName::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_neighbour_is() {
        for (text, id) in NAMES {
            assert_eq!(FieldName::lookup(text), *id);
            assert_eq!(FieldName::lookup(&text.to_ascii_uppercase()), *id);
            for i in 0..text.len() {
                for other in (b'!'..=b'~').filter(|byte| crate::buffer::scan::is_tchar(*byte)) {
                    let mut near = text.to_vec();
                    near[i] = other;
                    let want = if near.eq_ignore_ascii_case(text) { *id } else { FieldName::Other };
                    assert_eq!(FieldName::lookup(&near), want, "{}", near.escape_ascii());
                }
            }
        }
        for name in ["", "x", "te:", "hosts", "x-forwarded-fo", "content-lengthhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh"] {
            assert_eq!(FieldName::lookup(name.as_bytes()), FieldName::Other, "{name}");
        }
    }

    #[test]
    fn every_claim_is_one_in_any_case_and_no_neighbour_is() {
        for claim in CLAIMS.iter().copied().chain([&b"x-forwarded-prefix"[..], b"x-forwarded-"]) {
            assert!(is_claim(claim) && is_claim(&claim.to_ascii_uppercase()), "{}", claim.escape_ascii());
            assert!(!is_claim(&claim[1..]) && !is_claim(&[b"a", &claim[1..]].concat()), "{}", claim.escape_ascii());
        }
        for name in ["", "x", "-", "{", "\u{e9}", "x-forwarded", "client-ip", "true-client-ipx"] {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn aliases_are_names_with_underscores_for_hyphens() {
        for (name, want) in
            [("X_Forwarded_For", true), ("X-Forwarded_Proto", true), ("X-Forwarded-For", false), ("X_Other", false)]
        {
            assert_eq!(is_alias(name.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn trailers_that_control_anything_stay_here() {
        for (name, want) in [
            ("X-Checksum", true),
            ("Server-Timing", true),
            ("grpc-status", true),
            ("Content-Length", false),
            ("Transfer-Encoding", false),
            ("Host", false),
            ("Cookie", false),
            ("Connection", false),
            ("Content-Encoding", false),
            ("Cache-Control", false),
            ("Range", false),
            ("If-None-Match", false),
            ("Proxy-Authorization", false),
            ("X-Forwarded-For", false),
            ("X-Forwarded-Anything", false),
            ("True-Client-IP", false),
            ("x_real_ip", false),
            ("Client-Cert", false),
            ("x_forwarded_client-cert", false),
            ("X_Forwarded-Anything", false),
            ("if_match", false),
            ("my_checksum", true),
            ("a_name_that_is_longer_than_any_that_is_known", true),
        ] {
            assert_eq!(is_forwardable_trailer(name.as_bytes(), FieldName::lookup(name.as_bytes())), want, "{name}");
        }
    }
}
