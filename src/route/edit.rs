//! Edits of a head by a route: path, host and fields, compiled to the bytes that are written. Not here: writing (`forward`).

use super::spec::{HeaderEdits, PathPattern, RouteSpec};
use crate::http::FieldName;
use crate::respond;

/// `rewrite` of a route.
#[derive(Debug)]
pub struct Rewrite {
    /// Replaces Host.
    pub host: Option<Box<[u8]>>,
    path: Option<PathRewrite>,
}

#[derive(Debug)]
enum PathRewrite {
    /// The whole path.
    Whole(Box<[u8]>),
    /// The first `from` bytes, whole segments without the last slash, become `to`, which has no last slash either.
    Prefix { from: usize, to: Box<[u8]> },
}

impl Rewrite {
    /// Compiles `rewrite`; None: nothing is rewritten.
    pub(super) fn compile(spec: &RouteSpec) -> Result<Option<Self>, (&'static str, String)> {
        const KEY: &str = "rewrite.path_prefix";
        let path = match (&spec.rewrite_path_prefix, &spec.path) {
            (None, _) => None,
            (Some(to), _) if !to.starts_with('/') => return Err((KEY, "does not begin with `/`".into())),
            (Some(_), PathPattern::Regex(_)) => return Err((KEY, "a route with path_regex has no prefix".into())),
            (Some(to), PathPattern::Exact(_)) => Some(PathRewrite::Whole(to.as_bytes().into())),
            (Some(to), PathPattern::Any) => Some(PathRewrite::prefix("/", to)),
            (Some(to), PathPattern::Prefix(from)) => Some(PathRewrite::prefix(from, to)),
        };
        let host = spec.rewrite_host.as_deref().map(|host| Box::from(host.as_bytes()));
        Ok((host.is_some() || path.is_some()).then_some(Self { host, path }))
    }

    /// Whether it rewrites the path.
    #[must_use]
    pub fn changes_path(&self) -> bool {
        self.path.is_some()
    }

    /// The two parts of the new path, for a path that the route matched. The `*` of OPTIONS stays.
    #[must_use]
    pub fn path<'a>(&'a self, path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        match &self.path {
            Some(PathRewrite::Whole(to)) if path.starts_with(b"/") => (to, b""),
            Some(PathRewrite::Prefix { from, to }) if path.starts_with(b"/") => {
                let rest = path.get(*from..).unwrap_or_default();
                if !to.is_empty() {
                    return (to, rest);
                }
                // A path that begins with `//x` would be read as a host by URL parsers.
                let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
                (b"/", rest.get(slashes..).unwrap_or_default())
            }
            _ => (b"", path),
        }
    }
}

impl PathRewrite {
    fn prefix(from: &str, to: &str) -> Self {
        let to = to.trim_end_matches('/').as_bytes().into();
        Self::Prefix { from: from.trim_end_matches('/').len(), to }
    }
}

/// `set`, `add` and `remove` of one direction.
#[derive(Debug, Default)]
pub struct Edits {
    /// Names that are removed or set, lower case.
    removed: Box<[Box<[u8]>]>,
    /// Bit n: a removed name has n bytes; bit 63: 63 or more.
    lengths: u64,
    /// The bits of the names among `removed` that cairn knows.
    removed_names: u64,
    appended: Box<[u8]>,
    /// The bits of the known names that are appended.
    appended_names: u64,
}

impl Edits {
    pub(super) fn compile(spec: &HeaderEdits) -> Self {
        let set = spec.set.iter().map(|(name, _)| name);
        let mut removed: Vec<Box<[u8]>> =
            spec.remove.iter().chain(set).map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        removed.sort();
        removed.dedup();
        let lengths = removed.iter().fold(0, |lengths, name| lengths | length_bit(name));
        let added = spec.set.iter().chain(&spec.add).fold(0, |bits, (name, _)| bits | known(name.as_bytes()));
        let lines: String =
            spec.set.iter().chain(&spec.add).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Self {
            lengths,
            removed_names: removed.iter().fold(0, |bits, name| bits | known(name)),
            appended_names: added,
            removed: removed.into(),
            appended: lines.into_bytes().into(),
        }
    }

