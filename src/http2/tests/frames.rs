//! Frames: what is written is read, whatever the cuts; rules of RFC 9113 sections 4 to 6 as a table; random bytes.

use super::{Random, hex, runs};
use crate::http2::{
    Error, ErrorCode, Event, FRAME_HEAD_BYTES, FrameReader, FrameWriter, NoRoom, Part, Priority, Scope, Setting, Side,
    StreamId, seal_headers, sealed_bytes,
};

const MAX: u32 = 16_384;

/// What was read, in a form that does not depend on cuts.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Event(Event),
    Content(Vec<u8>),
    Fragment(Vec<u8>),
    /// Bytes of padding of DATA.
    Padding(usize),
}

/// Reads `bytes` in pieces of the lengths that `step` gives.
fn read(reader: &mut FrameReader, bytes: &[u8], mut step: impl FnMut() -> usize) -> (Vec<Seen>, Option<Error>) {
    let (mut seen, mut at, mut arrived) = (Vec::new(), 0, 0);
    while arrived < bytes.len() {
        arrived = (arrived + step().max(1)).min(bytes.len());
        loop {
            let Part { len, event } = match reader.next(&bytes[at..arrived]) {
                Ok(part) => part,
                Err(error) => return (seen, Some(error)),
            };
            let part = &bytes[at..at + len];
            at += len;
            match (event, seen.last_mut()) {
                (Event::NeedMore, _) => break,
                (Event::Skip, _) => {}
                (Event::Content, Some(Seen::Content(content))) => content.extend_from_slice(part),
                (Event::Content, _) => seen.push(Seen::Content(part.to_vec())),
                (Event::Fragment, Some(Seen::Fragment(fragment))) => fragment.extend_from_slice(part),
                (Event::Fragment, _) => seen.push(Seen::Fragment(part.to_vec())),
                (Event::Padding, Some(Seen::Padding(padding))) => *padding += len,
                (Event::Padding, _) => seen.push(Seen::Padding(len)),
                (Event::DataEnd { .. }, _) if len > 0 => {
                    match seen.last_mut() {
                        Some(Seen::Padding(padding)) => *padding += len,
                        _ => seen.push(Seen::Padding(len)),
                    }
                    seen.push(Seen::Event(event));
                }
                _ => seen.push(Seen::Event(event)),
            }
        }
        assert_eq!(at, arrived, "nothing is left unread");
    }
    (seen, None)
}

fn whole(sender: Side, bytes: &[u8]) -> (Vec<Seen>, Option<Error>) {
    read(&mut FrameReader::new(sender, MAX), bytes, || usize::MAX / 2)
}

fn id(stream: u32) -> StreamId {
    StreamId::new(stream)
}

