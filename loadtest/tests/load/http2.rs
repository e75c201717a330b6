//! HTTP/2: the origin, as curl speaks to it, and the generator, against the origin and against scripts of frames.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use rcgen::generate_simple_self_signed;
use serde_json::Value;
use sha2::Digest;

use crate::harness::{Origin, Wire, at_least, command, read_report, report, scripted};

/// What curl gets over HTTP/2: the head, trailers included, and the body.
fn curl(origin: &Origin, path: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "20"]).args(arguments);
    command.arg("-D").arg(&head).arg("-o").arg(&body).arg(format!("{}{path}", origin.url));
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{path} {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    (std::fs::read_to_string(head).unwrap(), std::fs::read(body).unwrap_or_default())
}

/// An origin with a certificate of its own.
fn over_tls(folder: &Path, arguments: &[&str]) -> Origin {
    let made = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let file = folder.join("both.pem");
    std::fs::write(&file, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    let mut origin = Origin::start(&[&["--tls", file.to_str().unwrap()], arguments].concat());
    origin.url = origin.url.replace("http://", "https://");
    origin
}

const PRIOR: &str = "--http2-prior-knowledge";

#[test]
fn answers_are_the_same_over_either_version() {
    let origin = Origin::start(&["--size", "5", "--header", "X-Origin: seven"]);
    for (path, status, length) in [
        ("/", 200, 5),
        ("/size/0", 200, 0),
        ("/size/1000000", 200, 1_000_000),
        ("/status/404", 404, 5),
        ("/status/204", 204, 0),
        ("/delay/20/drip/1/size/3000", 200, 3000),
    ] {
        for (version, option) in [("2", PRIOR), ("1.1", "--http1.1")] {
            let (head, body) = curl(&origin, path, &[option]);
            assert!(head.starts_with(&format!("HTTP/{version} {status} ")), "{path}: {head}");
            assert!(head.to_ascii_lowercase().contains("\r\nx-origin: seven\r\n"), "{path}: {head}");
            assert_eq!(body.len(), length, "{path} over {version}");
        }
    }
    let (head, _) = curl(&origin, "/size/7", &[PRIOR, "--head"]);
    assert!(head.contains("\r\ncontent-length: 7\r\n"), "{head}");
    // "abc".
    let receipt = "3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    assert_eq!(curl(&origin, "/receipt", &[PRIOR, "-d", "abc"]).1, receipt.as_bytes());
    let chunked = Origin::start(&["--size", "100000", "--chunked"]);
    let (head, body) = curl(&chunked, "/", &[PRIOR]);
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(body.len(), 100_000);
}

#[test]
fn tls_agrees_on_the_version() {
    let folder = tempfile::tempdir().unwrap();
    let origin = over_tls(folder.path(), &["--size", "40000"]);
    for (option, line) in [("--http2", "HTTP/2 200 "), ("--http1.1", "HTTP/1.1 200 ")] {
        let (head, body) = curl(&origin, "/", &[option]);
        assert!(head.starts_with(line) && body.len() == 40_000, "{option}: {head}");
    }
    // Many streams share a connection.
    let many = [
        "--http2",
        "--insecure",
        "--silent",
        "--parallel",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{size_download}\n",
    ];
    let output = Command::new("curl").args(many).arg(format!("{}/size/20000?[1-50]", origin.url)).output().unwrap();
    let sizes = String::from_utf8(output.stdout).unwrap();
    assert_eq!(sizes.lines().filter(|size| *size == "2 20000").count(), 50, "{sizes}");
    let (requests, connections) = origin.end();
    assert_eq!(requests, 52);
    assert!(connections < 52, "{connections} connections");
}

#[test]
fn messages_of_grpc_are_echoed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages");
    let origin = Origin::start(&[]);
    let type_of = |kind: &str| format!("content-type: {kind}");
    // No message, an empty one, one of five bytes, and two of which one needs several frames.
    let message = |length: usize| [&[0][..], &(length as u32).to_be_bytes(), &vec![b'm'; length][..]].concat();
    for messages in [vec![], message(0), message(5), [message(70_000), message(1)].concat()] {
        std::fs::write(&file, &messages).unwrap();
        for (kind, status) in
            [("application/grpc", Some("0")), ("application/grpc+proto", Some("0")), ("text/plain", None)]
        {
            let data = format!("@{}", file.display());
            let arguments = [PRIOR, "--data-binary", &data, "-H", &type_of(kind), "-H", "te: trailers"];
            let (head, body) = curl(&origin, "/echo.Echo/Unary", &arguments);
            let found = head.lines().find_map(|line| line.strip_prefix("grpc-status: "));
            assert_eq!(found, status, "{kind}: {head}");
            assert_eq!(body == messages && head.contains("content-type: application/grpc"), status.is_some(), "{head}");
        }
    }
}