    /// `lines`, whole field lines, after editing.
    pub(super) fn apply(&self, lines: &[u8]) -> Box<[u8]> {
        let name = |line: &[u8]| line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let kept = lines.split_inclusive(|&byte| byte == b'\n').filter(|line| !self.removes(&line[..name(line)]));
        kept.chain([&*self.appended]).collect::<Vec<_>>().concat().into()
    }

    /// Whether there is nothing to edit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths == 0 && self.appended.is_empty()
    }

    /// Whether a field of that name, in any case, is dropped: removed for good, or replaced by what is appended.
    #[must_use]
    #[inline]
    pub fn removes(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0 && self.removed.iter().any(|removed| removed.eq_ignore_ascii_case(name))
    }

    /// The bits of the known names (`FieldName::bit`) that are dropped.
    #[must_use]
    #[inline]
    pub fn removed_names(&self) -> u64 {
        self.removed_names
    }

    /// The bits of the known names that are dropped, replaced or appended.
    #[must_use]
    #[inline]
    pub fn names(&self) -> u64 {
        self.removed_names | self.appended_names
    }

    /// Field lines to write after the kept ones, each with its CRLF: what is set, then what is added.
    #[must_use]
    pub fn appended(&self) -> &[u8] {
        &self.appended
    }
}

impl respond::Edits for Edits {
    fn removes(&self, name: &[u8]) -> bool {
        self.removes(name)
    }

    fn replaces(&self, name: &[u8]) -> bool {
        self.removes(name) || self.names() & known(name) != 0
    }

    fn appended(&self) -> &[u8] {
        &self.appended
    }
}

/// The bit of a known name; 0 for any other.
fn known(name: &[u8]) -> u64 {
    match FieldName::lookup(name) {
        FieldName::Other => 0,
        id => id.bit(),
    }
}

#[inline]
fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_prefix_is_replaced_by_whole_segments() {
        for (from, to, path, new) in [
            ("/orders", "/", "/orders/7", "/7"),
            ("/orders", "/", "/orders", "/"),
            ("/orders", "/", "/orders/", "/"),
            ("/orders", "/", "/orders//7", "/7"),
            ("/orders/", "/v1/", "/orders/7", "/v1/7"),
            ("/orders", "/v1", "/orders", "/v1"),
            ("/orders", "/v1", "/orders/", "/v1/"),
            ("/", "/v1", "/x", "/v1/x"),
            ("/", "/", "/x", "/x"),
            ("/", "/v1", "/", "/v1/"),
            ("/", "/v1", "*", "*"),
        ] {
            let rewrite = Rewrite { host: None, path: Some(PathRewrite::prefix(from, to)) };
            let (prefix, rest) = rewrite.path(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&[prefix, rest].concat()), new, "{from} -> {to} for {path}");
        }
    }

    #[test]
    fn exact_path_is_replaced_whole() {
        let rewrite = Rewrite { host: None, path: Some(PathRewrite::Whole(Box::from(&b"/new/"[..]))) };
        assert_eq!(rewrite.path(b"/old"), (&b"/new/"[..], &b""[..]));
    }

    #[test]
    fn a_host_alone_leaves_the_path() {
        let rewrite = Rewrite { host: Some(Box::from(&b"internal"[..])), path: None };
        assert_eq!(rewrite.path(b"/x"), (&b""[..], &b"/x"[..]));
    }

    #[test]
    fn edits_remove_what_they_set() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let long = "x".repeat(80);
        let edits = Edits::compile(&HeaderEdits {
            set: vec![pair("X-A", "1")],
            add: vec![pair("x-b", "2")],
            remove: vec!["server".into(), long.clone()],
        });
        for (name, removed) in
            [("x-a", true), ("X-A", true), ("SERVER", true), ("x-b", false), ("x-c", false), ("", false)]
        {
            assert_eq!(edits.removes(name.as_bytes()), removed, "{name}");
        }
        assert!(edits.removes(long.as_bytes()));
        assert!(!edits.removes("y".repeat(80).as_bytes()));
        assert_eq!(edits.appended(), b"X-A: 1\r\nx-b: 2\r\n");
        assert!(!edits.is_empty());
        assert!(Edits::default().is_empty());
    }
}