#[test]
fn what_is_written_is_read() {
    let mut out = vec![0; 70_000];
    let section: Vec<u8> = (0..40_000).map(|at| at as u8).collect();
    let settings = [Setting { id: 3, value: 100 }, Setting { id: 0xabcd, value: u32::MAX }];
    let mut writer = FrameWriter::new(&mut out);
    let written = (|| {
        writer.settings(settings.into_iter())?;
        writer.settings_ack()?;
        writer.headers(id(1), &section, true, MAX)?;
        writer.headers(id(3), b"abc", false, MAX)?;
        writer.headers(id(5), b"", false, MAX)?;
        writer.priority(id(9), [0; 5])?;
        writer.rst_stream(id(1), ErrorCode::Cancel)?;
        writer.ping(*b"12345678", false)?;
        writer.ping(*b"87654321", true)?;
        writer.window_update(id(0), 0x7fff_ffff)?;
        writer.window_update(id(3), 0)?;
        writer.priority_update(id(3), b"u=1, i")?;
        writer.go_away(id(7), ErrorCode::EnhanceYourCalm, b"too much")?;
        writer.data(id(3), 0, true)
    })();
    assert_eq!(written, Ok(()));
    let len = writer.len();
    let want = [
        Seen::Event(Event::Settings { count: 2 }),
        Seen::Event(Event::Setting(settings[0])),
        Seen::Event(Event::Setting(settings[1])),
        Seen::Event(Event::SettingsEnd),
        Seen::Event(Event::SettingsAck),
        Seen::Event(Event::Headers { stream: id(1), end_stream: true }),
        Seen::Fragment(section[..16_384].to_vec()),
        Seen::Event(Event::Continuation),
        Seen::Fragment(section[16_384..32_768].to_vec()),
        Seen::Event(Event::Continuation),
        Seen::Fragment(section[32_768..].to_vec()),
        Seen::Event(Event::HeadersEnd { stream: id(1), end_stream: true }),
        Seen::Event(Event::Headers { stream: id(3), end_stream: false }),
        Seen::Fragment(b"abc".to_vec()),
        Seen::Event(Event::HeadersEnd { stream: id(3), end_stream: false }),
        Seen::Event(Event::Headers { stream: id(5), end_stream: false }),
        Seen::Event(Event::HeadersEnd { stream: id(5), end_stream: false }),
        Seen::Event(Event::Priority),
        Seen::Event(Event::RstStream { stream: id(1), code: ErrorCode::Cancel }),
        Seen::Event(Event::Ping { ack: false, data: *b"12345678" }),
        Seen::Event(Event::Ping { ack: true, data: *b"87654321" }),
        Seen::Event(Event::WindowUpdate { stream: id(0), increment: 0x7fff_ffff }),
        Seen::Event(Event::WindowUpdate { stream: id(3), increment: 0 }),
        Seen::Event(Event::PriorityUpdate { stream: id(3), priority: Priority { urgency: 1, incremental: true } }),
        Seen::Event(Event::GoAway { last: id(7), code: ErrorCode::EnhanceYourCalm }),
        Seen::Event(Event::Data { stream: id(3), flow_length: 0, end_stream: true }),
        Seen::Event(Event::DataEnd { stream: id(3), end_stream: true }),
    ];
    let mut random = Random(3);
    for longest in [1, 2, 5, 9, 100, 70_000] {
        let mut reader = FrameReader::new(Side::Client, MAX);
        let (seen, error) = read(&mut reader, &out[..len], || random.below(longest) + 1);
        assert_eq!(error, None);
        assert_eq!(seen, want);
    }
}

#[test]
fn a_frame_is_written_whole_or_not_at_all() {
    for room in 0..17 {
        let mut out = [0xee; 17];
        let mut writer = FrameWriter::new(&mut out[..room]);
        assert_eq!((writer.ping([1; 8], false), writer.len()), (Err(NoRoom), 0));
        assert_eq!(out, [0xee; 17]);
    }
    let mut out = [0; 17];
    assert_eq!(FrameWriter::new(&mut out).ping([1; 8], false), Ok(()));
    let mut out = [0; 30];
    assert_eq!(FrameWriter::new(&mut out).settings([Setting::default(); 4].into_iter()), Err(NoRoom));
    assert_eq!(FrameWriter::new(&mut out).push_promise(id(1), id(2), &[0; 17]), Ok(()));
    assert_eq!(FrameWriter::new(&mut out).push_promise(id(1), id(2), &[0; 18]), Err(NoRoom));
}

#[test]
fn a_sealed_section_is_the_written_one() {
    for len in [0, 1, 99, 100, 101, 199, 200, 201, 1000, 1001] {
        let section: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let (mut written, mut sealed) = (vec![0; 2000], vec![0; 2000]);
        let mut writer = FrameWriter::new(&mut written);
        assert_eq!(writer.headers(id(1), &section, true, 100), Ok(()));
        let bytes = writer.len();
        assert_eq!(bytes, sealed_bytes(len, 100));
        sealed[FRAME_HEAD_BYTES..][..len].copy_from_slice(&section);
        assert_eq!(seal_headers(&mut sealed[..bytes - 1], len, id(1), true, 100), Err(NoRoom));
        assert_eq!(seal_headers(&mut sealed[..bytes], len, id(1), true, 100), Ok(bytes));
        assert_eq!(sealed, written, "{len}");
    }
}

/// An empty SETTINGS frame, which has to be the first.
const FIRST: &str = "000000 04 00 00000000";

