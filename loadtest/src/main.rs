//! The load generator and the reference origin: verbs and exit codes (0 done, 1 could not or wrong answers, 2 wrong usage), nothing else.

mod args;
mod compare;
mod crew;
mod find;
mod floor;
mod frames;
mod histogram;
mod machine;
mod origin;
mod page;
mod random;
mod report;
mod run;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Verb};

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Run(arguments) => match run::run(&arguments) {
            Ok(judged) => return finish(&judged.report, judged.complaint.as_deref()),
            Err(error) => {
                // The problems of a scenario go first, as those of a configuration do.
                let _ = std::io::stderr().write_all(error.details().unwrap_or_default().as_bytes());
                Err(error.to_string())
            }
        },
        Verb::Find(arguments) => find::find(&arguments).map_err(|error| {
            let _ = std::io::stderr().write_all(error.details().unwrap_or_default().as_bytes());
            error.to_string()
        }),
        Verb::Origin(arguments) => origin::origin(&arguments).map_err(|error| error.to_string()),
        Verb::Floor(arguments) => floor::floor(&arguments).map_err(|error| error.to_string()),
        Verb::Compare(arguments) => match compare::compare(&arguments) {
            Ok(compared) => return finish(&compared.table, compared.failure.as_deref()),
            Err(error) => Err(error.to_string()),
        },
    };
    match done {
        Ok(text) => finish(&text, None),
        Err(error) => finish("", Some(&error)),
    }
}

/// Prints the report, then the failure. A reader that wants no more of the report, as `head`, is no failure.
fn finish(text: &str, complaint: Option<&str>) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let lost = match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Some(format!("cannot write to standard output: {error}"))
        }
        _ => None,
    };
    let complaints = [lost.as_deref(), complaint];
    for complaint in complaints.iter().flatten() {
        let _ = writeln!(std::io::stderr(), "cairn-load: {complaint}");
    }
    if complaints == [None, None] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
