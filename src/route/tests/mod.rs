//! Specificity by example; against a naive router in `naive`.

mod build;
mod naive;

use super::*;
use crate::id::{ClusterId, Network};

/// A request as text: `METHOD host/path?query` and fields.
#[derive(Clone, Debug, Default)]
struct Text {
    method: String,
    host: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    client_ip: Option<IpAddr>,
    identity: Option<String>,
    secure: bool,
    port: Option<u16>,
}

impl Text {
    /// `GET a.example:80/x?q=1 name=value`; `@192.0.2.1` is the client, `^name` its identity, `https` the scheme, `:8443` the port of the listener.
    fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let method = words.next().unwrap().to_owned();
        let target = words.next().unwrap();
        let (target, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.into())));
        let (host, path) = target.split_at(target.find('/').unwrap_or(target.len()));
        let mut request = Self { method, host: host.into(), path: path.into(), query, ..Self::default() };
        for word in words {
            match word.as_bytes() {
                b"https" => request.secure = true,
                [b'^', ..] => request.identity = Some(word[1..].into()),
                [b'@', ..] => request.client_ip = Some(word[1..].parse().unwrap()),
                [b':', ..] => request.port = Some(word[1..].parse().unwrap()),
                _ => {
                    let (name, value) = word.split_once('=').unwrap();
                    // A space in a value would end the word.
                    request.headers.push((name.into(), value.replace(';', "; ")));
                }
            }
        }
        request
    }
}

impl Request for Text {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }
    fn header(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(field, _)| field.as_bytes() == name).map(|(_, value)| value.as_bytes())
    }
    fn client_ip(&self) -> Option<IpAddr> {
        self.client_ip
    }
    fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }
    fn scheme(&self) -> Scheme {
        if self.secure { Scheme::Https } else { Scheme::Http }
    }
    fn port(&self) -> Option<u16> {
        self.port
    }
}

fn bare(name: &str) -> RouteSpec {
    RouteSpec::new(name, ActionSpec::Cluster(ClusterId(0)))
}

/// A route from words, its name being the whole text: `a.b` `*.b` host, `=/x` exact, `/x` prefix, `~re` expression,
/// `GET` method, `h:name=value` header, `q:name=value` query, `c:name=value` cookie, `^name` client, `@10.0.0.0/8` client_ip, `https` scheme, `:80`
/// port; a value may be `~re`, `+` (present) or `-` (absent); `!` before a condition puts it under `not`.
fn route(text: &str) -> RouteSpec {
    let mut spec = bare(text);
    let value = |text: &str| {
        let (name, value) = text.split_once('=').unwrap();
        let pattern = match value {
            "+" => ValuePattern::Present(true),
            "-" => ValuePattern::Present(false),
            _ => value.strip_prefix('~').map_or(ValuePattern::Exact(value.into()), |re| ValuePattern::Regex(re.into())),
        };
        (name.to_owned(), pattern)
    };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (conditions, word) = match word.strip_prefix('!') {
            Some(word) => (&mut spec.not, word),
            None => (&mut spec.conditions, word),
        };
        match word.as_bytes() {
            [b'=', ..] => spec.path = PathPattern::Exact(word[1..].into()),
            [b'/', ..] => spec.path = PathPattern::Prefix(word.into()),
            [b'~', ..] => spec.path = PathPattern::Regex(word[1..].into()),
            [b'*', b'.', ..] => spec.hosts.push(HostPattern::Wildcard(word[2..].into())),
            [b'h', b':', ..] => conditions.headers.push(value(&word[2..])),
            [b'q', b':', ..] => conditions.query.push(value(&word[2..])),
            [b'c', b':', ..] => conditions.cookies.push(value(&word[2..])),
            b"http" => conditions.scheme = Some(Scheme::Http),
            b"https" => conditions.scheme = Some(Scheme::Https),
            [b':', ..] => conditions.port = Some(word[1..].parse().unwrap()),
            [b'@', ..] => {
                let (address, prefix) = word[1..].split_once('/').unwrap();
                let (address, prefix) = (address.parse().unwrap(), prefix.parse().unwrap());
                conditions.client_ip.push(Network { address, prefix });
            }
            [b'^', ..] => conditions.client.push(ClientPattern::parse(&word[1..]).unwrap()),
            [b'#', ..] => {} // Only makes the name unique.
            [b'A'..=b'Z', ..] => conditions.methods.push(word.into()),
            _ => spec.hosts.push(HostPattern::Exact(word.into())),
        }
    }
    spec
}

