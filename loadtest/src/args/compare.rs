//! What `compare` takes. Not here: what is installed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use crate::compare;

/// What `compare` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Needs cairn beside this program, on PATH or by --cairn. Peers that are not installed are named and left \
    out."
)]
pub(crate) struct CompareArguments {
    /// Scenarios to run, in their order; by default all
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = PossibleValuesParser::new(compare::scenario_names()))]
    pub(crate) scenario: Vec<String>,
    /// Run a matrix instead, with two workers each: api-gateway is {0 bytes, 16 KiB} × {1, 16, 512 connections} × {no limit, 1,000
    /// requests a second}
    #[arg(long, value_name = "NAME", conflicts_with = "scenario")]
    pub(crate) matrix: Option<Matrix>,
    /// How often each proxy is measured, in turn: A B C A B C
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeat: u32,
    /// Length of a measurement
    #[arg(long, value_name = "S", default_value = "3", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// CPUs to use: the first carries the proxies (of a matrix, the first two), the others load and origin; by default all that the process may use
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
    /// cairn's binary
    #[arg(long, value_name = "PATH")]
    pub(crate) cairn: Option<PathBuf>,
    /// nginx's binary
    #[arg(long, value_name = "PATH")]
    pub(crate) nginx: Option<PathBuf>,
    /// HAProxy's binary
    #[arg(long, value_name = "PATH")]
    pub(crate) haproxy: Option<PathBuf>,
    /// Envoy's binary
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also write them as a page with charts
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Also write all of them to FOLDER/MACHINE/DATE
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = "loadtest/record")]
    pub(crate) record: Option<PathBuf>,
    /// Name of this machine in the record; by default from the model and number of its CPUs
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,
}

/// The matrices that there are.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Matrix {
    ApiGateway,
}

/// Seconds, whole or not.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("write seconds from 0.1 to 3600".into()),
    }
}
