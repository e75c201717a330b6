//! Cost of writing heads: requests to origins, responses to clients, answers of our own. Each case checks its bytes before it is
//! timed. Not here: parsing, sending.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use cairn::config;
use cairn::downstream::response::{self, HeadStyle};
use cairn::exchange::{Failure, Forwarded, HeadKind, Peer, RequestId, RequestValues, RouteRequest};
use cairn::http::path::{Forms, Rules};
use cairn::http::{HeadLimits, Method, RequestHead, ResponseHead, Version, parse_request, parse_response};
use cairn::id::ListenerId;
use cairn::respond::{AnswerFields, Format, ResponseStyle};
use cairn::route::Captures;
use cairn::snapshot::{Ledger, Snapshot};
use cairn::trace::TraceContext;
use criterion::{Criterion, criterion_group, criterion_main};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 16 << 10, field_count: 100, request_line: 8 << 10 };

const SMALL: &str = "GET /orders/7 HTTP/1.1\r\nHost: example.com\r\n\r\n";
const BROWSER: &str = "GET /orders/7?full=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
    Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en,de;q=0.5\r\nAccept-Encoding: gzip, br\r\n\
    Referer: https://example.com/orders\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
    Content-Length: 64\r\nCache-Control: no-store\r\nServer: origin\r\nConnection: keep-alive\r\n\r\n";

const DATE: [u8; 37] = *b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// One route, which removes Server and sets a field.
fn snapshot() -> Snapshot {
    let text = "[[listener]]\nname = 'l'\nbind = '127.0.0.1:0'\n[[route]]\nname = 'r'\ncluster = 'c'\n\
                response_headers = { remove = ['server'], set = { x-served-by = 'cairn' } }\n\
                [[cluster]]\nname = 'c'\nendpoints = ['127.0.0.1:1']\n";
    config::parse("bench.toml", text).expect("valid").compile(1, &mut Ledger::default()).expect("compiles")
}

fn requests(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let peer = Peer::new(Some((IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 4711)), false, false, false);
    for (case, text) in [("3 lines", SMALL), ("10 fields", BROWSER)] {
        let mut request = RequestHead::new();
        let parsed = parse_request(text.as_bytes(), &LIMITS, &mut 0, &mut request);
        assert_eq!(parsed, Ok(Some(text.len())));
        let id = RequestId::new(b"0123456789abcdef0123456789abcdef");
        let trace = TraceContext::default();
        let (head, listener) = (text.as_bytes(), ListenerId(0));
        let asked = RouteRequest { request: &request, head, listener, peer: &peer, tls: None, arrival: None, id: &id };
        let (mut paths, captures) = (Forms::with_capacity(1024), Captures::new());
        assert!(paths.read(request.path(head), Rules::default()).is_ok());
        let route = &snapshot.router.routes()[0];
        let values = RequestValues { asked, snapshot: &snapshot, route, paths: &paths, captures: &captures };
        let forwarded = Forwarded {
            values,
            upgrade: None,
            key: None,
            fallback: b"",
            left: None,
            trace: &trace,
            takes_trailers: false,
        };
        let mut out = Vec::with_capacity(4096);
        forwarded.write(&mut out);
        let written = String::from_utf8_lossy(&out).into_owned();
        assert!(written.starts_with("GET /orders/7") && written.ends_with("\r\n\r\n"), "{written}");
        assert!(
            written.contains("x-forwarded-for: 192.0.2.7\r\n") && written.contains("via: 1.1 cairn\r\n"),
            "{written}"
        );
        assert!(!written.to_lowercase().contains("connection:"), "{written}");
        criterion.bench_function(&format!("encode/request/{case}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&forwarded).write(&mut out);
                out.len()
            });
        });
    }
}

fn responses(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let mut head = ResponseHead::new();
    let parsed = parse_response(RESPONSE.as_bytes(), &LIMITS, &mut 0, Method::Get, &mut head);
    assert_eq!(parsed, Ok(Some(RESPONSE.len())));
    let route = &snapshot.router.routes()[0];
    let style = HeadStyle {
        kind: HeadKind::Final,
        route,
        kept: None,
        keep_alive: true,
        version: Version::Http11,
        date: &DATE,
        hsts: b"",
        cookie: None,
    };
    let mut out = Vec::with_capacity(4096);
    response::write(&style, &head, RESPONSE.as_bytes(), &mut out);
    let written = String::from_utf8_lossy(&out).into_owned();
    assert!(written.starts_with("HTTP/1.1 200 OK\r\n") && written.ends_with("content-length: 64\r\n\r\n"), "{written}");
    assert!(written.contains("x-served-by: cairn") && !written.contains("Server"), "{written}");
    criterion.bench_function("encode/response/6 fields, edited", |bencher| {
        bencher.iter(|| {
            out.clear();
            response::write(black_box(&style), &head, RESPONSE.as_bytes(), &mut out);
            out.len()
        });
    });
}

fn answers(criterion: &mut Criterion) {
    let style = ResponseStyle {
        format: Format::Json,
        method: Method::Get,
        keep_alive: true,
        version: Version::Http11,
        now: 784_111_777,
    };
    let answer = Failure::NoRoute.answer();
    let mut out = Vec::with_capacity(4096);
    answer.write(&style, &(), AnswerFields::default(), None, &mut out);
    let written = String::from_utf8_lossy(&out).into_owned();
    assert!(
        written.starts_with("HTTP/1.1 404 Not Found\r\n") && written.ends_with("\"reason\":\"no_route\"}\n"),
        "{written}"
    );
    criterion.bench_function("encode/answer/404 as JSON", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(answer).write(&style, &(), AnswerFields::default(), None, &mut out);
            out.len()
        });
    });
}

criterion_group!(benches, requests, responses, answers);
criterion_main!(benches);
