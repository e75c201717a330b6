//! What `find` takes. Not here: the search.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{LoadArguments, duration, part, rate};

/// What `find` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "A rate breaks if twice in a row p99, or errors and unsent requests together, are above their bound. Rates double \
    from --from until one breaks, or are halved until one holds; then the search halves the distance. A generator that is busy \
    itself is named in the report: give it CPUs of its own."
)]
pub(crate) struct FindArguments {
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    /// First rate, requests a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    pub(crate) from: f64,
    /// Highest rate to try
    #[arg(long, value_name = "N", default_value = "1000000000", value_parser = rate)]
    pub(crate) to: f64,
    /// Bound of p99; by default ten times that of the first rate that holds, at least 10ms
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) p99: Option<Duration>,
    /// Bound of the part of requests that fail or find no free connection
    #[arg(long, value_name = "PART", default_value_t = 0.01, value_parser = part)]
    pub(crate) errors: f64,
    /// Part of the rate to which it is found
    #[arg(long, value_name = "PART", default_value_t = 0.02, value_parser = precision)]
    pub(crate) precision: f64,
    /// Length of a step of the search
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(crate) step: Duration,
    /// Length of a measurement at 30, 50, 70 and 90 % of the highest rate
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) measure: Duration,
    /// How often each of them is measured, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeat: u32,
    /// Send so long before each, without counting
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Random (exponential) instead of equal times between requests
    #[arg(long)]
    pub(crate) poisson: bool,
    /// Also write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A part that is small but not nothing, so that the search ends.
fn precision(text: &str) -> Result<f64, String> {
    part(text).ok().filter(|part| (0.001..=0.5).contains(part)).ok_or_else(|| "write a number from 0.001 to 0.5".into())
}
