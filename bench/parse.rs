//! The HTTP/1 message layer against httparse, on heads as they occur. Run with `cargo bench --bench parse`.
//!
//! httparse finds lines; cairn also decides framing, host, connection options and known names in the same time.
//! Each case checks its result before it is measured, so that a fast wrong answer fails.

use std::hint::black_box;

use cairn::http::*;
use cairn::limits;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes: limits::HEAD_BYTES_MAX,
    field_count: limits::HEADER_COUNT,
    request_line: limits::REQUEST_LINE_BYTES,
};

/// Name, bytes, fields, body.
type Head = (&'static str, Vec<u8>, usize, BodyFraming);

fn lines(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn requests() -> Vec<Head> {
    let monster: String = (0..49).map(|i| format!("X-Header-Number-{i}: some value number {i}\n")).collect();
    let cookie = (0..20).map(|i| format!("cookie_{i}=0123456789abcdef0123456789abcdef")).collect::<Vec<_>>().join("; ");
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMzQifQ.".repeat(20);
    vec![
        ("tiny", lines("GET / HTTP/1.1\nHost: example.com\n\n"), 1, BodyFraming::None),
        (
            "service",
            lines(
                "GET /v1/accounts/1234/balance HTTP/1.1\nHost: accounts.internal:8080\nUser-Agent: billing/1.42\n\
                 Accept: application/json\nAccept-Encoding: gzip\nX-Request-Id: 6f1d9d3e-7c1b-4f0a-9d7e-0d1f6c3b2a19\n\
                 Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n\n",
            ),
            6,
            BodyFraming::None,
        ),
        (
            "browser",
            lines(
                "GET /articles/2024/05/how-to-measure?ref=home&utm_source=feed HTTP/1.1\nHost: www.example.com\n\
                 Connection: keep-alive\nCache-Control: max-age=0\n\
                 sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\n\
                 sec-ch-ua-mobile: ?0\nsec-ch-ua-platform: \"Linux\"\nUpgrade-Insecure-Requests: 1\n\
                 User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\n\
                 Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\n\
                 Sec-Fetch-Site: same-origin\nSec-Fetch-Mode: navigate\nSec-Fetch-User: ?1\nSec-Fetch-Dest: document\n\
                 Referer: https://www.example.com/\nAccept-Encoding: gzip, deflate, br, zstd\n\
                 Accept-Language: en-GB,en;q=0.9,de;q=0.8\nCookie: sid=0123456789abcdef; theme=dark\n\n",
            ),
            17,
            BodyFraming::None,
        ),
        (
            "post-jwt",
            lines(&format!(
                "POST /api/v2/orders HTTP/1.1\nHost: api.example.com\nContent-Type: application/json\n\
                 Content-Length: 348\nAccept: application/json\nAuthorization: Bearer {token}\n\
                 X-Request-Id: 6f1d9d3e-7c1b-4f0a-9d7e-0d1f6c3b2a19\nUser-Agent: orders-client/3.1 (linux)\n\
                 Idempotency-Key: 9e107d9d372bb6826bd81d3542a419d6\n\n"
            )),
            8,
            BodyFraming::Length(348),
        ),
        (
            "cookies",
            lines(&format!("GET / HTTP/1.1\nHost: shop.example.com\nCookie: {cookie}\n\n")),
            2,
            BodyFraming::None,
        ),
        ("fifty-fields", lines(&format!("GET /x HTTP/1.1\nHost: example.com\n{monster}\n")), 50, BodyFraming::None),
        (
            "upload",
            lines(
                "PUT /bucket/object?partNumber=1&uploadId=abc HTTP/1.1\nHost: storage.example.com\n\
                 Transfer-Encoding: chunked\nContent-Type: application/octet-stream\nExpect: 100-continue\n\
                 Connection: keep-alive\n\n",
            ),
            5,
            BodyFraming::Chunked,
        ),
        (
            "websocket",
            lines(
                "GET /chat HTTP/1.1\nHost: chat.example.com\nUpgrade: websocket\nConnection: Upgrade\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\nOrigin: https://example.com\n\n",
            ),
            6,
            BodyFraming::None,
        ),
    ]
}

fn responses() -> Vec<Head> {
    vec![
        ("small", lines("HTTP/1.1 200 OK\nContent-Length: 2\n\n"), 1, BodyFraming::Length(2)),
        (
            "json",
            lines(
                "HTTP/1.1 200 OK\nServer: nginx\nDate: Tue, 07 May 2024 12:00:00 GMT\nContent-Type: application/json\n\
                 Content-Length: 1024\nConnection: keep-alive\nCache-Control: no-store\nETag: \"5f3c-1a2b\"\n\
                 X-Request-Id: 6f1d9d3e-7c1b-4f0a-9d7e-0d1f6c3b2a19\n\n",
            ),
            8,
            BodyFraming::Length(1024),
        ),
        (
            "set-cookies",
            lines(
                "HTTP/1.1 302 Found\nLocation: https://www.example.com/account\nTransfer-Encoding: chunked\n\
                 Set-Cookie: sid=0123456789abcdef; Path=/; HttpOnly; Secure; SameSite=Lax\n\
                 Set-Cookie: csrf=fedcba9876543210; Path=/; Secure; SameSite=Strict; Max-Age=3600\n\
                 Strict-Transport-Security: max-age=31536000; includeSubDomains\n\
                 Content-Security-Policy: default-src 'self'; img-src 'self' data:; script-src 'self'\n\
                 X-Content-Type-Options: nosniff\nVary: Accept-Encoding, Cookie\n\n",
            ),
            8,
            BodyFraming::Chunked,
        ),
        ("not-modified", lines("HTTP/1.1 304 Not Modified\nETag: \"5f3c-1a2b\"\nAge: 10\n\n"), 2, BodyFraming::None),
    ]
}

fn heads(c: &mut Criterion) {
    for (name, bytes, fields, body) in requests() {
        let mut group = c.benchmark_group(format!("request/{name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut head = RequestHead::new();
        assert_eq!(parse_request(&bytes, &LIMITS, &mut 0, &mut head), Ok(Some(bytes.len())), "{name}");
        assert_eq!((head.fields.len(), head.body), (fields, body), "{name}");
        group.bench_function("cairn", |b| {
            b.iter(|| parse_request(black_box(&bytes), &LIMITS, &mut 0, &mut head));
        });
        group.bench_function("httparse", |b| {
            b.iter(|| {
                let mut table = [const { std::mem::MaybeUninit::uninit() }; limits::HEADER_COUNT];
                let mut request = httparse::Request::new(&mut []);
                let status = request.parse_with_uninit_headers(black_box(&bytes), &mut table);
                assert!(status.is_ok());
                request.headers.len()
            });
        });
    }
    for (name, bytes, fields, body) in responses() {
        let mut group = c.benchmark_group(format!("response/{name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut head = ResponseHead::new();
        assert_eq!(parse_response(&bytes, &LIMITS, &mut 0, Method::Get, &mut head), Ok(Some(bytes.len())), "{name}");
        assert_eq!((head.fields.len(), head.body), (fields, body), "{name}");
        group.bench_function("cairn", |b| {
            b.iter(|| parse_response(black_box(&bytes), &LIMITS, &mut 0, Method::Get, &mut head));
        });
        group.bench_function("httparse", |b| {
            b.iter(|| {
                let mut table = [const { std::mem::MaybeUninit::uninit() }; limits::HEADER_COUNT];
                let mut response = httparse::Response::new(&mut []);
                let config = httparse::ParserConfig::default();
                let status = config.parse_response_with_uninit_headers(&mut response, black_box(&bytes), &mut table);
                assert!(status.is_ok());
                response.headers.len()
            });
        });
    }
}

fn chunks(c: &mut Criterion) {
    for (name, size, count) in [("small", 64, 200), ("large", 8192, 8)] {
        let one = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        let bytes = one.repeat(count);
        let mut group = c.benchmark_group(format!("chunked/{name}"));
        group.throughput(Throughput::Elements(count as u64));
        let run = ChunkedDecoder::new().run(&bytes);
        assert_eq!(run, Ok(VerbatimRun { len: bytes.len(), data: size * count }), "{name}");
        group.bench_function("cairn", |b| b.iter(|| ChunkedDecoder::new().run(black_box(&bytes))));
        // httparse reads sizes only: the walk from chunk to chunk is the caller's.
        group.bench_function("httparse", |b| {
            b.iter(|| {
                let (mut rest, mut data) = (black_box(&bytes[..]), 0);
                while let Ok(httparse::Status::Complete((used, size))) = httparse::parse_chunk_size(rest) {
                    data += size;
                    rest = rest.get(used + size as usize + 2..).unwrap_or_default();
                }
                assert_eq!(data as usize, size * count);
            });
        });
    }
}

fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for (name, path) in [
        ("short", "/v1/accounts/1234/balance"),
        ("long", "/articles/2024/05/a-long-path/that-goes-on/and-on/for-more-than/one-hundred/characters/index.html"),
        ("dots", "/static/../images/./%7Euser/logo.png"),
    ] {
        let mut forms = path::Forms::with_capacity(256);
        group.bench_function(name, |b| {
            b.iter(|| {
                let read = forms.read(black_box(path.as_bytes()), path::Rules::default());
                read.map(|()| (forms.normal(path.as_bytes()).len(), forms.forwarded(path.as_bytes()).len()))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(900)).without_plots();
    targets = heads, chunks, paths
}
criterion_main!(benches);
