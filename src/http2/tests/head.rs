//! Received heads: the rules of RFC 9113 section 8 as a table, and the text against the parser of HTTP/1.1.

use super::Random;
use crate::http::{
    BodyFraming, FieldError, FieldName, Fields, HeadLimits, Method, RequestError, RequestHead, ResponseError,
    ResponseHead, Target,
};
use crate::http2::head::{
    HeadError, ReceivedRequest, ReceivedResponse, RequestSink, ResponseSink, Scheme, TrailerSink,
};
use crate::http2::hpack::{Decoder, Encoder, FieldSink, Indexing, SectionLimits, SectionSummary, Table, table_memory};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 16_384, field_count: 100, request_line: 8192 };
const SECTION: SectionLimits = SectionLimits { list_bytes: 16_384, fields: 100 };

type Field<'a> = (&'a str, &'a str);

/// Encodes and decodes the fields; `out` holds what the sink keeps.
fn decode(fields: &[Field<'_>], out: &mut [u8], sink: &mut impl FieldSink, piece: usize) -> SectionSummary {
    let mut encoder = Encoder::new(Table::new(vec![0; table_memory(4096)], 4096));
    let mut decoder = Decoder::new(Table::new(vec![0; table_memory(4096)], 4096));
    let (mut section, mut at) = (vec![0; 200_000], 0);
    for (name, value) in fields {
        // The encoder writes names in lower case, so others are written by hand.
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            section[at..at + 2].copy_from_slice(&[0, name.len() as u8]);
            section[at + 2..][..name.len()].copy_from_slice(name.as_bytes());
            at += 2 + name.len();
            section[at] = value.len() as u8;
            section[at + 1..][..value.len()].copy_from_slice(value.as_bytes());
            at += 1 + value.len();
        } else {
            at +=
                encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Allowed, &mut section[at..]).expect("room");
        }
    }
    decoder.begin(SECTION);
    section[..at].chunks(piece).for_each(|bytes| decoder.fragment(bytes, out, sink).expect("valid HPACK"));
    decoder.end().expect("complete")
}

struct Request {
    text: String,
    head: RequestHead,
    received: ReceivedRequest,
}

