//! What `origin` takes. Not here: what it answers.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use cairn::id::Address;
use clap::Args;

use super::{ThreadArguments, duration, part, size};

/// Bytes of the longest field that answers may get.
pub(crate) const FIELD_BYTES: usize = 128;

/// What `origin` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "The path of a request may say how it is answered: /size/BYTES, /delay/MS, /drip/MS, /status/CODE, also several \
    of them; /receipt answers length and SHA-256 of the body that came; /healthz says 503 after POST /healthz/down, until POST \
    /healthz/up. WebSockets are echoed, and so are messages of gRPC over HTTP/2, which is spoken on the same port."
)]
pub(crate) struct OriginArguments {
    /// IP:PORT or unix:/path; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) listen: Address,
    /// Bytes of a response body, or the range for random ones
    #[arg(long, value_name = "SIZE|FROM-TO", default_value = "2", value_parser = sizes)]
    pub(crate) size: RangeInclusive<u64>,
    /// Send bodies in chunks instead of with Content-Length
    #[arg(long)]
    pub(crate) chunked: bool,
    /// Wait before each answer
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = duration)]
    pub(crate) delay: Duration,
    /// Wait exponentially distributed times around that instead
    #[arg(long, requires = "delay")]
    pub(crate) exponential: bool,
    /// Send bodies in pieces of a kilobyte, one each so often
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) drip: Option<Duration>,
    /// Part of the requests that is answered 503, from 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    pub(crate) errors: f64,
    /// Field that each answer gets, to tell origins apart
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    pub(crate) header: Option<String>,
    /// Speak TLS, with the certificates and the key of this file, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tls: Option<PathBuf>,
    /// Status of every answer
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) status: u16,
    #[command(flatten)]
    pub(crate) threads: ThreadArguments,
}

/// `64KiB`, or `1KiB-64KiB`.
fn sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let range = size(from)?..=size(to)?;
    if range.is_empty() { Err("the range is empty".into()) } else { Ok(range) }
}

/// One short line, which goes into a head with the rest.
fn field(text: &str) -> Result<String, String> {
    let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let plain =
        text.split_once(": ").is_some_and(|(name, value)| is_plain(name) && !name.contains(' ') && is_plain(value));
    if plain && text.len() <= FIELD_BYTES {
        Ok(text.into())
    } else {
        Err(format!("write 'Name: value', at most {FIELD_BYTES} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_or_a_range() {
        assert_eq!((sizes("5"), sizes("1KiB-2KiB")), (Ok(5..=5), Ok(1024..=2048)));
        for text in ["", "5-", "6-5", "a-b"] {
            assert!(sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_are_plain_and_short() {
        assert!(field("X-Origin: a").is_ok());
        for text in ["", "X", "X:a", ": a", "X y: a", "X: a\r\nY: b", &format!("X: {}", "a".repeat(FIELD_BYTES))] {
            assert!(field(text).is_err(), "{text}");
        }
    }
}
