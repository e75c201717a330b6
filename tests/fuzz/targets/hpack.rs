//! HPACK and heads: sections over one connection in any cuts, encoded again, and as requests, responses and trailers.
#![no_main]

use cairn::http::{Fields, HeadLimits, Method, RequestHead, ResponseHead, parse_request, parse_response};
use cairn::http2::head::{RequestSink, ResponseSink, TrailerSink};
use cairn::http2::hpack::{
    DecodeError, DecodedField, Decoder, Encoder, FieldSink, Indexing, Next, SectionLimits, SectionSummary, Table,
    encoded_bound, table_memory,
};
use libfuzzer_sys::fuzz_target;

const SECTION: SectionLimits = SectionLimits { list_bytes: 6000, fields: 40 };
const LIMITS: HeadLimits = HeadLimits { head_bytes: 6000, field_count: 40, request_line: 4000 };
/// More than a section and the table take.
const BUFFER: usize = 8192;

#[derive(Default)]
struct Collect(Vec<(Vec<u8>, Vec<u8>, bool)>);

impl FieldSink for Collect {
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        self.0.push((field.name(out).to_vec(), field.value(out).to_vec(), field.never_indexed));
        Next::At(field.value_end() + 2)
    }
}

type Memory = Vec<u8>;

fn table(capacity: usize) -> Table<Memory> {
    Table::new(vec![0; table_memory(capacity)], capacity)
}

fn decode(
    decoder: &mut Decoder<Memory>,
    section: &[u8],
    out: &mut [u8],
    sink: &mut impl FieldSink,
    mut step: impl FnMut() -> usize,
) -> Result<SectionSummary, DecodeError> {
    decoder.begin(SECTION);
    let mut rest = section;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(step().clamp(1, rest.len()));
        decoder.fragment(piece, out, sink)?;
        rest = tail;
    }
    decoder.end()
}

/// What is decoded can be encoded, and is the same then.
fn check_encoding(encoder: &mut Encoder<Memory>, decoder: &mut Decoder<Memory>, fields: &Collect) {
    let bytes = fields.0.iter().map(|(name, value, _)| name.len() + value.len()).sum();
    let (mut section, mut at) = (vec![0; encoded_bound(fields.0.len(), bytes)], 0);
    for (name, value, never_indexed) in &fields.0 {
        let indexing = if *never_indexed { Indexing::Never } else { Indexing::Allowed };
        at += encoder.field(name, value, indexing, &mut section[at..]).expect("the bound is enough");
    }
    let mut again = Collect::default();
    let mut out = vec![0; BUFFER];
    decode(decoder, &section[..at], &mut out, &mut again, || usize::MAX).expect("what is encoded is valid");
    for (got, want) in again.0.iter().zip(&fields.0) {
        assert_eq!((&got.0, &got.1), (&want.0.to_ascii_lowercase(), &want.1));
        assert!(got.2 || !want.2, "a secret became public");
    }
    assert_eq!(again.0.len(), fields.0.len());
}

/// A text that a sink made is one head, and nothing else.
fn check_heads(decoder: &Decoder<Memory>, section: &[u8], end_stream: bool) {
    let mut out = vec![0xee; BUFFER];
    let (mut sink, mut head) = (RequestSink::new(end_stream), RequestHead::new());
    if let Ok(summary) = decode(&mut decoder.clone(), section, &mut out, &mut sink, || usize::MAX)
        && let Ok(received) = sink.finish(&mut out, &summary, end_stream, &LIMITS, &mut head)
    {
        let (text, mut again) = (&out[received.text()], RequestHead::new());
        assert_eq!(parse_request(text, &LIMITS, &mut 0, &mut again), Ok(Some(text.len())));
        assert_eq!(again.fields.as_slice(), head.fields.as_slice());
        let lines = text.split(|byte| *byte == b'\n').count();
        assert_eq!(lines, head.fields.len() + 3, "a line of its own for each field");
    }
    let (mut sink, mut head) = (ResponseSink::new(), ResponseHead::new());
    if let Ok(summary) = decode(&mut decoder.clone(), section, &mut out, &mut sink, || usize::MAX)
        && let Ok(received) = sink.finish(&mut out, &summary, end_stream, &LIMITS, Method::Get, &mut head)
    {
        let (text, mut again) = (&out[received.text()], ResponseHead::new());
        assert_eq!(parse_response(text, &LIMITS, &mut 0, Method::Get, &mut again), Ok(Some(text.len())));
        assert_eq!(text.split(|byte| *byte == b'\n').count(), head.fields.len() + 3);
    }
    let (mut sink, mut fields) = (TrailerSink::new(), Fields::new());
    if let Ok(summary) = decode(&mut decoder.clone(), section, &mut out, &mut sink, || usize::MAX)
        && let Ok(received) = sink.finish(&mut out, &summary, &LIMITS, &mut fields)
    {
        assert_eq!(out[received.text()].split(|byte| *byte == b'\n').count(), fields.len() + 2);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (mut whole, mut cuts) = (Decoder::new(table(4096)), Decoder::new(table(4096)));
    let (mut encoder, mut peer) = (Encoder::new(table(1024)), Decoder::new(table(4096)));
    let (mut out, mut out_cuts) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut seed = u32::from(cut);
    let mut step = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as usize % 7
    };
    // 0xff 0xff, which begins no valid section, stands between two of them.
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == [0xff, 0xff]).unwrap_or(rest.len());
        let (section, tail) = rest.split_at(end);
        rest = tail.get(2..).unwrap_or_default();
        check_heads(&whole, section, cut & 1 == 0);
        let (mut fields, mut fields_cuts) = (Collect::default(), Collect::default());
        let result = decode(&mut whole, section, &mut out, &mut fields, || usize::MAX);
        let result_cuts = decode(&mut cuts, section, &mut out_cuts, &mut fields_cuts, &mut step);
        assert_eq!(result, result_cuts, "a cut changes the result");
        assert_eq!(fields.0, fields_cuts.0, "a cut changes the fields");
        assert!(whole.table().size() <= whole.table().capacity() && whole.table().capacity() <= 4096);
        let Ok(_) = result else { return };
        check_encoding(&mut encoder, &mut peer, &fields);
    }
});
