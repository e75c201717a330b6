//! Properties of all parsers, on generated input. Not here: examples, which are data in `tests/vectors`.

use proptest::prelude::*;

use crate::http::*;
use crate::limits;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 700, field_count: 12, request_line: 200 };

/// Calls `parse` on more and more of `input`: up to each cut, then on all of it.
fn in_pieces<T>(input: &[u8], cuts: &[usize], mut parse: impl FnMut(&[u8], &mut usize) -> Option<T>) -> Option<T> {
    let mut scanned = 0;
    let ends = cuts.iter().copied().filter(|cut| *cut < input.len()).chain([input.len()]);
    ends.into_iter().find_map(|end| parse(input.get(..end)?, &mut scanned))
}

/// The result of parsing a request head, for comparison.
fn request(input: &[u8], cuts: &[usize]) -> Option<Result<(usize, String), RequestError>> {
    let mut head = RequestHead::new();
    let outcome = in_pieces(input, cuts, |buf, scanned| parse_request(buf, &LIMITS, scanned, &mut head).transpose());
    outcome.map(|outcome| outcome.map(|len| (len, format!("{:?}", HeadSummary::new(&head)))))
}

/// A head without the unused rest of its table.
#[derive(Debug)]
#[allow(dead_code, reason = "read through Debug")]
struct HeadSummary {
    line: (Method, Version, Target, Span, Span, Span, Option<Span>),
    field_values: (BodyFraming, bool, bool, Option<Span>),
    fields: Vec<Field>,
}

impl HeadSummary {
    fn new(head: &RequestHead) -> Self {
        Self {
            line: (head.method, head.version, head.target, head.raw_target, head.authority, head.path, head.query),
            field_values: (head.body, head.keep_alive, head.expect_continue, head.upgrade),
            fields: head.fields.as_slice().to_vec(),
        }
    }
}

fn response(input: &[u8], cuts: &[usize]) -> Option<Result<(usize, String), ResponseError>> {
    let mut head = ResponseHead::new();
    let outcome = in_pieces(input, cuts, |buf, scanned| {
        parse_response(buf, &LIMITS, scanned, Method::Get, &mut head).transpose()
    });
    outcome.map(|outcome| {
        outcome.map(|len| (len, format!("{:?}", (head.status, head.body, head.keep_alive, head.fields.as_slice()))))
    })
}

/// The part of a chunked body that is passed on, and its bytes of data.
fn chunked(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, u64), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut passed = Vec::new();
    let mut data = 0;
    let mut at = 0;
    for end in cuts.iter().copied().filter(|cut| *cut < input.len()).chain([input.len()]) {
        while at < end {
            let run = decoder.run(&input[at..end])?;
            passed.extend_from_slice(&input[at..at + run.len]);
            data += run.data as u64;
            at += run.len;
            let part = decoder.next(&input[at..end])?;
            assert!(!matches!(part.kind, ChunkedPartKind::Framing | ChunkedPartKind::Data), "left by run");
            at += part.len;
            if part.kind == ChunkedPartKind::NeedMore {
                break;
            }
        }
    }
    Ok((passed, data))
}

/// Whether the outcomes are equal. A head that arrives in pieces may also be refused later: at the next line end.
fn agree<T: PartialEq, E: PartialEq>(in_pieces: Option<Result<T, E>>, at_once: Option<Result<T, E>>) -> bool {
    match (&in_pieces, &at_once) {
        (None, Some(Err(_))) => true,
        _ => in_pieces == at_once,
    }
}

#[test]
fn a_head_that_is_refused_or_not_whole_has_no_fields_of_the_one_before() {
    let good = b"GET / HTTP/1.1\r\nHost: a\r\nX-Secret: 1\r\n\r\n";
    let mut head = RequestHead::new();
    for next in
        [&b"GET / HTTP/1.1\r\nHost: b\r\n"[..], b"GET", b"GET / HTTP/1.1\r\nHost: b\r\nbad name: 1\r\n\r\n", b"\0"]
    {
        assert_eq!(parse_request(good, &LIMITS, &mut 0, &mut head), Ok(Some(good.len())));
        assert_eq!(head.fields.len(), 2);
        assert!(!matches!(parse_request(next, &LIMITS, &mut 0, &mut head), Ok(Some(_))));
        assert!(head.fields.is_empty() && head.fields.get(FieldName::Host).is_none(), "{}", next.escape_ascii());
    }
}

