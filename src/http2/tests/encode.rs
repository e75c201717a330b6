//! Heads that are sent: text to a field section and back.

use crate::http::{BodyFraming, HeadLimits, Method, RequestHead, ResponseHead};
use crate::http2::head::{
    EncodeError, NeverIndexed, RequestSink, ResponseSink, Scheme, encode_request, encode_response, encode_trailers,
};
use crate::http2::hpack::{DecodedField, Decoder, Encoder, FieldSink, Next, SectionLimits, Table, table_memory};

const SECTION: SectionLimits = SectionLimits { list_bytes: 60_000, fields: 256 };
const LIMITS: HeadLimits = HeadLimits { head_bytes: 16_384, field_count: 100, request_line: 8192 };

fn encoder() -> Encoder<Vec<u8>> {
    Encoder::new(Table::new(vec![0; table_memory(4096)], 4096))
}

fn decoder() -> Decoder<Vec<u8>> {
    Decoder::new(Table::new(vec![0; table_memory(4096)], 4096))
}

#[derive(Default)]
struct Collect(Vec<String>);

impl FieldSink for Collect {
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mark = if field.never_indexed { " !" } else { "" };
        self.0.push(format!("{} {}{mark}", text(field.name(out)), text(field.value(out))));
        Next::At(field.start)
    }
}

fn fields(section: &[u8]) -> Vec<String> {
    let (mut sink, mut decoder) = (Collect::default(), decoder());
    decoder.begin(SECTION);
    decoder.fragment(section, &mut [0; 60_000], &mut sink).expect("valid");
    decoder.end().expect("complete");
    sink.0
}

fn request(text: &str, never_indexed: &NeverIndexed) -> Result<Vec<String>, EncodeError> {
    let mut out = vec![0; text.len() + 1000];
    let len = encode_request(&mut encoder(), text.as_bytes(), Scheme::Https, never_indexed, &mut out)?;
    Ok(fields(&out[..len]))
}

#[test]
fn requests() {
    let none = NeverIndexed::default();
    let text = "GET /a?b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: x y\r\ncookie: a=1\r\nconnection: close\r\nKeep-Alive: 5\r\n\
                transfer-encoding: chunked\r\nproxy-connection: x\r\nhttp2-settings: x\r\nte: gzip\r\nx-empty: \r\nx-space:  z \r\n\r\n";
    assert_eq!(
        request(text, &none).expect("a head"),
        [
            ":method GET",
            ":scheme https",
            ":path /a?b",
            ":authority a.test",
            "user-agent x y",
            "cookie a=1 !",
            "x-empty ",
            "x-space z",
        ]
    );
    let connect = "CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n";
    assert_eq!(request(connect, &none).expect("a head"), [":method CONNECT", ":authority a.test:443"]);
    let upgrade = "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: abc\r\nsec-websocket-version: 13\r\nte: Trailers\r\n\r\n";
    assert_eq!(
        request(upgrade, &none).expect("a head"),
        [
            ":method CONNECT",
            ":scheme https",
            ":path /chat",
            ":authority a.test",
            ":protocol websocket",
            "sec-websocket-version 13",
            "te Trailers",
        ]
    );
    let mut never = NeverIndexed::default();
    never.insert(b"x-secret");
    let secret = "GET / HTTP/1.1\r\nhost: a\r\nX-Secret: b\r\nx-other: c\r\n\r\n";
    assert_eq!(request(secret, &never).expect("a head")[4..], ["x-secret b !", "x-other c"]);
}

#[test]
fn what_is_no_head_is_not_encoded() {
    for text in [
        "",
        "\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "GET / HTTP/1.1\r\nhost\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\na: b\r\n\r\nc: d\r\n\r\n",
        "GET / HTTP/1.1\r\na: b\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        " / HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        assert_eq!(request(text, &NeverIndexed::default()), Err(EncodeError::NoHead), "{text:?}");
    }
    let (mut encoder, never) = (encoder(), NeverIndexed::default());
    for text in ["HTTP/1.1 20\r\n\r\n", "HTTP/2 200\r\n\r\n", "200\r\n\r\n"] {
        let result = encode_response(&mut encoder, text.as_bytes(), &never, &mut [0; 500]);
        assert_eq!(result, Err(EncodeError::NoHead), "{text:?}");
    }
    assert_eq!(encode_trailers(&mut encoder, b"a: b\r\n", &never, &mut [0; 500]), Err(EncodeError::NoHead));
    assert_eq!(encode_trailers(&mut encoder, b"a: b\r\n\r\n", &never, &mut [0; 50]), Err(EncodeError::NoRoom));
}

#[test]
fn responses_and_trailers() {
    let (mut encoder, never, mut out) = (encoder(), NeverIndexed::default(), [0; 1000]);
    let text =
        "HTTP/1.1 404 Not Found\r\nServer: x\r\nSet-Cookie: a=1\r\ncontent-length: 5\r\nConnection: close\r\n\r\n";
    let len = encode_response(&mut encoder, text.as_bytes(), &never, &mut out).expect("a head");
    assert_eq!(fields(&out[..len]), [":status 404", "server x", "set-cookie a=1 !", "content-length 5"]);
    let len =
        encode_trailers(&mut encoder, b"grpc-status: 0\r\nGrpc-Message: \r\n\r\n", &never, &mut out).expect("lines");
    assert_eq!(fields(&out[..len]), ["grpc-status 0", "grpc-message "]);
    assert_eq!(encode_trailers(&mut encoder, b"\r\n", &never, &mut out), Ok(0));
}

/// A received text, encoded for the other side and received there, is the same text.
#[test]
fn received_text_survives_another_hop() {
    let text = "POST /a?b HTTP/1.1\r\nhost: a.test\r\nuser-agent: x\r\ncontent-length: 3\r\ncookie: a=1; b=2\r\nx-\u{e9}: 1\r\n\r\n"
        .replace("x-\u{e9}", "x-y");
    let (mut encoder, mut decoder) = (encoder(), decoder());
    for _ in 0..4 {
        let mut out = [0; 1000];
        let never = NeverIndexed::default();
        let len = encode_request(&mut encoder, text.as_bytes(), Scheme::Http, &never, &mut out).expect("a head");
        let (mut sink, mut buffer, mut head) = (RequestSink::new(false), [0; 4200], RequestHead::new());
        decoder.begin(SECTION);
        decoder.fragment(&out[..len], &mut buffer, &mut sink).expect("valid");
        let summary = decoder.end().expect("complete");
        let received = sink.finish(&mut buffer, &summary, false, &LIMITS, &mut head).expect("valid");
        assert_eq!(String::from_utf8_lossy(&buffer[received.text()]), text);
        assert_eq!(head.body, BodyFraming::Length(3));
    }
    let text = "HTTP/1.1 200 \r\nserver: x\r\n\r\n";
    let (mut out, mut buffer, mut head) = ([0; 1000], [0; 4200], ResponseHead::new());
    let len = encode_response(&mut encoder, text.as_bytes(), &NeverIndexed::default(), &mut out).expect("a head");
    let mut sink = ResponseSink::new();
    decoder.begin(SECTION);
    decoder.fragment(&out[..len], &mut buffer, &mut sink).expect("valid");
    let summary = decoder.end().expect("complete");
    let received = sink.finish(&mut buffer, &summary, true, &LIMITS, Method::Get, &mut head).expect("valid");
    assert_eq!(String::from_utf8_lossy(&buffer[received.text()]), text);
}
