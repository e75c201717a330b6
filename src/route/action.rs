//! Actions of routes, compiled to the bytes that are written. Not here: carrying them out (`exchange`, `respond`).

use super::edit::{Edits, field_lines};
use super::host;
use super::rewrite::PathRewrite;
use super::spec::{ActionSpec, RouteSpec};
use super::template::{Template, Use, Values, Variable};
use crate::http::FieldName;
use crate::id::ClusterId;

/// The action of a route.
#[derive(Debug)]
pub enum Action {
    /// Forward to one cluster.
    Cluster(ClusterId),
    /// Forward to one of several.
    Split(Split),
    /// Answer with a Location.
    Redirect(Redirect),
    /// Answer with prebuilt bytes.
    Respond(Respond),
}

impl Action {
    /// Compiles the action of a route, whose edits of responses are `edits`.
    pub(super) fn compile(spec: &RouteSpec, edits: &Edits) -> Result<Self, (&'static str, String)> {
        Ok(match &spec.action {
            ActionSpec::Cluster(id) => Self::Cluster(*id),
            ActionSpec::Split(shares) => Self::Split(Split::compile(shares).map_err(|problem| ("split", problem))?),
            ActionSpec::Redirect { status, scheme, host, path, query } => Self::Redirect(Redirect {
                status: *status,
                scheme: scheme.as_deref().map(|scheme| scheme.as_bytes().into()),
                host: host.as_deref().map(Template::compile),
                path: path.as_ref().map(|edit| PathRewrite::compile(edit, &spec.path, "redirect")).transpose()?,
                query: query.as_deref().map(Template::compile),
            }),
            ActionSpec::Respond { status, body, headers } => {
                let mut lines = field_lines(headers.iter());
                let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
                if !has("content-type") && !body.is_empty() {
                    lines += "content-type: text/plain; charset=utf-8\r\n";
                }
                Self::Respond(Respond {
                    status: *status,
                    head: Template::compile(&edits.apply(&lines, &spec.response_headers)),
                    dated: !has("date") && edits.names() & FieldName::Date.bit() == 0,
                    body: body.as_bytes().into(),
                })
            }
        })
    }

    /// The variables in all its texts.
    pub(super) fn variables(&self) -> Vec<&Variable> {
        match self {
            Self::Redirect(Redirect { host, path, query, .. }) => {
                let texts = host.iter().chain(path.as_ref().map(PathRewrite::template)).chain(query);
                texts.flat_map(Template::variables).collect()
            }
            Self::Respond(respond) => respond.head.variables().collect(),
            Self::Cluster(_) | Self::Split(_) => Vec::new(),
        }
    }
}

/// Clusters with weights.
#[derive(Debug)]
pub struct Split {
    /// Cumulative weight and cluster. Not empty; the last sum is not 0.
    shares: Box<[(u32, ClusterId)]>,
}

impl Split {
    fn compile(weights: &[(ClusterId, u32)]) -> Result<Self, String> {
        let mut sum = 0_u32;
        let mut shares = Vec::with_capacity(weights.len());
        for &(cluster, weight) in weights.iter().filter(|(_, weight)| *weight > 0) {
            sum = sum.checked_add(weight).ok_or_else(|| format!("the weights add up to more than {}", u32::MAX))?;
            shares.push((sum, cluster));
        }
        if shares.is_empty() {
            return Err("no cluster has a weight above 0".into());
        }
        Ok(Self { shares: shares.into() })
    }

    /// The cluster for an evenly distributed `random`.
    #[must_use]
    pub fn pick(&self, random: u32) -> ClusterId {
        let total = self.shares[self.shares.len() - 1].0;
        let point = ((u64::from(random) * u64::from(total)) >> 32) as u32;
        self.shares[self.shares.partition_point(|(sum, _)| *sum <= point)].1
    }

    /// Every cluster that may be picked, with its weight.
    pub fn shares(&self) -> impl Iterator<Item = (ClusterId, u32)> {
        let before = std::iter::once(0).chain(self.shares.iter().map(|(sum, _)| *sum));
        self.shares.iter().zip(before).map(|((sum, cluster), before)| (*cluster, sum - before))
    }
}

/// Parts of a Location; those that are None come from the request.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Box<[u8]>>,
    /// Host with an optional port.
    pub host: Option<Template>,
    /// The new path.
    pub path: Option<PathRewrite>,
    /// The new query; empty: none.
    pub query: Option<Template>,
}

/// The parts of a request that its redirect keeps.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The scheme that the client uses.
    pub scheme: &'a [u8],
    /// The authority as sent.
    pub host: &'a [u8],
    /// The path as it would be forwarded.
    pub path: &'a [u8],
    /// The path of which a prefix can be replaced.
    pub rewritable: &'a [u8],
    /// What follows `?`.
    pub query: Option<&'a [u8]>,
}

