//! HPACK against the examples of RFC 7541 appendix C, and the rules of tables and limits.

use super::{Random, hex, runs};
use crate::http2::hpack::{
    DecodeError, DecodedField, Decoder, Encoder, FieldSink, Indexing, Next, SectionLimits, Table, encoded_bound,
    table_memory,
};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const WIDE: SectionLimits = SectionLimits { list_bytes: 60_000, fields: 256 };

/// Collects fields; those kept stand one behind the other as lines.
#[derive(Default)]
struct Collect {
    fields: Vec<(Vec<u8>, Vec<u8>, bool)>,
    /// Refuses this field and what follows.
    refuses: Option<usize>,
}

impl FieldSink for Collect {
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        if self.refuses == Some(self.fields.len()) {
            return Next::Refuse;
        }
        self.fields.push((field.name(out).to_vec(), field.value(out).to_vec(), field.never_indexed));
        Next::At(field.value_end() + 2)
    }
}

fn table(capacity: usize) -> Table<Vec<u8>> {
    Table::new(vec![0; table_memory(capacity)], capacity)
}

fn decoder(capacity: usize) -> Decoder<Vec<u8>> {
    Decoder::new(table(capacity))
}

/// Decodes a section in one piece.
fn decode(decoder: &mut Decoder<Vec<u8>>, section: &[u8]) -> Result<Fields, DecodeError> {
    let mut sink = Collect::default();
    decoder.begin(WIDE);
    decoder.fragment(section, &mut [0; 65_536], &mut sink)?;
    decoder.end()?;
    Ok(sink.fields.into_iter().map(|(name, value, _)| (name, value)).collect())
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// Sections, what they hold, and the size of the table afterwards.
type Example<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);

fn check_examples(capacity: usize, examples: &[Example<'_>]) {
    let mut decoder = decoder(capacity);
    for (section, fields, size) in examples {
        assert_eq!(decode(&mut decoder, &hex(section)), Ok(owned(fields)), "{section}");
        assert_eq!(decoder.table().size(), *size, "{section}");
    }
}

/// RFC 7541 appendix C.2: each form of a literal field.
#[test]
fn examples_of_literal_fields() {
    check_examples(
        4096,
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &[("custom-key", "custom-header")], 55)],
    );
    check_examples(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0)]);
    check_examples(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0)]);
    check_examples(4096, &[("82", &[(":method", "GET")], 0)]);
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

/// RFC 7541 appendix C.3 and C.4: requests without and with the Huffman code.
#[test]
fn examples_of_requests() {
    check_examples(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0], 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1], 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2], 164),
        ],
    );
    check_examples(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0], 57),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1], 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2], 164),
        ],
    );
}

const RESPONSES: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
];

/// RFC 7541 appendix C.5 and C.6: responses with a table of 256 bytes, so that entries are evicted.
#[test]
fn examples_of_responses() {
    check_examples(256, &[
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e
             1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            RESPONSES[0],
            222,
        ),
        ("4803 3330 37c1 c0bf", RESPONSES[1], 222),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d
             4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572
             7369 6f6e 3d31",
            RESPONSES[2],
            215,
        ),
    ]);
    check_examples(256, &[
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b
             97c8 e9ae 82ae 43d3",
            RESPONSES[0],
            222,
        ),
        ("4883 640e ffc1 c0bf", RESPONSES[1], 222),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf
             cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            RESPONSES[2],
            215,
        ),
    ]);
}

