//! The command line. Not here: what a verb does, or whether its target exists.

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
    /// Answer every request from memory; the path may say how: /size/BYTES, /delay/MS, /status/CODE
    Origin(OriginArguments),
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
