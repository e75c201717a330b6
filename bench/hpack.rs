//! HPACK and heads of HTTP/2 on a request as browsers send it. Run with `cargo bench --bench hpack`.
//!
//! The Huffman code is measured against httlib-huffman. Each case checks its result before it is measured.

use std::hint::black_box;

use cairn::http::{HeadLimits, RequestHead};
use cairn::http2::head::{NeverIndexed, RequestSink, Scheme, encode_request};
use cairn::http2::hpack::{Decoder, Encoder, SectionLimits, Table, table_memory};
use cairn::http2::huffman::{HuffmanDecoder, encode, encoded_len};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use httlib_huffman::DecoderSpeed;

const SECTION: SectionLimits = SectionLimits { list_bytes: 16_384, fields: 100 };
const LIMITS: HeadLimits = HeadLimits { head_bytes: 16_384, field_count: 100, request_line: 8192 };
const REQUEST: &[u8] = b"GET /api/v1/users/12345/orders?page=2&limit=50 HTTP/1.1\r\nhost: www.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\n\
    accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    accept-encoding: gzip, deflate, br, zstd\r\naccept-language: en-US,en;q=0.9\r\n\
    referer: https://www.example.com/index.html\r\ncookie: session=0123456789abcdef; theme=dark\r\n\
    x-request-id: 0a1b2c3d-4e5f-6789-abcd-ef0123456789\r\n\r\n";

fn table() -> Table<Vec<u8>> {
    Table::new(vec![0; table_memory(4096)], 4096)
}

/// Decodes a section to a head, and checks that its text is the request.
fn decode(decoder: &mut Decoder<Vec<u8>>, section: &[u8], buffer: &mut [u8], head: &mut RequestHead) -> usize {
    let mut sink = RequestSink::new(false);
    decoder.begin(SECTION);
    decoder.fragment(section, buffer, &mut sink).expect("valid");
    let summary = decoder.end().expect("complete");
    let received = sink.finish(buffer, &summary, true, &LIMITS, head).expect("valid");
    assert!(buffer[received.text()] == *REQUEST);
    head.fields.len()
}

fn huffman(criterion: &mut Criterion) {
    let mut code = vec![0; encoded_len(REQUEST.iter().copied())];
    assert_eq!(encode(REQUEST.iter().copied(), &mut code), Some(code.len()));
    let mut out = vec![0; REQUEST.len()];
    let decode = |code: &[u8], out: &mut [u8]| {
        let mut decoder = HuffmanDecoder::new();
        let len = decoder.decode(code, out).expect("valid");
        len + decoder.finish(&mut out[len..]).expect("valid")
    };
    assert_eq!((decode(&code, &mut out), &out[..]), (REQUEST.len(), REQUEST));
    let mut group = criterion.benchmark_group("huffman");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&code), &mut out)));
    let mut other = Vec::with_capacity(2 * REQUEST.len());
    group.bench_function("decode/httlib-huffman", |bencher| {
        bencher.iter(|| {
            other.clear();
            httlib_huffman::decode(black_box(&code), &mut other, DecoderSpeed::FiveBits).expect("valid");
        });
    });
    group.bench_function("encode", |bencher| bencher.iter(|| encode(black_box(REQUEST).iter().copied(), &mut code)));
    group.finish();
}

fn sections(criterion: &mut Criterion) {
    let (mut encoder, mut decoder, never) = (Encoder::new(table()), Decoder::new(table()), NeverIndexed::default());
    let (mut out, mut buffer, mut head) = (vec![0; 4096], vec![0; 16_384], RequestHead::new());
    let mut group = criterion.benchmark_group("section");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    // Literals at first; then they are indexed, and are in the table from the third time on.
    for name in ["literal", "added", "indexed"] {
        let len = encode_request(&mut encoder, REQUEST, Scheme::Https, &never, &mut out).expect("a head");
        assert_eq!(decode(&mut decoder, &out[..len], &mut buffer, &mut head), 8);
        if name != "added" {
            let section = &out[..len];
            group.bench_function(format!("decode/{name}"), |bencher| {
                bencher.iter(|| decode(&mut decoder, black_box(section), &mut buffer, &mut head));
            });
        }
    }
    group.bench_function("encode/indexed", |bencher| {
        bencher.iter(|| encode_request(&mut encoder, black_box(REQUEST), Scheme::Https, &never, &mut out));
    });
    group.finish();
}

criterion_group!(benches, huffman, sections);
criterion_main!(benches);