/// Padded frames, as RFC 9113 sections 6.1 and 6.2 draw them.
#[test]
fn padding_counts_for_the_window_and_is_skipped() {
    let data = format!("{FIRST} 000008 00 09 00000001 03 61626364 000000 000004 00 08 00000001 03 000000");
    let (seen, error) = whole(Side::Client, &hex(&data));
    assert_eq!(error, None);
    assert_eq!(
        seen[2..],
        [
            Seen::Event(Event::Data { stream: id(1), flow_length: 8, end_stream: true }),
            Seen::Padding(1),
            Seen::Content(b"abcd".to_vec()),
            Seen::Padding(3),
            Seen::Event(Event::DataEnd { stream: id(1), end_stream: true }),
            Seen::Event(Event::Data { stream: id(1), flow_length: 4, end_stream: false }),
            Seen::Padding(4),
            Seen::Event(Event::DataEnd { stream: id(1), end_stream: false }),
        ]
    );
    let headers = format!("{FIRST} 00000b 01 2d 00000003 02 80000001ff 616263 0000");
    let (seen, error) = whole(Side::Client, &hex(&headers));
    assert_eq!(error, None);
    assert_eq!(
        seen[2..],
        [
            Seen::Event(Event::Headers { stream: id(3), end_stream: true }),
            Seen::Fragment(b"abc".to_vec()),
            Seen::Event(Event::HeadersEnd { stream: id(3), end_stream: true }),
        ]
    );
}

/// What frames alone can violate.
#[test]
fn rules_of_frames() {
    use ErrorCode::{FrameSizeError, ProtocolError};
    let open = "000001 01 00 00000001 82";
    for (frames, want) in [
        // Lengths (sections 4.2 and 6).
        ("004001 00 00 00000001", Some(FrameSizeError)),
        ("ffffff 00 00 00000001", Some(FrameSizeError)),
        ("004001 fa 00 00000001", Some(FrameSizeError)),
        ("000004 02 00 00000001", Some(FrameSizeError)),
        ("000003 03 00 00000001", Some(FrameSizeError)),
        ("000005 03 00 00000001", Some(FrameSizeError)),
        ("000007 06 00 00000000", Some(FrameSizeError)),
        ("000009 06 00 00000000", Some(FrameSizeError)),
        ("000000 06 00 00000000", Some(FrameSizeError)),
        ("000007 07 00 00000000", Some(FrameSizeError)),
        ("000003 08 00 00000000", Some(FrameSizeError)),
        ("000005 08 00 00000001", Some(FrameSizeError)),
        ("000001 04 01 00000000", Some(FrameSizeError)),
        ("000007 04 00 00000000", Some(FrameSizeError)),
        ("000003 10 00 00000000", Some(FrameSizeError)),
        ("000004 01 24 00000001 00000000", Some(FrameSizeError)),
        ("000000 00 08 00000001", Some(FrameSizeError)),
        ("000000 01 08 00000001", Some(FrameSizeError)),
        // Streams (section 6).
        ("000001 00 00 00000000", Some(ProtocolError)),
        ("000001 01 04 00000000", Some(ProtocolError)),
        ("000005 02 00 00000000", Some(ProtocolError)),
        ("000004 03 00 00000000", Some(ProtocolError)),
        ("000000 04 00 00000001", Some(ProtocolError)),
        ("000004 05 04 00000001", Some(ProtocolError)),
        ("000008 06 00 00000001", Some(ProtocolError)),
        ("000008 07 00 00000001", Some(ProtocolError)),
        ("000001 09 04 00000000", Some(ProtocolError)),
        ("000004 10 00 00000001", Some(ProtocolError)),
        ("000004 10 00 00000000 00000000", Some(ProtocolError)),
        ("000001 01 05 00000002 82", Some(ProtocolError)),
        // Padding (section 6.1).
        ("000001 00 08 00000001 01", Some(ProtocolError)),
        ("000005 00 08 00000001 05", Some(ProtocolError)),
        ("000005 00 08 00000001 ff", Some(ProtocolError)),
        ("000005 00 08 00000001 04 00000000", None),
        ("000008 01 2c 00000001 03", Some(ProtocolError)),
        ("000008 01 2c 00000001 02 0000000000 0000", None),
        // CONTINUATION (section 6.10).
        ("000001 09 04 00000001 82", Some(ProtocolError)),
        (&format!("{open} 000000 06 00 00000000"), Some(ProtocolError)),
        (&format!("{open} 000000 00 00 00000001"), Some(ProtocolError)),
        (&format!("{open} 000000 fa 00 00000001"), Some(ProtocolError)),
        (&format!("{open} 000000 01 04 00000001"), Some(ProtocolError)),
        (&format!("{open} 000000 09 04 00000003"), Some(ProtocolError)),
        (&format!("{open} 000000 09 01 00000001 000001 09 04 00000001 84"), None),
        (&format!("{open} 000000 09 04 00000001 000000 09 04 00000001"), Some(ProtocolError)),
        // What is ignored (sections 4.1, 5.5, 5.3.2).
        ("000003 fa ff 80000005 616263", None),
        ("000005 02 00 00000009 0000000900", None),
        ("000000 00 f6 80000001", None),
        ("000025 10 00 00000000 00000001 2020202020202020202020202020202020202020202020202020202020202020 20", None),
    ] {
        let bytes = hex(&format!("{FIRST} {frames}"));
        let (_, error) = whole(Side::Client, &bytes);
        assert_eq!(
            error.map(|error| (error.scope, error.code)),
            want.map(|code| (Scope::Connection, code)),
            "{frames}"
        );
        let (_, cut) = read(&mut FrameReader::new(Side::Client, MAX), &bytes, || 1);
        assert_eq!(error, cut, "{frames}");
    }
    for first in ["000000 04 01 00000000", "000008 06 00 00000000", "000000 fa 00 00000000", "000000 01 05 00000001"] {
        let error = whole(Side::Client, &hex(first)).1.expect("an error");
        assert_eq!(error.code, ProtocolError, "{first}");
    }
    for frame in ["000004 10 00 00000000 00000001", "000004 05 04 00000001 00000002"] {
        let error = whole(Side::Server, &hex(&format!("{FIRST} {frame}"))).1.expect("an error");
        assert_eq!(error.code, ProtocolError, "{frame}");
    }
}

