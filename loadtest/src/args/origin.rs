//! What `origin` takes. Not here: what it answers.

use std::time::Duration;

use cairn::id::Address;
use clap::Args;

use super::{ThreadArguments, duration};

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
