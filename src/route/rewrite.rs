//! New paths and hosts, and the way back: what an origin says of its own paths in the form that the client knows. Not here: fields that
//! are set or removed (`edit`).

use super::spec::{PathEdit, PathPattern, RouteSpec};
use super::template::{Template, Use, Values, Variable};

/// `rewrite` of a route.
#[derive(Debug)]
pub struct Rewrite {
    /// Replaces Host.
    pub host: Option<Template>,
    /// Changes the path.
    pub path: Option<PathRewrite>,
}

/// A new path for one that the route has matched.
#[derive(Debug)]
pub enum PathRewrite {
    /// The whole path.
    Whole(Template),
    /// `from`, whole segments without the last slash, becomes `to`, which has no last slash either.
    Prefix {
        /// What the path begins with.
        from: Box<[u8]>,
        /// What it begins with afterwards.
        to: Template,
    },
}

impl Rewrite {
    /// Compiles `rewrite`; None: nothing is rewritten.
    pub(super) fn compile(spec: &RouteSpec) -> Result<Option<Self>, (&'static str, String)> {
        let path =
            spec.rewrite_path.as_ref().map(|edit| PathRewrite::compile(edit, &spec.path, "rewrite")).transpose()?;
        let host = spec.rewrite_host.as_deref().map(Template::compile);
        Ok((host.is_some() || path.is_some()).then_some(Self { host, path }))
    }

    /// The variables in all its texts.
    pub(super) fn variables(&self) -> impl Iterator<Item = &Variable> {
        let host = self.host.iter().flat_map(Template::variables);
        host.chain(self.path.iter().flat_map(|path| path.template().variables()))
    }

    /// The prefix of the client's path that the origin does not see, for X-Forwarded-Prefix; None: nothing is taken away.
    #[must_use]
    pub fn stripped(&self) -> Option<&[u8]> {
        let Some(PathRewrite::Prefix { from, to }) = &self.path else { return None };
        from.strip_suffix(to.plain()?).filter(|prefix| !prefix.is_empty())
    }
}

impl PathRewrite {
    /// Compiles a change of paths that `pattern` matches; `key` is the table that it stands in.
    pub(super) fn compile(
        edit: &PathEdit,
        pattern: &PathPattern,
        key: &'static str,
    ) -> Result<Self, (&'static str, String)> {
        let (PathEdit::Whole(to) | PathEdit::Prefix(to) | PathEdit::Add(to)) = edit;
        if !to.starts_with('/') {
            return Err((key, format!("{to:?} does not begin with `/`")));
        }
        match (edit, pattern) {
            (PathEdit::Whole(to), _) | (PathEdit::Prefix(to), PathPattern::Exact(_)) => {
                Ok(Self::Whole(Template::compile(to)))
            }
            (PathEdit::Prefix(_), PathPattern::Regex(_)) => Err((key, "a route with path_regex has no prefix".into())),
            (PathEdit::Prefix(to), PathPattern::Prefix(from)) => Ok(Self::prefix(from, to)),
            (PathEdit::Prefix(to), PathPattern::Any) | (PathEdit::Add(to), _) => Ok(Self::prefix("/", to)),
        }
    }

    fn prefix(from: &str, to: &str) -> Self {
        let from = from.trim_end_matches('/').as_bytes().into();
        Self::Prefix { from, to: Template::compile(to.trim_end_matches('/')) }
    }

    pub(super) fn template(&self) -> &Template {
        match self {
            Self::Whole(to) | Self::Prefix { to, .. } => to,
        }
    }

    /// Whether the new path is made of values that a client may have chosen.
    #[must_use]
    #[inline]
    pub fn has_variables(&self) -> bool {
        self.template().plain().is_none()
    }

    /// Writes the new path for one that the route has matched, of which `forwarded` is what goes on unchanged, and `rewritable` what a
    /// prefix can be taken from. The `*` of OPTIONS stays.
    pub fn write(&self, forwarded: &[u8], rewritable: &[u8], values: &impl Values, out: &mut Vec<u8>) {
        if !forwarded.starts_with(b"/") {
            return out.extend_from_slice(forwarded);
        }
        let (Self::Whole(to) | Self::Prefix { to, .. }) = self;
        let start = out.len();
        to.write(Use::Path, values, out);
        if let Self::Prefix { from, .. } = self {
            let path = if from.is_empty() { forwarded } else { rewritable };
            let rest = path.get(from.len()..).unwrap_or_default();
            if out.len() > start {
                out.extend_from_slice(rest);
            } else {
                // A path that begins with `//x` would be read as a host by URL parsers.
                let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
                out.push(b'/');
                out.extend_from_slice(rest.get(slashes..).unwrap_or_default());
            }
        }
    }

