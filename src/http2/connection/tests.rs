//! Two connections that talk to each other, and one that is talked to frame by frame.

use core::time::Duration;

use super::*;
use crate::buffer::Queue;
use crate::http::{Fields, HeadLimits, Method, RequestHead, ResponseHead};
use crate::http2::flow::WINDOW_MAX;
use crate::http2::head::Scheme;
use crate::http2::{FrameWriter, NoRoom, Setting};

const LIMITS: HeadLimits = HeadLimits { head_bytes: 16 * 1024, field_count: 100, request_line: 8 * 1024 };

/// One side, with the messages of its streams.
struct End {
    connection: Connection,
    /// Text that was received, by entry.
    text: Vec<String>,
    /// Methods of requests, by entry.
    methods: Vec<Method>,
    /// Resets and ends that were told, by entry.
    resets: Vec<(u32, ErrorCode)>,
    ended: Vec<u32>,
    slots: Vec<Slot>,
    held: Vec<usize>,
}

struct Pair {
    buffers: Buffers,
    fields: Fields,
    client: End,
    server: End,
}

fn spec(side: Side) -> Spec {
    let settings = Settings {
        enable_push: false,
        max_concurrent_streams: if side == Side::Server { 4 } else { u32::MAX },
        initial_window_size: 65_536,
        no_rfc7540_priorities: true,
        ..Settings::default()
    };
    let section = SectionLimits { list_bytes: 32 * 1024, fields: 105 };
    Spec { side, settings, connection_window: 1 << 20, streams: 4, section, abuse: AbuseLimits::default() }
}

impl End {
    fn new(spec: &Spec, buffers: &mut Buffers) -> Self {
        let connection = Connection::new(spec, buffers);
        let (text, methods, resets, ended, slots, held) = Default::default();
        Self { connection, text, methods, resets, ended, slots, held }
    }

    /// Reads bytes; a server accepts what it can.
    fn read(&mut self, buffers: &mut Buffers, fields: &mut Fields, bytes: &[u8], cut: usize) -> Result<(), Error> {
        let mut input = Queue::default();
        for piece in bytes.chunks(cut) {
            let mut lease = buffers.take().expect("a buffer");
            assert_eq!(lease.append(piece), piece.len());
            input.push(buffers.pieces(), lease);
            while let Some(received) = self.connection.read(buffers, &mut input, fields, Duration::ZERO)? {
                self.take(buffers, received);
            }
        }
        Ok(())
    }

    fn take(&mut self, buffers: &mut Buffers, received: Received) {
        match received {
            Received::Request { slot } => {
                let mut head = RequestHead::new();
                match self.connection.finish_request(buffers, slot, &LIMITS, &mut head) {
                    Ok((_, lease)) => {
                        self.connection.accept(slot, self.text.len() as u32);
                        self.text.push(String::from_utf8_lossy(lease.bytes()).into_owned());
                        self.methods.push(head.method);
                        self.slots.push(slot);
                        self.held.push(0);
                    }
                    Err(_) => self.connection.close(buffers, slot, ErrorCode::ProtocolError),
                }
            }
            Received::Response { slot, entry } => {
                let mut head = ResponseHead::new();
                let method = self.methods[entry as usize];
                match self.connection.finish_response(buffers, slot, &LIMITS, method, &mut head) {
                    Ok(lease) => self.text[entry as usize] += &String::from_utf8_lossy(lease.bytes()),
                    Err(_) => self.resets.push((entry, ErrorCode::ProtocolError)),
                }
            }
            Received::Text { entry, lease, .. } => {
                self.text[entry as usize] += &String::from_utf8_lossy(lease.bytes());
                self.held[entry as usize] += lease.len();
            }
            Received::End { entry, .. } => self.ended.push(entry),
            Received::Reset { slot, entry, code } => {
                self.resets.push((entry, code));
                self.connection.close(buffers, slot, code);
            }
            Received::Settings | Received::GoAway { .. } | Received::Pong(_) => {}
        }
    }

    fn free(&mut self, buffers: &mut Buffers, entry: usize) {
        self.connection.freed(buffers, self.slots[entry], 0);
    }

