//! What the tests share: the generator and the origin as processes, and scripted origins. Not here: tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-load"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end and returns the report, whatever the answers were.
pub(crate) fn report(url: &str, arguments: &str) -> Value {
    let mut all = vec!["run", url, "--json", "--fail-below", "0"];
    all.extend(arguments.split(' '));
    read_report(&command(&all).output().unwrap())
}

pub(crate) fn read_report(output: &Output) -> Value {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{:?}: {complaint}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap();
    let errors: u64 = report["errors"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(count("sent"), count("answered") + errors + count("unanswered"), "{report}");
    assert_eq!(at_least(&report, 0.0), count("answered"), "{report}");
    report
}

/// Answered requests whose latency is in a bucket that reaches this.
pub(crate) fn at_least(report: &Value, ms: f64) -> u64 {
    let buckets = report["latency_us"]["buckets"].as_array().unwrap().iter();
    let long = buckets.filter(|bucket| bucket[0].as_f64().unwrap() >= ms * 1000.0);
    long.map(|bucket| bucket[1].as_u64().unwrap()).sum()
}

/// `cairn-load origin`; killed when dropped.
pub(crate) struct Origin {
    child: Child,
    pub(crate) url: String,
}

impl Origin {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(&[&["origin", "--listen", "127.0.0.1:0"], arguments].concat()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("cairn-load: origin on ").expect("its address");
        let url = format!("http://{address}");
        Self { child, url }
    }

    /// Ends it and returns how many requests it has answered on how many connections.
    pub(crate) fn end(mut self) -> (u64, u64) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        let numbers: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[1])
    }
}

/// `cairn-load floor` before an origin; killed when dropped.
pub(crate) struct Floor {
    child: Child,
    pub(crate) url: String,
}

impl Floor {
    /// One before what listens at this URL.
    pub(crate) fn before(url: &str) -> Self {
        let to = url.strip_prefix("http://").unwrap();
        let mut child =
            command(&["floor", "--listen", "127.0.0.1:0", "--origin", to, "--threads", "1"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("cairn-load: floor on ").expect("its address");
        let url = format!("http://{address}");
        Self { child, url }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves connections one after the other by script, numbered from 0: the first is the generator's probe. Returns the URL.
pub(crate) fn scripted(mut serve: impl FnMut(Wire, usize) -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            if number > 0 && !serve(Wire(BufReader::new(stream)), number) {
                return;
            }
            number += 1;
        }
    });
    url
}

/// A script's side of a connection.
pub(crate) struct Wire(pub(crate) BufReader<TcpStream>);

impl Wire {
    /// Reads a request without a body; false at the end.
    pub(crate) fn request(&mut self) -> bool {
        let mut line = String::new();
        while self.0.read_line(&mut line).is_ok_and(|count| count > 0) {
            if line.ends_with("\r\n\r\n") {
                return true;
            }
        }
        false
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The generator may have given up.
        let _ = self.0.get_mut().write_all(bytes);
    }
}

/// Passes time without sleeping.
pub(crate) fn pass(time: Duration) {
    let (_sender, never) = mpsc::channel::<()>();
    assert!(never.recv_timeout(time).is_err());
}
