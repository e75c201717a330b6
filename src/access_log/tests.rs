//! Entries and their lines.

use std::io::Read;
use std::time::Duration;

use super::recorder::Recorded;
use super::*;

const WALL: Duration = Duration::from_secs(1_795_922_524);

/// An entry of an exchange with an origin.
fn draft() -> Draft {
    let mut draft = Draft::default();
    draft.clear();
    draft.numbers = Numbers {
        began: Duration::from_millis(250),
        total: Duration::from_micros(12_345),
        head: Some(Duration::ZERO),
        tls: None,
        queue: None,
        connect: Some(Duration::from_micros(1500)),
        first_byte: Some(Duration::from_millis(11)),
        own: Duration::from_nanos(87_999),
        received: 7,
        sent: 1234,
        status: 200,
        port: 40000,
        attempts: 2,
        protocol: Protocol::Http11,
        ..Numbers::default()
    };
    let texts: [(Text, &[u8]); 9] = [
        (Text::Client, b"192.0.2.1"),
        (Text::Listener, b"public"),
        (Text::Route, b"orders"),
        (Text::Method, b"GET"),
        (Text::Path, b"/a"),
        (Text::Query, b"b=c d"),
        (Text::Referer, b""),
        (Text::UserAgent, b"curl/8 (x)"),
        (Text::Traceparent, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    texts.into_iter().for_each(|(text, value)| draft.add(text, value));
    draft
}

fn line(format: &Format, draft: &mut Draft) -> String {
    let mut line = Vec::new();
    format.write(&Entry::read(draft.finish()).unwrap(), WALL, &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'));
    String::from_utf8(line).unwrap()
}

fn template(parts: &[Result<&str, &str>]) -> Format {
    let part = |part: &Result<&str, &str>| match part {
        Ok(name) => Part::Variable(Variable::parse(name).unwrap()),
        Err(text) => Part::Text((*text).into()),
    };
    Format::Template(parts.iter().map(part).collect())
}

#[test]
fn each_format_tells_what_is_known() {
    let mut draft = draft();
    draft.add_header(b"x-a", b"1 2");
    draft.add_header(b"x-b", b"");
    let parts =
        [Ok("client.ip"), Err(":"), Ok("client.port"), Err(" "), Ok("time.unix"), Err(" "), Ok("duration.total")];
    let more = [Err(" "), Ok("header.X-A"), Err(" "), Ok("header.x-b"), Err(" "), Ok("header.User-Agent")];
    let cases = [
        (
            Format::Json,
            "{\"time\":\"2026-11-29T03:22:04.250Z\",\"client\":\"192.0.2.1\",\"client_port\":40000,\"listener\":\"public\",\
             \"route\":\"orders\",\"attempts\":2,\"method\":\"GET\",\"path\":\"/a\",\"query\":\"b=c d\",\
             \"protocol\":\"HTTP/1.1\",\"status\":200,\"received_bytes\":7,\"sent_bytes\":1234,\"head_ms\":0.000,\
             \"connect_ms\":1.500,\"first_byte_ms\":11.000,\"total_ms\":12.345,\"own_ms\":0.087,\
             \"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"user_agent\":\"curl/8 (x)\",\"headers\":{\"x-a\":\"1 2\"}}",
        ),
        (
            Format::Logfmt,
            "time=2026-11-29T03:22:04.250Z client=192.0.2.1 client_port=40000 listener=public route=orders attempts=2 \
             method=GET path=/a query=\"b=c d\" protocol=HTTP/1.1 status=200 received_bytes=7 sent_bytes=1234 head_ms=0.000 \
             connect_ms=1.500 first_byte_ms=11.000 total_ms=12.345 own_ms=0.087 \
             trace_id=0af7651916cd43dd8448eb211c80319c user_agent=\"curl/8 (x)\" header.x-a=\"1 2\"",
        ),
        (
            Format::Combined,
            "192.0.2.1 - - [29/Nov/2026:03:22:04 +0000] \"GET /a?b=c d HTTP/1.1\" 200 1234 \"-\" \"curl/8 (x)\"",
        ),
        (template(&[&parts[..], &more].concat()), "192.0.2.1:40000 1795922524.250 12.345 1 2 - curl/8 (x)"),
    ];
    for (format, expected) in cases {
        assert_eq!(line(&format, &mut draft), expected);
    }
}

#[test]
fn an_exchange_without_a_request_has_a_line_too() {
    let mut draft = Draft::default();
    draft.clear();
    draft.numbers.status = 400;
    draft.add(Text::Reason, b"bad_version");
    assert_eq!(
        line(&Format::Json, &mut draft),
        "{\"time\":\"2026-11-29T03:22:04.000Z\",\"status\":400,\"reason\":\"bad_version\",\"received_bytes\":0,\
         \"sent_bytes\":0,\"total_ms\":0.000,\"own_ms\":0.000}"
    );
    assert_eq!(line(&Format::Combined, &mut draft), "- - - [29/Nov/2026:03:22:04 +0000] \"-\" 400 0 \"-\" \"-\"");
    draft.numbers.status = 0;
    assert!(line(&Format::Combined, &mut draft).contains(" 000 0 "));
}

/// Cases: a value; within JSON, within quotes of logfmt, in combined logs.
#[test]
fn no_value_ends_itself_or_the_line() {
    let cases: [(&[u8], &str, &str, &str); 8] = [
        (b"a b", "\"a b\"", "\"a b\"", "a b"),
        (b"a\"b\\c", r#""a\"b\\c""#, r#""a\"b\\c""#, r"a\x22b\x5cc"),
        (b"a\r\n\tb\0", r#""a\r\n\tb\u0000""#, r#""a\r\n\tb\u0000""#, r"a\x0d\x0a\x09b\x00"),
        (b"\x1b[2J\x7f", r#""\u001b[2J\u007f""#, r#""\u001b[2J\u007f""#, r"\x1b[2J\x7f"),
        (
            "é日\u{202e}\u{2028}".as_bytes(),
            r#""é日\u202e\u2028""#,
            r#""é日\u202e\u2028""#,
            r"\xc3\xa9\xe6\x97\xa5\xe2\x80\xae\xe2\x80\xa8",
        ),
        (b"a\xff\xc3", r#""a\\xff\\xc3""#, r#""a\xff\xc3""#, r"a\xff\xc3"),
        // The beginning of a longer character, an overlong one, a surrogate.
        (
            b"\xf0\x9f\x98 \xc0\xaf\xed\xa0\x80",
            r#""\\xf0\\x9f\\x98 \\xc0\\xaf\\xed\\xa0\\x80""#,
            r#""\xf0\x9f\x98 \xc0\xaf\xed\xa0\x80""#,
            r"\xf0\x9f\x98 \xc0\xaf\xed\xa0\x80",
        ),
        (b"a=b", "\"a=b\"", "\"a=b\"", "a=b"),
    ];
    for (value, json, quoted, combined) in cases {
        let mut draft = Draft::default();
        draft.clear();
        draft.add(Text::UserAgent, value);
        let found = line(&Format::Json, &mut draft);
        assert!(found.contains(&format!("\"user_agent\":{json}}}")), "{found}");
        serde_json::from_str::<serde_json::Value>(&found).unwrap();
        let found = line(&Format::Logfmt, &mut draft);
        assert!(found.ends_with(&format!(" user_agent={quoted}")), "{found}");
        let found = line(&Format::Combined, &mut draft);
        assert!(found.ends_with(&format!(" \"-\" \"{combined}\"")), "{found}");
        assert_eq!(line(&template(&[Ok("header.user-agent")]), &mut draft), combined);
    }
}

#[test]
fn what_is_too_long_is_cut_and_marked() {
    let mut draft = Draft::default();
    draft.clear();
    draft.add(Text::Path, &[b'a'; 1025]);
    draft.add(Text::Query, &[b'b'; 1024]);
    let (path, query) = ("a".repeat(1024), "b".repeat(1024));
    assert!(line(&Format::Json, &mut draft).contains(&format!("\"path\":\"{path}…\",\"query\":\"{query}\"")));
    assert!(line(&template(&[Ok("request.path")]), &mut draft).ends_with("aaa..."));
    // The longest entry has all it can have, and is far smaller than a ring.
    for tag in 0..=255 {
        if let Some(text) = Text::of(tag).filter(|text| !matches!(text, Text::HeaderName | Text::HeaderValue)) {
            draft.add(text, &[b'x'; 4096]);
        }
    }
    (0..16).for_each(|_| draft.add_header(&[b'n'; 4096], &[b'v'; 4096]));
    assert!(draft.finish().len() < 32 * 1024);
    assert_eq!(Entry::read(draft.finish()).unwrap().headers().count(), 16);
}

#[test]
fn queries_are_told_as_far_as_the_rules_say() {
    let long: String = "a=b&".repeat(1000);
    for (rule, query, expected) in [
        (QueryRule::Full, "a=b&c", Some("a=b&c")),
        (QueryRule::Off, "a=b&c", None),
        (QueryRule::Redacted, "token=s3cret&&s3cret&c=&=s3cret&d=s3=cret", Some("token=*&&*&c=*&=*&d=*")),
        (QueryRule::Redacted, "", None),
        (QueryRule::Redacted, &long, Some("a=*&a=*")),
    ] {
        let mut draft = Draft::default();
        draft.clear();
        draft.add_query(rule, query.as_bytes());
        draft.add(Text::Path, b"/");
        let entry = Entry::read(draft.finish()).unwrap();
        let found = std::str::from_utf8(entry.text(Text::Query).bytes).unwrap();
        assert!(found.starts_with(expected.unwrap_or_default()) && found.is_empty() == expected.is_none(), "{found}");
        assert_eq!(entry.text(Text::Query).cut, query.len() > 1024);
        assert!(entry.text(Text::Query).bytes.len() <= 1024 && entry.text(Text::Path).bytes == b"/");
    }
}

#[test]
fn only_a_valid_traceparent_names_a_trace() {
    let id = "0af7651916cd43dd8448eb211c80319c";
    for (field, known) in [
        (format!("00-{id}-b7ad6b7169203331-01"), true),
        (format!("cc-{id}-b7ad6b7169203331-01-more"), true),
        (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
        (format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()), false),
        (format!("0x-{id}-b7ad6b7169203331-01"), false),
        (format!("00-{id}"), false),
        (format!("00 {id}-b7ad6b7169203331-01"), false),
    ] {
        let mut draft = Draft::default();
        draft.clear();
        draft.add(Text::Traceparent, field.as_bytes());
        let line = line(&template(&[Ok("request.trace_id")]), &mut draft);
        assert_eq!(line, if known { id } else { "-" }, "{field}");
    }
}

#[test]
fn rules_say_which_exchanges_are_logged() {
    let rules = |sample, slow, statuses: &[(u16, u16)]| {
        let statuses = statuses.iter().map(|(first, last)| *first..=*last).collect();
        Rules { sample, slow, statuses, ..Rules::default() }
    };
    let second = Some(Duration::from_secs(1));
    // Cases: rules; status, milliseconds, whether it was cut; random bits; whether it is logged.
    for (rules, status, milliseconds, cut, random, logged) in [
        (rules(1.0, None, &[]), 200, 5, false, u32::MAX, true),
        (rules(0.0, None, &[]), 200, 5, false, 0, false),
        (rules(0.0, None, &[]), 499, 5, false, 0, false),
        (rules(0.0, None, &[]), 500, 5, false, u32::MAX, true),
        (rules(0.0, None, &[]), 0, 5, true, u32::MAX, true),
        (rules(0.0, second, &[]), 200, 999, false, 0, false),
        (rules(0.0, second, &[]), 200, 1000, false, 0, true),
        (rules(0.5, None, &[]), 200, 5, false, u32::MAX / 2 - 1, true),
        (rules(0.5, None, &[]), 200, 5, false, u32::MAX / 2 + 1, false),
        (rules(1.0, None, &[(400, 499), (503, 503)]), 404, 5, false, 0, true),
        (rules(1.0, None, &[(400, 499), (503, 503)]), 503, 5, false, 0, true),
        (rules(1.0, None, &[(400, 499), (503, 503)]), 502, 5, false, 0, false),
        (rules(1.0, second, &[(400, 499)]), 200, 1000, false, 0, true),
    ] {
        let mut recorder = Recorder::default();
        recorder.apply(Some(&rules), None);
        let mut draft = recorder.draft();
        (draft.numbers.status, draft.numbers.cut) = (status, cut);
        draft.numbers.total = Duration::from_millis(milliseconds);
        let expected = if logged { Recorded::Queued } else { Recorded::LeftOut };
        assert_eq!(recorder.record(draft, random).log, expected, "{rules:?} {status} {milliseconds} {cut} {random}");
    }
    // Nothing is logged any more.
    let mut recorder = Recorder::default();
    let draft = recorder.draft();
    assert_eq!(recorder.record(draft, 0).log, Recorded::LeftOut);
}

#[test]
fn a_full_ring_drops_and_a_file_holds_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let mut recorder = Recorder::default();
    let rules = Rules { sample: 1.0, ..Rules::default() };
    recorder.apply(Some(&rules), None);
    let log = AccessLog::start(vec![recorder.take_reader().unwrap()]).unwrap();
    let mut queued = 0;
    loop {
        let mut draft = recorder.draft();
        draft.add(Text::Path, format!("/{queued}").as_bytes());
        match recorder.record(draft, 0).log {
            Recorded::Queued => queued += 1,
            other => break assert_eq!(other, Recorded::Dropped),
        }
    }
    let format = template(&[Ok("request.path")]);
    let spec = AccessLogSpec { target: LogTarget::File(path.clone()), format, rules };
    let sink = spec.open().unwrap();
    log.switch(Some((spec.clone(), sink)));
    log.flush();
    let expected: String = (0..queued).map(|number| format!("/{number}\n")).collect();
    assert!(std::fs::read_to_string(&path).unwrap() == expected);
    // There is room again; what is renamed is written on until it is opened again.
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    for round in 0..2 {
        let mut draft = recorder.draft();
        draft.add(Text::Path, b"/more");
        assert_eq!(recorder.record(draft, 0).log, Recorded::Queued);
        log.flush();
        assert_eq!(path.exists(), round == 1);
        assert!(log.reopen().blocking_recv().unwrap().is_ok());
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "/more\n");
    assert_eq!(log.lost(), 0);
}

/// A full disk costs the lines that it does not take, and no line is joined to half of another one.
#[test]
fn lines_that_cannot_be_written_are_counted() {
    let mut recorder = Recorder::default();
    let rules = Rules { sample: 1.0, ..Rules::default() };
    recorder.apply(Some(&rules), None);
    let log = AccessLog::start(vec![recorder.take_reader().unwrap()]).unwrap();
    let spec = AccessLogSpec { target: LogTarget::File("/dev/full".into()), format: Format::Json, rules };
    let sink = spec.open().unwrap();
    log.switch(Some((spec, sink)));
    for _ in 0..100 {
        let draft = recorder.draft();
        assert_eq!(recorder.record(draft, 0).log, Recorded::Queued);
    }
    log.flush();
    assert_eq!(log.lost(), 100);
}

/// One that is started again is found again, and a message that is too long is the only one that is lost.
#[test]
fn a_daemon_of_syslog_may_start_again() {
    use std::os::unix::net::UnixDatagram;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let before = UnixDatagram::bind(&path).unwrap();
    let mut recorder = Recorder::default();
    let rules = Rules { sample: 1.0, ..Rules::default() };
    recorder.apply(Some(&rules), None);
    let log = AccessLog::start(vec![recorder.take_reader().unwrap()]).unwrap();
    let path_alone = template(&[Ok("request.path")]);
    // Longer than any datagram.
    let long = Format::Template(vec![Part::Text("x".repeat(1024 * 1024).into())]);
    let specs = [path_alone.clone(), long, path_alone].map(|format| {
        let target = LogTarget::SyslogSocket(path.clone());
        AccessLogSpec { target, format, rules: rules.clone() }
    });
    let mut send = |number: usize| {
        let mut draft = recorder.draft();
        draft.add(Text::Path, format!("/{number}").as_bytes());
        assert_eq!(recorder.record(draft, 0).log, Recorded::Queued);
        log.flush();
    };
    let switch = |spec: &AccessLogSpec| {
        log.switch(Some((spec.clone(), spec.open().unwrap())));
        // What is recorded before that is done is still written as before.
        log.flush();
    };
    switch(&specs[0]);
    send(0);
    switch(&specs[1]);
    send(1);
    assert_eq!(log.lost(), 1);
    let mut message = [0; 200];
    let length = before.recv(&mut message).unwrap();
    assert!(message[..length].ends_with(b": /0"));
    switch(&specs[2]);
    drop(before);
    std::fs::remove_file(&path).unwrap();
    let after = UnixDatagram::bind(&path).unwrap();
    after.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    send(2);
    let length = after.recv(&mut message).unwrap();
    assert!(message[..length].ends_with(b": /2"));
    assert_eq!(log.lost(), 1);
}

#[test]
fn a_daemon_of_syslog_gets_a_message_for_each_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let local = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let remote = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    remote.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    local.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = remote.local_addr().unwrap();
    for target in [LogTarget::SyslogSocket(path), LogTarget::SyslogAddress(address)] {
        let mut recorder = Recorder::default();
        let rules = Rules { sample: 1.0, ..Rules::default() };
        recorder.apply(Some(&rules), None);
        let log = AccessLog::start(vec![recorder.take_reader().unwrap()]).unwrap();
        let spec = AccessLogSpec { target: target.clone(), format: template(&[Ok("request.path")]), rules };
        let sink = spec.open().unwrap();
        log.switch(Some((spec, sink)));
        for path in ["/a", "/b"] {
            let mut draft = recorder.draft();
            draft.add(Text::Path, path.as_bytes());
            assert_eq!(recorder.record(draft, 0).log, Recorded::Queued);
        }
        log.flush();
        for path in ["/a", "/b"] {
            let mut message = [0; 200];
            let is_local = matches!(target, LogTarget::SyslogSocket(_));
            let length = if is_local { local.recv(&mut message) } else { remote.recv(&mut message) }.unwrap();
            let message = std::str::from_utf8(&message[..length]).unwrap();
            let pid = std::process::id();
            if is_local {
                assert!(
                    message.starts_with("<190>") && message.ends_with(&format!(" cairn[{pid}]: {path}")),
                    "{message}"
                );
                assert_eq!(message.as_bytes()[8], b' ', "a month of three letters: {message}");
            } else {
                assert!(
                    message.starts_with("<190>1 2") && message.ends_with(&format!(" cairn {pid} - - {path}")),
                    "{message}"
                );
            }
        }
    }
}

/// A reader that does not read holds nobody up, and gets whole lines when it reads again.
#[test]
fn a_blocked_pipe_holds_up_neither_orders_nor_workers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let mut recorder = Recorder::default();
    let rules = Rules { sample: 1.0, ..Rules::default() };
    recorder.apply(Some(&rules), None);
    let log = AccessLog::start(vec![recorder.take_reader().unwrap()]).unwrap();
    let spec = AccessLogSpec { target: LogTarget::File(path.clone()), format: template(&[Ok("request.path")]), rules };
    assert!(spec.open().is_err(), "a FIFO that nobody reads");
    let opened = std::thread::spawn(move || std::fs::File::open(path).unwrap());
    let sink = loop {
        if let Ok(sink) = spec.open() {
            break sink;
        }
        std::thread::yield_now();
    };
    let mut reader = opened.join().unwrap();
    log.switch(Some((spec.clone(), sink)));
    let mut queued = 0_usize;
    // Until the pipe, the batch and the ring are full: dropped twice in a row, after the thread had time to take what it can.
    let mut dropped = 0;
    while dropped < 2 {
        let mut draft = recorder.draft();
        draft.add(Text::Path, format!("/{queued}/{}", "x".repeat(200)).as_bytes());
        match recorder.record(draft, 0).log {
            Recorded::Queued => queued += 1,
            _ => {
                dropped += 1;
                // It is answered though the pipe is full.
                assert!(log.reopen().blocking_recv().unwrap().unwrap().contains("nothing to reopen"));
            }
        }
    }
    let mut text = vec![0; 64 * 1024];
    let mut read = String::new();
    while read.lines().count() < queued || !read.ends_with('\n') {
        let count = reader.read(&mut text).unwrap();
        read.push_str(std::str::from_utf8(&text[..count]).unwrap());
    }
    for (number, line) in read.lines().enumerate() {
        assert_eq!(line, format!("/{number}/{}", "x".repeat(200)));
    }
    assert_eq!(read.lines().count(), queued);
    assert_eq!(log.lost(), 0);
}