fn router(routes: &[&str]) -> Router {
    let specs: Vec<_> = routes.iter().map(|text| route(text)).collect();
    Router::build(&specs, &[Protocol::Http; 1]).unwrap()
}

fn check(routes: &[&str], expected: &[(&str, &str)]) {
    let router = router(routes);
    let mut reversed: Vec<_> = routes.to_vec();
    reversed.reverse();
    let reversed = self::router(&reversed);
    for (line, name) in expected {
        for router in [&router, &reversed] {
            let found = router.find(ListenerId(0), &Text::parse(line)).map(|route| &*route.name);
            assert_eq!(found.unwrap_or("none"), *name, "{line}");
        }
    }
}

#[test]
fn hosts() {
    check(
        &["", "a.example", "*.example", "*.b.example", "[::1]", "x.b.example /only"],
        &[
            ("GET a.example/", "a.example"),
            ("GET A.Example:8080/", "a.example"),
            ("GET a.example./", "a.example"),
            ("GET a.example.:80/", "a.example"),
            ("GET b.example/", "*.example"),
            ("GET c.d.example/", "*.example"),
            ("GET c.b.example/", "*.b.example"),
            ("GET c.d.B.EXAMPLE/", "*.b.example"),
            ("GET x.b.example/only", "x.b.example /only"),
            ("GET x.b.example/else", "*.b.example"),
            ("GET .example/", "*.example"),
            ("GET example/", ""),
            ("GET aexample/", ""),
            ("GET [::1]:80/", "[::1]"),
            ("GET [0:0:0:0:0:0:0:1]/", "[::1]"),
            ("GET [0000::0001]:8080/", "[::1]"),
            ("GET [::0.0.0.1]/", "[::1]"),
            ("GET [::2]/", ""),
            ("GET /", ""),
        ],
    );
    check(&["a.example"], &[("GET b.example/", "none"), ("GET /", "none")]);
}

#[test]
fn a_host_longer_than_a_name_can_be_is_no_named_host() {
    let long = format!("{}.example", "a".repeat(246));
    let fits = format!("{}.example", "a".repeat(245));
    check(&["", "*.example"], &[(&format!("GET {fits}/"), "*.example"), (&format!("GET {long}/"), "")]);
    check(&["", "*.example"], &[(&format!("GET {}/", long.to_uppercase()), "")]);
}

#[test]
fn paths() {
    check(
        &["", "/", "/orders", "/orders/x/", "=/orders", "=/orders/x/y", "=/", "=/trail/", "=/a//b"],
        &[
            ("GET h/", "=/"),
            ("GET h/else", "/"),
            ("GET h/orders", "=/orders"),
            ("GET h/orders/", "/orders"),
            ("GET h/orders/7", "/orders"),
            ("GET h/orders2", "/"),
            ("GET h/Orders", "/"),
            ("GET h/orders/x", "/orders/x/"),
            ("GET h/orders/x/", "/orders/x/"),
            ("GET h/orders/x/y", "=/orders/x/y"),
            ("GET h/orders/x/y/", "/orders/x/"),
            ("GET h/orders/x/z/q", "/orders/x/"),
            ("GET h/orders/xy", "/orders"),
            ("GET h/trail/", "=/trail/"),
            ("GET h/trail", "/"),
            ("GET h/trail/x", "/"),
            ("GET h/a//b", "=/a//b"),
            ("GET h/a/b", "/"),
            ("OPTIONS h", "/"),
        ],
    );
}

#[test]
fn expressions() {
    check(
        &["~/v[0-9]+/.*", "/v1/users", "", "~/x|/y"],
        &[
            ("GET h/v1/users/7", "/v1/users"),
            ("GET h/v1/orders", "~/v[0-9]+/.*"),
            ("GET h/a/v1/orders", ""),
            ("GET h/x", "~/x|/y"),
            ("GET h/y", "~/x|/y"),
            ("GET h/x/z", ""),
            ("GET h/z/y", ""),
            ("GET h/v1/\u{e9}", "~/v[0-9]+/.*"),
        ],
    );
}