    fn push(&mut self, buffers: &mut Buffers, entry: usize, text: &str) -> Result<Backlog, BadText> {
        let mut queue = Queue::default();
        for piece in text.as_bytes().chunks(10_000) {
            let mut lease = buffers.take().expect("a buffer");
            assert_eq!(lease.append(piece), piece.len());
            queue.push(buffers.pieces(), lease);
        }
        let pushed = self.connection.push(buffers, self.slots[entry], &mut queue, false, Scheme::Http);
        queue.clear(buffers.pieces());
        pushed
    }

    /// What is to be sent now.
    fn write(&mut self, buffers: &mut Buffers) -> Vec<u8> {
        let mut out = Queue::default();
        self.connection.write(buffers, usize::MAX, &mut out);
        let bytes = out.iter(buffers.pieces()).flat_map(|lease| lease.bytes().to_vec()).collect();
        out.clear(buffers.pieces());
        bytes
    }
}

impl Pair {
    fn new() -> Self {
        let mut buffers = Buffers::over(Buffers::reserve(128, 8).expect("memory"));
        let client = End::new(&spec(Side::Client), &mut buffers);
        let server = End::new(&spec(Side::Server), &mut buffers);
        Self { buffers, fields: Fields::new(), client, server }
    }

    /// Opens a stream and sends text on it.
    fn ask(&mut self, method: Method, asked: Asked, text: &str) -> usize {
        let entry = self.client.text.len();
        let slot = self.client.connection.open(entry as u32, asked).expect("a stream");
        self.client.text.push(String::new());
        self.client.methods.push(method);
        self.client.slots.push(slot);
        self.client.held.push(0);
        self.client.push(&mut self.buffers, entry, text).expect("a message");
        entry
    }

    /// Carries bytes both ways, cut into pieces, until nobody has any.
    fn carry(&mut self, cut: usize) {
        loop {
            let up = self.client.write(&mut self.buffers);
            let down = self.server.write(&mut self.buffers);
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.server.read(&mut self.buffers, &mut self.fields, &up, cut).expect("frames of a client");
            self.client.read(&mut self.buffers, &mut self.fields, &down, cut).expect("frames of a server");
        }
    }

    /// Has one side read frames that no peer of this kind would send; content is zeros.
    fn send(
        &mut self,
        to: Side,
        content: usize,
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), NoRoom>,
    ) -> Result<(), Error> {
        let mut bytes = [0; 256];
        let mut frames = FrameWriter::new(&mut bytes);
        write(&mut frames).expect("room");
        let len = frames.len() + content;
        let end = if to == Side::Server { &mut self.server } else { &mut self.client };
        end.read(&mut self.buffers, &mut self.fields, &bytes[..len], 1000)?;
        // All is sent at once.
        end.write(&mut self.buffers);
        end.connection.drained();
        Ok(())
    }

    /// A request of which a server has the head. Returns the server's slot.
    fn begin(&mut self, id: u32) -> Slot {
        self.send(Side::Server, 0, |it| it.headers(StreamId::new(id), POST, false, 16_384)).expect("a request");
        *self.server.slots.last().expect("it was accepted")
    }

    fn answer(&mut self, entry: usize, text: &str) {
        self.server.push(&mut self.buffers, entry, text).expect("a message");
    }
}

/// Chunks joined to one, so that texts can be compared wherever they were cut.
fn joined(text: &str) -> String {
    let Some((head, mut rest)) = text.split_once("\r\n\r\n").filter(|(head, _)| head.contains("chunked")) else {
        return text.to_owned();
    };
    let mut data = String::new();
    loop {
        let (size, tail) = rest.split_once("\r\n").unwrap_or_else(|| panic!("a chunk line in {rest:?}"));
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("a size: {size:?}"));
        if size == 0 {
            return format!("{head}\n{data}\n{tail}");
        }
        data += &tail[..size];
        rest = tail[size..].strip_prefix("\r\n").expect("the line end of a chunk");
    }
}

