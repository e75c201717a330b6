//! The scenarios that are run against every proxy. Not here: running them.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::tls::{Handshakes, KEY, authority};
use crate::run::{filler, grpc_message, grpc_message_bytes};

/// Size of the origin's usual body.
pub(super) const SMALL_BYTES: u64 = 64;

/// Connections of the scenario that has idle ones.
pub(super) const IDLE: usize = 1000;

/// Requests whose answers are checked to the last byte before a proxy is measured.
const CHECK_REQUESTS: u32 = 128;

/// One scenario.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    /// Arguments of `cairn-load run` besides URL, rate and duration.
    pub(super) load: &'static [&'static str],
    /// Bytes of the answer's body.
    pub(super) length: u64,
    /// Bytes of the request's body.
    pub(super) upload: u64,
    /// Connections that are held open and idle during the load.
    pub(super) idle: usize,
    /// Open loop at this share of the best peer's peak; None: closed loop.
    pub(super) share: Option<f64>,
    /// Open loop at this rate.
    pub(super) rate: Option<f64>,
    /// Handshakes of clients, over TLS; None: without TLS.
    pub(super) tls: Option<Handshakes>,
    /// The proxies speak TLS to the origin.
    pub(super) origin_tls: bool,
    /// Clients speak HTTP/2, as `load` has to say, too.
    pub(super) http2: bool,
    /// The proxies speak HTTP/2 to the origin, with prior knowledge.
    pub(super) origin_http2: bool,
    /// Requests are calls of gRPC with a message of [`SMALL_BYTES`], which the origin echoes.
    pub(super) grpc: bool,
    /// Arguments of a load beside the one that is measured, on the same CPUs; None: nothing else runs.
    pub(super) beside: Option<&'static [&'static str]>,
}

/// Defaults of a scenario.
pub(super) const PLAIN: Scenario = Scenario {
    name: "small",
    title: "GET of 64 bytes, 64 keep-alive connections",
    path: "/",
    load: &["-c", "64"],
    length: SMALL_BYTES,
    upload: 0,
    idle: 0,
    share: None,
    rate: None,
    tls: None,
    origin_tls: false,
    http2: false,
    origin_http2: false,
    grpc: false,
    beside: None,
};

/// Defaults of an open loop.
const OPEN: Scenario = Scenario { load: &["-c", "256", "--poisson"], ..PLAIN };

/// Load of clients that speak HTTP/2.
const STREAMS: &[&str] = &["-c", "16", "--http2", "--streams", "8"];

/// Defaults of a scenario whose clients speak HTTP/2 over TLS.
const HTTP2: Scenario = Scenario {
    name: "h2-small",
    title: "GET of 64 bytes over TLS, 16 connections of HTTP/2 with 8 streams each",
    load: STREAMS,
    tls: Some(Handshakes::Once),
    http2: true,
    ..PLAIN
};