fn request_with(fields: &[Field<'_>], end_stream: bool, allows_tunnels: bool) -> Result<Request, HeadError> {
    let (mut out, mut sink, mut head) = (vec![0xee; 20_000], RequestSink::new(allows_tunnels), RequestHead::new());
    let summary = decode(fields, &mut out, &mut sink, usize::MAX);
    let received = sink.finish(&mut out, &summary, end_stream, &LIMITS, &mut head)?;
    let text = String::from_utf8_lossy(&out[received.text()]).into_owned();
    Ok(Request { text, head, received })
}

fn request(fields: &[Field<'_>]) -> Result<Request, HeadError> {
    request_with(fields, true, false)
}

const GET: [Field<'static>; 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/a?b=c"), (":authority", "example.com:8443")];

/// The usual pseudo-header fields, then others.
fn get<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    [&GET, fields].concat()
}

#[test]
fn a_request_becomes_text_that_is_a_head() {
    let fields = get(&[("user-agent", "test"), ("accept", "*/*"), ("x-empty", "")]);
    let Request { text, head, received } = request(&fields).expect("valid");
    assert_eq!(
        text,
        "GET /a?b=c HTTP/1.1\r\nhost: example.com:8443\r\nuser-agent: test\r\naccept: */*\r\nx-empty: \r\n\r\n"
    );
    let of = |span: crate::http::Span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned();
    assert_eq!(
        (head.method, head.target, head.body, head.keep_alive),
        (Method::Get, Target::Origin, BodyFraming::None, true)
    );
    assert_eq!(
        (of(head.authority), of(head.path), head.query.map(of)),
        ("example.com:8443".into(), "/a".into(), Some("b=c".into()))
    );
    assert_eq!(head.fields.len(), 4);
    assert_eq!(head.fields.get(FieldName::UserAgent).map(|field| of(field.value)), Some("test".into()));
    assert_eq!((received.scheme, received.is_tunnel, received.takes_trailers), (Some(Scheme::Https), false, false));
}

#[test]
fn without_other_fields_the_text_is_complete_as_well() {
    assert_eq!(request(&GET).expect("valid").text, "GET /a?b=c HTTP/1.1\r\nhost: example.com:8443\r\n\r\n");
    let any_order = [GET[3], GET[2], GET[0], GET[1], ("a", "b")];
    assert_eq!(
        request(&any_order).expect("valid").text,
        "GET /a?b=c HTTP/1.1\r\nhost: example.com:8443\r\na: b\r\n\r\n"
    );
}

/// RFC 9113 sections 8.2 and 8.3, as tables of what a request has besides, or in place of, the usual fields.
#[test]
fn malformed_requests_are_refused() {
    use HeadError::*;
    let bad_value = Fields(FieldError::BadValue);
    let bad_name = Fields(FieldError::BadName);
    for (field, want) in [
        (("Accept", "a"), UpperCaseName),
        (("", "a"), bad_name),
        (("a b", "a"), bad_name),
        (("a:", "a"), bad_name),
        (("a\r\nb", "a"), bad_name),
        (("a(", "a"), bad_name),
        (("a\u{e9}", "a"), bad_name),
        (("a\0", "a"), bad_name),
        (("a", "a\0"), bad_value),
        (("a", "a\rb"), bad_value),
        (("a", "a\nb"), bad_value),
        (("a", "a\r\n\r\nGET /smuggled HTTP/1.1"), bad_value),
        (("a", " a"), bad_value),
        (("a", "a "), bad_value),
        (("a", "\ta"), bad_value),
        (("a", "a\t"), bad_value),
        (("a", " "), bad_value),
        (("a", "a\x7f"), bad_value),
        (("a", "a\x1b"), bad_value),
        (("connection", "close"), ConnectionField),
        (("keep-alive", "timeout=5"), ConnectionField),
        (("proxy-connection", "keep-alive"), ConnectionField),
        (("transfer-encoding", "chunked"), ConnectionField),
        (("upgrade", "websocket"), ConnectionField),
        (("te", "gzip"), BadTe),
        (("te", "trailers, gzip"), BadTe),
        (("te", ""), BadTe),
        ((":method", "GET"), MisplacedPseudo),
        ((":path", "/"), MisplacedPseudo),
        ((":status", "200"), UnknownPseudo),
        ((":other", "x"), UnknownPseudo),
        ((":", "x"), UnknownPseudo),
        ((":Path", "/"), UnknownPseudo),
        (("host", "other.test"), HostMismatch),
        (("host", ""), HostMismatch),
        (("content-length", "5"), MissingContent),
        (("content-length", "+5"), Request(RequestError::BadContentLength)),
        (("content-length", ""), Request(RequestError::BadContentLength)),
        (("content-length", "0, 0"), Request(RequestError::BadContentLength)),
        (("content-length", "18446744073709551616"), Request(RequestError::BadContentLength)),
        (("expect", "200-ok"), Request(RequestError::UnknownExpectation)),
    ] {
        assert_eq!(request(&get(&[("first", "1"), field])).err(), Some(want), "{field:?}");
        // As the first field, a pseudo-header field is in its place, but there already.
        let want = if want == MisplacedPseudo { DuplicatePseudo } else { want };
        assert_eq!(request(&get(&[field, ("last", "1")])).err(), Some(want), "{field:?} first");
    }
    let twice = get(&[("content-length", "0"), ("content-length", "0")]);
    assert_eq!(request(&twice).err(), Some(Request(RequestError::BadContentLength)));
}

#[test]
fn malformed_pseudo_fields_are_refused() {
    use HeadError::*;
    let refused = |error| Err(Request(error));
    // The method, the scheme, the path, the authority.
    for (values, want) in [
        ([None, Some("http"), Some("/"), Some("a")], Err(MissingPseudo)),
        ([Some("GET"), None, Some("/"), Some("a")], Err(MissingPseudo)),
        ([Some("GET"), Some("http"), None, Some("a")], Err(MissingPseudo)),
        ([Some("GET"), Some("http"), Some("/"), None], refused(RequestError::MissingHost)),
        ([None, None, None, None], Err(MissingPseudo)),
        ([Some(""), Some("http"), Some("/"), Some("a")], refused(RequestError::BadMethod)),
        ([Some("GE T"), Some("http"), Some("/"), Some("a")], refused(RequestError::BadMethod)),
        (
            [Some("GET / HTTP/1.1\r\na: b\r\n\r\nGET"), Some("http"), Some("/"), Some("a")],
            refused(RequestError::BadMethod),
        ),
        ([Some("G\u{e9}T"), Some("http"), Some("/"), Some("a")], refused(RequestError::BadMethod)),
        ([Some("PRI"), Some("http"), Some("/"), Some("a")], refused(RequestError::BadMethod)),
        ([Some("get"), Some("HTTP"), Some("/"), Some("a")], Ok("get / HTTP/1.1")),
        ([Some("GET"), Some(""), Some("/"), Some("a")], Err(BadScheme)),
        ([Some("GET"), Some("ftp"), Some("/"), Some("a")], Err(BadScheme)),
        ([Some("GET"), Some("http://x/"), Some("/"), Some("a")], Err(BadScheme)),
        ([Some("GET"), Some("http"), Some(""), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("a"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("http://b/"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("*"), Some("a")], Err(BadPath)),
        ([Some("OPTIONS"), Some("http"), Some("*"), Some("a")], Ok("OPTIONS * HTTP/1.1")),
        ([Some("OPTIONS"), Some("http"), Some("*x"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("/ HTTP/1.1"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("/\tb"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("/ HTTP/1.1\r\nb: c"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("/\r\n"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("/\0"), Some("a")], Err(BadPath)),
        ([Some("GET"), Some("http"), Some("/#x"), Some("a")], refused(RequestError::BadTarget)),
        ([Some("GET"), Some("http"), Some("//b/../c"), Some("a")], Ok("GET //b/../c HTTP/1.1")),
        ([Some("GET"), Some("http"), Some("/"), Some("")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("u:p@a")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("a b")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("a\r\nb: c")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("a:99999")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("a/b")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("a?b")], refused(RequestError::BadHost)),
        ([Some("GET"), Some("http"), Some("/"), Some("[::1]:80")], Ok("GET / HTTP/1.1")),
        ([Some("CONNECT"), None, None, Some("a:443")], Ok("CONNECT a:443 HTTP/1.1")),
        ([Some("CONNECT"), None, None, Some("a")], refused(RequestError::BadTarget)),
        ([Some("CONNECT"), None, None, None], Err(MissingPseudo)),
        ([Some("CONNECT"), Some("http"), Some("/"), Some("a:443")], Err(MisplacedPseudo)),
    ] {
        let names = [":method", ":scheme", ":path", ":authority"];
        let fields: Vec<Field<'_>> =
            names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect();
        for fields in [fields.clone(), [&fields[..], &[("a", "b")]].concat()] {
            let line = request(&fields).map(|request| request.text.lines().next().unwrap_or_default().to_owned());
            assert_eq!(line.as_deref(), want.as_ref().map(|line| *line), "{fields:?}");
        }
    }
    for name in [":method", ":scheme", ":path", ":authority"] {
        assert_eq!(request(&get(&[(name, "x")])).err(), Some(DuplicatePseudo), "{name}");
    }
    assert_eq!(request(&[("a", "b")]).err(), Some(MissingPseudo));
    assert_eq!(request(&[]).err(), Some(MissingPseudo));
}

#[test]
fn host_stands_for_the_authority() {
    let pseudo = [GET[0], GET[1], GET[2]];
    let with = |fields: &[Field<'static>]| [&pseudo, fields].concat();
    assert_eq!(
        request(&with(&[("a", "b"), ("host", "x.test")])).expect("valid").text,
        "GET /a?b=c HTTP/1.1\r\na: b\r\nhost: x.test\r\n\r\n"
    );
    let two = with(&[("host", "x.test"), ("host", "x.test")]);
    assert_eq!(request(&two).err(), Some(HeadError::Request(RequestError::DuplicateHost)));
    let same = get(&[("host", "Example.com:8443"), ("a", "b"), ("host", "example.com:8443")]);
    assert_eq!(request(&same).expect("valid").text, "GET /a?b=c HTTP/1.1\r\nhost: example.com:8443\r\na: b\r\n\r\n");
}

#[test]
fn cookies_are_joined() {
    let start = "GET /a?b=c HTTP/1.1\r\nhost: example.com:8443\r\n";
    for (fields, want) in [
        (vec![("cookie", "a=1")], "cookie: a=1\r\n"),
        (
            vec![("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"), ("x", "y")],
            "cookie: a=1; b=2; c=3\r\nx: y\r\n",
        ),
        (vec![("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], "x: y\r\ncookie: a=1; b=2\r\n"),
        (
            vec![
                ("v", "w"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("x", "y"),
                ("cookie", "c"),
                ("cookie", "d"),
                ("z", ""),
            ],
            "v: w\r\nx: y\r\nz: \r\ncookie: a=1; b=2; c; d\r\n",
        ),
        (vec![("cookie", "a=1"), ("host", "example.com:8443"), ("cookie", "b=2")], "cookie: a=1; b=2\r\n"),
        (vec![("cookie", ""), ("cookie", "b=2")], "cookie: ; b=2\r\n"),
    ] {
        let request = request(&get(&fields)).expect("valid");
        assert_eq!(request.text, format!("{start}{want}\r\n"), "{fields:?}");
        assert_eq!(request.head.fields.count(FieldName::Cookie), 1);
        assert_eq!(request.received.never_indexed.indexing(b"cookie"), Indexing::Never, "short cookies");
    }
}

#[test]
fn the_end_of_the_stream_says_what_the_body_is() {
    let post = |fields: &[Field<'static>], end_stream| {
        let fields = [&[(":method", "POST"), GET[1], GET[2], GET[3]], fields].concat();
        request_with(&fields, end_stream, false).map(|request| (request.head.body, request.head.expect_continue))
    };
    let expect = [("expect", "100-continue")];
    assert_eq!(post(&[], true), Ok((BodyFraming::None, false)));
    assert_eq!(post(&[], false), Ok((BodyFraming::Chunked, false)));
    assert_eq!(post(&expect, false), Ok((BodyFraming::Chunked, true)));
    assert_eq!(post(&expect, true), Ok((BodyFraming::None, false)));
    assert_eq!(post(&[("content-length", "5"), expect[0]], false), Ok((BodyFraming::Length(5), true)));
    assert_eq!(post(&[("content-length", "5")], true), Err(HeadError::MissingContent));
    assert_eq!(post(&[("content-length", "0")], true), Ok((BodyFraming::Length(0), false)));
    assert_eq!(post(&[("content-length", "0")], false), Ok((BodyFraming::Length(0), false)));
}

/// RFC 8441: extended CONNECT is an upgrade.
#[test]
fn extended_connect_becomes_an_upgrade() {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/chat"),
        (":authority", "a.test"),
        ("sec-websocket-version", "13"),
    ];
    let Request { text, head, received } = request_with(&fields, false, true).expect("valid");
    assert_eq!(
        text,
        "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
    );
    assert_eq!(head.upgrade.map(|span| span.of(text.as_bytes()).to_vec()), Some(b"websocket".to_vec()));
    assert_eq!((head.method, head.body, received.is_tunnel), (Method::Get, BodyFraming::None, true));
    assert_eq!(request_with(&fields, false, false).err(), Some(HeadError::BadProtocol), "not announced");
    let change = |at: usize, field: Option<Field<'static>>| {
        let mut fields = fields.to_vec();
        match field {
            Some(field) => fields[at] = field,
            None => _ = fields.remove(at),
        }
        request_with(&fields, false, true).err()
    };
    assert_eq!(change(0, Some((":method", "GET"))), Some(HeadError::BadProtocol));
    assert_eq!(change(1, Some((":protocol", "a b"))), Some(HeadError::BadProtocol));
    assert_eq!(change(1, Some((":protocol", ""))), Some(HeadError::BadProtocol));
    assert_eq!(change(2, None), Some(HeadError::MissingPseudo));
    assert_eq!(change(3, None), Some(HeadError::MissingPseudo));
    assert_eq!(change(4, None), Some(HeadError::BadProtocol));
    assert_eq!(change(5, Some(("content-length", "5"))), Some(HeadError::Request(RequestError::BodyOfConnect)));
}

#[test]
fn sizes_are_bounded() {
    let long = "x".repeat(9000);
    let path = format!("/{long}");
    let fields = [GET[0], GET[1], (":path", &path[..]), GET[3]];
    assert_eq!(request(&fields).err(), Some(HeadError::Request(RequestError::RequestLineTooLong)));
    assert_eq!(request(&get(&[("a", &long), ("b", &long)])).err(), Some(HeadError::Fields(FieldError::TooLarge)));
    let many: Vec<Field<'_>> = get(&[("a", "b"); 97]);
    assert_eq!(request(&many).err(), Some(HeadError::Fields(FieldError::TooLarge)));
    assert!(request(&get(&[("a", "b"); 96])).is_ok());
    let name = "n".repeat(257);
    assert_eq!(request(&get(&[(&name, "b")])).err(), Some(HeadError::Fields(FieldError::NameTooLong)));
    assert!(request(&get(&[(&name[1..], "b")])).is_ok());
    // Short buffers, and cookies that have to be joined in them.
    let fields = get(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]);
    for room in 0..300 {
        let (mut out, mut sink, mut head) = (vec![0xee; room], RequestSink::new(false), RequestHead::new());
        let summary = decode(&fields, &mut out, &mut sink, 3);
        match sink.finish(&mut out, &summary, true, &LIMITS, &mut head) {
            Ok(received) => assert!(room > 150 && out[received.text()].ends_with(b"cookie: a=1; b=2\r\n\r\n")),
            Err(error) => assert!(room < 250 && error == HeadError::Fields(FieldError::TooLarge), "{room} {error:?}"),
        }
    }
}

fn response(fields: &[Field<'_>], end_stream: bool, method: Method) -> Result<(String, ResponseHead), HeadError> {
    let (mut out, mut sink, mut head) = (vec![0xee; 20_000], ResponseSink::new(), ResponseHead::new());
    let summary = decode(fields, &mut out, &mut sink, 5);
    let ReceivedResponse { start, end, .. } =
        sink.finish(&mut out, &summary, end_stream, &LIMITS, method, &mut head)?;
    Ok((String::from_utf8_lossy(&out[start..end]).into_owned(), head))
}

#[test]
fn responses() {
    use HeadError::*;
    let (text, head) = response(&[(":status", "200"), ("a", "b")], false, Method::Get).expect("valid");
    assert_eq!(text, "HTTP/1.1 200 \r\na: b\r\n\r\n");
    assert_eq!((head.status, head.body, head.keep_alive), (200, BodyFraming::Chunked, true));
    let body =
        |fields: &[Field<'_>], end_stream, method| response(fields, end_stream, method).map(|(_, head)| head.body);
    let with_length = |status| [(":status", status), ("content-length", "5")];
    assert_eq!(body(&with_length("200"), false, Method::Get), Ok(BodyFraming::Length(5)));
    assert_eq!(body(&with_length("200"), true, Method::Get), Err(MissingContent));
    assert_eq!(body(&with_length("200"), true, Method::Head), Ok(BodyFraming::None));
    assert_eq!(body(&with_length("304"), true, Method::Get), Ok(BodyFraming::None));
    assert_eq!(body(&[(":status", "200")], true, Method::Get), Ok(BodyFraming::None));
    assert_eq!(body(&[(":status", "103"), ("link", "x")], false, Method::Get), Ok(BodyFraming::None));
    let bad_status = Response(ResponseError::BadStatus);
    for (fields, end_stream, want) in [
        (&[][..], false, MissingPseudo),
        (&[("a", "b")], false, MissingPseudo),
        (&[(":status", "")], false, bad_status),
        (&[(":status", "abc")], false, bad_status),
        (&[(":status", "20")], false, bad_status),
        (&[(":status", "2000")], false, bad_status),
        (&[(":status", "+20")], false, bad_status),
        (&[(":status", "000")], false, bad_status),
        (&[(":status", "099")], false, bad_status),
        (&[(":status", "600")], false, bad_status),
        (&[(":status", "101")], false, SwitchingProtocols),
        (&[(":status", "100")], true, InterimEnd),
        (&[(":status", "200"), (":status", "200")], false, DuplicatePseudo),
        (&[("a", "b"), (":status", "200")], false, MisplacedPseudo),
        (&[(":status", "200"), (":path", "/")], false, UnknownPseudo),
        (&[(":status", "200"), ("A", "b")], false, UpperCaseName),
        (&[(":status", "200"), ("a", "b\r\nc: d")], false, Fields(FieldError::BadValue)),
        (&[(":status", "200"), ("connection", "close")], false, ConnectionField),
        (&[(":status", "200"), ("transfer-encoding", "gzip")], false, ConnectionField),
        (&[(":status", "200"), ("content-length", "-1")], false, Response(ResponseError::BadContentLength)),
        (
            &[(":status", "200"), ("content-length", "1"), ("content-length", "1")],
            false,
            Response(ResponseError::BadContentLength),
        ),
    ] {
        assert_eq!(body(fields, end_stream, Method::Get), Err(want), "{fields:?}");
    }
}

#[test]
fn trailers() {
    let trailers = |list: &[Field<'_>]| {
        let (mut out, mut sink, mut fields) = (vec![0xee; 20_000], TrailerSink::new(), Fields::new());
        let summary = decode(list, &mut out, &mut sink, 2);
        let received = sink.finish(&mut out, &summary, &LIMITS, &mut fields)?;
        Ok((String::from_utf8_lossy(&out[received.text()]).into_owned(), fields.len()))
    };
    assert_eq!(trailers(&[]), Ok(("\r\n".into(), 0)));
    assert_eq!(trailers(&[("grpc-status", "0"), ("x", "")]), Ok(("grpc-status: 0\r\nx: \r\n\r\n".into(), 2)));
    for (field, want) in [
        ((":status", "200"), HeadError::MisplacedPseudo),
        ((":path", "/"), HeadError::MisplacedPseudo),
        (("X", "1"), HeadError::UpperCaseName),
        (("x", "1\r\ny: 2"), HeadError::Fields(FieldError::BadValue)),
        (("connection", "close"), HeadError::ConnectionField),
        (("transfer-encoding", "chunked"), HeadError::ConnectionField),
    ] {
        assert_eq!(trailers(&[("a", "b"), field]), Err(want), "{field:?}");
    }
}

/// Whatever the fields are: a head that is accepted has a text that reads back to the fields, in lines that are theirs.
#[test]
fn random_requests_read_back() {
    let mut random = Random(5);
    let names =
        ["accept", "cookie", "cookie", "x-a", "host", "te", "content-length", "expect", "via", "a_b", "X", ":path", ""];
    let values =
        ["", "1", "trailers", "a=1", "example.com:8443", "100-continue", "a\r\nb", "x y", " z", "\u{e9}", "v\t"];
    let mut accepted = 0;
    for _ in 0..super::runs(20_000) {
        let mut fields = GET.to_vec();
        (0..random.below(8)).for_each(|_| fields.push((*random.one(&names), *random.one(&values))));
        if random.below(4) == 0 {
            let at = random.below(fields.len());
            fields.remove(at);
        }
        let Ok(request) = request(&fields) else { continue };
        accepted += 1;
        let lines: Vec<&str> = request.text.lines().collect();
        let is_host = |field: &&Field<'_>| field.0 == "host" || field.0 == ":authority";
        let is_cookie = |field: &&Field<'_>| field.0 == "cookie";
        let mut want: Vec<String> = fields
            .iter()
            .filter(|field| !field.0.starts_with(':') && !is_host(field) && !is_cookie(field))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        want.push("GET /a?b=c HTTP/1.1".into());
        want.push("host: example.com:8443".into());
        want.push(String::new());
        let cookies: Vec<&str> = fields.iter().filter(is_cookie).map(|field| field.1).collect();
        if !cookies.is_empty() {
            want.push(format!("cookie: {}", cookies.join("; ")));
        }
        let mut got: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        got.sort();
        want.sort();
        // A host without an authority has the value that the request has.
        if fields.iter().any(|field| field.0 == ":authority") {
            assert_eq!(got, want, "{fields:?}");
        }
    }
    assert!(accepted > 300, "{accepted}");
}
