//! What `run` takes, and what all loads do. Not here: whether it can be done.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Sha256, ThreadArguments, body_size, digest, duration, part, rate, size};

/// What is sent to whom, and how it is judged.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArguments {
    /// http://HOST[:PORT]/PATH or https://…; `URL@3` is asked for three times as often
    #[arg(value_name = "URL", required_unless_present = "scenario")]
    pub(crate) urls: Vec<String>,
    /// File that says what to send and how fast: a mix of requests, and steps or ramps of the rate. A URL, if there is one,
    /// completes its requests that have only a path; what the command line says wins
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "content", "expect_status", "expect_length", "expect_sha256"])]
    pub(crate) scenario: Option<PathBuf>,
    /// Connections to each host, over all threads; also the most that are busy at a time [default: 64]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: Option<u32>,
    /// Close the connection after each request
    #[arg(long)]
    pub(crate) close: bool,
    /// Requests that a connection may have unanswered [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "close", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) pipeline: Option<u16>,
    /// Speak HTTP/2: chosen by ALPN with https://, with prior knowledge with http://
    #[arg(long, conflicts_with_all = ["pipeline", "close"])]
    pub(crate) http2: bool,
    /// Requests that a connection may have unanswered over HTTP/2, a stream each [default: 1]
    #[arg(long, value_name = "N", requires = "http2", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) streams: Option<u16>,
    /// Call a method of gRPC: the body is one message, and any grpc-status but 0 is an error
    #[arg(long, requires = "http2", conflicts_with_all = ["method", "scenario"])]
    pub(crate) grpc: bool,
    /// Give an unanswered request up after this [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Method; GET, or POST if there is a body
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Field to send with each request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Body to send
    #[arg(short, long, value_name = "TEXT", group = "content")]
    pub(crate) body: Option<String>,
    /// File with the body to send
    #[arg(long, value_name = "PATH", group = "content")]
    pub(crate) body_file: Option<PathBuf>,
    /// Send a body of so many bytes
    #[arg(long, value_name = "SIZE", group = "content", value_parser = body_size)]
    pub(crate) body_size: Option<u64>,
    /// The only status that is no error; by default any below 400
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) expect_status: Option<u16>,
    /// Bytes that each response body must have
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) expect_length: Option<u64>,
    /// SHA-256 that each response body must have, in hexadecimal
    #[arg(long, value_name = "HASH", value_parser = digest)]
    pub(crate) expect_sha256: Option<Sha256>,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
    #[command(flatten)]
    pub(crate) threads: ThreadArguments,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    /// Requests a second, sent when they are due however slow the answers are (open loop); without it, each connection
    /// sends its next request when the last is answered (closed loop)
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Random (exponential) instead of equal times between requests
    #[arg(long, requires = "rate")]
    pub(crate) poisson: bool,
    /// How long to send, after the warm-up; 10s if there is no -n either
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// How many requests to send, after the warm-up
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Send so long first, without counting [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) warmup: Option<Duration>,
    /// Exit with 1 if a smaller part of the requests than this is answered as expected; 0: never
    #[arg(long, value_name = "PART", default_value_t = 0.99, value_parser = part)]
    pub(crate) fail_below: f64,
    /// Also write the latencies of each second as a HdrHistogram log
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
    /// Also write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What https:// needs.
#[derive(Clone, Debug, Args)]
pub(crate) struct TlsArguments {
    /// File with the authorities (PEM) whose certificates are believed; by default those of the web
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, conflicts_with = "ca")]
    pub(crate) insecure: bool,
    /// Resume earlier sessions instead of a full handshake for each connection
    #[arg(long)]
    pub(crate) resume: bool,
}