/// All scenarios, in the order of their runs.
pub(super) const ALL: [Scenario; 26] = [
    PLAIN,
    Scenario { name: "64k", title: "GET of 64 KiB, 64 connections", path: "/size/65536", length: 64 << 10, ..PLAIN },
    Scenario { name: "1m", title: "GET of 1 MiB, 64 connections", path: "/size/1048576", length: 1 << 20, ..PLAIN },
    Scenario { name: "upload-64k", title: "POST of 64 KiB, 64 connections", upload: 64 << 10, ..PLAIN },
    Scenario { name: "upload-1m", title: "POST of 1 MiB, 64 connections", upload: 1 << 20, ..PLAIN },
    Scenario {
        name: "close",
        title: "GET of 64 bytes, a connection for each request, 64 at a time",
        load: &["-c", "64", "--close"],
        ..PLAIN
    },
    Scenario {
        name: "pipelined",
        title: "GET of 64 bytes, 64 connections, 8 requests under way on each",
        load: &["-c", "64", "--pipeline", "8"],
        ..PLAIN
    },
    Scenario { name: "idle", title: "GET of 64 bytes, 64 connections, 1,000 more that are idle", idle: IDLE, ..PLAIN },
    Scenario {
        name: "tls-small",
        title: "GET of 64 bytes over TLS, 64 keep-alive connections",
        tls: Some(Handshakes::Once),
        ..PLAIN
    },
    Scenario {
        name: "tls-1m",
        title: "GET of 1 MiB over TLS, 64 connections",
        path: "/size/1048576",
        length: 1 << 20,
        tls: Some(Handshakes::Once),
        ..PLAIN
    },
    Scenario {
        name: "tls-handshake",
        title: "a full TLS handshake and a GET of 64 bytes on each connection, 64 at a time",
        load: &["-c", "64", "--close"],
        tls: Some(Handshakes::Full),
        ..PLAIN
    },
    Scenario {
        name: "tls-resumed",
        title: "a resumed TLS session and a GET of 64 bytes on each connection, 64 at a time",
        load: &["-c", "64", "--close", "--resume"],
        tls: Some(Handshakes::Resumed),
        ..PLAIN
    },
    Scenario {
        name: "tls-beside",
        title: "GET of 64 bytes over TLS, 64 keep-alive connections, beside 64 clients that shake hands for each request",
        tls: Some(Handshakes::Once),
        beside: Some(&["-c", "64", "--close"]),
        ..PLAIN
    },
    Scenario {
        name: "tls-origin-small",
        title: "GET of 64 bytes, 64 keep-alive connections, over TLS to the origin",
        origin_tls: true,
        ..PLAIN
    },
    Scenario {
        name: "tls-origin-1m",
        title: "GET of 1 MiB, 64 connections, over TLS to the origin",
        path: "/size/1048576",
        length: 1 << 20,
        origin_tls: true,
        ..PLAIN
    },
    Scenario {
        name: "tls-both-small",
        title: "GET of 64 bytes over TLS, 64 keep-alive connections, and over TLS to the origin",
        tls: Some(Handshakes::Once),
        origin_tls: true,
        ..PLAIN
    },
    HTTP2,
    Scenario {
        name: "h2-1m",
        title: "GET of 1 MiB over TLS, 16 connections of HTTP/2 with 8 streams each",
        path: "/size/1048576",
        length: 1 << 20,
        ..HTTP2
    },
    Scenario {
        name: "h2-to-h2",
        title: "GET of 64 bytes over TLS, 16 connections of HTTP/2 with 8 streams each, HTTP/2 to the origin",
        origin_http2: true,
        ..HTTP2
    },
    Scenario {
        name: "h1-to-h2",
        title: "GET of 64 bytes, 64 keep-alive connections of HTTP/1.1, HTTP/2 to the origin",
        origin_http2: true,
        ..PLAIN
    },
    Scenario {
        name: "grpc-unary",
        title: "unary calls with a message of 64 bytes, which is sent back, 16 connections with 8 streams each, in the clear",
        path: "/echo.Echo/Unary",
        length: grpc_message_bytes(SMALL_BYTES),
        upload: SMALL_BYTES,
        load: STREAMS,
        http2: true,
        origin_http2: true,
        grpc: true,
        ..PLAIN
    },
    Scenario {
        name: "load-10",
        title: "GET of 64 bytes, open loop at 10 % of the best peer's peak",
        share: Some(0.1),
        ..OPEN
    },
    Scenario {
        name: "load-30",
        title: "GET of 64 bytes, open loop at 30 % of the best peer's peak",
        share: Some(0.3),
        ..OPEN
    },
    Scenario {
        name: "load-50",
        title: "GET of 64 bytes, open loop at 50 % of the best peer's peak",
        share: Some(0.5),
        ..OPEN
    },
    Scenario {
        name: "load-70",
        title: "GET of 64 bytes, open loop at 70 % of the best peer's peak",
        share: Some(0.7),
        ..OPEN
    },
    Scenario {
        name: "load-90",
        title: "GET of 64 bytes, open loop at 90 % of the best peer's peak",
        share: Some(0.9),
        ..OPEN
    },
];

