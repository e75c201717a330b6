//! `cairn check`. Not here: the checks (`config`).

use std::path::Path;
use std::process::ExitCode;

use cairn::config::{self, Report};
use cairn::snapshot::{Ledger, SnapshotSpec};

use super::{fail, print};

/// Loads and compiles the configuration.
pub(super) fn check(path: &Path) -> ExitCode {
    let loaded = config::load(path).and_then(|config| {
        let counts = counts(&config.snapshot);
        config.compile(1, &mut Ledger::default()).map(|_| counts)
    });
    match loaded {
        Ok(counts) => print(&format!("configuration {} is valid: {counts}\n", path.display()), ExitCode::SUCCESS),
        Err(report) => invalid(path, &report),
    }
}

/// Prints the report and how many errors it holds.
pub(super) fn invalid(path: &Path, report: &Report) -> ExitCode {
    fail(&format!("{report}configuration {} is invalid: {}\n", path.display(), count(report.errors(), "error")))
}

fn counts(spec: &SnapshotSpec) -> String {
    let listeners = count(spec.listeners.len(), "listener");
    format!("{listeners}, {}, {}", count(spec.routes.len(), "route"), count(spec.clusters.len(), "cluster"))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
