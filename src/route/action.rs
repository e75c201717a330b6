//! Actions of routes, compiled to the bytes that are written. Not here: carrying them out (`exchange`, `respond`).

use super::host;
use super::spec::ActionSpec;
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
    pub(super) fn compile(spec: &ActionSpec) -> Result<Self, (&'static str, String)> {
        let bytes = |text: &Option<String>| text.as_deref().map(|text| Box::from(text.as_bytes()));
        Ok(match spec {
            ActionSpec::Cluster(id) => Self::Cluster(*id),
            ActionSpec::Split(shares) => Self::Split(Split::compile(shares).map_err(|problem| ("split", problem))?),
            ActionSpec::Redirect { status, scheme, host, path } => Self::Redirect(Redirect {
                status: *status,
                scheme: bytes(scheme),
                host: bytes(host),
                path: bytes(path),
            }),
            ActionSpec::Respond { status, body, headers } => Self::Respond(Respond::compile(*status, body, headers)),
        })
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
    pub host: Option<Box<[u8]>>,
    /// The whole path; the query is kept.
    pub path: Option<Box<[u8]>>,
}

impl Redirect {
    /// Writes the value of `Location` in pieces. `host` is the authority as sent.
    ///
    /// If the scheme changes and the host does not, the request's port is dropped: it belongs to the old scheme.
    pub fn write_location(
        &self,
        scheme: &[u8],
        host: &[u8],
        path: &[u8],
        query: Option<&[u8]>,
        out: &mut impl FnMut(&[u8]),
    ) {
        let kept = if self.scheme.is_some() { host::name(host) } else { host };
        out(self.scheme.as_deref().unwrap_or(scheme));
        out(b"://");
        out(self.host.as_deref().unwrap_or(kept));
        out(self.path.as_deref().unwrap_or(path));
        if let Some(query) = query {
            out(b"?");
            out(query);
        }
    }
}

/// A response that cairn makes itself.
#[derive(Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Field lines with the route's edits applied, each with its CRLF, without `content-length` and the empty line.
    pub head: Box<[u8]>,
    /// Whether a Date is to be added: the route neither sets nor removes it.
    pub dated: bool,
    /// The body.
    pub body: Box<[u8]>,
}

impl Respond {
    fn compile(status: u16, body: &str, fields: &[(String, String)]) -> Self {
        let mut head: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let typed = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !typed && !body.is_empty() {
            head.push_str("content-type: text/plain; charset=utf-8\r\n");
        }
        let dated = !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("date"));
        Self { status, head: head.into_bytes().into(), dated, body: body.as_bytes().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn location_keeps_what_is_not_replaced() {
        let part = |text: &str| (!text.is_empty()).then(|| Box::from(text.as_bytes()));
        for (scheme, host, path, location) in [
            ("", "", "", "http://a.example:8080/x?q=1"),
            ("https", "", "", "https://a.example/x?q=1"),
            ("", "b.example", "", "http://b.example/x?q=1"),
            ("https", "b.example:8443", "/new", "https://b.example:8443/new?q=1"),
            ("", "", "/new", "http://a.example:8080/new?q=1"),
        ] {
            let redirect = Redirect { status: 308, scheme: part(scheme), host: part(host), path: part(path) };
            let mut out = Vec::new();
            redirect.write_location(b"http", b"a.example:8080", b"/x", Some(b"q=1"), &mut |b| out.extend_from_slice(b));
            assert_eq!(String::from_utf8_lossy(&out), location);
        }
    }

    #[test]
    fn respond_has_a_default_type() {
        assert_eq!(*Respond::compile(200, "ok", &[]).head, *b"content-type: text/plain; charset=utf-8\r\n");
        assert_eq!(*Respond::compile(204, "", &[]).head, *b"");
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        assert_eq!(*Respond::compile(200, "{}", &json).head, *b"Content-Type: application/json\r\n");
    }
}