#[test]
fn messages_arrive_as_they_were_sent() {
    for cut in [1, 7, 100, 16_000] {
        let mut pair = Pair::new();
        pair.carry(cut);
        let get = pair.ask(Method::Get, Asked::Content, "GET /a HTTP/1.1\r\nhost: h\r\n\r\n");
        let post = "POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello";
        let post = pair.ask(Method::Post, Asked::Content, post);
        let chunked = "PUT /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nx-t: 1\r\n\r\n";
        let chunked = pair.ask(Method::Put, Asked::Content, chunked);
        pair.carry(cut);
        assert_eq!(pair.server.text[get], "GET /a HTTP/1.1\r\nhost: h\r\n\r\n", "cut {cut}");
        assert_eq!(
            pair.server.text[post], "POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello",
            "cut {cut}"
        );
        // To a server, the parsed head says that the content is chunked.
        let put = pair.server.text[chunked].replacen("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n", 1);
        let want = "PUT /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\nabcdefg\nx-t: 1\r\n\r\n";
        assert_eq!(joined(&put), want, "cut {cut}");
        pair.answer(get, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
        pair.answer(get, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        pair.answer(post, "HTTP/1.1 204 No Content\r\n\r\n");
        pair.answer(
            chunked,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n",
        );
        pair.carry(cut);
        let text = &pair.client.text;
        assert_eq!(
            text[get], "HTTP/1.1 103 \r\nlink: x\r\n\r\nHTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok",
            "cut {cut}"
        );
        assert_eq!(text[post], "HTTP/1.1 204 \r\n\r\n");
        let want = "HTTP/1.1 200 \r\ntransfer-encoding: chunked\nhi\ngrpc-status: 0\r\n\r\n";
        assert_eq!(joined(&text[chunked]), want, "cut {cut}");
        assert!(pair.client.resets.is_empty() && pair.server.resets.is_empty());
        for entry in [get, post, chunked] {
            let (client, server) = (pair.client.slots[entry], pair.server.slots[entry]);
            pair.client.connection.close(&mut pair.buffers, client, ErrorCode::Cancel);
            pair.server.connection.close(&mut pair.buffers, server, ErrorCode::Cancel);
        }
        assert_eq!((pair.client.write(&mut pair.buffers).len(), pair.server.connection.streams()), (0, 0));
    }
}

#[test]
fn a_stream_that_is_not_read_stalls_no_other() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    let body = "x".repeat(200_000);
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", body.len());
    let slow = pair.ask(Method::Post, Asked::Content, &format!("{head}{body}"));
    pair.carry(16_000);
    assert_eq!(pair.server.held[slow], 65_536, "the window of the stream");
    let quick = pair.ask(Method::Post, Asked::Content, &format!("{head}{body}"));
    for _ in 0..8 {
        pair.carry(16_000);
        pair.server.free(&mut pair.buffers, quick);
    }
    assert_eq!((pair.server.held[slow], pair.server.held[quick]), (65_536, 200_000));
    for _ in 0..8 {
        pair.carry(16_000);
        pair.server.free(&mut pair.buffers, slow);
    }
    assert_eq!(pair.server.held[slow], 200_000);
    assert_eq!(pair.client.connection.backlog(pair.client.slots[slow]), Backlog::default());
}

#[test]
fn streams_share_the_connection_and_the_urgent_ones_come_first() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    let request = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    let entries: Vec<_> = (0..3).map(|_| pair.ask(Method::Get, Asked::Content, request)).collect();
    pair.carry(16_000);
    let mut update = [0; 32];
    let mut frames = FrameWriter::new(&mut update);
    frames.priority_update(StreamId::new(5), b"u=1").expect("room");
    let len = frames.len();
    pair.server.read(&mut pair.buffers, &mut pair.fields, &update[..len], 100).expect("a frame");
    for entry in &entries {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}", "y".repeat(20_000));
        pair.answer(*entry, &text);
    }
    let bytes = pair.server.write(&mut pair.buffers);
    let mut order = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let head = crate::http2::FrameHead::decode(head);
        if head.kind == crate::http2::FrameKind::Data as u8 {
            order.push((head.stream.get(), head.length));
        }
        at += 9 + head.length as usize;
    }
    // The window of the connection has 65,535 bytes for all.
    assert_eq!(order, [(5, 16_384), (5, 3616), (1, 16_384), (3, 16_384), (1, 3616), (3, 3616)]);
}