#[test]
fn counts_of_both_sides_agree() {
    for arguments in [
        "-n 3000 -c 3 --streams 8 --threads 2",
        "-n 500 -c 5 --threads 1",
        "-n 20 -c 2 --streams 100 --threads 1",
        "-d 300ms --rate 1000 -c 2 --streams 4 --threads 2 --poisson",
    ] {
        let folder = tempfile::tempdir().unwrap();
        for origin in [Origin::start(&[]), over_tls(folder.path(), &[])] {
            let tls = if origin.url.starts_with("https") { " --insecure" } else { "" };
            let report = report(&origin.url, &format!("--http2 {arguments}{tls}"));
            let answered = report["answered"].as_u64().unwrap();
            assert!(answered > 0 && report["sent"] == answered, "{report}");
            assert_eq!((&report["stream_resets"], &report["goaways"]), (&0.into(), &0.into()));
            let connections = report["connections"].as_u64().unwrap();
            let (requests, accepted) = origin.end();
            // The probe is a connection of its own.
            assert!(requests == answered && accepted <= connections + 1, "{arguments}: {requests} on {accepted}");
        }
    }
}

#[test]
fn bodies_arrive_whole_in_both_directions() {
    let size = 300_000;
    let hash = |text: &str| {
        let digest = sha2::Sha256::digest(text);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let receipt = format!("{size} {}\n", hash(&"x".repeat(size)));
    let folder = tempfile::tempdir().unwrap();
    for (origin, tls) in [(Origin::start(&[]), ""), (over_tls(folder.path(), &[]), " --insecure")] {
        for (path, more, body) in [
            (format!("/size/{size}"), String::new(), "x".repeat(size)),
            (format!("/size/{size}/status/404"), " --expect-status 404".into(), "x".repeat(size)),
            ("/receipt".into(), format!(" --body-size {size}"), receipt.clone()),
            ("/drip/1/size/3000".into(), String::new(), "x".repeat(3000)),
        ] {
            let load = format!("--http2 --streams 4 -n 8 -c 2 --threads 1 --expect-sha256 {}{more}{tls}", hash(&body));
            let report = report(&format!("{}{path}", origin.url), &load);
            assert_eq!(report["answered"], 8, "{path}: {report}");
        }
    }
}

#[test]
fn a_head_may_be_longer_than_a_buffer() {
    let origin = Origin::start(&[]);
    let field = format!("X-Long: {}", "l".repeat(20_000));
    let load = ["run", &origin.url, "--json", "--http2", "--streams", "2", "-n", "20", "-c", "1", "-H", &field];
    assert_eq!(read_report(&command(&load).output().unwrap())["answered"], 20);
}

#[test]
fn an_error_of_the_connection_is_told_and_the_origin_goes_on() {
    let origin = Origin::start(&["--threads", "1"]);
    let mut stream = TcpStream::connect(origin.url.strip_prefix("http://").unwrap()).unwrap();
    // DATA on stream 0 behind the preface and SETTINGS.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut rest = &answer[..];
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, more @ ..] = rest {
        kinds.push(*kind);
        rest = &more[u32::from_be_bytes([0, *a, *b, *c]) as usize..];
    }
    assert_eq!(kinds.last(), Some(&GOAWAY), "{kinds:?}");
    assert_eq!(report(&origin.url, "--http2 -n 10 -c 1 --threads 1")["answered"], 10);
}

#[test]
fn calls_of_grpc_are_judged_by_their_status() {
    let origin = Origin::start(&[]);
    let url = format!("{}/echo.Echo/Unary", origin.url);
    let good = report(&url, "--http2 --streams 8 --grpc -b hello -n 400 -c 2 --expect-length 10 --threads 1");
    assert_eq!((&good["answered"], origin.end().0), (&400.into(), 400), "{good}");
    // 200, and `grpc-status: 12` in the head, as a literal without indexing.
    let failing = scripted(|mut wire, _| {
        let mut script = Script::begin(&mut wire);
        script.answer(1, b"\x88\x00\x0bgrpc-status\x0212");
        script.read_all();
        true
    });
    let bad = report(&failing, "--http2 --grpc -n 1 -c 1 --threads 1");
    assert_eq!((&bad["answered"], &bad["errors"]["status"]), (&0.into(), &1.into()), "{bad}");
}

/// A server's side of a connection, frame by frame.
struct Script<'a>(&'a mut Wire);

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

