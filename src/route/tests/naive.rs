//! A router that looks at every route, and the property that the compiled one agrees with it.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, TestCaseError, any, prop, prop_assert_eq, prop_compose, prop_oneof, proptest,
};
use proptest::sample::select;

use super::*;

/// (host rank, path rank, conditions), larger is more specific; None when the route does not match.
fn specificity(spec: &RouteSpec, request: &Text) -> Option<impl Ord + use<>> {
    let host = request.host.to_ascii_lowercase();
    let host = host.split(':').next().unwrap();
    let host = host.strip_suffix('.').unwrap_or(host);
    let hosts = spec.hosts.iter().filter_map(|pattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some((2, 0)),
        HostPattern::Wildcard(suffix) => host.ends_with(&format!(".{suffix}")).then_some((1, suffix.len())),
    });
    let host = if spec.hosts.is_empty() { (0, 0) } else { hosts.max()? };
    let path = match &spec.path {
        PathPattern::Exact(path) => (*path == request.path).then_some((3, 0))?,
        PathPattern::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            let rest = request.path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((2, prefix.len()))?
        }
        PathPattern::Regex(text) => {
            let regex = regex::Regex::new(&format!("^({text})$")).unwrap();
            regex.is_match(&request.path).then_some((1, 0))?
        }
        PathPattern::Any => (0, 0),
    };
    let method = spec.methods.is_empty() || spec.methods.contains(&request.method);
    let value = |found: &[&str], pattern: &ValuePattern| match pattern {
        ValuePattern::Exact(value) => found.contains(&value.as_str()),
        ValuePattern::Regex(text) => {
            let regex = regex::Regex::new(&format!("^({text})$")).unwrap();
            found.iter().any(|found| regex.is_match(found))
        }
        ValuePattern::Present(present) => found.is_empty() != *present,
    };
    let header = |name: &str| {
        let found = request.headers.iter().filter(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let parameters = |name: &str| {
        let query = request.query.as_deref().into_iter().flat_map(|query| query.split('&'));
        let pairs = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).collect::<Vec<_>>()
    };
    let headers = spec.headers.iter().all(|(name, pattern)| value(&header(name), pattern));
    let query = spec.query.iter().all(|(name, pattern)| value(&parameters(name), pattern));
    let conditions = (!spec.methods.is_empty(), spec.headers.len(), spec.query.len());
    (method && headers && query).then_some((host, path, conditions))
}

fn naive<'a>(specs: &'a [RouteSpec], request: &Text) -> Option<&'a str> {
    let matching = specs.iter().filter_map(|spec| Some((specificity(spec, request)?, spec)));
    // The earlier of two equals: `max_by` would return the later.
    let best = matching.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, spec)| spec.name.as_str())
}

const HOSTS: [&str; 7] = ["a", "b.a", "c.b.a", "d.c.b.a", "b", "x.b", "c.a"];
const PATHS: [&str; 12] = ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b", "/b/a", "/b//a", "/a/b/c/d", "/B"];
const EXPRESSIONS: [&str; 4] = ["/a/.*", "/[ab]", ".*b", "/b.*|/a"];
const METHODS: [&str; 3] = ["GET", "PUT", "HEAD"];
const VALUES: [&str; 3] = ["1", "2", "12"];

fn pattern() -> impl Strategy<Value = ValuePattern> {
    prop_oneof![
        select(&VALUES[..]).prop_map(|value| ValuePattern::Exact(value.into())),
        Just(ValuePattern::Regex("1.?".into())),
        any::<bool>().prop_map(ValuePattern::Present),
    ]
}

fn fields() -> impl Strategy<Value = Vec<(String, ValuePattern)>> {
    let names = proptest::sample::subsequence(vec!["x", "y"], 0..=2);
    (names, pattern(), pattern())
        .prop_map(|(names, first, second)| names.into_iter().map(str::to_owned).zip([first, second]).collect())
}

prop_compose! {
    fn spec()(
        hosts in prop::collection::vec((any::<bool>(), select(&HOSTS[..])), 0..3),
        path in prop_oneof![
            Just(PathPattern::Any),
            select(&PATHS[..]).prop_map(|path| PathPattern::Exact(path.into())),
            select(&PATHS[..]).prop_map(|path| PathPattern::Prefix(path.into())),
            select(&EXPRESSIONS[..]).prop_map(|text| PathPattern::Regex(text.into())),
        ],
        methods in proptest::sample::subsequence(METHODS.to_vec(), 0..=1),
        headers in prop_oneof![3 => Just(Vec::new()), 1 => fields()],
        query in prop_oneof![3 => Just(Vec::new()), 1 => fields()],
    ) -> RouteSpec {
        let host = |(exact, name): (bool, &str)| {
            if exact { HostPattern::Exact(name.into()) } else { HostPattern::Wildcard(name.into()) }
        };
        RouteSpec {
            hosts: hosts.into_iter().map(host).collect(),
            path,
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            ..bare("")
        }
    }
}

prop_compose! {
    fn request()(
        host in select(&HOSTS[..]),
        form in select(&["", ":80", ".", ".:80"][..]),
        upper in any::<bool>(),
        path in select(&PATHS[..]),
        method in select(&METHODS[..]),
        query in prop_oneof![
            Just(None),
            select(&["x=1", "y=2&x=12", "x", "z=1", "x=2&x=1", ""][..]).prop_map(|query| Some(query.to_owned())),
        ],
        headers in prop::collection::vec((select(&["x", "y"][..]), select(&VALUES[..])), 0..3),
    ) -> Text {
        let host = if upper { host.to_uppercase() } else { host.to_owned() };
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Text { method: method.into(), host: host + form, path: path.into(), query, headers: headers.collect() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_and_naive_router_agree(
        mut specs in prop::collection::vec(spec(), 0..20),
        requests in prop::collection::vec(request(), 1..30),
    ) {
        for (index, spec) in specs.iter_mut().enumerate() {
            spec.name = format!("{index}");
        }
        // Routes with the same match are refused: leave the later ones out.
        if let Err(errors) = Router::build(&specs, 1) {
            specs.retain(|spec| errors.iter().all(|error| error.route != spec.name));
        }
        let router = Router::build(&specs, 1).map_err(|errors| TestCaseError::fail(format!("{errors:?}")))?;
        for request in &requests {
            let found = router.find(ListenerId(0), request).map(|route| &*route.name);
            prop_assert_eq!(found, naive(&specs, request), "{:?}", request);
            let chosen = router.explain(ListenerId(0), request).into_iter().find(|one| one.verdict == Verdict::Chosen);
            let chosen = chosen.map(|one| &*router.routes()[one.route.index()].name);
            prop_assert_eq!(chosen, found);
        }
    }
}