/// Random frames: no panic, no byte read twice or left out, and the cuts do not matter.
#[test]
fn random_frames_in_any_cuts() {
    let mut random = Random(11);
    let mut complete = 0;
    for _ in 0..runs(100_000) {
        let mut bytes = hex(FIRST);
        for _ in 0..random.below(6) {
            let (kind, lengths): (u8, &[u32]) = match random.below(9) {
                0 => (0, &[0, 1, 2, 10]),
                1 => (1, &[0, 1, 6, 10]),
                2 => (8, &[4]),
                3 => (4, &[0, 6, 12]),
                4 => (9, &[0, 1, 5]),
                5 => (6, &[8]),
                6 => (0x10, &[4, 7, 40]),
                7 => (7, &[8, 20]),
                _ => (random.next() as u8, &[0, 4, 5, 8]),
            };
            let length = *random.one(lengths);
            let flags = if random.below(2) == 0 { 4 } else { random.next() as u8 };
            let stream = if matches!(kind, 4 | 6 | 7 | 0x10) { 0 } else { 1 };
            bytes.extend_from_slice(&length.to_be_bytes()[1..]);
            bytes.extend([kind, flags, 0, 0, 0, stream]);
            bytes.extend((0..length).map(|_| random.next() as u8 & 0x83));
        }
        if random.below(4) == 0 {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        let (mut one, mut other) = (FrameReader::new(Side::Client, MAX), FrameReader::new(Side::Client, MAX));
        let all = read(&mut one, &bytes, || usize::MAX / 2);
        let cut = read(&mut other, &bytes, || random.below(12));
        assert_eq!(all, cut, "{bytes:x?}");
        complete += usize::from(all.1.is_none());
    }
    assert!(complete > 1000, "{complete}");
}
