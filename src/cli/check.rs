//! `cairn check`. Not here: the checks (`config`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cairn::config::{self, Notes, Report};
use cairn::snapshot::{Ledger, SnapshotSpec};

use super::{fail, print, usage};

/// What `check` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file, or a directory with cairn.toml and conf.d/*.toml
    #[arg(short, long, value_name = "PATH")]
    config: PathBuf,
    /// Validate FILE alone, as the file of the tenant NAME
    #[arg(long, num_args = 2, value_names = ["NAME", "FILE"])]
    tenant: Option<Vec<String>>,
    /// Exit 1 for warnings, too
    #[arg(long, conflicts_with = "tenant")]
    strict: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match arguments.tenant.as_deref() {
        Some([name, file]) => tenant(&arguments.config, name, Path::new(file)),
        _ => check(&arguments.config, arguments.strict),
    }
}

fn tenant(root: &Path, name: &str, file: &Path) -> ExitCode {
    let found = match config::check_tenant(root, name, file) {
        Ok(Some(found)) => found,
        Ok(None) => usage(&format!("there is no tenant named {name}")),
        Err(report) => return invalid(root, &report),
    };
    match &found.problems {
        Some(report) => invalid(file, report),
        None => {
            let routes = count(found.routes, "route");
            let clusters = count(found.clusters, "cluster");
            let text = format!("{} is valid for tenant {name}: {routes}, {clusters}\n", file.display());
            print(&text, ExitCode::SUCCESS)
        }
    }
}

/// Loads and compiles the configuration. `strict`: warnings are failures.
pub(super) fn check(path: &Path, strict: bool) -> ExitCode {
    let loaded = config::load(path).and_then(|config| {
        let snapshot = config.compile(1, &mut Ledger::default())?;
        Ok((counts(&config.snapshot), config.notes(&snapshot)))
    });
    match loaded {
        Ok((counts, Notes { text, warnings })) => {
            let counts = match warnings {
                0 => counts,
                warnings => format!("{counts}, {}", count(warnings, "warning")),
            };
            let code = if strict && warnings > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            print(&format!("configuration {} is valid: {counts}\n{text}", path.display()), code)
        }
        Err(report) => invalid(path, &report),
    }
}

/// Prints the report and how many errors it holds.
pub(super) fn invalid(path: &Path, report: &Report) -> ExitCode {
    fail(&verdict(path, report))
}

/// The report and how many errors it holds.
pub(super) fn verdict(path: &Path, report: &Report) -> String {
    format!("{report}configuration {} is invalid: {}\n", path.display(), count(report.errors(), "error"))
}

fn counts(spec: &SnapshotSpec) -> String {
    let listeners = count(spec.listeners.len(), "listener");
    let routes = count(spec.routes.len(), "route");
    let clusters = count(spec.clusters.len(), "cluster");
    match spec.tenants.len() {
        0 => format!("{listeners}, {routes}, {clusters}"),
        tenants => format!("{listeners}, {routes}, {clusters}, {}", count(tenants, "tenant")),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