#[test]
fn a_message_that_breaks_off_is_reset() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    let entry = pair.ask(Method::Get, Asked::Content, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    pair.carry(16_000);
    pair.answer(entry, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
    pair.carry(16_000);
    let slot = pair.server.slots[entry];
    pair.server.connection.close(&mut pair.buffers, slot, ErrorCode::InternalError);
    pair.carry(16_000);
    assert_eq!(pair.client.resets, [(0, ErrorCode::InternalError)]);
    assert!(pair.client.text[entry].ends_with("only this"));
}

#[test]
fn what_a_peer_does_not_take_is_told_apart() {
    let mut pair = Pair::new();
    assert_eq!(pair.client.connection.can_open(), 1, "no SETTINGS have come");
    pair.carry(16_000);
    assert_eq!(pair.client.connection.can_open(), 4);
    let request = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    pair.ask(Method::Get, Asked::Content, request);
    pair.carry(16_000);
    pair.server.connection.end(&mut pair.buffers);
    let late = pair.ask(Method::Get, Asked::Content, request);
    pair.carry(16_000);
    assert_eq!(pair.client.resets, [(late as u32, ErrorCode::RefusedStream)]);
    assert_eq!((pair.client.connection.can_open(), pair.server.text.len()), (0, 1));
}

/// POST with content-length: 5.
const POST: &[u8] = b"\x83\x86\x84\x41\x01h\x0f\x0d\x015";

#[test]
fn what_was_on_its_way_to_streams_that_were_reset_is_no_error() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    for id in (1..400).step_by(2) {
        let slot = pair.begin(id);
        pair.server.connection.close(&mut pair.buffers, slot, ErrorCode::Cancel);
    }
    for id in (1..400).step_by(2) {
        pair.send(Side::Server, 0, |it| it.data(StreamId::new(id), 0, true)).expect("the end of a request");
    }
}

#[test]
fn field_sections_that_do_not_end_hold_no_large_buffer() {
    // 8 large buffers.
    let mut pair = Pair::new();
    let mut bytes = PREFACE.to_vec();
    let mut room = [0; 256];
    let mut frames = FrameWriter::new(&mut room);
    frames.settings([].iter().copied()).expect("room");
    frames.headers(StreamId::new(1), POST, false, 16_384).expect("room");
    let len = frames.len();
    bytes.extend(&room[..len]);
    let cuts = bytes.len() - POST.len()..=bytes.len();
    let mut ends = cuts.clone().map(|cut| (cut, End::new(&spec(Side::Server), &mut pair.buffers))).collect::<Vec<_>>();
    for (cut, end) in &mut ends {
        end.read(&mut pair.buffers, &mut pair.fields, &bytes[..*cut], 1000).expect("half a section");
        assert_eq!(end.connection.pinned(&pair.buffers)[1], 0);
    }
    for (cut, end) in &mut ends {
        end.read(&mut pair.buffers, &mut pair.fields, &bytes[*cut..], 1000).expect("the other half");
        assert_eq!(end.text, ["POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n"]);
    }
    assert!(ends.len() > 8);
}

