//! Cost of routing. Each case checks its answers before it is timed. Not here: parsing, picking an endpoint, forwarding.

use std::hint::black_box;
use std::net::IpAddr;

use cairn::id::{ClusterId, ListenerId};
use cairn::route::{ActionSpec, HostPattern, PathPattern, Protocol, Request, RouteSpec, Router, Scheme, ValuePattern};
use criterion::{Criterion, criterion_group, criterion_main};

const HOSTS: usize = 10_000;
const PREFIXES: [&str; 5] = ["/", "/orders", "/users", "/static/assets", "/api/v2/payments"];
const PATHS: [&str; 5] = ["/7", "/orders/7", "/users/7", "/static/assets/7", "/api/v2/payments/7"];

/// A request that is made while the clock runs, so that its own bytes are as warm as those of a parsed head.
struct Get {
    host: [u8; 26],
    path: &'static str,
}

impl Get {
    /// For one of `hosts` hosts and all paths in a scattered order.
    fn scattered(turn: usize, hosts: usize) -> (usize, usize, Self) {
        let scattered = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let (number, path) = ((scattered as usize * hosts) >> 32, turn % PATHS.len());
        (number, path, Self { host: host(number), path: PATHS[path] })
    }
}

fn host(number: usize) -> [u8; 26] {
    let mut host = *b"service-00000.example.com.";
    let digit = |power: usize| b'0' + (number / power % 10) as u8;
    host[8..13].copy_from_slice(&[digit(10_000), digit(1000), digit(100), digit(10), digit(1)]);
    host
}

fn name(number: usize) -> String {
    String::from_utf8_lossy(&host(number)).trim_end_matches('.').to_owned()
}

impl Request for Get {
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn host(&self) -> &[u8] {
        &self.host
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        (name == b"x-canary").then_some(&b"1"[..]).into_iter()
    }
    fn client_ip(&self) -> Option<IpAddr> {
        None
    }
    fn identity(&self) -> Option<&str> {
        None
    }
    fn scheme(&self) -> Scheme {
        Scheme::Http
    }
    fn port(&self) -> Option<u16> {
        None
    }
}

fn route(name: String, hosts: Vec<HostPattern>, path: PathPattern) -> RouteSpec {
    RouteSpec { hosts, path, ..RouteSpec::new(name, ActionSpec::Cluster(ClusterId(0))) }
}

/// `hosts` hosts with each of the prefixes.
fn table(hosts: usize) -> Router {
    let pairs = (0..hosts).flat_map(|number| PREFIXES.map(|prefix| (number, prefix)));
    let specs = pairs.map(|(number, prefix)| {
        let pattern = HostPattern::Exact(name(number));
        route(format!("{number}{prefix}"), vec![pattern], PathPattern::Prefix(prefix.into()))
    });
    Router::build(&specs.collect::<Vec<_>>(), &[Protocol::Http; 1]).expect("valid routes")
}

fn measure(criterion: &mut Criterion, case: &str, router: &Router, hosts: usize) {
    for turn in 0..2 * hosts * PATHS.len() {
        let (number, path, request) = Get::scattered(turn, hosts);
        let found = router.find(ListenerId(0), &request).map(|route| &*route.name);
        assert_eq!(found, Some(&*format!("{number}{}", PREFIXES[path])), "{case}");
    }
    let mut turn = 0;
    criterion.bench_function(case, |bencher| {
        bencher.iter(|| {
            turn += 1;
            let (_, _, request) = Get::scattered(turn, hosts);
            black_box(router.find(ListenerId(0), black_box(&request)))
        });
    });
}

fn tables(criterion: &mut Criterion) {
    let mut turn = 0;
    criterion.bench_function("route/make a request", |bencher| {
        bencher.iter(|| {
            turn += 1;
            black_box(&Get::scattered(turn, HOSTS));
        });
    });
    for hosts in [1, 100, HOSTS] {
        measure(criterion, &format!("route/find/{} routes", hosts * PREFIXES.len()), &table(hosts), hosts);
    }
}

fn single(criterion: &mut Criterion) {
    let exact = || vec![HostPattern::Exact(name(1))];
    let wildcard = vec![HostPattern::Wildcard("example.com".into())];
    let prefix = || PathPattern::Prefix("/orders".into());
    let mut conditional = route("r".into(), exact(), prefix());
    conditional.conditions.methods = vec!["GET".into()];
    conditional.conditions.headers = vec![("x-canary".into(), ValuePattern::Exact("1".into()))];
    let request = Get { host: host(1), path: "/orders/7" };
    for (case, spec) in [
        ("any", route("r".into(), Vec::new(), PathPattern::Any)),
        ("prefix", route("r".into(), Vec::new(), prefix())),
        ("host", route("r".into(), exact(), PathPattern::Any)),
        ("host+prefix", route("r".into(), exact(), prefix())),
        ("wildcard+prefix", route("r".into(), wildcard, prefix())),
        ("host+prefix+method+header", conditional),
        ("host+regex", route("r".into(), exact(), PathPattern::Regex("/orders/[0-9]+".into()))),
    ] {
        let router = Router::build(&[spec], &[Protocol::Http; 1]).expect("valid route");
        assert!(router.find(ListenerId(0), &request).is_some(), "{case}");
        criterion.bench_function(&format!("route/find/one route, {case}"), |bencher| {
            bencher.iter(|| black_box(router.find(ListenerId(0), black_box(&request))));
        });
    }
}

fn edits(criterion: &mut Criterion) {
    let mut spec = route("r".into(), Vec::new(), PathPattern::Any);
    spec.request_headers.set = vec![("x-a".into(), "1".into())];
    spec.request_headers.remove = vec!["x-internal".into(), "server".into()];
    let router = Router::build(&[spec], &[Protocol::Http; 1]).expect("valid route");
    let route = &router.routes()[0];
    let names: [&[u8]; 8] =
        [b"Host", b"User-Agent", b"Accept", b"Cookie", b"Accept-Encoding", b"X-Internal", b"Referer", b"Connection"];
    for (case, edits) in [("none", &route.response_edits), ("three names", &route.request_edits)] {
        criterion.bench_function(&format!("route/edits/8 fields, {case}"), |bencher| {
            bencher.iter(|| names.iter().filter(|name| edits.removes(black_box(name))).count());
        });
    }
}

criterion_group!(benches, tables, single, edits);
criterion_main!(benches);
