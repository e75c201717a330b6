//! The command line. Not here: what a verb does, or whether its target exists.

use std::path::PathBuf;
use std::time::Duration;

use cairn::id::Address;
use clap::{Args, Parser, Subcommand};

/// Load generator and reference origin of cairn.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Send requests and report how they were answered
    Run(RunArguments),
    /// Answer every request from memory; the path may say how: /size/BYTES, /delay/MS, /status/CODE
    Origin(OriginArguments),
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// http://HOST[:PORT]/PATH, all with the same host and port; `URL@3` is asked for three times as often
    #[arg(value_name = "URL", required = true)]
    pub(crate) urls: Vec<String>,
    /// Connections, over all threads
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,
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
    /// Send so long first, without counting
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Close the connection after each request
    #[arg(long)]
    pub(crate) close: bool,
    /// Requests that a connection may have unanswered
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "close", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) pipeline: u16,
    /// Give an unanswered request up after this
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Method; GET, or POST if there is a body
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Field to send with each request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Body to send
    #[arg(short, long, value_name = "TEXT", conflicts_with = "body_file")]
    pub(crate) body: Option<String>,
    /// File with the body to send
    #[arg(long, value_name = "PATH")]
    pub(crate) body_file: Option<PathBuf>,
    /// The only status that is no error; by default any below 400
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) expect_status: Option<u16>,
    /// Bytes that each response body must have
    #[arg(long, value_name = "BYTES")]
    pub(crate) expect_length: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: ThreadArguments,
}

/// What `origin` takes.
#[derive(Debug, Args)]
pub(crate) struct OriginArguments {
    /// IP:PORT or unix:/path; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) listen: Address,
    /// Bytes of a response body
    #[arg(long, value_name = "BYTES", default_value_t = 2)]
    pub(crate) size: u64,
    /// Send bodies in chunks instead of with Content-Length
    #[arg(long)]
    pub(crate) chunked: bool,
    /// Wait before each answer
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = duration)]
    pub(crate) delay: Duration,
    /// Status of every answer
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) status: u16,
    #[command(flatten)]
    pub(crate) threads: ThreadArguments,
}

/// How many threads, and where.
#[derive(Debug, Args)]
pub(crate) struct ThreadArguments {
    /// Threads; by default one for each CPU used
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// CPUs to pin them to, in turn; by default all that the process may use
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
}

/// Requests a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err("write a number from 0.001 to 1000000000".into()),
    }
}

/// A time such as `10s`, `500ms`, `20us` or `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and its unit: us, ms, s, m or h".into()),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let read = |text| duration(text).map(|time| time.as_micros());
        assert_eq!(read("20us"), Ok(20));
        assert_eq!(read("1.5ms"), Ok(1500));
        assert_eq!(read("2m"), Ok(120_000_000));
        for text in ["10", "", "s", "1.2.3s", "-1s", "10 s", "1d"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