impl<'a> Script<'a> {
    /// Reads the preface and sends SETTINGS.
    fn begin(wire: &'a mut Wire) -> Self {
        wire.0.read_exact(&mut [0; 24]).unwrap();
        let mut script = Self(wire);
        script.send(4, 0, 0, b"");
        script
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.send(&[&head, payload].concat());
    }

    /// Sends a head that ends the stream.
    fn answer(&mut self, stream: u32, section: &[u8]) {
        self.send(HEADERS, 5, stream, section);
    }

    /// The kind, the stream and the payload of the next frame; None: there is none.
    fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.0.read_exact(&mut payload).ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Waits for a frame.
    fn await_frame(&mut self, kind: u8, stream: u32) -> Vec<u8> {
        loop {
            let (found, at, payload) = self.next().expect("more frames");
            if (found, at) == (kind, stream) {
                return payload;
            }
        }
    }

    fn read_all(&mut self) {
        while self.next().is_some() {}
    }
}

#[test]
fn resets_and_goaways_are_counted_and_what_was_not_processed_is_sent_again() {
    let url = scripted(|mut wire, number| {
        let mut script = Script::begin(&mut wire);
        match number {
            1 => {
                script.await_frame(HEADERS, 7);
                script.answer(1, b"\x88");
                // INTERNAL_ERROR; the last stream that is processed is 3, and nothing is wrong.
                script.send(RST_STREAM, 0, 3, &2_u32.to_be_bytes());
                script.send(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]);
            }
            _ => {
                script.await_frame(HEADERS, 3);
                [1, 3].iter().for_each(|stream| script.answer(*stream, b"\x88"));
            }
        }
        script.read_all();
        true
    });
    let report = report(&url, "--http2 --streams 4 -n 4 -c 1 --threads 1");
    assert_eq!((&report["answered"], &report["errors"]["reset"]), (&3.into(), &1.into()), "{report}");
    assert_eq!((&report["stream_resets"], &report["goaways"]), (&1.into(), &1.into()), "{report}");
}

#[test]
fn a_stream_without_an_answer_is_given_up_alone() {
    let (told, codes) = mpsc::channel();
    let url = scripted(move |mut wire, _| {
        let mut script = Script::begin(&mut wire);
        script.await_frame(HEADERS, 3);
        script.answer(3, b"\x88");
        told.send(script.await_frame(RST_STREAM, 1)).unwrap();
        script.answer(5, b"\x88");
        script.read_all();
        true
    });
    // Requests after 0, 250 and 500 ms: the first is given up after 600, while the third waits.
    let report = report(&url, "--http2 --streams 2 --rate 4 -n 3 -c 1 --threads 1 --timeout 600ms");
    assert_eq!((&report["answered"], &report["errors"]["timeout"]), (&2.into(), &1.into()), "{report}");
    // CANCEL.
    assert_eq!(codes.recv().unwrap(), 8_u32.to_be_bytes());
}

#[test]
fn what_speaks_no_http2_is_named() {
    let origin = Origin::start(&[]);
    let plain = scripted(|mut wire, _| {
        wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        true
    });
    for (arguments, code, says) in [
        (format!("run {plain} --http2 -n 3 -c 1"), 1, "no request was answered: 3 (protocol"),
        (format!("run {} --http2 --close", origin.url), 2, "--close"),
        (format!("run {} --http2 --pipeline 2", origin.url), 2, "--pipeline"),
        (format!("run {} --streams 2", origin.url), 2, "--http2"),
        (format!("run {} --grpc", origin.url), 2, "--http2"),
        (format!("run {} --http2 --grpc -X GET", origin.url), 2, "--method"),
    ] {
        let output = command(&arguments.split(' ').collect::<Vec<_>>()).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {complaint}");
        assert!(complaint.contains(says), "{arguments}: {complaint}");
    }
}

#[test]
fn the_report_says_that_it_was_http2() {
    let origin = Origin::start(&[]);
    let text = command(&["run", &origin.url, "--http2", "--streams", "3", "-c", "2", "-n", "50"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(", 2 connections of HTTP/2, 3 streams each, "), "{text}");
    assert!(text.contains("\nstreams     0 reset by the server, 0 GOAWAY\n"), "{text}");
    let load = ["run", &origin.url, "--json", "--http2", "--streams", "3", "-n", "60", "-c", "1", "--threads", "1"];
    let report: Value = read_report(&command(&load).output().unwrap());
    assert_eq!((&report["http2"], &report["pipeline"], at_least(&report, 0.0)), (&true.into(), &3.into(), 60));
}
