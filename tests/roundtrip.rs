//! What cairn passes on, read again by a strict reader: a head that it accepted leaves as one head with the same meaning, and
//! holds nothing that was not validated. Not here: what is accepted (`tests/http.rs`).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use cairn::config;
use cairn::downstream::response::{self, HeadStyle};
use cairn::exchange::{Forwarded, HeadKind, Peer, RequestId, RequestValues, RouteRequest};
use cairn::http::path::{Forms, Rules};
use cairn::http::{FieldName, HeadLimits, Method, RequestHead, ResponseHead, parse_request, parse_response};
use cairn::id::ListenerId;
use cairn::limits;
use cairn::route::Captures;
use cairn::snapshot::{Ledger, Snapshot};
use cairn::trace::{Received, TraceContext};
use proptest::prelude::*;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes: limits::HEAD_BYTES_MAX, field_count: limits::HEADER_COUNT_MAX, request_line: 8192 };

const DATE: [u8; 37] = *b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// Fields that are written into every request, or where something was understood: of an upgrade, of Max-Forwards.
const OURS: [FieldName; 8] = [
    FieldName::Connection,
    FieldName::XForwardedFor,
    FieldName::XForwardedProto,
    FieldName::XForwardedHost,
    FieldName::Forwarded,
    FieldName::XRequestId,
    FieldName::Via,
    FieldName::MaxForwards,
];

const CONFIG: &str = r#"
[[listener]]
name = "a"
bind = "127.0.0.1:0"
[[route]]
name = "plain"
cluster = "c"
[[route]]
name = "edited"
path_prefix = "/edited"
cluster = "c"
request_headers = { set = { x-set = "1" }, add = { x-add = "2" }, remove = ["x-one"] }
response_headers = { set = { x-set = "1" }, add = { x-add = "2" }, remove = ["x-one"] }
[[cluster]]
name = "c"
endpoints = ["127.0.0.1:1"]
"#;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let config = config::parse("test.toml", CONFIG).unwrap_or_else(|report| panic!("{report}"));
    config.compile(1, &mut Ledger::default()).unwrap_or_else(|report| panic!("{report}"))
});

/// Lines of which a head is made; most heads made of them are refused, many are not.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(X-One|x-two|Accept|Cookie|User-Agent|X-Forwarded-For|Forwarded|X_Real_IP|Via|TE|Range): [ -~]{0,30}",
        2 => proptest::sample::select(vec![
            "Content-Length: 5", "Content-Length: 0", "Transfer-Encoding: chunked", "Connection: close", "Connection: x-one, te",
            "Connection: keep-alive", "Keep-Alive: 5", "Upgrade: websocket", "Connection: upgrade", "Expect: 100-continue",
            "Proxy-Connection: keep-alive", "Trailer: x", "Max-Forwards: 3", "X-Request-Id: 7", "Proxy: x", "Date: now",
        ]).prop_map(str::to_owned),
        1 => "[!-9;-~]{1,12}:[ -~\u{80}-\u{ff}]{0,12}",
    ]
}

fn line() -> impl Strategy<Value = String> {
    let method = proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]);
    let target = prop_oneof![
        4 => "(/[a-z0-9._~!$&'()*+,;=:@-]{0,12}){1,4}(\\?[ -~]{0,12})?",
        1 => "(/(\\.|\\.\\.|%2e|%41|a%2fb|[a-z])){1,5}",
        1 => "(http://a\\.test(:80)?/[a-z]{0,5}|\\*)",
    ];
    (method, target, proptest::sample::select(vec!["1.1", "1.0"]))
        .prop_map(|(method, target, version)| format!("{method} {target} HTTP/{version}"))
}

fn head(start: &str, fields: &[String]) -> Vec<u8> {
    let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{start}{lines}\r\n").into_bytes()
}

/// The same fields with more whitespace than any needs, in every other one.
fn spaced(fields: &[String]) -> Vec<String> {
    let spaced = |(index, field): (usize, &String)| match field.split_once(':') {
        Some((name, value)) if index % 2 == 0 => format!("{name}:\t{value} "),
        _ => field.clone(),
    };
    fields.iter().enumerate().map(spaced).collect()
}