impl Redirect {
    /// Appends the value of `Location`.
    ///
    /// If the scheme changes and the host does not, the request's port is dropped: it belongs to the old scheme.
    pub fn write_location(&self, target: &Target<'_>, values: &impl Values, out: &mut Vec<u8>) {
        out.extend_from_slice(self.scheme.as_deref().unwrap_or(target.scheme));
        out.extend_from_slice(b"://");
        match &self.host {
            Some(host) => host.write(Use::Host, values, out),
            None if self.scheme.is_some() => out.extend_from_slice(host::name(target.host)),
            None => out.extend_from_slice(target.host),
        }
        match &self.path {
            Some(path) => path.write(target.path, target.rewritable, values, out),
            None => out.extend_from_slice(target.path),
        }
        match &self.query {
            Some(query) if query.is_empty() => {}
            Some(query) => {
                out.push(b'?');
                query.write(Use::Query, values, out);
            }
            None => {
                for part in target.query.iter().flat_map(|query| [b"?", *query]) {
                    out.extend_from_slice(part);
                }
            }
        }
    }
}

/// A response that cairn makes itself.
#[derive(Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Field lines with the route's edits applied, each with its CRLF, without `content-length` and the empty line.
    pub head: Template,
    /// Whether a Date is to be added: the route neither sets nor removes it.
    pub dated: bool,
    /// The body.
    pub body: Box<[u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::spec::{HeaderEdits, PathEdit, PathPattern};
    use crate::route::template::mark;

    #[test]
    fn split_is_exact_by_weight() {
        let split = Split::compile(&[(ClusterId(7), 90), (ClusterId(8), 0), (ClusterId(9), 10)]).unwrap();
        let step = u32::MAX / 1000;
        let picks: Vec<_> = (0..1000).map(|i| split.pick(i * step + step / 2)).collect();
        assert_eq!(picks.iter().filter(|id| **id == ClusterId(7)).count(), 900);
        assert_eq!(picks.iter().filter(|id| **id == ClusterId(8)).count(), 0);
        assert_eq!(split.pick(0), ClusterId(7));
        assert_eq!(split.pick(u32::MAX), ClusterId(9));
        assert_eq!(split.shares().collect::<Vec<_>>(), [(ClusterId(7), 90), (ClusterId(9), 10)]);
    }

    #[test]
    fn split_refuses_weights_that_cannot_be_served() {
        assert!(Split::compile(&[]).is_err());
        assert!(Split::compile(&[(ClusterId(0), 0)]).is_err());
        assert!(Split::compile(&[(ClusterId(0), u32::MAX), (ClusterId(1), 1)]).is_err());
    }

    struct Host;

    impl Values for Host {
        fn write(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(b"a.example");
        }
    }

    #[test]
    fn location_keeps_what_is_not_replaced() {
        let www = format!("www.{}", mark("request.host"));
        let whole = |path: &str| Some(PathEdit::Whole(path.into()));
        for (scheme, host, path, query, location) in [
            (None, None, None, None, "http://a.example:8080/old/x?q=1"),
            (Some("https"), None, None, None, "https://a.example/old/x?q=1"),
            (None, Some("b.example"), None, None, "http://b.example/old/x?q=1"),
            (Some("https"), Some("b.example:8443"), whole("/new"), None, "https://b.example:8443/new?q=1"),
            (None, None, whole("/new"), None, "http://a.example:8080/new?q=1"),
            (None, None, Some(PathEdit::Prefix("/new".into())), None, "http://a.example:8080/new/x?q=1"),
            (None, Some(&*www), None, None, "http://www.a.example/old/x?q=1"),
            (None, None, None, Some(""), "http://a.example:8080/old/x"),
            (None, None, None, Some("a=1"), "http://a.example:8080/old/x?a=1"),
        ] {
            let [scheme, host, query] = [scheme, host, query].map(|part| part.map(str::to_owned));
            let action = ActionSpec::Redirect { status: 308, scheme, host, path, query };
            let mut spec = RouteSpec::new("a", action);
            spec.path = PathPattern::Prefix("/old".into());
            let Ok(Action::Redirect(redirect)) = Action::compile(&spec, &Edits::default()) else { panic!() };
            let path = b"/old/x";
            let target =
                Target { scheme: b"http", host: b"a.example:8080", path, rewritable: path, query: Some(b"q=1") };
            let mut out = Vec::new();
            redirect.write_location(&target, &Host, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), location);
        }
    }

    #[test]
    fn respond_has_a_default_type_and_the_edits_of_its_route() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (body, headers, edits, head, dated) in [
            ("ok", vec![], HeaderEdits::default(), "content-type: text/plain; charset=utf-8\r\n", true),
            ("", vec![], HeaderEdits::default(), "", true),
            ("{}", vec![pair("Content-Type", "a/b")], HeaderEdits::default(), "Content-Type: a/b\r\n", true),
            (
                "",
                vec![pair("x-a", "1"), pair("x-b", "2"), pair("date", "now")],
                HeaderEdits { set: vec![pair("X-A", "3")], add: vec![], remove: vec!["x-b".into()] },
                "date: now\r\nX-A: 3\r\n",
                false,
            ),
        ] {
            let action = ActionSpec::Respond { status: 200, body: body.into(), headers };
            let mut spec = RouteSpec::new("a", action);
            spec.response_headers = edits;
            let edits = Edits::compile(&spec.response_headers);
            let Ok(Action::Respond(respond)) = Action::compile(&spec, &edits) else { panic!() };
            assert_eq!(respond.head.plain(), Some(head.as_bytes()));
            assert_eq!(respond.dated, dated);
        }
    }
}
