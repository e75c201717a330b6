//! The HTTP/2 codec allocates nothing after its construction: a counting allocator watches a client and a server that talk in
//! memory. One test in this file, because the allocator belongs to the whole process.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use cairn::http::{HeadLimits, Method, RequestHead, ResponseHead};
use cairn::http2::abuse::{AbuseCounter, AbuseLimits};
use cairn::http2::flow::{ReceiveWindow, SendWindow};
use cairn::http2::head::{NeverIndexed, RequestSink, ResponseSink, Scheme, encode_request, encode_response};
use cairn::http2::hpack::{Decoder, Encoder, FieldSink, SectionLimits, SectionSummary, Table, table_memory};
use cairn::http2::{Event, FRAME_HEAD_BYTES, FrameReader, FrameWriter, Settings, Side, StreamId, seal_headers};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECTION: SectionLimits = SectionLimits { list_bytes: 16_384, fields: 100 };
const LIMITS: HeadLimits = HeadLimits { head_bytes: 16_384, field_count: 100, request_line: 8192 };
const REQUEST: &[u8] =
    b"GET /a?b=c HTTP/1.1\r\nhost: example.com\r\nuser-agent: test/1.0\r\naccept: */*\r\ncookie: a=1\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-length: 2\r\nset-cookie: a=2\r\n\r\n";

/// One side of the connection.
struct Peer {
    reader: FrameReader,
    encoder: Encoder<Vec<u8>>,
    decoder: Decoder<Vec<u8>>,
    windows: (SendWindow, ReceiveWindow),
    abuse: AbuseCounter,
    /// Bytes that go to the other side.
    sent: Vec<u8>,
    len: usize,
    buffer: Vec<u8>,
}

impl Peer {
    fn new(reads: Side) -> Self {
        let table = || Table::new(vec![0; table_memory(4096)], 4096);
        Self {
            reader: FrameReader::new(reads, 16_384),
            encoder: Encoder::new(table()),
            decoder: Decoder::new(table()),
            windows: (SendWindow::new(65_535), ReceiveWindow::new(65_535)),
            abuse: AbuseCounter::new(&AbuseLimits::default()),
            sent: vec![0; 4096],
            len: 0,
            buffer: vec![0; 20_000],
        }
    }

    /// Sends a head, with `encode`, and `body`.
    fn send(&mut self, stream: StreamId, encode: impl Fn(&mut Encoder<Vec<u8>>, &mut [u8]) -> usize, body: &[u8]) {
        let out = &mut self.sent[self.len..];
        let section = encode(&mut self.encoder, &mut out[FRAME_HEAD_BYTES..]);
        self.len += seal_headers(out, section, stream, body.is_empty(), 16_384).expect("room");
        if !body.is_empty() {
            let mut connection = SendWindow::new(1 << 20);
            assert_eq!(SendWindow::take(&mut self.windows.0, &mut connection, body.len() as u32), body.len() as u32);
            self.windows.0.increase(body.len() as u32).expect("in bounds");
            let mut writer = FrameWriter::new(&mut self.sent[self.len..]);
            writer.data(stream, body.len() as u32, true).expect("room");
            self.len += writer.len();
            self.sent[self.len..][..body.len()].copy_from_slice(body);
            self.len += body.len();
        }
    }

    /// Reads what the other side has sent, in pieces; the field section goes to `sink`.
    fn receive(&mut self, other: &mut Self, piece: usize, sink: &mut impl FieldSink) -> (SectionSummary, bool) {
        let (mut summary, mut ends) = (None, false);
        for mut bytes in other.sent[..other.len].chunks(piece) {
            loop {
                let part = self.reader.next(bytes).expect("no error");
                let (here, rest) = bytes.split_at(part.len);
                bytes = rest;
                match part.event {
                    Event::NeedMore => break,
                    Event::Headers { .. } => self.decoder.begin(SECTION),
                    Event::Fragment => self.decoder.fragment(here, &mut self.buffer, sink).expect("valid"),
                    Event::HeadersEnd { end_stream, .. } => {
                        summary = Some(self.decoder.end().expect("complete"));
                        ends |= end_stream;
                    }
                    Event::Data { flow_length, end_stream, .. } => {
                        self.windows.1.receive(flow_length).expect("within the window");
                        self.windows.1.free(flow_length);
                        _ = self.windows.1.update();
                        let limits = AbuseLimits::default();
                        self.abuse.data(flow_length, end_stream, &limits, Duration::ZERO).expect("no abuse");
                    }
                    _ => {}
                }
            }
        }
        other.len = 0;
        (summary.expect("a section"), ends)
    }
}

#[test]
fn a_warm_connection_allocates_nothing() {
    let (mut client, mut server) = (Peer::new(Side::Server), Peer::new(Side::Client));
    let (mut request, mut response) = (RequestHead::new(), ResponseHead::new());
    for peer in [&mut client, &mut server] {
        let mut writer = FrameWriter::new(&mut peer.sent);
        writer.settings(Settings { enable_push: false, ..Settings::default() }.changed()).expect("room");
        peer.len = writer.len();
    }
    // The counter counts.
    let before = COUNT.get();
    drop(std::hint::black_box(vec![0; 10]));
    assert_eq!(COUNT.get(), before + 1);
    let before = COUNT.get();
    for exchange in 0..10_000 {
        let stream = StreamId::new(exchange * 2 + 1);
        let piece = 1 + exchange as usize % 300;
        let never = NeverIndexed::default();
        client.send(
            stream,
            |encoder, out| encode_request(encoder, REQUEST, Scheme::Https, &never, out).expect("a head"),
            b"",
        );
        let mut sink = RequestSink::new(false);
        let (summary, ends) = server.receive(&mut client, piece, &mut sink);
        let received = sink.finish(&mut server.buffer, &summary, ends, &LIMITS, &mut request).expect("valid");
        assert_eq!(&server.buffer[received.text()], REQUEST);
        server.send(stream, |encoder, out| encode_response(encoder, RESPONSE, &never, out).expect("a head"), b"ok");
        let mut sink = ResponseSink::new();
        let (summary, ends) = client.receive(&mut server, piece, &mut sink);
        sink.finish(&mut client.buffer, &summary, ends, &LIMITS, Method::Get, &mut response).expect("valid");
        assert_eq!(response.status, 200);
    }
    assert_eq!(COUNT.get(), before, "allocations of 10,000 exchanges");
}
