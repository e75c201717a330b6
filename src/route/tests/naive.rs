//! A router that looks at every route, and the property that the compiled one agrees with it.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, TestCaseError, any, prop, prop_assert_eq, prop_compose, prop_oneof, proptest,
};
use proptest::sample::select;

use super::*;
use crate::id::Network;

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
    let (wanted, not) = (&spec.conditions, &spec.not);
    let count = |conditions: &[(String, ValuePattern)]| conditions.len();
    let order = (
        !wanted.client.is_empty(),
        !wanted.client_ip.is_empty(),
        (!wanted.methods.is_empty(), count(&wanted.headers), count(&wanted.query), count(&wanted.cookies)),
        (wanted.scheme.is_some(), wanted.port.is_some(), held(not, request).len()),
    );
    let all = held(wanted, request).iter().all(|holds| *holds);
    let none = held(not, request).iter().all(|holds| !holds);
    (all && none).then_some((host, path, order))
}

/// Whether each of the conditions holds.
fn held(conditions: &ConditionsSpec, request: &Text) -> Vec<bool> {
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
    let cookies = |name: &str| {
        let pairs =
            header("cookie").into_iter().flat_map(|field| field.split("; ")).filter_map(|it| it.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).collect::<Vec<_>>()
    };
    let mut held = Vec::new();
    if !conditions.client.is_empty() {
        let text = |it: &ClientPattern| it.to_string();
        let meant = |identity: &String| {
            conditions.client.iter().map(text).any(|it| {
                it.strip_suffix('*')
                    .map_or(it == *identity, |start| identity.starts_with(start) && identity.len() >= it.len())
            })
        };
        held.push(request.identity.as_ref().is_some_and(meant));
    }
    if !conditions.client_ip.is_empty() {
        let inside = |address| conditions.client_ip.iter().any(|network| network.contains(address));
        held.push(request.client_ip.is_some_and(inside));
    }
    if !conditions.methods.is_empty() {
        held.push(conditions.methods.contains(&request.method));
    }
    held.extend(conditions.headers.iter().map(|(name, pattern)| value(&header(name), pattern)));
    held.extend(conditions.query.iter().map(|(name, pattern)| value(&parameters(name), pattern)));
    held.extend(conditions.cookies.iter().map(|(name, pattern)| value(&cookies(name), pattern)));
    held.extend(conditions.scheme.map(|scheme| (scheme == Scheme::Https) == request.secure));
    held.extend(conditions.port.map(|port| request.port == Some(port)));
    held
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
const CLIENTS: [&str; 4] = ["spiffe://a/b", "spiffe://a/*", "shop", "CN=a"];
const NETWORKS: [(&str, u8); 4] = [("10.0.0.0", 8), ("10.1.0.0", 16), ("192.0.2.7", 32), ("fd00::", 8)];

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
    fn conditions()(
        methods in proptest::sample::subsequence(METHODS.to_vec(), 0..=1),
        headers in prop_oneof![3 => Just(Vec::new()), 1 => fields()],
        query in prop_oneof![3 => Just(Vec::new()), 1 => fields()],
        cookies in prop_oneof![5 => Just(Vec::new()), 1 => fields()],
        clients in prop_oneof![4 => Just(Vec::new()), 1 => proptest::sample::subsequence(CLIENTS.to_vec(), 1..=2)],
        networks in prop_oneof![4 => Just(Vec::new()), 1 => proptest::sample::subsequence(NETWORKS.to_vec(), 1..=2)],
        scheme in prop::option::weighted(0.1, select(&[Scheme::Http, Scheme::Https][..])),
        port in prop::option::weighted(0.1, select(&[80, 81][..])),
    ) -> ConditionsSpec {
        let network = |(address, prefix): (&str, u8)| Network { address: address.parse().unwrap(), prefix };
        ConditionsSpec {
            client: clients.into_iter().map(|it| ClientPattern::parse(it).unwrap()).collect(),
            client_ip: networks.into_iter().map(network).collect(),
            alpn: Vec::new(),
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            cookies,
            scheme,
            port,
        }
    }
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
        conditions in conditions(),
        not in prop_oneof![3 => Just(ConditionsSpec::default()), 1 => conditions()],
    ) -> RouteSpec {
        let host = |(exact, name): (bool, &str)| {
            if exact { HostPattern::Exact(name.into()) } else { HostPattern::Wildcard(name.into()) }
        };
        RouteSpec {
            hosts: hosts.into_iter().map(host).collect(),
            path,
            conditions,
            not,
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
        cookies in prop::collection::vec(select(&["x=1; y=2", "y=12", "x=2", "z=1; x=1", ""][..]), 0..3),
        identity in prop::option::of(select(&["spiffe://a/b", "spiffe://a/b/c", "shop", "CN=a", "CN=b"][..])),
        client_ip in prop::option::of(select(&["10.0.0.1", "::ffff:10.1.0.1", "192.0.2.7", "fd00::1"][..])),
        secure in any::<bool>(),
        port in prop::option::of(80..=81_u16),
    ) -> Text {
        let host = if upper { host.to_uppercase() } else { host.to_owned() };
        let cookies = cookies.into_iter().map(|cookies| ("cookie", cookies));
        let headers = headers.into_iter().chain(cookies).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Text {
            method: method.into(),
            host: host + form,
            path: path.into(),
            query,
            headers: headers.collect(),
            identity: identity.map(str::to_owned),
            client_ip: client_ip.map(|address| address.parse().unwrap()),
            secure,
            port,
        }
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
        if let Err(errors) = Router::build(&specs, &[Protocol::Http; 1]) {
            specs.retain(|spec| errors.iter().all(|error| error.route != spec.name));
        }
        let router = Router::build(&specs, &[Protocol::Http; 1]).map_err(|errors| TestCaseError::fail(format!("{errors:?}")))?;
        for request in &requests {
            let found = router.find(ListenerId(0), request).map(|route| &*route.name);
            prop_assert_eq!(found, naive(&specs, request), "{:?}", request);
            let chosen = router.explain(ListenerId(0), request).into_iter().find(|one| one.verdict == Verdict::Chosen);
            let chosen = chosen.map(|one| &*router.routes()[one.route.index()].name);
            prop_assert_eq!(chosen, found);
        }
    }
}