/// Names of fields that belong to one connection, as they stand in a head.
fn hop_by_hop(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let names = ["\nkeep-alive:", "\nproxy-connection:", "\nte:", "\nproxy:"];
    names.iter().any(|name| text.contains(name))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(line in line(), fields in proptest::collection::vec(field(), 0..8), trusted: bool, edited: bool) {
        let start = format!("{line}\r\nHost: a.test\r\n");
        let text = &head(&start, &fields);
        let (mut request, mut again) = (RequestHead::new(), RequestHead::new());
        let accepted = parse_request(text, &LIMITS, &mut 0, &mut request);
        prop_assume!(matches!(accepted, Ok(Some(_))));
        let sent = request.path(text);
        let mut forms = Forms::with_capacity(sent.len());
        prop_assume!(forms.read(sent, Rules::default()).is_ok());
        let path = forms.forwarded(sent);
        let peer = Peer::new(Some((IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 4711)), trusted, false, false);
        let upgrade = request.upgrade.map(|protocols| protocols.of(text));
        let route = &SNAPSHOT.router.routes()[usize::from(edited)];
        let id = RequestId::new(b"0123456789abcdef0123456789abcdef");
        let mut trace = TraceContext::default();
        if let Some(received) = Received::of(&request, text, false) {
            trace.continue_with(&received);
        }
        let asked = RouteRequest { request: &request, head: text, listener: ListenerId(0), peer: &peer, tls: None, arrival: None, id: &id };
        let captures = Captures::new();
        let values = RequestValues { asked, snapshot: &SNAPSHOT, route, paths: &forms, captures: &captures };
        let forwarded =
            Forwarded { values, upgrade, key: None, fallback: b"", left: None, trace: &trace, takes_trailers: false };
        let mut out = Vec::new();
        forwarded.write(&mut out);
        // One head, all of it, and the same request.
        prop_assert_eq!(parse_request(&out, &LIMITS, &mut 0, &mut again), Ok(Some(out.len())), "{}", out.escape_ascii());
        prop_assert_eq!(again.method_text.of(&out), request.method_text.of(text));
        prop_assert_eq!(again.path(&out), path);
        prop_assert_eq!(again.query.map(|it| it.of(&out)), request.query.map(|it| it.of(text)));
        prop_assert_eq!(again.authority.of(&out), request.authority.of(text));
        prop_assert_eq!(again.body, request.body);
        prop_assert_eq!(again.upgrade.map(|it| it.of(&out)), upgrade);
        prop_assert!(!hop_by_hop(&out), "{}", out.escape_ascii());
        // Nobody but us says who the client is.
        let claimed = again.fields.get(FieldName::XForwardedFor).map_or(&b""[..], |field| field.value.of(&out));
        prop_assert!(claimed.ends_with(b"192.0.2.7") && (trusted || claimed == b"192.0.2.7"), "{}", out.escape_ascii());
        prop_assert!(!out.windows(6).any(|it| it.eq_ignore_ascii_case(b"x_real")));
        // What passes, by which routes are chosen, arrives; of the rest nothing does but what is ours.
        for field in request.fields.iter().filter(|_| !edited) {
            let (name, passes) = (field.name.of(text), peer.passes(&request, text, field));
            let arrives = again.fields.named(&out, name).next().is_some();
            prop_assert!(arrives == passes || arrives && OURS.contains(&field.id), "{}", name.escape_ascii());
        }
        // The whitespace around values makes no difference.
        let text = &head(&start, &spaced(&fields));
        prop_assert_eq!(parse_request(text, &LIMITS, &mut 0, &mut again), Ok(Some(text.len())));
        let mut same = Vec::new();
        let asked = RouteRequest { request: &again, head: text, ..asked };
        Forwarded { values: RequestValues { asked, ..values }, ..forwarded }.write(&mut same);
        prop_assert_eq!(same.escape_ascii().to_string(), out.escape_ascii().to_string());
    }

    #[test]
    fn responses(
        status in 200_u16..600,
        fields in proptest::collection::vec(field(), 0..8),
        keep_alive: bool,
        edited: bool,
    ) {
        let start = format!("HTTP/1.1 {status} Words\r\n");
        let text = &head(&start, &fields);
        let (mut response, mut again) = (ResponseHead::new(), ResponseHead::new());
        prop_assume!(matches!(parse_response(text, &LIMITS, &mut 0, Method::Get, &mut response), Ok(Some(_))));
        let style =
            HeadStyle { kind: HeadKind::Final, route: &SNAPSHOT.router.routes()[usize::from(edited)], kept: None, keep_alive, version: cairn::http::Version::Http11, date: &DATE, hsts: b"", cookie: None };
        let mut out = Vec::new();
        response::write(&style, &response, text, &mut out);
        let read = parse_response(&out, &LIMITS, &mut 0, Method::Get, &mut again);
        prop_assert_eq!(read, Ok(Some(out.len())), "{}", out.escape_ascii());
        prop_assert_eq!(again.status, status);
        prop_assert_eq!(again.keep_alive, keep_alive);
        // What ends with the origin's connection is chunked, so that ours can stay.
        let framing = match response.body {
            cairn::http::BodyFraming::Close => cairn::http::BodyFraming::Chunked,
            other => other,
        };
        prop_assert_eq!(again.body, framing, "{}", out.escape_ascii());
        prop_assert!(!hop_by_hop(&out), "{}", out.escape_ascii());
        let text = &head(&start, &spaced(&fields));
        let read = parse_response(text, &LIMITS, &mut 0, Method::Get, &mut again);
        prop_assert_eq!(read, Ok(Some(text.len())));
        let mut same = Vec::new();
        response::write(&style, &again, text, &mut same);
        prop_assert_eq!(same.escape_ascii().to_string(), out.escape_ascii().to_string());
    }
}