/// The scenario that finds the peak of a proxy.
pub(super) fn peak() -> &'static Scenario {
    &ALL[0]
}

impl Scenario {
    /// Arguments of `cairn-load run` against a proxy at `address` that works in `folder`, without how long and how fast.
    pub(super) fn arguments(&self, address: &str, folder: &Path) -> Vec<String> {
        let mut all = self.request(self.path, address, folder);
        all.extend(self.load.iter().map(|argument| (*argument).to_owned()));
        all.extend(["--expect-length".into(), self.length.to_string()]);
        all
    }

    /// Arguments of `cairn-load run` for the load beside the one that is measured, without how long.
    pub(super) fn beside(&self, address: &str, folder: &Path) -> Option<Vec<String>> {
        let mut all = self.request(self.path, address, folder);
        all.extend(self.beside?.iter().map(|argument| (*argument).to_owned()));
        Some(all)
    }

    /// Arguments of a short run that checks every byte, of uploads too: the origin answers what it received.
    pub(super) fn check(&self, address: &str, folder: &Path) -> Vec<String> {
        let (path, body) = match self.upload {
            upload if self.grpc => (self.path, grpc_message(&filler(upload))),
            0 => (self.path, filler(self.length)),
            upload => ("/receipt", format!("{upload} {}\n", hex(&Sha256::digest(filler(upload)))).into_bytes()),
        };
        let mut all = self.request(path, address, folder);
        let closed = self.load.iter().filter(|argument| **argument != "--poisson");
        all.extend(closed.map(|argument| (*argument).to_owned()));
        all.extend(["-n".into(), CHECK_REQUESTS.to_string()]);
        // All of them may be under way at once, and hashing takes its time.
        all.extend(["--timeout".into(), "60s".into()]);
        all.extend(["--expect-sha256".into(), hex(&Sha256::digest(body))]);
        all
    }

    /// Whether passing bytes on as they are does what a proxy would do: connections are kept, and both sides speak HTTP/1.1 in the clear.
    pub(super) fn has_floor(&self) -> bool {
        let is_plain = self.tls.is_none() && !self.origin_tls && !self.http2 && !self.origin_http2;
        is_plain && !self.load.contains(&"--close")
    }

    /// Description of requests, connections and key, on one line.
    pub(super) fn describe(&self) -> String {
        let key = if self.tls.is_some() || self.origin_tls { format!(", key {KEY}") } else { String::new() };
        format!("{}{key}", self.title)
    }

    fn request(&self, path: &str, address: &str, folder: &Path) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut all = vec![format!("{scheme}://{address}{path}"), "--expect-status".into(), "200".into()];
        if self.tls.is_some() {
            all.extend(["--ca".into(), authority(folder).to_string_lossy().into_owned()]);
        }
        if self.upload > 0 {
            all.extend(["--body-size".into(), self.upload.to_string()]);
        }
        if self.grpc {
            all.push("--grpc".into());
        }
        all
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Verb};
    use crate::compare::matrix;
    use clap::Parser;

    #[test]
    fn every_scenario_is_a_command_line() {
        for scenario in ALL.iter().chain(&matrix::API_GATEWAY) {
            let folder = Path::new("/a folder");
            let measured = [scenario.arguments("127.0.0.1:1", folder), scenario.check("127.0.0.1:1", folder)];
            for arguments in measured.into_iter().chain(scenario.beside("127.0.0.1:1", folder)) {
                // What the caller adds.
                let rate = ["--rate".to_owned(), "5".to_owned()];
                let open = arguments.contains(&"--poisson".to_owned());
                let line = ["cairn-load".to_owned(), "run".to_owned()].into_iter().chain(arguments);
                let read = Arguments::try_parse_from(line.chain(rate.into_iter().filter(|_| open)));
                assert!(matches!(read.map(|read| read.verb), Ok(Verb::Run(_))), "{}", scenario.name);
            }
        }
    }
}
