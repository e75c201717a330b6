//! What `floor` takes. Not here: what it does.

use cairn::id::Address;
use clap::Args;

use super::ThreadArguments;

/// What `floor` takes.
#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// IP:PORT or unix:/path; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub(crate) listen: Address,
    /// Where bytes are passed on to: IP:PORT or unix:/path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) origin: Address,
    #[command(flatten)]
    pub(crate) threads: ThreadArguments,
}
