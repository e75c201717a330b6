//! The load generator and the reference origin: verbs and exit codes (0 done, 1 could not, 2 wrong usage), nothing else.

mod args;
mod crew;
mod histogram;
mod origin;
mod report;
mod run;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Verb};

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Run(arguments) => run::run(&arguments).map_err(|error| error.to_string()),
        Verb::Origin(arguments) => origin::origin(&arguments).map_err(|error| error.to_string()),
    };
    match done {
        Ok(text) => {
            // A reader that is gone is no error of ours.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cairn-load: {error}");
            ExitCode::FAILURE
        }
    }
}