#[test]
fn malformed_sections_end_the_connection() {
    use DecodeError::*;
    for (section, want) in [
        ("80", BadIndex),
        ("be", BadIndex),
        ("ff 80 80 80 80 00", BadInteger),
        ("ff ff ff ff ff 0f", BadInteger),
        ("7f 80 80 80 80 80 80 80 80 80 01", BadInteger),
        ("00 7f 81 80 80 80 10", BadInteger),
        ("00 01", Truncated),
        ("00 01 61", Truncated),
        ("00 01 61 05 62", Truncated),
        ("00", Truncated),
        ("ff", Truncated),
        ("41", Truncated),
        ("00 01 61 81 ff", BadHuffman),
        ("00 82 1f ff 00", BadHuffman),
        ("3f e2 1f", BadTableSize),
        ("82 20", BadTableSize),
        ("40 01 61 01 62 20 be", BadTableSize),
        ("40 01 61 01 62 be bf", BadIndex),
    ] {
        let mut decoder = decoder(4096);
        assert_eq!(decode(&mut decoder, &hex(section)), Err(want), "{section}");
        // The same, however it is cut.
        let (mut sink, mut out) = (Collect::default(), [0; 8192]);
        let mut decoder = self::decoder(4096);
        decoder.begin(WIDE);
        let bytes = hex(section);
        let result = bytes.chunks(1).try_for_each(|byte| decoder.fragment(byte, &mut out, &mut sink));
        assert_eq!(result.and_then(|()| decoder.end().map(|_| ())), Err(want), "{section}");
    }
    assert_eq!(decode(&mut decoder(4096), &hex("3f e1 1f 20 3f 01 82")), Ok(owned(&[(":method", "GET")])));
}

/// RFC 7541 section 4.2: after the limit was lowered, the next section begins with a size that respects it.
#[test]
fn a_lowered_limit_has_to_be_acknowledged() {
    let mut decoder = decoder(4096);
    let entry = hex("40 01 61 01 62");
    assert_eq!(decode(&mut decoder, &entry), Ok(owned(&[("a", "b")])));
    decoder.set_limit(100);
    assert_eq!(decode(&mut decoder.clone(), &hex("be")), Err(DecodeError::MissingTableSize));
    assert_eq!(decode(&mut decoder.clone(), &hex("3f e1 1f be")), Err(DecodeError::BadTableSize));
    assert_eq!(decode(&mut decoder.clone(), &hex("20 be")), Err(DecodeError::BadIndex), "evicted");
    assert_eq!(decode(&mut decoder, &hex("3f 45 be")), Ok(owned(&[("a", "b")])));
    assert_eq!(decode(&mut decoder, &hex("be")), Ok(owned(&[("a", "b")])), "once is enough");
    decoder.set_limit(4096);
    assert_eq!(decode(&mut decoder, &hex("3f e1 1f be")), Ok(owned(&[("a", "b")])));
}

/// A literal, never indexed where asked for, without the Huffman code.
fn literal(pattern: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![pattern];
    for text in [name, value] {
        match text.len() {
            len @ 0..127 => out.push(len as u8),
            len => {
                let rest = len - 127;
                out.extend([127, (rest & 0x7f) as u8 | 0x80, (rest >> 7 & 0x7f) as u8 | 0x80, (rest >> 14) as u8]);
            }
        }
        out.extend_from_slice(text);
    }
    out
}