#[test]
fn a_response_whose_end_comes_alone_is_not_reset() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    let ask = |pair: &mut Pair| {
        let entry = pair.ask(Method::Get, Asked::Content, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        let id = pair.client.connection.id(pair.client.slots[entry]);
        pair.client.write(&mut pair.buffers);
        // 200 with content-length: 2.
        pair.send(Side::Client, 0, |it| it.headers(id, b"\x88\x0f\x0d\x012", false, 16_384)).expect("a head");
        pair.send(Side::Client, 2, |it| it.data(id, 2, false)).expect("content");
        let slot = pair.client.slots[entry];
        pair.client.connection.close(&mut pair.buffers, slot, ErrorCode::Cancel);
        (id, pair.client.write(&mut pair.buffers), pair.client.connection.can_open())
    };
    let (ended, written, left) = ask(&mut pair);
    assert_eq!((written.len(), left), (0, 3), "the server may believe that it is open");
    assert_eq!((pair.client.connection.streams(), pair.client.connection.is_closing()), (0, true));
    pair.send(Side::Client, 0, |it| it.data(ended, 0, true)).expect("the end");
    assert_eq!((pair.client.connection.can_open(), pair.client.connection.is_closing()), (4, false));
    // One that is reset instead, one that has more content, and one that does not end.
    let (reset, ..) = ask(&mut pair);
    pair.send(Side::Client, 0, |it| it.rst_stream(reset, ErrorCode::NoError)).expect("a reset");
    let (longer, ..) = ask(&mut pair);
    pair.send(Side::Client, 1, |it| it.data(longer, 1, false)).expect("an error of the stream");
    ask(&mut pair);
    assert_eq!((pair.client.connection.can_open(), pair.client.connection.is_closing()), (3, true));
    pair.client.connection.end_closing(&mut pair.buffers);
    assert_eq!((pair.client.connection.can_open(), pair.client.connection.is_closing()), (4, false));
    assert_eq!(pair.client.write(&mut pair.buffers).len(), 13, "RST_STREAM");
    assert_eq!(pair.client.resets, []);
}

/// More than the glitches and the resets that a peer may cause at once.
const MANY: u32 = 11_000;

#[test]
fn what_comes_late_because_it_was_on_its_way_is_no_abuse() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    let (reset, ended) = (StreamId::new(1), StreamId::new(3));
    let slot = pair.begin(1);
    pair.server.connection.close(&mut pair.buffers, slot, ErrorCode::Cancel);
    let slot = pair.begin(3);
    pair.send(Side::Server, 5, |it| it.data(ended, 5, true)).expect("a body");
    pair.answer(1, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    pair.server.connection.close(&mut pair.buffers, slot, ErrorCode::Cancel);
    for _ in 0..MANY {
        pair.send(Side::Server, 1, |it| it.data(reset, 1, false)).expect("content");
        pair.send(Side::Server, 0, |it| it.window_update(ended, 1000)).expect("credit");
    }
    let abuse = (0..MANY).find_map(|_| pair.send(Side::Server, 0, |it| it.headers(reset, POST, true, 16_384)).err());
    assert_eq!(abuse.map(|it| it.code), Some(ErrorCode::EnhanceYourCalm), "no client sends so many sections");
}

#[test]
fn a_server_may_reset_what_it_was_asked_for() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    for number in 0..MANY {
        let id = StreamId::new(2 * number + 1);
        pair.ask(Method::Get, Asked::Content, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        pair.client.write(&mut pair.buffers);
        pair.send(Side::Client, 0, |it| it.rst_stream(id, ErrorCode::RefusedStream)).expect("a reset");
        // One that has crossed a reset of this side's, and what a response had left.
        pair.send(Side::Client, 0, |it| it.rst_stream(id, ErrorCode::NoError)).expect("a late reset");
        pair.send(Side::Client, 0, |it| it.headers(id, b"\x88", true, 16_384)).expect("a late response");
    }
}

#[test]
fn pings_are_paid_for_by_content() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    let id = StreamId::new(1);
    let asked = b"\x83\x86\x84\x41\x01h";
    pair.send(Side::Server, 0, |it| it.headers(id, asked, false, 16_384)).expect("a request");
    let slot = pair.server.slots[0];
    for _ in 0..MANY {
        // Whoever measures the bandwidth and the delay of a connection sends one for each round trip with content.
        pair.send(Side::Server, 1, |it| it.data(id, 1, false)).expect("content");
        pair.server.connection.freed(&mut pair.buffers, slot, 0);
        pair.send(Side::Server, 0, |it| it.ping([0; 8], false)).expect("PING");
    }
    let abuse = (0..MANY).find_map(|_| pair.send(Side::Server, 0, |it| it.ping([0; 8], false)).err());
    assert_eq!(abuse.map(|it| it.code), Some(ErrorCode::EnhanceYourCalm));
}

