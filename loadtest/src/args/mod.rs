//! The command line. Not here: what a verb does, or whether its target exists.

mod compare;
mod find;
mod floor;
mod origin;
mod run;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use compare::{CompareArguments, Matrix};
pub(crate) use find::FindArguments;
pub(crate) use floor::FloorArguments;
pub(crate) use origin::{FIELD_BYTES, OriginArguments};
pub(crate) use run::{LoadArguments, RunArguments, TlsArguments};

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
    Run(Box<RunArguments>),
    /// Find the highest rate that a target holds, and its latencies at 30, 50, 70 and 90 % of that
    Find(Box<FindArguments>),
    /// Answer every request from memory
    Origin(OriginArguments),
    /// Pass bytes on to an origin as they are, on the ring that cairn uses: what a proxy costs at least
    Floor(FloorArguments),
    /// Run cairn and its installed peers side by side and report what an exchange costs each
    Compare(CompareArguments),
}

/// How many threads, and where.
#[derive(Clone, Debug, Args)]
pub(crate) struct ThreadArguments {
    /// Threads; by default one for each CPU used
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// CPUs to pin them to, in turn; by default all that the process may use
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
}

/// A SHA-256 value.
pub(crate) type Sha256 = [u8; 32];

/// 64 hexadecimal digits.
pub(crate) fn digest(text: &str) -> Result<Sha256, String> {
    let wrong = || "write the 64 hexadecimal digits that sha256sum prints".to_owned();
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64).ok_or_else(wrong)
}

/// Most bytes of a body that is kept in memory: 1 GiB.
pub(crate) const BODY_BYTES_MAX: u64 = 1 << 30;

/// Bytes of a body that is kept in memory.
fn body_size(text: &str) -> Result<u64, String> {
    Some(size(text)?).filter(|size| *size <= BODY_BYTES_MAX).ok_or_else(|| "at most 1GiB".into())
}

/// A number of bytes such as `4096`, `64KiB` or `1MiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = ["", "KiB", "MiB", "GiB"].iter().position(|name| *name == unit);
    let size = shift.and_then(|steps| number.parse::<u64>().ok()?.checked_mul(1 << (10 * steps)));
    size.ok_or_else(|| "write bytes as 4096, 64KiB or 1MiB".into())
}

/// A part of a whole, from 0 to 1.
fn part(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|part| (0.0..=1.0).contains(part)).ok_or_else(|| "write a number from 0 to 1".into())
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
    fn sizes_may_have_a_unit_and_hashes_64_digits() {
        assert_eq!(["0", "64KiB", "1MiB", "1GiB"].map(size), [0, 1 << 16, 1 << 20, 1 << 30].map(Ok));
        for text in ["", "KiB", "1kb", "-1", "99999999999999999999", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(digest(&"0f".repeat(32)), Ok([15; 32]));
        for text in ["", "0f", &"0g".repeat(32), &"0".repeat(63), &"0".repeat(66)] {
            assert!(digest(text).is_err(), "{text}");
        }
        assert!(body_size("2GiB").is_err());
    }

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
