//! HPACK against another implementation: what one encodes, both decode, over connections whose tables fill, shrink and grow.

use cairn::http2::hpack::{
    DecodedField, Decoder, Encoder, FieldSink, Indexing, Next, SectionLimits, Table, encoded_bound, table_memory,
};

const LIMITS: SectionLimits = SectionLimits { list_bytes: 60_000, fields: 256 };
/// Sections that run in each direction, or as many as `CAIRN_HTTP2_RUNS` says.
const SECTIONS: usize = 100_000;
/// The other implementation is slow, so it takes part in one connection of so many; in all of them if `CAIRN_HTTP2_RUNS` is set.
const ORACLE_SHARE: usize = 20;
/// Sections of one connection.
const LENGTH: usize = 40;

type Field = (Vec<u8>, Vec<u8>);

#[derive(Default)]
struct Collect(Vec<Field>);

impl FieldSink for Collect {
    fn field(&mut self, out: &mut [u8], field: DecodedField) -> Next {
        self.0.push((field.name(out).to_vec(), field.value(out).to_vec()));
        Next::At(field.value_end() + 2)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as usize % bound
    }

    fn text(&mut self, alphabet: &[u8], longest: usize) -> Vec<u8> {
        (0..self.below(longest + 1)).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }

    /// Fields such as a connection carries: few names, values that repeat, and some that do not.
    fn section(&mut self) -> Vec<Field> {
        const NAMES: [&str; 16] = [
            ":method",
            ":path",
            ":status",
            "accept",
            "authorization",
            "cookie",
            "content-length",
            "date",
            "set-cookie",
            "user-agent",
            "x-a",
            "x-request-id",
            "x-a-rather-long-name-that-is-nowhere-in-a-table",
            "via",
            "te",
            "accept-encoding",
        ];
        let count = self.below(12);
        let mut fields = Vec::new();
        for _ in 0..count {
            let name = match self.below(12) {
                0 => self.text(b"abcdefghijklmnopqrstuvwxyz-_0123456789", 30),
                _ => NAMES[self.below(NAMES.len())].into(),
            };
            let value = match self.below(40) {
                0 => vec![b'x'; self.below(5000)],
                1..5 => self.text(&(0..=255).collect::<Vec<u8>>(), 50),
                5..9 => self.text(b"abcdefghijklmnopqrstuvwxyz ABC/.=;0123456789", 200),
                9..13 => b"GET".to_vec(),
                _ => vec![b'a' + self.below(4) as u8; 1 + self.below(3) * 10],
            };
            fields.push((name, value));
        }
        fields
    }
}

/// How many connections there are, and in which of them the other implementation takes part.
fn connections() -> (usize, usize) {
    match std::env::var("CAIRN_HTTP2_RUNS").ok().and_then(|runs| runs.parse::<usize>().ok()) {
        Some(runs) => (runs.div_ceil(LENGTH), 1),
        None => (SECTIONS.div_ceil(LENGTH), ORACLE_SHARE),
    }
}

fn table(capacity: usize) -> Table<Vec<u8>> {
    Table::new(vec![0; table_memory(capacity)], capacity)
}

/// Decodes a section in random fragments.
fn decode(decoder: &mut Decoder<Vec<u8>>, mut section: &[u8], out: &mut [u8], random: &mut Random) -> Vec<Field> {
    let mut sink = Collect::default();
    decoder.begin(LIMITS);
    while !section.is_empty() {
        let (piece, rest) = section.split_at(1 + random.below(section.len()));
        decoder.fragment(piece, out, &mut sink).expect("valid");
        section = rest;
    }
    decoder.end().expect("complete");
    sink.0
}

#[test]
fn what_is_encoded_here_is_decoded_by_both() {
    let mut random = Random(20_261_129);
    let (mut out, mut section) = (vec![0; 61_000], vec![0; 100_000]);
    let (mut plain, mut coded) = (0, 0);
    let (connections, share) = connections();
    for connection in 0..connections {
        let mut encoder = Encoder::new(table([0, 200, 1024, 4096, 16_384][random.below(5)]));
        let mut decoder = Decoder::new(table(16_384));
        let mut other = loona_hpack::Decoder::new();
        for _ in 0..LENGTH {
            if random.below(10) == 0 {
                let limit = [0, 100, 4096, 8000, 16_384][random.below(5)];
                encoder.set_limit(limit as u32);
                // The acknowledgement is not part of this: both sides know of the limit at once.
                decoder.set_limit(limit);
                other.set_max_allowed_table_size(limit);
            }
            let fields = random.section();
            let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(encoded_bound(fields.len(), bytes) < section.len());
            let mut at = 0;
            for (name, value) in &fields {
                let indexing = if random.below(20) == 0 { Indexing::Never } else { Indexing::Allowed };
                at += encoder.field(name, value, indexing, &mut section[at..]).expect("room");
            }
            assert!(at <= encoded_bound(fields.len(), bytes));
            assert_eq!(decode(&mut decoder, &section[..at], &mut out, &mut random), fields);
            if connection % share == 0 {
                assert_eq!(other.decode(&section[..at]).expect("valid"), fields);
            }
            // A section without fields cannot announce a new capacity.
            if !fields.is_empty() {
                let (own, peer) = (encoder.table(), decoder.table());
                let sizes = (own.len(), own.size(), own.capacity());
                assert_eq!(sizes, (peer.len(), peer.size(), peer.capacity()));
            }
            (plain, coded) = (plain + bytes, coded + at);
        }
    }
    assert!(coded < plain, "{coded} of {plain} bytes");
}

#[test]
fn what_another_encodes_is_decoded_here() {
    let mut random = Random(2026);
    let mut out = vec![0; 61_000];
    for _ in 0..connections().0 {
        let mut encoder = loona_hpack::Encoder::new();
        let mut decoder = Decoder::new(table(4096));
        for _ in 0..LENGTH {
            let fields = random.section();
            let section = encoder.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
            assert_eq!(decode(&mut decoder, &section, &mut out, &mut random), fields);
        }
    }
}