#[test]
fn conditions() {
    check(
        &["/a", "/a GET", "/a h:x=1", "/a h:x=1 h:y=2", "/a q:d=1", "/a GET q:d=1", "/a q:d=~[0-9]+ q:e=+"],
        &[
            ("POST h/a", "/a"),
            ("GET h/a", "/a GET"),
            ("get h/a", "/a"),
            ("GET h/a x=1", "/a GET"),
            ("POST h/a x=1", "/a h:x=1"),
            ("POST h/a x=1 y=2", "/a h:x=1 h:y=2"),
            ("POST h/a x=1 y=3", "/a h:x=1"),
            ("POST h/a x=2 y=3 x=1 y=2 x=3", "/a h:x=1 h:y=2"),
            ("POST h/a x=2 x=3", "/a"),
            ("POST h/a?d=1 x=1", "/a h:x=1"),
            ("POST h/a?d=1", "/a q:d=1"),
            ("GET h/a?d=1", "/a GET q:d=1"),
            ("GET h/a?d=2", "/a GET"),
            ("POST h/a?d=2", "/a"),
            ("POST h/a?d=22&e", "/a q:d=~[0-9]+ q:e=+"),
            ("POST h/a?%64=2%32&e", "/a q:d=~[0-9]+ q:e=+"),
            ("POST h/a?d=%31", "/a q:d=1"),
            ("POST h/a?d=2&d=1", "/a q:d=1"),
            ("POST h/a?d=2&%64=%31&d=3", "/a q:d=1"),
            ("POST h/a?d=x&d=7&e", "/a q:d=~[0-9]+ q:e=+"),
            ("POST h/a?d=2&d=3", "/a"),
        ],
    );
    check(
        &["/a h:x=-", "/a h:x=~a.*", "/b h:x=+"],
        &[
            ("GET h/a", "/a h:x=-"),
            ("GET h/a x=ab", "/a h:x=~a.*"),
            ("GET h/a x=ba", "none"),
            ("GET h/a x=ba x=ab", "/a h:x=~a.*"),
            ("GET h/a x=ba x=bb", "none"),
            ("GET h/b x=", "/b h:x=+"),
            ("GET h/b", "none"),
        ],
    );
}

#[test]
fn conditions_on_the_client() {
    check(
        &[
            "/a",
            "/a @10.0.0.0/8 @fd00::/8",
            "/a c:lang=de",
            "/a c:lang=de c:beta=+",
            "/a https",
            "/a :8443",
            "/a GET !c:x=+",
        ],
        &[
            ("POST h/a", "/a"),
            ("POST h/a @10.1.2.3", "/a @10.0.0.0/8 @fd00::/8"),
            ("POST h/a @::ffff:10.1.2.3", "/a @10.0.0.0/8 @fd00::/8"),
            ("POST h/a @fd12::1", "/a @10.0.0.0/8 @fd00::/8"),
            ("POST h/a @11.0.0.0", "/a"),
            ("POST h/a cookie=lang=de", "/a c:lang=de"),
            ("POST h/a cookie=a=1;lang=de;beta=", "/a c:lang=de c:beta=+"),
            ("POST h/a cookie=lang=en cookie=x=1 cookie=lang=de", "/a c:lang=de"),
            ("POST h/a cookie=lang=en;Lang=de", "/a"),
            ("POST h/a https", "/a https"),
            ("POST h/a :8443", "/a :8443"),
            ("POST h/a :443", "/a"),
            ("POST h/a https :8443", "/a https"),
            ("GET h/a", "/a GET !c:x=+"),
            ("GET h/a cookie=x=1", "/a"),
            // What a client sends does not put another route before the one for its address.
            ("GET h/a cookie=lang=de;beta=1 https @10.0.0.1", "/a @10.0.0.0/8 @fd00::/8"),
        ],
    );
    // Each condition under `not` by itself keeps requests away.
    check(
        &["/a", "/a !@10.0.0.0/8 !POST !h:x=1 !https !:81", "/b !h:x=- !q:d=~[0-9]+"],
        &[
            ("GET h/a", "/a !@10.0.0.0/8 !POST !h:x=1 !https !:81"),
            ("GET h/a x=2 @11.0.0.1 :80", "/a !@10.0.0.0/8 !POST !h:x=1 !https !:81"),
            ("GET h/a @10.0.0.1", "/a"),
            ("POST h/a", "/a"),
            ("GET h/a x=2 x=1", "/a"),
            ("GET h/a https", "/a"),
            ("GET h/a :81", "/a"),
            ("GET h/b x=1", "/b !h:x=- !q:d=~[0-9]+"),
            ("GET h/b x=1?d=a", "/b !h:x=- !q:d=~[0-9]+"),
            ("GET h/b?d=1 x=1", "none"),
            ("GET h/b", "none"),
        ],
    );
}

