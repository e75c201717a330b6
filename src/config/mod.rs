//! Configuration: TOML to a checked [`Config`]. All problems of all files are reported at once, each with its place and its
//! remedy. Only importer of `toml`. Not here: compiling it (`snapshot`), or publishing it (`control`).
//!
//! A file goes through `files` (read, parse), `check` (each value against [`schema`]), and `listener`, `route`, `cluster`
//! (rules between values, and the plain data from which a snapshot is built).

mod address;
mod admin;
mod bounds;
mod budget;
mod check;
mod claim;
mod cluster_tables;
mod cluster;
mod preference;
mod condition;
mod condition_tables;
mod confined;
mod default_file;
mod field;
mod files;
mod foreign;
mod health;
mod hedge;
mod host;
mod json_schema;
mod layer_tables;
mod layers;
mod listener;
mod listener_tables;
mod loader;
mod log;
mod log_tables;
mod loops;
mod metrics;
mod names;
mod nearest;
mod network;
mod notes;
mod external;
mod page;
mod path;
mod source_map;
mod reference;
mod report;
mod resilience_tables;
mod retry;
mod root;
mod route;
mod schema;
mod section;
mod socket;
mod status;
mod file_stamps;
mod show;
mod tables;
mod target;
mod tcp;
mod tenant;
mod tls;
mod tls_notes;
mod trace;
mod trace_tables;
mod unit;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use admin::{AdminHosts, AdminSpec, admin_socket};
pub use default_file::document;
pub use field::is_token;
pub use file_stamps::{FileStamps, WatchSet};
pub use foreign::of_nginx;
pub use json_schema::json_schema;
pub use loader::Loader;
pub use log::EventSpec;
pub use metrics::{MetricsProfile, MetricsSpec};
pub use nearest::nearest;
pub use notes::Notes;
pub use report::{Problem, Problems, Report, Source, SourceSpan};
pub use show::show;
pub use status::range as statuses;
pub use tenant::{TenantReport, TenantState};
pub use unit::duration;

use source_map::SourceMap;

use crate::snapshot::{Ledger, Snapshot, SnapshotSpec};

/// The position of cairn in the network, which determines defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Faces the Internet: trusts no peer's forwarding fields, refuses ambiguous paths.
    #[default]
    Edge,
    /// Behind an edge: trusts peers in loopback and private ranges.
    Waypoint,
    /// Beside one process: defaults of a waypoint, but for the admin address.
    Sidecar,
}

/// How changed files are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Not at all.
    Off,
    /// By inotify(7).
    Notified,
    /// By polling.
    Poll,
}

/// A configuration without problems that reading can find. Compiling may find more.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers to start, at least 1.
    pub workers: usize,
    /// `role`
    pub role: Role,
    /// How changes of `files` are noticed.
    pub watch: Watch,
    /// What is said on stderr.
    pub events: EventSpec,
    /// Where the admin interface listens.
    pub admin: AdminSpec,
    /// What of metrics is shown.
    pub metrics: MetricsSpec,
    /// `drain.timeout`
    pub drain_timeout: Duration,
    /// `drain.grace`: how long everything is served on before that, when `/ready` says no longer that it is.
    pub drain_grace: Duration,
    /// Every file and directory that was read or looked for; empty if the configuration is no file.
    pub files: Vec<PathBuf>,
    /// Reports of tenants, in the order of `SnapshotSpec::tenants`.
    pub tenants: Vec<TenantReport>,
    /// What to serve.
    pub snapshot: SnapshotSpec,
    sources: Vec<Source>,
    /// How many of `sources` are the operator's own. Those of tenants follow.
    root_sources: usize,
    source_map: SourceMap,
}

/// Reads a file, or a directory with `cairn.toml` and `conf.d/*.toml`, and the files of all tenants.
///
/// # Errors
/// All problems, those of tenants' files included.
pub fn load(path: &Path) -> Result<Config, Report> {
    let mut file_stamps = FileStamps::default();
    loader::strict(files::read(path, &mut file_stamps)?, file_stamps)
}

/// Reads `text`; `name` stands for the file in reports.
///
/// # Errors
/// All problems.
pub fn parse(name: &str, text: &str) -> Result<Config, Report> {
    loader::strict(vec![Source::new(name, text)], FileStamps::default())
}

/// Reads `file` as the file of the tenant `name` of the configuration at `path`, without other tenants' files.
/// None: there is no such tenant.
///
/// # Errors
/// All problems of the operator's own files.
pub fn check_tenant(path: &Path, name: &str, file: &Path) -> Result<Option<TenantReport>, Report> {
    loader::one_tenant(files::read(path, &mut FileStamps::default())?, name, file)
}

/// The configuration of `cairn run` without `-c`: a route for each kind of action, in front of two demo origins.
///
/// # Errors
/// None while `conf/demo.toml` is valid, which a test sees to.
pub fn demo(origins: [SocketAddr; 2]) -> Result<Config, Report> {
    let [hello, echo] = origins.map(|origin| origin.to_string());
    parse("demo.toml", &DEMO.replace(DEMO_HELLO, &hello).replace(DEMO_ECHO, &echo))
}

const DEMO: &str = include_str!("../../conf/demo.toml");
const DEMO_HELLO: &str = "127.0.0.1:9001";
const DEMO_ECHO: &str = "127.0.0.1:9002";

impl Config {
    /// Whether both configure the same, wherever their files are.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let drain = |it: &Self| (it.drain_timeout, it.drain_grace);
        let key = |it: &Self| (it.workers, it.role, it.watch, it.events, it.admin.clone(), drain(it), it.metrics);
        key(self) == key(other) && self.snapshot == other.snapshot
    }

    /// `file:line` of the route at `position`; empty if there is none.
    #[must_use]
    pub fn route_place(&self, position: usize) -> String {
        self.source_map.header(position).map(|span| report::line(&self.sources, span)).unwrap_or_default()
    }

    /// `file:line` of the listener at `position`; empty if there is none.
    #[must_use]
    pub fn listener_place(&self, position: usize) -> String {
        self.source_map.listener_header(position).map(|span| report::line(&self.sources, span)).unwrap_or_default()
    }

    /// `file:line` of the cluster at `position`; empty if there is none.
    #[must_use]
    pub fn cluster_place(&self, position: usize) -> String {
        self.source_map.cluster_header(position).map(|span| report::line(&self.sources, span)).unwrap_or_default()
    }

    /// `value` as it may be printed: if it comes from a reference (`${NAME}`, `@file`), the reference.
    #[must_use]
    pub fn shown<'a>(&'a self, value: &'a str) -> &'a str {
        self.source_map.shown(value)
    }

    /// Compiles the configuration into a snapshot.
    ///
    /// # Errors
    /// Problems that only compiling finds, such as two routes with the same conditions.
    pub fn compile(&self, version: u64, ledger: &mut Ledger) -> Result<Snapshot, Report> {
        Snapshot::build(version, self.snapshot.clone(), ledger).map_err(|errors| {
            let mut problems = Problems::default();
            self.source_map.report(&errors, &SourceMap::default(), &mut problems);
            Report::new(&self.sources, problems)
        })
    }
}

#[cfg(test)]
mod tests;