/// Bytes that resemble messages, so that they reach all branches of the parsers.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => proptest::sample::select(vec![
            "GET ", "POST ", "OPTIONS ", "CONNECT ", "/", "/a?b", "*", "http://a.test", "a.test:80", " HTTP/1.1\r\n",
            " HTTP/1.0\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 204\r\n", "Host: a.test\r\n", "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n", "Connection: close, x\r\n", "X: y\r\n", "X_Y: z\r\n", "Expect: 100-continue\r\n",
            "\r\n", "\r\n\r\n", "\r", "\n", ":", " ", "5\r\nhello\r\n", "0\r\n", ";a=b", "a;b=\"c\"\r\n", "\t",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
        1 => (any::<u8>(), 0_usize..300).prop_map(|(byte, count)| vec![byte; count]),
    ];
    proptest::collection::vec(word, 0..14).prop_map(|words| words.concat())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::btree_set(0_usize..900, 0..40).prop_map(|cuts| cuts.into_iter().collect())
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}".prop_filter("a name without meaning", |name| {
        FieldName::lookup(name.as_bytes()) == FieldName::Other && !name.contains('_')
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_cuts_do_not_matter(input in soup(), cuts in cuts()) {
        let everywhere: Vec<usize> = (1..input.len()).collect();
        for cuts in [&cuts, &everywhere] {
            prop_assert!(agree(request(&input, cuts), request(&input, &[])));
            prop_assert!(agree(response(&input, cuts), response(&input, &[])));
        }
        prop_assert_eq!(chunked(&input, &cuts), chunked(&input, &[]));
        prop_assert_eq!(chunked(&input, &everywhere), chunked(&input, &[]));
        let mut fields = Fields::new();
        let mut trailers = |cuts: &[usize]| {
            let end = in_pieces(&input, cuts, |buf, scanned| parse_trailers(buf, &LIMITS, scanned, &mut fields).transpose());
            (end, end.is_some_and(|end| end.is_ok()).then(|| fields.as_slice().to_vec()))
        };
        let (in_pieces, at_once) = (trailers(&cuts), trailers(&[]));
        prop_assert!(agree(in_pieces.0, at_once.0) && in_pieces.1 == at_once.1);
    }

    #[test]
    fn what_is_written_is_read(
        method in "[A-Z]{1,12}",
        path in "/[a-z0-9/._~!$&'()*+,;=:@%-]{0,60}",
        fields in proptest::collection::vec((token(), "[ -~\u{e9}\t]{0,80}"), 0..10),
        length in proptest::option::of(0_u64..=limits::BODY_LENGTH_MAX),
    ) {
        prop_assume!(method != "CONNECT");
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n").into_bytes();
        for (name, value) in &fields {
            text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(length) = length {
            text.extend_from_slice(b"Content-Length: ");
            text.extend_from_slice(write_decimal(length, &mut [0; 20]));
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\nnext");
        let limits = HeadLimits { head_bytes: limits::HEAD_BYTES_MAX, ..LIMITS };
        let mut head = RequestHead::new();
        prop_assert_eq!(parse_request(&text, &limits, &mut 0, &mut head), Ok(Some(text.len() - 4)));
        prop_assert_eq!(head.method_text.of(&text), method.as_bytes());
        prop_assert_eq!(head.path(&text), path.as_bytes());
        prop_assert_eq!(head.body, length.map_or(BodyFraming::None, BodyFraming::Length));
        for (field, (name, value)) in head.fields.as_slice()[1..].iter().zip(&fields) {
            prop_assert_eq!(field.name.of(&text), name.as_bytes());
            prop_assert_eq!(field.value.of(&text), value.trim_matches([' ', '\t']).as_bytes());
        }
    }

    #[test]
    fn chunks_that_are_written_are_read(data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8), cuts in cuts()) {
        let mut text = Vec::new();
        for chunk in &data {
            text.extend_from_slice(write_hex(chunk.len() as u64, &mut [0; 16]));
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        let body = text.clone();
        text.extend_from_slice(b"0\r\n");
        let count = data.iter().map(|chunk| chunk.len() as u64).sum();
        prop_assert_eq!(chunked(&text, &cuts), Ok((body, count)));
    }
}