#[test]
fn failed_conditions_fall_through_to_the_less_specific() {
    check(
        &["a.b /x/y PUT", "a.b /x POST", "a.b ~/x/.* PATCH", "*.b /x DELETE", " /x", "=/x/y HEAD"],
        &[
            ("PUT a.b/x/y/z", "a.b /x/y PUT"),
            ("POST a.b/x/y/z", "a.b /x POST"),
            ("PATCH a.b/x/y/z", "a.b ~/x/.* PATCH"),
            ("DELETE a.b/x/y/z", "*.b /x DELETE"),
            ("GET a.b/x/y/z", " /x"),
            ("HEAD a.b/x/y", "=/x/y HEAD"),
            ("GET a.b/z", "none"),
        ],
    );
}

#[test]
fn file_order_decides_between_equals() {
    let router = router(&["/a h:x=1 #first", "/a h:y=1 #second"]);
    let found = router.find(ListenerId(0), &Text::parse("GET h/a x=1 y=1"));
    assert_eq!(found.map(|route| route.id), Some(RouteId(0)));
}

#[test]
fn listeners_have_their_own_routes() {
    let mut specs = [route("/a"), route("/b"), route("/c"), route("/b #other")];
    specs[1].listeners = vec![ListenerId(1), ListenerId(2)];
    specs[3].listeners = vec![ListenerId(0)];
    let router = Router::build(&specs, &[Protocol::Http; 4]).unwrap();
    let found = |listener, line| router.find(ListenerId(listener), &Text::parse(line)).map(|route| route.id.0);
    assert_eq!(found(0, "GET h/b"), Some(3));
    assert_eq!(found(1, "GET h/b"), Some(1));
    assert_eq!(found(2, "GET h/b"), Some(1));
    assert_eq!(found(3, "GET h/b"), None);
    assert_eq!(found(3, "GET h/c"), Some(2));
    assert_eq!(found(4, "GET h/c"), None);
    assert_eq!(router.tables.len(), 3, "listeners 1 and 2 share");
}