#[test]
fn violations_end_what_they_concern() {
    type Frames = fn(&mut FrameWriter<'_>) -> Result<(), NoRoom>;
    // The code of the stream's reset, or of the connection's end.
    type Outcome = Result<Option<ErrorCode>, ErrorCode>;
    let cases: [(&str, Frames, Outcome); 9] = [
        ("too much content", |it| it.data(StreamId::new(1), 6, true), Ok(Some(ErrorCode::ProtocolError))),
        ("too little content", |it| it.data(StreamId::new(1), 0, true), Ok(Some(ErrorCode::ProtocolError))),
        ("DATA on an idle stream", |it| it.data(StreamId::new(3), 0, true), Err(ErrorCode::ProtocolError)),
        ("a window by 0", |it| it.window_update(StreamId::new(1), 0), Ok(Some(ErrorCode::ProtocolError))),
        (
            "a window too large",
            |it| it.window_update(StreamId::new(1), WINDOW_MAX),
            Ok(Some(ErrorCode::FlowControlError)),
        ),
        ("the connection's", |it| it.window_update(StreamId::CONNECTION, WINDOW_MAX), Err(ErrorCode::FlowControlError)),
        ("RST_STREAM", |it| it.rst_stream(StreamId::new(1), ErrorCode::Cancel), Ok(Some(ErrorCode::Cancel))),
        ("an idle RST_STREAM", |it| it.rst_stream(StreamId::new(9), ErrorCode::Cancel), Err(ErrorCode::ProtocolError)),
        (
            "SETTINGS",
            |it| it.settings([Setting { id: Setting::ENABLE_PUSH, value: 2 }].into_iter()),
            Err(ErrorCode::ProtocolError),
        ),
    ];
    for (what, write, want) in cases {
        let mut pair = Pair::new();
        pair.carry(16_000);
        let mut bytes = [0; 256];
        let mut frames = FrameWriter::new(&mut bytes);
        frames.headers(StreamId::new(1), POST, false, 16_384).expect("room");
        write(&mut frames).expect("room");
        // The content of DATA is zeros.
        let len = frames.len() + if what == "too much content" { 6 } else { 0 };
        let read = pair.server.read(&mut pair.buffers, &mut pair.fields, &bytes[..len], 1000);
        let got = read.map(|()| pair.server.resets.first().map(|(_, code)| *code)).map_err(|error| error.code);
        assert_eq!(got, want, "{what}");
    }
}

/// A server under load has its client open fewer streams, and takes what is on its way.
#[test]
fn fewer_streams_can_be_allowed() {
    let mut pair = Pair::new();
    pair.carry(16_000);
    assert_eq!(pair.client.connection.can_open(), 4);
    let get = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    pair.server.connection.tell_streams(&mut pair.buffers, 0);
    // The client does not know yet.
    let early = [0, 1].map(|_| pair.ask(Method::Get, Asked::Content, get));
    pair.carry(16_000);
    assert_eq!((pair.client.connection.can_open(), pair.client.resets.len()), (0, 0));
    for entry in early {
        pair.answer(entry, "HTTP/1.1 204 No Content\r\n\r\n");
        let (client, server) = (pair.client.slots[entry], pair.server.slots[entry]);
        pair.carry(16_000);
        pair.client.connection.close(&mut pair.buffers, client, ErrorCode::Cancel);
        pair.server.connection.close(&mut pair.buffers, server, ErrorCode::Cancel);
    }
    assert_eq!(pair.client.connection.can_open(), 1, "never none at all");
    // Whoever knows and does not care is refused.
    pair.client.connection.peer.max_concurrent_streams = 4;
    let both = [0, 1].map(|_| pair.ask(Method::Get, Asked::Content, get));
    pair.carry(16_000);
    assert_eq!(pair.client.resets, [(both[1] as u32, ErrorCode::RefusedStream)]);
    pair.server.connection.tell_streams(&mut pair.buffers, 100);
    pair.carry(16_000);
    assert_eq!(pair.client.connection.peer().max_concurrent_streams, 4, "never more than at first");
}