#[test]
fn never_indexed_is_passed_on() {
    let section = [literal(0x10, b"a", b"1"), literal(0x00, b"b", b"2"), literal(0x40, b"c", b"3")].concat();
    let (mut sink, mut out, mut decoder) = (Collect::default(), [0; 8192], decoder(4096));
    decoder.begin(WIDE);
    assert_eq!(decoder.fragment(&section, &mut out, &mut sink), Ok(()));
    assert_eq!(sink.fields.iter().map(|field| field.2).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(&out[..15], b"a\0\x001\0\0b\0\x002\0\0c\0\0");
}

/// A section that is too large, or refused by the sink, leaves the table as if it had been taken.
#[test]
fn a_refused_section_keeps_the_table() {
    let limits = SectionLimits { list_bytes: 2000, fields: 5 };
    for large in [100, 1500, 1990, 2500, 4062, 4064, 4065, 5000] {
        for refuses in [None, Some(0), Some(1), Some(2)] {
            let section = [
                literal(0x40, b"first", b"1"),
                literal(0x40, b"large", &vec![b'x'; large]),
                literal(0x00, b"plain", b"3"),
                literal(0x40, b"last", b"4"),
            ]
            .concat();
            let mut reference = decoder(4096);
            assert!(decode(&mut reference, &section).is_ok());
            for piece in [1, 7, section.len()] {
                let (mut sink, mut out) = (Collect { refuses, ..Collect::default() }, vec![0; 4098]);
                let mut decoder = decoder(4096);
                decoder.begin(limits);
                for bytes in section.chunks(piece) {
                    assert_eq!(decoder.fragment(bytes, &mut out, &mut sink), Ok(()), "{large}");
                }
                let summary = decoder.end().expect("complete");
                assert_eq!(summary.is_too_large, summary.list_bytes > 2000);
                assert_eq!(summary.list_bytes as usize, 6 + large + 5 + 6 + 5 + 4 * 32);
                assert!(sink.fields.len() <= refuses.unwrap_or(4));
                assert_eq!(decoder.table().size(), reference.table().size(), "{large}");
                let newest = hex("be");
                assert_eq!(decode(&mut decoder, &newest), decode(&mut reference, &newest));
            }
        }
    }
}

#[test]
fn what_is_far_too_large_ends_the_connection() {
    let limits = SectionLimits { list_bytes: 16_384, fields: 100 };
    let mut decoder = decoder(4096);
    let (mut sink, mut out) = (Collect::default(), vec![0; 16_500]);
    decoder.begin(limits);
    // An entry of 4 KB and 4000 references to it: 16 MB from 8 KB.
    let mut section = literal(0x40, b"a", &[b'x'; 4000]);
    section.extend([0xbe; 4000]);
    assert_eq!(decoder.fragment(&section, &mut out, &mut sink), Err(DecodeError::FarTooLarge));
    assert_eq!(sink.fields.len(), 4);
    // Many empty fields.
    let mut decoder = self::decoder(4096);
    decoder.begin(limits);
    let section = [literal(0x40, b"cookie", b""), vec![0xbe; 14_000]].concat();
    assert_eq!(decoder.fragment(&section, &mut out, &mut sink), Err(DecodeError::FarTooLarge));
    // A string that does not end.
    let mut decoder = self::decoder(4096);
    decoder.begin(limits);
    let endless = literal(0x00, b"a", &vec![b'x'; 1 << 20]);
    let mut taken = 0;
    let result = endless.chunks(1000).try_for_each(|piece| {
        taken += piece.len();
        decoder.fragment(piece, &mut out, &mut sink)
    });
    assert_eq!(result, Err(DecodeError::FarTooLarge));
    assert!(taken < 5 * 16_384, "{taken}");
}

fn encode(encoder: &mut Encoder<Vec<u8>>, fields: &[(&[u8], &[u8], Indexing)]) -> Vec<u8> {
    let bytes = fields.iter().map(|(name, value, _)| name.len() + value.len()).sum();
    let mut out = vec![0; encoded_bound(fields.len(), bytes)];
    let mut at = 0;
    for (name, value, indexing) in fields {
        at += encoder.field(name, value, *indexing, &mut out[at..]).expect("room");
    }
    out.truncate(at);
    out
}

#[test]
fn what_repeats_is_indexed_and_secrets_never() {
    use Indexing::{Allowed, Never};
    let mut encoder = Encoder::new(table(4096));
    let mut decoder = decoder(4096);
    let fields: [(&[u8], &[u8], Indexing); 7] = [
        (b":method", b"GET", Allowed),
        (b"User-Agent", b"test/1.0", Allowed),
        (b"authorization", b"Bearer abcdefgh", Allowed),
        (b"cookie", b"a=1", Allowed),
        (b"set-cookie", b"a=0123456789abcdef0123", Allowed),
        (b"x-secret", b"value", Never),
        (b"x-other", b"value", Allowed),
    ];
    let sections = [(); 3].map(|()| encode(&mut encoder, &fields));
    assert!(sections[1].len() <= sections[0].len() && sections[2].len() < sections[1].len());
    for section in &sections {
        let (mut sink, mut out) = (Collect::default(), [0; 8192]);
        decoder.begin(WIDE);
        assert_eq!(decoder.fragment(section, &mut out, &mut sink), Ok(()));
        let never = [false, false, true, true, true, true, false];
        for ((got, want), never) in sink.fields.iter().zip(fields).zip(never) {
            assert_eq!((&got.0[..], &got.1[..], got.2), (&want.0.to_ascii_lowercase()[..], want.1, never));
        }
    }
    assert_eq!(decoder.table().len(), 2, "user-agent and x-other");
    assert_eq!(decoder.table().size(), encoder.table().size());
}

#[test]
fn changes_of_the_limit_are_announced_with_the_next_field() {
    let fields: [(&[u8], &[u8], Indexing); 1] = [(b"x-name", b"some value", Indexing::Allowed)];
    let get: [(&[u8], &[u8], Indexing); 1] = [(b":method", b"GET", Indexing::Allowed)];
    let mut encoder = Encoder::new(table(1024));
    assert_eq!(encode(&mut encoder, &[]), b"");
    assert_eq!(encode(&mut encoder, &get), hex("3f e1 07 82"), "a smaller table than the peer expects");
    encoder.set_limit(1 << 20);
    assert_eq!(encode(&mut encoder, &get), hex("82"));
    (0..3).for_each(|_| _ = encode(&mut encoder, &fields));
    assert_eq!(encode(&mut encoder, &fields), hex("be"));
    encoder.set_limit(0);
    encoder.set_limit(100);
    assert_eq!(encode(&mut encoder, &get), hex("20 3f 45 82"));
    assert_ne!(encode(&mut encoder, &fields), hex("be"), "the entry was evicted in between");
    encoder.set_limit(0);
    let section = encode(&mut encoder, &fields);
    assert_eq!(section[0], 0x20);
    assert_eq!(
        (encode(&mut encoder, &fields), encoder.table().len()),
        (section[1..].to_vec(), 0),
        "no table, no index"
    );
}

/// Random bytes neither panic nor exceed bounds, and the cuts do not matter.
#[test]
fn random_sections_in_any_cuts() {
    let mut random = Random(7);
    let limits = SectionLimits { list_bytes: 1000, fields: 20 };
    let (mut whole, mut pieces) = (decoder(512), decoder(512));
    let (mut out_whole, mut out_pieces) = (vec![0; 1200], vec![0; 1200]);
    let mut accepted = 0;
    for _ in 0..runs(200_000) {
        let mut section = random.bytes(60);
        for byte in &mut section {
            // Few long integers, so that more sections are valid.
            if random.below(3) == 0 {
                *byte =
                    *random.one(&[0x82, 0x84, 0x40, 0x00, 0x10, 0x01, 0x02, 0x81, b'a', b'b', 0xbe, 0xbf, 0x41, 0x20]);
            }
        }
        let (mut sink, mut other) = (Collect::default(), Collect::default());
        let lists = (whole.clone(), pieces.clone());
        whole.begin(limits);
        let result = whole.fragment(&section, &mut out_whole, &mut sink).and_then(|()| whole.end());
        pieces.begin(limits);
        let mut rest = &section[..];
        let mut cut_result = Ok(());
        while !rest.is_empty() && cut_result.is_ok() {
            let (piece, tail) = rest.split_at(1 + random.below(rest.len()));
            cut_result = pieces.fragment(piece, &mut out_pieces, &mut other);
            rest = tail;
        }
        assert_eq!(result, cut_result.and_then(|()| pieces.end()), "{section:x?}");
        assert_eq!(sink.fields, other.fields);
        assert!(whole.table().size() <= 512 && sink.fields.len() <= 20);
        let bytes: usize = sink.fields.iter().map(|(name, value, _)| name.len() + value.len() + 32).sum();
        assert!(bytes <= 1000);
        accepted += usize::from(result.is_ok());
        if result.is_err() {
            (whole, pieces) = lists;
        }
    }
    assert!(accepted > 100, "{accepted}");
}
