//! `cairn top` of a real process: in a terminal, and as plain tables. Not here: what is on the screen (`src/cli/top/tests.rs`).

use std::io::{Read, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use crate::harness::{Origin, PATIENCE, Proxy, Setup, closed};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy that has answered some requests, of which one has failed.
fn busy() -> (Origin, socket2::Socket, Proxy) {
    let (origin, (socket, nobody)) = (Origin::answering(OK), closed());
    let more = format!(
        "[[route]]\nname = \"broken\"\npath = \"/broken\"\ncluster = \"nobody\"\n[[cluster]]\nname = \"nobody\"\nendpoints = [\"{nobody}\"]\n"
    );
    let proxy = Setup::to(&[&origin.address]).route("name = \"orders\"").more(&more).managed().start();
    let mut client = proxy.client();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.message().unwrap().status(), 200);
    }
    assert_eq!(proxy.ask("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").status(), 502);
    (origin, socket, proxy)
}

/// What a program draws.
struct Drawn {
    pieces: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Drawn {
    fn by(mut output: ChildStdout) -> Self {
        let (sender, pieces) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Nobody to tell when the test is over.
            while let Ok(count @ 1..) = output.read(&mut buffer)
                && sender.send(buffer[..count].to_vec()).is_ok()
            {}
        });
        Self { pieces, seen: Vec::new() }
    }

    /// Waits for a word, which is behind the one before.
    fn until(&mut self, word: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = memchr::memmem::find(&self.seen, word.as_bytes()) {
                self.seen.drain(..at + word.len());
                return;
            }
            // It draws all the time.
            let piece = self.pieces.recv_timeout(end.saturating_duration_since(Instant::now()));
            let piece = piece.unwrap_or_else(|_| panic!("no {word:?}: {}", String::from_utf8_lossy(&self.seen)));
            self.seen.extend(piece);
        }
    }
}

#[test]
fn a_terminal_shows_it_until_a_key_ends_it() {
    let (_origin, _socket, proxy) = busy();
    let arguments = proxy.asking(&["top", "--interval", "100ms"]);
    let words: Vec<_> = arguments.get_args().map(|word| word.to_str().unwrap()).collect();
    let command = format!("stty rows 30 cols 120; exec {} {}", env!("CARGO_BIN_EXE_cairn"), words.join(" "));
    // A terminal of its own, whose keys and screen are pipes here.
    let mut child = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = Drawn::by(child.stdout.take().unwrap());
    screen.until("orders");
    keys.write_all(b"\r").unwrap();
    // Cells that have not changed, blanks among them, are not drawn again.
    screen.until("taken");
    keys.write_all(b"q").unwrap();
    // The screen is given back as it was.
    screen.until("\x1b[?1049l");
    assert!(child.wait().unwrap().success());
}

#[test]
fn without_a_terminal_it_prints_tables_once() {
    let (origin, _socket, proxy) = busy();
    let output = proxy.verb(&["top", "--interval", "100ms"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "\nRoutes\nROUTE ",
        "\norders ",
        "\nEndpoints\n",
        &origin.address,
        "\nconnect_failed ",
        "\nSlow and failed\nTIME ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = proxy.verb(&["top", "--json"]).stdout;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).unwrap()["total"]["requests"], 21);
    for wrong in ["99ms", "61s", "soon"] {
        assert_eq!(proxy.verb(&["top", "--interval", wrong]).status.code(), Some(2), "{wrong}");
    }
}