/// (the name that a ClientHello asks for, the protocols that it offers, the route)
#[test]
fn connections_have_routes_of_their_own() {
    let tcp = |text: &str, alpn: &[&str]| {
        let mut spec = RouteSpec { protocol: Protocol::Tcp, ..route(text) };
        spec.conditions.alpn = alpn.iter().map(ToString::to_string).collect();
        spec
    };
    let mut specs = [
        tcp("*.db.corp", &[]),
        tcp("one.db.corp", &["postgresql", "h2"]),
        tcp("*.db.corp @10.0.0.0/8", &[]),
        tcp("#rest", &[]),
        route("one.db.corp"),
        tcp("#plain", &[]),
    ];
    specs[3].listeners = vec![ListenerId(1)];
    specs[5].listeners = vec![ListenerId(3)];
    let protocols = [Protocol::Http, Protocol::Tcp, Protocol::Tcp, Protocol::Tcp];
    let router = Router::build(&specs, &protocols).unwrap();
    let found = |listener, name: &str, protocols: &[&'static str], client: Option<IpAddr>| {
        let sample = Sample { protocols: protocols.to_vec(), client_ip: client, ..Sample::get(name, "") };
        router.find(ListenerId(listener), &sample).map(|route| route.id.0)
    };
    let inside = Some("10.0.0.1".parse().unwrap());
    for (name, offered, client, expected) in [
        ("one.db.corp", &["x", "h2"][..], None, Some(1)),
        ("One.DB.corp.", &["h2"], inside, Some(1)),
        ("one.db.corp", &["http/1.1"], None, Some(0)),
        ("one.db.corp", &[], inside, Some(2)),
        ("two.db.corp", &["h2"], None, Some(0)),
        ("db.corp", &[], None, Some(3)),
        ("", &[], None, Some(3)),
    ] {
        assert_eq!(found(1, name, offered, client), expected, "{name} {offered:?}");
        // The third listener has no route for the rest.
        assert_eq!(found(2, name, offered, client), expected.filter(|it| *it != 3), "{name} {offered:?}");
    }
    assert_eq!((found(0, "one.db.corp", &[], None), found(0, "two.db.corp", &[], None)), (Some(4), None));
    assert_eq!([0, 1, 2, 3, 4].map(|id| router.reads_hello(ListenerId(id))), [true, true, true, true, false]);
    let plain = Router::build(&specs[5..], &protocols).unwrap();
    assert!(!plain.reads_hello(ListenerId(3)) && plain.find(ListenerId(3), &Sample::get("", "")).is_some());
    let twice = [tcp("*.a", &["x", "y"]), tcp("*.a #2", &["y", "x"])];
    let errors = Router::build(&twice, &protocols).unwrap_err();
    assert_eq!(errors[0].to_string(), "route \"*.a #2\": sni: matches the same connections as route \"*.a\" (sni a)");
}

#[test]
fn a_router_without_routes_finds_none() {
    let router = Router::build(&[], &[Protocol::Http; 1]).unwrap();
    assert!(router.find(ListenerId(0), &Text::parse("GET h/")).is_none());
    assert!(router.routes().is_empty());
}

#[test]
fn explain_names_each_verdict_in_order() {
    let router = router(&["/", "a.b /x PUT", "a.b /x q:d=1 h:x=1", "a.b ~/y", "*.b c.b a.b /x", "/z"]);
    let considered = router.explain(ListenerId(0), &Text::parse("GET a.b/x?d=1"));
    let considered: Vec<_> = considered.into_iter().map(|one| (one.route.0, one.verdict)).collect();
    assert_eq!(
        considered,
        [
            (1, Verdict::Unmet(Unmet::Fails(Condition::Method))),
            (2, Verdict::Unmet(Unmet::Fails(Condition::Header("x")))),
            (4, Verdict::Chosen),
            (3, Verdict::Unmet(Unmet::Fails(Condition::Path))),
            (0, Verdict::Shadowed(RouteId(4))),
        ]
    );
    assert!(router.explain(ListenerId(1), &Text::parse("GET a.b/x")).is_empty());
    for (condition, line, unmet) in [
        ("@10.0.0.0/8", "GET h/", Unmet::Fails(Condition::ClientIp)),
        ("c:a=1", "GET h/", Unmet::Fails(Condition::Cookie("a"))),
        ("https", "GET h/", Unmet::Fails(Condition::Scheme)),
        (":80", "GET h/", Unmet::Fails(Condition::Port)),
        ("!@10.0.0.0/8", "GET h/ @10.0.0.1", Unmet::Not(Condition::ClientIp)),
        ("!GET", "GET h/", Unmet::Not(Condition::Method)),
        ("!h:x=1", "GET h/ x=1", Unmet::Not(Condition::Header("x"))),
        ("!q:x=1", "GET h/?x=1", Unmet::Not(Condition::Query("x"))),
        ("!c:x=1", "GET h/ cookie=x=1", Unmet::Not(Condition::Cookie("x"))),
        ("!http", "GET h/", Unmet::Not(Condition::Scheme)),
        ("!:80", "GET h/ :80", Unmet::Not(Condition::Port)),
    ] {
        let router = self::router(&[condition]);
        let considered = router.explain(ListenerId(0), &Text::parse(line));
        assert_eq!(considered, [Considered { route: RouteId(0), verdict: Verdict::Unmet(unmet) }], "{condition}");
    }
}