    /// The two parts of the client's path for one of the origin's; None: no path of the client leads there.
    #[must_use]
    pub fn restore<'a>(&'a self, path: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let Self::Prefix { from, to } = self else { return None };
        let rest = path.strip_prefix(to.plain()?)?;
        let whole = rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"?") || rest.starts_with(b"#");
        // The route takes `/orders` and `/orders/`: the root of an origin is the second.
        whole.then_some((&**from, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::template::mark;

    struct Seven;

    impl Values for Seven {
        fn write(&self, _: &Variable, out: &mut Vec<u8>) {
            out.push(b'7');
        }
    }

    fn write(rewrite: &PathRewrite, path: &str) -> String {
        let mut out = Vec::new();
        rewrite.write(path.as_bytes(), path.as_bytes(), &Seven, &mut out);
        String::from_utf8(out).unwrap()
    }

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
            assert_eq!(write(&PathRewrite::prefix(from, to), path), new, "{from} -> {to} for {path}");
        }
        assert_eq!(write(&PathRewrite::prefix("/a", &format!("/v{}", mark("request.method"))), "/a/b"), "/v7/b");
    }

    #[test]
    fn edits_become_rewrites_of_what_the_route_matches() {
        let [exact, prefix] = [PathPattern::Exact("/old".into()), PathPattern::Prefix("/old".into())];
        let regex = PathPattern::Regex("/old/(.*)".into());
        let compile = |edit, pattern| PathRewrite::compile(&edit, pattern, "rewrite");
        for (edit, pattern, path, new) in [
            (PathEdit::Whole("/new/".into()), &exact, "/old", "/new/"),
            (PathEdit::Whole(format!("/new/{}", mark("regex.1"))), &regex, "/old/x", "/new/7"),
            (PathEdit::Prefix("/new".into()), &exact, "/old", "/new"),
            (PathEdit::Prefix("/new".into()), &prefix, "/old/x", "/new/x"),
            (PathEdit::Add("/v1".into()), &prefix, "/old/x", "/v1/old/x"),
            (PathEdit::Add("/v1".into()), &regex, "/old/x", "/v1/old/x"),
            (PathEdit::Prefix("/v1".into()), &PathPattern::Any, "/x", "/v1/x"),
        ] {
            assert_eq!(write(&compile(edit, pattern).unwrap(), path), new);
        }
        assert!(compile(PathEdit::Prefix("/new".into()), &regex).is_err());
        assert!(compile(PathEdit::Whole("new".into()), &regex).is_err());
    }

    #[test]
    fn the_way_back_is_that_of_whole_segments() {
        for (from, to, path, known) in [
            ("/orders", "/", "/login", "/orders/login"),
            ("/orders", "/", "/", "/orders/"),
            ("/orders", "/v1", "/v1/login?a=/v1", "/orders/login?a=/v1"),
            ("/orders", "/v1", "/v1", "/orders"),
            ("/orders", "/v1", "/v1?a", "/orders?a"),
            ("/orders", "/v1", "/v12", ""),
            ("/orders", "/v1", "/other", ""),
            ("/", "/v1", "/v1/x", "/x"),
        ] {
            let rewrite = PathRewrite::prefix(from, to);
            let restored = rewrite.restore(path.as_bytes()).map(|(prefix, rest)| [prefix, rest].concat());
            assert_eq!(String::from_utf8(restored.unwrap_or_default()).unwrap(), known, "{from} -> {to}: {path}");
        }
        assert!(PathRewrite::Whole(Template::compile("/a")).restore(b"/a").is_none());
    }

    #[test]
    fn what_the_origin_does_not_see_is_told() {
        for (from, to, stripped) in [
            ("/orders", "/", Some("/orders")),
            ("/api/v1/", "/v1", Some("/api")),
            ("/orders", "/v1", None),
            ("/", "/v1", None),
            ("/", "/", None),
        ] {
            let rewrite = Rewrite { host: None, path: Some(PathRewrite::prefix(from, to)) };
            assert_eq!(rewrite.stripped(), stripped.map(str::as_bytes), "{from} -> {to}");
        }
    }
}
